"""The callbacks that Keras has beside the oldest ones, and Keras's own callbacks on these models."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import small_models
from small_models import TEXTS, small_masked_lm

from pyroberta import callbacks, metrics, optimizers, schedules
from pyroberta.models import load_model
from pyroberta.training import checkpoint
from pyroberta.training.callbacks import (
    BackupAndRestore,
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TensorBoard,
    TerminateOnNaN,
)

LOSSES = [5.0, 4.0, 4.1, 4.05, 4.2, 3.0, 3.1, 3.2, 3.3, math.nan, 2.0, 2.5]


class Model:
    """What a callback that watches epochs needs of a model."""

    def __init__(self, rate=0.1):
        self.optimizer = optimizers.Adam(rate)
        self.metrics, self.stop_training = [metrics.Loss()], False
        self.weights = [np.zeros(1)]

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = weights


def rates(callback, losses=LOSSES, rate=0.1, name="val_loss"):
    """The learning rate after each epoch of such losses, and the logs."""
    model, found, seen = Model(rate), [], []
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, loss in enumerate(losses):
        logs = {name: loss}
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, logs)
        found.append(model.optimizer.learning_rate)
        seen.append(logs)
    return found, seen


def fit(*given, model=None, epochs=2, **options):
    model = model or small_masked_lm()
    history = model.fit(TEXTS, batch_size=2, epochs=epochs, verbose=0, callbacks=list(given), **options)
    return model, history


# --- the learning rate ------------------------------------------------------------------------------------------------


def test_the_rate_falls_after_so_many_epochs_without_an_improvement():
    found, seen = rates(ReduceLROnPlateau(factor=0.5, patience=2), LOSSES[:9])
    assert found == [0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.025, 0.025]
    assert [logs["learning_rate"] for logs in seen] == [0.1, *found[:-1]]  # the rate of the epoch itself


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 1},
        {"patience": 2, "factor": 0.5},
        {"patience": 0, "factor": 0.9},
        {"patience": 1, "cooldown": 2, "factor": 0.5},
        {"patience": 1, "min_lr": 0.03},
        {"patience": 2, "min_delta": 0.5, "factor": 0.25},
        {"patience": 1, "mode": "max", "factor": 0.5},
        {"patience": 1, "mode": "min", "monitor": "mine", "factor": 0.5},
    ],
)
@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own
def test_keras_lowers_the_rate_at_the_same_epochs(keras, options):
    losses = [loss for loss in LOSSES if not math.isnan(loss)]  # after which Keras's never improves again
    name = options.get("monitor", "val_loss")
    ours = rates(ReduceLROnPlateau(**options), losses, name=name)
    theirs = rates(keras.callbacks.ReduceLROnPlateau(**options), losses, name=name)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-6)
    assert [set(logs) for logs in ours[1]] == [set(logs) for logs in theirs[1]]


def test_a_rate_per_epoch_is_set_and_logged():
    seen = []
    scheduler = LearningRateScheduler(lambda epoch, rate: seen.append((epoch, rate)) or rate * 0.5)
    found, logs = rates(scheduler, LOSSES[:3])
    assert found == [0.05, 0.025, 0.0125]
    assert seen == [(0, 0.1), (1, 0.05), (2, 0.025)]
    assert [one["learning_rate"] for one in logs] == found
    assert rates(LearningRateScheduler(lambda epoch: 1.0 / (epoch + 1)), LOSSES[:3])[0] == [
        1.0,
        0.5,
        pytest.approx(1 / 3),
    ]
    assert rates(LearningRateScheduler(lambda epoch: np.float32(0.5)), LOSSES[:1])[0] == [0.5]


def test_rates_are_in_the_history_of_a_fit():
    model, history = fit(LearningRateScheduler(lambda epoch: 0.01 * (epoch + 1)))
    assert history.history["learning_rate"] == [0.01, 0.02]
    assert model.optimizer.learning_rate == 0.02


@pytest.mark.parametrize("rate", ["0.1", 1, None, math.nan])
def test_a_rate_that_is_no_float_is_refused(rate):
    with pytest.raises(ValueError, match="the schedule of a LearningRateScheduler should return a float"):
        fit(LearningRateScheduler(lambda epoch: rate))


@pytest.mark.parametrize("callback", [ReduceLROnPlateau("loss"), LearningRateScheduler(lambda epoch: 0.1)])
def test_a_schedule_is_not_replaced_by_a_callback(callback):
    model = small_masked_lm()
    model.compile(optimizer=optimizers.Adam(schedules.CosineDecay(0.1, 10)))
    with pytest.raises(TypeError, match=f"{type(callback).__name__} sets the learning rate, but .* with a schedule"):
        fit(callback, model=model)


@pytest.mark.parametrize("value", [1.0, -0.1, "0.1"])
def test_a_factor_is_below_1(value):
    with pytest.raises(ValueError, match=r"factor must be a number in \[0, 1\)"):
        ReduceLROnPlateau(factor=value)


def test_messages_say_what_was_done(capsys):
    rates(ReduceLROnPlateau(patience=1, verbose=1), [2.0, 3.0])
    rates(LearningRateScheduler(lambda epoch: 0.5, verbose=1), [1.0])
    err = capsys.readouterr().err
    assert "epoch 2: val_loss has stopped improving; the learning rate is 0.01" in err
    assert "epoch 1: the learning rate is 0.5" in err


# --- what is better ---------------------------------------------------------------------------------------------------


class Share(metrics.Accuracy):
    name = "share"


def test_a_metric_of_ones_own_tells_which_values_are_better():
    model = small_masked_lm()
    model.compile(weighted_metrics=[Share()])
    stopping = EarlyStopping("val_share", patience=9)
    fit(stopping, model=model, validation_split=0.4)
    assert stopping.mode == "max"


@pytest.mark.parametrize("make", [EarlyStopping, ReduceLROnPlateau])
def test_an_unknown_metric_is_an_error_before_anything_is_trained(make):
    model = small_masked_lm()
    with pytest.raises(ValueError, match="it is unknown whether 'val_f1' should fall or rise: pass mode="):
        fit(make("val_f1"), model=model)
    assert not model.optimizer.iterations


# --- numbers that are not finite --------------------------------------------------------------------------------------


def broken(step):
    """A model, and a callback that makes a weight infinite before a step."""
    model = small_masked_lm()

    def spoil(batch, logs):
        if batch == step:
            with model.backbone.changing() as params:
                params["head.bias"][0] = np.nan

    return model, LambdaCallback(on_train_batch_begin=spoil)


def test_training_ends_at_the_first_loss_that_is_not_finite(capsys):
    model, spoil = broken(2)
    _, history = fit(spoil, TerminateOnNaN(), model=model, epochs=3)
    assert model.optimizer.iterations == 2
    assert model.stop_training
    assert len(history.history["loss"]) == 1
    assert math.isnan(history.history["loss"][0])
    assert "step 3: the loss is nan, and training ends" in capsys.readouterr().err


def test_or_it_is_an_error_and_no_last_hook_is_called():
    model, spoil = broken(0)
    ends = []
    with pytest.raises(RuntimeError, match=r"the loss of step 1 is nan\. The parameters are those before this step"):
        fit(spoil, TerminateOnNaN(raise_error=True), LambdaCallback(on_train_end=ends.append), model=model)
    assert not ends


# --- going on after an interruption -----------------------------------------------------------------------------------


class Interrupt(Callback):
    """Raises KeyboardInterrupt once, at a step of an epoch."""

    def __init__(self, epoch, step):
        super().__init__()
        self.at, self.epoch = (epoch, step), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            self.at = None
            raise KeyboardInterrupt


@pytest.mark.parametrize(("save_freq", "at"), [("epoch", (1, 2)), (1, (1, 0)), (2, (2, 1)), (2, (1, 2))])
def test_a_run_that_is_started_again_makes_the_bits_of_one_that_never_stopped(tmp_path, save_freq, at):
    def model():
        lm = small_masked_lm(dropout=0.1, seed=4)
        lm.compile(optimizer=optimizers.AdamW(1e-2, amsgrad=True, use_ema=True))
        return lm

    def others():
        return [ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=9.0), EarlyStopping("loss", patience=9)]

    straight, expected = fit(Callback(), *others(), Interrupt(9, 9), model=model(), epochs=3)
    backup, interrupt = BackupAndRestore(tmp_path / "backup", save_freq), Interrupt(*at)
    with pytest.raises(KeyboardInterrupt):
        fit(backup, *others(), interrupt, model=model(), epochs=3)
    assert os.listdir(tmp_path / "backup") == ["latest.safetensors"]
    again, history = fit(
        BackupAndRestore(tmp_path / "backup", save_freq), *others(), interrupt, model=model(), epochs=3
    )
    assert again.backbone.params.flat.tobytes() == straight.backbone.params.flat.tobytes()
    assert history.history == expected.history
    assert again.optimizer.learning_rate == straight.optimizer.learning_rate
    assert not (tmp_path / "backup").exists()  # it came to its end


def test_a_backup_may_stay_and_keeps_other_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    fit(BackupAndRestore(tmp_path))
    assert os.listdir(tmp_path) == ["notes.txt"]
    fit(BackupAndRestore(tmp_path, delete_checkpoint=False, double_checkpoint=True))
    assert sorted(os.listdir(tmp_path)) == ["latest.safetensors", "notes.txt", "previous.safetensors"]


@pytest.mark.parametrize(("verbose", "is_said"), [(0, False), (1, True), (2, True), ("auto", True)])
def test_a_backup_says_where_training_continues_unless_fit_is_silent(tmp_path, capsys, verbose, is_said):
    callbacks = [BackupAndRestore(tmp_path / "backup", save_freq=1), Interrupt(1, 1)]
    with pytest.raises(KeyboardInterrupt):
        small_masked_lm().fit(TEXTS, batch_size=3, epochs=2, verbose=0, callbacks=callbacks)
    assert "BackupAndRestore" not in capsys.readouterr().err
    small_masked_lm().fit(TEXTS, batch_size=3, epochs=2, verbose=verbose, callbacks=callbacks)
    line = f"BackupAndRestore continues from {tmp_path / 'backup' / 'latest.safetensors'}, in epoch 2 after 3 updates\n"
    assert (line in capsys.readouterr().err) is is_said


def test_a_backup_of_another_backend_is_gone_on_with_and_that_is_said(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        fit(BackupAndRestore(tmp_path), Interrupt(1, 0), model=small_masked_lm(backend="numpy"))
    state, notes = checkpoint.load(tmp_path / "latest.safetensors")
    assert notes == {"backend": "numpy"}
    checkpoint.save(tmp_path / "latest.safetensors", state, {"backend": "another"})
    fit(BackupAndRestore(tmp_path), Interrupt(9, 9), model=small_masked_lm(backend="numpy"))
    assert "BackupAndRestore: the checkpoint was made with the backend another, but training continues with numpy" in (
        capsys.readouterr().err
    )


def test_a_rate_that_the_state_replaces_is_told(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        fit(BackupAndRestore(tmp_path), Interrupt(1, 0))
    model = small_masked_lm()
    model.compile(optimizers.Adam(5e-3))
    again, _ = fit(BackupAndRestore(tmp_path), Interrupt(9, 9), model=model)
    assert again.optimizer.learning_rate == 1e-2
    assert "continues with the learning rate of its state, 0.01; compile had 0.005" in capsys.readouterr().err


def test_the_state_before_is_taken_where_the_latest_is_damaged(tmp_path, capsys):
    interrupt = Interrupt(2, 1)
    with pytest.raises(KeyboardInterrupt):
        fit(BackupAndRestore(tmp_path, double_checkpoint=True), interrupt, epochs=3)
    latest = tmp_path / "latest.safetensors"
    latest.write_bytes(latest.read_bytes()[:100])
    straight, _ = fit(Callback(), Interrupt(9, 9), epochs=3)
    again, history = fit(BackupAndRestore(tmp_path, double_checkpoint=True), interrupt, epochs=3)
    assert history.epoch == [0, 1, 2]
    assert "continues from the state before the latest one" in capsys.readouterr().err
    assert again.backbone.params.flat.tobytes() == straight.backbone.params.flat.tobytes()


def test_a_damaged_backup_and_another_fits_are_refused(tmp_path):
    interrupt = Interrupt(1, 0)
    with pytest.raises(KeyboardInterrupt):
        fit(BackupAndRestore(tmp_path), interrupt)
    with pytest.raises(ValueError, match="had examples 6, but this one has 4"):
        small_masked_lm().fit(
            TEXTS[:4], batch_size=2, epochs=2, verbose=0, callbacks=[BackupAndRestore(tmp_path), interrupt]
        )
    (tmp_path / "latest.safetensors").write_bytes(b"none")
    with pytest.raises(ValueError, match="latest"):
        fit(BackupAndRestore(tmp_path), interrupt)


def test_other_examples_of_the_same_number_are_told(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(BackupAndRestore(tmp_path), Interrupt(1, 0))
    arguments = {"batch_size": 2, "epochs": 2, "verbose": 0, "callbacks": [BackupAndRestore(tmp_path), Interrupt(9, 9)]}
    with pytest.warns(UserWarning, match="its texts, labels or weights are not those of that run"):
        small_masked_lm().fit(TEXTS[::-1], **arguments)


@pytest.mark.parametrize("wrong", ["missing", "x", [], {}, True, "more"])
def test_a_damaged_state_of_any_callback_is_refused_by_its_name(tmp_path, wrong):
    def given():
        logger, saver = CSVLogger(tmp_path / "log.csv"), ModelCheckpoint(tmp_path / "model")
        return [BackupAndRestore(tmp_path / "a"), EarlyStopping("loss"), ReduceLROnPlateau("loss"), logger, saver]

    with pytest.raises(KeyboardInterrupt):
        fit(*given(), Interrupt(1, 0))
    state = checkpoint.load(tmp_path / "a" / "latest.safetensors")[0]
    found = [one for one in state.callbacks["callbacks"] if one["state"]]
    assert [one["class"] for one in found] == [*(type(one).__name__ for one in given()), "History"]
    for one in found:
        for name in [*one["state"]][: 1 if wrong == "more" else None]:
            is_empty = wrong == "missing" and len(one["state"]) == 1  # a callback without a state
            if type(one["state"][name]) is type(wrong) or is_empty or (wrong == [] and name == "best_weights"):
                continue
            spoilt = copy.deepcopy(state)
            (values,) = [each["state"] for each in spoilt.callbacks["callbacks"] if each["class"] == one["class"]]
            values["more" if wrong == "more" else name] = wrong
            if wrong == "missing":
                del values[name]
            model = small_masked_lm()
            model.compile(optimizers.Adam(1e-2))
            model.load_train_state(spoilt)
            with pytest.raises(ValueError, match=f"the state of {one['class']} is damaged, .*: it (lacks|has) "):
                fit(*given(), model=model)


def test_a_callback_of_ones_own_has_its_own_state(tmp_path):
    class Stopping(EarlyStopping):
        def get_state(self):
            return {"mine": 1}

        def set_state(self, state):
            self.found = state

    with pytest.raises(KeyboardInterrupt):
        fit(BackupAndRestore(tmp_path), Stopping("loss"), Interrupt(1, 0))
    stopping = Stopping("loss")
    fit(BackupAndRestore(tmp_path), stopping, Interrupt(9, 9))
    assert stopping.found == {"mine": 1}


def test_a_damaged_latest_state_does_not_replace_the_one_before(tmp_path, monkeypatch):
    backup, interrupt = partial(BackupAndRestore, tmp_path, double_checkpoint=True), Interrupt(2, 1)
    with pytest.raises(KeyboardInterrupt):
        fit(backup(), interrupt, epochs=3)
    latest, previous = tmp_path / "latest.safetensors", tmp_path / "previous.safetensors"
    latest.write_bytes(b"none")
    before = previous.read_bytes()

    def fails(*arguments: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(checkpoint, "save", fails)
    with pytest.raises(OSError, match="the disk is full"):
        fit(backup(), interrupt, epochs=3)
    assert previous.read_bytes() == before


def test_a_backup_that_is_not_a_file_is_not_taken_for_none(tmp_path):
    latest = tmp_path / "latest.safetensors"
    latest.symlink_to("unmounted/latest.safetensors")
    with pytest.raises(FileNotFoundError, match=r"is a link to unmounted/latest\.safetensors, which does not exist"):
        fit(BackupAndRestore(tmp_path))
    latest.unlink()
    latest.mkdir()
    with pytest.raises(ValueError, match=r"is a directory, not a plain file\. To begin anew, remove that file"):
        fit(BackupAndRestore(tmp_path))
    (tmp_path / "file").write_text("mine")
    model = small_masked_lm()
    with pytest.raises(NotADirectoryError, match=r"file is a file, and not a directory"):
        fit(BackupAndRestore(tmp_path / "file"), model=model)
    assert not model.optimizer.is_built


def test_a_backup_belongs_to_one_running_fit(tmp_path):
    def second(epoch, logs):
        with pytest.raises(ValueError, match=r"another running fit has its states in .* give another backup_dir"):
            fit(BackupAndRestore(tmp_path))

    fit(BackupAndRestore(tmp_path), LambdaCallback(on_epoch_begin=second), epochs=1)
    with pytest.raises(KeyboardInterrupt):
        fit(BackupAndRestore(tmp_path), Interrupt(1, 0))
    fit(BackupAndRestore(tmp_path), Interrupt(9, 9))  # the one before has ended


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of Python 3.12, since threads may live
def test_a_child_that_was_forked_during_a_fit_does_not_keep_the_backup(tmp_path):
    children = []
    stop, go_on = os.pipe()  # a child ends when the writing end is closed

    def fork(logs):
        if child := os.fork():
            children.append(child)
        else:
            os.close(go_on)
            os.read(stop, 1)
            os._exit(0)

    try:
        with pytest.raises(KeyboardInterrupt):
            fit(BackupAndRestore(tmp_path), LambdaCallback(on_train_begin=fork), Interrupt(1, 0))
        fit(BackupAndRestore(tmp_path), Interrupt(9, 9))  # while the child lives
    finally:
        os.close(go_on)
        ends = [os.waitpid(child, 0)[1] for child in children]
        os.close(stop)
    assert ends == [0]


def test_a_log_that_is_continued_keeps_what_was_before_the_run(tmp_path):
    log, backup = tmp_path / "log.csv", tmp_path / "backup"
    log.write_bytes("epoch;accuracy;loss\n0;0.5;café\n".encode("latin-1"))
    for interrupt in (Interrupt(1, 1), Interrupt(9, 9)):
        with contextlib.suppress(KeyboardInterrupt), pytest.warns(UserWarning, match="no column for perplexity"):
            fit(CSVLogger(log, ";", append=True), BackupAndRestore(backup, 1), interrupt)
    rows = log.read_bytes().decode("latin-1").splitlines()
    assert [row.split(";")[0] for row in rows] == ["epoch", "0", "0", "1"]
    assert rows[1] == "0;0.5;café"


def test_a_log_that_was_removed_before_the_run_continued_gets_its_header_again(tmp_path):
    log, backup = tmp_path / "log.csv", tmp_path / "backup"
    log.write_text("epoch,loss,accuracy,perplexity\n7,1,1,1\n")
    with pytest.raises(KeyboardInterrupt):
        fit(CSVLogger(log, append=True), BackupAndRestore(backup, 1), Interrupt(1, 1))
    log.unlink()
    fit(CSVLogger(log, append=True), BackupAndRestore(backup, 1), Interrupt(9, 9))
    rows = log.read_text().splitlines()
    assert rows[0] == "epoch,loss,accuracy,perplexity"
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1"]


@pytest.mark.parametrize("append", [True, False])
def test_one_file_for_two_callbacks_is_refused(tmp_path, append):
    (tmp_path / "link.csv").symlink_to(tmp_path / "log.csv")
    logger = CSVLogger(tmp_path / "log.csv", append=append)
    for other in (logger, CSVLogger(tmp_path / "link.csv"), ModelCheckpoint(tmp_path / "log.csv")):
        with pytest.raises(ValueError, match=r"two callbacks, CSVLogger and .*, would write .* another file"):
            fit(logger, other)
    assert not (tmp_path / "log.csv").exists()
    fit(CSVLogger(tmp_path / "a.csv"), CSVLogger(tmp_path / "b.csv"))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


# --- files of weights -------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_weights_alone_is_keras_file(tmp_path):
    pytest.importorskip("h5py")
    model, _ = fit(ModelCheckpoint(tmp_path / "a" / "{epoch}.weights.h5", save_weights_only=True))
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["1.weights.h5", "2.weights.h5"]
    other = small_masked_lm(seed=5)
    other.load_weights(tmp_path / "a" / "2.weights.h5")
    np.testing.assert_allclose(other.backbone.params.flat, model.backbone.params.flat, rtol=1e-6)


def test_a_checkpoint_of_a_whole_model_may_be_keras_archive(tmp_path):
    pytest.importorskip("h5py")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")  # Python's own, which shows a message once for a line
        model, _ = fit(ModelCheckpoint(tmp_path / "a" / "{epoch}.keras"))
    assert ["does not hold the optimizer's state" in str(one.message) for one in caught] == [True]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["1.keras", "2.keras"]
    found = load_model(tmp_path / "a" / "2.keras")
    assert found.backbone.params.flat.tobytes() == model.backbone.params.flat.tobytes()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("model.keras", {"save_weights_only": True}, r"a file of a whole model: leave save_weights_only out"),
        (
            "model.h5",
            {"save_weights_only": True},
            r"a file of weights ends in \.weights\.h5, one of a whole model in \.keras",
        ),
        ("model.weights.h5", {}, "a file of weights alone: pass save_weights_only=True"),
    ],
)
def test_files_that_are_not_written_here_are_refused_at_once(name, options, message):
    with pytest.raises(ValueError, match=message):
        ModelCheckpoint(name, **options)


# --- TensorBoard ------------------------------------------------------------------------------------------------------


def events(directory):
    """The tag, step and value of each number that was written."""
    from tensorboardX.proto import event_pb2
    from tensorboardX.record_writer import directory_check  # noqa: F401 - that it is the real one

    found = []
    for path in sorted(Path(directory).glob("events*")):
        data, place = path.read_bytes(), 0
        while place < len(data):  # length, its check sum, the event, its check sum
            length = int.from_bytes(data[place : place + 8], "little")
            event = event_pb2.Event.FromString(data[place + 12 : place + 12 + length])
            place += 16 + length
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    return found


@pytest.mark.parity
def test_numbers_for_tensorboard_have_keras_tags(tmp_path):
    pytest.importorskip("tensorboardX")
    model = small_masked_lm()
    model.compile(optimizer=optimizers.Adam(1e-2), weighted_metrics=["accuracy"])
    board = TensorBoard(tmp_path, update_freq=2, histogram_freq=1, write_steps_per_second=True)
    _, history = fit(board, model=model, validation_split=0.34)
    train, validation = events(tmp_path / "train"), events(tmp_path / "validation")
    of_epochs = {(tag, step): value for tag, step, value in train if tag.startswith("epoch_")}
    for epoch in range(2):
        assert of_epochs["epoch_loss", epoch] == pytest.approx(history.history["loss"][epoch])
        assert of_epochs["epoch_learning_rate", epoch] == pytest.approx(1e-2)
        assert of_epochs["epoch_steps_per_second", epoch] > 0
    assert sorted(step for tag, step, _ in train if tag == "batch_loss") == [2, 4]
    assert {"batch_accuracy", "batch_steps_per_second"} <= {tag for tag, _, _ in train}
    assert {tag for tag, _, _ in train} >= set(model.backbone.params)  # the histograms
    values = {(tag, step): value for tag, step, value in validation}
    assert values["epoch_accuracy", 1] == pytest.approx(history.history["val_accuracy"][1])
    assert values["evaluation_loss_vs_iterations", 4] == pytest.approx(history.history["val_loss"][1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"write_images": True}, "write_images=True would have no effect"),
        ({"profile_batch": 2}, "profile_batch=2 would have no effect: Python's own profilers"),
        ({"embeddings_freq": 1}, "embeddings_freq=1 would have no effect: embed"),
        ({"update_freq": "step"}, "update_freq must be 'epoch', 'batch' or a number of steps"),
        ({"update_freq": 0}, "update_freq must be a whole number of at least 1"),
        ({"histogram_freq": -1}, "histogram_freq must be a whole number of at least 0"),
    ],
)
def test_arguments_of_tensorboard_that_do_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TensorBoard("logs", **options)


def test_without_tensorboardx_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'pyroberta\[tensorboard\]'"):
        fit(TensorBoard(tmp_path))


# --- Keras's own callbacks --------------------------------------------------------------------------------------------

PAIRS = {
    "EarlyStopping": {"monitor": "val_loss", "patience": 1, "restore_best_weights": True, "min_delta": 0.05},
    "EarlyStopping of accuracy": {"monitor": "val_accuracy", "patience": 1, "restore_best_weights": True},
    "ReduceLROnPlateau": {"monitor": "loss", "factor": 0.5, "patience": 1, "min_delta": 1.0},
    "LearningRateScheduler": {"schedule": lambda epoch, rate: float(rate) * 0.5},
    "History": {},
    "LambdaCallback": {},
}


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own
@pytest.mark.parametrize("name", PAIRS)
def test_keras_callbacks_run_as_they_are_and_do_what_ours_do(keras, name):
    found = []
    for module in (keras.callbacks, callbacks):
        model = small_masked_lm(dropout=0.0)
        model.compile(optimizer=optimizers.Adam(3e-2), weighted_metrics=["accuracy"])
        callback = getattr(module, name.split()[0])(**PAIRS[name])
        _, history = fit(callback, model=model, epochs=6, validation_split=0.34)
        found.append((model, history, callback))
    (one, theirs, their_callback), (other, ours, our_callback) = found
    assert theirs.epoch == ours.epoch
    assert list(theirs.history) == list(ours.history)
    for values, expected in zip(theirs.history.values(), ours.history.values(), strict=True):
        assert values == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(one.backbone.params.flat, other.backbone.params.flat, rtol=1e-6)
    if name.startswith("EarlyStopping"):
        assert their_callback.stopped_epoch == our_callback.stopped_epoch
        assert len(ours.epoch) < 6


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own
def test_keras_files_are_written(keras, tmp_path):
    weights = keras.callbacks.ModelCheckpoint(
        str(tmp_path / "{epoch}.weights.h5"), save_weights_only=True, save_best_only=True, monitor="loss"
    )
    model, history = fit(keras.callbacks.CSVLogger(str(tmp_path / "log.csv")), weights, epochs=2)
    assert (tmp_path / "2.weights.h5").is_file()
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    assert header.split(",")[:2] == ["epoch", "accuracy"]
    assert len(rows) == 2
    other = small_masked_lm(seed=5)
    other.load_weights(tmp_path / "2.weights.h5")
    np.testing.assert_allclose(other.backbone.params.flat, model.backbone.params.flat, rtol=1e-6)
    assert history.epoch == [0, 1]


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own
def test_keras_bar_takes_the_place_of_ours_and_its_nan_ends_training(keras, capsys):
    model, spoil = broken(1)
    _, history = fit(spoil, keras.callbacks.TerminateOnNaN(), [keras.callbacks.CallbackList([])], model=model)
    assert math.isnan(history.history["loss"][0])
    small_masked_lm().fit(TEXTS, batch_size=2, callbacks=keras.callbacks.ProgbarLogger())
    out, err = capsys.readouterr()
    assert "3/3" in out
    assert "epoch 1/1" not in err


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own
def test_what_of_keras_would_do_half_of_its_work_is_refused(keras, tmp_path):
    with pytest.raises(TypeError, match=r"BackupAndRestore works only with Keras's models: pyroberta\.callbacks"):
        fit(keras.callbacks.BackupAndRestore(str(tmp_path / "x")))
    with pytest.raises(TypeError, match=r"SwapEMAWeights works only with Keras's models"):
        fit(keras.callbacks.SwapEMAWeights())
    model = small_masked_lm()
    model.compile(optimizer=optimizers.Adam(schedules.CosineDecay(0.1, 9)))
    with pytest.raises(TypeError, match=r"ReduceLROnPlateau sets the learning rate, but .* with a schedule"):
        fit(keras.callbacks.ReduceLROnPlateau("loss"), model=model)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own
def test_a_users_subclass_of_keras_callback_is_called(keras):
    class Mine(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen = []

        def on_epoch_end(self, epoch, logs=None):
            self.seen.append((epoch, sorted(logs), self.params["epochs"], self.model.optimizer.iterations))
            if epoch == 1:
                self.model.stop_training = True

    mine = Mine()
    _, history = fit(mine, epochs=5)
    assert [one[0] for one in mine.seen] == history.epoch == [0, 1]
    assert mine.seen[0][1:] == (["accuracy", "loss", "perplexity"], 5, 3)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own
def test_what_keras_callbacks_keep_goes_on_too(keras, tmp_path):
    """An interrupted run goes on as one that never stopped, whose stopping and whose rates follow from early epochs."""

    def given(stop_at):
        stopping = keras.callbacks.EarlyStopping("loss", patience=3, min_delta=9.0, restore_best_weights=True)
        plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=2, min_delta=9.0)
        return [
            BackupAndRestore(tmp_path / "backup"),
            stopping,
            plateau,
            keras.callbacks.History(),
            Interrupt(*stop_at),
        ]

    straight, expected = fit(*given((9, 9)), epochs=6)
    assert expected.epoch == [0, 1, 2, 3]
    with pytest.raises(KeyboardInterrupt):
        fit(*given((2, 1)), epochs=6)
    again, history = fit(*given((9, 9)), epochs=6)
    assert history.history == expected.history
    assert history.history["learning_rate"][-1] < history.history["learning_rate"][0]
    assert again.backbone.params.flat.tobytes() == straight.backbone.params.flat.tobytes()


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the peers' own
def test_keras_callbacks_find_accuracy_under_any_of_its_names(keras):
    stopping = keras.callbacks.EarlyStopping("val_sparse_categorical_accuracy", patience=1, min_delta=2.0)
    _, history = fit(stopping, epochs=5, validation_split=0.34)
    assert (stopping.monitor, history.epoch) == ("val_accuracy", [0, 1])


def test_functions_may_stand_in_keras_order():
    seen = []
    note = LambdaCallback(
        lambda epoch, logs: seen.append("epoch begins"), lambda epoch, logs: seen.append("epoch ends"),
        lambda logs: seen.append("begins"), lambda logs: seen.append("ends"),
    )  # fmt: skip
    fit(note, epochs=1)
    assert seen == ["begins", "epoch begins", "epoch ends", "ends"]


# --- a process that is killed -----------------------------------------------------------------------------------------

KILLED = """
import hashlib, os, signal, sys
sys.path[:0] = sys.argv[2:]
import small_models
from small_models import TEXTS, small_masked_lm
from pyroberta import optimizers
from pyroberta.training.callbacks import BackupAndRestore, Callback, EarlyStopping

class Kill(Callback):
    def on_train_batch_end(self, batch, logs=None):
        if os.environ.get("STEP") == str(self.model.optimizer.iterations):
            os.kill(os.getpid(), signal.SIGKILL)

model = small_masked_lm(dropout=0.1, dtype="float32")
model.compile(optimizer=optimizers.AdamW(1e-2, amsgrad=True, use_ema=True))
given = [BackupAndRestore(sys.argv[1], save_freq=2), EarlyStopping("loss", patience=9), Kill()]
history = model.fit(TEXTS, batch_size=2, epochs=3, verbose=0, callbacks=given)
print(hashlib.sha256(model.backbone.params.flat.tobytes()).hexdigest(), history.history)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_bit_for_bit(tmp_path):
    import subprocess
    import sys

    def run(directory, step=None):
        command = [sys.executable, "-c", KILLED, str(directory), str(Path(small_models.__file__).parent)]
        environment = {**os.environ, "STEP": str(step)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    straight = run(tmp_path / "straight")
    assert straight.returncode == 0, straight.stderr
    for step in (3, 5, 8):  # within an epoch, after which the steps since the last save are made again
        assert run(tmp_path / "killed", step).returncode == -9
    again = run(tmp_path / "killed")
    assert again.returncode == 0, again.stderr
    assert again.stdout == straight.stdout
    assert not (tmp_path / "killed").exists()
