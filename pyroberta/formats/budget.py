"""A budget for each reader. It limits the bytes that a reader allocates, the steps that it takes, and the characters
that it shows.

A small file can demand much memory or time: it may declare a shape of 10 GB without data, repeat a text a thousand
times by reference, or nest a tuple that holds itself twice sixty times. So a reader spends from its `Budget` before it
makes anything:

    bytes        memory that the file does not hold itself: what is unpacked, spread out or repeated
    steps        units of work: an instruction, an entry, a dataset, an argument of a call, a merge
    characters   the length of a value in a message; see `shown`

The limits follow from the file's size and from what is known before the file is opened: the config of a model says how
many tensors and tokens there can be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

LEAST_BYTES = 64_000_000  # a file of any size may make as many
TIMES_SIZE = 4  # and so many times its own size: weights hardly shrink when they are packed
LEAST_STEPS = 10_000
STEPS_PER_ITEM = 16  # of those that are expected: a tensor of KerasHub's lies in up to six groups, a token has merges

LONGEST = 240  # characters of a value in a message
LONGEST_TEXT = 80  # of a text or a number in it
DEEPEST, MOST_PARTS = 3, 6  # levels of containers, and parts of each, that are shown


# What a terminal obeys instead of showing it: control characters, signs that turn the direction of writing or end a
# line or a paragraph, and halves of surrogate pairs, which stand for bytes of a file's name that are no UTF-8.
_UNPRINTABLE = re.compile(r"[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class OverBudget(ValueError):
    """Raised if reading a file would take more memory or time than its reader allows."""


class Budget:
    """The memory and the time that the reader of one file may spend.

    Args:
        source: the name of what is read. Errors begin with it.
        size: the size of the file in bytes.
        steps: the largest number of steps. The default is `LEAST_STEPS`, and more for `items`.
        items: the expected number of things in the file, such as tensors or tokens.

    >>> budget = Budget("model.bin", size=1000, steps=5)
    >>> budget.make("the tensor 'a'", 4000)
    >>> budget.step("an instruction", 5)
    >>> budget.step("an instruction")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pyroberta.formats.budget.OverBudget: model.bin: 1 step is needed for an instruction, but only 0 ...
    >>> budget.make("the tensor 'b'", 10**10)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pyroberta.formats.budget.OverBudget: model.bin: 10000000000 bytes are needed for the tensor 'b', but ...
    """

    def __init__(self, source: Path | str, size: int = 0, *, steps: int | None = None, items: int = 0) -> None:
        self.source = source
        self.most_bytes = self.bytes_left = max(LEAST_BYTES, TIMES_SIZE * size)
        self.most_steps = self.steps_left = LEAST_STEPS + STEPS_PER_ITEM * items if steps is None else steps

    def make(self, item: str, size: int) -> None:
        """Spends `size` bytes for `item`, before it is allocated.

        Raises:
            OverBudget: if fewer bytes are left.
        """
        if size > self.bytes_left:
            raise self._refusal(item, size, "byte", self.bytes_left, self.most_bytes)
        self.bytes_left -= size

    def step(self, item: str, count: int = 1) -> None:
        """Spends `count` steps for `item`, before it is done.

        Raises:
            OverBudget: if fewer steps are left.
        """
        if count > self.steps_left:
            raise self._refusal(item, count, "step", self.steps_left, self.most_steps)
        self.steps_left -= count

    def _refusal(self, item: str, asked: int, unit: str, left: int, most: int) -> OverBudget:
        return OverBudget(
            f"{self.source}: {asked} {unit}{' is' if asked == 1 else 's are'} needed for {clipped(item)}, "
            f"but only {left} of the {most} allowed are left"
        )


def clipped(text: str, most: int = LONGEST) -> str:
    """Returns a text, made `printable` and shortened. A shortened text ends with a sign that there is more.

    >>> clipped("abcdef", 4)
    'abc…'
    """
    text = printable(text[: most + 1])
    return text if len(text) <= most else text[: most - 1] + "…"


def printable(text: str, keep: str = "") -> str:
    """Returns a text from outside in a form that is safe for a terminal. Control characters are written as Python's
    escapes.

    Args:
        text: the text, such as a file's name.
        keep: the control characters that stay as they are.

    >>> print(printable("a\\x1b[2Jb\\n.txt"))
    a\\x1b[2Jb\\n.txt
    >>> printable("one\\ttwo", keep="\\t")
    'one\\ttwo'
    """
    if text.isprintable():
        return text
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else repr(found[0])[1:-1], text)


def shown(value: Any) -> str:
    """Returns a value for a message, in at most `LONGEST` characters.

    A long text is cut in the middle. Only the first items of the first levels of a container are read, so the work is
    limited even if a container holds itself. Any other object is shown by the name of its type. Its `repr` is never
    called, since it may read any amount of data.

    >>> shown("a" * 1000)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'"
    >>> shown({"a": [1, (2, 3, [4, []])], "b": range(9)})
    "{'a': [1, (2, 3, [...])], 'b': range(...)}"
    """
    return clipped(_shown(value, DEEPEST))


def described(value: Any) -> str:
    """Returns a value and its type for a message, in few characters.

    >>> described([1, 2])
    '[1, 2] (list)'
    """
    return f"{clipped(shown(value), 40)} ({type(value).__name__})"


def type_of(value: Any) -> str:
    """Returns the name of a value's type with its article, for a message.

    >>> type_of([1, 2]), type_of(7), type_of(None)
    ('a list', 'an int', 'None')
    """
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[:1].lower() in 'aeio' or name.startswith('nd') else 'a'} {name}"


def _shown(value: Any, levels: int) -> str:
    if value is None or isinstance(value, (bool, float)):
        return clipped(repr(value), LONGEST_TEXT)
    if isinstance(value, int):
        return _int(int(value))
    if isinstance(value, (str, bytes)):
        return _text(value)
    if isinstance(value, Mapping):
        return _parts("{", value.items(), "}", len(value), levels, lambda pair: _pair(pair, levels))
    if isinstance(value, (list, tuple, set, frozenset)):
        first, last = ("[", "]") if isinstance(value, list) else ("(", ")") if isinstance(value, tuple) else ("{", "}")
        if not value and first == "{":
            return "set()"
        if isinstance(value, tuple) and len(value) == 1:
            last = ",)"
        return _parts(first, value, last, len(value), levels, lambda part: _shown(part, levels - 1))
    if isinstance(value, BaseException):
        return f"{type(value).__name__}({', '.join(_shown(part, levels - 1) for part in value.args[:1])})"
    return f"{type(value).__name__}(...)"


def _pair(pair: tuple[Any, Any], levels: int) -> str:
    return f"{_shown(pair[0], levels - 1)}: {_shown(pair[1], levels - 1)}"


def _parts(first: str, values: Iterable[Any], last: str, count: int, levels: int, show: Callable[[Any], str]) -> str:
    if count and not levels:
        return f"{first}...{last[-1]}"
    parts = [show(value) for value in islice(values, MOST_PARTS)] + ["..."] * (count > MOST_PARTS)
    return first + ", ".join(parts) + last


def _int(value: int) -> str:
    bits = value.bit_length()
    if bits > 8 * LONGEST_TEXT:  # its digits would take long to make
        return f"a number of {bits} bits"
    return _cut_out(str(value))


def _text(value: str | bytes) -> str:
    if len(value) > LONGEST_TEXT:  # with quotes the rest is still too long, and is cut below
        half = LONGEST_TEXT // 2
        value = value[:half] + value[-half:]  # type: ignore[operator]
    return _cut_out(repr(value))


def _cut_out(text: str) -> str:
    """A text without its middle, where it is long."""
    if len(text) <= LONGEST_TEXT:
        return text
    before = (LONGEST_TEXT - 3) // 2
    return text[:before] + "..." + text[len(text) - (LONGEST_TEXT - 3 - before) :]
