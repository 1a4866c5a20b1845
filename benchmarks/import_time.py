"""How long `import pyroberta` takes beyond `import numpy`: the median of several fresh interpreters.

    python benchmarks/import_time.py [--runs N] [--json FILE]

The promise is less than 150 ms on an idle machine; processor time tells where it isn't idle. The slowest modules are
listed below, by their own time, as `-X importtime` has it.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

from harness import write

ROOT = Path(__file__).resolve().parents[1]
TIMED = """
import time, numpy
wall, cpu = time.perf_counter(), time.process_time()
import pyroberta
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # threads that NumPy's BLAS starts spin for a while
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=True)


def milliseconds() -> list[float]:
    """The time to import in an interpreter that has numpy already: by the clock, and of the processor alone."""
    return [1000.0 * float(seconds) for seconds in run("-c", TIMED).stdout.split()]


def slowest(count: int) -> list[tuple[float, str]]:
    """(milliseconds, module) of what the package loads beyond numpy, each module's own time alone."""
    report = run("-X", "importtime", "-c", "import numpy, sys; print('---', file=sys.stderr); import pyroberta").stderr
    lines = re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", report.split("---")[1])
    return sorted(((int(microseconds) / 1000.0, module) for microseconds, module in lines), reverse=True)[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=11, help="fresh interpreters to take the median of (default: 11)")
    parser.add_argument("--json", metavar="FILE", help="write the record there too")
    arguments = parser.parse_args()
    runs = arguments.runs
    record: dict[str, list[float]] = {}
    milliseconds()  # writes the bytecode
    for kind, times in zip(("wall", "cpu"), zip(*(milliseconds() for _ in range(runs)), strict=True), strict=True):
        record[f"{kind}_ms"] = [*times]
        median, least, most = statistics.median(times), min(times), max(times)
        print(f"import pyroberta, beyond numpy: {median:4.0f} ms {kind} (median of {runs}, {least:.0f} to {most:.0f})")
    for duration, module in slowest(8):
        print(f"{duration:8.1f} ms  {module}")
    write(arguments.json, record)


if __name__ == "__main__":
    main()
