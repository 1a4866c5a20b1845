"""What `fit` reads: examples to draw batches from, in an order and with masks that follow from the seed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

import numpy as np
from numpy import ndarray as Array

from pyroberta.model.batch import Batch, take

Masker = Callable[[Batch, "np.random.Generator"], Batch]  # quoted: NumPy imports `random` when it is asked for
Seed = tuple[int, ...]  # whole numbers of at least 0

SHUFFLE, MASK, EVALUATE = range(3)  # what a generator is for; each purpose has its own stream of the seed


class Examples(Protocol):
    """Anything that `fit` and `evaluate` can draw batches from."""

    def batches(self, batch_size: int, seed: Seed, shuffle: bool) -> Iterator[Batch]:
        """One epoch of batches, with masks and order drawn from the seed: another seed for each epoch."""

    def fixed(self, batch_size: int) -> Iterator[Batch]:
        """The batches for evaluation: in order, and with the same masks every time."""

    def num_batches(self, batch_size: int) -> int | None:
        """Batches in an epoch, or None where that cannot be known."""


@dataclass(frozen=True)
class HeldExamples:
    """Examples held in memory, as one packed batch of them all.

    Attributes:
        data: all the sequences.
        mask: draws masked tokens and labels into a batch; None where `data` has them already.
        weights: (B,) one weight per sequence, for each of its masked tokens; None for ones.
        texts: (B,) the number of each sequence's text, 0, 0, 1 … where a text was split into several sequences; None
            where each sequence is a text.
    """

    data: Batch
    mask: Masker | None = None
    weights: Array | None = None
    texts: Array | None = None

    def __len__(self) -> int:
        return len(self.data)

    @property
    def num_texts(self) -> int:
        """The number of texts; as many sequences or fewer."""
        return len(self) if self.texts is None else int(self.texts[-1]) + 1

    def batches(self, batch_size: int, seed: Seed, shuffle: bool) -> Iterator[Batch]:
        """One epoch; the last batch may be smaller."""
        order = np.arange(len(self))
        if shuffle:
            order = np.random.default_rng([SHUFFLE, *seed]).permutation(order)
        for step in range(self.num_batches(batch_size)):
            part = self.take(order[step * batch_size : (step + 1) * batch_size])
            yield part.masked(np.random.default_rng([MASK, *seed, step]))

    def fixed(self, batch_size: int) -> Iterator[Batch]:
        """In order; everything is masked at once and cut after that, so the size of the batches changes no mask."""
        masked = HeldExamples(self.masked(np.random.default_rng([EVALUATE])))
        for start in range(0, len(self), batch_size):
            yield masked.take(np.arange(start, min(start + batch_size, len(self)))).data

    def num_batches(self, batch_size: int) -> int:
        """Batches in an epoch."""
        return -(-len(self) // batch_size)

    def masked(self, generator: np.random.Generator) -> Batch:
        """All the sequences as one batch, masked unless they are."""
        batch = self.mask(self.data, generator) if self.mask else self.data
        if self.weights is not None:
            sequence = np.searchsorted(batch.starts, batch.target_rows, side="right") - 1
            batch = replace(batch, weights=batch.weights * self.weights[sequence])
        return batch

    def take(self, which: Array) -> HeldExamples:
        """The numbered sequences, in that order; which text each is of is not kept."""
        return HeldExamples(take(self.data, which), self.mask, None if self.weights is None else self.weights[which])

    def split(self, fraction: float) -> tuple[HeldExamples, HeldExamples]:
        """The first part, and the last `fraction` of all texts (Keras's `validation_split`)."""
        first = int(self.num_texts * (1.0 - fraction))
        if self.texts is not None:
            first = int(np.searchsorted(self.texts, first))  # the first sequence of that text
        return self.take(np.arange(first)), self.take(np.arange(first, len(self)))

    def parts(self, size: int) -> Iterator[HeldExamples]:
        """All the sequences in order, at most `size` at a time."""
        if len(self) <= size:
            yield self
            return
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self))))


@dataclass(frozen=True)
class StreamedExamples:
    """Batches that come from elsewhere, in their own order and size, none held.

    Attributes:
        source: given a batch size, an iterator over one epoch's batches, or over what is left of the only one; each
            batch is the examples in it. It may pay no heed to the size where its batches were made already.
    """

    source: Callable[[int], Iterator[HeldExamples]]

    def batches(self, batch_size: int, seed: Seed, shuffle: bool) -> Iterator[Batch]:
        """One epoch; the order is the source's."""
        for step, part in enumerate(self.source(batch_size)):
            yield part.masked(np.random.default_rng([MASK, *seed, step]))

    def fixed(self, batch_size: int) -> Iterator[Batch]:
        """The masks follow from the number of the batch."""
        for step, part in enumerate(self.source(batch_size)):
            yield part.masked(np.random.default_rng([EVALUATE, step]))

    def num_batches(self, batch_size: int) -> None:
        """Unknown."""
        return


def onwards(
    examples: Examples, batch_size: int, size: int, seed: Callable[[int, int], Seed], shuffle: bool, begin: int
) -> Iterator[list[Batch]]:
    """Groups of `size` batches, pass after pass over the examples without end, each pass in an order of its own.

    Args:
        examples: of a known number of batches.
        batch_size, shuffle: see `Examples.batches`.
        size: batches in a group; the last one of a pass may have fewer.
        seed: gives a pass its seed, from its number and the number of its groups that are left out.
        begin: groups that are left out, since they were drawn before.

    >>> from pyroberta.model.batch import pack
    >>> examples = HeldExamples(take(pack([np.array([0, 2])]), np.zeros(5, int)))
    >>> groups = onwards(examples, 2, 1, lambda number, left_out: (number,), False, begin=1)
    >>> [len(batch) for (batch,) in islice(groups, 5)]
    [2, 1, 2, 2, 1]
    """
    there = -(-(examples.num_batches(batch_size) or 0) // size)
    number, left_out = divmod(begin, there)
    while True:
        batches = examples.batches(batch_size, seed(number, left_out), shuffle)
        yield from islice(grouped(batches, size), left_out, None)
        number, left_out = number + 1, 0


def grouped(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Lists of `size` batches each, the last one perhaps shorter, `numbered`.

    >>> from pyroberta.model.batch import pack
    >>> [len(group) for group in grouped([pack([])] * 5, 2)]
    [2, 2, 1]
    """
    iterator = iter(batches)
    while group := list(islice(iterator, size)):
        yield numbered(group)


def numbered(batches: Sequence[Batch]) -> list[Batch]:
    """The batches of one update, whose sequences are numbered through.

    >>> from pyroberta.model.batch import pack
    >>> [batch.numbers.tolist() for batch in numbered([pack([np.array([0, 2])] * 2), pack([np.array([0, 2])])])]
    [[0, 1], [2]]
    """
    starts = np.cumsum([0, *(len(batch) for batch in batches)])
    return [
        replace(batch, numbers=np.arange(start, start + len(batch)))
        for batch, start in zip(batches, starts.tolist(), strict=False)
    ]
