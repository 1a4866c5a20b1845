"""The arguments of `compile`: an optimizer, a loss and metrics."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol

from numpy import ndarray as Array

from pyroberta.model.attributes import Checked, Checks, expect_instance, random_seed, true_or_false
from pyroberta.model.config import RobertaConfig
from pyroberta.model.hints import hinting
from pyroberta.model.parameters import Arrays, PreparedArrays
from pyroberta.ops import Ops
from pyroberta.training import losses, optimizers
from pyroberta.training import metrics as measures
from pyroberta.training.run import Run
from pyroberta.training.state import TrainState

OF_THE_PREPROCESSOR = "it belongs to the preprocessor: model.preprocessor.sequence_length = n sets it"
OF_THE_OPTIMIZER = "it belongs to the optimizer, as in compile(optimizer=pyroberta.optimizers.Adam(learning_rate=1e-4))"
DEFAULT_RATE = 5e-5  # of "auto", KerasHub's
WITHOUT_EFFECT = {  # an argument of Keras's compile: its default, and the reason why there is no other value
    "loss_weights": (None, "the model has one loss. Pass sample_weight to fit for weights of texts"),
    "run_eagerly": (False, "every step is plain Python here, which a debugger can enter"),
    "steps_per_execution": (1, "there is no graph in which several steps could run; callbacks run after each one"),
    "auto_scale_loss": (True, "losses are not scaled here, since float32 and float64 do not need it"),
}


class Parameters(Protocol):
    """The part of a backbone that the trainer uses."""

    config: RobertaConfig
    ops: Ops
    params: Arrays

    def trainable_names(self) -> list[str]:
        """Returns the names of the parameters that training may change."""

    def prepared(self, changing: Sequence[str] = ()) -> PreparedArrays:
        """Returns the parameters with kernels prepared, except those that are about to change."""

    def writing(self, name: str, makes_room: bool = False) -> AbstractContextManager[None]:
        """Returns a `with` block in which the caller may change the parameters."""

    def updating(self, names: Sequence[str], writers: Sequence[str]) -> AbstractContextManager[Arrays]:
        """Returns a `with` block that yields the parameters themselves, to be changed in place."""


class Compiled(Checked):
    """A task with its optimizer, its loss and its metrics."""

    backbone: Parameters
    seed: int
    default_metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    output_axes: ClassVar[int] = 2  # of what the model gives, (B, V)
    takes_metrics: ClassVar[bool] = True  # without weights, as Keras's `metrics` are
    checks: ClassVar[Checks] = {"seed": random_seed}

    _is_compiled = True
    _gives_probabilities = False  # instead of logits
    _run: Run | None = None  # the `fit` that is under way
    _is_resuming = False  # whether the next `fit` goes on from a state that was loaded

    def _checked(self, name: str, value: Any) -> Any:
        value = super()._checked(name, value)
        if name == "optimizer":
            value = _optimizer_of(value)
            value.belong_to(self)
        elif name == "loss":
            value = self._default_loss() if isinstance(value, str) and value == "auto" else losses.get(value)
            self._check_loss(expect_instance(name, value, losses.SparseCategoricalCrossentropy))
        return value

    @abstractmethod
    def _default_loss(self) -> losses.SparseCategoricalCrossentropy:
        """The loss that `"auto"` stands for."""

    @abstractmethod
    def _trainable_names(self) -> list[str]:
        """The parameters that training may change."""

    @hinting(**dict.fromkeys(("lr", "learning_rate", "weight_decay"), OF_THE_OPTIMIZER))
    def compile(
        self,
        optimizer: Any = "auto",
        loss: Any = "auto",
        *,
        loss_weights: None = None,
        metrics: Any = None,
        weighted_metrics: Any = "auto",
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
        recompute: bool = False,
    ) -> None:
        """Sets the optimizer, the loss and the metrics. The optimizer starts without a state.

        The optimizer, the loss and the metrics may also be objects of Keras, or their configs. They are converted, or
        refused with an error that has the line to write.

        Args:
            optimizer: a name or an optimizer. `"auto"` means `Adam(5e-5)` in Keras's form, as in KerasHub. `"adam"`
                means `Adam()` with the rate 1e-3, as in Keras.
            loss: a name or a loss. `"auto"` means the mean over the masked tokens, or over a classifier's texts
                (whatever their weights, as in Keras); see `losses.SparseCategoricalCrossentropy`.
            loss_weights: only None is accepted, Keras's default, since there is one loss.
            metrics: names, `metrics` objects or functions, for a classifier. They ignore weights, as in Keras. A masked
                LM refuses them, since they would count unused mask slots.
            weighted_metrics: the same, with weights. `"auto"` means accuracy and, for a masked LM, perplexity; or none
                if `metrics` are given.
            run_eagerly, steps_per_execution, auto_scale_loss: only Keras's defaults are accepted.
            jit_compile: accepted so that KerasHub's examples run. There is nothing to compile.
            recompute: whether only the input of each layer is kept, and backward runs the layer again (gradient
                checkpointing). This needs much less memory, takes a quarter to a third more time, and gives the same
                result.

        Raises:
            ValueError: if the loss is one of probabilities (the model returns logits), has an axis other than the last,
                a dtype, or no reduction; if a masked LM has `metrics`; or if an argument without effect has another
                value than the default. The message has the reason.
            TypeError: if an optimizer, a loss or a metric is not one of pyroberta and can't be converted.
        """
        _refuse_without_effect(
            loss_weights=loss_weights,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            auto_scale_loss=auto_scale_loss,
        )
        if isinstance(metrics, str) and metrics == "auto":
            metrics = None
        metrics = _listed_metrics(metrics)
        if metrics and not self.takes_metrics:
            raise ValueError(
                f"metrics={metrics!r} would count unused mask slots too, since Keras's metrics ignore weights. Pass "
                "weighted_metrics= instead, which count masked tokens by their weights"
            )
        if isinstance(weighted_metrics, str) and weighted_metrics == "auto":
            weighted_metrics = () if metrics else self.default_metrics
        weighted_metrics = _listed_metrics(weighted_metrics)
        if self._is_resuming:
            raise ValueError(
                "compile() resets the optimizer, so the state that load_train_state() loaded would be lost: compile "
                "first, then load the state"
            )
        new_optimizer, new_loss = _optimizer_of(optimizer), self._checked("loss", loss)
        recompute = true_or_false("recompute", recompute)
        new_metrics, unweighted = (
            [expect_instance("metric", measures.get(metric), measures.Metric) for metric in some or ()]
            for some in (weighted_metrics, metrics)
        )
        _check_names([*new_metrics, *unweighted])
        if new_optimizer.is_built:  # it has worked before, here or for another model
            new_optimizer.build(self.backbone.params)
        new_optimizer.belong_to(self)
        new_optimizer.trained_by = None
        self.optimizer, self.loss, self._recompute = new_optimizer, new_loss, recompute
        if self._run is None:  # within a `fit`, its place in the epoch and in the data stays
            self._state = TrainState(self.backbone.params, new_optimizer.slots)
            self._is_resuming = False
        self._metrics: list[measures.Metric] = [measures.Loss(), *new_metrics, *unweighted]
        self._unweighted = unweighted
        self._is_compiled = True

    @property
    def metrics(self) -> list[measures.Metric]:
        """The loss and the compiled metrics, in the order of their values in `evaluate`."""
        return list(self._metrics)

    @property
    def metrics_names(self) -> list[str]:
        """The names of the values that `evaluate` returns, in order."""
        return [metric.name for metric in self._metrics]

    @property
    def _needs_outputs(self) -> bool:
        """Whether a metric is a function of the model's outputs."""
        return any(metric.needs_outputs for metric in self._metrics)

    def _activated(self, logits: Array) -> Array:
        """What the model gives for logits: these, unless a task has an activation."""
        return logits

    def _running(self) -> measures.Running:
        """Metrics of one call. Calls in other threads or in callbacks have their own."""
        return measures.Running(self._metrics, self._unweighted)

    def _check_loss(self, loss: losses.SparseCategoricalCrossentropy) -> None:
        """Checks that the model can be trained on a loss."""
        if loss.from_logits is self._gives_probabilities:
            gives, takes = ("probabilities", False) if self._gives_probabilities else ("logits", True)
            raise ValueError(f"the model returns {gives}: use SparseCategoricalCrossentropy(from_logits={takes})")
        if loss.ignore_class is not None:
            raise ValueError(
                "ignore_class applies to a loss that is called on arrays; in training, give a label the weight 0 to "
                "leave it out"
            )
        if loss.axis not in (-1, self.output_axes - 1):
            raise ValueError(
                f"axis={loss.axis} applies to a loss that is called on arrays: the model has its classes on the last "
                "axis. Leave it out"
            )
        if loss.dtype is not None:
            raise ValueError(
                f"dtype={loss.dtype!r} applies to a loss that is called on arrays: in training, losses have the "
                "model's dtype and are summed in float64. Leave it out, or load the model with another dtype"
            )
        loss.denominator(1.0, 1)  # raises where there is no reduction

    def _need_compiled(self) -> None:
        """Raises an error where there is no loss to compute."""
        if not self._is_compiled:
            raise ValueError(
                "the model was made with compile=False. You must call `compile()` before training or evaluating it"
            )


def _optimizer_of(value: Any) -> optimizers.Optimizer:
    """The optimizer that an argument of `compile` stands for."""
    is_auto = isinstance(value, str) and value == "auto"
    optimizer = optimizers.Adam(DEFAULT_RATE) if is_auto else optimizers.get(value)
    if not isinstance(optimizer, optimizers.Optimizer):
        expect_instance("optimizer", optimizer, optimizers.Adam)  # raises
    found: optimizers.Optimizer = optimizer
    return found


def _refuse_without_effect(**given: Any) -> None:
    """Checks that arguments of Keras's that have no effect here have Keras's defaults."""
    for name, value in given.items():
        default, why = WITHOUT_EFFECT[name]
        if value is not default and not (type(value) is type(default) and value == default):
            raise ValueError(f"{name}={value!r} would have no effect: {why}. Leave it out")


def _listed_metrics(metrics: Any) -> list[Any]:
    """Metrics as a list; one metric may come without a list around it."""
    if metrics is None:
        return []
    return list(metrics) if isinstance(metrics, list | tuple) else [metrics]


def _check_names(metrics: Sequence[measures.Metric]) -> None:
    """Checks that no two metrics have one name in the logs, under which a value would be lost."""
    names = ["loss", *(metric.name for metric in metrics)]
    for name in names:
        if f"val_{name}" in names:
            raise ValueError(
                f"a metric has the name 'val_{name}', under which an evaluation logs {name!r}: give it another name"
            )
    for name in names:
        if names.count(name) > 1:
            last = next(metric for metric in reversed(metrics) if metric.name == name)
            function = "function, " if isinstance(last, measures.MeanOfFunction) else ""
            raise ValueError(
                f"two metrics have the name {name!r}, but logs hold one value for a name: give one of them another "
                f"name, as in pyroberta.metrics.{type(last).__name__}({function}name='my_{name}')"
            )
