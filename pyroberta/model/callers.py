"""The line of code that a warning names."""

from __future__ import annotations

import sys


def callers_level() -> int:
    """Returns the `stacklevel` at which the caller's warning names the first line outside the package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "pyroberta":
        level, frame = level + 1, frame.f_back
    return level
