"""The script that makes the embedded preset, its parts and a very small run."""

from __future__ import annotations

import gzip
import importlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pyroberta.data import speeches
from pyroberta.text.tokenizer import Tokenizer
from pyroberta.training import checkpoint

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def pretrain() -> Iterator[ModuleType]:
    sys.path.insert(0, str(SCRIPTS))
    yield importlib.import_module("pretrain_tiny")
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(speeches()[:300], vocab_size=600)


@pytest.fixture
def corpus_folder(tmp_path: Path) -> Path:
    """What corpus.py leaves, with a training text and an evaluation text."""
    texts = {"old": speeches()[:300], "new": speeches()[300:360]}
    rows: dict[str, dict[str, Any]] = {}
    for name, role in (("old", "train"), ("new", "evaluate")):
        (tmp_path / f"{name}.txt").write_text("\n".join(texts[name]) + "\n")
        rows[name] = {"about": name, "package": "p", "version": "1", "licence": "none", "role": role, "words": 1000}
    (tmp_path / "manifest.json").write_text(json.dumps(rows))
    return tmp_path


def test_sentences_put_together_are_the_paragraph(pretrain: ModuleType) -> None:
    for paragraph in speeches()[:500]:
        assert "".join(pretrain.sentences(paragraph)) == paragraph


@pytest.mark.parametrize("length", [16, 64])
def test_full_sentences_fit_and_lose_no_word(pretrain: ModuleType, tokenizer: Tokenizer, length: int) -> None:
    paragraphs = speeches()[:100]
    texts = pretrain.full_sentences(paragraphs, tokenizer, length)
    assert " ".join(texts).split() == " ".join(paragraphs).split()
    lengths = [len(ids) for ids in tokenizer.encode_batch(texts)]
    assert max(lengths) <= length + 2  # a first word without its space can cost a token or two, which are cut
    assert np.mean(lengths) > 0.6 * length


def test_what_is_held_out_is_not_trained_on(pretrain: ModuleType, corpus_folder: Path) -> None:
    corpus = pretrain.read_corpus(corpus_folder, [])
    trained = {paragraph for source in corpus.train for paragraph in source}
    assert set(corpus.evaluate) == {"in_domain", "new"}
    assert corpus.evaluate["in_domain"]
    for paragraphs in corpus.evaluate.values():
        assert not trained & set(paragraphs)


def test_text_files_and_folders_are_read_beside_the_corpus(
    pretrain: ModuleType, corpus_folder: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (more / "tale.txt").write_text("Once upon a time  there was a “king”.\n\nHe slept well.\n")
    corpus = pretrain.read_corpus(corpus_folder, [more])
    assert corpus.train[-1] == ['Once upon a time there was a "king".', "He slept well."]
    assert corpus.sources["tale"]["role"] == "train"
    with pytest.raises(SystemExit, match="no such file"):
        pretrain.read_corpus(corpus_folder, [tmp_path / "nothing"])


def test_a_compressed_file_of_several_books_is_read_and_told_about_by_the_json_beside_it(
    pretrain: ModuleType, corpus_folder: Path, tmp_path: Path
) -> None:
    with gzip.open(tmp_path / "books.txt.gz", "wt") as file:
        file.write("It was night.\nHe slept.\n\n\nThe second book.\n")
    description = {
        "about": "two books",
        "package": "a shelf",
        "licence": "public domain",
        "works": ["A. B., One", "C. D., Two"],
    }
    (tmp_path / "books.json").write_text(json.dumps(description))
    corpus = pretrain.read_corpus(corpus_folder, [tmp_path / "books.txt.gz"])
    assert corpus.train[-1] == ["It was night.", "He slept.", "The second book."]
    assert corpus.sources["books"].items() >= {**description, "words": 8}.items()
    (tmp_path / "books.json").write_text('{"license": "none"}')
    with pytest.raises(SystemExit, match="license is not known; what can be told is about"):
        pretrain.read_corpus(corpus_folder, [tmp_path / "books.txt.gz"])


def test_a_missing_corpus_says_how_to_make_it(pretrain: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"run `python scripts/corpus\.py` first"):
        pretrain.read_corpus(tmp_path, [])


def test_the_learning_rate_rises_and_falls_with_the_tokens_whatever_a_step_holds(pretrain: ModuleType) -> None:
    steps, tokens = [100, 50], [1000, 2000]  # steps of 10 tokens, then of 40
    rate = pretrain.schedule(2e-3, steps, tokens)
    rates = np.array([rate(step) for step in range(150)])
    done = np.concatenate([(np.arange(100) + 0.5) * 10, 1000 + (np.arange(50) + 0.5) * 40]) / 3000
    np.testing.assert_allclose(rates, [2e-3 * pretrain.one_cycle(share) for share in done], rtol=1e-12)
    assert 0 < rates[-1] < 0.05 * rates.max() <= 0.05 * 2e-3
    assert rates.argmax() in (14, 15)


def test_a_plan_has_the_tokens_asked_for_in_whole_steps_and_no_repeat_within_a_pass(pretrain: ModuleType) -> None:
    sequences = {
        length: [np.full(length - i % 5, i, np.int32) for i in range(2000)]
        for length in {phase.sequence_length for phase in pretrain.PHASES}
    }
    parts = pretrain.plan(100_000, sequences, seed=3)
    for phase, part in zip(pretrain.PHASES, parts, strict=True):
        assert len(part) % (phase.tokens_per_step // phase.sequence_length) == 0
        seen = sum(map(len, part))
        assert phase.share * 100_000 <= seen < phase.share * 100_000 + phase.tokens_per_step
    for length in sequences:
        same = [
            int(ids[0])
            for phase, part in zip(pretrain.PHASES, parts, strict=True)
            for ids in part
            if phase.sequence_length == length
        ]
        assert len(set(same)) == len(same)
    again = pretrain.plan(100_000, sequences, seed=3)
    assert all(np.array_equal(a, b) for x, y in zip(parts, again, strict=True) for a, b in zip(x, y, strict=True))


def test_the_baselines_are_those_of_a_guess_without_context(pretrain: ModuleType) -> None:
    figures = pretrain.unigram([np.array([0, 5, 5, 2]), np.array([0, 6, 7, 2])], [0, 1, 2])
    assert figures["most_frequent"] == 0.5
    assert figures["entropy"] == pytest.approx(1.5 * np.log(2.0))


# --- a whole run ------------------------------------------------------------------------------------------------------

# Runs in a process of its own: the script, with its phases as in `small`, which dies within the step argv[2].
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import pretrain_tiny
pretrain_tiny.PHASES = pretrain_tiny.Phase(0.5, 32, 256, 0.3), pretrain_tiny.Phase(0.5, 64, 256, 0.15)
pretrain_tiny.STRETCHES = 5
told = pretrain_tiny.Journal.on_train_batch_end
def on_train_batch_end(self, batch, logs=None):
    told(self, batch, logs)
    if self.steps == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
pretrain_tiny.Journal.on_train_batch_end = on_train_batch_end
pretrain_tiny.main(sys.argv[3:])
"""


@pytest.fixture
def small(pretrain: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with two small phases in five stretches of three steps or four."""
    monkeypatch.setattr(pretrain, "PHASES", (pretrain.Phase(0.5, 32, 256, 0.3), pretrain.Phase(0.5, 64, 256, 0.15)))
    monkeypatch.setattr(pretrain, "STRETCHES", 5)
    return pretrain


def arguments_of(folder: Path, out: Path, *more: str) -> list[str]:
    arguments = ["--corpus", str(folder), "--tokens", "4000", "--vocabulary", "400", "--layers", "2"]
    return [*arguments, "--hidden", "32", "--heads", "2", "--out", str(out), *more]


def run_and_kill(step: int, arguments: list[str]) -> None:
    command = [sys.executable, "-c", KILLED, str(SCRIPTS), str(step), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=SCRIPTS.parent)
    assert done.returncode == -signal.SIGKILL, done.stderr


def outcome(out: Path, name: str) -> dict[str, Any]:
    """All that a run left, but for times and the folder's name."""
    run = json.loads((out / name / "run.json").read_text())
    for line in run["log"]:
        del line["seconds"]
    del run["seconds"], run["command"]
    state, _ = checkpoint.load(out / "checkpoint.safetensors")
    vectors = {name: arrays.flat.tobytes() for name, arrays in (("params", state.params), *state.slots.items())}
    counts = state.step, state.epoch, state.data_pass, state.position
    return {"run": run, "model": (out / name / "model.safetensors").read_bytes(), "counts": counts, **vectors}


def test_a_small_run_writes_a_preset_that_loads_and_a_card_from_its_record(
    small: ModuleType, corpus_folder: Path, tmp_path: Path
) -> None:
    from pyroberta.tasks.masked_lm import MaskedLM

    assert small.main(arguments_of(corpus_folder, tmp_path / "out")) == 1  # nothing that could be shipped
    preset = tmp_path / "out" / small.NAME
    run = json.loads((preset / "run.json").read_text())
    card = (preset / "README.md").read_text()
    assert card == small.model_card.model_card(run)
    curve = (preset / "curve.svg").read_bytes()
    assert b"million tokens" in curve
    assert "(curve.svg)" in card
    assert f"| {run['figures_hidden']['new']['loss']:.2f} |" in card
    assert small.main(["--card", str(preset / "run.json")]) == 0
    assert (preset / "curve.svg").read_bytes() == curve
    assert f"{run['figures']['new']['loss']:.2f}" in card
    assert len(run["prompts"]) == 20
    assert run["planned_tokens"] == run["tokens"] >= 4000
    answers = MaskedLM.from_preset(preset).fill_mask(list(small.PROMPTS[:2]), top_k=5)
    for fillings, shown in zip(answers, run["prompts"], strict=False):
        assert fillings[0].score == pytest.approx(shown["answers"][0][1], abs=2e-3)  # stored as float16


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(
    small: ModuleType, corpus_folder: Path, tmp_path: Path
) -> None:
    assert small.main(arguments_of(corpus_folder, tmp_path / "whole")) == 1
    whole = outcome(tmp_path / "whole", small.NAME)

    arguments = arguments_of(corpus_folder, tmp_path / "killed")
    for step in (2, 9, 10):  # before the first save, and twice within stretches further on
        run_and_kill(step, arguments)
        assert (tmp_path / "killed" / "checkpoint.safetensors").exists() == (step > 2)
    assert not (tmp_path / "killed" / small.NAME).exists()
    assert small.main(arguments) == 1
    assert set(whole) == {"run", "model", "counts", "params", "m", "v"}
    assert outcome(tmp_path / "killed", small.NAME) == whole
    assert "going on after step" in (tmp_path / "killed" / "log.txt").read_text()


def test_another_run_is_not_gone_on_with(small: ModuleType, corpus_folder: Path, tmp_path: Path) -> None:
    run_and_kill(9, arguments_of(corpus_folder, tmp_path / "out"))
    with pytest.raises(SystemExit, match=r"run of other arguments: seed 1 \(now 2\)"):
        small.main(arguments_of(corpus_folder, tmp_path / "out", "--seed", "2"))
    with (corpus_folder / "old.txt").open("a") as file:
        file.write("One more paragraph, and it is another text.\n")
    with pytest.raises(SystemExit, match="on another text"):
        small.main(arguments_of(corpus_folder, tmp_path / "out"))


def test_a_run_can_be_ended_where_it_stands(small: ModuleType, corpus_folder: Path, tmp_path: Path) -> None:
    arguments = arguments_of(corpus_folder, tmp_path / "out")
    with pytest.raises(SystemExit, match="holds no run"):
        small.main([*arguments, "--finish"])
    run_and_kill(9, arguments)
    assert small.main([*arguments, "--finish"]) == 1
    run = json.loads((tmp_path / "out" / small.NAME / "run.json").read_text())
    assert 0 < run["steps"] < 9
    assert run["tokens"] < run["planned_tokens"]


def test_a_stretch_is_of_one_phase_and_together_they_are_all_of_it(pretrain: ModuleType) -> None:
    sequences = {length: [np.full(length, i, np.int32) for i in range(50)] for length in (64, 128)}
    for tokens in (1_000, 40_000, 4_000_000):
        parts = pretrain.plan(tokens, sequences, seed=3)
        cut = pretrain.stretches(parts)
        for number, (phase, part) in enumerate(zip(pretrain.PHASES, parts, strict=True)):
            in_order = [stretch.sequences for stretch in cut if stretch.phase == number]
            assert all(len(some) % (phase.tokens_per_step // phase.sequence_length) == 0 for some in in_order)
            assert [id(ids) for some in in_order for ids in some] == [id(ids) for ids in part]
        assert 5 <= len(cut) <= pretrain.STRETCHES + 5
