"""What rounding may do in a call of a trace that no op of the model makes: in a sum, in clipping, in an update.

The bounds are those that the comparison uses (`oracle/calls.py`). An update works on each number by itself, so its
bounds are made some numbers at a time: beside them no more memory is taken than for so many numbers.
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

PIECE = 1 << 17  # numbers at a time


class CallBounds:
    """The bounds of calls.

    Args:
        run: the arithmetic.
        settings: of the trace, with its optimizer.
    """

    def __init__(self, run: bounds.Arithmetic, settings: Mapping[str, Any]) -> None:
        self.run, self._settings = run, settings

    def of(
        self, entries: Mapping[str, Entry], arguments: Mapping[str, Any], values: Mapping[str, Any]
    ) -> dict[str, Array]:
        """A bound for each tensor of a call.

        Args:
            entries: of the tensors, by name.
            arguments: what the call works on, by name.
            values: what it gives, by what the entries call it; only looked at for a copy, a product or a norm.
        """
        part = Trace()  # of this call alone
        part.settings, part.entries = dict(self._settings), dict(entries)
        names = list(entries)
        call = Recomputed(part, names, part.entries[names[0]])
        wide = {of: _wide(value) for of, value in arguments.items()}
        found = call.limits(self.run, wide, {of: _wide(value) for of, value in values.items()}, {})
        return {name: np.asarray(found[entry.value], np.float64) for name, entry in entries.items()}

    def of_sum(self, name: str, entry: Entry, terms: Iterable[Array], count: int) -> Array:
        """The bound of a sum.

        Args:
            name, entry: of the tensor.
            terms: are read one after another; where one alone is left of the sum, the sum itself will do.
            count: of the terms.
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
        """The bounds of the update of a parameter.

        Args:
            entries: of the tensors that it gives, by name.
            arrays: `w`, `g` and the slots before the update, each as what gives some of its numbers.
            numbers: `rate` and the like.
            shape: of the parameter.
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
