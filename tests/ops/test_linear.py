from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from strategies import scales, seeds

from pyroberta.ops.linear import linear_backward, linear_backward_input, linear_forward
from pyroberta.oracle import check_backward

sizes = st.integers(1, 12)


@given(N=st.integers(0, 6), fan_in=sizes, fan_out=sizes, scale=scales, seed=seeds)
def test_backward_is_the_derivative(N, fan_in, fan_out, scale, seed):
    rng = np.random.default_rng(seed)
    x, kernel, bias = (scale * rng.standard_normal(s) for s in ((N, fan_in), (fan_in, fan_out), (fan_out,)))
    assert check_backward(linear_forward, linear_backward, [x, kernel, bias]).error <= 1e-8


@given(N=st.integers(0, 6), fan_in=sizes, fan_out=sizes, seed=seeds)
def test_backward_input_is_the_full_rows_first_output(N, fan_in, fan_out, seed):
    rng = np.random.default_rng(seed)
    kernel, bias = rng.standard_normal((fan_in, fan_out)), rng.standard_normal(fan_out)
    _, cache = linear_forward(rng.standard_normal((N, fan_in)), kernel, bias)
    dy = rng.standard_normal((N, fan_out))
    assert np.array_equal(linear_backward_input(dy, cache), linear_backward(dy, cache)[0])


def test_no_rows_give_zero_gradients_for_the_parameters():
    y, cache = linear_forward(np.zeros((0, 3)), np.ones((3, 2)), np.ones(2))
    dx, dkernel, dbias = linear_backward(np.zeros((0, 2)), cache)
    assert y.shape == (0, 2)
    assert dx.shape == (0, 3)
    assert np.array_equal(dkernel, np.zeros((3, 2)))
    assert np.array_equal(dbias, np.zeros(2))


def test_a_kernel_is_in_by_out():
    y, _ = linear_forward(
        np.array([[1.0, 2.0]]), np.array([[1.0, 0.0, 3.0], [0.0, 1.0, 5.0]]), np.array([10.0, 20.0, 30.0])
    )
    assert y.tolist() == [[11.0, 22.0, 43.0]]
