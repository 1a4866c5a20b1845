"""The checks of the texts and the ids that are passed to a tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pyroberta.formats.budget import type_of
from pyroberta.text.byte_level import SURROGATE
from pyroberta.text.given import opened, refuse_endless, refuse_rows


def check_text(text: Any, name: str) -> None:
    """Checks that a value is a text.

    Raises:
        TypeError: if it is not. The message has `name`.
    """
    if isinstance(text, str):
        return
    hint = ""
    if isinstance(text, bytes):
        hint = "; decode it first, for instance with .decode('utf-8')"
    elif isinstance(text, Iterable):
        hint = "; for several texts call encode_batch"
    raise TypeError(f"{name} must be a str, got {type_of(text)}{hint}")


def checked_texts(texts: Any, name: str) -> Sequence[str]:
    """Returns a list of texts from a list, an array, a table's column or any iterable.

    Raises:
        TypeError: if `texts` is a single text, or has an item that is not a text. The message names its place.
        ValueError: if `texts` never ends.
    """
    texts = opened(texts, name)
    refuse_rows(texts, (), name)
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
        raise TypeError(f"{name} must be an iterable of str, got {type_of(texts)}")
    refuse_endless(texts, name)
    checked = list(texts)
    for i, text in enumerate(checked):
        check_text(text, f"{name}[{i}]")
    return checked


def is_row(value: Any) -> bool:
    """Returns whether a value holds ids, and is not an id itself."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes)) and getattr(value, "ndim", 1) > 0


def surrogate_error(text: str, name: str) -> ValueError:
    """Returns the error for a text that UTF-8 can't hold."""
    found = SURROGATE.search(text)
    assert found is not None  # nothing else in a str has no UTF-8
    return ValueError(
        f"{name} has a lone surrogate, {found[0]!r}, at index {found.start()}; it is half of a UTF-16 pair and has "
        "no UTF-8. Read the text with the encoding it was written in, or replace it: "
        "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
    )
