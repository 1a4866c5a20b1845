"""The kinds of cases: how each is made, and how our own backends do it.

>>> suite = make(seed=0, only="schedule/linear")
>>> [verdict.ratio < 1.0 for verdict in judge(suite, answers(suite, "numpy")).verdicts]
[True, True, True, True]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.backends import get_ops
from pyroberta.formats.budget import clipped
from pyroberta.model.attributes import whole_number
from pyroberta.ops import REFERENCE, Ops
from pyroberta.oracle.bounds import Bounds
from pyroberta.oracle.conformance import model_cases, op_cases, random_cases, text_cases, training_cases
from pyroberta.oracle.conformance.suite import PRECISIONS, Case, Suite
from pyroberta.oracle.conformance.verdicts import judge as judge
from pyroberta.oracle.plain import Values
from pyroberta.presets.preset import open_preset
from pyroberta.text.tokenizer import Tokenizer

TOKENIZER = "roberta_tiny_en"  # whose vocabulary a suite has


@dataclass(frozen=True)
class Means:
    """What a case is done with.

    Attributes:
        ops: the table of ops.
        dtype: of the arithmetic.
        tokenizer: of the suite.
    """

    ops: Ops
    dtype: Any
    tokenizer: Tokenizer


@dataclass(frozen=True)
class Kind:
    """A kind of case.

    Attributes:
        bound: where the bounds come from: "exact", "derived" or "sampled".
        answer: the values of a case, as a backend gives them.
        expected: the values, the bounds, and the names of values that need not be given.
    """

    bound: str
    answer: Callable[[Case, Means], Values]
    expected: Callable[[Case, str, Tokenizer], tuple[Values, Bounds, list[str]]]


_TEXT = Kind("exact", lambda c, m: text_cases.answer(c, m.tokenizer), lambda c, _, t: text_cases.expected(c, t))
_MODEL = Kind(
    "sampled",
    lambda c, m: model_cases.answer(c, m.ops, m.dtype),
    lambda c, precision, _: model_cases.expected(c, precision),
)
KINDS: dict[str, Kind] = {
    "tokenize": _TEXT,
    "decode": _TEXT,
    "pack": _TEXT,
    "pad": _TEXT,
    "mask": _TEXT,
    "random": Kind("exact", lambda c, _: random_cases.answer(c), lambda c, p, _: random_cases.expected(c, p)),
    "op": Kind(
        "derived",
        lambda c, m: op_cases.answer(c, m.ops, m.dtype),
        lambda c, precision, _: op_cases.expected(c, precision),
    ),
    "block": _MODEL,
    "head": _MODEL,
    "model": _MODEL,
    "loss": Kind(
        "derived",
        lambda c, m: training_cases.loss_answer(c, m.ops, m.dtype),
        lambda c, precision, _: training_cases.loss_expected(c, REFERENCE, precision),
    ),
    "optimizer": Kind(
        "sampled",
        lambda c, m: training_cases.optimizer_answer(c, m.ops, m.dtype),
        lambda c, precision, _: training_cases.optimizer_expected(c, precision),
    ),
    "schedule": Kind(
        "derived",
        lambda c, _: training_cases.schedule_answer(c),
        lambda c, precision, _: training_cases.schedule_expected(c, precision),
    ),
}


def make(seed: int = 0, precision: str = "float32", only: str = "") -> Suite:
    """A suite, whose inputs are drawn from the seed. The same one each time on the same machine.

    Args:
        seed: of the inputs.
        precision: of the arithmetic that the bounds allow: one of `PRECISIONS`.
        only: the beginning of the names of those cases that are wanted.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    tokenizer = open_preset(TOKENIZER, weights=False).tokenizer
    found: dict[str, Case] = {}
    seed = whole_number("seed", seed, at_least=0)
    for case in _questions(seed, tokenizer):
        if case.name.startswith(only):
            found[case.name] = _answered(case, precision, tokenizer)
    return Suite(found, tokenizer, seed, precision)


def answers(suite: Suite, backend: str = "auto", dtype: Any = None) -> dict[str, Array]:
    """What one of our backends makes of a suite: values by CASE/VALUE.

    Args:
        suite: as `make` or `suite.read` gives it.
        backend: see `backends.get_ops`.
        dtype: of the arithmetic, float32 or float64; the suite's precision unless given.

    Raises:
        ValueError: for a case of an unknown kind, and one whose inputs and settings don't fit its kind.
    """
    means = Means(get_ops(backend), np.dtype(dtype or suite.precision), suite.tokenizer)
    found: dict[str, Array] = {}
    for case in suite.cases.values():
        if case.kind not in KINDS:
            raise ValueError(f"{case.name} is of no kind that this version knows: {', '.join(KINDS)}")
        try:
            values = KINDS[case.kind].answer(case, means)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            reason = clipped(f"{type(error).__name__}: {error}")
            raise ValueError(f"{case.name}: its inputs and settings are no {case.kind}'s ({reason})") from error
        found |= {f"{case.name}/{name}": np.asarray(value) for name, value in values.items()}
    return found


def _questions(seed: int, tokenizer: Tokenizer) -> Iterator[Case]:
    yield from text_cases.cases(seed, tokenizer)
    yield from random_cases.cases(seed)
    yield from op_cases.cases(seed)
    yield from model_cases.cases(seed)
    yield from training_cases.loss_cases(seed)
    yield from training_cases.optimizer_cases(seed)
    yield from training_cases.schedule_cases()


def _answered(case: Case, precision: str, tokenizer: Tokenizer) -> Case:
    """The case with what is expected; floats are float64, and what is rounded has a bound."""
    values, limits, inside = KINDS[case.kind].expected(case, precision, tokenizer)
    expected = {name: np.asarray(value) for name, value in values.items()}
    kept = {name: np.asarray(limits[name], np.float64) for name in expected if name in limits}
    return replace(case, expected=expected, bounds=kept, inside=inside)
