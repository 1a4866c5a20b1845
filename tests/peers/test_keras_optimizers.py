"""Keras's claims about Adam, AdamW and optimizers in general."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from claims import apply, claim, classes, differs, features, one_array, small_classifier

from pyroberta import optimizers, schedules
from pyroberta.model.parameters import Arrays
from pyroberta.ops import REFERENCE
from pyroberta.optimizers import Adam, AdamW

ADAM = "keras/src/optimizers/adam_test.py::AdamTest"
ADAMW = "keras/src/optimizers/adamw_test.py::AdamWTest"
BASE = "keras/src/optimizers/optimizer_test.py::OptimizerTest"
both = pytest.mark.parametrize("kind", [Adam, AdamW])


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (Adam, {"learning_rate": 0.5, "beta_1": 0.5, "beta_2": 0.67, "epsilon": 1e-5, "amsgrad": True}),
        (AdamW, {"learning_rate": 0.5, "weight_decay": 0.008, "beta_1": 0.5, "beta_2": 0.67, "amsgrad": True}),
    ],
)
@claim(f"{ADAM}::test_config", f"{ADAMW}::test_config")
def test_an_optimizer_is_made_again_of_its_config(kind, arguments):
    optimizer = kind(**arguments)
    config = optimizer.get_config()
    assert {name: config[name] for name in arguments} == arguments
    again = kind.from_config(config)
    assert type(again) is kind
    assert again.get_config() == config


@claim(f"{ADAM}::test_single_step")
def test_a_step_of_adam():
    params = one_array([1.0, 2.0, 3.0, 4.0])
    apply(Adam(learning_rate=0.5), params, [1.0, 6.0, 7.0, 2.0])
    np.testing.assert_allclose(params["x"], [0.5, 1.5, 2.5, 3.5], rtol=1e-4, atol=1e-4)


@claim(f"{ADAMW}::test_single_step")
def test_a_step_of_adamw():
    params = one_array([1.0, 2.0, 3.0, 4.0])
    apply(AdamW(learning_rate=0.5), params, [1.0, 6.0, 7.0, 2.0])
    np.testing.assert_allclose(params["x"], [0.4980, 1.4960, 2.494, 3.492], rtol=1e-4, atol=1e-4)


@both
@claim(f"{ADAM}::test_weight_decay", f"{ADAMW}::test_weight_decay")
def test_a_weight_decays_by_rate_times_decay(kind):
    params = one_array(2.0)
    apply(kind(learning_rate=1.0, weight_decay=0.004), params, 0.0)
    assert params["x"] == pytest.approx(2.0 - 1.0 * 0.004 * 2.0, abs=1e-6)


@both
@pytest.mark.parametrize("argument", [{"var_names": ["exclude"]}, {"var_list": ["exclude"]}])
@claim(f"{ADAM}::test_weight_decay", f"{ADAMW}::test_weight_decay")
def test_what_is_excluded_does_not_decay(kind, argument):
    params = Arrays({"kernel": (), "exclude": ()}, "float32")
    for array in params.values():
        array[...] = 2.0
    optimizer = kind(learning_rate=1.0, weight_decay=0.004)
    optimizer.exclude_from_weight_decay(**argument)
    apply(optimizer, params, 0.0)
    assert float(params["exclude"]) == 2.0
    assert float(params["kernel"]) < 2.0


@claim(f"{ADAMW}::test_weight_decay_is_none")
def test_adamw_needs_a_decay():
    with pytest.raises((TypeError, ValueError), match="weight_decay"):
        AdamW(learning_rate=1.0, weight_decay=None)


@claim(f"{ADAM}::test_correctness_with_golden")
def test_amsgrad_equals_kerass_numbers():
    params, optimizer = one_array(np.ones(10)), Adam(amsgrad=True)
    apply(optimizer, params, np.full(10, 0.01))
    for expected in (0.999, 0.9982, 0.9974, 0.9965, 0.9955):
        np.testing.assert_allclose(params["x"], expected, rtol=5e-4, atol=5e-4)
        apply(optimizer, params, np.arange(0.1, 1.05, 0.1))


GOLDEN = [
    [0.4998, 0.4998, 0.4998, 0.4998, 0.4998, 0.4998, 0.4998, 0.4998, 0.4998, 0.4998],
    [0.2486, 0.2475, 0.2463, 0.2451, 0.2440, 0.2428, 0.2417, 0.2405, 0.2394, 0.2382],
    [0.1223, 0.1198, 0.1174, 0.1149, 0.1124, 0.1100, 0.1075, 0.1051, 0.1027, 0.1003],
    [0.0586, 0.0549, 0.0512, 0.0475, 0.0439, 0.0402, 0.0366, 0.0330, 0.0294, 0.0258],
    [0.0263, 0.0215, 0.0167, 0.0120, 0.0073, 0.0026, -0.0021, -0.0067, -0.0113, -0.0159],
]


@claim(f"{ADAMW}::test_correctness_with_golden")
def test_adamw_equals_kerass_numbers():
    params, optimizer = one_array(np.ones(10)), AdamW(learning_rate=1.0, weight_decay=0.5, epsilon=2.0)
    apply(optimizer, params, np.full(10, 0.01))
    for expected in GOLDEN:
        np.testing.assert_allclose(params["x"], expected, rtol=5e-4, atol=5e-4)
        apply(optimizer, params, np.arange(0.1, 1.05, 0.1))


CLIPS = [
    ("clipnorm", [100.0, 100.0], [2**0.5 / 2, 2**0.5 / 2]),
    ("clipvalue", [100.0, 100.0], [1.0, 1.0]),
    ("global_clipnorm", [50.0, 100.0], [50 / 12500**0.5, 100 / 12500**0.5]),
]


@both
@pytest.mark.parametrize(("argument", "gradient", "clipped"), CLIPS)
@claim(
    *(f"{file}::{test}" for file in (ADAM, ADAMW, BASE) for test in ("test_clip_norm", "test_clip_value")),
    f"{BASE}::test_global_clip_norm",
)
def test_a_gradient_is_clipped(kind, argument, gradient, clipped):
    """A second update tells one gradient from another of the same sign, which Adam's first does not."""
    one, other = (one_array([3.0, 4.0], dtype="float64") for _ in range(2))
    clipping, plain = kind(0.1, **{argument: 1.0}), kind(0.1)
    apply(clipping, one, gradient)
    apply(plain, other, clipped)
    apply(clipping, one, [0.1, -0.2])
    apply(plain, other, [0.1, -0.2])
    np.testing.assert_allclose(one["x"], other["x"], rtol=1e-12)


@both
@pytest.mark.parametrize("argument", ["clipnorm", "clipvalue", "global_clipnorm"])
@claim(f"{BASE}::test_clip_args")
def test_a_clip_is_an_attribute(kind, argument):
    assert getattr(kind(**{argument: 0.1}), argument) == 0.1


@pytest.mark.parametrize("second", ["clipvalue", "global_clipnorm"])
@claim(f"{BASE}::test_clip_args")
def test_there_is_one_clip_at_most(second):
    with pytest.raises(ValueError, match="clipnorm"):
        Adam(clipnorm=0.1, **{second: 0.1})


@both
@claim(f"{BASE}::test_iterations_counter")
def test_updates_are_counted(kind):
    optimizer, params = kind(learning_rate=1.0), one_array([[1.0, 2.0], [3.0, 4.0]])
    assert optimizer.iterations == 0
    for count in (1, 2):
        apply(optimizer, params, 1.0)
        assert optimizer.iterations == count


def averages(values, momentum=0.9):
    """Keras's moving average: the first value, then momentum·average + (1 - momentum)·value."""
    average = values[0]
    for value in values[1:]:
        average = momentum * average + (1 - momentum) * value
    return average


def fitted(steps, **arguments):
    """A classifier after so many steps, all on the same batch, and its kernel after each of them."""
    kernels = []
    from pyroberta.callbacks import LambdaCallback

    model = small_classifier(dtype="float64")
    model.compile(optimizer=Adam(0.1, **arguments))
    note = LambdaCallback(
        on_train_batch_end=lambda *_: kernels.append(model.backbone.params["head.dense.kernel"].copy())
    )
    model.fit(features(4), classes(4), batch_size=4, epochs=steps, callbacks=[note], verbose=0)
    return model, kernels


@claim(f"{ADAM}::test_ema")
def test_at_the_end_of_fit_the_weights_are_their_average():
    _, plain = fitted(4)
    model, seen = fitted(4, use_ema=True, ema_momentum=0.9)
    np.testing.assert_allclose(seen, plain, rtol=1e-12)  # training itself goes on from the weights
    np.testing.assert_allclose(model.backbone.params["head.dense.kernel"], averages(plain), rtol=1e-12)


@claim(f"{BASE}::test_ema_with_model_fit")
@pytest.mark.parametrize("steps", [1, 2])
def test_the_average_begins_with_the_first_updates_weights(steps):
    _, plain = fitted(steps)
    model, _ = fitted(steps, use_ema=True, ema_momentum=0.9)
    np.testing.assert_allclose(model.backbone.params["head.dense.kernel"], averages(plain), rtol=1e-12)


@claim(f"{ADAM}::test_ema_overwrite_frequency")
def test_the_average_takes_the_weights_place_every_so_many_updates():
    _, plain = fitted(2)
    _, seen = fitted(2, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=2)
    np.testing.assert_allclose(seen[0], plain[0], rtol=1e-12)
    np.testing.assert_allclose(seen[1], averages(plain), rtol=1e-12)


@claim(f"{BASE}::test_ema")
@pytest.mark.parametrize("momentum", [-0.1, 1.1])
def test_a_momentum_is_a_share(momentum):
    with pytest.raises(ValueError, match="ema_momentum"):
        Adam(use_ema=True, ema_momentum=momentum)


@pytest.mark.parametrize(("name", "kind"), [("adam", Adam), ("adamw", AdamW), ("Adam", Adam), ("AdamW", AdamW)])
@claim(f"{BASE}::test_get_method")
def test_an_optimizer_has_a_name(name, kind):
    assert type(optimizers.get(name)) is kind


@claim(f"{BASE}::test_get_method")
def test_no_optimizer_stays_none():
    assert optimizers.get(None) is None


@claim(f"{BASE}::test_get_method")
def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="typo"):
        optimizers.get("typo")


@pytest.mark.parametrize("name", ["adam", "adamw"])
@claim(f"{BASE}::test_gradient_accumulation_with_weigth_decay")
def test_an_optimizer_of_a_name_and_a_config(name):
    optimizer = optimizers.get({"class_name": name, "config": {"weight_decay": 0.05}})
    assert optimizer.weight_decay == 0.05


@pytest.mark.parametrize("name", ["adam", "adamw"])
@claim(f"{BASE}::test_gradient_accumulation_with_weigth_decay")
def test_accumulated_gradients_make_the_joint_batchs_update(name):
    models = [small_classifier(dtype="float64") for _ in range(2)]
    for model in models:
        model.compile(optimizer=optimizers.get({"class_name": name, "config": {"weight_decay": 0.05}}))
    x, y = features(6), classes(6)
    models[0].fit(x, y, batch_size=6, epochs=3, shuffle=False, verbose=0)
    models[1].fit(x, y, batch_size=2, epochs=3, shuffle=False, gradient_accumulation_steps=3, verbose=0)
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@claim(f"{BASE}::test_gradient_accumulation")
def test_an_accumulated_update_counts_once():
    model = small_classifier()
    model.fit(features(6), classes(6), batch_size=2, gradient_accumulation_steps=3, verbose=0)
    assert model.optimizer.iterations == 1


@both
@claim(f"{BASE}::test_set_weights")
def test_a_state_goes_over_to_another_optimizer(kind):
    params = one_array([[1.0, 2.0], [3.0, 4.0]])
    one, other = kind(), kind()
    apply(one, params, [[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(ValueError, match="build"):
        other.load_state_dict(one.state_dict())
    other.build(params)
    other.load_state_dict(one.state_dict())
    assert other.iterations == 1
    for name in one.slot_names:
        np.testing.assert_array_equal(one.slots[name]["x"], other.slots[name]["x"])


@both
@claim(f"{BASE}::test_callable_learning_rate")
def test_a_rate_may_be_a_function_without_arguments(kind):
    one, other = one_array([1.0, 2.0]), one_array([1.0, 2.0])
    optimizer = kind(learning_rate=lambda: 0.1)
    apply(optimizer, one, 1.0)
    apply(kind(learning_rate=0.1), other, 1.0)
    np.testing.assert_array_equal(one["x"], other["x"])
    assert optimizer.iterations == 1


@claim(f"{BASE}::test_setting_lr_to_callable_untracks_lr_var")
def test_a_number_may_become_a_schedule():
    optimizer = Adam(learning_rate=0.001)
    optimizer.learning_rate = schedules.PolynomialDecay(optimizer.learning_rate, 4)
    params = one_array([1.0])
    for _ in range(4):
        apply(optimizer, params, 1.0)
    assert optimizer.learning_rate == pytest.approx(0.0001)


@pytest.mark.parametrize("name", ["adam", "adamw"])
@claim(f"{BASE}::test_pickleable_optimizers")
def test_an_optimizer_is_pickled(name):
    optimizer = optimizers.get(name)
    assert pickle.loads(pickle.dumps(optimizer)).get_config() == optimizer.get_config()


@claim(f"{BASE}::test_optimizer_auto_naming")
@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_an_optimizer_may_be_given_a_name(kind):
    optimizer = kind(name="mine")
    assert optimizer.name == "mine"
    assert kind.from_config(optimizer.get_config()).name == "mine"


@claim(f"{BASE}::test_empty_gradients")
def test_a_model_without_trainable_parameters_is_refused():
    model = small_classifier()
    model.trainable = False
    with pytest.raises(ValueError, match="nothing to train"):
        model.fit(features(4), classes(4), verbose=0)


@claim(f"{BASE}::test_empty_gradients")
def test_what_is_frozen_stays():
    params = Arrays({"one": (2,), "other": (2,)}, "float32")
    grads = params.zeros_like()
    grads.flat[:] = 1.0
    Adam(1.0).apply(params, grads, ["one"], REFERENCE)
    assert (params["one"] != 0).all()
    assert (params["other"] == 0).all()


@differs(f"{BASE}::test_static_loss_scaling")
def test_a_loss_is_not_scaled():
    with pytest.raises((TypeError, ValueError), match="loss_scale_factor"):
        Adam(loss_scale_factor=1024.0)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", Adam, AdamW])
@claim(f"{ADAM}::test_correctness_with_golden")
def test_the_default_rate_is_kerass(optimizer):
    model = small_classifier()
    model.compile(optimizer if isinstance(optimizer, str) else optimizer())
    assert model.optimizer.learning_rate == 1e-3
