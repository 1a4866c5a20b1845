"""What must not be read is refused: at once, by name, in little memory, with nothing run and nothing written."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from bad_presets import CASES, SOUND, make, make_sound
from reading_worker import Worker, is_well

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and limits of memory are POSIX's")


def listing(directory: Path) -> list[tuple[str, int]]:
    return sorted((str(path.relative_to(directory)), path.lstat().st_mtime_ns) for path in directory.rglob("*"))


@pytest.mark.parametrize("kind", SOUND)
def test_the_sound_ones_are_read(worker: Worker, tmp_path: Path, kind: str) -> None:
    answer = worker.examine(SOUND[kind].load, make_sound(kind, tmp_path / "preset"))
    assert answer["kind"] == "", answer
    assert answer["events"] == []


@pytest.mark.parametrize("name", CASES)
def test_a_bad_preset_is_refused_by_name(worker: Worker, tmp_path: Path, name: str) -> None:
    directory = make(name, tmp_path / "preset")
    before = listing(directory), sorted(os.listdir())
    answer = worker.examine(SOUND[CASES[name].kind].load, directory)
    assert answer["kind"] != ""
    assert is_well(answer, tmp_path), answer
    assert re.search(CASES[name].message, answer["message"], re.DOTALL), answer
    assert (listing(directory), sorted(os.listdir())) == before
