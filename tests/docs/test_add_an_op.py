"""The example of CONTRIBUTING.md: its blocks fit the tree, and the op that they add passes its tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from native_extension import needs_native
from pages import ROOT, blocks

TESTS = ("tests/ops", "tests/oracle", "tests/docs", "tests/native")
OTHERS = ("what_computes_each_row", "the_rows_have_the_same_names", "about_how_many_cases")  # of all ops at once


def changes() -> list[tuple[str, list[tuple[str, str]]]]:
    """Of each file that the example names: what stands there, and what takes its place."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Add an op: an example\n")[2]
    found = []
    for block in blocks(page):
        if block.tag == "diff":
            for part in block.text.removeprefix("+++ ").split("\n+++ "):
                file, _, lines = part.rstrip("\n").partition("\n")
                found.append((file, [hunk(some) for some in lines.split("\n@@\n")]))
    return found


def hunk(text: str) -> tuple[str, str]:
    lines = text.split("\n")
    assert {line[:1] for line in lines} <= set(" +-"), f"a line of a diff begins with ' ', '+' or '-':\n{text}"
    before, after = (["", *(line[1:] for line in lines if line[0] in signs), ""] for signs in (" -", " +"))
    return "\n".join(before), "\n".join(after)


def apply(root: Path) -> None:
    """Makes the changes. An error names the file that has not, once, the lines that the page shows."""
    for file, hunks in changes():
        path = root / file
        for before, after in hunks:
            if not before.strip("\n"):
                assert not path.exists(), f"CONTRIBUTING.md makes {file}, which is there"
                path.write_text(after[1:], encoding="utf-8")
                continue
            text = "\n" + path.read_text(encoding="utf-8")
            times = text.count(before)
            assert times == 1, f"CONTRIBUTING.md shows lines that stand in {file} {times} times, not once:{before}"
            path.write_text(text.replace(before, after)[1:], encoding="utf-8")


def copy_of_the_tree(to: Path) -> Path:
    """A copy without what is built, hidden or cached."""
    return shutil.copytree(ROOT, to, ignore=shutil.ignore_patterns(".*", "build", "dist", "__pycache__", "_native*"))


def run(command: list[str], at: Path, **environment: str) -> str:
    """What a command prints; its end, if it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SKBUILD_", "PYTEST_"))}
    done = subprocess.run(command, cwd=at, env=kept | environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-12000:]}"
    return done.stdout


def test_the_blocks_fit_the_tree(tmp_path: Path) -> None:
    for file, _ in changes():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / file).exists():
            shutil.copy2(ROOT / file, tmp_path / file)
    apply(tmp_path)
    assert len(changes()) > 10


@needs_native
@pytest.mark.slow
def test_the_op_of_the_example_passes_its_tests_in_numpy_and_in_cpp(tmp_path: Path) -> None:
    tree, built = copy_of_the_tree(tmp_path / "tree"), tmp_path / "built"
    apply(tree)
    # with this setting C++ that does not compile is an error, and no wheel without the extension
    pip = [sys.executable, "-m", "pip", "install", "-v", "-C", "wheel.cmake=true", "--no-deps", "--target", str(built)]
    run([*pip, str(tree)], tmp_path)
    (extension,) = (built / "pyroberta").glob("_native*")
    shutil.copy2(extension, tree / "pyroberta")
    # an editable install of this tree comes before any path
    finders = "[finder for finder in sys.meta_path if 'editable' not in type(finder).__module__]"
    (tree / "sitecustomize.py").write_text(f"import sys\n\nsys.meta_path[:] = {finders}\n")
    words = ["silu", *OTHERS]
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-rs", "-p", "no:cacheprovider", *TESTS]
    if importlib.util.find_spec("torch"):
        words.append("torch_is_within_the_bounds")
        command += ["-m", "not slow", "tests/parity/test_conformance.py"]
    tail = run([*command, "-k", " or ".join(words)], tree, PYTHONPATH=str(tree)).splitlines()[-1]
    assert "skipped" not in tail, tail
    assert int(tail.split(" passed")[0]) >= 30, tail
