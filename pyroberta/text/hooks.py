"""What the rooms above lend to this one, which knows nothing of them: `open_preset`.

`pyroberta/__init__.py` sets it, and runs before any module of the package. So `Tokenizer.from_preset` and the
preprocessors' `from_preset` are where users of KerasHub look for them, and nothing here imports `presets`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pyroberta.model.config import RobertaConfig
    from pyroberta.text.tokenizer import Tokenizer


class OpenedPreset(Protocol):
    """What `from_preset` asks of an opened preset."""

    @property
    def config(self) -> RobertaConfig:
        """The hyperparameters."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""

    @property
    def preprocessor_settings(self) -> Mapping[str, Any]:
        """How texts were truncated and masked, as far as the preset says."""


class OpenPreset(Protocol):
    """What `open_preset` is."""

    def __call__(self, preset: str | os.PathLike[str], weights: bool = True) -> OpenedPreset:
        """The preset of a name, a handle or a path; one that is open already is returned as it is."""


open_preset: OpenPreset
