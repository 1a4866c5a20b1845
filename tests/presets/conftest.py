from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_hub import Hub


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub() as started:
        yield started


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the hubs' clients keep what they have."""
    return tmp_path_factory.mktemp("home")
