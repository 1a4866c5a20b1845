"""Rows by number: embedding, gather, and what is added to rows."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_simulator import check, in_every_order, on_device, simulated
from drawn_arguments import drawing
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds
from within import SINGLE, hold, widened

from pyroberta.backends.cuda import Scatter
from pyroberta.oracle import bounds

pytestmark = pytest.mark.cuda

sizes = st.one_of(st.integers(1, 12), st.sampled_from([65, 130]))


@given(N=sizes, V=sizes, C=st.one_of(st.integers(1, 9), st.sampled_from([33, 257])), seed=seeds)
def test_gather_and_embedding(N, V, C, seed):
    draw, rng = drawing(seed)
    ids, positions = (rng.integers(0, size, N).astype(np.int32) for size in (V, 7))
    dy = draw(N, C)
    check("gather", [draw(V, C), ids], dy)
    check("embedding", [ids, positions, draw(V, C), draw(7, C)], dy, {0: (V, C), 1: (7, C)})


def test_no_rows_are_no_rows():
    ops, x, none = simulated(), on_device(np.ones((3, 2), np.float32)), np.zeros(0, np.int32)
    y, cache = ops.gather_forward(x, none)
    assert y.shape == (0, 2)
    np.testing.assert_array_equal(ops.to_host(ops.gather_backward(y, cache)), np.zeros((3, 2)))


@given(N=sizes, V=sizes, C=st.integers(1, 9), seed=seeds)
def test_rows_are_added_to_what_is_there(N, V, C, seed):
    ops, (draw, rng) = simulated(), drawing(seed)
    ids, dy, total = rng.integers(0, V, N).astype(np.int32), draw(N, C), 1e3 * draw(V, C)
    (found,) = in_every_order(lambda: ops.accumulate(on_device(total), Scatter(ids, on_device(dy))))
    exact, size = widened(total), np.zeros((V, C))
    np.add.at(exact, ids, widened(dy))
    np.add.at(size, ids, np.abs(widened(dy)))
    bound = bounds.gather(SINGLE, widened(total), ids, dy=widened(dy))["dx"]
    hold(
        "scatter_add",
        found,
        exact,
        bound + bounds.accumulate(SINGLE, widened(total), None, terms=N, size=size)["total"],
    )


def test_a_row_that_is_not_there_is_named():
    ops, x = simulated(), on_device(np.ones((3, 2), np.float32))
    with pytest.raises(ValueError, match=r"gather_forward: rows\[1\] must be at least 0 and below 3, got 3"):
        ops.gather_forward(x, np.array([0, 3]))
    with pytest.raises(ValueError, match=r"embedding_forward: positions must have the shape \(2,\), got \(1,\)"):
        ops.embedding_forward(np.array([0, 1]), np.array([0]), x, x)
    with pytest.raises(ValueError, match=r"scatter_add: rows\[0\] must be at least 0 and below 3, got -1"):
        ops.accumulate(x, Scatter(np.array([-1]), on_device(np.ones((1, 2), np.float32))))
