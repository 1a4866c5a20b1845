"""Who may import whom. Read off the source, so that imports inside functions count too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pyroberta"

# Each room, and the rooms that it may look into besides itself.
ROOMS: dict[str, set[str]] = {
    "ops": set(),
    "backends": {"ops"},
    "formats": set(),
    "model": {"ops"},
    "text": {"formats", "model", "ops"},
    "data": {"text", "formats", "model", "ops"},
    "presets": {"text", "formats", "model", "ops"},  # a preset holds a tokenizer
    "training": {"data", "presets", "text", "formats", "model", "ops"},
    "tasks": {"training", "data", "presets", "text", "formats", "model", "backends", "ops"},
    "oracle": {"tasks", "training", "data", "presets", "text", "formats", "model", "backends", "ops"},
    "cli": {"oracle", "tasks", "training", "data", "presets", "text", "formats", "model", "backends", "ops"},
}
# The modules beside the rooms, from the lowest up. Each may look into any room but the oracle and the command line.
TOP = (
    "pyroberta._native",
    "pyroberta.optimizers.schedules",
    *(
        f"pyroberta.{name}"
        for name in ("callbacks", "layers", "losses", "metrics", "models", "optimizers", "schedules", "tokenizers")
    ),
    "pyroberta",
    "pyroberta.__main__",
)
AT_ONCE = {"numpy", "regex"}  # may be imported with the package
LATER = {
    "tqdm",
    "matplotlib",
    "tensorboardX",
    "h5py",
    "huggingface_hub",
    "kagglehub",
    "requests",
    "pyarrow",
    "zstandard",
}  # inside functions alone

PEERS = {"torch", "keras"}  # inside the functions of oracle/live alone, which are given their models

# What `import pyroberta` must not load: extras, peers, test tools, and the slow part of the standard library.
SLOW = {
    *("torch", "transformers", "tokenizers", "keras", "keras_hub", "h5py", "scipy", "pandas", "matplotlib"),
    *("tqdm", "safetensors", "pytest", "hypothesis", "argparse", "asyncio", "multiprocessing", "concurrent"),
    *("huggingface_hub", "kagglehub", "requests"),
    *("subprocess", "unittest", "doctest", "http", "ssl", "socket", "sqlite3", "xml"),
}


class Arrow(NamedTuple):
    """One import statement: `source` imports `target`, when it is loaded itself or later, in a function."""

    source: str
    target: str
    at_once: bool


def arrows_of(module: str, text: str, modules: frozenset[str] = frozenset()) -> Iterator[Arrow]:
    """The imports in a module's text. `from a import b` leads to a.b where that is one of `modules`, else to a."""

    def visit(node: ast.AST, at_once: bool) -> Iterator[Arrow]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Arrow(module, alias.name, at_once) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module} line {child.lineno}: a relative import"
                names = (f"{child.module}.{alias.name}" for alias in child.names)
                targets = (n if n in modules else str(child.module) for n in names)
                yield from (Arrow(module, target, at_once) for target in targets)
            elif not isinstance(child, ast.expr):  # which holds no statement
                is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                yield from visit(child, at_once and not is_function and not is_for_types(child))

    yield from visit(ast.parse(text), True)


def is_for_types(node: ast.AST) -> bool:
    """`if TYPE_CHECKING:`, which never runs."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def arrows() -> tuple[Arrow, ...]:
    """All imports of the package's modules."""
    texts = {name: path.read_text("utf-8") for name, path in FILES.items()}
    return tuple(arrow for name, text in texts.items() for arrow in arrows_of(name, text, frozenset(FILES)))


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else None


def is_allowed(arrow: Arrow) -> bool:
    """Whether an arrow between two modules of the package points down."""
    source, target = room(arrow.source), room(arrow.target)
    if source is None:
        above = {"oracle"} if arrow.source == "pyroberta.__main__" else {"oracle", "cli"}
        return (target is not None and target not in above) or arrow.target in TOP[: TOP.index(arrow.source)]
    if arrow.target == "pyroberta":
        return source == "cli"  # it tells the version
    if source == "ops":  # an op may be made of others; the table is made of all, and none looks at the table
        return target == "ops" and arrow.target != "pyroberta.ops"
    if arrow.target == "pyroberta._native":
        return source == "backends"
    return target == source or target in ROOMS[source]


def of_package(arrow: Arrow) -> bool:
    return arrow.target.split(".")[0] == "pyroberta"


def test_every_module_has_its_place() -> None:
    assert [name for name in FILES if room(name) is None and name not in TOP] == []


def test_arrows_point_down() -> None:
    assert len(arrows()) > 100
    assert [arrow for arrow in arrows() if of_package(arrow) and not is_allowed(arrow)] == []


@pytest.mark.parametrize(
    ("source", "statement"),
    [
        ("pyroberta.ops.gelu", "import pyroberta.model.parameters"),
        ("pyroberta.ops.gelu", "from pyroberta.ops import REFERENCE"),
        ("pyroberta.model.encoder", "def f():\n    from pyroberta.training.step import Result"),
        ("pyroberta.training.step", "from pyroberta.tasks import task"),
        ("pyroberta.formats.budget", "from pyroberta.text.tokenizer import Tokenizer"),
        ("pyroberta.model.parameters", "from pyroberta.formats.budget import shown"),
        ("pyroberta.training.step", "from pyroberta.backends import get_ops"),
        ("pyroberta.data.inputs", "from pyroberta.presets import hf"),
        ("pyroberta.text.tokenizer", "from pyroberta.presets import hf"),
        ("pyroberta.text.tokenizer", "def from_preset():\n    from pyroberta.presets.preset import open_preset"),
        ("pyroberta.text.hooks", "if TYPE_CHECKING:\n    from pyroberta.presets.preset import Preset"),
        ("pyroberta.formats.new_files", "from pyroberta.model.guard import WriteGuard"),
        ("pyroberta.presets.hf", "if TYPE_CHECKING:\n    from pyroberta.tasks.masked_lm import MaskedLM"),
        ("pyroberta.model.encoder", "import pyroberta"),
        ("pyroberta.tasks.masked_lm", "from pyroberta.cli.main import main"),
        ("pyroberta.tasks.task", "from pyroberta.oracle import check_backward"),
        ("pyroberta", "from pyroberta.oracle import check_backward"),
    ],
)
def test_an_arrow_that_points_up_is_seen(source: str, statement: str) -> None:
    (arrow,) = arrows_of(source, statement, frozenset(FILES))
    assert of_package(arrow)
    assert not is_allowed(arrow)


@pytest.mark.parametrize("op", sorted(name for name in FILES if name.startswith("pyroberta.ops.")))
def test_an_op_imports_numpy_the_standard_library_and_other_ops_alone(op: str) -> None:
    tops = {arrow.target.split(".")[0] for arrow in arrows() if arrow.source == op}
    assert tops - set(sys.stdlib_module_names) <= {"numpy", "pyroberta"}


def test_no_room_imports_itself_in_a_circle() -> None:
    at_once: dict[str, set[str]] = {name: set() for name in FILES}
    for arrow in arrows():
        if of_package(arrow) and arrow.at_once and arrow.target in FILES and arrow.target != arrow.source:
            at_once[arrow.source].add(arrow.target)
    while leaves := [name for name, targets in at_once.items() if not targets]:
        for leaf in leaves:
            del at_once[leaf]
        for targets in at_once.values():
            targets.difference_update(leaves)
    assert at_once == {}


def test_nothing_heavier_than_the_three_dependencies_is_imported_and_only_two_at_once() -> None:
    outside = [arrow for arrow in arrows() if not of_package(arrow)]
    outside = [arrow for arrow in outside if arrow.target.split(".")[0] not in sys.stdlib_module_names]
    live = [arrow for arrow in outside if arrow.source.startswith("pyroberta.oracle.live.") and not arrow.at_once]
    outside = [arrow for arrow in outside if arrow not in live or arrow.target.split(".")[0] not in PEERS]
    assert [a for a in outside if a.target.split(".")[0] not in (AT_ONCE if a.at_once else AT_ONCE | LATER)] == []


def test_importing_the_package_loads_no_extra_and_nothing_slow() -> None:
    """What numpy loads by itself doesn't count. benchmarks/import_time.py has the time."""
    code = "import sys, numpy; before = set(sys.modules); import pyroberta; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "pyroberta" in loaded
    assert loaded & SLOW == set()


def test_every_warning_names_the_line_outside_the_package() -> None:
    """A `stacklevel` that is counted by hand is wrong as soon as somebody else calls."""
    found = [
        f"{name}: {ast.unparse(keyword.value)}"
        for name, path in FILES.items()
        if room(name) != "backends"  # which look at nothing but ops
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn"
        for keyword in [*node.keywords, *([ast.keyword(None, ast.Constant(None))] if not node.keywords else [])]
        if keyword.arg in ("stacklevel", None) and ast.unparse(keyword.value) != "callers_level()"
    ]
    assert found == []
