"""Traces of small models with planted faults, and what comparisons of them are made with."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

from small_models import random_batch, random_params, small_config

from pyroberta import optimizers
from pyroberta.ops import REFERENCE, Ops
from pyroberta.oracle.golden import Trace
from pyroberta.oracle.trace import trace_updates
from pyroberta.training.losses import SparseCategoricalCrossentropy

LOSS = SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
LENGTHS = [5, 1, 7]
KERNEL = "layers.0.attention.query.kernel"


def run(config, seed: int, ops: Ops = REFERENCE, dtype: str = "float64", **options) -> Trace:
    found = Trace()
    batch = random_batch(config, LENGTHS, seed)
    params = random_params(config, seed).astype(dtype)
    trace_updates(found, config, params, [batch], LOSS, optimizers.AdamW(0.1, global_clipnorm=0.05), ops=ops, **options)
    return found


def clean() -> Trace:
    """`run(config_of(), 0)`, made once for all tests."""
    return copied(_clean())


@cache
def _clean() -> Trace:
    return run(config_of(), 0)


def copied(trace: Trace) -> Trace:
    again = Trace()
    again.settings = copy.deepcopy(trace.settings)
    for name, array in trace.items():
        again.add(name, array, trace.entries[name])
    return again


def config_of(layers: int = 2, heads: int = 2, width: int = 4):
    return small_config(
        num_layers=layers,
        num_heads=heads,
        hidden_dim=heads * width,
        intermediate_dim=11,
        dropout=0.0,
        vocabulary_size=17,
        max_sequence_length=12,
    )


def traced(optimizer=None, dtype="float64", weights=1.0, loss=LOSS, **options) -> Trace:
    found, config = Trace(), config_of()
    batch = random_batch(config, LENGTHS, 0)
    batch = replace(batch, weights=batch.weights * weights)
    params = random_params(config, 0).astype(dtype)
    trace_updates(found, config, params, [batch], loss, optimizer or optimizers.AdamW(0.1), **options)
    return found


def golden_trace() -> Trace:
    """`traced()`, made once for all tests."""
    return copied(_golden_trace())


@cache
def _golden_trace() -> Trace:
    return traced()


def departing(report) -> list[str]:
    return [finding.name for finding in report.findings if finding.departs]
