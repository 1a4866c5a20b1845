"""Saving a directory so that at every moment the old one or the new one is there, whole.

The new content is written beside the old one, flushed to the disk, and then takes its name:

1. `.name.saving-*` is made next to `name` and filled; whatever stops us here leaves `name` untouched.
2. The two exchange names in one step (`renameat2(RENAME_EXCHANGE)`: Linux, on every common file system), or,
   where there is nothing to replace, the new one is renamed. There is no moment without a whole `name`.
3. The old content, which now bears the temporary name, is deleted.

Elsewhere step 2 is two renames, `name` -> `.name.previous`, then `.name.saving-*` -> `name`. A process that dies
between them leaves no `name`; `readable(name)` then gives the previous one, and the next save puts it back.

The temporary directory, its lock, and what happens on a full disk are described in new_files.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pyroberta.formats.directory import Kind
from pyroberta.formats.new_files import (
    NewFile,
    explained,
    flush,
    flush_new_name,
    locked_temporary,
    made_parents,
    nearest,
    place_of,
    remove_stale,
    temporary_name,
)

AT_FDCWD = -100
RENAME_EXCHANGE = 2
# What a kernel or a file system answers that can't exchange.
CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


@contextlib.contextmanager
def replacing_directory(
    path: Path | str, kind: Kind, owned: Sequence[str] = (), sizes: Iterable[int] = ()
) -> Iterator[Path]:
    """Gives an empty directory to fill, which becomes `path` when the block ends, or goes if it raises.

    Args:
        path: made if it isn't there, parents too. A symbolic link stays, and what it points to is replaced.
        kind: what an old directory must be.
        owned: the files of the old directory that go, as regular expressions of their paths in it. All else (a model
            card, `.git`, another program's weights) is carried over, unless the new one has its own.
        sizes: of the files that the block will write, in bytes, to be told where there is no room for them.

    Yields:
        A directory next to `path`, on the same file system.

    Raises:
        FileExistsError: where `path` isn't a directory, or holds files and isn't of that kind: that may be anything,
            and is not ours to replace. Also where a directory in it bears the name of a new file, or the reverse.
        ValueError: where `path` is or holds the working directory, which would be pulled from under the process.
        NotADirectoryError: where a file stands in the way to it.
        OSError: where it can't be written, telling the path; for lack of room also the bytes needed and the bytes
            free. `path` is as it was, and nothing is left beside it.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "preset"
    >>> kind = Kind("album", "album.json", lambda values: True)
    >>> with replacing_directory(target, kind) as directory:
    ...     _ = (directory / "album.json").write_text("{}")
    >>> [file.name for file in target.iterdir()]
    ['album.json']
    """
    path = place_of(path)
    check_replaceable(path, kind)
    unconfirmed = None
    with explained(path, sizes), made_parents(path):
        _clean_up(path, kind)
        with locked_temporary(path) as temporary:
            yield temporary
            if path.is_dir():
                _carry_over(path, temporary, owned)
            _flush(temporary)
            check_replaceable(path, kind)  # again: the block may have taken long
            _swap(temporary, path, owned)
            unconfirmed = flush_new_name(path)
    if unconfirmed:
        raise unconfirmed


def replace_directory(path: Path | str, files: Mapping[str, NewFile], kind: Kind, owned: Sequence[str] = ()) -> None:
    """Writes a directory of these files, which becomes `path`.

    Args:
        path, kind, owned: as of `replacing_directory`.
        files: by their paths in it.

    Raises:
        FileExistsError, ValueError, NotADirectoryError, OSError: as `replacing_directory`.
    """
    with replacing_directory(path, kind, owned, [file.size for file in files.values()]) as new:
        for name, file in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            file.write(new / name)


def readable(path: Path) -> Path:
    """The directory to read for `path`: itself, or the one that an interrupted save without exchange had put aside.

    >>> import tempfile
    >>> parent = Path(tempfile.mkdtemp())
    >>> (parent / ".preset.previous").mkdir()
    >>> readable(parent / "preset").name
    '.preset.previous'
    """
    return _previous(path) if not path.exists() and _previous(path).is_dir() else path


def _previous(path: Path) -> Path:
    path = Path(os.path.abspath(path))  # which has a name, as "." has not
    return path.with_name(f".{path.name}.previous")


def check_replaceable(path: Path, kind: Kind) -> None:
    """Checks that saving to `path` would replace nothing but a directory of that kind; nothing is written.

    Raises:
        FileExistsError, NotADirectoryError, ValueError: as `replacing_directory`.
    """
    path = place_of(path)
    nearest(path)
    if path.exists() and not path.is_dir():
        raise FileExistsError(
            f"can't save to {path}: it is a file, and a {kind.name} is a directory. Give another name."
        )
    if path.is_dir() and any(path.iterdir()) and (refusal := kind.refusal(path)):
        raise FileExistsError(f"won't replace {path}: {refusal}. Give a new directory, such as {path / 'preset'}.")
    if Path.cwd().is_relative_to(path):
        raise ValueError(
            f"can't save to {path}: it is the working directory or holds it, and saving replaces the whole "
            f"directory. Change to another one first, or give a subdirectory, such as {path / 'preset'}."
        )


def check_place(path: Path) -> None:
    """Checks that something can be made at `path`, its directories included, by making and removing a directory there.

    Raises:
        NotADirectoryError: where a file stands in the way.
        OSError: where nothing can be made, of the kind that the system gave.
    """
    path = place_of(path)
    above = nearest(path)
    trial = temporary_name(above / path.name)  # should we die just here, the next save removes it
    try:
        trial.mkdir()
    except OSError as error:
        raise type(error)(
            error.errno, f"can't save to {path}: nothing can be made in {above} ({error.strerror}). Give another place."
        ) from None
    with contextlib.suppress(FileNotFoundError):  # another save took it for a dead one's
        trial.rmdir()


def _clean_up(path: Path, kind: Kind) -> None:
    """Deletes what dead processes left beside `path`; puts the previous directory back where there is no newer one."""
    previous = _previous(path)
    if previous.is_dir() and not previous.is_symlink() and not kind.refusal(previous):
        if path.is_dir() and any(path.iterdir()):
            previous.rename(temporary_name(path))  # which `remove_stale` removes
        else:
            previous.rename(path)  # `path` isn't there, or is empty
    remove_stale(path)


def _carry_over(old: Path, new: Path, owned: Sequence[str], below: str = "", *, late: bool = False) -> None:
    """Gives a new directory what an old one has beside the files that are ours: the new ones, and those of `owned`.

    late: the new one has had what was there before, and is given what came since.

    Raises:
        FileExistsError: where one has a directory, or a link to one, and the other a file of the same name.
    """
    for entry in old.iterdir():
        copy, name, is_directory = new / entry.name, below + entry.name, entry.is_dir()
        if late and os.path.lexists(copy) and (entry.is_symlink() or not (is_directory and copy.is_dir())):
            continue
        if os.path.lexists(copy) and (is_directory != copy.is_dir() or (entry.is_symlink() and is_directory)):
            kind = "a link to a directory" if entry.is_symlink() else "a directory" if is_directory else "a file"
            raise FileExistsError(
                f"won't replace {old}: its {entry.name} is {kind}, and no {'directory' if copy.is_dir() else 'file'} "
                "that was saved. Move it away, or give another directory."
            )
        if copy.is_dir():
            _carry_over(entry, copy, owned, f"{name}/", late=late)
        elif os.path.lexists(copy) or (not is_directory and any(re.fullmatch(pattern, name) for pattern in owned)):
            continue
        elif is_directory and not entry.is_symlink() and any(pattern.startswith(f"{name}/") for pattern in owned):
            copy.mkdir()
            _carry_over(entry, copy, owned, f"{name}/", late=late)
            if not any(copy.iterdir()):
                copy.rmdir()
        else:
            _copy(entry, copy)


def _copy(old: Path, new: Path) -> None:
    """Copies a file or a tree. Unlike shutil.copytree's, an error is the system's own."""
    if old.is_symlink() or not old.is_dir():
        _link(old, new)
        return
    new.mkdir()
    for entry in old.iterdir():
        _copy(entry, new / entry.name)
    shutil.copystat(old, new)


def _link(old: Path, new: Path) -> None:
    """Gives the file a second name, which costs nothing however large it is; copies it where links aren't possible."""
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError:
        shutil.copy2(old, new, follow_symlinks=False)


def _flush(directory: Path) -> None:
    """Has the disk hold all of `directory` before its name says so."""
    for folder, _, files in os.walk(directory):
        for file in files:
            place = os.path.join(folder, file)
            if stat.S_ISREG(os.lstat(place).st_mode):  # a pipe would wait for a writer
                with contextlib.suppress(PermissionError):  # it was carried over by a second name: it is there already
                    flush(place)
        flush(folder)


def _swap(new: Path, path: Path, owned: Sequence[str]) -> None:
    """Has `new` take the name `path`; what bore it before then has the name of `new`."""
    if not path.exists():
        new.rename(path)
        return
    if not _exchange(new, path):
        previous = _previous(path)
        path.rename(previous)
        try:
            new.rename(path)  # a process that dies just before this line is what `readable` is for
        except OSError:
            previous.rename(path)
            raise
        previous.rename(new)
    _carry_over(new, path, owned, late=True)  # once more: what others put into it since


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
