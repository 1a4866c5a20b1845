"""Compares tensors of another implementation with a trace, and finds the likely causes of differences.

    report = compare(golden, {"layers.0.attention.context": ..., ...})
    print(report)

`oracle/judge.py` computes the expected value of each tensor and the largest error that rounding allows. If a tensor
departs, the known mistakes of its op (`oracle/causes.py`) are tried. The likely cause is the mistake that makes the
difference vanish. `oracle/report.py` has the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.formats.budget import shown
from pyroberta.oracle.calls import Call, call_of
from pyroberta.oracle.chains import Chain
from pyroberta.oracle.explanations import Explained, Explainer, agreed, are_gradients
from pyroberta.oracle.foreign import Aligned
from pyroberta.oracle.golden import Trace
from pyroberta.oracle.judge import Judge, Judged
from pyroberta.oracle.report import Finding as Finding
from pyroberta.oracle.report import Report as Report
from pyroberta.oracle.signatures import looks_like

PRECISIONS = ("float32", "mixed_bfloat16", "float64")
MOST_HELD = 16  # the number of tensors without a known cause for which the calls before them are tried
# The causes that hold for all parameters of an optimizer.
OF_ALL = (
    "the bias correction counts",
    "the moments are not corrected",
    "beta_1 is",
    "beta_2 is",
    "the learning rate is that of",
)
DIVIDED, MEAN, EPSILON = "losses are divided by", "it is the mean of its terms", "epsilon is"


def compare(
    golden: Trace, theirs: Mapping[str, Array] | Aligned, precision: str | None = None, seed: int = 0
) -> Report:
    """Compares tensors of another implementation with a trace.

    Args:
        golden: a trace in float64.
        theirs: the return value of `align`, or arrays by the trace's names, in its shapes. Their dtypes may be floats,
            integers or booleans.
        precision: the arithmetic of the other implementation, `"float32"`, `"mixed_bfloat16"` or `"float64"`. The
            default is that of the trace's bounds, or float32 without bounds.
        seed: the seed of the random changes with which results between given tensors are moved.

    Returns:
        A `Report` with a finding for each tensor that both sides have.

    Raises:
        TypeError: if `golden` is not a trace, for example because the arguments were exchanged.
        ValueError: if an array has not the shape of the trace's tensor, if its numbers are complex or objects, if the
            precision is unknown, or if the trace is damaged or not in float64.
    """
    precision = _precision_for(golden, precision)
    given = theirs if isinstance(theirs, Aligned) else Aligned(dict(theirs))
    theirs, missing = given.theirs, given.unknown
    known = {name: _checked(name, golden[name], array) for name, array in theirs.items() if name in golden.entries}
    comparison = _Comparison(Judge(golden, known, precision, seed, given.lost, given.partial), given.aside)
    with np.errstate(all="ignore"):  # theirs may be anything
        found = comparison.findings()
    missing = [*missing, *(name for name in theirs if name not in golden.entries)]
    count = sum(entry.value != "bound" for entry in golden.entries.values())
    return Report(_without_chance(golden, found), missing, comparison.unjudged, count, precision)


class _Comparison:
    """Goes through all tensors.

    Args:
        judge: says what each should be.
        aside: what else theirs have (see `foreign.Aligned`).

    Attributes:
        unjudged: tensors that may be anything.
    """

    def __init__(self, judge: Judge, aside: Mapping[str, Array]) -> None:
        self.judge, self.explainer = judge, Explainer(judge, aside)
        self.unjudged: list[str] = []
        self._findings: dict[str, Finding] = {}
        self._named: dict[str, list[Explained]] = {}
        self._first: dict[Call, Finding] = {}  # of each call that departs
        self._unknown: dict[str, frozenset[Call]] = {}  # what tensors of unknown cause come through
        self._held: dict[str, Judged] = {}  # some of these

    def findings(self) -> list[Finding]:
        """What was found of each tensor."""
        for judged in self.judge:
            self._note(judged)
        self._look_between()
        causes = agreed(self._named, {name: one.op for name, one in self._findings.items()})
        return [_with_cause(finding, causes[name]) for name, finding in self._findings.items()]

    def _note(self, judged: Judged) -> None:
        name, finding = judged.name, _measured(self.judge, judged)
        if judged.tolerance.size and np.isinf(judged.tolerance).all():
            self.unjudged.append(name)
        if judged.ratio > 1.0:
            finding = replace(finding, looks=looks_like(judged.theirs, judged.expected, judged.tolerance))
            self._named[name] = self.explainer.of_departure(judged)
        else:
            self._named[name] = self.explainer.of_rounding(judged, finding.relative, finding.error)
        if judged.ratio > 1.0 or self._named[name]:
            finding = replace(finding, may_follow=self._before(finding, judged))
            if finding.may_follow:  # a term that is off is not a term too many
                self._named[name] = [one for one in self._named[name] if not one.cause.endswith(" is added twice")]
            self._first.setdefault(call_of(judged.entry), finding)
            if not self._named[name] and not finding.may_follow:
                self._unknown[name] = judged.through
                if len(self._held) < MOST_HELD:
                    self._held[name] = judged
        self._findings[name] = finding

    def _before(self, finding: Finding, judged: Judged) -> str:
        """Returns the name of an earlier departure that a tensor is computed from, or "". For a gradient, it may be in
        the forward of the same op.
        """
        judged_call = call_of(judged.entry)
        for call, one in self._first.items():
            if call in judged.through and (call != judged_call or one.is_gradient != finding.is_gradient):
                return one.name
        return ""

    def _look_between(self) -> None:
        """Tries the mistakes of the calls before tensors without a known cause. Later tensors that are computed from
        such a call may follow from it.
        """
        causing: dict[Call, str] = {}  # where a cause of the call showed
        for name, through in self._unknown.items():
            before = next((at for call, at in causing.items() if call in through), "")
            self._findings[name] = replace(self._findings[name], may_follow=before)
            if name in self._held and not before:
                chain = Chain(self.judge, self._held[name])
                self._named[name] = self.explainer.between(self._held[name], chain)
                self._findings[name] = replace(self._findings[name], between=tuple(chain.places))
                causing |= {one.call: name for one in self._named[name][:1] if one.call}


def _precision_for(golden: Trace, given: str | None) -> str:
    """The arithmetic to judge by."""
    if not isinstance(golden, Trace):
        raise TypeError(
            f"golden should be a Trace, got {type(golden).__name__}. The trace is the first argument, as in "
            "compare(golden, theirs); trace(model, texts) makes one, and read_trace(file) reads one"
        )
    dtype = golden.settings.get("dtype", "float64")
    if dtype != "float64":
        raise ValueError(
            f"the trace is in {dtype}; a trace for a comparison should be in float64. Make one with dtype='float64', "
            "the default of trace() and of `pyroberta trace`"
        )
    for of in ("config", "optimizer"):
        if not isinstance(golden.settings.get(of), Mapping):
            raise ValueError(
                f"the settings of the trace have no {of!r}: use a trace that trace() or `pyroberta trace` made"
            )
    precision = given or golden.settings.get("precision") or "float32"
    if precision not in PRECISIONS:
        raise ValueError(f"precision should be one of {', '.join(PRECISIONS)}, got {shown(precision)}")
    return str(precision)


def _without_chance(golden: Trace, findings: list[Finding]) -> list[Finding]:
    """Removes causes that would hold for all gradients or updates, if at most half of these have them.

    A factor of the loss is in all gradients that were not computed from given gradients. A mean instead of a sum shows
    in all sums of several terms. A mistake of the optimizer shows in all parameters.
    """
    gradients = [one for one in findings if one.op == "sum" and "gradients." in one.name]
    of_loss = [one for one in gradients if not are_gradients(one.computed_from)]
    of_terms = [one for one in gradients if one.departs or len(golden.entries[one.name].inputs) > 1]
    updated = [one for one in findings if one.op == "update" and "updated." in one.name]
    departing = [one for one in updated if one.departs]  # epsilon does nothing where gradients are large
    groups = [(DIVIDED, of_loss), (MEAN, of_terms), *((cause, updated) for cause in OF_ALL), (EPSILON, departing)]
    for beginning, all_of in groups:
        named = [one for one in all_of if one.cause.startswith(beginning)]
        if len(named) * 2 <= len(all_of):
            findings = [replace(one, cause="", share=0.0, others=()) if one in named else one for one in findings]
    return findings


# --- one tensor -------------------------------------------------------------------------------------------------------


def _measured(judge: Judge, judged: Judged) -> Finding:
    """The finding without a cause."""
    golden, run = judge.golden, judge.run
    entry, difference = judged.entry, judged.theirs - judged.expected
    error = float(np.abs(difference).max(initial=0.0))
    unit = float(run.ulp(np.array(np.abs(judged.expected).max(initial=0.0))))
    from_trace = _relative(judged.theirs - golden[judged.name], golden[judged.name], judged.tolerance)
    return Finding(
        judged.name, entry.place or judged.name, entry.op, entry.step,
        error, _relative(difference, judged.expected, judged.tolerance), error / unit, judged.ratio, from_trace,
        tuple(sorted(judged.used)),
    )  # fmt: skip


def _relative(difference: Array, whole: Array, tolerance: Array) -> float:
    """The norm of a difference as a share of that of the whole, or of what rounding may do where that is more."""
    size, off = (float(np.linalg.norm(x.astype(np.float64))) for x in (whole, difference))
    size = max(size, float(np.linalg.norm(tolerance[np.isfinite(tolerance)])))
    return off / size if size else off


def _with_cause(finding: Finding, named: Sequence[Explained]) -> Finding:
    if not named:
        return finding
    first, *others = named
    finding = replace(finding, cause=first.cause, share=first.share, others=tuple(one.cause for one in others))
    return replace(finding, place=first.call[1]) if first.call else finding


def _checked(name: str, golden: Array, theirs: Any) -> Array:
    array = np.asarray(theirs)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} has the dtype {array.dtype}; it should be an array of real numbers")
    if array.shape != golden.shape:
        raise ValueError(
            f"{name} has the shape {array.shape}, and the trace's tensor has {golden.shape}: give it in this shape, or "
            "pass align(golden, theirs), which converts layouts"
        )
    return array
