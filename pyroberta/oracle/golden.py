"""The format of a trace: tensors by name, in the order of the computation, and an entry about each.

    name.safetensors    the tensors. The metadata has JSON under `pyroberta_trace`: the version of the format, the
                        settings of the run, and for each tensor its op, place, value, formula, page and inputs. `names`
                        are its names in the implementations of Hugging Face, Keras and fairseq, if it has any

Any reader of safetensors can read the file. docs/oracle.md describes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

import numpy as np
from numpy import ndarray as Array

from pyroberta.formats.budget import clipped, shown
from pyroberta.formats.files import as_path, check_file, parse_json
from pyroberta.formats.numpy_io import MOST_ENTRIES
from pyroberta.formats.safetensors_io import Appended, read_with_metadata
from pyroberta.model.config import RobertaConfig
from pyroberta.oracle.names import names_of
from pyroberta.oracle.plain import PLAIN

KEY, VERSION = "pyroberta_trace", 1
OPS = (*PLAIN, "add", "sum", "share", "clip_scale", "clip", "update", "argmax", "")  # "": no op computes the tensor


@dataclass(frozen=True)
class Entry:
    """The description of a tensor.

    Attributes:
        op: the op that computes it, or "" if no op does, as for inputs of the update and the learning rate.
        place: its place in the model.
        value: the op's value that it is. A gradient has the name of the value or argument that it is the gradient of.
        formula: the formula of the value, or its meaning in words.
        page: the page of the documentation, relative to docs/, with the heading after #.
        inputs: argument of the op -> the name of the tensor that was passed, if it has one.
        others: argument of the op -> its value, if that is a number.
        step: the number of the update, from 0.
    """

    op: str = ""
    place: str = ""
    value: str = ""
    formula: str = ""
    page: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)
    step: int = 0


class Sink(Protocol):
    """An object that takes the tensors of a trace in the order of the computation."""

    settings: dict[str, Any]

    def add(self, name: str, array: Any, entry: Entry) -> None:
        """Takes a tensor. The array may change after the call."""

    def __getitem__(self, name: str) -> Array:
        """Returns a tensor as it was when it was taken."""


class Trace(Mapping[str, Array]):
    """A trace in memory: a mapping from names to read-only arrays.

    Attributes:
        entries: the description of each tensor.
        settings: the config, dtype, precision, loss, optimizer and so on.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.settings: dict[str, Any] = {}
        self._arrays: dict[str, Any] = {}  # an array, or what reads it

    def add(self, name: str, array: Any, entry: Entry) -> None:
        """Adds a copy of an array."""
        kept = np.array(array)
        kept.flags.writeable = False
        self._arrays[name], self.entries[name] = kept, entry

    def __getitem__(self, name: str) -> Array:
        kept = self._arrays[name]
        return kept if isinstance(kept, np.ndarray) else kept()

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Writes the file that `read_trace` reads.

        Raises:
            OSError: if the file can't be written.
        """
        with TraceFile(file) as sink:
            sink.settings = self.settings
            for name in self:
                sink.add(name, self[name], self.entries[name])


class TraceFile:
    """A trace that is written to a file during the computation, so that it needs no memory. Use it in a `with` block.

    Args:
        file: the file, which is created or replaced at the end of the block. `~` is expanded.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self.settings: dict[str, Any] = {}
        self._tensors = Appended(as_path(file))
        self._entries: dict[str, Any] = {}

    @property
    def count(self) -> int:
        """The number of tensors written so far."""
        return len(self._entries)

    def __enter__(self) -> TraceFile:
        self._tensors.__enter__()
        return self

    def add(self, name: str, array: Any, entry: Entry) -> None:
        """Writes a tensor."""
        self._tensors.add(name, np.asarray(array))
        self._entries[name] = {key: value for key, value in asdict(entry).items() if value}

    def __getitem__(self, name: str) -> Array:
        """Returns a tensor that was written before. It is read from the file."""
        return self._tensors.array(name)

    def __exit__(self, *error: Any) -> None:
        config = self.settings.get("config")
        head = RobertaConfig(**config).head if config else "masked_lm"
        for name, entry in self._entries.items():
            if names := names_of(name, head):
                entry["names"] = names
        rest = {"version": VERSION, "settings": self.settings, "tensors": self._entries}
        self._tensors.metadata = {KEY: json.dumps(rest)}
        self._tensors.__exit__(*error)


def read_trace(file: str | os.PathLike[str]) -> Trace:
    """Returns the trace in a file. A tensor is read when it is accessed.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, is not a trace, or has a trace that is inconsistent.

    >>> import tempfile
    >>> trace = Trace()
    >>> trace.add("loss.output", np.ones(2), Entry("cross_entropy", "loss", "output"))
    >>> file = os.path.join(tempfile.mkdtemp(), "golden.safetensors")
    >>> trace.save(file)
    >>> read_trace(file)["loss.output"], read_trace(file).entries["loss.output"].op
    (array([1., 1.]), 'cross_entropy')
    """
    path = as_path(file)
    check_file(path)
    tensors, remarks = read_with_metadata(path, MOST_ENTRIES)
    if KEY not in remarks:
        raise ValueError(f"{path} is not a trace: its metadata has no {KEY!r}. `pyroberta trace` writes a trace")
    try:
        rest = parse_json(remarks[KEY].encode(), KEY)
        if rest["version"] != VERSION:
            raise ValueError(f"its version is {shown(rest['version'])}, and this package reads version {VERSION}")
        trace, known = Trace(), {one.name for one in fields(Entry)}
        trace.settings = dict(rest["settings"])
        for name, entry in rest["tensors"].items():
            read = Entry(**{key: value for key, value in entry.items() if key in known})
            _check(name, read, trace.entries)
            trace._arrays[name], trace.entries[name] = tensors[name].array, read
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a valid trace: {clipped(str(error) or repr(error))}. Trace the model again"
        ) from None
    return trace


def config_of(golden: Trace) -> RobertaConfig:
    """Returns the config of the traced model."""
    return RobertaConfig(**golden.settings["config"])


def _check(name: str, entry: Entry, before: Mapping[str, Entry]) -> None:
    """Raises ValueError if `compare` could not use an entry."""
    texts = {of: getattr(entry, of) for of in ("op", "place", "value", "formula", "page")}
    wrong = next((of for of, text in texts.items() if not isinstance(text, str)), None)
    if wrong:
        raise ValueError(f"the {wrong} of {shown(name)} should be a text, got {shown(texts[wrong])}")
    if entry.op not in OPS:
        raise ValueError(
            f"the op of {shown(name)} is {shown(entry.op)}; it should be one of {', '.join(filter(None, OPS))} or empty"
        )
    if not isinstance(entry.inputs, dict) or not isinstance(entry.others, dict):
        raise ValueError(f"inputs and others of {shown(name)} should be JSON objects")
    wrong = next((of for of, value in entry.others.items() if not _is_number(value)), None)
    if wrong is not None:
        raise ValueError(f"{shown(wrong)} of {shown(name)} should be a number, got {shown(entry.others[wrong])}")
    if isinstance(entry.step, bool) or not isinstance(entry.step, int) or entry.step < 0:
        raise ValueError(f"the step of {shown(name)} should be a whole number from 0, got {shown(entry.step)}")
    absent = next((one for one in entry.inputs.values() if not isinstance(one, str) or one not in before), None)
    if absent is not None:
        raise ValueError(f"{shown(name)} has the input {shown(absent)}, which is not an earlier tensor of the trace")


def _is_number(value: Any) -> bool:
    """Whether it is a number, None, or a list of numbers, as keys of dropout are."""
    parts = value if isinstance(value, list | tuple) else [value]
    return all(part is None or isinstance(part, int | float) for part in parts)
