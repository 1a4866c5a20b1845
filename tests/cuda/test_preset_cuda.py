"""The built-in preset is trained in CUDA, and each of its updates is compared with a trace in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from cuda_simulator import simulated
from small_models import TEXTS

from pyroberta import MaskedLM
from pyroberta.model.batch import Batch
from pyroberta.model.parameters import Arrays
from pyroberta.ops import REFERENCE, Key
from pyroberta.oracle import compare
from pyroberta.oracle.golden import Trace
from pyroberta.oracle.trace import trace_updates
from pyroberta.training.optimizers import AdamW
from pyroberta.training.state import TrainState
from pyroberta.training.step import Trained, train_step

pytestmark = pytest.mark.cuda

SEED, UPDATES = 3, 10


class Training(NamedTuple):
    model: MaskedLM
    batch: Batch
    golden: Trace  # of all updates


@pytest.fixture(scope="module")
def training() -> Training:
    """All parameters change, with dropout and LoRA."""
    model = MaskedLM.from_preset("roberta_tiny_en", dropout=0.1, backend="numpy")
    model.backbone.enable_lora(4, targets=("query", "key", "value", "output"))
    model.backbone.unfreeze()
    model.compile(AdamW(1e-3, weight_decay=0.01, global_clipnorm=1.0))
    batch = model._reader().examples(TEXTS[:2]).masked(Key.of_evaluation())
    config, params, golden = model.backbone.config, model.backbone.params.astype("float64"), Trace()
    options = {"seed": SEED, "steps": UPDATES, "precision": None}
    trace_updates(golden, config, params, [batch], model.loss, model.optimizer, **options)
    return Training(model, batch, golden)


def from_its_state(golden: Trace, number: int) -> Trace:
    """The trace of one update alone. The state with which it begins, in float32, is given."""
    part = Trace()
    part.settings = golden.settings
    inputs = {one for entry in golden.entries.values() if entry.step == number for one in entry.inputs.values()}
    for name, entry in golden.entries.items():
        is_state = entry.step < number or entry.value == "parameters"
        if is_state and name in inputs:
            part.add(name, golden[name].astype("float32").astype("float64"), replace(entry, op="", inputs={}))
        elif entry.step == number:
            part.add(name, golden[name], entry)
    return part


def named(prefix: str, arrays: Arrays) -> dict[str, Any]:
    return {prefix + name: array for name, array in arrays.items()}


def updated_in_cuda(training: Training, precision: str, number: int, seed: int = SEED) -> dict[str, Any]:
    """What CUDA computes in one update, and the trace's state in float32 with which it begins."""
    model, batch, golden = training
    ops, backbone, optimizer = simulated(precision), model.backbone, model.optimizer
    now, before = (f"step_{k}." if k > 0 else "" for k in (number, number - 1))

    def of_trace(prefix: str) -> Arrays:
        arrays = backbone.params.zeros_like()
        for name, array in arrays.items():
            array[...] = golden[prefix + name]
        return arrays

    given = {f"{now}parameters.": of_trace(f"{now}parameters.")}
    if number:
        given |= {f"{before}slots.{of}.": of_trace(f"{before}slots.{of}.") for of in optimizer.slot_names}
    params, *slots = (arrays.to(ops) for arrays in given.values())
    sums, *zeros = (params.zeros_like() for _ in ("sums", *optimizer.slot_names))
    state = TrainState(params, dict(zip(optimizer.slot_names, slots or zeros, strict=True)), seed=seed, step=number)
    trained = Trained(ops, backbone.config, model.loss, optimizer, backbone.trainable_names(), sums)
    (result,) = train_step(trained, state, [batch])

    computed = {"gradients.": sums, "updated.": params, **{f"slots.{of}.": slot for of, slot in state.slots.items()}}
    found = {f"{now}loss.losses": result.losses}
    for prefix, arrays in given.items():
        found |= named(prefix, arrays)
    for prefix, arrays in computed.items():
        found |= named(now + prefix, arrays.to(REFERENCE))
    return found


@pytest.mark.parametrize(
    ("precision", "number"), [*(("float32", k) for k in range(UPDATES)), ("mixed_bfloat16", 0), ("mixed_bfloat16", 9)]
)
def test_each_update_is_within_the_bounds_of_rounding(training, precision, number):
    theirs = updated_in_cuda(training, precision, number)
    report = compare(from_its_state(training.golden, number), theirs, precision)
    assert report, report
    assert {finding.name for finding in report.findings} == set(theirs)


def test_the_bounds_do_not_hold_for_another_mask_of_dropout(training):
    theirs = updated_in_cuda(training, "float32", 0, seed=SEED + 1)
    departing = {finding.name for finding in compare(training.golden, theirs, "float32").departures}
    assert {"loss.losses", "gradients.layers.0.attention.query.lora_b", "gradients.embeddings.token"} <= departing
