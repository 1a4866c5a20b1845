"""The structure of HDF5 files is what h5py says it is, and nothing in it leads libhdf5 astray."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pyroberta.formats import hdf5
from pyroberta.formats.budget import Budget
from pyroberta.formats.hdf5_structure import ATTRIBUTE, UNDEFINED, Structure
from pyroberta.formats.stored import open_bytes

NAMES = ("layers/a/vars/0", "layers/a/vars/1", "layers/packed/vars/0", "layers/half/vars/0")


def written(file: Path, **how: Any) -> Path:
    with h5py.File(file, "w", **how) as opened:
        opened[NAMES[0]] = np.arange(12, dtype="f4").reshape(4, 3)
        opened[NAMES[1]] = np.ones(3, "f4")
        opened.create_dataset(NAMES[2], data=np.arange(1000, dtype="f4"), chunks=(2,), compression="gzip")
        half = opened.create_dataset(NAMES[3], data=np.arange(4, dtype="u2").view("V2"))
        for i in range(5):  # more than the first block of a header has room for
            half.attrs[f"filler{i}"] = np.full(20, i)
        half.attrs["dtype"] = "bfloat16"
    return file


def structure(file: Path) -> Structure:
    content = open_bytes(file)
    return Structure(file, content, Budget(file, content.size))


def read(file: Path) -> dict[str, np.ndarray]:
    with h5py.File(file) as opened:
        wanted = {name: opened[name].shape for name in NAMES}
    return {name: tensor.array() for name, tensor in hdf5.read(file, wanted).items()}


VERSIONS = [{"libver": "earliest"}, {"libver": "latest"}, {"libver": ("earliest", "v108")}]
WAYS = [*VERSIONS, {"userblock_size": 1024}]


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_headers_are_what_h5py_says(tmp_path: Path, how: dict[str, Any]) -> None:
    file = written(tmp_path / "a.h5", **how)
    found = structure(file)
    with h5py.File(file) as opened:
        assert found.root == h5py.h5o.get_info(opened.id).addr
        for name in NAMES:
            info = h5py.h5o.get_info(opened[name].id)
            header = found.header(info.addr, name)
            assert len([1 for kind, _, _ in header.messages if kind == ATTRIBUTE]) == info.num_attrs
            assert header.is_dataset
            assert not header.is_shared
            assert len(header.first(8)) > 0
        layers = found.header(h5py.h5o.get_info(opened["layers"].id).addr, "layers")
        assert not layers.is_dataset


@pytest.mark.parametrize("how", VERSIONS, ids=str)
def test_numbers_are_read(tmp_path: Path, how: dict[str, Any]) -> None:
    found = read(written(tmp_path / "a.h5", **how))
    np.testing.assert_array_equal(found[NAMES[0]], np.arange(12).reshape(4, 3))
    np.testing.assert_array_equal(found[NAMES[2]], np.arange(1000))
    np.testing.assert_array_equal(found[NAMES[3]].view("u4"), np.arange(4, dtype="u4") << 16)


TEXTS: list[tuple[Any, bytes]] = [
    ("bfloat16", b"bfloat16"), (np.bytes_(b"bfloat16"), b"bfloat16"), (np.bytes_(b"x" * 65), b""), ("x" * 65, b""),
    ("", b""), ("é", "é".encode()), (1.5, b""), (["bfloat16"], b""), (h5py.Empty("f4"), b""), (np.zeros(4), b""),
]  # fmt: skip


@pytest.mark.parametrize("how", WAYS, ids=str)
@pytest.mark.parametrize(("value", "expected"), TEXTS, ids=[str(i) for i in range(len(TEXTS))])
def test_one_short_text_is_found(tmp_path: Path, how: dict[str, Any], value: Any, expected: bytes) -> None:
    file = tmp_path / "a.h5"
    with h5py.File(file, "w", **how) as opened:
        for name, text in (("other", "first"), ("dtype", value), ("dtypes", "last")):
            opened.require_dataset("a", (2,), "f4").attrs[name] = text
        address = h5py.h5o.get_info(opened["a"].id).addr
    found = structure(file)
    assert found.text(found.header(address, "a"), b"dtype", 64) == expected
    assert found.text(found.header(address, "a"), b"other", 64) == b"first"
    assert found.text(found.header(address, "a"), b"none", 64) == b""


def nodes(content: bytes, signature: bytes) -> list[int]:
    return [at for at in range(len(content)) if content.startswith(signature, at)]


def overwritten(file: Path, how: Callable[[bytearray], Any]) -> Path:
    content = bytearray(file.read_bytes())
    how(content)
    file.write_bytes(content)
    return file


def test_nodes_side_by_side_in_a_circle_are_not_followed(tmp_path: Path) -> None:
    """libhdf5 counts them forever, where it is asked for an object's size."""
    file = written(tmp_path / "a.h5")
    expected = read(file)

    def circle(content: bytearray) -> None:
        for at in nodes(content, b"TREE"):
            content[at + 8 : at + 24] = 2 * at.to_bytes(8, "little")

    found = read(overwritten(file, circle))
    for name in NAMES:
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_tree_that_contains_itself_is_refused(tmp_path: Path) -> None:
    """libhdf5 descends until the process has no stack left."""
    content = written(tmp_path / "a.h5").read_bytes()
    trees = [at for at in nodes(content, b"TREE") if content[at + 4 : at + 6] == b"\0\0"]
    assert len(trees) > 5
    for at in trees:
        made = content[: at + 5] + b"\x01" + content[at + 6 : at + 32] + at.to_bytes(8, "little") + content[at + 40 :]
        (tmp_path / "a.h5").write_bytes(made)
        with pytest.raises(ValueError, match=r"a\.h5 is damaged: the tree of the names in '.*' should have a node"):
            hdf5.read(tmp_path / "a.h5", {})


def test_a_tree_of_chunks_that_contains_itself_is_refused(tmp_path: Path) -> None:
    content = bytearray(written(tmp_path / "a.h5").read_bytes())
    at = max(at for at in nodes(content, b"TREE") if content[at + 4] == 1 and content[at + 5] > 0)
    children = [at + 24 + 24 * (i + 1) + 8 * i for i in range(2)]
    content[children[1] : children[1] + 8] = content[children[0] : children[0] + 8]  # one branch, twice
    (tmp_path / "a.h5").write_bytes(content)
    wanted = {NAMES[2]: (1000,)}
    with pytest.raises(ValueError, match=r"the tree of the chunks of 'layers/packed/vars/0' contains itself"):
        hdf5.read(tmp_path / "a.h5", wanted)
    assert set(hdf5.read(tmp_path / "a.h5", {})) == set(NAMES)  # what isn't wanted isn't followed


DAMAGED_HEAPS = [  # where, which number there, and what comes of it
    (8, 0, "has no text 1"), (16, 0, "has no text 1"), (16, 2, "has no text 1"), (24, 0, "opaque bytes"),
    (24, 1 << 40, "has no text 1"), (40, 1, "BF16"), (48, 0, "BF16"),
]  # fmt: skip


@pytest.mark.parametrize(("at", "number", "expected"), DAMAGED_HEAPS)
def test_a_damaged_heap_of_texts_is_not_searched_forever(tmp_path: Path, at: int, number: int, expected: str) -> None:
    file = written(tmp_path / "a.h5")

    def damage(content: bytearray) -> None:
        place = content.index(b"GCOL") + at
        content[place : place + 8] = number.to_bytes(8, "little")

    overwritten(file, damage)
    if expected.startswith("has"):
        with pytest.raises(ValueError, match=rf"a\.h5 is damaged: a heap of texts at byte \d+ {expected}"):
            hdf5.read(file, {NAMES[3]: (4,)})
    else:
        assert hdf5.read(file, {NAMES[3]: (4,)})[NAMES[3]].dtype == expected


def test_a_header_that_continues_in_itself_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "a.h5")
    with h5py.File(file) as opened:
        address = h5py.h5o.get_info(opened[NAMES[3]].id).addr

    def circle(content: bytearray) -> None:
        at = address + 16
        while content[at] != 0x10:  # a continuation
            at += 8 + int.from_bytes(content[at + 2 : at + 4], "little")
        content[at + 8 : at + 16] = (address + 16).to_bytes(8, "little")

    with pytest.raises(ValueError, match=r"the header of 'layers/half/vars/0' contains itself"):
        hdf5.read(overwritten(file, circle), {})


def test_names_in_a_fractal_heap_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as opened:
        for i in range(30):
            opened.create_group(f"many/{i}")
    with pytest.raises(ValueError, match=r"'many' has its names in a fractal heap, which can't be read; .*earliest"):
        hdf5.read(tmp_path / "a.h5", {})


def test_addresses_of_another_size_are_refused(tmp_path: Path) -> None:
    plan = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    plan.set_sizes(4, 8)
    h5py.h5f.create(bytes(tmp_path / "a.h5"), h5py.h5f.ACC_TRUNC, plan).close()
    with pytest.raises(ValueError, match=r"a\.h5 has addresses of 4 bytes and lengths of 8; both should have 8"):
        hdf5.read(tmp_path / "a.h5", {})


def test_the_root_is_no_part_of_itself(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as opened:
        opened["a/b"] = opened["/"]
    with pytest.raises(ValueError, match="'a/b' is a second name of an earlier entry"):
        hdf5.read(tmp_path / "a.h5", {})


def test_an_empty_tree_is_none(tmp_path: Path) -> None:
    file = tmp_path / "a.h5"
    with h5py.File(file, "w") as opened:
        opened.create_dataset("a", (4,), "f4", chunks=(2,))
        address = h5py.h5o.get_info(opened["a"].id).addr
    found = structure(file)
    header = found.header(address, "a")
    assert int.from_bytes(header.first(8)[3:11], "little") == UNDEFINED
    found.check_chunks(header)
