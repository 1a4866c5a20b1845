"""Schedules by name, from configs, and from Keras's objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyroberta.formats.budget import shown
from pyroberta.model import serialization
from pyroberta.training import keras_objects
from pyroberta.training.schedules import decays, warmup

Schedule = Callable[..., float]

SCHEDULES: dict[str, Any] = {
    kind.__name__.lower(): kind for kind in (warmup.Constant, warmup.Linear, warmup.Cosine, warmup.Polynomial)
}
DECAYS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        decays.ExponentialDecay,
        decays.InverseTimeDecay,
        decays.PolynomialDecay,
        decays.CosineDecay,
        decays.CosineDecayRestarts,
        decays.PiecewiseConstantDecay,
    )
}


def serialize(schedule: Any) -> dict[str, Any]:
    """Returns the config of a schedule with its class, in JSON's types. `get` makes the schedule from it.

    Raises:
        ValueError: if the schedule is a function or a class of the user.

    >>> serialize(decays.ExponentialDecay(0.1, 10, 0.5))["class_name"]
    'ExponentialDecay'
    """
    name = type(schedule).__name__
    if type(schedule) in SCHEDULES.values():
        config: dict[str, Any] = schedule.get_config()
        return config
    if type(schedule) in DECAYS.values():
        return {"class_name": name, "config": schedule.get_config()}
    raise ValueError(f"{schedule!r} is not a schedule of pyroberta, and only these can be saved")


def get(schedule: Any) -> Any:
    """Returns a schedule from a config, or from a schedule of Keras. A function is returned as it is.

    Args:
        schedule: a function, a schedule of Keras, or a config of `serialize`, here or of Keras.

    Raises:
        ValueError: if the config is not that of a schedule, or pyroberta does not have the schedule of Keras.

    >>> get({"class_name": "InverseTimeDecay", "config": {
    ...     "initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 1.0}})(10)
    0.05
    """
    if isinstance(schedule, Mapping):
        return from_config(schedule)
    name = keras_objects.class_name(schedule)
    if name in DECAYS:
        return DECAYS[name].from_config(schedule.get_config())
    if not callable(schedule):
        raise ValueError(f"a schedule should be a function of the number of updates, got {schedule!r}")
    return schedule


def from_config(config: Mapping[str, Any]) -> Any:
    """Returns the schedule of a config: `{"class_name": ..., "config": {...}}`, or a config of `get_config` of a
    schedule that warms up.

    Raises:
        ValueError: if the name is unknown, the class is a user's own, or the arguments do not fit.

    >>> from_config({"name": "constant", "learning_rate": 0.1, "warmup_steps": 5})
    Constant(learning_rate=0.1, warmup_steps=5)
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"a schedule's config should be a dict with class_name and config, got {shown(config)}")
    arguments = dict(config)
    if "class_name" in arguments:
        name = serialization.written_name("schedule", config)
        kinds = {kind.__name__: kind for kind in (*SCHEDULES.values(), *DECAYS.values())}
        if not isinstance(name, str) or name not in kinds:
            raise ValueError(f"the schedule must be one of {', '.join(kinds)}, got {shown(name)}")
        kind = kinds[name]
        given = arguments.get("config")
        if not isinstance(given, Mapping):
            raise ValueError(f"the schedule's config should be a dict of its arguments, got {shown(given)}")
        arguments = {key: value for key, value in given.items() if key != "name" or kind in DECAYS.values()}
    else:
        name = arguments.pop("name", None)
        if not isinstance(name, str) or name not in SCHEDULES:
            raise ValueError(f"the schedule's name must be one of {', '.join(SCHEDULES)}, got {shown(name)}")
        kind = SCHEDULES[name]
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ValueError(f"this is not the config of {kind.__name__}: {shown(config)} ({str(error)[:200]})") from None


deserialize = from_config  # its name in Keras
