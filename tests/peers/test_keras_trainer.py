"""Keras's claims about compile, fit, evaluate, predict and the methods on one batch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from claims import claim, classes, differs, features, small_classifier
from small_models import TEXTS, small_masked_lm

from pyroberta import losses, metrics, optimizers
from pyroberta.callbacks import Callback, LambdaCallback

FILE = "keras/src/trainers/trainer_test.py::TestTrainer"
EPOCHS = "keras/src/trainers/epoch_iterator_test.py::TestEpochIterator"


class Counted(Callback):
    """Counts of the hooks, and the number of each batch that began."""

    def __init__(self):
        super().__init__()
        self.begun, self.ended, self.epochs, self.epochs_ended, self.losses = [], [], 0, 0, []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs += 1

    def on_epoch_end(self, epoch, logs=None):
        self.epochs_ended += 1

    def on_train_batch_begin(self, batch, logs=None):
        self.begun.append(batch)

    def on_train_batch_end(self, batch, logs=None):
        self.ended.append(batch)
        self.losses.append(logs["loss"])


def batches(count, size=2):
    return ((features(size, seed=i), classes(size, seed=i)) for i in range(count))


# ------------------------------------------------------------------------------------------------------------- compile


@claim(f"{FILE}::test_metric_tracking")
@pytest.mark.parametrize(
    "arguments", [{"metrics": ["accuracy"]}, {"weighted_metrics": [metrics.SparseCategoricalAccuracy()]}]
)
def test_a_models_metrics_are_the_loss_and_the_compiled_ones(arguments):
    model = small_classifier()
    model.compile(optimizer=optimizers.Adam(), loss=losses.SparseCategoricalCrossentropy(from_logits=True), **arguments)
    model.fit(features(4), classes(4), batch_size=2, sample_weight=np.ones(4), verbose=0)
    assert len(model.metrics) == 2
    assert model.metrics_names[0] == "loss"
    assert [metric.name for metric in model.metrics] == model.metrics_names


@claim(f"{FILE}::test_nested_trainer_metrics_without_compile", f"{FILE}::test_multiple_compiles")
def test_models_that_share_a_backbone_have_metrics_of_their_own():
    one = small_classifier()
    other = type(one)(one.backbone, num_classes=3)
    one.compile(metrics=["accuracy"])
    other.compile(metrics=["accuracy", "sparse_categorical_accuracy"])
    assert one.metrics_names == ["loss", "accuracy"]
    assert other.metrics_names == ["loss", "accuracy", "sparse_categorical_accuracy"]


@claim(f"{FILE}::test_recompile")
def test_compiling_again_changes_what_is_logged():
    model, x, y = small_classifier(), features(3), classes(3)
    for name in ("accuracy", "sparse_categorical_accuracy"):
        model.compile(metrics=[name])
        assert set(model.fit(x, y, verbose=0).history) == {"loss", name}
        assert set(model.evaluate(x, y, verbose=0, return_dict=True)) == {"loss", name}


@claim(f"{FILE}::test_evaluate_return_list_respect_metrics_order")
@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_evaluate_returns_the_metrics_in_their_order(order):
    def metrics_zero(y_true, y_pred):
        return 0.0

    def metrics_one(y_true, y_pred):
        return 1.0

    model = small_classifier()
    model.compile(metrics=[[metrics_zero, metrics_one][i] for i in order])
    found = model.evaluate(features(3), classes(3), verbose=0)
    assert len(found) == 3
    assert found[1:] == [float(i) for i in order]


@claim(f"{FILE}::test_compile_eager_vs_jit_torch")
@pytest.mark.parametrize("jit_compile", ["auto", True, False])
def test_jit_compile_changes_nothing(jit_compile):
    found = []
    for given in ("auto", jit_compile):
        model = small_classifier()
        model.compile(jit_compile=given)
        found.append(model.fit(features(4), classes(4), verbose=0).history)
    assert found[0] == found[1]


@claim(f"{FILE}::test_steps_per_execution_steps_count")
@pytest.mark.parametrize(
    "arguments",
    [{"run_eagerly": False}, {"steps_per_execution": 1}, {"auto_scale_loss": True}, {"loss_weights": None}],
)
def test_compile_takes_kerass_defaults(arguments):
    model = small_classifier()
    model.compile(optimizer="adam", **arguments)
    assert model.fit(features(4), classes(4), verbose=0).history["loss"]


@differs(f"{FILE}::test_steps_per_execution_steps_count")
def test_one_step_is_taken_at_a_time():
    with pytest.raises((TypeError, ValueError), match="steps_per_execution"):
        small_classifier().compile(steps_per_execution=3)


@differs(f"{FILE}::test_loss_weights")
def test_one_loss_has_no_weight_of_its_own():
    with pytest.raises((TypeError, ValueError), match="loss_weights"):
        small_classifier().compile(loss_weights=0.2)


# ----------------------------------------------------------------------------------------------------------------- fit


@claim(f"{FILE}::test_fit_flow")
@pytest.mark.parametrize("steps", [None, 5])
def test_fit_returns_the_loss_and_the_metrics_of_every_epoch(steps):
    model = small_classifier()
    model.compile(optimizer=optimizers.Adam(0.05), metrics=["accuracy"])
    history = model.fit(features(20), classes(20), batch_size=4, steps_per_epoch=steps, epochs=3, verbose=0).history
    assert set(history) == {"loss", "accuracy"}
    assert [len(values) for values in history.values()] == [3, 3]
    assert history["loss"][2] < history["loss"][0]


@claim(f"{FILE}::test_fit_flow", f"{EPOCHS}::test_insufficient_data")
def test_an_epoch_ends_early_with_a_warning_where_the_data_do():
    model, counted = small_classifier(), Counted()
    with pytest.warns(UserWarning, match=r"(?i)ran out|run out|epoch"):
        model.fit(features(20), classes(20), batch_size=4, steps_per_epoch=7, epochs=3, callbacks=[counted], verbose=0)
    assert (len(counted.begun), counted.epochs, counted.epochs_ended) == (15, 3, 3)


DATA = {
    "arrays": lambda: (features(10), classes(10), {"batch_size": 5}),
    "lists": lambda: ({name: array.tolist() for name, array in features(10).items()}, classes(10).tolist(), {}),
    "a generator": lambda: (batches(6), None, {}),
    "a generator without end": lambda: (itertools.cycle(batches(4)), None, {"steps_per_epoch": 4}),
    "a list of batches": lambda: (iter(list(batches(3))), None, {}),
    "class weights": lambda: (features(10), classes(10, 2), {"class_weight": {0: 1, 1: 2, 2: 1}}),
    "texts": lambda: (TEXTS, [0, 1, 0, 1, 0, 1], {}),
    "an array of texts": lambda: (np.array(TEXTS), np.array([0, 1, 0, 1, 0, 1]), {}),
    "an iterator of texts": lambda: (iter(TEXTS), [0, 1, 0, 1, 0, 1], {}),
}


@claim(f"{FILE}::test_fit_with_data_adapter", f"{EPOCHS}::test_basic_flow", f"{EPOCHS}::test_python_generator_input")
@pytest.mark.parametrize("kind", DATA)
def test_fit_reads(kind):
    x, y, options = DATA[kind]()
    model = small_classifier()
    if "text" in kind:
        model = text_classifier()
    history = model.fit(x, y, epochs=1, verbose=0, **options)
    assert np.isfinite(history.history["loss"]).all()


def text_classifier():
    masked_lm = small_masked_lm(dtype="float32")
    from pyroberta import TextClassifier, TextClassifierPreprocessor

    preprocessor = TextClassifierPreprocessor(masked_lm.preprocessor.tokenizer, sequence_length=40)
    return TextClassifier(masked_lm.backbone, num_classes=2, preprocessor=preprocessor)


@pytest.mark.parity
@claim(f"{FILE}::test_fit_with_data_adapter", f"{EPOCHS}::test_torch_dataloader")
@pytest.mark.parametrize("kind", ["texts", "texts by a stream", "features"])
def test_fit_reads_torchs_data_loader(kind):
    torch = pytest.importorskip("torch")
    if kind.startswith("texts"):
        model, data = text_classifier(), list(zip(TEXTS, [0, 1, 0, 1, 0, 1], strict=True))
        expected = text_classifier().fit(TEXTS, [0, 1, 0, 1, 0, 1], batch_size=2, shuffle=False, verbose=0)
    else:
        model, some, labels = small_classifier(), features(6), classes(6)
        rows = [{name: torch.tensor(array[i]) for name, array in some.items()} for i in range(6)]
        data = list(zip(rows, labels.tolist(), strict=True))
        expected = small_classifier().fit(some, labels, batch_size=2, shuffle=False, verbose=0)
    if kind == "texts by a stream":
        rows = data

        class Stream(torch.utils.data.IterableDataset):
            def __iter__(self):
                return iter(rows)

        data = Stream()
    history = model.fit(torch.utils.data.DataLoader(data, batch_size=2), verbose=0)
    assert history.history["loss"] == pytest.approx(expected.history["loss"], rel=1e-5)


@claim(f"{FILE}::test_fit_with_val_split")
@pytest.mark.parametrize("steps", [None, 4])
def test_a_share_is_evaluated_after_every_epoch(steps):
    model = small_classifier()
    options = {"batch_size": 4, "epochs": 3, "steps_per_epoch": steps, "validation_split": 0.2}
    history = model.fit(features(20), classes(20), verbose=0, **options).history
    assert {"loss", "val_loss"} <= set(history)
    assert len(history["val_loss"]) == 3


@claim(f"{FILE}::test_steps_per_epoch")
@pytest.mark.parametrize(("steps", "epochs"), [(10, 4), (5, 4)])
def test_shorter_epochs_make_the_same_updates(steps, epochs):
    x, y = features(80), classes(80)
    found = []
    for options in ({"steps_per_epoch": steps, "epochs": epochs}, {"epochs": epochs * steps // 10}):
        model, counted = small_classifier(), Counted()
        model.fit(x, y, batch_size=8, shuffle=False, callbacks=[counted], verbose=0, **options)
        assert len(counted.begun) == len(counted.ended) == epochs * steps
        assert counted.epochs == counted.epochs_ended == options["epochs"]
        found.append(model.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@claim(f"{FILE}::test_steps_per_epoch")
def test_steps_beyond_the_data_make_the_epochs_of_the_data():
    found = []
    for options in ({"steps_per_epoch": 11}, {}):
        model = small_classifier()
        if options:
            with pytest.warns(UserWarning, match=r"(?i)ran out|run out|epoch"):
                model.fit(features(80), classes(80), batch_size=8, epochs=4, shuffle=False, verbose=0, **options)
        else:
            model.fit(features(80), classes(80), batch_size=8, epochs=4, shuffle=False, verbose=0)
        found.append(model.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@differs(f"{FILE}::test_max_epochs_and_steps")
def test_there_is_no_global_limit_of_epochs():
    import pyroberta

    assert not hasattr(pyroberta, "config")


@claim(f"{FILE}::test_fit_with_different_batch_size_same_loss")
def test_the_loss_of_an_epoch_is_that_of_its_examples():
    model, x, y = small_classifier(), features(20), classes(20)
    model.compile(optimizer=optimizers.Adam(0.0))
    found = [model.fit(x, y, batch_size=size, verbose=0).history["loss"][0] for size in (8, 20)]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@claim(f"{FILE}::test_evaluate_with_different_batch_size_same_loss")
def test_the_loss_of_evaluate_is_that_of_its_examples():
    model, x, y = small_classifier(), features(20), classes(20)
    found = [model.evaluate(x, y, batch_size=size, verbose=0) for size in (8, 20)]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@claim(f"{FILE}::test_training_arg", f"{FILE}::test_predict_dropout")
def test_dropout_is_for_training_alone():
    model = small_classifier(dropout=0.5)
    model.compile(optimizer=optimizers.Adam(0.0))
    x, y = features(20), classes(20)
    first, second = (model.fit(x, y, verbose=0, shuffle=False).history["loss"] for _ in range(2))
    evaluated = [model.evaluate(x, y, verbose=0)[0] for _ in range(2)]
    assert evaluated[0] == evaluated[1] != first[0]
    np.testing.assert_array_equal(model.predict(x, verbose=0), model.predict(x, verbose=0))
    assert first != second  # each pass over the data drops others


@claim(f"{FILE}::test_validation_data_infinite_generator")
def test_endless_data_are_read_for_so_many_steps():
    model, counts = small_classifier(), {"train": 0, "test": 0}

    def count(which):
        return lambda *_: counts.update({which: counts[which] + 1})

    model.fit(
        itertools.cycle(batches(2)),
        validation_data=itertools.cycle(batches(2)),
        steps_per_epoch=3,
        validation_steps=4,
        epochs=1,
        shuffle=False,
        callbacks=[LambdaCallback(on_train_batch_end=count("train"), on_test_batch_end=count("test"))],
        verbose=0,
    )
    assert counts == {"train": 3, "test": 4}


@claim(f"{FILE}::test_for_eval_epoch_iterator")
def test_validation_data_that_do_not_fit_spoil_no_later_fit():
    model, x, y = small_classifier(), features(8), classes(8)
    wrong = {name: array.reshape(1, *array.shape) for name, array in features(8).items()}
    with pytest.raises((TypeError, ValueError)):
        model.fit(x, y, batch_size=4, validation_data=(wrong, y.reshape(1, -1)), verbose=0)
    history = model.fit(x, y, batch_size=4, validation_data=(x, y), verbose=0)
    assert "val_loss" in history.history


@claim(f"{FILE}::test_nested_inputs", f"{FILE}::test_nested_input_predict")
def test_a_dict_of_arrays_goes_through_every_method():
    model, x, y = small_classifier(), features(3), classes(3)
    loss = model.fit(x, y, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
    for values in (model.train_on_batch(x, y), model.evaluate(x, y, verbose=0), model.test_on_batch(x, y)):
        assert np.isfinite(values).all()
    assert model.predict(x, verbose=0).shape == model.predict_on_batch(x).shape == (3, 3)


@claim(f"{EPOCHS}::test_unrecognized_data_type")
@pytest.mark.parametrize("x", [3, None, object()])
def test_what_is_no_data_is_refused(x):
    with pytest.raises((TypeError, ValueError)):
        small_classifier().fit(x, verbose=0)


@claim(
    *(
        f"{EPOCHS}::test_unsupported_{name}_arg_{kind}"
        for name in ("y", "sample_weights")
        for kind in ("tfdata", "torch_dataloader")
    )
)
@pytest.mark.parametrize("name", ["y", "sample_weight"])
def test_labels_beside_an_iterable_of_batches_are_refused(name):
    with pytest.raises((TypeError, ValueError), match=r"y|label|sample_weight"):
        small_classifier().fit(batches(3), verbose=0, **{name: np.ones(6)})


# ------------------------------------------------------------------------------------------- evaluate, predict, batches


@claim(f"{FILE}::test_evaluate_flow")
@pytest.mark.parametrize("return_dict", [False, True])
def test_evaluate_returns_the_loss_and_the_metrics(return_dict):
    model = small_classifier()
    model.compile(metrics=["accuracy"])
    x, y = features(10), classes(10)
    found = model.evaluate(x, y, batch_size=4, verbose=0, return_dict=return_dict)
    expected = float((model.predict(x, verbose=0).argmax(-1) == y).mean())
    assert isinstance(found, dict if return_dict else list)
    assert (found["accuracy"] if return_dict else found[1]) == pytest.approx(expected)


@claim(f"{FILE}::test_predict_flow")
@pytest.mark.parametrize("size", [1, 4, 16])
def test_predict_gives_a_row_for_every_example(size):
    model, x = small_classifier(), features(10)
    np.testing.assert_allclose(model.predict(x, batch_size=size, verbose=0), model(x), atol=1e-6)


@claim(f"{FILE}::test_predict_preserve_order", f"{FILE}::test_predict_generator")
@pytest.mark.parametrize("is_nested", [False, True])
def test_predict_keeps_the_order_of_uneven_batches(is_nested):
    model, x = small_classifier(), features(9)
    bounds = [(0, 2), (2, 5), (5, 9)]
    some = [{name: array[i:j] for name, array in x.items()} for i, j in bounds]
    found = model.predict(iter([(each,) for each in some] if is_nested else some), verbose=0)
    np.testing.assert_allclose(found, model.predict(x, verbose=0), atol=1e-6)


@claim(f"{FILE}::test_on_batch_methods")
@pytest.mark.parametrize("method", ["train_on_batch", "test_on_batch"])
@pytest.mark.parametrize("return_dict", [False, True])
def test_methods_on_one_batch_return_what_evaluate_does(method, return_dict):
    model, x, y = small_classifier(), features(10), classes(10)
    before = model.evaluate(x, y, verbose=0, return_dict=return_dict)
    found = getattr(model, method)(x, y, return_dict=return_dict)
    assert type(found) is type(before)
    assert (found if isinstance(found, dict) else list(found)) == pytest.approx(before, rel=1e-5)


@claim(f"{FILE}::test_on_batch_methods")
@pytest.mark.parametrize("method", ["train_on_batch", "test_on_batch"])
def test_methods_on_one_batch_take_weights_by_position(method):
    model, x, y = small_classifier(), features(10), classes(10)
    weights = np.arange(10) / 5.0
    expected = model.evaluate(x, y, sample_weight=weights, verbose=0)
    assert list(getattr(model, method)(x, y, weights)) == pytest.approx(expected, rel=1e-5)


@claim(f"{FILE}::test_on_batch_methods")
def test_train_on_batch_takes_class_weights():
    x, y = features(10), classes(10)
    one, other = small_classifier(), small_classifier()
    by_class = {0: 0.2, 1: 0.3, 2: 0.5}
    found = one.train_on_batch(x, y, class_weight=by_class)
    expected = other.train_on_batch(x, y, np.array([by_class[label] for label in y.tolist()]))
    assert list(found) == pytest.approx(list(expected))


@claim(f"{FILE}::test_on_batch_methods")
def test_predict_on_batch_returns_an_array():
    model, x = small_classifier(), features(10)
    assert isinstance(model.predict_on_batch(x), np.ndarray)
    np.testing.assert_allclose(model.predict_on_batch(x), model.predict(x, verbose=0), atol=1e-6)


@claim(f"{FILE}::test_on_batch_methods_without_training")
def test_a_model_is_evaluated_before_it_was_trained():
    model, x, y = small_classifier(), features(10), classes(10)
    assert model.predict_on_batch(x).shape == (10, 3)
    assert model.test_on_batch(x, y, return_dict=True)["loss"] == pytest.approx(model.test_on_batch(x, y)[0])


# ----------------------------------------------------------------------------------------------------------- callbacks

LOGGED = {
    "on_train_begin": [],
    "on_train_end": ["accuracy", "loss", "val_accuracy", "val_loss"],
    "on_epoch_begin": [],
    "on_epoch_end": ["accuracy", "loss", "val_accuracy", "val_loss"],
    "on_test_begin": [],
    "on_test_end": ["accuracy", "loss"],
    "on_predict_begin": [],
    "on_predict_end": [],
    "on_train_batch_begin": [],
    "on_train_batch_end": ["accuracy", "loss"],
    "on_test_batch_begin": [],
    "on_test_batch_end": ["accuracy", "loss"],
    "on_predict_batch_begin": [],
    "on_predict_batch_end": ["outputs"],
}


@claim(f"{FILE}::test_callback_methods_keys")
@pytest.mark.parametrize("hook", LOGGED)
def test_a_hook_is_given_the_logs_of_keras(hook):
    seen = []
    model, x, y = small_classifier(), features(8), classes(8)
    model.compile(metrics=["accuracy"])
    note = LambdaCallback(**{hook: lambda *given: seen.append(sorted(given[-1] or {}))})
    model.fit(x, y, batch_size=4, validation_data=(x, y), callbacks=[note], verbose=0)
    model.evaluate(x, y, batch_size=4, callbacks=[note], verbose=0)
    model.predict(x, batch_size=4, callbacks=[note], verbose=0)
    assert seen
    assert all(keys == LOGGED[hook] for keys in seen)


@claim(f"{FILE}::test_stop_loop")
@pytest.mark.parametrize(
    ("method", "gerund", "hook"),
    [
        ("fit", "training", "on_train_batch_end"),
        ("evaluate", "evaluating", "on_test_batch_end"),
        ("predict", "predicting", "on_predict_batch_end"),
    ],
)
def test_a_callback_stops_a_loop(method, gerund, hook):
    model, seen = small_classifier(), []

    def stop(*_):
        seen.append(1)
        if len(seen) == 5:
            setattr(model, f"stop_{gerund}", True)

    endless = itertools.cycle([features(2)] if method == "predict" else [(features(2), classes(2))])
    options = {"steps_per_epoch": 100} if method == "fit" else {"steps": 100}
    getattr(model, method)(endless, callbacks=[LambdaCallback(**{hook: stop})], verbose=0, **options)
    assert len(seen) == 5


@claim(f"{FILE}::test_callbacks_can_update_state_at_batch_boundary")
@pytest.mark.parametrize(("hook", "expected"), [("on_train_batch_end", 12), ("on_test_batch_end", 6)])
def test_a_callback_is_called_once_a_batch(hook, expected):
    model, seen = small_classifier(), []
    note = LambdaCallback(**{hook: lambda *_: seen.append(model.get_weights()[0].copy())})
    options = {"epochs": 3, "batch_size": 1, "validation_data": (features(2), classes(2)), "verbose": 0}
    model.fit(features(4), classes(4), callbacks=[note], **options)
    assert len(seen) == expected


@claim(f"{FILE}::test_steps_per_execution_steps_count_without_training")
@pytest.mark.parametrize(
    ("method", "hook"), [("evaluate", "on_test_batch_begin"), ("predict", "on_predict_batch_begin")]
)
def test_batches_are_numbered_from_0(method, hook):
    model, seen = small_classifier(), []
    data = (features(10), classes(10)) if method == "evaluate" else (features(10),)
    note = LambdaCallback(**{hook: lambda batch, logs: seen.append(batch)})
    getattr(model, method)(*data, batch_size=4, callbacks=[note], verbose=0)
    assert seen == [0, 1, 2]


# ----------------------------------------------------------------------------------------------- what is done otherwise


@differs(f"{FILE}::test_steps_per_epoch")
def test_every_epoch_has_its_steps_where_they_do_not_divide_the_data():
    """Keras alternates between epochs of 9 steps and of 1."""
    model, counted = small_classifier(), Counted()
    model.fit(features(80), classes(80), batch_size=8, steps_per_epoch=9, epochs=4, callbacks=[counted], verbose=0)
    assert (len(counted.begun), counted.epochs) == (36, 4)


@differs(f"{FILE}::test_fit_with_custom_train_step")
def test_a_step_of_ones_own_is_refused():
    from pyroberta import MaskedLM

    with pytest.raises(TypeError, match="train_step"):
        type("Mine", (MaskedLM,), {"train_step": lambda self, data: None})


@differs(f"{FILE}::test_metric_update_in_compute_loss")
def test_a_loss_of_ones_own_is_refused():
    from pyroberta import MaskedLM

    with pytest.raises(TypeError, match="compute_loss"):
        type("Mine", (MaskedLM,), {"compute_loss": lambda self, **_: None})


@differs(f"{FILE}::test_evaluate_with_custom_test_step")
def test_a_test_step_of_ones_own_is_refused():
    from pyroberta import MaskedLM

    with pytest.raises(TypeError, match="test_step"):
        type("Mine", (MaskedLM,), {"test_step": lambda self, data: None})


@differs(f"{FILE}::test_adds_loss_scaling_optimizer")
def test_half_precision_is_bfloat16_which_needs_no_scaled_loss():
    with pytest.raises(ValueError, match="mixed_float16"):
        small_classifier(dtype="mixed_float16")
