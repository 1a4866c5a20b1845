"""The callback that writes the logs of each epoch into a CSV file."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import os
import reprlib
import stat
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pyroberta.formats.budget import printable
from pyroberta.formats.files import as_path
from pyroberta.model.attributes import Checks, Reasons, true_or_false
from pyroberta.model.callers import callers_level
from pyroberta.training.callbacks.base import Callback, Logs

_LONGEST_HEADER = 1 << 16  # bytes


def _separator(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) != 1 or value in '"\r\n':
        raise ValueError(f"{name} must be one character, and not a quote or a newline, got {value!r}")
    return value


def _filename(name: str, value: Any) -> str:
    return str(as_path(value))


class CSVLogger(Callback):
    """Writes a row for each epoch into a CSV file. Written rows stay, even if the run fails.

    If the disk is full, no part of the row is written, and `fit` ends with an OSError that names the file.

    Args:
        filename: the file. It and its parents are created if needed, and `~` is expanded. Its columns are `epoch` (from
            0, as in Keras) and the logs of the first epoch.
        separator: the character between columns.
        append: whether rows are added to an existing file, under its columns. Otherwise it is replaced.

    Raises:
        ValueError: if the separator is not one character, or the filename is empty; in training, if the file is a pipe,
            or with `append` if the file is not a log with this separator. Then the file does not change.

    Warns:
        UserWarning: in training, once, if the file lacks a column for an entry of the logs.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "log.csv")
    >>> logger = CSVLogger(path)
    >>> logger.on_train_begin()
    >>> logger.on_epoch_end(0, {"loss": 2.5})
    >>> path.read_text().split()
    ['epoch,loss', '0,2.5']
    """

    checks: ClassVar[Checks] = {"append": true_or_false, "separator": _separator, "filename": _filename}
    unsettable: ClassVar[Reasons] = {
        "sep": "set separator",
        "keys": "the first row of the file decides the columns",
        "append_header": "set append",
        "csv_file": "set filename",
        "writer": "set filename and separator",
    }
    state_kinds: ClassVar[Mapping[str, Any]] = {"columns": list, "before": int, "content": str}

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename = str(as_path(filename))
        self.separator = separator
        self.append = append
        self._columns: list[str] = []
        self._before = 0  # bytes of the file when training began
        self._has_warned = False

    @property
    def exclusive_file(self) -> str | None:
        """Returns the file, if it is a plain one, since rows may go nowhere from several callbacks."""
        return self.filename if os.path.isfile(self.filename) or not os.path.exists(self.filename) else None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Creates the file, or reads the columns of the existing one."""
        self._columns, self._before, self._has_warned = [], 0, False
        path = Path(self.filename)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not (path.is_dir() or path.is_file() or stat.S_ISCHR(path.stat().st_mode)):
            raise ValueError(f"CSVLogger's {printable(self.filename)} is a pipe or a device. Give a plain file")
        with open(path, "ab+" if self.append else "wb") as file:
            if not self.append:
                return
            file.seek(0)
            first = file.read(_LONGEST_HEADER)
            if first:
                self._columns = self._columns_of(first)
                file.seek(-1, os.SEEK_END)
                if file.read(1) not in (b"\n", b"\r"):  # the last row would go on in the same line
                    file.write(b"\n")
                self._before = file.seek(0, os.SEEK_END)

    def _columns_of(self, beginning: bytes) -> list[str]:
        """The columns of an existing file, by its first row.

        Raises:
            ValueError: if that is no log's.
        """
        try:
            text = codecs.getincrementaldecoder("utf-8-sig")("replace").decode(beginning)  # of the first row alone
            columns = next(csv.reader(io.StringIO(text, newline=""), delimiter=self.separator), [])
        except csv.Error:
            columns = []
        if "epoch" not in columns:
            raise ValueError(
                f"append=True continues {printable(self.filename)}, whose first line has no column 'epoch' between "
                f"separators {self.separator!r}, but {reprlib.repr(beginning)}: give the file's own separator, or "
                "another filename"
            )
        return columns

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Writes the row. A column that the logs lack has `NA`."""
        row = {"epoch": epoch, **(logs or {})}
        columns = self._columns or [*row, *self._evaluated_later(row)]
        unknown = [name for name in row if name not in columns]
        if unknown and not self._has_warned:
            warnings.warn(
                printable(
                    f"{self.filename} has no column for {', '.join(unknown)}, so CSVLogger leaves them out; its "
                    f"columns are {', '.join(columns)}. To write all of them, give another filename"
                ),
                stacklevel=callers_level(),
            )
            self._has_warned = True  # and not raised as an error
        header, values = self._line(columns), self._line([row.get(column, "NA") for column in columns])
        self._append(values, b"" if self._columns else header, header)
        self._columns = columns

    def _line(self, values: list[Any]) -> bytes:
        text = io.StringIO()
        csv.writer(text, delimiter=self.separator, lineterminator="\n").writerow(values)
        return text.getvalue().encode()

    def _evaluated_later(self, row: Mapping[str, Any]) -> list[str]:
        """The columns of an evaluation that an epoch without one, by `validation_freq`, lacks."""
        if not self.params.get("do_validation") or any(name.startswith("val_") for name in row):
            return []
        return [f"val_{name}" for name in self.model.metrics_names]

    def get_state(self) -> dict[str, Any]:
        """See `Callback.get_state`."""
        content = b""
        if self._columns and os.path.isfile(self.filename):
            with open(self.filename, "rb") as file:
                file.seek(self._before)
                content = file.read()
        return {"columns": self._columns, "before": self._before, "content": content.decode()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Writes the rows of the run again, without later ones, since their epochs are trained again. What was in the
        file before the run stays; if it is no longer there, the rows get a header.
        """
        content, before = state["content"].encode(), state["before"]
        header = b""
        if os.path.isfile(self.filename):
            if os.path.getsize(self.filename) < before:
                header, before = self._line(state["columns"]), 0
            os.truncate(self.filename, before)
        self._columns, self._before = list(state["columns"]), before
        if content:
            self._append(header + content)
        elif header:
            self._columns = []

    def _append(self, row: bytes, header: bytes = b"", header_of_new: bytes = b"") -> None:
        """Writes a row behind a header; behind another one where the file is empty, or was removed meanwhile."""
        Path(self.filename).parent.mkdir(parents=True, exist_ok=True)
        with open(self.filename, "ab", buffering=0) as file:
            before, done = file.tell(), 0
            content = (header if before else header_of_new) + row
            try:
                while done < len(content):
                    done += file.write(content[done:])
            except OSError as error:
                with contextlib.suppress(OSError):
                    file.truncate(before)
                raise type(error)(
                    error.errno,
                    f"CSVLogger can't write a row of {len(content)} bytes to {printable(self.filename)}: "
                    f"{error.strerror}. The rows before it are complete. Free some space, and continue with "
                    "append=True",
                ) from error
