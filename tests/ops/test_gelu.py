from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import dtypes, seeds

from pyroberta.ops.gelu import LIMIT, STEP, erf, gelu_backward, gelu_forward
from pyroberta.oracle import check_backward

both = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def ulps_from_libm(x: np.ndarray) -> np.ndarray:
    """The distance between `erf` and the C library's, in units of the last place of x's dtype."""
    wanted = np.array([math.erf(value) for value in x.tolist()])
    spacing = np.spacing(np.abs(wanted.astype(x.dtype))).astype(np.float64)
    return np.abs(erf(x).astype(np.float64) - wanted) / spacing


@both
def test_erf_is_right_to_three_units_in_the_last_place_over_its_whole_range(dtype):
    points = np.arange(-LIMIT - 1.0, LIMIT + 1.0, STEP / 4.0)  # on, between and half-way between the tabulated ones
    points = np.concatenate([points, np.nextafter(points, np.inf), np.nextafter(points, -np.inf)])
    anywhere = np.random.default_rng(0).uniform(-7.0, 7.0, 50_000)
    assert ulps_from_libm(np.concatenate([points, anywhere]).astype(dtype)).max() <= 3.0


@both
def test_erf_keeps_its_relative_accuracy_at_every_order_of_magnitude(dtype):
    info = np.finfo(dtype)
    exponents = np.arange(info.minexp, info.maxexp)
    x = np.ldexp(np.random.default_rng(0).uniform(1.0, 2.0, len(exponents)).astype(dtype), exponents.astype(np.int32))
    assert ulps_from_libm(np.concatenate([x, -x])).max() <= 3.0


@both
def test_erf_of_the_extremes(dtype):
    info = np.finfo(dtype)
    x = np.array([np.inf, -np.inf, info.max, info.min, 0.0, np.nan, info.smallest_subnormal], dtype)
    y = erf(x)
    assert y[:5].tolist() == [1.0, -1.0, 1.0, -1.0, 0.0]
    assert np.isnan(y[5])
    assert 0.0 < y[6] <= 2 * info.smallest_subnormal


@given(seed=seeds, dtype=dtypes)
def test_erf_is_odd_and_within_one(seed, dtype):
    x = (3.0 * np.random.default_rng(seed).standard_normal(1000)).astype(dtype)
    assert np.array_equal(erf(-x), -erf(x))
    assert np.abs(erf(x)).max() <= 1.0 + np.finfo(dtype).eps


def test_erf_reads_any_memory_layout_and_shape():
    x = np.random.default_rng(0).standard_normal((6, 5, 4))
    wanted = erf(np.ascontiguousarray(x.ravel())).reshape(x.shape)
    assert np.array_equal(erf(np.asfortranarray(x)), wanted)
    assert np.array_equal(erf(x[::2, :, ::3]), wanted[::2, :, ::3])
    assert np.array_equal(erf(x.T), wanted.T)
    assert erf(np.array(1.0)).shape == ()
    assert erf(np.zeros((0, 3))).shape == (0, 3)


# At least 16 elements: far below zero Φ is nothing but rounding, and some element must lie elsewhere.
@given(N=st.integers(1, 5), F=st.integers(16, 40), scale=st.sampled_from([1e-6, 1e-2, 1.0, 5.0]), seed=seeds)
def test_backward_is_the_derivative(N, F, scale, seed):
    x = scale * np.random.default_rng(seed).standard_normal((N, F))
    assert check_backward(gelu_forward, gelu_backward, [x]).error <= 1e-8


@both
def test_gelu_is_x_times_the_normal_distribution(dtype):
    x = np.linspace(-8.0, 8.0, 2001).astype(dtype)
    wanted = [value * 0.5 * (1.0 + math.erf(value / math.sqrt(2.0))) for value in x.tolist()]
    np.testing.assert_allclose(gelu_forward(x)[0], wanted, rtol=0, atol=8 * np.finfo(dtype).eps)


@both
def test_gelu_passes_large_inputs_and_stops_large_negative_ones(dtype):
    y, cache = gelu_forward(np.array([[1e4, -1e4, 0.0]], dtype))
    assert y.tolist() == [[1e4, 0.0, 0.0]]
    assert gelu_backward(np.ones((1, 3), dtype), cache).tolist() == [[1.0, 0.0, 0.5]]


def test_it_is_the_exact_gelu_and_not_the_tanh_one():
    y, _ = gelu_forward(np.array([[1.0]]))
    tanh_form = 0.5 * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (1.0 + 0.044715)))
    assert abs(y[0, 0] - 0.8413447460685429) < 1e-15
    assert abs(tanh_form - 0.8413447460685429) > 1e-4
