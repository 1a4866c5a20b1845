"""What a comparison found: a finding for each tensor, and the places where something departs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyroberta.formats.budget import shown
from pyroberta.formats.stored import few
from pyroberta.oracle.plain import PLAIN

EXACT = 1e30  # times its bound: so much is only reached where the bound is 0
SHOWN = 3  # places of those that have the same cause, and names of a list


@dataclass(frozen=True)
class Finding:
    """What was found of one tensor.

    Attributes:
        name: the tensor's.
        place, op, step: where it arises, or where what explains it does, and in which update.
        error: the largest difference from what it should be.
        relative: the norm of the difference, as a share of the norm of what it should be, or of what rounding may do
            where that is more, as for a gradient that is truly 0.
        ulps: the largest difference in units in the last place of the largest number, in the arithmetic compared.
        ratio: the largest difference as a multiple of what rounding may do at most; above 1 it departs.
        from_trace: the same for the difference from the trace's own tensor: what earlier departures do is in it, too.
        computed_from: the tensors of theirs that it was computed from.
        cause: what explains it; "" where nothing does.
        share: of the difference that the cause explains; 0 where the cause is read off the difference.
        others: causes that explain it as well, the likelier first.
        looks: how it differs, in words; "" where there are none.
        between: places of the calls between those it was computed from and it, which theirs lack.
        may_follow: an earlier tensor that departs, whose op this one comes through; "" for none.
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
    between: tuple[str, ...] = ()
    may_follow: str = ""

    @property
    def departs(self) -> bool:
        """Whether it is further off than rounding allows, or off by what a known mistake makes."""
        return self.ratio > 1.0 or bool(self.cause)

    @property
    def is_gradient(self) -> bool:
        """Whether it arises on the way back."""
        return re.match(r"(step_\d+\.)?d\.", self.name) is not None

    @property
    def why(self) -> str:
        """The cause in words; how it differs, where no cause is known."""
        if not self.departs:
            return "within rounding"
        if not self.cause:
            looks = f"; {self.looks}" if self.looks else ""
            through = f"; between what was given and it: {few(self.between)}" if self.between else ""
            follows = f"may follow from {self.may_follow}" if self.may_follow else f"cause unknown{through}"
            return follows + looks
        prefix = f"{self.place}: " if self.place in self.between else ""
        explains = f" (explains {self.share:.2%} of the difference)" if self.share else ""
        return f"{prefix}{self.cause}{explains}" + "".join(f", or {other}" for other in self.others[:SHOWN])

    def to_dict(self) -> dict[str, Any]:
        """For JSON, whose numbers are finite: None where one is not."""
        found = asdict(self) | {"departs": self.departs}
        is_bad = {of for of, value in found.items() if isinstance(value, float) and not math.isfinite(value)}
        return found | dict.fromkeys(is_bad)

    def __str__(self) -> str:
        if not math.isfinite(self.error):
            size = "numbers that are not finite"
        elif self.ratio > EXACT:
            size = f"off by {self.error:.3g}, and it should be exact"
        else:
            size = f"{self.ratio:.3g} × what rounding may do ({self.ulps:.3g} ulp, {self.relative:.1e} of its size)"
        return f"{self.name}: {size}: {self.why}"


@dataclass(frozen=True)
class Report:
    """What was found, in the order in which the tensors arise.

    Attributes:
        findings: of each tensor that both have.
        missing: names of theirs that nothing of the trace has.
        unjudged: tensors of which nothing can be said: what rounding may do to them has no bound.
        count: of the trace's tensors.
        precision: the arithmetic that was taken to be theirs.
    """

    findings: Sequence[Finding]
    missing: Sequence[str]
    unjudged: Sequence[str]
    count: int = 0
    precision: str = "float32"

    def __bool__(self) -> bool:
        """Whether nothing departs, of something that was compared."""
        return bool(self.findings) and not self.departures

    @property
    def departures(self) -> list[Finding]:
        """For each op that departs its first tensor, or the first of its values whose cause is known."""
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
        """For JSON."""
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
            return "nothing to compare: no name of theirs is one of the trace"
        departing, departures = [one for one in self.findings if one.departs], self.departures
        lines = [
            f"{len(self.findings)} of the trace's {self.count} tensors compared as {self.precision}, "
            f"{len(departing) or 'none'} beyond rounding"
        ]
        if len(departures) > 1:
            lines.append("in the order in which they arise; begin with the first:")
        lines += _lines(departures)
        if rest := len(departing) - len(departures):
            lines.append(f"{rest} more {'tensors' if rest > 1 else 'tensor'} of these ops depart{'s' * (rest == 1)}")
        if departing:
            lines += self._spread(departing[0])
        if self.missing:
            hardly = (
                f", and only {len(self.findings)} of its tensors compared"
                if len(self.missing) > len(self.findings)
                else ""
            )
            count = len(self.missing)
            lines.append(
                f"{count} of their names {'is' if count == 1 else 'are'} of nothing in the trace{hardly}: "
                f"{few(map(shown, self.missing))}"
            )
        if self.unjudged:
            lines.append(f"nothing can be said of: {few(self.unjudged)}")
        return "\n".join(lines)

    def _spread(self, first: Finding) -> list[str]:
        """How far the tensors from the first departure on are from the trace's own."""
        after = self.findings[self.findings.index(first) + 1 :]
        of_values = [one for one in after if not one.is_gradient and one.op in PLAIN]
        of_loss = [one for one in after if one.name.endswith("loss.share")]
        names = list(dict.fromkeys(one.name for one in [*of_values[-1:], *of_loss]))
        known = {one.name: one for one in after}
        if not names:
            return []
        return ["so far from the trace: " + ", ".join(f"{name} by {known[name].from_trace:.1e}" for name in names)]


def _lines(departures: Sequence[Finding]) -> list[str]:
    """A line for each; those of an op that have the same cause, or look alike, are told together."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in departures:
        same = finding.cause or (finding.looks if not finding.may_follow else "")
        if finding.op in ("sum", "update") and not finding.may_follow:  # one mistake leaves many of them
            same = same or "unknown"
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
