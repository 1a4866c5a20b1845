"""Cases of every op of `oracle.plain`, forward and backward, with usual and extreme inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.model.layers import NO_KEY
from pyroberta.ops import Key
from pyroberta.oracle import bounds
from pyroberta.oracle.conformance.case import Case, Expected, Means
from pyroberta.oracle.conformance.drawing import Draw, flat, starts_of
from pyroberta.oracle.plain import PLAIN, Values

Arguments = Mapping[str, Any]  # an array is an input of the case, anything else a setting
Variants = Mapping[str, tuple[str, Callable[[Draw], Arguments]]]  # what is special, and the op's arguments

MOST_INSIDE = 2000  # numbers of a value inside an op; a larger one is left out
TINY, LARGE = 1e-40, 1e12  # a subnormal number of float32; one whose third power float32 can still hold
NO_DROPOUT: Arguments = {"rate": 0.0}


def _linear(d: Draw, N: int, columns_in: int, columns_out: int, scale: float = 1.0) -> Arguments:
    kernel, bias = d.normal(columns_in, columns_out), d.normal(columns_out)
    return {"x": d.normal(N, columns_in, scale=scale), "kernel": kernel, "bias": bias}


def _cancelling(d: Draw) -> Arguments:
    x, kernel = d.normal(3, 6, scale=1e4), d.normal(6, 4)
    x[:, 3:], kernel[3:] = x[:, :3], -kernel[:3]
    kernel[0] *= np.float32(1.0 + 2.0**-20)
    return {"x": x, "kernel": kernel, "bias": d.normal(4, scale=1e-3)}


def _low_rank(d: Draw, N: int, columns_in: int, r: int, columns_out: int, scale: float) -> Arguments:
    return {"x": d.normal(N, columns_in), "a": d.normal(columns_in, r), "b": d.normal(r, columns_out), "scale": scale}


def _feed_forward(d: Draw, N: int, C: int, F: int, scale: float = 0.5) -> Arguments:
    return {
        "x": d.normal(N, C),
        "kernel_1": d.normal(C, F, scale=scale),
        "bias_1": d.normal(F),
        "kernel_2": d.normal(F, C, scale=scale),
        "bias_2": d.normal(C),
    }


def _norm(d: Draw, x: Array, epsilon: float = 1e-5) -> Arguments:
    C = x.shape[1]
    return {"x": x, "gamma": 1.0 + d.normal(C, scale=0.3), "beta": d.normal(C), "epsilon": epsilon}


def _nearly_equal(d: Draw) -> Array:
    """Rows of numbers that differ in the last places alone."""
    rows = np.float32(1000.0) + np.float32(2.0**-14) * d.whole(4, 3, 8)
    return rows.astype(np.float32)


def _add_norm(d: Draw, N: int, C: int, dropout: Arguments = NO_DROPOUT) -> Arguments:
    return {"h": d.normal(N, C), **_norm(d, d.normal(N, C)), **dropout}


def _dropped(d: Draw, lengths: list[int], rate: float) -> Arguments:
    """Dropout of packed sequences, whose numbers are not their places."""
    numbers = np.arange(len(lengths))[::-1] + 3
    return {"rate": rate, "key": d.key(), "starts": starts_of(lengths), "numbers": numbers}


def _attention(
    d: Draw, lengths: list[int], C: int, H: int, scale: float = 1.0, dropout: Arguments = NO_DROPOUT
) -> Arguments:
    N = sum(lengths)
    q, k = d.normal(N, C, scale=scale), d.normal(N, C, scale=scale)
    return {"q": q, "k": k, "v": d.normal(N, C), "num_heads": H, "starts": starts_of(lengths), **dropout}


def _cross_entropy(d: Draw, M: int, C: int, V: int, scale: float = 1.0) -> Arguments:
    return {"h": d.normal(M, C, scale=scale), "table": d.normal(V, C), "bias": d.normal(V), "labels": d.whole(V, M)}


def _sure(d: Draw) -> Arguments:
    """Each label is far likelier than all others, or far less likely."""
    a = dict(_cross_entropy(d, 4, 8, 13, 20.0))
    z = a["h"].astype(np.float64) @ a["table"].T.astype(np.float64) + a["bias"]
    return a | {"labels": np.where(np.arange(4) % 2 == 0, z.argmax(1), z.argmin(1)).astype(np.int32)}


def _even(d: Draw, x: str, arguments: Arguments) -> Arguments:
    """The arguments with zeros for one of them."""
    return {**arguments, x: np.zeros_like(arguments[x])}


VARIANTS: dict[str, Variants] = {
    "gather": {
        "usual": ("a row is taken twice", lambda d: {"x": d.normal(4, 5), "rows": np.array([2, 0, 2, 3], np.int32)}),
        "one_row": ("one row of one number", lambda d: {"x": d.normal(1, 1), "rows": np.zeros(1, np.int32)}),
        "no_rows": ("nothing is taken", lambda d: {"x": d.normal(3, 5), "rows": np.zeros(0, np.int32)}),
    },
    "embedding": {
        "usual": (
            "tokens that come twice",
            lambda d: {
                "ids": np.array([3, 8, 3, 0, 3], np.int32),
                "positions": np.array([0, 1, 2, 0, 1], np.int32),
                "tokens": d.normal(9, 6),
                "position_rows": d.normal(4, 6),
            },
        ),
        "one_token": (
            "one token, one column",
            lambda d: {
                "ids": np.array([2], np.int32),
                "positions": np.zeros(1, np.int32),
                "tokens": d.normal(3, 1),
                "position_rows": d.normal(2, 1),
            },
        ),
        "one_id": (
            "one token everywhere, so that its gradient is a long sum",
            lambda d: {
                "ids": np.full(40, 1, np.int32),
                "positions": np.arange(40, dtype=np.int32) % 8,
                "tokens": d.normal(3, 5),
                "position_rows": d.normal(8, 5),
            },
        ),
    },
    "linear": {
        "usual": ("", lambda d: _linear(d, 5, 12, 7)),
        "one_number": ("one row, one column", lambda d: _linear(d, 1, 1, 1)),
        "no_rows": ("no row: the parameters' gradients are 0", lambda d: _linear(d, 0, 3, 2)),
        "odd_sizes": ("no size is a multiple of 8", lambda d: _linear(d, 9, 13, 17)),
        "long_sum": ("sums of 200 terms", lambda d: _linear(d, 3, 200, 3)),
        "cancelling": ("large terms that cancel", _cancelling),
        "subnormal": ("inputs below the smallest normal number", lambda d: _linear(d, 2, 4, 3, TINY)),
        "large": ("inputs of 1e12", lambda d: _linear(d, 2, 5, 3, LARGE)),
    },
    "low_rank": {
        "usual": ("", lambda d: _low_rank(d, 5, 12, 3, 7, 0.5)),
        "rank_one": ("rank 1, and a scale that binary can't hold", lambda d: _low_rank(d, 1, 5, 1, 3, 1.7)),
        "odd_sizes": ("no size is a multiple of 8", lambda d: _low_rank(d, 3, 11, 5, 9, 2.0)),
    },
    "gelu": {
        "usual": ("", lambda d: {"x": d.normal(5, 12)}),
        "far": (
            "from -40 to 40: far below 0 the result is tiny and must not be lost in 1 + erf",
            lambda d: {"x": np.linspace(-40.0, 40.0, 81, dtype=np.float32).reshape(9, 9)},
        ),
        "tail": ("from -14 to -3", lambda d: {"x": np.linspace(-14.0, -3.0, 45, dtype=np.float32).reshape(5, 9)}),
        "tiny": (
            "0, and numbers near it",
            lambda d: {"x": np.array([[0.0, -0.0, TINY, -TINY, 1e-30, -1e-20, 1e-8, -1e-4]], np.float32)},
        ),
    },
    "tanh": {
        "usual": ("", lambda d: {"x": d.normal(3, 7)}),
        "far": (
            "0, and numbers near it and far from it",
            lambda d: {"x": np.array([[0.0, TINY, -1e-20, 1e-4, -0.5, 8.0, -12.0, 80.0, -1e30]], np.float32)},
        ),
    },
    "feed_forward": {
        "usual": ("", lambda d: _feed_forward(d, 5, 12, 20)),
        "one_row": ("one row", lambda d: _feed_forward(d, 1, 6, 9)),
        "one_number": ("C = F = 1", lambda d: _feed_forward(d, 3, 1, 1)),
        "saturated": ("GELU far from 0", lambda d: _feed_forward(d, 4, 7, 11, 4.0)),
    },
    "layer_norm": {
        "usual": ("", lambda d: _norm(d, d.normal(5, 12))),
        "one_row": ("one row", lambda d: _norm(d, d.normal(1, 8))),
        "one_column": ("C = 1: the variance is 0, and the gradient of x too", lambda d: _norm(d, d.normal(4, 1))),
        "odd_width": ("C = 13", lambda d: _norm(d, d.normal(4, 13))),
        "equal_numbers": ("rows of equal numbers", lambda d: _norm(d, np.repeat(d.normal(3, 1), 7, axis=1))),
        "nearly_equal": ("rows that differ in the last places alone", lambda d: _norm(d, _nearly_equal(d))),
        "far_from_zero": ("a mean of 1000 and a variance of 1", lambda d: _norm(d, 1000.0 + d.normal(3, 16))),
        "small": ("a variance far below epsilon", lambda d: _norm(d, d.normal(3, 8, scale=1e-6), 1e-12)),
        "subnormal": ("numbers below the smallest normal one", lambda d: _norm(d, d.normal(2, 8, scale=TINY))),
        "large": ("numbers of 1e12", lambda d: _norm(d, d.normal(2, 8, scale=LARGE))),
    },
    "dropout": {
        "usual": ("two packed sequences", lambda d: {"x": d.normal(7, 5), **_dropped(d, [4, 3], 0.1)}),
        "half": ("a rate of 0.5", lambda d: {"x": d.normal(3, 9), **_dropped(d, [3], 0.5)}),
        "none": ("a rate of 0", lambda d: {"x": d.normal(2, 3), "rate": 0.0}),
    },
    "add_norm": {
        "usual": ("without dropout", lambda d: _add_norm(d, 5, 12)),
        "dropout": ("with dropout, of two packed sequences", lambda d: _add_norm(d, 7, 12, _dropped(d, [3, 4], 0.1))),
        "one_column": ("C = 1", lambda d: _add_norm(d, 3, 1)),
        "odd_width": ("C = 11, one row", lambda d: _add_norm(d, 1, 11)),
        "opposite": (
            "h = -x: the sum is 0, and epsilon alone is left",
            lambda d: (a := dict(_add_norm(d, 3, 8))) | {"h": -a["x"]},
        ),
    },
    "attention": {
        "usual": ("three packed sequences, two heads", lambda d: _attention(d, [4, 1, 6], 12, 2)),
        "one_token": ("one token: its probability is 1", lambda d: _attention(d, [1], 6, 2)),
        "one_head": ("one head of 5 columns", lambda d: _attention(d, [5, 3], 5, 1)),
        "narrow_heads": ("D = 1", lambda d: _attention(d, [4, 2], 3, 3)),
        "empty_sequence": ("a sequence of no tokens between two", lambda d: _attention(d, [3, 0, 2], 4, 2)),
        "long": ("70 tokens", lambda d: _attention(d, [70], 4, 1)),
        "large_scores": ("scores of some 1000", lambda d: _attention(d, [5, 4], 8, 2, 25.0)),
        "equal_scores": ("q = 0: each key counts as much", lambda d: _even(d, "q", _attention(d, [5, 2], 6, 2))),
        "tiny_scores": ("scores that float32 can't hold", lambda d: _attention(d, [4], 6, 2, 1e-22)),
        "dropout": (
            "dropout of probabilities",
            lambda d: _attention(d, [4, 5], 8, 2, dropout=_dropped(d, [4, 5], 0.25)),
        ),
    },
    "cross_entropy": {
        "usual": ("", lambda d: _cross_entropy(d, 6, 8, 13)),
        "one_target": ("one target, one column", lambda d: _cross_entropy(d, 1, 1, 3)),
        "no_targets": ("no target: no loss, and gradients of 0", lambda d: _cross_entropy(d, 0, 4, 5)),
        "one_entry": ("V = 1: the loss is 0", lambda d: _cross_entropy(d, 3, 4, 1)),
        "long": ("V = 150", lambda d: _cross_entropy(d, 3, 4, 150)),
        "large_logits": (
            "logits of some 1000, which exp alone would overflow",
            lambda d: _cross_entropy(d, 4, 8, 13, 400.0),
        ),
        "equal_logits": (
            "h = 0 and no bias: the loss is log V",
            lambda d: _even(d, "bias", _even(d, "h", _cross_entropy(d, 3, 4, 9))),
        ),
        "sure": ("labels that are likeliest by far, and least likely", _sure),
    },
}


def cases(seed: int) -> Iterator[Case]:
    """Yields the cases of the kind op, without expected values. The inputs contain dy, the gradient of the output."""
    for op, variants in VARIANTS.items():
        plain = PLAIN[op]
        for variant, (note, arguments) in variants.items():
            draw = Draw(seed, f"op/{op}/{variant}")
            found = dict(arguments(draw))
            inputs = {of: value for of, value in found.items() if isinstance(value, np.ndarray)}
            settings = {of: value for of, value in found.items() if of not in inputs}
            case = Case(f"op/{op}/{variant}", note, f"ops/{op}.md", settings, plain.formulas, inputs)
            values = plain.forward(*_arguments(case, np.float64))
            inputs["dy"] = draw.normal(*values["output"].shape)
            if settings.get("rate", 0.0) or "key" in inputs:
                inputs |= flat({"keep": values["keep"]})
            yield case


def expected(case: Case, means: Means, precision: str) -> Expected:
    """Returns every value and every gradient with its bound, and the names of those inside the op."""
    plain, arguments, dy = PLAIN[case.subject], _arguments(case, np.float64), case.input("dy", np.float64)
    forward = plain.forward(*arguments)
    gradients = plain.backward(dy, arguments, forward)
    values = flat({**forward, **{f"d.{of}": gradient for of, gradient in gradients.items()}})
    limits = {of: np.zeros(np.shape(value)) for of, value in values.items()}
    for run in (bounds.Arithmetic.of_others(precision), bounds.Arithmetic(np.float64)):  # the values are rounded, too
        for of, limit in flat(bounds.of_values(run, case.subject, arguments, dy)).items():
            limits[of] = limits[of] + limit
    asked = ["output", *(f"d.{of}" for of in plain.gradients)]
    kept = [
        of for of, value in values.items()
        if of in asked or (of.split(".")[0] != "keep" and value.size <= MOST_INSIDE)
    ]  # fmt: skip
    return Expected({of: values[of] for of in kept}, limits, [of for of in kept if of not in asked])


def answer(case: Case, means: Means) -> Values:
    """Returns the output and the gradients, as the rows of the ops table compute them."""
    ops, dtype, _ = means
    op, arguments, plain = case.subject, _arguments(case, dtype), PLAIN[case.subject]
    y, cache = getattr(ops, f"{op}_forward")(*arguments)
    results = getattr(ops, f"{op}_backward")(case.input("dy", dtype), cache)
    found = dict(zip(plain.gradients, results if isinstance(results, tuple) else (results,), strict=True))
    for of, gradient in found.items():
        if not isinstance(gradient, np.ndarray):  # of a parameter: what the table's `accumulate` understands
            found[of] = ops.accumulate(np.zeros(case.inputs[of].shape, dtype), gradient)
    return {"output": y[0] if isinstance(y, tuple) else y, **{f"d.{of}": gradient for of, gradient in found.items()}}


def _arguments(case: Case, dtype: Any) -> list[Any]:
    """The op's arguments in their order; None for those that the case lacks."""
    found: list[Any] = []
    for of in PLAIN[case.subject].arguments:
        if of == "key":
            found.append(Key(*case.inputs["key"].tolist()) if "key" in case.inputs else NO_KEY)
        else:
            found.append(case.input(of, dtype) if of in case.inputs else case.settings.get(of))
    return found
