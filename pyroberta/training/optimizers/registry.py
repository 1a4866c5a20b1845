"""Optimizers by name, from configs, and from Keras's objects."""

from __future__ import annotations

import inspect
import re
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from pyroberta.formats.budget import shown
from pyroberta.formats.counts import counted
from pyroberta.model import serialization
from pyroberta.model.parameters import Arrays
from pyroberta.training import keras_objects, schedules
from pyroberta.training.optimizers.adam import Adam, AdamW
from pyroberta.training.optimizers.base import Optimizer
from pyroberta.training.optimizers.torch_adam import TorchAdam, TorchAdamW

OPTIMIZERS: dict[str, type[Optimizer]] = {
    optimizer.__name__.lower(): optimizer for optimizer in (Adam, AdamW, TorchAdam, TorchAdamW)
}


def get(optimizer: Any) -> Any:
    """Returns an optimizer by name, from a config, or from an optimizer of Keras. An optimizer of pyroberta is returned
    as it is.

    Args:
        optimizer: a name, for an optimizer with its defaults; a config of `serialize`, here or of Keras; an optimizer;
            or None, which stays None.

    Raises:
        ValueError: if the name is unknown, or an optimizer of Keras has settings that would have no effect.
        TypeError: if pyroberta does not have the optimizer of Keras. The message has the line to write.

    >>> get("adamw").weight_decay
    0.004
    >>> get({"class_name": "Adam", "config": {"learning_rate": 0.5}}).learning_rate
    0.5
    """
    if isinstance(optimizer, Mapping):
        return from_config(optimizer)
    if isinstance(optimizer, str):
        return _kind(optimizer)()
    if keras_objects.base_name(optimizer) is not None:
        return _converted(optimizer)
    return optimizer


def _kind(name: Any) -> type[Optimizer]:
    name = serialization.plain_name(name)
    if not isinstance(name, str) or name.lower() not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)} or an optimizer, got {shown(name)}")
    return OPTIMIZERS[name.lower()]


def _converted(optimizer: Any) -> Optimizer:
    """One of Keras's optimizers as one of pyroberta's, with the same settings."""
    name = keras_objects.class_name(optimizer)
    if name not in ("Adam", "AdamW"):
        given = name or f"{type(optimizer).__name__}, your own subclass of a class of Keras,"
        raise TypeError(
            f"keras.optimizers.{given} can't be converted: only Adam and AdamW can. Write "
            "optimizer=pyroberta.optimizers.Adam(learning_rate=...)"
        )
    if int(optimizer.iterations):
        updates = counted(int(optimizer.iterations), "update")
        raise ValueError(
            f"this keras.optimizers.{name} has made {updates}, so its state belongs to another model. Make a new one, "
            f"or write optimizer=pyroberta.optimizers.{name}(...)"
        )
    if getattr(optimizer, "_exclude_from_weight_decay", None) or getattr(
        optimizer, "_exclude_from_weight_decay_pattern", None
    ):
        raise ValueError(
            f"exclude_from_weight_decay of a keras.optimizers.{name} names Keras's variables. Write "
            f"optimizer = pyroberta.optimizers.{name}(...); optimizer.exclude_from_weight_decay(var_names=[...]), with "
            "names as in backbone.params"
        )
    rate = optimizer._learning_rate
    config = dict(optimizer.get_config()) if not callable(rate) else _config_without_rate(optimizer)
    if callable(rate):
        config["learning_rate"] = schedules.get(rate)
    return OPTIMIZERS[name.lower()].from_config(config)


def _config_without_rate(optimizer: Any) -> dict[str, Any]:
    """The config, where the learning rate is a function, which Keras might not be able to write down."""
    names = inspect.signature(type(optimizer)).parameters
    return {name: getattr(optimizer, name) for name in names if name not in ("learning_rate", "kwargs")}


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """Returns the class and the config of an optimizer, in JSON's types. `get` makes the optimizer from them.

    >>> serialize(Adam())["class_name"]
    'Adam'
    """
    return {"class_name": type(optimizer).__name__, "config": optimizer.get_config()}


def from_config(config: Mapping[str, Any]) -> Optimizer:
    """Returns the optimizer of a config, without its state.

    Args:
        config: `{"class_name": ..., "config": {...}}`; or a `get_config` whose `name` is that of the class.

    Raises:
        ValueError: if the name or an argument is unknown, or the class is a user's own.

    >>> from_config(Adam(schedules.Linear(1e-3, 100), clipnorm=1.0).get_config()).learning_rate
    0.001
    """
    if not isinstance(config, Mapping) or not {"class_name", "name"} & set(config):
        raise ValueError(
            f"an optimizer's config should be a dict with class_name and config, or with the class as name; got "
            f"{reprlib.repr(config)}"
        )
    arguments = dict(config)
    if "class_name" in arguments:
        kind, given = _kind(serialization.written_name("optimizer", config)), arguments.get("config")
        if not isinstance(given, Mapping):
            raise ValueError(f"the optimizer's config should be a dict, got {reprlib.repr(given)}")
        return kind.from_config(given)
    kind = _kind(arguments.pop("name"))
    return kind.from_config(arguments)


deserialize = from_config  # its name in Keras


def restored(config: Mapping[str, Any], state: Mapping[str, Any], params: Arrays) -> Optimizer:
    """Returns the optimizer that had this config and state, so that training can continue.

    Args:
        config: the config that `get_saved_config` returned.
        state: the state that `state_dict` returned. It is copied.
        params: the parameters of the model.

    Raises:
        ValueError: if the optimizer is unknown, the state belongs to other parameters, a moment is not finite in the
            parameters' dtype, or a second moment is below 0.
    """
    try:
        config = dict(config)
        if "exclude_from_weight_decay" in config:
            config["exclude_from_weight_decay"] = _pattern_of(config["exclude_from_weight_decay"], params)
        optimizer = from_config(config)
        optimizer.build(params)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(
            f"this is not the config of an optimizer: {reprlib.repr(config)} ({str(error)[:400]})"
        ) from None
    with np.errstate(over="ignore"):
        optimizer.check_state(state, params)
        optimizer.load_state_dict(state)
    return optimizer


def _pattern_of(names: Any, params: Arrays) -> list[str]:
    """A pattern that matches the given parameters' names alone.

    Raises:
        ValueError: if a name is no parameter's.
    """
    if not isinstance(names, list):
        raise ValueError(f"exclude_from_weight_decay should be a list of names, got {reprlib.repr(names)}")
    for name in names:
        if not isinstance(name, str) or name not in params:
            raise ValueError(f"exclude_from_weight_decay: no parameter is named {reprlib.repr(name)}")
    return [f"^({'|'.join(map(re.escape, names))})$"] if names else []
