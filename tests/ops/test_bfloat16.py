"""The precision "mixed_bfloat16": what its reference rounds, and that it stays within its bounds."""

from __future__ import annotations

import ast
import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bound_cases import GRADIENTS, KEY, WIDE, drawing
from hypothesis import example, given
from hypothesis import strategies as st
from op_arguments import call_with
from small_models import random_batch, random_params, small_config
from strategies import seeds, starts_of
from within import SINGLE, bounds_of, hold, outputs, widened

from pyroberta import MaskedLM
from pyroberta.backends import BackendError, bfloat16, get_ops
from pyroberta.backends.bfloat16 import bfloat16_ops, rounded_to_bfloat16
from pyroberta.model.gradients import Gradients
from pyroberta.model.model import model_backward, model_forward
from pyroberta.ops import REFERENCE, Key
from pyroberta.ops.precision import PRECISIONS, Precision, precision
from pyroberta.oracle import bounds

MIXED = bounds.Arithmetic("mixed_bfloat16")


def test_a_precision_is_a_value_with_kerass_name():
    assert [precision(name).is_mixed for name in PRECISIONS] == [False, False, True]
    with pytest.raises(ValueError, match=r"one of 'float32', 'float64', 'mixed_bfloat16'; got 'bfloat16'"):
        precision("bfloat16")


@given(bits=st.integers(0, 2**32 - 1))
@example(0x3F808000)  # in the middle, and the even one is below
@example(0x3F818000)  # above
@example(0x7F7FFFFF)  # the largest float32
@example(0x00000001)
@example(0xFFFFFFFF)
def test_rounding_is_to_the_nearest_and_ties_to_even(bits):
    x = np.array([bits], np.uint32).view(np.float32)
    rounded = rounded_to_bfloat16(x)
    if np.isnan(x[0]):
        assert np.isnan(rounded[0])
        return
    below = np.array([bits & 0xFFFF0000], np.uint32).view(np.float32)
    above = np.array([(bits & 0xFFFF0000) + 0x10000], np.uint64).astype(np.uint32).view(np.float32)
    low = np.float64(below[0])
    high = np.float64(above[0]) if np.isfinite(above[0]) else np.copysign(2.0**128, low)
    to_low, to_high = abs(np.float64(x[0]) - low), abs(high - np.float64(x[0]))
    is_even = not bits >> 16 & 1
    assert rounded[0] == (below[0] if to_low < to_high or (to_low == to_high and is_even) else above[0])


def test_matmuls_factors_are_rounded_and_sums_are_not():
    ops = bfloat16_ops()
    third = np.full((1, 1), 1 / 3, np.float32)
    y, cache = ops.linear_forward(third, third, np.zeros(1, np.float32))
    assert y[0, 0] == np.float32(rounded_to_bfloat16(third)[0, 0] ** 2)
    assert type(y) is np.ndarray
    (dx, dkernel, dbias) = ops.linear_backward(third, cache)
    assert {type(gradient) for gradient in (dx, dkernel, dbias)} == {np.ndarray}
    assert dbias[0] == third[0, 0]  # a sum, no product
    assert ops.add(third, third)[0, 0] == 2 * third[0, 0]


def test_the_reference_itself_is_as_it_was():
    x = np.full((2, 2), 1 / 3, np.float32)
    assert np.array_equal(REFERENCE.linear_forward(x, x, x[0])[0], x @ x + x[0])


def case(op: str, seed: int) -> tuple[list[Any], np.ndarray]:
    draw, rng = drawing(seed)
    if op == "attention":
        D = int(rng.integers(1, 9))
        q, k, v, dy = (draw(7, 2 * D) for _ in range(4))
        return [q, k, v, starts_of([3, 0, 4]), 2, float(rng.choice([0.0, 0.3])), KEY], dy
    return WIDE[op](draw, rng)


@pytest.mark.parametrize("op", WIDE)
@given(seed=seeds)
def test_its_rows_are_within_the_bounds_of_the_precision(op, seed):
    arguments, dy = case(op, seed)
    shapes = {i: arguments[at].shape for i, at in GRADIENTS.get(op, {}).items()}
    found = outputs(bfloat16_ops(), op, arguments, dy, shapes)
    true = outputs(REFERENCE, op, [widened(argument) for argument in arguments], widened(dy), shapes)
    for one, two, (name, bound) in zip(found, true, bounds_of(op, arguments, dy, MIXED).items(), strict=True):
        assert one.dtype == np.float32
        hold(f"{op}: {name}", one, two, bound)


@pytest.mark.parametrize("op", ["linear", "low_rank", "feed_forward", "attention", "cross_entropy"])
def test_the_bound_is_that_of_bfloat16_and_no_wider(op):
    """A product's bound is at least 2⁻⁸ of its size, and float32's is no bound for it."""
    ratios = []
    for seed in range(5):
        arguments, dy = case(op, seed)
        mixed, single = bounds_of(op, arguments, dy, MIXED), bounds_of(op, arguments, dy, SINGLE)
        ratios.append([np.median(mixed[name] / single[name]) for name in mixed if name not in ("dbias", "dbias_2")])
    assert 2**8 < np.median(ratios) < 2**16


def test_a_model_learns_in_it():
    config = small_config(dropout=0.1)
    params, batch = random_params(config, 0, np.float32), random_batch(config, [5, 7], seed=0)

    def gradient(ops: Any, params: Any) -> np.ndarray:
        grads = Gradients(params.zeros_like(), set(params))
        (losses, _), cache = model_forward(ops, params, config, batch, Key.of_update(0, 0), grads.lowest)
        model_backward(ops, grads, np.ones_like(losses), cache)
        return grads.sums.flat

    mixed, exact = gradient(bfloat16_ops(), params), gradient(REFERENCE, params.astype(np.float64))
    assert mixed.dtype == np.float32
    off = np.linalg.norm(mixed - exact) / np.linalg.norm(exact)
    assert 1e-4 < off < 5e-2


def test_a_users_model_takes_it_by_kerass_name_on_numpy_alone(capsys):
    lm = MaskedLM.from_preset("roberta_tiny_en", dtype="mixed_bfloat16")
    assert (lm.backbone.precision, lm.backbone.dtype) == ("mixed_bfloat16", "float32")
    lm.summary()
    assert "mixed_bfloat16, backend numpy" in capsys.readouterr().out
    texts = ["The President of the United <mask> spoke to Congress."]
    plain = MaskedLM.from_preset("roberta_tiny_en", backend="numpy")
    assert lm.fill_mask(texts)[0][0].token_str == plain.fill_mask(texts)[0][0].token_str
    ours, theirs = lm.predict(texts), plain.predict(texts)
    assert 0.0 < np.abs(ours - theirs).max() < 1.0
    history = lm.fit(["We must work together.", "It is late."], epochs=2, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert all((lm.params[name] != plain.params[name]).any() for name in lm.params)
    for again in (copy.deepcopy(lm), pickle.loads(pickle.dumps(lm))):
        assert again.backbone.precision == "mixed_bfloat16"
        assert np.array_equal(again.predict(texts), lm.predict(texts))
    for backend in ("native", "native-blas"):
        with pytest.raises(BackendError, match=f"'mixed_bfloat16' is not available in this backend yet, '{backend}'"):
            MaskedLM.from_preset("roberta_tiny_en", dtype="mixed_bfloat16", backend=backend)


# How the ops may take sums that are no products of matrices: along rows and columns of one array's squares or of two
# arrays' products, number by number.
SUMS = {"i,i->", "nc,nc->n", "nc,nc->c", "hij,hij->hi"}


def test_every_product_of_matrices_in_the_ops_is_one_that_rounds():
    """`@` and `np.matmul` round their factors; `dot`, `einsum` and the like would not."""
    folder, products = Path(REFERENCE.linear_forward.__code__.co_filename).parent, 0
    for path in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            products += isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            assert node.func.attr not in ("dot", "vdot", "inner", "outer", "tensordot", "multi_dot", "vecdot"), path
            if node.func.attr == "einsum":
                assert ast.literal_eval(node.args[0]) in SUMS, path
    assert products > 15


@pytest.mark.parametrize("factor", [0, 1])
@pytest.mark.parametrize("op", ["linear", "low_rank", "feed_forward", "attention", "cross_entropy"])
def test_each_factor_of_each_op_is_rounded_there_and_back(op: str, factor: int, monkeypatch: pytest.MonkeyPatch):
    """A rounding that leaves one factor of all products as it is gives other bits, in forward and in backward."""
    rows = [name for name in vars(REFERENCE) if name.startswith(f"{op}_") and name.endswith(("_forward", "_backward"))]

    def results() -> list[np.ndarray]:
        table, arguments = bfloat16.bfloat16_ops.__wrapped__(), call_with(f"{op}_forward", np.float32, 3)[1]
        y, cache = getattr(table, f"{op}_forward")(*arguments)
        first = y[0] if isinstance(y, tuple) else y
        dy = np.random.default_rng(5).standard_normal(first.shape).astype(np.float32)
        gradients = getattr(table, f"{op}_backward")(dy, cache)
        return [first, *(gradients if isinstance(gradients, tuple) else (gradients,))]

    assert len(rows) == 2
    before, calls = results(), [0]
    plain = bfloat16.rounded_to_bfloat16

    def leaving_one(x):
        calls[0] += 1
        return x if (calls[0] - 1) % 2 == factor else plain(x)

    monkeypatch.setattr(bfloat16, "rounded_to_bfloat16", leaving_one)
    after = results()
    changed = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert changed[0]
    assert any(changed[1:])


def test_a_precision_that_no_backend_has_is_told_and_not_taken_for_another(monkeypatch: pytest.MonkeyPatch):
    half = Precision("mixed_float16", np.dtype(np.float32), "float16")
    monkeypatch.setitem(PRECISIONS, "mixed_float16", half)
    for name in ("auto", "numpy"):
        with pytest.raises(BackendError, match=r"'mixed_float16' is not available in this .*; no backend has it"):
            get_ops(name, "mixed_float16")
    with pytest.raises(ValueError, match="a precision is one of 'float32'"):
        get_ops("numpy", "float8")
