"""Learning-rate schedules: their ends, their shape, and transformers' as a peer."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyroberta import optimizers, schedules
from pyroberta.optimizers.schedules import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    LearningRateSchedule,
    PiecewiseConstantDecay,
    PolynomialDecay,
)
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


# --- the schedules under Keras's names, and learning rates that are functions -----------------------------------------


EXAMPLES = [
    ExponentialDecay(0.1, 10, 0.5),
    ExponentialDecay(0.05, 7, 0.96, staircase=True),
    InverseTimeDecay(0.1, 10, 2.0),
    InverseTimeDecay(0.1, 7, 0.5, True),
    PolynomialDecay(0.1, 10),
    PolynomialDecay(0.1, 10, 0.01, 0.5),
    PolynomialDecay(0.1, 7, 0.01, 2.0, cycle=True),
    CosineDecay(0.1, 10),
    CosineDecay(0.1, 10, 0.25),
    CosineDecay(0.01, 10, 0.1, warmup_target=0.1, warmup_steps=5),
    CosineDecayRestarts(0.1, 5),
    CosineDecayRestarts(0.1, 5, 1.0, 0.5, 0.1),
    CosineDecayRestarts(0.1, 4, 1.5, 0.9),
    PiecewiseConstantDecay([3, 9], [0.1, 0.01, 0.001]),
]
names = [f"{type(one).__name__}{i}" for i, one in enumerate(EXAMPLES)]
each = pytest.mark.parametrize("schedule", EXAMPLES, ids=names)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own
@each
def test_the_values_are_keras(keras, schedule):
    theirs = getattr(keras.optimizers.schedules, type(schedule).__name__)(**schedule.get_config())
    for step in range(60):
        if not (isinstance(schedule, CosineDecayRestarts) and schedule.restarts(step)[1] == 0):  # see its docstring
            assert schedule(step) == pytest.approx(float(theirs(step)), rel=2e-5, abs=1e-8), step
    assert theirs.get_config() == schedule.get_config()


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own
@each
def test_one_of_keras_is_converted_exactly(keras, schedule):
    theirs = getattr(keras.optimizers.schedules, type(schedule).__name__)(**schedule.get_config())
    for one in (theirs, keras.optimizers.schedules.serialize(theirs)):
        assert schedules.get(one) == schedule
        assert optimizers.Adam(one).learning_rate_as_set == schedule


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own
def test_a_schedule_of_keras_that_a_user_wrote_is_called_as_it_is(keras):

    class Mine(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return keras.ops.convert_to_tensor(0.5) / (step + 1)

    optimizer = optimizers.Adam(Mine())
    assert [optimizer.rate_at(step) for step in range(2)] == [0.5, 0.25]


@each
def test_each_is_made_again_of_its_config(schedule):
    config = json.loads(json.dumps(schedule.get_config()))
    assert type(schedule).from_config(config) == schedule
    written = json.loads(json.dumps(schedules.serialize(schedule)))
    assert written["class_name"] == type(schedule).__name__
    assert schedules.get(written) == schedules.deserialize(written) == schedule
    assert optimizers.from_config(optimizers.Adam(schedule).get_config()).learning_rate_as_set == schedule


def test_the_ends():
    assert ExponentialDecay(0.1, 10, 0.5, staircase=True)(19) == 0.05
    assert PolynomialDecay(0.1, 10, 0.01)(1000) == pytest.approx(0.01)
    assert CosineDecay(0.1, 10, 0.5)(1000) == pytest.approx(0.05)
    assert CosineDecay(0.0, 10, warmup_target=0.1, warmup_steps=4)(2) == pytest.approx(0.05)
    piecewise = PiecewiseConstantDecay([3, 9], [0.1, 0.01, 0.001])
    assert [piecewise(step) for step in (0, 3, 4, 9, 10)] == [0.1, 0.1, 0.01, 0.01, 0.001]


@pytest.mark.parametrize("t_mul", [1.0, 1.25, 2.0, 3.0, 10.0])
def test_a_restart_is_at_its_step_exactly(t_mul):
    """A logarithm that is a hair below a whole number would give the end of the cosine before."""
    schedule, begin = CosineDecayRestarts(1.0, 64, t_mul), 0.0
    for restart in range(7):
        if begin == int(begin):
            assert schedule(int(begin)) == 1.0
            assert schedule(int(begin) - 1) < 0.01 or not restart
        begin += 64 * t_mul**restart


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExponentialDecay(0.1, 0, 0.5), "decay_steps must be more than 0, got 0"),
        (lambda: InverseTimeDecay(0.1, -1, 0.5), "decay_steps must be a number >= 0, got -1"),
        (lambda: PolynomialDecay("0.1", 5), "initial_learning_rate must be a number >= 0, got '0.1'"),
        (lambda: PolynomialDecay(0.1, 5, math.nan), "end_learning_rate must be a number >= 0"),
        (lambda: CosineDecay(0.1, 5, warmup_steps=3), "warmup_steps=3 has no effect without warmup_target"),
        (lambda: CosineDecayRestarts(0.1, 5, t_mul=0.5), r"t_mul must be at least 1, got 0\.5"),
        (lambda: PiecewiseConstantDecay([3], [0.1]), "one number more than boundaries, got 1 boundary and 1 value"),
        (lambda: PiecewiseConstantDecay(3, [0.1, 0.2]), "boundaries must be a list of numbers, got 3"),
        (lambda: PiecewiseConstantDecay([3, 3], [0.1, 0.2, 0.3]), r"boundaries must rise, got \[3, 3\]"),
        (lambda: schedules.get({"class_name": "Mine", "config": {}}), "the schedule must be one of Constant, .*'Mine'"),
        (lambda: schedules.get({"class_name": "CosineDecay"}), "config should be a dict of its arguments, got None"),
        (lambda: schedules.get({"class_name": "CosineDecay", "config": {"x": 1}}), "not the config of CosineDecay: "),
        (lambda: schedules.get("cosine"), "a schedule should be a function of the number of updates, got 'cosine'"),
        (lambda: schedules.serialize(lambda step: 0.1), "is not a schedule of pyroberta"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_fact_is_no_number():
    with pytest.raises(TypeError, match="staircase must be True or False, got 1"):
        ExponentialDecay(0.1, 10, 0.5, staircase=1)


def test_numbers_of_numpy_are_taken():
    schedule = PiecewiseConstantDecay(np.array([3]), np.array([0.5, 0.25], np.float32))
    assert json.loads(json.dumps(schedule.get_config()))["values"] == [0.5, 0.25]
    assert CosineDecay(np.float32(0.5), np.int64(10)) == CosineDecay(0.5, 10)


def test_a_schedule_of_ones_own():
    class Mine(LearningRateSchedule):
        def __init__(self, scale):
            self.scale = scale

        def __call__(self, step):
            return self.scale / (step + 1)

        def get_config(self):
            return {"scale": self.scale}

    assert Mine.from_config(Mine(0.5).get_config())(1) == 0.25
    assert optimizers.Adam(Mine(0.5)).rate_at(1) == 0.25
    with pytest.raises(NotImplementedError, match="has no __call__"):
        LearningRateSchedule()(0)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (lambda: 0.5, [0.5, 0.5]),
        (lambda step: 0.5 / (step + 1), [0.5, 0.25]),
        (lambda *a: 0.5 / (a[0] + 1), [0.5, 0.25]),
    ],
)
def test_a_rate_may_be_a_function_with_or_without_the_number_of_updates(rate, expected):
    optimizer = optimizers.Adam(rate)
    assert [optimizer.rate_at(step) for step in range(2)] == expected


def test_a_rate_that_can_not_be_computed_is_named():
    optimizer = optimizers.Adam(ExponentialDecay(0.1, 1e-300, 2.0))
    with pytest.raises(ValueError, match="the schedule returns no learning rate after 10 updates"):
        optimizer.rate_at(10)
    with pytest.raises(ValueError, match="the schedule's name must be one of constant"):
        schedules.from_config({"name": ["constant"]})


def test_they_are_found_where_keras_has_them():
    assert optimizers.schedules.ExponentialDecay is schedules.ExponentialDecay is ExponentialDecay
