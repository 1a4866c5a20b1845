"""Keras's claims about sparse categorical cross-entropy, and about losses in general."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from claims import claim, classes, differs, features, small_classifier

from pyroberta import losses
from pyroberta.losses import SparseCategoricalCrossentropy

FILE = "keras/src/losses/losses_test.py::SparseCategoricalCrossentropyTest"
COMPILED = "keras/src/trainers/compile_utils_test.py::TestCompileLoss"
BASE = "keras/src/losses/loss_test.py::LossTest"

# What Keras's tests expect of these, with 3 digits.
PROBABILITIES = np.array([[0.9, 0.05, 0.05], [0.5, 0.89, 0.6], [0.05, 0.01, 0.94]], "float32")
LOGITS = np.array([[8.0, 1.0, 1.0], [0.0, 9.0, 1.0], [2.0, 3.0, 5.0]])
LABELS = np.array([[0], [1], [2]])
EACH = (0.001822, 0.000459, 0.169846)  # of the logits


@claim(f"{FILE}::test_config")
def test_a_loss_is_made_again_of_its_config():
    loss = SparseCategoricalCrossentropy(name="scce", from_logits=True, ignore_class=-1)
    again = SparseCategoricalCrossentropy.from_config(loss.get_config())
    assert again.name == "scce"
    assert again.get_config() == loss.get_config()


@claim(f"{FILE}::test_all_correct_unweighted")
@pytest.mark.parametrize(("predicted", "from_logits"), [(np.eye(3, dtype="float32"), False), (10.0 * np.eye(3), True)])
def test_what_is_right_costs_nothing(predicted, from_logits):
    assert SparseCategoricalCrossentropy(from_logits)(LABELS, predicted) == pytest.approx(0.0, abs=1.5e-3)


@claim(f"{FILE}::test_unweighted")
@pytest.mark.parametrize(
    ("predicted", "from_logits", "expected"), [(PROBABILITIES, False, 0.3239), (LOGITS, True, 0.0573)]
)
def test_the_loss_is_the_mean(predicted, from_logits, expected):
    assert SparseCategoricalCrossentropy(from_logits)([0, 1, 2], predicted) == pytest.approx(expected, abs=1e-3)


@claim(f"{FILE}::test_scalar_weighted")
@pytest.mark.parametrize(
    ("predicted", "from_logits", "expected"), [(PROBABILITIES, False, 0.7449), (LOGITS, True, 0.1317)]
)
def test_a_weight_may_be_a_number(predicted, from_logits, expected):
    loss = SparseCategoricalCrossentropy(from_logits)
    assert loss(LABELS, predicted, sample_weight=2.3) == pytest.approx(expected, abs=1e-3)


@claim(f"{FILE}::test_sample_weighted")
@pytest.mark.parametrize(
    ("predicted", "from_logits", "expected"), [(PROBABILITIES, False, 1.0696), (LOGITS, True, 0.31829)]
)
@pytest.mark.parametrize("shape", [(3, 1), (3,)])
def test_each_label_may_have_a_weight(predicted, from_logits, expected, shape):
    weights = np.array([1.2, 3.4, 5.6]).reshape(shape)
    loss = SparseCategoricalCrossentropy(from_logits)(LABELS, predicted, sample_weight=weights)
    assert loss == pytest.approx(expected, abs=1e-3)


@claim(f"{FILE}::test_no_reduction")
@pytest.mark.parametrize("reduction", [None, "none"])
def test_without_a_reduction_each_label_has_its_loss(reduction):
    loss = SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)(LABELS, LOGITS)
    np.testing.assert_allclose(loss, EACH, atol=1e-6)


@claim(f"{FILE}::test_ignore_class")
@pytest.mark.parametrize("labels", [[[-1, 2]], [[[-1], [2]]]])
def test_an_ignored_class_costs_nothing(labels):
    logits = np.array([[[0.854, 0.698, 0.598], [0.088, 0.86, 0.018]]])
    loss = SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1, reduction=None)
    np.testing.assert_allclose(loss(np.array(labels), logits), [[0.0, 1.480129]], atol=1e-6)


def of_a_picture(labels, wrong, num_classes):
    """Probabilities (4, 4, V) that are right but where `wrong` says otherwise."""
    probabilities = np.eye(num_classes)[labels]
    for place, values in wrong.items():
        probabilities[place] = values
    return probabilities


@claim(f"{FILE}::test_binary_segmentation")
@pytest.mark.parametrize("wrong", [{}, {(0, 3): [0.2, 0.8], (3, 2): [0.6, 0.4]}])
def test_labels_may_have_more_axes(wrong):
    labels = np.array([[0, 1, 1, 0], [1, 0, 1, 0], [0, 0, 1, 1], [1, 1, 0, 1]])
    probabilities = of_a_picture(labels, wrong, 2)
    expected = sum(-np.log(values[labels[place]]) for place, values in wrong.items()) / 16
    assert SparseCategoricalCrossentropy()(labels, probabilities) == pytest.approx(expected, abs=1e-6)


@claim(f"{FILE}::test_multi_class_segmentation")
@pytest.mark.parametrize("wrong", [{}, {(0, 3): [0.2, 0, 0.8], (1, 0): [0.7, 0.3, 0], (3, 2): [0.5, 0.5, 0]}])
def test_labels_may_have_more_axes_and_classes(wrong):
    labels = np.array([[0, 1, 2, 0], [1, 0, 1, 0], [0, 0, 1, 1], [1, 1, 0, 1]])
    probabilities = of_a_picture(labels, wrong, 3)
    expected = sum(-np.log(values[labels[place]]) for place, values in wrong.items()) / 16
    assert SparseCategoricalCrossentropy()(labels, probabilities) == pytest.approx(expected, abs=1e-6)


@claim(f"{BASE}::test_reduction")
@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        (None, EACH),
        ("sum", sum(EACH)),
        ("sum_over_batch_size", sum(EACH) / 3),
        ("mean", sum(EACH) / 3),
        ("mean_with_sample_weight", sum(EACH) / 3),
    ],
)
def test_reductions(reduction, expected):
    loss = SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)(LABELS, LOGITS)
    np.testing.assert_allclose(loss, expected, atol=2e-6)


@claim(f"{BASE}::test_reduction")
def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="reduction"):
        SparseCategoricalCrossentropy(reduction="abc")


@claim(f"{BASE}::test_sample_weight")
@pytest.mark.parametrize("weights", [[0.4, 0.3, 0.2], [0.0, 0.0, 0.0]])
@pytest.mark.parametrize("reduction", ["mean", "mean_with_sample_weight"])
def test_weights_that_are_all_0_give_0(weights, reduction):
    loss = SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    count = 3 if reduction == "mean" else sum(weights)
    expected = np.dot(weights, EACH) / count if count else 0.0
    assert loss(LABELS, LOGITS, sample_weight=weights) == pytest.approx(expected, abs=1e-6)


@claim(f"{BASE}::test_mask_and_sample_weight_rank2")
def test_rows_that_are_repeated_change_no_mean():
    loss, weights = SparseCategoricalCrossentropy(from_logits=True), np.array([0.4, 0.3, 0.2])
    once = loss(LABELS[:, 0], LOGITS, sample_weight=weights)
    twice = loss(np.tile(LABELS[:, 0], (2, 1)), np.tile(LOGITS, (2, 1, 1)), sample_weight=np.tile(weights, (2, 1)))
    assert twice == pytest.approx(once)


@claim(f"{BASE}::test_rank_adjustment", f"{BASE}::test_squeeze_or_expand")
@pytest.mark.parametrize(
    ("labels", "weights"), [((3,), (3,)), ((3, 1), (3,)), ((3,), (3, 1)), ((3, 1), (3, 1)), ((3, 1), ())]
)
def test_an_axis_of_1_is_left_out(labels, weights):
    loss = SparseCategoricalCrossentropy(from_logits=True)
    given = np.full(weights, 0.5)
    assert loss(LABELS.reshape(labels), LOGITS, sample_weight=given) == pytest.approx(sum(EACH) / 6, abs=1e-6)


@claim(f"{BASE}::test_mixed_dtypes")
@pytest.mark.parametrize("kind", ["int32", "int64", "float32"])
def test_dtypes_may_differ(kind):
    loss = SparseCategoricalCrossentropy(from_logits=True)
    found = loss(LABELS.astype(kind), LOGITS.astype("float32"), sample_weight=np.full(3, 0.5, "float64"))
    assert found == pytest.approx(sum(EACH) / 6, abs=1e-6)


@claim(f"{BASE}::test_default_dtype")
@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_the_loss_of_few_digits_is_float32(kind):
    assert losses.sparse_categorical_crossentropy(LABELS, LOGITS.astype(kind), True).dtype == "float32"


@claim(f"{BASE}::test_pickle")
def test_a_loss_is_pickled():
    loss = SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    again = pickle.loads(pickle.dumps(loss))
    assert again.get_config() == loss.get_config()
    assert again(LABELS, LOGITS) == loss(LABELS, LOGITS)


@claim(f"{BASE}::test_get_method")
@pytest.mark.parametrize("name", ["sparse_categorical_crossentropy", "SparseCategoricalCrossentropy"])
def test_a_loss_has_a_name(name):
    assert isinstance(losses.get(name), SparseCategoricalCrossentropy)


@claim(f"{BASE}::test_get_method")
def test_no_loss_stays_none():
    assert losses.get(None) is None


@claim(f"{BASE}::test_get_method")
def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="typo"):
        losses.get("typo")


@claim(f"{COMPILED}::test_single_output_case_with_crossentropy_loss", f"{COMPILED}::test_single_output_case")
def test_a_model_takes_a_losss_name():
    model = small_classifier()
    model.compile(loss="sparse_categorical_crossentropy")
    assert isinstance(model.evaluate(features(4), classes(4), verbose=0, return_dict=True)["loss"], float)


# Labels, and the places of a picture where not all probability is at the label, with what stands there.
PICTURES = {
    "test_binary_segmentation_different_axis": (
        [[0, 1, 1, 0], [1, 0, 1, 0], [0, 0, 1, 1], [1, 1, 0, 1]],
        {(0, 3): [0.2, 0.8], (3, 2): [0.6, 0.4]},
    ),
    "test_multi_class_segmentation_different_axis": (
        [[0, 1, 2, 0], [1, 0, 1, 0], [0, 0, 1, 1], [1, 1, 0, 1]],
        {(0, 3): [0.2, 0, 0.8], (1, 0): [0.7, 0.3, 0], (3, 2): [0.5, 0.5, 0]},
    ),
}


@claim(*(f"{FILE}::{name}" for name in PICTURES))
@pytest.mark.parametrize("copies", [0, 3])
@pytest.mark.parametrize("is_wrong", [False, True])
@pytest.mark.parametrize("name", list(PICTURES))
def test_classes_may_stand_first_or_second(name, is_wrong, copies):
    labels, wrong = np.array(PICTURES[name][0]), PICTURES[name][1] if is_wrong else {}
    probabilities = np.moveaxis(of_a_picture(labels, wrong, labels.max() + 1), 2, 0)
    expected = sum(-np.log(values[labels[place]]) for place, values in wrong.items()) / 16
    if copies:
        labels, probabilities = np.array([labels] * copies), np.array([probabilities] * copies)
    loss = SparseCategoricalCrossentropy(axis=1 if copies else 0)
    assert loss(labels, probabilities) == pytest.approx(expected, abs=1e-6)


@claim(f"{FILE}::test_squeezes_singleton_class_dim_on_user_axis")
def test_an_axis_of_1_is_left_out_where_the_classes_stand():
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 2, (2, 1, 4, 4)).astype("float32"), rng.random((2, 2, 4, 4), "float32")
    assert losses.sparse_categorical_crossentropy(labels, probabilities, axis=1).shape == (2, 4, 4)


class Policy:
    """What Keras's `DTypePolicy` is, as far as a loss reads it."""

    def __init__(self, compute_dtype):
        self.compute_dtype = compute_dtype


@claim(f"{BASE}::test_dtype_arg")
@pytest.mark.parametrize("dtype", ["float16", Policy("float16")])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", None])
def test_a_loss_has_the_dtype_that_it_is_made_with(dtype, reduction):
    loss = SparseCategoricalCrossentropy(True, reduction=reduction, dtype=dtype)
    assert loss(LABELS, LOGITS).dtype == "float16"


@claim(f"{BASE}::test_dtype_arg")
def test_the_dtype_of_a_loss_stays():
    with pytest.raises(AttributeError, match="dtype"):
        SparseCategoricalCrossentropy(dtype="float16").dtype = "float32"


@differs(f"{FILE}::test_dtype_arg")
def test_a_loss_has_a_dtype_of_numpys():
    assert losses.sparse_categorical_crossentropy(LABELS, LOGITS, True).dtype == "float64"
    assert losses.sparse_categorical_crossentropy(LABELS, LOGITS.astype("float32"), True).dtype == "float32"
    with pytest.raises(ValueError, match="dtype must be None or one of float16, float32, float64"):
        SparseCategoricalCrossentropy(dtype="bfloat16")
