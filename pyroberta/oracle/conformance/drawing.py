"""Where a case's inputs come from: a generator for each case, so that a new one leaves the others as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy import ndarray as Array


class Draw:
    """Draws a case's inputs.

    Args:
        seed: of the suite.
        name: of the case.

    >>> Draw(0, "op/gelu/usual").normal(2, 3).dtype
    dtype('float32')
    """

    def __init__(self, seed: int, name: str) -> None:
        self.rng = np.random.default_rng([seed, *name.encode()])

    def normal(self, *shape: int, scale: float = 1.0) -> Array:
        """Normal numbers in float32."""
        return (scale * self.rng.standard_normal(shape)).astype(np.float32)

    def uniform(self, *shape: int) -> Array:
        """Multiples of 2⁻²⁴ in [0, 1), so that float32 has them exactly."""
        return (self.rng.integers(0, 1 << 24, shape) / (1 << 24)).astype(np.float32)

    def whole(self, most: int, *shape: int) -> Array:
        """Whole numbers in [0, most)."""
        return self.rng.integers(0, most, shape).astype(np.int32)

    def key(self) -> Array:
        """Philox's key: two words of 64 bits."""
        return self.rng.integers(0, 1 << 63, 2, np.uint64)


def starts_of(lengths: Sequence[int]) -> Array:
    """The rows at which sequences of these lengths begin, and their number of rows at the end.

    >>> starts_of([2, 3]).tolist()
    [0, 2, 5]
    """
    return np.cumsum([0, *lengths]).astype(np.int32)


def flat(values: Mapping[str, Any]) -> dict[str, Array]:
    """Values by name, a list's parts as name.0, name.1 and so on.

    >>> list(flat({"a": [np.ones(1), np.ones(2)], "b": np.ones(3)}))
    ['a.0', 'a.1', 'b']
    """
    found: dict[str, Array] = {}
    for name, value in values.items():
        parts = {f"{name}.{i}": part for i, part in enumerate(value)} if isinstance(value, list) else {name: value}
        found |= {of: np.asarray(part) for of, part in parts.items()}
    return found
