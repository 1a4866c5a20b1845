"""GELU with the exact error function (Hendrycks and Gimpel 2016, arXiv:1606.08415), and that error function."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import ndarray as Array

STEP = 1.0 / 128.0  # distance between the points at which erf is tabulated; a power of two, so that x - a is exact
LIMIT = 6.0  # erf(6) is 1 to the last digit of float64
BLOCK = 1 << 14  # elements worked on at a time: all the steps of one block stay in the cache
_POINTS = [i * STEP for i in range(-int(LIMIT / STEP), int(LIMIT / STEP) + 1)]
_VALUES = np.array([math.erf(a) for a in _POINTS])
_SLOPES = np.array([2.0 / math.sqrt(math.pi) * math.exp(-a * a) for a in _POINTS])


def erf(x: Array) -> Array:
    """The error function, right to a few units in the last place of x's dtype.

    Taylor's series around the nearest tabulated point a: with h = x - a and erf'(a) = 2/√π · exp(-a²),

        erf(a + h) = erf(a) + erf'(a) · h · (1 + h·p₁ + h²·p₂ + h³·p₃ + h⁴·p₄ + h⁵·p₅)

    where pₖ = (-1)ᵏ · Hₖ(a) / (k+1)! and Hₖ are Hermite's polynomials. |h| <= 1/256, so what is left out is below
    1e-18. NaN stays NaN.

    x, any shape -> the same shape and dtype

    >>> erf(np.array([0.0, 1.0])).tolist() == [math.erf(0.0), math.erf(1.0)]
    True
    """
    y = np.empty(x.shape, x.dtype)  # in C order whatever x's, or reshape would copy
    values, slopes = _VALUES.astype(x.dtype), _SLOPES.astype(x.dtype)
    source, target = x.reshape(-1), y.reshape(-1)
    for i in range(0, len(source), BLOCK):
        _erf_block(source[i : i + BLOCK], values, slopes, target[i : i + BLOCK])
    return y


def _erf_block(x: Array, values: Array, slopes: Array, y: Array) -> None:
    x = np.clip(x, -LIMIT, LIMIT)
    a = np.rint(x * (1.0 / STEP))
    index = np.nan_to_num(a).astype(np.intp) + int(LIMIT / STEP)
    a *= STEP
    h = x - a  # exact: a has few digits and lies next to x
    b = a * a
    # Horner from the highest power of h: the Hermite polynomials in a, over (k+1)!
    series = h * (a * (b * (4.0 * b - 20.0) + 15.0) / -90.0)  # p₅ = -(32a⁵ - 160a³ + 120a) / 720
    series += (b * (4.0 * b - 12.0) + 3.0) / 30.0  # p₄ = (16a⁴ - 48a² + 12) / 120
    series *= h
    series += a * (3.0 - 2.0 * b) / 6.0  # p₃ = -(8a³ - 12a) / 24
    series *= h
    series += (2.0 * b - 1.0) / 3.0  # p₂ = (4a² - 2) / 6
    series *= h
    series -= a  # p₁ = -2a / 2
    series *= h
    series += 1.0
    series *= h
    series *= slopes[index]
    np.add(series, values[index], out=y)


def gelu_forward(x: Array) -> tuple[Array, Any]:
    """y = x · Φ(x), with Φ(x) = (1 + erf(x/√2)) / 2, the normal distribution's cumulative function.

    x (N, F) -> y (N, F)
    """
    cdf = erf(x * math.sqrt(0.5))
    cdf += 1.0
    cdf *= 0.5
    return x * cdf, (x, cdf)


def gelu_backward(dy: Array, cache: Any) -> Array:
    """dy (N, F) -> dx (N, F): the product rule, with Φ' = φ, the normal density."""
    x, cdf = cache
    slope: Array = x * x
    slope *= -0.5
    np.exp(slope, out=slope)
    slope *= 1.0 / math.sqrt(2.0 * math.pi)  # φ(x)
    slope *= x
    slope += cdf  # forward: y = x * cdf, hence dy/dx = cdf + x·φ(x)
    slope *= dy
    return slope
