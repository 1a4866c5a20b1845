"""transformers' claims about RoBERTa's tokenizer and model, its fill-mask pipeline, and its data collators."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from claims import claim, differs
from small_models import TEXTS, small_masked_lm, small_tokenizer
from small_presets import HF, directory_of, hf_tensors

from pyroberta import Backbone, MaskedLM, MaskedLMPreprocessor, TextClassifier, Tokenizer

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


# --- the fill-mask pipeline -------------------------------------------------------------------------------------------


PIPELINE = "transformers/tests/pipelines/test_pipelines_fill_mask.py::FillMaskPipelineTests"
TEXT = "It is a <mask>"


@functools.cache
def model():
    return small_masked_lm()


def fill(texts=TEXT, **options):
    return model().fill_mask(texts, verbose=0, **options)


def words(count):
    """Plain words that are tokens with their space, as a target stands in a text."""
    tokens = sorted(
        token for token in model().preprocessor.tokenizer.vocabulary if token[0] == "Ġ" and token[1:].isalpha()
    )
    return [token[1:] for token in tokens[:count]]


@claim(f"{PIPELINE}::run_pipeline_test")
@pytest.mark.parametrize(("name", "kind"), [("sequence", str), ("score", float), ("token", int), ("token_str", str)])
def test_five_fillings_with_their_fields(name, kind):
    found = fill()
    assert len(found) == 5
    assert all(type(getattr(filling, name)) is kind for filling in found)
    assert all(filling.as_dict()[name] == getattr(filling, name) for filling in found)


@claim(f"{PIPELINE}::run_pipeline_test")
def test_a_list_for_each_of_several_texts():
    found = fill([TEXT, "Another <mask> great test."])
    assert [len(fillings) for fillings in found] == [5, 5]


@claim(f"{PIPELINE}::run_pipeline_test")
@pytest.mark.parametrize("texts", [[None], None, "This is", ["It is <mask>", "This is"]])
def test_what_has_no_mask_is_refused(texts):
    with pytest.raises((TypeError, ValueError)):
        fill(texts)


@claim(f"{PIPELINE}::run_test_top_k")
def test_so_many_fillings_as_are_asked_for():
    two, five = fill(top_k=2), fill()
    assert len(two) == 2
    assert two == five[:2]
    assert five == sorted(five, key=lambda filling: -filling.score)


@claim(f"{PIPELINE}::run_test_targets")
def test_targets_are_the_only_candidates():
    targets = words(2)
    found = fill(targets=targets)
    tokenizer = model().preprocessor.tokenizer
    assert {filling.token_str.strip() for filling in found} == set(targets)
    assert all(tokenizer.decode([filling.token]) == filling.token_str for filling in found)


@claim(f"{PIPELINE}::run_test_targets")
def test_targets_have_the_scores_of_the_whole_vocabulary():
    everything = {filling.token: filling.score for filling in fill(top_k=10**6)}
    for filling in fill(targets=words(3), top_k=3):
        assert filling.score == pytest.approx(everything[filling.token], rel=1e-9)


@claim(f"{PIPELINE}::run_test_targets")
@pytest.mark.parametrize("targets", [[""], [], ""])
def test_targets_that_are_none_are_refused(targets):
    with pytest.raises(ValueError, match="target"):
        fill(targets=targets)


@claim(f"{PIPELINE}::run_test_top_k_targets")
def test_the_best_targets_are_the_best_of_all_targets():
    three = words(3)
    best = fill(targets=three, top_k=2)
    assert len(best) == 2
    assert best == fill(targets=[filling.token_str.strip() for filling in best], top_k=3)


@claim(f"{PIPELINE}::fill_mask_with_duplicate_targets_and_top_k")
def test_a_target_that_is_named_twice_counts_once():
    one, two, three = words(3)
    assert len(fill(targets=[one, two, one, three, two], top_k=10)) == 3


@claim(f"{PIPELINE}::fill_mask_with_multiple_masks")
def test_a_list_for_each_of_several_masks():
    found = fill("It is a <mask> <mask> <mask>", top_k=2)
    assert [len(fillings) for fillings in found] == [2, 2, 2]


@claim(f"{PIPELINE}::test_small_model_pt")
def test_the_text_is_given_with_its_mask_filled():
    for filling in fill("My name is <mask>"):
        assert filling.sequence == f"My name is{filling.token_str}"


@claim(f"{PIPELINE}::run_large_test", f"{PIPELINE}::test_large_model_pt")
def test_what_a_trained_model_fills_in():
    from pyroberta import MaskedLM

    trained = MaskedLM.from_preset("roberta_tiny_en")
    found = trained.fill_mask("The President of the United <mask> spoke to Congress.", top_k=2, verbose=0)
    assert found[0].token_str == " States"
    assert found[0].score > found[1].score


@pytest.mark.parity
@claim(f"{PIPELINE}::test_small_model_pt")
@pytest.mark.parametrize("text", ["It is <mask>", "The <mask> fox jumped over the lazy dog."])
def test_the_fillings_are_those_of_the_pipeline(tmp_path, text):
    transformers = pytest.importorskip("transformers")
    model().save_to_preset(tmp_path / "preset")
    pipeline = transformers.pipeline("fill-mask", model=str(tmp_path / "preset"), device="cpu")
    for theirs, ours in zip(pipeline(text), fill(text), strict=True):
        assert (theirs["token"], theirs["token_str"]) == (ours.token, ours.token_str)
        assert theirs["score"] == pytest.approx(ours.score, rel=1e-4)
        assert theirs["sequence"] == ours.sequence


# ----------------------------------------------------------------------------------------------- what is done otherwise


@differs(f"{PIPELINE}::run_pipeline_test")
def test_a_list_of_one_text_gives_a_list_of_one():
    assert fill([TEXT]) == [fill(TEXT)]


@differs(f"{PIPELINE}::test_small_model_pt")
def test_a_target_of_several_tokens_is_scored_as_a_whole():
    """transformers takes its first token and warns."""
    (filling,) = fill(targets=["Teven"])
    assert filling.token_str == " Teven"
    assert isinstance(filling.token, tuple)


@differs(f"{PIPELINE}::fill_mask_with_multiple_masks")
def test_the_text_has_no_special_tokens_around_it():
    """transformers puts `<s>` and `</s>` around the text of several masks."""
    for fillings in fill("My name is <mask> <mask>", top_k=1):
        assert "<s>" not in fillings[0].sequence


# --- masking of the data collators ------------------------------------------------------------------------------------


COLLATOR = "transformers/tests/trainer/test_data_collator.py"
NUMPY = f"{COLLATOR}::NumpyDataCollatorIntegrationTest"
SAME = f"{COLLATOR}::NumpyDataCollatorImmutabilityTest"
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
