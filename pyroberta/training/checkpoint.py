"""A state of training as one file, from which training goes on bit for bit.

    params.<parameter>, <slot>.<parameter>, callbacks.<number>      tensors, in the dtype of the parameters
    pyroberta_train_state                                           in the metadata, as JSON: all that is no tensor

A checkpoint is of a run. A preset is of a model, and other libraries read it; see `save_to_preset`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyroberta.formats import safetensors_io
from pyroberta.formats.budget import clipped, shown
from pyroberta.formats.files import as_path, check_file, parse_json
from pyroberta.formats.new_files import NewFile, replace_files
from pyroberta.formats.stored import NUMPY_TYPES, Stored
from pyroberta.model.parameters import Arrays
from pyroberta.ops import REFERENCE
from pyroberta.training.state import TrainState

KEY = "pyroberta_train_state"  # in the file's metadata
VERSION = 1
ARRAY, FLOAT = "__array__", "__float__"  # how JSON has what it lacks: {"__array__": name}, {"__float__": "nan"}
COUNTS = ("seed", "step", "epoch", "epoch_step", "data_pass", "position")


def save(file: str | os.PathLike[str], state: TrainState, notes: Mapping[str, Any] | None = None) -> None:
    """Writes a state to a file. The old file stays until the new one is complete.

    Args:
        file: made or replaced, parents too; `~` is expanded.
        state: as from a model's `train_state`.
        notes: other values of the run: texts, numbers, arrays, and lists and dicts of them.

    Raises:
        TypeError, ValueError: for something in `notes` or in what a callback keeps that is none of these.
        ValueError: where a parameter or a slot is not finite.
        OSError: where there is no room, telling the bytes needed and free.

    >>> import os, tempfile
    >>> from pyroberta import MaskedLM
    >>> model = MaskedLM.from_preset("roberta_tiny_en")
    >>> history = model.fit(["A dog barks.", "A cat sleeps."], verbose=0)
    >>> file = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> save(file, model.train_state(), notes={"texts": 2})
    >>> again = MaskedLM.from_preset("roberta_tiny_en")
    >>> state, notes = load(file)
    >>> again.load_train_state(state)
    >>> again.optimizer.iterations, notes
    (1, {'texts': 2})
    """
    tensors: dict[str, NDArray[Any]] = {}
    for prefix, arrays in (("params", state.params), *state.slots.items()):
        tensors |= {f"{prefix}.{name}": array for name, array in arrays.to(REFERENCE).items()}

    def keep(array: NDArray[Any]) -> str:
        if array.dtype != state.params.dtype:
            raise TypeError(
                f"a callback or the notes have an array of {array.dtype}; a checkpoint keeps arrays of the parameters' "
                f"dtype, {state.params.dtype}. Keep a list of numbers instead"
            )
        name = f"callbacks.{len(tensors)}"
        tensors[name] = array
        return name

    rest = {
        "version": VERSION,
        **{name: getattr(state, name) for name in COUNTS},
        "slots": list(state.slots),
        "metrics": _as_json(state.metrics, keep),
        "learning_rate": _as_json(state.learning_rate, keep),
        "callbacks": _as_json(state.callbacks, keep),
        "notes": _as_json(dict(notes or {}), keep),
    }
    path = as_path(file)
    content: NewFile = safetensors_io.new_file(tensors, state.params.dtype.name, {KEY: json.dumps(rest)})
    replace_files(path.parent, {path.name: content})


def load(file: str | os.PathLike[str]) -> tuple[TrainState, dict[str, Any]]:
    """The state in a file, and its notes.

    Raises:
        FileNotFoundError: where there is no file.
        ValueError: where it is damaged, or no checkpoint.
    """
    path = as_path(file)
    check_file(path)
    tensors, remarks = safetensors_io.read_with_metadata(path)
    if KEY not in remarks:
        raise ValueError(f"{path} is no checkpoint of training: its metadata has no {KEY!r}. See train_state()")
    try:
        rest = parse_json(remarks[KEY].encode(), KEY)
        if rest["version"] != VERSION:
            raise ValueError(f"its version is {shown(rest['version'])}, and this one reads version {VERSION}")
        counts = {name: _count(name, rest[name]) for name in COUNTS}
        groups = {prefix: _group(prefix, tensors) for prefix in ("params", *map(str, rest["slots"]))}
        layout = {name: stored.shape for name, stored in groups["params"].items()}
        dtypes = {stored.dtype for group in groups.values() for stored in group.values()}
        if len(dtypes) != 1 or not dtypes <= {"F32", "F64"}:
            raise ValueError(f"its tensors should be all float32 or all float64, got {shown(sorted(dtypes))}")
        for prefix, group in groups.items():
            if {name: stored.shape for name, stored in group.items()} != layout:
                raise ValueError(f"the tensors of {prefix!r} are not laid out as its parameters")
        vectors = {prefix: Arrays(layout, NUMPY_TYPES[min(dtypes)][1:]) for prefix in groups}
        for prefix, group in groups.items():
            for name, stored in group.items():
                vectors[prefix][name][...] = stored.array()

        def read(name: str) -> NDArray[Any]:
            return np.array(tensors[name].array())

        metrics = {name: (float(a), float(b)) for name, (a, b) in _from_json(rest["metrics"], read).items()}
        learning_rate, callbacks = _from_json(rest["learning_rate"], read), _from_json(rest["callbacks"], read)
        params = vectors.pop("params")
        state = TrainState(params, vectors, **counts, metrics=metrics, learning_rate=learning_rate, callbacks=callbacks)
        return state, dict(_from_json(rest["notes"], read))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is no sound checkpoint: {clipped(str(error) or repr(error))}") from None


def _count(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError(f"its {name} should be a whole number from 0 to 2**64 - 1, got {shown(value)}")
    return value


def _group(prefix: str, tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """The tensors whose names begin with `prefix.`, by the rest of their names."""
    start = len(prefix) + 1
    return {name[start:]: stored for name, stored in tensors.items() if name.startswith(f"{prefix}.")}


def _as_json(value: Any, keep: Callable[[NDArray[Any]], str]) -> Any:
    """The value in JSON's types. `keep` stores an array and returns its name in the file."""
    if value is None or isinstance(value, str | bool | np.bool_):
        return bool(value) if isinstance(value, np.bool_) else value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else {FLOAT: str(float(value))}
    if isinstance(value, np.ndarray):
        return {ARRAY: keep(value)}
    if isinstance(value, list | tuple):
        return [_as_json(one, keep) for one in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        for key in {ARRAY, FLOAT} & set(value):
            raise ValueError(f"{key!r} is a name that checkpoints use themselves: give it another")
        return {key: _as_json(one, keep) for key, one in value.items()}
    raise TypeError(f"a checkpoint keeps texts, numbers, arrays, lists and dicts with names, not {shown(value)}")


def _from_json(value: Any, read: Callable[[str], NDArray[Any]]) -> Any:
    if isinstance(value, list):
        return [_from_json(one, read) for one in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {FLOAT}:
        return float(value[FLOAT])
    if set(value) == {ARRAY}:
        return read(value[ARRAY])
    return {key: _from_json(one, read) for key, one in value.items()}
