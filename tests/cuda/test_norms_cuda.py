"""Layer norm, add and norm, and dropout."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_simulator import check, in_every_order, on_device, simulated
from drawn_arguments import choose_rows, choose_sequences, drawing
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import keys, seeds

from pyroberta.ops import REFERENCE

pytestmark = pytest.mark.cuda

scales = st.sampled_from([1e-4, 1.0, 1e4])
rates = st.sampled_from([0.0, 0.1, 0.5])
some_rows = st.one_of(st.none(), st.integers(0, 3))
heights = st.integers(0, 9)
widths = st.one_of(st.integers(2, 40), st.sampled_from([64, 129, 300]))


@given(N=heights, C=widths, scale=scales, seed=seeds)
@example(130, 33, 1.0, 0)  # more rows than a part of the sums over them has
def test_layer_norm(N, C, scale, seed):
    draw, _ = drawing(seed)
    check("layer_norm", [np.float32(scale) * draw(N, C), draw(C), draw(C), 1e-5], draw(N, C), {1: (C,), 2: (C,)})


@given(N=heights, C=widths, rate=rates, key=keys, gap=some_rows, scale=scales, seed=seeds)
def test_add_norm(N, C, rate, key, gap, scale, seed):
    draw, rng = drawing(seed)
    size, rows = np.float32(scale), choose_rows(gap, N, rng)
    arguments = [size * draw(N, C), size * draw(N, C), draw(C), draw(C), 1e-5, rate, key]
    arguments += [*choose_sequences(N, rows, rng), rows]
    check("add_norm", arguments, draw(N, C), {2: (C,), 3: (C,)})


@given(N=heights, C=st.one_of(st.just(1), widths), rate=rates, key=keys, gap=some_rows, seed=seeds)
def test_dropout_draws_the_very_same_mask(N, C, rate, key, gap, seed):
    draw, rng = drawing(seed)
    rows, x = choose_rows(gap, N, rng), draw(N, C)
    sequences = choose_sequences(N, rows, rng)
    (found,) = in_every_order(lambda: simulated().dropout_forward(on_device(x), rate, key, *sequences, rows)[0])
    np.testing.assert_array_equal(found != 0, REFERENCE.dropout_forward(x, rate, key, *sequences, rows)[0] != 0)
    check("dropout", [x, rate, key, *sequences, rows], draw(N, C))


def test_the_masks_threshold_is_rounded_as_the_references():
    ones = np.ones((1, 4096), np.float32)
    for rate in (1e-9, 1e-3, 0.25, 0.999999, 1.0 - 2.0**-40):
        y = simulated().to_host(simulated().dropout_forward(on_device(ones), rate, (5, 6))[0])
        np.testing.assert_array_equal(y != 0, REFERENCE.dropout_forward(ones, rate, (5, 6))[0] != 0)


def test_what_does_not_fit_is_named():
    ops, ones, rows = simulated(), np.ones((3, 2), np.float32), np.array([0, 2, 5])
    for starts, numbers, some, wrong in [
        ([0, 2], None, None, "starts must rise from 0 to the number of rows, 3"),
        ([0, 5], None, rows, "starts must rise from 0 and reach beyond the last row, 5"),
        ([0, 3], [-1], None, r"numbers\[0\] must be at least 0"),
    ]:
        sequences = np.array(starts, int), numbers and np.array(numbers)
        with pytest.raises(ValueError, match=f"dropout: {wrong}"):
            ops.dropout_forward(on_device(ones), 0.5, (1, 2), *sequences, some)
    with pytest.raises(ValueError, match=r"dropout: rate must be in \[0, 1\), got 1"):
        ops.dropout_forward(on_device(ones), 1.0, (1, 2))
    with pytest.raises(ValueError, match=r"add_norm_forward: gamma must have the shape \(2,\), got \(3,\)"):
        ops.layer_norm_forward(on_device(ones), on_device(ones[:, 0].copy()), on_device(ones[0]), 1e-5)
