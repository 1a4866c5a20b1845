"""Schedules by name, from configs, and from Keras's objects."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

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
    """The schedule's config with its class, ready for JSON; `get` makes the schedule of it.

    Raises:
        ValueError: for a function or a class of a user's own.

    >>> serialize(decays.ExponentialDecay(0.1, 10, 0.5))["class_name"]
    'ExponentialDecay'
    """
    name = type(schedule).__name__
    if type(schedule) in SCHEDULES.values():
        config: dict[str, Any] = schedule.get_config()
        return config
    if type(schedule) in DECAYS.values():
        return {"class_name": name, "config": schedule.get_config()}
    raise ValueError(f"{schedule!r} is no schedule of pyroberta's, and only these can be written down")


def get(schedule: Any) -> Any:
    """A schedule from a config, or from one of Keras's schedules. A function is returned as it is.

    Args:
        schedule: a function; a schedule of Keras's; or a config, as `serialize` or Keras's `serialize` gives it.

    Raises:
        ValueError: for a config of no schedule, and for a schedule of Keras's that there is not here.

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
    """The schedule of a config: `{"class_name": ..., "config": {...}}`, or `get_config` of those that warm up.

    Raises:
        ValueError: for a name that is not there, and for arguments that do not fit.

    >>> from_config({"name": "constant", "learning_rate": 0.1, "warmup_steps": 5})
    Constant(learning_rate=0.1, warmup_steps=5)
    """
    arguments = dict(config)
    if "class_name" in arguments:
        name = arguments["class_name"]
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
        raise ValueError(f"this is no config of a {kind.__name__}: {shown(config)} ({str(error)[:200]})") from None


deserialize = from_config  # its name in Keras


def shown(value: Any) -> str:
    """A value from a config, short."""
    return reprlib.repr(value)
