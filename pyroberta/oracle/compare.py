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

from pyroberta.formats.budget import shown, type_of
from pyroberta.oracle.calls import Call, call_of, is_copy
from pyroberta.oracle.chains import Chain
from pyroberta.oracle.explanations import Explained, Explainer, agreed, are_gradients
from pyroberta.oracle.foreign import Aligned
from pyroberta.oracle.golden import Trace
from pyroberta.oracle.judge import Judge, Judged
from pyroberta.oracle.plain import PLAIN
from pyroberta.oracle.report import Finding as Finding
from pyroberta.oracle.report import Report as Report
from pyroberta.oracle.signatures import looks_like

PRECISIONS = ("float32", "mixed_bfloat16", "float64")
MOST_TRIED = 16  # the number of tensors without a known cause for which the calls before them are tried
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
    second = _second_names(golden, known)
    known, lost, partial = (_renamed(arrays, second) for arrays in (known, given.lost, given.partial))
    comparison = _Comparison(Judge(golden, known, precision, seed, lost, partial), given.aside)
    with np.errstate(all="ignore"):  # theirs may be anything
        found = comparison.findings()
    missing = [*missing, *(name for name in theirs if name not in golden.entries)]
    count = sum(entry.value != "bound" for entry in golden.entries.values())
    found, first = _without_chance(golden, found), {name: one for one, name in second.items()}
    unjudged = [first.get(name, name) for name in comparison.unjudged]
    return Report([_with_first_names(one, first) for one in found], missing, unjudged, count, precision)


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
        self._causing: dict[Call, str] = {}  # where a cause of an earlier call showed
        self._tried = 0  # the number of tensors for which the calls before them were tried

    def findings(self) -> list[Finding]:
        """What was found of each tensor."""
        for judged in self.judge:
            self._note(judged)
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
            finding = replace(finding, may_follow=self._before(judged))
            if finding.may_follow:  # a term that is off is not a term too many
                self._named[name] = [one for one in self._named[name] if not one.cause.endswith(" is added twice")]
            self._first.setdefault(call_of(judged.name, judged.entry), finding)
        self._findings[name] = finding
        if judged.ratio > 1.0 and not self._named[name] and not finding.may_follow:
            self._look_between(judged)

    def _before(self, judged: Judged) -> str:
        """Returns the name of an earlier departure that a tensor is computed from, or "".

        The tensor is computed from it if the departing call was computed on the way from the given tensors to the
        tensor. The backward of an op is also computed from the op's forward. A forward that was computed again says
        nothing about the backward of its op.
        """
        judged_call = call_of(judged.name, judged.entry)
        for call, one in self._first.items():
            is_on_the_way = call in judged.through and call != judged_call
            is_of_forward = call.op in PLAIN and not call.is_backward
            if is_on_the_way or (is_of_forward and call._replace(is_backward=True) in judged.through):
                return one.name
        return ""

    def _look_between(self, judged: Judged) -> None:
        """Tries the mistakes of the calls before a tensor without a known cause. If one of these calls has already
        shown a cause, the tensor may follow from it.
        """
        name = judged.name
        if before := next((at for call, at in self._causing.items() if call in judged.through), ""):
            self._findings[name] = replace(self._findings[name], may_follow=before)
            return
        chain = Chain(self.judge, judged)
        if self._tried < MOST_TRIED:
            self._tried += 1
            self._named[name] = self.explainer.between(judged, chain)
            self._causing |= {one.call: name for one in self._named[name][:1] if one.call}
        backward, forward, steps = map(tuple, chain.suspects)
        self._findings[name] = replace(
            self._findings[name], backward=backward, forward=forward, steps=steps, give=self._narrowing(name, chain)
        )

    def _narrowing(self, name: str, chain: Chain) -> tuple[str, ...]:
        """The tensors of a chain after the last right tensor, or all of its tensors if none of them is after it."""
        entries = self.judge.golden.entries
        at = {one: i for i, one in enumerate(entries)}

        def finished(one: str) -> int:  # a parameter's gradient with its last term
            return max(map(at.__getitem__, entries[one].inputs.values())) if entries[one].op == "sum" else at[one]

        names = list(self._findings)
        before = [one for one in names[: names.index(name)] if self._is_right(one)]
        of_same_way = self._findings[name].is_in_backward
        last = max((finished(one) for one in before if self._findings[one].is_in_backward == of_same_way), default=-1)
        found = list(chain.passed_on())
        return tuple([one for one in found if at[one] > last] or found)

    def _is_right(self, name: str) -> bool:
        return self._findings[name].ratio <= 1.0 and not self._named[name] and bool(self._findings[name].op)


# --- gradients that have two names ------------------------------------------------------------------------------------


def _second_names(golden: Trace, given: Mapping[str, Array]) -> dict[str, str]:
    """Returns the names of the sums that were given under their other name: given name -> name of the sum.

    The gradient of an op's result that several ops use is a sum. So `d.layers.2.feed_forward.norm.output` and
    `d.layers.3.attention.key.x.added` are one tensor, and the sum's name has the terms.
    """
    found = {}
    for name in given:
        entry = golden.entries[name]
        source = entry.inputs.get("dy", "")
        if is_copy(entry) and source not in given and golden.entries[source].op == "add":
            found[name] = source
    return found


def _renamed(arrays: Mapping[str, Array], names: Mapping[str, str]) -> dict[str, Array]:
    return {names.get(name, name): array for name, array in arrays.items()}


def _with_first_names(finding: Finding, names: Mapping[str, str]) -> Finding:
    """A finding with the names under which the tensors were given."""
    return replace(
        finding,
        name=names.get(finding.name, finding.name),
        may_follow=names.get(finding.may_follow, finding.may_follow),
        computed_from=tuple(names.get(name, name) for name in finding.computed_from),
    )


def _precision_for(golden: Trace, given: str | None) -> str:
    """The arithmetic to judge by."""
    if not isinstance(golden, Trace):
        raise TypeError(
            f"golden should be a Trace, got {type_of(golden)}. The trace is the first argument, as in "
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
    call = call_of(judged.name, entry)
    error = float(np.abs(difference).max(initial=0.0))
    unit = float(run.ulp(np.array(np.abs(judged.expected).max(initial=0.0))))
    from_trace = _relative(judged.theirs - golden[judged.name], golden[judged.name], judged.tolerance)
    return Finding(
        judged.name, entry.place or judged.name, call.op, entry.step,
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
    return replace(finding, place=first.call.place, elsewhere=first.call.place) if first.call else finding


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
