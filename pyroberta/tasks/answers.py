"""What the answers to texts share: a filling, a score, a classification."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NoReturn


class Answer:
    """A dataclass of what a model says of a text.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Length(Answer):
    ...     tokens: int
    >>> Length(3).as_dict()
    {'tokens': 3}
    >>> Length(3)["tokens"]
    Traceback (most recent call last):
    TypeError: a Length is no dict: .tokens is an attribute, and as_dict() gives the dict
    """

    def as_dict(self) -> dict[str, Any]:
        """The attributes as a dict, for JSON."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    def __getitem__(self, name: object) -> NoReturn:
        """Raises an error that says how it is written; the pipelines of transformers give dicts."""
        known = list(vars(self))
        attribute = name if name in known else known[0]
        raise TypeError(
            f"a {type(self).__name__} is no dict: .{attribute} is an attribute, and as_dict() gives the dict"
        )
