"""The masked-LM head, and the whole model: encoder, head, loss per masked token, and the way back."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

from pyroberta.model.batch import Batch
from pyroberta.model.config import RobertaConfig
from pyroberta.model.encoder import encoder_backward, encoder_forward
from pyroberta.model.gradients import Gradients
from pyroberta.model.named import linear, linear_back, norm, norm_back
from pyroberta.model.params import Params
from pyroberta.ops import Cache, Key, Ops


def masked_lm_forward(
    ops: Ops,
    params: Params,
    config: RobertaConfig,
    batch: Batch,
    key: Key | None = None,
    keep_from: int | None = None,
    recompute: bool = False,
) -> tuple[tuple[Array, Array], Cache]:
    """The loss of every masked token and the id that the model holds most likely there.

    Arguments as for `encoder_forward`; the batch's `masked` and `labels` are read too.
    Returns (losses (M,), predicted (M,) int) and a cache for `masked_lm_backward`.
    """
    rows, masked = np.unique(batch.masked, return_inverse=True)  # what the last layer is asked for, and where it went
    (*_, x), encoder_caches = encoder_forward(ops, params, config, batch, key, keep_from, rows, recompute)
    h, gathered = ops.gather_forward(x, masked)
    h, head_cache = head_forward(ops, params, config, h)
    y, loss_cache = ops.cross_entropy_forward(h, params[output_table(config)], params["head.bias"], batch.labels)
    return y, (output_table(config), encoder_caches, gathered, head_cache, loss_cache)


def masked_lm_backward(ops: Ops, grads: Gradients, dlosses: Array, cache: Cache) -> None:
    """Adds to `grads` the gradients of Σ_m dlosses_m · losses_m, and uses the cache up.

    dlosses (M,), in the parameters' dtype
    """
    table, encoder_caches, gathered, head_cache, loss_cache = cache
    dh = loss_backward(ops, grads, table, dlosses, loss_cache)
    dh = head_backward(ops, grads, dh, head_cache)
    if encoder_caches:  # something is trainable below
        encoder_backward(ops, grads, ops.gather_backward(dh, gathered), encoder_caches)


def loss_backward(ops: Ops, grads: Gradients, table: str, dlosses: Array, cache: Cache) -> Array:
    """dlosses (M,) -> dh (M, C); adds the gradients of the table and the bias."""
    if grads.wants(table):
        dh, dtable, dbias = ops.cross_entropy_backward(dlosses, cache)
        grads.add(ops, table, dtable)
    else:
        dh, dbias = ops.cross_entropy_backward_input(dlosses, cache)
    grads.add(ops, "head.bias", dbias)
    return dh


def head_forward(ops: Ops, params: Params, config: RobertaConfig, x: Array) -> tuple[Array, Cache]:
    """The head up to the product with the table: dense, GELU, layer norm. x (M, C) -> h (M, C)."""
    h, dense = linear(ops, params, "head.dense", x)
    h, activated = ops.gelu_forward(h)
    h, normed = norm(ops, params, "head.norm", h, config.layer_norm_epsilon)
    return h, (dense, activated, normed)


def head_backward(ops: Ops, grads: Gradients, dh: Array, cache: Cache) -> Array:
    """dh (M, C) -> dx (M, C)."""
    dense, activated, normed = cache
    dh = norm_back(ops, grads, "head.norm", dh, normed)
    dh = ops.gelu_backward(dh, activated)
    return linear_back(ops, grads, "head.dense", dh, dense)


def masked_lm_logits(ops: Ops, params: Params, config: RobertaConfig, batch: Batch, rows: Array) -> Array:
    """The logits at rows (M,) of the packed batch, in any order -> (M, V)."""
    wanted, places = np.unique(rows, return_inverse=True)
    (*_, x), _ = encoder_forward(ops, params, config, batch, rows=wanted)
    h, _ = ops.gather_forward(x, places)
    h, _ = head_forward(ops, params, config, h)
    return ops.logits(h, params[output_table(config)], params["head.bias"])


def output_table(config: RobertaConfig) -> str:
    """The name of the (V, C) table that the head multiplies by: the token table, unless the model is untied."""
    return "embeddings.token" if config.tie_embeddings else "head.decoder"
