"""The encoder: forward and backward, as lists of op calls.

One layer is post-LN, as in RoBERTa (Liu et al. 2019, arXiv:1907.11692):

    x = LN(x + dropout(attention(x) W_o))
    x = LN(x + dropout(gelu(x W_1) W_2))
"""

from __future__ import annotations

from functools import partial

from numpy import ndarray as Array

from pyroberta.model.batch import Batch
from pyroberta.model.config import RobertaConfig
from pyroberta.model.gradients import EMBEDDINGS, Gradients
from pyroberta.model.layers import (
    NO_KEY,
    add_norm,
    add_norm_back,
    feed_forward,
    feed_forward_back,
    linear,
    linear_back,
    norm,
    norm_back,
)
from pyroberta.model.parameters import Params
from pyroberta.ops import Cache, Key, Ops, Rows


def encoder_forward(
    ops: Ops,
    params: Params,
    config: RobertaConfig,
    batch: Batch,
    key: Key | None = None,
    keep_from: int | None = None,
    query_rows: Rows = None,
    recompute: bool = False,
) -> tuple[list[Array], dict[int, Cache]]:
    """Runs the encoder.

    Args:
        ops: the ops table.
        params: the parameters, in any float dtype. The hidden states have the same dtype.
        config: the model's shape and rates.
        batch: the packed batch. Its ids, positions, starts and numbers are read.
        key: the update's dropout key; None for no dropout. The embeddings have site 0, and layer i has the sites 3i+1,
            3i+2 and 3i+3.
        keep_from: the lowest depth whose cache is kept for `encoder_backward`: -1 keeps all, None keeps none.
        query_rows: (R,) the rows for which the last layer computes its output, in rising order; None for all. Keys and
            values are computed for all rows.
        recompute: whether each layer's input is kept instead of its cache. Backward then runs the layer again.

    Returns:
        A list and a dict. The list has the hidden states (N, C): the output of the embeddings, then the output of every
        layer. With `query_rows` the last one is (R, C). The dict has the caches by depth.
    """
    rate = config.dropout if key else 0.0
    caches: dict[int, Cache] = {}

    x, looked_up = ops.embedding_forward(
        batch.ids, batch.positions, params["embeddings.token"], params["embeddings.position"]
    )  # (N, C)
    x, normed = norm(ops, params, "embeddings.norm", x, config.layer_norm_epsilon)  # (N, C)
    x, dropped = ops.dropout_forward(x, rate, key or NO_KEY, batch.starts, batch.numbers, None)  # (N, C)
    if keep_from == -1:
        caches[-1] = looked_up, normed, dropped

    hidden = [x]
    for i in range(config.num_layers):
        layer = partial(
            layer_forward, ops, params, config, i, x, batch, key, query_rows if i == config.num_layers - 1 else None
        )
        x, cache = layer()  # (R, C); R is N in all layers but the last
        if keep_from is not None and keep_from <= i:
            caches[i] = layer if recompute else cache
        hidden.append(x)
    return hidden, caches


def encoder_backward(ops: Ops, grads: Gradients, dx: Array, caches: dict[int, Cache]) -> None:
    """Runs the encoder backward, down to the lowest trainable parameter. dx (N, C) or, with query
    rows, (R, C) is the gradient of the last hidden state.
    """
    for i in sorted(caches.keys() - {-1}, reverse=True):
        cache = caches.pop(i)
        dx = layer_backward(ops, grads, i, dx, cache()[1] if callable(cache) else cache)  # (N, C)
        grads.finish(i)
    if -1 in caches:
        looked_up, normed, dropped = caches.pop(-1)
        dx = ops.dropout_backward(dx, dropped)  # (N, C)
        dx = norm_back(ops, grads, "embeddings.norm", dx, normed)  # (N, C)
        if grads.wants("embeddings.token", "embeddings.position"):
            dtokens, dpositions = ops.embedding_backward(dx, looked_up)  # (V, C), (T, C)
            grads.add(ops, "embeddings.token", dtokens)
            grads.add(ops, "embeddings.position", dpositions)
        grads.finish(EMBEDDINGS)


def layer_forward(
    ops: Ops,
    params: Params,
    config: RobertaConfig,
    i: int,
    x: Array,
    batch: Batch,
    key: Key | None,
    query_rows: Rows = None,
) -> tuple[Array, Cache]:
    """Runs one transformer layer. x (N, C) -> y (N, C).

    `query_rows` (R,) selects the rows for which y is computed, so that y is (R, C). None means all rows, and R is N.
    Keys and values are computed for all rows.
    """
    rate, probs_rate = (config.dropout, config.attention_dropout or 0.0) if key else (0.0, 0.0)
    attention, epsilon, scale = f"layers.{i}.attention", config.layer_norm_epsilon, config.lora_scale
    site_1, site_2, site_3 = (key.at(3 * i + n) if key else NO_KEY for n in (1, 2, 3))
    masks = batch.starts, batch.numbers, query_rows  # what decides on each row's dropout mask

    k, k_cache = linear(ops, params, f"{attention}.key", x, scale)  # (N, C)
    v, v_cache = linear(ops, params, f"{attention}.value", x, scale)  # (N, C)
    x, gathered = (x, None) if query_rows is None else ops.gather_forward(x, query_rows)  # (R, C)  from here on
    q, q_cache = linear(ops, params, f"{attention}.query", x, scale)  # (R, C)
    a, a_cache = ops.attention_forward(
        q, k, v, batch.starts, config.num_heads, probs_rate, site_1, batch.numbers, query_rows
    )  # (R, C)
    o, o_cache = linear(ops, params, f"{attention}.output", a, scale)  # (R, C)
    x, x_cache = add_norm(ops, params, f"{attention}.norm", o, x, epsilon, rate, site_2, *masks)  # (R, C)

    h, h_cache = feed_forward(ops, params, f"layers.{i}.feed_forward", x)  # (R, C)
    y, y_cache = add_norm(ops, params, f"layers.{i}.feed_forward.norm", h, x, epsilon, rate, site_3, *masks)  # (R, C)
    return y, [k_cache, v_cache, gathered, q_cache, a_cache, o_cache, x_cache, h_cache, y_cache]


def layer_backward(ops: Ops, grads: Gradients, i: int, dy: Array, cache: Cache) -> Array:
    """Runs one transformer layer backward, with the calls of `layer_forward` in reverse order.

    dy (R, C), as y -> dx (N, C).
    """
    k_cache, v_cache, gathered, q_cache, a_cache, o_cache, x_cache, h_cache, y_cache = cache
    attention = f"layers.{i}.attention"

    dx: Array
    dh, dx = add_norm_back(ops, grads, f"layers.{i}.feed_forward.norm", dy, y_cache)  # (R, C) each
    dx = ops.add(dx, feed_forward_back(ops, grads, f"layers.{i}.feed_forward", dh, h_cache))  # (R, C)  x went both ways

    do, dx = add_norm_back(ops, grads, f"{attention}.norm", dx, x_cache)  # (R, C) each
    da = linear_back(ops, grads, f"{attention}.output", do, o_cache)  # (R, C)
    dq, dk, dv = ops.attention_backward(da, a_cache)  # (R, C), (N, C), (N, C)
    dx = ops.add(dx, linear_back(ops, grads, f"{attention}.query", dq, q_cache))  # (R, C)  x went four ways
    dx = dx if gathered is None else ops.gather_backward(dx, gathered)  # (N, C)  back among all rows
    dx = ops.add(dx, linear_back(ops, grads, f"{attention}.value", dv, v_cache))  # (N, C)
    dx = ops.add(dx, linear_back(ops, grads, f"{attention}.key", dk, k_cache))  # (N, C)
    return dx
