"""Batches: which examples, in which order, with which masks."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import TEXTS, small_masked_lm

from pyroberta.data.examples import HeldExamples, StreamedExamples, grouped, num_batches, onwards
from pyroberta.model.batch import Batch, pack, take


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


def one_by_one(batches) -> list[tuple]:
    """The sequences of all batches: their ids as the model sees them, their labels and weights."""
    found = []
    for batch in batches:
        for b in range(len(batch)):
            one = take(batch, np.array([b]))
            found.append((one.ids.tolist(), one.target_rows.tolist(), one.labels.tolist(), one.weights.tolist()))
    return found


def test_a_pass_visits_every_sequence_once_in_an_order_of_its_own():
    orders = set()
    for data_pass in range(3):
        visited = [part for batch in held().batches(4, 0, data_pass, True) for part in parts(batch)]
        assert sorted(visited) == sorted(parts(held().data))
        orders.add(tuple(visited))
    assert len(orders) == 3


@given(batch_size=st.integers(1, 8), seed=st.integers(0, 2**64 - 1), shuffle=st.booleans())
def test_neither_the_order_nor_the_masks_depend_on_the_batch_size(batch_size: int, seed: int, shuffle: bool):
    examples = held()
    batches = list(examples.batches(batch_size, seed, 2, shuffle))
    assert len(batches) == num_batches(examples, batch_size)
    assert one_by_one(batches) == one_by_one(examples.batches(1, seed, 2, shuffle))
    if not shuffle:
        assert [part for batch in batches for part in parts(batch)] == parts(examples.data)


@given(start=st.integers(0, 6), batch_size=st.integers(1, 4))
def test_a_pass_can_begin_in_its_midst(start: int, batch_size: int):
    whole = one_by_one(held().batches(1, 7, 0, True))
    assert one_by_one(held().batches(batch_size, 7, 0, True, start)) == whole[start:]


def test_batches_follow_from_the_seed_and_the_pass_alone():
    first, same = (everything(held().batches(2, 3, 1, True)) for _ in range(2))
    assert first == same
    assert first != everything(held().batches(2, 3, 2, True))
    assert first != everything(held().batches(2, 4, 1, True))


def test_the_same_text_is_masked_elsewhere_as_another_example():
    batches = list(held([TEXTS[0]] * 8).batches(1, 0, 0, False))
    assert len({tuple(batch.target_rows) for batch in batches}) > 1


@pytest.mark.parametrize("seed", [0, 5])
def test_evaluation_masks_an_example_alike_whatever_the_seed_and_the_texts_beside_it(seed: int):
    model = small_masked_lm()
    model.seed = seed
    whole = one_by_one(model._reader().examples(TEXTS).fixed(4))
    assert one_by_one(held(TEXTS[:2]).fixed(1)) == whole[:2]


def test_the_second_part_of_a_split_is_masked_as_if_it_were_given_alone():
    _, last = held().split(0.5)
    assert one_by_one(last.fixed(2)) == one_by_one(held(TEXTS[3:]).fixed(2))


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
        for batch in side.batches(3, 0, 0, True):
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
    order = [part for batch in examples.batches(4, 0, 0, True) for part in parts(batch)]
    assert sorted(order) == sorted(parts(held().data))
    assert [batch.slots for batch in examples.fixed(4)] == [32, 16]


def test_a_streams_examples_keep_their_order_and_are_masked_by_their_number():
    examples = [held([text]) for text in TEXTS]
    streamed = StreamedExamples(lambda size: iter(examples))
    assert one_by_one(streamed.fixed(7)) == one_by_one(held().fixed(3))
    assert one_by_one(streamed.batches(1, 5, 0, True)) == one_by_one(held().batches(2, 5, 0, False))
    assert one_by_one(streamed.batches(1, 5, 0, True, start=2)) == one_by_one(held().batches(2, 5, 0, False))[2:]


def test_a_stream_can_begin_in_the_midst_of_a_batch():
    streamed = StreamedExamples(lambda size: held().parts(4))
    assert one_by_one(streamed.batches(4, 5, 0, True, start=3)) == one_by_one(held().batches(2, 5, 0, False))[3:]


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
    examples = held()
    whole = [everything(group) for group in islice(onwards(examples, 2, 2, 9, True, 0, 0), 6)]
    assert [len(group) for group in whole] == [2, 1] * 3
    for data_pass in range(3):
        of_pass = [everything(group) for group in grouped(examples.batches(2, 9, data_pass, True), 2)]
        assert whole[2 * data_pass : 2 * data_pass + 2] == of_pass
    for begin in range(1, 5):
        groups = onwards(examples, 2, 2, 9, True, begin // 2, begin % 2 * 4)
        assert [everything(group) for group in islice(groups, 2)] == whole[begin : begin + 2]


def test_parts_are_all_sequences_in_order():
    examples = held(sample_weight=np.arange(1.0, 7.0))
    for size in (1, 4, 6, 7):
        some = list(examples.parts(size))
        assert [len(part) for part in some[:-1]] == [size] * (len(some) - 1)
        assert [ids for part in some for ids in parts(part.data)] == parts(examples.data)
        assert np.concatenate([part.weights for part in some]).tolist() == examples.weights.tolist()
