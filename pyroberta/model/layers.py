"""The ops that have parameters, called with the name of the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from numpy import ndarray as Array

from pyroberta.ops import Cache, Gradient, Key, Ops, Rows

if TYPE_CHECKING:  # the list of parameters is made of the shapes below
    from pyroberta.model.gradients import Gradients
    from pyroberta.model.parameters import Params, Shape

# The ends of the names of parameters that an ops table may prepare: pack, round or quantise. The ops that take them,
# linear and feed_forward, also take the result of the table's `prepare`.
PREPARED = (".kernel",)

NO_KEY = Key(0, 0)  # where the rate is 0, and no mask is drawn


def linear_shapes(name: str, rows: int, columns: int) -> dict[str, Shape]:
    """Returns the shapes of the parameters of a linear layer from I = `rows` to O = `columns`."""
    return {f"{name}.kernel": (rows, columns), f"{name}.bias": (columns,)}


def linear(ops: Ops, params: Params, name: str, x: Array, lora_scale: float = 1.0) -> tuple[Array, Cache]:
    """Applies a linear layer. x (N, I) -> y (N, O), with `name.kernel`, `name.bias` and the low-rank change if there is
    one.
    """
    y, cache = ops.linear_forward(x, params[f"{name}.kernel"], params[f"{name}.bias"])
    if f"{name}.lora_a" not in params:
        return y, (cache, None)
    change, change_cache = ops.low_rank_forward(x, params[f"{name}.lora_a"], params[f"{name}.lora_b"], lora_scale)
    return ops.add(y, change), (cache, change_cache)


def linear_back(ops: Ops, grads: Gradients, name: str, dy: Array, cache: Cache) -> Array:
    """dy (N, O) -> dx (N, I). Adds the gradients of the parameters that are trainable."""
    cache, change_cache = cache
    names = f"{name}.kernel", f"{name}.bias"
    dx: Array
    if grads.wants(*names):
        dx, *gradients = ops.linear_backward(dy, cache)
        _added(ops, grads, names, gradients, dx)
    else:
        dx = ops.linear_backward_input(dy, cache)
    if change_cache is None:
        return dx
    dx_of_change, *gradients = ops.low_rank_backward(dy, change_cache)
    return _added(ops, grads, (f"{name}.lora_a", f"{name}.lora_b"), gradients, ops.add(dx, dx_of_change))


def feed_forward(ops: Ops, params: Params, name: str, x: Array) -> tuple[Array, Cache]:
    """Applies a feed-forward. x (N, C) -> h (N, C), with `name.intermediate` and `name.output`."""
    return ops.feed_forward_forward(x, *(params[part] for part in _feed_forward_names(name)))


def feed_forward_back(ops: Ops, grads: Gradients, name: str, dh: Array, cache: Cache) -> Array:
    """dh (N, C) -> dx (N, C). Adds the gradients of the parameters, unless all four are frozen."""
    names = _feed_forward_names(name)
    if not grads.wants(*names):
        return ops.feed_forward_backward_input(dh, cache)
    dx, *gradients = ops.feed_forward_backward(dh, cache)
    return _added(ops, grads, names, gradients, dx)


def norm_shapes(name: str, width: int) -> dict[str, Shape]:
    """Returns the shapes of the parameters of a layer norm of C = `width` columns."""
    return {f"{name}.gamma": (width,), f"{name}.beta": (width,)}


def norm(ops: Ops, params: Params, name: str, x: Array, epsilon: float) -> tuple[Array, Cache]:
    """Applies a layer norm. x (N, C) -> y (N, C), with `name.gamma` and `name.beta`."""
    return ops.layer_norm_forward(x, params[f"{name}.gamma"], params[f"{name}.beta"], epsilon)


def norm_back(ops: Ops, grads: Gradients, name: str, dy: Array, cache: Cache) -> Array:
    """dy (N, C) -> dx (N, C). Adds the gradients of the parameters."""
    dx, *gradients = ops.layer_norm_backward(dy, cache)
    return _added(ops, grads, (f"{name}.gamma", f"{name}.beta"), gradients, dx)


def add_norm(
    ops: Ops,
    params: Params,
    name: str,
    h: Array,
    x: Array,
    epsilon: float,
    rate: float,
    key: Key,
    starts: Array,
    numbers: Array,
    rows: Rows,
) -> tuple[Array, Cache]:
    """Applies dropout to h, adds x and applies a layer norm. h, x (N, C) -> y (N, C), with `name.gamma` and
    `name.beta`.
    """
    gamma, beta = params[f"{name}.gamma"], params[f"{name}.beta"]
    return ops.add_norm_forward(h, x, gamma, beta, epsilon, rate, key, starts, numbers, rows)


def add_norm_back(ops: Ops, grads: Gradients, name: str, dy: Array, cache: Cache) -> tuple[Array, Array]:
    """dy (N, C) -> dh, dx (N, C). Adds the gradients of the parameters."""
    dh, dx, *gradients = ops.add_norm_backward(dy, cache)
    return dh, _added(ops, grads, (f"{name}.gamma", f"{name}.beta"), gradients, dx)


def _feed_forward_names(name: str) -> list[str]:
    return [f"{name}.{half}.{kind}" for half in ("intermediate", "output") for kind in ("kernel", "bias")]


def _added(ops: Ops, grads: Gradients, names: Sequence[str], gradients: Sequence[Gradient], dx: Array) -> Array:
    for name, gradient in zip(names, gradients, strict=True):
        grads.add(ops, name, gradient)
    return dx
