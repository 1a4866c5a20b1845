"""Every row that is written in C++, held to the float64 reference within the bounds of `pyroberta.oracle.bounds`.

So is NumPy's float32. float64 in C++ may differ from NumPy's by float64's bound for each of them. Shapes start at
nothing and are odd on purpose: a tile of a product, a register and a task of a thread all have edges.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawn_arguments import attention_case, choose_rows, choose_sequences, drawing
from hypothesis import assume, example, given
from hypothesis import strategies as st
from native_extension import needs_native
from strategies import seeds, starts_of
from within import DOUBLE, SINGLE, bounds_of, hold, outputs, widened

from pyroberta.backends import get_ops
from pyroberta.ops import REFERENCE, Ops
from pyroberta.ops.dropout import keep_mask
from pyroberta.ops.linear import LinearCache
from pyroberta.oracle import bounds

pytestmark = needs_native

scales = st.sampled_from([1e-4, 1.0, 1e4])
sizes = st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 96, 97, 100, 128, 257]))
keys = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
rates = st.sampled_from([0.0, 0.1, 0.5])
EPS = float(np.finfo(np.float32).eps)


def native() -> Ops:
    return get_ops("native")


def check(
    op: str,
    arguments: list[Any],
    dy: np.ndarray,
    shapes: dict[int, tuple[int, ...]] | None = None,
    kernels: tuple[int, ...] = (),
) -> None:
    """Holds all results to their bounds. The arguments number `kernels` are given plain and prepared."""
    wide, wide_dy = [widened(argument) for argument in arguments], widened(dy)
    shapes = shapes or {}
    with np.errstate(under="ignore"):
        exact = outputs(REFERENCE, op, wide, wide_dy, shapes)
        results = [("NumPy's float32", np.float32, outputs(REFERENCE, op, arguments, dy, shapes))]
        for given_kernels in [(), kernels] if kernels else [()]:
            for dtype, some, d in ((np.float32, arguments, dy), (np.float64, wide, wide_dy)):
                prepared = [native().prepare(a) if i in given_kernels else a for i, a in enumerate(some)]
                how = "float32" if dtype is np.float32 else "float64"
                results.append((f"native {how}", dtype, outputs(native(), op, prepared, d, shapes)))
        if op in ("linear", "low_rank", "feed_forward", "cross_entropy"):  # the ops that are products
            blas = get_ops("native-blas")
            results.append(("native-blas float32", np.float32, outputs(blas, op, arguments, dy, shapes)))
            results.append(("native-blas float64", np.float64, outputs(blas, op, wide, wide_dy, shapes)))
        singles, doubles = (bounds_of(op, arguments, dy, precision) for precision in (SINGLE, DOUBLE))
    for how, dtype, found in results:
        for (name, single), double, one, true in zip(singles.items(), doubles.values(), found, exact, strict=True):
            assert one.dtype == dtype, (op, name)
            hold(f"{op}: {name}, {how}", one, true, double + (single if dtype is np.float32 else double))


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
    before_out = widened(out) if accumulate else None
    exact = widened(a) @ widened(b) + (before_out if accumulate else 0.0)
    bound = SINGLE.dot(bounds.exact(a), bounds.exact(b), before_out).error * (1.0 + 1e-6)
    _native.gemm(a, b, out, accumulate)
    hold("gemm", out, exact, bound)
    assert np.array_equal(guarded[:16], before[:16])
    assert np.array_equal(guarded[-16:], before[-16:])


@given(N=sizes, I=sizes, O=sizes, scale=scales, seed=seeds)
@example(16, 600, 450, 1.0, 0)  # few rows, several blocks of the depth
@example(130, 1100, 300, 1.0, 0)  # deeper than is packed at a time
def test_linear(N, I, O, scale, seed):  # noqa: E741
    draw, _ = drawing(seed, scale)
    x, kernel, bias, dy = draw(N, I), draw(I, O), draw(O), draw(N, O)
    check("linear", [x, kernel, bias], dy, {1: (I, O), 2: (O,)}, kernels=(1,))


@given(N=sizes, I=sizes, O=sizes, scale=scales, seed=seeds)
def test_a_gradient_is_added_to_what_is_there(N, I, O, scale, seed):  # noqa: E741
    draw, rng = drawing(seed)
    x, dy, total = draw(N, I), draw(N, O), np.float32(scale) * draw(I, O)
    ids, table = rng.integers(0, I, N).astype(np.int32), np.float32(scale) * draw(I, O)
    size, of_table = np.abs(widened(x)).T @ np.abs(widened(dy)), np.zeros((I, O))
    np.add.at(of_table, ids, np.abs(widened(dy)))
    for ops in (native(), REFERENCE):
        _, dkernel, _ = ops.linear_backward(dy, ops.linear_forward(x, draw(I, O), draw(O))[1])
        found = ops.accumulate(total.copy(), dkernel)
        bound = SINGLE.dot(bounds.exact(x.T), bounds.exact(dy)).error
        bound = bound + bounds.accumulate(SINGLE, widened(total), None, terms=N, size=size)["total"]
        hold(f"{ops.name}: dkernel", found, widened(total) + widened(x).T @ widened(dy), bound)

        dtokens, _ = ops.embedding_backward(dy, ops.embedding_forward(ids, ids, table, table)[1])
        found = ops.accumulate(table.copy(), dtokens)
        exact = widened(table)
        np.add.at(exact, ids, widened(dy))
        bound = bounds.embedding(SINGLE, ids, ids, widened(table), widened(table), dy=widened(dy))["dtokens"]
        bound = bound + bounds.accumulate(SINGLE, widened(table), None, terms=N, size=of_table)["total"]
        hold(f"{ops.name}: dtokens", found, exact, bound)


def test_a_prepared_kernel_is_a_copy_that_knows_its_kernel():
    draw, _ = drawing(0)
    x, kernel, bias = draw(5, 70), draw(70, 40), draw(40)
    prepared = native().prepare(kernel)
    before, cache = native().linear_forward(x, prepared, bias)
    of_kernel = native().linear_backward_input(before, LinearCache(x, kernel))
    assert np.array_equal(native().linear_backward_input(before, cache), of_kernel)
    assert prepared.nbytes >= kernel.nbytes
    assert np.shares_memory(prepared.kernel, kernel)
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
    shapes = {1: (C, F), 2: (F,), 3: (F, C), 4: (C,)}
    check("feed_forward", arguments, dh, shapes, kernels=(1, 3))
    _, cache = native().feed_forward_forward(*arguments)
    assert np.array_equal(native().feed_forward_backward_input(dh, cache), native().feed_forward_backward(dh, cache)[0])


@given(N=sizes, F=sizes, scale=scales, seed=seeds)
@example(1, 1, 1.0, 2421208)  # x is near -0.75, where the slope is 0
def test_gelu(N, F, scale, seed):
    draw, _ = drawing(seed, scale)
    check("gelu", [draw(N, F)], draw(N, F))


@given(N=sizes, C=sizes, scale=scales, seed=seeds)
def test_tanh(N, C, scale, seed):
    draw, _ = drawing(seed, scale)
    check("tanh", [draw(N, C)], draw(N, C))


def test_gelu_at_the_ends_of_the_line():
    far = [np.inf, 1e30, 50.0, 13.3, 6.0, 0.0, -0.0, -6.0, -13.3, -50.0, -1e30, np.nan]
    for dtype in (np.float32, np.float64):
        x = np.array([far], dtype)
        y, _ = native().gelu_forward(x)
        with np.errstate(all="ignore"):
            wanted, _ = REFERENCE.gelu_forward(x)
        assert np.array_equal(y[:, [0, -1]], [[np.inf, np.nan]], equal_nan=True)
        some = slice(1, -1)
        bound = bounds_of("gelu", [x[:, some]], x[:, some], SINGLE if dtype is np.float32 else DOUBLE)["y"]
        hold("gelu", y[:, some], widened(wanted[:, some]), 2.0 * bound)


@given(N=sizes, rank=st.integers(1, 9), I=sizes, O=sizes, scale=scales, seed=seeds)
def test_low_rank(N, rank, I, O, scale, seed):  # noqa: E741
    draw, rng = drawing(seed)
    arguments = [np.float32(scale) * draw(N, I), draw(I, rank), draw(rank, O), float(rng.choice([0.5, 0.7, 4.0]))]
    check("low_rank", arguments, draw(N, O), {1: (I, rank), 2: (rank, O)})


# --- norms and dropout ------------------------------------------------------------------------------------------------


@given(N=sizes, C=st.integers(2, 300), scale=scales, seed=seeds)
def test_layer_norm(N, C, scale, seed):
    draw, _ = drawing(seed)
    x, gamma, dy = np.float32(scale) * draw(N, C), draw(C), draw(N, C)
    check("layer_norm", [x, gamma, draw(C), 1e-5], dy, {1: (C,), 2: (C,)})


some_rows = st.one_of(st.none(), st.integers(0, 3))


@given(N=sizes, C=st.integers(2, 300), rate=rates, key=keys, gap=some_rows, scale=scales, seed=seeds)
def test_add_norm(N, C, rate, key, gap, scale, seed):
    draw, rng = drawing(seed)
    size = np.float32(scale)
    h, x, gamma, dy, rows = size * draw(N, C), size * draw(N, C), draw(C), draw(N, C), choose_rows(gap, N, rng)
    beta = draw(C)
    gamma[::3] *= np.float32(rng.choice([1.0, 1e-3, 1e-30, 0.0]))  # betas far above their gammas, too
    arguments = [h, x, gamma, beta, 1e-5, rate, key, *choose_sequences(N, rows, rng), rows]
    check("add_norm", arguments, dy, {2: (C,), 3: (C,)})


@given(N=sizes, C=sizes, rate=rates, key=keys, gap=some_rows, seed=seeds)
def test_dropout_draws_the_very_same_mask(N, C, rate, key, gap, seed):
    draw, rng = drawing(seed)
    rows = choose_rows(gap, N, rng)
    sequences = choose_sequences(N, rows, rng)
    x = draw(N, C)
    (ours, _), (theirs, _) = (ops.dropout_forward(x, rate, key, *sequences, rows) for ops in (native(), REFERENCE))
    assert np.array_equal(ours != 0, theirs != 0)
    check("dropout", [x, rate, key, *sequences, rows], draw(N, C))


def test_the_op_dropout_leaves_everything_at_rate_0():
    from pyroberta import _native

    for dtype in (np.float32, np.float64):
        x = drawing(0)[0](300, 129).astype(dtype)
        y = _native.dropout(x, 0.0, (1, 2), None, None, None)
        assert y.dtype == dtype
        assert np.array_equal(y, x)


def test_sequences_that_are_none_are_refused():
    ones, rows = np.ones((3, 2), np.float32), np.array([0, 2, 5])
    for starts, numbers, some, wrong in [
        ([0, 2], None, None, "starts must rise from 0 to the number of rows, 3"),
        ([0, 5], None, rows, "starts must rise from 0 and reach beyond the last row, 5"),
        ([0, 4, 3, 9], None, rows, "starts must rise"),
        ([], None, rows, "starts must rise"),
        ([0, 3], [-1], None, r"numbers\[0\] must be at least 0"),
        ([0, 3], [1, 2], None, r"numbers must have the shape \(1,\), got \(2,\)"),
    ]:
        sequences = np.array(starts, int), numbers and np.array(numbers)
        with pytest.raises(ValueError, match=f"dropout: {wrong}"):
            native().dropout_forward(ones, 0.5, (1, 2), *sequences, some)


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
    check("gather", [draw(V, C), ids], dy)
    arguments = [ids, positions, draw(V, C), draw(7, C)]
    check("embedding", arguments, dy, {0: (V, C), 1: (7, C)})


# --- attention --------------------------------------------------------------------------------------------------------

some_lengths = st.lists(st.one_of(st.integers(0, 9), st.sampled_from([1, 63, 65, 130])), min_size=1, max_size=4)


@given(
    lengths=some_lengths, H=st.integers(1, 3), D=st.sampled_from([1, 3, 8, 20, 64, 80]), rate=rates, key=keys,
    scale=scales, share=st.sampled_from([None, 0.0, 0.2, 1.0]), seed=seeds,
)  # fmt: skip
@example([1100], 1, 5, 0.1, (1, 2), 1.0, None, 0)
@example([1100, 1, 30], 2, 8, 0.1, (1, 2), 1.0, 0.01, 0)
def test_attention(lengths, H, D, rate, key, scale, share, seed):
    arguments, dy = attention_case(lengths, H, D, rate, key, scale, share, seed)
    assume(len(arguments[1]))
    check("attention", arguments, dy)


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
    from pyroberta.backends import native as module

    draw, rng = drawing(seed)
    labels = rng.integers(0, V, M).astype(np.int32)
    arguments = [draw(M, C), np.float32(min(scale, 30.0)) * draw(V, C) / np.float32(np.sqrt(C)), draw(V), labels]
    before, module.KEPT_LOGITS = module.KEPT_LOGITS, kept
    try:
        dlosses = draw(M)
        check("cross_entropy", arguments, dlosses, {1: (V, C), 2: (V,)})
        limits, wide = bounds_of("cross_entropy", arguments, dlosses), [widened(argument) for argument in arguments]
        (_, predicted), cache = native().cross_entropy_forward(*arguments)
        (_, numpys), exact_cache = REFERENCE.cross_entropy_forward(*wide)
        z, of_z = REFERENCE.logits(*wide[:3]), bounds.logits(SINGLE, *wide[:3])["z"]
        at = np.arange(M)  # what is predicted may be any of those that their errors leave as the largest
        assert (z[at, predicted] + of_z[at, predicted] >= z[at, numpys] - of_z[at, numpys]).all()
        native().cross_entropy_backward(dlosses, cache)
        again, bias_again = native().cross_entropy_backward_input(dlosses, cache)  # its logits were used up: made again
        dh, dbias = REFERENCE.cross_entropy_backward_input(widened(dlosses), exact_cache)
        hold("dh", again, dh, limits["dh"])
        hold("dbias", bias_again, dbias, limits["dbias"])
    finally:
        module.KEPT_LOGITS = before


@given(M=sizes, V=st.integers(1, 900), C=sizes, seed=seeds)
def test_logits(M, V, C, seed):
    draw, _ = drawing(seed)
    h, table, bias = draw(M, C), draw(V, C), draw(V)
    wide = [widened(array) for array in (h, table, bias)]
    exact, bound = REFERENCE.logits(*wide), bounds.logits(SINGLE, *wide)["z"]
    for ops in (native(), REFERENCE):
        hold(f"{ops.name}: logits", ops.logits(h, table, bias), exact, bound)


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

# Above, any number may be as wrong as roundings that all go one way can make it. Usually they go all ways, and errors
# are much smaller. How much is no law but a figure: on these numbers, which are the same in each run, C++ has an error
# of 0.6 to 1.3 times NumPy's with GCC, and of 2.7 times in one place with Clang. Four times would be lost digits.


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
    exact, bound = np.square(widened(x)).sum(), bounds.squared_norm(SINGLE, widened(x))["norm"]
    for ops in (native(), REFERENCE):
        hold(ops.name, np.float64(ops.squared_norm(x)), exact, 2.0 * bound)  # NumPy's sum, too, is rounded


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
