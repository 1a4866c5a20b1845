from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from strategies import lengths as some_lengths
from strategies import seeds

from pyroberta.model.batch import Batch, pack, pack_padded, pad, slot_rows, take, unpack

V, T = 50, 8


def padded(*arrays, vocabulary_size=V, max_sequence_length=T) -> Batch:
    return pack_padded(*arrays, vocabulary_size=vocabulary_size, max_sequence_length=max_sequence_length)


def random_batch(lengths: list[int], rng: np.random.Generator) -> Batch:
    """Sequences of those lengths; about half of their tokens are masked."""
    batch = pack([rng.integers(0, V, length) for length in lengths])
    masked = np.flatnonzero(rng.random(batch.num_tokens) < 0.5).astype(np.int32)
    labels = rng.integers(0, V, len(masked)).astype(np.int32)
    weights = rng.integers(1, 9, len(masked)) / 4
    return replace(batch, target_rows=masked, labels=labels, weights=weights, slots=6 * len(lengths))


def random_gaps(lengths: list[int], columns: int, rng: np.random.Generator) -> np.ndarray:
    """A padding mask with the tokens of each row anywhere in it. (B, columns)"""
    is_token = np.arange(columns) < np.array(lengths, int)[:, None]
    return rng.permuted(is_token, axis=1) if is_token.size else is_token


def assert_equal(a: Batch, b: Batch) -> None:
    for name in ("ids", "positions", "starts", "target_rows", "labels", "weights"):
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype, name
        np.testing.assert_array_equal(x, y, err_msg=name)
    assert a.slots == b.slots


# --------------------------------------------------------------------------------------------------------- the border


@given(lengths=some_lengths, seed=seeds)
def test_packing_what_was_padded_gives_the_batch_back(lengths, seed):
    batch = random_batch(lengths, np.random.default_rng(seed))
    assert_equal(padded(*pad(batch, 6, mask_slots=6, pad_id=1)), batch)


@given(lengths=some_lengths, seed=seeds)
def test_unpacking_what_was_packed_gives_the_rows_back_and_zeros_for_padding(lengths, seed):
    rng = np.random.default_rng(seed)
    is_token = random_gaps(lengths, 7, rng)
    rows = rng.normal(size=(sum(lengths), 3)).astype(np.float32)
    y = unpack(rows, is_token)
    assert y.shape == (len(lengths), 7, 3)
    assert y.dtype == rows.dtype
    assert np.array_equal(y[is_token], rows)
    assert not y[~is_token].any()


@given(lengths=some_lengths, seed=seeds)
def test_where_the_padding_stands_does_not_matter(lengths, seed):
    rng = np.random.default_rng(seed)
    batch = random_batch(lengths, rng)
    is_token = random_gaps(lengths, 7, rng)
    token_ids = rng.integers(-9, 99, is_token.shape)  # what stands in the padding is never read
    token_ids[is_token] = batch.ids

    # Column of each packed row, hence of each masked one.
    columns = np.nonzero(is_token)[1]
    right = pad(batch, 6, mask_slots=6, pad_id=1)
    mask_positions = np.zeros((len(lengths), 6), int)
    mask_positions[right.weights > 0] = columns[batch.target_rows]
    assert_equal(padded(token_ids, is_token, mask_positions, right.labels, right.weights), batch)


def test_positions_count_tokens_wherever_the_padding_is():
    ids = [[9, 5, 6, 7], [5, 9, 9, 6], [9, 9, 9, 9], [5, 6, 7, 8]]
    is_token = [[0, 1, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]]
    batch = padded(ids, is_token)
    assert batch.ids.tolist() == [5, 6, 7, 5, 6, 5, 6, 7, 8]
    assert batch.positions.tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 3]
    assert batch.starts.tolist() == [0, 3, 5, 5, 9]


@pytest.mark.parametrize(
    "convert",
    [list, np.array, lambda x: np.array(x, np.int64), lambda x: np.array(x, np.uint8)],
)
@pytest.mark.parametrize("kind", [bool, int, float])
def test_nested_lists_and_arrays_of_any_integer_type_are_taken(convert, kind):
    is_token = np.array([[1, 1, 1], [1, 1, 0]], kind)
    batch = padded(convert([[0, 7, 2], [0, 2, 1]]), is_token, convert([[1], [0]]), convert([[8], [0]]), [[1], [0]])
    assert batch.ids.tolist() == [0, 7, 2, 0, 2]
    assert (batch.target_rows.tolist(), batch.labels.tolist(), batch.weights.tolist()) == ([1], [8], [1.0])
    assert batch.ids.dtype == batch.target_rows.dtype == batch.labels.dtype == np.int32


# -------------------------------------------------------------------------------------------------------------- slots

IDS, IS_TOKEN = [[0, 7, 2], [0, 2, 1]], [[1, 1, 1], [1, 1, 0]]


def test_slots_of_weight_zero_are_dropped_unread_but_still_counted():
    batch = padded(IDS, IS_TOKEN, [[1, -1], [99, 2]], [[8, -100], [999, -100]], [[0.5, 0], [0, 0]])
    assert (batch.target_rows.tolist(), batch.labels.tolist(), batch.weights.tolist()) == ([1], [8], [0.5])
    assert batch.slots == 4


def test_without_weights_every_slot_counts_one():
    batch = padded(IDS, IS_TOKEN, [[1, 1], [0, 1]], [[8, 8], [5, 6]])
    assert batch.target_rows.tolist() == [1, 1, 3, 4]
    assert batch.weights.tolist() == [1.0] * 4


@pytest.mark.parametrize("weights", [[0.5, 2.0], [[0.5], [2.0]]])
def test_one_weight_per_sequence_is_spread_over_its_slots(weights):
    batch = padded(IDS, IS_TOKEN, [[1, 2], [0, 1]], [[8, 8], [5, 6]], weights)
    assert batch.weights.tolist() == [0.5, 0.5, 2.0, 2.0]


def test_without_labels_the_slots_at_tokens_are_the_masked_rows():
    batch = padded(IDS, IS_TOKEN, [[1, 0], [2, 1]])
    assert batch.target_rows.tolist() == [1, 0, 4]  # the third slot points at padding
    assert len(batch.labels) == len(batch.weights) == 0
    assert batch.slots == 4


@given(lengths=some_lengths.filter(any), seed=seeds)
def test_slot_rows_find_the_token_that_the_slot_points_at(lengths, seed):
    rng = np.random.default_rng(seed)
    is_token = random_gaps(lengths, 7, rng)
    token_ids = rng.integers(0, V, is_token.shape)
    batch = padded(token_ids, is_token)
    slots = rng.integers(0, 7, (len(lengths), 4))
    rows = slot_rows(slots, is_token)
    points_at_token = np.take_along_axis(is_token, slots, axis=1)
    assert np.array_equal(rows >= 0, points_at_token)
    assert np.array_equal(batch.ids[rows[rows >= 0]], np.take_along_axis(token_ids, slots, axis=1)[points_at_token])


def test_logits_of_slots_unpack_like_hidden_states():
    rows = slot_rows([[2, 0], [2, 1]], IS_TOKEN)
    logits = np.arange(5.0)[:, None] + 10  # of the packed rows, V = 1
    assert unpack(logits[rows[rows >= 0]], rows >= 0)[..., 0].tolist() == [[12, 10], [0, 14]]


# ------------------------------------------------------------------------------------------------------ take, and pad


@given(lengths=some_lengths.filter(len), seed=seeds)
def test_taking_sequences_equals_building_the_batch_from_them(lengths, seed):
    rng = np.random.default_rng(seed)
    batch = random_batch(lengths, rng)
    whole = pad(batch, 6, mask_slots=6, pad_id=1)
    which = rng.integers(0, len(lengths), rng.integers(0, 6))
    assert_equal(take(batch, which), padded(*(array[which] for array in whole)))


@pytest.mark.parametrize(
    ("columns", "slots", "message"),
    [
        (2, 5, "sequence 1 has 3 tokens, more than sequence_length, 2"),
        (5, 1, "sequence 1 has 2 masked tokens, more than mask_slots, 1"),
    ],
)
def test_a_batch_that_does_not_fit_its_rectangle_is_an_error(columns, slots, message):
    batch = padded([[0, 2, 1], [0, 7, 2]], [[1, 1, 0], [1, 1, 1]], [[0, 0], [1, 2]], [[5, 0], [6, 7]], [[1, 0], [1, 1]])
    with pytest.raises(ValueError, match=message):
        pad(batch, columns, slots, pad_id=1)


# ------------------------------------------------------------------------------------------------------------- errors


SLOTS, LABELS = [[1], [0]], [[8], [9]]


def test_an_id_outside_the_vocabulary_is_named_with_its_place():
    token_ids = np.zeros((4, 20), int)
    token_ids[3, 17] = 50264
    with pytest.raises(
        ValueError,
        match=r"token id 50264 is outside the vocabulary of 8000 \(sequence 3, position 17\). "
        r"Was the text encoded with another tokenizer\?",
    ):
        padded(token_ids, np.ones((4, 20)), vocabulary_size=8000, max_sequence_length=20)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([0, 2], [1, 1]), r"token_ids must have the shape \(batch, sequence\), got \(2,\). Pass one"),
        (([[[0]]], [[1]]), r"token_ids must have the shape \(batch, sequence\), got \(1, 1, 1\)$"),
        (([[0, 2], [0]], [[1, 1], [1]]), "the rows of token_ids differ in length: pad them"),
        (([[0.0, 2.0]], [[1, 1]]), r"token_ids must be whole numbers, got float64. Convert them with .astype"),
        (([[0, -1]], [[1, 1]]), "token id -1 is outside the vocabulary of 50"),
        (([[0, 50]], [[1, 1]]), "token id 50 is outside the vocabulary of 50"),
        ((IDS, [[1, 1, 1]]), r"padding_mask has the shape \(1, 3\), but token_ids has \(2, 3\)"),
        ((IDS, [[1, 1, 1], [1, 1, 7]]), "padding_mask must be 1 or True where there is a token, .* got the value 7"),
        ((IDS, [[1, 1, 1], [1, 1, np.nan]]), "padding_mask must be .* got the value nan"),
        ((IDS, [["x"] * 3] * 2), "padding_mask must be .* got <U1"),
        ((np.zeros((2, 9), int), np.ones((2, 9))), "sequence 0 has 9 tokens, more than the model's max_seq.*, 8"),
        ((IDS, IS_TOKEN, None, [[1], [1]]), "labels and weights belong to mask slots"),
        ((IDS, IS_TOKEN, [[1], [1]], None, [[1], [1]]), "weights are given without labels"),
        ((IDS, IS_TOKEN, [[1]]), "mask_positions has 1 rows, but there are 2 sequences"),
        ((IDS, IS_TOKEN, [[1]], [[1]]), "mask_positions has 1 rows, but there are 2 sequences"),
        ((IDS, IS_TOKEN, [[1], [3]]), r"mask_positions\[1, 0\] is 3, outside the 3 columns of token_ids"),
        ((IDS, IS_TOKEN, [[-1], [0]], LABELS), r"mask_positions\[0, 0\] is -1, outside the 3 columns"),
        ((IDS, IS_TOKEN, [[1.5], [0]], LABELS), "mask_positions must be whole numbers, got float64"),
        ((IDS, IS_TOKEN, [[1], [2]], LABELS), r"mask_positions\[1, 0\] is 2, which is padding, .* has the weight 1"),
        ((IDS, IS_TOKEN, SLOTS, [[1, 1], [1, 1]]), r"labels has the shape \(2, 2\), but mask_positions has \(2, 1\)"),
        ((IDS, IS_TOKEN, SLOTS, [[1], [-100]]), r"label -100 is outside .* \(sequence 1, mask slot 0\)"),
        ((IDS, IS_TOKEN, SLOTS, LABELS, [1, 2, 3]), r"weights have the shape \(3,\), but there are mask slots of"),
        ((IDS, IS_TOKEN, SLOTS, LABELS, [[1], [-2]]), "weights must be finite and at least 0, got -2"),
        ((IDS, IS_TOKEN, SLOTS, LABELS, [[1], [np.inf]]), "weights must be finite and at least 0, got inf"),
        ((IDS, IS_TOKEN, SLOTS, LABELS, "heavy"), "weights must be numbers"),
    ],
)
def test_what_is_malformed_is_named(arrays, message):
    with pytest.raises(ValueError, match=message):
        padded(*arrays)


def test_rows_that_do_not_fill_the_places_are_an_error():
    with pytest.raises(ValueError, match="rows has 3 rows, but is_filled has 5 true entries"):
        unpack(np.zeros((3, 2)), IS_TOKEN)
