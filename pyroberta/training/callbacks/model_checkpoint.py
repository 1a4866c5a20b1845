"""The callback that saves the model during training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from pyroberta.formats.atomic import check_place
from pyroberta.formats.budget import printable, shown
from pyroberta.formats.files import as_path
from pyroberta.model.attributes import Checks, Reasons, true_or_false
from pyroberta.training.callbacks.base import Logs
from pyroberta.training.callbacks.monitor import Monitor, finite_or_none
from pyroberta.training.callbacks.screen import say

WEIGHTS, ARCHIVE = ".weights.h5", ".keras"


def save_freq(name: str, value: Any) -> str | int:
    """Checks the value of `save_freq`, and returns it."""
    if isinstance(value, str) and value == "epoch":
        return value
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be 'epoch' or a number of steps of at least 1, got {value!r}")
    return int(value)


class _Numbers(dict[str, float]):
    """A number for every name, a whole one for those that count."""

    def __init__(self, number: float) -> None:
        whole = round(number + 1)
        super().__init__(epoch=whole, batch=whole)
        self.number = number

    def __missing__(self, name: str) -> float:
        return self.number


def _examples(filepath: str) -> set[str]:
    """The filepath with numbers filled in; a single one where it has no names.

    Raises:
        ValueError: if no number can be, before an epoch is trained for a model that has no place then.
    """
    problem: Exception | None = None
    found = set()
    for number in (0.25, 1, 2):  # what callbacks of a user's own log may be whole numbers
        try:
            found.add(filepath.format_map(_Numbers(number)))
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            problem = error
    if found:
        return found
    raise ValueError(
        f"filepath {filepath!r} can't be filled in: {problem}. It takes names as in "
        "'runs/{epoch:02d}-{val_loss:.2f}'; write a literal brace twice"
    )


class ModelCheckpoint(Monitor):
    """Saves the model during training. Each save is a complete preset, from which training can continue.

    After a crash, call `from_preset(filepath, load_optimizer=True)` and `fit` with `initial_epoch`, the number of
    finished epochs. If the examples can be counted, the results have the same bits as those of a run that never
    stopped. A stream starts again with its first text. `training.checkpoint` also keeps the position in a stream and
    the states of callbacks.

    Args:
        filepath: the directory. `{epoch}`, `{batch}` (with an integer `save_freq`) and names of the logs are filled in,
            as in `"runs/{epoch:02d}-{val_loss:.2f}"`. Without them each save replaces the one before. If it ends in
            `.keras`, as in Keras, `save` writes that file, which does not have the optimizer's state. With
            `save_weights_only` it may end in `.weights.h5`; then `save_weights` writes that file.
        monitor: the metric that `save_best_only` compares.
        verbose: 1 prints the path of each save on stderr.
        save_best_only: whether the model is saved only if the metric is the best so far.
        save_weights_only: whether the optimizer's state is left out, which takes twice the space of the weights. For a
            model with LoRA it is always left out, since a preset can't hold the factors.
        mode: `"min"` if lower values are better, `"max"` if higher ones are. `"auto"` decides this for pyroberta's
            metrics.
        save_freq: `"epoch"`, or a number of steps.
        initial_value_threshold: with `save_best_only`, a model is saved only if its metric is better than this.

    Raises:
        ValueError: if save_freq is unknown, or filepath can't be filled in or has an unsupported ending; while saving,
            if a name in filepath is not logged.
        FileExistsError, IsADirectoryError, OSError, ValueError: when training begins, if nothing can be saved.

    >>> ModelCheckpoint("runs/{epoch:02d}-{loss:.2f}").directory(epoch=0, logs={"loss": 2.5})
    'runs/01-2.50'
    """

    checks: ClassVar[Checks] = {
        "save_best_only": true_or_false,
        "save_weights_only": true_or_false,
        "save_freq": save_freq,
    }
    unsettable: ClassVar[Reasons] = {"period": "set save_freq"}
    state_kinds: ClassVar[Mapping[str, Any]] = {"best": int | float | None, "steps": int}

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        self.save_best_only = save_best_only
        if not isinstance(filepath, str | bytes | os.PathLike):
            raise TypeError(f"filepath should be a text or a pathlib.Path, got {shown(filepath)}")
        self.filepath = os.fsdecode(filepath)
        if not self.filepath:
            raise ValueError("filepath is '': name the directory for the model")
        _examples(self.filepath)
        if self.filepath.endswith(WEIGHTS) and not save_weights_only:
            raise ValueError(f"filepath ends in {WEIGHTS}, a file of weights alone: pass save_weights_only=True")
        if self.filepath.endswith(ARCHIVE) and save_weights_only:
            raise ValueError(f"filepath ends in {ARCHIVE}, a file of a whole model: leave save_weights_only out")
        if self.filepath.endswith(".h5") and not self.filepath.endswith(WEIGHTS):
            raise ValueError(
                f"filepath is {self.filepath!r}; a file of weights ends in {WEIGHTS}, one of a whole model in {ARCHIVE}"
            )
        self.verbose = verbose
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self.best = finite_or_none("initial_value_threshold", initial_value_threshold)
        self._epoch = 0
        self._steps = 0

    @property
    def is_monitoring(self) -> bool:
        """Returns whether the metric is compared at all."""
        return self.save_best_only

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Checks that a model can be saved, before an epoch is trained."""
        from pyroberta.presets.writing import check_saveable

        super().on_train_begin(logs)
        first, *others = map(as_path, sorted(_examples(self.filepath)))
        is_file = self.filepath.endswith((WEIGHTS, ARCHIVE))
        if is_file and first.is_dir():
            raise IsADirectoryError(f"ModelCheckpoint can't save to {printable(str(first))}: it is a directory")
        if is_file or others:
            check_place(first)
        else:
            check_saveable(first)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Stores the number of the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Saves the model, if `save_freq` steps have passed."""
        self._steps += 1
        if isinstance(self.save_freq, int) and self._steps % self.save_freq == 0:
            self._save(self._epoch, {"batch": batch + 1, **(logs or {})})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Saves the model, if `save_freq` is `"epoch"`."""
        if self.save_freq == "epoch":
            self._save(epoch, logs or {})

    def get_state(self) -> dict[str, Any]:
        """See `Callback.get_state`."""
        return {"best": self.best, "steps": self._steps}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Callback.set_state`."""
        self.best, self._steps = state["best"], state["steps"]

    def directory(self, epoch: int, logs: Logs) -> str:
        """Returns `filepath`, filled in. `epoch` counts from 0."""
        try:
            return self.filepath.format(**{"epoch": epoch + 1, **logs})
        except KeyError as error:
            raise ValueError(
                f"ModelCheckpoint's filepath {self.filepath!r} names {error}, which is not logged; the logs have "
                f"epoch, {', '.join(logs)}"
            ) from error
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"ModelCheckpoint's filepath {self.filepath!r} can't be filled in with {shown(logs)}: {error}"
            ) from error

    def _save(self, epoch: int, logs: Logs) -> None:
        best = self.best
        if self.save_best_only:
            value = self.value_in(logs)
            if value is not None:
                if not self.improves(value, self.best):
                    return
                best = value
        directory = self.directory(epoch, logs)
        if directory.endswith(WEIGHTS):
            self.model.save_weights(directory)
        elif directory.endswith(ARCHIVE):
            self.model.save(directory)
        else:
            backbone = self.model.backbone
            is_whole = not self.save_weights_only and not backbone.config.lora_rank
            self.model.save_to_preset(directory, dtype=backbone.params.dtype.name, include_optimizer=is_whole)
        self.best = best  # only now: a model that could not be saved is not the best one
        if self.verbose:
            say(f"epoch {epoch + 1}: saved to {directory}")
