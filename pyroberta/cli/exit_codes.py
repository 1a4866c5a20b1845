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
    FAILED: "a failure while it ran: no room, no memory, no connection, a package that is not installed",
    WRONG: "a wrong argument: an option, a value, a text, a file, a preset",
    DIVERGED: "a training that diverged, whose model is in OUTPUT.diverged",
    SIGNALLED + 2: "a stop by Ctrl-C",
    SIGNALLED + 15: "a stop by SIGTERM",
    SIGNALLED + 1: "a stop by the end of the terminal",
}
NOTES = (
    "For `compare` and `conformance`, 1 means a difference beyond rounding, and every error is 2.",
    "If `fit` or `classify train` is stopped, it saves what was trained so far.",
)
EXIT_CODES = " ".join(["Exit codes:", *(f"{code} means {meaning}." for code, meaning in MEANINGS.items()), *NOTES])
# Errors of the input, and warnings that PYTHONWARNINGS=error raises. All other errors are failures of the run.
WRONGLY_GIVEN = (
    *(ValueError, TypeError, Warning),
    *(FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError),
)


class UsageError(ValueError):
    """The error for a command line that is wrong by itself, whatever the files hold that it names: options that
    contradict each other or have no effect, or a value that has the wrong form. The usage is shown with it, as with an
    error of the parser.
    """


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
