"""NumPy's files: .npy, which holds one array, and .npz, which is a zip of .npy files. NumPy's own reader is not used,
since it may unpickle.

An .npy file begins with b"\\x93NUMPY", a version, and a line of Python that has dtype, order and shape. The numbers
follow. The line is read as a literal. Arrays of objects, texts, dates, records and complex numbers are refused.

Source: numpy/lib/format.py of NumPy 2.4.
"""

from __future__ import annotations

import math
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pyroberta.formats.budget import Budget, OverBudget, clipped, shown
from pyroberta.formats.stored import FileBytes, open_bytes
from pyroberta.formats.zips import DAMAGE, Source, entries_of, entry, is_zip

MAGIC, LONGEST_HEADER, MOST_AXES = b"\x93NUMPY", 10_000, 16
VERSIONS = ((1, 0), (2, 0))  # 3.0 is for names of fields, which arrays of numbers don't have
MOST_ENTRIES = 100_000  # of an .npz: a trace of roberta-large has 10,000 tensors


def read_npy(file: Path) -> NDArray[Any]:
    """Returns the array in an .npy file.

    Raises:
        FileNotFoundError, ValueError: if the file does not exist, is damaged, or is of another kind.
    """
    return _array(f"{file}", open_bytes(file))


def read_npz(file: Path) -> dict[str, Callable[[], NDArray[Any]]]:
    """Returns a function for each array of an .npz file, by name. The function reads the array.

    All compressed arrays together may take the memory of one file's budget; see `budget`.

    Raises:
        ValueError: if the file is damaged, is not an .npz file, or has a name twice. If an array is damaged, the error
            comes when it is read.
        OverBudget: if the file would take too much memory or time. For an array, the error comes when it is read.
    """
    file_bytes = open_bytes(file)
    if not is_zip(file_bytes):
        raise ValueError(f"{file} is not an .npz file, which is a zip. Was it cut short?")
    budget = Budget(file, file_bytes.size, items=MOST_ENTRIES)
    try:
        found: dict[str, Callable[[], NDArray[Any]]] = {}
        for info in entries_of(file_bytes, budget):
            name = info.filename.removesuffix(".npy")
            if name == info.filename:
                raise ValueError(f"{file} is not an .npz file: its entry {shown(name)} is not an .npy file")
            if name in found:
                raise ValueError(f"{file} has the array {shown(name)} twice")
            found[name] = _Entry(f"{file}: {clipped(name)}", entry(file, file_bytes, info, budget))
    except DAMAGE as error:
        raise ValueError(f"{file} is damaged: {clipped(str(error)) or type(error).__name__}") from None
    return found


@dataclass(frozen=True)
class _Entry:
    """What reads an array of an .npz."""

    name: str
    source: Source

    def __call__(self) -> NDArray[Any]:
        try:
            return _array(self.name, self.source() if callable(self.source) else self.source)
        except OverBudget as error:
            raise OverBudget(
                f"{error}. Save it with np.savez, which does not compress: such arrays may have any size"
            ) from None


def _array(name: str, content: FileBytes | NDArray[np.uint8]) -> NDArray[Any]:
    begin = _bytes(content[: LONGEST_HEADER + 12]).tobytes()
    if begin[:6] != MAGIC or len(begin) < 10:
        raise ValueError(f"{name} is not an .npy file: it begins with {shown(begin[:6])}, expected {MAGIC!r}")
    if tuple(begin[6:8]) not in VERSIONS:
        raise ValueError(f"{name} is of .npy's version {begin[6]}.{begin[7]}; only 1.0 and 2.0 can be read")
    stream = BytesIO(begin)
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_columns, dtype = read(stream, max_header_size=LONGEST_HEADER)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise ValueError(f"{name} is damaged: its header can't be read ({clipped(str(error))})") from None
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(
            f"{name} is an array of {clipped(str(dtype))}; only whole and real numbers of at most 64 bits can be read. "
            "Save numbers as float32, and leave out anything else"
        )
    if len(shape) > MOST_AXES or not all(type(n) is int and 0 <= n < 1 << 62 for n in shape):
        raise ValueError(f"{name} is damaged: its shape is {shown(shape)}")
    start, size = stream.tell(), math.prod(shape) * dtype.itemsize
    if content.size - start != size:
        raise ValueError(
            f"{name} is damaged or cut short: {shown(shape)} of {dtype} takes {size} bytes, but {content.size - start} "
            "follow the header"
        )
    numbers = _bytes(content[start:]).view(dtype) if size else np.zeros(0, dtype)
    return numbers.reshape(shape, order="F" if by_columns else "C").astype(dtype.newbyteorder("="), copy=False)


def _bytes(content: FileBytes | NDArray[np.uint8]) -> NDArray[np.uint8]:
    return content.read() if isinstance(content, FileBytes) else content
