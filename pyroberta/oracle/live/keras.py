"""The check of a running RoBERTa of KerasHub."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.formats.budget import type_of
from pyroberta.model.config import RobertaConfig
from pyroberta.model.initial_values import initialise
from pyroberta.model.parameters import Arrays
from pyroberta.oracle.golden import Trace, config_of
from pyroberta.oracle.live.sides import (
    LiveReport,
    Padded,
    check_head,
    headless,
    judged,
    padded,
    task_of,
    traced,
)
from pyroberta.oracle.live.taken import Taken, inputs_of, reader_of
from pyroberta.oracle.live.torch_side import (
    backward_from,
    gradients_kept,
    loss_of,
    to_array,
    unreached,
)
from pyroberta.oracle.names import names_of
from pyroberta.presets import kerashub
from pyroberta.tasks.task import Task
from pyroberta.text.tokenizer import Tokenizer

# A class of KerasHub -> its head, or None.
CLASSES: dict[str, str | None] = {
    "RobertaMaskedLM": "masked_lm",
    "RobertaTextClassifier": "text_classifier",
    "RobertaBackbone": None,
}
PRECISIONS = {"float32": "float32", "float64": "float64", "bfloat16": "mixed_bfloat16"}  # by the dtype of products


def check_keras(
    model: Any,
    texts: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    tokenizer: Tokenizer | None = None,
    reference: Task | None = None,
    precision: str | None = None,
    padding_side: str = "right",
) -> LiveReport:
    """Runs a RoBERTa of KerasHub and compares its tensors with a trace.

    If Keras runs on torch, gradients are compared too, and otherwise only the values of forward. Dropout is off on both
    sides. The model and its gradients are not changed.

    Args:
        model: a `RobertaMaskedLM`, `RobertaTextClassifier` or `RobertaBackbone`.
        texts, y, sample_weight: as for `evaluate`. `texts` may also be sequences of ids, which need no tokenizer; then
            every token of a masked LM is a target. Without `y`, the texts of a classifier have the classes 0, 1, 2, …
            in turn.
        tokenizer: the tokenizer of the texts. The default is that of the model's preprocessor.
        reference: a `MaskedLM` or `TextClassifier` that the model should be equal to, including the parameters. Its
            preprocessor encodes the texts. The default is a task with the model's own config and parameters.
        precision: the model's arithmetic, `"float32"`, `"mixed_bfloat16"` or `"float64"`. The default is that of its
            dtype policy.
        padding_side: `"right"` or `"left"`.

    Returns:
        A `LiveReport`, which is true if no tensor departs.

    Raises:
        TypeError: if the model is of another class.
        ValueError: if the model computes in another dtype, the texts need a tokenizer and there is none, or the
            reference has another head.
    """
    name = next((cls.__name__ for cls in type(model).__mro__ if cls.__name__ in CLASSES), None)
    if name is None:
        raise TypeError(f"model should be one of {', '.join(CLASSES)}, got {type_of(model)}")
    import keras  # which is there, where a model of it is

    backbone = model if CLASSES[name] is None else model.backbone
    remarks: list[str] = []
    if reference is None:
        config = _config(model, backbone, CLASSES[name])
        reference_task = task_of(config, _parameters(model, config), tokenizer or _tokenizer(model, texts))
    else:
        config, reference_task = reference.backbone.config, reference
        check_head(reference, CLASSES[name] or config.head)
    golden = traced(reference_task, texts, y, sample_weight)
    if CLASSES[name] is None:
        golden = headless(golden)
    batch = padded(golden, padding_side)
    is_torch = keras.backend.backend() == "torch"
    found = Taken()
    with ExitStack() as stack:
        if is_torch:
            stack.enter_context(gradients_kept(weight.value for weight in model.weights))
        stack.enter_context(_watched(model, config, found, (lambda tensor: tensor) if is_torch else _array))
        _run(model, CLASSES[name], golden, batch, found, is_torch=is_torch)
        arrays = found.arrays(to_array) if is_torch else dict(found.tensors)
        arrays = _without_slots(arrays, golden, batch)
        arrays |= _of_weights(model, golden, remarks, with_values=reference is not None, is_torch=is_torch)
    if not is_torch:
        remarks.append(
            f"only the values of forward were compared, because Keras runs on {keras.backend.backend()}; on torch "
            "gradients are compared too"
        )
    if not any(name.endswith("/softmax") for name in arrays):
        remarks.append("attention probabilities were not compared, because Keras fuses attention if its dropout is 0")
    arrays = {"padding_mask": batch.mask, **arrays}
    precision = precision or _precision(backbone, arrays, remarks)
    return judged(golden, arrays, found.names_in(golden, arrays), precision, remarks, "keras")


def _config(model: Any, backbone: Any, head: str | None) -> RobertaConfig:
    values = {key: getattr(backbone, key) for key in kerashub.FIELDS}
    classes = model.num_classes if head == "text_classifier" else None
    return RobertaConfig(
        **values,
        dropout=0.0,
        layer_norm_epsilon=kerashub.EPSILON,
        num_classes=classes,
    )


def _parameters(model: Any, config: RobertaConfig) -> Arrays:
    """The model's; a head that it lacks is fresh."""
    import keras

    params = Arrays.of(config, np.float64)
    initialise(params, config, seed=0)
    by_path = {weight.path: weight for weight in model.weights}
    for name in params:
        theirs = names_of(f"parameters.{name}", config.head).get("keras")
        if theirs in by_path:
            array = keras.ops.convert_to_numpy(keras.ops.cast(by_path[theirs].value, "float64"))
            params[name][...] = kerashub.reshaped(name, array, params[name].shape)
        elif not name.startswith("head."):
            raise ValueError(f"the model has no weight {theirs}; its weights are {', '.join(list(by_path)[:4])}, …")
    return params


def _array(tensor: Any) -> Array:
    """A tensor of any backend as an array; bfloat16 as float32."""
    import keras

    if keras.backend.standardize_dtype(tensor.dtype) in ("bfloat16", "float16"):
        tensor = keras.ops.cast(tensor, "float32")
    return np.array(keras.ops.convert_to_numpy(tensor))


def _of_weights(
    model: Any, golden: Trace, remarks: list[str], *, with_values: bool, is_torch: bool
) -> dict[str, Array]:
    """The weights' gradients where there are some, and the weights themselves where they matter."""
    reader = reader_of(config_of(golden))
    found = {}
    for weight in model.weights:
        ours = next((match.name for match in reader.read(weight.path) if match.format == "keras"), "")
        size = golden[ours].size if ours in golden else None
        if size is not None and size != int(np.prod(weight.shape)):
            remarks.append(f"{weight.path} has the shape {tuple(weight.shape)}, {ours} has {golden[ours].shape}")
            continue
        if with_values:
            found[weight.path] = _array(weight.value)
        if is_torch and weight.value.grad is not None:
            found[f"gradients.{weight.path}"] = to_array(weight.value.grad)
        elif is_torch and f"gradients.{ours.removeprefix('parameters.')}" in golden:
            found[f"gradients.{weight.path}"] = unreached(weight.path, _array(weight.value), remarks)
    return found


def _precision(backbone: Any, arrays: Mapping[str, Array], remarks: list[str]) -> str:
    dtype = backbone.compute_dtype
    if dtype not in PRECISIONS:
        raise ValueError(
            f"the model should compute in one of {', '.join(PRECISIONS)}, got {dtype}, which has no bounds"
        )
    if dtype == "float64" and not any(array.dtype == np.float64 for array in arrays.values()):
        remarks.append("the model's dtype is float64, but its tensors are float32; they are judged as float32")
        return "float32"
    return PRECISIONS[dtype]


def _tokenizer(model: Any, texts: Any) -> Tokenizer | None:
    """That of the model's preprocessor; None where it has none, or the texts need none."""
    theirs = getattr(getattr(model, "preprocessor", None), "tokenizer", None)
    if theirs is None or isinstance(texts, Mapping):
        return None
    vocabulary = {token: int(theirs.token_to_id(token)) for token in theirs.get_vocabulary()}
    return Tokenizer(vocabulary, [tuple(merge.split(" ")) for merge in theirs.merges])


# --- the run ----------------------------------------------------------------------------------------------------------


@contextmanager
def _watched(model: Any, config: RobertaConfig, found: Taken, taken: Callable[[Any], Any]) -> Iterator[None]:
    """Every layer's result goes into `found` while the model runs, and what the norms work on."""
    shown = inputs_of(config, "keras")
    layers = _layers(model)

    def watch(layer: Any, name: str) -> Callable[..., Any]:
        call, before = layer.call, shown.get(name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if before and args:
                found.add(f"{name}.input", taken(args[0]), before)
            result = call(*args, **kwargs)
            first = result[0] if isinstance(result, tuple | list) else result
            if name not in found:  # the token embedding is asked once more for the logits
                found.add(name, taken(first))
            return result

        return watched

    instance_calls = {name: vars(layer).get("call") for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            layer.call = watch(layer, name)
        yield
    finally:
        for name, layer in layers.items():
            if instance_calls[name] is None:
                del layer.call
            else:
                layer.call = instance_calls[name]


def _layers(model: Any) -> dict[str, Any]:
    """The layers by their paths, those inside others included. A softmax has none; it is named after its attention."""
    found = {}
    for layer in model._flatten_layers(include_self=False):
        if type(layer).__name__ == "InputLayer":
            continue
        if layer.path:  # a backbone's own has a number behind
            found["roberta_backbone" if layer is getattr(model, "backbone", None) else layer.path] = layer
        elif layer.name == "embeddings_dropout":  # it has no weights, and so is never built
            found[layer.name] = layer
        for inner in layer._flatten_layers(include_self=False, recursive=False):
            if type(inner).__name__ == "Softmax" and layer.path:
                found[f"{layer.path}/softmax"] = inner
    return found


def _run(model: Any, head: str | None, golden: Trace, batch: Padded, found: Taken, *, is_torch: bool) -> None:
    """Forward; on torch backward too."""
    inputs = {"token_ids": batch.ids.astype(np.int32), "padding_mask": batch.mask.astype(np.int32)}
    owners, slots, columns = _slots(golden, batch)
    if head == "masked_lm":
        inputs["mask_positions"] = np.zeros((len(batch.ids), int(slots.max(initial=0)) + 1), np.int32)
        inputs["mask_positions"][owners, slots] = columns
    output = model(inputs, training=False)
    if not is_torch:
        return
    if head is None:
        backward_from(output, golden, batch)
    else:
        loss_of(output[owners, slots] if head == "masked_lm" else output, golden, found).backward()


def _without_slots(arrays: Mapping[str, Array], golden: Trace, batch: Padded) -> dict[str, Array]:
    """The tensors, those of the masked LM's head (M, …) and not (B, K, …)."""
    owners, slots, _ = _slots(golden, batch)
    shape = len(batch.ids), int(slots.max(initial=0)) + 1
    return {
        name: x[owners, slots] if name.startswith("mlm_head") and x.shape[:2] == shape else x
        for name, x in arrays.items()
    }


def _slots(golden: Trace, batch: Padded) -> tuple[Array, Array, Array]:
    """(M,) each: the sequence of each target, its number among the sequence's targets, and its column."""
    owner_of_row, column_of_row = np.nonzero(batch.mask)
    rows = golden["batch.target_rows"]
    owners = owner_of_row[rows]
    return owners, np.arange(len(rows)) - np.searchsorted(owners, owners), column_of_row[rows]
