"""Finds the known mistake that makes the difference of a departing tensor vanish.

Each cause of the tensor's own call computes the tensor with one mistake. If tensors between were not given, the causes
of the calls between are tried too (`oracle/chains.py`). If no cause explains the difference, the difference itself may
show the mistake (`oracle/signatures.py`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from pyroberta.oracle import update_causes
from pyroberta.oracle.calls import Call, is_of_op, value_of
from pyroberta.oracle.causes import Cause, causes_of, normed_before, of_inferred_epsilon, positions_counted_to
from pyroberta.oracle.chains import Chain
from pyroberta.oracle.golden import Entry
from pyroberta.oracle.judge import Judge, Judged
from pyroberta.oracle.plain import PLAIN
from pyroberta.oracle.signatures import factor_of, looks_like, signature_of

ENOUGH = 4.0  # times the tolerance: the largest difference that a cause may leave
EXPLAINED = 0.999  # the share of the difference that a cause must explain otherwise, if there are many numbers
HARDLY = 0.95  # the share of the differing numbers that a cause must explain, and the share of each of these
MANY = 16  # the number of elements that can't differ in the form of a mistake by chance
# A difference within rounding is explained only if it is this many times the rounding of the result or of the factors.
# The third number is the share of it that a cause must then explain.
NOTABLE, OF_FACTORS, CERTAIN = 64.0, 0.5, 0.99
MOST_SUBNORMAL = 1e6  # times the smallest normal number: smaller differences may come from underflow
EPSILON = r"epsilon is ([\d.e-]+)"


class Explained(NamedTuple):
    """A cause that makes a difference vanish.

    Attributes:
        cause: the cause in words.
        left: the largest remaining difference, as a multiple of the tolerance.
        share: the share of the difference that the cause explains, or 0 if the cause was read off the difference.
        call: the earlier call in which the mistake is, or None for the tensor's own call.
    """

    cause: str
    left: float
    share: float
    call: Call | None = None


class Explainer:
    """Finds causes.

    Args:
        judge: the judge of the tensors.
        aside: other tensors of the implementation (see `foreign.Aligned`).
    """

    def __init__(self, judge: Judge, aside: Mapping[str, Array]) -> None:
        self.judge, self.golden, self.aside = judge, judge.golden, aside

    def of_departure(self, judged: Judged) -> list[Explained]:
        """Returns the causes of a difference that is larger than rounding allows, the best first."""
        named = self._explaining(judged, self._causes(judged.name, judged.entry, judged.arguments))
        # An update with a smaller gradient looks like one with another epsilon: what lies before it comes first.
        inferred = [] if judged.entry.op == "update" else self._explaining(judged, self._inferred(judged))
        return _best(named) or _best(inferred) or self._read_off(judged)

    def of_rounding(self, judged: Judged, relative: float, error: float) -> list[Explained]:
        """Returns the causes of a difference that the worst case of rounding allows, but that rounding never makes in
        practice.

        Args:
            judged: the tensor.
            relative: the difference, as in `Finding.relative`.
            error: the difference, as in `Finding.error`.
        """
        run = self.judge.run
        notable = max(NOTABLE * run.u, OF_FACTORS * run.factor_u)
        differing = int(np.count_nonzero(judged.theirs != judged.expected))
        is_long = relative > notable and error > MOST_SUBNORMAL * run.tiny and differing >= MANY
        # What was kept in fewer bits has lost more, and a mean may be all that rounding has left of large numbers.
        if not is_long or judged.entry.op == "clip" or judged.entry.value == "mean" or judged.unit:
            return []
        causes = self._causes(judged.name, judged.entry, judged.arguments)
        named = [one for one in self._explaining(judged, causes) if one.share >= CERTAIN]
        return sorted(named, key=lambda one: -one.share)

    def between(self, judged: Judged, chain: Chain) -> list[Explained]:
        """Returns the causes in the calls between the given tensors and this one, the best first. If there are none, an
        update may itself show the cause.
        """
        # Of a parameter's gradient that is only a multiple, any call between may be the cause.
        factor = factor_of(judged.theirs, judged.expected, judged.tolerance) if judged.entry.op == "sum" else None
        is_multiple = factor is not None or (judged.entry.op == "sum" and not judged.theirs.any())
        if is_multiple or not np.isfinite(judged.theirs).all():
            return []
        named, of = [], value_of(judged.name, judged.entry)
        for number, call in chain.tried():
            for cause in self._causes(*chain.call(number)):
                value = _part(chain.with_cause(number, cause).get(of[0]), of[1])
                if value is not None and (found := _explains(judged, value, judged.expected)):
                    named.append(Explained(cause.name, *found, call))
        inferred = self._explaining(judged, self._inferred(judged)) if judged.entry.op == "update" else []
        return _best(named) or _best(inferred)

    def _explaining(self, judged: Judged, causes: Iterable[Cause]) -> Iterator[Explained]:
        """Yields those causes of the tensor's own call that make the difference vanish."""
        if not np.isfinite(judged.theirs).all():
            return
        of, usual = value_of(judged.name, judged.entry), _usual(judged)
        for cause in causes:
            value = _part(cause.values(judged.arguments).get(of[0]), of[1])
            found = None if value is None else _explains(judged, value, _part(usual, of[1]))
            if found:
                yield Explained(cause.name, *found)

    def _inferred(self, judged: Judged) -> Iterator[Cause]:
        """Yields mistakes with a number that follows from the given tensor."""
        entry, theirs = judged.entry, judged.theirs
        if entry.op == "update" and entry.value == "updated":
            yield from update_causes.of_inferred_epsilon(self.golden, judged.arguments, theirs)
        elif is_of_op(entry):
            yield from of_inferred_epsilon(entry.op, entry.value, judged.arguments, theirs)

    def _causes(self, name: str, entry: Entry, arguments: Mapping[str, Any]) -> Iterator[Cause]:
        """The known mistakes of a call."""
        golden, step = self.golden, entry.step
        if name.rpartition(".")[2] == "denominator":
            yield from update_causes.denominator_causes(golden, step)
        elif name.endswith("learning_rate"):
            yield from update_causes.rate_causes(golden, step)
        elif entry.op == "share":
            yield from update_causes.share_causes(golden, step, arguments)
        elif entry.op in ("add", "sum"):
            yield from update_causes.sum_causes(golden, entry, arguments)
        elif entry.op == "clip":
            yield from update_causes.clip_causes(arguments, entry.others)
            yield from update_causes.clip_of_parts(golden, entry.place, step)
        elif entry.op == "clip_scale":
            yield from update_causes.scale_causes(arguments, entry.others)
        elif entry.op == "update":
            yield from update_causes.update_causes(golden, arguments)
        elif is_of_op(entry):
            yield from causes_of(entry.op, arguments)
            yield from self._normed_before(entry, arguments)
            yield from self._of_aside(entry, arguments)

    def _normed_before(self, entry: Entry, arguments: Mapping[str, Any]) -> Iterator[Cause]:
        block = re.fullmatch(r"(layers\.\d+\.(?:attention|feed_forward))(\.(?:query|key|value))?", entry.place)
        if block is not None and entry.op in ("linear", "feed_forward") and "dy" not in arguments:
            norm: dict[str, Any] = {
                of: self._parameter(f"{block.group(1)}.norm.{of}", entry.step) for of in ("gamma", "beta")
            }
            epsilon = self.golden.settings["config"]["layer_norm_epsilon"]
            yield from normed_before(arguments, norm | {"epsilon": epsilon})

    def _of_aside(self, entry: Entry, arguments: Mapping[str, Any]) -> Iterator[Cause]:
        """Yields mistakes in which another tensor takes the place of an argument."""
        op = PLAIN[entry.op]
        if entry.op == "cross_entropy" and "dy" not in arguments:
            if "decoder" in self.aside:
                other = self.aside["decoder"].astype(np.float64)
                name = "the matrix of the logits is a decoder of its own, not the token embedding"
                yield Cause(name, lambda a: op.values_of({**a, "table": other}))
            if entry.step:
                before = self._parameter("embeddings.token", entry.step - 1)
                name = "the matrix of the logits is the token embedding before the last update: a stale decoder"
                yield Cause(name, lambda a: op.values_of({**a, "table": before}))
        if entry.op == "embedding" and "dy" not in arguments:
            yield from positions_counted_to(arguments, self.aside.get("columns"))
        if entry.op == "embedding" and "dy" not in arguments and "token_type" in self.aside:
            row = self.aside["token_type"].astype(np.float64)
            for name, factor in (("dropped", -1.0), ("added twice", 1.0)):
                yield Cause(
                    f"the token type's row is {name}",
                    lambda a, factor=factor: {"output": op.values_of(a)["output"] + factor * row},  # type: ignore[misc]
                )

    def _parameter(self, name: str, step: int) -> Array:
        """A parameter before an update, as the trace has it."""
        prefix = f"step_{step}." if step else ""
        found: Array = self.golden[f"{prefix}parameters.{name}"].astype(np.float64)
        return found

    def _other_parameter(self, judged: Judged) -> str:
        """Returns which other parameter of the trace the tensor is, in words, or ""."""
        step = re.match(r"(step_\d+\.)?", judged.name)[0]  # type: ignore[index]
        for name, entry in self.golden.entries.items():
            if name.startswith(f"{step}parameters.") and name != judged.name and entry.value == "parameters":
                other = self.golden[name]
                if other.shape == judged.theirs.shape and np.ptp(other) > 0.0:
                    allowed = 4.0 * (self.judge.run.u + judged.unit) * np.abs(other)
                    if (np.abs(judged.theirs - other) <= allowed).all():
                        return f"it is {name}"
        return ""

    def _read_off(self, judged: Judged) -> list[Explained]:
        """Returns the cause that the difference itself shows."""
        entry, factor = judged.entry, factor_of(judged.theirs, judged.expected, judged.tolerance)
        part = judged.name.rpartition(".")[2] if entry.op == "attention" else ""
        if not entry.op and entry.value == "parameters":
            looks = looks_like(judged.theirs, judged.expected, judged.tolerance)
            cause = "the kernel is transposed" if looks == "it is transposed" else self._other_parameter(judged)
        elif entry.op in ("linear", "cross_entropy") and len(judged.through) > 1:
            cause = ""  # what the product was made with is not theirs: it may be that which is off
        elif factor is None or entry.value == "of_types":
            cause = signature_of(entry.op, entry.value, part, judged.arguments, judged.theirs, judged.expected)
        elif is_of_loss(judged):
            columns = self.aside.get("columns")
            cause = update_causes.named_denominator(
                self.golden, entry.step, factor, judged.unit, None if columns is None else int(columns)
            )
        else:
            cause = ""
        return [Explained(cause, 0.0, 0.0)] if cause else []


def agreed(named: Mapping[str, Sequence[Explained]], ops: Mapping[str, str]) -> dict[str, list[Explained]]:
    """Returns the causes of each tensor, sorted: first those that the most tensors of the same op have.

    Rounding may leave several causes possible for a tensor. A mistake that was made at all places is among the causes
    of all these tensors.

    Args:
        named: tensor's name -> its causes.
        ops: tensor's name -> its op.
    """
    counts = Counter((ops[name], one.cause) for name, some in named.items() for one in some)
    return {
        name: _joined(sorted(some, key=lambda one, op=ops[name]: -counts[op, one.cause]))  # type: ignore[misc]
        for name, some in named.items()
    }


def _joined(named: Sequence[Explained]) -> list[Explained]:
    """Joins several values of epsilon into one cause, because rounding leaves open which one it is."""
    values = {one: float(found[1]) for one in named if (found := re.fullmatch(EPSILON, one.cause))}
    if len(values) < 2:
        return list(named)
    first = next(iter(values))
    whole = f"epsilon is one of {min(values.values()):g} to {max(values.values()):g}"
    return [one._replace(cause=whole) if one is first else one for one in named if one is first or one not in values]


def is_of_loss(judged: Judged) -> bool:
    """Returns whether a factor of the whole tensor may come from the loss. That is so for a gradient that was not
    computed from given gradients.
    """
    in_step = judged.name.removeprefix(f"step_{judged.entry.step}.")
    return in_step.startswith(("d.", "gradients.")) and not are_gradients(judged.used)


def are_gradients(names: Iterable[str]) -> bool:
    """Returns whether some of these names of given tensors are names of gradients."""
    return any(re.match(r"(step_\d+\.)?(d|gradients)\.", name) for name in names)


def _best(named: Iterable[Explained]) -> list[Explained]:
    """Sorts causes, the best first. If some leave only rounding, the other causes are removed."""
    ordered = sorted(named, key=lambda one: max(1.0, one.left))
    return [one for one in ordered if one.left <= max(1.0, ordered[0].left)] if ordered else []


def _explains(judged: Judged, value: Array, usual: Array | None) -> tuple[float, float] | None:
    """Returns the rest of the difference and the explained share if a mistake gave `value`; None if it explains little.

    Args:
        judged: the given tensor and the expected one.
        value: the tensor with the mistake.
        usual: the tensor without the mistake, from the same arguments. The mistake must change it.
    """
    size = float(np.linalg.norm(judged.theirs - judged.expected))
    allowed = np.maximum(judged.tolerance, np.finfo(np.float64).tiny)
    off, left = np.abs(judged.theirs - judged.expected), np.abs(judged.theirs - value)
    has_no_effect = usual is not None and np.linalg.norm(value - usual) <= 0.5 * size
    if has_no_effect or not np.isfinite(left).all():
        return None
    most, share = float((left / allowed).max(initial=0.0)), 1.0 - float(np.linalg.norm(left)) / size
    # One large number alone must not decide: nearly all that are off have to be explained.
    is_off = off > allowed
    is_explained = left[is_off] <= np.maximum(ENOUGH * allowed, (1.0 - HARDLY) * off)[is_off]
    is_whole = share >= EXPLAINED and left.size >= MANY and is_explained.mean() >= HARDLY if is_off.any() else False
    return (most, share) if share > 0.5 and (most <= ENOUGH or is_whole) else None


def _usual(judged: Judged) -> Any:
    """The value that the op makes of its arguments alone; None for what is no op of the model."""
    op = PLAIN.get(judged.entry.op)
    if op is None or not is_of_op(judged.entry):
        return None
    values = op.gradients_of(judged.arguments) if "dy" in judged.arguments else op.values_of(judged.arguments)
    return values.get(judged.entry.value)


def _part(value: Any, part: int | None) -> Array | None:
    """A value as float64; of one sequence, where it is a list."""
    if value is None:
        return None
    return np.asarray(value if part is None else value[part], np.float64)
