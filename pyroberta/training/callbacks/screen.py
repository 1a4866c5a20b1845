"""Messages on stderr for the person at the screen. A message that can't be written never ends the work."""

from __future__ import annotations

import contextlib
import reprlib
import sys
from typing import Any

import numpy as np

from pyroberta.formats.budget import printable


class Screen:
    """A stream for messages. If it can't be written, such as a closed pipe, the work continues.

    Control characters, except the ends of lines, are written as `printable` writes them.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream  # None if the descriptor is closed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes a text, if possible."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.write(printable(text, keep="\n\r\t"))  # a bar begins its line anew
        return len(text)

    def flush(self) -> None:
        """Flushes the stream, if possible."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Returns whether the stream is a terminal."""
        return self._stream is not None and bool(self._stream.isatty())


def can_redraw() -> bool:
    """Returns whether a line of stderr can be overwritten, as in a terminal or a notebook."""
    return "ipykernel" in sys.modules or Screen(sys.stderr).isatty()


def log_text(value: Any) -> str:
    """Returns a short text for a value of logs: a number with four digits, or any other value that a callback logs.

    >>> log_text(0.123456), log_text("high")
    ('0.1235', "'high'")
    """
    try:
        return f"{value:.4g}"
    except (TypeError, ValueError):
        return " ".join(reprlib.repr(value).split())


def number_of(name: str, value: Any, reader: str) -> float:
    """Returns a value of logs as a number.

    Raises:
        TypeError: if it is not one. The message has its name and its reader.

    >>> number_of("loss", 2, "EarlyStopping")
    2.0
    """
    if np.ndim(value) == 0 and not isinstance(value, str | bytes):
        with contextlib.suppress(TypeError, ValueError):
            return float(value)
    raise TypeError(
        f"{reader} takes numbers, but {name!r} is logged as {log_text(value)}: log a number under that name"
    )


def say(line: str) -> None:
    """Prints a line on stderr."""
    print(line, file=Screen(sys.stderr), flush=True)
