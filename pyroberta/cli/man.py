"""`pyroberta man`: prints the manual page, which is made from the parser, as `--help` is."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

SUMMARY = "the manual page, for `man -l -`"
EXAMPLES = (
    "pyroberta man | man -l -",
    "pyroberta man > ~/.local/share/man/man1/pyroberta.1",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Does nothing, since the command has no arguments."""


def run(arguments: argparse.Namespace) -> dict[str, str]:
    """Runs the command. The result has the page as roff."""
    text = page()
    if not arguments.json:
        print(text, end="")
    return {"page": text}


def page() -> str:
    """Returns the page in roff, with the macros of `man`.

    >>> page().splitlines()[0].split()[:3]
    ['.TH', 'PYROBERTA', '1']
    """
    from pyroberta import __version__
    from pyroberta.cli.exit_codes import MEANINGS, NOTES
    from pyroberta.cli.parser import DESCRIPTION, EXAMPLES, build_parser, every_parser, subparsers

    parser = build_parser()
    lines = [
        f'.TH PYROBERTA 1 "" "pyroberta {__version__}" "User commands"',
        ".SH NAME",
        r"pyroberta \- RoBERTa's masked language model on the command line",
        ".SH SYNOPSIS",
        r".B pyroberta",
        r"\fICOMMAND\fR [\fIARGUMENT\fR ...]",
        ".SH DESCRIPTION",
        _text(DESCRIPTION),
        "Texts are read one a line, or from a column of a table; \\- is standard input.",
        "Results go to standard output, progress and messages to standard error.",
        ".SH COMMANDS",
    ]
    for one in list(every_parser(parser))[1:]:
        lines += _section(one, has_actions=bool(subparsers(one)))
    lines += [".SH EXAMPLES", *_roff_of(EXAMPLES), ".SH EXIT STATUS"]
    for code, meaning in MEANINGS.items():
        lines += [".TP", f".B {code}", _text(meaning)]
    lines += [line for note in NOTES for line in (".PP", _text(note))]
    return "\n".join(lines) + "\n"


def _section(parser: argparse.ArgumentParser, *, has_actions: bool) -> list[str]:
    """The part of the page about one command or one of its actions."""
    lines = [f'.SS "{_text(parser.prog)}"', _text(parser.description or "")]
    if has_actions:
        return lines
    usage = parser.format_usage().partition("usage: ")[2]
    lines += [".PP", _text(re.sub(r"\s+", " ", usage).strip())]
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        lines += [".TP", _heading(parser, action), _text(_help(parser, action))]
    examples = parser.get_default("examples") or []
    if examples:
        lines += [".PP", "Examples:", ".PP", *_roff_of(examples)]
    return lines


def _roff_of(examples: Sequence[str]) -> list[str]:
    """Examples, each on a line of the page."""
    return [".nf", ".RS", *map(_text, examples), ".RE", ".fi"]


def _heading(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    value = action.metavar if isinstance(action.metavar, str) else "|".join(map(str, action.choices or ()))
    value = rf"\fI{_text(value or action.dest)}\fR"
    if not action.option_strings:
        return value
    return ", ".join(
        rf"\fB{_text(flag)}\fR{'' if action.nargs == 0 else f' {value}'}" for flag in action.option_strings
    )


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return re.sub(r"\s+", " ", parser._get_formatter()._expand_help(action)) if action.help else ""


def _text(text: str) -> str:
    """A text with what roff reads as commands made plain: backslashes, hyphens, and dots that begin a line."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")
    return rf"\&{escaped}" if escaped.startswith(".") else escaped
