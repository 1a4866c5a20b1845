from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from strategies import seeds

from pyroberta.oracle import check_backward


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
    assert check_backward(product_forward, product_backward, two(seed), seed) <= 1e-10


def test_one_wrong_element_is_seen():
    def one_wrong(dy, cache):
        da, db = product_backward(dy, cache)
        db[1, 2] *= 1.001
        return da, db

    assert max(check_backward(product_forward, one_wrong, two(0), seed) for seed in range(5)) > 1e-5


@pytest.mark.parametrize("factor", [0.0, -1.0, 2.0, 1.0 + 1e-6])
def test_a_wrong_factor_is_seen_in_a_small_gradient_beside_a_large_one(factor):
    def forward(a, b):
        return 1e6 * a + b, None

    def backward(dy, cache):
        return 1e6 * dy, factor * dy

    assert check_backward(forward, backward, two(0)) > 1e-7


def test_gradients_in_the_wrong_order_are_seen():
    def swapped(dy, cache):
        return product_backward(dy, cache)[::-1]

    assert check_backward(product_forward, swapped, two(0)) > 0.01


@pytest.mark.parametrize("worthless", [math.nan, math.inf])
def test_anything_not_finite_fails_every_tolerance(worthless):
    def bad_gradient(dy, cache):
        da, db = product_backward(dy, cache)
        da[0, 0] = worthless
        return da, db

    def bad_output(a, b):
        y, cache = product_forward(a, b)
        y[0, 0] = math.nan
        return y, cache

    assert not check_backward(product_forward, bad_gradient, two(0)) <= 1e300
    assert not check_backward(bad_output, product_backward, two(0)) <= 1e300


def test_inputs_of_size_zero_and_of_value_zero_can_be_checked():
    assert check_backward(product_forward, product_backward, two(0, (0, 4))) == 0.0
    assert check_backward(product_forward, product_backward, [np.zeros(3), np.zeros(3)]) <= 1e-10


def test_float32_is_refused():
    with pytest.raises(ValueError, match="input 1 is float32; differences need float64"):
        check_backward(product_forward, product_backward, [np.ones(2), np.ones(2, np.float32)])


def test_a_missing_gradient_is_refused():
    with pytest.raises(ValueError, match="gave 1 gradients for 2 inputs"):
        check_backward(product_forward, lambda dy, cache: dy, two(0))


def test_a_gradient_of_another_shape_or_dtype_is_refused():
    def summed(dy, cache):
        return dy, dy.sum(axis=0)

    def rounded(dy, cache):
        return dy, dy.astype(np.float32)

    for backward in (summed, rounded):
        with pytest.raises(ValueError, match=r"gradient 1 is .* a gradient has its input's shape and dtype"):
            check_backward(product_forward, backward, two(0))
