"""The values that decide a RoBERTa's shape and arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyroberta.model.attributes import in_message, is_real, true_or_false, whole_number
from pyroberta.model.heads import HEADS, has_classes

LORA_TARGETS = ("query", "key", "value", "output")
MOST_LAYERS = 340  # three dropout sites each, and three more: their numbers have 10 bits in a dropout key


@dataclass(frozen=True)
class RobertaConfig:
    """The hyperparameters of an encoder and its head, under KerasHub's names.

    Letters used everywhere: V `vocabulary_size`, C `hidden_dim`, H `num_heads`, D `head_dim`, F `intermediate_dim`,
    T `max_sequence_length`.

    Args:
        vocabulary_size: V, the number of rows of the token embedding.
        num_layers: the number of transformer layers.
        num_heads: H, the number of attention heads. It divides `hidden_dim`.
        hidden_dim: C, the width of a hidden state.
        intermediate_dim: F, the width inside the feed-forward.
        dropout: the rate in [0, 1) of the dropout after the embedding norm, after the attention's output and after the
            feed-forward.
        attention_dropout: the rate for attention probabilities. None means `dropout` (KerasHub has one rate, HF two).
        max_sequence_length: T, the largest number of tokens in a sequence, which is the number of rows of the position
            embedding.
        layer_norm_epsilon: the number that is added to the variance, under the root.
        start_id, pad_id, end_id: the ids of `<s>`, `<pad>`, `</s>`.
        tie_embeddings: whether the masked-LM head's output table is the token embedding (RoBERTa) or another parameter.
        num_classes: the number of classes of a classifier's head, at least 2. None for the masked-LM head.
        classifier_dropout: the rate before and after the dense layer of a classifier's head. None means `dropout`.
        classifier_hidden_dim: the width of the dense layer of a classifier's head. None means `hidden_dim`. A width
            equal to `hidden_dim` is stored as None.
        lora_rank: r, the rank of the low-rank changes of attention's kernels (see `model.lora`). 0 means none.
        lora_alpha: alpha in the change (alpha / r) A B. None means r, which is a factor of 1.
        lora_targets: the kernels of attention that change: any of `query`, `key`, `value`, `output`.
        head_name: the head's name in `heads.HEADS`. None means `"text_classifier"` if `num_classes` is given, else
            `"masked_lm"`. None is kept as it is; the property `head` returns the name in both cases.

    Raises:
        ValueError: if a value is out of range. The message names the field.

    >>> RobertaConfig(vocabulary_size=100, num_layers=2, num_heads=2, hidden_dim=8, intermediate_dim=16).head_dim
    4
    """

    vocabulary_size: int
    num_layers: int
    num_heads: int
    hidden_dim: int
    intermediate_dim: int
    dropout: float = 0.1
    attention_dropout: float | None = None
    max_sequence_length: int = 512
    layer_norm_epsilon: float = 1e-5
    start_id: int = 0
    pad_id: int = 1
    end_id: int = 2
    tie_embeddings: bool = True
    num_classes: int | None = None
    classifier_dropout: float | None = None
    lora_rank: int = 0
    lora_alpha: float | None = None
    lora_targets: tuple[str, ...] = ("query", "value")
    head_name: str | None = None
    classifier_hidden_dim: int | None = None

    def __post_init__(self) -> None:
        for rate in ("attention_dropout", "classifier_dropout"):
            if getattr(self, rate) is None:
                object.__setattr__(self, rate, self.dropout)
        sizes = (
            "vocabulary_size", "num_layers", "num_heads", "hidden_dim", "intermediate_dim", "max_sequence_length",
        )  # fmt: skip
        self._keep_plain()
        for name in sizes:
            whole_number(name, getattr(self, name))
        self._check_head()
        for name in ("dropout", "attention_dropout", "classifier_dropout"):
            value = getattr(self, name)
            if not is_real(value) or not 0.0 <= value < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {in_message(value)}")
        for name in ("start_id", "pad_id", "end_id"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < self.vocabulary_size:
                raise ValueError(
                    f"{name} must be the id of one of the {self.vocabulary_size} rows of the token embedding "
                    f"(vocabulary_size), from 0 to {self.vocabulary_size - 1}; got {in_message(value)}"
                )
        if self.num_layers > MOST_LAYERS:
            raise ValueError(f"num_layers must be at most {MOST_LAYERS}, got {self.num_layers}")
        if not is_real(self.layer_norm_epsilon) or not 0.0 < self.layer_norm_epsilon < math.inf:
            raise ValueError(
                f"layer_norm_epsilon must be above 0 and finite, got {in_message(self.layer_norm_epsilon)}"
            )
        true_or_false("tie_embeddings", self.tie_embeddings)
        if self.hidden_dim % self.num_heads:
            raise ValueError(
                f"hidden_dim {self.hidden_dim} is not a multiple of num_heads {self.num_heads}: "
                "each head takes hidden_dim / num_heads columns"
            )

        self._check_lora()

    def _keep_plain(self) -> None:
        """Turns NumPy's scalars into Python's numbers, which JSON takes."""
        for name, value in vars(self).items():
            if isinstance(value, np.bool_ | np.integer | np.floating):
                object.__setattr__(self, name, value.item())

    def _check_head(self) -> None:
        classes, name = self.num_classes, self.head_name
        if classes is not None and (not isinstance(classes, int) or isinstance(classes, bool) or classes < 2):
            raise ValueError(
                f"num_classes must be a whole number of at least 2, or None for a masked LM; got {classes!r}"
            )
        if name is not None and name not in list(HEADS):
            raise ValueError(f"head_name must be one of {', '.join(map(repr, HEADS))} or None, got {name!r}")
        if has_classes(HEADS[self.head]) != (classes is not None):
            if classes is None:
                raise ValueError(f"the head {self.head!r} needs num_classes, got None")
            raise ValueError(
                f"the head {self.head!r} has no classes, got num_classes {classes}: leave out head_name or num_classes"
            )
        width = self.classifier_hidden_dim
        if width is not None:
            whole_number("classifier_hidden_dim", width)
            if "classifier_hidden_dim" not in HEADS[self.head].SIZES.values():
                raise ValueError(
                    f"the head {self.head!r} has no dense layer whose width can be set, got classifier_hidden_dim "
                    f"{width}: leave it out"
                )
        if width == self.hidden_dim:
            object.__setattr__(self, "classifier_hidden_dim", None)
        if name == _default_head(classes):
            object.__setattr__(self, "head_name", None)  # so that one model has one config

    def _check_lora(self) -> None:
        rank, alpha = self.lora_rank, self.lora_alpha
        if not isinstance(rank, int) or isinstance(rank, bool) or rank < 0 or not is_real(rank):
            raise ValueError(f"lora_rank must be a whole number of at least 0, got {in_message(rank)}")
        if alpha is None:
            object.__setattr__(self, "lora_alpha", float(rank) if rank else None)
        elif not rank or not is_real(alpha) or not 0.0 < alpha < math.inf:
            raise ValueError(
                f"lora_alpha must be above 0 and needs a lora_rank above 0; got lora_alpha {in_message(alpha)} "
                f"and lora_rank {rank}"
            )
        given: Any = self.lora_targets
        targets = () if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
        if not targets or not all(target in LORA_TARGETS for target in targets):
            raise ValueError(
                f"lora_targets must be a list of one or more of {', '.join(LORA_TARGETS)} (the kernels of attention); "
                f"got {given!r}"
            )
        object.__setattr__(self, "lora_targets", tuple(target for target in LORA_TARGETS if target in targets))

    @property
    def head(self) -> str:
        """The name of the head, a key of `heads.HEADS`.

        >>> from dataclasses import replace
        >>> config = RobertaConfig(9, num_layers=1, num_heads=1, hidden_dim=2, intermediate_dim=2)
        >>> config.head, replace(config, num_classes=3).head
        ('masked_lm', 'text_classifier')
        """
        return _default_head(self.num_classes) if self.head_name is None else self.head_name

    @property
    def lora_scale(self) -> float:
        """The factor alpha / r of A B. It is 1 without LoRA."""
        return self.lora_alpha / self.lora_rank if self.lora_alpha else 1.0

    @property
    def head_dim(self) -> int:
        """D, the number of columns of one attention head."""
        return self.hidden_dim // self.num_heads


def _default_head(num_classes: int | None) -> str:
    """The head of a config that names none."""
    return "masked_lm" if num_classes is None else "text_classifier"
