"""The tensors of another implementation, aligned to a trace's names, layouts and shapes.

`read_tensors` reads their files, `names` knows what other implementations call a tensor, and `layouts` how they lay it.
Here it is decided which of them is meant. Nothing is decided silently: what was done to a tensor is in `Aligned.notes`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray as Array

from pyroberta.formats.any_tensors import read_tensors as read_tensors
from pyroberta.formats.budget import shown
from pyroberta.formats.stored import few
from pyroberta.model.config import RobertaConfig
from pyroberta.oracle.golden import Trace
from pyroberta.oracle.layouts import SECOND, Candidate, Rows, of_parameter, thirds
from pyroberta.oracle.names import FORMATS, LISTS, OF_PARAMETERS, Match, Names, split_step
from pyroberta.oracle.names import names_of as names_of

# Masks of their sequences: whether they are true for padding, not for tokens.
MASKS = {"attention_mask": False, "padding_mask": False, "encoder_padding_mask": True}
# What Hugging Face adds to a position embedding, which is in it in the trace; the later one counts. The trace's update
# changes the position embedding alone, so that what was before the update is added afterwards too.
TOKEN_TYPES = (
    ("embeddings.of_token_types", "embeddings.of_positions"),
    ("parameters.embeddings.token_type", "parameters.embeddings.position"),
    ("updated.embeddings.token_type", "updated.embeddings.position"),
    ("parameters.embeddings.token_type", "updated.embeddings.position"),
)
ENOUGH = 3  # matrices that tell how all lie
IN_HEADS = r"(attention\.(query|key|value)\.output|attention\.(context|q|k|v))$"


@dataclass(frozen=True)
class Aligned:
    """Another implementation's tensors in a trace's terms.

    Attributes:
        theirs: the trace's name -> their numbers in the trace's shape, in the order of the trace.
        notes: the trace's name -> what was done to the tensor, and what else it might have been.
        names: the trace's name -> their name.
        unknown: their names that nothing of the trace has.
        absent: names that were declared, of tensors that theirs lack.
        lost: the trace's name -> how far each number may be off, where it is the sum of two that theirs had rounded.
    """

    theirs: dict[str, Array] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    lost: dict[str, Array] = field(default_factory=dict)


def align(golden: Trace, tensors: Mapping[str, Array], names: Mapping[str, str] | None = None) -> Aligned:
    """Another implementation's tensors under a trace's names, in its layouts and shapes.

    Args:
        golden: the trace, of one batch.
        tensors: theirs, by the trace's names, or by those of Hugging Face, fairseq or Keras (see `names_of`). An
            `attention_mask` among them tells where padding is, and so do `input_ids`.
        names: their name -> the trace's, for tensors whose names are neither. It holds for the tensor's gradient,
            `THEIRS.grad`, too. Queries, keys and values in one tensor are declared with `qkv` in the place of `query`.

    Raises:
        ValueError: where a shape can't be the trace's tensor in any layout, two of theirs are the same tensor and
            differ, the mask is another batch's, or none of the declared names is there.

    >>> from pyroberta.oracle.golden import Entry
    >>> golden = Trace()
    >>> golden.add("parameters.layers.0.feed_forward.output.kernel", np.ones((3, 2)), Entry())
    >>> found = align(golden, {"roberta.encoder.layer.0.output.dense.weight": np.ones((2, 3))})
    >>> found.notes
    {'parameters.layers.0.feed_forward.output.kernel': 'transposed'}
    """
    return _Aligner(golden, tensors, names or {}).aligned()


class _Kept(Mapping[str, Array]):
    """A trace, of which the array that was asked for last is kept: it may lie in a file."""

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


class _Aligner:
    def __init__(self, golden: Trace, tensors: Mapping[str, Array], declared: Mapping[str, str]) -> None:
        self.golden, self.entries, self.tensors, self.declared = _Kept(golden), golden.entries, tensors, declared
        config = _config(golden)
        numbers = [int(found[1]) for name in golden if (found := re.search(r"(?:^|\.)layers\.(\d+)\.", name))]
        layers = config.num_layers if config else max(numbers, default=-1) + 1
        head = config.head if config else "masked_lm"
        self.reader = Names(layers, head, "parameters.head.decoder" in self.golden)
        self.front = config.pad_id + 1 if config else 2
        self.heads = config.num_heads if config else None
        self.extra: dict[str, str] = {}  # a position embedding -> their token types' tensor
        self.rows: Rows | None = None
        self.is_other_way = False
        self.is_second: dict[bool, bool] = {}  # by whether it is of pairs of rows: that sequences lie second

    def aligned(self) -> Aligned:
        found = Aligned()
        matches = self._matches(found.unknown)
        if "batch.starts" in self.golden and "batch.target_rows" in self.golden:
            self.rows = self._rows(matches)
        self.is_other_way = self._lies_the_other_way(matches)
        self.is_second = {of_pairs: self._lies_second(matches, of_pairs) for of_pairs in (True, False)}
        order = {name: i for i, name in enumerate(self.golden)}
        places = sorted(matches.items(), key=lambda item: order[self._targets(item[1].name)[0]])
        for theirs, match in sorted(places, key=lambda item: item[0] not in self.declared):
            self._take(found, theirs, match)
        names = [name for name in order if name in found.theirs]
        return Aligned(
            {name: found.theirs[name] for name in names},
            {name: found.notes[name] for name in names},
            {name: found.names[name] for name in names},
            found.unknown,
            [name for name in self.declared if name not in self.tensors],
            found.lost,
        )

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
        if self.declared and not any(name in self.tensors for name in self.declared):
            raise ValueError(
                f"the names given are of {few(map(shown, self.declared))}, and their tensors have none of them; those "
                f"are {few(map(shown, self.tensors))}"
            )
        found: dict[str, list[Match]] = {}
        types: dict[str, str] = {}
        for theirs in self.tensors:
            if theirs in self.declared:
                found[theirs] = [self._declared(theirs, self.declared[theirs])]
            elif of_declared := self._of_declared(theirs):
                found[theirs] = [of_declared]
            elif self._targets(theirs):
                found[theirs] = [Match(theirs, "", False)]
            elif _last(theirs) not in MASKS:
                read = self.reader.read(theirs)
                types |= {match.name: theirs for match in read if "token_type" in match.name}
                found[theirs] = [match for match in read if self._targets(match.name)]
        self.extra = {of: types[name] for name, of in TOKEN_TYPES if name in types}
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
            raise ValueError(f"{shown(theirs)} is declared as {shown(name)}, which the trace lacks")
        known = next((match for match in self.reader.read(theirs) if match.name == name), None)
        turned = True if re.search(r"[._]weight(\.grad)?$", theirs) and name.endswith(".kernel") else None
        return known or Match(name, "", turned)

    def _of_declared(self, theirs: str) -> Match | None:
        """What a gradient is whose value or parameter is declared; None for anything else."""
        of = next((name for name in (theirs.removesuffix(".grad"), theirs.removeprefix("grad.")) if name != theirs), "")
        if of not in self.declared:
            return None
        declared = self._declared(of, self.declared[of])
        step, rest = split_step(declared.name)
        gradient = f"gradients.{rest.removeprefix('parameters.')}" if rest.startswith("parameters.") else f"d.{rest}"
        return declared._replace(name=step + gradient) if self._targets(step + gradient) else None

    # --- rows

    def _rows(self, matches: Mapping[str, Match]) -> Rows:
        golden = self.golden
        starts = golden["batch.starts"]
        B = len(starts) - 1
        mask = next((name for name in self.tensors if _last(name) in MASKS), None)
        given = None
        if mask is not None:
            given = np.asarray(self.tensors[mask])
            if given.ndim != 2:
                raise ValueError(
                    f"{shown(mask)} should be (B, S), one where there is a token; its shape is {given.shape}"
                )
            given = (given == 0) if MASKS[_last(mask)] else (given != 0)
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

    def _lies_second(self, matches: Mapping[str, Match], of_pairs: bool) -> bool:
        """Whether sequences lie on the second axis where they may be on either, as all such tensors together tell."""
        first = second = 0.0
        for theirs, match in matches.items():
            targets, x = self._targets(match.name), np.asarray(self.tensors[theirs])
            of_values = _kind(match.name) not in OF_PARAMETERS and ".attention.qkv." not in match.name
            if not of_values or (targets != [match.name]) != of_pairs or x.dtype.kind not in "biuf":
                continue
            there, here = self._by_order(list(self._candidates(match, targets, x)))
            if there and here:
                other, usual = (min(map(self._distance, some)) for some in (there, here))
                if np.isfinite(other) and np.isfinite(usual) and other + usual:
                    first, second = first + usual / (other + usual), second + other / (other + usual)
        return second < first

    def _by_order(self, candidates: list[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
        """Those that have the sequences on the second axis, and the others."""
        there = [one for one in candidates if SECOND in one.notes]
        return there, [one for one in candidates if SECOND not in one.notes]

    def _take(self, into: Aligned, theirs: str, match: Match) -> None:
        targets, x = self._targets(match.name), np.asarray(self.tensors[theirs])
        if x.dtype.kind not in "biuf":
            raise ValueError(f"{shown(theirs)} is an array of {x.dtype}, expected numbers")
        if match.name in self.extra:
            types = self._types_of(match.name, x)
            self._put(into, theirs, match, targets, x.astype(np.float64) + types, ["that of the token type added"])
            if (
                x.dtype.kind == "f" and types.ndim == 1
            ):  # a row of a table: the sum's terms are rounded, and not the sum
                terms = np.abs(into.theirs[match.name]) + 2.0 * np.abs(types)
                into.lost[match.name] = float(np.finfo(x.dtype).eps) * terms
            return
        if ".attention.qkv." not in match.name:
            self._put(into, theirs, match, targets, x, [])
            return
        is_parameter = _kind(match.name) in OF_PARAMETERS
        turned = match.turned
        if is_parameter and x.ndim == 2:
            turned = x.shape[0] > x.shape[1]  # which of its axes has 3C
        parts = thirds(x, self.golden[targets[0]].shape[-1], turned if is_parameter else False)
        if not parts:
            raise self._misfit(theirs, x, targets)
        for target, part in zip(targets, parts, strict=True):
            self._put(into, theirs, Match(target, "", turned), [target], part, ["split from q k v in thirds"])

    def _put(self, into: Aligned, theirs: str, match: Match, targets: list[str], x: Array, notes: list[str]) -> None:
        usual = match.turned if match.format else None
        if usual is not None and self.is_other_way and match.name.endswith(".kernel"):
            match = match._replace(turned=not usual)
        candidates = list(self._candidates(match, targets, x))
        if theirs in self.golden:  # by its own name nothing is turned
            candidates = [one for one in candidates if "transposed" not in one.notes]
        if not candidates:
            raise self._misfit(theirs, x, targets)
        there, here = self._by_order(candidates)
        if there and here:
            candidates = there if self.is_second[targets != [match.name]] else here
        chosen, doubts = self._chosen(candidates)
        if there and here:
            axis = "first" if SECOND in chosen.notes else "second"
            doubts = [
                *doubts,
                f"it fits too with the sequences on the {axis} axis, further from the trace in all alike",
            ]
        shape = self.golden[targets[0]].shape
        if usual is not None and x.ndim == 2 and len(shape) == 2:
            if shape == shape[::-1] and match.turned == usual:
                doubts.append(f"a square, which lies as {FORMATS[match.format]}'s do")
            elif shape == shape[::-1]:
                doubts.append(f"a square, which lies as their others do, and not as {FORMATS[match.format]}'s")
            elif ("transposed" in chosen.notes) != usual:
                doubts.append(f"{FORMATS[match.format]}'s lie the other way round")
        notes = [*notes, *chosen.notes, *doubts, *self._meanings(match)]
        for name, array in chosen.arrays.items():
            if name not in into.theirs:
                into.theirs[name], into.names[name] = array, theirs
                into.notes[name] = "; ".join(notes) or "as it is"
            elif np.array_equal(into.theirs[name], array, equal_nan=True):
                into.notes[name] += f"; {shown(theirs)} is the same"
            elif into.names[name] in self.declared and theirs not in self.declared:
                into.notes[name] += f"; {shown(theirs)} is something else, and left out"
            else:
                other = "" if theirs in self.declared else ", or declare the other in the names"
                raise ValueError(
                    f"{shown(into.names[name])} and {shown(theirs)} should both be {name}, and differ. Leave one out"
                    f"{other}"
                )

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
                yield from self.rows.of_rows(name, x, golden, of_targets, in_heads)

    def _chosen(self, candidates: list[Candidate]) -> tuple[Candidate, list[str]]:
        """The candidate that is nearest to the trace, and a note of the others."""
        if len(candidates) == 1:
            return candidates[0], []
        distances = [self._distance(one) for one in candidates]
        best = int(np.argmin(distances))
        chosen, others = candidates[best], [one for i, one in enumerate(candidates) if i != best]
        told = " or ".join(", ".join(one.notes) or "as it is" for one in others)
        if min(distances[:best] + distances[best + 1 :]) == distances[best]:
            return chosen, [f"it fits as well: {told}"]
        if chosen.side and self.rows:
            S, side = chosen.side
            self.rows.decided.setdefault(S, side._replace(name=f"{side.name}, where an earlier tensor had it"))
        return chosen, [f"it fits too, and is further from the trace: {told}"]

    def _distance(self, candidate: Candidate) -> float:
        difference = 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            for name, array in candidate.arrays.items():
                difference += float(np.square(array.astype(np.float64) - self.golden[name]).sum())
        return difference if np.isfinite(difference) else np.inf

    def _types_of(self, name: str, x: Array) -> Array:
        """What Hugging Face adds to position embeddings for the token type, which is in them in the trace."""
        types = np.asarray(self.tensors[self.extra[name]])
        if types.ndim == 2 and not name.endswith("of_positions"):
            types = types[:1].reshape(-1)
        if x.ndim == 0 or types.dtype.kind not in "biuf" or types.shape not in (x.shape, x.shape[-1:]):
            raise ValueError(f"{shown(self.extra[name])} has shape {types.shape}, which doesn't go with {x.shape}")
        return types

    def _meanings(self, match: Match) -> Iterator[str]:
        """What a name of another implementation leaves open."""
        if not match.format:
            return
        step, kind, rest = re.match(r"(step_\d+\.)?(.*?)\.(.*)", match.name).groups("")  # type: ignore[union-attr]
        if kind == "gradients" and (entry := self.entries.get(f"{step}clipped.{rest}")) and any(entry.others.values()):
            yield f"taken for the gradient before clipping; that after it is {step}clipped.{rest}"
        if kind == "parameters" and f"{step}updated.{rest}" in self.golden:
            yield "taken for the parameter before the update"

    def _misfit(self, theirs: str, x: Array, targets: Sequence[str]) -> ValueError:
        shapes = ", ".join(str(self.golden[name].shape) for name in targets[:3])
        batch = f"; its batch has N {self.rows.N}, B {self.rows.B}, M {len(self.rows.target_rows)}" if self.rows else ""
        turned = targets and x.ndim == 2 and x.T.shape == self.golden[targets[0]].shape
        return ValueError(
            f"{shown(theirs)} has shape {x.shape}, and no known layout leads from there to {few(targets)}, "
            f"{shapes} in the trace{batch}. "
            + ("Turn it around" if turned else "Is it of the same model and batch? Else give it in the trace's shape")
        )


def _config(golden: Trace) -> RobertaConfig | None:
    try:
        return RobertaConfig(**golden.settings["config"])
    except (KeyError, TypeError, ValueError):
        return None


def _kind(name: str) -> str:
    """What of a parameter it is; "" for other tensors."""
    return next((kind for kind in OF_PARAMETERS if re.match(rf"(step_\d+\.)?{re.escape(kind)}\.", name)), "")


def _last(name: str) -> str:
    return re.split(r"[./]", name)[-1]
