"""Tools that check this package and other implementations. No other room of the package imports them.

`trace` and `compare` are functions here. The modules that define them have the same names, and `from
pyroberta.oracle.trace import ...` reads from the module.
"""

from __future__ import annotations

from pyroberta.oracle.compare import compare
from pyroberta.oracle.golden import TraceFile, read_trace
from pyroberta.oracle.gradcheck import check_backward
from pyroberta.oracle.live import LiveReport, check_callable, check_keras, check_transformers
from pyroberta.oracle.trace import trace

__all__ = [
    "LiveReport",
    "TraceFile",
    "check_backward",
    "check_callable",
    "check_keras",
    "check_transformers",
    "compare",
    "read_trace",
    "trace",
]
