"""CUDA kernels in the simulator: rows of the backend `cuda-sim`, in several orders of blocks and threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray as Array
from within import DOUBLE, bounds_of, hold, outputs, widened

from pyroberta.backends import get_ops
from pyroberta.ops import REFERENCE, Ops
from pyroberta.oracle import bounds

# 0: forward, 1: reverse, the others are drawn. .ci/cuda.sh takes fewer under a sanitizer.
ORDERS = range(int(os.environ.get("PYROBERTA_CUDA_ORDERS", "5")))


PRECISIONS = ["float32", "mixed_bfloat16"]


def simulated(precision: str = "float32") -> Ops:
    """The ops table."""
    return get_ops("cuda-sim", precision)


def extension() -> Any:
    """The extension `_cuda_sim`, whose functions change the simulator."""
    return simulated().zeros.__self__.cuda


def on_device(value: Any) -> Any:
    """NumPy's arrays of floats as arrays on the device; anything else as it is."""
    is_floats = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return simulated().from_host(value) if is_floats else value


def on_host(value: Any) -> Any:
    """Arrays on the device as NumPy's, also in tuples; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(map(on_host, value))
    return simulated().to_host(value) if isinstance(value, extension().Array) else value


def in_every_order(run: Callable[[], Any]) -> list[Array]:
    """What `run` gives, as arrays of the host: the same bits in each order of blocks and threads."""
    found = []
    for order in ORDERS:
        extension().set_order(order)
        results = on_host(run())
        found.append([np.asarray(x) for x in (results if isinstance(results, tuple) else (results,))])
    extension().set_order(0)
    for order, results in zip(ORDERS, found, strict=True):
        for i, (one, other) in enumerate(zip(results, found[0], strict=True)):
            assert one.tobytes() == other.tobytes(), f"result {i} has other bits in order {order} than in order 0"
    return found[0]


def check(
    op: str,
    arguments: list[Any],
    dy: Array,
    shapes: dict[int, tuple[int, ...]] | None = None,
    precision: str = "float32",
) -> None:
    """Holds what forward and backward give to the bounds of the precision. `shapes` has those of the parameters'
    gradients, by the number of the result.
    """
    shapes, ops = shapes or {}, simulated(precision)

    def run() -> tuple[Any, ...]:
        y, cache = getattr(ops, f"{op}_forward")(*map(on_device, arguments))
        found = getattr(ops, f"{op}_backward")(on_device(dy), cache)
        found = list(found) if isinstance(found, tuple) else [found]
        for i, shape in shapes.items():
            found[i] = ops.accumulate(ops.zeros(shape, "float32"), found[i])
        return y[0] if isinstance(y, tuple) else y, *found

    found = in_every_order(run)
    with np.errstate(under="ignore"):
        wide, wide_dy = [widened(argument) for argument in arguments], widened(dy)
        exact = outputs(REFERENCE, op, wide, wide_dy, shapes)
        limits = bounds.Arithmetic(precision)
        singles, doubles = bounds_of(op, arguments, dy, limits), bounds_of(op, arguments, dy, DOUBLE)
    for (name, single), double, one, true in zip(singles.items(), doubles.values(), found, exact, strict=True):
        assert one.dtype == np.float32, (op, name)
        hold(f"{op}: {name}", one, true, single + double)
