"""Writing of Keras's archive of a whole model, `model.keras`. See keras_archive.py."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any, NamedTuple

from pyroberta.formats import zips
from pyroberta.formats.files import exists
from pyroberta.formats.hdf5 import import_h5py
from pyroberta.formats.new_files import NewFile, place_of, replace_files
from pyroberta.model.parameters import is_backbone
from pyroberta.presets import learning_rates
from pyroberta.presets.detect import CONFIG
from pyroberta.presets.keras_archive import ASSETS, METADATA, checked_path
from pyroberta.presets.kerashub import EXTRAS, WEIGHTS
from pyroberta.presets.kerashub_writer import (
    VERSIONS,
    Kind,
    assets,
    described,
    refuse_unsupported,
    warn_of_ignored_settings,
)
from pyroberta.presets.weight_files import keras_file
from pyroberta.presets.writing import Contents, check_parts, json_file

ARCHIVE = Kind("Keras's archive", "save_to_preset(directory) saves it")


class Names(NamedTuple):
    """The names and settings of a model that an archive keeps beside the model's contents.

    Attributes:
        name: the name of the model.
        backbone: the name of its encoder.
        trainable: whether its encoder is trainable.
        precision: the dtype policy of its encoder.
    """

    name: str
    backbone: str
    trainable: bool
    precision: str


def write(filepath: str | os.PathLike[str], contents: Contents, names: Names, *, overwrite: bool = True) -> None:
    """Writes an archive. It takes its name when it is complete.

    Args:
        filepath: the path, which ends in `.keras`. Its parents are created if needed.
        contents: the parts of the model, without a state of the optimizer. The weights are stored in their own dtype.
        names: see the class.
        overwrite: whether to replace an existing file.

    Raises:
        ImportError: if h5py is not installed.
        FileExistsError: if the file exists and `overwrite` is False.
        ValueError: if the path has another ending, or the model has settings that KerasHub's RoBERTa lacks. See
            `check_parts` for other errors.
        OSError: see `replace_files`.

    Warns:
        UserWarning: if the model has settings that KerasHub ignores.
    """
    path = place_of(checked_path(filepath))
    import_h5py(f"{WEIGHTS} of Keras's archive")
    if exists(path) and not overwrite:
        raise FileExistsError(f"{path} exists already: overwrite=True replaces it")
    check_parts(path, contents)
    refuse_unsupported(contents, ARCHIVE)
    warn_of_ignored_settings(contents)
    made = {
        METADATA: json_file(
            {
                "keras_version": VERSIONS["keras_version"],
                "date_saved": datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
            }
        ),
        CONFIG: json_file(_model(contents, names)),
        WEIGHTS: _weights(contents),
    }
    if contents.tokenizer is not None:
        made |= assets(contents.tokenizer, ASSETS)
    replace_files(path.parent, {path.name: zips.new_file(made)})


def _model(contents: Contents, names: Names) -> dict[str, Any]:
    """The model as Keras serialises it."""
    parts = described(contents, names.precision)
    backbone: dict[str, Any] = parts["backbone"]
    backbone["config"] |= {"name": names.backbone, "trainable": names.trainable}
    if not contents.head:
        return backbone
    task: dict[str, Any] = parts["task"]
    task["config"]["name"] = names.name
    if contents.learning_rates:
        task[EXTRAS] = {**task.get(EXTRAS, {}), learning_rates.KEY: dict(contents.learning_rates)}
    return task


def _weights(contents: Contents) -> NewFile:
    params = {name: array for name, array in contents.params.items() if contents.head or is_backbone(name)}
    return keras_file(WEIGHTS, contents.config, params, contents.head)
