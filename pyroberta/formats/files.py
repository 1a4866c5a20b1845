"""Small files of a preset, which are read as a whole: their bytes, or the JSON object that they hold.

A preset may come from anywhere. Size and depth of a file are limited, so that no file takes more memory or time than a
file of a model can need. A name that is not that of a plain file is an error, since reading a pipe would never end.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pyroberta.formats.budget import Budget, clipped, printable, type_of
from pyroberta.formats.budget import shown as shown  # most who read files show what they found

LARGEST = 20_000_000  # bytes; the tokenizer.json of roberta-base has 2 million
MOST_STEPS = 3_000_000  # a value is one, a container STEPS_PER_CONTAINER; roberta-base's tokenizer.json takes 400,000
STEPS_PER_CONTAINER = 5
DEEPEST = 32  # containers in each other
LONGEST_NUMBER = 40  # digits of a whole number
LONGEST_NAME = 60  # letters of a file's name in a list of them

if TYPE_CHECKING:
    _SystemsPath = Path
else:
    _SystemsPath = type(Path())  # Path itself has no subclasses before Python 3.12


class NamedPath(_SystemsPath):
    """A path whose name is safe for a terminal where an f-string writes it. `str` gives the name itself.

    >>> path = NamedPath("a\\x1b[2J") / "b"
    >>> print(f"{path}"), str(path) == "a\\x1b[2J/b"
    a\\x1b[2J/b
    (None, True)
    """

    def __format__(self, form: str) -> str:
        return format(printable(str(self)), form)


def contents(directory: Path, most: int = 8) -> str:
    """Returns the first names in a directory, for a message."""
    names = sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []
    first = ", ".join(clipped(name, LONGEST_NAME) for name in names[:most])
    return first + (f", … and {len(names) - most} more" if len(names) > most else "") or "nothing"


def as_path(given: str | bytes | os.PathLike[str]) -> Path:
    """Returns the path that a user gave, with `~` expanded.

    Raises:
        TypeError: if it is not a path.
        ValueError: if the text is empty (which would mean the working directory), has a null character, or begins with
            the `~` of a home directory that does not exist.

    >>> as_path("")
    Traceback (most recent call last):
    ValueError: '' is not a path. The working directory is '.'
    """
    if not isinstance(given, str | bytes | os.PathLike):
        raise TypeError(f"a path should be a text or a pathlib.Path, got {shown(given)}")
    name = os.fsdecode(given)
    if not name:
        raise ValueError("'' is not a path. The working directory is '.'")
    if "\0" in name:
        raise ValueError(f"{shown(name)} is not a path: it has a null character")
    try:
        return NamedPath(name).expanduser()
    except RuntimeError:
        raise ValueError(f"{shown(name)}: the home directory does not exist. Write the whole path") from None


def exists(path: Path) -> bool:
    """Returns whether a name exists. A link that leads nowhere is an error, and does not count as missing.

    Raises:
        FileNotFoundError: if the name is a link that leads nowhere. The message has its target.
        OSError: if the name can't be accessed. The error has the class of the system's error.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if not path.is_symlink():
            return False
        raise FileNotFoundError(
            f"{path} is a link to {clipped(os.readlink(path))}, which does not exist. Copy the target of the link too "
            "(`cp -rL`), or remove the link"
        ) from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # for any file
            return False
        reason = "its symbolic links form a circle" if error.errno == errno.ELOOP else error.strerror
        raise type(error)(error.errno, f"{path} can't be accessed: {reason}") from None
    return True


def check_file(file: Path) -> None:
    """Checks that `file` is a plain file.

    Raises:
        FileNotFoundError: if the file does not exist (the message lists the directory), or is a link that leads
            nowhere.
        ValueError: if it is a directory, a pipe or a device.
        OSError: see `exists`.
    """
    if not exists(file):
        raise FileNotFoundError(f"{file.parent} has no {printable(file.name)}; it has {contents(file.parent)}")
    if not file.is_file():
        raise ValueError(f"{file} is {'a directory' if file.is_dir() else 'a pipe or a device'}, not a plain file")


def read_bytes(file: Path, most: int = LARGEST) -> bytes:
    """Returns the content of a plain file.

    Raises:
        FileNotFoundError, ValueError: see `check_file`. ValueError also if the file has more than `most` bytes.
        OSError: if the file can't be read. The error has the class of the system's error.
    """
    check_file(file)
    try:
        with open(file, "rb") as opened:
            content = opened.read(most + 1)
    except OSError as error:
        raise type(error)(f"{file} can't be read: {error.strerror}") from None
    if len(content) > most:
        raise ValueError(f"{file} has more than {most} bytes, the limit for such a file")
    return content


def read_json(file: Path) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is not JSON, does not hold an object, or exceeds a limit of `parse_json`.
    """
    return parse_json(read_bytes(file), f"{file}")


def parse_json(content: bytes, name: str) -> dict[str, Any]:
    """Returns the JSON object in `content`, which is UTF-8.

    Raises:
        ValueError: if the content is not a JSON object, has a key twice, a number that is not finite or is absurdly
            long, or half of a surrogate pair, or if its containers are too many or nested too deep. The message begins
            with `name`.

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
        raise ValueError(f"{name} has containers nested without end, which no model needs") from None
    if not isinstance(values, dict):
        raise ValueError(f"{name} should hold a JSON object, it holds {type_of(values)}")
    level: list[Any] = [values]
    for _ in range(DEEPEST):
        parts = (part for one in level for part in (one.values() if isinstance(one, dict) else one))
        level = [part for part in parts if isinstance(part, (dict, list))]
        if not level:
            return values
    raise ValueError(f"{name} has containers nested more than {DEEPEST} deep, which no model needs")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"it has the key {shown(twice)} twice")
    return values


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number of JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shown(text)} is too large a number: write one that float64 has, at most 1.8e308")
    return value


def _int(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(
            f"{shown(text)} is too long a number, of {len(text)} characters: at most {LONGEST_NUMBER} are read"
        )
    return int(text)


def boolean(file: os.PathLike[str], values: Any, key: str, default: bool) -> bool:
    """Returns the true or false of a key in an object of `file`; or the default, if the key is missing or null, or
    `values` is no object.

    Raises:
        ValueError: if the value is anything else.
    """
    value = values.get(key) if isinstance(values, Mapping) else None
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{file}: {key} should be true or false, got {shown(value)}")
    return default if value is None else value


def number(file: Path, values: Mapping[str, Any], key: str, default: int | float) -> Any:
    """Returns the number of a key in an object of `file`, or the default if the key is missing. If the default is
    whole, the number must be whole.

    Raises:
        ValueError: if the value is not such a number, or is a whole number below 0.
    """
    value = values.get(key, default)
    whole = isinstance(default, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise ValueError(f"{file}: {key} should be a {'whole ' if whole else ''}number, got {shown(value)}")
    if whole and value < 0:
        raise ValueError(f"{file}: {key} should be at least 0, got {value}")
    return value if whole else float(value)
