"""Training steps of the C++ backend."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from small_models import random_batch, small_config

from pyroberta.model.gradients import Gradients
from pyroberta.model.model import model_backward, model_forward
from pyroberta.model.parameters import Arrays
from pyroberta.ops import Key, Ops

CONFIG = small_config(
    vocabulary_size=701, num_layers=3, num_heads=3, hidden_dim=51, intermediate_dim=130, max_sequence_length=150
)


KEY = Key.of_update(seed=3, update=5)


def step(ops: Ops, params: Arrays, lengths: list[int], seed: int, recompute: bool = False, trainable=None):
    """The losses and the gradient of one batch, with dropout."""
    batch = random_batch(CONFIG, lengths, seed, masked_share=0.2)
    grads = Gradients(params.zeros_like(), set(params) if trainable is None else trainable)
    (losses, predicted), cache = model_forward(ops, params, CONFIG, batch, KEY, grads.lowest, recompute)
    model_backward(ops, grads, np.full_like(losses, 0.1), cache)
    return losses, predicted, grads.sums


lengths = st.lists(st.integers(0, 150), min_size=1, max_size=4)
