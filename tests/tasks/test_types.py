"""What a type checker knows of the results that depend on the arguments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

USE = """
from typing import assert_type

import numpy as np
from numpy.typing import NDArray
from typing import Any

import pyroberta
from pyroberta.tasks.inference import TextScore
from pyroberta.tasks.text_classifier import Classification

masked_lm = pyroberta.MaskedLM.from_preset("roberta_tiny_en")
assert_type(masked_lm.score("a"), TextScore)
assert_type(masked_lm.score(["a"]), list[TextScore])
assert_type(masked_lm.score("a.csv", column="text"), list[TextScore])
assert_type(masked_lm.score("a.txt", per_line=False), list[TextScore])
column: str | None = None
one_or_several: str | list[str] = ["a"] if column else "a"
assert_type(masked_lm.score("a", column=column), list[TextScore] | TextScore)
assert_type(masked_lm.score(one_or_several), TextScore | list[TextScore])
assert_type(masked_lm.embed("a"), NDArray[Any])
assert_type(masked_lm.embed("a", pooling=None), NDArray[Any])
assert_type(masked_lm.embed(["a"], pooling=None), list[NDArray[Any]])
assert_type(masked_lm.embed("a.txt", pooling=None, per_line=False), list[NDArray[Any]])
classifier = pyroberta.TextClassifier.from_preset("roberta_tiny_en", num_classes=2)
assert_type(classifier.classify("a"), Classification)
assert_type(classifier.classify("a.csv", column="text"), list[Classification])
assert_type(classifier.classify("a.txt", per_line=False), list[Classification])
assert_type(classifier.classify("a", column=column), list[Classification] | Classification)
"""


@pytest.mark.slow
def test_a_type_checker_knows_one_result_from_several(tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(USE, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "use.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
