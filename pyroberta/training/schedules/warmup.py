"""Schedules that warm up from 0 and then decay, as transformers' `get_*_schedule_with_warmup` do.

`total_steps` includes the warm-up. With a warm-up, the first update has a rate of 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from pyroberta.model.attributes import in_message, is_real
from pyroberta.model.serialization import arguments_of

Self = TypeVar("Self", bound="_Schedule")


@dataclass(frozen=True)
class _Schedule:
    """Warm-up from 0 in a straight line, then `shape(progress)` between the peak and the end."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not is_real(value) or not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number >= 0, got {in_message(value)}")
            if isinstance(value, np.generic):  # JSON can't hold these
                object.__setattr__(self, name, value.item())

    def get_config(self) -> dict[str, Any]:
        """The name and the arguments, ready for JSON. `from_config` makes the schedule of them."""
        return {"name": type(self).__name__.lower(), **asdict(self)}

    @classmethod
    def from_config(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """The schedule of a `get_config`.

        >>> Constant.from_config(Constant(1e-3).get_config()).learning_rate
        0.001
        """
        return cls(**{name: value for name, value in arguments_of(cls, config).items() if name != "name"})


@dataclass(frozen=True)
class Constant(_Schedule):
    """The rate warms up from 0, then stays.

    Args:
        learning_rate: the rate after the warm-up.
        warmup_steps: the number of updates of the warm-up.

    >>> [Constant(1e-3, warmup_steps=2)(step) for step in range(4)]
    [0.0, 0.0005, 0.001, 0.001]
    """

    learning_rate: float
    warmup_steps: int = 0

    def __call__(self, step: int) -> float:
        """The rate of the update after `step` others."""
        return self.learning_rate * _warmed_up(step, self.warmup_steps)


@dataclass(frozen=True)
class _Decay(_Schedule):
    learning_rate: float
    total_steps: int
    warmup_steps: int = 0
    end_learning_rate: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.total_steps > self.warmup_steps:
            raise ValueError(
                "total_steps includes the warm-up and must be more than warmup_steps, got "
                f"total_steps={self.total_steps}, warmup_steps={self.warmup_steps}"
            )

    def left(self, progress: float) -> float:
        """The remaining share of the difference between peak and end. progress goes from 0 to 1."""
        raise NotImplementedError

    def __call__(self, step: int) -> float:
        """The rate of the update after `step` others; past `total_steps`, the end's."""
        if step < self.warmup_steps:
            return self.learning_rate * _warmed_up(step, self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        return self.end_learning_rate + (self.learning_rate - self.end_learning_rate) * self.left(progress)


@dataclass(frozen=True)
class Linear(_Decay):
    """The rate warms up from 0, then falls in a straight line. This is the schedule of BERT, and transformers' default.

    Args:
        learning_rate: the peak.
        total_steps: the number of updates until `end_learning_rate` is reached, including the warm-up.
        warmup_steps: the number of updates until the peak.
        end_learning_rate: the rate at the end, which then stays.

    >>> schedule = Linear(1.0, total_steps=6, warmup_steps=2)
    >>> [schedule(step) for step in range(8)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """

    def left(self, progress: float) -> float:
        """Returns 1 - progress."""
        return 1.0 - progress


@dataclass(frozen=True)
class Cosine(_Decay):
    """The rate warms up from 0, then falls along half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983).

    Args:
        learning_rate: the peak.
        total_steps: the number of updates until `end_learning_rate` is reached, including the warm-up.
        warmup_steps: the number of updates until the peak.
        end_learning_rate: the rate at the end, which then stays. (Keras's `CosineDecay` has it as a share, `alpha`.)

    >>> schedule = Cosine(1.0, total_steps=4, end_learning_rate=0.5)
    >>> [round(schedule(step), 3) for step in range(6)]
    [1.0, 0.927, 0.75, 0.573, 0.5, 0.5]
    """

    def left(self, progress: float) -> float:
        """Returns (1 + cos(π · progress)) / 2."""
        return 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Polynomial(_Decay):
    """The rate warms up from 0, then falls as (1 - progress)ᵖᵒʷᵉʳ. With power 1 it is fairseq's schedule for RoBERTa.

    Args:
        learning_rate: the peak.
        total_steps: the number of updates until `end_learning_rate` is reached, including the warm-up.
        warmup_steps: the number of updates until the peak.
        end_learning_rate: the rate at the end, which then stays.
        power: the power. 1 gives `Linear`. With a larger power the rate falls faster at first.

    >>> schedule = Polynomial(1.0, total_steps=4, power=2.0)
    >>> [schedule(step) for step in range(6)]
    [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """

    power: float = 1.0

    def left(self, progress: float) -> float:
        """Returns (1 - progress)ᵖᵒʷᵉʳ."""
        return float((1.0 - progress) ** self.power)


def _warmed_up(step: int, warmup_steps: int) -> float:
    return min(1.0, step / warmup_steps) if warmup_steps else 1.0
