"""Dropout (Srivastava et al. 2014) from a counter-based generator, so that no mask is ever stored.

Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") maps (key, counter) to random bits without
any state. A mask is a function of its key: forward draws it, backward draws it again, and another backend, on another
machine and with any number of threads, draws the same one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

SITE_BITS = 16  # of the key's second word, in dropout
PURPOSE_BITS = 4  # of the key's second word, the highest
DROPOUT, MASKS, ORDER, EVALUATION, SINGLE_UPDATE = range(5)  # purposes


class Key(NamedTuple):
    """The two 64-bit words of Philox4x64-10's key, for everything random in training.

    The second word's highest `PURPOSE_BITS` bits say what is drawn. Behind them it has, for dropout, the update and in
    its lowest `SITE_BITS` bits the site, a place in the model where dropout is applied; for the order of the examples
    and for the tokens that are masked, the pass over the data; for the masks of `train_on_batch`, the update; and
    nothing in evaluation, whose seed is 0.

    Attributes:
        seed: of the run.
        place: the purpose, and what it needs.

    >>> Key.of_update(seed=7, update=2).at(5)
    Key(seed=7, place=131077)
    >>> Key.of_masks(seed=7, data_pass=2).place == (MASKS << 60) + 2
    True
    """

    seed: int
    place: int

    @classmethod
    def of_update(cls, seed: int, update: int) -> Key:
        """The key of an update's first site."""
        return cls(seed, update << SITE_BITS)

    def at(self, site: int) -> Key:
        """The key of another site of the same update."""
        return Key(self.seed, self.place + site)

    @classmethod
    def of_order(cls, seed: int, data_pass: int) -> Key:
        """The key of the order of the examples in a pass over them."""
        return cls(seed, (ORDER << 64 - PURPOSE_BITS) + data_pass)

    @classmethod
    def of_masks(cls, seed: int, data_pass: int) -> Key:
        """The key of the tokens that are masked in a pass over the examples; each example has a stream of its own."""
        return cls(seed, (MASKS << 64 - PURPOSE_BITS) + data_pass)

    @classmethod
    def of_single_update(cls, seed: int, update: int) -> Key:
        """The key of the tokens that `train_on_batch` masks."""
        return cls(seed, (SINGLE_UPDATE << 64 - PURPOSE_BITS) + update)

    @classmethod
    def of_evaluation(cls) -> Key:
        """The key of the tokens that are masked in evaluation, whatever the seed."""
        return cls(0, EVALUATION << 64 - PURPOSE_BITS)


def stream_words(key: tuple[int, int], stream: int, count: int) -> Array:
    """The first 64-bit words of one of a key's streams, as NumPy's `Philox` gives them: (count,) uint64.

    The stream, in [0, 2⁶⁴), is the third word of Philox's counter, so that streams never meet.
    """
    counter = np.array([0, 0, stream, 0], np.uint64)  # (4,)
    words: Array = np.random.Philox(key=np.array(key, np.uint64), counter=counter).random_raw(count)  # (count,)
    return words


def keep_mask(key: tuple[int, int], stream: int, shape: tuple[int, ...], rate: float) -> Array:
    """Which elements survive: element i where the i-th 32-bit word of the stream is at least rate · 2³².

    Args:
        key: two numbers in [0, 2⁶⁴).
        stream: of the key, in [0, 2⁶⁴): one for each sequence.
        shape: the mask's; elements are counted in C order.
        rate: the probability of False, in [0, 1).

    Returns:
        bool, of that shape. Words come as NumPy's `Philox` gives them: 64-bit outputs, low half first.

    >>> keep_mask((7, 1), 0, (4,), 0.5).tolist() == keep_mask((7, 1), 0, (2, 2), 0.5).ravel().tolist()
    True
    """
    size = int(np.prod(shape, dtype=np.int64))
    words = stream_words(key, stream, (size + 1) // 2).astype("<u8", copy=False).view("<u4")[:size]  # (size,)
    keep: Array = words >= np.uint32(min(round(rate * 2**32), 2**32 - 1))  # (size,) bool
    return keep.reshape(shape)


def keep_rows(
    key: tuple[int, int],
    shape: tuple[int, int],
    rate: float,
    starts: Array | None = None,
    numbers: Array | None = None,
    rows: Array | None = None,
) -> Array:
    """Which elements of the rows of packed sequences survive.

    A sequence's mask depends on its number and on nothing else in the batch: an element is number position · C + column
    of that stream, where the position counts from the sequence's start.

    Args:
        key, rate: see `keep_mask`.
        shape: (N, C), of the mask.
        starts: (B+1,) of the sequences, as in `Batch`; None where all rows are one sequence.
        numbers: (B,) of the sequences, as in `Batch`; None for 0, 1, 2, ...
        rows: (N,) the numbers, among all rows of the sequences and in rising order, of the rows whose mask is wanted;
            None for all rows.

    Returns:
        bool, (N, C).
    """
    if starts is None:
        starts = np.array([0, shape[0] if rows is None else int(rows.max(initial=-1)) + 1])  # (2,)
    keep = np.empty(shape, bool)  # (N, C)
    for b, (start, stop) in enumerate(pairwise(starts.tolist())):
        first, last = (start, stop) if rows is None else np.searchsorted(rows, (start, stop)).tolist()
        if first < last:
            mask = keep_mask(key, b if numbers is None else int(numbers[b]), (stop - start, shape[1]), rate)  # (S, C)
            keep[first:last] = mask if rows is None else mask[rows[first:last] - start]
    return keep


class DropoutCache(NamedTuple):
    """What `dropout_forward` keeps for `dropout_backward`: all that the mask follows from."""

    rate: float
    key: tuple[int, int]
    starts: Array | None  # (B+1,) int
    numbers: Array | None  # (B,) int
    rows: Array | None  # (N,) int


def dropout_forward(
    x: Array,
    rate: float,
    key: tuple[int, int],
    starts: Array | None = None,
    numbers: Array | None = None,
    rows: Array | None = None,
) -> tuple[Array, DropoutCache | None]:
    """y = x · keep / (1 - rate): what survives is scaled up, so that the expectation stays.

    x (N, C) -> y (N, C); a rate of 0 returns x itself. `starts` (B+1,) and `numbers` (B,) tell each sequence's mask, as
    in `keep_rows`. Where x holds some rows of a packed batch alone, `rows` (N,) has their numbers among all rows of the
    batch, in rising order. Each row then has the mask that it has among all.
    """
    if rate == 0.0:
        return x, None
    cache = DropoutCache(rate, key, starts, numbers, rows)
    return _apply(x, cache), cache


def dropout_backward(dy: Array, cache: DropoutCache | None) -> Array:
    """dy (N, C) -> dx (N, C), through the same mask, drawn again from the key."""
    if cache is None:
        return dy
    return _apply(dy, cache)  # forward: y = x · keep / (1 - rate)


def _apply(x: Array, cache: DropoutCache) -> Array:
    """x (N, C) -> x · keep / (1 - rate), (N, C)."""
    rate, key, starts, numbers, rows = cache
    y: Array = x * keep_rows(key, x.shape, rate, starts, numbers, rows)  # (N, C)
    y *= 1.0 / (1.0 - rate)  # (N, C)
    return y
