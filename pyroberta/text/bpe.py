"""Byte-pair merging (Sennrich et al., 2016, arXiv:1508.07909). The pair with the lowest rank is merged first; of equal
pairs, the leftmost.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise

Pair = tuple[int, int]


def merge(symbols: list[int], ranks: Mapping[Pair, int], products: Mapping[Pair, int]) -> list[int]:
    """Merges adjacent symbols until no two adjacent ones have a rank.

    The time is O(n log n) for n symbols, since one word may be as long as a book.

    Args:
        symbols: the ids of a word's bytes. The list is overwritten.
        ranks: each pair's place in the list of merges.
        products: the id of the token that each pair makes, which is longer than both parts.

    Returns:
        The remaining ids.

    >>> merge([1, 2, 1, 2, 3], {(1, 2): 0, (4, 3): 1}, {(1, 2): 4, (4, 3): 5})
    [4, 5]
    """
    n = len(symbols)
    # A symbol sits where its first byte was, the places of its other bytes hold -1. `widths` tells at a symbol's
    # first and at its last byte how many it spans, so that both neighbours are found by adding and subtracting.
    widths = [1] * n
    places: dict[int, list[int]] = {}  # by rank: the start of such a pair, which may be stale
    for start, pair in enumerate(pairwise(symbols)):
        rank = ranks.get(pair)
        if rank is not None:
            places.setdefault(rank, []).append(start)
    waiting = list(places)
    heapify(waiting)

    while waiting:
        rank = lowest = heappop(waiting)
        starts = places.pop(rank)
        starts.sort(reverse=True)
        while starts and lowest == rank:
            left = starts.pop()
            right = left + widths[left]
            if right >= n or ranks.get((symbols[left], symbols[right])) != rank:
                continue  # stale: one of the two has been merged with another since
            stop = right + widths[right]
            symbols[left] = products[symbols[left], symbols[right]]
            symbols[right] = -1
            widths[left] = widths[stop - 1] = stop - left

            before = left - widths[left - 1] if left else left
            for first, second in ((before, left), (left, stop)):
                if first == second or second == n:
                    continue
                new_rank = ranks.get((symbols[first], symbols[second]))
                if new_rank is None:
                    continue
                if new_rank not in places:
                    places[new_rank] = []
                    heappush(waiting, new_rank)
                places[new_rank].append(first)
                lowest = min(lowest, new_rank)
        if starts:  # a lower rank has come up, which no trained list of merges does
            places[rank] = starts
            heappush(waiting, rank)
    return [symbol for symbol in symbols if symbol >= 0]
