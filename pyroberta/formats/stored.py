"""Tensors in a file of any format, and how they are copied into the parameters.

Every reader returns a `Stored` for each tensor of a file. Tensors that are missing, unknown or of a wrong shape are
refused before the first number is read or decompressed. Then each tensor is copied directly into its place.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from io import FileIO, RawIOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyroberta.formats.budget import clipped
from pyroberta.formats.counts import counted
from pyroberta.formats.files import check_file, shown

# How NumPy sees each element type. bfloat16, which NumPy lacks, is the upper half of a float32: see `Stored.array`.
NUMPY_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
    "BOOL": "?",
}  # fmt: skip
Shape = tuple[int, ...]
FLOATS = ("F64", "F32", "F16", "BF16")
BLOCK = 1 << 16  # numbers, which with what is made of them stay in the cache
MOST_AT_ONCE = 1 << 30  # bytes, since some systems refuse to read 2 GiB
SIDE = 256  # of the squares in which a matrix is turned around


class _Opened(FileIO):
    """A file that is closed with the last of those who read it."""

    def __del__(self) -> None:
        self.close()


class FileBytes:
    """The bytes of a file in a range, which are read when they are needed. A slice is a `FileBytes` too.

    The file is not memory-mapped: if a mapped file became shorter, as by a download or a copy that starts again, the
    system would end the process.
    """

    def __init__(self, file: Path, opened: FileIO, start: int, stop: int) -> None:
        self.file, self._opened, self._start, self._stop = file, opened, start, stop

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self._stop - self._start

    def __getitem__(self, at: slice) -> FileBytes:
        start, stop, _ = at.indices(self.size)
        return FileBytes(self.file, self._opened, self._start + start, self._start + max(start, stop))

    def read(self) -> NDArray[np.uint8]:
        """Returns the bytes in a new array.

        Raises:
            ValueError: if the file has become shorter.
            OSError: if the file can't be read. The error has the class of the system's error.
        """
        found = np.empty(self.size, np.uint8)
        left = found.data
        try:
            while left:
                count = self._read_into(left, self._stop - len(left))
                if not count:
                    raise ValueError(
                        f"{self.file} became shorter while it was read: byte {self._stop - len(left)} is gone. If it "
                        "is being written or downloaded, load it again when that is done"
                    )
                left = left[count:]
        except OSError as error:
            raise type(error)(error.errno, f"{self.file} can't be read: {error.strerror}") from None
        return found

    def _read_into(self, content: memoryview, at: int) -> int:
        """Reads bytes from the place `at` on, as many as the system gives, and returns their number."""
        if hasattr(os, "preadv"):  # without the file's position, which threads and forked processes share
            return os.preadv(self._opened.fileno(), [content[:MOST_AT_ONCE]], at)
        self._opened.seek(at)
        return self._opened.readinto(content) or 0


class Stream(RawIOBase):
    """The bytes as a file object that is read from its beginning. Closing it does not close the file itself."""

    def __init__(self, content: FileBytes) -> None:
        self._content, self._at = content, 0

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to a position, as file objects of `io` do."""
        self._at = offset + (0, self._at, self._content.size)[whence]
        if self._at < 0:
            raise OSError(f"{self._content.file}: byte {self._at} is before its beginning")
        return self._at

    def tell(self) -> int:
        """Returns the position."""
        return self._at

    def readinto(self, content: Any) -> int:
        """Reads bytes into `content`, as many as fit or are left, and returns their number."""
        found = self._content[self._at : self._at + len(content)].read()
        content[: found.size] = found.data
        self._at += found.size
        return found.size


Source = FileBytes | NDArray[np.uint8]


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: the data of its header, and the place of its bytes.

    Attributes:
        name: the name of the tensor in the file.
        dtype: the format's name of the element type, such as `"F32"`.
        shape: the shape of the tensor.
        source: the bytes of the tensor in the file. For a compressed tensor, the decompressed bytes, or a function that
            decompresses them.
        file: the file, for messages.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    source: Source | Callable[[], Source]
    file: Path

    @property
    def size(self) -> int:
        """The number of elements of the tensor."""
        return math.prod(self.shape)

    def array(self) -> NDArray[Any]:
        """Returns the values. bfloat16 becomes float32.

        Raises:
            ValueError: if the element type is unknown. See `FileBytes.read` for other errors.
        """
        return self.decoded(self.reader()(0, self.size).reshape(self.shape))

    def reader(self) -> Callable[[int, int], NDArray[Any]]:
        """Returns a function that reads the elements from one index to another, in the order of the file. For bfloat16
        it returns the bits.

        Raises:
            ValueError: if the element type is unknown.
        """
        if self.dtype not in NUMPY_TYPES:
            raise ValueError(
                f"{self.file}: tensor {shown(self.name)} is stored as {self.dtype}, which can't be read; the types "
                f"that can be read are {', '.join(NUMPY_TYPES)}"
            )
        source, kind = self._opened(), np.dtype(NUMPY_TYPES[self.dtype])

        def read(start: int, stop: int) -> NDArray[Any]:
            part = source[start * kind.itemsize : stop * kind.itemsize]
            return (part.read() if isinstance(part, FileBytes) else part).view(kind)

        return read

    def _opened(self) -> Source:
        """Its bytes, unpacked where need be."""
        return self.source() if callable(self.source) else self.source

    def row(self, i: int) -> Stored:
        """Returns the i-th row of the tensor as a tensor."""
        return replace(self.rows(i, 1, self.shape[0]), shape=self.shape[1:])

    def rows(self, i: int, rows: int, count: int) -> Stored:
        """Returns the i-th of the tensor's `count` parts, which have `rows` rows each."""

        def part() -> Source:
            source = self._opened()
            size = source.size // count
            return source[i * size : (i + 1) * size]

        source = part if callable(self.source) else part()
        return replace(self, shape=(rows, *self.shape[1:]), source=source)

    def decoded(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Returns the values of elements that `reader()` read."""
        return widened(raw, self.dtype)


def widened(raw: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Returns the numbers of raw data that has this dtype in a file. The bits of bfloat16 become float32; other data
    stays.
    """
    return (raw.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else raw


def refuse_differences(
    directory: os.PathLike[str],
    stored: Mapping[str, Stored],
    expected: Mapping[str, Shape],
    source: str = "config.json",
) -> None:
    """Checks that `stored` has the tensors of `expected`, by name and shape (-1 for any size), and that they are
    floats.

    `source` is the name of the file that gave the shapes, for messages.

    Raises:
        ValueError: if tensors are missing or unknown, or have another shape or type. The message names them.
    """
    missing = [name for name in expected if name not in stored]
    if missing:
        alike = next((name for name in stored if name not in expected and name.endswith(f".{missing[0]}")), None)
        raise ValueError(
            f"{_files(directory, stored)} lacks {len(missing)} of the {counted(len(expected), 'tensor')} that {source} "
            f"calls for: {few(missing)}" + (f". Does {shown(alike)} stand for the first of them?" if alike else "")
        )
    extra = [tensor.name for name, tensor in stored.items() if name not in expected]
    if extra:
        raise ValueError(
            f"{_files(directory, stored)} has {counted(len(extra), 'tensor')} that a model of the size in {source} "
            f"does not have: {few(extra)}. Does {source} belong to another model, or the head to another task?"
        )
    wrong = []
    for name, shape in expected.items():
        got = stored[name].shape
        if (
            len(got) != len(shape)
            or any(want not in (-1, have) for want, have in zip(shape, got, strict=True))
            or 0 in got
        ):
            want = str(shape).replace("-1", "any")
            wrong.append(f"{stored[name].name} has shape {shown(got)}, expected {want}")
    if wrong:
        raise ValueError(f"{_files(directory, stored)} doesn't fit {source}: {few(wrong, '; ')}")
    for name in expected:
        if stored[name].dtype not in FLOATS:
            raise ValueError(
                f"{stored[name].file}: tensor {shown(stored[name].name)} is stored as {stored[name].dtype}, "
                f"expected one of {', '.join(FLOATS)}"
            )


@dataclass(frozen=True)
class Copy:
    """A tensor, and the part of the parameters into which it is copied.

    Attributes:
        tensor: the tensor. Its numbers have the order of those of `place`, whatever its axes are.
        place: the array that is written.
        transpose: whether the tensor is the transpose of `place`.
        skip: the number of rows at the beginning of the tensor that are left out.
    """

    tensor: Stored
    place: NDArray[Any]
    transpose: bool = False
    skip: int = 0

    def run(self) -> None:
        """Copies the tensor, a block at a time. A block is decoded, checked and written while it is in the cache, so
        there is never a second copy of the tensor.

        Raises:
            ValueError: if a number is not finite, or is too large for the dtype of `place`.
        """
        target = self.place.T if self.transpose else self.place
        target = target if target.ndim == 2 else self.place.reshape(1, -1)
        count, width = target.shape
        read, first = self.tensor.reader(), self.skip * math.prod(self.tensor.shape[1:])
        rows, columns = (SIDE, SIDE) if self.transpose else (max(1, BLOCK // width), BLOCK)
        with np.errstate(over="ignore", invalid="ignore"):
            for i in range(0, count, rows):
                strip = target[i : i + rows]
                source = read(first + i * width, first + i * width + strip.size).reshape(strip.shape)
                for j in range(0, width, columns):
                    block = self.tensor.decoded(source[:, j : j + columns])
                    block = block.astype(target.dtype, copy=False)
                    if not np.isfinite(block).all():
                        self._refuse(target, read(first, first + target.size).reshape(target.shape))
                    strip[:, j : j + columns] = block

    def _refuse(self, target: NDArray[Any], source: NDArray[Any]) -> None:
        target[...] = self.tensor.decoded(source)
        refuse_non_finite(
            self.place,
            f"{self.tensor.file}: tensor {shown(self.tensor.name)} ({self.tensor.dtype}, read as {self.place.dtype})",
            "The file is damaged, or the model had diverged when it was saved",
        )


class ReadWhenAsked(Mapping[str, NDArray[Any]]):
    """A mapping of arrays by name. Each access makes the array anew, so that not all of them are in memory at once.

    >>> arrays = ReadWhenAsked({"a": lambda: np.ones(2)})
    >>> arrays["a"]
    array([1., 1.])
    """

    def __init__(self, makers: Mapping[str, Callable[[], NDArray[Any]]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def same(a: Stored, b: Stored) -> bool:
    """Returns whether two tensors have the same shape and the same numbers. NaN counts as equal to NaN.

    Raises:
        ValueError: if an element type is unknown.
    """
    if a.shape != b.shape or a.dtype not in FLOATS or b.dtype not in FLOATS:
        return False
    one, other = a.reader(), b.reader()
    for start in range(0, a.size, BLOCK):
        stop = min(start + BLOCK, a.size)
        x, y = one(start, stop), other(start, stop)
        if a.dtype == b.dtype and np.array_equal(x.view(np.uint8), y.view(np.uint8)):
            continue
        if not np.array_equal(a.decoded(x), b.decoded(y), equal_nan=True):
            return False
    return True


def open_bytes(file: Path) -> FileBytes:
    """Returns the bytes of a file. None of them is read yet. The file stays open as long as the bytes, or slices of
    them, exist.

    Raises:
        FileNotFoundError, ValueError: if the file is not a plain file, or is empty.
        OSError: if the file can't be read. The error has the class of the system's error.
    """
    check_file(file)
    try:
        opened = _Opened(file)
        size = os.fstat(opened.fileno()).st_size
    except OSError as error:
        raise type(error)(f"{file} can't be read: {error.strerror}") from None
    if not size:
        raise ValueError(f"{file} is empty. Was the download interrupted?")
    return FileBytes(file, opened, 0, size)


def beside(index: Path, name: str) -> Path:
    """Returns the path of a file that an index names. It must be in the directory of the index.

    Raises:
        ValueError: if the name leads elsewhere.
        FileNotFoundError: if the file does not exist.
    """
    if name in ("", ".", "..") or re.search(r"[/\\\0:]", name):
        raise ValueError(f"{index} points to {shown(name)}; a shard's entry must be the plain name of a file beside it")
    if not os.path.lexists(index.parent / name):
        raise FileNotFoundError(
            f"{index} names the shard {few([name])}, which isn't there. Was the download interrupted?"
        )
    return index.parent / name


def _files(directory: os.PathLike[str], stored: Mapping[str, Stored]) -> str:
    files = sorted({f"{tensor.file}" for tensor in stored.values()})
    return files[0] if len(files) == 1 else f"{directory} ({len(files)} files)"


def few(items: Iterable[str], separator: str = ", ", limit: int = 4) -> str:
    """Returns the first items for a message, and the number of the others."""
    items = [clipped(item, 201) for item in items]
    rest = f"{separator}… and {len(items) - limit} more" if len(items) > limit else ""
    return separator.join(items[:limit]) + rest


def refuse_non_finite(values: NDArray[Any], name: str, hint: str) -> None:
    """Checks that all values are finite. The ValueError names the place of the first NaN or infinity.

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
        raise ValueError(f"{name} has {bad} {kind} finite, the first {values[first]} at {place}. {hint}.")
