"""Locks on directories, by which a process keeps others away from files that only one may write."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def lock(directory: Path) -> int | None:
    """Locks a directory, which is created if needed, until `unlock` or the end of the process.

    Returns:
        The descriptor that holds the lock. None if the system or the file system has no locks, or if nothing can be
        created there.

    Raises:
        BlockingIOError: if another one holds the lock.

    >>> import tempfile
    >>> directory = Path(tempfile.mkdtemp())
    >>> held = lock(directory)
    >>> lock(directory)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    BlockingIOError: ...
    >>> unlock(held)
    """
    descriptor = None
    try:
        import fcntl

        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        unlock(descriptor)
        raise
    except (ImportError, OSError):
        unlock(descriptor)
        return None
    return descriptor


def unlock(descriptor: int | None) -> None:
    """Ends a lock, also if a child that was forked meanwhile still has the descriptor. None is no lock."""
    if descriptor is not None:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_UN)
        with contextlib.suppress(OSError):
            os.close(descriptor)
