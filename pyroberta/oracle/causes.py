"""The known mistakes of other implementations in each op. They are tried if a result departs.

A cause is a mistake: a name, and a function that computes the op's values with this mistake from the same arguments.
The likely cause is the one that makes the difference vanish. The mistakes in the loss, in clipping and in the optimizer
are in `oracle/update_causes.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.oracle import plain
from pyroberta.oracle.plain import PLAIN, Values
from pyroberta.oracle.stages import context_of

Arguments = Mapping[str, Any]
EPSILONS = (1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1)


@dataclass(frozen=True)
class Cause:
    """A mistake.

    Attributes:
        name: the mistake in a few words.
        values: a function from the op's arguments by name to the op's values with this mistake, as float64 arrays by
            name. Values that the mistake does not change may be missing.
    """

    name: str
    values: Callable[[Arguments], Values]


def causes_of(op: str, arguments: Arguments) -> Iterator[Cause]:
    """Yields the known mistakes of an op. If the arguments contain `dy`, they are the mistakes of its backward."""
    known = BACKWARD if "dy" in arguments else CAUSES
    if op in known:
        yield from known[op](arguments)


def _with(op: str, arguments: Arguments, **changes: Any) -> Values:
    return PLAIN[op].values_of({**arguments, **changes})


# --- activations ------------------------------------------------------------------------------------------------------


def tanh_gelu(x: Array) -> Array:
    """Returns GELU's approximation by tanh, in the shape of x."""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "GELU by tanh, not by erf": tanh_gelu,
    "tanh in place of GELU": np.tanh,
    "GELU by sigmoid(1.702 x), not by erf": lambda x: x / (1.0 + np.exp(-1.702 * x)),
    "ReLU in place of GELU": lambda x: np.maximum(x, 0.0),
    "SiLU in place of GELU": lambda x: x / (1.0 + np.exp(-x)),
    "no activation": lambda x: x,
}


def _gelu(arguments: Arguments) -> Iterator[Cause]:
    for name, activation in ACTIVATIONS.items():
        yield Cause(name, partial(_activated, activation))


def _activated(activation: Callable[[Array], Array], a: Arguments) -> Values:
    return {"output": activation(a["x"])}


def _feed_forward(arguments: Arguments) -> Iterator[Cause]:
    def values(activation: Callable[[Array], Array], a: Arguments) -> Values:
        activated = activation(a["x"] @ a["kernel_1"] + a["bias_1"])
        return {"activation": activated, "output": activated @ a["kernel_2"] + a["bias_2"]}

    for name, activation in ACTIVATIONS.items():
        yield Cause(name, partial(values, activation))
    for bias in ("bias_1", "bias_2"):
        yield Cause(f"{bias} is missing", partial(_zeroed, "feed_forward", bias))
        yield Cause(f"{bias} is added twice", partial(_changed, "feed_forward", {bias: 2.0 * arguments[bias]}))


def _changed(op: str, changes: Mapping[str, Any], a: Arguments) -> Values:
    return _with(op, a, **changes)


def _zeroed(op: str, name: str, a: Arguments) -> Values:
    return _with(op, a, **{name: np.zeros_like(a[name])})


# --- products ---------------------------------------------------------------------------------------------------------


def _linear(arguments: Arguments) -> Iterator[Cause]:
    yield Cause("the bias is missing", lambda a: {"output": a["x"] @ a["kernel"]})
    yield Cause("the bias is added twice", lambda a: {"output": a["x"] @ a["kernel"] + 2.0 * a["bias"]})
    kernel = arguments["kernel"]
    if kernel.shape[0] == kernel.shape[1]:
        yield Cause("the kernel is transposed", lambda a: {"output": a["x"] @ a["kernel"].T + a["bias"]})
        turned = "the kernel is transposed, and the bias is missing"
        yield Cause(turned, lambda a: {"output": a["x"] @ a["kernel"].T})


def _low_rank(arguments: Arguments) -> Iterator[Cause]:
    yield Cause("the change is not scaled", lambda a: _with("low_rank", a, scale=1.0))
    rank = arguments["a"].shape[1]
    yield Cause(
        "the change is scaled by alpha, not alpha / rank", lambda a: _with("low_rank", a, scale=a["scale"] * rank)
    )


# --- norms ------------------------------------------------------------------------------------------------------------


def _normed(x: Array, a: Arguments, *, epsilon: float, outside: bool = False, unbiased: bool = False) -> Values:
    mean = x.mean(axis=1)
    count = max(1, x.shape[1] - 1) if unbiased else x.shape[1]
    variance = ((x - mean[:, None]) ** 2).sum(axis=1) / count
    scale = np.sqrt(variance) + epsilon if outside else np.sqrt(variance + epsilon)
    with np.errstate(all="ignore"):
        x_hat = (x - mean[:, None]) / scale[:, None]
    return {"mean": mean, "variance": variance, "x_hat": x_hat, "output": a["gamma"] * x_hat + a["beta"]}


def _layer_norm(arguments: Arguments) -> Iterator[Cause]:
    yield from _norms(_x)


def _add_norm(arguments: Arguments) -> Iterator[Cause]:
    yield from _norms(_sum)

    def residual(a: Arguments, changed: Array, **more: Array) -> Values:
        return {"sum": changed, **_normed(changed, a, epsilon=a["epsilon"]), **more}

    yield Cause("the residual is missing", lambda a: residual(a, _sum(a) - a["x"]))
    yield Cause("the residual is added twice, or the block's output is halved", lambda a: residual(a, _sum(a) + a["x"]))
    if arguments["rate"]:
        yield Cause("dropout is left out", lambda a: _with("add_norm", a, rate=0.0))

        def unscaled(a: Arguments) -> Values:
            left = (_sum(a) - a["x"]) * (1.0 - a["rate"])
            return residual(a, left + a["x"], dropped=left)

        yield Cause("the output of dropout is not scaled by 1 / (1 - rate)", unscaled)

    def halved(a: Arguments) -> Values:
        return residual(a, _sum(a) - 0.5 * a["x"])

    yield Cause("the residual is halved, or the block's output is doubled", halved)

    def before(a: Arguments) -> Values:
        h = plain.layer_norm_forward(a["h"], a["gamma"], a["beta"], a["epsilon"])["output"]
        return {"output": a["x"] + h}

    yield Cause("the norm comes before the sum", before)


def _norms(of: Callable[[Arguments], Array]) -> Iterator[Cause]:
    for epsilon in EPSILONS:
        yield Cause(f"epsilon is {epsilon:g}", partial(_renormed, of, {"epsilon": epsilon}))
    yield Cause("epsilon is missing", lambda a: _normed(of(a), a, epsilon=0.0))
    yield Cause("epsilon is outside the root", lambda a: _normed(of(a), a, epsilon=a["epsilon"], outside=True))
    for epsilon in EPSILONS:
        changes = {"epsilon": epsilon, "outside": True}
        yield Cause(f"epsilon is outside the root, and is {epsilon:g}", partial(_renormed, of, changes))
    yield Cause("the variance is divided by C - 1", lambda a: _normed(of(a), a, epsilon=a["epsilon"], unbiased=True))

    def root_mean_square(a: Arguments) -> Values:
        x = of(a)
        x_hat = x / np.sqrt((x * x).mean(axis=1) + a["epsilon"])[:, None]
        return {"x_hat": x_hat, "output": a["gamma"] * x_hat + a["beta"]}

    yield Cause("the mean is not subtracted", root_mean_square)
    yield Cause("beta is missing", lambda a: _without(of(a), a, "beta", 0.0))
    yield Cause("gamma is missing", lambda a: _without(of(a), a, "gamma", 1.0))


def of_inferred_epsilon(op: str, value: str, arguments: Arguments, theirs: Array) -> Iterator[Cause]:
    """Yields a norm with the epsilon that follows from one row of its result, the row with the smallest variance.

    Args:
        op: the name of the op.
        value: the name of the value that `theirs` is.
        arguments: the arguments of the op, by name.
        theirs: the value of the other implementation, (N, C).
    """
    if op not in ("layer_norm", "add_norm") or value not in ("x_hat", "output") or "dy" in arguments:
        return
    made = PLAIN[op].values_of(arguments)
    row = int(made["variance"].argmin())
    of = _sum if op == "add_norm" else _x
    x, variance = of(arguments)[row], made["variance"][row]
    gamma, beta = (arguments["gamma"], arguments["beta"]) if value == "output" else (1.0, 0.0)
    scaled = gamma * (x - made["mean"][row])
    with np.errstate(all="ignore"):
        sigma = (scaled @ scaled) / ((theirs[row] - beta) @ scaled)  # what it is divided by
    for epsilon, outside in ((sigma**2 - variance, False), (sigma - math.sqrt(variance), True)):
        if sigma > 0.0 and 0.0 < epsilon < np.inf:
            name = f"epsilon is {epsilon:.3g}{', outside the root' if outside else ''}"
            changes = {"epsilon": epsilon, "outside": outside}
            yield Cause(name, partial(_renormed, of, changes))


def _x(a: Arguments) -> Array:
    x: Array = a["x"]
    return x


def _sum(a: Arguments) -> Array:
    total: Array = PLAIN["add_norm"].values_of(a)["sum"]
    return total


def _renormed(of: Callable[[Arguments], Array], changes: Mapping[str, Any], a: Arguments) -> Values:
    return _normed(of(a), a, **changes)


def _without(x: Array, a: Arguments, name: str, value: float) -> Values:
    return _normed(x, {**a, name: np.full_like(a[name], value)}, epsilon=a["epsilon"])


# --- embedding, dropout -----------------------------------------------------------------------------------------------


def _embedding(arguments: Arguments) -> Iterator[Cause]:
    position_rows, positions = arguments["position_rows"], arguments["positions"]
    for offset in (-2, -1, 1, 2):
        if positions.size and positions.min() + offset >= 0 and positions.max() + offset < len(position_rows):
            yield Cause(positions_off_by(offset), partial(_moved, offset))
    yield Cause("the position embedding is missing", lambda a: {"output": a["tokens"][a["ids"]]})
    C = position_rows.shape[1]
    yield Cause(
        "the token embedding is scaled by the root of C",
        lambda a: _with("embedding", a, tokens=math.sqrt(C) * a["tokens"]),
    )


def positions_counted_to(arguments: Arguments, columns: Any = None) -> Iterator[Cause]:
    """Yields positions that also count the padding before a sequence.

    Args:
        arguments: the arguments of the embedding.
        columns: the number of columns of the padded arrays, if known. The length of the longest sequence is tried too.
    """
    positions, position_rows = arguments["positions"], arguments["position_rows"]
    starts = [*np.flatnonzero(np.diff(positions, prepend=np.inf) != 1).tolist(), len(positions)]
    lengths = np.diff(starts)
    for S in dict.fromkeys(([] if columns is None else [int(columns)]) + [int(lengths.max(initial=0))]):
        moved = positions + np.repeat(S - lengths, lengths)
        if moved.size and positions.min() <= moved.min() and moved.max() < len(position_rows):
            name = f"positions also count the padding before a sequence, up to {S} columns"
            yield Cause(name, partial(_changed, "embedding", {"positions": moved}))


def positions_off_by(offset: int) -> str:
    """Returns the name of the mistake that positions are off by `offset` rows."""
    rows = "1 row" if abs(offset) == 1 else f"{abs(offset)} rows"
    return f"positions begin {rows} too {'late' if offset > 0 else 'early'}; RoBERTa's first is row padding_idx + 1"


def _moved(offset: int, a: Arguments) -> Values:
    return _with("embedding", a, positions=a["positions"] + offset)


def _dropout(arguments: Arguments) -> Iterator[Cause]:
    if arguments["rate"]:
        yield Cause("dropout is left out", lambda a: {"output": a["x"]})
        yield Cause(
            "the output of dropout is not scaled by 1 / (1 - rate)",
            lambda a: {"output": _with("dropout", a)["output"] * (1.0 - a["rate"])},
        )


# --- attention --------------------------------------------------------------------------------------------------------


def _attended(a: Arguments, change: Callable[[Array, int], Array], *, interleaved: bool = False) -> Values:
    """Attention whose scores (H, S, S), made with the scale 1, are changed before the softmax."""
    H, rate, starts = a["num_heads"], a["rate"], a["starts"]
    values: Values = {"scores": [], "probabilities": [], "dropped": []}
    output = np.zeros_like(a["q"])

    def heads(x: Array) -> Array:
        D = x.shape[1] // H
        split: Array
        split = (
            x.reshape(len(x), D, H).transpose(2, 0, 1) if interleaved else x.reshape(len(x), H, D).transpose(1, 0, 2)
        )
        return split

    kept = PLAIN["attention"].values_of(a)["keep"]
    for b, (start, stop) in enumerate(pairwise(starts.tolist())):
        q, k, v = (heads(a[name][start:stop]) for name in "qkv")
        scores = change(q @ k.transpose(0, 2, 1), q.shape[2])
        exponentials = np.exp(scores - scores.max(axis=2, keepdims=True, initial=-np.inf))
        p = exponentials / exponentials.sum(axis=2, keepdims=True)
        dropped = p * kept[b] / (1.0 - rate)
        for name, value in zip(values, (scores, p, dropped), strict=True):
            values[name].append(value)
        y = dropped @ v
        D = q.shape[2]
        output[start:stop] = (y.transpose(1, 2, 0) if interleaved else y.transpose(1, 0, 2)).reshape(-1, H * D)
    return {**values, "output": output}


def _causal(scores: Array, D: int) -> Array:
    S = scores.shape[1]
    return np.where(np.tril(np.ones((S, S), bool)), scores / math.sqrt(D), -np.inf)


def _attention(arguments: Arguments) -> Iterator[Cause]:
    C, H = arguments["q"].shape[1], arguments["num_heads"]
    yield Cause("scores are not divided by the root of D", lambda a: _attended(a, lambda s, D: s))
    yield Cause("scores are divided by the root of D twice", lambda a: _attended(a, lambda s, D: s / D))
    yield Cause("scores are multiplied by the root of D", lambda a: _attended(a, lambda s, D: s * math.sqrt(D)))
    yield Cause("scores are divided by the root of C, not of D", lambda a: _attended(a, lambda s, D: s / math.sqrt(C)))
    yield Cause("a token does not see later tokens: a causal mask", lambda a: _attended(a, _causal))
    if 1 < H < C:
        yield Cause(
            "heads are interleaved, not side by side",
            lambda a: _attended(a, lambda s, D: s / math.sqrt(D), interleaved=True),
        )

    def wrong_axis(a: Arguments) -> Values:
        values = PLAIN["attention"].values_of(a)
        p = [np.exp(s - s.max(axis=1, keepdims=True, initial=-np.inf)) for s in values["scores"]]
        p = [x / x.sum(axis=1, keepdims=True) for x in p]
        return {"probabilities": p, "output": context_of(a, p)}

    yield Cause("the softmax is taken over the queries, not over the keys", wrong_axis)

    def over_heads(a: Arguments) -> Values:
        values = PLAIN["attention"].values_of(a)
        p = [np.exp(s - s.max(axis=0, initial=-np.inf)) for s in values["scores"]]
        p = [x / x.sum(axis=0) for x in p]
        return {"probabilities": p, "output": context_of(a, p)}

    if H > 1:
        yield Cause("the softmax is taken over the heads, not over the keys", over_heads)

    def no_softmax(a: Arguments) -> Values:
        values = PLAIN["attention"].values_of(a)
        return {"probabilities": values["scores"], "output": context_of(a, values["scores"])}

    yield Cause("the softmax is missing", no_softmax)
    for one, other in (("q", "k"), ("k", "v"), ("q", "v")):
        swapped = {one: arguments[other], other: arguments[one]}
        yield Cause(f"{one} and {other} are exchanged", partial(_changed, "attention", swapped))
    if arguments["rate"]:
        yield Cause("dropout of the probabilities is left out", lambda a: _with("attention", a, rate=0.0))

        def unscaled(a: Arguments) -> Values:
            values = _with("attention", a)
            dropped = [(1.0 - a["rate"]) * one for one in values["dropped"]]
            return {"dropped": dropped, "output": (1.0 - a["rate"]) * values["output"]}

        yield Cause("the output of dropout is not scaled by 1 / (1 - rate)", unscaled)


# --- the loss ---------------------------------------------------------------------------------------------------------


def _cross_entropy(arguments: Arguments) -> Iterator[Cause]:
    yield Cause("the bias of the logits is missing", lambda a: _with("cross_entropy", a, bias=np.zeros_like(a["bias"])))

    def smoothed(a: Arguments, share: float) -> Values:
        values = _with("cross_entropy", a)
        logs = values["log_sums"][:, None] - values["logits"]
        return {"output": (1.0 - share) * values["output"] + share * logs.mean(axis=1)}

    yield Cause("labels are smoothed by 0.1", lambda a: smoothed(a, 0.1))
    yield Cause("the loss is not negated", lambda a: {"output": -_with("cross_entropy", a)["output"]})


def normed_before(arguments: Arguments, of: Arguments) -> Iterator[Cause]:
    """Yields a block that normalizes its input. RoBERTa normalizes the output of the block.

    Args:
        arguments: the arguments of the linear op or of the feed-forward.
        of: gamma, beta and epsilon of the block's norm.
    """
    op = "feed_forward" if "kernel_1" in arguments else "linear"

    def values(a: Arguments) -> Values:
        x = plain.layer_norm_forward(a["x"], of["gamma"], of["beta"], of["epsilon"])["output"]
        return _with(op, a, x=x)

    yield Cause("the block norms its input first: pre-LN", values)


# --- gradients --------------------------------------------------------------------------------------------------------


def _tanh_slope(x: Array) -> Array:
    """The derivative of GELU's approximation by tanh."""
    root = math.sqrt(2.0 / math.pi)
    t = np.tanh(root * (x + 0.044715 * x**3))
    slope: Array = 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * root * (1.0 + 3.0 * 0.044715 * x * x)
    return slope


def _sigmoid_slope(factor: float, x: Array) -> Array:
    sigmoid = 1.0 / (1.0 + np.exp(-factor * x))
    slope: Array = sigmoid * (1.0 + factor * x * (1.0 - sigmoid))
    return slope


SLOPES: dict[str, Callable[[Array], Array]] = {
    "the derivative is that of GELU by tanh": _tanh_slope,
    "the derivative is that of GELU by sigmoid(1.702 x)": partial(_sigmoid_slope, 1.702),
    "the derivative is that of SiLU": partial(_sigmoid_slope, 1.0),
    "the derivative is that of ReLU": lambda x: (x > 0.0).astype(x.dtype),
    "the derivative is Φ(x), without x φ(x)": lambda x: plain.gelu_forward(x)["cdf"],
}


def _gelu_backward(arguments: Arguments) -> Iterator[Cause]:
    for name, slope in SLOPES.items():
        yield Cause(name, partial(lambda f, a: {"x": a["dy"] * f(a["x"])}, slope))


def _feed_forward_backward(arguments: Arguments) -> Iterator[Cause]:
    def values(slope: Callable[[Array], Array], a: Arguments) -> Values:
        inside = (a["dy"] @ a["kernel_2"].T) * slope(a["x"] @ a["kernel_1"] + a["bias_1"])
        gradients = {"kernel_1": a["x"].T @ inside, "bias_1": inside.sum(axis=0), "x": inside @ a["kernel_1"].T}
        return {"intermediate": inside, **gradients}

    for name, slope in SLOPES.items():
        yield Cause(name, partial(values, slope))


def _norm_backward(op: str, arguments: Arguments) -> Iterator[Cause]:
    def values(without: str, a: Arguments) -> Values:
        made = _with(op, a)
        x_hat, inverse = made["x_hat"], 1.0 / np.sqrt(made["variance"] + a["epsilon"])
        slope = a["dy"] * a["gamma"]
        mean = 0.0 if without in ("mean", "both") else slope.mean(axis=1, keepdims=True)
        along = 0.0 if without in ("variance", "both") else x_hat * (slope * x_hat).mean(axis=1, keepdims=True)
        dx = inverse[:, None] * (slope - mean - along)
        of_h = {"h": dx * made["keep"] / (1.0 - a["rate"])} if op == "add_norm" else {}
        return {"x": dx, "sum": dx, **of_h}

    yield Cause("no gradient goes through the mean", partial(values, "mean"))
    yield Cause("no gradient goes through the variance", partial(values, "variance"))
    yield Cause("no gradient goes through the mean and the variance", partial(values, "both"))
    if op == "add_norm":
        yield Cause("no gradient goes through the residual", lambda a: {"x": np.zeros_like(a["dy"])})


def _attention_backward(arguments: Arguments) -> Iterator[Cause]:
    gradients = PLAIN["attention"].gradients_of
    root = math.sqrt(arguments["q"].shape[1] // arguments["num_heads"])
    for of in ("q", "k"):
        yield Cause(
            f"d{of} is not scaled by 1 / the root of D", partial(lambda one, a: {one: gradients(a)[one] * root}, of)
        )
        yield Cause(f"d{of} is scaled twice", partial(lambda one, a: {one: gradients(a)[one] / root}, of))

    def without_row(a: Arguments) -> Values:
        forward = _with("attention", a)
        pairs = zip(gradients(a)["probabilities"], forward["probabilities"], strict=True)
        return {"scores": [p * dp for dp, p in pairs]}

    yield Cause("the softmax's gradient lacks the sum over the row", without_row)


CAUSES: dict[str, Callable[[Arguments], Iterator[Cause]]] = {
    "gelu": _gelu,
    "feed_forward": _feed_forward,
    "linear": _linear,
    "low_rank": _low_rank,
    "layer_norm": _layer_norm,
    "add_norm": _add_norm,
    "embedding": _embedding,
    "dropout": _dropout,
    "attention": _attention,
    "cross_entropy": _cross_entropy,
}


BACKWARD: dict[str, Callable[[Arguments], Iterator[Cause]]] = {
    "gelu": _gelu_backward,
    "feed_forward": _feed_forward_backward,
    "layer_norm": partial(_norm_backward, "layer_norm"),
    "add_norm": partial(_norm_backward, "add_norm"),
    "attention": _attention_backward,
}
