"""Adam in Keras's form and in torch's form, written by hand, on the flat vector of all parameters.

Both forms keep running means of the gradient g and of its square,

    m += (g - m)(1 - β₁)        v += (g² - v)(1 - β₂)        both start at 0

and at update t = 1, 2, … correct for this start with c₁ = 1 - β₁ᵗ and c₂ = √(1 - β₂ᵗ). They differ in the place of ε:

    Keras   w -= lr · (c₂ / c₁) · m / (√v + ε)                  beside the uncorrected root, ε = 1e-7
    torch   w -= lr · (m / c₁) / (√v / c₂ + ε)                  beside the corrected root,   ε = 1e-8
              = lr · (c₂ / c₁) · m / (√v + ε·c₂)

The last line is Keras's form with another ε, so the op `adam_step` computes both.

An update has three parts. It clips the gradient, decays the parameters, and makes the step. Parameters that are not
trainable are ranges of the vector that do not change. Their moments do not change either, and their gradients do not
count in the norm.
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
