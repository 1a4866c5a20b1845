"""The functions between a classifier's logits and its outputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy import ndarray as Array

from pyroberta.formats.budget import shown
from pyroberta.presets.checks import ACTIVATIONS as NAMES
from pyroberta.training.losses import log_softmax

Activation = str | Callable[[Array], Array] | None


def _softmax(logits: Array) -> Array:
    probabilities: Array = np.exp(log_softmax(logits))
    return probabilities


def _sigmoid(logits: Array) -> Array:
    """By exponentials that do not overflow."""
    probabilities: Array = np.exp(np.minimum(logits, 0.0)) / (1.0 + np.exp(-np.abs(logits)))
    return probabilities


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda logits: logits,
    "softmax": _softmax,
    "log_softmax": log_softmax,
    "sigmoid": _sigmoid,
}
assert tuple(ACTIVATIONS) == NAMES


def get(activation: Activation) -> str | Callable[[Array], Array]:
    """Returns the name of a known activation, or a function that was given. A function of Keras that has the name of a
    known activation is returned as this name.

    Raises:
        ValueError: if the name is unknown.
        TypeError: if activation is not a name, a function or None. None means `"linear"`.

    >>> get(None), get("softmax")
    ('linear', 'softmax')
    """
    if activation is None:
        return "linear"
    if callable(activation):
        name = getattr(activation, "__name__", "")
        is_keras = str(getattr(activation, "__module__", "")).startswith("keras.")
        return name if is_keras and name in ACTIVATIONS else activation
    if not isinstance(activation, str):
        raise TypeError(f"activation should be a name, a function or None, got {shown(activation)}")
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"activation should be one of {', '.join(map(repr, ACTIVATIONS))}, or None for logits; got "
            f"{shown(activation)}. For other outputs in prediction, pass a function of logits (B, num_classes), such "
            "as activation=np.tanh"
        )
    return activation


def apply(activation: str | Callable[[Array], Array], logits: Array) -> Array:
    """Returns the outputs for logits (B, num_classes).

    Raises:
        ValueError: if a user's function returns another shape.

    >>> apply("softmax", np.log([[1.0, 3.0]]))
    array([[0.25, 0.75]])
    """
    outputs = ACTIVATIONS[activation](logits) if isinstance(activation, str) else np.asarray(activation(logits))
    if outputs.shape != logits.shape:
        raise ValueError(
            f"the activation should keep the shape of the logits, {logits.shape}; {activation!r} returned "
            f"{outputs.shape}"
        )
    return outputs
