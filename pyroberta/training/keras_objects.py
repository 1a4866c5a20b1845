"""Recognition of Keras's own objects. Keras is never imported here: whoever has one of its objects has imported it."""

from __future__ import annotations

from typing import Any

from pyroberta.model.serialization import PACKAGES


def class_name(value: Any) -> str | None:
    """Returns the name of an object's class, if it is a class of Keras or KerasHub, else None.

    >>> class_name(1.0) is None
    True
    """
    kind = type(value)
    return kind.__name__ if kind.__module__.split(".")[0] in PACKAGES else None


def base_name(value: Any) -> str | None:
    """Returns the name of the class of Keras from which an object's class derives, or which it is. The result is None
    if there is none.
    """
    for kind in type(value).__mro__:
        if kind.__module__.split(".")[0] in PACKAGES:
            return kind.__name__
    return None


def function_name(value: Any) -> str | None:
    """Returns the name of a function of Keras or pyroberta, or None for anything else."""
    package = str(getattr(value, "__module__", "")).split(".")[0]
    is_known = package in (*PACKAGES, "pyroberta") and callable(value) and not isinstance(value, type)
    return getattr(value, "__name__", None) if is_known else None
