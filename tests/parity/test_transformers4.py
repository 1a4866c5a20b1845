"""Directories from and for transformers 4, whose files differ from version 5's: pickles, keys of config.json, ties."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers4 import IDS, WAYS

from pyroberta.formats.directory import Directory
from pyroberta.model.batch import pack
from pyroberta.model.config import RobertaConfig
from pyroberta.model.model import model_logits
from pyroberta.model.parameters import Arrays
from pyroberta.ops import REFERENCE
from pyroberta.presets import hf, hf_writer
from pyroberta.presets.writing import Contents

ROOT = Path(__file__).resolve().parents[2]
THEIRS = ROOT / ".cache" / "transformers4"  # .ci/run puts it there
pytestmark = [pytest.mark.parity, pytest.mark.skipif(not THEIRS.is_dir(), reason="transformers 4 isn't in .cache")]


def ask(what: str, path: Path) -> None:
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests" / "support" / "transformers4.py"), what, str(path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(THEIRS)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def logits(config: RobertaConfig, params: Arrays) -> np.ndarray:
    batch = pack([row.astype(np.int32) for row in IDS])
    rows = np.arange(batch.num_tokens)
    return model_logits(REFERENCE, params, config, batch, rows).reshape(*IDS.shape, -1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("transformers4")
    ask("write", path)
    return path


@pytest.mark.parametrize("tied", ["tied", "untied"])
@pytest.mark.parametrize("way", WAYS)
def test_what_version_4_wrote_gives_its_logits(folder: Path, way: str, tied: str) -> None:
    directory = folder / f"{way}-{tied}"
    files = [path.name for path in directory.iterdir()]
    assert any(name.endswith(".bin" if "bin" in way else ".safetensors") for name in files)
    assert any(name.endswith("index.json") for name in files) == ("sharded" in way)
    config = hf.read_config(Directory(directory))
    found = logits(config, hf.read_params(Directory(directory), config, np.float64))
    np.testing.assert_allclose(found, np.load(directory / "logits.npy"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tied", ["tied", "untied"])
def test_version_4_loads_ours(folder: Path, tmp_path: Path, tied: str) -> None:
    directory = folder / f"whole-{tied}"
    config = hf.read_config(Directory(directory))
    hf_writer.write(tmp_path / "ours", Contents(config, hf.read_params(Directory(directory), config)))
    ask("read", tmp_path / "ours")
    np.testing.assert_allclose(
        np.load(tmp_path / "ours" / "logits.npy"), np.load(directory / "logits.npy"), rtol=1e-4, atol=1e-5
    )
