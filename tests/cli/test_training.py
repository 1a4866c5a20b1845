"""Training on the command line: how it is stopped, gone on with, watched and saved."""

from __future__ import annotations

import argparse
import csv
import errno
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from small_models import TEXTS

from pyroberta import MaskedLM, optimizers, schedules
from pyroberta.cli import saving, training
from pyroberta.cli.checkpoints import FILE, Checkpoint
from pyroberta.cli.main import main
from pyroberta.cli.parser import build_parser
from pyroberta.training import checkpoint
from pyroberta.training.callbacks import CSVLogger


@pytest.fixture
def fit(texts: str, small_preset: Path, tmp_path: Path, monkeypatch) -> list[str]:
    """The beginning of a line; it runs in a directory of its own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return ["fit", texts, "--model", str(small_preset), "--quiet", "--json", "--batch-size", "1", "--seed", "3"]


def result_of(line: list[str], capsys, code: int = 0) -> dict:
    assert main(line) == code
    return json.loads(capsys.readouterr().out)


def params_of(preset: str | Path) -> bytes:
    return MaskedLM.from_preset(preset).params.flat.tobytes()


def signalled(monkeypatch, owner: type, name: str, calls: set[int], number: int = signal.SIGINT) -> None:
    """Sends a signal to this process at these calls of a method."""
    really, count = getattr(owner, name), [0]

    def call(self, *arguments, **keywords):
        count[0] += 1
        if count[0] in calls:
            signal.raise_signal(number)
        return really(self, *arguments, **keywords)

    monkeypatch.setattr(owner, name, call)


# --- stopped, and gone on with ----------------------------------------------------------------------------------------

STEPS = len(TEXTS)  # of an epoch


@pytest.mark.parametrize(
    ("method", "call", "updates"),
    [
        ("_update", 2, 2),  # in the midst of an epoch
        ("_update", STEPS, STEPS),  # at its end
        ("_update", STEPS + 1, STEPS + 1),  # in the next one
        ("_update", 3 * STEPS, 3 * STEPS),  # the very last
        ("_evaluate", 3, 2 * STEPS),  # in the evaluation of an epoch, behind that before the training
    ],
)
def test_a_training_that_was_stopped_goes_on_bit_for_bit(
    method: str, call: int, updates: int, fit, texts, tmp_path, capsys, monkeypatch
):
    line = [*fit, "--epochs", "3", "--validation", texts, "--learning-rate", "1e-2", "--checkpoint", "run"]
    whole = result_of([*line, "-o", "whole", "--log", "whole.csv"], capsys)
    assert not Path("run").exists()  # of a training that is done
    with monkeypatch.context() as patch:
        signalled(patch, MaskedLM, method, {call})
        stopped = result_of([*line, "-o", "parts", "--log", "parts.csv"], capsys, 130)
    assert (stopped["updates"], stopped["interrupted"], stopped["saved"]) == (updates, True, "parts")
    assert stopped["to_go_on"] == shlex.join(
        ["pyroberta", *line, "-o", "parts", "--log", "parts.csv", "--resume"]
    )  # fmt: skip
    assert params_of("parts") != params_of("whole") or updates == 3 * STEPS
    assert Path("run", FILE).exists()
    resumed = result_of(shlex.split(stopped["to_go_on"])[1:], capsys)
    assert (resumed["updates"], resumed["history"]) == (3 * STEPS, whole["history"])
    assert params_of("parts") == params_of("whole")
    assert Path("parts.csv").read_text() == Path("whole.csv").read_text()
    assert not Path("run").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--early-stopping", "3", "--checkpoint-every", "1"],
        ["--lora", "2", "--weight-decay", "0.1", "--clip", "0.1", "--schedule", "cosine"],
        ["--whole-words", "--accumulate", "2", "--freeze", "embeddings.token"],
        ["--full-sentences", "--fresh"],
    ],
)
def test_a_training_with_other_options_goes_on_bit_for_bit(options, fit, capsys, monkeypatch):
    line = [*fit, "--epochs", "3", "--validation", "34%", "--learning-rate", "1e-2", "--checkpoint", "run", *options]
    whole = result_of([*line, "-o", "whole"], capsys)
    with monkeypatch.context() as patch:
        signalled(patch, MaskedLM, "_update", {whole["updates"] // 2 + 1})
        stopped = result_of([*line, "-o", "parts"], capsys, 130)
    assert stopped["updates"] < whole["updates"]
    resumed = result_of(shlex.split(stopped["to_go_on"])[1:], capsys)
    assert resumed["history"] == whole["history"]
    assert params_of("parts") == params_of("whole")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([], ["--log", "a.csv"], "CSVLogger is new and starts without a state"),
        (["--log", "a.csv"], [], "CSVLogger is missing"),
    ],
)
@pytest.mark.filterwarnings("always:fit continues with other callbacks")
def test_a_training_may_go_on_with_another_log(before, after, message, fit, capsys, monkeypatch):
    line = [*fit, "--epochs", "3", "--checkpoint", "run"]
    whole = result_of([*line, "-o", "whole"], capsys)
    with monkeypatch.context() as patch:
        signalled(patch, MaskedLM, "_update", {STEPS + 1})
        result_of([*line, "-o", "parts", *before], capsys, 130)
    assert main([*line, "-o", "parts", *after, "--resume"]) == 0
    assert capsys.readouterr().err.count(f"warning: fit continues with other callbacks than before: {message}.") == 1
    assert params_of("parts") == params_of("whole")
    assert len(Path("a.csv").read_text().splitlines()) == (1 + 2 if after else 1 + 1)  # its header, and its epochs
    assert whole["updates"] == 3 * STEPS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_waits_for_the_update_and_says_what_comes(number: int, fit, capsys, monkeypatch):
    signalled(monkeypatch, MaskedLM, "_update", {3}, number)
    assert main([*fit, "-o", "out"]) == 128 + number
    out, err = capsys.readouterr()
    assert json.loads(out)["updates"] == 3
    lines = err.splitlines()
    assert lines[0].startswith(
        "pyroberta: stopping after this update, then saving (once more: at once, without saving)"
    )
    assert lines[1].startswith(f"pyroberta: interrupted after 3 of {STEPS} updates; saving to out (Ctrl-C ")
    assert lines[2].startswith("pyroberta: to go on from what it knows now: pyroberta fit ")
    assert len(lines) == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # as before
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_without_a_checkpoint_the_line_to_go_on_trains_what_was_saved(fit, texts, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        signalled(patch, MaskedLM, "_update", {2})
        stopped = result_of([*fit, "-o", "out", "--epochs", "2"], capsys, 130)
    line = shlex.split(stopped["to_go_on"])[1:]
    assert line[-5:] == ["--model", "out", "--output", "out", "--overwrite"]
    assert fit[3] not in line
    before = params_of("out")
    assert result_of(line, capsys)["updates"] == 2 * STEPS
    assert params_of("out") != before


@pytest.mark.parametrize("where", ["the update", "the saving"])
def test_the_second_signal_leaves_at_once(where: str, fit, capsys, monkeypatch):
    kept = [*fit, "-o", "out", "--checkpoint", "run", "--checkpoint-every", "2", "--epochs", "2"]
    with monkeypatch.context() as patch:
        if where == "the update":
            really, count = MaskedLM._update, [0]

            def twice(self, *arguments, **keywords):
                count[0] += 1
                if count[0] == 4:
                    signal.raise_signal(signal.SIGINT)
                    signal.raise_signal(signal.SIGTERM)
                return really(self, *arguments, **keywords)

            patch.setattr(MaskedLM, "_update", twice)
        else:
            signalled(patch, MaskedLM, "_update", {4})
            signalled(patch, MaskedLM, "save_to_preset", {1}, signal.SIGTERM)
        code = main(kept)
    out, err = capsys.readouterr()
    assert code == 128 + signal.SIGTERM
    assert out == ""
    assert err.endswith("interrupted\n")
    assert f"to go on from the last checkpoint: {shlex.join(['pyroberta', *kept, '--resume'])}\n" in err
    assert not Path("out").exists()
    state, _ = checkpoint.load(Path("run", FILE))
    assert state.step == (2 if where == "the update" else 4)
    whole = result_of([*fit, "-o", "whole", "--epochs", "2"], capsys)
    assert result_of([*kept, "--resume"], capsys)["history"] == whole["history"]
    assert params_of("out") == params_of("whole")


def test_a_signal_before_the_first_update_saves_nothing(fit, capsys, monkeypatch):
    signalled(monkeypatch, MaskedLM, "_reader", {1})
    assert main([*fit, "-o", "out"]) == 130
    out, err = capsys.readouterr()
    assert (out, err) == ("", "pyroberta: no update was made yet\npyroberta: nothing is saved\ninterrupted\n")
    assert list(Path().iterdir()) == []


def test_a_first_signal_while_the_finished_model_is_saved_does_not_lose_it(fit, capsys, monkeypatch):
    signalled(monkeypatch, MaskedLM, "save_to_preset", {1})
    result = result_of([*fit, "-o", "out"], capsys, 130)
    assert (result["saved"], result["updates"]) == ("out", STEPS)
    assert MaskedLM.from_preset("out").params
    assert [entry.name for entry in Path().iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("owner", "name", "call"), [(MaskedLM, "evaluate", 2), (training, "_outcome", 1)], ids=["evaluate", "outcome"]
)
def test_a_first_signal_after_the_last_update_does_not_lose_the_model(fit, capsys, monkeypatch, owner, name, call):
    signalled(monkeypatch, owner, name, {call})  # by which it is told whether the model is lost
    result = result_of([*fit, "-o", "out"], capsys, 130)
    assert (result["saved"], result["updates"]) == ("out", STEPS)
    whole = result_of([*fit, "-o", "whole"], capsys)
    assert whole["updates"] == STEPS
    assert params_of("out") == params_of("whole")


def test_a_checkpoint_of_another_backend_is_gone_on_with_and_that_is_said(fit, capsys, monkeypatch):
    kept = [*fit, "-o", "out", "--checkpoint", "run", "--backend", "numpy"]
    with monkeypatch.context() as patch:
        signalled(patch, MaskedLM, "_update", {2})
        assert main(kept) == 130
    state, notes = checkpoint.load(Path("run", FILE))
    checkpoint.save(Path("run", FILE), state, {**notes, "backend": "another"})
    capsys.readouterr()
    assert main([*kept, "--resume"]) == 0
    assert "the checkpoint was made with the backend another, but training continues with numpy: the last bits" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--epochs", "3"], "belongs to a training with --epochs 2, but this one has --epochs 3. Give the same"),
        (["--learning-rate", "1e-3"], "with --learning-rate 5e-05, but this one has --learning-rate 0.001"),
        (["--clip", "1"], "with no --clip, but this one has --clip 1.0"),
        (["--whole-words"], "with no --whole-words, but this one has --whole-words"),
        (["--freeze", "head.bias", "--freeze", "emb.*"], "but this one has --freeze head.bias --freeze emb.*. Give"),
        (["OTHER", "texts.txt"], "belongs to a training with the texts "),
        (["OTHER", "held_out.txt"], "belongs to a training with the validation texts "),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(changes, message, fit, texts, capsys, monkeypatch):
    held_out = shutil.copy(texts, Path(texts).with_name("held_out.txt"))
    epochs = ["--epochs", "2"]
    line = [*fit, "-o", "out", "--checkpoint", "run", "--validation", str(held_out)]
    with monkeypatch.context() as patch:
        signalled(patch, MaskedLM, "_update", {2})
        result_of([*line, *epochs], capsys, 130)
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    if changes[0] == "OTHER":
        Path(texts).with_name(changes[1]).write_text("\n".join(reversed(TEXTS)))
        changes = []
    if "--epochs" not in changes:
        changes = [*epochs, *changes]
    assert main([*line, "--resume", *changes]) == 2
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_a_checkpoint_is_replaced_only_when_asked_to_and_none_is_no_error(fit, capsys, monkeypatch):
    line = [*fit, "-o", "out", "--checkpoint", "run"]
    assert main([*line, "--resume"]) == 0  # as a job that is started again by the same line
    assert "there is no checkpoint in run yet: starting a new training" in capsys.readouterr().err
    assert main([*line, "--resume"]) == 2  # once more
    assert "already (config.json), and there is no checkpoint in run: the training may have" in capsys.readouterr().err
    shutil.rmtree("out")
    with monkeypatch.context() as patch:
        signalled(patch, MaskedLM, "_update", {2})
        result_of(line, capsys, 130)
    other = [*fit, "-o", "other", "--checkpoint", "run"]
    for again in (line, other):  # the first has its model at `out` as well
        assert main(again) == 2
        assert "run holds a checkpoint already. Give --resume to continue from it" in capsys.readouterr().err
    assert main([*other, "--resume"]) == 0  # another place for the model
    capsys.readouterr()
    assert not Path("run").exists()
    Path("run").mkdir()
    Path("run", "mine").touch()
    assert result_of([*other, "--overwrite"], capsys)["updates"] == STEPS
    assert os.listdir("run") == ["mine"]


@pytest.mark.skipif(sys.platform == "win32", reason="no locks that end with a process")
def test_two_trainings_do_not_share_a_checkpoint(fit, capsys):
    line = [*fit, "-o", "out", "--checkpoint", "run", "--resume"]
    with Checkpoint("run", {}).alone():
        assert main(line) == 2
        assert "another running training has its checkpoint in run. Wait until it has ended" in capsys.readouterr().err
        assert os.listdir() == ["run"]
    assert os.listdir() == []
    assert result_of(line, capsys)["updates"] == STEPS
    assert os.listdir() == ["out"]


def test_a_model_of_somebody_elses_is_not_replaced_by_going_on(fit, small_preset, capsys, monkeypatch):
    line = [*fit, "--checkpoint", "run", "--epochs", "2"]
    with monkeypatch.context() as patch:
        signalled(patch, MaskedLM, "_update", {2})
        result_of([*line, "-o", "out"], capsys, 130)
    shutil.copytree(small_preset, "theirs")
    assert main([*line, "-o", "theirs", "--resume"]) == 2
    assert "theirs holds a model already" in capsys.readouterr().err


# --- real processes ---------------------------------------------------------------------------------------------------


def started(line: list[str], output: int) -> subprocess.Popen[str]:
    """A process of the command line that has written its first checkpoint."""
    command = [sys.executable, "-m", "pyroberta", *line]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, stdout=output, stderr=output, text=True, env=env)
    deadline = time.monotonic() + 60
    while not Path("run", FILE).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_is_signalled_saves_and_goes_on_bit_for_bit(number, fit, texts, capsys):
    line = [*fit, "--epochs", "60", "-o", "parts", "--checkpoint", "run"]
    process = started(line, subprocess.PIPE)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    stopped = json.loads(out)
    assert 0 < stopped["updates"] < 60 * STEPS
    assert result_of(shlex.split(stopped["to_go_on"])[1:], capsys)["updates"] == 60 * STEPS
    result_of([*fit, "--epochs", "60", "-o", "whole"], capsys)
    assert params_of("parts") == params_of("whole")


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_from_its_last_checkpoint(fit, capsys):
    line = [*fit, "--epochs", "60", "-o", "parts", "--checkpoint", "run", "--checkpoint-every", "1"]
    process = started(line, subprocess.DEVNULL)
    time.sleep(0.2)
    process.kill()
    process.wait()
    assert not Path("parts").exists()
    assert result_of([*line, "--resume"], capsys)["updates"] == 60 * STEPS
    result_of([*fit, "--epochs", "60", "-o", "whole"], capsys)
    assert params_of("parts") == params_of("whole")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals here")
def test_at_a_real_terminal_ctrl_c_stops_saves_and_says_how_to_go_on(fit, capsys):
    """The terminal sends the signal, and shows a bar before."""
    import pty

    line = [word for word in fit if word not in ("--quiet", "--json")] + ["--epochs", "500", "-o", "out"]
    process, terminal = pty.fork()
    if not process:
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
        os.execv(sys.executable, [sys.executable, "-m", "pyroberta", *line, "--checkpoint", "run"])
    screen, is_stopped, deadline = "", False, time.monotonic() + 60
    with open(terminal, "r+b", buffering=0) as opened:
        while time.monotonic() < deadline:
            try:
                screen += opened.read(1000).decode("utf-8", "replace")
            except OSError:  # the program has ended
                break
            if not is_stopped and "epoch 3/500: loss=" in screen:
                opened.write(b"\x03")
                is_stopped = True
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert "\rpyroberta: stopping after this update" in screen.replace("\n", "\r")
    assert "saved to out after " in screen
    stopped = screen.replace("\r\n", "\n").partition("to go on: pyroberta ")[2].partition("\n")[0]
    assert stopped.endswith("--epochs 500 -o out --checkpoint run --resume")
    assert Path("run", FILE).exists()
    assert MaskedLM.from_preset("out").params


# --- options ----------------------------------------------------------------------------------------------------------


def test_options_reach_the_optimizer_the_preprocessor_and_the_model(fit, capsys, monkeypatch):
    seen = {}

    def spy(self, x, y=None, **how):
        seen.update(how, model=self)
        raise ValueError("that is enough")

    monkeypatch.setattr(MaskedLM, "fit", spy)
    options = ["--weight-decay", "0.1", "--clip", "0.5", "--schedule", "cosine", "--whole-words", "--lora", "2"]
    assert main([*fit, "-o", "out", *options, "--epochs", "7", "--accumulate", "2", "--validation", "25%"]) == 2
    model, optimizer = seen["model"], seen["model"].optimizer
    assert isinstance(optimizer, optimizers.AdamW)
    assert (optimizer.weight_decay, optimizer.global_clipnorm) == (0.1, 0.5)
    optimizer.check_excluded(model.params)
    assert (model.preprocessor.whole_words, model.backbone.config.lora_rank) == (True, 2)
    assert (seen["epochs"], seen["gradient_accumulation_steps"], seen["validation_split"]) == (7, 2, 0.25)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], schedules.Linear(1e-3, 100, warmup_steps=6)),
        (["--warmup", "10%"], schedules.Linear(1e-3, 100, warmup_steps=10)),
        (["--schedule", "cosine", "--warmup", "0.1"], schedules.Cosine(1e-3, 100, warmup_steps=10)),
        (["--schedule", "constant"], schedules.Constant(1e-3)),
        (["--schedule", "constant", "--warmup", "0.2"], schedules.Constant(1e-3, warmup_steps=20)),
    ],
)
def test_a_schedule_spans_all_updates(options, expected, fit, texts, capsys, monkeypatch):
    Path(texts).write_text("\n".join(TEXTS[:2]))
    used = []
    really = MaskedLM._update

    def spy(self, *arguments, **keywords):
        used.append(self.optimizer.learning_rate)
        return really(self, *arguments, **keywords)

    monkeypatch.setattr(MaskedLM, "_update", spy)
    result_of([*fit, "-o", "out", "--epochs", "50", "--learning-rate", "1e-3", *options], capsys)
    assert used == pytest.approx([expected(step) for step in range(100)])


@pytest.mark.filterwarnings("always:--lora 99")
def test_a_rank_that_adds_nothing_is_told_with_the_option_and_taken(fit, capsys):
    assert main([*fit, "-o", "out", "--lora", "99"]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "rank" in line]
    C = MaskedLM.from_preset("out").backbone.config.hidden_dim
    assert len(warnings) == 1
    assert warnings[0].startswith(f"pyroberta: warning: --lora 99: LoRA's rank 99 adds nothing to rank {C}: ")


def test_the_learning_rate_is_the_presets_and_is_told(fit, small_preset, tmp_path, capsys):
    loud = [word for word in fit if word != "--quiet"]
    main([*loud, "-o", "a"])
    err = capsys.readouterr().err
    assert "learning rate 5e-05: KerasHub's default, as the preset recommends none (--learning-rate)" in err
    model = MaskedLM.from_preset(small_preset)
    model.recommended_learning_rate = 2e-3
    model.save_to_preset("recommending")
    loud[loud.index("--model") + 1] = "recommending"
    main([*loud, "-o", "b"])
    assert "learning rate 0.002: the preset recommends it (--learning-rate)" in capsys.readouterr().err
    main([*loud, "-o", "c", "--lora", "2"])
    err = capsys.readouterr().err
    assert "the preset recommends it; it is for training all parameters, and LoRA mostly" in err
    assert "adds nothing" not in err
    main([*loud, "-o", "c", "--learning-rate", "0.004"])
    assert "learning rate" not in capsys.readouterr().err


def test_early_stopping_keeps_the_best_epoch(fit, texts, capsys):
    """Texts that are learnt by heart make the loss of others rise."""
    Path("other.txt").write_text("\n".join(text[30::-1] for text in TEXTS))
    line = [*fit, "-o", "out", "--epochs", "40", "--learning-rate", "0.02", "--schedule", "constant"]
    result = result_of([*line, "--validation", "other.txt", "--early-stopping", "2"], capsys)
    losses = result["history"]["val_loss"]
    assert len(losses) < 40
    assert result["best_epoch"] == int(np.argmin(losses)) + 1 == len(losses) - 2
    reversed_texts = [text[30::-1] for text in TEXTS]
    saved = MaskedLM.from_preset("out").evaluate(reversed_texts, batch_size=1, verbose=0)[0]
    assert saved == pytest.approx(min(losses), rel=1e-5)


def test_the_figures_at_the_end_are_of_the_epoch_that_is_saved(fit, texts, capsys):
    line = [word for word in fit if word != "--json"]
    line += ["-o", "out", "--epochs", "12", "--learning-rate", "0.5", "--schedule", "constant", "--validation", "50%"]
    code = main([*line, "--early-stopping", "20", "--log", "run.csv"])
    out = capsys.readouterr().out
    rows = list(csv.DictReader(Path("run.csv").read_text().splitlines()))
    best = min(rows, key=lambda row: float(row["val_loss"]))
    assert best is not rows[-1]
    assert code in (0, 3)
    assert f"val_loss {float(best['val_loss']):.4f}" in out


def test_a_log_and_a_plot_are_written(fit, texts, capsys):
    result = result_of([*fit, "-o", "out", "--epochs", "2", "--log", "a/run.csv", "--plot", "a/run.PNG"], capsys)
    rows = list(csv.DictReader(Path("a/run.csv").read_text().splitlines()))
    assert [float(row["loss"]) for row in rows] == result["history"]["loss"]
    assert Path("a/run.PNG").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert main([*fit, "-o", "out2", "--plot", "a/run.PNG"]) == 2
    assert "--plot a/run.PNG exists already. Give another name, or --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resume"], "--resume has no effect without --checkpoint: give --checkpoint too, or leave --resume out"),
        (["--checkpoint-every", "5"], "--checkpoint-every has no effect without --checkpoint"),
        (["--early-stopping", "2"], "--early-stopping has no effect without --validation"),
        (
            ["--validation", "none.txt"],
            "--validation none.txt: the file does not exist. Give a file with texts, or a share",
        ),
        (["--validation", "100%"], "--validation 100% should leave texts on both sides: a share such as 10% or 0.1"),
        (["--validation", "0"], "--validation 0 should leave texts on both sides"),
        (["--plot", "run.doc"], "--plot run.doc should end with .png, .svg, .pdf or .jpg"),
        (["--checkpoint", "TEXTS/x"], "texts.txt is a file, and not a directory"),
        (["--log", "TEXTS/x.csv"], "texts.txt is a file, and not a directory"),
        (["--checkpoint", "out"], "--checkpoint out is inside --output out, which is for the model only. Give another"),
        (["--log", "out/run.csv"], "--log out/run.csv is inside --output out"),
        (["--plot", "./out/a/b.png"], "--plot ./out/a/b.png is inside --output out"),
        (["--log", "TEXTS", "--overwrite"], "texts.txt is also FILE, and would replace it. Give another place"),
        (["--validation", "TEXTS", "--plot", "TEXTS"], "texts.txt is also --validation, and would replace it"),
        (["--log", "a.png", "--plot", "./a.png"], "--plot ./a.png is also --log, and would replace it"),
    ],
)
def test_what_can_have_no_effect_is_refused_before_the_training(options, message, fit, texts, capsys, monkeypatch):
    monkeypatch.setattr(MaskedLM, "fit", lambda *_, **__: pytest.fail("it trained"))
    assert main([*fit, "-o", "out", *(option.replace("TEXTS", texts) for option in options)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert os.listdir() == []


@pytest.mark.parametrize("option", ["--output", "--log", "--plot", "--checkpoint", "--validation", "--tokenizer"])
def test_a_place_without_a_name_is_refused(option, fit, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*fit, "-o", "out", option, ""])
    assert f"{option}: must be the name of a file or a directory, got ''" in capsys.readouterr().err


def test_a_plot_without_matplotlib_names_the_extra(fit, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([*fit, "-o", "out", "--plot", "run.png"]) == 1
    assert "--plot needs matplotlib: install it with pip install 'pyroberta[plot]'" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["a closed pipe", "a full disk"])
@pytest.mark.parametrize("rate", ["1e-3", "1e6"])
def test_all_is_done_where_the_result_cannot_be_printed(where, rate, fit, tmp_path):
    line = [word for word in fit if word not in ("--json", "--quiet")] + ["--learning-rate", rate]
    command = [sys.executable, "-u", "-m", "pyroberta", *line, "-o", "out", "--checkpoint", "run", "--plot", "run.png"]
    reading, writing = os.pipe()
    os.close(reading)
    with open("/dev/full", "w") as full_disk:
        done = subprocess.run(
            command, stdout=writing if where == "a closed pipe" else full_disk, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, check=False,
        )  # fmt: skip
    os.close(writing)
    is_lost = rate == "1e6"
    assert ("can't write to standard output: No space left on device" in done.stderr) == (where == "a full disk")
    assert ("try a lower --learning-rate" in done.stderr) == is_lost
    assert done.returncode == (1 if where == "a full disk" else 3 if is_lost else 0)
    assert MaskedLM.from_preset("out.diverged" if is_lost else "out").params
    assert Path("run.png").exists()
    assert Path("run").exists() == is_lost


# --- no room ----------------------------------------------------------------------------------------------------------


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("answers", [["full", "good"], ["taken", "good"], [""], []])
def test_at_a_terminal_a_full_disk_is_answered_with_another_directory(answers, fit, tmp_path, capsys, monkeypatch):
    really, asked = MaskedLM.save_to_preset, []

    def save(self, directory, **how):
        asked.append(str(directory))
        assert str(directory) != "taken"
        (full if str(directory) in ("out", "full") else really)(self, directory, **how)

    monkeypatch.setattr(MaskedLM, "save_to_preset", save)
    monkeypatch.setattr(saving, "_is_terminal", lambda: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{answer}\n" for answer in answers)))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    Path("taken").mkdir()
    Path("taken", "config.json").write_text("{}")  # a model of somebody's
    is_answered = "good" in answers
    assert main([*fit, "-o", "out"]) == (0 if is_answered else 1)
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert ("taken holds a model already (config.json), which is not replaced" in err) == ("taken" in answers)
    assert MaskedLM.from_preset(result["saved"]).params
    if is_answered:
        assert (result["saved"], asked) == ("good", ["out", *(answer for answer in answers if answer != "taken")])
    else:
        assert Path(result["saved"]).parent == tmp_path
        assert Path(result["saved"]).name.startswith("out.rescued-")


def test_a_terminal_is_asked_again_where_there_is_no_room_among_temporary_files(fit, capsys, monkeypatch):
    really, asked = MaskedLM.save_to_preset, []

    def save(self, directory, **how):
        asked.append(os.path.basename(directory).partition("-")[0])
        (really if str(directory) == "good" else full)(self, directory, **how)

    monkeypatch.setattr(MaskedLM, "save_to_preset", save)
    monkeypatch.setattr(saving, "_is_terminal", lambda: True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\ngood\n"))
    assert main([*fit, "-o", "out"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["saved"] == "good"
    assert asked == ["out", *["out.rescued"] * 3, "good"]
    assert "the directory of temporary files is full too" in err
    assert [entry.name for entry in Path().iterdir()] == ["good"]


def test_a_log_without_room_ends_the_training_and_the_model_is_saved(fit, capsys, monkeypatch):
    monkeypatch.setattr(CSVLogger, "on_epoch_end", full)
    assert main([*fit, "-o", "out", "--epochs", "3", "--log", "run.csv", "--checkpoint", "run"]) == 1
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert (result["saved"], result["updates"]) == ("out", STEPS)
    assert "No space left on device" in err
    assert MaskedLM.from_preset("out").params
    monkeypatch.undo()
    os.chdir(Path(fit[1]).parent / "here")
    assert result_of(shlex.split(result["to_go_on"])[1:], capsys)["updates"] == 3 * STEPS


def test_a_checkpoint_without_room_is_told_once_and_the_training_goes_on(fit, capsys, monkeypatch):
    monkeypatch.setattr(checkpoint, "save", full)
    assert main([*fit, "-o", "out", "--epochs", "3", "--checkpoint", "run"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["updates"] == 3 * STEPS
    assert err.count("no checkpoint could be written, but training continues: ") == 1


@pytest.mark.parametrize("command", [["fit"], ["classify", "train"]])
def test_the_settings_of_a_checkpoint_are_options(command):
    arguments = build_parser().parse_args([*command, "texts.txt", "--output", "out"], argparse.Namespace(exit_code=0))
    options = set(arguments.parser._option_string_actions)
    assert {f"--{name}" for name in training.settings_of(arguments)} <= options
