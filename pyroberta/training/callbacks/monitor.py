"""Callbacks that monitor whether a metric still improves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyroberta.model.attributes import Checks, Reasons, in_message, is_real, true_or_false, whole_number
from pyroberta.model.callers import callers_level
from pyroberta.model.hints import did_you_mean
from pyroberta.model.serialization import check_name
from pyroberta.training.callbacks.base import Callback, Logs
from pyroberta.training.callbacks.screen import number_of, say
from pyroberta.training.metrics import METRICS, direction, logged_name


def finite_or_none(name: str, value: Any) -> float | None:
    """Checks a number or None, and returns it."""
    if value is not None and not is_real(value):
        raise ValueError(f"{name} must be a number or None, got {in_message(value)}")
    return None if value is None else float(value)


def _change(name: str, value: Any) -> float:
    if not is_real(value) or math.isinf(value):
        raise ValueError(f"{name} must be a number, got {in_message(value)}")
    return abs(float(value))


def count(name: str, value: Any) -> int:
    """Checks a number of epochs, and returns it."""
    return whole_number(name, value, at_least=0)


def loudness(name: str, value: Any) -> int:
    """Checks the value of `verbose`, and returns it."""
    if value not in (0, 1, 2) or not isinstance(value, int | np.integer | np.bool_):
        raise ValueError(f"{name} must be 0 (silent) or 1 (prints messages on stderr), got {value!r}")
    return int(value)


class Monitor(Callback):
    """The base class of callbacks that compare a metric with the best value so far.

    Args:
        monitor: the name of the metric in logs.
        mode: `"min"`, `"max"` or `"auto"`.
        min_delta: a change of at most this is not an improvement.

    Raises:
        TypeError: if monitor is not a name.
        ValueError: if min_delta is not a number.

    Warns:
        UserWarning: if the mode is unknown, which is then `"auto"`.
    """

    checks: ClassVar[Checks] = {"min_delta": _change, "verbose": loudness}
    unsettable: ClassVar[Reasons] = dict.fromkeys(
        ("monitor", "mode", "monitor_op"), "they belong together, so make another with monitor= and mode="
    )
    monitor: str
    mode: str

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        super().__init__()
        check_name("monitor", monitor)
        if mode not in ("auto", "min", "max"):
            warnings.warn(
                f"{type(self).__name__}'s mode {mode!r} is unknown, so 'auto' is used: the modes are 'auto', 'min' and "
                "'max'",
                stacklevel=callers_level(),
            )
            mode = "auto"
        if mode == "auto":
            mode = direction(monitor) or "auto"
        vars(self).update(monitor=monitor, mode=mode)
        self.min_delta = min_delta
        self.best: float | None = None

    def set_model(self, model: Any) -> None:
        """Sets the model. If `mode` is still `"auto"`, the model's metrics decide which values are better.

        Raises:
            ValueError: if the metrics do not decide it.
        """
        super().set_model(model)
        if model is None or self.mode != "auto" or not self.is_monitoring:
            return
        metrics = getattr(model, "metrics", ())
        mode = direction(self.monitor, metrics)
        if mode is None:
            names = [f"{prefix}{name}" for prefix in ("", "val_") for name in [*METRICS, *(m.name for m in metrics)]]
            raise ValueError(
                f"it is unknown whether {self.monitor!r} should fall or rise: pass mode='min' or "
                f"mode='max'{did_you_mean(self.monitor, dict.fromkeys(names))}"
            )
        vars(self).update(mode=mode)

    @property
    def is_monitoring(self) -> bool:
        """Returns whether the metric is compared at all."""
        return True

    def improves(self, value: float, reference: float | None) -> bool:
        """Returns whether value is better than reference by more than min_delta. A number is better than None
        and NaN.
        """
        if math.isnan(value):
            return False
        if reference is None or math.isnan(reference):
            return True
        return value + self.min_delta < reference if self.mode == "min" else value - self.min_delta > reference

    def value_in(self, logs: Logs | None) -> float | None:
        """Returns the monitored value, or None with a warning if the logs lack it."""
        logs = logs or {}
        name = logged_name(self.monitor, logs)
        if name is None:
            warnings.warn(
                f"{type(self).__name__} monitors {self.monitor!r}, which is not logged; the logs have "
                f"{', '.join(logs) or 'no entries'}. Metrics named val_… need validation_data or validation_split",
                stacklevel=callers_level(),
            )
            return None
        return number_of(name, logs[name], type(self).__name__)


class EarlyStopping(Monitor):
    """Ends training when a metric has stopped improving.

    Args:
        monitor: the name of the metric in the logs of an epoch. `acc`, `accuracy` and `sparse_categorical_accuracy` all
            name the accuracy, whichever of them is logged.
        min_delta: a change of at most this is not an improvement.
        patience: the number of epochs without an improvement after which training ends (0 and 1 both end it at the
            first).
        verbose: 1 prints a line on stderr when training ends.
        mode: `"min"` if lower values are better, `"max"` if higher ones are. `"auto"` decides this for pyroberta's
            metrics and those of the model.
        baseline: a value. If it is given, only better values are improvements.
        restore_best_weights: whether the weights of the best epoch are restored at the end. They are held in memory.
        start_from_epoch: epochs before this one (from 0) do not count.

    Attributes:
        stopped_epoch: the epoch at which training was ended, from 0. It is 0 if training was not ended.
        best_epoch: the epoch of the best value, from 0.

    Raises:
        ValueError: in training, if the metric is unknown and the mode is `"auto"`.

    Warns:
        UserWarning: if the mode is unknown, which is then `"auto"`; in training, if the metric is not logged.

    >>> EarlyStopping("val_accuracy", patience=3).mode
    'max'
    """

    checks: ClassVar[Checks] = {
        "patience": count,
        "baseline": finite_or_none,
        "restore_best_weights": true_or_false,
        "start_from_epoch": count,
    }
    state_kinds: ClassVar[Mapping[str, Any]] = {
        "wait": int, "stopped_epoch": int, "best": int | float | None, "best_epoch": int, "best_weights": list | None,
    }  # fmt: skip

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self.on_train_begin()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Resets the best value and the counters."""
        self.wait = 0
        self.stopped_epoch = 0
        self.best = None
        self.best_epoch = 0
        self.best_weights: list[NDArray[Any]] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compares the epoch with the best one so far. It may set `model.stop_training`."""
        value = self.value_in(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self._keep_weights(epoch)  # the first epoch's, even if it is NaN
        self.wait += 1
        if self.improves(value, self.best):
            self.best = value
            if self.restore_best_weights:
                self._keep_weights(epoch)
            self.best_epoch = epoch
            if self.baseline is None or self.improves(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Restores the best weights, if `restore_best_weights` is True."""
        if self.stopped_epoch and self.verbose:
            say(f"epoch {self.stopped_epoch + 1}: {self.monitor} has stopped improving")
        if self.best_weights is not None:
            if self.verbose:
                say(f"restoring the weights of epoch {self.best_epoch + 1}")
            self.model.set_weights(self.best_weights)

    def get_state(self) -> dict[str, Any]:
        """See `Callback.get_state`."""
        return {name: getattr(self, name) for name in ("wait", "stopped_epoch", "best", "best_epoch", "best_weights")}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Callback.set_state`."""
        for name, value in state.items():
            setattr(self, name, value)

    def _keep_weights(self, epoch: int) -> None:
        self.best_epoch = epoch
        self.best_weights = [np.array(weight) for weight in self.model.get_weights()]
