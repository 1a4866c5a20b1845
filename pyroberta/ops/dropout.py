"""Dropout (Srivastava et al. 2014) from a counter-based generator, so that no mask is ever stored.

Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") maps (key, counter) to random bits without
any state. A mask is a function of its key: forward draws it, backward draws it again, and another backend, on another
machine and with any number of threads, draws the same one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray as Array

Key = tuple[int, int]  # the two 64-bit words of Philox4x64-10's key: the run's seed; the step and the site in it


def keep_mask(key: Key, stream: int, shape: tuple[int, ...], rate: float) -> Array:
    """Which elements survive: element i where the i-th 32-bit word of the stream is at least rate · 2³².

    Args:
        key: two numbers in [0, 2⁶⁴).
        stream: the counter's third word, in [0, 2⁶⁴): one key has many independent streams.
        shape: the mask's; elements are counted in C order.
        rate: the probability of False, in [0, 1).

    Returns:
        bool, of that shape. Words come as NumPy's `Philox` gives them: 64-bit outputs, low half first.

    >>> keep_mask((7, 1), 0, (4,), 0.5).tolist() == keep_mask((7, 1), 0, (2, 2), 0.5).ravel().tolist()
    True
    """
    size = int(np.prod(shape, dtype=np.int64))
    counter = np.array([0, 0, stream, 0], np.uint64)
    philox = np.random.Philox(key=np.array(key, np.uint64), counter=counter)
    words = philox.random_raw((size + 1) // 2).astype("<u8", copy=False).view("<u4")[:size]
    keep: Array = words >= np.uint32(min(round(rate * 2**32), 2**32 - 1))
    return keep.reshape(shape)


def dropout_forward(x: Array, rate: float, key: Key, rows: Array | None = None) -> tuple[Array, Any]:
    """y = x · keep / (1 - rate): what survives is scaled up, so that the expectation stays.

    x (N, C) -> y (N, C); a rate of 0 returns x itself. Where x is a choice of a taller array's rows, `rows` (N,) has
    their numbers, rising, and each meets the mask that it would meet there.
    """
    if rate == 0.0:
        return x, None
    return _apply(x, rate, key, rows), (rate, key, rows)


def dropout_backward(dy: Array, cache: Any) -> Array:
    """dy (N, C) -> dx (N, C), through the same mask, drawn again from the key."""
    if cache is None:
        return dy
    return _apply(dy, *cache)  # forward: y = x · keep / (1 - rate)


def _apply(x: Array, rate: float, key: Key, rows: Array | None) -> Array:
    if rows is None:
        keep = keep_mask(key, 0, x.shape, rate)
    else:
        keep = keep_mask(key, 0, (int(rows.max(initial=-1)) + 1, x.shape[1]), rate)[rows]
    y: Array = x * keep
    y *= 1.0 / (1.0 - rate)
    return y
