"""The model against transformers', live: logits, loss, every gradient, and ten steps of AdamW, on the same weights.

transformers runs eager attention with dropout off. Ours has no padding, theirs has it on a side drawn at random.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import ndarray as Array
from small_models import gradients_of
from small_presets import as_ours
from strategies import seeds

from pyroberta.model.batch import Batch, pack_padded
from pyroberta.model.config import RobertaConfig
from pyroberta.model.initial_values import initialise
from pyroberta.model.model import model_logits
from pyroberta.model.parameters import Arrays
from pyroberta.ops import REFERENCE
from pyroberta.presets import hf
from pyroberta.training.losses import SparseCategoricalCrossentropy
from pyroberta.training.optimizers import TorchAdamW

pytestmark = pytest.mark.parity

FLOAT64, FLOAT32, TEN_STEPS = 1e-9, 1e-4, 1e-8
FLOOR = 1e-5  # a gradient smaller than this part of the whole one is measured against that part

BASE = RobertaConfig(
    vocabulary_size=50265, num_layers=12, num_heads=12, hidden_dim=768, intermediate_dim=3072, dropout=0.0
)
SMALL = RobertaConfig(
    vocabulary_size=40,
    num_layers=2,
    num_heads=2,
    hidden_dim=12,
    intermediate_dim=20,
    dropout=0.0,
    max_sequence_length=16,
)


@st.composite
def configs(draw: st.DrawFn) -> RobertaConfig:
    # Of two columns a layer norm leaves ±1 whatever goes in: its gradient would be rounding alone.
    heads, head_dim = draw(st.integers(1, 4)), draw(st.integers(4, 7))
    return RobertaConfig(
        vocabulary_size=draw(st.integers(6, 60)),
        num_layers=draw(st.integers(1, 4)),
        num_heads=heads,
        hidden_dim=heads * head_dim,
        intermediate_dim=draw(st.integers(1, 24)),
        dropout=0.0,
        max_sequence_length=draw(st.integers(8, 12)),
        layer_norm_epsilon=draw(st.sampled_from([1e-12, 1e-5, 1e-3])),
        pad_id=draw(st.sampled_from([0, 1, 4])),
        tie_embeddings=draw(st.booleans()),
    )


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny products are slower on several threads, and much slower where the cores are busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


lengths_ = st.lists(st.integers(0, 8), min_size=1, max_size=4).filter(any)


# ------------------------------------------------------------------------------------------------- the same model twice


def peer(config: RobertaConfig, dtype: str, seed: int, scale: float | None = 0.3) -> Any:
    """transformers' model of that shape. Its weights are random, biases and norms too; fresh ones for scale=None."""
    import torch
    from transformers import RobertaConfig as PeerConfig
    from transformers import RobertaForMaskedLM

    values = {theirs: getattr(config, ours) for ours, theirs, _ in hf.FIELDS}
    rows = config.max_sequence_length + config.pad_id + 1
    torch.manual_seed(seed)
    model = RobertaForMaskedLM(
        PeerConfig(
            **values,
            max_position_embeddings=rows,
            type_vocab_size=1,
            tie_word_embeddings=config.tie_embeddings,
            attn_implementation="eager",
        )
    )
    model = model.to(getattr(torch, dtype)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters() if scale else ():
            weight.normal_(0.0, scale)
            if re.search(r"(LayerNorm|layer_norm)\.weight", name):
                weight += 1.0
    return model


def params_of(config: RobertaConfig, model: Any) -> Arrays:
    """The peer's weights, its token-type row folded into the position embedding."""
    tensors = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    params = as_ours(config, tensors)
    params["embeddings.position"][...] += tensors[hf.TOKEN_TYPE]
    return params


class Example(NamedTuple):
    """One batch, in both forms."""

    token_ids: Array  # (B, S) int64
    padding_mask: Array  # (B, S) int64
    labels: Array  # (B, S) int64, -100 where nothing is to be predicted
    batch: Batch


def example(config: RobertaConfig, lengths: list[int], seed: int, left: bool = False) -> Example:
    """Random tokens, about a third of them masked, at least one; padding on the right, or on the left."""
    generator = np.random.default_rng(seed)
    B, S = len(lengths), max(lengths)
    tokens = np.setdiff1d(np.arange(config.vocabulary_size), [config.pad_id])
    place = np.arange(S)
    is_token = np.stack([place >= S - length if left else place < length for length in lengths])
    token_ids = np.where(is_token, generator.choice(tokens, (B, S)), config.pad_id)
    is_masked = is_token & (generator.random((B, S)) < 0.3)
    is_masked[tuple(np.argwhere(is_token)[-1])] = True
    labels = np.where(is_masked, generator.integers(0, config.vocabulary_size, (B, S)), -100)
    batch = pack_padded(
        token_ids,
        is_token,
        np.where(is_masked, place, 0),
        np.where(is_masked, labels, 0),
        is_masked.astype(float),
        vocabulary_size=config.vocabulary_size,
        max_sequence_length=config.max_sequence_length,
    )
    return Example(token_ids, is_token.astype(np.int64), labels, batch)


def their_step(model: Any, data: Example) -> Any:
    """transformers' output, after the gradients were set."""
    import torch

    model.zero_grad()
    token_ids, padding_mask, labels = map(torch.from_numpy, data[:3])
    out = model(input_ids=token_ids, attention_mask=padding_mask, labels=labels)
    out.loss.backward()
    return out


def our_step(config: RobertaConfig, params: Arrays, data: Example) -> tuple[float, Arrays]:
    """Our loss under transformers' reduction, and its gradients."""
    mean = SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    sums, (result,) = gradients_of(params, config, [data.batch], mean)
    return float(result.weights @ result.losses) / result.denominator, sums


class Outcome(NamedTuple):
    logits: Array  # (N, V), of every token
    loss: float
    gradients: Arrays


def theirs(config: RobertaConfig, model: Any, data: Example) -> Outcome:
    out = their_step(model, data)
    logits = out.logits.detach().numpy()[data.padding_mask.astype(bool)]
    # Untied, version 5 has a head bias that nothing uses, without a gradient.
    gradients = {name: weight.grad.numpy() for name, weight in model.named_parameters() if weight.grad is not None}
    return Outcome(logits, out.loss.item(), as_ours(config, gradients))


def mine(config: RobertaConfig, params: Arrays, data: Example) -> Outcome:
    loss, gradients = our_step(config, params, data)
    logits = model_logits(REFERENCE, params, config, data.batch, np.arange(data.batch.num_tokens))
    return Outcome(logits, loss, gradients)


# ----------------------------------------------------------------------------------------------------------- the errors


def error(actual: Array, expected: Array, scale: float = 0.0) -> float:
    """The distance, relative to the expected norm or to `scale`, whichever is larger."""
    return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), scale))


def gradient_errors(actual: Arrays, expected: Arrays) -> Iterator[tuple[str, float]]:
    """Of every tensor. That of the keys' bias is exactly 0, as softmax doesn't see it: measured by the queries'."""
    floor = FLOOR * float(np.linalg.norm(expected.flat))
    for name in expected:
        alike = expected[name.replace("key.bias", "query.bias")]
        yield name, error(actual[name], expected[name], max(floor, float(np.linalg.norm(alike))))


def assert_equal(actual: Outcome, expected: Outcome, tolerance: float) -> None:
    assert actual.logits.dtype == expected.logits.dtype == actual.gradients.dtype == expected.gradients.dtype
    assert error(actual.logits, expected.logits) <= tolerance
    assert abs(actual.loss - expected.loss) <= tolerance * expected.loss
    for name, wrong in gradient_errors(actual.gradients, expected.gradients):
        assert wrong <= tolerance, name


# ----------------------------------------------------------------------------------------------------------- the claims


@given(config=configs(), lengths=lengths_, left=st.booleans(), seed=seeds)
@settings(max_examples=50)
def test_logits_loss_and_every_gradient_are_equal_in_float64(
    config: RobertaConfig, lengths: list[int], left: bool, seed: int
) -> None:
    model = peer(config, "float64", seed)
    data = example(config, lengths, seed, left)
    assert_equal(mine(config, params_of(config, model), data), theirs(config, model, data), FLOAT64)


@pytest.mark.parametrize("seed", range(8))
def test_float32_stays_close(seed: int) -> None:
    model = peer(SMALL, "float32", seed)
    data = example(SMALL, [16, 9, 2, 1], seed, left=seed % 2 == 1)
    assert_equal(mine(SMALL, params_of(SMALL, model), data), theirs(SMALL, model, data), FLOAT32)


@given(lengths=lengths_, seed=seeds)
def test_the_type_row_s_gradient_is_the_sum_of_the_position_table_s(lengths: list[int], seed: int) -> None:
    """Why a type row folded into the position embedding loses nothing."""
    model = peer(SMALL, "float64", seed)
    data = example(SMALL, lengths, seed)
    theirs(SMALL, model, data)
    type_row = dict(model.named_parameters())[hf.TOKEN_TYPE].grad.numpy()[0]
    gradients = mine(SMALL, params_of(SMALL, model), data).gradients
    whole = FLOOR * float(np.linalg.norm(gradients.flat))
    assert error(gradients["embeddings.position"].sum(axis=0), type_row, whole) <= FLOAT64


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", FLOAT64), ("float32", FLOAT32)])
def test_roberta_base_is_equal(dtype: str, tolerance: float) -> None:
    model = peer(BASE, dtype, seed=0, scale=0.02)
    params = params_of(BASE, model)
    for lengths in ([16, 16], [24, 3, 11]):
        data = example(BASE, lengths, seed=1)
        assert_equal(mine(BASE, params, data), theirs(BASE, model, data), tolerance)


# ------------------------------------------------------------------------------------------------------------ ten steps


def decay_groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    """The two groups that transformers' Trainer makes."""
    from torch import nn
    from transformers.trainer_pt_utils import get_parameter_names

    decays = {name for name in get_parameter_names(model, [nn.LayerNorm]) if "bias" not in name}
    groups: tuple[list[Any], list[Any]] = [], []
    for name, weight in model.named_parameters():
        groups[name in decays].append(weight)
    return [{"params": groups[1], "weight_decay": weight_decay}, {"params": groups[0], "weight_decay": 0.0}]


def without_type_row(model: Any) -> None:
    """Zeroes and freezes it, as a folded row is not trained (or decayed) beside the positions that it was added to."""
    weight = dict(model.named_parameters())[hf.TOKEN_TYPE]
    weight.requires_grad_(False).zero_()


def ten_steps(config: RobertaConfig, scale: float, lengths: list[int], seed: int) -> tuple[Arrays, Arrays]:
    """Our weights and theirs after ten steps of AdamW, every one on another batch; the losses are compared as well."""
    import torch

    model = peer(config, "float64", seed, scale)
    without_type_row(model)
    params = params_of(config, model)
    optimizer = TorchAdamW(1e-3, weight_decay=0.1)
    theirs_optimizer = torch.optim.AdamW(decay_groups(model, 0.1), lr=1e-3)
    for step in range(10):
        data = example(config, lengths, seed + step)
        (loss, gradients), expected = our_step(config, params, data), their_step(model, data).loss.item()
        assert abs(loss - expected) <= TEN_STEPS * expected
        optimizer.apply(params, gradients, list(params), REFERENCE)
        theirs_optimizer.step()
    return params, params_of(config, model)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_ten_steps_of_adamw_lead_to_the_same_weights(tied: bool, seed: int) -> None:
    config = replace(SMALL, tie_embeddings=tied)
    actual, expected = ten_steps(config, 0.3, [16, 9, 2, 1], seed)
    assert np.abs(actual.flat - expected.flat).max() <= TEN_STEPS


@pytest.mark.slow
def test_ten_steps_of_adamw_lead_roberta_base_to_the_same_weights() -> None:
    actual, expected = ten_steps(BASE, 0.02, [16, 9], seed=0)
    assert np.abs(actual.flat - expected.flat).max() <= TEN_STEPS


# ------------------------------------------------------------------------------------------------------- initial values


def test_fresh_values_have_the_statistics_of_transformers() -> None:
    config = replace(SMALL, vocabulary_size=4000, num_layers=1, hidden_dim=128, intermediate_dim=512)
    expected = as_ours(config, {n: w.detach().numpy() for n, w in peer(config, "float64", 0, None).named_parameters()})
    actual = expected.zeros_like()
    initialise(actual, config, "hf", seed=0)
    for name in expected:
        a, e = actual[name], expected[name]
        if name.endswith((".bias", ".beta", ".gamma")):
            assert np.array_equal(a, e), name
        else:  # six standard errors of a difference of two means and of two deviations
            assert abs(a.mean() - e.mean()) <= 6 * 0.02 * np.sqrt(2 / e.size), name
            assert abs(a.std() - e.std()) <= 6 * 0.02 / np.sqrt(e.size), name
            assert np.abs(a).max() > 0.06, name  # not cut at two standard deviations, as Keras's are
            assert np.abs(e).max() > 0.06, name
    for table in (actual, expected):
        assert not table["embeddings.token"][config.pad_id].any()
