"""The callback with which training continues automatically after an interruption."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pyroberta.formats.atomic import check_place
from pyroberta.formats.budget import printable
from pyroberta.formats.counts import counted
from pyroberta.formats.files import as_path
from pyroberta.formats.locks import lock, unlock
from pyroberta.model.attributes import Checks, Reasons, true_or_false
from pyroberta.training.callbacks.base import Callback, Logs
from pyroberta.training.callbacks.model_checkpoint import save_freq
from pyroberta.training.callbacks.screen import say

LATEST, PREVIOUS = "latest.safetensors", "previous.safetensors"


class BackupAndRestore(Callback):
    """Saves the state of training regularly. If the same script is run again, training continues from the saved state.

    A run that was killed and started again has the same bits as a run that never stopped: parameters, moments, the
    position in the data, metrics, and the states of the other callbacks. Training also continues with other callbacks
    than before, with a warning if one that has a state is new or missing. A line on stderr says from which file and
    update training continues, unless `verbose` of `fit` is 0. The files are written by `training.checkpoint`. A run
    that reaches its end removes them.

    Args:
        backup_dir: the directory of the files. It and its parents are created if needed, and `~` is expanded. It
            belongs to one run.
        save_freq: `"epoch"`, or a number of steps.
        double_checkpoint: whether the state before the latest one is kept too. If the latest file can't be read,
            training continues from the one before. The latest file is always complete, unless the disk failed.
        delete_checkpoint: whether the files are removed after a run that reached its end.

    Raises:
        ValueError: if `save_freq` is invalid or `backup_dir` is empty; in training, if the files can't be read, the
            state belongs to other arguments or another number of examples, or another running `fit` has the directory.
        OSError: when training begins, if nothing can be written into the directory.

    Warns:
        UserWarning: in training, if the state belongs to other examples of the same number.

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
    state_kinds: ClassVar[Mapping[str, Any]] = {"steps": int}

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
        self._held: int | None = None  # the lock of the directory, within a fit
        self._is_latest_damaged = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Loads the state, if there is one."""
        from pyroberta.training import checkpoint

        check_place(self._file(LATEST))
        try:
            self._held = lock(as_path(self.backup_dir))
        except BlockingIOError:
            raise ValueError(
                f"another running fit has its states in {printable(self.backup_dir)}. Wait until it has ended, or give "
                "another backup_dir"
            ) from None
        files = [self._file(name) for name in (LATEST, PREVIOUS) if os.path.lexists(self._file(name))]
        self._is_latest_damaged = False
        for file in files:
            try:
                state, notes = checkpoint.load(file)
            except (OSError, ValueError) as error:
                if file == files[-1]:
                    raise (type(error) if isinstance(error, OSError) else ValueError)(
                        f"BackupAndRestore can't continue from the state in {printable(self.backup_dir)}: {error}. To "
                        "begin anew, remove that file, or give another backup_dir"
                    ) from error
                say(f"BackupAndRestore continues from the state before the latest one, since {error}")
                self._is_latest_damaged = True
                continue
            optimizer = self.model.optimizer
            given = optimizer.rate_config()
            self.model.load_train_state(state)
            if self.params.get("verbose"):
                done = counted(state.step, "update")
                say(f"BackupAndRestore continues from {printable(str(file))}, in epoch {state.epoch + 1} after {done}")
            if (kept := optimizer.rate_config()) != given:
                say(f"BackupAndRestore continues with the learning rate of its state, {kept}; compile had {given}")
            if message := checkpoint.of_other_backend(notes, self.model):
                say(f"BackupAndRestore: {message}")
            return

    def end_of_fit(self) -> None:
        """Lets others use the directory."""
        unlock(self._held)
        self._held = None

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
        return as_path(self.backup_dir) / name

    def _save(self) -> None:
        from pyroberta.training import checkpoint

        latest = self._file(LATEST)
        if self.double_checkpoint and latest.is_file() and not self._is_latest_damaged:
            os.replace(latest, self._file(PREVIOUS))
        checkpoint.save(latest, self.model.train_state(), {"backend": self.model.backbone.ops.name})
        self._is_latest_damaged = False
