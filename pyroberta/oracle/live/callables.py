"""The check of anything that takes NumPy arrays and gives some: a JAX function, a program behind a pipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.oracle.golden import Trace
from pyroberta.oracle.live.sides import SIDES, LiveReport, config_of, judged, padded, traced
from pyroberta.oracle.names import names_of
from pyroberta.oracle.trace import check_task
from pyroberta.presets import hf, kerashub
from pyroberta.presets.renaming import unused_rows
from pyroberta.tasks.task import Task

BATCH = ("ids", "positions", "starts", "target_rows", "labels", "weights")
PRECISIONS = {"float32": np.float32, "mixed_bfloat16": np.float32, "float64": np.float64}
Function = Callable[[dict[str, Array], dict[str, Array]], Mapping[str, Any]]


def check_callable(
    fn: Function,
    model: Task,
    texts: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    names: Mapping[str, str] | None = None,
    parameters: str = "pyroberta",
    precision: str = "float32",
    padding_side: str = "right",
) -> LiveReport:
    """Gives a function a model's parameters and a batch, and compares what it returns with the model's trace.

    Dropout is off in the trace. What `fn` may return is in docs/oracle.md: any values, their gradients (`d.` or
    `.grad`), the parameters' gradients, the optimizer's slots and the updated parameters; as much of it as you like.

    Args:
        fn: `fn(batch, parameters) -> {name: array}`. Both arguments are dicts of arrays that are its own.

            | batch | |
            |---|---|
            | `padded_ids`, `attention_mask`, `padded_positions` (B, S) | the sequences, padded; positions from 0 |
            | `padded_labels` (B, S) | the label at each target, -100 elsewhere |
            | `ids`, `positions` (N,), `starts` (B+1,) | the same end to end, without padding |
            | `target_rows`, `labels`, `weights` (M,) | of the targets; rows count in `ids` |
            | `denominator` () | of the loss: `weights @ losses / denominator` |

        model: a `MaskedLM` or `TextClassifier`, which has the parameters, the optimizer and the loss. It is not
            changed.
        texts, y, sample_weight: as for `evaluate`. Sequences of ids are taken too: a masked LM predicts every token
            of them. A classifier's texts have the classes 0, 1, 2, … in turn unless y is given.
        names: your name of a tensor -> the trace's, for names that are neither the trace's nor Hugging Face's, Keras's
            or fairseq's.
        parameters: whose names and layouts the parameters have: `"pyroberta"`, `"hf"` or `"keras"`.
        precision: of the function's arithmetic, `"float32"`, `"mixed_bfloat16"` or `"float64"`. The parameters are
            float64 for the last, else float32.
        padding_side: `"right"` or `"left"`.

    Raises:
        TypeError: where `fn` is no function or returns no mapping, and where the model is none.
        ValueError: for an unknown choice, and as `align` where a shape fits nothing.

    >>> from pyroberta import MaskedLM
    >>> def embed(batch, parameters):
    ...     token, position = parameters["embeddings.token"], parameters["embeddings.position"]
    ...     x = token[batch["padded_ids"]] + position[batch["padded_positions"] + 1]  # should be without the 1
    ...     return {"embeddings.output": x}
    >>> report = check_callable(embed, MaskedLM.from_preset("roberta_tiny_en"), ["A dog barks.", "It is late."])
    >>> report.departures[0].cause
    "positions begin 1 row too late; RoBERTa's first is row padding_idx + 1"
    """
    if not callable(fn):
        raise TypeError(f"fn should be a function, as in check_callable(fn, model, texts); got a {type(fn).__name__}")
    check_task(model, "check_callable(fn, model, texts)")
    formats = ("pyroberta", "hf", "keras")
    for name, value, choices in (
        ("precision", precision, tuple(PRECISIONS)),
        ("parameters", parameters, formats),
        ("padding_side", padding_side, SIDES),
    ):
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    golden = traced(model, texts, y, sample_weight, with_update=True)
    given = _parameters(golden, parameters, PRECISIONS[precision])
    found = fn(_batch(golden, padding_side), given)
    if not isinstance(found, Mapping):
        raise TypeError(f"fn should return a dict of arrays by name, got a {type(found).__name__}")
    tensors = {str(name): np.asarray(array) for name, array in found.items()}
    mask = {"attention_mask": padded(golden, padding_side).mask}
    return judged(golden, {**mask, **tensors}, names, precision)


def _batch(golden: Trace, side: str) -> dict[str, Array]:
    padded_arrays = padded(golden, side)
    return {
        "padded_ids": padded_arrays.ids,
        "attention_mask": padded_arrays.mask.astype(np.int32),
        "padded_positions": padded_arrays.positions,
        "padded_labels": padded_arrays.labels,
        **{name: np.array(golden[f"batch.{name}"]) for name in BATCH},
        "denominator": np.array(golden["loss.denominator"]),
    }


def _parameters(golden: Trace, format: str, dtype: Any) -> dict[str, Array]:
    """The parameters under the names and in the layouts of a format."""
    config = config_of(golden)
    ours = {
        name.removeprefix("parameters."): golden[name].astype(dtype)
        for name in golden
        if name.startswith("parameters.")
    }
    if format == "hf":
        found = {}
        for name, (theirs, transpose) in hf.renaming(config).items():
            array = ours[name].T if transpose else ours[name]
            if name == "embeddings.position":
                array = np.concatenate([np.zeros((unused_rows(config), config.hidden_dim), dtype), array])
            found[theirs] = np.ascontiguousarray(array)
        return found
    if format == "keras":
        shapes = kerashub.renaming(config)
        return {
            names_of(f"parameters.{name}", config.head)["keras"]: kerashub.reshaped(name, ours[name], shape)
            for name, (_, shape) in shapes.items()
        }
    return ours
