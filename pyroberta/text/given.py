"""Values that users pass instead of texts: tables, records, columns, bytes. Tables are recognised by the name of their
class alone, so that no table package is imported.
"""

from __future__ import annotations

import glob
import itertools
import json
import operator
import os
import reprlib
import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from pyroberta.formats.budget import printable, type_of
from pyroberta.model.callers import callers_level

# A table's package and class, and how one of its columns is written. A dict of splits has its first split's name too.
TABLES = {
    ("pandas", "DataFrame"): "df[{column}]",
    ("polars", "DataFrame"): "df[{column}]",
    ("polars", "LazyFrame"): "df.collect()[{column}]",
    ("pyarrow", "Table"): "table[{column}]",
    ("pyarrow", "RecordBatch"): "batch[{column}]",
    ("datasets", "Dataset"): "ds[{column}]",
    ("datasets", "IterableDataset"): "(row[{column}] for row in ds)",
    ("datasets", "DatasetDict"): "ds[{split}][{column}]",
    ("datasets", "IterableDatasetDict"): "(row[{column}] for row in ds[{split}])",
}
# A column's package and class, and its method that gives a list; None where list() does.
COLUMNS = {
    ("pandas", "Series"): "tolist",
    ("pandas", "Index"): "tolist",
    ("polars", "Series"): "to_list",
    ("pyarrow", "Array"): "to_pylist",
    ("pyarrow", "ChunkedArray"): "to_pylist",
    ("datasets", "Column"): None,
}
ENDLESS = itertools.cycle, itertools.count, itertools.repeat  # the last one unless it is told how often
USUAL = ("text", "texts", "sentence", "content", "document", "review", "body")  # what columns of texts are called
LONGEST_NAME, MOST_NAMES = 40, 8  # of columns, in a message
LONGEST_PATH, MOST_FILES = 256, 1000  # of files that are looked for among texts


def kinds_of(x: Any) -> set[tuple[str, str]]:
    """Returns the package and the name of each class of which x is an instance.

    >>> kinds_of(True) == {("builtins", "bool"), ("builtins", "int"), ("builtins", "object")}
    True
    """
    return {(kind.__module__.split(".")[0], kind.__name__) for kind in type(x).__mro__}


def column_items(x: Any) -> Any:
    """Returns the list of the items of a table's column. Anything else is returned as it is."""
    for kind in kinds_of(x) & COLUMNS.keys():
        method = COLUMNS[kind]
        return getattr(x, method)() if method else list(x)
    return x


def opened(x: Any, name: str = "x") -> Any:
    """Returns x. If x is a table's column, returns the list of its items instead.

    Args:
        x: any value.
        name: the name of the argument, for messages.

    Raises:
        TypeError: if x is a whole table, since iterating over one yields the names of the columns, or rows. The message
            has an expression for the texts.

    >>> opened(np.array([("a", 1)], [("text", "U9"), ("label", int)]))
    Traceback (most recent call last):
    TypeError: x is a structured array with the columns text, label. Pass the column that holds the texts: x["text"]
    """
    if (items := column_items(x)) is not x:
        return items
    kinds = kinds_of(x)
    for kind in kinds & TABLES.keys():
        names, split = _columns(x)
        expression = TABLES[kind].format(column=_quoted(text_column(names)), split=_quoted(split))
        raise _table_error(f"{name} is a {' '.join(kind)}", names, expression)
    if isinstance(x, np.ndarray) and x.dtype.names:
        names = list(x.dtype.names)
        raise _table_error(f"{name} is a structured array", names, f"{name}[{_quoted(text_column(names))}]")
    if isinstance(x, (set, frozenset)):
        raise TypeError(f"{name} is {type_of(x)}, which has no order. Pass a list: sorted({name})")
    refuse_masked(x, name, f"Pass the values that are not hidden: {name}.compressed(), or {name}.filled(value)")
    if ("_csv", "reader") in kinds:
        raise TypeError(
            f"{name} is a csv.reader, which gives rows of strings. Pass the texts alone: "
            f"[row[0] for row in {name}], with the number of their column instead of 0"
        )
    return x


def refuse_masked(values: Any, name: str, advice: str) -> None:
    """Checks that no value is hidden by a mask.

    Raises:
        TypeError: if values is a masked array. The message ends with `advice`.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose hidden values would be read too. {advice}")


def refuse_single(x: Any, name: str = "x") -> None:
    """Checks that x has items.

    Raises:
        TypeError: if x is an array or a scalar without axes.
    """
    if getattr(x, "shape", None) == () and not isinstance(x, str | bytes):
        raise TypeError(f"{name} is a single value, {reprlib.repr(x)}. Pass a list: [{name}.item()]")


def refuse_endless(x: Any, name: str, advice: str = "") -> None:
    """Checks that an iterator ends, as far as its class tells.

    Raises:
        ValueError: if x is an iterator of `itertools` that never ends. The message has `advice`.

    >>> refuse_endless(itertools.cycle("ab"), "texts")
    Traceback (most recent call last):
    ValueError: texts is an itertools.cycle, which never ends. Pass as many as you want: itertools.islice(texts, 1000)
    """
    if isinstance(x, ENDLESS) and operator.length_hint(x, -1) < 0:
        raise ValueError(
            f"{name} is an itertools.{type(x).__name__}, which never ends. "
            f"{advice}Pass as many as you want: itertools.islice({name}, 1000)"
        )


def _table_error(description: str, names: list[Any], expression: str) -> TypeError:
    columns = f" with the column{'s' * (len(names) > 1)} {shown_names(names)}" if names else ""
    return TypeError(f"{description}{columns}. Pass the column that holds the texts: {expression}")


def _columns(table: Any) -> tuple[list[Any], str]:
    """The names of a table's columns, and of its first split, as far as they can be had without reading it."""
    if type(table).__name__ == "LazyFrame":
        return [], ""
    try:
        names = getattr(table, "column_names", None)
        names = table.columns if names is None else names
        if isinstance(names, Mapping):  # of splits
            split = next(iter(names))
            return list(names[split] or ()), str(split)
        return list(names), "train"
    except Exception:  # a class of somebody else's, asked for a better message alone
        return [], "train"


def refuse_tuple(x: Any, name: str = "x") -> None:
    """Checks that x is no tuple of strings, where a text may have segments.

    Raises:
        TypeError: for a tuple of strings, which may be several texts or the segments of one.

    >>> refuse_tuple(("It rains.", "It is wet."))
    Traceback (most recent call last):
    TypeError: x is a tuple of strings: texts or one in segments. Pass list(x) for the texts, [x] for the one text
    """
    if isinstance(x, tuple) and x and all(isinstance(text, str | bytes) for text in x):
        raise TypeError(
            f"{name} is a tuple of strings: texts or one in segments. Pass list({name}) for the texts, "
            f"[{name}] for the one text"
        )


def refuse_rows(
    item: Any, features: Collection[str], name: str = "x", is_item: bool = False, takes_column: bool = False
) -> None:
    """Checks that a dict holds features, and is not a record or a table.

    Args:
        item: the value to check. Anything but a dict passes.
        features: the names of the features.
        name: the name of the argument.
        is_item: whether `item` is an item of the argument, not the argument itself.
        takes_column: whether the function has an argument `column`. The error then names it.

    Raises:
        TypeError: if item is a dict of strings (a record) or of lists of strings (columns). The message has an
            expression for the texts.

    >>> refuse_rows({"text": "A joy.", "label": 1}, {"token_ids"}, is_item=True)
    Traceback (most recent call last):
    TypeError: x holds records, dicts of text, label. Pass their texts: [row["text"] for row in x]
    """
    if not isinstance(item, Mapping) or any(key in features for key in item):
        return
    texts = [key for key, value in item.items() if isinstance(value, str)]
    columns = [key for key, value in item.items() if not isinstance(value, str) and holds_strings(value)]
    if not texts and not columns:
        return
    column = _quoted(text_column(texts or columns))
    if is_item:
        description = f"{name} holds {'records' if texts else 'tables'}, dicts of {shown_names(list(item))}"
        if texts and takes_column:
            raise TypeError(f"{description}. Name the column of the texts: column={text_column(texts)!r}")
        rows = f"row[{column}] for row in {name}"
        raise TypeError(f"{description}. Pass their texts: {f'[{rows}]' if texts else f'({rows})'}")
    if texts:
        raise TypeError(
            f"{name} is a record, a dict of {shown_names(list(item))}. Pass a list of texts: [{name}[{column}]]"
        )
    raise _table_error(f"{name} is a dict", list(item), f"{name}[{column}]")


def holds_strings(value: Any) -> bool:
    """Returns whether a value of a dict seems to be a column of texts."""
    if isinstance(value, np.ndarray) or not isinstance(value, Iterable) or isinstance(value, Mapping):
        return isinstance(value, np.ndarray) and value.dtype.kind in "OSUT" and value.size > 0
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(text, str | bytes) for text in value[:8])


def text_column(names: list[Any]) -> Any:
    """Returns the name of the column that seems to hold the texts.

    >>> text_column(["id", "Text"]), text_column(["title"]), text_column(["id", "label"])
    ('Text', 'title', 'COLUMN')
    """
    lower = {name.lower(): name for name in reversed(names) if isinstance(name, str)}
    for usual in USUAL:
        if usual in lower:
            return lower[usual]
    if not names:
        return "text"
    return names[0] if len(names) == 1 else "COLUMN"


def _quoted(name: Any) -> str:
    """As Python writes it, in double quotes, and not too long."""
    return json.dumps(_short(name), ensure_ascii=False) if isinstance(name, str) else _short(repr(name))


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"


def shown_names(names: list[Any]) -> str:
    """Returns the names of the first columns, for a message."""
    some = ", ".join(printable(_short(str(name))) for name in names[:MOST_NAMES])
    return some + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")


def bytes_error(name: str, value: bytes | bytearray, is_item: bool = True) -> TypeError:
    """Returns the error for bytes that were passed instead of a text.

    >>> str(bytes_error("text 0", b"a text"))
    "text 0 is bytes, b'a text', and a text is a str. Decode them: [text.decode() for text in texts]"
    """
    shown = repr(bytes(value[:20])) + "…" * (len(value) > 20)
    expression = "[text.decode() for text in texts]" if is_item else "text.decode()"
    return TypeError(f"{name} is bytes, {shown}, and a text is a str. Decode them: {expression}")


def names_a_file(text: Any) -> bool:
    """Returns whether a text is the name of an existing file."""
    return isinstance(text, str) and len(text) < LONGEST_PATH and "\0" not in text and os.path.isfile(text)


def _kind_of_place(text: str) -> tuple[str, str] | None:
    """What a text names that exists, and where its texts are, for a message. None if it names nothing."""
    if names_a_file(text):
        return "the name of a file", "in the file"
    if len(text) >= LONGEST_PATH or "\0" in text or text.isspace() or not text:
        return None
    if os.path.isdir(text):
        return "the name of a directory", "in its files"
    is_pattern = glob.has_magic(text) and not any(map(str.isspace, text))  # of what is asked, most has a space
    if is_pattern and any(map(os.path.isfile, glob.iglob(text))):
        return "a pattern of the names of files", "in these files"
    return None


def warn_of_a_files_name(text: str) -> None:
    """Warns if a text is the name of a file or of a directory, or a pattern that names of files match.

    Warns:
        UserWarning: at the line of the package's caller. The message has the Python expression that reads the files,
            `pathlib.Path(…)`.
    """
    kind = _kind_of_place(text)
    if kind:
        warnings.warn(
            f"{text!r} is {kind[0]}, but a string is read as the text itself. For the texts {kind[1]}, pass a path: "
            f"pathlib.Path({text!r})",
            stacklevel=callers_level(),
        )


def refuse_names_of_files(texts: Any) -> None:
    """Checks that a list holds texts, and not the names of files.

    Raises:
        ValueError: if every item is the name of a file. The message has the Python expression that reads the files.
    """
    if isinstance(texts, list | tuple) and 0 < len(texts) <= MOST_FILES and all(map(names_a_file, texts)):
        raise ValueError(
            f"x holds the names of files, such as {texts[0]!r}, and not their texts. Pass their paths: "
            "[pathlib.Path(name) for name in names]"
        )
