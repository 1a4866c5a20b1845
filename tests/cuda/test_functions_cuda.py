"""Tanh and GELU."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_simulator import check, in_every_order, on_device, simulated
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import seeds
from within import bounds_of, hold, widened

from pyroberta.ops import REFERENCE

pytestmark = pytest.mark.cuda

heights = st.integers(0, 5)
widths = st.one_of(st.integers(0, 20), st.sampled_from([64, 257]))
scales = st.sampled_from([1e-4, 1.0, 1e2])


@pytest.mark.parametrize("op", ["tanh", "gelu"])
@given(N=heights, F=widths, scale=scales, seed=seeds)
@example(1, 1, 1.0, 2421208)  # x is near -0.75, where the slope of GELU is 0
def test_functions_of_single_numbers(op, N, F, scale, seed):
    rng = np.random.default_rng(seed)
    x, dy = (scale * rng.standard_normal((2, N, F))).astype(np.float32)
    check(op, [x], dy)


def test_gelu_at_the_ends_of_the_line():
    x = np.array([[np.inf, 1e30, 50.0, 13.3, 6.0, 0.0, -0.0, -6.0, -13.3, -50.0, -1e30, np.nan]], np.float32)
    ops, some = simulated(), slice(1, -1)

    def run():
        y, cache = ops.gelu_forward(on_device(x))
        return y, ops.gelu_backward(on_device(np.ones_like(x)), cache)

    y, slope = in_every_order(run)
    assert np.array_equal(y[:, [0, -1]], [[np.inf, np.nan]], equal_nan=True)
    assert np.isnan(slope[0, -1])
    with np.errstate(all="ignore"):
        wanted, cache = REFERENCE.gelu_forward(widened(x[:, some]))
        limits = bounds_of("gelu", [x[:, some]], np.ones_like(x[:, some]))
    hold("y", y[:, some], wanted, 2.0 * limits["y"])
    hold("slope", slope[:, some], REFERENCE.gelu_backward(np.ones_like(wanted), cache), 2.0 * limits["dx"])
