"""The KerasHub preset: a directory of JSON, HDF5 and the tokenizer's files, as `save_to_preset` of KerasHub writes it.

    config.json               the backbone's hyperparameters
    model.weights.h5          its weights; or model.weights.json, which tells in which shards they are
    task.json                 that there is a head, and what for
    task.weights.h5           its weights
    tokenizer.json            how text is cut; assets/tokenizer/{vocabulary.json, merges.txt}: the vocabulary
    preprocessor.json         how texts are truncated and masked

What differs from the parameters here: names, by the table `NAMES`; and the kernels of attention have an axis for the
heads, (C, H, D) and (H, D, C), which is the same numbers in the same order.

What KerasHub has no place for stands in the same JSON files under the key `pyroberta`, which it does not look at.

This file reads; kerashub_writer.py writes.

Source: keras-hub 0.32 (utils/preset_utils.py, models/roberta) and keras 3.15 (saving/saving_lib.py).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyroberta.model.config import RobertaConfig
from pyroberta.model.gradients import depth
from pyroberta.model.initial_values import initialise
from pyroberta.model.params import Arrays, Shape, is_backbone, shapes, split_layer
from pyroberta.presets import stored
from pyroberta.presets.json_io import number, read_json
from pyroberta.presets.stored import Stored
from pyroberta.presets.training_state import TrainingState, checked, missing

if TYPE_CHECKING:
    from pyroberta.text.tokenizer import Tokenizer

WEIGHTS, INDEX, HEAD = "model.weights.h5", "model.weights.json", "task.weights.h5"
ASSETS = "assets/tokenizer"

# Our name and the path in the file: below `layers/` for the backbone, below `layers/masked_lm_head/` for that head. `#`
# is the layer's number, which its group's name has as `_#`, and the first layer's as nothing. The order is that of
# Keras's `trainable_variables`, and so that of its optimizer's.
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
    "head.bias": "vars/0",
    "head.dense.kernel": "_intermediate_dense/vars/0",
    "head.dense.bias": "_intermediate_dense/vars/1",
    "head.norm.gamma": "_intermediate_layer_norm/vars/0",
    "head.norm.beta": "_intermediate_layer_norm/vars/1",
}
# The same for a classifier's head, whose table lies the other way round there.
CLASSIFIER_NAMES = {
    "head.dense.kernel": "layers/dense/vars/0",
    "head.dense.bias": "layers/dense/vars/1",
    "head.table": "layers/dense_1/vars/0",
    "head.bias": "layers/dense_1/vars/1",
}
# What task.json may be; the second name of the classifier is older.
MASKED_LM, CLASSIFIERS = "RobertaMaskedLM", ("RobertaTextClassifier", "RobertaClassifier")
PREPROCESSORS = ("RobertaMaskedLMPreprocessor", "RobertaTextClassifierPreprocessor", "RobertaPreprocessor")
FIELDS = ("vocabulary_size", "num_layers", "num_heads", "hidden_dim", "intermediate_dim", "max_sequence_length")
EPSILON = 1e-5  # KerasHub's backbone has no other
IDS = {"start_id": 0, "pad_id": 1, "end_id": 2}  # KerasHub's backbone has none; its tokenizer looks them up
OWN = "pyroberta"
SETTINGS = (
    "sequence_length", "truncate", "mask_selection_rate", "mask_selection_length", "mask_token_rate",
    "random_token_rate",
)  # fmt: skip


def renaming(config: RobertaConfig) -> dict[str, tuple[str, Shape]]:
    """Every parameter's path in the files and the shape that it has there.

    >>> config = RobertaConfig(vocabulary_size=10, num_layers=2, num_heads=2, hidden_dim=4, intermediate_dim=8)
    >>> renaming(config)["layers.1.attention.key.kernel"]
    ('layers/transformer_encoder_1/_self_attention_layer/key_dense/vars/0', (4, 2, 2))
    """
    H, D, C = config.num_heads, config.head_dim, config.hidden_dim
    names = {}
    for name, shape in shapes(config).items():
        if config.num_classes is not None and not is_backbone(name):
            names[name] = (CLASSIFIER_NAMES[name], shape[::-1] if name == "head.table" else shape)
            continue
        pattern, layer = split_layer(name)
        place = NAMES[pattern].replace("_#", f"_{layer}" if layer != "0" else "")
        if re.search(r"attention\.(query|key|value)\.", name):
            shape = (C, H, D) if name.endswith("kernel") else (H, D)
        elif name.endswith("attention.output.kernel"):
            shape = (H, D, C)
        names[name] = (("layers/" if is_backbone(name) else "layers/masked_lm_head/") + place, shape)
    return names


def as_there(name: str, array: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """A parameter, or what is laid out like one, in the shape that it has in the file; or the other way round."""
    return array.T if name == "head.table" else array.reshape(shape)


def in_keras_order(names: Iterable[str]) -> list[str]:
    """The parameters in the order of Keras's `trainable_variables`.

    >>> in_keras_order(["head.norm.beta", "head.bias", "layers.0.feed_forward.norm.beta"])
    ['layers.0.feed_forward.norm.beta', 'head.bias', 'head.norm.beta']
    """
    names = list(names)
    order = [*filter(is_backbone, NAMES), *CLASSIFIER_NAMES] if "head.table" in names else list(NAMES)
    rank = {name: i for i, name in enumerate(order)}
    return sorted(names, key=lambda name: (depth(name), rank[split_layer(name)[0]]))


# --- JSON -------------------------------------------------------------------------------------------------------------


def read_config(directory: Path) -> RobertaConfig:
    """The hyperparameters in `directory/config.json`.

    Raises:
        FileNotFoundError: where there is no config.json.
        ValueError: where it isn't a RoBERTa backbone's, naming what it is.
    """
    file = directory / "config.json"
    values = _object(file, "RobertaBackbone")
    dtype = values.get("dtype")
    if isinstance(dtype, Mapping) and "Quantized" in str(dtype.get("class_name")):
        raise ValueError(f"{file}: the weights are quantised ({dtype.get('class_name')}), which can't be read")
    fields = {key: number(file, values, key, 0 if key != "max_sequence_length" else 512) for key in FIELDS}
    rate = number(file, values, "dropout", 0.1)
    own = own_values(file)
    fields |= {key: number(file, own, key, default) for key, default in IDS.items()}
    fields |= {"dropout": rate, "attention_dropout": number(file, own, "attention_dropout", rate)}
    fields |= {"layer_norm_epsilon": EPSILON, **_classifier(directory, fields["hidden_dim"])}
    try:
        return RobertaConfig(**fields)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _task(directory: Path) -> tuple[str, Mapping[str, Any]]:
    """The class that task.json names, and its config; a masked LM where there is no such file."""
    file = directory / "task.json"
    values = read_json(file) if file.is_file() else {}
    config = values.get("config")
    name = str(values.get("registered_name", MASKED_LM)).rpartition(">")[2]
    return name, config if isinstance(config, Mapping) else {}


def _classifier(directory: Path, hidden_dim: int) -> dict[str, Any]:
    """The fields of a classifier's head; none for other tasks."""
    file, (name, values) = directory / "task.json", _task(directory)
    if name not in CLASSIFIERS:
        return {}
    width = values.get("hidden_dim", hidden_dim)
    if width != hidden_dim:
        raise ValueError(
            f"{file}: the head's hidden_dim is {width!r}, the backbone's {hidden_dim}; only heads as wide can be read"
        )
    activation = values.get("activation", "linear")
    if activation not in (None, "linear", "softmax"):
        raise ValueError(f"{file}: activation is {activation!r}; pyroberta's classifier gives logits ('linear')")
    classes = number(file, values, "num_classes", 0)
    if classes < 2:
        raise ValueError(f"{file}: num_classes is {values.get('num_classes')!r}; a class per text takes at least 2")
    return {
        "num_classes": classes,
        "classifier_dropout": number(file, values, "dropout", 0.0),
    }


def read_labels(directory: Path) -> list[str] | None:
    """The names of a classifier's classes, where `kerashub_writer` left them: the format itself has none."""
    file = directory / "task.json"
    labels = own_values(file).get("labels") if file.is_file() else None
    if labels is not None and not (isinstance(labels, list) and all(isinstance(name, str) for name in labels)):
        raise ValueError(f"{file}: labels should be a list of names, got {labels!r}"[:300])
    return labels


def _object(file: Path, class_name: str) -> Mapping[str, Any]:
    """The config of a serialized object, which should be of that class."""
    values = read_json(file)
    name = str(values.get("registered_name"))
    if name not in (f"keras_hub>{class_name}", f"keras_nlp>{class_name}"):
        what = name.rpartition(">")[2]
        raise ValueError(f"{file}: this is a {what!r}; pyroberta reads {class_name!r}")
    config = values.get("config")
    if not isinstance(config, Mapping):
        raise ValueError(f"{file}: config should be an object, it is a {type(config).__name__}")
    return config


def read_preprocessor(directory: Path) -> dict[str, Any]:
    """The settings of preprocessor.json; empty where there is none, or one of another kind."""
    file = directory / "preprocessor.json"
    if not file.is_file():
        return {}
    values = read_json(file)
    config = values.get("config")
    if str(values.get("registered_name")).rpartition(">")[2] not in PREPROCESSORS or not isinstance(config, Mapping):
        return {}
    return {key: config[key] for key in SETTINGS if key in config} | own_values(file)


def own_values(file: Path) -> dict[str, Any]:
    """What `kerashub_writer` left in a JSON file for pyroberta alone; empty where it didn't write it.

    Raises:
        ValueError: where it isn't an object.
    """
    values = read_json(file).get(OWN, {})
    if not isinstance(values, dict):
        raise ValueError(f"{file}: {OWN} should be an object, it is a {type(values).__name__}")
    return values


def has_tokenizer(directory: Path) -> bool:
    """Whether the vocabulary is there."""
    return all((directory / ASSETS / name).is_file() for name in ("vocabulary.json", "merges.txt"))


def read_tokenizer(directory: Path, config: RobertaConfig) -> Tokenizer:
    """The tokenizer in `directory`.

    Raises:
        FileNotFoundError: where it has none.
        ValueError: where it is another model's.
    """
    from pyroberta.text.tokenizer import Tokenizer
    from pyroberta.text.tokenizer_files import read_merges

    if not has_tokenizer(directory):
        raise FileNotFoundError(f"{directory} has no tokenizer ({ASSETS}/vocabulary.json and merges.txt)")
    file = directory / "tokenizer.json"
    settings = _object(file, "RobertaTokenizer") if file.is_file() else {}
    own = own_values(file) if file.is_file() else {}
    tokenizer = Tokenizer(
        read_json(directory / ASSETS / "vocabulary.json"),
        read_merges(directory / ASSETS / "merges.txt"),
        add_prefix_space=settings.get("add_prefix_space") is True,
        mask_lstrip=own.get("mask_lstrip") is not False,
        added_tokens=own.get("added_tokens"),
    )
    stored.check_vocabulary(directory, tokenizer.vocabulary_size, config)
    return tokenizer


# --- weights ----------------------------------------------------------------------------------------------------------


def read_params(directory: Path, config: RobertaConfig, dtype: DTypeLike = np.float32) -> Arrays:
    """The parameters in `directory`: of the backbone from model.weights.h5 or its shards, of the head from
    task.weights.h5.

    The head is `config.num_classes`'s, whatever the directory's own is: another one is left out.

    Warns:
        UserWarning: where there is no such head; it is then freshly initialised. Nothing is said where that is what was
            asked for, a head for classes of a preset that has none for as many.

    Raises:
        ImportError: where h5py isn't installed.
        FileNotFoundError: where there are no weights, telling what is there.
        ValueError: for missing, unknown, wrongly shaped, non-finite tensors, and damaged files: naming tensor and file.
    """
    names = renaming(config)
    found = _read_backbone(directory)
    own = read_config(directory).num_classes
    head = _read_head(directory, config.num_classes) if own == config.num_classes else {}
    places = {name: place for name, (place, _) in names.items() if head or is_backbone(name)}
    stored.refuse_differences(directory, {**found, **head}, {names[name][0]: names[name][1] for name in places})
    params = Arrays(shapes(config), dtype)
    if not head:
        stored.warn_of_fresh_head(directory, HEAD, config.num_classes, own)
        initialise(params, config)
    for name, place in places.items():
        stored.copy({**found, **head}[place], params[name], transpose=name == "head.table")
    return params


def _read_backbone(directory: Path) -> dict[str, Stored]:
    if (directory / WEIGHTS).is_file():
        return read_h5(directory / WEIGHTS)
    if (directory / INDEX).is_file():
        index = directory / INDEX
        places = read_json(index).get("weight_map")
        if not isinstance(places, Mapping):
            raise ValueError(f"{index} should have a weight_map, got {places!r}"[:300])
        files: set[str] = set()
        for place in places.values():
            files.update(place if isinstance(place, list) else [place])
        found: dict[str, Stored] = {}
        for name in sorted(map(str, files)):
            for path, tensor in read_h5(stored.beside(index, name)).items():
                if path in found:
                    raise ValueError(
                        f"tensor {path!r} is in two shards of {directory}: {found[path].file.name}, {name}"
                    )
                found[path] = tensor
        return found
    there = ", ".join(sorted(entry.name for entry in directory.iterdir()))
    raise FileNotFoundError(f"{directory} has neither {WEIGHTS} nor {INDEX}; it has {there or 'nothing'}")


def _read_head(directory: Path, num_classes: int | None) -> dict[str, Stored]:
    """The head's tensors; empty where there is none."""
    file = directory / HEAD
    if not file.is_file() or _task(directory)[0] not in (CLASSIFIERS if num_classes else (MASKED_LM,)):
        return {}
    paths = r"layers/dense(_1)?/" if num_classes else r"layers/masked_lm_head/"
    return {path: tensor for path, tensor in read_h5(file).items() if re.match(paths, path)}


def read_state(directory: Path, config: RobertaConfig) -> TrainingState:
    """The state of Keras's Adam in task.weights.h5: iterations, learning rate, then m and v of each variable.

    KerasHub's presets don't say which optimizer it is of. Where `kerashub_writer` didn't either, it is Adam with
    Keras's defaults and the rate that is stored. Where only the head was trained, the encoder's moments are zeros.

    Raises:
        ImportError: where h5py isn't installed.
        FileNotFoundError: where there is no state, or one without moments.
        ValueError: where it is another model's, or that of an optimizer which keeps something else.

    Warns:
        UserWarning: where the optimizer's settings aren't known.
    """
    file = directory / HEAD
    found = _read_variables(file) if file.is_file() else []
    if len(found) <= 2:
        raise missing(directory, "optimizer/vars of task.weights.h5")
    table = renaming(config)
    trained = in_keras_order(table)
    if len(found) < len(trained):
        trained = in_keras_order(name for name in table if not is_backbone(name))
    scalars = len(found) - 2 * len(trained)  # without a rate where it follows a schedule
    places = [tensor.shape for tensor in found[:scalars]] + [table[name][1] for name in trained for _ in "mv"]
    if scalars not in (1, 2) or places != [() for _ in range(scalars)] + [tensor.shape for tensor in found[scalars:]]:
        raise ValueError(
            f"{file}: the optimizer keeps {len(found)} arrays, and not a learning rate and two moments of each "
            f"parameter, as Adam of a model of config.json's size does"
        )
    shape_of = shapes(config)
    m, v = (
        {name: np.zeros(shape, np.float32) for name, shape in shape_of.items() if name not in trained} for _ in "mv"
    )
    for i, name in enumerate(trained):
        m[name], v[name] = (as_there(name, found[scalars + 2 * i + j].array(), shape_of[name]) for j in range(2))
    task = directory / "task.json"
    own = own_values(task) if task.is_file() else {}
    if "optimizer" not in own:
        rate = float(found[1].array()) if scalars == 2 else 5e-5
        own = {"optimizer": {"name": "adam", "learning_rate": rate}}
        warnings.warn(
            f"{directory} doesn't say which optimizer its state is of: Adam with Keras's defaults and a learning rate "
            f"of {rate:g} was taken",
            stacklevel=2,
        )
    return checked(file, own["optimizer"], int(found[0].array()), m, v, own.get("seed", 0))


def _read_variables(file: Path) -> list[Stored]:
    """The optimizer's, in their order."""
    prefix = "optimizer/vars/"
    variables = {path: tensor for path, tensor in read_h5(file).items() if path.startswith(prefix)}
    try:
        return [variables[f"{prefix}{i}"] for i in range(len(variables))]
    except KeyError as error:
        raise ValueError(f"{file} lacks {error} of the optimizer's {len(variables)} arrays") from None


MOST_GROUPS, DEEPEST = 100_000, 16


def read_h5(file: Path) -> dict[str, Stored]:
    """Every dataset of an HDF5 file by its path, mapped where it lies in one piece. `layers/` may have its old name.

    Nothing outside the file is looked at: links, external storage and virtual datasets are refused.

    Raises:
        ImportError: where h5py isn't installed, telling how to get it.
        ValueError: for a damaged file, or one that refers to others.
    """
    h5py = import_h5py(file.name)
    try:
        opened = h5py.File(file, "r")
    except OSError as error:
        raise ValueError(f"{file} is damaged or no HDF5 file: {error}") from None
    mapped = np.asarray(np.memmap(file, np.uint8, mode="r"))
    with opened:
        try:
            datasets = list(_datasets(opened, file, "", 0))
            return {
                re.sub("^_layer_checkpoint_dependencies/", "layers/", path): _stored(file, path, dataset, mapped)
                for path, dataset in datasets
            }
        except (OSError, RuntimeError, KeyError) as error:
            raise ValueError(f"{file} is damaged: {error}") from None


def import_h5py(what: str) -> Any:
    """The package that reads and writes HDF5.

    Raises:
        ImportError: where it isn't installed, telling how to get it.
    """
    try:
        import h5py
    except ImportError:
        raise ImportError(
            f"{what} is HDF5, which takes the package h5py: python -m pip install 'pyroberta[keras]'"
        ) from None
    return h5py


def _datasets(group: Any, file: Path, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    import h5py

    if depth > DEEPEST or len(group) > MOST_GROUPS:
        raise ValueError(
            f"{file}: groups lie {depth} deep in each other, {len(group)} at {path or '/'}: that is no model"
        )
    for key in group:
        name = f"{path}/{key}" if path else str(key)
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise ValueError(f"{file}: {name!r} is a link to elsewhere, which isn't followed")
        item = group[key]
        if isinstance(item, h5py.Group):
            yield from _datasets(item, file, name, depth + 1)
        elif isinstance(item, h5py.Dataset):
            yield name, item


def _stored(file: Path, path: str, dataset: Any, mapped: Any) -> Stored:
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{file}: the numbers of {path!r} lie in another file, which isn't opened")
    dtype = str(dataset.dtype)
    if dataset.attrs.get("dtype") in ("bfloat16", b"bfloat16") and dataset.dtype.itemsize == 2:
        dtype = "bfloat16"
    kind = {"float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16", "int32": "I32", "int64": "I64"}
    name, size = kind.get(dtype, dtype), int(dataset.nbytes)
    start = dataset.id.get_offset()
    if start is not None:
        if start + size > mapped.size:
            raise ValueError(
                f"{file} is cut short: {path!r} should lie at bytes {start} to {start + size} of {mapped.size}"
            )
        data = mapped[start : start + size]
    else:
        if size > 1000 * mapped.size:
            raise ValueError(f"{file}: {path!r} has {size} bytes, more than a file of {mapped.size} can hold")
        data = np.frombuffer(dataset[()].tobytes(), np.uint8)
    return Stored(path, name, tuple(dataset.shape), data, file)
