"""Keras's own callbacks, which run as they are. Keras is not imported here: a user who has one imported it."""

from __future__ import annotations

from typing import Any

from pyroberta.training.keras_objects import base_name
from pyroberta.training.metrics import direction

# Those that would do half of their work, and what does it.
REFUSED = {
    "BackupAndRestore": "pyroberta.callbacks.BackupAndRestore(backup_dir) goes on bit for bit",
    "SwapEMAWeights": "with Adam(use_ema=True), fit ends with the average as the model's parameters",
    "TensorBoard": "pyroberta.callbacks.TensorBoard(log_dir) writes the same tags",
}
SETS_THE_RATE = ("LearningRateScheduler", "ReduceLROnPlateau")
REPLACED = {"ProgbarLogger": "ProgressBar"}  # Keras's name: the name of the class here whose place it takes


def replaces(callback: Any, default: Any) -> bool:
    """Whether a callback of Keras's takes the place of one that `fit` adds."""
    return REPLACED.get(base_name(callback) or "") == type(default).__name__


def prepare(callback: Any, model: Any) -> None:
    """Makes a callback of Keras's ready for a model: `mode="auto"` is resolved for the model's metrics.

    Keras's callbacks know the directions of Keras's metrics alone.

    Raises:
        TypeError: for one that would do half of its work here, naming what does it; and for one that sets the learning
            rate where that is a schedule, as Keras does.
    """
    name = base_name(callback)
    if name is None:
        return
    if name in REFUSED:
        raise TypeError(f"keras.callbacks.{name} works with Keras's models alone: {REFUSED[name]}")
    optimizer = getattr(model, "optimizer", None)
    if name in SETS_THE_RATE and callable(getattr(optimizer, "learning_rate_as_set", None)):
        raise TypeError(
            f"keras.callbacks.{name} sets the learning rate, but the optimizer was made with a schedule: compile with "
            "a number, or leave the callback out"
        )
    if getattr(callback, "mode", None) == "auto" and getattr(callback, "monitor_op", True) is None:
        callback.mode = direction(callback.monitor, getattr(model, "metrics", ())) or "auto"
