"""Gradients of a model with LoRA."""

from __future__ import annotations

import numpy as np

from pyroberta.model.gradients import Gradients
from pyroberta.model.model import model_backward, model_forward
from pyroberta.ops import Key

KEY = Key.of_update(seed=3, update=5)


def gradients(ops, params, config, batch, trainable, recompute=False):
    grads = Gradients(params.zeros_like(), trainable)
    (losses, _), cache = model_forward(ops, params, config, batch, KEY, grads.lowest, recompute)
    model_backward(ops, grads, np.ones_like(losses), cache)
    return losses, grads.sums
