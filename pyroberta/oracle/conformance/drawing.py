"""Draws the inputs of cases. Each case has a random generator of its own, so that a new case does not change the
others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy import ndarray as Array


class Draw:
    """Draws the random inputs of one case. The seed and the case's name determine them.

    Args:
        seed: the seed of the suite.
        name: the name of the case.

    >>> Draw(0, "op/gelu/usual").normal(2, 3).dtype
    dtype('float32')
    """

    def __init__(self, seed: int, name: str) -> None:
        self.rng = np.random.default_rng([seed, *name.encode()])

    def normal(self, *shape: int, scale: float = 1.0) -> Array:
        """Returns normally distributed numbers, float32 in the given shape, with the standard deviation `scale`."""
        return (scale * self.rng.standard_normal(shape)).astype(np.float32)

    def uniform(self, *shape: int) -> Array:
        """Returns multiples of 2⁻²⁴ in [0, 1), float32 in the given shape. float32 represents them exactly."""
        return (self.rng.integers(0, 1 << 24, shape) / (1 << 24)).astype(np.float32)

    def whole(self, most: int, *shape: int) -> Array:
        """Returns integers in [0, most), int32 in the given shape."""
        return self.rng.integers(0, most, shape).astype(np.int32)

    def key(self) -> Array:
        """Returns a key of Philox: (2,) uint64, below 2⁶³ each."""
        return self.rng.integers(0, 1 << 63, 2, np.uint64)


def starts_of(lengths: Sequence[int]) -> Array:
    """Returns the rows at which sequences of these lengths begin, and the total number of rows at the end: (B+1,)
    int32.

    >>> starts_of([2, 3]).tolist()
    [0, 2, 5]
    """
    return np.cumsum([0, *lengths]).astype(np.int32)


def flat(values: Mapping[str, Any]) -> dict[str, Array]:
    """Returns values by name as arrays. The parts of a list have the names name.0, name.1 and so on.

    >>> list(flat({"a": [np.ones(1), np.ones(2)], "b": np.ones(3)}))
    ['a.0', 'a.1', 'b']
    """
    found: dict[str, Array] = {}
    for name, value in values.items():
        parts = {f"{name}.{i}": part for i, part in enumerate(value)} if isinstance(value, list) else {name: value}
        found |= {of: np.asarray(part) for of, part in parts.items()}
    return found
