from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from strategies import scales, seeds

from pyroberta.ops.low_rank import low_rank_backward, low_rank_forward
from pyroberta.oracle import check_backward

sizes = st.integers(1, 8)


@given(N=st.integers(0, 6), fan_in=sizes, rank=sizes, fan_out=sizes, size=scales, scale=st.floats(0.1, 8.0), seed=seeds)
def test_backward_is_the_derivative(N, fan_in, rank, fan_out, size, scale, seed):
    rng = np.random.default_rng(seed)
    x, a, b = (size * rng.standard_normal(shape) for shape in ((N, fan_in), (fan_in, rank), (rank, fan_out)))
    assert check_backward(lambda x, a, b: low_rank_forward(x, a, b, scale), low_rank_backward, [x, a, b]).error <= 1e-8


def test_it_is_the_change_of_a_kernel():
    x, a, b = np.array([[1.0, 2.0]]), np.array([[1.0], [3.0]]), np.array([[2.0, 5.0]])
    y, _ = low_rank_forward(x, a, b, 0.5)
    assert y.tolist() == (x @ (0.5 * a @ b)).tolist() == [[7.0, 17.5]]
