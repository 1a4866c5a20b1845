"""The check of a running RoBERTa of transformers."""

from __future__ import annotations

import copy
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.formats.budget import type_of
from pyroberta.formats.stored import Stored
from pyroberta.model.config import RobertaConfig
from pyroberta.model.parameters import Arrays
from pyroberta.oracle.golden import Entry, Trace
from pyroberta.oracle.live.sides import LiveReport, Padded, check_head, headless, judged, padded, task_of, traced
from pyroberta.oracle.live.taken import Taken, inputs_of, reader_of
from pyroberta.oracle.live.torch_optimizers import ours_of, same_optimizer, stepped
from pyroberta.oracle.live.torch_side import (
    backward_from,
    gradients_kept,
    loss_of,
    rows_of,
    to_array,
    unreached,
)
from pyroberta.presets import hf
from pyroberta.presets.checks import check_vocabulary
from pyroberta.presets.renaming import unused_rows
from pyroberta.tasks.task import Task
from pyroberta.text.tokenizer import Tokenizer

SAME_MODEL = ("roberta", "xlm-roberta", "camembert")  # model_type of those with the same arithmetic and names
# Ends of the classes' names -> `architectures` of config.json.
CLASSES = {
    "ForMaskedLM": "RobertaForMaskedLM",
    "ForSequenceClassification": "RobertaForSequenceClassification",
    "Model": "RobertaModel",
}
TOKEN_TYPES = "embeddings.token_type_embeddings"
OF_TYPES = "embeddings.of_types"
VOCABULARY = "roberta_base_en"  # whose vocabulary ships with the package
HALF = "the model is in float16, for which there are no bounds: check model.float() or model.bfloat16()"


def check_transformers(
    model: Any,
    texts: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    tokenizer: Any = None,
    reference: Task | None = None,
    optimizer: Any = None,
    precision: str | None = None,
    attn_implementation: str | None = None,
    padding_side: str = "right",
) -> LiveReport:
    """Runs forward and backward of a RoBERTa of transformers, and compares its tensors with a trace.

    Dropout is off on both sides. The loss is the cross-entropy of the model's logits at the targets, with the weights
    of pyroberta. A model without a head gets the gradient of the last hidden state from the trace. The model, its
    gradients and the optimizer are not changed.

    Args:
        model: a `RobertaForMaskedLM`, `RobertaForSequenceClassification` or `RobertaModel`, or the same class of
            XLM-RoBERTa or CamemBERT.
        texts, y, sample_weight: as for `evaluate`. `texts` may also be sequences of ids, which need no tokenizer; then
            every token of a masked LM is a target. Without `y`, the texts of a classifier have the classes 0, 1, 2, …
            in turn.
        tokenizer: a `pyroberta.Tokenizer`, a tokenizer of transformers with a byte-level BPE, or the name or directory
            of a preset. The default is the one in the directory from which the model was loaded, or RoBERTa's own if
            the model has 50265 tokens.
        reference: a `MaskedLM` or `TextClassifier` that the model should be equal to, including the parameters. Its
            preprocessor encodes the texts. The default is a task with the model's own config and parameters.
        optimizer: a `torch.optim.Adam` or `AdamW` over the model's parameters, before its first step. One step is
            taken, compared and undone.
        precision: the model's arithmetic, `"float32"`, `"mixed_bfloat16"` or `"float64"`. The default is that of the
            dtype of its parameters.
        attn_implementation: the attention of the check, such as `"eager"`. The default is the model's own. Only eager
            attention shows its probabilities.
        padding_side: `"right"` or `"left"`.

    Returns:
        A `LiveReport`, which is true if no tensor departs.

    Raises:
        ImportError: if torch is missing.
        TypeError: if the model, the tokenizer or the optimizer is of another class.
        ValueError: if the model is of another kind or in float16, if the texts need a tokenizer and there is none, or
            if no optimizer of pyroberta computes the same as the optimizer.
    """
    torch = _torch()
    kind = _kind(model, torch)
    remarks: list[str] = []
    config, params, rows = _parameters(model, kind, remarks)
    precision = precision or _precision(model, torch, remarks)
    task = reference or task_of(config, params, _tokenizer(model, texts, tokenizer, config, remarks))
    if kind != "Model":
        check_head(task, config.head)
    trainable = None
    if optimizer is not None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"optimizer should be a torch.optim.Adam or AdamW over the model's parameters, got {optimizer!r:.80}"
            )
        task = copy.copy(task)  # a reference keeps its own optimizer
        reader = reader_of(config)
        names = {id(parameter): ours_of(reader, name) for name, parameter in model.named_parameters()}
        trainable = [name for group in optimizer.param_groups for p in group["params"] if (name := names.get(id(p)))]
        task.compile(optimizer=same_optimizer(optimizer, names))
    golden = traced(task, texts, y, sample_weight, trainable, with_update=optimizer is not None)
    if rows is not None and reference is None:
        golden = with_token_types(golden, *rows)
    if kind == "Model":
        golden = headless(golden)
    batch = padded(golden, padding_side)
    found = Taken()
    with ExitStack() as stack:
        stack.enter_context(_as_it_was(model, attn_implementation))
        stack.enter_context(gradients_kept(model.parameters()))
        stack.enter_context(_hooks(model, config, found))
        _run(model, kind, golden, batch, found)
        arrays = found.arrays(to_array)
        arrays |= _of_parameters(model, golden, config, remarks, with_values=reference is not None)
        if optimizer is not None:
            arrays |= stepped(model, optimizer)
    if rows is not None and reference is not None:  # the sum of three has other roundings than the reference's of two
        arrays = {name: array for name, array in arrays.items() if not name.endswith("embeddings.LayerNorm.input")}
    if not any(name.startswith("attentions.") for name in arrays):
        implementation = attn_implementation or getattr(model.config, "_attn_implementation", "its")
        remarks.append(
            f"{implementation} attention shows no probabilities; to compare them, pass attn_implementation='eager'"
        )
    arrays = {"attention_mask": batch.mask, **arrays}
    return judged(golden, arrays, found.names_in(golden, arrays), precision, remarks, "hf")


# --- the model --------------------------------------------------------------------------------------------------------


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise ImportError("checking a model of transformers needs torch: pip install torch") from None
    return torch


def _kind(model: Any, torch: Any) -> str:
    """The end of the model's class, a key of `CLASSES`."""
    name, type_name = type(model).__name__, getattr(getattr(model, "config", None), "model_type", None)
    if not isinstance(model, torch.nn.Module) or type_name is None:
        raise TypeError(f"model should be a model of transformers, such as RobertaForMaskedLM; got {type_of(model)}")
    if type_name not in SAME_MODEL:
        relation = f", {hf.RELATIVES[type_name]}" if type_name in hf.RELATIVES else ""
        raise ValueError(
            f"{name} is a {type_name!r} model{relation}; models of these types can be checked: {', '.join(SAME_MODEL)}"
        )
    bases = [cls.__name__ for cls in type(model).__mro__ if not cls.__name__.endswith("PreTrainedModel")]
    for base in bases:
        for end in CLASSES:
            if base.endswith(end):
                return end
    raise ValueError(
        f"{name} has a head that pyroberta lacks; classes whose names end with {', '.join(CLASSES)} can be checked. "
        f"Check only its encoder: model.{model.base_model_prefix}"
    )


def _parameters(model: Any, kind: str, remarks: list[str]) -> tuple[RobertaConfig, Arrays, tuple[Array, Array] | None]:
    """The config and the parameters that the model would be saved with; and the position embedding and token-type row.

    These are None where the row is zero, so that the position embedding is the parameters'.
    """
    values = {**model.config.to_dict(), "model_type": "roberta", "architectures": [CLASSES[kind]]}
    for key, only, _ in hf.ONLY:
        if values.get(key, only) != only:
            remarks.append(f"config.{key} is {values[key]!r}; the model is compared with RoBERTa, which has {only!r}")
            values[key] = only
    source = Path(type(model).__name__)  # for messages
    config = hf.config_of(source, {key: value for key, value in values.items() if value is not None})
    stored = {name: _stored(name, tensor, source) for name, tensor in model.state_dict().items()}
    if config.tie_embeddings:  # a decoder of its own is a fault, and shows in the logits
        stored = {name: tensor for name, tensor in stored.items() if not name.startswith("lm_head.decoder.")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a head that the model lacks
        params = hf.params_of(source, stored, config, config, np.float64)
    prefix = "" if kind == "Model" else f"{model.base_model_prefix}."
    type_row, positions = (
        stored[f"{prefix}embeddings.{of}_embeddings.weight"].array().astype(np.float64)
        for of in ("token_type", "position")
    )
    rows = (positions[unused_rows(config) :], type_row[0]) if type_row[0].any() else None
    return config, params, rows


def with_token_types(golden: Trace, positions: Array, type_row: Array) -> Trace:
    """Returns a trace in which the token type's row is added separately, as in transformers, and is not part of the
    position embedding. The sum is the same, but is rounded differently.

    Args:
        golden: the trace.
        positions: (T, C) the position embedding without the token type.
        type_row: (C,) the row of the token type.
    """
    found = Trace()
    found.settings = golden.settings
    changed = {
        "parameters.embeddings.position": positions,
        "embeddings.of_positions": positions[golden["batch.positions"]],
    }
    for name, entry in golden.entries.items():
        if name == "embeddings.output":
            N = len(golden["batch.ids"])
            types = Entry("", "embeddings", "of_types", "the token type's row", "ops/embedding.md")
            found.add(OF_TYPES, np.broadcast_to(type_row, (N, len(type_row))), types)
            terms = {"0": "embeddings.of_tokens", "1": OF_TYPES, "2": "embeddings.of_positions"}
            entry = replace(entry, op="add", formula="of_tokens + of_types + of_positions", inputs=terms)
        found.add(name, changed.get(name, golden[name]), entry)
    return found


def _stored(name: str, tensor: Any, source: Path) -> Stored:
    import torch

    tensor = tensor.detach().cpu().contiguous()
    kinds = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
    raw = tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else np.zeros(0, np.uint8)
    return Stored(name, kinds.get(tensor.dtype, "I64"), tuple(tensor.shape), raw, source)


def _precision(model: Any, torch: Any, remarks: list[str]) -> str:
    found = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    if torch.float16 in found:
        raise ValueError(HALF)
    if torch.bfloat16 in found:
        remarks.append(
            "the model computes in bfloat16; it is judged as mixed_bfloat16, which has sums in float32, so that sums "
            "in bfloat16 depart"
        )
        return "mixed_bfloat16"
    return "float64" if found == {torch.float64} else "float32"


def _tokenizer(model: Any, texts: Any, given: Any, config: RobertaConfig, remarks: list[str]) -> Tokenizer | None:
    """The tokenizer of the texts; None where there is none, or they need none."""
    if isinstance(texts, Mapping):
        return None
    if given is None:
        place = getattr(model, "name_or_path", "") or ""
        if os.path.isdir(place) and any((Path(place) / name).exists() for name in ("tokenizer.json", "vocab.json")):
            return Tokenizer.load(place)
        if config.vocabulary_size == 50265:
            remarks.append(f"texts are encoded with the vocabulary of {VOCABULARY}")
            return Tokenizer.from_preset(VOCABULARY)
        return None
    if isinstance(given, str | os.PathLike):
        given = Tokenizer.from_preset(given)
    elif not isinstance(given, Tokenizer) and hasattr(given, "save_pretrained"):
        with tempfile.TemporaryDirectory() as directory:
            given.save_pretrained(directory)
            try:
                given = Tokenizer.load(directory)
            except FileNotFoundError:
                raise ValueError(
                    f"{type(given).__name__} has no byte-level BPE: encode the texts with it, and give the ids as texts"
                ) from None
    if not isinstance(given, Tokenizer):
        raise TypeError(
            "tokenizer should be a Tokenizer, a tokenizer of transformers, or the name or directory of a preset; got "
            f"{type_of(given)}"
        )
    check_vocabulary(given.vocabulary_size(), config)
    return given


@contextmanager
def _as_it_was(model: Any, attn_implementation: str | None) -> Iterator[None]:
    """In evaluation, with that attention; afterwards as before."""
    training = [(module, module.training) for module in model.modules()]
    before = getattr(model.config, "_attn_implementation", None)
    try:
        model.eval()
        if attn_implementation is not None:
            model.set_attn_implementation(attn_implementation)
        yield
    finally:
        for module, was_training in training:
            module.training = was_training
        if attn_implementation is not None and before is not None:
            model.set_attn_implementation(before)


# --- the run ----------------------------------------------------------------------------------------------------------


@contextmanager
def _hooks(model: Any, config: RobertaConfig, found: Taken) -> Iterator[None]:
    """Every module's output goes into `found` while the model runs, and what the norms work on."""
    shown = inputs_of(config, "hf")
    handles = []

    def after(name: str) -> Callable[..., None]:
        def hook(_: Any, __: Any, output: Any) -> None:
            layer = re.fullmatch(r"(?:.*\.)?layer\.(\d+)\.attention\.self", name)
            if layer and isinstance(output, tuple) and len(output) > 1 and output[1] is not None:
                found.add(f"attentions.{layer[1]}", output[1], f"layers.{layer[1]}.attention.probabilities")
            tensor = _first(output)
            if tensor is not None:
                found.add(name, tensor, OF_TYPES if name.endswith(TOKEN_TYPES) else "")

        return hook

    def before(name: str, ours: str) -> Callable[..., None]:
        def hook(_: Any, arguments: Any) -> None:
            if arguments:
                found.add(f"{name}.input", arguments[0], ours)

        return hook

    try:
        for name, module in model.named_modules():
            if not name:
                continue
            handles.append(module.register_forward_hook(after(name)))
            ours = shown.get(name) or shown.get(f"roberta.{name}")
            if ours:
                handles.append(module.register_forward_pre_hook(before(name, ours)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _first(output: Any) -> Any:
    """The first tensor of a module's result; None where there is none."""
    import torch

    if isinstance(output, Mapping):  # a ModelOutput
        output = next(iter(output.values()), None)
    elif isinstance(output, tuple | list):
        output = next(iter(output), None)
    return output if isinstance(output, torch.Tensor) and output.is_floating_point() else None


def _run(model: Any, kind: str, golden: Trace, batch: Padded, found: Taken) -> None:
    """Forward and backward."""
    import torch

    device = next(model.parameters()).device
    ids, mask = (torch.from_numpy(np.asarray(x, np.int64)).to(device) for x in (batch.ids, batch.mask))
    output = model(input_ids=ids, attention_mask=mask, return_dict=True)
    if kind != "Model":
        logits = output.logits
        if kind == "ForMaskedLM":
            logits = rows_of(logits, batch)[torch.from_numpy(golden["batch.target_rows"].astype(np.int64)).to(device)]
        loss_of(logits, golden, found).backward()
        return
    backward_from(output.last_hidden_state, golden, batch)


def _of_parameters(
    model: Any, golden: Trace, config: RobertaConfig, remarks: list[str], *, with_values: bool
) -> dict[str, Array]:
    """The parameters' gradients, and the parameters themselves where they matter."""
    found, reader = {}, reader_of(config)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if config.tie_embeddings and name.startswith("lm_head.decoder."):  # a fault, which shows in the logits
            continue
        if with_values:
            found[name] = to_array(parameter)
        if parameter.grad is not None and "token_type" not in name:
            found[f"gradients.{name}"] = to_array(parameter.grad)
        elif parameter.grad is None and f"gradients.{ours_of(reader, name)}" in golden:
            found[f"gradients.{name}"] = unreached(name, to_array(parameter), remarks)
    return found
