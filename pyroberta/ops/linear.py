"""Linear layer: y = x W + b."""

from __future__ import annotations

from typing import NamedTuple

from numpy import ndarray as Array


class LinearCache(NamedTuple):
    """What `linear_forward` keeps for `linear_backward`."""

    x: Array  # (N, I)
    kernel: Array  # (I, O)


def prepare(kernel: Array) -> Array:
    """What the forwards here and in `feed_forward` take in place of a kernel that stays as it is: here, the kernel.

    kernel (I, O) -> the same array
    """
    return kernel


def linear_forward(x: Array, kernel: Array, bias: Array) -> tuple[Array, LinearCache]:
    """y = x @ kernel + bias.

    x (N, I), kernel (I, O), bias (O,) -> y (N, O)
    """
    y = x @ kernel  # (N, O)
    y += bias  # (N, O)
    return y, LinearCache(x, kernel)


def linear_backward(dy: Array, cache: LinearCache) -> tuple[Array, Array, Array]:
    """dy (N, O) -> dx (N, I), dkernel (I, O), dbias (O,)."""
    dkernel = cache.x.T @ dy  # (I, O)  forward: x @ kernel
    dbias = dy.sum(axis=0)  # (O,)  forward: y += bias
    return linear_backward_input(dy, cache), dkernel, dbias


def linear_backward_input(dy: Array, cache: LinearCache) -> Array:
    """The gradient for x alone, for a layer whose kernel and bias are frozen. dy (N, O) -> dx (N, I)."""
    dx: Array = dy @ cache.kernel.T  # (N, I)  forward: x @ kernel
    return dx
