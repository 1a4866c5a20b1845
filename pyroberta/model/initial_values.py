"""The initial values of the parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyroberta.model.config import RobertaConfig
from pyroberta.model.parameters import Arrays, Shape, is_lora

INITIALIZERS = ("keras", "hf", "neighbour")

LAYERS_LOOKING = 2  # layers of `neighbour` whose heads start by looking at a neighbour
OFFSETS = ((-1, 1, -2, 2), (-1, 1, -3, 3))  # which neighbour, per layer and head; heads beyond four start again


def initialise(params: Arrays, config: RobertaConfig, initializer: str = "keras", seed: int = 0) -> None:
    """Draws initial values for `params`, in place. Biases and betas become 0, gammas 1.

    Args:
        params: the parameters, which are overwritten.
        config: the model's shape.
        initializer: the rule for kernels, embeddings and output tables. `"keras"` draws from a normal distribution with
            a standard deviation of 0.02 that is cut at two standard deviations and not rescaled, as Keras's
            `TruncatedNormal(0.02)`; the true deviation is 0.0176. `"hf"` draws from a normal distribution with 0.02,
            uncut, and sets the token embedding's row of `<pad>` to 0, as transformers and fairseq do. `"neighbour"` is
            for small models that are trained from scratch; see `neighbour_heads`.
        seed: the seed of NumPy's PCG64. The same seed gives the same values in float32 and float64, up to rounding.

    Raises:
        ValueError: if initializer is none of these names.
    """
    if initializer not in INITIALIZERS:
        raise ValueError(f"initializer must be one of {', '.join(map(repr, INITIALIZERS))}, got {initializer!r}")
    generator = np.random.Generator(np.random.PCG64(seed))
    for name, array in params.items():
        if is_lora(name):
            continue
        if name.endswith((".bias", ".beta")):
            array[...] = 0.0
        elif name.endswith(".gamma"):
            array[...] = 1.0
        else:
            array[...] = 0.02 * _standard_normal(generator, array.shape, cut=2.0 if initializer == "keras" else None)
    if initializer == "hf" and config.pad_id < config.vocabulary_size:
        params["embeddings.token"][config.pad_id] = 0.0
    if initializer == "neighbour":
        neighbour_heads(params, config, generator)
    initialise_lora(params, generator)


def initialise_lora(params: Arrays, generator: np.random.Generator) -> None:
    """Draws initial factors of the low-rank changes, in place. A is uniform within ±1/√C, as in PEFT; B is 0."""
    for name, array in params.items():
        if name.endswith(".lora_a"):
            array[...] = generator.uniform(-1.0, 1.0, array.shape) / math.sqrt(len(array))
        elif name.endswith(".lora_b"):
            array[...] = 0.0


def neighbour_heads(params: Arrays, config: RobertaConfig, generator: np.random.Generator) -> None:
    """Sets the attention heads of the first two layers to attend to the tokens one and two places before and after.

    A small masked language model learns word frequencies first. It makes no progress for long after that, since it does
    not know yet which other tokens matter. With these values some attention heads attend to neighbours from the start.
    The first D columns of a hidden state hold the position alone, as sines and cosines, so that a shift by an offset is
    a rotation. An attention head with W_k = 1 and W_q = that rotation attends to the token at that offset. All
    parameters stay trainable, and the model is an ordinary RoBERTa. This is a mimetic initialisation in the sense of
    Trockman and Kolter 2023 (arXiv:2305.09828).

    Args:
        params: parameters with initial values, which are changed in place. Kernels of linear layers are scaled to a
            standard deviation of 0.08.
        config: the model's shape. D must be even.
        generator: the random generator of the values that stay random.

    Raises:
        ValueError: if D is odd.
    """
    D, H = config.head_dim, config.num_heads
    if D % 2:
        raise ValueError(f"the neighbour initializer needs an even head_dim, got {D}")
    for name, array in params.items():
        if name.endswith(".kernel"):
            array *= 4.0  # 0.02 to 0.08: small models wait for long because the signal through the heads is too small

    wavelengths = np.geomspace(3.0, 200.0, D // 2)
    angles = 2.0 * math.pi / wavelengths  # a step of one position turns pair i by this much
    turned = np.arange(config.max_sequence_length)[:, None] * angles
    params["embeddings.token"][:, :D] = 0.0
    params["embeddings.position"][...] = 0.0
    params["embeddings.position"][:, :D] = 0.03 * np.concatenate([np.sin(turned), np.cos(turned)], axis=1)

    for i in range(min(LAYERS_LOOKING, config.num_layers)):
        for h in range(H):
            offset = OFFSETS[i][h % len(OFFSETS[i])]
            columns = slice(h * D, (h + 1) * D)
            for kind, looking in (("query", _rotation(offset * angles)), ("key", np.eye(D))):
                kernel = params[f"layers.{i}.attention.{kind}.kernel"][:, columns]
                kernel *= 0.1
                kernel[:D] += looking


def _rotation(angles: NDArray[Any]) -> NDArray[Any]:
    """R with [sin p, cos p] @ R = [sin(p + angle), cos(p + angle)], for every pair."""
    sin, cos = np.diag(np.sin(angles)), np.diag(np.cos(angles))
    return np.block([[cos, -sin], [sin, cos]])


def _standard_normal(generator: np.random.Generator, shape: Shape, cut: float | None) -> NDArray[Any]:
    values = generator.standard_normal(shape)
    if cut is not None:
        outside = np.abs(values) > cut
        while outside.any():  # draw again what fell outside
            values[outside] = generator.standard_normal(int(outside.sum()))
            outside = np.abs(values) > cut
    return values
