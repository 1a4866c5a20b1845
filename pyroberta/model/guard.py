"""Who may write into a model's parameters: one at a time; and updates that an interrupt does not cut in two."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


def fork_safe_lock() -> Any:
    """A lock that a forked child finds free, whatever the other threads of its parent did.

    It is for locks that live as long as the process and are held for moments.
    """
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


_LOCK = fork_safe_lock()


class Writer(NamedTuple):
    """Who writes.

    Attributes:
        name: for messages.
        makes_room: whether other writers of the same thread may write meanwhile.
        thread: its identity.
        process: its number. The writers that a forked child inherits are not its own.
    """

    name: str
    makes_room: bool
    thread: int
    process: int


class WriteGuard:
    """Lets one writer at a time into the parameters. Readers do not ask.

    `fit` makes room for its callbacks, which run between updates.

    >>> guard = WriteGuard()
    >>> with guard.hold("changing()"), guard.hold("fit()", makes_room=True):  # doctest: +ELLIPSIS
    ...     pass
    Traceback (most recent call last):
    RuntimeError: fit() can't write into the parameters: changing() has not ended yet. One at a time may train or ...
    """

    def __init__(self) -> None:
        self._writers: list[Writer] = []  # the last one writes, the others make room for it

    @contextmanager
    def hold(self, name: str, makes_room: bool = False) -> Iterator[None]:
        """Nobody else writes within the block.

        Raises:
            RuntimeError: while somebody else writes, naming both.
        """
        me = Writer(name, makes_room, threading.get_ident(), os.getpid())
        with _LOCK:
            self._writers = [writer for writer in self._writers if writer.process == me.process]
            last = self._writers[-1] if self._writers else None
            if last and (makes_room or not last.makes_room or last.thread != me.thread):
                where = "" if last.thread == me.thread else " in another thread"
                raise RuntimeError(
                    f"{name} can't write into the parameters: {last.name} has not ended yet{where}. "
                    "One at a time may train or change a model"
                )
            self._writers.append(me)
        try:
            yield
        finally:
            with _LOCK:
                self._writers.remove(me)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """An interrupt (Ctrl-C) waits for the end of the block.

    Python gives interrupts to its main thread alone. In any other one, and where the program handles interrupts by
    other means than Python's `signal`, there is nothing to do.
    """
    handler = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if not callable(handler):  # another thread's, ignored, or not Python's
        yield
        return
    came: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[0])
