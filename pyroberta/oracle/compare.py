"""Where another implementation's tensors part from a trace, and why.

    report = compare(golden, {"layers.0.attention.context": ..., ...})
    print(report)

`oracle/judge.py` says what each tensor should be and how far it may be off. Where one departs, the causes of its op
(`oracle/causes.py`) are tried: each computes the op as a known mistake would, and the one that makes the difference
vanish is the likely cause. `oracle/report.py` is what comes out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from pyroberta.formats.budget import shown
from pyroberta.oracle import bounds, update_causes
from pyroberta.oracle.calls import is_of_op
from pyroberta.oracle.causes import Cause, causes_of, normed_before
from pyroberta.oracle.foreign import Aligned
from pyroberta.oracle.golden import Entry, Trace
from pyroberta.oracle.judge import Call, Judge, Judged, call_of
from pyroberta.oracle.plain import PLAIN
from pyroberta.oracle.report import Finding as Finding
from pyroberta.oracle.report import Report as Report
from pyroberta.oracle.signatures import factor_of, looks_like, signature_of

PRECISIONS = ("float32", "mixed_bfloat16", "float64")
ENOUGH = 4.0  # times the tolerance: so near a cause has to come
EXPLAINED = 0.999  # or so much of the difference it has to make vanish, where there are many numbers
HARDLY = 0.95  # of the numbers that are off, so many have to be explained, each to this share
MANY = 16  # numbers: so many that no chance makes them differ as a mistake would
# Where rounding may have made the difference, a cause is looked for if it is so many times the rounding of the result,
# or of the factors; and it has to explain so much of it.
NOTABLE, OF_FACTORS, CERTAIN = 64.0, 0.5, 0.99
MOST_SUBNORMAL = 1e6  # times the smallest normal number: below, what is lost is underflow
DIVIDED, MEAN = "losses are divided by", "it is the mean of its terms"


def compare(
    golden: Trace, theirs: Mapping[str, Array] | Aligned, precision: str | None = None, seed: int = 0
) -> Report:
    """Judges tensors of another implementation.

    Args:
        golden: a trace in float64.
        theirs: what `align` gave; or tensors by the names of the trace, in its shapes.
        precision: of their arithmetic, `"float32"`, `"mixed_bfloat16"` or `"float64"`; that of the trace's bounds
            unless given.
        seed: of how results between are moved.

    Raises:
        TypeError: where the trace is no trace, as with both arguments exchanged.
        ValueError: for a shape that isn't that of the trace's tensor, for numbers that are complex or objects, for
            another precision, and for a trace that is not in float64.
    """
    precision = _precision_for(golden, precision)
    given = theirs if isinstance(theirs, Aligned) else Aligned(dict(theirs))
    theirs, missing = given.theirs, given.unknown
    whole = {name: array for name, array in theirs.items() if name in golden.entries and name not in given.partial}
    known = {name: _checked(name, golden[name], array) for name, array in whole.items()}
    findings: list[Finding] = []
    unjudged: list[str] = []
    first: dict[Call, Finding] = {}  # of each call that departs
    judge = Judge(golden, known, precision, seed, given.lost)
    with np.errstate(all="ignore"):  # theirs may be anything
        for judged in judge:
            if judged.tolerance.size and np.isinf(judged.tolerance).all():
                unjudged.append(judged.name)
            finding = _found(golden, judged, judge.run)
            if finding.departs:
                finding = replace(finding, may_follow=_before(first, finding, judged))
                first.setdefault(call_of(judged.entry), finding)
            findings.append(finding)
    missing = [*missing, *(name for name in theirs if name not in golden.entries)]
    count = sum(entry.value != "bound" for entry in golden.entries.values())
    return Report(_without_chance(golden, findings), missing, unjudged, count, precision)


def _before(first: Mapping[Call, Finding], finding: Finding, judged: Judged) -> str:
    """The earlier departure whose call a tensor comes through; the forward of its own op, for a gradient."""
    own = call_of(judged.entry)
    for call, one in first.items():
        if call in judged.through and (call != own or one.is_gradient != finding.is_gradient):
            return one.name
    return ""


def _precision_for(golden: Trace, given: str | None) -> str:
    """The arithmetic to judge by."""
    if not isinstance(golden, Trace):
        raise TypeError(
            f"golden should be a Trace, got {type(golden).__name__}. The trace comes first, as in compare(golden, "
            "theirs); trace(model, texts) makes one, and read_trace(file) reads one"
        )
    dtype = golden.settings.get("dtype", "float64")
    if dtype != "float64":
        raise ValueError(
            f"the trace is in {dtype}, and what is compared with has to be in float64. Make one with dtype='float64', "
            "the default of trace() and of `pyroberta trace`"
        )
    for of in ("config", "optimizer"):
        if not isinstance(golden.settings.get(of), Mapping):
            raise ValueError(f"the trace's settings have no {of!r}: expected what `trace` or `pyroberta trace` writes")
    precision = given or golden.settings.get("precision") or "float32"
    if precision not in PRECISIONS:
        raise ValueError(f"precision should be one of {', '.join(PRECISIONS)}, got {shown(precision)}")
    return str(precision)


def _without_chance(golden: Trace, findings: list[Finding]) -> list[Finding]:
    """Without causes that hold for all gradients or for none, where most gradients don't have them.

    The loss's factor is in all that no gradient of theirs leads to; that a sum became a mean is seen in those that have
    several terms.
    """
    gradients = [one for one in findings if one.op == "sum" and "gradients." in one.name]
    of_loss = [one for one in gradients if not _is_of_gradients(one.computed_from)]
    of_terms = [one for one in gradients if one.departs or len(golden.entries[one.name].inputs) > 1]
    for beginning, all_of in ((DIVIDED, of_loss), (MEAN, of_terms)):
        named = [one for one in gradients if one.cause.startswith(beginning)]
        if len(named) * 2 <= len(all_of):
            findings = [replace(one, cause="", share=0.0, others=()) if one in named else one for one in findings]
    return findings


# --- one tensor -------------------------------------------------------------------------------------------------------


class Explained(NamedTuple):
    """A cause that makes a difference vanish."""

    cause: str
    left: float  # the largest difference that stays, as a multiple of the tolerance
    share: float  # of the difference that is explained; 0 where the cause was read off it


def _found(golden: Trace, judged: Judged, run: bounds.Arithmetic) -> Finding:
    measured = _measured(golden, judged, run)
    if not judged.ratio > 1.0:
        return _with_cause(measured, _within_rounding(golden, judged, run, measured))
    looks = looks_like(judged.theirs, judged.expected, judged.tolerance)
    named = sorted(_explaining(golden, judged), key=lambda one: one.left)
    return replace(_with_cause(measured, named or _read_off(golden, judged)), looks=looks)


def _measured(golden: Trace, judged: Judged, run: bounds.Arithmetic) -> Finding:
    """The finding without a cause."""
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
    return replace(finding, cause=first.cause, share=first.share, others=tuple(one.cause for one in others[:3]))


def _within_rounding(golden: Trace, judged: Judged, run: bounds.Arithmetic, measured: Finding) -> list[Explained]:
    """Causes of a difference that rounding might have made at worst, and never does so."""
    notable = max(NOTABLE * run.u, OF_FACTORS * run.factor_u)
    differing = int(np.count_nonzero(judged.theirs != judged.expected))
    is_long = measured.relative > notable and measured.error > MOST_SUBNORMAL * run.tiny and differing >= MANY
    if not is_long or judged.entry.op == "clip" or judged.unit:  # what was kept in fewer bits has lost more
        return []
    named = [one for one in _explaining(golden, judged) if one.share >= CERTAIN]
    return sorted(named, key=lambda one: -one.share)


def _read_off(golden: Trace, judged: Judged) -> list[Explained]:
    """What the difference tells by itself."""
    entry, factor = judged.entry, factor_of(judged.theirs, judged.expected, judged.tolerance)
    if factor is not None and entry.value != "of_types":
        if not _is_of_loss(judged):
            return []
        cause = update_causes.named_denominator(golden, entry.step, factor, judged.unit)
    else:
        part = judged.name.rpartition(".")[2] if entry.op == "attention" else ""
        cause = signature_of(entry.op, entry.value, part, judged.arguments, judged.theirs, judged.expected)
    return [Explained(cause, 0.0, 0.0)] if cause else []


def _is_of_loss(judged: Judged) -> bool:
    """Whether a factor of the whole tensor may be the loss's: it is a gradient, of which theirs are none before it."""
    beginnings = ("d.", "gradients.")
    return _in_step(judged.name, judged.entry.step).startswith(beginnings) and not _is_of_gradients(judged.used)


def _is_of_gradients(names: Iterable[str]) -> bool:
    """Whether there are gradients among the tensors of theirs that something was computed from."""
    return any(re.match(r"(step_\d+\.)?(d|gradients)\.", name) for name in names)


def _in_step(name: str, step: int) -> str:
    return name.removeprefix(f"step_{step}.")


def _explaining(golden: Trace, judged: Judged) -> Iterator[Explained]:
    """The causes that make the difference vanish."""
    size = float(np.linalg.norm(judged.theirs - judged.expected))
    if not np.isfinite(judged.theirs).all():
        return
    last = judged.name.rpartition(".")[2]

    def part(value: Any) -> Array:
        return np.asarray(value[int(last)] if isinstance(value, list) else value, np.float64)

    allowed, usual = np.maximum(judged.tolerance, np.finfo(np.float64).tiny), _usual(judged)
    off = np.abs(judged.theirs - judged.expected)
    for cause in _causes(golden, judged):
        value = cause.values(judged.arguments).get(judged.entry.value)
        if value is None:
            continue
        other = part(value)
        left = np.abs(judged.theirs - other)
        does_nothing = usual is not None and np.linalg.norm(other - part(usual)) <= 0.5 * size
        if does_nothing or not np.isfinite(left).all():
            continue
        most, share = float((left / allowed).max(initial=0.0)), 1.0 - float(np.linalg.norm(left)) / size
        # One large number alone must not decide: nearly all that are off have to be explained.
        is_off = off > allowed
        is_explained = left[is_off] <= np.maximum(ENOUGH * allowed, (1.0 - HARDLY) * off)[is_off]
        is_whole = share >= EXPLAINED and left.size >= MANY and is_explained.mean() >= HARDLY if is_off.any() else False
        if share > 0.5 and (most <= ENOUGH or is_whole):
            yield Explained(cause.name, most, share)


def _usual(judged: Judged) -> Any:
    """The value that the op makes of its arguments alone; None for what is no op of the model."""
    entry, op = judged.entry, PLAIN.get(judged.entry.op)
    if op is None or not is_of_op(judged.entry):
        return None
    values = op.gradients_of(judged.arguments) if "dy" in judged.arguments else op.values_of(judged.arguments)
    return values.get(entry.value)


def _causes(golden: Trace, judged: Judged) -> Iterator[Cause]:
    entry, arguments = judged.entry, judged.arguments
    if judged.name.rpartition(".")[2] == "denominator":
        yield from update_causes.denominator_causes(golden, entry.step)
    elif judged.name.endswith("learning_rate"):
        yield from update_causes.rate_causes(golden, entry.step)
    elif entry.op == "share":
        yield from update_causes.share_causes(golden, entry.step, arguments)
    elif entry.op in ("add", "sum"):
        yield from update_causes.sum_causes(arguments, entry.inputs)
    elif entry.op == "clip":
        yield from update_causes.clip_causes(arguments, entry.others)
        yield from update_causes.clip_of_parts(golden, entry.place, entry.step)
    elif entry.op == "clip_scale":
        yield from update_causes.scale_causes(arguments, entry.others)
    elif entry.op == "update":
        yield from update_causes.update_causes(golden, arguments)
    elif is_of_op(judged.entry):
        yield from causes_of(entry.op, arguments)
        yield from _normed_before(golden, entry, arguments)


def _normed_before(golden: Trace, entry: Entry, arguments: Mapping[str, Any]) -> Iterator[Cause]:
    block = re.fullmatch(r"(layers\.\d+\.(?:attention|feed_forward))(\.(?:query|key|value))?", entry.place)
    if block is not None and entry.op in ("linear", "feed_forward") and "dy" not in arguments:
        prefix = f"step_{entry.step}." if entry.step else ""
        norm: dict[str, Any] = {
            of: golden[f"{prefix}parameters.{block.group(1)}.norm.{of}"].astype(np.float64) for of in ("gamma", "beta")
        }
        yield from normed_before(arguments, norm | {"epsilon": golden.settings["config"]["layer_norm_epsilon"]})


def _checked(name: str, golden: Array, theirs: Any) -> Array:
    array = np.asarray(theirs)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} has the dtype {array.dtype}; numbers are expected")
    if array.shape != golden.shape:
        raise ValueError(f"{name} has the shape {array.shape}; the trace's is {golden.shape}")
    return array
