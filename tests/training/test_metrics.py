"""Metrics over an epoch are those of all its tokens taken as one batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyroberta.training import metrics
from pyroberta.training.metrics import Accuracy, Loss, Perplexity, SparseCategoricalAccuracy


def draw(seed: int, sizes: list[int]):
    rng = np.random.default_rng(seed)
    return [
        (rng.exponential(3.0, M), rng.integers(0, 3, M), rng.integers(0, 3, M), rng.random(M) * rng.integers(0, 2, M))
        for M in sizes
    ]


def join(batches):
    return tuple(np.concatenate(arrays) for arrays in zip(*batches, strict=True))


@pytest.mark.parametrize("make", [Loss, Accuracy, SparseCategoricalAccuracy, Perplexity])
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_however_an_epoch_is_cut_into_batches_the_result_is_the_same(make, seed, sizes):
    batches = draw(seed, sizes)
    whole, parts = make(), make()
    joined = join(batches)
    whole.update(*joined, denominator=float(joined[3].sum()))
    for batch in batches:
        parts.update(*batch, denominator=float(batch[3].sum()))
    assert parts.result() == pytest.approx(whole.result(), rel=1e-12)


@given(seed=st.integers(0, 2**32))
def test_results_are_weighted_means(seed):
    (batch,) = draw(seed, [20])
    losses, predicted, labels, weights = batch
    weights[0] = 1.0
    found = {}
    for name in ("loss", "accuracy", "perplexity"):
        metric = metrics.get(name)
        metric.update(*batch, denominator=40.0)
        found[metric.name] = metric.result()
    assert found["loss"] == pytest.approx((weights * losses).sum() / 40.0)
    assert found["accuracy"] == pytest.approx((weights * (predicted == labels)).sum() / weights.sum())
    assert found["perplexity"] == pytest.approx(math.exp((weights * losses).sum() / weights.sum()))


def test_a_perplexity_past_float64_is_infinite_and_quiet():
    metric = Perplexity()
    metric.update(np.array([1000.0]), np.zeros(1), np.zeros(1), np.ones(1), 1.0)
    assert metric.result() == math.inf


def test_a_loss_that_is_not_a_number_shows_unless_its_weight_is_zero():
    for weight, expected in ((1.0, True), (0.0, False)):
        metric = Perplexity()
        metric.update(np.array([math.nan, 1.0]), np.zeros(2), np.zeros(2), np.array([weight, 1.0]), 1.0)
        assert math.isnan(metric.result()) is expected


def test_float32_batches_add_up_in_float64():
    metric = Loss()
    for _ in range(3):
        metric.update(np.full(2**20, 0.1, np.float32), np.zeros(1), np.zeros(1), np.ones(2**20, np.float32), 2.0**20)
    assert metric.result() == pytest.approx(float(np.float32(0.1)), rel=1e-13)


def test_reset_forgets_and_nothing_gives_nothing():
    for name, nothing in (("loss", 0.0), ("accuracy", 0.0), ("perplexity", 1.0)):
        metric = metrics.get(name)
        assert metric.result() == nothing
        metric.update(np.ones(1), np.ones(1), np.ones(1), np.ones(1), 1.0)
        assert metric.result() != nothing
        metric.reset()
        assert metric.result() == nothing


def test_an_unknown_name_gets_the_known_ones():
    with pytest.raises(ValueError, match=r"one of loss, accuracy, .*perplexity, .* or a metric object, got 'f1'"):
        metrics.get("f1")
    metric = Accuracy(name="acc")
    assert metrics.get(metric) is metric
    assert metric.name == "acc"
