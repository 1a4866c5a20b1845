from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import dtypes, keys, rates, seeds, starts_of

from pyroberta.ops.dropout import Key, dropout_backward, dropout_forward, keep_mask
from pyroberta.oracle import check_backward

WORD = 2**64 - 1


def philox(counter: list[int], key: tuple[int, int]) -> list[int]:
    """Philox4x64-10 in plain integers, from the paper: what every backend has to draw."""
    c, (k0, k1) = counter, key
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [right >> 64 ^ c[1] ^ k0, right & WORD, left >> 64 ^ c[3] ^ k1, left & WORD]
        k0, k1 = k0 + 0x9E3779B97F4A7C15 & WORD, k1 + 0xBB67AE8584CAA73B & WORD
    return c


def words(key: tuple[int, int], stream: int, count: int) -> list[int]:
    """The stream's first 32-bit words: blocks 1, 2, …, of four 64-bit numbers each, low half first."""
    blocks = (philox([block, 0, stream, 0], key) for block in range(1, count // 8 + 2))
    return [half for block in blocks for word in block for half in (word & 0xFFFFFFFF, word >> 32)][:count]


def too_unlikely(successes: int, trials: int, p: float) -> bool:
    """Whether a binomial count lies where it has less than one chance in 10⁹ to (Chernoff's bound, true for any n)."""
    q = successes / trials
    divergence = sum(a * math.log(a / b) for a, b in ((q, p), (1.0 - q, 1.0 - p)) if a > 0.0)
    return 2.0 * math.exp(-trials * divergence) < 1e-9


def test_the_generator_gives_the_known_answer_of_its_authors():
    # Random123's kat_vectors: philox4x64 10, counter and key zero
    assert philox([0, 0, 0, 0], (0, 0)) == [
        0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B
    ]  # fmt: skip


def test_golden_words():
    assert words((7, 3), 5, 8) == [
        0x0ABE9FEF, 0xF1785E7F, 0x74D978B0, 0xF739092E, 0xA84D1680, 0xF3289CB8, 0x9343050B, 0x81B9107B
    ]  # fmt: skip
    # half of 2³² lies between these words just as the mask says
    assert keep_mask((7, 3), 5, (8,), 0.5).tolist() == [False, True, False, True, True, True, True, True]


@given(key=keys, stream=st.integers(0, WORD), size=st.integers(0, 37), rate=rates)
def test_element_i_is_kept_where_the_streams_word_i_reaches_the_rate(key, stream, size, rate):
    wanted = [word >= round(rate * 2**32) for word in words(key, stream, size)]
    assert keep_mask(key, stream, (size,), rate).tolist() == wanted


def test_a_word_equal_to_the_rate_is_kept():
    rate = words((7, 3), 5, 8)[4] / 2**32
    assert keep_mask((7, 3), 5, (8,), rate)[4]
    assert not keep_mask((7, 3), 5, (8,), rate + 2**-32)[4]


@given(key=keys, stream=st.integers(0, 99), rows=st.integers(0, 9), columns=st.integers(0, 9), more=st.integers(0, 99))
def test_a_mask_depends_on_key_and_stream_alone_and_not_on_its_shape(key, stream, rows, columns, more):
    mask = keep_mask(key, stream, (rows, columns), 0.5)
    assert mask.shape == (rows, columns)
    assert np.array_equal(mask, keep_mask(key, stream, (rows, columns), 0.5))
    assert np.array_equal(mask.ravel(), keep_mask(key, stream, (rows * columns + more,), 0.5)[: rows * columns])


@given(key=keys, other=keys, stream=st.integers(0, WORD), other_stream=st.integers(0, WORD))
def test_masks_of_different_keys_or_streams_agree_as_coins_do(key, other, stream, other_stream):
    assume((key, stream) != (other, other_stream))
    n = 2000
    agreeing = keep_mask(key, stream, (n,), 0.5) == keep_mask(other, other_stream, (n,), 0.5)
    assert not too_unlikely(int(agreeing.sum()), n, 0.5)


@given(seed=seeds)
def test_masks_of_neighbouring_keys_and_streams_agree_as_coins_do(seed):
    n = 2000
    mask = keep_mask((seed, 8), 3, (n,), 0.5)
    for key, stream in (((seed + 1, 8), 3), ((seed, 9), 3), ((seed, 8), 4)):
        agreeing = mask == keep_mask(key, stream, (n,), 0.5)
        assert not too_unlikely(int(agreeing.sum()), n, 0.5)


@given(key=keys, stream=st.integers(0, 99), rate=st.floats(0.01, 0.99))
def test_the_kept_fraction_is_one_minus_the_rate(key, stream, rate):
    n = 20_000
    assert not too_unlikely(int(keep_mask(key, stream, (n,), rate).sum()), n, 1.0 - rate)


@pytest.mark.parametrize("rate", [1e-12, 1.0 - 2.0**-33, math.nextafter(1.0, 0.0)])
def test_rates_next_to_zero_and_one_are_allowed(rate):
    assert keep_mask((1, 2), 0, (1000,), rate).sum() == (1000 if rate < 0.5 else 0)


@given(N=st.integers(0, 5), C=st.integers(1, 9), rate=rates, key=keys, seed=seeds)
def test_backward_is_the_derivative(N, C, rate, key, seed):
    x = np.random.default_rng(seed).standard_normal((N, C))
    assert check_backward(lambda x: dropout_forward(x, rate, key), dropout_backward, [x]).error <= 1e-8


@given(rate=st.sampled_from([0.1, 0.5, 0.9]), key=keys, dtype=dtypes)
def test_backward_uses_the_very_mask_of_forward(rate, key, dtype):
    ones = np.ones((20, 30), dtype)
    y, cache = dropout_forward(ones, rate, key)
    assert np.array_equal(y, dropout_backward(ones, cache))
    assert np.array_equal(y != 0.0, keep_mask(key, 0, ones.shape, rate))


@given(rate=st.sampled_from([0.1, 0.5, 0.9]), key=keys, dtype=dtypes)
def test_survivors_are_scaled_by_one_over_the_kept_fraction(rate, key, dtype):
    y, _ = dropout_forward(np.full((20, 30), 3.0, dtype), rate, key)
    assert set(np.unique(y).tolist()) <= {0.0, float(dtype(3.0) * dtype(1.0 / (1.0 - rate)))}


def test_rate_zero_returns_the_input_itself_and_draws_nothing():
    x = np.ones((2, 3))
    y, cache = dropout_forward(x, 0.0, (1, 2))
    assert y is x
    assert dropout_backward(x, cache) is x


@given(lengths=st.lists(st.integers(0, 4), min_size=1, max_size=4), C=st.integers(1, 5), seed=seeds)
def test_a_sequences_mask_follows_from_its_number_wherever_it_lies_and_whichever_rows_are_there(lengths, C, seed):
    rng = np.random.default_rng(seed)
    starts, numbers = starts_of(lengths), rng.permutation(100)[: len(lengths)]
    key, ones = Key.of_update(seed, 3).at(2), np.ones((int(starts[-1]), C))
    y, cache = dropout_forward(ones, 0.5, key, starts, numbers)
    for b, number in enumerate(numbers.tolist()):
        sequence_rows = slice(starts[b], starts[b + 1])
        assert np.array_equal(y[sequence_rows] != 0.0, keep_mask(key, number, (lengths[b], C), 0.5))
    rows = np.flatnonzero(rng.random(len(ones)) < rng.random())
    some, some_cache = dropout_forward(ones[rows], 0.5, key, starts, numbers, rows)
    assert np.array_equal(some, y[rows])
    assert np.array_equal(dropout_backward(ones[rows], some_cache), dropout_backward(ones, cache)[rows])
