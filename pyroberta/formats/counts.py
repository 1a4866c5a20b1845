"""Numbers of things in messages, in the form of the word that the number calls for."""

from __future__ import annotations

import re

PLURALS = {"has": "have", "is": "are", "was": "were", "does": "do"}  # of other verbs the singular ends with s


def counted(count: int, noun: str) -> str:
    """Returns a number and the noun, in the plural unless the number is 1.

    >>> counted(1, "text"), counted(0, "row"), counted(2, "boundary")
    ('1 text', '0 rows', '2 boundaries')
    """
    if count == 1:
        return f"{count} {noun}"
    return f"{count} {re.sub('(?<![aeo])y$', 'ie', noun)}s"


def agreeing(count: int, verb: str) -> str:
    """Returns a verb in the form for so many subjects. It is given in the form for one.

    >>> agreeing(1, "has"), agreeing(2, "has"), agreeing(2, "holds")
    ('has', 'have', 'hold')
    """
    return verb if count == 1 else PLURALS.get(verb) or verb.removesuffix("s")


def share(count: int, total: int, noun: str, verb: str) -> str:
    """Returns the beginning of a sentence about some of all things.

    >>> share(1, 3, "text", "has"), share(2, 3, "text", "has"), share(1, 1, "text", "has")
    ('1 of 3 texts has', '2 of 3 texts have', 'the only text has')
    """
    some = f"the only {noun}" if count == total == 1 else f"{count} of {counted(total, noun)}"
    return f"{some} {agreeing(count, verb)}"
