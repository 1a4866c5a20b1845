"""The kinds of cases: how the cases of each kind are made, and how a backend of this package computes them.

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

TOKENIZER = "roberta_tiny_en"  # the preset whose vocabulary a suite contains


class Kind(NamedTuple):
    """A kind of case.

    Attributes:
        bound: the origin of the bounds: "derived", "sampled", or "exact" for values that must be equal.
        answer: a function from a case and the means to the case's values.
        expected: a function from a case, the means and the precision to the expected values in float64, with bounds. It
            is None for "exact".
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
    """Makes a suite. The result depends only on the arguments and the machine.

    Args:
        seed: the seed of the inputs, a whole number of at least 0.
        precision: the precision of the arithmetic that the bounds allow, one of `PRECISIONS`.
        only: the beginning of the names of the cases to make.

    Raises:
        ValueError: if the precision or the seed is invalid.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision should be one of {', '.join(PRECISIONS)}, got {precision!r}")
    tokenizer = open_preset(TOKENIZER, weights=False).tokenizer
    means, found = Means(REFERENCE, np.dtype(np.float64), tokenizer), dict[str, Case]()
    seed = whole_number("seed", seed, at_least=0)
    for case in _questions(seed, tokenizer):
        if case.name.startswith(only):
            found[case.name] = _answered(case, means, precision)
    return Suite(found, tokenizer, seed, precision)


def answers(suite: Suite, backend: str = "auto", dtype: Any = None) -> dict[str, Array]:
    """Computes a suite with a backend of this package.

    Args:
        suite: the return value of `make` or `suite.read`.
        backend: the name of the backend (see `backends.get_ops`).
        dtype: the dtype of the arithmetic, float32 or float64. The default is the precision of the suite.

    Returns:
        CASE/VALUE -> array.

    Raises:
        ValueError: if a case has an unknown kind, or inputs and settings that do not fit its kind.
    """
    means = Means(get_ops(backend), np.dtype(dtype or suite.precision), suite.tokenizer)
    found: dict[str, Array] = {}
    for case in suite.cases.values():
        if case.kind not in KINDS:
            raise ValueError(
                f"the kind of the case {case.name} should be one of {', '.join(KINDS)}. Was the suite made by another "
                "version?"
            )
        try:
            values = KINDS[case.kind].answer(case, means)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            reason = clipped(f"{type(error).__name__}: {error}".splitlines()[0])
            raise ValueError(
                f"the inputs and settings of {case.name} do not fit the kind {case.kind} ({reason}). Make or download "
                "the suite again"
            ) from error
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
