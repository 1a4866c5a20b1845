"""The selection of tokens to predict, and their replacement in the model's input.

Masked language modelling (Devlin et al. 2018, arXiv:1810.04805, 3.1): some tokens of every text are selected; of these
80 % become `<mask>`, 10 % a random token and 10 % stay, and the model predicts the original ones. They are selected
anew each time a text is seen (Liu et al. 2019, arXiv:1907.11692, 4.1).

All functions work on the tokens of a whole batch at once. Tokens that may be selected are the n *candidates*. `owners`
(n,) is the sequence of each and `words` (n,) the word of each, both numbered in ascending order. A word is
selected as a whole; in plain masking every token is a word of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyroberta.ops.dropout import Key, stream_words
from pyroberta.text.byte_level import to_bytes

Ints = NDArray[np.integer[Any]]
Facts = NDArray[np.bool_]

COUNTS = ("exact", "bernoulli")


DRAWS = 3  # numbers drawn for a token, which decide on its selection, the kind of its replacement, and the random token


def token_draws(key: Key, starts: Ints, numbers: Ints) -> NDArray[np.float64]:
    """Random numbers for each token of a packed batch, from its sequence's stream of the key.

    A sequence has the same numbers in any batch and place.

    Args:
        key: of the pass over the examples, or of evaluation.
        starts: (B+1,) of the sequences.
        numbers: (B,) the examples' numbers.

    Returns:
        (N, DRAWS) in [0, 1).
    """
    draws = np.empty((int(starts[-1]), DRAWS))
    for number, (start, stop) in zip(numbers.tolist(), pairwise(starts.tolist()), strict=True):
        words = stream_words(key, number, DRAWS * (stop - start))
        draws[start:stop] = ((words >> np.uint64(11)) * 2.0**-53).reshape(-1, DRAWS)
    return draws


def exact_count(rate: float, n: Ints) -> Ints:
    """ceil(rate·n) and at least 1: the number of n candidates that KerasHub selects. n (B,) -> (B,) int64.

    >>> exact_count(0.07, np.array([1, 100, 101])).tolist()
    [1, 7, 8]
    """
    # 0.07 * 100 is 7.000000000000001 in binary, but the rate means the decimal number.
    whole: Ints = np.ceil(rate * n - 1e-9).astype(np.int64)
    return np.maximum(whole, 1)


def select(
    owners: Ints, words: Ints, rate: float, limit: int, draws: NDArray[np.float64], *, count: str = "exact"
) -> Facts:
    """Selects words at random, at least one in every sequence with a candidate.

    "exact" selects `exact_count(rate, n)` tokens in a sequence of n candidates. Of words, it selects as many as reach
    that number: less than one word too many. "bernoulli" selects each word with probability `rate`, and one where that
    selects none. No sequence has more than `limit` selected tokens: the word that would pass it is left out.

    Args:
        owners: (n,) int, ascending, the sequence of each candidate.
        words: (n,) int, 0, 1, 2 … without a gap, the word of each candidate; no word has more than `limit` tokens.
        rate: in (0, 1].
        limit: at least 1.
        draws: (n,) uniform in [0, 1), for each candidate; a word's is that of its first.
        count: "exact" or "bernoulli".

    Returns:
        (n,) bool, which candidates are selected.

    >>> draws = np.random.default_rng(0).random(20)
    >>> is_selected = select(np.zeros(20, int), np.arange(20), 0.15, 96, draws)
    >>> int(is_selected.sum())
    3
    """
    first = np.flatnonzero(np.diff(words, prepend=-1))  # the first candidate of each word, (W,)
    sizes = np.diff(first, append=len(words))  # (W,)
    sequence = owners[first]  # (W,)

    # Shuffle the words of each sequence. Sequences stay in order, so `sequence` serves for the shuffled words too.
    draws = draws[first]
    order = np.lexsort((draws, sequence))
    draws, sizes = draws[order], sizes[order]

    # In the shuffled order: how many tokens of its sequence come before each word.
    total = np.bincount(owners)  # n of each sequence
    before = np.cumsum(sizes) - sizes - (np.cumsum(total) - total)[sequence]

    if count == "exact":
        is_wanted = before < exact_count(rate, total)[sequence]
    else:
        is_wanted = (draws < rate) | (before == 0)
    is_selected = np.empty(len(first), bool)
    is_selected[order] = is_wanted & (before + sizes <= limit)
    return is_selected[words]


def corrupt(
    labels: Ints,
    mask_id: int,
    ordinary: Ints,
    mask_token_rate: float,
    random_token_rate: float,
    draws: NDArray[np.float64],
    choices: NDArray[np.float64],
) -> Ints:
    """The tokens that the model sees in the place of the selected ones.

    Each is `<mask>` with probability `mask_token_rate`, drawn uniformly from `ordinary` with probability
    `random_token_rate` (which may draw the very token again), else left as it is.

    labels (M,), ordinary (V',) the ids that are no special tokens, draws and choices (M,) uniform in [0, 1): which of
    the three, and which token -> (M,), of the labels' dtype

    >>> labels, draws, choices = np.array([7, 8, 9]), np.array([0.1, 0.6, 0.7]), np.full(3, 0.99)
    >>> corrupt(labels, 4, np.arange(5, 10), 0.5, 0.5, draws, choices).tolist()
    [4, 9, 9]
    """
    is_mask = draws < mask_token_rate
    is_random = ~is_mask & (draws < mask_token_rate + random_token_rate)
    seen = np.where(is_mask, mask_id, labels).astype(labels.dtype)
    seen[is_random] = ordinary[(choices[is_random] * len(ordinary)).astype(np.int64)]
    return seen


def word_edges(vocabulary: Mapping[str, int]) -> tuple[Facts, Facts]:
    """The tokens of a byte-level vocabulary that open a word, and those after which a word opens.

    A token that begins with whitespace (`Ġthe`, a newline) opens a word. So does whatever follows a newline, a tab or
    the like, since only a space is ever part of the word after it. Whitespace means ASCII's six characters here.

    vocabulary: tokens and ids, the highest of which is V - 1 -> (V,) bool, (V,) bool

    >>> opens, closes = word_edges({"Ġfox": 0, "es": 1, "Ċ": 2})
    >>> opens.tolist(), closes.tolist()
    ([True, False, True], [False, False, True])
    """
    opens, closes = np.zeros((2, max(vocabulary.values()) + 1), bool)
    for token, i in vocabulary.items():
        spelt = to_bytes(token)
        opens[i] = spelt[:1].isspace()
        closes[i] = spelt[-1:].isspace() and spelt[-1:] != b" "
    return opens, closes


def number_words(ids: Ints, rows: Ints, owners: Ints, opens: Facts, closes: Facts, limit: int) -> Ints:
    """The number of each candidate's word. A word is the text between whitespace.

    Punctuation and `'s` belong to the word that they touch: `Ġdon`, `'t`, `!` are one word. A special token, and
    where the text was cut or begins, is a border. A stretch of more than `limit` tokens counts as several words, so
    that it can be selected at all. Scripts without spaces have such stretches: mask their tokens one by one instead.

    Args:
        ids: (N,) the packed batch.
        rows: (n,) the candidates' rows in it, ascending.
        owners: (n,) the candidates' sequences.
        opens: (V,) from `word_edges`.
        closes: (V,) from `word_edges`.
        limit: the most tokens that a word may have.

    Returns:
        (n,) int64, 0, 1, 2 …

    >>> opens, closes = word_edges({"Ġfox": 0, "es": 1, "Ġrun": 2})
    >>> number_words(np.array([0, 1, 2]), np.arange(3), np.zeros(3, int), opens, closes, 96).tolist()
    [0, 0, 1]
    """
    is_first = opens[ids[rows]]
    is_first[1:] |= closes[ids[rows[:-1]]] | (np.diff(rows) > 1) | (np.diff(owners) > 0)
    is_first[:1] = True
    index = np.arange(len(rows))
    start = np.maximum.accumulate(np.where(is_first, index, 0))  # where each candidate's word begins
    is_first |= (index - start) % limit == 0
    return np.cumsum(is_first) - 1
