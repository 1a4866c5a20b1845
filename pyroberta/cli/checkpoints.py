"""The checkpoint of a training on the command line: a file from which it goes on bit for bit."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyroberta.formats.files import as_path
from pyroberta.training import checkpoint
from pyroberta.training.callbacks import Callback
from pyroberta.training.callbacks.base import Logs

FILE = "training.safetensors"


class Checkpoint(Callback):
    """Writes the state of a training into a directory at the end of each epoch, and whenever it is asked to.

    A checkpoint that can't be written is told once, and the training goes on.

    Args:
        directory: made where there is none.
        settings: what the course of the training follows from, by the names of options.
        every: updates between two checkpoints within an epoch; None for none.
        place: where the training saves its model.
    """

    def __init__(
        self, directory: str, settings: Mapping[str, Any], every: int | None = None, place: str | None = None
    ) -> None:
        super().__init__()
        self.directory, self.settings, self.every = directory, dict(settings), every
        self.file: Path = as_path(directory) / FILE
        self._place = None if place is None else os.path.abspath(as_path(place))
        self._has_failed = False

    def output(self) -> str | None:
        """Where the training that the checkpoint is of saves its model; None without a checkpoint."""
        if not self.file.exists():
            return None
        place = checkpoint.load(self.file)[1].get("output")
        return None if place is None else str(place)

    def resume(self, model: Any) -> bool:
        """Loads the checkpoint into a model that is compiled; whether there was one.

        Raises:
            ValueError: where it is damaged, or of a training with other settings, naming these.
        """
        if not self.file.exists():
            return False
        state, notes = checkpoint.load(self.file)
        before = notes.get("settings")
        if not isinstance(before, Mapping):
            raise ValueError(f"{self.file} is no checkpoint of the command line: it lacks its settings")
        for name in dict.fromkeys([*before, *self.settings]):
            was, now = before.get(name), self.settings.get(name)
            if was != now:
                raise ValueError(
                    f"the checkpoint in {self.directory} is of a training with {_setting(name, was)}, and this one has "
                    f"{_setting(name, now)}. Give the same texts and options, so that it goes on where that one was; "
                    f"or begin anew with another --checkpoint, and with --model from the model that was saved"
                )
        model.load_train_state(state)
        if told := checkpoint.of_other_backend(notes, model):
            print(f"pyroberta: {told}", file=sys.stderr)
        return True

    def check_free(self, *, overwrite: bool) -> None:
        """Checks that a new training replaces no checkpoint unasked.

        Raises:
            FileExistsError: where there is one, unless `overwrite`.
        """
        if self.file.exists() and not overwrite:
            raise FileExistsError(
                f"{self.directory} holds a checkpoint already. Give --resume to go on with it, another --checkpoint, "
                "or --overwrite to begin anew and replace it"
            )

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """A block in which no other training keeps its checkpoint in the directory. The lock ends with the process.

        Raises:
            ValueError: where another one does.
        """
        lock = None
        with contextlib.suppress(ImportError, OSError):  # Windows; no room; a file system without locks
            import fcntl

            self.file.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.file.parent, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                raise ValueError(
                    f"another training that is running keeps its checkpoint in {self.directory}. Wait for it, or give "
                    "another --checkpoint"
                ) from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # something is in it
                self.file.parent.rmdir()
            if lock is not None:
                os.close(lock)

    def save(self) -> bool:
        """Writes the state of the model's training; whether it could be written."""
        try:
            notes = {"settings": self.settings, "output": self._place, "backend": self.model.backbone.ops.name}
            checkpoint.save(self.file, self.model.train_state(), notes)
        except OSError as error:
            if not self._has_failed:
                print(f"pyroberta: no checkpoint could be written, and training goes on: {error}", file=sys.stderr)
            self._has_failed = True
            return False
        return True

    def remove(self) -> None:
        """Removes the checkpoint of a training that is done. `alone` removes its directory if nothing else is in it."""
        self.file.unlink(missing_ok=True)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Saves after each so many updates."""
        if self.every and self.model.optimizer.iterations % self.every == 0:
            self.save()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Saves."""
        self.save()


def digest(texts: Iterable[Any], labels: Iterable[Any] | None = None) -> str:
    """The SHA-256 of texts and labels, by which other texts are told.

    >>> digest(["a", "b"]) == digest(["ab"])
    False
    """
    found = hashlib.sha256()
    for value in (*texts, *(labels or ())):
        content = repr(value).encode("utf-8", "surrogatepass")
        found.update(len(content).to_bytes(8, "little") + content)
    return found.hexdigest()


def _setting(name: str, value: Any) -> str:
    if name.endswith("texts"):
        return f"the {name} {str(value)[:8]}"
    if value is None or value is False or value == []:
        return f"no --{name}"
    return f"--{name}" if value is True else f"--{name} {value}"
