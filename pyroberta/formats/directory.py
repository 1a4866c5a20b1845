"""A directory of which each file is read once, and the kinds of directories that a save may replace."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pyroberta.formats.files import as_path, contents, exists, read_bytes, read_json, shown

T = TypeVar("T")


class Directory(os.PathLike[str]):
    """A directory that remembers what was read of it, so that nobody reads a file twice.

    `directory / name` is the path of a file in it. What is read is shared by all who ask, so it must not be changed.

    Args:
        path: of the directory.

    >>> import tempfile
    >>> directory = Directory(Path(tempfile.mkdtemp()))
    >>> _ = (directory / "config.json").write_text('{"model_type": "roberta"}')
    >>> directory.json("config.json")
    {'model_type': 'roberta'}
    >>> (directory / "config.json").unlink()
    >>> directory.json("config.json")
    {'model_type': 'roberta'}
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: dict[tuple[Callable[[Path], Any], str], Any] = {}

    @classmethod
    def of(cls, given: str | os.PathLike[str]) -> Directory:
        """The directory of a path that a user gave, with `~` expanded; a `Directory` is returned as it is.

        Raises:
            ValueError: as `as_path`.
        """
        return given if isinstance(given, Directory) else cls(as_path(given))

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def has(self, name: str) -> bool:
        """Whether there is something of that name; see `exists`."""
        return exists(self / name)

    def bytes(self, name: str) -> bytes:
        """The content of a small file; see `read_bytes`."""
        return read_bytes(self / name)

    def json(self, name: str) -> Mapping[str, Any]:
        """The object in a JSON file; see `read_json`."""
        return self.once(read_json, name)

    def once(self, read: Callable[[Path], T], name: str) -> T:
        """What `read` makes of the file of that name, which it is called for once."""
        if (read, name) not in self._read:
            self._read[read, name] = read(self.path / name)
        found: T = self._read[read, name]
        return found


@dataclass(frozen=True)
class Kind:
    """A kind of directory that a save may replace.

    Attributes:
        name: of one, for messages.
        mark: the file that every one has.
        fits: whether the object in that file is one of this kind's.
        others: kinds that may be replaced too, where there is no such file.
    """

    name: str
    mark: str
    fits: Callable[[Mapping[str, Any]], bool]
    others: tuple[Kind, ...] = ()

    def refusal(self, directory: Path) -> str:
        """Why a directory is none of this kind, with words that follow its name; empty where it is one."""
        file = directory / self.mark
        if not file.is_file():
            if any(not other.refusal(directory) for other in self.others):
                return ""
            return f"it holds files ({contents(directory, 3)}) but no {self.mark}, so it is no {self.name}"
        try:
            values = read_json(file)
        except (OSError, ValueError) as error:
            return f"it is no {self.name} that can be read: {error}"
        if self.fits(values):
            return ""
        identity = {
            key: values[key] for key in ("model_type", "registered_name", "peft_type") if key in values
        } or values
        return f"its {self.mark} is another program's or model's, and no {self.name}'s: it says {shown(identity)}"
