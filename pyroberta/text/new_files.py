"""Files that take their names only when they are whole, with an error that says how much room they need.

Each file is described before its first byte is written (`NewFile`), so its size is known. It is written under another
name, flushed to the disk, and renamed:

1. `.name.saving-*` is a directory beside `name`. The new files are written into it.
2. Each file takes its name in one step, and replaces the old one.
3. The directory is removed.

Where the disk is full, the old files stay, what was written is removed, and so are directories that were made for it.
What a killed process left behind is removed by the next save of the same name. A live process holds a lock (`flock`) on
its directory, which then stays. Locks, and flushing a directory, are POSIX's: saving on Windows isn't supported.

presets/atomic.py replaces whole directories in the same way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class NewFile:
    """A file that is not written yet.

    Attributes:
        size: in bytes.
        blocks: gives the bytes in order, some at a time, as anything with a buffer.
    """

    size: int
    blocks: Callable[[], Iterable[Any]]

    @classmethod
    def of(cls, content: str | bytes) -> NewFile:
        """A small file, with text as UTF-8.

        >>> NewFile.of("é").size
        2
        """
        encoded = content.encode() if isinstance(content, str) else content
        return cls(len(encoded), lambda: [encoded])

    def write(self, file: Path) -> None:
        """Writes the bytes to `file`, which is made or overwritten.

        Raises:
            OSError: of the kind that the system gave.
        """
        with open(file, "wb") as opened:
            for block in self.blocks():
                opened.write(block)


def replace_files(directory: str | os.PathLike[str], files: Mapping[str, NewFile]) -> None:
    """Puts files into a directory, whose other files stay. A file of the same name is replaced in one step.

    All are written and flushed before the first one takes its name. A process that is killed while they are renamed
    leaves some new and some old files, each of them whole.

    Args:
        directory: made if it isn't there, parents too; `~` is expanded.
        files: by their names in it, at least one.

    Raises:
        IsADirectoryError: where a directory has one of the names.
        NotADirectoryError: where a file stands in the way to `directory`.
        OSError: where they can't be written. The old ones are there then, and nothing else is.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a" / "b"
    >>> replace_files(target, {"x.txt": NewFile.of("new")})
    >>> (target / "x.txt").read_text(), [file.name for file in target.iterdir()]
    ('new', ['x.txt'])
    """
    directory = Path(directory).expanduser().resolve()
    first = directory / next(iter(files))
    nearest(first)
    for name in files:
        if (directory / name).is_dir():
            raise IsADirectoryError(f"can't save to {directory / name}: it is a directory. Give another name.")
    place, unconfirmed = first if len(files) == 1 else directory, None
    with explained(place, [new.size for new in files.values()]), made_parents(first):
        remove_stale(first)
        with locked_temporary(first) as temporary:
            for name, new in files.items():
                new.write(temporary / name)
                flush(temporary / name)
            for name in files:
                (temporary / name).replace(directory / name)
            unconfirmed = flush_new_name(first)
    if unconfirmed:
        raise unconfirmed


# --- room -------------------------------------------------------------------------------------------------------------

# What the system answers where there is no room, and what that means.
FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file is larger than the file system or the limit on a file's size (`ulimit -f`) allows",
}


@contextlib.contextmanager
def explained(path: Path, sizes: Iterable[int] = ()) -> Iterator[None]:
    """Turns the system's error for lack of room into one that says what is needed.

    Args:
        path: what is saved, for the message.
        sizes: of the files that are written, in bytes; none where they aren't known.

    Raises:
        OSError: with the errno of the system's own, the path, the bytes needed and the bytes free.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise type(error)(error.errno, _message(path, FULL[error.errno], list(sizes), error.errno)) from error


def _message(path: Path, reason: str, sizes: list[int], code: int) -> str:
    place = os.statvfs(nearest(path))
    block = place.f_frsize or 1
    needed, free = sum(-(-size // block) * block for size in sizes), place.f_bavail * block
    text = f"can't save to {path}: {reason}. "
    if len(sizes) > 1:
        text += f"The new files need {needed:,} bytes, the largest {max(sizes):,}; "
    elif sizes:
        text += f"The new file needs {needed:,} bytes; "
    text += f"{free:,} bytes are free there. "
    if code == errno.ENOSPC and place.f_files and not place.f_favail:
        text += "The file system can hold no more files. "
    elif code == errno.ENOSPC and sizes and needed <= free:
        text += "The file system needs some for itself. "
    advice = "Save with a smaller max_shard_size" if code == errno.EFBIG else "Make room there"
    return f"{text}What was there before is unchanged. {advice}, or save to another disk, and try again."


# --- steps ------------------------------------------------------------------------------------------------------------


def nearest(path: Path) -> Path:
    """The directory above `path` that is there already.

    Raises:
        NotADirectoryError: where a file stands in the way.
    """
    above = next(parent for parent in path.parents if os.path.lexists(parent))
    if not above.is_dir():
        raise NotADirectoryError(f"can't save to {path}: {above} is a file and holds nothing. Give another place.")
    return above


@contextlib.contextmanager
def made_parents(path: Path) -> Iterator[None]:
    """Makes the directories above `path` that are missing, and flushes their names to the disk.

    Where the block raises, those that it made are removed again, as far as they are empty.
    """
    made: list[Path] = []
    try:
        for folder in [folder for folder in reversed(path.parents) if not folder.exists()]:
            with contextlib.suppress(FileExistsError):  # another process made it meanwhile
                folder.mkdir()
                made.append(folder)
        for folder in made:
            flush(folder.parent)
        yield
    except BaseException:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


@contextlib.contextmanager
def locked_temporary(path: Path) -> Iterator[Path]:
    """A fresh directory beside `path`, locked, and removed at the end."""
    while True:
        temporary = path.with_name(f".{path.name}.saving-{secrets.token_hex(4)}")
        temporary.mkdir()
        with contextlib.suppress(FileNotFoundError):
            lock = _lock(temporary, wait=True)
            if temporary.exists():
                break
            os.close(lock)  # before we had the lock, another save took it for a dead one's
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # what failed, or the old content after the exchange
        os.close(lock)


def remove_stale(path: Path) -> None:
    """Removes what dead processes left of `locked_temporary(path)`."""
    for stale in path.parent.glob(f".{_literal(path.name)}.saving-*"):
        with contextlib.suppress(OSError):  # locked by a live process, or gone meanwhile
            lock = _lock(stale, wait=False)
            shutil.rmtree(stale, ignore_errors=True)
            os.close(lock)


def flush(path: Path | str) -> None:
    """Has the disk hold a file, or the names in a directory.

    Raises:
        OSError: where the disk can't.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        if os.path.isdir(path):
            return  # names can be made in a directory that this user may not read; only its owner can flush it
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_new_name(path: Path) -> OSError | None:
    """Has the disk hold the name of what was just put at `path`.

    Returns:
        Where the disk can't, the error to raise when all is done: the old content is replaced already.
    """
    try:
        flush(path.parent)
    except OSError as error:
        text = f"{path} is saved, but the disk can't confirm that its name will outlast a loss of power"
        return type(error)(error.errno, f"{text} ({error.strerror}). Save it again, to another disk if need be.")
    return None


def _lock(directory: Path, wait: bool) -> int:
    """Takes the lock that ends with the process; gives the descriptor that holds it. Raises OSError where it can't."""
    import fcntl  # here, as Windows lacks it, and loading has no need of it

    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
