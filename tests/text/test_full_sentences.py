"""Sequences that whole sentences of one text after another fill."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import TEXTS, small_classifier, small_masked_lm, small_tokenizer

from pyroberta.data import open_source
from pyroberta.text.full_sentences import full_sentences, sentences
from pyroberta.text.long_texts import LongTexts

TOKENIZER = small_tokenizer()
WORDS = st.lists(st.sampled_from(["The fox.", "Who?", "(No!)", "a dog", "“Yes…”", "e.g. so", "\n\n", "\n"]), max_size=9)


def decoded(sequences) -> list[str]:
    return [TOKENIZER.decode(ids) for ids in sequences]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("", []),
        (" \n\n ", []),
        ("One. Two! Three? Four… five", ["One.", "Two!", "Three?", "Four… five"]),
        ("He said: “Go!” Then\nhe went.\n \nEnd", ["He said: “Go!”", "Then he went.", "End"]),
        ("Some 3.5 km, i.e. far. (Very.) 5 more.", ["Some 3.5 km, i.e. far.", "(Very.)", "5 more."]),
    ],
)
def test_sentences_end_at_full_stops_and_paragraphs(document: str, expected: list[str]):
    assert sentences(document) == expected


@given(st.lists(WORDS, min_size=1, max_size=4), st.integers(8, 40))
def test_no_word_is_lost_and_no_sentence_is_cut_that_fits(documents: list[list[str]], limit: int):
    documents = [" ".join(words) for words in documents]
    sequences = list(full_sentences(TOKENIZER, documents, LongTexts("split", limit)))
    assert all(3 <= len(ids) <= limit for ids in sequences)
    assert all(ids[0] == TOKENIZER.start_token_id and ids[-1] == TOKENIZER.end_token_id for ids in sequences)
    ids = [id for ids in sequences for id in ids if id not in (TOKENIZER.start_token_id, TOKENIZER.end_token_id)]
    assert TOKENIZER.decode(ids) == "".join(" ".join(sentences(document)) for document in documents)
    if all(len(TOKENIZER.encode(" " + s)) <= limit for document in documents for s in sentences(document)):
        for one, other in pairwise(sequences):  # the next sentence had no room
            text = TOKENIZER.decode(other[1:-1]).split(TOKENIZER.end_token)[0]
            first = next(s for s in sentences(text.strip()))
            assert len(one) + len(TOKENIZER.encode(" " + first, add_special_tokens=False)) + 1 > limit - 2


def test_a_new_document_goes_on_behind_an_extra_separator():
    found = decoded(full_sentences(TOKENIZER, ["A b. C.", "D.", "", "E."], LongTexts("split", 100)))
    assert found == ["<s>A b. C.</s>D.</s>E.</s>"]
    assert decoded(full_sentences(TOKENIZER, ["A.", "B."], LongTexts("split", 5))) == ["<s>A.</s>", "<s>B.</s>"]


def test_sentences_share_a_sequence_as_long_as_it_has_room_and_no_longer():
    length = len(TOKENIZER.encode("A. B."))
    assert decoded(full_sentences(TOKENIZER, ["A. B."], LongTexts("split", length))) == ["<s>A. B.</s>"]
    found = decoded(full_sentences(TOKENIZER, ["A. B."], LongTexts("split", length - 1)))
    assert found == ["<s>A.</s>", "<s> B.</s>"]


def test_long_sentences_are_treated_as_long_texts_are():
    text = "Go. " + "X" * 30 + ". Stop."
    assert len(decoded(full_sentences(TOKENIZER, [text], LongTexts("split", 12)))) == 5
    masked_lm = small_masked_lm(settings={"sequence_length": 12})
    with pytest.warns(UserWarning, match=r"of 3 sentences 1 has more than 12 tokens .*: 1 was split into 4 windows"):
        masked_lm.fit([text], full_sentences=True, verbose=0)
    with pytest.raises(ValueError, match="text 0, sentence 1 has 34 tokens, <s> and </s> included"):
        masked_lm.fit([text], full_sentences=True, long_texts="refuse", verbose=0)


def test_a_model_is_fitted_and_evaluated_on_full_sentences(tmp_path: Path, capsys):
    (tmp_path / "a.txt").write_text("\n\n".join(TEXTS[:3]))
    (tmp_path / "b.txt").write_text("\n".join(TEXTS[3:]))
    documents = ["\n\n".join(TEXTS[:3]), "\n".join(TEXTS[3:])]
    sequences = list(full_sentences(TOKENIZER, documents, LongTexts("split", 40)))
    assert len(sequences) < len(TEXTS)
    expected = pytest.approx(small_masked_lm().evaluate([ids.tolist() for ids in sequences], verbose=0))
    source = open_source(tmp_path, per_line=False)
    assert small_masked_lm().evaluate(source, full_sentences=True, verbose=0) == expected
    for x in documents, iter(documents):
        with pytest.warns(UserWarning, match="the examples ran out after .* of the 9 steps"):
            assert small_masked_lm().evaluate(x, full_sentences=True, steps=9, batch_size=2, verbose=0) == expected
    fitted, other = small_masked_lm(), small_masked_lm()
    history = fitted.fit(source, validation_data=documents, full_sentences=True, verbose=2).history
    assert f"full sentences: {len(sequences)} sequences" in capsys.readouterr().err
    other.fit([ids.tolist() for ids in sequences], verbose=0)
    assert (fitted.backbone.params.flat == other.backbone.params.flat).all()
    assert history["val_loss"][0] == fitted.evaluate(documents, full_sentences=True, verbose=0)[0]


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "message"),
    [
        (([("a", "b")],), {}, TypeError, r"applies to texts of one segment; text 0 is \('a', 'b'\) \(tuple\)"),
        ((("a", "b"),), {}, TypeError, "x is a tuple of strings"),
        (([[5, 6]],), {}, TypeError, r"text 0 is \[5, 6\] \(list\)"),
        ((["a", "b"],), {"sample_weight": [1, 2]}, ValueError, "a sequence holds parts of several"),
        (({"token_ids": [[0, 2]], "mask_positions": [[0]]}, [[1]]), {}, ValueError, "x is a dict of features"),
        ((["a"],), {"full_sentences": 1}, TypeError, "full_sentences"),
    ],
)
def test_what_is_no_text_can_not_fill_sequences(arguments, keywords, error, message: str):
    with pytest.raises(error, match=message):
        small_masked_lm().fit(*arguments, **{"full_sentences": True, "verbose": 0, **keywords})


def test_a_classifier_gives_each_text_its_own_sequence():
    with pytest.raises(ValueError, match=r"full_sentences=True fills sequences with many texts, and a classifier"):
        small_classifier().fit(TEXTS, [0] * 6, full_sentences=True)


@pytest.mark.parametrize("piece", [")", " ", "\n", ".", ".)", "\n ", "a. "])
def test_the_time_grows_with_the_length_alone(piece: str):
    started = time.process_time()
    sentences("a." + piece * 50_000)
    assert time.process_time() - started < 2.0  # seconds; a square would take minutes
