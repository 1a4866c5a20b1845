"""The encoder: the walk forward and the walk back, as lists of op calls.

One layer is post-LN, as in RoBERTa (Liu et al. 2019, arXiv:1907.11692):

    x = LN(x + dropout(attention(x) W_o))
    x = LN(x + dropout(gelu(x W_1) W_2))
"""

from __future__ import annotations

from numpy import ndarray as Array

from pyroberta.model.batch import Batch
from pyroberta.model.config import RobertaConfig
from pyroberta.model.gradients import Gradients
from pyroberta.model.named import linear, linear_back, norm, norm_back
from pyroberta.model.params import Arrays
from pyroberta.ops import Cache, Key, Ops


def step_key(seed: int, step: int, part: int = 0) -> Key:
    """The dropout key of one training step, or of one of the up to 1024 parts that a step accumulates.

    The low 10 bits are left free for the sites within the walk.
    """
    return seed, (step << 20) + (part << 10)


def site_key(key: Key | None, site: int) -> Key:
    """The key of one dropout site. 0 is the embeddings' site; layer i has 3i+1, 3i+2 and 3i+3."""
    return (0, 0) if key is None else (key[0], key[1] + site)


def encoder_forward(
    ops: Ops, params: Arrays, config: RobertaConfig, batch: Batch, key: Key | None = None, keep_from: int | None = None
) -> tuple[list[Array], dict[int, Cache]]:
    """Runs the encoder.

    Args:
        ops: the table of ops.
        params: in any float dtype, which is the dtype of everything that comes out.
        config: the model's shape and rates.
        batch: only its ids, positions and starts are read.
        key: of the step's dropout (`step_key`); None for no dropout.
        keep_from: the depth from which caches are kept for `encoder_backward`: -1 keeps all, None none.

    Returns:
        The hidden states, (N, C) each: the embeddings' output, then every layer's; and the caches by depth.
    """
    rate = config.dropout if key else 0.0
    caches: dict[int, Cache] = {}

    x, looked_up = ops.embedding_forward(
        batch.ids, batch.positions, params["embeddings.token"], params["embeddings.position"]
    )
    x, normed = norm(ops, params, "embeddings.norm", x, config.layer_norm_epsilon)
    x, dropped = ops.dropout_forward(x, rate, site_key(key, 0))
    if keep_from == -1:
        caches[-1] = looked_up, normed, dropped

    hidden = [x]
    for i in range(config.num_layers):
        x, cache = layer_forward(ops, params, config, i, x, batch.starts, key)
        if keep_from is not None and keep_from <= i:
            caches[i] = cache
        hidden.append(x)
    return hidden, caches


def encoder_backward(ops: Ops, grads: Gradients, dx: Array, caches: dict[int, Cache]) -> None:
    """The walk back, down to the lowest trainable parameter. dx (N, C) is the last hidden state's gradient."""
    for i in sorted(caches.keys() - {-1}, reverse=True):
        dx = layer_backward(ops, grads, i, dx, caches.pop(i))
    if -1 in caches:
        looked_up, normed, dropped = caches.pop(-1)
        dx = ops.dropout_backward(dx, dropped)
        dx = norm_back(ops, grads, "embeddings.norm", dx, normed)
        if grads.wants("embeddings.token", "embeddings.position"):
            dtokens, dpositions = ops.embedding_backward(dx, looked_up)
            grads.add("embeddings.token", dtokens)
            grads.add("embeddings.position", dpositions)


def layer_forward(
    ops: Ops, params: Arrays, config: RobertaConfig, i: int, x: Array, starts: Array, key: Key | None
) -> tuple[Array, Cache]:
    """One transformer layer. x (N, C) -> y (N, C)."""
    rate, probs_rate = (config.dropout, config.attention_dropout or 0.0) if key else (0.0, 0.0)
    attention, feed_forward = f"layers.{i}.attention", f"layers.{i}.feed_forward"

    q, q_cache = linear(ops, params, f"{attention}.query", x)
    k, k_cache = linear(ops, params, f"{attention}.key", x)
    v, v_cache = linear(ops, params, f"{attention}.value", x)
    a, a_cache = ops.attention_forward(q, k, v, starts, config.num_heads, probs_rate, site_key(key, 3 * i + 1))
    o, o_cache = linear(ops, params, f"{attention}.output", a)
    o, o_dropped = ops.dropout_forward(o, rate, site_key(key, 3 * i + 2))
    x, x_cache = norm(ops, params, f"{attention}.norm", x + o, config.layer_norm_epsilon)

    f, f_cache = linear(ops, params, f"{feed_forward}.intermediate", x)
    g, g_cache = ops.gelu_forward(f)
    h, h_cache = linear(ops, params, f"{feed_forward}.output", g)
    h, h_dropped = ops.dropout_forward(h, rate, site_key(key, 3 * i + 3))
    y, y_cache = norm(ops, params, f"{feed_forward}.norm", x + h, config.layer_norm_epsilon)
    return y, [
        *(q_cache, k_cache, v_cache, a_cache, o_cache, o_dropped, x_cache),
        *(f_cache, g_cache, h_cache, h_dropped, y_cache),
    ]


def layer_backward(ops: Ops, grads: Gradients, i: int, dy: Array, cache: Cache) -> Array:
    """The same list from the end: each line takes the last cache that is left. dy (N, C) -> dx (N, C)."""
    left = list(cache)
    attention, feed_forward = f"layers.{i}.attention", f"layers.{i}.feed_forward"

    dsum = norm_back(ops, grads, f"{feed_forward}.norm", dy, left.pop())  # forward: LN(x + h)
    dh = ops.dropout_backward(dsum, left.pop())
    dg = linear_back(ops, grads, f"{feed_forward}.output", dh, left.pop())
    df = ops.gelu_backward(dg, left.pop())
    dx: Array = dsum + linear_back(ops, grads, f"{feed_forward}.intermediate", df, left.pop())  # x went both ways

    dsum = norm_back(ops, grads, f"{attention}.norm", dx, left.pop())  # forward: LN(x + o)
    do = ops.dropout_backward(dsum, left.pop())
    da = linear_back(ops, grads, f"{attention}.output", do, left.pop())
    dq, dk, dv = ops.attention_backward(da, left.pop())
    dx = dsum + linear_back(ops, grads, f"{attention}.value", dv, left.pop())  # x went four ways
    dx += linear_back(ops, grads, f"{attention}.key", dk, left.pop())
    dx += linear_back(ops, grads, f"{attention}.query", dq, left.pop())
    return dx
