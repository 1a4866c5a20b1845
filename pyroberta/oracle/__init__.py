"""Tools that judge the rest of the package, and other implementations; nothing else imports them.

`trace` and `compare` are functions here. The modules in which they are have the same names, and
`from pyroberta.oracle.trace import ...` reads from the module.
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
