"""`import pyroberta` brings little: what it leaves for later is told here, how long it takes in benchmarks/."""

from __future__ import annotations

import json
import subprocess
import sys

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
        "pyroberta.presets.marks",
        "pyroberta.presets.registry",
    }
    rooms = ("pyroberta.oracle", "pyroberta.cli", "pyroberta.demo", "pyroberta.text.bpe_training")
    assert not {name for name in found if name.startswith(rooms)}
