"""The tables of claims are whole: what is claimed, what is done otherwise, and what is outside."""

from __future__ import annotations

from collections import Counter

import claims
import pytest
from claims import DOCS, PAGES, written
from different import DIFFERENT
from outside import sources

HELD = {source for one in claims.marked("claim") for source in one.sources}
OTHERWISE = [source for one in DIFFERENT for source in one.sources]


def test_what_is_done_otherwise_is_shown_by_a_test():
    shown = Counter(source for one in claims.marked("differs") for source in one.sources)
    assert {one.sources[0] for one in DIFFERENT} <= set(shown)
    assert set(shown) <= set(OTHERWISE)


def test_no_test_of_a_peer_is_both_claimed_and_outside():
    outside = sources()
    assert len(set(outside)) == len(outside)
    assert not set(outside) & (HELD | set(OTHERWISE))


def test_the_claims_hold_but_for_a_few():
    """The aim: at least 300 of the peers' tests hold, at most 24 do not."""
    assert len(HELD) >= 300
    assert len(set(OTHERWISE) - HELD) <= 24
    assert len(DIFFERENT) <= 24
    assert len(HELD) == sum(claims.tests_of_theirs().values())


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_have_the_tables(page):
    assert (DOCS / page).read_text(encoding="utf-8") == written(page, PAGES[page]), (
        "run scripts/count_claims.py --write"
    )
