"""KerasHub's layer that masks ids: it masks as the preprocessor does, and as KerasHub's own where nothing is random."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from small_models import TEXTS, small_tokenizer

from pyroberta import MaskedLMPreprocessor, layers
from pyroberta.layers import MaskedLMMaskGenerator

SETTINGS = {"mask_selection_rate": 0.5, "mask_token_rate": 0.6, "random_token_rate": 0.0, "seed": 3}


def masker(**arguments):
    return MaskedLMMaskGenerator(**{"vocabulary_size": 20, "mask_token_id": 4, "mask_selection_rate": 0.5, **arguments})


@pytest.mark.parametrize("calls", [1, 3])
def test_the_layer_masks_what_the_preprocessor_masks(calls):
    tokenizer = small_tokenizer()
    preprocessor = MaskedLMPreprocessor(tokenizer, sequence_length=40, mask_selection_length=8, **SETTINGS)
    layer = MaskedLMMaskGenerator(
        tokenizer.vocabulary_size(),
        mask_token_id=tokenizer.mask_token_id,
        mask_selection_length=8,
        unselectable_token_ids=tokenizer.special_token_ids,
        **SETTINGS,
    )
    sequences = preprocessor.encode(TEXTS)
    for _ in range(calls):
        features, labels, weights = preprocessor(TEXTS)
        found = layer(sequences)
    for row, expected in zip(found["token_ids"], features["token_ids"], strict=True):
        assert row == expected[: len(row)].tolist()
    np.testing.assert_array_equal(found["mask_positions"], features["mask_positions"])
    np.testing.assert_array_equal(found["mask_ids"], labels)
    np.testing.assert_array_equal(found["mask_weights"], weights)


def test_without_a_length_the_slots_are_those_that_are_used():
    found = masker(unselectable_token_ids=[0])([[5, 6, 7, 8], [9, 0, 0, 0]])
    assert found["token_ids"].shape == (2, 4)
    assert [len(row) for row in found["mask_positions"]] == [2, 1]
    assert found["mask_ids"][1] == [9]
    assert found["mask_weights"] == [[1.0, 1.0], [1.0]]
    alike = masker()([[5, 6, 7, 8], [9, 10, 11, 12]])
    assert {name: value.shape for name, value in alike.items()} == {
        "token_ids": (2, 4), "mask_positions": (2, 2), "mask_ids": (2, 2), "mask_weights": (2, 2)
    }  # fmt: skip
    assert {name: value.dtype.name for name, value in alike.items()} == {
        "token_ids": "int32", "mask_positions": "int32", "mask_ids": "int32", "mask_weights": "float32"
    }  # fmt: skip


def test_random_tokens_are_any_id_of_the_vocabulary():
    layer = masker(mask_selection_rate=1.0, mask_token_rate=0.0, random_token_rate=1.0)
    assert set(layer(np.full(2000, 7))["token_ids"].tolist()) == set(range(20))


def test_each_call_masks_anew_and_a_copy_goes_on_alike():
    layer, ids = masker(), np.arange(5, 20)
    before = layer(ids)["mask_positions"].tolist()
    one, other = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    positions = [each(ids)["mask_positions"].tolist() for each in (layer, one, other)]
    assert positions[0] == positions[1] == positions[2] != before
    assert masker()(ids)["mask_positions"].tolist() == before
    assert masker(seed=1)(ids)["mask_positions"].tolist() != before


@pytest.mark.parametrize(
    ("inputs", "positions"), [([], []), ([[]], [[]]), ([[], [5]], [[], [0]]), (np.zeros((2, 0), int), [[], []])]
)
def test_a_sequence_may_be_empty(inputs, positions):
    found = masker()(inputs)["mask_positions"]
    assert (found if isinstance(found, list) else found.tolist()) == positions


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ("abc", TypeError, r"the input must be ids, or a batch of them; got 'abc' \(str\)"),
        (7, TypeError, r"the input must be ids, or a batch of them; got 7 \(int\)"),
        ([0.5], TypeError, r"input must be a sequence of ids, whole numbers; got \[0.5\] \(list\)"),
        ([[5], 6], TypeError, r"input 1 must be a sequence of ids, whole numbers; got 6 \(int\)"),
        ([[5], [[6], [7, 8]]], TypeError, "input 1 must be a sequence of ids, whole numbers"),
        ([True], TypeError, "input must be a sequence of ids"),
        ([[5], [5, 20]], ValueError, "input 1 has the id 20, and vocabulary_size is 20"),
        ([-1], ValueError, "input has the id -1"),
    ],
)
def test_what_are_no_ids_is_refused_by_its_place(inputs, error, message):
    with pytest.raises(error, match=message):
        masker()(inputs)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mask_token_id": 20}, ValueError, "mask_token_id must be one of the vocabulary's 20 ids"),
        ({"mask_selection_rate": 1.5}, ValueError, "mask_selection_rate must be from 0 to 1, got 1.5"),
        ({"random_token_rate": 0.5}, ValueError, "cannot sum to more than 1"),
        ({"mask_selection_length": -1}, ValueError, "mask_selection_length must be at least 0"),
        ({"unselectable_token_ids": 0}, TypeError, "unselectable_token_ids must be a list of ids, got 0"),
        ({"trainable": False}, ValueError, "has nothing that is trained, so trainable=False has no effect"),
        ({"rate": 0.5}, TypeError, "unexpected keyword argument 'rate'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        masker(**arguments)


def test_what_is_set_is_checked():
    layer = masker()
    with pytest.raises(ValueError, match="mask_token_id must be one of the vocabulary's 3 ids"):
        layer.vocabulary_size = 3
    layer.mask_selection_rate = 0.0
    assert layer([5, 6])["token_ids"].tolist() == [5, 6]
    with pytest.raises(AttributeError, match="Keras has it, and setting it here would do nothing"):
        layer.dtype = "int64"


@pytest.mark.parametrize(
    ("name", "said"), [("MultiSegmentPacker", "preprocessors"), ("Dense", "pyroberta has whole models")]
)
def test_other_layers_are_errors_that_say_what_there_is(name, said):
    with pytest.raises(AttributeError, match=f"module 'pyroberta.layers' has no attribute '{name}': .*{said}"):
        getattr(layers, name)


@pytest.mark.parity
@pytest.mark.parametrize("length", [None, 4])
@pytest.mark.parametrize("inputs", [[5, 3, 2, 0], [[5, 3, 2], [1, 2, 3, 0]], [[5, 3, 2], [1, 2, 3]]])
def test_kerashubs_layer_gives_the_same_where_nothing_is_left_to_chance(inputs, length):
    import keras_hub

    settings = {"mask_selection_rate": 1.0, "mask_token_rate": 1.0, "random_token_rate": 0.0}
    ours = masker(mask_selection_length=length, **settings)
    theirs = keras_hub.layers.MaskedLMMaskGenerator(**ours.get_config())
    again = MaskedLMMaskGenerator.from_config(theirs.get_config())
    assert again.get_config() == ours.get_config()
    expected, found = theirs(inputs), again(inputs)
    assert set(found) == set(expected)
    for name, values in expected.items():
        plain = [np.asarray(row).tolist() for row in values] if np.ndim(inputs[0]) else np.asarray(values).tolist()
        assert [np.asarray(row).tolist() for row in found[name]] == plain
