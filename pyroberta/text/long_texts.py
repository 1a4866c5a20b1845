"""Texts that are longer than the model takes: split into windows, cut or refused, and counted."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from pyroberta.model.callers import callers_level
from pyroberta.text.packing import pack_segments
from pyroberta.text.tokenizer import Tokenizer

LONG_TEXTS = ("split", "cut", "refuse")


class LongTexts:
    """The treatment of texts of more than `limit` tokens in one call, and their counts.

    - "split" makes windows of `limit` tokens. They do not overlap. Each has a `<s>` and a `</s>`, which count.
    - "cut" drops the tokens beyond `limit`.
    - "refuse" raises a ValueError.

    Windows are made of one segment. A text of several segments is cut where "split" is the default, and refused where
    "split" was asked for.

    Args:
        choice: one of `LONG_TEXTS`.
        limit: the most tokens of a text, the special ones counted.
        owner: the name of the limit, for messages.
        is_asked: whether the caller chose `choice`; False for a default.
        kept_id: a token that "cut" must not drop, such as `<mask>` in prediction; None for none.
        argument: the name of the argument that holds the texts, for the warning; empty for x.
        noun: what the texts are called there.

    Attributes:
        is_counting: whether texts are counted; False once they come again.

    >>> tokenizer = Tokenizer.train(["the fox"], vocab_size=261)
    >>> long_texts = LongTexts("split", limit=4)
    >>> [tokenizer.decode(ids) for ids in long_texts.encode(tokenizer, ("foxes",), "text 0")]
    ['<s>fo</s>', '<s>xe</s>', '<s>s</s>']
    >>> long_texts.summary()
    'of 1 text 1 has more than 4 tokens (the longest has 7): 1 was split into 3 windows'
    """

    def __init__(
        self,
        choice: str,
        limit: int,
        *,
        owner: str = "sequence_length is",
        is_asked: bool = False,
        kept_id: int | None = None,
        argument: str = "",
        noun: str = "text",
    ) -> None:
        self.choice = check_long_texts(choice)
        self.limit = limit
        self.owner = owner
        self.is_asked = is_asked
        self.kept_id = kept_id
        self.argument = argument
        self.noun = noun
        self.texts = self.split = self.windows = self.cut = self.dropped = self.longest = 0
        self.is_counting = True
        self._is_said = False

    def encode(
        self, tokenizer: Tokenizer, segments: Sequence[str], name: str, truncate: str = "round_robin"
    ) -> list[NDArray[np.int32]]:
        """The sequences of a text: one, or its windows.

        Args:
            tokenizer: gives the ids and the special tokens.
            segments: of the text.
            name: of the text, for messages.
            truncate: see `pack_segments`.

        Returns:
            Arrays (S,) int32, each with its special tokens and at most `limit` long.

        Raises:
            ValueError: for a long text that is refused, and for what `Tokenizer.encode` or `pack_segments` refuses.
        """
        start_id, end_id, separators = tokenizer.start_token_id, tokenizer.end_token_id, tokenizer.separators
        special = {"start_id": start_id, "end_id": end_id, "separators": separators}
        with _named(name):
            pieces = [tokenizer.encode(segment, add_special_tokens=False) for segment in segments]
        parts = self._parts(pieces, name, separators)
        with _named(name):
            packed = [pack_segments(part, self.limit, **special, truncate=truncate) for part in parts]
        lost = self._count(pieces) - self._count(packed)
        if lost:
            raise ValueError(
                f"{name} would lose {lost} {tokenizer.id_to_token(self.kept_id or 0)!r} by being cut to {self.limit} "
                "tokens. Shorten the text around it"
            )
        return [np.array(ids, np.int32) for ids in packed]

    def _count(self, sequences: Sequence[Sequence[int]]) -> int:
        """The number of tokens in the sequences that must be kept."""
        return 0 if self.kept_id is None else sum(ids.count(self.kept_id) for ids in sequences)

    def _parts(self, pieces: list[list[int]], name: str, separators: int) -> list[list[list[int]]]:
        """The segments' ids for each sequence of the text. `pack_segments` cuts them."""
        self.texts += self.is_counting
        length = sum(map(len, pieces)) + 2 + separators * (len(pieces) - 1)
        if length <= self.limit:
            return [pieces]
        if self.choice == "refuse":
            raise ValueError(
                f"{name} has {length} tokens, <s> and </s> included; {self.owner} {self.limit}. Split the text, or "
                "say what to do with long texts: long_texts="
            )
        if self.choice == "split" and len(pieces) > 1 and self.is_asked:
            raise ValueError(
                f"{name} has {length} tokens in {len(pieces)} segments; {self.owner} {self.limit}. A text of several "
                "segments can't be split into windows: pass long_texts='cut' or shorten it"
            )
        self.longest = max(self.longest, length * self.is_counting)
        if self.choice == "split" and len(pieces) == 1:
            room = self.limit - 2
            parts = [[pieces[0][start : start + room]] for start in range(0, len(pieces[0]), room)]
            self.split += self.is_counting
            self.windows += len(parts) * self.is_counting
            return parts
        self.cut += self.is_counting
        self.dropped += (length - self.limit) * self.is_counting
        return [pieces]

    def summary(self) -> str:
        """A sentence about the texts that were split and cut; empty if there were none."""
        done = []
        if self.split:
            done.append(f"{self.split} {_was(self.split)} split into {self.windows} windows")
        if self.cut:
            tokens = f"{self.dropped} token{'s' * (self.dropped != 1)}"
            done.append(f"{self.cut} {_was(self.cut)} cut, which drops {tokens}")
        if not done:
            return ""
        count = self.split + self.cut
        return (
            f"{self.argument}{': ' * bool(self.argument)}of {self.texts} {self.noun}{'s' * (self.texts != 1)} {count} "
            f"{'has' if count == 1 else 'have'} more than {self.limit} tokens (the longest has {self.longest}): "
            + " and ".join(done)
        )

    def say(self) -> None:
        """Warns once of texts that were split or cut, if there are any.

        Warns:
            UserWarning: with the counts, at the line of the package's caller.
        """
        summary = self.summary()
        if summary and not self._is_said:
            self._is_said = True
            warnings.warn(summary, stacklevel=callers_level())


def check_long_texts(choice: str) -> str:
    """The choice, if it is one of `LONG_TEXTS`.

    Raises:
        ValueError: for anything else.
    """
    if choice not in LONG_TEXTS:
        raise ValueError(f"long_texts must be 'split', 'cut' or 'refuse', got {choice!r}")
    return choice


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Puts the text's name before the message of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _was(count: int) -> str:
    return "was" if count == 1 else "were"
