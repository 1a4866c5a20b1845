"""The claims that the peers' own tests make about behaviour, and the tests here that hold this package to them.

    @claim("keras/src/callbacks/early_stopping_test.py::EarlyStoppingTest::test_early_stopping_patience")
    @pytest.mark.parametrize("patience", [0, 1, 2, 3])
    def test_training_ends_after_so_many_epochs_without_improvement(patience): ...

Each test is one claim, each row of a parametrised one another. Where the package does something else on purpose, the
claim stands in `different.DIFFERENT`, and the test of what it does instead is marked `@differs(source)`.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from different import DIFFERENT

from pyroberta.model.parameters import Arrays
from pyroberta.ops import REFERENCE
from pyroberta.tasks.backbone import Backbone
from pyroberta.tasks.text_classifier import TextClassifier
from pyroberta.text.tokenizer import Tokenizer
from pyroberta.training.optimizers import Optimizer

HERE = Path(__file__).parent
SOURCE = re.compile(r"(keras|keras_hub)/src/[\w/]+_test\.py::\w+::test_\w+|transformers/tests/[\w/]+\.py::\w+::\w+")


def claim(*sources: str) -> pytest.MarkDecorator:
    """Marks the test of a claim. `sources` are the peer's file, class and test, several where they claim the same."""
    return pytest.mark.claim(*map(_checked, sources))


def differs(source: str) -> pytest.MarkDecorator:
    """Marks the test of what the package does instead of a peer's claim, which stands in `different.DIFFERENT`."""
    return pytest.mark.differs(_checked(source))


def _checked(source: str) -> str:
    if not SOURCE.fullmatch(source):
        raise ValueError(f"{source!r} is no file, class and test of a peer")
    return source


class Marked(NamedTuple):
    """A test with its sources; `rows` is the number of its parametrised rows."""

    test: str
    sources: tuple[str, ...]
    rows: int


def marked(kind: str) -> Iterator[Marked]:
    """The tests of this directory that are marked as `kind`."""
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(path.stem)
        for name, function in _tests(module):
            markers = getattr(function, "pytestmark", [])
            rows = prod(len(list(mark.args[1])) for mark in markers if mark.name == "parametrize")
            for mark in markers:
                if mark.name == kind:
                    yield Marked(f"{path.stem}::{name}", mark.args, rows)


def _tests(module: ModuleType) -> list[tuple[str, Callable[..., Any]]]:
    found = inspect.getmembers(module, inspect.isfunction)
    return [(name, function) for name, function in found if name.startswith("test_")]


def tests_of_theirs() -> Counter[str]:
    """The number of the peers' tests that have a claim here, by file."""
    return Counter(source.partition("::")[0] for source in {each for one in marked("claim") for each in one.sources})


def counts() -> Counter[str]:
    """The number of claims that are held, by the peer's file."""
    total: Counter[str] = Counter()
    for one in marked("claim"):
        total[one.sources[0].partition("::")[0]] += one.rows
    return total


# ---------------------------------------------------------------------------------------------- the tables in the pages


DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = {"coming_from_keras.md": ("keras/", "keras_hub/"), "coming_from_huggingface.md": ("transformers/",)}
SECTION = re.compile(
    r"(?<=<!-- claims: written by scripts/count_claims\.py -->\n).*?(?=<!-- end of claims -->)", re.DOTALL
)


def table(peers: tuple[str, ...]) -> str:
    """The counts by the peer's file, and what differs."""
    held, theirs = counts(), tests_of_theirs()
    files = sorted(file for file in held if file.startswith(peers))
    rows = [f"| `{file}` | {theirs[file]} | {held[file]} |" for file in files]
    rows.append(f"| together | {sum(theirs[file] for file in files)} | {sum(held[file] for file in files)} |")
    rows_here = [one for one in DIFFERENT if one.sources[0].startswith(peers)]
    others = [f"| {one.theirs} | {one.ours} | {one.why} | {_links(one.sources)} |" for one in rows_here]
    covered = {source for one in marked("claim") for source in one.sources if source.startswith(peers)}
    every = {source for one in rows_here for source in one.sources}
    apart, whole = every - covered, len(covered - every)
    return "\n".join(
        [
            "",
            "| test file of the peer | its tests that hold here | claims tested here |",
            "|---|---|---|",
            *rows,
            "",
            f"Of the peer's {len(covered) + len(apart)} tests that apply, {whole} hold here as a whole, "
            f"{len(every & covered)} in part, and {len(apart)} do not:",
            f"{whole / (len(covered) + len(apart)):.1%} hold as a whole. tests/peers/outside.py lists those that do "
            "not apply, with the reason.",
            "",
            f"The differences, in {len(others)} rows:",
            "",
            "| the peer | here | reason | the peer's tests |",
            "|---|---|---|---|",
            *others,
            "",
            "",
        ]
    )


def _links(sources: tuple[str, ...]) -> str:
    return ", ".join(dict.fromkeys(f"`{source.rpartition('::')[2]}`" for source in sources))


def written(page: str, peers: tuple[str, ...]) -> str:
    """A page's text with the tables as they should be."""
    text = (DOCS / page).read_text(encoding="utf-8")
    if not SECTION.search(text):
        raise ValueError(f"{page} has no place for the tables of claims")
    return SECTION.sub(lambda _: table(peers), text)


# ------------------------------------------------------------------------------------------------- small things to test


def one_array(values: Any, name: str = "x", dtype: str = "float32") -> Arrays:
    """Parameters that are one array, as the variable in Keras's optimizer tests is."""
    array = np.asarray(values, dtype)
    params = Arrays({name: array.shape}, dtype)
    params[name][...] = array
    return params


def apply(optimizer: Optimizer, params: Arrays, gradient: Any) -> None:
    """One update by the same gradient for every parameter: Keras's `apply_gradients`."""
    grads = params.zeros_like()
    for array in grads.values():
        array[...] = gradient
    optimizer.apply(params, grads, list(params), REFERENCE)


def small_classifier(num_classes: int = 3, seed: int = 0, **changes: Any) -> TextClassifier:
    """A classifier of features, fresh and always the same, without dropout."""
    sizes = {"vocabulary_size": 13, "num_layers": 1, "num_heads": 2, "hidden_dim": 4, "intermediate_dim": 6}
    backbone = Backbone(**{**sizes, "max_sequence_length": 7, "dropout": 0.0, **changes}, seed=seed)
    return TextClassifier(backbone, num_classes=num_classes, seed=seed)


def features(count: int, length: int = 5, seed: int = 0) -> dict[str, Any]:
    """Preprocessed features of so many texts: `token_ids` and `padding_mask`."""
    token_ids = np.random.default_rng(seed).integers(3, 13, (count, length)).astype(np.int32)
    return {"token_ids": token_ids, "padding_mask": np.ones((count, length), bool)}


def classes(count: int, num_classes: int = 3, seed: int = 1) -> Any:
    """So many labels."""
    return np.random.default_rng(seed).integers(0, num_classes, count)


# KerasHub's tests of RoBERTa have this vocabulary. Some merges make tokens that it lacks.
VOCABULARY = {
    token: id for id, token in enumerate(("<s>", "<pad>", "</s>", "air", "Ġair", "plane", "Ġat", "port", "<mask>"))
}
MERGES = [
    *("Ġ a", "Ġ t", "Ġ i", "Ġ b", "a i", "p l", "n e", "Ġa t", "p o", "r t", "Ġt h", "ai r", "pl a", "po rt"),
    *("Ġai r", "Ġa i", "pla ne"),
]


def hub_tokenizer() -> Tokenizer:
    """The tokenizer of KerasHub's tests."""
    return Tokenizer(vocabulary=VOCABULARY, merges=MERGES)
