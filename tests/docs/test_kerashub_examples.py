"""The code of KerasHub's pages about RoBERTa runs as it stands, with `keras_hub` and `keras` imported from here.

What differs: the preset's name stands for a small one; one line that NumPy refuses is mended; and `tf` is a stand-in of
lists, since texts come in Python's and NumPy's types here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kerashub_pages import PAGES

import pyroberta
from pyroberta.presets import preset

NAME = "roberta_base_en"
# np.array has no argument `shape`.
MENDED = {"[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0], shape=(1, 12))": "[[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]])"}


class Dataset:
    """The calls of the pages on `tf.data.Dataset`, on the rows of a list or of a tuple of lists."""

    AUTOTUNE = None

    def __init__(self, rows: Iterable[Any]) -> None:
        self.rows = list(rows)

    @classmethod
    def from_tensor_slices(cls, tensors: Any) -> Dataset:
        return cls(cls._rows(tensors))

    @classmethod
    def _rows(cls, tensors: Any) -> list[Any]:
        return list(zip(*map(cls._rows, tensors), strict=True)) if isinstance(tensors, tuple) else list(tensors)

    def map(self, function: Callable[..., Any], num_parallel_calls: None) -> Dataset:
        return Dataset(function(*row) if isinstance(row, tuple) else function(row) for row in self.rows)


TF = SimpleNamespace(constant=list, data=SimpleNamespace(Dataset=Dataset, AUTOTUNE=None))


def run(code: str) -> dict[str, Any]:
    for wrong, right in MENDED.items():
        code = code.replace(wrong, right)
    names: dict[str, Any] = {"np": np, "keras_hub": pyroberta, "keras": pyroberta, "tf": TF}
    exec(code, names)
    return names


@pytest.fixture(params=["roberta_tiny_en", "a directory"])
def served(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, small_preset: Path) -> None:
    """A small preset in the place of the one that is downloaded."""
    instead = str(small_preset) if request.param == "a directory" else request.param
    built_in = preset._built_in
    monkeypatch.setattr(
        preset, "_built_in", lambda name: preset.open_preset(instead) if name == NAME else built_in(name)
    )


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("page", "number"), [(page, number) for page, codes in PAGES.items() for number in range(len(codes))]
)
def test_the_code_of_a_page_runs_as_it_stands(page: str, number: int):
    names = run(PAGES[page][number])
    for check in CHECKS.get((page, number), ()):
        assert check(names)


# What the code leaves behind.
CHECKS: dict[tuple[str, int], tuple[Callable[[dict[str, Any]], bool], ...]] = {
    ("RobertaMaskedLM", 0): (
        lambda names: names["masked_lm"].optimizer.iterations == 1,
        lambda names: "embeddings.token" not in names["masked_lm"].backbone.trainable_names(),
    ),
    ("RobertaMaskedLM", 1): (
        lambda names: names["masked_lm"].preprocessor is None,
        lambda names: names["masked_lm"].predict(names["features"], verbose=0).shape[:2] == (2, 2),
    ),
    ("RobertaTokenizer", 0): (
        lambda names: names["tokenizer"].detokenize(names["tokenizer"]("a quick fox")) == "a quick fox",
        lambda names: (
            [list(ids) for ids in names["tokenizer"](["a quick fox", "a fox quick"])] == [[4, 5, 6], [4, 6, 5]]
        ),
    ),
    ("RobertaMaskedLMPreprocessor", 1): (
        lambda names: len(names["ds"].rows) == 2,
        lambda names: set(names["ds"].rows[0][0]) == {"token_ids", "padding_mask", "mask_positions"},
    ),
    ("RobertaBackbone", 0): (
        lambda names: names["model"](names["input_data"]).shape == (1, 12, 256),
        lambda names: names["model"].max_sequence_length == 128,
    ),
    ("RobertaTextClassifier", 0): (
        lambda names: names["classifier"].optimizer.iterations == 1,
        lambda names: names["classifier"].predict(names["features"], verbose=0).shape == (2, 4),
    ),
    ("RobertaTextClassifier", 1): (lambda names: names["classifier"].preprocessor is None,),
    ("RobertaTextClassifier", 2): (
        lambda names: names["classifier"].predict(names["features"], verbose=0).shape == (2, 4),
        lambda names: names["classifier"].optimizer.iterations == 1,
    ),
    ("RobertaTextClassifierPreprocessor", 0): (
        lambda names: names["preprocessor"]("a quick fox")["token_ids"][:5].tolist() == [0, 4, 5, 6, 2],
    ),
    ("RobertaTextClassifierPreprocessor", 1): (lambda names: len(names["ds"].rows) == 2,),
}


@pytest.mark.parity
def test_the_pages_are_those_of_the_living_kerashub():
    import inspect
    import re

    import keras_hub

    for page, codes in PAGES.items():
        text = inspect.getdoc(getattr(keras_hub.models, page))
        assert tuple(re.findall(r"```python\n(.*?)```", text or "", re.DOTALL)) == codes
