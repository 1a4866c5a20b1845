"""Losses and metrics by name, from configs, of functions, and from Keras's objects."""

from __future__ import annotations

import json

import numpy as np
import pytest
from small_models import TEXTS, small_masked_lm, small_tokenizer

from pyroberta import TextClassifier, TextClassifierPreprocessor, losses, metrics, optimizers
from pyroberta.training.callbacks import LambdaCallback

LABELS = [0, 1, 2, 0, 1, 2]
live = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own


def classifier(dropout=0.0, **options) -> TextClassifier:
    backbone = small_masked_lm(dropout=dropout).backbone
    model = TextClassifier(backbone, 3, TextClassifierPreprocessor(small_tokenizer(), 40), seed=3, **options)
    model.compile(optimizer=optimizers.Adam(1e-2))
    return model


# --- losses -----------------------------------------------------------------------------------------------------------


def test_a_loss_is_made_again_of_its_config():
    loss = losses.SparseCategoricalCrossentropy(True, 2, "sum", 1, "mine", "float16")
    written = json.loads(json.dumps(losses.serialize(loss)))
    for again in (losses.get(written), losses.deserialize(written), type(loss).from_config(loss.get_config())):
        assert again.get_config() == loss.get_config()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"class_name": "MeanSquaredError", "config": {}}, "loss must be one of sparse_categorical_crossentropy"),
        ({"class_name": "SparseCategoricalCrossentropy"}, "config should be a dict, got None"),
        (
            {"class_name": "SparseCategoricalCrossentropy", "config": {"dtype": "bfloat16"}},
            r"float16, float32, float64 \(d",
        ),
        ({"class_name": "SparseCategoricalCrossentropy", "config": {"axis": "last"}}, "axis must be a whole number"),
        ({"class_name": "SparseCategoricalCrossentropy", "config": {"delta": 1}}, "has no argument 'delta'"),
        ({}, "loss must be one of .* got None"),
    ],
)
def test_configs_of_losses_that_do_not_fit_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        losses.get(config)


@live
@pytest.mark.parity
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight", "mean", "none"])
@pytest.mark.parametrize("from_logits", [True, False])
def test_a_loss_of_keras_is_converted_and_gives_the_same(keras, reduction, from_logits):
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits, reduction=reduction, name="mine")
    ours = losses.get(theirs)
    assert ours.name == "mine"
    assert losses.get(keras.losses.serialize(theirs)).get_config() == ours.get_config()
    rng = np.random.default_rng(0)
    values = rng.random((4, 3)).astype(np.float32) + 0.1
    values = np.log(values) if from_logits else values
    labels = np.array([0, 2, 1, 2])
    for weights in (None, [1.0, 0.0, 2.0, 0.5], [[1.0], [0.0], [2.0], [0.5]]):
        if reduction == "none" and np.ndim(weights) == 2:
            continue  # Keras gives (4, 1) there
        expected = keras.ops.convert_to_numpy(theirs(labels, values, weights))
        np.testing.assert_allclose(ours(labels, values, weights), expected, rtol=2e-6)


@live
@pytest.mark.parity
def test_scalars_and_columns_weigh_padded_labels_as_in_keras(keras):
    """`mean_with_sample_weight` is left out: Keras divides by the sum of weights that it did not broadcast, no mean."""
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((2, 3, 5)).astype(np.float32), rng.integers(0, 5, (2, 3))
    for reduction in ("sum_over_batch_size", "sum", "mean"):
        theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
        for weights in (0.5, [[0.5], [2.0]], rng.random((2, 3)).tolist()):
            expected = float(theirs(labels, logits, np.array(weights, np.float32)))
            assert losses.get(theirs)(labels, logits, weights) == pytest.approx(expected, rel=2e-6)


@live
@pytest.mark.parity
def test_losses_of_keras_that_have_no_backward_here_are_refused(keras):
    model = classifier()
    for loss in (keras.losses.MeanSquaredError(), keras.losses.mean_squared_error):
        with pytest.raises(TypeError, match=r"can't be converted: .* Write loss=pyroberta\.losses\.SparseCat"):
            model.compile(loss=loss)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"))
    assert model.loss.reduction == "sum"
    model.compile("adam", keras.losses.sparse_categorical_crossentropy)  # as the name, for the model's outputs
    assert model.loss.from_logits
    with pytest.raises(ValueError, match="the model returns logits"):
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy())


# --- metrics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(metrics.METRICS) if hasattr(metrics, "METRICS") else ["accuracy", "perplexity"])
def test_a_metric_is_made_again_of_its_config(name):
    metric = metrics.get(name)
    written = json.loads(json.dumps(metrics.serialize(metric)))
    assert type(metrics.get(written)) is type(metrics.deserialize(written)) is type(metric)
    assert metrics.get(written).name == name


def hits(y_true, y_pred):
    return y_pred.argmax(-1) == y_true


def middle(y_true, y_pred):
    return y_pred[:, 1].mean()


@pytest.mark.parametrize("recompute", [False, True])
def test_a_function_is_a_metric_of_the_outputs_of_the_very_step(recompute):
    """With dropout: the outputs are those from which the step's loss was made."""
    model = classifier(dropout=0.3)
    model.compile(optimizer=optimizers.Adam(1e-2), metrics=["accuracy", hits], recompute=recompute)
    history = model.fit(TEXTS, LABELS, batch_size=2, epochs=4, gradient_accumulation_steps=2, verbose=0)
    assert history.history["hits"] == history.history["accuracy"]
    assert 0 < sum(history.history["hits"]) < 4

    plain = classifier(dropout=0.3)
    plain.fit(TEXTS, LABELS, batch_size=2, epochs=4, gradient_accumulation_steps=2, verbose=0)
    assert (plain.backbone.params.flat == model.backbone.params.flat).all()


def test_a_function_has_weights_and_a_value_for_a_batch_counts_once():
    model = classifier()
    model.compile(weighted_metrics=[hits, "accuracy", middle])
    weights = [1.0, 0.0, 2.0, 0.5, 0.0, 0.25]
    found = model.evaluate(TEXTS, LABELS, 4, 0, weights, return_dict=True)
    assert found["hits"] == found["accuracy"]
    logits = model.predict(TEXTS, verbose=0)[:, 1]
    assert found["middle"] == pytest.approx((logits[:4].mean() + logits[4:].mean()) / 2)


def test_settings_of_keras_metrics_have_the_values_that_they_must_have():
    perplexity = metrics.Perplexity(from_logits=True, mask_token_id=None, name="mine")
    assert perplexity.get_config() == {"name": "mine"}
    again = metrics.SparseCategoricalCrossentropy.from_config({"name": "x", "from_logits": True, "dtype": "float32"})
    assert again.name == "x"
    with pytest.raises(ValueError, match="Perplexity should have mask_token_id=None here"):
        metrics.Perplexity(mask_token_id=0)
    with pytest.raises(TypeError, match="Perplexity has no argument 'logits'"):
        metrics.Perplexity(logits=True)


@pytest.mark.parametrize("given", [{"output": "acc"}, {"output": ["acc"]}])
def test_metrics_by_outputs_are_refused_since_there_is_one_output(given):
    with pytest.raises(ValueError, match=r"the model has one output, so pass a list, as in metrics=\['accuracy'\]"):
        classifier().compile(metrics=given)


def test_the_function_of_accuracy_is_the_metric():
    model = classifier()
    model.compile(metrics=[metrics.sparse_categorical_accuracy, "acc"])
    found = model.evaluate(TEXTS, LABELS, verbose=0, return_dict=True)
    assert found["sparse_categorical_accuracy"] == found["acc"]
    outputs = model.predict(TEXTS, verbose=0)
    assert metrics.sparse_categorical_accuracy(np.reshape(LABELS, (-1, 1)), outputs).mean() == found["acc"]


def test_a_function_gets_probabilities_where_the_model_gives_them():
    model, sums = classifier(activation="softmax"), []
    model.compile("adam", metrics=[lambda y_true, y_pred: sums.append(y_pred.sum(-1)) or 0.5])
    assert model.metrics_names == ["loss", "lambda"]
    model.evaluate(TEXTS, LABELS, verbose=0)
    np.testing.assert_allclose(np.concatenate(sums), 1.0)


def test_a_masked_lm_takes_functions_with_weights():
    model = small_masked_lm(dropout=0.1)
    model.compile("adam", weighted_metrics=["accuracy", hits])
    seen = []
    note = LambdaCallback(on_train_batch_end=lambda step, logs: seen.append(logs["hits"] == logs["accuracy"]))
    model.fit(TEXTS, batch_size=3, verbose=0, callbacks=note)
    assert seen == [True, True]


def test_a_function_with_another_shape_is_named():
    model = classifier()
    model.compile(metrics=[lambda y_true, y_pred: y_pred])
    with pytest.raises(ValueError, match=r"the metric lambda should return one value, or one per label, \(6,\); got"):
        model.evaluate(TEXTS, LABELS, verbose=0)
    with pytest.raises(ValueError, match="is a function, which can't be saved"):
        model.metrics[1].get_config()


@live
@pytest.mark.parity
def test_metrics_of_keras_are_converted(keras):
    model = classifier()
    model.compile(
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="mine"), keras.metrics.sparse_categorical_accuracy],
        weighted_metrics=[keras.metrics.SparseCategoricalCrossentropy(from_logits=True)],
    )
    found = model.evaluate(TEXTS, LABELS, verbose=0, return_dict=True)
    assert sorted(found) == ["loss", "mine", "sparse_categorical_accuracy", "sparse_categorical_crossentropy"]
    assert found["mine"] == found["sparse_categorical_accuracy"]
    assert found["sparse_categorical_crossentropy"] == pytest.approx(found["loss"])
    for metric in (keras.metrics.Accuracy(), keras.metrics.SparseTopKCategoricalAccuracy(k=2)):
        with pytest.raises(TypeError, match=r"can't be converted\. Use SparseCategoricalAccuracy"):
            model.compile(metrics=[metric])
    with pytest.raises(ValueError, match="should have from_logits=True here"):
        model.compile(metrics=[keras.metrics.SparseCategoricalCrossentropy()])


@live
@pytest.mark.parity
def test_a_function_of_keras_is_called(keras):
    def top_2(y_true, y_pred):
        return keras.metrics.sparse_top_k_categorical_accuracy(y_true, y_pred, k=2)

    model = classifier()
    model.compile(metrics=[top_2])
    logits = model.predict(TEXTS, verbose=0)
    expected = np.mean([label in row.argsort()[-2:] for label, row in zip(LABELS, logits, strict=True)])
    assert model.evaluate(TEXTS, LABELS, verbose=0)[1] == pytest.approx(expected)
