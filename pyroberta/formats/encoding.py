"""Conversion of numbers to the dtype that a file stores, some rows at a time. stored.py does the reverse.

No second copy of a tensor, or of the model, is ever in memory.
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
    """Returns the name of a dtype. A text is returned as it is. The result is "" for anything but a text, a dtype of
    NumPy or a type of NumPy.

    `np.dtype` would turn None, "float" and Python's `float` into float64.

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


def stored_dtype_name(dtype: DTypeLike | str) -> str:
    """Returns the name of a dtype in which weights can be stored.

    Args:
        dtype: one of the names in `CODES`, or NumPy's dtype or type of one of these names. Python's `float` and other
            names, such as "half", are refused, since their meaning differs between libraries.

    Raises:
        ValueError: if the dtype is another one.

    >>> stored_dtype_name(np.float16), stored_dtype_name("bfloat16")
    ('float16', 'bfloat16')
    """
    name = numpy_name(dtype)
    if name not in CODES:
        raise ValueError(f"dtype must be one of {', '.join(CODES)}, got {dtype!r}")
    return name


def stored_type(dtype: str) -> np.dtype[Any]:
    """Returns NumPy's dtype for that dtype in a file. For bfloat16, which NumPy lacks, it is the dtype of the bits.

    >>> stored_type("bfloat16"), stored_type("float32").itemsize
    (dtype('uint16'), 4)
    """
    return np.dtype(NUMPY_TYPES[CODES[dtype]])


def encoded(values: NDArray[Any], dtype: str, name: str) -> Iterator[NDArray[Any]]:
    """Yields the rows of `values` in the form in which a file stores them, some rows at a time.

    Args:
        values: an array of any shape and layout. A single number counts as a row.
        dtype: one of `CODES`.
        name: the name of the parameter, for messages.

    Yields:
        Contiguous arrays of `stored_type(dtype)`. Concatenated along the first axis they are `values`.

    Raises:
        ValueError: if a value is not finite, or is too large for the dtype.

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
    """Returns the bits of the bfloat16 nearest to each value. A tie goes to the even bfloat16. A value that is too
    large becomes infinite.

    bfloat16 is the upper half of a float32. The lower half decides: above 0x8000 the value is rounded up, below it is
    rounded down. A float64 is rounded to float32 first. If that is exactly in the middle, the float64 decides on which
    side it is.

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
