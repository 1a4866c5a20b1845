"""Keras's form of an object as JSON: its class, and the arguments that make it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from pyroberta.formats.budget import clipped
from pyroberta.model.config import RobertaConfig
from pyroberta.presets.heads import HEAD_FILES
from pyroberta.presets.kerashub import FIELDS

if TYPE_CHECKING:
    from pyroberta.text.preprocessor import Preprocessor

BACKBONE = ("roberta_backbone", "RobertaBackbone")  # KerasHub's module and class

REGISTERED = "keras_hub"  # the package under which Keras knows KerasHub's classes


def serialized(module: str, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A KerasHub object of RoBERTa's as Keras serialises it.

    Args:
        module: KerasHub's, such as `roberta_backbone`.
        name: its class.
        config: its arguments, in JSON's types.
    """
    return {
        "module": f"keras_hub.src.models.roberta.{module}",
        "class_name": name,
        "config": config,
        "registered_name": f"{REGISTERED}>{name}",
    }


def dtype_policy(name: str) -> dict[str, Any]:
    """A precision as Keras serialises it."""
    return {"module": "keras", "class_name": "DTypePolicy", "config": {"name": name}, "registered_name": None}


def policy_name(policy: Any) -> Any:
    """The precision's name in what `dtype_policy` made; anything else as it is.

    >>> policy_name(dtype_policy("float64")), policy_name("float32")
    ('float64', 'float32')
    """
    if not isinstance(policy, Mapping):
        return policy
    config = policy.get("config")
    if policy.get("class_name") != "DTypePolicy" or not isinstance(config, Mapping) or "name" not in config:
        raise ValueError(
            f"dtype should be a name such as 'float32', or Keras's DTypePolicy of one; got {clipped(repr(policy), 200)}"
        )
    return config["name"]


def backbone_config(config: RobertaConfig, precision: str, name: str, trainable: bool) -> dict[str, Any]:
    """A backbone's arguments: KerasHub's, and the other fields of its config that have not their default value."""
    shape = {field: getattr(config, field) for field in (*FIELDS, "dropout")}
    default = RobertaConfig(**shape)
    others = {
        field.name: value
        for field in fields(config)
        if field.name not in shape and (value := getattr(config, field.name)) != getattr(default, field.name)
    }
    if "lora_targets" in others:
        others["lora_targets"] = list(others["lora_targets"])
    return {"name": name, "trainable": trainable, "dtype": dtype_policy(precision), **shape, **others}


def config_of(argument: str, value: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The arguments of a serialised object.

    Args:
        argument: its name, for messages.
        value: the object as `serialized` gives it.
        names: the classes that it may be of.

    Raises:
        ValueError: where it is of another class, or has no config.

    >>> config_of("backbone", serialized("roberta_backbone", "RobertaBackbone", {"num_heads": 2}), ("RobertaBackbone",))
    {'num_heads': 2}
    """
    found, config = value.get("class_name"), value.get("config")
    if found not in names or not isinstance(config, Mapping):
        raise ValueError(
            f"{argument} should be a {names[0]} as get_config() gives it, with a class_name and a config; got "
            f"{clipped(repr(value), 200)}"
        )
    return dict(config)


def task_config(
    config: RobertaConfig, backbone: Mapping[str, Any], head: str, preprocessor: Preprocessor | None
) -> dict[str, Any]:
    """The arguments of a task that every task has, with its parts serialised.

    Args:
        config: of the backbone, whose fields about the head are left out.
        backbone: the other arguments of `backbone_config`.
        head: the task's.
        preprocessor: None for a task without one.
    """
    plain = replace(config, num_classes=None, head_name=None, classifier_dropout=None, classifier_hidden_dim=None)
    module, name = names_of(head)
    described = None
    if preprocessor is not None:
        described = serialized(f"{module}_preprocessor", f"{name}Preprocessor", preprocessor.get_config())
    return {
        "backbone": serialized(*BACKBONE, backbone_config(plain, **backbone)),
        "preprocessor": described,
    }


def parts_of(head: str, config: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """The backbone's and the preprocessor's arguments in a task's, and the task's others.

    A part that isn't serialised is given as it is.

    Raises:
        ValueError: where there is no backbone, or a part is of another class.
    """
    if "backbone" not in config:
        raise ValueError(f"a task's config has a backbone in it; got {clipped(', '.join(map(str, config)), 200)}")
    backbone, preprocessor = config["backbone"], config.get("preprocessor")
    if isinstance(backbone, Mapping):
        backbone = config_of("backbone", backbone, BACKBONE[1:])
    if isinstance(preprocessor, Mapping):
        preprocessor = config_of("preprocessor", preprocessor, (f"{names_of(head)[1]}Preprocessor",))
    others = {name: value for name, value in config.items() if name not in ("backbone", "preprocessor")}
    return backbone, preprocessor, others


def names_of(head: str) -> tuple[str, str]:
    """KerasHub's module and class of a head's task; the head's name for one that KerasHub lacks."""
    files = HEAD_FILES[head]
    return (files.keras_module, files.keras_classes[0]) if files.keras_classes else (head, head)
