"""Configs of objects in Keras's form: `get_config()` returns a dict of JSON's types, and `from_config` takes it.

An object within a config, such as a preprocessor's tokenizer, is written as Keras writes an object of KerasHub: a dict
of `module`, `class_name`, `config` and `registered_name`, so that KerasHub finds its class. When a config is read,
`class_name` decides the class, which is looked up among the expected classes, and the other names must agree with it.
Nothing is imported by name.
"""

from __future__ import annotations

import inspect
import re
import reprlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pyroberta.model.hints import refuse_unknown

PACKAGES = ("keras", "tf_keras", "keras_hub", "keras_nlp")  # keras_nlp is the older name of keras_hub
_KEYS = ("module", "class_name", "config", "registered_name")  # of the dict that `serialize` returns
_NAMES = reprlib.Repr()  # which shows the whole name of a class
_NAMES.maxstring = 200
_ROOMS = {"optimizer": "optimizers", "schedule": "schedules", "loss": "losses", "metric": "metrics"}  # modules of kinds
_KEYS_WITHOUT_EFFECT = ("build_config", "compile_config", "shared_object_id")  # that Keras may add

# What every layer of Keras takes, and Keras's default: the one value that has a meaning here.
_LAYER_DEFAULTS = {"trainable": True, "activity_regularizer": None, "autocast": True}
_ELSEWHERE = {"max_length": "sequence_length= is the most tokens of a text"}  # an argument elsewhere -> what to write
_KERASHUB_PREFIX = "Roberta"


def serialized(instance: Any) -> dict[str, Any]:
    """Returns the config of an object that has a `get_config`, with the name of KerasHub's class, for use within
    another config.

    >>> class Layer:
    ...     def get_config(self):
    ...         return {"size": 3}
    >>> serialized(Layer())["class_name"], serialized(Layer())["module"]
    ('RobertaLayer', 'keras_hub.src.models.roberta.roberta_layer')
    """
    kind = next((kind for kind in type(instance).__mro__ if kind.__module__.startswith("pyroberta.")), type(instance))
    return {
        "module": f"keras_hub.src.models.roberta.{_KERASHUB_PREFIX.lower()}_{object_name(None, kind)}",
        "class_name": _KERASHUB_PREFIX + kind.__name__,
        "config": instance.get_config(),
        "registered_name": f"keras_hub>{_KERASHUB_PREFIX}{kind.__name__}",
    }


def deserialized(name: str, values: Any, classes: Mapping[str, type[Any]]) -> Any:
    """Returns the object that `serialized` wrote.

    Args:
        name: the name of the entry, for messages.
        values: the dict that `serialized` returned.
        classes: the expected classes, by name. KerasHub's names of the same classes, which begin with `Roberta`, are
            accepted too.

    Raises:
        ValueError: if the class is not an expected one, or the dict does not describe an object; see `written_name`.
        TypeError, ValueError: see the class's `from_config`.
    """
    class_name = values.get("class_name") if isinstance(values, Mapping) else None
    config = values.get("config") if isinstance(values, Mapping) else None
    if not isinstance(class_name, str) or not isinstance(config, Mapping):
        raise ValueError(f"{name} should be an object with class_name and config, got {reprlib.repr(values)}")
    plain = written_name(name, values)
    kind = classes.get(plain) or classes.get(plain.removeprefix(_KERASHUB_PREFIX))
    if kind is None:
        raise ValueError(f"{name} is of the class {reprlib.repr(class_name)}; expected {' or '.join(classes)}")
    return kind.from_config(config)


def plain_name(name: Any) -> Any:
    """Returns the name of a class without the package under which Keras or KerasHub registered it.

    >>> plain_name("keras_hub>Perplexity"), plain_name("adamw"), plain_name("mine>AdamW")
    ('Perplexity', 'adamw', 'mine>AdamW')
    """
    package, _, rest = name.rpartition(">") if isinstance(name, str) else ("", "", "")
    return rest if package in PACKAGES else name


def written_name(noun: str, config: Mapping[str, Any]) -> Any:
    """Returns the plain name of the class or the function in a dict that `serialize`, here or of Keras, returned.

    Args:
        noun: what the dict describes, for messages.
        config: the dict, with the name as `class_name`. For a function, Keras writes `"function"` there, and the name
            as `config`.

    Raises:
        ValueError: if the dict says that the class or the function is neither Keras's nor KerasHub's, but a user's own,
            which may compute anything under the same name; if the module is no text, or one of another kind of objects;
            if its names contradict each other; or if it has an unknown key.

    >>> written_name("metric", {"class_name": "keras_hub>Perplexity", "config": {}})
    'Perplexity'
    >>> written_name("loss", {"module": "builtins", "class_name": "function", "config": "mine"})
    'mine'
    """
    unknown = [key for key in config if key not in (*_KEYS, *_KEYS_WITHOUT_EFFECT)]
    if unknown:
        *some, last = _KEYS
        raise ValueError(
            f"the dict of the {noun} has the key {_NAMES.repr(unknown[0])}, and may have {', '.join(some)} and {last}: "
            "put arguments into config"
        )
    module, registered = config.get("module"), config.get("registered_name")
    if not isinstance(module, str | None):
        raise ValueError(
            f"the dict of the {noun} has the module {reprlib.repr(module)}: it should be a text, such as 'keras', or "
            "None"
        )
    parts = (module or "").split(".")
    if is_function(config):  # of which Keras writes no module, be they its own or a user's
        if parts[0] not in ("", "builtins", *PACKAGES) or registered not in (None, "function"):
            raise ValueError(
                f"the {noun} {_NAMES.repr(config['config'])} is a function of your own, of the module "
                f"{_NAMES.repr(module)} and registered as {_NAMES.repr(registered)}, and only functions of Keras are "
                "known by name: pass the function itself"
            )
        return config["config"]
    is_known = registered is None or plain_name(registered) != registered
    if module is not None:
        is_known = parts[0] in PACKAGES or (parts[0] == "pyroberta" and module in sys.modules)
    if not is_known:
        which = _NAMES.repr(config.get("class_name") if registered is None else registered)
        raise ValueError(
            f"the {noun} {which} is a class of your own"
            + (f", of the module {_NAMES.repr(module)}" if isinstance(module, str) else "")
            + ", and only classes of Keras and KerasHub are known by name: pass an object of pyroberta's class"
        )
    name, others = plain_name(config.get("class_name")), set(_ROOMS.values()).intersection(parts)
    if others and _ROOMS.get(noun) not in (None, *others):
        raise ValueError(
            f"the dict of the {noun} contradicts itself: class_name is {_NAMES.repr(config.get('class_name'))}, and "
            f"module {_NAMES.repr(module)}, which has no {_ROOMS[noun]}"
        )
    if registered is not None and plain_name(registered) != name:
        raise ValueError(
            f"the dict of the {noun} contradicts itself: class_name is {_NAMES.repr(config.get('class_name'))}"
            + (f", module {_NAMES.repr(module)}" if isinstance(module, str) else "")
            + f", and registered_name {_NAMES.repr(registered)}. Write the names of one class"
        )
    return name


def is_function(config: Mapping[str, Any]) -> bool:
    """Returns whether a dict is one that Keras's `serialize` returns for a function."""
    return config.get("class_name") == "function" and isinstance(config.get("config"), str)


def arguments_of(kind: type[Any], config: Any) -> dict[str, Any]:
    """Returns a config, from which a class's `from_config` makes an object, as a dict.

    Raises:
        TypeError: if it is not a dict of arguments.

    >>> class Layer:
    ...     pass
    >>> arguments_of(Layer, None)
    Traceback (most recent call last):
    TypeError: Layer.from_config takes the dict that get_config returns; got None
    """
    if not isinstance(config, Mapping) or not all(isinstance(name, str) for name in config):
        raise TypeError(
            f"{kind.__name__}.from_config takes the dict that get_config returns; got {reprlib.repr(config)}"
        )
    for name in ("self", "cls"):
        if name in config:
            raise TypeError(f"{kind.__name__} has no argument {name!r}")
    return dict(config)


def without_defaults(kind: type[Any], config: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Returns a config without those of the named arguments that have their default value in the class's constructor.

    >>> class Layer:
    ...     def __init__(self, size, bias=True):
    ...         pass
    >>> without_defaults(Layer, {"size": 3, "bias": True}, ["bias"])
    {'size': 3}
    """
    parameters = inspect.signature(kind).parameters
    usual = {name for name in names if name in parameters and parameters[name].default == config[name]}
    return {name: value for name, value in config.items() if name not in usual}


def object_name(name: Any, kind: type[Any]) -> str:
    """Returns the name of an object: the given name, or the name of its class in lower case with underscores.

    Raises:
        TypeError: if the name is not a text.

    >>> class MaskedLM:
    ...     pass
    >>> object_name(None, MaskedLM), object_name("first", MaskedLM)
    ('masked_lm', 'first')
    """
    if name is None:
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind.__name__).lower()
    return check_name("name", name)


def check_name(attribute: str, value: Any) -> str:
    """Returns the value, if it is a text that is not empty.

    Raises:
        TypeError: if it is not.
    """
    if not isinstance(value, str) or not value:
        raise TypeError(f"{attribute} must be a text that isn't empty, got {reprlib.repr(value)}")
    return value


def check_layer_name(attribute: str, value: Any) -> str:
    """Returns the value, if it is a name that a layer or a model of Keras can have.

    Raises:
        TypeError, ValueError: if it is not.
    """
    name = check_name(attribute, value)
    if "/" in name:
        raise ValueError(
            f"{attribute} must have no '/', as names of Keras's layers have none, got {reprlib.repr(name)}"
        )
    return name


def dtype_name(dtype: Any) -> Any:
    """Returns the name of a dtype. The dtype may be one of NumPy or Keras, a dtype policy of Keras, or the config of
    one.

    >>> dtype_name(np.dtype("int32")), dtype_name({"class_name": "DTypePolicy", "config": {"name": "float32"}})
    ('int32', 'float32')
    """
    if isinstance(dtype, Mapping):
        written_name("dtype", dtype)  # raises where it can't be one of Keras's
        config = dtype.get("config")
        return config.get("name") if isinstance(config, Mapping) else None
    if isinstance(dtype, type) and issubclass(dtype, np.generic):
        return np.dtype(dtype).name
    return dtype if isinstance(dtype, str) else getattr(dtype, "name", dtype)


def refuse_layer_arguments(kind: type[Any], given: Mapping[str, Any], **defaults: Any) -> None:
    """Checks the arguments that every layer of Keras has and that mean nothing here. Only Keras's default value is
    accepted.

    Args:
        kind: the class, for messages.
        given: the arguments that the class itself does not have.
        **defaults: further arguments of KerasHub's class of the same name, with their default values.

    Raises:
        TypeError: if Keras does not have the argument either.
        ValueError: if the value is not Keras's default.

    >>> refuse_layer_arguments(dict, {"trainable": False})
    Traceback (most recent call last):
    ValueError: dict has nothing that is trained, so trainable=False has no effect: leave it out
    """
    accepted = _LAYER_DEFAULTS | defaults
    if not given.keys() <= accepted.keys():
        parameters = [
            name for name, one in inspect.signature(kind).parameters.items() if one.kind is not one.VAR_KEYWORD
        ]
        refuse_unknown(kind.__name__, given, [*parameters, *accepted], _ELSEWHERE)
    for name, value in given.items():
        if value is None or (dtype_name(value) if name == "dtype" else value) == accepted[name]:
            continue
        reason = "has nothing that is trained" if name == "trainable" else "has no such setting"
        raise ValueError(f"{kind.__name__} {reason}, so {name}={reprlib.repr(value)} has no effect: leave it out")
