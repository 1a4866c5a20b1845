"""Writing of a preset in any format. The parts are checked first. Then a new directory replaces the old one."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import DTypeLike

from pyroberta.formats.atomic import check_place, check_replaceable, replace_directory
from pyroberta.formats.directory import Directory
from pyroberta.formats.files import as_path, parse_json
from pyroberta.formats.new_files import NewFile, place_of
from pyroberta.formats.stored import few
from pyroberta.model.callers import callers_level
from pyroberta.model.config import RobertaConfig
from pyroberta.model.parameters import Arrays, shapes
from pyroberta.presets import learning_rates
from pyroberta.presets.checks import check_vocabulary
from pyroberta.presets.detect import CONFIG, PRESET, is_kerashub, refuse_fairseq

if TYPE_CHECKING:
    from pyroberta.presets.optimizer_state import OptimizerState
    from pyroberta.text.tokenizer import Tokenizer

# The names that are written, in either format, as regular expressions: of the model, the tokenizer, the preprocessor.
MODEL_FILES = (
    r"config\.json", r"model(-\d{5}-of-\d{5})?\.safetensors", r"model\.safetensors\.index\.json",
    r"pyroberta_optimizer\.safetensors", r"pyroberta_training\.json", r"metadata\.json", r"task\.json",
    r"task\.weights\.h5", r"model(_\d{5})?\.weights\.h5", r"model\.weights\.json",
)  # fmt: skip
TOKENIZER_FILES = (
    r"vocab\.json", r"merges\.txt", r"tokenizer\.json", r"tokenizer_config\.json", r"special_tokens_map\.json",
    r"assets/tokenizer/vocabulary\.json", r"assets/tokenizer/merges\.txt",
)  # fmt: skip
PREPROCESSOR_FILES = (r"pyroberta_preprocessor\.json", r"preprocessor\.json")
# Weights that others write, which stay: they are then those of the old model.
OTHERS_WEIGHTS = ("pytorch_model*", "tf_model*", "flax_model*", "rust_model*", "model.pt", "checkpoint_*.pt")


class Writer(Protocol):
    """A function that writes a format."""

    def __call__(
        self,
        directory: Path | str,
        contents: Contents,
        *,
        dtype: DTypeLike | str = "float32",
        max_shard_size: float | str | None = "5GB",
    ) -> None:
        """Writes a preset, atomically."""


def writer(format: str) -> Writer:
    """Returns the writer of a format.

    Raises:
        ValueError: if the name is unknown.

    >>> writer("onnx")
    Traceback (most recent call last):
    ValueError: format must be 'hf' or 'keras', got 'onnx'
    """
    if format == "hf":
        from pyroberta.presets import hf_writer

        return hf_writer.write
    if format == "keras":
        from pyroberta.presets import kerashub_writer

        return kerashub_writer.write
    raise ValueError(f"format must be 'hf' or 'keras', got {format!r}")


@dataclass(frozen=True)
class Contents:
    """The parts of a model that are written.

    Attributes:
        config: the config of the model.
        params: the parameters of the model, with the names and shapes of `shapes(config)`.
        tokenizer: the tokenizer, or None for a model without one.
        preprocessor: the settings of the task's preprocessor, in JSON's types.
        state: the optimizer's state, or None if it is not written.
        head: whether the head is written.
        labels: the names of a classifier's classes, or None.
        activation: the function between a classifier's logits and its outputs.
        learning_rates: the recommended learning rates, by the names of heads.
    """

    config: RobertaConfig
    params: Arrays
    tokenizer: Tokenizer | None = None
    preprocessor: Mapping[str, Any] | None = None
    state: OptimizerState | None = None
    head: bool = True
    labels: Sequence[str] | None = None
    activation: str = "linear"
    learning_rates: Mapping[str, float] = field(default_factory=dict)


def write_preset(
    directory: Path | str, contents: Contents, files: Callable[[], Mapping[str, NewFile]], *, in_kerashub: bool
) -> None:
    """Writes the files of a preset into a new directory, which then replaces `directory`.

    If the save is interrupted, the old directory does not change (see atomic.py). Files of an existing preset stay if
    no format writes files of their name, such as a model card. The tokenizer and the preprocessor's settings stay if
    none are given and the format is the same.

    Args:
        directory: the directory, which is created. An existing preset is replaced.
        contents: the parts of the model.
        files: a function that returns the files by their paths in `directory`. It is called after `contents` is
            checked.
        in_kerashub: whether the files have KerasHub's format.

    Raises:
        FileExistsError: if `directory` is a file, or holds other files than those of a preset, such as a checkpoint of
            fairseq.
        ValueError: if the parameters or the tokenizer do not fit the config.
        OSError: if the disk is full. The message has the bytes needed and the bytes free.

    Warns:
        UserWarning: if weights of the old model stay, since they have another format.
    """
    place = place_of(directory)
    check_parts(directory, contents)
    is_other = _is_of_other_format(place, in_kerashub)
    owned = [*MODEL_FILES]
    owned += TOKENIZER_FILES if is_other or contents.tokenizer is not None else ()
    owned += PREPROCESSOR_FILES if is_other or contents.preprocessor is not None else ()
    refuse_fairseq(place)
    made = dict(files())
    if contents.learning_rates:
        made[learning_rates.FILE] = json_file({learning_rates.KEY: dict(contents.learning_rates)})
    replace_directory(place, made, PRESET, owned)
    old = sorted(file.name for pattern in OTHERS_WEIGHTS for file in place.glob(pattern))
    if old:
        warnings.warn(
            f"{place} still has weights of the old model, which pyroberta did not write: {few(old)}. Remove them if "
            "nothing needs them",
            stacklevel=callers_level(),
        )


def check_parts(place: Path | str, contents: Contents) -> None:
    """Checks that the parts belong to one model. `place` is the place where it will be saved, for messages.

    Raises:
        ValueError: if the parameters or the tokenizer do not fit the config.
    """
    layout, wanted = contents.params.layout, shapes(contents.config)
    if layout != wanted:
        differing = [name for name, shape in wanted.items() if layout.get(name) != shape]
        raise ValueError(f"the parameters do not fit the config: {few(differing or layout)} differ")
    if contents.tokenizer is not None:
        check_vocabulary(contents.tokenizer.vocabulary_size(), contents.config, as_path(place))


def check_saveable(path: Path) -> None:
    """Checks, before the work begins, that a preset can probably be saved to `path`.

    Raises:
        FileExistsError, NotADirectoryError, ValueError: see `replacing_directory`.
        OSError: if nothing can be created there. The error has the class of the system's error.
    """
    refuse_fairseq(place_of(path))
    check_replaceable(path, PRESET)
    check_place(path)


def _is_of_other_format(directory: Path, in_kerashub: bool) -> bool:
    try:
        return (directory / CONFIG).is_file() and is_kerashub(Directory(directory)) is not in_kerashub
    except ValueError:  # broken: of none
        return True


def json_file(values: Mapping[str, Any]) -> NewFile:
    """Returns the JSON file of an object, indented for people to read.

    Raises:
        ValueError: if the object has NaN or infinity, which JSON lacks, or if `parse_json` could not read it again.
    """
    text = json.dumps(values, indent=2, allow_nan=False) + "\n"
    parse_json(text.encode(), "what is to be saved")
    return NewFile.of(text)
