"""Cases of the random numbers of dropout and masking: Philox4x64-10, which must be equal bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pyroberta.ops.dropout import Key, keep_mask, stream_words
from pyroberta.oracle.conformance.case import Case, Means
from pyroberta.oracle.conformance.drawing import Draw
from pyroberta.oracle.plain import Values
from pyroberta.text.masking import DRAWS, token_draws

FORMULAS = {
    "words": {
        "words": "Philox4x64-10 of the counters (j, 0, stream, 0), j = 1, 2, 3, …, each of which gives four words"
    },
    "keep": {"keep": "1 where a 32-bit word, low halves first, is at least rate · 2³²"},
    "draws": {"draws": "(word >> 11) · 2⁻⁵³, three for each token, from the stream of its sequence's number"},
}
PAGES = {"words": "ops/dropout.md", "keep": "ops/dropout.md", "draws": "numerics.md"}


def cases(seed: int) -> Iterator[Case]:
    """Yields the cases of the kind random: several keys and streams."""

    def case(name: str, note: str, settings: dict[str, Any], **inputs: Any) -> Case:
        subject = name.split("/")[0]
        key = Draw(seed, f"random/{name}").key()
        return Case(f"random/{name}", note, PAGES[subject], settings, FORMULAS[subject], {"key": key, **inputs})

    yield case("words/first_stream", "", {"stream": 0, "count": 9})
    yield case("words/far_stream", "a stream of more than 32 bits", {"stream": 2**40 + 7, "count": 6})
    yield case("words/zero_key", "a key of 0", {"stream": 0, "count": 4}, key=np.zeros(2, np.uint64))
    yield case("keep/usual", "", {"stream": 3, "rate": 0.1, "shape": [5, 7]})
    yield case("keep/half", "an odd number of elements", {"stream": 0, "rate": 0.5, "shape": [2, 3, 3]})
    starts, numbers = np.array([0, 3, 5], np.int32), np.array([4, 0])
    yield case("draws/usual", "two sequences, numbered 4 and 0", {}, starts=starts, numbers=numbers)


def answer(case: Case, means: Means) -> Values:
    """Returns the random numbers. They do not depend on the arithmetic."""
    key, settings = Key(*case.inputs["key"].tolist()), case.settings
    if case.subject == "words":
        return {"words": stream_words(key, settings["stream"], settings["count"])}
    if case.subject == "keep":
        return {"keep": keep_mask(key, settings["stream"], tuple(settings["shape"]), settings["rate"])}
    draws = token_draws(key, case.inputs["starts"], case.inputs["numbers"])
    assert draws.shape[1] == DRAWS
    return {"draws": draws}
