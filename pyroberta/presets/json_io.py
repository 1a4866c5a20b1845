"""JSON as the presets have it: an object, and numbers in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it isn't JSON, or not an object.
    """
    if not file.is_file():
        there = ", ".join(sorted(entry.name for entry in file.parent.iterdir())) if file.parent.is_dir() else ""
        raise FileNotFoundError(f"{file.parent} has no {file.name}; it has {there or 'nothing'}")
    try:
        values = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} isn't valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{file} should hold a JSON object, it holds a {type(values).__name__}")
    return values


def number(file: Path, values: Mapping[str, Any], key: str, default: int | float) -> Any:
    """The number of that key in an object of `file`, whole where the default is; the default where the key is missing.

    Raises:
        ValueError: where it is no such number, or a whole one below 0.
    """
    value = values.get(key, default)
    whole = isinstance(default, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise ValueError(f"{file}: {key} should be a {'whole ' if whole else ''}number, got {value!r}")
    if whole and value < 0:
        raise ValueError(f"{file}: {key} should be at least 0, got {value}")
    return value if whole else float(value)
