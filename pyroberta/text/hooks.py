"""Hooks through which `Tokenizer.from_preset` and similar methods call `presets`, so that nothing in this package
imports it.

`pyroberta/__init__.py` sets the hooks. It runs before any other module of the package.
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
    """The parts of an opened preset that `from_preset` methods read."""

    @property
    def has_model(self) -> bool:
        """Whether the preset has a model, and not a tokenizer alone."""

    @property
    def config(self) -> RobertaConfig:
        """The model's config."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""

    @property
    def preprocessor_settings(self) -> Mapping[str, Any]:
        """Returns the preset's settings of truncation and masking."""


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
    """A class attribute: the presets that are known by name, as a dict of name -> description."""

    def __get__(self, instance: object, owner: type) -> Mapping[str, Any]:
        return presets


open_preset: OpenPreset
save_text: SaveText
presets: Mapping[str, Any] = {}
