"""`import pyroberta` brings little: what it leaves for later is told here, how long it takes in benchmarks/."""

from __future__ import annotations

import ast
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pyroberta

LISTED = """
import json, sys, numpy
before = set(sys.modules)
import pyroberta
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def imported() -> set[str]:
    """The modules that come with the package, in a fresh interpreter that has numpy already."""
    done = subprocess.run([sys.executable, "-c", LISTED], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_regex_alone_comes_with_the_package() -> None:
    top = {name.partition(".")[0] for name in imported()}
    assert top - {"pyroberta"} - set(sys.stdlib_module_names) <= {"regex", "numpy"}


def test_what_a_program_may_never_need_comes_when_it_does() -> None:
    found = imported()
    assert not {name for name in found if name.startswith("numpy.random")}
    assert {name for name in found if name.startswith("pyroberta.presets.")} == {
        "pyroberta.presets.built_in",
        "pyroberta.presets.checks",
        "pyroberta.presets.detect",
        "pyroberta.presets.preset",
    }
    rooms = ("pyroberta.oracle", "pyroberta.cli", "pyroberta.text.bpe_training")
    assert not {name for name in found if name.startswith(rooms)}


@pytest.mark.parametrize(
    "statement",
    [
        "from pyroberta.text.tokenizer import Tokenizer as kind",
        "from pyroberta.text.preprocessor import MaskedLMPreprocessor as kind",
        "from pyroberta.text.classifier_preprocessor import TextClassifierPreprocessor as kind",
    ],
)
def test_a_module_of_text_that_is_imported_alone_opens_presets(statement: str) -> None:
    code = f"{statement}; print(type(kind.from_preset('roberta_tiny_en')).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == statement.split()[3]


@pytest.mark.parametrize("name", ["callbacks", "losses", "metrics", "optimizers", "schedules"])
def test_what_keras_has_as_modules_are_modules_here(name: str) -> None:
    """`from pyroberta.callbacks import EarlyStopping` is what people type."""
    module = importlib.import_module(f"pyroberta.{name}")
    assert module is getattr(pyroberta, name)
    theirs = importlib.import_module(f"pyroberta.training.{name}")
    assert {public: getattr(module, public) for public in theirs.__all__} == {
        public: getattr(theirs, public) for public in theirs.__all__
    }


ORACLE = """
from pyroberta.oracle.trace import trace_updates  # the module first: its name is the function's all the same
from pyroberta import oracle
from pyroberta.oracle.compare import Finding
from pyroberta.oracle.trace import Tracer
print(*(f"{name}={type(getattr(oracle, name)).__name__}" for name in sorted(oracle.__all__)))
"""


def test_what_the_oracle_gives_are_functions_although_modules_have_the_same_names() -> None:
    done = subprocess.run([sys.executable, "-c", ORACLE], capture_output=True, text=True, check=True)
    kinds = dict(one.split("=") for one in done.stdout.split())
    types = dict.fromkeys(("LiveReport", "TraceFile"), "type")
    checks = ("check_backward", "check_callable", "check_keras", "check_transformers")
    assert kinds == {**types, **dict.fromkeys((*checks, "compare", "read_trace", "trace"), "function")}


def test_in_a_tree_that_was_never_built_numpy_takes_over_with_a_warning(tmp_path: Path) -> None:
    """As where Python is started in a clone's root and the package is installed elsewhere."""
    root = Path(__file__).parents[2]
    (tmp_path / "CMakeLists.txt").touch()
    copy = tmp_path / "pyroberta"
    shutil.copytree(root / "pyroberta", copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    code = "import pyroberta; print(pyroberta.MaskedLM.from_preset('roberta_tiny_en').backbone.ops.name)"
    packages = [place for place in sys.path if "site-packages" in place]
    program = f"import sys; sys.path[1:1] = {packages!r}; {code}"  # without the editable installation's finder
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "numpy"
    assert "imported from its source tree" in done.stderr
    assert str(tmp_path) in done.stderr


def test_test_modules_import_at_once_only_what_the_extra_test_brings() -> None:
    folder = Path(__file__).resolve().parents[1]
    files = [file for file in folder.rglob("*.py") if not {"parity", "golden"} & set(file.parts)]
    known = {*sys.stdlib_module_names, *(file.stem for file in files), *(file.parent.name for file in files)}
    known |= {"pyroberta", "numpy", "pytest", "hypothesis", "safetensors", "zstandard", "h5py"}
    wrong = []
    for file in files:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            wrong += [f"{file.name}: {name}" for name in names if name.partition(".")[0] not in known]
    assert not wrong, "tests import these packages inside functions, with the mark parity"
