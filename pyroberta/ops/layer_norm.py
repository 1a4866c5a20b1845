"""Layer normalisation (Ba, Kiros and Hinton 2016, arXiv:1607.06450)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array


class LayerNormCache(NamedTuple):
    """What `layer_norm_forward` keeps for `layer_norm_backward`."""

    x_hat: Array  # (N, C)
    inverse_std: Array  # (N,)
    gamma: Array  # (C,)


def layer_norm_forward(x: Array, gamma: Array, beta: Array, epsilon: float) -> tuple[Array, LayerNormCache]:
    """y = gamma · x̂ + beta, where x̂ = (x - mean) / √(variance + epsilon) along each row.

    The variance is the biased one (divided by C), with epsilon inside the root.

    x (N, C), gamma, beta (C,) -> y (N, C)
    """
    centred = x - x.mean(axis=1, keepdims=True)  # (N, C), less the mean (N, 1)
    variance = np.einsum("nc,nc->n", centred, centred) / x.shape[1]  # (N,)
    inverse_std = 1.0 / np.sqrt(variance + epsilon)  # (N,)
    x_hat = centred  # (N, C), the same array
    x_hat *= inverse_std[:, None]  # (N, C)
    y = x_hat * gamma  # (N, C)
    y += beta  # (N, C)
    return y, LayerNormCache(x_hat, inverse_std, gamma)


def layer_norm_backward(dy: Array, cache: LayerNormCache) -> tuple[Array, Array, Array]:
    """dy (N, C) -> dx (N, C), dgamma (C,), dbeta (C,).

    A shift or a stretch of a row does not change its x̂, so dx has no part along 1 and, up to epsilon, none along x̂:
    dx = (dx̂ - mean(dx̂) - x̂ · mean(dx̂ · x̂)) / √(variance + epsilon).
    """
    x_hat, inverse_std, gamma = cache
    C = dy.shape[1]
    dgamma = np.einsum("nc,nc->c", dy, x_hat)  # (C,)  forward: y = x_hat * gamma
    dbeta = dy.sum(axis=0)  # (C,)  forward: y += beta
    dx = dy * gamma  # (N, C)  forward: y = x_hat * gamma; from here on dx holds dx̂
    along = np.einsum("nc,nc->n", dx, x_hat) / C  # (N,)  mean(dx̂ · x̂)
    dx -= dx.mean(axis=1, keepdims=True)  # (N, C)  forward: centred = x - mean
    dx -= x_hat * along[:, None]  # (N, C)  forward: the variance of centred
    dx *= inverse_std[:, None]  # (N, C)  forward: x_hat *= inverse_std
    return dx, dgamma, dbeta
