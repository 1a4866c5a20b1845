"""The texts that show what the embedded preset can do are those that the stated rule chooses."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import pyroberta

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def chosen() -> list[tuple[str, str]]:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import choose_examples
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    return choose_examples.pool(pyroberta.Tokenizer.from_preset("roberta_tiny_en"))


def test_the_page_shows_the_first_ten_of_the_pool(chosen: list[tuple[str, str]]) -> None:
    page = (ROOT / "docs" / "pretraining.md").read_text(encoding="utf-8")
    assert f"{len(chosen)} that qualify" in page
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ") and "`<mask>`" in line]
    assert [(text.removeprefix("| ").replace("`", ""), word) for text, word, _ in rows] == chosen[:10]


def test_readme_shows_the_first_three_that_the_model_gets_right(chosen: list[tuple[str, str]]) -> None:
    masked_lm = pyroberta.MaskedLM.from_preset("roberta_tiny_en")
    some = chosen[:60]
    answers = masked_lm.fill_mask([text for text, _ in some], top_k=1, verbose=0)
    is_right = [fillings[0].token_str.strip() == word for fillings, (_, word) in zip(answers, some, strict=True)]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first = [some[i][0] for i in np.flatnonzero(is_right)[:3]]
    assert [text for text in first if f'"{text}"' in readme] == first
    assert f"of {len(chosen)} sentences" in readme


@pytest.mark.slow
def test_the_shares_are_those_of_the_whole_pool(chosen: list[tuple[str, str]]) -> None:
    masked_lm = pyroberta.MaskedLM.from_preset("roberta_tiny_en")
    answers = masked_lm.fill_mask([text for text, _ in chosen], verbose=0)
    words = [[filling.token_str.strip() for filling in fillings] for fillings in answers]
    first = np.mean([word == some[0] for (_, word), some in zip(chosen, words, strict=True)])
    among = np.mean([word in some for (_, word), some in zip(chosen, words, strict=True)])
    page = (ROOT / "docs" / "pretraining.md").read_text(encoding="utf-8")
    assert f"{100 * first:.1f} % of the sentences" in page
    assert f"in {100 * among:.1f} %." in page
