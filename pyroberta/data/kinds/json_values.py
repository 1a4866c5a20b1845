"""JSON lines, which have a record or a text on each line, and JSON, which has a list of records or texts or a dict of
columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pyroberta.data.files import File
from pyroberta.data.kinds import Row, Wanted, check_columns, named


def read_lines(file: File, wanted: Wanted) -> Iterator[Row]:
    """Yields a row for each line that is not blank. The line is an object, or a string if no column is wanted.

    Raises:
        ValueError: if a line is not JSON or has another form. The message has its number.
    """
    for number, line in file.lines():
        if line.strip():
            place = f"{file.name}, line {number}"
            yield _row(number, _parsed(line, place), wanted, place, file.name, "JSON lines")


def read_whole(file: File, wanted: Wanted) -> Iterator[Row]:
    """Yields a row for each item of a list, or for each place of a dict's columns. The whole file is held in memory.

    Raises:
        ValueError: if the file is not JSON or has another form. The message has the place.
    """
    content = "".join(file.characters())
    if not content.strip():
        return
    try:
        value = _parsed(content, file.name)
    except ValueError as error:
        first = content.split("\n", 1)[0].strip()
        if first[:1] in '{["' and _is_json(first):
            raise ValueError(
                f"{file.name} has a JSON value on each line, but its name does not say so. Name the kind "
                "in pyroberta.data.open_source: kind='jsonl'"
            ) from error
        raise
    if isinstance(value, dict):
        names = [name for name, column in value.items() if isinstance(column, list)]
        if not names:
            do = "Pass the part that holds the records: json.load(file)[…]"
            if wanted.names and all(isinstance(value.get(name), dict) for name in wanted.names):
                do = f"If pandas wrote it, pass the table with column=: pandas.read_json({file.path!r})"
            raise ValueError(
                f"{file.name} is a JSON object of {named(value)}, but should be a list of records or of texts. {do}"
            )
        check_columns(file.name, "JSON", names, wanted)
        lengths = {name: len(value[name]) for name in wanted.names}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"{file.name}: the columns have different lengths: {lengths}")
        for i, values in enumerate(zip(*(value[name] for name in wanted.names), strict=True)):
            yield wanted.row(i, values)
        return
    if not isinstance(value, list):
        raise ValueError(f"{file.name} is a JSON {_form(value)}, but should be a list of records or of texts")
    for i, item in enumerate(value):
        yield _row(i, item, wanted, f"{file.name}, row {i}", file.name, "JSON")


def _row(number: int, item: Any, wanted: Wanted, place: str, name: str, kind: str) -> Row:
    if isinstance(item, Mapping):
        if not wanted.columns:
            check_columns(name, kind, item, wanted)
        for column in wanted.names:
            if column not in item:
                raise ValueError(f"{place} has no {column!r}. Its names are {named(item)}")
        return wanted.row(number, [item[column] for column in wanted.names])
    if isinstance(item, str) and not wanted.columns:
        return number, item, None
    expected = f"an object with {named(wanted.names)}" if wanted.columns else "a string, or an object and column="
    raise ValueError(f"{place} is a JSON {_form(item)}; it should be {expected}")


def _parsed(text: str, place: str) -> Any:
    text = text.rstrip()  # the line's end, behind which what is missing would be said to be missing in column 1
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}" if "\n" in text else f"column {error.colno}"
        raise ValueError(f"{place} is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise ValueError(f"{place} is JSON that is nested too deep") from None
    except ValueError as error:  # a number of thousands of digits
        raise ValueError(f"{place} can't be read: {error}") from None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _form(value: Any) -> str:
    if value is None:
        return "null"
    forms = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return forms[type(value)]
