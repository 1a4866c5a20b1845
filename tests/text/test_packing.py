from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyroberta.text.packing import TRUNCATIONS, pack_segments

S, E = 0, 2

some_lengths = st.lists(st.integers(0, 12), min_size=1, max_size=5)


def segments_of(lengths: list[int]) -> list[list[int]]:
    """Ids that tell their segment and place: 100, 101 … 200, 201 …"""
    return [[100 * (i + 1) + j for j in range(length)] for i, length in enumerate(lengths)]


def packed(lengths: list[int], sequence_length: int, truncate: str = "round_robin") -> list[int]:
    return pack_segments(segments_of(lengths), sequence_length, start_id=S, end_id=E, truncate=truncate)


# What keras-hub 0.32.0 keeps of segments of these lengths, at a sequence_length of 12.
KEPT = [
    ("round_robin", (10, 3), (5, 3)),
    ("round_robin", (10, 10), (4, 4)),
    ("round_robin", (3, 10), (3, 5)),
    ("round_robin", (5, 2, 9), (2, 2, 2)),
    ("waterfall", (10, 3), (8, 0)),
    ("waterfall", (5, 2, 9), (5, 1, 0)),
]


@pytest.mark.parametrize(("truncate", "lengths", "kept"), KEPT)
def test_truncation_equals_keras_hub(truncate, lengths, kept):
    want = [S]
    for segment, length in zip(segments_of(lengths), kept, strict=True):
        want += [*segment[:length], E, E]
    assert packed(lengths, 12, truncate) == want[:-1]


@pytest.mark.parametrize(
    ("lengths", "want"),
    [
        ([2], [S, 100, 101, E]),
        ([0], [S, E]),
        ([1, 2], [S, 100, E, E, 200, 201, E]),
        ([1, 1, 1], [S, 100, E, E, 200, E, E, 300, E]),
        ([0, 1], [S, E, E, 200, E]),
        ([1, 0], [S, 100, E, E, E]),
        ([0, 0], [S, E, E, E]),
    ],
)
@pytest.mark.parametrize("truncate", TRUNCATIONS)
def test_an_empty_segment_keeps_its_separators(truncate, lengths, want):
    assert packed(lengths, 12, truncate) == want


def round_robin_one_by_one(lengths: list[int], room: int) -> list[int]:
    """The definition, taken literally."""
    kept = [0] * len(lengths)
    while room and kept != lengths:
        for i, length in enumerate(lengths):
            if room and kept[i] < length:
                kept[i] += 1
                room -= 1
    return kept


@given(lengths=some_lengths, room=st.integers(0, 70))
def test_round_robin_is_dealing_one_token_at_a_time(lengths, room):
    assert TRUNCATIONS["round_robin"](lengths, room) == round_robin_one_by_one(lengths, room)


@given(lengths=some_lengths, room=st.integers(0, 70))
@pytest.mark.parametrize("truncate", TRUNCATIONS)
def test_truncation_fills_the_room_and_cuts_no_more_than_it_must(truncate, lengths, room):
    kept = TRUNCATIONS[truncate](lengths, room)
    assert sum(kept) == min(sum(lengths), room)
    assert all(0 <= k <= length for k, length in zip(kept, lengths, strict=True))


def test_a_segment_of_millions_of_tokens_takes_no_time():
    assert TRUNCATIONS["round_robin"]([10**12, 3, 10**12], 10**9) == [499_999_999, 3, 499_999_998]


@pytest.mark.parametrize(
    ("lengths", "sequence_length", "truncate", "message"),
    [
        ([3], 1, "round_robin", "sequence_length 1 cannot hold the 2 special tokens"),
        ([3, 3], 3, "waterfall", "sequence_length 3 cannot hold the 4 special tokens that 2 segment"),
        ([3], 8, "longest_first", "truncate must be one of round_robin, waterfall, got 'longest_first'"),
        ([], 8, "round_robin", "no segments to pack"),
    ],
)
def test_what_cannot_be_packed_is_an_error(lengths, sequence_length, truncate, message):
    with pytest.raises(ValueError, match=message):
        packed(lengths, sequence_length, truncate)
