"""The base class of callbacks with Keras's hooks, and the list that calls them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from pyroberta.formats.budget import printable, shown
from pyroberta.model.attributes import Checked
from pyroberta.model.callers import callers_level
from pyroberta.training.callbacks import keras_callbacks

Logs = Mapping[str, Any]


class BatchLogs(dict[str, Any]):
    """The logs of a training step. They are the running means of its epoch.

    Attributes:
        tokens: the number of tokens of the step, over all its parts.

    >>> BatchLogs({"loss": 2.5}, tokens=10).tokens
    10
    """

    def __init__(self, values: Mapping[str, Any], tokens: int) -> None:
        super().__init__(values)
        self.tokens = tokens


class Callback(Checked):
    """The base class of callbacks. Override the hooks that you need. Each hook does nothing by default.

    Attributes:
        model: the model. `model.stop_training = True` ends `fit`.
        params: `epochs`, `steps` (None if unknown) and `verbose` of the call.
        state_kinds: the types of all values in the state, by name, in the class that defines `get_state`. A state is
            checked by them before it is loaded. An empty mapping, the default, means no check.

    >>> class Shout(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print(f"epoch {epoch + 1}: loss {logs['loss']:.1f}!")
    >>> Shout().on_epoch_end(0, {"loss": 2.5})
    epoch 1: loss 2.5!
    """

    state_kinds: ClassVar[Mapping[str, Any]] = {}

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Sets the model. It is called once, before anything else."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Sets the params. It is called once, before anything else."""
        self.params = dict(params)

    def get_state(self) -> dict[str, Any]:
        """Returns the state from which the callback can continue: texts, numbers, arrays, and lists and dicts of them.

        A `TrainState` contains it.
        """
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Sets the state that `get_state` returned. It is called after `on_train_begin`, if `fit` continues from a
        state.
        """

    @property
    def exclusive_file(self) -> str | None:
        """Returns the file that no other callback may write, or None."""
        return None

    def end_of_fit(self) -> None:
        """Called when `fit` has ended, after an error too, as `on_train_end` is not."""

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called when `fit` begins."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called when `fit` ends. `logs` are those of the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Called when an epoch begins."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Called when an epoch and its evaluation end."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called when a training step begins."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called when a training step ends."""
        self.on_batch_end(batch, logs)

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called by `on_train_batch_begin`, unless a subclass defines that. It is an older name of the same hook."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called by `on_train_batch_end`, unless a subclass defines that. It is an older name of the same hook."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Called when `evaluate` begins."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Called when `evaluate` ends."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called when a batch of `evaluate` begins."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called when a batch of `evaluate` ends."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Called when `predict` begins."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Called when `predict` ends."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called when a batch of `predict` begins."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called when a batch of `predict` ends. `logs["outputs"]` are its logits."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))
ENDS = ("on_train_batch_end", "on_epoch_end")  # after which a state goes on; other hooks are called again


class CallbackList(Callback):
    """Several callbacks as one. Each hook calls this hook of every callback, in order.

    Args:
        callbacks: objects with the hooks of `Callback`, including Keras's callbacks; see `flattened`.
        model: the model, which is set on each callback.
        params: the params, which are set on each callback.

    Raises:
        TypeError: if an object lacks these hooks.
        ValueError: if two callbacks would write one file.

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
        _refuse_one_file_for_two(self.callbacks)
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
        """Sets the model of the list and of each callback."""
        super().set_model(model)
        for callback in self.callbacks:
            if model is not None:
                keras_callbacks.prepare(callback, model)
            callback.set_model(model)

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Sets the params of each callback."""
        for callback in self.callbacks:
            callback.set_params(params)

    def end_of_fit(self) -> None:
        """See `Callback.end_of_fit`. Callbacks for Keras have no such method."""
        for callback in self.callbacks:
            if isinstance(callback, Callback):
                callback.end_of_fit()

    @property
    def hook(self) -> str | None:
        """The hook that is being called, or None between two hooks."""
        return self._round[0] if self._round else None

    @property
    def pending(self) -> str | None:
        """The hook that `finish_round` will call for the remaining callbacks, or None."""
        return self._pending["hook"] if self._pending else None

    def get_state(self, is_interrupted: bool = False) -> dict[str, Any]:
        """Returns the state of each callback, with the name of its class.

        A round is one call of a hook on all callbacks. Within a round of `on_train_batch_end` or `on_epoch_end` the
        hook of some callbacks has been called, and that of others not yet. The state has the numbers of the others, and
        the arguments of the hook.

        Args:
            is_interrupted: whether the hook of the current callback failed, so that it must be called again.
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
        """Checks that a state has the form that `get_state` returns, and that the state of each callback has the types
        of its `state_kinds`.

        Raises:
            ValueError: if it does not.
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
            raise ValueError(
                "the state of training has no valid state of callbacks. Load a state that train_state() or a "
                "checkpoint gave"
            )
        for callback, place in zip(self.callbacks, self._places(state), strict=True):
            kinds = _kinds(callback)
            if place is None or not kinds or not (found := state["callbacks"][place]["state"]):
                continue
            wrong = [name for name, kind in kinds.items() if name not in found or not _is_of(found[name], kind)]
            if wrong or set(found) != set(kinds):
                name = [*wrong, *(set(found) - set(kinds))][0]
                value = f"has {name} {shown(found[name])}" if name in found else f"lacks {name}"
                raise ValueError(
                    f"the state of {type(callback).__name__} is damaged, or from another version: it {value}"
                )

    def _places(self, state: Mapping[str, Any]) -> list[int | None]:
        """The place of each callback's state."""
        return _paired(
            [type(callback).__name__ for callback in self.callbacks], [str(one["class"]) for one in state["callbacks"]]
        )

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Gives each callback its state, and keeps the round that must be finished.

        The first callback of a class gets the state of the first one of this class, the second callback that of the
        second one, and so on. The hooks of a new callback are called from the next round on.

        Raises:
            ValueError: see `check_state`.

        Warns:
            UserWarning: if a callback that has a state is new, or the state of a missing callback is dropped.
        """
        self.check_state(state)
        if not state:
            return
        before = state["callbacks"]
        places = self._places(state)
        new = [
            type(callback).__name__
            for callback, place in zip(self.callbacks, places, strict=True)
            if place is None and keras_callbacks.get_state(callback)
        ]
        dropped = [str(one["class"]) for place, one in enumerate(before) if one["state"] and place not in places]
        if new or dropped:
            found = [
                *(f"{name} is new and starts without a state" for name in new),
                *(f"{name} is missing" for name in dropped),
            ]
            warnings.warn(
                f"fit continues with other callbacks than before: {', '.join(found)}. With the same callbacks its "
                "results have the same bits as those of a run that never stopped",
                stacklevel=callers_level(),
            )
        for callback, place in zip(self.callbacks, places, strict=True):
            if place is not None and before[place]["state"]:
                keras_callbacks.set_state(callback, before[place]["state"])
        self._pending = None
        if last := state.get("round"):
            self._pending = {**last, "left": [turn for turn, place in enumerate(places) if place in last["left"]]}

    def finish_round(self) -> bool:
        """Calls the hook in which the state was taken, for the callbacks whose hook had not been called yet.

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
        for done, turn in enumerate(turns):
            self._round = hook, number, logs, turns[done:]
            getattr(self.callbacks[turn], hook)(*(() if number is None else (number,)), logs)
        self._round = outer  # not after an error: `get_state` still tells which hook failed

    def _all(self, hook: str) -> Callable[..., None]:
        """Calls `hook(logs)`, or `hook(number, logs)` for an epoch or a batch, of all. Logs are empty by default."""
        takes_number = "epoch" in hook or "batch" in hook

        def call(*args: Any, logs: Logs | None = None) -> None:
            number = args[:takes_number]
            (logs,) = args[takes_number:] or (logs,)
            self._call(hook, number[0] if number else None, logs or {}, range(len(self.callbacks)))

        return call


def _refuse_one_file_for_two(callbacks: Sequence[Any]) -> None:
    """Raises ValueError if a file that is a callback's own is written by another one, or by the same one twice."""
    for i, callback in enumerate(callbacks):
        file = callback.exclusive_file if isinstance(callback, Callback) else None
        for other in [*callbacks[:i], *callbacks[i + 1 :]] if file else []:
            theirs = getattr(other, "exclusive_file", None) or getattr(other, "filepath", None)
            if isinstance(theirs, str) and os.path.realpath(os.path.expanduser(theirs)) == os.path.realpath(file or ""):
                kinds = [type(callback).__name__, type(other).__name__]
                raise ValueError(
                    f"two callbacks, {' and '.join(kinds)}, would write {printable(theirs)}, and each would spoil what "
                    "the other one wrote. Give one of them another file"
                )


def _kinds(callback: Any) -> Mapping[str, Any]:
    """The `state_kinds` of the class whose `get_state` a callback has, since a subclass may have another one."""
    owner = next((one for one in type(callback).__mro__ if "get_state" in vars(one)), Callback)
    kinds: Mapping[str, Any] = vars(owner).get("state_kinds", {})
    return kinds


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value has a type. A boolean is no number."""
    return isinstance(value, kind) and not isinstance(value, bool)


def round_state(hook: str, number: int | None, logs: Logs, left: Iterable[int]) -> dict[str, Any]:
    """Returns the state of an unfinished round of a hook. `left` has the numbers of the callbacks whose hook has not
    been called yet.
    """
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
    """Returns callbacks as a list. The argument is None, one callback, or nested lists of callbacks, as in Keras.

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
    """Returns the user's callbacks and the defaults. A default is left out if a callback has its class or its name in
    Keras.

    >>> one = Callback()
    >>> with_defaults(one, Callback()) == [one]
    True
    """
    given = flattened(callbacks)

    def is_given(default: Callback) -> bool:
        return any(isinstance(one, type(default)) or keras_callbacks.replaces(one, default) for one in given)

    return [*given, *(default for default in defaults if not is_given(default))]
