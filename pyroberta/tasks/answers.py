"""The base class of the answers to a text: a filling, a score, a classification."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NoReturn

from pyroberta.formats.budget import type_of


class Answer:
    """The base class of dataclasses for the result of a model for one text.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Length(Answer):
    ...     tokens: int
    >>> Length(3).as_dict()
    {'tokens': 3}
    >>> Length(3)["tokens"]
    Traceback (most recent call last):
    TypeError: a Length is not a dict: write .tokens for the attribute, or as_dict() for a dict
    """

    def as_dict(self) -> dict[str, Any]:
        """Returns the attributes as a dict, for JSON."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    def __getitem__(self, name: object) -> NoReturn:
        """Raises a TypeError that names the attribute or `as_dict()`. Users of transformers expect a dict here."""
        known = list(vars(self))
        attribute = name if name in known else known[0]
        raise TypeError(f"{type_of(self)} is not a dict: write .{attribute} for the attribute, or as_dict() for a dict")
