"""What must not be read is refused: at once, by name, in little memory, with nothing run and nothing written.

So is what scripts/fuzz_presets.py draws at random, the same inputs of the same seed.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from bad_presets import CASES, SOUND, make, make_sound
from reading_worker import Worker, is_well

from pyroberta.formats.budget import printable

STRANGE = "a\x1b[2Jb\u202e"  # a name that a terminal must not get as it is
posix = pytest.mark.skipif(os.name != "posix", reason="pipes and limits of memory are POSIX's")


def listing(directory: Path) -> list[tuple[str, int]]:
    return sorted((str(path.relative_to(directory)), path.lstat().st_mtime_ns) for path in directory.rglob("*"))


@posix
@pytest.mark.parametrize("kind", SOUND)
def test_the_sound_ones_are_read(worker: Worker, tmp_path: Path, kind: str) -> None:
    answer = worker.examine(SOUND[kind].load, make_sound(kind, tmp_path / "preset"))
    assert answer["kind"] == "", answer
    assert answer["events"] == []


@posix
@pytest.mark.parametrize("name", CASES)
def test_a_bad_preset_is_refused_by_a_name_without_control_characters(
    worker: Worker, tmp_path: Path, name: str
) -> None:
    directory = make(name, tmp_path / STRANGE / "preset")
    before = listing(directory), sorted(os.listdir())
    answer = worker.examine(SOUND[CASES[name].kind].load, directory)
    assert answer["kind"] != ""
    assert is_well(answer, tmp_path / STRANGE), answer
    assert answer["message"] == printable(answer["message"], keep="\n"), answer
    assert re.search(CASES[name].message, answer["message"], re.DOTALL), answer
    assert (listing(directory), sorted(os.listdir())) == before


# --- presets that are spoilt at random --------------------------------------------------------------------------------


ROOT = Path(__file__).resolve().parents[2]
BAD = ["a shard missing", "an old file with no end", "archive: without config"]


@pytest.fixture
def fuzzer(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import fuzz_presets

    return fuzz_presets


def test_an_input_is_drawn_again_by_its_seed_and_number(
    fuzzer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fuzzer.Inputs(3, tmp_path, BAD)
    drawn = [first.draw(number) for number in range(40)]
    monkeypatch.setattr(time, "time", lambda: 1e9)  # a zip may keep the time
    again = fuzzer.Inputs(3, tmp_path / "again", BAD)
    for number in reversed(range(40)):
        one, other = drawn[number], again.draw(number)
        assert (one.kind, one.source.name, one.file) == (other.kind, other.source.name, other.file)
        assert one.content == other.content
    assert len({(one.source, one.file, one.content) for one in drawn}) > 37
    other_seed = fuzzer.Inputs(4, tmp_path / "other", BAD)
    assert [other_seed.draw(number).content for number in range(9)] != [one.content for one in drawn[:9]]


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_preset_is_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    found = []
    for i in range(2):
        monkeypatch.setattr(time, "time", lambda i=i: 1e9 * (i + 1))
        directory = SOUND[kind].make(tmp_path / f"{i}")
        found.append(
            {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
        )
    assert found[0] == found[1]


@posix
def test_every_input_is_read_or_refused(fuzzer: Any, worker: Worker, tmp_path: Path) -> None:
    inputs = fuzzer.Inputs(0, tmp_path, BAD)
    for number in range(30):
        drawn = inputs.draw(number)
        before = (drawn.source / drawn.file).read_bytes()
        answer = fuzzer.examined(worker, drawn)
        assert is_well(answer, drawn.source), (number, drawn.kind, drawn.file, answer)
        assert (drawn.source / drawn.file).read_bytes() == before
