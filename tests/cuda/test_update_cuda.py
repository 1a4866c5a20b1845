"""The sums of gradients, and Adam's update."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_simulator import in_every_order, on_device, simulated
from drawn_arguments import drawing
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds
from within import SINGLE, hold, widened

from pyroberta.ops import REFERENCE
from pyroberta.oracle import bounds

pytestmark = pytest.mark.cuda

sizes = st.one_of(st.integers(0, 40), st.sampled_from([255, 256, 257, 700]))


@given(
    P=sizes, scale=st.sampled_from([1e-4, 1.0, 1e4]), clipping=st.sampled_from([None, 1.0, 0.3, 1e-3]),
    decay=st.sampled_from([0.0, 1e-4]), is_finite=st.sampled_from([None, True, False]), seed=seeds,
)  # fmt: skip
def test_adam(P, scale, clipping, decay, is_finite, seed):
    ops, (draw, _) = simulated(), drawing(seed)
    w, g, m, v = draw(P), np.float32(scale) * draw(P), draw(P), np.square(draw(P))
    numbers = [1e-3, 0.9, 0.999, 1e-8]

    def run():
        arrays = [on_device(x) for x in (w, g, m, v)]
        factor = 1.0 if clipping is None else ops.add(clipping, 0.0)  # a number of Python, or a scalar on the device
        finite = True if is_finite is None else ops.all_finite(on_device(np.float32([1.0 if is_finite else np.inf])))
        ops.adam_step(*arrays, *numbers, factor, decay, finite)
        return tuple(arrays)

    w_after, g_after, m_after, v_after = in_every_order(run)
    np.testing.assert_array_equal(g_after, g)
    if is_finite is False:
        for after, before in ((w_after, w), (m_after, m), (v_after, v)):
            np.testing.assert_array_equal(after, before)
        return
    exact = [widened(x) for x in (w, g, m, v)]
    limits = bounds.adam_step(SINGLE, *(x.copy() for x in exact), *numbers, clipping or 1.0, decay)
    REFERENCE.adam_step(*exact, *numbers, clipping or 1.0, decay)
    for name, found, true in (("w", w_after, exact[0]), ("m", m_after, exact[2]), ("v", v_after, exact[3])):
        hold(f"adam_step: {name}", found, true, limits[name])


@given(size=sizes, seed=seeds)
def test_a_gradient_is_added_to_the_sum(size, seed):
    ops, (draw, _) = simulated(), drawing(seed)
    total, gradient = draw(size), draw(size)
    (found,) = in_every_order(lambda: ops.accumulate(on_device(total), on_device(gradient)))
    np.testing.assert_array_equal(found, total + gradient)
