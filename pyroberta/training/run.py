"""A running `fit`: the order of its updates, and the data that it needs to continue after an interruption."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.data.examples import Examples, grouped, num_batches, onwards
from pyroberta.model.batch import Batch
from pyroberta.model.callers import callers_level
from pyroberta.training import metrics as measures
from pyroberta.training.callbacks.base import BatchLogs, CallbackList, round_state
from pyroberta.training.callbacks.terminate_on_nan import expects_non_finite
from pyroberta.training.state import TrainState
from pyroberta.training.step import NonFiniteError, Result

Done = Callable[[list[Result]], None]


class Feed:
    """The source of the updates of one `fit`.

    Args:
        examples: the examples from which it draws.
        batch_size: the number of sequences in a part.
        parts: the number of batches whose gradients make one update.
        shuffle: see `Examples.batches`.
        steps: the number of updates in an epoch. None for one pass over the examples.

    Attributes:
        goes_on: whether an epoch continues with the groups of the epoch before.
    """

    def __init__(self, examples: Examples, batch_size: int, parts: int, shuffle: bool, steps: int | None) -> None:
        self.examples, self.steps, self.goes_on = examples, steps, steps is not None
        self.batch_size, self.parts, self.shuffle = batch_size, parts, shuffle

    def groups(self, state: TrainState) -> Iterator[list[Batch]]:
        """Yields the batches of each update, from the position of the state on. They are those of one pass, or without
        end.
        """
        if self.goes_on:
            place = state.seed, self.shuffle, state.data_pass, state.position
            return onwards(self.examples, self.batch_size, self.parts, *place)
        batches = self.examples.batches(self.batch_size, state.seed, state.data_pass, self.shuffle, state.position)
        return grouped(batches, self.parts)

    def is_whole(self, state: TrainState) -> bool:
        """Returns whether the epoch of the state has all its steps. An epoch of one pass has them if the position has
        moved to the next pass.
        """
        if self.steps is not None:
            return state.epoch_steps == self.steps
        return state.epoch_steps > 0 and not state.position

    def settings(self) -> dict[str, Any]:
        """Returns the values that decide the order and the number of the updates. An unknown value is None."""
        return {
            "examples": self.examples.num_examples,
            "batch_size": self.batch_size,
            "gradient_accumulation_steps": self.parts,
            "shuffle": self.shuffle,
            "steps_per_epoch": self.steps,
        }

    def recorded(self) -> dict[str, Any]:
        """Returns the settings, and the checksum of the examples, for the state of a run."""
        return {**self.settings(), "checksum": self.examples.checksum}

    def turn(self, state: TrainState) -> None:
        """Starts the next pass, if the state is at the end of one."""
        count = self.examples.num_examples
        if count is not None and state.position >= count:  # it may be beyond where there were more examples before
            state.data_pass, state.position = state.data_pass + 1, 0

    def begin(self, state: TrainState, epoch: int) -> None:
        """Sets the position of the state in the data, for a `fit` that begins with the given epoch.

        It is not called if `fit` continues an interrupted one. With `steps`, a later epoch begins where the epoch
        before ended, which may be in the middle of a pass. Any other epoch begins a new pass.
        """
        steps_of_pass = ceil_divide(num_batches(self.examples, self.batch_size), self.parts)
        if epoch and self.steps and steps_of_pass:
            if not state.step:
                state.data_pass, steps = divmod(self.steps * epoch, steps_of_pass)
                state.position = steps * self.parts * self.batch_size
            self.turn(state)
            return
        if state.position:
            state.data_pass, state.position = state.data_pass + 1, 0
        state.data_pass = max(state.data_pass, epoch)


class Run:
    """The epochs of one `fit`.

    Args:
        feed: the source of the updates.
        callbacks: the callbacks, whose hooks are called. `callbacks.model.stop_training` ends the run.
        update: a function that makes an update from parts. It calls its second argument with the results, as a part of
            the update.
        new_metrics: a function that returns the metrics of a new epoch.
        evaluate: a function that returns the metrics of the validation data. None if there is none.
        zero_weights_message: the text of the error if every weight is 0.
        is_due: a function that returns whether an epoch, numbered from 0, ends with an evaluation.
        activated: a function that makes the model's outputs from logits, for metrics.

    Attributes:
        is_over: whether the run reached its end.
    """

    def __init__(
        self,
        feed: Feed,
        callbacks: CallbackList,
        update: Callable[[Sequence[Batch], Done], None],
        new_metrics: Callable[[], measures.Running],
        evaluate: Callable[[], dict[str, float]] | None,
        zero_weights_message: str,
        is_due: Callable[[int], bool] = lambda epoch: True,
        activated: Callable[[Array], Array] = lambda logits: logits,
    ) -> None:
        self.feed, self.callbacks, self.is_over = feed, callbacks, False
        self._update, self._new_metrics, self._evaluate = update, new_metrics, evaluate
        self._zero_weights_message, self._is_due, self._activated = zero_weights_message, is_due, activated
        self._has_run_out = False  # whether the examples ended within an epoch, so that none can follow
        self._broken: dict[str, float] = {}  # logs of a step whose loss is not finite, which ended the run
        self._running = new_metrics()
        self._unfinished: Mapping[str, Any] | None = None  # what callbacks kept where one of them stopped the run
        self._owed: tuple[int, BatchLogs] | None = None  # a step that is made, and its logs, which nobody was told

    @property
    def is_stopped(self) -> bool:
        """Whether a callback has ended the run."""
        return bool(self.callbacks.model.stop_training)

    def check_resumption(self, state: TrainState, initial_epoch: int, epochs: int) -> None:
        """Checks that the run can continue from a state.

        Raises:
            ValueError: if the first epoch, the number of examples or the arguments differ from those of the state, or
                if the state is invalid.
        """
        if initial_epoch not in (0, state.epoch):
            raise ValueError(
                f"initial_epoch is {initial_epoch}, but the loaded state continues with epoch {state.epoch}: leave "
                "initial_epoch out"
            )
        if epochs <= state.epoch:
            raise ValueError(
                f"epochs is {epochs}, but the loaded state has finished {state.epoch} epochs: pass the number of the "
                "last epoch, counting those before the interruption"
            )
        for name, now in self.feed.settings().items() if state.feed else ():
            before = state.feed.get(name)
            if before != now:
                raise ValueError(
                    f"the fit of the state had {name} {before}, but this one has {now}: pass the same data and "
                    "arguments, so that it can continue"
                )
        self.callbacks.check_state(state.callbacks)

    def resume(self, state: TrainState) -> None:
        """Sets callbacks and metrics to those of a state that was checked. The run continues from it.

        Warns:
            UserWarning: if the state belongs to other examples of the same number.
        """
        now = self.feed.recorded()
        before = state.feed.get("checksum")
        if None not in (before, now["checksum"]) and before != now["checksum"]:
            warnings.warn(
                "fit continues a run, but its texts, labels or weights are not those of that run: the next updates "
                "learn from the new ones. With the same data its results have the same bits as those of a run that "
                "never stopped",
                stacklevel=callers_level(),
            )
        if state.feed:
            state.feed = now
        self._running.set_state(state.metrics)
        self.callbacks.set_state(state.callbacks)
        self.feed.turn(state)
        self.callbacks.model.stop_training = state.stop_training

    def begin(self, state: TrainState, initial_epoch: int) -> None:
        """Sets the state for a run that does not continue another one: the epoch and the position in the data, without
        steps, metrics and states of callbacks. The optimizer's state and the parameters stay as they are.

        `initial_epoch` is the number of the first epoch, from 0, as in `fit`.
        """
        self.feed.begin(state, initial_epoch)
        state.epoch, state.epoch_steps, state.metrics, state.callbacks = initial_epoch, 0, {}, {}
        state.feed = self.feed.recorded()

    def kept(self) -> tuple[Mapping[str, Any], bool]:
        """Returns the state of the callbacks for a state that is taken now, and whether they ended the run.

        Raises:
            RuntimeError: within an evaluation.
        """
        if self._unfinished is not None:
            return self._unfinished, False
        if (self.callbacks.hook or "").startswith("on_test"):
            raise RuntimeError(
                "training can't continue from a state within the evaluation of an epoch: call train_state() in "
                "on_train_batch_end or on_epoch_end"
            )
        return self.callbacks.get_state(), self.is_stopped

    def end(self) -> tuple[Mapping[str, Any], bool]:
        """Returns the state of the callbacks for a state that is taken after the run. It is empty if the run reached
        its end.

        Returns:
            The state of the callbacks, and whether a callback had ended the run before it failed.
        """
        if self._unfinished is not None or self.is_over:
            return self._unfinished or {}, False
        try:
            kept = self.callbacks.get_state(is_interrupted=True)
        except Exception as error:  # the run's own error is the one to be seen
            warnings.warn(
                f"the states of the callbacks are not in the state of training, since one of them failed: {error!r}",
                stacklevel=callers_level(),
            )
            return {}, self.is_stopped
        if self._owed is not None:
            number, logs = self._owed
            kept["round"] = round_state("on_train_batch_end", number, logs, range(len(self.callbacks.callbacks)))
        return kept, self.is_stopped

    def train(self, state: TrainState, epochs: int) -> dict[str, float]:
        """Trains from the epoch of the state on. Returns the logs of the last epoch."""
        callbacks = self.callbacks
        logs: dict[str, float] = {}
        if callbacks.pending == "on_epoch_end":
            callbacks.finish_round()
            self._next_epoch(state)
        groups = self.feed.groups(state)
        while state.epoch < epochs and not (self.is_stopped and callbacks.pending is None):
            epoch = state.epoch
            callbacks.on_epoch_begin(epoch)
            has_ended = callbacks.finish_round() and self.is_stopped
            is_whole = self._train_epoch(state, iter(()) if has_ended else self._remaining(state, groups))
            logs = {**(self._running.values() if state.epoch_steps else {}), **self._broken}
            if not is_whole:  # a state that is taken from here on goes on as if nobody had stopped it
                self._unfinished = callbacks.get_state()
            if self._evaluate is not None and self._is_due(epoch):
                logs = logs | {f"val_{name}": value for name, value in self._evaluate().items()}
            callbacks.on_epoch_end(epoch, logs)
            if not is_whole:
                break
            self._next_epoch(state)
            if self._has_run_out:
                break
            groups = groups if self.feed.goes_on else self.feed.groups(state)
        if self.is_stopped and state.epoch < epochs and self._unfinished is None:
            self._unfinished = callbacks.get_state()
        return logs

    def _next_epoch(self, state: TrainState) -> None:
        state.epoch, state.epoch_steps, state.metrics = state.epoch + 1, 0, {}
        self._running = self._new_metrics()

    def _train_epoch(self, state: TrainState, groups: Iterator[list[Batch]]) -> bool:
        """Makes a step of each group; returns whether the state's epoch has all its steps then."""
        running = self._running

        def done(results: list[Result]) -> None:
            measure(running, results, self._activated)
            state.epoch_steps += 1
            state.metrics = running.get_state()
            self.feed.turn(state)
            self._owed = step, BatchLogs(running.values(), tokens)

        step = state.epoch_steps
        weighted = int(state.epoch_steps > 0)  # what was done before an interruption is taken to have had weights
        for group in groups:
            step = state.epoch_steps
            self.callbacks.on_train_batch_begin(step)
            tokens = sum(batch.num_tokens for batch in group)
            values: dict[str, float] = {}
            try:
                self._update(group, done)
                weighted += sum(int(np.count_nonzero(batch.weights)) for batch in group)
            except NonFiniteError:
                if not expects_non_finite(self.callbacks.callbacks):
                    raise
                values = self._broken = {"loss": math.nan}
            self._owed = None
            self.callbacks.on_train_batch_end(step, BatchLogs({**running.values(), **values}, tokens))
            if self.is_stopped:
                break
        if self.is_stopped:
            return self.feed.is_whole(state)
        self._check_epoch(state, weighted)
        if not self.feed.goes_on and state.position:  # of examples that could not be counted
            state.data_pass, state.position = state.data_pass + 1, 0
        return True

    def _remaining(self, state: TrainState, groups: Iterator[list[Batch]]) -> Iterator[list[Batch]]:
        """The groups of the state's epoch that are left."""
        if self.feed.is_whole(state):
            return iter(())
        return islice(groups, None if self.feed.steps is None else self.feed.steps - state.epoch_steps)

    def _check_epoch(self, state: TrainState, weighted: int) -> None:
        """Checks that the epoch had a step, and a weight above 0. Warns where it had fewer steps than it should."""
        steps = self.feed.steps
        if not state.epoch_steps:
            raise ValueError(
                f"the examples ran out after 0 steps of epoch {state.epoch + 1}"
                + (f", before steps_per_epoch={steps}" if steps else "")
                + ". An iterator yields its items only once: pass a list, or fewer steps and epochs"
            )
        if steps and state.epoch_steps < steps:
            self._has_run_out = True
            warnings.warn(
                f"the examples ran out after {state.epoch_steps} of the {steps} steps of epoch {state.epoch + 1}, and "
                "training ends there. An iterator yields its items only once: pass a list, or itertools.cycle(x)",
                stacklevel=callers_level(),
            )
        if not weighted:
            raise ValueError(self._zero_weights_message)


def measure(
    running: measures.Running, results: Sequence[Result], activated: Callable[[Array], Array] = lambda logits: logits
) -> None:
    """Adds the results of one update, or of one batch, to metrics.

    `activated` is a function that makes the model's outputs from logits.
    """
    for result in results:
        outputs = None if result.outputs is None else activated(result.outputs)
        values = result.losses, result.predicted, result.labels, result.weights
        running.update(*values, result.denominator, outputs)


def ceil_divide(count: int | None, size: int) -> int | None:
    """Returns the number of groups of `size` items that hold `count` items."""
    return None if count is None else -(-count // size)
