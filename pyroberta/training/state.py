"""The state from which training goes on as if it had not been interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyroberta.model.parameters import Arrays


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
        learning_rate: a number as it was set, or a schedule's config.
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
