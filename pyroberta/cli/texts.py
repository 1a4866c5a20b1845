"""The texts that a command works on: arguments, files and standard input."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyroberta.data.kinds import KINDS

if TYPE_CHECKING:
    from pyroberta.data.sources import Source

# A word that is rather the name of a file than a text.
FILE_NAME = re.compile(r"\S*\.(txt|csv|tsv|jsonl?|ndjson|parquet)(\.(gz|zst|bz2|xz))?")
ABOUT_FILES = "a file, a directory, a pattern such as '*.txt', or - for standard input"


def add_source(parser: argparse.ArgumentParser, *, has_labels: bool = False) -> None:
    """Adds FILE, one or several, and the options for files, which `source_of` reads."""
    parser.add_argument("texts", nargs="+", metavar="FILE", help=f"{ABOUT_FILES}; text has one text a line")
    add_columns(parser, has_labels=has_labels)


def add_columns(parser: argparse.ArgumentParser, *, has_labels: bool = False) -> None:
    """Adds `--column`, `--kind` and, with labels, `--label`."""
    parser.add_argument(
        "--column", metavar="NAME", action="append", default=[],
        help="the column of a table that holds the texts; twice for pairs",
    )  # fmt: skip
    if has_labels:
        parser.add_argument(
            "--label", metavar="NAME",  # which `source_of` needs, not argparse, to name the columns
            help="needed: the column that holds the labels; `inferred`, without --column: a directory's folders name "
            "them",
        )  # fmt: skip
    parser.add_argument(
        "--kind", metavar="NAME", choices=KINDS,
        help=f"of a file whose name does not say it: {', '.join(KINDS)}",
    )  # fmt: skip
    parser.add_argument("--whole-files", action="store_true", help="a text file is one text, not each of its lines")


def add_texts(parser: argparse.ArgumentParser, description: str = "texts") -> None:
    """Adds TEXT and `--file` with the options for files, which `given_texts` reads."""
    parser.add_argument(
        "texts", nargs="*", metavar="TEXT", help=f"{description}; none, or -, reads standard input, one a line"
    )
    parser.add_argument("--file", metavar="FILE", help=f"read the texts from {ABOUT_FILES}")
    add_columns(parser)


def given_texts(arguments: argparse.Namespace) -> Source:
    """Returns the texts of `--file`, else those of the arguments TEXT. Without both, or for `-` alone, it returns those
    of standard input.

    Raises:
        ValueError: if texts and `--file` are both given, a text is the name of a file, or options for files are given
            without a file.
    """
    import shlex

    from pyroberta.data.sources import Source

    texts: list[Any] = arguments.texts
    if arguments.file is not None:
        if texts:
            raise ValueError(
                f"--file {arguments.file} and the text {texts[0]!r} both name what to read: give one of them"
            )
        return source_of(arguments, arguments.file)
    if texts in ([], ["-"]):
        return source_of(arguments, "-", is_said=False)
    for name in ("column", "kind", "whole_files"):
        if getattr(arguments, name):
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} has no effect without --file: give --file, or leave {option} out")
    for text in texts:
        exists = os.path.exists(text)
        if exists or FILE_NAME.fullmatch(text):
            program, quoted = arguments.parser.prog, shlex.quote(text)
            reason = "is the name of a " + ("directory" if os.path.isdir(text) else "file")
            raise ValueError(
                f"{text!r} {reason if exists else 'looks like the name of a file'}, and TEXT is the text itself. "
                f"For the texts in the file: {program} --file {quoted}. "
                f"For these characters: echo {quoted} | {program} -"
            )
    return Source(texts)


def source_of(arguments: argparse.Namespace, places: str | Sequence[str], *, is_said: bool = True) -> Source:
    """Returns the texts, and the labels, of files, directories and patterns. They are read. `-` alone is standard
    input.

    A line on stderr says what was read, unless `is_said` is False or `--quiet` is given.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if standard input and files are both given, or `--label` is missing where labels are needed.
        ValueError, ImportError: see `data.open_source`.
    """
    import glob
    from pathlib import Path

    from pyroberta.data.sources import columns_of, open_source

    places = [places] if isinstance(places, str) else list(places)
    is_stdin = places == ["-"]
    if "-" in places and not is_stdin:
        raise ValueError("- is standard input and can't be combined with files: give one of them")
    paths = [os.path.expanduser(place) for place in places]
    for place, path in zip(places, paths, strict=True):
        if not is_stdin and not os.path.exists(path) and not glob.has_magic(path):
            raise FileNotFoundError(f"{place}: the file does not exist. Give {ABOUT_FILES}")
    if is_stdin and sys.stdin is None:
        raise ValueError(f"standard input is closed: there is nothing to read. Give {ABOUT_FILES}")
    if getattr(arguments, "label", "") is None:
        found = "" if is_stdin else columns_of(paths, arguments.kind)
        raise ValueError(
            f"--label is missing: it names the column of the labels. {found}In a directory, "
            "--label inferred takes the folders' names"
        )
    if is_stdin and sys.stdin.isatty():
        print("reading texts from the terminal, one a line; Ctrl-D ends them", file=sys.stderr)
    columns = tuple(arguments.column)
    source = open_source(
        sys.stdin.buffer if is_stdin else paths[0] if len(paths) == 1 else [Path(path) for path in paths],
        column=columns if len(columns) > 1 else next(iter(columns), None),
        label=getattr(arguments, "label", None),
        kind=arguments.kind,
        per_line=not arguments.whole_files,
    )
    _ = source.texts  # read, so that the number of texts is said
    source.say(is_said and not getattr(arguments, "quiet", False))
    return source
