"""Keras's archive of a whole model, `model.keras`: a zip that Keras's `save` writes for KerasHub's RoBERTas.

    config.json                                     the model as Keras serialises it, with all that it holds
    model.weights.h5                                its weights, as `save_weights` writes them
    assets/preprocessor/tokenizer/vocabulary.json   the tokenizer's, and merges.txt beside it
    metadata.json                                   Keras's version, which is not read

The parts are those of a KerasHub preset, so kerashub.py reads them from an archive that behaves like a directory. Keras
imports the classes that the config names. Here the name of a class must be a known one, and so must the name of each
setting.

This file reads; keras_archive_writer.py writes.

Source: keras 3.15 (saving/saving_lib.py, serialization_lib.py) and keras-hub 0.32, and archives that they wrote.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from pyroberta.formats import hdf5
from pyroberta.formats.directory import Directory
from pyroberta.formats.files import as_path, exists, parse_json, shown
from pyroberta.formats.stored import Stored
from pyroberta.formats.zips import Archive
from pyroberta.model.config import RobertaConfig
from pyroberta.model.heads import HEADS, has_classes
from pyroberta.model.parameters import Arrays, Shape, is_backbone
from pyroberta.model.serialization import dtype_name
from pyroberta.presets import checks, kerashub, learning_rates
from pyroberta.presets.detect import CONFIG, KERAS_PACKAGES, TOKENIZER, FileNames
from pyroberta.presets.heads import HEAD_FILES
from pyroberta.presets.kerashub import FIELDS, PREPROCESSOR, SETTINGS, TASK, WEIGHTS
from pyroberta.presets.preset import Preset
from pyroberta.presets.weight_files import NOT_READ, keras_places

ENDING, METADATA, ASSETS = ".keras", "metadata.json", "assets/preprocessor/tokenizer"
BACKBONE, TOKENIZER_CLASS = "RobertaBackbone", "RobertaTokenizer"

_WITHIN_CONFIG = (TASK, TOKENIZER, PREPROCESSOR, learning_rates.FILE)  # a preset's files that are parts of config.json

# The settings that a config may have.
_LAYER = ("name", "trainable", "dtype")
_OF_BACKBONE = (*_LAYER, *FIELDS, "dropout")
_OF_TASK = ("name", "backbone", "preprocessor")
_OF_CLASSIFIER = (*_OF_TASK, "num_classes", "activation", "hidden_dim", "dropout")
_OF_PREPROCESSOR = (*_LAYER, "tokenizer", "config_file", *SETTINGS)
_OF_TOKENIZER = (*_LAYER, "config_file", "sequence_length", "add_prefix_space", "unsplittable_tokens")


@dataclass(frozen=True)
class OpenArchive:
    """An archive whose config was read.

    Attributes:
        preset: the preset that reads the parts.
        head: the name of the task's head; None for an encoder alone.
        name: the name of the model, or None.
        backbone_name: the name of its encoder.
        trainable: whether its encoder is trainable.
        dtype: the dtype policy of its encoder.
        has_preprocessor: whether it has a preprocessor.
        is_compiled: whether it has arguments of Keras's `compile`.
    """

    preset: Preset
    head: str | None
    name: str | None
    backbone_name: str | None
    trainable: bool
    dtype: Any
    has_preprocessor: bool
    is_compiled: bool


def open_archive(filepath: str | os.PathLike[str]) -> OpenArchive:
    """Opens an archive, and checks that its classes and settings are known.

    Raises:
        FileNotFoundError: if the file does not exist, or a part of it is missing.
        ValueError: if the name has another ending, the archive is damaged, or a class or a setting is unknown.
        OverBudget: if reading the archive would take too much memory or time.
    """
    path = checked_path(filepath)
    if not exists(path):
        raise FileNotFoundError(f"there is no file {path}")
    if path.is_dir():
        raise ValueError(f"{path} is a directory; load a preset with Task.from_preset({os.fspath(filepath)!r})")
    archive = Archive(path)
    file = path / CONFIG
    model = parse_json(archive.bytes(CONFIG), f"{file}")
    heads = {name: head for head, files in HEAD_FILES.items() for name in files.keras_classes}
    kind, config = _read(file, "the model", model, [BACKBONE, *heads])
    head, parts = heads.get(kind), dict[str, Any]({CONFIG: model})
    has_preprocessor, backbone = False, config
    if head is not None:
        is_classifier = has_classes(HEADS[head])
        _check_settings(file, kind, config, _OF_CLASSIFIER if is_classifier else _OF_TASK)
        parts = {CONFIG: config.get("backbone"), TASK: model}
        _, backbone = _read(file, "backbone", parts[CONFIG], [BACKBONE])
        has_preprocessor = config.get("preprocessor") is not None
        rates = kerashub.read_extras(_Unpacked(archive, parts), TASK).get(learning_rates.KEY)
        if rates is not None:
            parts[learning_rates.FILE] = {learning_rates.KEY: rates}
    if head is not None and has_preprocessor:
        parts |= _preprocessor(file, head, config["preprocessor"])
    _check_settings(file, BACKBONE, backbone, _OF_BACKBONE)
    if not isinstance(trainable := backbone.get("trainable", True), bool):
        raise ValueError(f"{file}: trainable of {BACKBONE} should be true or false, got {shown(trainable)}")
    preset = Preset(_Unpacked(archive, parts), _Format(archive, head is not None), os.fspath(filepath))
    return OpenArchive(
        preset,
        head,
        _name(file, kind, config),
        _name(file, BACKBONE, backbone),
        trainable,
        "float32" if backbone.get("dtype") is None else dtype_name(backbone["dtype"]),
        has_preprocessor,
        bool(model.get("compile_config")),
    )


def checked_path(filepath: str | os.PathLike[str]) -> Path:
    """Returns the path of an archive.

    Raises:
        ValueError: if it has another ending.
    """
    path, given = as_path(filepath), os.fspath(filepath)
    if path.name.endswith(ENDING):
        return path
    hint = f"to save a directory use save_to_preset({given!r}), to load it Task.from_preset({given!r})"
    if path.name.endswith((".h5", ".safetensors")):
        hint = "to save the weights alone use save_weights(filepath), to load them load_weights(filepath)"
    raise ValueError(f"the file of a whole model must end in {ENDING}, got {given!r}: {hint}")


def _preprocessor(file: Path, head: str, values: Any) -> dict[str, Any]:
    """The parts of a preprocessor's object."""
    kinds = [f"{HEAD_FILES[head].keras_classes[0]}Preprocessor"]
    if has_classes(HEADS[head]):
        kinds.append("RobertaPreprocessor")  # its older name
    kind, config = _read(file, "preprocessor", values, kinds)
    _check_settings(file, kind, config, _OF_PREPROCESSOR)
    tokenizer = config.get("tokenizer")
    _, settings = _read(file, "tokenizer", tokenizer, [TOKENIZER_CLASS])
    _check_settings(file, TOKENIZER_CLASS, settings, _OF_TOKENIZER)
    return {PREPROCESSOR: values, TOKENIZER: tokenizer}


def _read(file: Path, where: str, values: Any, kinds: Collection[str]) -> tuple[str, Mapping[str, Any]]:
    """The class of a serialized object, one of `kinds`, and its config."""
    if not isinstance(values, Mapping) or not isinstance(values.get("config"), Mapping):
        raise ValueError(f"{file}: {where} should be an object with class_name and config, got {shown(values)}")
    known = {f"{package}>{kind}": kind for package in KERAS_PACKAGES for kind in kinds}
    name = values.get("registered_name")
    if not isinstance(name, str) or name not in known:
        found = values.get("class_name") if name is None else name
        raise ValueError(
            f"{file}: {where} is of the class {shown(found)}; what can be read is KerasHub's {' or '.join(kinds)}. No "
            "class is imported by its name"
        )
    return known[name], values["config"]


def _check_settings(file: Path, kind: str, config: Mapping[str, Any], known: Collection[str]) -> None:
    for name in config:
        if name not in known:
            raise ValueError(f"{file}: {kind} has the setting {shown(name)}; known are {', '.join(known)}")


def _name(file: Path, kind: str, config: Mapping[str, Any]) -> str | None:
    name = config.get("name")
    if name is not None and (not isinstance(name, str) or not name or "/" in name):
        raise ValueError(f"{file}: name of {kind} should be a text that isn't empty and has no '/', got {shown(name)}")
    return name


class _Unpacked(Directory):
    """An archive, seen as the directory of a KerasHub preset that holds the same model.

    Args:
        archive: opened.
        parts: the JSON files of the directory that are objects within the archive's config.json.
    """

    def __init__(self, archive: Archive, parts: dict[str, Any]) -> None:
        super().__init__(archive.file)
        self._archive, self._parts = archive, parts

    def __truediv__(self, name: str) -> Path:
        return self.path / _place(name)

    def has(self, name: str) -> bool:
        return name in self._parts or (name not in _WITHIN_CONFIG and _place(name) in self._archive.names)

    def bytes(self, name: str) -> bytes:
        return self._archive.bytes(_place(name))

    def json(self, name: str) -> Mapping[str, Any]:
        if name not in self._parts:
            self._parts[name] = parse_json(self.bytes(name), f"{self / name}")
        found: Mapping[str, Any] = self._parts[name]
        return found


def _place(name: str) -> str:
    """The name of the entry that has what a preset has in that file."""
    if name in _WITHIN_CONFIG:
        return CONFIG
    return ASSETS + name.removeprefix(kerashub.ASSETS) if name.startswith(kerashub.ASSETS) else name


class _Format:
    """Reads an archive; see `detect.Format`. All but the weights is a KerasHub preset's."""

    FILES = FileNames(others=(learning_rates.FILE,))
    read_config = staticmethod(kerashub.read_config)
    read_tokenizer = staticmethod(kerashub.read_tokenizer)
    read_preprocessor = staticmethod(kerashub.read_preprocessor)
    read_labels = staticmethod(kerashub.read_labels)
    read_activation = staticmethod(kerashub.read_activation)

    def __init__(self, archive: Archive, is_task: bool) -> None:
        self._archive, self._is_task = archive, is_task

    def read_params(
        self,
        directory: Directory,
        config: RobertaConfig,
        dtype: DTypeLike = np.float32,
        seed: int = 0,
        on_fresh_head: checks.OnFreshHead = checks.warn_of_fresh_head,
    ) -> Arrays:
        """The parameters; the head of an encoder that was saved alone is drawn from `seed`."""
        if not self._is_task:
            checks.report_fresh_head(on_fresh_head, directory, WEIGHTS, config, config, has_head=False)
        tensors = self.read_stored(directory, config)
        return kerashub.filled(directory, config, self._places(config), tensors, dtype, seed)

    def read_stored(self, directory: Directory, config: RobertaConfig) -> dict[str, Stored]:
        """The tensors by their paths in model.weights.h5, unread."""
        wanted = dict(self._places(config).values())
        found = hdf5.read(self._archive.file / WEIGHTS, wanted, self._archive.source(WEIGHTS))
        return {path: tensor for path, tensor in found.items() if not path.startswith(NOT_READ)}

    def read_state(self, directory: Directory, config: RobertaConfig) -> NoReturn:
        """Raises an error: KerasHub's tasks don't load the optimizer's state of an archive either."""
        raise ValueError(f"{directory}: the optimizer's state of an archive isn't read")

    def _places(self, config: RobertaConfig) -> dict[str, tuple[str, Shape]]:
        names = [name for name in kerashub.renaming(config) if self._is_task or is_backbone(name)]
        return keras_places(config, names, self._is_task)
