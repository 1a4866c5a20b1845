"""Files that take their names only when they are complete. If the disk is full, the error says how many bytes are
needed.

A `NewFile` describes a file before its first byte is written, so its size is known. The file is written under another
name, flushed to the disk, and renamed:

1. `.name.saving-XXXXXXXX`, with eight random digits, is a directory beside `name`. The new files are written into it.
2. Each file takes its name in one step, and replaces the old one.
3. The directory is removed.

If the disk is full, the old files stay, and the new files and the directories that were created for them are removed.
If a process is killed, its temporary directory stays until the next save of the same name, which removes directories of
exactly such names and nothing else. A running process holds a lock (`flock`) on its directory, which is then not
removed. Locks and the flushing of a directory are features of POSIX, so saving on Windows is not supported.

formats/atomic.py replaces whole directories in the same way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroberta.formats.budget import printable, shown
from pyroberta.formats.files import as_path
from pyroberta.formats.interrupts import uninterrupted

HANDLE = r"(hf|kaggle):/+"  # how the handle of a hub begins, also as a path, which has one / for several


@dataclass(frozen=True)
class NewFile:
    """A file that is not written yet.

    Attributes:
        size: the size in bytes.
        blocks: a function that returns the bytes in order, as an iterable of objects with a buffer.
    """

    size: int
    blocks: Callable[[], Iterable[Any]]

    @classmethod
    def of(cls, content: str | bytes) -> NewFile:
        """Returns a small file of the content. Text is written as UTF-8.

        >>> NewFile.of("é").size
        2
        """
        encoded = content.encode() if isinstance(content, str) else content
        return cls(len(encoded), lambda: [encoded])

    def write(self, file: Path) -> None:
        """Writes the bytes to `file`, which is created or overwritten.

        Raises:
            OSError: the system's error.
        """
        with open(file, "wb") as opened:
            for block in self.blocks():
                opened.write(block)


def replace_files(directory: str | os.PathLike[str], files: Mapping[str, NewFile]) -> None:
    """Writes files into a directory. Its other files stay. A file of the same name is replaced in one step, and the new
    one has its permissions.

    All files are written and flushed before the first one takes its name. If the process is killed while they are
    renamed, some files are new and some old, but each of them is complete.

    Args:
        directory: the directory. It and its parents are created if needed, and `~` is expanded.
        files: at least one file, by name.

    Raises:
        IsADirectoryError: if one of the names is that of a directory.
        FileExistsError: if one of them is that of a pipe or a device.
        NotADirectoryError: if a parent in the path of `directory` is a file.
        OSError: if the files can't be written; see `place_of` for other reasons. Then the old files stay, and no new
            file does.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a" / "b"
    >>> replace_files(target, {"x.txt": NewFile.of("new")})
    >>> (target / "x.txt").read_text(), [file.name for file in target.iterdir()]
    ('new', ['x.txt'])
    """
    directory = place_of(directory)
    first = directory / next(iter(files))
    nearest(first)
    for name in files:
        if (directory / name).is_dir():
            raise IsADirectoryError(f"can't save to {directory / name}: it is a directory. Give another name.")
        if os.path.lexists(directory / name) and not (directory / name).is_file():
            raise FileExistsError(f"can't save to {directory / name}: it is not a plain file. Give another name.")
    place, unconfirmed = first if len(files) == 1 else directory, None
    with explained(place, [new.size for new in files.values()]), made_parents(first):
        remove_stale(first)
        with locked_temporary(first) as temporary:
            temporary.chmod(0o700)  # the files get their permissions only when they are complete
            for name, new in files.items():
                new.write(temporary / name)
                flush(temporary / name)
            for name in files:
                keep_permissions(directory / name, temporary / name)
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
    """A `with` block that adds the name of what is saved to the system's errors, and the bytes needed if the disk is
    full.

    Args:
        path: the path that is saved, for the message.
        sizes: the sizes in bytes of the files that are written. Empty if they are not known.

    Raises:
        OSError: an error with the system's errno and the path. If the disk is full, the message has the bytes needed
            and the bytes free.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # it is ours, and says all
            raise
        if error.errno in FULL:
            text = _message(path, FULL[error.errno], list(sizes), error.errno)
        else:
            where = f" ({printable(os.fsdecode(error.filename))})" if error.filename else ""
            text = f"can't save to {path}: {error.strerror}{where}"
        raise type(error)(error.errno, text) from error


def _message(path: Path, reason: str, sizes: list[int], code: int) -> str:
    place = os.statvfs(nearest(path))
    block = place.f_frsize or 1
    needed, free = sum(-(-size // block) * block for size in sizes), place.f_bavail * block
    text = f"can't save to {path}: {reason}. "
    if len(sizes) > 1:
        text += f"The new files need {needed:,} bytes, the largest {max(sizes):,}; "
    elif sizes:
        text += f"The new file needs {needed:,} bytes; "
    text += f"{free:,} bytes are free. "
    if code == errno.ENOSPC and place.f_files and not place.f_favail:
        text += "The file system can hold no more files. "
    elif code == errno.ENOSPC and sizes and needed <= free:
        text += "The file system needs some of them for itself. "
    advice = "Save a model with a smaller max_shard_size" if code == errno.EFBIG else "Make room there"
    return f"{text}The old files are unchanged. {advice}, or save to another disk, and try again."


# --- steps ------------------------------------------------------------------------------------------------------------


def place_of(path: str | os.PathLike[str]) -> Path:
    """Returns the absolute path of `path`. `~` is expanded, and symbolic links are followed.

    Raises:
        ValueError: if it is the handle of a hub; see also `as_path`.
        OSError: if links form a circle, a name is too long, or a directory may not be entered.
    """
    expanded = as_path(path)
    if found := re.match(HANDLE, str(expanded)):
        handle = f"{found[1]}://{str(expanded)[found.end() :]}"
        raise ValueError(
            f"can't save to {shown(handle)}: it is the handle of a hub, and models are saved on this machine. Give a "
            f"directory, or upload the model: model.upload({shown(handle)})"
        )
    try:
        expanded.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # it is to be made, or `nearest` says what is in the way
    except OSError as error:
        reason = "its symbolic links form a circle" if error.errno == errno.ELOOP else error.strerror
        raise type(error)(error.errno, f"can't save to {expanded}: {reason}. Give another place.") from None
    return expanded.resolve()


def nearest(path: Path) -> Path:
    """Returns the nearest existing directory above `path`.

    Raises:
        ValueError: if `path` is the root of the file system, which has no parent.
        NotADirectoryError: if a parent in the path is a file.
    """
    if path == path.parent:
        raise ValueError(f"can't save to {path}: it is the root of the file system. Give a directory below it.")
    above = next(parent for parent in path.parents if os.path.lexists(parent))
    if not above.is_dir():
        raise NotADirectoryError(f"can't save to {path}: {above} is a file, and not a directory. Give another place.")
    return above


def keep_permissions(old: Path, new: Path, more: int = 0) -> None:
    """Gives `new` the permissions of `old`, which it replaces, and those of `more`. If there is no `old`, nothing
    changes.
    """
    with contextlib.suppress(OSError):  # a file system without permissions
        new.chmod(stat.S_IMODE(old.stat().st_mode) | more)


@contextlib.contextmanager
def made_parents(path: Path) -> Iterator[None]:
    """A `with` block at whose beginning the missing directories above `path` are created, and their names flushed to
    the disk.

    If the block raises, the directories that were created are removed again, unless they have content.
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
    """A `with` block that yields a new, locked directory beside `path`. The directory is removed at the end, even if an
    interrupt (Ctrl-C) comes.
    """
    held: list[tuple[Path, int]] = []

    def release() -> None:
        for temporary, lock in held:
            shutil.rmtree(temporary, ignore_errors=True)  # what failed, or the old content after the exchange
            held.clear()
            os.close(lock)

    try:
        with uninterrupted():
            held.append(_new_temporary(path))
        yield held[0][0]
    finally:
        try:
            with uninterrupted():
                release()
        except BaseException:  # which came while interrupts were being put off
            release()
            raise


def _new_temporary(path: Path) -> tuple[Path, int]:
    """A fresh directory beside `path`, and the descriptor of its lock."""
    while True:
        temporary = temporary_name(path)
        temporary.mkdir()
        try:
            lock = _lock(temporary, wait=True)
        except FileNotFoundError:
            continue  # before we had the lock, another save took it for a dead one's
        except OSError:
            temporary.rmdir()
            raise
        if temporary.exists():
            return temporary, lock
        os.close(lock)


def remove_stale(path: Path) -> None:
    """Removes the directories of `locked_temporary(path)` that dead processes left behind, and nothing else."""
    name = re.compile(re.escape(_beginning(path)) + "[0-9a-f]{8}")
    found: list[Path] = []
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:  # which this user may not look into
        found += [Path(e.path) for e in entries if name.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
    for stale in found:
        with contextlib.suppress(OSError):  # locked by a live process, or gone meanwhile
            lock = _lock(stale, wait=False)
            try:
                shutil.rmtree(stale, ignore_errors=True)
            finally:
                os.close(lock)


def temporary_name(path: Path) -> Path:
    """Returns a new name for a temporary entry beside `path`. If a directory of such a name stays behind, the next save
    removes it.
    """
    return path.with_name(f"{_beginning(path)}{secrets.token_hex(4)}")


def _beginning(path: Path) -> str:
    return f".{path.name}.saving-"


def flush(path: Path | str) -> None:
    """Flushes a file, or the names in a directory, to the disk.

    Raises:
        OSError: if the disk can't store them.
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
    """Flushes the name of the new entry at `path` to the disk.

    Returns:
        None; or, if the disk can't store the name, the error to raise at the end, since the old content is replaced
        already.
    """
    try:
        flush(path.parent)
    except OSError as error:
        text = f"{path} is saved, but the disk can't confirm that its name would survive a loss of power"
        return type(error)(error.errno, f"{text} ({error.strerror}). Save it again, to another disk if need be.")
    return None


def _lock(directory: Path, wait: bool) -> int:
    """Takes the lock that ends with the process; gives the descriptor that holds it. Raises OSError where it can't."""
    import fcntl  # here, as Windows lacks it, and loading has no need of it

    # O_DIRECTORY refuses a pipe that bears the name before it is waited for, O_NOFOLLOW a link.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
