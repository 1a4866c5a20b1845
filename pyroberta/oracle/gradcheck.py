"""Any forward and backward pair held to the definition of the derivative."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray as Array

STEPS = [2.0**-i for i in range(2, 14)]  # from a quarter of the input's size down to a ten-thousandth
MOST_FORGIVEN = 1e-7  # of the derivative: uncertainty of its measurement that is not held against backward
RESOLUTION = 1e-6  # a derivative smaller than this part of y is compared at that size: below lies y's own rounding


def check_backward(
    forward: Callable[..., tuple[Array, Any]],
    backward: Callable[[Array, Any], Array | Sequence[Array]],
    inputs: Sequence[Array],
    seed: int = 0,
) -> float:
    """The relative error of a hand-written backward: how far ⟨Jᵀu, v⟩ is from ⟨u, J v⟩.

    `backward(u, cache)` claims to give Jᵀu, where J is the derivative of forward. J v is measured instead, without
    looking at backward: J v = d/dt forward(x + t·v) at t = 0. The two inner products are equal for every u and v if
    and only if the claim holds, so one random pair tests all of J at the cost of a few evaluations. u is random
    because a plain one, such as all ones, can lie where a wrong backward looks right: layer norm's dx is 0 there.

    Each input is moved alone, in a random direction v of the input's own size, so that no gradient hides behind a
    larger one. The error is relative to ‖J v‖, the usual size of ⟨u, J v⟩.

    Args:
        forward: the inputs -> (y, cache).
        backward: (dy, cache) -> one gradient for each input, in their order; an array alone for a single input.
            What is not to be differentiated is left to a closure.
        inputs: float64 arrays. They are not changed.
        seed: of u and of the directions.

    Returns:
        The worst error over the inputs. About 1e-12 for a smooth and correct op; NaN, which fails every `<=`,
        if anything was not finite.

    Raises:
        ValueError: if an input is not float64, or the gradients differ from the inputs in number, shape or dtype.

    The idea is that of HIPS autograd's `check_grads` and of JAX's `check_vjp`; the differences are Ridders's
    ("Accurate computation of F'(x) and F'(x) F''(x)", Advances in Engineering Software 4, 1982).

    >>> def square_forward(x):
    ...     return x * x, x
    >>> def square_backward(dy, x):
    ...     return 2.0 * x * dy
    >>> check_backward(square_forward, square_backward, [np.array([1.0, -2.0])]) < 1e-12
    True
    >>> check_backward(square_forward, lambda dy, x: x * dy, [np.array([1.0, -2.0])]) > 0.01
    True
    """
    for i, x in enumerate(inputs):
        if x.dtype != np.float64:
            raise ValueError(f"input {i} is {x.dtype}; differences need float64: convert it before the check")
    rng = np.random.default_rng((seed, 1))  # apart from inputs that the caller drew from the same seed
    y, cache = forward(*inputs)
    u = rng.standard_normal(y.shape)
    returned = backward(u, cache)
    gradients = [returned] if isinstance(returned, np.ndarray) else list(returned)
    _require_like(gradients, inputs)

    errors = [0.0]
    for i, (x, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        v = rng.standard_normal(x.shape) * _size(x)

        def along(t: float, i: int = i, x: Array = x, v: Array = v) -> Array:
            moved: Array = forward(*inputs[:i], x + t * v, *inputs[i + 1 :])[0]
            return moved

        measured, uncertain = _derivative(along)  # J v
        claimed = float(np.vdot(gradient, v))  # ⟨Jᵀu, v⟩
        error = abs(float(np.vdot(u, measured)) - claimed)
        scale = max(_norm(measured), abs(claimed), RESOLUTION * _norm(y))
        # What the differences themselves leave open is no error of backward's, as far as it is small.
        error = max(error - min(_norm(u) * uncertain, MOST_FORGIVEN * scale), 0.0 * error)
        errors.append(error / scale if scale > 0.0 else error)
    return float(np.max(errors))  # Python's own max would drop a NaN


def _require_like(gradients: Sequence[Array], inputs: Sequence[Array]) -> None:
    if len(gradients) != len(inputs):
        raise ValueError(f"backward gave {len(gradients)} gradients for {len(inputs)} inputs; one each is expected")
    for i, (gradient, x) in enumerate(zip(gradients, inputs, strict=True)):
        if gradient.shape != x.shape or gradient.dtype != x.dtype:
            raise ValueError(
                f"gradient {i} is {gradient.dtype} {gradient.shape}, its input is {x.dtype} {x.shape}; "
                "a gradient has its input's shape and dtype"
            )


def _derivative(f: Callable[[float], Array]) -> tuple[Array, float]:
    """f'(0) by central differences at shrinking steps, extrapolated to step 0, and how far it may be off.

    A central difference's error is a series in h², so two of them at h and h/2 cancel its first term, three the
    second, and so on (Romberg's table). Ridders: of all entries take the one that differs least from those it was
    made of; that difference is how far it may be off. Large steps are too coarse, small ones drown in rounding; the
    best lies between, wherever that is.
    """
    row: list[Array] = []
    best, least = f(0.0) * math.nan, math.inf  # so it stays if nothing is finite
    for h in STEPS:
        above, row = row, [(f(h) - f(-h)) / (2.0 * h)]
        for k, coarse in enumerate(above):
            row.append(row[k] + (row[k] - coarse) / (4.0 ** (k + 1) - 1.0))
            disagreement = max(_norm(row[-1] - row[k]), _norm(row[-1] - coarse))
            if disagreement < least:
                best, least = row[-1], disagreement
    return best, least


def _size(x: Array) -> float:
    """The root mean square, or 1 where that is 0 or there is nothing."""
    return _norm(x) / math.sqrt(max(1, x.size)) or 1.0


def _norm(x: Array) -> float:
    return float(np.sqrt(np.vdot(x, x)))
