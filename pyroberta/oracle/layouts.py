"""The layouts that other implementations use for the tensors of a trace, and their conversion to the trace's layout.

The letters are those of the glossary: B sequences, S columns of padded arrays, N rows, M target rows, H heads of D
columns. A layout that fits a shape gives a `Candidate`: arrays by the trace's names, and notes on what was done.
Several layouts may fit. Then `foreign.align` chooses one of them, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

SECOND = "sequences on the second axis"
RIGHT, LEFT, SLOTS = "on the right", "on the left", "target rows read from mask slots"
MOST_SPARE = 255  # the largest number of additional entries in a vocabulary that is padded to a multiple of 8
Shape = tuple[int, ...]


class Side(NamedTuple):
    """The columns of the tokens in padded arrays of S columns.

    Attributes:
        name: the side of the padding, for notes.
        columns: (N,) the column of each row of the trace.
    """

    name: str
    columns: Array


class Candidate(NamedTuple):
    """A tensor that was converted to the trace's layout.

    Attributes:
        arrays: the trace's name -> array in the trace's shape.
        notes: what was done.
        way: (S, name of the side) if padding could be on either side; (K, `SLOTS`) if rows were read from mask slots;
            else None.
        rows: (N,) bool, the rows that were given, or None for all. The other rows are NaN in the arrays.
    """

    arrays: Mapping[str, Array]
    notes: tuple[str, ...] = ()
    way: tuple[int, str] | None = None
    rows: Array | None = None

    def after(self, note: str) -> Candidate:
        """Returns the candidate with an additional note in front."""
        return self._replace(notes=(note, *self.notes))


class Wanted(NamedTuple):
    """A value of the trace with a row for each token or target.

    Attributes:
        name: the trace's name.
        width: the shape of one row.
        of_targets: whether its rows are the target rows.
        in_heads: whether the given array may have an axis for the heads.
        may_lack: whether only some of its rows may be given.
    """

    name: str
    width: Shape
    of_targets: bool = False
    in_heads: bool = False
    may_lack: bool = False


class Rows:
    """The rows of a trace's batch, and their places in other layouts.

    Args:
        starts: (B+1,) the rows at which the sequences begin, and N.
        target_rows: (M,) the rows at which the head predicts.
        heads: H, or None if it is unknown.
        mask: (B, S) bool, true at tokens.
        ids: the given ids (B, S), and the trace's ids (N,).

    Raises:
        ValueError: if the lengths in the mask differ from those of the trace's sequences.
    """

    def __init__(
        self,
        starts: Array,
        target_rows: Array,
        heads: int | None = None,
        mask: Array | None = None,
        ids: tuple[Array, Array] | None = None,
    ) -> None:
        self.target_rows, self.first_rows, self.heads = target_rows, starts[:-1], heads
        self.lengths = np.diff(starts)
        self.B, self.N, self.longest = len(self.lengths), int(starts[-1]), int(self.lengths.max(initial=0))
        self.spans = list(pairwise(starts.tolist()))
        self.sequences = np.repeat(np.arange(self.B), self.lengths)
        self.positions = np.arange(self.N) - np.repeat(starts[:-1], self.lengths)
        of_targets = self.sequences[target_rows]
        self.slots = np.arange(len(target_rows)) - np.searchsorted(of_targets, of_targets)
        self.decided: dict[int, Side] = {}  # by S
        self.columns: int | None = None  # S, where the mask or the ids tell it
        if mask is not None:
            self._take_mask(mask)
            self.columns = mask.shape[1]
        if ids is not None:
            theirs, ours = ids
            self.columns = self.columns or theirs.shape[1]
            fitting = [side for side in self.sides(theirs.shape[1]) if np.array_equal(self._packed(theirs, side), ours)]
            if len(fitting) == 1:
                self.decided[theirs.shape[1]] = fitting[0]._replace(name=f"{fitting[0].name}, by their ids")

    def _take_mask(self, mask: Array) -> None:
        if mask.shape[0] != self.B or not np.array_equal(mask.sum(axis=1), self.lengths):
            raise ValueError(
                f"the padding mask {mask.shape} has sequences of {mask.sum(axis=1)[:8].tolist()} tokens, the trace's "
                f"batch of {self.lengths[:8].tolist()}: give the tensors of the batch that was traced"
            )
        self.decided[mask.shape[1]] = Side("by their mask", np.nonzero(mask)[1])

    def sides(self, S: int) -> list[Side]:
        """Returns the possible sides of padding in padded arrays of S columns."""
        if S in self.decided:
            return [self.decided[S]]
        right = Side(RIGHT, self.positions)
        left = Side(LEFT, self.positions + np.repeat(S - self.lengths, self.lengths))
        return [right] if np.array_equal(right.columns, left.columns) else [right, left]

    def _packed(self, x: Array, side: Side, rows: Array | slice = slice(None)) -> Array:
        packed: Array = x[self.sequences[rows], side.columns[rows]]
        return packed

    def is_padded(self, x: Array, batch: int = 0, columns: int = 1) -> bool:
        """Returns whether the axes `batch` and `columns` of x can be B and S."""
        return x.ndim > max(batch, columns) and x.shape[batch] == self.B and x.shape[columns] >= self.longest

    def packed(self, name: str, x: Array, of_targets: bool) -> Iterator[Candidate]:
        """Yields x (B, S, …) without padding: (N, …), or (M, …) for target rows."""
        S = x.shape[1]
        sides = self.sides(S)
        for side in sides:
            notes = [f"padded rows removed {side.name}"] if self.B * S > self.N else []
            if of_targets:
                notes.append("target rows selected")
            found = self._packed(x, side, self.target_rows if of_targets else slice(None))
            yield Candidate({name: found}, tuple(notes), (S, side.name) if len(sides) > 1 else None)

    # --- values of rows -----------------------------------------------------------------------------------------------

    def of_rows(self, wanted: Wanted, x: Array) -> Iterator[Candidate]:
        """Yields the conversions of an array to a value (N, …), or (M, …) for target rows.

        Args:
            wanted: the value of the trace.
            x: the given array.
        """
        width, spare = wanted.width, ""
        if x.shape == (self._count(wanted), *width):
            yield Candidate({wanted.name: x})
            return
        if wanted.of_targets and width and x.ndim and _is_spare(x.shape[-1], width[0]):
            spare = f"{x.shape[-1] - width[0]} columns of the padded vocabulary removed"
            x = x[..., : width[0]]
        for found in self._of_rows(wanted, x):
            yield found.after(spare) if spare else found

    def _count(self, wanted: Wanted) -> int:
        return len(self.target_rows) if wanted.of_targets else self.N

    def _of_rows(self, wanted: Wanted, x: Array) -> Iterator[Candidate]:
        name, width, of_targets = wanted.name, wanted.width, wanted.of_targets
        axes = x.ndim - len(width)  # before the width
        if axes < 1:
            return
        if x.shape[axes:] == width:
            if axes == 1 and len(x) == self._count(wanted):
                yield Candidate({name: x})
            elif axes == 1 and of_targets and len(x) == self.N:
                yield Candidate({name: x[self.target_rows]}, ("target rows selected",))
            elif axes == 1 and self.B and len(x) % self.B == 0 and len(x) // self.B >= self.longest:
                for found in self.packed(name, x.reshape(self.B, -1, *width), of_targets):
                    yield found.after("rows split into sequences")
            elif axes == 1 and wanted.may_lack:
                yield from self._of_some(name, x)
            elif axes == 2:
                yield from self._of_two(wanted, x)
        if wanted.in_heads:
            for turned, note in self._heads_joined(x, *width):
                for found in self._of_rows(wanted._replace(in_heads=False), turned):
                    yield found.after(note)
            for found in self._of_batched_heads(name, x, *width):
                yield found.after("heads joined, from the axis of the sequences")
        if not width and axes >= 2 and x.shape[-1] == 1:
            for found in self._of_rows(wanted, x[..., 0]):
                yield found.after("last axis of length 1 removed")

    def _of_some(self, name: str, x: Array) -> Iterator[Candidate]:
        """x (M, …) or (B, …), of the target rows or the first tokens alone: (N, …), the other rows NaN."""
        kinds = [(self.target_rows, "only target rows given"), (self.first_rows, "only first tokens given")]
        if not self.lengths.all() or np.array_equal(self.target_rows, self.first_rows):
            del kinds[1]
        for rows, note in kinds:
            if len(x) == len(rows):
                dtype = x.dtype if x.dtype.kind == "f" else np.float64
                found, is_present = np.full((self.N, *x.shape[1:]), np.nan, dtype), np.zeros(self.N, bool)
                found[rows], is_present[rows] = x, True
                yield Candidate({name: found}, (note,), None, is_present)

    def _of_two(self, wanted: Wanted, x: Array) -> Iterator[Candidate]:
        name, of_targets = wanted.name, wanted.of_targets
        if self.is_padded(x):
            yield from self.packed(name, x, of_targets)
        if self.is_padded(x, 1, 0) and x.shape[:2] != (1, 1):
            for found in self.packed(name, x.swapaxes(0, 1), of_targets):
                yield found.after(SECOND)
        if len(x) == 1 and self.B != 1:
            for found in self._of_rows(wanted._replace(may_lack=False), x[0]):
                yield found.after("first axis of length 1 removed")
        in_slots = len(x) == self.B and self.slots.max(initial=-1) < x.shape[1] and x.shape[1] not in self.decided
        if of_targets and in_slots:
            taken = x[self.sequences[self.target_rows], self.slots]
            yield Candidate({name: taken}, (SLOTS,), (x.shape[1], SLOTS))

    def _heads_joined(self, x: Array, C: int) -> Iterator[tuple[Array, str]]:
        """x with C columns, of x with an axis H and one of D."""
        if x.ndim in (3, 4) and self._are_heads(x.shape[-2], x.shape[-1], C):
            yield x.reshape(*x.shape[:-2], C), "heads joined"
        if x.ndim in (3, 4) and self._are_heads(x.shape[-3], x.shape[-1], C):
            turned = x.swapaxes(-3, -2)
            yield turned.reshape(*turned.shape[:-2], C), "heads joined, from an axis before the rows"

    def _of_batched_heads(self, name: str, x: Array, C: int) -> Iterator[Candidate]:
        """x (B·H, S, D) or (S, B·H, D), as products of matrices in batches take them."""
        D = x.shape[-1]
        H = C // D if D else 0
        if x.ndim != 3 or self.B == 1 or H < 2 or not self._are_heads(H, D, C):  # else it is another layout, too
            return
        first, second = x.shape[:2]
        if first == self.B * H and second >= self.longest:
            turned = x.reshape(self.B, H, second, D).swapaxes(1, 2)
            yield from self.packed(name, turned.reshape(self.B, second, C), False)
        if second == self.B * H and first >= self.longest:
            for found in self.packed(name, x.reshape(first, self.B, C).swapaxes(0, 1), False):
                yield found.after(SECOND)

    def _are_heads(self, H: int, D: int, C: int) -> bool:
        return H * D == C and self.heads in (None, H)

    # --- values of pairs of rows --------------------------------------------------------------------------------------

    def of_pairs(self, names: Sequence[str], x: Array, H: int) -> Iterator[Candidate]:
        """Yields the conversions of an array to the lists of attention, one (H, S, S) array for each sequence.

        Args:
            names: the trace's name of each sequence's array.
            x: the given array.
            H: the number of heads.
        """
        if x.ndim == 3 and self.B == 1 and len(x) == H:
            yield from self.of_pairs(names, x[None], H)
        elif x.ndim == 3 and len(x) == self.B * H:
            for found in self.of_pairs(names, x.reshape(self.B, H, *x.shape[1:]), H):
                yield found.after("axis of sequences and heads split")
        if x.ndim != 4 or x.shape[2] != x.shape[3] or x.shape[3] < self.longest:
            return
        S = x.shape[3]
        for turned, note in ((x, ""), (x.swapaxes(0, 1), SECOND)):
            if turned.shape[:2] != (self.B, H) or (note and self.B == H == 1):
                continue
            sides = self.sides(S)
            for side in sides:
                arrays = {}
                for b, (start, stop) in enumerate(self.spans):
                    columns = side.columns[start:stop]
                    arrays[names[b]] = turned[b][:, columns[:, None], columns]
                notes = (note,) if note else ()
                if self.B * S > self.N:
                    notes = (*notes, f"padded rows and columns removed {side.name}")
                yield Candidate(arrays, notes, (S, side.name) if len(sides) > 1 else None)


# --- parameters -------------------------------------------------------------------------------------------------------


def of_parameter(name: str, x: Array, shape: Shape, turned: bool | None, front: int = 0) -> Iterator[Candidate]:
    """Yields the conversions of an array to a parameter, its gradient or its slot.

    Args:
        name: the trace's name.
        x: the given array.
        shape: the trace's shape.
        turned: whether the given matrix is the transpose (out, in), or None if that is unknown.
        front: the number of additional rows that a position embedding may have in front.
    """
    if name.endswith(("embeddings.token", "embeddings.position")):  # no implementation has a table the other way
        turned = False
    for cut, note in _without_spare(name, x, shape, bool(turned), front):
        for found in _of_matrix(name, cut, shape, turned):
            yield found.after(note) if note else found


def _without_spare(name: str, x: Array, shape: Shape, turned: bool, front: int) -> Iterator[tuple[Array, str]]:
    yield x, ""
    if x.ndim != len(shape) or x.shape[1:] != shape[1:] or turned:
        return
    if name.endswith("embeddings.position") and front and x.shape[0] == shape[0] + front:
        yield x[front:], f"{front} rows in front removed"
    if name.endswith(("embeddings.token", "head.decoder", "head.bias")) and _is_spare(x.shape[0], shape[0]):
        yield x[: shape[0]], f"{x.shape[0] - shape[0]} rows of the padded vocabulary removed"


def _of_matrix(name: str, x: Array, shape: Shape, turned: bool | None) -> Iterator[Candidate]:
    if x.shape == x.shape[::-1] == shape and len(shape) == 2:  # a square tells nothing
        if turned is not True:
            yield Candidate({name: x})
        if turned is not False:
            yield Candidate({name: x.T}, ("transposed",))
        return
    if x.shape == shape:
        yield Candidate({name: x})
    elif len(shape) == 2 and x.shape == shape[::-1]:
        yield Candidate({name: x.T}, ("transposed",))
    elif x.shape in _with_heads(shape, x.shape):
        yield Candidate({name: x.reshape(shape)}, ("heads joined",))


def _with_heads(shape: Shape, theirs: Shape) -> list[Shape]:
    """The shapes that a parameter has with an axis for the heads, of as many as theirs has."""
    if len(theirs) != len(shape) + 1:
        return []
    if len(shape) == 1:
        return [theirs] if theirs[0] * theirs[1] == shape[0] else []
    (a, b), (_, H, _) = shape, theirs
    found: list[Shape] = [(a, H, b // H)] if H and b % H == 0 else []  # of queries, keys and values
    return [*found, (theirs[0], H, b)] if theirs[0] * H == a else found  # of the output


def thirds(x: Array, C: int, turned: bool | None) -> list[Array]:
    """Returns queries, keys and values from an array with all three, one after the other, on one axis. It returns an
    empty list if no axis has the length 3C.

    Args:
        x: the array.
        C: the width of one of the three.
        turned: whether the first axis of length 3C is split; otherwise the last one is.
    """
    axes = [axis for axis, n in enumerate(x.shape) if n == 3 * C]
    if not axes:
        return []
    return np.split(x, 3, axis=axes[0] if turned else axes[-1])


def _is_spare(n: int, V: int) -> bool:
    """Whether n may be V, padded."""
    return V < n <= V + MOST_SPARE and n % 8 == 0
