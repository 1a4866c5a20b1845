"""What a command reads and what it writes: checks, before any work, that nothing is written over what is read."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from pyroberta.cli.exit_codes import UsageError
from pyroberta.formats.new_files import HANDLE

Named = tuple[str, str | None]  # the option or the argument, such as --log, and what was given for it

# What may be --output itself, which --overwrite then saves anew from what was read.
SAVED_ANEW = ("--model", "--tokenizer", "SRC")


def check_places(read: Sequence[Named], written: Sequence[Named]) -> None:
    """Checks that nothing is written over what is read, into a directory that is read, or over something else that is
    written.

    Files are the same if they are the same on the disk, by whatever path or link. The directory of `--model`,
    `--tokenizer` or SRC may be the output itself, since it is read as a whole before it is replaced.

    Args:
        read: the files, directories, patterns and presets that are read. None, standard input, handles, names of
            presets, and what does not exist, are left out.
        written: the files and directories that are written, None for none. The first one is replaced as a whole, so
            nothing else may lie in it.

    Raises:
        UsageError: if something is, naming both; or if something that is written is the handle of a hub.
    """
    of_read = [(name, given, path) for name, given in read for path in _paths(name, given)]
    before: list[tuple[str, str]] = []
    for name, given in written:
        if given is None:
            continue
        if re.match(HANDLE, given):
            raise UsageError(
                f"{name} {given} is the handle of a hub, and the result is written on this machine. Give a place here; "
                f"`pyroberta upload DIR {given}` then uploads a model"
            )
        if before and (_is_same(given, before[0][1]) or _is_in(given, before[0][1])):
            raise UsageError(
                f"{name} {given} is inside {before[0][0]} {before[0][1]}, which is for the model only. Give another "
                "place"
            )
        for other, as_given, path in of_read:
            if _is_same(given, path):
                if not before and other in SAVED_ANEW:
                    continue
                also = other if given in (as_given, path) else f"{other} {as_given}"
                raise UsageError(f"{name} {given} is also {also}, and would replace it. Give another place")
            if os.path.isdir(path) and _is_in(given, path):
                raise UsageError(f"{name} {given} is inside {other} {as_given}, which is read. Give another place")
            if not before and _is_in(path, given):
                raise UsageError(
                    f"{other} {as_given} is inside {name} {given}, which is replaced as a whole. Give another {name}"
                )
        for other, as_given in read:
            if as_given and glob.has_magic(as_given) and _matches(given, as_given):
                raise UsageError(
                    f"{name} {given} has a name of {other} {as_given}, and would be read the next time. Give another "
                    "place"
                )
        for other, place in before:
            if _is_same(given, place):
                raise UsageError(f"{name} {given} is also {other}, and would replace it. Give another place")
        before.append((name, given))


def check_distinct(places: Sequence[str], kind: str | None) -> None:
    """Checks that no file is found twice: by its name, by another name or link, or in a directory or a pattern.

    `kind` is that of `data.paths.find`. What can't be found is left to the reading.

    Raises:
        UsageError: if one is. The message has both names.
    """
    if len(places) < 2:
        return
    owners: dict[tuple[int, int], str] = {}
    for i, place in enumerate(places):
        if place in places[:i]:
            raise UsageError(f"FILE {place} is given twice, and its texts would count twice: give it once")
        for file in _found(place, kind):
            status = os.stat(file)
            owner = owners.setdefault((status.st_dev, status.st_ino), place)
            if owner != place:
                raise UsageError(f"{file} is found twice, by FILE {owner} and by FILE {place}: give one of them")


def _found(place: str, kind: str | None) -> list[str]:
    """The files for which FILE stands; none if it can't be found."""
    from pyroberta.data.paths import find

    with contextlib.suppress(ValueError, OSError):
        return [file.path for file in find([os.path.expanduser(place)], kind).files if os.path.exists(file.path)]
    return []


def _paths(name: str, given: str | None) -> list[str]:
    """The paths for which something that is read stands; none for standard input and for a preset's name or handle."""
    if given is None or given == "-":
        return []
    if name in SAVED_ANEW:
        from pyroberta.presets.built_in import PRESETS

        if given in PRESETS:
            return []
    path = os.path.expanduser(given)
    if os.path.exists(path):
        return [path]
    return glob.glob(path, recursive=True) if glob.has_magic(path) else []


def _matches(given: str, pattern: str) -> bool:
    """Whether a pattern stands for the file, once it is written. One with `**` in its last part is not looked at."""
    folder, name = os.path.split(os.path.expanduser(pattern))
    if not fnmatch.fnmatchcase(os.path.basename(given), name):
        return False
    parent = os.path.dirname(os.path.expanduser(given)) or "."
    return any(_is_same(parent, one) for one in (glob.glob(folder, recursive=True) if folder else ["."]))


def _is_same(one: str | Path, other: str | Path) -> bool:
    one, other = os.path.expanduser(one), os.path.expanduser(other)
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    with contextlib.suppress(OSError, ValueError):  # one does not exist
        return os.path.samefile(one, other)
    return False


def _is_in(inner: str, outer: str) -> bool:
    """Whether `inner` is below the directory `outer`, or will be."""
    inner = os.path.realpath(os.path.expanduser(inner))
    return any(_is_same(parent, outer) for parent in Path(inner).parents)
