"""Planted faults are found at their place and named; what rounding does is no fault."""

from __future__ import annotations

import functools
import html
import itertools
import math
import runpy
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import LENGTHS, LOSS, clean, config_of, run
from small_models import random_batch, random_params, small_config
from strategies import examples, seeds

from pyroberta import optimizers, schedules
from pyroberta.ops import REFERENCE, Ops
from pyroberta.oracle.compare import compare
from pyroberta.oracle.foreign import align
from pyroberta.oracle.golden import Trace
from pyroberta.oracle.page import page
from pyroberta.oracle.trace import trace_updates


def forward_names(trace: Trace) -> list[str]:
    return [name for name, entry in trace.entries.items() if entry.op and not name.startswith(("d.", "bound."))]


# --- clean models -----------------------------------------------------------------------------------------------------


@examples(4)
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
                columns = slice(h * D, (h + 1) * D) if order == "heads" else slice(h, None, num_heads)
                scores = q[a:b, columns] @ k[a:b, columns].T * (scale(D, C) if scale else 1 / math.sqrt(D))
                if mask:
                    scores = mask(scores)
                weights = np.exp(scores - scores.max(1, keepdims=True, initial=-np.inf))
                y[a:b, columns] = weights / weights.sum(1, keepdims=True) @ v[a:b, columns]
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
        "epsilon is outside the root, and is 0.001",
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
        "attention_forward", (1, 0), attention_with(mask=lower), "a token does not see later tokens: a causal mask",
    ),
    "positions from 1": (
        "embedding_forward", (0, 0), embedding_at(1),
        "positions begin 1 row too late; RoBERTa's first is row padding_idx + 1",
    ),
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


@functools.lru_cache(maxsize=8)  # of one seed for all faults
def golden_of(heads: int, seed: int, dtype: str) -> Trace:
    return run(config_of(3, heads, 5), seed, precision=dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", FAULTS)
@examples(2)
@given(seed=seeds, layer=st.integers(0, 2), heads=st.integers(2, 3), share=st.sampled_from([1.0, 0.4]))
def test_a_fault_is_found_at_its_place_and_named(name, dtype, seed, layer, heads, share):
    golden = golden_of(heads, seed, dtype)
    theirs = run(config_of(3, heads, 5), seed, with_fault(name, layer), dtype, precision=None)
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
    golden = clean()
    theirs = {one: golden[one] for one in golden if one.startswith("d.")}
    theirs[name] = change(theirs[name])
    report = compare(golden, theirs)
    assert report.departures[0].name == name
    assert report.departures[0].looks == words
    assert report.departures[0].cause == ""


def test_names_and_shapes_that_do_not_fit_are_told():
    golden = clean()
    report = compare(golden, {"layers.9.output": np.ones(2), "loss.losses": golden["loss.losses"]})
    assert report.missing == ["layers.9.output"]
    assert "1 of their names belongs to no tensor of the trace: 'layers.9.output'" in str(report)
    with pytest.raises(ValueError, match=r"loss\.losses has the shape \(2,\), and the trace's tensor has"):
        compare(golden, {"loss.losses": np.ones(2)})
    report = compare(golden, align(golden, {"x": np.ones(2), "y": np.ones(2), "loss.losses": golden["loss.losses"]}))
    assert (report.missing, len(report.findings)) == (["x", "y"], 1)
    assert "2 of their names belong to no tensor of the trace, and only 1 of its tensors compared: 'x', 'y'" in str(
        report
    )
    assert str(compare(golden, {})) == "nothing to compare: none of their names is a name of the trace"


# --- after the last op ------------------------------------------------------------------------------------------------

NAME = "layers.0.attention.query.kernel"


def adam(w, g, rate=0.1, decay=0.004, corrected=True, inside=False, coupled=False):
    """One first step, by hand."""
    g = g + decay * w if coupled else g
    m, v = 0.1 * g, 0.001 * g * g
    if corrected and inside:
        step = (m / 0.1) / (np.sqrt(v / 0.001) + 1e-7)
    elif corrected:
        step = (m / 0.1) * np.sqrt(0.001) / (np.sqrt(v) + 1e-7)
    else:
        step = m / (np.sqrt(v) + 1e-7)
    return (w if coupled else w - rate * decay * w) - rate * step


UPDATES = {
    "right": (lambda w, g: adam(w, g), None),
    "uncorrected": (lambda w, g: adam(w, g, corrected=False), "the moments are not corrected for their bias"),
    "inside": (lambda w, g: adam(w, g, inside=True), "epsilon is added to the bias-corrected root of v"),
    "coupled": (lambda w, g: adam(w, g, coupled=True), "the decay is added to the gradient, not to the step"),
    "no decay": (lambda w, g: adam(w, g, decay=0.0), "the decay is left out"),
    "without rate": (
        lambda w, g: adam(w, g, decay=0.0) - 0.004 * w, "the decay is not multiplied by the learning rate",
    ),
    "upwards": (lambda w, g: adam(w, -g), "the gradient has the wrong sign"),
    "half": (lambda w, g: (w + adam(w, g)) / 2, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", UPDATES)
def test_a_wrong_update_is_named(name):
    golden = run(config_of(), 3)
    # so small that it is of epsilon's size
    w, g = golden[f"parameters.{NAME}"], 1e-6 * golden[f"clipped.{NAME}"]
    change, cause = UPDATES[name]
    theirs = {f"parameters.{NAME}": w, f"clipped.{NAME}": g, f"updated.{NAME}": change(w, g)}
    found = [finding for finding in compare(golden, theirs, "float64").findings if finding.name.startswith("updated")]
    if cause is None:
        assert not found[0].departs
    else:
        assert found[0].departs
        assert (found[0].cause == cause) or cause in found[0].others


CLIPS = {
    "none": (lambda x, norm: x, "the gradient is not clipped"),
    "alone": (
        lambda x, norm: x * min(1.0, 0.05 / np.linalg.norm(x)), "each parameter's gradient is clipped by its own norm",
    ),
    "numbers": (lambda x, norm: np.clip(x, -0.05, 0.05), "each number is clipped, not the norm"),
    "right": (lambda x, norm: x * (0.05 / norm), None),
}  # fmt: skip


@pytest.mark.parametrize("name", CLIPS)
def test_wrong_clipping_is_named(name):
    golden = run(config_of(), 3)
    theirs = {one: 30.0 * golden[one] for one in golden if one.startswith("gradients.")}
    norm = np.sqrt(sum(np.square(one).sum() for one in theirs.values()))
    change, cause = CLIPS[name]
    theirs |= {one.replace("gradients", "clipped"): change(value, norm) for one, value in theirs.items()}
    found = [finding for finding in compare(golden, theirs).findings if finding.name == f"clipped.{NAME}"]
    assert (found[0].cause or None) == cause
    assert found[0].departs == (cause is not None)


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (1.0, "losses are divided by 1: they are summed"),
        (13.0, "losses are divided by the number of tokens"),
        (21.0, "losses are divided by the number of tokens with padding"),
    ],
)
def test_a_wrong_denominator_is_told_from_the_gradients_alone(number, cause):
    golden = run(config_of(), 3)
    factor = float(golden["loss.denominator"]) / number
    report = compare(golden, {one: factor * golden[one] for one in golden if one.startswith("gradients.")})
    causes = {finding.cause for finding in report.departures}
    assert len(causes) == 1
    assert causes.pop().startswith(cause)


def test_one_gradient_that_is_off_by_a_factor_is_not_the_loss():
    golden = run(config_of(), 3)
    theirs = {one: golden[one].copy() for one in golden if one.startswith("gradients.")}
    theirs[f"gradients.{NAME}"] *= float(golden["loss.denominator"])
    (finding,) = compare(golden, theirs).departures
    assert finding.cause == ""
    assert finding.looks.startswith(f"it is {float(golden['loss.denominator']):g} times")


def test_a_schedule_that_is_one_ahead_is_named():
    optimizer = optimizers.AdamW(schedules.Linear(0.1, total_steps=9, warmup_steps=3))
    golden, config = Trace(), config_of()
    trace_updates(
        golden, config, random_params(config, 0), [random_batch(config, LENGTHS, 0)], LOSS, optimizer, steps=3
    )
    theirs = {f"step_{i}.learning_rate": golden[f"step_{i + 1}.learning_rate"] for i in (1,)}
    (finding,) = compare(golden, theirs).departures
    assert finding.cause == "the learning rate is that of update 2, not 1"


# --- what a difference tells by itself --------------------------------------------------------------------------------


def attended(q, k, scale_by):
    """Probabilities of one sequence (H, S, S), each row or column divided by something else."""
    scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[2])
    weights = np.exp(scores)
    return weights / scale_by(weights)


@pytest.mark.parametrize(
    ("scale_by", "cause"),
    [
        (
            lambda w: w.sum(2, keepdims=True) * np.linspace(1.1, 1.5, 5)[:, None],
            "22.15% of the probability lies outside the sequence: queries attend to padding",
        ),
        (lambda w: w.sum(1, keepdims=True) * 1.1, "the softmax is taken over the queries"),
        (lambda w: w.sum(0), "the softmax is taken over the heads"),
    ],
)
def test_a_softmax_over_something_else_is_named(scale_by, cause):
    golden = clean()
    q, k = (
        golden[f"layers.1.attention.{of}.output"][:5].reshape(5, 2, 4).transpose(1, 0, 2) for of in ("query", "key")
    )
    report = compare(golden, {"layers.1.attention.probabilities.0": attended(q, k, scale_by)})
    assert report.departures[0].cause.startswith(cause)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (
            lambda x, h: np.where(np.arange(x.size).reshape(x.shape) % 3, x / 0.75, 0.0),
            "dropout is on, with the rate 0.25",
        ),
        (lambda x, h: x + 1e-2 * np.random.default_rng(0).standard_normal(x.shape), ""),
    ],
)
def test_dropout_where_there_is_none_is_told_from_noise(change, cause):
    golden = clean()
    name = "layers.0.feed_forward.norm.dropped"
    (finding,) = compare(golden, {name: change(golden[name], None)}).departures
    assert finding.cause == cause


def test_rows_of_the_position_table_that_the_trace_has_not():
    """Positions from 0 use rows in front of the trace's first one."""
    golden = clean()
    rows, positions = golden["parameters.embeddings.position"], golden["batch.positions"]
    longer = np.concatenate([np.ones((2, rows.shape[1])), rows])
    (finding,) = compare(golden, {"embeddings.of_positions": longer[positions]}).departures
    assert finding.cause == "positions begin 2 rows too early; RoBERTa's first is row padding_idx + 1"
    moved = rows[positions] + np.linspace(0.1, 0.2, rows.shape[1])
    (finding,) = compare(golden, {"embeddings.of_positions": moved}).departures
    assert finding.cause.startswith(
        "each row is off by the same vector, for example because the token type's embedding is missing"
    )


def test_a_known_mistake_is_found_within_what_rounding_might_do():
    """Long sums of large terms: the bound is wide, and tanh GELU lies within it."""
    config = small_config(
        num_layers=1, num_heads=1, hidden_dim=8, intermediate_dim=3000, dropout=0.0, vocabulary_size=17
    )
    golden = run(config, 0)
    x, params = golden["layers.0.attention.norm.output"], golden
    of = "parameters.layers.0.feed_forward"
    inside = x @ params[f"{of}.intermediate.kernel"] + params[f"{of}.intermediate.bias"]
    output = erf_free(inside) @ params[f"{of}.output.kernel"] + params[f"{of}.output.bias"]
    exact = golden["layers.0.feed_forward.output"]
    small = exact + 1e-3 * (output - exact)
    theirs = {"layers.0.attention.norm.output": x, "layers.0.feed_forward.output": small}
    assert not compare(golden, theirs).departures
    theirs["layers.0.feed_forward.output"] = output
    report = compare(golden, theirs)
    assert report.findings[-1].ratio < 1.0
    assert report.departures[0].cause == "GELU by tanh, not by erf"


def test_the_page_has_every_tensor_and_no_foreign_markup():
    golden = clean()
    theirs = {"loss.losses": 2.0 * golden["loss.losses"], "loss.logits": golden["loss.logits"]}
    text = page(compare(golden, theirs), {"loss.losses": "<b>turned</b>"}, "<script>")
    assert all(name in text for name in theirs)
    assert text.count("<circle") == 2 * 2
    assert not any(foreign in text for foreign in ("<script>", "<b>turned", "http"))
    assert "a\ufffdb" in page(compare(golden, theirs), {"loss.losses": "a\x1bb"}, "x")


def test_a_trace_in_float32_is_no_reference():
    with pytest.raises(ValueError, match="the trace is in float32; a trace for a comparison should be in float64"):
        compare(run(config_of(), 0, dtype="float32", precision=None), {})
    golden = clean()
    with pytest.raises(ValueError, match=r"loss\.losses has the dtype complex128; it should be an array of real"):
        compare(golden, {"loss.losses": golden["loss.losses"].astype(complex)})


def test_the_picture_of_the_footprints_is_drawn_from_the_catalogue():
    """docs/footprints.svg has what scripts/draw_footprints.py finds; the same mistake has the same name there."""
    script = runpy.run_path(str(Path(__file__).resolve().parents[2] / "scripts" / "draw_footprints.py"))
    found, drawn = list(script["footprints"]()), script["FILE"].read_text()
    assert len(found) > 40
    assert drawn.count("<image ") == len(found)
    for one in found:
        assert html.escape(textwrap.wrap(f"{one.name}: {one.share:.1g}", 28)[0]) in drawn
