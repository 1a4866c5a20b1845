"""Input and output of commands: texts from files and standard input, results on standard output."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from typing import Any


def read_texts(source: str) -> list[str]:
    """The texts of a file, one a line; `-` is standard input.

    Raises:
        FileNotFoundError: no such file, or a directory.
    """
    from pyroberta.text.text_files import lines_of, read_lines

    if source == "-":
        return lines_of(sys.stdin.buffer, "standard input", for_shell=True)
    if not os.path.exists(source) or os.path.isdir(source):
        problem = "is a directory" if os.path.isdir(source) else "there is no such file"
        raise FileNotFoundError(f"{source}: {problem}. Give a UTF-8 text file with one text a line, or - to read stdin")
    return read_lines(source, for_shell=True)


def given_texts(arguments: argparse.Namespace) -> list[str]:
    """The arguments TEXT; the lines of standard input where there are none, or `-` alone.

    Raises:
        ValueError: one of them is the name of a file.
    """
    texts: list[str] = arguments.texts
    if texts in ([], ["-"]):
        return read_texts("-")
    for text in texts:
        if os.path.isfile(text):
            quoted = shlex.quote(text)
            raise ValueError(
                f"{text!r} is the name of a file, and TEXT is the text itself. For the texts in the file, one a line: "
                f"{arguments.parser.prog} - < {quoted}. For these characters: echo {quoted} | {arguments.parser.prog} -"
            )
    return texts


def figures(values: Mapping[str, float]) -> str:
    """Metrics in one line.

    >>> figures({"loss": 2.5, "accuracy": 0.5})
    'loss 2.5000, accuracy 0.5000'
    """
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items())


def as_json(result: Any) -> str:
    """A result as JSON. NaN and infinity, which JSON lacks, become null.

    >>> print(as_json({"perplexity": float("inf")}))
    {
      "perplexity": null
    }
    """
    return json.dumps(_finite(result), indent=2, allow_nan=False)


def _finite(result: Any) -> Any:
    if isinstance(result, dict):
        return {name: _finite(value) for name, value in result.items()}
    if isinstance(result, list | tuple):
        return [_finite(value) for value in result]
    return None if isinstance(result, float) and not math.isfinite(result) else result


def show_warning(message: Warning | str, *where: Any, **keywords: Any) -> None:
    """A warning in one line on stderr, without the line of code that it is from."""
    print(f"pyroberta: warning: {message}", file=sys.stderr)


class Output:
    """Standard output, whose errors, such as a full disk, name it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes to the stream."""
        with self._named():
            return int(self._stream.write(text))

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
