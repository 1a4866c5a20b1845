"""Ops tables of which one row is broken."""

from __future__ import annotations

import numpy as np

from pyroberta.ops import REFERENCE, Ops


def broken(row: str, call: int, which: int = 0) -> Ops:
    """A table in which one call of one op gives a NaN."""
    calls = 0

    def wrap(name, op):
        def wrapped(*args):
            nonlocal calls
            result = op(*args)
            if name == row:
                calls += 1
                if (calls - 1) % period == call:
                    value = result[0] if name.endswith("_forward") else result
                    value = value[which] if isinstance(value, tuple) else value
                    value.flat[0] = np.nan
            return result

        return wrapped

    period = {"linear_forward": 9, "linear_backward": 9, "gelu_backward": 1, "add_norm_backward": 4}.get(row, 2)
    return REFERENCE.wrapped(wrap)
