"""What is done to gradients: they are added up, their norm is taken, and Adam steps (Kingma and Ba 2015)."""

from __future__ import annotations

import numpy as np
from numpy import ndarray as Array

BLOCK = 1 << 15  # elements worked on at a time: six float32 blocks of 128 KiB, so every pass finds them in the cache


def accumulate(total: Array, gradient: Array) -> Array:
    """total += gradient, in place.

    total: a parameter's sum; gradient: what an op's backward returned for that parameter, here an array of the same
    shape. In a table of ops it is as opaque as a cache (a product yet to be made, say): only the same table's
    `accumulate` reads it.

    >>> accumulate(np.array([1.0, 2.0]), np.array([0.5, 0.5]))
    array([1.5, 2.5])
    """
    total += gradient  # any shape
    return total


def squared_norm(x: Array) -> float:
    """Σ x², summed in float64 whatever the dtype of x (P,).

    >>> squared_norm(np.array([3.0, 4.0], np.float32))
    25.0
    """
    total = 0.0
    for start in range(0, len(x), BLOCK):
        wide = x[start : start + BLOCK].astype(np.float64, copy=False)  # (BLOCK,), fewer at the end
        total += float(np.einsum("i,i->", wide, wide))  # not np.dot: BLAS would start its threads at each block
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
    """One update, in place, with the gradient g · scale (that is how clipping comes in) and weight decay:

        w -= w · decay;  m += (g - m)(1 - β₁);  v += (g² - v)(1 - β₂);  w -= learning_rate · m / (√v + epsilon)

    The corrections for the moments' start at zero are the caller's, folded into `learning_rate` and `epsilon`; so is
    the learning rate in `decay`.

    w, g, m, v: (P,), one dtype, not overlapping; w, m, v change in place, g is read only. Nothing changes where
    `is_finite` is false. `scale` and `is_finite` are scalars of the same table's rows. (arXiv:1412.6980)

    >>> w, g, m, v = np.array([1.0]), np.array([4.0]), np.zeros(1), np.zeros(1)
    >>> adam_step(w, g, m, v, 0.5, 0.75, 0.75, 0.0)
    >>> float(m[0]), float(v[0]), float(w[0])
    (1.0, 4.0, 0.75)
    """
    if not is_finite:
        return
    scratch = np.empty((3, min(BLOCK, len(w))), w.dtype)  # (3, BLOCK)
    for start in range(0, len(w), BLOCK):
        # Every array here is (BLOCK,), or shorter at the end.
        w_, g_, m_, v_ = (array[start : start + BLOCK] for array in (w, g, m, v))
        step, root, slope = scratch[:, : len(w_)]
        np.multiply(g_, float(scale), out=slope)
        # Not w *= 1 - decay: in float32 that factor is off by up to a third of a usual decay.
        w_ -= np.multiply(w_, float(decay), out=step)
        np.subtract(slope, m_, out=step)
        step *= 1.0 - float(beta_1)
        m_ += step
        np.multiply(slope, slope, out=step)
        step -= v_
        step *= 1.0 - float(beta_2)
        v_ += step
        np.sqrt(v_, out=root)
        root += float(epsilon)
        np.divide(m_, root, out=step)
        step *= float(learning_rate)
        w_ -= step
