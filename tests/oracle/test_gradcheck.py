"""A right backward passes, a wrong one does not, and what is said of a wrong one is so."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import seeds

from pyroberta.ops.layer_norm import layer_norm_backward, layer_norm_forward
from pyroberta.ops.linear import linear_backward, linear_forward
from pyroberta.oracle import check_backward
from pyroberta.oracle.gradcheck import TOLERANCE

sides = st.integers(2, 6)


def product_forward(a, b):
    return a * np.sin(b), (a, b)


def product_backward(dy, cache):
    a, b = cache
    return dy * np.sin(b), dy * a * np.cos(b)


def two(seed, size=(3, 4)):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(size), rng.standard_normal(size)]


@given(seed=seeds)
def test_a_right_backward_is_right_to_ten_digits(seed):
    checked = check_backward(product_forward, product_backward, two(seed), seed)
    assert checked.error <= 1e-10
    assert checked.is_right
    assert checked
    assert str(checked).startswith("backward is right: the worst error of 2 gradients is ")


def test_one_wrong_element_is_seen():
    def one_wrong(dy, cache):
        da, db = product_backward(dy, cache)
        db[1, 2] *= 1.001
        return da, db

    found = [check_backward(product_forward, one_wrong, two(0), seed) for seed in range(5)]
    assert max(checked.error for checked in found) > 1e-5
    assert any("argument 1 (3, 4)" in str(checked) and "only at [1, 2]" in str(checked) for checked in found)


@pytest.mark.parametrize("factor", [0.0, -1.0, 2.0, 1.0 + 1e-6])
def test_a_wrong_factor_is_seen_in_a_small_gradient_beside_a_large_one(factor):
    def forward(a, b):
        return 1e6 * a + b, None

    def backward(dy, cache):
        return 1e6 * dy, factor * dy

    checked = check_backward(forward, backward, two(0), names=["a", "b"])
    assert checked.error > 1e-7
    assert checked.errors["a"] <= 1e-10
    assert checked.errors["b"] == checked.error
    assert [one.name for one in checked.wrong] == ["b"]
    assert not checked


@pytest.mark.parametrize("worthless", [math.nan, math.inf])
def test_anything_not_finite_fails_every_tolerance(worthless):
    def bad_gradient(dy, cache):
        da, db = product_backward(dy, cache)
        da[0, 1] = worthless
        return da, db

    def bad_output(a, b):
        y, cache = product_forward(a, b)
        y[0, 0] = math.nan
        return y, cache

    checked = check_backward(product_forward, bad_gradient, two(0))
    assert not checked.error <= 1e300
    assert not checked.is_right
    assert str(checked).endswith("is wrong: 1 of its numbers are not finite, the first at [0, 1]")
    checked = check_backward(bad_output, product_backward, two(0))
    assert not checked.error <= 1e300
    assert not checked.is_right


def test_arguments_of_size_zero_and_of_value_zero_can_be_checked():
    assert check_backward(product_forward, product_backward, two(0, (0, 4))).error == 0.0
    assert check_backward(product_forward, product_backward, [np.zeros(3), np.zeros(3)]).error <= 1e-10
    assert check_backward(lambda x: (np.square(x).sum(), x), lambda dy, x: 2.0 * dy * x, [np.ones(3)])


# --- what a wrong gradient looks like ---------------------------------------------------------------------------------


def linear_looks(change, N, inner, outer, seed, argument):
    """What is said of linear's gradients after a change of (dy, x, kernel, dx, dkernel, dbias), all in one dict."""
    rng = np.random.default_rng(seed)
    x, kernel, bias = rng.standard_normal((N, inner)), rng.standard_normal((inner, outer)), rng.standard_normal(outer)

    def backward(dy, cache):
        names = ("dx", "dkernel", "dbias")
        right = dict(zip(names, linear_backward(dy, cache), strict=True))
        right |= change(dy=dy, x=x, kernel=kernel, **right)
        return tuple(right[name] for name in names)

    checked = check_backward(linear_forward, backward, [x, kernel, bias], seed, names=["x", "kernel", "bias"])
    assume(not checked.is_right)  # one random pair in many millions sees nothing
    assert [one.name for one in checked.wrong] == [argument]
    assert f"argument {['x', 'kernel', 'bias'].index(argument)} ('{argument}', (" in str(checked)
    return checked.wrong[0]


@given(N=sides, inner=sides, outer=sides, seed=seeds)
def test_a_gradient_that_is_zero_or_of_the_wrong_sign_is_called_so(N, inner, outer, seed):
    one = linear_looks(lambda dx, **_: {"dx": 0.0 * dx}, N, inner, outer, seed, "x")
    assert (one.looks, one.distance) == ("it is zero", pytest.approx(1.0))
    one = linear_looks(lambda dkernel, **_: {"dkernel": -dkernel}, N, inner, outer, seed, "kernel")
    assert one.looks == "it is -1 times what it should be: the sign is wrong"
    assert one.distance == pytest.approx(2.0)


@given(N=st.integers(3, 6), seed=seeds, power=st.sampled_from([1.0, -1.0, 0.5, -0.5]), sign=st.sampled_from([1, -1]))
def test_a_factor_is_given_with_the_length_that_it_may_come_from(N, seed, power, sign):
    one = linear_looks(lambda dbias, **_: {"dbias": sign * N**power * dbias}, N, 7, 11, seed, "bias")
    assert one.looks.startswith(f"it is {sign * N**power:.6g} times what it should be: ")
    assert f"{N} is the length of y's axis 0" in one.looks
    assert ("a mean instead of a sum?" in one.looks) == (power == -1.0)
    assert ("a sum instead of a mean?" in one.looks) == (power == 1.0)
    assert ("the sign" in one.looks) == (sign < 0)


@given(N=sides, C=sides, seed=seeds)
def test_what_is_transposed_is_called_so(N, C, seed):
    one = linear_looks(lambda dkernel, **_: {"dkernel": dkernel.T.copy()}, N, C, C, seed, "kernel")
    assert one.looks == "it is transposed"
    one = linear_looks(lambda dy, kernel, **_: {"dx": dy @ kernel}, N, C, C, seed, "x")
    assert one.looks == "it is J dy, not Jᵀ dy: a matrix inside is not transposed"
    one = linear_looks(lambda dkernel, **_: {"dkernel": dkernel.T.reshape(dkernel.shape)}, N, C, C + 1, seed, "kernel")
    assert one.looks == "its numbers are those of its transpose, reshaped"


@given(N=sides, outer=sides, seed=seeds, data=st.data())
def test_a_sum_that_is_missing_or_lacks_a_term_is_called_so(N, outer, seed, data):
    k = data.draw(st.integers(0, N - 1))
    one = linear_looks(lambda dy, **_: {"dbias": dy[k].copy()}, N, 3, outer, seed, "bias")
    assert one.looks == f"it is only the share of y's row {k}: the shares of the other rows are missing"
    assume(N > 2)
    one = linear_looks(lambda dy, dbias, **_: {"dbias": dbias - dy[k]}, N, 3, outer, seed, "bias")
    assert one.looks == f"the share of y's row {k} is missing"
    one = linear_looks(lambda dy, dbias, **_: {"dbias": dbias + dy[k]}, N, 3, outer, seed, "bias")
    assert one.looks == f"the share of y's row {k} is added twice"


@given(N=sides, inner=st.integers(3, 6), outer=sides, seed=seeds, data=st.data())
def test_what_is_wrong_in_one_place_alone_is_found_there(N, inner, outer, seed, data):
    i, j = data.draw(st.integers(0, N - 1)), data.draw(st.integers(0, inner - 1))

    def with_changed(at, factor):
        def change(dx, **_):
            changed = dx.copy()
            changed[at] *= factor
            return {"dx": changed}

        return change

    one = linear_looks(with_changed((i, slice(None)), 3.0), N, inner, outer, seed, "x")
    assert one.looks == f"it differs only in row {i}, where it is 3 times the true value"
    one = linear_looks(with_changed((slice(None), j), 0.0), N, inner, outer, seed, "x")
    assert one.looks == f"it differs only in column {j}, where it is zero"
    one = linear_looks(with_changed((i, j), 1.5), N, inner, outer, seed, "x")
    assert one.looks.startswith(f"it differs only at [{i}, {j}]: ")


@given(N=sides, C=st.integers(4, 8), seed=seeds)
def test_a_forgotten_term_or_factor_of_a_norm_shows_in_its_rows(N, C, seed):
    """The norm is negated, so that it is no op of the catalogue."""
    rng = np.random.default_rng(seed)
    x, gamma, beta = rng.standard_normal((N, C)), rng.standard_normal(C), rng.standard_normal(C)

    def looks_of(change):
        def forward(*args):
            y, cache = layer_norm_forward(*args, 1e-5)
            return -y, cache

        def backward(dy, cache):
            dx, dgamma, dbeta = layer_norm_backward(-dy, cache)
            std = np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
            return change(dx, (-dy * gamma).mean(axis=1, keepdims=True), std), dgamma, dbeta

        (one,) = check_backward(forward, backward, [x, gamma, beta], seed).wrong
        return one.looks

    without_mean = looks_of(lambda dx, mean, std: dx + mean / std)
    assert without_mean == "each column is off by the same vector: in each row one number is added"
    assert looks_of(lambda dx, mean, std: dx * std).startswith("each row is multiplied by a number of its own, ")


@given(V=st.integers(2, 4), C=sides, seed=seeds)
def test_what_is_assigned_in_place_of_added_up_is_called_so(V, C, seed):
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.permutation(V), rng.integers(0, V, 4), np.arange(V)])

    def assigned(dy, _):
        dx = np.zeros((V, C))
        dx[rows] = dy
        return dx

    checked = check_backward(lambda x: (x[rows], None), assigned, [rng.standard_normal((V, C))], seed)
    assert checked.wrong[0].looks.startswith(
        "a number that should be the sum of the shares of several rows of y is only one of them"
    )


@given(size=st.tuples(sides, st.integers(3, 6)), seed=seeds)
def test_the_gradient_of_another_argument_or_of_another_dy_is_called_so(size, seed):
    def looks_of(backward, forward=product_forward):
        checked = check_backward(forward, backward, two(seed, size), seed, names=["a", "b"])
        return [one.looks for one in checked.wrong]

    swapped = looks_of(lambda dy, cache: product_backward(dy, cache)[::-1])
    assert swapped == ["it is the gradient of argument 1 ('b')", "it is the gradient of argument 0 ('a')"]
    without_dy = looks_of(lambda dy, cache: product_backward(np.ones_like(dy), cache))
    assert without_dy == ["it ignores dy: it is the gradient of the sum of y"] * 2
    assert looks_of(lambda dy, cache: (dy.copy(), product_backward(dy, cache)[1])) == ["it is dy itself"]
    turned = looks_of(lambda dy, cache: (product_backward(dy, cache)[0], product_backward(dy, cache)[1][::-1].copy()))
    assert turned == ["its rows are in reverse order"]


@given(size=st.tuples(sides, st.integers(3, 6)), seed=seeds)
def test_another_arguments_gradient_is_measured_in_the_way_that_is_right_for_it(size, seed):
    def forward(a, b):
        return np.sin(a) + np.conj(b) * b, (a, b)  # a complex step is wrong for b alone

    checked = check_backward(forward, lambda dy, c: (2.0 * dy * c[1], 2.0 * dy * c[1]), two(seed, size), seed)
    assert [one.by_complex_step for one in checked.gradients] == [True, False]
    assert [one.looks for one in checked.wrong] == ["it is the gradient of argument 1"]


@given(N=st.integers(3, 6), C=sides, seed=seeds)
def test_numbers_in_other_places_and_rows_that_are_the_same_are_called_so(N, C, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, C))

    def looks_of(change):
        (one,) = check_backward(lambda x: (np.sin(x), x), lambda dy, x: change(dy * np.cos(x)), [x], seed).wrong
        return one.looks

    order = np.roll(np.arange(N), 1)
    assert looks_of(lambda dx: dx[order]) == "its rows are right, in another order"
    assert looks_of(lambda dx: np.roll(dx.ravel(), 1).reshape(dx.shape)) == "its numbers are right, in other places"
    assert looks_of(lambda dx: np.tile(dx.sum(axis=0), (N, 1))) == "each row is the sum of all rows"
    assert looks_of(lambda dx: np.tile(dx.mean(axis=0), (N, 1))) == "each row is the mean of all rows"
    assert looks_of(lambda dx: np.tile(np.sin(dx[0]), (N, 1))) == "each row is the same"


@given(size=st.tuples(sides, sides), seed=seeds)
def test_a_gradient_that_should_be_zero_is_called_so_and_others_by_their_largest_difference(size, seed):
    def unused(a, b):
        return a + 0.0 * b, None

    checked = check_backward(unused, lambda dy, _: (dy, 0.1 * dy), two(seed, size), seed)
    assert [one.looks for one in checked.wrong] == ["it should be zero"]
    cotangents = []

    def wrong(dy, cache):
        cotangents.append(dy)
        return dy * (2.0 + np.exp(cache[1])), dy * cache[0]

    checked = check_backward(product_forward, wrong, two(seed, size), seed)
    found = re.match(r"(\d+) of (\d+) numbers differ\. The largest difference is at \[", checked.wrong[0].looks)
    large = min(int((np.abs(dy) > 1e-3).sum()) for dy in cotangents)  # beside a tiny cotangent nothing differs visibly
    assert found
    assert large <= int(found[1]) <= int(found[2]) == size[0] * size[1]


def test_a_large_gradient_is_looked_at_along_some_directions():
    x = np.random.default_rng(0).standard_normal((300, 40))
    checked = check_backward(lambda x: (np.tanh(x), x), lambda dy, x: 300.0 * dy * (1.0 - np.tanh(x) ** 2), [x])
    assert checked.wrong[0].looks == (
        "it is 300 times what it should be: 300, where 300 is the length of y's axis 0: a sum instead of a mean?"
    )
    assert checked.wrong[0].distance is None
    checked = check_backward(lambda x: (np.tanh(x), x), lambda dy, x: dy * np.tanh(x), [x])
    assert "is wrong: the random test has the error " in str(checked)


# --- complex steps ----------------------------------------------------------------------------------------------------


@given(seed=seeds)
def test_a_complex_step_measures_what_is_holomorphic_to_the_last_digits(seed):
    checked = check_backward(product_forward, product_backward, two(seed), seed)
    assert [one.by_complex_step for one in checked.gradients] == [True, True]
    assert checked.error <= 1e-13


NO_COMPLEX_STEP = {
    "abs": (lambda x: np.abs(x), lambda x: np.sign(x)),
    "abs inside": (lambda x: x * np.abs(x), lambda x: 2.0 * np.abs(x)),
    "conjugate": (lambda x: np.conj(x) * x, lambda x: 2.0 * x),
    "conjugate alone": (lambda x: np.conj(x), lambda x: np.ones_like(x)),
    "vdot": (lambda x: x * np.vdot(x, x), None),
    "real": (lambda x: np.real(x) * x, lambda x: 2.0 * x),
    "cast": (lambda x: x.astype(np.float64) ** 2, lambda x: 2.0 * x),
    "written": (lambda x: np.add(x, 0.0, out=np.empty(x.shape)), lambda x: np.ones_like(x)),
    "refused": (lambda x: np.array([math.sin(one) for one in x]), lambda x: np.cos(x)),
    "abs squared": (lambda x: x * np.abs(x) ** 2, lambda x: 3.0 * x * x),
}


@pytest.mark.parametrize("name", NO_COMPLEX_STEP)
@given(seed=seeds)
def test_where_a_complex_step_would_be_wrong_differences_count(name, seed):
    function, slope = NO_COMPLEX_STEP[name]
    x = np.random.default_rng(seed).uniform(0.5, 2.0, 5) * np.array([1.0, -1.0, 1.0, -1.0, 1.0])

    def backward(dy, x):
        if slope is None:  # x · Σ x²
            return dy * np.vdot(x, x) + 2.0 * x * (dy @ x)
        return dy * slope(x)

    right = check_backward(lambda x: (function(x), x), backward, [x], seed)
    assert not right.gradients[0].by_complex_step
    assert right.is_right
    wrong = check_backward(lambda x: (function(x), x), lambda dy, x: 1.001 * backward(dy, x), [x], seed)
    assert not wrong.is_right
    assert wrong.wrong[0].looks == "it is 1.001 times what it should be"


def test_the_tolerance_lies_between_rounding_and_a_mistake():
    assert math.isclose(TOLERANCE, math.sqrt(np.finfo(np.float64).eps))


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "options", "kind", "message"),
    [
        ([np.ones(2), np.ones(2, np.float32)], {}, ValueError, "argument 1 should be float64, got float32"),
        ([np.ones(2), [1.0, 2.0]], {}, TypeError, "argument 1 should be a NumPy array; got a list"),
        (np.ones((2, 2)), {}, TypeError, r"args should be a list of arrays, as in .*; got an ndarray"),
        (two(0), {"names": ["a"]}, ValueError, "one name for each of the 2 arguments; got 1 names"),
        (two(0), {"rng": -1}, ValueError, "rng should be a seed of at least 0 .*; got -1"),
        (two(0), {"rng": "seed"}, ValueError, "rng should be .*; got 'seed'"),
    ],
)
def test_arguments_that_cannot_be_checked_are_refused(args, options, kind, message):
    with pytest.raises(kind, match=message):
        check_backward(product_forward, product_backward, args, **options)


def test_a_generator_goes_on():
    rng = np.random.default_rng(7)
    errors = [check_backward(product_forward, lambda dy, c: (dy, dy), two(0), rng).error for _ in range(2)]
    assert errors[0] != errors[1]


@pytest.mark.parametrize(
    ("forward", "kind", "message"),
    [
        (lambda a, b: a * b, TypeError, r"forward should return a pair \(y, cache\), .* an ndarray"),
        (lambda a, b: ((a, b), None), TypeError, "forward should return a NumPy array as y; it returned a tuple"),
        (lambda a, b: (np.float32(a), None), ValueError, "forward should return y in float64 .*; it returned float32"),
    ],
)
def test_a_forward_that_gives_something_else_is_refused(forward, kind, message):
    with pytest.raises(kind, match=message):
        check_backward(forward, product_backward, two(0))


def test_a_missing_gradient_is_refused():
    with pytest.raises(ValueError, match="one gradient for each of the 2 arguments; it returned 1"):
        check_backward(product_forward, lambda dy, cache: dy, two(0))


@pytest.mark.parametrize(
    ("second", "hint"),
    [
        (lambda dy: dy.sum(axis=0), r"\)$"),
        (lambda dy: dy.astype(np.float32), r"it has float32 .*\)$"),
        (lambda dy: dy.T, r"\)\. Is it transposed\?"),
        (lambda dy: np.stack([dy, dy]), r"\)\. Should it be summed over its first axis\?"),
    ],
)
def test_a_gradient_of_another_shape_or_dtype_is_refused(second, hint):
    with pytest.raises(ValueError, match=rf"gradient 1 should have the dtype and shape of its argument, .*{hint}"):
        check_backward(product_forward, lambda dy, cache: (dy, second(dy)), two(0))
    with pytest.raises(TypeError, match="gradient 1 should be a NumPy array; got None"):
        check_backward(product_forward, lambda dy, cache: (dy, None), two(0))


def test_a_gradient_is_not_right_because_squares_overflow():
    x = np.array([1e80, -2e80, 3e80])
    assert not check_backward(lambda x: (x * x, x), lambda dy, x: -9.0 * x * dy, [x])
    big = 1e160 * np.ones(3)
    assert not check_backward(lambda x: (1e160 * x, None), lambda dy, _: -5e160 * dy, [np.ones(3)])
    assert check_backward(lambda x: (3.0 * x, None), lambda dy, _: 3.0 * dy, [big])


def test_forward_and_backward_may_work_in_place_and_the_arguments_stay():
    x, buffer = np.arange(1.0, 4.0), np.empty(3)
    before = x.copy()

    def forward(x):
        np.multiply(x, x, out=buffer)
        x[...] *= 2.0  # its own copy
        return buffer, x

    def backward(dy, doubled):
        dy *= doubled
        return dy

    assert check_backward(forward, backward, [x])
    assert np.array_equal(x, before)

    def zeroing(dy, _):
        dy[...] = 0.0
        return np.zeros(3)

    assert not check_backward(forward, zeroing, [x])


def test_near_the_edge_of_its_domain_a_right_gradient_is_right():
    p = np.array([1e-5, 0.3, 0.7])
    assert check_backward(lambda p: (-np.log(p), p), lambda dy, p: -dy / p, [p])
    assert check_backward(lambda x: (np.sin(3000.0 * x), x), lambda dy, x: 3000.0 * np.cos(3000.0 * x) * dy, [p])
    assert not check_backward(lambda p: (-np.log(p), p), lambda dy, p: dy / p, [p])


@pytest.mark.parametrize("slope", [1e-9, 1e-11, 1e-13])
def test_differences_that_are_lost_in_rounding_measure_no_zero(slope):
    def forward(x):
        return 5.0 + slope * np.exp(np.abs(x)), x  # which takes no complex step

    def backward(dy, x):
        return dy * slope * np.sign(x) * np.exp(np.abs(x))

    def none(dy, x):
        return np.zeros_like(dy)

    x = np.array([3.0, -3.1, 2.9])
    assert check_backward(forward, backward, [x])
    assert not check_backward(forward, none, [x])


def test_a_number_is_an_argument_and_what_is_no_array_is_told():
    one = np.array(2.0)
    assert check_backward(lambda x: (x * x, x), lambda dy, x: 2.0 * x * dy, [one])
    with pytest.raises(TypeError, match="backward should return an array for each argument; it returned None"):
        check_backward(lambda x: (x * x, x), lambda dy, x: None, [one])
    with pytest.raises(ValueError, match="names should differ from each other; got 'a', 'a'"):
        check_backward(lambda x, y: (x * y, None), lambda dy, _: (dy, dy), [one, one], names=["a", "a"])


def test_a_forward_that_draws_numbers_is_told():
    rng = np.random.default_rng(0)

    def dropped(x):
        keep = rng.random(x.shape) < 0.5
        return x * keep, keep

    with pytest.raises(ValueError, match="forward returned another y for the same arguments"):
        check_backward(dropped, lambda dy, keep: dy * keep, [np.ones(30)])
    checked = check_backward(lambda x: (x * np.nan, None), lambda dy, _: dy, [np.ones(3)])
    assert not checked  # the same numbers, though none is equal to itself
