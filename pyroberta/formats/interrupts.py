"""Blocks that an interrupt does not cut in two: updates of parameters, and files that take their names."""

from __future__ import annotations

import signal
import threading
from typing import Any

HELD = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGALRM") if hasattr(signal, name)]


class uninterrupted:
    """A `with` block whose end interrupts wait for: Ctrl-C, SIGTERM and alarms that Python handles.

    Python gives signals to its main thread alone. In any other one, and for signals that no function of Python handles,
    there is nothing to do.

    >>> with uninterrupted():
    ...     pass
    """

    def __init__(self) -> None:
        self.handlers: dict[int, Any] = {}
        self.came: list[tuple[int, Any]] = []

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
