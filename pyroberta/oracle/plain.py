"""The ops written step by step: forwards that return every intermediate value by name, and the gradient of each.

The functions follow the formulas on the pages of the ops, without blocks, chunks or in-place work. Tests compare them
with `pyroberta.ops`. A forward takes the op's arguments and returns the values in the order of the computation. The
last value is `output`, the result of the op. A backward takes the gradient of the result, the arguments and the values.
It returns the gradients in the order of the computation, under the names of the values and arguments that they are the
gradients of. All arrays have the dtype of the arguments.

>>> x, gamma, beta = np.array([[1.0, 3.0]]), np.ones(2), np.zeros(2)
>>> values = PLAIN["layer_norm"].forward(x, gamma, beta, 0.0)
>>> {name: value.tolist() for name, value in values.items()}
{'mean': [2.0], 'variance': [1.0], 'x_hat': [[-1.0, 1.0]], 'output': [[-1.0, 1.0]]}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.ops.attention import heads
from pyroberta.ops.dropout import Key, keep_mask, keep_rows
from pyroberta.ops.gelu import erf

Values = dict[str, Any]  # arrays by name; of attention's intermediates a list of arrays, one per sequence


@dataclass(frozen=True)
class Plain:
    """An op with its intermediate values.

    Attributes:
        arguments: the names of the op's arguments, in their order.
        forward: a function from the arguments to every value by name, `output` last.
        backward: a function from dy, the arguments and the values to every gradient, by the name of its value or
            argument.
        gradients: the names of the results of the op's backward, in their order.
        formulas: value's name -> formula in one line.
        gradient_formulas: name -> formula of the gradient in one line. In formulas, `dy` is the gradient of the output,
            and `d.x` that of x.
    """

    arguments: Sequence[str]
    forward: Callable[..., Values]
    backward: Callable[[Array, Sequence[Any], Values], Values]
    gradients: Sequence[str]
    formulas: dict[str, str]
    gradient_formulas: dict[str, str]

    def positional(self, arguments: Mapping[str, Any]) -> list[Any]:
        """Returns the arguments in their order. The dict may have others too, such as `dy`."""
        return [arguments[name] for name in self.arguments]

    def values_of(self, arguments: Mapping[str, Any]) -> Values:
        """Returns every value, from the arguments by name."""
        return self.forward(*self.positional(arguments))

    def gradients_of(self, arguments: Mapping[str, Any], values: Values | None = None) -> Values:
        """Returns every gradient.

        Args:
            arguments: the arguments and `dy`, by name.
            values: the values of forward. By default they are computed from the arguments.
        """
        values = self.values_of(arguments) if values is None else values
        return self.backward(arguments["dy"], self.positional(arguments), values)


# --- gather, embedding ------------------------------------------------------------------------------------------------


def gather_forward(x: Array, rows: Array) -> Values:
    """Returns `output` (R, C): the rows with the numbers `rows` (R,) of x (N, C)."""
    return {"output": x[rows]}


def gather_backward(dy: Array, arguments: Sequence[Any], values: Values) -> Values:
    """Returns the gradient of `x` (N, C): for each row, the sum of its rows of dy (R, C)."""
    x, rows = arguments
    dx = np.zeros_like(x)
    np.add.at(dx, rows, dy)
    return {"x": dx}


def embedding_forward(ids: Array, positions: Array, tokens: Array, position_rows: Array) -> Values:
    """Returns `of_tokens`, `of_positions` and their sum `output`, (N, C) each. They are rows of the token embedding (V,
    C) and of the position embedding (T, C).
    """
    values = {"of_tokens": tokens[ids], "of_positions": position_rows[positions]}
    return {**values, "output": values["of_tokens"] + values["of_positions"]}


def embedding_backward(dy: Array, arguments: Sequence[Any], values: Values) -> Values:
    """Returns the gradients of `tokens` (V, C) and `position_rows` (T, C)."""
    ids, positions, tokens, position_rows = arguments
    dtokens, dposition_rows = np.zeros_like(tokens), np.zeros_like(position_rows)
    np.add.at(dtokens, ids, dy)
    np.add.at(dposition_rows, positions, dy)
    return {"tokens": dtokens, "position_rows": dposition_rows}


# --- products ---------------------------------------------------------------------------------------------------------


def linear_forward(x: Array, kernel: Array, bias: Array) -> Values:
    """Returns `output` (N, O) = x @ kernel + bias, of x (N, I), kernel (I, O) and bias (O,)."""
    return {"output": x @ kernel + bias}


def linear_backward(dy: Array, arguments: Sequence[Any], values: Values) -> Values:
    """Returns the gradients of `x` (N, I), `kernel` (I, O) and `bias` (O,)."""
    x, kernel, _ = arguments
    return {"x": dy @ kernel.T, "kernel": x.T @ dy, "bias": dy.sum(axis=0)}


def low_rank_forward(x: Array, a: Array, b: Array, scale: float) -> Values:
    """Returns `projected` (N, r) and `output` (N, O) = scale · x @ a @ b, of x (N, I), a (I, r) and b (r, O)."""
    projected = x @ a
    return {"projected": projected, "output": scale * (projected @ b)}


def low_rank_backward(dy: Array, arguments: Sequence[Any], values: Values) -> Values:
    """Returns the gradients of `projected` (N, r), `x` (N, I), `a` (I, r) and `b` (r, O)."""
    x, a, b, scale = arguments
    dprojected = scale * (dy @ b.T)
    db = scale * (values["projected"].T @ dy)
    return {"projected": dprojected, "x": dprojected @ a.T, "a": x.T @ dprojected, "b": db}


# --- one number at a time ---------------------------------------------------------------------------------------------


def gelu_forward(x: Array) -> Values:
    """Returns `cdf` = Φ(x), the normal distribution, and `output` = x · Φ(x), both in the shape of x."""
    cdf = 0.5 * (1.0 + erf(x / math.sqrt(2.0)))
    return {"cdf": cdf, "output": x * cdf}


def gelu_backward(dy: Array, arguments: Sequence[Any], values: Values) -> Values:
    """Returns the gradient of `x`: dy · (Φ(x) + x · φ(x)), where φ is the density of the normal distribution."""
    (x,) = arguments
    density = np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    return {"x": dy * (values["cdf"] + x * density)}


def tanh_forward(x: Array) -> Values:
    """Returns `output` = tanh(x), in the shape of x."""
    return {"output": np.tanh(x)}


def tanh_backward(dy: Array, arguments: Sequence[Any], values: Values) -> Values:
    """Returns the gradient of `x`: dy · (1 - output²), in the shape of x."""
    return {"x": dy * (1.0 - values["output"] ** 2)}


def feed_forward_forward(x: Array, kernel_1: Array, bias_1: Array, kernel_2: Array, bias_2: Array) -> Values:
    """Returns `intermediate` (N, F), `activation` (N, F) and `output` (N, C), of x (N, C)."""
    intermediate = x @ kernel_1 + bias_1
    activation = gelu_forward(intermediate)["output"]
    return {"intermediate": intermediate, "activation": activation, "output": activation @ kernel_2 + bias_2}


def feed_forward_backward(dy: Array, arguments: Sequence[Any], values: Values) -> Values:
    """Returns the gradients of `kernel_2`, `bias_2`, `activation` (N, F), `intermediate` (N, F), `kernel_1`, `bias_1`
    and `x` (N, C).
    """
    x, kernel_1, _, kernel_2, _ = arguments
    intermediate, activation = values["intermediate"], values["activation"]
    dactivation = dy @ kernel_2.T
    dintermediate = gelu_backward(dactivation, (intermediate,), gelu_forward(intermediate))["x"]
    return {
        "kernel_2": activation.T @ dy,
        "bias_2": dy.sum(axis=0),
        "activation": dactivation,
        "intermediate": dintermediate,
        "kernel_1": x.T @ dintermediate,
        "bias_1": dintermediate.sum(axis=0),
        "x": dintermediate @ kernel_1.T,
    }


# --- norms and dropout ------------------------------------------------------------------------------------------------


def layer_norm_forward(x: Array, gamma: Array, beta: Array, epsilon: float) -> Values:
    """Returns `mean` (N,) and `variance` (N,) of each row, `x_hat` (N, C) and `output` (N, C), of x (N, C)."""
    mean = x.mean(axis=1)
    variance = ((x - mean[:, None]) ** 2).mean(axis=1)
    x_hat = (x - mean[:, None]) / np.sqrt(variance + epsilon)[:, None]
    return {"mean": mean, "variance": variance, "x_hat": x_hat, "output": gamma * x_hat + beta}


def layer_norm_backward(dy: Array, arguments: Sequence[Any], values: Values) -> Values:
    """Returns the gradients of `gamma` (C,), `beta` (C,), `x_hat` (N, C) and `x` (N, C)."""
    _, gamma, _, epsilon = arguments
    x_hat, inverse = values["x_hat"], 1.0 / np.sqrt(values["variance"] + epsilon)
    dx_hat = dy * gamma
    along = (dx_hat * x_hat).mean(axis=1, keepdims=True)
    dx = inverse[:, None] * (dx_hat - dx_hat.mean(axis=1, keepdims=True) - x_hat * along)
    return {"gamma": (dy * x_hat).sum(axis=0), "beta": dy.sum(axis=0), "x_hat": dx_hat, "x": dx}


def dropout_forward(
    x: Array,
    rate: float,
    key: Key,
    starts: Array | None = None,
    numbers: Array | None = None,
    rows: Array | None = None,
) -> Values:
    """Returns `keep` (N, C) bool, true where a number survives, and `output` (N, C) = x · keep / (1 - rate)."""
    keep = keep_rows(key, x.shape, rate, starts, numbers, rows) if rate else np.ones(x.shape, bool)
    return {"keep": keep, "output": x * keep / (1.0 - rate)}


def dropout_backward(dy: Array, arguments: Sequence[Any], values: Values) -> Values:
    """Returns the gradient of `x` (N, C): dy · keep / (1 - rate)."""
    return {"x": dy * values["keep"] / (1.0 - arguments[1])}


def add_norm_forward(
    h: Array, x: Array, gamma: Array, beta: Array, epsilon: float, rate: float, key: Key, *sequences: Any
) -> Values:
    """Returns `keep`, `dropped` and `sum`, (N, C) each, and then the values of layer norm of the sum."""
    dropped = dropout_forward(h, rate, key, *sequences)
    total = x + dropped["output"]
    return {
        "keep": dropped["keep"],
        "dropped": dropped["output"],
        "sum": total,
        **layer_norm_forward(total, gamma, beta, epsilon),
    }


def add_norm_backward(dy: Array, arguments: Sequence[Any], values: Values) -> Values:
    """Returns the gradients of `gamma` (C,), `beta` (C,), `x_hat`, `sum`, `h` and `x`, (N, C) each."""
    _, _, gamma, beta, epsilon, rate, *_ = arguments
    gradients = layer_norm_backward(dy, (values["sum"], gamma, beta, epsilon), values)
    dsum = gradients.pop("x")
    return {**gradients, "sum": dsum, "h": dsum * values["keep"] / (1.0 - rate), "x": dsum}


# --- attention --------------------------------------------------------------------------------------------------------


def attention_forward(
    q: Array,
    k: Array,
    v: Array,
    starts: Array,
    num_heads: int,
    rate: float,
    key: Key,
    numbers: Array | None = None,
    query_rows: Array | None = None,
) -> Values:
    """Returns `scores`, `probabilities`, `keep`, `dropped` and `output` (N, C). The first four are lists of one (H, S,
    S) array for each sequence.

    Scores are already divided by √D. All rows are query rows.

    Raises:
        ValueError: if `query_rows` is given.
    """
    if query_rows is not None:
        raise ValueError("the plain attention computes all rows, so query_rows can't be given: pass query_rows=None")
    scale = 1.0 / math.sqrt(q.shape[1] // num_heads)
    values: Values = {name: [] for name in ("scores", "probabilities", "keep", "dropped")}
    output = np.zeros_like(q)
    for b, (start, stop) in enumerate(pairwise(starts.tolist())):
        q_b, k_b, v_b = (heads(x[start:stop], num_heads) for x in (q, k, v))  # (H, S, D)
        scores = (q_b @ k_b.transpose(0, 2, 1)) * scale
        exponentials = np.exp(scores - scores.max(axis=2, keepdims=True, initial=-np.inf))
        probabilities = exponentials / exponentials.sum(axis=2, keepdims=True)
        stream = b if numbers is None else int(numbers[b])
        keep = keep_mask(key, stream, scores.shape, rate) if rate else np.ones(scores.shape, bool)
        dropped = probabilities * keep / (1.0 - rate)
        for name, value in zip(values, (scores, probabilities, keep, dropped), strict=True):
            values[name].append(value)
        heads(output[start:stop], num_heads)[...] = dropped @ v_b
    return {**values, "output": output}


def attention_backward(dy: Array, arguments: Sequence[Any], values: Values) -> Values:
    """Returns the gradients of `dropped`, `probabilities` and `scores`, lists of one (H, S, S) array for each sequence,
    and of `v`, `q` and `k`, (N, C) each.
    """
    q, k, v, starts, num_heads, rate, *_ = arguments
    scale = 1.0 / math.sqrt(q.shape[1] // num_heads)
    gradients: Values = {name: [] for name in ("dropped", "probabilities", "scores")}
    dv, dq, dk = np.zeros_like(v), np.zeros_like(q), np.zeros_like(k)
    for b, (start, stop) in enumerate(pairwise(starts.tolist())):
        dy_b, q_b, k_b, v_b = (heads(x[start:stop], num_heads) for x in (dy, q, k, v))  # (H, S, D)
        probabilities, dropped = values["probabilities"][b], values["dropped"][b]
        ddropped = dy_b @ v_b.transpose(0, 2, 1)
        dprobabilities = ddropped * values["keep"][b] / (1.0 - rate)
        row = (dprobabilities * probabilities).sum(axis=2, keepdims=True)
        dscores = probabilities * (dprobabilities - row)
        for name, value in zip(gradients, (ddropped, dprobabilities, dscores), strict=True):
            gradients[name].append(value)
        heads(dv[start:stop], num_heads)[...] = dropped.transpose(0, 2, 1) @ dy_b
        heads(dq[start:stop], num_heads)[...] = (dscores @ k_b) * scale
        heads(dk[start:stop], num_heads)[...] = (dscores.transpose(0, 2, 1) @ q_b) * scale
    return {**gradients, "v": dv, "q": dq, "k": dk}


# --- the loss ---------------------------------------------------------------------------------------------------------


def cross_entropy_forward(h: Array, table: Array, bias: Array, labels: Array) -> Values:
    """Returns `logits` (M, V), `log_sums` (M,), log Σ exp(logits), and `output` (M,), the losses."""
    logits = h @ table.T + bias
    top = logits.max(axis=1)
    log_sums = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return {"logits": logits, "log_sums": log_sums, "output": log_sums - logits[np.arange(len(h)), labels]}


def cross_entropy_backward(dy: Array, arguments: Sequence[Any], values: Values) -> Values:
    """Returns the gradients of `logits` (M, V), `h` (M, C), `table` (V, C) and `bias` (V,)."""
    h, table, _, labels = arguments
    dlogits = np.exp(values["logits"] - values["log_sums"][:, None])
    dlogits[np.arange(len(h)), labels] -= 1.0
    dlogits *= dy[:, None]
    return {"logits": dlogits, "h": dlogits @ table, "table": dlogits.T @ h, "bias": dlogits.sum(axis=0)}


SEQUENCES = ("starts", "numbers", "rows")
SLOPE = "(1 + erf({0} / sqrt(2))) / 2 + {0} * exp(-{0}² / 2) / sqrt(2π)"  # of GELU
# Of a layer norm's input.
NORMED = (
    "(d.x_hat - a - x_hat * b) / sqrt(variance + epsilon), a and b being the means of each row of d.x_hat and of "
    "d.x_hat * x_hat"
)

PLAIN: dict[str, Plain] = {
    "gather": Plain(
        ("x", "rows"),
        gather_forward,
        gather_backward,
        ("x",),
        {"output": "x[rows]"},
        {"x": "d.x[rows[i]] += dy[i] for each i, from zeros"},
    ),
    "embedding": Plain(
        ("ids", "positions", "tokens", "position_rows"),
        embedding_forward,
        embedding_backward,
        ("tokens", "position_rows"),
        {"of_tokens": "tokens[ids]", "of_positions": "position_rows[positions]", "output": "of_tokens + of_positions"},
        {
            "tokens": "d.tokens[ids[i]] += dy[i] for each i, from zeros",
            "position_rows": "d.position_rows[positions[i]] += dy[i] for each i, from zeros",
        },
    ),
    "linear": Plain(
        ("x", "kernel", "bias"),
        linear_forward,
        linear_backward,
        ("x", "kernel", "bias"),
        {"output": "x @ kernel + bias"},
        {"x": "dy @ kernelᵀ", "kernel": "xᵀ @ dy", "bias": "sum of the rows of dy"},
    ),
    "low_rank": Plain(
        ("x", "a", "b", "scale"),
        low_rank_forward,
        low_rank_backward,
        ("x", "a", "b"),
        {"projected": "x @ a", "output": "scale * (projected @ b)"},
        {
            "projected": "scale * (dy @ bᵀ)",
            "x": "d.projected @ aᵀ",
            "a": "xᵀ @ d.projected",
            "b": "scale * (projectedᵀ @ dy)",
        },
    ),
    "gelu": Plain(
        ("x",),
        gelu_forward,
        gelu_backward,
        ("x",),
        {"cdf": "(1 + erf(x / sqrt(2))) / 2", "output": "x * cdf"},
        {"x": "dy * (cdf + x * exp(-x² / 2) / sqrt(2π))"},
    ),
    "tanh": Plain(("x",), tanh_forward, tanh_backward, ("x",), {"output": "tanh(x)"}, {"x": "dy * (1 - output²)"}),
    "feed_forward": Plain(
        ("x", "kernel_1", "bias_1", "kernel_2", "bias_2"),
        feed_forward_forward,
        feed_forward_backward,
        ("x", "kernel_1", "bias_1", "kernel_2", "bias_2"),
        {
            "intermediate": "x @ kernel_1 + bias_1",
            "activation": "gelu(intermediate), with erf",
            "output": "activation @ kernel_2 + bias_2",
        },
        {
            "kernel_2": "activationᵀ @ dy",
            "bias_2": "sum of the rows of dy",
            "activation": "dy @ kernel_2ᵀ",
            "intermediate": f"d.activation * ({SLOPE.format('intermediate')})",
            "kernel_1": "xᵀ @ d.intermediate",
            "bias_1": "sum of the rows of d.intermediate",
            "x": "d.intermediate @ kernel_1ᵀ",
        },
    ),
    "layer_norm": Plain(
        ("x", "gamma", "beta", "epsilon"),
        layer_norm_forward,
        layer_norm_backward,
        ("x", "gamma", "beta"),
        {
            "mean": "mean of each row of x",
            "variance": "mean of (x - mean)² of each row, divided by C",
            "x_hat": "(x - mean) / sqrt(variance + epsilon)",
            "output": "gamma * x_hat + beta",
        },
        {
            "gamma": "sum of the rows of dy * x_hat",
            "beta": "sum of the rows of dy",
            "x_hat": "dy * gamma",
            "x": NORMED,
        },
    ),
    "dropout": Plain(
        ("x", "rate", "key", *SEQUENCES),
        dropout_forward,
        dropout_backward,
        ("x",),
        {"keep": "1 where a number survives", "output": "x * keep / (1 - rate)"},
        {"x": "dy * keep / (1 - rate)"},
    ),
    "add_norm": Plain(
        ("h", "x", "gamma", "beta", "epsilon", "rate", "key", *SEQUENCES),
        add_norm_forward,
        add_norm_backward,
        ("h", "x", "gamma", "beta"),
        {
            "keep": "1 where a number survives",
            "dropped": "h * keep / (1 - rate)",
            "sum": "x + dropped",
            "mean": "mean of each row of sum",
            "variance": "mean of (sum - mean)² of each row, divided by C",
            "x_hat": "(sum - mean) / sqrt(variance + epsilon)",
            "output": "gamma * x_hat + beta",
        },
        {
            "gamma": "sum of the rows of dy * x_hat",
            "beta": "sum of the rows of dy",
            "x_hat": "dy * gamma",
            "sum": NORMED,
            "h": "d.sum * keep / (1 - rate)",
            "x": "d.sum",
        },
    ),
    "attention": Plain(
        ("q", "k", "v", "starts", "num_heads", "rate", "key", "numbers", "query_rows"),
        attention_forward,
        attention_backward,
        ("q", "k", "v"),
        {
            "scores": "q @ kᵀ / sqrt(D), of each head",
            "probabilities": "softmax of each row of scores",
            "keep": "1 where a probability survives",
            "dropped": "probabilities * keep / (1 - rate)",
            "output": "dropped @ v, heads side by side",
        },
        {
            "dropped": "dy @ vᵀ, of each head",
            "probabilities": "d.dropped * keep / (1 - rate)",
            "scores": "probabilities * (d.probabilities - s), s being the sum of each row of d.probabilities * "
            "probabilities",
            "v": "droppedᵀ @ dy, heads side by side",
            "q": "d.scores @ k / sqrt(D), heads side by side",
            "k": "d.scoresᵀ @ q / sqrt(D), heads side by side",
        },
    ),
    "cross_entropy": Plain(
        ("h", "table", "bias", "labels"),
        cross_entropy_forward,
        cross_entropy_backward,
        ("h", "table", "bias"),
        {
            "logits": "h @ tableᵀ + bias",
            "log_sums": "log of the sum of exp(logits)",
            "output": "log_sums - logits[label]",
        },
        {
            "logits": "dy * (exp(logits - log_sums) - one_hot(labels))",
            "h": "d.logits @ table",
            "table": "d.logitsᵀ @ h",
            "bias": "sum of the rows of d.logits",
        },
    ),
}
