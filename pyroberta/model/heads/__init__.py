"""The heads: the ops between the encoder and the logits. Each head is a file of this folder and a line of `HEADS`.

The logits of every head are `h @ output_table.T + bias`: h is the result of the head's `forward`, the output table is
the parameter that the head's `output_table` names, and the bias is `head.bias`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from numpy import ndarray as Array

from pyroberta.model.heads import masked_lm, text_classifier
from pyroberta.ops import Cache, Key, Ops

if TYPE_CHECKING:  # they know the heads themselves
    from pyroberta.model.batch import Batch, Ints
    from pyroberta.model.config import RobertaConfig
    from pyroberta.model.gradients import Gradients
    from pyroberta.model.parameters import Params, Shape


class Head(Protocol):
    """The functions and constants of a head's module.

    Attributes:
        TITLE: the head's name in messages. `{num_classes}` stands for the number of its classes.
        SIZES: the name of a parameter -> the field of the config on which the parameter's size depends most. The size
            of a parameter that is missing here depends on `hidden_dim`.
    """

    TITLE: str
    SIZES: Mapping[str, str]

    def shapes(self, config: RobertaConfig) -> dict[str, Shape]:
        """Returns the names and shapes of the head's parameters, in the order in which they lie in the vector.

        Each name begins with `head.`. The end of a name decides the initial value; see `initialise`.
        """

    def output_table(self, config: RobertaConfig) -> str:
        """Returns the name of the matrix by which the logits multiply. It has a row per token or per class."""

    def target_rows(self, batch: Batch) -> Ints:
        """Returns the rows of a batch at which the head predicts."""

    def forward(
        self, ops: Ops, params: Params, config: RobertaConfig, x: Array, batch: Batch, key: Key | None = None
    ) -> tuple[Array, Cache]:
        """x (M, C), the last hidden state at the batch's target rows -> h (M, W), as wide as the output table.

        `key` is None for no dropout.
        """

    def backward(self, ops: Ops, grads: Gradients, dh: Array, cache: Cache) -> Array:
        """dh (M, W) -> dx (M, C). Adds the gradients of the head's parameters, except those of the output table and
        `head.bias`.
        """


HEADS: dict[str, Head] = {
    "masked_lm": masked_lm,
    "text_classifier": text_classifier,
}


def head_of(config: RobertaConfig) -> Head:
    """Returns the head that `config.head` names."""
    return HEADS[config.head]


def has_classes(head: Head) -> bool:
    """Returns whether the head predicts classes, and so takes `num_classes`.

    >>> has_classes(HEADS["masked_lm"]), has_classes(HEADS["text_classifier"])
    (False, True)
    """
    return "num_classes" in head.SIZES.values()


def same_head(a: RobertaConfig, b: RobertaConfig) -> bool:
    """Returns whether the heads of two models are for the same task and have the same shape."""
    return all(getattr(a, name) == getattr(b, name) for name in ("head", "num_classes", "classifier_hidden_dim"))


def title(config: RobertaConfig) -> str:
    """Returns the name of a model's head for messages.

    >>> from pyroberta.model.config import RobertaConfig
    >>> title(RobertaConfig(9, num_layers=1, num_heads=1, hidden_dim=2, intermediate_dim=2, num_classes=3))
    'head for 3 classes'
    """
    return head_of(config).TITLE.format(num_classes=config.num_classes)
