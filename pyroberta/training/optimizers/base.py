"""The base class of all optimizers: clipping, decay, slots, the learning rate, and a moving average of the
parameters.
"""

from __future__ import annotations

import copy
import inspect
import math
import re
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyroberta.formats.budget import type_of
from pyroberta.model.attributes import (
    Checked,
    Checks,
    Reasons,
    as_call,
    in_message,
    is_real,
    real_number,
    true_or_false,
    whole_number,
    whole_number_or_none,
)
from pyroberta.model.parameters import Arrays, Shape
from pyroberta.model.serialization import arguments_of, check_name
from pyroberta.ops import REFERENCE, Ops, Scalar
from pyroberta.training import schedules
from pyroberta.training.optimizers.rate import Rate

Schedule = Callable[..., float]
Self = TypeVar("Self", bound="Optimizer")

CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")
WITHOUT_EFFECT = {  # arguments of Keras's optimizers whose one value is None
    "loss_scale_factor": "losses are not scaled here, since float32 and float64 do not need it",
    "gradient_accumulation_steps": "it is an argument of fit, fit(..., gradient_accumulation_steps=n)",
}

DECAY = real_number(0.0)


def open_rate(name: str, value: Any) -> float:
    """Checks a share below 1, and returns it."""
    _check(name, value, "in [0, 1)", is_real(value) and 0 <= value < 1)
    return float(value)


def positive(name: str, value: Any) -> float:
    """Checks a number above 0, and returns it."""
    _check(name, value, "positive", is_real(value) and 0 < value < math.inf)
    return float(value)


def _limit(name: str, value: Any) -> float | None:
    _check(name, value, "None or positive", value is None or (is_real(value) and 0 < value < math.inf))
    return None if value is None else float(value)


def _perhaps_decay(name: str, value: Any) -> float | None:
    _check(name, value, "None or >= 0", value is None or (is_real(value) and 0 <= value < math.inf))
    return None if value is None else float(value)


OF_THE_AVERAGE = {"ema_momentum": 0.99, "ema_overwrite_frequency": None}  # Keras's defaults, without use_ema
OPTIONS = {  # what a config says of an option
    "amsgrad": ("amsgrad",),
    "use_ema": ("use_ema", "ema_momentum", "ema_overwrite_frequency"),
}


class Optimizer(Checked):
    """The base class of optimizers. It clips gradients, decays parameters, and keeps slots: vectors in the parameters'
    layout.

    A subclass names its slots in `slot_names` and defines `update_range`. Each argument of its constructor must be
    stored in an attribute of the same name, so that a checkpoint can save it.

    Args:
        learning_rate: a number, a function of the number of updates so far, or a function without arguments.
        weight_decay: if set, w -= w · weight_decay · learning_rate before each step.
        clipnorm, clipvalue, global_clipnorm: a limit of the gradient; see `Adam`.
        use_ema: whether a moving average of the parameters is kept, in the slot `average`. After the first update it
            has the values of the parameters. After each later one it is `ema_momentum` · average + (1 - `ema_momentum`)
            · values. At the end of `fit` the parameters are set to the average.
        ema_momentum: the share of the average that is kept at each update.
        ema_overwrite_frequency: if set, the parameters are set to the average after every so many updates too. Without
            `use_ema` only Keras's defaults of these two arguments are accepted.
        name: a name, which is kept in the config.

    Attributes:
        iterations: the number of updates so far.
        slots: the vectors by name. Empty before `build`.
    """

    slot_names: tuple[str, ...] = ()  # an instance has those of its options too, such as `average`
    optional_slots: ClassVar[Mapping[str, str]] = {"use_ema": "average"}  # option: the slot that it needs
    non_negative: ClassVar[tuple[str, ...]] = ()  # slots in which no number is below 0
    excluded_by_default: ClassVar[tuple[str, ...]] = ()
    is_named: ClassVar[bool] = False  # whether a preset can name the class, which says so itself
    checks: ClassVar[Checks] = {
        "name": check_name,
        "weight_decay": _perhaps_decay,
        **dict.fromkeys(CLIPS, _limit),
        "use_ema": true_or_false,
        "ema_momentum": real_number(0.0, 1.0),
        "ema_overwrite_frequency": whole_number_or_none,
        "iterations": lambda name, value: whole_number(name, value, at_least=0),
    }
    unsettable: ClassVar[Reasons] = {
        "lr": "set learning_rate",
        "decay": "set learning_rate to a schedule, or weight_decay for decay of the weights",
        **WITHOUT_EFFECT,
        "variables": "load_state_dict loads a state",
    }

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        name: str | None = None,
    ) -> None:
        self._built_for: tuple[dict[str, Shape], Any] | None = None  # layout and dtype of the parameters
        self.name = type(self).__name__.lower() if name is None else name
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.use_ema = use_ema
        self.ema_momentum = ema_momentum
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.iterations = 0
        self.slots: dict[str, Arrays] = {}
        self.trained_by: weakref.ref[Any] | None = None  # the model that it trained last, since that was compiled
        self.compiled_by: weakref.ref[Any] | None = None  # the model that was compiled with it last
        self._excluded = self.excluded_by_default
        self._unnamed: tuple[NDArray[Any], ...] = ()  # arrays in var_list, until the parameters are known

    def update_range(
        self,
        ops: Ops,
        rate: float,
        step: int,
        params: Any,
        grads: Any,
        slots: Mapping[str, Any],
        scale: Scalar,
        decay: float,
        is_finite: Scalar,
    ) -> None:
        """Updates a range of the vectors in place, by a row of the ops table.

        Args:
            rate: the learning rate.
            step: the number of updates before.
            params, grads, slots: vectors (P,) of the same range.
            scale: the factor by which the gradient is multiplied.
            decay: the share of each parameter that is subtracted.
            is_finite: see `update`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no update_range, the method that updates the parameters")

    def _checked(self, name: str, value: Any) -> Any:
        value = super()._checked(name, value)
        if name in CLIPS and value is not None:
            clips = {clip: value if clip == name else getattr(self, clip, None) for clip in CLIPS}
            given = [f"{clip}={limit}" for clip, limit in clips.items() if limit is not None]
            if len(given) > 1:
                raise ValueError(f"only one of {', '.join(CLIPS)} can be set, got {', '.join(given)}")
        if name in OF_THE_AVERAGE and not getattr(self, "use_ema", False) and value != OF_THE_AVERAGE[name]:
            raise ValueError(
                f"{name}={value} would have no effect without use_ema=True: pass use_ema=True too, or leave {name} out"
            )
        if name == "use_ema" and not value:
            for setting, default in OF_THE_AVERAGE.items():
                if (now := vars(self).get(setting, default)) != default:
                    raise ValueError(
                        f"{setting}={now} would have no effect without use_ema=True: set {setting} to {default} first"
                    )
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.optional_slots and vars(self).get("_built_for") is not None and value != getattr(self, name):
            raise AttributeError(
                f"{type(self).__name__}.{name} can't be set after the first update, since it needs the slot "
                f"{self.optional_slots[name]!r}: compile with another optimizer"
            )
        super().__setattr__(name, value)
        if name in self.optional_slots:
            more = [slot for option, slot in self.optional_slots.items() if vars(self).get(option)]
            vars(self)["slot_names"] = (*type(self).slot_names, *more)

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: its model stays behind."""
        return {**vars(self), "trained_by": None, "compiled_by": None}

    def __copy__(self: Self) -> Self:
        """A deep copy: two optimizers over the same slots would each count their own updates alone."""
        return copy.deepcopy(self)

    @property
    def learning_rate(self) -> Rate:
        """The rate of the next update, a number. It can be set to a number or a schedule."""
        return Rate(self.rate_at(self.iterations), self)

    @learning_rate.setter
    def learning_rate(self, value: float | Schedule) -> None:
        self._learning_rate = checked_rate(value)
        self._takes_step = callable(self._learning_rate) and _takes_step(self._learning_rate)

    @property
    def learning_rate_as_set(self) -> float | Schedule:
        """The number, schedule or function to which the rate was set."""
        return self._learning_rate

    def rate_at(self, step: int) -> float:
        """Returns the learning rate after `step` updates.

        Raises:
            ValueError: if a schedule does not return a number of at least 0.
        """
        if not callable(self._learning_rate):
            return self._learning_rate
        try:
            rate = float(self._learning_rate(step) if self._takes_step else self._learning_rate())
        except ArithmeticError as error:
            raise ValueError(f"the schedule returns no learning rate after {step} updates: {error}") from error
        _check(f"the schedule's learning rate after {step} updates", rate, "a number >= 0", 0 <= rate < math.inf)
        return rate

    @property
    def is_built(self) -> bool:
        """Whether the slots exist."""
        return self._built_for is not None

    def fits(self, params: Arrays) -> bool:
        """Returns whether the slots have the layout and the dtype of these parameters."""
        return self._built_for == (params.layout, params.dtype)

    def exclude_from_weight_decay(
        self,
        var_list: str | NDArray[Any] | Iterable[str | NDArray[Any]] | None = None,
        var_names: str | Iterable[str] | None = None,
    ) -> None:
        """Sets the parameters that do not decay. Earlier exclusions no longer apply.

        Args:
            var_list: parameters: their whole names, as in `backbone.params`, or the arrays themselves, as in
                `backbone.params`, `weights` or `token_embedding.embeddings`. An array is found by its memory, so a copy
                of a parameter, such as those of `get_weights`, is none.
            var_names: regular expressions that are searched anywhere in a name. Without both arguments, or if both are
                empty, all parameters decay.

        Raises:
            TypeError: if a value is neither a text nor, in `var_list`, an array.
            ValueError: if a pattern is not a regular expression; if an array is no parameter, at once or, before
                `compile`, there; if no parameter has a name or matches a pattern, at once or, before the first update,
                there. What was excluded before then stays so.

        >>> from pyroberta.optimizers import AdamW
        >>> optimizer = AdamW(weight_decay=0.01)
        >>> optimizer.exclude_from_weight_decay(var_names=[r"bias$", "norm"])
        """
        is_one = isinstance(var_list, str | bytes | np.ndarray) or not isinstance(var_list, Iterable | None)
        given: tuple[Any, ...] = (var_list,) if is_one else tuple(var_list or ())
        unnamed = tuple(value for value in given if isinstance(value, np.ndarray))
        names = [
            _whole(name) for name in _texts("var_list", [value for value in given if not isinstance(value, np.ndarray)])
        ]
        patterns = _texts("var_names", var_names)
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"var_names: {pattern!r} is not a regular expression: {error}") from None
        if unnamed and (model := self._model) is not None:
            names += [_whole(name) for name in _names_of(unnamed, model.backbone.params)]
            unnamed = ()
        elif unnamed and self._built_for is not None:  # the slots know the names, and the model alone the arrays
            raise ValueError(
                "exclude_from_weight_decay: the model of the arrays in var_list is not known, since the optimizer "
                f"was built without it. Pass names, such as {next(iter(self._built_for[0]))!r}"
            )
        excluded = (*names, *patterns)
        if self._built_for is not None:
            self._check_excluded(excluded, self._built_for[0])
        self._excluded, self._unnamed = excluded, unnamed

    @property
    def _model(self) -> Any:
        """The model that it trains, or, before the first update, the one that was compiled with it. None without."""
        for model in (self.trained_by, self.compiled_by):
            if model is not None and model() is not None:
                return model()
        return None

    def belong_to(self, model: Any) -> None:
        """Notes the model that is compiled with it, and finds there the names of the arrays that
        `exclude_from_weight_decay` was given.

        Raises:
            ValueError: if an array is none of the model's parameters. The message has names to write instead.
        """
        self._excluded, self._unnamed = self._excluded_among(model.backbone.params), ()
        self.compiled_by = weakref.ref(model)

    def _excluded_among(self, params: Arrays) -> tuple[str, ...]:
        """The patterns of what does not decay, with those of the arrays, whose names these parameters tell."""
        return (*self._excluded, *(_whole(name) for name in _names_of(self._unnamed, params)))

    def build(self, params: Arrays) -> None:
        """Makes the slots, zeros in the layout of `params`. If they are made again, the number of updates is
        set to 0.
        """
        self.check_excluded(params)
        self.slots = {name: params.zeros_like() for name in self.slot_names}
        if self.use_ema:  # a parameter that is frozen now and trained later begins with its value, not with 0
            self.slots["average"].copy_from(params)
        if self._built_for is not None:  # otherwise it is what a user set, for a schedule to go on from, as in Keras
            self.iterations = 0
        self._built_for = dict(params.layout), params.dtype

    def apply(self, params: Arrays, grads: Arrays, trainable: Collection[str], ops: Ops) -> None:
        """Makes one update, in place.

        Args:
            params: the parameters, which are changed.
            grads: the gradients, in the layout of `params`. `clipvalue` clips them in place; `clipnorm` and
                `global_clipnorm` do not change them.
            trainable: the names of the parameters to update. Other parameters and their slots do not change.
            ops: the ops table.

        Raises:
            ValueError: if layouts or dtypes differ, or a name is unknown.
            FloatingPointError: if the gradient is not finite. Then the parameters and slots do not change.
        """
        self._prepare(params)
        _check_alike(params, grads, trainable)
        is_finite = ops.all_finite(*(grads.span(*span) for span in grads.spans(trainable)))
        self.update(params, grads, self.slots, self.iterations, trainable, ops, is_finite)
        if not ops.to_host(is_finite):
            raise FloatingPointError("the gradient is not finite. The parameters did not change")
        self.average(params, self.slots, self.iterations, trainable, ops)
        self.iterations += 1

    def update(
        self,
        params: Arrays,
        grads: Arrays,
        slots: Mapping[str, Arrays],
        step: int,
        trainable: Collection[str],
        ops: Ops,
        is_finite: Scalar = True,
    ) -> None:
        """Makes one update of the given parameters and slots, in place. The optimizer's own slots do not change.

        Args:
            params, grads, trainable, ops: see `apply`. They are not checked.
            slots: the slots by `slot_names`, in the layout of `params`.
            step: the number of updates before.
            is_finite: a scalar of the ops table that says whether the gradient is finite. If it is not, nothing
                changes.
        """
        scales = self.clip_scales(grads, trainable, ops)
        rate = self.rate_at(step)
        for scale, decays, span in self._groups(params, trainable, scales):
            decay = rate * (self.weight_decay or 0.0) if decays else 0.0
            parts = {name: slots[name].span(*span) for name in self.slot_names}
            self.update_range(ops, rate, step, params.span(*span), grads.span(*span), parts, scale, decay, is_finite)

    def average(
        self, params: Arrays, slots: Mapping[str, Arrays], step: int, trainable: Collection[str], ops: Ops
    ) -> None:
        """Updates the moving average after an update, if there is one. It may also set the parameters to the average.

        Args:
            params, slots, trainable, ops: see `update`.
            step: the number of updates before that update.
        """
        if not self.use_ema:
            return
        averages = slots["average"]
        for span in params.spans(trainable):
            ops.running_mean(averages.span(*span), params.span(*span), self.ema_momentum if step else 0.0)
        if self.ema_overwrite_frequency and (step + 1) % self.ema_overwrite_frequency == 0:
            self.finalize(params, slots, trainable, ops)

    def finalize(self, params: Arrays, slots: Mapping[str, Arrays], trainable: Collection[str], ops: Ops) -> None:
        """Sets the parameters to their moving average, if there is one. `fit` calls it at its end."""
        for span in params.spans(trainable) if self.use_ema else ():
            ops.copy(params.span(*span), slots["average"].span(*span))

    @property
    def built(self) -> bool:
        """Keras's name for `is_built`."""
        return self.is_built

    @property
    def variables(self) -> list[NDArray[Any]]:
        """Copies of the state in Keras's order: the number of updates, the learning rate, then the slots of each
        parameter.

        The rate is left out if it is a function. To load a state, use `load_state_dict`.
        """
        found = [np.array(self.iterations)]
        if not callable(self._learning_rate):
            found.append(np.array(self._learning_rate, np.float32))
        names = self._built_for[0] if self._built_for else {}
        arrays = self.slots.values()
        return [*found, *(np.array(_host(slot, slot[name])) for name in names for slot in arrays)]

    def state_dict(self) -> dict[str, Any]:
        """Returns the state: `iterations`, and each slot by parameter name. The arrays are not copies.

        Raises:
            ValueError: before `build` or the first update.
        """
        if not self.is_built:
            raise ValueError("the optimizer has no state before its first update; call build(params) first")
        return {"iterations": self.iterations, **self.slots}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copies a state into the optimizer.

        Args:
            state: a state that `state_dict` returned. A slot may be any mapping of names to arrays.

        Raises:
            TypeError: if the state is not a dict.
            ValueError: before `build`; if names or shapes are not those of the parameters, or `iterations` is not a
                whole number of at least 0. Then nothing changes.
        """
        if self._built_for is None:
            raise ValueError(
                "call build(params) before load_state_dict: the state must have the layout of the parameters"
            )
        self._check_layout(state, self._built_for[0])
        count = state["iterations"]  # an array where it comes from a file of arrays
        count = whole_number("iterations", np.asarray(count).item() if np.shape(count) == () else count, at_least=0)
        self._copy_slots(state)
        self.iterations = count

    def check_state(self, state: Mapping[str, Any], params: Arrays) -> None:
        """Checks that a state fits these parameters, and has only numbers that training can give.

        Raises:
            ValueError: if names or shapes are not those of the parameters, or training can't give a number. The message
                names it.
        """
        self._check_layout(state, params.layout)
        for slot in self.slot_names:
            least = 0.0 if slot in self.non_negative else -math.inf
            for name, array in state[slot].items():
                values = np.asarray(_host(state[slot], array)).astype(params.dtype, copy=False)
                is_sound = np.isfinite(values) & (values >= least)
                if not is_sound.all():
                    raise ValueError(
                        f"the optimizer's state: {slot}[{name!r}] has a number that training can't give, "
                        f"{values[~is_sound][0]}"
                    )

    def load_slots(self, slots: Mapping[str, Mapping[str, Any]], params: Arrays) -> None:
        """Copies slots that were checked. If the present slots have another layout, they are made again first."""
        if not self.fits(params):
            self.build(params)
        self._copy_slots(slots)

    def _copy_slots(self, slots: Mapping[str, Any]) -> None:
        for slot, arrays in self.slots.items():
            for name, array in slots[slot].items():
                arrays.ops.copy(arrays[name], arrays.ops.from_host(np.asarray(_host(slots[slot], array))))

    def _check_layout(self, state: Mapping[str, Any], layout: Mapping[str, Shape]) -> None:
        if not isinstance(state, Mapping):
            raise TypeError(f"the optimizer's state should be a dict, as state_dict returns it; got {state!r:.80}")
        missing = {"iterations", *self.slot_names} - set(state)
        if missing:
            raise ValueError(f"the optimizer's state lacks {', '.join(sorted(missing))}; it has {', '.join(state)}")
        for slot in self.slot_names:
            found = {name: np.shape(_host(state[slot], array)) for name, array in state[slot].items()}
            for name in [*layout, *found]:
                came, expected = found.get(name, "missing"), layout.get(name, "no such parameter")
                if came != expected:
                    raise ValueError(f"the optimizer's state: {slot}[{name!r}] is {came}; the model has {expected}")
                if (kind := np.asarray(_host(state[slot], state[slot][name])).dtype).kind in "cmMOSU":
                    raise ValueError(f"the optimizer's state: {slot}[{name!r}] should be real numbers, got {kind}")

    def rate_config(self) -> Any:
        """Returns the learning rate for a file: a number, the config of a schedule, or None for any other function."""
        rate: Any = self._learning_rate
        if not callable(rate):
            return rate
        try:
            return schedules.serialize(rate)
        except ValueError:
            return None

    def check_excluded(self, params: Arrays) -> None:
        """Checks that each pattern and array of `exclude_from_weight_decay` is found among the parameters.

        Raises:
            ValueError: if one is not. The message names it.
        """
        excluded = self._excluded_among(params)
        self._check_excluded(excluded, params)
        self._excluded, self._unnamed = excluded, ()

    def __repr__(self) -> str:
        return as_call(self)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, in JSON's types. `from_config` makes the optimizer from them.

        Raises:
            ValueError: if the learning rate is a function that can't be saved, or `exclude_from_weight_decay` was given
                arrays and the optimizer was neither compiled nor built since.
        """
        if self._unnamed:
            raise ValueError(
                "exclude_from_weight_decay was given arrays, whose names are known from compile() on: compile the "
                "model first, or pass names"
            )
        rate: Any = self._learning_rate
        if callable(rate):
            rate = self.rate_config()
            if rate is None:
                raise ValueError(
                    f"the learning rate {self._learning_rate!r} can't be saved: use one of pyroberta's schedules"
                )
        names = [name for name in _arguments(type(self)) if name not in ("learning_rate", "name", *WITHOUT_EFFECT)]
        for name in names:
            if not hasattr(self, name):
                raise ValueError(
                    f"{type(self).__name__} takes the argument {name!r} but has no attribute of that name: set it in "
                    "__init__"
                )
        config = {"name": self.name, "learning_rate": rate, **{name: getattr(self, name) for name in names}}
        if self._excluded != self.excluded_by_default:  # Keras's optimizers have no such entry
            config["exclude_from_weight_decay"] = list(self._excluded)
        return config

    @classmethod
    def from_config(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """Returns the optimizer of a config, of this class or of Keras's class of the same name, without its state.

        Raises:
            TypeError: if config is not a dict.
            ValueError: if an argument is unknown, or would have no effect.

        >>> from pyroberta.optimizers import Adam
        >>> Adam.from_config(Adam(1e-3, clipnorm=1.0, name="mine").get_config()).clipnorm
        1.0
        """
        arguments = arguments_of(cls, config)
        excluded = arguments.pop("exclude_from_weight_decay", None)
        for name, why in WITHOUT_EFFECT.items():
            if arguments.pop(name, None) is not None:
                raise ValueError(f"{cls.__name__} has no {name}: {why}")
        if isinstance(arguments.get("learning_rate"), Mapping):
            arguments["learning_rate"] = schedules.from_config(arguments["learning_rate"])
        known = _arguments(cls)
        unknown = [name for name in arguments if name not in known]
        if unknown:  # the name comes from a file, so there is no suggestion to make
            raise ValueError(f"{cls.__name__} has no argument {unknown[0]!r}")
        optimizer = cls(**arguments)
        if excluded is not None:
            optimizer.exclude_from_weight_decay(var_names=excluded)
        return optimizer

    def get_saved_config(self) -> dict[str, Any]:
        """Returns the config for a file, which `restored` reads. It has the names of the parameters that do not decay.

        It does not have the patterns, since searching a pattern that comes from a file could take forever.

        Raises:
            ValueError: before `build` or the first update, or if the class is a user's own. See `get_config` for other
                errors.
        """
        if not vars(type(self)).get("is_named"):
            raise ValueError(
                f"{type(self).__name__} is a class of your own, which a preset can't name: save the model without "
                "include_optimizer (in ModelCheckpoint: save_weights_only=True). training.checkpoint saves any "
                "optimizer"
            )
        self.state_dict()  # raises before `build`
        names = self._built_for[0] if self._built_for else {}
        config = {**self.get_config(), "name": type(self).__name__.lower()}
        for option, slot in self.optional_slots.items():  # a file of an optimizer without an option says nothing of it
            if slot not in self.slot_names:
                config = {name: value for name, value in config.items() if name not in OPTIONS[option]}
        if "exclude_from_weight_decay" in config:
            config["exclude_from_weight_decay"] = [name for name in names if not self.decays(name)]
        return config

    def _prepare(self, params: Arrays) -> None:
        if not self.is_built:
            self.build(params)
        if not self.fits(params):
            raise ValueError(
                "the optimizer was built for parameters of other names, shapes or dtype; use a new optimizer, or call "
                "build(params) to reset this one"
            )

    def decays(self, name: str) -> bool:
        """Returns whether a parameter of this name decays, if there is a weight decay. Excluded arrays count from
        `build` on.
        """
        return not any(re.search(pattern, name) for pattern in self._excluded)

    def _check_excluded(self, excluded: Iterable[str], params: Collection[str]) -> None:
        for pattern in excluded:
            if pattern not in self.excluded_by_default and not any(re.search(pattern, name) for name in params):
                names = list(params)
                name = re.sub(r"\\(.)", r"\1", pattern[1:-1])
                lacking = f" is named {name!r}" if pattern == _whole(name) else f"'s name matches {pattern!r}"
                raise ValueError(
                    f"exclude_from_weight_decay: no parameter{lacking}; "
                    f"names look like {', '.join(names[:3])}, …, {names[-1]}"
                )

    def clip_scales(self, grads: Arrays, trainable: Collection[str], ops: Ops) -> dict[str, Scalar]:
        """Returns the factor of each parameter's gradient, by name. A name that is missing has the factor 1.

        With `clipvalue`, the gradients themselves are clipped in place.
        """
        if self.clipvalue is not None:
            for span in grads.spans(trainable):
                ops.clip(grads.span(*span), self.clipvalue)
        elif self.global_clipnorm is not None:
            squares = [ops.squared_norm(grads.span(*span)) for span in grads.spans(trainable)]
            return dict.fromkeys(trainable, ops.clip_scale(reduce(ops.add, squares, 0.0), self.global_clipnorm))
        elif self.clipnorm is not None:
            limit = self.clipnorm
            return {
                name: ops.clip_scale(ops.squared_norm(grads.span(*grads.ranges[name])), limit) for name in trainable
            }
        return {}

    def _groups(
        self, params: Arrays, trainable: Collection[str], scales: Mapping[str, Scalar]
    ) -> Iterator[tuple[Scalar, bool, tuple[int, int]]]:
        """The ranges of the vector with the same scale and decay, with these."""
        alike: dict[tuple[int, bool], list[str]] = {}
        for name in trainable:
            alike.setdefault((id(scales.get(name)), self.decays(name)), []).append(name)
        for (_, decays), names in alike.items():
            for span in params.spans(names):
                yield scales.get(names[0], 1.0), decays, span


def global_norm(vectors: Iterable[NDArray[Any]], ops: Ops = REFERENCE) -> float:
    """Returns the L2 norm of all vectors together. It is summed in float64, whatever their dtype is.

    >>> global_norm([np.array([3.0], np.float32), np.array([4.0], np.float32)])
    5.0
    """
    return math.sqrt(sum(ops.squared_norm(vector) for vector in vectors))


def checked_rate(value: Any) -> float | Schedule:
    """Returns a learning rate: a number of at least 0, or a schedule. A config of a schedule, or a schedule of Keras,
    becomes a schedule.

    Raises:
        ValueError: if it is anything else.

    >>> checked_rate(1)
    1.0
    """
    if callable(value) or isinstance(value, Mapping):
        schedule: Schedule = schedules.get(value)
        return schedule
    _check("learning_rate", value, "a number >= 0 or a schedule", is_real(value) and 0 <= value < math.inf)
    return float(value)


def refuse_without_effect(kind: type, **given: Any) -> None:
    """Checks that arguments of Keras that have no effect here are None.

    Raises:
        ValueError: if one is not. The message has its name and the reason.
    """
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{kind.__name__}({name}={value!r}) would have no effect: {WITHOUT_EFFECT[name]}")


def _host(arrays: Any, array: Any) -> Any:
    """An array of a slot, on the host."""
    return arrays.ops.to_host(array) if isinstance(arrays, Arrays) else array


def _check(name: str, value: object, expected: str, holds: bool) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {in_message(value)}")


def _check_alike(params: Arrays, grads: Arrays, trainable: Collection[str]) -> None:
    if grads.layout != params.layout or grads.dtype != params.dtype:
        raise ValueError(
            f"gradients must have the layout of the parameters ({len(params)} arrays of {params.dtype}), got "
            f"{len(grads)} arrays of {grads.dtype}"
        )
    unknown = sorted(set(trainable) - set(params))
    if unknown:
        raise ValueError(
            f"trainable names {unknown[0]!r}, which is not a parameter; names look like {next(iter(params))!r}"
        )


def _takes_step(function: Callable[..., Any]) -> bool:
    """Whether a function of a learning rate takes the number of updates; Keras calls one without arguments, too."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a built-in function
        return True
    try:
        signature.bind(0)
    except TypeError:
        return False
    return True


def _texts(name: str, values: str | Iterable[str] | None) -> tuple[str, ...]:
    is_one = isinstance(values, str | bytes) or not isinstance(values, Iterable | None)
    found: tuple[Any, ...] = (values,) if is_one else tuple(values or ())
    for value in found:
        if not isinstance(value, str):
            raise TypeError(
                f"{name} of exclude_from_weight_decay should be names of parameters, as in backbone.params"
                + " (or the arrays there)" * (name == "var_list")
                + f"; got {type_of(value)}"
            )
    return found


def _whole(name: str) -> str:
    """The pattern that matches one whole name."""
    return f"^{re.escape(name)}$"


def _names_of(arrays: Sequence[NDArray[Any]], params: Arrays) -> list[str]:
    """The name of the parameter of which each array is the memory.

    Raises:
        ValueError: if an array is no parameter.
    """
    found = []
    places = {_memory(params.ops.to_host(array)): name for name, array in params.items()} if arrays else {}
    for array in arrays:
        name = places.get(_memory(array))
        if name is None:
            alike = [name for name, shape in params.layout.items() if shape == array.shape]
            names = (alike or list(params))[:3]
            raise ValueError(
                f"exclude_from_weight_decay: an array of the shape {array.shape} in var_list is no parameter of this "
                f"model, though it may be a copy or a part of one. Pass an array of backbone.params or a name; "
                f"{'names of this shape are' if alike else 'names look like'} {', '.join(map(repr, names))}"
            )
        found.append(name)
    return found


def _memory(array: NDArray[Any]) -> tuple[int, int, str]:
    """What arrays over the same numbers have in common, be one transposed or reshaped: address, size and dtype."""
    return array.__array_interface__["data"][0], array.size, array.dtype.str


def _arguments(kind: type[Optimizer]) -> tuple[str, ...]:
    return tuple(inspect.signature(kind).parameters)
