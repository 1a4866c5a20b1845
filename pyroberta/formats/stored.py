"""Tensors that lie in a file of any format, and their way into the parameters.

Every reader gives a `Stored` for each tensor of a file; what is missing, unknown or misshapen is refused before the
first number is read or unpacked; then each is copied straight into its place.
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
SIDE = 256  # of the squares in which a matrix is turned around


class _Opened(FileIO):
    """A file that is closed with the last of those who read it."""

    def __del__(self) -> None:
        self.close()


class FileBytes:
    """The bytes of a file from one place to another, which are read when they are asked for; slices are the same.

    They aren't mapped: where a mapped file is cut meanwhile, as by a download or a copy that begins anew, the system
    ends the process.
    """

    def __init__(self, file: Path, opened: FileIO, start: int, stop: int) -> None:
        self.file, self._opened, self._start, self._stop = file, opened, start, stop

    @property
    def size(self) -> int:
        """How many they are."""
        return self._stop - self._start

    def __getitem__(self, at: slice) -> FileBytes:
        start, stop, _ = at.indices(self.size)
        return FileBytes(self.file, self._opened, self._start + start, self._start + max(start, stop))

    def read(self) -> NDArray[np.uint8]:
        """The bytes, in an array of their own.

        Raises:
            ValueError: where the file has become shorter than it was.
            OSError: where it can't be read, of the kind that the system gave.
        """
        found = np.empty(self.size, np.uint8)
        left = found.data
        try:
            self._opened.seek(self._start)
            while left:
                count = self._opened.readinto(left)
                if not count:
                    raise ValueError(
                        f"{self.file} became shorter while it was read: byte {self._stop - len(left)} is gone. Is it "
                        "being written or downloaded? Load it again when that is done"
                    )
                left = left[count:]
        except OSError as error:
            raise type(error)(error.errno, f"{self.file} can't be read: {error.strerror}") from None
        return found


class Stream(RawIOBase):
    """The bytes as a file that is read from its beginning; closing it leaves the file itself open."""

    def __init__(self, content: FileBytes) -> None:
        self._content, self._at = content, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to a place, as io's files do."""
        self._at = offset + (0, self._at, self._content.size)[whence]
        if self._at < 0:
            raise OSError(f"{self._content.file}: byte {self._at} is before its beginning")
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at

    def readinto(self, content: Any) -> int:
        """Reads as much as `content` holds, or less at the end."""
        found = self._content[self._at : self._at + len(content)].read()
        content[: found.size] = found.data
        self._at += found.size
        return found.size


Source = FileBytes | NDArray[np.uint8]


@dataclass(frozen=True)
class Stored:
    """A tensor that lies in a file: what the header says, and where its bytes are.

    Attributes:
        name: as the file has it.
        dtype: the format's name of the element type, such as `"F32"`.
        shape: of the tensor.
        source: its bytes in the file; or unpacked ones, or a function that unpacks them, where they lie packed.
        file: where it lies, for messages.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    source: Source | Callable[[], Source]
    file: Path

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    def array(self) -> NDArray[Any]:
        """The values; bfloat16 as float32.

        Raises:
            ValueError: for an element type that isn't known here, and as `FileBytes.read`.
        """
        return self.decoded(self.reader()(0, self.size).reshape(self.shape))

    def reader(self) -> Callable[[int, int], NDArray[Any]]:
        """What reads numbers from one place to another, in the order in which they lie; of bfloat16 the bits.

        Raises:
            ValueError: for an element type that isn't known here.
        """
        if self.dtype not in NUMPY_TYPES:
            raise ValueError(
                f"{self.file}: tensor {shown(self.name)} is stored as {self.dtype}, which can't be read here; "
                f"what can be read is {', '.join(NUMPY_TYPES)}"
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
        """The tensor's i-th row alone."""
        return replace(self.rows(i, 1, self.shape[0]), shape=self.shape[1:])

    def rows(self, i: int, rows: int, count: int) -> Stored:
        """The i-th part of the tensor's `count` parts of `rows` rows each."""

        def part() -> Source:
            source = self._opened()
            size = source.size // count
            return source[i * size : (i + 1) * size]

        source = part if callable(self.source) else part()
        return replace(self, shape=(rows, *self.shape[1:]), source=source)

    def decoded(self, raw: NDArray[Any]) -> NDArray[Any]:
        """The values of some numbers that `reader()` read."""
        return widened(raw, self.dtype)


def widened(raw: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Numbers of what lies in a file as that dtype: of bfloat16's bits float32, of the others what they are."""
    return (raw.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else raw


def refuse_differences(
    directory: os.PathLike[str],
    stored: Mapping[str, Stored],
    expected: Mapping[str, Shape],
    source: str = "config.json",
) -> None:
    """Checks that `stored` are the tensors of `expected`, by name and shape (-1 for any number), and of floats.

    `source` is what told the sizes.

    Raises:
        ValueError: which are missing, unknown, of another shape or type.
    """
    missing = [name for name in expected if name not in stored]
    if missing:
        alike = next((name for name in stored if name not in expected and name.endswith(f".{missing[0]}")), None)
        raise ValueError(
            f"{_files(directory, stored)} lacks {len(missing)} of the {len(expected)} tensors that {source} "
            f"calls for: {few(missing)}" + (f". Is {shown(alike)} the first of them?" if alike else "")
        )
    extra = [tensor.name for name, tensor in stored.items() if name not in expected]
    if extra:
        raise ValueError(
            f"{_files(directory, stored)} has {len(extra)} tensors that a model of the size in {source} has "
            f"no place for: {few(extra)}. Is {source} another model's, or the head another task's?"
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
    """A tensor, and where among the parameters it goes.

    Attributes:
        tensor: its numbers are those of `place` in the same order, whatever its axes are.
        place: to be written.
        transpose: the tensor's matrix is that of `place` turned around.
        skip: rows of the tensor to leave out in front.
    """

    tensor: Stored
    place: NDArray[Any]
    transpose: bool = False
    skip: int = 0

    def run(self) -> None:
        """Copies, a block at a time: it is decoded, looked at and written while it is in the cache, so that there is
        never a second copy of the tensor.

        Raises:
            ValueError: where a number isn't finite, or is too large for the dtype of `place`.
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
    """Arrays by name, each made anew when it is asked for, so that never all of them are in memory.

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
    """Whether two tensors have the same shape and numbers, NaN being the same as NaN.

    Raises:
        ValueError: for an element type that isn't known here.
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
    """The bytes of a file, of which none is read yet. It is open as long as they, or some of them, are there.

    Raises:
        FileNotFoundError, ValueError: where it is no plain file, or an empty one.
        OSError: where it can't be read, of the kind that the system gave.
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
    """The file that an index names, which must be beside it.

    Raises:
        ValueError: for a name that leads elsewhere.
        FileNotFoundError: where it isn't there.
    """
    if name in ("", ".", "..") or re.search(r"[/\\\0:]", name):
        raise ValueError(f"{index} points to {shown(name)}; a shard's entry must be the plain name of a file beside it")
    if not os.path.lexists(index.parent / name):
        raise FileNotFoundError(
            f"{index} names the shard {few([name])}, which isn't there. Was the download interrupted?"
        )
    return index.parent / name


def _files(directory: os.PathLike[str], stored: Mapping[str, Stored]) -> str:
    files = sorted({str(tensor.file) for tensor in stored.values()})
    return files[0] if len(files) == 1 else f"{directory} ({len(files)} files)"


def few(items: Iterable[str], separator: str = ", ", limit: int = 4) -> str:
    """The first of them in a message."""
    items = [clipped(item, 201) for item in items]
    rest = f"{separator}… and {len(items) - limit} more" if len(items) > limit else ""
    return separator.join(items[:limit]) + rest


def refuse_non_finite(values: NDArray[Any], name: str, hint: str) -> None:
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
        raise ValueError(f"{name} has {bad} {kind} finite, the first {values[first]} at {place}. {hint}.")
