"""Bounds of several ops together, from runs in which the result of each op is moved at random within its bound.

A derived bound of the whole would be far too wide. So the ops run 16 more times in float64, with each result moved
within the op's own bound (`oracle.bounds`). The bound of a number is `SPREAD` times the root mean square of its
changes. Rounding errors are rarely near their bounds, so this bound is wide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.ops import REFERENCE, Ops
from pyroberta.oracle import bounds
from pyroberta.oracle.plain import Values

RUNS, SPREAD = 16, 6.0

Computation = Callable[[Ops], Values]  # computes some values in float64, by the rows of a table
Row = Callable[..., Any]


def sampled(compute: Computation, precision: str, seed: int = 0) -> tuple[Values, bounds.Bounds]:
    """Returns the values, and a bound for each number of them.

    Args:
        compute: a function from an ops table to values by name. It must not change its inputs, and must make the same
            calls each time.
        precision: the precision of the arithmetic that the bounds allow.
        seed: the seed of the random moves.

    >>> x = np.linspace(-1.0, 1.0, 5).reshape(1, 5)
    >>> values, limits = sampled(lambda ops: {"y": ops.gelu_forward(ops.gelu_forward(x)[0])[0]}, "float32")
    >>> bool((0.0 <= limits["y"]).all() and limits["y"].max() < 1e-5)
    True
    """
    moves = _Moves(bounds.Arithmetic.of_others(precision))
    values = compute(moves.ops_table())
    squares = {name: np.zeros(np.shape(value)) for name, value in values.items()}
    for number in range(RUNS):
        moves.begin(np.random.default_rng([seed, number]))
        for name, value in compute(moves.ops_table()).items():
            squares[name] = squares[name] + np.square(value - values[name])
    return values, {name: SPREAD * np.sqrt(square / RUNS) + moves.run.tiny for name, square in squares.items()}


class _Moves:
    """A table that first notes how far each result may be off, in the order of the calls, and moves nothing.

    After `begin` its results are moved within what was noted.
    """

    def __init__(self, run: bounds.Arithmetic) -> None:
        self.run = run
        self._limits: list[list[Array]] = []
        self._rng: np.random.Generator | None = None
        self._at = 0

    def begin(self, rng: np.random.Generator) -> None:
        """The same calls begin once more; their moves are drawn."""
        self._rng, self._at = rng, 0

    def ops_table(self, ops: Ops = REFERENCE) -> Ops:
        """The rows of a table, with their results moved."""
        return ops.wrapped(self._watched)

    def _watched(self, name: str, row: Row) -> Row:
        for end, wrap in WATCHED.items():
            if name.endswith(end):
                return wrap(self, name, row)
        return row

    def limits(self, compute: Callable[[], list[Any]]) -> list[Array]:
        """How far the results of the next call may be off."""
        if self._rng is None:
            self._limits.append(compute())
        self._at += 1
        return self._limits[self._at - 1]

    def moved(self, value: Any, limit: Any) -> Any:
        """The value, or one that is as far from it as may be."""
        if self._rng is None:
            return value
        move = self._rng.uniform(-1.0, 1.0, np.shape(limit)) * limit
        return value + (move if np.ndim(limit) else float(move))


def _forward(moves: _Moves, name: str, row: Row) -> Row:
    function, (result,) = bounds.ROWS[name]

    def call(*arguments: Any) -> Any:
        value, cache = row(*arguments)
        y, *rest = value if isinstance(value, tuple) else (value,)
        (limit,) = moves.limits(lambda: [function(moves.run, *arguments, dy=np.ones_like(y))[result]])
        y = moves.moved(y, limit)
        return (y, *rest) if rest else y, (arguments, cache)

    return call


def _backward(moves: _Moves, name: str, row: Row) -> Row:
    function, results = bounds.ROWS[name]

    def call(dy: Array, noted: tuple[Any, Any]) -> Any:
        arguments, cache = noted
        found = row(dy, cache)
        limits = moves.limits(lambda: [function(moves.run, *arguments, dy=dy)[of] for of in results])
        if not isinstance(found, tuple):
            return moves.moved(found, limits[0])
        return tuple(moves.moved(one, limit) for one, limit in zip(found, limits, strict=True))

    return call


def _adam_step(moves: _Moves, name: str, row: Row) -> Row:
    function, _ = bounds.ROWS[name]

    def call(w: Array, g: Array, m: Array, v: Array, *settings: Any) -> None:
        limits = moves.limits(lambda: [*function(moves.run, w, g, m, v, *settings[:-1]).values()])
        row(w, g, m, v, *settings)
        for array, limit in zip((w, m, v), limits, strict=True):
            array[...] = moves.moved(array, limit)
        np.maximum(v, 0.0, out=v)

    return call


def _accumulate(moves: _Moves, name: str, row: Row) -> Row:
    function, _ = bounds.ROWS[name]

    def call(total: Array, gradient: Array) -> Array:
        row(total, gradient)
        (limit,) = moves.limits(lambda: [function(moves.run, total, gradient)["total"]])
        total[...] = moves.moved(total, limit)
        return total

    return call


def _sum(moves: _Moves, name: str, row: Row) -> Row:
    function, (result,) = bounds.ROWS[name]

    def call(*arguments: Any) -> Any:
        (limit,) = moves.limits(lambda: [function(moves.run, *arguments)[result]])
        return moves.moved(row(*arguments), limit)

    return call


def _scalar(moves: _Moves, name: str, row: Row) -> Row:
    """A norm or its scale, which others may compute in their own precision."""

    def call(x: Any, *limit: float) -> float:
        value = row(x, *limit)
        return float(moves.moved(value, moves.run.gamma(4.0 + np.size(x)) * abs(value)))

    return call


WATCHED: dict[str, Callable[[_Moves, str, Row], Row]] = {
    "_forward": _forward,
    "_backward": _backward,
    "_backward_input": _backward,
    "adam_step": _adam_step,
    "accumulate": _accumulate,
    "add": _sum,
    "logits": _sum,
    "squared_norm": _scalar,
    "clip_scale": _scalar,
}
