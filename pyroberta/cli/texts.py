"""The texts that a command works on: arguments, files and standard input."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from typing import Any

# A word that is rather the name of a file than a text.
FILE_NAME = re.compile(r"\S*\.(txt|csv|tsv|jsonl?|ndjson|parquet)(\.(gz|zst|bz2|xz))?")


def add_texts(parser: argparse.ArgumentParser, what: str = "texts") -> None:
    """Adds TEXT and `--file`, which `given_texts` reads."""
    parser.add_argument(
        "texts", nargs="*", metavar="TEXT", help=f"{what}; none, or -, reads standard input, one a line"
    )
    parser.add_argument("--file", metavar="FILE", help="read the texts from a file instead, one a line")


def given_texts(arguments: argparse.Namespace) -> list[str]:
    """The texts of `--file`; else the arguments TEXT; else, or for `-` alone, the lines of standard input.

    Raises:
        ValueError: for texts beside `--file`, and for a text that is the name of a file.
    """
    texts: list[str] = arguments.texts
    if arguments.file is not None:
        if texts:
            raise ValueError(
                f"--file {arguments.file} and the text {texts[0]!r} both say what to read: give one of them"
            )
        return read_texts(arguments.file)
    if texts in ([], ["-"]):
        return read_texts("-")
    for text in texts:
        is_there = os.path.exists(text)
        if is_there or FILE_NAME.fullmatch(text):
            program, quoted = arguments.parser.prog, shlex.quote(text)
            is_what = "is the name of a " + ("directory" if os.path.isdir(text) else "file")
            raise ValueError(
                f"{text!r} {is_what if is_there else 'looks like the name of a file'}, and TEXT is the text itself. "
                f"For the texts in the file: {program} --file {quoted}. "
                f"For these characters: echo {quoted} | {program} -"
            )
    return texts


def read_texts(source: str, *, quiet: bool = True, **keywords: Any) -> list[str]:
    """The texts of a file, a directory or a pattern; `-` is standard input.

    Args:
        source: the path.
        quiet: False says on stderr what was read.
        keywords: those of `data.open_source`.

    Raises:
        FileNotFoundError: no such file.
    """
    import glob

    from pyroberta.data.sources import open_source

    if source != "-" and not os.path.exists(source) and not glob.has_magic(source):
        raise FileNotFoundError(
            f"{source}: there is no such file. Give a UTF-8 text file with one text a line, or - to read stdin"
        )
    opened = open_source(sys.stdin.buffer if source == "-" else source, **keywords)
    texts: list[str] = opened.texts
    opened.say(not quiet)
    return texts
