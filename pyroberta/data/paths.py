"""The files for which a path stands: the file itself, the files of a directory, or the files that match a pattern."""

from __future__ import annotations

import glob
import os
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, NoReturn

from pyroberta.data.files import COMMANDS, File, split_suffixes
from pyroberta.data.kinds import KINDS, OF_SUFFIX, OTHERS
from pyroberta.formats.budget import printable, shown
from pyroberta.formats.counts import agreeing

NO_TEXT = "To pass one text, pass a list: ['…']"
NO_STDIN = "For standard input, pass sys.stdin; for a file, its path"
INFERRED = "label='inferred'"  # without a column, as labels="inferred" of Keras's text_dataset_from_directory

MOST_NAMES = 8  # of files, and of rows with a missing value, in a message


class Found(NamedTuple):
    """The files to read.

    Attributes:
        name: the paths that were given, for messages.
        files: the names of the files, in the order in which they are read.
        kind: the kind of all files, a key of `KINDS`.
        left_out: the names of the entries of a directory that are not read.
        paths: the number of paths in the name.
    """

    name: str
    files: tuple[File, ...]
    kind: str
    left_out: tuple[str, ...] = ()
    paths: int = 1


def some_names(names: Sequence[str]) -> str:
    """Returns the first names, and the number of the others.

    >>> some_names(["a.txt", "b.txt"])
    'a.txt, b.txt'
    >>> some_names("abcdefghij")
    'a, b, c, d, e, f, g, h and 2 more'
    """
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return printable(", ".join(names[:MOST_NAMES]) + more)


def find(paths: Sequence[str], kind: str | None, *, in_folders: bool = False) -> Found:
    """Returns the files for which the paths stand. The files of each path are sorted by name.

    - A directory stands for all files in it and below it whose names have the suffix of a kind that can be read. Hidden
      files, pipes, and links to directories or to nothing are left out.
    - A path with `*`, `?`, `[…]` or `**` that is not a file itself stands for the files that match. Each file occurs
      once.
    - The kind follows from the suffixes of the names, unless `kind` names it. A file without a known suffix is text.
    - With `in_folders`, files that are directly in a directory are left out, of whatever kind they are.

    Raises:
        FileNotFoundError: if no file is found.
        ValueError: if the files are of several kinds, or of a kind that can't be read.
    """
    check_kind(kind)
    names: list[str] = []
    left_out: list[str] = []
    for path in paths:
        found, others = _files_of(path, kind)
        if in_folders and os.path.isdir(path):
            directory = os.path.dirname(os.path.join(path, ""))
            others += [name for name in found if os.path.dirname(name) == directory]
            found = [name for name in found if os.path.dirname(name) != directory]
        names += found
        left_out += others
    kinds = {name: kind or kind_of(name) for name in names}
    if len(set(kinds.values())) > 1:
        of_kind = {found: name for name, found in reversed(kinds.items())}
        some = ", ".join(f"{printable(name)} ({KINDS[found].title})" for found, name in sorted(of_kind.items()))
        most = Counter(kinds.values()).most_common(1)[0][0]
        pattern = os.path.join(paths[0], "**", f"*{KINDS[most].suffixes[0]}")
        example = f", such as {pattern!r}" if os.path.isdir(paths[0]) else ""
        advice = "Leave only text files in the folders" if in_folders else f"Name only the files of one kind{example}"
        raise ValueError(f"the files of {some_names(paths)} are of several kinds: {some}. {advice}")
    files = tuple(File(name, split_suffixes(name)[1]) for name in names)
    return Found(some_names(paths), files, next(iter(kinds.values()), kind or "text"), tuple(left_out), len(paths))


def by_folder(paths: Sequence[str], found: Found) -> Found:
    """Returns the files that `find` found in folders, each with the name of its folder, which is directly below one of
    the directories `paths`.

    The files of the classes alternate, so that the files of a batch, or the last files, are not all of one class.
    Folders without files are left out.

    Raises:
        ValueError: if a path is not a directory, a file is not a text file, the name of a folder is blank, or fewer
            than two folders have files.
    """
    message = f"{INFERRED} takes the names of the folders in a directory"
    holds, has = agreeing(len(paths), "holds"), agreeing(len(paths), "has")
    for path in paths:
        if not os.path.isdir(path):
            raise ValueError(
                f"{message}, but {printable(path)} is not a directory. Pass the directory that holds the folders"
            )
    if found.kind != "text":
        raise ValueError(f"{message}, each file of which is a text, and {found.name} {holds} {KINDS[found.kind].title}")
    files: dict[str, list[File]] = {}
    left_out = list(found.left_out)
    for file in found.files:
        root = next(path for path in paths if file.path.startswith(os.path.join(path, "")))
        folder = os.path.relpath(file.path, root).split(os.sep)[0]
        files.setdefault(folder, []).append(replace(file, folder=folder))
    left_out += _empty_folders(paths, [*(file.path for file in found.files), *left_out])
    if blank := [name for name in files if not name.strip()]:
        raise ValueError(f"{message}, and {found.name} {has} a folder with the blank name {blank[0]!r}. Rename it")
    if len(files) < 2:
        some = f"files in the folder {next(iter(files))!r} alone" if files else "no folder with files"
        others = f". Left out {some_names(left_out)}" if left_out else ""
        raise ValueError(f"{message}, a folder for each class, and {found.name} {has} {some}{others}")
    turns = [((i + 0.5) / len(some), name, file) for name, some in sorted(files.items()) for i, file in enumerate(some)]
    in_turn = tuple(file for _, _, file in sorted(turns, key=lambda turn: turn[:2]))
    return found._replace(files=in_turn, left_out=tuple(left_out))


def _empty_folders(paths: Sequence[str], names: Sequence[str]) -> list[str]:
    """The folders directly below `paths`, with a separator behind each, that hold none of the names of files."""
    found: list[str] = []
    for root in (os.path.join(path, "") for path in paths):
        full = {name[len(root) :].split(os.sep, 1)[0] for name in names if name.startswith(root)}
        with os.scandir(root) as entries:
            folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        found += [f"{root}{name}{os.sep}" for name in sorted(folders) if name not in full and not name.startswith(".")]
    return found


def check_kind(kind: str | None) -> None:
    """Checks that a kind is one of `KINDS`, or None.

    Raises:
        ValueError: if it is not.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")


def kind_of(name: str) -> str:
    """Returns the kind of a file by its name. A name without a known suffix is that of a text file.

    Raises:
        ValueError: if the kind can't be read.
    """
    suffix, _ = split_suffixes(name)
    if suffix in OTHERS:
        description, line = OTHERS[suffix]
        advice = f"Pass its table and column=: {line.format(name=repr(name))}" if line else "Convert it to a text file"
        raise ValueError(f"{printable(name)} is {description}, which is not read. {advice}")
    return OF_SUFFIX.get(suffix, "text")


def _files_of(path: str, kind: str | None) -> tuple[list[str], list[str]]:
    """The files of one path, and those of a directory that are left out."""
    if os.path.isdir(path):
        return _of_directory(path, kind)
    if os.path.exists(path):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            raise ValueError(f"{printable(path)} is a socket, which can't be read as a file. Give a file or a pipe")
        return [path], []
    if glob.has_magic(path) and len(path) < 4096 and "\0" not in path:
        matching = glob.glob(path, recursive=True)
        found = sorted(filter(os.path.isfile, matching))
        # ** stands for directories, and what is in them; other signs stand for files
        others = sorted(name for name in set(matching) - set(found) if "**" not in path or not os.path.isdir(name))
        once = {os.path.realpath(name): name for name in sorted(found, key=len, reverse=True)}  # links may lead round
        if found:
            return sorted(once.values()), sorted({*found, *others} - set(once.values()))
        no_files = f" {some_names(others)}: no plain file, and read only by its own name" if others else ""
        raise FileNotFoundError(f"no file matches {shown(path)}{' but' * bool(others)}{no_files}. {NO_TEXT}")
    advice = NO_STDIN if path == "-" else NO_TEXT
    raise FileNotFoundError(f"there is no file {shown(path)}. {advice}")


def _of_directory(path: str, kind: str | None) -> tuple[list[str], list[str]]:
    found: list[str] = []
    links: list[str] = []  # to directories, which may lead round in circles
    for parent, directories, names in os.walk(path, onerror=_raise):
        directories[:] = [name for name in directories if not name.startswith(".")]
        links += filter(os.path.islink, (os.path.join(parent, name) for name in directories))
        found += [os.path.join(parent, name) for name in names if not name.startswith(".")]
    found.sort(key=lambda name: name.split(os.sep))
    known = [name for name in found if (kind or split_suffixes(name)[0] in OF_SUFFIX) and os.path.isfile(name)]
    if not known:
        some = f" and holds {some_names(found)}" if found else " and holds no file"
        ends = ", ".join(sorted(OF_SUFFIX))
        if found and not any(map(os.path.isfile, found)):
            raise FileNotFoundError(f"{printable(path)} is a directory{some}: pipes, devices and links, no plain file")
        raise FileNotFoundError(
            f"{printable(path)} is a directory{some}. Files with a known suffix are read ({ends}, also compressed: "
            f"{', '.join(COMMANDS)}). To read other files, name their kind in "
            "pyroberta.data.open_source: kind='text'"
        )
    return known, [name for name in found if name not in set(known)] + sorted(links)


def _raise(error: OSError) -> NoReturn:
    raise error
