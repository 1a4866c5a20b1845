"""Precision as a policy: how numbers are stored, in what products are taken, and in what they are summed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Precision:
    """What a model's arithmetic rounds to, under the name that Keras gives it.

    Attributes:
        name: `"float32"`, `"float64"` or `"mixed_bfloat16"`.
        stored: the dtype of parameters, gradients, moments and everything that passes between ops.
        factors: the name of the type that the factors of products of matrices are rounded to; that of `stored` where
            they are not rounded. Sums of products, norms, softmax and the loss are in `stored`.
    """

    name: str
    stored: np.dtype[np.floating]
    factors: str

    @property
    def is_mixed(self) -> bool:
        """Whether the factors of products are rounded to a smaller type."""
        return self.factors != self.stored.name


PRECISIONS = {
    "float32": Precision("float32", np.dtype(np.float32), "float32"),
    "float64": Precision("float64", np.dtype(np.float64), "float64"),
    "mixed_bfloat16": Precision("mixed_bfloat16", np.dtype(np.float32), "bfloat16"),
}


def precision(name: str) -> Precision:
    """The policy of that name.

    Raises:
        ValueError: for another name.

    >>> precision("mixed_bfloat16").stored
    dtype('float32')
    """
    if name not in PRECISIONS:
        raise ValueError(f"a precision is one of {', '.join(map(repr, PRECISIONS))}; got {name!r}")
    return PRECISIONS[name]
