"""Cases of losses, optimizers and schedules."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.model.parameters import Arrays
from pyroberta.oracle import bounds, meanings
from pyroberta.oracle.conformance.case import Case, Expected, Means
from pyroberta.oracle.conformance.drawing import Draw
from pyroberta.oracle.conformance.sampled import sampled
from pyroberta.oracle.plain import Values
from pyroberta.training import losses, optimizers, schedules

# --- losses -----------------------------------------------------------------------------------------------------------

B, K, V = 3, 4, 7
FORMULAS = {
    "losses": "-log softmax(logits)[label] of each label",
    "loss": "Σ weights · losses / denominator; 0 where the denominator is 0",
    "denominator": "sum: 1; mean_with_sample_weight: Σ weights; else the number of labels",
    "d.logits": "weights / denominator · (softmax(logits) - one_hot(label))",
}
WEIGHTS: Mapping[str, tuple[str, Any]] = {
    "ones": ("", lambda d: np.ones((B, K))),
    "padded": ("0 for slots that are not used", lambda d: np.arange(K) < np.array([[4], [1], [2]])),
    "all_zero": ("nothing counts", lambda d: np.zeros((B, K))),
    "one_alone": ("one label counts", lambda d: np.arange(B * K).reshape(B, K) == 5),
    "fractions": ("no whole numbers", lambda d: d.uniform(B, K)),
    "huge": ("of 1e30", lambda d: 1e30 * d.uniform(B, K)),
    "tiny": ("of 1e-30", lambda d: 1e-30 * d.uniform(B, K)),
    "mixed": ("from 1e-6 to 1e6", lambda d: 10.0 ** (12.0 * d.uniform(B, K) - 6.0)),
}
REDUCTIONS = ("mean_with_sample_weight", "sum_over_batch_size", "sum")
LOGITS: Mapping[str, tuple[str, float]] = {
    "large_logits": ("of some 300", 300.0), "equal_logits": ("0", 0.0), "small_logits": ("of 1e-6", 1e-6),
}  # fmt: skip


def loss_cases(seed: int) -> Iterator[Case]:
    """Yields the cases of the kind loss: each reduction with each kind of weights, and extreme logits and
    probabilities.
    """

    def case(variant: str, note: str, draw: Draw, weights: Array, scale: float, **config: Any) -> Case:
        loss = losses.SparseCategoricalCrossentropy(**{"from_logits": True, **config})
        name = loss.name
        x = draw.normal(B, K, V, scale=scale)
        if not loss.from_logits:
            p = np.exp(x.astype(np.float64))
            p[0, 0], p[0, 1] = [1.0, *[0.0] * (V - 1)], 0.25  # sure, and not summing to 1
            x = p.astype(np.float32)
        labels = draw.whole(V, B, K)
        if loss.ignore_class is not None:
            labels[1, 2] = labels[2] = loss.ignore_class
        inputs = {"logits" if loss.from_logits else "probabilities": x, "labels": labels}
        inputs["weights"] = np.asarray(weights, np.float32)
        return Case(f"loss/{name}/{variant}", note, "numerics.md", loss.get_config(), FORMULAS, inputs)

    for variant, (note, weights) in WEIGHTS.items():
        for reduction in REDUCTIONS:
            draw = Draw(seed, f"loss/{variant}/{reduction}")
            of_weights = f"weights {note}".strip() if note else ""
            yield case(f"{variant}_{reduction}", of_weights, draw, weights(draw), 1.0, reduction=reduction)
    ones, usual = np.ones((B, K)), "mean_with_sample_weight"
    for variant, (note, scale) in LOGITS.items():
        yield case(variant, f"logits {note}", Draw(seed, variant), ones, scale, reduction=usual)
    yield case("unreduced", "a loss for each label", Draw(seed, "loss/none"), ones, 1.0, reduction=None)
    draw = Draw(seed, "loss/ignored")
    yield case("ignored", "labels that don't count", draw, draw.uniform(B, K), 1.0, reduction="mean", ignore_class=-1)
    note = "probabilities, which are divided by their sum and kept within [1e-7, 1 - 1e-7]"
    yield case("probabilities", note, Draw(seed, "loss/p"), ones, 1.0, reduction=usual, from_logits=False)


def loss_answer(case: Case, means: Means) -> Values:
    """Returns the loss, as its class computes it, and the losses and the gradient of the logits, as the ops compute
    them.
    """
    ops, dtype, _ = means
    loss, labels, weights = _loss(case), case.inputs["labels"], case.input("weights", dtype)
    predictions = case.input("logits" if loss.from_logits else "probabilities", dtype)
    found: Values = {"loss": np.asarray(loss(labels, predictions, weights))}
    if not loss.from_logits or loss.reduction is None:
        return found
    counted, denominator = _counted(case, dtype)
    is_kept = (labels != loss.ignore_class).reshape(-1)
    rows, some = predictions.reshape(-1, V)[is_kept], labels.reshape(-1)[is_kept]
    table, bias = np.eye(V, dtype=dtype), np.zeros(V, dtype)  # the logits themselves
    (each, _), cache = ops.cross_entropy_forward(rows, table, bias, some)
    share = counted.reshape(-1)[is_kept] / denominator if denominator else np.zeros(len(rows), dtype)
    dlogits, values = np.zeros((B * K, V), dtype), np.zeros(B * K, dtype)
    dlogits[is_kept], values[is_kept] = ops.cross_entropy_backward(share.astype(dtype), cache)[0], each
    return {**found, "losses": values.reshape(B, K), "d.logits": dlogits.reshape(B, K, V)}


def loss_expected(case: Case, means: Means, precision: str) -> Expected:
    """Returns the values in float64 with bounds. Each loss and each gradient has the op's bound. The bound of the sum
    adds the roundings of its terms.
    """
    values, run, loss = loss_answer(case, means), bounds.Arithmetic(precision), _loss(case)
    counted, denominator = _counted(case, np.float64)
    n, of_share = B * K, run.gamma(B * K + 2)  # of a weight as a share of the denominator
    if not loss.from_logits:
        return Expected(values, {"loss": _of_probabilities(run, case) / n})
    labels = np.where(case.inputs["labels"] == loss.ignore_class, 0, case.inputs["labels"])
    logits, each, of_gradients = case.input("logits", np.float64), np.zeros((B, K)), np.zeros((B, K, V))
    for at in np.ndindex(B, K):  # a row of logits is the table of one number
        share = np.array([counted[at] / denominator if denominator else 0.0])
        table, inner = logits[at][:, None], bounds.Inner()
        found = bounds.cross_entropy(run, np.ones((1, 1)), table, np.zeros(V), labels[at][None], dy=share, inner=inner)
        each[at], of_gradients[at] = found["losses"][0], inner["dlogits"][0]
    if loss.reduction is None:
        size = np.abs(values["loss"])
        return Expected(values, {"loss": np.abs(counted) * each + run.gamma(1.0) * size + run.tiny})
    size = np.abs(counted) * np.abs(values["losses"])
    total = (np.abs(counted) * each).sum() + of_share * size.sum() + n * run.tiny
    limits = {"losses": each, "d.logits": of_gradients + of_share * np.abs(values["d.logits"]) + run.tiny}
    limits["loss"] = np.asarray(total / denominator * (1.0 + of_share) + run.tiny if denominator else 0.0)
    return Expected(values, limits, ["losses"])


def _loss(case: Case) -> losses.SparseCategoricalCrossentropy:
    config = dict(case.settings)
    return losses.LOSSES[config["name"]](**config)


def _counted(case: Case, dtype: Any) -> tuple[Array, float]:
    """The weights, 0 for labels that don't count, and the denominator."""
    loss, labels = _loss(case), case.inputs["labels"]
    is_kept = labels != loss.ignore_class
    weights: Array = case.input("weights", dtype) * is_kept
    if loss.reduction is None:
        return weights, 1.0
    return weights, loss.denominator(float(weights.sum(dtype=np.float64)), float(is_kept.sum()))


def _of_probabilities(run: bounds.Arithmetic, case: Case) -> Array:
    """The sum of the errors of -log p: a sum, a quotient, and the logarithm."""
    p = case.input("probabilities", np.float64)
    share = p / p.sum(axis=-1, keepdims=True)
    of_label = np.take_along_axis(share, case.inputs["labels"][..., None].astype(np.int64), -1)[..., 0]
    size = np.abs(np.log(np.clip(of_label, losses.KERAS_EPSILON, 1.0 - losses.KERAS_EPSILON)))
    # 1 - 1e-7 is rounded, and so is 1e-7
    each = run.gamma(V + 2) * 1.01 + run.gamma(bounds.LOG + B * K) * (size + 1e-6) + 2.0 * run.u
    return np.asarray(each.sum())


# --- schedules --------------------------------------------------------------------------------------------------------

SCHEDULES: Mapping[str, Mapping[str, Any]] = {
    "constant": {"plain": {}, "warmed_up": {"warmup_steps": 7}},
    "linear": {
        "plain": {"total_steps": 50}, "warmed_up": {"total_steps": 50, "warmup_steps": 7},
        "to_an_end": {"total_steps": 33, "warmup_steps": 3, "end_learning_rate": 1e-5},
        "one_step": {"total_steps": 1},
    },
    "cosine": {
        "plain": {"total_steps": 50}, "warmed_up": {"total_steps": 50, "warmup_steps": 7},
        "to_an_end": {"total_steps": 33, "warmup_steps": 3, "end_learning_rate": 1e-5},
    },
    "polynomial": {
        "plain": {"total_steps": 50}, "warmed_up": {"total_steps": 50, "warmup_steps": 7},
        "squared": {"total_steps": 40, "warmup_steps": 4, "power": 2.0, "end_learning_rate": 1e-6},
        "root": {"total_steps": 40, "power": 0.5},
    },
}  # fmt: skip


def schedule_cases() -> Iterator[Case]:
    """Yields the cases of the kind schedule: each schedule at every step, and after its end."""
    formulas = {
        "rates": "end + (peak - end) · left(progress), progress = (step - warmup) / (total - warmup); before, "
        "peak · step / warmup"
    }
    for name, variants in SCHEDULES.items():
        for variant, arguments in variants.items():
            schedule = schedules.SCHEDULES[name](learning_rate=1e-3, **arguments)
            steps = np.array([*range(60), 100, 10_000], np.int32)
            left = (schedules.SCHEDULES[name].__doc__ or "").split("\n")[0]
            yield Case(
                f"schedule/{name}/{variant}", left, "index.md", schedule.get_config(), formulas, {"steps": steps}
            )


def schedule_answer(case: Case, means: Means) -> Values:
    """Returns the learning rates (steps,), float64."""
    schedule = schedules.from_config(dict(case.settings))
    return {"rates": np.array([schedule(int(step)) for step in case.inputs["steps"]])}


def schedule_expected(case: Case, means: Means, precision: str) -> Expected:
    """Returns the learning rates with bounds. The progress is rounded twice, and the remaining share changes with it.
    The share, two products and a sum are rounded too.
    """
    run, schedule = bounds.Arithmetic(precision), schedules.from_config(dict(case.settings))
    values = schedule_answer(case, means)
    peak, end = schedule.learning_rate, getattr(schedule, "end_learning_rate", 0.0)
    of_left = np.zeros(len(values["rates"]))
    if not isinstance(schedule, schedules.Constant):
        warmup, total = schedule.warmup_steps, schedule.total_steps
        for i, step in enumerate(case.inputs["steps"].tolist()):
            progress = min(1.0, max(0.0, (step - warmup) / (total - warmup)))
            near = [min(1.0, max(0.0, progress + sign * run.gamma(4.0))) for sign in (-1.0, 1.0)]
            of_left[i] = max(abs(schedule.left(at) - schedule.left(progress)) for at in near)
            of_left[i] += run.gamma(2.0 * math.pi + 4.0) * 1.0
    return Expected(values, {"rates": abs(peak - end) * of_left + run.gamma(6.0) * (peak + end)})


# --- optimizers -------------------------------------------------------------------------------------------------------

LAYOUT = {"dense.kernel": (3, 5), "dense.bias": (5,), "norm.gamma": (5,)}
STEPS = 4
OPTIMIZERS: Mapping[str, Mapping[str, Any]] = {
    "defaults": {},
    "betas": {"beta_1": 0.5, "beta_2": 0.75},
    "large_epsilon": {"epsilon": 0.5},
    "clipnorm": {"clipnorm": 0.5},
    "clipvalue": {"clipvalue": 0.25},
    "global_clipnorm": {"global_clipnorm": 1.0},
    "not_clipped": {"global_clipnorm": 1e6},
    "scheduled": {"learning_rate": {"name": "linear", "learning_rate": 0.1, "total_steps": 8, "warmup_steps": 2}},
}
GRADIENTS: Mapping[str, float] = {"small_gradients": 1e-12, "large_gradients": 1e12}
DESCRIPTIONS = {
    "not_clipped": "a limit that is never reached", "zero_gradients": "gradients of 0: weights decay, or stay",
    "small_gradients": "gradients of 1e-12, beside which epsilon counts", "large_gradients": "gradients of 1e12",
}  # fmt: skip


def optimizer_cases(seed: int) -> Iterator[Case]:
    """Yields the cases of the kind optimizer: each optimizer with each setting, for some steps."""
    for name, optimizer in optimizers.OPTIMIZERS.items():
        variants = dict(OPTIMIZERS)
        if optimizer().weight_decay is not None or name == "adam":
            variants["decay"] = {"weight_decay": 0.1}
            variants["decay_and_clipping"] = {"weight_decay": 0.1, "global_clipnorm": 0.5}
            variants["decay_of_all"] = {"weight_decay": 0.1, "exclude_from_weight_decay": []}
            variants["decay_of_some"] = {"weight_decay": 0.1, "exclude_from_weight_decay": ["bias$"]}
        for variant, arguments in variants.items():
            yield _optimizer_case(seed, name, variant, arguments, 1.0)
        for variant, scale in {**GRADIENTS, "zero_gradients": 0.0}.items():
            yield _optimizer_case(seed, name, variant, {}, scale)


def _optimizer_case(seed: int, name: str, variant: str, arguments: Mapping[str, Any], scale: float) -> Case:
    draw = Draw(seed, f"optimizer/{name}/{variant}")
    optimizer = optimizers.from_config({"name": name, "learning_rate": 0.01, **arguments})
    inputs = {f"parameters.{of}": draw.normal(*shape) for of, shape in LAYOUT.items()}
    for step in range(STEPS):
        inputs |= {f"gradients.{step}.{of}": draw.normal(*shape, scale=scale) for of, shape in LAYOUT.items()}
    decays = {of: bool(optimizer.weight_decay) and optimizer.decays(of) for of in LAYOUT}
    settings = {"steps": STEPS, "config": optimizer.get_config(), "decays": decays}
    formulas = {**meanings.MOMENTS, "parameters": meanings.step_of(optimizers.OPTIMIZERS[name])}
    return Case(f"optimizer/{name}/{variant}", DESCRIPTIONS.get(variant, ""), "ops/adam.md", settings, formulas, inputs)


def optimizer_answer(case: Case, means: Means) -> Values:
    """Returns the parameters and slots after each step."""
    ops, dtype, _ = means
    optimizer = optimizers.from_config(case.settings["config"])
    params, grads = (Arrays(LAYOUT, dtype, ops) for _ in range(2))
    for of in LAYOUT:
        params[of][...] = case.inputs[f"parameters.{of}"]
    found: Values = {}
    for step in range(case.settings["steps"]):
        for of in LAYOUT:
            grads[of][...] = case.inputs[f"gradients.{step}.{of}"]
        optimizer.apply(params, grads, list(LAYOUT), ops)
        for kind, arrays in {"parameters": params, **optimizer.slots}.items():
            found |= {f"{kind}.{step}.{of}": array.copy() for of, array in arrays.items()}
    return found


def optimizer_expected(case: Case, means: Means, precision: str) -> Expected:
    """Returns the parameters and slots with sampled bounds. The slots may be left out."""
    values, limits = sampled(lambda ops: optimizer_answer(case, means._replace(ops=ops)), precision)
    return Expected(values, limits, [of for of in values if not of.startswith("parameters.")])
