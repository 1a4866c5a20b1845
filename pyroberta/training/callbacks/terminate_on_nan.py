"""The callback that ends training at a loss that is not finite."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from pyroberta.model.attributes import Checks, true_or_false
from pyroberta.training.callbacks.base import Callback, Logs
from pyroberta.training.callbacks.screen import say


class TerminateOnNaN(Callback):
    """Ends training at the first loss that is NaN or infinite, as in Keras.

    Without this callback, `fit` raises a `NonFiniteError`, which names the op that returned the number. In both cases
    the parameters are those before the step. With the callback, the loss of the step and of its epoch is NaN in the
    logs.

    Args:
        raise_error: whether a RuntimeError is raised instead.

    >>> TerminateOnNaN().on_train_batch_end(0, {"loss": 2.5})
    """

    checks: ClassVar[Checks] = {"raise_error": true_or_false}

    def __init__(self, raise_error: bool = False) -> None:
        super().__init__()
        self.raise_error = raise_error

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Checks the loss. It may set `model.stop_training`."""
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(
                f"the loss of step {batch + 1} is {loss}. The parameters are those before this step. A smaller "
                "learning rate, a longer warm-up or global_clipnorm=1.0 usually helps"
            )
        say(f"step {batch + 1}: the loss is {loss}, and training ends. The parameters are those before this step")
        self.model.stop_training = True


def expects_non_finite(callbacks: list[Any]) -> bool:
    """Returns whether the callbacks contain a `TerminateOnNaN` of pyroberta or Keras."""
    return any(kind.__name__ == "TerminateOnNaN" for callback in callbacks for kind in type(callback).__mro__)
