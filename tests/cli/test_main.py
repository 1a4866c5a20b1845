"""The command line: results on stdout, progress on stderr, errors in one line, exit codes."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_models import TEXTS

from pyroberta import MaskedLM, TextClassifier, Tokenizer, __version__, backends, optimizers, schedules
from pyroberta.cli import doctor
from pyroberta.cli.exit_codes import Stopped
from pyroberta.cli.main import main
from pyroberta.cli.parser import COMMANDS, command_module
from pyroberta.tasks import inference
from pyroberta.training.callbacks import History

SHARED = {
    *("main", "exit_codes", "options", "parser", "places", "streams", "texts"),
    *("training", "stopping", "saving", "checkpoints", "class_report"),
}  # the modules of pyroberta/cli that are no commands

SHOWN = pytest.mark.filterwarnings("always")  # as a program shows them, where tests else make errors of them


def feed(monkeypatch: pytest.MonkeyPatch, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))


def lines_of_json(capsys: pytest.CaptureFixture[str]) -> list:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def run(*arguments: str, **keywords) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pyroberta", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **keywords)


# --- the registry -----------------------------------------------------------------------------------------------------


def test_every_module_of_a_command_is_in_the_registry():
    modules = {path.stem for path in Path(doctor.__file__).parent.glob("[!_]*.py")}
    assert {name.replace("-", "_") for name in COMMANDS} == modules - SHARED
    assert not [name for name in SHARED if hasattr(importlib.import_module(f"pyroberta.cli.{name}"), "SUMMARY")]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_module_of_a_command_says_its_arguments_runs_and_has_a_summary(command: str):
    module = command_module(command)
    assert callable(module.add_arguments)
    assert callable(module.run)
    assert module.SUMMARY[0].islower()
    assert not module.SUMMARY.endswith(".")


def test_the_parser_loads_nothing_that_a_command_needs_when_it_runs():
    """`pyroberta --help` is fast. shutil, with the packers that it brings, is argparse's."""
    code = """
import sys, argparse, shutil, pyroberta
before = set(sys.modules)
from pyroberta.cli.parser import build_parser
build_parser().format_help()
print(*(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if not name.startswith("pyroberta.cli")}
    assert "pyroberta.cli.demo" in done.stdout.split()
    assert loaded == set()


# --- help and wrong usage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_every_argument_is(command: str, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    out, err = capsys.readouterr()
    assert (stopped.value.code, err) == (0, "")
    assert out.startswith(f"usage: pyroberta {command} ")
    assert "None" not in out
    assert "False" not in out
    for line in out.partition("\n\n")[2].splitlines():  # behind the usage
        if line.lstrip().startswith("-"):
            assert "   " in line.strip() or "  " in line.strip(), f"no help beside {line!r}"


def test_the_main_help_lists_every_command(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    listed = re.findall(r"^    ([a-z-]+)\b", out, flags=re.M)
    assert listed == list(COMMANDS)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"pyroberta {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["fit", "texts.txt"],  # --output is missing
        ["fit", "texts.txt", "-o", "x", "--epochs", "0"],
        ["fit", "texts.txt", "-o", "x", "--warmup", "1.5"],
        ["fill-mask", "--top-k", "none"],
        ["train-tokenizer", "-o", "x"],
        ["score", "a", "--backend", "gpu"],
        ["fill-mask", "<mask>", "--long-texts", "split"],  # each mask has an answer of its own
        ["presets", "all"],
    ],
)
def test_wrong_usage_exits_with_2_and_says_so_on_stderr(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    out, err = capsys.readouterr()
    assert (stopped.value.code, out) == (2, "")
    assert "usage: pyroberta" in err
    assert "error: " in err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--epochs", "x", "must be a whole number of at least 1, got 'x'"),
        ("--epochs", "0", "must be a whole number of at least 1, got '0'"),
        ("--batch-size", "1.5", "must be a whole number of at least 1, got '1.5'"),
        ("--warmup", "x", "must be a share from 0 and below 1, such as 10% or 0.1; got 'x'"),
        ("--warmup", "100%", "must be a share from 0 and below 1, such as 10% or 0.1; got '100%'"),
        ("--warmup", "nan", "must be a share from 0 and below 1, such as 10% or 0.1; got 'nan'"),
        ("--learning-rate", "fast", "must be a number, got 'fast'"),
        ("--seed", "1.5", "must be a whole number, got '1.5'"),
    ],
)
def test_a_wrong_value_is_told_in_words(option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["fit", "texts.txt", "-o", "x", option, value])
    assert capsys.readouterr().err.splitlines()[-1] == f"pyroberta fit: error: argument {option}: {message}"


# --- the commands -----------------------------------------------------------------------------------------------------


def test_fit_saves_a_model_that_learnt(texts: str, model: list[str], tmp_path: Path, capsys):
    output = str(tmp_path / "out")
    arguments = ["fit", texts, "-o", output, *model, "--epochs", "3", "--learning-rate", "0.01", "--batch-size", "2"]
    assert main([*arguments, "--accumulate", "2", "--validation", texts, "--seed", "3"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"saved to {output} after 6 updates: loss ")
    assert len(out.splitlines()) == 1
    assert "epoch 3/3" in err
    before, after = (MaskedLM.from_preset(preset).evaluate(TEXTS, verbose=0)[0] for preset in (model[1], output))
    assert after < before


def test_fit_in_json_is_silent_elsewhere_when_quiet(texts: str, model: list[str], tmp_path: Path, capsys):
    output = str(tmp_path / "out")
    frozen = ["--freeze", r"embeddings\..*", "--freeze", r"head\..*", "--fresh"]
    assert main(["fit", texts, "-o", output, *model, "--epochs", "2", "--quiet", "--json", *frozen]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    result = json.loads(out)
    assert (result["saved"], result["updates"], len(result["history"]["loss"])) == (output, 2, 2)
    fresh = MaskedLM.from_preset(model[1], load_weights=False)
    assert (MaskedLM.from_preset(output).params["embeddings.token"] == fresh.params["embeddings.token"]).all()


def test_evaluate_is_what_python_gives(texts: str, model: list[str], capsys, monkeypatch):
    expected = MaskedLM.from_preset(model[1]).evaluate(TEXTS, batch_size=16, verbose=0, return_dict=True)
    assert main(["evaluate", texts, *model, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == expected
    assert err.startswith(f"{texts}: text, one a line, 6 texts\nevaluate: 1/1 steps")
    feed(monkeypatch, "\n".join(TEXTS))
    assert main(["evaluate", "-", *model, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out == ", ".join(f"{name} {value:.4f}" for name, value in expected.items()) + "\n"
    assert err == ""


def test_fill_mask_prints_the_text_and_its_candidates(model: list[str], capsys):
    assert main(["fill-mask", "I <mask> my <mask>.", "It is <mask>.", *model, "-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines if "mask" in line] == [
        "I <mask> my <mask>.", "mask 1", "mask 2", "It is <mask>."
    ]  # fmt: skip
    assert all(line.count("%") == 2 for line in lines if line.startswith("  "))


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_fill_mask_reads_standard_input_as_utf_8(arguments: list[str], model: list[str], capsys, monkeypatch):
    feed(monkeypatch, "\ufeffna\u00efve <mask>\r\n\n東京 <mask>")
    assert main(["fill-mask", *arguments, *model, "--json", "--targets", "late, forgot"]) == 0
    found = lines_of_json(capsys)
    assert [one["text"] for one in found] == ["na\u00efve <mask>", "東京 <mask>"]
    assert {filling["token_str"] for filling in found[1]["masks"][0]} == {" late", " forgot"}
    assert found[1]["masks"][0][0]["sequence"].startswith("東京 ")


def test_score_prints_a_line_a_text(model: list[str], capsys, monkeypatch):
    expected = MaskedLM.from_preset(model[1]).score(TEXTS[1])
    assert main(["score", TEXTS[1], *model]) == 0
    assert capsys.readouterr().out.split() == [
        f"{expected.total:.3f}", "perplexity", f"{expected.perplexity:.4g}", *TEXTS[1].split()
    ]  # fmt: skip
    feed(monkeypatch, "one\ntwo\n")
    assert main(["score", *model, "--json"]) == 0
    assert [one["text"] for one in lines_of_json(capsys)] == ["one", "two"]


def test_score_takes_a_rule(model: list[str], capsys):
    expected = MaskedLM.from_preset(model[1]).score(TEXTS[2], rule="within_word_l2r")
    assert main(["score", TEXTS[2], *model, "--rule", "within_word_l2r", "--json"]) == 0
    (found,) = lines_of_json(capsys)
    assert (found["rule"], found["total"]) == ("within_word_l2r", expected.total)


@pytest.mark.parametrize("command", ["score", "fill-mask"])
def test_many_texts_show_how_far_they_are_and_few_do_not(command: str, model: list[str], capsys, monkeypatch):
    monkeypatch.setattr(inference, "TOKENS_AT_ONCE", 8)
    for options, shows_progress in (([], True), (["--quiet"], False)):
        assert main([command, "I <mask>.", "It is <mask>.", *model, *options]) == 0
        assert ("steps, " in capsys.readouterr().err) == shows_progress
    assert main([command, "<mask>", *model]) == 0
    assert capsys.readouterr().err == ""  # one batch


@pytest.mark.filterwarnings("default:the only text")
def test_json_has_null_for_what_json_cannot_say(model: list[str], capsys):
    assert main(["score", "", *model, "--json"]) == 0
    out, err = capsys.readouterr()
    score = json.loads(out, parse_constant=pytest.fail)
    assert (score["total"], score["perplexity"]) == (0.0, None)
    assert "pyroberta: warning: the only text has no tokens" in err


def test_train_tokenizer_learns_from_files_and_standard_input(texts: str, tmp_path: Path, capsys, monkeypatch):
    feed(monkeypatch, "zebra zebra zebra")
    output = tmp_path / "vocabulary"
    assert main(["train-tokenizer", texts, "-", "-o", str(output), "--vocab-size", "290", "--json"]) == 0
    tokenizer = Tokenizer.load(output)
    assert json.loads(capsys.readouterr().out) == {
        "saved": str(output),
        "vocabulary_size": tokenizer.vocabulary_size(),
    }
    assert len(tokenizer.encode("zebra", add_special_tokens=False)) < 5


def test_fit_starts_fresh_with_a_vocabulary_of_its_own(texts: str, model: list[str], tmp_path: Path, capsys):
    vocabulary, output = str(tmp_path / "vocabulary"), str(tmp_path / "out")
    assert main(["train-tokenizer", texts, "-o", vocabulary, "--vocab-size", "280"]) == 0
    arguments = ["fit", texts, "-o", output, *model, "--fresh", "--tokenizer", vocabulary, "--seed", "3", "--quiet"]
    assert main([*arguments, "--epochs", "2"]) == 0
    stored, shape = MaskedLM.from_preset(output), MaskedLM.from_preset(model[1]).backbone.config
    assert stored.preprocessor.tokenizer.vocabulary == Tokenizer.load(vocabulary).vocabulary
    size = stored.preprocessor.tokenizer.vocabulary_size()
    assert size < shape.vocabulary_size
    assert stored.backbone.config == replace(shape, vocabulary_size=size)
    settings = MaskedLM.from_preset(model[1]).preprocessor.get_config()
    assert stored.preprocessor.get_config() | {"tokenizer": None} == settings | {"tokenizer": None}
    assert stored.params["embeddings.token"].shape == (size, shape.hidden_dim)


def test_empty_pieces_of_targets_are_dropped(model: list[str], capsys):
    assert main(["fill-mask", "a <mask>", *model, "--json", "--targets", "late,, forgot,"]) == 0
    (found,) = lines_of_json(capsys)
    assert {filling["token_str"] for filling in found["masks"][0]} == {" late", " forgot"}


def test_an_impossible_output_is_noticed_before_training(texts: str, model: list[str], capsys, monkeypatch):
    monkeypatch.setattr(MaskedLM, "fit", lambda *args, **keywords: pytest.fail("it trained"))
    monkeypatch.setattr("pyroberta.cli.demo.Tokenizer.train", lambda *args, **keywords: pytest.fail("it trained"))
    for command in (["fit", texts, *model], ["demo"], ["demo", "--from-scratch"]):
        assert main([*command, "-o", f"{texts}/model"]) == 2
        assert "texts.txt is a file, and not a directory" in capsys.readouterr().err


def test_doctor_tells_what_is_there(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report) == ["versions", "backends", "presets", "extras"]
    assert report["versions"]["pyroberta"] == __version__
    assert report["backends"]["numpy"].startswith("yes: NumPy ")
    assert report["versions"]["numpy"] == np.__version__
    assert all(name in lines for part in report.values() for name in part)


def test_doctor_knows_the_extras_that_the_package_was_installed_with(monkeypatch):
    found = doctor.extras()
    assert {"plot", "keras", "hub", "dev"} <= set(found) == set(doctor.PURPOSES)
    assert set(found["plot"] + found["keras"]) < set(found["test"])  # extras within extras
    assert "pyroberta" not in found["dev"]
    monkeypatch.setattr(doctor, "_is_installed", lambda package: package != "h5py")
    rows = doctor.report()["extras"]
    assert rows["keras"] == (
        "no: for KerasHub's presets, which are HDF5; h5py not there  (pip install 'pyroberta[keras]')"
    )
    assert rows["plot"] == "yes: for History.plot()"


@pytest.mark.parametrize("command", ["fit", "evaluate", "fill-mask", "score", "demo"])
def test_help_lists_every_backend(command: str, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"{', '.join(['auto', *(name for name, *_ in backends())][:-1])} or native" in text


def test_demo_in_json_tells_its_story_on_stderr(capsys, monkeypatch):
    def story(**keywords):
        print("once upon a time")
        return keywords

    monkeypatch.setattr("pyroberta.cli.demo.adapt", story)
    assert main(["demo", "--updates", "3", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"updates": 3, "backend": "auto", "output": None}
    assert err == "once upon a time\n"
    assert main(["demo"]) == 0
    assert capsys.readouterr().out == "once upon a time\n"


# --- long texts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def long_text(tmp_path: Path) -> str:
    file = tmp_path / "long.txt"
    file.write_text("zqjxvkwy" * 12 + "\n" + TEXTS[0])
    return str(file)


@SHOWN
def test_long_texts_are_split_in_training_and_the_schedule_counts_their_steps(long_text: str, model, tmp_path, capsys):
    output = str(tmp_path / "out")
    arguments = ["fit", long_text, "-o", output, *model, "--batch-size", "1", "--epochs", "2", "--quiet", "--json"]
    rates = []
    adam = optimizers.Adam.update

    def spy(self, *rest):
        rates.append(self.learning_rate)
        return adam(self, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizers.Adam, "update", spy)
        assert main([*arguments, "--warmup", "0.5", "--learning-rate", "0.01"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["updates"] == 8  # of 3 windows and a text, twice
    assert rates == pytest.approx([0.01 * part for part in (0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25)])
    assert err == (
        "pyroberta: warning: 1 of 2 texts has more than 40 tokens (the longest has 98): 1 was split into 3 windows\n"
    )
    arguments.append("--overwrite")
    assert main([*arguments, "--long-texts", "cut"]) == 0
    assert json.loads(capsys.readouterr().out)["updates"] == 4
    assert main([*arguments, "--long-texts", "refuse"]) == 2
    assert "long.txt, line 1 has 98 tokens" in capsys.readouterr().err


@SHOWN
def test_long_texts_in_evaluate_and_score(long_text: str, model: list[str], capsys):
    masked_lm = MaskedLM.from_preset(model[1])
    texts = Path(long_text).read_text().split("\n")
    for options, how in (([], "split"), (["--long-texts", "cut"], "cut")):
        with pytest.warns(UserWarning, match=how):
            expected = masked_lm.evaluate(texts, batch_size=16, long_texts=how, verbose=0, return_dict=True)
        assert main(["evaluate", long_text, *model, "--json", *options]) == 0
        out, err = capsys.readouterr()
        assert json.loads(out) == expected
        assert f"1 was {how}" in err
    assert main(["score", *texts, *model]) == 2
    assert "text 1 has 98 tokens, <s> and </s> included; the model takes 40" in capsys.readouterr().err
    assert main(["score", *texts, *model, "--long-texts", "split", "--json"]) == 0
    with pytest.warns(UserWarning, match="split"):
        expected = masked_lm.score(texts, long_texts="split")
    assert [one["total"] for one in lines_of_json(capsys)] == [score.total for score in expected]
    with pytest.raises(SystemExit):
        main(["score", *texts, *model, "--long-texts", "fold"])
    assert "invalid choice: 'fold'" in capsys.readouterr().err
    long = f"<mask> {texts[0]}"
    assert main(["fill-mask", long, *model]) == 2
    assert "text 1 has " in capsys.readouterr().err
    assert main(["fill-mask", long, *model, "--long-texts", "cut"]) == 0
    assert "1 was cut" in capsys.readouterr().err


# --- what is there already, and what is stopped ----------------------------------------------------------------------


@pytest.mark.parametrize("command", ["fit", "fit on", "convert", "convert onto itself", "train-tokenizer", "demo"])
def test_what_is_there_is_replaced_only_when_asked_to(command: str, texts: str, model, tmp_path, capsys, monkeypatch):
    output = str(tmp_path / "out")
    MaskedLM.from_preset(model[1]).save_to_preset(output)
    before = {file.name: file.read_bytes() for file in Path(output).iterdir()}
    arguments = {
        "fit": ["fit", texts, "-o", output, *model],
        "fit on": ["fit", texts, "-o", output, "--model", output],
        "convert": ["convert", model[1], output, "--dtype", "float16"],
        "convert onto itself": ["convert", output, f"{output}/", "--dtype", "float16"],
        "train-tokenizer": ["train-tokenizer", texts, "-o", output],
        "demo": ["demo", "-o", output],
    }[command]
    with monkeypatch.context() as patch:
        patch.setattr(MaskedLM, "fit", lambda *_, **__: pytest.fail("it trained"))
        patch.setattr(Tokenizer, "train", lambda *_, **__: pytest.fail("it trained"))
        assert main(arguments) == 2
    assert " holds a model already (config.json). Give another directory, or --overwrite" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in Path(output).iterdir()} == before
    if command == "train-tokenizer":  # the model's rows would stand for other tokens
        assert main([*arguments, "--overwrite"]) == 2
        assert "it has a model whose tokenizer has other tokens" in capsys.readouterr().err
        assert {file.name: file.read_bytes() for file in Path(output).iterdir()} == before
        (Path(output) / "config.json").unlink()
    if command != "demo":
        assert main([*arguments, "--overwrite"]) == 0
        assert {file.name: file.read_bytes() for file in Path(output).iterdir()} != before


@pytest.mark.parametrize("where", ["a closed pipe", "a full disk", "nowhere"])
def test_a_training_goes_on_where_its_progress_cannot_be_written(where: str, texts: str, model, tmp_path: Path):
    command = [sys.executable, "-m", "pyroberta", "fit", texts, "-o", str(tmp_path / "out"), *model, "--epochs", "3"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with contextlib.ExitStack() as stack:
        if where == "a closed pipe":
            reading, writing = os.pipe()
            os.close(reading)
            stack.callback(os.close, writing)
        else:
            writing = stack.enter_context(open("/dev/full" if where == "a full disk" else os.devnull, "w"))
        close = (lambda: [os.close(descriptor) for descriptor in (1, 2)]) if where == "nowhere" else None
        done = subprocess.run(
            command,
            stdout=subprocess.DEVNULL,
            stderr=writing,
            env=environment,
            preexec_fn=close,
            timeout=100,
            check=False,
        )
    assert done.returncode == 0
    assert MaskedLM.from_preset(tmp_path / "out").params


# --- models that know nothing -----------------------------------------------------------------------------------------


@SHOWN
@pytest.mark.parametrize("kind", ["classifier", "encoder"])
def test_a_model_without_a_masked_lm_head_is_an_error_unless_a_fresh_one_is_asked_for(
    kind: str, small_preset: Path, texts: str, tmp_path: Path, capsys
):
    directory = tmp_path / "model"
    if kind == "classifier":
        TextClassifier.from_preset(small_preset, num_classes=3).save_to_preset(directory)
    else:
        masked_lm = MaskedLM.from_preset(small_preset)
        masked_lm.backbone.save_to_preset(directory)
        masked_lm.preprocessor.tokenizer.save(directory)
    output = str(tmp_path / "out")
    commands = (
        ["evaluate", texts, "--quiet"], ["fill-mask", "I <mask>"], ["score", "I am"],
        ["fit", texts, "-o", output, "--quiet"],
    )  # fmt: skip
    for command in commands:
        assert main([*command, "--model", str(directory)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"pyroberta {command[0]}: error: {directory} has no masked-LM head")
        assert ("It is a classifier for 3 classes" in err) == (kind == "classifier")
        assert "With --fresh-head it gets an untrained one" in err
        assert len(err.splitlines()) == 1
        assert not Path(output).exists()
        assert main([*command, "--model", str(directory), "--fresh-head"]) == 0
        assert "pyroberta: warning: " in capsys.readouterr().err  # it is said all the same


def test_a_training_that_diverged_leaves_the_output_alone_and_exits_with_3(texts: str, model, tmp_path: Path, capsys):
    output = tmp_path / "out"
    arguments = ["fit", texts, "-o", f"{output}/", *model, "--batch-size", "2", "--quiet", "--learning-rate", "10"]
    assert main(arguments) == 3
    out, err = capsys.readouterr()
    assert not output.exists()
    assert out.startswith(f"saved to {output}.diverged after 3 updates: loss ")
    assert "the training diverged" in err
    which = "perplexity( after the last update)?"
    assert re.search(rf"diverged: {which} is \S+, but 300 for a model that knows nothing.*\. ", err)
    assert f"{output}/ was not written; try a lower --learning-rate than 10" in err
    diverged = MaskedLM.from_preset(f"{output}.diverged")
    assert not (diverged.params.flat == MaskedLM.from_preset(model[1]).params.flat).all()

    MaskedLM.from_preset(model[1]).save_to_preset(output)
    before = {file.name: file.read_bytes() for file in output.iterdir()}
    assert main([*arguments, "--json", "--overwrite"]) == 3
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert (result["saved"], result["diverged"]) == (f"{output}.diverged", True)
    assert f"{output}/ stays as it was" in err
    assert {file.name: file.read_bytes() for file in output.iterdir()} == before


@pytest.mark.parametrize(("rate", "epochs"), [(1000, 5), (1000, 1), (1e30, 5)])
def test_a_loss_that_is_not_finite_is_a_divergence(rate: float, epochs: int, texts: str, model, tmp_path: Path, capsys):
    output = tmp_path / "out"
    MaskedLM.from_preset(model[1]).save_to_preset(output)
    before = {file.name: file.read_bytes() for file in output.iterdir()}
    arguments = ["fit", texts, "-o", str(output), "--overwrite", *model, "--batch-size", "1", "--epochs", str(epochs)]
    assert main([*arguments, "--quiet", "--learning-rate", str(rate)]) == 3
    out, err = capsys.readouterr()
    assert "the training diverged: " in err
    assert f"{output} stays as it was; try a lower --learning-rate than {rate:g}" in err
    assert {file.name: file.read_bytes() for file in output.iterdir()} == before
    saved = tmp_path / "out.diverged"
    assert out.startswith(f"saved to {saved} after " if saved.exists() else "nothing saved after ")


def test_an_only_update_that_goes_wrong_is_a_divergence(texts: str, model, tmp_path: Path, capsys):
    """What the epoch tells was measured before it."""
    arguments = ["fit", texts, "-o", str(tmp_path / "out"), *model, "--batch-size", "999", "--quiet"]
    assert main([*arguments, "--learning-rate", "30"]) == 3
    assert "the training diverged" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*arguments, "--learning-rate", "1e-3"]) == 0


GREEK = ("Η γάτα κοιμάται στο παλιό σπίτι.", "Ο σκύλος τρέχει στον κήπο.", "Το παιδί διαβάζει ένα βιβλίο.")


@pytest.mark.parametrize(("rate", "code"), [("3e-4", 0), ("1e-9", 0), ("3", 3)])
def test_texts_that_the_model_hardly_knows_are_no_divergence(rate: str, code: int, tmp_path: Path, capsys):
    """The perplexity of texts in another script is far above that of chance, before and after a short training."""
    (tmp_path / "t.txt").write_text("\n".join(GREEK * 5), encoding="utf-8")
    assert main(["fit", str(tmp_path / "t.txt"), "-o", str(tmp_path / "out"), "--learning-rate", rate]) == code
    out, err = capsys.readouterr()
    found = re.search(r"whose perplexity is 8000: (\S+) after the training, (\S+) before\. ", err)
    assert (found is None) == (code == 3) == ("diverged" in err)
    if found:
        after, before = map(float, found.groups())
        assert 16000.0 < after <= before
        assert ("More --epochs help" in err) == (rate == "3e-4") == ("It did not learn from them" not in err)
    loss, perplexity = map(float, re.findall(r"(?:loss|perplexity) (\d+\.\d+)", out))
    assert perplexity == pytest.approx(np.exp(loss), rel=1e-3)  # both of the epoch


def test_validation_texts_that_the_model_hardly_knows_are_no_divergence(texts: str, tmp_path: Path, capsys):
    (tmp_path / "greek.txt").write_text("\n".join(GREEK), encoding="utf-8")
    line = ["fit", texts, "-o", str(tmp_path / "out"), "--validation", str(tmp_path / "greek.txt")]
    assert main(line) == 0
    err = capsys.readouterr().err
    assert re.search(r"val_perplexity is \S+, above the 8000 of a model that knows nothing: the texts of --valid", err)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("perplexity", 599.0, 0), ("perplexity", 600.0, 0), ("perplexity", 600.1, 3), ("perplexity", float("inf"), 3),
        ("perplexity", float("nan"), 3), ("val_perplexity", 601.0, 0), ("val_perplexity", float("nan"), 3),
        ("loss", 601.0, 0),
    ],
)  # fmt: skip
def test_diverged_is_a_last_perplexity_above_twice_the_vocabulary(
    name: str, value: float, code: int, texts: str, model, tmp_path, capsys, monkeypatch
):
    history = History()
    history.history = {"loss": [9.0, 1.0], "perplexity": [1e9, 3.0], name: [3.0, value]}
    monkeypatch.setattr(MaskedLM, "fit", lambda *_, **__: history)
    assert main(["fit", texts, "-o", str(tmp_path / "out"), *model]) == code
    assert (tmp_path / "out").exists() == (code == 0)
    assert (tmp_path / "out.diverged").exists() == (code == 3)


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "missing.txt"], "missing.txt: the file does not exist. Give a file, a directory, a pattern"),
        (["fit", "TEXTS", "MODEL", "-o", "TEXTS/x"], "texts.txt is a file, and not a directory. Give another place"),
        (["train-tokenizer", "TEXTS", "-o", "TEXTS/x"], "texts.txt is a file, and not a directory. Give another place"),
        (["fit", "TEXTS", "MODEL", "-o", "HERE/x", "--fresh", "--tokenizer", "no"], "no: the directory does not exist"),
        (["fill-mask", "a", "-m", "roberta_tiny"], "unknown preset 'roberta_tiny'; did you mean 'roberta_tiny_en'"),
        (["fill-mask", "a", "-m", "./nowhere"], "there is no such directory"),
        (["fill-mask", "a", "MODEL"], "text 1 holds no '<mask>': 'a'"),
        (["fill-mask", "<mask>.", "a", "MODEL"], "text 2 holds no '<mask>': 'a'"),
        (["score", "a", "TEXTS", "MODEL"], "texts.txt' is the name of a file, and TEXT is the text itself. For the"),
        (["fill-mask", "TEXTS", "MODEL"], "in the file: pyroberta fill-mask --file "),
        (["fill-mask", "TEXTS", "MODEL"], " | pyroberta fill-mask -"),
        (["evaluate", "TEXTS", "-m", "hf://nonsense"], "hf://nonsense"),
        (["fit", "TEXTS", "MODEL", "-o", "HERE"], "it holds files"),
        (["fit", "TEXTS", "MODEL", "-o", "HERE/x", "--freeze", "y"], "no parameter's name matches 'y'"),
        (["fit", "TEXTS", "MODEL", "-o", "HERE/x", "--validation", "no.txt"], "no.txt: the file does not exist"),
    ],
)  # fmt: skip
def test_what_is_wrongly_given_is_told_in_one_line_on_stderr_and_exits_with_2(
    arguments: list[str], message: str, texts: str, model: list[str], tmp_path: Path, capsys
):
    filled = [
        part
        for argument in arguments
        for part in (
            model if argument == "MODEL" else [argument.replace("TEXTS", texts).replace("HERE", str(tmp_path))]
        )
    ]
    assert main(filled) == 2
    out, err = capsys.readouterr()
    assert out == ""
    *read, err = err.splitlines()
    assert err.startswith(f"pyroberta {arguments[0]}: error: ")
    assert message in err
    assert "Traceback" not in err
    assert [line for line in read if not line.endswith("text, one a line, 6 texts")] == []
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"id,text\n1,a\n", "a.csv is CSV with the columns 'id', 'text'. Name the column of the texts: --c"),
        ("a.txt.gz", b"\x1f\x8b", "a.txt.gz is no sound file packed by gzip"),
        ("a.jsonl", b'{"text": "a"}', "a.jsonl is JSON lines with the column 'text'. Name the column of the texts: -"),
    ],
)  # fmt: skip
def test_files_of_other_kinds_are_refused(
    name: str, content: bytes, message: str, model, tmp_path, capsys, monkeypatch
):
    (tmp_path / name).write_bytes(content)
    for command in (["evaluate"], ["fit", "-o", str(tmp_path / "x")], ["train-tokenizer", "-o", str(tmp_path / "x")]):
        arguments = [] if command[0] == "train-tokenizer" else model
        assert main([*command, str(tmp_path / name), *arguments]) == 2
        err = capsys.readouterr().err
        assert message in err
        feed(monkeypatch, content)
        assert main([*command, "-", *arguments]) == 2
        assert "standard input " in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="no /dev/fd here")
@pytest.mark.parametrize("kind", ["substitution", "stdin", "fifo"])
def test_a_pipe_in_the_place_of_a_file_is_read(kind: str, texts: str, model: list[str], tmp_path: Path):
    program = f"{shlex.quote(sys.executable)} -m pyroberta evaluate --quiet --json --model {shlex.quote(model[1])}"
    quoted, fifo = shlex.quote(texts), shlex.quote(str(tmp_path / "fifo"))
    line = {
        "substitution": f"{program} <(cat {quoted})",
        "stdin": f"cat {quoted} | {program} /dev/stdin",
        "fifo": f"mkfifo {fifo}; cat {quoted} > {fifo} & {program} {fifo}",
    }[kind]
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=100, check=True)
    expected = MaskedLM.from_preset(model[1]).evaluate(TEXTS, batch_size=16, verbose=0, return_dict=True)
    assert json.loads(done.stdout) == pytest.approx(expected)


def test_standard_input_that_is_no_text_is_an_error(model: list[str], capsys, monkeypatch):
    feed(monkeypatch, b"caf\xe9 <mask>")
    assert main(["fill-mask", *model]) == 2
    assert "standard input is not UTF-8 text: invalid continuation byte at byte 3" in capsys.readouterr().err
    feed(monkeypatch, "\n \n")
    assert main(["evaluate", "-", *model]) == 2
    assert "standard input holds no text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        *((kind("x"), 2) for kind in (ValueError, TypeError, FileNotFoundError, FileExistsError, NotADirectoryError)),
        *((kind("x"), 1) for kind in (PermissionError, ConnectionError, ImportError, RuntimeError, ArithmeticError)),
        (OSError(errno.ENOSPC, "x"), 1),
        (MemoryError(), 1),
        (KeyboardInterrupt(), 130),
        (Stopped(signal.SIGTERM), 143),
    ],
    ids=repr,
)
def test_the_exit_code_tells_who_can_mend_it(error: BaseException, code: int, capsys, monkeypatch):
    def fail(arguments):
        raise error

    monkeypatch.setattr(doctor, "run", fail)
    assert main(["doctor"]) == code
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(SystemExit):
        main(["--help"])
    codes = capsys.readouterr().out.partition("Exit codes:")[2]
    assert f" {code} " in " ".join(codes.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "t", "-o", "x", "--lr", "3"], "unknown option --lr; did you mean --learning-rate?"),
        (["fit", "t", "-o", "x", "--bs=3"], "unknown option --bs; did you mean --batch-size?"),
        (["train-tokenizer", "t", "-o", "x", "--vocabulary-size", "9"], "; did you mean --vocab-size?"),
        (["doctor", "--colour"], "unknown option --colour"),
        (["fit", "--nope"], "unknown option --nope. Required arguments are missing: FILE, -o/--output"),
        (
            ["fit", "--lr=3", "-m", "x"],
            "unknown option --lr; did you mean --learning-rate? Required arguments are missing: FILE, -o/--output",
        ),
        (["convert", "a", "--label"], "`pyroberta classify evaluate`. Required arguments are missing: DST"),
        (["fit", "-ox", "--quiet"], "the following arguments are required: FILE"),
        (["convert", "--", "--nope"], "the following arguments are required: DST"),
        (
            ["fit", "t", "-o", "x", "--label", "y"],
            "--label; it is an option of `pyroberta classify train` and `pyroberta classify evaluate`",
        ),
        (["fill_mask", "a <mask>"], "; did you mean 'fill-mask'?"),
        (["classify", "predikt", "a"], "; did you mean 'predict'?"),
        (["fit", "t", "-o", "x", "--schedule", "cosin"], "; did you mean 'cosine'?"),
        (["predict", "a"], "; did you mean `pyroberta classify predict`?"),
        (["train", "t"], "; did you mean `pyroberta fit`?"),
        (["help"], "; did you mean `pyroberta --help`?"),
    ],
)
def test_an_unknown_option_or_command_is_answered_with_the_one_that_was_meant(
    arguments: list[str], message: str, capsys
):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith(f"{message}\n")


def test_the_module_runs_as_a_program(model: list[str]):
    done = run("fill-mask", "no hole", *model)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "pyroberta fill-mask: error: text 1 holds no '<mask>': 'no hole'. Write '<mask>' in the place of the word to "
        "fill in\n"
    )
    done = run("score", *model, "--json", input="Iñtërnâtiônàl\n", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert json.loads(done.stdout)["text"] == "Iñtërnâtiônàl"
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_during_the_imports_shows_no_traceback(tmp_path: Path):
    (tmp_path / "numpy.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise OSError('late')\n"
    )
    program = tmp_path / "pyroberta"  # as pip makes it
    program.write_text("import sys\nfrom pyroberta.cli.main import main\nsys.exit(main())\n")
    other = tmp_path / "other.py"
    other.write_text("import pyroberta\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}
    found = {}
    for name, line in {"-m": ["-m", "pyroberta"], "script": [str(program)], "other": [str(other)]}.items():
        done = subprocess.run(
            [sys.executable, *line, "doctor"], capture_output=True, text=True, env=environment, check=False,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler), cwd=tmp_path,
        )  # fmt: skip
        found[name] = done.returncode, done.stdout, done.stderr.splitlines()[-1:]
    assert found["-m"] == found["script"] == (130, "", [])
    assert found["other"] == (-signal.SIGINT, "", ["KeyboardInterrupt"])


def test_ctrl_c_in_an_exec_has_the_programs_exit_code():
    program = (
        "import sys; from pyroberta.cli import doctor; from pyroberta.cli.main import main\n"
        "doctor.run = lambda arguments: exec('raise KeyboardInterrupt')\n"
        "sys.exit(main(['doctor']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_nothing_that_is_read_commands_the_terminal(model: list[str], tmp_path: Path, capsys):
    bad = "\x1b[2J\x07\x9b\u202e\udcff"
    safe = "\\x1b[2J\\x07\\x9b\\u202e\\udcff"
    file = tmp_path / f"a{bad}.txt"
    file.write_text("A joy\x1b[31m.\tGreat.\nDull.\n")
    assert main(["evaluate", str(file), *model]) == 0
    assert f"a{safe}.txt: text, one a line" in capsys.readouterr().err
    assert main(["score", "--file", str(file), *model, "--quiet"]) == 0
    assert "A joy\\x1b[31m.\tGreat.\n" in capsys.readouterr().out
    assert main(["score", f"dull{bad}", "--model", f"no{bad}"]) == 2
    assert f"no{safe}" in capsys.readouterr().err
    assert main(["inspect", bad]) == 2
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", capsys.readouterr().err)
    labels = ["good", f"bad{bad[:-1]}"]  # no file of a preset holds half of a surrogate pair
    classifier = TextClassifier.from_preset(model[1], num_classes=2, labels=labels, seed=0)
    classifier.save_to_preset(tmp_path / "classifier")
    assert main(["classify", "predict", *("A joy.",) * 8, "--model", str(tmp_path / "classifier")]) == 0
    assert main(["inspect", str(tmp_path / "classifier")]) == 0
    out = capsys.readouterr().out
    assert f"bad{safe[:-7]}" in out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out)


def test_what_the_encoding_of_standard_output_lacks_is_written_out(model: list[str]):
    done = run("score", "Iñtërnâtiônàl", *model, env={**os.environ, "PYTHONIOENCODING": "ascii:strict"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("I\\xf1t\\xebrn\\xe2ti\\xf4n\\xe0l\n")


def test_a_reader_that_has_seen_enough_is_no_error(model: list[str]):
    command = [sys.executable, "-m", "pyroberta", "doctor"]
    reader, writer = os.pipe()
    os.close(reader)  # nobody will read
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_trace_goes_into_a_file_that_is_not_replaced_unasked(model, tmp_path, capsys):
    from pyroberta.oracle.golden import read_trace

    file = tmp_path / "golden.safetensors"
    arguments = ["trace", "A dog barks at the cat.", *model, "-o", str(file), "--bounds", "none", "--steps", "2"]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    found = read_trace(file)
    assert result == {"saved": str(file), "tensors": len(found), "bytes": file.stat().st_size}
    assert "step_1.loss.losses" in found
    assert not any(name.startswith("bound.") for name in found)
    assert main(arguments) == 2
    assert "exists already. Give another name, or --overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0
    assert capsys.readouterr().out.startswith(f"saved {len(found)} tensors")
    with pytest.raises(SystemExit):
        main(["trace", "A dog.", *model, "-o", str(tmp_path / "golden.npz")])
    assert "must end in .safetensors, the format of the file, got" in capsys.readouterr().err


def test_a_trace_takes_an_optimizer_dropout_and_parts(model, tmp_path, capsys):
    from pyroberta.oracle.golden import read_trace

    file, config = tmp_path / "golden.safetensors", tmp_path / "optimizer.json"
    optimizer = optimizers.AdamW(schedules.Linear(1e-3, 10, warmup_steps=2), weight_decay=0.1, global_clipnorm=0.5)
    optimizer.exclude_from_weight_decay(var_names=[r"bias$"])
    config.write_text(json.dumps(optimizer.get_config()))
    texts = ["A dog barks at the cat.", "It is late.", "Who goes there?"]
    arguments = ["trace", *texts, *model, "-o", str(file), "--steps", "2", "--overwrite"]
    assert main([*arguments, "--optimizer", str(config), "--dropout", "0.3", "--parts", "2"]) == 0
    found = read_trace(file)
    assert found.settings["optimizer"] == optimizer.get_config()
    rates = ("dropout", "attention_dropout", "classifier_dropout")
    assert [found.settings["config"][of] for of in rates] == [0.3] * 3
    assert float(found["step_1.learning_rate"]) == pytest.approx(0.5e-3)
    assert "clip.scale" in found
    assert (len(found["batch.starts"]), len(found["batch_2.starts"])) == (3, 2)
    assert "bound.updated.head.bias" in found
    keep = [found[name] for name in found if name.endswith(".norm.keep") and name.startswith("layers.")]
    assert sum(one.sum() for one in keep) / sum(one.size for one in keep) == pytest.approx(0.7, abs=0.05)
    assert main([*arguments, "--parts", "4"]) == 2
    assert "parts must be at most 3, the number of sequences, got 4" in capsys.readouterr().err
    assert main([*arguments, "--optimizer", str(tmp_path / "gone.json")]) == 2
    assert "gone.json" in capsys.readouterr().err
    for option in (["--dropout", "1"], ["--parts", "0"]):
        with pytest.raises(SystemExit):
            main([*arguments, *option])
        assert option[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([1], "should hold a JSON object"),
        ({"learning_rate": 1.0}, "should name the optimizer, such as"),
        ({"name": "sgd"}, "optimizer must be one of adam, adamw, torchadam, torchadamw"),
        ({"name": "adam", "learning_rate": {"name": "steep"}}, "the schedule's name must be one of"),
        ({"name": "adam", "momentum": 0.9}, "Adam has no argument 'momentum'"),
        ({"name": "adam", "clipnorm": 1.0, "clipvalue": 1.0}, "only one of clipnorm, clipvalue"),
        ({"name": "adamw", "exclude_from_weight_decay": ["nothing"]}, "no parameter's name matches 'nothing'"),
        ({"name": "adamw", "exclude_from_weight_decay": ["("]}, "is not a regular expression"),
        ({"name": "adamw", "exclude_from_weight_decay": 1}, "should be a list of patterns, got 1"),
    ],
)
def test_a_file_that_is_no_optimizers_config_is_named(model, tmp_path, capsys, config, message: str):
    file = tmp_path / "optimizer.json"
    file.write_text(json.dumps(config))
    arguments = ["trace", "A dog.", *model, "-o", str(tmp_path / "golden.safetensors"), "--optimizer", str(file)]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert f"{file}" in said
    assert message in said
    assert not (tmp_path / "golden.safetensors").exists()


def test_a_comparison_prints_the_first_departure_and_tells_it_by_its_exit_code(model, tmp_path, capsys):
    from pyroberta.oracle.golden import read_trace

    file, theirs, names = tmp_path / "golden.safetensors", tmp_path / "theirs.npz", tmp_path / "names.json"
    assert main(["trace", "A dog barks at the cat.", *model, "-o", str(file)]) == 0
    golden = read_trace(file)
    place = "layers.1.attention.output"
    given = {"x.3": golden["layers.1.attention.context"], f"{place}.output": golden[f"{place}.output"]}
    names.write_text(json.dumps({"x.3": "layers.1.attention.context"}))
    np.savez(theirs, **given)
    command = ["compare", str(file), str(theirs), "--names", str(names)]
    count = sum(entry.value != "bound" for entry in golden.entries.values())
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().out == f"2 of the trace's {count} tensors compared as float32, none beyond rounding\n"
    given[f"{place}.output"] = given["x.3"] @ golden[f"parameters.{place}.kernel"].T
    np.savez(theirs, **given)
    report = ["--report", str(tmp_path / "page.html")]
    assert main([*command, *report]) == 1
    printed = capsys.readouterr().out
    assert f"{place}.output" in printed
    assert "the kernel is transposed (explains 100.00% of the difference)" in printed
    assert "the kernel is transposed" in (tmp_path / "page.html").read_text()
    assert main([*command, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["departures"][0]["place"] == place
    assert found["their_names"]["layers.1.attention.context"] == "x.3"
    assert main([*command, "--all"]) == 1
    assert "DEPARTS" in capsys.readouterr().out
    assert main([*command, *report]) == 2
    assert "page.html exists already. Give another name, or --overwrite" in capsys.readouterr().err
    assert main([*command, *report, "--overwrite"]) == 1
    assert main([*command, "--report", str(theirs), "--overwrite"]) == 2
    assert "is also THEIRS, and would replace it" in capsys.readouterr().err
    np.load(theirs)  # as it was
    assert main([*command, "--report", str(tmp_path / ("x" * 300))]) == 2  # not 1, which is "departs"
    capsys.readouterr()
    assert main([*command, "--overwrite"]) == 2
    assert "--overwrite has no effect without --report" in capsys.readouterr().err
    names.write_text(json.dumps({"x.3": "layers.1.attention.context", "y": "loss.losses"}))
    np.savez(theirs, **given, **{f"strange.{i}": np.ones(2) for i in range(20)})
    assert main(command) == 1
    printed = capsys.readouterr().out
    assert (
        "20 of their names belong to no tensor of the trace, and only 2 of its tensors compared: 'strange.0', "
        in printed
    )
    assert " and 16 more\n" in printed
    assert "--names FILE says what they are" not in printed  # it was given
    assert "names of --names that their tensors lack: 'y'" in printed
    np.savez(theirs, strange=np.ones(2))
    assert main(["compare", str(file), str(theirs)]) == 2
    assert "nothing to compare: no tensor of" in capsys.readouterr().err


def test_a_comparison_prints_what_it_left_out(model, tmp_path, capsys):
    from pyroberta.oracle.golden import read_trace

    file, theirs = tmp_path / "golden.safetensors", tmp_path / "theirs.npz"
    assert main(["trace", "A dog barks at the cat.", *model, "-o", str(file)]) == 0
    golden = read_trace(file)
    layer, x = "roberta.encoder.layer.1", golden["layers.1.feed_forward.norm.output"]
    odd = {"lm_head": np.ones((7, 7))}
    np.savez(theirs, **{layer: x, f"{layer}.output.LayerNorm": x + 1.0, **odd})
    command = ["compare", str(file), str(theirs)]
    capsys.readouterr()
    assert main(command) == 0
    first, *remarks = capsys.readouterr().out.splitlines()
    assert first.endswith("none beyond rounding")
    assert remarks[0] == f"{layer}.output.LayerNorm and {layer} should be equal, but differ; the second is used"
    assert remarks[1].startswith("'lm_head' has shape (7, 7), and no known layout converts it to loss.logits, ")
    assert remarks[1].endswith(". Left out: 'lm_head'")
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["remarks"] == remarks
    np.savez(theirs, **odd)
    assert main(command) == 2
    assert "'lm_head' has shape (7, 7), and no known layout converts it" in capsys.readouterr().err
