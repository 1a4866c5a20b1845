"""The README of a suite is enough: what `by_hand` has is written from it, in plain loops, without the package."""

from __future__ import annotations

from collections.abc import Callable

import by_hand
import numpy as np
import pytest
from suites import made

from pyroberta.oracle.conformance import verdicts
from pyroberta.oracle.conformance.case import Case


@pytest.mark.parametrize(
    "kind", [by_hand.pack, by_hand.pad, by_hand.mask, by_hand.random], ids=lambda kind: kind.__name__
)
def test_exact_kinds_can_be_written_from_the_readme(kind: Callable[[Case], by_hand.Values]):
    cases = [case for case in made().cases.values() if case.kind == kind.__name__]
    assert len(cases) > 5
    for case in cases:
        verdict = verdicts.verdict_of(case, {name: np.asarray(value) for name, value in kind(case).items()})
        assert (verdict.status, verdict.lacking) == ("passed", ()), f"{case.name}: {verdict.complaint}"


@pytest.mark.parametrize("kind", ["block", "head", "model"])
def test_models_can_be_written_from_the_readme(kind: str):
    cases = [case for case in made().cases.values() if case.kind == kind and case.subject != "mean_pooling"]
    assert len(cases) > 4
    for case in cases:
        if kind == "block":
            given = {"output": by_hand.layer(case, 0, case.inputs["x"], case.inputs["starts"])}
        elif kind == "head":
            given = by_hand.head(case, case.inputs["x"], case.inputs["labels"])
        else:
            given = by_hand.model(case)
        given = {name: value for name, value in given.items() if name in case.expected}
        verdict = verdicts.verdict_of(case, {name: np.asarray(value) for name, value in given.items()})
        assert verdict.status == "passed", f"{case.name}: {verdict.complaint}"
        assert given
