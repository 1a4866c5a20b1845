"""The methods of a task that return and load the state of training."""

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
    """A task whose training can continue from a state."""

    _averaged_at: int | None = None  # the updates done when `fit` last ended with the moving average as the parameters

    def train_state(self) -> TrainState:
        """Returns the state from which training can continue. `training.checkpoint` writes it to a file.

        Within a callback of `fit` it has the position in the epoch and in the data, and the states of the callbacks.
        Its arrays are those of the model and the optimizer, so they change with the next update.

        Raises:
            ValueError: before the first update.

        Warns:
            UserWarning: after a `fit` that a callback stopped, if the optimizer has a moving average, since the
                parameters are then the average.
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
                "Keras: training will continue from the average, unlike a run that was not stopped. To keep the "
                "parameters themselves, use callbacks.BackupAndRestore, or train_state() in a callback",
                stacklevel=callers_level(),
            )
        return state

    def load_train_state(self, state: TrainState) -> None:
        """Copies a state into the model. The next `fit` continues from it.

        Before, compile the model with an optimizer and a loss of the same kind. Call `fit` with the same data and batch
        size. If the callbacks are the same too, its results have the same bits as those of a run that never stopped.
        With other callbacks, `fit` warns if one that has a state is new or missing. `fit` starts at the position of the
        state, which may be within an epoch. docs/pretraining.md has an example.

        Args:
            state: the state of a model of the same shape.

        Raises:
            ValueError: if the state is invalid, or its parameters or slots have other names or shapes. Then the model
                does not change.
            RuntimeError: within a `fit`, except in `on_train_begin` of a callback.
        """
        if self._run is not None and self._run.callbacks.hook != "on_train_begin":
            raise RuntimeError(
                "a fit is running, and its position in the data can't change: load the state before it, or in "
                "on_train_begin of a callback"
            )
        state.check()
        backbone = self.backbone
        if state.params.layout != backbone.params.layout:
            raise ValueError(
                "the state belongs to parameters of other names or shapes than those of this model: load it into a "
                "model of the same config"
            )
        if state.params.dtype != backbone.params.dtype:
            raise ValueError(
                f"the state is in {state.params.dtype}, but this model in {backbone.params.dtype}: load the model with "
                f"dtype={state.params.dtype.name!r}"
            )
        if set(state.slots) != set(self.optimizer.slot_names):
            raise ValueError(
                f"the state has the slots {', '.join(state.slots)}, but the optimizer, "
                f"{type(self.optimizer).__name__}, has {', '.join(self.optimizer.slot_names)}: compile the model with "
                "the optimizer and the options of the run of the state"
            )
        optimizer = self.optimizer
        if state.optimizer not in ("", type(optimizer).__name__):
            raise ValueError(
                f"the state belongs to the optimizer {state.optimizer}, but this model was compiled with "
                f"{type(optimizer).__name__}: compile it with the same one before"
            )
        seed, rate = random_seed("seed", state.seed), state.learning_rate
        if rate is None and not callable(optimizer._learning_rate):
            warnings.warn(
                "the learning rate of the state was a function, which a state can't keep. Training continues with this "
                f"model's own rate, {optimizer.learning_rate:g}: compile it with that function before",
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
            ValueError: if the optimizer is unknown, or the state is of other parameters.
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
