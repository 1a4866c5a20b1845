"""The state of training of a task: taken, and gone on from."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pyroberta.model.attributes import random_seed
from pyroberta.model.callers import callers_level
from pyroberta.model.parameters import Arrays
from pyroberta.training import optimizers, schedules
from pyroberta.training.compiled import Compiled
from pyroberta.training.state import TrainState

if TYPE_CHECKING:
    from pyroberta.presets.optimizer_state import OptimizerState


class Resumable(Compiled):
    """A task whose training can go on where it was."""

    _averaged_at: int | None = None  # the updates done when `fit` last ended with the moving average as the parameters

    def train_state(self) -> TrainState:
        """The state from which training can go on; `training.checkpoint` writes it to a file.

        Within a callback of `fit` it holds the position in the epoch and in the data, and the callbacks' states. Its
        arrays are those of the model and the optimizer: they change with the next update.

        Raises:
            ValueError: before the first update.

        Warns:
            UserWarning: after a `fit` that a callback stopped, with an optimizer's moving average, which the parameters
                are then.
        """
        state = replace(self._current_state())
        if not self.optimizer.is_built:
            raise ValueError("there is no state of training before the first update: call fit first")
        state.optimizer = type(self.optimizer).__name__
        state.learning_rate = self.optimizer.rate_config()
        if self._run is not None and not self._is_resuming:
            state.callbacks, state.stop_training = self._run.kept()
        if self._run is None and state.callbacks and self._averaged_at == state.step:
            warnings.warn(
                "fit was stopped, and ended with the optimizer's moving average as the parameters (use_ema), as in "
                "Keras: training goes on from the average then, unlike that of a run that was not stopped. "
                "callbacks.BackupAndRestore, or train_state() in a callback, keeps the parameters themselves",
                stacklevel=callers_level(),
            )
        return state

    def load_train_state(self, state: TrainState) -> None:
        """Copies a state into the model, from which the next `fit` goes on.

        The model must be compiled with an optimizer and a loss of the same kind before, and that `fit` must be given
        the same data and batch size. With the same callbacks it makes the bits of a run that never stopped; with others
        it warns where one that keeps something is new or missing. It begins at the state's epoch, within it if need be.
        The page docs/pretraining.md shows it.

        Args:
            state: of a model of the same shape.

        Raises:
            ValueError: for a state that is not sound, or of parameters or slots of other names or shapes. The model is
                then unchanged.
            RuntimeError: within a `fit`, except in a callback's `on_train_begin`.
        """
        if self._run is not None and self._run.callbacks.hook != "on_train_begin":
            raise RuntimeError(
                "a fit is under way, whose place in the data can't change: load the state before it, or in a "
                "callback's on_train_begin"
            )
        state.check()
        backbone = self.backbone
        if state.params.layout != backbone.params.layout:
            raise ValueError("the state is of parameters of other names or shapes than this model's")
        if state.params.dtype != backbone.params.dtype:
            raise ValueError(
                f"the state is in {state.params.dtype}, this model in {backbone.params.dtype}: load the model with "
                f"dtype={state.params.dtype.name!r}"
            )
        if set(state.slots) != set(self.optimizer.slot_names):
            raise ValueError(
                f"the state has the slots {', '.join(state.slots)}; {type(self.optimizer).__name__} keeps "
                f"{', '.join(self.optimizer.slot_names)}"
            )
        optimizer = self.optimizer
        if state.optimizer not in ("", type(optimizer).__name__):
            raise ValueError(
                f"the state is of the optimizer {state.optimizer}, this model was compiled with "
                f"{type(optimizer).__name__}: compile it with the same one before"
            )
        seed, rate = random_seed("seed", state.seed), state.learning_rate
        if rate is None and not callable(optimizer._learning_rate):
            warnings.warn(
                "the learning rate of the state was a function, which no state can keep; this model's own rate, "
                f"{optimizer.learning_rate:g}, goes on: compile it with that function before",
                stacklevel=callers_level(),
            )
        if isinstance(rate, Mapping):
            rate = schedules.from_config(dict(rate))
        rate = None if rate is None else optimizers.checked_rate(rate)
        unbound = replace(state, params=Arrays({}), slots={})  # callbacks may change what they are given
        optimizer.check_excluded(backbone.params)
        optimizer.check_state({"iterations": state.step, **state.slots}, backbone.params)
        with (
            backbone.writing("load_train_state()"),
            backbone.updating(list(backbone.params), ["load_train_state()"]) as params,
        ):
            params.copy_from(state.params)
            optimizer.load_slots(state.slots, params)
            optimizer.iterations = state.step
            if rate is not None:
                optimizer.learning_rate = rate
            self.seed = seed
            self._state = replace(copy.deepcopy(unbound), params=backbone.params, slots=optimizer.slots)
            self._is_resuming, self._averaged_at = True, None

    def _take_optimizer_state(self, stored: OptimizerState) -> None:
        """Takes over the optimizer and the position in the data that a preset keeps.

        Raises:
            ValueError: where the optimizer is unknown, or the state is of other parameters.
        """
        self.optimizer = optimizers.restored(
            stored.optimizer, {"iterations": stored.iterations, **stored.slots}, self.backbone.params
        )
        self._state.data_pass, self._state.position = stored.data_pass, stored.position

    def _current_state(self) -> TrainState:
        """The state, updated with the attributes that users may have set on the model and the optimizer."""
        state = self._state
        state.params, state.slots = self.backbone.params, self.optimizer.slots
        state.seed, state.step = self.seed, self.optimizer.iterations
        return state
