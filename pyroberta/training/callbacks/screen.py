"""Messages for the person at the screen: on stderr, and never a reason to fail."""

from __future__ import annotations

import contextlib
import sys
from typing import Any


class Screen:
    """A stream for messages. If it can't be written, such as a closed pipe, the work goes on."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream  # None if the descriptor is closed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes, if it can."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.write(text)
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


def say(line: str) -> None:
    """Prints a line on stderr."""
    print(line, file=Screen(sys.stderr), flush=True)
