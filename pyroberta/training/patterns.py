"""Regular expressions for parameters' names that may come from a file, so that none may take forever to look for.

Python's `re` tries one way after the other: `(a+)+$` takes 2ⁿ of them on n letters. What is counted here is a bound.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

LONGEST_NAME = 50  # of a parameter
LONGEST_PATTERN, MOST_PATTERNS = 300, 500  # `re` goes into brackets by recursion, and keeps 512 that it has compiled
MOST_STEPS = 2_000_000


def steps(pattern: str) -> float:
    r"""A bound for the steps that looking for a pattern in a name takes; infinite where it has none.

    A group may not be repeated, nor begin with `(?`, unless with `(?:`.

    >>> steps(r"\.(bias|gamma|beta)$"), steps(r"layers\.\d+\..*norm"), steps("(a+)+$")
    (150, 66300, inf)
    """
    if len(pattern) > LONGEST_PATTERN or re.search(r"\)[*+{]|\(\?(?!:)", pattern):
        return math.inf
    repeats = len(re.findall(r"(?<!\()[*+?{]", pattern))
    choices = math.prod(part.count("|") + 1 for part in re.split(r"[()]", pattern))
    return LONGEST_NAME * math.comb(LONGEST_NAME + repeats, repeats) * choices


def check(what: str, patterns: Sequence[str]) -> None:
    """That looking for all of them in a name is done in no time.

    Raises:
        ValueError: where it may take long, naming the first that makes it so; the message begins with `what`.
    """
    if len(patterns) > MOST_PATTERNS:
        raise ValueError(f"{what}: {len(patterns)} patterns are more than the {MOST_PATTERNS} that can be had")
    left: float = MOST_STEPS
    for pattern in patterns:
        left -= steps(pattern)
        if left < 0:
            raise ValueError(
                f"{what}: {pattern[:80]!r} may take long to look for; a pattern should repeat no group, have few '*', "
                f"'+', '?' and '|', and at most {LONGEST_PATTERN} characters"
            )
