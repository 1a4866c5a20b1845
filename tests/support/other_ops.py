"""Tables of ops: one with a broken row, and one whose arrays only its own rows can read, as those of a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from pyroberta.ops import REFERENCE, Ops

OPERATORS = (
    *("add", "radd", "iadd", "sub", "rsub", "isub", "mul", "rmul", "imul", "truediv", "rtruediv", "itruediv"),
    *("matmul", "rmatmul", "pow", "rpow", "neg", "abs", "invert", "and", "or", "lt", "le", "eq", "ne", "gt", "ge"),
    *("getitem", "setitem", "iter", "len", "bool", "float", "int", "index", "contains"),
    *("array", "array_ufunc", "array_function"),
)


def broken(row: str, call: int, which: int = 0) -> Ops:
    """A table in which one call of one op gives a NaN."""
    calls = 0

    def wrap(name, op):
        def wrapped(*args):
            nonlocal calls
            result = op(*args)
            if name == row:
                calls += 1
                if (calls - 1) % period == call:
                    value = result[0] if name.endswith("_forward") else result
                    value = value[which] if isinstance(value, tuple) else value
                    value.flat[0] = np.nan
            return result

        return wrapped

    period = {"linear_forward": 9, "linear_backward": 9, "gelu_backward": 1, "add_norm_backward": 4}.get(row, 2)
    return REFERENCE.wrapped(wrap)


class Opaque:
    """An array, or a scalar, of which only shape and dtype are known; everything else raises."""

    __slots__ = ("_kept", "dtype", "shape")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, kept: Any) -> None:
        self._kept = kept
        self.shape, self.dtype = np.shape(kept), np.asarray(kept).dtype


def refusing(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise TypeError(f"{name} of an array that belongs to the backend")

    return refuse


for operator in OPERATORS:
    setattr(Opaque, f"__{operator}__", refusing(f"__{operator}__"))


def opened(value: Any) -> Any:
    """What a row of REFERENCE takes."""
    return value._kept if isinstance(value, Opaque) else value


def closed(value: Any) -> Any:
    """What the model gets of a row's result."""
    if isinstance(value, tuple):
        return tuple(map(closed, value))
    is_number = isinstance(value, np.ndarray | np.generic | bool | float)
    return Opaque(value) if is_number else value


def opaque_ops(ops: Ops = REFERENCE) -> Ops:
    """The table's rows, for opaque arrays. Caches pass as they are."""

    def hidden(name: str, row: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            result = row(*map(opened, arguments))
            if name == "to_host":
                return result
            if name.endswith("_forward"):
                return closed(result[0]), result[1]
            return closed(result)

        return call

    return ops.wrapped(hidden)
