"""The plain ops value by value, so that a value inside an op can be taken from elsewhere.

`stages(op, arguments, given)` computes each value of the op from the arguments and from the values before it, those
that are given taken as they are. Without any it is the plain op's forward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.ops.gelu import erf
from pyroberta.oracle.plain import PLAIN, Values

Given = Mapping[str, Any]  # by the value's name; of attention's values a dict by the sequence's number
Stage = Callable[[Mapping[str, Any], Values], Any]


def stages(op: str, arguments: Mapping[str, Any], given: Given) -> tuple[Values, Values]:
    """Each value of an op as it should be after those before it, and as it is taken to be: given, or computed.

    >>> a = {"x": np.ones((1, 2)), "a": np.ones((2, 1)), "b": np.ones((1, 1)), "scale": 1.0}
    >>> expected, taken = stages("low_rank", a, {"projected": np.array([[5.0]])})
    >>> float(expected["projected"][0, 0]), float(taken["projected"][0, 0]), float(expected["output"][0, 0])
    (2.0, 5.0, 5.0)
    """
    positional = [arguments[of] for of in PLAIN[op].arguments]
    plain = PLAIN[op].forward(*positional)
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


def _context(a: Mapping[str, Any], dropped: Sequence[Array]) -> Array:
    H = a["num_heads"]
    output: Array = np.zeros_like(a["q"])
    for p, (start, stop) in zip(dropped, pairwise(a["starts"].tolist()), strict=True):
        v = a["v"][start:stop].reshape(stop - start, H, a["v"].shape[1] // H).transpose(1, 0, 2)
        output[start:stop] = (p @ v).transpose(1, 0, 2).reshape(stop - start, a["v"].shape[1])
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
    ("attention", "output"): lambda a, v: _context(a, v["dropped"]),
    ("cross_entropy", "log_sums"): lambda a, v: _log_sums(v["logits"]),
    ("cross_entropy", "output"): lambda a, v: v["log_sums"] - v["logits"][np.arange(len(a["h"])), a["labels"]],
}


def _log_sums(logits: Array) -> Array:
    top = logits.max(axis=1)
    log_sums: Array = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return log_sums
