"""Tokens that are added to a tokenizer, and the rows that the model's token embedding gets for them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from small_models import TEXTS, small_masked_lm, small_tokenizer
from small_presets import load

from pyroberta import Backbone, MaskedLM, Tokenizer
from pyroberta.model import parameters
from pyroberta.text.literals import MOST_IN_ALTERNATION, Literals, _alternation, _automaton

NEW = ["Tyrannosaurus", " Triceratops", "<name>"]
V = small_tokenizer().vocabulary_size()


def with_tokens(**changes) -> tuple[MaskedLM, Tokenizer]:
    """A model whose tokenizer nobody else has."""
    model = small_masked_lm(**changes)
    tokenizer = model.preprocessor.tokenizer = copy.deepcopy(model.preprocessor.tokenizer)
    return model, tokenizer


# --- the tokenizer ---


def test_added_tokens_get_the_next_ids_and_are_one_token_wherever_they_stand():
    tokenizer = copy.deepcopy(small_tokenizer())
    assert tokenizer.add_tokens(NEW) == 3
    assert [tokenizer.token_to_id(token) for token in NEW] == [V, V + 1, V + 2]
    assert tokenizer.vocabulary_size() == V + 3
    plain = tokenizer.encode("The fox", add_special_tokens=False)
    assert tokenizer.encode("TyrannosaurusThe fox Triceratops<name>", add_special_tokens=False) == [
        V, *plain, V + 1, V + 2,
    ]  # fmt: skip


def test_what_is_recognised_already_is_not_added_again():
    tokenizer = copy.deepcopy(small_tokenizer())
    assert tokenizer.add_tokens(["Tyrannosaurus", "Tyrannosaurus", "<mask>"]) == 1
    assert tokenizer.add_tokens("Tyrannosaurus") == 0
    assert tokenizer.vocabulary_size() == V + 1
    assert tokenizer.add_tokens("Tyrannosaurus", special=True) == 0
    assert V in tokenizer.special_token_ids
    assert tokenizer.add_tokens("e") == 1  # a token of the vocabulary, from now on literally
    assert tokenizer.token_to_id("e") < V


@given(st.lists(st.text(st.sampled_from("ab <東"), min_size=1, max_size=4), max_size=5), st.booleans(), st.data())
def test_any_text_still_comes_back(tokens, special, data):
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.add_tokens(tokens, special=special)
    text = "".join(data.draw(st.lists(st.sampled_from(["a", " ", "b", "é", "fox", *tokens]), max_size=8)))
    ids = tokenizer.encode(text, add_special_tokens=False)
    pieces = [tokenizer.id_to_token(id) for id in ids]
    assert tokenizer.decode(ids) == text
    assert sum(piece in tokens for piece in pieces) >= any(token in text for token in tokens)


@pytest.mark.parametrize(("tokens", "error"), [([""], ValueError), (["\ud800"], ValueError), ([1], TypeError)])
def test_what_is_no_token_is_refused_and_nothing_is_added(tokens, error):
    tokenizer = copy.deepcopy(small_tokenizer())
    with pytest.raises(error, match=r"token"):
        tokenizer.add_tokens(["fine", *tokens])
    assert (tokenizer.vocabulary_size(), tokenizer.added_tokens) == (V, {})


def test_files_hold_added_tokens(tmp_path):
    tokenizer = copy.deepcopy(small_tokenizer())
    tokenizer.add_tokens(NEW[:2])
    tokenizer.add_tokens(NEW[2], special=True)
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.vocabulary == tokenizer.vocabulary
    assert loaded.added_tokens == {"Tyrannosaurus": False, " Triceratops": False, "<name>": True}


def test_whole_words_are_masked_of_a_tokenizer_that_has_grown_since():
    model, _ = with_tokens(settings={"whole_words": True})
    model.train_on_batch(TEXTS)
    model.add_tokens([" Tyrannosaurus"])
    model.compile()
    model.train_on_batch(["A Tyrannosaurus, a Tyrannosaurus"])


def test_special_ones_are_never_masked_and_ordinary_ones_are():
    model, tokenizer = with_tokens()
    model.add_tokens("dino")
    model.add_tokens("<name>", special=True)
    ids = np.array([0, V, V + 1, V, V + 1, 2])
    masked = [model.preprocessor.mask([ids], np.random.default_rng(seed)) for seed in range(20)]
    assert {int(label) for batch in masked for label in batch.labels} == {V}
    assert V in tokenizer.ordinary_ids
    assert V + 1 not in tokenizer.ordinary_ids


# --- the table ---


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_new_rows_are_the_mean_of_the_old_ones_and_their_bias_is_zero(tie_embeddings):
    model, _ = with_tokens(tie_embeddings=tie_embeddings)
    with model.backbone.changing() as params:
        params["head.bias"][...] = 1.0
    before = model.params
    model.resize_token_embeddings(V + 3)
    for name, array in model.params.items():
        np.testing.assert_array_equal(array[: len(before[name])], before[name])
    for name in ("embeddings.token", *([] if tie_embeddings else ["head.decoder"])):
        np.testing.assert_allclose(model.params[name][V:], np.tile(before[name].mean(axis=0), (3, 1)), atol=1e-15)
    np.testing.assert_array_equal(model.params["head.bias"][V:], 0.0)
    assert model.backbone.config.vocabulary_size == V + 3


def test_texts_without_new_tokens_have_the_hidden_states_that_they_had():
    model, _ = with_tokens()
    before = model.embed(TEXTS)
    model.add_tokens(NEW)
    np.testing.assert_array_equal(model.embed(TEXTS), before)


def test_new_tokens_are_learnt_saved_and_loaded(tmp_path):
    model, _ = with_tokens(dtype="float32")
    assert model.add_tokens(NEW) == 3
    texts = ["The Tyrannosaurus jumped.", "<name> forgot the Triceratops."] * 3
    before = model.params["embeddings.token"].copy()
    model.fit(texts, epochs=3, verbose=0)
    assert (model.params["embeddings.token"][V:] != before[V:]).all()
    model.save_to_preset(tmp_path / "preset")
    loaded = MaskedLM.from_preset(tmp_path / "preset")
    np.testing.assert_array_equal(loaded.embed(texts), model.embed(texts))
    (filling,) = loaded.fill_mask("The <mask> jumped.", targets=["Triceratops"])
    assert filling.token == V + 1


def test_rows_to_spare_are_used_before_any_is_added():
    model, _ = with_tokens(vocabulary_size=V + 2)
    model.add_tokens(NEW[:2])
    assert model.backbone.config.vocabulary_size == V + 2
    model.add_tokens(NEW)
    assert model.backbone.config.vocabulary_size == V + 3


def test_without_room_for_rows_no_token_is_added(monkeypatch):
    model, tokenizer = with_tokens()
    monkeypatch.setattr(parameters, "memory", lambda: 1000)
    with pytest.raises(ValueError, match=r"vocabulary_size .* is too large"):
        model.add_tokens(iter(NEW))
    assert tokenizer.vocabulary_size() == model.backbone.vocabulary_size == V
    monkeypatch.undo()
    with pytest.raises(TypeError, match="special must be True or False, got 'yes'"):
        model.add_tokens(NEW, special="yes")
    assert tokenizer.vocabulary_size() == model.backbone.vocabulary_size == V
    assert model.add_tokens(iter(NEW)) == len(NEW)


def test_a_tokenizer_that_outgrew_the_table_is_told_of():
    model, tokenizer = with_tokens()
    tokenizer.add_tokens(NEW)
    asks = (model.evaluate, model.predict, model.score, model.embed, model.fit, model.train_on_batch)
    for ask in asks:
        with pytest.raises(ValueError, match=rf"resize_token_embeddings\({V + 3}\) adds rows"):
            ask(["a Tyrannosaurus"])


def test_the_table_shrinks_down_to_the_tokenizer_and_no_further(tmp_path):
    model, _ = with_tokens(vocabulary_size=V + 5)
    model.resize_token_embeddings(V)
    assert model.params["embeddings.token"].shape[0] == len(model.params["head.bias"]) == V
    with pytest.raises(ValueError, match=rf"the tokenizer has {V} ids.*got vocabulary_size={V - 1}"):
        model.resize_token_embeddings(V - 1)
    with pytest.raises(ValueError, match="at least 3, for <s>, <pad> and </s>"):
        model.backbone.resize_token_embeddings(2)
    with pytest.raises(ValueError, match="whole number"):
        model.backbone.resize_token_embeddings(40.0)


def test_what_is_frozen_stays_frozen_and_lora_stays():
    backbone = small_masked_lm().backbone
    backbone.enable_lora(2)
    frozen = backbone.trainable_names()
    backbone.resize_token_embeddings(V + 1)
    assert backbone.trainable_names() == frozen
    plain = Backbone.from_parts(*load("roberta_tiny_en", load_tokenizer=False)[:2])
    plain.trainable = False
    plain.resize_token_embeddings(9000)
    assert plain.trainable is False


# --- literal strings are found from the left, each time the longest ---------------------------------------------------


strings_ = st.sets(st.text("ab<^]-\\é東", min_size=1, max_size=5), min_size=1, max_size=12)


def by_hand(strings: set[str], text: str) -> list[tuple[int, int]]:
    found, start = [], 0
    while start < len(text):
        longest = max((len(string) for string in strings if text.startswith(string, start)), default=0)
        if longest:
            found.append((start, start + longest))
        start += longest or 1
    return found


@given(strings_, st.data())
@example({"ab", "babb"}, None)
def test_both_ways_find_what_a_search_by_hand_finds(strings, data):
    pieces = st.sampled_from(["a", "b", "<", "^", "]", "-", "\\", "é", "東", "x", *sorted(strings)])
    text = "ababbabb" if data is None else "".join(data.draw(st.lists(pieces, max_size=20)))
    expected = by_hand(strings, text)
    assert list(_alternation(strings)(text)) == expected
    assert list(_automaton(strings)(text)) == expected


def test_an_empty_string_is_never_found():
    assert list(Literals([""]).find("abc")) == []
    assert list(Literals(["", "b"]).find("abc")) == [(1, 2)]


class Counted(str):
    """A text of which each letter that is looked at by its place is counted."""

    looked_at = 0

    def __getitem__(self, place):
        Counted.looked_at += isinstance(place, int)
        return Counted(super().__getitem__(place)) if isinstance(place, slice) else super().__getitem__(place)


def test_a_letter_is_read_once_however_many_strings_begin_with_it():
    strings = [f"{'a' * 50}{i:04}{'a' * 50}" for i in range(900)]
    text = Counted("a" * 4000)
    assert list(_automaton(strings)(text)) == []
    assert Counted.looked_at == len(text)


def test_many_long_added_tokens_are_cut_as_a_few_are():
    few, many = small_tokenizer(), small_tokenizer()
    vocabulary = dict(few.vocabulary)
    few = Tokenizer(vocabulary, few.merges)
    many = Tokenizer(vocabulary, many.merges)
    few.add_tokens(["<a>", " <a>b", "fox jumped"])
    many.add_tokens(["<a>", " <a>b", "fox jumped", *(f"<never {i}>" for i in range(MOST_IN_ALTERNATION))])
    text = "The <mask> quick <a> <a>b <a fox jumped <never> fox"
    assert many.encode(text) == few.encode(text)
    assert many.encode_with_offsets(text) == few.encode_with_offsets(text)
