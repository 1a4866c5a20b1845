"""Metrics over an epoch: sums of numerators over sums of denominators, so that batches count by their weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyroberta.model.attributes import Checked, Reasons

__all__ = ["Accuracy", "Loss", "Metric", "Perplexity", "SparseCategoricalAccuracy", "get"]


class Metric(Checked):
    """A quotient whose numerator and denominator grow batch by batch.

    These two numbers are all that a state of training keeps of a metric.

    Attributes:
        name: the key in logs.
        higher_is_better: whether a higher value is an improvement, for callbacks that monitor it.
    """

    name = "metric"
    higher_is_better = False

    def __init__(self, name: str | None = None) -> None:
        self.name = name or self.name
        self.numerator = 0.0
        self.denominator = 0.0

    def reset(self) -> None:
        """Sets numerator and denominator to 0, for the next epoch."""
        self.numerator = self.denominator = 0.0

    def update(
        self,
        losses: NDArray[Any],
        predicted: NDArray[Any],
        labels: NDArray[Any],
        weights: NDArray[Any],
        denominator: float,
    ) -> None:
        """Adds one batch.

        Args:
            losses: (M,) the cross-entropy of each masked token.
            predicted: (M,) the likeliest id of each.
            labels: (M,) the original ids.
            weights: (M,) the weight of each.
            denominator: of the batch's loss; see `losses`.
        """
        raise NotImplementedError

    def result(self) -> float:
        """The metric of all batches since `reset`; 0 if all weights were 0."""
        return self.numerator / self.denominator if self.denominator else 0.0


class Running:
    """Copies of several metrics, reset, so that the batches of one call don't count in another's.

    Args:
        metrics: the metrics to copy.
        unweighted: the metrics among them that leave weights out.

    >>> running = Running([Loss()], [])
    >>> running.update(np.array([3.0]), np.zeros(1), np.zeros(1), np.ones(1), 1.0)
    >>> running.values()
    {'loss': 3.0}
    """

    def __init__(self, metrics: Sequence[Metric], unweighted: Sequence[Metric]) -> None:
        self._metrics = [(copy.deepcopy(metric), any(metric is plain for plain in unweighted)) for metric in metrics]
        for metric, _ in self._metrics:
            metric.reset()

    def update(
        self,
        losses: NDArray[Any],
        predicted: NDArray[Any],
        labels: NDArray[Any],
        weights: NDArray[Any],
        denominator: float,
    ) -> None:
        """Adds one batch; arguments as for `Metric.update`."""
        for metric, is_plain in self._metrics:
            metric.update(losses, predicted, labels, np.ones_like(weights) if is_plain else weights, denominator)

    def get_state(self) -> dict[str, tuple[float, float]]:
        """Each metric's numerator and denominator, by name."""
        return {metric.name: (metric.numerator, metric.denominator) for metric, _ in self._metrics}

    def set_state(self, state: Mapping[str, Sequence[float]]) -> None:
        """Sets the state that `get_state` returned. A metric that it lacks begins at 0."""
        for metric, _ in self._metrics:
            metric.numerator, metric.denominator = map(float, state.get(metric.name, (0.0, 0.0)))

    def values(self) -> dict[str, float]:
        """Each metric's result, by name."""
        return {metric.name: metric.result() for metric, _ in self._metrics}


_UNSETTABLE = {
    "total": "it is called numerator",
    "count": "it is called denominator",
    "dtype": "sums are float64",
    "variables": "a metric has a numerator and a denominator",
    "reset_state": "override reset, in a subclass",
    "update_state": "override update, in a subclass",
    "add_variable": "a metric has a numerator and a denominator",
    "add_weight": "a metric has a numerator and a denominator",
}


class Loss(Metric):
    """The loss with the reduction that the model was compiled with: Σ w·loss over Σ denominators.

    >>> metric = Loss()
    >>> one = np.ones(1)
    >>> metric.update(one * 4.0, one, one, one, denominator=1.0)
    >>> metric.update(np.ones(3), np.ones(3), np.ones(3), np.ones(3), denominator=3.0)
    >>> metric.result()  # not (4 + 1) / 2: the second batch has three tokens
    1.75
    """

    name = "loss"
    unsettable: ClassVar[Reasons] = _UNSETTABLE

    def update(
        self,
        losses: NDArray[Any],
        predicted: NDArray[Any],
        labels: NDArray[Any],
        weights: NDArray[Any],
        denominator: float,
    ) -> None:
        """See `Metric.update`."""
        self.numerator += _weighted_sum(weights, losses)
        self.denominator += denominator


class Accuracy(Metric):
    """The weighted share of masked tokens whose likeliest id is the original: Σ w·[predicted = label] / Σ w.

    >>> metric = Accuracy()
    >>> metric.update(np.zeros(3), np.array([5, 6, 7]), np.array([5, 6, 9]), np.array([1.0, 1.0, 2.0]), 4.0)
    >>> metric.result()
    0.5
    """

    name = "accuracy"
    unsettable: ClassVar[Reasons] = _UNSETTABLE
    higher_is_better = True

    def update(
        self,
        losses: NDArray[Any],
        predicted: NDArray[Any],
        labels: NDArray[Any],
        weights: NDArray[Any],
        denominator: float,
    ) -> None:
        """See `Metric.update`."""
        self.numerator += _weighted_sum(weights, predicted == labels)
        self.denominator += float(weights.sum(dtype=np.float64))


class SparseCategoricalAccuracy(Accuracy):
    """`Accuracy` under the name that Keras logs.

    >>> SparseCategoricalAccuracy().name
    'sparse_categorical_accuracy'
    """

    name = "sparse_categorical_accuracy"


class Perplexity(Metric):
    """exp of the mean loss per masked token, Σ w·loss / Σ w, whatever the loss's reduction; inf past float64's range.

    >>> metric = Perplexity()
    >>> metric.update(np.log([2.0, 8.0]), np.zeros(2), np.zeros(2), np.ones(2), 2.0)
    >>> round(metric.result(), 6)
    4.0
    """

    name = "perplexity"
    unsettable: ClassVar[Reasons] = _UNSETTABLE

    def update(
        self,
        losses: NDArray[Any],
        predicted: NDArray[Any],
        labels: NDArray[Any],
        weights: NDArray[Any],
        denominator: float,
    ) -> None:
        """See `Metric.update`."""
        self.numerator += _weighted_sum(weights, losses)
        self.denominator += float(weights.sum(dtype=np.float64))

    def result(self) -> float:
        """See `Metric.result`; 1 if all weights were 0."""
        try:
            return math.exp(super().result())
        except OverflowError:
            return math.inf


METRICS: dict[str, type[Metric]] = {
    metric.name: metric for metric in (Loss, Accuracy, SparseCategoricalAccuracy, Perplexity)
}


ACCURACIES = ("accuracy", "acc", "sparse_categorical_accuracy")  # names of one metric


def direction(monitor: str, metrics: Sequence[Metric] = ()) -> str | None:
    """Which values of a monitored metric are better: `"min"`, `"max"`, or None where it is not known.

    Args:
        monitor: a name in logs, perhaps with `val_` before it.
        metrics: the model's, beside those of this module.

    >>> direction("val_acc"), direction("loss"), direction("val_score")
    ('max', 'min', None)
    """
    name = monitor.removeprefix("val_")
    kinds: dict[str, Any] = {**METRICS, "acc": Accuracy, **{metric.name: metric for metric in metrics}}
    if name not in kinds:
        return None
    return "max" if kinds[name].higher_is_better else "min"


def logged_name(monitor: str, logs: Mapping[str, Any]) -> str | None:
    """The name under which logs have a monitored metric; None where they lack it.

    >>> logged_name("val_acc", {"val_accuracy": 0.5})
    'val_accuracy'
    """
    if monitor in logs:
        return monitor
    prefix = "val_" if monitor.startswith("val_") else ""
    names = ACCURACIES if monitor.removeprefix("val_") in ACCURACIES else ()
    return next((f"{prefix}{name}" for name in names if f"{prefix}{name}" in logs), None)


def get(metric: str | Metric) -> Metric:
    """A metric by name. A metric object is returned as it is.

    Raises:
        ValueError: for an unknown name.

    >>> get("perplexity").result()
    1.0
    """
    if not isinstance(metric, str):
        return metric
    if metric == "acc":
        return Accuracy(name=metric)  # under the name that it was given, as in Keras
    if metric not in METRICS:
        raise ValueError(f"a metric must be one of {', '.join(METRICS)} or a metric object, got {metric!r}")
    return METRICS[metric]()


def _weighted_sum(weights: NDArray[Any], values: NDArray[Any]) -> float:
    """Σ w·value in float64. A value of weight 0 does not count, even if it is not finite."""
    values = np.where(weights != 0, values, 0.0).astype(np.float64)
    return float((weights * values).sum())
