"""The ladders of docs/backends.md: a product of matrices and an attention, one idea a rung, with a number beside each.

    python benchmarks/ladder.py --rounds 9

Compiles benchmarks/ladder.cpp together with csrc/ for this machine (a C++ compiler is needed) and prints, for each
rung, milliseconds and GFLOP/s: the best of several rounds in which the rungs take turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

from pyroberta import _native

ROOT = Path(__file__).resolve().parent.parent
# The width of a register in bytes and the rows of a tile, as in CMakeLists.txt; and the compiler's flags.
SETS = {
    "avx512": (64, 14, ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mfma", "-mprefer-vector-width=512"]),
    "avx2": (32, 6, ["-mavx2", "-mfma"]),
    "baseline": (16, 6, []),
}
SOURCES = [
    *(
        f"kernels/{name}.cpp"
        for name in ("gemm", "tile", "pack", "feed_forward", "attention_forward", "attention_backward")
    ),
    *(f"runtime/{name}.cpp" for name in ("blas", "pages", "processors", "scratch", "threads")),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="of each rung (default: %(default)s)")
    parser.add_argument("--set", choices=SETS, default=_native.instruction_sets()[0], help="instructions to use")
    arguments = parser.parse_args()
    register, rows, flags = SETS[arguments.set]
    with tempfile.TemporaryDirectory() as directory:
        program = str(Path(directory) / "ladder")
        flags = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-Wno-psabi", "-pthread", *flags]
        defines = ["-DPYROBERTA_ISA=ladder", f"-DPYROBERTA_BYTES={register}", f"-DPYROBERTA_TILE_ROWS={rows}"]
        sources = [ROOT / "benchmarks/ladder.cpp", *(ROOT / "csrc" / name for name in SOURCES)]
        compiler = os.environ.get("CXX", "c++")
        command = [compiler, *flags, *defines, f"-I{ROOT / 'csrc'}", *map(str, sources), "-o", program]
        subprocess.run(command, check=True)
        done = subprocess.run([program, str(arguments.rounds)], check=True, capture_output=True, text=True)
    print(f"instruction set {arguments.set}; {_native.about()}\n")
    before = ""
    for line in done.stdout.splitlines():
        ladder, rung, milliseconds, rate = line.split("\t")
        if ladder != before:
            print(f"{ladder:<66}{'ms':>10}{'GFLOP/s':>10}")
        print(f"  {rung:<64}{float(milliseconds):>10.2f}{float(rate):>10.1f}")
        before = ladder


if __name__ == "__main__":
    main()
