"""Saving of a trained model, in another place if the given one can't be written."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

from pyroberta.cli.exit_codes import FAILED


def save_model(model: Any, output: str, arguments: Any) -> str:
    """Saves a trained model, and returns the place. If it can't be saved, existing files do not change.

    If the disk is full, or the place can't be written, the model stays in memory. In a terminal, the user is asked for
    another directory until the model can be saved. Without a terminal, or without an answer, the model is saved in the
    directory of temporary files, or in another one with enough space. `arguments.exit_code` is then set to `FAILED`.

    Raises:
        OSError: if no place has enough space.
    """
    try:
        model.save_to_preset(output)
        return output
    except OSError as error:
        print(f"pyroberta: {error}", file=sys.stderr)
        name = os.path.basename(os.path.normpath(output))
        while True:
            answer = _asked() if _is_terminal() else None
            if answer:
                try:
                    _check_unasked(answer, output)
                    model.save_to_preset(answer)
                    return answer
                except (OSError, ValueError) as another:
                    print(f"pyroberta: {another}", file=sys.stderr)
                    continue
            place = _rescued(model, name)
            if place:
                arguments.exit_code = FAILED
                print(f"pyroberta: the trained model was saved to {place} instead", file=sys.stderr)
                return place
            if answer is None:
                raise
            print("pyroberta: the directory of temporary files is full too", file=sys.stderr)


def _check_unasked(answer: str, output: str) -> None:
    """Checks that no model but that of `--output` is replaced.

    Raises:
        FileExistsError: if there is one.
    """
    place, given = (os.path.realpath(os.path.expanduser(path)) for path in (answer, output))
    if place != given and os.path.isfile(os.path.join(place, "config.json")):
        raise FileExistsError(f"{answer} holds a model already (config.json), which is not replaced")


def _is_terminal() -> bool:
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr.isatty())


def _asked() -> str | None:
    """The directory that a user at a terminal names, empty for none; None where the terminal has ended, or Ctrl-C."""
    print(
        "The trained model is kept in memory. Another directory for it (empty: among the temporary files): ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    try:
        line = sys.stdin.readline()
    except KeyboardInterrupt:
        line = ""
    return line.strip() if line else None


def _rescued(model: Any, name: str) -> str | None:
    """Saves a model among temporary files, at home, or here, where there is room; returns the place, or None."""
    import tempfile

    places: tuple[Callable[[], str], ...] = (tempfile.gettempdir, lambda: os.path.expanduser("~"), os.getcwd)
    for find in places:
        with contextlib.suppress(OSError):
            place = tempfile.mkdtemp(prefix=f"{name}.rescued-", dir=find())
            try:
                model.save_to_preset(place)
            except BaseException:
                os.rmdir(place)
                raise
            return place
    return None
