"""The models' sizes and the batches of the benchmarks: real prose, the same every time.

The tokenizer is trained on it here (8000 tokens), so nothing is downloaded. B sequences, S columns, K mask slots.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pyroberta.text.preprocessor import MaskedLMPreprocessor

Shape = dict[str, int]

SIZES: dict[str, Shape] = {
    "base": {"num_layers": 12, "num_heads": 12, "hidden_dim": 768, "intermediate_dim": 3072, "vocabulary_size": 50265},
    "small": {"num_layers": 2, "num_heads": 4, "hidden_dim": 256, "intermediate_dim": 1024, "vocabulary_size": 10000},
}


@dataclass(frozen=True)
class Case:
    """A batch as Keras's users know it: (B, S) tokens, padded on the right, and (B, K) masks.

    K is no larger than the batch needs, so that nobody's head works on more slots than it must.
    """

    name: str
    token_ids: np.ndarray  # (B, S)
    padding_mask: np.ndarray  # (B, S)
    mask_positions: np.ndarray  # (B, K)
    labels: np.ndarray  # (B, K)
    weights: np.ndarray  # (B, K)

    @property
    def lengths(self) -> np.ndarray:
        return self.padding_mask.sum(axis=1)  # (B,)

    @property
    def tokens(self) -> int:
        """Real ones, N."""
        return int(self.lengths.sum())

    @property
    def masked(self) -> int:
        """M."""
        return int((self.weights > 0).sum())

    @property
    def features(self) -> dict[str, np.ndarray]:
        """What pyroberta's and KerasHub's models take."""
        return {name: getattr(self, name) for name in ("token_ids", "padding_mask", "mask_positions")}

    @property
    def masked_places(self) -> tuple[np.ndarray, np.ndarray]:
        """(M,) rows and (M,) columns of `token_ids`."""
        rows, slots = np.nonzero(self.weights)
        return rows, self.mask_positions[rows, slots]

    def flops(self, shape: Shape) -> float:
        """Of a packed training step; the formula is at the top of train.py."""
        L, C, F, V = (shape[key] for key in ("num_layers", "hidden_dim", "intermediate_dim", "vocabulary_size"))
        N, M, squares = self.tokens, self.masked, int((self.lengths**2).sum())
        return float(6 * (N * L * (4 * C**2 + 2 * C * F) + 2 * C * L * squares + M * (C**2 + C * V)))


def training_cases() -> dict[str, Case]:
    """8 × 128 and 2 × 512 tokens without padding; 16 paragraphs of 10 to 300 tokens."""
    made = {"dense": _prose(8, 128), "long": _prose(2, 512), "ragged": _paragraphs()}
    return {name: masked(name, sequences) for name, sequences in made.items()}


def filling_cases() -> dict[str, Case]:
    """One `<mask>` in each sequence: one of 16 tokens, one and eight of 128, and the 16 paragraphs."""
    made = {"1 x 16": _prose(1, 16), "1 x 128": _prose(1, 128), "8 x 128": _prose(8, 128), "ragged": _paragraphs()}
    return {name: with_one_mask(name, sequences) for name, sequences in made.items()}


def rectangle(B: int, S: int) -> Case:
    """B × S tokens without padding, masked for training."""
    return masked(f"{B} x {S}", _prose(B, S))


def masked(name: str, sequences: Sequence[np.ndarray]) -> Case:
    """15 % masked, as for training."""
    from pyroberta.model.batch import pad

    preprocessor, _ = _encoded()
    batch = preprocessor.mask(list(sequences), np.random.default_rng(0))
    per_sequence = np.histogram(batch.target_rows, batch.starts)[0]
    pad_id = preprocessor.tokenizer.pad_token_id
    return Case(name, *pad(batch, max(map(len, sequences)), int(per_sequence.max()), pad_id))


def with_one_mask(name: str, sequences: Sequence[np.ndarray]) -> Case:
    """`<mask>` in the middle of each sequence and nothing else changed: what `fill_mask` is asked."""
    from dataclasses import replace

    from pyroberta.model.batch import pack, pad

    tokenizer = _encoded()[0].tokenizer
    batch = pack(sequences)
    places = batch.starts[:-1] + np.diff(batch.starts) // 2
    ids = batch.ids.copy()
    ids[places] = tokenizer.mask_token_id
    batch = replace(batch, ids=ids, target_rows=places, labels=batch.ids[places], weights=np.ones(len(places)))
    return Case(name, *pad(batch, max(map(len, sequences)), 1, tokenizer.pad_token_id))


def _prose(B: int, S: int) -> list[np.ndarray]:
    """All paragraphs in a row, from the first on again when they are used up, cut into B × S."""
    return list(np.resize(np.concatenate(_encoded()[1]), (B, S)))


def _paragraphs() -> list[np.ndarray]:
    """The shortest paragraph of at least 10, 29, … tokens each, and 300 at the most."""
    encoded = sorted(_encoded()[1], key=len)
    lengths = np.array([len(ids) for ids in encoded])
    return [encoded[np.searchsorted(lengths, length)][:300] for length in np.linspace(10, 300, 16).astype(int)]


@functools.cache
def _encoded() -> tuple[MaskedLMPreprocessor, list[np.ndarray]]:
    """A preprocessor and the prose's paragraphs, encoded."""
    from pyroberta.data import speeches
    from pyroberta.text.preprocessor import MaskedLMPreprocessor
    from pyroberta.text.tokenizer import Tokenizer

    paragraphs = speeches()
    preprocessor = MaskedLMPreprocessor(Tokenizer.train(paragraphs, vocab_size=8000), sequence_length=512)
    return preprocessor, preprocessor.encode(paragraphs)
