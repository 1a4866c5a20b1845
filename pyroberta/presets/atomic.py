"""Saving a directory so that at every moment the old one or the new one is there, whole.

The new content is written beside the old one, flushed to the disk, and then takes its name:

1. `.name.saving-*` is made next to `name` and filled; whatever stops us here leaves `name` untouched.
2. The two exchange names in one step (`renameat2(RENAME_EXCHANGE)`: Linux, on every common file system), or,
   where there is nothing to replace, the new one is renamed. There is no moment without a whole `name`.
3. The old content, which now bears the temporary name, is deleted.

Elsewhere step 2 is two renames, `name` -> `.name.previous`, then `.name.saving-*` -> `name`. A process that dies
between them leaves no `name`; `readable(name)` then gives the previous one, and the next save puts it back.

Temporaries that a dead process left behind go at the next save. One that a live process is still filling is locked
(`flock`) and stays. Locks, and flushing a directory, are POSIX's: saving on Windows isn't supported.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fnmatch
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

AT_FDCWD = -100
RENAME_EXCHANGE = 2
# What a kernel or a file system answers that can't exchange.
CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


@contextlib.contextmanager
def replacing_directory(path: Path | str, owned: Sequence[str] = ("*",), mark: str = "config.json") -> Iterator[Path]:
    """Gives an empty directory to fill, which becomes `path` when the block ends, or goes if it raises.

    Args:
        path: made if it isn't there, parents too. A symbolic link stays, and what it points to is replaced.
        owned: name patterns of what is replaced. Anything else in the old directory (a model card, `.git`) is
            carried over, unless the new one has its own.
        mark: the file by which a directory of our kind is told.

    Yields:
        A directory next to `path`, on the same file system.

    Raises:
        FileExistsError: where `path` isn't a directory, or holds files but no `mark`: that may be anything, and is
            not ours to replace.
        ValueError: where `path` is or holds the working directory, which would be pulled from under the process.
        NotADirectoryError: where a file stands in the way to it.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "preset"
    >>> with replacing_directory(target) as directory:
    ...     _ = (directory / "config.json").write_text("{}")
    >>> [file.name for file in target.iterdir()]
    ['config.json']
    """
    path = Path(path).expanduser().resolve()
    check_replaceable(path, mark)
    path.parent.mkdir(parents=True, exist_ok=True)
    _clean_up(path, mark)
    with _locked_temporary(path) as temporary:
        yield temporary
        if path.is_dir():
            _carry_over(path, temporary, owned)
        _flush(temporary)
        check_replaceable(path, mark)  # again: the block may have taken long
        _swap(temporary, path)
        _flush_entry(path.parent)


def readable(path: Path) -> Path:
    """The directory to read for `path`: itself, or the one that an interrupted save without exchange had put aside.

    >>> import tempfile
    >>> parent = Path(tempfile.mkdtemp())
    >>> (parent / ".preset.previous").mkdir()
    >>> readable(parent / "preset").name
    '.preset.previous'
    """
    previous = _previous(path)
    return previous if not path.exists() and previous.is_dir() else path


def _previous(path: Path) -> Path:
    return path.with_name(f".{path.name}.previous")


def check_replaceable(path: Path, mark: str = "config.json") -> None:
    """That saving to `path` would replace nothing but a directory with `mark` in it; nothing is written.

    Raises:
        FileExistsError, NotADirectoryError, ValueError: as `replacing_directory`.
    """
    path = path.expanduser().resolve()
    _nearest(path)
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"can't save to {path}: it is a file, and a preset is a directory. Give another name.")
    if path.is_dir() and any(path.iterdir()) and not (path / mark).is_file():
        first = ", ".join(sorted(entry.name for entry in path.iterdir())[:3])
        raise FileExistsError(
            f"won't replace {path}: it holds files ({first}) but no {mark}, so it is no preset or adapter. "
            f"Give a new directory, such as {path / 'preset'}."
        )
    if Path.cwd().is_relative_to(path):
        raise ValueError(
            f"can't save to {path}: it is the working directory or holds it, and saving replaces the whole "
            f"directory. Change to another one first, or give a subdirectory, such as {path / 'preset'}."
        )


def check_saveable(path: Path) -> None:
    """That a preset can be saved to `path`, as far as can be told now: for a look before the work begins.

    Raises:
        FileExistsError, NotADirectoryError, ValueError: as `replacing_directory`.
        OSError: where nothing can be made there, of the kind that the system gave.
    """
    check_replaceable(path)
    check_place(path)


def check_place(path: Path) -> None:
    """That something can be made at `path`, its directories included: shown by a directory made there and removed.

    Raises:
        NotADirectoryError: where a file stands in the way.
        OSError: where nothing can be made, of the kind that the system gave.
    """
    path = path.expanduser().resolve()
    above = _nearest(path)
    trial = above / f".{path.name}.saving-{secrets.token_hex(4)}"  # should we die just here, the next save removes it
    try:
        trial.mkdir()
    except OSError as error:
        raise type(error)(
            f"can't save to {path}: nothing can be made in {above} ({error.strerror}). Give another place."
        ) from None
    with contextlib.suppress(FileNotFoundError):  # another save took it for a dead one's
        trial.rmdir()


def _nearest(path: Path) -> Path:
    """The directory above `path` that is there already."""
    above = next(parent for parent in path.parents if os.path.lexists(parent))
    if not above.is_dir():
        raise NotADirectoryError(f"can't save to {path}: {above} is a file and holds nothing. Give another place.")
    return above


@contextlib.contextmanager
def _locked_temporary(path: Path) -> Iterator[Path]:
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


def _clean_up(path: Path, mark: str) -> None:
    """Deletes what dead processes left beside `path`; puts the previous directory back where there is no newer one."""
    previous = _previous(path)
    if previous.is_dir():
        if (path / mark).is_file():
            shutil.rmtree(previous, ignore_errors=True)
        else:
            previous.rename(path)  # `path` isn't there, or is empty
    for stale in path.parent.glob(f".{_literal(path.name)}.saving-*"):
        with contextlib.suppress(OSError):  # locked by a live process, or gone meanwhile
            lock = _lock(stale, wait=False)
            shutil.rmtree(stale, ignore_errors=True)
            os.close(lock)


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


def _carry_over(old: Path, new: Path, owned: Sequence[str]) -> None:
    for entry in old.iterdir():
        copy = new / entry.name
        if copy.exists() or any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in owned):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, copy, symlinks=True, copy_function=_link)
        else:
            _link(entry, copy)


def _link(old: Path | str, new: Path | str) -> None:
    """Gives the file a second name, which costs nothing however large it is; copies it where links aren't possible."""
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError:
        shutil.copy2(old, new, follow_symlinks=False)


def _flush(directory: Path) -> None:
    """Has the disk hold all of `directory` before its name says so."""
    for folder, _, files in os.walk(directory):
        for file in files:
            if not os.path.islink(os.path.join(folder, file)):
                _flush_entry(os.path.join(folder, file))
        _flush_entry(folder)


def _flush_entry(path: Path | str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(new: Path, path: Path) -> None:
    if not path.exists():
        new.rename(path)
    elif not _exchange(new, path):
        previous = _previous(path)
        path.rename(previous)
        try:
            new.rename(path)  # a process that dies just before this line is what `readable` is for
        except OSError:
            previous.rename(path)
            raise
        shutil.rmtree(previous, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two names in one step; False where the system can't, and nothing was done."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in CANNOT_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), os.fspath(other))
