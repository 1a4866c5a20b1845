"""The optimizer's state that training needs to continue as if it had not been interrupted, and the file that keeps it
beside HF's weights.

    pyroberta_optimizer.safetensors     <slot>.<parameter>, Adam's m and v, in the dtype that they were trained in;
                                        in the metadata, as JSON: the optimizer's config, and the numbers of `COUNTS`

`iterations` and the seed decide the rate of the schedule, the correction of Adam's means and the dropout keys.
`data_pass` and the seed decide the order of the examples and the tokens that are masked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pyroberta.formats import safetensors_io, stored
from pyroberta.formats.budget import clipped, type_of
from pyroberta.formats.directory import Directory
from pyroberta.formats.files import exists, parse_json, shown
from pyroberta.formats.new_files import NewFile
from pyroberta.model.parameters import Shape

FILE = "pyroberta_optimizer.safetensors"
KEY = "training"  # in the file's metadata
MOST_SLOTS = 8  # of an optimizer
# How many bits each number has at most. `iterations` and `data_pass` are part of a key, see `ops.dropout`.
COUNTS = {"iterations": 44, "seed": 64, "data_pass": 60, "position": 60}


@dataclass(frozen=True)
class OptimizerState:
    """An optimizer's state, and the seed of the model that it trains.

    Attributes:
        optimizer: the optimizer's config, as its `get_saved_config` returns it.
        iterations: the number of updates so far.
        slots: for each slot name, a mapping of parameter -> the array that the optimizer keeps for it.
        seed: the seed of the model.
        data_pass, position: the number of the current pass over the examples, and the number of its examples that were
            drawn so far.
    """

    optimizer: Mapping[str, Any]
    iterations: int
    slots: Mapping[str, Mapping[str, NDArray[Any]]]
    seed: int
    data_pass: int = 0
    position: int = 0


def new_file(state: OptimizerState) -> NewFile:
    """Returns the file to write as `FILE`.

    Raises:
        ValueError: when the file is written, if a number in a slot is not finite.
    """
    tensors = {f"{slot}.{name}": array for slot, arrays in state.slots.items() for name, array in arrays.items()}
    rest = {"optimizer": state.optimizer, "slots": list(state.slots), **{name: getattr(state, name) for name in COUNTS}}
    dtype = next(iter(tensors.values())).dtype.name
    return safetensors_io.new_file(tensors, dtype, {KEY: json.dumps(rest, allow_nan=False)})


def read(directory: Directory, layout: Mapping[str, Shape]) -> OptimizerState:
    """Returns the state in `directory`. Each array is read when it is needed.

    Args:
        directory: the directory of `FILE`.
        layout: names and shapes of the parameters.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the file is damaged, or belongs to another model.
    """
    file = directory / FILE
    if not exists(file):
        raise missing(directory, FILE)
    tensors, remarks = safetensors_io.read_with_metadata(file)
    try:
        rest = parse_json(remarks[KEY].encode(), KEY)
        optimizer, counts = rest["optimizer"], {"iterations": rest["iterations"], **rest}
        names = rest.get("slots", ["m", "v"])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > MOST_SLOTS:
            raise ValueError(f"slots should be a list of up to {MOST_SLOTS} names, got {shown(names)}")
    except (KeyError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{file} does not name its optimizer ({KEY!r} of its metadata: {clipped(repr(error))})"
        ) from None
    stored.refuse_differences(
        directory, tensors, {f"{slot}.{name}": shape for slot in names for name, shape in layout.items()}
    )
    slots = {slot: stored.ReadWhenAsked({name: tensors[f"{slot}.{name}"].array for name in layout}) for slot in names}
    return checked(file, optimizer, slots, counts)


def checked(file: Path, optimizer: Any, slots: Any, counts: Mapping[str, Any]) -> OptimizerState:
    """Returns the optimizer's state of the values that were read from `file`.

    A number of `COUNTS` that is missing from `counts` is 0. Other entries of `counts` are ignored.

    Raises:
        ValueError: if `optimizer` is not a dict, or a number of `COUNTS` is not a whole number in its range.
    """
    if not isinstance(optimizer, dict):
        raise ValueError(f"{file}: the optimizer's config should be an object, it is {type_of(optimizer)}")
    numbers = {name: counts.get(name, 0) for name in COUNTS}
    for name, bits in COUNTS.items():
        value = numbers[name]
        if type(value) is not int or not 0 <= value < 1 << bits:
            raise ValueError(
                f"{file}: {name} should be a whole number of at least 0, and below 2**{bits}, got {shown(value)}"
            )
    return OptimizerState(optimizer, slots=slots, **numbers)


def missing(directory: Directory, location: str) -> FileNotFoundError:
    """Returns the error for a directory without an optimizer's state. `location` is the place of the state in the
    format.
    """
    return FileNotFoundError(
        f"{directory} has no optimizer's state ({location}): save it with save_to_preset(..., include_optimizer=True), "
        "or load the model without load_optimizer=True, and the optimizer starts without a state"
    )
