"""Callbacks, driven as `fit` drives them."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import math
import os
import re
import struct
import sys
import termios

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import TEXTS, small_masked_lm

from pyroberta import Backbone, MaskedLM
from pyroberta.training import callbacks
from pyroberta.training.callbacks import (
    HOOKS,
    BackupAndRestore,
    BatchLogs,
    Callback,
    CallbackList,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    ModelCheckpoint,
    ProgressBar,
    ReduceLROnPlateau,
)


class Model:
    """As much of a model as callbacks see; its one weight is the number of epochs it has been trained."""

    def __init__(self):
        self.stop_training = False
        self.weight = np.zeros(1)
        self.saved = []
        self.with_optimizer = []
        self.backbone = Backbone(vocabulary_size=5, num_layers=1, num_heads=1, hidden_dim=2, intermediate_dim=2)

    def get_weights(self):
        return [self.weight]  # live: whoever wants to keep it must copy

    def set_weights(self, weights):
        self.weight[:] = weights[0]

    def save_to_preset(self, directory, dtype, include_optimizer):
        assert dtype == "float32"
        self.saved.append(directory)
        self.with_optimizer.append(include_optimizer)


def train(hooked, values, monitor="val_loss", steps=2, verbose=0):
    """`fit`, with one given value of the metric per epoch; the number of epochs that ran and the model."""
    model = Model()
    callback_list = CallbackList(hooked, model, {"epochs": len(values), "steps": steps, "verbose": verbose})
    callback_list.on_train_begin()
    for epoch, value in enumerate(values):
        callback_list.on_epoch_begin(epoch)
        for step in range(steps):
            callback_list.on_train_batch_begin(step)
            callback_list.on_train_batch_end(step, BatchLogs({"loss": value + 1}, tokens=100))
        model.weight[:] = epoch + 1
        callback_list.on_epoch_end(epoch, {"loss": value + 1, monitor: value})
        if model.stop_training:
            break
    callback_list.on_train_end({"loss": value + 1, monitor: value})
    return epoch + 1, model


def test_the_list_calls_every_hook_of_each_in_order_and_always_with_logs():
    seen = []

    class Spy(Callback):
        def __init__(self, name):
            self.name = name  # no super().__init__(): it works as in Keras all the same

    def note(hook):
        return lambda self, *args: seen.append((self.name, hook, args))

    for hook in HOOKS:
        setattr(Spy, hook, note(hook))
    callback_list = CallbackList([Spy("a"), Spy("b")], model="model", params={"steps": 3})
    for hook in HOOKS:
        takes_number = "epoch" in hook or "batch" in hook
        number = (7,) if takes_number else ()
        for given_, logs in (((), {}), (({"loss": 1},), {"loss": 1})):
            seen.clear()
            getattr(callback_list, hook)(*number, *given_)
            assert seen == [("a", hook, (*number, logs)), ("b", hook, (*number, logs))]
    assert callback_list.callbacks[0].model == "model"
    assert callback_list.callbacks[0].params == {"steps": 3}


def test_on_batch_end_is_on_train_batch_end_by_another_name():
    batches = []

    class Old(Callback):
        def on_batch_end(self, batch, logs=None):
            batches.append(batch)

    train([Old()], [1.0])
    assert batches == [0, 1]


@pytest.mark.parametrize("wrong", [History, print, "history"])
def test_what_is_no_callback_is_refused(wrong):
    with pytest.raises(TypeError, match="a callback must be an instance of a subclass of pyroberta"):
        CallbackList([wrong])


@pytest.mark.parametrize("make", [EarlyStopping, ReduceLROnPlateau, lambda monitor: ModelCheckpoint("runs", monitor)])
def test_a_number_is_no_metric_to_monitor(make):
    with pytest.raises(TypeError, match="monitor must be a text that isn't empty, got 3"):
        make(3)


def test_an_error_leaves_no_progress_bar_of_the_users_behind(capsys):
    def fail(epoch, logs):
        raise RuntimeError("no more")

    bar, model = ProgressBar(), small_masked_lm()
    with pytest.raises(RuntimeError, match="no more"):
        model.fit(TEXTS, callbacks=[bar, LambdaCallback(on_epoch_end=fail)])
    capsys.readouterr()
    model.evaluate(TEXTS, callbacks=[bar])
    assert "evaluate: " in capsys.readouterr().err


def test_a_hook_is_a_function():
    with pytest.raises(
        TypeError, match="on_epoch_end should be a function with the arguments of the hook, got 'print'"
    ):
        LambdaCallback(on_epoch_end="print")


def test_lambdas_are_called_with_what_the_hook_gets():
    seen = []
    callback = LambdaCallback(
        on_train_begin=lambda logs: seen.append(logs),
        on_epoch_end=lambda epoch, logs: seen.append((epoch, logs["loss"])),
        on_train_batch_end=None,
    )
    train([callback], [2.0, 1.0])
    assert seen == [{}, (0, 3.0), (1, 2.0)]


@pytest.mark.parametrize("name", ["on_epoch_finish", "epoch_end"])
def test_a_hook_with_a_typing_error_is_refused(name):
    with pytest.raises(
        TypeError, match=f"'{name}' is not a hook and would never be called; the hooks are on_train_beg"
    ):
        LambdaCallback(**{name: print})


def test_history_holds_every_epoch_and_starts_anew_with_fit():
    history = History()
    for values in ([3.0, 2.0, 1.0], [5.0]):
        train([history], values)
        assert history.epoch == list(range(len(values)))
        assert history.history == {"loss": [value + 1 for value in values], "val_loss": values}


def test_history_plots_each_metric_beside_its_validation():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    history = History()
    with pytest.raises(ValueError, match="nothing to plot before the first epoch"):
        history.plot()
    for epoch in range(3):
        history.on_epoch_end(epoch, {"loss": 3.0 - epoch, "accuracy": 0.1 * epoch, "val_loss": 4.0 - epoch})
    figure = history.plot()
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy"]
    curves = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert curves == {"training": [[1, 3], [2, 2], [3, 1]], "validation": [[1, 4], [2, 3], [3, 2]]}
    assert [axes.get_title() for axes in history.plot("accuracy").axes] == ["accuracy"]
    with pytest.raises(ValueError, match=r"For a file: history\.plot\(\)\.savefig\('run\.png'\)"):
        history.plot("run.png")
    with pytest.raises(ValueError, match="'f1' was not logged; the logs have loss, accuracy, val_loss"):
        history.plot("f1")
    figure.savefig(io.BytesIO())
    pyplot.close("all")


def test_plotting_without_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'pyroberta\[plot\]'"):
        History().plot()


# Each row: arguments, values of the metric, epochs that should run. As keras.callbacks.EarlyStopping.
EARLY_STOPPING = [
    ({}, [3, 2, 1], 3),
    ({}, [1, 2, 3, 4], 2),
    ({"patience": 1}, [1, 2, 3, 4], 2),
    ({"patience": 2}, [1, 2, 3, 4], 3),
    ({"patience": 2}, [1, 2, 0.5, 2, 3, 4], 5),
    ({"mode": "max"}, [1, 2, 3, 2, 5], 4),
    ({"min_delta": 0.5}, [3, 2, 1.6, 1.0], 3),
    ({"min_delta": -0.5}, [3, 2, 1.6, 1.0], 3),
    ({"min_delta": 0.5, "mode": "max"}, [1, 2, 2.4, 9], 3),
    ({"start_from_epoch": 2}, [1, 2, 3, 4, 5], 4),
    ({"baseline": 0.5, "patience": 2}, [1, 0.9, 0.8, 0.9, 0.9], 4),
    ({"baseline": 0.5, "patience": 2}, [1, 0.4, 0.8, 0.9, 0.9], 4),
    ({"patience": 2}, [math.nan, 2, 1, 3, 4, 5], 5),
    ({"patience": 2}, [1, math.nan, math.nan, 0], 3),
]


@pytest.mark.parametrize(("arguments", "values", "epochs"), EARLY_STOPPING)
def test_early_stopping_stops_when_it_should(arguments, values, epochs):
    stopping = EarlyStopping(**arguments)
    for _ in range(2):  # and starts anew with the next fit
        ran, _ = train([stopping], values)
        assert ran == epochs
        assert stopping.stopped_epoch == (epochs - 1 if ran < len(values) else 0)


@given(values=st.lists(st.floats(0, 10), min_size=1, max_size=12), patience=st.integers(0, 4))
def test_restored_weights_are_those_of_the_best_epoch_that_ran(values, patience):
    stopping = EarlyStopping(patience=patience, restore_best_weights=True)
    ran, model = train([stopping], values)
    best = min(range(ran), key=lambda epoch: values[epoch])
    assert stopping.best_epoch == best
    assert model.weight[0] == best + 1
    assert ran == len(values) or ran - 1 - best >= max(patience, 1)


def test_without_restoring_the_last_weights_stay():
    ran, model = train([EarlyStopping()], [1, 2, 3])
    assert model.weight[0] == ran == 2


def test_early_stopping_says_what_it_does_if_asked(capsys):
    train([EarlyStopping(verbose=1, restore_best_weights=True)], [1, 2, 3])
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "epoch 2: val_loss has stopped improving\nrestoring the weights of epoch 1\n"


@pytest.mark.parametrize("make", [EarlyStopping, lambda monitor: ModelCheckpoint("x", monitor, save_best_only=True)])
def test_a_metric_that_is_not_logged_is_warned_of(make):
    with pytest.warns(
        UserWarning, match=r"monitors 'val_accuracy', which is not logged; the logs have loss, val_loss\. .*"
    ):
        train([make("val_accuracy")], [1.0])


def test_the_direction_is_known_for_our_metrics_alone():
    directions = {"val_loss": "min", "perplexity": "min", "val_accuracy": "max", "sparse_categorical_accuracy": "max"}
    assert {monitor: EarlyStopping(monitor).mode for monitor in directions} == directions
    with pytest.raises(
        ValueError, match="it is unknown whether 'val_f1' should fall or rise: pass mode='min' or mode='max'"
    ):
        train([EarlyStopping("val_f1")], [1.0])
    assert EarlyStopping("val_f1", mode="max").mode == "max"
    with pytest.warns(UserWarning, match="EarlyStopping's mode 'up' is unknown, so 'auto' is used"):
        assert EarlyStopping(mode="up").mode == "min"


# Each row: arguments, values of the metric over epochs of two steps, directories saved.
CHECKPOINTS = [
    ({"filepath": "{epoch:02d}-{val_loss:.2f}"}, [3, 2], ["01-3.00", "02-2.00"]),
    ({"filepath": "last"}, [3, 2, 5], ["last"] * 3),
    ({"filepath": "{epoch}", "save_best_only": True}, [3, 2, 5, math.nan, 1], ["1", "2", "5"]),
    ({"filepath": "{epoch}", "save_best_only": True, "mode": "max"}, [3, 2, 5], ["1", "3"]),
    ({"filepath": "{epoch}", "save_best_only": True, "initial_value_threshold": 2.5}, [3, 2, 5], ["2"]),
    ({"filepath": "{epoch}-{batch}-{loss:.0f}", "save_freq": 1}, [3, 2], ["1-1-4", "1-2-4", "2-1-3", "2-2-3"]),
    ({"filepath": "{epoch}-{batch}", "save_freq": 3}, [3, 2, 1], ["2-1", "3-2"]),
    ({"filepath": "{epoch}", "monitor": "custom"}, [3], ["1"]),
]


@pytest.mark.parametrize(("arguments", "values", "saved"), CHECKPOINTS)
def test_checkpoints_are_saved_when_and_where_they_should(tmp_path, arguments, values, saved):
    arguments = arguments | {"filepath": tmp_path / "new" / arguments["filepath"]}
    _, model = train([ModelCheckpoint(**arguments)], values)
    assert model.saved == [str(tmp_path / "new" / name) for name in saved]


def test_a_checkpoint_has_the_optimizer_s_state_unless_it_is_not_wanted(tmp_path):
    _, model = train([ModelCheckpoint(tmp_path / "a"), ModelCheckpoint(tmp_path / "b", save_weights_only=True)], [1.0])
    assert model.with_optimizer == [True, False]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_goes_on_from_a_checkpoint_bit_for_bit(tmp_path, dtype):
    def fit(model, **how):
        model.fit(TEXTS[:5], batch_size=2, verbose=0, **how)
        return model

    whole = fit(small_masked_lm(seed=5, dtype=dtype), epochs=4)
    fit(small_masked_lm(seed=5, dtype=dtype), epochs=2, callbacks=[ModelCheckpoint(tmp_path / "run")])
    again = MaskedLM.from_preset(tmp_path / "run", load_optimizer=True, dtype=dtype)
    fit(again, initial_epoch=2, epochs=4)
    assert again.backbone.params.flat.tobytes() == whole.backbone.params.flat.tobytes()


def test_a_model_with_lora_is_saved_without_the_state_that_has_no_place(tmp_path):
    model = small_masked_lm()
    model.backbone.enable_lora(2)
    model.fit(TEXTS, verbose=0, callbacks=[ModelCheckpoint(tmp_path / "run")])
    with pytest.raises(FileNotFoundError, match="has no optimizer's state"):
        MaskedLM.from_preset(tmp_path / "run", load_optimizer=True)


def test_a_checkpoint_says_what_is_wrong_with_it(tmp_path, capsys):
    with pytest.raises(ValueError, match=r"names 'val_acc', which is not logged; the logs have epoch, loss, val_loss"):
        train([ModelCheckpoint(tmp_path / "{val_acc}")], [1.0])
    for wrong in ("batch", 0, True):
        with pytest.raises(ValueError, match="save_freq must be 'epoch' or a number of steps of at least 1"):
            ModelCheckpoint("x", save_freq=wrong)
    train([ModelCheckpoint(tmp_path / "here", verbose=1)], [1.0])
    assert capsys.readouterr().err == f"epoch 1: saved to {tmp_path / 'here'}\n"


def test_the_csv_has_a_row_per_epoch_and_can_be_gone_on_with(tmp_path):
    path = tmp_path / "logs" / "log.csv"
    train([CSVLogger(path)], [3.0, 2.0])
    train([CSVLogger(path, append=True)], [1.0])
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], float(row["loss"]), float(row["val_loss"])) for row in rows] == [
        ("0", 4.0, 3.0),
        ("1", 3.0, 2.0),
        ("0", 2.0, 1.0),
    ]
    train([CSVLogger(path, separator=";")], [1.0])
    assert path.read_text() == "epoch;loss;val_loss\n0;2.0;1.0\n"


def test_a_csv_column_without_a_value_reads_na_and_columns_keep_their_order(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,val_accuracy,loss\n")
    logger = CSVLogger(path, append=True)
    logger.on_train_begin()
    with pytest.raises(UserWarning, match="has no column for extra"):  # an error here, so it was not said
        logger.on_epoch_end(4, {"loss": 1.5, "extra": 2.0})
    with pytest.warns(UserWarning, match="has no column for extra, so CSVLogger leaves them out"):
        logger.on_epoch_end(4, {"loss": 1.5, "extra": 2.0})
    logger.on_epoch_end(5, {"loss": 1.0, "extra": 2.0})  # said once
    assert path.read_text() == "epoch,val_accuracy,loss\n4,NA,1.5\n5,NA,1.0\n"


def test_a_file_that_ends_without_a_newline_is_gone_on_with_in_a_new_line(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("\ufeffepoch,loss\n0,2.5", encoding="utf-8")
    logger = CSVLogger(path, append=True)
    logger.on_train_begin()
    logger.on_epoch_end(1, {"loss": 1.5})
    assert path.read_text("utf-8-sig").splitlines() == ["epoch,loss", "0,2.5", "1,1.5"]


@pytest.mark.parametrize("content", [b"epoch,loss\n0,2.5\n", b"Dear diary\n", b"\xff\xfe\x00\n", b"\n"])
def test_a_file_that_is_no_log_with_the_separator_is_not_gone_on_with(content, tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no column 'epoch' between separators ';'"):
        CSVLogger(path, separator=";", append=True).on_train_begin()
    assert path.read_bytes() == content


@pytest.mark.parametrize("folder", ["", "new"])
def test_a_log_that_is_removed_while_it_is_written_begins_anew_with_its_columns(folder, tmp_path):
    path = tmp_path / folder / "log.csv"

    def remove(epoch, logs):
        if epoch == 0:
            path.unlink()
            if folder:
                path.parent.rmdir()

    train([CSVLogger(path), LambdaCallback(on_epoch_end=remove)], [3.0, 2.0, 1.0])
    assert path.read_text() == "epoch,loss,val_loss\n1,3.0,2.0\n2,2.0,1.0\n"


@pytest.mark.parametrize("name", ["a,b", 'a"b', "a\nb", "a\r\nb"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_log_with_any_name_of_a_column_is_gone_on_with(name, mark, tmp_path):
    path = tmp_path / "log.csv"
    for append, state in ((False, ""), (True, ""), (True, "kept")):
        logger = CSVLogger(path, append=append)
        logger.on_train_begin()
        if state:
            logger.set_state(logger.get_state())
        logger.on_epoch_end(3, {name: 1.5, "loss": 2.5})
        if not append:
            path.write_bytes(mark.encode() + path.read_bytes())
    with open(path, newline="", encoding="utf-8-sig") as file:
        assert list(csv.reader(file)) == [["epoch", name, "loss"], *[["3", "1.5", "2.5"]] * 3]


@pytest.mark.parametrize("made", [CSVLogger, ModelCheckpoint, BackupAndRestore])
def test_a_place_is_a_path_that_can_be(made, tmp_path):
    with pytest.raises(ValueError, match=r"^(filepath|backup_dir)? ?(is )?''"):
        made("")
    for wrong in (3, None):
        with pytest.raises(
            (TypeError, ValueError), match=r"(a path|filepath) should be a text or a |backup_dir is None"
        ):
            made(wrong)
    given = os.fsencode(tmp_path / "a")
    assert os.fspath(tmp_path / "a") in vars(made(given)).values()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_log_is_a_file_or_goes_nowhere(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ValueError, match=r"pipe.csv is a pipe or a device. Give a plain file"):
        train([CSVLogger(tmp_path / "pipe.csv")], [1.0])
    train([CSVLogger("/dev/null")], [1.0])
    with pytest.raises(OSError, match=r"CSVLogger can't write a row of \d+ bytes to /dev/full: No space left"):
        train([CSVLogger("/dev/full")], [1.0])


def test_a_place_where_no_model_can_be_saved_is_refused_before_an_epoch_is_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "a.weights.h5").mkdir()
    trained = []
    for filepath, error in {
        "file": FileExistsError, "full": FileExistsError, "file/{epoch}": NotADirectoryError,
        "file/a.keras": NotADirectoryError, "a.weights.h5": IsADirectoryError,
    }.items():  # fmt: skip
        checkpoint = ModelCheckpoint(filepath, save_weights_only="h5" in filepath)
        with pytest.raises(error):
            train([checkpoint, LambdaCallback(on_epoch_begin=lambda epoch: trained.append(epoch))], [1.0])
    assert trained == []
    train([ModelCheckpoint("new/{epoch}"), ModelCheckpoint("full/{epoch}"), ModelCheckpoint("new/a")], [1.0])
    with pytest.raises(ValueError, match=r"filepath '{loss:d}' can't be filled in with .*: Unknown format code 'd'"):
        train([ModelCheckpoint("{loss:d}")], [1.5])


@pytest.mark.parametrize("value", ["high", np.ones(2), None, [1, 2]])
def test_what_else_a_callback_logs_ends_no_training_and_is_no_number(value):
    def log(epoch, logs):
        logs["mine"] = value

    model = small_masked_lm()
    history = model.fit(TEXTS, verbose=2, callbacks=[LambdaCallback(on_epoch_end=log)])
    assert history.history["mine"][0] is value
    assert "mine" in repr(history)
    with pytest.raises(TypeError, match="EarlyStopping takes numbers, but 'mine' is logged as"):
        model.fit(TEXTS, verbose=0, callbacks=[LambdaCallback(on_epoch_end=log), EarlyStopping("mine", mode="min")])


@pytest.mark.parametrize("separator", ["", "ab", "\n", '"', 3])
def test_a_separator_is_one_character(separator):
    with pytest.raises(ValueError, match="separator must be one character"):
        CSVLogger("log.csv", separator=separator)


def test_a_checkpoint_has_a_place():
    with pytest.raises(ValueError, match="name the directory"):
        ModelCheckpoint("")


@pytest.mark.parametrize("filepath", ["{}", "{0}", "a{", "a}", "{epoch:zz}", "{loss:%}}", "{epoch.no}", "{loss:s}"])
def test_a_pattern_that_can_not_be_filled_in_is_refused_before_training(filepath):
    with pytest.raises(ValueError, match="can't be filled in: "):
        ModelCheckpoint(filepath)


@pytest.mark.parametrize("filepath", ["{epoch:02d}-{val_loss:.2f}", "{mine:03d}", "{{a}}", "{loss!r}", "{epoch:>4}"])
def test_a_pattern_may_have_any_name(filepath):
    assert ModelCheckpoint(filepath).filepath == filepath


def test_what_was_written_to_the_csv_stays_when_training_breaks_off(tmp_path):
    path = tmp_path / "log.csv"

    def fail(epoch, logs):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train([CSVLogger(path), LambdaCallback(on_epoch_end=fail)], [3.0, 2.0, 1.0])
    assert len(path.read_text().splitlines()) == 3


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_silent_bar_is_silent(capsys):
    train([ProgressBar(0)], [1.0])
    assert capsys.readouterr() == ("", "")


def test_off_a_terminal_there_is_one_line_per_epoch_on_stderr(capsys):
    for verbose in (1, 2, "auto"):
        train([ProgressBar(verbose)], [3.0, 2.0])
        out, err = capsys.readouterr()
        assert out == ""
        first, second = err.splitlines()
        assert first.startswith("epoch 1/2: 2/2 steps, 0:00, loss 4, tokens/s ")
        assert first.endswith(", val_loss 3")
        assert second.startswith("epoch 2/2: ")
        assert "\r" not in err


def test_off_a_terminal_a_long_epoch_shows_that_it_lives(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(callbacks.progress.time, "monotonic", lambda: now[0])
    bar = ProgressBar(1)
    bar.set_params({"epochs": 1, "steps": 100})
    bar.on_epoch_begin(0)
    for step in range(4):
        now[0] += 20.0
        bar.on_train_batch_end(step, BatchLogs({"loss": 2.5}, tokens=1000))
    bar.on_epoch_end(0, {"loss": 2.5})
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1/1: 2/100 steps, 0:40, 32:40 left, loss 2.5, tokens/s 50",
        "epoch 1/1: 4/100 steps, 1:20, 32:00 left, loss 2.5, tokens/s 50",
        "epoch 1/1: 4/100 steps, 1:20, 32:00 left, loss 2.5, tokens/s 50",
    ]


@pytest.mark.parametrize("steps", [2, None])
def test_on_a_terminal_there_is_a_bar_with_loss_speed_and_time_left(monkeypatch, steps):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = ProgressBar(1)
    callback_list = CallbackList([bar], Model(), {"epochs": 1, "steps": steps})
    callback_list.on_train_begin()
    callback_list.on_epoch_begin(0)
    for step in range(2):
        callback_list.on_train_batch_end(step, BatchLogs({"loss": 2.5, "accuracy": 0.25}, tokens=100))
    callback_list.on_epoch_end(0, {"loss": 2.5, "accuracy": 0.25, "val_loss": 2.0})
    callback_list.on_train_end()
    last = terminal.getvalue().split("\r")[-1]
    assert terminal.getvalue().endswith("\n")
    assert last.startswith("epoch 1/1: ")
    assert "loss=2.5, accuracy=0.25, val_loss=2, tokens/s=" in last
    assert "2/2" in last or steps is None


def test_a_bar_counts_anything_and_an_interruption_ends_it(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    def count() -> None:
        with ProgressBar(1).counting("count", steps=3) as advance:
            for _ in range(2):
                advance(BatchLogs({}, tokens=100))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        count()
    assert terminal.getvalue().split("\r")[-1].startswith("count: tokens/s=")
    assert "2/3" in terminal.getvalue()
    assert terminal.getvalue().endswith("\n")  # so that what is said next has a line of its own


@contextlib.contextmanager
def real_terminal(monkeypatch, columns: int, lines: int = 24):
    """stderr on a terminal of that size; gives a list that holds all the lines drawn once the block has ended."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    drawn: list[str] = []
    with open(slave, "w", encoding="utf-8") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        yield drawn
    written = b""
    with contextlib.suppress(OSError):  # what Linux says at the end
        while some := os.read(master, 4096):
            written += some
    drawn += [line for line in re.split(r"[\r\n]+", written.decode()) if line.strip()]
    os.close(master)


@pytest.mark.parametrize(("lines", "columns"), [(0, 60), (1, 60), (2, 60), (3, 60), (0, 0)])
def test_a_terminal_of_few_lines_or_none_has_a_bar(monkeypatch, lines, columns):
    with real_terminal(monkeypatch, columns, lines) as drawn, ProgressBar(1).counting("count", 2) as advance:
        for _ in range(2):
            advance(None)
    assert drawn[-1].startswith("count: 0:00, 2/2 |")
    assert max(map(len, drawn)) == (columns - 1 if columns else 80)


@pytest.mark.parametrize(
    ("columns", "seen", "unseen"),
    [
        (80, ["loss=4.123", "accuracy=0.2512", "tokens/s=13333", "0:15 left"], ["perplexity", "f1"]),
        (60, ["loss=4.123", "accuracy=0.2512", "tokens/s=13333"], ["perplexity", "f1", "|"]),
        (120, ["loss=4.123", "accuracy=0.2512", "tokens/s=13333", "0:15 left", "2/12", "f1=0.5", "█"], ["perplexity"]),
        (30, ["epoch 1/20: loss=4.123"], ["accuracy", "tokens", "left"]),
    ],
)
def test_the_bar_shows_whole_figures_the_most_wanted_first(monkeypatch, columns, seen, unseen):
    now = [0.0]
    with real_terminal(monkeypatch, columns) as drawn:
        monkeypatch.setattr(callbacks.progress.time, "monotonic", lambda: now[0])
        bar = ProgressBar(1)
        bar.set_params({"epochs": 20, "steps": 12})
        bar.on_epoch_begin(0)
        for step in range(2):
            now[0] += 1.5
            logs = BatchLogs({"loss": 4.1234, "accuracy": 0.25123, "perplexity": 61.77, "f1": 0.5}, tokens=20000)
            bar.on_train_batch_end(step, logs)
        bar._bar.refresh()
        bar.on_epoch_end(0, logs | {"val_loss": 4.2, "val_accuracy": 0.24, "val_perplexity": 66.7})
    assert all(len(line) <= columns for line in drawn)
    pieces = re.compile(r"epoch 1/20:?|\w[\w/]*=[\d.]+,?|\d:\d\d( left)?,?|\d+/12,?|\|[█▏▎▍▌▋▊▉# \d]+\||^$")
    for line in drawn:  # nothing but whole pieces
        assert pieces.sub("", line).strip() == "", line
    last = next(line for line in reversed(drawn) if "val_loss" not in line)
    assert last.startswith("epoch 1/20")
    assert [piece for piece in seen if piece not in last] == []
    assert [piece for piece in unseen if piece in last] == []
    if columns >= 80:
        assert "val_loss=4.2, val_accuracy=0.24" in drawn[-1]


def test_a_run_that_ends_within_an_epoch_leaves_a_finished_line(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = ProgressBar(1)
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    bar.on_train_batch_end(0, BatchLogs({"loss": 2.5}, tokens=100))
    bar.on_train_end()
    assert terminal.getvalue().endswith("\n")


def test_evaluation_has_a_bar_of_its_own_but_not_within_fit(capsys):
    bar = ProgressBar(2)
    callback_list = CallbackList([bar], Model(), {"steps": 1})

    def evaluate():
        callback_list.on_test_begin()
        callback_list.on_test_batch_end(0, {"loss": 2.5})
        callback_list.on_test_end({"loss": 2.5})

    evaluate()
    assert capsys.readouterr().err == "evaluate: 1/1 steps, 0:00, loss 2.5\n"
    callback_list.on_train_begin()
    evaluate()
    callback_list.on_train_end()
    assert capsys.readouterr().err == ""
    callback_list.on_predict_begin()
    callback_list.on_predict_batch_end(0)
    callback_list.on_predict_end()
    assert capsys.readouterr().err == "predict: 1/1 steps, 0:00\n"


def test_a_wrong_verbose_is_refused():
    with pytest.raises(ValueError, match=r"verbose must be 0 \(silent\), 1 \(a bar\), .* got 3"):
        ProgressBar(3)
