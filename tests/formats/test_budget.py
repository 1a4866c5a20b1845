"""What a reader may take is spent before it is made, and what a message shows of a value is bounded."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyroberta.formats.budget import LEAST_BYTES, LEAST_STEPS, LONGEST, STEPS_PER_ITEM, Budget, OverBudget, shown


def test_a_refusal_names_the_file_what_asked_how_much_and_what_was_allowed():
    budget = Budget("a.bin", size=LEAST_BYTES)
    budget.make("the view (3,)", LEAST_BYTES)
    with pytest.raises(
        OverBudget, match=r"^a\.bin: 200000000 bytes are needed for a tensor, but only 192000000 of the 25"
    ):
        budget.make("a tensor", 200_000_000)


def test_what_is_refused_is_not_spent():
    budget = Budget("a.bin", steps=5)
    for _ in range(2):
        with pytest.raises(OverBudget, match=r"6 steps are needed for .*, but only 5 of the 5 allowed are left"):
            budget.step("a group", 6)
    budget.step("a group", 5)


def test_limits_follow_the_file_s_size_and_what_is_expected_in_it():
    assert Budget("a", size=0).most_bytes == Budget("a", size=1000).most_bytes == LEAST_BYTES
    assert Budget("a", size=10**9).most_bytes == 4 * 10**9
    assert Budget("a").most_steps == LEAST_STEPS
    assert Budget("a", items=1000).most_steps == LEAST_STEPS + 1000 * STEPS_PER_ITEM


def test_a_message_of_the_budget_is_short_whatever_asked():
    with pytest.raises(OverBudget) as caught:
        Budget("a", steps=0).step("x" * 10_000)
    assert len(str(caught.value)) < 2 * LONGEST


class Mapped(dict):
    """A kind of dict that nobody registered for a message."""


def doubled(first, join, times=60):
    """Holds the one before it twice: 2**60 parts."""
    for _ in range(times):
        first = join(first)
    return first


HUGE = {
    "tuples": doubled((), lambda one: (one, one)),
    "lists": doubled([], lambda one: [one, one]),
    "dicts": doubled({}, lambda one: {1: one, 2: one}),
    "a dict of another class": Mapped(a=doubled((), lambda one: (one, one))),
    "an object": argparse.Namespace(a=doubled((), lambda one: (one, one))),
    "an error": KeyError(doubled((), lambda one: (one, one))),
    "texts": ["x" * 10_000] * 10_000,
    "a set": set(range(100_000)),
    "a number": 10**100_000,
    "bytes": b"\xff" * 10_000,
    "surrogates": "\ud800" * 10_000,
}


@pytest.mark.parametrize("kind", HUGE)
def test_a_huge_value_is_shown_in_few_characters(kind):
    assert 0 < len(shown(HUGE[kind])) <= LONGEST


def test_a_list_in_itself_is_shown():
    one: list = []
    one.append(one)
    assert shown(one) == "[[[[...]]]]"


@given(
    st.recursive(
        st.none() | st.integers(-999, 999) | st.text(max_size=9), lambda v: st.lists(v, max_size=3), max_leaves=3
    )
)
def test_a_small_value_is_shown_as_it_is(value):
    text = repr(value)
    assert shown(value) == text or "..." in shown(value)
    if not isinstance(value, list):
        assert shown(value) == text
