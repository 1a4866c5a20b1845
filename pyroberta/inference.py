"""What a trained model is asked: fill masks, score texts, embed them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.backbone import Backbone
from pyroberta.model.batch import Batch, pack
from pyroberta.model.encoder import encoder_forward
from pyroberta.model.mlm_head import head_logits
from pyroberta.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Filling:
    """One candidate for one mask.

    Attributes:
        score: its probability at the mask, in [0, 1].
        token: its id, or its ids where a target has several.
        token_str: its text, with the space before it that the token stands for.
        sequence: the text with this candidate in place of the mask; other masks stay.
    """

    score: float
    token: int | tuple[int, ...]
    token_str: str
    sequence: str

    def as_dict(self) -> dict[str, Any]:
        """The same as a dict, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class TextScore:
    """A text's pseudo-log-likelihood (Salazar et al. 2020, arXiv:1910.14659).

    Attributes:
        tokens: the text's tokens, as text.
        log_likelihoods: for each, log p(token | all the others), in nats.
        total: their sum.
        perplexity: exp(-total / number of tokens), infinity where that overflows, NaN for a text without tokens.
    """

    tokens: list[str]
    log_likelihoods: list[float]
    total: float
    perplexity: float

    def as_dict(self) -> dict[str, Any]:
        """The same as a dict, for JSON."""
        return asdict(self)


def encode(backbone: Backbone, tokenizer: Tokenizer, texts: Sequence[str]) -> list[Array]:
    """The ids of each text, `<s>` and `</s>` around; nothing is cut off.

    Raises:
        ValueError: where a text is longer than the model takes, with its number and lengths.
    """
    limit = backbone.config.max_sequence_length
    sequences = [np.array(ids, np.int32) for ids in tokenizer.encode_batch(list(texts))]
    for number, ids in enumerate(sequences):
        if len(ids) > limit:
            raise ValueError(
                f"text {number} has {len(ids)} tokens, <s> and </s> included; the model takes {limit}. Split the text"
            )
    return sequences


def fill_masks(
    backbone: Backbone,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    top_k: int,
    targets: Sequence[str] | None,
    batch_size: int,
) -> list[list[list[Filling]]]:
    """For each text, for each of its masks, the candidates, the likeliest first. See `MaskedLM.fill_mask`."""
    sequences = encode(backbone, tokenizer, texts)
    places = [np.flatnonzero(ids == tokenizer.mask_id) for ids in sequences]
    for number, where in enumerate(places):
        if not len(where):
            raise ValueError(f"text {number} holds no {tokenizer.mask_token!r}: {texts[number]!r}")
    if targets is not None:
        return [
            [
                _rank_targets(backbone, tokenizer, ids, place, _as_spoken(targets, spaced), top_k, batch_size)
                for place, spaced in zip(where.tolist(), _is_spaced(text, tokenizer.mask_token), strict=True)
            ]
            for ids, where, text in zip(sequences, places, texts, strict=True)
        ]
    found: list[list[list[Filling]]] = [[] for _ in texts]
    for number, place, log_probs in _log_probs_at(backbone, sequences, places, batch_size):
        best = np.argsort(-log_probs, kind="stable")[:top_k]
        found[number].append(
            [_filling(tokenizer, sequences[number], place, (int(i),), float(log_probs[i])) for i in best]
        )
    return found


def score_texts(backbone: Backbone, tokenizer: Tokenizer, texts: Sequence[str], batch_size: int) -> Iterator[TextScore]:
    """The score of each text: every token masked in turn. See `MaskedLM.score`."""
    for ids in encode(backbone, tokenizer, texts):
        places = [place for place, token in enumerate(ids) if token not in (tokenizer.start_id, tokenizer.end_id)]
        copies = np.repeat(ids[None], len(places), axis=0)
        copies[np.arange(len(places)), places] = tokenizer.mask_id
        found = _log_probs_at(backbone, list(copies), [np.array([place]) for place in places], batch_size)
        values = [float(log_probs[ids[place]]) for _, place, log_probs in found]
        total = float(np.sum(values))
        with np.errstate(over="ignore"):
            perplexity = float(np.exp(-total / len(values))) if values else float("nan")
        tokens = [tokenizer.decode([int(ids[place])]) for place in places]
        yield TextScore(tokens, values, total, perplexity)


def hidden_states(
    backbone: Backbone, tokenizer: Tokenizer, texts: Sequence[str], layer: int, batch_size: int
) -> Iterator[Array]:
    """For each text its (S, C) hidden states after `layer`. See `MaskedLM.embed`."""
    sequences = encode(backbone, tokenizer, texts)
    for start in range(0, len(sequences), batch_size):
        batch = pack(sequences[start : start + batch_size])
        hidden, _ = encoder_forward(backbone.ops, backbone.params, backbone.config, batch)
        yield from np.split(hidden[layer], batch.starts[1:-1])


def logits_at(backbone: Backbone, batch: Batch, rows: Array) -> Array:
    """The logits at rows of a packed batch. rows (M,) -> (M, V)."""
    hidden, _ = encoder_forward(backbone.ops, backbone.params, backbone.config, batch)
    return head_logits(backbone.ops, backbone.params, backbone.config, hidden[-1], rows)


def _log_probs_at(
    backbone: Backbone, sequences: Sequence[Array], places: Sequence[Array], batch_size: int
) -> Iterator[tuple[int, int, Array]]:
    """(sequence's number, place in it, log probabilities (V,)) for every place, a batch of sequences at a time."""
    for first in range(0, len(sequences), batch_size):
        some = places[first : first + batch_size]
        batch = pack(sequences[first : first + batch_size])
        rows = np.concatenate([start + where for start, where in zip(batch.starts, some, strict=False)])
        log_probs = _log_softmax(logits_at(backbone, batch, rows))
        owners = [(first + i, int(place)) for i, where in enumerate(some) for place in where]
        for (number, place), row in zip(owners, log_probs, strict=True):
            yield number, place, row


def _log_softmax(z: Array) -> Array:
    z = z - z.max(axis=-1, keepdims=True)
    z -= np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return z


def _rank_targets(
    backbone: Backbone,
    tokenizer: Tokenizer,
    ids: Array,
    place: int,
    targets: Sequence[str],
    top_k: int,
    batch_size: int,
) -> list[Filling]:
    """The targets in the order of their probability at one mask.

    A target of n tokens takes n masks; its probability is the product of those of its tokens.
    """
    pieces = [tuple(tokenizer.encode(target, add_special_tokens=False)) for target in targets]
    for target, piece in zip(targets, pieces, strict=True):
        if not piece:
            raise ValueError(f"target {target!r} has no tokens")
    widened = {
        n: np.concatenate([ids[:place], np.full(n, tokenizer.mask_id), ids[place + 1 :]]) for n in map(len, pieces)
    }
    limit = backbone.config.max_sequence_length
    too_long = [target for target, piece in zip(targets, pieces, strict=True) if len(widened[len(piece)]) > limit]
    if too_long:
        raise ValueError(f"with target {too_long[0]!r} the text has more tokens than the model takes, {limit}")
    lengths = sorted(widened)
    found = _log_probs_at(
        backbone, [widened[n] for n in lengths], [np.arange(place, place + n) for n in lengths], batch_size
    )
    log_probs: dict[int, list[Array]] = {}
    for number, _, row in found:
        log_probs.setdefault(lengths[number], []).append(row)
    scored = [
        (sum(float(row[i]) for row, i in zip(log_probs[len(piece)], piece, strict=True)), piece) for piece in pieces
    ]
    scored.sort(key=lambda pair: -pair[0])
    return [_filling(tokenizer, ids, place, piece, value) for value, piece in scored[:top_k]]


def _is_spaced(text: str, mask_token: str) -> list[bool]:
    """For each mask in the text, whether white space stands before it."""
    return [before[-1:].isspace() for before in text.split(mask_token)[:-1]]


def _as_spoken(targets: Sequence[str], spaced: bool) -> list[str]:
    """The targets as they would stand at the mask: with the space before it, which belongs to the word's token."""
    return [target if not spaced or target[:1].isspace() else " " + target for target in targets]


def _filling(tokenizer: Tokenizer, ids: Array, place: int, tokens: tuple[int, ...], log_prob: float) -> Filling:
    inside = [i for i in (*ids[:place], *tokens, *ids[place + 1 :]) if i not in (tokenizer.start_id, tokenizer.end_id)]
    return Filling(
        score=float(np.exp(log_prob)),
        token=tokens[0] if len(tokens) == 1 else tokens,
        token_str=tokenizer.decode(list(tokens)),
        sequence=tokenizer.decode([int(i) for i in inside]),
    )
