"""Presets that must not be read: each is a sound one, spoilt in one way. `CASES` has them by name.

A module here is about a format, or about what is read beside a model. To add one, write a module with `SOUND`, the
makers of its sound presets and how each is loaded, and `CASES`, and add it to `MODULES`.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from bad_presets import adapters, archives, classifiers, fairseq_files, hf, kerashub_files, torch_files, training

MODULES = (hf, torch_files, kerashub_files, fairseq_files, classifiers, adapters, archives, training)
SOUND = {kind: sound for module in MODULES for kind, sound in module.SOUND.items()}
CASES = {name: case for module in MODULES for name, case in module.CASES.items()}
assert len(CASES) == sum(len(module.CASES) for module in MODULES), "two cases have one name"


def make(name: str, directory: Path) -> Path:
    """The bad preset of that name, in `directory`, which is made."""
    case = CASES[name]
    case.spoil(make_sound(case.kind, directory))
    return directory


def make_sound(kind: str, directory: Path) -> Path:
    """The sound preset of that kind, in `directory`, which is made."""
    return Path(shutil.copytree(_sound(kind), directory))


@cache
def _sound(kind: str) -> Path:
    """The one that is copied."""
    return SOUND[kind].make(Path(_FOLDER.name) / kind)


_FOLDER = tempfile.TemporaryDirectory(prefix="sound-presets-")  # gone when Python ends
