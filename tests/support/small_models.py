"""Models small enough to look at every number, and the same model written a second time, with padding."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from pyroberta import TextClassifier, TextClassifierPreprocessor
from pyroberta.model.batch import Batch, pack
from pyroberta.model.config import RobertaConfig
from pyroberta.model.gradients import Gradients
from pyroberta.model.model import model_backward, model_forward
from pyroberta.model.parameters import Arrays, shapes
from pyroberta.ops import REFERENCE, Key, Ops
from pyroberta.tasks.backbone import Backbone
from pyroberta.tasks.masked_lm import MaskedLM
from pyroberta.text.preprocessor import MaskedLMPreprocessor
from pyroberta.text.tokenizer import Tokenizer
from pyroberta.training import optimizers
from pyroberta.training.losses import SparseCategoricalCrossentropy
from pyroberta.training.optimizers import Adam
from pyroberta.training.state import TrainState
from pyroberta.training.step import Result, Trained, train_step

KEY = Key.of_update(seed=3, update=5)

TEXTS = [
    "The quick brown fox jumped over the lazy dog.",
    "I forgot my homework.",
    "She sells sea shells by the sea shore, and he does not.",
    "It is late.",
    "We hold these truths to be self-evident.",
    "Who goes there?",
]


def small_config(**changes) -> RobertaConfig:
    sizes = {"vocabulary_size": 13, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12}
    return RobertaConfig(**{**sizes, "max_sequence_length": 7, **changes})


def random_params(config: RobertaConfig, seed: int, dtype=np.float64) -> Arrays:
    """Values large enough that attention, GELU and the loss all work where they are curved."""
    rng = np.random.default_rng(seed)
    params = Arrays(shapes(config), dtype)
    for name, array in params.items():
        array[...] = 0.4 * rng.standard_normal(array.shape) + (1.0 if name.endswith(".gamma") else 0.0)
    return params


def random_batch(config: RobertaConfig, lengths: list[int], seed: int, masked_share: float = 0.5) -> Batch:
    """Random ids; about that share of the rows is masked."""
    rng = np.random.default_rng(seed)
    packed = pack([rng.integers(0, config.vocabulary_size, length) for length in lengths])
    masked = np.flatnonzero(rng.random(packed.num_tokens) < masked_share).astype(np.int32)
    labels = rng.integers(0, config.num_classes or config.vocabulary_size, len(masked)).astype(np.int32)
    return replace(packed, target_rows=masked, labels=labels, weights=np.ones(len(masked)))


def padded_losses(params, config: RobertaConfig, token_ids, padding_mask, mask_positions, labels) -> np.ndarray:
    """The loss at every mask slot, computed the usual way: rectangles, -inf on the scores of padding, all logits.

    token_ids, padding_mask (B, S), mask_positions, labels (B, K) -> (B, K). Padding stands on the right.
    """

    def dense(name, x):
        return np.einsum("...i,io->...o", x, params[f"{name}.kernel"]) + params[f"{name}.bias"]

    def norm(name, x):
        root = np.sqrt(x.var(axis=-1, keepdims=True) + config.layer_norm_epsilon)
        return (x - x.mean(axis=-1, keepdims=True)) / root * params[f"{name}.gamma"] + params[f"{name}.beta"]

    def gelu(x):
        return x * 0.5 * (1.0 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2.0)))

    def softmax(x):
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)

    B, S = token_ids.shape
    H, D = config.num_heads, config.head_dim
    x = norm("embeddings.norm", params["embeddings.token"][token_ids] + params["embeddings.position"][:S])
    for i in range(config.num_layers):
        q, k, v = (
            dense(f"layers.{i}.attention.{part}", x).reshape(B, S, H, D).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = np.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(D)
        scores = np.where(padding_mask[:, None, None, :], scores, -np.inf)
        attended = np.einsum("bhij,bhjd->bhid", softmax(scores), v).transpose(0, 2, 1, 3).reshape(B, S, H * D)
        x = norm(f"layers.{i}.attention.norm", x + dense(f"layers.{i}.attention.output", attended))
        inside = gelu(dense(f"layers.{i}.feed_forward.intermediate", x))
        x = norm(f"layers.{i}.feed_forward.norm", x + dense(f"layers.{i}.feed_forward.output", inside))
    if config.num_classes:
        h, table = np.tanh(dense("head.dense", x)), params["head.table"]
    else:
        h = norm("head.norm", gelu(dense("head.dense", x)))
        table = params["embeddings.token" if config.tie_embeddings else "head.decoder"]
    log_probabilities = np.log(softmax(np.einsum("bsc,vc->bsv", h, table) + params["head.bias"]))  # (B, S, V)
    return -log_probabilities[np.arange(B)[:, None], mask_positions, labels]


@functools.cache
def small_tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS * 2, vocab_size=300)


def small_masked_lm(*, dtype="float64", seed=0, settings=None, **changes) -> MaskedLM:
    """A model with a tokenizer, fresh and always the same; `settings` are the preprocessor's."""
    tokenizer = small_tokenizer()
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12, "max_sequence_length": 40}
    backbone = Backbone(**{"vocabulary_size": tokenizer.vocabulary_size(), **sizes, **changes}, dtype=dtype)
    preprocessor = MaskedLMPreprocessor(
        tokenizer, **{"sequence_length": 40, "mask_selection_length": 8, **(settings or {})}
    )
    masked_lm = MaskedLM(backbone, preprocessor, seed=seed)
    masked_lm.compile(optimizer=optimizers.Adam(1e-2))
    return masked_lm


def gradients_of(
    params: Arrays,
    config: RobertaConfig,
    parts: Sequence[Batch],
    loss: SparseCategoricalCrossentropy,
    *,
    trainable: Collection[str] | None = None,
    ops: Ops = REFERENCE,
    seed: int = 0,
    step: int = 0,
) -> tuple[Arrays, list[Result]]:
    """The gradients' sums and the results of one update, whose learning rate is 0, so that no parameter moves."""
    optimizer, sums = Adam(0.0), params.zeros_like()
    optimizer.build(params)
    model = Trained(ops, config, loss, optimizer, list(params if trainable is None else trainable), sums)
    return sums, train_step(model, TrainState(params, optimizer.slots, seed=seed, step=step), parts)


def gradients(
    ops: Ops, params: Arrays, config: RobertaConfig, batch: Batch, trainable: Collection[str], recompute=False
):
    """The losses of one batch and the gradients of their sum, by forward and backward alone, with dropout of `KEY`."""
    grads = Gradients(params.zeros_like(), trainable)
    (losses, _), cache = model_forward(ops, params, config, batch, KEY, grads.lowest, recompute)
    model_backward(ops, grads, np.ones_like(losses), cache)
    return losses, grads.sums


def small_classifier(*, num_classes=3, seed=0, labels=None, settings=None, **changes) -> TextClassifier:
    tokenizer = small_tokenizer()
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12, "max_sequence_length": 40}
    backbone = Backbone(**{"vocabulary_size": tokenizer.vocabulary_size(), **sizes, "dtype": "float64", **changes})
    preprocessor = TextClassifierPreprocessor(tokenizer, **{"sequence_length": 40, **(settings or {})})
    classifier = TextClassifier(backbone, num_classes, preprocessor, labels=labels, seed=seed)
    classifier.compile(optimizer=optimizers.Adam(1e-2))
    return classifier
