"""Metrics over an epoch. Each is a sum of numerators over a sum of denominators, so that batches count by their
weights.
"""

from __future__ import annotations

import copy
import math
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyroberta.formats.budget import shown
from pyroberta.model import serialization
from pyroberta.model.attributes import Checked, Checks, Reasons, as_call
from pyroberta.model.serialization import arguments_of, check_name
from pyroberta.training import keras_objects

__all__ = [
    "Accuracy",
    "Loss",
    "MeanOfFunction",
    "Metric",
    "Perplexity",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "deserialize",
    "from_config",
    "get",
    "serialize",
    "sparse_categorical_accuracy",
]

Self = TypeVar("Self", bound="Metric")


class Metric(Checked):
    """The base class of metrics. A metric is a quotient whose numerator and denominator grow with each batch.

    A state of training keeps only these two numbers of a metric.

    Attributes:
        name: the name in logs.
        higher_is_better: whether a higher value is an improvement, for callbacks that monitor the metric.
    """

    checks: ClassVar[Checks] = {"name": check_name}
    name = "metric"
    higher_is_better = False
    needs_outputs: ClassVar[bool] = False  # whether `update_outputs` is called instead of `update`

    def __init__(self, name: str | None = None, **settings: Any) -> None:
        _check_settings(type(self).__name__, settings)
        self.name = self.name if name is None else name
        self.numerator = 0.0
        self.denominator = 0.0

    def reset(self) -> None:
        """Sets the numerator and the denominator to 0, for the next epoch."""
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
            losses: (M,) the cross-entropy at each target row.
            predicted: (M,) the most likely id at each target row.
            labels: (M,) the original ids.
            weights: (M,) the weight of each target row.
            denominator: the denominator of the loss of the batch; see `losses`.
        """
        raise NotImplementedError

    def update_outputs(self, labels: NDArray[Any], outputs: NDArray[Any], weights: NDArray[Any]) -> None:
        """Adds one batch. For a metric with `needs_outputs` it is called instead of `update`.

        Args:
            labels: (M,) see `update`.
            outputs: (M, V) the outputs of the model: logits, or what the `activation` of a classifier makes of them.
            weights: (M,) see `update`.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        return as_call(self)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, in JSON's types."""
        return {"name": self.name}

    @classmethod
    def from_config(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """Returns the metric of a config of `get_config`, without its sums. `dtype`, which Keras's configs have, is
        ignored.

        >>> Accuracy.from_config({"name": "mine"}).name
        'mine'
        """
        return cls(**{name: value for name, value in arguments_of(cls, config).items() if name != "dtype"})

    def result(self) -> float:
        """Returns the metric of all batches since `reset`. It is 0 if all weights were 0."""
        return self.numerator / self.denominator if self.denominator else 0.0


class Running:
    """Copies of several metrics for one call. They start at 0, so that the batches of one call do not count in another.

    Args:
        metrics: the metrics to copy.
        unweighted: the metrics among them that ignore weights.

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
        outputs: NDArray[Any] | None = None,
    ) -> None:
        """Adds one batch. For the arguments see `Metric.update` and `Metric.update_outputs`."""
        for metric, is_plain in self._metrics:
            given = np.ones_like(weights) if is_plain else weights
            if metric.needs_outputs:
                assert outputs is not None
                metric.update_outputs(labels, outputs, given)
            else:
                metric.update(losses, predicted, labels, given, denominator)

    def get_state(self) -> dict[str, tuple[float, float]]:
        """Returns the numerator and the denominator of each metric, by name."""
        return {metric.name: (metric.numerator, metric.denominator) for metric, _ in self._metrics}

    def set_state(self, state: Mapping[str, Sequence[float]]) -> None:
        """Sets the state that `get_state` returned. A metric that the state lacks starts at 0."""
        for metric, _ in self._metrics:
            metric.numerator, metric.denominator = map(float, state.get(metric.name, (0.0, 0.0)))

    def values(self) -> dict[str, float]:
        """Returns the result of each metric, by name."""
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
    """The weighted share of target rows whose most likely id is the label: Σ w·[predicted = label] / Σ w.

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
    """The exp of the mean loss per target row, Σ w·loss / Σ w, whatever the reduction of the loss is. It is inf beyond
    float64's range.

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
        """See `Metric.result`. It is 1 if all weights were 0."""
        try:
            return math.exp(super().result())
        except OverflowError:
            return math.inf


class SparseCategoricalCrossentropy(Metric):
    """The mean loss, Σ w·loss / Σ w, whatever the reduction of the loss is.

    >>> metric = SparseCategoricalCrossentropy()
    >>> metric.update(np.array([1.0, 3.0]), np.zeros(2), np.zeros(2), np.array([1.0, 3.0]), 2.0)
    >>> metric.result()
    2.5
    """

    name = "sparse_categorical_crossentropy"
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


class MeanOfFunction(Metric):
    """The mean of a function of labels and outputs. Keras makes such a metric from a function.

    It makes training slower, since the outputs are computed a second time.

    Args:
        function: a function of labels (M,) and outputs (M, V). It returns (M,) values, of which the weighted mean is
            taken, or one value, which counts once for each batch.
        name: the name of the metric. The default is that of the function.

    Raises:
        ValueError: if the function returns another shape.

    >>> metric = MeanOfFunction(lambda y_true, y_pred: y_pred.argmax(-1) == y_true, name="hits")
    >>> metric.update_outputs(np.array([1, 0]), np.array([[0.0, 1.0], [0.0, 1.0]]), np.ones(2))
    >>> metric.result()
    0.5
    """

    unsettable: ClassVar[Reasons] = _UNSETTABLE
    needs_outputs = True

    def __init__(self, function: Callable[..., Any], name: str | None = None) -> None:
        super().__init__(name or _snake_case(getattr(function, "__name__", type(function).__name__)))
        self.function = function

    def update_outputs(self, labels: NDArray[Any], outputs: NDArray[Any], weights: NDArray[Any]) -> None:
        """See `Metric.update_outputs`."""
        values = np.asarray(self.function(labels, outputs), np.float64)
        if values.shape not in ((), labels.shape):
            raise ValueError(
                f"the metric {self.name} should return one value, or one per label, {labels.shape}; got {values.shape}"
            )
        if values.shape == ():
            values, weights = values.reshape(1), np.ones(1)
        self.numerator += _weighted_sum(weights, values)
        self.denominator += float(weights.sum(dtype=np.float64))

    def get_config(self) -> dict[str, Any]:
        """Raises an error, since a function can't be saved."""
        raise ValueError(f"the metric {self.name} is a function, which can't be saved")


METRICS: dict[str, type[Metric]] = {
    metric.name: metric
    for metric in (Loss, Accuracy, SparseCategoricalAccuracy, Perplexity, SparseCategoricalCrossentropy)
}


ACCURACIES = ("accuracy", "acc", "sparse_categorical_accuracy")  # names of one metric


def direction(monitor: str, metrics: Sequence[Metric] = ()) -> str | None:
    """Returns which values of a monitored metric are better: `"min"`, `"max"`, or None if it is unknown.

    Args:
        monitor: a name in logs, which may begin with `val_`.
        metrics: the metrics of the model. Those of this module are known.

    >>> direction("val_acc"), direction("loss"), direction("val_score")
    ('max', 'min', None)
    """
    name = monitor.removeprefix("val_")
    kinds: dict[str, Any] = {**METRICS, "acc": Accuracy, **{metric.name: metric for metric in metrics}}
    if name not in kinds:
        return None
    return "max" if kinds[name].higher_is_better else "min"


def logged_name(monitor: str, logs: Mapping[str, Any]) -> str | None:
    """Returns the name under which logs have a monitored metric, or None if they lack it.

    >>> logged_name("val_acc", {"val_accuracy": 0.5})
    'val_accuracy'
    """
    if monitor in logs:
        return monitor
    prefix = "val_" if monitor.startswith("val_") else ""
    names = ACCURACIES if monitor.removeprefix("val_") in ACCURACIES else ()
    return next((f"{prefix}{name}" for name in names if f"{prefix}{name}" in logs), None)


def get(metric: Any) -> Any:
    """Returns a metric by name, from a config, from a function, or from a metric of Keras.

    Args:
        metric: a name; a config of `serialize`, here or of Keras; a function, see `MeanOfFunction`; a metric; or None.
            A metric of pyroberta is returned as it is, and None stays None.

    Raises:
        ValueError: if the name is unknown.
        TypeError: if pyroberta does not have the metric of Keras. The message has the line to write.

    >>> get("perplexity").result()
    1.0
    >>> get({"class_name": "SparseCategoricalAccuracy", "config": {"name": "mine"}}).name
    'mine'
    """
    if isinstance(metric, Mapping):
        return from_config(metric)
    if isinstance(metric, str):
        return Accuracy(name=metric) if metric == "acc" else _kind(metric)()  # under the name that was given, as Keras
    if keras_objects.base_name(metric) is not None:
        return _converted(metric)
    if callable(metric) and not isinstance(metric, type):
        theirs = keras_objects.function_name(metric)
        if metric is sparse_categorical_accuracy or theirs == "sparse_categorical_accuracy":
            return SparseCategoricalAccuracy()
        return MeanOfFunction(metric)
    return metric


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> NDArray[Any]:
    """Returns 1.0 for each label whose output is the largest, else 0.0. As a metric it is `SparseCategoricalAccuracy`.

    Args:
        y_true: labels (...), or (..., 1).
        y_pred: outputs (..., V).

    Returns:
        (...) float32.

    Raises:
        ValueError: if the shapes do not fit.

    >>> sparse_categorical_accuracy([1, 0], [[0.1, 0.9], [0.2, 0.8]])
    array([1., 0.], dtype=float32)
    """
    outputs, labels = np.asarray(y_pred), np.asarray(y_true)
    if outputs.ndim == 0 or labels.shape not in (outputs.shape[:-1], (*outputs.shape[:-1], 1)):
        raise ValueError(
            f"y_true must have the shape of y_pred without its last axis, or with 1 there; got {labels.shape} and "
            f"{outputs.shape}"
        )
    found: NDArray[Any] = outputs.argmax(-1) == labels.reshape(outputs.shape[:-1])
    return found.astype(np.float32)


def _kind(name: Any) -> type[Metric]:
    kinds = {**METRICS, **{kind.__name__: kind for kind in METRICS.values()}}
    name = serialization.plain_name(name)
    if not isinstance(name, str) or name not in kinds:
        raise ValueError(f"a metric must be one of {', '.join(METRICS)} or a metric object, got {shown(name)}")
    return kinds[name]


def _converted(metric: Any) -> Metric:
    """One of Keras's or KerasHub's metrics as one of pyroberta's."""
    name = keras_objects.class_name(metric)
    config = dict(metric.get_config()) if name in CONVERTED else {}
    if name not in CONVERTED:
        raise TypeError(
            f"the metric {name or type(metric).__name__} can't be converted. Use {', '.join(CONVERTED)}, or any "
            "function of labels (M,) and outputs (M, V), as in metrics=[lambda y_true, y_pred: y_pred.argmax(-1) == "
            "y_true]"
        )
    return METRICS[_snake_case(name)].from_config(config)


def _snake_case(name: str) -> str:
    """The name under which Keras logs a class or a function.

    >>> _snake_case("SparseCategoricalAccuracy"), _snake_case("<lambda>")
    ('sparse_categorical_accuracy', 'lambda')
    >>> _snake_case("topKAcc"), _snake_case("HTTPError")
    ('top_k_acc', 'http_error')
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", re.sub(r"\W+", "", name)).lower()


def _check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Checks that a metric's settings of Keras have the values that they must have here.

    Raises:
        TypeError: for a setting that Keras's metric hasn't.
        ValueError: for another value.

    >>> _check_settings("Perplexity", {"from_logits": True})
    """
    for setting, value in settings.items():
        if setting not in (known := CONVERTED.get(name, {})):
            raise TypeError(f"the metric {name} has no argument {setting!r}")
        if value != known[setting]:
            raise ValueError(f"the metric {name} should have {setting}={known[setting]!r} here")


# Keras's metrics that are here too, and what their other settings must be.
CONVERTED: dict[str, dict[str, Any]] = {
    "SparseCategoricalAccuracy": {},
    "SparseCategoricalCrossentropy": {"from_logits": True, "axis": -1, "ignore_class": None},
    "Perplexity": {"from_logits": True, "mask_token_id": None},
}


def serialize(metric: Metric) -> dict[str, Any]:
    """Returns the class and the config of a metric, in JSON's types. `get` makes the metric from them.

    >>> serialize(Accuracy())
    {'class_name': 'Accuracy', 'config': {'name': 'accuracy'}}
    """
    return {"class_name": type(metric).__name__, "config": metric.get_config()}


def from_config(config: Mapping[str, Any]) -> Metric:
    """Returns the metric of `{"class_name": ..., "config": {...}}`. A function of Keras is the metric of its name.

    Raises:
        ValueError: if the class is unknown or a user's own, or there is none, as in Keras's dicts of outputs.

    >>> from_config({"class_name": "Accuracy", "config": {}}).name
    'accuracy'
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"a metric's config should be a dict with class_name and config, got {reprlib.repr(config)}")
    if "class_name" not in config:
        raise ValueError(
            f"{reprlib.repr(dict(config))} is not a metric: the model has one output, so pass a list, as in "
            "metrics=['accuracy']"
        )
    kind, given = _kind(serialization.written_name("metric", config)), config.get("config")
    if serialization.is_function(config):
        return kind()
    if not isinstance(given, Mapping):
        raise ValueError(f"the metric's config should be a dict, got {reprlib.repr(given)}")
    return kind.from_config(given)


deserialize = from_config  # its name in Keras


def _weighted_sum(weights: NDArray[Any], values: NDArray[Any]) -> float:
    """Σ w·value in float64. A value of weight 0 does not count, even if it is not finite."""
    values = np.where(weights != 0, values, 0.0).astype(np.float64)
    return float((weights * values).sum())
