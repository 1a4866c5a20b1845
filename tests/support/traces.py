"""Traces of small models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from small_models import random_batch, random_params, small_config

from pyroberta import optimizers
from pyroberta.data.examples import numbered
from pyroberta.model.batch import take
from pyroberta.oracle.golden import Trace
from pyroberta.oracle.trace import trace_updates
from pyroberta.training.losses import SparseCategoricalCrossentropy

LOSS = SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")


CONFIGS = {
    "masked_lm": small_config(dropout=0.1),
    "untied": small_config(dropout=0.0, tie_embeddings=False),
    "lora": small_config(dropout=0.1, lora_rank=2, lora_targets=("query", "output")),
    "classifier": small_config(dropout=0.1, num_classes=3, classifier_dropout=0.2, lora_rank=2),
}


def parts_of(config, cut: bool = False):
    whole = random_batch(config, [3, 1, 6], seed=1, masked_share=0.5)
    whole = replace(whole, weights=np.linspace(0.5, 1.0, len(whole.labels)))
    if config.num_classes:
        whole = replace(whole, target_rows=whole.starts[:-1], labels=np.array([0, 2, 1]), weights=np.ones(3))
    return numbered([take(whole, np.arange(2)), take(whole, np.arange(2, 3))]) if cut else [whole]


def traced(config, cut: bool = False, **options) -> Trace:
    found = Trace()
    optimizer = options.pop("optimizer", None) or optimizers.AdamW(0.1, global_clipnorm=0.05)
    trace_updates(found, config, random_params(config, 0), parts_of(config, cut), LOSS, optimizer, **options)
    return found


class Traces(dict[str, Trace]):
    """The trace of each of `CONFIGS`, which is made when it is asked for."""

    def __missing__(self, name: str) -> Trace:
        self[name] = traced(CONFIGS[name])
        return self[name]


TRACES = Traces()
