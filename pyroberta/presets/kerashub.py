"""The KerasHub preset: a directory of JSON, HDF5 and the files of the tokenizer, as KerasHub's `save_to_preset` writes
it.

    config.json               the backbone's hyperparameters
    model.weights.h5          its weights; or model.weights.json, the index of their shards
    task.json                 the task of the head
    task.weights.h5           its weights
    tokenizer.json            settings of the tokenizer; its vocabulary: assets/tokenizer/{vocabulary.json, merges.txt}
    preprocessor.json         settings of truncation and masking

The files differ from pyroberta's parameters in two points. They have other names; see the table `NAMES`. The kernels of
attention have an axis for the attention heads, (C, H, D) and (H, D, C); their numbers are the same, in the same order.

Settings that KerasHub lacks are in the same JSON files under the key `pyroberta`, which KerasHub does not read.

This file reads; kerashub_writer.py writes.

Source: keras-hub 0.32 (utils/preset_utils.py, models/roberta) and keras 3.15 (saving/saving_lib.py).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyroberta.formats import hdf5, stored
from pyroberta.formats.budget import Budget, type_of
from pyroberta.formats.directory import Directory
from pyroberta.formats.files import boolean, contents, number, shown
from pyroberta.formats.stored import ReadWhenAsked, Stored, few
from pyroberta.model.callers import callers_level
from pyroberta.model.config import RobertaConfig
from pyroberta.model.gradients import depth
from pyroberta.model.heads import HEADS, has_classes, same_head
from pyroberta.model.initial_values import initialise
from pyroberta.model.parameters import Arrays, Shape, is_backbone, shapes, split_layer
from pyroberta.model.serialization import dtype_name
from pyroberta.presets import checks, learning_rates
from pyroberta.presets.detect import CONFIG, TOKENIZER, FileNames, is_of_kerashub
from pyroberta.presets.heads import HEAD_FILES, MASKED_LM
from pyroberta.presets.optimizer_state import OptimizerState, checked, missing

if TYPE_CHECKING:
    from pyroberta.text.tokenizer import Tokenizer

WEIGHTS, INDEX, HEAD = "model.weights.h5", "model.weights.json", "task.weights.h5"
TASK, PREPROCESSOR = "task.json", "preprocessor.json"
ASSETS = "assets/tokenizer"
VOCABULARY, MERGES = f"{ASSETS}/vocabulary.json", f"{ASSETS}/merges.txt"
FILES = FileNames(
    config=(CONFIG, TASK),
    others=(TOKENIZER, VOCABULARY, MERGES, PREPROCESSOR, learning_rates.FILE),
    weights=((WEIGHTS, INDEX),),
    head=(HEAD,),  # and the optimizer's state
)

# Our name and the path in the file, below `layers/`; the heads' are in heads.py. `#` is the layer's number, which its
# group's name has as `_#`, and the first layer's as nothing. The order is that of Keras's `trainable_variables`, and so
# that of its optimizer's.
NAMES = {
    "embeddings.token": "token_and_position_embedding/token_embedding/vars/0",
    "embeddings.position": "token_and_position_embedding/position_embedding/vars/0",
    "embeddings.norm.gamma": "layer_normalization/vars/0",
    "embeddings.norm.beta": "layer_normalization/vars/1",
    "layers.#.attention.query.kernel": "transformer_encoder_#/_self_attention_layer/query_dense/vars/0",
    "layers.#.attention.query.bias": "transformer_encoder_#/_self_attention_layer/query_dense/vars/1",
    "layers.#.attention.key.kernel": "transformer_encoder_#/_self_attention_layer/key_dense/vars/0",
    "layers.#.attention.key.bias": "transformer_encoder_#/_self_attention_layer/key_dense/vars/1",
    "layers.#.attention.value.kernel": "transformer_encoder_#/_self_attention_layer/value_dense/vars/0",
    "layers.#.attention.value.bias": "transformer_encoder_#/_self_attention_layer/value_dense/vars/1",
    "layers.#.attention.output.kernel": "transformer_encoder_#/_self_attention_layer/output_dense/vars/0",
    "layers.#.attention.output.bias": "transformer_encoder_#/_self_attention_layer/output_dense/vars/1",
    "layers.#.attention.norm.gamma": "transformer_encoder_#/_self_attention_layer_norm/vars/0",
    "layers.#.attention.norm.beta": "transformer_encoder_#/_self_attention_layer_norm/vars/1",
    "layers.#.feed_forward.norm.gamma": "transformer_encoder_#/_feedforward_layer_norm/vars/0",
    "layers.#.feed_forward.norm.beta": "transformer_encoder_#/_feedforward_layer_norm/vars/1",
    "layers.#.feed_forward.intermediate.kernel": "transformer_encoder_#/_feedforward_intermediate_dense/vars/0",
    "layers.#.feed_forward.intermediate.bias": "transformer_encoder_#/_feedforward_intermediate_dense/vars/1",
    "layers.#.feed_forward.output.kernel": "transformer_encoder_#/_feedforward_output_dense/vars/0",
    "layers.#.feed_forward.output.bias": "transformer_encoder_#/_feedforward_output_dense/vars/1",
}
PREPROCESSORS = (
    *(f"{files.keras_classes[0]}Preprocessor" for files in HEAD_FILES.values() if files.keras_classes),
    "RobertaPreprocessor",
)
FIELDS = ("vocabulary_size", "num_layers", "num_heads", "hidden_dim", "intermediate_dim", "max_sequence_length")
EPSILON = 1e-5  # KerasHub's backbone has no other
IDS = {"start_id": 0, "pad_id": 1, "end_id": 2}  # KerasHub's backbone has none; its tokenizer looks them up
EXTRAS = "pyroberta"
SETTINGS = (
    "sequence_length", "truncate", "mask_selection_rate", "mask_selection_length", "mask_token_rate",
    "random_token_rate",
)  # fmt: skip


def renaming(config: RobertaConfig) -> dict[str, tuple[str, Shape]]:
    """Returns the path of every parameter in the files, and its shape there. Parameters that KerasHub lacks are left
    out.

    >>> config = RobertaConfig(vocabulary_size=10, num_layers=2, num_heads=2, hidden_dim=4, intermediate_dim=8)
    >>> renaming(config)["layers.1.attention.key.kernel"]
    ('layers/transformer_encoder_1/_self_attention_layer/key_dense/vars/0', (4, 2, 2))
    """
    H, D, C = config.num_heads, config.head_dim, config.hidden_dim
    heads = HEAD_FILES[config.head].keras_names
    names = {}
    for name, shape in shapes(config).items():
        if not is_backbone(name):
            if name in heads:
                names[name] = (heads[name], shape[::-1] if name == "head.table" else shape)
            continue
        pattern, layer = split_layer(name)
        place = NAMES[pattern].replace("_#", f"_{layer}" if layer != "0" else "")
        if re.search(r"attention\.(query|key|value)\.", name):
            shape = (C, H, D) if name.endswith("kernel") else (H, D)
        elif name.endswith("attention.output.kernel"):
            shape = (H, D, C)
        names[name] = (f"layers/{place}", shape)
    return names


def reshaped(name: str, array: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """Reshapes an array from the shape of a parameter to its shape in the file, or the reverse."""
    return array.T if name == "head.table" else array.reshape(shape)


def in_keras_order(config: RobertaConfig) -> list[str]:
    """Returns the names of the parameters in the order of Keras's `trainable_variables`.

    >>> config = RobertaConfig(vocabulary_size=10, num_layers=2, num_heads=2, hidden_dim=4, intermediate_dim=8)
    >>> in_keras_order(config)[-6:]
    ['layers.1.feed_forward.output.bias', 'head.bias', 'head.dense.kernel', 'head.dense.bias', 'head.norm.gamma', \
'head.norm.beta']
    """
    rank = {name: i for i, name in enumerate([*NAMES, *HEAD_FILES[config.head].keras_names])}
    return sorted(renaming(config), key=lambda name: (depth(name), rank[split_layer(name)[0]]))


# --- JSON -------------------------------------------------------------------------------------------------------------


def read_config(directory: Directory) -> RobertaConfig:
    """Returns the config in `directory/config.json`.

    Raises:
        FileNotFoundError: if there is no config.json.
        ValueError: if it is not the config of a RoBERTa backbone. The message names the class that it is.
    """
    file, values = directory / CONFIG, _object(directory, CONFIG, "RobertaBackbone")
    dtype = values.get("dtype")
    if isinstance(dtype, Mapping) and "Quantized" in str(dtype.get("class_name")):
        raise ValueError(f"{file}: the weights are quantised ({shown(dtype.get('class_name'))}), which can't be read")
    fields = {key: number(file, values, key, 0 if key != "max_sequence_length" else 512) for key in FIELDS}
    rate = number(file, values, "dropout", 0.1)
    extras = read_extras(directory, CONFIG)
    fields |= {key: number(file, extras, key, default) for key, default in IDS.items()}
    fields |= {"dropout": rate, "attention_dropout": number(file, extras, "attention_dropout", rate)}
    fields |= {"layer_norm_epsilon": EPSILON, **_head(directory, fields["hidden_dim"])}
    try:
        return RobertaConfig(**fields)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _class_name(file: Path, values: Mapping[str, Any]) -> str:
    """The class of a serialized object, without its package.

    Raises:
        ValueError: if it names none.
    """
    name = values.get("registered_name")
    if not isinstance(name, str):
        got = f"got {shown(name)}" if "registered_name" in values else "it isn't there"
        raise ValueError(f"{file}: registered_name should be the name of a class of KerasHub's, {got}")
    return name.rpartition(">")[2]


def _task(directory: Directory) -> tuple[str, Mapping[str, Any]]:
    """The class that task.json names, and its config; a masked LM's if there is no such file."""
    file = directory / TASK
    if not directory.has(TASK):
        return MASKED_LM.keras_classes[0], {}
    values = directory.json(TASK)
    return _class_name(file, values), _config(file, values)


def _config(file: Path, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of a serialized object."""
    config = values.get("config")
    if not isinstance(config, Mapping):
        got = f"it is {type_of(config)}" if "config" in values else "it isn't there"
        raise ValueError(f"{file}: config should be an object, {got}")
    return config


def _head(directory: Directory, hidden_dim: int) -> dict[str, Any]:
    """The fields of the head; a masked LM's if task.json is of another task."""
    file, (name, values) = directory / TASK, _task(directory)
    head = next((head for head, files in HEAD_FILES.items() if name in files.keras_classes), "masked_lm")
    if not has_classes(HEADS[head]):
        return {"head_name": head}
    _activation(file, values)
    classes = number(file, values, "num_classes", 0)
    checks.check_classes(file, classes)
    if classes < 2:
        raise ValueError(f"{file}: num_classes is {shown(values.get('num_classes'))}; a classifier needs at least 2")
    return {
        "head_name": head,
        "num_classes": classes,
        "classifier_dropout": number(file, values, "dropout", 0.0),
        "classifier_hidden_dim": number(file, values, "hidden_dim", hidden_dim),
    }


def _activation(file: Path, values: Mapping[str, Any]) -> str:
    """The activation in a classifier's config."""
    activation = values.get("activation")
    return "linear" if activation is None else checks.check_activation(file, "activation", activation)


def read_activation(directory: Directory) -> str:
    """Returns a classifier's activation, or `"linear"` if the model is not a classifier."""
    name, values = _task(directory)
    if name not in HEAD_FILES["text_classifier"].keras_classes:
        return "linear"
    return _activation(directory / TASK, values)


def read_labels(directory: Directory) -> list[str] | None:
    """Returns the names of a classifier's classes, if `kerashub_writer` wrote them. KerasHub's format has none."""
    file = directory / TASK
    labels = read_extras(directory, TASK).get("labels") if directory.has(TASK) else None
    if labels is not None and not (isinstance(labels, list) and all(isinstance(name, str) for name in labels)):
        raise ValueError(f"{file}: labels should be a list of names, got {shown(labels)}")
    if labels is not None:
        checks.check_labels(file, labels, number(file, _task(directory)[1], "num_classes", 0))
    return labels


def _object(directory: Directory, name: str, class_name: str) -> Mapping[str, Any]:
    """The config of the serialized object in a file, which should be of that class."""
    file, values = directory / name, directory.json(name)
    if not is_of_kerashub(values, class_name):
        found = _class_name(file, values)
        whole = found if found != class_name else values["registered_name"]  # another package has a class of that name
        raise ValueError(f"{file}: this is a {shown(whole)}; pyroberta reads KerasHub's {class_name!r}")
    return _config(file, values)


def read_preprocessor(directory: Directory) -> dict[str, Any]:
    """Returns the settings in preprocessor.json. The result is empty if the file is missing, or is that of an unknown
    class.

    Warns:
        UserWarning: if the file is that of an unknown class.

    Raises:
        ValueError: if the file is not a serialized object.
    """
    file = directory / PREPROCESSOR
    if not directory.has(PREPROCESSOR):
        return {}
    values = directory.json(PREPROCESSOR)
    name, config = _class_name(file, values), _config(file, values)
    if name not in PREPROCESSORS:
        warnings.warn(
            f"{file}: this is a {shown(name)}, whose settings are unknown here; the defaults are used",
            stacklevel=callers_level(),
        )
        return {}
    return {key: config[key] for key in SETTINGS if key in config} | read_extras(directory, PREPROCESSOR)


def read_extras(directory: Directory, name: str) -> dict[str, Any]:
    """Returns the settings under the key `pyroberta` that `kerashub_writer` wrote into a JSON file, or an empty dict.

    Raises:
        ValueError: if the value is not an object.
    """
    values = directory.json(name).get(EXTRAS, {})
    if not isinstance(values, dict):
        raise ValueError(f"{directory / name}: {EXTRAS} should be an object, it is {type_of(values)}")
    return values


def has_tokenizer(directory: Directory) -> bool:
    """Returns whether the directory has a vocabulary."""
    return directory.has(VOCABULARY) and directory.has(MERGES)


def read_tokenizer(directory: Directory, config: RobertaConfig | None) -> Tokenizer:
    """Returns the tokenizer in `directory`.

    Raises:
        FileNotFoundError: if it has none.
        ValueError: if it belongs to another model.
    """
    from pyroberta.text.keras_tokenizer import DTYPES
    from pyroberta.text.tokenizer import Tokenizer
    from pyroberta.text.tokenizer_files import parse_merges

    if not has_tokenizer(directory):
        raise FileNotFoundError(f"{directory} has no tokenizer ({ASSETS}/vocabulary.json and merges.txt)")
    has_settings = directory.has(TOKENIZER)
    settings = _object(directory, TOKENIZER, "RobertaTokenizer") if has_settings else {}
    extras = read_extras(directory, TOKENIZER) if has_settings else {}
    file = directory / TOKENIZER
    add_prefix_space = boolean(file, settings, "add_prefix_space", default=False)
    mask_lstrip, trim_offsets = (boolean(file, extras, key, default=True) for key in ("mask_lstrip", "trim_offsets"))
    vocabulary = directory.json(VOCABULARY)
    merges = parse_merges(directory.bytes(MERGES), directory / MERGES, len(vocabulary))
    checks.check_lengths(file, {"sequence_length": settings.get("sequence_length")})
    try:
        tokenizer = Tokenizer(
            vocabulary,
            merges,
            sequence_length=settings.get("sequence_length"),
            dtype=dtype if (dtype := dtype_name(settings.get("dtype"))) in DTYPES else "int32",
            add_prefix_space=add_prefix_space,
            unsplittable_tokens=settings.get("unsplittable_tokens"),
            mask_lstrip=mask_lstrip,
            added_tokens=extras.get("added_tokens"),
            separators=extras.get("separators", 2),
            trim_offsets=trim_offsets,
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{directory / ASSETS}: {error}") from None
    if config is not None:
        checks.check_vocabulary(tokenizer.vocabulary_size(), config, directory)
    return tokenizer


# --- weights ----------------------------------------------------------------------------------------------------------


def read_params(
    directory: Directory,
    config: RobertaConfig,
    dtype: DTypeLike = np.float32,
    seed: int = 0,
    on_fresh_head: checks.OnFreshHead = checks.warn_of_fresh_head,
) -> Arrays:
    """Returns the parameters in `directory`: those of the backbone from model.weights.h5 or its shards, those of the
    head from task.weights.h5.

    The head is the one that `config` names. Another head in the directory is ignored, and an untrained head is drawn
    from `seed`.

    Warns:
        FreshHeadWarning: if the directory has no such head. The model then gets an untrained one. There is no warning
            if `config` asks for a classifier's head and the preset is no classifier.

    Raises:
        ImportError: if h5py is not installed.
        FileNotFoundError: if there are no weights. The message lists the directory.
        ValueError: if a tensor is missing, unknown, of a wrong shape or not finite, or if a file is damaged. The
            message names the tensor and the file.
    """
    wanted = dict(renaming(config).values())
    found = _read_backbone(directory, wanted)
    stored_config = read_config(directory)
    head = _read_head(directory, config, wanted) if same_head(stored_config, config) else {}
    if not head:
        is_stored = bool(_read_head(directory, stored_config, dict(renaming(stored_config).values())))
        checks.report_fresh_head(on_fresh_head, directory, HEAD, config, stored_config, is_stored)
    places = {name: place for name, place in renaming(config).items() if head or is_backbone(name)}
    return filled(directory, config, places, {**found, **head}, dtype, seed)


def filled(
    directory: Directory,
    config: RobertaConfig,
    places: Mapping[str, tuple[str, Shape]],
    tensors: Mapping[str, Stored],
    dtype: DTypeLike,
    seed: int,
) -> Arrays:
    """Returns the parameters, copied from tensors.

    Args:
        directory: the directory of the tensors, for messages.
        config: the config of the model.
        places: the path and the shape of each parameter in the files. The parameters of an untrained head are missing.
        tensors: the tensors, by their paths.
        dtype: the dtype of the parameters.
        seed: the seed of an untrained head.

    Raises:
        ValueError: if a tensor is missing, unknown, of a wrong shape or not finite.
    """
    stored.refuse_differences(directory, tensors, dict(places.values()))
    params = Arrays.of(config, dtype)
    if len(places) < len(params):
        initialise(params, config, seed=seed)
    for name, (place, _) in places.items():
        stored.Copy(tensors[place], params[name], transpose=name == "head.table").run()
    return params


def read_stored(directory: Directory, config: RobertaConfig) -> dict[str, Stored]:
    """Returns the tensors in `directory` by their paths in the files: those of the backbone, and those of the head if
    there is one. The numbers are not read yet.

    Raises:
        ImportError, FileNotFoundError, ValueError: see `read_params`.
    """
    wanted = dict(renaming(config).values())
    return {**_read_backbone(directory, wanted), **_read_head(directory, config, wanted)}


def _read_backbone(directory: Directory, wanted: Mapping[str, Shape]) -> dict[str, Stored]:
    if directory.has(WEIGHTS):
        return hdf5.read(directory / WEIGHTS, wanted)
    if directory.has(INDEX):
        index = directory / INDEX
        places = directory.json(INDEX).get("weight_map")
        if not isinstance(places, Mapping):
            raise ValueError(f"{index} should have a weight_map, got {shown(places)}")
        files = {str(file) for place in places.values() for file in (place if isinstance(place, list) else [place])}
        Budget(index).step("its shards", len(files))
        found: dict[str, Stored] = {}
        for name in sorted(files):
            for path, tensor in hdf5.read(stored.beside(index, name), wanted).items():
                if path in found:
                    raise ValueError(
                        f"tensor {shown(path)} is in two shards of {directory}: {few([found[path].file.name, name])}"
                    )
                found[path] = tensor
        return found
    raise FileNotFoundError(f"{directory} has neither {WEIGHTS} nor {INDEX}; it has {contents(directory.path)}")


def _read_head(directory: Directory, config: RobertaConfig, wanted: Mapping[str, Shape]) -> dict[str, Stored]:
    """The head's tensors; empty if there are none."""
    file, files = directory / HEAD, HEAD_FILES[config.head]
    if not directory.has(HEAD) or _task(directory)[0] not in files.keras_classes:
        return {}
    layers = {_layer(path) for path in files.keras_names.values()}
    return {path: tensor for path, tensor in hdf5.read(file, wanted).items() if _layer(path) in layers}


def _layer(path: str) -> str:
    """The layer of the model that a path is below, such as `layers/dense_1`."""
    return "/".join(path.split("/")[:2])


def read_state(directory: Directory, config: RobertaConfig) -> OptimizerState:
    """Returns the state of Keras's Adam in task.weights.h5: iterations, learning rate, then m and v of each variable.

    KerasHub's presets do not name the optimizer. If `kerashub_writer` did not write the name either, Adam with Keras's
    defaults and the stored rate is used. If only the head was trained, the moments of the encoder are 0.

    Raises:
        ImportError: if h5py is not installed.
        FileNotFoundError: if there is no state, or the state has no moments.
        ValueError: if the state belongs to another model or another optimizer.

    Warns:
        UserWarning: if the optimizer's settings are unknown.
    """
    file = directory / HEAD
    found = _look_at_variables(file) if directory.has(HEAD) else []
    if len(found) <= 2:
        raise missing(directory, "optimizer/vars of task.weights.h5")
    names = renaming(config)
    trained = in_keras_order(config)
    if len(found) < len(trained):
        trained = [name for name in trained if not is_backbone(name)]
    scalars = len(found) - 2 * len(trained)  # there is no rate if it follows a schedule
    if scalars not in (1, 2):
        raise ValueError(
            f"{file}: the optimizer has {len(found)} arrays. Adam of a model of the size in config.json has a learning "
            "rate and two moments of each parameter"
        )
    places: list[Shape] = [()] * scalars + [names[name][1] for name in trained for _ in "mv"]
    wrong = [
        f"{tensor.name} has shape {shown(tensor.shape)}, expected {shape}"
        for tensor, shape in zip(found, places, strict=True)
        if tensor.shape != shape
    ]
    if wrong:
        raise ValueError(f"{file}: the optimizer's arrays do not fit config.json: {stored.few(wrong, '; ')}")
    state_layout = {tensor.name: tensor.shape for tensor in found}
    read = hdf5.read(file, state_layout)
    found = [read[name] for name in state_layout]
    shape_of = shapes(config)

    def moment(name: str, which: int) -> NDArray[Any]:
        if name not in trained:
            return np.zeros(shape_of[name], np.float32)
        return reshaped(name, found[scalars + 2 * trained.index(name) + which].array(), shape_of[name])

    slots = {
        slot: ReadWhenAsked({name: partial(moment, name, which) for name in shape_of})
        for which, slot in enumerate("mv")
    }
    extras = read_extras(directory, TASK) if directory.has(TASK) else {}
    if "optimizer" not in extras:
        rate = float(found[1].array()) if scalars == 2 else 5e-5
        extras = {"optimizer": {"name": "adam", "learning_rate": rate}}
        warnings.warn(
            f"{directory} does not name the optimizer of its state: Adam with Keras's defaults and a learning rate of "
            f"{rate:g} is used",
            stacklevel=callers_level(),
        )
    return checked(file, extras["optimizer"], slots, {**extras, "iterations": found[0].array().item()})


def _look_at_variables(file: Path) -> list[Stored]:
    """The optimizer's variables in their order; of packed ones the shapes alone."""
    prefix = "optimizer/vars/"
    variables = {path: tensor for path, tensor in hdf5.read(file, {}).items() if path.startswith(prefix)}
    try:
        return [variables[f"{prefix}{i}"] for i in range(len(variables))]
    except KeyError as error:
        raise ValueError(f"{file} lacks {error} of the optimizer's {len(variables)} arrays") from None
