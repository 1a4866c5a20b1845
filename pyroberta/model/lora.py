"""Low-rank changes of attention's kernels (LoRA; Hu et al. 2021, arXiv:2106.09685).

A kernel W (C, C) is frozen. A change of it is trained,

    y = x W + b + (alpha / r) x A B,        A (C, r), B (r, C),

with 2·C·r numbers instead of C². A starts with random values and B with 0, so that the model computes the same as
before at first.

`layers.linear` adds the change. This file makes two vectors of parameters: one with the factors A and B, and one with
the changes added to the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pyroberta.model.config import RobertaConfig
from pyroberta.model.initial_values import initialise_lora
from pyroberta.model.parameters import Arrays


def with_lora(
    config: RobertaConfig, params: Arrays, rank: int, alpha: float | None, targets: Sequence[str], seed: int = 0
) -> tuple[RobertaConfig, Arrays]:
    """Returns the config and the parameters of a model with LoRA: the given parameters, copied bit for bit, and after
    them factors with initial values.

    Raises:
        ValueError: if the rank is below 1, alpha is not above 0, or a target is unknown.
    """
    if rank == 0:
        raise ValueError("the rank must be a whole number of at least 1, got 0")
    config = replace(config, lora_rank=rank, lora_alpha=alpha, lora_targets=targets)  # type: ignore[arg-type]  # checked there
    larger = Arrays.of(config, params.dtype)
    larger.flat[: params.flat.size] = params.flat
    initialise_lora(larger, np.random.Generator(np.random.PCG64(seed)))
    return config, larger


def merged(config: RobertaConfig, params: Arrays) -> tuple[RobertaConfig, Arrays]:
    """Returns the config and the parameters of the model without factors. Each change is added to its kernel, W +
    (alpha / r) A B.

    The parameters are a copy, unless the model has no factors.

    >>> config = RobertaConfig(vocabulary_size=9, num_layers=1, num_heads=1, hidden_dim=2, intermediate_dim=2)
    >>> config, params = with_lora(config, Arrays.of(config), rank=1, alpha=2.0, targets=["query"])
    >>> params["layers.0.attention.query.lora_a"][:] = [[1.0], [2.0]]
    >>> params["layers.0.attention.query.lora_b"][:] = [[3.0, 5.0]]
    >>> plain, folded = merged(config, params)
    >>> folded["layers.0.attention.query.kernel"]
    array([[ 6., 10.],
           [12., 20.]], dtype=float32)
    >>> plain.lora_rank, len(folded) == len(params) - 2
    (0, True)
    """
    if not config.lora_rank:
        return config, params
    plain = replace(config, lora_rank=0, lora_alpha=None, lora_targets=RobertaConfig.lora_targets)
    smaller = Arrays.of(plain, params.dtype)
    smaller.flat[:] = params.flat[: smaller.flat.size]
    for i in range(config.num_layers):
        for target in config.lora_targets:
            name = f"layers.{i}.attention.{target}"
            smaller[f"{name}.kernel"][...] += (config.lora_scale * params[f"{name}.lora_a"]) @ params[f"{name}.lora_b"]
    return plain, smaller
