"""Zips, which torch's, NumPy's and Keras's files are: their directory and their entries, read within a budget.

`new_file` describes a zip to write.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyroberta.formats.budget import Budget, clipped, shown
from pyroberta.formats.files import LARGEST
from pyroberta.formats.new_files import NewFile
from pyroberta.formats.stored import FileBytes, Stream, open_bytes

STEPS_PER_ENTRY = 5  # of a zip's directory
# What the standard library raises for a damaged zip.
DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, LookupError, EOFError, OverflowError, OSError,
    UnicodeDecodeError,
)  # fmt: skip
BLOCK = 1 << 20  # bytes of which a checksum is taken at once
LEAST_LONG = 0xFFFF_FFFF  # sizes and places from here on take 8 bytes (Zip64)

Source = FileBytes | Callable[[], NDArray[np.uint8]]


def is_zip(file_bytes: FileBytes) -> bool:
    """Returns whether the bytes are those of a zip."""
    return zipfile.is_zipfile(io.BufferedReader(Stream(file_bytes)))


def entries_of(file_bytes: FileBytes, budget: Budget) -> list[zipfile.ZipInfo]:
    """Returns the entries in the directory of a zip.

    Raises:
        OverBudget: if there are more entries than the budget allows.
        zipfile.BadZipFile: if the zip is damaged. The standard library may raise other errors for a damaged file too.
    """
    with _Zip(Stream(file_bytes)) as opened:
        opened.budget = budget
        with zipfile.ZipFile(opened) as archive:  # which reads the directory alone
            return archive.infolist()


def entry(file: Path, file_bytes: FileBytes, info: zipfile.ZipInfo, budget: Budget) -> Source:
    """Returns the content of an entry of a zip: the bytes in the file if they are not compressed, else a function that
    decompresses them.

    Raises:
        ValueError: if the entry is not at the place that the directory of the zip names, is encrypted, or is
            compressed by another method than deflate. The function raises it if the entry can't be decompressed, or has
            another size or checksum than the directory says. The checksum of bytes that are not compressed is not
            compared.
        OverBudget: raised by the function, if the entry needs more memory than the budget allows.
    """
    name, size = clipped(info.filename), info.file_size
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{file}: {name} is compressed by the method {info.compress_type}; only deflate can be read")
    if info.flag_bits & 1:
        raise ValueError(f"{file} is damaged: {name} is encrypted")
    at = info.header_offset
    header = file_bytes[at : at + 30].read().tobytes() if at >= 0 else b""
    if header[:4] != b"PK\x03\x04" or len(header) < 30:
        raise ValueError(f"{file} is damaged: {name} is not at the place that the directory of the zip names")
    start = at + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    if info.compress_type == zipfile.ZIP_STORED:
        return cut(file_bytes, start, size, file)
    packed = cut(file_bytes, start, info.compress_size, file)

    def unpacked() -> NDArray[np.uint8]:
        budget.make(f"{name}, decompressed", size)
        try:
            found = zlib.decompressobj(-15).decompress(
                packed.read().data, size + 1
            )  # one more shows that there is more
        except zlib.error as error:
            raise ValueError(f"{file} is damaged: {name} can't be decompressed: {error}") from None
        if len(found) != size:
            much = f"more than {size}" if len(found) > size else len(found)
            raise ValueError(f"{file} is damaged: {name} decompresses to {much} bytes, but the zip says {size}")
        if zlib.crc32(found) != info.CRC:
            raise ValueError(f"{file} is damaged: the CRC-32 of {name} is not the one in the zip")
        return np.frombuffer(found, np.uint8)

    return lru_cache(maxsize=1)(unpacked)


def cut(file_bytes: FileBytes, start: int, size: int, file: Path) -> FileBytes:
    """Returns the bytes of a file from a start, `size` of them.

    Raises:
        ValueError: if the file ends before.
    """
    if start + size > file_bytes.size:
        raise ValueError(f"{file} is cut short: it has {file_bytes.size} bytes, but {start + size} are needed")
    return file_bytes[start : start + size]


class Archive:
    """A zip whose entries are read by name, and never written to the disk.

    Args:
        file: the path of the zip.

    Attributes:
        file: the path of the zip.

    Raises:
        FileNotFoundError, ValueError: if the file does not exist, is damaged, is not a zip, has a name twice, or has a
            name that leads out of a directory.
        OverBudget: if reading it would take too much memory or time.
    """

    def __init__(self, file: Path) -> None:
        self.file, self._whole = file, open_bytes(file)
        if not is_zip(self._whole):
            raise ValueError(f"{file} is cut short, or not a zip")
        self._budget = Budget(file, self._whole.size)
        try:
            entries = entries_of(self._whole, self._budget)
        except DAMAGE as error:
            raise ValueError(f"{file} is damaged: {clipped(str(error)) or type(error).__name__}") from None
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for info in entries:
            name = info.filename
            if re.search(r"^/|[\\:\0]|(^|/)\.\.?(/|$)", name):
                raise ValueError(f"{file}: the name {shown(name)} leads out of the archive")
            if name in self._entries:
                raise ValueError(f"{file} has {shown(name)} twice")
            if not name.endswith("/"):
                self._entries[name] = info

    @property
    def names(self) -> list[str]:
        """Returns the names of the entries, without directories."""
        return list(self._entries)

    def source(self, name: str) -> FileBytes | NDArray[np.uint8]:
        """Returns the content of an entry. If the entry is not compressed, it is a part of the file.

        Raises:
            FileNotFoundError: if there is no entry of that name. The message lists the names.
            ValueError: if the entry is damaged.
            OverBudget: if it needs more memory than the budget allows.
        """
        if name not in self._entries:
            listed = ", ".join(clipped(one, 60) for one in self.names[:8]) or "nothing"
            raise FileNotFoundError(f"{self.file} has no {name}; it has {listed}")
        info = self._entries[name]
        found = entry(self.file, self._whole, info, self._budget)
        if callable(found):
            return found()
        checksum = 0
        for start in range(0, found.size, BLOCK):
            checksum = zlib.crc32(found[start : start + BLOCK].read().data, checksum)
        if checksum != info.CRC:
            raise ValueError(f"{self.file} is damaged: the CRC-32 of {name} is not the one in the zip")
        return found

    def bytes(self, name: str) -> bytes:
        """Returns the content of a small entry.

        Raises:
            FileNotFoundError, ValueError, OverBudget: see `source`. ValueError also if the entry has more than
                `LARGEST` bytes.
        """
        if name in self._entries and self._entries[name].file_size > LARGEST:
            raise ValueError(f"{self.file}: {name} has more than {LARGEST} bytes, the limit for such an entry")
        found = self.source(name)
        return (found.read() if isinstance(found, FileBytes) else found).tobytes()


def new_file(entries: Mapping[str, NewFile]) -> NewFile:
    """Returns the zip of some files, by their names in it. None of them is compressed.

    The checksum of a file is computed while the file is written, and stands after it. So no file is held in memory.

    >>> new = new_file({"a/b.txt": NewFile.of("text")})
    >>> content = b"".join(new.blocks())
    >>> zipfile.ZipFile(io.BytesIO(content)).read("a/b.txt"), len(content) == new.size
    (b'text', True)
    """

    def blocks() -> Iterator[Any]:
        at, directory = 0, b""
        for name, file in entries.items():
            checksum = 0
            yield _header(name, file.size)
            for block in file.blocks():
                checksum = zlib.crc32(block, checksum)
                yield block
            yield _trailer(file.size, checksum)
            directory += _directory_entry(name, file.size, at, checksum)
            at += _room(name, file.size)
        yield directory + _end(len(entries), len(directory), at)

    at = directory_size = 0
    for name, file in entries.items():
        directory_size += len(_directory_entry(name, file.size, at))
        at += _room(name, file.size)
    return NewFile(at + directory_size + len(_end(len(entries), directory_size, at)), blocks)


# The records of a zip: APPNOTE.TXT 6.3, sections 4.3.7, 4.3.9, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3. The flags say that
# the checksum stands behind, and that names are UTF-8. The date is the first that there is.
_FLAGS, _DATE = 1 << 3 | 1 << 11, 1 << 5 | 1


def _header(name: str, size: int) -> bytes:
    encoded, is_long = name.encode(), size >= LEAST_LONG
    more = struct.pack("<2H2Q", 1, 16, 0, 0) if is_long else b""
    version, size_field = (45, 0xFFFF_FFFF) if is_long else (20, 0)
    lengths = (len(encoded), len(more))
    return (
        struct.pack("<4s5H3I2H", b"PK\3\4", version, _FLAGS, 0, 0, _DATE, 0, size_field, size_field, *lengths)
        + encoded
        + more
    )


def _trailer(size: int, checksum: int = 0) -> bytes:
    return struct.pack("<4sI2Q" if size >= LEAST_LONG else "<4s3I", b"PK\7\x08", checksum, size, size)


def _room(name: str, size: int) -> int:
    return len(_header(name, size)) + size + len(_trailer(size))


def _directory_entry(name: str, size: int, at: int, checksum: int = 0) -> bytes:
    encoded, numbers = name.encode(), (size, size, at)
    long = [number for number in numbers if number >= LEAST_LONG]
    more = struct.pack(f"<2H{len(long)}Q", 1, 8 * len(long), *long) if long else b""
    version = 45 if long else 20
    *sizes, place = (0xFFFF_FFFF if number >= LEAST_LONG else number for number in numbers)
    begun = struct.pack("<4s6H3I", b"PK\1\2", version, version, _FLAGS, 0, 0, _DATE, checksum, *sizes)
    return begun + struct.pack("<5H2I", len(encoded), len(more), 0, 0, 0, 0, place) + encoded + more


def _end(count: int, size: int, at: int) -> bytes:
    """The end of a zip of `count` entries, whose directory has that size and place."""
    longer = b""
    if at >= LEAST_LONG:
        longer = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, at)
        longer += struct.pack("<4sIQI", b"PK\6\7", 0, at + size, 1)
        at = 0xFFFF_FFFF
    return longer + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, size, at, 0)


class _Zip(io.BufferedReader):
    """A zip, of whose directory as much is read as the budget allows: an entry takes at least 46 bytes there."""

    budget: Budget

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > 46:
            self.budget.step("the directory of the zip", STEPS_PER_ENTRY * (size // 46))
            self.budget.make("the directory of the zip", size)
        return super().read(size)
