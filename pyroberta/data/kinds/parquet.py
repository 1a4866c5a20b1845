"""Parquet, through pyarrow. Only the columns that are wanted are read, a group of rows at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from pyroberta.data.files import File
from pyroberta.data.kinds import Row, Wanted, check_columns

ROWS_AT_ONCE = 1024


def read(file: File, wanted: Wanted) -> Iterator[Row]:
    """The rows of a Parquet file.

    Raises:
        ImportError: without pyarrow.
        ValueError: where it is no sound Parquet file, or lacks a column, or a column is nested.
    """
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ImportError("a Parquet file takes the package pyarrow: pip install 'pyroberta[tables]'") from error
    source: Any = file.name
    if file.packed or file.opened is not None:
        source = io.BytesIO(b"".join(file.pieces()))  # which is read from its end
    try:
        with parquet.ParquetFile(source) as opened:
            schema = opened.schema_arrow
            check_columns(file.name, "Parquet", schema.names, wanted)
            for name in wanted.names:
                if pyarrow.types.is_nested(schema.field(name).type):
                    raise ValueError(
                        f"{file.name}: the column {name!r} is nested ({schema.field(name).type}), and should hold a "
                        "value a row"
                    )
            place = 0
            for batch in opened.iter_batches(batch_size=ROWS_AT_ONCE, columns=list(dict.fromkeys(wanted.names))):
                columns = [batch.column(name).to_pylist() for name in wanted.names]
                for values in zip(*columns, strict=True):
                    yield wanted.row(place, values)
                    place += 1
    except pyarrow.ArrowException as error:
        raise ValueError(f"{file.name} is no sound Parquet file: {error}") from None
