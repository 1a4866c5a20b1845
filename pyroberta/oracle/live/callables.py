"""The check of a function from NumPy arrays to NumPy arrays, such as a JAX function or a program behind a pipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.formats.budget import type_of
from pyroberta.oracle.golden import Trace, config_of
from pyroberta.oracle.live.sides import SIDES, LiveReport, judged, padded, traced
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
    """Runs a function on a model's parameters and a batch, and compares its results with the model's trace.

    Dropout is off in the trace. docs/oracle.md lists what `fn` may return: values, their gradients (`d.` or `.grad`),
    the gradients of parameters, the optimizer's slots and the updated parameters. It may return any part of these.

    Args:
        fn: a function `fn(batch, parameters) -> {name: array}`. It may change both dicts and their arrays.

            | batch | |
            |---|---|
            | `padded_ids`, `attention_mask`, `padded_positions` (B, S) | the sequences, padded; positions from 0 |
            | `padded_labels` (B, S) | the label at each target, -100 elsewhere |
            | `ids`, `positions` (N,), `starts` (B+1,) | the sequences one after the other, without padding |
            | `target_rows`, `labels`, `weights` (M,) | of the targets; `target_rows` are indices of `ids` |
            | `denominator` () | of the loss: `weights @ losses / denominator` |

        model: a `MaskedLM` or `TextClassifier`, which has the parameters, the optimizer and the loss. It is not
            changed.
        texts, y, sample_weight: as for `evaluate`. `texts` may also be sequences of ids; then every token of a masked
            LM is a target. Without `y`, the texts of a classifier have the classes 0, 1, 2, … in turn.
        names: your name of a tensor -> the trace's name, for names that are not those of the trace, Hugging Face, Keras
            or fairseq.
        parameters: the format of the names and layouts of the parameters: `"pyroberta"`, `"hf"` or `"keras"`.
        precision: the function's arithmetic, `"float32"`, `"mixed_bfloat16"` or `"float64"`. The parameters are float64
            for `"float64"`, and float32 otherwise.
        padding_side: `"right"` or `"left"`.

    Returns:
        A `LiveReport`, which is true if no tensor departs.

    Raises:
        TypeError: if `fn` is not a function or does not return a mapping, or if `model` is not a task.
        ValueError: if `parameters`, `precision` or `padding_side` is unknown, and as in `align` if a shape does not
            fit.

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
        raise TypeError(f"fn should be a function, as in check_callable(fn, model, texts); got {type_of(fn)}")
    check_task(model, "check_callable(fn, model, texts)")
    formats = ("pyroberta", "hf", "keras")
    for name, value, choices in (
        ("precision", precision, tuple(PRECISIONS)),
        ("parameters", parameters, formats),
        ("padding_side", padding_side, SIDES),
    ):
        if value not in choices:
            raise ValueError(f"{name} should be one of {', '.join(map(repr, choices))}, got {value!r}")
    golden = traced(model, texts, y, sample_weight, with_update=True)
    given = _parameters(golden, parameters, PRECISIONS[precision])
    found = fn(_batch(golden, padding_side), given)
    if not isinstance(found, Mapping):
        raise TypeError(f"fn should return a dict from names to arrays, got {type_of(found)}")
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
