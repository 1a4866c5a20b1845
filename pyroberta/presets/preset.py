"""`open_preset` opens a preset once: it finds the files and the format. A `Preset` then reads each part when it is
needed.

To add a name, add a row to `built_in.PRESETS`. To add a format, add a module beside hf.py, and its detection to
detect.py. To add a hub, add a class to hub.py.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from pyroberta.formats.directory import Directory
from pyroberta.formats.files import as_path, exists, read_bytes, shown
from pyroberta.model.callers import callers_level
from pyroberta.model.config import RobertaConfig
from pyroberta.model.hints import did_you_mean
from pyroberta.model.parameters import Arrays
from pyroberta.presets.built_in import PRESETS, Packaged
from pyroberta.presets.checks import OnFreshHead, warn_of_fresh_head
from pyroberta.presets.detect import Format, detect, has_model

if TYPE_CHECKING:
    from pyroberta.formats.stored import Stored
    from pyroberta.presets.optimizer_state import OptimizerState
    from pyroberta.text.preprocessor import Preprocessor
    from pyroberta.text.tokenizer import Tokenizer

# Places from which KerasHub downloads, and this package does not.
FILES = {  # how the name of a file ends, which is no preset -> what to do with it
    ".keras": "pyroberta.models.load_model(filepath) reads a whole model of Keras's format, and "
    "load_model(filepath).save_to_preset(directory) makes a preset of it",
    ".weights.h5": "give the directory that holds it, or call load_weights(filepath) on a model of its shape",
    "": "give the directory that holds it. (To load a file that training.checkpoint.save wrote, use "
    "training.checkpoint.load and load_train_state.)",
}
REFUSED = {"modelscope": "ModelScope", "gs": "Google Cloud Storage", "http": "a web server", "https": "a web server"}

Download = Callable[[bool, bool], None]


def _no_download(weights: bool, state: bool) -> None:
    """Downloads nothing: all files are there."""


class Preset(os.PathLike[str]):
    """An opened preset. Each part is read when it is first needed, and no file is read twice.

    A preset can be used as a path, that of its directory. Every `from_preset` takes it instead of a name.

    Args:
        directory: the directory of its files.
        format: the format, which reads the files.
        name: the name that was given.
        is_published: whether the name is a built-in name or a handle, so that others can use it too.
        has_model: whether it has a model, and not a tokenizer alone.
        download: a function that fetches missing files: always the small ones, the weights if its first argument is
            True, and the optimizer's state if its second argument is True.

    >>> preset = open_preset("roberta_tiny_en")
    >>> preset.config.vocabulary_size, preset.tokenizer.vocabulary_size()
    (8000, 8000)
    """

    def __init__(
        self,
        directory: Directory,
        format: Format,
        name: str,
        *,
        is_published: bool = False,
        has_model: bool = True,
        download: Download = _no_download,
    ) -> None:
        self.directory, self.format, self.name, self.is_published = directory, format, name, is_published
        self.has_model = has_model
        self._download = download

    def __fspath__(self) -> str:
        return os.fspath(self.directory)

    def __str__(self) -> str:
        return str(self.directory)

    def __format__(self, form: str) -> str:
        return format(self.directory, form)

    def download(self, *, weights: bool = True, optimizer_state: bool = False) -> Path:
        """Fetches missing files, and returns the directory. The files of a part are fetched before it is read.

        Args:
            weights: whether to fetch the weights.
            optimizer_state: whether to fetch the optimizer's state, if there is one.

        Raises:
            ImportError, FileNotFoundError, PermissionError, ConnectionError, OSError: see `hub.open_handle`.
        """
        self._download(weights, optimizer_state)
        return self.directory.path

    @cached_property
    def config(self) -> RobertaConfig:
        """The config of the model, with the number of classes.

        Raises:
            FileNotFoundError, ValueError: see the format's `read_config`.
        """
        return self.format.read_config(self.directory)

    def weights(
        self,
        dtype: DTypeLike = np.float32,
        *,
        config: RobertaConfig | None = None,
        seed: int = 0,
        on_fresh_head: OnFreshHead = warn_of_fresh_head,
    ) -> Arrays:
        """Returns the parameters, head included.

        Args:
            dtype: the dtype of the parameters.
            config: the preset's config, which may have other rates or another head. The default is the preset's config.
            seed: the seed of a head that the preset does not have.
            on_fresh_head: a function that is called with a message before the first number is read, if the head is
                untrained and `config` did not ask for another one. By default it warns.

        Raises:
            FileNotFoundError, ValueError: see the format's `read_params`.

        Warns:
            FreshHeadWarning: see `on_fresh_head`.
        """
        self.download()
        config = self.config if config is None else config
        return self.format.read_params(self.directory, config, dtype, seed, on_fresh_head)

    def stored(self) -> Mapping[str, Stored]:
        """Returns the tensors of the weights by their names in the files, with their shapes and dtypes there. The
        numbers are not read yet.

        Raises:
            FileNotFoundError, ValueError: see the format's `read_stored`.
        """
        self.download()
        return self.format.read_stored(self.directory, self.config)

    @property
    def licence(self) -> str | None:
        """The licence that the card of the model states, or None."""
        from pyroberta.presets.model_card import CARD, licence_in

        self.download(weights=False)
        card = self.directory / CARD
        return licence_in(read_bytes(card).decode("utf-8", "replace")) if exists(card) else None

    @property
    def tokenizer(self) -> Tokenizer:
        """Returns a new tokenizer at each call, since tokens may be added to it.

        Raises:
            FileNotFoundError, ValueError: see the format's `read_tokenizer`.
        """
        self.download(weights=False)
        return self.format.read_tokenizer(self.directory, self.config if self.has_model else None)

    @cached_property
    def preprocessor_settings(self) -> Mapping[str, Any]:
        """Returns the settings of truncation and masking that the preset has.

        Raises:
            ValueError: see the format's `read_preprocessor`, and `check_lengths`.
        """
        from pyroberta.presets.checks import check_lengths

        self.download(weights=False)
        found = self.format.read_preprocessor(self.directory)
        check_lengths(self.directory, {name: found.get(name) for name in ("sequence_length", "mask_selection_length")})
        return found

    @cached_property
    def labels(self) -> list[str] | None:
        """The names of a classifier's classes, or None if it has none.

        Raises:
            ValueError: see the format's `read_labels`.
        """
        return self.format.read_labels(self.directory)

    @cached_property
    def activation(self) -> str:
        """The function between a classifier's logits and its outputs, one of `checks.ACTIVATIONS`.

        Raises:
            ValueError: see the format's `read_activation`.
        """
        return self.format.read_activation(self.directory)

    @cached_property
    def learning_rates(self) -> Mapping[str, float]:
        """The recommended learning rates for the weights, by the names of heads. Empty if the preset recommends none.

        Raises:
            ValueError: if their file is damaged.

        >>> sorted(open_preset("roberta_base_en", weights=False).learning_rates)
        []
        """
        from pyroberta.presets import learning_rates

        if learning_rates.FILE not in self.format.FILES.others:
            return {}
        self.download(weights=False)
        return learning_rates.read(self.directory)

    @cached_property
    def optimizer_state(self) -> OptimizerState:
        """Returns the optimizer's state that was saved with the weights.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is damaged or belongs to another model, or the format can't hold one.
        """
        self.download(optimizer_state=True)
        return self.format.read_state(self.directory, self.config)


def open_preset(preset: str | os.PathLike[str], weights: bool = True) -> Preset:
    """Opens the preset of a name, a handle or a path. An open preset is returned as it is.

    A text that begins with `hf://` or `kaggle://` is a handle; see hub.py. Otherwise it is a name of the table
    `PRESETS`, as in KerasHub, or else a directory. `./name` is always a directory. For a handle, only the config is
    downloaded here. All other files are of the same revision.

    Args:
        preset: the name, handle or path.
        weights: whether weights are needed. Without them nothing is downloaded for a name of `PRESETS`, since the
            package has the config and the tokenizer.

    Raises:
        TypeError: if preset is not a text or a path.
        FileNotFoundError: if the path does not exist.
        ValueError: if the name is unknown (the message has the known ones), the directory has no known format, or the
            handle is that of another architecture.
        ImportError, ConnectionError, PermissionError, OSError: see `hub.open_handle`.

    >>> open_preset("roberta_tiny")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: unknown preset 'roberta_tiny'; did you mean 'roberta_tiny_en' ...
    """
    if isinstance(preset, Preset):
        return preset
    if not isinstance(preset, str | os.PathLike):
        raise TypeError(f"preset should be a name, a handle or the path of a directory, got {shown(preset)}")
    name = os.fspath(preset)
    if is_handle(preset):
        return _of_handle(name, name)
    if isinstance(preset, str) and preset in PRESETS:
        shape = PRESETS[preset].config
        if shape is not None and not weights:
            return Preset(Directory(Path(preset)), Packaged(shape), preset)
        if Path(preset).is_dir():
            warnings.warn(
                f"{preset!r} is both the name of a preset and a directory; the preset is used. For the directory, "
                f"write './{preset}'",
                stacklevel=callers_level(),
            )
        return _built_in(preset)
    directory = Directory(_directory(preset))
    return Preset(directory, detect(directory), name, has_model=has_model(directory))


def save_text(
    directory: str | os.PathLike[str],
    tokenizer: Tokenizer,
    preprocessor: Preprocessor | None = None,
    format: str | None = None,
) -> None:
    """Writes a tokenizer and a preprocessor's settings into a preset; see `text_writer.write`."""
    from pyroberta.presets import text_writer

    text_writer.write(directory, tokenizer, preprocessor, format)


def is_handle(preset: str | os.PathLike[str]) -> bool:
    """Returns whether a name begins with a scheme, such as `hf://`.

    >>> is_handle("hf://FacebookAI/roberta-base"), is_handle("./roberta-base")
    (True, False)
    """
    return isinstance(preset, str) and re.match(r"[a-z]+://", preset) is not None


def _of_handle(handle: str, name: str) -> Preset:
    from pyroberta.presets import hub

    scheme = handle.partition("://")[0]
    if scheme not in hub.SOURCES:
        where = REFUSED.get(scheme, "there")
        raise ValueError(f"preset {handle!r}: nothing is downloaded from {where}. {_available_presets()}")
    directory, format, download = hub.open_handle(handle)
    preset = Preset(directory, format, name, is_published=True, download=download)
    _ = preset.config  # another architecture is refused before its weights are downloaded
    return preset


def _built_in(name: str) -> Preset:
    handles = PRESETS[name].handles
    if not handles:
        from importlib import resources

        path = Path(str(resources.files("pyroberta.presets"))) / "embedded" / name
        if not path.is_dir():
            raise ValueError(f"preset {name!r} should be at {path}, but it is missing. Install the package again")
        directory = Directory(path)
        return Preset(directory, detect(directory), name, is_published=True)
    failures: list[Exception] = []
    for handle in handles:
        try:
            preset = _of_handle(handle, name)
            preset.download()  # here, since another hub may have the preset
        except (ImportError, ConnectionError, FileNotFoundError, PermissionError) as failure:
            failures.append(failure)
            continue
        if failures:
            warnings.warn(
                f"preset {name!r} comes from {handle}, which has no trained masked-LM head, as "
                f"{handles[0]} can't be had: {failures[0]}",
                stacklevel=callers_level(),
            )
        return preset
    kind = ImportError if all(isinstance(failure, ImportError) for failure in failures) else ConnectionError
    reasons = "".join(f"\n  {failure}" for failure in failures)
    raise kind(
        f"preset {name!r} can't be downloaded:{reasons}\nWithout a download, load_weights=False gives its shape with "
        f"fresh weights. {_available_presets()}"
    )


def _directory(preset: str | os.PathLike[str]) -> Path:
    """The directory of a path."""
    name = os.fspath(preset)
    directory = as_path(name) if name else Path()
    if name:
        from pyroberta.formats.atomic import readable

        directory = readable(directory)
        if directory.is_dir():
            return directory
        if exists(directory):
            advice = next((advice for ending, advice in FILES.items() if name.endswith(ending)), FILES[""])
            raise ValueError(f"preset {name!r} is a file; {advice}")
    is_path = not isinstance(preset, str) or name.startswith((".", "~")) or os.path.isabs(name) or os.sep in name
    if is_path:
        on_hub = f" On the Hugging Face hub it would be 'hf://{name}'." if re.fullmatch(r"[\w-]+/[\w.-]+", name) else ""
        raise FileNotFoundError(f"preset {name!r}: there is no such directory.{on_hub} {_available_presets()}")
    raise ValueError(f"unknown preset {name!r}{did_you_mean(name, PRESETS) or '.'} {_available_presets()}")


def _available_presets() -> str:
    embedded = ", ".join(repr(name) for name, preset in PRESETS.items() if not preset.handles)
    downloaded = ", ".join(repr(name) for name, preset in PRESETS.items() if preset.handles)
    return (
        f"Possible values: {embedded}, which is part of the package; {downloaded}, 'hf://ORGANISATION/NAME' and "
        "'kaggle://OWNER/MODEL/FRAMEWORK/VARIATION', which are downloaded; or the path of a Hugging Face, KerasHub or "
        "fairseq directory, such as './my_preset'."
    )
