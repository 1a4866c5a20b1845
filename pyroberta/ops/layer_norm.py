"""Layer normalisation (Ba, Kiros and Hinton 2016, arXiv:1607.06450)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray as Array


def layer_norm_forward(x: Array, gamma: Array, beta: Array, epsilon: float) -> tuple[Array, Any]:
    """y = gamma · x̂ + beta, where x̂ = (x - mean) / √(variance + epsilon) along each row.

    The variance is the biased one (divided by C), with epsilon inside the root.

    x (N, C), gamma, beta (C,) -> y (N, C)
    """
    centred = x - x.mean(axis=1, keepdims=True)
    variance = np.einsum("nc,nc->n", centred, centred) / x.shape[1]  # (N,)
    inverse_std = 1.0 / np.sqrt(variance + epsilon)
    x_hat = centred
    x_hat *= inverse_std[:, None]
    y = x_hat * gamma
    y += beta
    return y, (x_hat, inverse_std, gamma)


def layer_norm_backward(dy: Array, cache: Any) -> tuple[Array, Array, Array]:
    """dy (N, C) -> dx (N, C), dgamma (C,), dbeta (C,).

    A shift or a stretch of a row does not change its x̂, so dx has no part along 1 and, up to epsilon, none along x̂:
    dx = (dx̂ - mean(dx̂) - x̂ · mean(dx̂ · x̂)) / √(variance + epsilon).
    """
    x_hat, inverse_std, gamma = cache
    C = dy.shape[1]
    dgamma = np.einsum("nc,nc->c", dy, x_hat)  # forward: y = x_hat * gamma
    dbeta = dy.sum(axis=0)  # forward: y += beta
    dx = dy * gamma  # forward: y = x_hat * gamma; from here on dx holds dx̂
    along = np.einsum("nc,nc->n", dx, x_hat) / C
    dx -= dx.mean(axis=1, keepdims=True)  # forward: centred = x - mean
    dx -= x_hat * along[:, None]  # forward: the variance of centred
    dx *= inverse_std[:, None]  # forward: centred * inverse_std
    return dx, dgamma, dbeta
