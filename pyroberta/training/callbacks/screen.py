"""Messages for the person at the screen: on stderr, and never a reason to fail."""

from __future__ import annotations

import contextlib
import reprlib
import sys
from typing import Any

import numpy as np

from pyroberta.formats.budget import printable


class Screen:
    """A stream for messages. If it can't be written, such as a closed pipe, the work goes on.

    What would command a terminal, but for the ends of lines, is written as `printable` writes it.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream  # None if the descriptor is closed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes, if it can."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.write(printable(text, keep="\n\r\t"))  # a bar begins its line anew
        return len(text)

    def flush(self) -> None:
        """Flushes, if it can."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and bool(self._stream.isatty())


def can_redraw() -> bool:
    """Whether a line of stderr can be overwritten: in a terminal or a notebook."""
    return "ipykernel" in sys.modules or Screen(sys.stderr).isatty()


def shown(value: Any) -> str:
    """A value of logs, short: a number with four digits, or what else a callback of a user's own logs.

    >>> shown(0.123456), shown("high")
    ('0.1235', "'high'")
    """
    try:
        return f"{value:.4g}"
    except (TypeError, ValueError):
        return " ".join(reprlib.repr(value).split())


def number_of(name: str, value: Any, reader: str) -> float:
    """A value of logs as a number.

    Raises:
        TypeError: where it is none, naming it and who reads it.

    >>> number_of("loss", 2, "EarlyStopping")
    2.0
    """
    if np.ndim(value) == 0 and not isinstance(value, str | bytes):
        with contextlib.suppress(TypeError, ValueError):
            return float(value)
    raise TypeError(f"{reader} takes numbers, and {name!r} is logged as {shown(value)}: log a number under that name")


def say(line: str) -> None:
    """Prints a line on stderr."""
    print(line, file=Screen(sys.stderr), flush=True)
