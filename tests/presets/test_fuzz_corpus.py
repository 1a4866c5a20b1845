"""Inputs that scripts/fuzz_presets.py found to come to ends of their own: each still loads or is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from bad_presets import SOUND
from hypothesis import given
from hypothesis import strategies as st
from reading_worker import Worker, is_well
from small_changes import applied, difference

CORPUS = Path(__file__).parents[1] / "fuzz_corpus"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits of memory are POSIX's")


@pytest.mark.parametrize("kind", SOUND)
def test_every_input_is_read_or_refused(worker: Worker, tmp_path: Path, kind: str) -> None:
    sound = SOUND[kind].make(tmp_path / "sound")
    inputs = [path for path in sorted((CORPUS / kind).rglob("*")) if path.is_file()]
    assert inputs
    for i, changed in enumerate(inputs):
        directory = tmp_path / f"{i}"
        shutil.copytree(sound, directory)
        file = directory / Path(*changed.relative_to(CORPUS / kind).parts[1:])
        file.write_bytes(applied(file.read_bytes(), changed.read_bytes()))
        answer = worker.examine(SOUND[kind].load, directory)
        assert is_well(answer, directory), (changed, answer)


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) <= 200_000


@given(st.text("ab", max_size=8).map(str.encode), st.text("ab", max_size=8).map(str.encode))
def test_a_difference_makes_the_one_of_the_other(before: bytes, after: bytes) -> None:
    assert applied(before, difference(before, after)) == after
    assert len(difference(b"x" * 9999, b"x" * 5000 + b"y" + b"x" * 4998)) < 20
