"""Filling masks, scoring and embedding, held to the logits of the model itself."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from small_models import TEXTS, small_masked_lm, small_tokenizer

from pyroberta import MaskedLM, MaskedLMPreprocessor, Tokenizer

TEXT = "I <mask> my home <mask>."


def trained() -> MaskedLM:
    masked_lm = small_masked_lm()
    masked_lm.fit(TEXTS, epochs=3, batch_size=2, verbose=0)
    return masked_lm


def log_probs(masked_lm: MaskedLM, ids: list[int], columns: list[int]) -> np.ndarray:
    """Each mask's log probabilities, through the padded door. -> (K, V)"""
    z = masked_lm({"token_ids": [ids], "mask_positions": [columns]})[0]
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


# --- fill_mask --------------------------------------------------------------------------------------------------------


def test_every_mask_gets_its_likeliest_tokens_with_their_probabilities():
    masked_lm = trained()
    ids = masked_lm.preprocessor.tokenizer.encode(TEXT)
    columns = [i for i, token in enumerate(ids) if token == masked_lm.preprocessor.tokenizer.mask_id]
    for mask, expected in zip(masked_lm.fill_mask(TEXT, top_k=4), log_probs(masked_lm, ids, columns), strict=True):
        best = np.argsort(-expected)[:4]
        assert [filling.token for filling in mask] == best.tolist()
        assert [filling.score for filling in mask] == pytest.approx(np.exp(expected[best]).tolist())


def test_the_whole_vocabulary_sums_to_one_however_large_top_k():
    fillings = trained().fill_mask("I <mask>.", top_k=10_000)
    assert len(fillings) == 300
    assert sum(filling.score for filling in fillings) == pytest.approx(1.0)
    assert [filling.score for filling in fillings] == sorted((f.score for f in fillings), reverse=True)


def test_one_text_or_several_with_one_mask_or_several_nest_as_documented():
    masked_lm = trained()
    one, several = masked_lm.fill_mask("I <mask>."), masked_lm.fill_mask(TEXT)
    assert [len(one), len(several), len(several[0])] == [5, 2, 5]
    for batch_size in (1, 32):
        both = masked_lm.fill_mask(("I <mask>.", TEXT), batch_size=batch_size)
        assert [f.token for f in both[0]] == [f.token for f in one]
        assert [[f.token for f in mask] for mask in both[1]] == [[f.token for f in mask] for mask in several]
    assert masked_lm.fill_mask([]) == []


def test_the_sequence_is_the_text_with_one_mask_filled():
    first, second = trained().fill_mask(TEXT, targets=["forgot"])
    assert first[0].sequence == "I forgot my home <mask>."
    assert second[0].sequence == "I <mask> my home forgot."
    assert json.loads(json.dumps(first[0].as_dict()))["token_str"] == " forgot"


@pytest.mark.parametrize(
    ("text", "target", "token_str", "sequence"),
    [
        ("I <mask> it", "go", " go", "I go it"),  # the space before the mask belongs to the word
        ("I <mask> it", " go", " go", "I go it"),
        ("I  \t<mask> it", "go", " go", "I go it"),
        ("<mask> it", "go", "go", "go it"),  # none at the start
        ("for<mask> it", "got", "got", "forgot it"),  # nor within a word
        ("(<mask>)", "go", "go", "(go)"),
        ("\u00a0<mask>", "go", " go", " go"),
        ("Ġ<mask>", "go", "go", "Ġgo"),  # a letter that only looks like a space
    ],
)
def test_targets_are_written_plainly(text: str, target: str, token_str: str, sequence: str):
    (filling,) = trained().fill_mask(text, targets=target)
    assert (filling.token_str, filling.sequence) == (token_str, sequence)


def test_without_lstrip_the_space_before_the_mask_is_a_token_of_its_own():
    tokenizer = small_tokenizer()
    kept = Tokenizer(tokenizer.vocabulary, tokenizer.merges, mask_lstrip=False)
    masked_lm = trained()
    masked_lm.preprocessor = MaskedLMPreprocessor(kept, sequence_length=40)
    (filling,) = masked_lm.fill_mask("I <mask> it", targets=["go"])
    assert (filling.token_str, filling.sequence) == ("go", "I go it")


def test_a_target_is_scored_by_the_product_of_its_tokens_probabilities():
    masked_lm = trained()
    tokenizer = masked_lm.preprocessor.tokenizer
    ids = tokenizer.encode("I <mask> it.")
    place = ids.index(tokenizer.mask_id)
    found = {
        filling.token_str: filling for filling in masked_lm.fill_mask("I <mask> it.", targets=["forgot", "q", "zzz"])
    }
    assert set(found) == {" forgot", " q", " zzz"}
    for word, filling in found.items():
        piece = tokenizer.encode(word, add_special_tokens=False)
        widened = [*ids[:place], *[tokenizer.mask_id] * len(piece), *ids[place + 1 :]]
        rows = log_probs(masked_lm, widened, list(range(place, place + len(piece))))
        assert filling.score == pytest.approx(math.exp(sum(rows[i, token] for i, token in enumerate(piece))))
        assert filling.token == (piece[0] if len(piece) == 1 else tuple(piece))
    scores = [filling.score for filling in masked_lm.fill_mask("I <mask> it.", targets=list(found), top_k=2)]
    assert scores == sorted((filling.score for filling in found.values()), reverse=True)[:2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": "no hole"}, "text 0 holds no '<mask>': 'no hole'"),
        ({"texts": ["a <mask>", ""]}, "text 1 holds no '<mask>'"),
        ({"texts": "a <mask>", "top_k": 0}, "top_k must be a whole number of at least 1, got 0"),
        ({"texts": "a <mask>", "top_k": -3}, "top_k must be"),
        ({"texts": "a <mask>", "top_k": 2.5}, "top_k must be"),
        ({"texts": "a <mask>", "targets": []}, "targets is empty"),
        ({"texts": "a <mask>", "targets": ["b", ""]}, "a target is the empty string"),
        ({"texts": "a <mask>", "batch_size": 0}, "batch_size must be"),
        ({"texts": "z" * 40 + "<mask>"}, "text 0 has 43 tokens, <s> and </s> included; the model takes 40"),
        ({"texts": "z" * 36 + "<mask>", "targets": ["zzz"]}, "with target 'zzz' text 0 has 41 tokens, <s> and </s>"),
    ],
)
def test_what_cannot_be_filled_is_said(arguments, message: str):
    with pytest.raises(ValueError, match=message):
        small_masked_lm().fill_mask(**arguments)


def test_targets_that_are_no_words_are_refused():
    for targets in ([3], ["go", None], [b"go"]):
        with pytest.raises(TypeError, match=r"targets should be words, such as 'day'; got .*\. For a token's id give"):
            small_masked_lm().fill_mask("a <mask>", targets=targets)


# --- score ------------------------------------------------------------------------------------------------------------


def test_a_score_masks_every_token_in_turn():
    masked_lm = trained()
    tokenizer = masked_lm.preprocessor.tokenizer
    ids = tokenizer.encode(TEXTS[1])
    expected = []
    for place in range(1, len(ids) - 1):
        hidden = [*ids[:place], tokenizer.mask_id, *ids[place + 1 :]]
        expected.append(log_probs(masked_lm, hidden, [place])[0, ids[place]])
    score = masked_lm.score(TEXTS[1])
    assert "".join(score.tokens) == TEXTS[1]
    assert score.log_likelihoods == pytest.approx(expected)
    assert score.total == pytest.approx(sum(expected))
    assert score.perplexity == pytest.approx(math.exp(-sum(expected) / len(expected)))


def test_scores_do_not_depend_on_the_batch_size_and_follow_the_texts():
    masked_lm = trained()
    alone = [masked_lm.score(text).total for text in TEXTS]
    for batch_size in (1, 7):
        assert [score.total for score in masked_lm.score(TEXTS, batch_size=batch_size)] == pytest.approx(alone)
    assert masked_lm.score([]) == []


def test_an_empty_text_scores_nothing():
    score = small_masked_lm().score("")
    assert (score.tokens, score.log_likelihoods, score.total) == ([], [], 0.0)
    assert math.isnan(score.perplexity)


def test_training_makes_its_texts_likelier():
    assert trained().score(TEXTS[1]).total > small_masked_lm().score(TEXTS[1]).total


# --- embed ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [-3, -2, -1, 0, 1, 2])
def test_embeddings_are_the_means_of_a_layers_hidden_states(layer: int):
    masked_lm = trained()
    states = masked_lm.embed(TEXTS, layer=layer, pooling=None)
    assert [state.shape for state in states] == [(len(small_tokenizer().encode(text)), 8) for text in TEXTS]
    pooled = masked_lm.embed(TEXTS, layer=layer, batch_size=4)
    assert pooled == pytest.approx(np.stack([state.mean(axis=0) for state in states]))
    assert masked_lm.embed(TEXTS[0], layer=layer) == pytest.approx(pooled[0])
    assert (masked_lm.embed(TEXTS, layer=layer % 3) == masked_lm.embed(TEXTS, layer=layer)).all()


def test_the_last_layer_is_what_the_backbone_gives():
    masked_lm = trained()
    ids = small_tokenizer().encode(TEXTS[0])
    assert masked_lm.embed(TEXTS[0], pooling=None) == pytest.approx(masked_lm.backbone({"token_ids": [ids]})[0])


def test_odd_requests_for_embeddings():
    masked_lm = small_masked_lm()
    assert masked_lm.embed([]).shape == (0, 8)
    assert masked_lm.embed([], pooling=None) == []
    assert masked_lm.embed("").shape == (8,)
    for layer in (3, -4, 1.0):
        with pytest.raises(ValueError, match=f"layer must be from -3 to 2, since the model has 2; got {layer}"):
            masked_lm.embed("a", layer=layer)
    with pytest.raises(ValueError, match="pooling must be 'mean' or None, got 'max'"):
        masked_lm.embed("a", pooling="max")
