"""The inputs of a classifier's `fit`, `evaluate` and `predict`: texts or features with a class each."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.data.examples import HeldExamples
from pyroberta.data.inputs import InputReader, check_features, listed, padding_mask, per_text
from pyroberta.data.labels import Labels, giver_of, has_other_numbers, warn_of_many
from pyroberta.model.attributes import in_message, is_real
from pyroberta.model.batch import Batch, pack_padded
from pyroberta.model.config import RobertaConfig
from pyroberta.model.heads import head_of

BALANCED = (
    ". scikit-learn's are dict(zip(classes, compute_class_weight('balanced', classes=classes, y=y))), classes = "
    "numpy.unique(y)"
)


class ClassifierInputs(InputReader):
    """The input reader of a classifier. Each text has one label, and its `<s>` is the target row."""

    unsplit = "a classifier gives each text one class, read at its <s>, so a text can't be split"

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._classes: tuple[str, Array] | None = None  # what gives the labels, and the numbers of their classes
        self.labels = Labels(self.config.num_classes or 0, self.label_names, may_name=self.may_name)

    def features(self, x: Mapping[str, Any], y: Any = None, sample_weight: Any = None) -> Batch:
        """Returns `token_ids` and `padding_mask` (B, S), y and sample_weight (B,) as a packed batch."""
        self._check_labels(y)
        return self._labelled(packed_features(x, self.config), y, sample_weight)

    def _check_labels(self, y: Any) -> None:
        if y is None:
            raise ValueError(
                "y is missing: a classifier learns from texts with a label each, names or whole numbers from 0 to "
                f"{(self.config.num_classes or 0) - 1}. An iterable of batches yields (x, y) or (x, y, sample_weight). "
                "In a table, label= names the column of the labels. In a directory, label='inferred' takes the names "
                "of its folders"
            )

    @property
    def new_names(self) -> list[str] | None:
        """Returns the names of the classes that the labels gave, or None."""
        return self.labels.names if self.labels.are_new else None

    def _begin_stream(self) -> None:
        self.labels.may_name = False  # the first labels may not be all there are

    def _lines(self) -> Iterator[str]:
        yield from super()._lines()
        yield self.labels.say()

    def _of_texts(self, data: Batch, y: Any, sample_weight: Any, texts: Array | None = None) -> HeldExamples:
        return HeldExamples(self._labelled(data, y, sample_weight))

    def _labelled(self, data: Batch, y: Any, sample_weight: Any) -> Batch:
        """The batch with each text's first row as its target row."""
        weights = per_text(sample_weight, len(data))
        return replace(
            data,
            target_rows=head_of(self.config).target_rows(data),
            labels=self.labels.numbers(listed("y", y, len(data)), len(data), self._place, self._label_classes),
            weights=np.ones(len(data)) if weights is None else weights,
            slots=len(data),
        )

    def say(self, verbose: int | str) -> None:
        """See `InputReader.say`.

        Warns:
            UserWarning: also if the labels of a `fit` are nearly as many classes as texts.
        """
        super().say(verbose)
        if self.may_name and self._classes is not None:
            giver, classes = self._classes
            warn_of_many(giver, classes.tolist())

    def _check(self, held: HeldExamples) -> None:
        self._classes = giver_of(self._source), held.data.labels
        if not held.data.weights.any():
            raise ValueError("every sample_weight is 0: there is nothing to learn")


def packed_features(x: Mapping[str, Any], config: RobertaConfig) -> Batch:
    """Returns a dict of `token_ids` and `padding_mask` (B, S) as a packed batch without labels.

    Raises:
        TypeError, ValueError: if the dict has other features, or a row is all padding and so has no `<s>`.
    """
    check_features(x, ClassifierInputs.needed)
    batch = pack_padded(
        x["token_ids"],
        padding_mask(x),
        vocabulary_size=config.vocabulary_size,
        max_sequence_length=config.max_sequence_length,
    )
    for b in np.flatnonzero(np.diff(batch.starts) == 0)[:1]:
        raise ValueError(f"sequence {b} is all padding: a classifier reads the class at <s>, and the sequence has none")
    return batch


def class_factors(class_weight: Any, num_classes: int, labels: Sequence[str] = ()) -> Array:
    """Returns the factor of each class, (num_classes,). A class that the dict lacks has the factor 1.

    Args:
        class_weight: a dict of class -> factor. A class is given by its number or its name.
        num_classes: the number of classes.
        labels: the names of the classes.

    Raises:
        TypeError: if class_weight is not a dict.
        ValueError: if a class does not exist, a factor is not a number of at least 0, or a class is given by a number
            that may be its number or its name.

    >>> class_factors({1: 3.0}, 2)
    array([1., 3.])
    """
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            "class_weight should be a dict, class -> weight, as in {0: 1.0, 1: 3.0}; got "
            f"{reprlib.repr(class_weight)}{BALANCED if isinstance(class_weight, str) else ''}"
        )
    factors = np.ones(num_classes)
    is_numbered = has_other_numbers(labels)
    named: dict[int, Any] = {}
    for name, factor in class_weight.items():
        if is_numbered and not isinstance(name, str):
            raise ValueError(
                f"class_weight has the class {name!r}, and the model's classes have numbers as names "
                f"({', '.join(map(repr, labels))}): write the name, {str(name)!r}"
            )
        number = labels.index(name) if isinstance(name, str) and name in labels else name
        if not isinstance(number, int | np.integer) or isinstance(number, bool) or not 0 <= number < num_classes:
            names = f", or {', '.join(map(repr, labels))}" if labels else ""
            raise ValueError(
                f"class_weight has the class {name!r}; the model's classes are 0 to {num_classes - 1}{names}"
            )
        if not is_real(factor) or not 0 <= factor < np.inf:
            raise ValueError(f"class_weight[{name!r}] must be a number of at least 0, got {in_message(factor)}")
        if named.setdefault(int(number), name) is not name:
            raise ValueError(f"class_weight has one class twice, as {named[int(number)]!r} and as {name!r}")
        factors[number] = factor
    return factors
