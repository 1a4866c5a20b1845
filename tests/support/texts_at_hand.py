"""Real text for tests: prose and source code that any Python installation has."""

from __future__ import annotations

import ast
import functools
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path


def _sources() -> Iterator[str]:
    """Python files of the standard library, then of the installed packages, always in the same order."""
    paths = sysconfig.get_paths()
    for root in dict.fromkeys([paths["stdlib"], paths["purelib"]]):
        for directory, subdirectories, files in os.walk(root):
            subdirectories[:] = sorted(set(subdirectories) - {"site-packages", "dist-packages"})
            for name in sorted(files):
                if name.endswith(".py"):
                    try:
                        yield Path(directory, name).read_text(encoding="utf-8")
                    except UnicodeDecodeError:
                        continue  # some are there to be broken


def _docstrings() -> Iterator[str]:
    for source in _sources():
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                docstring = ast.get_docstring(node)
                if docstring and len(docstring) > 80:
                    yield docstring + "\n\n"


def _licences() -> Iterator[str]:
    for file in sorted(Path(sysconfig.get_paths()["purelib"]).glob("*.dist-info/**/*")):
        if file.is_file() and ("LICEN" in file.name.upper() or file.name == "METADATA"):
            yield file.read_text(encoding="utf-8", errors="replace") + "\n\n"


def _first(size: int, texts: Iterator[str]) -> str:
    taken: list[str] = []
    length = 0
    for text in texts:
        taken.append(text)
        length += len(text)
        if length >= size:
            break
    return "".join(taken)[:size]


@functools.cache
def source_code(size: int) -> str:
    """The first `size` characters of Python code; less if there is less."""
    return _first(size, _sources())


@functools.cache
def prose(size: int) -> str:
    """The first `size` characters of English prose: licences, read-me texts, docstrings; less if there is less."""

    def texts() -> Iterator[str]:
        yield from _licences()
        yield from _docstrings()

    return _first(size, texts())
