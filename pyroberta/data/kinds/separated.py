"""CSV and TSV files. The first row has the names of the columns, and each further row has a field for each column."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain
from typing import Any

from pyroberta.data.files import File
from pyroberta.data.kinds import Row, Wanted, check_columns, named
from pyroberta.formats.budget import OverBudget
from pyroberta.formats.counts import agreeing, counted
from pyroberta.model.guard import fork_safe_lock

DELIMITERS = {"CSV": ",;|\t", "TSV": "\t,;|"}  # the usual one first
LONGEST_FIELD = 1 << 26  # characters; the csv module's own limit is 131072, which a document exceeds
MOST_COLUMNS = 10_000
ROWS_AT_ONCE = 1024


def read_csv(file: File, wanted: Wanted) -> Iterator[Row]:
    """Yields the rows of a CSV file, whose fields are separated by commas. If these do not give the wanted columns, the
    separator may be a semicolon, a bar or a tab.

    Each row gives the `wanted` fields. Rows without any field are left out. A field may be quoted, with `"` doubled
    inside, and then go on over several lines.
    """
    return _read(file, wanted, "CSV")


def read_tsv(file: File, wanted: Wanted) -> Iterator[Row]:
    """Yields the rows of a TSV file, whose fields are separated by tabs; see `read_csv`."""
    return _read(file, wanted, "TSV")


def _read(file: File, wanted: Wanted, kind: str) -> Iterator[Row]:
    """The rows below the first, which names the columns. Rows without any field are left out.

    A field may be quoted, with `"` doubled inside, and then go on over several lines. The delimiter is the first of
    `DELIMITERS` that makes the wanted columns of the first row.

    Raises:
        ValueError: if a column is missing, a row has more or fewer fields than there are names, or a quoted field
            has no end; with the number of the line.
        OverBudget: for more than `MOST_COLUMNS` columns or a field of more than `LONGEST_FIELD` characters.
    """
    lines = file.lines()
    number, head = next(((number, line) for number, line in lines if line.strip()), (0, ""))
    if not head:
        raise ValueError(f"{file.name} is empty: {kind} begins with a row of the columns' names")
    heads = {delimiter: _head(head, delimiter) for delimiter in DELIMITERS[kind]}
    has_columns = (one for one in heads if wanted.columns and set(wanted.names) <= set(heads[one]))
    delimiter = next(has_columns, "") or max(heads, key=lambda one: len(heads[one]))
    check_columns(file.name, kind, heads[delimiter], wanted)
    if delimiter != DELIMITERS[kind][0]:
        file.note = f"separated by {delimiter!r}"
    reader = csv.reader(chain([head], (line for _, line in lines)), delimiter=delimiter, strict=True)
    above = number - 1  # blank lines
    ((_, names),) = _rows(file, reader, 1, above)
    if len(names) > MOST_COLUMNS:
        raise OverBudget(f"{file.name} has {len(names)} columns; at most {MOST_COLUMNS} are read")
    places = [names.index(name) for name in wanted.names]
    most = 1 if file.is_once else ROWS_AT_ONCE  # those of a pipe as they come
    while rows := _rows(file, reader, most, above):
        for line, row in rows:
            if len(row) != len(names):
                raise ValueError(
                    f"{file.name}, line {line}: the row has {counted(len(row), 'field')}, but there "
                    f"{agreeing(len(names), 'is')} {counted(len(names), 'column')}, {named(names)}. "
                    f"Put a field that holds {delimiter!r} into quotes"
                )
            yield wanted.row(line, [row[place] for place in places])


def _head(head: str, delimiter: str) -> list[str]:
    """The names in the first line, as far as that can be read alone."""
    try:
        return next(csv.reader([head], delimiter=delimiter), [])
    except csv.Error:
        return []


def _rows(file: File, reader: Any, most: int, above: int) -> list[tuple[int, list[str]]]:
    """The next rows that have fields, with the line at which each ends.

    `above` is the number of lines that the reader does not see.
    """
    found: list[tuple[int, list[str]]] = []
    begin = above + reader.line_num + 1
    try:
        with _LONG_FIELDS:
            for row in reader:
                begin = above + reader.line_num + 1  # of the row behind it
                if row:
                    found.append((begin - 1, row))
                    if len(found) == most:
                        break
    except csv.Error as error:
        end = above + reader.line_num
        lines = f"{file.name}, line {begin}" if end == begin else f"{file.name}, lines {begin} to {end}"
        if "field limit" in str(error):
            raise OverBudget(
                f"{lines}: a field has more than {LONGEST_FIELD} characters. Is a quotation mark missing?"
            ) from None
        if "unexpected end" in str(error):
            error = csv.Error("the row has a quotation mark that nothing closes")
        raise ValueError(
            f"{lines}: {error}. If quotation marks are part of the texts, pass the rows: "
            "csv.DictReader(open(name, newline=''), delimiter=…, quoting=csv.QUOTE_NONE)"
        ) from None
    return found


class _LongFields:
    """A `with` block in which the csv module reads long fields. Its limit is one for the whole process, so the last
    block that ends, in whatever thread, sets it back.
    """

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._blocks = self._before = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._blocks:
                self._before = csv.field_size_limit(LONGEST_FIELD)
            self._blocks += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                csv.field_size_limit(self._before)


_LONG_FIELDS = _LongFields()
