"""Low-rank change of a linear layer: y = s x A B (LoRA; Hu et al. 2021, arXiv:2106.09685, equation 3)."""

from __future__ import annotations

from typing import Any

from numpy import ndarray as Array


def low_rank_forward(x: Array, a: Array, b: Array, scale: float) -> tuple[Array, Any]:
    """y = scale · x @ a @ b, through the r columns in the middle.

    x (N, I), a (I, r), b (r, O) -> y (N, O)
    """
    h = x @ a
    h *= scale
    return h @ b, (x, a, b, h, scale)


def low_rank_backward(dy: Array, cache: Any) -> tuple[Array, Array, Array]:
    """dy (N, O) -> dx (N, I), da (I, r), db (r, O)."""
    x, a, b, h, scale = cache
    db = h.T @ dy  # forward: h @ b
    dh = dy @ b.T  # forward: h @ b
    dh *= scale  # forward: h *= scale
    da = x.T @ dh  # forward: x @ a
    dx = dh @ a.T  # forward: x @ a
    return dx, da, db
