"""How far an op's result may be from the true one: a bound for every number, from a forward error analysis.

Each op has a function here, under its own name. It takes the op's arguments in float64, and as `dy` the gradient of
forward's (first) result; it gives a bound for each result of forward and backward, as an array of the result's shape:

>>> x, kernel, bias, dy = (np.ones(shape) for shape in [(1, 3), (3, 2), (2,), (1, 2)])
>>> bound = linear(Arithmetic("float32"), x, kernel, bias, dy=dy)["y"]
>>> np.round(bound / 2.0**-24, 3)  # the three products are rounded four times each, the bias three times
array([[15., 15.]])

The bounds hold for every implementation that evaluates the op's formula in that precision: for any order of a sum, with
or without fused multiply-adds, block by block or at once. They hold for every input of this domain: numbers are finite,
nothing overflows on the way, layer norm's epsilon is above 0 in that precision, and a rate is below 1. So a result
beyond its bound is a mistake, and never bad luck.

A bound is never NaN and never negative. It is infinite where nothing can be said. ValueError is raised where the
question has no answer: an epsilon that is 0 in that precision, a sum so long that its roundings leave no digit, and a
softmax whose scores may be off by more than `MOST`.

What the analysis uses (Higham, Accuracy and Stability of Numerical Algorithms, chapters 2 and 3): one operation gives
(a ∘ b)(1 + δ) with |δ| <= u, half of the precision's eps, or loses at most `tiny`, the smallest normal number, to
underflow. That loss is an absolute error of the intermediate, and what multiplies the intermediate multiplies it too. n
roundings one after another change a number by at most γ(n) = n·u / (1 - n·u) of itself. A sum of n terms takes n - 1
additions, in whatever order. Each but the last rounds a sum of some of the terms, which is at most M, the larger one of
the sum of the positive terms and that of the negative ones: half of the sum of all magnitudes and of the magnitude of
the sum. The last one rounds the sum itself, which may be much smaller. So a sum Σ is off by at most
γ(n - 2)·M·(1 + u) + u·|Σ|.

Where an op has values inside, as attention has scores, its function adds a bound for each of them, and for the gradient
of each, to a dict that it is given as `inner`. `of_values` gives all bounds under the names of `oracle.plain`.

Two results within their bounds differ from each other by at most the sum of both. The bounds are themselves computed in
float64; a part in a million is added for that. A bound for float64 itself is right to first order only: the true result
is known no better than the op computes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.ops.cross_entropy import CHUNK
from pyroberta.ops.dropout import Key, keep_mask, keep_rows
from pyroberta.ops.gelu import erf
from pyroberta.oracle.plain import PLAIN

# The functions that are not correctly rounded. The unit is u for relative errors (1 ulp is 1 to 2 u). "All" means: over
# every float32 number of the range.
EXP = 4.0  # relative. C++ 1.99 (all, -87.3 to 0), NumPy 2.4 3.57 (all), CUDA's expf at most 2 ulp
LOG = 4.0  # relative, from 1 on. NumPy 3.96 (all, 1 to 2¹⁸), C++ 1/2 ulp, CUDA's logf 1 ulp
ERF = 2.0  # ulp, and u/32. Ours: a table's value and one addition, and 1/256 of their size from the rest of the series
ERFC = 9.0  # relative, for an exact argument. C++ 7.99 (all, |x| up to 13)
TANH = 2.5  # ulp. NumPy 1.37 (all) and, without AVX2, glibc's 2.19 (all); CUDA's tanhf at most 2
# The same of other implementations, in ulp. XLA's erf is off by up to 6.7, and torch 2.13's GELU on a CPU by what 11.2
# would make; XLA's tanh on a CPU by up to 4.90 (all float32, from 1e-4 to 20).
THEIR_ERF, THEIR_TANH = 12.0, 6.0

MOST = 300.0  # the error of a score up to which float64 still tells the true probability, and exp of it stays finite
BFLOAT16_U = 2.0**-8  # half of bfloat16's eps; its smallest normal number is float32's
BLOCK = 64  # numbers that a softmax in blocks looks at at once, at least
MOST_AT_ONCE = 1 << 22  # numbers of a product of matrices, whose bounds are worked out at once
REMADE, SMALLEST = 4.0, 1e-20  # x̂ may be made again from y where |beta| < 4 |gamma| and |gamma| is not smaller

# An error may be larger than float64's largest number: then it is infinite.
OVERFLOWS = np.errstate(over="ignore", invalid="ignore", under="ignore")

Bounds = dict[str, Array]  # by the result's name, in the order of forward's and then backward's
Inner = dict[str, Any]  # of what is inside an op, by the names of `oracle.plain`; a gradient's begins with d


def is_bfloat16(x: Array) -> bool:
    """Whether all numbers of an array of float32 are bfloat16's; False for another dtype.

    >>> is_bfloat16(np.float32([0.5, 3.0])), is_bfloat16(np.float32([0.1]))
    (True, False)
    """
    return x.dtype == np.float32 and not (np.ascontiguousarray(x).view(np.uint32) & 0xFFFF).any()


@dataclass(frozen=True)
class Near:
    """What is computed in place of `value`: some numbers within `error` of it. Both are float64 of the same shape."""

    value: Array
    error: Array

    @property
    def size(self) -> Array:
        """The largest magnitude of what is computed."""
        size: Array = np.abs(self.value)
        size += self.error
        return size

    @property
    def T(self) -> Near:
        """Turned."""
        return Near(self.value.T, self.error.T)

    def __neg__(self) -> Near:
        return Near(-self.value, self.error)


class Arithmetic:
    """Running error analysis: operations on `Near` numbers that widen the error by what the operation may add to it.

    >>> run = Arithmetic("float32")
    >>> a = run.multiply(exact([3.0]), exact([5.0]))  # rounded once
    >>> a.value, a.error / 2.0**-24
    (array([15.]), array([15.00000089]))
    """

    def __init__(self, precision: Any, erf_ulps: float = ERF, tanh_ulps: float = TANH) -> None:
        """precision: the name of one, or a dtype. erf_ulps, tanh_ulps: the error of its erf and its tanh."""
        self.erf_ulps, self.tanh_ulps = erf_ulps, tanh_ulps
        mixed = precision == "mixed_bfloat16"
        info = np.finfo("float32" if mixed else precision)
        self.dtype = info.dtype
        self.factor_u = BFLOAT16_U if mixed else 0.0  # to which factors of products are rounded
        self.u = float(info.eps) / 2.0
        self.tiny = float(info.smallest_normal)

    @classmethod
    def of_others(cls, precision: Any) -> Arithmetic:
        """The arithmetic of other implementations, whose functions may be further off than those measured here."""
        return cls(precision, THEIR_ERF, THEIR_TANH)

    def gamma(self, roundings: float) -> float:
        """γ(n): how far n roundings take a number from itself, relatively."""
        if roundings * self.u >= 0.5:
            raise ValueError(f"{roundings:g} roundings of {self.u:.1e} leave nothing; shorten the sum")
        return max(0.0, roundings) * self.u / (1.0 - max(0.0, roundings) * self.u)

    def ulp(self, x: Array) -> Array:
        """One unit in the last place of each number."""
        exponent = np.frexp(np.maximum(np.abs(x), self.tiny))[1]
        ulp: Array = np.ldexp(2.0 * self.u, exponent - 1)
        return ulp

    def additions(self, n: int, size: Array, total: Array) -> Array:
        """What adding up n terms may lose. size: the sum of their magnitudes; total: the magnitude of their sum.

        The error of the k-th addition is at most u times M and the errors e of those before it, so that
        e_k <= (1 + u) e_(k-1) + u·M, and after n - 2 of them e <= ((1 + u)ⁿ⁻² - 1)·M <= γ(n - 2)·M.
        """
        most = (size + total) / 2.0  # M
        lost: Array = _times(self.gamma(n - 2) * (1.0 + self.u), most) + _times(self.gamma(min(n - 1, 1)), total)
        return lost

    def factor(self, a: Near) -> Near:
        """A factor of a product of matrices, as the product takes it."""
        if not self.factor_u:
            return a
        return Near(a.value, a.error + self.factor_u * a.size + self.tiny)

    def of_factors(self, a: Array, b: Array) -> Array:
        """What the rounding of both factors makes of a product of matrices of these magnitudes."""
        if not self.factor_u:
            return np.zeros((a.shape[0], b.shape[1]))
        of_tiny = 2.0 * self.tiny * (a.sum(axis=1, keepdims=True) + b.sum(axis=0) + a.shape[1] * self.tiny)
        lost: Array = (2.0 + self.factor_u) * self.factor_u * _matmul(a, b) + of_tiny
        return lost

    def rounded(self, a: Near, roundings: float = 1.0) -> Near:
        """The same after so many roundings of itself."""
        if not roundings:
            return a
        return Near(a.value, a.error + self.gamma(roundings) * a.size + self.tiny)

    def add(self, a: Near, b: Near) -> Near:
        """a + b."""
        return self.rounded(Near(a.value + b.value, a.error + b.error))

    def multiply(self, a: Near, b: Near) -> Near:
        """a · b."""
        return self.rounded(_product(a, b))

    def divide(self, a: Near, b: Near) -> Near:
        """a / b; the error is infinite where b may be 0."""
        least = np.abs(b.value) - b.error
        with np.errstate(divide="ignore", invalid="ignore"):
            value = a.value / b.value
            error = np.where(least > 0.0, (a.error + _times(np.abs(value), b.error)) / least, np.inf)
        return self.rounded(Near(value, error))

    def sqrt(self, a: Near) -> Near:
        """√a, where neither a nor what is computed in its place is below 0. |√a - √b| is at most √|a - b|."""
        root = np.sqrt(np.maximum(a.value, 0.0))
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.where(a.error > 0.0, a.error / (root + np.sqrt(np.maximum(a.value - a.error, 0.0))), 0.0)
        error = np.fmin(error, np.sqrt(a.error))
        return self.rounded(Near(root, error))

    def dot(self, a: Near, b: Near, more: Array | None = None) -> Near:
        """a b (+ more), a product of matrices: each term is a product, and all of them are added in any order."""
        rows, columns = len(a.value), b.value.shape[1]
        if rows > 1 and rows * columns > MOST_AT_ONCE:
            step, b = max(1, MOST_AT_ONCE // columns), self.factor(b)
            found = Near(np.empty((rows, columns)), np.empty((rows, columns)))
            for some in (slice(start, start + step) for start in range(0, rows, step)):
                part = self._dot(self.factor(Near(a.value[some], a.error[some])), b, more)
                found.value[some], found.error[some] = part.value, part.error
            return found
        return self._dot(self.factor(a), self.factor(b), more)

    def _dot(self, a: Near, b: Near, more: Array | None) -> Near:
        """The product of two factors."""
        n = a.value.shape[-1]
        value, size = a.value @ b.value, _matmul(a.size, b.size)
        error = _times(self.gamma(min(n, 1)), size) + n * self.tiny
        if a.error.any():
            error = error + _matmul(a.error, b.size)
        if b.error.any():
            error = error + _matmul(np.abs(a.value), b.error)
        if more is not None:
            n, value, size = n + 1, value + more, size + np.abs(more)
        return Near(value, error + self.additions(n, size + error, np.abs(value) + error))

    def sum(self, a: Near, axis: int, roundings: float = 0.0) -> Near:
        """Σ a along an axis, in any order, where each term is rounded so often before."""
        n, size, value = a.value.shape[axis], a.size.sum(axis), a.value.sum(axis)
        error = a.error.sum(axis) + _times(self.gamma(roundings), size) + n * self.tiny
        return Near(value, error + self.additions(n, size + error, np.abs(value) + error))


def exact(value: Any) -> Near:
    """A number that is known."""
    value = np.asarray(value, np.float64)
    return Near(value, np.zeros(value.shape))  # unlike zeros_like it takes no memory


def _times(a: Any, b: Any) -> Array:
    """a · b of two magnitudes, where 0 · ∞ is 0: what is computed is finite, however little is known of it."""
    with np.errstate(over="ignore", invalid="ignore"):
        product: Array = np.asarray(a * b)
    lost = np.isnan(product)
    if lost.any():
        product = np.where(lost & ((a == 0.0) | (b == 0.0)), 0.0, product)
    return product


def _matmul(a: Array, b: Array) -> Array:
    """a b of magnitudes, where 0 · ∞ is 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        product: Array = a @ b
    if np.isnan(product).any():
        left, right = np.isinf(a), np.isinf(b)
        infinite = left.astype(np.float64) @ (b > 0.0) + (a > 0.0).astype(np.float64) @ right
        product = np.where(infinite > 0.0, np.inf, np.where(left, 0.0, a) @ np.where(right, 0.0, b))
    return product


def _product(a: Near, b: Near) -> Near:
    return Near(a.value * b.value, _times(np.abs(a.value), b.error) + _times(a.error, b.size))


def _errors(**results: Near | Array) -> Bounds:
    """The errors by name, with what their own rounding may have cost.

    An error is NaN only where a magnitude is beyond float64's range and was subtracted: nothing can be said there.
    """
    errors = {name: result.error if isinstance(result, Near) else result for name, result in results.items()}
    return {name: _widened(error) for name, error in errors.items()}


def _widened(error: Array) -> Array:
    widened = np.asarray(error * (1.0 + 1e-6))
    np.copyto(widened, np.inf, where=np.isnan(widened))
    return widened


# --- rows by number ---------------------------------------------------------------------------------------------------


@OVERFLOWS
def gather(run: Arithmetic, x: Array, rows: Array, *, dy: Array, inner: Inner | None = None) -> Bounds:
    """y is a copy; a row of dx is a sum of as many rows of dy as asked for it."""
    return _errors(y=np.zeros(dy.shape), dx=_scattered(run, dy, rows, len(x)))


@OVERFLOWS
def embedding(
    run: Arithmetic, ids: Array, positions: Array, tokens: Array, rows: Array, *, dy: Array, inner: Inner | None = None
) -> Bounds:
    """y is one addition; gradients are sums of rows, as gather's."""
    if inner is not None:
        inner |= _errors(of_tokens=np.zeros(dy.shape), of_positions=np.zeros(dy.shape))
    return _errors(
        y=run.add(exact(tokens[ids]), exact(rows[positions])),
        dtokens=_scattered(run, dy, ids, len(tokens)),
        drows=_scattered(run, dy, positions, len(rows)),
    )


def _scattered(run: Arithmetic, dy: Array, rows: Array, N: int) -> Array:
    size, total, count = np.zeros((N, dy.shape[1])), np.zeros((N, dy.shape[1])), np.bincount(rows, minlength=N)
    np.add.at(size, rows, np.abs(dy))
    np.add.at(total, rows, dy)
    bound = np.zeros_like(size)
    for n in np.unique(count[count > 1]):  # less are no sum
        bound[count == n] = run.additions(int(n), size[count == n], np.abs(total[count == n]))
    return bound


# --- products of matrices ---------------------------------------------------------------------------------------------


@OVERFLOWS
def linear(run: Arithmetic, x: Array, kernel: Array, bias: Array, *, dy: Array, inner: Inner | None = None) -> Bounds:
    """Sums of products: I terms and a bias for y, O for dx, N for dkernel; and of numbers, N for dbias."""
    return _errors(
        y=run.dot(exact(x), exact(kernel), bias),
        dx=run.dot(exact(dy), exact(kernel).T),
        dkernel=run.dot(exact(x).T, exact(dy)),
        dbias=run.sum(exact(dy), 0),
    )


@OVERFLOWS
def low_rank(
    run: Arithmetic, x: Array, a: Array, b: Array, scale: float, *, dy: Array, inner: Inner | None = None
) -> Bounds:
    """Two products one after another, each with the errors of the one before; between them the rounded scale."""
    factor, projected = run.rounded(exact(scale)), run.dot(exact(x), exact(a))
    h = run.multiply(projected, factor)
    dh = run.multiply(run.dot(exact(dy), exact(b).T), factor)
    if inner is not None:
        inner |= _errors(projected=projected, dprojected=dh)
    return _errors(
        y=run.dot(h, exact(b)),
        dx=run.dot(dh, exact(a).T),
        da=run.dot(exact(x).T, dh),
        db=run.dot(h.T, exact(dy)),
    )


@OVERFLOWS
def logits(run: Arithmetic, h: Array, table: Array, bias: Array) -> Bounds:
    """Sums of C products and a bias."""
    return _errors(z=run.dot(exact(h), exact(table).T, bias))


@OVERFLOWS
def gelu(run: Arithmetic, x: Array, *, dy: Array, inner: Inner | None = None) -> Bounds:
    """y and the slope inherit the absolute error of Φ, which is as large for x far below 0, where Φ itself is small."""
    y, slope, cdf = _gelu(run, exact(x))
    if inner is not None:
        inner |= _errors(cdf=cdf)
    return _errors(y=y, dx=run.multiply(exact(dy), slope))


def _gelu(run: Arithmetic, x: Near) -> tuple[Near, Near, Near]:
    """x Φ(x), Φ(x) + x φ(x), and Φ(x) itself."""
    value, u = x.value, run.u
    far = np.minimum(np.abs(value), 40.0)  # beyond, φ is 0 in any precision
    shift = np.minimum(x.error, 1.0)
    half, of_erf = far**2 / 2.0, erf(value * math.sqrt(0.5))
    cdf, tail, density = (1.0 + of_erf) / 2.0, (1.0 - np.abs(of_erf)) / 2.0, np.exp(-half) / math.sqrt(2.0 * math.pi)
    slope, bend = cdf + value * density, density * np.abs(2.0 - far**2)  # the derivatives of y; |the third| <= 0.8

    # Φ = (1 + erf(x/√2)) / 2: √½ and the product with it are rounded, erf, and the sum.
    by_erf = run.erf_ulps * run.ulp(np.abs(of_erf) + 1.13 * shift) + u / 32.0 + 4.0 * u * far * density + 2.0 * u * cdf
    # Φ = tail or 1 - tail, tail = erfc(|x|/√2) / 2: the argument of exp(-x²/2) is rounded, erfc, and the difference.
    by_erfc = tail * (ERFC + half) * u + np.where(value >= -shift, u, 0.0)
    of_cdf = np.maximum(by_erf / 2.0, by_erfc) + 20.0 * u * shift  # at a point that is `error` away
    # x φ(x): the argument of exp is rounded, exp, 1/√(2π), and two products.
    of_density = np.abs(value) * density * run.gamma(1.0) * (half + EXP + 3.0) + 20.0 * u * shift
    y = Near(value * cdf, np.abs(value) * of_cdf + _times(np.abs(slope), x.error) + 0.4 * x.error**2 + of_cdf * x.error)
    slope_error = of_cdf + of_density + _times(bend, x.error) + 0.4 * x.error**2 + x.size * run.tiny
    return run.rounded(y), run.rounded(Near(slope, slope_error)), Near(cdf, of_cdf)


@OVERFLOWS
def tanh(run: Arithmetic, x: Array, *, dy: Array, inner: Inner | None = None) -> Bounds:
    """y is one function; dx = dy (1 - y²) inherits its error and rounds the square, the difference and the product."""
    y = np.tanh(x)
    of_y = Near(y, run.tanh_ulps * run.ulp(y) + run.tiny)
    slope = run.add(exact(np.ones_like(y)), -run.multiply(of_y, of_y))
    return _errors(y=of_y, dx=run.multiply(exact(dy), slope))


@OVERFLOWS
def feed_forward(
    run: Arithmetic,
    x: Array,
    kernel_1: Array,
    bias_1: Array,
    kernel_2: Array,
    bias_2: Array,
    *,
    dy: Array,
    inner: Inner | None = None,
) -> Bounds:
    """linear, gelu and linear one after another, each with the errors of the one before."""
    f = run.dot(exact(x), exact(kernel_1), bias_1)
    g, slope, _ = _gelu(run, f)
    dg = run.dot(exact(dy), exact(kernel_2).T)
    df = run.multiply(dg, slope)
    if inner is not None:
        inner |= _errors(intermediate=f, activation=g, dactivation=dg, dintermediate=df)
    return _errors(
        h=run.dot(g, exact(kernel_2), bias_2),
        dx=run.dot(df, exact(kernel_1).T),
        dkernel_1=run.dot(exact(x).T, df),
        dbias_1=run.sum(df, 0),
        dkernel_2=run.dot(g.T, exact(dy)),
        dbias_2=run.sum(exact(dy), 0),
    )


# --- norms and dropout ------------------------------------------------------------------------------------------------


@OVERFLOWS
def dropout(
    run: Arithmetic,
    x: Array,
    rate: float,
    key: Key,
    starts: Array | None = None,
    numbers: Array | None = None,
    rows: Array | None = None,
    *,
    dy: Array,
    inner: Inner | None = None,
) -> Bounds:
    """1 / (1 - rate) is rounded, and the product with it. A rate of 0 does nothing."""
    keep = _kept(x.shape, rate, key, starts, numbers, rows)
    if inner is not None:
        inner |= _errors(keep=np.zeros(x.shape))
    return _errors(y=_dropped(run, exact(x), rate, keep), dx=_dropped(run, exact(dy), rate, keep))


def _kept(shape: tuple[int, int], rate: float, key: Key, *sequences: Array | None) -> Array:
    return keep_rows(key, shape, rate, *sequences).astype(np.float64) if rate else np.ones(shape)


def _dropped(run: Arithmetic, x: Near, rate: float, keep: Array) -> Near:
    scale = keep / (1.0 - rate)
    return run.rounded(Near(x.value * scale, _times(x.error, scale)), 2.0 if rate else 0.0)


@OVERFLOWS
def layer_norm(
    run: Arithmetic, x: Array, gamma: Array, beta: Array, epsilon: float, *, dy: Array, inner: Inner | None = None
) -> Bounds:
    """x̂ has the errors of x - mean and 1 / std's as a factor; y rounds twice, dx two means and four times."""
    norm = _Norm(run, exact(x), epsilon)
    dx, dgamma = norm.backward(dy, gamma, norm.x_hat_error)
    if inner is not None:
        inner |= norm.inner(dy, gamma)
    return _errors(y=norm.forward(gamma, beta), dx=dx, dgamma=dgamma, dbeta=run.sum(exact(dy), 0))


@OVERFLOWS
def add_norm(
    run: Arithmetic,
    h: Array,
    x: Array,
    gamma: Array,
    beta: Array,
    epsilon: float,
    rate: float,
    key: Key,
    starts: Array | None = None,
    numbers: Array | None = None,
    rows: Array | None = None,
    *,
    dy: Array,
    inner: Inner | None = None,
) -> Bounds:
    """Layer norm of a sum that is rounded; in backward x̂ may be (y - beta) / gamma, with the rounding of y too."""
    keep = _kept(h.shape, rate, key, starts, numbers, rows)
    dropped = _dropped(run, exact(h), rate, keep)
    total = run.add(exact(x), dropped)
    norm = _Norm(run, total, epsilon)
    y, size = norm.forward(gamma, beta), np.maximum(np.abs(gamma), SMALLEST)
    again = run.gamma(3.0) * norm.size + (run.gamma(1.0) * y.size + 3.0 * run.tiny) / size + run.tiny
    again = np.where((np.abs(beta) < REMADE * size) & (np.abs(gamma) >= SMALLEST), again, 0.0)
    dx, dgamma = norm.backward(dy, gamma, norm.x_hat_error + again)
    if inner is not None:
        inner |= _errors(keep=np.zeros(h.shape), dropped=dropped, sum=total, dsum=dx) | norm.inner(dy, gamma)
    return _errors(y=y, dh=_dropped(run, dx, rate, keep), dx=dx, dgamma=dgamma, dbeta=run.sum(exact(dy), 0))


class _Norm:
    """x̂ = (x - mean) / √(variance + epsilon) of each row.

    The error of the mean is the same for the whole row, so that the variance has its square alone, and the error of
    1 / std is the same factor for all of x̂. `ratio` is that factor's error, and
    `x_hat_error` the rest of the error of x̂.
    """

    def __init__(self, run: Arithmetic, x: Near, epsilon: float) -> None:
        C = x.value.shape[1]
        rounded_epsilon = float(np.asarray(epsilon).astype(run.dtype))
        if not rounded_epsilon > 0.0:
            raise ValueError(
                f"epsilon is {epsilon:g}, which is {rounded_epsilon:g} in {run.dtype}; a row of equal numbers then has "
                f"no norm: epsilon has to be at least {np.finfo(run.dtype).smallest_subnormal:g}"
            )
        mean = x.value.mean(axis=1, keepdims=True)
        centred = x.value - mean
        variance = np.square(centred).mean(axis=1, keepdims=True)
        self.run, self.divide = run, 0.0 if math.frexp(C)[0] == 0.5 else 1.0  # by C: exact if it is a power of 2
        of_mean = self.mean_error = self._mean(x).error
        apart = x.error + run.gamma(1.0) * (np.abs(centred) + x.error + of_mean) + run.tiny
        # Σ (c + apart + of_mean)² = Σ c² + 2 Σ c·apart + Σ (apart + of_mean)², since Σ c = 0; then squares and their
        # mean; epsilon and the sum with it
        of_square = 2.0 * np.abs(centred) * apart + np.square(apart + of_mean)
        of_variance = self.variance_error = self._mean(run.rounded(Near(np.square(centred), of_square))).error
        inside = variance + epsilon
        # A subnormal epsilon is rounded by more than γ(1).
        of_epsilon = max(run.gamma(1.0) * epsilon, abs(epsilon - rounded_epsilon))
        lost = (of_variance + of_epsilon + run.gamma(1.0) * (inside + of_variance)) / inside
        with np.errstate(divide="ignore", invalid="ignore"):
            # 1 / √(1 - lost) - 1, without the difference
            ratio = np.where(lost < 1.0, lost / (np.sqrt(1.0 - lost) + 1.0 - lost), np.inf)
        # A variance is not below 0, whatever was lost.
        ratio = np.minimum(ratio, np.sqrt(inside) / math.sqrt(min(epsilon, rounded_epsilon)))
        self.ratio = ratio + run.gamma(2.0) * (1.0 + ratio)  # root and division
        self.inverse_std = 1.0 / np.sqrt(inside)
        self.x_hat = centred * self.inverse_std
        self.x_hat_error = (apart + of_mean) * self.inverse_std * (1.0 + self.ratio)
        self.x_hat_error += run.gamma(1.0) * (np.abs(self.x_hat) * (1.0 + self.ratio) + self.x_hat_error) + run.tiny
        if rounded_epsilon >= 4.0 * run.tiny:  # so that epsilon makes up for what the squares lose to underflow
            largest = math.sqrt(C) * (1.01 + run.gamma(C + 4)) + np.abs(self.x_hat)  # no |x̂| is above √C
            self.x_hat_error = np.minimum(self.x_hat_error, largest)
        self.size = np.abs(self.x_hat) * (1.0 + self.ratio) + self.x_hat_error

    def forward(self, gamma: Array, beta: Array) -> Near:
        """gamma · x̂ + beta: a product and a sum."""
        x_hat = Near(self.x_hat, self.x_hat_error + self.ratio * np.abs(self.x_hat))
        return self.run.add(self.run.multiply(exact(gamma), x_hat), exact(beta))

    def inner(self, dy: Array, gamma: Array) -> Bounds:
        """Of the values between."""
        return _errors(
            mean=self.mean_error[:, 0],
            variance=self.variance_error[:, 0],
            x_hat=self.x_hat_error + self.ratio * np.abs(self.x_hat),
            dx_hat=self.run.multiply(exact(dy), exact(gamma)),
        )

    def backward(self, dy: Array, gamma: Array, x_hat_error: Array) -> tuple[Near, Near]:
        """dx = (dx̂ - mean(dx̂) - x̂ · mean(dx̂ · x̂)) / std, and dgamma.

        `x_hat_error` is the error of x̂ but for `ratio`.
        """
        run = self.run
        x_hat = Near(self.x_hat, x_hat_error + self.ratio * np.abs(self.x_hat))
        slope = run.multiply(exact(dy), exact(gamma))  # dx̂
        size = np.abs(slope.value)
        mean = self._mean(slope)
        terms = run.multiply(slope, Near(self.x_hat, x_hat_error))
        along = self._mean(Near(terms.value, terms.error + run.gamma(2.0) * self.ratio * size * np.abs(self.x_hat)))
        along = Near(along.value, along.error + self.ratio * (np.abs(along.value) + along.error))
        pull = run.multiply(x_hat, along)
        inner = slope.value - mean.value - pull.value
        error = slope.error + mean.error + pull.error
        # two additions, of any two first
        pairs = slope.value - mean.value, slope.value - pull.value, mean.value + pull.value
        rounding = run.gamma(1.0) * (np.max(np.abs(pairs), axis=0) + np.abs(inner) + 2.0 * error)
        dx = run.multiply(Near(inner, error + rounding), Near(self.inverse_std, self.ratio * self.inverse_std))
        return dx, run.sum(_product(exact(dy), x_hat), 0, roundings=1.0)

    def _mean(self, a: Near) -> Near:
        """Of each row: C - 1 additions and a division, which may underflow even where it does not round."""
        C = a.value.shape[1]
        total = self.run.sum(a, 1)
        of_total = total.error[:, None] / C + self.run.tiny
        return self.run.rounded(Near(total.value[:, None] / C, of_total), self.divide)


# --- softmax ----------------------------------------------------------------------------------------------------------


def _rescalings(n: int) -> int:
    """How often a softmax in blocks may scale what it has summed up down to a larger maximum."""
    return -(-n // BLOCK) - 1


def _grown(p: Array, log_p: Array, exponent: Array) -> Array:
    """p (exp(exponent) - 1), also where p is too small for float64 and exp(exponent) makes up for it."""
    grown: Array = np.where(exponent < 1.0, p * np.expm1(np.minimum(exponent, 1.0)), np.exp(log_p + exponent) - p)
    return grown


def _is_alone(below: Array, error: Array) -> Array:
    """Which number of each row is the maximum whatever its error is: its distance is 0, and exp(0) is 1, exactly.

    below: how far each is below the maximum; error: the largest of the row
    """
    alone: Array = (below == 0.0) & ((below <= 2.0 * error).sum(axis=1, keepdims=True) == 1)
    return alone


@OVERFLOWS
def attention(
    run: Arithmetic,
    q: Array,
    k: Array,
    v: Array,
    starts: Array,
    num_heads: int,
    rate: float,
    key: Key,
    numbers: Array | None = None,
    query_rows: Array | None = None,
    *,
    dy: Array,
    inner: Inner | None = None,
) -> Bounds:
    """exp turns the absolute error of a score, D products and their sum, into a relative one of p; the rest is sums.

    Of what is inside, each name has a list of (H, S, S), one for each sequence; that is for all rows alone.
    """
    D = q.shape[1] // num_heads
    y, dq, dk, dv = np.zeros_like(q), np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for b, (start, stop) in enumerate(pairwise(starts.tolist())):
        S = stop - start
        where = (
            np.arange(start, stop)
            if query_rows is None
            else np.flatnonzero((query_rows >= start) & (query_rows < stop))
        )
        places = (where if query_rows is None else query_rows[where]) - start
        number = b if numbers is None else int(numbers[b])
        keep = keep_mask(key, number, (num_heads, S, S), rate)[:, places] if rate and len(where) else None
        step = max(1, (1 << 18) // max(1, S))
        here: dict[str, list[Array]] = {}  # of what is inside, for each head and some of its rows
        for h in range(num_heads):
            keys, columns = slice(start, stop), slice(h * D, (h + 1) * D)
            for i in range(0, len(where), step):
                some = where[i : i + step]
                kept = 1.0 if keep is None else keep[h, i : i + step].astype(np.float64)
                parts = q[some, columns], k[keys, columns], v[keys, columns], dy[some, columns]
                found = _attend(run, *parts, rate, kept, len(where), here)
                y[some, columns], dq[some, columns] = found[:2]
                dk[keys, columns] += found[2]
                dv[keys, columns] += found[3]
        if inner is not None:
            for name in _INSIDE:
                rows = np.concatenate(here[name]) if where.size else np.zeros((0, S))
                inner.setdefault(name, []).append(rows.reshape(num_heads, len(where), S))
    return _errors(y=y, dq=dq, dk=dk, dv=dv)


_INSIDE = ("scores", "probabilities", "keep", "dropped", "ddropped", "dprobabilities", "dscores")


def _attend(
    run: Arithmetic,
    q: Array,
    k: Array,
    v: Array,
    dy: Array,
    rate: float,
    keep: Any,
    num_queries: int,
    here: dict[str, list[Array]],
) -> tuple[Array, Array, Array, Array]:
    """The errors of y, dq, dk and dv, the latter two these queries' share of those of `num_queries`.

    What is subtracted from the scores before exp divides out, whatever it is. If exp(score_j) is computed with a factor
    exp(ε_j), then y' - y = Σ p_j (exp(ε_j) - 1)(v_j - y) / Σ p_j exp(ε_j), where p and y are the true ones: where all
    v_j are alike, or one p_j is 1, no ε matters. What backward subtracts from dp is Σ dy y, or Σ p dp with forward's p,
    which sum to 1 up to rounding; p itself may be made again from the scores, with forward's sum.
    """
    (S, D), tiny, scale, gain = k.shape, run.tiny, 1.0 / math.sqrt(k.shape[1]), 1.0 / (1.0 - rate)
    drop = 2.0 if rate else 0.0  # 1 / (1 - rate) is rounded, and the product with it
    shrink = 0.0 if math.frexp(scale)[0] == 0.5 else 2.0  # 1 / √D likewise, unless it is a power of 2
    blocks = _rescalings(S)
    scores = q @ k.T * scale
    below = scores.max(axis=1, keepdims=True) - scores
    weights = np.exp(-below)
    total = weights.sum(axis=1, keepdims=True)
    p, log_p = weights / total, -below - np.log(total)
    # a score: D products and their sum, and the scale, which may have been q's or k's
    size = (np.abs(q) @ np.abs(k).T) * scale
    of_score = run.gamma(1.0 + shrink) * size + (D + 2) * tiny
    of_score += tiny * (np.abs(q).sum(axis=1)[:, None] + np.abs(k).sum(axis=1))
    of_score += run.of_factors(np.abs(q), np.abs(k).T) * scale
    of_score += run.additions(D, size + of_score, np.abs(scores) + of_score)
    most = of_score.max(axis=1, keepdims=True)
    # its distance from the maximum, and the scale where it comes after; then exp, once and for each larger maximum
    again = of_score + run.gamma(1.0 + shrink) * (below + of_score + most) + run.gamma(EXP) * (1 + blocks)
    exponent = np.where(_is_alone(below, most), of_score, again)
    if not again.max(initial=0.0) <= MOST:
        raise ValueError(
            f"the rounding of a score is {again.max():.1e}, so that its probability can be anything; "
            "the bounds are for smaller q and k"
        )
    # Σ p exp(ε) is from low = 1 - less to 1 + more. low is added up itself: the difference may have no digit left.
    factor = _grown(p, log_p, exponent)
    less = -(p * np.expm1(-exponent)).sum(axis=1, keepdims=True)
    low = np.exp(log_p - exponent).sum(axis=1, keepdims=True)
    more = factor.sum(axis=1, keepdims=True)
    flushed = (2.0 + blocks) * tiny  # exp may give 0 for a subnormal number, and each scaling may underflow
    moved = factor / low + flushed  # how much of its weight a key may lose or win, as a share of all

    def averaged(x: Array, mean: Array) -> Array:
        """The error of the mean of x (R, S) under p that ε alone makes; it stays a mean of what is there."""
        distance = np.abs(x - mean[:, None])
        error: Array = np.minimum(_times(moved, distance).sum(axis=1), distance.max(axis=1, initial=0.0))
        return error

    # p itself, where the maximum and the sum were kept and the score may have been made again: exp(ε) / Σ p exp(ε) is
    # from 1 / (1 + under) to 1 + above; then S - 1 additions, and 1 / sum and the product with it
    rise = (_grown(p, log_p, again) + p * less) / low
    under = np.expm1(again) + more + np.expm1(again) * more
    rounding = run.gamma(S + 1 + blocks)
    of_p = np.maximum(rise, p * (under / (1.0 + under))) + rounding * (p + rise) + flushed + 2.0 * tiny
    largest = np.minimum(p + rise, 1.0) * (1.0 + rounding)  # what is computed for p in forward, at most

    y, of_y = np.empty_like(q), np.empty_like(q)
    for d in range(D):
        values = keep * v[:, d] * gain
        y[:, d] = (p * values).sum(axis=1)
        of_y[:, d] = averaged(np.broadcast_to(values, p.shape), y[:, d])
        # each term p v: the product, dropout's factor, and the division by the sum if it comes before, which may
        # underflow
        terms = (largest * np.abs(values)).sum(axis=1)
        of_terms = run.gamma(2.0 + drop + blocks) * terms + tiny * np.broadcast_to(np.abs(values), p.shape).sum(axis=1)
        if run.factor_u:
            of_terms += run.factor_u * ((2.0 + run.factor_u) * terms)
            of_terms += 2.0 * tiny * (S + 1 + np.abs(v[:, d]).sum() * gain)
        of_y[:, d] += of_terms
        of_y[:, d] += run.additions(S, terms + of_terms, np.abs(y[:, d]) + of_y[:, d])
    # the sum of the weights, and 1 / sum and the product with it if that comes after; S products, v / (1 - rate), what
    # is scaled down to a larger maximum, and the last product may underflow
    of_y += run.gamma(S + 1 + blocks) * (np.abs(y) + of_y) + (S + 4 + blocks) * tiny

    dp = (dy @ v.T) * gain
    size = (np.abs(dy) @ np.abs(v).T) * gain
    of_dp = run.gamma(1.0 + drop) * size + (D * gain + 1) * tiny
    of_dp += run.of_factors(np.abs(dy), np.abs(v).T) * gain * (1.0 + run.gamma(D + drop))
    if rate:  # the factor may have been dy's or v's
        of_dp += tiny * (np.abs(dy).sum(axis=1)[:, None] + np.abs(v).sum(axis=1))
    of_dp += run.additions(D, size + of_dp, np.abs(dp) + of_dp)
    dp, of_dp = keep * dp, keep * of_dp
    delta = (p * dp).sum(axis=1)
    terms = (largest * (np.abs(dp) + of_dp)).sum(axis=1)
    by_keys = averaged(dp, delta) + (largest * of_dp).sum(axis=1)  # Σ_j p dp
    of_terms = run.gamma(3.0 + blocks) * terms
    by_keys += of_terms
    by_keys += run.additions(S, terms + of_terms, np.abs(delta) + by_keys)
    by_keys += run.gamma(S - 1 + blocks) * (np.abs(delta) + by_keys) + tiny * (np.abs(dp) + of_dp).sum(axis=1)
    by_numbers = (np.abs(dy) * of_y).sum(axis=1)  # or Σ_d dy y
    terms = (np.abs(dy) * (np.abs(y) + of_y)).sum(axis=1)
    by_numbers += run.gamma(1.0) * terms
    by_numbers += run.additions(D, terms * (1.0 + run.gamma(1.0)), np.abs(delta) + by_numbers)
    of_delta = np.maximum(by_keys, by_numbers) + (S + D) * tiny
    inner = Near(dp - delta[:, None], of_dp + of_delta[:, None])
    dscores = run.multiply(Near(p, of_p), run.rounded(inner))

    def summed(a: Near, b: Array, factor: float, roundings: float, n: int) -> Array:
        """The error of factor · (a b), where the terms are n, the roundings the product's and the factor's."""
        size, sizes = _matmul(a.size, np.abs(b)), np.abs(b)
        total = np.abs(a.value @ b) if n == len(b) else size  # otherwise these are some of the terms
        error = _matmul(a.error, sizes) + run.gamma(1.0 + roundings) * size
        error += run.of_factors(a.size, np.abs(b)) * (1.0 + run.gamma(1.0 + roundings))
        error += run.additions(n, size + error, total + error)
        found: Array = error * factor + (len(b) * max(1.0, factor) + 1.0) * tiny
        found += tiny * (a.size.sum(axis=1, keepdims=True) + sizes.sum(axis=0))  # the factor may have been a's or b's
        return found

    kept = Near(keep * p, keep * of_p)
    of_dropped = run.rounded(Near(kept.value * gain, kept.error * gain), drop)
    of_ddropped = run.dot(exact(dy), exact(v).T)
    inside = (of_score, of_p, np.zeros_like(p), of_dropped.error, of_ddropped.error, of_dp, dscores.error)
    for name, error in zip(_INSIDE, inside, strict=True):
        here.setdefault(name, []).append(_errors(one=np.broadcast_to(error, p.shape))["one"])
    of_dq = summed(dscores, k, scale, shrink, S)
    return of_y, of_dq, summed(dscores.T, q, scale, shrink, num_queries), summed(kept.T, dy, gain, drop, num_queries)


@OVERFLOWS
def cross_entropy(
    run: Arithmetic,
    h: Array,
    table: Array,
    bias: Array,
    labels: Array,
    *,
    dy: Array,
    rescalings: int | None = None,
    inner: Inner | None = None,
) -> Bounds:
    """exp turns the absolute error of a logit, C products and a bias, into a relative one of a probability.

    The loss is log Σ exp(z_i - z_label), so the label's own term has no error but exp's. In backward the logarithm of
    the sum is subtracted as one rounded number. `rescalings`: how often the sum was scaled down to a larger maximum, if
    the vocabulary was cut otherwise than here.
    """
    (M, V), at = (len(h), len(table)), np.arange(len(h))
    blocks = min(_rescalings(V), 1 + M * V // CHUNK) if rescalings is None else rescalings
    z = run.dot(exact(h), exact(table).T, bias)
    top = z.value.max(axis=1, keepdims=True)
    weights = np.exp(z.value - top)
    total = weights.sum(axis=1, keepdims=True)
    p, log_total = weights / total, np.log(total)
    log_p = z.value - top - log_total
    most = z.error.max(axis=1, keepdims=True)
    # exp, once and for each larger maximum, of a distance from the maximum that is rounded
    of_exponent = run.gamma(1.0) * (top - z.value + z.error + most) + run.gamma(EXP) * (1 + blocks)
    if not (z.error + of_exponent).max(initial=0.0) <= MOST:
        raise ValueError(f"the rounding of a logit is {z.error.max():.1e}; the bounds are for smaller h and table")

    def logarithm(exponent: Array) -> Array:
        """The error of log Σ exp(z) if those of the terms are factors exp(±exponent): of exp, the sum, and log."""
        up = np.log1p(_grown(p, log_p, exponent).sum(axis=1, keepdims=True))
        less = -(p * np.expm1(-exponent)).sum(axis=1, keepdims=True)  # near 1 the difference has no digit left
        low = np.exp(log_p - exponent).sum(axis=1, keepdims=True)
        down = np.where(less < 0.5, -np.log1p(-np.minimum(less, 0.5)), -np.log(low))
        of_sum = np.maximum(up, down) + run.gamma(V - 1 + blocks) + V * (2.0 + blocks) * run.tiny
        error: Array = of_sum + run.gamma(LOG) * (log_total + of_sum)
        return error

    of_label = z.value[at, labels][:, None]
    apart = z.error + z.error[at, labels][:, None]
    apart[at, labels] = 0.0
    distance = run.rounded(Near(of_label - top, np.zeros_like(top)))  # its errors are in `apart`
    distance = Near(distance.value, distance.error + run.gamma(1.0) * (most + z.error[at, labels][:, None]))
    losses = run.add(Near(log_total, logarithm(apart + of_exponent)), -distance)

    log_sum = Near(log_total + top, logarithm(z.error + of_exponent))
    log_sum = run.rounded(Near(log_sum.value, log_sum.error + run.gamma(1.0) * most))
    exponent = z.error + log_sum.error + run.gamma(1.0) * (np.abs(z.value - log_sum.value) + z.error + log_sum.error)
    slopes = Near(p.copy(), _grown(p, log_p, exponent + run.gamma(EXP)) + 2.0 * run.tiny)
    hit = run.add(Near(p[at, labels], slopes.error[at, labels]), exact(np.full(M, -1.0)))
    slopes.value[at, labels], slopes.error[at, labels] = hit.value, hit.error
    dz = run.multiply(exact(dy[:, None]), slopes)
    if inner is not None:
        output = losses.error + run.gamma(2.0) * log_sum.size  # where log Σ exp is one rounded number in forward, too
        inner |= _errors(logits=z, log_sums=log_sum.error[:, 0], output=output[:, 0], dlogits=dz)
    return _errors(
        losses=losses.error[:, 0], dh=run.dot(dz, exact(table)), dtable=run.dot(dz.T, exact(h)), dbias=run.sum(dz, 0)
    )


# --- what is done to gradients ----------------------------------------------------------------------------------------


@OVERFLOWS
def add(run: Arithmetic, x: Array, y: Array) -> Bounds:
    """One addition."""
    return _errors(total=run.add(exact(x), exact(y)))


@OVERFLOWS
def accumulate(
    run: Arithmetic, total: Array, gradient: Array | None, *, terms: int = 1, size: Array | None = None
) -> Bounds:
    """One addition of a gradient that is an array.

    A gradient that is yet to be made, say a product, is described by `terms`, how many numbers it is the sum of, and
    `size`, the sum of their magnitudes. The total is one more term: each passes one more addition. The gradient's own
    bound comes on top of this one.
    """
    if size is None:
        return _errors(total=run.add(exact(total), exact(gradient)))
    return _errors(total=run.gamma(1.0) * size + run.gamma(terms) * np.abs(total) + (terms + 1) * run.tiny)


@OVERFLOWS
def squared_norm(run: Arithmetic, x: Array) -> Bounds:
    """In float64 whatever the precision of x: a sum of len(x) squares, each of which may underflow."""
    wide = Arithmetic(np.float64)
    return _errors(norm=wide.gamma(len(x)) * np.square(x).sum() + len(x) * wide.tiny)


@OVERFLOWS
def adam_step(
    run: Arithmetic,
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
) -> Bounds:
    """Each operation of the formula once, the factors being rounded too. v >= 0, and beta_2 >= 1/2: so it stays."""

    def factor(value: float) -> Near:
        return run.rounded(exact(value))

    slope = run.multiply(exact(g), factor(scale))
    rest = run.add(exact(w), -run.multiply(exact(w), factor(decay)))
    m_after = run.add(exact(m), run.multiply(run.add(slope, -exact(m)), factor(1.0 - beta_1)))
    change = run.multiply(run.add(run.multiply(slope, slope), -exact(v)), factor(1.0 - beta_2))
    v_after = run.add(exact(v), change)
    step = run.divide(m_after, run.add(run.sqrt(v_after), factor(epsilon)))
    return _errors(w=run.add(rest, -run.multiply(step, factor(learning_rate))), m=m_after, v=v_after)


@OVERFLOWS
def running_mean(run: Arithmetic, mean: Array, x: Array, keep: float) -> Bounds:
    """Two products and their sum, the factors being rounded too."""
    kept = run.multiply(exact(mean), run.rounded(exact(keep)))
    return _errors(mean=run.add(kept, run.multiply(exact(x), run.rounded(exact(1.0 - keep)))))


@OVERFLOWS
def clip_scale(run: Arithmetic, square: float, limit: float) -> Bounds:
    """A root and a quotient in float64, whatever the precision."""
    wide = Arithmetic(np.float64)
    scale = min(1.0, limit / math.sqrt(square)) if square else 0.0
    return _errors(scale=np.array(wide.gamma(2) * scale))


# --- the table --------------------------------------------------------------------------------------------------------

# For each row of `pyroberta.ops.Ops`: the function, and which of its results are the row's, in their order. `prepare`
# makes a copy; what is computed with it has linear's and feed_forward's bounds.
ROWS: dict[str, tuple[Callable[..., Bounds], Sequence[str]]] = {
    "gather_forward": (gather, ["y"]),
    "gather_backward": (gather, ["dx"]),
    "embedding_forward": (embedding, ["y"]),
    "embedding_backward": (embedding, ["dtokens", "drows"]),
    "prepare": (linear, []),
    "linear_forward": (linear, ["y"]),
    "linear_backward": (linear, ["dx", "dkernel", "dbias"]),
    "linear_backward_input": (linear, ["dx"]),
    "low_rank_forward": (low_rank, ["y"]),
    "low_rank_backward": (low_rank, ["dx", "da", "db"]),
    "layer_norm_forward": (layer_norm, ["y"]),
    "layer_norm_backward": (layer_norm, ["dx", "dgamma", "dbeta"]),
    "gelu_forward": (gelu, ["y"]),
    "gelu_backward": (gelu, ["dx"]),
    "tanh_forward": (tanh, ["y"]),
    "tanh_backward": (tanh, ["dx"]),
    "feed_forward_forward": (feed_forward, ["h"]),
    "feed_forward_backward": (feed_forward, ["dx", "dkernel_1", "dbias_1", "dkernel_2", "dbias_2"]),
    "feed_forward_backward_input": (feed_forward, ["dx"]),
    "dropout_forward": (dropout, ["y"]),
    "dropout_backward": (dropout, ["dx"]),
    "add_norm_forward": (add_norm, ["y"]),
    "add_norm_backward": (add_norm, ["dh", "dx", "dgamma", "dbeta"]),
    "attention_forward": (attention, ["y"]),
    "attention_backward": (attention, ["dq", "dk", "dv"]),
    "logits": (logits, ["z"]),
    "cross_entropy_forward": (cross_entropy, ["losses"]),
    "cross_entropy_backward": (cross_entropy, ["dh", "dtable", "dbias"]),
    "cross_entropy_backward_input": (cross_entropy, ["dh", "dbias"]),
    "accumulate": (accumulate, ["total"]),
    "squared_norm": (squared_norm, ["norm"]),
    "adam_step": (adam_step, ["w", "m", "v"]),
    "running_mean": (running_mean, ["mean"]),
    "add": (add, ["total"]),
    "clip_scale": (clip_scale, ["scale"]),
}
# The rows that round nothing.
EXACT = {"zeros", "view", "copy", "fill", "maximum", "clip", "all_finite", "to_host", "from_host"}


def of_values(run: Arithmetic, op: str, arguments: Sequence[Any], dy: Array) -> dict[str, Any]:
    """A bound for each value of an op that has a plain one, and for each gradient.

    Args:
        run: the arithmetic.
        op: the op's name.
        arguments: the op's, in float64.
        dy: the gradient of its result.

    Returns:
        The bounds by the names of `oracle.plain`, those of gradients beginning with `d.`; of attention's values a list
        of arrays each.

    >>> x, gamma, beta, dy = np.ones((1, 2)), np.ones(2), np.zeros(2), np.ones((1, 2))
    >>> list(of_values(Arithmetic("float32"), "layer_norm", (x, gamma, beta, 1e-5), dy))
    ['mean', 'variance', 'x_hat', 'output', 'd.x_hat', 'd.x', 'd.gamma', 'd.beta']
    """
    plain, inner = PLAIN[op], Inner()
    found = list(ROWS[f"{op}_forward"][0](run, *arguments, dy=dy, inner=inner).values())
    inside = {name: bound for name, bound in inner.items() if name in plain.formulas}
    gradients = {f"d.{name[1:]}": bound for name, bound in inner.items() if name not in plain.formulas}
    own = {f"d.{name}": bound for name, bound in zip(plain.gradients, found[1:], strict=True)}
    return {**inside, "output": inner.get("output", found[0]), **gradients, **own}
