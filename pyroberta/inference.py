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
from pyroberta.model.walk import walk_logits
from pyroberta.text.byte_level import WHITESPACE
from pyroberta.text.tokenizer import Tokenizer
from pyroberta.training.losses import log_softmax


@dataclass(frozen=True)
class Filling:
    """One candidate for one mask.

    Attributes:
        score: its probability at the mask, in [0, 1].
        token: its id, or its ids where a target has several.
        token_str: its text, with the space before it that the token stands for.
        sequence: the text with this candidate in place of the mask, and of the white space that `<mask>` takes along;
            other masks stay.
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


def mask_places(tokenizer: Tokenizer, sequences: Sequence[Array]) -> list[Array]:
    """Where each sequence holds `<mask>`, ascending."""
    return [np.flatnonzero(ids == tokenizer.mask_id) for ids in sequences]


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
    places = mask_places(tokenizer, sequences)
    for number, where in enumerate(places):
        if not len(where):
            raise ValueError(f"text {number} holds no {tokenizer.mask_token!r}: {texts[number]!r}")
    if targets is not None and not targets:
        raise ValueError("targets is empty: give the words to rank, or None for the whole vocabulary")
    gaps = [_gaps(tokenizer, text) for text in texts]
    found: list[list[list[Filling]]] = [[] for _ in texts]
    if targets is None:
        for number, _, log_probs in _log_probs_at(backbone, sequences, places, batch_size):
            gap = gaps[number][len(found[number])]
            best = _largest(log_probs, top_k)
            found[number].append([_filling(tokenizer, gap, (int(i),), float(log_probs[i])) for i in best])
        return found
    for number, (ids, where) in enumerate(zip(sequences, places, strict=True)):
        for place, gap in zip(where.tolist(), gaps[number], strict=True):
            pieces = _as_tokens(tokenizer, targets, gap)
            scores = _score_targets(backbone, tokenizer, ids, place, pieces, batch_size)
            best = _largest(np.array(scores), top_k)
            found[number].append([_filling(tokenizer, gap, pieces[i], scores[i]) for i in best])
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
        hidden, _ = encoder_forward(backbone.ops, backbone.prepared(), backbone.config, batch)
        yield from np.split(hidden[layer], batch.starts[1:-1])


def logits_at(backbone: Backbone, batch: Batch, rows: Array) -> Array:
    """The logits at rows of a packed batch. rows (M,) -> (M, V)."""
    return walk_logits(backbone.ops, backbone.prepared(), backbone.config, batch, rows)


def _log_probs_at(
    backbone: Backbone, sequences: Sequence[Array], places: Sequence[Array], batch_size: int
) -> Iterator[tuple[int, int, Array]]:
    """(sequence's number, place in it, log probabilities (V,)) for every place, a batch of sequences at a time."""
    for first in range(0, len(sequences), batch_size):
        some = places[first : first + batch_size]
        batch = pack(sequences[first : first + batch_size])
        rows = np.concatenate([start + where for start, where in zip(batch.starts, some, strict=False)])
        log_probs = log_softmax(logits_at(backbone, batch, rows))
        owners = [(first + i, int(place)) for i, where in enumerate(some) for place in where]
        for (number, place), row in zip(owners, log_probs, strict=True):
            yield number, place, row


def _score_targets(
    backbone: Backbone,
    tokenizer: Tokenizer,
    ids: Array,
    place: int,
    pieces: Sequence[tuple[int, ...]],
    batch_size: int,
) -> list[float]:
    """The log probability of each target at one mask: n tokens take n masks, and theirs are added up."""
    widened = {
        n: np.concatenate([ids[:place], np.full(n, tokenizer.mask_id), ids[place + 1 :]]) for n in map(len, pieces)
    }
    limit = backbone.config.max_sequence_length
    for piece in pieces:
        if len(widened[len(piece)]) > limit:
            raise ValueError(
                f"with target {tokenizer.decode(list(piece))!r} the text has more tokens than the model takes, {limit}"
            )
    lengths = sorted(widened)
    found = _log_probs_at(
        backbone, [widened[n] for n in lengths], [np.arange(place, place + n) for n in lengths], batch_size
    )
    log_probs: dict[int, list[Array]] = {}
    for number, _, row in found:
        log_probs.setdefault(lengths[number], []).append(row)
    return [sum(float(row[i]) for row, i in zip(log_probs[len(piece)], piece, strict=True)) for piece in pieces]


@dataclass(frozen=True)
class _Gap:
    """One mask in its text: what stands before and after it, and whether white space before it went with it."""

    before: str
    after: str
    is_spaced: bool


def _largest(values: Array, count: int) -> Array:
    """The places of the `count` largest, the largest first; of equal ones the first. values (V,) -> (count,) int."""
    if count >= len(values):
        return np.argsort(-values, kind="stable")
    candidates = np.flatnonzero(values >= np.partition(values, -count)[-count])  # a few more where some are equal
    return candidates[np.argsort(-values[candidates], kind="stable")[:count]]


def _gaps(tokenizer: Tokenizer, text: str) -> list[_Gap]:
    """Every mask of the text. Where `<mask>` does not take white space along, none belongs to the word either."""
    pieces = text.split(tokenizer.mask_token)
    gaps = []
    for i in range(1, len(pieces)):
        before, after = tokenizer.mask_token.join(pieces[:i]), tokenizer.mask_token.join(pieces[i:])
        kept = before.rstrip(WHITESPACE) if tokenizer.mask_lstrip else before
        gaps.append(_Gap(kept, after, is_spaced=kept != before))
    return gaps


def _as_tokens(tokenizer: Tokenizer, targets: Sequence[str], gap: _Gap) -> list[tuple[int, ...]]:
    """The targets' tokens as they would stand at the mask: with the space before it, which belongs to the word's."""
    pieces = []
    for target in targets:
        if not isinstance(target, str):
            raise TypeError(
                f"targets should be words, such as 'day'; got {target!r} ({type(target).__name__}). For a token's id "
                "give its text, tokenizer.decode([id])"
            )
        if not target:
            raise ValueError("a target is the empty string, which has no tokens")
        spoken = " " + target if gap.is_spaced and target[0] not in WHITESPACE else target
        pieces.append(tuple(tokenizer.encode(spoken, add_special_tokens=False)))
    return pieces


def _filling(tokenizer: Tokenizer, gap: _Gap, tokens: tuple[int, ...], log_prob: float) -> Filling:
    word = tokenizer.decode(list(tokens))
    return Filling(
        score=float(np.exp(log_prob)),
        token=tokens[0] if len(tokens) == 1 else tokens,
        token_str=word,
        sequence=gap.before + word + gap.after,
    )
