"""How much slower the embedded preset gets on a machine that others use: beside busy loops, and beside itself.

    python benchmarks/calm.py
    python benchmarks/calm.py --backend native-blas --rounds 3
    python benchmarks/calm.py --python old/.venv/bin/python     # another installation too, in turns with this one

A round runs `fit` (96 paragraphs, 3 updates), `score` (40 short texts) and `fill_mask` (20 calls) in a fresh process,
first alone, then beside one busy loop per processor, which leaves half of the machine: 2 is a fair share. Then three
processes fit at once: 3 is what the work itself takes. The stall of a call of one op in `fit` is its time beside the
busy loops, less its fair share, which is twice the median time of the same call when idle; the longest of all calls is
told. A loop that only looks at the clock, beside the busy loops too, tells how long the system alone keeps a thread
waiting.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import Machine, median, parser, say, table, write

RUN = """
import json, sys, time
import pyroberta
from pyroberta.data import speeches
backend, calls = sys.argv[1], []

def timed(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started

def noting(name, op):
    def call(*arguments):
        started = time.perf_counter()
        try:
            return op(*arguments)
        finally:
            calls.append([name, time.perf_counter() - started])
    return call

model = pyroberta.MaskedLM.from_preset("roberta_tiny_en", backend=backend)
texts = list(speeches())[:96]
short = ["The cats annoy Tim and the boys leave the house today."] * 40
model.fit(texts[:32], verbose=0)
model.score(short[:3])
times = {
    "fit": timed(lambda: model.fit(texts, batch_size=32, verbose=0)),
    "score": timed(lambda: model.score(short)),
    "fill_mask": timed(lambda: [model.fill_mask("He is a <mask>.") for _ in range(20)]),
}
model.backbone.ops = model.backbone.ops.wrapped(noting)
model.fit(texts, batch_size=32, verbose=0)
longest, now, end = 0.0, time.perf_counter(), time.perf_counter() + 1.0
while now < end:
    before, now = now, time.perf_counter()
    longest = max(longest, now - before)
print(json.dumps({"times": times, "calls": calls, "kept_off": longest}))
"""

FITS = """
import sys, time
import pyroberta
from pyroberta.data import speeches
model = pyroberta.MaskedLM.from_preset("roberta_tiny_en", backend=sys.argv[1])
texts = list(speeches())[:96] * 3
model.fit(texts[:32], verbose=0)
print("ready", flush=True)
input()
started = time.perf_counter()
model.fit(texts, batch_size=32, verbose=0)
print(time.perf_counter() - started)
"""

BUSY = "while True: pass"
ELSEWHERE = Path(__file__).parent  # where `import pyroberta` finds what is installed, not a checkout
CALLS = ("fit", "score", "fill_mask")


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """So many processes that never wait."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def run(python: str, backend: str) -> dict[str, Any]:
    done = subprocess.run([python, "-c", RUN, backend], stdout=subprocess.PIPE, text=True, check=True, cwd=ELSEWHERE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def fits_at_once(python: str, backend: str, count: int) -> float:
    """The seconds of the slowest of so many fits that begin together."""
    command = [python, "-c", FITS, backend]
    pipe = subprocess.PIPE
    fits = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ELSEWHERE) for _ in range(count)]
    for fit in fits:
        assert fit.stdout is not None
        if fit.stdout.readline() != "ready\n":
            raise SystemExit("a fit ended before it began; see above")
    for fit in fits:
        assert fit.stdin is not None
        fit.stdin.write("\n")
        fit.stdin.flush()
    return max(float(fit.communicate()[0]) for fit in fits)


def longest_stall(idle: list[dict[str, Any]], busy: list[dict[str, Any]]) -> tuple[float, str]:
    """The seconds, and the op. A fit makes the same calls each time."""
    usual = [median(found["calls"][i][1] for found in idle) for i in range(len(idle[0]["calls"]))]
    return max((seconds - 2 * usual[i], name) for found in busy for i, (name, seconds) in enumerate(found["calls"]))


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--rounds", type=int, default=5, help="of each installation (default: %(default)s)")
    arguments.add_argument("--backend", default="auto", help="as for from_preset (default: %(default)s)")
    arguments.add_argument("--python", action="append", default=[], help="of another installation, to compare with")
    options = arguments.parse_args()
    machine, processors = Machine.this(), len(os.sched_getaffinity(0))
    say(f"{machine}\nbackend {options.backend}, {processors} busy loops, medians of {options.rounds} rounds\n")
    pythons = [sys.executable, *options.python]
    idle, busy, one, three = ({python: [] for python in pythons} for _ in range(4))
    for _ in range(options.rounds):
        for python in pythons:
            idle[python].append(run(python, options.backend))
            with busy_loops(processors):
                busy[python].append(run(python, options.backend))
            one[python].append(fits_at_once(python, options.backend, 1))
            three[python].append(fits_at_once(python, options.backend, 3))
    for python in pythons:
        rows = []
        for call in CALLS:
            alone, beside = (median(found["times"][call] for found in runs[python]) for runs in (idle, busy))
            rows.append([call, f"{alone:.3f}", f"{beside:.3f}", f"{beside / alone:.2f}"])
        alone, beside = median(one[python]), median(three[python])
        rows.append(["three fits at once", f"{alone:.3f}", f"{beside:.3f}", f"{beside / alone:.2f}"])
        say(python)
        say(table(["", "idle, s", "busy, s", "ratio"], rows))
        seconds, name = longest_stall(idle[python], busy[python])
        kept_off = max(found["kept_off"] for found in busy[python])
        say(f"longest stall of an op: {1e3 * seconds:.1f} ms, in {name}")
        say(f"longest stall of a loop without ops: {1e3 * kept_off:.1f} ms\n")
    record = {"idle": idle, "busy": busy, "one": one, "three": three, "backend": options.backend}
    write(options.json, {"machine": dataclasses.asdict(machine), **record})


if __name__ == "__main__":
    main()
