"""Checks that all formats share, except those of tensors: the vocabulary, the classes, the head."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyroberta.formats.files import shown
from pyroberta.model.callers import callers_level
from pyroberta.model.config import RobertaConfig
from pyroberta.model.heads import has_classes, head_of, same_head, title

MOST_CLASSES = 100_000  # of a classifier
LONGEST = 1_000_000  # tokens and masks of a sequence; arrays of that length are made for each


def check_vocabulary(directory: os.PathLike[str], size: int, config: RobertaConfig) -> None:
    """Checks that a tokenizer of `size` tokens fits the model.

    Raises:
        ValueError: if it has more tokens than the model's token embedding has rows.
    """
    if size > config.vocabulary_size:
        raise ValueError(
            f"{directory}: the tokenizer has {size} tokens, the model's token embedding only {config.vocabulary_size} "
            "rows (vocab_size). Check that the tokenizer belongs to the model"
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


def check_lengths(source: object, lengths: Mapping[str, Any]) -> None:
    """Checks that the lengths to which sequences are padded are not too large, since a call makes arrays of them.

    Raises:
        ValueError: if one is above `LONGEST`. The message begins with `source` and names it.
    """
    for name, length in lengths.items():
        if isinstance(length, int) and length > LONGEST:
            raise ValueError(f"{source}: {name} should be at most {LONGEST}, got {shown(length)}")


class FreshHeadWarning(UserWarning):
    """A preset has no head of the wanted kind, so the model's head is not trained."""


def warn_of_fresh_head(
    directory: os.PathLike[str], location: str, wanted: RobertaConfig, stored: RobertaConfig
) -> None:
    """Warns that a preset has no head of the wanted kind, so that the model gets an untrained one.

    A classifier is mostly made from a preset without such a head. In this case there is no warning.

    Args:
        directory: the preset.
        location: where the format stores the head, such as the pattern `lm_head.*` of the names of its tensors. It is
            for the message.
        wanted: the config of the model.
        stored: the config of the preset.
    """
    if has_classes(head_of(wanted)) and not same_head(wanted, stored):
        return
    warnings.warn(
        f"{directory} has no {title(wanted)} ({location}): an untrained one was initialised. Fit it before predicting.",
        FreshHeadWarning,
        stacklevel=callers_level(),
    )
