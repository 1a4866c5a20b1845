"""Inputs that scripts/fuzz_presets.py found to come to ends of their own: each still loads or is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from bad_presets import SOUND
from reading_worker import ANSWERS, PATIENCE, Worker

CORPUS = Path(__file__).parent / "fuzz_corpus"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits of memory are POSIX's")


@pytest.mark.parametrize("kind", SOUND)
def test_every_input_is_read_or_refused(tmp_path: Path, kind: str) -> None:
    load, sound = SOUND[kind].load, SOUND[kind].make(tmp_path / "sound")
    inputs = [path for path in sorted((CORPUS / kind).rglob("*")) if path.is_file()]
    assert inputs
    worker = Worker([(load, sound)])
    try:
        for i, changed in enumerate(inputs):
            directory = tmp_path / f"{i}"
            shutil.copytree(sound, directory)
            shutil.copyfile(changed, directory / Path(*changed.relative_to(CORPUS / kind).parts[1:]))
            answer = worker.examine(load, directory)
            assert answer["kind"] in ("", *ANSWERS), (changed, answer)
            assert answer["events"] == [], (changed, answer)
            assert answer["seconds"] < PATIENCE, (changed, answer)
    finally:
        worker.close()


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) <= 200_000
