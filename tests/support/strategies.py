"""What hypothesis draws: shapes, seeds and scales. Values come from the seed, so that a failure reads `seed=7`."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([np.float32, np.float64])
scales = st.sampled_from([1e-2, 1.0, 10.0])
keys = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
rates = st.sampled_from([0.0, 0.1, 0.5, 0.9])
lengths = st.lists(st.integers(0, 6), max_size=4)  # of sequences; none at all and empty ones too


def starts_of(lengths: list[int]) -> np.ndarray:
    """[2, 0, 3] -> [0, 2, 2, 5]."""
    return np.cumsum([0, *lengths]).astype(np.int32)


def examples(usual: int) -> settings:
    """So many examples where other tests draw 25; where they draw more, so does this one, in proportion up to 25."""
    others = settings().max_examples
    return settings(max_examples=max(1, usual * others // 25) if usual < 25 else max(usual, others))
