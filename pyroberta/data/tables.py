"""Tables in memory: the columns of pandas, polars, pyarrow, `datasets`, structured arrays and dicts, and records.

The packages are recognised by the names of their classes. None is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, NamedTuple

import numpy as np

from pyroberta.formats.budget import type_of
from pyroberta.text.given import holds_strings, kinds_of, opened

# How the names of a table's columns are had, and a column's values. A list of values is made of them by `opened`.
READERS: dict[tuple[str, str], tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    ("pandas", "DataFrame"): (lambda table: table.columns, lambda table, name: table[name]),
    ("polars", "DataFrame"): (lambda table: table.columns, lambda table, name: table[name]),
    ("pyarrow", "Table"): (lambda table: table.schema.names, lambda table, name: table.column(name)),
    ("pyarrow", "RecordBatch"): (lambda table: table.schema.names, lambda table, name: table.column(name)),
    ("datasets", "Dataset"): (lambda table: table.column_names, lambda table, name: list(table[name])),
}
# What has to be made another table first, and how.
OTHERS = {
    ("polars", "LazyFrame"): "Collect it: df.collect()",
    ("pandas", "TextFileReader"): "Read it as one table: pandas.concat(reader)",
    ("pyarrow", "Dataset"): "Read it as a table: dataset.to_table()",
    ("pyarrow", "ParquetFile"): "Read it as a table: file.read()",
    ("pyarrow", "RecordBatchReader"): "Read it as a table: reader.read_all()",
    ("datasets", "DatasetDict"): "Pass one of its splits: ds[{split!r}]",
    ("datasets", "IterableDatasetDict"): "Pass one of its splits: ds[{split!r}]",
}


class Table(NamedTuple):
    """A table's columns.

    Attributes:
        title: the kind of the table, for messages.
        names: the names of the columns.
        column: a function that returns the list of a column's values, from the name of the column.
        classes: a function that returns the names of a column's classes, from the name of the column. It returns None
            if the table has no names of classes.
    """

    title: str
    names: list[Any]
    column: Callable[[Any], list[Any]]
    classes: Callable[[Any], list[str] | None] = lambda name: None


def table_of(x: Any, is_wanted: bool) -> Table | None:
    """Returns x as a `Table`, or None if x is not a table.

    Args:
        x: any value.
        is_wanted: whether the user named a column, so that a dict counts as one of columns.

    Raises:
        TypeError: if x must first be converted, such as a lazy table.
    """
    kinds = kinds_of(x)
    for kind in kinds & OTHERS.keys():
        split = next(iter(x), "train") if isinstance(x, Mapping) else ""
        raise TypeError(f"x is a {' '.join(kind)}. {OTHERS[kind].format(split=split)}")
    for kind in kinds & READERS.keys():
        names, column = READERS[kind]

        def values(name: Any, column: Callable[[Any, Any], Any] = column) -> list[Any]:
            return list(opened(column(x, name), f"the column {name!r}"))

        return Table(f"a {' '.join(kind)}", list(names(x)), values, lambda name: classes_of(x, name))
    if isinstance(x, np.ndarray) and x.dtype.names:
        return Table("a structured array", list(x.dtype.names), lambda name: x[name].tolist())
    if isinstance(x, Mapping) and (is_wanted or any(map(holds_strings, x.values()))):
        return Table("a dict", list(x), lambda name: _listed(x[name], name))
    return None


def is_record(item: Any) -> bool:
    """Returns whether an item of an iterable is a record: a dict or a named tuple."""
    return isinstance(item, Mapping) or (isinstance(item, tuple) and hasattr(item, "_fields"))


def as_mapping(record: Any) -> Mapping[Any, Any]:
    """Returns a record as a dict."""
    return record if isinstance(record, Mapping) else dict(zip(record._fields, record, strict=True))


def is_stream(x: Any) -> bool:
    """Returns whether x is a table whose rows come one after another."""
    return ("datasets", "IterableDataset") in kinds_of(x)


def _listed(values: Any, name: Any) -> list[Any]:
    values = opened(values, f"the column {name!r}")
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise TypeError(f"the column {name!r} should be a list with a value for each row, not {type_of(values)}")
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def classes_of(x: Any, name: Any) -> list[str] | None:
    """Returns the names that `datasets` keeps for a column's classes, or None for another column or table."""
    feature = getattr(x, "features", None)
    names = getattr(feature[name], "names", None) if isinstance(feature, Mapping) and name in feature else None
    return list(names) if isinstance(names, list) else None


def rows(table: Table, names: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yields the values of the named columns, row by row.

    Raises:
        ValueError: if the columns differ in length.
    """
    columns = [table.column(name) for name in names]
    lengths = {name: len(column) for name, column in zip(names, columns, strict=True)}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"the columns have different lengths: {lengths}")
    return zip(*columns, strict=True)


def with_items(x: Any) -> Any:
    """Returns x in a form that can be iterated: x itself, the items of an object without `__iter__`, or the batches of
    torch's DataLoader.
    """
    if isinstance(x, Sized) and not isinstance(x, Iterable) and hasattr(x, "__getitem__"):
        return _Indexed(x)
    if type(x).__module__.startswith("torch.utils.data") and hasattr(x, "collate_fn"):
        return _Loader(x)
    return x


class _Indexed:
    """The items of an object with `__getitem__` and `__len__` alone (torch's Dataset, Keras's PyDataset)."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        return map(self.items.__getitem__, range(len(self.items)))


class _Loader:
    """The batches of torch's DataLoader, which makes a list of a row's parts, and a tuple of strings."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        return map(self._batch, self.loader)

    @staticmethod
    def _batch(batch: Any) -> Any:
        """A tuple of a row's parts, of which texts are lists; a list of texts alone stays one."""
        if not isinstance(batch, list | tuple) or not batch or isinstance(batch[0], str | bytes):
            return batch
        return tuple(
            list(part) if isinstance(part, tuple) and part and isinstance(part[0], str | bytes) else part
            for part in batch
        )
