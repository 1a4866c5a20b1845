"""`import pyroberta` is quick: a promise of time, and of what is not imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

TIMED = """
import sys, time, numpy
clock = time.process_time()
import pyroberta
print(time.process_time() - clock)
assert not {"torch", "transformers", "tokenizers", "matplotlib", "tqdm"} & set(sys.modules)
"""


def seconds() -> float:
    """What the import takes of the processor, in a fresh interpreter that has numpy already.

    On an idle machine that is the time by the clock, as `benchmarks/import_time.py` shows; on another one less.
    """
    done = subprocess.run([sys.executable, "-c", TIMED], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_the_import_brings_no_extra_and_no_bar():
    seconds()


@pytest.mark.slow
def test_the_import_takes_less_than_150_ms_beyond_numpy():
    seconds()  # writes the bytecode
    assert min(seconds() for _ in range(20)) < 0.150  # the least: other work on the machine only adds to it
