"""Learning-rate schedules: their ends, their shape, and transformers' as a peer."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyroberta.training.schedules import SCHEDULES, Constant, Cosine, Linear, Polynomial, from_config

DECAYS = (Linear, Cosine, Polynomial)
peaks = st.floats(1e-8, 1.0)


@pytest.mark.parametrize("make", DECAYS)
@given(peak=peaks, warmup=st.integers(0, 50), decay=st.integers(1, 200), share=st.floats(0.0, 1.0))
def test_a_decay_starts_at_zero_peaks_after_the_warmup_and_stays_at_its_end(make, peak, warmup, decay, share):
    end = peak * share
    schedule = make(peak, total_steps=warmup + decay, warmup_steps=warmup, end_learning_rate=end)
    if warmup:
        assert schedule(0) == 0.0
    assert schedule(warmup) == pytest.approx(peak)
    assert schedule(warmup + decay) == pytest.approx(end)
    assert schedule(warmup + decay) == schedule(10 * (warmup + decay))
    assert all(0.0 <= schedule(step) <= peak * (1 + 1e-12) for step in range(warmup + decay + 2))


@pytest.mark.parametrize("make", DECAYS)
def test_it_never_jumps(make):
    schedule = make(1.0, total_steps=1000, warmup_steps=100, end_learning_rate=0.1)
    rates = [schedule(step) for step in range(1200)]
    assert max(abs(b - a) for a, b in itertools.pairwise(rates)) <= 1 / 100 + 1e-12  # the warm-up is the steepest part
    assert rates[100:] == sorted(rates[100:], reverse=True)


def test_the_middle_of_each_shape():
    assert Linear(1.0, 100)(50) == pytest.approx(0.5)
    assert Cosine(1.0, 100)(25) == pytest.approx((1 + 2**-0.5) / 2)
    assert Polynomial(1.0, 100, power=3.0)(50) == pytest.approx(0.125)
    assert Constant(1.0, warmup_steps=10)(5) == pytest.approx(0.5)


def test_with_power_one_the_polynomial_is_the_line():
    line, polynomial = Linear(0.3, 70, 7, 0.01), Polynomial(0.3, 70, 7, 0.01)
    assert [polynomial(step) for step in range(80)] == [line(step) for step in range(80)]


@pytest.mark.parametrize(
    "schedule", [Constant(0.1, 3), Linear(0.1, 9, 3), Cosine(0.1, 9, 3, 0.01), Polynomial(0.1, 9, 3, 0.01, 2.0)]
)
def test_a_schedule_can_be_written_down_and_read_back(schedule):
    assert from_config(schedule.get_config()) == schedule
    assert schedule.get_config()["name"] in SCHEDULES


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"learning_rate must be a number >= 0, got -1"):
        Linear(-1, 10)
    with pytest.raises(ValueError, match=r"learning_rate must be a number >= 0, got nan"):
        Constant(float("nan"))
    with pytest.raises(ValueError, match=r"warmup_steps must be a number >= 0, got 'ten'"):
        Constant(0.1, "ten")
    with pytest.raises(ValueError, match=r"more than warmup_steps, got total_steps=10, warmup_steps=10"):
        Cosine(0.1, 10, warmup_steps=10)
    with pytest.raises(ValueError, match=r"must be one of constant, linear, cosine, polynomial, got 'square'"):
        from_config({"name": "square"})


@pytest.mark.parity
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_rates_are_those_of_transformers(warmup):
    import torch
    import transformers as hf

    total = 23
    pairs = [
        (Constant(0.3, warmup), hf.get_constant_schedule_with_warmup, {}),
        (Linear(0.3, total, warmup), hf.get_linear_schedule_with_warmup, {"num_training_steps": total}),
        (Cosine(0.3, total, warmup), hf.get_cosine_schedule_with_warmup, {"num_training_steps": total}),
        (
            Polynomial(0.3, total, warmup, 0.01, power=2.0),
            hf.get_polynomial_decay_schedule_with_warmup,
            {"num_training_steps": total, "lr_end": 0.01, "power": 2.0},
        ),
    ]
    for ours, get_schedule, arguments in pairs:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
        theirs = get_schedule(optimizer, num_warmup_steps=warmup, **arguments)
        for step in range(total + 1):
            assert ours(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12, abs=1e-15), (ours, step)
            optimizer.step()
            theirs.step()
