"""The masked-LM head, and the whole model: encoder, head, loss per masked token, and the way back."""

from __future__ import annotations

from numpy import ndarray as Array

from pyroberta.model.batch import Batch
from pyroberta.model.config import RobertaConfig
from pyroberta.model.encoder import encoder_backward, encoder_forward
from pyroberta.model.gradients import Gradients
from pyroberta.model.named import linear, linear_back, norm, norm_back
from pyroberta.model.params import Arrays
from pyroberta.ops import Cache, Key, Ops


def masked_lm_forward(
    ops: Ops, params: Arrays, config: RobertaConfig, batch: Batch, key: Key | None = None, keep_from: int | None = None
) -> tuple[tuple[Array, Array], Cache]:
    """The loss of every masked token and the id that the model holds most likely there.

    Arguments as for `encoder_forward`; the batch's `masked` and `labels` are read too.
    Returns (losses (M,), predicted (M,) int) and a cache for `masked_lm_backward`.
    """
    hidden, encoder_caches = encoder_forward(ops, params, config, batch, key, keep_from)
    h, head_cache = head_forward(ops, params, config, hidden[-1], batch.masked)
    y, loss_cache = ops.cross_entropy_forward(h, params[output_table(config)], params["head.bias"], batch.labels)
    return y, (output_table(config), encoder_caches, head_cache, loss_cache)


def masked_lm_backward(ops: Ops, grads: Gradients, dlosses: Array, cache: Cache) -> None:
    """Adds to `grads` the gradients of Σ_m dlosses_m · losses_m. dlosses (M,), in the parameters' dtype."""
    table, encoder_caches, head_cache, loss_cache = cache
    if grads.wants(table):
        dh, dtable, dbias = ops.cross_entropy_backward(dlosses, loss_cache)
        grads.add(table, dtable)
    else:
        dh, dbias = ops.cross_entropy_backward_input(dlosses, loss_cache)
    grads.add("head.bias", dbias)
    dx = head_backward(ops, grads, dh, head_cache)
    encoder_backward(ops, grads, dx, encoder_caches)


def head_forward(ops: Ops, params: Arrays, config: RobertaConfig, x: Array, rows: Array) -> tuple[Array, Cache]:
    """The head up to the product with the table: gather, dense, GELU, layer norm.

    x (N, C) the last hidden state, rows (M,) int -> h (M, C)
    """
    h, gathered = ops.gather_forward(x, rows)
    h, dense = linear(ops, params, "head.dense", h)
    h, activated = ops.gelu_forward(h)
    h, normed = norm(ops, params, "head.norm", h, config.layer_norm_epsilon)
    return h, (gathered, dense, activated, normed)


def head_backward(ops: Ops, grads: Gradients, dh: Array, cache: Cache) -> Array:
    """dh (M, C) -> dx (N, C), zero but for the gathered rows."""
    gathered, dense, activated, normed = cache
    dh = norm_back(ops, grads, "head.norm", dh, normed)
    dh = ops.gelu_backward(dh, activated)
    dh = linear_back(ops, grads, "head.dense", dh, dense)
    return ops.gather_backward(dh, gathered)


def head_logits(ops: Ops, params: Arrays, config: RobertaConfig, x: Array, rows: Array) -> Array:
    """x (N, C) the last hidden state, rows (M,) int -> (M, V)."""
    h, _ = head_forward(ops, params, config, x, rows)
    return ops.logits(h, params[output_table(config)], params["head.bias"])


def output_table(config: RobertaConfig) -> str:
    """The name of the (V, C) table that the head multiplies by: the token table, unless the model is untied."""
    return "embeddings.token" if config.tie_embeddings else "head.decoder"
