"""What users hand to `fit`, `evaluate` and `predict`, turned into examples."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from pyroberta.model.batch import Batch, pack, pack_padded
from pyroberta.model.config import RobertaConfig
from pyroberta.text.preprocessor import MaskedLMPreprocessor
from pyroberta.training.data import Examples, HeldExamples, StreamedExamples

FEATURES = ("token_ids", "padding_mask", "mask_positions")
WHAT_FITS = (
    "texts (a list, an array or any iterable of strings, pairs of strings, or the path of a text file), "
    f"encoded sequences (arrays of token ids), or a dict of {', '.join(FEATURES)} with labels beside it"
)


class InputReader:
    """Turns what users pass into examples, for one model.

    Args:
        config: what ids and lengths are checked against.
        preprocessor: encodes and masks texts; None where only preprocessed input is to be had.
    """

    def __init__(self, config: RobertaConfig, preprocessor: MaskedLMPreprocessor | None) -> None:
        self.config = config
        self.preprocessor = preprocessor

    def examples(self, x: Any, y: Any = None, sample_weight: Any = None, stream: bool = False) -> Examples:
        """Examples from any of `WHAT_FITS`, or from an iterable of batches (x,), (x, y) or (x, y, sample_weight).

        Args:
            x: what is to be read.
            y: labels (B, K), beside a dict of features alone.
            sample_weight: (B, K) beside a dict of features; (B,) beside texts, one weight per text.
            stream: read an iterator of texts batch by batch instead of collecting it first.

        Raises:
            TypeError, ValueError: for anything else, saying what came and what fits.
        """
        if isinstance(x, Mapping):
            return HeldExamples(self.features(x, y, sample_weight))
        if y is not None:
            raise ValueError(
                "y was given beside texts: a masked language model makes its labels from the texts themselves. "
                f"Leave y out, or pass x as a dict of {', '.join(FEATURES)}"
            )
        if isinstance(x, str | os.PathLike):
            x = read_lines(x)
        if isinstance(x, tuple) and len(x) == 2 and not isinstance(x[0], str):
            x = list(zip(*map(list, x), strict=True))  # Keras's spelling of pairs: two lists
        if not isinstance(x, Iterable):
            raise TypeError(f"x should be {WHAT_FITS}; got {type(x).__name__}")
        iterator = iter(x)
        items = list(islice(iterator, 1))
        if not items:
            raise ValueError("x is empty: there is nothing to fit or to evaluate")
        left = chain(items, iterator)
        once = iterator is x  # an iterator gives its items once; a collection gives them anew every time
        if _is_batch(items[0]):
            return StreamedExamples(lambda size: map(self._batch, left if once else iter(x)), self._mask)
        if stream and once:
            if sample_weight is not None:
                raise ValueError("sample_weight can't go with a stream of texts; collect them into a list first")
            return StreamedExamples(lambda size: self._cut(left, size), self._mask)
        data = self.sequences(left)
        return HeldExamples(data, self._mask, _per_text(sample_weight, len(data)))

    def features(self, x: Mapping[str, Any], y: Any = None, sample_weight: Any = None) -> Batch:
        """Preprocessed features as a packed batch: `token_ids` and `padding_mask` (B, S), `mask_positions` (B, K).

        Args:
            x: the features; without `padding_mask` every place holds a token.
            y: (B, K), the original ids.
            sample_weight: (B, K), each label's weight in the loss; ones unless given.
        """
        unknown, missing = set(x) - set(FEATURES), {"token_ids", "mask_positions"} - set(x)
        if unknown or missing:
            raise ValueError(f"x should be a dict of {', '.join(FEATURES)}; got {sorted(x)}")
        if y is None:
            raise ValueError(
                "x is a dict of features and y is missing: pass the original ids of the masked tokens as y, "
                f"of the shape of mask_positions {np.shape(x['mask_positions'])}"
            )
        token_ids = np.asarray(x["token_ids"])
        return pack_padded(
            token_ids,
            x.get("padding_mask", np.ones_like(token_ids)),
            x["mask_positions"],
            y,
            np.ones(np.shape(y)) if sample_weight is None else sample_weight,
            vocabulary_size=self.config.vocabulary_size,
            max_sequence_length=self.config.max_sequence_length,
        )

    def sequences(self, items: Iterable[Any]) -> Batch:
        """Texts, pairs of texts, or sequences of ids as a packed batch without masks."""
        preprocessor = self._need_preprocessor()
        iterator = iter(items)
        encoded: list[Any] = []
        while some := list(islice(iterator, 1024)):  # in pieces: the texts of a stream need not be held
            if all(_is_encoded(item) for item in some):
                encoded += [self._checked(np.asarray(item), len(encoded) + i) for i, item in enumerate(some)]
            else:
                encoded += preprocessor.encode(some)
        return pack(encoded)

    def _batch(self, item: Any) -> Batch:
        """One batch of an iterable of batches."""
        x, y, sample_weight = (*item, None, None)[:3] if isinstance(item, tuple) else (item, None, None)
        if isinstance(x, Mapping):
            return self.features(x, y, sample_weight)
        return self.sequences(x)

    def _cut(self, items: Iterator[Any], size: int) -> Iterator[Batch]:
        while some := list(islice(items, size)):
            yield self.sequences(some)

    def _mask(self, batch: Batch, generator: np.random.Generator) -> Batch:
        sequences = np.split(batch.ids, batch.starts[1:-1])
        return self._need_preprocessor().mask(sequences, generator)

    def _checked(self, ids: Any, number: int) -> Any:
        if not len(ids) or ids.min() < 0 or ids.max() >= self.config.vocabulary_size:
            raise ValueError(
                f"encoded sequence {number} should hold ids from 0 to {self.config.vocabulary_size - 1}; "
                f"it has {len(ids)} ids" + (f" from {ids.min()} to {ids.max()}" if len(ids) else "")
            )
        if len(ids) > self.config.max_sequence_length:
            raise ValueError(
                f"encoded sequence {number} has {len(ids)} tokens; the model takes {self.config.max_sequence_length}"
            )
        return ids

    def _need_preprocessor(self) -> MaskedLMPreprocessor:
        if self.preprocessor is None:
            raise ValueError(
                f"this model has no preprocessor and takes a dict of {', '.join(FEATURES)} with labels y; "
                "for texts, load it without preprocessor=None"
            )
        return self.preprocessor


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a UTF-8 text file that are not blank, without their ends.

    Raises:
        FileNotFoundError: where there is no such file, with the advice to pass one text as a list.
        ValueError: where it is not UTF-8, naming the byte.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no text file {os.fspath(path)!r}. To pass one text, pass a list: ['…']")
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    return [line.strip() for line in lines if line.strip()]


def _is_encoded(item: Any) -> bool:
    """A sequence of token ids: an array or a list of integers."""
    if isinstance(item, np.ndarray):
        return item.ndim == 1 and item.dtype.kind in "iu"
    return isinstance(item, list) and bool(item) and all(isinstance(number, int) for number in item)


def _is_batch(item: Any) -> bool:
    """What an iterable of batches yields: features, a tuple that starts with features or texts, or a list of texts."""
    if isinstance(item, tuple):
        return bool(item) and not isinstance(item[0], str)
    return isinstance(item, Mapping) or (isinstance(item, list) and bool(item) and isinstance(item[0], str))


def _per_text(sample_weight: Any, count: int) -> Any:
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, np.float64)
    if weights.shape != (count,):
        raise ValueError(f"sample_weight beside texts should be one weight per text, ({count},); got {weights.shape}")
    return weights
