"""Aligns the tensors of another implementation with a trace's names, layouts and shapes.

`read_tensors` reads their files. `names` has the names that other implementations give a tensor, and `layouts` the
layouts. This module decides which name and layout is meant. Every decision is reported: `Aligned.notes` says what was
done to each tensor.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
from numpy import ndarray as Array

from pyroberta.formats.any_tensors import read_tensors as read_tensors
from pyroberta.formats.budget import shown, type_of
from pyroberta.formats.stored import few
from pyroberta.model.config import RobertaConfig
from pyroberta.oracle.bounds import BFLOAT16_U, is_bfloat16
from pyroberta.oracle.claims import Claim, differing, without_inner
from pyroberta.oracle.golden import Trace, config_of
from pyroberta.oracle.layouts import LEFT, RIGHT, SECOND, SLOTS, Candidate, Rows, Wanted, of_parameter, thirds
from pyroberta.oracle.names import FORMATS, LISTS, OF_PARAMETERS, READ, Match, Names, split_step
from pyroberta.oracle.names import names_of as names_of

# The names of padding masks -> whether they are true at padding. The others are true at tokens.
MASKS = {"attention_mask": False, "padding_mask": False, "encoder_padding_mask": True}
# Hugging Face's token type embedding, and the tensor of the trace that contains it; a later entry has priority. The
# trace's update changes only the position embedding, so the row from before the update is also added after it.
TOKEN_TYPES = (
    ("embeddings.of_token_types", "embeddings.of_positions"),
    ("parameters.embeddings.token_type", "parameters.embeddings.position"),
    ("updated.embeddings.token_type", "updated.embeddings.position"),
    ("parameters.embeddings.token_type", "updated.embeddings.position"),
)
POSITION, TOKEN, TOKEN_TYPE = (f"parameters.embeddings.{of}" for of in ("position", "token", "token_type"))
MANY = 16  # the number of nonzero bfloat16 numbers from which a tensor counts as stored in bfloat16
ENOUGH = 3  # the number of oblong kernels from which the layout of all kernels is decided
IN_HEADS = r"(attention\.(query|key|value)\.output|attention\.(context|q|k|v))$"


@dataclass(frozen=True)
class Aligned:
    """Another implementation's tensors in a trace's names, layouts and shapes.

    Attributes:
        theirs: the trace's name -> their array in the trace's shape, in the order of the trace.
        notes: the trace's name -> what was done to the tensor, and what other layouts were possible.
        names: the trace's name -> their name.
        unknown: their names that belong to no tensor of the trace.
        absent: declared names that none of their tensors has.
        lost: the trace's name -> the largest error of each number, in the trace's shape. It exists for a sum of two
            tensors that were already rounded.
        partial: the trace's name -> (N,) bool, the rows that were given, if only some were. The other rows are NaN in
            `theirs`.
        aside: tensors that are not in the trace, which the comparison may use. `decoder` (V, C) is the head's matrix,
            if it differs from the token embedding. `token_type` (C,) is the row of the first token type. `columns` ()
            is S of the padded arrays, if their mask or ids show it.
        remarks: sentences about tensors that were left out, with the reason.
    """

    theirs: dict[str, Array] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    lost: dict[str, Array] = field(default_factory=dict)
    partial: dict[str, Array] = field(default_factory=dict)
    aside: dict[str, Array] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def align(golden: Trace, tensors: Mapping[str, Array], names: Mapping[str, str] | None = None) -> Aligned:
    """Returns another implementation's tensors under a trace's names, in its layouts and shapes.

    A tensor that fits no layout is left out, with a remark. If the results of two nested modules should be equal and
    differ, the inner one is left out, with a remark.

    Args:
        golden: the trace of one batch.
        tensors: arrays of numbers by the trace's names, or by those of Hugging Face, fairseq or Keras (see `names_of`).
            An `attention_mask` among them shows where padding is; without one, `input_ids` do.
        names: their name -> the trace's name, for other names. An entry also covers the gradient `THEIRS.grad`, and for
            a parameter `clipped.THEIRS`, `updated.THEIRS`, `exp_avg.THEIRS` and `exp_avg_sq.THEIRS`. For queries, keys
            and values in one tensor, write `qkv` instead of `query` in the trace's name.

    Raises:
        TypeError: if an argument has another type, or a name is not a text.
        ValueError: if a declared tensor fits no layout, if no tensor with a known name fits one, if two tensors should
            be equal and differ, if the mask belongs to another batch, or if none of the declared names is among the
            tensors.

    >>> from pyroberta.oracle.golden import Entry
    >>> golden = Trace()
    >>> golden.add("parameters.layers.0.feed_forward.output.kernel", np.ones((3, 2)), Entry())
    >>> found = align(golden, {"roberta.encoder.layer.0.output.dense.weight": np.ones((2, 3))})
    >>> found.notes
    {'parameters.layers.0.feed_forward.output.kernel': 'transposed'}
    """
    for argument, given, kind in (
        ("golden", golden, Trace),
        ("tensors", tensors, Mapping),
        ("names", names or {}, Mapping),
    ):
        if not isinstance(given, kind):
            raise TypeError(
                f"{argument} should be a {kind.__name__}, as in align(read_trace(file), read_tensors(file), names); "
                f"got {type_of(given)}"
            )
    try:
        return _Aligner(golden, tensors, names or {}).aligned()
    except _Misfit as misfit:
        raise ValueError(str(misfit)) from None


class _Kept(Mapping[str, Array]):
    """A trace that keeps the array that was read last, because arrays may be in a file."""

    def __init__(self, trace: Trace) -> None:
        self.trace, self.name, self.array = trace, "", np.zeros(0)

    def __getitem__(self, name: str) -> Array:
        if name != self.name:
            self.name, self.array = name, self.trace[name]
        return self.array

    def __contains__(self, name: object) -> bool:
        return name in self.trace.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.trace)

    def __len__(self) -> int:
        return len(self.trace)


_T = TypeVar("_T")


class _Misfit(ValueError):
    """A tensor that does not fit its name.

    Args:
        message: the error in words.
        key: equal keys mean that the same is wrong with several tensors.
    """

    def __init__(self, message: str, *key: object) -> None:
        super().__init__(message)
        self.key = key


class _Piece(NamedTuple):
    """A given tensor, or a part of it, that is one tensor of the trace or a list of them (`targets`)."""

    match: Match
    targets: list[str]
    x: Array
    notes: list[str]


class _Way(NamedTuple):
    """A possible layout of a given tensor: a candidate without its arrays, and its distance from the trace."""

    is_second: bool
    way: tuple[int, str] | None
    distance: float


@dataclass(frozen=True)
class _Lies:
    """A predicate: whether a candidate has these columns and this side of padding."""

    columns: int
    side: str

    def __call__(self, one: Candidate | _Way) -> bool:
        return one.way == (self.columns, self.side)


class _Aligner:
    def __init__(self, golden: Trace, tensors: Mapping[str, Array], declared: Mapping[str, str]) -> None:
        self.golden, self.entries, self.tensors, self.declared = _Kept(golden), golden.entries, tensors, declared
        config = _config(golden)
        numbers = [int(found[1]) for name in golden if (found := re.search(r"(?:^|\.)layers\.(\d+)\.", name))]
        layers = config.num_layers if config else max(numbers, default=-1) + 1
        head = config.head if config else "masked_lm"
        self.reader = Names(layers, head, "parameters.head.decoder" in self.golden)
        self.reader_of_untied = Names(layers, head, untied=True)
        self.front = config.pad_id + 1 if config else 2
        self.heads = config.num_heads if config else None
        self.types: dict[str, str] = {}  # the trace's way to name a token type's tensor -> theirs
        self.extra: dict[str, str] = {}  # a position embedding -> their token types' tensor
        self.rows: Rows | None = None
        self.is_other_way = False
        self.remarks: list[str] = []
        self.is_second: dict[bool, bool] = {}  # by whether it is of pairs of rows: that sequences lie second
        self.is_in_slots: dict[int, bool] = {}  # by the columns: that those are slots of target rows
        self.side: dict[int, str] = {}  # by the columns
        self.claims: dict[str, list[Claim]] = {}  # by the trace's name
        self.lost: dict[str, Array] = {}
        self.misfits: dict[object, list[tuple[str, _Misfit]]] = {}  # by what is wrong

    def aligned(self) -> Aligned:
        found = Aligned()
        matches = self._matches(found.unknown)
        if "batch.starts" in self.golden and "batch.target_rows" in self.golden:
            self.rows = self._rows(matches)
        self.is_other_way = self._lies_the_other_way(matches)
        self._vote(matches)
        order = {name: i for i, name in enumerate(self.golden)}
        places = sorted(matches.items(), key=lambda item: order[self._targets(item[1].name)[0]])
        for theirs, match in sorted(places, key=lambda item: item[0] not in self.declared):
            try:
                self._take(theirs, match)
            except _Misfit as misfit:
                if theirs in self.declared:
                    raise
                self.misfits.setdefault(misfit.key, []).append((theirs, misfit))
        if self.misfits and not self.claims:
            raise next(iter(self.misfits.values()))[0][1]
        self._settle(found, [name for name in order if name in self.claims])
        found.absent.extend(name for name in self.declared if name not in self.tensors)
        found.lost.update(self.lost)
        self._put_aside(found)
        found.remarks.extend([*self.remarks, *(_left_out(some) for some in self.misfits.values())])
        return found

    # --- names

    def _targets(self, name: str) -> list[str]:
        """The trace's tensors that a name stands for: one, those of each sequence, or query, key and value."""
        if name in self.golden:
            return [name]
        if name.rpartition(".")[2] in LISTS:
            found, b = [], 0
            while f"{name}.{b}" in self.golden:
                found.append(f"{name}.{b}")
                b += 1
            return found
        if ".attention.qkv." in name:
            found = [name.replace(".qkv.", f".{part}.") for part in ("query", "key", "value")]
            return found if all(one in self.golden for one in found) else []
        return []

    def _matches(self, unknown: list[str]) -> dict[str, Match]:
        """Their name -> what it is, in the implementation of which most names are."""
        for name in [*self.tensors, *self.declared, *self.declared.values()]:
            if not isinstance(name, str):
                raise TypeError(f"the names of tensors should be texts, got {name!r:.80}")
        if self.declared and not any(name in self.tensors for name in self.declared):
            raise ValueError(
                f"names declares {few(map(shown, self.declared))}, and no tensor has such a name; the tensors are "
                f"{few(map(shown, self.tensors))}: give their names as they are there"
            )
        found: dict[str, list[Match]] = {}
        for theirs in self.tensors:
            if theirs in self.declared:
                found[theirs] = [self._declared(theirs, self.declared[theirs])]
            elif of_declared := self._of_declared(theirs):
                found[theirs] = [of_declared]
            elif self._targets(theirs):
                found[theirs] = [Match(theirs, "", False)]
            elif _last(theirs) not in MASKS:
                read = self.reader.read(theirs)
                self.types |= {match.name: theirs for match in read if "token_type" in match.name}
                found[theirs] = [match for match in read if self._targets(match.name)]
        self.extra = {of: self.types[name] for name, of in TOKEN_TYPES if name in self.types}
        counts = Counter(format for matches in found.values() for format in {match.format for match in matches})
        theirs_is = max(FORMATS, key=lambda format: counts[format])
        chosen = {}
        for theirs, matches in found.items():
            fitting = [match for match in matches if match.format in ("", theirs_is) or theirs in self.declared]
            if fitting:
                chosen[theirs] = fitting[0]
            elif theirs not in self.extra.values():
                unknown.append(theirs)
        return chosen

    def _declared(self, theirs: str, name: str) -> Match:
        if not self._targets(name):
            near = [one for one in self.entries if one.endswith(f".{name}") or one.startswith(f"{name}.")]
            hint = f"similar names of the trace are {few(near)}" if near else "print(*golden) lists the trace's names"
            raise ValueError(f"{shown(theirs)} is declared as {shown(name)}, which is not in the trace; {hint}")
        known = next((match for match in self.reader.read(theirs) if match.name == name), None)
        turned = True if re.search(r"[._]weight(\.grad)?$", theirs) and name.endswith(".kernel") else None
        return known or Match(name, "", turned)

    def _of_declared(self, theirs: str) -> Match | None:
        """What a tensor is whose parameter or value is declared: its gradient, slots, or what it is after an update.

        The update's number may stand in front.
        """
        step, rest = split_step(theirs)
        for form, kind, of_value in READ:
            parts = re.fullmatch(form, rest)
            of = next((part for part in parts.groups() if part is not None), "") if parts else ""
            if of not in self.declared or of == theirs:
                continue
            declared = self._declared(of, self.declared[of])
            declared_step, ours = split_step(declared.name)
            is_parameter = ours.startswith("parameters.")
            prefix = f"{kind}." if is_parameter else "" if of_value is None else f"{of_value}." if of_value else ""
            name = f"{step or declared_step}{prefix}{ours.removeprefix('parameters.')}"
            if (is_parameter or of_value is not None) and self._targets(name):
                return declared._replace(name=name)
        return None

    # --- rows

    def _rows(self, matches: Mapping[str, Match]) -> Rows:
        golden = self.golden
        starts = golden["batch.starts"]
        B = len(starts) - 1
        masks = [name for name in self.tensors if _last(name) in MASKS and not self._targets(name)]
        flat = [name for name in masks if np.ndim(self.tensors[name]) == 2]
        mask, given = next(iter([*flat, *masks]), None), None
        if mask is not None:
            given = np.asarray(self.tensors[mask])
            if given.ndim != 2:
                raise ValueError(
                    f"the padding mask {shown(mask)} should have two axes, (B, S), with 1 for each token; its shape is "
                    f"{given.shape}"
                )
            given = (given == 0) if MASKS[_last(mask)] else (given != 0)
            if others := [name for name in masks if name != mask]:
                self.remarks.append(f"{shown(mask)} is used as the padding mask. Left out: {few(map(shown, others))}")
        ids = next((name for name, match in matches.items() if match.name == "batch.ids"), None)
        both = None
        if ids is not None and mask is None:
            theirs = np.asarray(self.tensors[ids])
            if theirs.ndim == 2 and len(theirs) == B and theirs.shape[1] >= int(np.diff(starts).max(initial=0)):
                both = theirs, golden["batch.ids"]
        return Rows(starts, golden["batch.target_rows"], self.heads, given, both)

    # --- layouts

    def _lies_the_other_way(self, matches: Mapping[str, Match]) -> bool:
        """Whether their matrices lie otherwise than those whose names they have, as oblong ones tell."""
        votes: list[bool] = []
        for theirs, match in matches.items():
            if match.format and match.turned is not None and match.name.endswith(".kernel") and len(votes) < ENOUGH:
                shape = self.golden[self._targets(match.name)[0]].shape
                if len(shape) == 2 and shape[0] != shape[1]:
                    found = np.shape(self.tensors[theirs])
                    votes += [found == (shape if match.turned else shape[::-1])] * (sorted(found) == sorted(shape))
        return bool(votes) and all(votes)

    def _vote(self, matches: Mapping[str, Match]) -> None:
        """On which axis sequences lie, what are slots and on which side padding is, as all tensors together tell.

        An early mistake may bring one tensor nearer to the trace in a layout that it hasn't.
        """
        rows, pairs = list[list[_Way]](), list[list[_Way]]()
        for theirs, match in matches.items():
            for piece in self._values_in(theirs, match):
                candidates = list(self._candidates(piece.match, piece.targets, piece.x))
                if len(candidates) > 1:
                    ways = [_Way(SECOND in one.notes, one.way, self._distance(one)) for one in candidates]
                    (rows if piece.targets == [piece.match.name] else pairs).append(ways)
        for of_pairs, some in ((True, pairs), (False, rows)):
            self.is_second[of_pairs] = _nearer(some, lambda one: one.is_second) or False
            _narrow(some, lambda one: one.is_second, wanted=self.is_second[of_pairs])
        for K in {one.way[0] for ways in rows for one in ways if one.way and one.way[1] == SLOTS}:
            some = [ways for ways in rows if any(one.way == (K, SLOTS) for one in ways)]
            if (is_nearer := _nearer(some, _Lies(K, SLOTS))) is not None:
                self.is_in_slots[K] = is_nearer
                _narrow(some, _Lies(K, SLOTS), wanted=is_nearer)
        both = [*pairs, *rows]
        for S in {one.way[0] for ways in both for one in ways if one.way and one.way[1] == LEFT}:
            some = [[one for one in ways if one.way in ((S, LEFT), (S, RIGHT))] for ways in both]
            if (is_nearer := _nearer(some, _Lies(S, LEFT))) is not None:
                self.side[S] = LEFT if is_nearer else RIGHT

    def _values_in(self, theirs: str, match: Match) -> list[_Piece]:
        """What a tensor of theirs has of the trace's values; nothing of a parameter, and of what fits nothing."""
        try:
            return self._pieces(theirs, match) if _kind(match.name) not in OF_PARAMETERS else []
        except _Misfit:
            return []

    def _as_voted(self, candidates: list[Candidate], *, of_pairs: bool) -> tuple[list[Candidate], list[str]]:
        """The candidates without those that all tensors together tell against, and a note of what these were."""
        doubts = []
        if kept := _both(candidates, lambda one: SECOND in one.notes, wanted=self.is_second[of_pairs]):
            candidates = kept
            doubts.append(f"with the sequences on the {'first' if self.is_second[of_pairs] else 'second'} axis")
        for K, is_in_slots in self.is_in_slots.items():
            if kept := _both(candidates, _Lies(K, SLOTS), wanted=is_in_slots):
                candidates = kept
                doubts.append(f"as {'rows of the sequences' if is_in_slots else 'mask slots of target rows'}")
        for S, side in self.side.items():
            other = RIGHT if side == LEFT else LEFT
            if any(one.way == (S, side) for one in candidates):
                kept = [one for one in candidates if one.way != (S, other)]
                doubts += [f"with the padding {other}"] * (len(kept) < len(candidates))
                candidates = kept
        return candidates, [
            f"it also fits {one}, but then tensors of this kind are further from the trace" for one in doubts
        ]

    def _pieces(self, theirs: str, match: Match) -> list[_Piece]:
        """What a tensor of theirs has of the trace: itself, or queries, keys and values."""
        targets, x = self._targets(match.name), np.asarray(self.tensors[theirs])
        if x.dtype.kind not in "biuf":
            raise _Misfit(f"{shown(theirs)} has the dtype {x.dtype}; it should be an array of real numbers", x.dtype)
        if match.name in self.extra:
            added = x.astype(np.float64) + self._types_of(match.name, x)
            return [_Piece(match, targets, added, ["the token type's row added"])]
        if ".attention.qkv." not in match.name:
            return [_Piece(match, targets, x, [])]
        is_parameter = _kind(match.name) in OF_PARAMETERS
        turned = match.turned
        if is_parameter and x.ndim == 2:
            turned = x.shape[0] > x.shape[1]  # which of its axes has 3C
        parts = thirds(x, self.golden[targets[0]].shape[-1], turned if is_parameter else False)
        if not parts:
            raise self._misfit(theirs, x, targets)
        return [
            _Piece(Match(target, "", turned), [target], part, ["a third of queries, keys and values in one"])
            for target, part in zip(targets, parts, strict=True)
        ]

    def _take(self, theirs: str, match: Match) -> None:
        for piece in self._pieces(theirs, match):
            self._put(theirs, *piece)
        if match.name in self.extra:
            x = np.asarray(self.tensors[theirs])
            types = self._types_of(match.name, x)
            if x.dtype.kind == "f" and types.ndim == 1:  # a row of a table: the sum's terms are rounded, not the sum
                total = next(one.array for one in self.claims[match.name] if theirs in one.names)
                of_x, of_types = (_lost_of(one, beside=x) for one in (x, types))
                smallest = float(np.finfo(x.dtype).smallest_subnormal)
                self.lost[match.name] = of_x * (np.abs(total) + np.abs(types)) + of_types * np.abs(types) + smallest

    def _put(self, theirs: str, match: Match, targets: list[str], x: Array, notes: list[str]) -> None:
        usual = match.turned if match.format else None
        if usual is not None and self.is_other_way and match.name.endswith(".kernel"):
            match = match._replace(turned=not usual)
        candidates = list(self._candidates(match, targets, x))
        if theirs in self.golden:  # by its own name nothing is turned
            candidates = [one for one in candidates if "transposed" not in one.notes]
        if not candidates:
            raise self._misfit(theirs, x, targets)
        candidates, unlike = self._as_voted(candidates, of_pairs=targets != [match.name])
        chosen, doubts = self._chosen(candidates)
        doubts = [*doubts, *unlike]
        shape = self.golden[targets[0]].shape
        if usual is not None and x.ndim == 2 and len(shape) == 2:
            if shape == shape[::-1] and match.turned == usual:
                doubts.append(f"a square kernel, read in the layout of {FORMATS[match.format]}")
            elif shape == shape[::-1]:
                doubts.append(
                    "a square kernel, read in the layout of their other kernels, not in that of "
                    f"{FORMATS[match.format]}"
                )
            elif ("transposed" in chosen.notes) != usual:
                doubts.append(f"the layout is the transpose of {FORMATS[match.format]}'s")
        note = "; ".join([*notes, *chosen.notes, *doubts, *self._meanings(match)]) or "as it is"
        for name, array in chosen.arrays.items():
            claims = self.claims.setdefault(name, [])
            same = next((claim for claim in claims if claim.takes(array, chosen.rows)), None)
            if same:
                same.names.append(theirs)
            else:
                claims.append(Claim(array, chosen.rows, [theirs], note))

    def _candidates(self, match: Match, targets: list[str], x: Array) -> Iterator[Candidate]:
        name, golden = targets[0], self.golden[targets[0]]
        kind, rest = _kind(match.name), re.sub(r"^(step_\d+\.)?(d\.)?", "", match.name)
        if kind in OF_PARAMETERS:
            yield from of_parameter(name, x, golden.shape, match.turned, self.front)
        elif targets != [match.name]:
            if self.rows:
                yield from self.rows.of_pairs(targets, x, golden.shape[0])
        elif x.shape == golden.shape:
            yield Candidate({name: x})
        elif golden.ndim == 0 and x.size == 1:
            yield Candidate({name: x.reshape(())}, ("one number",))
        elif self.rows and golden.ndim:
            of_targets = rest.startswith(("head.", "loss.", "batch.labels")) and rest != "head.target_rows.x"
            if golden.shape[0] == (len(self.rows.target_rows) if of_targets else self.rows.N):
                in_heads = re.search(IN_HEADS, rest) is not None and golden.ndim == 2
                may_lack = rest.startswith(("layers.", "head.target_rows.")) and golden.dtype.kind == "f"
                yield from self.rows.of_rows(Wanted(name, golden.shape[1:], of_targets, in_heads, may_lack), x)

    def _chosen(self, candidates: list[Candidate]) -> tuple[Candidate, list[str]]:
        """The candidate that is nearest to the trace, and a note of the others."""
        if len(candidates) == 1:
            return candidates[0], []
        distances = [self._distance(one) for one in candidates]
        best = int(np.argmin(distances))
        chosen, others = candidates[best], [one for i, one in enumerate(candidates) if i != best]
        alternatives = " or ".join(", ".join(one.notes) or "as it is" for one in others)
        if min(distances[:best] + distances[best + 1 :]) == distances[best]:
            return chosen, [f"it fits equally well: {alternatives}"]
        return chosen, [f"it also fits, further from the trace: {alternatives}"]

    def _distance(self, candidate: Candidate) -> float:
        difference = 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            for name, array in candidate.arrays.items():
                rows = slice(None) if candidate.rows is None else candidate.rows
                ours = self.golden[name]
                difference += float(np.square(array[rows].astype(np.float64) - ours[rows]).sum())
        return difference if np.isfinite(difference) else np.inf

    def _types_of(self, name: str, x: Array) -> Array:
        """What Hugging Face adds to position embeddings for the token type, which is in them in the trace."""
        types = np.asarray(self.tensors[self.extra[name]])
        if types.ndim == 2 and not name.endswith("of_positions"):
            types = types[:1].reshape(-1)
        if x.ndim == 0 or types.dtype.kind not in "biuf" or types.shape not in (x.shape, x.shape[-1:]):
            message = (
                f"{shown(self.extra[name])} has shape {types.shape}, which can't be added to a position embedding of "
                f"shape {x.shape}"
            )
            raise _Misfit(message, types.shape, x.shape)
        return types

    def _meanings(self, match: Match) -> Iterator[str]:
        """What a name of another implementation leaves open."""
        if not match.format:
            return
        step, kind, rest = re.match(r"(step_\d+\.)?(.*?)\.(.*)", match.name).groups("")  # type: ignore[union-attr]
        if kind == "gradients" and (entry := self.entries.get(f"{step}clipped.{rest}")) and any(entry.others.values()):
            yield f"read as the gradient before clipping; its name after clipping is {step}clipped.{rest}"
        if kind == "parameters" and f"{step}updated.{rest}" in self.golden:
            yield "read as the parameter before the update"

    def _misfit(self, theirs: str, x: Array, targets: Sequence[str]) -> _Misfit:
        shapes = ", ".join(str(self.golden[name].shape) for name in targets[:3])
        batch = (
            f"; its batch has N={self.rows.N} rows, B={self.rows.B} sequences and M={len(self.rows.target_rows)} "
            "target rows"
            if self.rows
            else ""
        )
        turned = targets and x.ndim == 2 and x.T.shape == self.golden[targets[0]].shape
        return _Misfit(
            f"{shown(theirs)} has shape {x.shape}, and no known layout converts it to {few(targets)}, which has "
            f"{shapes} in the trace{batch}. "
            + (
                "Transpose it" if turned else "Is it from the same model and batch? If so, give it in the trace's shape"
            ),
            x.shape,
            self.golden[targets[0]].shape if targets else (),
        )

    # --- which of several counts

    def _settle(self, found: Aligned, names: Iterable[str]) -> None:
        """Chooses for each tensor of the trace one of those that claim to be it."""
        pairs: dict[str, list[tuple[str, str]]] = {}  # an inner and an outer name, by what is common to many
        for name in names:
            claims = self._of_embedding(found, name, self.claims.pop(name))
            claims, more = self._of_declared_names(claims)
            claims, inner = without_inner(claims)
            for pair in inner:
                pairs.setdefault(re.sub(r"\d+", "#", " ".join(pair)), []).append(pair)
            first, *others = claims
            if others:
                other = others[0].names[0]
                hint = "" if other in self.declared else ", or declare in names what the other one is"
                raise ValueError(
                    f"{shown(first.names[0])} and {shown(other)} should both be {name}, but differ. Leave one out{hint}"
                )
            found.theirs[name], found.names[name] = first.array, first.names[0]
            same = (f"{shown(one)} is the same" for one in first.names[1:])
            found.notes[name] = "; ".join([first.note, *same, *more])
            if first.rows is not None:
                found.partial[name] = first.rows
        found.remarks.extend(differing(some) for some in pairs.values())

    def _of_declared_names(self, claims: list[Claim]) -> tuple[list[Claim], list[str]]:
        """Those of declared names, where there are some, and notes of the others."""
        if len(claims) < 2:
            return claims, []
        kept = [claim for claim in claims if any(map(self._is_declared, claim.names))] or claims
        others = [name for claim in claims if claim not in kept for name in claim.names]
        return kept, [f"{shown(name)} is left out, because the declared tensor is used" for name in others]

    def _is_declared(self, theirs: str) -> bool:
        return theirs in self.declared or self._of_declared(theirs) is not None

    def _of_embedding(self, found: Aligned, name: str, claims: list[Claim]) -> list[Claim]:
        """Without the head's matrix where it differs from the token embedding, which it should be."""
        if not name.endswith(".embeddings.token") or len(claims) < 2:
            return claims
        embedding_claims = [claim for claim in claims if not all(self._is_decoder(one) for one in claim.names)]
        others = [claim for claim in claims if claim not in embedding_claims]
        if not embedding_claims or not others:
            return claims
        decoder, embedding = others[0].names[0], embedding_claims[0].names[0]
        found.remarks.append(
            f"{decoder} and {embedding} should be equal, but differ: the head's matrix is not the token embedding.  "
            "The second is used"
        )
        if name == TOKEN:
            found.aside["decoder"] = others[0].array
        return embedding_claims

    def _is_decoder(self, theirs: str) -> bool:
        """Whether a name is of the head's own matrix in some implementation, and not declared as another."""
        return not self._is_declared(theirs) and any(
            match.name.endswith("head.decoder") for match in self.reader_of_untied.read(theirs)
        )

    def _put_aside(self, found: Aligned) -> None:
        if TOKEN_TYPE in self.types:
            types = np.asarray(self.tensors[self.types[TOKEN_TYPE]])
            row = types[0] if types.ndim == 2 and len(types) else types
            if row.dtype.kind in "biuf" and POSITION in self.golden and row.shape == self.golden[POSITION].shape[1:]:
                found.aside["token_type"] = row
        if self.rows and self.rows.columns is not None:
            found.aside["columns"] = np.array(self.rows.columns)


def _both(some: list[_T], is_so: Callable[[_T], bool], *, wanted: bool) -> list[_T]:
    """Those for which it is as wanted, where there are others, too; else none."""
    kept = [one for one in some if is_so(one) == wanted]
    return kept if len(kept) < len(some) else []


def _narrow(all_ways: Iterable[list[_Way]], is_so: Callable[[_Way], bool], *, wanted: bool) -> None:
    for ways in all_ways:
        ways[:] = _both(ways, is_so, wanted=wanted) or ways


def _nearer(all_ways: Iterable[Sequence[_Way]], is_so: Callable[[_Way], bool]) -> bool | None:
    """Whether those of which it holds are nearer to the trace, each tensor weighed the same; None for a tie."""
    first = second = 0.0
    for ways in all_ways:
        one, other = (min((way.distance for way in ways if is_so(way) == it), default=np.inf) for it in (True, False))
        if np.isfinite(one) and np.isfinite(other) and one + other:
            first, second = first + one / (one + other), second + other / (one + other)
    return None if first == second else first < second


def _left_out(some: Sequence[tuple[str, _Misfit]]) -> str:
    """The remark of tensors that fit nothing, all for the same reason."""
    names = few(shown(theirs) for theirs, _ in some)
    return f"{some[0][1]}. Left out: {names}"


def _lost_of(x: Array, beside: Array) -> float:
    """What was lost relatively, at most, in what x was kept in, as the table beside it tells."""
    if is_bfloat16(x) and is_bfloat16(beside) and np.count_nonzero(beside) >= MANY:
        return 2.0 * BFLOAT16_U
    return float(np.finfo(x.dtype).eps) if x.dtype.kind == "f" else 0.0


def _config(golden: Trace) -> RobertaConfig | None:
    try:
        return config_of(golden)
    except (KeyError, TypeError, ValueError):
        return None


def _kind(name: str) -> str:
    """What of a parameter it is; "" for other tensors."""
    return next((kind for kind in OF_PARAMETERS if re.match(rf"(step_\d+\.)?{re.escape(kind)}\.", name)), "")


def _last(name: str) -> str:
    return re.split(r"[./]", name)[-1]
