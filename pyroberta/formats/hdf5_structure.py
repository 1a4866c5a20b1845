"""The structure of an HDF5 file, checked before libhdf5 follows it.

libhdf5 trusts the addresses in a file. It descends into a tree that contains itself until the process crashes. It goes
round forever between nodes side by side, and in a heap with an object of no size. Some versions crash on a damaged
fractal heap. So pyroberta does four things without libhdf5, before libhdf5 reads a part: it reads the header of each
object, it walks the trees, it looks up a text in a heap, and it refuses fractal heaps, which Keras's files don't have.

Source: the HDF5 file format specification, version 3.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pyroberta.formats.budget import Budget, shown
from pyroberta.formats.stored import FileBytes, Source

SIGNATURE, TREE, HEAP, HEADER = b"\x89HDF\r\n\x1a\n", b"TREE", b"GCOL", b"OHDR\x02"
UNDEFINED = (1 << 64) - 1  # the address of what is not there
LINKS, LAYOUT, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE = 0x02, 0x08, 0x0C, 0x10, 0x11  # kinds of messages
SHARED = 2  # the flag of a message that lies elsewhere, where others use it too
TEXT, VARIABLE = 3, 9  # classes of types: texts of a fixed length, and of any length
CHUNKED = 2  # the class of a layout
TIMES_HEADER = 16  # bytes that libhdf5 allocates and keeps for each byte of an object's header


@dataclass(frozen=True)
class Header:
    """What the file says of a group or a dataset.

    Attributes:
        name: of the object, for messages.
        messages: kind, flags and content of each.
    """

    name: str
    messages: list[tuple[int, int, bytes]]

    def first(self, kind: int) -> bytes:
        """The content of the first message of a kind; empty without one."""
        return next((content for found, _, content in self.messages if found == kind), b"")

    @property
    def is_dataset(self) -> bool:
        """Whether it has numbers."""
        return bool(self.first(LAYOUT))

    @property
    def is_shared(self) -> bool:
        """Whether a part of it lies elsewhere."""
        return any(flags & SHARED for _, flags, _ in self.messages)


class Structure:
    """Reads the structure from the file's bytes.

    Args:
        file: for messages.
        content: its bytes, which libhdf5 has opened.
        budget: of the file.

    Raises:
        ValueError: for addresses and lengths of another size than 8 bytes.
    """

    def __init__(self, file: Path, content: Source, budget: Budget) -> None:
        self._file, self._content, self._budget = file, content, budget
        self._base = 0  # libhdf5 looks for the beginning at 0, 512, 1024, 2048, …
        while self._bytes(0, 8, "the superblock") != SIGNATURE:
            self._base = max(512, 2 * self._base)
        block = self._bytes(0, 80, "the superblock")
        is_old = block[8] < 2
        sizes = (block[13], block[14]) if is_old else (block[9], block[10])
        if sizes != (8, 8):
            raise ValueError(f"{file} has addresses of {sizes[0]} bytes and lengths of {sizes[1]}; both should have 8")
        self.root = _number(block, (68 if block[8] else 64) if is_old else 36)

    def header(self, address: int, name: str) -> Header:
        """The header of the object at an address.

        Raises:
            ValueError: where it reaches beyond the file, or a part of it contains itself.
            OverBudget: where it is too long.
        """
        subject = f"the header of {shown(name)}"
        start = self._bytes(address, 16, subject)
        is_new = start[:5] == HEADER
        if not is_new and start[0] != 1:
            raise ValueError(f"{self._file} is damaged: {subject} should begin at byte {self._base + address}")
        if is_new:
            flags = start[5]
            at = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)  # times, and numbers of attributes
            width = 1 << (flags & 3)
            length = int.from_bytes(self._bytes(address + at, width, subject), "little")
            blocks, head = [(address + at + width, length)], 6 if flags & 0x04 else 4
        else:
            blocks, head = [(address + 16, _number(start, 8, 4))], 8
        messages, seen = [], set()
        while blocks:
            place, length = blocks.pop(0)
            if place in seen:
                raise ValueError(f"{self._file} is damaged: {subject} contains itself")
            seen.add(place)
            self._budget.make(subject, TIMES_HEADER * length)
            block, at = self._bytes(place, length, subject), 0
            while at + head <= len(block):
                kind, size, flags = (
                    (block[at], _number(block, at + 1, 2), block[at + 3])
                    if is_new
                    else (_number(block, at, 2), _number(block, at + 2, 2), block[at + 4])
                )
                content = block[at + head : at + head + size]
                at += head + size
                if kind == CONTINUATION:
                    place, length = _number(content, 0), _number(content, 8)
                    # the newer kind has a signature before, and a checksum behind
                    blocks.append((place + 4, max(0, length - 8)) if is_new else (place, length))
                else:
                    messages.append((kind, flags, content))
        return Header(name, messages)

    def check_names(self, header: Header) -> None:
        """Checks the tree of the names in a group.

        Raises:
            ValueError: where the tree contains itself, where a part of it is no tree, and for names in a fractal heap.
            OverBudget: where it has too many nodes.
        """
        if (links := header.first(LINKS)) and _number(links, 10 if _number(links, 1, 1) & 1 else 2) != UNDEFINED:
            raise ValueError(
                f"{self._file}: {shown(header.name)} has its names in a fractal heap, which can't be read; copy its "
                "parts to a file that h5py opens with libver='earliest', as by default"
            )
        if symbol_table := header.first(SYMBOL_TABLE):
            self._check_tree(_number(symbol_table, 0), 8, f"the tree of the names in {shown(header.name)}")

    def check_chunks(self, header: Header) -> None:
        """Checks the tree of a dataset's chunks.

        Raises:
            ValueError, OverBudget: as `check_names`.
        """
        layout = header.first(LAYOUT)
        version, *facts = layout[:3].ljust(3, b"\0")
        at = 3 if version == 3 else 8
        kind, axes = facts if version == 3 else reversed(facts)
        if version <= 3 and kind == CHUNKED:
            self._check_tree(_number(layout, at), 8 + 8 * axes, f"the tree of the chunks of {shown(header.name)}")

    def _check_tree(self, address: int, key: int, subject: str) -> None:
        """`key`: the size of a key, of which there is one before each branch and one behind the last.

        Nodes side by side aren't followed: libhdf5 does that only to count them.
        """
        left, seen = [(address, -1)] if address != UNDEFINED else [], set()
        while left:
            place, expected = left.pop()
            self._budget.step(subject)
            node = self._bytes(place, 24, subject)
            level, count = node[5], _number(node, 6, 2)
            if node[:4] != TREE or level != (level if expected < 0 else expected):
                raise ValueError(f"{self._file} is damaged: {subject} should have a node at byte {self._base + place}")
            if place in seen:
                raise ValueError(f"{self._file} is damaged: {subject} contains itself")
            seen.add(place)
            if level:
                branches = self._bytes(place + 24, count * (key + 8), subject)
                left += [(_number(branches, i * (key + 8) + key), level - 1) for i in range(count)]

    def text(self, header: Header, name: bytes, longest: int) -> bytes:
        """The attribute of that name, where it is one short text; empty without one.

        Raises:
            ValueError: where the text lies beyond the file.
            OverBudget: where it lies in too large a heap.
        """
        for kind, _, content in header.messages:
            if kind != ATTRIBUTE or not content or not 1 <= (version := content[0]) <= 3:
                continue
            sizes = [_number(content, at, 2) for at in (2, 4, 6)]
            unit = 8 if version == 1 else 1  # to whose multiples the parts are filled
            places, at = [], 9 if version == 3 else 8
            for size in sizes:
                places.append(content[at : at + size])
                at += -(-size // unit) * unit
            found, of_type, space = places
            if found.rstrip(b"\0") == name:
                is_one = space[1:2] == b"\0" and space[:1] in (b"\x01", b"\x02") and len(of_type) >= 8
                return self._value(of_type, content[at:], longest) if is_one else b""
        return b""

    def _value(self, of_type: bytes, data: bytes, longest: int) -> bytes:
        kind, size = of_type[0] & 15, _number(of_type, 4, 4)
        if kind == VARIABLE and of_type[1] & 15 == 1:  # of letters
            data, size = self._object(_number(data, 4), _number(data, 12, 4)), _number(data, 0, 4)
        elif kind != TEXT:
            return b""
        return data[:size].rstrip(b"\0 ") if size <= longest else b""

    def _object(self, address: int, wanted: int) -> bytes:
        """An object of a heap, by its number."""
        subject = "a heap of texts"
        start = self._bytes(address, 16, subject)
        if start[:4] != HEAP:
            raise ValueError(f"{self._file} is damaged: {subject} should begin at byte {self._base + address}")
        self._budget.make(subject, _number(start, 8))
        heap, at = self._bytes(address, _number(start, 8), subject), 16
        while at + 16 <= len(heap) and (number := _number(heap, at, 2)):
            size = _number(heap, at + 8)
            if number == wanted and at + 16 + size <= len(heap):
                return heap[at + 16 : at + 16 + size]
            at += 16 + -(-size // 8) * 8
        raise ValueError(f"{self._file} is damaged: {subject} at byte {self._base + address} has no text {wanted}")

    def _bytes(self, address: int, size: int, subject: str) -> bytes:
        start = self._base + address
        if start + size > self._content.size:
            raise ValueError(
                f"{self._file} is damaged: {subject} should lie at bytes {start} to {start + size} of "
                f"{self._content.size}"
            )
        part = self._content[start : start + size]
        return (part.read() if isinstance(part, FileBytes) else part).tobytes()


def _number(content: bytes, at: int, size: int = 8) -> int:
    return int.from_bytes(content[at : at + size], "little")
