"""torch's files of weights, of both kinds: pickles that hold code, do not fit together, or take too much."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from small_pickles import name_of, number, older, pickled, state, tensor, text, zipped
from small_presets import hf_tensors

from bad_presets.hf import sound_hf
from bad_presets.spoiling import (
    CALLS,
    CONFIG,
    TOUCH,
    Case,
    Harmful,
    Sound,
    Spoil,
    cut,
    doubled,
    empty,
    instead,
    overwritten,
    put,
)
from pyroberta.formats import torch_io


def bodies() -> tuple[bytes, dict[str, np.ndarray]]:
    tensors = hf_tensors(CONFIG)
    body = name_of("collections", "OrderedDict") + b")R("
    body += b"".join(text(name) + tensor(name, values.shape) for name, values in tensors.items()) + b"u"
    return body, tensors


def sound_bin(directory: Path) -> Path:
    sound_hf(directory)
    (directory / "model.safetensors").unlink()
    body, tensors = bodies()
    zipped(directory / "pytorch_model.bin", body, {name: values.tobytes() for name, values in tensors.items()})
    return directory


def sound_older(directory: Path) -> Path:
    sound_bin(directory)
    body, tensors = bodies()
    body = body.replace(b"tQ", b"NtQ")  # a storage is a view of none
    older(directory / "pytorch_model.bin", body, tensors)
    return directory


SOUND = {"bin": Sound(sound_bin), "older": Sound(sound_older)}


def pickle_zip(body: bytes, data: dict[str, bytes] | None = None, **how: Any) -> Spoil:
    return lambda d: zipped(d / "pytorch_model.bin", body, data or {}, **how)


def pickle_old(body: bytes) -> Spoil:
    return lambda d: older(d / "pytorch_model.bin", body, {})


def spread(key: str, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """A tensor whose storage has one number."""
    return tensor(key, shape, strides=strides).replace(number(shape[0]) + b"tQ", number(1) + b"tQ")


def turned_views() -> tuple[bytes, dict[str, bytes]]:
    """Two hundred matrices of a million numbers, all of them one storage turned around."""
    view = tensor("0", (1000, 1000), strides=(1, 1000))
    return state(**{f"a{i}": view for i in range(200)}), {"0": bytes(4_000_000)}


def zip_of_pickle(directory: Path, content: bytes) -> None:
    with zipfile.ZipFile(directory / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", content)


def old_with_keys(keys: bytes) -> bytes:
    facts = (torch_io.MAGIC, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(fact, 2) for fact in facts) + pickled(ONE.replace(b"tQ", b"NtQ")) + pickled(keys)


def old_ending(body: bytes) -> Spoil:
    """An older file that ends within the pickle of its tensors."""
    facts = (torch_io.MAGIC, 1001, {"little_endian": True})
    return put("pytorch_model.bin", b"".join(pickle.dumps(fact, 2) for fact in facts) + b"\x80\x02" + body)


def another_count(directory: Path) -> None:
    """The last tensor of an older file, of 8 numbers, is said to have 9."""
    file = directory / "pytorch_model.bin"
    made = file.read_bytes()
    file.write_bytes(made[:-40] + struct.pack("<q", 9) + made[-32:])


ONE = state(a=tensor("0", (6,)))
BIAS = "lm_head.dense.bias"  # of 8 numbers, which take 32 bytes


def repacked(content: bytes, size: int, method: int = zipfile.ZIP_DEFLATED, flags: int = 0, crc: int = 0) -> Spoil:
    """A sound zip, but the numbers of `BIAS` are `content`, and the directory says another size and way of packing."""

    def spoil(directory: Path) -> None:
        body, tensors = bodies()
        data = {name: values.tobytes() for name, values in tensors.items() if name != BIAS}
        file = zipped(directory / "pytorch_model.bin", body, data | {BIAS: content})
        made = file.read_bytes()
        at = made.rindex(b"PK\x01\x02")  # the last entry of the directory
        made = made[: at + 8] + struct.pack("<HH", flags, method) + made[at + 12 :]
        made = made[: at + 16] + struct.pack("<I", crc) + made[at + 20 :]
        file.write_bytes(made[: at + 24] + struct.pack("<I", size) + made[at + 28 :])

    return spoil


def deflated(content: bytes, times: int = 1) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH)) * times


def moved(directory: Path) -> None:
    """The directory is said to begin after the place where it ends."""
    file = directory / "pytorch_model.bin"
    made = file.read_bytes()
    file.write_bytes(made[:-6] + struct.pack("<I", 1 << 30) + made[-2:])


def zip_with_a_bad_name(directory: Path) -> None:
    """An entry whose name is said to be UTF-8, and isn't."""
    file = zipped(directory / "pytorch_model.bin", ONE, SIX | {"é": b""})
    file.write_bytes(file.read_bytes().replace("é".encode(), b"\xff\xff"))


def again(value: bytes, step: bytes, times: int, before: bytes = b"") -> bytes:
    """A value that is made once, and then used again and again by two bytes; what came of it is dropped."""
    return value + b"q\x01" + before + b"q\x02" + times * (step + b"0")


def counted(count: int) -> bytes:
    """A dict of so many small keys."""
    return b"}(" + b"".join(b"M" + struct.pack("<H", i) + b"N" for i in range(count)) + b"u"


SAME_HASH = b"".join(b"\x8a\x10" + (i * ((1 << 61) - 1)).to_bytes(16, "little") + b"N" for i in range(1, 20_001))
TEXT_KEYS = b"}(" + b"".join(text(f"{i}") + b"N" for i in range(20_000)) + b"u"
NAMESPACE = name_of("argparse", "Namespace") + b")\x81"
TENSOR, PARAMETER = (name_of("torch._utils", f"_rebuild_{name}") for name in ("tensor_v2", "parameter"))
TUPLES, LISTS = doubled(b"N\x85", b"\x86"), doubled(b"]", b"\x86")
SIX = {"0": np.arange(6, dtype=np.float32).tobytes()}

# Pickles that end before they should, or are no pickles, and what is wrong with them.
NOT_FITTING = {
    "an instruction that isn't one": (b"\x7f", r"opcode b'\\x7f' unknown"),
    "nothing to drop": (b"0", "pop from empty list"),
    "nothing at its end": (b".", "pop from empty list"),
    "a tuple that was never begun": (b"Nt", "pop from empty list"),
    "nothing to use again": (b"q\x00", "list index out of range"),
    "a pair for a text": (text("a") + text("b") + b"Ns", "a str where a dict should be"),
    "an item for nothing": (b"Na", "list index out of range"),
    "an item for a dict": (b"}Na", "a dict where a list should be"),
    "a state for a list": (b"]}b", "a state for something that has none"),
    "numbers of a tensor by a number": (number(3) + b"Q", "numbers of a tensor by no name that torch gives"),
    "letters for a number": (b"Iabc\n", "invalid literal for int"),
    "a name that is no ASCII": (b"c\xb3\ncollections\n", "'ascii' codec can't decode byte 0xb3"),
    "a text that is no UTF-8": (b"X\x01\0\0\0\x80", "'utf-8' codec can't decode byte 0x80"),
    "a name without its line's end": (b"cos", "no newline found"),
    "half a number": (b"J\x01", "not enough data in stream"),
    "half a long number": (b"\x8a\xff\x01", "not enough data in stream"),
    "half a text": (b"X\x0a\0\0\0ab", "expected 10 bytes in a unicodestring4, but only 2 remain"),
    "no end": (b"N", "pickle exhausted before seeing STOP"),
}

CASES: dict[str, Case] = {
    **{
        f"an old file with {kind}": Case(
            "older", old_ending(body), f"is damaged: the instructions of a pickle in it are incons.*{words}"
        )
        for kind, (body, words) in NOT_FITTING.items()
    },
    "an old file that is no pickle": Case(
        "older",
        put("pytorch_model.bin", b"\x80\x02?"),
        r"is damaged: the instructions of a pickle in it are incons.*opcode b'\?' unknown",
    ),
    "an old file that begins with another number": Case(
        "older", put("pytorch_model.bin", pickle.dumps(5, 2)), "a pickle, but not a file of torch, which begins with t"
    ),
    "an old file with a text of gigabytes": Case(
        "older", old_ending(b"X\xff\xff\xff\x7f"), "its content other than the numbers .* needs 2147483647 bytes"
    ),
    "an old file with another count of numbers": Case(
        "older", another_count, "is damaged: it has 9 numbers for a tensor of 8"
    ),
    "a name in a pickle that is no ASCII": Case(
        "bin", pickle_zip(b"c\xb3\ncollections\n"), "are inconsistent .'ascii' codec can't decode byte 0xb3"
    ),
    "a zip's directory without its mark": Case(
        "bin", overwritten("pytorch_model.bin", b"PK\x01\x02", 0, b"XX"), "pytorch_model.bin is damaged: Bad magic numb"
    ),
    **empty("bin", "pytorch_model.bin"),
    "a pickle of Python's own": Case(
        "bin", lambda d: zip_of_pickle(d, pickle.dumps({"a": [Harmful()]}, 4)), "system.*could run code"
    ),
    "a bare pickle": Case(
        "bin", lambda d: (d / "pytorch_model.bin").write_bytes(pickle.dumps(Harmful(), 2)), "system|not a file of torch"
    ),
    "a chain of reduces": Case(
        "bin", pickle_zip(b"}" + text("a") + CALLS["builtins.getattr"] + text(TOUCH) + b"\x85Rs"), "could run code"
    ),
    "a persistent id": Case("bin", pickle_zip(b"Pos.system\n"), "PERSID"),
    "a tensor of os.system": Case(
        "bin",
        pickle_zip(b"(" + text("storage") + name_of("os", "system") + text("0") + text("cpu") + number(1) + b"tQ"),
        "a tensor of os.system",
    ),
    "a storage that is no tuple": Case("bin", pickle_zip(number(3) + b"Q"), "are inconsistent"),
    "tuples in tuples as a key": Case("bin", pickle_zip(TUPLES + b"}h\x3cNs"), "neither text nor number"),
    "tuples in tuples in a set": Case("bin", pickle_zip(TUPLES + b"\x8f(h\x3c\x90"), "neither text nor number"),
    "tuples in tuples to be called": Case("bin", pickle_zip(TUPLES + b")R"), "could run code"),
    "tuples in tuples as a storage": Case("bin", pickle_zip(TUPLES + b"Q"), "are inconsistent|a tensor of"),
    "tuples in a Namespace to be called": Case(
        "bin",
        pickle_zip(NAMESPACE + b"}" + text("a") + b"(" + TUPLES + b"1h\x3csb)R"),
        r"it calls \{'a': \(\(.*could run",
    ),
    "tuples in a Namespace for a tensor": Case(
        "bin",
        pickle_zip(TENSOR + b"(" + NAMESPACE + b"}" + text("a") + b"(" + TUPLES + b"1h\x3csbK\x00)))tR"),
        r"no tensor: \(\{'a': \(",
    ),
    "a Namespace for a state": Case(
        "bin", pickle_zip(NAMESPACE + b"}" + text("a") + b"(" + TUPLES + b"1h\x3csb"), "but 'a' is a tuple"
    ),
    "sizes of a text": Case(
        "bin", pickle_zip(again(text("x" * 1000), b"h\x02h\x01\x85R", 500, name_of("torch", "Size"))), "no sizes: 'xxx"
    ),
    "sizes of a long tuple": Case(
        "bin",
        pickle_zip(again(b"(" + b"K\x01" * 1000 + b"t", b"h\x02h\x01\x85R", 500, name_of("torch", "Size"))),
        r"no sizes: \(1, 1, ",
    ),
    "arguments again and again": Case(
        "bin",
        pickle_zip(again(b"(" + b"N" * 5000 + b"t", b"h\x02h\x01R", 500, PARAMETER)),
        "5000 steps are needed for a call of torch._utils._rebuild_parameter",
    ),
    "pairs again and again": Case(
        "bin",
        pickle_zip(
            again(
                b"](" + b"".join(text(f"{i}") + b"N\x86" for i in range(5000)) + b"e",
                b"h\x02h\x01\x85R",
                500,
                name_of("collections", "OrderedDict"),
            )
        ),
        "10000 steps are needed for an OrderedDict's pairs",
    ),
    "a Namespace's state again and again": Case(
        "bin",
        pickle_zip(again(TEXT_KEYS, b"h\x02h\x01b", 500, NAMESPACE)),
        "20000 steps are needed for the state of a Namespace",
    ),
    "a storage's name again and again": Case(
        "bin", pickle_zip(again(b"(" + b"N" * 5000 + b"t", b"h\x01Q", 500, b"N")), "by no name that torch gives"
    ),
    "keys of one hash": Case(
        "bin", pickle_zip(b"}(" + SAME_HASH + b"u"), "50 steps are needed for a key that is no text"
    ),
    "places of one hash": Case(
        "bin", pickle_zip(b"N" + b"".join(b"p%d\n" % (i * ((1 << 61) - 1)) for i in range(1, 9))), "no place 23058430"
    ),
    "two long keys that are equal": Case(
        "bin",
        pickle_zip(text("x" * 400_000) + b"q\x01" + again(text("x" * 400_000), b"h\x02h\x01Ns", 50, b"}")),
        "25000 steps are needed for a key",
    ),
    "a long name again and again": Case(
        "bin", pickle_zip(again(text("x" * 100_000), b"h\x01h\x01\x93", 500, b"N")), "it calls xxx.*could run code"
    ),
    "a name in the zip that is not UTF-8": Case("bin", zip_with_a_bad_name, "has a name that is not UTF-8"),
    "lists in lists for a state": Case("bin", pickle_zip(LISTS), "should hold a dict of tensors"),
    "a million lists": Case(
        "bin", pickle_zip(b"]" * 3_000_000), "1 step is needed for an instruction of a pickle, but only 0 of the 500000"
    ),
    "a huge pickle": Case("bin", pickle_zip(b"N" * 30_000_000), "but at most 10000000 are allowed"),
    "a string that isn't there": Case("bin", pickle_zip(b"X\xff\xff\xff\x7f"), "is damaged"),
    "a pickle without end": Case("bin", lambda d: zip_of_pickle(d, b"\x80\x02]"), "is damaged"),
    "a memo that isn't there": Case("bin", pickle_zip(b"h\x07"), "are inconsistent"),
    "a view of enormous size": Case(
        "bin", pickle_zip(state(a=tensor("0", (1 << 30,), strides=(0,)))), "no tensor|is damaged"
    ),
    "one number spread out": Case("bin", pickle_zip(state(a=spread("0", (1 << 30,), (0,)))), "no tensor"),
    "a view of a million axes": Case(
        "bin", pickle_zip(state(a=tensor("0", (1,) * 40_000, strides=(1,) * 40_000))), "no tensor"
    ),
    "a view beyond": Case("bin", pickle_zip(state(a=tensor("0", (6,), offset=1)), SIX), "reaches to number 6 of 6"),
    "a view backwards": Case("bin", pickle_zip(state(a=tensor("0", (6,), strides=(-1,))), SIX), "no tensor"),
    "many views of one": Case(
        "bin", lambda d: zipped(d / "pytorch_model.bin", *turned_views()), r"lacks 53 of the 53 tensors"
    ),
    "numbers missing": Case("bin", pickle_zip(ONE), "lacks archive/data/0"),
    "fewer numbers": Case("bin", pickle_zip(ONE, {"0": b"1234"}), "has 4 bytes, but its tensors take 24"),
    "a bomb of zeros": Case(
        "bin", pickle_zip(ONE, {"0": bytes(1 << 25)}, compression=zipfile.ZIP_DEFLATED), "its tensors take 24"
    ),
    "a bomb of the right size": Case(
        "bin",
        pickle_zip(state(a=tensor("0", (1 << 23,))), {"0": bytes(1 << 25)}, compression=zipfile.ZIP_DEFLATED),
        r"lacks 53 of the 53 tensors",
    ),
    "a bomb that says it is small": Case(
        "bin", repacked(deflated(bytes(1 << 20), 2048), 32), "decompresses to more than 32 bytes"
    ),
    "a bomb of LZMA": Case("bin", repacked(bytes(99), 32, zipfile.ZIP_LZMA), "bias is compressed by the method 14"),
    "fewer numbers packed than it says": Case(
        "bin",
        repacked(deflated(bytes(8)), 32, crc=zlib.crc32(bytes(8))),
        "dense.bias decompresses to 8 bytes, but the zip says 32",
    ),
    "numbers packed with another sum": Case("bin", repacked(deflated(bytes(32)), 32), "is not the one in the zip"),
    "numbers that can't be unpacked": Case("bin", repacked(b"\xff" * 32, 32), "dense.bias can't be decompressed"),
    "an entry before the beginning": Case(
        "bin", moved, "data.pkl is not at the place that the directory of the zip names"
    ),
    "numbers that are locked": Case("bin", repacked(deflated(bytes(32)), 32, flags=1), "bias is encrypted"),
    "the other byte order": Case("bin", pickle_zip(ONE, SIX, byteorder=b"big"), "other byte order"),
    "half a zip": Case("bin", cut("pytorch_model.bin", 0.5), "neither a zip nor a pickle|damaged"),
    "a zip of nothing": Case(
        "bin", lambda d: zipfile.ZipFile(d / "pytorch_model.bin", "w").close(), "not a file of torch"
    ),
    "the pickle a pipe": Case("bin", instead("pytorch_model.bin", os.mkfifo), "is a pipe"),
    "half an old file": Case("older", cut("pytorch_model.bin", 0.9), "cut short|damaged"),
    "an old file's other byte order": Case(
        "older", lambda d: older(d / "pytorch_model.bin", ONE, {}, little=False), "other byte order"
    ),
    "an old file's keys": Case(
        "older", lambda d: (d / "pytorch_model.bin").write_bytes(old_with_keys(LISTS)), "keys of its tensors"
    ),
}
for name, called in CALLS.items():
    body = b"}" + text("weight") + called + b"s"
    message = f"{name}.*could run code" if "." in name else "could run code"
    CASES[f"{name} in a zip"] = Case("bin", pickle_zip(body), message)
    CASES[f"{name} in an old file"] = Case("older", pickle_old(body), message)
