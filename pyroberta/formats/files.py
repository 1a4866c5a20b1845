"""Small files of a preset, read whole: their bytes, and JSON as it should be.

A preset may come from anywhere. What is read here is limited in size and depth, so that no file takes more memory or
time than a model's own can need, and a name that is no plain file (a pipe would wait forever) is an error.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from pyroberta.formats.budget import Budget, clipped
from pyroberta.formats.budget import shown as shown  # most who read files show what they found

LARGEST = 20_000_000  # bytes; the tokenizer.json of roberta-base has 2 million
MOST_STEPS = 3_000_000  # a value is one, a container STEPS_PER_CONTAINER; roberta-base's tokenizer.json takes 400,000
STEPS_PER_CONTAINER = 5
DEEPEST = 32  # containers in each other
LONGEST_NUMBER = 40  # digits of a whole number
LONGEST_NAME = 60  # letters of a file's name in a list of them


def contents(directory: Path, most: int = 8) -> str:
    """The first names in a directory, for a message."""
    names = sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []
    first = ", ".join(clipped(name, LONGEST_NAME) for name in names[:most])
    return first + (f", … and {len(names) - most} more" if len(names) > most else "") or "nothing"


def as_path(given: str | bytes | os.PathLike[str]) -> Path:
    """The path that a user gave, with `~` expanded.

    Raises:
        TypeError: for what is no path.
        ValueError: for an empty text, which would be the working directory, a null character, or the sign of a home
            directory that there isn't.

    >>> as_path("")
    Traceback (most recent call last):
    ValueError: '' is no path. The working directory is '.'
    """
    name = os.fsdecode(given)
    if not name:
        raise ValueError("'' is no path. The working directory is '.'")
    if "\0" in name:
        raise ValueError(f"{shown(name)} is no path: it has a null character")
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise ValueError(f"{shown(name)}: there is no such home directory. Write the path out") from None


def exists(path: Path) -> bool:
    """Whether there is something of that name. A link that leads nowhere is damage, and no absence.

    Raises:
        FileNotFoundError: for such a link, telling its target.
        OSError: where it can't be looked at, of the kind that the system gave.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if not path.is_symlink():
            return False
        raise FileNotFoundError(
            f"{path} is a link to {clipped(os.readlink(path))}, which isn't there. Was it copied without what it "
            "points to? Copy that too (`cp -rL`), or remove the link"
        ) from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # for any file
            return False
        reason = "its symbolic links lead round in a circle" if error.errno == errno.ELOOP else error.strerror
        raise type(error)(error.errno, f"{path} can't be looked at: {reason}") from None
    return True


def check_file(file: Path) -> None:
    """Checks that `file` is a plain file.

    Raises:
        FileNotFoundError: where there is nothing of that name, telling what there is; or a link that leads nowhere.
        ValueError: where it is a directory, a pipe or the like.
        OSError: as `exists`.
    """
    if not exists(file):
        raise FileNotFoundError(f"{file.parent} has no {file.name}; it has {contents(file.parent)}")
    if not file.is_file():
        raise ValueError(f"{file} is {'a directory' if file.is_dir() else 'a pipe or a device'}, not a plain file")


def read_bytes(file: Path, most: int = LARGEST) -> bytes:
    """A plain file's content.

    Raises:
        FileNotFoundError, ValueError: as `check_file`; ValueError too where it has more than `most` bytes.
        OSError: where it can't be read, of the kind that the system gave.
    """
    check_file(file)
    try:
        with open(file, "rb") as opened:
            content = opened.read(most + 1)
    except OSError as error:
        raise type(error)(f"{file} can't be read: {error.strerror}") from None
    if len(content) > most:
        raise ValueError(f"{file} has more than {most} bytes, the most that are read of such a file")
    return content


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it isn't JSON, or not an object, or more than `parse_json` takes.
    """
    return parse_json(read_bytes(file), str(file))


def parse_json(content: bytes, name: str) -> dict[str, Any]:
    """The object that `content` is, in UTF-8.

    Raises:
        ValueError: where it isn't one, has a key twice, a number that isn't finite or is absurdly long, half of a
            surrogate pair, or containers that are too many or too deep in each other; the message begins with `name`.

    >>> parse_json(b'{"a": 1, "a": 2}', "config.json")
    Traceback (most recent call last):
    ValueError: config.json isn't valid JSON: it has the key 'a' twice
    """
    budget = Budget(name, len(content), steps=MOST_STEPS)
    containers, values_more = content.count(b"{") + content.count(b"["), content.count(b",")
    budget.step(f"JSON of {containers} containers", STEPS_PER_CONTAINER * containers)
    budget.step(f"JSON of {values_more} values", values_more)
    try:
        text = content.decode("utf-8-sig")
        values = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_constant, parse_float=_float, parse_int=_int
        )
        if re.search(r"\\u[dD][89a-fA-F]", text):
            json.dumps(values, ensure_ascii=False).encode()  # raises where a surrogate has lost its other half
    except ValueError as error:
        raise ValueError(f"{name} isn't valid JSON: {clipped(str(error))}") from None
    except RecursionError:
        raise ValueError(f"{name} has containers in containers without end, which no model needs") from None
    if not isinstance(values, dict):
        raise ValueError(f"{name} should hold a JSON object, it holds a {type(values).__name__}")
    level: list[Any] = [values]
    for _ in range(DEEPEST):
        parts = (part for one in level for part in (one.values() if isinstance(one, dict) else one))
        level = [part for part in parts if isinstance(part, (dict, list))]
        if not level:
            return values
    raise ValueError(f"{name} has containers more than {DEEPEST} deep in each other, which no model needs")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"it has the key {shown(twice)} twice")
    return values


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON's")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shown(text)} is too large a number")
    return value


def _int(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"{shown(text)} is too long a number")
    return int(text)


def number(file: Path, values: Mapping[str, Any], key: str, default: int | float) -> Any:
    """The number of that key in an object of `file`, whole where the default is; the default where the key is missing.

    Raises:
        ValueError: where it is no such number, or a whole one below 0.
    """
    value = values.get(key, default)
    whole = isinstance(default, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise ValueError(f"{file}: {key} should be a {'whole ' if whole else ''}number, got {shown(value)}")
    if whole and value < 0:
        raise ValueError(f"{file}: {key} should be at least 0, got {value}")
    return value if whole else float(value)
