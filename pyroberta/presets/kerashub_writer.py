"""Writing of KerasHub presets. See kerashub.py for their contents and names.

KerasHub lacks some settings. An untied output matrix, an epsilon other than 1e-5, and special tokens of other names are
refused, since a model without them would compute other results. Other settings are written under the key `pyroberta`,
which KerasHub does not read. There is a warning if a model without them computes other results.

Source: keras-hub 0.32 (utils/preset_utils.py, models/roberta) and keras 3.15 (saving/saving_lib.py, optimizers).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyroberta.formats import hdf5_writer
from pyroberta.formats.encoding import stored_dtype_name, stored_type
from pyroberta.formats.hdf5 import import_h5py
from pyroberta.formats.new_files import NewFile
from pyroberta.formats.shards import parse_size, split
from pyroberta.model.callers import callers_level
from pyroberta.model.config import RobertaConfig
from pyroberta.model.heads import has_classes, head_of, title
from pyroberta.model.parameters import Arrays, is_backbone
from pyroberta.presets.heads import HEAD_FILES, MASKED_LM, HeadFiles
from pyroberta.presets.kerashub import (
    ASSETS,
    EPSILON,
    EXTRAS,
    FIELDS,
    HEAD,
    IDS,
    INDEX,
    SETTINGS,
    WEIGHTS,
    in_keras_order,
    renaming,
    reshaped,
)  # fmt: skip
from pyroberta.presets.optimizer_state import COUNTS, OptimizerState
from pyroberta.presets.writing import Contents, json_file, write_preset

if TYPE_CHECKING:
    from pyroberta.text.tokenizer import Tokenizer

VERSIONS = {"keras_version": "3.15.1", "keras_hub_version": "0.32.0"}  # the versions that write this layout
KERAS_ADAMS = ("adam", "adamw")


def write(
    directory: Path | str,
    contents: Contents,
    *,
    dtype: DTypeLike | str = "float32",
    max_shard_size: float | str | None = "5GB",
) -> None:
    """Writes a preset atomically. KerasHub's class of the head loads it, such as `keras_hub.models.RobertaMaskedLM`.

    See `write_preset` for the files of an existing preset that stay.

    Args:
        directory: the directory, which is created. An existing preset is replaced.
        contents: the parts of the model. Settings of the preprocessor need a tokenizer. The state is that of `Adam` or
            `AdamW`. KerasHub ignores labels; pyroberta reads them back.
        dtype: the dtype in which the weights are stored: float16, bfloat16, float32 or float64.
        max_shard_size: the largest size of a file. A larger encoder is written into several files with an index. See
            `shards.parse_size`.

    Raises:
        ImportError: if h5py is not installed.
        FileExistsError: if `directory` is a file, or holds other files than those of a preset.
        ValueError: if the model has settings that KerasHub's RoBERTa lacks, a parameter is not finite in `dtype`, or
            the parameters or the tokenizer do not fit the config.
        OSError: if the disk is full. The message has the bytes needed and the bytes free.

    Warns:
        UserWarning: if the model has settings that KerasHub ignores.
    """
    import_h5py("the file of a KerasHub preset's weights")
    dtype, limit = stored_dtype_name(dtype), parse_size(max_shard_size)
    refuse_unsupported(contents)
    warn_of_ignored_settings(contents)
    values = described(contents, dtype)

    def files() -> dict[str, NewFile]:
        made = {"config.json": json_file(values["backbone"]), "metadata.json": json_file(_metadata(contents.params))}
        made |= _backbone(contents, dtype, limit)
        if contents.head:
            made["task.json"] = json_file(values["task"])
            variables = _variables(contents.config, contents.state)
            made[HEAD] = hdf5_writer.new_file(HEAD, _tensors(contents, encoder=False), dtype, variables)
        if contents.tokenizer is not None:
            made["tokenizer.json"] = json_file(values["tokenizer"])
            made |= assets(contents.tokenizer)
        if contents.preprocessor is not None:
            made["preprocessor.json"] = json_file(values["preprocessor"])
        return made

    write_preset(directory, contents, files, in_kerashub=True)


# --- unsupported settings ---------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """The kind of file or directory in KerasHub's form: its name, and the advice for a model that it can't hold."""

    name: str
    instead: str


PRESET = Kind("a KerasHub preset", "Save it with format='hf'")


def refuse_unsupported(contents: Contents, kind: Kind = PRESET) -> None:
    """Checks that KerasHub's classes can hold the model and its tokenizer.

    Raises:
        ValueError: if they lack a setting, or can't hold the state.
    """
    config, tokenizer, state = contents.config, contents.tokenizer, contents.state
    no = f"can't be saved as {kind.name}"
    if contents.head and not HEAD_FILES[config.head].keras_classes:
        raise ValueError(f"a model with a {title(config)} {no}: KerasHub's RoBERTa has no such task. {kind.instead}")
    if not config.tie_embeddings:
        raise ValueError(
            f"a model with an output matrix of its own (tie_embeddings=False) {no}: KerasHub's head multiplies by the "
            f"token embedding. {kind.instead}"
        )
    if config.layer_norm_epsilon != EPSILON:
        raise ValueError(
            f"a model with layer_norm_epsilon={config.layer_norm_epsilon} {no}: KerasHub's RoBERTa has {EPSILON} "
            f"always, and its results would differ. {kind.instead}"
        )
    if tokenizer is not None:
        check_tokenizer(tokenizer, kind)
    others = [slot for slot in (state.slots if state is not None else ()) if slot not in ("m", "v")]
    if others:
        raise ValueError(
            f"an optimizer's state with the slots {', '.join(others)} {no}: it can hold two moments. {kind.instead}, "
            "or without include_optimizer"
        )
    if state is not None and state.optimizer.get("name") not in KERAS_ADAMS:
        raise ValueError(
            f"the state of {state.optimizer.get('name')!r} {no}: it can hold Keras's Adam and AdamW. {kind.instead}, "
            "or without include_optimizer"
        )


def check_tokenizer(tokenizer: Tokenizer, kind: Kind = PRESET) -> None:
    """Checks that KerasHub's class can hold the tokenizer.

    Raises:
        ValueError: if special tokens have other names.
    """
    from pyroberta.text.tokenizer_files import DEFAULTS

    for role, token in DEFAULTS.items():
        if (found := getattr(tokenizer, role)) not in (token, None):
            raise ValueError(
                f"a tokenizer whose {role} is {found!r} can't be saved as {kind.name}: KerasHub's tokenizer always has "
                f"{token!r}. {kind.instead}"
            )


def warn_of_tokenizer(tokenizer: Tokenizer) -> None:
    """Warns of the differences between KerasHub's tokenizer and this one."""
    if tokenizer.separators != 2:
        warnings.warn(
            "KerasHub's preprocessor puts two </s> between the segments of a pair, but this tokenizer puts one. "
            "pyroberta reads this setting back, KerasHub ignores it",
            stacklevel=callers_level(),
        )
    if absent := tokenizer.absent_tokens:
        warnings.warn(
            f"the merges need tokens that the vocabulary lacks, such as {absent[0]!r}. pyroberta can load this "
            "tokenizer, KerasHub can't. Add the tokens to the vocabulary if KerasHub should load it",
            stacklevel=callers_level(),
        )


def warn_of_ignored_settings(contents: Contents) -> None:
    """Warns of settings of the model or its tokenizer that KerasHub ignores."""
    config, tokenizer = contents.config, contents.tokenizer
    if config.attention_dropout != config.dropout:
        warnings.warn(
            f"KerasHub's RoBERTa has one dropout rate and will train with {config.dropout} on attention too, instead "
            f"of attention_dropout={config.attention_dropout}. pyroberta reads both rates back",
            stacklevel=callers_level(),
        )
    if tokenizer is not None:
        warn_of_tokenizer(tokenizer)


# --- JSON -------------------------------------------------------------------------------------------------------------


def described(contents: Contents, dtype: str) -> dict[str, Any]:
    """Returns the parts of the model as Keras serialises them. Each has the parts that it contains.

    Returns:
        A dict with the keys `backbone`, `tokenizer`, `preprocessor` and `task`. A missing part is None.
    """
    config, tokenizer, preprocessor = contents.config, contents.tokenizer, contents.preprocessor
    files, policy = HEAD_FILES[config.head], {"name": dtype}
    files = files if files.keras_classes else MASKED_LM  # the encoder alone is written
    module, name = files.keras_module, files.keras_classes[0]
    fields = {key: getattr(config, key) for key in FIELDS} | {"dropout": config.dropout}
    extras: dict[str, Any] = {key: getattr(config, key) for key in ("attention_dropout", *IDS)}
    backbone = _object("roberta_backbone", "RobertaBackbone", fields, policy, extras)
    found: dict[str, Any] = {"backbone": backbone, "tokenizer": None, "preprocessor": None}
    if tokenizer is not None:
        found["tokenizer"] = _tokenizer(tokenizer)
    if preprocessor is not None:
        if tokenizer is None:
            raise ValueError(
                "preprocessor settings were passed without a tokenizer: pass the tokenizer too, since KerasHub saves "
                "them together"
            )
        found["preprocessor"] = _preprocessor(files, found["tokenizer"], preprocessor, policy)
    parts = {"backbone": backbone, "preprocessor": found["preprocessor"], "name": module}
    if has_classes(head_of(config)):
        rate = config.dropout if config.classifier_dropout is None else config.classifier_dropout
        parts |= {"num_classes": config.num_classes, "activation": contents.activation}
        parts |= {"hidden_dim": config.classifier_hidden_dim or config.hidden_dim, "dropout": rate}
    state = contents.state
    kept: dict[str, Any] = {}
    if state is not None:  # Keras's own variables have the iterations
        kept = {"optimizer": state.optimizer, **{name: getattr(state, name) for name in COUNTS if name != "iterations"}}
    kept |= {} if contents.labels is None else {"labels": list(contents.labels)}
    found["task"] = _object(module, name, parts, None, kept)
    return found


def _tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    names = ("sequence_length", "add_prefix_space", "unsplittable_tokens")
    settings = {"config_file": "tokenizer.json"} | {name: getattr(tokenizer, name) for name in names}
    extra_names = ("mask_lstrip", "added_tokens", "separators", "trim_offsets")
    extras = {name: getattr(tokenizer, name) for name in extra_names}
    return _object("roberta_tokenizer", "RobertaTokenizer", settings, {"name": tokenizer.dtype}, extras)


def _preprocessor(
    files: HeadFiles, tokenizer: Mapping[str, Any], preprocessor: Mapping[str, Any], policy: Mapping[str, str]
) -> dict[str, Any]:
    """A preprocessor of the class that belongs to a head, with its tokenizer as `_tokenizer` describes it."""
    settings = {"tokenizer": tokenizer, "config_file": "preprocessor.json"}
    settings |= {key: preprocessor[key] for key in SETTINGS if key in preprocessor}
    extras = {key: value for key, value in preprocessor.items() if key not in SETTINGS}
    module, name = f"{files.keras_module}_preprocessor", f"{files.keras_classes[0]}Preprocessor"
    return _object(module, name, settings, policy, extras)


def text_files(tokenizer: Tokenizer, files: HeadFiles, settings: Mapping[str, Any] | None) -> dict[str, NewFile]:
    """Returns the files of a tokenizer, and those of a preprocessor's settings if there are any, by their paths.

    Args:
        tokenizer: see `check_tokenizer`.
        files: the files of the head to which the preprocessor belongs.
        settings: the settings of the preprocessor, or None.
    """
    values = _tokenizer(tokenizer)
    made = {"tokenizer.json": json_file(values)} | assets(tokenizer)
    if settings is not None:
        made["preprocessor.json"] = json_file(_preprocessor(files, values, settings, {"name": "float32"}))
    return made


def _object(
    module: str, name: str, config: Mapping[str, Any], policy: Mapping[str, str] | None, extras: Mapping[str, Any]
) -> dict[str, Any]:
    """A KerasHub object as Keras serialises it; `extras` are for pyroberta alone."""
    if policy is not None:
        dtype = {"module": "keras", "class_name": "DTypePolicy", "config": policy, "registered_name": None}
        config = {"name": module, "trainable": True, "dtype": dtype, **config}
    described = {
        "module": f"keras_hub.src.models.roberta.{module}",
        "class_name": name,
        "config": config,
        "registered_name": f"keras_hub>{name}",
    }
    return described | ({EXTRAS: dict(extras)} if extras else {})


def _metadata(params: Arrays) -> dict[str, Any]:
    return {
        **VERSIONS,
        "parameter_count": sum(array.size for name, array in params.items() if is_backbone(name)),
        "date_saved": datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
        "tasks": ["MaskedLM", "TextClassifier"],
    }


def assets(tokenizer: Tokenizer, directory: str = ASSETS) -> dict[str, NewFile]:
    """Returns the files of a tokenizer's vocabulary, by their paths."""
    vocabulary = dict(sorted(tokenizer.vocabulary.items(), key=lambda item: item[1]))
    return {
        f"{directory}/vocabulary.json": NewFile.of(json.dumps(vocabulary, ensure_ascii=False)),
        f"{directory}/merges.txt": NewFile.of("".join(f"{left} {right}\n" for left, right in tokenizer.merges)),
    }


# --- weights ----------------------------------------------------------------------------------------------------------


def _tensors(contents: Contents, encoder: bool) -> dict[str, NDArray[Any]]:
    """The encoder's or the head's tensors by their place in the file: views in their shape there."""
    places, params = renaming(contents.config), contents.params
    names = [name for name in in_keras_order(contents.config) if is_backbone(name) is encoder]
    return {places[name][0]: reshaped(name, params[name], places[name][1]) for name in names}


def _backbone(contents: Contents, dtype: str, limit: int) -> dict[str, NewFile]:
    """model.weights.h5, or shards and their index. The arrays of a Keras layer stay in one file."""
    tensors = _tensors(contents, encoder=True)
    sizes: dict[str, int] = {}
    for place, tensor in tensors.items():
        group = place.rpartition("/")[0]
        sizes[group] = sizes.get(group, 0) + tensor.size * stored_type(dtype).itemsize
    groups = split(sizes, limit)
    if len(groups) == 1:
        return {WEIGHTS: hdf5_writer.new_file(WEIGHTS, tensors, dtype)}
    made: dict[str, NewFile] = {}
    places: dict[str, str] = {}
    for count, names in enumerate(groups):
        file = f"model_{count:05d}.weights.h5"
        held = {place: tensor for place, tensor in tensors.items() if place.rpartition("/")[0] in names}
        made[file] = hdf5_writer.new_file(file, held, dtype)
        places |= {f"/{name}": file for name in names}
    made[INDEX] = json_file({"metadata": {"total_size": sum(sizes.values())}, "weight_map": places})
    return made


def _variables(config: RobertaConfig, state: OptimizerState | None) -> dict[str, NDArray[Any]]:
    """The state of Keras's Adam: iterations, the rate unless it follows a schedule, then m and v of each variable."""
    if state is None:
        return {}
    places, rate = renaming(config), state.optimizer["learning_rate"]
    arrays: list[NDArray[Any]] = [np.array(state.iterations, np.int32)]
    if not isinstance(rate, Mapping):
        arrays.append(np.array(rate, np.float32))
    for name in in_keras_order(config):
        arrays += [reshaped(name, moments[name], places[name][1]) for moments in (state.slots["m"], state.slots["v"])]
    return {f"optimizer/vars/{i}": array for i, array in enumerate(arrays)}
