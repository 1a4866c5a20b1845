from __future__ import annotations

import math
import tracemalloc
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import dtypes, scales, seeds
from within import DOUBLE, SINGLE, hold, widened

from pyroberta.ops import cross_entropy
from pyroberta.ops.cross_entropy import (
    cross_entropy_backward,
    cross_entropy_backward_input,
    cross_entropy_forward,
    logits,
)
from pyroberta.oracle import bounds, check_backward

vocabularies = st.integers(1, 20)
widths = st.integers(1, 6)
chunks = st.sampled_from([1, 30, 1 << 24])  # a row at a time, a few, all


def draw(M, V, C, scale, seed):
    rng = np.random.default_rng(seed)
    h, table, bias = scale * rng.standard_normal((M, C)), rng.standard_normal((V, C)), rng.standard_normal(V)
    return h, table, bias, rng.integers(0, V, M).astype(np.int32)


def naive(h, table, bias, labels):
    """-log softmax(h tableᵀ + bias)[label], and the most likely id."""
    z = h @ table.T + bias
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return -np.log(p[np.arange(len(z)), labels]), p.argmax(axis=1)


@given(M=st.integers(0, 7), V=vocabularies, C=widths, chunk=chunks, scale=st.sampled_from([1e-2, 1.0, 2.0]), seed=seeds)
def test_backward_is_the_derivative(M, V, C, chunk, scale, seed):
    *inputs, labels = draw(M, V, C, scale, seed)

    def losses_alone(h, table, bias):
        (losses, _), cache = cross_entropy_forward(h, table, bias, labels)
        return losses, cache

    with mock.patch.object(cross_entropy, "CHUNK", chunk):
        assert check_backward(losses_alone, cross_entropy_backward, inputs).error <= 1e-8


@given(M=st.integers(0, 7), V=vocabularies, C=widths, chunk=chunks, scale=scales, seed=seeds)
def test_it_is_the_naive_log_softmax_whatever_the_chunk(M, V, C, chunk, scale, seed):
    h, table, bias, labels = draw(M, V, C, scale, seed)
    with mock.patch.object(cross_entropy, "CHUNK", chunk):
        (losses, predicted), _ = cross_entropy_forward(h, table, bias, labels)
    wanted, likeliest = naive(h, table, bias, labels)
    np.testing.assert_allclose(losses, wanted, rtol=1e-10, atol=1e-10)
    assert np.array_equal(predicted, likeliest)


@given(M=st.integers(1, 40), V=st.integers(2, 20), C=widths, chunk=st.integers(1, 500), seed=seeds, dtype=dtypes)
def test_the_chunk_size_never_changes_anything(M, V, C, chunk, seed, dtype):
    *arrays, labels = draw(M, V, C, 1.0, seed)
    h, table, bias = (array.astype(dtype) for array in arrays)
    dlosses = np.random.default_rng(seed).standard_normal(M).astype(dtype)

    def results():
        (losses, predicted), cache = cross_entropy_forward(h, table, bias, labels)
        return [losses, *cross_entropy_backward(dlosses, cache)], predicted

    whole, predicted = results()
    with mock.patch.object(cross_entropy, "CHUNK", chunk):
        chunked, predicted_in_chunks = results()
    wide, run = [widened(array) for array in (h, table, bias)], SINGLE if dtype is np.float32 else DOUBLE
    rescalings = -(-V // max(1, chunk // M)) - 1
    limits = bounds.cross_entropy(run, *wide, labels, dy=widened(dlosses), rescalings=rescalings)
    for (name, bound), a, b in zip(limits.items(), whole, chunked, strict=True):  # equal but for the order of sums
        hold(name, b, a, 2.0 * bound)
    z, of_z, at = logits(*wide), bounds.logits(run, *wide)["z"], np.arange(M)
    assert (np.abs(z[at, predicted] - z[at, predicted_in_chunks]) <= 4.0 * of_z.max(axis=1)).all()


@given(M=st.integers(0, 9), V=vocabularies, C=widths, chunk=chunks, seed=seeds, dtype=dtypes)
def test_backward_input_is_the_full_rows_without_the_table(M, V, C, chunk, seed, dtype):
    *arrays, labels = draw(M, V, C, 1.0, seed)
    dlosses = np.random.default_rng(seed).standard_normal(M).astype(dtype)
    with mock.patch.object(cross_entropy, "CHUNK", chunk):
        _, cache = cross_entropy_forward(*(array.astype(dtype) for array in arrays), labels)
        dh, _, dbias = cross_entropy_backward(dlosses, cache)
        for found, expected in zip(cross_entropy_backward_input(dlosses, cache), (dh, dbias), strict=True):
            assert np.array_equal(found, expected)


@given(M=st.integers(1, 9), V=vocabularies, C=widths, scale=scales, seed=seeds)
def test_probabilities_sum_to_one(M, V, C, scale, seed):
    h, table, bias, _ = draw(M, V, C, scale, seed)
    total = np.zeros(M)
    for label in range(V):
        (losses, _), _ = cross_entropy_forward(h, table, bias, np.full(M, label))
        total += np.exp(-losses)
    np.testing.assert_allclose(total, 1.0, rtol=1e-11)


@given(M=st.integers(1, 9), V=vocabularies, C=widths, seed=seeds)
def test_a_tokens_logit_gradients_sum_to_zero(M, V, C, seed):
    h, table, bias, labels = draw(M, V, C, 1.0, seed)
    _, cache = cross_entropy_forward(h, table, bias, labels)
    _, _, dbias = cross_entropy_backward(np.random.default_rng(seed).standard_normal(M), cache)
    assert abs(dbias.sum()) <= 1e-12


@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
def test_extreme_logits_stay_finite(size):
    h, table = np.array([[1.0], [-1.0]], np.float32), np.array([[size], [-size]], np.float32)
    (losses, predicted), cache = cross_entropy_forward(h, table, np.zeros(2, np.float32), np.array([0, 0]))
    assert losses.tolist() == [0.0, np.float32(2.0) * np.float32(size)]
    assert predicted.tolist() == [0, 1]
    for gradient in cross_entropy_backward(np.ones(2, np.float32), cache):
        assert np.isfinite(gradient).all()


def test_a_shift_of_all_logits_costs_no_digits():
    table, bias = np.zeros((4, 1), np.float32), np.array([0.0, 1.0, 2.0, 3.0], np.float32)
    h, labels = np.zeros((4, 1), np.float32), np.arange(4)
    (plain, _), _ = cross_entropy_forward(h, table, bias, labels)
    (shifted, _), _ = cross_entropy_forward(h, table, bias + np.float32(2**20), labels)
    assert np.array_equal(plain, shifted)


def test_equal_logits_cost_the_logarithm_of_the_vocabulary_and_predict_the_first():
    (losses, predicted), _ = cross_entropy_forward(np.ones((1, 2)), np.ones((8, 2)), np.ones(8), np.array([5]))
    assert losses[0] == pytest.approx(math.log(8), rel=1e-15)
    assert predicted.tolist() == [0]


def test_nothing_masked_gives_no_losses_and_zero_gradients():
    (losses, predicted), cache = cross_entropy_forward(
        np.zeros((0, 3)), np.ones((5, 3)), np.ones(5), np.zeros(0, np.int32)
    )
    assert losses.shape == predicted.shape == (0,)
    dh, dtable, dbias = cross_entropy_backward(losses, cache)
    assert dh.shape == (0, 3)
    assert np.array_equal(dtable, np.zeros((5, 3)))
    assert np.array_equal(dbias, np.zeros(5))


def test_memory_is_bounded_by_the_chunk_whatever_the_number_of_masked_tokens():
    M, V, C, chunk = 2000, 5000, 8, 50_000
    h, table, bias, labels = draw(M, V, C, 1.0, seed=0)
    with mock.patch.object(cross_entropy, "CHUNK", chunk):
        tracemalloc.start()
        try:
            _, cache = cross_entropy_forward(h, table, bias, labels)
            results = cross_entropy_backward(np.ones(M), cache)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    lasting = sum(array.nbytes for array in results) + 4 * 8 * M  # the gradients; losses, sums, ids, dlosses
    assert peak <= lasting + 3 * 8 * chunk + table.nbytes  # logits and what is made of them; one chunk's dtable
    assert peak < 8 * M * V / 10  # all logits at once


@given(M=st.integers(0, 5), V=vocabularies, C=widths, seed=seeds)
def test_logits_are_the_product_with_the_table_plus_bias(M, V, C, seed):
    h, table, bias, _ = draw(M, V, C, 1.0, seed)
    wanted = np.einsum("mc,vc->mv", h, table) + bias
    np.testing.assert_allclose(logits(h, table, bias), wanted, rtol=1e-13, atol=1e-13)
