"""Tensors of another implementation that may be the same tensor of a trace, and the choice between them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

# The names of results of a whole model, which are not paths of modules in it.
RESULTS = r"(hidden_states\.\d+|attentions\.\d+|last_hidden_state|logits|roberta_backbone)"


@dataclass(eq=False)
class Claim:
    """An array of another implementation that may be a tensor of the trace.

    Attributes:
        array: the array, in the trace's shape.
        rows: (N,) bool, the rows that were given, or None for all.
        names: their names of tensors that have this array.
        note: what was done to the tensor.
    """

    array: Array
    rows: Array | None
    names: list[str]
    note: str

    def takes(self, array: Array, rows: Array | None) -> bool:
        """Returns whether another array is equal in the rows that both have. If it is, this claim gets its additional
        rows.
        """
        if self.rows is None and rows is None:
            return np.array_equal(self.array, array, equal_nan=True)
        mine, other = (np.ones(len(array), bool) if some is None else some for some in (self.rows, rows))
        if not np.array_equal(self.array[mine & other], array[mine & other], equal_nan=True):
            return False
        if not mine.all():
            self.array = np.where(mine.reshape(-1, *[1] * (array.ndim - 1)), self.array, array)
            self.rows = None if (mine | other).all() else mine | other
        return True


def without_inner(claims: list[Claim]) -> tuple[list[Claim], list[tuple[str, str]]]:
    """Returns the claims without those of modules that lie inside the module of another claim. The second item has the
    pairs (inner name, outer name).
    """
    around = [
        next(((one, outer) for one in claim.names for other in claims if other is not claim
              for outer in other.names if _is_around(outer, one)), None)
        for claim in claims
    ]  # fmt: skip
    kept = [claim for claim, pair in zip(claims, around, strict=True) if pair is None]
    return (kept, [pair for pair in around if pair]) if kept else (claims, [])


def _is_around(outer: str, inner: str) -> bool:
    """Whether a module is around another, or the model's result.

    >>> _is_around("encoder.layer.1.output.grad", "encoder.layer.1.output.LayerNorm.grad")
    True
    >>> _is_around("encoder.layer.1", "encoder.layer.11")
    False
    """
    around, inside = (re.sub(r"\.grad$", "", name.replace("/", ".")) for name in (outer, inner))
    is_result = [re.fullmatch(rf"(.*\.)?{RESULTS}", name) is not None for name in (around, inside)]
    return inside.startswith(f"{around}.") or is_result == [True, False]


def differing(pairs: Sequence[tuple[str, str]]) -> str:
    """Returns the remark about modules whose results should be equal and differ.

    Args:
        pairs: (inner name, outer name) of each place. The tensor of the outer module is used.
    """
    inner, outer = pairs[0]
    more = f", as in {len(pairs) - 1} more places" if len(pairs) > 2 else ""
    more = ", as in one more place" if len(pairs) == 2 else more
    return f"{inner} and {outer} should be equal, but differ; the second is used{more}"
