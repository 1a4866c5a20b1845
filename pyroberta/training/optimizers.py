"""Adam by hand, in Keras's form and in torch's, on the flat vector of all parameters.

Both keep running means of the gradient g and of its square,

    m += (g - m)(1 - β₁)        v += (g² - v)(1 - β₂)        both start at 0

and at update t = 1, 2, … correct for that start with c₁ = 1 - β₁ᵗ and c₂ = √(1 - β₂ᵗ). They differ in where ε stands:

    Keras   w -= lr · (c₂ / c₁) · m / (√v + ε)                  beside the uncorrected root, ε = 1e-7
    torch   w -= lr · (m / c₁) / (√v / c₂ + ε)                  beside the corrected root,   ε = 1e-8
              = lr · (c₂ / c₁) · m / (√v + ε·c₂)

The last line is Keras's form with another ε, so one op, `adam_step`, does both.

An update goes: clip the gradient, decay the weights, step. Parameters that are not trainable are ranges of the vector
left alone: neither they nor their moments move, and their gradients do not count in the norm.
"""

from __future__ import annotations

import copy
import inspect
import math
import re
import reprlib
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import reduce
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyroberta.model.attributes import Checked, Checks, Reasons, is_real, real_number, whole_number
from pyroberta.model.hints import hinting
from pyroberta.model.parameters import Arrays, Shape
from pyroberta.ops import REFERENCE, Ops, Scalar
from pyroberta.training import schedules

__all__ = ["Adam", "AdamW", "Optimizer", "TorchAdam", "TorchAdamW", "from_config", "get", "global_norm"]

Schedule = Callable[[int], float]
Own = TypeVar("Own", bound="Optimizer")

BIASES_AND_NORMS = (r"\.(bias|gamma|beta)$",)
CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")

_NO_AVERAGE = "there is no moving average of the weights here"
_DECAY = real_number(0.0)


def _open_rate(name: str, value: Any) -> float:
    _check(name, value, "in [0, 1)", is_real(value) and 0 <= value < 1)
    return float(value)


def _epsilon(name: str, value: Any) -> float:
    _check(name, value, "positive", is_real(value) and 0 < value < math.inf)
    return float(value)


def _limit(name: str, value: Any) -> float | None:
    _check(name, value, "None or positive", value is None or (is_real(value) and 0 < value < math.inf))
    return None if value is None else float(value)


def _perhaps_decay(name: str, value: Any) -> float | None:
    _check(name, value, "None or >= 0", value is None or (is_real(value) and 0 <= value < math.inf))
    return None if value is None else float(value)


def _no_decay(name: str, value: None) -> None:
    if value is not None:
        raise ValueError(f"TorchAdam has no {name}, got {value!r}: TorchAdamW decays")


class Optimizer(Checked):
    """The base class of optimizers. It clips and decays, and keeps slots: vectors in the parameters' layout.

    A subclass names its slots in `slot_names` and defines `update_range`. Each argument of its constructor must be an
    attribute of the same name, so that a checkpoint can tell them.

    Attributes:
        iterations: the updates done.
        slots: the vectors by name; empty before `build`.
    """

    slot_names: ClassVar[tuple[str, ...]] = ()
    non_negative: ClassVar[tuple[str, ...]] = ()  # slots in which no number is below 0
    excluded_by_default: ClassVar[tuple[str, ...]] = ()
    checks: ClassVar[Checks] = {
        "weight_decay": _perhaps_decay,
        **dict.fromkeys(CLIPS, _limit),
        "iterations": lambda name, value: whole_number(name, value, at_least=0),
    }
    unsettable: ClassVar[Reasons] = {
        "lr": "set learning_rate",
        "decay": "set learning_rate to a schedule, or weight_decay for decay of the weights",
        "amsgrad": "the second moment's largest value is not kept here",
        "use_ema": _NO_AVERAGE,
        "ema_momentum": _NO_AVERAGE,
        "ema_overwrite_frequency": _NO_AVERAGE,
        "loss_scale_factor": "losses are not scaled here, since float32 and float64 have no need of it",
        "gradient_accumulation_steps": "it is an argument of fit",
        "variables": "load_state_dict takes a state over",
    }

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.iterations = 0
        self.slots: dict[str, Arrays] = {}
        self._built_for: tuple[dict[str, Shape], Any] | None = None  # layout and dtype of the parameters
        self.trained_by: weakref.ref[Any] | None = None  # the model that it trained last, since that was compiled
        self._excluded = self.excluded_by_default

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
        """One update of a range of the vectors, in place, by a row of the ops table.

        Args:
            rate: the learning rate.
            step: updates done before.
            params, grads, slots: (P,) each, of the same range.
            scale: the factor of the gradient.
            decay: the share of each parameter that is subtracted.
            is_finite: see `update`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no update_range, which says how parameters are updated")

    def _checked(self, name: str, value: Any) -> Any:
        value = super()._checked(name, value)
        if name in CLIPS and value is not None:
            clips = {clip: value if clip == name else getattr(self, clip, None) for clip in CLIPS}
            given = [f"{clip}={limit}" for clip, limit in clips.items() if limit is not None]
            if len(given) > 1:
                raise ValueError(f"only one of {', '.join(CLIPS)} can be set, got {', '.join(given)}")
        return value

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: the model that it trains stays behind."""
        return {**vars(self), "trained_by": None}

    def __copy__(self: Own) -> Own:
        """A deep copy: two optimizers over the same slots would each count their own updates alone."""
        return copy.deepcopy(self)

    @property
    def learning_rate(self) -> float:
        """The rate of the next update; set it to a number or a schedule."""
        return self.rate_at(self.iterations)

    @learning_rate.setter
    def learning_rate(self, value: float | Schedule) -> None:
        self._learning_rate = checked_rate(value)

    @property
    def learning_rate_as_set(self) -> float | Schedule:
        """The number, schedule or function that the rate was set to."""
        return self._learning_rate

    def rate_at(self, step: int) -> float:
        """The learning rate after `step` updates.

        Raises:
            ValueError: where a schedule gives no number of at least 0.
        """
        if not callable(self._learning_rate):
            return self._learning_rate
        rate = float(self._learning_rate(step))
        _check(f"the schedule's learning rate after {step} updates", rate, "a number >= 0", 0 <= rate < math.inf)
        return rate

    @property
    def is_built(self) -> bool:
        """Whether the slots have been made."""
        return self._built_for is not None

    def fits(self, params: Arrays) -> bool:
        """Whether the slots are laid out as these parameters, in their dtype."""
        return self._built_for == (params.layout, params.dtype)

    def exclude_from_weight_decay(self, var_names: str | Iterable[str]) -> None:
        """Sets the parameters that do not decay, instead of those that were excluded before.

        Args:
            var_names: regular expressions, each searched for anywhere in a name. If empty, all parameters decay.

        Raises:
            ValueError: now or in `build`, for a pattern that no parameter's name matches.

        >>> optimizer = AdamW(weight_decay=0.01)
        >>> optimizer.exclude_from_weight_decay([r"bias$", "norm"])
        """
        self._excluded = (var_names,) if isinstance(var_names, str) else tuple(var_names)
        if self._built_for is not None:
            self._check_excluded(self._built_for[0])

    def build(self, params: Arrays) -> None:
        """Makes the slots, zeros in the layout of `params`, and sets the number of updates to 0."""
        self._check_excluded(params)
        self.slots = {name: params.zeros_like() for name in self.slot_names}
        self._built_for = dict(params.layout), params.dtype
        self.iterations = 0

    def apply(self, params: Arrays, grads: Arrays, trainable: Collection[str], ops: Ops) -> None:
        """One update, in place.

        Args:
            params: changed.
            grads: in the layout of `params`. `clipvalue` clips them in place; the other two ways do not change them.
            trainable: names of the parameters to update. The others and their slots do not change.
            ops: the ops table.

        Raises:
            ValueError: where layouts or dtypes differ or a name is unknown.
            FloatingPointError: where the gradient is not finite. Nothing has changed then.
        """
        self._prepare(params)
        _check_alike(params, grads, trainable)
        is_finite = ops.all_finite(*(grads.span(*span) for span in grads.spans(trainable)))
        self.update(params, grads, self.slots, self.iterations, trainable, ops, is_finite)
        if not ops.to_host(is_finite):
            raise FloatingPointError("the gradient is not finite. The parameters are as they were")
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
        """One update of the given parameters and slots, in place. The optimizer's own slots do not change.

        Args:
            params, grads, trainable, ops: as for `apply`, and not checked.
            slots: by `slot_names`, in the layout of `params`.
            step: updates done before.
            is_finite: a scalar of the ops table's: whether the gradient is finite. If not, nothing changes.
        """
        scales = self.clip_scales(grads, trainable, ops)
        rate = self.rate_at(step)
        for scale, decays, span in self._groups(params, trainable, scales):
            decay = rate * (self.weight_decay or 0.0) if decays else 0.0
            parts = {name: slots[name].span(*span) for name in self.slot_names}
            self.update_range(ops, rate, step, params.span(*span), grads.span(*span), parts, scale, decay, is_finite)

    def state_dict(self) -> dict[str, Any]:
        """The state: `iterations`, and each slot by parameter name (the arrays themselves, not copies).

        Raises:
            ValueError: before `build` or the first update.
        """
        if not self.is_built:
            raise ValueError("the optimizer has no state before its first update; call build(params) first")
        return {"iterations": self.iterations, **self.slots}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copies a state into the optimizer.

        Args:
            state: as from `state_dict`; a slot may be any mapping of names to arrays.

        Raises:
            ValueError: before `build`, and for names or shapes that are not those of the parameters. Nothing has
                changed then.
        """
        if self._built_for is None:
            raise ValueError("call build(params) before load_state_dict: the state is laid out as the parameters are")
        self._check_layout(state, self._built_for[0])
        self._copy_slots(state)
        self.iterations = int(state["iterations"])

    def check_state(self, state: Mapping[str, Any], params: Arrays) -> None:
        """Checks that a state is of these parameters, and could come from training.

        Raises:
            ValueError: for names or shapes that are not those of the parameters, and for a number that no training
                gives, naming it.
        """
        self._check_layout(state, params.layout)
        for slot in self.slot_names:
            least = 0.0 if slot in self.non_negative else -math.inf
            for name, array in state[slot].items():
                values = np.asarray(_host(state[slot], array)).astype(params.dtype, copy=False)
                is_sound = np.isfinite(values) & (values >= least)
                if not is_sound.all():
                    raise ValueError(
                        f"the optimizer's state: {slot}[{name!r}] has a number that no training comes to, "
                        f"{values[~is_sound][0]}"
                    )

    def load_slots(self, slots: Mapping[str, Mapping[str, Any]], params: Arrays) -> None:
        """Copies slots that were checked. Slots of another layout are made anew before."""
        if not self.fits(params):
            self.build(params)
        self._copy_slots(slots)

    def _copy_slots(self, slots: Mapping[str, Any]) -> None:
        for slot, arrays in self.slots.items():
            for name, array in slots[slot].items():
                arrays.ops.copy(arrays[name], arrays.ops.from_host(np.asarray(_host(slots[slot], array))))

    def _check_layout(self, state: Mapping[str, Any], layout: Mapping[str, Shape]) -> None:
        missing = {"iterations", *self.slot_names} - set(state)
        if missing:
            raise ValueError(f"the optimizer's state lacks {', '.join(sorted(missing))}; it has {', '.join(state)}")
        for slot in self.slot_names:
            found = {name: np.shape(_host(state[slot], array)) for name, array in state[slot].items()}
            for name in [*layout, *found]:
                came, expected = found.get(name, "missing"), layout.get(name, "no such parameter")
                if came != expected:
                    raise ValueError(
                        f"the optimizer's state: {slot}[{name!r}] is {came}, the model's shape: {expected}"
                    )

    def rate_config(self) -> Any:
        """The learning rate for a file: a number, a schedule's config, or None for any other function."""
        rate: Any = self._learning_rate
        if not callable(rate):
            return rate
        try:
            config = rate.get_config()
            schedules.from_config(dict(config))
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
        return config

    def check_excluded(self, params: Collection[str]) -> None:
        """Checks that each pattern of `exclude_from_weight_decay` matches a parameter.

        Raises:
            ValueError: naming the pattern that matches none.
        """
        self._check_excluded(params)

    def get_config(self) -> dict[str, Any]:
        """The arguments, ready for JSON. `from_config` makes the optimizer of them.

        Raises:
            ValueError: where the learning rate is a function that cannot be written down.
        """
        rate: Any = self._learning_rate
        if callable(rate):
            if not hasattr(rate, "get_config"):
                raise ValueError(f"the learning rate {rate!r} has no get_config: use one of pyroberta's schedules")
            rate = rate.get_config()
        names = [name for name in _arguments(type(self)) if name != "learning_rate"]
        for name in names:
            if not hasattr(self, name):
                raise ValueError(
                    f"{type(self).__name__} takes the argument {name!r} and has no attribute of that name: "
                    "set it in __init__"
                )
        return {
            "name": type(self).__name__.lower(),
            "learning_rate": rate,
            **{name: getattr(self, name) for name in names},
            "exclude_from_weight_decay": list(self._excluded),
        }

    def get_saved_config(self) -> dict[str, Any]:
        """`get_config` for a file, which `restored` reads. It has the names of the parameters that do not decay.

        It does not have their patterns, since searching for a pattern that comes from a file could take forever.

        Raises:
            ValueError: before `build` or the first update, and as `get_config`; for a user's own class.
        """
        if type(self) not in OPTIMIZERS.values():
            raise ValueError(
                f"{type(self).__name__} is an optimizer of your own, which no preset can name: save the model without "
                "include_optimizer (of ModelCheckpoint: save_weights_only=True); training.checkpoint keeps any"
            )
        self.state_dict()  # raises before `build`
        names = self._built_for[0] if self._built_for else {}
        config = self.get_config()
        if self._excluded == self.excluded_by_default:
            del config["exclude_from_weight_decay"]
        else:
            config["exclude_from_weight_decay"] = [name for name in names if not self.decays(name)]
        return config

    def _prepare(self, params: Arrays) -> None:
        if not self.is_built:
            self.build(params)
        if not self.fits(params):
            raise ValueError(
                "the optimizer was built for parameters of other names, shapes or dtype; "
                "use a new one, or call build(params) to start anew"
            )

    def decays(self, name: str) -> bool:
        """Whether a parameter of this name is one that decays, where there is a decay."""
        return not any(re.search(pattern, name) for pattern in self._excluded)

    def _check_excluded(self, params: Collection[str]) -> None:
        for pattern in self._excluded:
            if pattern not in self.excluded_by_default and not any(re.search(pattern, name) for name in params):
                names = list(params)
                raise ValueError(
                    f"exclude_from_weight_decay: no parameter's name matches {pattern!r}; "
                    f"names look like {', '.join(names[:3])}, …, {names[-1]}"
                )

    def clip_scales(self, grads: Arrays, trainable: Collection[str], ops: Ops) -> dict[str, Scalar]:
        """The factor of each parameter's gradient, by name; 1 for names that are missing.

        `clipvalue` clips the gradients themselves, in place.
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


class Adam(Optimizer):
    """Adam in Keras's form (Kingma and Ba 2015, arXiv:1412.6980, with the "ε̂" of its section 2.1).

    Args:
        learning_rate: a number, or a function from the number of updates done to a number; see `schedules`. (Keras's
            default is 1e-3; this one is what KerasHub compiles a masked LM with.)
        beta_1: the share of the gradient's mean that is kept at each update.
        beta_2: the share of the squared gradient's mean that is kept.
        epsilon: added to the root of the uncorrected second moment.
        weight_decay: if set, w -= w · weight_decay · learning_rate before each step, on every parameter but those
            named to `exclude_from_weight_decay` (decoupled: Loshchilov and Hutter 2019, arXiv:1711.05101).
        clipnorm: if set, each parameter's gradient is scaled down to this L2 norm.
        clipvalue: if set, each element of the gradient is kept within ± this.
        global_clipnorm: if set, the gradient of all trainable parameters together is scaled down to this L2 norm.

    Raises:
        ValueError: for a value outside its range, and for more than one of the three ways to clip.

    >>> from pyroberta.ops import REFERENCE
    >>> params, grads = Arrays({"w": (2,)}, "float64"), Arrays({"w": (2,)}, "float64")
    >>> grads["w"][:] = [3.0, -0.5]
    >>> optimizer = Adam(learning_rate=0.1)
    >>> optimizer.apply(params, grads, ["w"], REFERENCE)
    >>> params["w"].round(4)  # the first step is the rate, whatever the gradient's size
    array([-0.1,  0.1])
    """

    slot_names: ClassVar[tuple[str, ...]] = ("m", "v")  # the gradient's mean, and its square's
    non_negative: ClassVar[tuple[str, ...]] = ("v",)
    checks: ClassVar[Checks] = {"beta_1": _open_rate, "beta_2": _open_rate, "epsilon": _epsilon}

    @hinting()
    def __init__(
        self,
        learning_rate: float | Schedule = 5e-5,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    @property
    def m(self) -> Arrays | None:
        """The first moments by parameter; None before `build`."""
        return self.slots.get("m")

    @property
    def v(self) -> Arrays | None:
        """The second moments by parameter; None before `build`."""
        return self.slots.get("v")

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
        """See `Optimizer.update_range`."""
        c_1 = 1.0 - self.beta_1 ** (step + 1)
        c_2 = math.sqrt(1.0 - self.beta_2 ** (step + 1))
        steps = rate * c_2 / c_1, self.beta_1, self.beta_2, self._uncorrected_epsilon(c_2)
        ops.adam_step(params, grads, slots["m"], slots["v"], *steps, scale, decay, is_finite)

    def _uncorrected_epsilon(self, c_2: float) -> float:
        """The ε that is added to the uncorrected root."""
        return self.epsilon


class AdamW(Adam):
    """Keras's `AdamW`: `Adam` that decays every parameter, biases and layer norms too.

    Args:
        learning_rate: as `Adam`'s.
        weight_decay: as `Adam`'s; Keras's default.
        beta_1: as `Adam`'s.
        beta_2: as `Adam`'s.
        epsilon: as `Adam`'s.
        clipnorm: as `Adam`'s.
        clipvalue: as `Adam`'s.
        global_clipnorm: as `Adam`'s.

    >>> optimizer = AdamW(5e-5, weight_decay=0.01)
    >>> optimizer.exclude_from_weight_decay(["bias", "norm"])
    """

    checks: ClassVar[Checks] = {"weight_decay": _DECAY}

    @hinting()
    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay, clipnorm, clipvalue, global_clipnorm)


class TorchAdam(Adam):
    """Adam as in `torch.optim.Adam`: ε is added to the *corrected* root.

    There is no `weight_decay`: torch's is added to the gradient (an L2 penalty that Adam then rescales), and is no
    decay; `TorchAdamW` decays.

    Args:
        learning_rate: as `Adam`'s, with torch's default.
        beta_1: as `Adam`'s.
        beta_2: as `Adam`'s.
        epsilon: added to the root of the corrected second moment.
        clipnorm: as `Adam`'s.
        clipvalue: as `Adam`'s.
        global_clipnorm: as `Adam`'s. (`torch.nn.utils.clip_grad_norm_` adds 1e-6 to the norm; this does not.)

    >>> TorchAdam().epsilon
    1e-08
    """

    checks: ClassVar[Checks] = {"weight_decay": _no_decay}

    @hinting()
    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, None, clipnorm, clipvalue, global_clipnorm)

    def _uncorrected_epsilon(self, c_2: float) -> float:
        return self.epsilon * c_2


class TorchAdamW(TorchAdam):
    """Adam with decay as in `torch.optim.AdamW`, in the two groups of transformers' Trainer.

    Biases and layer norms do not decay. After `exclude_from_weight_decay([])` all parameters decay, as in torch with
    all parameters in one group.

    Args:
        learning_rate: as `Adam`'s, with torch's default; transformers' Trainer has 5e-5.
        weight_decay: as `Adam`'s, with torch's default; transformers' Trainer has 0.
        beta_1: as `Adam`'s.
        beta_2: as `Adam`'s.
        epsilon: added to the root of the corrected second moment.
        clipnorm: as `Adam`'s.
        clipvalue: as `Adam`'s.
        global_clipnorm: as `Adam`'s; transformers' Trainer has 1.0.

    >>> TorchAdamW(5e-5, global_clipnorm=1.0).weight_decay
    0.01
    """

    excluded_by_default: ClassVar[tuple[str, ...]] = BIASES_AND_NORMS
    checks: ClassVar[Checks] = {"weight_decay": _DECAY}

    @hinting()
    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        weight_decay: float = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        Adam.__init__(self, learning_rate, beta_1, beta_2, epsilon, weight_decay, clipnorm, clipvalue, global_clipnorm)


OPTIMIZERS: dict[str, type[Optimizer]] = {
    optimizer.__name__.lower(): optimizer for optimizer in (Adam, AdamW, TorchAdam, TorchAdamW)
}


def get(optimizer: str | Optimizer) -> Optimizer:
    """An optimizer by name, with its defaults. An optimizer object is returned as it is.

    Raises:
        ValueError: for an unknown name.

    >>> get("adamw").weight_decay
    0.004
    """
    if not isinstance(optimizer, str):
        return optimizer
    if optimizer.lower() not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)} or an optimizer, got {optimizer!r}")
    return OPTIMIZERS[optimizer.lower()]()


def from_config(config: Mapping[str, Any]) -> Optimizer:
    """The optimizer of a `get_config`, without its state.

    >>> from_config(Adam(schedules.Linear(1e-3, 100), clipnorm=1.0).get_config()).learning_rate
    0.001
    """
    arguments = dict(config)
    kind = type(get(arguments.pop("name")))
    excluded = arguments.pop("exclude_from_weight_decay", kind.excluded_by_default)
    if isinstance(arguments.get("learning_rate"), Mapping):
        arguments["learning_rate"] = schedules.from_config(arguments["learning_rate"])
    unknown = [name for name in arguments if name not in _arguments(kind)]
    if unknown:  # the name comes from a file, so there is no suggestion to make
        raise ValueError(f"{kind.__name__} has no argument {unknown[0]!r}")
    optimizer = kind(**arguments)
    optimizer.exclude_from_weight_decay(excluded)
    return optimizer


def restored(config: Mapping[str, Any], state: Mapping[str, Any], params: Arrays) -> Optimizer:
    """The optimizer that had this config and state, ready to go on.

    Args:
        config: as from `get_saved_config`.
        state: as from `state_dict`, copied.
        params: of the model.

    Raises:
        ValueError: where the optimizer is unknown, the state is of other parameters, or a moment isn't finite in the
            parameters' dtype, or a second moment is below 0.
    """
    try:
        config = dict(config)
        if "exclude_from_weight_decay" in config:
            config["exclude_from_weight_decay"] = _pattern_of(config["exclude_from_weight_decay"], params)
        optimizer = from_config(config)
        optimizer.build(params)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"this is no optimizer's config: {reprlib.repr(config)} ({str(error)[:400]})") from None
    with np.errstate(over="ignore"):
        optimizer.check_state(state, params)
        optimizer.load_state_dict(state)
    return optimizer


def _pattern_of(names: Any, params: Arrays) -> list[str]:
    """A pattern that matches the given parameters' names alone.

    Raises:
        ValueError: where a name is no parameter's.
    """
    if not isinstance(names, list):
        raise ValueError(f"exclude_from_weight_decay should be a list of names, got {reprlib.repr(names)}")
    for name in names:
        if not isinstance(name, str) or name not in params:
            raise ValueError(f"exclude_from_weight_decay: no parameter is named {reprlib.repr(name)}")
    return [f"^({'|'.join(map(re.escape, names))})$"] if names else []


def global_norm(vectors: Iterable[NDArray[Any]], ops: Ops = REFERENCE) -> float:
    """The L2 norm of all the vectors taken as one, summed in float64 whatever their dtype.

    >>> global_norm([np.array([3.0], np.float32), np.array([4.0], np.float32)])
    5.0
    """
    return math.sqrt(sum(ops.squared_norm(vector) for vector in vectors))


def checked_rate(value: Any) -> float | Schedule:
    """A learning rate, a number of at least 0 or a schedule.

    Raises:
        ValueError: for anything else.

    >>> checked_rate(1)
    1.0
    """
    if callable(value):
        schedule: Schedule = value
        return schedule
    _check("learning_rate", value, "a number >= 0 or a schedule", is_real(value) and 0 <= value < math.inf)
    return float(value)


def _host(arrays: Any, array: Any) -> Any:
    """An array of a slot, on the host."""
    return arrays.ops.to_host(array) if isinstance(arrays, Arrays) else array


def _check(name: str, value: object, expected: str, holds: bool) -> None:
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {value!r}")


def _check_alike(params: Arrays, grads: Arrays, trainable: Collection[str]) -> None:
    if grads.layout != params.layout or grads.dtype != params.dtype:
        raise ValueError(
            f"gradients must be laid out as the parameters are ({len(params)} arrays of {params.dtype}), "
            f"got {len(grads)} arrays of {grads.dtype}"
        )
    unknown = sorted(set(trainable) - set(params))
    if unknown:
        raise ValueError(
            f"trainable names {unknown[0]!r}, which is no parameter; names look like {next(iter(params))!r}"
        )


def _arguments(kind: type[Optimizer]) -> tuple[str, ...]:
    return tuple(inspect.signature(kind).parameters)
