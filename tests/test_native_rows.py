"""Every row that is written in C++, held to the float64 reference: as near as NumPy's float32 comes, or nearer.

The other way round (float64 in C++) it is held to a few units in the last place. Shapes start at nothing and are odd on
purpose: a tile of a product, a register and a task of a thread all have edges.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from strategies import seeds, starts_of
from test_native import needs_native

from pyroberta.backends import get_ops
from pyroberta.ops import REFERENCE, Ops
from pyroberta.ops.dropout import keep_mask

pytestmark = needs_native

scales = st.sampled_from([1e-4, 1.0, 1e4])
sizes = st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 96, 97, 100, 128, 257]))
keys = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
rates = st.sampled_from([0.0, 0.1, 0.5])
EPS = float(np.finfo(np.float32).eps)


def native() -> Ops:
    return get_ops("native")


def outputs(ops: Ops, op: str, arguments: list[Any], dy: Any, shapes: dict[int, tuple[int, ...]]) -> list[np.ndarray]:
    """What forward and backward give, all as arrays. `shapes` has those of the parameters' gradients."""
    y, cache = getattr(ops, f"{op}_forward")(*arguments)
    values = list(y) if isinstance(y, tuple) else [y]
    found = getattr(ops, f"{op}_backward")(dy, cache)
    found = list(found) if isinstance(found, tuple) else [found]
    for i, shape in shapes.items():
        found[i] = ops.accumulate(np.zeros(shape, dy.dtype), found[i])
    return values + found


def widened(value: Any) -> Any:
    return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value


def check(
    op: str,
    arguments: list[Any],
    dy: np.ndarray,
    shapes: dict[int, tuple[int, ...]],
    terms: dict[int, float] | None = None,
    kernels: tuple[int, ...] = (),
) -> None:
    """Holds native float32 to NumPy's error, and native float64 to the reference itself.

    Errors are relative to the largest number of the result, or to `terms` of it, where a result is a difference of
    terms that are larger than itself. The arguments number `kernels` are given plain and prepared.
    """
    wide = [widened(argument) for argument in arguments]
    with np.errstate(all="ignore"):
        exact = outputs(REFERENCE, op, wide, widened(dy), shapes)
        plain = outputs(REFERENCE, op, arguments, dy, shapes)
        for given_kernels in [(), kernels] if kernels else [()]:
            ours, double = (
                outputs(
                    native(),
                    op,
                    [native().prepare(a) if i in given_kernels else a for i, a in enumerate(some)],
                    d,
                    shapes,
                )
                for some, d in ((arguments, dy), (wide, widened(dy)))
            )
            compare(op, exact, plain, ours, double, terms or {})


def compare(
    op: str,
    exact: list[np.ndarray],
    plain: list[np.ndarray],
    ours: list[np.ndarray],
    double: list[np.ndarray],
    terms: dict[int, float],
) -> None:
    for i, (true, numpy, fast, twice) in enumerate(zip(exact, plain, ours, double, strict=True)):
        assert fast.shape == true.shape, (op, i)
        if true.dtype.kind != "f":
            assert np.array_equal(twice, true), (op, i)
            continue
        assert (fast.dtype, twice.dtype) == (np.float32, np.float64), (op, i)
        size = max(np.abs(true).max(initial=0.0), terms.get(i, 0.0), 1e-30)  # float32 has no less to compare
        error = np.abs(fast - true).max(initial=0.0) / size
        allowed = 4.0 * np.abs(numpy - true).max(initial=0.0) / size + 4.0 * EPS
        assert error <= allowed, f"{op}, result {i}: error {error:.2e}, allowed {allowed:.2e}"
        assert np.abs(twice - true).max(initial=0.0) / size <= allowed * 1e-7, f"{op} in float64, result {i}"


def drawing(seed: int, scale: float = 1.0):
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    return draw, rng


# --- products of matrices ---------------------------------------------------------------------------------------------


@given(
    rows=sizes, columns=sizes, depth=st.one_of(st.integers(0, 40), st.sampled_from([255, 256, 257, 1100])),
    a_turned=st.booleans(), b_turned=st.booleans(), accumulate=st.booleans(), scale=scales, seed=seeds,
)  # fmt: skip
@example(300, 5000, 3, False, True, True, 1.0, 0)  # wider than is packed at a time
@example(4200, 40, 9, True, False, False, 1.0, 0)  # taller
@example(1, 700, 300, False, True, False, 1.0, 0)
def test_gemm_is_the_product_in_every_layout_and_writes_nowhere_else(
    rows, columns, depth, a_turned, b_turned, accumulate, scale, seed
):
    from pyroberta import _native

    draw, _ = drawing(seed, scale)
    a = draw(depth, rows).T if a_turned else draw(rows, depth)
    b = draw(columns, depth).T if b_turned else draw(depth, columns)
    guarded = draw(rows * columns + 32)
    before = guarded.copy()
    out = guarded[16:-16].reshape(rows, columns)
    exact = a.astype(np.float64) @ b.astype(np.float64) + (out if accumulate else 0.0)
    size = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64) + np.abs(out)  # what rounding is relative to
    _native.gemm(a, b, out, accumulate)
    assert (np.abs(out - exact) <= (4.0 + np.sqrt(depth)) * EPS * size + 1e-37).all()
    assert np.array_equal(guarded[:16], before[:16])
    assert np.array_equal(guarded[-16:], before[-16:])


def of_linear(x: np.ndarray, kernel: np.ndarray, dy: np.ndarray) -> list[float]:
    """The sizes of the sums of magnitudes of which y, dx, dkernel and dbias are the sums: rounding goes by them."""
    x, kernel, dy = (np.abs(array).astype(np.float64) for array in (x, kernel, dy))
    return [float(array.max()) for array in (x @ kernel, dy @ kernel.T, x.T @ dy, dy.sum(axis=0))]


@given(N=sizes, I=sizes, O=sizes, scale=scales, seed=seeds)
@example(16, 600, 450, 1.0, 0)  # few rows, several blocks of the depth
@example(130, 1100, 300, 1.0, 0)  # deeper than is packed at a time
def test_linear(N, I, O, scale, seed):  # noqa: E741
    draw, _ = drawing(seed, scale)
    x, kernel, bias, dy = draw(N, I), draw(I, O), draw(O), draw(N, O)
    terms = dict(enumerate(of_linear(x, kernel, dy)))
    check("linear", [x, kernel, bias], dy, {1: (I, O), 2: (O,)}, terms=terms, kernels=(1,))


def test_a_prepared_kernel_is_a_copy_that_knows_its_kernel():
    draw, _ = drawing(0)
    x, kernel, bias = draw(5, 70), draw(70, 40), draw(40)
    prepared = native().prepare(kernel)
    before, cache = native().linear_forward(x, prepared, bias)
    assert np.array_equal(
        native().linear_backward_input(before, cache), native().linear_backward_input(before, (x, kernel))
    )
    assert prepared.nbytes >= kernel.nbytes
    assert prepared.kernel is kernel
    kernel[:] = 0.0
    assert np.array_equal(native().linear_forward(x, prepared, bias)[0], before)


def test_a_prepared_kernel_that_does_not_fit_is_named():
    draw, _ = drawing(0)
    prepared = native().prepare(draw(7, 3))
    with pytest.raises(ValueError, match=r"linear_forward: kernel must have the shape \(6, any\), got \(7, 3\)"):
        native().linear_forward(draw(2, 6), prepared, draw(3))
    with pytest.raises(TypeError, match="linear_forward: kernel must have the dtype of x, float64, got float32"):
        native().linear_forward(draw(2, 7).astype(np.float64), prepared, draw(3).astype(np.float64))
    with pytest.raises(TypeError, match="prepare: kernel must be float32 or float64"):
        native().prepare(np.ones((2, 2), np.int64))


@given(N=sizes, C=st.integers(1, 70), F=st.integers(1, 300), scale=st.sampled_from([1e-4, 1.0, 10.0]), seed=seeds)
def test_feed_forward(N, C, F, scale, seed):
    draw, _ = drawing(seed)
    x, dh = scale * draw(N, C), draw(N, C)
    arguments = [x, draw(C, F) / np.float32(np.sqrt(C)), draw(F), draw(F, C) / np.float32(np.sqrt(F)), draw(C)]
    _, kernel_1, _, kernel_2, _ = arguments
    # GELU is x times a sum of numbers up to 1, and its slope such a sum: where they nearly cancel, these are the terms.
    f, _ = REFERENCE.linear_forward(*arguments[:3])
    of_h, of_g, of_kernel_2, of_bias_2 = of_linear(f, kernel_2, dh)
    _, of_x, of_kernel_1, of_bias_1 = of_linear(x, kernel_1, np.full_like(f, of_g))
    # GELU hands on the rounding of its input, which goes by the terms of that.
    lost = max(1.0, of_linear(x, kernel_1, f)[0])
    sizes_of = [lost * size for size in (of_h, of_x, of_kernel_1, of_bias_1, of_kernel_2, of_bias_2)]
    shapes = {1: (C, F), 2: (F,), 3: (F, C), 4: (C,)}
    check("feed_forward", arguments, dh, shapes, terms=dict(enumerate(sizes_of)), kernels=(1, 3))
    _, cache = native().feed_forward_forward(*arguments)
    assert np.array_equal(native().feed_forward_backward_input(dh, cache), native().feed_forward_backward(dh, cache)[0])


@given(N=sizes, F=sizes, scale=scales, seed=seeds)
def test_gelu(N, F, scale, seed):
    draw, _ = drawing(seed, scale)
    check("gelu", [draw(N, F)], draw(N, F), {})


def test_gelu_at_the_ends_of_the_line():
    far = [np.inf, 1e30, 50.0, 13.3, 6.0, 0.0, -0.0, -6.0, -13.3, -50.0, -1e30, np.nan]
    for dtype in (np.float32, np.float64):
        x = np.array([far], dtype)
        y, _ = native().gelu_forward(x)
        with np.errstate(all="ignore"):
            wanted, _ = REFERENCE.gelu_forward(x)
        np.testing.assert_allclose(y, wanted, rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)


# --- norms and dropout ------------------------------------------------------------------------------------------------


def of_norm(x: np.ndarray, gamma: np.ndarray, dy: np.ndarray) -> tuple[float, float, float]:
    """The sizes of the terms of y, dx and dgamma.

    y is what taking the mean away leaves of gamma · x / std, dx what mean and x̂ leave of dx̂ / std: with C = 2, next to
    nothing. And x̂ and std, which dx and dgamma are made of, have lost as many digits as x is larger than std.
    """
    std = np.sqrt(x.var(axis=1, keepdims=True, dtype=np.float64) + 1e-5)
    lost = max(1.0, float((np.abs(x) / std).max()))
    values, slopes = (np.abs(array) * np.abs(gamma) / std for array in (x, dy))
    return float(values.max()), lost * float(slopes.max()), lost * float(np.abs(dy).sum(axis=0).max())


@given(N=sizes, C=st.integers(2, 300), scale=scales, seed=seeds)
def test_layer_norm(N, C, scale, seed):
    draw, _ = drawing(seed)
    x, gamma, dy = np.float32(scale) * draw(N, C), draw(C), draw(N, C)
    check("layer_norm", [x, gamma, draw(C), 1e-5], dy, {1: (C,), 2: (C,)}, terms=dict(enumerate(of_norm(x, gamma, dy))))


some_rows = st.one_of(st.none(), st.integers(0, 3))


def choose_rows(gap: int | None, N: int, rng: np.random.Generator) -> np.ndarray | None:
    return None if gap is None else (np.arange(N) * (gap + 1) + rng.integers(0, gap + 1)).astype(np.int32)


@given(N=sizes, C=st.integers(2, 300), rate=rates, key=keys, gap=some_rows, scale=scales, seed=seeds)
def test_add_norm(N, C, rate, key, gap, scale, seed):
    draw, rng = drawing(seed)
    size = np.float32(scale)
    h, x, gamma, dy, rows = size * draw(N, C), size * draw(N, C), draw(C), draw(N, C), choose_rows(gap, N, rng)
    values, slopes, of_gamma = of_norm(x + REFERENCE.dropout_forward(h, rate, key, rows)[0], gamma, dy)
    beta = draw(C)
    gamma[::3] *= np.float32(rng.choice([1.0, 1e-3, 1e-30, 0.0]))  # betas far above their gammas, too
    arguments = [h, x, gamma, beta, 1e-5, rate, key, rows]
    check(
        "add_norm",
        arguments,
        dy,
        {2: (C,), 3: (C,)},
        terms={0: values, 1: slopes / (1.0 - rate), 2: slopes, 3: of_gamma},
    )


@given(N=sizes, C=sizes, rate=rates, key=keys, gap=some_rows, seed=seeds)
def test_dropout_draws_the_very_same_mask(N, C, rate, key, gap, seed):
    draw, rng = drawing(seed)
    rows = choose_rows(gap, N, rng)
    x = draw(N, C)
    (ours, _), (theirs, _) = (ops.dropout_forward(x, rate, key, rows) for ops in (native(), REFERENCE))
    assert np.array_equal(ours != 0, theirs != 0)
    np.testing.assert_allclose(ours, theirs, rtol=2 * EPS)
    check("dropout", [x, rate, key, rows], draw(N, C), {})


def test_the_masks_threshold_is_rounded_as_the_references():
    ones = np.ones((1, 4096), np.float32)
    for rate in (1e-9, 1e-3, 0.25, 0.999999, 1.0 - 2.0**-40):
        y, _ = native().dropout_forward(ones, rate, (5, 6))
        assert np.array_equal(y[0] != 0, keep_mask((5, 6), 0, (4096,), rate)), rate


# --- rows by number ---------------------------------------------------------------------------------------------------


@given(N=sizes, V=sizes, C=st.integers(1, 800), seed=seeds)
def test_gather_and_embedding(N, V, C, seed):
    draw, rng = drawing(seed)
    ids, positions = (rng.integers(0, size, N).astype(np.int32) for size in (V, 7))
    dy = draw(N, C)
    terms = float(np.abs(dy).sum(axis=0).max())  # of the largest sum of rows
    check("gather", [draw(V, C), ids], dy, {}, terms={1: terms})
    arguments = [ids, positions, draw(V, C), draw(7, C)]
    check("embedding", arguments, dy, {0: (V, C), 1: (7, C)}, terms={1: terms, 2: terms})


# --- attention --------------------------------------------------------------------------------------------------------

some_lengths = st.lists(st.one_of(st.integers(0, 9), st.sampled_from([1, 63, 65, 130])), min_size=1, max_size=4)


def attention_case(lengths, H, D, rate, key, scale, share, seed):
    draw, rng = drawing(seed)
    starts = starts_of(lengths)
    N = int(starts[-1])
    rows = None if share is None else np.flatnonzero(rng.random(N) < share).astype(np.int32)
    R = N if rows is None else len(rows)
    q = np.float32(scale) * draw(R, H * D)
    return [q, draw(N, H * D), draw(N, H * D), starts, H, rate, key, rows], draw(R, H * D)


@given(
    lengths=some_lengths, H=st.integers(1, 3), D=st.sampled_from([1, 3, 8, 20, 64, 80]), rate=rates, key=keys,
    scale=scales, share=st.sampled_from([None, 0.0, 0.2, 1.0]), seed=seeds,
)  # fmt: skip
@example([4096], 1, 16, 0.1, (1, 2), 1.0, None, 0)
@example([4096, 1, 30], 2, 8, 0.1, (1, 2), 1.0, 0.01, 0)
def test_attention(lengths, H, D, rate, key, scale, share, seed):
    arguments, dy = attention_case(lengths, H, D, rate, key, scale, share, seed)
    assume(len(arguments[1]))
    # exp turns the rounding of a score, which goes by its size, into a relative error of a probability. And of the two
    # terms of dscores = p (dp - Σ p dp) nothing is left where one probability is 1.
    q, k, v, d = (float(np.abs(x).max(initial=0.0)) for x in (*arguments[:3], dy))
    lengths_of = [np.linalg.norm(x.reshape(len(x), H, D), axis=2).max(initial=0.0) for x in arguments[:2]]
    score = max(1.0, float(np.prod(lengths_of)) / np.sqrt(D))
    sizes_of = {0: score * v, 1: score * d * v * np.sqrt(D) * k, 2: score * d * v * np.sqrt(D) * q, 3: score * d}
    check("attention", arguments, dy, {}, terms=sizes_of)


def test_a_bad_number_stays_in_its_sequence():
    arguments, dy = attention_case([3, 40, 5], 2, 8, 0.0, (0, 0), 1.0, None, 0)
    for which in range(3):
        broken = [argument.copy() if i < 3 else argument for i, argument in enumerate(arguments)]
        broken[which][20, 3] = np.nan
        y, cache = native().attention_forward(*broken)
        bad = ~np.isfinite(y).all(axis=1)
        assert not bad[:3].any()
        assert not bad[43:].any()
        assert bad[20]
        assert which == 0 or bad[3:43].all()
        gradients = native().attention_backward(dy, cache)
        assert not all(np.isfinite(gradient).all() for gradient in gradients)
        for gradient in gradients:
            assert np.isfinite(gradient[:3]).all()
            assert np.isfinite(gradient[43:]).all()


# --- the loss ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [1 << 24, 1, 2000])
@given(M=st.integers(1, 120), V=st.one_of(st.integers(2, 700)), C=st.integers(1, 50), scale=scales, seed=seeds)
def test_cross_entropy_kept_or_in_parts(kept, M, V, C, scale, seed):
    from pyroberta import native as module

    draw, rng = drawing(seed)
    labels = rng.integers(0, V, M).astype(np.int32)
    arguments = [draw(M, C), np.float32(min(scale, 30.0)) * draw(V, C) / np.float32(np.sqrt(C)), draw(V), labels]
    before, module.KEPT_LOGITS = module.KEPT_LOGITS, kept
    try:
        dlosses = draw(M)
        # exp turns the rounding of a logit, which goes by its terms, into a relative error of a probability.
        h, table = (np.abs(array) for array in arguments[:2])
        z, d = max(1.0, float((h @ table.T).max())), np.abs(dlosses)
        sizes_of = {0: z, 2: 2 * z * float(d.max() * table.max()), 3: z * float((d @ h).max()), 4: z * float(d.sum())}
        check("cross_entropy", arguments, dlosses, {1: (V, C), 2: (V,)}, terms=sizes_of)
        _, cache = native().cross_entropy_forward(*arguments)
        dh, _, dbias = native().cross_entropy_backward(dlosses, cache)
        again, bias_again = native().cross_entropy_backward_input(dlosses, cache)  # its logits were used up: made again
        np.testing.assert_allclose(again, dh, rtol=0, atol=1e-5 * np.abs(dh).max())
        np.testing.assert_allclose(bias_again, dbias, rtol=0, atol=1e-5 * np.abs(dbias).max())
    finally:
        module.KEPT_LOGITS = before


@given(M=sizes, V=st.integers(1, 900), C=sizes, seed=seeds)
def test_logits(M, V, C, seed):
    draw, _ = drawing(seed)
    h, table, bias = draw(M, C), draw(V, C), draw(V)
    exact = REFERENCE.logits(*(x.astype(np.float64) for x in (h, table, bias)))
    error, theirs = (np.abs(ops.logits(h, table, bias) - exact).max() for ops in (native(), REFERENCE))
    terms = np.abs(h).astype(np.float64) @ np.abs(table.T) + np.abs(bias)  # what rounding is relative to
    assert error <= 4 * theirs + 4 * EPS * terms.max()


def test_the_loss_of_a_bad_number_is_a_bad_number():
    draw, rng = drawing(0)
    h, table, bias, labels = draw(5, 4), draw(300, 4), draw(300), rng.integers(0, 300, 5)
    h[2, 1] = np.nan
    (losses, _), _ = native().cross_entropy_forward(h, table, bias, labels)
    assert np.isnan(losses).tolist() == [False, False, True, False, False]
    table[299, 0] = np.inf
    (losses, _), _ = native().cross_entropy_forward(h, table, bias, labels)
    is_low = h[:, 0] < 0  # z is -∞, of which exp is 0; the others' is +∞
    assert np.isfinite(losses).tolist() == (is_low & np.isfinite(h).all(axis=1)).tolist()


# --- what is usual ----------------------------------------------------------------------------------------------------

# Above, each case may have its worst number anywhere, so the bounds are wide where terms cancel. Here many cases are
# taken together, and errors are relative to the result and nothing else.


def usual_cases(scale: float):
    draw, rng = drawing(7)
    x = np.float32(scale)
    N, C, F, V = 70, 96, 200, 500
    starts, labels = starts_of([40, 1, 29]), rng.integers(0, V, N).astype(np.int32)
    root, root_F = np.float32(np.sqrt(C)), np.float32(np.sqrt(F))
    return {
        "linear": ([x * draw(N, C), draw(C, F), draw(F)], draw(N, F), {1: (C, F), 2: (F,)}),
        "feed_forward": (
            [x * draw(N, C), draw(C, F) / root, draw(F), draw(F, C) / root_F, draw(C)],
            draw(N, C),
            {1: (C, F), 2: (F,), 3: (F, C), 4: (C,)},
        ),
        "gelu": ([x * draw(N, C)], draw(N, C), {}),
        "layer_norm": ([x * draw(N, C), draw(C), draw(C), 1e-5], draw(N, C), {1: (C,), 2: (C,)}),
        "add_norm": (
            [x * draw(N, C), x * draw(N, C), draw(C), draw(C), 1e-5, 0.1, (1, 2), None],
            draw(N, C),
            {2: (C,), 3: (C,)},
        ),
        "attention": ([x * draw(N, C), draw(N, C), draw(N, C), starts, 6, 0.1, (1, 2), None], draw(N, C), {}),
        "cross_entropy": ([draw(N, C), x * draw(V, C) / root, draw(V), labels], draw(N), {1: (V, C), 2: (V,)}),
    }


def size_of(array: np.ndarray) -> float:
    """The root of the mean of squares."""
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e2, 1e4])
@pytest.mark.parametrize("op", usual_cases(1.0))
def test_errors_are_usually_those_of_numpys_float32(op, scale):
    arguments, dy, shapes = usual_cases(scale)[op]
    exact = outputs(REFERENCE, op, [widened(argument) for argument in arguments], widened(dy), shapes)
    plain = outputs(REFERENCE, op, arguments, dy, shapes)
    ours = outputs(native(), op, arguments, dy, shapes)
    for i, (true, numpy, fast) in enumerate(zip(exact, plain, ours, strict=True)):
        if true.dtype.kind == "f" and (size := size_of(true)) > 0:
            error, theirs = size_of(fast - true) / size, size_of(numpy - true) / size
            assert error <= 4.0 * theirs + EPS, f"{op}, result {i}: error {error:.2e}, NumPy's {theirs:.2e}"


# --- the whole --------------------------------------------------------------------------------------------------------


@given(P=st.one_of(st.integers(0, 100), st.just((1 << 20) + 17)), scale=scales, seed=seeds)
def test_squared_norm(P, scale, seed):
    draw, _ = drawing(seed, scale)
    x = draw(P)
    exact = float((x.astype(np.float64) ** 2).sum())
    assert native().squared_norm(x) == pytest.approx(exact, rel=1e-12)


@given(seed=seeds)
def test_strided_arguments_are_taken_as_they_are(seed):
    """Views with steps, columns of a wider array, turned arrays: the result is that of a copy, to the bit."""
    draw, rng = drawing(seed)
    x, kernel, bias = draw(24, 18)[::2, ::3], draw(10, 6).T, draw(20)[::2]
    dy = draw(12, 30)[:, 5:15]
    plain = [np.ascontiguousarray(array) for array in (x, kernel, bias)]
    for got, expected in zip(
        outputs(native(), "linear", [x, kernel, bias], dy, {1: (6, 10), 2: (10,)}),
        outputs(native(), "linear", plain, np.ascontiguousarray(dy), {1: (6, 10), 2: (10,)}),
        strict=True,
    ):
        assert np.array_equal(got, expected)
    h, table, bias, labels = draw(8, 6)[::2], draw(9, 6), draw(9), rng.integers(0, 9, 8)[::2]
    (losses, _), _ = native().cross_entropy_forward(h, table, bias, labels)
    assert np.array_equal(losses, native().cross_entropy_forward(h.copy(), table, bias, labels.copy())[0][0])
