"""Multi-head self-attention over packed sequences (Vaswani et al. 2017, arXiv:1706.03762, section 3.2).

The file begins with the plain pair: one sequence, one head, no dropout. `attention_forward` and `attention_backward`
below are the op that the model calls. They take the same three steps, under the same names, for every sequence and
every head of a batch. The steps have the numbers that they have in docs/ops/attention.md.

The models that `backend="numpy"` makes call this file; the default backend has its own attention, in C++.

A key is one of two things here: row j of k is the key of token j, and the argument `key` is the dropout key, the two
numbers that name a dropout mask.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from pyroberta.ops.dropout import keep_mask


class OneHeadCache(NamedTuple):
    """What `one_head_forward` keeps for `one_head_backward`."""

    q: Array  # (R_b, D)
    k: Array  # (S, D)
    v: Array  # (S, D)
    p: Array  # (R_b, S)


def one_head_forward(q: Array, k: Array, v: Array) -> tuple[Array, OneHeadCache]:
    """y = softmax(q kᵀ / √D) v: row i of y is a weighted average of the rows of v; row i of q chooses the weights.

    q (R_b, D), k, v (S, D), S at least 1 -> y (R_b, D). Row i of q belongs to a token that reads, row j of k and v to a
    token that is read. If all tokens of a sequence read, R_b is S; the two letters tell the axes of (R_b, S) apart. D
    is the number of columns of one head.
    """
    scores = q @ k.T / math.sqrt(q.shape[1])  # (R_b, S)  step 1: how much token i wants to read of token j
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))  # (R_b, S)  step 2: at most 1, so exp cannot overflow
    p = powers / powers.sum(axis=1, keepdims=True)  # (R_b, S)  step 2: p = softmax(scores); each row sums to 1
    y = p @ v  # (R_b, D)  step 3: the average of what token i reads
    return y, OneHeadCache(q, k, v, p)


def one_head_backward(dy: Array, cache: OneHeadCache) -> tuple[Array, Array, Array]:
    """dy (R_b, D) -> dq (R_b, D), dk (S, D), dv (S, D): the forward's steps, from the last to the first."""
    q, k, v, p = cache
    dv = p.T @ dy  # (S, D)  step 3, forward: y = p @ v
    dp = dy @ v.T  # (R_b, S)  step 3, forward: y = p @ v
    average = (dp * p).sum(axis=1, keepdims=True)  # (R_b, 1)  of a row of dp, weighted by p
    dscores = p * (dp - average)  # (R_b, S)  step 2, forward: p = softmax(scores)
    dq = dscores @ k / math.sqrt(q.shape[1])  # (R_b, D)  step 1, forward: scores = q @ k.T / √D
    dk = dscores.T @ q / math.sqrt(q.shape[1])  # (S, D)  step 1, forward: scores = q @ k.T / √D
    return dq, dk, dv


class AttentionCache(NamedTuple):
    """What `attention_forward` keeps for `attention_backward`: its arguments, and the probabilities."""

    q: Array  # (N, C); (R, C) with query rows
    k: Array  # (N, C)
    v: Array  # (N, C)
    starts: Array  # (B+1,) int
    num_heads: int  # H
    rate: float
    key: tuple[int, int]  # of dropout
    numbers: Array | None  # (B,) int
    query_rows: Array | None  # (R,) int
    probs: list[Array]  # B of them: p of sequence b, (H, R_b, S)


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
) -> tuple[Array, AttentionCache]:
    """Per sequence and head: y = dropout(softmax(q kᵀ / √D)) v.

    A sequence attends to itself alone. Nothing is padded, so there is no attention mask. Head h has the columns
    [h·D : (h+1)·D].

    q, k, v (N, C), starts (B+1,) -> y (N, C). `query_rows` (R,) selects the rows that attend, in rising order; q and y
    are then (R, C). By default all rows attend. The dropout key `key` has a stream of random numbers for each sequence
    (docs/ops/dropout.md). The mask of sequence b is drawn from stream numbers[b], in the order (h, i, j), with i and j
    counted from the sequence's start; `numbers` (B,) is 0, 1, 2, ... by default.
    """
    # The steps of `one_head_forward`, with three differences. All heads of a sequence go at once: NumPy's @ multiplies
    # stacks of matrices. Dropout comes between steps 2 and 3. √D and 1 - rate divide where fewer operations are needed.
    y = np.empty_like(q)  # (N, C), or (R, C)
    probs = [np.empty((num_heads, 0, 0), q.dtype)] * (len(starts) - 1)  # (H, 0, 0) where a sequence has no tokens
    for b, q_rows, k_rows, i in _sequences(starts, query_rows):
        q_b = heads(q[q_rows], num_heads)  # (H, R_b, D)
        k_b, v_b = (heads(x[k_rows], num_heads) for x in (k, v))  # (H, S, D) each
        products = q_b @ k_b.transpose(0, 2, 1)  # (H, R_b, S)  step 1, not yet divided by √D
        p = _softmax(products, 1.0 / math.sqrt(q_b.shape[2]))  # (H, R_b, S)  step 2; the same array
        keep = _keep(p, rate, key, numbers, b, i)  # (H, R_b, S)  dropout
        heads(y[q_rows], num_heads)[...] = (p * keep) @ (v_b / (1.0 - rate))  # (H, R_b, D)  step 3
        probs[b] = p
    return y, AttentionCache(q, k, v, starts, num_heads, rate, key, numbers, query_rows, probs)


def attention_backward(dy: Array, cache: AttentionCache) -> tuple[Array, Array, Array]:
    """dy (N, C) -> dq, dk, dv (N, C); with `query_rows`, dy and dq are (R, C)."""
    q, k, v, starts, num_heads, rate, key, numbers, query_rows, probs = cache
    # As in forward, √D and 1 - rate divide where fewer operations are needed: ddropped is divided by 1 - rate, as
    # dy_b is. ddropped, dp and dscores are one array.
    dq, dk, dv = np.empty_like(q), np.empty_like(k), np.empty_like(v)  # (N, C) each; dq (R, C) with query rows
    for b, q_rows, k_rows, i in _sequences(starts, query_rows):
        q_b = heads(q[q_rows], num_heads)  # (H, R_b, D)
        k_b, v_b = (heads(x[k_rows], num_heads) for x in (k, v))  # (H, S, D) each
        dy_b = heads(dy[q_rows], num_heads) / (1.0 - rate)  # (H, R_b, D)
        p = probs[b]  # (H, R_b, S)
        keep = _keep(p, rate, key, numbers, b, i)  # (H, R_b, S)  drawn again
        heads(dv[k_rows], num_heads)[...] = (p * keep).transpose(0, 2, 1) @ dy_b  # (H, S, D)  step 3
        ddropped = dy_b @ v_b.transpose(0, 2, 1)  # (H, R_b, S)  step 3, forward: (p * keep) @ v_b / (1 - rate)
        dp = np.multiply(ddropped, keep, out=ddropped)  # (H, R_b, S)  dropout, forward: p * keep
        average = np.einsum("hij,hij->hi", dp, p)[:, :, None]  # (H, R_b, 1)  of a row of dp, weighted by p
        dp -= average  # (H, R_b, S)  from here on dp - average
        dscores = np.multiply(dp, p, out=dp)  # (H, R_b, S)  step 2, forward: p = softmax(scores)
        dscores *= 1.0 / math.sqrt(q_b.shape[2])  # (H, R_b, S)  from here on dscores / √D, for both lines of step 1
        heads(dq[q_rows], num_heads)[...] = dscores @ k_b  # (H, R_b, D)  step 1, forward: scores = q_b @ k_bᵀ
        heads(dk[k_rows], num_heads)[...] = dscores.transpose(0, 2, 1) @ q_b  # (H, S, D)  step 1
    return dq, dk, dv


def _sequences(starts: Array, query_rows: Array | None) -> Iterator[tuple[int, slice, slice, slice | Array]]:
    """Each sequence that has tokens: its number, its rows of q, its rows of k and v, the positions of its queries."""
    for b, (start, stop) in enumerate(pairwise(starts.tolist())):
        k_rows = slice(start, stop)
        if stop == start:
            continue
        if query_rows is None:
            yield b, k_rows, k_rows, slice(None)
        else:
            first, last = np.searchsorted(query_rows, (start, stop)).tolist()
            yield b, slice(first, last), k_rows, query_rows[first:last] - start  # (R_b,)


def heads(x: Array, num_heads: int) -> Array:
    """Returns the columns of each head: (S, C) -> (H, S, D), a view."""
    return x.reshape(len(x), num_heads, x.shape[1] // num_heads).transpose(1, 0, 2)


def _softmax(x: Array, scale: float) -> Array:
    """softmax(scale · x) along the last axis, in place; less the row's maximum, so that exp cannot overflow.

    x (H, R_b, S) -> the same array
    """
    x -= x.max(axis=-1, keepdims=True)  # (H, R_b, S)
    x *= scale  # (H, R_b, S)
    np.exp(x, out=x)  # (H, R_b, S)
    x /= x.sum(axis=-1, keepdims=True)  # (H, R_b, S)
    return x


def _keep(
    p: Array, rate: float, key: tuple[int, int], numbers: Array | None, b: int, i: slice | Array
) -> Array | float:
    """Which elements of p (H, R_b, S) survive dropout, (H, R_b, S) bool; 1.0 without dropout.

    i (R_b,) are the positions of p's rows in the sequence. The caller divides by 1 - rate.
    """
    H, _, S = p.shape
    return keep_mask(key, b if numbers is None else int(numbers[b]), (H, S, S), rate)[:, i] if rate else 1.0
