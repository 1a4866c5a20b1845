"""Planted faults are found at their place and named; what rounding does is no fault."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import random_batch, random_params, small_config
from strategies import examples, seeds

from pyroberta import optimizers
from pyroberta.ops import REFERENCE, Ops
from pyroberta.oracle.compare import compare
from pyroberta.oracle.golden import Trace
from pyroberta.oracle.trace import trace_updates
from pyroberta.training.losses import SparseCategoricalCrossentropy

LOSS = SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
LENGTHS = [5, 1, 7]


def run(config, seed: int, ops: Ops = REFERENCE, dtype: str = "float64", **options) -> Trace:
    found = Trace()
    batch = random_batch(config, LENGTHS, seed)
    params = random_params(config, seed).astype(dtype)
    trace_updates(found, config, params, [batch], LOSS, optimizers.AdamW(0.1, global_clipnorm=0.05), ops=ops, **options)
    return found


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


def forward_names(trace: Trace) -> list[str]:
    return [name for name, entry in trace.entries.items() if entry.op and not name.startswith(("d.", "bound."))]


# --- clean models -----------------------------------------------------------------------------------------------------


@examples(15)
@given(
    seed=seeds, layers=st.integers(1, 4), heads=st.integers(1, 4), width=st.integers(1, 9), share=st.floats(0.05, 1.0)
)
def test_a_clean_model_in_float32_departs_nowhere(seed, layers, heads, width, share):
    """All its tensors given, or some of them drawn at random, so that several ops lie between."""
    config = config_of(layers, heads, width)
    golden, theirs = run(config, seed), run(config, seed, dtype="float32", precision=None)
    rng = np.random.default_rng(seed)
    for some in (list(theirs), [name for name in theirs if rng.random() < share]):
        report = compare(golden, {name: theirs[name] for name in some})
        assert [finding.name for finding in report.findings if finding.departs] == []
        assert report.missing == []


# --- faults, written by hand ------------------------------------------------------------------------------------------


def erf_free(x):
    inner = 0.7978845608028654 * (x + 0.044715 * x * x * x)
    return x / 2 * (1 + np.tanh(inner))


def feed_forward_with(activation):
    def forward(x, kernel_1, bias_1, kernel_2, bias_2):
        y = activation(x @ kernel_1 + bias_1) @ kernel_2 + bias_2
        return y, REFERENCE.feed_forward_forward(x, kernel_1, bias_1, kernel_2, bias_2)[1]

    return forward


def norm_with(change):
    def forward(h, x, gamma, beta, epsilon, rate, key, *rest):
        total = h + x
        mean = total.mean(1, keepdims=True)
        y = change(total - mean, epsilon) * gamma + beta
        return y, REFERENCE.add_norm_forward(h, x, gamma, beta, epsilon, rate, key, *rest)[1]

    return forward


def attention_with(scale=None, order="heads", mask=None):
    def forward(q, k, v, starts, num_heads, rate, key, *rest):
        y, C = np.zeros_like(q), q.shape[1]
        D = C // num_heads
        for a, b in itertools.pairwise(starts):
            for h in range(num_heads):
                own = slice(h * D, (h + 1) * D) if order == "heads" else slice(h, None, num_heads)
                scores = q[a:b, own] @ k[a:b, own].T * (scale(D, C) if scale else 1 / math.sqrt(D))
                if mask:
                    scores = mask(scores)
                weights = np.exp(scores - scores.max(1, keepdims=True, initial=-np.inf))
                y[a:b, own] = weights / weights.sum(1, keepdims=True) @ v[a:b, own]
        return y, REFERENCE.attention_forward(q, k, v, starts, num_heads, rate, key, *rest)[1]

    return forward


def lower(scores):
    scores = scores.copy()
    scores[np.triu_indices(len(scores), 1)] = -1e30
    return scores


def embedding_at(offset):
    return lambda ids, positions, tokens, rows: (
        tokens[ids] + rows[positions + offset],
        REFERENCE.embedding_forward(ids, positions, tokens, rows)[1],
    )


def linear_without_bias(x, kernel, bias):
    return x @ kernel, REFERENCE.linear_forward(x, kernel, bias)[1]


def linear_turned(x, kernel, bias):
    return x @ kernel.T + bias, REFERENCE.linear_forward(x, kernel, bias)[1]


# The row, which of its calls (per layer, and where in it), what is put in its place, and the cause that is to be named.
FAULTS = {
    "tanh GELU": ("feed_forward_forward", (1, 0), feed_forward_with(erf_free), "GELU by tanh, not by erf"),
    "ReLU": ("feed_forward_forward", (1, 0), feed_forward_with(lambda f: f * (f > 0)), "ReLU in place of GELU"),
    "epsilon 1e-3": (
        "add_norm_forward", (2, 1), norm_with(lambda c, e: c / np.sqrt((c * c).mean(1, keepdims=True) + 1e-3)),
        "epsilon is 0.001",
    ),
    "epsilon outside": (
        "add_norm_forward", (2, 0), norm_with(lambda c, e: c / (np.sqrt((c * c).mean(1, keepdims=True)) + 1e-3)),
        "epsilon is outside the root, and 0.001",
    ),
    "unbiased variance": (
        "add_norm_forward", (2, 0),
        norm_with(lambda c, e: c / np.sqrt((c * c).sum(1, keepdims=True) / (c.shape[1] - 1) + e)),
        "the variance is divided by C - 1",
    ),
    "unscaled": (
        "attention_forward", (1, 0), attention_with(lambda D, C: 1.0), "scores are not divided by the root of D",
    ),
    "scaled twice": (
        "attention_forward", (1, 0), attention_with(lambda D, C: 1.0 / D), "scores are divided by the root of D twice",
    ),
    "interleaved": (
        "attention_forward", (1, 0), attention_with(order="interleaved"), "heads are interleaved, not side by side",
    ),
    "causal": (
        "attention_forward", (1, 0), attention_with(mask=lower), "a token does not see those after it: a causal mask",
    ),
    "positions from 1": ("embedding_forward", (0, 0), embedding_at(1), "positions are counted from 1, not from 0"),
    "no bias": ("linear_forward", (4, 2), linear_without_bias, "the bias is missing"),
    "transposed": ("linear_forward", (4, 1), linear_turned, "the kernel is transposed"),
    # outside the catalogue
    "a third root": (
        "attention_forward", (1, 0), attention_with(lambda D, C: D ** (-1 / 3)), "",
    ),
    "cosine": ("feed_forward_forward", (1, 0), feed_forward_with(np.cos), ""),
}  # fmt: skip


def with_fault(name: str, layer: int) -> Ops:
    row, (per_layer, at), change, _ = FAULTS[name]
    calls = 0

    def wrap(of, op):
        def call(*args):
            nonlocal calls
            if of != row:
                return op(*args)
            calls += 1
            return (change if calls - 1 == per_layer * layer + at else op)(*args)

        return call

    return REFERENCE.wrapped(wrap)


def place_of(name: str, layer: int) -> str:
    row, (_, at), _, _ = FAULTS[name]
    return {
        "feed_forward_forward": f"layers.{layer}.feed_forward",
        "add_norm_forward": f"layers.{layer}.{('attention.norm', 'feed_forward.norm')[at % 2]}",
        "attention_forward": f"layers.{layer}.attention",
        "embedding_forward": "embeddings",
        "linear_forward": f"layers.{layer}.attention.{('key', 'value', 'query', 'output')[at]}",
    }[row]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", FAULTS)
@examples(5)
@given(seed=seeds, layer=st.integers(0, 2), heads=st.integers(2, 3), share=st.sampled_from([1.0, 0.4]))
def test_a_fault_is_found_at_its_place_and_named(name, dtype, seed, layer, heads, share):
    config = config_of(3, heads, 5)
    golden = run(config, seed, precision=dtype)
    theirs = run(config, seed, with_fault(name, layer), dtype, precision=None)
    rng = np.random.default_rng(seed)
    outputs = [n for n in forward_names(theirs) if n.endswith(("output", "context", "losses"))]
    kept = [n for n in outputs if rng.random() < share or n.startswith(place_of(name, layer))]
    report = compare(golden, {n: theirs[n] for n in kept}, dtype)
    assert [finding.place for finding in report.departures] == [place_of(name, layer)]
    (finding,) = report.departures
    assert finding.cause == FAULTS[name][3]


def test_two_faults_are_both_found():
    config = config_of(3)
    golden = run(config, 0)
    first, second = with_fault("tanh GELU", 0), with_fault("unscaled", 2)
    rows = {"feed_forward_forward": first.feed_forward_forward, "attention_forward": second.attention_forward}
    ops = REFERENCE.wrapped(lambda name, op: rows.get(name, op))
    theirs = run(config, 0, ops, "float32", precision=None)
    report = compare(golden, {name: theirs[name] for name in forward_names(theirs)})
    found = {finding.place: finding.cause for finding in report.departures}
    assert found == {
        "layers.0.feed_forward": "GELU by tanh, not by erf",
        "layers.2.attention": "scores are not divided by the root of D",
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda g: -g, "it is -1 times what it should be"),
        (lambda g: np.zeros_like(g), "it is zero"),
        (lambda g: 0.3 * g, "it is 0.3 times what it should be"),
        (lambda g: np.full_like(g, np.nan), "it has numbers that are not finite"),
    ],
)
@pytest.mark.parametrize("name", ["d.layers.0.attention.q", "d.layers.1.feed_forward.kernel_1", "d.head.norm.gamma"])
def test_a_wrong_gradient_is_told_by_what_it_looks_like(name, change, words):
    config = config_of()
    golden = run(config, 0)
    theirs = {one: golden[one] for one in golden if one.startswith("d.")}
    theirs[name] = change(theirs[name])
    report = compare(golden, theirs)
    assert report.departures[0].name == name
    assert report.departures[0].looks == words
    assert report.departures[0].cause == ""


def test_names_and_shapes_that_do_not_fit_are_told():
    config = config_of()
    golden = run(config, 0)
    report = compare(golden, {"layers.9.output": np.ones(2), "loss.losses": golden["loss.losses"]})
    assert report.missing == ["layers.9.output"]
    assert "not in the trace: layers.9.output" in str(report)
    with pytest.raises(ValueError, match=r"loss\.losses has the shape \(2,\); the trace's is"):
        compare(golden, {"loss.losses": np.ones(2)})
    assert str(compare(golden, {})) == "nothing to compare: no name of theirs is one of the trace"
