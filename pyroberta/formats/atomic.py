"""Saving of a whole directory. At every moment either the complete old directory or the complete new one exists.

The new content is written beside the old one, flushed to the disk, and then takes the name of the old one:

1. `.name.saving-*` is created next to `name` and filled. If this is interrupted, `name` does not change.
2. The two exchange names in one step (`renameat2(RENAME_EXCHANGE)`: Linux, on every common file system). If there is
   nothing to replace, the new one is renamed. At every moment there is a complete `name`.
3. The old content, which now has the temporary name, is deleted.

On other systems step 2 is two renames, `name` -> `.name.previous`, then `.name.saving-*` -> `name`. If a process dies
between them, there is no `name`. Then `readable(name)` returns the previous directory, and the next save puts it back.

new_files.py describes the temporary directory, its lock, and what happens if the disk is full.
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

from pyroberta.formats.budget import printable
from pyroberta.formats.directory import Kind
from pyroberta.formats.files import NamedPath
from pyroberta.formats.new_files import (
    NewFile,
    explained,
    flush,
    flush_new_name,
    keep_permissions,
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
    """A `with` block that yields an empty directory to fill. The directory becomes `path` when the block ends, with the
    permissions of the old one. If the block raises, it is removed.

    Args:
        path: the directory to save. It and its parents are created if needed. If it is a symbolic link, the link stays,
            and its target is replaced.
        kind: the kind that an old directory must have.
        owned: regular expressions of the paths, within the old directory, of the files that are removed. All other
            files (a model card, `.git`, another program's weights) are kept, unless the new directory has a file of the
            same name.
        sizes: the sizes in bytes of the files that the block will write. They are used in the message if the disk is
            full.

    Yields:
        A directory next to `path`, on the same file system.

    Raises:
        FileExistsError: if `path` is not a directory, or if it has files and is not of this kind, since these files may
            be anything. Also if a directory in it has the name of a new file, or the reverse.
        ValueError: if `path` is or contains the working directory, which the process would lose.
        NotADirectoryError: if a parent in the path is a file.
        OSError: if `path` can't be written. The message has the path, and the bytes needed and free if the disk is
            full. `path` does not change, and no temporary file stays.

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
            keep_permissions(path, temporary, 0o700)
            yield temporary
            if path.is_dir():
                _carry_over(path, temporary, owned)
                keep_permissions(path, temporary)
            _flush_tree(temporary)
            check_replaceable(path, kind)  # again: the block may have taken long
            _swap(temporary, path, owned)
            unconfirmed = flush_new_name(path)
    if unconfirmed:
        raise unconfirmed


def replace_directory(path: Path | str, files: Mapping[str, NewFile], kind: Kind, owned: Sequence[str] = ()) -> None:
    """Writes these files into a new directory, which becomes `path`.

    Args:
        path, kind, owned: see `replacing_directory`.
        files: the files, by their paths in the directory.

    Raises:
        FileExistsError, ValueError, NotADirectoryError, OSError: see `replacing_directory`.
    """
    with replacing_directory(path, kind, owned, [file.size for file in files.values()]) as new:
        for name, file in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            file.write(new / name)


def readable(path: Path) -> Path:
    """Returns the directory to read for `path`: `path` itself, or the previous one that an interrupted save put aside.

    >>> import tempfile
    >>> parent = Path(tempfile.mkdtemp())
    >>> (parent / ".preset.previous").mkdir()
    >>> readable(parent / "preset").name
    '.preset.previous'
    """
    return _previous(path) if not path.exists() and _previous(path).is_dir() else path


def _previous(path: Path) -> Path:
    path = NamedPath(os.path.abspath(path))  # which has a name, as "." has not
    return path.with_name(f".{path.name}.previous")


def check_replaceable(path: Path, kind: Kind) -> None:
    """Checks that saving to `path` would replace nothing but a directory of this kind. Writes nothing.

    Raises:
        FileExistsError, NotADirectoryError, ValueError: see `replacing_directory`.
    """
    path = place_of(path)
    nearest(path)
    if path.exists() and not path.is_dir():
        raise FileExistsError(
            f"can't save to {path}: it is a file, but a {kind.name} is a directory. Give another name."
        )
    if path.is_dir() and any(path.iterdir()) and (refusal := kind.refusal(path)):
        raise FileExistsError(f"won't replace {path}: {refusal}. Give a new directory, such as {path / 'preset'}.")
    if Path.cwd().is_relative_to(path):
        raise ValueError(
            f"can't save to {path}: it is the working directory or holds it, and saving replaces the whole "
            f"directory. Change to another one first, or give a subdirectory, such as {path / 'preset'}."
        )


def check_place(path: Path) -> None:
    """Checks that something can be created at `path`. It creates a directory there, with its parents, and removes it.

    Raises:
        NotADirectoryError: if a parent in the path is a file.
        OSError: if nothing can be created. The error has the class of the system's error.
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

    late: the new one has had what was there before, and is given what came since. Otherwise what is new gets the
    permissions of what it replaces.

    Raises:
        FileExistsError: if one has a directory, or a link to one, and the other a file of the same name.
    """
    for entry in old.iterdir():
        copy, name, is_directory = new / entry.name, below + entry.name, entry.is_dir()
        if late and os.path.lexists(copy) and (entry.is_symlink() or not (is_directory and copy.is_dir())):
            continue
        if os.path.lexists(copy) and (is_directory != copy.is_dir() or (entry.is_symlink() and is_directory)):
            kind = "a link to a directory" if entry.is_symlink() else "a directory" if is_directory else "a file"
            raise FileExistsError(
                f"won't replace {old}: its {printable(entry.name)} is {kind}, and not a "
                f"{'directory' if copy.is_dir() else 'file'} that was saved. Move it away, or give another directory."
            )
        if os.path.lexists(copy) and not late:
            keep_permissions(entry, copy)
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


def _flush_tree(directory: Path) -> None:
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
