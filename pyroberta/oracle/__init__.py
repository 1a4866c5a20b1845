"""Tools that judge the rest of the package; nothing else imports them."""

from __future__ import annotations

from pyroberta.oracle.gradcheck import check_backward

__all__ = ["check_backward"]
