"""Keras's claims about accuracy, and about metrics in general, in evaluation and training."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from claims import claim, classes, features, small_classifier

from pyroberta import losses, metrics

FILE = "keras/src/metrics/accuracy_metrics_test.py::SparseCategoricalAccuracyTest"
EQUAL = "keras/src/metrics/accuracy_metrics_test.py::AccuracyTest"
REDUCTIONS = "keras/src/metrics/reduction_metrics_test.py::MeanTest"
BASE = "keras/src/metrics/metric_test.py::MetricTest"
COMPILED = "keras/src/trainers/compile_utils_test.py::TestCompileMetrics"


def update(metric, labels, probabilities, weights=None):
    """Keras's `update_state` with what the trainer gives a metric: losses, the likeliest classes, labels, weights."""
    labels, probabilities = np.asarray(labels).reshape(-1), np.asarray(probabilities, "float64")
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, float)
    each = losses.sparse_categorical_crossentropy(labels, probabilities)
    metric.update(each, probabilities.argmax(-1), labels, weights, float(weights.sum()))
    return metric.result()


@claim(f"{FILE}::test_config", f"{EQUAL}::test_config", f"{REDUCTIONS}::test_config")
@pytest.mark.parametrize("name", ["Accuracy", "SparseCategoricalAccuracy", "Perplexity", "Loss"])
def test_a_metric_is_made_again_of_its_config(name):
    kind = getattr(metrics, name)
    metric = kind(name="mine")
    assert metric.get_config()["name"] == "mine"
    again = kind.from_config(metric.get_config())
    assert type(again) is kind
    assert again.name == "mine"


@claim(f"{FILE}::test_unweighted")
@pytest.mark.parametrize("kind", [metrics.Accuracy, metrics.SparseCategoricalAccuracy])
def test_the_share_of_what_is_right(kind):
    assert update(kind(), [[2], [1]], [[0.1, 0.6, 0.3], [0.05, 0.95, 0]]) == pytest.approx(0.5)


@claim(f"{FILE}::test_weighted")
@pytest.mark.parametrize("kind", [metrics.Accuracy, metrics.SparseCategoricalAccuracy])
def test_the_share_of_the_weights(kind):
    found = update(kind(), [[2], [1]], [[0.1, 0.6, 0.3], [0.05, 0.95, 0]], [0.7, 0.3])
    assert found == pytest.approx(0.3)


@claim(*(f"{EQUAL}::{each}" for each in ("test_unweighted", "test_weighted", "test_weighted_rank_1")))
@pytest.mark.parametrize(("weights", "expected"), [([1, 1, 1, 1], 0.75), ([1, 1, 0, 0], 0.5)])
def test_accuracy_counts_what_is_equal(weights, expected):
    metric, weights = metrics.Accuracy(), np.array(weights, float)
    metric.update(np.ones(4), np.array([0, 2, 3, 4]), np.array([1, 2, 3, 4]), weights, weights.sum())
    assert metric.result() == pytest.approx(expected)


@claim(
    f"{FILE}::test_squeeze_y_true",
    f"{FILE}::test_squeeze_y_true_shape",
    f"{FILE}::test_matching_shapes_without_squeeze",
)
@pytest.mark.parametrize("labels", [[[0], [1], [2]], [0, 1, 2]])
def test_a_classifiers_labels_may_have_an_axis_of_1(labels):
    model = small_classifier()
    found = model.evaluate(features(3), np.array(labels), verbose=0, return_dict=True)
    assert found == model.evaluate(features(3), [0, 1, 2], verbose=0, return_dict=True)


@claim(f"{FILE}::test_cast_y_pred_dtype", f"{FILE}::test_cast_y_pred_to_match_y_true_dtype")
@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8"])
def test_labels_have_any_dtype(dtype):
    model = small_classifier()
    found = model.evaluate(features(3), np.array([0, 1, 2]).astype(dtype), verbose=0)
    assert found == model.evaluate(features(3), [0, 1, 2], verbose=0)


@claim(f"{REDUCTIONS}::test_unweighted")
def test_a_mean():
    metric = metrics.Loss()
    metric.update(np.array([1.0, 3, 5, 7]), np.zeros(4), np.zeros(4), np.ones(4), 4.0)
    assert metric.result() == pytest.approx(4.0)


@claim(f"{REDUCTIONS}::test_weighted")
def test_a_weighted_mean():
    metric, weights = metrics.Loss(), np.array([1.0, 1, 0, 0])
    metric.update(np.array([1.0, 3, 5, 7]), np.zeros(4), np.zeros(4), weights, 2.0)
    assert metric.result() == pytest.approx(2.0)


@claim(f"{BASE}::test_end_to_end_flow")
def test_a_metric_grows_batch_by_batch_and_begins_anew():
    metric = metrics.Accuracy()
    for _ in range(2):
        update(metric, [0, 1], [[0.9, 0.1], [0.9, 0.1]])
    assert update(metric, [0, 0], [[0.9, 0.1], [0.9, 0.1]]) == pytest.approx(4 / 6)
    metric.reset()
    assert metric.result() == 0.0


@claim(f"{BASE}::test_serialization")
def test_a_metric_of_a_name_and_a_config():
    config = {"class_name": "SparseCategoricalAccuracy", "config": {"name": "mine"}}
    assert isinstance(metrics.get(config), metrics.SparseCategoricalAccuracy)
    assert metrics.get(config).name == "mine"


@claim(f"{BASE}::test_pickle")
def test_a_metric_is_pickled():
    metric = metrics.Accuracy(name="mine")
    update(metric, [0, 1], [[0.9, 0.1], [0.9, 0.1]])
    again = pickle.loads(pickle.dumps(metric))
    assert (again.name, again.result()) == ("mine", metric.result())


@claim(f"{BASE}::test_get_method")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("accuracy", metrics.Accuracy),
        ("acc", metrics.Accuracy),
        ("sparse_categorical_accuracy", metrics.SparseCategoricalAccuracy),
        ("SparseCategoricalAccuracy", metrics.SparseCategoricalAccuracy),
    ],
)
def test_a_metric_has_names(name, kind):
    assert isinstance(metrics.get(name), kind)


@claim(f"{BASE}::test_get_method")
def test_no_metric_stays_none():
    assert metrics.get(None) is None


@claim(f"{BASE}::test_get_method")
def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="typo"):
        metrics.get("typo")


@claim(f"{COMPILED}::test_name_conversions")
@pytest.mark.parametrize("name", ["acc", "accuracy"])
def test_a_metric_is_logged_under_the_name_that_was_given(name):
    model = small_classifier()
    model.compile(metrics=[name])
    found = model.evaluate(features(4), classes(4), verbose=0, return_dict=True)
    assert sorted(found) == sorted(["loss", name])


@claim(f"{COMPILED}::test_custom_metric_function")
def test_a_metric_may_be_a_function():
    def rate_of_firsts(y_true, y_pred):
        return float((np.asarray(y_pred).argmax(-1) == 0).mean())

    model = small_classifier()
    model.compile(metrics=[rate_of_firsts])
    found = model.evaluate(features(4), classes(4), verbose=0, return_dict=True)
    assert found["rate_of_firsts"] == pytest.approx((model.predict(features(4), verbose=0).argmax(-1) == 0).mean())


@claim(f"{COMPILED}::test_single_output_case")
@pytest.mark.parametrize("weights", [[1.0, 1, 0, 0], [2.0, 1, 1, 3]])
def test_metrics_leave_weights_out_and_weighted_metrics_take_them(weights):
    model = small_classifier()
    model.compile(metrics=["accuracy"], weighted_metrics=["sparse_categorical_accuracy"])
    x, y = features(4), classes(4)
    is_right = model.predict(x, verbose=0).argmax(-1) == y
    found = model.evaluate(x, y, sample_weight=np.array(weights), verbose=0, return_dict=True)
    assert found["accuracy"] == pytest.approx(is_right.mean())
    assert found["sparse_categorical_accuracy"] == pytest.approx(np.average(is_right, weights=weights))
