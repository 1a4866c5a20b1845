from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from strategies import dtypes, seeds

from pyroberta.ops.gather import gather_backward, gather_forward
from pyroberta.oracle import check_backward


@given(N=st.integers(1, 8), M=st.integers(0, 12), C=st.integers(1, 5), seed=seeds)
def test_backward_is_the_derivative(N, M, C, seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, N, M)
    checked = check_backward(lambda x: gather_forward(x, rows), gather_backward, [rng.standard_normal((N, C))])
    assert checked.error <= 1e-8


@given(N=st.integers(1, 8), M=st.integers(0, 40), C=st.integers(1, 5), seed=seeds, dtype=dtypes)
def test_backward_adds_each_row_to_where_it_came_from(N, M, C, seed, dtype):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, N, M).astype(np.int32)
    dy = rng.integers(-50, 50, (M, C)).astype(dtype)  # whole numbers, whose sums are exact in any order
    wanted = np.zeros((N, C), dtype)
    np.add.at(wanted, rows, dy)
    _, cache = gather_forward(np.zeros((N, C), dtype), rows)
    assert np.array_equal(gather_backward(dy, cache), wanted)


def test_rows_that_were_never_asked_for_get_zero():
    _, cache = gather_forward(np.ones((4, 2)), np.array([2, 2]))
    assert gather_backward(np.ones((2, 2)), cache).tolist() == [[0, 0], [0, 0], [2, 2], [0, 0]]


def test_the_output_is_a_copy():
    x = np.ones((3, 2))
    y, _ = gather_forward(x, np.arange(3))
    assert not np.shares_memory(x, y)
