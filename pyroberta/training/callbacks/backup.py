"""The callback that makes training go on by itself after an interruption."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pyroberta.formats.files import as_path
from pyroberta.model.attributes import Checks, Reasons, true_or_false
from pyroberta.training.callbacks.base import Callback, Logs
from pyroberta.training.callbacks.model_checkpoint import save_freq
from pyroberta.training.callbacks.screen import say

LATEST, PREVIOUS = "latest.safetensors", "previous.safetensors"


class BackupAndRestore(Callback):
    """Saves the state of training as it goes, and goes on from it when the same script is run again.

    A run that was killed and started again makes the same bits as one that never stopped: parameters, moments, the
    place in the data, metrics, and what the other callbacks keep. With other callbacks it goes on too, with a warning
    where one that keeps something is new or missing. The files are `training.checkpoint`'s. A run that comes to its end
    removes them.

    Args:
        backup_dir: the directory, made, parents too; `~` is expanded. It belongs to one run.
        save_freq: `"epoch"`, or a number of steps.
        double_checkpoint: keep the state before the latest one too. If the latest file can't be read, training goes on
            from that one. A latest file is always whole, unless the disk failed.
        delete_checkpoint: remove the files after a run that came to its end.

    Raises:
        ValueError: for another save_freq, or an empty `backup_dir`; in training, for files that can't be read, and for
            a state of other data or arguments.

    >>> import tempfile
    >>> from pyroberta import MaskedLM
    >>> directory = tempfile.mkdtemp()
    >>> def interrupt(epoch, logs):
    ...     if epoch == 1:
    ...         raise KeyboardInterrupt
    >>> from pyroberta.training.callbacks import LambdaCallback
    >>> for stop in (interrupt, None):
    ...     model = MaskedLM.from_preset("roberta_tiny_en")
    ...     callbacks = [BackupAndRestore(directory), LambdaCallback(on_epoch_begin=stop)]
    ...     try:
    ...         history = model.fit(["A dog barks.", "A cat sleeps."], epochs=2, verbose=0, callbacks=callbacks)
    ...     except KeyboardInterrupt:
    ...         print("interrupted")
    interrupted
    >>> model.optimizer.iterations, history.epoch
    (2, [0, 1])
    """

    checks: ClassVar[Checks] = {
        "save_freq": save_freq,
        "double_checkpoint": true_or_false,
        "delete_checkpoint": true_or_false,
    }
    unsettable: ClassVar[Reasons] = {"save_before_preemption": "set save_freq to a number of steps"}

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        if not backup_dir:
            raise ValueError(f"backup_dir is {backup_dir!r}: name the directory that the state of training goes to")
        self.backup_dir = str(as_path(backup_dir))
        self.save_freq = save_freq
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self._steps = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Loads the state, if there is one."""
        from pyroberta.training import checkpoint

        latest, previous = self._file(LATEST), self._file(PREVIOUS)
        files = [file for file in (latest, previous) if file.is_file()]
        for file in files:
            try:
                state, notes = checkpoint.load(file)
            except (OSError, ValueError) as error:
                if file == files[-1]:
                    raise
                say(f"BackupAndRestore goes on from the state before the latest one, since {error}")
                continue
            optimizer = self.model.optimizer
            given = optimizer.rate_config()
            self.model.load_train_state(state)
            if (kept := optimizer.rate_config()) != given:
                say(f"BackupAndRestore goes on with the learning rate of its state, {kept}; compile had {given}")
            if told := checkpoint.of_other_backend(notes, self.model):
                say(f"BackupAndRestore: {told}")
            return

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Saves, if `save_freq` steps have passed."""
        self._steps += 1
        if isinstance(self.save_freq, int) and self._steps % self.save_freq == 0:
            self._save()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Saves, if `save_freq` is `"epoch"`."""
        if self.save_freq == "epoch":
            self._save()

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Removes the files, and the directory if it is empty then."""
        if not self.delete_checkpoint:
            return
        for name in (LATEST, PREVIOUS):
            self._file(name).unlink(missing_ok=True)
        directory = Path(self.backup_dir)
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()

    def get_state(self) -> dict[str, Any]:
        """See `Callback.get_state`."""
        return {"steps": self._steps}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Callback.set_state`."""
        self._steps = state["steps"]

    def _file(self, name: str) -> Path:
        return Path(self.backup_dir, name)

    def _save(self) -> None:
        from pyroberta.training import checkpoint

        latest = self._file(LATEST)
        if self.double_checkpoint and latest.is_file():
            os.replace(latest, self._file(PREVIOUS))
        checkpoint.save(latest, self.model.train_state(), {"backend": self.model.backbone.ops.name})
