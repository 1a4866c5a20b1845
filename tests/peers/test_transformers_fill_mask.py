"""transformers' claims about its fill-mask pipeline."""

from __future__ import annotations

import functools

import pytest
from claims import claim, differs
from small_models import small_masked_lm

FILE = "transformers/tests/pipelines/test_pipelines_fill_mask.py::FillMaskPipelineTests"
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


@claim(f"{FILE}::run_pipeline_test")
@pytest.mark.parametrize(("name", "kind"), [("sequence", str), ("score", float), ("token", int), ("token_str", str)])
def test_five_fillings_with_their_fields(name, kind):
    found = fill()
    assert len(found) == 5
    assert all(type(getattr(filling, name)) is kind for filling in found)
    assert all(filling.as_dict()[name] == getattr(filling, name) for filling in found)


@claim(f"{FILE}::run_pipeline_test")
def test_a_list_for_each_of_several_texts():
    found = fill([TEXT, "Another <mask> great test."])
    assert [len(fillings) for fillings in found] == [5, 5]


@claim(f"{FILE}::run_pipeline_test")
@pytest.mark.parametrize("texts", [[None], None, "This is", ["It is <mask>", "This is"]])
def test_what_has_no_mask_is_refused(texts):
    with pytest.raises((TypeError, ValueError)):
        fill(texts)


@claim(f"{FILE}::run_test_top_k")
def test_so_many_fillings_as_are_asked_for():
    two, five = fill(top_k=2), fill()
    assert len(two) == 2
    assert two == five[:2]
    assert five == sorted(five, key=lambda filling: -filling.score)


@claim(f"{FILE}::run_test_targets")
def test_targets_are_the_only_candidates():
    targets = words(2)
    found = fill(targets=targets)
    tokenizer = model().preprocessor.tokenizer
    assert {filling.token_str.strip() for filling in found} == set(targets)
    assert all(tokenizer.decode([filling.token]) == filling.token_str for filling in found)


@claim(f"{FILE}::run_test_targets")
def test_targets_have_the_scores_of_the_whole_vocabulary():
    everything = {filling.token: filling.score for filling in fill(top_k=10**6)}
    for filling in fill(targets=words(3), top_k=3):
        assert filling.score == pytest.approx(everything[filling.token], rel=1e-9)


@claim(f"{FILE}::run_test_targets")
@pytest.mark.parametrize("targets", [[""], [], ""])
def test_targets_that_are_none_are_refused(targets):
    with pytest.raises(ValueError, match="target"):
        fill(targets=targets)


@claim(f"{FILE}::run_test_top_k_targets")
def test_the_best_targets_are_the_best_of_all_targets():
    three = words(3)
    best = fill(targets=three, top_k=2)
    assert len(best) == 2
    assert best == fill(targets=[filling.token_str.strip() for filling in best], top_k=3)


@claim(f"{FILE}::fill_mask_with_duplicate_targets_and_top_k")
def test_a_target_that_is_named_twice_counts_once():
    one, two, three = words(3)
    assert len(fill(targets=[one, two, one, three, two], top_k=10)) == 3


@claim(f"{FILE}::fill_mask_with_multiple_masks")
def test_a_list_for_each_of_several_masks():
    found = fill("It is a <mask> <mask> <mask>", top_k=2)
    assert [len(fillings) for fillings in found] == [2, 2, 2]


@claim(f"{FILE}::test_small_model_pt")
def test_the_text_is_given_with_its_mask_filled():
    for filling in fill("My name is <mask>"):
        assert filling.sequence == f"My name is{filling.token_str}"


@claim(f"{FILE}::run_large_test", f"{FILE}::test_large_model_pt")
def test_what_a_trained_model_fills_in():
    from pyroberta import MaskedLM

    trained = MaskedLM.from_preset("roberta_tiny_en")
    found = trained.fill_mask("The President of the United <mask> spoke to Congress.", top_k=2, verbose=0)
    assert found[0].token_str == " States"
    assert found[0].score > found[1].score


@pytest.mark.parity
@claim(f"{FILE}::test_small_model_pt")
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


@differs(f"{FILE}::run_pipeline_test")
def test_a_list_of_one_text_gives_a_list_of_one():
    assert fill([TEXT]) == [fill(TEXT)]


@differs(f"{FILE}::test_small_model_pt")
def test_a_target_of_several_tokens_is_scored_as_a_whole():
    """transformers takes its first token and warns."""
    (filling,) = fill(targets=["Teven"])
    assert filling.token_str == " Teven"
    assert isinstance(filling.token, tuple)


@differs(f"{FILE}::fill_mask_with_multiple_masks")
def test_the_text_has_no_special_tokens_around_it():
    """transformers puts `<s>` and `</s>` around the text of several masks."""
    for fillings in fill("My name is <mask> <mask>", top_k=1):
        assert "<s>" not in fillings[0].sequence
