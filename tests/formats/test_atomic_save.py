"""A save that is killed leaves the old preset whole or the new one: shown with processes that really die."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_models import small_masked_lm

from pyroberta.formats import atomic
from pyroberta.formats.atomic import check_place, readable, replacing_directory
from pyroberta.formats.directory import Kind
from pyroberta.formats.new_files import NewFile, replace_files
from pyroberta.presets.writing import check_saveable

# Run by a process of its own, that forks children to be killed while saving. The two models differ in width and in
# every value, so a mixture of their files can't load, and a file cut short can't either.
#
# argv: directory, "exchange" or "renames" (a system that can't exchange names), "fresh" or "over" (an old preset), and
# "steps" (die at the 1st, 2nd, 3rd ... thing done to the file system) or the number of kills after a random time; and
# what is saved: "hf", "keras" or "lora.h5".
DYING_SAVES = """
import os, random, shutil, signal, sys, time
from pathlib import Path

import numpy as np

from pyroberta.model.config import RobertaConfig
from pyroberta.model.parameters import Arrays, shapes
from pyroberta.formats import atomic
from pyroberta.formats.directory import Directory
from pyroberta.presets import hf, hf_writer, kerashub, kerashub_writer, lora
from pyroberta.presets.writing import Contents

parent, how, start, kills, form = Path(sys.argv[1]), *sys.argv[2:]
name = "x.lora.h5" if form == "lora.h5" else "preset"
target = parent / name
reader, writer = (kerashub, kerashub_writer) if form == "keras" else (hf, hf_writer)
if form != "hf":
    import h5py  # not in each child
if how == "renames":
    atomic._exchange = lambda one, other: False


def model(width):
    config = RobertaConfig(
        vocabulary_size=50, num_layers=1, num_heads=1, hidden_dim=width, intermediate_dim=8, max_sequence_length=6,
        lora_rank=width // 4 if form == "lora.h5" else 0,
    )
    params = Arrays(shapes(config))
    params.flat[:] = width
    return config, params


MODELS = {width: model(width) for width in (4, 8)}


def saved():
    "The width of the model that is there, whole; None if there is none."
    directory = atomic.readable(target)
    if not directory.exists():
        return None
    if form == "lora.h5":
        with h5py.File(target) as file:
            width = len(file["lora/13/vars/lora_kernel_a"])
        config, params = MODELS[width]
        read, factors = lora.read(target, config)
        for at in ("query", "value"):
            change = [read.lora_scale * f[f"layers.0.attention.{at}.lora_a"] @ f[f"layers.0.attention.{at}.lora_b"]
                      for f in (factors, params)]
            np.testing.assert_allclose(*change, rtol=1e-5)
        return width
    opened = Directory(directory)
    config = reader.read_config(opened)
    params = reader.read_params(opened, config)
    assert (params.flat == config.hidden_dim).all(), "a mixture"
    if form == "hf":
        assert hf.read_preprocessor(opened) == {"width": config.hidden_dim}, "a mixture"
    if start == "over":
        assert (directory / "README.md").read_text() == "card", "the card is gone"
    return config.hidden_dim


def save(width):
    if form == "lora.h5":
        lora.write(target, *MODELS[width])
    else:
        settings = {"width": width} if form == "hf" else None
        writer.write(target, Contents(*MODELS[width], preprocessor=settings))


def dying(width, arm):
    "Saves in a child that `arm` has set up to die; whether it lived to the end."
    child = os.fork()
    if child == 0:
        try:
            arm()
            save(width)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"the child ended with status {status}"
    return status == 0


def at_step(n):
    "SIGKILL at the nth audited action, such as open, rename, remove, mkdir, listdir."
    left = n

    def hook(event, args):
        nonlocal left
        if event.partition(".")[0] in ("open", "os", "shutil", "tempfile"):
            if left == 0:
                signal.raise_signal(signal.SIGKILL)  # os.kill would itself be audited
            left -= 1

    return lambda: sys.addaudithook(hook)


def prepared():
    shutil.rmtree(parent, ignore_errors=True)
    parent.mkdir()
    if start == "over":
        save(4)
        if form != "lora.h5":
            (target / "README.md").write_text("card")


outcomes = set()
if kills == "steps":
    deaths = 0
    while True:
        prepared()
        lived = dying(8, at_step(deaths))
        left = saved()
        assert left == 8 if lived else left in ((4, 8) if start == "over" else (None, 8)), left
        outcomes.add(left)
        save(4)  # the next save clears up and works
        assert saved() == 4
        assert [entry.name for entry in parent.iterdir()] == [name], list(parent.iterdir())
        if lived:
            break
        deaths += 1
else:
    prepared()
    before, deaths = 4, 0
    clock = time.perf_counter()
    save(4)
    usual = time.perf_counter() - clock  # on an idle or a busy machine: below it follows what the machine does
    draw = random.Random(7)
    for i in range(int(kills)):
        width = 12 - before
        child = os.fork()
        if child == 0:
            save(width)
            os._exit(0)
        time.sleep(draw.uniform(0, 1.3 * usual))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        deaths += status == signal.SIGKILL
        left = saved()
        assert left in (before, width), left
        outcomes.add(left == width)
        usual *= 0.9 if left == width else 1.1  # so that about half of the saves come to an end
        before = left
print(deaths, sorted(map(str, outcomes)))
"""


def run(parent: Path, how: str, start: str, kills: str, form: str = "hf") -> tuple[int, str]:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", DYING_SAVES, str(parent), how, start, kills, form],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    deaths, outcomes = done.stdout.split(" ", 1)
    return int(deaths), outcomes.strip()


@pytest.mark.parametrize("how", ["exchange", "renames"])
def test_death_at_any_step_leaves_the_old_preset_or_the_new_one(tmp_path: Path, how: str) -> None:
    deaths, outcomes = run(tmp_path / "work", how, "over", "steps")
    assert deaths > 20
    assert outcomes == "['4', '8']"  # some died before the swap and some after it


def test_death_at_any_step_of_a_first_save_leaves_nothing_or_the_preset(tmp_path: Path) -> None:
    deaths, outcomes = run(tmp_path / "work", "exchange", "fresh", "steps")
    assert deaths > 10
    assert outcomes == "['8', 'None']"


@pytest.mark.parametrize("form", ["keras", "lora.h5"])
def test_death_at_any_step_of_a_save_in_keras_s_form_leaves_the_old_one_or_the_new_one(
    tmp_path: Path, form: str
) -> None:
    deaths, outcomes = run(tmp_path / "work", "exchange", "over", "steps", form)
    assert deaths > 10
    assert outcomes == "['4', '8']"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["hf", "keras", "lora.h5"])
@pytest.mark.parametrize("how", ["exchange", "renames"])
def test_death_at_any_time_leaves_the_old_preset_or_the_new_one(tmp_path: Path, how: str, form: str) -> None:
    deaths, outcomes = run(tmp_path / "work", how, "over", "300", form)
    assert deaths > 100
    assert outcomes == "['False', 'True']"


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    directory = tmp_path / "preset"
    directory.mkdir()
    (directory / "config.json").write_text('{"is": "old"}')
    return directory


@pytest.fixture(params=[True, False], ids=["exchange", "renames"])
def _either_swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)


ANY = Kind("thing of the test", "config.json", lambda values: "is" in values)


def fill(path: Path, text: str = "new") -> None:
    with replacing_directory(path, kind=ANY) as directory:
        (directory / "config.json").write_text(f'{{"is": "{text}"}}')


def filling(path: Path) -> str:
    """What `fill` wrote."""
    return str(json.loads((path / "config.json").read_text())["is"])


@pytest.mark.usefixtures("_either_swap")
def test_the_new_directory_takes_the_place_of_the_old_one_and_nothing_is_left_over(preset: Path) -> None:
    fill(preset)
    assert filling(preset) == "new"
    assert [entry.name for entry in preset.iterdir()] == ["config.json"]
    assert [entry.name for entry in preset.parent.iterdir()] == ["preset"]


def test_this_system_exchanges_names_in_one_step(preset: Path) -> None:
    if not sys.platform.startswith("linux"):
        return
    other = preset.with_name("other")
    other.mkdir()
    assert atomic._exchange(other, preset)
    assert (other / "config.json").exists()
    assert not (preset / "config.json").exists()


def test_parents_are_made(tmp_path: Path) -> None:
    fill(tmp_path / "a" / "b")
    assert filling(tmp_path / "a" / "b") == "new"


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    fill(tmp_path / "empty")
    assert filling(tmp_path / "empty") == "new"


def test_an_exception_while_saving_leaves_the_old_one(preset: Path) -> None:
    def interrupted() -> None:
        with replacing_directory(preset, kind=ANY) as directory:
            (directory / "config.json").write_text('{"is": "half"}')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert filling(preset) == "old"
    assert [entry.name for entry in preset.parent.iterdir()] == ["preset"]


def test_a_directory_that_is_no_preset_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds files \(chapter\.tex\) but no config\.json"):
        fill(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "mine"


def test_a_directory_that_fills_up_during_the_save_is_not_replaced(tmp_path: Path) -> None:
    def late() -> None:
        with replacing_directory(tmp_path / "x", kind=ANY) as directory:
            (directory / "config.json").write_text('{"is": "new"}')
            (tmp_path / "x").mkdir()
            (tmp_path / "x" / "chapter.tex").write_text("mine")

    with pytest.raises(FileExistsError, match="not a thing of the test"):
        late()
    assert (tmp_path / "x" / "chapter.tex").read_text() == "mine"


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="it is a file, but a thing of the test is a dir"):
        fill(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["file/model", "file/a/b"])
def test_a_file_in_the_way_is_named_and_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    for save in (fill, check_saveable, check_place):
        with pytest.raises(NotADirectoryError, match=r"can't save to .*: .*file is a file, and not a directory\. Give"):
            save(tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_place_where_nothing_can_be_made_is_known_by_trying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_saveable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []

    def refused(path: Path, *args: object, **keywords: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", refused)  # root, who may run this, is refused nowhere
    with pytest.raises(PermissionError, match=f"to .*/a/b: nothing can be made in {tmp_path} .Permission denied.. Giv"):
        check_saveable(tmp_path / "a" / "b")


def test_the_working_directory_is_not_pulled_from_under_the_process(
    preset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (preset / "sub").mkdir()
    for directory in (preset, preset / "sub"):
        monkeypatch.chdir(directory)
        with pytest.raises(ValueError, match="it is the working directory or holds it"):
            fill(preset)
    assert filling(preset) == "old"


def test_a_symbolic_link_stays_and_its_target_is_replaced(preset: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to("preset")
    fill(tmp_path / "latest")
    assert (tmp_path / "latest").is_symlink()
    assert filling(preset) == "new"


def test_what_is_not_owned_is_carried_over_and_what_is_owned_goes(preset: Path) -> None:
    (preset / "README.md").write_text("card")
    (preset / "old.safetensors").write_text("stale")
    (preset / "runs").mkdir()
    (preset / "runs" / "log").write_text("log")
    (preset / "link").symlink_to("nowhere")
    with replacing_directory(preset, kind=ANY, owned=[r"old\.safetensors", r"runs/stale"]) as directory:
        (directory / "config.json").write_text('{"is": "new"}')
    assert sorted(entry.name for entry in preset.iterdir()) == ["README.md", "config.json", "link", "runs"]
    assert filling(preset) == "new"
    assert (preset / "runs" / "log").read_text() == "log"
    assert (preset / "link").is_symlink()


def test_a_pipe_and_a_file_that_may_not_be_read_are_carried_over(preset: Path) -> None:
    """The save neither waits for a writer to the pipe nor fails for the file, of which it makes a second name."""
    os.mkfifo(preset / "pipe")
    (preset / "secret.txt").write_text("mine")
    (preset / "secret.txt").chmod(0)
    signal.alarm(60)  # a save that waits ends here
    try:
        with replacing_directory(preset, kind=ANY) as new:
            (new / "weights").write_text("new")
    finally:
        signal.alarm(0)
    assert (preset / "pipe").is_fifo()
    (preset / "secret.txt").chmod(0o600)
    assert (preset / "secret.txt").read_text() == "mine"


def test_a_link_to_a_directory_is_carried_over(preset: Path, tmp_path: Path) -> None:
    (preset / "data").symlink_to(tmp_path)
    (preset / "runs").mkdir()
    (preset / "runs" / "all").symlink_to(tmp_path)
    for content in ("one", "two"):
        with replacing_directory(preset, kind=ANY) as directory:
            (directory / "config.json").write_text(f'{{"is": "{content}"}}')
        assert filling(preset) == content
        assert (preset / "data").readlink() == (preset / "runs" / "all").readlink() == tmp_path


def test_a_new_file_wins_over_one_that_would_be_carried(preset: Path) -> None:
    (preset / "README.md").write_text("old")
    with replacing_directory(preset, kind=ANY, owned=[]) as directory:
        (directory / "config.json").write_text('{"is": "new"}')
        (directory / "README.md").write_text("new")
    assert (preset / "README.md").read_text() == "new"


def test_what_dead_saves_left_goes_and_what_a_live_one_fills_stays(preset: Path) -> None:
    dead = preset.with_name(".preset.saving-deadbeef")
    dead.mkdir()
    (dead / "half").write_text("")
    others = preset.with_name(".presets.saving-00000000")
    others.mkdir()
    with replacing_directory(preset, kind=ANY) as live:
        (live / "config.json").write_text('{"is": "from the first"}')
        fill(preset, "from the second")
        assert live.exists()
        assert not dead.exists()
        assert filling(preset) == "from the second"
    assert filling(preset) == "from the first"
    assert sorted(entry.name for entry in preset.parent.iterdir()) == [".presets.saving-00000000", "preset"]


@pytest.mark.parametrize("name", ["a[b]", "a*", "a?", ".hidden", "ä b"])
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    for text in ("one", "two"):
        stale = tmp_path / f".{name}.saving-01234567"
        stale.mkdir()
        fill(tmp_path / name, text)
        assert filling(tmp_path / name) == text
        assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_preset_put_aside_by_a_save_that_died_is_read_and_put_back(preset: Path) -> None:
    aside = preset.with_name(".preset.previous")
    preset.rename(aside)
    assert readable(preset) == aside
    with pytest.raises(RuntimeError), replacing_directory(preset, kind=ANY):
        raise RuntimeError
    assert readable(preset) == preset
    assert filling(preset) == "old"


def test_a_preset_put_aside_outlives_an_empty_directory_of_its_name(preset: Path) -> None:
    preset.rename(preset.with_name(".preset.previous"))
    preset.mkdir()
    with replacing_directory(preset, kind=ANY, owned=[]) as directory:
        (directory / "new.txt").write_text("new")
    assert filling(preset) == "old"
    assert (preset / "new.txt").read_text() == "new"


@pytest.fixture
def _umask() -> Iterator[None]:
    old = os.umask(0o027)
    yield
    os.umask(old)


@pytest.mark.parametrize("format", ["hf", "keras"])
def test_a_private_preset_stays_private(tmp_path: Path, format: str) -> None:
    preset = tmp_path / "preset"
    small_masked_lm().save_to_preset(preset, format=format)
    (preset / "README.md").write_text("a card")
    for place in [preset, *preset.rglob("*")]:
        place.chmod(0o600 if place.is_file() else 0o700)
    old = {place: place.stat().st_ino for place in preset.rglob("*") if place.is_file()}
    small_masked_lm().save_to_preset(preset, format=format)
    assert {place.stat().st_mode & 0o777 for place in preset.rglob("*") if place.is_file()} == {0o600}
    assert {place.stat().st_mode & 0o777 for place in [preset, *preset.rglob("*")] if place.is_dir()} == {0o700}
    assert [place.name for place, number in old.items() if place.stat().st_ino == number] == ["README.md"]


def test_a_private_file_stays_private_and_what_is_not_a_file_stays(tmp_path: Path) -> None:
    replace_files(tmp_path, {"a": NewFile.of("old")})
    (tmp_path / "a").chmod(0o600)
    replace_files(tmp_path, {"a": NewFile.of("new")})
    assert ((tmp_path / "a").read_text(), (tmp_path / "a").stat().st_mode & 0o777) == ("new", 0o600)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match=r"pipe: it is not a plain file\. Give another name"):
        replace_files(tmp_path, {"a": NewFile.of("third"), "pipe": NewFile.of("text")})
    assert (tmp_path / "a").read_text() == "new"
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.usefixtures("_umask")
def test_a_saved_directory_is_as_readable_as_any_new_one(tmp_path: Path) -> None:
    fill(tmp_path / "preset")
    assert (tmp_path / "preset").stat().st_mode & 0o777 == 0o750


# --- what is not ours -------------------------------------------------------------------------------------------------

PRESET = {"model_type": "roberta"}
KERAS = {"class_name": "RobertaBackbone", "registered_name": "keras_hub>RobertaBackbone", "config": {}}


def tree(directory: Path) -> dict[str, str]:
    return {
        str(file.relative_to(directory)): file.read_text() if file.is_file() else ""
        for file in sorted(directory.rglob("*"))
    }


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"name": "site", "version": "1.0"}, "another program or model, .* it has {'name': 'site', 'version'"),
        ({"model_type": "bert"}, "and not to a preset of a RoBERTa: it has {'model_type': 'bert'}"),
        ({"registered_name": "keras_hub>BertBackbone"}, "it has {'registered_name': 'keras_hub>BertBackbone'}"),
        ({"registered_name": 5, "model_type": "roberta"}, "it has {'model_type': 'roberta', 'registered_name': 5}"),
        ({"architectures": "Roberta"}, "it has {'architectures': 'Roberta'}"),
        ([], "should hold a JSON object"),
        ("{", "isn't valid JSON"),
    ],
)
@pytest.mark.parametrize("format", ["hf", "keras"])
def test_a_directory_with_another_program_s_config_is_left_as_it_is(
    tmp_path: Path, config: object, reason: str, format: str
) -> None:
    place = tmp_path / "site"
    (place / "assets").mkdir(parents=True)
    (place / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    for name in ("model.safetensors", "assets/logo.svg", "vocab.json"):
        (place / name).write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(FileExistsError, match=rf"won't replace {place}: .*{reason}.* Give a new directory, such as"):
        small_masked_lm(dtype="float32").save_to_preset(place, format=format)
    with pytest.raises(FileExistsError, match="won't replace"):
        check_saveable(place)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("config", [PRESET, KERAS, {"architectures": ["RobertaModel"]}])
@pytest.mark.parametrize("format", ["hf", "keras"])
def test_of_a_preset_only_names_that_are_written_here_go(tmp_path: Path, config: object, format: str) -> None:
    place = tmp_path / "preset"
    (place / "assets" / "tokenizer").mkdir(parents=True)
    (place / "model-00001-of-00002.safetensors").mkdir()
    (place / "config.json").write_text(json.dumps(config))
    kept = {
        "adapter_model.safetensors", "assets/logo.svg", "assets/tokenizer/notes.txt", "mine.safetensors",
        "my.weights.h5", "pytorch_model.bin", "model-00001-of-00002.safetensors/x",
    }  # fmt: skip
    gone = {"model-00002-of-00002.safetensors", "model_00000.weights.h5", "task.json", "vocab.json"}
    for name in kept | gone:
        (place / name).write_text("old")
    with pytest.warns(UserWarning, match=r"still has weights of the old model, .*: pytorch_model\.bin\. Remove them"):
        small_masked_lm(dtype="float32").save_to_preset(place, format=format)
    remaining = {name for name in kept | gone if (place / name).exists() and (place / name).read_bytes() == b"old"}
    assert remaining == kept


@pytest.mark.parametrize("name", ["model.safetensors/notes.txt", "vocab.json/a/b"])
def test_a_directory_in_the_place_of_a_new_file_is_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / "preset" / name).parent.mkdir(parents=True)
    (tmp_path / "preset" / name).write_text("mine")
    (tmp_path / "preset" / "config.json").write_text(json.dumps(PRESET))
    before = tree(tmp_path)
    with pytest.raises(
        FileExistsError, match=f"its {name.partition('/')[0]} is a directory, and not a file that was save"
    ):
        small_masked_lm(dtype="float32").save_to_preset(tmp_path / "preset")
    assert tree(tmp_path) == before


def test_a_checkpoint_that_would_be_read_in_the_place_of_the_saved_model_is_an_error(tmp_path: Path) -> None:
    for name in ("dict.txt", "model.pt"):
        (tmp_path / name).write_text("")
    (tmp_path / "config.json").write_text(json.dumps(PRESET))
    with pytest.raises(FileExistsError, match="it holds a checkpoint of fairseq, which would be read"):
        small_masked_lm(dtype="float32").save_to_preset(tmp_path)
    with pytest.raises(FileExistsError, match="it holds a checkpoint of fairseq"):
        check_saveable(tmp_path)


def test_an_adapter_s_directory_keeps_what_is_not_written_and_another_kind_of_adapter_stays(tmp_path: Path) -> None:
    backbone = small_masked_lm(dtype="float32").backbone
    backbone.enable_lora(2)
    backbone.save_lora_weights(tmp_path / "a")
    (tmp_path / "a" / "adapter_model.mine").write_text("mine")
    backbone.save_lora_weights(tmp_path / "a")
    assert (tmp_path / "a" / "adapter_model.mine").read_text() == "mine"
    (tmp_path / "a" / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    with pytest.raises(FileExistsError, match=r"and not to a LoRA adapter: it has {'peft_type': 'IA3'}"):
        backbone.save_lora_weights(tmp_path / "a")


def test_what_merely_looks_like_a_dead_save_s_stays(preset: Path) -> None:
    parent = preset.parent
    (parent / ".preset.saving-notes").mkdir()
    (parent / ".preset.saving-0123456789").mkdir()
    (parent / ".preset.saving-00000001").write_text("mine")
    (parent / ".preset.saving-00000002").symlink_to("preset")
    os.mkfifo(parent / ".preset.saving-00000003")
    (parent / ".preset.previous").mkdir()
    (parent / ".preset.previous" / "notes.txt").write_text("mine")
    before = tree(parent)
    fill(preset, "old")
    assert tree(parent) == before
    assert filling(preset) == "old"


@pytest.mark.parametrize("moment", ["mkdir", "flock", "rmtree"])
def test_an_interrupt_at_any_moment_of_a_save_leaves_neither_directory_nor_descriptor(
    preset: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    where: object = {"mkdir": Path, "flock": fcntl, "rmtree": shutil}[moment]
    really = getattr(where, moment)

    def interrupted(*arguments: Any, **keywords: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return really(*arguments, **keywords)

    before = sorted(os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else [])
    with monkeypatch.context() as patch:
        patch.setattr(where, moment, interrupted)
        with pytest.raises(KeyboardInterrupt):
            fill(preset)
    assert [entry.name for entry in preset.parent.iterdir()] == ["preset"]
    assert sorted(os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []) == before
    fill(preset, "after")
    assert filling(preset) == "after"


@pytest.mark.parametrize(
    ("path", "error", "reason"),
    [
        ("/", ValueError, "can't save to /: it is the root of the file system. Give a directory below it"),
        ("round", OSError, "can't save to .*round.*: its symbolic links form a circle. Give another place"),
        ("round/a/b", OSError, "can't save to .*round/a/b.*: its symbolic links form a circle"),
        ("file/a/b", NotADirectoryError, "can't save to .*/file/a/b.*: .*/file is a file, and not a directory"),
        ("x" * 300, OSError, "can't save to .*xxx.*: File name too long"),
        ("~nobody-of-this-name/a", ValueError, "'~nobody-of-this-name/a.*': the home directory does not exist. Write"),
        ("a\0b", ValueError, r"a\\x00b.*' is not a path: it has a null character"),
        ("", ValueError, r"'' is not a path\. The working directory is '\.'"),
    ],
)
def test_a_place_that_cannot_be_is_named(tmp_path: Path, path: str, error: type[Exception], reason: str) -> None:
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "file").write_text("mine")
    place = path if path.startswith("~") or not path else tmp_path / path
    model = small_masked_lm(dtype="float32")
    model.backbone.enable_lora(2)
    saves = [fill, model.save_to_preset, model.backbone.save_lora_weights]
    if path:
        saves += [lambda place: check_saveable(Path(place)), lambda place: check_place(Path(place))]
    if path != "/":
        saves += [
            model.preprocessor.tokenizer.save,
            lambda place: model.backbone.save_lora_weights(f"{place}/a.lora.h5" if path else path),
        ]
    for save in saves:
        with pytest.raises(error, match=reason):
            save(place)
    assert tree(tmp_path) == {"file": "mine", "round": ""}


@pytest.mark.parametrize("handle", ["hf://a/b", "kaggle://me/roberta/keras/mine"])
def test_the_handle_of_a_hub_is_no_place_to_save_to(handle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = small_masked_lm()
    assert model.preprocessor is not None
    for save in (
        model.save_to_preset,
        model.preprocessor.tokenizer.save_to_preset,
        lambda place: model.save_weights(f"{place}.weights.h5"),
    ):
        with pytest.raises(
            ValueError, match=rf"can't save to '{handle}.*': it is the handle .* model\.upload\('{handle}"
        ):
            save(handle)
    assert list(tmp_path.iterdir()) == []
