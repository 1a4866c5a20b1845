"""Linear layer: y = x W + b."""

from __future__ import annotations

from typing import Any

from numpy import ndarray as Array


def prepare(kernel: Array) -> Any:
    """What the forwards here and in `feed_forward` take in place of a kernel that will stay as it is: here, itself."""
    return kernel


def linear_forward(x: Array, kernel: Array, bias: Array) -> tuple[Array, Any]:
    """y = x @ kernel + bias.

    x (N, I), kernel (I, O), bias (O,) -> y (N, O)
    """
    y = x @ kernel
    y += bias
    return y, (x, kernel)


def linear_backward(dy: Array, cache: Any) -> tuple[Array, Array, Array]:
    """dy (N, O) -> dx (N, I), dkernel (I, O), dbias (O,)."""
    x, _ = cache
    dkernel = x.T @ dy  # forward: x @ kernel
    dbias = dy.sum(axis=0)  # forward: y += bias
    return linear_backward_input(dy, cache), dkernel, dbias


def linear_backward_input(dy: Array, cache: Any) -> Array:
    """The gradient for x alone, for a layer whose kernel and bias are frozen. dy (N, O) -> dx (N, I)."""
    _, kernel = cache
    dx: Array = dy @ kernel.T  # forward: x @ kernel
    return dx
