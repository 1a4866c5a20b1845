"""Where another implementation's tensors part from a trace, and why.

Each tensor is judged on *their* inputs. What the op should give is computed in float64 from the nearest tensors before
it that they gave; so an early mistake does not taint what follows, and a second one is found too. What rounding may do
between is known: the local bound of the op (`oracle/bounds.py`) where they gave its inputs, and else the ops between
are computed again with every result moved at random within its own bound.

    report = compare(golden, {"layers.0.attention.context": ..., ...})
    print(report)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.oracle import bounds
from pyroberta.oracle.causes import causes_of, looks_like
from pyroberta.oracle.golden import Entry, Trace
from pyroberta.oracle.plain import PLAIN, Plain, Values

SHAKEN = 3  # how often the ops between are computed with moved results
SPREAD = 6.0  # times the root mean square of what that does to a tensor
EXPLAINED = 0.999  # share of the difference that a cause must make vanish where rounding can't be told from the rest


@dataclass(frozen=True)
class Finding:
    """What was found of one tensor.

    Attributes:
        name: the tensor's.
        place, op: where it arises.
        error: the largest difference from what it should be.
        relative: the norm of the difference, as a share of the norm of what it should be.
        ratio: the largest difference as a multiple of what rounding may do; above 1 it departs.
        inputs: the tensors of theirs that it was computed from.
        cause: what explains it; "" where nothing does.
        share: of the difference that the cause explains.
    """

    name: str
    place: str
    op: str
    error: float
    relative: float
    ratio: float
    inputs: tuple[str, ...]
    cause: str = ""
    share: float = 0.0

    @property
    def departs(self) -> bool:
        """Whether it is further off than rounding allows; NaN is."""
        return not self.ratio <= 1.0


@dataclass(frozen=True)
class Report:
    """What was found, in the order in which the tensors arise.

    Attributes:
        findings: of each tensor that both have.
        missing: names of theirs that the trace doesn't have.
    """

    findings: Sequence[Finding]
    missing: Sequence[str]

    @property
    def departures(self) -> list[Finding]:
        """The first tensor of each place that departs."""
        first: dict[str, Finding] = {}
        for finding in self.findings:
            if finding.departs:
                before = first.get(finding.place)
                if before is None or (finding.cause and not before.cause):
                    first[finding.place] = finding
        return list(first.values())

    def __str__(self) -> str:
        if not self.findings:
            return "nothing to compare: no name of theirs is one of the trace"
        count = len(self.findings)
        lines = [f"{count} tensors compared, {sum(finding.departs for finding in self.findings)} depart"]
        for finding in self.departures:
            why = f": {finding.cause} (explains {finding.share:.2%} of the difference)" if finding.cause else ""
            lines.append(
                f"{finding.name}: {finding.ratio:.3g} times what rounding may do, {finding.relative:.2e} of its size"
                f"{why or ': cause unknown'}"
            )
        if self.missing:
            lines.append(f"not in the trace: {', '.join(self.missing[:5])}{' …' if len(self.missing) > 5 else ''}")
        return "\n".join(lines)


def compare(golden: Trace, theirs: Mapping[str, Array], precision: str | None = None, seed: int = 0) -> Report:
    """Judges tensors of another implementation.

    Args:
        golden: a trace in float64, with error bounds.
        theirs: tensors by the names of the trace, in its layouts.
        precision: of their arithmetic; that of the trace's bounds unless given.
        seed: of how results between are moved.

    Raises:
        ValueError: for a shape that isn't that of the trace's tensor.
    """
    judge = _Judge(golden, theirs, precision or golden.settings.get("precision") or "float32", seed)
    return Report(list(judge.findings()), [name for name in theirs if name not in golden])


class _Judge:
    def __init__(self, golden: Trace, theirs: Mapping[str, Array], precision: str, seed: int) -> None:
        self.golden, self.run, self.seed = golden, bounds.Arithmetic(precision), seed
        self.theirs = {name: _checked(name, golden[name], array) for name, array in theirs.items() if name in golden}
        self._memo: dict[tuple[int, str, str], Values] = {}
        self._single: dict[tuple[int, str], Any] = {}
        self._bounds: dict[tuple[str, str], dict[str, Array]] = {}

    def findings(self) -> Iterator[Finding]:
        for name in self.golden:
            entry = self.golden.entries[name]
            if name in self.theirs and (entry.op in PLAIN or entry.op in ("add", "sum", "clip")):
                yield self._judged(name, entry)

    def _judged(self, name: str, entry: Entry) -> Finding:
        expected, used = self._expected(name, 0)
        tolerance = self._local(name, entry, expected)
        if any(source not in self.theirs for source in self._sources(entry)):
            moved = [self._expected(name, shake)[0] - expected for shake in range(1, SHAKEN + 1)]
            tolerance = tolerance + SPREAD * float(
                np.sqrt(np.mean([np.square(m).mean() if m.size else 0.0 for m in moved]))
            )
        theirs = self.theirs[name].astype(np.float64)
        difference = np.abs(theirs - expected)
        with np.errstate(all="ignore"):
            ratios = np.where(difference == 0.0, 0.0, difference / np.maximum(tolerance, np.finfo(np.float64).tiny))
        ratio = float(ratios.max(initial=0.0)) if np.isfinite(theirs).all() else float("nan")
        size = float(np.linalg.norm(expected))
        finding = Finding(
            name,
            entry.place,
            entry.op,
            float(difference.max(initial=0.0)),
            float(np.linalg.norm(difference)) / size if size else float(np.linalg.norm(difference)),
            ratio,
            tuple(sorted(used)),
        )
        if not finding.departs:
            return finding
        cause, share = self._cause(name, entry, theirs, expected, tolerance)
        return Finding(**{**vars(finding), "cause": cause, "share": share})

    # --- what a tensor should be --------------------------------------------------------------------------------------

    def _expected(self, name: str, shake: int) -> tuple[Array, set[str]]:
        """What a tensor should be, from the nearest ones that they gave; and which these are."""
        entry, used = self.golden.entries[name], set[str]()
        return self._computed(name, entry, shake, used), used

    def _value(self, name: str, shake: int, used: set[str]) -> Any:
        """A tensor as an input: theirs, a parameter, one of the batch's, or computed."""
        if name in self.theirs:
            used.add(name)
            given = self.theirs[name]
            return given.astype(np.float64) if given.dtype.kind == "f" else given
        parameter = f"parameters.{name}"
        if parameter in self.golden:
            source = self.theirs if parameter in self.theirs else self.golden
            return source[parameter].astype(np.float64)
        entry = self.golden.entries[name]
        if not entry.inputs or entry.op not in (*PLAIN, "add", "sum", "clip"):
            return self.golden[name]
        key = (shake, name)
        if key not in self._single:
            inner = set[str]()
            value = self._computed(name, entry, shake, inner)
            if shake and f"bound.{name}" in self.golden:
                rng = np.random.default_rng([self.seed, shake, len(self._single)])
                value = value + rng.uniform(-1.0, 1.0, value.shape) * self.golden[f"bound.{name}"]
            self._single[key] = value, inner
        value, inner = self._single[key]
        used |= inner
        return value

    def _computed(self, name: str, entry: Entry, shake: int, used: set[str]) -> Any:
        if entry.op in ("add", "sum"):
            terms = [self._value(source, shake, used) for source in entry.inputs.values()]
            return sum(terms[1:], terms[0]) if terms else np.zeros_like(self.golden[name])
        if entry.op == "clip":
            return self._clipped(self._value(entry.inputs["x"], shake, used), entry.others, shake, used)
        if name.startswith("d.") and set(entry.inputs) == {"dy"}:  # the gradient of what was made before it
            return self._value(entry.inputs["dy"], shake, used)
        if name.startswith("d.") and not entry.inputs:
            return self.golden[name]
        values = self._values(entry, shake, used, is_backward=name.startswith("d."))
        value = values[entry.value]
        return value[int(name.rpartition(".")[2])] if isinstance(value, list) else value

    def _clipped(self, x: Array, limits: Mapping[str, Any], shake: int, used: set[str]) -> Array:
        """A gradient after clipping, by the norm of theirs."""
        if limits.get("clipvalue") is not None:
            clipped: Array = np.clip(x, -limits["clipvalue"], limits["clipvalue"])
            return clipped
        limit, norm = limits.get("clipnorm"), float(np.linalg.norm(x))
        if limits.get("global_clipnorm") is not None:
            limit, key = limits["global_clipnorm"], (shake, "the norm of all gradients")
            if key not in self._single:
                every = [name for name in self.golden if name.startswith("gradients.")]
                squares = (float(np.square(self._value(name, shake, used)).sum()) for name in every)
                self._single[key] = float(np.sqrt(sum(squares)))
            norm = self._single[key]
        return x if limit is None or norm <= limit else x * (limit / norm)

    def _values(self, entry: Entry, shake: int, used: set[str], is_backward: bool) -> Values:
        """All values of an op, or all gradients of its backward."""
        plain, arguments = PLAIN[entry.op], self._arguments(entry, shake, used)
        positional = [arguments[name] for name in plain.arguments]
        key = (shake, entry.place, "backward" if is_backward else "forward")
        if key not in self._memo:
            values = plain.forward(*positional)
            if is_backward:
                dy = self._value(entry.inputs["dy"], shake, used)
                values = plain.backward(dy, positional, values)
            self._memo[key] = values
        return self._memo[key]

    def _arguments(self, entry: Entry, shake: int, used: set[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in PLAIN[entry.op].arguments:
            if name in entry.inputs:
                found[name] = self._value(entry.inputs[name], shake, used)
            else:
                value = entry.others.get(name)
                found[name] = tuple(value) if isinstance(value, list) else value
        return found

    def _sources(self, entry: Entry) -> list[str]:
        """The tensors that an op's value is made of, but for parameters and the batch's."""
        return [
            source
            for source in entry.inputs.values()
            if f"parameters.{source}" not in self.golden and self.golden.entries[source].inputs
        ]

    # --- what rounding may do -----------------------------------------------------------------------------------------

    def _local(self, name: str, entry: Entry, expected: Array) -> Array:
        """What one op's arithmetic may do to its value, its inputs being exact; and the rounding of what was stored."""
        stored: Array = self.run.u * np.abs(expected) + self.run.tiny
        if entry.op not in PLAIN:
            additions: Array = stored * (1.0 + len(entry.inputs))
            return additions
        if name.startswith("d.") and set(entry.inputs) <= {"dy"}:
            return stored
        way = "backward" if name.startswith("d.") else "forward"
        if (entry.place, way) not in self._bounds:
            self._bounds[entry.place, way] = self._bounds_of(entry, way == "backward")
        found = self._bounds[entry.place, way]
        part = name.rpartition(".")[2]
        bound: Array = found[entry.value] if entry.value in found else found[f"{entry.value}.{part}"]
        return stored + bound

    def _bounds_of(self, entry: Entry, is_backward: bool) -> dict[str, Array]:
        """A bound for every value of an op, or for every gradient of its backward."""
        plain, used = PLAIN[entry.op], set[str]()
        arguments = self._arguments(entry, 0, used)
        positional = [arguments[of] for of in plain.arguments]
        values = plain.forward(*positional)
        dy = self._value(entry.inputs["dy"], 0, used) if is_backward else np.ones(values["output"].shape)
        found = _inner_bounds(self.run, plain, positional, dy if is_backward else None, self.seed)
        try:
            derived = list(bounds.ROWS[f"{entry.op}_forward"][0](self.run, *positional, dy=dy).values())
        except ValueError:  # nothing can be said of such scores or such an epsilon
            return found
        names = ("output", *plain.gradients)
        own = plain.gradients if is_backward else ("output",)
        return found | {name: bound for name, bound in zip(names, derived, strict=True) if name in own}

    # --- why ----------------------------------------------------------------------------------------------------------

    def _cause(self, name: str, entry: Entry, theirs: Array, expected: Array, tolerance: Array) -> tuple[str, float]:
        """The mistake that makes the difference vanish, and the share of the difference that it explains."""
        size = float(np.linalg.norm(theirs - expected))
        if not np.isfinite(theirs).all():
            return "it holds numbers that are not finite", 1.0
        if entry.op in PLAIN and not name.startswith("d."):
            arguments = self._arguments(entry, 0, set())
            best, most = "", 0.0
            for cause in causes_of(entry.op, arguments):
                with np.errstate(all="ignore"):
                    value = cause.values(arguments).get(entry.value)
                if value is None:
                    continue
                other = value[int(name.rpartition(".")[2])] if isinstance(value, list) else value
                left = np.abs(theirs - other)
                if not np.isfinite(left).all():
                    continue
                share = 1.0 - float(np.linalg.norm(left)) / size
                is_within = bool((left <= 4.0 * tolerance + 1e-12 * np.abs(expected)).all())
                if share > most and (is_within or share >= EXPLAINED):
                    best, most = cause.name, share
            if best:
                return best, most
        found = looks_like(theirs, expected)
        return found, 1.0 if found else 0.0


def _inner_bounds(
    run: bounds.Arithmetic, plain: Plain, positional: Sequence[Any], dy: Array | None, seed: int
) -> dict[str, Array]:
    """An estimate for the values within an op: what one rounding of each argument does to them, by chance.

    It is multiplied by the root of the longest sum, since so many roundings add up by chance.
    """

    def rounded(x: Any, rng: np.random.Generator) -> Any:
        if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
            return x
        return x * (1.0 + run.u * rng.choice([-1.0, 1.0], x.shape))

    def values_of(arguments: Sequence[Any], gradient: Array | None) -> Values:
        values = plain.forward(*arguments)
        return values if gradient is None else plain.backward(gradient, arguments, values)

    exact = _flat(values_of(positional, dy))
    terms = float(np.sqrt(max([2, *(n for x in positional if isinstance(x, np.ndarray) for n in x.shape)])))
    largest = dict.fromkeys(exact, 0.0)
    for shake in range(SHAKEN):
        rng = np.random.default_rng([seed, shake])
        moved = values_of([rounded(x, rng) for x in positional], None if dy is None else rounded(dy, rng))
        for name, value in _flat(moved).items():
            largest[name] = max(largest[name], _most(value, exact[name]))
    return {
        name: np.full(np.shape(v), 4.0 * terms * largest[name] + 16.0 * run.u * float(np.abs(v).max(initial=0.0)))
        for name, v in exact.items()
    }


def _flat(values: Values) -> dict[str, Array]:
    """The values by name; those of several sequences by the sequence's number behind it."""
    parts = (
        (name, value if isinstance(value, list) else [value], isinstance(value, list)) for name, value in values.items()
    )
    return {f"{name}.{b}" if is_list else name: part for name, some, is_list in parts for b, part in enumerate(some)}


def _most(x: Array, y: Array) -> float:
    return float(np.abs(np.asarray(x, np.float64) - y).max(initial=0.0))


def _checked(name: str, golden: Array, theirs: Any) -> Array:
    array = np.asarray(theirs)
    if array.shape != golden.shape:
        raise ValueError(f"{name} is {array.shape}, the trace's is {golden.shape}")
    return array
