"""What a preset's name means: a preset that ships with the package, one that is downloaded, or a directory.

`from_preset(name)` asks here. To add a name, add a row to `PRESETS`; to add a format, a file beside hf.py, its marks to
marks.py and a row to `FORMATS`; to add a place to download from, a class beside those in hub.py.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from pyroberta.formats.files import as_path, contents, is_there
from pyroberta.model.callers import callers_level
from pyroberta.model.config import RobertaConfig
from pyroberta.model.hints import did_you_mean
from pyroberta.model.parameters import Arrays
from pyroberta.presets import marks

if TYPE_CHECKING:
    from pyroberta.presets.training_state import TrainingState
    from pyroberta.presets.writing import Contents
    from pyroberta.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Preset:
    """A name that the package knows.

    Attributes:
        description: one sentence.
        parameters: the number of the backbone's.
        handles: where it is downloaded from, the first that can be had; none for one that ships with the package. The
            first has the masked-LM head, the others need not.
        config: of a model that is downloaded; its tokenizer is `roberta_tokenizer()`. None where both lie in the
            embedded directory.
    """

    description: str
    parameters: int
    handles: tuple[str, ...] = ()
    config: RobertaConfig | None = None


PRESETS = {
    "roberta_tiny_en": Preset(
        "A small RoBERTa for English with a vocabulary of its own, pretrained by this project. Ships with the package.",
        1_833_728,
    ),
    "roberta_base_en": Preset(
        "12 layers, hidden 768. Trained on English Wikipedia, BooksCorpus, CommonCrawl and OpenWebText.",
        124_052_736,
        ("hf://FacebookAI/roberta-base", "kaggle://keras/roberta/keras/roberta_base_en/3"),
        RobertaConfig(vocabulary_size=50265, num_layers=12, num_heads=12, hidden_dim=768, intermediate_dim=3072),
    ),
    "roberta_large_en": Preset(
        "24 layers, hidden 1024. Trained on English Wikipedia, BooksCorpus, CommonCrawl and OpenWebText.",
        354_307_072,
        ("hf://FacebookAI/roberta-large", "kaggle://keras/roberta/keras/roberta_large_en/3"),
        RobertaConfig(vocabulary_size=50265, num_layers=24, num_heads=16, hidden_dim=1024, intermediate_dim=4096),
    ),
}

# What KerasHub downloads from, and this package does not.
REFUSED = {"modelscope": "ModelScope", "gs": "Google Cloud Storage", "http": "a web server", "https": "a web server"}


class Reader(Protocol):
    """What a module that reads a format has."""

    def read_config(self, directory: Path) -> RobertaConfig:
        """The hyperparameters."""

    def read_params(self, directory: Path, config: RobertaConfig, dtype: DTypeLike, seed: int = 0) -> Arrays:
        """The parameters, in `dtype`; a head that is missing is drawn from `seed`."""

    def read_tokenizer(self, directory: Path, config: RobertaConfig) -> Tokenizer:
        """The tokenizer."""

    def read_preprocessor(self, directory: Path) -> dict[str, Any]:
        """The preprocessor's settings, as far as the format has them."""

    def read_labels(self, directory: Path) -> list[str] | None:
        """The names of a classifier's classes, where it has some."""

    def read_state(self, directory: Path, config: RobertaConfig) -> TrainingState:
        """The state of training, where the format can hold one."""


class Writer(Protocol):
    """What a function that writes a format is."""

    def __call__(
        self,
        directory: Path | str,
        contents: Contents,
        *,
        dtype: DTypeLike | str = "float32",
        max_shard_size: float | str | None = "5GB",
    ) -> None:
        """Writes a preset, atomically."""


@dataclass(frozen=True)
class Format:
    """A kind of directory: how to tell it, and what gives the modules that read and write it.

    They are imported when they are needed, since a program mostly needs one or none.
    """

    marks: Callable[[Path], bool]
    reader: Callable[[], Reader]
    writer: Callable[[], Writer] | None = None


def _hf() -> Reader:
    from pyroberta.presets import hf

    return hf


def _hf_writer() -> Writer:
    from pyroberta.presets import hf

    return hf.write


def _kerashub() -> Reader:
    from pyroberta.presets import kerashub

    return kerashub


def _kerashub_writer() -> Writer:
    from pyroberta.presets import kerashub_writer

    return kerashub_writer.write


def _fairseq() -> Reader:
    from pyroberta.presets import fairseq

    return fairseq


# The first whose marks fit is taken.
FORMATS = {
    "keras": Format(marks.is_kerashub, _kerashub, _kerashub_writer),
    "fairseq": Format(marks.is_fairseq, _fairseq),
    "hf": Format(marks.is_hugging_face, _hf, _hf_writer),
}


def load(
    preset: str | os.PathLike[str],
    dtype: DTypeLike = np.float32,
    load_weights: bool = True,
    load_tokenizer: bool = True,
    changes: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> tuple[RobertaConfig, Arrays | None, Tokenizer | None]:
    """Everything that makes a model, from a name or a directory.

    Without weights, the shape and the tokenizer of every name of `PRESETS` are in the package.

    Args:
        preset: as `resolve` takes it.
        dtype: of the parameters.
        load_weights: False for the config and tokenizer alone; the parameters are then None.
        load_tokenizer: False for a directory without one; the tokenizer is then None.
        changes: fields of the config instead of the preset's own: rates, or `head_name` and `num_classes` of another
            head.
        seed: of a head that the preset hasn't got.

    Raises:
        ValueError, FileNotFoundError: as `resolve`, `detect` and the format's reader say.
    """
    known = None if load_weights else _shape(preset)
    if known is not None:
        return replace(known, **(changes or {})), None, _roberta_tokenizer() if load_tokenizer else None
    directory = resolve(preset, load_weights)
    reader = detect(directory)
    config = replace(reader.read_config(directory), **(changes or {}))
    tokenizer = reader.read_tokenizer(directory, config) if load_tokenizer else None
    params = reader.read_params(directory, config, dtype, seed) if load_weights else None
    return config, params, tokenizer


def _roberta_tokenizer() -> Tokenizer:
    from pyroberta.presets.fairseq_vocabulary import roberta_tokenizer

    return roberta_tokenizer()


def preprocessor_settings(preset: str | os.PathLike[str]) -> dict[str, Any]:
    """How the preset's texts were truncated and masked, as far as it says so."""
    if _shape(preset) is not None:
        return {}
    directory = resolve(preset, weights=False)
    return detect(directory).read_preprocessor(directory)


def stored_config(preset: str | os.PathLike[str]) -> RobertaConfig:
    """The preset's own config, with the head that it has."""
    known = _shape(preset)
    if known is not None:
        return known
    directory = resolve(preset, weights=False)
    return detect(directory).read_config(directory)


def labels(preset: str | os.PathLike[str]) -> list[str] | None:
    """The names of the preset's classes; None where it has none."""
    if _shape(preset) is not None:
        return None
    directory = resolve(preset, weights=False)
    return detect(directory).read_labels(directory)


def _shape(preset: str | os.PathLike[str]) -> RobertaConfig | None:
    """The config of a name that the package has without its weights."""
    return PRESETS[preset].config if isinstance(preset, str) and preset in PRESETS else None


def training_state(preset: str | os.PathLike[str], config: RobertaConfig) -> TrainingState:
    """The state of training that was saved with the preset.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: where it is damaged or another model's, or the format can't hold one.
    """
    directory = resolve(preset, state=True)
    return detect(directory).read_state(directory, config)


def writer(format: str) -> Writer:
    """What writes that format.

    Raises:
        ValueError: for a name that is none.

    >>> writer("onnx")
    Traceback (most recent call last):
    ValueError: format must be 'hf' or 'keras', got 'onnx'
    """
    writers = {name: found.writer for name, found in sorted(FORMATS.items()) if found.writer is not None}
    if format not in writers:
        raise ValueError(f"format must be {' or '.join(map(repr, writers))}, got {format!r}")
    return writers[format]()


def detect(directory: Path) -> Reader:
    """The reader of the format that `directory` is in.

    Raises:
        ValueError: where it is in none that can be read.
    """
    for candidate in FORMATS.values():
        if candidate.marks(directory):
            return candidate.reader()
    raise ValueError(
        f"{directory} is no preset: it has neither {marks.CONFIG} nor {' nor '.join(marks.FAIRSEQ_CHECKPOINTS)}; "
        f"it has {contents(directory)}.{marks.hint_of_inside(directory)}"
    )


def is_handle(preset: str | os.PathLike[str]) -> bool:
    """Whether it begins with a scheme, as `hf://` is one.

    >>> is_handle("hf://FacebookAI/roberta-base"), is_handle("./roberta-base")
    (True, False)
    """
    return isinstance(preset, str) and re.match(r"[a-z]+://", preset) is not None


def resolve(preset: str | os.PathLike[str], weights: bool = True, state: bool = False) -> Path:
    """The directory that a preset's name stands for; it is downloaded where need be.

    A handle begins with `hf://` or `kaggle://`, see hub.py. A name of the table `PRESETS` comes next, as in KerasHub;
    then a directory. `./name` is a directory always.

    Args:
        preset: as above.
        weights: False where the weights need not be downloaded.
        state: True where the state of training is wanted too.

    Raises:
        FileNotFoundError: where a path isn't there.
        ValueError: for a name that isn't known, telling what can be had.
        ImportError, ConnectionError, PermissionError, OSError: as `hub.download`.

    >>> resolve("roberta_tiny")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: unknown preset 'roberta_tiny'; did you mean 'roberta_tiny_en' ...
    """
    name = os.fspath(preset)
    if is_handle(preset):
        return _downloaded(name, weights, state)
    if isinstance(preset, str) and preset in PRESETS:
        if Path(preset).is_dir():
            warnings.warn(
                f"{preset!r} is a preset's name and a directory here; the preset is taken. "
                f"For the directory write './{preset}'",
                stacklevel=callers_level(),
            )
        return _known(preset, weights, state)
    directory = as_path(name) if name else Path()
    if name:
        from pyroberta.presets.atomic import readable

        directory = readable(directory)
        if directory.is_dir():
            return directory
        if is_there(directory):
            raise ValueError(f"preset {name!r} is a file; give the directory that holds it")
    is_path = not isinstance(preset, str) or name.startswith((".", "~")) or os.path.isabs(name) or os.sep in name
    if is_path:
        on_hub = f" On the Hugging Face hub it would be 'hf://{name}'." if re.fullmatch(r"[\w-]+/[\w.-]+", name) else ""
        raise FileNotFoundError(f"preset {name!r}: there is no such directory.{on_hub} {_what_can_be_had()}")
    raise ValueError(f"unknown preset {name!r}{did_you_mean(name, PRESETS) or '.'} {_what_can_be_had()}")


def _downloaded(handle: str, weights: bool, state: bool) -> Path:
    from pyroberta.presets import hub

    scheme = handle.partition("://")[0]
    if scheme not in hub.SOURCES:
        where = REFUSED.get(scheme, "there")
        raise ValueError(f"preset {handle!r}: nothing is downloaded from {where}. {_what_can_be_had()}")
    # Another architecture is refused before its weights are downloaded.
    return hub.download(handle, weights, state, check=lambda directory: detect(directory).read_config(directory))


def _known(name: str, weights: bool, state: bool) -> Path:
    preset = PRESETS[name]
    if not preset.handles:
        from importlib import resources

        directory = Path(str(resources.files("pyroberta.presets"))) / "embedded" / name
        if not directory.is_dir():
            raise ValueError(f"preset {name!r} should be at {directory}, and isn't. Is the installation whole?")
        return directory
    failures: list[Exception] = []
    for handle in preset.handles:
        try:
            directory = _downloaded(handle, weights, state)
        except (ImportError, ConnectionError, FileNotFoundError, PermissionError) as failure:
            failures.append(failure)
            continue
        if failures:
            warnings.warn(
                f"preset {name!r} comes from {handle}, which has no trained masked-LM head, as "
                f"{preset.handles[0]} can't be had: {failures[0]}",
                stacklevel=callers_level(),
            )
        return directory
    kind = ImportError if all(isinstance(failure, ImportError) for failure in failures) else ConnectionError
    reasons = "".join(f"\n  {failure}" for failure in failures)
    raise kind(
        f"preset {name!r} can't be downloaded:{reasons}\nWithout a download, load_weights=False gives its shape with "
        f"fresh weights. {_what_can_be_had()}"
    )


def _what_can_be_had() -> str:
    embedded = ", ".join(repr(name) for name, preset in PRESETS.items() if not preset.handles)
    downloaded = ", ".join(repr(name) for name, preset in PRESETS.items() if preset.handles)
    return (
        f"What can be had: {embedded}, which comes with the package; {downloaded}, 'hf://ORGANISATION/NAME' and "
        "'kaggle://OWNER/MODEL/FRAMEWORK/VARIATION', which are downloaded; or the path of a Hugging Face, KerasHub or "
        "fairseq directory, such as './my_preset'."
    )
