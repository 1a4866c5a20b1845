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

import math
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyroberta.formats.budget import Budget, clipped
from pyroberta.formats.files import contents, is_there, number, read_json, shown
from pyroberta.model.callers import callers_level
from pyroberta.model.config import RobertaConfig
from pyroberta.model.gradients import depth
from pyroberta.model.heads import HEADS, has_classes, same_head
from pyroberta.model.initial_values import initialise
from pyroberta.model.parameters import Arrays, Shape, is_backbone, shapes, split_layer
from pyroberta.presets import stored
from pyroberta.presets.heads import HEAD_FILES, MASKED_LM
from pyroberta.presets.marks import is_of_kerashub
from pyroberta.presets.stored import FileBytes, ReadWhenAsked, Source, Stored
from pyroberta.presets.training_state import TrainingState, checked, missing

if TYPE_CHECKING:
    from pyroberta.text.tokenizer import Tokenizer

WEIGHTS, INDEX, HEAD = "model.weights.h5", "model.weights.json", "task.weights.h5"
ASSETS = "assets/tokenizer"

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
OWN = "pyroberta"
SETTINGS = (
    "sequence_length", "truncate", "mask_selection_rate", "mask_selection_length", "mask_token_rate",
    "random_token_rate",
)  # fmt: skip


def renaming(config: RobertaConfig) -> dict[str, tuple[str, Shape]]:
    """Every parameter's path in the files and the shape that it has there, as far as KerasHub has a place for it.

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


def as_there(name: str, array: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """A parameter, or what is laid out like one, in the shape that it has in the file; or the other way round."""
    return array.T if name == "head.table" else array.reshape(shape)


def in_keras_order(config: RobertaConfig) -> list[str]:
    """The parameters in the order of Keras's `trainable_variables`.

    >>> config = RobertaConfig(vocabulary_size=10, num_layers=2, num_heads=2, hidden_dim=4, intermediate_dim=8)
    >>> in_keras_order(config)[-6:]
    ['layers.1.feed_forward.output.bias', 'head.bias', 'head.dense.kernel', 'head.dense.bias', 'head.norm.gamma', \
'head.norm.beta']
    """
    rank = {name: i for i, name in enumerate([*NAMES, *HEAD_FILES[config.head].keras_names])}
    return sorted(renaming(config), key=lambda name: (depth(name), rank[split_layer(name)[0]]))


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
        raise ValueError(f"{file}: the weights are quantised ({shown(dtype.get('class_name'))}), which can't be read")
    fields = {key: number(file, values, key, 0 if key != "max_sequence_length" else 512) for key in FIELDS}
    rate = number(file, values, "dropout", 0.1)
    own = own_values(file)
    fields |= {key: number(file, own, key, default) for key, default in IDS.items()}
    fields |= {"dropout": rate, "attention_dropout": number(file, own, "attention_dropout", rate)}
    fields |= {"layer_norm_epsilon": EPSILON, **_head(directory, fields["hidden_dim"])}
    try:
        return RobertaConfig(**fields)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _class_name(file: Path, values: Mapping[str, Any]) -> str:
    """The class of a serialized object, without its package.

    Raises:
        ValueError: where it names none, so that the file may be anything.
    """
    name = values.get("registered_name")
    if not isinstance(name, str):
        got = f"got {shown(name)}" if "registered_name" in values else "it isn't there"
        raise ValueError(f"{file}: registered_name should be the name of a class of KerasHub's, {got}")
    return name.rpartition(">")[2]


def _task(directory: Path) -> tuple[str, Mapping[str, Any]]:
    """The class that task.json names, and its config; a masked LM where there is no such file."""
    file = directory / "task.json"
    if not is_there(file):
        return MASKED_LM.keras_classes[0], {}
    values = read_json(file)
    return _class_name(file, values), _config(file, values)


def _config(file: Path, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of a serialized object."""
    config = values.get("config")
    if not isinstance(config, Mapping):
        got = f"it is a {type(config).__name__}" if "config" in values else "it isn't there"
        raise ValueError(f"{file}: config should be an object, {got}")
    return config


def _head(directory: Path, hidden_dim: int) -> dict[str, Any]:
    """The fields of the head; a masked LM's where task.json is of another task."""
    file, (name, values) = directory / "task.json", _task(directory)
    head = next((head for head, files in HEAD_FILES.items() if name in files.keras_classes), "masked_lm")
    if not has_classes(HEADS[head]):
        return {"head_name": head}
    width = values.get("hidden_dim", hidden_dim)
    if width != hidden_dim:
        raise ValueError(
            f"{file}: the head's hidden_dim is {shown(width)}, the backbone's {hidden_dim}; only heads as wide can be "
            "read"
        )
    activation = values.get("activation", "linear")
    if activation not in (None, "linear", "softmax"):
        raise ValueError(f"{file}: activation is {shown(activation)}; pyroberta's classifier gives logits ('linear')")
    classes = number(file, values, "num_classes", 0)
    stored.check_classes(file, classes)
    if classes < 2:
        raise ValueError(
            f"{file}: num_classes is {shown(values.get('num_classes'))}; a class per text takes at least 2"
        )
    return {
        "head_name": head,
        "num_classes": classes,
        "classifier_dropout": number(file, values, "dropout", 0.0),
    }


def read_labels(directory: Path) -> list[str] | None:
    """The names of a classifier's classes, where `kerashub_writer` left them: the format itself has none."""
    file = directory / "task.json"
    labels = own_values(file).get("labels") if is_there(file) else None
    if labels is not None and not (isinstance(labels, list) and all(isinstance(name, str) for name in labels)):
        raise ValueError(f"{file}: labels should be a list of names, got {shown(labels)}")
    if labels is not None:
        stored.check_labels(file, labels, number(file, _task(directory)[1], "num_classes", 0))
    return labels


def _object(file: Path, class_name: str) -> Mapping[str, Any]:
    """The config of a serialized object, which should be of that class."""
    values = read_json(file)
    if not is_of_kerashub(values, class_name):
        what = _class_name(file, values)
        raise ValueError(f"{file}: this is a {shown(what)}; pyroberta reads {class_name!r}")
    return _config(file, values)


def read_preprocessor(directory: Path) -> dict[str, Any]:
    """The settings of preprocessor.json; empty where there is none, or one of another kind.

    Warns:
        UserWarning: for one of another kind.

    Raises:
        ValueError: where it is no serialized object.
    """
    file = directory / "preprocessor.json"
    if not is_there(file):
        return {}
    values = read_json(file)
    name, config = _class_name(file, values), _config(file, values)
    if name not in PREPROCESSORS:
        warnings.warn(
            f"{file}: this is a {shown(name)}, whose settings aren't known here; the defaults are taken",
            stacklevel=callers_level(),
        )
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
    return all(is_there(directory / ASSETS / name) for name in ("vocabulary.json", "merges.txt"))


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
    settings = _object(file, "RobertaTokenizer") if is_there(file) else {}
    own = own_values(file) if is_there(file) else {}
    vocabulary = read_json(directory / ASSETS / "vocabulary.json")
    merges = read_merges(directory / ASSETS / "merges.txt", len(vocabulary))
    try:
        tokenizer = Tokenizer(
            vocabulary,
            merges,
            add_prefix_space=settings.get("add_prefix_space") is True,
            mask_lstrip=own.get("mask_lstrip") is not False,
            added_tokens=own.get("added_tokens"),
            separators=own.get("separators", 2),
            trim_offsets=own.get("trim_offsets") is not False,
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{directory / ASSETS}: {error}") from None
    stored.check_vocabulary(directory, tokenizer.vocabulary_size, config)
    return tokenizer


# --- weights ----------------------------------------------------------------------------------------------------------


def read_params(directory: Path, config: RobertaConfig, dtype: DTypeLike = np.float32, seed: int = 0) -> Arrays:
    """The parameters in `directory`: of the backbone from model.weights.h5 or its shards, of the head from
    task.weights.h5.

    The head is the one that `config` names, whatever the directory's own is: another one is left out, and a fresh one
    is drawn from `seed`.

    Warns:
        UserWarning: where there is no such head; it is then freshly initialised. Nothing is said where that is what was
            asked for, a head for classes of a preset that has none for as many.

    Raises:
        ImportError: where h5py isn't installed.
        FileNotFoundError: where there are no weights, telling what is there.
        ValueError: for missing, unknown, wrongly shaped, non-finite tensors, and damaged files: naming tensor and file.
    """
    names = renaming(config)
    wanted = dict(names.values())
    found = _read_backbone(directory, wanted)
    own = read_config(directory)
    head = _read_head(directory, config, wanted) if same_head(own, config) else {}
    places = {name: place for name, (place, _) in names.items() if head or is_backbone(name)}
    tensors = {**found, **head}
    stored.refuse_differences(directory, tensors, {names[name][0]: names[name][1] for name in places})
    params = Arrays.of(config, dtype)
    if not head:
        stored.warn_of_fresh_head(directory, HEAD, config, own)
        initialise(params, config, seed=seed)
    for name, place in places.items():
        stored.Copy(tensors[place], params[name], transpose=name == "head.table").run()
    return params


def _read_backbone(directory: Path, wanted: Mapping[str, Shape]) -> dict[str, Stored]:
    if is_there(directory / WEIGHTS):
        return read_h5(directory / WEIGHTS, wanted)
    if is_there(directory / INDEX):
        index = directory / INDEX
        places = read_json(index).get("weight_map")
        if not isinstance(places, Mapping):
            raise ValueError(f"{index} should have a weight_map, got {shown(places)}")
        files = {str(file) for place in places.values() for file in (place if isinstance(place, list) else [place])}
        Budget(index).step("its shards", len(files))
        found: dict[str, Stored] = {}
        for name in sorted(files):
            for path, tensor in read_h5(stored.beside(index, name), wanted).items():
                if path in found:
                    raise ValueError(
                        f"tensor {shown(path)} is in two shards of {directory}: {found[path].file.name}, {name}"
                    )
                found[path] = tensor
        return found
    raise FileNotFoundError(f"{directory} has neither {WEIGHTS} nor {INDEX}; it has {contents(directory)}")


def _read_head(directory: Path, config: RobertaConfig, wanted: Mapping[str, Shape]) -> dict[str, Stored]:
    """The head's tensors; empty where there is none."""
    file, files = directory / HEAD, HEAD_FILES[config.head]
    if not is_there(file) or _task(directory)[0] not in files.keras_classes:
        return {}
    layers = {_layer(path) for path in files.keras_names.values()}
    return {path: tensor for path, tensor in read_h5(file, wanted).items() if _layer(path) in layers}


def _layer(path: str) -> str:
    """The layer of the model that a path is below, such as `layers/dense_1`."""
    return "/".join(path.split("/")[:2])


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
    found = _look_at_variables(file) if is_there(file) else []
    if len(found) <= 2:
        raise missing(directory, "optimizer/vars of task.weights.h5")
    table = renaming(config)
    trained = in_keras_order(config)
    if len(found) < len(trained):
        trained = [name for name in trained if not is_backbone(name)]
    scalars = len(found) - 2 * len(trained)  # without a rate where it follows a schedule
    if scalars not in (1, 2):
        raise ValueError(
            f"{file}: the optimizer keeps {len(found)} arrays, and not a learning rate and two moments of each "
            f"parameter, as Adam of a model of config.json's size does"
        )
    places: list[Shape] = [()] * scalars + [table[name][1] for name in trained for _ in "mv"]
    wrong = [
        f"{tensor.name} has shape {shown(tensor.shape)}, expected {shape}"
        for tensor, shape in zip(found, places, strict=True)
        if tensor.shape != shape
    ]
    if wrong:
        raise ValueError(f"{file}: the optimizer's arrays don't fit config.json: {stored.few(wrong, '; ')}")
    table_of_state = {tensor.name: tensor.shape for tensor in found}
    read = read_h5(file, table_of_state)
    found = [read[name] for name in table_of_state]
    shape_of = shapes(config)

    def moment(name: str, which: int) -> NDArray[Any]:
        if name not in trained:
            return np.zeros(shape_of[name], np.float32)
        return as_there(name, found[scalars + 2 * trained.index(name) + which].array(), shape_of[name])

    m, v = (ReadWhenAsked({name: partial(moment, name, which) for name in shape_of}) for which in range(2))
    task = directory / "task.json"
    own = own_values(task) if is_there(task) else {}
    if "optimizer" not in own:
        rate = float(found[1].array()) if scalars == 2 else 5e-5
        own = {"optimizer": {"name": "adam", "learning_rate": rate}}
        warnings.warn(
            f"{directory} doesn't say which optimizer its state is of: Adam with Keras's defaults and a learning rate "
            f"of {rate:g} was taken",
            stacklevel=callers_level(),
        )
    return checked(file, own["optimizer"], found[0].array().item(), m, v, own.get("seed", 0))


def _look_at_variables(file: Path) -> list[Stored]:
    """The optimizer's, in their order; of packed ones the shapes alone."""
    prefix = "optimizer/vars/"
    variables = {path: tensor for path, tensor in read_h5(file, {}).items() if path.startswith(prefix)}
    try:
        return [variables[f"{prefix}{i}"] for i in range(len(variables))]
    except KeyError as error:
        raise ValueError(f"{file} lacks {error} of the optimizer's {len(variables)} arrays") from None


DEEPEST = 16  # groups in each other
KINDS = {"float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16", "int32": "I32", "int64": "I64"}
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32"}  # others are libraries that HDF5 would load
LONGEST_MARK = 64  # bytes of the attribute that tells bfloat16
MOST_ATTRIBUTES = 2  # of a dataset whose mark is looked for; Keras writes one
TIMES_HEADER = 16  # bytes that libhdf5 makes and keeps for one of an object's header


def read_h5(file: Path, wanted: Mapping[str, Shape]) -> dict[str, Stored]:
    """Every dataset of an HDF5 file by its path, unread where it lies in one piece. `layers/` may have its old name.

    Nothing outside the file is looked at: links, external storage and virtual datasets are refused.

    Args:
        file: to read.
        wanted: the paths and shapes that are asked for. What is packed is unpacked for these alone; of other paths, and
            of other shapes, there is only what the file says of them, for the error that refuses them.

    Raises:
        ImportError: where h5py isn't installed, telling how to get it.
        ValueError: for a damaged file, one that refers to others, and one that lacks numbers that it tells of.
        OverBudget: for one that asks for more than its reader may take.
    """
    there = stored.open_bytes(file)
    h5py = import_h5py(file.name)
    try:
        opened = h5py.File(file, "r")
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise ValueError(f"{file} is damaged or no HDF5 file: {clipped(str(error))}") from None
    budget = Budget(file, there.size, items=len(wanted))
    with opened:
        try:
            found = {}
            for name, dataset in _datasets(opened, file, "", set(), budget):
                path = re.sub("^_layer_checkpoint_dependencies/", "layers/", name)
                found[path] = _stored(file, name, dataset, there, wanted.get(path), budget)
            return found
        except (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError, zlib.error) as error:
            if str(file) in str(error):
                raise  # it is ours
            raise ValueError(f"{file} is damaged: {clipped(str(error))}") from None


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


def _datasets(group: Any, file: Path, path: str, seen: set[int], budget: Budget) -> Iterator[tuple[str, Any]]:
    """The datasets below a group. `seen`: addresses of the objects met before, none of which has two names."""
    import h5py

    if path.count("/") > DEEPEST:
        raise ValueError(f"{file}: groups lie {path.count('/')} deep in each other, at {shown(path)}: that is no model")
    budget.step(f"the group {shown(path)}", len(group))
    for key in group:
        name = f"{path}/{key}" if path else str(key)
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise ValueError(f"{file}: {shown(name)} is a link to elsewhere, which isn't followed")
        info = h5py.h5o.get_info(group.id, key if isinstance(key, bytes) else key.encode())  # which opens nothing
        if info.addr in seen:
            raise ValueError(f"{file}: {shown(name)} is a second name of what was met before, which isn't followed")
        seen.add(info.addr)
        budget.make(f"the header of {shown(name)}", TIMES_HEADER * info.hdr.space.total)
        if info.type == h5py.h5o.TYPE_DATASET and info.hdr.mesg.shared:
            # thousands of datasets may share a type of a thousand parts, which libhdf5 makes anew for each
            raise ValueError(f"{file}: {shown(name)} shares its type with others, which isn't followed")
        item = group[key]
        if isinstance(item, h5py.Group):
            yield from _datasets(item, file, name, seen, budget)
        elif isinstance(item, h5py.Dataset):
            yield name, item


def _stored(file: Path, path: str, dataset: Any, there: FileBytes, wanted: Shape | None, budget: Budget) -> Stored:
    shape = dataset.shape
    if shape is None:
        raise ValueError(f"{file}: {shown(path)} has no shape and no numbers")
    plan = dataset.id.get_create_plist()
    if plan.get_external_count() or plan.get_layout() not in _layouts():
        raise ValueError(f"{file}: the numbers of {shown(path)} lie in another file, which isn't opened")
    kind, item = _kind(dataset, tuple(shape) == wanted)
    size = math.prod(shape) * item
    start = dataset.id.get_offset()
    data: Source = there[:0]
    if kind not in KINDS.values() or not size:
        pass  # refused where it is asked for
    elif start is not None:
        if start + size > there.size:
            raise ValueError(
                f"{file} is cut short: {shown(path)} should lie at bytes {start} to {start + size} of {there.size}"
            )
        data = there[start : start + size]
    elif tuple(shape) == wanted:
        _check_pieces(file, path, dataset, plan, there, size, budget)
        data = dataset[()].reshape(-1).view(np.uint8)
    return Stored(path, kind, tuple(shape), data, file)


@lru_cache(maxsize=1)
def _layouts() -> dict[int, str]:
    """How numbers may lie in their own file."""
    import h5py

    return {h5py.h5d.COMPACT: "compact", h5py.h5d.CONTIGUOUS: "contiguous", h5py.h5d.CHUNKED: "chunked"}


def _kind(dataset: Any, is_wanted: bool) -> tuple[str, int]:
    """The element type as `Stored` names it, or another name for one that isn't read, and its size in bytes.

    Classes that may be made of others, such as records, are not looked into; nor are the attributes of what isn't
    wanted.
    """
    from h5py import h5t

    there = dataset.id.get_type()
    others = {h5t.STRING: "texts", h5t.COMPOUND: "records", h5t.ENUM: "names", h5t.ARRAY: "arrays"}
    if there.get_class() in (h5t.INTEGER, h5t.FLOAT):
        name = str(dataset.dtype)
        return KINDS.get(name, clipped(name, 40)), dataset.dtype.itemsize
    if there.get_class() == h5t.OPAQUE and there.get_size() == 2:
        return ("BF16" if is_wanted and _mark(dataset) == b"bfloat16" else "opaque bytes"), 2
    return others.get(there.get_class(), "objects"), there.get_size()


def _mark(dataset: Any) -> bytes:
    """The attribute `dtype`, where it is one short text: nothing else is read, whatever an attribute says it is."""
    from h5py import h5a, h5t

    if h5a.get_num_attrs(dataset.id) > MOST_ATTRIBUTES or not h5a.exists(dataset.id, b"dtype"):
        return b""
    mark = h5a.open(dataset.id, b"dtype")
    kind = mark.get_type()
    if kind.get_class() != h5t.STRING or mark.get_space().get_simple_extent_npoints() != 1:
        return b""
    if not kind.is_variable_str() and kind.get_size() > LONGEST_MARK:
        return b""
    found = np.zeros((), mark.dtype)
    mark.read(found)
    value: Any = found[()]
    return value.encode() if isinstance(value, str) else bytes(value)


def _check_pieces(file: Path, path: str, dataset: Any, plan: Any, whole: FileBytes, size: int, budget: Budget) -> None:
    """That the pieces in which a dataset lies are all there, and hold no more, packed or not, than it is itself.

    What was never written HDF5 makes up: a few bytes can tell of terabytes of fill values.
    """
    if dataset.chunks is None:
        there = dataset.id.get_storage_size()  # within the object's header; 0 where nothing was ever written
        if there < size:
            raise ValueError(
                f"{file}: {shown(path)} should have {size} bytes, and {there} of them are there: it was never written"
            )
        budget.make(shown(path), size)
        return
    filters = [plan.get_filter(i)[0] for i in range(min(plan.get_nfilters(), len(FILTERS) + 1))]
    if not set(filters) <= set(FILTERS) or len(set(filters)) < len(filters):
        raise ValueError(f"{file}: {shown(path)} is packed by the filters {filters}; known are {FILTERS}, each once")
    count = math.prod(-(-n // m) for n, m in zip(dataset.shape, dataset.chunks, strict=True))
    chunk_size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    budget.make(f"{shown(path)}, in {count} chunks,", 2 * count * chunk_size)
    budget.step(f"{shown(path)}, in {count} chunks,", count)
    there = dataset.id.get_num_chunks()
    if there < count:
        raise ValueError(f"{file}: {shown(path)} should have {count} chunks, and {there} of them were ever written")
    for i in range(there if 1 in filters else 0):
        chunk = dataset.id.get_chunk_info(i)
        packed = whole[chunk.byte_offset : chunk.byte_offset + chunk.size].read()
        if (
            len(zlib.decompressobj().decompress(packed.data, chunk_size + 5)) > chunk_size + 4
        ):  # 4 bytes are a sum to check
            raise ValueError(
                f"{file} is damaged: a chunk of {shown(path)} has more packed in it than {chunk_size} bytes"
            )
