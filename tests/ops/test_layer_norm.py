from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import dtypes, scales, seeds
from within import DOUBLE, SINGLE, bounds_of, hold, widened

from pyroberta.ops.layer_norm import layer_norm_backward, layer_norm_forward
from pyroberta.oracle import check_backward


# Two features are left out: their norm is ±1 whatever they are, so that there is no derivative left to measure.
@given(N=st.integers(0, 5), C=st.one_of(st.just(1), st.integers(3, 20)), scale=scales, seed=seeds)
def test_backward_is_the_derivative(N, C, scale, seed):
    rng = np.random.default_rng(seed)
    inputs = [scale * rng.standard_normal((N, C)), rng.standard_normal(C), rng.standard_normal(C)]
    checked = check_backward(
        lambda x, gamma, beta: layer_norm_forward(x, gamma, beta, 1e-5), layer_norm_backward, inputs
    )
    assert checked.error <= 1e-8


@given(N=st.integers(1, 5), C=st.integers(2, 300), scale=scales, seed=seeds, dtype=dtypes)
def test_rows_come_out_centred_and_of_the_variance_that_epsilon_leaves(N, C, scale, seed, dtype):
    x = (scale * np.random.default_rng(seed).standard_normal((N, C))).astype(dtype)
    y, _ = layer_norm_forward(x, np.ones(C, dtype), np.zeros(C, dtype), 1e-3)
    variance = widened(x).var(axis=1)
    one, run = np.ones(C), SINGLE if dtype is np.float32 else DOUBLE
    bound = bounds_of("layer_norm", [x, one, 0.0 * one, 1e-3], x, run)["y"]
    y = widened(y)
    hold("mean", y.mean(axis=1), np.zeros(N), bound.mean(axis=1) + DOUBLE.gamma(C) * np.abs(y).mean(axis=1))
    # with y = ŷ + e the mean of squares is that of ŷ + 2 mean(ŷ e) + mean(e²)
    apart = (2.0 * np.abs(y) * bound + 3.0 * bound**2).mean(axis=1) + DOUBLE.gamma(C + 5.0)
    hold("variance", np.square(y).mean(axis=1), variance / (variance + 1e-3), apart)


@given(C=st.integers(1, 40), seed=seeds)
def test_a_shift_of_the_input_changes_nothing(C, seed):
    rng = np.random.default_rng(seed)
    x, gamma, beta = rng.standard_normal((3, C)), rng.standard_normal(C), rng.standard_normal(C)
    y, _ = layer_norm_forward(x, gamma, beta, 1e-5)
    shifted, _ = layer_norm_forward(x + 1000.0, gamma, beta, 1e-5)
    np.testing.assert_allclose(shifted, y, atol=1e-8)


@given(C=st.integers(2, 40), seed=seeds)
def test_dx_lies_across_the_shift_and_is_not_zero(C, seed):
    rng = np.random.default_rng(seed)
    _, cache = layer_norm_forward(rng.standard_normal((3, C)), rng.standard_normal(C), np.zeros(C), 1e-1)
    dx, _, _ = layer_norm_backward(rng.standard_normal((3, C)), cache)
    np.testing.assert_allclose(dx.sum(axis=1), 0.0, atol=1e-12)
    assert np.abs(dx).max() > 0.0


@pytest.mark.parametrize("offset", [0.0, 7.0])
def test_a_constant_row_gives_beta(offset):
    beta = np.arange(4.0)
    y, _ = layer_norm_forward(np.full((2, 4), offset), np.ones(4), beta, 1e-5)
    assert np.array_equal(y, [beta, beta])


def test_epsilon_stands_inside_the_root():
    y, _ = layer_norm_forward(np.array([[-1.0, 1.0]]), np.ones(2), np.zeros(2), 3.0)
    assert y.tolist() == [[-0.5, 0.5]]  # 1 / √(1 + 3)
