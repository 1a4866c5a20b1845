"""Backends by name. A backend is the reference ops table with some rows replaced."""

from __future__ import annotations

import copyreg
import operator
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any, SupportsIndex

from pyroberta.ops import REFERENCE, Ops
from pyroberta.ops.precision import precision as policy

MOST_THREADS = 1 << 16
SIMULATOR = "PYROBERTA_CUDA_SIM"  # an environment variable: the path of the extension `_cuda_sim`
WRONG = "RuntimeError: PYROBERTA_"  # how a reason begins that an environment variable gave


class BackendError(RuntimeError):
    """The named backend is unknown or not available."""


def get_ops(name: str = "auto", precision: str = "float32") -> Ops:
    """Returns the ops table of a backend.

    Args:
        precision: a name of `pyroberta.ops.precision`. "float32" and "float64" share one table. `"mixed_bfloat16"` has
            a table in NumPy alone so far, and "auto" takes that one.
        name: "numpy"; "native", in which C++ does everything; "native-blas", in which NumPy's BLAS computes the
            products of matrices and C++ the rest; or "auto", which takes "native" if it is available. The table's
            `name` is the name of the backend that was taken.

    Raises:
        BackendError: if the name is unknown or the backend is not available. The message lists every backend, and why
            it is not available.

    >>> get_ops("numpy").name
    'numpy'
    """
    if name == "cuda-sim" and SIMULATOR in os.environ:  # for tests; no listing has it
        if precision == "float64":
            raise BackendError("the backend 'cuda-sim' has float32 and mixed_bfloat16, not float64")
        return _cuda_sim(os.environ[SIMULATOR], precision)
    if policy(precision).is_mixed and name in ("auto", *_MAKERS):
        if name not in ("auto", "numpy") or precision not in _MIXED:
            raise BackendError(
                f"the precision {precision!r} is not available in this backend yet, {name!r}; "
                + ("'numpy' has a reference of it, which is slow" if precision in _MIXED else "no backend has it")
            )
        return _MIXED[precision]()
    if name == "auto":
        for candidate, make in reversed(_MAKERS.items()):
            ops, reason = _attempt(make)
            if ops is not None:
                _warn_of_source_tree(ops)
                return ops
            if WRONG in reason:
                raise BackendError(f"the backend {candidate!r} can't be used as the environment asks: {reason}")
    ops = _attempt(_MAKERS[name])[0] if name in _MAKERS else None
    if ops is None:
        problem = "is not available" if name in _MAKERS else "is unknown"
        listing = "".join(
            f"\n  {candidate}: {'available' if available else 'not available'}, {reason}"
            for candidate, available, reason in backends()
        )
        raise BackendError(f"the backend {name!r} {problem}. There are:{listing}\n  auto: the last one available")
    return ops


def _warn_of_source_tree(ops: Ops) -> None:
    """Says once where the package comes from a directory that was never built, as by chance in a clone's root."""
    root = Path(__file__).parents[2]
    if ops.name == "numpy" and (root / "CMakeLists.txt").is_file():
        warnings.warn(
            f"pyroberta is imported from its source tree, {root}, which holds no built extension. NumPy does all, many "
            "times slower. Start Python elsewhere, or build it there: `pip install -e .`, with a C++ compiler",
            stacklevel=4,
        )


def backends() -> list[tuple[str, bool, str]]:
    """Returns a tuple for every backend, slowest first: its name, whether it is available, and a description or the
    reason why it is not available.

    >>> backends()[0][:2]
    ('numpy', True)
    """
    listing = []
    for name, make in _MAKERS.items():
        ops, reason = _attempt(make)
        listing.append((name, ops is not None, reason))
    return listing


def get_num_threads() -> int:
    """Returns the largest number of threads that an op of the backends `native` and `native-blas` uses. The calling
    thread counts.

    Raises:
        BackendError: if these backends are not available.

    >>> get_num_threads() >= 1
    True
    """
    threads: int = _extension().get_num_threads()
    return threads


def set_num_threads(threads: int) -> None:
    """Sets the largest number of threads that an op uses, for the whole process. The calling thread counts.

    The default is the environment variable `PYROBERTA_NUM_THREADS`, else `OMP_NUM_THREADS`, else the number of
    processors that the affinity mask and the control group's CPU quota allow. The number changes the speed, and no bit
    of a result. The backend `numpy` uses the threads of NumPy's own library.

    Args:
        threads: at least 1.

    Raises:
        TypeError, ValueError: if threads is not a whole number of at least 1.
        BackendError: if `native` is not available. NumPy alone has no such setting.

    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    if isinstance(threads, bool) or not isinstance(threads, SupportsIndex):
        raise TypeError(f"threads should be a whole number from 1 on, got {threads!r} ({type(threads).__name__})")
    number = operator.index(threads)
    if not 1 <= number <= MOST_THREADS:
        raise ValueError(f"threads should be a whole number from 1 to {MOST_THREADS}, got {number}")
    _extension().set_num_threads(number)


def _extension() -> Any:
    """`pyroberta._native`, or the error that says why it is not there."""
    get_ops("native")
    return import_module("pyroberta._native")


def _reduced(ops: Ops) -> tuple[Callable[[str, str], Ops], tuple[str, str]]:
    """How a table is pickled: by its backend's name, since functions of an extension can't be."""
    name, _, precision = ops.name.partition(" ")
    if name not in _MAKERS or get_ops(name, precision or "float32") != ops:
        raise TypeError(
            f"a table of ops that is no backend's own can't be pickled (it is named {ops.name!r}): "
            "set `ops` to get_ops(name) before"
        )
    return _unpickled, (name, precision or "float32")


def _unpickled(name: str, precision: str = "float32") -> Ops:
    """The backend of that name, or the best one where it is not there, which a warning says."""
    try:
        return get_ops(name, precision)
    except BackendError:
        ops = get_ops("auto")
        warnings.warn(
            f"the model was pickled with the backend {name!r}, which is not here; it takes {ops.name!r}",
            stacklevel=2,
        )
        return ops


copyreg.pickle(Ops, _reduced)


def _bfloat16() -> Ops:
    mixed: Ops = import_module("pyroberta.backends.bfloat16").bfloat16_ops()
    return mixed


_MIXED = {"mixed_bfloat16": _bfloat16}  # the reference of each mixed precision


def _numpy() -> tuple[Ops, str]:
    import numpy

    return REFERENCE, f"NumPy {numpy.__version__}"


def _native() -> tuple[Ops, str]:
    about: str = import_module("pyroberta._native").about()
    return import_module("pyroberta.backends.native").native_ops(), about


def _native_blas() -> tuple[Ops, str]:
    _, about = _native()
    return import_module(
        "pyroberta.backends.native"
    ).native_blas_ops(), f"products by {_numpy()[1]}, the rest by {about}"


@cache
def _simulator(path: str) -> Any:
    loader = ExtensionFileLoader("_cuda_sim", path)
    extension = module_from_spec(ModuleSpec("_cuda_sim", loader, origin=path))
    loader.exec_module(extension)
    return extension


@cache
def _cuda_sim(path: str, precision: str) -> Ops:
    simulated: Ops = import_module("pyroberta.backends.cuda").cuda_ops(_simulator(path), precision)
    return replace(simulated, name="cuda-sim")


_MAKERS: dict[str, Callable[[], tuple[Ops, str]]] = {
    "numpy": _numpy,
    "native-blas": _native_blas,
    "native": _native,
}
NAMES = ("auto", *_MAKERS)  # what `get_ops` takes


def _attempt(make: Callable[[], tuple[Ops, str]]) -> tuple[Ops | None, str]:
    try:
        return make()
    # AttributeError: an extension older than the Python around it; RuntimeError: PYROBERTA_ISA names what is not there
    except (ImportError, AttributeError, RuntimeError) as error:
        return None, f"{type(error).__name__}: {error}"
