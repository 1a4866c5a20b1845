"""The texts that a command works on: arguments, files and standard input."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import stat
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pyroberta.cli.exit_codes import UsageError
from pyroberta.cli.places import check_distinct
from pyroberta.cli.streams import bar
from pyroberta.data.kinds import KINDS
from pyroberta.model.callers import callers_level

if TYPE_CHECKING:
    from pyroberta.data.sources import Source

OF_ONE_TEXT = "the only text "  # how a warning about one text begins
# A word that is rather the name of a file than a text.
FILE_NAME = re.compile(r"\S*\.(txt|csv|tsv|jsonl?|ndjson|parquet)(\.(gz|zst|bz2|xz))?")
ABOUT_FILES = "a file, a directory, a pattern such as '*.txt', or - for standard input"


def add_source(parser: argparse.ArgumentParser, *, has_labels: bool = False) -> None:
    """Adds FILE, one or several, and the options for files, which `source_of` reads."""
    parser.add_argument("texts", nargs="+", metavar="FILE", help=f"{ABOUT_FILES}; text has one text a line")
    add_columns(parser, has_labels=has_labels)


def add_columns(parser: argparse.ArgumentParser, *, has_labels: bool = False, has_pairs: bool = True) -> None:
    """Adds `--column`, `--kind` and, with labels, `--label`. `has_pairs` is whether the command takes pairs of texts,
    from two columns.
    """
    parser.set_defaults(has_pairs=has_pairs)
    parser.add_argument(
        "--column", metavar="NAME", action="append", default=[],
        help=f"the column of a table that holds the texts{'; twice for pairs' * has_pairs}",
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


def add_texts(parser: argparse.ArgumentParser, description: str = "texts", *, has_pairs: bool = False) -> None:
    """Adds TEXT and `--file` with the options for files, which `given_texts` reads. `has_pairs` is that of
    `add_columns`.
    """
    parser.add_argument(
        "texts", nargs="*", metavar="TEXT", help=f"{description}; none, or -, reads standard input, one a line"
    )
    parser.add_argument("--file", metavar="FILE", help=f"read the texts from {ABOUT_FILES}")
    add_columns(parser, has_pairs=has_pairs)


def given_texts(arguments: argparse.Namespace, *, streams: bool = False) -> Source:
    """Returns the texts of `--file`, else those of the arguments TEXT. Without both, or for `-` alone, it returns those
    of standard input. For `streams` see `source_of`.

    Raises:
        UsageError: if texts and `--file` are both given, or options for files are given without a file.
        ValueError: if a text is the name of a file.
    """
    import shlex

    from pyroberta.data.sources import Source

    texts: list[Any] = arguments.texts
    if arguments.file is not None:
        if texts:
            raise UsageError(
                f"--file {arguments.file} and the text {texts[0]!r} both name what to read: give one of them"
            )
        return source_of(arguments, arguments.file, streams=streams)
    if texts in ([], ["-"]):
        return source_of(arguments, "-", streams=streams)
    for name in ("column", "kind", "whole_files"):
        if getattr(arguments, name):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} has no effect without --file: give --file, or leave {option} out")
    for text in texts:
        exists = os.path.exists(text)
        if exists or FILE_NAME.fullmatch(text):
            program, quoted = arguments.parser.prog, shlex.quote(text)
            kind = "directory" if os.path.isdir(text) else "file"
            reason = f"{'is' if exists else 'looks like'} the name of a {kind}"
            raise ValueError(
                f"{text!r} {reason}, and TEXT is the text itself. For the texts in the {kind}: {program} --file "
                f"{quoted}. For these characters: echo {quoted} | {program} -"
            )

    class Arguments(Source):
        def place(self, number: int) -> str:
            return f"text {number + 1}"  # as lines are counted

    return Arguments(texts)


def source_of(arguments: argparse.Namespace, places: str | Sequence[str], *, streams: bool = False) -> Source:
    """Returns the texts, and the labels, of files, directories and patterns. `-` alone is standard input.

    They are read, and a line on stderr says what was read, unless standard input is read for want of TEXT. With
    `streams`, standard input and another pipe are not read yet: `parts` reads them. Standard input that is redirected
    from a regular file is read as that file.

    Raises:
        FileNotFoundError: if a file does not exist.
        UsageError: if standard input and files are both given, `--label` is missing where labels are needed, or options
            for files contradict each other.
        ValueError, ImportError: see `data.open_source`.
    """
    import glob
    from pathlib import Path

    from pyroberta.data.sources import columns_of, open_source

    places = [places] if isinstance(places, str) else list(places)
    is_stdin = places == ["-"]
    if "-" in places and not is_stdin:
        raise UsageError("- is standard input and can't be combined with files: give one of them")
    _check_columns(arguments)
    paths = [os.path.expanduser(place) for place in places]
    for place, path in zip(places, paths, strict=True):
        if not is_stdin and not os.path.exists(path) and not glob.has_magic(path):
            raise FileNotFoundError(f"{place}: the file does not exist. Give {ABOUT_FILES}")
    check_distinct(places, arguments.kind)
    if is_stdin and sys.stdin is None:
        raise ValueError(f"standard input is closed: there is nothing to read. Give {ABOUT_FILES}")
    label = getattr(arguments, "label", "inferred")
    if label is None or (label != "inferred" and not arguments.column):
        name, kind = ("column", "texts") if label else ("label", "labels")
        found = "" if is_stdin else columns_of(paths, arguments.kind)
        raise UsageError(
            f"--{name} is missing: it names the column of the {kind}. {found}In a directory, --label inferred "
            "takes the folders' names"
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
    if not (streams and source.is_once and not (is_stdin and _is_regular(sys.stdin))):
        _ = source.texts  # read, so that the number of texts is said
        if not is_stdin or getattr(arguments, "file", "") is not None:
            _say(arguments, source)
    return source


def placed(source: Source) -> Source:
    """Returns the texts of a source without its description, which `source_of` has said already. Messages still name
    their places.
    """
    from pyroberta.data.sources import Source

    class Placed(Source):
        def place(self, number: int) -> str:
            return source.place(number)

    return Placed(source.texts)


def _is_regular(opened: Any) -> bool:
    """Whether an open file is a regular file, and no pipe or terminal."""
    try:
        return stat.S_ISREG(os.fstat(opened.fileno()).st_mode)
    except (OSError, ValueError):  # it is none of the operating system's
        return False


def _check_columns(arguments: argparse.Namespace) -> None:
    """Checks that the options for files do not contradict each other.

    Raises:
        UsageError: if they do.
    """
    label = getattr(arguments, "label", None)
    twice = next((name for i, name in enumerate(arguments.column) if name in arguments.column[:i]), None)
    if twice is not None:
        raise UsageError(f"--column {twice} is given twice, but a text is no pair with itself: give it once")
    if len(arguments.column) > 1 and not arguments.has_pairs:
        names = " ".join(f"--column {name}" for name in arguments.column)
        raise UsageError(
            f"{names} names pairs of texts, but {arguments.parser.prog} takes single texts: give one column"
        )
    if label is not None and label in arguments.column:
        raise UsageError(f"--column and --label are both {label}, but a text can't be its own label: name another one")
    if arguments.column and arguments.kind == "text":
        raise UsageError("--column has no effect on --kind text, which has no columns: leave one of them out")
    of_tables = "--column" if arguments.column else f"--kind {arguments.kind}"
    if arguments.whole_files and (arguments.column or arguments.kind not in (None, "text")):
        raise UsageError(f"--whole-files applies to text files, and {of_tables} to tables: leave one of them out")


def _say(arguments: argparse.Namespace, source: Source) -> None:
    """Says on stderr what was read, unless `--quiet` is given."""
    source.say(not getattr(arguments, "quiet", False))


def parts(arguments: argparse.Namespace, source: Source) -> Iterator[tuple[Sequence[Any], Callable[[int], str]]]:
    """Yields the texts of `given_texts` in parts, each with a function that names the place of a text of the part.

    A text of a pipe, such as standard input, is a part by itself, which is yielded as soon as it has come. So the
    results do not depend on when texts come. All other texts are one part.

    Raises:
        ValueError: if there is no text, or one can't be read. Then the texts before it were yielded.

    Warns:
        UserWarning: at the end, if rows have empty texts.
    """
    if not source.is_once:
        yield source.texts, source.place
        return
    for number, text in enumerate(source.stream()):
        if not number and arguments.file is not None:
            _say(arguments, source)
        yield [text], lambda _, number=number: source.place(number)  # type: ignore[misc]
    source.warn()


def answers(
    arguments: argparse.Namespace, model: Any, method: str, source: Source, **how: Any
) -> Iterator[tuple[Any, Any]]:
    """Yields each text of `given_texts` with the result of a method of the model, as soon as it is computed.

    Args:
        arguments: those of the command, with `long_texts` and `quiet`.
        model: a `MaskedLM` or a `TextClassifier`.
        method: the name of the method, see `tasks.streaming.stream`.
        source: the texts.
        how: other arguments of the method.

    Warns:
        UserWarning: if texts are split or cut: once with their number, or for each text of standard input and of
            another pipe with its place.
    """
    from pyroberta.tasks.streaming import stream

    how |= {"long_texts": arguments.long_texts, "verbose": bar(arguments)}
    for texts, place in parts(arguments, source):
        found = stream(model, method, texts, place=place, **how)
        if source.is_once:
            with _naming(place(0)):
                found = iter(list(found))
        yield from zip(texts, found, strict=True)


@contextlib.contextmanager
def _naming(place: str) -> Iterator[None]:
    """A `with` block whose warnings are about one text. They name its place instead of the number of such texts."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    for warning in caught:
        message = str(warning.message).removesuffix(f"; it is {place}")
        if message.startswith(OF_ONE_TEXT):
            message = f"{place} {message.removeprefix(OF_ONE_TEXT).replace(f'({place}: ', '(')}"
        warnings.warn(message, warning.category, stacklevel=callers_level())
