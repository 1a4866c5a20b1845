"""Adam's update on a flat vector (Kingma and Ba 2015, arXiv:1412.6980)."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

BLOCK = 1 << 15  # elements worked on at a time: six float32 blocks of 128 KiB, so every pass finds them in the cache


def adam_step(
    w: Array, g: Array, m: Array, v: Array, learning_rate: float, beta_1: float, beta_2: float, epsilon: float
) -> None:
    """One update, in place:  m += (g - m)(1 - β₁);  v += (g² - v)(1 - β₂);  w -= learning_rate · m / (√v + epsilon).

    The corrections for the moments' start at zero are the caller's, folded into `learning_rate` and `epsilon`.

    w, g, m, v: (P,), one dtype, not overlapping; w, m, v change in place, g is read only.

    >>> w, g, m, v = np.array([1.0]), np.array([4.0]), np.zeros(1), np.zeros(1)
    >>> adam_step(w, g, m, v, 0.5, 0.75, 0.75, 0.0)
    >>> float(m[0]), float(v[0]), float(w[0])
    (1.0, 4.0, 0.75)
    """
    scratch = np.empty((2, min(BLOCK, len(w))), w.dtype)
    for start in range(0, len(w), BLOCK):
        w_, g_, m_, v_ = (array[start : start + BLOCK] for array in (w, g, m, v))
        step, root = scratch[:, : len(w_)]
        np.subtract(g_, m_, out=step)
        step *= 1.0 - float(beta_1)
        m_ += step
        np.multiply(g_, g_, out=step)
        step -= v_
        step *= 1.0 - float(beta_2)
        v_ += step
        np.sqrt(v_, out=root)
        root += float(epsilon)
        np.divide(m_, root, out=step)
        step *= float(learning_rate)
        w_ -= step
