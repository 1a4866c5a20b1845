"""Feed-forward: h = gelu(x W₁ + b₁) W₂ + b₂, each token for itself (Vaswani et al. 2017, section 3.3)."""

from __future__ import annotations

from typing import NamedTuple

from numpy import ndarray as Array

from pyroberta.ops.gelu import GeluCache, gelu_backward, gelu_forward
from pyroberta.ops.linear import LinearCache, linear_backward, linear_backward_input, linear_forward


class FeedForwardCache(NamedTuple):
    """What `feed_forward_forward` keeps for `feed_forward_backward`."""

    linear_1: LinearCache  # x (N, C), kernel_1 (C, F)
    gelu: GeluCache  # slope (N, F)
    linear_2: LinearCache  # g (N, F), kernel_2 (F, C)


def feed_forward_forward(
    x: Array, kernel_1: Array, bias_1: Array, kernel_2: Array, bias_2: Array
) -> tuple[Array, FeedForwardCache]:
    """h = gelu(x @ kernel_1 + bias_1) @ kernel_2 + bias_2.

    x (N, C), kernel_1 (C, F), bias_1 (F,), kernel_2 (F, C), bias_2 (C,) -> h (N, C)
    """
    f, linear_1 = linear_forward(x, kernel_1, bias_1)  # (N, F)
    g, gelu = gelu_forward(f)  # (N, F)
    h, linear_2 = linear_forward(g, kernel_2, bias_2)  # (N, C)
    return h, FeedForwardCache(linear_1, gelu, linear_2)


def feed_forward_backward(dh: Array, cache: FeedForwardCache) -> tuple[Array, Array, Array, Array, Array]:
    """dh (N, C) -> dx (N, C), dkernel_1 (C, F), dbias_1 (F,), dkernel_2 (F, C), dbias_2 (C,)."""
    dg, dkernel_2, dbias_2 = linear_backward(dh, cache.linear_2)  # (N, F), (F, C), (C,)  forward: h = linear(g)
    df = gelu_backward(dg, cache.gelu)  # (N, F)  forward: g = gelu(f)
    dx, dkernel_1, dbias_1 = linear_backward(df, cache.linear_1)  # (N, C), (C, F), (F,)  forward: f = linear(x)
    return dx, dkernel_1, dbias_1, dkernel_2, dbias_2


def feed_forward_backward_input(dh: Array, cache: FeedForwardCache) -> Array:
    """The gradient for x alone, where all four parameters are frozen. dh (N, C) -> dx (N, C)."""
    dg = linear_backward_input(dh, cache.linear_2)  # (N, F)  forward: h = linear(g)
    df = gelu_backward(dg, cache.gelu)  # (N, F)  forward: g = gelu(f)
    return linear_backward_input(df, cache.linear_1)  # forward: f = linear(x)
