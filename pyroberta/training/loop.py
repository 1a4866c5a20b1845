"""One update, one evaluation, and what to say when a number stops being finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.model.batch import Batch
from pyroberta.model.config import RobertaConfig
from pyroberta.model.gradients import Gradients
from pyroberta.model.model import model_backward, model_forward
from pyroberta.model.parameters import Params
from pyroberta.ops import Key, Ops
from pyroberta.training.losses import SparseCategoricalCrossentropy


@dataclass(frozen=True)
class Result:
    """What one batch gave, per masked token; metrics are made of these."""

    losses: Array  # (M,)
    predicted: Array  # (M,) int
    labels: Array  # (M,) int
    weights: Array  # (M,)
    denominator: float  # of the loss; where several batches make one update, the first one's is that of them all


class NonFiniteError(FloatingPointError):
    """A loss or a gradient became NaN or infinite; the parameters are those before the update."""


def compute_gradients(
    ops: Ops,
    params: Params,
    config: RobertaConfig,
    batches: Sequence[Batch],
    grads: Gradients,
    loss: SparseCategoricalCrossentropy,
    seed: int,
    step: int,
    recompute: bool = False,
) -> list[Result]:
    """Sets the trainable part of `grads.sums` to the gradient of the loss over all the batches taken as one.

    The sum of all weighted token losses is divided by the denominator of all the batches together, so that
    accumulating over small batches gives the gradient of the large one. `recompute`: see `encoder_forward`.

    Raises:
        NonFiniteError: naming the step and the first op that gave a number that is not finite.
    """
    all_weights = np.concatenate([batch.weights for batch in batches])
    total = loss.denominator(all_weights, sum(batch.slots for batch in batches))
    trainable = [grads.sums.flat[start:stop] for start, stop in grads.sums.spans(grads.trainable)]
    for sums in trainable:
        sums[:] = 0.0
    results = []
    key = Key.of_update(seed, step)
    for part, batch in enumerate(batches):
        dlosses = (batch.weights / total if total else np.zeros_like(batch.weights)).astype(grads.sums.dtype)
        with np.errstate(all="ignore"):
            (losses, predicted), cache = model_forward(ops, params, config, batch, key, grads.lowest, recompute)
            if not np.isfinite(losses).all():
                raise NonFiniteError(_explain("loss", ops, params, config, batch, key, grads, dlosses, step + 1))
            model_backward(ops, grads, dlosses, cache)
            # A sum of squares tells in one pass, unless it overflows.
            square = sum(ops.squared_norm(sums) for sums in trainable)
            if not math.isfinite(square) and not all(np.isfinite(sums).all() for sums in trainable):
                raise NonFiniteError(_explain("gradient", ops, params, config, batch, key, grads, dlosses, step + 1))
        results.append(Result(losses, predicted, batch.labels, batch.weights, 0.0 if part else total))
    return results


def evaluate_batch(
    ops: Ops, params: Params, config: RobertaConfig, batch: Batch, loss: SparseCategoricalCrossentropy
) -> Result:
    """The result of a batch without dropout."""
    (losses, predicted), _ = model_forward(ops, params, config, batch)
    denominator = loss.denominator(batch.weights, batch.slots)
    return Result(losses, predicted, batch.labels, batch.weights, denominator)


def _explain(
    what: str,
    ops: Ops,
    params: Params,
    config: RobertaConfig,
    batch: Batch,
    key: Key,
    grads: Gradients,
    dlosses: Array,
    step: int,
) -> str:
    """Walks the step again with a table that looks at everything each op gives, and names the first offender."""
    bad = [name for name, array in params.items() if not np.isfinite(array).all()]
    if bad:
        return (
            f"the {what} of step {step} is not finite, since these parameters are not: {_first(bad)}. "
            "They were so before this step: go back to weights that are finite, and if the step before this one made "
            "them so, to a smaller learning rate"
        )
    place = first_non_finite(ops, params, config, batch, key, grads, dlosses)
    return (
        f"the {what} of step {step} is not finite; the first op that gave NaN or infinity is {place}. "
        "The parameters are those before this step. A smaller learning rate, a longer warm-up or "
        "global_clipnorm=1.0 usually helps"
    )


def first_non_finite(
    ops: Ops, params: Params, config: RobertaConfig, batch: Batch, key: Key, grads: Gradients, dlosses: Array
) -> str:
    """The first op call of a step, forward or backward, with a result that is not finite; in words."""
    names = {id(params[name]): name for name in params}
    places: dict[int, str] = {}  # where in the model a cache was made: backward ops know no parameters
    found: list[str] = []
    last = ""  # the last parameter that an op was called with

    def watch(name: str, op: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any) -> Any:
            nonlocal last
            own = next((names[id(arg)] for arg in args if id(arg) in names), None)
            last = own or last
            result = op(*args)
            if name.endswith("_forward"):
                value, cache = result
                place = f"with {own}" if own else f"after {last}"
                if cache is not None:
                    places[id(cache)] = place
            else:
                value = result
                place = places.get(id(args[-1]), f"after {last}")
            arrays = [a for a in (value if isinstance(value, tuple) else (value,)) if isinstance(a, np.ndarray)]
            if not found and not all(np.isfinite(array).all() for array in arrays):
                found.append(f"{name} {place}")
            return result

        return watched

    scratch = Gradients(grads.sums.zeros_like(), grads.trainable)
    table = ops.wrapped(watch)
    _, cache = model_forward(table, params, config, batch, key, grads.lowest)
    if not found:
        model_backward(table, scratch, dlosses, cache)
    return found[0] if found else "none when the step is walked again"


def _first(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
