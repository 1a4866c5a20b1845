"""GELU with the exact error function (Hendrycks and Gimpel 2016, arXiv:1606.08415), and that error function."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

STEP = 1.0 / 128.0  # distance between the points at which erf is tabulated; a power of two, so that x - a is exact
LIMIT = 6.0  # erf(6) is 1 to the last digit of float64
BLOCK = 1 << 14  # elements worked on at a time: all the steps of one block stay in the cache
_POINTS = [i * STEP for i in range(-int(LIMIT / STEP), int(LIMIT / STEP) + 1)]
_VALUES = np.array([math.erf(a) for a in _POINTS])  # (1537,)
_SLOPES = np.array([2.0 / math.sqrt(math.pi) * math.exp(-a * a) for a in _POINTS])  # (1537,)


class GeluCache(NamedTuple):
    """What `gelu_forward` keeps for `gelu_backward`."""

    slope: Array  # (N, F), dy/dx


def erf(x: Array) -> Array:
    """The error function, right to a few units in the last place of x's dtype.

    Taylor's series around the nearest tabulated point a: with h = x - a and erf'(a) = 2/√π · exp(-a²),

        erf(a + h) = erf(a) + erf'(a) · h · (1 + h·p₁ + h²·p₂ + h³·p₃ + h⁴·p₄ + h⁵·p₅)

    where pₖ = (-1)ᵏ · Hₖ(a) / (k+1)! and Hₖ are Hermite's polynomials. |h| <= 1/256, so what is left out is below
    1e-18; in float32 p₂ is the last to make a difference, and the last that is used. NaN stays NaN.

    x, any shape -> the same shape and dtype; every array in between has that shape too

    >>> erf(np.array([0.0, 1.0])).tolist() == [math.erf(0.0), math.erf(1.0)]
    True
    """
    x = np.clip(x, -LIMIT, LIMIT)
    a = np.rint(x * (1.0 / STEP))
    with np.errstate(invalid="ignore"):  # NaN has no index; it takes any, and reaches the result through h
        index = (a + LIMIT / STEP).astype(np.intp)
    a *= STEP
    h = x - a  # exact: a has few digits and lies next to x
    b = a * a
    terms = [-a, (2.0 * b - 1.0) / 3.0]  # p₁ = -2a / 2, p₂ = (4a² - 2) / 6
    if x.dtype.itemsize > 4:
        terms += [
            a * (3.0 - 2.0 * b) / 6.0,  # p₃ = -(8a³ - 12a) / 24
            (b * (4.0 * b - 12.0) + 3.0) / 30.0,  # p₄ = (16a⁴ - 48a² + 12) / 120
            a * (b * (4.0 * b - 20.0) + 15.0) / -90.0,  # p₅ = -(32a⁵ - 160a³ + 120a) / 720
        ]
    series = np.zeros_like(x)
    for term in reversed([1.0, *terms]):  # Horner's scheme, from the highest power of h
        series += term
        series *= h
    series *= _SLOPES.astype(x.dtype).take(index, mode="clip")
    series += _VALUES.astype(x.dtype).take(index, mode="clip")
    return series


def gelu_forward(x: Array) -> tuple[Array, GeluCache]:
    """y = x · Φ(x), with Φ(x) = (1 + erf(x/√2)) / 2, the normal distribution's cumulative function.

    x (N, F) -> y (N, F). The cache holds the slope dy/dx: one array, where x and Φ(x) would be two.
    """
    y, slope = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)  # (N, F) each
    flat, ys, slopes = x.reshape(-1), y.reshape(-1), slope.reshape(-1)  # (N·F,) each
    for start in range(0, x.size, BLOCK):
        block = slice(start, start + BLOCK)
        x_ = flat[block]  # (BLOCK,), fewer at the end
        cdf = 0.5 * (1.0 + erf(x_ * math.sqrt(0.5)))  # (BLOCK,)  Φ(x)
        density = np.exp(-0.5 * x_ * x_) / math.sqrt(2.0 * math.pi)  # (BLOCK,)  φ(x)
        ys[block] = x_ * cdf  # (BLOCK,)
        slopes[block] = cdf + x_ * density  # (BLOCK,)  the product rule, with Φ' = φ
    return y, GeluCache(slope)


def gelu_backward(dy: Array, cache: GeluCache) -> Array:
    """dy (N, F) -> dx (N, F)."""
    dx: Array = dy * cache.slope  # (N, F)
    return dx
