"""Embedding: a token's row plus its position's row."""

from __future__ import annotations

from typing import NamedTuple

from numpy import ndarray as Array

from pyroberta.ops.gather import GatherCache, gather_backward, gather_forward


class EmbeddingCache(NamedTuple):
    """What `embedding_forward` keeps for `embedding_backward`."""

    tokens: GatherCache  # ids (N,) and V
    position_rows: GatherCache  # positions (N,) and T


def embedding_forward(
    ids: Array, positions: Array, tokens: Array, position_rows: Array
) -> tuple[Array, EmbeddingCache]:
    """y_n = tokens[ids_n] + position_rows[positions_n].

    ids, positions (N,) int, tokens (V, C), position_rows (T, C) -> y (N, C)
    """
    of_tokens, token_cache = gather_forward(tokens, ids)  # (N, C)
    of_positions, position_cache = gather_forward(position_rows, positions)  # (N, C)
    return of_tokens + of_positions, EmbeddingCache(token_cache, position_cache)


def embedding_backward(dy: Array, cache: EmbeddingCache) -> tuple[Array, Array]:
    """A row's gradient is the sum of dy over the places that looked it up.

    dy (N, C) -> dtokens (V, C), dposition_rows (T, C), both dense
    """
    # forward: of_tokens + of_positions
    return gather_backward(dy, cache.tokens), gather_backward(dy, cache.position_rows)
