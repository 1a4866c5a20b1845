"""The command line: finds the command, runs it, and returns the exit code. Results go to stdout, progress to stderr.

Each command is a module of this directory and calls the functions of the package.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence

from pyroberta.cli.exit_codes import OK, UsageError, code_of_error, code_of_stop, stoppable
from pyroberta.cli.options import as_typed
from pyroberta.cli.parser import build_parser
from pyroberta.cli.streams import Output, as_json, show_warning
from pyroberta.training.callbacks import Screen


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command, and returns the exit code, which `pyroberta --help` lists. Without a command it prints the
    help.
    """
    argv = sys.argv[1:] if argv is None else argv
    arguments = argparse.Namespace(command=None, exit_code=OK, argv=list(argv))
    output = contextlib.redirect_stdout(Output(sys.stdout or Screen(None)))
    with output, contextlib.redirect_stderr(Screen(sys.stderr)):
        try:
            with warnings.catch_warnings(), stoppable():
                warnings.showwarning = show_warning
                _run(arguments)
                sys.stdout.flush()
        except KeyboardInterrupt as stop:
            print("interrupted", file=sys.stderr)
            exec("")  # one that ends an exec, as dataclasses have it, has Python kill itself at its end, until the next
            return code_of_stop(stop)
        except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
            # Python flushes stdout once more when it ends, which must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (
            ValueError,
            TypeError,
            OSError,
            ArithmeticError,
            ImportError,
            MemoryError,
            RuntimeError,
            Warning,
        ) as error:
            _tell(error, getattr(arguments, "parser", None))
            return max(code_of_error(error), getattr(arguments.command, "LEAST_ERROR", OK))
    return int(arguments.exit_code)


def _run(arguments: argparse.Namespace) -> None:
    """Parses `arguments.argv` into `arguments`, runs the command, and prints its result where that is JSON."""
    _, unknown = build_parser().parse_known_args(arguments.argv, arguments)
    if unknown:
        arguments.parser.refuse(unknown)
    if arguments.command is None:
        arguments.parser.print_help()
        return
    result = arguments.command.run(arguments)
    if isinstance(result, Iterator):
        for record in result:
            if arguments.json:
                print(as_json(record, indent=None))
            sys.stdout.flush()
    elif arguments.json:
        print(as_json(result))


def _tell(error: Exception, parser: argparse.ArgumentParser | None) -> None:
    """Prints an error as the parser of the command does, and the usage only if the command line itself is wrong."""
    if parser and isinstance(error, UsageError):
        parser.print_usage(sys.stderr)
    program = parser.prog if parser else "pyroberta"
    print(f"{program}: error: {as_typed(str(error)) or type(error).__name__}", file=sys.stderr)
