"""The whole model, forward and backward: the encoder, the head, and the loss of each target row.

`config.head` names the head. Every head has the functions of `model.heads.Head`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy import ndarray as Array

from pyroberta.model.batch import Batch
from pyroberta.model.config import RobertaConfig
from pyroberta.model.encoder import encoder_backward, encoder_forward
from pyroberta.model.gradients import HEAD, Gradients
from pyroberta.model.heads import head_of
from pyroberta.model.parameters import Params
from pyroberta.ops import Cache, Key, Ops, Rows

CROSS_ENTROPY = "cross_entropy"  # the loss's op


def model_forward(
    ops: Ops,
    params: Params,
    config: RobertaConfig,
    batch: Batch,
    key: Key | None = None,
    keep_from: int | None = None,
    recompute: bool = False,
    loss: str = CROSS_ENTROPY,
    all_rows: bool = False,
) -> tuple[tuple[Array, Array], Cache]:
    """Returns the loss of every target row, the most likely id (of a token or a class) at each, and a cache for
    `model_backward`.

    The arguments are those of `encoder_forward`; the batch's `target_rows` and `labels` are read too. `loss` names the
    op that computes the losses from h (M, C), the output table, the bias and the labels. With `all_rows` the last layer
    computes every row, also rows at which the head does not predict. The result is ((losses (M,), predicted (M,) int),
    cache).
    """
    head = head_of(config)
    query_rows: Rows = None  # what the last layer works for, all rows or these
    places: Array = batch.target_rows  # target_rows = query_rows[places]
    if not all_rows:
        query_rows, places = np.unique(batch.target_rows, return_inverse=True)
    (*_, x), encoder_caches = encoder_forward(ops, params, config, batch, key, keep_from, query_rows, recompute)
    h, gathered = ops.gather_forward(x, places)
    h, head_cache = head.forward(ops, params, config, h, batch, key)
    table_name = head.output_table(config)
    y, loss_cache = getattr(ops, f"{loss}_forward")(h, params[table_name], params["head.bias"], batch.labels)
    return y, (head, table_name, encoder_caches, gathered, head_cache, loss, loss_cache)


def model_backward(ops: Ops, grads: Gradients, dlosses: Array, cache: Cache) -> None:
    """Adds the gradients of Σ_m dlosses_m · losses_m to `grads`. The cache can be used only once.

    dlosses is (M,), in the parameters' dtype.
    """
    head, table_name, encoder_caches, gathered, head_cache, loss, loss_cache = cache
    dh = loss_backward(ops, grads, loss, table_name, dlosses, loss_cache)
    dh = head.backward(ops, grads, dh, head_cache)
    grads.finish(HEAD)
    if encoder_caches:  # something is trainable below
        encoder_backward(ops, grads, ops.gather_backward(dh, gathered), encoder_caches)


def loss_backward(ops: Ops, grads: Gradients, loss: str, table_name: str, dlosses: Array, cache: Cache) -> Array:
    """dlosses (M,) -> dh (M, C). Adds the gradients of the output table and the bias."""
    dh: Array
    if grads.wants(table_name):
        dh, dtable, dbias = getattr(ops, f"{loss}_backward")(dlosses, cache)
        grads.add(ops, table_name, dtable)
    else:
        dh, dbias = getattr(ops, f"{loss}_backward_input")(dlosses, cache)
    grads.add(ops, "head.bias", dbias)
    return dh


def model_logits(
    ops: Ops, params: Params, config: RobertaConfig, batch: Batch, target_rows: Array, key: Key | None = None
) -> Array:
    """Returns the logits at `target_rows` (M,) of the packed batch: (M, V), or (M, classes). The target rows may be in
    any order.

    With a key, dropout is applied as in `model_forward` with the same key.
    """
    return next(model_logits_in_parts(ops, params, config, batch, target_rows, max(1, len(target_rows)), key))


def model_logits_in_parts(
    ops: Ops,
    params: Params,
    config: RobertaConfig,
    batch: Batch,
    target_rows: Array,
    size: int,
    key: Key | None = None,
) -> Iterator[Array]:
    """Yields the logits of `model_logits` in parts of `size` rows, so that M · V logits need not be held at once."""
    head = head_of(config)
    output_table = params[head.output_table(config)]
    query_rows, places = np.unique(target_rows, return_inverse=True)
    (*_, x), _ = encoder_forward(ops, params, config, batch, key, query_rows=query_rows)
    h, _ = ops.gather_forward(x, places)
    h, _ = head.forward(ops, params, config, h, batch, key)
    count = len(target_rows)
    for start in range(0, max(1, count), size):
        part = h if size >= count else ops.gather_forward(h, np.arange(start, min(start + size, count)))[0]
        yield ops.to_host(ops.logits(part, output_table, params["head.bias"]))
