"""Keras's claims about learning rate schedules."""

from __future__ import annotations

import math

import numpy as np
import pytest
from claims import claim, classes, features, small_classifier

from pyroberta import optimizers, schedules

FILE = "keras/src/optimizers/schedules/learning_rate_schedule_test.py"
FLOW = f"{FILE}::TestFitLRSchedulesFlow"
EXPONENTIAL = f"{FILE}::ExponentialDecayTest"
PIECEWISE = f"{FILE}::PiecewiseConstantDecayTest"
LINEAR = f"{FILE}::LinearDecayTest"
ROOT = f"{FILE}::SqrtDecayTest"
INVERSE = f"{FILE}::InverseTimeDecayTest"
COSINE = f"{FILE}::CosineDecayTest"
RESTARTS = f"{FILE}::CosineDecayRestartsTest"


@claim(f"{FLOW}::test_fit_lr_correctness")
def test_fit_takes_the_rate_of_every_step():
    schedule = schedules.ExponentialDecay(initial_learning_rate=0.05, decay_steps=1, decay_rate=0.9)
    rates = []

    class Noted(schedules.ExponentialDecay):
        def __call__(self, step):
            rates.append((int(step), schedule(step)))
            return schedule(step)

    model = small_classifier()
    model.compile(optimizer=optimizers.Adam(learning_rate=Noted(0.05, 1, 0.9)))
    history = model.fit(features(16), classes(16), epochs=3, batch_size=4, shuffle=False, verbose=0)
    assert model.optimizer.iterations == 4 * 3
    assert dict(rates) == {step: pytest.approx(0.05 * 0.9**step, rel=1e-6) for step, _ in rates}
    assert {step for step, _ in rates} >= set(range(12))
    assert len(history.history["loss"]) == 3


@claim(*(f"{each}::test_config" for each in (EXPONENTIAL, PIECEWISE, LINEAR, INVERSE, COSINE, RESTARTS)))
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ExponentialDecay", {"initial_learning_rate": 0.05, "decay_steps": 10, "decay_rate": 0.96, "staircase": True}),
        ("PiecewiseConstantDecay", {"boundaries": [10, 20], "values": [1, 2, 3]}),
        ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 100, "end_learning_rate": 0.005}),
        ("InverseTimeDecay", {"initial_learning_rate": 0.05, "decay_steps": 10, "decay_rate": 0.96, "staircase": True}),
        (
            "CosineDecay",
            {"initial_learning_rate": 0.05, "decay_steps": 10, "alpha": 0.1, "warmup_target": 0.2, "warmup_steps": 2},
        ),
        (
            "CosineDecayRestarts",
            {"initial_learning_rate": 0.05, "first_decay_steps": 10, "alpha": 0.1, "t_mul": 3.0, "m_mul": 4.0},
        ),
    ],
)
def test_a_schedule_is_made_again_of_its_config(name, arguments):
    kind = getattr(schedules, name)
    schedule = kind(**arguments, name="mine")
    config = schedule.get_config()
    assert config["name"] == "mine"
    assert {key: config[key] for key in arguments} == arguments
    again = kind.from_config(config)
    assert type(again) is kind
    assert again.get_config() == config
    assert [again(step) for step in (0, 3, 25)] == [schedule(step) for step in (0, 3, 25)]


@claim(f"{EXPONENTIAL}::test_continuous")
def test_exponential_decay_falls_within_its_steps():
    assert schedules.ExponentialDecay(0.05, 10, 0.96)(5) == pytest.approx(0.05 * 0.96**0.5, rel=1e-6)


@claim(f"{EXPONENTIAL}::test_staircase")
def test_exponential_decay_falls_in_stairs():
    schedule = schedules.ExponentialDecay(0.1, 3, 0.96, staircase=True)
    assert [schedule(step) for step in (1, 2, 100)] == pytest.approx([0.1, 0.1, 0.1 * 0.96**33], rel=1e-6)


@claim(f"{EXPONENTIAL}::test_variables")
@pytest.mark.parametrize("kind", [int, float, np.int64])
def test_a_step_is_any_number(kind):
    assert schedules.ExponentialDecay(0.1, 3, 0.96, staircase=True)(kind(100)) == pytest.approx(
        0.1 * 0.96**33, rel=1e-6
    )


@claim(f"{PIECEWISE}::test_piecewise_values")
def test_piecewise_values_hold_up_to_their_boundary():
    schedule = schedules.PiecewiseConstantDecay([100, 110, 120], [1.0, 0.1, 0.01, 0.001])
    assert [schedule(step) for step in (0, 100, 105, 110, 120, 999)] == [1.0, 1.0, 0.1, 0.1, 0.01, 0.001]


@claim(f"{PIECEWISE}::test_boundary_values")
def test_a_boundary_belongs_to_the_value_before_it():
    schedule = schedules.PiecewiseConstantDecay([1, 2, 3], [0.4, 0.5, 0.6, 0.7])
    assert [schedule(np.int64(step)) for step in range(5)] == [0.4, 0.4, 0.5, 0.6, 0.7]


@claim(f"{LINEAR}::test_halfway", f"{ROOT}::test_halfway")
@pytest.mark.parametrize("power", [1.0, 0.5])
def test_polynomial_decay_halfway(power):
    assert schedules.PolynomialDecay(0.05, 10, 0.0, power=power)(5) == pytest.approx(0.05 * 0.5**power, rel=1e-6)


@claim(f"{LINEAR}::test_end", f"{ROOT}::test_end")
@pytest.mark.parametrize("power", [1.0, 0.5])
def test_polynomial_decay_ends_at_its_end(power):
    assert schedules.PolynomialDecay(0.05, 10, 0.001, power=power)(10) == pytest.approx(0.001, rel=1e-6)


@claim(f"{LINEAR}::test_halfway_with_end", f"{ROOT}::test_halfway_with_end")
@pytest.mark.parametrize("power", [1.0, 0.5])
def test_polynomial_decay_halfway_to_its_end(power):
    expected = (0.05 - 0.001) * 0.5**power + 0.001
    assert schedules.PolynomialDecay(0.05, 10, 0.001, power=power)(5) == pytest.approx(expected, rel=1e-6)


@claim(f"{LINEAR}::test_beyond_end", f"{ROOT}::test_beyond_end")
@pytest.mark.parametrize("power", [1.0, 0.5])
def test_polynomial_decay_stays_at_its_end(power):
    assert schedules.PolynomialDecay(0.05, 10, 0.001, power=power)(15) == pytest.approx(0.001, rel=1e-6)


@claim(f"{LINEAR}::test_beyond_end_with_cycle", f"{ROOT}::test_beyond_end_with_cycle")
@pytest.mark.parametrize("power", [1.0, 0.5])
def test_polynomial_decay_begins_a_longer_cycle(power):
    expected = (0.05 - 0.001) * 0.25**power + 0.001
    schedule = schedules.PolynomialDecay(0.05, 10, 0.001, power=power, cycle=True)
    assert schedule(15) == pytest.approx(expected, rel=1e-6)


@claim(f"{ROOT}::test_begin_with_cycle")
def test_polynomial_decay_with_cycles_begins_at_its_rate():
    assert schedules.PolynomialDecay(0.001, 10, cycle=True)(0) == pytest.approx(0.001, rel=1e-6)


@claim(f"{INVERSE}::test_decay")
def test_inverse_time_decay():
    schedule = schedules.InverseTimeDecay(0.1, 10, 0.96)
    for step in range(11):
        assert schedule(step) == pytest.approx(0.1 / (1 + step / 10 * 0.96), rel=1e-6)


@claim(f"{INVERSE}::test_staircase")
def test_inverse_time_decay_in_stairs():
    schedule = schedules.InverseTimeDecay(0.1, 10, 0.96, staircase=True)
    for step in range(11):
        assert schedule(step) == pytest.approx(0.1 / (1 + 0.96 * (step // 10)), rel=1e-6)


def cosine(step, decay_steps, alpha=0.0):
    """Loshchilov and Hutter 2017, equation 5, down to the share `alpha` of the rate."""
    share = min(step, decay_steps) / decay_steps
    return (1.0 - alpha) * 0.5 * (1.0 + math.cos(math.pi * share)) + alpha


@claim(f"{COSINE}::test_decay")
def test_cosine_decay():
    for step in range(0, 1500, 250):
        assert schedules.CosineDecay(1.0, 1000)(step) == pytest.approx(cosine(step, 1000), abs=1e-6)


@claim(f"{COSINE}::test_alpha")
def test_cosine_decay_ends_at_a_share():
    for step in range(0, 1500, 250):
        assert schedules.CosineDecay(1.0, 1000, 0.1)(step) == pytest.approx(cosine(step, 1000, 0.1), abs=1e-6)


@claim(f"{COSINE}::test_float64")
def test_cosine_decay_takes_numpys_numbers():
    for step in range(0, 1500, 250):
        assert schedules.CosineDecay(np.float64(1.0), 1000)(step) == pytest.approx(cosine(step, 1000), abs=1e-6)


@claim(f"{COSINE}::test_warmup")
def test_cosine_decay_warms_up_in_a_line():
    schedule = schedules.CosineDecay(0.0, 10, warmup_target=10.0, warmup_steps=1500)
    for step in range(0, 1500, 250):
        assert schedule(step) == pytest.approx(step / 1500 * 10.0, rel=1e-6)


@claim(f"{COSINE}::test_warmup_decay")
def test_cosine_decay_follows_its_warmup():
    schedule = schedules.CosineDecay(0.0, 1000, warmup_target=10.0, warmup_steps=2000)
    for step in range(0, 3000, 250):
        expected = step / 2000 * 10.0 if step <= 2000 else 10.0 * cosine(step - 2000, 1000)
        assert schedule(step) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def with_restarts(step, decay_steps, t_mul=2.0, m_mul=1.0, alpha=0.0):
    height = 1.0
    while step >= decay_steps:
        step, decay_steps, height = step - decay_steps, decay_steps * t_mul, height * m_mul
    return (1.0 - alpha) * height * cosine(step, decay_steps) + alpha


@claim(f"{RESTARTS}::test_decay", f"{RESTARTS}::test_float64")
@pytest.mark.parametrize("rate", [1.0, np.float64(1.0)])
def test_cosine_decay_with_restarts(rate):
    for step in range(0, 1500, 250):
        assert schedules.CosineDecayRestarts(rate, 1000)(step) == pytest.approx(with_restarts(step, 1000), abs=1e-6)


@claim(*(f"{RESTARTS}::{each}" for each in ("test_alpha", "test_mmul", "test_tmul")))
@pytest.mark.parametrize("options", [{"alpha": 0.1}, {"m_mul": 0.9}, {"t_mul": 1.0}])
def test_cosine_decay_with_other_restarts(options):
    for step in range(0, 1500, 250):
        expected = with_restarts(step, 1000, **options)
        assert schedules.CosineDecayRestarts(1.0, 1000, **options)(step) == pytest.approx(expected, abs=1e-6)


@claim(f"{FLOW}::test_fit_lr_correctness")
def test_the_schedules_stand_under_the_optimizers_too():
    assert optimizers.schedules.CosineDecay is schedules.CosineDecay
