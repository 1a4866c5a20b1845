"""The directory of a suite: how it is written and read.

    README.md             the format, for readers without Python
    suite.json            the cases: settings, the names of their tensors, formulas
    tensors.safetensors   CASE/inputs/NAME, CASE/expected/NAME and CASE/bounds/NAME
    tokenizer/            the vocabulary and the merges for the cases with texts

Inputs are float32, so that arithmetic in float32 starts with the same numbers. Expected values and bounds are float64.
A value without bounds must be equal.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.formats.atomic import replacing_directory
from pyroberta.formats.budget import clipped, shown
from pyroberta.formats.directory import Kind
from pyroberta.formats.files import as_path, check_file, parse_json, read_bytes
from pyroberta.formats.safetensors_io import Appended, read_with_metadata
from pyroberta.oracle.conformance.case import Case
from pyroberta.text.tokenizer import Tokenizer

FORMAT, VERSION = "pyroberta_conformance", 1
PRECISIONS = ("float32", "float64")
CASES, TENSORS, TOKENIZER, README = "suite.json", "tensors.safetensors", "tokenizer", "README.md"
VOCABULARY = (f"{TOKENIZER}/vocab.json", f"{TOKENIZER}/merges.txt")
MOST_BYTES = 64_000_000  # the largest file of tensors that is read; a suite of this package has a few MB
MOST = 1_000_000  # the largest number in a case's settings, and the largest product of a shape
OWNED = (r"README\.md", r"suite\.json", r"tensors\.safetensors", r"tokenizer/.*")  # what a new suite replaces
KIND = Kind("conformance suite", CASES, lambda values: values.get("format") == FORMAT)


@dataclass(frozen=True)
class Suite:
    """All cases, and the tokenizer of those that have texts.

    Attributes:
        cases: case's name -> case.
        tokenizer: the tokenizer.
        seed: the seed of the inputs.
        precision: the precision of the arithmetic that the bounds allow.
    """

    cases: Mapping[str, Case]
    tokenizer: Tokenizer
    seed: int = 0
    precision: str = "float32"

    @cached_property
    def values(self) -> dict[str, tuple[Case, str]]:
        """CASE/VALUE, the name of each expected value -> the case and the value's own name."""
        return {f"{case.name}/{value}": (case, value) for case in self.cases.values() for value in case.expected}


# --- writing ----------------------------------------------------------------------------------------------------------


def write(suite: Suite, path: str | os.PathLike[str]) -> None:
    """Writes a suite to a directory, completely or not at all. The bytes depend only on the suite.

    Args:
        suite: the return value of `kinds.make`.
        path: the directory. It is created, or replaced if it is a suite. Other files in it stay.

    Raises:
        FileExistsError: if the directory is something else.
        OSError: if it can't be written.
    """
    tensors = dict(_named(suite))
    entries = [_entry(case) for case in suite.cases.values()]
    with replacing_directory(as_path(path), KIND, OWNED) as new:
        with Appended(new / TENSORS) as appended:
            appended.metadata = {"format": FORMAT}
            for name in sorted(tensors, key=lambda name: -tensors[name].itemsize):  # so that all lie aligned
                appended.add(name, tensors[name])
        for name, file in suite.tokenizer.new_files().items():
            (new / TOKENIZER).mkdir(exist_ok=True)
            file.write(new / TOKENIZER / name)
        digests = {name: _digest((new / name).read_bytes()) for name in (TENSORS, *VOCABULARY)}
        head = {"format": FORMAT, "version": VERSION, "seed": suite.seed, "precision": suite.precision}
        lines = ",\n".join(map(_line, entries))
        begin = json.dumps({**head, "sha256": digests}, ensure_ascii=False)[:-1]
        (new / CASES).write_text(f'{begin}, "cases": [\n{lines}\n]}}\n', "utf-8")
        (new / README).write_text(readme(), "utf-8")


def readme() -> str:
    """Returns the page on the format, which each suite contains."""
    return resources.files("pyroberta.oracle.conformance").joinpath("suite_readme.md").read_text("utf-8")


def _named(suite: Suite) -> Iterator[tuple[str, Array]]:
    for case in suite.cases.values():
        for role in ("inputs", "expected", "bounds"):
            for name, value in getattr(case, role).items():
                yield f"{case.name}/{role}/{name}", np.asarray(value)


def _line(entry: Mapping[str, Any]) -> str:
    """The entry as JSON, on what every reader takes for one line."""
    line = json.dumps(entry, ensure_ascii=False)
    for character in "\x7f\x85\u2028\u2029\ufeff":
        line = line.replace(character, f"\\u{ord(character):04x}")
    return line


def _entry(case: Case) -> dict[str, Any]:
    """What suite.json has of a case, on a line of its own."""
    given = [name for name in case.expected if name not in case.inside]
    found = {
        "name": case.name, "note": case.note, "page": case.page, "settings": dict(case.settings),
        "inputs": list(case.inputs), "expected": given, "inside": list(case.inside), "formulas": dict(case.formulas),
    }  # fmt: skip
    return {key: value for key, value in found.items() if value or key in ("inputs", "expected", "settings")}


# --- reading ----------------------------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str]) -> Suite:
    """Returns the suite in a directory.

    Raises:
        FileNotFoundError: if the directory or one of its files is missing.
        ValueError: if it is damaged or not a suite. It is an `OverBudget` if it would need more memory than a reader
            may use.
    """
    directory = as_path(path)
    if not directory.is_dir():
        raise FileNotFoundError(
            f"{path} is not a directory, and should be that of a suite. `pyroberta conformance make {path}` makes one"
        )
    file = directory / CASES
    values = parse_json(read_bytes(file), str(file))
    if values.get("format") != FORMAT:
        raise ValueError(
            f"{file} is not from a conformance suite: its format should be {FORMAT!r}, got "
            f"{shown(values.get('format'))}"
        )
    if values.get("version") != VERSION:
        raise ValueError(f"{file} has version {shown(values.get('version'))}, and this package reads version {VERSION}")
    tensors = _tensors(directory, values)
    try:
        cases = [_case(entry, tensors) for entry in values["cases"]]
        seed, precision = int(values["seed"]), values["precision"]
        if precision not in PRECISIONS:
            raise ValueError(f"its precision should be one of {', '.join(PRECISIONS)}, got {shown(precision)}")
        counts = Counter(case.name for case in cases)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{file} is not a valid suite: {clipped(str(error) or repr(error))}") from None
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ValueError(f"{file} has the case {shown(twice[0])} twice")
    tokenizer = Tokenizer.load(directory / TOKENIZER)
    return Suite({case.name: case for case in cases}, tokenizer, seed, precision)


def _tensors(directory: Path, values: Mapping[str, Any]) -> Mapping[str, Array]:
    said = values.get("sha256")
    for name in (TENSORS, *VOCABULARY):
        file = directory / name
        check_file(file)
        found = _digest(read_bytes(file, MOST_BYTES))
        if not isinstance(said, dict) or said.get(name) != found:
            raise ValueError(
                f"{file} is not the file that {CASES} was written with: its SHA-256 is {found[:16]}…, and {CASES} says "
                f"{shown(said)}. Make or download the suite again"
            )
    return {name: tensor.array() for name, tensor in read_with_metadata(directory / TENSORS)[0].items()}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _case(entry: Mapping[str, Any], tensors: Mapping[str, Array]) -> Case:
    name = entry["name"]
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9_]+(/[a-z0-9_]+){2}", name):
        raise ValueError(f"a case's name should be kind/subject/variant, got {shown(name)}")

    def named(role: str, of: Sequence[str]) -> dict[str, Array]:
        missing = [value for value in of if f"{name}/{role}/{value}" not in tensors]
        if missing:
            raise ValueError(f"{TENSORS} lacks {name}/{role}/{missing[0]}")
        return {value: tensors[f"{name}/{role}/{value}"] for value in of}

    inside = list(entry.get("inside", []))
    given = named("expected", [*entry["expected"], *inside])
    limits = named("bounds", [value for value in given if f"{name}/bounds/{value}" in tensors])
    for value, limit in limits.items():
        is_sound = limit.dtype == np.float64 and bool((np.isfinite(limit) & (limit >= 0.0)).all())
        if limit.shape != given[value].shape or not is_sound:
            raise ValueError(
                f"{name}/bounds/{value} should be finite float64 from 0 up, of the shape {given[value].shape}"
            )
    for key, setting in _numbers(entry["settings"]):
        if not abs(setting) <= MOST and key != "stream":
            raise ValueError(f"the setting {key} of {name} should be at most {MOST:,}, got {shown(setting)}")
    return Case(
        name=name,
        note=str(entry.get("note", "")),
        page=str(entry.get("page", "")),
        settings=dict(entry["settings"]),
        formulas=dict(entry.get("formulas", {})),
        inputs=named("inputs", entry["inputs"]),
        expected=given,
        bounds=limits,
        inside=inside,
    )


def _numbers(settings: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """The numbers among settings by what they are called, and of a shape their product."""
    if isinstance(settings, dict):
        for of, value in settings.items():
            yield from _numbers(value, of)
    elif isinstance(settings, list):
        numbers = [number for value in settings for _, number in _numbers(value, key)]
        yield from ((key, number) for number in [*numbers, math.prod(numbers) if key == "shape" else 0.0])
    elif isinstance(settings, int | float):
        yield key, settings
