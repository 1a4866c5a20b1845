"""Batches: which examples, in which order, with which masks."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import TEXTS, small_masked_lm

from pyroberta.data.examples import HeldExamples, StreamedExamples, grouped, onwards
from pyroberta.model.batch import Batch, pack


def held(texts=TEXTS, sample_weight=None, **settings) -> HeldExamples:
    return small_masked_lm(settings=settings)._reader().examples(texts, sample_weight=sample_weight)


def parts(batch: Batch) -> list[tuple[int, ...]]:
    """The sequences with their labels put back."""
    ids = batch.ids.copy()
    ids[batch.target_rows] = batch.labels
    return [tuple(part.tolist()) for part in np.split(ids, batch.starts[1:])[:-1]]


def everything(batches) -> list[tuple]:
    return [
        (batch.ids.tolist(), batch.target_rows.tolist(), batch.labels.tolist(), batch.weights.tolist())
        for batch in batches
    ]


@given(batch_size=st.integers(1, 8), seed=st.integers(0, 2**64), shuffle=st.booleans())
def test_an_epoch_visits_every_sequence_once(batch_size: int, seed: int, shuffle: bool):
    examples = held()
    batches = list(examples.batches(batch_size, (seed,), shuffle))
    assert len(batches) == examples.num_batches(batch_size)
    visited = [part for batch in batches for part in parts(batch)]
    assert sorted(visited) == sorted(parts(examples.data))
    if not shuffle:
        assert visited == parts(examples.data)


def test_batches_follow_from_the_seed_alone():
    first, same = (everything(held().batches(2, (3, 1), True)) for _ in range(2))
    assert first == same
    assert first != everything(held().batches(2, (3, 2), True))
    assert first != everything(held().batches(2, (4, 1), True))


def test_masks_differ_from_batch_to_batch_of_the_same_texts():
    batches = list(held([TEXTS[0]] * 8).batches(1, (0,), False))
    assert len({tuple(batch.target_rows) for batch in batches}) > 1


@given(batch_size=st.integers(1, 8))
def test_fixed_masks_do_not_depend_on_the_batch_size(batch_size: int):
    def labels(size: int) -> list:
        return [label for batch in held().fixed(size) for label in batch.labels.tolist()]

    def ids(size: int) -> list:
        return [id for batch in held().fixed(size) for id in batch.ids.tolist()]

    assert labels(batch_size) == labels(6)
    assert ids(batch_size) == ids(6)


def test_weights_go_with_their_texts_through_shuffling_and_splitting():
    texts = ["a" * n for n in range(1, 9)]
    weights = np.arange(1.0, 9.0)
    examples = held(texts, weights)
    for side in (examples, *examples.split(0.5)):
        for batch in side.batches(3, (0,), True):
            lengths = np.diff(batch.starts)
            owners = np.searchsorted(batch.starts, batch.target_rows, side="right") - 1
            assert (batch.weights == lengths[owners] - 2).all()  # <s> and </s>


@given(fraction=st.floats(0.01, 0.99))
def test_a_split_is_the_first_part_and_the_last(fraction: float):
    examples = held()
    first, last = examples.split(fraction)
    assert len(first) == int(6 * (1 - fraction))
    assert parts(first.data) + parts(last.data) == parts(examples.data)


def test_labels_that_are_there_already_are_kept():
    masked_lm = small_masked_lm()
    x, y, weights = masked_lm.preprocessor(TEXTS, rng=np.random.default_rng(1))
    examples = masked_lm._reader().examples(x, y, weights)
    assert examples.mask is None
    order = [part for batch in examples.batches(4, (0,), True) for part in parts(batch)]
    assert sorted(order) == sorted(parts(held().data))
    assert [batch.slots for batch in examples.fixed(4)] == [32, 16]


def test_a_streams_batches_keep_their_order_and_are_masked_by_their_number():
    (batch,) = ([held([text])] for text in TEXTS[:1])
    streamed = StreamedExamples(lambda size: iter(batch * 3))
    fixed = everything(streamed.fixed(1))
    assert everything(streamed.fixed(7)) == fixed
    assert len({str(one) for one in fixed}) > 1
    assert everything(streamed.batches(1, (5,), True)) != fixed


@pytest.mark.parametrize("count", range(7))
def test_groups_are_full_but_for_the_last(count: int):
    batches = [pack([np.array([0, i])] * i) for i in range(count)]
    groups = list(grouped(batches, 3))
    assert [item.ids.tolist() for group in groups for item in group] == [batch.ids.tolist() for batch in batches]
    for group in groups:
        assert np.concatenate([batch.numbers for batch in group]).tolist() == list(range(sum(map(len, group))))
    assert all(len(group) == 3 for group in groups[:-1])
    assert all(groups)


def test_onwards_goes_from_pass_to_pass_and_begins_where_it_is_told_to():
    examples, passes = held(), []

    def seed(number: int, left_out: int) -> tuple[int, ...]:
        passes.append((number, left_out))
        return (number,)

    whole = [everything(group) for group in islice(onwards(examples, 2, 2, seed, True, 0), 6)]
    assert passes == [(0, 0), (1, 0), (2, 0)]
    assert [len(group) for group in whole] == [2, 1] * 3
    assert whole[:2] == [everything(group) for group in grouped(examples.batches(2, (0,), True), 2)]
    for begin in range(1, 5):
        passes.clear()
        assert [everything(group) for group in islice(onwards(examples, 2, 2, seed, True, begin), 2)] == whole[
            begin : begin + 2
        ]
        assert passes[0] == (begin // 2, begin % 2)


def test_parts_are_all_sequences_in_order():
    examples = held(sample_weight=np.arange(1.0, 7.0))
    for size in (1, 4, 6, 7):
        some = list(examples.parts(size))
        assert [len(part) for part in some[:-1]] == [size] * (len(some) - 1)
        assert [ids for part in some for ids in parts(part.data)] == parts(examples.data)
        assert np.concatenate([part.weights for part in some]).tolist() == examples.weights.tolist()
