"""The reference of the precision `"mixed_bfloat16"`: NumPy's rows of the ops table, on arrays that round the factors of
products.

bfloat16 is the upper half of a float32: its sign, its eight bits of exponent, and seven of its mantissa. Hardware that
multiplies bfloat16 numbers adds the products up in float32. This module does the same: it rounds both factors of
`np.matmul` to the nearest bfloat16 (ties to even) and keeps them as float32, so that NumPy's product is one in float32.
Everything else stays in float32, the sums of `einsum` too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyroberta.ops import REFERENCE, Ops


def rounded_to_bfloat16(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns each number rounded to the nearest bfloat16, as float32. A tie goes to the bfloat16 whose last bit is 0.
    NaN stays NaN. A number beyond bfloat16's range becomes infinite.

    >>> x = np.array([1.0, 1.0 + 2**-8, 1.0 + 3 * 2**-8], np.float32)  # the last two lie in the middle
    >>> rounded_to_bfloat16(x).tolist()
    [1.0, 1.0, 1.015625]
    """
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    nearest = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    rounded = (nearest & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(x), x, rounded)


class RoundingArray(np.ndarray[Any, np.dtype[Any]]):
    """A float32 array whose numbers `np.matmul` rounds to bfloat16 before it multiplies."""

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: tuple[Any, ...] = (), **options: Any
    ) -> Any:
        """Calls the ufunc on plain arrays; what it gives is wrapped again."""
        plain = [_plain(x) for x in inputs]
        if ufunc is np.matmul:
            plain = [rounded_to_bfloat16(x) for x in plain]
        if out:
            options["out"] = tuple(_plain(x) for x in out)
        result = getattr(ufunc, method)(*plain, **options)
        return out[0] if out else _wrapped(result)


def _plain(x: Any) -> Any:
    return x.view(np.ndarray) if isinstance(x, RoundingArray) else x


def _wrapped(x: Any) -> Any:
    return x.view(RoundingArray) if type(x) is np.ndarray and x.dtype == np.float32 else x


@cache
def bfloat16_ops() -> Ops:
    """Returns NumPy's ops table for `"mixed_bfloat16"`. Arguments and results are plain float32 arrays. Caches may hold
    `RoundingArray`s.
    """

    def rounding(name: str, row: Callable[..., Any]) -> Callable[..., Any]:
        in_place = name in ("accumulate", "adam_step")

        @wraps(row)
        def call(*arguments: Any) -> Any:
            result = row(*(arguments if in_place else map(_wrapped, arguments)))
            value, *cache = result if name.endswith("_forward") else (result,)
            value = tuple(map(_plain, value)) if isinstance(value, tuple) else _plain(value)
            return (value, *cache) if cache else value

        return call

    return replace(REFERENCE.wrapped(rounding), name="numpy mixed_bfloat16")
