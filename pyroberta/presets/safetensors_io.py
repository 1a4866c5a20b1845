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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# How NumPy sees each element type. bfloat16, which NumPy lacks, is the upper half of a float32: see `Stored.array`.
NUMPY_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
    "BOOL": "?",
}  # fmt: skip
FLOATS = ("F64", "F32", "F16", "BF16")
LONGEST_HEADER = 100_000_000  # the format's own limit


@dataclass(frozen=True)
class Stored:
    """A tensor that lies in a file: what the header says, and the mapped bytes.

    Attributes:
        name: as the file has it.
        dtype: the format's name of the element type, such as `"F32"`.
        shape: of the tensor.
        data: its bytes, a view of the mapped file.
        file: where it lies, for messages.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8]
    file: Path

    def array(self) -> NDArray[Any]:
        """The values: a read-only view of the file, or for bfloat16 a float32 array of its own.

        Raises:
            ValueError: for an element type that isn't known here.
        """
        if self.dtype not in NUMPY_TYPES:
            raise ValueError(
                f"{self.file}: tensor {self.name!r} is stored as {self.dtype}, which can't be read here; "
                f"what can be read is {', '.join(NUMPY_TYPES)}"
            )
        values = self.data.view(NUMPY_TYPES[self.dtype]).reshape(self.shape)
        if self.dtype == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values


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


def refuse_non_finite(values: NDArray[Any], what: str, hint: str) -> None:
    """Raises a ValueError that says where the first NaN or infinity of `values` is, if there is one.

    >>> refuse_non_finite(np.array([[0.0, np.nan]]), "tensor 'a'", "Train it again")
    Traceback (most recent call last):
    ValueError: tensor 'a' has 1 value that isn't finite, the first nan at (0, 1). Train it again.
    """
    finite = np.isfinite(values)
    if not finite.all():
        bad = values.size - int(np.count_nonzero(finite))
        first = np.unravel_index(int(np.argmin(finite)), values.shape)
        place = "(" + ", ".join(str(int(i)) for i in first) + ")"
        kind = "value that isn't" if bad == 1 else "values that aren't"
        raise ValueError(f"{what} has {bad} {kind} finite, the first {values[first]} at {place}. {hint}.")
