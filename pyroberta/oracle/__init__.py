"""Tools that judge the rest of the package, and other implementations; nothing else imports them."""

from __future__ import annotations

from pyroberta.oracle.gradcheck import check_backward
from pyroberta.oracle.live import LiveReport, check_callable, check_keras, check_transformers

__all__ = ["LiveReport", "check_backward", "check_callable", "check_keras", "check_transformers"]
