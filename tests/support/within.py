"""An op's results held to float64's, number by number, within the bounds of `pyroberta.oracle.bounds`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.ops import Ops
from pyroberta.oracle import bounds

SINGLE, DOUBLE = bounds.Arithmetic("float32"), bounds.Arithmetic("float64")


def outputs(ops: Ops, op: str, arguments: list[Any], dy: Any, shapes: dict[int, tuple[int, ...]]) -> list[Array]:
    """What forward and backward give, all that is real, as arrays. `shapes` has those of the parameters' gradients."""
    y, cache = getattr(ops, f"{op}_forward")(*arguments)
    found = getattr(ops, f"{op}_backward")(dy, cache)
    found = list(found) if isinstance(found, tuple) else [found]
    for i, shape in shapes.items():
        found[i] = ops.accumulate(np.zeros(shape, dy.dtype), found[i])
    return [y[0] if isinstance(y, tuple) else y, *found]


def widened(value: Any) -> Any:
    return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value


def bounds_of(op: str, arguments: list[Any], dy: Any, precision: bounds.Arithmetic = SINGLE) -> bounds.Bounds:
    """By the result's name; the arguments may be float32."""
    found: bounds.Bounds = getattr(bounds, op)(precision, *map(widened, arguments), dy=widened(dy))
    return found


def beyond(found: Array, true: Array, bound: Array) -> Array:
    """Where `found` is further from `true` than `bound`, or not a number."""
    outside: Array = ~(np.abs(np.asarray(found, np.float64) - true) <= bound)
    return outside


def hold(name: str, found: Array, true: Array, bound: Array) -> None:
    """Every number of `found` is within its bound."""
    found, true, bound = np.asarray(found), np.asarray(true), np.asarray(bound)
    assert found.shape == true.shape == bound.shape, f"{name}: shapes {found.shape}, {true.shape}, {bound.shape}"
    if (outside := beyond(found, true, bound)).any():
        with np.errstate(all="ignore"):
            excess = np.where(outside, np.abs(found - true) / bound, 0.0)
        worst = np.unravel_index(np.argmax(np.where(np.isnan(excess), np.inf, excess)), true.shape)
        at = tuple(int(i) for i in worst)
        raise AssertionError(
            f"{name}: {outside.sum()} of {true.size} numbers are beyond their bounds; at {at} it has {found[worst]!r}, "
            f"the reference {true[worst]!r}, an error of {excess[worst]:.3g} times the bound {bound[worst]:.3e}"
        )
