"""Casting on the way into a file: bfloat16 rounds to the nearest, as exact fractions say."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds

from pyroberta.formats import encoding
from pyroberta.formats.encoding import encoded, to_bfloat16
from pyroberta.formats.shards import parse_size, split
from pyroberta.formats.stored import widened

floats = st.one_of(
    st.floats(-1e30, 1e30, allow_nan=False),
    st.builds(  # bfloat16 numbers, the middles between them, and their neighbours in float64
        lambda bits, step: float(np.nextafter(np.array([bits << 15], np.uint32).view(np.float32)[0], np.float64(step))),
        st.integers(0, 2 * 0x7F7F),  # 0x7F7F is the largest; what is larger is another test's
        st.sampled_from([0.0, np.inf]),
    ),
)


@given(value=floats, width=st.sampled_from([np.float32, np.float64]))
def test_bfloat16_is_the_nearest_and_of_two_the_even(value, width):
    given_value = np.array([value], width)
    (bits,) = to_bfloat16(given_value)
    exact = Fraction(float(given_value[0]))

    def distance(bits: int) -> Fraction:
        return abs(Fraction(float(widened(np.array([bits], np.uint16), "BF16")[0])) - exact)

    for other in (int(bits) - 1, int(bits) + 1):
        if 0 <= (other & 0x7FFF) < 0x7F80 and (other ^ int(bits)) < 0x8000:
            assert distance(int(bits)) <= distance(other)
            assert distance(int(bits)) < distance(other) or bits % 2 == 0


@given(seed=seeds, shape=st.lists(st.integers(0, 5), max_size=3), dtype=st.sampled_from(list(encoding.CODES)))
def test_blocks_laid_end_to_end_are_the_whole(seed, shape, dtype):
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32).T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "BLOCK", 4)
        blocks = [block.copy() for block in encoded(values, dtype, "a")]
    whole = to_bfloat16(values) if dtype == "bfloat16" else values.astype(dtype)
    assert b"".join(block.tobytes() for block in blocks) == np.ascontiguousarray(whole).tobytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_what_is_too_large_is_refused_with_its_place(dtype, monkeypatch):
    monkeypatch.setattr(encoding, "BLOCK", 2)
    values = np.ones((4, 2))
    values[2, 1] = 3.4e38 if dtype == "bfloat16" else 1e39
    with pytest.raises(ValueError, match=rf"'a' as {dtype} has 1 value that isn't finite, the first inf at \(2, 1\)"):
        list(encoded(values, dtype, "a"))


def test_casting_makes_no_second_copy_of_a_large_tensor():
    import tracemalloc

    values = np.ones((3000, 1000), np.float32)
    tracemalloc.start()
    for dtype in encoding.CODES:
        for _ in encoded(values.T, dtype, "a"):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # a block of 2²⁰ numbers at a time: the widest is 8 bytes, bfloat16 takes 4 and a few masks
    assert peak < 3 * 8 * 2**20
    assert peak < 3 * values.nbytes


@pytest.mark.parametrize("size", ["5 apples", "", 0, -1, True, "0GB", "0", 1e-10, math.nan, math.inf, [5]])
def test_a_size_that_is_none_is_an_error(size):
    with pytest.raises(ValueError, match="max_shard_size must be a number of gigabytes above 0, a text with a unit"):
        parse_size(size)


def test_a_bare_number_is_gigabytes_and_a_text_has_its_unit():
    sizes = {"5GB": 5 * 10**9, "10kb": 10**4, "1 MB": 10**6, "7B": 7, "2TB": 2 * 10**12}
    sizes |= {10: 10**10, "10": 10**10, 1.5: 1_500_000_000, "1.5": 1_500_000_000, 1000: 10**12, np.int64(2): 2 * 10**9}
    assert {size: parse_size(size) for size in sizes} == sizes
    assert split({"a": 10**13, "b": 10**13}, parse_size(None)) == [["a", "b"]]


@pytest.mark.parametrize(
    ("size", "shown"),
    [(5_000_000_000, "5GB"), ("5000000000", "5GB"), (200e6, "200MB"), (1001, "1.001KB"), (1_234_567, "1.234567MB")],
)
def test_a_bare_number_that_was_meant_as_bytes_is_an_error_with_the_text_to_write(size, shown):
    message = f"a number without a unit means gigabytes, and this is more than 1000. For bytes, .* such as '{shown}'$"
    with pytest.raises(ValueError, match=message):
        parse_size(size)


@given(sizes=st.lists(st.integers(0, 12), max_size=12), limit=st.integers(1, 20))
def test_every_tensor_is_in_one_shard_and_none_is_too_large(sizes, limit):
    named = {str(i): size for i, size in enumerate(sizes)}
    groups = split(named, limit)
    assert sorted((name for group in groups for name in group), key=int) == list(named)
    assert all(len(group) == 1 or sum(named[name] for name in group) <= limit for group in groups)
    assert all(groups)
