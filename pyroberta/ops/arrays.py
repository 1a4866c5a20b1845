"""The rows that make, move and look at arrays.

The model, the optimizers and the training step know arrays only as something that a table's rows take and give. They
ask these rows where a function of arrays alone would write `numpy.zeros`, `x[2:5]` or `numpy.isfinite`. Token ids,
starts, numbers of rows, labels and weights are NumPy arrays everywhere.

A *scalar* is a number that a row gives to another row. It may stay where the arrays are; `to_host` reads it.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy import ndarray as Array
from numpy.typing import DTypeLike

from pyroberta.ops.adam import BLOCK, squared_norm

Value = TypeVar("Value", Array, float)  # an array, or a scalar


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Returns a new array of that shape, any, filled with zeros.

    >>> zeros((2,), "float32")
    array([0., 0.], dtype=float32)
    """
    return np.zeros(shape, dtype)


def view(x: Array, start: int, stop: int, shape: tuple[int, ...]) -> Array:
    """Elements start to stop of the vector x (P,), as an array of that shape that shares x's memory.

    >>> view(np.arange(6.0), 2, 6, (2, 2))
    array([[2., 3.],
           [4., 5.]])
    """
    part: Array = x[start:stop].reshape(shape)
    return part


def copy(target: Array, source: Array) -> None:
    """target[...] = source, rounded to the target's dtype. Both arrays have one shape, any.

    >>> target = np.zeros(2)
    >>> copy(target, np.array([1.0, 2.0]))
    >>> target
    array([1., 2.])
    """
    target[...] = source


def fill(x: Array, value: float) -> None:
    """x[...] = value, in place, for x of any shape.

    >>> x = np.ones(2)
    >>> fill(x, 0.0)
    >>> x
    array([0., 0.])
    """
    x[...] = value


def add(x: Value, y: Value) -> Value:
    """Returns x + y, new: two arrays of one shape, any, or two scalars. It is the gradient of what was read twice.

    >>> add(np.array([1.0, 2.0]), np.array([0.5, 0.5]))
    array([1.5, 2.5])
    """
    total: Value = x + y
    return total


def maximum(largest: Array, x: Array) -> None:
    """largest[...] = the larger of largest and x, element by element. Both arrays have one shape, any.

    >>> largest = np.array([1.0, 4.0])
    >>> maximum(largest, np.array([3.0, 2.0]))
    >>> largest
    array([3., 4.])
    """
    np.maximum(largest, x, out=largest)


def running_mean(mean: Array, x: Array, keep: float) -> None:
    """mean[...] = keep · mean + (1 - keep) · x, of vectors (P,): a moving average of x over time. keep is in [0, 1].

    >>> mean = np.array([1.0, 2.0])
    >>> running_mean(mean, np.array([3.0, 2.0]), 0.75)
    >>> mean
    array([1.5, 2. ])
    """
    scratch = np.empty(min(BLOCK, len(x)), x.dtype)  # (BLOCK,)
    for start in range(0, len(x), BLOCK):
        mean_, x_ = mean[start : start + BLOCK], x[start : start + BLOCK]  # (BLOCK,) each
        mean_ *= float(keep)  # (BLOCK,)
        mean_ += np.multiply(x_, 1.0 - float(keep), out=scratch[: len(x_)])  # (BLOCK,)


def clip(x: Array, limit: float) -> None:
    """Brings each element of x, of any shape, into [-limit, limit], in place.

    >>> x = np.array([-3.0, 0.5])
    >>> clip(x, 1.0)
    >>> x
    array([-1. ,  0.5])
    """
    np.clip(x, -limit, limit, out=x)


def clip_scale(square: float, limit: float) -> float:
    """The factor that brings a vector whose squared norm is `square` down to the norm `limit`; 1 where it is below.

    >>> clip_scale(25.0, 1.0), clip_scale(0.25, 1.0)
    (0.2, 1.0)
    """
    norm = math.sqrt(square)
    return limit / norm if norm > limit else 1.0


def all_finite(*arrays: Array) -> bool:
    """Whether no element of any of the arrays, of any shapes, is NaN or infinite.

    A sum of squares tells in one pass over a vector, unless the sum overflows.

    >>> all_finite(np.ones(3), np.array([1.0, np.inf]))
    False
    """
    return all(math.isfinite(squared_norm(x.reshape(-1))) or bool(np.isfinite(x).all()) for x in arrays)


def to_host(x: Value) -> Value:
    """Returns an array x, of any shape, as one of NumPy's, and a scalar as one of Python's."""
    return x


def from_host(x: Array) -> Array:
    """Returns NumPy's array x, of any shape, as one of the backend's."""
    return x
