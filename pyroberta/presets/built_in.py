"""The presets that the package knows by name. To add one, add a row to `PRESETS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from numpy.typing import DTypeLike

from pyroberta.formats.directory import Directory
from pyroberta.model.config import RobertaConfig
from pyroberta.presets.checks import OnFreshHead, warn_of_fresh_head
from pyroberta.presets.detect import FileNames

if TYPE_CHECKING:
    from pyroberta.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class BuiltIn:
    """A preset that the package knows by name.

    Attributes:
        description: a description of one sentence.
        parameters: the number of the backbone's parameters.
        handles: the handles from which it can be downloaded. The first available one is used. The first handle has the
            masked-LM head; the others may lack it. Empty for a preset that is part of the package.
        config: the config of a downloaded model, whose tokenizer is `roberta_tokenizer()`. None if the package has both
            in a directory.
    """

    description: str
    parameters: int
    handles: tuple[str, ...] = ()
    config: RobertaConfig | None = None


PRESETS = {
    "roberta_tiny_en": BuiltIn(
        "A small RoBERTa for English with a vocabulary of its own, pretrained by this project. Ships with the package.",
        1_833_728,
    ),
    "roberta_base_en": BuiltIn(
        "12 layers, hidden 768. Trained on English Wikipedia, BooksCorpus, CommonCrawl and OpenWebText.",
        124_052_736,
        ("hf://FacebookAI/roberta-base", "kaggle://keras/roberta/keras/roberta_base_en/3"),
        RobertaConfig(vocabulary_size=50265, num_layers=12, num_heads=12, hidden_dim=768, intermediate_dim=3072),
    ),
    "roberta_large_en": BuiltIn(
        "24 layers, hidden 1024. Trained on English Wikipedia, BooksCorpus, CommonCrawl and OpenWebText.",
        354_307_072,
        ("hf://FacebookAI/roberta-large", "kaggle://keras/roberta/keras/roberta_large_en/3"),
        RobertaConfig(vocabulary_size=50265, num_layers=24, num_heads=16, hidden_dim=1024, intermediate_dim=4096),
    ),
}


@dataclass(frozen=True)
class Packaged:
    """The `Format` of a preset for which the package has only the config and the tokenizer.

    Attributes:
        config: the config of the model.
        FILES: no names of files.
    """

    config: RobertaConfig
    FILES: ClassVar[FileNames] = FileNames()

    def read_config(self, directory: Directory) -> RobertaConfig:
        """Returns the config."""
        return self.config

    def read_tokenizer(self, directory: Directory, config: RobertaConfig | None) -> Tokenizer:
        """Returns the tokenizer of the published models."""
        from pyroberta.presets.fairseq_vocabulary import roberta_tokenizer

        return roberta_tokenizer()

    def read_preprocessor(self, directory: Directory) -> Mapping[str, Any]:
        """Returns no settings, so the preprocessor has its defaults."""
        return {}

    def read_labels(self, directory: Directory) -> None:
        """Returns None, since the model is not a classifier."""

    def read_activation(self, directory: Directory) -> str:
        """Returns "linear", since the model is not a classifier."""
        return "linear"

    def read_params(
        self,
        directory: Directory,
        config: RobertaConfig,
        dtype: DTypeLike,
        seed: int = 0,
        on_fresh_head: OnFreshHead = warn_of_fresh_head,
    ) -> NoReturn:
        """Raises an error: the preset must be opened with its weights."""
        raise ValueError(f"preset {str(directory)!r} was opened without weights")

    def read_stored(self, directory: Directory, config: RobertaConfig) -> NoReturn:
        """Raises an error: the preset must be opened with its weights."""
        raise ValueError(f"preset {str(directory)!r} was opened without weights")

    def read_state(self, directory: Directory, config: RobertaConfig) -> NoReturn:
        """Raises an error: the preset must be opened with its weights."""
        raise ValueError(f"preset {str(directory)!r} was opened without weights")
