"""The program's exit codes, and the signals that end it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from pyroberta.formats.interrupts import leave

OK, FAILED, WRONG, DIVERGED, SIGNALLED = 0, 1, 2, 3, 128  # argparse exits with 2, too; a signal's number is added
MEANINGS = {
    OK: "done",
    FAILED: (
        "failed while it ran (no room, no memory, no connection, a package that is not installed), or `compare` or "
        "`conformance` found something beyond rounding, whose errors are all 2"
    ),
    WRONG: "what was given is wrong (an option, a value, a text, a file, a preset)",
    DIVERGED: "the training diverged, and what it gave is in OUTPUT.diverged",
    SIGNALLED + 2: "stopped by Ctrl-C; `fit` and `classify train` save what was trained so far, as by the next two",
    SIGNALLED + 15: "stopped by SIGTERM",
    SIGNALLED + 1: "stopped by a terminal's end",
}
EXIT_CODES = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in MEANINGS.items()) + "."
# Errors of the input. All other errors are failures of the run.
WRONGLY_GIVEN = (ValueError, TypeError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)


class Stopped(KeyboardInterrupt):
    """Raised if a signal asks the program to end."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = number


def code_of_error(error: Exception) -> int:
    """Returns the exit code for an error that ended a command."""
    return WRONG if isinstance(error, WRONGLY_GIVEN) else FAILED


def code_of_stop(stop: KeyboardInterrupt) -> int:
    """Returns the exit code for a command that Ctrl-C or a signal ended."""
    return SIGNALLED + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """A `with` block in which SIGTERM and SIGHUP (of a closed terminal) end the program as Ctrl-C does. No half-written
    file is left.

    An existing handler stays, and so does the setting of `nohup`. Before and after the block, `leave` handles Ctrl-C.
    """
    is_main = threading.current_thread() is threading.main_thread()
    ending = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in (*ending, signal.SIGINT)}
    ours = [number for number in ending if is_main and before[number] is signal.SIG_DFL]

    def stop(number: int, frame: Any) -> None:
        raise Stopped(number)

    for number in ours:
        signal.signal(number, stop)
    if is_main and before[signal.SIGINT] is leave:
        ours.append(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
