"""Callbacks of training, evaluation and prediction, with hooks under Keras's names.

Epochs and batches count from 0 in hooks and from 1 in messages. The logs of a batch are the running means of
its epoch, and `tokens`, the tokens of that batch; the logs of an epoch are its means, and `val_…` after an evaluation.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyroberta.model.attributes import Checked, Checks, Reasons, is_real, true_or_false, whole_number
from pyroberta.model.callers import callers_level
from pyroberta.model.hints import did_you_mean
from pyroberta.training.metrics import METRICS

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "ModelCheckpoint",
    "ProgressBar",
]

Logs = Mapping[str, Any]

FIRST_ON_BAR = ("loss", "accuracy", "val_loss", "val_accuracy", "tokens/s")  # then the time, the steps, the rest
NOT_ON_BAR = ("perplexity", "val_perplexity")  # the exp of the loss, which the line has already
SHORTEST_BAR = 4  # columns
USUAL_WIDTH = 80  # if the terminal's width is unknown
SECONDS_BETWEEN_LINES = 30.0  # of a progress bar that cannot be redrawn


class Callback(Checked):
    """The base class of callbacks. Override the hooks that you need; each one does nothing by default.

    Attributes:
        model: the model; `model.stop_training = True` ends `fit`.
        params: `epochs`, `steps` (None if unknown) and `verbose` of the call.

    >>> class Shout(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print(f"epoch {epoch + 1}: loss {logs['loss']:.1f}!")
    >>> Shout().on_epoch_end(0, {"loss": 2.5})
    epoch 1: loss 2.5!
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Called once before anything else."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Called once before anything else."""
        self.params = dict(params)

    def get_state(self) -> dict[str, Any]:
        """The state from which the callback goes on: texts, numbers, arrays, and lists and dicts of them.

        A `TrainState` keeps it.
        """
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Sets the state that `get_state` returned; called after `on_train_begin` of a `fit` that goes on."""

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """`fit` begins."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """`fit` ends; `logs` are those of the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """An epoch begins."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """An epoch and its evaluation end."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """A training step begins."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """A training step ends."""
        self.on_batch_end(batch, logs)

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of `on_train_batch_end`."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """`evaluate` begins."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """`evaluate` ends."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """A batch of `evaluate` begins."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """A batch of `evaluate` ends."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """`predict` begins."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """`predict` ends."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """A batch of `predict` begins."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """A batch of `predict` ends; `logs["outputs"]` are its logits."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))
ENDS = ("on_train_batch_end", "on_epoch_end")  # after which a state goes on; other hooks are called again


class CallbackList(Callback):
    """Several callbacks as one. Each hook calls the callbacks' hooks in order.

    Args:
        callbacks: objects with the hooks of `Callback`.
        model: set on each callback.
        params: set on each callback.

    Raises:
        TypeError: for an object without those hooks.

    >>> history = History()
    >>> CallbackList([history]).on_epoch_end(0, {"loss": 1.0})
    >>> history.history
    {'loss': [1.0]}
    """

    def __init__(
        self, callbacks: Iterable[Any] = (), model: Any = None, params: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        given = list(callbacks)
        self.callbacks: list[Any] = [
            one for each in given for one in (each.callbacks if isinstance(each, CallbackList) else [each])
        ]
        for callback in self.callbacks:
            missing = [name for name in ("set_model", "set_params", *HOOKS) if not hasattr(callback, name)]
            if missing or isinstance(callback, type):
                raise TypeError(
                    f"a callback must be an instance of a subclass of pyroberta.callbacks.Callback, got {callback!r}"
                )
        self._round: tuple[str, int | None, Logs, int] | None = None  # the hook, its arguments, whose turn it is
        self._pending: Mapping[str, Any] | None = None
        self._set_hooks()
        self.set_model(model)
        self.set_params(params or {})

    def _set_hooks(self) -> None:
        for hook in HOOKS:
            setattr(self, hook, self._all(hook))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in HOOKS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._set_hooks()

    def set_model(self, model: Any) -> None:
        """Sets the model, its own and that of each callback."""
        super().set_model(model)
        for callback in self.callbacks:
            callback.set_model(model)

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Sets the params of each callback."""
        for callback in self.callbacks:
            callback.set_params(params)

    @property
    def hook(self) -> str | None:
        """The hook that is being called; None between two."""
        return self._round[0] if self._round else None

    @property
    def pending(self) -> str | None:
        """The hook of the round that `finish_round` will finish; None where there is none."""
        return self._pending["hook"] if self._pending else None

    def get_state(self, is_interrupted: bool = False) -> dict[str, Any]:
        """The state of each callback, with the name of its class.

        Within a round of `on_train_batch_end` or `on_epoch_end` some callbacks have had the hook and others haven't.
        The state tells which are left, and what the hook is called with.

        Args:
            is_interrupted: whether the callback whose turn it is failed, and is to be called again.
        """
        states: list[Any] = [getattr(callback, "get_state", dict)() for callback in self.callbacks]
        names = [type(callback).__name__ for callback in self.callbacks]
        kept: dict[str, Any] = {
            "callbacks": [{"class": name, "state": one} for name, one in zip(names, states, strict=True)]
        }
        if self._round and self._round[0] in ENDS:
            hook, number, logs, turn = self._round
            first = turn if is_interrupted else turn + 1
            kept["round"] = {"hook": hook, "number": number, "logs": dict(logs), "first": first}
        elif self._pending:  # this run, too, goes on from a state, and has not finished its round yet
            kept["round"] = dict(self._pending)
        return kept

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Checks that a state is of these callbacks.

        Raises:
            ValueError: for a state of other callbacks, of these in another order, or that `get_state` did not give.
        """
        if not state:
            return
        try:
            before = [str(one["class"]) for one in state["callbacks"]]
            states = [one["state"] for one in state["callbacks"]]
            last = state.get("round")
            is_sound = all(isinstance(one, Mapping) for one in states) and (
                last is None
                or (
                    last["hook"] in ENDS
                    and isinstance(last["logs"], Mapping)
                    and type(last["number"]) is type(last["first"]) is int
                    and 0 <= last["first"] <= len(states)
                )
            )
        except (KeyError, TypeError, AttributeError):
            is_sound = False
        if not is_sound:
            raise ValueError("the state of training has no sound state of callbacks")
        now = [type(callback).__name__ for callback in self.callbacks]
        if before != now:
            raise ValueError(
                f"the state of training is of the callbacks {', '.join(before)}; fit has {', '.join(now)}. Pass the "
                "same callbacks in the same order"
            )

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Gives each callback its state, and keeps the round that is to be finished.

        Raises:
            ValueError: as `check_state`.
        """
        self.check_state(state)
        if not state:
            return
        for callback, one in zip(self.callbacks, state["callbacks"], strict=True):
            if one["state"]:
                callback.set_state(one["state"])
        self._pending = state.get("round")

    def finish_round(self) -> bool:
        """Calls the hook in which a state was taken, for the callbacks that had not had it yet.

        Returns:
            Whether there was such a hook.
        """
        if self._pending is None:
            return False
        last, self._pending = self._pending, None
        self._call(last["hook"], last["number"], dict(last["logs"]), last["first"])
        return True

    def _call(self, hook: str, number: int | None, logs: Logs, first: int = 0) -> None:
        outer = self._round
        try:
            for turn, callback in enumerate(self.callbacks[first:], first):
                self._round = hook, number, logs, turn
                getattr(callback, hook)(*(() if number is None else (number,)), logs)
        except BaseException:  # `get_state` still tells which hook failed
            raise
        else:
            self._round = outer

    def _all(self, hook: str) -> Callable[..., None]:
        """Calls `hook(logs)`, or `hook(number, logs)` for an epoch or a batch, of all. Logs are empty by default."""
        takes_number = "epoch" in hook or "batch" in hook

        def call(*args: Any, logs: Logs | None = None) -> None:
            number = args[:takes_number]
            (logs,) = args[takes_number:] or (logs,)
            self._call(hook, number[0] if number else None, logs or {})

        return call


class LambdaCallback(Callback):
    """A callback of functions, each under its hook's name.

    Args:
        hooks: functions under their hooks' names, as in `on_epoch_end=f`; f takes the hook's arguments by position.

    Raises:
        TypeError: for a name that is no hook.

    >>> callback = LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))
    >>> callback.on_epoch_end(0, {"loss": 1.0})
    0 {'loss': 1.0}
    """

    def __init__(self, **hooks: Callable[..., Any] | None) -> None:
        super().__init__()
        for name, function in hooks.items():
            if name not in HOOKS:
                raise TypeError(f"{name!r} is no hook; the hooks are {', '.join(HOOKS)}")
            if function is not None:
                setattr(self, name, function)


class History(Callback):
    """The logs of every epoch; `fit` returns it.

    Attributes:
        history: name -> one value per epoch.
        epoch: the numbers of the epochs, from 0.

    >>> history = History()
    >>> history.on_train_begin()
    >>> for epoch, loss in enumerate([3.0, 2.0]):
    ...     history.on_epoch_end(epoch, {"loss": loss})
    >>> history.history, history.epoch
    ({'loss': [3.0, 2.0]}, [0, 1])
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in self.history.items() if values)
        return f"<History: {len(self.epoch)} epochs{'; ' if last else ''}{last}>"

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Starts anew."""
        self.history = {}
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Adds the epoch's logs."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def get_state(self) -> dict[str, Any]:
        """See `Callback.get_state`."""
        return {"epoch": list(self.epoch), "history": {name: list(values) for name, values in self.history.items()}}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Callback.set_state`."""
        self.epoch = list(state["epoch"])
        self.history = {name: list(values) for name, values in state["history"].items()}

    def plot(self, *names: str) -> Any:
        """Draws each metric over the epochs, with its `val_` twin in the same panel.

        Args:
            names: the metrics to draw; by default all.

        Returns:
            The matplotlib figure. A notebook shows it; elsewhere `.savefig("history.png")` or `pyplot.show()`.

        Raises:
            ModuleNotFoundError: without matplotlib, which the extra `plot` installs.
            ValueError: before the first epoch, and for a name that was not logged.
        """
        try:
            from matplotlib import pyplot
            from matplotlib.ticker import MaxNLocator
        except ImportError as error:
            raise ModuleNotFoundError(
                "History.plot needs matplotlib: install it with pip install 'pyroberta[plot]'"
            ) from error
        panels = names or tuple(name for name in self.history if not _is_twin(name, self.history))
        if not panels:
            raise ValueError("there is nothing to plot before the first epoch has ended")
        unknown = [name for name in panels if name not in self.history]
        if unknown:
            raise ValueError(f"{unknown[0]!r} was not logged; there are {', '.join(self.history)}")
        figure, row = pyplot.subplots(
            1, len(panels), squeeze=False, figsize=(4.8 * len(panels), 3.6), layout="constrained"
        )
        for axes, name in zip(row[0], panels, strict=True):
            for key, label in ((name, "training"), (f"val_{name}", "validation")):
                if key in self.history:
                    epochs = [epoch + 1 for epoch in self.epoch[-len(self.history[key]) :]]
                    axes.plot(epochs, self.history[key], marker=".", label=label)
            axes.set(title=name, xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend()
        if "inline" in pyplot.get_backend():  # a notebook shows the returned figure, and would show an open one again
            pyplot.close(figure)
        return figure


def _finite_or_none(name: str, value: Any) -> float | None:
    if value is not None and not is_real(value):
        raise ValueError(f"{name} must be a number or None, got {value!r}")
    return None if value is None else float(value)


def _change(name: str, value: Any) -> float:
    if not is_real(value) or math.isinf(value):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return abs(float(value))


def _count(name: str, value: Any) -> int:
    return whole_number(name, value, at_least=0)


def _loudness(name: str, value: Any) -> int:
    if value not in (0, 1, 2) or not isinstance(value, int | np.integer | np.bool_):
        raise ValueError(f"{name} must be 0 (silent) or 1 (says on stderr what was done), got {value!r}")
    return int(value)


def _save_freq(name: str, value: Any) -> str | int:
    if isinstance(value, str) and value == "epoch":
        return value
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be 'epoch' or a number of steps of at least 1, got {value!r}")
    return int(value)


class _Monitor(Callback):
    """Compares a metric with the best so far."""

    checks: ClassVar[Checks] = {"min_delta": _change, "verbose": _loudness}
    unsettable: ClassVar[Reasons] = dict.fromkeys(
        ("monitor", "mode", "monitor_op"), "they belong together, so make another with monitor= and mode="
    )
    monitor: str
    mode: str

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"mode must be 'auto', 'min' or 'max', got {mode!r}")
        if mode == "auto":
            metric = METRICS.get(monitor.removeprefix("val_"))
            if metric is None:
                names = [f"{prefix}{name}" for prefix in ("", "val_") for name in METRICS]
                raise ValueError(
                    f"whether {monitor!r} should fall or rise is not known: pass mode='min' or mode='max'"
                    f"{did_you_mean(monitor, names)}"
                )
            mode = "max" if metric.higher_is_better else "min"
        vars(self).update(monitor=monitor, mode=mode)
        self.min_delta = min_delta
        self.best: float | None = None

    def improves(self, value: float, reference: float | None) -> bool:
        """Whether value is better than reference by more than min_delta. A number is better than None and NaN."""
        if math.isnan(value):
            return False
        if reference is None or math.isnan(reference):
            return True
        return value < reference - self.min_delta if self.mode == "min" else value > reference + self.min_delta

    def value_in(self, logs: Logs | None) -> float | None:
        """The monitored value, or None with a warning if the logs lack it."""
        logs = logs or {}
        if self.monitor not in logs:
            warnings.warn(
                f"{type(self).__name__} monitors {self.monitor!r}, which is not logged; there are "
                f"{', '.join(logs) or 'no logs'}. Metrics named val_… need validation_data or validation_split",
                stacklevel=callers_level(),
            )
            return None
        return float(logs[self.monitor])


class EarlyStopping(_Monitor):
    """Ends training when a metric has stopped improving.

    Args:
        monitor: the metric's name in the logs of an epoch.
        min_delta: a change of no more than this is no improvement.
        patience: epochs without an improvement after which training ends (0 and 1 both end it at the first).
        verbose: 1 says on stderr what was done.
        mode: `"min"` or `"max"`: what is better; `"auto"` decides it for pyroberta's metrics.
        baseline: if given, only values better than this are improvements.
        restore_best_weights: whether to restore the weights of the best epoch at the end. They are held in memory.
        start_from_epoch: epochs before this one (from 0) do not count.

    Attributes:
        stopped_epoch: the epoch at which training was ended, from 0; 0 if it was not.
        best_epoch: the epoch of the best value, from 0.

    Raises:
        ValueError: for an unknown mode, and with `"auto"` for an unknown metric.

    >>> EarlyStopping("val_accuracy", patience=3).mode
    'max'
    """

    checks: ClassVar[Checks] = {
        "patience": _count,
        "baseline": _finite_or_none,
        "restore_best_weights": true_or_false,
        "start_from_epoch": _count,
    }

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
        """Starts anew."""
        self.wait = 0
        self.stopped_epoch = 0
        self.best = None
        self.best_epoch = 0
        self.best_weights: list[NDArray[Any]] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compares the epoch with the best so far; may set `model.stop_training`."""
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
        """Restores the best weights, if asked to."""
        if self.stopped_epoch and self.verbose:
            _say(f"epoch {self.stopped_epoch + 1}: {self.monitor} has stopped improving")
        if self.best_weights is not None:
            if self.verbose:
                _say(f"restoring the weights of epoch {self.best_epoch + 1}")
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


class ModelCheckpoint(_Monitor):
    """Saves the model during training, each time as a whole preset, from which training can go on.

    After a crash, `from_preset(filepath, load_optimizer=True)` and `fit` with `initial_epoch`, the number of epochs
    done, lead to the same bits as a run that never stopped, if the examples can be counted. A stream begins with its
    first text again; `training.checkpoint` keeps its position, and what the callbacks keep, too.

    Args:
        filepath: the directory. `{epoch}`, `{batch}` (with an integer `save_freq`) and names of the logs are filled
            in, as in `"runs/{epoch:02d}-{val_loss:.2f}"`; without them each save replaces the one before.
        monitor: the metric that `save_best_only` compares.
        verbose: 1 says on stderr what was saved.
        save_best_only: save only when the metric is the best so far.
        save_weights_only: leave the optimizer's state out, which takes twice the weights' room. It is also left out
            for a model with LoRA, since a preset has no place for the factors.
        mode: `"min"` or `"max"`: what is better; `"auto"` decides it for pyroberta's metrics.
        save_freq: `"epoch"`, or a number of steps.
        initial_value_threshold: with `save_best_only`, a model is saved only if it is better than this.

    Raises:
        ValueError: for an unknown mode or save_freq; while saving, for a name in filepath that is not logged.

    >>> ModelCheckpoint("runs/{epoch:02d}-{loss:.2f}").directory(epoch=0, logs={"loss": 2.5})
    'runs/01-2.50'
    """

    checks: ClassVar[Checks] = {
        "save_best_only": true_or_false,
        "save_weights_only": true_or_false,
        "save_freq": _save_freq,
    }
    unsettable: ClassVar[Reasons] = {"period": "set save_freq"}

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
        super().__init__(monitor, mode if save_best_only or mode != "auto" else "min")
        self.filepath = os.fspath(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self.best = _finite_or_none("initial_value_threshold", initial_value_threshold)
        self._epoch = 0
        self._steps = 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Remembers the epoch's number."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Saves, if `save_freq` steps have passed."""
        self._steps += 1
        if isinstance(self.save_freq, int) and self._steps % self.save_freq == 0:
            self._save(self._epoch, {"batch": batch + 1, **(logs or {})})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Saves, if `save_freq` is `"epoch"`."""
        if self.save_freq == "epoch":
            self._save(epoch, logs or {})

    def get_state(self) -> dict[str, Any]:
        """See `Callback.get_state`."""
        return {"best": self.best, "steps": self._steps}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Callback.set_state`."""
        self.best, self._steps = state["best"], state["steps"]

    def directory(self, epoch: int, logs: Logs) -> str:
        """`filepath`, filled in. `epoch` counts from 0."""
        try:
            return self.filepath.format(**{"epoch": epoch + 1, **logs})
        except KeyError as error:
            raise ValueError(
                f"ModelCheckpoint's filepath {self.filepath!r} names {error}, which is not logged; "
                f"there are epoch, {', '.join(logs)}"
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
        backbone = self.model.backbone
        is_whole = not self.save_weights_only and not backbone.config.lora_rank
        self.model.save_to_preset(directory, dtype=backbone.params.dtype.name, include_optimizer=is_whole)
        self.best = best  # only now: a model that could not be saved is not the best one
        if self.verbose:
            _say(f"epoch {epoch + 1}: saved to {directory}")


class CSVLogger(Callback):
    """Writes a row for each epoch into a CSV file. Rows that were written stay, whatever happens to the run.

    A row that finds no room on the disk is left out whole, and ends `fit` with an OSError that names the file.

    Args:
        filename: the file, made, parents too; `~` is expanded. Its columns are `epoch` (from 0, as in Keras) and the
            logs of the first epoch.
        separator: between columns.
        append: go on with an existing file, under its columns; otherwise it is replaced.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "log.csv")
    >>> logger = CSVLogger(path)
    >>> logger.on_train_begin()
    >>> logger.on_epoch_end(0, {"loss": 2.5})
    >>> path.read_text().split()
    ['epoch,loss', '0,2.5']
    """

    checks: ClassVar[Checks] = {"append": true_or_false}
    unsettable: ClassVar[Reasons] = {
        "sep": "set separator",
        "keys": "the first row of the file tells the columns",
        "append_header": "set append",
        "csv_file": "set filename",
        "writer": "set filename and separator",
    }

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename = os.path.expanduser(filename)
        self.separator = separator
        self.append = append
        self._columns: list[str] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Makes the file, or reads the columns of the existing one."""
        self._columns = []
        Path(self.filename).parent.mkdir(parents=True, exist_ok=True)
        with open(self.filename, "a+" if self.append else "w+", newline="", encoding="utf-8") as file:
            file.seek(0)
            self._columns = next(csv.reader(file, delimiter=self.separator), [])

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Writes the row, with `NA` in columns that the logs lack."""
        row = {"epoch": epoch, **(logs or {})}
        columns = self._columns or list(row)
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.separator, lineterminator="\n")
        if not self._columns:
            writer.writerow(columns)
        writer.writerow([row.get(column, "NA") for column in columns])
        self._append(text.getvalue().encode())
        self._columns = columns

    def get_state(self) -> dict[str, Any]:
        """See `Callback.get_state`."""
        file = Path(self.filename)
        return {"content": file.read_text("utf-8") if self._columns and file.is_file() else ""}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Writes the state's rows again, without later ones, whose epochs are trained again."""
        Path(self.filename).write_text("", "utf-8")
        self._append(state["content"].encode())
        self._columns = next(csv.reader(io.StringIO(state["content"]), delimiter=self.separator), [])

    def _append(self, content: bytes) -> None:
        with open(self.filename, "ab", buffering=0) as file:
            before, done = file.tell(), 0
            try:
                while done < len(content):
                    done += file.write(content[done:])
            except OSError as error:
                with contextlib.suppress(OSError):
                    file.truncate(before)
                raise type(error)(
                    error.errno,
                    f"CSVLogger can't write a row of {len(content)} bytes to {self.filename}: {error.strerror}. "
                    "The rows before it are whole. Make room, and go on with append=True",
                ) from error


def _bar_kind(verbose: Any) -> int:
    if verbose not in (0, 1, 2, "auto"):
        raise ValueError(f"verbose must be 0 (silent), 1 (a bar), 2 (a line an epoch) or 'auto', got {verbose!r}")
    return 1 if verbose == "auto" else int(verbose)


class ProgressBar(Callback):
    """Shows the progress of a run on stderr: loss and metrics so far, tokens per second, time left.

    Items that do not fit into the terminal's width are left out whole, the bar first, then metrics other than loss and
    accuracy. Perplexity, the exp of the loss, is in the lines and in `History` alone.

    If stderr is no terminal (a file, a pipe), nothing is redrawn: there is a line for each epoch, and one every half
    minute within it.

    Args:
        verbose: 0 for nothing; 1 or `"auto"` for a bar for each epoch; 2 for a line for each epoch.

    Raises:
        ValueError: for another verbose.

    >>> ProgressBar(verbose=0).on_epoch_begin(0)
    """

    checks: ClassVar[Checks] = {"verbose": lambda name, value: _bar_kind(value)}

    def __init__(self, verbose: int | str = 1) -> None:
        super().__init__()
        self.verbose = verbose
        self._in_fit = False
        self._label = ""  # of what is being shown
        self._bar: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_bar": None}  # a bar belongs to this process's terminal

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begins `fit`, within which evaluations have no bar."""
        self._in_fit, self._label = True, ""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Ends the bar, if training has ended within an epoch."""
        self._close()
        self._in_fit = False

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Starts the epoch's bar."""
        epochs = self.params.get("epochs")
        self._start(f"epoch {epoch + 1}/{epochs}" if epochs else f"epoch {epoch + 1}")

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Advances the bar, past the steps that were made before an interruption too."""
        self._advance(logs, batch + 1)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Shows the epoch's results and ends its bar; nothing of an epoch that was trained before an interruption."""
        if self._label:
            self._finish(logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Starts a bar, unless within `fit`."""
        if not self._in_fit:
            self._start("evaluate")

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Advances the bar, unless within `fit`."""
        if not self._in_fit:
            self._advance(logs)

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Ends the bar, unless within `fit`."""
        if not self._in_fit:
            self._finish(logs)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Starts a bar."""
        self._start("predict")

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Advances the bar."""
        self._advance(None)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Ends the bar."""
        self._finish(None)

    @contextmanager
    def counting(self, label: str, steps: int) -> Iterator[Callable[[Logs | None], None]]:
        """A bar over so many steps of anything. It yields the function to call after each step, with logs to show.

        An error or Ctrl-C leaves no bar behind.

        >>> with ProgressBar(verbose=0).counting("count", steps=2) as advance:
        ...     for tokens in (10, 20):
        ...         advance({"tokens": tokens})
        """
        self.set_params({"steps": steps})
        self._start(label)
        try:
            yield self._advance
            self._finish(None)
        finally:
            self._close()

    def _start(self, label: str) -> None:
        self._close()
        self._label = label
        self._steps = self._tokens = 0
        self._shown: dict[str, str] = {}
        self._began = self._last_line = time.monotonic()
        if self.verbose == 1 and _can_redraw():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self.params.get("steps"),
                desc=label,
                file=Screen(sys.stderr),
                dynamic_ncols=True,
                bar_format="{desc}",
            )

    def _advance(self, logs: Logs | None, steps: int | None = None) -> None:
        before, self._steps = self._steps, self._steps + 1 if steps is None else steps
        self._note(logs)
        if self._bar is not None:
            self._write_on_bar(is_done=False)
            self._bar.update(self._steps - before)
        elif self.verbose == 1 and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._line()

    def _finish(self, logs: Logs | None) -> None:
        self._note(logs)
        if self._bar is not None:
            self._write_on_bar(is_done=True)
            self._bar.refresh()
            self._close()
        elif self.verbose:
            self._line()

    def _note(self, logs: Logs | None) -> None:
        shown = {name: value for name, value in (logs or {}).items() if name != "tokens"}
        self._shown |= {name: f"{value:.4g}" for name, value in shown.items()}
        if logs and "tokens" in logs:
            self._tokens += logs["tokens"]
            seconds = max(time.monotonic() - self._began, 1e-9)
            self._shown |= {"tokens/s": f"{self._tokens / seconds:.0f}"}

    def _write_on_bar(self, is_done: bool) -> None:
        """Writes the items that fit into the bar's line, in order of importance, and the bar into the rest of it."""
        width, total = self._bar.format_dict["ncols"] or USUAL_WIDTH, self.params.get("steps")
        passed, left = self._times()
        metrics = {name: f"{name}={value}" for name, value in self._shown.items() if name not in NOT_ON_BAR}
        wanted = [metrics.pop(name) for name in FIRST_ON_BAR if name in metrics]
        wanted += [f"{left} left" if left and not is_done else passed]
        wanted += [f"{self._steps}/{total}" if total else f"{self._steps} steps", *metrics.values()]
        line = f"{self._label}: "
        for part in wanted:
            if len(line) + len(part) + 2 <= width:
                line += f"{part}, "
        line = line[:-2]
        has_room = bool(total) and len(line) + len(" ||") + SHORTEST_BAR <= width
        self._bar.bar_format = "{desc} |{bar}|" if has_room else "{desc}"
        self._bar.set_description_str(line, refresh=False)

    def _times(self) -> tuple[str, str]:
        """The time since the bar began, and the time left; "" if that is unknown."""
        seconds, total = time.monotonic() - self._began, self.params.get("steps")
        if not total or not 0 < self._steps < total:
            return _clock(seconds), ""
        return _clock(seconds), _clock(seconds / self._steps * (total - self._steps))

    def _line(self) -> None:
        total = self.params.get("steps")
        passed, left = self._times()
        parts = [f"{self._steps}/{total} steps" if total else f"{self._steps} steps", passed]
        if left:
            parts.append(f"{left} left")
        parts += [f"{name} {value}" for name, value in self._shown.items()]
        _say(f"{self._label}: {', '.join(parts)}")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Screen:
    """A stream for messages. If it can't be written, such as a closed pipe, the work goes on."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream  # None if the descriptor is closed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes, if it can."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes, if it can."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and bool(self._stream.isatty())


def _can_redraw() -> bool:
    """Whether a line of stderr can be overwritten: in a terminal or a notebook."""
    return "ipykernel" in sys.modules or Screen(sys.stderr).isatty()


def _say(line: str) -> None:
    print(line, file=Screen(sys.stderr), flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _is_twin(name: str, names: Mapping[str, Any]) -> bool:
    return name.startswith("val_") and name.removeprefix("val_") in names
