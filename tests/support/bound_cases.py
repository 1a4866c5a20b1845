"""Cases of each op to which the bounds are held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from strategies import starts_of

from pyroberta.ops import REFERENCE
from pyroberta.ops.dropout import keep_mask

EPSILON, RATE, KEY = 1e-5, 0.25, (3, 4)


Draw = Callable[..., np.ndarray]


class Case(NamedTuple):
    make: Callable[[Draw, np.random.Generator], tuple[list[Any], np.ndarray]]  # the arguments and dy
    largest: Callable[..., dict[str, np.ndarray]]  # of the arguments and dy


def top(*arrays: np.ndarray) -> np.ndarray:
    return np.abs(np.stack(np.broadcast_arrays(*arrays))).max(axis=0)


def products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The largest product of each number of a b."""
    return np.abs(a[:, :, None] * b[None]).max(axis=1)


def of_linear(x, kernel, bias, dy):
    return {
        "y": top(products(x, kernel), bias),
        "dx": products(dy, kernel.T),
        "dkernel": products(x.T, dy),
        "dbias": top(*dy),
    }


def of_low_rank(x, a, b, scale, dy):
    h, dh = scale * products(x, a), scale * products(dy, b.T)
    return {"y": products(h, b), "dx": products(dh, a.T), "da": products(x.T, dh), "db": products(h.T, dy)}


def of_gather(x, rows, dy):
    largest = np.zeros_like(x)
    np.maximum.at(largest, rows, np.abs(dy))
    return {"y": np.full_like(dy, np.inf), "dx": largest}  # y has no rounding: it is compared alone


def of_embedding(ids, positions, tokens, position_rows, dy):
    return {
        "y": top(tokens[ids], position_rows[positions]),
        "dtokens": of_gather(tokens, ids, dy)["dx"],
        "dposition_rows": of_gather(position_rows, positions, dy)["dx"],
    }


def gelu_parts(x):
    y, cache = REFERENCE.gelu_forward(x)
    density = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    return y, cache.slope, top(0.5 * np.ones_like(x), x * density)  # (1 + erf) / 2 + x φ


def of_gelu(x, dy):
    return {"y": np.abs(x) / 2, "dx": np.abs(dy) * gelu_parts(x)[2]}


def of_tanh(x, dy):
    return {"y": np.abs(np.tanh(x)), "dx": np.abs(dy)}


def of_feed_forward(x, kernel_1, bias_1, kernel_2, bias_2, dy):
    f = x @ kernel_1 + bias_1
    _, _, slope = gelu_parts(f)
    inner = top(products(x, kernel_1), bias_1) / 2  # (f + f erf) / 2, multiplied out
    df = products(dy, kernel_2.T) * slope
    return {
        "h": top(products(inner, kernel_2), bias_2),
        "dx": products(df, kernel_1.T),
        "dkernel_1": products(x.T, df),
        "dbias_1": top(*df),
        "dkernel_2": products(inner.T, dy),
        "dbias_2": top(*dy),
    }


def of_dropout(x, rate, key, dy):
    keep = keep_mask(key, 0, x.shape, rate) / (1 - rate)
    return {"y": np.abs(x) * keep, "dx": np.abs(dy) * keep}


def of_layer_norm(x, gamma, beta, epsilon, dy, terms=None):
    C = x.shape[1]
    std = np.sqrt(x.var(axis=1, keepdims=True) + epsilon)
    terms = np.abs(x) if terms is None else terms  # that x itself is the sum of
    x_hat = top(terms, terms.max(axis=1, keepdims=True) / C) / std  # x less the mean of x
    slope = dy * gamma
    along = np.abs(slope * x_hat).max(axis=1, keepdims=True) / C
    return {
        "y": top(x_hat * gamma, beta),
        "dx": top(slope, np.abs(slope).max(axis=1, keepdims=True) / C, x_hat * along) / std,
        "dgamma": top(*(dy * x_hat)),
        "dbeta": top(*dy),
    }


def of_add_norm(h, x, gamma, beta, epsilon, rate, key, dy):
    scale = keep_mask(key, 0, x.shape, rate) / (1 - rate)
    terms = of_layer_norm(x + h * scale, gamma, beta, epsilon, dy, top(x, h * scale))
    return {"y": terms["y"], "dh": terms["dx"] * scale, **{name: terms[name] for name in ("dx", "dgamma", "dbeta")}}


def of_attention(q, k, v, starts, H, rate, key, dy):
    """One head of each sequence; y is Σ p v, and dscores p (Σ dy v - Σ p dy v)."""
    y, dq, dk, dv = (np.zeros_like(x) for x in (q, q, k, v))
    D = q.shape[1]
    for b in range(len(starts) - 1):
        rows = slice(starts[b], starts[b + 1])
        S = starts[b + 1] - starts[b]
        scores = q[rows] @ k[rows].T / np.sqrt(D)
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        keep = keep_mask(key, b, (1, S, S), rate)[0] / (1 - rate)
        y[rows] = products(p * keep, v[rows])
        dp = products(dy[rows], v[rows].T) * keep
        dscores = p * top(dp, (p * dp).max(axis=1, keepdims=True)) / np.sqrt(D)
        dq[rows], dk[rows] = products(dscores, k[rows]), products(dscores.T, q[rows])
        dv[rows] = products((p * keep).T, dy[rows])
    return {"y": y, "dq": dq, "dk": dk, "dv": dv}


def of_cross_entropy(h, table, bias, labels, dy):
    terms = top(products(h, table.T), bias)
    z = h @ table.T + bias
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(h)), labels] = 1.0  # p - 1
    dz = p * np.abs(dy)[:, None]
    return {
        "losses": terms[np.arange(len(h)), labels],
        "dh": products(dz, table),
        "dtable": products(dz.T, h),
        "dbias": top(*dz),
    }


def ids(rng, N, V):
    return rng.permutation(np.arange(N) % V).astype(np.int32)  # none more than N / V times


CASES = {
    "gather": Case(lambda draw, rng: ([draw(3, 5), ids(rng, 12, 3)], draw(12, 5)), of_gather),
    "embedding": Case(
        lambda draw, rng: ([ids(rng, 8, 4), ids(rng, 8, 2), draw(4, 5), draw(2, 5)], draw(8, 5)), of_embedding
    ),
    "linear": Case(lambda draw, rng: ([draw(4, 3), draw(3, 4), draw(4)], draw(4, 4)), of_linear),
    "low_rank": Case(lambda draw, rng: ([draw(2, 2), draw(2, 1), draw(1, 2), 0.7], draw(2, 2)), of_low_rank),
    "gelu": Case(lambda draw, rng: ([draw(4, 6)], draw(4, 6)), of_gelu),
    "tanh": Case(lambda draw, rng: ([draw(4, 6)], draw(4, 6)), of_tanh),
    "feed_forward": Case(
        lambda draw, rng: ([draw(1, 1), draw(1, 1), draw(1), draw(1, 1), draw(1)], draw(1, 1)), of_feed_forward
    ),
    "dropout": Case(lambda draw, rng: ([draw(4, 6), RATE, KEY], draw(4, 6)), of_dropout),
    "layer_norm": Case(lambda draw, rng: ([draw(1, 2), draw(2), draw(2), EPSILON], draw(1, 2)), of_layer_norm),
    "add_norm": Case(
        lambda draw, rng: ([draw(1, 2), draw(1, 2), draw(2), draw(2), EPSILON, 0.0, KEY], draw(1, 2)), of_add_norm
    ),
    "attention": Case(
        lambda draw, rng: ([draw(2, 1), draw(2, 1), draw(2, 1), starts_of([2]), 1, 0.0, KEY], draw(2, 1)), of_attention
    ),
    "cross_entropy": Case(
        lambda draw, rng: ([draw(1, 1), draw(2, 1), draw(2), rng.integers(0, 2, 1).astype(np.int32)], draw(1)),
        of_cross_entropy,
    ),
}


def drawing(seed: int) -> tuple[Draw, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return lambda *shape: rng.standard_normal(shape).astype(np.float32), rng


GRADIENTS = {  # of `outputs`' gradients, those that `accumulate` adds up: their number, and that of their argument
    "embedding": {0: 2, 1: 3},
    "linear": {1: 1, 2: 2},
    "low_rank": {1: 1, 2: 2},
    "feed_forward": {1: 1, 2: 2, 3: 3, 4: 4},
    "layer_norm": {1: 1, 2: 2},
    "add_norm": {2: 2, 3: 3},
    "cross_entropy": {1: 1, 2: 2},
}


def wide_attention(draw: Draw, rng: np.random.Generator) -> tuple[list[Any], np.ndarray]:
    lengths = LENGTHS[rng.integers(len(LENGTHS))]
    N, H, D = sum(lengths), int(rng.integers(1, 3)), int(rng.integers(1, 5))
    q, k, v, dy = (draw(N, H * D) for _ in range(4))
    return [q, k, v, starts_of(lengths), H, some_rate(rng), KEY], dy


LENGTHS = [[5], [1, 4], [2, 0, 3], [70], [140]]


def some_rate(rng: np.random.Generator) -> float:
    return float(rng.choice([0.0, 0.1, 1 / 3, 0.5, 0.999]))


def some_epsilon(rng: np.random.Generator) -> float:
    return float(10.0 ** rng.uniform(-44.0, 3.0))


def shape_of(rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(1, 7)), int(rng.integers(1, 9))


def wide_norm(draw: Draw, rng: np.random.Generator) -> tuple[list[Any], np.ndarray]:
    N, C = shape_of(rng)
    return [draw(N, C), draw(C), draw(C), some_epsilon(rng)], draw(N, C)


def wide_add_norm(draw: Draw, rng: np.random.Generator) -> tuple[list[Any], np.ndarray]:
    (x, *rest), dy = wide_norm(draw, rng)
    return [draw(*x.shape), x, *rest, some_rate(rng), KEY], dy


def wide_linear(draw: Draw, rng: np.random.Generator) -> tuple[list[Any], np.ndarray]:
    (N, inner), outer = shape_of(rng), int(rng.integers(1, 6))
    return [draw(N, inner), draw(inner, outer), draw(outer)], draw(N, outer)


def wide_low_rank(draw: Draw, rng: np.random.Generator) -> tuple[list[Any], np.ndarray]:
    (N, inner), (rank, outer) = shape_of(rng), shape_of(rng)
    return [draw(N, inner), draw(inner, rank), draw(rank, outer), float(10.0 ** rng.uniform(-3, 3))], draw(N, outer)


def wide_feed_forward(draw: Draw, rng: np.random.Generator) -> tuple[list[Any], np.ndarray]:
    (first, dy), F = wide_linear(draw, rng), int(rng.integers(1, 6))
    return [*first, draw(first[2].size, F), draw(F)], draw(len(dy), F)


def wide_cross_entropy(draw: Draw, rng: np.random.Generator) -> tuple[list[Any], np.ndarray]:
    (M, C), V = shape_of(rng), int(rng.choice([1, 2, 7, 150]))
    return [draw(M, C), draw(V, C), draw(V), rng.integers(0, V, M).astype(np.int32)], draw(M)


def wide_dropout(draw: Draw, rng: np.random.Generator) -> tuple[list[Any], np.ndarray]:
    shape = shape_of(rng)
    return [draw(*shape), some_rate(rng), KEY], draw(*shape)


WIDE: dict[str, Callable[[Draw, np.random.Generator], tuple[list[Any], np.ndarray]]] = {
    **{op: case.make for op, case in CASES.items()},
    "linear": wide_linear,
    "low_rank": wide_low_rank,
    "feed_forward": wide_feed_forward,
    "dropout": wide_dropout,
    "layer_norm": wide_norm,
    "add_norm": wide_add_norm,
    "attention": wide_attention,
    "cross_entropy": wide_cross_entropy,
}
