"""The state from which training continues as if it had not been interrupted."""

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

    The order of a pass over the examples follows from `seed` and `data_pass`. The tokens that are masked follow from
    these two and the number of the example. Dropout follows from `seed`, `step` and the number of the sequence in the
    update. So a state keeps only `data_pass` and `position` of the data.

    Attributes:
        params: the parameters of the model, including the factors of LoRA.
        slots: the slots of the optimizer by name, in the layout of `params`.
        seed: the seed of all random choices.
        step: the number of updates since the optimizer was new.
        epoch: the number of the current epoch, or of the next one between two.
        epoch_steps: the number of finished steps of that epoch.
        data_pass: the number of the current pass over the examples, or of the next one between two.
        position: the number of examples of that pass that have been drawn.
        metrics: the name of each metric -> its numerator and denominator in the epoch so far.
        learning_rate: the number that was set, or the config of a schedule. None if it was a function.
        optimizer: the name of the optimizer's class.
        feed: the arguments of `fit` that decide the updates: the number of examples, the batch size and so on. Empty
            after a `fit` that reached its end.
        callbacks: the result of `CallbackList.get_state`. Empty after a `fit` that reached its end.
        stop_training: whether a callback has ended the current `fit`.
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
        """Checks that the numbers are in their ranges, and that the other values have their types.

        Raises:
            ValueError: if a value is not. The message names it.
        """
        for name, bits in COUNTS.items():
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 1 << bits:
                raise ValueError(
                    f"the state's {name} should be a whole number from 0 to 2**{bits} - 1, got {reprlib.repr(value)}"
                )
        if not isinstance(self.params, Arrays) or not all(isinstance(slot, Arrays) for slot in self.slots.values()):
            raise ValueError("the state's params and slots should be Arrays, as train_state() returns them")
        kinds: dict[str, Any] = dict.fromkeys(("metrics", "callbacks", "feed"), Mapping)
        kinds |= {"stop_training": bool, "optimizer": str, "learning_rate": int | float | Mapping | None}
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise ValueError(
                    f"the state's {name} is {reprlib.repr(getattr(self, name))}, which training can't give"
                )
        for name, pair in self.metrics.items():
            if len(pair) != 2 or not all(isinstance(number, int | float) for number in pair):
                raise ValueError(f"the state's metric {name!r} should be two numbers, got {reprlib.repr(pair)}")
