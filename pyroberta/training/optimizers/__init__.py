"""Adam by hand, in Keras's form and in torch's, on the flat vector of all parameters.

Both keep running means of the gradient g and of its square,

    m += (g - m)(1 - β₁)        v += (g² - v)(1 - β₂)        both start at 0

and at update t = 1, 2, … correct for that start with c₁ = 1 - β₁ᵗ and c₂ = √(1 - β₂ᵗ). They differ in where ε stands:

    Keras   w -= lr · (c₂ / c₁) · m / (√v + ε)                  beside the uncorrected root, ε = 1e-7
    torch   w -= lr · (m / c₁) / (√v / c₂ + ε)                  beside the corrected root,   ε = 1e-8
              = lr · (c₂ / c₁) · m / (√v + ε·c₂)

The last line is Keras's form with another ε, so one op, `adam_step`, does both.

An update goes: clip the gradient, decay the weights, step. Parameters that are not trainable are ranges of the vector
left alone: neither they nor their moments move, and their gradients do not count in the norm.
"""

from pyroberta.training.optimizers.adam import Adam, AdamW
from pyroberta.training.optimizers.base import CLIPS as CLIPS
from pyroberta.training.optimizers.base import Optimizer, global_norm
from pyroberta.training.optimizers.base import checked_rate as checked_rate
from pyroberta.training.optimizers.registry import OPTIMIZERS as OPTIMIZERS
from pyroberta.training.optimizers.registry import deserialize, from_config, get, serialize
from pyroberta.training.optimizers.registry import restored as restored
from pyroberta.training.optimizers.torch_adam import TorchAdam, TorchAdamW

__all__ = [
    "Adam",
    "AdamW",
    "Optimizer",
    "TorchAdam",
    "TorchAdamW",
    "deserialize",
    "from_config",
    "get",
    "global_norm",
    "serialize",
]
