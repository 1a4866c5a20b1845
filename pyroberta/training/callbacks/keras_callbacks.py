"""Support for Keras's own callbacks. Keras is not imported here, since a user who has such a callback has
imported it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyroberta.training.keras_objects import base_name
from pyroberta.training.metrics import direction, logged_name

# Those that would do half of their work, and what does it.
REFUSED = {
    "BackupAndRestore": "pyroberta.callbacks.BackupAndRestore(backup_dir) goes on bit for bit",
    "SwapEMAWeights": "with Adam(use_ema=True), fit ends with the average as the model's parameters",
    "TensorBoard": "pyroberta.callbacks.TensorBoard(log_dir) writes the same tags",
}
SETS_THE_RATE = ("LearningRateScheduler", "ReduceLROnPlateau")
STATES = {  # what changes in training, of those that keep something
    "EarlyStopping": ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
    "ModelCheckpoint": ("best", "_batches_seen_since_last_saving", "_last_batch_seen"),
    "History": ("history", "epoch"),
}
REPLACED = {"ProgbarLogger": "ProgressBar"}  # Keras's name: the name of the class here whose place it takes


def replaces(callback: Any, default: Any) -> bool:
    """Returns whether a user's callback of Keras takes the place of a default callback of `fit`, which is then left
    out.

    Args:
        callback: the callback of Keras.
        default: the callback that `fit` would add.
    """
    return REPLACED.get(base_name(callback) or "") == type(default).__name__


def prepare(callback: Any, model: Any) -> None:
    """Prepares a callback of Keras for a model: it sets `monitor`, and a `mode` that is "auto", according to the
    model's metrics.

    Keras's callbacks know the directions of Keras's metrics only. Accuracy is monitored under the name that is logged.

    Raises:
        TypeError: if the callback would do only a part of its work here (the message names a replacement), or if it
            sets the learning rate and that is a schedule, as in Keras.
    """
    name = base_name(callback)
    if name is None:
        return
    if name in REFUSED:
        raise TypeError(f"keras.callbacks.{name} works only with Keras's models: {REFUSED[name]}")
    optimizer = getattr(model, "optimizer", None)
    if name in SETS_THE_RATE and callable(getattr(optimizer, "learning_rate_as_set", None)):
        raise TypeError(
            f"keras.callbacks.{name} sets the learning rate, but the optimizer was made with a schedule: compile with "
            "a number, or leave the callback out"
        )
    metrics = getattr(model, "metrics", ())
    if hasattr(callback, "monitor"):
        prefix = "val_" if callback.monitor.startswith("val_") else ""
        logged = {f"{prefix}{metric.name}": None for metric in metrics}
        callback.monitor = logged_name(callback.monitor, logged) or callback.monitor
        if callback.mode == "auto" and callback.monitor_op is None:
            callback.mode = direction(callback.monitor, metrics) or "auto"


def get_state(callback: Any) -> dict[str, Any]:
    """Returns the state from which a callback can continue: the result of its `get_state`, or the attributes of a
    callback of Keras.
    """
    if hasattr(callback, "get_state"):
        state: dict[str, Any] = callback.get_state()
        return state
    return {name: getattr(callback, name) for name in STATES.get(base_name(callback) or "", ())}


def set_state(callback: Any, state: Mapping[str, Any]) -> None:
    """Sets the state that `get_state` returned."""
    if hasattr(callback, "set_state"):
        callback.set_state(state)
        return
    for name in STATES.get(base_name(callback) or "", ()):
        setattr(callback, name, state[name])
