"""The classifier's head, up to the product with the table of classes."""

from __future__ import annotations

from numpy import ndarray as Array

from pyroberta.model.batch import Batch
from pyroberta.model.config import RobertaConfig
from pyroberta.model.encoder import NO_KEY
from pyroberta.model.gradients import Gradients
from pyroberta.model.layers import linear, linear_back
from pyroberta.model.parameters import Params
from pyroberta.ops import Cache, Key, Ops


def classifier_head_forward(
    ops: Ops, params: Params, config: RobertaConfig, x: Array, batch: Batch, key: Key | None = None
) -> tuple[Array, Cache]:
    """Dropout, dense, tanh, dropout. x (M, C), the rows of each text's `<s>` -> h (M, C).

    Its two dropout sites come after those of the layers.
    """
    rate = config.classifier_dropout or 0.0 if key else 0.0
    site_1, site_2 = (key.at(3 * config.num_layers + n) if key else NO_KEY for n in (1, 2))
    h, before = ops.dropout_forward(x, rate, site_1, batch.starts, batch.numbers, batch.target_rows)
    h, dense = linear(ops, params, "head.dense", h)
    h, bent = ops.tanh_forward(h)
    h, after = ops.dropout_forward(h, rate, site_2, batch.starts, batch.numbers, batch.target_rows)
    return h, (before, dense, bent, after)


def classifier_head_backward(ops: Ops, grads: Gradients, dh: Array, cache: Cache) -> Array:
    """dh (M, C) -> dx (M, C)."""
    before, dense, bent, after = cache
    dh = ops.dropout_backward(dh, after)
    dh = ops.tanh_backward(dh, bent)
    dh = linear_back(ops, grads, "head.dense", dh, dense)
    return ops.dropout_backward(dh, before)
