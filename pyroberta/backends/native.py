"""The ops table's rows in C++. `pyroberta._native` does the arithmetic; this file decides what is kept for backward.

Each row has the signature and the meaning of the row of the same name in `pyroberta.ops`. Two things differ. The caches
that are defined here hold other things than the reference's. The gradient of a matrix of weights is a `Product` or a
`Scatter`, which `accumulate` computes while it adds it to the sum.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, wraps
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

import pyroberta._native as _native
from pyroberta.ops import REFERENCE, Gradient, Kernel, Key, Ops, Rows
from pyroberta.ops.dropout import DropoutCache
from pyroberta.ops.gather import GatherCache
from pyroberta.ops.gelu import GeluCache
from pyroberta.ops.layer_norm import LayerNormCache
from pyroberta.ops.linear import LinearCache
from pyroberta.ops.low_rank import LowRankCache

KEPT_LOGITS = 1 << 24  # logits kept for backward, 64 MiB in float32; with more, rows go through in parts, twice
FAR = 4.0  # times gamma: a beta from there on costs x̂ more than two binary digits
SMALLEST_GAMMA = 1e-20
# How rows with products begin.
PRODUCTS = ("linear_", "low_rank_", "feed_forward_", "logits", "cross_entropy_", "accumulate")


@dataclass(frozen=True)
class Product:
    """The gradient leftᵀ right (I, O), of left (N, I) and right (N, O). `accumulate` computes it."""

    left: Array
    right: Array


@dataclass(frozen=True)
class Scatter:
    """The gradient (V, C) whose row rows_n is the sum of the values_n. rows (N,) int, values (N, C)."""

    rows: Array
    values: Array


def accumulate(total: Array, gradient: Gradient) -> Array:
    """total += gradient, in place."""
    if isinstance(gradient, Product):
        _native.gemm(gradient.left.T, gradient.right, total, accumulate=True)
    elif isinstance(gradient, Scatter):
        _native.scatter_add(total, gradient.rows, gradient.values)
    else:
        total += gradient
    return total


def adam_step(
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    learning_rate: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    scale: float = 1.0,
    decay: float = 0.0,
    is_finite: bool = True,
) -> None:
    """See `pyroberta.ops.adam`."""
    if is_finite:
        _native.adam_step(w, g, m, v, learning_rate, beta_1, beta_2, epsilon, scale, decay)


squared_norm = _native.squared_norm


def all_finite(*arrays: Array) -> bool:
    """See `pyroberta.ops.arrays`."""
    return all(math.isfinite(_native.squared_norm(x.reshape(-1))) or bool(np.isfinite(x).all()) for x in arrays)


def gather_forward(x: Array, rows: Array) -> tuple[Array, GatherCache]:
    """See `pyroberta.ops.gather`."""
    return _native.gather_forward(x, rows), GatherCache(rows, len(x))


def gather_backward(dy: Array, cache: GatherCache) -> Array:
    """See `pyroberta.ops.gather`."""
    dx = np.zeros((cache.num_rows, dy.shape[1]), dy.dtype)
    _native.scatter_add(dx, cache.rows, dy)
    return dx


class NativeEmbeddingCache(NamedTuple):
    """What `embedding_forward` keeps for `embedding_backward`."""

    ids: Array  # (N,) int
    positions: Array  # (N,) int


def embedding_forward(
    ids: Array, positions: Array, tokens: Array, position_rows: Array
) -> tuple[Array, NativeEmbeddingCache]:
    """See `pyroberta.ops.embedding`."""
    return _native.embedding_forward(tokens, position_rows, ids, positions), NativeEmbeddingCache(ids, positions)


def embedding_backward(dy: Array, cache: NativeEmbeddingCache) -> tuple[Gradient, Gradient]:
    """See `pyroberta.ops.embedding`."""
    return Scatter(cache.ids, dy), Scatter(cache.positions, dy)


def prepare(kernel: Array) -> Kernel:
    """See `pyroberta.ops.linear`. The prepared kernel is a copy in the order in which the innermost loop reads it."""
    return _native.prepare(kernel)


def _plain(kernel: Kernel) -> Array:
    plain: Array = kernel.kernel if isinstance(kernel, _native.Prepared) else kernel
    return plain


def linear_forward(x: Array, kernel: Kernel, bias: Array) -> tuple[Array, LinearCache]:
    """See `pyroberta.ops.linear`. The cache's kernel may be a prepared one."""
    return _native.linear_forward(x, kernel, bias), LinearCache(x, kernel)


def linear_backward(dy: Array, cache: LinearCache) -> tuple[Array, Gradient, Gradient]:
    """See `pyroberta.ops.linear`."""
    return linear_backward_input(dy, cache), Product(cache.x, dy), _native.column_sums(dy)


def linear_backward_input(dy: Array, cache: LinearCache) -> Array:
    """See `pyroberta.ops.linear`."""
    dx: Array = _native.matmul(dy, _plain(cache.kernel).T)
    return dx


def low_rank_forward(x: Array, a: Array, b: Array, scale: float) -> tuple[Array, LowRankCache]:
    """See `pyroberta.ops.low_rank`."""
    h = _native.matmul(x, a)
    h *= scale
    return _native.matmul(h, b), LowRankCache(x, a, b, h, scale)


def low_rank_backward(dy: Array, cache: LowRankCache) -> tuple[Array, Gradient, Gradient]:
    """See `pyroberta.ops.low_rank`."""
    x, a, b, h, scale = cache
    dh = _native.matmul(dy, b.T)
    dh *= scale
    return _native.matmul(dh, a.T), Product(x, dh), Product(h, dy)


def layer_norm_forward(x: Array, gamma: Array, beta: Array, epsilon: float) -> tuple[Array, LayerNormCache]:
    """See `pyroberta.ops.layer_norm`."""
    y, x_hat, inverse_std = _native.layer_norm_forward(x, gamma, beta, epsilon)
    return y, LayerNormCache(x_hat, inverse_std, gamma)


def layer_norm_backward(dy: Array, cache: LayerNormCache) -> tuple[Array, Gradient, Gradient]:
    """See `pyroberta.ops.layer_norm`."""
    dx, _, dgamma, dbeta = _native.layer_norm_backward(dy, *cache, 0.0, (0, 0), None, None, None)
    return dx, dgamma, dbeta


def gelu_forward(x: Array) -> tuple[Array, GeluCache]:
    """See `pyroberta.ops.gelu`."""
    y, slope = _native.gelu_forward(x)
    return y, GeluCache(slope)  # the reference's `gelu_backward` reads it


class NativeFeedForwardCache(NamedTuple):
    """What `feed_forward_forward` keeps for `feed_forward_backward`: its arguments, and the input of GELU."""

    x: Array  # (N, C)
    kernel_1: Kernel  # (C, F)
    bias_1: Array  # (F,)
    kernel_2: Kernel  # (F, C)
    kept: list[Array]  # f (N, F), the input of GELU; empty once a backward has overwritten it


def feed_forward_forward(
    x: Array, kernel_1: Kernel, bias_1: Array, kernel_2: Kernel, bias_2: Array
) -> tuple[Array, NativeFeedForwardCache]:
    """See `pyroberta.ops.feed_forward`. The cache keeps the input of GELU alone. Backward overwrites it."""
    f, g = _native.expand_forward(x, kernel_1, bias_1)
    h: Array = _native.linear_forward(g, kernel_2, bias_2)
    return h, NativeFeedForwardCache(x, kernel_1, bias_1, kernel_2, [f])


def feed_forward_backward(
    dh: Array, cache: NativeFeedForwardCache
) -> tuple[Array, Gradient, Gradient, Gradient, Gradient]:
    """See `pyroberta.ops.feed_forward`."""
    df, g = _expand_backward(dh, cache)
    dx = _native.matmul(df, _plain(cache.kernel_1).T)
    return dx, Product(cache.x, df), _native.column_sums(df), Product(g, dh), _native.column_sums(dh)


def feed_forward_backward_input(dh: Array, cache: NativeFeedForwardCache) -> Array:
    """See `pyroberta.ops.feed_forward`."""
    df, _ = _expand_backward(dh, cache)
    dx: Array = _native.matmul(df, _plain(cache.kernel_1).T)
    return dx


def _expand_backward(dh: Array, cache: NativeFeedForwardCache) -> tuple[Array, Array]:
    """The gradient of GELU's input, and GELU's output, in the place of the input that was kept or is made again."""
    f = cache.kept.pop() if cache.kept else _native.linear_forward(cache.x, cache.kernel_1, cache.bias_1)
    return _native.expand_backward(dh, _plain(cache.kernel_2), f), f


def dropout_forward(
    x: Array, rate: float, key: Key, starts: Array | None = None, numbers: Array | None = None, rows: Rows = None
) -> tuple[Array, DropoutCache | None]:
    """See `pyroberta.ops.dropout`."""
    if rate == 0.0:
        return x, None
    return _native.dropout(x, rate, key, starts, numbers, rows), DropoutCache(rate, key, starts, numbers, rows)


def dropout_backward(dy: Array, cache: DropoutCache | None) -> Array:
    """See `pyroberta.ops.dropout`."""
    if cache is None:
        return dy
    dx: Array = _native.dropout(dy, *cache)
    return dx


class NativeAddNormCache(NamedTuple):
    """What `add_norm_forward` keeps for `add_norm_backward`: what x̂ follows from, and the columns in which it does not.
    C_kept is their number.
    """

    y: Array  # (N, C)
    gamma: Array  # (C,)
    beta: Array  # (C,)
    columns: Array  # (C_kept,) int
    x_hat: Array  # (N, C_kept), in these columns
    inverse_std: Array  # (N,)
    dropout: DropoutCache  # of no effect at a rate of 0


def add_norm_forward(
    h: Array,
    x: Array,
    gamma: Array,
    beta: Array,
    epsilon: float,
    rate: float,
    key: Key,
    starts: Array | None = None,
    numbers: Array | None = None,
    rows: Rows = None,
) -> tuple[Array, NativeAddNormCache]:
    """See `pyroberta.ops.add_norm`. The cache has no x̂. Backward computes it as (y - beta) / gamma, since y is kept
    anyway.

    If beta is far larger than gamma, or if a row hardly varies, y has too few digits of x̂. Then x̂ is kept.
    """
    dropout = DropoutCache(rate, key, starts, numbers, rows)
    y, x_hat, inverse_std = _native.add_norm_forward(h, x, gamma, beta, epsilon, *dropout)
    size, flattest = np.abs(gamma), 1.0 - epsilon * float(inverse_std.max(initial=0.0)) ** 2  # the least variance of x̂
    is_far = (np.abs(beta) >= FAR * size) | (size < SMALLEST_GAMMA) | (flattest < 1.0 / FAR)
    columns = np.flatnonzero(is_far)
    return y, NativeAddNormCache(y, gamma, beta, columns, x_hat[:, columns], inverse_std, dropout)


def add_norm_backward(dy: Array, cache: NativeAddNormCache) -> tuple[Array, Array, Gradient, Gradient]:
    """See `pyroberta.ops.add_norm`."""
    x_hat = _native.x_hat_of(cache.y, cache.gamma, cache.beta)
    x_hat[:, cache.columns] = cache.x_hat
    dx, dh, dgamma, dbeta = _native.layer_norm_backward(dy, x_hat, cache.inverse_std, cache.gamma, *cache.dropout)
    return dh, dx, dgamma, dbeta


class NativeAttentionCache(NamedTuple):
    """What `attention_forward` keeps for `attention_backward`: the arguments of both, and for each row and head the
    largest score and the sum of the exponentials of the scores less that one.
    """

    q: Array  # (N, C); (R, C) with query rows
    k: Array  # (N, C)
    v: Array  # (N, C)
    y: Array  # (N, C); (R, C) with query rows
    maxima: Array  # (N, H); (R, H) with query rows
    sums: Array  # (N, H); (R, H) with query rows
    starts: Array  # (B+1,) int
    num_heads: int  # H
    rate: float
    key: tuple[int, int]
    numbers: Array | None  # (B,) int
    query_rows: Array | None  # (R,) int


def attention_forward(
    q: Array,
    k: Array,
    v: Array,
    starts: Array,
    num_heads: int,
    rate: float,
    key: Key,
    numbers: Array | None = None,
    query_rows: Rows = None,
) -> tuple[Array, NativeAttentionCache]:
    """See `pyroberta.ops.attention`. The cache has no probabilities. It keeps each row's largest score and the sum of
    its exponentials.
    """
    y, maxima, sums = _native.attention_forward(q, k, v, starts, num_heads, rate, key, numbers, query_rows)
    return y, NativeAttentionCache(q, k, v, y, maxima, sums, starts, num_heads, rate, key, numbers, query_rows)


def attention_backward(dy: Array, cache: NativeAttentionCache) -> tuple[Array, Array, Array]:
    """See `pyroberta.ops.attention`."""
    dq, dk, dv = _native.attention_backward(dy, *cache)
    return dq, dk, dv


def logits(h: Array, table: Array, bias: Array) -> Array:
    """See `pyroberta.ops.cross_entropy`."""
    z: Array = _native.logits(h, table, bias)
    return z


class NativeCrossEntropyCache(NamedTuple):
    """What `cross_entropy_forward` keeps for `cross_entropy_backward`: what the reference keeps, and logits."""

    h: Array  # (M, C)
    table: Array  # (V, C)
    bias: Array  # (V,)
    labels: Array  # (M,) int
    log_sums: Array  # (M,), log Σ_v exp(z_mv)
    kept: list[Array]  # z (M, V), if there are few enough; empty once a backward has overwritten them


def cross_entropy_forward(
    h: Array, table: Array, bias: Array, labels: Array
) -> tuple[tuple[Array, Array], NativeCrossEntropyCache]:
    """See `pyroberta.ops.cross_entropy`. Up to `KEPT_LOGITS` logits are kept. Backward overwrites them."""
    parts = [
        _native.cross_entropy_forward(h[rows], table, bias, labels[rows])[: None if is_only else 3]
        for rows, is_only in _parts(h, table)
    ]
    losses, predicted, log_sums = (np.concatenate([part[i] for part in parts]) for i in range(3))
    kept = [z for part in parts for z in part[3:]]
    return (losses, predicted), NativeCrossEntropyCache(h, table, bias, labels, log_sums, kept)


def cross_entropy_backward(dlosses: Array, cache: NativeCrossEntropyCache) -> tuple[Array, Gradient, Gradient]:
    """See `pyroberta.ops.cross_entropy`."""
    h, table, bias = cache.h, cache.table, cache.bias
    slopes = _slopes(dlosses, cache)
    if len(parts := _parts(h, table)) == 1:
        dz = next(slopes)
        return _native.matmul(dz, table), Product(dz, h), _native.column_sums(dz)
    dh, dtable, dbias = np.empty_like(h), np.zeros_like(table), np.zeros_like(bias)
    for (rows, _), dz in zip(parts, slopes, strict=True):
        _native.gemm(dz, table, dh[rows], accumulate=False)
        _native.gemm(dz.T, h[rows], dtable, accumulate=True)
        dbias += _native.column_sums(dz)
    return dh, dtable, dbias


def cross_entropy_backward_input(dlosses: Array, cache: NativeCrossEntropyCache) -> tuple[Array, Gradient]:
    """See `pyroberta.ops.cross_entropy`."""
    h, table, bias = cache.h, cache.table, cache.bias
    dh, dbias = np.empty_like(h), np.zeros_like(bias)
    for (rows, _), dz in zip(_parts(h, table), _slopes(dlosses, cache), strict=True):
        _native.gemm(dz, table, dh[rows], accumulate=False)
        dbias += _native.column_sums(dz)
    return dh, dbias


def _parts(h: Array, table: Array) -> list[tuple[slice, bool]]:
    """The rows of h in parts whose logits are few enough to be held, and whether that is all of them at once."""
    size = max(1, KEPT_LOGITS // len(table))
    return [(slice(start, start + size), len(h) <= size) for start in range(0, max(1, len(h)), size)]


def _slopes(dlosses: Array, cache: NativeCrossEntropyCache) -> Iterator[Array]:
    """dz of each part: from the logits that were kept, which are used up, or made again."""
    h, table, bias, labels, log_sums, kept = cache
    for rows, _ in _parts(h, table):
        z = kept.pop() if kept else _native.logits(h[rows], table, bias)
        _native.cross_entropy_slopes(z, dlosses[rows], log_sums[rows], labels[rows])
        yield z


@cache
def native_ops() -> Ops:
    """Returns the ops table with a row in C++ for every op that gains by it."""
    rows = {name: row for name, row in globals().items() if name in Ops.__dataclass_fields__}
    return replace(REFERENCE, name="native", **rows)


@cache
def native_blas_ops() -> Ops:
    """Returns the ops table whose products of matrices are those of NumPy's BLAS, for machines on which that is faster.

    Raises:
        ImportError: if the functions of NumPy's BLAS can't be found.
    """
    library = _numpys_blas()

    def with_blas(name: str, row: Callable[..., Any]) -> Callable[..., Any]:
        if not name.startswith(PRODUCTS):
            return row

        @wraps(row)
        def call(*arguments: Any) -> Any:
            try:  # the first thing, so that no interrupt comes before it
                _native.use_blas(library)
                return row(*arguments)
            finally:
                try:
                    _native.use_blas(None)
                finally:
                    _native.use_blas(None)  # should an interrupt have come just before the other one

        return call

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: _native.end_calls_before_fork(library))
    return replace(native_ops().wrapped(with_blas), name="native-blas", prepare=REFERENCE.prepare)


def _numpys_blas() -> Any:
    """The library that NumPy's own products call, found by the names that builds of NumPy give its functions."""
    names = ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath")  # NumPy 2; NumPy 1
    umath = ctypes.CDLL(next(sys.modules[name].__file__ for name in names if name in sys.modules))

    def address(name: str) -> int:
        function = getattr(umath, name, None)  # looks in the libraries that it is linked with, too
        return ctypes.cast(function, ctypes.c_void_p).value or 0 if function else 0

    for prefix, suffix in itertools.product(("scipy_", ""), ("64_", "", "$NEWLAPACK$ILP64", "$NEWLAPACK")):
        products = [address(f"{prefix}cblas_{letter}gemm{suffix}") for letter in "sd"]
        if all(products):
            threads = [address(f"{prefix}openblas_{verb}_num_threads{suffix}") for verb in ("get", "set")]
            return _native.make_blas(*products, "64" in suffix, *(threads if all(threads) else (0, 0)))
    raise ImportError(f"NumPy {np.__version__} has no BLAS whose cblas_sgemm can be found")
