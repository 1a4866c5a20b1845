"""All benchmarks, one after the other: their tables, and one record of every figure.

    python benchmarks/run.py --json record.json     # roberta-base's size; an hour or more on two idle cores, 20 GB
    python benchmarks/run.py --quick                # small models, two turns each: do they all work?

Each is a script of its own that can be run alone; what a script says is told at its top. One that fails doesn't keep
the others from running, but makes this end with an error.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import Machine, say, write

SCRIPTS: dict[str, tuple[list[str], list[str]]] = {  # name -> (arguments, arguments of --quick)
    "gemm": ([], ["--size", "small", "--runs", "2", "--tokens", "512"]),
    "kernels": ([], ["--size", "small", "--runs", "2", "--tokens", "1", "16"]),
    "train": ([], ["--size", "small", "--runs", "2"]),
    "inference": ([], ["--size", "small", "--runs", "2", "--calls", "3"]),
    "calm": ([], ["--rounds", "1"]),
    "score": ([], ["--texts", "40", "--runs", "2"]),
    "scaling": ([], ["--size", "small", "--runs", "2", "--most-tokens", "2048"]),
    "tokenizer": ([], ["--size", "500000", "--runs", "2"]),
    "load": ([], ["--runs", "1", "--layers", "1"]),
    "bounds": ([], ["--models", "3"]),
    "import_time": ([], ["--runs", "3"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small models and few turns")
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=[*SCRIPTS], help="some of them")
    parser.add_argument("--json", metavar="FILE", help="write the record there")
    arguments = parser.parse_args()
    record: dict[str, object] = {"machine": dataclasses.asdict(Machine.this())}
    failed = []
    for name in arguments.only:
        full, quick = SCRIPTS[name]
        options = quick if arguments.quick else full
        say(f"\n=== {' '.join([f'{name}.py', *options])}\n")
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, "record.json")
            script = Path(__file__).with_name(f"{name}.py")
            done = subprocess.run([sys.executable, str(script), *options, "--json", str(file)], check=False)
            if done.returncode:
                failed.append(name)
                say(f"{name}.py ended with code {done.returncode}")
            else:
                record[name] = json.loads(file.read_text(encoding="utf-8"))
        say(f"\n({time.perf_counter() - started:.0f} s)")
    write(arguments.json, record)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
