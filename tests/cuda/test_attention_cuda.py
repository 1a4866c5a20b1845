"""Attention over packed sequences, with any size of a head, any choice of query rows, and dropout."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_simulator import PRECISIONS, check, on_device, simulated
from drawn_arguments import attention_case
from hypothesis import assume, example, given
from hypothesis import strategies as st
from strategies import examples, keys, seeds

pytestmark = pytest.mark.cuda

some_lengths = st.lists(st.one_of(st.integers(0, 9), st.sampled_from([31, 33, 65])), min_size=1, max_size=3)


@pytest.mark.parametrize("precision", PRECISIONS)
@given(
    lengths=some_lengths, H=st.integers(1, 2), D=st.sampled_from([1, 3, 8, 20, 64, 80]),
    rate=st.sampled_from([0.0, 0.1, 0.5]), key=keys, scale=st.sampled_from([1e-4, 1.0, 10.0]),
    share=st.sampled_from([None, 0.0, 0.2, 1.0]), seed=seeds,
)  # fmt: skip
@example([130, 0, 5], 1, 5, 0.1, (1, 2), 1.0, None, 0)
@example([70, 1, 30], 2, 8, 0.1, (1, 2), 1.0, 0.1, 1)
@example([3, 40], 1, 130, 0.5, (1, 2), 1.0, None, 0)
@example([35], 1, 256, 0.1, (1, 2), 1.0, None, 0)
@examples(10)
def test_attention(precision, lengths, H, D, rate, key, scale, share, seed):
    arguments, dy = attention_case(lengths, H, D, rate, key, scale, share, seed)
    assume(len(arguments[1]))
    check("attention", arguments, dy, precision=precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_bad_number_stays_in_its_sequence(precision):
    ops, (arguments, dy) = simulated(precision), attention_case([3, 40, 5], 2, 8, 0.0, (0, 0), 1.0, None, 0)
    for which in range(3):
        broken = [argument.copy() if i < 3 else argument for i, argument in enumerate(arguments)]
        broken[which][20, 3] = np.nan
        y, cache = ops.attention_forward(*map(on_device, broken))
        bad = ~np.isfinite(ops.to_host(y)).all(axis=1)
        assert not bad[:3].any()
        assert not bad[43:].any()
        assert bad[20]
        assert which == 0 or bad[3:43].all()
        gradients = [ops.to_host(gradient) for gradient in ops.attention_backward(on_device(dy), cache)]
        assert not all(np.isfinite(gradient).all() for gradient in gradients)
        for gradient in gradients:
            assert np.isfinite(gradient[:3]).all()
            assert np.isfinite(gradient[43:]).all()


def test_what_does_not_fit_is_named():
    ops, x = simulated(), on_device(np.ones((4, 514), np.float32))
    starts = np.array([0, 4])
    with pytest.raises(
        ValueError, match=r"attention_forward: num_heads must give heads of at most 256 columns, got 2 hea"
    ):
        ops.attention_forward(x, x, x, starts, 2, 0.0, (0, 0))
    with pytest.raises(ValueError, match=r"attention_forward: num_heads must divide the columns, 514, got 3"):
        ops.attention_forward(x, x, x, starts, 3, 0.0, (0, 0))
    with pytest.raises(ValueError, match=r"attention_forward: starts must rise from 0 to the number of rows, 4"):
        ops.attention_forward(x, x, x, np.array([0, 3]), 257, 0.0, (0, 0))
    with pytest.raises(ValueError, match=r"attention_forward: query_rows must rise"):
        ops.attention_forward(x, x, x, starts, 257, 0.0, (0, 0), None, np.array([0, 3, 2, 1]))
