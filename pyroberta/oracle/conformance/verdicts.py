"""Compares the values of an implementation with a suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.formats.budget import shown
from pyroberta.oracle.conformance.case import Case
from pyroberta.oracle.conformance.suite import Suite

PASSED, FAILED, MISSING = "passed", "failed", "missing"


@dataclass(frozen=True)
class Verdict:
    """The result of a case.

    Attributes:
        case: the name of the case.
        status: "passed", "failed", or "missing" if no value of it was given.
        ratio: the largest error of a number, divided by its bound. It is infinite if a value that must be equal is not.
        value: the name of the value with this error.
        complaint: what is wrong, in one line, or "".
        lacking: the names of values that are missing although others were given.
    """

    case: str
    status: str
    ratio: float = 0.0
    value: str = ""
    complaint: str = ""
    lacking: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns the verdict in JSON's types."""
        return {**vars(self), "lacking": list(self.lacking)}


@dataclass(frozen=True)
class Report:
    """The results of a suite.

    Attributes:
        verdicts: one for each case, in the order of the suite.
        unknown: given names that are not names of values.
    """

    verdicts: tuple[Verdict, ...]
    unknown: tuple[str, ...] = ()

    def count(self, status: str) -> int:
        """Returns the number of cases with the status."""
        return sum(verdict.status == status for verdict in self.verdicts)

    @property
    def incomplete(self) -> tuple[Verdict, ...]:
        """The verdicts of cases that are missing or lack values."""
        return tuple(verdict for verdict in self.verdicts if verdict.status == MISSING or verdict.lacking)

    def only(self, beginning: str) -> Report:
        """Returns the report of the cases whose names begin with a text.

        Raises:
            ValueError: if there is no such case.
        """
        some = tuple(verdict for verdict in self.verdicts if verdict.case.startswith(beginning))
        if not some:
            subjects = dict.fromkeys(verdict.case.rpartition("/")[0] for verdict in self.verdicts)
            raise ValueError(f"no name of a case begins with {beginning!r}; the cases are of {', '.join(subjects)}")
        return Report(some, self.unknown)

    def to_dict(self) -> dict[str, Any]:
        """Returns the report in JSON's types."""
        counts = {status: self.count(status) for status in (PASSED, FAILED, MISSING)}
        return {
            **counts, "incomplete": [verdict.case for verdict in self.incomplete], "unknown": list(self.unknown),
            "cases": [verdict.to_dict() for verdict in self.verdicts],
        }  # fmt: skip

    def __str__(self) -> str:
        """Returns a line for each kind and subject, and then the failures."""
        groups: dict[str, list[Verdict]] = {}
        for verdict in self.verdicts:
            groups.setdefault(verdict.case.rpartition("/")[0], []).append(verdict)
        width = max((len(group) for group in groups), default=0)
        lines = [f"{'':<{width}}  passed  failed  missing  worst error / bound"]
        for group, verdicts in groups.items():
            counts = Counter(verdict.status for verdict in verdicts)
            worst = max(verdict.ratio for verdict in verdicts)
            ratios = f"{worst:20.3g}" if counts[PASSED] or counts[FAILED] else ""
            lines.append(
                f"{group:<{width}}  {counts[PASSED]:6}  {counts[FAILED]:6}  {counts[MISSING]:7}  {ratios}".rstrip()
            )
        for verdict in self.verdicts:
            if verdict.status == FAILED:
                lines.append(f"FAILED {verdict.case}: {verdict.complaint}")
        if some := [verdict for verdict in self.verdicts if verdict.lacking]:
            lines.append(f"{len(some)} cases lack values, such as {some[0].case}/{some[0].lacking[0]}")
        if self.unknown:
            lines.append(f"{len(self.unknown)} names belong to no value of the suite, such as {shown(self.unknown[0])}")
        lines.append(", ".join(f"{self.count(status)} {status}" for status in (PASSED, FAILED, MISSING)))
        return "\n".join(lines)


def judge(suite: Suite, theirs: Mapping[str, Array]) -> Report:
    """Compares values with a suite.

    Args:
        suite: the return value of `suite.read`.
        theirs: CASE/VALUE -> array of numbers. Names may have dots instead of slashes, as names of files do. Values
            inside an op, and whole cases, may be missing.

    Raises:
        ValueError: if no name is that of a value, or two names are of the same value.
    """
    dotted = {name.replace("/", "."): name for name in suite.values}
    names = {given: given if given in suite.values else dotted.get(given) for given in theirs}
    known: dict[str, str] = {}
    for given, name in names.items():
        if name in known:
            raise ValueError(f"{shown(known[name])} and {shown(given)} are both {name}; leave one out")
        if name is not None:
            known[name] = given
    if not known:
        example = next(iter(suite.values), "")
        received = f"there is {shown(next(iter(theirs)))}" if theirs else "there are no tensors"
        raise ValueError(f"none of the names is that of a value in the suite: {received}; the suite has {example!r}")
    found: dict[str, dict[str, Array]] = {case: {} for case in suite.cases}
    for name, given in known.items():
        case, value = suite.values[name]
        found[case.name][value] = theirs[given]
    verdicts = tuple(verdict_of(case, found[case.name]) for case in suite.cases.values())
    return Report(verdicts, tuple(given for given, name in names.items() if name is None))


def verdict_of(case: Case, theirs: Mapping[str, Array]) -> Verdict:
    """Returns the verdict of a case.

    Args:
        case: the case.
        theirs: value's name -> array.
    """
    if not theirs and case.expected:
        return Verdict(case.name, MISSING)
    ratio, value, complaint = 0.0, "", ""
    for name, given in theirs.items():
        of_value, said = _judged(name, np.asarray(given), case.expected[name], case.bounds.get(name))
        if of_value > ratio or not value:
            ratio, value, complaint = of_value, name, said
    lacking = tuple(name for name in case.expected if name not in theirs and name not in case.inside)
    return Verdict(case.name, FAILED if complaint else PASSED, ratio, value, complaint, lacking)


def _judged(name: str, theirs: Array, expected: Array, bound: Array | None) -> tuple[float, str]:
    """The largest error as a multiple of its bound, and what is wrong."""
    if theirs.shape != expected.shape:
        return np.inf, f"{name} has the shape {theirs.shape}, and {expected.shape} is expected"
    if theirs.dtype.kind not in "biuf":
        return np.inf, f"{name} has the dtype {theirs.dtype}; it should be an array of real numbers"
    if bound is None and expected.dtype.kind in "iu" and theirs.dtype.kind == "f" and expected.dtype.itemsize == 8:
        return np.inf, f"{name} is {theirs.dtype}, which has too few digits; {expected.dtype} is expected"
    if bound is None:  # integers, and what rounds nothing
        ratios = np.where(theirs == expected, 0.0, np.inf)
    else:
        with np.errstate(all="ignore"):
            error = np.abs(theirs.astype(np.float64) - expected)
            ratios = np.where(error == 0.0, 0.0, error / bound)
        ratios = np.where(np.isnan(ratios), np.inf, ratios)
    if not ratios.size:
        return 0.0, ""
    at = np.unravel_index(int(np.argmax(ratios)), ratios.shape)
    worst = float(ratios[at])
    if worst <= 1.0:
        return worst, ""
    place = f"{name}[{', '.join(str(int(i)) for i in at)}]" if at else name
    if bound is None:
        return worst, f"{place} is {theirs[at]}, and {expected[at]} is expected"
    return worst, (
        f"{place} is {theirs[at]:.9g}, and {expected[at]:.9g} ± {bound[at]:.2g} is expected: {worst:.3g} times the "
        f"bound; {int((ratios > 1.0).sum())} of {ratios.size} numbers are beyond theirs"
    )
