"""Add and norm: what closes each half of a layer, y = layer_norm(x + dropout(h))."""

from __future__ import annotations

from typing import Any

from numpy import ndarray as Array

from pyroberta.ops.dropout import dropout_backward, dropout_forward
from pyroberta.ops.layer_norm import layer_norm_backward, layer_norm_forward


def add_norm_forward(
    h: Array,
    x: Array,
    gamma: Array,
    beta: Array,
    epsilon: float,
    rate: float,
    key: tuple[int, int],
    starts: Array | None = None,
    numbers: Array | None = None,
    rows: Array | None = None,
) -> tuple[Array, Any]:
    """y = layer_norm(x + dropout(h)), after He et al. 2016 (arXiv:1512.03385) and Ba et al. 2016.

    h, x (N, C), gamma, beta (C,) -> y (N, C); `starts`, `numbers` and `rows` as for dropout.
    """
    dropped, dropout_cache = dropout_forward(h, rate, key, starts, numbers, rows)
    y, norm_cache = layer_norm_forward(x + dropped, gamma, beta, epsilon)
    return y, (dropout_cache, norm_cache)


def add_norm_backward(dy: Array, cache: Any) -> tuple[Array, Array, Array, Array]:
    """dy (N, C) -> dh, dx (N, C), dgamma, dbeta (C,); dh may be dx itself."""
    dropout_cache, norm_cache = cache
    dsum, dgamma, dbeta = layer_norm_backward(dy, norm_cache)  # forward: x + dropped, so both have this gradient
    return dropout_backward(dsum, dropout_cache), dsum, dgamma, dbeta
