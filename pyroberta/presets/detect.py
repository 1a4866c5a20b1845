"""Detection of the format of a directory by its files, and the interface of formats."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import DTypeLike

from pyroberta.formats.directory import Directory, Kind
from pyroberta.formats.files import NamedPath, contents, exists, read_bytes
from pyroberta.model.config import RobertaConfig
from pyroberta.model.parameters import Arrays
from pyroberta.presets.checks import OnFreshHead, warn_of_fresh_head

if TYPE_CHECKING:
    from pyroberta.formats.stored import Stored
    from pyroberta.presets.optimizer_state import OptimizerState
    from pyroberta.text.tokenizer import Tokenizer

CONFIG, TOKENIZER, ADAPTER_CONFIG = "config.json", "tokenizer.json", "adapter_config.json"
KERAS_PACKAGES = ("keras_hub", "keras_nlp")  # the second name is older
FAIRSEQ_DICTIONARY = "dict.txt"
FAIRSEQ_CHECKPOINTS = ("model.pt", "checkpoint_best.pt", "checkpoint_last.pt")  # the first that exists is read
MOST_LOOKED_AT, DEEPEST = 1000, 3  # entries, and levels of directories, that are searched for a model


@dataclass(frozen=True)
class FileNames:
    """The names of the files that a format reads. The first of `config` and one of `weights` are required.

    Attributes:
        config: the names of the files of the config.
        others: the names of the files of the tokenizer and the preprocessor.
        weights: pairs of a file with all weights and an index of shards. The first file that exists is read.
        head: the names of files of weights that belong to the head alone.
        optimizer_state: the names of files of the optimizer's state alone.
    """

    config: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    weights: tuple[tuple[str, str], ...] = ()
    head: tuple[str, ...] = ()
    optimizer_state: tuple[str, ...] = ()


class Format(Protocol):
    """The functions of a module that reads a format. Another module writes the format; see `writing.Writer`."""

    @property
    def FILES(self) -> FileNames:
        """The names of the files that the format reads."""

    def read_config(self, directory: Directory) -> RobertaConfig:
        """Returns the config."""

    def read_params(
        self,
        directory: Directory,
        config: RobertaConfig,
        dtype: DTypeLike,
        seed: int = 0,
        on_fresh_head: OnFreshHead = warn_of_fresh_head,
    ) -> Arrays:
        """Returns the parameters in `dtype`. If the head is missing, it is drawn from `seed`; see `Preset.weights`."""

    def read_stored(self, directory: Directory, config: RobertaConfig) -> Mapping[str, Stored]:
        """Returns the tensors of the files, by their names in the files. The numbers are not read yet."""

    def read_tokenizer(self, directory: Directory, config: RobertaConfig | None) -> Tokenizer:
        """Returns the tokenizer. It must fit `config`, the model's config, or None if there is no model."""

    def read_preprocessor(self, directory: Directory) -> Mapping[str, Any]:
        """Returns the preprocessor's settings that the format has."""

    def read_labels(self, directory: Directory) -> list[str] | None:
        """Returns the names of a classifier's classes, or None if it has none."""

    def read_activation(self, directory: Directory) -> str:
        """Returns the function between a classifier's logits and its outputs, one of `checks.ACTIVATIONS`."""

    def read_state(self, directory: Directory, config: RobertaConfig) -> OptimizerState:
        """Returns the optimizer's state. Some formats have none and raise an error."""


def detect(directory: Directory) -> Format:
    """Returns the format of a directory. Its module is imported only here, since a program mostly needs one format or
    none.

    Raises:
        ValueError: if no format that can be read fits the directory.
    """
    if is_kerashub(directory):
        from pyroberta.presets import kerashub

        return kerashub
    if is_fairseq(directory):
        from pyroberta.presets import fairseq

        return fairseq
    if exists(directory / CONFIG) or _has_tokenizer_alone(directory):
        from pyroberta.presets import hf

        return hf
    raise ValueError(
        f"{directory} is not a preset: it has neither {CONFIG} nor {' nor '.join(FAIRSEQ_CHECKPOINTS)}; it has "
        f"{contents(directory.path)}.{hint_of_inside(directory.path)}"
    )


def model_type(values: Mapping[str, Any]) -> Any:
    """Returns the model type in Hugging Face's config.json, or None. Files of 2019 have the name of a class instead."""
    names = values.get("architectures")
    is_old = isinstance(names, list) and any(str(name).startswith("Roberta") for name in names)
    found = values.get("model_type")
    return "roberta" if found is None and is_old else found


def is_of_kerashub(values: Mapping[str, Any], class_name: str) -> bool:
    """Returns whether the values are a serialized object of this class of KerasHub."""
    return values.get("registered_name") in [f"{package}>{class_name}" for package in KERAS_PACKAGES]


def _is_tokenizer_of_hf(values: Mapping[str, Any]) -> bool:
    from pyroberta.text.tokenizer_files import CLASSES

    return str(values.get("tokenizer_class")).removesuffix("Fast") in CLASSES


# A tokenizer that was saved alone, or with a preprocessor's settings. A model may be saved beside it later.
TOKENIZERS = (
    Kind("tokenizer of a RoBERTa", "tokenizer_config.json", _is_tokenizer_of_hf),
    Kind("tokenizer of a RoBERTa", "tokenizer.json", lambda values: is_of_kerashub(values, "RobertaTokenizer")),
)
PRESET = Kind(
    "preset of a RoBERTa",
    CONFIG,
    lambda values: (
        is_of_kerashub(values, "RobertaBackbone") if "registered_name" in values else model_type(values) == "roberta"
    ),
    TOKENIZERS,
)
ADAPTER = Kind("LoRA adapter", ADAPTER_CONFIG, lambda values: values.get("peft_type") == "LORA")


def is_kerashub(directory: Directory) -> bool:
    """Returns whether config.json, or tokenizer.json if it is missing, was written by KerasHub. Hugging Face's files
    have no `registered_name`.

    Raises:
        ValueError: if the file is not JSON.
    """
    name = CONFIG if exists(directory / CONFIG) else TOKENIZER
    return exists(directory / name) and "registered_name" in directory.json(name)


def has_model(directory: Directory) -> bool:
    """Returns whether a directory of a known format has a model, and not only a tokenizer."""
    return is_fairseq(directory) or exists(directory / CONFIG)


def _has_tokenizer_alone(directory: Directory) -> bool:
    return not has_model(directory) and any(exists(directory / name) for name in (TOKENIZER, "vocab.json"))


def fairseq_checkpoint(directory: Directory) -> str | None:
    """Returns the name of the checkpoint that is read, or None if there is none."""
    return next((name for name in FAIRSEQ_CHECKPOINTS if exists(directory / name)), None)


def is_fairseq(directory: Directory) -> bool:
    """Returns whether the directory has a checkpoint, with or without its dictionary."""
    has_others = exists(directory / CONFIG) and not exists(directory / FAIRSEQ_DICTIONARY)
    return fairseq_checkpoint(directory) is not None and not has_others


def refuse_fairseq(directory: Path) -> None:
    """Checks that `directory` holds no checkpoint of fairseq, which would be read instead of a preset that is saved
    there.

    Raises:
        FileExistsError: if there is one.
    """
    if directory.is_dir() and is_fairseq(Directory(directory)):
        raise FileExistsError(
            f"won't save to {directory}: it holds a checkpoint of fairseq, which would be read instead of the saved "
            f"files. Give a new directory, such as {directory / 'preset'}."
        )


def hint_of_inside(directory: Path, names: Sequence[str] = (CONFIG, *FAIRSEQ_CHECKPOINTS)) -> str:
    """Returns a sentence, with a space before it, that names a place of a model below a directory.

    A hub's cache has models in `models--ORGANISATION--NAME/snapshots/COMMIT`, sentence-transformers in `0_Transformer`,
    and trainers in directories such as `checkpoint-500`.

    Returns:
        The sentence. It is empty if no model is found among the first thousand entries, up to three levels below the
        directory.
    """
    found: list[Path] = []
    level, left = [directory], MOST_LOOKED_AT
    for _ in range(DEEPEST):
        below = []
        for parent in level:
            try:
                with os.scandir(parent) as opened:
                    entries = list(islice(opened, left))
            except OSError:  # it may not be looked into
                continue
            left -= len(entries)
            below += sorted((NamedPath(entry.path) for entry in entries if entry.is_dir()), reverse=True)
        found += [one for one in below if any((one / name).is_file() for name in names)]
        level = [one for one in below if one not in found]
    if not found:
        return ""
    current = _current_commit(directory)
    found.sort(key=lambda one: one.name != current)
    more = f", or one of {len(found) - 1} more" if len(found) > 1 else ""
    return f" There may be a model inside: give {str(found[0])!r}{more}"


def _current_commit(directory: Path) -> str:
    """The commit of the main branch in a hub's cache; empty if it is unknown."""
    try:
        return read_bytes(directory / "refs" / "main", 100).decode().strip()
    except (OSError, ValueError):
        return ""
