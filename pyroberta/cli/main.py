"""The command line: finds the command, runs it, and returns the exit code. Results go to stdout, progress to stderr.

Each command is a module of this directory and calls the functions of the package.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn, Protocol, cast

from pyroberta.cli.exit_codes import EXIT_CODES, OK, code_of_error, code_of_stop, stoppable
from pyroberta.cli.options import as_typed
from pyroberta.cli.streams import Output, as_json, show_warning
from pyroberta.model.hints import did_you_mean
from pyroberta.training.callbacks import Screen

# In the order in which `pyroberta --help` lists them. The module of `fill-mask` is `fill_mask.py`.
COMMANDS = (
    "fit",
    "evaluate",
    "fill-mask",
    "score",
    "train-tokenizer",
    "presets",
    "upload",
    "convert",
    "trace",
    "compare",
    "conformance",
    "doctor",
    "demo",
)


class Command(Protocol):
    """The contents of a command's module. It imports in functions what `pyroberta --help` does not need."""

    SUMMARY: str  # for the help; it begins in lower case and has no full stop

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the command's arguments to its parser. It has `--json` already."""

    def run(self, arguments: argparse.Namespace) -> Any:
        """Runs the command. Prints its result unless `arguments.json`; returns it in JSON's types.

        Sets `arguments.exit_code` if the command neither succeeded nor raised an error.
        """


def command_module(name: str) -> Command:
    """The module of a command.

    >>> command_module("fill-mask").SUMMARY
    'the likeliest words for every <mask>'
    """
    return cast(Command, import_module(f"pyroberta.cli.{name.replace('-', '_')}"))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code, as `pyroberta --help` lists them."""
    arguments, unknown = build_parser().parse_known_args(argv)
    if unknown:
        arguments.parser.refuse(unknown)
    arguments.exit_code = OK
    try:
        output = contextlib.redirect_stdout(Output(sys.stdout or Screen(None)))
        with output, contextlib.redirect_stderr(Screen(sys.stderr)), warnings.catch_warnings(), stoppable():
            warnings.showwarning = show_warning
            result = arguments.command.run(arguments)
            if arguments.json:
                print(as_json(result))
            sys.stdout.flush()
    except KeyboardInterrupt as stop:
        print("interrupted", file=Screen(sys.stderr))
        return code_of_stop(stop)
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        # Python flushes stdout once more when it ends, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (ValueError, TypeError, OSError, ArithmeticError, ImportError, MemoryError, RuntimeError) as error:
        print(f"pyroberta: {as_typed(str(error)) or type(error).__name__}", file=Screen(sys.stderr))
        return max(code_of_error(error), getattr(arguments.command, "LEAST_ERROR", OK))
    return int(arguments.exit_code)


def build_parser() -> argparse.ArgumentParser:
    """The parser with all its commands."""
    from pyroberta import __version__

    parser = _Parser(
        prog="pyroberta",
        description="RoBERTa's masked language model: fit it on your texts, fill masks, score sentences.",
        epilog="`pyroberta COMMAND --help` tells more. Texts are read one a line; `-` is standard input. " + EXIT_CODES,
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pyroberta {__version__}")
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = command_module(name)
        summary = command.SUMMARY
        description = summary[0].upper() + summary[1:] + "."
        its_parser = parsers.add_parser(name, help=summary, description=description, formatter_class=_HelpFormatter)
        its_parser.set_defaults(command=command, parser=its_parser)
        its_parser.add_argument("--json", action="store_true", help="print the result as JSON")
        command.add_arguments(its_parser)
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser whose error for an unknown option suggests a known one."""

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Exits with 2 for unknown arguments."""
        first = unknown[0]
        if not first.startswith("-"):
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        options = {option.lstrip("-"): option for action in self._actions for option in action.option_strings}
        given = first.partition("=")[0]
        hint = did_you_mean(given.lstrip("-"), options)
        for name, option in options.items():
            hint = hint.replace(repr(name), option)
        self.error(f"unknown option {given}{hint}")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, but for empty ones, and options and their help on one line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.default == [] or action.required:
            return action.help
        return super()._get_help_string(action)
