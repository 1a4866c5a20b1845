"""Callbacks that set the learning rate between epochs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from pyroberta.model.attributes import Checks, in_message, is_real, real_number
from pyroberta.training.callbacks.base import Callback, Logs
from pyroberta.training.callbacks.monitor import Monitor, count, loudness
from pyroberta.training.callbacks.screen import say


def settable_rate(model: Any, name: str) -> float:
    """Returns the optimizer's learning rate, if it is a number that a callback may set.

    Raises:
        TypeError: if it is a schedule or a function, which the callback would replace.
    """
    optimizer = model.optimizer
    if callable(optimizer.learning_rate_as_set):
        raise TypeError(
            f"{name} sets the learning rate, but the optimizer was made with a schedule, "
            f"{optimizer.learning_rate_as_set!r}: compile with a number, or leave the callback out"
        )
    return float(optimizer.learning_rate)


def _log_rate(model: Any, logs: Logs | None) -> None:
    if isinstance(logs, dict):
        logs["learning_rate"] = float(model.optimizer.learning_rate)


class LearningRateScheduler(Callback):
    """Sets the learning rate at the beginning of each epoch, and logs it as `learning_rate` at the end of the epoch.

    Args:
        schedule: a function that returns the new rate, a float. Its arguments are the number of the epoch, from 0, and
            the present learning rate; or the number alone.
        verbose: 1 prints the new rate on stderr.

    Raises:
        TypeError: in training, if the learning rate of the optimizer is a schedule.
        ValueError: in training, if the function does not return a float.

    >>> scheduler = LearningRateScheduler(lambda epoch, rate: rate * 0.5)
    """

    checks: ClassVar[Checks] = {"verbose": loudness}

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        if not callable(schedule):
            raise TypeError(f"schedule should be a function of the epoch and the learning rate, got {schedule!r}")
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Sets the learning rate of the epoch."""
        before = settable_rate(self.model, type(self).__name__)
        rate = self.schedule(epoch, before) if _takes_two(self.schedule) else self.schedule(epoch)
        if not isinstance(rate, float | np.float32) or not is_real(rate):
            raise ValueError(f"the schedule of a LearningRateScheduler should return a float, got {rate!r}")
        self.model.optimizer.learning_rate = float(rate)
        if self.verbose:
            say(f"epoch {epoch + 1}: the learning rate is {float(rate):g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Logs the learning rate."""
        _log_rate(self.model, logs)


def _takes_two(function: Callable[..., Any]) -> bool:
    """Whether a function can be called with two arguments by position."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a built-in function
        return True
    try:
        signature.bind(0, 0.0)
    except TypeError:
        return False
    return True


def _factor(name: str, value: Any) -> float:
    if not is_real(value) or not 0 <= value < 1:
        raise ValueError(f"{name} must be a number in [0, 1), got {in_message(value)}")
    return float(value)


class ReduceLROnPlateau(Monitor):
    """Lowers the learning rate when a metric has stopped improving, and logs it as `learning_rate`.

    Args:
        monitor: the name of the metric in the logs of an epoch.
        factor: the factor in [0, 1) by which the rate is multiplied.
        patience: the number of epochs without an improvement after which the rate is lowered.
        verbose: 1 prints the new rate on stderr.
        mode: `"min"` if lower values are better, `"max"` if higher ones are. `"auto"` decides this for pyroberta's
            metrics and those of the model.
        min_delta: a change of at most this is not an improvement.
        cooldown: the number of epochs after a reduction in which epochs without an improvement do not count.
        min_lr: the lowest rate.

    Attributes:
        best: the best value so far.
        wait: the number of epochs without an improvement since then.
        cooldown_counter: the number of epochs of the cooldown that are left.

    Raises:
        ValueError: if the factor is 1 or more; in training, if the metric is unknown and the mode is `"auto"`.
        TypeError: in training, if the learning rate of the optimizer is a schedule.

    >>> ReduceLROnPlateau("val_loss", factor=0.2, patience=5).mode
    'min'
    """

    checks: ClassVar[Checks] = {
        "factor": _factor,
        "patience": count,
        "cooldown": count,
        "min_lr": real_number(0.0),
    }
    state_kinds: ClassVar[Mapping[str, Any]] = {"best": int | float | None, "wait": int, "cooldown_counter": int}

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.cooldown = cooldown
        self.min_lr = min_lr
        self._reset()

    def _reset(self) -> None:
        self.best, self.wait, self.cooldown_counter = None, 0, 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Resets the best value and the counters."""
        settable_rate(self.model, type(self).__name__)
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compares the epoch with the best one so far. It may set `model.optimizer.learning_rate`."""
        _log_rate(self.model, logs)
        value = self.value_in(logs)
        if value is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self.improves(value, self.best):
            self.best, self.wait = value, 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience and self._reduced(epoch):
                self.cooldown_counter, self.wait = self.cooldown, 0

    def in_cooldown(self) -> bool:
        """Returns whether the last reduction was less than `cooldown` epochs ago."""
        return self.cooldown_counter > 0

    def _reduced(self, epoch: int) -> bool:
        """Lowers the rate, unless it is at its least; returns whether it did."""
        before = settable_rate(self.model, type(self).__name__)
        if before <= self.min_lr:
            return False
        rate = max(before * self.factor, self.min_lr)
        self.model.optimizer.learning_rate = rate
        if self.verbose:
            say(f"epoch {epoch + 1}: {self.monitor} has stopped improving; the learning rate is {rate:g}")
        return True

    def get_state(self) -> dict[str, Any]:
        """See `Callback.get_state`."""
        return {name: getattr(self, name) for name in ("best", "wait", "cooldown_counter")}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Callback.set_state`."""
        for name in ("best", "wait", "cooldown_counter"):
            setattr(self, name, state[name])
