"""The masked-LM head. It predicts the token at each selected place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from numpy import ndarray as Array

from pyroberta.model.layers import linear, linear_back, linear_shapes, norm, norm_back, norm_shapes
from pyroberta.ops import Cache, Key, Ops

if TYPE_CHECKING:
    from pyroberta.model.batch import Batch, Ints
    from pyroberta.model.config import RobertaConfig
    from pyroberta.model.gradients import Gradients
    from pyroberta.model.parameters import Params, Shape

TITLE = "masked-LM head"
SIZES: Mapping[str, str] = {"head.decoder": "vocabulary_size", "head.bias": "vocabulary_size"}


def shapes(config: RobertaConfig) -> dict[str, Shape]:
    """Returns the parameters of a dense layer, a norm and the output's bias, and an output table if it is not tied to
    the token embedding.
    """
    V, C = config.vocabulary_size, config.hidden_dim
    layout = {**linear_shapes("head.dense", C, C), **norm_shapes("head.norm", C)}
    if not config.tie_embeddings:
        layout["head.decoder"] = (V, C)
    return {**layout, "head.bias": (V,)}


def output_table(config: RobertaConfig) -> str:
    """Returns the name of the output table, which has a row per token. It is the token embedding, unless the model is
    untied.
    """
    return "embeddings.token" if config.tie_embeddings else "head.decoder"


def target_rows(batch: Batch) -> Ints:
    """Returns the rows of the tokens that masking selected."""
    return batch.target_rows


def forward(
    ops: Ops, params: Params, config: RobertaConfig, x: Array, batch: Batch, key: Key | None = None
) -> tuple[Array, Cache]:
    """Applies the dense layer, GELU and the layer norm. x (M, C) -> h (M, C).

    The head has no dropout, so neither batch nor key is read.
    """
    h, dense = linear(ops, params, "head.dense", x)
    h, activated = ops.gelu_forward(h)
    h, normed = norm(ops, params, "head.norm", h, config.layer_norm_epsilon)
    return h, (dense, activated, normed)


def backward(ops: Ops, grads: Gradients, dh: Array, cache: Cache) -> Array:
    """dh (M, C) -> dx (M, C)."""
    dense, activated, normed = cache
    dh = norm_back(ops, grads, "head.norm", dh, normed)
    dh = ops.gelu_backward(dh, activated)
    return linear_back(ops, grads, "head.dense", dh, dense)
