"""Add and norm: what closes each half of a layer, y = layer_norm(x + dropout(h))."""

from __future__ import annotations

from typing import NamedTuple

from numpy import ndarray as Array

from pyroberta.ops.dropout import DropoutCache, dropout_backward, dropout_forward
from pyroberta.ops.layer_norm import LayerNormCache, layer_norm_backward, layer_norm_forward


class AddNormCache(NamedTuple):
    """What `add_norm_forward` keeps for `add_norm_backward`."""

    dropout: DropoutCache | None  # the mask's key, starts (B+1,), numbers (B,), rows (N,); None at a rate of 0
    norm: LayerNormCache  # x_hat (N, C), inverse_std (N,), gamma (C,)


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
) -> tuple[Array, AddNormCache]:
    """y = layer_norm(x + dropout(h)), after He et al. 2016 (arXiv:1512.03385) and Ba et al. 2016.

    h, x (N, C), gamma, beta (C,) -> y (N, C); `starts`, `numbers` and `rows` as for dropout.
    """
    dropped, dropout_cache = dropout_forward(h, rate, key, starts, numbers, rows)  # (N, C)
    y, norm_cache = layer_norm_forward(x + dropped, gamma, beta, epsilon)  # (N, C)
    return y, AddNormCache(dropout_cache, norm_cache)


def add_norm_backward(dy: Array, cache: AddNormCache) -> tuple[Array, Array, Array, Array]:
    """dy (N, C) -> dh, dx (N, C), dgamma, dbeta (C,); dh may be dx itself."""
    dsum, dgamma, dbeta = layer_norm_backward(dy, cache.norm)  # (N, C), (C,), (C,)  forward: y = layer_norm(sum)
    dx = ddropped = dsum  # (N, C)  forward: sum = x + dropped, so both terms have this gradient
    dh = dropout_backward(ddropped, cache.dropout)  # (N, C)  forward: dropped = dropout(h)
    return dh, dx, dgamma, dbeta
