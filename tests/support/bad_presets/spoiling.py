"""Ways to spoil a preset, one change each, and what the cases are made of."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import safetensors
import safetensors.numpy
from small_pickles import name_of, text
from small_presets import KERASHUB

from pyroberta.presets import kerashub

CONFIG = KERASHUB  # the size of all of them: the small tokenizer's
CANARY = "was-here"  # what a file that runs would leave in the working directory, or in the preset
WEIGHTS = "model.safetensors"

Spoil = Callable[[Path], Any]


class Sound(NamedTuple):
    """make: writes the preset; load: how the worker loads it, a name of `reading_worker.LOADERS`."""

    make: Callable[[Path], Path]
    load: str = "masked_lm"


class Case(NamedTuple):
    """kind: of the sound preset; spoil: what is done to it; message: a part, as a regular expression, of the error."""

    kind: str
    spoil: Spoil
    message: str


def put(file: str, content: bytes | str | Callable[[], str]) -> Spoil:
    """Another content in a file; one that takes long to make is a function, which is called when it is needed."""

    def spoil(directory: Path) -> None:
        made = content() if callable(content) else content
        (directory / file).write_bytes(made.encode() if isinstance(made, str) else made)

    return spoil


def cut(file: str, share: float) -> Spoil:
    return lambda d: os.truncate(d / file, int((d / file).stat().st_size * share))


def instead(file: str, make: Callable[[Path], Any]) -> Spoil:
    def spoil(directory: Path) -> None:
        (directory / file).unlink()
        make(directory / file)

    return spoil


def link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def dead_link(file: str) -> Spoil:
    def spoil(directory: Path) -> None:
        (directory / file).unlink(missing_ok=True)
        (directory / file).symlink_to("nowhere")

    return spoil


def dead_links(kind: str, *files: str) -> dict[str, Case]:
    return {f"{kind}: {f} a dead link": Case(kind, dead_link(f), f"{f} is a link to nowhere, which") for f in files}


def no_json(kind: str, *files: str) -> dict[str, Case]:
    return {f"{kind}: {f} no JSON": Case(kind, put(f, "{x"), f"{f} isn't valid JSON: Expecting prop") for f in files}


def empty(kind: str, *files: str) -> dict[str, Case]:
    return {f"{kind}: {f} empty": Case(kind, put(f, ""), f"{f} is empty. Was the download interr") for f in files}


def overwritten(file: str, signature: bytes, behind: int, content: bytes) -> Spoil:
    """Other bytes, so many behind where a signature is met first."""

    def spoil(directory: Path) -> None:
        made = bytearray((directory / file).read_bytes())
        at = made.index(signature) + behind
        made[at : at + len(content)] = content
        (directory / file).write_bytes(made)

    return spoil


def values(file: str, **changes: Any) -> Spoil:
    def spoil(directory: Path) -> None:
        found = json.loads((directory / file).read_text())
        (directory / file).write_text(json.dumps(found | changes))

    return spoil


def change(file: str, how: Callable[[Any], Any]) -> Spoil:
    def spoil(directory: Path) -> None:
        found = json.loads((directory / file).read_text())
        how(found)
        (directory / file).write_text(json.dumps(found))

    return spoil


def header(how: Callable[[dict[str, Any]], Any], file: str = WEIGHTS) -> Spoil:
    """Changes the header of a safetensors file, and leaves its data."""

    def spoil(directory: Path) -> None:
        content = (directory / file).read_bytes()
        stop = 8 + struct.unpack("<Q", content[:8])[0]
        found = json.loads(content[8:stop])
        made = how(found)
        raw = made if isinstance(made, bytes) else json.dumps(found).encode()
        (directory / file).write_bytes(struct.pack("<Q", len(raw)) + raw + content[stop:])

    return spoil


def tensors(how: Callable[[dict[str, np.ndarray]], Any], file: str = WEIGHTS) -> Spoil:
    """Other tensors in a sound safetensors file."""

    def spoil(directory: Path) -> None:
        with safetensors.safe_open(directory / file, "np") as opened:
            remarks = opened.metadata()
        found = safetensors.numpy.load_file(directory / file)
        how(found)
        safetensors.numpy.save_file(found, directory / file, remarks)

    return spoil


def entry(name: str, **changes: Any) -> Spoil:
    return header(lambda found: found[name].update(changes))


def h5(how: Callable[[Any], Any], file: str = kerashub.WEIGHTS) -> Spoil:
    def spoil(directory: Path) -> None:
        with h5py.File(directory / file, "r+") as opened:
            how(opened)

    return spoil


def nested(opening: str, closing: str, depth: int) -> str:
    return opening * depth + closing * depth


TOUCH = f"touch {CANARY}"
CALLS = {
    "os.system": name_of("os", "system") + text(TOUCH) + b"\x85R",
    "posix.system": name_of("posix", "system") + text(TOUCH) + b"\x85R",
    "builtins.eval": name_of("builtins", "eval") + text(f"open('{CANARY}', 'w')") + b"\x85R",
    "builtins.exec": b"\x8c\x08builtins\x8c\x04exec\x93" + text(f"open('{CANARY}', 'w')") + b"\x85R",
    "subprocess.Popen": name_of("subprocess", "Popen") + text(TOUCH) + b"\x85\x81",
    "runpy.run_path": name_of("runpy", "run_path") + text("x.py") + b"\x85R",
    "builtins.getattr": name_of("builtins", "getattr") + name_of("os", "system") + text("__call__") + b"\x86R",
    "OBJ": b"(" + name_of("os", "remove") + text("config.json") + b"o",
    "INST": b"(" + text(TOUCH) + b"ios\nsystem\n",
    "EXT1": b"\x82\x01",
}


class Harmful:
    """What a pickle of Python's own makes of an object that says how it wants to be rebuilt."""

    def __reduce__(self) -> Any:
        return os.system, (TOUCH,)


def doubled(start: bytes, step: bytes, count: int = 60) -> bytes:
    """A value that holds the one before it twice, `count` times: 2^count parts in a few hundred bytes."""
    return (
        start
        + b"q\x00"
        + b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + step + b"q" + bytes([i + 1]) for i in range(count))
    )
