"""Checks of the arguments of `fit`, `evaluate` and `predict` that Keras has too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pyroberta.formats.budget import type_of
from pyroberta.formats.counts import counted
from pyroberta.model.attributes import whole_number


def size_of_batch(value: Any) -> int:
    """Returns `batch_size`. The default is 32.

    Raises:
        TypeError: if it is an array or a list, which was probably meant as another argument.
        ValueError: if it is not a whole number of at least 1.
    """
    if not isinstance(value, str) and (np.ndim(value) if hasattr(value, "ndim") else hasattr(value, "__len__")):
        raise TypeError(
            f"batch_size should be a whole number, got {type_of(value)}. It is the third argument, as in "
            "Keras: pass weights by name, sample_weight=..."
        )
    return whole_number("batch_size", 32 if value is None else value)


def frequency(value: Any) -> Callable[[int], bool]:
    """Returns `validation_freq` as a function. It takes the number of an epoch, from 0, and returns whether an
    evaluation is due.
    """
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str):
        epochs = {whole_number("an epoch of validation_freq", epoch) for epoch in value}
        return lambda epoch: epoch + 1 in epochs
    every = whole_number("validation_freq", value)
    return lambda epoch: (epoch + 1) % every == 0


def _is_list_of_texts(x: Any) -> bool:
    """Whether x is a list, an array or a column of strings; a string and a tuple are one text."""
    is_one = isinstance(x, str | bytes | tuple | Mapping)
    return not is_one and isinstance(x, Iterable) and isinstance(next(iter(x), None), str)


def parts_of(validation_data: Any) -> tuple[Any, Any, Any]:
    """Returns the x, y and sample_weight of `validation_data`.

    Raises:
        TypeError: if it is a list of x and y. Keras accepts one, but here a list is x itself.
        ValueError: if it is a tuple of more than three items.
    """
    given = validation_data if isinstance(validation_data, tuple) else (validation_data,)
    if isinstance(validation_data, list) and len(validation_data) in (2, 3) and _is_list_of_texts(validation_data[0]):
        raise TypeError("validation_data is a list: to pass x and y, use a tuple, validation_data=(x, y)")
    if not 1 <= len(given) <= 3:
        raise ValueError(f"validation_data should be x, (x, y) or (x, y, sample_weight); got a tuple of {len(given)}")
    x, y, sample_weight = (*given, None, None)[:3]
    return x, y, sample_weight


def fraction(value: float, count: int) -> float:
    """Returns `validation_split`, if it leaves texts on both sides."""
    if not isinstance(value, int | float | np.number):
        raise ValueError(f"validation_split should be a number from 0 to 1, the share of the texts; got {value!r}")
    if not 0.0 < value < 1.0 or not 0 < int(count * (1.0 - value)) < count:
        raise ValueError(
            "validation_split is a share, such as 0.1, and must leave texts on both sides: "
            f"{value!r} of {counted(count, 'text')} does not"
        )
    return value


def as_keras(values: dict[str, float]) -> float | list[float]:
    """Returns metrics in Keras's form: a number if there is only the loss, else a list."""
    return list(values.values()) if len(values) > 1 else next(iter(values.values()))
