"""A classifier's labels (names, booleans or numbers), and how they become the numbers of the classes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.data.paths import INFERRED
from pyroberta.data.sources import Rows, Source, is_missing
from pyroberta.formats.budget import printable, shown
from pyroberta.formats.counts import counted
from pyroberta.model.callers import callers_level
from pyroberta.text.given import column_items

NUMBER = re.compile(r"\s*[+-]?[0-9]{1,9}\s*")  # in text
PLAIN_NUMBER = re.compile(r"\s*(0|-?[1-9][0-9]{0,8})\s*")  # "01" is a name beside "1"
MOST_NAMES = 8  # in a message
MANY_CLASSES = 20  # fewer may be the classes of a small example


def default_names(num_classes: int) -> list[str]:
    """Returns the default names of classes, which are those of Hugging Face.

    >>> default_names(2)
    ['LABEL_0', 'LABEL_1']
    """
    return [f"LABEL_{i}" for i in range(num_classes)]


def check_unicode(names: Sequence[str]) -> None:
    """Checks that the names of classes can be written into a file.

    Raises:
        ValueError: if a name has a half of a surrogate pair, as the name of a file that is not UTF-8 has.
    """
    for name in names:
        if re.search("[\ud800-\udfff]", name):
            raise ValueError(
                f"the label {shown(name)} is not valid Unicode, so no file of a model could hold it: its name was read "
                "from a file or a folder that is not UTF-8. Rename it"
            )


def giver_of(source: Source) -> str:
    """Returns what gives the labels of a source, for messages: its column, its folders, or the argument y.

    >>> giver_of(Source(["A joy."]))
    'y'
    """
    if not isinstance(source, Rows) or source.wanted.label is None:
        return "y"
    return f"the column {source.wanted.label!r}" if source.wanted.columns else INFERRED


def warn_of_many(giver: str, labels: Sequence[Any]) -> None:
    """Warns where the labels of a whole training have a class for more than half the texts, as a column of ids has.

    Args:
        giver: what gives the labels, for the message; see `giver_of`.
        labels: the label of each text.

    Warns:
        UserWarning: from `MANY_CLASSES` classes on. The message has the counts.
    """
    classes = len(set(labels))
    if classes >= MANY_CLASSES and 2 * classes > len(labels):
        warnings.warn(
            f"{giver} gives {classes} classes to {len(labels)} texts, so most classes have too few texts to learn "
            "from. If it holds names or numbers of the texts, give their labels instead",
            stacklevel=callers_level(),
        )


def has_other_numbers(names: Sequence[str]) -> bool:
    """Returns whether the names of classes are numbers, but not the numbers of the classes.

    >>> has_other_numbers(["1", "2"]), has_other_numbers(["0", "1"]), has_other_numbers(["1", "two"])
    (True, False, False)
    """
    return bool(names) and all(map(NUMBER.fullmatch, names)) and list(names) != [str(i) for i in range(len(names))]


class Labels:
    """Converts a model's labels to the numbers of its classes.

    A label is the name of a class, a number from 0, a boolean, or a whole number in text, as in a CSV file. A number
    with another spelling, such as "01", is a name, since "1" may be another class. If the classes have only default
    names and `may_name` is True, the first labels that are names become the names of the classes, in sorted order.

    Args:
        num_classes: the number of classes of the model.
        names: the names of the classes. None for default names.
        may_name: whether the labels may give the classes their names.

    Attributes:
        names: the names of the classes.
        are_new: whether the names come from the labels.

    >>> labels = Labels(2, may_name=True)
    >>> labels.numbers(["pos", "neg", "pos"], 3).tolist(), labels.names
    ([1, 0, 1], ['neg', 'pos'])
    """

    def __init__(self, num_classes: int, names: Sequence[str] | None = None, *, may_name: bool = False) -> None:
        self.num_classes = num_classes
        self.names = list(names) if names is not None else default_names(num_classes)
        self.may_name = may_name
        self.are_new = False

    @property
    def _are_default(self) -> bool:
        return self.names == default_names(self.num_classes)

    def numbers(
        self,
        y: Any,
        count: int,
        place: Callable[[int], str] = "text {}".format,
        classes: Sequence[str] | None = None,
    ) -> Array:
        """Returns the number of the class of each of `count` texts, (B,) int32.

        Args:
            y: the labels, (B,) or (B, 1).
            count: B, the number of texts.
            place: a function that returns the name of a text for messages, from the text's number.
            classes: the names that a table has for the numbers in y. None if it has none.

        Raises:
            ValueError: if y has another shape, a label is missing, a name or a number is not that of a class of the
                model, or the number of names is not that of the classes. The message names the place, and says what to
                write.
        """
        items = _items(y, count)
        missing = [place(i) for i, label in enumerate(items) if _is_none(label) or (classes and label == -1)]
        if missing:
            some = ", ".join(missing[:MOST_NAMES]) + ", …" * (len(missing) > MOST_NAMES)
            raise ValueError(f"{len(missing)} label{'s are' if len(missing) > 1 else ' is'} missing: {some}. Fill them "
                             "in, or leave these texts out")  # fmt: skip
        if classes is not None and self._takes(classes) and set(items) <= set(range(len(classes))):
            items = [classes[label] for label in items]
            self._name(list(classes))
        if items and all(isinstance(label, str) for label in items):
            are_names = set(items) <= set(self.names) or has_other_numbers(self.names)
            if not are_names and all(map(PLAIN_NUMBER.fullmatch, items)):
                return self._checked([int(label) for label in items], place, in_text=True)
            return self._of_names(items, place)
        return self._checked(items, place)

    def _takes(self, classes: Sequence[str]) -> bool:
        """Whether a table's names of classes are the model's, or become them."""
        if self._are_default:
            return self.may_name and len(classes) == self.num_classes
        return set(classes) <= set(self.names)

    def _name(self, names: list[str]) -> None:
        check_unicode(names)
        if self._are_default and self.names != names:
            self.names, self.are_new = names, True

    def _of_names(self, items: list[str], place: Callable[[int], str]) -> Array:
        unknown = [i for i, name in enumerate(items) if name not in set(self.names)]
        if unknown and self._are_default and self.may_name:
            found = sorted(set(items))
            if len(found) != self.num_classes:
                if len(found) > self.num_classes:
                    advice = f"Make the model with num_classes={len(found)}"
                elif len(found) == 1:
                    advice = "Make the model with labels=[…], the names of all classes"
                else:
                    advice = (
                        f"Make the model with num_classes={len(found)}, or with labels=[…], the names of all classes"
                    )
                raise ValueError(
                    f"the labels have {counted(len(found), 'name')} ({_listing(found)}), but the model "
                    f"has {self.num_classes} classes. {advice}"
                )
            self._name(found)
        elif unknown:
            i = unknown[0]
            names = "has only default names" if self._are_default else "has the classes"
            advice = "Fit the model on names first, or make it with labels=[…]" if self._are_default else ""
            raise ValueError(
                f"label {items[i]!r} of {place(i)} is not a class of the model, which {names} {_listing(self.names)}"
                + (f". {advice}" if advice else "")
            )
        numbers = {name: i for i, name in enumerate(self.names)}
        return np.array([numbers[name] for name in items], np.int32)

    def _checked(self, items: list[Any], place: Callable[[int], str], in_text: bool = False) -> Array:
        """Numbers of classes, checked."""
        most = self.num_classes - 1
        for i, label in enumerate(items):
            if not (isinstance(label, int) or (isinstance(label, float) and label.is_integer())):
                named = " Names and numbers are not mixed" if isinstance(label, str) else ""
                raise ValueError(
                    f"labels should be names, or whole numbers from 0 to {most}; label {shown(label)} of {place(i)} is "
                    f"neither.{named or ' Each text has one class'}"
                )
        are_booleans = [isinstance(label, bool) for label in items]
        if any(are_booleans) and not all(are_booleans):
            i, j = are_booleans.index(True), are_booleans.index(False)
            raise ValueError(
                f"labels should be all booleans or all numbers; the label of {place(i)} is {items[i]}, that of "
                f"{place(j)} {shown(items[j])}"
            )
        if any(are_booleans) and set(self.names) == {"False", "True"}:
            return self._of_names([str(label) for label in items], place)
        if has_other_numbers(self.names):
            raise ValueError(
                f"the labels are numbers, and the model's classes have numbers as names ({_listing(self.names)}): pass "
                "names. If the labels are names, y = [str(label) for label in y]; if they are numbers of classes, y = "
                "[classifier.labels[label] for label in y]"
            )
        for i, label in enumerate(items):
            if not 0 <= label <= most:
                raise ValueError(
                    f"label {label} of {place(i)} is outside the model's {self.num_classes} classes, 0 to {most} "
                    f"(num_classes){self._advice({int(label) for label in items}, in_text)}"
                )
        return np.array(items, np.int32)

    def _advice(self, numbers: set[int], in_text: bool) -> str:
        """Returns what to do about numbers that are not all those of classes, as the end of an error."""
        if not self._are_default:
            return f". The classes are {_listing(self.names)}"
        found, count = sorted(numbers), self.num_classes
        if found[0] == 0:  # it counts as the model does, and has more classes
            return f". Make the model with num_classes={found[-1] + 1}"
        if len(found) != count == found[-1] - found[0] + 1:  # such as stars, of which one was never given
            found = list(range(found[0], found[-1] + 1))
        new_count = "" if len(found) == count else f"num_classes={len(found)}, "
        as_text = "" if in_text else ", and pass y = [str(label) for label in y]"
        names = _listing([*map(str, found)])
        return f". If the labels are names, make the model with {new_count}labels=[{names}]{as_text}"

    def say(self) -> str:
        """Returns a line about the names that the labels gave, or an empty text if they gave none."""
        classes = ", ".join(f"{i} {printable(name)}" for i, name in enumerate(self.names[:MOST_NAMES]))
        more = ", …" * (self.num_classes > MOST_NAMES)
        return f"classes: {classes}{more} (the sorted labels; the model keeps them)" if self.are_new else ""


def _items(y: Any, count: int) -> list[Any]:
    """The labels (B,) or (B, 1) as Python's objects, checked for their shape."""
    y = column_items(y)
    if isinstance(y, list | tuple) and not any(isinstance(label, list | tuple | np.ndarray) for label in y):
        items = list(y)
        shape: tuple[int, ...] = (len(items),)
    else:
        try:
            labels = np.asarray(y)
        except ValueError as error:
            if "inhomogeneous" not in str(error):
                raise
            raise ValueError(f"y should be one label per text, ({count},); its rows differ in length") from None
        shape, items = labels.shape, labels.ravel().tolist()
    if shape not in ((count,), (count, 1)):
        hint = ""
        if isinstance(y, str):
            hint = f". To name a table's column of labels, pass label={y!r}"
        elif len(shape) == 2 and shape[0] == count:
            hint = ". To convert one-hot labels to numbers: y = numpy.argmax(y, axis=1)"
        raise ValueError(f"y should be one label per text, ({count},); got {shape}{hint}")
    return [label.item() if getattr(label, "shape", None) == () else label for label in items]  # NumPy's and torch's


def _is_none(label: Any) -> bool:
    return is_missing(label) or (isinstance(label, str) and not label.strip())


def _listing(names: Sequence[str]) -> str:
    """The first names of classes, for a message."""
    return ", ".join(repr(name[:40]) for name in names[:MOST_NAMES]) + ", …" * (len(names) > MOST_NAMES)
