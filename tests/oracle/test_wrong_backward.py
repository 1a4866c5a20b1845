"""What the comparison says of a backward that is wrong: the order, the places, and the tensors to give next."""

from __future__ import annotations

import numpy as np
import pytest
from planted import clean, config_of, run

from pyroberta.ops import REFERENCE, Ops
from pyroberta.oracle.compare import compare
from pyroberta.oracle.golden import Trace

NORMS = ("layer_norm_backward", "add_norm_backward")


def half(dx_hat, x_hat):
    """Half of the gradient through the variance: no mistake of the catalogue."""
    return dx_hat - dx_hat.mean(axis=1, keepdims=True) - 0.5 * x_hat * (dx_hat * x_hat).mean(axis=1, keepdims=True)


def without_variance(dx_hat, x_hat):
    return dx_hat - dx_hat.mean(axis=1, keepdims=True)


def sum_of_row(dx_hat, x_hat):
    return dx_hat - dx_hat.sum(axis=1, keepdims=True) - x_hat * (dx_hat * x_hat).mean(axis=1, keepdims=True)


def ops_with(change, first_only: bool = False) -> Ops:
    """Ops with another dx of every norm, or only of the first norm in backward, `head.norm`."""
    calls = 0

    def wrap(name, op):
        if name not in NORMS:
            return op

        def backward(dy, cache):
            nonlocal calls
            calls += 1
            *dxs, dgamma, dbeta = op(dy.copy(), cache)
            if first_only and calls > 1:
                return (*dxs, dgamma, dbeta)
            norm = getattr(cache, "norm", cache)
            dx = norm.inverse_std[:, None] * change(dy * norm.gamma, norm.x_hat)
            return (*(dx for _ in dxs), dgamma, dbeta)

        return backward

    return REFERENCE.wrapped(wrap)


def wrong(change, **options) -> Trace:
    return run(config_of(), 0, ops_with(change, **options), precision=None)


def beginning(trace: Trace, *beginnings: str) -> dict[str, np.ndarray]:
    return {name: trace[name] for name in trace if name.startswith(beginnings)}


def finished(golden: Trace, name: str) -> int:
    """When backward has the tensor: a parameter's gradient with its last term."""
    at = {one: i for i, one in enumerate(golden)}
    entry = golden.entries[name]
    return max(at[one] for one in entry.inputs.values()) if entry.op == "sum" else at[name]


@pytest.mark.parametrize("ending", ["norm.output", "x.added"])
def test_a_gradient_follows_from_none_that_backward_computes_later(ending):
    golden, theirs = clean(), wrong(half)
    given = {name: theirs[name] for name in theirs if name.startswith("d.layers.") and name.endswith(ending)}
    report = compare(golden, given | beginning(theirs, "gradients."), "float64")
    assert len(report.departures) > 20
    for one in report.findings:
        if one.may_follow:
            assert finished(golden, one.may_follow) < finished(golden, one.name), one


@pytest.mark.parametrize("other", ["d.layers.0.feed_forward.norm.x", "d.layers.0.feed_forward.x.added"])
def test_a_gradient_of_a_higher_layer_does_not_follow_from_the_backward_of_a_lower_one(other):
    """No value of forward is given, so that the forward of layer 0 is computed for each of the two."""
    golden = clean()
    names = ("gradients.layers.1.attention.query.kernel", "gradients.layers.1.attention.value.kernel")
    noise = np.random.default_rng(0)
    theirs = {name: golden[name] + noise.normal(size=golden[name].shape) for name in (other, *names)}
    assert [one.may_follow for one in compare(golden, theirs).departures] == ["", "", ""]


def test_the_op_itself_is_among_the_places_of_an_unknown_cause():
    golden, theirs = clean(), wrong(sum_of_row, first_only=True)
    given = {name: theirs[name] for name in theirs if name.endswith("norm.output")} | beginning(theirs, "d.head")
    (finding,) = compare(golden, given, "float64").departures
    assert (finding.name, finding.backward) == ("d.head.norm.x", ("head.norm",))
    assert finding.why.startswith(
        "cause unknown; the mistake is in the backward of head.norm, or in the forward of head.target_rows, "
        "head.dense, head.gelu (recomputed, because not all results were given)"
    )
    (finding,) = compare(golden, given | {"head.gelu.output": golden["head.gelu.output"]}, "float64").departures
    assert finding.why.startswith("cause unknown; the mistake is in the backward of head.norm")
    assert "forward" not in finding.why


def test_gradients_are_told_in_the_order_of_backward_with_what_to_give_next():
    golden, theirs = clean(), wrong(half)
    report = compare(golden, beginning(theirs, "gradients."), "float64")
    names = [one.name for one in report.findings]
    assert names == sorted(names, key=lambda name: finished(golden, name))
    assert report.departures[0].name == "gradients.head.dense.kernel"
    assert (
        "the last right one before gradients.head.dense.kernel is gradients.head.norm.beta; to narrow it down, give "
        "d.head.gelu.output, d.head.dense.output"
    ) in str(report)


def test_the_tensors_to_give_next_lead_to_the_op():
    golden, theirs = clean(), wrong(half)
    given = beginning(theirs, "gradients.")
    for _ in range(3):
        first = compare(golden, given, "float64").departures[0]
        given |= {name: theirs[name] for name in first.give}
    assert (first.name, first.backward) == ("d.head.gelu.output", ("head.norm",))


def test_parameters_after_the_update_are_told_in_the_order_of_backward():
    golden = clean()
    report = compare(golden, {name: golden[name] for name in golden if name.startswith(("clipped.", "updated."))})
    for group in ("clipped.", "updated."):
        names = [one.name.removeprefix(group) for one in report.findings if one.name.startswith(group)]
        assert names == sorted(names, key=lambda name: finished(golden, f"gradients.{name}"))
        assert len(names) > 20


def test_the_gradients_of_the_parameters_alone_name_a_mistake_of_the_catalogue():
    first, *others = compare(clean(), beginning(wrong(without_variance), "gradients."), "float64").departures
    assert (first.name, first.place) == ("gradients.head.dense.kernel", "head.norm")
    assert first.cause == "no gradient goes through the variance"
    assert "head.norm: no gradient goes through the variance (explains 100.00%" in str(first)
    assert {one.may_follow for one in others} == {first.name}


def test_a_sum_that_was_given_by_its_other_name_is_told_by_that_name():
    golden = clean()
    name, terms = "d.layers.0.feed_forward.norm.output", ("key.x", "value.x", "query.x")
    theirs = beginning(golden, "d.layers.1.attention.")
    theirs = {one: array for one, array in theirs.items() if not one.endswith(".added")}
    theirs[name] = sum(golden[f"d.layers.1.attention.{term}"] for term in terms)  # without the residual
    (finding,) = compare(golden, theirs).departures
    assert finding.name == name
    assert "d.layers.1.attention.norm.x, the gradient that comes through the residual, is missing" in finding.cause
    assert not [one for one in compare(golden, theirs).findings if one.name.endswith(".added")]


def test_a_result_of_an_op_and_the_gradient_that_it_got_are_two_departures():
    """The gradient of a norm's result is wrong, and so is the norm's own backward."""
    golden, names = clean(), ["d.layers.0.attention.norm.output", "d.layers.0.attention.norm.h"]
    theirs = beginning(golden, "layers.", "head.")
    theirs |= {name: golden[name] + np.random.default_rng(0).normal(size=golden[name].shape) for name in names}
    assert [one.name for one in compare(golden, theirs).departures] == names
