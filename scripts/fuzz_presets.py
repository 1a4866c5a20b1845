"""Spoils presets at random and loads them, for as long as it is told: none may do anything but load or be refused.

    python scripts/fuzz_presets.py [--minutes 10] [--seed 17] [--input 4711]

An input is a sound preset or a bad one of tests/support/bad_presets, with one file changed. In half of them it is
bytes: flipped, cut out, repeated, put in from another file of its kind, or a value replaced, in JSON and in the header
of safetensors. In the other half it is structure, see fuzz_structures.py: claims, repetitions, references, nesting.
tests/support/reading_worker.py loads it, as what it is (a model, a classifier, an adapter, a state), in a process
of its own with a limit of memory and a watch on what runs. A crash, a hang, an error that no reader promises or that
doesn't say where, an event that was heard: each is a failure. Its input stays in the folder that is printed, beside the
line that draws it again, by its seed and number.

A failure that is mended becomes a named case of tests/support/bad_presets, which makes it in a line or two.
"""

from __future__ import annotations

import argparse
import copy
import io
import itertools
import json
import random
import re
import shutil
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "scripts")]

from bad_presets import CASES, SOUND, make, make_sound  # noqa: E402
from fuzz_structures import STRUCTURES  # noqa: E402
from reading_worker import Worker, is_well  # noqa: E402

LARGEST = 1 << 22  # bytes of a file that is changed
SLOW = re.compile(r"bomb|million|huge|empty lists|empty objects|numbers|many views|without end|bursts|enormous chunks")
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 1 << 31, 1 << 63, 10**30, 0.5, 1e300, "", "a", "roberta", "../x", "/", "é\0"),
    *([], [[]], [1, 2], {}, {"a": 1}, ["a", "b"]),
)


def json_places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key in it."""
    found, left = [], [value]
    while left:
        one = left.pop()
        keys = one.keys() if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            left.append(one[key])
    return found


def changed_json(rng: random.Random, content: bytes) -> bytes:
    value = json.loads(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = json_places(value)
        if places:
            container, key = rng.choice(places[:50] if rng.random() < 0.7 else places)
            kind = rng.random()
            if kind < 0.2:
                del container[key]
            elif kind < 0.3:
                container[key] = (
                    container[rng.choice(list(container))] if isinstance(container, dict) else [container[key]]
                )
            else:
                container[key] = copy.deepcopy(rng.choice(VALUES))  # it may be changed in its turn
    return json.dumps(value).encode()


def changed_header(rng: random.Random, content: bytes) -> bytes:
    """Of a safetensors file, and what is JSON in its metadata."""
    stop = 8 + struct.unpack("<Q", content[:8])[0]
    header = content[8:stop]
    found = json.loads(header)
    remarks = found.get("__metadata__")
    if isinstance(remarks, dict) and "training" in remarks and rng.random() < 0.7:
        remarks["training"] = changed_json(rng, remarks["training"].encode()).decode()
        made = json.dumps(found).encode()
    else:
        made = changed_json(rng, header)
    return struct.pack("<Q", len(made)) + made + content[stop:]


def changed_zip(rng: random.Random, content: bytes) -> bytes:
    """One entry, mostly the pickle, with its sum to check by made anew."""
    found = io.BytesIO(content)
    with zipfile.ZipFile(found) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    pickles = [name for name in entries if name.endswith("data.pkl")]
    name = rng.choice(pickles if pickles and rng.random() < 0.8 else list(entries))
    entries[name] = changed_bytes(rng, entries[name], content)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, part in entries.items():
            archive.writestr(zipfile.ZipInfo(name), part)  # without the time, so it is always the same
    return made.getvalue()


def changed_archive(rng: random.Random, content: bytes) -> bytes:
    """One entry of Keras's, mostly the config."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = "config.json" if rng.random() < 0.6 else rng.choice(list(entries))
    how = changed_json if name.endswith(".json") else lambda rng, part: changed_bytes(rng, part, content)
    entries[name] = how(rng, entries[name])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, part in entries.items():
            archive.writestr(zipfile.ZipInfo(name), part)
    return made.getvalue()


def changed_bytes(rng: random.Random, content: bytes, other: bytes) -> bytes:
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not made:
            break
        # headers lie at the front, a zip's directory at the end
        at = min(int(rng.expovariate(1 / 300)), len(made) - 1) if rng.random() < 0.7 else rng.randrange(len(made))
        at = len(made) - 1 - at if rng.random() < 0.2 else at
        length = rng.choice((1, 2, 4, 8, rng.randrange(1, 64)))
        kind = rng.randrange(7)
        if kind == 0:
            made[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            made[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del made[at : at + length]
        elif kind == 3:
            made[at:at] = made[at : at + length] * rng.choice((1, 2, 100))
        elif kind == 4:
            start = rng.randrange(max(1, len(other)))
            made[at : at + rng.choice((0, length))] = other[start : start + length]
        elif kind == 5:
            number = rng.choice((0, 1, -1, 1 << 31, (1 << 63) - 1, len(made), rng.randrange(1 << 16)))
            made[at : at + length] = (number % (1 << 64)).to_bytes(8, "little")[:length]
        else:
            del made[at:]
    return bytes(made)


# What comes of a file that isn't what its name says, or of a change that the writer of the format refuses.
UNCHANGEABLE = (
    ValueError, TypeError, AttributeError, LookupError, RecursionError, OverflowError, OSError, RuntimeError,
    EOFError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
HOW = {
    ".json": changed_json, ".safetensors": changed_header, ".pt": changed_zip, ".bin": changed_zip,
    ".keras": changed_archive,
}  # fmt: skip


def pattern(message: str) -> str:
    """The message without what differs from input to input."""
    message = re.sub(r"'[^']*'|\"[^\"]*\"", "_", message)
    return re.sub(r"(/\S+/)|\b0x[0-9a-f]+\b|\d+|(?<=: )[\w.]+\.[\w.]+", "_", message)[:80]


def not_plain(directory: str, names: list[str]) -> list[str]:
    """Those that can't be copied: a pipe would wait."""
    return [name for name in names if not ((path := Path(directory, name)).is_file() or path.is_dir())]


def files_of(directory: Path) -> list[Path]:
    found = [path for path in sorted(directory.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [path for path in found if path.stat().st_size < LARGEST]


class Input(NamedTuple):
    """kind: of the preset; source: the directory; file: in it; content: other bytes for the file."""

    kind: str
    source: Path
    file: Path
    content: bytes
    is_structure: bool


class Inputs:
    """The inputs of a seed, each by its number, whichever were drawn before.

    Args:
        seed: of all.
        folder: for the presets to begin with.
        names: of bad presets among these.
    """

    def __init__(self, seed: int, folder: Path, names: Iterable[str]) -> None:
        self.seed = seed
        self.sound = [(kind, make_sound(kind, folder / f"sound-{i}")) for i, kind in enumerate(SOUND)]
        bad = [(CASES[name].kind, make(name, folder / f"bad-{i}")) for i, name in enumerate(names)]
        self.sources = [(kind, source) for kind, source in self.sound + bad if files_of(source)]

    def draw(self, number: int) -> Input:
        rng = random.Random(f"{self.seed} {number}")
        # sound ones more often: a bad one mostly ends where it did before
        kind, source = rng.choice(self.sound if rng.random() < 0.8 else self.sources)
        paths = files_of(source)
        is_structure = rng.random() < 0.5
        if is_structure:  # a format as often as another: most files are JSON
            suffix = rng.choice(sorted({path.suffix for path in paths}))
            path = rng.choice([path for path in paths if path.suffix == suffix])
        else:
            path = rng.choice(paths)
        content, other = path.read_bytes(), rng.choice(paths).read_bytes()
        how = (STRUCTURES if is_structure else HOW).get(path.suffix)
        try:
            if how is None or (not is_structure and rng.random() < 0.3):
                raise ValueError
            made = how(rng, content)
        except UNCHANGEABLE:
            made, is_structure = changed_bytes(rng, content, other), False
        return Input(kind, source, path.relative_to(source), made, is_structure)


def examined(worker: Worker, drawn: Input) -> dict[str, Any]:
    """What comes of it; the preset is as before afterwards."""
    path = drawn.source / drawn.file
    before = path.read_bytes()
    path.write_bytes(drawn.content)
    try:
        return worker.examine(SOUND[drawn.kind].load, drawn.source)
    finally:
        path.write_bytes(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, help="of the inputs; drawn, and printed, by default")
    parser.add_argument("--input", type=int, help="the number of the only one to draw; it stays where it is said to be")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    folder = Path(tempfile.mkdtemp(prefix="fuzz-presets-"))
    inputs = Inputs(seed, folder, [name for name in CASES if not SLOW.search(name)])
    worker = Worker([(SOUND[kind].load, source) for kind, source in inputs.sound])
    print(f"seed {seed}, {len(inputs.sources)} presets to begin with, in {folder}", flush=True)

    ends: Counter[tuple[str, str, str]] = Counter()
    failures = structures = 0
    numbers = itertools.count() if arguments.input is None else [arguments.input]
    started = said = time.monotonic()
    for number in numbers:
        if time.monotonic() - started > 60 * arguments.minutes:
            break
        drawn = inputs.draw(number)
        answer = examined(worker, drawn)
        structures += drawn.is_structure
        ends[answer["kind"], answer["where"], pattern(answer["message"])] += 1
        if arguments.input is not None or not is_well(answer, drawn.source):
            failures += not is_well(answer, drawn.source)
            target = folder / f"input-{number}"
            shutil.copytree(drawn.source, target, symlinks=True, ignore=not_plain)
            (target / drawn.file).write_bytes(drawn.content)
            print(f"{target} ({drawn.kind}, {drawn.file}): {answer}"[:1500])
            print(f"draw it again: python scripts/fuzz_presets.py --seed {seed} --input {number}", flush=True)
        if time.monotonic() - said > 60:
            said = time.monotonic()
            print(f"{ends.total()} inputs, {len(ends)} ends, {failures} failures", flush=True)
    worker.close()
    minutes = (time.monotonic() - started) / 60
    print(
        f"{ends.total()} inputs in {minutes:.1f} minutes, {structures} of them structures: {len(ends)} ends, "
        f"{failures} failures (seed {seed})"
    )
    if arguments.input is None:
        for (kind, where, message), times in ends.most_common(12):
            print(f"{times:6}  {kind or 'read'}  {where}  {message}")
        if not failures:
            shutil.rmtree(folder)
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
