from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from small_models import small_masked_lm

# A failure found at random on a developer's machine is a gift; one found in CI by chance is a nuisance.
settings.register_profile("default", max_examples=25, deadline=None)
settings.register_profile("ci", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("few", max_examples=5, deadline=None, derandomize=True)  # .ci/sanitizers.sh
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


@pytest.fixture(scope="session")
def small_preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that holds a small model; nobody writes into it."""
    directory = tmp_path_factory.mktemp("presets") / "small"
    small_masked_lm(dtype="float32").save_to_preset(directory)
    return directory


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What loads bad presets, each in its turn; it has loaded a sound one of every kind before."""
    from bad_presets import SOUND
    from reading_worker import Worker

    directory = tmp_path_factory.mktemp("sound")
    worker = Worker([(sound.load, sound.make(directory / f"{i}")) for i, sound in enumerate(SOUND.values())])
    yield worker
    worker.close()
