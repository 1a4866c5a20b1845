"""The C++ extension in tests: what needs it, and another one in its place."""

from __future__ import annotations

import pytest

from pyroberta.backends import backends

REASON = {name: None if available else reason for name, available, reason in backends()}["native"]


needs_native = pytest.mark.skipif(REASON is not None, reason=f"pyroberta._native is not built: {REASON}")


def replace_extension(monkeypatch, extension):
    import sys

    import pyroberta

    monkeypatch.setitem(sys.modules, "pyroberta._native", extension)
    monkeypatch.delitem(sys.modules, "pyroberta.backends.native", raising=False)
    monkeypatch.delattr(pyroberta, "_native", raising=False)
    monkeypatch.delattr(pyroberta, "native", raising=False)
