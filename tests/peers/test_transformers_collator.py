"""transformers' claims about the masking of its data collators."""

from __future__ import annotations

import numpy as np
import pytest
from claims import claim, differs
from small_models import TEXTS, small_tokenizer

from pyroberta import MaskedLMPreprocessor

FILE = "transformers/tests/trainer/test_data_collator.py"
NUMPY = f"{FILE}::NumpyDataCollatorIntegrationTest"
SAME = f"{FILE}::NumpyDataCollatorImmutabilityTest"
MODELING = "test_data_collator_for_language_modeling"


def made(**settings) -> MaskedLMPreprocessor:
    return MaskedLMPreprocessor(small_tokenizer(), **{"sequence_length": 40, "mask_selection_length": 20, **settings})


def sequences(*lengths):
    """Sequences of ordinary tokens within `<s>` and `</s>`."""
    some = np.random.default_rng(0).integers(10, 200, max(lengths), dtype=np.int32)
    return [np.array([0, *some[:length], 2], np.int32) for length in lengths]


@claim(f"{NUMPY}::{MODELING}")
@pytest.mark.parametrize("lengths", [(8, 8), (3, 8)])
def test_labels_stand_beside_the_masked_tokens_alone(lengths):
    some = sequences(*lengths)
    batch = made(mask_token_rate=1.0, random_token_rate=0.0, mask_selection_rate=0.5).mask(
        some, np.random.default_rng(0)
    )
    is_mask = batch.ids == small_tokenizer().mask_token_id
    assert is_mask.any()
    np.testing.assert_array_equal(np.flatnonzero(is_mask), batch.target_rows)
    np.testing.assert_array_equal(batch.labels, np.concatenate(some)[is_mask])
    np.testing.assert_array_equal(batch.ids[~is_mask], np.concatenate(some)[~is_mask])


@claim(f"{NUMPY}::test_data_collator_with_padding")
@pytest.mark.parametrize("length", [10, 40])
def test_texts_are_padded_to_a_length(length):
    features, _, _ = made(sequence_length=length)(["a", "abc"])
    assert features["token_ids"].shape == (2, length)
    assert (features["token_ids"][~features["padding_mask"]] == small_tokenizer().pad_token_id).all()
    assert features["padding_mask"].sum(1).tolist() == [3, 5]


@claim(f"{NUMPY}::{MODELING}")
def test_special_tokens_and_padding_are_never_masked():
    features, _, weights = made(mask_selection_rate=1.0)(["<s>abc</s>", "ab"])  # `<s><s>abc</s></s>`, `<s>ab</s>`
    places = [row[weight > 0].tolist() for row, weight in zip(features["mask_positions"], weights, strict=True)]
    assert places == [[2, 3, 4], [1, 2]]


@claim(f"{NUMPY}::{MODELING}")
@pytest.mark.parametrize(("mask_rate", "random_rate"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.8, 0.1)])
def test_the_shares_of_replacements(mask_rate, random_rate):
    some = sequences(*[38] * 200)
    settings = {"mask_token_rate": mask_rate, "random_token_rate": random_rate, "mask_selection_rate": 0.5}
    batch = made(count="bernoulli", mask_selection_length=40, **settings).mask(some, np.random.default_rng(0))
    seen = batch.ids[batch.target_rows]
    is_mask, is_same = seen == small_tokenizer().mask_token_id, seen == batch.labels
    ordinary = len(small_tokenizer().ordinary_ids)
    assert is_mask.mean() == pytest.approx(mask_rate, abs=0.02)
    assert is_same.mean() == pytest.approx(1 - mask_rate - random_rate + random_rate / ordinary, abs=0.02)
    assert len(batch.target_rows) == pytest.approx(0.5 * 38 * 200, rel=0.03)


@claim(f"{NUMPY}::{MODELING}")
@pytest.mark.parametrize(
    "settings",
    [
        {"mask_selection_rate": -0.1},
        {"mask_selection_rate": 1.1},
        {"mask_token_rate": 0.9, "random_token_rate": 0.2},
        {"mask_token_rate": -0.1},
        {"random_token_rate": 1.1},
    ],
)
def test_rates_that_are_no_shares_are_refused(settings):
    with pytest.raises(ValueError, match="rate"):
        made(**settings)


@claim(f"{NUMPY}::test_data_collator_for_whole_word_mask")
@pytest.mark.parametrize("kind", [list, np.array])
def test_whole_words_are_masked(kind):
    preprocessor = made(whole_words=True, mask_token_rate=1.0, random_token_rate=0.0, mask_selection_rate=0.3)
    tokenizer = small_tokenizer()
    for seed in range(5):
        some = preprocessor.encode(kind(TEXTS))
        batch = preprocessor.mask(some, np.random.default_rng(seed))
        for text, start, stop in zip(TEXTS, batch.starts[:-1], batch.starts[1:], strict=True):
            _, spans = tokenizer.encode_with_offsets(text)
            rows = range(int(start), int(stop))
            is_masked = {int(row): bool(batch.ids[row] == tokenizer.mask_token_id) for row in rows}
            for row, (_, end), (begin, _) in zip(rows, spans, spans[1:], strict=False):
                if end == begin and end:  # two tokens of one word
                    assert is_masked[row] == is_masked[row + 1]


@claim(f"{NUMPY}::{MODELING}")
@pytest.mark.parametrize("whole_words", [False, True])
def test_a_seed_draws_the_same_masks(whole_words):
    one, again, other = (made(seed=seed, whole_words=whole_words)(TEXTS)[0]["token_ids"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@claim(
    f"{SAME}::test_language_modelling_collator_immutability", f"{SAME}::test_whole_world_masking_collator_immutability"
)
@pytest.mark.parametrize("whole_words", [False, True])
def test_what_is_given_is_never_changed(whole_words):
    some = sequences(8, 5)
    before = [each.copy() for each in some]
    made(whole_words=whole_words, mask_selection_rate=0.9).mask(some, np.random.default_rng(0))
    for one, other in zip(some, before, strict=True):
        np.testing.assert_array_equal(one, other)


# ----------------------------------------------------------------------------------------------- what is done otherwise


@differs(f"{NUMPY}::{MODELING}")
def test_unused_slots_have_a_weight_of_0():
    """transformers puts -100 among the labels."""
    _, labels, weights = made()(["abc"])
    assert labels.min() >= 0
    assert weights.sum() == (weights > 0).sum() == 1


@differs(f"{NUMPY}::test_data_collator_with_padding")
def test_a_length_is_no_multiple():
    with pytest.raises(TypeError):
        made(pad_to_multiple_of=8)
