from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from strategies import lengths, seeds

from pyroberta.ops.embedding import embedding_backward, embedding_forward
from pyroberta.oracle import check_backward


@given(lengths=lengths, V=st.integers(1, 9), C=st.integers(1, 5), seed=seeds)
def test_backward_is_the_derivative(lengths, V, C, seed):
    rng = np.random.default_rng(seed)
    positions = np.concatenate([np.zeros(0, np.int32), *(np.arange(length) for length in lengths)]).astype(np.int32)
    ids = rng.integers(0, V, len(positions)).astype(np.int32)
    inputs = [rng.standard_normal((V, C)), rng.standard_normal((6, C))]
    checked = check_backward(
        lambda tokens, position_rows: embedding_forward(ids, positions, tokens, position_rows),
        embedding_backward,
        inputs,
    )
    assert checked.error <= 1e-8


def test_a_token_is_its_row_plus_its_positions_row():
    tokens, position_rows = np.array([[1.0], [2.0], [3.0]]), np.array([[10.0], [20.0]])
    y, _ = embedding_forward(np.array([2, 0, 2]), np.array([0, 1, 0]), tokens, position_rows)
    assert y.tolist() == [[13.0], [21.0], [13.0]]


def test_gradients_are_dense_and_zero_where_nothing_was_looked_up():
    _, cache = embedding_forward(np.array([1, 1]), np.array([0, 1]), np.zeros((3, 2)), np.zeros((4, 2)))
    dtokens, dposition_rows = embedding_backward(np.array([[1.0, 2.0], [10.0, 20.0]]), cache)
    assert dtokens.tolist() == [[0, 0], [11, 22], [0, 0]]
    assert dposition_rows.tolist() == [[1, 2], [10, 20], [0, 0], [0, 0]]


def test_no_tokens_at_all():
    empty = np.zeros(0, np.int32)
    y, cache = embedding_forward(empty, empty, np.ones((3, 2)), np.ones((4, 2)))
    assert y.shape == (0, 2)
    assert not any(gradient.any() for gradient in embedding_backward(y, cache))
