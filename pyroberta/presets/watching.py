"""Stops a download if no more data arrives.

The hubs' clients give up if no byte arrives for some seconds. A server that sends one byte now and then makes them wait
without end. So the client works in another thread, and writes into the cache in pieces of up to 10 MB. The calling
thread checks that the cache grows within `PATIENCE` ticks. It counts ticks instead of reading the clock, since the time
in which a process was suspended does not count.

There are two limits. The clients write a piece when it is complete, so a connection that needs longer than `PATIENCE`
seconds for a piece (35 KB a second) is stopped too. A client that waits in code other than Python can't be stopped; its
thread ends with the process.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import TypeVar

TICK = 1.0  # seconds
PATIENCE = 300  # ticks
GRACE = 5.0  # seconds for a client to clean up

T = TypeVar("T")


class Stalled(ConnectionError):
    """Raised if no more data arrives."""


class _Stop(BaseException):
    """Ends the client's thread; no `except Exception` of the client's holds it up."""


def watched(download: Callable[[], T], folder: Path, label: str) -> T:
    """Returns the result of `download`, which is stopped if `folder` does not grow while it works.

    Args:
        download: the function, which runs in another thread.
        folder: the folder into which it writes. It need not exist.
        label: the name of the download, for the message.

    Raises:
        Stalled: if `folder` has not grown for `PATIENCE` ticks. Then `download` is stopped.
        Exception: any error of `download`.

    >>> watched(lambda: 3, Path("nowhere"), "a number")
    3
    """
    answers: list[T] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            answers.append(download())
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=copy_context().run, args=(work,), daemon=True)
    thread.start()
    size, waited = _size(folder), 0
    try:
        while thread.is_alive():
            thread.join(TICK)
            before, size = size, _size(folder)
            waited = waited + 1 if size == before else 0
            if waited >= PATIENCE and thread.is_alive():
                raise Stalled(
                    f"{label}: no data has arrived for {PATIENCE * TICK:.0f} s, so the download was stopped. Call "
                    "again on a better connection: complete files are kept"
                )
    except BaseException:  # an interrupt by the user, too
        _stop(thread)
        raise
    if failures:
        raise failures[0]
    return answers[0]


def _stop(thread: threading.Thread) -> None:
    """Raises `_Stop` in the thread, at its next Python instruction."""
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_Stop))
        thread.join(GRACE)


def _size(folder: Path) -> int:
    """The bytes of all files below a folder. Files that vanish meanwhile don't count."""
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(directory, name)).st_size
            except OSError:
                continue
    return total
