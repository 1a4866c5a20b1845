"""What a sequence holds: segments that are cut to fit, and whole sentences that fill it."""

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
from pyroberta.text.packing import TRUNCATIONS, pack_segments

S, E = 0, 2

some_lengths = st.lists(st.integers(0, 12), min_size=1, max_size=5)


def segments_of(lengths: list[int]) -> list[list[int]]:
    """Ids that tell their segment and place: 100, 101 … 200, 201 …"""
    return [[100 * (i + 1) + j for j in range(length)] for i, length in enumerate(lengths)]


def packed(lengths: list[int], sequence_length: int, truncate: str = "round_robin") -> list[int]:
    return pack_segments(segments_of(lengths), sequence_length, start_id=S, end_id=E, truncate=truncate)


# What keras-hub 0.32.0 keeps of segments of these lengths, at a sequence_length of 12.
KEPT = [
    ("round_robin", (10, 3), (5, 3)),
    ("round_robin", (10, 10), (4, 4)),
    ("round_robin", (3, 10), (3, 5)),
    ("round_robin", (5, 2, 9), (2, 2, 2)),
    ("waterfall", (10, 3), (8, 0)),
    ("waterfall", (5, 2, 9), (5, 1, 0)),
]


@pytest.mark.parametrize(("truncate", "lengths", "kept"), KEPT)
def test_truncation_equals_keras_hub(truncate, lengths, kept):
    want = [S]
    for segment, length in zip(segments_of(lengths), kept, strict=True):
        want += [*segment[:length], E, E]
    assert packed(lengths, 12, truncate) == want[:-1]


@pytest.mark.parametrize(
    ("lengths", "want"),
    [
        ([2], [S, 100, 101, E]),
        ([0], [S, E]),
        ([1, 2], [S, 100, E, E, 200, 201, E]),
        ([1, 1, 1], [S, 100, E, E, 200, E, E, 300, E]),
        ([0, 1], [S, E, E, 200, E]),
        ([1, 0], [S, 100, E, E, E]),
        ([0, 0], [S, E, E, E]),
    ],
)
@pytest.mark.parametrize("truncate", TRUNCATIONS)
def test_an_empty_segment_keeps_its_separators(truncate, lengths, want):
    assert packed(lengths, 12, truncate) == want


def round_robin_one_by_one(lengths: list[int], room: int) -> list[int]:
    """The definition, taken literally."""
    kept = [0] * len(lengths)
    while room and kept != lengths:
        for i, length in enumerate(lengths):
            if room and kept[i] < length:
                kept[i] += 1
                room -= 1
    return kept


@given(lengths=some_lengths, room=st.integers(0, 70))
def test_round_robin_is_dealing_one_token_at_a_time(lengths, room):
    assert TRUNCATIONS["round_robin"](lengths, room) == round_robin_one_by_one(lengths, room)


@given(lengths=some_lengths, room=st.integers(0, 70))
@pytest.mark.parametrize("truncate", TRUNCATIONS)
def test_truncation_fills_the_room_and_cuts_no_more_than_it_must(truncate, lengths, room):
    kept = TRUNCATIONS[truncate](lengths, room)
    assert sum(kept) == min(sum(lengths), room)
    assert all(0 <= k <= length for k, length in zip(kept, lengths, strict=True))


def test_a_segment_of_millions_of_tokens_takes_no_time():
    assert TRUNCATIONS["round_robin"]([10**12, 3, 10**12], 10**9) == [499_999_999, 3, 499_999_998]


@pytest.mark.parametrize(
    ("lengths", "sequence_length", "truncate", "message"),
    [
        ([3], 1, "round_robin", "sequence_length 1 cannot hold the 2 special tokens"),
        ([3, 3], 3, "waterfall", "sequence_length 3 cannot hold the 4 special tokens that 2 segment"),
        ([3], 8, "longest_first", "truncate must be one of round_robin, waterfall, got 'longest_first'"),
        ([], 8, "round_robin", "no segments to pack"),
    ],
)
def test_what_cannot_be_packed_is_an_error(lengths, sequence_length, truncate, message):
    with pytest.raises(ValueError, match=message):
        packed(lengths, sequence_length, truncate)


# --- sequences that whole sentences of one text after another fill ----------------------------------------------------


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
    with pytest.warns(UserWarning, match=r"1 of 3 sentences has more than 12 tokens .*: 1 was split into 4 windows"):
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
