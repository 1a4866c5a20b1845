"""Training of a byte-level BPE vocabulary from texts (Sennrich et al., 2016, arXiv:1508.07909)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

from pyroberta.formats.budget import type_of
from pyroberta.text.byte_level import BYTE_CHARACTERS, SURROGATE, split_words, to_characters
from pyroberta.text.given import opened, refuse_endless, refuse_rows

Pair = tuple[int, int]
Progress = Callable[[int, int], None]

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def train(
    texts: Iterable[str],
    vocab_size: int,
    min_frequency: int = 2,
    *,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    add_prefix_space: bool = False,
    progress: Progress | None = None,
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Learns a vocabulary: merges the most frequent pair of adjacent symbols within the words of the texts, again and
    again.

    Of equally frequent pairs, the one with the smaller left id is merged, then the one with the smaller right id. So
    the same texts in any order give the same vocabulary. It is the vocabulary that `tokenizers`' `BpeTrainer` learns.

    The ids are given in this order: the special tokens except the last, the 256 bytes in the order of their characters,
    the tokens of the merges, the last special token. So `<s>` has 0, `<pad>` 1, `</s>` 2, `<unk>` 3, and `<mask>` the
    highest id.

    Args:
        texts: the texts, which are read once. Special tokens in them are left out.
        vocab_size: the number of tokens, special tokens and bytes included. The vocabulary is smaller if no frequent
            pair is left.
        min_frequency: the least frequency of a pair that is merged.
        special_tokens: the special tokens, all different. The last one is `<mask>` or the token in its role.
        add_prefix_space: whether a text that does not begin with a space is read as if it did.
        progress: a function that is called with (merges made, merges wanted) now and then, and at the end.

    Returns:
        The vocabulary (token -> id), and the merges in order.

    Raises:
        TypeError: if `texts` is a single string, or has items that are not strings.
        ValueError: if `vocab_size` or `min_frequency` is too small, or a text holds a lone surrogate.

    >>> vocabulary, merges = train(["hug hugs hugging"], vocab_size=264)
    >>> merges
    [('h', 'u'), ('hu', 'g'), ('Ġ', 'hug')]
    """
    *first_tokens, last_token = special_tokens
    tokens = [*first_tokens, *sorted(BYTE_CHARACTERS)]
    _check_sizes(vocab_size, len(tokens) + 1, min_frequency)
    if len({*tokens, last_token}) != len(tokens) + 1:
        raise ValueError(f"the special tokens must differ from each other and from the bytes, got {special_tokens}")
    ids = {token: id for id, token in enumerate(tokens)}
    wanted = vocab_size - len(tokens) - 1

    words: list[list[int]] = []
    frequencies: list[int] = []
    for word, frequency in count_words(texts, special_tokens, add_prefix_space).items():
        words.append([ids[character] for character in to_characters(word.encode())])
        frequencies.append(frequency)

    counts: Counter[Pair] = Counter()
    homes: defaultdict[Pair, set[int]] = defaultdict(set)  # the words that have the pair, or had it
    for w, word_ids in enumerate(words):
        for pair in pairwise(word_ids):
            counts[pair] += frequencies[w]
            homes[pair].add(w)

    # A count that grows is pushed anew; one that shrinks is checked when it is popped.
    heap = [(-count, pair) for pair, count in counts.items()]
    heapify(heap)
    merges: list[tuple[str, str]] = []
    while heap and len(merges) < wanted:
        negative_count, pair = heappop(heap)
        count = counts[pair]
        if count < min_frequency:
            continue
        if count != -negative_count:
            heappush(heap, (-count, pair))
            continue
        left, right = tokens[pair[0]], tokens[pair[1]]
        product = ids.get(left + right, len(tokens))
        if product == len(tokens):
            tokens.append(left + right)
            ids[left + right] = product
        merges.append((left, right))

        changes: Counter[Pair] = Counter()
        for w in homes.pop(pair):
            before = words[w]
            words[w] = after = replace(before, pair, product)
            for old in pairwise(before):
                changes[old] -= frequencies[w]
            for new in pairwise(after):
                changes[new] += frequencies[w]
                if product in new:
                    homes[new].add(w)
        for changed, change in changes.items():
            counts[changed] += change
            if change > 0:
                heappush(heap, (-counts[changed], changed))
        if progress is not None and len(merges) % 64 == 0:
            progress(len(merges), wanted)

    if progress is not None:
        progress(len(merges), wanted)
    tokens.append(last_token)
    return {token: id for id, token in enumerate(tokens)}, merges


def count_words(texts: Iterable[str], special_tokens: Sequence[str], add_prefix_space: bool) -> Counter[str]:
    """Returns the number of occurrences of each word in the texts. The parts of a text between special tokens are split
    separately.
    """
    texts = opened(texts, "texts")
    refuse_rows(texts, (), "texts")
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
        raise TypeError(f"texts must be an iterable of str, such as a list or a file, got {type_of(texts)}")
    refuse_endless(texts, "texts")
    specials = re.compile("|".join(map(re.escape, special_tokens)))
    words: Counter[str] = Counter()
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts must be of str, got {type_of(text)} at index {i}")
        surrogate = SURROGATE.search(text)
        if surrogate:
            raise ValueError(
                f"text {i} has a lone surrogate, {surrogate[0]!r}, at index {surrogate.start()}; it has no UTF-8"
            )
        for piece in specials.split(text):
            if add_prefix_space and piece and not piece.startswith(" "):
                piece = " " + piece
            words.update(split_words(piece))
    return words


def replace(symbols: Sequence[int], pair: Pair, product: int) -> list[int]:
    """Returns the symbols with every occurrence of the pair replaced, from the left.

    >>> replace([7, 7, 7, 8], (7, 7), 9)
    [9, 7, 8]
    """
    replaced: list[int] = []
    i = 0
    while i < len(symbols):
        if symbols[i] == pair[0] and i + 1 < len(symbols) and symbols[i + 1] == pair[1]:
            replaced.append(product)
            i += 2
        else:
            replaced.append(symbols[i])
            i += 1
    return replaced


def _check_sizes(vocab_size: int, smallest: int, min_frequency: int) -> None:
    for name, value in (("vocab_size", vocab_size), ("min_frequency", min_frequency)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
    if vocab_size < smallest:
        raise ValueError(f"vocab_size must be at least {smallest} (special tokens and 256 bytes), got {vocab_size}")
    if min_frequency < 1:
        raise ValueError(f"min_frequency must be at least 1, got {min_frequency}")
