"""What another implementation may have otherwise without departing: its optimizer, storage, table, and bad numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from op_arguments import arguments_of
from planted import KERNEL, departing, golden_trace, traced
from strategies import seeds

from pyroberta import optimizers, schedules
from pyroberta.backends.bfloat16 import rounded_to_bfloat16
from pyroberta.oracle.compare import compare
from pyroberta.oracle.foreign import align
from pyroberta.oracle.golden import read_trace
from pyroberta.oracle.plain import PLAIN
from pyroberta.oracle.stages import stages

# --- inside an op -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", PLAIN)
@given(seed=seeds)
def test_an_op_value_by_value_is_the_plain_op(op: str, seed: int):
    """Each value computed from its own values before it; and those given are what later ones work on."""
    arguments = arguments_of(op, seed)
    named = dict.fromkeys(PLAIN[op].arguments) | dict(zip(PLAIN[op].arguments, arguments, strict=False))
    values = PLAIN[op].forward(*arguments)
    whole = {of: dict(enumerate(v)) if isinstance(v, list) else v for of, v in values.items()}
    expected, taken = stages(op, named, whole)
    for of, value in values.items():
        np.testing.assert_allclose(flat(expected[of]), flat(value), rtol=1e-12, atol=1e-12, err_msg=of)
        np.testing.assert_array_equal(flat(taken[of]), flat(value), err_msg=of)


def flat(value):
    return np.concatenate([np.ravel(part) for part in value]) if isinstance(value, list) else np.ravel(value)


def test_a_value_inside_an_op_is_judged_from_theirs_before_it():
    """Scores that are off, and a softmax that is right: one departs, and not the other."""
    golden = golden_trace()
    scores = 2.0 * golden["layers.0.attention.scores.0"]
    weights = np.exp(scores - scores.max(2, keepdims=True))
    theirs = {
        "layers.0.attention.scores.0": scores,
        "layers.0.attention.probabilities.0": weights / weights.sum(2, keepdims=True),
    }
    assert departing(compare(golden, theirs)) == ["layers.0.attention.scores.0"]


# --- optimizers -------------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "Adam": lambda: optimizers.Adam(0.01),
    "Adam with decay": lambda: optimizers.Adam(0.01, weight_decay=0.1),
    "AdamW": lambda: optimizers.AdamW(0.01, clipnorm=0.05),
    "TorchAdam": lambda: optimizers.TorchAdam(0.01, clipvalue=0.01),
    "TorchAdamW": lambda: optimizers.TorchAdamW(schedules.Linear(0.01, total_steps=9, warmup_steps=3)),
}
ROOTS = {"Adam": "the bias-corrected root", "TorchAdam": "the root of v without bias correction"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_judged(name: str):
    golden = traced(OPTIMIZERS[name](), steps=2)
    report = compare(golden, traced(OPTIMIZERS[name](), "float32", steps=2, precision=None))
    assert departing(report) == []
    assert report.unjudged == []


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_epsilon_on_the_other_side_is_named_for_every_optimizer(name: str):
    """Epsilon as large as the gradient's root, so that its side is seen."""
    optimizer = OPTIMIZERS[name]()
    optimizer.epsilon, optimizer.learning_rate = 1e-2, 0.01
    golden = traced(optimizer)
    w, g = golden[f"parameters.{KERNEL}"], golden[f"clipped.{KERNEL}"]
    rate, decay = float(golden["learning_rate"]), optimizer.weight_decay or 0.0
    m, root = 0.1 * g, np.sqrt(0.001 * g * g)
    is_torch = name.startswith("Torch")
    step = m / 0.1 / (root / np.sqrt(0.001) + 1e-2) if not is_torch else m / 0.1 * np.sqrt(0.001) / (root + 1e-2)
    report = compare(golden, {f"updated.{KERNEL}": w * (1.0 - rate * decay) - rate * step}, "float64")
    (finding,) = report.departures
    assert finding.cause.startswith(f"epsilon is added to {ROOTS[name.removesuffix(' with decay').removesuffix('W')]}")


def test_an_optimizer_of_the_users_own_is_not_judged():
    class Sign(optimizers.Optimizer):
        slot_names: ClassVar = ("m",)

        def update_range(self, ops, rate, step, w, g, slots, scale, decay, is_finite):
            w -= rate * np.sign(g)

    golden = traced(Sign(0.01), steps=2)
    report = compare(golden, golden, "float64")
    assert departing(report) == []
    assert {name.removeprefix("step_1.").partition(".")[0] for name in report.unjudged} == {"updated", "slots"}


@pytest.mark.parametrize("rate", [np.nan, np.inf, -1.0])
def test_a_learning_rate_that_is_none_departs_and_its_updates_are_not_judged(rate: float):
    golden = golden_trace()
    names = ("learning_rate", f"clipped.{KERNEL}", f"updated.{KERNEL}")
    report = compare(golden, {name: golden[name] for name in names} | {"learning_rate": rate})
    assert departing(report) == ["learning_rate"]
    assert report.unjudged == [f"updated.{KERNEL}"]


def test_frozen_parameters_are_those_of_the_update_before():
    options = {"trainable": ["head.bias", "layers.0.attention.norm.gamma"], "steps": 3}
    golden = traced(**options)
    report = compare(golden, traced(dtype="float32", precision=None, **options))
    assert departing(report) == []
    changed = {f"step_2.parameters.{KERNEL}": golden[f"parameters.{KERNEL}"] + 1e-3}
    assert departing(compare(golden, changed)) == [f"step_2.parameters.{KERNEL}"]


# --- other tables, other storage --------------------------------------------------------------------------------------


def test_the_extension_departs_nowhere():
    pytest.importorskip("pyroberta._native")
    from pyroberta.backends import get_ops

    golden = traced(steps=2)
    native = traced(dtype="float32", steps=2, precision=None, ops=get_ops("native"))
    assert departing(compare(golden, native)) == []


@pytest.mark.parametrize("keep", [lambda x: x.astype(np.float16), rounded_to_bfloat16], ids=["float16", "bfloat16"])
def test_what_was_kept_in_fewer_bits_is_allowed_for(keep):
    golden = golden_trace()
    theirs = traced(dtype="float32", precision=None)
    kept = {name: keep(x) if x.dtype == np.float32 and x.size >= 32 else x for name, x in theirs.items()}
    assert departing(compare(golden, kept)) == []
    name = "layers.1.feed_forward.norm.output"
    assert departing(compare(golden, {name: keep(1.02 * theirs[name])})) == [name]


@pytest.mark.parametrize(("of", "most"), [("ids", 17), ("positions", 12), ("labels", 17)])
@pytest.mark.parametrize("bad", [-1.0, 0.5, np.nan, "most"])
def test_indices_that_are_none_depart_and_nothing_else(of, most, bad):
    golden = golden_trace()
    given = golden[f"batch.{of}"].astype(float)
    given[0] = most if bad == "most" else bad
    theirs = {f"batch.{of}": given} | {name: golden[name] for name in ("embeddings.output", "loss.losses")}
    assert departing(compare(golden, theirs)) == [f"batch.{of}"]


def test_gradients_below_the_smallest_number_are_no_fault():
    golden, theirs = (traced(weights=1e-38, dtype=dtype, loss=of_sum()) for dtype in ("float64", "float32"))
    assert departing(compare(golden, theirs)) == []


def of_sum():
    from pyroberta.losses import SparseCategoricalCrossentropy

    return SparseCategoricalCrossentropy(from_logits=True, reduction="sum")


# --- what is said -----------------------------------------------------------------------------------------------------


def test_gradients_that_are_all_zero_are_told_so():
    golden = traced(optimizers.AdamW(0.1, global_clipnorm=0.05))
    report = compare(golden, {name: 0.0 * golden[name] for name in golden if name.startswith("gradients.")})
    assert {finding.looks for finding in report.departures} == {"it is zero"}
    assert {finding.cause for finding in report.departures} == {""}


@given(factor=seeds.map(lambda seed: np.random.default_rng(seed).uniform(0.01, 0.9)))
def test_a_loss_that_is_off_by_any_factor_has_no_cause(factor: float):
    golden = traced(precision=None)
    theirs = {name: golden[name] for name in ("loss.losses", "loss.denominator")}
    (finding,) = compare(golden, theirs | {"loss.share": factor * golden["loss.share"]}).departures
    assert finding.cause == ""
    assert finding.looks.startswith("it is 0.")


@pytest.mark.parametrize("name", ["d.layers.0.feed_forward.x", f"d.{KERNEL}"])
def test_one_gradient_on_the_way_that_has_a_factor_is_not_the_loss(name: str):
    golden = golden_trace()
    theirs = {one: golden[one] for one in golden if one.startswith("d.")}
    theirs[name] = theirs[name] / golden["loss.denominator"]
    first = compare(golden, theirs).departures[0]
    assert (first.name, first.cause) == (name, "")


def test_probabilities_that_are_halved_are_no_padding():
    golden = golden_trace()
    name = "layers.1.attention.probabilities.0"
    (finding,) = compare(golden, {name: 0.5 * golden[name]}).departures
    assert (finding.cause, finding.looks) == ("", "it is 0.5 times what it should be")


def test_noise_is_no_multiple():
    golden = golden_trace()
    name = "layers.1.attention.query.output"
    noise = 1e-7 * np.random.default_rng(0).standard_normal(golden[name].shape)
    (finding,) = compare(golden, {name: noise}).departures
    assert finding.looks == ""


def test_the_same_cause_at_many_places_is_one_line():
    golden = traced(optimizers.AdamW(0.1, global_clipnorm=0.05))
    theirs = {name: golden[name] for name in golden if name.startswith("gradients.")}
    theirs |= {name.replace("gradients", "clipped"): x for name, x in theirs.items()}
    text = str(compare(golden, theirs))
    assert text.count("the gradient is not clipped") == 1
    assert "    likewise at head.norm.gamma, head.norm.beta, head.dense.kernel and " in text
    assert f"and {len(theirs) // 2 - 4} more" in text


def test_how_far_a_fault_spreads_is_told():
    golden = golden_trace()
    theirs = {name: golden[name] for name in ("layers.1.feed_forward.norm.output", "loss.share")}
    theirs["layers.0.attention.output.output"] = 1.5 * golden["layers.0.attention.output.output"]
    theirs["loss.share"] = 1.25 * theirs["loss.share"]
    text = str(compare(golden, theirs))
    assert "relative difference from the trace: layers.1.feed_forward.norm.output 0.0e+00, loss.share 2.5e-01" in text


def test_what_may_follow_from_an_earlier_departure_is_told_so():
    """A gradient that comes through an op that departs; one that lies before that op is no consequence."""
    golden = golden_trace()
    theirs = {name: golden[name] for name in golden if name.startswith("d.layers.") and name.endswith(".output")}
    theirs["layers.1.feed_forward.activation"] = golden["layers.1.feed_forward.activation"] + 0.1
    theirs["layers.1.feed_forward.output"] = golden["layers.1.feed_forward.output"]
    gradients = ("layers.1.feed_forward.output.kernel", "layers.1.feed_forward.norm.gamma")
    theirs |= {f"gradients.{name}": 1.1 * golden[f"gradients.{name}"] for name in gradients}
    report = compare(golden, theirs)
    follows = {one.name: one.may_follow for one in report.departures}
    assert follows == {
        "layers.1.feed_forward.activation": "",
        "gradients.layers.1.feed_forward.norm.gamma": "",
        "gradients.layers.1.feed_forward.output.kernel": "layers.1.feed_forward.activation",
    }
    assert "of its size): may follow from layers.1.feed_forward.activation\n" in str(report)


def test_numbers_that_are_not_finite_are_null_in_json():
    golden = golden_trace()
    name = "layers.0.attention.context"
    report = compare(golden, {name: np.full_like(golden[name], np.inf), "batch.ids": golden["batch.ids"] + 1})
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert [one["ratio"] is None for one in found["findings"]] == [False, True]
    assert "batch.ids: off by 1, and it should be exact" in str(report)
    assert f"{name}: numbers that are not finite" in str(report)


def test_a_report_is_true_where_nothing_departs():
    golden = golden_trace()
    assert compare(golden, {"loss.losses": golden["loss.losses"]})
    assert not compare(golden, {"loss.losses": golden["loss.losses"] + 1.0})
    assert not compare(golden, {})


def test_what_is_no_trace_and_no_precision_is_refused():
    golden = golden_trace()
    with pytest.raises(TypeError, match=r"golden should be a Trace, got a dict\. The trace is the first argument"):
        compare({"loss.losses": golden["loss.losses"]}, golden)
    with pytest.raises(ValueError, match=r"precision should be one of float32, .*, got 'float16'"):
        compare(golden, {}, "float16")


# --- a damaged trace --------------------------------------------------------------------------------------------------

DAMAGE = {
    "op": ("norm_layer", "the op of .* is 'norm_layer'; it should be one of"),
    "place": (["x"], "the place of .* should be a text"),
    "inputs": (
        {"x": "layers.9"},
        "'layers.0.attention.query.output' has the input 'layers.9', which is not an earlier tensor of the trace",
    ),
    "others": ([1], "inputs and others of .* should be JSON objects"),
    "step": (-1, "the step of .* should be a whole number from 0, got -1"),
}


@pytest.mark.parametrize("of", DAMAGE)
def test_a_trace_that_cannot_be_followed_is_refused(of: str, tmp_path):
    golden = traced(precision=None)
    value, message = DAMAGE[of]
    name = "layers.0.attention.query.output"
    golden.entries[name] = replace(golden.entries[name], **{of: value})
    golden.save(tmp_path / "golden.safetensors")
    with pytest.raises(ValueError, match=f"golden.safetensors is not a valid trace: {message}"):
        read_trace(tmp_path / "golden.safetensors")


@pytest.mark.parametrize("rows", ["targets", "first"])
def test_rows_that_are_there_are_judged_and_what_follows_is_computed_from_all(rows: str):
    golden = golden_trace()
    name, last = "layers.1.feed_forward.output", "layers.1.feed_forward.norm.output"
    present_rows = golden["batch.target_rows"] if rows == "targets" else golden["batch.starts"][:-1]
    theirs = {of: golden[of] for of in ("layers.1.attention.norm.output", "head.dense.output")}
    whole = {**theirs, name: golden[name][present_rows], last: golden[last][present_rows]}
    aligned = align(golden, whole)
    assert set(aligned.partial) == {name, last}
    assert departing(compare(golden, aligned)) == []
    aligned = align(golden, {**whole, name: 1.01 * golden[name][present_rows]})
    assert departing(compare(golden, aligned)) == [name]
