"""A process that loads presets one after the other and tells of each what came of it, under watch.

It has a limit of memory a little above what a reader may take, and a hook that hears of everything that Python runs,
imports, opens for writing or connects to. It says so itself; a hang or a crash is seen by the one who asks.

    python tests/support/reading_worker.py   a line on stdin: how to load, and a directory; on stdout: an answer (JSON)
"""

from __future__ import annotations

import codecs
import json
import math
import os
import re
import resource
import select
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE, PATIENCE = (
    1.0,
    3e8,
)  # a preset may take a second of the processor, or the time of so many turns of an empty loop
HANG = 60.0  # seconds of the processor, or asleep, after which it is stuck
GROWTH = 1 << 30  # bytes that a preset may take
LONGEST = 1500  # letters of a message
# What a reader may say. Another subclass does not count: a UnicodeDecodeError is a ValueError, and no answer.
ANSWERS = ("ValueError", "OverBudget", "FileNotFoundError", "ImportError", "PermissionError", "OSError")
WATCHED = (
    "os.",
    "subprocess.",
    "socket.",
    "shutil.",
    "ctypes.",
    "exec",
    "compile",
    "import",
    "open",
    "pty.",
    "webbrowser.",
)
HARMLESS = {"os.listdir", "os.scandir", "os.putenv", "ctypes.get_errno", "ctypes.set_errno"}


def is_harmless(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":  # (path, mode, flags)
        return not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    return event in HARMLESS or not event.startswith(WATCHED)


def load_masked_lm(directory: Path) -> None:
    from pyroberta import MaskedLM

    MaskedLM.from_preset(directory, backend="numpy")


def load_classifier(directory: Path) -> None:
    from pyroberta import TextClassifier

    TextClassifier.from_preset(directory, backend="numpy")


def load_adapter(directory: Path) -> None:
    """PEFT's, or KerasHub's where its file is there, onto a sound model."""
    from small_presets import KERASHUB

    from pyroberta import Backbone

    file = directory / "adapter.lora.h5"
    Backbone(**asdict(KERASHUB), backend="numpy").load_lora_weights(file if os.path.lexists(file) else directory)


def load_archive(directory: Path) -> None:
    from pyroberta.models import load_model

    load_model(directory / "model.keras", backend="numpy")


def load_training(directory: Path) -> None:
    from pyroberta import MaskedLM

    MaskedLM.from_preset(directory, load_optimizer=True, backend="numpy")


LOADERS: dict[str, Callable[[Path], None]] = {
    "masked_lm": load_masked_lm,
    "classifier": load_classifier,
    "adapter": load_adapter,
    "archive": load_archive,
    "training": load_training,
}


def examine(line: str, events: list[str]) -> dict[str, Any]:
    """What loading the preset came to; `line`: how, and from where."""
    how, _, directory = line.partition(" ")
    kind = message = where = ""
    started = time.process_time()
    events.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            LOADERS[how](Path(directory))
        except BaseException as error:
            kind, message = type(error).__name__, str(error)
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.name}"
            del error
    seconds = time.process_time() - started
    turns = seconds * turns_per_second() if seconds > AT_ONCE else 0.0
    return {"kind": kind, "message": message[:2000], "where": where, "turns": turns, "events": list(events)}


def turns_per_second() -> float:
    """How fast this process runs now: a slow or a busy machine does less in a second of its processor."""
    started = time.process_time()
    for _ in range(5_000_000):
        pass
    return 5_000_000 / (time.process_time() - started)


def serve(warm_up: list[str]) -> None:
    from pyroberta.presets.fairseq_vocabulary import roberta_merges

    events: list[str] = []
    for line in warm_up:  # loads what a reader loads lazily
        examine(line, events)
    roberta_merges()  # a file of the package's own, which numbers without merges ask for
    for name in ("ascii", "latin_1", "raw_unicode_escape", "unicode_escape"):  # pickletools looks them up when met
        codecs.lookup(name)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + GROWTH + (1 << 28)  # a thread's arena takes addresses, not memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.addaudithook(lambda e, a: None if is_harmless(e, a) else events.append(f"{e} {str(a)[:200]}"))
    print("{}", flush=True)
    for line in sys.stdin:
        answer = examine(line.rstrip("\n"), events)
        print(json.dumps(answer), flush=True)


def is_well(answer: dict[str, Any], directory: Path) -> bool:
    """Whether loading came to what it may: it was read, or refused by name, in few words, at once, with nothing run.

    No file is named twice, beside what is quoted: that would be a message within a message.
    """
    path = "".join(part if part.isprintable() else repr(part)[1:-1] for part in str(directory))
    named = re.findall(f"(?<!')({re.escape(path)}[\\w./-]*)", answer["message"])
    is_named = path in answer["message"] and len(answer["message"]) < LONGEST and len(named) == len({*named})
    is_reported = answer["kind"] == "" or (answer["kind"] in ANSWERS and is_named)
    return is_reported and answer["turns"] < PATIENCE and answer["events"] == []


class Worker:
    """The other end. `warm_up`: how to load, and from where, what is sound, so that nothing is imported later."""

    def __init__(self, warm_up: list[tuple[str, Path]]) -> None:
        self.warm_up = [f"{how} {directory}" for how, directory in warm_up]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, __file__, *self.warm_up]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._line() == {}

    def _line(self) -> dict[str, Any] | None:
        assert self.process is not None
        assert self.process.stdout is not None
        stat, begun, asleep = Path(f"/proc/{self.process.pid}/stat"), None, 0.0
        while not select.select([self.process.stdout], [], [], 1.0)[0]:
            # One that waits for a processor is not stuck.
            state, *numbers = stat.read_text().rpartition(")")[2].split()
            seconds = sum(map(int, numbers[10:12])) / os.sysconf("SC_CLK_TCK")
            begun = seconds if begun is None else begun
            asleep = asleep + 1.0 if state == "S" else 0.0
            if seconds - begun > HANG or asleep > HANG:
                return None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def examine(self, how: str, directory: Path) -> dict[str, Any]:
        """The answer; `how` is one of `LOADERS`. Of a worker that hung or died, its kind is "a hang" or "a crash"."""
        if self.process is None:
            self.start()
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(f"{how} {directory}\n".encode())
        self.process.stdin.flush()
        answer = self._line()
        if answer is None:
            if self.process.poll() is None:
                self.process.kill()
            code = self.process.wait()
            self.close()
            self.process = None
            kind = "a hang" if code == -9 else "a crash"
            answer = {"kind": kind, "message": f"code {code}", "where": "", "turns": math.inf, "events": []}
        return answer

    def close(self) -> None:
        if self.process is not None and self.process.stdin is not None and self.process.stdout is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()


if __name__ == "__main__":
    serve(sys.argv[1:])
