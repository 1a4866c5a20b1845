"""Recomputes a tensor from the nearest tensors that were given, with a mistake in one of the calls between.

If only the outputs of the layers are given, the ops inside the layers are not. Then a tensor that departs is recomputed
call by call, and one of the calls has a known mistake.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from pyroberta.oracle.calls import Call, Recomputed, call_of, is_copy, is_gradient, value_of
from pyroberta.oracle.causes import Cause
from pyroberta.oracle.golden import Entry
from pyroberta.oracle.judge import Judge, Judged
from pyroberta.oracle.plain import PLAIN, Values

MOST_CALLS = 24  # those of two layers. If more calls were tried, too many mistakes would explain a difference
FEW, MOST_OF_FEW = 16, 8  # a mistake may explain a tensor of at most 16 numbers by chance, so only 8 calls are tried
SUMS = ("add", "sum")
AFTER_GRADIENTS = ("clip_scale", "clip", "update")
MOST_NUMBERS = 2e9  # the most numbers that are computed for one tensor


class Suspects(NamedTuple):
    """Where a mistake may be, in the order of the computation.

    Attributes:
        backward: the places of the ops whose backward was computed.
        forward: the places of the ops whose forward was computed.
        steps: the tensors of the other calls: sums of several terms, clipping, updates.
    """

    backward: list[str]
    forward: list[str]
    steps: list[str]


class Chain:
    """The calls from the given tensors to a tensor that departs.

    Args:
        judge: the judge, which has come as far as the tensor.
        judged: the tensor.

    Attributes:
        calls: the calls in their order. Each is a pair: the names of its tensors, and the entry of one of them.
    """

    def __init__(self, judge: Judge, judged: Judged) -> None:
        self.judge, self.target = judge, judged
        self.calls = self._calls()
        self._computed: list[Values] = []
        self._left = MOST_NUMBERS

    def _calls(self) -> list[tuple[list[str], Entry]]:
        wanted, found = {self.target.name}, []
        for names, entry in reversed(self.judge.calls):
            if self.target.name in names or any(name in wanted and name not in self.judge.theirs for name in names):
                if entry.inputs:
                    found.append((names, entry))
                wanted.update(entry.inputs.values())
        return found[::-1]

    @property
    def suspects(self) -> Suspects:
        """Where the mistake may be. The last call is among these."""
        found = Suspects([], [], [])
        for names, entry in self.calls:
            call = call_of(names[0], entry)
            is_of_one_term = call.op == "sum" and len(entry.inputs) < 2
            if call.op in (*PLAIN, "add"):
                (found.backward if call.is_backward else found.forward).append(call.place)
            elif call.op and not is_of_one_term:
                found.steps.append(names[0] if len(names) == 1 else self.target.name)
        return Suspects(*(list(dict.fromkeys(some)) for some in found))

    def passed_on(self) -> Iterator[str]:
        """Yields the names of the tensors between: in backward the gradient of each op's result, in forward each
        result that another op takes. For a gradient they are those of backward, if there are any.
        """
        taken = {name for _, entry in self.calls for name in entry.inputs.values()}
        gradients = [
            names[0]
            for names, entry in self.calls[:-1]
            if is_copy(entry) and entry.inputs["dy"] not in self.judge.theirs
        ]
        yield from gradients or (
            name
            for names, entry in self.calls[:-1]
            if entry.op in PLAIN and not is_gradient(names[0], entry)
            for name in names
            if name in taken
        )

    def tried(self) -> Iterator[tuple[int, Call]]:
        """Yields the number and the call of each call before the last one whose mistakes are tried.

        For a gradient these are the calls of backward, because a mistake in forward shows in forward. For an update
        they are sums and clipping: a step depends so little on the gradient's size that many mistakes would fit.
        """
        most = MOST_CALLS if self.target.theirs.size >= FEW else MOST_OF_FEW
        tried = [
            (number, call_of(names[0], entry))
            for number, (names, entry) in enumerate(self.calls[:-1])
            if self._is_tried(names[0], entry)
        ]
        if not 1 <= len(tried) < most:
            return
        self._computed, values = [], dict[str, Any]()
        for number in range(len(self.calls)):
            self._computed.append(self._values(number, values))
            self._note(number, self._computed[number], values)
        yield from tried

    def _is_tried(self, name: str, entry: Entry) -> bool:
        """Whether the mistakes of a call are tried. `name` is one of its tensors."""
        target = self.target.entry
        on_the_way_back = is_gradient(self.target.name, target) or target.op in SUMS
        if target.op in AFTER_GRADIENTS:
            return entry.op in ("sum", *AFTER_GRADIENTS)
        return (is_gradient(name, entry) and not is_copy(entry)) or entry.op in SUMS or not on_the_way_back

    def call(self, number: int) -> tuple[str, Entry, Mapping[str, Any]]:
        """Returns a call: the name of its first tensor, its entry, and its arguments by name."""
        values = dict[str, Any]()
        for before in range(number):
            self._note(before, self._computed[before], values)
        names, entry = self.calls[number]
        return names[0], entry, self._arguments(entry, values)

    def with_cause(self, number: int, cause: Cause) -> Values:
        """Recomputes the chain with a mistake in one call, and returns the values of the last call.

        Args:
            number: the number of the call with the mistake.
            cause: the mistake.

        Returns:
            value's name -> float64 array of the last call, or an empty dict if that would take too much computation.
        """
        values = dict[str, Any]()
        for before in range(number):
            self._note(before, self._computed[before], values)
        changed = cause.values(self._arguments(self.calls[number][1], values))
        found = {**self._computed[number], **changed}
        self._note(number, found, values)
        for after in range(number + 1, len(self.calls)):
            if self._left <= 0:
                return {}
            found = self._values(after, values)
            self._note(after, found, values)
        return found

    def _values(self, number: int, values: Mapping[str, Any]) -> Values:
        """What a call gives, from the values before it."""
        names, entry = self.calls[number]
        arguments = self._arguments(entry, values)
        self._left -= sum(np.size(argument) for argument in arguments.values())
        return Recomputed(self.judge.golden, names, entry).values(arguments, self.judge.given_inside(names, entry))

    def _note(self, number: int, found: Values, values: dict[str, Any]) -> None:
        for name in self.calls[number][0]:
            of, part = value_of(name, self.judge.golden.entries[name])
            if of in found and name not in self.judge.theirs:
                values[name] = found[of] if part is None else found[of][part]

    def _arguments(self, entry: Entry, values: Mapping[str, Any]) -> dict[str, Any]:
        return self.judge.arguments_of(entry, {of: self._value(name, values) for of, name in entry.inputs.items()})

    def _value(self, name: str, values: Mapping[str, Any]) -> Array:
        found: Array = values[name] if name in values else self.judge.as_input(name)
        return found
