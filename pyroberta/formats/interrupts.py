"""Blocks that an interrupt does not cut in two: updates of parameters, and renaming of files.

The module also handles Ctrl-C in the program `pyroberta` while no command runs. The package imports it first, so that
Ctrl-C during the imports shows no traceback.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT  # the program's exit code
HELD = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGALRM") if hasattr(signal, name)]


class uninterrupted:
    """A `with` block that delays interrupts until it ends: Ctrl-C, SIGTERM and alarms that Python handles.

    A signal that came several times is delivered once, as the system does.

    Python delivers signals to its main thread only. In other threads, and for signals that no Python function handles,
    the block does nothing.

    >>> with uninterrupted():
    ...     pass
    """

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[[int, FrameType | None], object]] = {}
        self.came: dict[int, FrameType | None] = {}  # in the order in which they came

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        try:
            for number in HELD:
                handler = signal.getsignal(number)
                if callable(handler):
                    self.handlers[number] = handler
                    signal.signal(number, lambda number, frame: self.came.setdefault(number, frame))
        except BaseException:
            self._restore()
            raise

    def __exit__(self, *_: object) -> None:
        self._restore()
        self._deliver()

    def _deliver(self) -> None:
        """Calls the handler of each signal, even if that of one before raises."""
        if not self.came:
            return
        number = next(iter(self.came))
        frame = self.came.pop(number)
        try:
            self.handlers[number](number, frame)
        finally:
            self._deliver()

    def _restore(self) -> None:
        for number, handler in reversed(self.handlers.items()):  # SIGINT's last
            signal.signal(number, handler)


def leave(number: int, frame: FrameType | None) -> None:
    """Handles Ctrl-C while no command of the program runs. It ends the program, since no work is lost."""
    os._exit(INTERRUPTED)


def is_the_program() -> bool:
    """Returns whether this process is `pyroberta` or `python -m pyroberta`, and not another program that imports the
    package.

    >>> is_the_program()
    False
    """
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    if name == "-m":  # as long as Python looks for the module
        return ("-m", "pyroberta") in itertools.pairwise(sys.orig_argv)
    return os.path.splitext(name)[0] == "pyroberta"


if (
    is_the_program()
    and threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not ignored, and nobody else's
):
    signal.signal(signal.SIGINT, leave)  # until `cli.exit_codes.stoppable`
