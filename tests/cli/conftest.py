from __future__ import annotations

from pathlib import Path

import pytest
from small_models import TEXTS


@pytest.fixture
def texts(tmp_path: Path) -> str:
    """A file of texts."""
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return str(file)


@pytest.fixture
def model(small_preset: Path) -> list[str]:
    """The option that names a small model."""
    return ["--model", str(small_preset)]
