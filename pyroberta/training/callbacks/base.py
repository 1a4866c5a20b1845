"""The hooks under Keras's names, and the list that calls them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pyroberta.model.attributes import Checked
from pyroberta.model.callers import callers_level
from pyroberta.training.callbacks import keras_callbacks

Logs = Mapping[str, Any]


class BatchLogs(dict[str, Any]):
    """The logs of a training step: the running means of its epoch.

    Attributes:
        tokens: the number of tokens of the step, over all its parts.

    >>> BatchLogs({"loss": 2.5}, tokens=10).tokens
    10
    """

    def __init__(self, values: Mapping[str, Any], tokens: int) -> None:
        super().__init__(values)
        self.tokens = tokens


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
        callbacks: objects with the hooks of `Callback`, Keras's too; see `flattened`.
        model: set on each callback.
        params: set on each callback.

    Raises:
        TypeError: for an object without those hooks.

    >>> from pyroberta.training.callbacks import History
    >>> history = History()
    >>> CallbackList([history]).on_epoch_end(0, {"loss": 1.0})
    >>> history.history
    {'loss': [1.0]}
    """

    def __init__(self, callbacks: Any = (), model: Any = None, params: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.callbacks: list[Any] = flattened(callbacks)
        for callback in self.callbacks:
            missing = [name for name in ("set_model", "set_params", *HOOKS) if not hasattr(callback, name)]
            if missing or isinstance(callback, type):
                raise TypeError(
                    f"a callback must be an instance of a subclass of pyroberta.callbacks.Callback, got {callback!r}"
                )
        self._round: tuple[str, int | None, Logs, Sequence[int]] | None = None  # the hook, its arguments, whose turns
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
            if model is not None:
                keras_callbacks.prepare(callback, model)
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
        The state tells the numbers of those that are left, and what the hook is called with.

        Args:
            is_interrupted: whether the callback whose turn it is failed, and is to be called again.
        """
        states = [keras_callbacks.get_state(callback) for callback in self.callbacks]
        names = [type(callback).__name__ for callback in self.callbacks]
        kept: dict[str, Any] = {
            "callbacks": [{"class": name, "state": one} for name, one in zip(names, states, strict=True)]
        }
        if self._round and self._round[0] in ENDS:
            hook, number, logs, turns = self._round
            kept["round"] = round_state(hook, number, logs, turns if is_interrupted else turns[1:])
        elif self._pending:  # this run, too, goes on from a state, and has not finished its round yet
            kept["round"] = dict(self._pending)
        return kept

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Checks that a state is one of callbacks.

        Raises:
            ValueError: for a state that `get_state` did not give.
        """
        if not state:
            return
        try:
            states = [one["state"] for one in state["callbacks"] if str(one["class"])]
            last = state.get("round")
            is_sound = all(isinstance(one, Mapping) for one in states) and (
                last is None
                or (
                    last["hook"] in ENDS
                    and isinstance(last["logs"], Mapping)
                    and type(last["number"]) is int
                    and all(type(turn) is int and 0 <= turn < len(states) for turn in last["left"])
                )
            )
        except (KeyError, TypeError, AttributeError):
            is_sound = False
        if not is_sound:
            raise ValueError("the state of training has no sound state of callbacks")

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Gives each callback its state, and keeps the round that is to be finished.

        The first callback of a class gets what the first of that class had, the second what the second had, and so on.
        A callback that is new begins with the hook after that round.

        Raises:
            ValueError: as `check_state`.

        Warns:
            UserWarning: where a callback that keeps something is new, or what one kept is dropped.
        """
        self.check_state(state)
        if not state:
            return
        before = state["callbacks"]
        places = _paired([type(one).__name__ for one in self.callbacks], [str(one["class"]) for one in before])
        new = [
            type(callback).__name__
            for callback, place in zip(self.callbacks, places, strict=True)
            if place is None and keras_callbacks.get_state(callback)
        ]
        dropped = [str(one["class"]) for place, one in enumerate(before) if one["state"] and place not in places]
        if new or dropped:
            found = [*(f"{name} is new and begins anew" for name in new), *(f"{name} is missing" for name in dropped)]
            warnings.warn(
                f"fit goes on with other callbacks than it had: {', '.join(found)}. With the same callbacks it makes "
                "the bits of a run that never stopped",
                stacklevel=callers_level(),
            )
        for callback, place in zip(self.callbacks, places, strict=True):
            if place is not None and before[place]["state"]:
                keras_callbacks.set_state(callback, before[place]["state"])
        self._pending = None
        if last := state.get("round"):
            self._pending = {**last, "left": [turn for turn, place in enumerate(places) if place in last["left"]]}

    def finish_round(self) -> bool:
        """Calls the hook in which a state was taken, for the callbacks that had not had it yet.

        Returns:
            Whether there was such a hook.
        """
        if self._pending is None:
            return False
        last, self._pending = self._pending, None
        logs: Logs = dict(last["logs"])
        if last["hook"] == "on_train_batch_end":
            logs = BatchLogs(logs, last.get("tokens", 0))
        self._call(last["hook"], last["number"], logs, last["left"])
        return True

    def _call(self, hook: str, number: int | None, logs: Logs, turns: Sequence[int]) -> None:
        outer = self._round
        try:
            for done, turn in enumerate(turns):
                self._round = hook, number, logs, turns[done:]
                getattr(self.callbacks[turn], hook)(*(() if number is None else (number,)), logs)
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
            self._call(hook, number[0] if number else None, logs or {}, range(len(self.callbacks)))

        return call


def round_state(hook: str, number: int | None, logs: Logs, left: Iterable[int]) -> dict[str, Any]:
    """A hook that some callbacks have not had yet, for a state of training: those of the numbers `left`."""
    return {
        "hook": hook, "number": number, "logs": dict(logs), "tokens": getattr(logs, "tokens", 0), "left": list(left),
    }  # fmt: skip


def _paired(names: Sequence[str], others: Sequence[str]) -> list[int | None]:
    """For each name the place of the same name among others, each used once; None where there is none left.

    >>> _paired(["a", "b", "a", "a"], ["a", "c", "a"])
    [0, None, 2, None]
    """
    places: dict[str, list[int]] = {}
    for place, other in enumerate(others):
        places.setdefault(other, []).append(place)
    return [places[name].pop(0) if places.get(name) else None for name in names]


def flattened(callbacks: Any) -> list[Any]:
    """Callbacks as a list: None, one, or lists of them in each other, as Keras takes them.

    >>> one = Callback()
    >>> flattened([[one], None]) == [one]
    True
    """
    if callbacks is None:
        return []
    if not isinstance(callbacks, list | tuple) and hasattr(callbacks, "callbacks"):  # a list of callbacks as one
        return flattened(callbacks.callbacks)
    if isinstance(callbacks, Iterable) and not isinstance(callbacks, str) and not hasattr(callbacks, "on_epoch_end"):
        return [one for each in callbacks for one in flattened(each)]
    return [callbacks]


def with_defaults(callbacks: Any, *defaults: Callback) -> list[Any]:
    """A user's callbacks, and those of the defaults of whose class, or of whose name in Keras, there is none.

    >>> one = Callback()
    >>> with_defaults(one, Callback()) == [one]
    True
    """
    given = flattened(callbacks)

    def is_there(default: Callback) -> bool:
        return any(isinstance(one, type(default)) or keras_callbacks.replaces(one, default) for one in given)

    return [*given, *(default for default in defaults if not is_there(default))]
