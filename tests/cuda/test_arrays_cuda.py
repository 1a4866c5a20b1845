"""The rows that make, move and look at arrays."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from cuda_simulator import extension, in_every_order, on_device, simulated
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds
from within import SINGLE, hold

from pyroberta.ops import REFERENCE
from pyroberta.oracle import bounds

pytestmark = pytest.mark.cuda

sizes = st.one_of(st.integers(0, 70), st.sampled_from([255, 256, 257, 1000]))


def floats(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize("shape", [(0,), (5,), (2, 3), (2, 0, 3)])
def test_an_array_goes_to_the_device_and_comes_back(dtype, shape):
    ops, x = simulated(), (10 * floats(0, *shape)).astype(dtype)
    array = ops.from_host(x)
    assert array.shape == shape
    assert array.dtype == dtype
    found = ops.to_host(array)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, x)
    np.testing.assert_array_equal(ops.to_host(ops.zeros(shape, dtype)), np.zeros(shape, dtype))


def test_a_scalar_comes_back_as_a_number():
    assert simulated().to_host(simulated().from_host(np.array(2.5))) == 2.5


@given(size=sizes, seed=seeds)
def test_fill_and_add(size, seed):
    ops, x, y = simulated(), floats(seed, size), floats(seed + 1, size)

    def run():
        z = ops.from_host(x)
        ops.fill(z, 2.5)
        return z, ops.add(on_device(x), on_device(y))

    filled, total = in_every_order(run)
    np.testing.assert_array_equal(filled, np.full(size, 2.5, np.float32))
    np.testing.assert_array_equal(total, x + y)


@given(size=sizes, keep=st.sampled_from([0.0, 0.3, 1.0]), seed=seeds)
def test_arrays_are_copied_compared_and_averaged(size, keep, seed):
    ops, x, y = simulated(), floats(seed, size), floats(seed + 1, size)
    x[:1], y[1:2] = np.nan, np.nan

    def run():
        copied, largest, clipped, mean = (ops.from_host(x) for _ in range(4))
        other = ops.from_host(y)
        ops.copy(copied, other)
        ops.maximum(largest, other)
        ops.clip(clipped, 0.5)
        ops.running_mean(mean, other, keep)
        return copied, largest, clipped, mean

    copied, largest, clipped, mean = in_every_order(run)
    np.testing.assert_array_equal(copied, y)
    np.testing.assert_array_equal(largest, np.maximum(x, y))
    np.testing.assert_array_equal(clipped, np.clip(x, -0.5, 0.5))
    true, wide = x.astype(np.float64), y.astype(np.float64)
    bound = bounds.running_mean(SINGLE, np.nan_to_num(true), np.nan_to_num(wide), keep)["mean"][2:]
    REFERENCE.running_mean(true, wide, keep)
    assert np.isnan(mean[:2]).all()
    hold("running_mean", mean[2:], true[2:], bound)


@given(
    size=st.sampled_from([0, 1, 31, 300, 8191, 8192, 8193, 20000]), scale=st.sampled_from([1e-4, 1.0, 1e4]), seed=seeds
)
def test_the_global_norm_and_the_factor_of_clipping(size, scale, seed):
    ops, x, y = simulated(), np.float32(scale) * floats(seed, size), floats(seed + 1, 5)
    wide = x.astype(np.float64)

    def run():
        square = ops.squared_norm(on_device(x))
        total = reduce(ops.add, [square, ops.squared_norm(on_device(y))], 0.0)
        return square, total, ops.clip_scale(square, 1.0)

    square, total, factor = in_every_order(run)
    true = np.square(wide).sum()
    bound = 2.0 * bounds.squared_norm(SINGLE, wide)["norm"]  # NumPy's sum, too, is rounded
    hold("squared_norm", square, true, bound)
    hold("add", total, square + ops.to_host(ops.squared_norm(on_device(y))), np.float64(0.0))
    hold(
        "clip_scale", factor, REFERENCE.clip_scale(float(square), 1.0), bounds.clip_scale(SINGLE, square, 1.0)["scale"]
    )


@given(
    size=st.sampled_from([1, 30, 4096, 4097, 9000]), bad=st.sampled_from([np.nan, np.inf, -np.inf, 3e38]), seed=seeds
)
def test_one_number_that_is_not_finite_is_found(size, bad, seed):
    ops, x, y = simulated(), floats(seed, size), floats(seed + 1, 3)
    spoilt = x.copy()
    spoilt[seed % size] = bad

    def run():
        return ops.all_finite(on_device(y), on_device(x)), ops.all_finite(on_device(spoilt), on_device(y))

    good, found = in_every_order(run)
    assert bool(good) is True
    assert bool(found) is bool(np.isfinite(bad))
    assert ops.to_host(ops.all_finite()) == 1


def test_a_scalar_may_be_a_number_of_python():
    ops = simulated()
    assert ops.to_host(ops.clip_scale(25.0, 1.0)) == 0.2
    assert ops.to_host(ops.add(0.0, ops.squared_norm(on_device(np.float32([3.0, 4.0]))))) == 25.0


def test_an_array_on_a_device_is_nothing_else():
    x = simulated().zeros((2,), "float32")
    for use in (np.asarray, bool, len, iter, hash, lambda x: x + x, lambda x: x[0], lambda x: x == x):
        with pytest.raises(TypeError):
            use(x)
    with pytest.raises(TypeError):
        np.ones(2) + x


def test_what_does_not_fit_is_named():
    ops = simulated()
    with pytest.raises(ValueError, match=r"add: y must have the shape \(2, 3\), got \(3, 2\)"):
        ops.add(ops.zeros((2, 3), "float32"), ops.zeros((3, 2), "float32"))
    with pytest.raises(TypeError, match=r"add: y must be an array on a device, got <class 'numpy.ndarray'>"):
        ops.add(ops.zeros((2,), "float32"), np.zeros(2, np.float32))
    x = ops.zeros((4,), "float32")
    with pytest.raises(ValueError, match=r"copy: source must not share memory with target"):
        ops.copy(ops.view(x, 0, 3, (3,)), ops.view(x, 1, 4, (3,)))
    with pytest.raises(TypeError, match=r"copy: source must be float32, got float64"):
        ops.copy(ops.zeros((2,), "float32"), ops.zeros((2,), "float64"))
    with pytest.raises(ValueError, match=r"view: elements 2 to 6 can't be seen in the shape \(5,\), of an array of"):
        ops.view(ops.zeros((7,), "float32"), 2, 6, (5,))


def test_memory_is_kept_and_given_back_and_without_any_the_device_can_be_used_further():
    cuda, ops = extension(), simulated()
    context = ops.zeros.__self__.context
    context.trim()
    used = context.bytes_used()
    cuda.set_memory_limit(used + 1_000_000)
    try:
        x = ops.zeros((150_000,), "float32")
        assert context.bytes_used() >= used + 600_000
        del x
        ops.to_host(ops.zeros((150_000,), "float32"))  # what is kept serves again
        ops.to_host(ops.zeros((200_000,), "float32"))  # what is kept is too small, and goes back
        with pytest.raises(
            MemoryError, match=r"device 0 has no memory for 1200000 bytes: of its \d+ bytes, \d+ are free"
        ):
            ops.zeros((300_000,), "float32")
        np.testing.assert_array_equal(ops.to_host(ops.zeros((3,), "float32")), np.zeros(3))
    finally:
        cuda.set_memory_limit(8 << 30)
