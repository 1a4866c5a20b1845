"""Literal strings are found from the left, each time the longest; the automaton finds what an alternation does."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from small_models import small_tokenizer

from pyroberta import Tokenizer
from pyroberta.text.literals import MOST_IN_ALTERNATION, Literals, _alternation, _automaton

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
