"""The ops table's rows in CUDA. An extension does the arithmetic; this file decides what is kept for backward.

The extension is given as an argument, since there are two of one kind: `pyroberta._cuda`, and `_cuda_sim`, in which a
simulator runs the kernels on the CPU for the tests. Arrays are the extension's: they live on a device, and only rows of
the same table read them. Numbers are float32, and scalars, of the shape (), float64.

Each row has the signature and the meaning of the row of the same name in `pyroberta.ops`. The cache holds other things.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray
from numpy.typing import DTypeLike

from pyroberta.ops import Ops
from pyroberta.ops.dropout import DropoutCache
from pyroberta.ops.gather import GatherCache
from pyroberta.ops.linear import LinearCache
from pyroberta.ops.low_rank import LowRankCache

Array = Any  # an array on a device


SHORT_FROM = 80  # the compute capability from which on tensor cores multiply bfloat16
KEPT_LOGITS = 1 << 26  # logits kept for backward, 256 MiB; with more, rows go through in parts, twice


class Product(NamedTuple):
    """The gradient leftᵀ right (I, O), of left (N, I) and right (N, O). `accumulate` computes it."""

    left: Array
    right: Array


class Scatter(NamedTuple):
    """The gradient (V, C) whose row rows_n is the sum of the values_n. rows (N,) int, values (N, C)."""

    rows: ndarray
    values: Array


class NormCache(NamedTuple):
    """What `add_norm_forward` keeps for `add_norm_backward`, and `layer_norm_forward` likewise."""

    x_hat: Array  # (N, C)
    inverse_std: Array  # (N,)
    gamma: Array  # (C,)
    dropout: DropoutCache  # of no effect at a rate of 0


class FeedForwardCache(NamedTuple):
    """What `feed_forward_forward` keeps for `feed_forward_backward`."""

    x: Array  # (N, C)
    kernel_1: Array  # (C, F)
    f: Array  # (N, F), the input of GELU
    kernel_2: Array  # (F, C)


class AttentionCache(NamedTuple):
    """What `attention_forward` keeps for `attention_backward`: the arguments of both, and for each row and head the
    largest score and the sum of the exponentials of the scores less that one.
    """

    q: Array  # (N, C); (R, C) with query rows
    k: Array  # (N, C)
    v: Array  # (N, C)
    y: Array  # (N, C); (R, C) with query rows
    maxima: Array  # (N, H); (R, H) with query rows
    sums: Array  # (N, H); (R, H) with query rows
    settings: tuple[Any, ...]  # starts, num_heads, rate, key, numbers, query_rows


class CrossEntropyCache(NamedTuple):
    """What `cross_entropy_forward` keeps for `cross_entropy_backward`."""

    h: Array  # (M, C)
    table: Array  # (V, C)
    bias: Array  # (V,)
    labels: ndarray  # (M,) int
    log_sums: Array  # (M,)
    kept: list[Array]  # the logits (M, V); none if they were too many, or once a backward has used them up


def _parts(h: Array, table: Array) -> list[slice]:
    """The rows of h in parts whose logits are few enough to be held."""
    M, size = h.shape[0], max(1, KEPT_LOGITS // table.shape[0])
    return [slice(start, min(start + size, M)) for start in range(0, max(1, M), size)]


class Rows:
    """The rows, on one device. With `rounds` the factors of products of matrices are rounded to bfloat16."""

    def __init__(self, extension: Any, context: Any, rounds: bool) -> None:
        self.cuda, self.context, self.rounds = extension, context, rounds

    # --- arrays -------------------------------------------------------------------------------------------------------

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """See `pyroberta.ops.arrays`."""
        return self.context.zeros(shape, dtype)

    def view(self, x: Array, start: int, stop: int, shape: tuple[int, ...]) -> Array:
        """See `pyroberta.ops.arrays`."""
        return self.cuda.view(x, start, stop, shape)

    def fill(self, x: Array, value: float) -> None:
        """See `pyroberta.ops.arrays`."""
        self.cuda.fill(x, value)

    def copy(self, target: Array, source: Array) -> None:
        """See `pyroberta.ops.arrays`. Both are float32."""
        self.cuda.copy(target, source)

    def maximum(self, largest: Array, x: Array) -> None:
        """See `pyroberta.ops.arrays`."""
        self.cuda.maximum(largest, x)

    def running_mean(self, mean: Array, x: Array, keep: float) -> None:
        """See `pyroberta.ops.arrays`."""
        self.cuda.running_mean(mean, x, keep)

    def clip(self, x: Array, limit: float) -> None:
        """See `pyroberta.ops.arrays`."""
        self.cuda.clip(x, limit)

    def add(self, x: Any, y: Any) -> Array:
        """See `pyroberta.ops.arrays`. One of two scalars may be a number of Python."""
        if self._is_scalar(x) or self._is_scalar(y):
            return self.cuda.add_scalars(self._scalar(x), self._scalar(y))
        return self.cuda.add(x, y)

    def squared_norm(self, x: Array) -> Array:
        """See `pyroberta.ops.adam`."""
        return self.cuda.squared_norm(x)

    def clip_scale(self, square: Any, limit: float) -> Array:
        """See `pyroberta.ops.arrays`."""
        return self.cuda.clip_scale(self._scalar(square), limit)

    def all_finite(self, *arrays: Array) -> Array:
        """See `pyroberta.ops.arrays`. The scalar is 0 or 1, in int32."""
        is_finite = self._flag(True)
        for x in arrays:
            self.cuda.clear_unless_finite(x, is_finite)
        return is_finite

    def to_host(self, x: Array) -> Any:
        """See `pyroberta.ops.arrays`. Waits for the device. bfloat16 comes as float32."""
        return self.cuda.to_host(x)

    def from_host(self, x: ndarray) -> Array:
        """See `pyroberta.ops.arrays`."""
        return self.context.from_host(x)

    def _is_scalar(self, x: Any) -> bool:
        return isinstance(x, float) or (isinstance(x, self.cuda.Array) and x.dtype == np.float64)

    def _scalar(self, x: Any) -> Array:
        """A number of Python as a scalar; a scalar as it is."""
        return self.context.from_host(np.array(x, np.float64)) if isinstance(x, int | float) else x

    def _flag(self, x: Any) -> Array:
        """The same of what is true or false."""
        return self.context.from_host(np.array(x, np.int32)) if isinstance(x, bool) else x

    # --- functions of single numbers ----------------------------------------------------------------------------------

    def tanh_forward(self, x: Array) -> tuple[Array, Array]:
        """See `pyroberta.ops.tanh`. The cache is y."""
        y = self.cuda.tanh_forward(x)
        return y, y

    def tanh_backward(self, dy: Array, cache: Array) -> Array:
        """See `pyroberta.ops.tanh`."""
        return self.cuda.tanh_backward(dy, cache)

    def gelu_forward(self, x: Array) -> tuple[Array, Array]:
        """See `pyroberta.ops.gelu`. The cache is x."""
        return self.cuda.gelu_forward(x), x

    def gelu_backward(self, dy: Array, cache: Array) -> Array:
        """See `pyroberta.ops.gelu`."""
        return self.cuda.gelu_backward(dy, cache)

    # --- norms and dropout --------------------------------------------------------------------------------------------

    def layer_norm_forward(self, x: Array, gamma: Array, beta: Array, epsilon: float) -> tuple[Array, NormCache]:
        """See `pyroberta.ops.layer_norm`."""
        return self.add_norm_forward(None, x, gamma, beta, epsilon, 0.0, (0, 0))

    def layer_norm_backward(self, dy: Array, cache: NormCache) -> tuple[Array, Array, Array]:
        """See `pyroberta.ops.layer_norm`."""
        _, *gradients = self.add_norm_backward(dy, cache)
        return tuple(gradients)

    def add_norm_forward(
        self, h: Array, x: Array, gamma: Array, beta: Array, epsilon: float, rate: float, key: tuple[int, int],
        starts: ndarray | None = None, numbers: ndarray | None = None, rows: ndarray | None = None,
    ) -> tuple[Array, NormCache]:  # fmt: skip
        """See `pyroberta.ops.add_norm`."""
        dropout = DropoutCache(rate, key, starts, numbers, rows)
        y, x_hat, inverse_std = self.cuda.add_norm_forward(h, x, gamma, beta, epsilon, *dropout)
        return y, NormCache(x_hat, inverse_std, gamma, dropout)

    def add_norm_backward(self, dy: Array, cache: NormCache) -> tuple[Array, Array, Array, Array]:
        """See `pyroberta.ops.add_norm`."""
        x_hat, inverse_std, gamma, dropout = cache
        dx, dh, dgamma, dbeta = self.cuda.add_norm_backward(dy, x_hat, inverse_std, gamma, *dropout)
        return dh, dx, dgamma, dbeta

    def dropout_forward(
        self, x: Array, rate: float, key: tuple[int, int],
        starts: ndarray | None = None, numbers: ndarray | None = None, rows: ndarray | None = None,
    ) -> tuple[Array, DropoutCache | None]:  # fmt: skip
        """See `pyroberta.ops.dropout`."""
        if rate == 0.0:
            return x, None
        cache = DropoutCache(rate, key, starts, numbers, rows)
        return self.cuda.dropout(x, *cache), cache

    def dropout_backward(self, dy: Array, cache: DropoutCache | None) -> Array:
        """See `pyroberta.ops.dropout`."""
        return dy if cache is None else self.cuda.dropout(dy, *cache)

    # --- rows by number -----------------------------------------------------------------------------------------------

    def gather_forward(self, x: Array, rows: ndarray) -> tuple[Array, GatherCache]:
        """See `pyroberta.ops.gather`."""
        return self.cuda.gather_forward(x, rows), GatherCache(rows, x.shape[0])

    def gather_backward(self, dy: Array, cache: GatherCache) -> Array:
        """See `pyroberta.ops.gather`."""
        return self.accumulate(self.zeros((cache.num_rows, dy.shape[1]), np.float32), Scatter(cache.rows, dy))

    def embedding_forward(
        self, ids: ndarray, positions: ndarray, tokens: Array, position_rows: Array
    ) -> tuple[Array, tuple[ndarray, ndarray]]:
        """See `pyroberta.ops.embedding`. The cache is ids and positions."""
        return self.cuda.embedding_forward(tokens, position_rows, ids, positions), (ids, positions)

    def embedding_backward(self, dy: Array, cache: tuple[ndarray, ndarray]) -> tuple[Scatter, Scatter]:
        """See `pyroberta.ops.embedding`."""
        ids, positions = cache
        return Scatter(ids, dy), Scatter(positions, dy)

    # --- products of matrices -----------------------------------------------------------------------------------------

    def _product(
        self, a: Array, b: Array, a_turned: bool = False, b_turned: bool = False, bias: Array = None, scale: float = 1.0
    ) -> Array:
        """scale · a b + bias, where a turned factor is the transpose of the array."""
        return self.cuda.multiply(a, b, a_turned, b_turned, bias, scale, self.rounds)

    def prepare(self, kernel: Array) -> Array:
        """See `pyroberta.ops.linear`."""
        return kernel

    def linear_forward(self, x: Array, kernel: Array, bias: Array) -> tuple[Array, LinearCache]:
        """See `pyroberta.ops.linear`."""
        return self._product(x, kernel, bias=bias), LinearCache(x, kernel)

    def linear_backward(self, dy: Array, cache: LinearCache) -> tuple[Array, Product, Array]:
        """See `pyroberta.ops.linear`."""
        return self.linear_backward_input(dy, cache), Product(cache.x, dy), self.cuda.column_sums(dy)

    def linear_backward_input(self, dy: Array, cache: LinearCache) -> Array:
        """See `pyroberta.ops.linear`."""
        return self._product(dy, cache.kernel, b_turned=True)

    def low_rank_forward(self, x: Array, a: Array, b: Array, scale: float) -> tuple[Array, LowRankCache]:
        """See `pyroberta.ops.low_rank`."""
        h = self._product(x, a, scale=scale)
        return self._product(h, b), LowRankCache(x, a, b, h, scale)

    def low_rank_backward(self, dy: Array, cache: LowRankCache) -> tuple[Array, Product, Product]:
        """See `pyroberta.ops.low_rank`."""
        x, a, b, h, scale = cache
        dh = self._product(dy, b, b_turned=True, scale=scale)
        return self._product(dh, a, b_turned=True), Product(x, dh), Product(h, dy)

    def feed_forward_forward(
        self, x: Array, kernel_1: Array, bias_1: Array, kernel_2: Array, bias_2: Array
    ) -> tuple[Array, FeedForwardCache]:
        """See `pyroberta.ops.feed_forward`. The cache keeps the input of GELU."""
        f = self._product(x, kernel_1, bias=bias_1)
        h = self._product(self.cuda.gelu_forward(f), kernel_2, bias=bias_2)
        return h, FeedForwardCache(x, kernel_1, f, kernel_2)

    def feed_forward_backward(self, dh: Array, cache: FeedForwardCache) -> tuple[Array, Product, Array, Product, Array]:
        """See `pyroberta.ops.feed_forward`."""
        df, sums = self._feed_forward_slopes(dh, cache), self.cuda.column_sums
        dx = self._product(df, cache.kernel_1, b_turned=True)
        return dx, Product(cache.x, df), sums(df), Product(self.cuda.gelu_forward(cache.f), dh), sums(dh)

    def feed_forward_backward_input(self, dh: Array, cache: FeedForwardCache) -> Array:
        """See `pyroberta.ops.feed_forward`."""
        return self._product(self._feed_forward_slopes(dh, cache), cache.kernel_1, b_turned=True)

    def _feed_forward_slopes(self, dh: Array, cache: FeedForwardCache) -> Array:
        """The gradient of GELU's input."""
        return self.cuda.gelu_backward(self._product(dh, cache.kernel_2, b_turned=True), cache.f)

    # --- attention ----------------------------------------------------------------------------------------------------

    def attention_forward(
        self, q: Array, k: Array, v: Array, starts: ndarray, num_heads: int, rate: float, key: tuple[int, int],
        numbers: ndarray | None = None, query_rows: ndarray | None = None,
    ) -> tuple[Array, AttentionCache]:  # fmt: skip
        """See `pyroberta.ops.attention`. Heads have at most 256 columns."""
        settings = starts, num_heads, rate, key, numbers, query_rows
        y, maxima, sums = self.cuda.attention_forward(q, k, v, *settings, self.rounds)
        return y, AttentionCache(q, k, v, y, maxima, sums, settings)

    def attention_backward(self, dy: Array, cache: AttentionCache) -> tuple[Array, Array, Array]:
        """See `pyroberta.ops.attention`."""
        *arrays, settings = cache
        dq, dk, dv = self.cuda.attention_backward(dy, *arrays, *settings, self.rounds)
        return dq, dk, dv

    # --- the loss -----------------------------------------------------------------------------------------------------

    def logits(self, h: Array, table: Array, bias: Array) -> Array:
        """See `pyroberta.ops.cross_entropy`."""
        return self._product(h, table, b_turned=True, bias=bias)

    def cross_entropy_forward(
        self, h: Array, table: Array, bias: Array, labels: ndarray
    ) -> tuple[tuple[Array, Array], CrossEntropyCache]:
        """See `pyroberta.ops.cross_entropy`. Up to `KEPT_LOGITS` logits are kept; backward overwrites them."""
        size, (M, _) = (h.shape[0],), h.shape
        losses, log_sums = self.zeros(size, np.float32), self.zeros(size, np.float32)
        predicted, kept = self.zeros(size, np.int64), []
        for rows in _parts(h, table):
            z = self.logits(self._rows(h, rows), table, bias)
            of_rows = (self._rows(x, rows) for x in (losses, predicted, log_sums))
            self.cuda.cross_entropy_forward(z, labels[rows], *of_rows)
            if rows.stop - rows.start == M:
                kept.append(z)
        return (losses, predicted), CrossEntropyCache(h, table, bias, labels, log_sums, kept)

    def cross_entropy_backward(self, dlosses: Array, cache: CrossEntropyCache) -> tuple[Array, Product | Array, Array]:
        """See `pyroberta.ops.cross_entropy`."""
        h, table = cache.h, cache.table
        parts = _parts(h, table)
        if len(parts) == 1:
            dz = self._dlogits(dlosses, cache, parts[0])
            return self._product(dz, table), Product(dz, h), self.cuda.column_sums(dz)
        dtable = self.zeros(table.shape, np.float32)
        dh, dbias = self._dh_in_parts(dlosses, cache, dtable)
        return dh, dtable, dbias

    def cross_entropy_backward_input(self, dlosses: Array, cache: CrossEntropyCache) -> tuple[Array, Array]:
        """See `pyroberta.ops.cross_entropy`."""
        return self._dh_in_parts(dlosses, cache, None)

    def _dh_in_parts(self, dlosses: Array, cache: CrossEntropyCache, dtable: Array | None) -> tuple[Array, Array]:
        """dh and dbias; what the table's gradient is, is added to `dtable`."""
        h, table = cache.h, cache.table
        dh, dbias = self.zeros(h.shape, np.float32), self.zeros(cache.bias.shape, np.float32)
        for rows in _parts(h, table):
            dz, h_ = self._dlogits(dlosses, cache, rows), self._rows(h, rows)
            self.cuda.add_product(self._rows(dh, rows), dz, table, False, False, self.rounds)
            self.accumulate(dbias, self.cuda.column_sums(dz))
            if dtable is not None:
                self.accumulate(dtable, Product(dz, h_))
        return dh, dbias

    def _dlogits(self, dlosses: Array, cache: CrossEntropyCache, rows: slice) -> Array:
        """The gradient of the logits of some rows: in the place of those that were kept, or that are made again."""
        h, table, bias, labels, log_sums, kept = cache
        z = kept.pop() if kept else self.logits(self._rows(h, rows), table, bias)
        self.cuda.cross_entropy_slopes(z, self._rows(dlosses, rows), self._rows(log_sums, rows), labels[rows])
        return z

    def _rows(self, x: Array, rows: slice) -> Array:
        """These rows of an array, or numbers of a vector; they share its memory."""
        return self.cuda.rows(x, rows.start, rows.stop)

    # --- the update ---------------------------------------------------------------------------------------------------

    def accumulate(self, total: Array, gradient: Array | Product | Scatter) -> Array:
        """See `pyroberta.ops.adam`."""
        if isinstance(gradient, Product):
            self.cuda.add_product(total, gradient.left, gradient.right, True, False, self.rounds)
        elif isinstance(gradient, Scatter):
            self.cuda.scatter_add(total, gradient.rows, gradient.values)
        else:
            self.cuda.accumulate(total, gradient)
        return total

    def adam_step(
        self, w: Array, g: Array, m: Array, v: Array, learning_rate: float, beta_1: float, beta_2: float,
        epsilon: float, scale: Any = 1.0, decay: float = 0.0, is_finite: Any = True,
    ) -> None:  # fmt: skip
        """See `pyroberta.ops.adam`."""
        numbers = learning_rate, beta_1, beta_2, epsilon, self._scalar(scale), decay, self._flag(is_finite)
        self.cuda.adam_step(w, g, m, v, *numbers)


@cache
def _context(extension: Any, device: int) -> Any:
    return extension.Context(device)


@cache
def cuda_ops(extension: Any, precision: str = "float32", device: int = 0) -> Ops:
    """Returns the ops table of a device.

    Args:
        extension: `pyroberta._cuda`, or `_cuda_sim`.
        precision: `"float32"` or `"mixed_bfloat16"`.
        device: its number, as CUDA counts. All tables of a device share its memory.

    Raises:
        ValueError: if the device can't multiply in this precision.
        RuntimeError: if CUDA does not find the device.
    """
    context = _context(extension, device)
    if precision != "float32" and context.capability < SHORT_FROM:
        raise ValueError(
            f"{precision} needs a GPU of compute capability 8.0 or above, whose tensor cores multiply bfloat16; device "
            f"{device} is {context.about()}: take float32"
        )
    rows = Rows(extension, context, rounds=precision != "float32")
    names = [field.name for field in fields(Ops) if field.name != "name"]
    return Ops(name="cuda", **{name: getattr(rows, name) for name in names})
