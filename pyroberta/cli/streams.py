"""Output of commands: results on standard output, messages on standard error."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from pyroberta.formats.budget import printable


def figures(values: Mapping[str, float]) -> str:
    """Returns metrics in one line.

    >>> figures({"loss": 2.5, "accuracy": 0.5})
    'loss 2.5000, accuracy 0.5000'
    """
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items())


def as_json(result: Any, indent: int | None = 2) -> str:
    """Returns a result as JSON. If `indent` is None, the JSON is on one line. NaN and infinity become null, since JSON
    lacks them.

    >>> print(as_json({"perplexity": float("inf")}))
    {
      "perplexity": null
    }
    """
    return json.dumps(_finite(result), indent=indent, allow_nan=False)


def _finite(result: Any) -> Any:
    if isinstance(result, dict):
        return {name: _finite(value) for name, value in result.items()}
    if isinstance(result, list | tuple):
        return [_finite(value) for value in result]
    return None if isinstance(result, float) and not math.isfinite(result) else result


def bar(arguments: Any) -> int | str:
    """Returns the `verbose` for a command that prints results as they come. In a terminal it is 0, since the results
    show the progress.
    """
    return 0 if arguments.quiet or sys.stdout.isatty() else "auto"


def show_warning(message: Warning | str, *where: Any, **keywords: Any) -> None:
    """Prints a warning in one line on stderr, without the line of code that it is from."""
    print(f"pyroberta: warning: {message}", file=sys.stderr)


class Output:
    """The stream of standard output. Its errors, such as a full disk, say that standard output can't be written.

    Control characters, and characters that the encoding of the stream lacks, are written as `printable` writes them.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes a text to the stream."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        shown = printable(text, keep="\n\t").encode(encoding, "backslashreplace").decode(encoding)
        with self._named():
            self._stream.write(shown)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream."""
        with self._named():
            self._stream.flush()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise type(error)(error.errno, f"can't write to standard output: {error.strerror}") from error
