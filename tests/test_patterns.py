"""Patterns for names: those that are let through are looked for in no time, whatever they are."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyroberta.training import patterns
from pyroberta.training.optimizers import AdamW

PARTS = ("a", "b", ".", "(", ")", "(?:", "*", "+", "?", "|", "{2,}", "{9}", "[ab]", "\\(", "\\d", "^", "$", ")?", "+?")


@settings(max_examples=200)
@given(st.lists(st.sampled_from(PARTS), max_size=30).map("".join))
@example("a?a?a?a?a?" * 6 + "b")
@example("(a|a)" * 60 + "b")
@example("a*a*a*b")
@example("(" * 150 + ")" * 150)
def test_what_is_let_through_is_quick(pattern: str) -> None:
    try:
        patterns.check("x", [pattern])
        compiled = re.compile(pattern)
    except (ValueError, re.error):
        return
    started = time.process_time()
    compiled.search("a" * patterns.LONGEST_NAME)
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    "pattern",
    [r"(a+)+$", r"(([a-z.]+)+)+\d\d$", "(?x)(a+) +", "(a|a)" * 20 + "b", "a?" * 40 + "b", ".*.*.*.*x", "a" * 301],
)
def test_what_may_take_long_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(ValueError, match=f"exclude_from_weight_decay: {re.escape(repr(pattern[:80]))} may take long"):
        AdamW().exclude_from_weight_decay(["bias", pattern])


def test_what_is_usual_is_let_through() -> None:
    usual = [
        r"\.(bias|gamma|beta)$", r"layers\.\d+\..*\.(bias|gamma|beta)$", r"layers\.([0-9]|1[01])\.attention\..*",
        r"^(?:head|embeddings)\..*", r"(layers\.0\.)?.*norm",
    ]  # fmt: skip
    AdamW().exclude_from_weight_decay(usual)
    patterns.check("x", ["bias"] * 500)
    with pytest.raises(ValueError, match="501 patterns are more than the 500"):
        patterns.check("x", ["bias"] * 501)
