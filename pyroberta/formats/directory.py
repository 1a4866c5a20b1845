"""A directory whose files are read only once, and the kinds of directories that a save may replace."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pyroberta.formats.files import NamedPath, as_path, contents, exists, read_bytes, read_json, shown

T = TypeVar("T")


class Directory(os.PathLike[str]):
    """A directory that keeps the content that was read, so that no file is read twice.

    `directory / name` is the path of a file in it. All callers share the content, so it must not be changed.

    Args:
        path: the path of the directory.

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
        self.path: Path = NamedPath(path)
        self._read: dict[tuple[Callable[[Path], Any], str], Any] = {}

    @classmethod
    def of(cls, given: str | os.PathLike[str]) -> Directory:
        """Returns the directory of a path that a user gave, with `~` expanded. A `Directory` is returned as it is.

        Raises:
            ValueError: see `as_path`.
        """
        return given if isinstance(given, Directory) else cls(as_path(given))

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __format__(self, form: str) -> str:
        return format(self.path, form)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def has(self, name: str) -> bool:
        """Returns whether the directory has an entry of this name; see `exists`."""
        return exists(self / name)

    def bytes(self, name: str) -> bytes:
        """Returns the content of a small file; see `read_bytes`."""
        return read_bytes(self / name)

    def json(self, name: str) -> Mapping[str, Any]:
        """Returns the object in a JSON file; see `read_json`."""
        return self.once(read_json, name)

    def once(self, read: Callable[[Path], T], name: str) -> T:
        """Returns the result of `read` for the file of this name. `read` is called only once for each file."""
        if (read, name) not in self._read:
            self._read[read, name] = read(self.path / name)
        found: T = self._read[read, name]
        return found


@dataclass(frozen=True)
class Kind:
    """A kind of directory that a save may replace.

    Attributes:
        name: the name of such a directory, for messages.
        mark: the file that every such directory has.
        fits: a function that returns whether the object in that file is of this kind.
        others: kinds that may be replaced too, if that file is missing.
    """

    name: str
    mark: str
    fits: Callable[[Mapping[str, Any]], bool]
    others: tuple[Kind, ...] = ()

    def refusal(self, directory: Path) -> str:
        """Returns the reason why a directory is not of this kind, in words that follow its name. It is empty if the
        directory is of this kind.
        """
        file = directory / self.mark
        if not file.is_file():
            if any(not other.refusal(directory) for other in self.others):
                return ""
            return f"it holds files ({contents(directory, 3)}) but no {self.mark}, so it is not a {self.name}"
        try:
            values = read_json(file)
        except (OSError, ValueError) as error:
            return f"it is not a {self.name} that can be read: {error}"
        if self.fits(values):
            return ""
        identity = {
            key: values[key] for key in ("model_type", "registered_name", "peft_type") if key in values
        } or values
        return (
            f"its {self.mark} belongs to another program or model, and not to a {self.name}: it has {shown(identity)}"
        )
