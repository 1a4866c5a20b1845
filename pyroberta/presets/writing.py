"""Writing a preset in any format: checks first, then a new directory that takes the place of the old one."""

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
    """The writer of a format.

    Raises:
        ValueError: for an unknown name.

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
        config: of the model.
        params: its parameters, of `shapes(config)`.
        tokenizer: None for a model without one.
        preprocessor: the settings of the task's preprocessor, in JSON's types.
        state: the optimizer's state, if it is to be written.
        head: whether to write the head.
        labels: the names of a classifier's classes, or None.
        activation: the function between a classifier's logits and its outputs.
        learning_rates: that suit the parameters, by the names of heads.
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
    """Writes the files of a preset into a directory that then takes the place of `directory`.

    An interrupted save leaves the old directory whole (see atomic.py). Files of an existing preset stay if their names
    are never written here, such as a model card. The tokenizer and the preprocessor's settings stay if none are given
    and the format is the same.

    Args:
        directory: made, or replaced where it holds a preset.
        contents: the parts of the model.
        files: returns the files by their paths in `directory`; called after `contents` is checked.
        in_kerashub: whether they are in KerasHub's format.

    Raises:
        FileExistsError: where `directory` is a file, or holds other things than a preset, such as fairseq's.
        ValueError: where the parameters or the tokenizer aren't the config's.
        OSError: where there is no room, telling the bytes needed and free.

    Warns:
        UserWarning: where weights in other formats stay, which are the old model's.
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
            f"{place} still has weights that pyroberta didn't write, those of the model before: {few(old)}. Remove "
            "them where nothing needs them",
            stacklevel=callers_level(),
        )


def check_parts(place: Path | str, contents: Contents) -> None:
    """Checks that the parts are of one model; `place` is where it is to be saved, for messages.

    Raises:
        ValueError: where the parameters or the tokenizer aren't the config's.
    """
    layout, wanted = contents.params.layout, shapes(contents.config)
    if layout != wanted:
        differing = [name for name, shape in wanted.items() if layout.get(name) != shape]
        raise ValueError(f"the parameters aren't those of the config: {few(differing or layout)} differ")
    if contents.tokenizer is not None:
        check_vocabulary(Path(place), contents.tokenizer.vocabulary_size(), contents.config)


def check_saveable(path: Path) -> None:
    """Checks, before the work begins, that a preset can probably be saved to `path`.

    Raises:
        FileExistsError, NotADirectoryError, ValueError: as `replacing_directory`.
        OSError: where nothing can be made there, of the kind that the system gave.
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
    """The file of an object, for people to read.

    Raises:
        ValueError: for NaN and infinity, which JSON lacks.
    """
    return NewFile.of(json.dumps(values, indent=2, allow_nan=False) + "\n")
