"""Embedding: a token's row plus its position's row."""

from __future__ import annotations

from typing import Any

from numpy import ndarray as Array

from pyroberta.ops.gather import gather_backward, gather_forward


def embedding_forward(ids: Array, positions: Array, tokens: Array, rows: Array) -> tuple[Array, Any]:
    """y_n = tokens[ids_n] + rows[positions_n].

    ids, positions (N,) int, tokens (V, C), rows (T, C) -> y (N, C)
    """
    of_tokens, token_cache = gather_forward(tokens, ids)
    of_positions, position_cache = gather_forward(rows, positions)
    return of_tokens + of_positions, (token_cache, position_cache)


def embedding_backward(dy: Array, cache: Any) -> tuple[Array, Array]:
    """A row's gradient is the sum of dy over the places that looked it up.

    dy (N, C) -> dtokens (V, C), drows (T, C), both dense
    """
    token_cache, position_cache = cache
    return gather_backward(dy, token_cache), gather_backward(dy, position_cache)
