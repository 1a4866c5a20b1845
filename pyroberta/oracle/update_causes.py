"""The known mistakes of other implementations after the model's last op: in the loss, its gradient, clipping and the
optimizer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.ops import REFERENCE
from pyroberta.oracle.calls import gradients_in, updated
from pyroberta.oracle.causes import Arguments, Cause
from pyroberta.oracle.golden import Entry, Trace
from pyroberta.oracle.plain import Values
from pyroberta.training import optimizers, schedules

EPSILONS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-12)
MOST_EPSILON = 1e-2  # with a larger one Adam's step is a multiple of the gradient, as other optimizers' is
CLOSE = 1e-5  # the largest relative difference of a factor and the ratio of two numbers that count as equal


def given(name: str, **values: Any) -> Cause:
    """Returns a cause whose values are already computed."""
    return Cause(name, lambda arguments: values)


# --- the loss ---------------------------------------------------------------------------------------------------------


def denominators(golden: Trace, step: int) -> dict[str, float]:
    """Returns the numbers by which an implementation may divide the losses: description -> number."""
    prefix, parts = _parts_of(golden, step)
    weights = [golden[f"{prefix}batch{part}.weights"] for part in parts]
    lengths = _lengths(golden, step)
    every = np.concatenate(lengths)
    found = {
        "1: they are summed": 1.0,
        "the sum of weights": float(sum(one.sum() for one in weights)),
        "the number of targets": float(sum(map(len, weights))),
        "the number of weights above 0": float(sum(map(np.count_nonzero, weights))),
        "the slots B·K": float(sum(golden[f"{prefix}batch.slots{part}"] for part in parts)),
        "the number of tokens": float(every.sum()),
        "the number of tokens with padding, B·S": float(every.max(initial=0) * len(every)),
        "the number of sequences": float(len(every)),
    }
    if len(parts) > 1:
        for number, one in enumerate(weights, 1):
            found[f"the sum of weights of only part {number}"] = float(one.sum())
            found[f"the sum of weights of part {number} times the number of parts: a mean of means"] = float(
                one.sum() * len(parts)
            )
    return _joined(found)


def _joined(numbers: Mapping[str, float]) -> dict[str, float]:
    """Those that are the same number under one name."""
    names: dict[float, list[str]] = {}
    for name, number in numbers.items():
        if number:
            names.setdefault(number, []).append(name)
    return {" or ".join(some): number for number, some in names.items()}


def named_denominator(golden: Trace, step: int, factor: float, unit: float, columns: int | None = None) -> str:
    """Returns the number by which the loss was probably divided, in words, or "" if none is known.

    Args:
        golden: the trace.
        step: the number of the update.
        factor: the factor of the whole gradient, compared with the expected one.
        unit: the relative rounding error of the gradient as it was stored.
        columns: S of the padded arrays of the other implementation, if known.
    """
    denominator = float(golden[f"step_{step}.loss.denominator" if step else "loss.denominator"])
    close, known = max(CLOSE, unit), denominators(golden, step)
    if columns is not None:
        known[f"the number of tokens with padding, B·S where S is {columns}"] = float(
            columns * sum(map(len, _lengths(golden, step)))
        )
    others = {name: n for name, n in known.items() if abs(denominator / n - 1.0) > close}
    names = [name for name, n in others.items() if abs(denominator / n / factor - 1.0) <= close]
    return f"losses are divided by {' or '.join(names)}, not by {denominator:g}" if names else ""


def denominator_causes(golden: Trace, step: int) -> Iterator[Cause]:
    """Yields mistakes in the denominator of the loss."""
    for name, number in (denominators(golden, step) | _rectangles(golden, step)).items():
        yield given(f"losses are divided by {name}", denominator=np.float64(number))


def _rectangles(golden: Trace, step: int) -> dict[str, float]:
    """The numbers of tokens with padding: of all parts up to one length, and of each part beyond its longest."""
    lengths = _lengths(golden, step)
    sizes, longest = [len(part) for part in lengths], [int(part.max(initial=0)) for part in lengths]
    most = len(golden[f"{_parts_of(golden, step)[0]}parameters.embeddings.position"])
    name = "the number of tokens with padding, B·S"
    found = {f"{name} where S is {S}": float(sum(sizes) * S) for S in range(max(longest) + 1, 2 * most + 1)}
    for more in range(most) if len(lengths) > 1 else ():
        total = sum(B * (S + more) for B, S in zip(sizes, longest, strict=True))
        found[f"{name} where S is each part's longest" + (f" and {more} more" if more else "")] = float(total)
    return found


def _parts_of(golden: Trace, step: int) -> tuple[str, list[str]]:
    """What the names of a step begin with, and how the names of its batches end."""
    prefix, parts = (f"step_{step}." if step else ""), [""]
    while f"{prefix}batch_{len(parts) + 1}.weights" in golden:
        parts.append(f"_{len(parts) + 1}")
    return prefix, parts


def _lengths(golden: Trace, step: int) -> list[Array]:
    """The numbers of tokens of the sequences of each part."""
    prefix, parts = _parts_of(golden, step)
    return [np.diff(golden[f"{prefix}batch{part}.starts"]) for part in parts]


def share_causes(golden: Trace, step: int, arguments: Arguments) -> Iterator[Cause]:
    """Yields mistakes in a part's share of the loss, weights @ losses / denominator.

    Args:
        golden: the trace.
        step: the number of the update.
        arguments: `weights` (M,) and `losses` (M,).
    """
    total, plain = arguments["weights"] @ arguments["losses"], arguments["losses"].sum()
    has_weights = bool((arguments["weights"] != 1.0).any())
    for name, number in denominators(golden, step).items():
        yield given(f"losses are divided by {name}", share=total / number)
        if has_weights:
            yield given(f"the weights are ignored, and losses are divided by {name}", share=plain / number)


# --- sums and clipping ------------------------------------------------------------------------------------------------


def sum_causes(golden: Trace, entry: Entry, arguments: Arguments) -> Iterator[Cause]:
    """Yields mistakes in a sum of gradients: a term that is missing or added twice, or a mean instead of the sum."""
    terms, names = list(arguments.values()), entry.inputs
    if len(terms) < 2:
        return

    def cause(name: str, value: Array) -> Cause:
        return given(name, output=value, gradients=value)

    total: Array = np.sum(terms, axis=0)
    for of, term in arguments.items():
        through = ", the gradient that comes through the residual," if names[of].endswith("norm.x") else ""
        yield cause(f"{names[of]}{through} is missing", total - term)
        yield cause(f"{names[of]}{through} is added twice", total + term)
    yield cause(f"it is the mean of its terms, not their sum: 1 / {len(terms)} of it", total / len(terms))
    prefix, parts = _parts_of(golden, entry.step)
    if len(parts) > 1:
        denominator = float(golden[f"{prefix}loss.denominator"])
        of_parts = [float(golden[f"{prefix}batch{part}.weights"].sum()) * len(parts) for part in parts]
        ends = [
            next((i for i, part in enumerate(parts) if part and re.search(rf"{part}\.", names[of])), 0)
            for of in arguments
        ]
        means = [denominator / of_parts[i] * term for i, term in zip(ends, terms, strict=True) if of_parts[i]]
        yield cause("each part's loss is divided by its own weights: a mean of means", np.sum(means, axis=0))


def clip_causes(arguments: Arguments, others: Mapping[str, Any]) -> Iterator[Cause]:
    """Yields mistakes in the clipping of a gradient.

    Args:
        arguments: the gradient `x`, and `scale` with a global norm.
        others: `clipvalue`, `clipnorm` and `global_clipnorm`; a number or None.
    """
    x, scale = arguments["x"], arguments.get("scale", 1.0)
    limit = next((others[of] for of in ("global_clipnorm", "clipnorm", "clipvalue") if others.get(of)), None)
    if limit is None:
        return
    alone = REFERENCE.clip_scale(float(np.square(x).sum()), limit)
    yield given("the gradient is not clipped", clipped=x)
    yield given("each parameter's gradient is clipped by its own norm", clipped=x * alone)
    yield given("each number is clipped, not the norm", clipped=np.clip(x, -limit, limit))
    yield given("it is clipped twice", clipped=x * scale * scale)


def clip_of_parts(golden: Trace, name: str, step: int) -> Iterator[Cause]:
    """Yields the mistake that each part's gradient is clipped before they are added up. The gradients of the parts are
    those of the trace.
    """
    prefix, limit = (f"step_{step}." if step else ""), golden.settings["optimizer"].get("global_clipnorm")
    every = [one for one in golden if one.startswith(f"{prefix}gradients.")]
    if limit is None or not any(re.search(r"_2$", entry.place) for entry in golden.entries.values()):
        return

    def of_parts(gradient: str) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for term in golden.entries[gradient].inputs.values():
            part = re.search(r"_(\d+)$", golden.entries[term].place)
            number = part.group(1) if part else "1"
            found[number] = found.get(number, 0.0) + golden[term]
        return found

    squares: dict[str, float] = {}
    for gradient in every:
        for number, value in of_parts(gradient).items():
            squares[number] = squares.get(number, 0.0) + float(np.square(value).sum())
    parts = of_parts(f"{prefix}gradients.{name}")
    value = sum(part * REFERENCE.clip_scale(squares[number], limit) for number, part in parts.items())
    yield given("each part's gradient is clipped before they are added", clipped=value)


def scale_causes(arguments: Arguments, others: Mapping[str, Any]) -> Iterator[Cause]:
    """Yields mistakes in the factor that scales all gradients down to a norm."""
    limit, every = others["global_clipnorm"], gradients_in(arguments)
    norm = float(np.sqrt(sum(float(np.square(one).sum()) for one in every)))
    if not 0.0 < norm < np.inf:
        return
    yield given("gradients are not clipped", scale=np.float64(1.0))
    yield given("1e-6 is added to the norm, as in torch", scale=np.float64(min(1.0, limit / (norm + 1e-6))))
    yield given("gradients with a smaller norm are scaled up to global_clipnorm", scale=np.float64(limit / norm))


# --- the optimizer ----------------------------------------------------------------------------------------------------

# Of an optimizer, with decay or without, the one that adds epsilon on the other side of the correction.
OTHER_SIDE = {
    ("adam", False): "torchadam", ("adam", True): "torchadamw", ("adamw", False): "torchadamw",
    ("adamw", True): "torchadamw", ("torchadam", False): "adam", ("torchadamw", False): "adamw",
    ("torchadamw", True): "adamw",
}  # fmt: skip


def update_causes(golden: Trace, arguments: Arguments) -> Iterator[Cause]:
    """Yields mistakes in the update of a parameter.

    Args:
        golden: the trace.
        arguments: `w`, `g`, the slots, `rate`, `decays` and `step`, as for `calls.updated`.
    """
    config = dict(golden.settings["optimizer"])
    w, g, step, rate = arguments["w"], arguments["g"], arguments.get("step", 0), arguments["rate"]

    def cause(name: str, changes: Mapping[str, Any] | None = None, **given: Any) -> Cause:
        return _otherwise(name, config, changes or {}, arguments, given)

    decay = float(config.get("weight_decay") or 0.0)
    other = OTHER_SIDE.get((config["name"], decay > 0.0))
    if other is not None:
        root = (
            "the bias-corrected root of v"
            if config["name"].startswith("adam")
            else "the root of v without bias correction"
        )
        yield cause(f"epsilon is added to {root}", {"name": other})
    if decay:
        decays = bool(arguments.get("decays"))
        yield cause("the decay is left out" if decays else "the parameter decays, and should not", decays=not decays)
        coupled = cause("the decay is added to the gradient, not to the step", g=g + decay * w, decays=False)
        yield coupled

        def by_itself(a: Arguments) -> Values:
            made = updated(config, {**arguments, "decays": False})[0]
            return made | {"updated": made["updated"] - decay * w}

        yield Cause("the decay is not multiplied by the learning rate", by_itself)

        def afterwards(a: Arguments) -> Values:
            made = updated(config, {**arguments, "decays": False})[0]
            return made | {"updated": made["updated"] * (1.0 - rate * decay)}

        yield Cause("the decay comes after the step", afterwards)
    if "beta_1" in config:
        yield Cause("the moments are not corrected for their bias", partial(_uncorrected, config, arguments))
        yield Cause("epsilon is inside the root", partial(_inside_the_root, config, arguments))
        yield cause("the bias correction counts one update too many", step=step + 1)
        if step:
            yield cause("the bias correction counts one update too few", step=step - 1)
        for epsilon in EPSILONS:
            yield cause(f"epsilon is {epsilon:g}", {"epsilon": epsilon})
        for epsilon in EPSILONS if other is not None else ():
            if epsilon == config["epsilon"]:
                continue
            yield cause(f"epsilon is {epsilon:g}, added to {root}", {"name": other, "epsilon": epsilon})
        for beta in (0.0, 0.5, 0.8, 0.95, 0.99):
            yield cause(f"beta_1 is {beta:g}", {"beta_1": beta})
        for beta in (0.9, 0.95, 0.98, 0.99, 0.999):
            yield cause(f"beta_2 is {beta:g}", {"beta_2": beta})
    yield cause("the gradient has the wrong sign", g=-g)
    schedule = config.get("learning_rate")
    if isinstance(schedule, Mapping):
        of_step = schedules.from_config(dict(schedule))
        for off in (-1, 1):
            if step + off >= 0 and (moved := float(of_step(step + off))) >= 0.0:
                yield cause(f"the learning rate is that of update {step + off}, not {step}", rate=np.float64(moved))


def _uncorrected(config: Mapping[str, Any], arguments: Arguments, a: Arguments) -> Values:
    """Adam's step with c_1 = c_2 = 1; many updates in, both are."""
    return updated(config, {**arguments, "step": 10**9})[0]


def _otherwise(
    name: str, config: Mapping[str, Any], changes: Mapping[str, Any], arguments: Arguments, given: Arguments
) -> Cause:
    """An update with another setting, or other arguments."""
    return Cause(name, lambda a: updated({**config, **changes}, {**arguments, **given})[0])


def of_inferred_epsilon(golden: Trace, arguments: Arguments, theirs: Array) -> Iterator[Cause]:
    """Yields an update with the epsilon that follows from the updated parameter. It is computed from the numbers with
    the smallest v, where epsilon has the largest effect.
    """
    config = dict(golden.settings["optimizer"])
    if "beta_1" not in config or config.get("name") not in optimizers.OPTIMIZERS:
        return
    without, none = (updated({**config, "epsilon": epsilon}, arguments)[0] for epsilon in (1e-30, 1e30))
    full, step = none["updated"] - without["updated"], none["updated"] - theirs
    with np.errstate(all="ignore"):  # the step is full · √v̂ / (√v̂ + ε)
        root = np.sqrt(without["slots.v"])
        found = (full / step - 1.0) * root
    some = np.argsort(root, axis=None)[: max(1, root.size // 8)]
    epsilon = np.median(found.reshape(-1)[some])
    if config["name"] in ("torchadam", "torchadamw"):  # it is added to the corrected root
        epsilon = epsilon / np.sqrt(1.0 - config["beta_2"] ** (arguments.get("step", 0) + 1))
    if 0.0 < epsilon < MOST_EPSILON:
        yield _otherwise(f"epsilon is {epsilon:.3g}", config, {"epsilon": float(epsilon)}, arguments, {})


def _inside_the_root(config: Mapping[str, Any], arguments: Arguments, a: Arguments) -> Values:
    """A step of m̂ / √(v̂ + ε)."""
    made = updated(config, arguments)[0]
    updates, rate = arguments.get("step", 0) + 1, float(arguments["rate"])
    m, v = (made[f"slots.{of}"] / (1.0 - config[beta] ** updates) for of, beta in (("m", "beta_1"), ("v", "beta_2")))
    decay = rate * float(config.get("weight_decay") or 0.0) if arguments.get("decays") else 0.0
    return made | {"updated": arguments["w"] * (1.0 - decay) - rate * m / np.sqrt(v + config["epsilon"])}


def rate_causes(golden: Trace, step: int) -> Iterator[Cause]:
    """Yields mistakes in the learning rate: the rate of the update before or after."""
    schedule = golden.settings["optimizer"].get("learning_rate")
    if isinstance(schedule, Mapping):
        of_step = schedules.from_config(dict(schedule))
        for off in (-1, 1):
            if step + off >= 0:
                rate = np.float64(of_step(step + off))
                yield given(f"the learning rate is that of update {step + off}, not {step}", learning_rate=rate)
