"""The treatment of texts that are longer than the model takes: they are split into windows, cut or refused, and
counted.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from pyroberta.formats.counts import agreeing, counted, share
from pyroberta.model.callers import callers_level
from pyroberta.text.packing import pack_segments
from pyroberta.text.tokenizer import Tokenizer

LONG_TEXTS = ("split", "cut", "refuse")


class LongTexts:
    """Treats the texts of one call that have more than `limit` tokens, and counts them.

    - "split" makes windows of `limit` tokens that do not overlap. The `<s>` and `</s>` of each window count.
    - "cut" drops the tokens beyond `limit`.
    - "refuse" raises a ValueError.

    Windows are made of a text of one segment. A text of several segments is cut if "split" is the default, and refused
    if the caller chose "split".

    Args:
        choice: one of `LONG_TEXTS`.
        limit: the largest number of tokens of a text. Special tokens count.
        owner: the name of the limit, for messages.
        is_asked: whether the caller chose `choice`. False if it is a default.
        kept_id: the id of a token that "cut" must not drop, such as `<mask>` in prediction. None if there is no such
            token.
        argument: the name of the argument that holds the texts, for the warning. It is empty for x.
        noun: the word for a text in the warning.
        can_split: whether the caller may choose "split", for messages.
        place: a function that names a text by its number, for messages.

    Attributes:
        is_counting: whether texts are counted. Set it to False when the same texts are read again.

    >>> tokenizer = Tokenizer.train(["the fox"], vocab_size=261)
    >>> long_texts = LongTexts("split", limit=4)
    >>> [tokenizer.decode(ids) for ids in long_texts.encode(tokenizer, ("foxes",), "text 0")]
    ['<s>fo</s>', '<s>xe</s>', '<s>s</s>']
    >>> long_texts.summary()
    'the only text has more than 4 tokens (the longest has 7): 1 was split into 3 windows'
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
        can_split: bool = True,
        place: Callable[[int], str] = "text {}".format,
    ) -> None:
        self.choice = check_long_texts(choice)
        self.limit = limit
        self.owner = owner
        self.is_asked = is_asked
        self.kept_id = kept_id
        self.argument = argument
        self.noun = noun
        self.can_split = can_split
        self.place = place
        self.texts = self.split = self.windows = self.cut = self.dropped = self.longest = 0
        self.is_counting = True
        self._is_said = False

    def encode(
        self, tokenizer: Tokenizer, segments: Sequence[str], name: str, truncate: str = "round_robin"
    ) -> list[NDArray[np.int32]]:
        """Returns the sequences of a text: one sequence, or one for each window.

        Args:
            tokenizer: the tokenizer of the ids and the special tokens.
            segments: the segments of the text.
            name: the name of the text, for messages.
            truncate: see `pack_segments`.

        Returns:
            Arrays (S,) int32, each with its special tokens and at most `limit` long.

        Raises:
            ValueError: if a long text is refused. See `Tokenizer.encode` and `pack_segments` for other errors.
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
            may_split = " or long_texts='split'" if self.can_split and len(pieces) == 1 else ""
            raise ValueError(
                f"{name} has {length} tokens, <s> and </s> included; {self.owner} {self.limit}. Shorten it, or pass "
                f"long_texts='cut'{may_split}"
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
        """Returns a sentence about the texts that were split and cut, or an empty text if there were none."""
        done = []
        if self.split:
            done.append(f"{self.split} {agreeing(self.split, 'was')} split into {self.windows} windows")
        if self.cut:
            done.append(f"{self.cut} {agreeing(self.cut, 'was')} cut, which drops {counted(self.dropped, 'token')}")
        if not done:
            return ""
        count = self.split + self.cut
        return (
            f"{self.argument}{': ' * bool(self.argument)}{share(count, self.texts, self.noun, 'has')} more than "
            f"{self.limit} tokens (the longest has {self.longest}): " + " and ".join(done)
        )

    def say(self) -> None:
        """Warns once, if texts were split or cut.

        Warns:
            UserWarning: at the line of the package's caller. The message has the counts.
        """
        summary = self.summary()
        if summary and not self._is_said:
            self._is_said = True
            warnings.warn(summary, stacklevel=callers_level())


def check_long_texts(choice: str) -> str:
    """Returns the choice, if it is one of `LONG_TEXTS`.

    Raises:
        ValueError: if it is not.
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
