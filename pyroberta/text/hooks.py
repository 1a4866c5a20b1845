"""Hooks for what `presets` does, so that `Tokenizer.from_preset` and its like work and nothing here imports `presets`.

`pyroberta/__init__.py` sets them, and runs before any module of the package.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pyroberta.model.config import RobertaConfig
    from pyroberta.text.preprocessor import Preprocessor
    from pyroberta.text.tokenizer import Tokenizer


class OpenedPreset(Protocol):
    """The parts of an opened preset that `from_preset` reads."""

    @property
    def has_model(self) -> bool:
        """Whether there is a model, and not the tokenizer alone."""

    @property
    def config(self) -> RobertaConfig:
        """The hyperparameters."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""

    @property
    def preprocessor_settings(self) -> Mapping[str, Any]:
        """The settings of truncation and masking that the preset has."""


class OpenPreset(Protocol):
    """The type of `open_preset`."""

    def __call__(self, preset: str | os.PathLike[str], weights: bool = True) -> OpenedPreset:
        """Opens the preset of a name, a handle or a path. An open preset is returned as it is."""


class SaveText(Protocol):
    """The type of `save_text`."""

    def __call__(
        self,
        directory: str | os.PathLike[str],
        tokenizer: Tokenizer,
        preprocessor: Preprocessor | None,
        format: str | None,
    ) -> None:
        """Writes a tokenizer, and a preprocessor's settings if there is one, into a preset."""


class Presets:
    """A class attribute that gives the presets known by name: a name -> its description."""

    def __get__(self, instance: object, owner: type) -> Mapping[str, Any]:
        return presets


open_preset: OpenPreset
save_text: SaveText
presets: Mapping[str, Any] = {}
