"""Optimizers with Keras's options: amsgrad, a moving average, names that do not decay, configs, Keras's objects."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from small_models import TEXTS, small_masked_lm

from pyroberta import MaskedLM, optimizers, schedules
from pyroberta.backends import backends, get_ops
from pyroberta.model.parameters import Arrays
from pyroberta.ops import REFERENCE
from pyroberta.optimizers import Adam, AdamW, TorchAdam, TorchAdamW
from pyroberta.training import checkpoint
from pyroberta.training.callbacks import LambdaCallback

LAYOUT = {"a.kernel": (3, 4), "a.bias": (4,), "b.kernel": (4, 2), "b.bias": (2,)}
OPTIONS = {"use_ema": True, "ema_momentum": 0.75, "ema_overwrite_frequency": 2}


def drawn(seed, dtype="float64"):
    params = Arrays(LAYOUT, dtype)
    params.flat[:] = np.random.default_rng(seed).standard_normal(params.flat.size)
    return params


def after(optimizer, steps=5, dtype="float64", ops=REFERENCE, trainable=None):
    """Parameters after so many updates with gradients that get smaller, so that the largest v is not the last."""
    params = drawn(0, dtype)
    for step in range(steps):
        grads = drawn(step + 1, dtype)
        grads.flat[:] *= 0.5**step
        optimizer.apply(params, grads, trainable or list(params), ops)
    return params


# --- amsgrad ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Adam, AdamW, TorchAdam, TorchAdamW])
def test_amsgrad_divides_by_the_largest_second_moment(make):
    optimizer = make(0.1, amsgrad=True, beta_2=0.5)
    found = after(optimizer)
    is_torch, decay = issubclass(make, TorchAdam), optimizer.weight_decay or 0.0
    w, m, v, largest = drawn(0).flat.copy(), 0.0, 0.0, 0.0
    decays = np.ones(w.size)
    for name, (start, stop) in found.ranges.items():
        decays[start:stop] = optimizer.decays(name)
    for t in range(1, 6):
        g = drawn(t).flat * 0.5 ** (t - 1)
        w = w - 0.1 * decay * decays * w
        m, v = 0.9 * m + 0.1 * g, 0.5 * v + 0.5 * g**2
        largest = np.maximum(largest, v)
        c_1, c_2 = 1 - 0.9**t, np.sqrt(1 - 0.5**t)
        epsilon = optimizer.epsilon * (c_2 if is_torch else 1.0)
        w = w - 0.1 * c_2 / c_1 * m / (np.sqrt(largest) + epsilon)
    np.testing.assert_allclose(found.flat, w, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(optimizer.slots["v_hat"].flat, largest, rtol=1e-12)
    assert (optimizer.slots["v_hat"].flat > optimizer.v.flat).any()


@pytest.mark.parametrize("backend", [name for name, is_available, _ in backends() if is_available])
def test_every_backend_steps_the_same(backend):
    found = after(Adam(0.1, amsgrad=True, clipnorm=1.0, **OPTIONS), dtype="float32", ops=get_ops(backend))
    exact = after(Adam(0.1, amsgrad=True, clipnorm=1.0, **OPTIONS))
    np.testing.assert_allclose(found.flat, exact.flat, rtol=2e-5, atol=2e-6)


def test_a_gradient_that_is_not_finite_changes_nothing():
    optimizer = Adam(0.1, amsgrad=True, **OPTIONS)
    params = after(optimizer, 3)
    before = [params.flat.copy(), *(slot.flat.copy() for slot in optimizer.slots.values())]
    grads = drawn(1)
    grads.flat[3] = np.inf
    with pytest.raises(FloatingPointError, match="not finite"), np.errstate(all="ignore"):
        optimizer.apply(params, grads, list(params), REFERENCE)
    now = [params.flat, *(slot.flat for slot in optimizer.slots.values())]
    assert all(np.array_equal(a, b) for a, b in zip(now, before, strict=True))


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("make", [TorchAdam, TorchAdamW])
def test_torch_steps_the_same(make, amsgrad):
    torch = pytest.importorskip("torch")
    kind = {TorchAdam: torch.optim.Adam, TorchAdamW: torch.optim.AdamW}[make]
    tensors = {name: torch.tensor(np.array(array)) for name, array in drawn(0).items()}
    theirs = kind(tensors.values(), lr=0.1, amsgrad=amsgrad)
    for step in range(5):
        for name, gradient in drawn(step + 1).items():
            tensors[name].grad = torch.tensor(gradient * 0.5**step)
        theirs.step()
    optimizer = make(0.1, amsgrad=amsgrad)
    optimizer.exclude_from_weight_decay()
    found = after(optimizer)
    for name, tensor in tensors.items():
        np.testing.assert_allclose(found[name], tensor.numpy(), rtol=1e-9)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own
@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"amsgrad": True},
        {"use_ema": True},
        {"amsgrad": True, **OPTIONS, "weight_decay": 0.1},
        {"clipnorm": 0.5, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3},
        {"global_clipnorm": 0.5},
        {"clipvalue": 0.1},
    ],
)
def test_keras_steps_the_same_and_its_optimizer_is_converted(keras, name, options):
    theirs = getattr(keras.optimizers, name)(0.125, **options)
    optimizer = optimizers.get(theirs)
    assert type(optimizer) is getattr(optimizers, name)
    variables = {key: keras.Variable(np.array(array), name=key, dtype="float64") for key, array in drawn(0).items()}
    for step in range(5):
        gradients = [np.array(gradient * 0.5**step) for gradient in drawn(step + 1).values()]
        theirs.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients], list(variables.values()))
    found = after(optimizer)
    exact = {"rtol": 2e-5 if "global_clipnorm" in options else 1e-6, "atol": 1e-9}  # Keras sums the norm in float32
    for key, variable in variables.items():
        np.testing.assert_allclose(found[key], keras.ops.convert_to_numpy(variable), **exact)
    theirs.finalize_variable_values(list(variables.values()))
    optimizer.finalize(found, optimizer.slots, list(found), REFERENCE)
    for key, variable in variables.items():
        np.testing.assert_allclose(found[key], keras.ops.convert_to_numpy(variable), **exact)
    ours, kept = optimizer.get_config(), theirs.get_config()
    assert {key: ours[key] for key in kept if key in ours and key != "name"} == {
        key: value for key, value in kept.items() if key in ours and key != "name"
    }


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own
def test_what_of_keras_can_not_be_converted_is_refused_with_the_line_to_write(keras):
    model = small_masked_lm()
    with pytest.raises(TypeError, match=r"keras\.optimizers\.SGD can't be converted.*optimizer=pyroberta\.optimizers"):
        model.compile(optimizer=keras.optimizers.SGD(0.1))
    with pytest.raises(ValueError, match=r"Adam has no gradient_accumulation_steps: it is an argument of fit"):
        model.compile(optimizer=keras.optimizers.Adam(gradient_accumulation_steps=2))
    with pytest.raises(ValueError, match="Adam has no loss_scale_factor: losses are not scaled"):
        model.compile(optimizer=keras.optimizers.Adam(loss_scale_factor=2.0))
    excluding = keras.optimizers.AdamW(0.1)
    excluding.exclude_from_weight_decay(var_names=["bias"])
    with pytest.raises(ValueError, match=r"names Keras's variables.*exclude_from_weight_decay\(var_names="):
        model.compile(optimizer=excluding)
    used = keras.optimizers.Adam(0.1)
    used.apply([keras.ops.ones((2,))], [keras.Variable(np.ones(2, np.float32))])
    with pytest.raises(ValueError, match="has made 1 update, so its state belongs to another model"):
        model.compile(optimizer=used)

    class Mine(keras.optimizers.Adam):
        pass

    with pytest.raises(TypeError, match="Mine, your own subclass of a class of Keras"):
        model.compile(optimizer=Mine())


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own
def test_rates_of_keras_optimizers_that_are_functions_stay(keras):
    decay = keras.optimizers.schedules.CosineDecay(0.1, 10)
    assert optimizers.get(keras.optimizers.Adam(decay)).learning_rate_as_set == schedules.CosineDecay(0.1, 10)
    assert optimizers.get(keras.optimizers.AdamW(lambda: 0.25)).learning_rate == 0.25


# --- the moving average -----------------------------------------------------------------------------------------------


def test_frozen_parameters_have_no_part_in_the_average():
    optimizer = Adam(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=1)
    start = drawn(0)
    params = after(optimizer, 3, trainable=["a.kernel"])
    for name in ("a.bias", "b.kernel", "b.bias"):
        assert (params[name] == start[name]).all()
    optimizer.apply(params, drawn(9), ["b.bias"], REFERENCE)  # thawed: its average begins with its value, not with 0
    assert np.abs(optimizer.slots["average"]["b.bias"] - start["b.bias"]).max() <= 0.1


def test_a_fit_ends_with_the_average_before_its_last_hook():
    seen, ends = [], []

    def fit(**options):
        model = small_masked_lm()
        model.compile(optimizer=Adam(1e-2, **options))
        note = LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append(model.backbone.params.flat.copy()),
            on_train_end=lambda logs: ends.append(model.backbone.params.flat.copy()),
        )
        model.fit(TEXTS, batch_size=6, epochs=3, verbose=0, callbacks=[note])
        return model.backbone.params.flat.copy()

    plain, averaged = fit(), fit(use_ema=True, ema_momentum=0.75)
    assert all((one == other).all() for one, other in zip(seen[:3], seen[3:], strict=True))
    assert (plain == seen[2]).all()
    expected = seen[0]
    for values in seen[1:3]:
        expected = 0.75 * expected + 0.25 * values
    np.testing.assert_allclose(averaged, expected, rtol=1e-12, atol=1e-15)
    assert (ends[1] == averaged).all()


def test_options_that_need_a_slot_stay_after_the_first_update():
    optimizer = Adam(0.1)
    optimizer.amsgrad = True
    assert optimizer.slot_names == ("m", "v", "v_hat")
    after(optimizer)
    with pytest.raises(
        AttributeError, match="amsgrad can't be set after the first update, since it needs the slot 'v_hat'"
    ):
        optimizer.amsgrad = False
    optimizer.amsgrad = True
    optimizer.beta_1 = 0.5
    assert Adam.slot_names == ("m", "v")
    assert copy.deepcopy(optimizer).slot_names == ("m", "v", "v_hat")


@pytest.mark.parametrize("format", ["checkpoint", "preset"])
def test_training_goes_on_bit_for_bit_with_the_new_slots(tmp_path, format):
    def model():
        lm = small_masked_lm(dtype="float32", dropout=0.1)
        lm.compile(optimizer=AdamW(schedules.CosineDecay(1e-2, 9), amsgrad=True, **OPTIONS))
        return lm

    straight, first, second = model(), model(), model()
    options = {"batch_size": 2, "verbose": 0}
    kept = []

    def keep(epoch, logs):
        if epoch == 1:
            kept.append(1)
            if format == "checkpoint":
                checkpoint.save(tmp_path / "state", first.train_state())
            else:
                first.save_to_preset(tmp_path / "preset", include_optimizer=True)

    straight.fit(TEXTS, epochs=4, **options)
    note = LambdaCallback(on_epoch_end=keep)
    first.fit(TEXTS, epochs=2, callbacks=note, **options)
    assert kept
    if format == "checkpoint":
        second.load_train_state(checkpoint.load(tmp_path / "state")[0])
        second.fit(TEXTS, epochs=4, callbacks=note, **options)
    else:
        second = type(second).from_preset(tmp_path / "preset", load_optimizer=True)
        assert second.optimizer.get_config() == first.optimizer.get_config()
        second.fit(TEXTS, epochs=4, initial_epoch=2, **options)
    assert second.backbone.params.flat.tobytes() == straight.backbone.params.flat.tobytes()
    for name, slot in straight.optimizer.slots.items():
        assert second.optimizer.slots[name].flat.tobytes() == slot.flat.tobytes(), name


def test_kerashubs_format_has_no_place_for_the_new_slots(tmp_path):
    pytest.importorskip("h5py")
    lm = small_masked_lm(dtype="float32")
    lm.compile(optimizer=Adam(1e-2, amsgrad=True))
    lm.fit(TEXTS, verbose=0)
    with pytest.raises(ValueError, match="slots v_hat"):
        lm.save_to_preset(tmp_path / "preset", format="keras", include_optimizer=True)
    assert not (tmp_path / "preset").exists()


# --- decay ------------------------------------------------------------------------------------------------------------


def test_whole_names_and_patterns_of_parameters_that_do_not_decay():
    optimizer = AdamW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=["a.kernel"], var_names=["bias$"])
    params, start = Arrays(LAYOUT, "float64"), drawn(0)
    params.flat[:] = start.flat
    optimizer.apply(params, params.zeros_like(), list(params), REFERENCE)
    assert [name for name in params if (params[name] == start[name]).all()] == ["a.kernel", "a.bias", "b.bias"]
    optimizer.exclude_from_weight_decay("b.kernel")
    assert not optimizer.decays("b.kernel")
    assert optimizer.decays("a.bias")
    optimizer.exclude_from_weight_decay()
    assert all(map(optimizer.decays, LAYOUT))


def test_names_that_no_parameter_has_are_refused():
    optimizer = AdamW(0.1)
    optimizer.exclude_from_weight_decay(["kernel"])  # a whole name is meant
    with pytest.raises(ValueError, match="no parameter is named 'kernel'; names look like"):
        optimizer.build(drawn(0))
    optimizer.exclude_from_weight_decay(["layers.9.norm-2"])  # without the backslashes of a pattern
    with pytest.raises(ValueError, match=r"no parameter is named 'layers\.9\.norm-2'; names look like"):
        optimizer.build(drawn(0))
    with pytest.raises(TypeError, match=r"be names of parameters, as in backbone\.params \(or the arrays there\)"):
        optimizer.exclude_from_weight_decay(var_list=[3])
    with pytest.raises(TypeError, match=r"var_names .* be names of parameters, as in backbone\.params; got an ndarray"):
        optimizer.exclude_from_weight_decay(var_names=[np.zeros(3)])
    for given in ({"var_names": b"x"}, {"var_list": b"x"}, {"var_names": [b"x"]}):
        with pytest.raises(TypeError, match=r"got a bytes$"):
            optimizer.exclude_from_weight_decay(**given)


def excluded(model):
    """The parameters of a model that do not decay."""
    return [name for name in model.params if not model.optimizer.decays(name)]


@pytest.mark.parametrize("moment", ["before compile", "after compile", "after the first update"])
def test_arrays_stand_for_the_parameters_whose_memory_they_are(moment):
    model, optimizer = small_masked_lm(), AdamW(0.1, weight_decay=0.5)
    params, norm = model.backbone.params, "layers.0.attention.norm.gamma"
    arrays = [model.backbone.token_embedding.embeddings, params["layers.1.attention.output.kernel"].T, params[norm]]
    names = ["embeddings.token", norm, "layers.1.attention.output.kernel", "head.bias"]
    if moment == "before compile":
        optimizer.exclude_from_weight_decay(var_list=[*arrays, "head.bias"])
    model.compile(optimizer)
    if moment == "after the first update":
        model.train_on_batch(["The quick brown fox."])
    if moment != "before compile":
        optimizer.exclude_from_weight_decay(var_list=[*arrays, "head.bias"])
        assert sorted(excluded(model)) == sorted(names)  # at once
    model.train_on_batch(["The quick brown fox."])
    assert sorted(excluded(model)) == sorted(names)
    saved = AdamW.from_config(optimizer.get_config())
    assert [name for name in params if not saved.decays(name)] == excluded(model)
    optimizer.exclude_from_weight_decay(model.weights)
    assert excluded(model) == list(params)
    optimizer.exclude_from_weight_decay(params[norm])  # one array, as one name
    assert excluded(model) == [norm]


def test_a_compiled_optimizer_keeps_its_arrays_names_in_a_copy():
    model, optimizer = small_masked_lm(), AdamW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay([model.weights[0]])
    with pytest.raises(ValueError, match=r"arrays, whose names are known from compile\(\) on"):
        optimizer.get_config()
    model.compile(optimizer)
    other = copy.deepcopy(model)
    other.train_on_batch(["The quick brown fox."])
    assert excluded(other) == excluded(model) == [next(iter(model.params))]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (lambda model: model.get_weights()[0], r"shape \(\d+, 8\) in var_list is no parameter .* 'embeddings.token'"),
        (lambda model: model.weights[0][:5], r"no parameter of this model, though it may be a copy or a part of one"),
        (lambda model: small_masked_lm().weights[0], "names of this shape are 'embeddings.token'"),
        (lambda model: np.zeros((3, 1, 4)), "names look like 'embeddings.token'"),
    ],
    ids=["a copy", "a part", "another model's", "none"],
)
def test_an_array_that_is_no_parameter_is_refused_with_the_names_to_write(array, message):
    model, optimizer = small_masked_lm(), AdamW(0.1)
    optimizer.exclude_from_weight_decay([array(model)])
    with pytest.raises(ValueError, match=message):
        model.compile(optimizer)
    optimizer.exclude_from_weight_decay()
    model.compile(optimizer)
    with pytest.raises(ValueError, match=message):
        optimizer.exclude_from_weight_decay([array(model)])
    model.train_on_batch(["The quick brown fox."])
    with pytest.raises(ValueError, match=message):
        optimizer.exclude_from_weight_decay([array(model)])


def assigned(model, path):
    model.optimizer = AdamW(0.1, weight_decay=0.5)
    return model


def loaded(model, path):
    model.train_on_batch(["The quick brown fox."])
    model.save_to_preset(path, include_optimizer=True)
    return MaskedLM.from_preset(path, load_optimizer=True)


@pytest.mark.parametrize(
    "changed",
    [
        lambda model, path: model,
        lambda model, path: copy.deepcopy(model),
        lambda model, path: pickle.loads(pickle.dumps(model)),
        assigned,
        loaded,
    ],
    ids=["compiled", "copied", "pickled", "assigned", "loaded"],
)
def test_an_optimizer_knows_the_arrays_of_its_model_however_it_came_to_it(changed, tmp_path):
    model = small_masked_lm(dtype="float32")
    model.compile(AdamW(0.1, weight_decay=0.5))
    model = changed(model, tmp_path / "preset")
    array = model.backbone.token_embedding.embeddings
    model.optimizer.exclude_from_weight_decay([array])
    assert excluded(model) == ["embeddings.token"]
    assert model.optimizer.get_config()["exclude_from_weight_decay"] == [r"^embeddings\.token$"]


def test_an_optimizer_of_two_models_knows_the_arrays_of_the_one_that_was_compiled_last():
    first, second, optimizer = small_masked_lm(), small_masked_lm(), AdamW(0.1, weight_decay=0.5)
    first.compile(optimizer)
    second.compile(optimizer)
    optimizer.exclude_from_weight_decay([second.weights[0]])
    with pytest.raises(ValueError, match="no parameter of this model"):
        optimizer.exclude_from_weight_decay([first.weights[0]])
    first.train_on_batch(["The quick brown fox."])
    optimizer.exclude_from_weight_decay([first.weights[0]])


def test_arrays_for_an_optimizer_that_was_built_without_a_model_need_names():
    optimizer, params = AdamW(0.1), drawn(0)
    optimizer.exclude_from_weight_decay([params["a.bias"]])
    optimizer.build(params)
    assert not optimizer.decays("a.bias")
    with pytest.raises(ValueError, match=r"the model of the arrays in var_list is not known.* Pass names, such as 'a"):
        optimizer.exclude_from_weight_decay([params["a.bias"]])
    assert not optimizer.decays("a.bias")


@pytest.mark.parametrize("wrong", ["nope", "(", 3], ids=["no name", "no expression", "no text"])
def test_refused_exclusions_leave_those_before(wrong):
    optimizer, params = AdamW(0.1, weight_decay=0.5), drawn(0)
    optimizer.exclude_from_weight_decay(var_names=["bias$"])
    optimizer.build(params)
    with pytest.raises((ValueError, TypeError)):
        optimizer.exclude_from_weight_decay(var_names=["kernel", wrong])
    assert optimizer.get_saved_config()["exclude_from_weight_decay"] == ["a.bias", "b.bias"]


def test_a_refused_build_leaves_the_arrays_for_the_next_model():
    optimizer, first, second = AdamW(0.1), drawn(0), drawn(1)
    optimizer.exclude_from_weight_decay([first["a.bias"]], var_names=["nope"])
    with pytest.raises(ValueError, match="no parameter's name matches 'nope'"):
        optimizer.build(first)
    with pytest.raises(ValueError, match="is no parameter of this model"):
        optimizer.build(second)  # the arrays are still those of the first


def test_a_refused_compile_leaves_the_optimizer_to_its_model():
    model, other = small_masked_lm(), small_masked_lm(num_layers=1)
    optimizer = AdamW(0.1, weight_decay=0.5)
    model.compile(optimizer)
    model.train_on_batch(["The quick brown fox."])
    optimizer.exclude_from_weight_decay(var_names=[r"layers\.1\."])
    with pytest.raises(ValueError, match="no parameter's name matches"):
        other.compile(optimizer)
    optimizer.exclude_from_weight_decay([model.weights[0]])  # found in the model that it still trains
    assert excluded(model) == [next(iter(model.params))]


def test_a_state_with_a_slot_that_is_no_number_changes_nothing():
    optimizer, params = AdamW(0.1), drawn(0)
    optimizer.build(params)
    state = {"iterations": 3, **{slot: {name: np.ones(LAYOUT[name]) for name in LAYOUT} for slot in optimizer.slots}}
    state["v"]["b.bias"] = np.array(["one", "two"])
    with pytest.raises(ValueError, match=r"v\['b.bias'\] should be real numbers, got <U3"):
        optimizer.load_state_dict(state)
    assert not any(slot.flat.any() for slot in optimizer.slots.values())


# --- configs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Adam, AdamW, TorchAdam, TorchAdamW])
def test_a_config_holds_everything(make):
    optimizer = make(schedules.ExponentialDecay(0.1, 5, 0.5), amsgrad=True, name="mine", clipnorm=1.0, **OPTIONS)
    config = json.loads(json.dumps(optimizer.get_config()))
    again = make.from_config(config)
    assert again.get_config() == optimizer.get_config()
    assert (again.name, again.amsgrad, again.use_ema) == ("mine", True, True)
    written = json.loads(json.dumps(optimizers.serialize(optimizer)))
    assert optimizers.get(written).get_config() == optimizers.deserialize(written).get_config() == config
    assert optimizers.get({"class_name": make.__name__.lower(), "config": {}}).get_config() == make().get_config()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.get({"class_name": "SGD", "config": {}}), "optimizer must be one of adam, .* got 'SGD'"),
        (lambda: optimizers.get({"class_name": "Adam"}), "config should be a dict, got None"),
        (lambda: Adam.from_config({"momentum": 0.9}), "Adam has no argument 'momentum'"),
        (lambda: Adam.from_config({"loss_scale_factor": 2.0}), "Adam has no loss_scale_factor: losses are not scaled"),
        (lambda: Adam(gradient_accumulation_steps=2), r"=2\) would have no effect: it is an argument of fit"),
        (lambda: Adam(ema_overwrite_frequency=0), "ema_overwrite_frequency must be a whole number of at least 1"),
        (lambda: Adam(ema_momentum=1.5), "ema_momentum must be a number from 0 to 1, got 1.5"),
        (
            lambda: Adam(ema_momentum=0.9),
            r"ema_momentum=0.9 would have no effect without use_ema=True: pass use_ema=True too",
        ),
        (lambda: AdamW(ema_overwrite_frequency=3), r"ema_overwrite_frequency=3 would have no effect without use_ema"),
        (lambda: Adam.from_config({"ema_momentum": 0.5}), r"ema_momentum=0.5 would have no effect without use_ema"),
        (lambda: setattr(Adam(), "ema_momentum", 0.9), r"ema_momentum=0.9 would have no effect without use_ema"),
        (
            lambda: setattr(Adam(use_ema=True, ema_momentum=0.9), "use_ema", False),
            r"ema_momentum=0.9 would have no effect without use_ema=True: set ema_momentum to 0.99 first",
        ),
    ],
)
def test_configs_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_config_of_keras_has_the_averages_defaults():
    written = {"use_ema": False, "ema_momentum": 0.99, "ema_overwrite_frequency": None, "learning_rate": 0.5}
    assert Adam.from_config(written).get_config() == Adam(0.5).get_config()
    used = {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 3}
    assert AdamW.from_config(used).get_config() == AdamW(**used).get_config()


def test_the_rate_is_set_as_keras_variable_is():
    """In a callback, as Keras's users write it; the update after it is made with the rate."""
    models = [small_masked_lm(), small_masked_lm()]
    for model, way in zip(models, ("assign", "set"), strict=True):

        def change(step, logs, model=model, way=way):
            rate = model.optimizer.learning_rate
            assert (float(rate), rate.numpy()) == (rate, rate)
            if way == "assign":
                assert rate.assign(rate * 0.5) == model.optimizer.learning_rate == rate * 0.5
            else:
                model.optimizer.learning_rate = rate * 0.5

        model.fit(TEXTS, batch_size=2, verbose=0, callbacks=LambdaCallback(on_train_batch_end=change))
    assert models[0].optimizer.learning_rate == 1e-2 * 0.5**3
    np.testing.assert_array_equal(models[0].params.flat, models[1].params.flat)
    models[0].optimizer.learning_rate.assign(schedules.Linear(0.25, 10))
    assert callable(models[0].optimizer.learning_rate_as_set)
    with pytest.raises(ValueError, match="learning_rate must be a number >= 0 or a schedule, got 'fast'"):
        models[0].optimizer.learning_rate.assign("fast")


def test_a_rate_that_is_copied_or_written_is_a_number():
    optimizer = Adam(0.5)
    rate = optimizer.learning_rate
    for copied in (copy.copy(rate), copy.deepcopy({"a": [rate]})["a"][0], pickle.loads(pickle.dumps(rate)), rate * 1):
        assert type(copied) is float
        assert copied == 0.5
    assert (repr(rate), f"{rate:g}", json.dumps({"rate": rate})) == ("0.5", "0.5", '{"rate": 0.5}')
    assert type(Adam(rate).learning_rate_as_set) is float


@pytest.mark.parametrize("name", ["value", "assign_sub", "shape"])
def test_what_a_rate_is_not_is_an_error_that_says_what_to_write(name):
    with pytest.raises(AttributeError, match=rf"has no '{name}': optimizer.learning_rate = 1e-4 sets it"):
        getattr(Adam().learning_rate, name)


@pytest.mark.parametrize("config", [{}, None, [("name", "adam")], {"learning_rate": 0.1}])
def test_a_config_without_a_class_is_refused(config):
    with pytest.raises(ValueError, match="config should be a dict with class_name and config"):
        optimizers.from_config(config)


def test_a_pattern_that_is_none_is_refused_at_once():
    with pytest.raises(ValueError, match=r"'\(' is not a regular expression: missing \)"):
        AdamW().exclude_from_weight_decay(var_names=["("])


def test_a_count_that_is_set_before_the_first_update_stays():
    model = small_masked_lm()
    model.compile(Adam(schedules.Linear(1e-3, 100, warmup_steps=10)))
    model.optimizer.iterations = 5
    rate = model.optimizer.learning_rate
    model.fit(TEXTS, batch_size=3, verbose=0)
    assert model.optimizer.iterations == 7
    assert rate < model.optimizer.learning_rate
    model.compile(model.optimizer)
    assert model.optimizer.iterations == 0


def test_a_state_of_the_average_after_a_stop_is_told():
    model = small_masked_lm()
    model.compile(Adam(1e-2, use_ema=True))
    states = []

    def stop(batch, logs):
        states.append(model.train_state())  # the parameters themselves
        model.stop_training = True

    model.fit(TEXTS, batch_size=2, verbose=0, callbacks=LambdaCallback(on_train_batch_end=stop))
    assert len(states) == 1
    with pytest.warns(UserWarning, match=r"ended with the optimizer's moving average as the parameters \(use_ema\)"):
        model.train_state()
    model.compile(Adam(1e-2))
    model.fit(TEXTS, batch_size=2, verbose=0, callbacks=LambdaCallback(on_train_batch_end=stop))
    model.train_state()


def test_variables_are_copies_in_keras_order():
    optimizer = Adam(0.5)
    assert not optimizer.built
    assert [variable.tolist() for variable in optimizer.variables] == [0, 0.5]
    after(optimizer)
    assert optimizer.built
    shapes = [variable.shape for variable in optimizer.variables]
    assert shapes == [(), (), *(shape for shape in LAYOUT.values() for _ in "mv")]
    optimizer.variables[2][:] = 9.0
    assert optimizer.m["a.kernel"].max() < 9.0


def test_none_stays_none():
    assert optimizers.get(None) is None
