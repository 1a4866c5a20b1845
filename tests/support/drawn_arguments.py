"""Arguments of ops from a seed, for tests that draw shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray as Array
from strategies import starts_of


def drawing(seed: int, scale: float = 1.0) -> tuple[Callable[..., Array], np.random.Generator]:
    """A function that draws an array of a shape, in float32, and what it draws from."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> Array:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    return draw, rng


def choose_rows(gap: int | None, N: int, rng: np.random.Generator) -> Array | None:
    """Numbers of N rows, rising, with that gap between them; None for None."""
    return None if gap is None else (np.arange(N) * (gap + 1) + rng.integers(0, gap + 1)).astype(np.int32)


def choose_sequences(N: int, rows: Array | None, rng: np.random.Generator) -> list[Array | None]:
    """Starts and numbers of sequences that these rows are of; now and then None."""
    if rng.random() < 0.2:
        return [None, None]
    end = N if rows is None else int(rows.max(initial=-1)) + 1 + int(rng.integers(0, 3))
    starts = np.array([0, *sorted(rng.integers(0, end + 1, rng.integers(0, 4)).tolist()), end])
    return [starts, None if rng.random() < 0.2 else rng.integers(0, 2**62, len(starts) - 1)]


def attention_case(
    lengths: list[int], H: int, D: int, rate: float, key: tuple[int, int], scale: float, share: float | None, seed: int
) -> tuple[list[Any], Array]:
    """Arguments of attention, where that share of the rows attend, and the gradient of its result."""
    draw, rng = drawing(seed)
    starts = starts_of(lengths)
    N = int(starts[-1])
    rows = None if share is None else np.flatnonzero(rng.random(N) < share).astype(np.int32)
    R = N if rows is None else len(rows)
    q = np.float32(scale) * draw(R, H * D)
    numbers = rng.integers(0, 2**62, len(lengths)) if seed % 2 else None
    return [q, draw(N, H * D), draw(N, H * D), starts, H, rate, key, numbers, rows], draw(R, H * D)
