"""The kinds of cases: how each is made, and how our own backends do it.

>>> suite = make(seed=0, only="schedule/linear")
>>> [verdict.ratio < 1.0 for verdict in judge(suite, answers(suite, "numpy")).verdicts]
[True, True, True, True]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from pyroberta.backends import get_ops
from pyroberta.formats.budget import clipped
from pyroberta.model.attributes import whole_number
from pyroberta.ops import REFERENCE
from pyroberta.oracle.conformance import model_cases, op_cases, random_cases, text_cases, training_cases
from pyroberta.oracle.conformance.case import Case, Expected, Means
from pyroberta.oracle.conformance.suite import PRECISIONS, Suite
from pyroberta.oracle.conformance.verdicts import judge as judge
from pyroberta.oracle.plain import Values
from pyroberta.presets.preset import open_preset
from pyroberta.text.tokenizer import Tokenizer

TOKENIZER = "roberta_tiny_en"  # whose vocabulary a suite has


class Kind(NamedTuple):
    """A kind of case.

    Attributes:
        bound: where the bounds come from: "exact" for none, "derived" or "sampled".
        answer: the values of a case, as the given means make them.
        expected: what a case should give, in float64, with bounds for the precision; None where `answer` is exact.
    """

    bound: str
    answer: Callable[[Case, Means], Values]
    expected: Callable[[Case, Means, str], Expected] | None = None


KINDS: dict[str, Kind] = {
    "tokenize": Kind("exact", text_cases.tokenize),
    "decode": Kind("exact", text_cases.decode),
    "pack": Kind("exact", text_cases.pack),
    "pad": Kind("exact", text_cases.pad),
    "mask": Kind("exact", text_cases.mask),
    "random": Kind("exact", random_cases.answer),
    "op": Kind("derived", op_cases.answer, op_cases.expected),
    "block": Kind("sampled", model_cases.block_answer, model_cases.block_expected),
    "head": Kind("sampled", model_cases.head_answer, model_cases.expected),
    "model": Kind("sampled", model_cases.model_answer, model_cases.expected),
    "loss": Kind("derived", training_cases.loss_answer, training_cases.loss_expected),
    "optimizer": Kind("sampled", training_cases.optimizer_answer, training_cases.optimizer_expected),
    "schedule": Kind("derived", training_cases.schedule_answer, training_cases.schedule_expected),
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
    means, found = Means(REFERENCE, np.dtype(np.float64), tokenizer), dict[str, Case]()
    seed = whole_number("seed", seed, at_least=0)
    for case in _questions(seed, tokenizer):
        if case.name.startswith(only):
            found[case.name] = _answered(case, means, precision)
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
            reason = clipped(f"{type(error).__name__}: {error}".splitlines()[0])
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


def _answered(case: Case, means: Means, precision: str) -> Case:
    """The case with what is expected; what is rounded has a bound."""
    kind = KINDS[case.kind]
    found = kind.expected(case, means, precision) if kind.expected else Expected(kind.answer(case, means), {})
    expected = {name: np.asarray(value) for name, value in found.values.items()}
    limits = {name: np.asarray(found.bounds[name], np.float64) for name in expected if name in found.bounds}
    return replace(case, expected=expected, bounds=limits, inside=found.inside)
