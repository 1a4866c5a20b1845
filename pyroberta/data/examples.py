"""The examples of which `fit` makes batches. Their order and masks follow from the seed alone.

The number of an example is its place in the input. The order of the examples in a pass follows from the seed and the
number of the pass. The masked tokens of an example follow from the seed, the number of the pass and the number of the
example; in evaluation, they follow from the number of the example alone. So the same tokens are masked whatever the
batch size, the parts of a batch and the ranks are.
"""

from __future__ import annotations

import zlib
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
        """The number of sequences in a pass. None if it is unknown."""

    @property
    def checksum(self) -> int | None:
        """A number by which other examples are recognised. None if they are not held."""

    def batches(self, batch_size: int, seed: int, data_pass: int, shuffle: bool, start: int = 0) -> Iterator[Batch]:
        """Yields the batches of one pass, from the example with the place `start` on."""

    def fixed(self, batch_size: int) -> Iterator[Batch]:
        """Yields the batches for evaluation, in order, with the same masks every time."""

    def class_weighted(self, factors: Array) -> Examples:
        """Returns a classifier's examples, each weight multiplied by the factor of its label. factors
        (num_classes,).
        """


def num_batches(examples: Examples, batch_size: int) -> int | None:
    """Returns the number of batches in a pass, or None if it is unknown."""
    return None if examples.num_examples is None else -(-examples.num_examples // batch_size)


@dataclass(frozen=True)
class HeldExamples:
    """Examples that are held in memory, as one packed batch.

    Attributes:
        data: the packed batch of all sequences.
        mask: a function that masks tokens of a batch. None if `data` has target rows already.
        weights: (B,) the weight of each sequence, which each of its target rows has. None means 1.
        texts: (B,) the number of each sequence's text, such as 0, 0, 1 … if the first text was split into two
            sequences. None if each sequence is a text.
        numbers: (B,) the numbers of the examples. None means 0, 1, 2 …
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
    def checksum(self) -> int:
        """The CRC-32 of the ids and the lengths, and of labels and weights that are not drawn anew."""
        found = 0
        for array in (self.data.ids, self.data.starts, self.data.labels, self.data.weights, self.weights):
            found = found if array is None else zlib.crc32(np.ascontiguousarray(array).data, found)
        return found

    @property
    def num_texts(self) -> int:
        """The number of texts. There are fewer texts than sequences if texts were split."""
        return len(self) if self.texts is None else int(self.texts[-1]) + 1

    def batches(self, batch_size: int, seed: int, data_pass: int, shuffle: bool, start: int = 0) -> Iterator[Batch]:
        """Yields the batches of one pass. The last one may be smaller."""
        order = np.arange(len(self))
        if shuffle:
            philox = np.random.Philox(key=np.array(Key.of_order(seed, data_pass), np.uint64))
            order = np.random.Generator(philox).permutation(order)
        for first in range(start, len(self), batch_size):
            yield self.take(order[first : first + batch_size]).masked(Key.of_masks(seed, data_pass))

    def fixed(self, batch_size: int) -> Iterator[Batch]:
        """Yields the batches in order."""
        for part in self.parts(batch_size):
            yield part.masked(Key.of_evaluation())

    def masked(self, key: Key) -> Batch:
        """Returns all sequences as one batch, with masked tokens."""
        batch = self.data
        if self.mask is not None:
            batch = self.mask(batch, token_draws(key, batch.starts, self._numbers))
        if self.weights is not None:
            sequence = np.searchsorted(batch.starts, batch.target_rows, side="right") - 1
            batch = replace(batch, weights=batch.weights * self.weights[sequence])
        return batch

    def take(self, which: Array) -> HeldExamples:
        """Returns the sequences at the given places, in the given order. The result has no `texts`."""
        weights = None if self.weights is None else self.weights[which]
        return HeldExamples(take(self.data, which), self.mask, weights, numbers=self._numbers[which])

    def numbered_from(self, first: int) -> HeldExamples:
        """Returns the same examples, numbered from `first` on."""
        return replace(self, numbers=np.arange(first, first + len(self)))

    def class_weighted(self, factors: Array) -> HeldExamples:
        """Returns the same examples, each weight multiplied by the factor of its label.

        >>> from pyroberta.model.batch import pack
        >>> batch = replace(pack([np.array([0, 2])]), target_rows=np.zeros(1, int), labels=np.ones(1, int))
        >>> HeldExamples(replace(batch, weights=np.ones(1))).class_weighted(np.array([1.0, 3.0])).data.weights
        array([3.])
        """
        return replace(self, data=replace(self.data, weights=self.data.weights * factors[self.data.labels]))

    def split(self, fraction: float) -> tuple[HeldExamples, HeldExamples]:
        """Splits the texts into the first ones and the last `fraction` of them (Keras's `validation_split`). Each part
        is numbered from 0.
        """
        first = int(self.num_texts * (1.0 - fraction))
        if self.texts is not None:
            first = int(np.searchsorted(self.texts, first))  # the first sequence of that text
        parts = self.take(np.arange(first)), self.take(np.arange(first, len(self)))
        return parts[0].numbered_from(0), parts[1].numbered_from(0)

    def parts(self, size: int) -> Iterator[HeldExamples]:
        """Yields all sequences in order, at most `size` at a time."""
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
    """Batches of an iterator, in the iterator's order and size. No batch is kept in memory.

    Attributes:
        source: a function of the batch size. It returns an iterator over the batches of one pass, or over the rest of
            the only pass. Each item is the examples of one batch. The function may ignore the size if its batches exist
            already.
    """

    source: Callable[[int], Iterator[HeldExamples]]

    @property
    def num_examples(self) -> None:
        """None, since the number of examples is unknown."""
        return

    @property
    def checksum(self) -> None:
        """None, since the examples are not held."""
        return

    def batches(self, batch_size: int, seed: int, data_pass: int, shuffle: bool, start: int = 0) -> Iterator[Batch]:
        """Yields the batches of one pass, in the source's order. The examples before the place `start` are read and
        skipped.
        """
        return self._masked(batch_size, Key.of_masks(seed, data_pass), start)

    def fixed(self, batch_size: int) -> Iterator[Batch]:
        """Yields the batches in the source's order."""
        return self._masked(batch_size, Key.of_evaluation())

    def class_weighted(self, factors: Array) -> StreamedExamples:
        """Returns the same batches, each weight multiplied by the factor of its label."""
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
    """Yields groups of `size` batches, pass after pass over the examples without end. Each pass has its own order.

    Args:
        examples: the examples. If their number is unknown, there is only one pass.
        batch_size, seed, shuffle: see `Examples.batches`.
        size: the number of batches in a group. The last group of a pass may have fewer.
        data_pass, position: the number of the first pass, and the number of examples at its beginning that are skipped.

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
    """Yields lists of `size` batches; the last list may be shorter. The batches of a list are numbered by `numbered`.

    >>> from pyroberta.model.batch import pack
    >>> [len(group) for group in grouped([pack([])] * 5, 2)]
    [2, 2, 1]
    """
    iterator = iter(batches)
    while group := list(islice(iterator, size)):
        yield numbered(group)


def numbered(batches: Sequence[Batch]) -> list[Batch]:
    """Returns the batches of one update, with their sequences numbered from 0 across all batches.

    >>> from pyroberta.model.batch import pack
    >>> [batch.numbers.tolist() for batch in numbered([pack([np.array([0, 2])] * 2), pack([np.array([0, 2])])])]
    [[0, 1], [2]]
    """
    starts = np.cumsum([0, *(len(batch) for batch in batches)])
    return [
        replace(batch, numbers=np.arange(start, start + len(batch)))
        for batch, start in zip(batches, starts.tolist(), strict=False)
    ]
