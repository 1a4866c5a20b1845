"""The two ops that have parameters of their own, called by the parameters' name."""

from __future__ import annotations

from numpy import ndarray as Array

from pyroberta.model.gradients import Gradients
from pyroberta.model.params import Arrays
from pyroberta.ops import Cache, Ops


def linear(ops: Ops, params: Arrays, name: str, x: Array) -> tuple[Array, Cache]:
    """x (N, I) -> y (N, O), through `name.kernel` and `name.bias`."""
    return ops.linear_forward(x, params[f"{name}.kernel"], params[f"{name}.bias"])


def linear_back(ops: Ops, grads: Gradients, name: str, dy: Array, cache: Cache) -> Array:
    """dy (N, O) -> dx (N, I); adds the parameters' gradients, unless both are frozen."""
    if not grads.wants(f"{name}.kernel", f"{name}.bias"):
        return ops.linear_backward_input(dy, cache)
    dx, dkernel, dbias = ops.linear_backward(dy, cache)
    grads.add(f"{name}.kernel", dkernel)
    grads.add(f"{name}.bias", dbias)
    return dx


def norm(ops: Ops, params: Arrays, name: str, x: Array, epsilon: float) -> tuple[Array, Cache]:
    """x (N, C) -> y (N, C), through `name.gamma` and `name.beta`."""
    return ops.layer_norm_forward(x, params[f"{name}.gamma"], params[f"{name}.beta"], epsilon)


def norm_back(ops: Ops, grads: Gradients, name: str, dy: Array, cache: Cache) -> Array:
    """dy (N, C) -> dx (N, C); adds the parameters' gradients."""
    dx, dgamma, dbeta = ops.layer_norm_backward(dy, cache)
    grads.add(f"{name}.gamma", dgamma)
    grads.add(f"{name}.beta", dbeta)
    return dx
