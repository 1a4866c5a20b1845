"""The meanings, formulas and pages of the tensors in a trace that no op of the model gives.

Pages are relative to docs/, with the heading after #.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pyroberta.training import optimizers

PACKED, MASKING, KEYS = "design.md#packed-batches", "numerics.md#masking", "ops/dropout.md#keys"
LOSS, BOUNDS = "numerics.md#the-loss-and-what-it-is-divided-by", "numerics.md#error-bounds"
SUMS, CLIPPING, STEP = "ops/adam.md#adding-up", "ops/adam.md#clipping-and-decay", "ops/adam.md#one-step"
USED_TWICE, RATES = "ops/index.md#what-a-backward-computes", "numerics.md#optimizers"
GLOSSARY = "glossary.md#texts-and-batches"

OF_BATCH = {
    "ids": ("the ids that the model sees, (N,), sequences end to end", PACKED),
    "positions": ("the place of each token in its sequence, from 0, (N,)", PACKED),
    "starts": ("the rows at which the sequences begin, and N at the end, (B+1,)", PACKED),
    "numbers": ("each sequence's number in the whole update, which names its streams of random numbers, (B,)", KEYS),
    "target_rows": ("the rows at which the head predicts, (M,)", GLOSSARY),
    "labels": ("the right answers at the target rows: the ids before masking, or the classes, (M,)", GLOSSARY),
    "weights": ("the factor of the loss at each target row, (M,)", GLOSSARY),
    "slots": ("the number of targets for which the batch has slots, B · K", LOSS),
    "unmasked_ids": ("the ids before masking, (N,); nothing is computed from them", MASKING),
    "words": ("the number of each token's word, and -1 where it may not be selected, (N,); see unmasked_ids", MASKING),
    "draws": ("three random numbers in [0, 1) for each token, which decide on its mask, (N, 3)", MASKING),
}  # fmt: skip
DENOMINATORS = {
    "mean_with_sample_weight": "the sum of all weights",
    "sum": "1",
    "mean": "the slots of all parts",
    "sum_over_batch_size": "the slots of all parts",
}
CORRECTION = "c_1 = 1 - beta_1^t, c_2 = sqrt(1 - beta_2^t), t from 1"


def page_of_parameter(name: str) -> str:
    """Returns the page of the op that has the parameter as an argument.

    >>> page_of_parameter("layers.3.feed_forward.intermediate.kernel")
    'ops/feed_forward.md'
    """
    if name.startswith("embeddings.") and ".norm." not in name:
        return "ops/embedding.md"
    if ".norm." in name:
        return "ops/add_norm.md" if name.startswith("layers.") else "ops/layer_norm.md"
    if re.search(r"\.lora_[ab]$", name):
        return "ops/low_rank.md"
    if name in ("head.bias", "head.decoder", "head.table"):
        return "ops/cross_entropy.md"
    return "ops/feed_forward.md" if ".feed_forward." in name else "ops/linear.md"


def denominator(reduction: Any) -> str:
    """Returns the meaning of the loss's denominator with this reduction."""
    return f"the divisor of the sum of weighted losses: {DENOMINATORS.get(str(reduction), 'see the page')}"


def clipped(optimizer: optimizers.Optimizer) -> str:
    """Returns the formula of a gradient after clipping."""
    if optimizer.global_clipnorm is not None:
        return "x * scale"
    if optimizer.clipnorm is not None:
        return "x * min(1, clipnorm / the norm of x)"
    return "x" if optimizer.clipvalue is None else "min(max(x, -clipvalue), clipvalue)"


def updated(optimizer: optimizers.Optimizer, decays: bool) -> Mapping[str, str]:
    """Returns the formulas of an optimizer's step: of `updated` and of each slot.

    Args:
        optimizer: the optimizer. If its class is not one of this package, the formulas only say which class computed
            the values.
        decays: whether weight decay applies to the parameter.
    """
    kind = type(optimizer)
    if kind not in optimizers.OPTIMIZERS.values():
        names = ["updated", *(f"slots.{of}" for of in kind.slot_names)]
        return dict.fromkeys(names, f"the result of {kind.__name__}")
    step = step_of(kind, decays)
    if "v_hat" in optimizer.slot_names:
        step = step.replace("sqrt(v)", "sqrt(v_hat)")
    return {"updated": step} | {f"slots.{of}": MOMENTS[of] for of in optimizer.slot_names}


MOMENTS = {"m": "m + (g - m)(1 - beta_1)", "v": "v + (g² - v)(1 - beta_2)", "v_hat": "max(v_hat, v)"}


def step_of(kind: type[optimizers.Optimizer], decays: bool = True) -> str:
    """Returns the formula of an optimizer's step in one line. m and v are those after the update.

    >>> step_of(optimizers.TorchAdam, decays=False)
    'w - rate · (m / c_1) / (sqrt(v) / c_2 + epsilon), c_1 = 1 - beta_1^t, c_2 = sqrt(1 - beta_2^t), t from 1'
    """
    rest = "w - rate · weight_decay · w" if decays else "w"
    if issubclass(kind, optimizers.TorchAdam):
        return f"{rest} - rate · (m / c_1) / (sqrt(v) / c_2 + epsilon), {CORRECTION}"
    return f"{rest} - rate · c_2 / c_1 · m / (sqrt(v) + epsilon), {CORRECTION}"
