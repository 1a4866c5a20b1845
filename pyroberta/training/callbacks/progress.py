"""The callback that shows the progress of a run on stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from pyroberta.model.attributes import Checks
from pyroberta.training.callbacks.base import BatchLogs, Callback, Logs
from pyroberta.training.callbacks.screen import Screen, can_redraw, log_text, say

FIRST_ON_BAR = ("loss", "accuracy", "val_loss", "val_accuracy", "tokens/s")  # then the time, the steps, the rest
NOT_ON_BAR = ("perplexity", "val_perplexity")  # the exp of the loss, which the line has already
SHORTEST_BAR = 8  # columns
LEAST_LINES = 3
USUAL_WIDTH = 80  # if the terminal's width is unknown
SECONDS_BETWEEN_LINES = 30.0  # of a progress bar that cannot be redrawn


def _bar_kind(verbose: Any) -> int:
    if verbose not in (0, 1, 2, "auto"):
        raise ValueError(f"verbose must be 0 (silent), 1 (a bar), 2 (a line an epoch) or 'auto', got {verbose!r}")
    return 1 if verbose == "auto" else int(verbose)


class ProgressBar(Callback):
    """Shows the progress of a run on stderr: loss and metrics so far, tokens per second, remaining time.

    Items that do not fit into the width of the terminal are left out, first the bar, then metrics other than loss and
    accuracy. Perplexity, the exp of the loss, is shown only in the lines of epochs and in `History`.

    If stderr is not a terminal (a file, a pipe), nothing is redrawn. Then a line is printed for each epoch, and one
    every half minute within it.

    Args:
        verbose: 0 prints nothing, 1 or `"auto"` a bar for each epoch, 2 a line for each epoch.

    Raises:
        ValueError: if verbose is anything else.

    >>> ProgressBar(verbose=0).on_epoch_begin(0)
    """

    checks: ClassVar[Checks] = {"verbose": lambda name, value: _bar_kind(value)}

    def __init__(self, verbose: int | str = 1) -> None:
        super().__init__()
        self.verbose = verbose
        self._in_fit = False
        self._label = ""  # of what is being shown
        self._bar: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_bar": None}  # a bar belongs to this process's terminal

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Starts `fit`. Evaluations within it have no bar."""
        self._in_fit, self._label = True, ""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Ends the bar, if training ended within an epoch."""
        self._close()
        self._in_fit = False

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Starts the epoch's bar."""
        epochs = self.params.get("epochs")
        self._start(f"epoch {epoch + 1}/{epochs}" if epochs else f"epoch {epoch + 1}")

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Advances the bar. Steps from before an interruption count too."""
        self._advance(logs, batch + 1)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Shows the results of the epoch and ends its bar. An epoch that was trained before an interruption is not
        shown.
        """
        if self._label:
            self._finish(logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Starts a bar, unless within `fit`."""
        if not self._in_fit:
            self._start("evaluate")

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Advances the bar, unless within `fit`."""
        if not self._in_fit:
            self._advance(logs)

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Ends the bar, unless within `fit`."""
        if not self._in_fit:
            self._finish(logs)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Starts a bar."""
        self._start("predict")

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Advances the bar."""
        self._advance(None)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Ends the bar."""
        self._finish(None)

    @contextmanager
    def counting(self, label: str, steps: int | None) -> Iterator[Callable[[Logs | None], None]]:
        """A `with` block that shows a bar over `steps` steps of any work (None if unknown). It yields the function to
        call after each step, with logs to show.

        An error or Ctrl-C removes the bar.

        >>> with ProgressBar(verbose=0).counting("count", steps=2) as advance:
        ...     for tokens in (10, 20):
        ...         advance(BatchLogs({}, tokens))
        """
        self.set_params({"steps": steps})
        self._start(label)
        try:
            yield self._advance
            self._finish(None)
        finally:
            self._close()

    def _start(self, label: str) -> None:
        self._close()
        self._label = label
        self._steps = self._tokens = 0
        self._shown: dict[str, str] = {}
        self._began = self._last_line = time.monotonic()
        if self.verbose == 1 and can_redraw():
            from tqdm import tqdm

            width = _fixed_width()
            self._bar = tqdm(
                total=self.params.get("steps"),
                desc=label,
                file=Screen(sys.stderr),
                dynamic_ncols=not width,
                ncols=width,
                nrows=LEAST_LINES,
                bar_format="{desc}",
            )

    def _advance(self, logs: Logs | None, steps: int | None = None) -> None:
        before, self._steps = self._steps, self._steps + 1 if steps is None else steps
        self._note(logs)
        if self._bar is not None:
            self._write_on_bar(is_done=False)
            self._bar.update(self._steps - before)
        elif self.verbose == 1 and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._line()

    def _finish(self, logs: Logs | None) -> None:
        self._note(logs)
        if self._bar is not None:
            self._write_on_bar(is_done=True)
            self._bar.refresh()
            self._close()
        elif self.verbose:
            self._line()

    def _note(self, logs: Logs | None) -> None:
        self._shown |= {name: log_text(value) for name, value in (logs or {}).items()}
        if isinstance(logs, BatchLogs):
            self._tokens += logs.tokens
            seconds = max(time.monotonic() - self._began, 1e-9)
            self._shown |= {"tokens/s": f"{self._tokens / seconds:.0f}"}

    def _write_on_bar(self, is_done: bool) -> None:
        """Writes the items that fit into the bar's line, in order of importance, and the bar into the rest of it."""
        width, total = self._bar.format_dict["ncols"] or USUAL_WIDTH, self.params.get("steps")
        passed, left = self._times()
        metrics = {name: f"{name}={value}" for name, value in self._shown.items() if name not in NOT_ON_BAR}
        wanted = [metrics.pop(name) for name in FIRST_ON_BAR if name in metrics]
        wanted += [f"{left} left" if left and not is_done else passed]
        wanted += [f"{self._steps}/{total}" if total else f"{self._steps} steps", *metrics.values()]
        line = f"{self._label}: "
        for part in wanted:
            if len(line) + len(part) + 2 <= width:
                line += f"{part}, "
        line = line[:-2]
        has_room = bool(total) and len(line) + len(" ||") + SHORTEST_BAR <= width
        self._bar.bar_format = "{desc} |{bar}|" if has_room else "{desc}"
        self._bar.set_description_str(line, refresh=False)

    def _times(self) -> tuple[str, str]:
        """The time since the bar began, and the time left; "" if that is unknown."""
        seconds, total = time.monotonic() - self._began, self.params.get("steps")
        if not total or not 0 < self._steps < total:
            return _clock(seconds), ""
        return _clock(seconds), _clock(seconds / self._steps * (total - self._steps))

    def _line(self) -> None:
        total = self.params.get("steps")
        passed, left = self._times()
        parts = [f"{self._steps}/{total} steps" if total else f"{self._steps} steps", passed]
        if left:
            parts.append(f"{left} left")
        parts += [f"{name} {value}" for name, value in self._shown.items()]
        say(f"{self._label}: {', '.join(parts)}")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


ProgbarLogger = ProgressBar  # its name in Keras


def _fixed_width() -> int | None:
    """The width of a bar that doesn't follow its terminal; None for one that does.

    Some terminals that programs make for others say that they have no columns or no lines, and tqdm draws nothing then;
    nor does it where there are fewer lines than `LEAST_LINES`.
    """
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return None
    if size.columns and size.lines >= LEAST_LINES:
        return None
    return max(1, size.columns - 1) if size.columns else USUAL_WIDTH  # tqdm leaves the last column free, too
