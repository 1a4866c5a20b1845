from __future__ import annotations

import itertools
import math
from itertools import pairwise

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import keys, lengths, rates, scales, seeds, starts_of
from within import DOUBLE, SINGLE, bounds_of, hold, widened

from pyroberta.ops.attention import attention_backward, attention_forward, one_head_backward, one_head_forward
from pyroberta.ops.dropout import keep_mask
from pyroberta.oracle import check_backward

heads = st.integers(1, 3)
head_sizes = st.integers(1, 5)
NO_DROPOUT = (0.0, (0, 0))


def draw(seed: int, N: int, C: int, scale: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [scale * rng.standard_normal((N, C)) for _ in range(3)]


def one_at_a_time(q, k, v, starts, H, rate, key):
    """The definition, one number after the other."""
    D = q.shape[1] // H
    y = np.zeros_like(q)
    for b in range(len(starts) - 1):
        S = int(starts[b + 1] - starts[b])
        keep = keep_mask(key, b, (H, S, S), rate)
        for h in range(H):
            columns = slice(h * D, (h + 1) * D)
            for i in range(S):
                row = starts[b] + i
                scores = [np.dot(q[row, columns], k[starts[b] + j, columns]) / math.sqrt(D) for j in range(S)]
                powers = [math.exp(score - max(scores)) for score in scores]
                for j in range(S):
                    probability = powers[j] / sum(powers) * keep[h, i, j] / (1.0 - rate)
                    y[row, columns] += probability * v[starts[b] + j, columns]
    return y


@given(R=st.integers(1, 6), S=st.integers(1, 6), D=head_sizes, scale=st.sampled_from([0.1, 1.0, 3.0]), seed=seeds)
@example(R=1, S=2, D=3, scale=3.0, seed=3)  # a probability of 1e-13: y hardly moves with q
def test_the_plain_backward_is_the_derivative(R, S, D, scale, seed):
    (q, _, _), (k, v, _) = draw(seed, R, D, scale), draw(seed + 1, S, D, scale)
    assert check_backward(one_head_forward, one_head_backward, [q, k, v]).error <= 1e-8


@given(lengths=lengths, H=heads, D=head_sizes, selects=st.booleans(), scale=scales, seed=seeds)
def test_the_op_is_the_plain_pair_for_each_sequence_and_head(lengths, H, D, selects, scale, seed):
    starts = starts_of(lengths)
    rng = np.random.default_rng(seed)
    q, k, v, dy = (scale * rng.standard_normal((4, int(starts[-1]), H * D))).astype(np.float32)
    query_rows = np.flatnonzero(rng.random(len(q)) < 0.5) if selects else None
    rows = np.arange(len(q)) if query_rows is None else query_rows  # of the sequences' tokens, those that read
    q, dy = q[rows], dy[rows]
    arguments = [q, k, v, starts, H, *NO_DROPOUT, None, query_rows]
    y, cache = attention_forward(*arguments)
    of_op = dict(zip(("y", "dq", "dk", "dv"), (y, *attention_backward(dy, cache)), strict=True))

    of_pair = {dtype: {name: np.zeros(x.shape, dtype) for name, x in of_op.items()} for dtype in (np.float32, float)}
    for dtype, made in of_pair.items():
        for (start, stop), h in itertools.product(pairwise(starts.tolist()), range(H)):
            columns, of_keys = slice(h * D, (h + 1) * D), slice(start, stop)
            of_queries = (start <= rows) & (rows < stop)
            if start < stop:
                q_h, dy_h = (x[of_queries, columns].astype(dtype) for x in (q, dy))
                k_h, v_h = (x[of_keys, columns].astype(dtype) for x in (k, v))
                made["y"][of_queries, columns], cache = one_head_forward(q_h, k_h, v_h)
                dq, dk, dv = one_head_backward(dy_h, cache)
                made["dq"][of_queries, columns] = dq
                made["dk"][of_keys, columns], made["dv"][of_keys, columns] = dk, dv

    limits = bounds_of("attention", arguments, dy)
    for name, true in of_pair[float].items():
        hold(name, of_op[name], true, limits[name])
        hold(f"{name} of the plain pair", of_pair[np.float32][name], true, limits[name])


@given(lengths=lengths, H=heads, D=head_sizes, rate=rates, key=keys, scale=st.sampled_from([0.1, 1.0, 3.0]), seed=seeds)
def test_backward_is_the_derivative(lengths, H, D, rate, key, scale, seed):
    starts = starts_of(lengths)
    inputs = draw(seed, int(starts[-1]), H * D, scale)
    checked = check_backward(
        lambda q, k, v: attention_forward(q, k, v, starts, H, rate, key), attention_backward, inputs
    )
    assert checked.error <= 1e-8


@given(lengths=lengths, H=heads, D=head_sizes, rate=rates, key=keys, scale=scales, seed=seeds)
def test_forward_is_the_definition(lengths, H, D, rate, key, scale, seed):
    starts = starts_of(lengths)
    q, k, v = draw(seed, int(starts[-1]), H * D, scale)
    y, _ = attention_forward(q, k, v, starts, H, rate, key)
    wanted = one_at_a_time(q, k, v, starts, H, rate, key)
    np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-11 * scale / (1.0 - rate))


@given(lengths=lengths, H=heads, D=head_sizes, scale=st.sampled_from([1.0, 1e3]), seed=seeds)
def test_probabilities_sum_to_one(lengths, H, D, scale, seed):
    starts = starts_of(lengths)
    q, k, _ = draw(seed, int(starts[-1]), H * D, scale)
    for dtype in (np.float32, np.float64):
        ones = np.ones(q.shape, dtype)
        y, _ = attention_forward(q.astype(dtype), k.astype(dtype), ones, starts, H, *NO_DROPOUT)
        arguments = [q.astype(dtype), k.astype(dtype), ones, starts, H, *NO_DROPOUT]
        hold(
            "y",
            y,
            widened(ones),
            bounds_of("attention", arguments, ones, SINGLE if dtype is np.float32 else DOUBLE)["y"],
        )


@given(lengths=st.lists(st.integers(0, 6), min_size=2, max_size=4), H=heads, D=head_sizes, seed=seeds)
def test_sequences_do_not_see_each_other(lengths, H, D, seed):
    starts = starts_of(lengths)
    q, k, v = draw(seed, int(starts[-1]), H * D)
    y, cache = attention_forward(q, k, v, starts, H, *NO_DROPOUT)
    gradients = attention_backward(v, cache)
    for start, stop in pairwise(starts):
        alone, cache = attention_forward(
            q[start:stop], k[start:stop], v[start:stop], np.array([0, stop - start]), H, *NO_DROPOUT
        )
        assert np.array_equal(alone, y[start:stop])
        for gradient, whole in zip(attention_backward(v[start:stop], cache), gradients, strict=True):
            assert np.array_equal(gradient, whole[start:stop])


@given(S=st.integers(1, 6), H=heads, D=head_sizes, seed=seeds)
def test_permuting_the_tokens_of_a_sequence_permutes_its_output(S, H, D, seed):
    q, k, v = draw(seed, S, H * D)
    order = np.random.default_rng(seed).permutation(S)
    starts = np.array([0, S])
    y, _ = attention_forward(q, k, v, starts, H, *NO_DROPOUT)
    permuted, _ = attention_forward(q[order], k[order], v[order], starts, H, *NO_DROPOUT)
    np.testing.assert_allclose(permuted, y[order], atol=1e-13)


@given(count=st.integers(1, 4), H=heads, D=head_sizes, seed=seeds)
def test_a_token_alone_attends_to_itself(count, H, D, seed):
    q, k, v = draw(seed, count, H * D)
    y, cache = attention_forward(q, k, v, np.arange(count + 1), H, *NO_DROPOUT)
    dq, dk, dv = attention_backward(q, cache)
    assert np.array_equal(y, v)
    assert np.array_equal(dv, q)
    assert not dq.any()
    assert not dk.any()


def test_no_sequences_and_empty_sequences_give_nothing():
    empty = np.zeros((0, 4))
    for starts in ([0], [0, 0], [0, 0, 0]):
        y, cache = attention_forward(empty, empty, empty, np.array(starts), 2, 0.1, (1, 2))
        assert [x.shape for x in (y, *attention_backward(y, cache))] == [(0, 4)] * 4


def test_extreme_scores_stay_finite_and_choose_one_token():
    q = np.array([[1e4], [-1e4]], np.float32)
    v = np.array([[1.0], [2.0]], np.float32)
    y, cache = attention_forward(q, q, v, np.array([0, 2]), 1, *NO_DROPOUT)
    assert y.tolist() == [[1.0], [2.0]]
    assert all(np.isfinite(gradient).all() for gradient in attention_backward(v, cache))
