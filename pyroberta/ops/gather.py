"""Gather: rows of a matrix by number; backward adds each row's gradient to where it came from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array


class GatherCache(NamedTuple):
    """What `gather_forward` keeps for `gather_backward`."""

    rows: Array  # (M,) int
    num_rows: int  # N


def gather_forward(x: Array, rows: Array) -> tuple[Array, GatherCache]:
    """y_m = x[rows_m]; a row may be asked for more than once, or never.

    x (N, C), rows (M,) int -> y (M, C)
    """
    return x[rows], GatherCache(rows, len(x))


def gather_backward(dy: Array, cache: GatherCache) -> Array:
    """dx_n = Σ dy_m over the m with rows_m = n. dy (M, C) -> dx (N, C)."""
    rows, N = cache
    dx = np.zeros((N, dy.shape[1]), dy.dtype)  # (N, C)
    if len(rows):
        order = np.argsort(rows, kind="stable")  # (M,)  sorted and summed by runs: much faster than `np.add.at`
        used, first = np.unique(rows[order], return_index=True)  # (U,) each: the U rows read, each one's run
        dx[used] = np.add.reduceat(dy[order], first, axis=0)  # (U, C)
    return dx
