"""Trainings that are interrupted in each way and go on."""

from __future__ import annotations

import copy

from small_models import TEXTS, small_masked_lm

from pyroberta import MaskedLM, callbacks, optimizers
from pyroberta.training import schedules
from pyroberta.training.state import TrainState

SCHEDULE = schedules.Linear(1e-2, total_steps=40, warmup_steps=4)


MANY = TEXTS * 3  # 18 texts: five batches of four


def fresh(**compiled) -> MaskedLM:
    model = small_masked_lm(seed=7, dropout=0.2, attention_dropout=0.2, backend="numpy")
    model.compile(**{"optimizer": optimizers.AdamW(SCHEDULE, weight_decay=0.1, global_clipnorm=0.5), **compiled})
    return model


class Keeping(callbacks.Callback):
    """Takes the state after some updates, counted over all epochs, or at the end of an epoch."""

    def __init__(self, *updates: int, epoch: int | None = None) -> None:
        super().__init__()
        self.updates, self.epoch, self.states = updates, epoch, {}

    @property
    def kept(self) -> TrainState | None:
        """The last of the states."""
        return next(reversed(self.states.values()), None)

    def on_train_batch_end(self, batch, logs=None) -> None:
        if self.model.optimizer.iterations in self.updates:
            self.states[self.model.optimizer.iterations] = copy.deepcopy(self.model.train_state())

    def on_epoch_end(self, epoch, logs=None) -> None:
        if epoch == self.epoch:
            self.states["epoch"] = copy.deepcopy(self.model.train_state())


def same(one: MaskedLM, other: MaskedLM) -> bool:
    pairs = [(m.backbone.params, *m.optimizer.slots.values()) for m in (one, other)]
    return all(a.flat.tobytes() == b.flat.tobytes() for a, b in zip(*pairs, strict=True))


WAYS = {
    "passes": {"batch_size": 4, "epochs": 3},
    "in order": {"batch_size": 4, "epochs": 3, "shuffle": False},
    "accumulated": {"batch_size": 2, "epochs": 3, "gradient_accumulation_steps": 2},
    "steps": {"batch_size": 4, "epochs": 4, "steps_per_epoch": 3},
    "validated": {"batch_size": 3, "epochs": 3, "validation_split": 0.2},
}
