"""The callback with which training continues automatically after an interruption."""

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
    """Saves the state of training regularly. If the same script is run again, training continues from the saved state.

    A run that was killed and started again has the same bits as a run that never stopped: parameters, moments, the
    position in the data, metrics, and the states of the other callbacks. Training also continues with other callbacks
    than before, with a warning if one that has a state is new or missing. The files are written by
    `training.checkpoint`. A run that reaches its end removes them.

    Args:
        backup_dir: the directory of the files. It and its parents are created if needed, and `~` is expanded. It
            belongs to one run.
        save_freq: `"epoch"`, or a number of steps.
        double_checkpoint: whether the state before the latest one is kept too. If the latest file can't be read,
            training continues from the one before. The latest file is always complete, unless the disk failed.
        delete_checkpoint: whether the files are removed after a run that reached its end.

    Raises:
        ValueError: if `save_freq` is invalid or `backup_dir` is empty; in training, if the files can't be read, or the
            state belongs to other data or arguments.

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
            raise ValueError(f"backup_dir is {backup_dir!r}: name the directory for the state of training")
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
                say(f"BackupAndRestore continues from the state before the latest one, since {error}")
                continue
            optimizer = self.model.optimizer
            given = optimizer.rate_config()
            self.model.load_train_state(state)
            if (kept := optimizer.rate_config()) != given:
                say(f"BackupAndRestore continues with the learning rate of its state, {kept}; compile had {given}")
            if message := checkpoint.of_other_backend(notes, self.model):
                say(f"BackupAndRestore: {message}")
            return

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Saves the state, if `save_freq` steps have passed."""
        self._steps += 1
        if isinstance(self.save_freq, int) and self._steps % self.save_freq == 0:
            self._save()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Saves the state, if `save_freq` is `"epoch"`."""
        if self.save_freq == "epoch":
            self._save()

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Removes the files, and the directory if it is then empty."""
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
