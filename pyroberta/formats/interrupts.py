"""Blocks that an interrupt does not cut in two: updates of parameters, and files that take their names.

And Ctrl-C in the program `pyroberta` while no command runs: the package imports this module first, so that one that
comes during the imports shows no traceback.
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
    """A `with` block whose end interrupts wait for: Ctrl-C, SIGTERM and alarms that Python handles.

    Python gives signals to its main thread alone. In any other one, and for signals that no function of Python handles,
    there is nothing to do.

    >>> with uninterrupted():
    ...     pass
    """

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[[int, FrameType | None], object]] = {}
        self.came: list[tuple[int, FrameType | None]] = []

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        try:
            for number in HELD:
                handler = signal.getsignal(number)
                if callable(handler):
                    self.handlers[number] = handler
                    signal.signal(number, lambda number, frame: self.came.append((number, frame)))
        except BaseException:
            self._restore()
            raise

    def __exit__(self, *_: object) -> None:
        self._restore()
        if self.came:
            number, frame = self.came[0]
            self.handlers[number](number, frame)

    def _restore(self) -> None:
        for number, handler in reversed(self.handlers.items()):  # SIGINT's last
            signal.signal(number, handler)


def leave(number: int, frame: FrameType | None) -> None:
    """The program's handler of Ctrl-C where no command runs: nothing was begun, or all is done."""
    os._exit(INTERRUPTED)


def is_the_program() -> bool:
    """Whether this process is `pyroberta` or `python -m pyroberta`, and no other program that imports the package.

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
