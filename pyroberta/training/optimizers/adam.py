"""Adam and AdamW in Keras's form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from pyroberta.model.attributes import Checks, true_or_false
from pyroberta.model.hints import hinting
from pyroberta.model.parameters import Arrays
from pyroberta.ops import Ops, Scalar
from pyroberta.training.optimizers.base import DECAY, Optimizer, Schedule, open_rate, positive, refuse_without_effect


class Adam(Optimizer):
    """Adam in Keras's form (Kingma and Ba 2015, arXiv:1412.6980, with the "ε̂" of its section 2.1).

    Args:
        learning_rate: a number, or a function that returns a number from the number of updates so far; see `schedules`.
            The default is Keras's. A pretrained model needs a lower rate: the default of `compile()` is KerasHub's
            5e-5.
        beta_1: the share of the mean of the gradient that is kept at each update.
        beta_2: the share of the mean of the squared gradient that is kept at each update.
        epsilon: the number that is added to the root of the uncorrected second moment.
        amsgrad: whether the step is divided by the root of the largest second moment so far, the slot `v_hat`, and not
            by that of the present one (Reddi, Kale and Kumar 2018, arXiv:1904.09237).
        weight_decay: if set, w -= w · weight_decay · learning_rate before each step, for every parameter except those
            of `exclude_from_weight_decay` (decoupled: Loshchilov and Hutter 2019, arXiv:1711.05101).
        clipnorm: if set, the gradient of each parameter is scaled down to at most this L2 norm.
        clipvalue: if set, each element of the gradient is clipped to ± this value.
        global_clipnorm: if set, the gradient of all trainable parameters together is scaled down to at most this L2
            norm.
        use_ema, ema_momentum, ema_overwrite_frequency: a moving average of the parameters; see `Optimizer`.
        loss_scale_factor, gradient_accumulation_steps: only None is accepted, Keras's default.
        name: a name, which is kept in the config.

    Raises:
        ValueError: if a value is outside its range, or more than one of the three ways to clip is set.

    >>> from pyroberta.ops import REFERENCE
    >>> params, grads = Arrays({"w": (2,)}, "float64"), Arrays({"w": (2,)}, "float64")
    >>> grads["w"][:] = [3.0, -0.5]
    >>> optimizer = Adam(learning_rate=0.1)
    >>> optimizer.apply(params, grads, ["w"], REFERENCE)
    >>> params["w"].round(4)  # the first step is the rate, whatever the gradient's size
    array([-0.1,  0.1])
    """

    is_named = True
    slot_names = ("m", "v")  # the gradient's mean, and its square's
    optional_slots: ClassVar[Mapping[str, str]] = {"amsgrad": "v_hat", "use_ema": "average"}
    non_negative: ClassVar[tuple[str, ...]] = ("v", "v_hat")
    checks: ClassVar[Checks] = {
        "beta_1": open_rate,
        "beta_2": open_rate,
        "epsilon": positive,
        "amsgrad": true_or_false,
    }

    @hinting()
    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: None = None,
        gradient_accumulation_steps: None = None,
        name: str | None = None,
    ) -> None:
        refuse_without_effect(
            type(self), loss_scale_factor=loss_scale_factor, gradient_accumulation_steps=gradient_accumulation_steps
        )
        average = use_ema, ema_momentum, ema_overwrite_frequency
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, *average, name)
        self.amsgrad = amsgrad
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    @property
    def m(self) -> Arrays | None:
        """The first moments by parameter. None before `build`."""
        return self.slots.get("m")

    @property
    def v(self) -> Arrays | None:
        """The second moments by parameter. None before `build`."""
        return self.slots.get("v")

    def update_range(
        self,
        ops: Ops,
        rate: float,
        step: int,
        params: Any,
        grads: Any,
        slots: Mapping[str, Any],
        scale: Scalar,
        decay: float,
        is_finite: Scalar,
    ) -> None:
        """See `Optimizer.update_range`."""
        c_1 = 1.0 - self.beta_1 ** (step + 1)
        c_2 = math.sqrt(1.0 - self.beta_2 ** (step + 1))
        rate, epsilon, m, v = rate * c_2 / c_1, self._uncorrected_epsilon(c_2), slots["m"], slots["v"]
        if not self.amsgrad:
            ops.adam_step(params, grads, m, v, rate, self.beta_1, self.beta_2, epsilon, scale, decay, is_finite)
            return
        # The moments and the decay; then the step, with the largest v. A rate of 0, and betas of 1, change nothing.
        ops.adam_step(params, grads, m, v, 0.0, self.beta_1, self.beta_2, epsilon, scale, decay, is_finite)
        ops.maximum(slots["v_hat"], v)
        ops.adam_step(params, grads, m, slots["v_hat"], rate, 1.0, 1.0, epsilon, scale, 0.0, is_finite)

    def _uncorrected_epsilon(self, c_2: float) -> float:
        """The ε that is added to the uncorrected root."""
        return self.epsilon


class AdamW(Adam):
    """Keras's `AdamW`. It is `Adam` with weight decay of every parameter, including biases and layer norms.

    Args:
        learning_rate: see `Adam`.
        weight_decay: see `Adam`. The default is Keras's.
        beta_1: see `Adam`.
        beta_2: see `Adam`.
        epsilon, amsgrad: see `Adam`.
        clipnorm, clipvalue, global_clipnorm: see `Adam`.
        use_ema, ema_momentum, ema_overwrite_frequency: see `Optimizer`.
        loss_scale_factor, gradient_accumulation_steps: only None is accepted, Keras's default.
        name: a name, which is kept in the config.

    >>> optimizer = AdamW(5e-5, weight_decay=0.01)
    >>> optimizer.exclude_from_weight_decay(var_names=["bias", "norm"])
    """

    is_named = True
    checks: ClassVar[Checks] = {"weight_decay": DECAY}

    @hinting()
    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: None = None,
        gradient_accumulation_steps: None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, clipnorm, clipvalue, global_clipnorm,
            use_ema, ema_momentum, ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name,
        )  # fmt: skip
