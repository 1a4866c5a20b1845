"""One update's gradients, and the finding of the op that broke."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from other_ops import broken
from small_models import gradients_of, random_batch, random_params, small_config
from strategies import seeds

from pyroberta.data.examples import numbered
from pyroberta.model.batch import Batch, take
from pyroberta.ops import REFERENCE, Ops
from pyroberta.training import losses
from pyroberta.training.optimizers import Adam, AdamW
from pyroberta.training.state import TrainState
from pyroberta.training.step import ALONE, Alone, NonFiniteError, Trained, compute_gradients, evaluate_step, train_step

CONFIG = small_config(dropout=0.0)
REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum")


def weighted_batch(seed: int, masked_share: float = 0.5) -> Batch:
    batch = random_batch(CONFIG, [3, 1, 7, 0, 4], seed, masked_share)
    rng = np.random.default_rng(seed)
    return Batch(**{**vars(batch), "weights": rng.random(len(batch.target_rows)) + 0.1, "slots": 20})


def gradients(
    params, batches, reduction="mean_with_sample_weight", trainable=None, ops: Ops = REFERENCE, config=CONFIG
):
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    return gradients_of(params, config, batches, loss, trainable=trainable, ops=ops, step=4)


DROPPING = replace(small_config(dropout=0.1), lora_rank=2)
DROPPING_CLASSIFIER = small_config(dropout=0.1, num_classes=3, classifier_dropout=0.2, lora_rank=2)


@pytest.mark.parametrize("config", [CONFIG, DROPPING, DROPPING_CLASSIFIER], ids=["plain", "dropout", "classifier"])
@given(seed=seeds, cuts=st.lists(st.integers(0, 5), max_size=3), reduction=st.sampled_from(REDUCTIONS))
def test_parts_give_the_gradient_and_the_loss_of_the_whole(config, seed, cuts, reduction):
    """With dropout too: a sequence's masks follow from its number in the update, and not from the part it is in."""
    params, whole = random_params(config, seed), weighted_batch(seed)
    if config.num_classes:
        asked = np.flatnonzero(np.diff(whole.starts))
        labels, weights = asked % 3, np.linspace(0.1, 1.0, len(asked))
        whole = replace(
            whole, target_rows=whole.starts[asked], labels=labels.astype(np.int32), weights=weights, slots=5
        )
    bounds = [0, *sorted(cuts), 5]
    parts = numbered([take(whole, np.arange(a, b)) for a, b in itertools.pairwise(bounds)])
    expected, (one,) = gradients(params, [whole], reduction, config=config)
    found, several = gradients(params, parts, reduction, config=config)
    np.testing.assert_allclose(found.flat, expected.flat, rtol=0, atol=1e-12 * max(1, np.abs(expected.flat).max()))
    assert sum(part.denominator for part in several) == pytest.approx(one.denominator, rel=1e-12)
    assert sum(part.weights @ part.losses for part in several) == pytest.approx(one.weights @ one.losses, rel=1e-12)


def test_earlier_sums_are_forgotten():
    params, batch = random_params(CONFIG, 0), weighted_batch(0)
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    model = Trained(REFERENCE, CONFIG, loss, Adam(), list(params), params.zeros_like())
    compute_gradients(model, TrainState(params, {}), [batch])
    first = model.sums.flat.copy()
    compute_gradients(model, TrainState(params, {}), [batch])
    assert (model.sums.flat == first).all()


def test_a_batch_with_nothing_masked_has_a_gradient_of_zero():
    params = random_params(CONFIG, 0)
    for reduction in REDUCTIONS:
        found, (result,) = gradients(params, [random_batch(CONFIG, [3, 2], 0, masked_share=0.0)], reduction)
        assert not found.flat.any()
        assert len(result.losses) == 0


def test_dropout_changes_from_sequence_to_sequence_and_is_left_out_in_evaluation():
    config = small_config(dropout=0.5)
    params, batch = random_params(config, 0), weighted_batch(0)
    _, (one, again, other) = gradients(params, [batch, batch, numbered([batch, batch])[1]], config=config)
    assert (one.losses == again.losses).all()
    assert (one.losses != other.losses).any()
    evaluated = evaluate_step(REFERENCE, params, config, batch, losses.SparseCategoricalCrossentropy())
    plain = evaluate_step(REFERENCE, params, CONFIG, batch, losses.SparseCategoricalCrossentropy())
    assert (evaluated.losses == plain.losses).all()


@pytest.mark.parametrize(
    ("row", "call", "message"),
    [
        ("linear_forward", 4, "the loss of step 5 .* is linear_forward with layers.1.attention.key.kernel"),
        ("attention_forward", 1, "is attention_forward after layers.1.attention.query.kernel"),
        ("feed_forward_backward", 0, "the gradient of step 5 .* is feed_forward_backward with layers.1.feed_f"),
        ("gelu_backward", 0, "is gelu_backward after head.dense.kernel"),
        ("add_norm_backward", 3, "is add_norm_backward with layers.0.attention.norm.gamma"),
        ("linear_backward", 0, "is linear_backward with head.dense.kernel"),
        ("layer_norm_backward", 1, "is layer_norm_backward with embeddings.norm.gamma"),
        ("attention_backward", 0, "is attention_backward after layers.1.attention.query.kernel"),
    ],
)  # fmt: skip
def test_the_op_that_broke_is_named_with_its_place(row: str, call: int, message: str):
    params, batch = random_params(CONFIG, 0), weighted_batch(0, masked_share=1.0)
    with pytest.raises(NonFiniteError, match=message):
        gradients(params, [batch], ops=broken(row, call))


def test_large_but_finite_gradients_are_no_error():
    """Their sum of squares overflows float32."""
    params = random_params(CONFIG, 0, np.float32)
    batch = weighted_batch(0)
    loud = Batch(**{**vars(batch), "weights": batch.weights * 1e25})
    found, _ = gradients(params, [loud], "sum")
    assert np.isfinite(found.flat).all()
    assert np.abs(found.flat).max() > 1e20


def test_parameters_that_are_not_finite_are_named_first():
    params, batch = random_params(CONFIG, 0), weighted_batch(0)
    for name in list(params)[2:7]:
        params[name].flat[0] = np.inf
    with pytest.raises(NonFiniteError, match=r"these parameters are not: embeddings\.norm\.gamma, .* and 2 more"):
        gradients(params, [batch])


# --- ranks ------------------------------------------------------------------------------------------------------------


class Ranks:
    """Ranks that are threads of one process; each sum over them is taken in the ranks' order."""

    def __init__(self, size: int) -> None:
        self.size, self._barrier = size, threading.Barrier(size, timeout=30)
        self._given: dict[int, object] = {}

    def together(self, rank: int, value):
        """What every rank gives, in their order."""
        self._given[rank] = value
        self._barrier.wait()
        values = [self._given[r] for r in range(self.size)]
        self._barrier.wait()
        return values


class RankOf:
    """One rank's collective, which reduces each range as soon as backward has left it, or all of them in `finish`."""

    def __init__(self, ranks: Ranks, rank: int, is_late: bool = False) -> None:
        self.ranks, self.rank, self.is_late = ranks, rank, is_late
        self.spans: list[tuple[int, int]] = []

    def sum(self, numbers):
        return tuple(map(sum, zip(*self.ranks.together(self.rank, numbers), strict=True)))

    def sums(self, part, rank_sums):
        return rank_sums

    def ready(self, rank_sums, start, stop):
        self.spans.append((start, stop))
        if not self.is_late:
            self.reduce(rank_sums, start, stop)

    def reduce(self, rank_sums, start, stop):
        vectors = self.ranks.together(self.rank, rank_sums.flat[start:stop].copy())
        with np.errstate(over="ignore"):
            rank_sums.flat[start:stop] = sum(vectors)

    def finish(self, rank_sums):
        for span in self.spans if self.is_late else ():
            self.reduce(rank_sums, *span)

    def all_finite(self, is_finite):
        return all(self.ranks.together(self.rank, is_finite))


def updated(config, parts, optimizer, reduction, collective=ALONE, trainable=None) -> tuple[TrainState, Trained]:
    """One update of parameters that are the same each time."""
    params = random_params(config, 0)
    optimizer.build(params)
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    names = list(params) if trainable is None else [name for name in params if trainable(name)]
    model = Trained(REFERENCE, config, loss, optimizer, names, params.zeros_like())
    state = TrainState(params, optimizer.slots, seed=1, step=3)
    train_step(model, state, parts, collective)
    return state, model


def on_ranks(config, shares, make_optimizer, reduction, trainable=None) -> list[tuple[TrainState, Trained, RankOf]]:
    ranks, found, failed = Ranks(len(shares)), {}, []

    def work(rank: int) -> None:
        try:
            collective = RankOf(ranks, rank)
            state, model = updated(config, shares[rank], make_optimizer(), reduction, collective, trainable)
            found[rank] = state, model, collective
        except BaseException as error:
            ranks._barrier.abort()
            failed.append(error)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(shares))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return [found[rank] for rank in range(len(shares))]


def whole_and_cuts(config) -> tuple[Batch, list[Batch]]:
    """The joint batch, and the same in five parts of one sequence, one of which holds no token."""
    whole = weighted_batch(3)
    if config.num_classes:
        asked = np.flatnonzero(np.diff(whole.starts))
        labels, weights = (asked % 3).astype(np.int32), np.linspace(0.1, 1.0, len(asked))
        whole = replace(whole, target_rows=whole.starts[asked], labels=labels, weights=weights, slots=5)
    return whole, numbered([take(whole, np.arange(i, i + 1)) for i in range(5)])


@pytest.mark.parametrize("clip", [{}, {"clipnorm": 0.02}, {"clipvalue": 0.01}, {"global_clipnorm": 0.1}], ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("config", [DROPPING, DROPPING_CLASSIFIER], ids=["masked_lm", "classifier"])
def test_parts_and_ranks_make_the_update_of_the_joint_batch(config, reduction: str, clip: dict):
    """With dropout, LoRA, every reduction and every kind of clipping, in float64."""

    def optimizer() -> Adam:
        return AdamW(0.1, epsilon=1.0, weight_decay=0.1, **clip)  # a small epsilon would blow roundings up

    whole, cuts = whole_and_cuts(config)
    joint, _ = updated(config, [whole], optimizer(), reduction)
    in_parts, _ = updated(config, cuts, optimizer(), reduction)
    ranks = on_ranks(config, [cuts[:2], cuts[2:]], optimizer, reduction)
    for state in (in_parts, *(state for state, _, _ in ranks)):
        for ours, theirs in zip(
            (state.params, *state.slots.values()), (joint.params, *joint.slots.values()), strict=True
        ):
            np.testing.assert_allclose(ours.flat, theirs.flat, rtol=0, atol=1e-12)
        assert (state.step, state.position) == (joint.step, joint.position) == (4, 5)
    assert np.array_equal(ranks[0][0].params.flat, ranks[1][0].params.flat)
    assert np.abs(joint.params.flat - random_params(config, 0).flat).max() > 1e-3


@pytest.mark.parametrize(
    "trainable",
    [None, lambda name: name.startswith("head."), lambda name: "lora" in name, lambda name: "layers.1" in name],
)
def test_a_rank_is_told_of_each_trainable_range_once_and_of_the_head_first(trainable):
    _, cuts = whole_and_cuts(DROPPING)
    for _, model, collective in on_ranks(DROPPING, [cuts, []], Adam, "mean", trainable):
        covered = sorted(collective.spans)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(covered))
        numbers = np.zeros(model.sums.flat.size, int)
        for start, stop in covered:
            numbers[start:stop] += 1
        expected = np.zeros_like(numbers)
        for start, stop in model.sums.spans(model.trainable):
            expected[start:stop] = 1
        assert (numbers == expected).all()
    _, model, collective = on_ranks(DROPPING, [cuts, cuts], Adam, "mean")[0]
    assert collective.spans[0] == model.sums.spans(name for name in model.sums if name.startswith("head."))[0]
    assert collective.spans[-1][0] == 0


def steps_of_ranks(parts_of_ranks, optimizer, reduction="sum", is_late=False, dtype=np.float64, ops=REFERENCE):
    """A step on each rank; whether it raised, and whether nothing had changed."""
    ranks, found = Ranks(len(parts_of_ranks)), {}

    def work(rank: int) -> None:
        params = random_params(DROPPING, 0, dtype)
        before, rule = params.flat.copy(), optimizer()
        rule.build(params)
        loss = losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
        table = ops[rank] if isinstance(ops, list) else ops
        model = Trained(table, DROPPING, loss, rule, list(params), params.zeros_like())
        state = TrainState(params, rule.slots)
        try:
            train_step(model, state, parts_of_ranks[rank], RankOf(ranks, rank, is_late))
            found[rank] = None, state.step
        except NonFiniteError as error:
            found[rank] = str(error), state.step
        found[rank] += (np.array_equal(params.flat, before),)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(parts_of_ranks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[rank] for rank in range(len(parts_of_ranks))]


@pytest.mark.parametrize("is_late", [False, True])
def test_when_one_rank_finds_a_number_that_is_not_finite_none_makes_the_update(is_late: bool):
    _, cuts = whole_and_cuts(DROPPING)
    spoilt = replace(cuts[2], weights=np.full_like(cuts[2].weights, np.inf))
    for raised, step, is_same in steps_of_ranks([[cuts[0]], [spoilt]], lambda: Adam(0.1), is_late=is_late):
        assert raised
        assert (step, is_same) == (0, True)


def test_a_loss_that_is_not_finite_on_one_rank_alone_stops_all():
    """Its gradient is finite, so the answers of the ranks are all that tells."""

    def wrap(name, op):
        def call(*args):
            result = op(*args)
            if name == "cross_entropy_forward":
                result[0][0][0] = np.nan
            return result

        return call if name == "cross_entropy_forward" else op

    _, cuts = whole_and_cuts(DROPPING)
    tables = [REFERENCE, REFERENCE.wrapped(wrap)]
    first, second = steps_of_ranks([[cuts[0]], [cuts[2]]], lambda: Adam(0.1), ops=tables)
    assert (first[1:], second[1:]) == ((0, True), (0, True))
    assert "is none of this process, when the step is made again" in first[0]
    assert "is cross_entropy_forward" in second[0]


@pytest.mark.parametrize("is_late", [False, True])
def test_sums_over_the_ranks_that_overflow_stop_all(is_late: bool):
    """The gradients of each rank are finite, and their sum isn't."""
    _, cuts = whole_and_cuts(DROPPING)
    for weight in (2e37, 5e37, 1e38, 2e38, 3e38):
        parts = [[replace(cuts[2], weights=np.full_like(cuts[2].weights, weight))] for _ in range(2)]
        single = steps_of_ranks(parts[:1], lambda: Adam(0.1), dtype=np.float32)
        both = steps_of_ranks(parts, lambda: Adam(0.1), is_late=is_late, dtype=np.float32)
        if single[0][0] is None and both[0][0]:
            break
    else:
        pytest.fail("no weight was found at which the sum alone overflows")
    assert all(raised and (step, is_same) == (0, True) for raised, step, is_same in both)


def test_a_layer_is_ready_before_backward_goes_on_to_the_one_below():
    """So that its sums can be reduced meanwhile: those of lower layers are zeros then."""
    _, cuts = whole_and_cuts(DROPPING)
    params, seen = random_params(DROPPING, 0), []

    class Watching(Alone):
        def ready(self, rank_sums, start, stop):
            touched = [i for i in range(2) if rank_sums[f"layers.{i}.feed_forward.output.kernel"].any()]
            seen.append((start, touched))

    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    model = Trained(REFERENCE, DROPPING, loss, Adam(), list(params), params.zeros_like())
    compute_gradients(model, TrainState(params, {}), cuts[2:3], Watching())
    layers = [params.ranges[f"layers.{i}.attention.query.kernel"][0] for i in range(2)]
    ready = dict(seen)
    assert seen[0][1] == []  # the head
    assert ready[layers[1]] == [1]
    assert ready[layers[0]] == [0, 1]


# --- another loss -----------------------------------------------------------------------------------------------------


def test_a_loss_names_the_op_that_makes_it():
    """A table with one more op trains on a loss that names it: twice the cross-entropy has twice the gradient."""

    @dataclass(frozen=True)
    class More(Ops):
        doubled_forward: Callable = None
        doubled_backward: Callable = None
        doubled_backward_input: Callable = None

    class Doubled(losses.SparseCategoricalCrossentropy):
        op = "doubled"

    def forward(*args):
        (values, predicted), cache = REFERENCE.cross_entropy_forward(*args)
        return (2.0 * values, predicted), cache

    ops = More(
        **vars(REFERENCE),
        doubled_forward=forward,
        doubled_backward=lambda dy, cache: REFERENCE.cross_entropy_backward(2.0 * dy, cache),
        doubled_backward_input=lambda dy, cache: REFERENCE.cross_entropy_backward_input(2.0 * dy, cache),
    )
    params, batch = random_params(DROPPING, 0), weighted_batch(0)
    for trainable in (list(params), ["layers.0.attention.query.kernel", "head.bias"]):
        plain, (one,) = gradients_of(
            params, DROPPING, [batch], losses.SparseCategoricalCrossentropy(True), trainable=trainable
        )
        found, (two,) = gradients_of(params, DROPPING, [batch], Doubled(True), trainable=trainable, ops=ops)
        assert np.array_equal(found.flat, 2.0 * plain.flat)
        assert np.array_equal(two.losses, 2.0 * one.losses)
    evaluated = evaluate_step(ops, params, DROPPING, batch, Doubled(True))
    once = evaluate_step(ops, params, DROPPING, batch, losses.SparseCategoricalCrossentropy(True))
    assert np.array_equal(evaluated.losses, 2.0 * once.losses)
