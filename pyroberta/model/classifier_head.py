"""The classifier's head, up to the product with the table of classes."""

from __future__ import annotations

from numpy import ndarray as Array

from pyroberta.model.config import RobertaConfig
from pyroberta.model.encoder import site_key
from pyroberta.model.gradients import Gradients
from pyroberta.model.named import linear, linear_back
from pyroberta.model.params import Params
from pyroberta.ops import Cache, Key, Ops


def classifier_head_forward(
    ops: Ops, params: Params, config: RobertaConfig, x: Array, key: Key | None = None
) -> tuple[Array, Cache]:
    """Dropout, dense, tanh, dropout. x (M, C), the rows of each text's `<s>` -> h (M, C).

    Its two dropout sites come after those of the layers.
    """
    rate = config.classifier_dropout or 0.0 if key else 0.0
    site_1, site_2 = (site_key(key, 3 * config.num_layers + n) for n in (1, 2))
    h, before = ops.dropout_forward(x, rate, site_1)
    h, dense = linear(ops, params, "head.dense", h)
    h, bent = ops.tanh_forward(h)
    h, after = ops.dropout_forward(h, rate, site_2)
    return h, (before, dense, bent, after)


def classifier_head_backward(ops: Ops, grads: Gradients, dh: Array, cache: Cache) -> Array:
    """dh (M, C) -> dx (M, C)."""
    before, dense, bent, after = cache
    dh = ops.dropout_backward(dh, after)
    dh = ops.tanh_backward(dh, bent)
    dh = linear_back(ops, grads, "head.dense", dh, dense)
    return ops.dropout_backward(dh, before)
