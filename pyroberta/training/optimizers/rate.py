"""The learning rate that `optimizer.learning_rate` returns."""

from __future__ import annotations

from typing import Any

import numpy as np


class Rate(float):
    """A number with the methods `numpy` and `assign` of Keras's variable. It is a copy of the rate.

    >>> from pyroberta.optimizers import Adam
    >>> optimizer = Adam(0.5)
    >>> optimizer.learning_rate.assign(0.25)
    0.25
    >>> optimizer.learning_rate, float(optimizer.learning_rate.numpy())
    (0.25, 0.25)
    """

    __slots__ = ("_optimizer",)
    _optimizer: Any

    def __new__(cls, value: float, optimizer: Any) -> Rate:
        """A rate of an optimizer's."""
        rate = super().__new__(cls, value)
        rate._optimizer = optimizer
        return rate

    def assign(self, value: Any) -> Rate:
        """Sets the optimizer's learning rate, and returns the new rate. This object does not change.

        Raises:
            ValueError: if the value is not a number of at least 0 or a schedule.
        """
        self._optimizer.learning_rate = value
        rate: Rate = self._optimizer.learning_rate
        return rate

    def numpy(self) -> Any:
        """Returns the number as a NumPy scalar."""
        return np.float64(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy or a pickle is a plain number."""
        return float, (float(self),)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"a learning rate is a number, which has no {name!r}: optimizer.learning_rate = 1e-4 sets it, and "
            "optimizer.learning_rate * 0.5 is a number again"
        )
