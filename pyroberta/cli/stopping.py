"""Signals while a model is trained: the first ends the training after the update under way, the second at once."""

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
    """A callback of `fit`, and a block in which signals are held until the update under way is made.

    In `fit`, the first Ctrl-C, SIGTERM or SIGHUP raises `Stopped` as soon as an update, or a batch of an evaluation, is
    done. A second one, and any one outside of training, raises it at once. A signal that is ignored stays ignored.

    Attributes:
        number: of the first signal; None as long as there was none.
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
        """From here on, a signal waits."""
        self._in_fit = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """From here on, a signal does not wait."""
        self._in_fit = False
        self._check()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Raises `Stopped` after a signal."""
        self._check()

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Raises `Stopped` after a signal."""
        self._check()
