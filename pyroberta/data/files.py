"""Files as bytes and as lines. They are unpacked, decoded and checked while they are read."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePath
from typing import Any, NoReturn

from pyroberta.formats.budget import LEAST_BYTES, OverBudget, printable

PACKED_SUFFIXES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
COMMANDS = {"gzip": "gzip -dc", "bzip2": "bzip2 -dc", "xz": "xz -dc", "zstd": "zstd -dc"}  # write what a file holds
TIMES_PACKED = 100  # a packed file may hold as many times its own bytes; text shrinks to a third, and tables to a tenth
AT_ONCE = 1 << 20  # bytes or characters that are read before they are looked at: what is no text may have no end
LOOKED_AT = 4096  # bytes from which an encoding is told

# How a file begins that holds no text. A Parquet or Arrow file ends so too.
MAGIC = (
    (b"\x1f\x8b", "gzip"),
    *((b"BZh%d1AY&SY" % level, "bzip2") for level in range(1, 10)),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "an archive"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"%PDF-", "a PDF file"),
    (b"\x04\x22\x4d\x18", "packed by lz4"),
    (b"7z\xbc\xaf\x27\x1c", "an archive"),
    (b"{\\rtf", "an RTF document"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a file of Microsoft Office's"),
)
AT_BOTH_ENDS = {"a Parquet file": b"PAR1", "an Arrow file": b"ARROW1"}
TAR, TAR_AT = b"ustar", 257  # bytes from the beginning
BOMS = (  # the longer ones first
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
RETURN = re.compile(r"(?<=\r)(?!\n)")  # the place behind a carriage return that ends a line


@dataclass
class File:
    """A file to read: a path, or an open file.

    Attributes:
        path: the path, or the name that an open file has.
        packed: the compression, a key of `COMMANDS`; empty for none.
        opened: the open file, of text or bytes. None for a path.
        note: a fact that a reader found and that the name does not say, such as the delimiter.
        folder: the name of the folder that is the class of the file's texts. It is empty if no folder is.
    """

    path: str
    packed: str = ""
    opened: Any = None
    note: str = ""
    folder: str = ""

    @property
    def name(self) -> str:
        """Its path in a message."""
        return printable(self.path)

    @property
    def is_once(self) -> bool:
        """Whether it can be read only once: an open file, or the path of a pipe."""
        return self.opened is not None or not os.path.isfile(self.path)

    def pieces(self) -> Iterator[bytes]:
        """Yields the unpacked bytes of the file in pieces. Those of a pipe are yielded as soon as a line has come.

        Raises:
            TypeError: if the file was opened as text.
            ValueError: if the file is damaged, or not compressed as its name says.
            OverBudget: if it unpacks to more than `TIMES_PACKED` times its size.
        """
        raw = _Counted(self.opened or open(self.path, "rb"), self.is_once)  # noqa: SIM115  # closed below
        try:
            stream = UNPACKERS[self.packed](raw) if self.packed else raw
            made = 0
            while some := self._read(stream):
                made += len(some)
                if self.packed and made > max(LEAST_BYTES, TIMES_PACKED * raw.count):
                    raise OverBudget(
                        f"{self.name} unpacks to more than {TIMES_PACKED} times its size. If that is intended, unpack "
                        f"it first: {COMMANDS[self.packed]} {self.name}"
                    )
                yield some
        finally:
            if self.opened is None:
                raw.file.close()

    def _read(self, stream: Any) -> bytes:
        try:
            some = stream.read(AT_ONCE)
        except OverBudget:
            raise
        except Exception as error:
            if not self.packed or isinstance(error, MemoryError):
                raise
            raise ValueError(f"{self.name} is no sound file packed by {self.packed}: {error}") from None
        if isinstance(some, str):
            raise TypeError(
                f"{self.name} was opened as text, but a file of its kind is read as bytes. Open it with mode 'rb'"
            )
        return bytes(some or b"")

    def characters(self) -> Iterator[str]:
        """Yields the text of the file in pieces, without a byte order mark.

        Raises:
            ValueError: if the file is not UTF-8, has NULs, or begins like a file of another kind. The message names the
                place. The text before the place was yielded, except if the file is of another kind.
        """
        if self.opened is not None and isinstance(self.opened.read(0), str):
            return self._of_open_text()
        return self._decoded()

    def _decoded(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        kind = last = ""
        size = 0
        lines = 1
        for some in chain(self.pieces(), [b""]):
            if not size:
                kind = _by_magic(some)
                if kind and kind not in AT_BOTH_ENDS:
                    self._refuse(kind)
                if wide := wide_encoding(some):
                    raise ValueError(f"{self.name} is text in {wide[:6].upper()}, not UTF-8. {self._other(wide)}")
            size += len(some)
            bad: UnicodeDecodeError | None = None
            try:
                text = decoder.decode(some, final=not some)
            except UnicodeDecodeError as error:
                text, bad = error.object[: error.start].decode(), error
            is_nul = "\0" in text
            if kind and (bad or is_nul):
                self._refuse(kind)
            if is_nul:  # what is before it is read, however the pieces are cut
                yield text[: text.index("\0")]
                at = some.index(0)
                raise ValueError(
                    f"{self.name} is not text: byte {size - len(some) + at} is NUL, in line "
                    f"{lines + _line_ends(some[:at])}. Convert it to a UTF-8 text file"
                )
            if bad:
                yield text
                raise ValueError(
                    f"{self.name} is not UTF-8 text: {bad.reason} at byte {size - len(bad.object) + bad.start}, in "
                    f"line {lines + _line_ends(bad.object[: bad.start])}. Text in another encoding, such as cp1252, "
                    f"can be read. {self._other('cp1252')}"
                )
            lines += _line_ends(some)
            last = text[-6:] or last
            if text:
                yield text
        if kind and last.endswith(AT_BOTH_ENDS[kind].decode()):
            self._refuse(kind)

    def _other(self, encoding: str) -> str:
        """The advice how to read text in an encoding."""
        if self.packed or self.opened is not None:
            return f"Open it as text in {encoding}, and pass the open file"
        return f"Pass the open file: open({self.path!r}, encoding={encoding!r})"

    def _refuse(self, kind: str) -> NoReturn:
        if kind in COMMANDS:
            suffix = next(suffix for suffix, packed in PACKED_SUFFIXES.items() if packed == kind)
            advice = f"Let the name end with {suffix!r}" if self.opened is None else f"Unpack it: {COMMANDS[kind]}"
            raise ValueError(f"{self.name} is compressed by {kind}, but its name does not say so. {advice}")
        advice = "Convert it to a UTF-8 text file"
        if kind == "a Parquet file":
            advice = "Name the kind in pyroberta.data.open_source: kind='parquet'"
        raise ValueError(f"{self.name} is {kind}, not text. {advice}")

    def _of_open_text(self) -> Iterator[str]:
        lines, is_first = 1, True
        while True:
            try:
                some = self.opened.read(AT_ONCE)
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{self.name} is not {error.encoding} text: {error.reason}, {error.object[error.start]:#04x}. Open "
                    "it with the encoding that it was written in, such as encoding='cp1252'"
                ) from None
            if not some:
                return
            if "\0" in some:
                yield some[is_first and some[0] == "\ufeff" : some.index("\0")]
                raise ValueError(
                    f"{self.name} has NUL characters, the first in line {lines + _breaks(some[: some.index(chr(0))])}, "
                    "so it is not text, or not in the encoding that it was opened with. Open text in UTF-16 with "
                    "encoding='utf-16'"
                )
            lines += _breaks(some)
            yield some[is_first and some[0] == "\ufeff" :]
            is_first = False

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yields the number of each line, from 1, and the line with its end: `\n`, `\r\n` or `\r`."""
        return enumerate(chain.from_iterable(self.groups()), 1)

    def groups(self) -> Iterator[list[str]]:
        """Yields the lines of each piece of the file, with their ends. A line of several pieces is in the last one."""
        left: list[str] = []  # parts of a line whose end was not read yet
        for some in self.characters():
            if left and left[-1].endswith("\r"):  # a line feed may follow
                left, some = [], "".join(left) + some
            *lines, rest = some.split("\n")
            lines = [f"{line}\n" for line in lines]
            if "\r" in some:  # within a line it ends one too; at the end of what was read a line feed may follow
                lines = [part for line in lines for part in _at_returns(line)]
                *parts, rest = _at_returns(rest)
                lines += parts
            if lines and left:
                lines[0], left = "".join([*left, lines[0]]), []
            yield lines
            if rest:
                left.append(rest)
        if left:
            yield ["".join(left)]


def _at_returns(line: str) -> list[str]:
    """The parts of a line, of which all but the last end with a carriage return."""
    if line.find("\r", 0, -2 if line.endswith("\n") else -1) < 0:
        return [line]
    parts = RETURN.split(line)
    return parts if parts[-1] else parts[:-1]


def file_of(opened: Any, packed: str = "") -> File:
    """Returns the `File` of an open file of text or bytes.

    Args:
        opened: the open file. Its name is used in errors, if it has one.
        packed: the compression, a key of `COMMANDS`, or "" for none.
    """
    name = getattr(opened, "name", None)
    if opened in (sys.stdin, getattr(sys.stdin, "buffer", None)):
        name = "standard input"
    return File(name if isinstance(name, str) else "the file", packed, opened)


def split_suffixes(name: str) -> tuple[str, str]:
    """Returns the suffix that tells a file's kind, and its compression: a key of `COMMANDS`, or the empty string.

    >>> split_suffixes("data/Reviews.CSV.gz")
    ('.csv', 'gzip')
    """
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes[-2:]]
    packed = PACKED_SUFFIXES.get(suffixes[-1], "") if suffixes else ""
    if packed:
        suffixes.pop()
    return suffixes[-1] if suffixes else "", packed


def wide_encoding(start: bytes) -> str:
    """Returns the encoding of bytes that begin a text in UTF-16 or UTF-32, with or without a byte order mark. The
    result is empty for anything else.

    >>> wide_encoding("Go!".encode("utf-16-be")), wide_encoding(b"Go!"), wide_encoding(bytes(64))
    ('utf-16-be', '', '')
    >>> wide_encoding(b"A\\0zero in UTF-8"), wide_encoding("中国的首都是北京。\\n".encode("utf-16-le"))
    ('', 'utf-16-le')
    """
    for bom, encoding in BOMS:
        if start.startswith(bom):
            return encoding
    some = start[:LOOKED_AT]
    controls = len(re.findall(rb"[\0-\x08\x0e-\x1f]", some))  # many of them are half of a character
    if 8 * controls < len(some) and some.isascii():  # a NUL that nobody meant
        return ""
    with contextlib.suppress(UnicodeDecodeError):  # text in UTF-8, but for a few zeros that got into it
        codecs.getincrementaldecoder("utf-8")().decode(some)
        if controls < len(some) // 4:
            return ""
    order = "le" if some[1::2].count(0) >= some[::2].count(0) else "be"  # Latin letters have zeros on one side
    for encoding, width in ((f"utf-32-{order}", 4), (f"utf-16-{order}", 2)):
        if 0 in some and not (len(start) < AT_ONCE and len(start) % width):
            try:
                text = codecs.getincrementaldecoder(encoding)().decode(some)
            except UnicodeDecodeError:
                continue
            if not re.search(r"[^\t-\r -\x7e\x85\xa0-\U0010ffff]", text) and not _is_of_bytes(some, text):
                return encoding
    return ""


def _is_of_bytes(some: bytes, text: str) -> bool:
    """Whether bytes that could be wide characters are rather text of one byte a character, with a few zeros in it. Then
    they hold words of ASCII letters, or, read as wide characters, some that no script has.
    """
    words = sum(map(len, re.findall(rb"[A-Za-z]{3,}", some)))
    odd = sum(unicodedata.category(character) in ("Cn", "Co") for character in text)
    return 4 * words > len(some) or 20 * odd > len(text)


def _by_magic(start: bytes) -> str:
    """The kind of a file by its first bytes: a key of `COMMANDS`, a description, or the empty string."""
    if start[TAR_AT:].startswith(TAR):
        return "an archive"
    return next((kind for magic, kind in MAGIC if start.startswith(magic)), "")


def _line_ends(some: bytes) -> int:
    return some.count(b"\n") or some.count(b"\r")


def _breaks(some: str) -> int:
    return some.count("\n") or some.count("\r")


# --- unpacking --------------------------------------------------------------------------------------------------------


class _Counted:
    """An open file that counts the bytes that were read of it.

    Of a pipe no more is read than has come, but at least up to the end of a line, by which a file's kind is told.

    Args:
        file: to read.
        is_once: whether it may be a pipe.
    """

    def __init__(self, file: Any, is_once: bool) -> None:
        self.file, self.count = file, 0
        self._read = getattr(file, "read1", file.read) if is_once else file.read
        self._has_ended = False  # a terminal would go on behind its end

    def read(self, size: int) -> Any:
        if self._has_ended:
            return b""
        some = last = self._read(size)
        while isinstance(last, bytes) and last and b"\n" not in last and len(some) < size:
            last = self._read(size - len(some)) or b""
            some += last
        self._has_ended = not last
        self.count += len(some or b"")
        return some


class _Unpacked:
    """The content of a packed file: of all that was packed one after another, as `cat a.gz b.gz` makes it.

    The packages' own readers differ: some leave out what follows, or do not notice an end that is missing. Both are
    errors here, but for zeros behind the end, with which tapes and disks are filled.

    Args:
        file: to read.
        new: makes the object that unpacks up to an end.
        piece: bytes that are unpacked at once, few enough for what they may hold.
    """

    def __init__(self, file: _Counted, new: Callable[[], Any], piece: int) -> None:
        self._file, self._new, self._piece = file, new, piece
        self._unpacker: Any = None
        self._left = b""
        self._ends = 0  # bytes of the file up to the last end

    def read(self, size: int) -> bytes:
        parts, made = [], 0
        while made < size:
            piece = self._left or self._file.read(self._piece)
            self._left = b""
            if not piece:
                break
            if self._unpacker is None:
                if self._ends and not (piece := piece.lstrip(b"\0")):
                    continue
                self._unpacker = self._new()
            try:
                parts.append(self._unpacker.decompress(piece))
            except Exception as error:
                raise self._odd_end(error) from error
            made += len(parts[-1])
            if self._unpacker.eof:
                self._left, self._unpacker = self._unpacker.unused_data, None
                self._ends = self._file.count - len(self._left)
        if made < size and self._unpacker is not None:
            raise self._odd_end(EOFError("its end is missing"))
        return b"".join(parts)

    def _odd_end(self, error: Exception) -> Exception:
        """The error, or what to say where it is about what follows an end."""
        if not self._ends:
            return error
        return EOFError(
            f"byte {self._ends} is behind its end, and what follows is neither whole nor packed alike ({error})"
        )


def _gzip(file: _Counted) -> _Unpacked:
    import zlib

    return _Unpacked(file, lambda: zlib.decompressobj(16 + zlib.MAX_WBITS), 1 << 14)


def _bzip2(file: _Counted) -> _Unpacked:
    import bz2

    return _Unpacked(file, bz2.BZ2Decompressor, 1 << 11)


def _xz(file: _Counted) -> _Unpacked:
    import lzma

    return _Unpacked(file, lzma.LZMADecompressor, 1 << 11)


def _zstd(file: _Counted) -> _Unpacked:
    try:
        import zstandard
    except ImportError as error:
        raise ImportError(
            "a file compressed by zstd needs the package zstandard: pip install 'pyroberta[tables]'"
        ) from error
    return _Unpacked(file, zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj, 1 << 10)


UNPACKERS: dict[str, Any] = {"gzip": _gzip, "bzip2": _bzip2, "xz": _xz, "zstd": _zstd}


def is_file(x: Any) -> bool:
    """Returns whether x is an open file."""
    return hasattr(x, "readline") and hasattr(x, "read")


def is_path(x: Any) -> bool:
    """Returns whether x is a path, and not a text."""
    return isinstance(x, os.PathLike)
