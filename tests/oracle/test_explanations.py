"""Causes of what lies between, causes that all tensors of an op have in common, and those that only theirs tell."""

from __future__ import annotations

import math

import numpy as np
import pytest
from planted import KERNEL, LOSS, clean, config_of, run, traced
from small_models import random_batch, random_params

from pyroberta import optimizers
from pyroberta.oracle.compare import compare
from pyroberta.oracle.golden import Trace
from pyroberta.oracle.trace import trace_updates

LAYER = "layers.0.feed_forward.norm.output"


def layers_alone(golden: Trace, mistake: str) -> dict[str, np.ndarray]:
    """Each layer's output, the first layer's with a mistake, and its own input."""
    g = {name.removeprefix("parameters."): golden[name] for name in golden}
    x, H = golden["embeddings.dropout.output"], golden.settings["config"]["num_heads"]
    D, found = x.shape[1] // H, []

    def of(name: str, x: np.ndarray) -> np.ndarray:
        kernel = g[f"layers.0.{name}.kernel"]
        return x @ (kernel.T if name == mistake else kernel) + g[f"layers.0.{name}.bias"]

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(axis=1, keepdims=True)
        variance = (centred**2).sum(axis=1, keepdims=True) / (x.shape[1] - (name == mistake))
        return g[f"layers.0.{name}.gamma"] * centred / np.sqrt(variance + 1e-5) + g[f"layers.0.{name}.beta"]

    q, k, v = (of(f"attention.{name}", x) for name in ("query", "key", "value"))
    for start, stop in zip(golden["batch.starts"], golden["batch.starts"][1:], strict=False):
        heads = [part[start:stop].reshape(-1, H, D).swapaxes(0, 1) for part in (q, k, v)]
        scores = heads[0] @ heads[1].swapaxes(1, 2) / (1.0 if mistake == "scale" else math.sqrt(D))
        p = np.exp(scores - scores.max(axis=2, keepdims=True))
        found.append(((p / p.sum(axis=2, keepdims=True)) @ heads[2]).swapaxes(0, 1).reshape(stop - start, -1))
    x = norm("attention.norm", x + of("attention.output", np.concatenate(found)))
    inside = of("feed_forward.intermediate", x)
    erf = np.vectorize(math.erf)(inside / math.sqrt(2.0))
    by_tanh = np.tanh(math.sqrt(2.0 / math.pi) * (inside + 0.044715 * inside**3))
    inside = 0.5 * inside * (1.0 + (by_tanh if mistake == "gelu" else erf))
    x = norm("feed_forward.norm", x + of("feed_forward.output", inside))
    return {"embeddings.dropout.output": golden["embeddings.dropout.output"], LAYER: x.astype(np.float32)}


@pytest.mark.parametrize(
    ("mistake", "place", "cause"),
    [
        ("", "", ""),
        ("gelu", "layers.0.feed_forward", "GELU by tanh, not by erf"),
        ("scale", "layers.0.attention", "scores are not divided by the root of D"),
        ("attention.value", "layers.0.attention.value", "the kernel is transposed"),
        ("attention.norm", "layers.0.attention.norm", "the variance is divided by C - 1"),
        ("feed_forward.norm", "layers.0.feed_forward.norm", "the variance is divided by C - 1"),
    ],
)
def test_a_layers_output_alone_tells_the_mistake_inside_the_layer(mistake, place, cause):
    golden = run(config_of(width=8), 0)
    departures = compare(golden, layers_alone(golden, mistake)).departures
    assert [(one.name, one.place, one.cause) for one in departures] == ([(LAYER, place, cause)] if cause else [])
    if cause and place != "layers.0.feed_forward.norm":
        assert f"{place}: {cause} (explains " in str(departures[0])


def test_what_lies_between_is_told_where_no_cause_fits():
    golden = clean()
    theirs = layers_alone(golden, "")
    theirs[LAYER] = theirs[LAYER] + np.random.default_rng(0).normal(size=theirs[LAYER].shape)
    (finding,) = compare(golden, theirs).departures
    assert finding.cause == ""
    assert finding.forward[:3] == ("layers.0.attention.key", "layers.0.attention.value", "layers.0.attention.query")
    assert finding.forward[-1] == "layers.0.feed_forward.norm"
    assert "cause unknown; the mistake is in the forward of layers.0.attention.key, layers.0.atten" in str(finding)


@pytest.mark.slow
def test_clipping_shows_in_the_parameters_after_the_update():
    golden = traced(optimizers.Adam(0.1, global_clipnorm=1e-3))
    theirs = {name: golden[name] for name in golden if name.startswith("gradients.")}
    free = traced(optimizers.Adam(0.1))
    theirs |= {name: free[name] for name in golden if name.startswith("slots.")}
    first, *others = compare(golden, theirs).departures
    assert (first.place, first.cause) == ("clip", "gradients are not clipped")
    assert {one.may_follow for one in others} == {first.name}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_another_library_s_adam_is_one_cause_at_every_parameter(dtype):
    """torch's own Adam beside a trace by Keras's: another epsilon, and on the other side of the correction."""
    golden, theirs = traced(optimizers.Adam(0.1)), traced(optimizers.TorchAdam(0.1))
    given = {of: theirs[of].astype(dtype) for of in golden if of.startswith(("gradients.", "slots.", "updated."))}
    report = compare(golden, given, "float64" if dtype == np.float64 else None)
    causes = {one.cause for one in report.departures}
    assert causes == {"epsilon is 1e-08, added to the bias-corrected root of v"}


def test_epsilons_that_rounding_can_not_tell_apart_are_one_cause():
    golden = clean()
    x = golden["layers.0.attention.norm.sum"]
    gamma, beta = (golden[f"parameters.layers.0.attention.norm.{of}"] for of in ("gamma", "beta"))
    output = gamma * (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-9) + beta
    (finding,) = compare(golden, {"layers.0.attention.norm.output": output.astype(np.float32)}).departures
    assert finding.cause.startswith("epsilon is one of 1e-12 to 1e-0")


def test_an_epsilon_of_adam_that_is_in_no_list_is_read_off():
    golden, other = traced(optimizers.Adam(0.1)), traced(optimizers.Adam(0.1, epsilon=3e-4))
    names = [f"{of}.{KERNEL}" for of in ("slots.m", "slots.v", "updated")]
    (finding,) = compare(golden, {name: other[name] for name in names}).departures
    assert finding.cause == "epsilon is 0.0003"


def test_a_parameter_that_is_another_one_is_told():
    golden = clean()
    other = "parameters.layers.1.attention.key.kernel"
    (finding,) = compare(golden, {f"parameters.{KERNEL}": golden[other]}).departures
    assert finding.cause == f"it is {other}"


def test_a_kernel_that_lies_the_wrong_way():
    golden = clean()
    name = f"parameters.{KERNEL}"
    (finding,) = compare(golden, {name: golden[name].T}).departures
    assert finding.cause == "the kernel is transposed"


def test_positions_counted_over_the_padding_show_in_the_embeddings():
    golden = clean()
    starts = golden["batch.starts"]
    lengths = np.diff(starts)
    moved = golden["batch.positions"] + np.repeat(lengths.max() - lengths, lengths)
    output = golden["embeddings.of_tokens"] + golden["parameters.embeddings.position"][moved]
    (finding,) = compare(golden, {"embeddings.output": output}).departures
    assert finding.cause == f"positions also count the padding before a sequence, up to {lengths.max()} columns"


def test_a_decoder_of_an_update_ago():
    golden = traced(optimizers.Adam(0.1), steps=2)
    h, table = golden["step_1.head.norm.output"], golden["parameters.embeddings.token"]
    theirs = {"step_1.head.norm.output": h, "step_1.loss.logits": h @ table.T + golden["step_1.parameters.head.bias"]}
    (finding,) = compare(golden, theirs).departures
    assert finding.cause == "the matrix of the logits is the token embedding before the last update: a stale decoder"


def test_accumulation_as_a_mean_of_means_is_named_from_the_gradients():
    config, params = config_of(), random_params(config_of(), 0)
    parts = [random_batch(config, lengths, seed) for lengths, seed in (([5, 1], 0), ([9], 1))]
    golden, *alone = (Trace() for _ in range(3))
    for into, batches in zip((golden, *alone), (parts, parts[:1], parts[1:]), strict=True):
        trace_updates(into, config, params, batches, LOSS, optimizers.Adam(0.1))
    names = [name for name in golden if name.startswith("gradients.")]
    assert float(alone[0]["loss.denominator"]) != float(alone[1]["loss.denominator"])
    report = compare(golden, {name: (alone[0][name] + alone[1][name]) / 2.0 for name in names})
    causes = {one.cause for one in report.departures}
    assert causes == {"each part's loss is divided by its own weights: a mean of means"}


def test_what_one_parameter_alone_shows_is_not_the_optimizer():
    golden = traced(optimizers.Adam(0.1))
    theirs = {name: golden[name] for name in golden if name.startswith(("gradients.", "updated."))}
    c_1, c_2 = 1.0 - 0.9**2, math.sqrt(1.0 - 0.999**2)  # of the second update, not the first
    factor = (c_2 / c_1) / (math.sqrt(1.0 - 0.999) / (1.0 - 0.9))
    before, after = golden[f"parameters.{KERNEL}"], golden[f"updated.{KERNEL}"]
    theirs[f"updated.{KERNEL}"] = before + factor * (after - before)
    (finding,) = compare(golden, theirs).departures
    assert (finding.name, finding.cause) == (f"updated.{KERNEL}", "")
    (finding,) = compare(golden, {f"updated.{KERNEL}": theirs[f"updated.{KERNEL}"]}).departures
    assert finding.cause == "the bias correction counts one update too many"
