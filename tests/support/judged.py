"""Comparisons of planted traces."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from planted import LENGTHS, LOSS, config_of, copied
from small_models import random_batch, random_params

from pyroberta import optimizers
from pyroberta.oracle.golden import Trace
from pyroberta.oracle.trace import trace_updates

KERNEL = "layers.0.attention.query.kernel"


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
