"""Computes the expected value of each tensor of another implementation, and the largest error that rounding allows.

The calls of a trace are processed in their order. The expected result of a call is computed in float64 from the nearest
earlier tensors that were given. So an early mistake has no effect on later results, and a second mistake is found too.
If all inputs of the call were given, the allowed error is the op's bound (`oracle/bounds.py`). If they were not, the
calls between are computed three more times, with each result moved at random within its bound. Six times the resulting
change of the tensor is also allowed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from pyroberta.formats.budget import clipped, shown
from pyroberta.oracle import bounds
from pyroberta.oracle.calls import Call, Recomputed, call_of, is_gradient, value_of
from pyroberta.oracle.golden import Entry, Trace
from pyroberta.oracle.plain import PLAIN
from pyroberta.oracle.stages import Given

SHAKEN = 3  # the number of runs with moved results
ROUNDED = (
    2.0  # times the rounding of a tensor stored in fewer bits: such errors are as large as their bound, unlike others
)
SPREAD = 6.0  # times the root mean square of the changes in the moved runs
MANY = 16  # the number of nonzero bfloat16 numbers from which a tensor counts as stored in bfloat16
INDICES = ("ids", "positions", "labels")  # arrays of the batch that the other implementation may have changed


class State(NamedTuple):
    """A tensor that later calls take as input.

    Attributes:
        value: the float64 array, or the ids and so on of the batch.
        shaken: the value in each of the moved runs, or () if the value is given or known.
        used: the names of the given tensors from which it was computed.
        through: the calls between these tensors and it.
    """

    value: Any
    shaken: tuple[Any, ...] = ()  # the value in each of the moved runs; () where it is theirs, or known
    used: frozenset[str] = frozenset()  # the tensors of theirs that it was computed from
    through: frozenset[Call] = frozenset()  # the calls between those and it


class Value(NamedTuple):
    """The expected value of one tensor of a call.

    Attributes:
        name: the name of the tensor.
        expected: the expected value in float64.
        shaken: the value in each of the moved runs.
        limit: the largest error of each number from the call's own rounding.
        tolerance: the limit, plus the effect of moved inputs and of the storage in fewer bits.
    """

    name: str
    expected: Array
    shaken: list[Array]
    limit: Array
    tolerance: Array


@dataclass(frozen=True)
class Judged:
    """A given tensor with its expected value.

    Attributes:
        name: the trace's name of the tensor.
        entry: its entry in the trace.
        theirs: the given tensor, in float64.
        expected: the expected tensor, in float64.
        tolerance: the largest allowed error of each number. It is infinite if there is no bound.
        arguments: the arguments of the call, by name.
        used: the names of the given tensors from which `expected` was computed.
        through: the calls between these tensors and this one, its own call included.
        unit: the relative rounding error of the given tensor if it was stored in fewer bits than those of the
            arithmetic, or else 0.
    """

    name: str
    entry: Entry
    theirs: Array
    expected: Array
    tolerance: Array
    arguments: Mapping[str, Any]
    used: frozenset[str]
    through: frozenset[Call]
    unit: float = 0.0

    @property
    def ratio(self) -> float:
        """The largest error of a number, divided by the allowed one. It is infinite if only one of the two tensors is
        finite.
        """
        with np.errstate(all="ignore"):
            error = np.abs(self.theirs - self.expected)
            same = (self.theirs == self.expected) | (np.isnan(self.theirs) & np.isnan(self.expected))
            same |= np.isinf(self.tolerance) & (np.isfinite(self.theirs) | ~np.isfinite(self.expected))
            ratios = np.where(same, 0.0, error / np.maximum(self.tolerance, np.finfo(np.float64).tiny))
        return float(np.where(np.isnan(ratios), np.inf, ratios).max(initial=0.0))


class Judge:
    """Judges all given tensors. Iterate over it once: it yields a `Judged` for each given tensor, in the order of the
    computation: the parameters' gradients come in the order in which backward finishes them.

    Args:
        golden: a trace in float64.
        theirs: arrays by the trace's names, in its shapes.
        precision: the arithmetic of the other implementation.
        seed: the seed of the random moves.
        lost: name -> the largest error of each number from before the tensor was given.
        partial: name -> (N,) bool, the rows that were given, for tensors of which only some rows were. Only these rows
            are judged. Later calls take the expected values of all rows.

    Attributes:
        calls: the calls in their order. Each is a pair: the names of its tensors, and the entry of one of them.
        theirs: the tensors of which all rows were given.
    """

    def __init__(
        self,
        golden: Trace,
        theirs: Mapping[str, Array],
        precision: str,
        seed: int,
        lost: Mapping[str, Array] | None = None,
        partial: Mapping[str, Array] | None = None,
    ) -> None:
        self.golden, self.run, self.seed = golden, bounds.Arithmetic.of_others(precision), seed
        self._lost, self._partial = lost or {}, partial or {}
        self._looked_at = {name: theirs[name] for name in golden if name in theirs}
        self.theirs = {name: array for name, array in self._looked_at.items() if name not in self._partial}
        large = [x for x in self.theirs.values() if x.dtype == np.float32 and np.count_nonzero(x) >= MANY]
        self._is_bfloat16 = 2 * sum(map(bounds.is_bfloat16, large)) > len(large)  # most of theirs were kept so
        self._states: dict[str, State] = {}
        self.calls = self._calls()
        self._inside = defaultdict[tuple[int, str], Sequence[str]](tuple)  # of a call: its tensors

    def __iter__(self) -> Iterator[Judged]:
        calls = self.calls
        last = {name: i for i, (names, entry) in enumerate(calls) for name in [*names, *entry.inputs.values()]}
        ends = [i for i, (names, _) in enumerate(calls) if any(name in self._looked_at for name in names)]
        for i, (names, entry) in enumerate(calls[: ends[-1] + 1 if ends else 0]):
            try:
                yield from self._judged(names, entry, [name for name in names if last[name] > i])
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{shown(names[0])} can't be computed from the tensors of the trace ({type(error).__name__}: "
                    f"{clipped(str(error))}): the trace is probably damaged, so trace the model again"
                ) from error
            for name in [*names, *entry.inputs.values()]:
                if last[name] <= i:
                    self._states.pop(name, None)

    def _calls(self) -> list[tuple[list[str], Entry]]:
        """The tensors of each call together, with the entry of one of them."""
        kept = [name for name, entry in self.golden.entries.items() if entry.value != "bound"]

        def key_of(name: str) -> Any:
            entry = self.golden.entries[name]
            return entry.op, entry.place, entry.step, is_gradient(name, entry), sorted(entry.inputs.items())

        grouped = ((key, list(names)) for key, names in groupby(kept, key_of))
        calls = [(some, self.golden.entries[some[0]]) for (op, *_), names in grouped for some in _single(op, names)]
        return self._needed(self._in_order_of_backward(calls))

    def _in_order_of_backward(self, calls: list[tuple[list[str], Entry]]) -> list[tuple[list[str], Entry]]:
        """The calls, with the sums, clippings and updates of the parameters in the order in which backward finishes
        the gradients. In the trace they are in the order of the parameters.
        """
        at = {name: i for i, name in enumerate(self.golden.entries)}
        finished = {
            (entry.step, entry.place): max(map(at.__getitem__, entry.inputs.values()), default=0)
            for _, entry in calls
            if entry.value == "gradients"
        }

        def kind(call: tuple[list[str], Entry]) -> tuple[int, str, str]:
            entry = call[1]
            return entry.step, entry.op, entry.value if entry.op == "sum" else ""

        found = []
        for (_, op, value), some in groupby(calls, kind):
            of_parameters = value == "gradients" or op in ("clip", "update")
            found += sorted(some, key=lambda call: finished.get((call[1].step, call[1].place), 0) * of_parameters)
        return found

    def _needed(self, calls: list[tuple[list[str], Entry]]) -> list[tuple[list[str], Entry]]:
        """Those calls that something of theirs depends on, or that gave it."""
        wanted, needed = set[str](), []
        for names, entry in reversed(calls):
            if any(name in wanted or name in self._looked_at for name in names):
                needed.append((names, entry))
                wanted.update(entry.inputs.values())
        return needed[::-1]

    # --- one call -----------------------------------------------------------------------------------------------------

    def _judged(self, names: Sequence[str], entry: Entry, kept: Sequence[str]) -> Iterator[Judged]:
        if not entry.inputs and (entry.op not in PLAIN or is_gradient(names[0], entry)):
            yield from self._given(names[0], entry)
            return
        inputs = {of: self._states[name] for of, name in entry.inputs.items()}
        values = self._values(names, entry, inputs, self.given_inside(names, entry))
        yield from (self._beside(value, inputs) for value in values if value.name in self._looked_at)
        used = frozenset[str]().union(*(state.used for state in inputs.values()))
        through = frozenset([call_of(names[0], entry)]).union(*(state.through for state in inputs.values()))
        for value in values:
            if value.name in kept:
                state = self._state(value.name, value.expected, value.shaken, value.limit, used)
                self._states[value.name] = state if value.name in self.theirs else state._replace(through=through)

    def _values(self, names: Sequence[str], entry: Entry, inputs: Mapping[str, State], given: Given) -> list[Value]:
        """What a call should give, each value from the inputs and from those `given` of it."""
        count = SHAKEN if any(state.shaken for state in inputs.values()) else 0
        call, arguments = Recomputed(self.golden, names, entry), self._arguments(entry, inputs, 0)
        runs = [call.values(self._arguments(entry, inputs, i), given) for i in range(count + 1)]
        limits = call.limits(self.run, arguments, runs[0], given)
        found = []
        for name in names:
            of, part = value_of(name, self.golden.entries[name])
            expected, *shaken = (_part(run[of], part) for run in runs)
            limit = np.asarray(_part(limits[of], part), np.float64)
            more = self._of_storage(name, expected) if name in self._looked_at else 0.0
            if entry.op == "update" and count and name in self._looked_at:
                more = more + _of_extremes(call, arguments, inputs, of)
            tolerance = np.where(np.isinf(limit), limit, limit + _spread(expected, shaken) + more)
            found.append(Value(name, expected, shaken, limit, tolerance))
        return found

    def _beside(self, value: Value, inputs: Mapping[str, State]) -> Judged:
        """A value beside theirs."""
        name, entry, theirs = value.name, self.golden.entries[value.name], self._as_float(value.name)
        expected = value.expected
        if name in self._partial:
            rows = self._partial[name].reshape(-1, *[1] * (expected.ndim - 1))
            theirs = np.where(rows, theirs, expected)
        if entry.op == "argmax":
            expected = _near_tie(theirs, expected, inputs["logits"], self.run.u)
        used = frozenset[str]().union(*(state.used for state in inputs.values()))
        through = frozenset([call_of(name, entry)]).union(*(state.through for state in inputs.values()))
        arguments, unit = self._arguments(entry, inputs, 0), self._unit(name)
        return Judged(name, entry, theirs, expected, value.tolerance, arguments, used, through, unit)

    def given_inside(self, names: Sequence[str], entry: Entry) -> dict[str, Any]:
        """Returns the given values of a call's op: value's name -> float64 array. A value of attention has a dict from
        the number of the sequence to its array.
        """
        found: dict[str, Any] = {}
        if entry.op in PLAIN and not is_gradient(names[0], entry):
            self._inside[entry.step, entry.place] = names
        for name in self._inside[entry.step, entry.place]:
            of, part = value_of(name, self.golden.entries[name])
            if name not in self.theirs or self._unit(name):
                continue
            if part is None:
                found[of] = self._as_float(name)
            else:
                found.setdefault(of, {})[part] = self._as_float(name)
        return found

    def _state(self, name: str, expected: Array, shaken: Sequence[Array], limit: Array, used: frozenset[str]) -> State:
        if name in self.theirs:
            theirs, unit = self._as_float(name), self._unit(name)
            mine = frozenset([name])
            if not unit:
                return State(theirs, (), mine)
            given = self.theirs[name]
            least = float(np.finfo(given.dtype).smallest_subnormal) if given.dtype.kind == "f" else 0.0
            return self._moved(name, theirs, (), ROUNDED * (unit * np.abs(theirs) + least), mine)
        return self._moved(name, expected, shaken, limit, used)

    def _moved(self, name: str, expected: Array, shaken: Sequence[Array], limit: Array, used: frozenset[str]) -> State:
        """A value that may be off by so much."""
        shaken = shaken or [expected] * SHAKEN
        width = np.where(np.isfinite(limit), limit, 0.0)
        rng = np.random.default_rng([self.seed, len(name), *name.encode()])
        moved = tuple(value + rng.uniform(-1.0, 1.0, np.shape(value)) * width for value in shaken)
        return State(expected, moved, used)

    def _given(self, name: str, entry: Entry) -> Iterator[Judged]:
        """What nothing of the trace was computed before: ids, weights, parameters."""
        expected = self.golden[name]
        value = expected.astype(np.float64) if expected.dtype.kind in "fb" else expected
        if name not in self.theirs:
            is_kept = value.dtype.kind != "f" or bool((value.astype(self.run.dtype) == value).all())
            none = frozenset[str]()  # a parameter that has more digits than they can keep may have been rounded
            self._states[name] = (
                State(value) if is_kept else self._moved(name, value, (), ROUNDED * self.run.u * np.abs(value), none)
            )
            return
        given = self.theirs[name].astype(np.float64)
        if value.dtype.kind == "f":
            self._states[name] = self._state(name, given, (), np.zeros(1), frozenset())
            tolerance = 4.0 * self.run.u * np.abs(value) + self._of_storage(name, value)
        else:
            self._states[name] = self._indices(name, given, value)
            tolerance = np.zeros(value.shape)
        yield Judged(name, entry, given, value.astype(np.float64), tolerance, {}, frozenset(), frozenset())

    def _indices(self, name: str, given: Array, value: Array) -> State:
        """Their ids, positions or labels, where they are some; the trace's own else, and what tells sequences apart."""
        of = re.sub(r"_\d+$", "", name.rpartition(".")[2])
        tables = {"ids": "embeddings.token", "labels": "embeddings.token", "positions": "embeddings.position"}
        size = len(self.golden[f"parameters.{tables[of]}"]) if of in tables else 0
        if of == "labels" and self.golden.settings["config"].get("num_classes"):
            size = self.golden.settings["config"]["num_classes"]
        with np.errstate(invalid="ignore"):
            is_some = (given == np.floor(given)) & (given >= 0) & (given < size)
        if of in INDICES and is_some.all():
            return State(given.astype(value.dtype), (), frozenset([name]))
        return State(value)

    def _unit(self, name: str) -> float:
        """What was lost, relatively, where they kept the tensor in fewer bits than the arithmetic has."""
        given = self._looked_at[name]
        unit = float(np.finfo(given.dtype).eps) / 2.0 if given.dtype.kind == "f" else 0.0
        if (
            given.dtype == np.float32
            and (self._is_bfloat16 or np.count_nonzero(given) >= MANY)
            and bounds.is_bfloat16(given)
        ):
            unit = bounds.BFLOAT16_U
        return unit if unit > self.run.u else 0.0

    def _arguments(self, entry: Entry, inputs: Mapping[str, State], run: int) -> dict[str, Any]:
        """What the call works on, in the run of that number; 0 is the one that nothing is moved in."""
        moved = {of: state.shaken[run - 1] if run and state.shaken else state.value for of, state in inputs.items()}
        return self.arguments_of(entry, moved)

    def arguments_of(self, entry: Entry, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Returns all arguments of a call, from the arguments that are tensors."""
        found: dict[str, Any] = dict.fromkeys(PLAIN[entry.op].arguments) if entry.op in PLAIN else {}
        found |= {of: tuple(value) if isinstance(value, list) else value for of, value in entry.others.items()}
        return found | dict(inputs)

    def as_input(self, name: str) -> Array:
        """Returns a tensor as later calls take it: the given one, or else the trace's."""
        value = self.golden[name]
        if value.dtype.kind in "fb":
            return self._as_float(name) if name in self.theirs else value.astype(np.float64)
        found: Array = self._indices(name, self._as_float(name), value).value if name in self.theirs else value
        return found

    def _of_storage(self, name: str, expected: Array) -> Array:
        """What was lost as they kept the tensor, be it in fewer bits than the arithmetic has."""
        unit, given = self._unit(name), self._looked_at[name]
        lost: Array = 2.0 * max(unit, self.run.u) * np.abs(expected) + self._lost.get(name, 0.0)
        if unit and given.dtype.kind == "f":
            lost = lost + float(np.finfo(given.dtype).smallest_subnormal)
        return lost

    def _as_float(self, name: str) -> Array:
        return self._looked_at[name].astype(np.float64)


def _near_tie(theirs: Array, expected: Array, logits: State, unit: float) -> Array:
    """The likeliest ids; theirs, where their logit is as large within what the logits may be off."""
    z, size = logits.value, logits.value.shape[1]
    is_some = (theirs >= 0) & (theirs < size) & (theirs == np.floor(theirs))
    rows, chosen = np.arange(len(z)), np.where(is_some, theirs, 0).astype(np.int64)
    width = 4.0 * unit * np.abs(z).max(axis=1, initial=0.0)
    if logits.shaken:
        width = width + 2.0 * np.broadcast_to(_spread(z, logits.shaken), z.shape).max(axis=1, initial=0.0)
    is_near = is_some & (z[rows, chosen] >= z[rows, expected.astype(np.int64)] - width)
    return np.where(is_near, theirs, expected)


def _single(op: str, names: list[str]) -> Iterator[list[str]]:
    """The calls of a group: what has no op, and sums, are one tensor each."""
    if op in PLAIN or op == "update":
        yield names
    else:
        yield from ([name] for name in names)


def _part(value: Any, part: int | None) -> Array:
    """The value as float64; of one sequence."""
    found = np.asarray(value if part is None else value[part])
    return found.astype(np.float64) if found.dtype.kind in "fb" else found


def _of_extremes(call: Recomputed, arguments: Mapping[str, Any], inputs: Mapping[str, State], of: str) -> Any:
    """What moved inputs may do to an update at most, each taken to both its ends.

    A step is near a sign of the gradient, and far from linear where v is small: the mean of some runs says little.
    """
    expected, total = call.values(arguments, {})[of], 0.0
    for name, state in inputs.items():
        if name != "rate" and state.shaken:
            width = _spread(state.value, state.shaken)
            moved = (call.values({**arguments, name: state.value + sign * width}, {})[of] for sign in (1.0, -1.0))
            total = total + np.max([np.abs(value - expected) for value in moved], axis=0)
    return total


def _spread(expected: Array, shaken: Sequence[Array]) -> Array:
    """How far moved results between take each number: of itself, of its row or of all, whichever is most."""
    if not shaken:
        return np.zeros(np.shape(expected))
    squares: Array = np.mean([np.square(value - expected) for value in shaken], axis=0)
    if not squares.size:
        return squares
    of_rows = squares.mean(axis=-1, keepdims=True) if squares.ndim else squares
    most = np.maximum(np.maximum(squares, of_rows), squares.mean())
    spread: Array = SPREAD * np.sqrt(most)
    return spread
