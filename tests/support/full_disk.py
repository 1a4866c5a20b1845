"""Saves onto disks with too little room, in a process of its own: a crash of it is a failure that the caller sees.

    python full_disk.py DIRECTORY LIMIT JOB STEP

LIMIT is "disk", a small tmpfs in a mount namespace of the process, "inodes", one that holds few files, or "file", the
limit on a file's size (RLIMIT_FSIZE), which takes no rights. The room is raised from none until the save succeeds, by
STEP: pages of a disk, files, and 16 times as many bytes of a file; STEP "few" takes six rooms between none and enough.
What each save leaves is compared with what was there. Prints a line of JSON: how many saves failed and succeeded.
`python full_disk.py DIRECTORY can` prints the limits that this system lets a process have.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REMOUNT, MS_REC, MS_PRIVATE = 0x20, 0x4000, 0x40000
PAGE = os.sysconf("SC_PAGE_SIZE")
PLENTY = 64 << 20
LIBC = ctypes.CDLL(None, use_errno=True)


# --- little room ------------------------------------------------------------------------------------------------------


def call(function: Any, *arguments: Any) -> None:
    if function(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def private_mounts() -> None:
    """Gives this process mounts of its own, as root, or as a user who becomes root in a namespace of his own."""
    user, group = os.getuid(), os.getgid()
    try:
        call(LIBC.unshare, CLONE_NEWNS)
    except OSError:
        call(LIBC.unshare, CLONE_NEWNS | CLONE_NEWUSER)  # works while the process has one thread
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    call(LIBC.mount, b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def mount(place: Path, options: str, flags: int = 0) -> None:
    call(LIBC.mount, b"none", os.fsencode(place), b"tmpfs", flags, options.encode())


class Disk:
    """A tmpfs. Its room is in pages of what is free."""

    unit = PAGE

    def __init__(self, place: Path) -> None:
        self.place = place
        mount(place, f"size={PLENTY},nr_inodes=5000")

    def used(self) -> int:
        found = os.statvfs(self.place)
        return found.f_blocks - found.f_bfree

    def limit(self, room: int) -> None:
        mount(self.place, f"size={(self.used() + room) * PAGE}", MS_REMOUNT)
        assert os.statvfs(self.place).f_bavail == room

    def free(self) -> None:
        mount(self.place, f"size={PLENTY}", MS_REMOUNT)

    code = errno.ENOSPC


class Inodes(Disk):
    """A tmpfs with few files. Its room is the number of files and directories that can be made."""

    unit = 1

    def used(self) -> int:
        found = os.statvfs(self.place)
        return found.f_files - found.f_ffree

    def limit(self, room: int) -> None:
        mount(self.place, f"nr_inodes={self.used() + room}", MS_REMOUNT)
        assert os.statvfs(self.place).f_favail == room

    def free(self) -> None:
        mount(self.place, "nr_inodes=5000", MS_REMOUNT)


class File:
    """A file's size is limited. The room is in units of 16 bytes."""

    unit = 16

    def __init__(self, place: Path) -> None:
        self.place = place

    def used(self) -> int:
        sizes = [path.stat().st_size for path in self.place.rglob("*") if path.is_file()]
        return -(-max(sizes, default=0) // self.unit)

    def limit(self, room: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room * self.unit, resource.RLIM_INFINITY))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    code = errno.EFBIG


# --- what is saved ----------------------------------------------------------------------------------------------------


def model(seed: int, **changes: Any) -> Any:
    from small_models import small_masked_lm

    return small_masked_lm(dtype="float32", backend="numpy", seed=seed, **changes)


def with_lora(seed: int) -> Any:
    import numpy as np

    made = model(seed)
    made.backbone.enable_lora(2)
    with made.backbone.changing() as params:
        for name, array in params.items():
            if "lora" in name:
                array[...] = np.random.default_rng(seed).standard_normal(array.shape)
    return made


def trained(seed: int) -> Any:
    from small_models import TEXTS

    made = model(seed)
    made.fit(TEXTS, verbose=0)
    return made


def preset(make: Callable[[int], Any], **how: Any) -> tuple[Any, ...]:
    def save(made: Any, path: Path) -> None:
        made.save_to_preset(path, **how)

    def same(made: Any, path: Path) -> bool:
        from pyroberta import MaskedLM

        state = how.get("include_optimizer", False)
        found = MaskedLM.from_preset(path, backend="numpy", load_optimizer=state)
        assert not state or found.optimizer.iterations == made.optimizer.iterations
        tokens = found.preprocessor.tokenizer.vocabulary == made.preprocessor.tokenizer.vocabulary
        return tokens and found.backbone.params.flat.tobytes() == made.backbone.params.flat.tobytes()

    return make, save, same, "preset"


def adapter(name: str) -> tuple[Any, ...]:
    def save(made: Any, path: Path) -> None:
        made.backbone.save_lora_weights(path)

    def same(made: Any, path: Path) -> bool:
        import numpy as np

        found = model(0)
        found.backbone.load_lora_weights(path)
        for each in (found, made):
            each.backbone.merge_lora()
        return np.allclose(found.backbone.params["layers.1.attention.query.kernel"],
                           made.backbone.params["layers.1.attention.query.kernel"], atol=1e-5)  # fmt: skip

    return with_lora, save, same, name


def tokenizer() -> tuple[Any, ...]:
    def save(made: Any, path: Path) -> None:
        made.preprocessor.tokenizer.save(path)

    def same(made: Any, path: Path) -> bool:
        from pyroberta import Tokenizer

        return Tokenizer.load(path).vocabulary == made.preprocessor.tokenizer.vocabulary

    return model, save, same, "vocabulary"


JOBS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "hf": lambda: preset(model),
    "hf-optimizer": lambda: preset(trained, include_optimizer=True),
    "hf-shards": lambda: preset(model, max_shard_size="4KB"),
    "keras": lambda: preset(model, format="keras"),
    "keras-optimizer": lambda: preset(trained, format="keras", include_optimizer=True),
    "keras-shards": lambda: preset(model, format="keras", max_shard_size="4KB"),
    "peft": lambda: adapter("adapter"),
    "lora.h5": lambda: adapter("x.lora.h5"),
    "tokenizer": tokenizer,
}


# --- the saves --------------------------------------------------------------------------------------------------------


def tree(directory: Path) -> dict[str, bytes | None]:
    """What is there: files with their bytes, directories as None."""
    paths = sorted(directory.rglob("*"))
    return {str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None for path in paths}


def put(found: dict[str, bytes | None], directory: Path) -> None:
    """Makes a directory hold what a `tree` has, and nothing else."""
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, content in found.items():
        (directory / name).mkdir() if content is None else (directory / name).write_bytes(content)


def rooms(step: str, enough: int) -> Iterator[int]:
    if step == "few":
        yield from sorted({0, 1, enough // 3, enough * 2 // 3, enough - 1, enough})
    else:
        yield from range(0, enough + 1, int(step))


def check_message(error: OSError, path: Path, limit: Disk | File, room: int) -> None:
    assert error.errno == limit.code, error
    text = str(error)
    assert str(path) in text, text
    assert "The old files are unchanged" in text, text
    found = re.search(r"needs? ([\d,]+) bytes(?:, the largest ([\d,]+))?; ([\d,]+) bytes are free", text)
    assert found, text
    needed, largest, free = (int((number or found[1]).replace(",", "")) for number in found.groups())
    if isinstance(limit, Inodes):
        assert needed < free
        assert "can hold no more files" in text or room > 0, text
    elif isinstance(limit, Disk):
        assert free == room * PAGE, (text, room)
        assert needed > free or "needs some of them for itself" in text, text
    else:
        assert largest > room * limit.unit, text


def run(limit: Disk | File, job: str, step: str) -> dict[str, int]:
    make, save, same, name = JOBS[job]()
    old, new = make(1), make(2)
    text = "The quick brown <mask> jumped."
    answer = new.predict([text], verbose=0).tobytes()
    counts = {"failed": 0, "saved": 0}
    for start in ("over", "fresh"):
        place = limit.place / ("x" if start == "over" else "new/place")
        path = place / name
        if start == "over":
            save(old, path)
        before = tree(limit.place)

        def attempt(path: Path = path, new: Any = new) -> None:
            save(new, path)

        def prepare(before: dict[str, bytes | None] = before) -> None:
            limit.free()
            put(before, limit.place)

        prepare()
        used = limit.used()
        enough = find_enough(limit, attempt, prepare)
        for room in rooms(step, enough):
            prepare()
            limit.limit(room)
            try:
                save(new, path)
            except OSError as error:
                check_message(error, path, limit, room)
                assert tree(limit.place) == before, f"{start}, room {room}: {sorted(tree(limit.place))}"
                assert limit.used() == used, "room is still taken"
                counts["failed"] += 1
            else:
                limit.free()
                assert same(new, path), f"{start}, room {room}: another model was saved"
                assert sorted(os.listdir(place)) == [name]
                counts["saved"] += 1
                if job in ("peft", "lora.h5"):
                    new = make(2)  # it was merged to be compared
            assert new.predict([text], verbose=0).tobytes() == answer, "the model in memory has changed"
    limit.free()
    return counts


def find_enough(limit: Disk | File, save: Callable[[], None], prepare: Callable[[], None]) -> int:
    """The least room in which the save succeeds, by bisection below what it leaves."""
    prepare()
    save()
    low, high = -1, limit.used()
    while high - low > 1:
        middle = (low + high) // 2
        prepare()
        limit.limit(middle)
        try:
            save()
        except OSError:
            low = middle
        else:
            high = middle
    return high


def main() -> None:
    place = Path(sys.argv[1])
    if sys.argv[2] == "can":
        found = ["file"]
        try:
            private_mounts()
            Disk(place)
        except OSError:
            pass
        else:
            found += ["inodes", "disk"]
        print(json.dumps(found))
        return
    _, _, kind, job, step = sys.argv
    if kind != "file":
        private_mounts()  # before NumPy starts threads
    limit = {"disk": Disk, "inodes": Inodes, "file": File}[kind](place)
    print(json.dumps(run(limit, job, step)))


if __name__ == "__main__":
    main()
