"""What a preset's name means: a directory, a preset that ships with the package, or something that can't be had yet.

`from_preset(name)` asks here. To add a name, add a row to `PRESETS`; to add a format, a file beside hf.py and a row to
`FORMATS`; to add a place to download from, a row to `SCHEMES`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from pyroberta.model.config import RobertaConfig
from pyroberta.model.params import Arrays
from pyroberta.presets import fairseq, hf, kerashub
from pyroberta.presets.fairseq_vocabulary import roberta_tokenizer
from pyroberta.presets.json_io import read_json

if TYPE_CHECKING:
    from pyroberta.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Preset:
    """A name that the package knows.

    Attributes:
        description: one sentence.
        parameters: the number of the backbone's.
        source: "embedded", or the handle where it would be downloaded from.
        elsewhere: a directory of the same model on the Hugging Face hub.
        config: of a model that would be downloaded; its tokenizer is `roberta_tokenizer()`. None where both lie in the
            embedded directory.
    """

    description: str
    parameters: int
    source: str
    elsewhere: str = ""
    config: RobertaConfig | None = None


PRESETS = {
    "roberta_tiny_en": Preset(
        "A small RoBERTa for English with a vocabulary of its own, pretrained by this project. Ships with the package.",
        1_833_728,
        "embedded",
    ),
    "roberta_base_en": Preset(
        "12 layers, hidden 768. Trained on English Wikipedia, BooksCorpus, CommonCrawl and OpenWebText.",
        124_052_736,
        "kaggle://keras/roberta/keras/roberta_base_en/3",
        "FacebookAI/roberta-base",
        RobertaConfig(vocabulary_size=50265, num_layers=12, num_heads=12, hidden_dim=768, intermediate_dim=3072),
    ),
    "roberta_large_en": Preset(
        "24 layers, hidden 1024. Trained on English Wikipedia, BooksCorpus, CommonCrawl and OpenWebText.",
        354_307_072,
        "kaggle://keras/roberta/keras/roberta_large_en/3",
        "FacebookAI/roberta-large",
        RobertaConfig(vocabulary_size=50265, num_layers=24, num_heads=16, hidden_dim=1024, intermediate_dim=4096),
    ),
}

SCHEMES = {
    "hf://": "a download from the Hugging Face hub",
    "kaggle://": "a download from Kaggle",
    "modelscope://": "a download from ModelScope",
}


class Reader(Protocol):
    """What a module that reads a format has."""

    def read_config(self, directory: Path) -> RobertaConfig:
        """The hyperparameters."""

    def read_params(self, directory: Path, config: RobertaConfig, dtype: DTypeLike) -> Arrays:
        """The parameters, in `dtype`."""

    def read_tokenizer(self, directory: Path, config: RobertaConfig) -> Tokenizer:
        """The tokenizer."""

    def read_preprocessor(self, directory: Path) -> dict[str, Any]:
        """The preprocessor's settings, as far as the format has them."""


@dataclass(frozen=True)
class Format:
    """A kind of directory: how to tell it, and the module that reads it."""

    name: str
    marks: Callable[[Path], bool]
    reader: Reader


def _is_kerashub(directory: Path) -> bool:
    file = directory / "config.json"
    return file.is_file() and "registered_name" in read_json(file)


def _is_fairseq(directory: Path) -> bool:
    is_there = {name: (directory / name).is_file() for name in (fairseq.CHECKPOINT, fairseq.DICTIONARY, "config.json")}
    return is_there[fairseq.CHECKPOINT] and (is_there[fairseq.DICTIONARY] or not is_there["config.json"])


# The first whose marks fit is taken.
FORMATS = (
    Format("KerasHub preset", _is_kerashub, kerashub),
    Format("fairseq checkpoint", _is_fairseq, fairseq),
    Format("Hugging Face directory", lambda d: (d / "config.json").is_file(), hf),
)


def load(
    preset: str | os.PathLike[str],
    dtype: DTypeLike = np.float32,
    load_weights: bool = True,
    load_tokenizer: bool = True,
) -> tuple[RobertaConfig, Arrays | None, Tokenizer | None]:
    """Everything that makes a model, from a name or a directory.

    Without weights, the shape and the tokenizer of every name of `PRESETS` are in the package.

    Args:
        preset: as `resolve` takes it.
        dtype: of the parameters.
        load_weights: False for the config and tokenizer alone; the parameters are then None.
        load_tokenizer: False for a directory without one; the tokenizer is then None.

    Raises:
        ValueError, FileNotFoundError: as `resolve`, `detect` and the format's reader say.
    """
    known = None if load_weights else _shape(preset)
    if known is not None:
        return known, None, roberta_tokenizer() if load_tokenizer else None
    directory = resolve(preset)
    reader = detect(directory)
    config = reader.read_config(directory)
    tokenizer = reader.read_tokenizer(directory, config) if load_tokenizer else None
    params = reader.read_params(directory, config, dtype) if load_weights else None
    return config, params, tokenizer


def preprocessor_settings(preset: str | os.PathLike[str]) -> dict[str, Any]:
    """How the preset's texts were truncated and masked, as far as it says so."""
    if _shape(preset) is not None:
        return {}
    directory = resolve(preset)
    return detect(directory).read_preprocessor(directory)


def _shape(preset: str | os.PathLike[str]) -> RobertaConfig | None:
    """The config of a name that the package has without its weights."""
    return PRESETS[preset].config if isinstance(preset, str) and preset in PRESETS else None


def detect(directory: Path) -> Reader:
    """The reader of the format that `directory` is in.

    Raises:
        ValueError: where it is in none that can be read.
    """
    for candidate in FORMATS:
        if candidate.marks(directory):
            return candidate.reader
    there = ", ".join(sorted(entry.name for entry in directory.iterdir())[:8])
    raise ValueError(
        f"{directory} is no preset: it has neither config.json nor {fairseq.CHECKPOINT}; it has {there or 'nothing'}"
    )


def resolve(preset: str | os.PathLike[str]) -> Path:
    """The directory that a preset's name stands for.

    A name of the table `PRESETS` comes first, as in KerasHub; then a directory. `./name` is a directory always.

    Raises:
        FileNotFoundError: where a path isn't there.
        ValueError: for a name that isn't known or can't be had, telling what can.

    >>> resolve("roberta_tiny")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: unknown preset 'roberta_tiny'; did you mean 'roberta_tiny_en' ...
    """
    name = os.fspath(preset)
    scheme = next((scheme for scheme in SCHEMES if name.startswith(scheme)), None)
    if scheme:
        raise ValueError(f"preset {name!r} needs {SCHEMES[scheme]}, which this version can't do. {_what_can_be_had()}")
    if isinstance(preset, str) and preset in PRESETS:
        if Path(preset).is_dir():
            warnings.warn(
                f"{preset!r} is a preset's name and a directory here; the preset is taken. "
                f"For the directory write './{preset}'",
                stacklevel=2,
            )
        return _known(preset)
    directory = Path(name).expanduser()
    if name:
        from pyroberta.presets.atomic import readable

        directory = readable(directory)
        if directory.is_dir():
            return directory
        if directory.exists():
            raise ValueError(f"preset {name!r} is a file; give the directory that holds it")
    is_path = not isinstance(preset, str) or name.startswith((".", "~")) or os.path.isabs(name) or os.sep in name
    if is_path:
        raise FileNotFoundError(f"preset {name!r}: there is no such directory. {_what_can_be_had()}")
    import difflib

    close = difflib.get_close_matches(name, PRESETS, n=2)
    guess = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
    raise ValueError(f"unknown preset {name!r}{guess} {_what_can_be_had()}")


def _known(name: str) -> Path:
    preset = PRESETS[name]
    if preset.source == "embedded":
        from importlib import resources

        directory = Path(str(resources.files("pyroberta.presets"))) / "embedded" / name
        if not directory.is_dir():
            raise ValueError(f"preset {name!r} should be at {directory}, and isn't. Is the installation whole?")
        return directory
    raise ValueError(
        f"preset {name!r} would be downloaded from {preset.source}, which this version can't do. The same model is "
        f"{preset.elsewhere} on the Hugging Face hub: download that directory and give its path. {_what_can_be_had()}"
    )


def _what_can_be_had() -> str:
    embedded = ", ".join(repr(name) for name, preset in PRESETS.items() if preset.source == "embedded")
    formats = "Hugging Face, KerasHub or fairseq"
    return f"What can be had: {embedded}, or the path of a {formats} directory, such as './my_preset'."
