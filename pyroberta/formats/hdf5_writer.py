"""Writing of HDF5 files. libhdf5 makes the structure in memory, and pyroberta writes the bytes to the disk.

libhdf5 is not safe if the disk may be full. If a write fails, it can crash the process when the file is closed: it
keeps datasets and caches that it can't write, and ends with a segmentation fault.

Here libhdf5 makes the layout of the file in memory, and never writes to the disk. It gives each dataset its place but
gets no numbers, so that only the structure is in memory: some kilobytes for each hundred datasets. Then the structure
and the numbers are written as in any other file, the numbers some rows at a time. So the size is known beforehand, the
file is never in memory as a whole, and a full disk is an ordinary error.

Two other ways were rejected. libhdf5's `core` driver makes the whole file in memory, which doubles the memory of a
model. Reserving the size of the file with `posix_fallocate` does not prevent failing writes: on a file system that
copies on write, or that lacks the call, they can still fail.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyroberta.formats.encoding import encoded, stored_type
from pyroberta.formats.hdf5 import import_h5py
from pyroberta.formats.new_files import NewFile

PAGE = 4096  # bytes


def new_file(
    name: str, tensors: Mapping[str, NDArray[Any]], dtype: str, others: Mapping[str, NDArray[Any]] | None = None
) -> NewFile:
    """Returns the file of `tensors`, which are cast to `dtype` some rows at a time when the file is written, and of
    `others` as they are.

    Args:
        name: the name of the file, for messages.
        tensors: arrays of any shape and layout, by their paths in the file.
        dtype: float16, bfloat16, float32 or float64. bfloat16 is stored as two opaque bytes with an attribute that says
            so, as in Keras.
        others: arrays of floats that keep their dtype, and single numbers of any kind.

    Raises:
        ImportError: if h5py is not installed.
        ValueError: when the file is written, if a value is not finite (in `dtype`).

    >>> new_file("x.h5", {"layers/0/vars/0": np.zeros((1000, 10), np.float32)}, "float32").size > 40_000
    True
    """
    h5py = import_h5py(name)
    pages = _Pages()
    placed: list[tuple[int, int, str, NDArray[Any], str]] = []

    def lay_out() -> None:
        with h5py.File(pages, "w", driver="fileobj") as opened:
            for place, tensor in tensors.items():
                start, size = _allotted(opened, place, tensor.shape, dtype)
                placed.append((start, size, place, tensor, dtype))
            for place, array in (others or {}).items():
                if array.ndim:
                    start, size = _allotted(opened, place, array.shape, array.dtype.name)
                    placed.append((start, size, place, array, array.dtype.name))
                else:
                    opened[place] = array

    _uninterrupted(lay_out)
    placed = sorted((entry for entry in placed if entry[1]), key=lambda entry: entry[0])

    def blocks() -> Iterator[Any]:
        stop = 0
        for start, size, place, tensor, kind in placed:
            yield pages.between(stop, start)
            for block in encoded(tensor, kind, place):
                yield block.data
            stop = start + size
        yield pages.between(stop, pages.size)

    return NewFile(pages.size, blocks)


def _uninterrupted(work: Callable[[], None]) -> None:
    """Does the work in a thread of its own, where Ctrl-C raises nothing.

    Raised in a read or write that libhdf5 asks for, an exception can crash the process as a full disk can. Here it is
    raised in the caller, and the work, some milliseconds of it, goes on to its end.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _allotted(opened: Any, place: str, shape: tuple[int, ...], dtype: str) -> tuple[int, int]:
    """Makes a dataset without its numbers; tells where they belong in the file, and how many bytes they take."""
    from h5py import Dataset, h5d, h5p, h5s, h5t

    kind = np.dtype("V2") if dtype == "bfloat16" else stored_type(dtype)
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_layout(h5d.CONTIGUOUS)
    properties.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)  # the same model makes the same bytes
    space = h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
    dataset = Dataset(h5d.create(opened.id, None, h5t.py_create(kind, logical=True), space, dcpl=properties))
    if dtype == "bfloat16":
        dataset.attrs["dtype"] = dtype
    opened[place] = dataset
    size = math.prod(shape) * kind.itemsize
    return (dataset.id.get_offset(), size) if size else (0, 0)


class _Pages:
    """A file in memory for h5py, in which what was never written takes no room and reads as zeros."""

    def __init__(self) -> None:
        self.size = 0
        self._at = 0
        self._pages: dict[int, bytearray] = {}

    def between(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`."""
        first = start // PAGE
        pages = (self._pages.get(i, bytes(PAGE)) for i in range(first, -(-stop // PAGE)))
        return b"".join(pages)[start - first * PAGE : stop - first * PAGE]

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to a place, as io's files do."""
        self._at = offset + (0, self._at, self.size)[whence]
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at

    def write(self, content: Any) -> int:
        """Writes at the place."""
        content = memoryview(content).cast("B")
        done = 0
        while done < len(content):
            page, start = divmod(self._at + done, PAGE)
            part = content[done : done + PAGE - start]
            self._pages.setdefault(page, bytearray(PAGE))[start : start + len(part)] = part
            done += len(part)
        self._at += done
        self.size = max(self.size, self._at)
        return done

    def read(self, size: int) -> bytes:
        """The next `size` bytes. What lies beyond the end is zeros."""
        self._at += size
        return self.between(self._at - size, self._at)

    def readinto(self, content: Any) -> int:
        """Reads as much as `content` holds."""
        content[:] = self.read(len(content))
        return len(content)

    def truncate(self, size: int) -> int:
        """Gives the file a size; more is zeros."""
        self.size = size
        return size

    def flush(self) -> None:
        """Nothing is held back."""
