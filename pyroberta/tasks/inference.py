"""Inference with a trained model: filling of masks, scores of texts, embeddings of texts."""

from __future__ import annotations

import itertools
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy import ndarray as Array

from pyroberta.formats.counts import agreeing, share
from pyroberta.model.batch import Batch, pack
from pyroberta.model.callers import callers_level
from pyroberta.model.encoder import encoder_forward
from pyroberta.model.model import model_forward, model_logits, model_logits_in_parts
from pyroberta.tasks.answers import Answer
from pyroberta.tasks.backbone import Backbone
from pyroberta.text.byte_level import WHITESPACE, to_characters
from pyroberta.text.long_texts import LongTexts
from pyroberta.text.other_masks import OtherMasks, mask_hint
from pyroberta.text.tokenizer import Tokenizer
from pyroberta.training.callbacks import BatchLogs, ProgressBar
from pyroberta.training.losses import log_softmax

TOKENS_AT_ONCE = 2048  # in a batch; benchmarks/score.py measures other numbers
LOGITS_AT_ONCE = 1 << 23  # 32 MiB in float32, beside twice as much for their exponentials

Item = TypeVar("Item")
SeveralTexts = list[str] | tuple[str, ...] | Array | os.PathLike[str]  # whose results are a list, to a type checker
Target = str | int | tuple[int, ...]  # a word, a token's id, or several


@dataclass(frozen=True)
class Filling(Answer):
    """One candidate for one mask.

    Attributes:
        score: the probability of the candidate at the mask, among all rows of the model, in [0, 1].
        token: the id of the candidate, or its ids if a target has several tokens.
        token_str: the text of the candidate, with the space before it if the token contains one.
        sequence: the text in which the candidate replaces the mask and the white space that `<mask>` absorbs. Other
            masks stay.
    """

    score: float
    token: int | tuple[int, ...]
    token_str: str
    sequence: str


# What is masked in the copy of a text that gives a token's log probability.
RULES = {
    "original": "the token alone (Salazar et al. 2020, arXiv:1910.14659)",
    "within_word_l2r": "the token and the later ones of its word (Kauf and Ivanova 2023, arXiv:2305.10588)",
}


@dataclass(frozen=True)
class TextScore(Answer):
    """The pseudo-log-likelihood of a text.

    Attributes:
        tokens: the tokens of the text, as strings.
        log_likelihoods: for each token, log p(token | the tokens that its masked copy shows), in nats.
        total: the sum of the log-likelihoods.
        perplexity: exp(-total / number of tokens). It is infinity if that overflows, and NaN for a text without tokens.
        rule: the rule that decides which tokens a masked copy shows, one of `RULES`.
    """

    tokens: list[str]
    log_likelihoods: list[float]
    total: float
    perplexity: float
    rule: str


def encode(
    tokenizer: Tokenizer, texts: Sequence[str | tuple[str, ...]], long_texts: LongTexts
) -> tuple[list[Array], list[int]]:
    """Returns the sequences of all texts, with `<s>` and `</s>`, and the number of the text of each sequence.

    Raises:
        ValueError: if a text is too long and is refused. The message has its number and lengths.

    Warns:
        UserWarning: if texts were split or cut. The message has the counts.
    """
    sequences: list[Array] = []
    owners: list[int] = []
    for number, text in enumerate(texts):
        segments = (text,) if isinstance(text, str) else text
        text_sequences = long_texts.encode(tokenizer, segments, long_texts.place(number))
        sequences += text_sequences
        owners += [number] * len(text_sequences)
    long_texts.say()
    return sequences, owners


def _rows_with_tokens(tokenizer: Tokenizer) -> Array:
    """The ids that have a token, in rising order. Vocabularies have holes, and models have more rows, as padding."""
    special = tokenizer.special_token_ids
    is_token = np.zeros(1 + max(int(tokenizer.ordinary_ids.max(initial=0)), *special, 0), bool)
    is_token[tokenizer.ordinary_ids] = is_token[special] = True  # many times faster than np.union1d
    return np.flatnonzero(is_token)


def mask_places(tokenizer: Tokenizer, sequences: Sequence[Array]) -> list[Array]:
    """Returns the positions of `<mask>` in each sequence, in rising order."""
    return [np.flatnonzero(ids == tokenizer.mask_token_id) for ids in sequences]


def mask_places_of(
    tokenizer: Tokenizer, texts: Sequence[str], sequences: Sequence[Array], place: Callable[[int], str]
) -> list[Array]:
    """Returns `mask_places` for texts. `place` is a function that returns the name of a text for messages, from its
    number.

    Raises:
        ValueError: if a text has no `<mask>`. The message has its place.

    Warns:
        UserWarning: if texts have a mask in another form beside it. The message has the place of the first.
    """
    places = mask_places(tokenizer, sequences)
    others = OtherMasks(tokenizer.mask_token)
    for number, where in enumerate(places):
        if not len(where):
            raise ValueError(
                f"{place(number)} holds no {tokenizer.mask_token!r}: {texts[number]!r}"
                + mask_hint(texts[number], tokenizer.mask_token)
            )
        others.see(texts[number], partial(place, number))
    others.say()
    return places


def fill_masks(
    backbone: Backbone,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    top_k: int,
    targets: Sequence[Target] | None,
    long_texts: LongTexts,
    batch_size: int | None,
    verbose: int | str,
) -> list[list[list[Filling]]]:
    """Returns the candidates for each mask of each text, the most likely first. See `MaskedLM.fill_mask`."""
    if targets is not None and not targets:
        raise ValueError("targets is empty: pass the words to rank, or None for the whole vocabulary")
    gaps = [_gaps(tokenizer, text) for text in texts]
    readings: dict[bool, _Readings] = {}
    if targets is not None:
        _warn_of_names(tokenizer, targets)
        readings = _readings_at(tokenizer, targets, gaps)
        if long_texts.choice == "cut":  # leave room for the longest target
            longest = max((len(piece) for some in readings.values() for piece in some.pieces), default=1)
            long_texts.limit = max(3, long_texts.limit + 1 - longest)
    sequences, _ = encode(tokenizer, texts, long_texts)
    places = mask_places_of(tokenizer, texts, sequences, long_texts.place)
    if targets is not None:
        _check_widened(backbone, tokenizer, sequences, gaps, readings, long_texts.place)
        return _rank(backbone, tokenizer, sequences, places, gaps, top_k, readings, batch_size, verbose)
    known = _rows_with_tokens(tokenizer)
    found: list[list[list[Filling]]] = [[] for _ in texts]
    with _batches("fill_mask", lambda: _longest_first(sequences), batch_size, verbose) as batches:
        for numbers in batches:
            masks = [(number, gap) for number in numbers for gap in gaps[number]]
            rows = _log_probs_at(backbone, [sequences[i] for i in numbers], [places[i] for i in numbers])
            for (number, gap), log_probs in zip(masks, rows, strict=True):
                best = known[_places_of_largest(log_probs[known], top_k)]
                found[number].append([_filling(tokenizer, gap, (int(i),), float(log_probs[i])) for i in best])
    return found


def scored_places(
    tokenizer: Tokenizer, sequences: Sequence[Array], owners: Sequence[int], count: int, place: Callable[[int], str]
) -> list[Array]:
    """Returns the positions of the tokens that `score` masks in each sequence.

    `owners` has the number of the text of each sequence, and `count` is the number of texts. `place` is a function that
    returns the name of a text for messages, from its number.

    Warns:
        UserWarning: if texts have no tokens. The message has the place of the first.
    """
    places = [np.flatnonzero((ids != tokenizer.start_token_id) & (ids != tokenizer.end_token_id)) for ids in sequences]
    empty = sorted(set(range(count)) - {owner for owner, where in zip(owners, places, strict=True) if len(where)})
    if empty:
        warnings.warn(
            f"{share(len(empty), count, 'text', 'has')} no tokens, so that the total is 0 and the perplexity NaN; "
            f"{'the first is' if count > 1 else 'it is'} {place(empty[0])}",
            stacklevel=callers_level(),
        )
    return places


def score_texts(
    backbone: Backbone,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    rule: str,
    long_texts: LongTexts,
    batch_size: int | None,
    verbose: int | str,
) -> list[TextScore]:
    """Returns the score of each text, for which every token is masked in turn. See `MaskedLM.score`.

    A text of n tokens needs n masked copies. A copy is made when its batch is packed, so only the copies of one batch
    are in memory.

    Args:
        rule: one of `RULES`.
    """
    sequences, owners = encode(tokenizer, texts, long_texts)
    places = scored_places(tokenizer, sequences, owners, len(texts), long_texts.place)
    log_likelihoods = [np.zeros(len(where), backbone.dtype) for where in places]
    lasts = _last_masked(tokenizer, texts, sequences, owners, places, rule)

    def copies() -> Iterator[tuple[int, tuple[int, int]]]:
        """Each copy's length, its text's number, and the index in `places` of the token that it masks."""
        for length, number in _longest_first(sequences):
            yield from ((length, (number, i)) for i in range(len(places[number])))

    with _batches("score", copies, batch_size, verbose) as batches:
        for some in batches:
            batch = pack([sequences[number] for number, _ in some])
            scored = batch.starts[:-1] + np.array([places[number][i] for number, i in some], np.int32)
            labels, ids = batch.ids[scored], batch.ids.copy()
            for row, (number, i) in zip(scored, some, strict=True):
                ids[row : row + 1 + lasts[number][i] - places[number][i]] = tokenizer.mask_token_id
            batch = replace(batch, ids=ids, target_rows=scored, labels=labels)
            for (number, i), loss in zip(some, _losses(backbone, batch), strict=True):
                log_likelihoods[number][i] = 0.0 - loss  # not -loss, which makes -0.0 of a certain token
    tokens: list[list[int]] = [[] for _ in texts]
    values: list[list[float]] = [[] for _ in texts]
    for owner, ids, where, log_probs in zip(owners, sequences, places, log_likelihoods, strict=True):
        tokens[owner] += ids[where].tolist()
        values[owner] += log_probs.tolist()
    words = {token: tokenizer.decode([token]) for token in set().union(*tokens)}
    return [
        _text_score([words[token] for token in some], found, rule) for some, found in zip(tokens, values, strict=True)
    ]


def _last_masked(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    sequences: Sequence[Array],
    owners: Sequence[int],
    places: Sequence[Array],
    rule: str,
) -> list[Array]:
    """For each place of each sequence, the last position that is masked together with it.

    It is the place itself, or with "within_word_l2r" the last position of its word in the sequence.
    """
    if rule == "original":
        return list(places)
    lasts: list[Array] = []
    owner, words, start = -1, np.zeros(0, np.int64), 0
    for number, (ids, where) in enumerate(zip(sequences, places, strict=True)):
        if owners[number] != owner:
            owner, start = owners[number], 0
            words = np.array(tokenizer.word_ids(texts[owner]), np.int64)
        inside = words[start : start + len(ids) - 2]  # without <s> and </s>; windows follow one another
        start += len(inside)
        lasts.append(np.searchsorted(inside, inside[where - 1], side="right"))
    return lasts


def _losses(backbone: Backbone, batch: Batch) -> Array:
    """-log p of each label of the batch (M,). The cache is dropped before the next batch is made."""
    (losses, _), _ = model_forward(backbone.ops, backbone.prepared(), backbone.config, batch)
    found: Array = backbone.ops.to_host(losses)
    return found


def _text_score(tokens: list[str], values: list[float], rule: str) -> TextScore:
    total = float(np.sum(values))
    with np.errstate(over="ignore"):
        perplexity = float(np.exp(-total / len(values))) if values else float("nan")
    return TextScore(tokens, values, total, perplexity, rule)


def hidden_states(
    backbone: Backbone,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    layer: int,
    is_pooled: bool,
    long_texts: LongTexts,
    batch_size: int | None,
    verbose: int | str,
) -> list[Array]:
    """Returns the hidden states (S, C) of each text after `layer`, or their mean (C,). See `MaskedLM.embed`."""
    sequences, owners = encode(tokenizer, texts, long_texts)
    found = [np.zeros(0)] * len(sequences)
    with _batches("embed", lambda: _longest_first(sequences), batch_size, verbose) as batches:
        for numbers in batches:
            states = _states(backbone, [sequences[number] for number in numbers], layer)
            for number, state in zip(numbers, states, strict=True):
                found[number] = state.mean(axis=0) if is_pooled else state
    if len(found) == len(texts):
        return found
    # The mean over all tokens of a split text is the mean of its windows' means, weighted by their tokens.
    lengths = np.array([len(ids) for ids in sequences])
    bounds = np.searchsorted(owners, np.arange(len(texts) + 1))
    windows = [slice(*pair) for pair in itertools.pairwise(bounds)]
    return [np.average(found[window], axis=0, weights=lengths[window]).astype(backbone.dtype) for window in windows]


def _states(backbone: Backbone, sequences: Sequence[Array], layer: int) -> list[Array]:
    """Each sequence's (S, C) hidden states after `layer`. Other layers' are dropped before the next batch is made."""
    batch = pack(sequences)
    hidden, _ = encoder_forward(backbone.ops, backbone.prepared(), backbone.config, batch)
    return np.split(backbone.ops.to_host(hidden[layer]), batch.starts[1:-1])


def logits_at(backbone: Backbone, batch: Batch, target_rows: Array) -> Array:
    """Returns the logits (M, V) at `target_rows` (M,) of a packed batch."""
    return model_logits(backbone.ops, backbone.prepared(), backbone.config, batch, target_rows)


def _longest_first(sequences: Sequence[Array]) -> Iterator[tuple[int, int]]:
    """The length and the number of each sequence, from the longest to the shortest.

    Sequences of one length then share a batch. The largest batch comes first, so that a lack of memory shows at once.
    """
    lengths = np.array([len(ids) for ids in sequences], np.int64)
    for number in np.argsort(-lengths, kind="stable").tolist():
        yield int(lengths[number]), number


def _cut(items: Iterable[tuple[int, Item]], batch_size: int | None) -> Iterator[tuple[int, list[Item]]]:
    """The items in batches, each with its number of tokens. An item comes with the length of its sequence.

    A batch takes the next item as long as it holds no more than `TOKENS_AT_ONCE` tokens and, if that is given, no more
    than `batch_size` sequences. A longer sequence is a batch by itself.
    """
    batch: list[Item] = []
    tokens = 0
    for length, item in items:
        if batch and (tokens + length > TOKENS_AT_ONCE or len(batch) == batch_size):
            yield tokens, batch
            batch, tokens = [], 0
        batch.append(item)
        tokens += length
    if batch:
        yield tokens, batch


@contextmanager
def _batches(
    label: str, items: Callable[[], Iterable[tuple[int, Item]]], batch_size: int | None, verbose: int | str
) -> Iterator[Iterator[list[Item]]]:
    """The items cut into batches, with a progress bar that counts these.

    Args:
        label: the bar's name.
        items: returns a new iterator over the items at each call; see `_cut`.
        batch_size: see `_cut`.
        verbose: as for `ProgressBar`, but that "auto" shows nothing where one batch takes all.
    """
    bar = ProgressBar(verbose)
    count = sum(1 for _ in _cut(items(), batch_size)) if bar.verbose else 0
    if verbose == "auto" and count < 2:
        bar = ProgressBar(0)
    with bar.counting(label, count) as advance:

        def counted() -> Iterator[list[Item]]:
            for tokens, batch in _cut(items(), batch_size):
                yield batch
                advance(BatchLogs({}, tokens))

        yield counted()


def _log_probs_at(backbone: Backbone, sequences: Sequence[Array], places: Sequence[Array]) -> Iterator[Array]:
    """The log probabilities (V,) at every place of every sequence. The sequences make one batch.

    No more than `LOGITS_AT_ONCE` numbers are held at a time, or one row, unless the caller keeps some.
    """
    batch = pack(sequences)
    target_rows = np.concatenate([start + where for start, where in zip(batch.starts, places, strict=False)])
    size = max(1, LOGITS_AT_ONCE // backbone.config.vocabulary_size)
    for logits in model_logits_in_parts(backbone.ops, backbone.prepared(), backbone.config, batch, target_rows, size):
        yield from log_softmax(logits)


def _rank(
    backbone: Backbone,
    tokenizer: Tokenizer,
    sequences: Sequence[Array],
    places: Sequence[Array],
    gaps: Sequence[Sequence[_Gap]],
    top_k: int,
    readings: Mapping[bool, _Readings],
    batch_size: int | None,
    verbose: int | str,
) -> list[list[list[Filling]]]:
    """`fill_masks` with targets.

    A target of n tokens takes n masks, and its log probability is the sum of theirs. So there is one
    sequence for each mask of a text and each number of tokens that a target has.
    """
    pieces = {is_spaced: some.pieces for is_spaced, some in readings.items()}
    # For each number of tokens, the numbers (n,) of the pieces that have so many, and their ids (n, tokens).
    by_size: dict[bool, dict[int, tuple[Array, Array]]] = {is_spaced: {} for is_spaced in pieces}
    for is_spaced, some in pieces.items():
        for size in sorted(set(map(len, some))):
            members = [k for k, piece in enumerate(some) if len(piece) == size]
            by_size[is_spaced][size] = np.array(members), np.array([some[k] for k in members])

    def widened() -> Iterator[tuple[int, tuple[int, int, int]]]:
        """Each sequence's length, its text's and its mask's number, and the number of masks in the place of that mask.

        A mask's sequences come one after the other.
        """
        for length, number in _longest_first(sequences):
            for i, gap in enumerate(gaps[number]):
                yield from ((length - 1 + size, (number, i, size)) for size in by_size[gap.is_spaced])

    found: list[list[list[Filling]]] = [[] for _ in sequences]
    scores = np.zeros(max(map(len, pieces.values()), default=0))  # of the pieces, at the mask at hand
    with _batches("fill_mask", widened, batch_size, verbose) as batches:
        for batch in batches:
            spans = [np.arange(size) + places[number][i] for number, i, size in batch]
            masked = [
                np.concatenate([ids[: span[0]], np.full(len(span), tokenizer.mask_token_id), ids[span[0] + 1 :]])
                for ids, span in zip((sequences[number] for number, *_ in batch), spans, strict=True)
            ]
            rows = _log_probs_at(backbone, masked, spans)
            for number, i, size in batch:
                gap = gaps[number][i]
                which, columns = by_size[gap.is_spaced][size]
                scores[which] = sum(next(rows)[column].astype(np.float64) for column in columns.T)
                if size == max(by_size[gap.is_spaced]):  # the mask's last sequence
                    words = pieces[gap.is_spaced]
                    best = readings[gap.is_spaced].best(scores, top_k)
                    found[number].append([_filling(tokenizer, gap, words[k], float(scores[k])) for k in best])
    return found


def check_targets(
    backbone: Backbone,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    sequences: Sequence[Array],
    targets: Sequence[Target],
    place: Callable[[int], str],
) -> None:
    """Checks that no text is too long with a target in the place of a mask.

    Args:
        backbone, tokenizer: those of the model.
        texts: the texts.
        sequences: the sequence of each text.
        targets: see `MaskedLM.fill_mask`.
        place: a function that returns the name of a text for messages, from its number.

    Raises:
        TypeError, ValueError: if a text is too long, or a target is none. The message names it.
    """
    gaps = [_gaps(tokenizer, text) for text in texts]
    _check_widened(backbone, tokenizer, sequences, gaps, _readings_at(tokenizer, targets, gaps), place)


def _check_widened(
    backbone: Backbone,
    tokenizer: Tokenizer,
    sequences: Sequence[Array],
    gaps: Sequence[Sequence[_Gap]],
    readings: Mapping[bool, _Readings],
    place: Callable[[int], str],
) -> None:
    limit = backbone.config.max_sequence_length
    longest = {is_spaced: max(some.pieces, key=len) for is_spaced, some in readings.items()}
    for number, ids in enumerate(sequences):
        for gap in gaps[number]:
            piece = longest[gap.is_spaced]
            if (length := len(ids) - 1 + len(piece)) > limit:
                raise ValueError(
                    f"with target {tokenizer.decode(list(piece))!r} {place(number)} has {length} tokens, <s> and </s> "
                    f"included; the model takes {limit}: shorten the text or leave the target out"
                )


@dataclass(frozen=True)
class _Gap:
    """One mask in its text: the text before and after it, and whether the mask absorbed white space."""

    before: str
    after: str
    is_spaced: bool


def _places_of_largest(values: Array, count: int) -> Array:
    """The indices of the `count` largest values, the largest first, equal ones in order. (V,) -> (count,) int."""
    if count >= len(values):
        return np.argsort(-values, kind="stable")
    candidates = np.flatnonzero(values >= np.partition(values, -count)[-count])  # a few more where some are equal
    return candidates[np.argsort(-values[candidates], kind="stable")[:count]]


def _gaps(tokenizer: Tokenizer, text: str) -> list[_Gap]:
    """Every mask of the text. If `<mask>` does not absorb white space, the word has none either."""
    pieces = text.split(tokenizer.mask_token)
    gaps = []
    for i in range(1, len(pieces)):
        before, after = tokenizer.mask_token.join(pieces[:i]), tokenizer.mask_token.join(pieces[i:])
        kept = before.rstrip(WHITESPACE) if tokenizer.mask_lstrip else before
        gaps.append(_Gap(kept, after, is_spaced=kept != before))
    return gaps


@dataclass(frozen=True)
class _Readings:
    """The tokens that targets stand for at a mask, T targets with P different pieces.

    Attributes:
        pieces: (P,) the tokens of each piece.
        plain: (T,) each target's piece; for a word, the one with the space before the mask.
        exact: (T,) the piece of one token whose text is exactly the target; `plain` if there is none.
    """

    pieces: list[tuple[int, ...]]
    plain: Array
    exact: Array

    def best(self, scores: Array, count: int) -> Array:
        """The `count` best pieces, the best first. Each target has its likelier reading, and no piece comes twice.

        scores (P or more,) -> (count or fewer,) int
        """
        is_chosen = np.zeros(len(scores), bool)
        is_chosen[np.where(scores[self.exact] > scores[self.plain], self.exact, self.plain)] = True
        chosen = np.flatnonzero(is_chosen)
        best: Array = chosen[_places_of_largest(scores[chosen], count)]
        return best


def _readings_at(
    tokenizer: Tokenizer, targets: Sequence[Target], gaps: Sequence[Sequence[_Gap]]
) -> dict[bool, _Readings]:
    """The targets' tokens at the masks with a space before them, and at those without, as far as there are such."""
    kinds = {gap.is_spaced for some in gaps for gap in some}
    return {is_spaced: _read_targets(tokenizer, targets, is_spaced) for is_spaced in kinds}


def _read_targets(tokenizer: Tokenizer, targets: Sequence[Target], is_spaced: bool) -> _Readings:
    """The targets' tokens at a mask, which has a space before it or not."""
    numbers: dict[tuple[int, ...], int] = {}  # of the pieces
    plain, exact = [], []
    for target in targets:
        readings = _readings(tokenizer, target, is_spaced)
        first, *_, last = [numbers.setdefault(piece, len(numbers)) for piece in (readings[0], *readings)]
        plain.append(first)
        exact.append(last)
    return _Readings(list(numbers), np.array(plain), np.array(exact))


def _warn_of_names(tokenizer: Tokenizer, targets: Sequence[Target]) -> None:
    """Warns of targets that are the vocabulary's names of words, such as `"Ġday"`: they are read by their letters."""
    names = [
        name for name in targets if isinstance(name, str) and re.match("Ġ.", name) and name in tokenizer.vocabulary
    ]
    if names:
        plain = tokenizer.decode([tokenizer.vocabulary[names[0]]]).strip()
        warnings.warn(
            f"{share(len(names), len(targets), 'target', 'begins')} with the letter Ġ, as words in the vocabulary do, "
            f"and {agreeing(len(names), 'is')} read literally; the first is {names[0]!r}. Write words without "
            f"it: {plain!r}",
            stacklevel=callers_level(),
        )


def _readings(tokenizer: Tokenizer, target: Any, is_spaced: bool) -> list[tuple[int, ...]]:
    """A target's tokens: for a word, with the space before the mask; and the token whose text is exactly the target."""
    is_id = isinstance(target, int | np.integer) and not isinstance(target, bool)
    if is_id or (isinstance(target, tuple) and target):
        ids = (int(target),) if is_id else tuple(target)
        try:
            tokenizer.decode(ids)
        except (TypeError, ValueError) as error:
            raise type(error)(f"target {target!r}: {error}") from None
        return [tuple(map(int, ids))]
    if not isinstance(target, str):
        raise TypeError(
            f"targets should be words, such as 'day', or ids of tokens; got {target!r} ({type(target).__name__})"
        )
    if not target:
        raise ValueError("a target is the empty string, which has no tokens")
    spoken = " " + target if is_spaced and target[0] not in WHITESPACE else target
    readings = [tuple(tokenizer.encode(spoken, add_special_tokens=False))]
    for name in (target, to_characters(target.encode())):
        id = tokenizer.vocabulary.get(name)
        if id is not None and tokenizer.decode([id]) == target:
            return [*readings, (id,)]
    return readings


def _filling(tokenizer: Tokenizer, gap: _Gap, tokens: tuple[int, ...], log_prob: float) -> Filling:
    word = tokenizer.decode(list(tokens))
    return Filling(
        score=float(np.exp(log_prob)),
        token=tokens[0] if len(tokens) == 1 else tokens,
        token_str=word,
        sequence=gap.before + word + gap.after,
    )
