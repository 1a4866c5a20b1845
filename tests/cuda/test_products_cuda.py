"""Products of matrices, what is made of them, and the loss, in float32 and with factors rounded to bfloat16."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_simulator import PRECISIONS, check, extension, in_every_order, on_device, simulated
from drawn_arguments import drawing
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import examples, seeds
from within import bounds_of, hold, widened

from pyroberta.backends import BackendError, cuda, get_ops
from pyroberta.ops import REFERENCE
from pyroberta.oracle import bounds

pytestmark = pytest.mark.cuda

scales = st.sampled_from([1e-4, 1.0, 1e4])
sizes = st.one_of(st.integers(1, 9), st.sampled_from([17, 40, 64, 65]))
in_both = pytest.mark.parametrize("precision", PRECISIONS)


@in_both
@given(
    N=sizes, I=st.one_of(st.integers(0, 9), st.sampled_from([15, 16, 17, 31, 33, 64, 70])), O=sizes,
    a_turned=st.booleans(), b_turned=st.booleans(), has_bias=st.booleans(), scale=st.sampled_from([1.0, 0.3]),
    seed=seeds,
)  # fmt: skip
@example(130, 70, 129, False, True, True, 1.0, 0)
@examples(12)
def test_products_in_every_layout_write_nowhere_else(precision, N, I, O, a_turned, b_turned, has_bias, scale, seed):  # noqa: E741
    draw, _ = drawing(seed)
    rounds, run, ops = precision != "float32", bounds.Arithmetic(precision), simulated()
    a = draw(I, N) if a_turned else draw(N, I)
    b = draw(O, I) if b_turned else draw(I, O)
    bias, before = draw(O) if has_bias else None, draw(N * O + 32)

    def products():
        on = [on_device(a), on_device(b), a_turned, b_turned]
        guarded = on_device(before)
        extension().add_product(ops.view(guarded, 16, 16 + N * O, (N, O)), *on, rounds)
        return extension().multiply(*on, None if bias is None else on_device(bias), scale, rounds), guarded

    y, guarded = in_every_order(products)
    left, right = widened(a.T if a_turned else a), widened(b.T if b_turned else b)
    dot = run.dot(bounds.exact(left), bounds.exact(right))
    scaled = run.multiply(dot, run.rounded(bounds.exact(scale)))
    near = scaled if bias is None else run.add(scaled, bounds.exact(widened(bias)))
    hold("multiply", y, near.value, near.error * (1.0 + 1e-6))
    total = run.add(dot, bounds.exact(widened(before[16:-16]).reshape(N, O)))
    hold("add_product", guarded[16:-16].reshape(N, O), total.value, total.error * (1.0 + 1e-6))
    np.testing.assert_array_equal(guarded[:16], before[:16])
    np.testing.assert_array_equal(guarded[-16:], before[-16:])


@in_both
@given(N=sizes, I=sizes, O=sizes, scale=scales, seed=seeds)
@examples(8)
def test_linear(precision, N, I, O, scale, seed):  # noqa: E741
    draw, _ = drawing(seed, scale)
    check("linear", [draw(N, I), draw(I, O), draw(O)], draw(N, O), {1: (I, O), 2: (O,)}, precision)


@in_both
@given(N=sizes, rank=st.integers(1, 9), I=sizes, O=sizes, scale=scales, seed=seeds)
@examples(8)
def test_low_rank(precision, N, rank, I, O, scale, seed):  # noqa: E741
    draw, rng = drawing(seed)
    arguments = [np.float32(scale) * draw(N, I), draw(I, rank), draw(rank, O), float(rng.choice([0.5, 0.7, 4.0]))]
    check("low_rank", arguments, draw(N, O), {1: (I, rank), 2: (rank, O)}, precision)


@in_both
@given(N=sizes, C=sizes, F=sizes, scale=st.sampled_from([1e-4, 1.0, 10.0]), seed=seeds)
@examples(8)
def test_feed_forward(precision, N, C, F, scale, seed):
    draw, _ = drawing(seed)
    arguments = [np.float32(scale) * draw(N, C), draw(C, F) / np.float32(np.sqrt(C)), draw(F)]
    arguments += [draw(F, C) / np.float32(np.sqrt(F)), draw(C)]
    dh = draw(N, C)
    check("feed_forward", arguments, dh, {1: (C, F), 2: (F,), 3: (F, C), 4: (C,)}, precision)
    ops = simulated(precision)
    _, cache = ops.feed_forward_forward(*map(on_device, arguments))
    whole, alone = (
        ops.feed_forward_backward(on_device(dh), cache)[0],
        ops.feed_forward_backward_input(on_device(dh), cache),
    )
    np.testing.assert_array_equal(ops.to_host(alone), ops.to_host(whole))


@in_both
@pytest.mark.parametrize("kept", [1 << 24, 700])
@given(M=st.integers(0, 12), V=st.one_of(st.integers(1, 40), st.sampled_from([300])), C=sizes, scale=scales, seed=seeds)
@example(3, 800, 5, 1.0, 0)  # a part has one row
@examples(4)
def test_cross_entropy_kept_or_in_parts(precision, kept, M, V, C, scale, seed):
    ops, (draw, rng) = simulated(precision), drawing(seed)
    labels, dlosses = rng.integers(0, V, M).astype(np.int32), draw(M)
    arguments = [draw(M, C), np.float32(min(scale, 30.0)) * draw(V, C) / np.float32(np.sqrt(C)), draw(V), labels]
    before, cuda.KEPT_LOGITS = cuda.KEPT_LOGITS, kept
    try:
        check("cross_entropy", arguments, dlosses, {1: (V, C), 2: (V,)}, precision)
        run, wide = bounds.Arithmetic(precision), [widened(argument) for argument in arguments]
        (_, on_it), cache = ops.cross_entropy_forward(*map(on_device, arguments))
        predicted = ops.to_host(on_it)
        assert predicted.dtype == np.int64
        (_, numpys), exact_cache = REFERENCE.cross_entropy_forward(*wide)
        z, of_z = REFERENCE.logits(*wide[:3]), bounds.logits(run, *wide[:3])["z"]
        at = np.arange(M)  # what is predicted may be any of those that their errors leave as the largest
        assert (z[at, predicted] + of_z[at, predicted] >= z[at, numpys] - of_z[at, numpys]).all()
        ops.cross_entropy_backward(on_device(dlosses), cache)
        again = ops.cross_entropy_backward_input(on_device(dlosses), cache)  # the logits were used up: made again
        exact = REFERENCE.cross_entropy_backward_input(widened(dlosses), exact_cache)
        limits = bounds_of("cross_entropy", arguments, dlosses, run)
        for name, found, true in zip(("dh", "dbias"), again, exact, strict=True):
            hold(name, ops.to_host(found), true, limits[name])
    finally:
        cuda.KEPT_LOGITS = before


@in_both
@given(M=sizes, V=sizes, C=sizes, seed=seeds)
@examples(5)
def test_logits(precision, M, V, C, seed):
    draw, _ = drawing(seed)
    arguments = draw(M, C), draw(V, C), draw(V)
    wide = [widened(array) for array in arguments]
    (z,) = in_every_order(lambda: simulated(precision).logits(*map(on_device, arguments)))
    hold("logits", z, REFERENCE.logits(*wide), bounds.logits(bounds.Arithmetic(precision), *wide)["z"])


def test_the_loss_of_a_bad_number_is_a_bad_number():
    draw, rng = drawing(0)
    h, table, bias, labels = draw(5, 4), draw(300, 4), draw(300), rng.integers(0, 300, 5)
    h[2, 1] = np.nan
    (losses, _), _ = simulated().cross_entropy_forward(*map(on_device, (h, table, bias)), labels)
    assert np.isnan(simulated().to_host(losses)).tolist() == [False, False, True, False, False]


def test_the_first_of_equal_logits_is_predicted():
    table = np.zeros((700, 3), np.float32)
    bias = np.where(np.arange(700) % 250 == 249, 1.0, 0.0).astype(np.float32)
    arguments = map(on_device, (np.ones((2, 3), np.float32), table, bias))
    (_, predicted), _ = simulated().cross_entropy_forward(*arguments, np.array([0, 699]))
    assert simulated().to_host(predicted).tolist() == [249, 249]


def test_mixed_bfloat16_needs_tensor_cores_that_multiply_it(monkeypatch):
    monkeypatch.setattr(cuda, "_context", lambda extension, device: extension.Context(device))
    extension().set_capability(7, 5)
    try:
        with pytest.raises(ValueError, match=r"mixed_bfloat16 needs a GPU of compute capability 8.0 or above.*7\.5"):
            cuda.cuda_ops.__wrapped__(extension(), "mixed_bfloat16")
        assert cuda.cuda_ops.__wrapped__(extension(), "float32").name == "cuda"
    finally:
        extension().set_capability(9, 0)
    with pytest.raises(BackendError, match="'cuda-sim' has float32 and mixed_bfloat16, not float64"):
        get_ops("cuda-sim", "float64")


def test_factors_that_do_not_fit_are_named():
    ops, zeros = simulated(), simulated().zeros
    with pytest.raises(ValueError, match=r"multiply: b must have the shape \(3, any\), got \(4, 5\)"):
        ops.linear_forward(zeros((2, 3), "float32"), zeros((4, 5), "float32"), zeros((5,), "float32"))
    with pytest.raises(ValueError, match=r"multiply: bias must have the shape \(5,\), got \(4,\)"):
        ops.linear_forward(zeros((2, 3), "float32"), zeros((3, 5), "float32"), zeros((4,), "float32"))
    total = zeros((3, 3), "float32")
    with pytest.raises(ValueError, match=r"add_product: b must not share memory with total"):
        extension().add_product(total, zeros((3, 3), "float32"), total, False, False, False)
    with pytest.raises(ValueError, match=r"cross_entropy_forward: labels\[1\] must be at least 0 and below 7, got 7"):
        ops.cross_entropy_forward(*(zeros(s, "float32") for s in [(2, 3), (7, 3), (7,)]), np.array([6, 7]))
