"""The text classifier's head. It predicts the class of each text at the row of its `<s>`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from numpy import ndarray as Array

from pyroberta.model.layers import NO_KEY, linear, linear_back, linear_shapes
from pyroberta.ops import Cache, Key, Ops

if TYPE_CHECKING:
    from pyroberta.model.batch import Batch, Ints
    from pyroberta.model.config import RobertaConfig
    from pyroberta.model.gradients import Gradients
    from pyroberta.model.parameters import Params, Shape

TITLE = "head for {num_classes} classes"
SIZES: Mapping[str, str] = {
    "head.dense.kernel": "classifier_hidden_dim",
    "head.table": "num_classes",
    "head.bias": "num_classes",
}


def shapes(config: RobertaConfig) -> dict[str, Shape]:
    """Returns the parameters of a dense layer, and an output table and a bias with a row per class."""
    classes, C = config.num_classes or 0, config.hidden_dim
    width = config.classifier_hidden_dim or C
    return {**linear_shapes("head.dense", C, width), "head.table": (classes, width), "head.bias": (classes,)}


def output_table(config: RobertaConfig) -> str:
    """Returns the name of the output table, which has a row per class."""
    return "head.table"


def target_rows(batch: Batch) -> Ints:
    """Returns the first row of each text, (B,)."""
    return batch.starts[:-1]


def forward(
    ops: Ops, params: Params, config: RobertaConfig, x: Array, batch: Batch, key: Key | None = None
) -> tuple[Array, Cache]:
    """Applies dropout, the dense layer, tanh and dropout. x (M, C) -> h (M, W).

    x has the rows of each text's `<s>`. W is the width of the dense layer.

    The numbers of the two dropout sites follow those of the layers.
    """
    rate = config.classifier_dropout or 0.0 if key else 0.0
    site_1, site_2 = (key.at(3 * config.num_layers + n) if key else NO_KEY for n in (1, 2))
    h, before = ops.dropout_forward(x, rate, site_1, batch.starts, batch.numbers, batch.target_rows)
    h, dense = linear(ops, params, "head.dense", h)
    h, bent = ops.tanh_forward(h)
    h, after = ops.dropout_forward(h, rate, site_2, batch.starts, batch.numbers, batch.target_rows)
    return h, (before, dense, bent, after)


def backward(ops: Ops, grads: Gradients, dh: Array, cache: Cache) -> Array:
    """dh (M, W) -> dx (M, C)."""
    before, dense, bent, after = cache
    dh = ops.dropout_backward(dh, after)
    dh = ops.tanh_backward(dh, bent)
    dh = linear_back(ops, grads, "head.dense", dh, dense)
    return ops.dropout_backward(dh, before)
