"""The search for given strings in a text: the special and the added tokens. It runs before BPE.

The search goes from the left and takes the longest string that begins at a place. A regular expression that lists all
strings does that. It compares each string at every letter of the text, so that the work is the product of the text's
length and the letters of the strings. For a few short strings it is the fastest way. For more strings, an automaton
(Aho and Corasick, 1975) reads each letter of the text once, whatever the number of strings.

The automaton is built of the reversed strings, and reads the text backwards. After a letter, its state is the longest
tail of the letters read with which a reversed string begins. The longest whole string among the tails of that state is
the longest string that begins, forwards, at this letter. So one pass finds the longest string at every letter. A second
pass goes forwards, takes strings from the left, and leaves out those that overlap one that was taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

MOST_IN_ALTERNATION = 200  # letters of all strings: the most comparisons for a letter of the text


class Literals:
    """Finds strings in texts.

    Args:
        strings: the strings to find. An empty string is never found.

    >>> literals = Literals(["<s>", "<sun>", "<s"])
    >>> list(literals.find("a <sun> <so"))
    [(2, 7), (8, 10)]
    """

    def __init__(self, strings: Iterable[str]) -> None:
        strings = {string for string in strings if string}
        is_small = sum(map(len, strings)) <= MOST_IN_ALTERNATION
        self.find: Callable[[str], Iterator[tuple[int, int]]] = (_alternation if is_small else _automaton)(strings)


def _alternation(strings: Iterable[str]) -> Callable[[str], Iterator[tuple[int, int]]]:
    longest_first = sorted(strings, key=len, reverse=True)
    if not longest_first:
        return lambda text: iter(())
    finditer = re.compile("|".join(map(re.escape, longest_first))).finditer
    return lambda text: (found.span() for found in finditer(text))


def _automaton(strings: Iterable[str]) -> Callable[[str], Iterator[tuple[int, int]]]:
    """For each state, which is a beginning of strings read backwards: where a letter leads, the state of the longest
    tail that is a state too, and the length of the longest string among the tails, 0 where there is none.
    """
    moves: list[dict[str, int]] = [{}]
    lengths = [0]
    for string in strings:
        state = 0
        for letter in reversed(string):
            after = moves[state].get(letter)
            if after is None:
                after = moves[state][letter] = len(moves)
                moves.append({})
                lengths.append(0)
            state = after
        lengths[state] = len(string)

    tails = [0] * len(moves)
    waiting = list(moves[0].values())  # breadth first, since a tail is shorter than its string
    for state in waiting:
        lengths[state] = lengths[state] or lengths[tails[state]]
        for letter, after in moves[state].items():
            tail = tails[state]
            while tail and letter not in moves[tail]:
                tail = tails[tail]
            tails[after] = moves[tail].get(letter, 0)
            waiting.append(after)
    next_start = re.compile("[" + "".join(map(re.escape, moves[0])) + "]").search

    def find(text: str) -> Iterator[tuple[int, int]]:
        backwards, n = text[::-1], len(text)
        found: list[tuple[int, int]] = []
        state = i = 0
        while i < n:
            if not state:  # the engine of regular expressions skips letters that begin no string
                start = next_start(backwards, i)
                if start is None:
                    break
                i = start.start()
            letter = backwards[i]
            while state and letter not in moves[state]:
                state = tails[state]
            state = moves[state].get(letter, 0)
            i += 1
            if lengths[state]:
                found.append((n - i, lengths[state]))
        stop = 0
        for literal_start, length in reversed(found):
            if literal_start >= stop:
                stop = literal_start + length
                yield literal_start, stop

    return find
