"""Packing of segments into one sequence, `<s> a </s></s> b </s>`, which is cut to a length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyroberta.formats.budget import shown
from pyroberta.formats.counts import agreeing, counted


def pack_segments(
    segments: Sequence[Sequence[int]],
    sequence_length: int,
    *,
    start_id: int,
    end_id: int,
    truncate: str = "round_robin",
    separators: int = 2,
) -> list[int]:
    """Packs the segments of a text into one sequence, with RoBERTa's special tokens.

    One segment makes `<s> a </s>`, two make `<s> a </s></s> b </s>`, and so on. An empty segment keeps its separators.
    Segments that are too long are cut at the end. Special tokens are never cut.

    Args:
        segments: the ids of each segment, without special tokens; at least one segment.
        sequence_length: the largest number of ids of the sequence.
        start_id: the id of `<s>`.
        end_id: the id of `</s>`.
        truncate: the rule that decides which segment is cut: "round_robin" (the longest first) or "waterfall" (the last
            first).
        separators: the number of `</s>` between two segments.

    Raises:
        ValueError: if there is no segment, `truncate` is unknown, or the length cannot hold the special tokens.

    >>> pack_segments([[10, 11], [20, 21, 22]], 8, start_id=0, end_id=2)
    [0, 10, 11, 2, 2, 20, 21, 2]
    """
    if not segments:
        raise ValueError("there are no segments to pack: pass at least one segment, which may be empty")
    if truncate not in TRUNCATIONS:
        raise ValueError(f"truncate must be one of {', '.join(TRUNCATIONS)}, got {shown(truncate)}")
    specials = 2 + separators * (len(segments) - 1)
    if sequence_length < specials:
        raise ValueError(
            f"sequence_length {sequence_length} cannot hold the {specials} special tokens that "
            f"{counted(len(segments), 'segment')} {agreeing(len(segments), 'needs')}: pass more than {specials}"
        )
    kept = TRUNCATIONS[truncate]([len(segment) for segment in segments], sequence_length - specials)

    packed = [start_id]
    for segment, length in zip(segments, kept, strict=True):
        packed += [*segment[:length], *[end_id] * separators]
    return [*packed[:-separators], end_id]  # the end is one </s>


def round_robin(lengths: Sequence[int], room: int) -> list[int]:
    """Returns the number of tokens that each segment keeps if the room is given out one token at a time, from the left,
    in turn.

    >>> round_robin([10, 3], 8), round_robin([10, 10], 9)
    ([5, 3], [5, 4])
    """
    kept = [0] * len(lengths)
    while room > 0 and (hungry := [i for i, length in enumerate(lengths) if kept[i] < length]):
        # Many rounds at once: until a segment is whole, or there is not enough for all.
        rounds = min(room // len(hungry), min(lengths[i] - kept[i] for i in hungry))
        served = hungry if rounds else hungry[:room]  # the last round ends with the room
        for i in served:
            kept[i] += max(rounds, 1)
        room -= max(rounds, 1) * len(served)
    return kept


def waterfall(lengths: Sequence[int], room: int) -> list[int]:
    """Returns the number of tokens that each segment keeps if the first segment takes all the room it needs, then the
    second, and so on.

    >>> waterfall([10, 3], 8), waterfall([5, 2, 9], 6)
    ([8, 0], [5, 1, 0])
    """
    kept = []
    for length in lengths:
        kept.append(min(length, room))
        room -= kept[-1]
    return kept


TRUNCATIONS: dict[str, Callable[[Sequence[int], int], list[int]]] = {
    "round_robin": round_robin,
    "waterfall": waterfall,
}
