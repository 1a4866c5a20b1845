"""The masked-LM head, up to the product with the table of tokens."""

from __future__ import annotations

from numpy import ndarray as Array

from pyroberta.model.batch import Batch
from pyroberta.model.config import RobertaConfig
from pyroberta.model.gradients import Gradients
from pyroberta.model.layers import linear, linear_back, norm, norm_back
from pyroberta.model.parameters import Params
from pyroberta.ops import Cache, Key, Ops


def masked_lm_head_forward(
    ops: Ops, params: Params, config: RobertaConfig, x: Array, batch: Batch, key: Key | None = None
) -> tuple[Array, Cache]:
    """Dense, GELU, layer norm; no dropout, so neither batch nor key is read. x (M, C) -> h (M, C)."""
    h, dense = linear(ops, params, "head.dense", x)
    h, activated = ops.gelu_forward(h)
    h, normed = norm(ops, params, "head.norm", h, config.layer_norm_epsilon)
    return h, (dense, activated, normed)


def masked_lm_head_backward(ops: Ops, grads: Gradients, dh: Array, cache: Cache) -> Array:
    """dh (M, C) -> dx (M, C)."""
    dense, activated, normed = cache
    dh = norm_back(ops, grads, "head.norm", dh, normed)
    dh = ops.gelu_backward(dh, activated)
    return linear_back(ops, grads, "head.dense", dh, dense)
