"""Adam and AdamW in torch's form."""

from __future__ import annotations

from typing import ClassVar

from pyroberta.model.attributes import Checks
from pyroberta.model.hints import hinting
from pyroberta.training.optimizers.adam import Adam
from pyroberta.training.optimizers.base import DECAY, Schedule

BIASES_AND_NORMS = (r"\.(bias|gamma|beta)$",)


def _no_decay(name: str, value: None) -> None:
    if value is not None:
        raise ValueError(f"TorchAdam has no {name}, got {value!r}: TorchAdamW decays")


class TorchAdam(Adam):
    """Adam as in `torch.optim.Adam`. ε is added to the *corrected* root.

    It has no `weight_decay`. That of torch is added to the gradient, an L2 penalty that Adam then rescales, and is not
    a decay. `TorchAdamW` decays.

    Args:
        learning_rate: see `Adam`. The default is torch's.
        beta_1: see `Adam`.
        beta_2: see `Adam`.
        epsilon: the number that is added to the root of the corrected second moment.
        clipnorm: see `Adam`.
        clipvalue: see `Adam`.
        global_clipnorm: see `Adam`. (`torch.nn.utils.clip_grad_norm_` adds 1e-6 to the norm; this does not.)
        amsgrad: see `Adam`.
        use_ema, ema_momentum, ema_overwrite_frequency: see `Optimizer`.
        name: a name, which is kept in the config.

    >>> TorchAdam().epsilon
    1e-08
    """

    is_named = True
    checks: ClassVar[Checks] = {"weight_decay": _no_decay}

    @hinting()
    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        amsgrad: bool = False,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        name: str | None = None,
    ) -> None:
        clips, average = (clipnorm, clipvalue, global_clipnorm), (use_ema, ema_momentum, ema_overwrite_frequency)
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, None, *clips, *average, name=name)

    def _uncorrected_epsilon(self, c_2: float) -> float:
        return self.epsilon * c_2


class TorchAdamW(TorchAdam):
    """Adam with weight decay as in `torch.optim.AdamW`, with the two groups of parameters of transformers' Trainer.

    Biases and layer norms do not decay. After `exclude_from_weight_decay([])` all parameters decay, as in torch with
    all parameters in one group.

    Args:
        learning_rate: see `Adam`. The default is torch's; transformers' Trainer has 5e-5.
        weight_decay: see `Adam`. The default is torch's; transformers' Trainer has 0.
        beta_1: see `Adam`.
        beta_2: see `Adam`.
        epsilon: the number that is added to the root of the corrected second moment.
        clipnorm: see `Adam`.
        clipvalue: see `Adam`.
        global_clipnorm: see `Adam`. transformers' Trainer has 1.0.
        amsgrad: see `Adam`.
        use_ema, ema_momentum, ema_overwrite_frequency: see `Optimizer`.
        name: a name, which is kept in the config.

    >>> TorchAdamW(5e-5, global_clipnorm=1.0).weight_decay
    0.01
    """

    excluded_by_default: ClassVar[tuple[str, ...]] = BIASES_AND_NORMS
    is_named = True
    checks: ClassVar[Checks] = {"weight_decay": DECAY}

    @hinting()
    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        weight_decay: float = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        amsgrad: bool = False,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        name: str | None = None,
    ) -> None:
        clips, average = (clipnorm, clipvalue, global_clipnorm), (use_ema, ema_momentum, ema_overwrite_frequency)
        Adam.__init__(self, learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, *clips, *average, name=name)
