"""Multi-head self-attention over packed sequences (Vaswani et al. 2017, arXiv:1706.03762, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.ops.dropout import keep_mask


def attention_forward(
    q: Array,
    k: Array,
    v: Array,
    starts: Array,
    num_heads: int,
    rate: float,
    key: tuple[int, int],
    numbers: Array | None = None,
    query_rows: Array | None = None,
) -> tuple[Array, Any]:
    """Per sequence and head: y = dropout(softmax(q kᵀ / √D)) v.

    A sequence attends to itself alone. Nothing is padded, so there is no attention mask. Head h has the columns
    [h·D : (h+1)·D].

    q, k, v (N, C), starts (B+1,) -> y (N, C). `query_rows` (R,) selects the rows that attend, in rising order; q and y
    are then (R, C). By default all rows attend. The dropout mask of sequence b is stream numbers[b] of `key`, in the
    order (h, i, j), with i and j counted from the sequence's start; `numbers` (B,) is 0, 1, 2, ... by default.
    """
    y = np.empty_like(q)
    probs = [np.empty(0, q.dtype)] * (len(starts) - 1)
    for b, q_rows, k_rows, i in _sequences(starts, query_rows):
        q_b = _heads(q[q_rows], num_heads)  # (H, R_b, D)
        k_b, v_b = (_heads(x[k_rows], num_heads) for x in (k, v))  # (H, S, D) each
        p = _softmax(q_b @ k_b.transpose(0, 2, 1), 1.0 / math.sqrt(q_b.shape[2]))  # (H, R_b, S)
        _heads(y[q_rows], num_heads)[...] = (p * _keep(p, rate, key, numbers, b, i)) @ (v_b / (1.0 - rate))
        probs[b] = p
    return y, (q, k, v, starts, num_heads, rate, key, numbers, query_rows, probs)


def attention_backward(dy: Array, cache: Any) -> tuple[Array, Array, Array]:
    """dy (N, C) -> dq, dk, dv (N, C); with `query_rows`, dy and dq are (R, C)."""
    q, k, v, starts, num_heads, rate, key, numbers, query_rows, probs = cache
    dq, dk, dv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    for b, q_rows, k_rows, i in _sequences(starts, query_rows):
        dy_b, q_b = (_heads(x[q_rows], num_heads) for x in (dy, q))  # (H, R_b, D) each
        k_b, v_b = (_heads(x[k_rows], num_heads) for x in (k, v))  # (H, S, D) each
        p = probs[b]
        keep = _keep(p, rate, key, numbers, b, i)  # drawn again
        dkept = dy_b / (1.0 - rate)  # forward: y = (p * keep) @ v / (1 - rate)
        _heads(dv[k_rows], num_heads)[...] = (p * keep).transpose(0, 2, 1) @ dkept
        dp = dkept @ v_b.transpose(0, 2, 1)
        dp *= keep
        # forward: p = softmax(scores · scale), whose derivative is p · (dp - Σ_j p·dp)
        dp -= np.einsum("hij,hij->hi", dp, p)[:, :, None]
        dscores = np.multiply(dp, p, out=dp)
        dscores *= 1.0 / math.sqrt(q_b.shape[2])
        _heads(dq[q_rows], num_heads)[...] = dscores @ k_b  # forward: scores = q @ kᵀ
        _heads(dk[k_rows], num_heads)[...] = dscores.transpose(0, 2, 1) @ q_b  # forward: scores = q @ kᵀ
    return dq, dk, dv


def _sequences(starts: Array, query_rows: Array | None) -> Iterator[tuple[int, slice, slice, Any]]:
    """Each sequence that has tokens: its number, its rows of q, its rows of k and v, the positions of its queries."""
    for b, (start, stop) in enumerate(pairwise(starts.tolist())):
        k_rows = slice(start, stop)
        if stop == start:
            continue
        if query_rows is None:
            yield b, k_rows, k_rows, slice(None)
        else:
            first, last = np.searchsorted(query_rows, (start, stop)).tolist()
            yield b, slice(first, last), k_rows, query_rows[first:last] - start


def _heads(x: Array, num_heads: int) -> Array:
    """(S, C) -> (H, S, D), a view."""
    return x.reshape(len(x), num_heads, x.shape[1] // num_heads).transpose(1, 0, 2)


def _softmax(scores: Array, scale: float) -> Array:
    """softmax(scale · scores) along the last axis, in place; less the row's maximum, so that exp cannot overflow."""
    scores -= scores.max(axis=-1, keepdims=True)
    scores *= scale
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def _keep(p: Array, rate: float, key: tuple[int, int], numbers: Array | None, b: int, i: Any) -> Array | float:
    """Which elements of p (H, R_b, S) survive dropout. The caller divides by 1 - rate."""
    H, _, S = p.shape
    return keep_mask(key, b if numbers is None else int(numbers[b]), (H, S, S), rate)[:, i] if rate else 1.0
