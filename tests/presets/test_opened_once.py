"""A preset is opened once: no file is read twice, and a hub is asked once which commit or version a handle stands for.

Reads are counted by an audit hook, which Python calls for every file that it opens. A hook stays, so it is in a process
of its own. libhdf5 opens files without Python; of HDF5 files the hook sees what pyroberta itself reads.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_fairseq
from loopback_hub import ROOT, Hub, Process, Repository, files_of
from small_models import random_params, small_masked_lm, small_tokenizer
from small_presets import kerashub_params, preset

from pyroberta import Task, TextClassifier, TextClassifierPreprocessor
from pyroberta.presets.preset import open_preset

# stdin: lines of JSON, a preset and what opens it. stdout: for each the files that were opened to be read, and by whom.
WORKER = """
import json, os, sys, traceback, warnings

answers = os.fdopen(os.dup(1), "w")  # a client prints
os.dup2(2, 1)
opened = []

def who():
    "Of pyroberta and the hubs' clients, the one that is nearest to the call; a check of what arrived is no reader."
    frame = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "").partition(".")[0]
        if module in ("huggingface_hub", "kagglehub", "kagglesdk"):
            return "client"
        if frame.f_code.co_name == "_check_hash":
            return "check"
        if module == "pyroberta":
            return "pyroberta"
        frame = frame.f_back
    return "others"

def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path, _, flags = arguments
        if flags & os.O_ACCMODE == os.O_RDONLY:
            opened.append((os.fsdecode(path), who()))

import pyroberta
from pyroberta import (
    Backbone, MaskedLM, MaskedLMPreprocessor, Task, TextClassifier, TextClassifierPreprocessor, Tokenizer
)

from kagglesdk import kaggle_env
kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = os.environ["TEST_KAGGLE"]

import dataclasses
from pyroberta.presets.built_in import PRESETS
PRESETS["roberta_base_en"] = dataclasses.replace(PRESETS["roberta_base_en"], handles=("hf://org/known",))

warnings.simplefilter("ignore")
CALLS = {kind.__name__: kind.from_preset for kind in (
    Backbone, MaskedLM, MaskedLMPreprocessor, Task, TextClassifier, TextClassifierPreprocessor, Tokenizer
)}
sys.addaudithook(hook)
for line in sys.stdin:
    name, call, options = json.loads(line)
    opened.clear()
    try:
        CALLS[call](name, **options)
        found = [(os.path.realpath(path), reader) for path, reader in list(opened)]
    except Exception:
        found = traceback.format_exc()
    print(json.dumps(found), file=answers, flush=True)
"""

ENTRIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Task": ("Task", {}),
    "MaskedLM": ("MaskedLM", {}),
    "TextClassifier": ("TextClassifier", {"num_classes": 2}),
    "Backbone": ("Backbone", {}),
    "Tokenizer": ("Tokenizer", {}),
    "MaskedLMPreprocessor": ("MaskedLMPreprocessor", {}),
    "TextClassifierPreprocessor": ("TextClassifierPreprocessor", {}),
    "without weights": ("MaskedLM", {"load_weights": False}),
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "with the optimizer's state": ("MaskedLM", {"load_optimizer": True}),
    "of its own classes": ("TextClassifier", {}),
}


class Reading(Process):
    """The process. A call gives how often pyroberta read each file, by its real path."""

    def __init__(self, home: Path, **settings: str) -> None:
        super().__init__(WORKER, home, **settings)

    def __call__(self, name: str, entry: str) -> Counter[Path]:
        found = self.ask([name, *(ENTRIES | OTHERS)[entry]])
        assert isinstance(found, list), found
        return Counter(Path(path) for path, reader in found if reader == "pyroberta")


@pytest.fixture(scope="module")
def reading(hub: Hub, home: Path) -> Iterator[Reading]:
    with Reading(home, HF_ENDPOINT=hub.url, TEST_KAGGLE=hub.url) as started:
        yield started


@pytest.fixture(scope="module")
def directories(small_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("opened")
    preprocessor = TextClassifierPreprocessor(small_tokenizer(), sequence_length=16)
    classifier = TextClassifier(small_masked_lm(dtype="float32").backbone, 2, preprocessor)
    classifier.save_to_preset(folder / "classifier", format="hf")
    classifier.save_to_preset(folder / "keras classifier", format="keras")
    small_masked_lm(dtype="float32").save_to_preset(folder / "shards", max_shard_size="3KB")
    params = random_params(small_fairseq.CONFIG, 0, np.float32)
    return {
        "built in": ROOT / "pyroberta" / "presets" / "embedded" / "roberta_tiny_en",
        "hf": small_preset,
        "hf in shards": folder / "shards",
        "hf classifier": folder / "classifier",
        "keras": preset(folder / "keras", kerashub_params()),
        "keras classifier": folder / "keras classifier",
        "fairseq": small_fairseq.preset(folder / "fairseq", small_fairseq.tensors(params)),
        "older fairseq": small_fairseq.preset(folder / "older", small_fairseq.tensors(params), "older"),
    }


def check(directory: Path, found: Counter[Path], settings: str = "config.json") -> None:
    """That of a directory no file was read twice, and the one that holds its settings once."""
    times = {file.name: found[file.resolve()] for file in directory.rglob("*") if file.is_file()}
    assert times[settings] == 1, times
    assert max(times.values()) == 1, times


KINDS = ("built in", "hf", "hf in shards", "hf classifier", "keras", "keras classifier", "fairseq", "older fairseq")


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_file_of_a_directory_is_read_twice(
    reading: Reading, directories: dict[str, Path], kind: str, entry: str
) -> None:
    directory = directories[kind]
    name = "roberta_tiny_en" if kind == "built in" else str(directory)
    check(directory, reading(name, entry), "model.pt" if "fairseq" in kind else "config.json")


def test_the_optimizer_s_state_is_read_once(reading: Reading, tmp_path: Path) -> None:
    model = small_masked_lm(dtype="float32")
    model.fit(["The quick brown fox."], verbose=0)
    model.save_to_preset(tmp_path / "p", include_optimizer=True)
    found = reading(str(tmp_path / "p"), "with the optimizer's state")
    check(tmp_path / "p", found)
    assert found[tmp_path / "p" / "pyroberta_optimizer.safetensors"] == 1


@pytest.mark.parametrize("entry", ["Tokenizer", "MaskedLMPreprocessor", "TextClassifierPreprocessor"])
def test_a_built_in_shape_asks_no_hub_and_reads_no_config(hub: Hub, reading: Reading, entry: str) -> None:
    hub.requests.clear()
    found = reading("roberta_base_en", entry)
    assert [path for path in found if path.name == "config.json"] == []
    assert hub.requests == []


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("kind", ["hf", "hf in shards", "keras"])
def test_the_hugging_face_hub_is_asked_once_what_a_branch_stands_for(
    hub: Hub, reading: Reading, home: Path, directories: dict[str, Path], kind: str, entry: str
) -> None:
    name = f"org/{kind}-{entry}".replace(" ", "_")
    repository = hub.repositories[name] = Repository(files_of(directories[kind]))
    (snapshot,) = [home / "hf" / "hub" / f"models--{name.replace('/', '--')}" / "snapshots" / repository.commit]
    hub.requests.clear()
    found = reading(f"hf://{name}", entry)
    check(snapshot, found)
    asked = Counter((method, path) for method, path, _ in hub.requests)
    # the client asks for what its branch has to get config.json's commit and, where it is not in the cache, its content
    questions = [path for path in dict(asked) if name in path[1] and "/main" in path[1]]
    assert questions == [(method, f"/{name}/resolve/main/config.json") for method in ("HEAD", "GET")]
    assert max(asked.values()) == 1, asked
    assert max(Counter(hub.downloads(name)).values()) == 1
    hub.requests.clear()
    check(snapshot, reading(f"hf://{name}", entry))
    assert [asked[:2] for asked in hub.requests] == [("HEAD", f"/{name}/resolve/main/config.json")]


@pytest.mark.parametrize("entry", ["Task", "MaskedLM", "TextClassifier", "Backbone"])
def test_a_built_in_name_that_is_downloaded_is_as_one_handle(
    hub: Hub, reading: Reading, home: Path, directories: dict[str, Path], entry: str
) -> None:
    repository = hub.repositories["org/known"] = Repository(files_of(directories["hf"]))
    reading("hf://org/known", entry)  # now it is in the cache
    hub.requests.clear()
    snapshot = home / "hf" / "hub" / "models--org--known" / "snapshots" / repository.commit
    check(snapshot, reading("roberta_base_en", entry))
    assert [asked[:2] for asked in hub.requests] == [("HEAD", "/org/known/resolve/main/config.json")]


@pytest.mark.parametrize("entry", ENTRIES)
def test_kaggle_is_asked_once_for_the_latest_version(
    hub: Hub, reading: Reading, home: Path, directories: dict[str, Path], entry: str
) -> None:
    name = f"owner/model/keras/{entry}".replace(" ", "_")
    hub.repositories[name] = Repository(versions={7: files_of(directories["keras"])})
    for _ in range(2):
        hub.requests.clear()
        hub.bodies.clear()
        check(home / "kaggle" / "models" / name / "7", reading(f"kaggle://{name}", entry))
        asked = Counter((call, values.get("path")) for call, values in hub.bodies)
        assert asked.pop(("GetModelInstance", None)) == 1
        assert max(asked.values(), default=1) == 1, asked
        assert max(Counter(hub.downloads()).values(), default=1) == 1
    assert asked == {}  # what is in the cache is not asked for


@pytest.mark.parametrize("kind", ["hf classifier", "keras classifier"])
def test_a_classifier_s_own_classes_and_labels_take_no_second_look(
    reading: Reading, directories: dict[str, Path], kind: str
) -> None:
    check(directories[kind], reading(str(directories[kind]), "of its own classes"))


def test_what_is_no_classifier_is_refused_before_its_weights_come(
    hub: Hub, reading: Reading, directories: dict[str, Path]
) -> None:
    hub.repositories["org/no_classifier"] = Repository(files_of(directories["hf"]))
    hub.requests.clear()
    with pytest.raises(AssertionError, match="preset 'hf://org/no_classifier' is not a classifier: pass num_classes="):
        reading("hf://org/no_classifier", "of its own classes")
    assert hub.downloads() == ["config.json"]


def test_an_opened_preset_is_taken_in_place_of_its_name(directories: dict[str, Path]) -> None:
    opened = open_preset(directories["hf"])
    assert open_preset(opened) is opened
    assert os.fspath(opened) == str(opened) == str(directories["hf"])
    model, other = Task.from_preset(opened), Task.from_preset(opened)
    assert model.preprocessor is not None
    assert other.preprocessor is not None
    assert model.preprocessor.tokenizer.vocabulary == opened.tokenizer.vocabulary
    model.add_tokens([" Tyrannosaurus"])  # the other model's tokenizer stays as it is
    assert other.preprocessor.tokenizer.vocabulary_size() == opened.tokenizer.vocabulary_size()
    assert model.preprocessor.tokenizer.vocabulary_size() == opened.tokenizer.vocabulary_size() + 1


def test_the_hook_sees_every_way_of_reading(tmp_path: Path) -> None:
    ways = (
        "open(path)", "io.open(path, 'rb')", "io.FileIO(path)", "pathlib.Path(path).read_text()",
        "os.open(path, os.O_RDONLY)", "open(os.fsencode(path))", "mmap.mmap(os.open(path, os.O_RDONLY), 1, prot=1)",
        "numpy.fromfile(path, 'u1')", "numpy.memmap(path, 'u1', 'r')",
    )  # fmt: skip
    (tmp_path / "config.json").write_text("{}")
    code = (
        "import io, mmap, os, pathlib, sys, numpy\nseen = []\n"
        "sys.addaudithook(lambda event, arguments: event == 'open' and seen.append(arguments[0]))\n"
        f"path = {str(tmp_path / 'config.json')!r}\n"
        "def count():\n    return sum(os.fsdecode(one) == path for one in seen if not isinstance(one, int))\n"
    ) + "".join(f"seen.clear()\n{way}\nprint(count())\n" for way in ways)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert dict(zip(ways, done.stdout.split(), strict=True)) == dict.fromkeys(ways, "1")
