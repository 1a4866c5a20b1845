"""Every allocation of the C++ backend fails once: the call raises MemoryError, and the next one gives the same bits.

For an extension that is built with PYROBERTA_FAULTS, so that pytest does not find this file by itself.
.ci/sanitizers.sh builds one and runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from native_steps import CONFIG, step
from small_models import TEXTS, random_params, small_masked_lm

import pyroberta
from pyroberta.backends import get_ops

_native = pytest.importorskip("pyroberta._native", reason="the extension was not built")

MOST = 10_000  # failures in one call; there are tens


def bits(result: Any) -> bytes:
    """The bytes of all arrays in nested tuples and lists."""
    if isinstance(result, np.ndarray):
        return result.tobytes()
    if isinstance(result, tuple | list):
        return b"".join(bits(part) for part in result)
    return repr(result).encode() if isinstance(result, float | str) else b""


def fail_everywhere(call: Callable[[], Any], prepare: Callable[[int], object] = lambda count: None) -> int:
    """Calls with the first allocation failing, then with the second, and so on; returns how many calls failed."""
    wanted = bits(call())
    failed = 0
    for count in range(MOST):
        prepare(count)
        _native.fail_after(count)
        try:
            found = call()
        except MemoryError:
            failed += 1
            found = None
        is_over = _native.until_fault() >= 0
        _native.fail_after(-1)
        assert found is None or bits(found) == wanted, count  # an allocation that something else can stand in for
        assert bits(call()) == wanted, count
        if is_over:
            return failed
    raise AssertionError(f"more than {MOST} allocations in one call")


def calls() -> dict[str, Callable[[], Any]]:
    ops, rng = get_ops("native"), np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    x, kernel, bias, back = draw(130, 96), draw(96, 200), draw(200), draw(200, 96)
    flat, table, labels = draw(6, 96), draw(700, 96), np.arange(130, dtype=np.int32)
    starts, gamma = np.array([0, 40, 41, 130], np.int32), draw(96)
    dropout = (0.1, (1, 2), None)

    def forward_and_backward(op: str, *arguments: Any) -> Any:
        y, cache = getattr(ops, f"{op}_forward")(*arguments)
        dy = np.ones_like(y[0] if isinstance(y, tuple) else y)
        return y, getattr(ops, f"{op}_backward")(dy, cache)[0]

    return {
        "gemm": lambda: _native.matmul(x, kernel),
        "gemm of few rows": lambda: (_native.matmul(flat, kernel), _native.matmul(flat, back.T)),
        "a prepared kernel": lambda: ops.linear_forward(flat, ops.prepare(kernel), bias)[0],
        "linear": lambda: forward_and_backward("linear", x, kernel, bias),
        "feed_forward": lambda: forward_and_backward("feed_forward", x, kernel, bias, back, gamma),
        "gelu": lambda: ops.gelu_forward(x),
        "add_norm": lambda: forward_and_backward("add_norm", x, x, gamma, gamma, 1e-5, *dropout),
        "embedding": lambda: ops.embedding_forward(labels, labels, table, table)[0],
        "attention": lambda: forward_and_backward("attention", x, x, x, starts, 6, *dropout),
        "cross_entropy": lambda: forward_and_backward("cross_entropy", x, table, draw(700) * 0.0, labels),
        "squared_norm": lambda: ops.squared_norm(table.ravel()),
        "a step": lambda: step(ops, random_params(CONFIG, 1, np.float32), [150, 90, 1], 4)[0],
    }


@pytest.mark.parametrize("name", calls())
def test_an_allocation_that_fails_is_a_memory_error_and_the_next_call_works(name):
    def forget_memory(count: int) -> None:
        _native.pool_release()

    failed = fail_everywhere(calls()[name], forget_memory)
    assert failed > 0 or name == "squared_norm"  # which returns no array


def test_a_thread_that_cannot_be_started_is_done_without():
    x = np.ones((1600, 1600), np.float32)  # work for 78 threads
    before = pyroberta.get_num_threads()
    numbers = iter(range(before + 2, 78))  # each needs a thread that is not there yet
    fail_everywhere(lambda: _native.gelu_forward(x), lambda count: pyroberta.set_num_threads(next(numbers)))
    for count in range(20):
        pyroberta.set_num_threads(next(numbers))
        _native.fail_after(count)
        try:
            _native.gelu_forward(x)
        except MemoryError:  # of the array, which comes before the threads
            continue
        finally:
            _native.fail_after(-1)
        if "the system starts no more than" in _native.about():
            break
    else:
        raise AssertionError("no thread failed to start")
    pyroberta.set_num_threads(before)
    assert _native.about().endswith(f"threads {before}")


def test_a_fit_that_runs_out_of_memory_leaves_a_model_that_can_go_on():
    masked_lm = small_masked_lm(dtype="float32", backend="native", dropout=0.1)
    failed = 0
    for count in range(0, MOST, 3):
        before = masked_lm.backbone.params.flat.copy()
        _native.pool_release()
        _native.fail_after(count)
        try:
            masked_lm.fit(TEXTS, batch_size=len(TEXTS), verbose=0)
        except MemoryError:
            failed += 1
            assert np.array_equal(masked_lm.backbone.params.flat, before)
        is_over = _native.until_fault() >= 0
        _native.fail_after(-1)
        if is_over:
            break
    assert failed
    assert np.isfinite(masked_lm.fit(TEXTS, batch_size=3, verbose=0).history["loss"]).all()
