"""The loss: its values on arrays, Keras's reductions, bad input, configs and Keras's objects."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import small_classifier, small_masked_lm

from pyroberta import losses
from pyroberta.training.losses import SparseCategoricalCrossentropy, log_softmax, sparse_categorical_crossentropy

ALL_REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum")


def draw(seed: int, B: int = 3, K: int = 4, V: int = 7, scale: float = 3.0):
    rng = np.random.default_rng(seed)
    logits = scale * rng.standard_normal((B, K, V))
    return rng.integers(0, V, (B, K)), logits, rng.random((B, K)) * rng.integers(0, 2, (B, K))


def plain(labels, logits):
    """Each loss by the definition, one by one."""
    return np.array(
        [
            [math.log(sum(math.exp(z - row[y]) for z in row)) for y, row in zip(ys, rows, strict=True)]
            for ys, rows in zip(labels, logits, strict=True)
        ]
    )


@given(seed=st.integers(0, 2**32), B=st.integers(1, 4), K=st.integers(1, 5), V=st.integers(1, 9))
def test_each_value_is_the_definitions(seed, B, K, V):
    labels, logits, _ = draw(seed, B, K, V)
    np.testing.assert_allclose(
        sparse_categorical_crossentropy(labels, logits, from_logits=True), plain(labels, logits), rtol=1e-12, atol=1e-13
    )


@given(seed=st.integers(0, 2**32), shift=st.floats(-1e6, 1e6), scale=st.floats(1e-3, 1e4))
def test_log_softmax_sums_to_one_and_ignores_a_shift_without_overflow(seed, shift, scale):
    x = scale * np.random.default_rng(seed).standard_normal((3, 11))
    y = log_softmax(x)
    np.testing.assert_allclose(np.exp(y).sum(axis=-1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(log_softmax(x + shift), y, rtol=1e-12, atol=1e-8)
    assert log_softmax(x.astype(np.float32)).dtype == np.float32


def test_a_hopeless_prediction_costs_its_logit_and_not_infinity():
    logits = np.array([[0.0, 1e30], [1e30, 0.0]], np.float32)
    np.testing.assert_array_equal(
        sparse_categorical_crossentropy([0, 0], logits, from_logits=True), np.array([1e30, 0.0], np.float32)
    )


@given(seed=st.integers(0, 2**32))
def test_reductions_divide_by_what_the_table_says(seed):
    labels, logits, weights = draw(seed)
    total = float((plain(labels, logits) * weights).sum())
    by = {"sum_over_batch_size": 12, "mean": 12, "mean_with_sample_weight": weights.sum(), "sum": 1}
    for reduction, denominator in by.items():
        loss = SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
        expected = total / denominator if denominator else 0.0
        assert loss(labels, logits, weights) == pytest.approx(expected, rel=1e-12)
        assert loss.denominator(float(weights.sum()), 12) == pytest.approx(denominator)
    unreduced = SparseCategoricalCrossentropy(from_logits=True, reduction=None)(labels, logits, weights)
    np.testing.assert_allclose(unreduced, plain(labels, logits) * weights, rtol=1e-11, atol=1e-13)


@given(seed=st.integers(0, 2**32))
def test_without_weights_all_three_means_are_one(seed):
    labels, logits, _ = draw(seed)
    values = {
        SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)(labels, logits)
        for reduction in ("sum_over_batch_size", "mean", "mean_with_sample_weight")
    }
    assert len(values) == 1


@pytest.mark.parametrize("reduction", ALL_REDUCTIONS)
def test_no_weight_at_all_gives_zero(reduction):
    labels, logits, _ = draw(0)
    loss = SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    assert loss(labels, logits, np.zeros((3, 4))) == 0.0
    assert loss(np.zeros((0, 4), int), np.zeros((0, 4, 7))) == 0.0


@pytest.mark.parametrize("reduction", ALL_REDUCTIONS)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_an_ignored_class_is_as_if_it_were_not_there(reduction, seed, data):
    labels, logits, weights = draw(seed)
    is_ignored = np.array(data.draw(st.lists(st.booleans(), min_size=12, max_size=12))).reshape(3, 4)
    marked = np.where(is_ignored, -100, labels)
    ignoring = SparseCategoricalCrossentropy(from_logits=True, reduction=reduction, ignore_class=-100)
    plain_loss = SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    kept = ~is_ignored
    expected = plain_loss(labels[kept], logits[kept], weights[kept])
    assert ignoring(marked, logits, weights) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@given(seed=st.integers(0, 2**32))
def test_probabilities_give_the_loss_of_their_logits(seed):
    labels, logits, weights = draw(seed, scale=1.0)
    probabilities = 5.0 * np.exp(log_softmax(logits))  # their sum is divided out
    from_logits = SparseCategoricalCrossentropy(from_logits=True)(labels, logits, weights)
    assert SparseCategoricalCrossentropy()(labels, probabilities, weights) == pytest.approx(from_logits, rel=1e-9)


def test_probabilities_are_clipped_as_keras_does():
    got = sparse_categorical_crossentropy([0, 1], np.array([[0.0, 1.0], [0.0, 1.0]]))
    np.testing.assert_allclose(got, [-math.log(1e-7), -math.log1p(-1e-7)], rtol=1e-9)


def test_keras_own_examples():
    """The figures in the docstring of keras.losses.SparseCategoricalCrossentropy."""
    labels, probabilities = np.array([1, 2]), np.array([[0.05, 0.95, 0], [0.1, 0.8, 0.1]])
    assert SparseCategoricalCrossentropy()(labels, probabilities) == pytest.approx(1.177, abs=5e-4)
    assert SparseCategoricalCrossentropy()(labels, probabilities, np.array([0.3, 0.7])) == pytest.approx(
        0.814, abs=5e-4
    )
    assert SparseCategoricalCrossentropy(reduction="sum")(labels, probabilities) == pytest.approx(2.354, abs=5e-4)
    unreduced = SparseCategoricalCrossentropy(reduction=None)(labels, probabilities)
    np.testing.assert_allclose(unreduced, [0.0513, 2.303], atol=5e-4)


def test_weights_per_sequence_count_for_each_of_its_slots():
    labels, logits, _ = draw(1)
    loss = SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    per_sequence = np.array([1.0, 0.0, 2.0])
    full = np.repeat(per_sequence[:, None], 4, axis=1)
    assert loss(labels, logits, per_sequence) == loss(labels, logits, full)
    assert loss(labels, logits, per_sequence[:, None]) == loss(labels, logits, full)


def test_labels_may_have_a_last_axis_of_one_and_come_as_lists_or_floats():
    labels, logits, _ = draw(2)
    loss = SparseCategoricalCrossentropy(from_logits=True)
    expected = loss(labels, logits)
    assert loss(labels[..., None], logits) == expected
    assert loss(labels.astype(float), logits) == expected
    assert loss(labels.tolist(), logits) == expected


@given(seed=st.integers(0, 2**32), axis=st.integers(-3, 2), from_logits=st.booleans())
def test_classes_may_stand_on_any_axis(seed, axis, from_logits):
    labels, logits, weights = draw(seed)
    values = logits if from_logits else np.exp(logits)
    moved = np.moveaxis(values, -1, axis)
    each = sparse_categorical_crossentropy(labels, values, from_logits)
    for given_labels in (labels, np.expand_dims(labels, axis)):
        np.testing.assert_array_equal(
            sparse_categorical_crossentropy(given_labels, moved, from_logits, axis=axis), each
        )
        one, other = (
            SparseCategoricalCrossentropy(from_logits, ignore_class=1, axis=number)(some, array, weights)
            for number, some, array in ((-1, labels, values), (axis, given_labels, moved))
        )
        assert one == pytest.approx(other, rel=1e-12)


@pytest.mark.parametrize("axis", [3, -4])
def test_an_axis_that_there_is_not_is_refused(axis):
    labels, logits, _ = draw(0)
    with pytest.raises(ValueError, match=rf"axis must be one of the 3 of y_pred, \(3, 4, 7\), got {axis}"):
        SparseCategoricalCrossentropy(axis=axis)(labels, logits)
    with pytest.raises(ValueError, match=r"y_pred without axis 0, \(4, 7\), got \(3, 4\)"):
        SparseCategoricalCrossentropy(axis=0)(labels, logits)


@pytest.mark.parametrize("reduction", ["sum", None])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", np.float16, np.dtype("float64")])
def test_a_dtype_is_the_results(dtype, reduction):
    labels, logits, weights = draw(4)
    exact = SparseCategoricalCrossentropy(True, reduction=reduction)(labels, logits, weights)
    found = SparseCategoricalCrossentropy(True, reduction=reduction, dtype=dtype)(labels, logits, weights)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_allclose(found, exact, rtol=4 * np.finfo(found.dtype).eps)


@pytest.mark.parametrize("dtype", ["bfloat16", "int32", np.int64, 16])
def test_another_dtype_is_refused(dtype):
    with pytest.raises(
        ValueError, match=r"dtype must be None or one of float16, float32, float64 \(dtypes of NumPy\); got"
    ):
        SparseCategoricalCrossentropy(dtype=dtype)


def test_a_model_is_not_compiled_with_what_is_for_arrays():
    model = small_masked_lm()
    for arguments, message in (
        ({"axis": 1}, "axis=1 applies to a loss that is called on arrays: the model has its classes on the last axis"),
        ({"axis": -2}, "axis=-2 applies to a loss that is called on arrays"),
        (
            {"dtype": "float32"},
            "dtype='float32' applies to a loss that is called on arrays: in training, losses have the model's dtype",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            model.compile(loss=SparseCategoricalCrossentropy(True, **arguments))
    model.compile(loss=SparseCategoricalCrossentropy(True, axis=2))  # the last, counted from the front
    model.loss.axis = 0
    with pytest.raises(ValueError, match="axis=0 applies to a loss that is called on arrays"):
        model.fit(["a cat"], verbose=0)


def test_wrong_arguments_are_named():
    labels, logits, _ = draw(3)
    loss = SparseCategoricalCrossentropy(from_logits=True)
    with pytest.raises(ValueError, match=r"reduction must be one of 'sum_over_batch_size'.*got 'average'"):
        SparseCategoricalCrossentropy(reduction="average")
    with pytest.raises(
        ValueError, match=r"y_true must have the shape of y_pred without its last axis, \(3, 4\), got \(2, 4\)"
    ):
        loss(labels[:2], logits)
    for arguments, message in (
        (([0], [[1j, 0.0]]), "y_pred must be real numbers, got complex128"),
        (([None], [[0.5, 0.5]]), "y_true must hold whole numbers"),
        (([0], [["a", "b"]]), "y_pred must be real numbers, got <U1"),
        ((["a"], [[0.5, 0.5]]), "y_true must be real numbers, got <U1"),
        (([0], [[0.5, 0.5]], ["a"]), "sample_weight must be real numbers, got <U1"),
    ):
        with pytest.raises(ValueError, match=message):
            loss(*arguments)
    labels[1, 2] = 7
    with pytest.raises(ValueError, match=r"label 7 at \(1, 2\) is outside the 7 classes"):
        loss(labels, logits)
    with pytest.raises(ValueError, match=r"sample_weight must have the shape of y_true, \(3, 4\), .* got \(4,\)"):
        loss(np.zeros((3, 4), int), logits, np.ones(4))
    with pytest.raises(ValueError, match="whole numbers"):
        loss(np.full((3, 4), 0.5), logits)
    with pytest.raises(ValueError, match="reduction=None gives one loss per token"):
        SparseCategoricalCrossentropy(reduction="none").denominator(np.ones(2), 4)
    with pytest.raises(
        ValueError, match="loss must be one of sparse_categorical_crossentropy or a loss object, got 'mse'"
    ):
        losses.get("mse")


@pytest.mark.parity
@given(seed=st.integers(0, 2**32))
def test_the_mean_with_an_ignored_class_is_torchs(seed):
    import torch

    labels, logits, _ = draw(seed)
    labels = labels.copy()
    labels[0] = -100
    theirs = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits).reshape(-1, 7), torch.from_numpy(labels).reshape(-1), ignore_index=-100
    )
    ours = SparseCategoricalCrossentropy(from_logits=True, ignore_class=-100)(labels, logits)
    assert ours == pytest.approx(theirs.item(), rel=1e-12)


live = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own


# --- by name, from configs and from Keras's objects -------------------------------------------------------------------


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
    model = small_classifier()
    for loss in (keras.losses.MeanSquaredError(), keras.losses.mean_squared_error):
        with pytest.raises(TypeError, match=r"can't be converted: .* Write loss=pyroberta\.losses\.SparseCat"):
            model.compile(loss=loss)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"))
    assert model.loss.reduction == "sum"
    model.compile("adam", keras.losses.sparse_categorical_crossentropy)  # as the name, for the model's outputs
    assert model.loss.from_logits
    with pytest.raises(ValueError, match="the model returns logits"):
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy())
