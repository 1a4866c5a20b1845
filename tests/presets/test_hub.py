"""Presets from hubs, through the hubs' own clients, from a server on this machine that speaks their protocols."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loopback_hub import Hub, Process, Repository, files_of
from small_models import TEXTS, small_config, small_masked_lm
from small_presets import kerashub_params, preset

from pyroberta import MaskedLM
from pyroberta.cli.main import main
from pyroberta.formats.directory import Directory
from pyroberta.presets import built_in, hf, watching
from pyroberta.presets import hub as hubs
from pyroberta.presets.built_in import PRESETS
from pyroberta.presets.model_card import NO_LICENCE, model_card
from pyroberta.presets.preset import open_preset

ROOT = Path(__file__).resolve().parents[2]
KAGGLE = "owner/model/keras/small"


@pytest.fixture(scope="module")
def hf_files(small_preset: Path) -> dict[str, bytes]:
    return files_of(small_preset)


@pytest.fixture(scope="module")
def kerashub_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return files_of(preset(tmp_path_factory.mktemp("kerashub") / "p", kerashub_params()))


# --- the Hugging Face hub ---------------------------------------------------------------------------------------------

WORKER = """
import json, os, sys, time, warnings
import numpy as np
from pyroberta import MaskedLM
from pyroberta.presets import watching
from pyroberta.presets.preset import open_preset

if "TEST_PATIENCE" in os.environ:
    watching.TICK, watching.PATIENCE = 0.05, int(os.environ["TEST_PATIENCE"])
time.sleep = lambda seconds: None  # between the client's tries

def answer(call, handle, **keywords):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if call == "download":
                result = str(open_preset(handle).download(**keywords))
            elif call == "load":
                result = float(np.abs(MaskedLM.from_preset(handle, **keywords).params.flat).sum())
            else:
                result = MaskedLM.from_preset(keywords.pop("preset")).upload(handle, **keywords)
        except Exception as error:
            return {"error": type(error).__name__, "text": str(error)}
    return {"result": result, "warnings": [str(one.message) for one in caught if one.category is UserWarning]}

for line in sys.stdin:
    print(json.dumps(answer(**json.loads(line))), flush=True)
"""


class Client(Process):
    """A process with these settings; it answers calls with a result, or with an error's type and text."""

    def __init__(self, home: Path, **settings: str) -> None:
        super().__init__(WORKER, home, **settings)

    def __call__(self, handle: str, call: str = "download", **keywords: Any) -> dict[str, Any]:
        return self.ask({"call": call, "handle": handle, **keywords})


@pytest.fixture(scope="module")
def online(hub: Hub, home: Path) -> Iterator[Client]:
    with Client(home, HF_ENDPOINT=hub.url) as client:
        yield client


@pytest.fixture(scope="module")
def offline(hub: Hub, home: Path) -> Iterator[Client]:
    with Client(home, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1") as client:
        yield client


@pytest.fixture(scope="module")
def cut_off(hub: Hub, home: Path) -> Iterator[Client]:
    """Whose hub isn't there: the server listens at another address of this machine."""
    with Client(home, HF_ENDPOINT=hub.url.replace("127.0.0.1", "127.0.0.2")) as client:
        yield client


def test_a_repository_is_downloaded_once_and_loads_without_the_hub(
    hub: Hub, online: Client, offline: Client, cut_off: Client, hf_files: dict[str, bytes], small_preset: Path
) -> None:
    others = {"train.py": b"x", "pytorch_model.bin": b"x", "tf_model.h5": b"x", "onnx/model.onnx": b"x", "a.pkl": b"x"}
    hub.repositories["org/whole"] = Repository(hf_files | others)
    first = online("hf://org/whole")
    assert files_of(Path(first["result"])) == hf_files
    assert set(hub.downloads("org/whole")) == set(hf_files)
    before = len(hub.downloads()), len(hub.requests)
    assert online("hf://org/whole", "load")["result"] == pytest.approx(
        abs(MaskedLM.from_preset(small_preset).params.flat).sum()
    )
    assert len(hub.downloads()) == before[0]
    assert len(hub.requests) == before[1] + 1  # what commit the branch stands for now
    hub.requests.clear()
    assert offline("hf://org/whole") == cut_off("hf://org/whole") == first
    assert offline("hf://org/whole@main") == offline("hf://org/whole@" + Repository().commit) == first
    assert hub.requests == []


def test_a_new_commit_is_seen(hub: Hub, online: Client, hf_files: dict[str, bytes]) -> None:
    hub.repositories["org/moves"] = Repository(hf_files, commit="a" * 40)
    old = online("hf://org/moves")["result"]
    hub.repositories["org/moves"] = Repository(
        {**hf_files, "special_tokens_map.json": b"{} "}, commit="b" * 40, branches={"main", "v2", "refs/pr/1"}
    )
    hub.requests.clear()
    new = online("hf://org/moves")["result"]
    assert (old[-40:], new[-40:]) == ("a" * 40, "b" * 40)
    assert hub.downloads() == ["special_tokens_map.json"]  # the other files have kept their hashes
    assert online("hf://org/moves@v2")["result"] == online("hf://org/moves@" + "b" * 40)["result"] == new


def test_a_connection_that_breaks_is_resumed_where_it_broke(
    hub: Hub, online: Client, hf_files: dict[str, bytes]
) -> None:
    content = bytes(range(256)) * (25 << 12)  # 25 MiB: the client keeps what has come in pieces of 10
    files = {**hf_files, "model.safetensors": content}
    hub.repositories["org/breaks"] = Repository(files, breaks={"model.safetensors": 21 << 20})
    hub.requests.clear()
    found = online("hf://org/breaks")
    assert (Path(found["result"]) / "model.safetensors").read_bytes() == content
    ranges = [asked for method, path, asked in hub.requests if method == "GET" and path.endswith("model.safetensors")]
    assert ranges == ["", f"bytes={20 << 20}-"]


def test_without_its_weights_a_preset_takes_little(hub: Hub, online: Client, hf_files: dict[str, bytes]) -> None:
    hub.repositories["org/little"] = Repository(hf_files)
    hub.requests.clear()
    assert "result" in online("hf://org/little", "load", load_weights=False)
    assert set(hub.downloads()) == set(hf_files) - {"model.safetensors"}
    assert "result" in online("hf://org/little", "load")
    assert "model.safetensors" in hub.downloads()


def test_the_state_of_training_is_downloaded_where_it_is_asked_for(hub: Hub, online: Client, tmp_path: Path) -> None:
    model = small_masked_lm(dtype="float32")
    model.fit(["The quick brown fox."], verbose=0)
    model.save_to_preset(tmp_path / "paused", include_optimizer=True)
    state = "pyroberta_optimizer.safetensors"
    content, saved = files_of(tmp_path / "paused"), Directory(tmp_path / "paused")
    assert state in {
        file.name for file in hubs.files(hubs.in_directory(saved), saved, hf.FILES, state=True)
    }  # to upload
    hub.repositories["org/paused"] = Repository(content)
    assert set(files_of(Path(online("hf://org/paused")["result"]))) == set(content) - {state}
    assert "result" in online("hf://org/paused", "load", load_optimizer=True)
    assert files_of(Path(online("hf://org/paused")["result"])) == content
    hub.repositories["org/finished"] = Repository({name: file for name, file in content.items() if name != state})
    found = online("hf://org/finished", "load", load_optimizer=True)
    assert found["error"] == "FileNotFoundError"
    assert "has no optimizer's state" in found["text"]


def test_half_a_preset_in_the_cache_is_told_from_a_whole_one(
    hub: Hub, online: Client, offline: Client, hf_files: dict[str, bytes]
) -> None:
    hub.repositories["org/half"] = Repository(hf_files)
    online("hf://org/half", weights=False)
    assert "result" in offline("hf://org/half", weights=False)
    found = offline("hf://org/half")
    assert found["error"] == "FileNotFoundError"
    assert re.search(r"hf://org/half: model\.safetensors is not in the cache .*HF_HUB_OFFLINE forbids", found["text"])


def test_shards_and_pickles_are_taken_where_there_is_no_whole_file(
    hub: Hub, online: Client, hf_files: dict[str, bytes]
) -> None:
    small = {name: content for name, content in hf_files.items() if name != "model.safetensors"}
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = {"weight_map": {"a": shards[0], "b": shards[1], "c": "../../evil.safetensors", "d": "setup.py"}}
    hub.repositories["org/shards"] = Repository(
        {
            **small,
            "model.safetensors.index.json": json.dumps(index).encode(),
            "pytorch_model.bin": b"x",
            "setup.py": b"",
        }
        | dict.fromkeys(shards, b"x")
    )
    hub.repositories["org/pickle"] = Repository({**small, "pytorch_model.bin": b"x"})
    hub.requests.clear()
    assert set(files_of(Path(online("hf://org/shards")["result"]))) == {*small, "model.safetensors.index.json", *shards}
    assert not any(name in ("setup.py", "evil.safetensors") for _, path, _ in hub.requests for name in path.split("/"))
    assert set(files_of(Path(online("hf://org/pickle")["result"]))) == {*small, "pytorch_model.bin"}


def test_keras_hub_s_presets_are_taken_from_there_too(
    hub: Hub, online: Client, offline: Client, kerashub_files: dict[str, bytes]
) -> None:
    hub.repositories["org/kerashub"] = Repository(kerashub_files | {"metadata.json": b"{}", "README.md": b"x"})
    first = online("hf://org/kerashub")
    assert files_of(Path(first["result"])) == kerashub_files
    assert online("hf://org/kerashub", "load") == offline("hf://org/kerashub", "load")
    assert online("hf://org/kerashub", "load")["result"] == pytest.approx(abs(kerashub_params().flat).sum())
    assert offline("hf://org/kerashub") == first


def test_another_architecture_is_refused_before_its_weights_come(
    hub: Hub, online: Client, hf_files: dict[str, bytes]
) -> None:
    hub.repositories["org/bert"] = Repository(hf_files | {"config.json": b'{"model_type": "bert"}'})
    hub.requests.clear()
    found = online("hf://org/bert")
    assert found["error"] == "ValueError"
    assert "this is a 'bert' model" in found["text"]
    assert hub.downloads() == ["config.json"]


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "gated": ({"gated": True}, "PermissionError", r"hf://org/x is gated: ask for access at .*/org/x, then log in "),
    "private": ({"token": "t"}, "FileNotFoundError", "has no repository org/x, or it is private.* `hf auth login`"),
    "forbidden": ({"status": 403}, "PermissionError", r"refuses config\.json \(403\).*HF_TOKEN"),
    "down": ({"status": 503}, "ConnectionError", r"config\.json is not in the cache .* can't be reached \(.*503"),
    "too large": ({"sizes": {"model.safetensors": 77}}, "OSError", r"model\.safetensors failed: .*size 77 but has"),
    "damaged": ({"damaged": "model.safetensors"}, "OSError", "arrived damaged: its hash is .* removed"),
    "damaged, small": ({"damaged": "merges.txt"}, "OSError", r"merges\.txt arrived damaged: its hash is"),
    "no weights": ({"without": "model.safetensors"}, "FileNotFoundError", "has no weights that can be read: model"),
    "no config": ({"without": "config.json"}, "FileNotFoundError", r"has no config\.json, so it is not a preset"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_goes_wrong_is_told_with_what_to_do(
    hub: Hub, online: Client, hf_files: dict[str, bytes], fault: str
) -> None:
    how, error, text = FAULTS[fault]
    without, name = how.pop("without", None), "x" + re.sub(r"\W", "", fault)
    if damaged := how.pop("damaged", None):
        how["sent"] = {damaged: b"y" * len(hf_files[damaged])}
    hub.repositories[f"org/{name}"] = Repository({k: v for k, v in hf_files.items() if k != without}, **how)
    found = online(f"hf://org/{name}")
    assert found.get("error") == error, found
    assert re.search(text.replace("org/x", f"org/{name}"), found["text"]), found
    if fault.startswith("damaged"):
        hub.repositories[f"org/{name}"].sent.clear()
        assert files_of(Path(online(f"hf://org/{name}")["result"])) == hf_files


def test_what_is_not_there_is_told(hub: Hub, online: Client, hf_files: dict[str, bytes]) -> None:
    hub.repositories["org/there"] = Repository(hf_files)
    found = online("hf://org/nowhere")
    assert (found["error"], "has no repository org/nowhere" in found["text"]) == ("FileNotFoundError", True)
    found = online("hf://org/there@v9")
    assert (found["error"], "no branch, tag or commit 'v9'" in found["text"]) == ("FileNotFoundError", True)


def test_without_a_connection_or_offline_it_is_said_what_is_not_in_the_cache(offline: Client, cut_off: Client) -> None:
    found = offline("hf://org/never")
    assert found["error"] == "FileNotFoundError"
    assert re.search(r"config\.json is not in the cache \(.*hf/hub\), and HF_HUB_OFFLINE forbids", found["text"])
    found = cut_off("hf://org/never")
    assert found["error"] == "ConnectionError"
    assert re.search(r"can't be reached \(.*\)\. When there is a connection, call again", found["text"])


def test_a_token_opens_what_is_private(hub: Hub, home: Path, hf_files: dict[str, bytes]) -> None:
    hub.repositories["org/mine"] = Repository(hf_files, token="secret")
    for token, key in (("secret", "result"), ("wrong", "error")):
        with Client(home / token, HF_ENDPOINT=hub.url, HF_TOKEN=token) as client:
            found = client("hf://org/mine")
        assert key in found, found
    assert found["error"] == "PermissionError"
    assert "Check the token" in found["text"]


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(hub: Hub, home: Path, hf_files: dict[str, bytes]) -> None:
    hub.repositories["org/slow"] = Repository(hf_files, slow={"merges.txt": 0.05})
    with Client(home, HF_ENDPOINT=hub.url, TEST_PATIENCE="100") as client:
        found = client("hf://org/slow")
        assert found.get("error") == "Stalled", found
        assert re.search(r"^hf://org/slow: merges\.txt: no data has arrived for 5 s", found["text"])
        hub.repositories["org/slow"].slow.clear()
        assert files_of(Path(client("hf://org/slow")["result"])) == hf_files  # no lock is left behind


@pytest.mark.parametrize("places", [7, "a.safetensors", ["a.safetensors"], True])
def test_an_index_that_is_none_is_refused(hub: Hub, online: Client, hf_files: dict[str, bytes], places: Any) -> None:
    small = {name: content for name, content in hf_files.items() if name != "model.safetensors"}
    name = f"org/index-{type(places).__name__}"
    hub.repositories[name] = Repository(
        {**small, "model.safetensors.index.json": json.dumps({"weight_map": places}).encode()}
    )
    found = online(f"hf://{name}")
    assert found.get("error") == "ValueError", found
    assert "model.safetensors.index.json should have a weight_map from tensor names" in found["text"]


def test_an_index_of_a_thousand_and_one_shards_asks_for_none(
    hub: Hub, online: Client, hf_files: dict[str, bytes]
) -> None:
    small = {name: content for name, content in hf_files.items() if name != "model.safetensors"}
    places = {f"{i}": f"{i}.safetensors" for i in range(1001)}
    hub.repositories["org/shreds"] = Repository(
        {**small, "model.safetensors.index.json": json.dumps({"weight_map": places}).encode()}
    )
    hub.requests.clear()
    found = online("hf://org/shreds")
    assert found.get("error") == "OverBudget", found
    assert "1001 steps are needed for its shards, but only 1000" in found["text"]
    assert not any(path.endswith("0.safetensors") for _, path, _ in hub.requests)


# --- Kaggle: its client in this process, with another address in its table --------------------------------------------


@pytest.fixture
def kaggle(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    env = pytest.importorskip("kagglesdk.kaggle_env")
    monkeypatch.setitem(env._env_to_endpoint, env.KaggleEnv.PROD, hub.url)
    for name in [name for name in os.environ if name.startswith("KAGGLE")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    monkeypatch.setenv("HOME", str(tmp_path))
    session = pytest.importorskip("requests").Session
    send = session.send  # kagglehub waits 15 seconds for an answer, a busy machine's loopback hub may take any time
    monkeypatch.setattr(session, "send", lambda *args, **keywords: send(*args, **{**keywords, "timeout": None}))
    hub.requests.clear()
    hub.bodies.clear()
    return hub


def unplug(kaggle: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    env = sys.modules["kagglesdk.kaggle_env"]
    monkeypatch.setitem(env._env_to_endpoint, env.KaggleEnv.PROD, kaggle.url.replace("127.0.0.1", "127.0.0.2"))


def test_kaggle_s_latest_version_is_downloaded_once_and_loads_without_kaggle(
    kaggle: Hub, kerashub_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {"train.py": b"x", "metadata.json": b"{}"}
    kaggle.repositories[KAGGLE] = Repository(versions={2: {"config.json": b"{}"}, 10: kerashub_files | others})
    directory = open_preset(f"kaggle://{KAGGLE}").download()
    assert directory.name == "10"
    assert files_of(directory) == kerashub_files
    params = open_preset(f"kaggle://{KAGGLE}/10").weights()
    assert params.flat.tobytes() == kerashub_params().flat.tobytes()
    before = list(kaggle.downloads())
    open_preset(f"kaggle://{KAGGLE}").download()
    assert kaggle.downloads() == before
    kaggle.requests.clear()
    unplug(kaggle, monkeypatch)
    assert open_preset(f"kaggle://{KAGGLE}").download() == open_preset(f"kaggle://{KAGGLE}/10").download() == directory
    assert kaggle.requests == []


def test_a_file_that_kaggle_has_not_is_asked_for_once(
    kaggle: Hub, kerashub_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: content for name, content in kerashub_files.items() if not name.startswith("task")}
    kaggle.repositories[KAGGLE] = Repository(versions={3: files})
    directory = open_preset(f"kaggle://{KAGGLE}/3").download()
    assert files_of(directory) == files
    asked = len(kaggle.requests)
    unplug(kaggle, monkeypatch)
    with pytest.warns(UserWarning, match="has no masked-LM head"):
        open_preset(f"kaggle://{KAGGLE}/3").weights()
    assert len(kaggle.requests) == asked


def test_a_download_from_kaggle_goes_on_where_it_broke(kaggle: Hub, kerashub_files: dict[str, bytes]) -> None:
    files = {**kerashub_files, "model.weights.h5": bytes(range(256)) * (3 << 12)}  # in pieces of a MiB
    kaggle.repositories[KAGGLE] = Repository(versions={1: files}, breaks={"model.weights.h5": 5 << 19})
    with pytest.raises(
        ConnectionError, match=r"model\.weights\.h5 is not in the cache.*the download continues where it stopped"
    ):
        open_preset(f"kaggle://{KAGGLE}/1").download()
    directory = open_preset(f"kaggle://{KAGGLE}/1").download()
    assert files_of(directory) == files
    assert f"bytes={2 << 20}-" in {asked for _, path, asked in kaggle.requests if path.endswith("model.weights.h5")}


def test_a_server_of_kaggle_s_that_sends_a_byte_now_and_then_is_given_up(
    kaggle: Hub, kerashub_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "TICK", 0.05)
    monkeypatch.setattr(watching, "PATIENCE", 100)
    kaggle.repositories[KAGGLE] = Repository(versions={1: kerashub_files}, slow={"task.json": 0.05})
    with pytest.raises(watching.Stalled, match=r"kaggle://.*: task\.json: no data has arrived for 5 s"):
        open_preset(f"kaggle://{KAGGLE}/1").download()
    kaggle.repositories[KAGGLE].slow.clear()
    assert files_of(open_preset(f"kaggle://{KAGGLE}/1").download()) == kerashub_files


def test_a_file_that_arrives_damaged_from_kaggle_is_refused(kaggle: Hub, kerashub_files: dict[str, bytes]) -> None:
    sent = {"model.weights.h5": kerashub_files["model.weights.h5"][:-1] + b"?"}
    kaggle.repositories[KAGGLE] = Repository(versions={1: kerashub_files}, sent=sent)
    with pytest.raises(OSError, match=r"model\.weights\.h5 arrived damaged: its MD5"):
        open_preset(f"kaggle://{KAGGLE}/1").download()
    sent.clear()
    assert files_of(open_preset(f"kaggle://{KAGGLE}/1").download()) == kerashub_files


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (401, PermissionError, r"refuses config\.json \(401\).*KAGGLE_API_TOKEN.*KAGGLE_KEY.*kaggle\.json"),
        (403, PermissionError, r"refuses config\.json \(403\).*licence must be accepted"),
        (500, ConnectionError, r"Kaggle fails at config\.json"),
    ],
)
def test_kaggle_s_refusals_are_told_with_what_to_do(kaggle: Hub, status: int, kind: type, text: str) -> None:
    kaggle.repositories[KAGGLE] = Repository(versions={1: {}}, status=status)
    with pytest.raises(kind, match=text):
        open_preset(f"kaggle://{KAGGLE}/1").download()


def test_what_kaggle_has_not_is_told(kaggle: Hub, kerashub_files: dict[str, bytes], monkeypatch) -> None:
    kaggle.repositories[KAGGLE] = Repository(versions={1: kerashub_files})
    for handle in (f"kaggle://{KAGGLE}/7", "kaggle://owner/model/keras/other"):
        with pytest.raises(FileNotFoundError, match=r"no such model, version or file.*\.com/models/owner/model"):
            open_preset(handle).download()
    unplug(kaggle, monkeypatch)
    with pytest.raises(ConnectionError, match=r"config\.json is not in the cache, and Kaggle can't be reached"):
        open_preset(f"kaggle://{KAGGLE}").download()


# --- handles and names ------------------------------------------------------------------------------------------------


BAD_HF = (
    "", "a", "a/b/c", "a/b@", "a/", "/b", "../b", "a/..", "a/.b", ".a/b", "a/b.", "-a/b", "a..b/c", "a/b..c", "a--b/c",
    "a/b.git", "ä/b", "a/b\n", "a/" + "b" * 97, "a/b@..", "a/b@../../name", "a/b@x/../../../y", "a/b@/etc", "a/b@x//y",
    "a/b@x/", "a/b@.x", "a/b@x/.y", "a/b@x\\y", "a/b@x y", "a/b@x..y", "a/b@x.", "a/b@-x", "a/b@@x", "a/b@x\0",
)  # fmt: skip
BAD_KAGGLE = (
    "", "a", "a/b/c", "a/b/c/d/latest", "a/b/c/d/0", "a/b/c/d/1/e", "a/../c/d", "a//c/d", "../b/c/d", "a/b/c/..",
    "a/b/c/d/../..", "a/b/c/d/-1", "a/b/c/d/..1", "a/b/c/d..e", "a/b/c/.d", "ä/b/c/d", "a/b/c/d\n",
    "a/b/c/" + "d" * 101, "a/b/c/d/" + "9" * 11,
)  # fmt: skip


@pytest.mark.parametrize(
    ("handle", "shape"),
    [
        *((f"hf://{rest}", "hf://ORGANISATION/NAME@REVISION") for rest in BAD_HF),
        *(
            (f"kaggle://{rest}", "kaggle://OWNER/MODEL/FRAMEWORK/VARIATION.*/VERSION, a number")
            for rest in BAD_KAGGLE
        ),
    ],
)  # fmt: skip
def test_a_handle_that_is_none_is_told_how_they_are_formed(handle: str, shape: str) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(repr(handle))} is not a handle of .*{shape}"):
        open_preset(handle).download()


@pytest.mark.parametrize("handle", ["hf://o/n", "hf://o/n@v1.0", "hf://o/n@refs/pr/1", "hf://a-b/c_d.e@feature/x-y"])
def test_the_handles_that_a_hub_has_are_taken(handle: str) -> None:
    name, _, revision = handle.removeprefix("hf://").partition("@")
    assert hubs.parse_hf(handle) == (name, revision or None)


def test_a_bad_handle_asks_nothing_and_writes_nothing(
    hub: Hub, kaggle: Hub, tmp_path: Path, hf_files: dict[str, bytes], small_preset: Path
) -> None:
    """A revision that climbs would name a file outside of the cache, once a server answers."""
    hub.repositories["a/b"] = Repository(hf_files, branches={"main", "../../name"})
    with Client(tmp_path / "fresh", HF_ENDPOINT=hub.url) as client:
        for rest in BAD_HF:
            found = client(f"hf://{rest}")
            assert (found["error"], "is not a handle of" in found["text"]) == ("ValueError", True), rest
            found = client(f"hf://{rest}", "upload", preset=str(small_preset))
            assert (found["error"], "is not a handle of" in found["text"]) == ("ValueError", True), rest
    for rest in BAD_KAGGLE:
        with pytest.raises(ValueError, match="is not a handle of"):
            open_preset(f"kaggle://{rest}").download()
    assert hub.requests == []
    assert files_of(tmp_path) == {}


# argv: the handles. What the client prints goes to the process's stderr.
WITHOUT_A_HUB = """
import sys, time
from pyroberta.presets.preset import open_preset

def slept(seconds):
    raise SystemExit(f"it waited {seconds} s")

time.sleep = slept
for handle in sys.argv[1:]:
    try:
        print(open_preset(handle).download())
    except ConnectionError as error:
        print(" ".join(str(error).split()))
"""


def test_a_hub_that_is_not_there_is_told_at_once(
    hub: Hub, online: Client, home: Path, hf_files: dict[str, bytes]
) -> None:
    hub.repositories["org/cached"] = Repository(hf_files)
    directory = online("hf://org/cached")["result"]
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    env |= {"HF_HOME": str(home / "hf"), "PYTHONPATH": str(ROOT)}
    hub.requests.clear()
    for endpoint in (hub.url.replace("127.0.0.1", "127.0.0.2"), "https://nowhere.invalid"):
        expected = {
            "hf://org/cached": re.escape(directory),
            "hf://org/cached@main": re.escape(directory),
            "hf://org/never": rf"config\.json is not in the cache .* and {endpoint} can't be reached \(.*[Ee]rror",
        }
        command = [sys.executable, "-c", WITHOUT_A_HUB, *expected]
        done = subprocess.run(command, env=env | {"HF_ENDPOINT": endpoint}, capture_output=True, text=True)
        assert done.stderr == "", done.stderr
        for line, text in zip(done.stdout.splitlines(), expected.values(), strict=True):
            assert re.search(text, line), done.stdout
    assert hub.requests == []


@pytest.mark.parametrize(("scheme", "where"), [("modelscope", "ModelScope"), ("gs", "Google"), ("ftp", "there")])
def test_other_places_are_refused_by_name(scheme: str, where: str) -> None:
    with pytest.raises(ValueError, match=f"'{scheme}://a/b': nothing is downloaded from {where}.*Possible values"):
        open_preset(f"{scheme}://a/b").download()


@pytest.mark.parametrize(("handle", "package"), [("hf://a/b", "huggingface_hub"), ("kaggle://a/b/c/d", "kagglehub")])
def test_without_the_client_it_is_said_how_to_get_it(handle: str, package: str, monkeypatch, small_preset) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for call in (open_preset, MaskedLM.from_preset(small_preset).upload):
        with pytest.raises(ImportError, match=rf"needs the package {package}: .* pip install 'pyroberta\[hub\]'"):
            call(handle)


def test_without_any_client_a_known_name_says_so_and_what_needs_none(monkeypatch) -> None:
    for package in ("huggingface_hub", "kagglehub"):
        monkeypatch.setitem(sys.modules, package, None)
    text = r"hf://FacebookAI/roberta-base needs .*\n.*kaggle://keras.* needs .*\n.*load_weights=False.*roberta_tiny_en"
    with pytest.raises(ImportError, match=text):
        open_preset("roberta_base_en").download()


def test_a_known_name_is_taken_from_the_first_hub_that_has_it(
    kaggle, kerashub_files, monkeypatch, small_preset
) -> None:
    known = replace(PRESETS["roberta_base_en"], handles=("hf://org/base", f"kaggle://{KAGGLE}/1"))
    monkeypatch.setitem(built_in.PRESETS, "roberta_base_en", known)
    kaggle.repositories[KAGGLE] = Repository(versions={1: kerashub_files})

    class Unreachable:
        def __init__(self, handle: str) -> None: ...

        def fetch(self, name: str) -> Path | None:
            raise ConnectionError("no network")

    monkeypatch.setitem(hubs.SOURCES, "hf", Unreachable)
    with pytest.warns(UserWarning, match=r"comes from kaggle://.*no trained masked-LM head, as hf://org/base can't be"):
        assert files_of(open_preset("roberta_base_en").download()) == kerashub_files
    monkeypatch.setitem(hubs.SOURCES, "kaggle", Unreachable)
    with pytest.raises(ConnectionError, match=r"can't be downloaded:\n  no network\n  no network\nWithout a download"):
        open_preset("roberta_base_en").download()

    class Damaged(Unreachable):
        def fetch(self, name: str) -> Path | None:
            raise OSError("damaged")

    monkeypatch.setitem(hubs.SOURCES, "hf", Damaged)
    with pytest.raises(OSError, match=r"^damaged$"):
        open_preset("roberta_base_en").download()

    class InDirectory(Unreachable):
        def fetch(self, name: str) -> Path | None:
            return hubs.in_directory(Directory(small_preset))(name)

    monkeypatch.setitem(hubs.SOURCES, "hf", InDirectory)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_preset("roberta_base_en").download() == small_preset


def test_names_and_command_line_tell_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert list(listed) == list(MaskedLM.presets) == ["roberta_tiny_en", "roberta_base_en", "roberta_large_en"]
    assert listed["roberta_base_en"]["handles"] == list(MaskedLM.presets["roberta_base_en"].handles)
    assert main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    places = "hf://FacebookAI/roberta-base or kaggle://keras/roberta/keras/roberta_base_en/3"
    assert " ".join(lines[2].split()) == f"roberta_base_en 124,052,736 parameters {places}"
    assert main(["fill-mask", "a <mask>", "--model", "hf://nonsense"]) == 2
    assert "is not a handle of the Hugging Face hub" in capsys.readouterr().err


# --- uploads ----------------------------------------------------------------------------------------------------------


def test_a_model_is_uploaded_with_a_card_and_loads_from_there(
    hub: Hub, home: Path, hf_files: dict[str, bytes], small_preset: Path
) -> None:
    hub.repositories["org/base"] = Repository(hf_files)
    with Client(home / "writer", HF_ENDPOINT=hub.url, HF_TOKEN="writer") as client:
        found = client("hf://me/mine", "upload", preset="hf://org/base", private=True, licence="mit")
        assert found.get("result") == f"{hub.url}/me/mine", found
        mine = hub.repositories["me/mine"]
        assert mine.private
        assert set(mine.files) == {*hf_files, "README.md"}
        assert mine.files["model.safetensors"] == hf_files["model.safetensors"]
        card = mine.files["README.md"].decode()
        assert "license: mit\nbase_model: org/base\n" in card
        assert 'MaskedLM.from_preset("hf://me/mine")' in card
        assert client("hf://me/mine", "load")["result"] == client(str(small_preset), "load")["result"]
        mine.files["README.md"] = b"written on the hub"
        assert "result" in client("hf://me/mine@v2", "upload", preset=str(small_preset))
        assert mine.files["README.md"] == b"written on the hub"
        assert "v2" in mine.branches


def test_without_a_token_an_upload_says_how_to_log_in(hub: Hub, online: Client, small_preset: Path) -> None:
    found = online("hf://me/other", "upload", preset=str(small_preset))
    assert found["error"] in ("PermissionError", "FileNotFoundError"), found
    assert "`hf auth login`" in found["text"]
    assert "me/other" not in hub.repositories


def test_only_what_is_read_goes_to_kaggle_and_a_card_that_is_there_stays(
    kaggle: Hub, tmp_path: Path, kerashub_files: dict[str, bytes], capsys, monkeypatch
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "writer")
    directory = preset(tmp_path / "p", kerashub_params())
    (directory / "README.md").write_text("my card")
    (directory / "train.py").write_text("x")
    (directory / "checkpoint.npz").write_text("x")
    assert main(["upload", str(directory), f"kaggle://{KAGGLE}", "--licence", "Apache 2.0"]) == 0
    assert f"to https://www.kaggle.com/models/{KAGGLE}" in capsys.readouterr().out
    sent = {path.rpartition("/")[2].removeprefix("token-") for method, path, _ in kaggle.requests if method == "PUT"}
    assert sent == {Path(name).name for name in kerashub_files} | {"README.md"}
    assert kaggle.uploads["token-README.md"] == b"my card"
    assert kaggle.uploads["token-model.weights.h5"] == kerashub_files["model.weights.h5"]
    (body,) = [values["body"] for call, values in kaggle.bodies if call == "CreateModelInstance"]
    assert body["licenseName"] == "Apache 2.0"
    assert body["instanceSlug"] == "small"
    with pytest.raises(ValueError, match="Kaggle numbers versions by itself; leave the /3 out"):
        MaskedLM.from_preset(directory).upload(f"kaggle://{KAGGLE}/3")


def test_what_is_no_preset_is_not_uploaded(tmp_path: Path, small_preset: Path, capsys) -> None:
    for arguments, message in (
        ([str(small_preset), "hf://a"], "is not a handle of the Hugging Face hub"),
        ([str(tmp_path / "no"), "hf://a/b"], "the directory to upload does not exist"),
        ([str(tmp_path), "hf://a/b"], "is not a preset: it has neither config.json"),
    ):
        assert main(["upload", *arguments]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "config.json").write_bytes((small_preset / "config.json").read_bytes())
    assert main(["upload", str(tmp_path), "hf://a/b"]) == 2
    assert "has no weights to upload, only config.json" in capsys.readouterr().err
    index = tmp_path / "model.safetensors.index.json"
    for name in ("model-00001-of-00002.safetensors", "x" * 5000 + ".safetensors"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        assert main(["upload", str(tmp_path), "hf://a/b"]) == 2
        said = capsys.readouterr().err
        assert f"index.json names the shard {name[:200]}" in said
        assert len(said) < 600


def test_the_card_of_a_classifier_speaks_of_classes() -> None:
    card = model_card(small_config(num_classes=3), "hf://me/mine", formats=["transformers", "keras_hub"])
    assert "pipeline_tag: text-classification" in card
    assert "tells 3 classes of texts apart" in card
    assert 'classifier = pyroberta.TextClassifier.from_preset("hf://me/mine")' in card
    assert 'text_classification = pipeline("text-classification", "me/mine")' in card
    assert "keras_hub.models.RobertaTextClassifier" in card
    assert "| output matrix | a row per class |" in card
    assert "mask" not in card


def test_the_card_states_facts_and_leaves_open_what_it_cannot_know() -> None:
    config = small_config(vocabulary_size=50265, tie_embeddings=False)
    card = model_card(config, "kaggle://me/mine/keras/small", formats=["keras_hub"], trained_from="roberta_base_en")
    _, facts, text = card.split("---\n", 2)
    assert "license" not in facts
    assert "base_model" not in facts
    assert NO_LICENCE in text
    assert "| vocabulary | 50,265 |" in text
    assert "| parameters | 403,256, and 452,473 of the head's own |" in text
    assert "| trained from | roberta_base_en |" in text
    assert "| output matrix | one of its own |" in text
    assert "keras_hub.models.RobertaMaskedLM" in text
    assert "transformers" not in card
    assert TEXTS[0] not in card
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(facts)["library_name"] == "keras-hub"
