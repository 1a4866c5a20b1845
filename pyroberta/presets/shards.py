"""Weights in several files: how large each may be, and which tensor goes into which."""

from __future__ import annotations

import re
from collections.abc import Mapping

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_size(size: int | str) -> int:
    """The number of bytes: of a number itself, of a text such as "5GB" with 1 GB = 10⁹ bytes, as transformers has it.

    Raises:
        ValueError: for anything else, and for less than 1.

    >>> parse_size("1.5MB"), parse_size(200)
    (1500000, 200)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B|)", size.strip().upper()) if isinstance(size, str) else None
    number = int(float(found[1]) * UNITS[found[2]]) if found else size
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"max_shard_size must be a number of bytes, or a text such as '5GB' or '500MB', got {size!r}")
    return number


def split(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """The names in groups, in their order, each of at most `limit` bytes; what is larger makes a group of its own.

    As huggingface_hub's `split_state_dict_into_shards_factory` does it.

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
