"""Multi-head self-attention over packed sequences (Vaswani et al. 2017, arXiv:1706.03762, section 3.2)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.ops.dropout import Key, keep_mask


def attention_forward(
    q: Array, k: Array, v: Array, starts: Array, num_heads: int, rate: float, key: Key
) -> tuple[Array, Any]:
    """Per sequence and head: y = dropout(softmax(q kᵀ / √D)) v.

    A sequence sees itself alone; since nothing is padded there is no mask. Head h owns the columns [h·D : (h+1)·D].

    q, k, v (N, C), starts (B+1,) -> y (N, C). Sequence b's dropout mask is stream b of `key`, in the order (h, i, j).
    """
    y = np.empty_like(q)
    probs = [np.empty(0, q.dtype)] * (len(starts) - 1)
    for b, rows in _sequences(starts):
        q_b, k_b, v_b = (_heads(x[rows], num_heads) for x in (q, k, v))  # (H, S, D) each
        p = _softmax(q_b @ k_b.transpose(0, 2, 1), 1.0 / math.sqrt(q_b.shape[2]))  # (H, S, S)
        _heads(y[rows], num_heads)[...] = (p * _keep(p, rate, key, b)) @ (v_b / (1.0 - rate))
        probs[b] = p
    return y, (q, k, v, starts, num_heads, rate, key, probs)


def attention_backward(dy: Array, cache: Any) -> tuple[Array, Array, Array]:
    """dy (N, C) -> dq, dk, dv (N, C)."""
    q, k, v, starts, num_heads, rate, key, probs = cache
    dq, dk, dv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    for b, rows in _sequences(starts):
        dy_b, q_b, k_b, v_b = (_heads(x[rows], num_heads) for x in (dy, q, k, v))  # (H, S, D) each
        p = probs[b]
        keep = _keep(p, rate, key, b)  # drawn again
        dkept = dy_b / (1.0 - rate)  # forward: y = (p * keep) @ v / (1 - rate)
        _heads(dv[rows], num_heads)[...] = (p * keep).transpose(0, 2, 1) @ dkept
        dp = dkept @ v_b.transpose(0, 2, 1)
        dp *= keep
        # forward: p = softmax(scores · scale), whose derivative is p · (dp - Σ_j p·dp)
        dp -= np.einsum("hij,hij->hi", dp, p)[:, :, None]
        dp *= p
        dp *= 1.0 / math.sqrt(q_b.shape[2])
        _heads(dq[rows], num_heads)[...] = dp @ k_b  # forward: scores = q @ kᵀ
        _heads(dk[rows], num_heads)[...] = dp.transpose(0, 2, 1) @ q_b  # forward: scores = q @ kᵀ
    return dq, dk, dv


def _sequences(starts: Array) -> list[tuple[int, slice]]:
    """Each sequence that has tokens: its number and its rows."""
    return [(b, slice(start, stop)) for b, (start, stop) in enumerate(pairwise(starts.tolist())) if stop > start]


def _heads(x: Array, num_heads: int) -> Array:
    """(S, C) -> (H, S, D), a view."""
    return x.reshape(len(x), num_heads, -1).transpose(1, 0, 2)


def _softmax(scores: Array, scale: float) -> Array:
    """softmax(scale · scores) along the last axis, in place; less the row's maximum, so that exp cannot overflow."""
    scores -= scores.max(axis=-1, keepdims=True)
    scores *= scale
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def _keep(p: Array, rate: float, key: Key, stream: int) -> Array | float:
    """Where dropout leaves p (H, S, S) alone; what it leaves is yet to be divided by 1 - rate."""
    return keep_mask(key, stream, p.shape, rate) if rate else 1.0
