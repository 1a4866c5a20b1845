"""The checks of a vocabulary and its merges, and the tables that BPE reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pyroberta.formats.budget import shown
from pyroberta.formats.files import as_path, read_json
from pyroberta.text.byte_level import BYTE_CHARACTERS, CHARACTER_BYTES

Pair = tuple[int, int]

HIGHEST_ID = (1 << 24) - 1  # some tables have an entry for each id up to the highest


class Tables(NamedTuple):
    """The tables that BPE reads.

    A vocabulary without an unknown token may lack tokens that are only steps between merges, as in KerasHub's examples.
    Such tokens get ids above `HIGHEST_ID`. A text whose encoding would contain one is an error.

    Attributes:
        byte_ids: the id of each of the 256 bytes. A byte that the vocabulary lacks has the id of the unknown token.
        lacks_bytes: whether the vocabulary lacks a byte.
        ranks: each pair's place in the list of merges.
        products: the id of the token that each pair makes.
        absent: the tokens that the vocabulary lacks, by their ids above `HIGHEST_ID`.
    """

    byte_ids: list[int]
    lacks_bytes: bool
    ranks: dict[Pair, int]
    products: dict[Pair, int]
    absent: dict[int, str]


def read_files(vocabulary: Any, merges: Any) -> tuple[Any, Any]:
    """Returns the vocabulary and the merges. If one is a path, it is read from the file.

    Raises:
        TypeError: if one is None.
        FileNotFoundError, ValueError: if a file is missing or damaged.
    """
    from pyroberta.text.tokenizer_files import read_merges

    if vocabulary is None or merges is None:
        raise TypeError(
            "a tokenizer needs a vocabulary and merges. Tokenizer.from_preset reads them from a preset, Tokenizer.load "
            "from a directory"
        )
    if isinstance(vocabulary, (str, os.PathLike)):
        vocabulary = read_json(as_path(vocabulary))
    if isinstance(merges, (str, os.PathLike)):
        merges = read_merges(as_path(merges), len(vocabulary) if isinstance(vocabulary, Mapping) else None)
    return vocabulary, merges


def checked_vocabulary(vocabulary: Any) -> dict[str, int]:
    """Returns tokens and their ids, from a dict, or from a list in which a token's id is its place.

    Raises:
        TypeError, ValueError: if an entry is malformed. The message names it.

    >>> checked_vocabulary(["<s>", "<pad>"])
    {'<s>': 0, '<pad>': 1}
    """
    if isinstance(vocabulary, Mapping):
        return dict(vocabulary)
    if isinstance(vocabulary, (str, bytes)) or not isinstance(vocabulary, Iterable):
        raise TypeError(
            "vocabulary must be a dict of tokens and their ids, a list of tokens, or the path of a JSON file; got "
            f"{shown(vocabulary)}"
        )
    ids: dict[str, int] = {}
    for id, token in enumerate(vocabulary):
        if not isinstance(token, str):
            raise TypeError(f"the vocabulary's tokens must be strings, got {shown(token)} at place {id}")
        if ids.setdefault(token, id) != id:
            raise ValueError(f"the vocabulary has the token {shown(token)} twice, at the places {ids[token]} and {id}")
    return ids


def checked_merges(merges: Any) -> list[tuple[str, str]]:
    """Returns merges as pairs. A merge may be a pair, or a text of two tokens with a space between. `#version` lines
    are skipped.

    Raises:
        TypeError, ValueError: if a merge is malformed. The message names it.

    >>> checked_merges(["#version: 0.2", "Ġ t", ("h", "e")])
    [('Ġ', 't'), ('h', 'e')]
    """
    if isinstance(merges, (str, bytes)) or not isinstance(merges, Iterable):
        raise TypeError(
            "merges must be a list of pairs of tokens, or of texts such as 'Ġ t', or the path of a file with one a "
            f"line; got {shown(merges)}"
        )
    pairs = list(merges)
    if all(type(pair) is tuple and len(pair) == 2 for pair in pairs) and all(
        type(left) is type(right) is str and left and right for left, right in pairs
    ):
        return pairs
    if pairs and isinstance(pairs[0], str) and pairs[0].startswith("#version"):
        pairs = pairs[1:]
    return [_checked_merge(i, pair) for i, pair in enumerate(pairs)]


def _checked_merge(i: int, pair: Any) -> tuple[str, str]:
    parts = pair.split(" ") if isinstance(pair, str) else pair
    if isinstance(parts, bytes) or not isinstance(parts, Sequence) or len(parts) != 2:
        raise ValueError(f"merge {i} must be a pair of tokens, or a text such as 'Ġ t', got {shown(pair)}")
    left, right = parts
    if not (isinstance(left, str) and isinstance(right, str) and left and right):
        raise ValueError(f"merge {i} must be a pair of non-empty strings, got {shown(pair)}")
    return left, right


def by_id(vocabulary: Mapping[str, int]) -> dict[int, str]:
    """Returns the tokens by their ids.

    Raises:
        TypeError, ValueError: if a token is not a string, or an id is not a whole number, is too high, or belongs to
            two tokens.
    """
    tokens: dict[int, str] = {}
    for token, id in vocabulary.items():
        if not isinstance(token, str):
            raise TypeError(f"the vocabulary's tokens must be strings, got {shown(token)} with id {shown(id)}")
        if isinstance(id, bool) or not isinstance(id, int) or id < 0:
            raise ValueError(f"the id of token {shown(token)} must be a whole number of at least 0, got {shown(id)}")
        if id > HIGHEST_ID:
            raise ValueError(f"the id of token {shown(token)} is {shown(id)}; the highest possible id is {HIGHEST_ID}")
        if id in tokens:
            raise ValueError(f"tokens {shown(tokens[id])} and {shown(token)} have the same id {id} in the vocabulary")
        tokens[id] = token
    return tokens


def check_special_tokens(
    vocabulary: Mapping[str, int], special_tokens: Mapping[str, str], added_tokens: Iterable[str]
) -> None:
    """Checks that the vocabulary has the added tokens, and the special tokens, which are given by their roles.

    Raises:
        TypeError: if a special token is not a string.
        ValueError: if tokens are missing. The message names them.
    """
    for name, token in special_tokens.items():
        if not isinstance(token, str) or not token:
            raise TypeError(f"{name} must be a non-empty str, got {shown(token)}")
    missing = [f"{shown(token)} ({name})" for name, token in special_tokens.items() if token not in vocabulary]
    missing += [f"{shown(token)} (added token)" for token in added_tokens if token not in vocabulary]
    if missing:
        rest = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise ValueError(
            f"the vocabulary of {len(vocabulary)} tokens has no {', '.join(missing[:8])}{rest}; give each an id in the "
            "vocabulary, or name the tokens of the vocabulary that have their roles"
        )


def merge_tables(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], unk_id: int | None, literal: Iterable[str]
) -> Tables:
    """Returns the tables of a vocabulary and its merges.

    Args:
        vocabulary: the tokens and their ids.
        merges: the pairs in their order.
        unk_id: the id of the unknown token. None if the vocabulary has none.
        literal: the special and the added tokens, which need not be spelt in bytes.

    Raises:
        ValueError: if the vocabulary is not byte-level, a merge occurs twice, or a merge needs a token that a
            vocabulary with an unknown token lacks.
    """
    absent: dict[str, int] = {}

    def absent_id(token: str) -> int:
        return absent.setdefault(token, HIGHEST_ID + 1 + len(absent))

    lacks_bytes = any(character not in vocabulary for character in BYTE_CHARACTERS)
    if lacks_bytes:
        _check_byte_level(vocabulary, literal)
    get = vocabulary.get
    byte_ids = []
    for character in BYTE_CHARACTERS:
        id = get(character)
        byte_ids.append(id if id is not None else unk_id if unk_id is not None else absent_id(character))

    ranks: dict[Pair, int] = {}
    products: dict[Pair, int] = {}
    for rank, (left, right) in enumerate(merges):
        first, second, product = get(left), get(right), get(left + right)
        if first is None or second is None or product is None:
            token = left if first is None else right if second is None else left + right
            if unk_id is not None:
                raise ValueError(
                    f"merge {rank}, {shown(left)} + {shown(right)}, needs the token {shown(token)}, which the "
                    "vocabulary does not have. Check that the vocabulary and the merges belong together"
                )
            first = absent_id(left) if first is None else first
            second = absent_id(right) if second is None else second
            product = absent_id(left + right) if product is None else product
        pair = (first, second)
        if pair in ranks:
            raise ValueError(f"merge {rank}, {shown(left)} + {shown(right)}, is merge {ranks[pair]} again")
        ranks[pair] = rank
        products[pair] = product
    return Tables(byte_ids, lacks_bytes, ranks, products, {id: token for token, id in absent.items()})


def _check_byte_level(vocabulary: Mapping[str, int], literal: Iterable[str]) -> None:
    """Checks that a vocabulary without some bytes is byte-level: its tokens are spelt in the bytes' characters."""
    exempt = set(literal)
    for token in vocabulary:
        if token not in exempt and not all(character in CHARACTER_BYTES for character in token):
            missing = sum(character not in vocabulary for character in BYTE_CHARACTERS)
            raise ValueError(
                f"the vocabulary lacks tokens for {missing} of the 256 bytes and has {shown(token)}, which isn't spelt "
                "in bytes ('Ġ' is a space). Is it a byte-level vocabulary?"
            )
