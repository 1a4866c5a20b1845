from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import dtypes, seeds

from pyroberta.ops.tanh import tanh_backward, tanh_forward
from pyroberta.oracle import check_backward


@given(M=st.integers(1, 5), C=st.integers(1, 20), scale=st.sampled_from([1e-6, 1e-2, 1.0, 3.0]), seed=seeds)
def test_backward_is_the_derivative(M, C, scale, seed):
    x = scale * np.random.default_rng(seed).standard_normal((M, C))
    assert check_backward(tanh_forward, tanh_backward, [x]).error <= 1e-8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_tanh(dtype):
    x = np.linspace(-25.0, 25.0, 1001).astype(dtype)
    wanted = [math.tanh(value) for value in x.tolist()]
    np.testing.assert_allclose(tanh_forward(x)[0], wanted, rtol=4 * np.finfo(dtype).eps, atol=0)


@given(seed=seeds, dtype=dtypes)
def test_it_is_odd_and_within_one_and_its_slope_is_even(seed, dtype):
    x = (4.0 * np.random.default_rng(seed).standard_normal((3, 50))).astype(dtype)
    (y, cache), (mirrored, mirrored_cache) = tanh_forward(x), tanh_forward(-x)
    assert np.array_equal(mirrored, -y)
    assert np.abs(y).max() <= 1.0
    dy = np.ones_like(x)
    assert np.array_equal(tanh_backward(dy, cache), tanh_backward(dy, mirrored_cache))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinities_saturate_and_nan_stays(dtype):
    y, cache = tanh_forward(np.array([[np.inf, -np.inf, np.nan]], dtype))
    assert y[0, :2].tolist() == [1.0, -1.0]
    assert np.isnan(y[0, 2])
    assert tanh_backward(np.ones((1, 3), dtype), cache)[0, :2].tolist() == [0.0, 0.0]
