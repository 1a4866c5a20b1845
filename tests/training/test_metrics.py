"""Metrics: over an epoch those of all its tokens as one batch; by name, from configs, of functions, from Keras."""

from __future__ import annotations

import json
import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import TEXTS, small_masked_lm, small_tokenizer

from pyroberta import TextClassifier, TextClassifierPreprocessor, losses, metrics, optimizers, schedules
from pyroberta.training.callbacks import LambdaCallback
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
    for name, empty_result in (("loss", 0.0), ("accuracy", 0.0), ("perplexity", 1.0)):
        metric = metrics.get(name)
        assert metric.result() == empty_result
        metric.update(np.ones(1), np.ones(1), np.ones(1), np.ones(1), 1.0)
        assert metric.result() != empty_result
        metric.reset()
        assert metric.result() == empty_result


def test_labels_of_another_shape_are_no_outputs_labels():
    with pytest.raises(
        ValueError, match=r"y_true must have the shape of y_pred without its last .* \(2,\) and \(1, 2\)"
    ):
        metrics.sparse_categorical_accuracy([0, 1], [[0.5, 0.5]])


@pytest.mark.parametrize("name", ["", 3])
@pytest.mark.parametrize(
    "make",
    [metrics.Accuracy, losses.SparseCategoricalCrossentropy, optimizers.Adam, partial(schedules.CosineDecay, 1e-3, 10)],
)
def test_a_name_is_a_text(make, name):
    with pytest.raises(TypeError, match=f"name must be a text that isn't empty, got {name!r}"):
        make(name=name)


def test_an_unknown_name_gets_the_known_ones():
    with pytest.raises(ValueError, match=r"one of loss, accuracy, .*perplexity, .* or a metric object, got 'f1'"):
        metrics.get("f1")
    metric = Accuracy(name="acc")
    assert metrics.get(metric) is metric
    assert metric.name == "acc"


LABELS = [0, 1, 2, 0, 1, 2]
live = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own


def classifier(dropout=0.0, **options) -> TextClassifier:
    backbone = small_masked_lm(dropout=dropout).backbone
    model = TextClassifier(backbone, 3, TextClassifierPreprocessor(small_tokenizer(), 40), seed=3, **options)
    model.compile(optimizer=optimizers.Adam(1e-2))
    return model


# --- by name, from configs, of functions and from Keras's objects -----------------------------------------------------


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
