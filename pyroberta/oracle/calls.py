"""Recomputes a call of a trace in float64 from any arguments, and gives the largest rounding error of its results.

A call is one use of an op, or of a sum, clipping or update, at one place in one update.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from pyroberta.ops import REFERENCE
from pyroberta.oracle import bounds
from pyroberta.oracle.golden import Entry, Trace
from pyroberta.oracle.plain import PLAIN, Values
from pyroberta.oracle.stages import Given, stages
from pyroberta.oracle.stages import limits as limits_of_steps
from pyroberta.training import optimizers

NO_LIMITS = {"clipvalue": None, "clipnorm": None, "global_clipnorm": None}


SCATTERED = ("embedding", "gather")  # ops whose backward adds up some rows of dy
SUMMED = {"linear": "bias", "layer_norm": "beta", "add_norm": "beta", "feed_forward": "bias_2"}  # sums of all rows


class Call(NamedTuple):
    """What tells the calls of a trace apart.

    Attributes:
        step: the number of the update, from 0.
        place: the place in the model.
        op: the op, or "" for a gradient that is passed on as it is.
        is_backward: whether it gives gradients: an op's backward, or a sum of gradients.
    """

    step: int
    place: str
    op: str
    is_backward: bool


class Recomputed:
    """A call of a trace that can be computed again.

    Args:
        golden: the trace.
        names: the names of the tensors that the call gave.
        entry: the entry of one of these tensors.
    """

    def __init__(self, golden: Trace, names: Sequence[str], entry: Entry) -> None:
        self.op, self.inputs, self.value = entry.op, entry.inputs, entry.value
        self.of = [value_of(name, golden.entries[name])[0] for name in names]
        self.optimizer: Mapping[str, Any] = golden.settings["optimizer"]
        self.is_gradient = is_gradient(names[0], entry)
        self.is_of_op = is_of_op(entry)

    def values(self, arguments: Mapping[str, Any], given: Given) -> Values:
        """Returns the results of the call as float64 arrays: value's name -> array, or a list of arrays of the
        sequences.

        Args:
            arguments: argument's name -> array or number.
            given: values inside the op that replace the computed ones (see `stages`).
        """
        a = arguments
        if self.is_of_op and self.is_gradient:
            return _backward(self.op, a, given)
        if self.is_of_op:
            return stages(self.op, a, given)[0]
        if self.op in PLAIN:  # the gradient of the loss, or of what has one name more
            return {"output": _divided(a["weights"], a["denominator"]) if "denominator" in a else a["dy"]}
        if self.op in ("add", "sum"):
            return {self.value: sum(list(a.values())[1:], next(iter(a.values())))}
        if self.op == "share":
            return {"share": _divided(a["weights"] @ a["losses"], a["denominator"])}
        if self.op == "clip_scale":
            return {"scale": np.float64(_scale_of(a))}
        if self.op == "clip":
            return _clip(a)
        if self.op == "argmax":
            return {self.value: a["logits"].argmax(axis=1)}
        return self._updated(a)[0]

    def limits(
        self, run: bounds.Arithmetic, arguments: Mapping[str, Any], values: Values, given: Given
    ) -> dict[str, Any]:
        """Returns the largest error of each result, if another implementation computes it from the same arguments.

        Args:
            run: the arithmetic of the other implementation.
            arguments: as for `values`.
            values: the return value of `values`.
            given: as for `values`.

        Returns:
            value's name -> float64 array, or a list of arrays of the sequences. The error is infinite if there is no
            bound.
        """
        if self.is_of_op:
            found = self._limits_of_op(run, arguments, values, given)
        elif self.op == "update":
            found = dict(self._updated(arguments, run)[1])
            # Others multiply w by 1 - rate · decay, a rounded number, and round the product.
            found["updated"] = found["updated"] + 2.0 * run.u * np.abs(arguments["w"])
        elif self.op == "share":
            size = np.abs(arguments["weights"]) @ np.abs(arguments["losses"]) / max(arguments["denominator"], 1e-300)
            found = {"share": np.float64(run.gamma(len(arguments["losses"]) + 2) * size)}
        elif self.op in ("add", "sum"):
            size = sum(np.abs(value) for value in arguments.values())
            found = {self.value: run.gamma(len(arguments)) * size + len(arguments) * run.tiny}
        else:  # a copy, a product, or a norm, whose squares may be added up one after another
            terms = sum(gradient.size for gradient in gradients_in(arguments))
            terms += arguments["x"].size if arguments.get("clipnorm") is not None else 0
            found = {of: (4.0 + terms) * run.u * np.abs(value) + run.tiny for of, value in values.items()}
        if run.dtype == np.float64:  # what it is compared with is float64's, too
            found = {of: _times(one, 2.0) for of, one in found.items()}
        return found

    # --- an op of the model -------------------------------------------------------------------------------------------

    def _limits_of_op(
        self, run: bounds.Arithmetic, a: Mapping[str, Any], values: Values, given: Given
    ) -> dict[str, Any]:
        dy = a["dy"] if self.is_gradient else np.ones(np.shape(values["output"]))
        try:
            found: dict[str, Any] = bounds.of_values(run, self.op, PLAIN[self.op].positional(a), dy)
        except ValueError:  # nothing can be said of such scores, or of such an epsilon
            return {of: _like(value, np.inf) for of, value in values.items()}
        if self.is_gradient:
            found = {of[2:]: bound for of, bound in found.items() if of.startswith("d.")}
            if self.op in SCATTERED:  # dy was rounded as it was kept, which a sum of one or two terms shows
                every = PLAIN[self.op].gradients_of({**a, "dy": np.abs(dy)})
                found = {of: bound + run.u * every[of] for of, bound in found.items()}
            if self.op in SUMMED:
                found[SUMMED[self.op]] = found[SUMMED[self.op]] + run.u * np.abs(dy).sum(axis=0)
        if given:
            found = self._widened(run, a, values, given, found)
        if self.op == "embedding" and not self.is_gradient:  # others round rows as they round factors
            rows = {of: np.abs(values[of]) for of in ("of_tokens", "of_positions")}
            rows["output"] = rows["of_tokens"] + rows["of_positions"]
            found = dict(found) | {of: found[of] + 2.0 * run.factor_u * rows[of] for of in rows}
        if self.op in ("layer_norm", "add_norm"):
            found = self._of_other_norms(run, a, found)
        return found

    def _widened(
        self, run: bounds.Arithmetic, a: Mapping[str, Any], values: Values, given: Given, limits: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Returns the limits of values that were computed from given values inside the op.

        The given values may differ from those that the arguments give. In forward, the limit is at least the error of
        the single step. In backward, limits grow in proportion to the largest number.
        """
        if not self.is_gradient:
            of_steps = limits_of_steps(run, self.op, a, stages(self.op, a, given)[1])
            return dict(limits) | {of: _larger(limits[of], of_steps[of]) for of in of_steps if of in limits}
        plain = PLAIN[self.op].gradients_of(a)
        grown = {of: max(1.0, largest(values[of]) / max(largest(plain[of]), run.tiny)) for of in limits}
        return {of: _times(limit, grown[of]) for of, limit in limits.items()}

    def _of_other_norms(
        self, run: bounds.Arithmetic, a: Mapping[str, Any], limits: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The limits of a norm that may be computed as x / σ - mean / σ, as torch's is."""
        of_steps = limits_of_steps(run, self.op, a, PLAIN[self.op].values_of(a))
        if not self.is_gradient:
            return dict(limits) | {of: _larger(limits[of], of_steps[of]) for of in ("x_hat", "output")}
        return dict(limits) | {"gamma": limits["gamma"] + (np.abs(a["dy"]) * of_steps["x_hat"]).sum(axis=0)}

    # --- the update ---------------------------------------------------------------------------------------------------

    def _updated(
        self, arguments: Mapping[str, Any], run: bounds.Arithmetic | None = None
    ) -> tuple[Values, dict[str, Any]]:
        """Returns the parameter and its slots after the update, with bounds. For a user's optimizer they are NaN."""
        if self.optimizer.get("name") in optimizers.OPTIMIZERS and 0.0 <= float(arguments["rate"]) < np.inf:
            return updated(self.optimizer, arguments, run)
        shape = np.shape(arguments["w"])
        return {of: np.full(shape, np.nan) for of in self.of}, {of: np.full(shape, np.inf) for of in self.of}


# --- which tensor it is -----------------------------------------------------------------------------------------------


def call_of(name: str, entry: Entry) -> Call:
    """Returns the call that gave a tensor."""
    return Call(entry.step, entry.place, "" if is_copy(entry) else entry.op, is_in_backward(name, entry.step))


def is_copy(entry: Entry) -> bool:
    """Returns whether a tensor is the gradient of an op's result as the op before it in backward gave it. So the tensor
    has two names, and none of its own op's backward computes it.
    """
    return set(entry.inputs) == {"dy"}


def is_in_backward(name: str, step: int) -> bool:
    """Returns whether a tensor of the update with the number `step` is a gradient, before clipping."""
    return name.removeprefix(f"step_{step}.").startswith(("d.", "gradients."))


def is_gradient(name: str, entry: Entry) -> bool:
    """Returns whether a tensor is the gradient of an op's value or of an op's argument."""
    return name.removeprefix(f"step_{entry.step}.").startswith("d.") and entry.op in PLAIN


def is_of_op(entry: Entry) -> bool:
    """Returns whether a tensor was computed by an op of the model, from all of the op's arguments."""
    return entry.op in PLAIN and "denominator" not in entry.inputs and not is_copy(entry)


def value_of(name: str, entry: Entry) -> tuple[str, int | None]:
    """Returns the name of the value of its call that a tensor is. The second item is the number of the sequence, for a
    value of attention that exists per sequence, or else None.
    """
    last = name.rpartition(".")[2]
    return entry.value, int(last) if entry.op == "attention" and last.isdigit() else None


# --- after the model's last op ----------------------------------------------------------------------------------------


def updated(
    config: Mapping[str, Any], arguments: Mapping[str, Any], run: bounds.Arithmetic | None = None
) -> tuple[Values, dict[str, Any]]:
    """Returns the results of an optimizer's step for one parameter.

    Args:
        config: the config of the optimizer.
        arguments: `w`, `g`, the slots by name if they exist, `rate`, `decays` and `step`. Arrays have one shape.
        run: the arithmetic of the bounds, or None for infinite bounds.

    Returns:
        `updated` and the slots, as float64 arrays of the parameter's shape, and a bound for each. The bound is infinite
        if the optimizer does not use `adam_step`.
    """
    rate, shape = float(arguments["rate"]), np.shape(arguments["w"])
    kept = {of: value for of, value in config.items() if value is not None}
    limits = {of: value for of, value in NO_LIMITS.items() if of in config}
    optimizer = optimizers.from_config({**kept, **limits, "learning_rate": rate})
    w = arguments["w"].reshape(-1).astype(np.float64)
    slots = {of: np.array(arguments.get(of, np.zeros(shape)), np.float64).reshape(-1) for of in optimizer.slot_names}
    if "v_hat" in slots:  # of amsgrad, which makes two calls of `adam_step`: no bound is derived of these
        run = None
    for of in set(optimizer.non_negative) & set(slots):  # a moved one may be below 0
        np.maximum(slots[of], 0.0, out=slots[of])
    found: dict[str, Any] = {}

    def noted(w: Array, g: Array, m: Array, v: Array, *settings: Any) -> None:
        before = m.copy(), v.copy()
        made = bounds.adam_step(run, w, g, m, v, *settings[:-1]) if run else {}
        REFERENCE.adam_step(w, g, m, v, *settings)
        if run:
            more = _of_other_adams(run, arguments.get("step", 0) + 1, g, before, (m, v), *settings[:4])
            names = {"w": "updated", "m": "slots.m", "v": "slots.v"}
            found.update({name: made[of] + more[of] for of, name in names.items()})

    decay = rate * (optimizer.weight_decay or 0.0) if arguments.get("decays") else 0.0
    ops = replace(REFERENCE, adam_step=noted)
    gradient = arguments["g"].reshape(-1).astype(np.float64)
    optimizer.update_range(ops, rate, arguments.get("step", 0), w, gradient, slots, 1.0, decay, True)
    after = {**{f"slots.{of}": slot for of, slot in slots.items()}, "updated": w}
    values = {of: array.reshape(shape) for of, array in after.items()}
    return values, {of: found.get(of, np.full(w.size, np.inf)).reshape(shape) for of in values}


def _of_other_adams(
    run: bounds.Arithmetic,
    updates: int,
    g: Array,
    before: tuple[Array, Array],
    after: tuple[Array, Array],
    rate: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> dict[str, Array]:
    """Returns the additional errors of other implementations of Adam.

    Their moments are β·m + (1 - β)·g, with 1 - β and 1 - βᵗ computed in their arithmetic.

    Args:
        run: the arithmetic.
        updates: the number of updates t.
        g: the gradient.
        before: m and v before the update.
        after: m and v after the update.
        rate, beta_1, beta_2, epsilon: as for `adam_step`.
    """
    (m, v), (m_after, v_after) = before, after
    of_m = run.u * (3.0 * beta_1 * np.abs(m) + (3.0 - 2.0 * beta_1) * np.abs(g))
    of_v = run.u * (3.0 * beta_2 * v + (4.0 - 3.0 * beta_2) * g * g)
    root = np.sqrt(v_after)
    step = rate * np.abs(m_after) / (root + epsilon)
    powers = [(beta_1**updates, 1.0), (beta_2**updates, 0.5)]
    of_corrections = run.u * (4.0 + sum(share * updates * power / (1.0 - power) for power, share in powers if power))
    of_root = np.divide(of_v, 2.0 * root, out=np.zeros_like(root), where=root > 0.0)
    return {"m": of_m, "v": of_v, "w": (rate * of_m + step * of_root) / (root + epsilon) + step * of_corrections}


def _divided(x: Any, denominator: Any) -> Array:
    """x / denominator; 0 where nothing has a weight."""
    divided: Array = np.asarray(x / denominator if denominator else 0.0 * x)
    return divided


def gradients_in(arguments: Mapping[str, Any]) -> list[Array]:
    """Returns the gradients in the arguments of a norm of several gradients."""
    return [value for of, value in arguments.items() if of.isdigit()]


def _scale_of(arguments: Mapping[str, Any]) -> float:
    """The factor that brings all gradients down to the norm."""
    square = sum(float(np.square(gradient).sum()) for gradient in gradients_in(arguments))
    return float(REFERENCE.clip_scale(square, arguments["global_clipnorm"]))


def _clip(arguments: Mapping[str, Any]) -> Values:
    """A gradient after clipping."""
    x = arguments["x"]
    if arguments.get("clipvalue") is not None:
        return {"clipped": np.clip(x, -arguments["clipvalue"], arguments["clipvalue"])}
    if arguments.get("clipnorm") is not None:
        return {"clipped": x * REFERENCE.clip_scale(float(np.square(x).sum()), arguments["clipnorm"])}
    return {"clipped": x * arguments.get("scale", 1.0)}


def _backward(op: str, arguments: Mapping[str, Any], given: Given) -> Values:
    return PLAIN[op].gradients_of(arguments, stages(op, arguments, given)[1])


# --- limits of a value, which may be a list of each sequence's --------------------------------------------------------


def _larger(a: Any, b: Any) -> Any:
    if isinstance(a, list):
        return [np.fmax(one, other) for one, other in zip(a, b, strict=True)]
    return np.fmax(a, b)


def _times(limit: Any, factor: float) -> Any:
    return [factor * one for one in limit] if isinstance(limit, list) else factor * limit


def largest(value: Any) -> float:
    """Returns the largest magnitude in an array or a list of arrays; 0 if it has no number."""
    parts = value if isinstance(value, list) else [value]
    return max((float(np.abs(part).max(initial=0.0)) for part in parts), default=0.0)


def _like(value: Any, number: float) -> Any:
    if isinstance(value, list):
        return [np.full(np.shape(part), number) for part in value]
    return np.full(np.shape(value), number)
