"""The parser of the command line, which is made from the commands. Help, completion and the manual page are made from
it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from itertools import takewhile
from typing import Any, NoReturn, Protocol, cast

from pyroberta.cli.exit_codes import EXIT_CODES
from pyroberta.model.hints import did_you_mean

# In the order in which `pyroberta --help` lists them. The module of `fill-mask` is `fill_mask.py`.
COMMANDS = (
    "fit",
    "evaluate",
    "fill-mask",
    "score",
    "classify",
    "embed",
    "tokenize",
    "train-tokenizer",
    "presets",
    "inspect",
    "upload",
    "convert",
    "trace",
    "compare",
    "conformance",
    "doctor",
    "demo",
    "completion",
    "man",
)
# What other programs call a command -> what is typed here.
ELSEWHERE = {
    "predict": "pyroberta classify predict",
    "train": "pyroberta fit",
    "help": "pyroberta --help",
    "encode": "pyroberta embed",
}
DESCRIPTION = "RoBERTa's masked language model: fit it on your texts, fill masks, score sentences."
EXAMPLES = (
    'pyroberta fill-mask "We the people of the United <mask>."',
    "pyroberta fit texts.txt -o my_model --epochs 3 --validation 10%",
    "pyroberta evaluate held_out.txt --model my_model",
    "sort texts.txt | pyroberta score - --model my_model --json > scores.jsonl",
)
EPILOG = (
    "`pyroberta COMMAND --help` tells more. Texts are read one a line, or from a column of a table; `-` is standard "
    "input. " + EXIT_CODES
)


class Command(Protocol):
    """The contents of a command's module. Modules that `pyroberta --help` does not need are imported within
    functions.
    """

    SUMMARY: str  # for the help; it begins in lower case and has no full stop
    EXAMPLES: Sequence[str]  # lines to type, each of which begins with `pyroberta`

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds the command's arguments to its parser, which has `--json` already."""

    def run(self, arguments: argparse.Namespace) -> Any:
        """Runs the command. It prints the result unless `arguments.json` is True, and returns it in JSON's types.

        A command whose result has an entry for each text yields the entries: each becomes a line of JSON as soon as it
        is computed. The command sets `arguments.exit_code` if it neither succeeded nor raised an error.
        """


def command_module(name: str) -> Command:
    """Returns the module of a command.

    >>> command_module("fill-mask").SUMMARY
    'the most likely words for every <mask>'
    """
    return cast(Command, import_module(f"pyroberta.cli.{name.replace('-', '_')}"))


def build_parser() -> Parser:
    """Returns the parser with all its commands."""
    from pyroberta import __version__

    epilog = f"{EPILOG}\n\n{_examples_part(EXAMPLES)}"
    parser = Parser(prog="pyroberta", description=DESCRIPTION, epilog=epilog, formatter_class=HelpFormatter)
    parser.add_argument("--version", action="version", version=f"pyroberta {__version__}")
    parser.set_defaults(command=None, parser=parser, examples=list(EXAMPLES))
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name in COMMANDS:
        command = command_module(name)
        its_parser = add_parser(parsers, name, command.SUMMARY, command.EXAMPLES)
        its_parser.set_defaults(command=command)
        its_parser.add_argument("--json", action="store_true", help="print the result as JSON")
        command.add_arguments(its_parser)
    return parser


class Actions:
    """The actions of a command that has several, such as `conformance make`. Each action has its own parser and
    examples.

    Args:
        parser: the parser of the command.
        examples: the examples of the command. Each action shows its own ones.
    """

    def __init__(self, parser: argparse.ArgumentParser, examples: Sequence[str]) -> None:
        self._parsers = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
        self._prog, self._examples = parser.prog, examples

    def add(self, name: str, summary: str) -> argparse.ArgumentParser:
        """Adds an action, and returns its parser."""
        beginning = f"{self._prog} {name} "
        parser = add_parser(self._parsers, name, summary, [line for line in self._examples if beginning in line])
        parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print the result as JSON")
        return parser


def add_parser(
    parsers: argparse._SubParsersAction[Any], name: str, summary: str, examples: Sequence[str]
) -> argparse.ArgumentParser:
    """Adds the parser of a command or an action, with its summary and examples in the help."""
    parser: argparse.ArgumentParser = parsers.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=_examples_part(examples) if examples else None,
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(parser=parser, examples=list(examples))
    return parser


def _examples_part(examples: Sequence[str]) -> str:
    """The part of a help that shows examples, which begins with `examples:`."""
    return "\n".join(["examples:", *(f"  {line}" for line in examples)])


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Returns the parsers of a parser's commands or actions by name. The result is empty if it has none.

    >>> list(subparsers(subparsers(build_parser())["conformance"]))
    ['make', 'judge', 'run']
    """
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def every_parser(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yields a parser, those of its commands and those of their actions. Each comes before those within it."""
    yield parser
    for within in subparsers(parser).values():
        yield from every_parser(within)


def command_line(example: str) -> list[str]:
    """Returns the arguments of `pyroberta` in an example. The example may have a pipe before it, and a pipe or `>`
    after it.

    >>> command_line("cat texts.txt | pyroberta score - --json > scores.jsonl")
    ['score', '-', '--json']
    """
    import shlex

    words = shlex.split(example.removeprefix('eval "$(').removesuffix(')"'))
    words = words[words.index("pyroberta") + 1 :]
    ends = [i for i, word in enumerate(words) if word in ("|", ">", "<")]
    return words[: ends[0]] if ends else words


class _StoreOnce(argparse._StoreAction):
    """Stores the value of an option that takes one, and notes in `given` that the option is given."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if option is not None:
            if self.dest in namespace.given:
                first = getattr(namespace, self.dest)
                raise argparse.ArgumentError(self, f"is given twice, {first!r} and {values!r}: give it once")
            namespace.given |= {self.dest}
        super().__call__(parser, namespace, values, option)


class Parser(argparse.ArgumentParser):
    """A parser whose error for an unknown option or choice suggests a known one. Options are not abbreviated.

    An option that takes one value is an error if it is given twice. Options that collect values (`action="append"`) may
    be repeated. The result has the attribute `given`: the names of the options with one value that were given.
    """

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**{**keywords, "allow_abbrev": False})
        for name in (None, "store"):
            self.register("action", name, _StoreOnce)
        self.set_defaults(given=frozenset())
        self._args: list[str] = []

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Raises an error for a value that is none of the choices, with a similar one, or the command that is meant."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            is_command = isinstance(action, argparse._SubParsersAction) and "fit" in action.choices
            meant = ELSEWHERE.get(value) if is_command else None
            hint = f"; did you mean `{meant}`?" if meant else _hint(str(value), map(str, action.choices or ()))
            raise argparse.ArgumentError(action, f"{error.message}{hint}") from None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See argparse. The arguments are kept for `error`."""
        self._args = [] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Exits with 2. If required arguments are missing, an unknown option is named first: it may stand for one."""
        before, required, missing = message.partition("the following arguments are required: ")
        if required and not before:
            unknown = next(filter(self._is_unknown, takewhile(lambda arg: arg != "--", self._args)), None)
            if unknown is not None:
                found = self._unknown_option(unknown)
                message = f"{found}{'' if found.endswith('?') else '.'} Required arguments are missing: {missing}"
        super().error(message)

    def _is_unknown(self, arg: str) -> bool:
        """Whether an argument has the form of an option, and none of that name exists."""
        known = self._option_string_actions
        if arg in ("-", "--") or not arg.startswith("-") or re.match(r"-\.?\d|\S*\s", arg):
            return False
        return arg.partition("=")[0] not in known and (arg.startswith("--") or arg[:2] not in known)

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Exits with 2 for unknown arguments."""
        first = unknown[0]
        if not first.startswith("-"):
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        self.error(self._unknown_option(first))

    def _unknown_option(self, first: str) -> str:
        """The message about an unknown option, with a known one that is similar, or the commands that have it."""
        options = {option.lstrip("-"): option for action in self._actions for option in action.option_strings}
        given = first.partition("=")[0]
        hint = _hint(given.lstrip("-"), options)
        for name, option in options.items():
            hint = hint.replace(repr(name), option)
        others = [f"`{one.prog}`" for one in every_parser(build_parser()) if given in one._option_string_actions]
        if others and not hint:
            hint = f"; it is an option of {' and '.join(others)}"
        return f"unknown option {given}{hint}"


def _hint(given: str, known: Iterable[str]) -> str:
    """The end of a message, with the known names that begin as the given one does, or that are similar to it.

    >>> _hint("ep", ["help", "epochs"])
    "; did you mean 'epochs'?"
    """
    names = list(known)
    longer = [name for name in names if len(given) > 1 and name.startswith(given)]
    return did_you_mean(given, names) if not longer else f"; did you mean {' or '.join(map(repr, longer[:3]))}?"


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults unless they are empty, an option and its help on one line, and examples as they are."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.default == [] or action.required:
            return action.help
        return super()._get_help_string(action)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        text, heading, examples = text.partition("examples:\n")
        filled = super()._fill_text(text, width, indent) + "\n\n" if text else ""
        return f"{filled}{heading}{examples}" if examples else filled.rstrip()
