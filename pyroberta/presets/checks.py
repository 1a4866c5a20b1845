"""Checks that all formats share, except those of tensors: the vocabulary, the classes, the head."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyroberta.formats.files import shown
from pyroberta.model.callers import callers_level
from pyroberta.model.config import RobertaConfig
from pyroberta.model.heads import has_classes, head_of, same_head, title

MOST_CLASSES = 100_000  # of a classifier
ACTIVATIONS = ("linear", "softmax", "log_softmax", "sigmoid")  # between a classifier's logits and its outputs
UNTRAINED = ": an untrained one was initialised. Fit it before predicting."
LONGEST = 1_000_000  # tokens and masks of a sequence; arrays of that length are made for each


def check_vocabulary(size: int, config: RobertaConfig, place: str | os.PathLike[str] = "", hint: str = "") -> None:
    """Checks that a tokenizer of `size` tokens fits the model.

    Args:
        size: the number of tokens.
        config: the config of the model.
        place: where both come from, for the message.
        hint: the end of the message, for the user of a model that is open.

    Raises:
        ValueError: if it has more tokens than the model's token embedding has rows.
    """
    if size > config.vocabulary_size:
        raise ValueError(
            f"{place}{': ' if place else ''}the tokenizer has {size} tokens, but the model's token embedding has only "
            f"{config.vocabulary_size} rows (vocabulary_size). Check that the tokenizer belongs to the model{hint}"
        )


def check_classes(file: Path, count: int) -> None:
    """Checks that the number of classes is not too large, since a missing head would be made with so many classes.

    Raises:
        ValueError: if it is above `MOST_CLASSES`.
    """
    if count > MOST_CLASSES:
        raise ValueError(f"{file}: {count} classes are more than the {MOST_CLASSES} that a preset may have")


def check_labels(file: Path, labels: Sequence[str], count: int) -> None:
    """Checks that there are `count` different names of classes.

    Raises:
        ValueError: if there are not.
    """
    if len(labels) != count or len(set(labels)) != count:
        raise ValueError(f"{file}: there should be {count} different names of classes, got {shown(labels)}")


def check_activation(file: Path, name: str, value: Any) -> str:
    """Returns the value, if it names the function between a classifier's logits and its outputs.

    Raises:
        ValueError: if it is not one of `ACTIVATIONS`.
    """
    if not isinstance(value, str) or value not in ACTIVATIONS:
        *some, last = map(repr, ACTIVATIONS)
        raise ValueError(f"{file}: {name} is {shown(value)}; {', '.join(some)} and {last} can be read")
    return value


def check_lengths(source: object, lengths: Mapping[str, Any]) -> None:
    """Checks that the lengths to which sequences are padded are not too large, since a call makes arrays of them.

    Raises:
        ValueError: if one is above `LONGEST`. The message begins with `source` and names it.
    """
    for name, length in lengths.items():
        if isinstance(length, int) and length > LONGEST:
            raise ValueError(f"{source}: {name} should be at most {LONGEST}, got {shown(length)}")


class FreshHeadWarning(UserWarning):
    """A preset has no head of the wanted kind, or its trained head has other sizes and is not used. The model's head is
    not trained.
    """


OnFreshHead = Callable[[str], None]  # what a reader calls with the message that a head is untrained


def warn_of_fresh_head(message: str) -> None:
    """Warns, with a message of `report_fresh_head`."""
    warnings.warn(message, FreshHeadWarning, stacklevel=callers_level())


def report_fresh_head(
    on_fresh_head: OnFreshHead,
    directory: os.PathLike[str],
    location: str,
    wanted: RobertaConfig,
    stored: RobertaConfig,
    has_head: bool,
) -> None:
    """Calls a function with a message, if a preset has no head of the wanted kind and size, so that the model gets an
    untrained one.

    A classifier is mostly made from a preset that is none. In this case there is no call.

    Args:
        on_fresh_head: the function.
        directory: the preset.
        location: where the format stores the head, such as the pattern `lm_head.*` of the names of its tensors. It is
            for the message.
        wanted: the config of the model.
        stored: the config of the preset.
        has_head: whether the preset has the head that `stored` names.
    """
    if not has_classes(head_of(wanted)) or same_head(wanted, stored):
        on_fresh_head(f"{directory} has no {title(wanted)} ({location}){UNTRAINED}")
    elif has_head and has_classes(head_of(stored)):
        on_fresh_head(dropped_head(str(directory), wanted, stored))


def dropped_head(source: str, wanted: RobertaConfig, stored: RobertaConfig) -> str:
    """Returns the message that the trained head of a classifier is not used, since another size was asked for.

    >>> from dataclasses import replace
    >>> stored = RobertaConfig(9, num_layers=1, num_heads=1, hidden_dim=2, intermediate_dim=2, num_classes=3)
    >>> dropped_head("a", replace(stored, num_classes=4), stored).partition(":")[0]
    'a has a head for 3 classes, which is not used, since another was asked for (num_classes=4 instead of 3)'
    """
    new, old = (
        {"num_classes": config.num_classes, "hidden_dim": config.classifier_hidden_dim or config.hidden_dim}
        for config in (wanted, stored)
    )
    differences = [f"{name}={new[name]} instead of {old[name]}" for name in new if new[name] != old[name]]
    return (
        f"{source} has a {title(stored)}, which is not used, since another was asked for ({', '.join(differences)})"
        f"{UNTRAINED}"
    )
