"""The selection of tokens to predict, and their replacement in the model's input.

Masked language modelling (Devlin et al. 2018, arXiv:1810.04805, 3.1) selects some tokens of every text. Of the selected
tokens, 80 % become `<mask>`, 10 % become a random token, and 10 % stay. The model predicts the original tokens. Tokens
are selected anew each time a text is seen (Liu et al. 2019, arXiv:1907.11692, 4.1).

All functions work on the tokens of a whole batch at once. The n *candidates* are the tokens that may be selected.
`owners` (n,) is the number of each candidate's sequence, and `words` (n,) the number of its word. Both are in ascending
order. A word is selected as a whole. In plain masking every token is a word.
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
    """Returns random numbers for each token of a packed batch, drawn from the streams of the sequences.

    A sequence gets the same numbers in any batch and at any place in it.

    Args:
        key: the key of the pass over the examples, or of evaluation.
        starts: (B+1,) the starts of the sequences.
        numbers: (B,) the numbers of the examples.

    Returns:
        Numbers (N, DRAWS) in [0, 1).
    """
    draws = np.empty((int(starts[-1]), DRAWS))
    for number, (start, stop) in zip(numbers.tolist(), pairwise(starts.tolist()), strict=True):
        words = stream_words(key, number, DRAWS * (stop - start))
        draws[start:stop] = ((words >> np.uint64(11)) * 2.0**-53).reshape(-1, DRAWS)
    return draws


def exact_count(rate: float, n: Ints) -> Ints:
    """Returns ceil(rate·n), and at least 1: the number of tokens that KerasHub selects among n candidates. n (B,) ->
    (B,) int64.

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

    "exact" selects `exact_count(rate, n)` tokens in a sequence of n candidates. It selects words until their tokens
    reach that number, so it exceeds the number by less than one word. "bernoulli" selects each word with probability
    `rate`, and one word if that selects none. No sequence has more than `limit` selected tokens. A word that would
    exceed the limit is left out.

    Args:
        owners: (n,) int, ascending, the sequence of each candidate.
        words: (n,) int, 0, 1, 2 … without a gap, the word of each candidate. No word has more than `limit` tokens.
        rate: the share of the candidates, in (0, 1].
        limit: the largest number of selected tokens of a sequence, at least 1.
        draws: (n,) uniform random numbers in [0, 1), one for each candidate. A word has the number of its first
            candidate.
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
    """Returns the tokens that the model sees in place of the selected ones.

    A token becomes `<mask>` with probability `mask_token_rate`. With probability `random_token_rate` it is drawn
    uniformly from `ordinary`, which may give the same token again. Otherwise it stays.

    labels (M,) are the original tokens, and ordinary (V',) are the ids that are not special tokens. draws and choices
    (M,) are uniform random numbers in [0, 1): draws decides among the three cases, choices decides the random token.
    The result is (M,), in the dtype of the labels.

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
    """Returns which tokens of a byte-level vocabulary begin a word, and after which tokens a new word begins.

    A token that begins with whitespace (`Ġthe`, a newline) begins a word. The token after a newline, a tab or other
    whitespace begins a word too, unless the whitespace is a space, since only a space is part of the word after it.
    Whitespace means the six characters of ASCII here.

    vocabulary has tokens and ids, and V - 1 is the highest id. The results are (V,) bool and (V,) bool.

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
    """Returns the number of each candidate's word. A word is the text between whitespace.

    Punctuation and `'s` belong to the word that they touch: `Ġdon`, `'t`, `!` are one word. A word ends at a special
    token and at either end of the sequence. A run of more than `limit` tokens without whitespace counts as several
    words, so that it can be selected. Scripts without spaces have such runs: mask their tokens one by one instead.

    Args:
        ids: (N,) the ids of the packed batch.
        rows: (n,) the rows of the candidates, in ascending order.
        owners: (n,) the numbers of the candidates' sequences.
        opens: (V,) from `word_edges`.
        closes: (V,) from `word_edges`.
        limit: the largest number of tokens that a word may have.

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
