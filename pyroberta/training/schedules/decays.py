"""Schedules with Keras's names, arguments and values, computed in float64.

s is the number of updates so far, r₀ is `initial_learning_rate`, and D is `decay_steps`. (Keras 3.15,
keras/src/optimizers/schedules/learning_rate_schedule.py, which computes in float32.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from pyroberta.formats.budget import shown
from pyroberta.formats.counts import counted
from pyroberta.model.attributes import in_message, is_real
from pyroberta.model.serialization import arguments_of, check_name

Self = TypeVar("Self", bound="LearningRateSchedule")


class LearningRateSchedule:
    """The base class of schedules with Keras's names. Users' own schedules may derive from it too.

    A subclass defines `__call__(step)`, and `get_config` if it must be saved.

    >>> class Halving(LearningRateSchedule):
    ...     def __call__(self, step):
    ...         return 0.1 * 0.5**step
    >>> Halving()(2)
    0.025
    """

    def __call__(self, step: int) -> float:
        """The learning rate of the update after `step` others."""
        raise NotImplementedError(
            f"{type(self).__name__} has no __call__(step), the method that returns the learning rate"
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, in JSON's types."""
        raise NotImplementedError(f"{type(self).__name__} has no get_config, so it can't be saved")

    @classmethod
    def from_config(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """Returns the schedule of a config that `get_config` returned.

        >>> ExponentialDecay.from_config(ExponentialDecay(0.1, 10, 0.5).get_config())(10)
        0.05
        """
        return cls(**arguments_of(cls, config))


class _Decay(LearningRateSchedule):
    """A dataclass of numbers."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]  # each subclass is a dataclass
            value = getattr(self, field.name)
            if isinstance(value, np.generic):  # JSON can't hold these
                value = value.item()
                object.__setattr__(self, field.name, value)
            if field.type in ("float", "float | None") and value is None and "None" in str(field.type):
                continue
            if field.type in ("float", "float | None") and (not is_real(value) or not 0 <= value < math.inf):
                raise ValueError(f"{field.name} must be a number >= 0, got {in_message(value)}")
            if field.name == "name" and value is not None:
                check_name("name", value)
            if field.type == "bool" and not isinstance(value, bool):
                raise TypeError(f"{field.name} must be True or False, got {value!r}")

    def get_config(self) -> dict[str, Any]:
        """The arguments, ready for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


def _expect_positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if not value > 0:
            raise ValueError(f"{name} must be more than 0, got {value!r}")


@dataclass(frozen=True)
class ExponentialDecay(_Decay):
    """The rate is r₀ · `decay_rate`^(s / D).

    Args:
        initial_learning_rate: r₀.
        decay_steps: D, the number of updates in which the rate changes by a factor of `decay_rate`.
        decay_rate: the factor.
        staircase: whether s / D is rounded down, so that the rate changes only at each D-th update.
        name: a name, which is kept in the config.

    >>> [round(ExponentialDecay(0.1, 10, 0.5)(step), 6) for step in (0, 5, 10)]
    [0.1, 0.070711, 0.05]
    """

    initial_learning_rate: float
    decay_steps: float
    decay_rate: float
    staircase: bool = False
    name: str | None = "ExponentialDecay"

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect_positive(decay_steps=self.decay_steps)

    def __call__(self, step: int) -> float:
        """The learning rate of the update after `step` others."""
        return float(self.initial_learning_rate * self.decay_rate ** _periods(step, self.decay_steps, self.staircase))


@dataclass(frozen=True)
class InverseTimeDecay(_Decay):
    """The rate is r₀ / (1 + `decay_rate` · s / D).

    Args:
        initial_learning_rate: r₀.
        decay_steps: D, a number of updates.
        decay_rate: the growth of the denominator in D updates.
        staircase: whether s / D is rounded down.
        name: a name, which is kept in the config.

    >>> [InverseTimeDecay(0.1, 10, 1.0)(step) for step in (0, 10, 30)]
    [0.1, 0.05, 0.025]
    """

    initial_learning_rate: float
    decay_steps: float
    decay_rate: float
    staircase: bool = False
    name: str | None = "InverseTimeDecay"

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect_positive(decay_steps=self.decay_steps)

    def __call__(self, step: int) -> float:
        """The learning rate of the update after `step` others."""
        periods = _periods(step, self.decay_steps, self.staircase)
        return float(self.initial_learning_rate / (1.0 + self.decay_rate * periods))


@dataclass(frozen=True)
class PolynomialDecay(_Decay):
    """The rate is (r₀ - `end_learning_rate`) · (1 - s / D)^`power` + `end_learning_rate`, where s is at most D.

    Args:
        initial_learning_rate: r₀.
        decay_steps: D, the number of updates until the end is reached.
        end_learning_rate: the rate at the end, which then stays.
        power: the power of the polynomial.
        cycle: whether the schedule continues after D updates, with the next multiple of D instead of D. Otherwise the
            rate stays.
        name: a name, which is kept in the config.

    >>> [round(PolynomialDecay(0.1, 10, 0.0)(step), 6) for step in (0, 5, 10, 15)]
    [0.1, 0.05, 0.0, 0.0]
    """

    initial_learning_rate: float
    decay_steps: float
    end_learning_rate: float = 0.0001
    power: float = 1.0
    cycle: bool = False
    name: str | None = "PolynomialDecay"

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect_positive(decay_steps=self.decay_steps)

    def __call__(self, step: int) -> float:
        """The learning rate of the update after `step` others."""
        steps = float(self.decay_steps)
        if self.cycle:
            steps *= max(1, math.ceil(step / steps))
        left = 1.0 - min(step, steps) / steps
        end = self.end_learning_rate
        return float((self.initial_learning_rate - end) * left**self.power + end)


@dataclass(frozen=True)
class CosineDecay(_Decay):
    """The rate falls along half a cosine from the peak to `alpha` times the peak, after a warm-up (Loshchilov and
    Hutter 2017).

    Args:
        initial_learning_rate: the peak. With a warm-up, the rate at the beginning of the warm-up.
        decay_steps: the number of updates of the half cosine. The warm-up does not count.
        alpha: the last rate as a share of the peak.
        name: a name, which is kept in the config.
        warmup_target: the peak after the warm-up. None for no warm-up.
        warmup_steps: the number of updates in which the rate rises to `warmup_target` in a straight line.

    >>> schedule = CosineDecay(0.0, 10, warmup_target=0.1, warmup_steps=10)
    >>> [round(schedule(step), 6) for step in (0, 5, 10, 15, 20)]
    [0.0, 0.05, 0.1, 0.05, 0.0]
    """

    initial_learning_rate: float
    decay_steps: float
    alpha: float = 0.0
    name: str | None = "CosineDecay"
    warmup_target: float | None = None
    warmup_steps: float = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect_positive(decay_steps=self.decay_steps)
        if self.warmup_steps and self.warmup_target is None:
            raise ValueError(f"warmup_steps={self.warmup_steps} has no effect without warmup_target, the peak after it")

    def __call__(self, step: int) -> float:
        """The learning rate of the update after `step` others."""
        first, peak, start = self.initial_learning_rate, self.initial_learning_rate, 0.0
        if self.warmup_target is not None:
            peak, start = self.warmup_target, self.warmup_steps
            if step < start:
                return float((peak - first) * (step / start) + first)
        progress = min(step - start, self.decay_steps) / self.decay_steps
        return float(peak * ((1.0 - self.alpha) * 0.5 * (1.0 + math.cos(math.pi * progress)) + self.alpha))


@dataclass(frozen=True)
class CosineDecayRestarts(_Decay):
    """The rate falls along a half cosine, from a peak to the lowest rate, and then restarts at the next peak
    (Loshchilov and Hutter 2017).

    `t_mul` makes each half cosine longer than the one before, and `m_mul` makes each peak lower. At the update of a
    restart the rate is the next peak. Keras computes in float32, and may return the end of the half cosine before.

    Args:
        initial_learning_rate: the first peak.
        first_decay_steps: the number of updates of the first half cosine.
        t_mul: the factor, at least 1, by which the number of updates grows from one half cosine to the next.
        m_mul: the factor by which the peak changes from one half cosine to the next.
        alpha: the lowest rate as a share of the first peak.
        name: a name, which is kept in the config.

    >>> schedule = CosineDecayRestarts(0.1, 10, t_mul=2.0, m_mul=0.5)
    >>> [round(schedule(step), 6) for step in (0, 5, 10, 20, 30)]
    [0.1, 0.05, 0.05, 0.025, 0.025]
    """

    initial_learning_rate: float
    first_decay_steps: float
    t_mul: float = 2.0
    m_mul: float = 1.0
    alpha: float = 0.0
    name: str | None = "SGDRDecay"

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect_positive(first_decay_steps=self.first_decay_steps)
        if self.t_mul < 1:
            raise ValueError(
                f"t_mul must be at least 1, got {self.t_mul!r}, since shorter and shorter cosines would come to an end"
            )

    def __call__(self, step: int) -> float:
        """The learning rate of the update after `step` others."""
        restarts, progress = self.restarts(step)
        share = 0.5 * self.m_mul**restarts * (1.0 + math.cos(math.pi * progress))
        return float(self.initial_learning_rate * ((1.0 - self.alpha) * share + self.alpha))

    def restarts(self, step: int) -> tuple[int, float]:
        """Returns the number of restarts before an update, and the share of the current half cosine that has passed.

        The number is exact. A logarithm that is slightly below a whole number through rounding counts as that number.
        """
        periods = step / self.first_decay_steps
        if self.t_mul == 1:
            return int(periods), periods - int(periods)
        restarts = int(math.log1p(periods * (self.t_mul - 1.0)) / math.log(self.t_mul))
        while self._begin(restarts + 1) <= periods:
            restarts += 1
        while self._begin(restarts) > periods:
            restarts -= 1
        return restarts, (periods - self._begin(restarts)) / self.t_mul**restarts

    def _begin(self, restarts: int) -> float:
        """Where a half cosine begins, in lengths of the first one."""
        return float((self.t_mul**restarts - 1.0) / (self.t_mul - 1.0))


@dataclass(frozen=True)
class PiecewiseConstantDecay(_Decay):
    """The rate is `values[0]` while s <= `boundaries[0]`, then `values[1]` while s <= `boundaries[1]`, and so on.

    Args:
        boundaries: the last update of each value except the last one, in rising order.
        values: the rates, one more than boundaries.
        name: a name, which is kept in the config.

    >>> [PiecewiseConstantDecay([10, 20], [0.1, 0.01, 0.001])(step) for step in (10, 11, 20, 21)]
    [0.1, 0.01, 0.01, 0.001]
    """

    boundaries: Sequence[float]
    values: Sequence[float]
    name: str | None = "PiecewiseConstant"

    def __post_init__(self) -> None:
        for name in ("boundaries", "values"):
            given = getattr(self, name)
            if not isinstance(given, Iterable):
                raise ValueError(f"{name} must be a list of numbers, got {given!r}")
            numbers = [one.item() if isinstance(one, np.generic) else one for one in given]
            if not all(is_real(number) and 0 <= number < math.inf for number in numbers):
                raise ValueError(f"{name} must be numbers >= 0, got {shown(numbers)}")
            object.__setattr__(self, name, numbers)
        if len(self.boundaries) != len(self.values) - 1 or not self.boundaries:
            raise ValueError(
                f"values should have one number more than boundaries, got "
                f"{counted(len(self.boundaries), 'boundary')} and {counted(len(self.values), 'value')}"
            )
        if list(self.boundaries) != sorted(set(self.boundaries)):
            raise ValueError(f"boundaries must rise, got {list(self.boundaries)!r}")

    def __call__(self, step: int) -> float:
        """The learning rate of the update after `step` others."""
        return float(self.values[sum(step > boundary for boundary in self.boundaries)])

    def __hash__(self) -> int:
        return hash((tuple(self.boundaries), tuple(self.values), self.name))


def _periods(step: int, decay_steps: float, is_whole: bool) -> float:
    periods = step / decay_steps
    return math.floor(periods) if is_whole else periods
