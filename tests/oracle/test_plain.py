"""The ops that show every intermediate are those of the table, there and back."""

from __future__ import annotations

import inspect
import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from op_arguments import arguments_of
from strategies import seeds
from within import SINGLE, hold, widened

from pyroberta.ops import REFERENCE
from pyroberta.ops.gelu import erf
from pyroberta.oracle import bounds
from pyroberta.oracle.gradcheck import check_backward
from pyroberta.oracle.plain import PLAIN


@pytest.mark.parametrize("op", PLAIN)
def test_the_names_of_the_arguments_are_those_of_the_op(op: str):
    assert list(PLAIN[op].arguments) == list(inspect.signature(getattr(REFERENCE, f"{op}_forward")).parameters)


@pytest.mark.parametrize("op", PLAIN)
@given(seed=seeds)
def test_the_result_and_the_gradients_are_the_tables(op: str, seed: int):
    arguments, plain = arguments_of(op, seed), PLAIN[op]
    y, cache = getattr(REFERENCE, f"{op}_forward")(*arguments)
    y = y[0] if op == "cross_entropy" else y
    values = plain.forward(*arguments)
    assert list(values)[-1] == "output"
    assert list(values) == list(plain.formulas)
    np.testing.assert_allclose(values["output"], y, rtol=1e-12, atol=1e-12)
    dy = np.random.default_rng([seed, 1]).standard_normal(y.shape)
    expected = getattr(REFERENCE, f"{op}_backward")(dy, cache)
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = plain.backward(dy, arguments, values)
    for name, gradient in zip(plain.gradients, expected, strict=True):
        np.testing.assert_allclose(found[name], gradient, rtol=1e-11, atol=1e-11, err_msg=name)
    assert set(found) <= {*values, *plain.arguments}


# --- formulas ---------------------------------------------------------------------------------------------------------


def names_in(formula: str) -> set[str]:
    """The names of tensors and numbers in a formula."""
    names = set(re.findall(r"(?:d\.)?[A-Za-z]\w*", formula.replace("ᵀ", "").replace("²", "")))
    return names - {"erf", "exp", "sqrt", "one_hot", "π"}


WORDS = {
    *("sum", "of", "the", "rows", "row", "for", "each", "i", "from", "zeros", "being", "means", "and"),
    *("a", "b", "s", "heads", "side", "by", "head", "D"),
}


@pytest.mark.parametrize("op", PLAIN)
def test_every_gradient_has_a_formula_of_the_ops_own_names(op: str):
    arguments, plain = arguments_of(op, 0), PLAIN[op]
    values = plain.forward(*arguments)
    found = plain.backward(np.ones_like(values["output"]), arguments, values)
    assert set(plain.gradient_formulas) == set(found)
    known = {"dy", *plain.arguments, *values, *(f"d.{of}" for of in found)}
    for formula in plain.gradient_formulas.values():
        assert "\n" not in formula
        assert names_in(formula) - WORDS <= known
        assert names_in(formula) & known


def rows_of(x, ndim: int):
    """One number of each row, as a column where the other has columns."""
    return x[:, None] if np.ndim(x) == 1 and ndim == 2 else x


def computed(formula: str, names: dict) -> np.ndarray:
    """What a formula makes, read as Python; of attention, with heads as the axis in front."""
    text = formula.split(", ")[0]
    text = re.sub(r"sum of the rows of (.*)", r"(\1).sum(axis=0)", text)
    text = re.sub(r"\bd\.", "d_", text).replace("²", "**2").replace("2π", "2 * pi")
    text = re.sub(r"(\w+)ᵀ", r"turned(\1)", text)
    functions = {
        "exp": np.exp, "sqrt": np.sqrt, "erf": erf, "pi": np.pi,
        "turned": lambda x: x.swapaxes(-1, -2),
        "one_hot": lambda labels: np.eye(names["logits"].shape[1])[labels],
    }  # fmt: skip
    return eval(text, functions | names)


@pytest.mark.parametrize("op", [op for op in PLAIN if op not in ("gather", "embedding", "attention")])
def test_the_formulas_of_gradients_give_them(op: str):
    arguments, plain = arguments_of(op, 3), PLAIN[op]
    values = plain.forward(*arguments)
    dy = np.random.default_rng(4).standard_normal(values["output"].shape)
    found = plain.backward(dy, arguments, values)
    names = dict(zip(plain.arguments, arguments, strict=False)) | values
    names |= {"dy": dy} | {f"d_{of}": gradient for of, gradient in found.items()}
    names = {of: rows_of(one, 2) if of in ("variance", "log_sums") else one for of, one in names.items()}
    if op == "cross_entropy":
        names["dy"] = dy[:, None]
    if op in ("layer_norm", "add_norm"):
        dx_hat, x_hat = names["d_x_hat"], names["x_hat"]
        names |= {"a": dx_hat.mean(axis=1, keepdims=True), "b": (dx_hat * x_hat).mean(axis=1, keepdims=True)}
    for of, formula in plain.gradient_formulas.items():
        np.testing.assert_allclose(computed(formula, names), found[of], rtol=1e-12, atol=1e-13, err_msg=of)


def test_the_formulas_of_attentions_gradients_give_them():
    arguments, plain = list(arguments_of("attention", 3)), PLAIN["attention"]
    q, starts, H = arguments[0], arguments[3], arguments[4]
    values = plain.forward(*arguments)
    dy = np.random.default_rng(4).standard_normal(q.shape)
    found = plain.backward(dy, arguments, values)
    for b, (start, stop) in enumerate(itertools.pairwise(starts)):
        of_rows = dict(zip("qkv", arguments, strict=False)) | {"dy": dy} | {f"d_{of}": found[of] for of in "qkv"}
        names = {
            of: x[start:stop].reshape(stop - start, H, q.shape[1] // H).swapaxes(0, 1) for of, x in of_rows.items()
        }
        inside = ("scores", "probabilities", "keep", "dropped")
        names |= {of: values[of][b] for of in inside} | {f"d_{of}": found[of][b] for of in inside if of != "keep"}
        names |= {"rate": arguments[5], "D": q.shape[1] // H}
        names["s"] = (names["d_probabilities"] * names["probabilities"]).sum(axis=2, keepdims=True)
        for of, formula in plain.gradient_formulas.items():
            np.testing.assert_allclose(computed(formula, names), names[f"d_{of}"], rtol=1e-12, atol=1e-13, err_msg=of)


# For each value between: the rest of the op as a function of it, all else being fixed.
RESTS = {
    ("low_rank", "projected"): lambda args, values, p: args[3] * (p @ args[2]),
    ("feed_forward", "activation"): lambda args, values, a: a @ args[3] + args[4],
    ("feed_forward", "intermediate"): lambda args, values, f: REFERENCE.gelu_forward(f)[0] @ args[3] + args[4],
    ("layer_norm", "x_hat"): lambda args, values, x_hat: args[1] * x_hat + args[2],
    ("add_norm", "x_hat"): lambda args, values, x_hat: args[2] * x_hat + args[3],
    ("add_norm", "sum"): lambda args, values, s: REFERENCE.layer_norm_forward(s, *args[2:5])[0],
    ("cross_entropy", "logits"): lambda args, values, z: np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), args[3]],
}


@pytest.mark.parametrize(("op", "name"), RESTS)
@given(seed=seeds)
def test_the_gradient_of_a_value_between_is_that_of_the_rest_of_the_op(op: str, name: str, seed: int):
    arguments, plain = arguments_of(op, seed), PLAIN[op]
    values = plain.forward(*arguments)

    def forward(value):
        return RESTS[op, name](arguments, values, value), None

    def backward(dy, _):
        return plain.backward(dy, arguments, values)[name]

    assert check_backward(forward, backward, [values[name]], seed).error < 1e-9


@given(seed=seeds)
def test_attentions_gradients_between_are_those_of_the_rest_of_it(seed: int):
    arguments, plain = arguments_of("attention", seed), PLAIN["attention"]
    v, H, rate = arguments[2], arguments[4], arguments[5]
    values = plain.forward(*arguments)
    lengths = [len(p[0]) for p in values["scores"]]
    sizes = np.cumsum([0, *(H * S * S for S in lengths)])

    def rest_of(name: str):
        def of_dropped(parts):
            y, start = np.zeros_like(v), 0
            for p, S in zip(parts, lengths, strict=True):
                v_b = v[start : start + S].reshape(S, H, v.shape[1] // H).transpose(1, 0, 2)
                y[start : start + S] = (p @ v_b).transpose(1, 0, 2).reshape(S, v.shape[1])
                start += S
            return y

        def of_probabilities(parts):
            return of_dropped([p * keep / (1 - rate) for p, keep in zip(parts, values["keep"], strict=True)])

        def of_scores(parts):
            exponentials = [np.exp(s) for s in parts]
            return of_probabilities([e / e.sum(axis=2, keepdims=True) for e in exponentials])

        return {"dropped": of_dropped, "probabilities": of_probabilities, "scores": of_scores}[name]

    for name in ("dropped", "probabilities", "scores"):

        def forward(flat, name=name):
            parts = [flat[a:b].reshape(H, S, S) for a, b, S in zip(sizes, sizes[1:], lengths, strict=False)]
            return rest_of(name)(parts), None

        def backward(dy, _, name=name):
            return np.concatenate([g.ravel() for g in plain.backward(dy, arguments, values)[name]])

        flat = np.concatenate([value.ravel() for value in values[name]])
        assert check_backward(forward, backward, [flat], seed).error < 1e-9, name


@pytest.mark.parametrize("op", PLAIN)
@given(seed=seeds)
def test_every_value_in_float32_is_within_its_bound(op: str, seed: int):
    """Those inside of the op, too, and the gradient of each."""
    rng, plain = np.random.default_rng([seed, 2]), PLAIN[op]
    scale = 10.0 ** rng.uniform(-3.0, 1.5)
    arguments = [
        (scale * one).astype(np.float32) if isinstance(one, np.ndarray) and one.dtype == np.float64 else one
        for one in arguments_of(op, seed)
    ]
    exact = [widened(one) for one in arguments]
    values, true = plain.forward(*arguments), plain.forward(*exact)
    dy = rng.standard_normal(true["output"].shape).astype(np.float32)
    found = values | {f"d.{name}": one for name, one in plain.backward(dy, arguments, values).items()}
    true |= {f"d.{name}": one for name, one in plain.backward(widened(dy), exact, true).items()}
    limits = bounds.of_values(SINGLE, op, exact, widened(dy))
    assert set(limits) == set(true)
    for name, limit in limits.items():
        parts = ([one] if isinstance(limit, np.ndarray) else one for one in (found[name], true[name], limit))
        for one, two, bound in zip(*parts, strict=True):
            assert one.dtype in (np.float32, bool)
            hold(f"{op}: {name}", one.astype(np.float64), two.astype(np.float64), bound)
