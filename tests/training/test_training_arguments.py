"""The arguments, returns and logs of training are Keras's: what its own trainer tests claim, for these models."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from small_models import TEXTS, small_masked_lm, small_tokenizer

from pyroberta import TextClassifier, TextClassifierPreprocessor, callbacks, losses, metrics, optimizers
from pyroberta.data.classifier_inputs import class_factors
from pyroberta.training.callbacks import Callback, LambdaCallback

LABELS = [0, 1, 2, 0, 1, 2]


def classifier(**options) -> TextClassifier:
    model = TextClassifier(
        small_masked_lm(dropout=0.0).backbone, 3, TextClassifierPreprocessor(small_tokenizer(), 40), seed=3, **options
    )
    model.compile(optimizer=optimizers.Adam(1e-2))
    return model


ORDER = {
    "fit": (
        "x y batch_size epochs verbose callbacks validation_split validation_data shuffle class_weight sample_weight "
        "initial_epoch steps_per_epoch validation_steps validation_batch_size validation_freq"
    ),
    "evaluate": "x y batch_size verbose sample_weight steps callbacks return_dict",
    "predict": "x batch_size verbose steps callbacks",
    "train_on_batch": "x y sample_weight class_weight return_dict",
    "test_on_batch": "x y sample_weight return_dict",
}


@pytest.mark.parametrize("method", ORDER)
def test_arguments_stand_in_keras_order(method):
    by_position = [
        name
        for name, parameter in inspect.signature(getattr(TextClassifier, method)).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name != "self"
    ]
    assert by_position == ORDER[method].split()


def test_the_third_argument_is_the_size_of_a_batch():
    model, same = classifier(), classifier()
    history = model.fit(TEXTS, LABELS, 2, 2, 0)
    assert model.optimizer.iterations == 6
    assert history.history == same.fit(TEXTS, LABELS, batch_size=2, epochs=2, verbose=0).history
    assert model.evaluate(TEXTS, LABELS, 2, 0) == same.evaluate(TEXTS, LABELS, batch_size=2, verbose=0)
    assert (model.predict(TEXTS, 2, 0) == same.predict(TEXTS, batch_size=2, verbose=0)).all()


@pytest.mark.parametrize("weights", [np.ones(6), [1.0] * 6, np.ones((6, 1))], ids=["array", "list", "column"])
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_weights_in_the_third_place_are_a_type_error_that_says_where_they_go(method, weights):
    with pytest.raises(TypeError, match="third argument, as in Keras: pass weights by name, sample_weight="):
        getattr(classifier(), method)(TEXTS, LABELS, weights)


@pytest.mark.parametrize("size", [0, 2.5, "2", True])
def test_another_size_of_a_batch_is_a_value_error(size):
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1"):
        classifier().fit(TEXTS, LABELS, size)


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fit", "evaluate", "train_on_batch"])
def test_one_weight_for_all_and_a_column_of_weights_are_taken(call):
    weights = np.array([0.5, 2.0, 0.0, 1.0, 1.0, 0.5])

    def loss(sample_weight):
        model = classifier()
        options = {} if call == "train_on_batch" else {"verbose": 0}
        found = getattr(model, call)(TEXTS, LABELS, sample_weight=sample_weight, **options)
        return found.history["loss"] if call == "fit" else found

    assert loss(weights[:, None]) == loss(weights)
    assert loss(0.5) == loss(np.full(6, 0.5)) == loss(np.float32(0.5))


def test_features_of_a_masked_lm_take_them_too():
    lm = small_masked_lm(dropout=0.0)
    x, y, slot_weights = lm.preprocessor(TEXTS)
    rows = np.arange(1.0, 7.0)
    expected = lm.evaluate(x, y, sample_weight=np.broadcast_to(rows[:, None], slot_weights.shape), verbose=0)
    assert lm.evaluate(x, y, sample_weight=rows, verbose=0) == expected
    assert lm.evaluate(x, y, sample_weight=rows[:, None], verbose=0) == expected
    assert lm.evaluate(x, y, sample_weight=2.0, verbose=0) == lm.evaluate(x, y, sample_weight=rows * 0 + 2.0, verbose=0)


@pytest.mark.parametrize("as_stream", [False, True])
def test_class_weight_is_a_weight_of_each_text_by_its_class(as_stream):
    class_weight, weights = {0: 3.0, 2: 0.5}, np.array([3.0, 1.0, 0.5] * 2)

    def data(with_weights):
        if not as_stream:
            return {"x": TEXTS, "y": LABELS, "batch_size": 2} | ({"sample_weight": weights} if with_weights else {})
        parts = [slice(0, 3), slice(3, 6)]
        return {"x": iter([(TEXTS[p], LABELS[p], weights[p])[: 3 if with_weights else 2] for p in parts])}

    given, expected = classifier(), classifier()
    history = given.fit(**data(False), class_weight=class_weight, verbose=0)
    assert history.history == expected.fit(**data(True), verbose=0).history
    assert (given.backbone.params.flat == expected.backbone.params.flat).all()


def test_class_weight_is_of_training_alone_and_takes_names_of_classes():
    given = classifier(labels=["a", "b", "c"])
    options = {"validation_split": 0.5, "batch_size": 2, "verbose": 0}
    history = given.fit(TEXTS, LABELS, class_weight={"a": 3.0}, **options).history
    same = classifier().fit(TEXTS, LABELS, class_weight={0: 3.0}, **options).history
    assert history == same
    weighted = classifier().evaluate(TEXTS[3:], LABELS[3:], sample_weight=[3.0, 1.0, 1.0], verbose=0)[0]
    model = classifier()
    model.train_on_batch(TEXTS, LABELS, None, {0: 3.0})
    assert model.evaluate(TEXTS[3:], LABELS[3:], verbose=0)[0] != weighted
    assert history["val_loss"][0] == pytest.approx(given.evaluate(TEXTS[3:], LABELS[3:], 2, 0)[0])


@pytest.mark.parametrize(
    ("class_weight", "error", "message"),
    [
        ({3: 1.0}, ValueError, "class_weight has the class 3; the model's classes are 0 to 2"),
        ({"x": 1.0}, ValueError, "class_weight has the class 'x'; .*'LABEL_0'"),
        ({True: 1.0}, ValueError, "class_weight has the class True"),
        ({0: -1.0}, ValueError, r"class_weight\[0\] must be a number of at least 0, got -1\.0"),
        ({0: math.inf}, ValueError, r"class_weight\[0\] must be a number"),
        (
            "balanced",
            TypeError,
            r"class_weight should be a dict, .*\{0: 1\.0, 1: 3\.0\}; got 'balanced'\. scikit-learn's are dict\(zip",
        ),
    ],
)
def test_class_weights_that_do_not_fit_are_refused(class_weight, error, message):
    with pytest.raises(error, match=message):
        classifier().fit(TEXTS, LABELS, class_weight=class_weight, verbose=0)


def test_a_number_of_a_class_whose_name_is_another_number_is_refused():
    labels = ["1", "2"]
    with pytest.raises(ValueError, match=r"class 1, and .* numbers as names \('1', '2'\): write the name, '1'"):
        class_factors({1: 5.0}, 2, labels)
    with pytest.raises(ValueError, match="class_weight has one class twice, as 'b' and as 1"):
        class_factors({"b": 5.0, 1: 2.0}, 2, ["a", "b"])
    assert class_factors({"1": 5.0}, 2, labels).tolist() == [5.0, 1.0]
    assert class_factors({1: 5.0}, 2, ["0", "1"]).tolist() == [1.0, 5.0]


def test_class_weight_is_refused_beside_sample_weight_and_for_a_masked_lm():
    with pytest.raises(ValueError, match="class_weight and sample_weight can't be combined"):
        classifier().fit(TEXTS, LABELS, class_weight={0: 2.0}, sample_weight=np.ones(6), verbose=0)
    with pytest.raises(ValueError, match=r"labels of a masked LM are the tokens of its texts\. Pass sample_weight="):
        small_masked_lm().fit(TEXTS, class_weight={0: 2.0}, verbose=0)


# --- epochs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frequency", "epochs"), [(1, [1, 2, 3, 4]), (2, [2, 4]), (3, [3]), ([1, 4], [1, 4]), ((2,), [2])]
)
def test_validation_freq_says_after_which_epochs_to_evaluate(frequency, epochs):
    seen = []
    note = LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch + 1) if "val_loss" in logs else None)
    options = {"validation_split": 0.5, "validation_freq": frequency, "callbacks": note, "epochs": 4, "verbose": 0}
    history = classifier().fit(TEXTS, LABELS, **options)
    assert seen == epochs
    assert len(history.history.get("val_loss", [])) == len(epochs)


@pytest.mark.parametrize("frequency", [0, 1.5, "1", [0], ["1"]])
def test_a_validation_freq_that_is_none_is_refused(frequency):
    with pytest.raises(ValueError, match="validation_freq must be a whole number of at least 1"):
        classifier().fit(TEXTS, LABELS, validation_split=0.5, validation_freq=frequency, verbose=0)


@pytest.mark.parametrize("frequency", [5, [], [1, 9]])
def test_a_validation_freq_that_comes_to_no_evaluation_is_told(frequency):
    with pytest.warns(UserWarning, match="names none of the epochs 2 to 4, so nothing is evaluated"):
        history = classifier().fit(
            TEXTS, LABELS, validation_split=0.5, validation_freq=frequency, epochs=4, initial_epoch=1, verbose=0
        )
    assert "val_loss" not in history.history


def test_validation_freq_without_validation_would_do_nothing():
    with pytest.raises(ValueError, match="validation_freq=2 has no effect without data"):
        classifier().fit(TEXTS, LABELS, validation_freq=2, verbose=0)


def test_more_steps_than_there_are_end_each_epoch_early_with_a_warning():
    few, many = classifier(), classifier()
    expected = few.fit(TEXTS, LABELS, 2, 2, 0).history
    with pytest.warns(UserWarning, match="steps_per_epoch is 5, but the examples make 3 steps"):
        history = many.fit(TEXTS, LABELS, 2, 2, 0, steps_per_epoch=5)
    assert history.history == expected
    assert many.optimizer.iterations == 6
    assert history.params["steps"] == 3


# --- what is left behind ----------------------------------------------------------------------------------------------


def test_the_model_keeps_the_history_of_its_last_fit():
    model = classifier()
    assert model.history is None
    first = model.fit(TEXTS, LABELS, verbose=0)
    assert model.history is first
    history = callbacks.History()
    assert model.fit(TEXTS, LABELS, verbose=0, callbacks=[history]) is history
    assert model.history is history
    assert history.epoch == [0]


def test_metrics_names_are_those_of_the_values_of_evaluate():
    model = classifier()
    assert model.metrics_names == ["loss", "accuracy"]
    model.compile(weighted_metrics=["acc", "sparse_categorical_accuracy", metrics.Accuracy(name="mine")])
    names = ["loss", "acc", "sparse_categorical_accuracy", "mine"]
    values = model.evaluate(TEXTS, LABELS, verbose=0)
    assert model.metrics_names == [metric.name for metric in model.metrics] == names
    assert values == list(model.evaluate(TEXTS, LABELS, verbose=0, return_dict=True).values())
    assert values[1] == values[2] == values[3]


def test_accuracy_is_logged_under_the_name_that_it_was_given():
    model = classifier()
    model.compile(optimizer="adam", metrics=["acc"])
    stopping = callbacks.EarlyStopping("val_accuracy", patience=1)  # another name of the same metric
    checkpoint = callbacks.EarlyStopping("val_acc", start_from_epoch=9)
    history = model.fit(TEXTS, LABELS, validation_split=0.5, epochs=2, callbacks=[stopping, checkpoint], verbose=0)
    assert list(history.history) == ["loss", "acc", "val_loss", "val_acc"]
    assert stopping.mode == checkpoint.mode == "max"
    assert stopping.best == max(history.history["val_acc"])


@pytest.mark.parametrize("name", [3, b"mine", True])
def test_a_metrics_name_is_a_text(name):
    with pytest.raises(TypeError, match="name must be a text that isn't empty"):
        metrics.Accuracy(name=name)


def test_two_metrics_of_one_name_would_lose_a_value():
    with pytest.raises(ValueError, match="two metrics have the name 'accuracy'"):
        classifier().compile(metrics=["accuracy"], weighted_metrics=["accuracy"])
    with pytest.raises(ValueError, match=r"as in pyroberta\.metrics\.MeanOfFunction\(function, name='my_lambda'\)"):
        classifier().compile(metrics=["accuracy", lambda a, b: a == 0, lambda a, b: a == 1])
    with pytest.raises(ValueError, match="a metric has the name 'val_loss', under which an evaluation logs 'loss'"):
        classifier().compile(metrics=[metrics.Accuracy(name="val_loss")])


# --- compile ----------------------------------------------------------------------------------------------------------


def test_arguments_of_compile_that_have_no_effect_take_keras_defaults_alone():
    model = classifier()
    model.compile(
        "adam", loss_weights=None, run_eagerly=False, steps_per_execution=1, jit_compile="auto", auto_scale_loss=True
    )
    model.compile("adam", jit_compile=True)
    for name, value, why in [
        ("loss_weights", [1.0], "the model has one loss"),
        ("run_eagerly", True, "every step is plain Python"),
        ("run_eagerly", 0, "every step is plain Python"),
        ("steps_per_execution", 2, "no graph"),
        ("auto_scale_loss", False, "losses are not scaled"),
    ]:
        with pytest.raises(ValueError, match=rf"^{name}=.* would have no effect: .*{why}.*Leave it out"):
            model.compile("adam", **{name: value})


def test_the_losses_of_one_call_broadcast_weights_as_keras_does():
    logits, labels = np.log([[0.25, 0.75], [0.5, 0.5], [0.125, 0.875]]), [0, 1, 0]
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    bits = np.array([2.0, 1.0, 3.0]) * math.log(2)
    weights = np.array([1.0, 0.0, 2.0])
    assert loss(labels, logits, 0.5) == pytest.approx(0.5 * bits.mean())
    assert (
        loss(labels, logits, weights) == loss(labels, logits, weights[:, None]) == pytest.approx((8 * math.log(2)) / 3)
    )
    assert loss([labels], logits[None], [[0.5]]) == pytest.approx(0.5 * bits.mean())


# --- callbacks --------------------------------------------------------------------------------------------------------


class Keys(Callback):
    """The names in the logs of each hook."""

    def __init__(self):
        super().__init__()
        self.seen: dict[str, set[tuple[str, ...]]] = {}
        for hook in callbacks.HOOKS if hasattr(callbacks, "HOOKS") else ():
            self.seen[hook] = set()

    def __getattribute__(self, name):
        if name.startswith("on_"):
            return lambda *arguments: self.seen.setdefault(name, set()).add(tuple(arguments[-1]))
        return super().__getattribute__(name)


def test_the_logs_of_each_hook_have_keras_names():
    model, keys = classifier(), Keys()
    model.fit(TEXTS, LABELS, validation_split=0.5, callbacks=[keys], verbose=0)
    model.predict(TEXTS, callbacks=[keys], verbose=0)
    alone, both = ("loss", "accuracy"), ("loss", "accuracy", "val_loss", "val_accuracy")
    assert keys.seen == {
        "on_train_begin": {()}, "on_train_end": {both}, "on_epoch_begin": {()}, "on_epoch_end": {both},
        "on_train_batch_begin": {()}, "on_train_batch_end": {alone}, "on_test_begin": {()}, "on_test_end": {alone},
        "on_test_batch_begin": {()}, "on_test_batch_end": {alone}, "on_predict_begin": {()}, "on_predict_end": {()},
        "on_predict_batch_begin": {()}, "on_predict_batch_end": {("outputs",)},
    }  # fmt: skip


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_params_hold_keras_three(method):
    params = []

    class Note(Callback):
        def set_params(self, given):
            params.append(dict(given))

    options = {"epochs": 2} if method == "fit" else {}
    arguments = (TEXTS,) if method == "predict" else (TEXTS, LABELS)
    getattr(classifier(), method)(*arguments, batch_size=4, verbose=0, callbacks=Note(), **options)
    (found,) = params
    assert found | {"epochs": 2 if method == "fit" else 1, "steps": 2, "verbose": 0} == found


@pytest.mark.parametrize(
    ("method", "attribute", "hook", "end"),
    [
        ("fit", "stop_training", "on_train_batch_end", "on_train_end"),
        ("evaluate", "stop_evaluating", "on_test_batch_end", "on_test_end"),
        ("predict", "stop_predicting", "on_predict_batch_end", "on_predict_end"),
    ],
)
def test_a_callback_stops_a_loop_after_the_step_and_the_end_is_told(method, attribute, hook, end):
    model, calls = classifier(), []

    def stop(batch, logs):
        calls.append(batch)
        if batch == 1:
            setattr(model, attribute, True)

    callback = LambdaCallback(**{hook: stop, end: lambda logs: calls.append("end")})
    arguments = (TEXTS,) if method == "predict" else (TEXTS, LABELS)
    getattr(model, method)(*arguments, batch_size=1, verbose=0, callbacks=[[callback], None])
    assert calls == [0, 1, "end"]


def test_what_a_callback_adds_to_the_logs_is_in_the_history():
    def add(epoch, logs):
        logs["mine"] = epoch

    history = classifier().fit(TEXTS, LABELS, epochs=2, verbose=0, callbacks=LambdaCallback(on_epoch_end=add))
    assert history.history["mine"] == [0, 1]
