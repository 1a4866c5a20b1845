"""Input that comes piece by piece, as from a pipe."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable


class Pieces(io.RawIOBase):
    """A stream of bytes. Each reading gives one piece. `before` is called before each piece, with its number."""

    def __init__(self, pieces: Iterable[bytes], before: Callable[[int], None] = lambda number: None) -> None:
        super().__init__()
        self._pieces, self._before, self.given = list(pieces), before, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        if self.given == len(self._pieces):
            return 0
        self._before(self.given)
        piece = self._pieces[self.given]
        self.given += 1
        buffer[: len(piece)] = piece
        return len(piece)


def as_stdin(raw: io.RawIOBase) -> io.TextIOWrapper:
    """What `sys.stdin` is when the pieces are standard input."""
    return io.TextIOWrapper(io.BufferedReader(raw), encoding="ascii")
