"""What the benchmarks share: a process for each side, turns between them, the tables and the record.

Each side (a library, or a backend of ours) lives in a process of its own, so that neither its threads, nor its memory,
nor its allocator meet those of another. One computes while the others wait; a pool of threads that still spins after
its call gets `PAUSE` seconds to fall asleep before the next one starts.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PAUSE = 0.15  # OpenBLAS's threads go on for 0.1 s, OpenMP's, torch's and JAX's for some milliseconds


# --- processes --------------------------------------------------------------------------------------------------------


class WorkerError(Exception):
    """A side failed; the message is the last line of what it said."""


def serve(connection: Connection, kind: Callable[..., Any], *arguments: Any) -> None:
    """The worker's life: makes its object, then answers each (method, arguments) with (result, error, seconds)."""
    worker: Any = None

    def answer(method: str, *arguments: Any) -> Any:
        nonlocal worker
        if method == "make":
            worker = kind(*arguments)
            return None
        if method == "peak":
            return peak_megabytes()
        return getattr(worker, method)(*arguments)

    call: tuple[Any, ...] | None = ("make", *arguments)
    while call is not None:
        result, error = None, ""
        started = time.perf_counter()
        try:
            result = answer(*call)
        except Exception as problem:
            traceback.print_exc()
            lines = str(problem).strip().splitlines()
            error = f"{type(problem).__name__}: {lines[0] if lines else ''}"
        connection.send((result, error, time.perf_counter() - started))
        call = connection.recv()


class Worker:
    """The parent's end: a process, and calls to it that wait for the answer.

    `with Worker(Kind, *arguments) as worker:` makes `Kind(*arguments)` there. The number of threads is what
    `limit_threads` last said.
    """

    def __init__(self, kind: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, kind, *arguments), daemon=True)
        self.process.start()
        theirs.close()  # so that a worker that dies is an EOFError here, not a wait without end
        self._answer()

    def _answer(self) -> tuple[Any, float]:
        try:
            result, error, seconds = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            raise WorkerError(f"the process ended with code {self.process.exitcode} (-9: out of memory)") from None
        if error:
            raise WorkerError(error)
        return result, seconds

    def timed(self, method: str, *arguments: Any) -> tuple[Any, float]:
        """What the method returns, and the seconds that it took over there."""
        time.sleep(PAUSE)
        try:
            self.connection.send((method, *arguments))
        except ConnectionError:
            raise WorkerError("the process is gone") from None
        return self._answer()

    def call(self, method: str, *arguments: Any) -> Any:
        return self.timed(method, *arguments)[0]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.connection.send(None)
        except ConnectionError:
            return
        self.process.join()


def peak_megabytes() -> float:
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss, which on Linux also remembers the process that this one was started from.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def limit_threads(count: int) -> None:
    """Gives every library in workers started from now on so many threads. They read this when they are loaded."""
    for library in ("OMP", "OPENBLAS", "MKL", "PYROBERTA"):
        os.environ[f"{library}_NUM_THREADS"] = str(count)
    os.environ["NPROC"] = str(count)  # JAX
    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'false' if count == 1 else 'true'}"
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # torch.compile compiles in its process and keeps no helpers
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # JAX's and Keras's chatter


def take_turns(
    workers: Mapping[str, Worker], turns: int, method: str, *arguments: Any, after: Callable[[], None] | None = None
) -> dict[str, list[float]]:
    """Calls the method of one worker after the other, `turns` times over; every call's seconds, by worker.

    after: is called when a turn is over.
    """
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(turns):
        for name, worker in workers.items():
            seconds[name].append(worker.timed(method, *arguments)[1])
        if after:
            after()
    return seconds


# --- who takes part ---------------------------------------------------------------------------------------------------

BACKENDS = {"numpy": ("numpy",), "native": ("native",), "both": ("numpy", "native")}


def our_backends(choice: str) -> list[str]:
    """The backends to run: `choice` is a key of BACKENDS. One that is not there is left out of "both", aloud."""
    from pyroberta.backends import backends

    reasons = {name: reason for name, is_available, reason in backends() if not is_available}
    available = [name for name in BACKENDS[choice] if name not in reasons]
    for name in BACKENDS[choice]:
        if name in reasons:
            say(f"left out: pyroberta's {name} backend ({reasons[name]})")
    if not available:
        raise SystemExit("none of pyroberta's backends that were asked for is there")
    return available


def installed(peers: Iterable[str], needs: Mapping[str, Sequence[str]]) -> list[str]:
    """The peers whose modules are there; says which are left out, and what for."""
    available = []
    for peer in peers:
        missing = [module for module in needs[peer] if importlib.util.find_spec(module) is None]
        if missing:
            say(f"left out: {peer} (not installed: {', '.join(missing)}; see benchmarks/README.md)")
        else:
            available.append(peer)
    return available


# --- figures ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """What the figures were measured on."""

    date: str
    cpu: str
    cores: int | None
    python: str
    load: float | None

    @classmethod
    def this(cls) -> Machine:
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        return cls(time.strftime("%Y-%m-%d"), processor(), os.cpu_count(), platform.python_version(), load)

    def __str__(self) -> str:
        load = "" if self.load is None else f", load before this run {self.load:.1f}"
        return f"{self.cpu}, {self.cores} cores, Python {self.python}; {self.date}{load}"


def processor() -> str:
    """The CPU's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def median(values: Iterable[float]) -> float:
    return statistics.median(list(values))


def span(seconds: Sequence[float]) -> str:
    """From the least to the most."""
    return f"{min(seconds):.3g} to {max(seconds):.3g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns under their heads: the first one flush left, the others flush right. "" where there is no figure."""
    rows = [[*row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    return "\n".join(map(line, [head, *rows]))


def say(line: str = "") -> None:
    print(line, flush=True)


def positive(text: str) -> int:
    """An argument's whole number, at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def parser(about: str, **defaults: int) -> argparse.ArgumentParser:
    """With the arguments that the scripts share. about: the module's docstring; defaults: of `runs` and `threads`."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    if "runs" in defaults:
        made.add_argument("--runs", type=positive, help="timed turns of each side (default: %(default)s)")
    if "threads" in defaults:
        made.add_argument("--threads", type=positive, help="of each library (default: %(default)s)")
    made.add_argument("--json", metavar="FILE", help="write the record there too, every single time included")
    made.set_defaults(**defaults)
    return made


def write(file: str | None, record: Mapping[str, Any]) -> None:
    if file:
        Path(file).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
