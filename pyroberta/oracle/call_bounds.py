"""Bounds of the rounding in calls of a trace that are not ops of the model: sums, clipping and updates.

`oracle/calls.py` has the formulas, which the comparison uses too. An update treats each number by itself. So its bounds
are computed piece by piece, and need memory only for one piece.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.oracle import bounds
from pyroberta.oracle.calls import Recomputed
from pyroberta.oracle.golden import Entry, Trace

PIECE = 1 << 17  # the number of elements in one piece


class CallBounds:
    """The bounds of calls.

    Args:
        run: the arithmetic.
        settings: the settings of the trace, which contain its optimizer.
    """

    def __init__(self, run: bounds.Arithmetic, settings: Mapping[str, Any]) -> None:
        self.run, self._settings = run, settings

    def of(
        self, entries: Mapping[str, Entry], arguments: Mapping[str, Any], values: Mapping[str, Any]
    ) -> dict[str, Array]:
        """Returns a bound for each tensor that a call gives, as float64 arrays.

        Args:
            entries: tensor's name -> its entry.
            arguments: argument's name -> the value with which the call was made.
            values: value's name -> the result of the call. It is used only for a copy, a product or a norm.
        """
        part = Trace()  # of this call alone
        part.settings, part.entries = dict(self._settings), dict(entries)
        names = list(entries)
        call = Recomputed(part, names, part.entries[names[0]])
        wide = {of: _wide(value) for of, value in arguments.items()}
        found = call.limits(self.run, wide, {of: _wide(value) for of, value in values.items()}, {})
        return {name: np.asarray(found[entry.value], np.float64) for name, entry in entries.items()}

    def of_sum(self, name: str, entry: Entry, terms: Iterable[Array], count: int) -> Array:
        """Returns the bound of a sum, as a float64 array of its shape.

        Args:
            name: the name of the tensor.
            entry: its entry.
            terms: the terms, arrays of one shape. They are read one after the other. If only the sum is left, pass the
                sum as the single term.
            count: the number of terms.
        """
        size: Any = 0.0  # of all the terms, which are not held: the bound looks at their magnitudes' sum alone
        for term in terms:
            size = size + np.abs(_wide(term))
        others = dict.fromkeys(map(str, range(1, count)), 0.0)
        return self.of({name: entry}, {"0": size, **others}, {})[name]

    def of_update(
        self, entries: Mapping[str, Entry], arrays: Mapping[str, Callable[[slice], Array]], numbers: Mapping[str, Any],
        shape: tuple[int, ...],
    ) -> dict[str, Array]:  # fmt: skip
        """Returns the bounds of the update of a parameter: tensor's name -> float64 array of the parameter's shape.

        Args:
            entries: the name of each tensor that the update gives -> its entry.
            arrays: `w`, `g` and the slots before the update. Each is a function from a slice of the flat array to these
                numbers.
            numbers: the other arguments, such as `rate`.
            shape: the shape of the parameter.
        """
        size = math.prod(shape)
        found = {name: np.empty(size) for name in entries}
        for start in range(0, size, PIECE):
            some = slice(start, min(start + PIECE, size))
            pieces = self.of(entries, {of: piece(some) for of, piece in arrays.items()} | dict(numbers), {})
            for name, piece in pieces.items():
                found[name][some] = piece
        return {name: array.reshape(shape) for name, array in found.items()}


def _wide(value: Any) -> Any:
    return value.astype(np.float64, copy=False) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
