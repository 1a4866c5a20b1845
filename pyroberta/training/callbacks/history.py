"""The callback that keeps the logs of every epoch. `fit` returns it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, ClassVar

from pyroberta.formats.counts import counted
from pyroberta.training.callbacks.base import Callback, Logs
from pyroberta.training.callbacks.screen import log_text


class History(Callback):
    """Keeps the logs of every epoch. `fit` returns it.

    Attributes:
        history: a dict of name -> a list with a value per epoch.
        epoch: the numbers of the epochs, from 0.

    >>> history = History()
    >>> history.on_train_begin()
    >>> for epoch, loss in enumerate([3.0, 2.0]):
    ...     history.on_epoch_end(epoch, {"loss": loss})
    >>> history.history, history.epoch
    ({'loss': [3.0, 2.0]}, [0, 1])
    """

    state_kinds: ClassVar[Mapping[str, Any]] = {"epoch": list, "history": Mapping}

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {log_text(values[-1])}" for name, values in self.history.items() if values)
        return f"<History: {counted(len(self.epoch), 'epoch')}{'; ' if last else ''}{last}>"

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Clears the logs."""
        self.history = {}
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Adds the epoch's logs."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def get_state(self) -> dict[str, Any]:
        """See `Callback.get_state`."""
        return {"epoch": list(self.epoch), "history": {name: list(values) for name, values in self.history.items()}}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `Callback.set_state`."""
        self.epoch = list(state["epoch"])
        self.history = {name: list(values) for name, values in state["history"].items()}

    def plot(self, *names: str) -> Any:
        """Draws each metric over the epochs, with its `val_` metric in the same panel.

        Args:
            names: the metrics to draw. The default is all.

        Returns:
            The matplotlib figure. A notebook shows it. Elsewhere, call `.savefig("history.png")` or `pyplot.show()`.

        Raises:
            ModuleNotFoundError: if matplotlib is not installed. The extra `plot` installs it.
            ValueError: before the first epoch, or if a name was not logged.
        """
        try:
            from matplotlib import pyplot
            from matplotlib.ticker import MaxNLocator
        except ImportError as error:
            raise ModuleNotFoundError(
                "History.plot needs matplotlib: install it with pip install 'pyroberta[plot]'"
            ) from error
        panels = names or tuple(name for name in self.history if not _is_twin(name, self.history))
        if not panels:
            raise ValueError("there is nothing to plot before the first epoch has ended")
        unknown = [name for name in panels if name not in self.history]
        if unknown:
            is_file = PurePath(unknown[0]).suffix in (".png", ".svg", ".pdf", ".jpg")
            hint = f". For a file: history.plot().savefig({unknown[0]!r})" if is_file else ""
            raise ValueError(f"{unknown[0]!r} was not logged; the logs have {', '.join(self.history)}{hint}")
        figure, row = pyplot.subplots(
            1, len(panels), squeeze=False, figsize=(4.8 * len(panels), 3.6), layout="constrained"
        )
        for axes, name in zip(row[0], panels, strict=True):
            for key, label in ((name, "training"), (f"val_{name}", "validation")):
                if key in self.history:
                    epochs = [epoch + 1 for epoch in self.epoch[-len(self.history[key]) :]]
                    axes.plot(epochs, self.history[key], marker=".", label=label)
            axes.set(title=name, xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend()
        if "inline" in pyplot.get_backend():  # a notebook shows the returned figure, and would show an open one again
            pyplot.close(figure)
        return figure


def _is_twin(name: str, names: Mapping[str, Any]) -> bool:
    return name.startswith("val_") and name.removeprefix("val_") in names
