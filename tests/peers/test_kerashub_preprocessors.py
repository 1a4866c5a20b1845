"""KerasHub's claims about preprocessors, masking and packing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from claims import claim, hub_tokenizer
from small_models import small_tokenizer

from pyroberta import MaskedLMPreprocessor, TextClassifierPreprocessor
from pyroberta.layers import MaskedLMMaskGenerator
from pyroberta.text.packing import pack_segments
from pyroberta.text.preprocessor import Preprocessor

LM = "keras_hub/src/models/roberta/roberta_masked_lm_preprocessor_test.py::RobertaMaskedLMPreprocessorTest"
CLASSIFIER = (
    "keras_hub/src/models/roberta/roberta_text_classifier_preprocessor_test.py::RobertaTextClassifierPreprocessorTest"
)
BASE = "keras_hub/src/models/preprocessor_test.py::TestPreprocessor"
MASKS = "keras_hub/src/layers/preprocessing/masked_lm_mask_generator_test.py::MaskedLMMaskGeneratorTest"
PACKER = "keras_hub/src/layers/preprocessing/multi_segment_packer_test.py::MultiSegmentPackerTest"
ALL_MASKED = {"mask_selection_rate": 1.0, "mask_token_rate": 1.0, "random_token_rate": 0.0}
both = pytest.mark.parametrize("kind", [MaskedLMPreprocessor, TextClassifierPreprocessor])


def masking(**changes):
    settings = {**ALL_MASKED, "mask_selection_length": 4, "sequence_length": 12, **changes}
    return MaskedLMPreprocessor(hub_tokenizer(), **settings)


def features_of(output):
    return output[0] if isinstance(output, tuple) else output


# ----------------------------------------------------------------------------------------------------------- masked LM


@claim(f"{LM}::test_preprocessor_basics")
@pytest.mark.parametrize("is_batch", [True, False])
def test_texts_are_masked(is_batch):
    features, labels, weights = masking()([" airplane airport"] if is_batch else " airplane airport")
    expected = {
        "token_ids": [0, 8, 8, 8, 8, 2, 1, 1, 1, 1, 1, 1],
        "padding_mask": [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        "mask_positions": [1, 2, 3, 4],
    }
    for name, values in expected.items():
        assert features[name].tolist() == ([values] if is_batch else values)
    assert labels.tolist() == ([[4, 5, 4, 7]] if is_batch else [4, 5, 4, 7])
    assert weights.tolist() == ([[1.0] * 4] if is_batch else [1.0] * 4)


@claim(f"{LM}::test_no_masking_zero_rate")
def test_a_rate_of_0_masks_nothing():
    features, labels, weights = masking(mask_selection_rate=0.0)([" airplane airport"])
    assert features["token_ids"].tolist() == [[0, 4, 5, 4, 7, 2, 1, 1, 1, 1, 1, 1]]
    assert features["padding_mask"].tolist() == [[1] * 6 + [0] * 6]
    assert features["mask_positions"].tolist() == labels.tolist() == weights.tolist() == [[0] * 4]


@both
@claim(f"{LM}::test_preprocessor_basics", f"{CLASSIFIER}::test_preprocessor_basics")
def test_a_preprocessor_is_made_again_of_its_config(kind):
    preprocessor = kind(small_tokenizer(), sequence_length=8)
    config = json.loads(json.dumps(preprocessor.get_config()))
    again = kind.from_config(config)
    assert type(again) is kind
    assert again.get_config() == preprocessor.get_config()
    assert again.sequence_length == 8


@both
@claim(f"{LM}::test_preprocessor_basics", f"{CLASSIFIER}::test_preprocessor_basics")
def test_the_length_may_be_set(kind):
    preprocessor = kind(small_tokenizer(), sequence_length=8)
    assert features_of(preprocessor(["a fox"]))["token_ids"].shape == (1, 8)
    preprocessor.sequence_length = 17
    assert features_of(preprocessor(["a fox"]))["token_ids"].shape == (1, 17)


@claim(f"{LM}::test_preprocessor_basics")
def test_texts_of_an_iterator_are_masked_as_those_of_a_list():
    texts = [" airplane airport", " airplane at airport"]
    one, other = masking()(iter(texts)), masking()(texts)
    for name in one[0]:
        np.testing.assert_array_equal(one[0][name], other[0][name])


@claim(f"{LM}::test_all_presets", f"{CLASSIFIER}::test_all_presets")
@both
def test_each_preset_has_a_preprocessor(kind):
    for name in ("roberta_base_en", "roberta_large_en"):
        assert name in kind.presets
    assert kind.from_preset("roberta_base_en").tokenizer.vocabulary_size() == 50265


# ----------------------------------------------------------------------------------------------------------- classifier


@claim(f"{CLASSIFIER}::test_preprocessor_basics")
@pytest.mark.parametrize("beside", [(), ([1],), ([1], [1.0])])
def test_labels_and_weights_pass_through(beside):
    preprocessor = TextClassifierPreprocessor(hub_tokenizer(), sequence_length=8)
    found = preprocessor([" airplane at airport"], *beside)
    features = found if isinstance(found, dict) else found[0]
    assert features["token_ids"].tolist() == [[0, 4, 5, 6, 4, 7, 2, 1]]
    assert features["padding_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 1, 0]]
    assert not beside or [list(each) for each in found[1:]] == [list(each) for each in beside]


@claim(f"{CLASSIFIER}::test_errors_for_2d_list_input")
@both
def test_a_list_of_lists_is_refused(kind):
    with pytest.raises((TypeError, ValueError)):
        kind(small_tokenizer(), sequence_length=8)([["one", "two"], ["three", "four"]])


# ---------------------------------------------------------------------------------------------------------------- base


@claim(f"{BASE}::test_preset_accessors")
@pytest.mark.parametrize("kind", [Preprocessor, MaskedLMPreprocessor, TextClassifierPreprocessor])
def test_presets_have_names(kind):
    assert {"roberta_base_en", "roberta_large_en"} <= set(kind.presets)


@claim(f"{BASE}::test_from_preset", f"{BASE}::test_from_preset_with_sequence_length")
@both
def test_a_preset_with_another_length(kind):
    preprocessor = kind.from_preset("roberta_tiny_en", sequence_length=16)
    assert type(preprocessor) is kind
    assert preprocessor.sequence_length == 16


@claim(f"{BASE}::test_from_preset_errors")
@both
def test_an_unknown_preset_is_refused(kind):
    with pytest.raises((ValueError, FileNotFoundError), match="bert_tiny_en_uncased"):
        kind.from_preset("bert_tiny_en_uncased")


@claim(f"{BASE}::test_save_to_preset")
@both
@pytest.mark.parametrize("format", ["hf", "keras"])
def test_a_preprocessor_that_was_saved_is_loaded(tmp_path, kind, format):
    from small_models import small_masked_lm

    model = small_masked_lm(dtype="float32")
    path = tmp_path / "preset"
    kind(model.preprocessor.tokenizer, sequence_length=31).save_to_preset(path, format=format)
    again = kind.from_preset(path)
    assert again.sequence_length == 31
    assert again.tokenizer.vocabulary == model.preprocessor.tokenizer.vocabulary


@claim(f"{BASE}::test_save_to_preset")
def test_a_preset_of_kerashub_has_its_files(tmp_path):
    MaskedLMPreprocessor(small_tokenizer(), sequence_length=31).save_to_preset(tmp_path / "preset", format="keras")
    for name in ("assets/tokenizer/vocabulary.json", "assets/tokenizer/merges.txt", "preprocessor.json"):
        assert (tmp_path / "preset" / name).exists()


# -------------------------------------------------------------------------------------------------------------- masking


def masked(texts, seed=0, **settings):
    """The packed batch of texts of the small tokenizer, masked, and the packed one before."""
    preprocessor = MaskedLMPreprocessor(small_tokenizer(), **{**ALL_MASKED, **settings})
    sequences = preprocessor.encode(texts)
    return preprocessor.mask(sequences, np.random.default_rng(seed)), np.concatenate(sequences)


# The vocabulary of KerasHub's tests has 13 tokens, of which the second is the mask.
V, MASK = 13, 1
ALL = {"mask_selection_rate": 1, "mask_selection_length": 4, "mask_token_rate": 1, "random_token_rate": 0}


def masker(**arguments):
    """KerasHub's layer."""
    return MaskedLMMaskGenerator(**{"vocabulary_size": V, "mask_token_id": MASK, **arguments})


@claim(f"{MASKS}::test_mask_ragged", f"{MASKS}::test_mask_dense", f"{MASKS}::test_unbatched")
@pytest.mark.parametrize(
    ("inputs", "positions"),
    [
        ([[5, 3, 2], [1, 2, 3, 4]], [[0, 1, 2, 0], [0, 1, 2, 3]]),
        ([[5, 3, 2, 4], [1, 2, 3, 4]], [[0, 1, 2, 3], [0, 1, 2, 3]]),
        (np.array([[5, 3, 2, 4], [1, 2, 3, 4]]), [[0, 1, 2, 3], [0, 1, 2, 3]]),
    ],
)
def test_the_layer_masks_every_id_if_so_said(inputs, positions):
    found = masker(**ALL)(inputs)
    assert [list(row) for row in found["token_ids"]] == [[MASK] * len(row) for row in inputs]
    assert found["mask_positions"].tolist() == positions
    assert found["mask_ids"].tolist() == [[*row, 0][:4] for row in map(list, inputs)]


@claim(f"{MASKS}::test_unbatched")
def test_the_layer_masks_one_sequence():
    found = {name: array.tolist() for name, array in masker(**ALL)([5, 3, 2, 4]).items()}
    assert found == {
        "token_ids": [1, 1, 1, 1],
        "mask_positions": [0, 1, 2, 3],
        "mask_ids": [5, 3, 2, 4],
        "mask_weights": [1, 1, 1, 1],
    }


@claim(f"{MASKS}::test_random_replacement")
def test_the_layer_replaces_ids_at_random():
    arguments = {**ALL, "mask_token_rate": 0, "random_token_rate": 1}
    found = masker(**{**arguments, "vocabulary_size": 10_000})([5, 3, 2, 4])
    assert found["token_ids"].tolist() not in ([1, 1, 1, 1], [5, 3, 2, 4])
    assert found["mask_positions"].tolist() == [0, 1, 2, 3]
    assert found["mask_ids"].tolist() == [5, 3, 2, 4]


@claim(f"{MASKS}::test_number_of_masked_position_as_expected")
def test_the_layer_masks_no_more_than_it_may():
    found = masker(mask_selection_rate=0.5, mask_selection_length=0)([[0, 1, 2], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4]])
    assert found["mask_positions"].sum() == 0
    assert found["token_ids"] == [[0, 1, 2], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4]]


@claim(f"{MASKS}::test_invalid_mask_token")
def test_the_mask_is_an_id_of_the_vocabulary():
    with pytest.raises(ValueError, match="mask_token_id must be one of the vocabulary's 13 ids"):
        masker(mask_selection_rate=0.5, mask_token_id=V, mask_selection_length=5)


@claim(f"{MASKS}::test_unselectable_tokens")
def test_the_layer_leaves_ids_out():
    outside = [V - 1, V - 2]
    found = masker(**{**ALL, "mask_selection_length": 5, "unselectable_token_ids": outside})([outside])
    assert found["mask_weights"].sum() == 0
    assert found["token_ids"].tolist() == [outside]


@claim(f"{MASKS}::test_config")
def test_the_layer_is_made_again_of_its_config():
    outside = [V - 1, V - 2]
    config = masker(mask_selection_rate=0.5, mask_selection_length=5, unselectable_token_ids=outside).get_config()
    assert (config["vocabulary_size"], config["unselectable_token_ids"]) == (V, outside)
    again = MaskedLMMaskGenerator.from_config(config)
    assert again.get_config() == config
    again([[5, 3, 2], [1, 2, 3, 4]])


@claim(f"{MASKS}::test_mask_ragged", f"{MASKS}::test_mask_dense", f"{MASKS}::test_unbatched")
@pytest.mark.parametrize("texts", [["abc", "abcd"], ["abcd", "bcda"], "abcd"])
def test_every_token_is_masked_if_so_said(texts):
    batch, before = masked(texts, mask_selection_length=4)
    is_text = before > 4
    assert (batch.ids[is_text] == small_tokenizer().mask_token_id).all()
    np.testing.assert_array_equal(batch.ids[~is_text], before[~is_text])
    np.testing.assert_array_equal(batch.target_rows, np.flatnonzero(is_text))
    np.testing.assert_array_equal(batch.labels, before[is_text])


@claim(f"{MASKS}::test_mask_ragged")
def test_slots_that_are_not_used_are_zeros():
    features, labels, weights = MaskedLMPreprocessor(
        small_tokenizer(), sequence_length=8, mask_selection_length=4, **ALL_MASKED
    )(["abc", "abcd"])
    assert features["mask_positions"].tolist() == [[1, 2, 3, 0], [1, 2, 3, 4]]
    assert labels[0, 3] == 0
    assert weights.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


@claim(f"{MASKS}::test_random_replacement")
def test_tokens_are_replaced_at_random():
    batch, before = masked("abcdefgh" * 4, mask_token_rate=0.0, random_token_rate=1.0)
    changed = batch.ids[batch.target_rows]
    assert (changed != small_tokenizer().mask_token_id).all()
    assert (changed != batch.labels).any()
    assert not small_tokenizer().is_special[changed].any()
    np.testing.assert_array_equal(batch.labels, before[batch.target_rows])


@claim(f"{MASKS}::test_number_of_masked_position_as_expected")
@pytest.mark.parametrize(
    ("text", "rate", "most", "expected"), [("abc", 0.5, 5, 2), ("abcdef", 0.5, 5, 3), ("abcdef", 1.0, 2, 2)]
)
def test_so_many_tokens_are_masked(text, rate, most, expected):
    batch, _ = masked(text, mask_selection_rate=rate, mask_selection_length=most)
    assert len(batch.target_rows) == expected


@claim(f"{MASKS}::test_unselectable_tokens")
def test_special_tokens_are_never_masked():
    batch, before = masked("<s></s><mask>", mask_selection_length=4)
    assert len(batch.target_rows) == 0
    np.testing.assert_array_equal(batch.ids, before)


@claim(f"{MASKS}::test_config")
def test_the_settings_of_masking_are_in_the_config():
    settings = {
        "mask_selection_rate": 0.5,
        "mask_selection_length": 5,
        "mask_token_rate": 0.6,
        "random_token_rate": 0.3,
    }
    config = MaskedLMPreprocessor(small_tokenizer(), **settings).get_config()
    assert {name: config[name] for name in settings} == settings
    MaskedLMPreprocessor.from_config(config)(["a fox"])


@claim(f"{MASKS}::test_with_tf_data")
def test_a_batch_is_masked_as_wide_as_its_texts():
    preprocessor = MaskedLMPreprocessor(small_tokenizer(), sequence_length=10, mask_selection_length=5)
    together = preprocessor(["abcdefgh"] * 8)[0]["token_ids"]
    alone = np.stack([preprocessor("abcdefgh")[0]["token_ids"] for _ in range(8)])
    assert together.shape == alone.shape == (8, 10)


# -------------------------------------------------------------------------------------------------------------- packing

A, B = [10, 11, 12], [20, 21, 22]


def packed(segments, length, truncate="round_robin", separators=1):
    found = pack_segments(segments, length, start_id=1, end_id=2, truncate=truncate, separators=separators)
    return found + [0] * (length - len(found))


@claim(f"{PACKER}::test_trim_single_input_ints", f"{PACKER}::test_trim_single_input_strings")
@pytest.mark.parametrize(
    ("segment", "length", "expected"),
    [(range(3, 10), 8, [1, 3, 4, 5, 6, 7, 8, 2]), ([30, 31, 32, 33], 5, [1, 30, 31, 32, 2])],
)
def test_a_segment_is_cut(segment, length, expected):
    assert packed([list(segment)], length) == expected


@claim(f"{PACKER}::test_trim_multiple_inputs_round_robin", f"{PACKER}::test_trim_multiple_inputs_waterfall")
@pytest.mark.parametrize(
    ("truncate", "expected"),
    [("round_robin", [1, 10, 11, 2, 20, 21, 2]), ("waterfall", [1, 10, 11, 12, 2, 20, 2])],
)
def test_segments_are_cut(truncate, expected):
    assert packed([A, B], 7, truncate) == expected


@claim(f"{PACKER}::test_trim_batched_inputs_round_robin", f"{PACKER}::test_trim_batched_inputs_waterfall")
@pytest.mark.parametrize("truncate", ["round_robin", "waterfall"])
def test_the_segments_of_a_batch_are_cut_each_by_itself(truncate):
    preprocessor = TextClassifierPreprocessor(small_tokenizer(), sequence_length=8, truncate=truncate)
    pairs = [("abc", "xyz"), ("ab", "xyz")]
    with pytest.warns(UserWarning, match="cut"):
        together = preprocessor(pairs)["token_ids"]
    with pytest.warns(UserWarning, match="cut"):
        columns = preprocessor(([pair[0] for pair in pairs], [pair[1] for pair in pairs]))["token_ids"]
    np.testing.assert_array_equal(together, columns)
    for row, pair in zip(together, pairs, strict=True):
        segments = [small_tokenizer().encode(text, add_special_tokens=False) for text in pair]
        expected = pack_segments(segments, 8, start_id=0, end_id=2, truncate=truncate)
        assert row.tolist() == [*expected, *[1] * (8 - len(expected))]


@claim(f"{PACKER}::test_pad_inputs", f"{PACKER}::test_pad_batched_inputs")
@pytest.mark.parametrize(
    ("pair", "length", "expected"),
    [((A[:1], B[:1]), 6, [1, 10, 2, 20, 2, 0]), ((A[:1], B[:2]), 7, [1, 10, 2, 20, 21, 2, 0])],
)
def test_what_is_short_is_padded(pair, length, expected):
    assert packed(pair, length) == expected


@claim(f"{PACKER}::test_list_special_tokens")
@pytest.mark.parametrize(
    ("pair", "expected"),
    [((A[:2], B[:2]), [1, 10, 11, 2, 2, 20, 21, 2]), ((A[:2], B[:1]), [1, 10, 11, 2, 2, 20, 2, 0])],
)
def test_two_separators_stand_between_segments(pair, expected):
    assert packed(pair, 8, separators=2) == expected


@claim(f"{PACKER}::test_config")
def test_the_way_to_cut_is_in_the_config():
    preprocessor = TextClassifierPreprocessor(small_tokenizer(), sequence_length=9, truncate="waterfall")
    again = TextClassifierPreprocessor.from_config(preprocessor.get_config())
    pair = ("abcdef", "uvwxyz")
    found = []
    for each in (preprocessor, again):
        with pytest.warns(UserWarning, match="cut"):
            found.append(each([pair])["token_ids"].tolist())
    assert found[0] == found[1]
