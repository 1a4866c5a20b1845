"""A state of training as one file, from which training continues with the same bits.

    params.<parameter>, slots.<slot>.<parameter>, arrays.<number>   tensors, in the dtype of the parameters
    pyroberta_train_state                                           in the metadata, as JSON: everything but tensors

A checkpoint belongs to a run. A preset belongs to a model, and other libraries can read it; see `save_to_preset`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyroberta.formats import safetensors_io
from pyroberta.formats.budget import clipped, printable, shown, type_of
from pyroberta.formats.files import as_path, check_file, parse_json
from pyroberta.formats.new_files import NewFile, replace_files
from pyroberta.formats.stored import NUMPY_TYPES, Stored
from pyroberta.model.parameters import Arrays
from pyroberta.presets.optimizer_state import MOST_SLOTS
from pyroberta.training.state import COUNTS, TrainState

KEY = "pyroberta_train_state"  # in the file's metadata
VERSION = 2
ARRAY, FLOAT = "__array__", "__float__"  # how JSON has what it lacks: {"__array__": name}, {"__float__": "nan"}
DEEPEST = 30  # lists and dicts in each other


def save(file: str | os.PathLike[str], state: TrainState, notes: Mapping[str, Any] | None = None) -> None:
    """Writes a state to a file. The old file stays until the new one is complete.

    Args:
        file: the path, which is created or replaced. Its parents are created if needed, and `~` is expanded.
        state: the state that a model's `train_state` returned.
        notes: other values of the run: texts, numbers, arrays, and lists and dicts of them.

    Raises:
        TypeError, ValueError: if `notes` or the state of a callback has a value of another type, or more values than a
            file may hold.
        ValueError: if a parameter or a slot is not finite, or the name of a slot has a dot.
        OSError: if the disk is full. The message has the bytes needed and the bytes free.

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
    if not isinstance(state, TrainState):
        raise TypeError(f"state should be a TrainState, as model.train_state() returns it; got {type_of(state)}")
    state.check()
    _slot_names(list(state.slots))
    tensors: dict[str, NDArray[Any]] = {}
    for prefix, arrays in [("params", state.params), *((f"slots.{name}", slot) for name, slot in state.slots.items())]:
        tensors |= {f"{prefix}.{name}": arrays.ops.to_host(array) for name, array in arrays.items()}

    def keep(array: NDArray[Any]) -> str:
        if array.dtype != state.params.dtype:
            raise TypeError(
                f"a callback or the notes have an array of {array.dtype}; a checkpoint keeps arrays of the parameters' "
                f"dtype, {state.params.dtype}. Keep a list of numbers instead"
            )
        name = f"arrays.{len(tensors)}"
        tensors[name] = array
        return name

    rest = {
        "version": VERSION,
        **{name: int(getattr(state, name)) for name in COUNTS},
        "slots": list(state.slots),
        "stop_training": bool(state.stop_training),
        "optimizer": str(state.optimizer),
        "feed": _as_json(state.feed, keep),
        "metrics": _as_json(state.metrics, keep),
        "learning_rate": _as_json(state.learning_rate, keep),
        "callbacks": _as_json(state.callbacks, keep),
        "notes": _as_json(dict(notes or {}), keep),
    }
    path, text = as_path(file), json.dumps(rest)
    try:  # what can't be read again is not written
        parse_json(text.encode(), "the state")
        content: NewFile = safetensors_io.new_file(tensors, state.params.dtype.name, {KEY: text})
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this can't be kept in a checkpoint: {clipped(str(error))}") from None
    replace_files(path.parent, {path.name: content})


def load(file: str | os.PathLike[str]) -> tuple[TrainState, dict[str, Any]]:
    """Returns the state in a file, and its notes.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is damaged, or not a checkpoint.
    """
    path = as_path(file)
    check_file(path)
    tensors, remarks = safetensors_io.read_with_metadata(path)
    if KEY not in remarks:
        raise ValueError(f"{path} is not a checkpoint of training: its metadata has no {KEY!r}. See train_state()")
    try:
        rest = parse_json(remarks[KEY].encode(), KEY)
        if type(rest["version"]) is not int or rest["version"] != VERSION:
            raise ValueError(f"its version is {shown(rest['version'])}, but only version {VERSION} can be read")
        counts = {name: _count(name, rest[name], bits) for name, bits in COUNTS.items()}
        names = _slot_names(rest["slots"])
        groups = _groups(tensors, names)
        arrays = groups.pop("arrays")
        params, *slots = _vectors(groups)

        def read(name: str) -> NDArray[Any]:
            return np.array(
                arrays.pop(str(name).removeprefix("arrays.")).array()
            )  # each once: the file bounds them all

        metrics = {name: (float(a), float(b)) for name, (a, b) in _from_json(rest["metrics"], read).items()}
        learning_rate, callbacks = _from_json(rest["learning_rate"], read), _from_json(rest["callbacks"], read)
        notes = dict(_from_json(rest["notes"], read))
        if arrays:
            raise ValueError(f"nothing refers to its array {shown(next(iter(arrays)))}")
        feed = rest["feed"]
        if not isinstance(learning_rate, int | float | dict | None) or not isinstance(callbacks, dict):
            raise ValueError("its learning rate or its callbacks have another type")
        if not isinstance(rest["optimizer"], str) or not isinstance(feed, dict):
            raise ValueError("the name of its optimizer or its feed has another type")
        state = TrainState(
            params,
            dict(zip(names, slots, strict=True)),
            metrics=metrics,
            learning_rate=learning_rate,
            callbacks=callbacks,
            stop_training=rest["stop_training"],
            optimizer=rest["optimizer"],
            feed=feed,
        )
        for name, number in counts.items():
            setattr(state, name, number)
        state.check()
        return state, notes
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is not a valid checkpoint: {clipped(str(error) or repr(error))}") from None


def of_other_backend(notes: Mapping[str, Any], model: Any) -> str:
    """Returns a message if the checkpoint was made with another backend than that of the model, else an empty text."""
    was, now = notes.get("backend"), model.backbone.ops.name
    if was in (None, now):
        return ""
    return (
        f"the checkpoint was made with the backend {printable(str(was))}, but training continues with {now}: the last "
        "bits of its numbers may differ"
    )


def _count(name: str, value: Any, bits: int) -> int:
    if type(value) is not int or not 0 <= value < 1 << bits:
        raise ValueError(f"its {name} should be a whole number from 0 to 2**{bits} - 1, got {shown(value)}")
    return value


def _slot_names(names: Any) -> list[str]:
    if (
        not isinstance(names, list)
        or len(names) > MOST_SLOTS
        or len(set(map(str, names))) != len(names)
        or not all(isinstance(name, str) and name and "." not in name for name in names)
    ):
        raise ValueError(f"its slots should be a list of up to {MOST_SLOTS} different names, got {shown(names)}")
    return names


def _groups(tensors: Mapping[str, Stored], slots: Sequence[str]) -> dict[str, dict[str, Stored]]:
    """The tensors of the parameters, of each slot and of `arrays`, by the rest of their names.

    Raises:
        ValueError: for a tensor that is none of these.
    """
    groups: dict[str, dict[str, Stored]] = {
        prefix: {} for prefix in ("params", *(f"slots.{s}" for s in slots), "arrays")
    }
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        if first == "slots":
            slot, _, rest = rest.partition(".")
            first = f"slots.{slot}"
        if first not in groups or not rest:
            raise ValueError(f"it has a tensor that is not part of a state, {shown(name)}")
        groups[first][rest] = tensor
    return groups


def _vectors(groups: Mapping[str, Mapping[str, Stored]]) -> list[Arrays]:
    """The parameters and the slots, each as one vector.

    Raises:
        ValueError: if they differ in layout or dtype, or a number isn't finite.
    """
    layout = {name: tensor.shape for name, tensor in groups["params"].items()}
    dtypes = {tensor.dtype for group in groups.values() for tensor in group.values()}
    if len(dtypes) != 1 or not dtypes <= {"F32", "F64"}:
        raise ValueError(f"its tensors should be all float32 or all float64, got {shown(sorted(dtypes))}")
    for prefix, group in groups.items():
        if {name: tensor.shape for name, tensor in group.items()} != layout:
            raise ValueError(f"the tensors of {prefix!r} do not have the layout of its parameters")
    vectors = []
    for prefix, group in groups.items():
        vectors.append(Arrays(layout, NUMPY_TYPES[min(dtypes)][1:]))
        for name, tensor in group.items():
            vectors[-1][name][...] = tensor.array()
            if not np.isfinite(vectors[-1][name]).all():
                raise ValueError(f"{prefix}.{name} has a number that is not finite")
    return vectors


def _as_json(value: Any, keep: Callable[[NDArray[Any]], str], depth: int = 0) -> Any:
    """The value in JSON's types. `keep` stores an array and returns its name in the file."""
    if depth > DEEPEST:
        raise ValueError(
            f"a checkpoint keeps lists and dicts nested up to {DEEPEST} deep, and none that contains itself"
        )
    if value is None or isinstance(value, str | bool | np.bool_):
        return bool(value) if isinstance(value, np.bool_) else value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else {FLOAT: str(float(value))}
    if isinstance(value, np.ndarray):
        return {ARRAY: keep(value)}
    if isinstance(value, list | tuple):
        return [_as_json(one, keep, depth + 1) for one in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        for key in {ARRAY, FLOAT} & set(value):
            raise ValueError(f"{key!r} is a name that checkpoints use themselves: use another name")
        return {key: _as_json(one, keep, depth + 1) for key, one in value.items()}
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
