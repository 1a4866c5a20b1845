from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
import texts_at_hand
from hypothesis import given
from hypothesis import strategies as st

from pyroberta.text.bpe_training import SPECIAL_TOKENS, train
from pyroberta.text.byte_level import BYTE_CHARACTERS, split_words, to_characters

texts = st.lists(st.text("aabbcd eé1\n", max_size=40), max_size=8)


def pair_counts(words: Counter[tuple[str, ...]]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for word, frequency in words.items():
        for pair in pairwise(word):
            counts[pair] += frequency
    return counts


def merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    made: list[str] = []
    for symbol in word:
        if made and (made[-1], symbol) == pair:
            made[-1] += symbol + "\0"  # closed: what was just made is not merged again in this pass
        else:
            made.append(symbol)
    return tuple(symbol.removesuffix("\0") for symbol in made)


@given(strings=texts, vocab_size=st.integers(261, 310), min_frequency=st.integers(1, 4))
def test_every_merge_is_the_most_frequent_pair_at_its_time(strings, vocab_size, min_frequency):
    vocabulary, merges = train(strings, vocab_size, min_frequency)
    words = Counter(tuple(to_characters(word.encode())) for string in strings for word in split_words(string))
    for pair in merges:
        counts = pair_counts(words)
        best = max(counts.values())
        assert counts[pair] == best >= min_frequency
        tied = [(vocabulary[left], vocabulary[right]) for (left, right), count in counts.items() if count == best]
        assert (vocabulary[pair[0]], vocabulary[pair[1]]) == min(tied)
        merged_words: Counter[tuple[str, ...]] = Counter()
        for word, frequency in words.items():
            merged_words[merged(word, pair)] += frequency
        words = merged_words
    if len(vocabulary) < vocab_size:  # it stopped because nothing was left
        assert max(pair_counts(words).values(), default=0) < min_frequency


@given(strings=texts, vocab_size=st.integers(261, 310))
def test_roberta_s_special_tokens_are_in_their_places(strings, vocab_size):
    vocabulary, merges = train(strings, vocab_size)
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    assert list(vocabulary.values()) == list(range(len(vocabulary)))
    assert tokens[:4] == ["<s>", "<pad>", "</s>", "<unk>"]
    assert tokens[4:260] == sorted(BYTE_CHARACTERS)
    assert tokens[260:-1] == ["".join(pair) for pair in merges]
    assert tokens[-1] == "<mask>"
    assert len(tokens) <= vocab_size


@given(strings=texts, order=st.randoms(use_true_random=False))
def test_the_order_of_the_texts_changes_nothing(strings, order):
    shuffled = list(strings)
    order.shuffle(shuffled)
    assert train(shuffled, 300) == train(strings, 300)


def test_special_tokens_in_the_texts_are_passed_over():
    assert train(["<mask>ab</s>ab<s><s>"] * 9, 300) == train(["ab"] * 18, 300)


def test_a_prefix_space_is_counted_as_a_space():
    assert train(["ab", " ab"], 300, add_prefix_space=True) == train([" ab", " ab"], 300)


def test_texts_are_read_once_from_any_iterable():
    assert train(iter(["ab ab"]), 300) == train(["ab ab"], 300)


def test_nothing_to_learn_from_gives_the_bytes_alone():
    vocabulary, merges = train([], 1000)
    assert len(vocabulary) == 261
    assert merges == []


def test_progress_is_told_up_to_the_end():
    calls: list[tuple[int, int]] = []
    _, merges = train(["the cat sat on the mat " * 3], 270, progress=lambda done, wanted: calls.append((done, wanted)))
    assert calls[-1] == (len(merges), 9)


def test_what_cannot_be_learnt_from_is_refused():
    with pytest.raises(TypeError, match="texts must be an iterable of str, such as a list or a file, got a str"):
        train("a text", 300)
    with pytest.raises(TypeError, match="texts must be of str, got an int at index 1"):
        train(["a", 1], 300)  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"text 1 has a lone surrogate, '\\ud800', at index 2"):
        train(["a", "bc\ud800"], 300)
    with pytest.raises(ValueError, match="vocab_size must be at least 261"):
        train(["a"], 260)
    with pytest.raises(ValueError, match="min_frequency must be at least 1, got 0"):
        train(["a"], 300, 0)
    with pytest.raises(TypeError, match=r"vocab_size must be a whole number, got 300\.0"):
        train(["a"], 300.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must differ"):
        train(["a"], 300, special_tokens=["<s>", *SPECIAL_TOKENS[:4]])


@pytest.mark.slow
def test_source_code_is_learnt_from():
    vocabulary, _ = train([texts_at_hand.source_code(20_000_000)], 8000)
    assert len(vocabulary) == 8000
    assert {"Ġself", "return", "import"} <= set(vocabulary)
