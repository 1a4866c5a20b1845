"""Writing of Hugging Face directories. See hf.py for their contents and names.

Source: transformers' `models/roberta/modeling_roberta.py`, versions 4 and 5.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyroberta.formats import safetensors_io
from pyroberta.formats.encoding import stored_dtype_name, stored_type
from pyroberta.formats.new_files import NewFile
from pyroberta.formats.shards import parse_size, split
from pyroberta.model.callers import callers_level
from pyroberta.model.heads import has_classes, head_of
from pyroberta.model.parameters import is_backbone
from pyroberta.presets import optimizer_state
from pyroberta.presets.detect import CONFIG
from pyroberta.presets.heads import HEAD_FILES
from pyroberta.presets.hf import ACTIVATION, FIELDS, INDEX, NAMES, PREPROCESSOR, TOKEN_TYPE, UNTIED, WEIGHTS, renaming
from pyroberta.presets.renaming import POSITION, unused_rows
from pyroberta.presets.writing import Contents, json_file, write_preset


def write(
    directory: Path | str,
    contents: Contents,
    *,
    dtype: DTypeLike | str = "float32",
    max_shard_size: float | str | None = "5GB",
) -> None:
    """Writes an HF directory atomically. transformers' class of the head loads it, such as `RobertaForMaskedLM`.

    See `write_preset` for the files of an existing preset that stay.

    Args:
        directory: the directory, which is created. An existing preset is replaced.
        contents: the parts of the model.
        dtype: the dtype in which the weights are stored: float16, bfloat16, float32 or float64.
        max_shard_size: the largest size of a file. Larger weights are written into several files with an index. See
            `shards.parse_size`.

    Raises:
        FileExistsError: if `directory` is a file, or holds other files than those of a preset.
        ValueError: if a parameter is not finite in `dtype`, or the parameters or the tokenizer do not fit the config.
        OSError: if the disk is full. The message has the bytes needed and the bytes free.
    """
    dtype, limit = stored_dtype_name(dtype), parse_size(max_shard_size)
    config = contents.config
    if contents.head and config.classifier_hidden_dim is not None:
        raise ValueError(
            f"a classifier whose dense layer is {config.classifier_hidden_dim} wide (hidden_dim) can't be saved as a "
            "Hugging Face directory: the dense layer of RobertaForSequenceClassification is as wide as the encoder, "
            f"{config.hidden_dim}. Save it with format='keras'"
        )
    if contents.activation != "linear":
        warnings.warn(
            f"transformers' classifier will return logits and not {contents.activation!r}, since its config can't hold "
            "an activation. pyroberta reads the activation back",
            stacklevel=callers_level(),
        )

    def files() -> dict[str, NewFile]:
        made = {CONFIG: json_file(_config_values(contents, dtype))}
        made |= _weights(_tensors(contents), dtype, limit)
        if contents.tokenizer is not None:
            made |= contents.tokenizer.new_files()
        if contents.preprocessor is not None:
            made[PREPROCESSOR] = json_file(contents.preprocessor)
        if contents.state is not None:
            made[optimizer_state.FILE] = optimizer_state.new_file(contents.state)
        return made

    write_preset(directory, contents, files, in_kerashub=False)


def _weights(tensors: Mapping[str, NDArray[Any]], dtype: str, limit: int) -> dict[str, NewFile]:
    """model.safetensors, or shards and their index."""
    sizes = {name: tensor.size * stored_type(dtype).itemsize for name, tensor in tensors.items()}
    groups = split(sizes, limit)
    if len(groups) == 1:
        return {WEIGHTS: safetensors_io.new_file(tensors, dtype)}
    made: dict[str, NewFile] = {}
    places: dict[str, str] = {}
    for count, names in enumerate(groups, 1):
        file = f"model-{count:05d}-of-{len(groups):05d}.safetensors"
        made[file] = safetensors_io.new_file({name: tensors[name] for name in names}, dtype)
        places |= dict.fromkeys(names, file)
    totals = {"total_parameters": sum(tensor.size for tensor in tensors.values()), "total_size": sum(sizes.values())}
    made[INDEX] = json_file({"metadata": totals, "weight_map": dict(sorted(places.items()))})
    return made


def _config_values(contents: Contents, dtype: str) -> dict[str, Any]:
    config = contents.config
    values: dict[str, Any] = {theirs: getattr(config, ours) for ours, theirs, _ in FIELDS}
    values |= {
        "architectures": [HEAD_FILES[config.head].architecture if contents.head else "RobertaModel"],
        "hidden_act": "gelu",
        "initializer_range": 0.02,
        "max_position_embeddings": config.max_sequence_length + config.pad_id + 1,
        "model_type": "roberta",
        "torch_dtype": dtype,  # version 5 says `dtype`, and reads both
        "type_vocab_size": 1,
    }
    if not config.tie_embeddings:
        values["tie_word_embeddings"] = False
    if contents.head and has_classes(head_of(config)):
        names = contents.labels or [f"LABEL_{i}" for i in range(config.num_classes or 0)]
        values |= {
            "classifier_dropout": config.classifier_dropout,
            "id2label": {str(i): name for i, name in enumerate(names)},
            "label2id": {name: i for i, name in enumerate(names)},
        }
        if contents.activation != "linear":
            values[ACTIVATION] = contents.activation
        if (problem := HEAD_FILES[config.head].problem_type) is not None:
            values["problem_type"] = problem
    return dict(sorted(values.items()))


def _tensors(contents: Contents) -> dict[str, NDArray[Any]]:
    """Every tensor under HF's name: views, but for the rows that are zero."""
    config, params = contents.config, contents.params
    tensors: dict[str, NDArray[Any]] = {}
    for ours, (theirs, transpose) in renaming(config).items():
        if contents.head or is_backbone(ours):
            tensors[theirs] = params[ours].T if transpose else params[ours]
    unused = np.zeros((unused_rows(config), config.hidden_dim), params.dtype)
    tensors[NAMES[POSITION][0]] = np.concatenate([unused, params[POSITION]])
    tensors[TOKEN_TYPE] = np.zeros((1, config.hidden_dim), params.dtype)
    if contents.head and UNTIED in params:
        tensors["lm_head.bias"] = params["head.bias"]  # version 4 reads this one, version 5 the decoder's
    return tensors
