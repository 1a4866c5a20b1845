"""Zips, as torch's files and NumPy's are ones: their directory, and what lies in an entry, read within a budget."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyroberta.formats.budget import Budget, clipped
from pyroberta.formats.stored import FileBytes, Stream

STEPS_PER_ENTRY = 5  # of a zip's directory

Source = FileBytes | Callable[[], NDArray[np.uint8]]


def is_zip(file_bytes: FileBytes) -> bool:
    """Whether the bytes are a zip's."""
    return zipfile.is_zipfile(io.BufferedReader(Stream(file_bytes)))


def entries_of(file_bytes: FileBytes, budget: Budget) -> list[zipfile.ZipInfo]:
    """The entries that the directory of a zip has.

    Raises:
        OverBudget: where they are more than the budget allows.
        zipfile.BadZipFile: where it is damaged; and what else the standard library raises for such a file.
    """
    with _Zip(Stream(file_bytes)) as opened:
        opened.budget = budget
        with zipfile.ZipFile(opened) as archive:  # which reads the directory alone
            return archive.infolist()


def entry(file: Path, file_bytes: FileBytes, info: zipfile.ZipInfo, budget: Budget) -> Source:
    """What lies in an entry of a zip: the file's bytes where it is stored as it is, else a function that unpacks it.

    Raises:
        ValueError: where it lies elsewhere than the directory says, or is packed in another way than deflate's; and
            where it can't be unpacked, when it is.
        OverBudget: where it asks for more than the budget allows, when it is unpacked.
    """
    name, size = clipped(info.filename), info.file_size
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{file}: {name} is packed by the method {info.compress_type}, known is deflate alone")
    if info.flag_bits & 1:
        raise ValueError(f"{file} is damaged: {name} is encrypted")
    at = info.header_offset
    header = file_bytes[at : at + 30].read().tobytes() if at >= 0 else b""
    if header[:4] != b"PK\x03\x04" or len(header) < 30:
        raise ValueError(f"{file} is damaged: {name} isn't where the directory of the zip says")
    start = at + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    if info.compress_type == zipfile.ZIP_STORED:
        return cut(file_bytes, start, size, file)
    packed = cut(file_bytes, start, info.compress_size, file)

    def unpacked() -> NDArray[np.uint8]:
        budget.make(f"{name}, unpacked,", size)
        try:
            found = zlib.decompressobj(-15).decompress(
                packed.read().data, size + 1
            )  # one more shows that there is more
        except zlib.error as error:
            raise ValueError(f"{file} is damaged: {name} can't be unpacked: {error}") from None
        if len(found) != size:
            much = f"more than {size}" if len(found) > size else len(found)
            raise ValueError(f"{file} is damaged: {name} has {much} bytes packed in it, and says {size}")
        if zlib.crc32(found) != info.CRC:
            raise ValueError(f"{file} is damaged: what is packed in {name} has another CRC-32 than it says")
        return np.frombuffer(found, np.uint8)

    return lru_cache(maxsize=1)(unpacked)


def cut(file_bytes: FileBytes, start: int, size: int, file: Path) -> FileBytes:
    """The bytes of a place and size.

    Raises:
        ValueError: where the file ends before.
    """
    if start + size > file_bytes.size:
        raise ValueError(f"{file} is cut short: it has {file_bytes.size} bytes, and {start + size} are needed")
    return file_bytes[start : start + size]


class _Zip(io.BufferedReader):
    """A zip, of whose directory as much is read as the budget allows: an entry takes at least 46 bytes there."""

    budget: Budget

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > 46:
            self.budget.step("the directory of the zip", STEPS_PER_ENTRY * (size // 46))
            self.budget.make("the directory of the zip", size)
        return super().read(size)
