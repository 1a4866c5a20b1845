"""Low-rank change of a linear layer: y = s x A B (LoRA; Hu et al. 2021, arXiv:2106.09685, equation 3)."""

from __future__ import annotations

from typing import NamedTuple

from numpy import ndarray as Array


class LowRankCache(NamedTuple):
    """What `low_rank_forward` keeps for `low_rank_backward`."""

    x: Array  # (N, I)
    a: Array  # (I, r)
    b: Array  # (r, O)
    h: Array  # (N, r), scale · x @ a
    scale: float


def low_rank_forward(x: Array, a: Array, b: Array, scale: float) -> tuple[Array, LowRankCache]:
    """y = scale · x @ a @ b, through the r columns in the middle.

    x (N, I), a (I, r), b (r, O) -> y (N, O)
    """
    h = x @ a  # (N, r)
    h *= scale  # (N, r)
    return h @ b, LowRankCache(x, a, b, h, scale)


def low_rank_backward(dy: Array, cache: LowRankCache) -> tuple[Array, Array, Array]:
    """dy (N, O) -> dx (N, I), da (I, r), db (r, O)."""
    x, a, b, h, scale = cache
    db = h.T @ dy  # (r, O)  forward: h @ b
    dh = dy @ b.T  # (N, r)  forward: h @ b
    dh *= scale  # (N, r)  forward: h *= scale
    da = x.T @ dh  # (I, r)  forward: x @ a
    dx = dh @ a.T  # (N, I)  forward: x @ a
    return dx, da, db
