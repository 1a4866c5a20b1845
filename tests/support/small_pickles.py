"""Pickles by hand, as torch writes them, and the two kinds of files that torch puts them in."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np

from pyroberta.formats import torch_io


def name_of(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(
    key: str, shape: tuple[int, ...], kind: str = "FloatStorage", offset: int = 0, strides=None, view: bytes = b""
) -> bytes:
    size = int(np.prod(shape))
    if strides is None:
        strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    storage = b"(" + text("storage") + name_of("torch", kind) + text(key) + text("cpu") + number(size) + view + b"tQ"
    return (
        name_of("torch._utils", "_rebuild_tensor_v2")
        + b"("
        + storage
        + number(offset)
        + numbers(shape)
        + numbers(strides)
        + b"\x89"
        + name_of("collections", "OrderedDict")
        + b")Rt"
        + b"R"
    )


def state(**tensors: bytes) -> bytes:
    return name_of("collections", "OrderedDict") + b")R(" + b"".join(text(k) + v for k, v in tensors.items()) + b"u"


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def zipped(path: Path, body: bytes, data: dict[str, bytes], compression=zipfile.ZIP_STORED, **more: bytes) -> Path:
    entries = {"data.pkl": pickled(body), **more, **{f"data/{key}": content for key, content in data.items()}}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():  # without the time, so it is always the same
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content, compression)
    return path


def older(path: Path, body: bytes, data: dict[str, np.ndarray], little: bool = True) -> Path:
    parts = [
        pickle.dumps(torch_io.MAGIC, 2),
        pickle.dumps(1001, 2),
        pickle.dumps({"protocol_version": 1001, "little_endian": little, "type_sizes": {"int": 4}}, 2),
        pickled(body),
        pickle.dumps(list(data), 2),
    ]
    for values in data.values():
        parts.append(struct.pack("<q", values.size) + values.tobytes())
    path.write_bytes(b"".join(parts))
    return path
