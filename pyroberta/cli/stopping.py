"""Signals while a model is trained. The first ends the training after the current update, the second ends it
at once.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

from pyroberta.cli.exit_codes import Stopped
from pyroberta.training.callbacks import Callback, Screen
from pyroberta.training.callbacks.base import Logs

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopping(Callback):
    """A callback of `fit`, and a `with` block in which a signal waits until the current update is complete.

    In `fit`, the first Ctrl-C, SIGTERM or SIGHUP raises `Stopped` as soon as the current update, or the current batch
    of an evaluation, is complete. A second signal, and any signal outside of training, raises it at once. A signal that
    is ignored stays ignored.

    Attributes:
        number: the number of the first signal. None before it.
        leaves_at_once: whether there was a second one.

    >>> with Stopping() as stopping:
    ...     stopping.number is None
    True
    """

    def __init__(self) -> None:
        super().__init__()
        self.number: int | None = None
        self.leaves_at_once = False
        self._before: dict[int, Any] = {}
        self._in_fit = False

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                    signal.signal(number, self._came)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _came(self, number: int, frame: Any) -> None:
        self.leaves_at_once = self.number is not None
        if self.leaves_at_once or not self._in_fit:
            raise Stopped(number)
        self.number = number
        screen = Screen(sys.stderr)
        beginning = "\n" if screen.isatty() else ""  # a bar stands on the line
        screen.write(
            f"{beginning}pyroberta: stopping after this update, then saving (once more: at once, without saving)\n"
        )
        screen.flush()

    def _check(self) -> None:
        if self.number is not None:
            raise Stopped(self.number)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Makes signals wait from now on."""
        self._in_fit = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Makes signals take effect at once from now on."""
        self._in_fit = False
        self._check()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Raises `Stopped` if a signal came."""
        self._check()

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Raises `Stopped` if a signal came."""
        self._check()
