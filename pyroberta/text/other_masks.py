"""What stands for a mask with other models and people, and is text for RoBERTa."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable

from pyroberta.formats.counts import share
from pyroberta.model.callers import callers_level

# BERT's [MASK], T5's <extra_id_0>, {{mask}}, <mask_1>: forms that ordinary prose does not have. A run of brackets is
# tried at its first one alone: tried at each, a run of n brackets would take n² steps.
OTHER_MASKS = re.compile(
    r"""
    (?:(?<!\[)\[+|(?<!<)<+|(?<!\{)\{+) [\s|]* mask(?:ed)? [\s_-]?\d* [\s|]* (?:\]+|>+|\}+)
    | <extra_id_\d+> | </?mask\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Forms that stand in prose too, as a gap of a form does, and that are masks only where a text lacks any other.
GAPS = re.compile(r"_{3,}|\bMASK\b")


def mask_hint(text: str, mask_token: str) -> str:
    """Returns the end of an error for a text without a mask: what to write instead. It names the mask of another model
    if the text has one, or a gap such as `___`.

    >>> mask_hint("A [MASK] day.", "<mask>")
    ". Write '<mask>', RoBERTa's mask, in the place of '[MASK]'"
    >>> mask_hint("A day.", "<mask>")
    ". Write '<mask>' in the place of the word to fill in"
    """
    found = OTHER_MASKS.search(text) or GAPS.search(text)
    if found is None:
        return f". Write {mask_token!r} in the place of the word to fill in"
    return f". Write {mask_token!r}, RoBERTa's mask, in the place of {found[0]!r}"


class OtherMasks:
    """Counts the texts of one call, of which masks are to be filled, that have a mask in another form.

    Args:
        mask_token: RoBERTa's mask.

    >>> others = OtherMasks("<mask>")
    >>> others.see("A [MASK] and a <mask>.", "text 0".format)
    >>> others.summary()
    "the only text has a mask in another form, which is read as text (text 0: '[MASK]'). Write '<mask>' in its place"
    """

    def __init__(self, mask_token: str) -> None:
        self.mask_token = mask_token
        self.texts = self.found = 0
        self._first = ""
        self._is_said = self._is_filled = False

    def see(self, text: str | Iterable[str], place: Callable[[], str]) -> None:
        """Counts a text, or a text of several segments. `place` is a function that returns its name."""
        self.texts += 1
        segments = (text,) if isinstance(text, str) else tuple(text)
        self._is_filled = self._is_filled or any(self.mask_token in segment for segment in segments)
        for segment in segments:
            found = OTHER_MASKS.search(segment.replace(self.mask_token, " "))
            if found is not None:
                self._first = self._first or f"{place()}: {found[0]!r}"
                self.found += 1
                return

    def summary(self) -> str:
        """Returns a sentence about the texts, or an empty text if there are none. It is empty too if no text has the
        mask, which is an error.
        """
        if not self.found or not self._is_filled:
            return ""
        return (
            f"{share(self.found, self.texts, 'text', 'has')} a mask in another form, which is read as text "
            f"({'the first is ' * (self.found > 1)}{self._first}). Write {self.mask_token!r} in its place"
        )

    def say(self) -> None:
        """Warns once, if there are such texts.

        Warns:
            UserWarning: at the line of the package's caller. The message has the counts and the first of the texts.
        """
        summary = self.summary()
        if summary and not self._is_said:
            self._is_said = True
            warnings.warn(summary, stacklevel=callers_level())
