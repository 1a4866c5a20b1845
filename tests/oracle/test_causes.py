"""What the comparison must not say: causes that are none, places that are wrong, consequences of other calls."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from planted import LENGTHS, departing, golden_trace, traced
from small_models import TEXTS, small_masked_lm

from pyroberta import optimizers
from pyroberta.backends.bfloat16 import rounded_to_bfloat16
from pyroberta.oracle.compare import compare
from pyroberta.oracle.golden import Entry, Trace, TraceFile, read_trace
from pyroberta.oracle.trace import trace

NORM, KERNEL = "layers.0.attention.norm", "layers.0.attention.query.kernel"


@pytest.mark.parametrize(
    ("of", "change"),
    [("variance", lambda v: 1.0 / np.sqrt(v + 1e-5)), ("mean", lambda m: m + 0.1)],
)
def test_a_value_inside_a_norm_that_is_off_has_no_cause_that_does_nothing_there(of, change):
    """An epsilon, a bias or the trace's own epsilon don't change these; and the place is that value."""
    golden = golden_trace()
    theirs = {name: golden[name] for name in golden}
    theirs[f"{NORM}.{of}"] = change(golden[f"{NORM}.{of}"])
    first = compare(golden, theirs).departures[0]
    assert (first.name, first.cause) == (f"{NORM}.{of}", "")


def test_a_factor_that_is_near_1_is_not_the_right_denominator():
    golden = golden_trace()
    theirs = {name: 1.0005 * golden[name] for name in golden if name.startswith("gradients.")}
    assert {finding.cause for finding in compare(golden, theirs).departures} == {""}


def test_the_losss_factor_is_seen_in_what_no_gradient_of_theirs_leads_to():
    """The gradients of the layers are right, given those of values; the head's alone show the factor."""
    golden = golden_trace()
    factor = float(golden["loss.denominator"]) / len(golden["batch.ids"])
    beginnings = ("d.layers.", "gradients.layers.", "gradients.head.")
    report = compare(golden, {name: factor * golden[name] for name in golden if name.startswith(beginnings)})
    named = {one.name for one in report.findings if one.cause.startswith("losses are divided by the number of tokens")}
    assert named >= {name for name in golden if name.startswith("gradients.head.")}


def test_all_gradients_that_are_halved_are_one_line_and_no_mean_of_terms():
    golden = golden_trace()
    theirs = {name: 0.5 * golden[name] for name in golden if name.startswith("gradients.")}
    report = compare(golden, theirs)
    assert {finding.cause for finding in report.departures} == {""}
    assert str(report).count("it is 0.5 times what it should be") == 1


def test_faults_of_different_updates_are_apart():
    golden = traced(steps=3)
    theirs = {name: golden[name] for name in golden}
    for step in ("", "step_2."):
        theirs[f"{step}layers.0.feed_forward.output"] = 1.5 * golden[f"{step}layers.0.feed_forward.output"]
    found = {finding.name: finding.may_follow for finding in compare(golden, theirs).departures}
    assert found["layers.0.feed_forward.output"] == found["step_2.layers.0.feed_forward.output"] == ""


@pytest.mark.parametrize(
    "names", [("d.layers.0.attention.query.kernel", "d.layers.0.attention.query.bias"),
              ("layers.0.attention.scores.0", "layers.0.attention.scores.2")],
)  # fmt: skip
def test_values_beside_each_other_do_not_follow_from_each_other(names):
    golden = golden_trace()
    theirs = {name: golden[name] for name in golden}
    for name in names:
        theirs[name] = 2.0 * golden[name]
    findings = {finding.name: finding for finding in compare(golden, theirs).findings}
    assert [findings[name].may_follow for name in names] == ["", ""]


def test_a_sum_of_given_terms_is_judged_by_them():
    """One term is far too large, and the sum is the right one of these terms, rounded once."""
    golden = golden_trace()
    tokens = (14.0 * golden["embeddings.of_tokens"]).astype(np.float32)
    positions = golden["embeddings.of_positions"].astype(np.float32)
    theirs = {"embeddings.of_tokens": tokens, "embeddings.of_positions": positions}
    theirs["embeddings.output"] = tokens + positions
    assert "embeddings.output" not in departing(compare(golden, theirs))


def test_all_positions_0_are_not_counted_over_padding():
    golden = golden_trace()
    rows = golden["parameters.embeddings.position"][np.zeros(sum(LENGTHS), int)]
    (finding,) = compare(golden, {"embeddings.of_positions": rows}).departures
    assert finding.cause == ""


def test_logits_that_are_scaled_before_the_bias_are_of_the_same_matrix():
    golden = golden_trace()
    bias = golden["parameters.head.bias"]
    logits = (golden["loss.logits"] - bias) / math.sqrt(8) + bias
    theirs = {"head.norm.output": golden["head.norm.output"], "loss.logits": logits}
    (finding,) = compare(golden, theirs).departures
    assert finding.cause == "the product is multiplied by 0.3536 before the bias is added"
    (finding,) = compare(golden, {"loss.logits": logits}).departures  # so it may be the norm before it
    assert finding.cause == ""
    assert finding.forward[-3:] == ("head.gelu", "head.norm", "loss")


@pytest.mark.parametrize("change", [1.05, 0.5])
def test_a_step_that_is_off_says_nothing_of_the_model(change):
    """Adam's first step is nearly a sign, which many a mistake gives."""
    golden = traced(optimizers.Adam(0.1))
    other = golden["slots.m.head.norm.beta"] * change
    step = golden["updated.head.norm.beta"] - golden["parameters.head.norm.beta"]
    for name, theirs in (
        ("slots.m.head.norm.beta", other),
        ("updated.head.norm.beta", golden["parameters.head.norm.beta"] + np.sign(other) * np.abs(step) * change),
    ):
        (finding,) = compare(golden, {name: theirs}).departures
        assert not finding.cause or finding.place == "head.norm.beta", finding


def test_another_optimizer_is_no_epsilon():
    """Plain descent with 0.01 of the gradient, beside Adam's step."""
    golden = traced(optimizers.Adam(0.1))
    names = [name.removeprefix("updated.") for name in golden if name.startswith("updated.")]
    theirs = {f"gradients.{name}": golden[f"gradients.{name}"] for name in names}
    theirs |= {f"updated.{name}": golden[f"parameters.{name}"] - 0.01 * golden[f"gradients.{name}"] for name in names}
    assert {one.cause for one in compare(golden, theirs).departures} == {""}


def test_a_loss_that_is_twice_as_large_is_no_term_added_twice():
    golden = golden_trace()
    theirs = {name: 2.0 * golden[name] for name in golden if name.startswith(("d.", "gradients.", "loss.share"))}
    report = compare(golden, theirs)
    assert not [one for one in report.findings if one.cause.endswith("is added twice")]


@pytest.mark.parametrize("parts", [1, 2])
def test_a_trace_that_is_kept_in_float32_departs_nowhere(parts):
    """Fresh weights: the mean of a norm's result is rounding alone, and is none of a mistake's."""
    model = small_masked_lm(dtype="float64", dropout=0.0)
    golden = trace(model, TEXTS, parts=parts, precision=None)
    theirs = {name: x.astype(np.float32) if x.dtype.kind == "f" else x for name, x in golden.items()}
    assert departing(compare(golden, theirs)) == []


def test_one_number_that_is_added_everywhere_is_no_token_type():
    golden = golden_trace()
    (finding,) = compare(golden, {"embeddings.output": golden["embeddings.output"] + 0.3}).departures
    assert (finding.cause, finding.looks) == ("", "each row is off by the same vector")


def test_one_huge_number_does_not_make_a_cause():
    """Nearly all of a difference is one number's, which is not what another cause would explain."""
    golden = golden_trace()
    name = "layers.0.attention.query"
    kernel, bias = golden[f"parameters.{name}.kernel"], golden[f"parameters.{name}.bias"]
    x = golden["embeddings.norm.output"] @ kernel.T + bias  # transposed in one row, noise in the others
    theirs = golden[f"{name}.output"] + np.random.default_rng(0).standard_normal(x.shape)
    theirs[3] += 1e9 * (x - golden[f"{name}.output"])[3]
    (finding,) = compare(golden, {f"{name}.output": theirs}).departures
    assert finding.cause == ""


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_not_finite_does_not_end_the_comparison(bad):
    golden = golden_trace()
    x = golden["embeddings.norm.output"].copy()
    x[0, 0] = bad
    rest = np.random.default_rng(0).standard_normal(golden["layers.0.attention.query.output"].shape)
    report = compare(golden, {"embeddings.norm.output": x, "layers.0.attention.query.output": rest})
    assert departing(report) == ["embeddings.norm.output", "layers.0.attention.query.output"]


def test_the_likeliest_ids_are_those_of_their_logits():
    golden = golden_trace()
    logits = golden["loss.logits"][:, ::-1].copy()
    theirs = {"loss.logits": logits, "loss.predicted": logits.argmax(axis=1)}
    assert departing(compare(golden, theirs)) == ["loss.logits"]
    wrong = (logits.argmax(axis=1) + 1) % 17
    assert departing(compare(golden, theirs | {"loss.predicted": wrong})) == ["loss.logits", "loss.predicted"]


def test_a_scalar_of_a_dump_in_bfloat16_was_kept_in_it_too():
    golden, theirs = golden_trace(), traced(dtype="float32", precision=None)
    kept = {name: rounded_to_bfloat16(x) if x.dtype == np.float32 else x for name, x in theirs.items()}
    assert departing(compare(golden, kept)) == []
    alone = {"loss.share": rounded_to_bfloat16(np.atleast_1d(np.float32(theirs["loss.share"])))[0]}
    assert departing(compare(golden, alone)) == ["loss.share"]


@pytest.mark.slow
def test_a_trace_may_have_more_tensors_than_a_model_could(tmp_path):
    file = tmp_path / "golden.safetensors"
    with TraceFile(file) as into:
        for step in range(12_000):
            into.add(f"step_{step}.loss.share", float(step), Entry(step=step))
    assert float(read_trace(file)["step_11999.loss.share"]) == 11999.0


@pytest.mark.parametrize("of", ["config", "optimizer"])
def test_a_trace_without_settings_is_refused(of):
    golden = traced(precision=None)
    del golden.settings[of]
    with pytest.raises(ValueError, match=f"the settings of the trace have no '{of}'"):
        compare(golden, golden)


def test_a_trace_that_does_not_fit_together_names_the_tensor(tmp_path):
    golden = traced(precision=None)
    broken, name = Trace(), "layers.0.attention.query.output"
    broken.settings = golden.settings
    for one in golden:
        array = golden[one][:, :3] if one == f"parameters.{KERNEL}" else golden[one]
        broken.add(one, array, golden.entries[one])
    with pytest.raises(ValueError, match=f"{name!r} can't be computed .*is probably damaged"):
        compare(broken, {name: golden[name]})
    golden.entries[name] = replace(golden.entries[name], others={"rate": "a"})
    golden.save(tmp_path / "golden.safetensors")
    with pytest.raises(
        ValueError, match=r"'rate' of 'layers\.0\.attention\.query\.output' should be a number, got 'a'"
    ):
        read_trace(tmp_path / "golden.safetensors")


@pytest.mark.slow
def test_noise_has_no_cause_wherever_it_is():
    """Every other tensor of the trace by itself, with noise of its own size."""
    golden, rng = traced(precision=None), np.random.default_rng(0)
    for name, entry in [*golden.entries.items()][::2]:
        array = golden[name]
        if entry.op and entry.op != "update" and array.size >= 8:
            noise = 0.3 * np.abs(array).max() * rng.standard_normal(array.shape)
            (finding,) = compare(golden, {name: array + noise}).findings
            assert finding.departs or "key.bias" in name, name  # whose true gradient is 0
            assert finding.cause == "", name


CONTEXT, VALUE = "layers.0.attention.context", "layers.0.attention.value.output"


def with_others(golden: Trace, of) -> dict[str, np.ndarray]:
    """The first layer's contexts where each head gives `of(v)[1]` the share `of(v)[0]` of each token's weight.

    The longest sequence stays as it is.
    """
    starts, context = golden["batch.starts"], np.array(golden[CONTEXT])
    H = golden.settings["config"]["num_heads"]
    for start, stop in pairwise(starts):
        if 0 < stop - start < np.diff(starts).max():
            rows, v = (x[start:stop].reshape(stop - start, H, -1) for x in (context, golden[VALUE]))
            w, u = of(v)
            rows += w * (u - rows)
    return {name: golden[f"layers.0.attention.{name}.output"] for name in ("query", "key")} | {
        VALUE: golden[VALUE], CONTEXT: context
    }  # fmt: skip


def test_padding_that_is_attended_to_is_named_from_the_context_alone():
    golden, rng = golden_trace(), np.random.default_rng(0)
    theirs = with_others(golden, lambda v: (rng.uniform(0.2, 0.6, (len(v), 1, 1)), rng.normal(size=v.shape[1:])))
    (finding,) = compare(golden, {CONTEXT: theirs[CONTEXT].astype(np.float32)}).departures
    assert "of the probability lies outside the sequence" in finding.cause
    assert 20.0 < float(finding.cause.partition("%")[0]) < 60.0


@pytest.mark.parametrize(
    "of",
    [
        lambda v: (np.linspace(0.2, 0.6, len(v))[:, None, None], v[:1]),  # a token's own value once more
        lambda v: (1e-4 * np.linspace(1.0, 2.0, len(v))[:, None, None], np.full(v.shape[1:], 1e3)),  # far off
        lambda v: (-np.linspace(0.2, 0.6, len(v))[:, None, None], np.ones(v.shape[1:])),  # less than nothing
        lambda v: (0.5, np.random.default_rng(0).normal(size=v.shape)),  # another one for each token
    ],
    ids=["own", "far", "negative", "noise"],
)
def test_what_a_context_is_mixed_with_otherwise_is_no_padding(of):
    golden = golden_trace()
    theirs = with_others(golden, of)
    (finding,) = compare(golden, theirs).departures
    assert (finding.name, finding.cause) == (CONTEXT, "")


NORMED = "layers.0.attention.norm.output"


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_epsilon_is_read_off(outside, dtype):
    golden = golden_trace()
    x = golden["layers.0.attention.norm.sum"]
    gamma, beta = (golden[f"parameters.layers.0.attention.norm.{of}"] for of in ("gamma", "beta"))
    variance = x.var(axis=1, keepdims=True)
    scale = np.sqrt(variance) + 0.0037 if outside else np.sqrt(variance + 0.0037)
    output = gamma * (x - x.mean(axis=1, keepdims=True)) / scale + beta
    (finding,) = compare(golden, {NORMED: output.astype(dtype)}, "float64" if dtype == np.float64 else None).departures
    assert finding.cause == f"epsilon is 0.0037{', outside the root' if outside else ''}"


@pytest.mark.parametrize("name", ["layers.0.attention.probabilities.2", "layers.0.attention.norm.sum"])
def test_dropout_that_is_left_on_is_named_where_it_is_seen(name):
    golden, rng = golden_trace(), np.random.default_rng(0)
    x = golden["embeddings.dropout.output"] if name.endswith("sum") else 0.0
    kept = golden[name] - x
    theirs = {name: x + kept * (rng.random(kept.shape) < 0.75) / 0.75}
    if name.endswith("sum"):
        theirs |= {of: golden[of] for of in ("embeddings.dropout.output", "layers.0.attention.output.output")}
    (finding,) = compare(golden, theirs).departures
    assert finding.cause == "dropout is on, with the rate 0.25"


@pytest.mark.parametrize(("times", "cause"), [(0.0, "the token type's row is dropped"), (2.0, "is added 2 times")])
def test_the_token_types_row_by_itself(times, cause):
    golden, types = golden_trace(), Entry("", "embeddings", "of_types")
    golden.add("embeddings.of_types", np.tile(np.arange(1.0, 9.0), (sum(LENGTHS), 1)), types)
    (finding,) = compare(golden, {"embeddings.of_types": times * golden["embeddings.of_types"]}).departures
    assert cause in finding.cause


def test_what_dropout_at_a_rate_of_0_passes_on_is_what_the_next_ops_work_on():
    """A mistake in the embeddings is not one of the first layer, whichever of the two names theirs have."""
    golden = golden_trace()
    for name in ("embeddings.norm.output", "embeddings.dropout.output"):
        off = np.array(golden[name]) + 0.1
        kernel, bias = (golden[f"parameters.layers.0.attention.query.{of}"] for of in ("kernel", "bias"))
        theirs = {name: off, "layers.0.attention.query.output": off @ kernel + bias}
        assert departing(compare(golden, theirs)) == [name]


def test_an_update_by_adam_with_epsilon_inside_the_root_is_named():
    golden = traced(optimizers.Adam(0.1, epsilon=1e-3), steps=2)
    m, v = (golden[f"step_1.slots.{of}.{KERNEL}"] for of in "mv")
    step = 0.1 * (m / (1.0 - 0.9**2)) / np.sqrt(v / (1.0 - 0.999**2) + 1e-3)
    theirs = {f"step_1.slots.m.{KERNEL}": m, f"step_1.slots.v.{KERNEL}": v}
    theirs[f"step_1.updated.{KERNEL}"] = golden[f"step_1.parameters.{KERNEL}"] - step
    (finding,) = compare(golden, theirs).departures
    assert finding.cause == "epsilon is inside the root"
