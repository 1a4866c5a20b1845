"""KerasHub's `backbone.token_embedding`: it maps ids to vectors, and with `reverse=True` vectors to logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy import ndarray as Array

from pyroberta.model.attributes import LAYER, Checked, Reasons
from pyroberta.model.hints import Hinting

if TYPE_CHECKING:
    from pyroberta.tasks.backbone import Backbone


_FREEZE = r"backbone.freeze(r'embeddings\.token') freezes its values, backbone.unfreeze undoes that"
_CHANGING = "see Backbone.changing, which changes values"


class TokenEmbedding(Checked, Hinting):
    """The token embedding of a backbone. It stores no values: it reads those of the backbone when it is called.

    Args:
        backbone: the backbone whose embedding it is.

    >>> from pyroberta import Backbone
    >>> embedding = Backbone(20, 1, 2, 8, 16).token_embedding
    >>> vectors = embedding([[0, 5, 2]])
    >>> vectors.shape, embedding(vectors, reverse=True).shape
    ((1, 3, 8), (1, 3, 20))
    """

    name = "token_embedding"
    elsewhere = {"trainable": _FREEZE}  # noqa: RUF012  # declared in Hinting
    unsettable: ClassVar[Reasons] = (
        LAYER
        | dict.fromkeys(("embeddings", "weights"), _CHANGING)
        | dict.fromkeys(("input_dim", "output_dim", "tie_weights"), "the model's config has it")
        | {"trainable": _FREEZE}
    )

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone

    def __call__(self, inputs: Any, reverse: bool = False) -> Array:
        """The rows of the token ids; with `reverse`, the products of vectors with every row.

        Args:
            inputs: (...) token ids; with `reverse` vectors (..., C).
            reverse: whether to go from vectors to tokens, with the output table: the same embedding unless the model
                is untied. The masked-LM head adds its bias to that.

        Returns:
            (..., C), a copy; with `reverse` (..., V).

        Raises:
            ValueError: for an id outside the vocabulary, ids that aren't whole numbers, or vectors of another width.
        """
        config = self._backbone.config
        given = np.asarray(inputs)
        if not reverse:
            if given.dtype.kind not in "iu":
                raise ValueError(
                    f"token ids should be whole numbers, got {given.dtype}. To pass vectors, set reverse=True"
                )
            if given.size and not 0 <= given.min() <= given.max() < config.vocabulary_size:
                wrong = given[(given < 0) | (given >= config.vocabulary_size)]
                raise ValueError(f"token id {wrong[0]} is outside the vocabulary of {config.vocabulary_size}")
            rows: Array = self.embeddings[given]
            return rows
        if given.ndim == 0 or given.shape[-1] != config.hidden_dim:
            raise ValueError(
                f"reverse=True takes vectors (..., {config.hidden_dim}), hidden_dim wide; got shape {given.shape}"
            )
        ops, table = self._backbone.ops, self._output_table
        x = ops.from_host(np.ascontiguousarray(given.reshape(-1, config.hidden_dim), table.dtype))
        logits = ops.to_host(ops.logits(x, table, np.zeros(len(table), table.dtype)))
        return np.reshape(logits, (*given.shape[:-1], len(table)))

    @property
    def embeddings(self) -> Array:
        """The token embedding (V, C), a read-only view. To write into it, see `Backbone.changing`."""
        return self._backbone.params["embeddings.token"]

    @property
    def weights(self) -> list[Array]:
        """The token embedding, and the output table if the model is untied, as read-only views."""
        return [self.embeddings] if self.tie_weights else [self.embeddings, self._output_table]

    @property
    def tie_weights(self) -> bool:
        """Whether `reverse=True` multiplies by the token embedding too."""
        return self._output_table is self.embeddings

    @property
    def input_dim(self) -> int:
        """V, the number of rows."""
        return self._backbone.config.vocabulary_size

    @property
    def output_dim(self) -> int:
        """C, the width of a row."""
        return self._backbone.config.hidden_dim

    @property
    def _output_table(self) -> Array:
        params = self._backbone.params
        return params["head.decoder"] if "head.decoder" in params else params["embeddings.token"]

    def __repr__(self) -> str:
        return f"<TokenEmbedding: {self.input_dim} x {self.output_dim}, of {self._backbone!r}>"
