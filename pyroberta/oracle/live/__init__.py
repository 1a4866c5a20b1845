"""Checks of a living implementation: its tensors are taken as it runs, and compared with a trace.

    check_callable(fn, model, texts)          anything that takes NumPy arrays and gives some
    check_transformers(their_model, texts)    a RoBERTa of transformers
    check_keras(their_model, texts)           a RoBERTa of KerasHub

Each traces a RoBERTa with the same parameters in float64, gives the other one the same batch, without dropout, and
returns a `LiveReport`. `sides.py` has what they share.
"""

from __future__ import annotations

from pyroberta.oracle.live.callables import check_callable
from pyroberta.oracle.live.keras import check_keras
from pyroberta.oracle.live.sides import LiveReport
from pyroberta.oracle.live.transformers import check_transformers

__all__ = ["LiveReport", "check_callable", "check_keras", "check_transformers"]
