"""A full disk loses nothing: an error that tells the room needed, the old files whole, no leftovers, a usable model.

The saves run in full_disk.py, a process of its own, whose crash is a failure here.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import full_disk
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import TEXTS, small_masked_lm

from pyroberta import MaskedLM, Tokenizer
from pyroberta.cli.exit_codes import FAILED
from pyroberta.cli.main import main
from pyroberta.formats import atomic, hdf5_writer, new_files, safetensors_io
from pyroberta.formats.atomic import replacing_directory
from pyroberta.formats.new_files import NewFile, replace_files
from pyroberta.presets.detect import PRESET
from pyroberta.training.callbacks import CSVLogger, ModelCheckpoint

SCRIPT = Path(full_disk.__file__)
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where flushing costs nothing


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as directory:
        yield Path(directory)


def in_little_room(place: Path, *arguments: str) -> dict[str, int]:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(SCRIPT), str(place), *arguments],
        env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def limits(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What this system lets a process limit: a file's size always, a disk of its own mostly."""
    return in_little_room(tmp_path_factory.mktemp("can"), "can")


@pytest.mark.parametrize("job", full_disk.JOBS)
def test_a_save_with_too_little_room_changes_nothing_and_says_what_it_needs(job, place, limits):
    counts = in_little_room(place, limits[-1], job, "few")
    assert counts["failed"] >= 4
    assert counts["saved"] == 2


@pytest.mark.parametrize("job", ["hf", "keras", "lora.h5"])
def test_a_file_that_may_not_be_so_large_changes_nothing_and_says_what_it_needs(job, place):
    counts = in_little_room(place, "file", job, "few")
    assert counts["failed"] >= 8
    assert counts["saved"] == 2


def test_a_disk_that_can_hold_no_more_files_is_told_as_that(place, limits):
    counts = in_little_room(place, limits[len(limits) // 2], "hf", "few")  # a file's size where there is no disk
    assert counts["failed"] >= 8
    assert counts["saved"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("job", full_disk.JOBS)
def test_no_room_of_any_size_is_the_wrong_one(job, place, limits):
    """Of a disk every page and every number of files, of a file every 256 bytes."""
    for limit in limits:
        assert in_little_room(place, limit, job, "16" if limit == "file" else "1")["failed"] >= 4


# --- one file ---------------------------------------------------------------------------------------------------------


shapes = st.lists(st.integers(0, 40), max_size=3).map(tuple)


@given(
    shapes=st.dictionaries(st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3}){0,3}/[0-9]", fullmatch=True), shapes, max_size=8),
    dtype=st.sampled_from(["float32", "float16", "bfloat16", "float64"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_an_hdf5_file_is_as_libhdf5_would_write_it_and_as_large_as_was_said(tmp_path_factory, shapes, dtype, seed):
    rng = np.random.default_rng(seed)
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    tensors = {name: tensor[..., ::-1] if tensor.ndim else tensor for name, tensor in tensors.items()}
    others = {"others/number": np.array(seed, np.int32), "others/array": rng.standard_normal((3, 2))}
    new = hdf5_writer.new_file("x.h5", tensors, dtype, others)
    file = tmp_path_factory.mktemp("h5") / "x.h5"
    new.write(file)
    assert file.stat().st_size == new.size
    with h5py.File(file) as found:
        for name, tensor in tensors.items():
            dataset = found[name]
            assert dataset.shape == tensor.shape
            if dtype == "bfloat16":
                assert (dataset.dtype, dataset.attrs["dtype"]) == (np.dtype("V2"), "bfloat16")
                bits = np.frombuffer(dataset[()].tobytes(), np.uint16).reshape(tensor.shape)
                values = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
                np.testing.assert_allclose(values, tensor, rtol=2.0**-8)
            else:
                np.testing.assert_array_equal(dataset[()], tensor.astype(dtype), strict=True)
        assert (found["others/number"][()], found["others/number"].dtype) == (seed, np.int32)
        np.testing.assert_array_equal(found["others/array"][()], others["others/array"], strict=True)
        places = sorted([*tensors, *others])
        seen: list[str] = []
        found.visititems(lambda name, item: seen.append(name) if isinstance(item, h5py.Dataset) else None)
        assert sorted(seen) == places


def test_an_hdf5_file_never_lies_in_memory():
    tensors = {f"layers/{i}/vars/0": np.broadcast_to(np.float32(i), (4000, 1000)) for i in range(20)}
    tracemalloc.start()
    new = hdf5_writer.new_file("x.h5", tensors, "float32")
    new.write(Path(os.devnull))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert new.size > 320e6
    assert peak < 40e6  # blocks of 2²⁰ numbers, and which of them are finite


def test_a_safetensors_file_is_as_large_as_was_said(tmp_path):
    new = safetensors_io.new_file({"ä": np.ones((3, 5)), "b": np.ones(())}, "bfloat16", {"note": "é"})
    new.write(tmp_path / "x")
    assert (tmp_path / "x").stat().st_size == new.size


def test_an_interrupt_while_a_file_is_laid_out_never_reaches_libhdf5():
    """It would crash where it were raised in a read or write that libhdf5 asks for."""
    script = """
import signal, threading
import numpy as np
from pyroberta.formats import hdf5_writer

asked, calls, when = set(), 0, 0
really = hdf5_writer._Pages.write

def write(self, content):
    global calls
    asked.add(threading.current_thread())
    calls += 1
    if calls == when:
        signal.raise_signal(signal.SIGINT)  # which Python hands to its main thread
    return really(self, content)

hdf5_writer._Pages.write = write
tensors = {f"layers/{i}/vars/0": np.ones((3, 4), np.float32) for i in range(20)}
size = hdf5_writer.new_file("x.h5", tensors, "float32").size
count, interrupts = calls, 0
for when in range(1, count + 1, max(1, count // 15)):
    calls = 0
    try:
        hdf5_writer.new_file("x.h5", tensors, "float32")
    except KeyboardInterrupt:
        interrupts += 1
    else:
        raise SystemExit(f"the interrupt at write {when} of {count} was lost")
assert hdf5_writer.new_file("x.h5", tensors, "float32").size == size
assert threading.main_thread() not in asked
print(interrupts)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5


# --- the steps --------------------------------------------------------------------------------------------------------


@pytest.fixture
def flushed(monkeypatch) -> list[tuple[int, int]]:
    """What was flushed to the disk, by device and inode."""
    found: list[tuple[int, int]] = []
    really = os.fsync

    def fsync(descriptor: int) -> None:
        entry = os.fstat(descriptor)
        found.append((entry.st_dev, entry.st_ino))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def identity(path: Path) -> tuple[int, int]:
    return path.stat().st_dev, path.stat().st_ino


def test_directories_that_were_made_for_a_save_are_flushed_and_so_is_a_single_file(tmp_path, flushed):
    small_masked_lm(dtype="float32").save_to_preset(tmp_path / "a" / "b" / "preset")
    everything = [tmp_path, tmp_path / "a", tmp_path / "a" / "b", *(tmp_path / "a" / "b").rglob("*")]
    assert {identity(path) for path in everything} <= set(flushed)
    del flushed[:]
    model = small_masked_lm(dtype="float32")
    model.backbone.enable_lora(2)
    model.backbone.save_lora_weights(tmp_path / "c" / "d" / "x.lora.h5")
    everything = [tmp_path, tmp_path / "c", tmp_path / "c" / "d", tmp_path / "c" / "d" / "x.lora.h5"]
    assert {identity(path) for path in everything} <= set(flushed)
    del flushed[:]
    model.preprocessor.tokenizer.save(tmp_path / "e" / "f")
    everything = [tmp_path, tmp_path / "e", tmp_path / "e" / "f", *(tmp_path / "e" / "f").iterdir()]
    assert len(everything) == 8
    assert {identity(path) for path in everything} <= set(flushed)


def full(*arguments: object, **keywords: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("old", [True, False])
def test_a_disk_that_is_full_when_the_content_is_flushed_changes_nothing(tmp_path, monkeypatch, old):
    path = tmp_path / "a" / "x"
    if old:
        replace_files(path.parent, {"x": NewFile.of("old")})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"x: the disk is full\. The new file needs [\d,]+ bytes; .* unchanged") as caught:
        replace_files(path.parent, {"x": NewFile.of("new")})
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.rglob("*")) == ([path.parent, path] if old else [])
    if old:
        assert path.read_text() == "old"


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_a_disk_that_is_full_after_the_names_have_changed_is_told_as_that(tmp_path, monkeypatch, kind):
    really = new_files.flush

    def flush(path: Path) -> None:
        (full if Path(path) == tmp_path else really)(path)

    monkeypatch.setattr(new_files, "flush", flush)
    monkeypatch.setattr(atomic, "flush", flush)

    def save() -> None:
        if kind == "file":
            replace_files(tmp_path, {"x": NewFile.of("new")})
        else:
            with replacing_directory(tmp_path / "x", PRESET) as new:
                (new / "config.json").write_text("{}")

    with pytest.raises(OSError, match="x is saved, but the disk can't confirm that its name would survive") as caught:
        save()
    assert caught.value.errno == errno.ENOSPC
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("code", "reason"), [(errno.EDQUOT, "the disk quota is used up"), (errno.EFBIG, "smaller max_shard_size")]
)
def test_other_kinds_of_too_little_room_are_named(tmp_path, monkeypatch, code, reason):
    def refused(self: NewFile, file: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(NewFile, "write", refused)
    with pytest.raises(OSError, match=reason) as caught:
        small_masked_lm(dtype="float32").save_to_preset(tmp_path / "p")
    assert caught.value.errno == code
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_another_kind_stays_what_it_is(tmp_path):
    with pytest.raises(OSError, match="Input/output") as caught, replacing_directory(tmp_path / "p", PRESET):
        raise OSError(errno.EIO, "Input/output error")
    assert caught.value.errno == errno.EIO
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_the_place_of_a_file_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "b").mkdir()
    with pytest.raises(IsADirectoryError, match=r"b: it is a directory\. Give another name"):
        replace_files(tmp_path, {"a": NewFile.of("new"), "b": NewFile.of("new")})
    assert [entry.name for entry in tmp_path.iterdir()] == ["b"]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="file is a file, and not a directory"):
        replace_files(tmp_path / "file" / "a", {"a": NewFile.of("new")})


def test_a_home_directory_is_found_by_its_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    model = small_masked_lm(dtype="float32")
    model.preprocessor.tokenizer.save("~/a/vocabulary")
    assert Tokenizer.load("~/a/vocabulary").vocabulary == Tokenizer.load(tmp_path / "a" / "vocabulary").vocabulary
    log = CSVLogger("~/b/log.csv")
    log.on_train_begin()
    assert (tmp_path / "b" / "log.csv").exists()
    checkpoint = ModelCheckpoint("~/c/d", save_weights_only=True)
    checkpoint.set_model(model)
    checkpoint.on_epoch_end(0, {"loss": 1.0})
    assert MaskedLM.from_preset("~/c/d").backbone.config == model.backbone.config
    model.backbone.enable_lora(2)
    for name in ("~/e/f/adapter", "~/e/f/x.lora.h5"):
        model.backbone.save_lora_weights(name)
        small_masked_lm(dtype="float32").backbone.load_lora_weights(name)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "b", "c", "e"]


# --- those that write while a model is trained, and at its end --------------------------------------------------------


def test_a_row_without_room_is_left_out_whole_and_names_the_log(tmp_path):
    script = """
import resource, sys
from pyroberta.training.callbacks import CSVLogger
log = CSVLogger(sys.argv[1])
log.on_train_begin()
log.on_epoch_end(0, {"loss": 2.5})
size = len(open(sys.argv[1]).read())
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 3, resource.RLIM_INFINITY))
try:
    log.on_epoch_end(1, {"loss": 1.25})
except OSError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.on_epoch_end(2, {"loss": 1.125})
"""
    path = tmp_path / "log.csv"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert f"CSVLogger can't write a row of 7 bytes to {path}: File too large" in done.stdout
    assert path.read_text() == "epoch,loss\n0,2.5\n2,1.125\n"


def test_a_trace_without_room_leaves_nothing_and_names_the_file(tmp_path):
    script = """
import resource, sys
from pyroberta.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
sys.exit(main(["trace", "It is late.", "-o", sys.argv[1]]))
"""
    path = tmp_path / "golden.safetensors"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"can't save to {path}: a file is larger than the file system or the limit" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_was_not_saved_is_not_the_one_to_beat(tmp_path, monkeypatch):
    model = small_masked_lm(dtype="float32")
    checkpoint = ModelCheckpoint(tmp_path / "p", monitor="loss", save_best_only=True, save_weights_only=True)
    checkpoint.set_model(model)
    with monkeypatch.context() as patch:
        patch.setattr(MaskedLM, "save_to_preset", full)
        with pytest.raises(OSError, match="No space"):
            checkpoint.on_epoch_end(0, {"loss": 1.0})
    checkpoint.on_epoch_end(1, {"loss": 1.5})
    assert (tmp_path / "p").is_dir()
    assert checkpoint.best == 1.5


@pytest.mark.parametrize("rescued", [True, False])
def test_a_model_that_the_command_line_cannot_save_is_saved_elsewhere(tmp_path, monkeypatch, capsys, rescued):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / "here"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    really = MaskedLM.save_to_preset

    def save(self: MaskedLM, directory: str, **how: object) -> None:
        (really if rescued and "rescued" in str(directory) else full)(self, directory, **how)

    monkeypatch.setattr(MaskedLM, "save_to_preset", save)
    command = ["fit", str(tmp_path / "texts.txt"), "-o", str(tmp_path / "out" / "model"), "--quiet"]
    assert main(command) == FAILED
    error = capsys.readouterr().err
    assert "No space left on device" in error
    found = list((tmp_path / "here").iterdir())
    if rescued:
        assert error.endswith(f"the trained model was saved to {found[0]} instead\n")
        assert MaskedLM.from_preset(found[0]).fill_mask("We <mask> you.")
    assert len(found) == rescued


def test_standard_output_to_a_full_disk_is_named():
    if not os.path.exists("/dev/full"):
        return  # Linux's alone
    command = [sys.executable, "-m", "pyroberta", "presets"]
    with open("/dev/full", "w") as disk:
        done = subprocess.run(command, stdout=disk, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == FAILED
    message = f"[Errno {errno.ENOSPC}] can't write to standard output: No space left on device"
    assert done.stderr == f"pyroberta presets: error: {message}\n"
