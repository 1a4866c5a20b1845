"""Text files: each line is a text, or the whole file is one text."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from pyroberta.data.files import File
from pyroberta.data.kinds import Row, Wanted, named, usual_column

LINES_LOOKED_AT = 20
# Names in the head of a table; other first lines are taken for a text.
USUAL_HEADS = {
    *("text", "texts", "sentence", "sentences", "sentence1", "sentence2", "content", "document", "review", "tweet"),
    *("body", "title", "label", "labels", "class", "category", "target", "id", "premise", "hypothesis", "question"),
}


def read(file: File, wanted: Wanted) -> Iterator[Row]:
    """Yields each line that is not blank, without white space around it; or the whole file as one text.

    Raises:
        ValueError: if columns are wanted, or if the file seems to be CSV, TSV or JSON and its kind was not named.
    """
    if wanted.columns:
        raise ValueError(
            f"{file.name} is read as text, which has no column {named(wanted.columns)}. Leave column= out, give a "
            "table that has it, or name the kind of the file in pyroberta.data.open_source: kind='csv', for example"
        )
    lines = _lines(file, wanted)
    if wanted.per_line:
        yield from ((number, line.strip(), None) for number, line in lines)
        return
    text: list[str] = []
    before = 0
    for number, line in lines:
        gap = "\n" * bool(text and number > before + 1)  # blank lines, which part paragraphs, become one
        text.append(f"{gap}{line.rstrip()}\n")
        before = number
    if text:
        yield 1, "".join(text).strip(), None


def _lines(file: File, wanted: Wanted) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers. If the kind was not named, the first lines are looked at; those
    of a pipe as they come, so that none waits for the others.
    """
    first: list[str] = []
    held: list[tuple[int, str]] = []
    numbers, is_once = count(1), file.is_once
    for group in file.groups():
        some = [(number, line) for line, number in zip(group, numbers, strict=False) if line.strip()]
        if wanted.is_said or len(first) == LINES_LOOKED_AT:
            yield from some
            continue
        held += some
        first += [line.strip() for _, line in some[: LINES_LOOKED_AT - len(first)]]
        if is_once or len(first) == LINES_LOOKED_AT:
            _check_kind(file, first)
            yield from held
            held = []
    if held:
        _check_kind(file, first)
        yield from held


def _check_kind(file: File, first: Sequence[str]) -> None:
    """Checks that the first lines of a file are not those of CSV, TSV or JSON.

    Raises:
        ValueError: if they seem to be.
    """
    if found := looks_like(first):
        kind, names = found
        column = f", column={usual_column(names)!r}" if names else ""
        raise ValueError(
            f"{file.name} seems to be {kind.upper() if len(kind) < 5 else 'JSON lines'}"
            + (f" with the columns {named(names)}" if names else "")
            + f", but its name does not say so. Name the kind in pyroberta.data.open_source: kind={kind!r}{column}; or "
            "kind='text'"
        )


def looks_like(lines: Sequence[str]) -> tuple[str, list[str]] | None:
    """Returns the kind that the first lines of a text file seem to have, and the names of its columns. The result is
    None for prose.

    Prose may begin with a bracket or a quotation mark, or hold commas. So lines count as JSON only if they parse, as a
    whole or line by line, to records or texts. They count as a table only if the first line has names, one of them a
    usual one, and every row has the same number of fields.

    >>> looks_like(["id,text", "1,Go!"]), looks_like(['{"text": "Go!"}']), looks_like(["No, never.", "I came, I saw."])
    (('csv', ['id', 'text']), ('jsonl', ['text']), None)
    """
    if not lines:
        return None
    return _json(lines) if lines[0][0] in '{["' and _json(lines) else _table(lines)


def _json(lines: Sequence[str]) -> tuple[str, list[str]] | None:
    items = [_parsed(line) for line in lines]
    first = items[0]
    if isinstance(first, dict) and first:
        return "jsonl", list(first)
    if isinstance(first, list) and first and isinstance(first[0], dict):
        return "json", list(first[0])
    if isinstance(first, list) and first and len(lines) == 1 and all(isinstance(text, str) for text in first):
        return "json", []
    if len(lines) > 1 and (
        all(isinstance(item, str) for item in items)
        or all(isinstance(item, list) and any(isinstance(value, str) for value in item) for item in items)
    ):
        return "jsonl", []
    following = lines[1][0] if len(lines) > 1 else " "
    if lines[0] in ("{", "[", "[{") and following in '"{':
        return "json", []
    return None


def _parsed(line: str) -> Any:
    """The JSON in a line; None where it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _table(lines: Sequence[str]) -> tuple[str, list[str]] | None:
    for delimiter in "\t,;|":
        try:
            table = list(csv.reader((f"{line}\n" for line in lines), delimiter=delimiter))
        except csv.Error:
            continue
        names = table[0] if table else []
        is_head = len(names) > 1 and all(re.fullmatch(r"[A-Za-z_][\w.-]{0,40}", name) for name in names)
        if is_head and USUAL_HEADS & {name.lower() for name in names}:
            rest = table[1:-1] if len(lines) == LINES_LOOKED_AT else table[1:]  # the last row may go on
            if rest and {len(row) for row in rest} == {len(names)}:
                return "tsv" if delimiter == "\t" else "csv", names
    return None
