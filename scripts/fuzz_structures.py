"""Structures for fuzz_presets.py: files that are well formed and ask for much, made at random.

    claims        shapes, sizes, counts and ranks of what isn't there
    repetitions   one thing many times over
    references    one thing by many names, in itself, or elsewhere
    nesting       things in things

Bytes that are changed at random seldom come through the first checks of a format; these do.
"""

from __future__ import annotations

import io
import json
import random
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from small_pickles import name_of, number, numbers, text

SIZES = (0, 1, 2, 3, 8, 100, 1000, 1 << 16, 1 << 20, 1 << 31, (1 << 31) - 1, 1 << 40, (1 << 62) - 1, 1 << 63)
TIMES = (2, 3, 10, 100, 1000, 5000)
KEYS = ("args", "cfg", "model", "arch", "weight", "encoder_layers", "activation_fn", "lm_head.bias", "a", "", "é")
NAMES = (
    ("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"),
    ("collections", "OrderedDict"), ("torch", "Size"), ("argparse", "Namespace"), ("copyreg", "_reconstructor"),
    ("torch", "FloatStorage"), ("torch", "HalfStorage"), ("os", "system"), ("builtins", "getattr"),
)  # fmt: skip


def size(rng: random.Random) -> int:
    """A number that a file may claim."""
    return rng.choice(SIZES) if rng.random() < 0.5 else rng.randrange(1 << rng.choice((3, 8, 16, 33)))


def shape(rng: random.Random) -> tuple[int, ...]:
    return tuple(size(rng) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 9, 32))))


# --- pickles ----------------------------------------------------------------------------------------------------------


class Pickle:
    """Instructions, drawn at random, that mostly fit together."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.kept = rng, 0
        self.made = b""

    def keep(self) -> bytes:
        """Remembers the value on top of the stack."""
        self.kept += 1
        return b"r" + struct.pack("<I", self.kept)

    def again(self) -> bytes:
        """A value from before."""
        return b"j" + struct.pack("<I", self.rng.randint(1, self.kept)) if self.kept else b"N"

    def value(self, deep: int = 0) -> bytes:
        rng = self.rng
        kind = rng.randrange(14 if deep < 6 else 4)
        if kind == 0:
            return rng.choice((b"N", b"\x88", b"]", b")", b"}", b"\x8f", number(rng.randrange(-9, 1 << 30))))
        if kind == 1:
            return text("x" * rng.choice((1, 80, 1000, 100_000)) if rng.random() < 0.2 else rng.choice(KEYS))
        if kind == 2:
            return self.again()
        if kind == 3:
            whole = size(rng) * rng.choice((1, -1, (1 << 61) - 1))
            return b"\x8a\x11" + whole.to_bytes(17, "little", signed=True)
        if kind in (4, 5):  # a tuple or a list of some values, or of one many times
            parts = [self.value(deep + 1) for _ in range(rng.choice((0, 1, 2, 3, 5)))]
            if parts and rng.random() < 0.3:
                return parts[0] + self.keep() + b"0(" + self.again() * rng.choice(TIMES) + b"t"
            return b"(" + b"".join(parts) + (b"t" if kind == 4 else b"l")
        if kind == 6:
            pairs = [text(rng.choice(KEYS)) + self.value(deep + 1) for _ in range(rng.choice((0, 1, 2, 4)))]
            return b"}(" + b"".join(pairs) + b"u"
        if kind == 7:  # a value that holds the one before it twice, and so on
            made = self.value(deep + 1) + self.keep()
            for _ in range(rng.choice((3, 30, 60, 200))):
                last = b"j" + struct.pack("<I", self.kept)
                made += b"0" + last + last + rng.choice((b"\x86", b"\x86", b"\x85")) + self.keep()
            return made if rng.random() < 0.5 else made + self.keep()
        if kind == 8:
            return self.namespace(deep) + self.keep()
        if kind == 9:
            return self.tensor(deep)
        if kind == 10:  # a call of anything, once or many times
            call = name_of(*rng.choice(NAMES)) + self.keep()
            arguments = self.value(deep + 1)
            if rng.random() < 0.7:
                arguments = b"(" + b"".join(self.value(deep + 1) for _ in range(rng.randrange(5))) + b"t"
            return call + arguments + rng.choice((b"R", b"\x81"))
        if kind == 11:
            first = name_of(*rng.choice(NAMES)) + self.keep()
            call = b"j" + struct.pack("<I", self.kept)
            second = b"(" + self.value(deep + 1) + b"t" + self.keep()
            arguments = b"j" + struct.pack("<I", self.kept)
            return first + b"0" + second + b"0(" + (call + arguments + b"R") * rng.choice(TIMES) + b"t"
        if kind == 12:  # a container in itself
            return b"]" + self.keep() + b"j" + struct.pack("<I", self.kept) + b"a"
        return self.value(deep + 1) + self.keep()

    def namespace(self, deep: int) -> bytes:
        made = name_of("argparse", "Namespace") + b")\x81}("
        for key in self.rng.sample(KEYS, self.rng.randrange(1, 5)):
            made += text(key) + self.value(deep + 1)
        return made + b"ub"

    def tensor(self, deep: int) -> bytes:
        rng = self.rng
        kind = name_of("torch", rng.choice(("FloatStorage", "HalfStorage", "LongStorage", "BoolStorage")))
        if rng.random() < 0.1:
            kind = self.value(deep + 1)
        claimed = [min(n, (1 << 31) - 1) for n in shape(rng)]
        strides = [min(size(rng), (1 << 31) - 1) for _ in claimed]
        count = min(size(rng), (1 << 31) - 1)
        key = rng.choice(("0", "1", "lm_head.bias", "../x", "k" * 300))
        storage = (
            b"(" + text("storage") + kind + text(key) + text("cpu") + number(count) + rng.choice((b"", b"N")) + b"tQ"
        )
        if rng.random() < 0.1:
            storage = self.value(deep + 1)
        made = name_of("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + number(rng.choice((0, 0, 1, 99)))
        made += numbers(tuple(claimed)) + numbers(tuple(strides))
        return made + b"\x89" + name_of("collections", "OrderedDict") + b")RtR"


def pickle(rng: random.Random) -> bytes:
    """A pickle of a state or a checkpoint, or of anything."""
    made = Pickle(rng)
    if rng.random() < 0.2:
        return b"\x80\x02" + made.value() + b"."
    parts = [text(key) + made.value() for key in rng.sample(KEYS, rng.randrange(1, 6))]
    return b"\x80\x02}(" + b"".join(parts) + b"u."


def zip_entries(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def of_torch(rng: random.Random, content: bytes) -> bytes:
    """Another pickle in a file of torch's, or another directory of the same zip."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        start = content.index(b".", content.index(b"little_endian")) + 1  # after the facts about the machine
        return content[:start] + pickle(rng) + (content[start:] if rng.random() < 0.5 else b"\x80\x02]X\x01\0\0\00a.")
    entries = zip_entries(content)
    kind = rng.randrange(4)
    if kind < 2:
        entries = {name: pickle(rng) if name.endswith("data.pkl") else part for name, part in entries.items()}
    elif kind == 2:  # what is packed, and how much of it
        name = rng.choice(list(entries))
        entries[name] = bytes(rng.choice((0, len(entries[name]), len(entries[name]), 1 << 16, 1 << 24)))
    else:
        entries |= {f"archive/{rng.choice(('é', 'x', 'data/0'))}{i}": b"" for i in range(rng.choice(TIMES))}
    return zipped(rng, entries)


def of_archive(rng: random.Random, content: bytes) -> bytes:
    """Another structure of one entry of Keras's archive, or another directory of the same zip."""
    entries = zip_entries(content)
    if rng.random() < 0.7:
        name = rng.choice(list(entries))
        entries[name] = STRUCTURES["." + name.rpartition(".")[2]](rng, entries[name])
    else:
        prefix = rng.choice(("../", "/", "assets/", "x", "é"))
        entries |= {f"{prefix}{i}": b"" for i in range(rng.choice(TIMES))}
    return zipped(rng, entries)


def zipped(rng: random.Random, entries: dict[str, bytes]) -> bytes:
    """The entries in a zip, whose directory may claim something else."""
    made = io.BytesIO()
    packing = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(made, "w") as archive:
        for name, part in entries.items():
            archive.writestr(zipfile.ZipInfo(name), part, packing)
    found = made.getvalue()
    return claimed_directory(rng, bytearray(found)) if rng.random() < 0.4 else found


def claimed_directory(rng: random.Random, made: bytearray) -> bytes:
    """One number of an entry of the directory, or of its end, is another."""
    places = [at for at in range(len(made) - 46) if made[at : at + 4] == b"PK\x01\x02"][:400]
    at = rng.choice(places) + rng.choice((8, 10, 16, 20, 24, 28, 30, 32, 42)) if places else 0
    if rng.random() < 0.2:
        at = made.rindex(b"PK\x05\x06") + rng.choice((8, 10, 12, 16, 20))
    length = rng.choice((2, 4))
    made[at : at + length] = (size(rng) % (1 << 8 * length)).to_bytes(length, "little")
    if rng.random() < 0.2:
        made = made.replace("é".encode(), b"\xff\xff")
    return bytes(made)


# --- HDF5 -------------------------------------------------------------------------------------------------------------


PARTS = (b"\x89HDF", b"TREE", b"SNOD", b"HEAP", b"GCOL")  # what the parts of an HDF5 file begin with


def of_hdf5(rng: random.Random, content: bytes) -> bytes:
    return addresses(rng, content) if rng.random() < 0.6 else items(rng, content)


def addresses(rng: random.Random, content: bytes) -> bytes:
    """A part of the file leads to itself, to another part, or elsewhere; or one of its numbers is another."""
    made = bytearray(content)
    found = {part: [match.start() for match in re.finditer(re.escape(part), content)] for part in PARTS}
    places = sorted(place for some in found.values() for place in some)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.choice(found[rng.choice([part for part in PARTS if found[part]])])
        if rng.random() < 0.5:
            known = {place.to_bytes(8, "little") for place in places} | {b"\xff" * 8}
            fields = [at + i for i in range(0, 200, 8) if bytes(made[at + i : at + i + 8]) in known] or [at + 32]
            field, target = rng.choice(fields), rng.choice((at, rng.choice(places), rng.choice(places), 0, 1 << 40))
            made[field : field + 8] = target.to_bytes(8, "little")
        else:
            made[at + rng.randrange(4, 60)] = rng.choice((0, 1, 2, 0xFF, rng.randrange(256)))
        if made[at : at + 4] == b"TREE" and rng.random() < 0.5:
            made[at + 5] = rng.choice((1, 2, 200))  # the level: others than 0 have trees for branches
    return bytes(made)


def items(rng: random.Random, content: bytes) -> bytes:
    """Other groups, datasets, links and attributes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.h5")
        file.write_bytes(content)
        with h5py.File(file, "r+") as opened:
            for _ in range(rng.choice((1, 1, 2, 3))):
                rng.choice(CHANGES)(rng, opened)
        return file.read_bytes()


def datasets(opened: Any) -> list[str]:
    found: list[str] = []
    opened.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found or ["x"]


def claim(rng: random.Random, opened: Any) -> None:
    """A dataset is another: of a shape that it has or has not, of any type, and perhaps never written."""
    path = rng.choice(datasets(opened))
    dims = opened[path].shape if path in opened and rng.random() < 0.6 else shape(rng)[:8]
    if path in opened:
        del opened[path]
    kind = rng.choice(
        ("f4", "f4", "f8", "f2", "i8", "V2", "V9", "S80", h5py.string_dtype(), [("a", "f4")], "f4,i8", bool)
    )
    how: dict[str, Any] = {}
    if dims and rng.random() < 0.5 and min(dims) > 0:
        how["chunks"] = tuple(min(n, rng.choice((1, 4, 1 << 12))) for n in dims)
        how["fillvalue"] = None if rng.random() < 0.7 or not isinstance(kind, str) or kind[0] != "f" else 1.0
        if rng.random() < 0.5:
            how |= {"compression": "gzip", "shuffle": rng.random() < 0.5, "fletcher32": rng.random() < 0.5}
    made = opened.create_dataset(path, dims, kind, **how)
    count = int(np.prod(dims, dtype=object))
    pieces = int(np.prod([-(-n // m) for n, m in zip(dims, how.get("chunks", dims), strict=True) if m], dtype=object))
    is_small = max(count, *dims, 0) < 1 << 20 and pieces < 1000  # a side of 0 makes no other side small
    if rng.random() < 0.5 and isinstance(kind, str) and kind[0] == "f" and is_small:
        made[...] = 1.0
    attribute(rng, made)


def attribute(rng: random.Random, item: Any) -> None:
    values: list[Any] = [
        "bfloat16",
        "x" * 9000,
        1.5,
        ["bfloat16"] * 500,
        np.zeros(4000),
        h5py.Empty("f4"),
        [],
        b"bfloat16",
    ]
    item.attrs[rng.choice(("dtype", "dtype", "x"))] = rng.choice(values)


def link(rng: random.Random, opened: Any) -> None:
    path, other = rng.choice(datasets(opened)), rng.choice(datasets(opened))
    made = rng.choice((h5py.SoftLink("/" + other), h5py.SoftLink("/x" * 99), h5py.ExternalLink("x.h5", "/a"), opened))
    target = opened[other] if made is opened and other in opened and rng.random() < 0.5 else made
    if path in opened:
        del opened[path]
    opened[path] = target


def nest(rng: random.Random, opened: Any) -> None:
    opened.create_group("/".join("abcdefgh"[: rng.randrange(1, 9)] * rng.choice((1, 2, 20))))


def repeat(rng: random.Random, opened: Any) -> None:
    group = opened.require_group(rng.choice(("layers", "lora", "optimizer/vars", "x")))
    for i in range(rng.choice((2, 10, 100, 1000))):
        name = f"again{i}"
        if name not in group:
            group[name] = group if rng.random() < 0.02 else float(i)


def opaque(rng: random.Random, opened: Any) -> None:
    """Packed bytes of a chunk that are not what was packed."""
    path = rng.choice(datasets(opened))
    dims = opened[path].shape if path in opened else (8,)
    if not dims or 0 in dims or int(np.prod(dims, dtype=object)) > 1 << 20:
        return
    if path in opened:
        del opened[path]
    made = opened.create_dataset(path, dims, "f4", chunks=dims, compression="gzip")
    packed = zlib.compress(bytes(rng.choice((0, 4 * int(np.prod(dims)), 1 << 20, 1 << 24))))
    made.id.write_direct_chunk((0,) * len(dims), packed[: rng.choice((len(packed), 5))], rng.choice((0, 0, 1)))


CHANGES: tuple[Callable[[random.Random, Any], None], ...] = (claim, claim, claim, link, nest, repeat, opaque)


# --- JSON and text ----------------------------------------------------------------------------------------------------


def of_json(rng: random.Random, content: bytes) -> bytes:
    """A part of it grows: deep, wide, long or often."""
    value = json.loads(content)
    places: list[tuple[Any, Any]] = []
    left = [value]
    while left and len(places) < 2000:
        one = left.pop()
        for key in one.keys() if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ():
            places.append((one, key))
            left.append(one[key])
    container, key = rng.choice(places)
    old = container[key]
    kind = rng.randrange(8)
    made: Any = old
    if kind == 0:
        for _ in range(rng.choice((5, 31, 33, 500))):
            made = [made] if rng.random() < 0.5 else {"a": made}
    elif kind == 1:
        made = [old] * rng.choice(TIMES)
    elif kind == 2:
        made = {f"{i}": old for i in range(rng.choice(TIMES))}
    elif kind == 3:
        made = size(rng)
    elif kind == 4:
        made = "x" * rng.choice((100, 10_000, 1_000_000))
    elif kind == 5 and isinstance(old, dict):
        made = old | {f"{i}": rng.choice(list(old.values()) or [0]) for i in range(rng.choice(TIMES))}
    elif kind == 6 and isinstance(old, list) and old:
        made = old * rng.choice((2, 10, 1000))
    else:
        made = list(shape(rng))
    container[key] = made
    return json.dumps(value).encode()


def of_safetensors(rng: random.Random, content: bytes) -> bytes:
    stop = 8 + struct.unpack("<Q", content[:8])[0]
    header = content[8:stop]
    if rng.random() < 0.5:
        found = json.loads(header)
        entry = found[rng.choice(list(found))]
        if isinstance(entry, dict):
            entry |= {"shape": list(shape(rng)), "data_offsets": [size(rng), size(rng)]}
        header = json.dumps(found).encode()
    else:
        header = of_json(rng, header)
    length = size(rng) % (1 << 64) if rng.random() < 0.1 else len(header)
    return struct.pack("<Q", length) + header + content[stop:]


def of_text(rng: random.Random, content: bytes) -> bytes:
    """Lines of merges or of a dict.txt: again, many, long, or without an end."""
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    kind = rng.randrange(5)
    if kind == 0:
        lines[at:at] = [lines[at]] * rng.choice(TIMES)
    elif kind == 1:
        lines[at:at] = [b"%d %d" % (i, i) for i in range(rng.choice(TIMES))]
    elif kind == 2:
        lines[at] = b"x" * rng.choice((100, 10_000, 1_000_000)) + b" 1"
    elif kind == 3:
        lines = [b" ".join(lines)]
    else:
        lines *= rng.choice((2, 10))
    return b"\n".join(lines)


STRUCTURES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    ".json": of_json, ".safetensors": of_safetensors, ".pt": of_torch, ".bin": of_torch, ".h5": of_hdf5,
    ".txt": of_text, ".bpe": of_text, ".keras": of_archive,
}  # fmt: skip
