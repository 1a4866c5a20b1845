"""The preprocessor that makes padded arrays for a classifier from texts."""

from __future__ import annotations

from typing import Any

from pyroberta.model.batch import pack, pad
from pyroberta.text.preprocessor import Preprocessor


class TextClassifierPreprocessor(Preprocessor):
    """Tokenises and truncates texts for a `TextClassifier`; see `Preprocessor` for the arguments.

    A call with texts returns the padded arrays of KerasHub's `RobertaTextClassifierPreprocessor`.

    >>> from pyroberta.text.tokenizer import Tokenizer
    >>> tokenizer = Tokenizer.train(["the quick brown fox"], vocab_size=270)
    >>> preprocessor = TextClassifierPreprocessor(tokenizer, sequence_length=16)
    >>> features, labels = preprocessor(["the fox", ("brown", "fox")], [1, 0])
    >>> {name: array.shape for name, array in features.items()}, labels
    ({'token_ids': (2, 16), 'padding_mask': (2, 16)}, [1, 0])
    """

    def __call__(self, x: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Makes padded arrays of texts.

        Args:
            x: texts, see `Preprocessor`.
            y, sample_weight: returned as they are.

        Returns:
            The features: `token_ids` (B, S) int32 and `padding_mask` (B, S) bool, without their first axis for a single
            text; with y the tuple (features, y), with sample_weight (features, y, sample_weight).

        Raises:
            TypeError, ValueError: for values that are no texts.

        Warns:
            UserWarning: if texts were cut, with their number.
        """
        sequences, is_single = self._cut(x)
        padded = pad(pack(sequences), self.sequence_length, 0, self.tokenizer.pad_token_id)
        features = {"token_ids": padded.token_ids, "padding_mask": padded.padding_mask}
        if is_single:
            features = {name: array[0] for name, array in features.items()}
        if sample_weight is not None:
            return features, y, sample_weight
        return features if y is None else (features, y)
