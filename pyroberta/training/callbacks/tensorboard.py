"""The callback that writes the logs for TensorBoard."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from pyroberta.model.attributes import Checks, true_or_false, whole_number
from pyroberta.training.callbacks.base import Callback, Logs
from pyroberta.training.callbacks.screen import number_of

WITHOUT_EFFECT = {  # an argument of Keras's: its defaults, and the reason why there is no other value
    "write_graph": ((True, False), "there is no graph to write"),
    "write_images": ((False,), "parameters are written only as histograms, with histogram_freq"),
    "profile_batch": ((0,), "Python's own profilers see every op, as in python -m cProfile"),
    "embeddings_freq": ((0,), "embed(texts) returns embeddings, and tensorboardX's add_embedding writes them"),
    "embeddings_metadata": ((None,), "embed(texts) returns embeddings, and tensorboardX's add_embedding writes them"),
}


def _update_freq(name: str, value: Any) -> str | int:
    if value == "batch":
        return 1
    if isinstance(value, str) and value == "epoch":
        return value
    if isinstance(value, str):
        raise ValueError(f"{name} must be 'epoch', 'batch' or a number of steps, got {value!r}")
    return whole_number(name, value)


class TensorBoard(Callback):
    """Writes metrics for TensorBoard into `train` and `validation` under `log_dir`, with Keras's tags.

    The step of `epoch_loss` and other metrics of epochs is the number of the epoch. That of `batch_loss` and other
    metrics of batches is the number of training steps. That of `evaluation_loss_vs_iterations` and other metrics of
    `evaluate` is the number of updates. The callback needs tensorboardX.

    Args:
        log_dir: the directory; `~` is expanded.
        histogram_freq: the number of epochs from one histogram of the parameters to the next. 0 for none.
        write_graph: accepted as in Keras. There is no graph to write.
        write_images: only False is accepted.
        write_steps_per_second: whether to write `epoch_steps_per_second`, and `batch_steps_per_second` with
            `update_freq`.
        update_freq: `"epoch"`, or `"batch"` or a number of steps to write the metrics so far within an epoch too.
        profile_batch: only 0 is accepted.
        embeddings_freq: only 0 is accepted.
        embeddings_metadata: only None is accepted.

    Raises:
        ModuleNotFoundError: in training, if tensorboardX is not installed. The extra `tensorboard` installs it.
        ValueError: if a value would have no effect.

    >>> TensorBoard("logs", update_freq=10).update_freq
    10
    """

    checks: ClassVar[Checks] = {
        "histogram_freq": lambda name, value: whole_number(name, value, at_least=0),
        "write_steps_per_second": true_or_false,
        "update_freq": _update_freq,
    }
    state_kinds: ClassVar[Mapping[str, Any]] = {"steps": int}

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: int = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: None = None,
    ) -> None:
        super().__init__()
        given = (write_graph, write_images, profile_batch, embeddings_freq, embeddings_metadata)
        for (name, (allowed, why)), value in zip(WITHOUT_EFFECT.items(), given, strict=True):
            if value not in allowed:
                raise ValueError(f"{name}={value!r} would have no effect: {why}. Leave it out")
        self.log_dir = os.path.expanduser(os.fspath(log_dir))
        self.histogram_freq = histogram_freq
        self.write_steps_per_second = write_steps_per_second
        self.update_freq = update_freq
        self._steps = 0  # of training, over all epochs
        self._since = (0.0, 0)  # the time and the step when the rate was last written
        self._epoch_began = (0.0, 0)
        self._in_fit = False
        self._writers: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_writers": {}}  # open files stay behind

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Resets the counters. The files are created when the first number is written."""
        _writer_class()
        self._in_fit, self._steps = True, 0

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Closes the files."""
        self._in_fit = False
        self._close()

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Stores the time."""
        self._since = self._epoch_began = _now(), self._steps

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Writes the metrics so far, if `update_freq` steps have passed."""
        self._steps += 1
        if isinstance(self.update_freq, int) and self._steps % self.update_freq == 0:
            values = dict(logs or {})
            if self.write_steps_per_second:
                values["steps_per_second"] = _rate(self._since, self._steps)
                self._since = _now(), self._steps
            self._write("train", {f"batch_{name}": value for name, value in values.items()}, self._steps)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Writes the metrics of the epoch. Every `histogram_freq` epochs it writes histograms of the parameters too."""
        values = dict(logs or {})
        training = {name: value for name, value in values.items() if not name.startswith("val_")}
        training.setdefault("learning_rate", float(self.model.optimizer.learning_rate))
        if self.write_steps_per_second:
            training["steps_per_second"] = _rate(self._epoch_began, self._steps)
        self._write("train", {f"epoch_{name}": value for name, value in training.items()}, epoch)
        validation = {name: value for name, value in values.items() if name.startswith("val_")}
        names = {name: f"epoch_{name.removeprefix('val_')}" for name in validation}
        self._write("validation", {names[name]: value for name, value in validation.items()}, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for name, array in self.model.backbone.params.items():
                self._writer("train").add_histogram(name, array, epoch)

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Writes the metrics of `evaluate`, with the number of updates as the step. As in Keras, it does so within
        `fit` too.
        """
        values = {f"evaluation_{name}_vs_iterations": value for name, value in (logs or {}).items()}
        self._write("validation", values, self.model.optimizer.iterations)
        if not self._in_fit:
            self._close()

    def get_state(self) -> dict[str, Any]:
        """See `Callback.get_state`."""
        return {"steps": self._steps}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Callback.set_state`."""
        self._steps = state["steps"]

    def _writer(self, name: str) -> Any:
        if name not in self._writers:
            self._writers[name] = _writer_class()(os.path.join(self.log_dir, name))
        return self._writers[name]

    def _write(self, name: str, values: Mapping[str, Any], step: int) -> None:
        for tag, value in values.items():
            self._writer(name).add_scalar(tag, number_of(tag, value, type(self).__name__), step)
        if values:
            self._writer(name).flush()

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}


def _writer_class() -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ModuleNotFoundError(
            "TensorBoard needs tensorboardX: install it with pip install 'pyroberta[tensorboard]'"
        ) from error
    return SummaryWriter


def _now() -> float:
    import time

    return time.perf_counter()


def _rate(since: tuple[float, int], steps: int) -> float:
    """Steps per second since a time and a step."""
    return (steps - since[1]) / max(_now() - since[0], 1e-9)
