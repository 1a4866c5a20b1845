"""What training needs to go on as if it had not been interrupted, and the file that keeps it beside HF's weights.

    pyroberta_optimizer.safetensors     <slot>.<parameter>, Adam's m and v, in the dtype that they were trained in;
                                        in the metadata, as JSON: the optimizer's config, and the numbers of `COUNTS`

`iterations` decides the schedule's rate, the correction of Adam's means and the dropout keys; `data_pass` the order of
the examples and the tokens that are masked, both together with the seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pyroberta.formats import safetensors_io, stored
from pyroberta.formats.budget import clipped
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
    """An optimizer and the seed of the model that it trains.

    Attributes:
        optimizer: its config, as its `get_saved_config` gives it.
        iterations: the updates done.
        slots: by name, parameter -> what the optimizer keeps of it.
        seed: of the model.
        data_pass, position: the pass over the examples that is under way, and how many of it were drawn.
    """

    optimizer: Mapping[str, Any]
    iterations: int
    slots: Mapping[str, Mapping[str, NDArray[Any]]]
    seed: int
    data_pass: int = 0
    position: int = 0


def new_file(state: OptimizerState) -> NewFile:
    """The file to write as `FILE`.

    Raises:
        ValueError: when it is written, where a number in a slot isn't finite.
    """
    tensors = {f"{slot}.{name}": array for slot, arrays in state.slots.items() for name, array in arrays.items()}
    rest = {"optimizer": state.optimizer, "slots": list(state.slots), **{name: getattr(state, name) for name in COUNTS}}
    dtype = next(iter(tensors.values())).dtype.name
    return safetensors_io.new_file(tensors, dtype, {KEY: json.dumps(rest, allow_nan=False)})


def read(directory: Directory, layout: Mapping[str, Shape]) -> OptimizerState:
    """The state in `directory`; each array is read when it is asked for.

    Args:
        directory: that has `FILE`.
        layout: names and shapes of the parameters.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: where the file is damaged, or is another model's.
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
            f"{file} doesn't tell which optimizer it is of ({KEY!r} of its metadata: {clipped(repr(error))})"
        ) from None
    stored.refuse_differences(
        directory, tensors, {f"{slot}.{name}": shape for slot in names for name, shape in layout.items()}
    )
    slots = {slot: stored.ReadWhenAsked({name: tensors[f"{slot}.{name}"].array for name in layout}) for slot in names}
    return checked(file, optimizer, slots, counts)


def checked(file: Path, optimizer: Any, slots: Any, counts: Mapping[str, Any]) -> OptimizerState:
    """The state of values that were read from `file`; of `counts`, what is missing is 0 and the rest is not looked at.

    Raises:
        ValueError: for what isn't an optimizer's config, or a whole number in the range that it may have.
    """
    if not isinstance(optimizer, dict):
        raise ValueError(f"{file}: the optimizer's config should be an object, it is a {type(optimizer).__name__}")
    numbers = {name: counts.get(name, 0) for name in COUNTS}
    for name, bits in COUNTS.items():
        value = numbers[name]
        if type(value) is not int or not 0 <= value < 1 << bits:
            raise ValueError(
                f"{file}: {name} should be a whole number of at least 0, and below 2**{bits}, got {shown(value)}"
            )
    return OptimizerState(optimizer, slots=slots, **numbers)


def missing(directory: Directory, location: str) -> FileNotFoundError:
    """The error for a directory without a state; `location` is where the format keeps it."""
    return FileNotFoundError(
        f"{directory} has no optimizer's state ({location}): save it with save_to_preset(..., include_optimizer=True), "
        "or load the model without load_optimizer=True, and the optimizer starts anew"
    )
