"""A hook for `open_preset`, so that `Tokenizer.from_preset` works and nothing here imports `presets`.

`pyroberta/__init__.py` sets it, and runs before any module of the package.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pyroberta.model.config import RobertaConfig
    from pyroberta.text.tokenizer import Tokenizer


class OpenedPreset(Protocol):
    """The parts of an opened preset that `from_preset` reads."""

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


open_preset: OpenPreset
