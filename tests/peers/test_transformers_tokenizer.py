"""transformers' claims about RoBERTa's tokenizer and model."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from claims import claim
from small_presets import HF, directory_of, hf_tensors

from pyroberta import Backbone, MaskedLM, TextClassifier, Tokenizer

TOKENIZER = "transformers/tests/models/roberta/test_tokenization_roberta.py::RobertaTokenizationTest"
SIZES = {"vocabulary_size": 13, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12}
INTEGRATION = "transformers/tests/models/roberta/test_modeling_roberta.py::RobertaModelIntegrationTest"
MODEL = "transformers/tests/models/roberta/test_modeling_roberta.py::RobertaModelTest"


@functools.cache
def published() -> Tokenizer:
    """roberta-base's tokenizer, whose vocabulary is in the package."""
    return Tokenizer.from_preset("roberta_base_en")


@functools.cache
def changed(**options) -> Tokenizer:
    """A small one of which `hello` and `Ġhello` are tokens, with other options."""
    trained = Tokenizer.train(["hello hello hello"], vocab_size=275)
    return Tokenizer(trained.vocabulary, trained.merges, **options)


@functools.cache
def newer() -> Tokenizer:
    """That of transformers' test, after Sennrich et al. 2015, with RoBERTa's special tokens: it lacks most bytes."""
    tokens = ["l", "o", "w", "e", "r", "s", "t", "i", "d", "n", "Ġ", "Ġl", "Ġn", "Ġlo", "Ġlow", "er", "Ġlowest"]
    tokens += ["Ġnewer", "Ġwider", "<unk>", "<s>", "<pad>", "</s>", "<mask>"]
    return Tokenizer({token: id for id, token in enumerate(tokens)}, ["Ġ l", "Ġl o", "Ġlo w", "e r"])


def tokens_of(text, **options):
    return [changed(**options).id_to_token(id) for id in changed(**options).encode(text, add_special_tokens=False)]


@claim(f"{TOKENIZER}::test_full_tokenizer")
def test_a_vocabulary_that_lacks_bytes():
    ids = newer().encode("lower newer", add_special_tokens=False)
    assert [newer().id_to_token(id) for id in ids] == ["l", "o", "w", "er", "Ġ", "n", "e", "w", "er"]
    assert ids == [0, 1, 2, 15, 10, 9, 3, 2, 15]


@claim(f"{TOKENIZER}::test_full_tokenizer")
def test_an_unknown_byte_is_unk():
    with pytest.warns(UserWarning, match="lacks tokens for some bytes"):
        assert newer().encode("q", add_special_tokens=False) == [newer().vocabulary["<unk>"]]


@claim(f"{TOKENIZER}::roberta_dict_integration_testing")
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello world!", [0, 31414, 232, 328, 2]),
        ("Hello world! cécé herlolip", [0, 31414, 232, 328, 740, 1140, 12695, 69, 46078, 1588, 2]),
    ],
)
def test_the_ids_of_roberta(text, ids):
    assert published().encode(text) == ids


@claim(f"{TOKENIZER}::test_sequence_builders")
@pytest.mark.parametrize("pair", [None, "multi-sequence build"])
def test_special_tokens_stand_around_segments(pair):
    one = published().encode("sequence builders", add_special_tokens=False)
    other = published().encode(pair, add_special_tokens=False) if pair else []
    expected = [0, *one, 2, 2, *other, 2] if pair else [0, *one, 2]
    assert published().encode("sequence builders", pair) == expected


@claim(f"{TOKENIZER}::test_space_encoding")
@pytest.mark.parametrize("add_prefix_space", [False, True])
def test_the_first_word_may_have_a_space(add_prefix_space):
    first = tokens_of("Encode this sequence.", add_prefix_space=add_prefix_space)[0]
    assert first.startswith("Ġ") is add_prefix_space


@claim(f"{TOKENIZER}::test_space_encoding")
@pytest.mark.parametrize(("text", "has_space"), [("Encode <mask> sequence", True), ("Encode <mask>sequence", False)])
def test_the_space_after_a_mask_is_the_next_words(text, has_space):
    tokens = tokens_of(text)
    assert tokens[tokens.index("<mask>") + 1].startswith("Ġ") is has_space


@claim(f"{TOKENIZER}::test_embeded_special_tokens")
def test_a_mask_takes_the_space_before_it():
    ids = published().encode("A, <mask> AllenNLP sentence.")
    assert ids == [0, 250, 6, 50264, 3823, 487, 21992, 3645, 4, 2]
    expected = ["<s>", "A", ",", "<mask>", "ĠAllen", "N", "LP", "Ġsentence", ".", "</s>"]
    assert [published().id_to_token(id) for id in ids] == expected


WAYS = list(itertools.product([True, False], repeat=2))


@claim(f"{TOKENIZER}::test_change_add_prefix_space_and_trim_offsets_args")
@pytest.mark.parametrize(("trim_offsets", "add_prefix_space"), WAYS)
def test_the_treatment_of_spaces_is_kept(tmp_path, trim_offsets, add_prefix_space):
    vocabulary = {token: id for id, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", "a"])}
    options = {"add_prefix_space": add_prefix_space, "trim_offsets": trim_offsets}
    Tokenizer(vocabulary, [], **options).save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert {name: getattr(again, name) for name in options} == options


@claim(f"{TOKENIZER}::test_offsets_mapping_with_different_add_prefix_space_and_trim_space_arguments")
@pytest.mark.parametrize(
    ("add_prefix_space", "trim_offsets", "space"),
    [(*way, space) for way in WAYS for space in ("", " ") if not (all(way) and space)],  # which transformers leaves out
)
def test_the_places_of_tokens(add_prefix_space, trim_offsets, space):
    first = len(space) if trim_offsets else 0
    second = len(space) + 5 + (1 if trim_offsets else 0)
    expected = [(first, len(space) + 5), (second, len(space) + 11)]
    tokenizer = changed(add_prefix_space=add_prefix_space, trim_offsets=trim_offsets)
    _, spans = tokenizer.encode_with_offsets(f"{space}hello hello", add_special_tokens=False)
    assert spans == expected


# ---------------------------------------------------------------------------------------------------------------- model


@claim(f"{MODEL}::test_model", f"{MODEL}::test_for_masked_lm")
def test_hidden_states_and_logits_have_their_shapes():
    backbone = Backbone(**SIZES)
    ids = np.full((2, 5), 4, "int32")
    inputs = {"token_ids": ids, "padding_mask": np.ones((2, 5), bool)}
    assert backbone(inputs).shape == (2, 5, SIZES["hidden_dim"])
    places = {"mask_positions": np.array([[1, 2], [3, 4]])}
    assert MaskedLM(backbone)({**inputs, **places}).shape == (2, 2, SIZES["vocabulary_size"])


@claim(f"{INTEGRATION}::test_inference_classification_head")
def test_a_classifier_has_a_logit_for_each_class():
    classifier = TextClassifier(Backbone(**SIZES), num_classes=3)
    inputs = {"token_ids": np.full((2, 5), 4, "int32"), "padding_mask": np.ones((2, 5), bool)}
    assert classifier(inputs).shape == (2, 3)


@claim(f"{MODEL}::test_create_position_ids_respects_padding_index")
def test_positions_begin_after_the_padding_index(tmp_path):
    tensors = hf_tensors()
    backbone = Backbone.from_preset(directory_of(tmp_path / "preset", tensors))
    rows = tensors["roberta.embeddings.position_embeddings.weight"][HF.pad_id + 1 :]
    kind = tensors["roberta.embeddings.token_type_embeddings.weight"]  # one row, which is added to each
    np.testing.assert_allclose(backbone.params["embeddings.position"], rows + kind, rtol=1e-6)


@claim(f"{MODEL}::test_create_position_ids_respects_padding_index")
def test_padding_changes_no_state():
    backbone = Backbone(**SIZES)
    ids = np.array([[5, 7, 9, 1, 1]], "int32")
    padded = backbone({"token_ids": ids, "padding_mask": ids != 1})
    alone = backbone({"token_ids": ids[:, :3], "padding_mask": np.ones((1, 3), bool)})
    np.testing.assert_allclose(padded[:, :3], alone, atol=1e-6)
