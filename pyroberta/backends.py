"""Backends by name: the table of ops with some rows replaced."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from pyroberta.ops import REFERENCE, Ops


class BackendError(RuntimeError):
    """The backend that was asked for is unknown or not there."""


def get_ops(name: str = "auto") -> Ops:
    """The table of ops of a backend.

    Args:
        name: "numpy"; "native", where C++ does all; "native-blas", where the products of matrices are NumPy's and C++
            does the rest; or "auto", which takes "native" if it is there. The table's `name` tells which it was.

    Raises:
        BackendError: for an unknown name or a backend that is not there, listing every one with its reason.

    >>> get_ops("numpy").name
    'numpy'
    """
    if name == "auto":
        return next(ops for make in reversed(_MAKERS.values()) if (ops := _attempt(make)[0]) is not None)
    ops = _attempt(_MAKERS[name])[0] if name in _MAKERS else None
    if ops is None:
        problem = "is not available" if name in _MAKERS else "is unknown"
        listing = "".join(
            f"\n  {candidate}: {'available' if available else 'not available'}, {reason}"
            for candidate, available, reason in backends()
        )
        raise BackendError(f"the backend {name!r} {problem}. There are:{listing}\n  auto: the last one available")
    return ops


def backends() -> list[tuple[str, bool, str]]:
    """Every backend, slowest first: its name, whether it is there, and what it is or why it is not.

    >>> backends()[0][:2]
    ('numpy', True)
    """
    listing = []
    for name, make in _MAKERS.items():
        ops, reason = _attempt(make)
        listing.append((name, ops is not None, reason))
    return listing


def _numpy() -> tuple[Ops, str]:
    import numpy

    return REFERENCE, f"NumPy {numpy.__version__}"


def _native() -> tuple[Ops, str]:
    about: str = import_module("pyroberta._native").about()
    return import_module("pyroberta.native").native_ops(), about


def _native_blas() -> tuple[Ops, str]:
    _, about = _native()
    return import_module("pyroberta.native").native_blas_ops(), f"products by {_numpy()[1]}, the rest by {about}"


_MAKERS: dict[str, Callable[[], tuple[Ops, str]]] = {
    "numpy": _numpy,
    "native-blas": _native_blas,
    "native": _native,
}


def _attempt(make: Callable[[], tuple[Ops, str]]) -> tuple[Ops | None, str]:
    try:
        return make()
    # AttributeError: an extension older than the Python around it; RuntimeError: PYROBERTA_ISA names what is not there
    except (ImportError, AttributeError, RuntimeError) as error:
        return None, f"{type(error).__name__}: {error}"
