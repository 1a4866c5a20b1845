"""The result of a comparison: a finding for each tensor, and the calls in which something departs.

A tensor departs if its difference from the expected value is larger than rounding allows, or has the form of a known
mistake.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyroberta.formats.budget import shown
from pyroberta.formats.stored import few
from pyroberta.oracle.plain import PLAIN

EXACT = 1e30  # the ratio of error and bound from which on the bound must have been 0
SHOWN = 3  # the number of places with the same cause, and of other causes, that are shown


@dataclass(frozen=True)
class Finding:
    """What the comparison found about one tensor. "Expected" means: computed in float64 from the nearest earlier
    tensors that were given.

    Attributes:
        name: the trace's name of the tensor.
        place: the place in the model at which the tensor is computed, or at which its cause is.
        op: the op that computes it, or "". It is "" for the gradient of an op's result, which is the gradient that the
            op before it in backward gave.
        step: the number of the update, from 0.
        error: the largest absolute difference from the expected tensor.
        relative: the norm of the difference, divided by the larger of two norms: that of the expected tensor, and that
            of the allowed error. The second one is larger for a gradient that is truly 0.
        ulps: the largest difference in ulp, units in the last place of the largest number in the arithmetic of the
            comparison.
        ratio: the largest difference of a number, divided by the error that rounding allows. Above 1 the tensor
            departs.
        from_trace: like `relative`, for the difference from the trace's own tensor. It contains the effect of earlier
            departures.
        computed_from: the names of the given tensors from which the expected tensor was computed.
        cause: the mistake that explains the difference, or "" if none is known.
        share: the share of the difference that the cause explains, or 0 if the cause was read off the difference.
        others: other causes that explain the difference as well, the most likely first.
        looks: the form of the difference in words, such as "it is zero", or "".
        backward: the places of the ops whose backward was computed between the given tensors and this one, this one's
            own included, in that order.
        forward: the same for the ops whose forward was computed.
        steps: the names of the sums of several terms, clipped gradients and updated parameters that were computed.
        elsewhere: the place of the cause, if the mistake is in an earlier call, or "".
        give: the names of tensors between that would narrow down where the mistake is.
        may_follow: an earlier tensor that departs and from which this one is computed, or "".
    """

    name: str
    place: str
    op: str
    step: int
    error: float
    relative: float
    ulps: float
    ratio: float
    from_trace: float
    computed_from: tuple[str, ...]
    cause: str = ""
    share: float = 0.0
    others: tuple[str, ...] = ()
    looks: str = ""
    backward: tuple[str, ...] = ()
    forward: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    elsewhere: str = ""
    give: tuple[str, ...] = ()
    may_follow: str = ""

    @property
    def departs(self) -> bool:
        """Whether the difference is larger than rounding allows, or has a known cause."""
        return self.ratio > 1.0 or bool(self.cause)

    @property
    def is_gradient(self) -> bool:
        """Whether the tensor is computed by the backward of an op."""
        return re.match(r"(step_\d+\.)?d\.", self.name) is not None

    @property
    def is_in_backward(self) -> bool:
        """Whether the tensor is a gradient, of a value or of a parameter, before clipping."""
        return re.match(r"(step_\d+\.)?(d|gradients)\.", self.name) is not None

    @property
    def why(self) -> str:
        """The cause in words. If no cause is known, it says how the tensor differs."""
        if not self.departs:
            return "within rounding"
        if not self.cause:
            looks = f"; {self.looks}" if self.looks else ""
            return (f"may follow from {self.may_follow}" if self.may_follow else self._where) + looks
        prefix = f"{self.elsewhere}: " if self.elsewhere else ""
        explains = f" (explains {self.share:.2%} of the difference)" if self.share else ""
        return f"{prefix}{self.cause}{explains}" + "".join(f", or {other}" for other in self.others[:SHOWN])

    @property
    def _where(self) -> str:
        """That the cause is unknown, and where the mistake may be."""
        forward = f"the forward of {few(self.forward)}" if self.forward else ""
        if forward and self.is_in_backward:
            forward += " (recomputed, because not all results were given)"
        backward = f"the backward of {few(self.backward)}" if self.backward else ""
        found = [one for one in (backward, forward, few(self.steps)) if one]
        return "cause unknown" + (f"; the mistake is in {', or in '.join(found)}" if found else "")

    def to_dict(self) -> dict[str, Any]:
        """Returns the attributes for JSON. A number that is not finite becomes None."""
        found = asdict(self) | {"departs": self.departs}
        is_bad = {of for of, value in found.items() if isinstance(value, float) and not math.isfinite(value)}
        return found | dict.fromkeys(is_bad)

    def __str__(self) -> str:
        if not math.isfinite(self.error):
            size = "numbers that are not finite"
        elif self.ratio > EXACT:
            size = f"off by {self.error:.3g}, and it should be exact"
        else:
            of_size = f"{self.ulps:.3g} ulp, {self.relative:.1e} of its size"
            size = f"{self.ratio:.3g} × the error that rounding allows ({of_size})"
        return f"{self.name}: {size}: {self.why}"


@dataclass(frozen=True)
class Report:
    """The findings of all compared tensors, in the order of the computation. It is true if at least one tensor was
    compared and none departs.

    Attributes:
        findings: a finding for each tensor that both sides have.
        missing: their names that belong to no tensor of the trace.
        unjudged: the names of tensors without a bound, which can't be judged.
        count: the number of tensors in the trace, bounds not counted.
        precision: the arithmetic that the other implementation is assumed to have used.
    """

    findings: Sequence[Finding]
    missing: Sequence[str]
    unjudged: Sequence[str]
    count: int = 0
    precision: str = "float32"

    def __bool__(self) -> bool:
        """Returns whether at least one tensor was compared, and none departs."""
        return bool(self.findings) and not self.departures

    @property
    def departures(self) -> list[Finding]:
        """One finding for each call that departs: its first departing tensor, or the first one with a known cause."""
        first: dict[tuple[int, str, str], Finding] = {}
        for finding in self.findings:
            if finding.departs:
                call = finding.step, finding.place, finding.op
                before = first.setdefault(call, finding)
                is_same_way = finding.op in PLAIN and finding.is_gradient == before.is_gradient
                if is_same_way and finding.cause and not before.cause:
                    first[call] = finding
        return list(first.values())

    def to_dict(self) -> dict[str, Any]:
        """Returns the report for JSON."""
        return {
            "tensors": self.count,
            "compared": len(self.findings),
            "precision": self.precision,
            "departures": [finding.to_dict() for finding in self.departures],
            "findings": [finding.to_dict() for finding in self.findings],
            "missing": list(self.missing),
            "unjudged": list(self.unjudged),
        }

    def __str__(self) -> str:
        if not self.findings:
            return "nothing to compare: none of their names is a name of the trace"
        departing, departures = [one for one in self.findings if one.departs], self.departures
        lines = [
            f"{len(self.findings)} of the trace's {self.count} tensors compared as {self.precision}, "
            f"{len(departing) or 'none'} beyond rounding"
        ]
        if len(departures) > 1:
            lines.append("the differences, in the order of the computation; begin with the first:")
        lines += _lines(departures)
        if rest := len(departing) - len(departures):
            lines.append(f"{rest} more {'tensors' if rest > 1 else 'tensor'} of these ops depart{'s' * (rest == 1)}")
        if departing:
            lines += self._next(departing[0])
            lines += self._spread(departing[0])
        if self.missing:
            hardly = (
                f", and only {len(self.findings)} of its tensors compared"
                if len(self.missing) > len(self.findings)
                else ""
            )
            count = len(self.missing)
            lines.append(
                f"{count} of their names {'belongs' if count == 1 else 'belong'} to no tensor of the trace{hardly}: "
                f"{few(map(shown, self.missing))}"
            )
        if self.unjudged:
            lines.append(f"without a bound: {few(self.unjudged)}")
        return "\n".join(lines)

    def _next(self, first: Finding) -> list[str]:
        """The last right tensor before the first departure, and the tensors to give next."""
        before = self.findings[: self.findings.index(first)]
        right = [one.name for one in before if one.op and one.is_in_backward == first.is_in_backward]
        said = [f"the last right one before {first.name} is {right[-1]}"] if right else []
        if first.give and not first.cause:
            said.append(f"to narrow it down, give {few(first.give)}")
        return ["; ".join(said)] if said and not first.cause else []

    def _spread(self, first: Finding) -> list[str]:
        """How far the tensors from the first departure on are from the trace's own."""
        after = self.findings[self.findings.index(first) + 1 :]
        of_values = [one for one in after if not one.is_gradient and one.op in PLAIN]
        of_loss = [one for one in after if one.name.endswith("loss.share")]
        names = list(dict.fromkeys(one.name for one in [*of_values[-1:], *of_loss]))
        known = {one.name: one for one in after}
        if not names:
            return []
        return [
            "relative difference from the trace: " + ", ".join(f"{name} {known[name].from_trace:.1e}" for name in names)
        ]


def _lines(departures: Sequence[Finding]) -> list[str]:
    """A line for each; those of an op that have the same cause, or look alike, are told together."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in departures:
        same = finding.cause or (finding.looks if not finding.may_follow else "")
        if finding.op in ("sum", "clip", "update"):  # one mistake leaves many of them
            same = same or finding.may_follow or "unknown"
        key = (finding.op, same) if same else (finding.name, "")
        groups.setdefault(key, []).append(finding)
    lines = []
    for first, *others in groups.values():
        lines.append(str(first))
        if others:
            places = ", ".join(f"step_{one.step}.{one.place}" if one.step else one.place for one in others[:SHOWN])
            more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
            lines.append(f"    likewise at {places}{more}")
    return lines
