"""What writing a preset is in every format: checks first, then a new directory that takes the old one's place whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyroberta.model.config import RobertaConfig
from pyroberta.model.params import Arrays, shapes
from pyroberta.presets.marks import CONFIG, is_kerashub
from pyroberta.presets.stored import check_vocabulary, few
from pyroberta.text.new_files import NewFile

if TYPE_CHECKING:
    from pyroberta.presets.training_state import TrainingState
    from pyroberta.text.tokenizer import Tokenizer

# What belongs to the model, the tokenizer and the preprocessor, in the formats that are written, and in older files.
MODEL_FILES = (
    CONFIG, "*.safetensors", "*.safetensors.index.json", "pytorch_model*", "tf_model.h5", "flax_model*",
    "metadata.json", "task.json", "*.weights.h5", "*.weights.json",
)  # fmt: skip
HF_TOKENIZER_FILES = (
    "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json",
)  # fmt: skip
TOKENIZER_FILES = (*HF_TOKENIZER_FILES, "assets")
PREPROCESSOR_FILES = ("pyroberta_preprocessor.json", "preprocessor.json")


@dataclass(frozen=True)
class Contents:
    """What is written of a model.

    Attributes:
        config: of the model.
        params: its parameters, of `shapes(config)`.
        tokenizer: None for a model without.
        preprocessor: the settings of the task's preprocessor, which JSON can hold.
        state: of training, to go on with.
        head: False for the encoder alone.
        labels: the names of a classifier's classes, where it has some.
    """

    config: RobertaConfig
    params: Arrays
    tokenizer: Tokenizer | None = None
    preprocessor: Mapping[str, Any] | None = None
    state: TrainingState | None = None
    head: bool = True
    labels: Sequence[str] | None = None


def write_preset(
    directory: Path | str, contents: Contents, files: Callable[[], Mapping[str, NewFile]], *, in_kerashub: bool
) -> None:
    """Writes the files of a preset into a directory that then takes the place of `directory`.

    An interrupted save leaves what was there before, whole (see atomic.py). Other files of an existing preset, such as
    a model card, stay; tokenizer and preprocessor settings stay where none are given, and the format is the same.

    Args:
        directory: made, or replaced where it holds a preset.
        contents: what is written.
        files: gives the files by their paths in `directory`; called when `contents` has been checked.
        in_kerashub: whether they are in KerasHub's format.

    Raises:
        FileExistsError: where `directory` is a file, or holds other things than a preset.
        ValueError: where the parameters or the tokenizer aren't the config's.
        OSError: where there is no room, telling the bytes needed and free.
    """
    from pyroberta.presets.atomic import replace_directory

    table, wanted = contents.params.table, shapes(contents.config)
    if table != wanted:
        differing = [name for name, shape in wanted.items() if table.get(name) != shape]
        raise ValueError(f"the parameters aren't those of the config: {few(differing or table)} differ")
    if contents.tokenizer is not None:
        check_vocabulary(Path(directory), contents.tokenizer.vocabulary_size, contents.config)
    is_other = _is_of_other_format(Path(directory), in_kerashub)
    owned = [*MODEL_FILES]
    owned += TOKENIZER_FILES if is_other or contents.tokenizer is not None else ()
    owned += PREPROCESSOR_FILES if is_other or contents.preprocessor is not None else ()
    replace_directory(directory, files(), owned)


def _is_of_other_format(directory: Path, in_kerashub: bool) -> bool:
    try:
        return (directory / CONFIG).is_file() and is_kerashub(directory) is not in_kerashub
    except ValueError:  # broken: of none
        return True


def json_file(values: Mapping[str, Any]) -> NewFile:
    """The file of an object, for people to read.

    Raises:
        ValueError: for NaN and infinity, which JSON lacks.
    """
    return NewFile.of(json.dumps(values, indent=2, allow_nan=False) + "\n")
