"""The demo does what it shows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_models import TEXTS, small_masked_lm

from pyroberta import MaskedLM
from pyroberta.cli import demo
from pyroberta.data import speeches


def test_the_baseline_is_the_cross_entropy_under_the_training_texts_frequencies():
    masked_lm = small_masked_lm()
    tokenizer = masked_lm.preprocessor.tokenizer
    train, asked = TEXTS[:4], TEXTS[4:]
    seen = [i for text in train for i in tokenizer.encode(text, add_special_tokens=False)]
    ids = [i for text in asked for i in tokenizer.encode(text, add_special_tokens=False)]
    losses = [-np.log((seen.count(i) + 1) / (len(seen) + 300)) for i in ids]
    entropy, accuracy = demo.unigram_baseline(masked_lm, train, asked)
    assert entropy == pytest.approx(np.mean(losses))
    assert accuracy == np.mean([i == max(set(seen), key=seen.count) for i in ids])


def test_the_demo_shows_its_figures_fills_masks_and_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    texts = speeches()
    monkeypatch.setattr(demo, "_texts", lambda: (texts[:100], texts[-3:]))
    result = demo.from_scratch(updates=5, output=tmp_path / "model")
    out, err = capsys.readouterr()
    assert "100 paragraphs to learn from, 3 held out" in out
    assert f"accuracy {result['after']['accuracy']:.1%}" in out
    assert demo._verdict(result["after"]["loss"], result["unigram_loss"]) in out
    assert "epoch 5/5" in err
    assert list(result["fillings"]) == ["before", "after"]
    assert list(result["fillings"]["after"]) == list(demo.PROMPTS)
    loaded = MaskedLM.from_preset(tmp_path / "model")
    assert loaded.evaluate(texts[-3:], verbose=0)[0] == pytest.approx(result["after"]["loss"], rel=1e-5)


def test_the_verdict_says_which_of_the_two_is_better():
    assert demo._verdict(5.0, 6.5).endswith("alone 6.500: the model beats them by 1.500 nats")
    assert demo._verdict(6.5, 6.0).endswith("alone 6.000: the model does not beat them (0.500 nats above)")
    assert "nan" in demo._verdict(float("nan"), 6.0)
    assert "does not beat" in demo._verdict(float("nan"), 6.0)


def test_a_place_that_cannot_be_saved_to_is_told_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "precious.txt").write_text("mine")
    monkeypatch.setattr(MaskedLM, "fit", lambda *args, **keywords: pytest.fail("it trained"))
    with pytest.raises(FileExistsError, match="it holds files"):
        demo.from_scratch(updates=5, output=tmp_path)


@pytest.mark.slow
def test_a_fresh_model_learns_more_of_a_megabyte_of_prose_than_its_word_frequencies():
    assert sum(len(text.encode()) for text in speeches()) > 1_000_000
    command = [sys.executable, "-m", "pyroberta", "demo", "--from-scratch", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the model beats them by " in done.stderr  # where the story goes when the result is JSON
    result = json.loads(done.stdout)
    assert result["after"]["loss"] < result["unigram_loss"] - 1.0
    assert result["after"]["accuracy"] > result["most_frequent_token_accuracy"] + 0.08
    assert abs(result["before"]["loss"] - result["unigram_loss"]) < 0.5  # it started there
    fillings = list(result["fillings"]["after"].values())
    assert fillings[0] != fillings[1] != fillings[2]  # and left: it looks at the context
