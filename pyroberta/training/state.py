"""The state from which training goes on as if it had not been interrupted."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyroberta.model.parameters import Arrays

# The numbers of a state, and how many bits each may have. Some are part of a key, see `ops.dropout`.
COUNTS = {"seed": 64, "step": 44, "epoch": 60, "epoch_steps": 44, "data_pass": 60, "position": 60}


@dataclass
class TrainState:
    """The arrays that a training step changes, and the position in the data and the epoch.

    The order of a pass over the examples follows from `seed` and `data_pass`, the tokens that are masked from these and
    the example's number, and dropout from `seed`, `step` and the sequence's number in the update. So `data_pass` and
    `position` are all that a state keeps of the data.

    Attributes:
        params: the model's parameters, LoRA's factors among them.
        slots: what the optimizer keeps of each parameter, by the slot's name; laid out as `params`.
        seed: of everything random.
        step: updates done since the optimizer was new.
        epoch: the number of the epoch that is under way, or comes next.
        epoch_steps: steps of that epoch that are done.
        data_pass: the number of the pass over the examples that is under way, or comes next.
        position: examples of that pass that have been drawn.
        metrics: name -> numerator and denominator, of the epoch so far.
        learning_rate: a number as it was set, or a schedule's config; None where it was a function.
        optimizer: the name of its class.
        feed: what `fit` was given: the number of examples, the batch size and so on; empty after a `fit` that came to
            its end.
        callbacks: what `CallbackList.get_state` gave; empty after a `fit` that came to its end.
        stop_training: whether a callback has ended the `fit` that is under way.
    """

    params: Arrays
    slots: dict[str, Arrays]
    seed: int = 0
    step: int = 0
    epoch: int = 0
    epoch_steps: int = 0
    data_pass: int = 0
    position: int = 0
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    learning_rate: Any = None
    callbacks: Mapping[str, Any] = field(default_factory=dict)
    stop_training: bool = False
    optimizer: str = ""
    feed: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Checks that the numbers are in their ranges, and the rest of its kind.

        Raises:
            ValueError: naming what is not.
        """
        for name, bits in COUNTS.items():
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 1 << bits:
                raise ValueError(
                    f"the state's {name} should be a whole number from 0 to 2**{bits} - 1, got {reprlib.repr(value)}"
                )
        if not isinstance(self.params, Arrays) or not all(isinstance(slot, Arrays) for slot in self.slots.values()):
            raise ValueError("the state's params and slots should be Arrays, as train_state() gives them")
        kinds: dict[str, Any] = dict.fromkeys(("metrics", "callbacks", "feed"), Mapping)
        kinds |= {"stop_training": bool, "optimizer": str, "learning_rate": int | float | Mapping | None}
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"the state's {name} is {reprlib.repr(getattr(self, name))}, which no training gives")
        for name, pair in self.metrics.items():
            if len(pair) != 2 or not all(isinstance(number, int | float) for number in pair):
                raise ValueError(f"the state's metric {name!r} should be two numbers, got {reprlib.repr(pair)}")
