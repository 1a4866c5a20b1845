"""What `fit` reads: examples to draw batches from, in an order and with masks that follow from the seed alone.

An example has a number: its place among those that were given. The order of a pass over the examples follows from the
seed and the pass's number, the tokens that are masked from these and the example's number, and in evaluation from the
example's number alone. So batches of another size, parts of a batch, and ranks mask the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

import numpy as np
from numpy import ndarray as Array

from pyroberta.model.batch import Batch, take
from pyroberta.ops import Key
from pyroberta.text.masking import token_draws

Masker = Callable[[Batch, Array], Batch]  # from (N, DRAWS) random numbers


class Examples(Protocol):
    """Anything that `fit` and `evaluate` can draw batches from."""

    @property
    def num_examples(self) -> int | None:
        """Sequences in a pass, or None where that cannot be known."""

    def batches(self, batch_size: int, seed: int, data_pass: int, shuffle: bool, start: int = 0) -> Iterator[Batch]:
        """The batches of one pass, from its example `start` on."""

    def fixed(self, batch_size: int) -> Iterator[Batch]:
        """The batches for evaluation: in order, and with the same masks every time."""


def num_batches(examples: Examples, batch_size: int) -> int | None:
    """Batches in a pass, or None where that cannot be known."""
    return None if examples.num_examples is None else -(-examples.num_examples // batch_size)


@dataclass(frozen=True)
class HeldExamples:
    """Examples held in memory, as one packed batch of them all.

    Attributes:
        data: all the sequences.
        mask: masks tokens of a batch; None where `data` has its target rows already.
        weights: (B,) one weight per sequence, for each of its target rows; None for ones.
        texts: (B,) the number of each sequence's text, 0, 0, 1 … where a text was split into several sequences; None
            where each sequence is a text.
        numbers: (B,) the examples' numbers; None for 0, 1, 2 …
    """

    data: Batch
    mask: Masker | None = None
    weights: Array | None = None
    texts: Array | None = None
    numbers: Array | None = None

    def __len__(self) -> int:
        return len(self.data)

    @property
    def num_examples(self) -> int:
        """The number of sequences."""
        return len(self)

    @property
    def num_texts(self) -> int:
        """The number of texts; as many sequences or fewer."""
        return len(self) if self.texts is None else int(self.texts[-1]) + 1

    def batches(self, batch_size: int, seed: int, data_pass: int, shuffle: bool, start: int = 0) -> Iterator[Batch]:
        """One pass; the last batch may be smaller."""
        order = np.arange(len(self))
        if shuffle:
            philox = np.random.Philox(key=np.array(Key.of_order(seed, data_pass), np.uint64))
            order = np.random.Generator(philox).permutation(order)
        for first in range(start, len(self), batch_size):
            yield self.take(order[first : first + batch_size]).masked(Key.of_masks(seed, data_pass))

    def fixed(self, batch_size: int) -> Iterator[Batch]:
        """In order."""
        for part in self.parts(batch_size):
            yield part.masked(Key.of_evaluation())

    def masked(self, key: Key) -> Batch:
        """All the sequences as one batch, whose tokens are masked unless they are already."""
        batch = self.data
        if self.mask is not None:
            batch = self.mask(batch, token_draws(key, batch.starts, self._numbers))
        if self.weights is not None:
            sequence = np.searchsorted(batch.starts, batch.target_rows, side="right") - 1
            batch = replace(batch, weights=batch.weights * self.weights[sequence])
        return batch

    def take(self, which: Array) -> HeldExamples:
        """The sequences at those places, in that order; which text each is of is not kept."""
        weights = None if self.weights is None else self.weights[which]
        return HeldExamples(take(self.data, which), self.mask, weights, numbers=self._numbers[which])

    def numbered_from(self, first: int) -> HeldExamples:
        """The same examples with numbers that go on from `first`."""
        return replace(self, numbers=np.arange(first, first + len(self)))

    def split(self, fraction: float) -> tuple[HeldExamples, HeldExamples]:
        """The first part, and the last `fraction` of all texts (Keras's `validation_split`), each numbered from 0."""
        first = int(self.num_texts * (1.0 - fraction))
        if self.texts is not None:
            first = int(np.searchsorted(self.texts, first))  # the first sequence of that text
        parts = self.take(np.arange(first)), self.take(np.arange(first, len(self)))
        return parts[0].numbered_from(0), parts[1].numbered_from(0)

    def parts(self, size: int) -> Iterator[HeldExamples]:
        """All the sequences in order, at most `size` at a time."""
        if len(self) <= size:
            yield self
            return
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self))))

    @property
    def _numbers(self) -> Array:
        return np.arange(len(self)) if self.numbers is None else self.numbers


@dataclass(frozen=True)
class StreamedExamples:
    """Batches that come from elsewhere, in their own order and size, none held.

    Attributes:
        source: given a batch size, an iterator over one pass's batches, or over what is left of the only one; each
            batch is the examples in it. It may pay no heed to the size where its batches were made already.
    """

    source: Callable[[int], Iterator[HeldExamples]]

    @property
    def num_examples(self) -> None:
        """Unknown."""
        return

    def batches(self, batch_size: int, seed: int, data_pass: int, shuffle: bool, start: int = 0) -> Iterator[Batch]:
        """One pass; the order is the source's. What comes before `start` is read and left out."""
        return self._masked(batch_size, Key.of_masks(seed, data_pass), start)

    def fixed(self, batch_size: int) -> Iterator[Batch]:
        """The batches as they come."""
        return self._masked(batch_size, Key.of_evaluation())

    def _masked(self, batch_size: int, key: Key, start: int = 0) -> Iterator[Batch]:
        count = 0
        for part in self.source(batch_size):
            numbered_part, first = part.numbered_from(count), max(0, start - count)
            count += len(part)
            if first < len(part) or not len(part):
                yield (numbered_part.take(np.arange(first, len(part))) if first else numbered_part).masked(key)


def onwards(
    examples: Examples, batch_size: int, size: int, seed: int, shuffle: bool, data_pass: int, position: int
) -> Iterator[list[Batch]]:
    """Groups of `size` batches, pass after pass over the examples without end, each pass in an order of its own.

    Args:
        examples: those of an unknown number are taken as one pass, which goes on as long as they do.
        batch_size, seed, shuffle: see `Examples.batches`.
        size: batches in a group; the last one of a pass may have fewer.
        data_pass, position: where the first group begins: the number of the pass, and the examples of it left out.

    >>> from pyroberta.model.batch import pack
    >>> examples = HeldExamples(take(pack([np.array([0, 2])]), np.zeros(5, int)))
    >>> groups = onwards(examples, 2, 1, seed=0, shuffle=False, data_pass=0, position=2)
    >>> [len(batch) for (batch,) in islice(groups, 5)]
    [2, 1, 2, 2, 1]
    """
    while True:
        yield from grouped(examples.batches(batch_size, seed, data_pass, shuffle, position), size)
        if examples.num_examples is None:
            return
        data_pass, position = data_pass + 1, 0


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
