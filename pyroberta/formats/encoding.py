"""Numbers on their way out into a file: cast to what it stores, some rows at a time.

The counterpart of stored.py. There is never a second copy of a tensor, let alone of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyroberta.formats.stored import BLOCK, NUMPY_TYPES, refuse_non_finite, widened

# What weights can be stored as, and the name that safetensors has for it.
CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}


def numpy_name(dtype: Any) -> str:
    """A dtype's name: a text as it is, that of NumPy's dtypes and types; "" for anything else.

    `np.dtype` would take None for float64, and "float" and Python's `float` too.

    >>> numpy_name("float32"), numpy_name(np.float64), numpy_name(None), numpy_name(float)
    ('float32', 'float64', '', '')
    """
    if isinstance(dtype, str):
        return dtype
    is_numpy = isinstance(dtype, np.dtype) or (isinstance(dtype, type) and issubclass(dtype, np.generic))
    try:
        return np.dtype(dtype).name if is_numpy else ""
    except TypeError:  # an abstract type, such as np.floating
        return ""


def dtype_name(dtype: DTypeLike | str) -> str:
    """The name of a dtype that weights can be stored as.

    Args:
        dtype: one of the names in `CODES`, or NumPy's dtype or type of such a name. Python's `float` and other names,
            such as "half", are refused: what they mean depends on who reads them.

    Raises:
        ValueError: for another one.

    >>> dtype_name(np.float16), dtype_name("bfloat16")
    ('float16', 'bfloat16')
    """
    name = numpy_name(dtype)
    if name not in CODES:
        raise ValueError(f"dtype must be one of {', '.join(CODES)}, got {dtype!r}")
    return name


def stored_type(dtype: str) -> np.dtype[Any]:
    """How NumPy sees that dtype in a file; bfloat16, which NumPy lacks, as its bits.

    >>> stored_type("bfloat16"), stored_type("float32").itemsize
    (dtype('uint16'), 4)
    """
    return np.dtype(NUMPY_TYPES[CODES[dtype]])


def encoded(values: NDArray[Any], dtype: str, name: str) -> Iterator[NDArray[Any]]:
    """The rows of `values` as a file stores them, some at a time.

    Args:
        values: of any shape and layout; a number alone counts as a row.
        dtype: one of `CODES`.
        name: of the parameter, for messages.

    Yields:
        Contiguous arrays of `stored_type(dtype)`, which laid end to end along the first axis are `values`.

    Raises:
        ValueError: where a value isn't finite, or is too large for the dtype.

    >>> [block.tolist() for block in encoded(np.array([1.0, -2.0]), "bfloat16", "a")] == [[0x3F80, 0xC000]]
    True
    """
    rows = values if values.ndim else values.reshape(1)
    step = max(1, BLOCK // max(1, rows[:1].size))
    for start in range(0, len(rows), step):
        block = _cast(rows[start : start + step], dtype)
        if not np.isfinite(widened(block, CODES[dtype])).all():
            whole = widened(_cast(values, dtype), CODES[dtype])
            refuse_non_finite(whole, f"parameter {name!r} as {dtype}", "It was not saved")
        yield block


def _cast(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        return to_bfloat16(values) if dtype == "bfloat16" else np.asarray(values, stored_type(dtype), order="C")


def to_bfloat16(values: NDArray[Any]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16 to each value, of two equally near ones the even; too large becomes infinite.

    bfloat16 is the upper half of a float32, so its lower half decides: above 0x8000 up, below down. A float64 is
    rounded to float32 first; where that ends just in the middle, the float64 tells on which side it was.

    >>> [hex(bits) for bits in to_bfloat16(np.array([1.0, 1.00390625, 1.01171875]))]  # the last two: in the middle
    ['0x3f80', '0x3f80', '0x3f82']
    >>> hex(to_bfloat16(np.array([1.00390625 + 1e-12]))[0])
    '0x3f81'
    """
    narrow = np.array(values, np.float32, order="C")  # a copy: it is changed
    bits = narrow.view(np.uint32)
    if values.dtype == np.float64:
        wide, near = np.abs(values), np.abs(narrow.astype(np.float64))
        is_middle = (bits & 0xFFFF) == 0x8000
        bits += is_middle & (wide > near)
        bits -= is_middle & (wide < near)
    bits += 0x7FFF + ((bits >> 16) & 1)
    return (bits >> 16).astype(np.uint16)
