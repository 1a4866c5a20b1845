"""Weights in several files: the largest size of a file, and the assignment of tensors to files."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from pyroberta.formats.budget import shown

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
MOST = 1000  # gigabytes that a bare number may mean; one that is larger was meant as bytes


def parse_size(size: float | str | None) -> int:
    """Returns the number of bytes that the argument `max_shard_size` means.

    A number without a unit means gigabytes, as in KerasHub: 10 and "10" mean "10GB". A text may have the unit B, KB,
    MB, GB or TB, as in transformers. 1 GB is 10⁹ bytes. None means no limit, which gives one file.

    Raises:
        ValueError: if the size is anything else, is less than a byte, or is a number above 1000 without a unit, which
            transformers would read as bytes.

    >>> parse_size("1.5MB"), parse_size(2), parse_size("0.5")
    (1500000, 2000000000, 500000000)
    """
    if size is None:
        return sys.maxsize
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B|)", size.strip().upper()) if isinstance(size, str) else None
    if found:
        number, unit = float(found[1]), found[2]
    elif isinstance(size, bool) or not isinstance(size, float | int | np.integer | np.floating):
        raise ValueError(_refusal(size))
    else:
        number, unit = _as_float(size), ""
    if not math.isfinite(number):
        raise ValueError(_refusal(size))
    if not unit and number > MOST:
        raise ValueError(
            f"max_shard_size={shown(size)}: a number without a unit means gigabytes, and this is more than {MOST}. For "
            f"bytes, give a text with a unit, such as {_with_unit(number)!r}"
        )
    found_size = int(number * UNITS[unit or "GB"])
    if found_size < 1:
        raise ValueError(_refusal(size))
    return found_size


def _as_float(size: float) -> float:
    """The size as a float, infinite if it is larger than any."""
    try:
        return float(size)
    except OverflowError:
        return math.inf


def _refusal(size: Any) -> str:
    kinds = "a number of gigabytes above 0, a text with a unit such as '5GB' or '500MB', or None for one file"
    return f"max_shard_size must be {kinds}, got {shown(size)}"


def _with_unit(size: float) -> str:
    """A number of bytes in its largest unit.

    >>> _with_unit(5e9), _with_unit(1500)
    ('5GB', '1.5KB')
    """
    unit, factor = next(((unit, factor) for unit, factor in reversed(UNITS.items()) if size >= factor), ("B", 1))
    return f"{size / factor:.15g}{unit}"


def split(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Returns the names in groups of at most `limit` bytes, in their order. A larger tensor is a group of its own.

    The groups are those of huggingface_hub's `split_state_dict_into_shards_factory`.

    >>> split({"a": 6, "b": 6, "c": 2, "d": 11, "e": 2}, limit=10)
    [['a'], ['d'], ['b', 'c', 'e']]
    """
    groups: list[list[str]] = []
    group: list[str] = []
    filled = 0
    for name, size in sizes.items():
        if size > limit:
            groups.append([name])
            continue
        if filled + size > limit:
            groups.append(group)
            group, filled = [], 0
        group.append(name)
        filled += size
    return [*groups, group] if group else groups
