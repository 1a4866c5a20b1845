"""The examples of which `fit` makes batches. Their order and masks follow from the seed alone.

An example has a number: its place in the input. The order of a pass over the examples follows from the
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
    """A source of batches for `fit` and `evaluate`."""

    @property
    def num_examples(self) -> int | None:
        """The number of sequences in a pass; None if it is unknown."""

    def batches(self, batch_size: int, seed: int, data_pass: int, shuffle: bool, start: int = 0) -> Iterator[Batch]:
        """The batches of one pass, from its example `start` on."""

    def fixed(self, batch_size: int) -> Iterator[Batch]:
        """The batches for evaluation, in order, with the same masks every time."""

    def class_weighted(self, factors: Array) -> Examples:
        """A classifier's examples, each weight multiplied by the factor (num_classes,) of its label."""


def num_batches(examples: Examples, batch_size: int) -> int | None:
    """The number of batches in a pass; None if it is unknown."""
    return None if examples.num_examples is None else -(-examples.num_examples // batch_size)


@dataclass(frozen=True)
class HeldExamples:
    """Examples held in memory, as one packed batch of them all.

    Attributes:
        data: all the sequences.
        mask: masks tokens of a batch; None if `data` has target rows already.
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
        """The number of texts, which may be split into more sequences."""
        return len(self) if self.texts is None else int(self.texts[-1]) + 1

    def batches(self, batch_size: int, seed: int, data_pass: int, shuffle: bool, start: int = 0) -> Iterator[Batch]:
        """The batches of one pass; the last one may be smaller."""
        order = np.arange(len(self))
        if shuffle:
            philox = np.random.Philox(key=np.array(Key.of_order(seed, data_pass), np.uint64))
            order = np.random.Generator(philox).permutation(order)
        for first in range(start, len(self), batch_size):
            yield self.take(order[first : first + batch_size]).masked(Key.of_masks(seed, data_pass))

    def fixed(self, batch_size: int) -> Iterator[Batch]:
        """The batches in order."""
        for part in self.parts(batch_size):
            yield part.masked(Key.of_evaluation())

    def masked(self, key: Key) -> Batch:
        """All the sequences as one batch, with masked tokens."""
        batch = self.data
        if self.mask is not None:
            batch = self.mask(batch, token_draws(key, batch.starts, self._numbers))
        if self.weights is not None:
            sequence = np.searchsorted(batch.starts, batch.target_rows, side="right") - 1
            batch = replace(batch, weights=batch.weights * self.weights[sequence])
        return batch

    def take(self, which: Array) -> HeldExamples:
        """The sequences at the given places, in that order, without their texts' numbers."""
        weights = None if self.weights is None else self.weights[which]
        return HeldExamples(take(self.data, which), self.mask, weights, numbers=self._numbers[which])

    def numbered_from(self, first: int) -> HeldExamples:
        """The same examples with numbers that go on from `first`."""
        return replace(self, numbers=np.arange(first, first + len(self)))

    def class_weighted(self, factors: Array) -> HeldExamples:
        """The same examples, each weight multiplied by the factor of its label.

        >>> from pyroberta.model.batch import pack
        >>> batch = replace(pack([np.array([0, 2])]), target_rows=np.zeros(1, int), labels=np.ones(1, int))
        >>> HeldExamples(replace(batch, weights=np.ones(1))).class_weighted(np.array([1.0, 3.0])).data.weights
        array([3.])
        """
        return replace(self, data=replace(self.data, weights=self.data.weights * factors[self.data.labels]))

    def split(self, fraction: float) -> tuple[HeldExamples, HeldExamples]:
        """The first texts, and the last `fraction` of them (Keras's `validation_split`), each part numbered from 0."""
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
    """Batches of an iterator, in their own order and size. None is held.

    Attributes:
        source: a function of the batch size that returns an iterator over the batches of one pass, or over the rest of
            the only one. Each batch is the examples in it. It may ignore the size if its batches exist already.
    """

    source: Callable[[int], Iterator[HeldExamples]]

    @property
    def num_examples(self) -> None:
        """Unknown."""
        return

    def batches(self, batch_size: int, seed: int, data_pass: int, shuffle: bool, start: int = 0) -> Iterator[Batch]:
        """The batches of one pass, in the source's order. Examples before `start` are read and left out."""
        return self._masked(batch_size, Key.of_masks(seed, data_pass), start)

    def fixed(self, batch_size: int) -> Iterator[Batch]:
        """The batches as they come."""
        return self._masked(batch_size, Key.of_evaluation())

    def class_weighted(self, factors: Array) -> StreamedExamples:
        """The same batches, each weight multiplied by the factor of its label."""
        source = self.source
        return StreamedExamples(lambda size: (part.class_weighted(factors) for part in source(size)))

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
    """Groups of `size` batches, pass after pass over the examples without end. Each pass has its own order.

    Args:
        examples: the source. If their number is unknown, they are one pass.
        batch_size, seed, shuffle: see `Examples.batches`.
        size: batches in a group; the last one of a pass may have fewer.
        data_pass, position: the number of the first pass, and the number of its examples that are left out.

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
