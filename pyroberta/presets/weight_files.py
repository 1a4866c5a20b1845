"""A file of weights without config and tokenizer: KerasHub's `.weights.h5`, or Hugging Face's `.safetensors`.

The file of a KerasHub backbone has the same paths as the files of a preset (see kerashub.py). The file of a task has
the encoder below `layers/roberta_backbone/`, the head beside it, and Keras's optimizer, which is neither written nor
read here.

Source: keras 3.15 (saving/saving_lib.py) and keras-hub 0.32 (models/task.py), and files that they wrote.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyroberta.formats import hdf5, hdf5_writer, safetensors_io
from pyroberta.formats.files import as_path, exists
from pyroberta.formats.new_files import NewFile, place_of, replace_files
from pyroberta.formats.stored import Copy, Stored, few, refuse_differences
from pyroberta.model.callers import callers_level
from pyroberta.model.config import RobertaConfig
from pyroberta.model.heads import title
from pyroberta.model.parameters import Shape, is_backbone
from pyroberta.presets import hf, kerashub
from pyroberta.presets.renaming import POSITION, unused_rows

ENCODER = "layers/roberta_backbone/"
ENDINGS = (".weights.h5", ".safetensors")
NOT_READ = ("optimizer/", "metrics/", "seed_generator/")  # Keras's own state beside the weights

Values = Mapping[str, NDArray[Any]]


def write(
    filepath: str | os.PathLike[str], config: RobertaConfig, params: Values, is_task: bool, *, overwrite: bool = True
) -> None:
    """Writes some of a model's parameters, in their dtype.

    Args:
        filepath: the path, which ends in one of `ENDINGS`. Its parents are created if needed.
        config: the config of the model.
        params: the values to write, by name.
        is_task: whether the model is a task with a head, which decides the place of the encoder in KerasHub's file.
        overwrite: whether to replace an existing file.

    Raises:
        ValueError: if the path has another ending, or KerasHub's models lack a parameter.
        FileExistsError: if the file exists and `overwrite` is False.
        OSError: see `replace_files`.
    """
    ending = _ending(filepath)
    path = place_of(filepath)
    if exists(path) and not overwrite:
        raise FileExistsError(f"{path} exists already: overwrite=True replaces it")
    new = keras_file(path.name, config, params, is_task) if ending == ".weights.h5" else _safetensors(config, params)
    replace_files(path.parent, {path.name: new})


def read(
    filepath: str | os.PathLike[str],
    config: RobertaConfig,
    params: Values,
    is_task: bool,
    *,
    skip_mismatch: bool = False,
) -> dict[str, NDArray[Any]]:
    """Returns the values of `params` in a file, in their shapes and dtypes.

    Args:
        filepath, config, is_task: see `write`.
        params: the wanted parameters by name. Their values are not read.
        skip_mismatch: whether to leave out parameters that the file lacks or has in another shape.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is damaged, or belongs to another model.

    Warns:
        UserWarning: with `skip_mismatch`, if parameters are left out. The message names them.
    """
    path, ending = as_path(filepath), _ending(filepath)
    if not exists(path):
        raise FileNotFoundError(f"there is no file {path}")
    if ending == ".weights.h5":
        places = keras_places(config, params, is_task)
        tensors = hdf5.read(path, dict(places.values()))
        tensors = {place: tensor for place, tensor in tensors.items() if not place.startswith(NOT_READ)}
    else:
        names = hf.renaming(config)
        tensors = safetensors_io.read(path)
        tensors.pop(hf.TOKEN_TYPE, None)
        places = {name: (names[name][0], _in_hf(config, name, params[name]).shape) for name in params}
    if skip_mismatch:
        places = _matching(path, places, tensors)
        tensors = {place: tensors[place] for place, _ in places.values()}
    refuse_differences(path, tensors, dict(places.values()), "this model")
    found: dict[str, NDArray[Any]] = {}
    for name, (place, _) in places.items():
        found[name] = np.empty_like(params[name])
        if ending == ".weights.h5":
            Copy(tensors[place], found[name], transpose=name == "head.table").run()
        else:
            skip = unused_rows(config) if name == POSITION else 0
            Copy(tensors[place], found[name], names[name][1], skip).run()
    return found


def _ending(filepath: str | os.PathLike[str]) -> str:
    """The ending of a file's name, one of `ENDINGS`."""
    path = as_path(filepath)
    for ending in ENDINGS:
        if path.name.endswith(ending):
            return ending
    hint = ""
    if path.is_dir():
        hint = f", a directory. To load a whole preset use from_preset({os.fspath(filepath)!r})"
    elif path.suffix == ".keras":
        hint = ". To save a whole model use save(filepath), to load it models.load_model(filepath)"
    elif path.suffix in (".h5", ".hdf5"):
        hint = f". Write {path.stem + '.weights.h5'!r}"
    raise ValueError(f"the file of weights must end in {' or '.join(ENDINGS)}, got {os.fspath(filepath)!r}{hint}")


def keras_places(config: RobertaConfig, params: Iterable[str], is_task: bool) -> dict[str, tuple[str, Shape]]:
    """Returns the path of each parameter in KerasHub's file, and its shape there.

    Raises:
        ValueError: if KerasHub's models lack a parameter.
    """
    known = kerashub.renaming(config)
    lacking = [name for name in params if name not in known]
    if lacking:
        raise ValueError(
            f"KerasHub's RoBERTa lacks {few(lacking)} of this model with a {title(config)}: "
            "give a name that ends in .safetensors"
        )
    places = {}
    for name in params:
        place, shape = known[name]
        if is_task and is_backbone(name):
            place = ENCODER + place
        places[name] = (place, shape)
    return places


def keras_file(name: str, config: RobertaConfig, params: Values, is_task: bool) -> NewFile:
    """Returns the file of weights in Keras's layout, under the name `name`. See `write` for the other arguments.

    Raises:
        ValueError: if KerasHub's models lack a parameter.
    """
    places = keras_places(config, params, is_task)
    tensors = {place: kerashub.reshaped(name, params[name], shape) for name, (place, shape) in places.items()}
    return hdf5_writer.new_file(name, tensors, _dtype(params))


def _safetensors(config: RobertaConfig, params: Values) -> NewFile:
    names = hf.renaming(config)
    tensors = {names[name][0]: _in_hf(config, name, array) for name, array in params.items()}
    return safetensors_io.new_file(tensors, _dtype(params))


def _in_hf(config: RobertaConfig, name: str, array: NDArray[Any]) -> NDArray[Any]:
    """A parameter as Hugging Face's files have it: transposed if it is a kernel, with the position rows of no token."""
    if name == POSITION:
        return np.concatenate([np.zeros((unused_rows(config), array.shape[1]), array.dtype), array])
    return array.T if hf.renaming(config)[name][1] else array


def _dtype(params: Values) -> str:
    return next(iter(params.values())).dtype.name


def _matching(
    path: Path, places: Mapping[str, tuple[str, Shape]], tensors: Mapping[str, Stored]
) -> dict[str, tuple[str, Shape]]:
    """The places whose tensors are there in the right shape; warns of the others."""
    found = {
        name: (place, shape)
        for name, (place, shape) in places.items()
        if place in tensors and tensors[place].shape == shape
    }
    left = [name for name in places if name not in found]
    if left:
        warnings.warn(
            f"{path} lacks {len(left)} of the {len(places)} parameters, or has them in another shape; they stay as "
            f"they are: {few(left)}",
            stacklevel=callers_level(),
        )
    return found
