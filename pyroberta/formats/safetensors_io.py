"""The safetensors format: a JSON header, then the bytes of the tensors. Nothing in it can run.

    8 bytes   n, the header's length, little-endian n bytes   JSON: {"name": {"dtype": "F32", "shape": [2, 3],
    "data_offsets": [start, stop]}, ..., "__metadata__": {}} the rest  the data, without holes; the offsets count from
    its start

The `safetensors` package is not used; docs/design.md has the reasons.

Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyroberta.formats.budget import Budget, clipped
from pyroberta.formats.encoding import CODES, encoded, stored_dtype_name, stored_type
from pyroberta.formats.files import LARGEST, parse_json, shown
from pyroberta.formats.new_files import NewFile, explained, nearest, place_of, replace_files
from pyroberta.formats.stored import NUMPY_TYPES, FileBytes, Stored, open_bytes


def read(file: Path) -> dict[str, Stored]:
    """Returns every tensor of a file. The numbers are not read yet.

    Raises:
        ValueError: if the file is cut short, or its header is malformed.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> write(file, {"a": np.ones((2, 3), np.float32)})
    >>> float(read(file)["a"].array().sum())
    6.0
    """
    return read_with_metadata(file)[0]


def read_with_metadata(file: Path, items: int = 0) -> tuple[dict[str, Stored], dict[str, Any]]:
    """Returns every tensor of a file, and the metadata of the file, a dict of texts by name, which may be empty. The
    numbers are not read yet.

    `items` is the expected number of tensors, if there may be more than in a model.

    Raises:
        ValueError: see `read`.
    """
    header, data = _open(file)
    remarks = header.pop("__metadata__", None)
    Budget(file, data.size, items=items).step("the header's entries", len(header))
    tensors = {}
    stop = 0
    for name, entry in sorted(header.items(), key=lambda item: _span(file, *item)):
        start = entry["data_offsets"][0]
        if start != stop:
            raise ValueError(
                f"{file}: tensor {shown(name)} begins at byte {start} of the data, but the tensor before it ends at "
                f"{stop}"
            )
        tensors[name] = _stored(file, name, entry, data)
        stop = entry["data_offsets"][1]
    if stop != data.size:
        raise ValueError(f"{file}: its tensors take {stop} bytes, but {data.size} follow the header")
    return {name: tensors[name] for name in header}, remarks if isinstance(remarks, dict) else {}


def _open(file: Path) -> tuple[dict[str, Any], FileBytes]:
    """The header, and the bytes after it."""
    file_bytes = open_bytes(file)
    if file_bytes.size < 8:
        raise ValueError(
            f"{file} is not a safetensors file: it has {file_bytes.size} bytes, but the length of the header alone "
            "takes 8"
        )
    length = int.from_bytes(file_bytes[:8].read().tobytes(), "little")
    if length > min(file_bytes.size - 8, LARGEST):
        raise ValueError(
            f"{file} is cut short or not a safetensors file: it begins with a header length of {length} bytes, but "
            f"{file_bytes.size - 8} follow"
        )
    header = parse_json(file_bytes[8 : 8 + length].read().tobytes(), f"{file} is not a safetensors file: its header")
    return header, file_bytes[8 + length :]


def _span(file: Path, name: str, entry: Any) -> tuple[int, int]:
    """Where a tensor begins and ends, of a sound entry of the header."""
    try:
        dtype, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers = (*shape, start, stop)
        sound = (
            isinstance(dtype, str)
            and len(dtype) <= 20
            and len(shape) <= 8
            and all(type(n) is int and n >= 0 for n in numbers)
        )
    except (KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        raise ValueError(
            f"{file}: the header's entry for {shown(name)} should have dtype, shape and data_offsets, got "
            f"{shown(entry)}"
        )
    return start, stop


def _stored(file: Path, name: str, entry: Any, data: FileBytes) -> Stored:
    dtype, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if not start <= stop <= data.size:
        raise ValueError(
            f"{file} is cut short: tensor {shown(name)} should lie at bytes {start} to {stop} of the data, "
            f"which has {data.size}"
        )
    if dtype in NUMPY_TYPES and stop - start != math.prod(shape) * np.dtype(NUMPY_TYPES[dtype]).itemsize:
        raise ValueError(f"{file}: tensor {shown(name)} of {dtype} {shown(shape)} can't take {stop - start} bytes")
    return Stored(name, clipped(dtype), shape, data[start:stop], file)


def write(
    file: Path,
    tensors: Mapping[str, NDArray[Any]],
    dtype: DTypeLike | str = "float32",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes `tensors`, cast to `dtype` some rows at a time.

    Args:
        file: the file, which is created or overwritten. This is not atomic; see `atomic.replacing_directory`.
        tensors, dtype, metadata: see `new_file`.

    Raises:
        ValueError: if the dtype is another one, or if a value is not finite (in `dtype`). The message names the tensor
            and the place. The file is then unusable.
    """
    new_file(tensors, dtype, metadata).write(file)


def new_file(
    tensors: Mapping[str, NDArray[Any]],
    dtype: DTypeLike | str = "float32",
    metadata: Mapping[str, str] | None = None,
) -> NewFile:
    """Returns the file of `tensors`, which are cast to `dtype` some rows at a time when the file is written.

    Args:
        tensors: arrays of any shape and layout, by name.
        dtype: float16, bfloat16, float32 or float64.
        metadata: texts by name, which are written into the header.

    Raises:
        ValueError: if the dtype is another one; when the file is written, if a value is not finite (in `dtype`). The
            message names the tensor and the place.

    >>> new_file({"a": np.ones((2, 3), np.float32)}).size
    120
    """
    dtype = stored_dtype_name(dtype)
    # transformers refuses a file that doesn't say which framework's layout it has: pt, with kernels (out, in).
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    stop = 0
    for name, tensor in tensors.items():
        start, stop = stop, stop + tensor.size * stored_type(dtype).itemsize
        header[name] = {"dtype": CODES[dtype], "shape": tensor.shape, "data_offsets": [start, stop]}
    begin = _beginning(header)

    def blocks() -> Iterator[Any]:
        yield begin
        for name, tensor in tensors.items():
            for block in encoded(tensor, dtype, name):
                yield block.data

    return NewFile(len(begin) + stop, blocks)


class Appended:
    """A safetensors file to which tensors are added one after the other. Each has its own dtype, and none is held in
    memory.

    The bytes go into a temporary file without a name, which takes the name of the file in one step when the `with`
    block ends.

    Args:
        file: the file, which is created or replaced. Its parents are created if needed.

    Attributes:
        metadata: texts by name, which are written into the header. They may be set until the block ends.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "many.safetensors"
    >>> with Appended(file) as tensors:
    ...     tensors.add("a", np.arange(3))
    ...     tensors.array("a").tolist()
    [0, 1, 2]
    >>> read(file)["a"].array().tolist()
    [0, 1, 2]
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.metadata: dict[str, str] = {}
        self._header: dict[str, Any] = {}
        self._size = 0

    def __enter__(self) -> Appended:
        nearest(place_of(self.file))  # says what is in the way
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._data = TemporaryFile(dir=self.file.parent)
        return self

    def add(self, name: str, tensor: NDArray[Any]) -> None:
        """Adds a tensor.

        Raises:
            ValueError: if the name was added before, or the format lacks the dtype.
        """
        if name in self._header:
            raise ValueError(f"{self.file}: a tensor {shown(name)} was written before")
        tensor = np.ascontiguousarray(tensor).reshape(np.shape(tensor))
        kinds = {np.dtype(kind): code for code, kind in NUMPY_TYPES.items() if code != "BF16"}
        code = kinds.get(tensor.dtype)
        if code is None:
            raise ValueError(f"{self.file}: tensor {shown(name)} is {tensor.dtype}, a dtype that the format lacks")
        with explained(self.file):
            self._data.write(tensor.data if tensor.size else b"")
        start, self._size = self._size, self._size + tensor.nbytes
        self._header[name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [start, self._size]}

    def array(self, name: str) -> NDArray[Any]:
        """Returns a tensor that was added before."""
        entry = self._header[name]
        found = np.empty(entry["shape"], NUMPY_TYPES[entry["dtype"]])
        with explained(self.file):
            self._data.seek(entry["data_offsets"][0])
            self._data.readinto(found.reshape(-1).data)
            self._data.seek(self._size)
        return found

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        with self._data:
            if kind is None:
                begin = _beginning({"__metadata__": self.metadata, **self._header})
                replace_files(
                    self.file.parent, {self.file.name: NewFile(len(begin) + self._size, lambda: self._blocks(begin))}
                )

    def _blocks(self, begin: bytes) -> Iterator[bytes]:
        yield begin
        self._data.seek(0)
        while block := self._data.read(1 << 20):
            yield block


def _beginning(header: Mapping[str, Any]) -> bytes:
    """The header with its length before it, padded so that every number lies aligned."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LARGEST:
        raise ValueError(f"the header of the file would take {len(text):,} bytes, but only {LARGEST:,} can be read")
    return len(text).to_bytes(8, "little") + text
