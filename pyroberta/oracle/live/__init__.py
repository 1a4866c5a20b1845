"""Checks of a running implementation: its tensors are collected while it runs, and compared with a trace.

    check_callable(fn, model, texts)          a function from NumPy arrays to NumPy arrays
    check_transformers(their_model, texts)    a RoBERTa of transformers
    check_keras(their_model, texts)           a RoBERTa of KerasHub

Each check traces a RoBERTa with the same parameters in float64, and runs the other implementation on the same batch
without dropout. It returns a `LiveReport`. `sides.py` has the code that all checks use.
"""

from __future__ import annotations

from pyroberta.oracle.live.callables import check_callable
from pyroberta.oracle.live.keras import check_keras
from pyroberta.oracle.live.sides import LiveReport
from pyroberta.oracle.live.transformers import check_transformers

__all__ = ["LiveReport", "check_callable", "check_keras", "check_transformers"]
