"""An ops table that checks every result. It finds the first op of a training step that returns a number that is not
finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy import ndarray as Array

from pyroberta.model.batch import Batch
from pyroberta.model.config import RobertaConfig
from pyroberta.model.gradients import Gradients
from pyroberta.model.model import model_backward, model_forward
from pyroberta.model.parameters import Params
from pyroberta.ops import Key, Ops

# The number of a backward's results that are arrays; the others are gradients of parameters, which are opaque.
ARRAYS_FIRST = {
    "embedding_backward": 0,
    "linear_backward": 1,
    "low_rank_backward": 1,
    "layer_norm_backward": 1,
    "feed_forward_backward": 1,
    "add_norm_backward": 2,
    "cross_entropy_backward": 1,
    "cross_entropy_backward_input": 1,
}
CALCULATING = (
    "_forward",
    "_backward",
    "_backward_input",
    "logits",
    "add",
)  # the ends of the names of the rows that are watched


def first_non_finite(
    ops: Ops, params: Params, config: RobertaConfig, batch: Batch, key: Key, grads: Gradients, dlosses: Array, loss: str
) -> str | None:
    """Finds the first call of an op in a training step, forward or backward, whose result is not finite.

    Args:
        ops, params, config, batch, key, loss: the arguments of the step; see `model_forward`.
        grads: the names of the trainable parameters are read from it. Its sums do not change.
        dlosses: (M,) the gradient of the losses, as an array of the ops table.

    Returns:
        The name of the ops table's row, and its place in the model: the parameter that it was called with, or else the
        last parameter before it. None if every result is finite.
    """
    names = {id(params[name]): name for name in params}
    places: dict[int, str] = {}  # where in the model a cache was made: backward ops know no parameters
    found: list[str] = []
    last = ""  # the last parameter that an op was called with
    backward = ""  # the last backward, and its place

    def look(call: str, *arrays: Any) -> None:
        if not found and not ops.to_host(ops.all_finite(*arrays)):
            found.append(call)

    def watch(name: str, op: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any) -> Any:
            nonlocal last, backward
            parameter = next((names[id(arg)] for arg in args if id(arg) in names), None)
            last = parameter or last
            result = op(*args)
            if name.endswith("_forward"):
                value, cache = result
                place = f"with {parameter}" if parameter else f"after {last}"
                if cache is not None:
                    places[id(cache)] = place
                value = (
                    value[0] if isinstance(value, tuple) else value
                )  # the losses, without the ids that are likeliest
                look(f"{name} {place}", value)
            elif name == "accumulate":  # a gradient is opaque; the sum that it was added to isn't
                look(backward, result)
            elif name.endswith(CALCULATING):
                values = result if isinstance(result, tuple) else (result,)
                call = f"{name} {places.get(id(args[-1]), f'after {last}')}"
                backward = call if "_backward" in name else backward
                look(call, *values[: ARRAYS_FIRST.get(name, len(values))])
            return result

        return watched

    scratch = Gradients(grads.sums.zeros_like(), grads.trainable)
    watched_ops = ops.wrapped(watch)
    _, cache = model_forward(watched_ops, params, config, batch, key, grads.lowest, loss=loss)
    if not found:
        model_backward(watched_ops, scratch, dlosses, cache)
    return found[0] if found else None
