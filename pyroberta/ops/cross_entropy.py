"""Cross-entropy over the vocabulary, for the masked rows alone, against the tied token table.

Logits are made for a chunk of rows at a time and thrown away: backward makes them again. That costs one more product
in the head (2 % of a step of roberta-base) and bounds the memory whatever M and V are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy import ndarray as Array

CHUNK = 1 << 24  # logits held at a time; 64 MiB in float32


def logits(h: Array, table: Array, bias: Array) -> Array:
    """h (M, C), table (V, C), bias (V,) -> (M, V): h · tableᵀ + bias."""
    z: Array = h @ table.T
    z += bias
    return z


def cross_entropy_forward(h: Array, table: Array, bias: Array, labels: Array) -> tuple[tuple[Array, Array], Any]:
    """loss_m = log Σ_v exp(z_mv) - z_m,label, with z = h · tableᵀ + bias.

    h (M, C), table (V, C), bias (V,), labels (M,) int -> losses (M,), predicted (M,) the most likely id
    """
    losses = np.empty(len(h), h.dtype)
    log_sums = np.empty(len(h), h.dtype)
    predicted = np.empty(len(h), np.int64)
    for rows in _chunks(len(h), len(table)):
        z = logits(h[rows], table, bias)
        predicted[rows] = z.argmax(axis=1)
        top = z.max(axis=1)
        z -= top[:, None]  # so that exp cannot overflow
        of_label = z[np.arange(len(z)), labels[rows]]
        log_sum = np.log(np.exp(z, out=z).sum(axis=1))
        losses[rows] = log_sum - of_label  # before `top` is added, which would round away digits of both
        log_sums[rows] = log_sum + top
    return (losses, predicted), (h, table, bias, labels, log_sums)


def cross_entropy_backward(dlosses: Array, cache: Any) -> tuple[Array, Array, Array]:
    """dlosses (M,) -> dh (M, C), dtable (V, C), dbias (V,)."""
    h, table, bias, _, _ = cache
    dh, dtable, dbias = np.empty_like(h), np.zeros_like(table), np.zeros_like(bias)
    for rows in _chunks(len(h), len(table)):
        dz = _dlogits(dlosses, cache, rows)
        dh[rows] = dz @ table  # forward: z = h @ table.T
        dtable += dz.T @ h[rows]  # forward: z = h @ table.T
        dbias += dz.sum(axis=0)  # forward: z += bias
    return dh, dtable, dbias


def cross_entropy_backward_input(dlosses: Array, cache: Any) -> Array:
    """The gradient for h alone, where table and bias are frozen. dlosses (M,) -> dh (M, C)."""
    h, table, *_ = cache
    dh: Array = np.empty_like(h)
    for rows in _chunks(len(h), len(table)):
        dh[rows] = _dlogits(dlosses, cache, rows) @ table  # forward: z = h @ table.T
    return dh


def _dlogits(dlosses: Array, cache: Any, rows: slice) -> Array:
    """dz = dloss · (softmax(z) - onehot(label)), for one chunk of rows."""
    h, table, bias, labels, log_sums = cache
    z = logits(h[rows], table, bias)  # made again rather than kept
    z -= log_sums[rows, None]
    dz: Array = np.exp(z, out=z)  # forward: log Σ exp(z); its derivative is the softmax
    dz[np.arange(len(dz)), labels[rows]] -= 1.0  # forward: - z[label]
    dz *= dlosses[rows, None]
    return dz


def _chunks(M: int, V: int) -> Iterator[slice]:
    size = max(1, CHUNK // V)
    return (slice(start, min(start + size, M)) for start in range(0, M, size))
