"""Equal to KerasHub, by tensors it computed in float64: `golden/make_keras_golden.py` tells how they were made."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy import ndarray as Array
from small_models import gradients_of, small_masked_lm

from pyroberta.model.batch import Batch, pack_padded, slot_rows, unpack
from pyroberta.model.config import RobertaConfig
from pyroberta.model.encoder import encoder_forward
from pyroberta.model.initial_values import initialise
from pyroberta.model.model import model_logits
from pyroberta.model.parameters import Arrays, shapes
from pyroberta.ops import REFERENCE
from pyroberta.training import metrics, optimizers
from pyroberta.training.losses import SparseCategoricalCrossentropy
from pyroberta.training.step import Result

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "keras_tiny.npz"))
CONFIG = RobertaConfig(**json.loads(str(GOLDEN["config"])))
RUNS = sorted(name.removesuffix("/optimizer") for name in GOLDEN if name.endswith("/optimizer"))
REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight")

# Tolerances, relative; beside them what was measured.
FLOAT64 = 1e-13  # 2e-15
FLOAT32 = 1e-5  # 1e-6
MOVES = 1e-10  # 2e-12: how far three steps moved the weights

# Keras's variable paths, as our names; `#` is the layer's number.
NAMES = {
    "embeddings/token_embedding/embeddings": "embeddings.token",
    "embeddings/position_embedding/embeddings": "embeddings.position",
    "embeddings_layer_norm": "embeddings.norm",
    "transformer_layer_#/self_attention_layer/query": "layers.#.attention.query",
    "transformer_layer_#/self_attention_layer/key": "layers.#.attention.key",
    "transformer_layer_#/self_attention_layer/value": "layers.#.attention.value",
    "transformer_layer_#/self_attention_layer/attention_output": "layers.#.attention.output",
    "transformer_layer_#/self_attention_layer_norm": "layers.#.attention.norm",
    "transformer_layer_#/feedforward_intermediate_dense": "layers.#.feed_forward.intermediate",
    "transformer_layer_#/feedforward_output_dense": "layers.#.feed_forward.output",
    "transformer_layer_#/feedforward_layer_norm": "layers.#.feed_forward.norm",
    "mlm_head/intermediate_dense": "head.dense",
    "mlm_head/intermediate_layer_norm": "head.norm",
    "mlm_head/output_bias": "head.bias",
}


def our_name(path: str) -> str:
    """transformer_layer_1/feedforward_output_dense/bias -> layers.1.feed_forward.output.bias."""
    number = re.search(r"(?<=transformer_layer_)\d+", path)
    path = re.sub(r"(?<=transformer_layer_)\d+", "#", path)
    stem, _, last = path.rpartition("/")
    name = NAMES[path] if path in NAMES else f"{NAMES[stem]}.{last}"
    return name.replace("#", number[0]) if number else name


def recorded(key: str) -> Arrays:
    """A vector of Keras's, laid out as ours. Its (C, H, D) and (H, D, C) kernels are (C, C) here: the axes joined."""
    arrays = Arrays(shapes(CONFIG), np.float64)
    variables = json.loads(str(GOLDEN["variables"]))
    assert {our_name(path) for path, _ in variables} == arrays.keys()
    stops = np.cumsum([math.prod(shape) for _, shape in variables])
    for (path, _), values in zip(variables, np.split(GOLDEN[key], stops[:-1]), strict=True):
        arrays[our_name(path)].reshape(-1)[:] = values
    return arrays


@pytest.fixture
def weights() -> Arrays:
    return recorded("w0")


@pytest.fixture(scope="module")
def batch() -> Batch:
    features = (GOLDEN[name] for name in ("token_ids", "padding_mask", "mask_positions", "y", "sample_weight"))
    return pack_padded(
        *features, vocabulary_size=CONFIG.vocabulary_size, max_sequence_length=CONFIG.max_sequence_length
    )


def step(params: Arrays, batch: Batch, reduction: str = "sum_over_batch_size") -> tuple[Arrays, Result]:
    """Gradients and losses of one step under a reduction; Keras's default unless another is named."""
    loss = SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)  # type: ignore[arg-type]
    sums, (result,) = gradients_of(params, CONFIG, [batch], loss)
    return sums, result


def value(result: Result) -> float:
    return float(result.weights @ result.losses) / result.denominator


def error(ours: Array, theirs: Array, scale: Array | None = None) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs if scale is None else scale))


def scale_of(name: str, arrays: Arrays) -> Array:
    """What a tensor's error is measured by: itself, but for the keys' bias, whose exact gradient is 0.

    Moving all keys by one vector adds one number to a whole row of scores, and softmax does not see it. Only rounding
    is left there, to be measured by the queries' bias.
    """
    return arrays[name.replace("key.bias", "query.bias")]


def test_every_recorded_weight_has_a_place_and_none_is_at_its_initial_value(weights: Arrays) -> None:
    assert all(np.abs(w).min() > 0.0 for w in weights.values())
    assert all(not np.any(w == 1.0) for name, w in weights.items() if name.endswith("gamma"))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, FLOAT64), (np.float32, FLOAT32)])
def test_hidden_states_are_keras_s_wherever_there_is_a_token(
    weights: Arrays, batch: Batch, dtype: type, tolerance: float
) -> None:
    hidden, _ = encoder_forward(REFERENCE, weights.astype(dtype), CONFIG, batch)
    is_token = GOLDEN["padding_mask"].astype(bool)
    assert hidden[-1].dtype == dtype
    assert error(unpack(hidden[-1], is_token)[is_token], GOLDEN["hidden"][is_token]) <= tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, FLOAT64), (np.float32, FLOAT32)])
def test_logits_are_keras_s_in_every_slot_that_points_at_a_token(
    weights: Arrays, batch: Batch, dtype: type, tolerance: float
) -> None:
    params = weights.astype(dtype)
    rows = slot_rows(GOLDEN["mask_positions"], GOLDEN["padding_mask"])  # (B, K)
    logits = model_logits(REFERENCE, params, CONFIG, batch, rows[rows >= 0])
    assert logits.dtype == dtype
    assert error(logits, GOLDEN["logits"][rows >= 0]) <= tolerance


def test_a_sequence_of_padding_alone_has_slots_but_no_rows(batch: Batch) -> None:
    assert not GOLDEN["padding_mask"][-1].any()
    assert batch.starts[-1] == batch.starts[-2]
    assert batch.slots == GOLDEN["y"].size


def test_token_losses_are_keras_s(weights: Arrays, batch: Batch) -> None:
    _, result = step(weights, batch)
    is_used = GOLDEN["sample_weight"] > 0
    assert error(result.weights * result.losses, GOLDEN["loss/none"][is_used]) <= FLOAT64
    assert not GOLDEN["loss/none"][~is_used].any()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_loss_of_a_packed_step_is_keras_s_under_every_reduction(
    weights: Arrays, batch: Batch, reduction: str
) -> None:
    _, result = step(weights, batch, reduction)
    assert abs(value(result) / GOLDEN[f"loss/{reduction}"] - 1.0) <= FLOAT64


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_loss_function_on_padded_logits_is_keras_s(reduction: str) -> None:
    loss = SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)  # type: ignore[arg-type]
    ours = loss(GOLDEN["y"], GOLDEN["logits"], GOLDEN["sample_weight"])
    assert abs(ours / GOLDEN[f"loss/{reduction}"] - 1.0) <= FLOAT64


def test_weighted_accuracy_is_keras_s(weights: Arrays, batch: Batch) -> None:
    _, result = step(weights, batch)
    accuracy = metrics.SparseCategoricalAccuracy()
    accuracy.update(result.losses, result.predicted, result.labels, result.weights, result.denominator)
    assert 0.0 < accuracy.result() < 1.0
    assert abs(accuracy.result() - GOLDEN["accuracy"]) <= FLOAT64


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, FLOAT64), (np.float32, FLOAT32)])
def test_every_gradient_of_the_default_loss_is_keras_s(
    weights: Arrays, batch: Batch, dtype: type, tolerance: float
) -> None:
    grads, _ = step(weights.astype(dtype), batch)
    theirs = recorded("g")
    assert grads.dtype == dtype
    for name in theirs:
        assert error(grads[name], theirs[name], scale_of(name, theirs)) <= tolerance, name


def test_the_pad_row_of_the_tied_table_has_a_gradient_though_no_token_is_padding(weights: Arrays, batch: Batch) -> None:
    grads, _ = step(weights, batch)
    assert CONFIG.pad_id not in batch.ids
    assert np.abs(grads["embeddings.token"][CONFIG.pad_id]).min() > 0.0


def train(params: Arrays, batch: Batch, optimizer: optimizers.Adam, steps: int = 3) -> list[float]:
    losses = []
    for _ in range(steps):
        grads, result = step(params, batch)
        losses.append(value(result))
        optimizer.apply(params, grads, set(params), REFERENCE)
    return losses


@pytest.mark.parametrize("run", RUNS)
def test_three_steps_of_keras_s_optimizers_lead_to_keras_s_weights(weights: Arrays, batch: Batch, run: str) -> None:
    recipe = json.loads(str(GOLDEN[f"{run}/optimizer"]))
    optimizer = getattr(optimizers, recipe["class"])(**recipe["arguments"])
    if recipe["excluded"]:
        optimizer.exclude_from_weight_decay(var_names=recipe["excluded"])
    before, after = recorded("w0"), recorded(f"{run}/w3")
    losses = train(weights, batch, optimizer)
    assert np.abs(losses / GOLDEN[f"{run}/losses"] - 1.0).max() <= FLOAT64
    for arrays in (weights, after):
        arrays.flat[:] -= before.flat  # the moves alone: small against the weights
    for name in after:
        assert error(weights[name], after[name], scale_of(name, after)) <= MOVES, name


def test_the_adam_of_auto_is_the_one_that_keras_hub_compiles(weights: Arrays, batch: Batch) -> None:
    masked_lm = small_masked_lm()
    masked_lm.compile()
    train(weights, batch, masked_lm.optimizer)
    assert error(weights.flat, recorded("adam_default/w3").flat) <= FLOAT64


def test_torch_s_adam_would_not_pass_for_keras_s(weights: Arrays, batch: Batch) -> None:
    """The recording is sharp enough to tell on which root ε stands."""
    train(weights, batch, optimizers.TorchAdam(1e-2, epsilon=1e-7))
    before, after = recorded("w0"), recorded("adam/w3")
    assert error(weights.flat - before.flat, after.flat - before.flat) > 1e-6


def test_fresh_values_have_the_statistics_of_keras_s_truncated_normal() -> None:
    config = replace(CONFIG, vocabulary_size=10_000, hidden_dim=96)
    params = Arrays(shapes(config), np.float64)
    initialise(params, config, "keras", seed=1)
    table = params["embeddings.token"]
    mean, deviation, *_ = GOLDEN["truncated_normal"]
    # Six standard errors: of a mean σ/√n, of a deviation at most σ/√(2n); Keras drew 10⁶ values, this is 0.96 · 10⁶.
    assert abs(table.mean() - mean) <= 6 * deviation / 1000 * np.sqrt(2.05)
    assert abs(table.std() - deviation) <= 6 * deviation / 1000 * np.sqrt(2.05 / 2)
    assert -0.04 <= table.min() <= -0.0399
    assert 0.0399 <= table.max() <= 0.04
