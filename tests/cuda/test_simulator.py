"""The simulator finds mistakes: each small kernel of csrc/cusim/planted.cu has one."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from cuda_simulator import ORDERS, extension, simulated

pytestmark = pytest.mark.cuda

# What the message says, in every build and in every order.
NAMED = {
    "divergent_barrier": "the threads of a block are at different barriers: 32 threads, from (0, 0, 0) on, wait at",
    "returns_before_a_barrier": "a barrier in a block of which some threads have returned: 1 threads, from (5, 0, 0)",
    "mask_without_the_caller": "__shfl_sync: the mask 7fffffff does not have the calling lane, 31",
    "lane_outside_the_mask": "reads lane 20, which the mask 0000ffff does not have",
    "deadlock": "no thread can go on (deadlock): 48 threads, from (16, 0, 0) on, wait at __syncthreads",
    "copy_without_a_wait": "a thread has returned before its cp.async was waited for",
    "too_much_shared_memory": "52000 bytes of static and 0 of dynamic shared memory are more than a block may have",
}
# What is an access to memory that the kernel does not have: the simulator says it itself where no sanitizer does.
OVERRUNS = {
    "reads_past_the_end": r"planted\.cu:\d+: reads \d+ bytes after the start of device memory of 512 bytes",
    "writes_past_the_end": r"planted\.cu:\d+: writes \d+ bytes after the start of device memory of 512 bytes",
    "writes_past_shared_memory": r"planted\.cu:\d+: writes 256 bytes after the start of shared of 256 bytes",
    # The bytes before an array are looked at when the block has ended.
    "writes_before_dynamic_shared_memory": r"at the block's end: .* written 4 bytes before the dynamic shared memory",
}
# What only another order, or ThreadSanitizer, shows.
RACES = ("missing_barrier", "copy_too_early", "lost_update")
OTHERS = {"masks_that_overlap", "reads_shared_memory_unwritten"}
THREAD = r": block \(\d, 0, 0\), thread \(\d+, 0, 0\)"


def planted(name: str, order: int = 0) -> np.ndarray:
    """The array after the kernel."""
    extension().set_order(order)
    ops = simulated()
    x = ops.from_host(np.arange(128, dtype=np.float32))
    try:
        extension().run_planted(name, x)
        return ops.to_host(x)
    finally:
        extension().reset()
        extension().set_order(0)


def message_of(name: str, order: int = 0) -> str:
    with pytest.raises(RuntimeError) as caught:
        planted(name, order)
    return str(caught.value)


def report_of(name: str, order: int = 0) -> str:
    """What a process that runs the kernel prints, with a sanitizer's report."""
    program = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); import test_simulator; "
    paths = os.pathsep.join(path for path in sys.path if path)
    options = {
        name: re.sub(r"(^|:)log_path=[^:]*", "", value)
        for name, value in os.environ.items()
        if name.endswith("SAN_OPTIONS")
    }
    done = subprocess.run(
        [sys.executable, "-c", program + f"test_simulator.planted({name!r}, {order})"],
        env={**os.environ, **options, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def test_every_planted_kernel_is_expected() -> None:
    assert {*extension().PLANTED} == NAMED.keys() | OVERRUNS.keys() | {*RACES} | OTHERS


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", NAMED)
def test_a_mistake_is_named_with_kernel_block_thread_and_line(name, order):
    message = message_of(name, order)
    assert re.search(rf"{name}{THREAD}, csrc/cusim/planted\.cu:\d+: {re.escape(NAMED[name])}", message), message


@pytest.mark.parametrize("name", OVERRUNS)
def test_an_overrun_is_named(name):
    sanitizer = extension().SANITIZER
    if "address" in sanitizer:
        report = report_of(name)
        assert "ERROR: AddressSanitizer" in report, report
        assert re.search(r"planted\.cu:\d+", report), report
        assert re.search(rf"cusim: {name}{THREAD}", report), report
    elif not sanitizer:
        message = message_of(name)
        assert re.search(rf"{name}{THREAD}, (csrc/cusim/)?{OVERRUNS[name]}", message), message


@pytest.mark.parametrize("name", RACES)
def test_a_race_shows_in_some_order_or_to_threadsanitizer(name):
    # An asynchronous copy is not an access at one moment, as ThreadSanitizer's are.
    if extension().SANITIZER == "thread" and name != "copy_too_early":
        report = report_of(name)
        assert "WARNING: ThreadSanitizer: data race" in report, report
        assert re.search(r"planted\.cu:\d+", report), report
    elif name != "lost_update":  # blocks run one after the other
        found = {planted(name, order).tobytes() for order in range(5)}
        assert len(found) > 1


def test_lanes_of_masks_that_overlap_are_named():
    assert "the mask ffff0000 meets the mask 0001ffff of other lanes of the warp" in message_of("masks_that_overlap")


def test_memory_that_nobody_wrote_is_not_a_number():
    assert np.isnan(planted("reads_shared_memory_unwritten")[:64]).all()
    ops = simulated()
    x = ops.from_host(np.arange(128, dtype=np.float32))
    assert np.isnan(ops.to_host(ops.view(extension().empty(x), 0, 128, (128,)))).all()


def test_the_device_works_again_after_a_mistake():
    message_of("deadlock")
    np.testing.assert_array_equal(simulated().to_host(simulated().zeros((3,), "float32")), np.zeros(3, np.float32))
