"""Cross-entropy over the vocabulary, for the target rows alone, against the tied token embedding.

Logits are made for a chunk of the vocabulary at a time and thrown away: backward makes them again. That costs one more
product in the head (2 % of a step of roberta-base), bounds the memory whatever M and V are, and lets each row of the
table's gradient be written once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

CHUNK = 1 << 22  # logits held at a time; 16 MiB in float32, so that every pass finds them in a large cache


class CrossEntropyCache(NamedTuple):
    """What `cross_entropy_forward` keeps for `cross_entropy_backward`."""

    h: Array  # (M, C)
    table: Array  # (V, C)
    bias: Array  # (V,)
    labels: Array  # (M,) int
    log_sums: Array  # (M,), log Σ_v exp(z_mv)


def logits(h: Array, table: Array, bias: Array) -> Array:
    """h (M, C), table (V, C), bias (V,) -> (M, V): h · tableᵀ + bias."""
    z: Array = h @ table.T  # (M, V)
    z += bias  # (M, V)
    return z


def cross_entropy_forward(
    h: Array, table: Array, bias: Array, labels: Array
) -> tuple[tuple[Array, Array], CrossEntropyCache]:
    """loss_m = log Σ_v exp(z_mv) - z_m,label, with z = h · tableᵀ + bias.

    h (M, C), table (V, C), bias (V,), labels (M,) int -> losses (M,), predicted (M,) the most likely id
    """
    top, total = np.full(len(h), -np.inf, h.dtype), np.zeros_like(h, shape=len(h))  # (M,) each: max z, Σ exp(z - top)
    of_label = np.empty_like(top)  # (M,)  z of the label
    predicted = np.zeros(len(h), np.int64)  # (M,)
    for ids in _chunks(len(h), len(table)):
        z = logits(h, table[ids], bias[ids])  # (M, W), for the W ids of this chunk of the vocabulary
        here, column = _labels_in(ids, labels)  # (L,) each: the L rows whose label is in the chunk
        of_label[here] = z[here, column]  # (L,)
        highest = z.max(axis=1)  # (M,)
        predicted = np.where(highest > top, z.argmax(axis=1) + ids.start, predicted)  # (M,)
        before, top = top, np.maximum(top, highest)  # (M,) each
        z -= top[:, None]  # (M, W)  so that exp cannot overflow
        total *= np.exp(before - top)  # (M,)
        total += np.exp(z, out=z).sum(axis=1)  # (M,)
    log_total = np.log(total)  # (M,)
    losses = log_total - (of_label - top)  # (M,)  not log Σ exp(z) - of_label, which would round away digits of both
    return (losses, predicted), CrossEntropyCache(h, table, bias, labels, log_total + top)


def cross_entropy_backward(dlosses: Array, cache: CrossEntropyCache) -> tuple[Array, Array, Array]:
    """dlosses (M,) -> dh (M, C), dtable (V, C), dbias (V,)."""
    h, table, bias = cache.h, cache.table, cache.bias
    dh, dtable, dbias = np.zeros_like(h), np.empty_like(table), np.empty_like(bias)  # (M, C), (V, C), (V,)
    for ids in _chunks(len(h), len(table)):
        dz = _dlogits(dlosses, cache, ids)  # (M, W)
        dh += dz @ table[ids]  # (M, C)  forward: z = h @ table.T
        np.matmul(dz.T, h, out=dtable[ids])  # (W, C)  forward: z = h @ table.T
        dz.sum(axis=0, out=dbias[ids])  # (W,)  forward: z += bias
    return dh, dtable, dbias


def cross_entropy_backward_input(dlosses: Array, cache: CrossEntropyCache) -> tuple[Array, Array]:
    """The same without dtable, for a frozen table. dlosses (M,) -> dh (M, C), dbias (V,)."""
    h, table, bias = cache.h, cache.table, cache.bias
    dh, dbias = np.zeros_like(h), np.empty_like(bias)  # (M, C), (V,)
    for ids in _chunks(len(h), len(table)):
        dz = _dlogits(dlosses, cache, ids)  # (M, W)
        dh += dz @ table[ids]  # (M, C)  forward: z = h @ table.T
        dz.sum(axis=0, out=dbias[ids])  # (W,)  forward: z += bias
    return dh, dbias


def _dlogits(dlosses: Array, cache: CrossEntropyCache, ids: slice) -> Array:
    """dz = dloss · (softmax(z) - onehot(label)), (M, W), for the W ids of one chunk of the vocabulary."""
    h, table, bias, labels, log_sums = cache
    z = logits(h, table[ids], bias[ids])  # (M, W)  made again rather than kept
    z -= log_sums[:, None]  # (M, W)
    dz: Array = np.exp(z, out=z)  # (M, W)  forward: log Σ exp(z); its derivative is the softmax
    dz[_labels_in(ids, labels)] -= 1.0  # (L,)  forward: - z[label]
    dz *= dlosses[:, None]  # (M, W)
    return dz


def _labels_in(ids: slice, labels: Array) -> tuple[Array, Array]:
    """The L rows whose label is in this chunk of the vocabulary, (L,), and its column in the chunk, (L,)."""
    here = np.flatnonzero((labels >= ids.start) & (labels < ids.stop))  # (L,)
    return here, labels[here] - ids.start


def _chunks(M: int, V: int) -> Iterator[slice]:
    """Ranges of ids, one after the other, that cover the vocabulary, W of them at a time."""
    size = max(1, CHUNK // max(1, M))
    return (slice(start, min(start + size, V)) for start in range(0, V, size))
