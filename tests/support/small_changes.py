"""What was changed in a file: the bytes between the first and the last that differ, after a line with how many are kept
before and behind them. A change of a few bytes takes a few bytes, however large the file is.
"""

from __future__ import annotations


def shared(one: bytes, other: bytes) -> int:
    """How many bytes at the front are the same."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def difference(before: bytes, after: bytes) -> bytes:
    """What `applied` makes `after` of, given `before`."""
    front = shared(before, after)
    back = shared(before[front:][::-1], after[front:][::-1])
    return b"%d %d\n" % (front, back) + after[front : len(after) - back]


def applied(before: bytes, change: bytes) -> bytes:
    """`before` changed; another file than the one that the change was made for comes out changed too."""
    line, _, middle = change.partition(b"\n")
    front, back = map(int, line.split())
    return before[:front] + middle + before[max(front, len(before) - back) :]
