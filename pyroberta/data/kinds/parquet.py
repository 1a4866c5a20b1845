"""Parquet files, read with pyarrow. Only the wanted columns are read, a group of rows at a time."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

from pyroberta.data.files import TIMES_PACKED, File
from pyroberta.data.kinds import Row, Wanted, check_columns
from pyroberta.formats.budget import LEAST_BYTES, OverBudget

ROWS_AT_ONCE = 64  # a dictionary may hold one long text for all of them
ADVICE = (
    f"{TIMES_PACKED} times its size. If that is intended, write it without compression and dictionaries first, or pass "
    "its table: pandas.read_parquet"
)
BYTES_OF_ROW = 16  # that a row takes at least when it is read: its place in two lists


def read(file: File, wanted: Wanted) -> Iterator[Row]:
    """Yields the rows of a Parquet file.

    Raises:
        ImportError: if pyarrow is not installed.
        ValueError: if the file is not a sound Parquet file, lacks a column, or has a nested column.
        OverBudget: see `_check_size`.
    """
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ImportError("a Parquet file needs the package pyarrow: pip install 'pyroberta[tables]'") from error
    source: Any = file.path
    if file.packed or file.opened is not None:
        source = io.BytesIO(b"".join(file.pieces()))  # which is read from its end
    size = os.path.getsize(source) if isinstance(source, str) else len(source.getvalue())
    try:
        with parquet.ParquetFile(source) as opened:
            schema = opened.schema_arrow
            check_columns(file.name, "Parquet", schema.names, wanted)
            for name in wanted.names:
                if pyarrow.types.is_nested(schema.field(name).type):
                    raise ValueError(
                        f"{file.name}: the column {name!r} is nested ({schema.field(name).type}), but should hold one "
                        "value per row"
                    )
            _check_size(file.name, opened.metadata, wanted, size)
            place = made = 0
            for batch in opened.iter_batches(batch_size=ROWS_AT_ONCE, columns=list(dict.fromkeys(wanted.names))):
                held = [_plain(batch.column(name)) for name in wanted.names]
                made += sum(column.nbytes for column in held)
                if made > _most(size):
                    raise OverBudget(f"{file.name} holds texts that are repeated, and unpacks to more than {ADVICE}")
                for values in zip(*(column.to_pylist() for column in held), strict=True):
                    yield wanted.row(place, values)
                    place += 1
    except OverBudget:
        raise
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk
        raise ValueError(f"{file.name} is not a sound Parquet file: {str(error).strip()}") from None


def _plain(column: Any) -> Any:
    """A column whose values are not kept apart in a dictionary."""
    return column.dictionary_decode() if hasattr(column, "dictionary_decode") else column


def _check_size(name: str, metadata: Any, wanted: Wanted, size: int) -> None:
    """Checks that the wanted columns unpack to no more than `TIMES_PACKED` the file's size.

    Raises:
        OverBudget: if they do, or where there are more rows than that.
    """
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
    unpacked = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in wanted.names)
    if max(unpacked, BYTES_OF_ROW * metadata.num_rows) > _most(size):
        raise OverBudget(
            f"{name} has {metadata.num_rows} rows of {unpacked} bytes in {size} bytes, and may unpack to {ADVICE}"
        )


def _most(size: int) -> int:
    """The most bytes that a file of a size may unpack to."""
    return max(LEAST_BYTES, TIMES_PACKED * size)
