"""torch's files are read without torch, and nothing in them is run."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_pickles import name_of, number, older, state, tensor, text, zipped
from strategies import examples

from pyroberta.formats import stored, torch_io
from pyroberta.formats.stored import Stream, open_bytes

A = np.arange(6, dtype=np.float32)
TWO = state(a=tensor("0", (2, 3)), b=tensor("1", (4,), "HalfStorage"))
B = np.arange(4, dtype=np.float16)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 2), st.integers(-1, 300)), max_size=8))
def test_a_stream_of_a_file_s_bytes_reads_as_the_file_does(tmp_path_factory, steps):
    file = tmp_path_factory.mktemp("stream") / "f"
    file.write_bytes(bytes(range(200)))
    with io.BufferedReader(Stream(open_bytes(file)[:150])) as ours:
        theirs = io.BytesIO(bytes(range(150)))
        for offset, whence, size in steps:
            offset = -min(offset, 150) if whence == 2 else offset
            assert ours.seek(offset, whence) == theirs.seek(offset, whence)
            assert ours.read(size) == theirs.read(size)
            assert ours.tell() == theirs.tell()


def test_threads_that_read_one_file_get_their_own_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "MOST_AT_ONCE", 1000)  # so that each needs many reads
    parts = [bytes([i]) * 100_000 for i in range(8)]
    (tmp_path / "f").write_bytes(b"".join(parts))
    content = open_bytes(tmp_path / "f")
    with ThreadPoolExecutor(len(parts)) as pool:
        found = pool.map(lambda i: content[i * 100_000 : (i + 1) * 100_000].read().tobytes(), range(len(parts)))
        assert list(found) == parts


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_gives_its_tensors(tmp_path, compression):
    file = zipped(tmp_path / "m.bin", TWO, {"0": A.tobytes(), "1": B.tobytes()}, compression, byteorder=b"little")
    found = torch_io.read(file)
    assert list(found) == ["a", "b"]
    assert np.array_equal(found["a"].array(), A.reshape(2, 3))
    assert np.array_equal(found["b"].array(), B)
    assert (found["a"].name, found["a"].dtype, found["b"].dtype) == ("a", "F32", "F16")


def test_the_older_kind_gives_its_tensors(tmp_path):
    body = state(a=tensor("k0", (2, 3), view=b"N"), b=tensor("k1", (4,), "HalfStorage", view=b"N"))
    found = torch_io.read(older(tmp_path / "m.pt", body, {"k1": B, "k0": A}))
    assert np.array_equal(found["a"].array(), A.reshape(2, 3))
    assert np.array_equal(found["b"].array(), B)


def test_views_with_strides_and_offsets_are_followed(tmp_path):
    turned = tensor("0", (3, 2), strides=(1, 3))
    file = zipped(tmp_path / "m.bin", state(turned=turned), {"0": A.tobytes()})
    assert np.array_equal(torch_io.read(file)["turned"].array(), A.reshape(2, 3).T)


def test_a_namespace_is_a_dict(tmp_path):
    for made in (
        name_of("argparse", "Namespace") + b")\x81",
        name_of("copy_reg", "_reconstructor")
        + b"("
        + name_of("argparse", "Namespace")
        + name_of("__builtin__", "object")
        + b"NtR",
    ):
        body = b"}(" + text("args") + made + b"}" + text("layers") + number(3) + b"sb" + b"u"
        assert torch_io.read(zipped(tmp_path / "m.pt", body, {})) == {"args": {"layers": 3}}


def test_attributes_of_a_dict_are_left_out(tmp_path):
    """A state_dict has one, _metadata."""
    body = state(a=tensor("0", (6,))) + b"}" + text("_metadata") + b"}sb"
    assert list(torch_io.read_state_dict(zipped(tmp_path / "m.bin", body, {"0": A.tobytes()}))) == ["a"]


def test_other_things_among_the_tensors_are_named(tmp_path):
    file = zipped(tmp_path / "m.bin", state(a=tensor("0", (6,)), step=number(3)), {"0": A.tobytes()})
    with pytest.raises(ValueError, match="should hold only tensors, but 'step' is an int"):
        torch_io.read_state_dict(file)


# --- what is refused --------------------------------------------------------------------------------------------------

MARK = "/tmp/pyroberta-was-here"
HARMFUL = {
    "os.system": name_of("os", "system") + text(f"touch {MARK}") + b"\x85R",
    "posix.system": name_of("posix", "system") + text(f"touch {MARK}") + b"\x85R",
    "builtins.eval": name_of("builtins", "eval") + text(f"open('{MARK}', 'w')") + b"\x85R",
    "builtins.exec": b"\x8c\x08builtins\x8c\x04exec\x93" + text(f"open('{MARK}', 'w')") + b"\x85R",
    "subprocess.Popen": name_of("subprocess", "Popen") + text(f"touch {MARK}") + b"\x85\x81",
    "torch.hub.load": name_of("torch.hub", "load") + text("a/b") + b"\x85R",
    "builtins.getattr": name_of("builtins", "getattr") + name_of("os", "system") + text("__call__") + b"\x86R",
    "runpy.run_path": name_of("runpy", "run_path") + text(MARK) + b"\x85R",
    "INST": b"(" + text(f"touch {MARK}") + b"ios\nsystem\n",
    "OBJ": b"(" + name_of("os", "system") + text(f"touch {MARK}") + b"o",
    "EXT1": b"\x82\x01",
    "a tensor of": b"(" + text("storage") + name_of("os", "system") + text("0") + text("cpu") + number(1) + b"tQ",
}


@pytest.mark.parametrize("name", HARMFUL)
@pytest.mark.parametrize("kind", ["zip", "older"])
def test_what_would_run_is_refused_by_its_name(tmp_path, name, kind):
    body = b"}" + text("weight") + HARMFUL[name] + b"s"
    file = zipped(tmp_path / "m.bin", body, {}) if kind == "zip" else older(tmp_path / "m.bin", body, {})
    with pytest.raises(ValueError, match=rf"{name}.*could run code"):
        torch_io.read(file)
    assert not os.path.exists(MARK)


class Harmful:
    def __reduce__(self):
        return os.system, (f"touch {MARK}",)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pythons_own_pickles_of_an_object_are_refused(tmp_path, protocol):
    file = tmp_path / "m.bin"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps({"a": [Harmful()]}, protocol))
    with pytest.raises(ValueError, match="system"):
        torch_io.read(file)
    assert not os.path.exists(MARK)


def damaged(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    whole = zipped(tmp_path / "whole", TWO, {"0": A.tobytes(), "1": B.tobytes()}).read_bytes()
    old = older(tmp_path / "old", state(a=tensor("k", (6,), view=b"N")), {"k": A}).read_bytes()

    def put(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    def zip_of(name: str, body: bytes, **data: bytes) -> Path:
        return zipped(tmp_path / name, body, data)

    one, numbers_of_a = state(a=tensor("0", (6,))), {"0": A.tobytes()}
    return {
        "empty": (put("empty", b""), "is empty"),
        "text": (put("text", b"version https://git-lfs"), "neither a zip nor a pickle"),
        "half a zip": (put("half", whole[: len(whole) // 2]), "neither a zip nor a pickle"),
        "half an old one": (put("half-old", old[: len(old) // 2]), "damaged|cut short"),
        "numbers cut off": (put("cut", old[:-4]), "cut short"),
        "another pickle": (put("other", pickle.dumps({"a": 1}, 2)), "not a file of torch"),
        "another zip": (zip_named(tmp_path / "z", "a.txt"), "not a file of torch"),
        "no numbers": (zip_of("none", one), "lacks archive/data/0"),
        "fewer numbers": (zip_of("fewer", one, **{"0": A.tobytes()[:-4]}), "has 20 bytes, but its tensors take 24"),
        "beyond": (zip_of("beyond", state(a=tensor("0", (6,), offset=1)), **numbers_of_a), "reaches to number 6 of 6"),
        "negative": (zip_of("neg", state(a=tensor("0", (6,), strides=(-1,))), **numbers_of_a), "no tensor"),
        "no memo": (zip_of("memo", b"h\x07"), "are inconsistent"),
        "no mark": (zip_of("mark", b"t"), "are inconsistent"),
        "nothing left": (zip_of("left", b""), "are inconsistent"),
        "append to a number": (zip_of("append", number(1) + number(2) + b"a"), "are inconsistent"),
        "big-endian": (zipped(tmp_path / "be", one, {"0": A.tobytes()}, byteorder=b"big"), "other byte order"),
        "big-endian old": (older(tmp_path / "beo", one, {}, little=False), "other byte order"),
        "unhashable": (zip_of("hash", b"}]" + number(1) + b"s"), "are inconsistent"),
    }


def zip_named(path: Path, name: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"x")
    return path


def test_what_is_damaged_is_an_error_that_says_so(tmp_path):
    for damage, (file, message) in damaged(tmp_path).items():
        with pytest.raises(ValueError, match=message) as caught:
            torch_io.read(file)
        assert str(file) in str(caught.value), damage


def test_a_bomb_is_no_bomb(tmp_path):
    """Thirty kilobytes that unpack to a thousand times as much; lists in lists; a string that isn't there."""
    zeros = zipped(tmp_path / "zeros", state(a=tensor("0", (2,))), {"0": bytes(1 << 25)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="its tensors take 8"):
        torch_io.read(zeros)
    nested = b"]q\x00" + b"".join(b"]q" + bytes([i + 1]) + b"(" + 9 * (b"h" + bytes([i])) + b"e" for i in range(60))
    assert isinstance(torch_io.read(zipped(tmp_path / "nested", nested, {})), list)
    loop = b"]q\x00h\x00a"
    assert isinstance(torch_io.read(zipped(tmp_path / "loop", loop, {})), list)
    with pytest.raises(ValueError, match="damaged"):
        torch_io.read(zipped(tmp_path / "claims", b"X\xff\xff\xff\x7f", {}))


@given(data=st.binary(max_size=200))
@examples(300)
def test_no_bytes_do_anything_but_raise(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("fuzz") / "m"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/data.pkl", data)
    with contextlib.suppress(ValueError):
        torch_io.read(file)
