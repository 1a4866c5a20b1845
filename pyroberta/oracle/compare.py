"""Where another implementation's tensors part from a trace, and why.

    report = compare(golden, {"layers.0.attention.context": ..., ...})
    print(report)

`oracle/judge.py` says what each tensor should be and how far it may be off. Where one departs, the causes of its op
(`oracle/causes.py`) are tried: each computes the op as a known mistake would, and the one that makes the difference
vanish is the likely cause.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.oracle import update_causes
from pyroberta.oracle.causes import Cause, causes_of, normed_before
from pyroberta.oracle.golden import Entry, Trace
from pyroberta.oracle.judge import Judge, Judged
from pyroberta.oracle.signatures import factor_of, looks_like, signature_of

ENOUGH = 4.0  # times the tolerance: so near a cause has to come
LEAST, NOTABLE = (
    16,
    4.0,
)  # numbers, and units of rounding of the result, from which on a cause is looked for in any case
CERTAIN = 0.99  # of a difference that rounding may make, a cause that explains so much is no chance
DIVIDED = "losses are divided by"
EXPLAINED = 0.999  # or so much of the difference it has to make vanish


@dataclass(frozen=True)
class Finding:
    """What was found of one tensor.

    Attributes:
        name: the tensor's.
        place, op: where it arises.
        error: the largest difference from what it should be.
        relative: the norm of the difference, as a share of the norm of what it should be.
        ratio: the largest difference as a multiple of what rounding may do at most; above 1 it departs.
        computed_from: the tensors of theirs that it was computed from.
        cause: what explains it; "" where nothing does.
        share: of the difference that the cause explains.
        others: causes that explain it as well.
        looks: how it differs, in words; "" where there are none.
    """

    name: str
    place: str
    op: str
    error: float
    relative: float
    ratio: float
    computed_from: tuple[str, ...]
    cause: str = ""
    share: float = 0.0
    others: tuple[str, ...] = ()
    looks: str = ""

    @property
    def departs(self) -> bool:
        """Whether it is further off than rounding allows, or off by what a known mistake makes."""
        return self.ratio > 1.0 or bool(self.cause)

    def __str__(self) -> str:
        why = f"{self.cause} (explains {self.share:.2%} of the difference)" if self.cause else "cause unknown"
        also = f", or {', or '.join(self.others)}" if self.others else ""
        looks = f"; {self.looks}" if self.looks and not self.cause else ""
        return (
            f"{self.name}: {self.ratio:.3g} × what rounding may do, {self.relative:.2e} of its size: {why}{also}{looks}"
        )


@dataclass(frozen=True)
class Report:
    """What was found, in the order in which the tensors arise.

    Attributes:
        findings: of each tensor that both have.
        missing: names of theirs that the trace doesn't have.
        unjudged: tensors of which nothing can be said: what rounding may do to them has no bound.
    """

    findings: Sequence[Finding]
    missing: Sequence[str]
    unjudged: Sequence[str]

    @property
    def departures(self) -> list[Finding]:
        """For each place where something departs the first tensor, or the first whose cause is known."""
        first: dict[str, Finding] = {}
        for finding in self.findings:
            if finding.departs:
                before = first.get(finding.place)
                if before is None or (finding.cause and not before.cause):
                    first[finding.place] = finding
        return list(first.values())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "compared": len(self.findings),
            "departures": [asdict(finding) for finding in self.departures],
            "findings": [asdict(finding) for finding in self.findings],
            "missing": list(self.missing),
            "unjudged": list(self.unjudged),
        }

    def __str__(self) -> str:
        if not self.findings:
            return "nothing to compare: no name of theirs is one of the trace"
        departing = sum(finding.departs for finding in self.findings)
        lines = [f"{len(self.findings)} tensors compared, {departing or 'none'} beyond rounding"]
        lines += [f"{finding}" for finding in self.departures]
        for names, what in ((self.missing, "not in the trace"), (self.unjudged, "nothing can be said of")):
            if names:
                lines.append(f"{what}: {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}")
        return "\n".join(lines)


def compare(golden: Trace, theirs: Mapping[str, Array], precision: str | None = None, seed: int = 0) -> Report:
    """Judges tensors of another implementation.

    Args:
        golden: a trace in float64.
        theirs: tensors by the names of the trace, in its shapes.
        precision: of their arithmetic, `"float32"`, `"mixed_bfloat16"` or `"float64"`; that of the trace's bounds
            unless given.
        seed: of how results between are moved.

    Raises:
        ValueError: for a shape that isn't that of the trace's tensor, for numbers that are complex or objects, and for
            a trace that is not in float64.
    """
    if golden.settings.get("dtype", "float64") != "float64":
        raise ValueError(f"the trace is in {golden.settings['dtype']}, and what is compared with has to be in float64")
    known = {name: _checked(name, golden[name], array) for name, array in theirs.items() if name in golden}
    findings: list[Finding] = []
    unjudged: list[str] = []
    judge = Judge(golden, known, precision or golden.settings.get("precision") or "float32", seed)
    for judged in judge:
        if judged.tolerance.size and np.isinf(judged.tolerance).all():
            unjudged.append(judged.name)
        findings.append(_found(golden, judged, judge.run.u))
    missing = [name for name in theirs if name not in golden]
    return Report(_without_chance(findings), missing, unjudged)


def _without_chance(findings: list[Finding]) -> list[Finding]:
    """Without causes that say that a gradient has the loss's factor, where other gradients don't have it."""
    gradients = [one for one in findings if one.op == "sum" and "gradients." in one.name]
    with_factor = [one for one in gradients if one.cause.startswith(DIVIDED)]
    if len(with_factor) * 2 > len(gradients):
        return findings
    return [replace(one, cause="", share=0.0) if one in with_factor else one for one in findings]


def _is_long(judged: Judged) -> bool:
    """Whether so many numbers differ that no chance makes them differ as a mistake would."""
    return int(np.count_nonzero(judged.theirs != judged.expected)) >= LEAST


def _found(golden: Trace, judged: Judged, unit: float) -> Finding:
    difference = judged.theirs - judged.expected
    with np.errstate(all="ignore"):
        size, off = float(np.linalg.norm(judged.expected)), float(np.linalg.norm(difference))
        error, relative = float(np.abs(difference).max(initial=0.0)), off / size if size else off
    entry, ratio = judged.entry, judged.ratio
    found = (judged.name, entry.place or judged.name, entry.op, error, relative, ratio, tuple(sorted(judged.used)))
    if not ratio > 1.0:
        notable = NOTABLE * unit * size
        named = (
            sorted(_explaining(golden, judged), key=lambda one: -one[2]) if off > notable and _is_long(judged) else []
        )
        certain = [one for one in named if one[2] >= CERTAIN]
        if not certain:
            return Finding(*found)
        (cause, _, share), *others = certain
        return Finding(*found, cause=cause, share=share, others=tuple(name for name, *_ in others[:3]))
    looks = looks_like(judged.theirs, judged.expected, judged.tolerance)
    factor = factor_of(judged.theirs, judged.expected, judged.tolerance)
    named = sorted(_explaining(golden, judged), key=lambda one: one[1])
    if not named and factor is not None and _is_of_loss(entry, judged.name):
        cause = update_causes.named_denominator(golden, entry.step, factor)
        named = [(cause, 0.0, 1.0)] if cause else []
    if not named:
        part = judged.name.rpartition(".")[2] if entry.op == "attention" else ""
        seen = signature_of(entry.op, entry.value, part, judged.arguments, judged.theirs, judged.expected)
        named = [(seen, 0.0, 1.0)] if seen else []
    if not named:
        return Finding(*found, looks=looks)
    (cause, _, share), *others = named
    return Finding(*found, cause=cause, share=share, others=tuple(name for name, *_ in others[:3]), looks=looks)


def _explaining(golden: Trace, judged: Judged) -> Iterator[tuple[str, float, float]]:
    """The causes that make the difference vanish: the name, what is left as a multiple of the tolerance, the share."""
    size = float(np.linalg.norm(judged.theirs - judged.expected))
    if not np.isfinite(judged.theirs).all():
        return
    last = judged.name.rpartition(".")[2]
    for cause in _causes(golden, judged):
        with np.errstate(all="ignore"):
            value = cause.values(judged.arguments).get(judged.entry.value)
            if value is None:
                continue
            other = np.asarray(value[int(last)] if isinstance(value, list) else value, np.float64)
            left = np.abs(judged.theirs - other)
            most = float((left / np.maximum(judged.tolerance, np.finfo(np.float64).tiny)).max(initial=0.0))
        if not np.isfinite(left).all():
            continue
        share = 1.0 - float(np.linalg.norm(left)) / size
        if share > 0.5 and (most <= ENOUGH or share >= EXPLAINED):
            yield cause.name, most, share


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
    elif "denominator" not in arguments and set(entry.inputs) != {"dy"}:
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


def _is_of_loss(entry: Entry, name: str) -> bool:
    """Whether a factor of the whole tensor may be the loss's denominator."""
    return name.removeprefix(f"step_{entry.step}.").startswith(("d.", "gradients."))


def _checked(name: str, golden: Array, theirs: Any) -> Array:
    array = np.asarray(theirs)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} has the dtype {array.dtype}; numbers are expected")
    if array.shape != golden.shape:
        raise ValueError(f"{name} has the shape {array.shape}; the trace's is {golden.shape}")
    return array
