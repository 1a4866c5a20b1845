"""Recognizes an op of RoBERTa in a function, by its result, and names the known mistake in a gradient of the function.

`check_backward` knows only a function and its arguments. If an op of the catalogue (`oracle/causes.py`) gives the same
result for the same arguments, the catalogue's wrong gradients are compared with the function's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.oracle.causes import BACKWARD, EPSILONS, causes_of
from pyroberta.oracle.plain import PLAIN

SAME = 1e-9  # times the largest number of y: the largest difference of the results of one op
MOST_HEADS = 64  # the largest number of heads that is tried


def known_mistakes(args: Sequence[Array], y: Array, dy: Array, number: int) -> Iterator[tuple[str, Array]]:
    """Yields the known wrong gradients of one argument, each with the mistake in words.

    Args:
        args: the arguments of the function, float64 arrays. Rows may lie along several axes, as in (B, S, C).
        y: the result of the function.
        dy: the gradient of the result, in its shape.
        number: the number of the argument, from 0.

    Yields:
        Pairs of the mistake and a gradient in the argument's shape. There are none if the function is no known op.
    """
    for op, names, arguments in _recognized(args, y):
        name = names[number]
        for cause in causes_of(op, {**arguments, "dy": _rows(dy)}):
            gradient = cause.values({**arguments, "dy": _rows(dy)}).get(name)
            if gradient is not None:
                yield cause.name, np.asarray(gradient).reshape(args[number].shape)


def _recognized(args: Sequence[Array], y: Array) -> Iterator[tuple[str, Sequence[str], Mapping[str, Any]]]:
    """Each op that gives y, with the names of `args` and all arguments."""
    for op in BACKWARD:
        names = PLAIN[op].arguments[: len(args)]
        for others in _others(op, args):
            arguments = {**dict(zip(names, map(_rows, args), strict=True)), **others}
            if set(arguments) == set(PLAIN[op].arguments) and _gives(op, arguments, y):
                yield op, names, arguments


def _others(op: str, args: Sequence[Array]) -> Iterator[dict[str, Any]]:
    """The arguments of an op that the function has in a closure, in each way that is tried."""
    x = args[0]
    if not x.ndim or len(args) > len(PLAIN[op].arguments):
        return
    if op in ("gelu", "feed_forward"):
        yield {}
    elif op == "layer_norm":
        plain = {"gamma": np.ones(x.shape[-1]), "beta": np.zeros(x.shape[-1])}
        missing = {of: plain[of] for of in PLAIN[op].arguments[len(args) : 3]}
        for epsilon in (0.0, *EPSILONS):
            yield {**missing, "epsilon": epsilon}
    elif op == "add_norm":
        rest = dict.fromkeys(PLAIN[op].arguments[7:])
        for epsilon in (0.0, *EPSILONS):
            yield {"epsilon": epsilon, "rate": 0.0, "key": (0, 0), **rest}
    elif op == "attention" and x.ndim in (2, 3):
        N, length = x.size // max(1, x.shape[-1]), x.shape[-2]
        starts = np.arange(0, N + 1, max(1, length))
        rest = dict.fromkeys(PLAIN[op].arguments[7:])
        for heads in range(1, min(x.shape[-1], MOST_HEADS) + 1):
            if x.shape[-1] % heads == 0:
                yield {"starts": starts, "num_heads": heads, "rate": 0.0, "key": (0, 0), **rest}


def _gives(op: str, arguments: Mapping[str, Any], y: Array) -> bool:
    """Whether an op gives y."""
    try:
        with np.errstate(all="ignore"):
            output = PLAIN[op].values_of(arguments)["output"]
    except (ValueError, IndexError):  # shapes that do not fit the op
        return False
    if output.size != y.size or not output.size:
        return False
    return bool(np.abs(output.ravel() - y.ravel()).max() <= SAME * np.abs(y).max())


def _rows(x: Array) -> Array:
    """An array of several axes as rows (N, C); a vector or a matrix as it is."""
    return x.reshape(-1, x.shape[-1]) if x.ndim > 2 else x
