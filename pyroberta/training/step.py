"""An update as a function of a state, the evaluation of a batch, and the error for a number that is not finite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy import ndarray as Array

from pyroberta.model.batch import Batch
from pyroberta.model.config import RobertaConfig
from pyroberta.model.gradients import Gradients
from pyroberta.model.model import model_backward, model_forward, model_logits
from pyroberta.model.parameters import Arrays, Params, PreparedArrays
from pyroberta.model.trace import first_non_finite
from pyroberta.ops import Key, Ops, Scalar
from pyroberta.training.losses import SparseCategoricalCrossentropy
from pyroberta.training.optimizers import Optimizer
from pyroberta.training.state import TrainState


class NonFiniteError(FloatingPointError):
    """Raised if a loss or a gradient is NaN or infinite. The parameters are those before the update."""


class Collective(Protocol):
    """The communication of the ranks that make one update together.

    Each rank has some sequences of the update, in one or several parts. Every rank calls these methods in the same
    order.
    """

    def sum(self, numbers: tuple[float, ...]) -> tuple[float, ...]:
        """Returns the sum of each number over all ranks."""

    def sums(self, part: int, rank_sums: Arrays) -> Arrays:
        """Returns the vector to which the gradients of a part are added. `rank_sums` is the vector of this rank, which
        is 0 at first.
        """

    def ready(self, rank_sums: Arrays, start: int, stop: int) -> None:
        """Tells that the sums of this rank are complete from start to stop. After `finish`, `rank_sums` has those of
        all ranks.
        """

    def finish(self, rank_sums: Arrays) -> None:
        """Waits until `rank_sums` has the sums of all ranks, in every range that is ready."""

    def all_finite(self, is_finite: Scalar) -> Scalar:
        """Returns whether the numbers of every rank are finite."""


class Alone:
    """The collective of a single process."""

    def sum(self, numbers: tuple[float, ...]) -> tuple[float, ...]:
        """Returns the numbers themselves."""
        return numbers

    def sums(self, part: int, rank_sums: Arrays) -> Arrays:
        """Returns the vector of the process, for every part."""
        return rank_sums

    def ready(self, rank_sums: Arrays, start: int, stop: int) -> None:
        """Does nothing, since there are no other ranks."""

    def finish(self, rank_sums: Arrays) -> None:
        """Does nothing, since there are no other ranks."""

    def all_finite(self, is_finite: Scalar) -> Scalar:
        """Returns the value itself."""
        return is_finite


ALONE = Alone()


def _in_place(state: TrainState) -> AbstractContextManager[Arrays]:
    return nullcontext(state.params)


@dataclass(frozen=True)
class Trained:
    """A model with its loss and optimizer. Nothing of it changes from step to step.

    Attributes:
        ops: the ops table, which has the precision.
        config: the config of the encoder and the head.
        loss, optimizer: the loss that is minimised, and the optimizer.
        trainable: the names of the parameters that change.
        sums: the vector of the sums of the gradients. A step overwrites it.
        recompute, all_rows: see `encoder_forward` and `model_forward`.
        keeps_outputs: whether results have logits. They are computed only for the results.
        prepared: the prepared kernels of parameters that do not change.
        changing: a function that returns a `with` block, in which the parameters may be changed.
    """

    ops: Ops
    config: RobertaConfig
    loss: SparseCategoricalCrossentropy
    optimizer: Optimizer
    trainable: Sequence[str]
    sums: Arrays
    recompute: bool = False
    prepared: dict[str, Any] = field(default_factory=dict)
    changing: Callable[[TrainState], AbstractContextManager[Arrays]] = _in_place
    all_rows: bool = False
    keeps_outputs: bool = False


@dataclass(frozen=True)
class Result:
    """The result of one batch at each target row, from which metrics are computed."""

    losses: Array  # (M,)
    predicted: Array  # (M,) int
    labels: Array  # (M,) int
    weights: Array  # (M,)
    denominator: float  # of the loss; where several batches make one update, the first one's is that of them all
    outputs: Array | None = None  # (M, V) logits, where they are kept


@dataclass(frozen=True)
class Backpropagated:
    """The result of forward and backward of one update, in arrays of the ops table.

    Attributes:
        values: the losses (M,) and the most likely ids (M,) of each part.
        denominator: the denominator of the loss over all parts of all ranks.
        examples: the number of sequences in all parts of all ranks.
        is_finite: a scalar that says whether all losses and gradients are finite on every rank.
        outputs: the logits of each part on the host, or None.
    """

    values: Sequence[tuple[Any, Any]]
    denominator: float
    examples: int
    is_finite: Scalar
    outputs: Sequence[Array | None] = ()


def compute_gradients(
    model: Trained, state: TrainState, parts: Sequence[Batch], collective: Collective = ALONE
) -> Backpropagated:
    """Sets the trainable ranges of `model.sums` to the gradient of the loss over all parts taken as one batch.

    The sum of all weighted losses is divided by the denominator of all parts of all ranks together, and each sequence
    has its number in the update. So the gradient is that of the joint batch, whatever the parts and ranks are, also
    with dropout.
    """
    ops, sums = model.ops, model.sums
    params, key = _prepared(model, state), Key.of_update(state.seed, state.step)
    weights = sum(sum_of_weights(batch) for batch in parts)
    counts = weights, float(sum(batch.slots for batch in parts)), float(sum(len(batch) for batch in parts))
    weight_sum, slots, examples = collective.sum(counts)
    denominator = model.loss.denominator(weight_sum, slots)

    spans = sums.spans(model.trainable)
    for span in spans:
        ops.fill(sums.span(*span), 0.0)

    def ready(start: int, stop: int) -> None:
        collective.ready(sums, start, stop)

    values = []
    outputs: list[Array | None] = []
    with np.errstate(all="ignore"):
        for part, batch in enumerate(parts):
            is_last = part == len(parts) - 1
            grads = Gradients(collective.sums(part, sums), model.trainable, ready if is_last else None)
            dlosses = _dlosses(ops, batch, denominator, sums)
            (losses, predicted), cache = model_forward(
                ops,
                params,
                model.config,
                batch,
                key,
                grads.lowest,
                model.recompute,
                model.loss.op,
                model.all_rows,
            )
            if not model.loss.from_logits:
                losses, dlosses = _of_probabilities(ops, model.loss, losses, dlosses)
            model_backward(ops, grads, dlosses, cache)
            values.append((losses, predicted))
            outputs.append(
                model_logits(ops, params, model.config, batch, batch.target_rows, key) if model.keeps_outputs else None
            )
        if not parts:  # a rank without a sequence adds zeros
            Gradients(sums, model.trainable, ready).finish_all()
        collective.finish(sums)
        is_finite = ops.all_finite(*(losses for losses, _ in values), *(sums.span(*span) for span in spans))
        return Backpropagated(values, denominator, int(examples), collective.all_finite(is_finite), outputs)


def train_step(
    model: Trained,
    state: TrainState,
    parts: Sequence[Batch],
    collective: Collective = ALONE,
    done: Callable[[list[Result]], None] | None = None,
) -> list[Result]:
    """Makes one update of `state`, in place, from all parts taken as one batch.

    Args:
        model: the model with its loss and optimizer.
        state: the state. Its parameters, slots, step and position change. If an error is raised, none of them changes.
        parts: batches whose `numbers` continue from one to the next, over all ranks.
        collective: the communication with other ranks.
        done: a function that is called with the results before `model.changing` ends, so that it is part of the update.

    Returns:
        The result of each part, on the host.

    Raises:
        NonFiniteError: if a loss or a gradient is not finite. The message names the step and the first op that returned
            such a number.
    """
    ops = model.ops
    found = compute_gradients(model, state, parts, collective)
    with model.changing(state) as params, np.errstate(all="ignore"):
        model.optimizer.update(params, model.sums, state.slots, state.step, model.trainable, ops, found.is_finite)
        is_finite = bool(ops.to_host(found.is_finite))
        if is_finite:
            model.optimizer.average(params, state.slots, state.step, model.trainable, ops)
            results = _results(ops, parts, found)
            state.step += 1
            state.position += found.examples
            if done is not None:
                done(results)
    if not is_finite:
        raise NonFiniteError(_explain(model, state, parts, found))
    return results


def _results(ops: Ops, parts: Sequence[Batch], found: Backpropagated) -> list[Result]:
    results = []
    for part, ((losses, predicted), outputs, batch) in enumerate(zip(found.values, found.outputs, parts, strict=True)):
        denominator = 0.0 if part else found.denominator
        values = ops.to_host(losses), ops.to_host(predicted), batch.labels, batch.weights
        results.append(Result(*values, denominator, outputs))
    return results


def evaluate_step(
    ops: Ops,
    params: Params,
    config: RobertaConfig,
    batch: Batch,
    loss: SparseCategoricalCrossentropy,
    keeps_outputs: bool = False,
) -> Result:
    """Returns the result of a batch without dropout."""
    (losses, predicted), _ = model_forward(ops, params, config, batch, loss=loss.op)
    if not loss.from_logits:
        losses, _ = _of_probabilities(ops, loss, losses, losses)
    denominator = loss.denominator(sum_of_weights(batch), batch.slots)
    outputs = model_logits(ops, params, config, batch, batch.target_rows) if keeps_outputs else None
    values = ops.to_host(losses), ops.to_host(predicted), batch.labels, batch.weights
    return Result(*values, denominator, outputs)


def _dlosses(ops: Ops, batch: Batch, denominator: float, like: Arrays) -> Any:
    """The gradient of the reduced loss by the loss of each target row: (M,), an array of the ops table's."""
    dlosses = batch.weights / denominator if denominator else np.zeros_like(batch.weights)
    return ops.from_host(dlosses.astype(like.dtype))


def _of_probabilities(ops: Ops, loss: SparseCategoricalCrossentropy, losses: Any, dlosses: Any) -> tuple[Any, Any]:
    """losses (M,) of softmax's probabilities as Keras clips them, and dlosses (M,), 0 where that takes effect."""
    clipped, has_gradient = loss.clipped(ops.to_host(losses))
    return ops.from_host(clipped), ops.from_host(ops.to_host(dlosses) * has_gradient)


def sum_of_weights(batch: Batch) -> float:
    """Returns the sum of a batch's weights, in float64."""
    return float(batch.weights.sum(dtype=np.float64))


def _prepared(model: Trained, state: TrainState) -> Params:
    return PreparedArrays(state.params, model.ops.prepare, model.prepared, model.trainable)


def _explain(model: Trained, state: TrainState, parts: Sequence[Batch], found: Backpropagated) -> str:
    """Makes the step again with an ops table that checks every result, and names the first that is not finite."""
    ops, step = model.ops, state.step + 1
    quantity = "gradient" if all(ops.to_host(ops.all_finite(losses)) for losses, _ in found.values) else "loss"
    bad = [name for name in state.params if not ops.to_host(ops.all_finite(state.params[name]))]
    if bad:
        return (
            f"the {quantity} of step {step} is not finite, since these parameters are not: {_first(bad)}. They were "
            "not finite before this step: go back to finite weights, and use a smaller learning rate if the step "
            "before this one changed them"
        )
    params, key = _prepared(model, state), Key.of_update(state.seed, state.step)
    grads = Gradients(model.sums, model.trainable)
    place = None
    with np.errstate(all="ignore"):
        for batch in parts:
            dlosses = _dlosses(ops, batch, found.denominator, model.sums)
            place = place or first_non_finite(ops, params, model.config, batch, key, grads, dlosses, model.loss.op)
    return (
        f"the {quantity} of step {step} is not finite; the first op that returned NaN or infinity is "
        f"{place or 'none of this process, when the step is made again'}. The parameters are those before this step. A "
        "smaller learning rate, a longer warm-up or global_clipnorm=1.0 usually helps"
    )


def _first(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
