"""Computes the values of an op one after the other, so that given values can replace computed ones.

`limits` gives the largest rounding error of each such step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.ops.gelu import erf
from pyroberta.oracle.bounds import Arithmetic, of_values
from pyroberta.oracle.plain import PLAIN, Values

Given = Mapping[str, Any]  # by the value's name; of attention's values a dict by the sequence's number
Stage = Callable[[Mapping[str, Any], Values], Any]


def stages(op: str, arguments: Mapping[str, Any], given: Given) -> tuple[Values, Values]:
    """Returns two dicts of the op's values: the expected ones, and those that later steps take.

    Each value is computed from the arguments and from the values before it. A given value replaces the computed one in
    the second dict. Without given values both are the result of the plain op's forward.

    Args:
        op: the name of the op.
        arguments: the arguments of the op, by name.
        given: value's name -> float64 array. A value of attention that exists per sequence has a dict from the number
            of the sequence to its array.

    >>> a = {"x": np.ones((1, 2)), "a": np.ones((2, 1)), "b": np.ones((1, 1)), "scale": 1.0}
    >>> expected, taken = stages("low_rank", a, {"projected": np.array([[5.0]])})
    >>> float(expected["projected"][0, 0]), float(taken["projected"][0, 0]), float(expected["output"][0, 0])
    (2.0, 5.0, 5.0)
    """
    plain = PLAIN[op].values_of(arguments)
    if not given:
        return plain, plain
    expected: Values = {}
    taken: Values = {}
    for name, value in plain.items():
        stage = STAGES.get((op, name))
        expected[name] = stage(arguments, taken | {"keep": plain.get("keep")}) if stage else value
        taken[name] = _merged(expected[name], given.get(name))
    return expected, taken


def _merged(value: Any, given: Any) -> Any:
    if given is None:
        return value
    if isinstance(value, list):
        return [given.get(b, part) for b, part in enumerate(value)]
    return given


def _normed(a: Mapping[str, Any], v: Values, x: Array) -> Array:
    normed: Array = (x - v["mean"][:, None]) / np.sqrt(v["variance"] + a["epsilon"])[:, None]
    return normed


def _cdf(x: Array) -> Array:
    cdf: Array = 0.5 * (1.0 + erf(x / math.sqrt(2.0)))
    return cdf


def _softmax(scores: Sequence[Array]) -> list[Array]:
    with np.errstate(all="ignore"):
        weights = [np.exp(s - s.max(axis=2, keepdims=True, initial=-np.inf)) for s in scores]
    return [w / w.sum(axis=2, keepdims=True) for w in weights]


def context_of(a: Mapping[str, Any], dropped: Sequence[Array]) -> Array:
    """Returns the context (N, C) of attention.

    Args:
        a: the arguments of attention, by name.
        dropped: the probabilities after dropout, (H, S, S) for each sequence.
    """
    H, D = a["num_heads"], a["q"].shape[1] // a["num_heads"]
    output: Array = np.zeros_like(a["q"])
    for p, (start, stop) in zip(dropped, pairwise(a["starts"].tolist()), strict=True):
        v = a["v"][start:stop].reshape(stop - start, H, D).transpose(1, 0, 2)
        output[start:stop] = (p @ v).transpose(1, 0, 2).reshape(stop - start, H * D)
    return output


def _variance(x: Array, mean: Array) -> Array:
    variance: Array = ((x - mean[:, None]) ** 2).mean(axis=1)
    return variance


# Those that look at a value before them; the others look at the arguments alone.
STAGES: dict[tuple[str, str], Stage] = {
    ("embedding", "output"): lambda a, v: v["of_tokens"] + v["of_positions"],
    ("low_rank", "output"): lambda a, v: a["scale"] * (v["projected"] @ a["b"]),
    ("gelu", "output"): lambda a, v: a["x"] * v["cdf"],
    ("feed_forward", "activation"): lambda a, v: v["intermediate"] * _cdf(v["intermediate"]),
    ("feed_forward", "output"): lambda a, v: v["activation"] @ a["kernel_2"] + a["bias_2"],
    ("layer_norm", "variance"): lambda a, v: _variance(a["x"], v["mean"]),
    ("layer_norm", "x_hat"): lambda a, v: _normed(a, v, a["x"]),
    ("layer_norm", "output"): lambda a, v: a["gamma"] * v["x_hat"] + a["beta"],
    ("add_norm", "sum"): lambda a, v: a["x"] + v["dropped"],
    ("add_norm", "mean"): lambda a, v: v["sum"].mean(axis=1),
    ("add_norm", "variance"): lambda a, v: _variance(v["sum"], v["mean"]),
    ("add_norm", "x_hat"): lambda a, v: _normed(a, v, v["sum"]),
    ("add_norm", "output"): lambda a, v: a["gamma"] * v["x_hat"] + a["beta"],
    ("attention", "probabilities"): lambda a, v: _softmax(v["scores"]),
    ("attention", "dropped"): lambda a, v: [
        p * keep / (1.0 - a["rate"]) for p, keep in zip(v["probabilities"], v["keep"], strict=True)
    ],
    ("attention", "output"): lambda a, v: context_of(a, v["dropped"]),
    ("cross_entropy", "log_sums"): lambda a, v: _log_sums(v["logits"]),
    ("cross_entropy", "output"): lambda a, v: v["log_sums"] - v["logits"][np.arange(len(a["h"])), a["labels"]],
}


def _log_sums(logits: Array) -> Array:
    top = logits.max(axis=1)
    log_sums: Array = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return log_sums


# --- what one step may lose -------------------------------------------------------------------------------------------

Limit = Callable[[Arithmetic, Mapping[str, Any], Values], Any]


def limits(run: Arithmetic, op: str, arguments: Mapping[str, Any], taken: Values) -> dict[str, Any]:
    """Returns the largest rounding error of the single step to each value that is computed from an earlier value.

    Args:
        run: the arithmetic.
        op: the name of the op.
        arguments: the arguments of the op, by name.
        taken: the second dict that `stages` returned.

    Returns:
        value's name -> float64 array of the value's shape, or a list of arrays, in the order of `STAGES`.
    """
    return {name: limit(run, arguments, taken) for (of, name), limit in LIMITS.items() if of == op}


def _of_dot(run: Arithmetic, a: Array, b: Array) -> Array:
    """Of a product of matrices: its factors are rounded where the arithmetic rounds them, and its sums."""
    lost: Array = (run.gamma(a.shape[-1] + 2) + 3.0 * run.factor_u) * (np.abs(a) @ np.abs(b)) + run.tiny
    return lost


def _of_normed(run: Arithmetic, a: Mapping[str, Any], v: Values, x: Array) -> Array:
    """Of (x - mean) / √(variance + epsilon), also where it is computed as x / √… - mean / √…."""
    scale = 1.0 / np.sqrt(v["variance"] + a["epsilon"])
    lost: Array = run.gamma(8) * (np.abs(x) + np.abs(v["mean"])[:, None]) * scale[:, None] + run.tiny
    return lost


def _of_norm(run: Arithmetic, a: Mapping[str, Any], v: Values, x: Array) -> Array:
    lost: Array = np.abs(a["gamma"]) * _of_normed(run, a, v, x) + run.gamma(4) * (
        np.abs(a["gamma"] * v["x_hat"]) + np.abs(a["beta"])
    )
    return lost


def _of_variance(run: Arithmetic, x: Array, mean: Array) -> Array:
    lost: Array = run.gamma(x.shape[1] + 8) * _variance(x, mean) + run.tiny
    return lost


def _of_softmax(run: Arithmetic, scores: Sequence[Array]) -> list[Array]:
    with np.errstate(all="ignore"):
        below = [np.abs(s - s.max(axis=2, keepdims=True, initial=-np.inf)) for s in scores]
    pairs = zip(_softmax(scores), below, strict=True)
    return [
        p * (run.gamma(p.shape[2] + 8) + 4.0 * run.u * (b + b.max(axis=2, keepdims=True, initial=0.0)))
        for p, b in pairs
    ]


def _of_log_sums(run: Arithmetic, z: Array) -> Array:
    top = z.max(axis=1)
    below = np.abs(z - top[:, None])
    lost: Array = run.gamma(z.shape[1] + 8) + 4.0 * run.u * (below.max(axis=1) + np.abs(top) + np.abs(_log_sums(z)))
    return lost


def _of_gelu(run: Arithmetic, x: Array) -> Array:
    lost: Array = of_values(run, "gelu", [x], np.zeros_like(x))["output"]
    return lost


def _of_context(run: Arithmetic, a: Mapping[str, Any], v: Values) -> Array:
    size = context_of({**a, "v": np.abs(a["v"])}, [np.abs(p) for p in v["dropped"]])
    longest = int(np.diff(a["starts"]).max(initial=0))
    lost: Array = (run.gamma(longest + 2) + 3.0 * run.factor_u) * size + run.tiny
    return lost


LIMITS: dict[tuple[str, str], Limit] = {
    ("embedding", "output"): lambda run, a, v: run.gamma(4) * (np.abs(v["of_tokens"]) + np.abs(v["of_positions"])),
    ("low_rank", "output"): lambda run, a, v: abs(a["scale"]) * _of_dot(run, v["projected"], a["b"]),
    ("gelu", "output"): lambda run, a, v: run.gamma(3) * np.abs(a["x"] * v["cdf"]),
    ("feed_forward", "activation"): lambda run, a, v: _of_gelu(run, v["intermediate"]),
    ("feed_forward", "output"): lambda run, a, v: (
        _of_dot(run, v["activation"], a["kernel_2"]) + run.gamma(2) * np.abs(a["bias_2"])
    ),
    ("layer_norm", "variance"): lambda run, a, v: _of_variance(run, a["x"], v["mean"]),
    ("layer_norm", "x_hat"): lambda run, a, v: _of_normed(run, a, v, a["x"]),
    ("layer_norm", "output"): lambda run, a, v: _of_norm(run, a, v, a["x"]),
    ("add_norm", "sum"): lambda run, a, v: run.gamma(2) * (np.abs(a["x"]) + np.abs(v["dropped"])),
    ("add_norm", "mean"): lambda run, a, v: run.gamma(v["sum"].shape[1] + 2) * np.abs(v["sum"]).mean(axis=1),
    ("add_norm", "variance"): lambda run, a, v: _of_variance(run, v["sum"], v["mean"]),
    ("add_norm", "x_hat"): lambda run, a, v: _of_normed(run, a, v, v["sum"]),
    ("add_norm", "output"): lambda run, a, v: _of_norm(run, a, v, v["sum"]),
    ("attention", "probabilities"): lambda run, a, v: _of_softmax(run, v["scores"]),
    ("attention", "dropped"): lambda run, a, v: [
        run.gamma(4) * np.abs(p) / (1.0 - a["rate"]) for p in v["probabilities"]
    ],
    ("attention", "output"): _of_context,
    ("cross_entropy", "log_sums"): lambda run, a, v: _of_log_sums(run, v["logits"]),
    ("cross_entropy", "output"): lambda run, a, v: (
        run.gamma(3) * (np.abs(v["log_sums"]) + np.abs(v["logits"][np.arange(len(a["h"])), a["labels"]]))
    ),
}
