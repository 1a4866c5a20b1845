"""The guard that lets one writer at a time change a model's parameters."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Collection
from typing import NamedTuple


def _wait_for_imports() -> None:
    """Waits until what other threads import is imported.

    Each module has a lock while it is imported. A forked child would find the lock held by a thread that it does not
    have, and would wait for ever when it imports that module. Many modules are imported when they are first needed.
    """
    locks = getattr(sys.modules.get("_frozen_importlib"), "_module_locks", {})  # by the module's name
    for name in list(locks):
        with contextlib.suppress(Exception):  # it is the other thread's to raise
            importlib.import_module(name)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_imports)


def fork_safe_lock() -> threading.Lock:
    """Returns a lock that is free in a forked child, even if a thread of the parent held it at the fork.

    Use it for a lock that exists as long as the process and is held only briefly.
    """
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


_LOCK = fork_safe_lock()


class Writer(NamedTuple):
    """A call that writes into the parameters, or that copies all of them at one moment.

    Attributes:
        name: the writer's name in messages.
        makes_room: whether other writers of the same thread may write before this one ends.
        thread: the identity of the writer's thread.
        process: the number of the writer's process. A forked child drops the writers that it inherits.
        reads: whether the call only reads. No other thread may write before it ends.
    """

    name: str
    makes_room: bool
    thread: int
    process: int
    reads: bool = False


class WriteGuard:
    """Lets one writer at a time change the parameters. Among readers, only copies ask the guard, since all their values
    must be of one moment.

    `fit` makes room for its callbacks, which run between updates.

    >>> guard = WriteGuard()
    >>> with guard.hold("changing()"), guard.hold("fit()", makes_room=True):  # doctest: +ELLIPSIS
    ...     pass
    Traceback (most recent call last):
    RuntimeError: fit() can't write into the parameters: changing() has not ended yet. Only one call at a ...
    """

    def __init__(self) -> None:
        self._writers: list[Writer] = []  # the last one writes, the others make room for it

    def hold(self, name: str, makes_room: bool = False) -> Holding:
        """Returns a `with` block within which no one else writes.

        Raises:
            RuntimeError: when the block begins, if another writer has not ended. The message names both writers.
        """
        return Holding(self, Writer(name, makes_room, threading.get_ident(), os.getpid()))

    def reading(self, name: str) -> Holding:
        """Returns a `with` block within which no other thread writes. Others may read.

        Raises:
            RuntimeError: when the block begins, if another thread is writing. The message names both.
        """
        return Holding(self, Writer(name, False, threading.get_ident(), os.getpid(), reads=True))

    def enter(self, me: Writer) -> None:
        """Registers a writer, or raises RuntimeError if another one has not ended."""
        with _LOCK:
            self._writers = [writer for writer in self._writers if writer.process == me.process]
            last = self._in_the_way(me)
            if last:
                where = "" if last.thread == me.thread else " in another thread"
                action = "read" if me.reads else "write into"
                raise RuntimeError(
                    f"{me.name} can't {action} the parameters: {last.name} has not ended yet{where}. Only one call at "
                    "a time may train or change a model: wait until it has ended"
                )
            self._writers.append(me)

    def _in_the_way(self, me: Writer) -> Writer | None:
        if me.reads:
            return next((other for other in self._writers if not other.reads and other.thread != me.thread), None)
        last = self._writers[-1] if self._writers else None
        return last if last and (me.makes_room or not last.makes_room or last.thread != me.thread) else None

    def leave(self, me: Writer) -> None:
        """Ends a writer's turn, if the writer was registered."""
        with _LOCK:
            self._writers = [writer for writer in self._writers if writer is not me]

    def check_innermost(self, names: Collection[str]) -> None:
        """Checks that the writer that was registered last has one of these names.

        Raises:
            RuntimeError: if it has another name.
        """
        last = self._writers[-1] if self._writers else None
        if last is not None and last.name not in names:
            raise RuntimeError(
                f"an update can't write into the parameters: {last.name} has not ended yet. End its block before the "
                "next update"
            )


class Holding:
    """A writer's `with` block. An interrupt (Ctrl-C) at its beginning or end leaves no writer registered.

    Python checks for interrupts when a function is called, but not between a block's `__enter__` and the block.
    """

    def __init__(self, guard: WriteGuard, me: Writer) -> None:
        self.guard, self.me = guard, me

    def __enter__(self) -> None:
        try:
            self.guard.enter(self.me)
        except BaseException:
            self.guard.leave(self.me)
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self.guard.leave(self.me)
        except BaseException:
            self.guard.leave(self.me)
            raise
