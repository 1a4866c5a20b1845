"""The callback that evaluates with the moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyroberta.model.attributes import Checks, true_or_false
from pyroberta.training.callbacks.base import Callback, Logs


class SwapEMAWeights(Callback):
    """Sets the parameters to the optimizer's moving average for evaluation and prediction, and back afterwards.

    It needs an optimizer with `use_ema=True`. At the end of `fit` the parameters are the average in any case, so
    `evaluate` then returns the last `val_loss`. The original parameters are held in memory during an evaluation. If an
    error ends the evaluation, the average stays in the model.

    Args:
        swap_on_epoch: whether the average stays from the end of an epoch to the beginning of the next one, for
            callbacks that come later in the list, such as `ModelCheckpoint`. Training that continues from such a preset
            continues from the average. `BackupAndRestore` saves the original parameters too, and continues from these.

    Raises:
        ValueError: in training or evaluation, if the optimizer has no moving average.

    >>> SwapEMAWeights(swap_on_epoch=True).swap_on_epoch
    True
    """

    checks: ClassVar[Checks] = {"swap_on_epoch": true_or_false}

    def __init__(self, swap_on_epoch: bool = False) -> None:
        super().__init__()
        self.swap_on_epoch = swap_on_epoch
        self._weights: list[NDArray[Any]] | None = None  # the model's own, while the average is in their place

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forgets the parameters of an earlier run."""
        self._check()
        self._weights = None

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Restores the original parameters, if the epoch before ended with the average."""
        self._restore()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Sets the parameters to the average, with `swap_on_epoch`."""
        if self.swap_on_epoch:
            self._swap()

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Sets the parameters to the average."""
        self._swap()

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Restores the original parameters."""
        self._restore()

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Sets the parameters to the average."""
        self._swap()

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Restores the original parameters."""
        self._restore()

    def get_state(self) -> dict[str, Any]:
        """See `Callback.get_state`."""
        return {"weights": self._weights}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Callback.set_state`."""
        weights = state["weights"]
        self._weights = None if weights is None else [np.asarray(weight) for weight in weights]

    def _check(self) -> None:
        if not getattr(self.model.optimizer, "use_ema", False):
            raise ValueError(
                "SwapEMAWeights needs the optimizer's moving average, which this optimizer does not keep: compile with "
                "use_ema=True, as in pyroberta.optimizers.Adam(use_ema=True)"
            )

    def _swap(self) -> None:
        self._check()
        optimizer = self.model.optimizer
        if self._weights is None and optimizer.is_built:  # before the first update there is no average
            self._weights = [np.array(weight) for weight in self.model.get_weights()]
            average = optimizer.slots[optimizer.optional_slots["use_ema"]]
            self.model.set_weights(list(average.values()))

    def _restore(self) -> None:
        if self._weights is not None:
            self.model.set_weights(self._weights)
            self._weights = None
