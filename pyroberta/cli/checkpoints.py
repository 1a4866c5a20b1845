"""The checkpoint of a training on the command line: a file from which the training continues with the same bits."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyroberta.formats.files import as_path, exists
from pyroberta.formats.locks import lock, unlock
from pyroberta.training import checkpoint
from pyroberta.training.callbacks import Callback
from pyroberta.training.callbacks.base import Logs

FILE = "training.safetensors"


class Checkpoint(Callback):
    """Writes the state of a training into a directory at the end of each epoch, and when `save` is called.

    If a checkpoint can't be written, a message says so once, and the training continues.

    Args:
        directory: the directory of the checkpoint, which is created if needed.
        settings: the settings that decide the course of the training, by the names of options.
        every: the number of updates between two checkpoints within an epoch. None for no checkpoint within an epoch.
        place: the directory in which the training saves its model.
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
        """Returns the directory in which the training of the checkpoint saves its model, or None without a
        checkpoint.
        """
        if not exists(self.file):
            return None
        place = checkpoint.load(self.file)[1].get("output")
        return None if place is None else str(place)

    def resume(self, model: Any) -> bool:
        """Loads the checkpoint into a compiled model. Returns whether there was a checkpoint.

        Raises:
            ValueError: if it is damaged, or belongs to a training with other settings. The message names them.
        """
        if not exists(self.file):
            return False
        state, notes = checkpoint.load(self.file)
        before = notes.get("settings")
        if not isinstance(before, Mapping):
            raise ValueError(f"{self.file} is not a checkpoint of the command line: it lacks the settings")
        for name in dict.fromkeys([*before, *self.settings]):
            was, now = before.get(name), self.settings.get(name)
            if was != now:
                raise ValueError(
                    f"the checkpoint in {self.directory} belongs to a training with {_setting(name, was)}, but this "
                    f"one has {_setting(name, now)}. Give the same texts and options to continue that training; or "
                    "start a new one with another --checkpoint, and with --model for the saved model"
                )
        model.load_train_state(state)
        if message := checkpoint.of_other_backend(notes, model):
            print(f"pyroberta: {message}", file=sys.stderr)
        return True

    def check_free(self, *, overwrite: bool) -> None:
        """Checks that a new training does not replace a checkpoint by accident.

        Raises:
            FileExistsError: if there is one and `overwrite` is False.
        """
        if exists(self.file) and not overwrite:
            raise FileExistsError(
                f"{self.directory} holds a checkpoint already. Give --resume to continue from it, another "
                "--checkpoint, or --overwrite to start a new training and replace it"
            )

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """A `with` block in which no other training may write its checkpoint into the directory. The lock ends with the
        process.

        Raises:
            ValueError: if another training does.
        """
        try:
            held = lock(self.file.parent)
        except BlockingIOError:
            raise ValueError(
                f"another running training has its checkpoint in {self.directory}. Wait until it has ended, or "
                "give another --checkpoint"
            ) from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # something is in it
                self.file.parent.rmdir()
            unlock(held)

    def save(self) -> bool:
        """Writes the state of the model's training. Returns whether it could be written."""
        try:
            notes = {"settings": self.settings, "output": self._place, "backend": self.model.backbone.ops.name}
            checkpoint.save(self.file, self.model.train_state(), notes)
        except OSError as error:
            if not self._has_failed:
                print(f"pyroberta: no checkpoint could be written, but training continues: {error}", file=sys.stderr)
            self._has_failed = True
            return False
        return True

    def remove(self) -> None:
        """Removes the checkpoint of a finished training. `alone` removes the directory if it is then empty."""
        self.file.unlink(missing_ok=True)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Saves the state after every `every` updates."""
        if self.every and self.model.optimizer.iterations % self.every == 0:
            self.save()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Saves the state."""
        self.save()


def digest(texts: Iterable[Any], labels: Iterable[Any] | None = None) -> str:
    """Returns the SHA-256 of texts and labels, by which other texts are recognised.

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
    values = value if isinstance(value, list) else [value]
    return f"--{name}" if value is True else " ".join(f"--{name} {one}" for one in values)
