"""One update's gradients, and the finding of the op that broke."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import gradients_of, random_batch, random_params, small_config
from strategies import seeds

from pyroberta.data.examples import numbered
from pyroberta.model.batch import Batch, take
from pyroberta.ops import REFERENCE, Ops
from pyroberta.training import losses
from pyroberta.training.optimizers import Adam
from pyroberta.training.state import TrainState
from pyroberta.training.step import NonFiniteError, Trained, compute_gradients, evaluate_step

CONFIG = small_config(dropout=0.0)
REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum")


def weighted_batch(seed: int, masked_share: float = 0.5) -> Batch:
    batch = random_batch(CONFIG, [3, 1, 7, 0, 4], seed, masked_share)
    rng = np.random.default_rng(seed)
    return Batch(**{**vars(batch), "weights": rng.random(len(batch.target_rows)) + 0.1, "slots": 20})


def gradients(
    params, batches, reduction="mean_with_sample_weight", trainable=None, ops: Ops = REFERENCE, config=CONFIG
):
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    return gradients_of(params, config, batches, loss, trainable=trainable, ops=ops, step=4)


DROPPING = replace(small_config(dropout=0.1), lora_rank=2)
DROPPING_CLASSIFIER = small_config(dropout=0.1, num_classes=3, classifier_dropout=0.2, lora_rank=2)


@pytest.mark.parametrize("config", [CONFIG, DROPPING, DROPPING_CLASSIFIER], ids=["plain", "dropout", "classifier"])
@given(seed=seeds, cuts=st.lists(st.integers(0, 5), max_size=3), reduction=st.sampled_from(REDUCTIONS))
def test_parts_give_the_gradient_and_the_loss_of_the_whole(config, seed, cuts, reduction):
    """With dropout too: a sequence's masks follow from its number in the update, and not from the part it is in."""
    params, whole = random_params(config, seed), weighted_batch(seed)
    if config.num_classes:
        asked = np.flatnonzero(np.diff(whole.starts))
        labels, weights = asked % 3, np.linspace(0.1, 1.0, len(asked))
        whole = replace(
            whole, target_rows=whole.starts[asked], labels=labels.astype(np.int32), weights=weights, slots=5
        )
    bounds = [0, *sorted(cuts), 5]
    parts = numbered([take(whole, np.arange(a, b)) for a, b in itertools.pairwise(bounds)])
    expected, (one,) = gradients(params, [whole], reduction, config=config)
    found, several = gradients(params, parts, reduction, config=config)
    np.testing.assert_allclose(found.flat, expected.flat, rtol=0, atol=1e-12 * max(1, np.abs(expected.flat).max()))
    assert sum(part.denominator for part in several) == pytest.approx(one.denominator, rel=1e-12)
    assert sum(part.weights @ part.losses for part in several) == pytest.approx(one.weights @ one.losses, rel=1e-12)


def test_earlier_sums_are_forgotten():
    params, batch = random_params(CONFIG, 0), weighted_batch(0)
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    model = Trained(REFERENCE, CONFIG, loss, Adam(), list(params), params.zeros_like())
    compute_gradients(model, TrainState(params, {}), [batch])
    first = model.sums.flat.copy()
    compute_gradients(model, TrainState(params, {}), [batch])
    assert (model.sums.flat == first).all()


def test_a_batch_with_nothing_masked_has_a_gradient_of_zero():
    params = random_params(CONFIG, 0)
    for reduction in REDUCTIONS:
        found, (result,) = gradients(params, [random_batch(CONFIG, [3, 2], 0, masked_share=0.0)], reduction)
        assert not found.flat.any()
        assert len(result.losses) == 0


def test_dropout_changes_from_sequence_to_sequence_and_is_left_out_in_evaluation():
    config = small_config(dropout=0.5)
    params, batch = random_params(config, 0), weighted_batch(0)
    _, (one, again, other) = gradients(params, [batch, batch, numbered([batch, batch])[1]], config=config)
    assert (one.losses == again.losses).all()
    assert (one.losses != other.losses).any()
    evaluated = evaluate_step(REFERENCE, params, config, batch, losses.SparseCategoricalCrossentropy())
    plain = evaluate_step(REFERENCE, params, CONFIG, batch, losses.SparseCategoricalCrossentropy())
    assert (evaluated.losses == plain.losses).all()


def broken(row: str, call: int, which: int = 0) -> Ops:
    """A table in which one call of one op gives a NaN."""
    calls = 0

    def wrap(name, op):
        def wrapped(*args):
            nonlocal calls
            result = op(*args)
            if name == row:
                calls += 1
                if (calls - 1) % period == call:
                    value = result[0] if name.endswith("_forward") else result
                    value = value[which] if isinstance(value, tuple) else value
                    value.flat[0] = np.nan
            return result

        return wrapped

    period = {"linear_forward": 9, "linear_backward": 9, "gelu_backward": 1, "add_norm_backward": 4}.get(row, 2)
    return REFERENCE.wrapped(wrap)


@pytest.mark.parametrize(
    ("row", "call", "message"),
    [
        ("linear_forward", 4, "the loss of step 5 .* is linear_forward with layers.1.attention.key.kernel"),
        ("attention_forward", 1, "is attention_forward after layers.1.attention.query.kernel"),
        ("feed_forward_backward", 0, "the gradient of step 5 .* is feed_forward_backward with layers.1.feed_f"),
        ("gelu_backward", 0, "is gelu_backward after head.dense.kernel"),
        ("add_norm_backward", 3, "is add_norm_backward with layers.0.attention.norm.gamma"),
        ("linear_backward", 0, "is linear_backward with head.dense.kernel"),
        ("layer_norm_backward", 1, "is layer_norm_backward with embeddings.norm.gamma"),
        ("attention_backward", 0, "is attention_backward after layers.1.attention.query.kernel"),
    ],
)  # fmt: skip
def test_the_op_that_broke_is_named_with_its_place(row: str, call: int, message: str):
    params, batch = random_params(CONFIG, 0), weighted_batch(0, masked_share=1.0)
    with pytest.raises(NonFiniteError, match=message):
        gradients(params, [batch], ops=broken(row, call))


def test_large_but_finite_gradients_are_no_error():
    """Their sum of squares overflows float32."""
    params = random_params(CONFIG, 0, np.float32)
    batch = weighted_batch(0)
    loud = Batch(**{**vars(batch), "weights": batch.weights * 1e25})
    found, _ = gradients(params, [loud], "sum")
    assert np.isfinite(found.flat).all()
    assert np.abs(found.flat).max() > 1e20


def test_parameters_that_are_not_finite_are_named_first():
    params, batch = random_params(CONFIG, 0), weighted_batch(0)
    for name in list(params)[2:7]:
        params[name].flat[0] = np.inf
    with pytest.raises(NonFiniteError, match=r"these parameters are not: embeddings\.norm\.gamma, .* and 2 more"):
        gradients(params, [batch])
