"""Tensors of another implementation that claim to be the same tensor of a trace, and which of them counts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

# What a model gives as a whole, by names that are no path of a module inside it.
RESULTS = r"(hidden_states\.\d+|attentions\.\d+|last_hidden_state|logits|roberta_backbone)"


@dataclass(eq=False)
class Claim:
    """An array that may be a tensor of the trace, with the names of theirs that have it."""

    array: Array
    rows: Array | None
    names: list[str]
    note: str

    def takes(self, array: Array, rows: Array | None) -> bool:
        """Whether another array is the same; then the rows that it has more are taken over."""
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
    """The claims without those of modules inside others, and their names with those of the modules around them."""
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
    """The remark of modules that differ from those around them."""
    inner, outer = pairs[0]
    more = f", and likewise in {len(pairs) - 1} more places" if len(pairs) > 2 else ""
    more = ", and likewise in one more place" if len(pairs) == 2 else more
    return f"{inner} and {outer} should be the same, and differ; the latter counts{more}"
