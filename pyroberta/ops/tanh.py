"""The hyperbolic tangent."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array


class TanhCache(NamedTuple):
    """What `tanh_forward` keeps for `tanh_backward`."""

    y: Array  # (M, C)


def tanh_forward(x: Array) -> tuple[Array, TanhCache]:
    """y = tanh(x) = (eˣ - e⁻ˣ) / (eˣ + e⁻ˣ).

    x (M, C) -> y (M, C). The cache holds y: the slope follows from it alone.
    """
    y: Array = np.tanh(x)  # (M, C)
    return y, TanhCache(y)


def tanh_backward(dy: Array, cache: TanhCache) -> Array:
    """dy (M, C) -> dx (M, C)."""
    dx: Array = dy * (1.0 - cache.y * cache.y)  # (M, C)  tanh' = 1 - tanh²
    return dx
