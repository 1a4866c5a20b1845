"""Feed-forward: h = gelu(x W₁ + b₁) W₂ + b₂, each token for itself (Vaswani et al. 2017, section 3.3)."""

from __future__ import annotations

from typing import Any

from numpy import ndarray as Array

from pyroberta.ops.gelu import gelu_backward, gelu_forward
from pyroberta.ops.linear import linear_backward, linear_backward_input, linear_forward


def feed_forward_forward(x: Array, kernel_1: Array, bias_1: Array, kernel_2: Array, bias_2: Array) -> tuple[Array, Any]:
    """h = gelu(x @ kernel_1 + bias_1) @ kernel_2 + bias_2.

    x (N, C), kernel_1 (C, F), bias_1 (F,), kernel_2 (F, C), bias_2 (C,) -> h (N, C)
    """
    f, cache_1 = linear_forward(x, kernel_1, bias_1)
    g, slope = gelu_forward(f)
    h, cache_2 = linear_forward(g, kernel_2, bias_2)
    return h, (cache_1, slope, cache_2)


def feed_forward_backward(dh: Array, cache: Any) -> tuple[Array, Array, Array, Array, Array]:
    """dh (N, C) -> dx (N, C) and the gradients of kernel_1, bias_1, kernel_2, bias_2."""
    cache_1, slope, cache_2 = cache
    dg, dkernel_2, dbias_2 = linear_backward(dh, cache_2)  # forward: h = linear(g)
    df = gelu_backward(dg, slope)  # forward: g = gelu(f)
    dx, dkernel_1, dbias_1 = linear_backward(df, cache_1)  # forward: f = linear(x)
    return dx, dkernel_1, dbias_1, dkernel_2, dbias_2


def feed_forward_backward_input(dh: Array, cache: Any) -> Array:
    """The gradient for x alone, where all four parameters are frozen. dh (N, C) -> dx (N, C)."""
    cache_1, slope, cache_2 = cache
    return linear_backward_input(gelu_backward(linear_backward_input(dh, cache_2), slope), cache_1)
