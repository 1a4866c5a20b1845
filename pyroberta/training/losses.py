"""The loss of a masked language model, with Keras's names and reductions.

| reduction | the sum of weighted token losses is divided by |
|---|---|
| `"sum_over_batch_size"`, `"mean"` | the number of values, whatever their weights: B·K with padded slots |
| `"mean_with_sample_weight"` | the sum of the weights: the mean over masked tokens |
| `"sum"` | nothing |
| `None`, `"none"` | not summed: one value per token |

If the sum of the weights is 0, the loss is 0. (keras/src/losses/loss.py, Keras 3.15.)
"""

from __future__ import annotations

import contextlib
import inspect
import reprlib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyroberta.formats.budget import shown
from pyroberta.model import serialization
from pyroberta.model.attributes import (
    Checked,
    Checks,
    Reasons,
    as_call,
    true_or_false,
    whole_number,
    whole_number_or_none,
)
from pyroberta.model.serialization import arguments_of, check_name
from pyroberta.training import keras_objects

__all__ = [
    "SparseCategoricalCrossentropy",
    "deserialize",
    "from_config",
    "get",
    "serialize",
    "sparse_categorical_crossentropy",
]

Self = TypeVar("Self", bound="SparseCategoricalCrossentropy")

Reduction = Literal["sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none"]
REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None)

DTYPES = ("float16", "float32", "float64")  # NumPy's floats that Keras has too
KERAS_EPSILON = 1e-7  # keras.config.epsilon(): probabilities are kept this far from 0 and 1


def _reduction(name: str, value: Any) -> Any:
    if not isinstance(value, str | None) or value not in REDUCTIONS:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, REDUCTIONS))}, got {value!r}")
    return None if value == "none" else value


def _dtype(name: str, value: Any) -> str | None:
    """The name of a loss's dtype, of NumPy's too, or of a Keras policy."""
    given = getattr(value, "compute_dtype", value)
    given = getattr(given, "__name__", str(given))
    if value is not None and given not in DTYPES:
        raise ValueError(f"{name} must be None or one of {', '.join(DTYPES)} (dtypes of NumPy); got {value!r}")
    return None if value is None else given


class SparseCategoricalCrossentropy(Checked):
    """The cross-entropy of integer labels, -log p(label), weighted and reduced.

    Args:
        from_logits: whether predictions are logits, as those of the model. Otherwise they are probabilities, which are
            divided by their sum and clipped to [1e-7, 1 - 1e-7], as in Keras.
        ignore_class: a label that counts neither in the sum nor in the denominator.
        reduction: a reduction from the table in this module's docstring.
        axis: the axis of the classes in y_pred, if the loss is called on arrays. A model that is compiled with a loss
            has the classes on the last axis.
        name: the name for logs.
        dtype: the dtype of the result of a call on arrays: `"float16"`, `"float32"` or `"float64"`. It is computed in
            float32, or in float64 for `"float64"`. Without a dtype, a reduced loss is a Python float, and losses that
            are not reduced are float64 if y_pred is, else float32.

    Raises:
        TypeError: if from_logits is not a bool, or name is not a text.
        ValueError: if the reduction or the dtype is unknown, or another value is out of range.

    >>> loss = SparseCategoricalCrossentropy(from_logits=True)
    >>> logits = np.log([[0.25, 0.25, 0.5], [0.125, 0.75, 0.125]])
    >>> round(loss([2, 0], logits) / float(np.log(2)), 6)  # (1 + 3) / 2 bits
    2.0
    >>> round(loss([2, 0], logits, sample_weight=[1, 0]) / float(np.log(2)), 6)  # (1 + 0) / 2
    0.5
    """

    op: ClassVar[str] = "cross_entropy"  # whose rows make it in training
    dtype: str | None
    checks: ClassVar[Checks] = {
        "from_logits": true_or_false,
        "ignore_class": lambda name, value: whole_number_or_none(name, value, at_least=-(2**63)),
        "reduction": _reduction,
        "name": check_name,
        "axis": lambda name, value: whole_number(name, value, at_least=-(2**63)),
    }
    unsettable: ClassVar[Reasons] = {
        "call": "a loss of another form has no backward here",
        "fn": "a loss of another form has no backward here",
        "dtype": "make another loss, with dtype=",
    }

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: Reduction | None = "sum_over_batch_size",
        axis: int = -1,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ) -> None:
        self.from_logits = from_logits
        self.ignore_class = ignore_class
        self.reduction = reduction
        self.axis = axis
        self.name = name
        vars(self)["dtype"] = _dtype("dtype", dtype)

    def __call__(
        self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float | NDArray[Any]:
        """The reduced loss; an array where the reduction is None.

        Args:
            y_true: (...) integer labels in [0, V), or `ignore_class`.
            y_pred: (..., V) logits or probabilities; with an `axis`, V stands there.
            sample_weight: as y_true, or one per leading index of it: (B,) for labels (B, K).

        Raises:
            ValueError: for shapes that do not fit and for labels outside [0, V).
        """
        if self.dtype is not None:
            y_pred = np.asarray(y_pred, np.float64 if self.dtype == "float64" else np.float32)
        losses = sparse_categorical_crossentropy(y_true, y_pred, self.from_logits, self.ignore_class, self.axis)
        weights = _broadcast_weights(sample_weight, losses)
        count = losses.size
        if self.ignore_class is not None:
            is_kept = np.asarray(y_true).reshape(losses.shape) != self.ignore_class
            weights = weights * is_kept
            count = int(is_kept.sum())
        losses *= weights.astype(losses.dtype)
        if self.reduction is None:
            return losses if self.dtype is None else losses.astype(self.dtype)
        denominator = self.denominator(float(weights.sum(dtype=np.float64)), count)
        loss = float(losses.sum(dtype=np.float64)) / denominator if denominator else 0.0
        return loss if self.dtype is None else np.dtype(self.dtype).type(loss)

    def denominator(self, weight_sum: float, slots: float) -> float:
        """Returns the denominator, by which the sum of weighted token losses is divided.

        Args:
            weight_sum: the sum of the weights of all losses of the update.
            slots: the number of values that Keras counts: B·K of the padded batch.

        Raises:
            ValueError: if the reduction is None, since training needs one number.

        >>> [SparseCategoricalCrossentropy(reduction=r).denominator(2.5, 8)
        ...  for r in ("mean", "mean_with_sample_weight", "sum")]
        [8.0, 2.5, 1.0]
        """
        if self.reduction is None:
            raise ValueError(
                "reduction=None gives one loss per token, but training needs one number: compile with "
                "reduction='mean_with_sample_weight' or another one"
            )
        if self.reduction == "sum":
            return 1.0
        if self.reduction == "mean_with_sample_weight":
            return weight_sum
        return float(slots)

    def clipped(self, losses: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Returns Keras's losses of probabilities, given the exact ones, and whether each has a gradient.

        Keras clips a probability to [1e-7, 1 - 1e-7] before it takes the logarithm. Outside this range the loss does
        not change with the probability, so its gradient is 0.

        Args:
            losses: (M,) the exact losses -log p, in training.

        Returns:
            The losses (M,), and a bool for each, (M,).

        >>> SparseCategoricalCrossentropy().clipped(np.array([0.0, 1.0, 50.0]))[1]
        array([False,  True, False])
        """
        kind = losses.dtype.type
        least, most = -np.log(kind(1.0 - KERAS_EPSILON)), -np.log(kind(KERAS_EPSILON))
        return np.clip(losses, least, most), (least <= losses) & (losses <= most)

    def __repr__(self) -> str:
        return as_call(self)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, in JSON's types."""
        return {
            "name": self.name,
            "from_logits": self.from_logits,
            "ignore_class": self.ignore_class,
            "reduction": self.reduction,
            "axis": self.axis,
            "dtype": self.dtype,
        }

    @classmethod
    def from_config(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """Returns the loss of a config that `get_config`, here or of Keras, returned.

        Raises:
            TypeError: if config is not a dict.
            ValueError: if an argument is unknown.

        >>> SparseCategoricalCrossentropy.from_config({"from_logits": True}).from_logits
        True
        """
        arguments = arguments_of(cls, config)
        unknown = set(arguments) - set(inspect.signature(cls).parameters)
        if unknown:
            raise ValueError(f"{cls.__name__} has no argument {min(unknown)!r}")
        return cls(**arguments)


def sparse_categorical_crossentropy(
    y_true: ArrayLike, y_pred: ArrayLike, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> NDArray[Any]:
    """Returns -log p(label) of each label, without a reduction.

    Args:
        y_true: (...) or (..., 1) integer labels.
        y_pred: (..., V) logits or probabilities. float64 stays float64; anything else becomes float32.
        from_logits: see `SparseCategoricalCrossentropy`.
        ignore_class: a label whose loss is 0.
        axis: the axis of V in y_pred, which is the axis of 1 in y_true.

    Returns:
        The losses (...).

    Raises:
        ValueError: if the shapes do not fit, a value is not a real number, or a label is outside [0, V).

    >>> sparse_categorical_crossentropy([1], [[0.5, 0.5]]).round(4)
    array([0.6931], dtype=float32)
    >>> sparse_categorical_crossentropy([0, 1], [[0.5, 0.75], [0.5, 0.25]], axis=0).round(4)
    array([0.6931, 1.3863], dtype=float32)
    """
    from_logits = true_or_false("from_logits", from_logits)
    axis = whole_number("axis", axis, at_least=-(2**63))
    predictions = _real("y_pred", y_pred)
    predictions = predictions.astype(np.float64 if _is_double(y_pred) else np.float32, copy=False)
    labels = _real("y_true", y_true)
    if predictions.ndim == 0:
        raise ValueError("y_pred must have an axis of classes (..., V), got a number")
    if not -predictions.ndim <= axis < predictions.ndim:
        raise ValueError(f"axis must be one of the {predictions.ndim} of y_pred, {predictions.shape}, got {axis}")
    if labels.ndim == predictions.ndim and labels.shape[axis] == 1:
        labels = labels.squeeze(axis)
    predictions = np.moveaxis(predictions, axis, -1)
    if labels.shape != predictions.shape[:-1]:
        without = "its last axis" if axis == -1 else f"axis {axis}"
        raise ValueError(
            f"y_true must have the shape of y_pred without {without}, {predictions.shape[:-1]}, got {labels.shape}"
        )
    labels = _as_integers(labels)
    is_kept = np.ones(labels.shape, bool) if ignore_class is None else labels != ignore_class
    labels = np.where(is_kept, labels, 0)
    V = predictions.shape[-1]
    is_outside = (labels < 0) | (labels >= V)
    if is_outside.any():
        place = tuple(int(i) for i in np.argwhere(is_outside)[0])
        raise ValueError(
            f"label {int(labels[place])} at {place} is outside the {V} classes of y_pred; to leave labels out, give "
            "them the weight 0 or pass their value as ignore_class"
        )
    log_probabilities = log_softmax(predictions) if from_logits else _log_of_probabilities(predictions)
    losses = -np.take_along_axis(log_probabilities, labels[..., None], axis=-1)[..., 0]
    return np.where(is_kept, losses, losses.dtype.type(0.0))


def log_softmax(x: NDArray[Any]) -> NDArray[Any]:
    """Returns x - log Σ exp x along the last axis. The largest value is subtracted first, so that nothing overflows.

    x (..., V) -> (..., V), in x's dtype.

    >>> log_softmax(np.array([1000.0, 1000.0])).round(4)
    array([-0.6931, -0.6931])
    """
    shifted: NDArray[Any] = x - x.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


LOSSES: dict[str, type[SparseCategoricalCrossentropy]] = {
    "sparse_categorical_crossentropy": SparseCategoricalCrossentropy
}


def get(loss: Any) -> Any:
    """Returns a loss by name, from a config, or from a loss of Keras. A loss by name takes logits, as the model returns
    them.

    Args:
        loss: a name, or the function of that name; a config of `serialize`, here or of Keras; a loss object; or None. A
            loss of pyroberta is returned as it is, and None stays None.

    Raises:
        ValueError: if a name or an argument is unknown.
        TypeError: if pyroberta does not have the loss of Keras. The message has the line to write.

    >>> get("sparse_categorical_crossentropy").from_logits
    True
    >>> get({"class_name": "SparseCategoricalCrossentropy", "config": {"reduction": "sum"}}).reduction
    'sum'
    """
    if isinstance(loss, Mapping):
        return from_config(loss)
    function = keras_objects.function_name(loss)
    if isinstance(loss, str) or function in LOSSES:
        return _kind(loss if isinstance(loss, str) else function)(from_logits=True)
    if keras_objects.base_name(loss) is not None or function is not None:
        return _converted(loss)
    return loss


def _kind(name: Any) -> type[SparseCategoricalCrossentropy]:
    names = {**LOSSES, **{kind.__name__: kind for kind in LOSSES.values()}}
    name = serialization.plain_name(name)
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)} or a loss object, got {shown(name)}")
    return names[name]


def _converted(loss: Any) -> SparseCategoricalCrossentropy:
    """One of Keras's losses as one of pyroberta's."""
    name = keras_objects.class_name(loss)
    if name != "SparseCategoricalCrossentropy":
        given = name or keras_objects.function_name(loss) or type(loss).__name__
        raise TypeError(
            f"the loss {given} can't be converted: only the cross-entropy of whole numbers has a backward. Write "
            "loss=pyroberta.losses.SparseCategoricalCrossentropy(from_logits=True)"
        )
    return SparseCategoricalCrossentropy.from_config(loss.get_config())


def serialize(loss: SparseCategoricalCrossentropy) -> dict[str, Any]:
    """Returns the class and the config of a loss, in JSON's types. `get` makes the loss from them.

    >>> serialize(SparseCategoricalCrossentropy())["class_name"]
    'SparseCategoricalCrossentropy'
    """
    return {"class_name": type(loss).__name__, "config": loss.get_config()}


def from_config(config: Mapping[str, Any]) -> SparseCategoricalCrossentropy:
    """Returns the loss of `{"class_name": ..., "config": {...}}`. A function of Keras is the loss of its name.

    Raises:
        ValueError: if config is not such a dict, the class or an argument is unknown, or the class is a user's own.

    >>> from_config({"class_name": "SparseCategoricalCrossentropy", "config": {"from_logits": True}}).from_logits
    True
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"a loss's config should be a dict with class_name and config, got {reprlib.repr(config)}")
    kind, given = _kind(serialization.written_name("loss", config)), config.get("config")
    if serialization.is_function(config):
        return kind(from_logits=True)
    if not isinstance(given, Mapping):
        raise ValueError(f"the loss's config should be a dict, got {reprlib.repr(given)}")
    return kind.from_config(given)


deserialize = from_config  # its name in Keras


def _is_double(values: ArrayLike) -> bool:
    return isinstance(values, (np.ndarray, np.generic)) and values.dtype == np.float64


def _real(name: str, values: ArrayLike) -> NDArray[Any]:
    """Values as an array, checked to be real numbers."""
    array = np.asarray(values)
    with contextlib.suppress(TypeError, ValueError):
        array = array.astype(np.float64) if array.dtype.kind == "O" else array
    if array.dtype.kind in "cOSUTmM":
        raise ValueError(f"{name} must be real numbers, got {array.dtype}")
    return array


def _as_integers(labels: NDArray[Any]) -> NDArray[np.int64]:
    with np.errstate(invalid="ignore"):  # of NaN, which is no integer either
        integers = labels.astype(np.int64)
    if labels.dtype.kind not in "iu" and not np.array_equal(integers, labels):
        raise ValueError(f"y_true must hold whole numbers (token ids), got {labels.dtype} with fractions")
    return integers


def _log_of_probabilities(p: NDArray[Any]) -> NDArray[Any]:
    p = p / p.sum(axis=-1, keepdims=True)
    logs: NDArray[Any] = np.log(np.clip(p, KERAS_EPSILON, 1.0 - KERAS_EPSILON))
    return logs


def _broadcast_weights(sample_weight: ArrayLike | None, losses: NDArray[Any]) -> NDArray[np.float64]:
    if sample_weight is None:
        return np.ones(losses.shape)
    weights = _real("sample_weight", sample_weight).astype(np.float64)
    if weights.ndim == losses.ndim + 1 and weights.shape[-1] == 1:
        weights = weights[..., 0]
    shape = weights.shape + (1,) * (losses.ndim - weights.ndim)
    if len(shape) != losses.ndim or any(w not in (1, n) for w, n in zip(shape, losses.shape, strict=True)):
        raise ValueError(
            f"sample_weight must have the shape of y_true, {losses.shape}, or of its first axes, got {weights.shape}"
        )
    return np.broadcast_to(weights.reshape(shape), losses.shape)
