"""The safetensors format: a JSON header, then the tensors' bytes, nothing that runs.

    8 bytes   n, the header's length, little-endian
    n bytes   JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [start, stop]}, ..., "__metadata__": {}}
    the rest  the data, to which the offsets refer, without holes

The `safetensors` package writes. It does not read here: its NumPy side knows no bfloat16, and copies each tensor once
more, where here a tensor is a view of the mapped file until it is cast into its place.

Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyroberta.presets.stored import NUMPY_TYPES, Stored, refuse_non_finite

LONGEST_HEADER = 100_000_000  # the format's own limit


def read(file: Path) -> dict[str, Stored]:
    """Every tensor of a file, unread: the bytes are mapped, and come from the disk when looked at.

    Raises:
        ValueError: where the file is cut short, or its header isn't one.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> write(file, {"a": np.ones((2, 3), np.float32)})
    >>> float(read(file)["a"].array().sum())
    6.0
    """
    size = file.stat().st_size
    if size < 8:
        raise ValueError(f"{file} is no safetensors file: it has {size} bytes, and the header's length alone takes 8")
    mapped = np.memmap(file, np.uint8, mode="r")
    length = int.from_bytes(mapped[:8].tobytes(), "little")
    if length > min(size - 8, LONGEST_HEADER):
        raise ValueError(
            f"{file} is cut short or no safetensors file: it begins with a header length of {length} bytes, "
            f"and {size - 8} follow"
        )
    try:
        header = json.loads(mapped[8 : 8 + length].tobytes().decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no safetensors file: its header isn't JSON ({error})") from None
    if not isinstance(header, dict):
        raise ValueError(f"{file} is no safetensors file: its header is a {type(header).__name__}, not an object")
    header.pop("__metadata__", None)
    data = np.asarray(mapped)[8 + length :]
    tensors = {name: _stored(file, name, entry, data) for name, entry in header.items()}
    needed = sum(tensor.data.size for tensor in tensors.values())
    if needed != data.size:
        raise ValueError(f"{file}: its tensors take {needed} bytes, but {data.size} follow the header")
    return tensors


def _stored(file: Path, name: str, entry: Any, data: NDArray[np.uint8]) -> Stored:
    try:
        dtype, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        sound = isinstance(dtype, str) and all(type(n) is int and n >= 0 for n in (*shape, start, stop))
    except (KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        raise ValueError(
            f"{file}: the header's entry for {name!r} should have dtype, shape and data_offsets, got {entry}"
        )
    if not start <= stop <= data.size:
        raise ValueError(
            f"{file} is cut short: tensor {name!r} should lie at bytes {start} to {stop} of the data, "
            f"which has {data.size}"
        )
    if dtype in NUMPY_TYPES and stop - start != math.prod(shape) * np.dtype(NUMPY_TYPES[dtype]).itemsize:
        raise ValueError(f"{file}: tensor {name!r} of {dtype} {shape} can't take {stop - start} bytes")
    return Stored(name, dtype, shape, data[start:stop], file)


def write(file: Path, tensors: Mapping[str, NDArray[Any]], dtype: DTypeLike = np.float32) -> None:
    """Writes `tensors`, cast to `dtype`.

    Args:
        file: made or overwritten. Not atomic by itself, see `atomic.replacing_directory`.
        tensors: names and values of any shape, contiguous or not.
        dtype: float16, float32 or float64.

    Raises:
        ValueError: for another dtype, and where a value isn't finite (in `dtype`), naming tensor and place; nothing is
            written then.
    """
    from safetensors.numpy import save_file

    if np.dtype(dtype) not in (np.float16, np.float32, np.float64):
        raise ValueError(f"dtype must be float16, float32 or float64, got {np.dtype(dtype)}")
    with np.errstate(over="ignore"):
        cast = {name: np.asarray(tensor, dtype, order="C") for name, tensor in tensors.items()}
    for name, tensor in cast.items():
        refuse_non_finite(tensor, f"parameter {name!r} as {np.dtype(dtype)}", "It was not saved")
    save_file(cast, file, metadata={"format": "pt"})  # transformers refuses a file that doesn't say so
