"""Keras's claims about callbacks."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest
from claims import claim, classes, differs, features, small_classifier

from pyroberta import callbacks, optimizers, schedules
from pyroberta.callbacks import Callback, CallbackList, EarlyStopping, History, LambdaCallback, ModelCheckpoint

DIRECTORY = "keras/src/callbacks"
STOPPING = f"{DIRECTORY}/early_stopping_test.py::EarlyStoppingTest"
MONITOR = f"{DIRECTORY}/monitor_callback_test.py::MonitorCallbackTest"
CHECKPOINT = f"{DIRECTORY}/model_checkpoint_test.py::ModelCheckpointTest"
LOGGER = f"{DIRECTORY}/csv_logger_test.py::CSVLoggerTest"
LAMBDA = f"{DIRECTORY}/lambda_callback_test.py::LambdaCallbackTest"
SCHEDULER = f"{DIRECTORY}/learning_rate_scheduler_test.py::LearningRateSchedulerTest"
PLATEAU = f"{DIRECTORY}/reduce_lr_on_plateau_test.py::ReduceLROnPlateauTest"
BACKUP = f"{DIRECTORY}/backup_and_restore_test.py::BackupAndRestoreCallbackTest"
NAN = f"{DIRECTORY}/terminate_on_nan_test.py::TerminateOnNaNTest"
BOARD = f"{DIRECTORY}/tensorboard_test.py::TestTensorBoardV2"
SWAP = f"{DIRECTORY}/swap_ema_weights_test.py::SwapEMAWeightsTest"
LIST = f"{DIRECTORY}/callback_list_test.py"
BASE = f"{DIRECTORY}/callback_test.py::CallbackTest"


class Model:
    """What a callback needs of a model, with weights that are a number."""

    def __init__(self):
        self.stop_training = False
        self.weights = [np.array(-1)]

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = weights


def run_epochs(callback, losses, monitor="val_loss", stop_at=None):
    """Tells a callback the losses of so many epochs; returns its model and the number of epochs."""
    model = Model()
    callback.set_model(model)
    callback.on_train_begin()
    epochs = 0
    for epoch, loss in enumerate(losses):
        epochs += 1
        model.weights = [np.array(epoch)]
        callback.on_epoch_end(epoch, {monitor: loss})
        model.stop_training |= epoch == stop_at
        if model.stop_training:
            break
    callback.on_train_end()
    return model, epochs


def fitted(*given, epochs=1, **options):
    """A classifier that was fitted on little with these callbacks, and its history."""
    model = small_classifier()
    model.compile(
        optimizer=options.pop("optimizer", optimizers.Adam(0.1)), **options.pop("compiled", {"metrics": ["accuracy"]})
    )
    data = {"validation_data": (features(6, seed=5), classes(6, seed=6)), "batch_size": 5, "verbose": 0}
    history = model.fit(features(10), classes(10), callbacks=list(given), epochs=epochs, **{**data, **options})
    return model, history


# ------------------------------------------------------------------------------------------------------- EarlyStopping


@claim(f"{STOPPING}::test_early_stopping", f"{MONITOR}::test_monitor_op_logic")
@pytest.mark.parametrize(
    ("mode", "monitor", "expected"),
    [
        ("max", "val_loss", "max"),
        ("min", "val_loss", "min"),
        ("auto", "val_perplexity", "min"),
        ("auto", "loss", "min"),
        ("auto", "acc", "max"),
        ("auto", "val_accuracy", "max"),
        ("auto", "val_sparse_categorical_accuracy", "max"),
    ],
)
def test_what_is_better_follows_from_the_metric(mode, monitor, expected):
    stopper = EarlyStopping(monitor=monitor, mode=mode)
    assert stopper.improves(1.0, 2.0) is (expected == "min")
    assert stopper.improves(2.0, 1.0) is (expected == "max")


@claim(f"{STOPPING}::test_early_stopping")
@pytest.mark.parametrize("names", [("acc", "val_acc"), ("accuracy", "val_accuracy")])
def test_a_metric_is_monitored_under_the_name_that_it_is_logged_by(names):
    name, monitor = names
    _, history = fitted(
        EarlyStopping(monitor=monitor, patience=1, min_delta=2.0), epochs=4, compiled={"metrics": [name]}
    )
    assert len(history.epoch) == 2


@claim(f"{STOPPING}::test_early_stopping", f"{MONITOR}::test_monitor_op_logic")
def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="unknown"):
        fitted(EarlyStopping(monitor="unknown"), epochs=2)


@claim(f"{MONITOR}::test_min_delta")
@pytest.mark.parametrize(
    ("value", "reference", "expected"), [(0.75, 0, True), (0.5, None, True), (0.5, 0, False), (0.2, 0.5, False)]
)
def test_a_small_change_is_no_improvement(value, reference, expected):
    stopper = EarlyStopping(monitor="val_accuracy", mode="max", min_delta=0.5)
    assert stopper.improves(value, reference) is expected


@claim(f"{STOPPING}::test_early_stopping_patience")
@pytest.mark.parametrize("patience", [0, 1, 2, 3])
def test_training_ends_after_so_many_epochs_without_improvement(patience):
    stopper = EarlyStopping(monitor="loss", patience=patience)
    run_epochs(stopper, [10.0, 9.0, 8.0, 9.0, 8.9, 8.8, 8.7, 8.6, 8.5], "loss")
    assert stopper.stopped_epoch == max(patience, 1) + 2


@claim(f"{STOPPING}::test_early_stopping_reuse", f"{STOPPING}::test_state_reset_across_fit_calls")
def test_a_callback_begins_anew_with_every_fit():
    stopper = EarlyStopping(monitor="loss", patience=3, min_delta=100.0)
    for _ in range(2):
        _, history = fitted(stopper, epochs=20)
        assert len(history.epoch) == 4


@claim(f"{STOPPING}::test_early_stopping_with_baseline")
def test_what_is_worse_than_the_baseline_is_no_improvement():
    _, history = fitted(EarlyStopping(monitor="loss", patience=3, baseline=1e-9), epochs=20)
    assert len(history.epoch) >= 3
    assert len(history.epoch) < 20


@claim(f"{STOPPING}::test_early_stopping_final_weights_when_restoring_model_weights")
@pytest.mark.parametrize(
    ("options", "losses", "stop_at", "epochs"),
    [
        ({"patience": 2}, [0.2, 0.15, 0.1, 0.11, 0.12], None, 5),
        ({"patience": 5, "baseline": 0.5}, [0.9, 0.8, 0.7, 0.71, 0.72, 0.73], None, 5),
        ({"patience": 5, "baseline": 0.5}, [0.9, 0.8, 0.7, 0.71, 0.72, 0.73], 3, 4),
    ],
)
def test_the_weights_of_the_best_epoch_are_restored(options, losses, stop_at, epochs):
    model, seen = run_epochs(EarlyStopping(restore_best_weights=True, **options), losses, stop_at=stop_at)
    assert seen == epochs
    assert model.get_weights() == [2]


@claim(f"{STOPPING}::test_early_stopping_with_start_from_epoch")
@pytest.mark.parametrize(("patience", "expected"), [(3, 6), (0, 4)])
def test_the_first_epochs_may_be_left_out(patience, expected):
    stopper = EarlyStopping(monitor="loss", patience=patience, start_from_epoch=2, min_delta=100.0)
    _, history = fitted(stopper, epochs=20)
    assert len(history.epoch) == expected


# ----------------------------------------------------------------------------------------------------- ModelCheckpoint


@claim(f"{CHECKPOINT}::test_model_checkpoint_options")
@pytest.mark.parametrize(
    ("options", "is_saved"),
    [
        ({}, True),
        ({"monitor": "val_loss", "mode": "min"}, True),
        ({"monitor": "val_accuracy", "mode": "max"}, True),
        ({"monitor": "val_accuracy", "mode": "max", "save_best_only": True}, True),
        ({"mode": "max", "monitor": "val_accuracy", "initial_value_threshold": -0.01, "save_best_only": True}, True),
        ({"mode": "auto", "initial_value_threshold": None, "save_best_only": True}, True),
        ({"mode": "min", "initial_value_threshold": 0, "save_best_only": True}, False),
        ({"mode": "auto", "initial_value_threshold": 0, "save_best_only": True}, False),
        (
            {"monitor": "val_accuracy", "mode": "auto", "initial_value_threshold": 1, "save_best_only": True},
            False,
        ),
    ],
)
def test_a_model_is_saved_if_it_is_better(tmp_path, options, is_saved):
    path = tmp_path / "subdir" / "checkpoint"
    fitted(ModelCheckpoint(path, **options))
    assert path.exists() is is_saved


@claim(f"{CHECKPOINT}::test_model_checkpoint_options")
@pytest.mark.parametrize("name", ["checkpoint-{epoch:02d}", "checkpoint-{epoch:02d}.weights.h5"])
def test_a_model_is_saved_every_so_many_steps(tmp_path, name):
    options = {"save_weights_only": True} if name.endswith(".h5") else {}
    fitted(ModelCheckpoint(tmp_path / name, save_freq=6, **options), epochs=9)  # of 2 steps
    assert {path.name for path in tmp_path.iterdir()} == {name.format(epoch=epoch) for epoch in (3, 6, 9)}


@claim(f"{CHECKPOINT}::test_model_checkpoint_options")
@pytest.mark.parametrize("name", ["{epoch:02d}-{batch:02d}", "{epoch:02d}-{batch:02d}.weights.h5"])
def test_a_files_name_may_have_the_batchs_number(tmp_path, name):
    options = {"save_weights_only": True} if name.endswith(".h5") else {}
    fitted(ModelCheckpoint(tmp_path / name, save_freq=1, **options), epochs=3)
    expected = {name.format(epoch=epoch, batch=batch) for epoch in (1, 2, 3) for batch in (1, 2)}
    assert {path.name for path in tmp_path.iterdir()} == expected


@claim(f"{CHECKPOINT}::test_model_checkpoint_options")
@pytest.mark.parametrize("save_freq", ["invalid_save_freq", 0, 1.5])
def test_an_invalid_frequency_is_refused(save_freq):
    with pytest.raises((TypeError, ValueError), match="save_freq"):
        ModelCheckpoint("x", save_freq=save_freq)


@claim(f"{CHECKPOINT}::test_model_checkpoint_options")
@pytest.mark.parametrize("save_freq", ["epoch", 3])
def test_a_frequency_is_epoch_or_a_number(save_freq):
    assert ModelCheckpoint("x", save_freq=save_freq).save_freq == save_freq


@claim(f"{CHECKPOINT}::test_model_checkpoint_loading")
def test_a_model_that_was_saved_is_loaded(tmp_path):
    from pyroberta import TextClassifier

    model, _ = fitted(ModelCheckpoint(tmp_path / "whole"))
    again = TextClassifier.from_preset(tmp_path / "whole", preprocessor=None)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@claim(f"{CHECKPOINT}::test_model_checkpoint_loading")
def test_weights_that_were_saved_are_loaded(tmp_path):
    path = tmp_path / "model.weights.h5"
    model, _ = fitted(ModelCheckpoint(path, save_weights_only=True))
    again = small_classifier(seed=1)
    again.load_weights(path)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@claim(f"{CHECKPOINT}::test_model_checkpoint_options")
def test_an_unknown_mode_is_told(tmp_path):
    with pytest.warns(UserWarning, match="mode 'unknown' is unknown"):
        ModelCheckpoint(tmp_path / "x", mode="unknown")


@differs(f"{CHECKPOINT}::test_model_checkpoint_options")
def test_a_metric_that_is_not_there_is_an_error(tmp_path):
    """Keras warns in every epoch and saves nothing."""
    with pytest.raises(ValueError, match="'unknown'"):
        fitted(ModelCheckpoint(tmp_path / "x", monitor="unknown", save_best_only=True))


# ----------------------------------------------------------------------------------------------------------- CSVLogger


def rows(path, separator=","):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter=separator))


@claim(f"{LOGGER}::test_CSVLogger")
def test_a_log_has_the_separator_that_was_given(tmp_path):
    path = tmp_path / "log.tsv"
    fitted(callbacks.CSVLogger(str(path), separator="\t"))
    assert csv.Sniffer().sniff(path.read_text()).delimiter == "\t"
    assert len(rows(path, "\t")) == 2


@claim(f"{LOGGER}::test_CSVLogger")
def test_a_log_is_gone_on_with_and_has_one_header(tmp_path):
    path = tmp_path / "log.csv"
    fitted(callbacks.CSVLogger(path))
    logger = callbacks.CSVLogger(path, append=True)
    fitted(logger)
    fitted(logger, epochs=2)
    found = rows(path)
    assert len(found) == 5
    assert {len(row) for row in found} == {5}
    assert len(re.findall("epoch", path.read_text())) == 1


@claim(f"{LOGGER}::test_CSVLogger")
def test_what_is_evaluated_later_has_a_column_from_the_first_row_on(tmp_path):
    path = tmp_path / "log.csv"
    _, history = fitted(callbacks.CSVLogger(path), epochs=5, validation_freq=3)
    with open(path, newline="", encoding="utf-8") as file:
        found = [row["val_loss"] for row in csv.DictReader(file)]
    assert found == ["NA", "NA", str(history.history["val_loss"][0]), "NA", "NA"]


# ------------------------------------------------------------------------------------------------------ TerminateOnNaN


def explosion(*given, **options):
    """A fit whose first loss is not finite, since a weight is infinite."""
    model = small_classifier()
    weights = model.get_weights()
    weights[-1] = np.full_like(weights[-1], np.nan)
    model.set_weights(weights)
    return model, lambda: model.fit(
        features(10), classes(10), callbacks=list(given), batch_size=5, verbose=0, **{"epochs": 3, **options}
    )


@claim(f"{NAN}::test_normal_training_does_not_raise")
@pytest.mark.parametrize("raise_error", [False, True])
def test_finite_losses_are_let_through(raise_error):
    _, history = fitted(callbacks.TerminateOnNaN(raise_error=raise_error), epochs=2)
    assert len(history.history["loss"]) == 2


@claim(f"{NAN}::test_TerminateOnNaN", f"{NAN}::test_terminate_on_nan_graceful_stop")
def test_a_loss_that_is_not_finite_ends_training():
    model, fit = explosion(callbacks.TerminateOnNaN())
    before = model.get_weights()
    assert [math.isnan(loss) for loss in fit().history["loss"]] == [True]
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@claim(f"{LOGGER}::test_stop_training_csv")
def test_a_loss_that_is_not_finite_is_logged(tmp_path):
    _, fit = explosion(callbacks.TerminateOnNaN(), callbacks.CSVLogger(tmp_path / "log.csv"))
    fit()
    found = rows(tmp_path / "log.csv")
    assert len(found) == 2
    assert "nan" in found[-1]


@claim(
    f"{NAN}::test_terminate_on_nan_raise_error_raises_error", f"{NAN}::test_raise_error_terminate_stops_on_later_batch"
)
def test_a_loss_that_is_not_finite_may_be_an_error():
    _, fit = explosion(callbacks.TerminateOnNaN(raise_error=True))
    with pytest.raises((RuntimeError, FloatingPointError), match=r"(?i)nan|inf"):
        fit()


@claim(f"{NAN}::test_raise_error_terminate_does_not_trigger_on_train_end")
def test_an_error_ends_training_without_its_last_hook():
    ended = []
    note = LambdaCallback(on_train_end=lambda logs: ended.append(1))
    _, fit = explosion(note, callbacks.TerminateOnNaN(raise_error=True))
    with pytest.raises((RuntimeError, FloatingPointError)):
        fit()
    assert not ended


# ------------------------------------------------------------------------------------------------------ LambdaCallback


@claim(f"{LAMBDA}::test_lambda_callback", f"{LAMBDA}::test_lambda_callback_with_batches")
@pytest.mark.parametrize(
    "hook",
    [
        *("on_train_begin", "on_epoch_begin", "on_epoch_end", "on_train_end"),
        *("on_train_batch_begin", "on_train_batch_end"),
    ],
)
def test_a_function_is_called_in_its_hooks_place(hook):
    seen = []
    fitted(LambdaCallback(**{hook: lambda *given: seen.append(given)}), epochs=2)
    assert len(seen) == (4 if "batch" in hook else 2 if "epoch" in hook else 1)


@claim(f"{LAMBDA}::test_lambda_callback_with_kwargs", f"{LAMBDA}::test_lambda_callback_during_prediction")
@pytest.mark.parametrize("hook", ["on_test_begin", "on_predict_begin"])
def test_a_function_is_called_in_evaluation_and_prediction(hook):
    model, seen = small_classifier(), []
    note = LambdaCallback(**{hook: seen.append})
    model.evaluate(features(4), classes(4), callbacks=[note], verbose=0)
    model.predict(features(4), callbacks=[note], verbose=0)
    assert len(seen) == 1


@claim(f"{LAMBDA}::test_lambda_callback_no_args")
def test_a_callback_of_no_functions():
    assert isinstance(LambdaCallback(), Callback)


@claim(f"{LAMBDA}::test_lambda_callback_with_additional_kwargs")
def test_a_function_of_another_name_is_an_attribute():
    assert LambdaCallback(custom_method=print).custom_method is print


# ----------------------------------------------------------------------------------------------- LearningRateScheduler


@claim(f"{SCHEDULER}::test_updates_learning_rate")
def test_a_scheduler_sets_the_rate_of_an_epoch():
    model, _ = fitted(callbacks.LearningRateScheduler(lambda epoch: 1.0 / (2.0 + epoch)))
    assert model.optimizer.learning_rate == 0.5


@claim(f"{SCHEDULER}::test_verbose_logging")
def test_a_scheduler_says_what_it_sets(capsys):
    fitted(callbacks.LearningRateScheduler(lambda epoch: 1.0 / (1.0 + epoch), verbose=1))
    said = "".join(capsys.readouterr())
    assert re.search(r"learning rate.* 1(\.0)?\b", said)


@claim(f"{SCHEDULER}::test_schedule_dependent_on_previous_learning_rate")
def test_a_scheduler_may_go_on_from_the_rate_before():
    scheduler = callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    model, _ = fitted(scheduler, epochs=2, optimizer=optimizers.Adam(0.03))
    assert model.optimizer.learning_rate == pytest.approx(0.03 / 4)


@claim(f"{SCHEDULER}::test_throws_when_optimizer_has_schedule", f"{PLATEAU}::test_throws_when_optimizer_has_schedule")
@pytest.mark.parametrize("name", ["LearningRateScheduler", "ReduceLROnPlateau"])
def test_an_optimizer_with_a_schedule_has_no_rate_to_set(name):
    callback = {
        "LearningRateScheduler": lambda: callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
        "ReduceLROnPlateau": lambda: callbacks.ReduceLROnPlateau(patience=1, factor=0.1, min_delta=100),
    }[name]()
    scheduled = optimizers.Adam(schedules.PolynomialDecay(initial_learning_rate=0.1, decay_steps=10))
    with pytest.raises((TypeError, ValueError), match=r"(?i)schedule"):
        fitted(callback, epochs=2, optimizer=scheduled)


@claim(f"{SCHEDULER}::test_learning_rate_in_history")
def test_the_rate_is_logged():
    _, history = fitted(callbacks.LearningRateScheduler(lambda epoch, rate: 0.5))
    assert history.history["learning_rate"] == [0.5]
    assert type(history.history["learning_rate"][0]) is float


# --------------------------------------------------------------------------------------------------- ReduceLROnPlateau


@claim(f"{PLATEAU}::test_reduces_lr_with_model_fit")
def test_a_plateau_lowers_the_rate():
    model, _ = fitted(callbacks.ReduceLROnPlateau(patience=1, factor=0.1, monitor="val_loss", min_delta=100), epochs=2)
    assert model.optimizer.learning_rate == pytest.approx(0.01)


@claim(f"{PLATEAU}::test_verbose_logging")
def test_a_plateau_is_told(capsys):
    fitted(callbacks.ReduceLROnPlateau(patience=1, factor=0.1, min_delta=100, verbose=1), epochs=2)
    assert re.search(r"learning rate.* 0\.01", "".join(capsys.readouterr()))


@claim(f"{PLATEAU}::test_honors_min_lr")
def test_the_rate_has_a_floor():
    plateau = callbacks.ReduceLROnPlateau(patience=1, factor=0.1, min_delta=10, min_lr=0.005)
    model, _ = fitted(plateau, epochs=4)
    assert model.optimizer.learning_rate == pytest.approx(0.005)


@claim(f"{PLATEAU}::test_cooldown")
def test_after_a_reduction_some_epochs_do_not_count():
    plateau = callbacks.ReduceLROnPlateau(patience=1, factor=0.1, min_delta=100, cooldown=2)
    model, _ = fitted(plateau, epochs=4)
    assert model.optimizer.learning_rate == pytest.approx(0.001)


@claim(f"{PLATEAU}::test_state_reset_across_fit_calls")
def test_a_plateau_begins_anew_with_every_fit():
    plateau = callbacks.ReduceLROnPlateau(patience=1, factor=0.1, monitor="loss", min_delta=0, cooldown=2)
    plateau.set_model(small_classifier())
    plateau.on_train_begin()
    plateau.best, plateau.wait, plateau.cooldown_counter = 0.5, 3, 2
    plateau.on_train_begin()
    assert plateau.best is None
    assert (plateau.wait, plateau.cooldown_counter) == (0, 0)


# ---------------------------------------------------------------------------------------------------- BackupAndRestore


class Interruption(RuntimeError): ...


def interrupting(*, step=None, epoch=None):
    """A callback that raises an error at the end of that step or epoch, both from 0 and over the whole run."""
    seen = {"step": 0}

    def after_step(batch, logs):
        seen["step"] += 1
        if step is not None and seen["step"] == step + 1:
            raise Interruption

    def after_epoch(number, logs):
        if epoch is not None and number == epoch:
            raise Interruption

    return LambdaCallback(on_train_batch_end=after_step, on_epoch_end=after_epoch)


def backed_up(directory, save_freq, interruption, between=lambda: None, **arguments):
    """A run that was interrupted and gone on with, and the same run in one go."""
    options = {"batch_size": 4, "verbose": 0, "epochs": 5}
    backup = callbacks.BackupAndRestore(directory, save_freq=save_freq, **arguments)
    with pytest.raises(Interruption):
        small_classifier(dropout=0.1).fit(features(10), classes(10), callbacks=[backup, interruption], **options)
    is_kept = Path(directory).exists()
    between()
    model, whole = small_classifier(dropout=0.1), small_classifier(dropout=0.1)
    backup = callbacks.BackupAndRestore(directory, save_freq=save_freq, **arguments)
    history = model.fit(features(10), classes(10), callbacks=[backup], **options)
    whole.fit(features(10), classes(10), **options)
    return is_kept, model, whole, history


@claim(f"{BACKUP}::test_best_case_step", f"{BACKUP}::test_best_case_epoch")
@pytest.mark.parametrize(
    ("save_freq", "interruption"), [(1, {"step": 1}), (1, {"step": 4}), ("epoch", {"epoch": 1}), ("epoch", {"step": 4})]
)
def test_a_run_that_was_interrupted_goes_on(tmp_path, save_freq, interruption):
    is_kept, model, whole, history = backed_up(tmp_path / "subdir", save_freq, interrupting(**interruption))
    assert is_kept is (save_freq == 1 or "epoch" in interruption or interruption["step"] > 2)
    assert history.epoch[-1] == 4
    assert model.optimizer.iterations == 15
    for one, other in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@claim(f"{BACKUP}::test_backup_corrupted")
def test_a_backup_that_is_damaged_leaves_the_one_before(tmp_path):
    directory = tmp_path / "subdir"

    def damage():
        assert len(list(directory.iterdir())) == 2
        (directory / "latest.safetensors").write_text("0", encoding="utf-8")

    _, model, whole, history = backed_up(directory, "epoch", interrupting(step=7), damage, double_checkpoint=True)
    assert history.epoch[-1] == 4
    for one, other in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@claim(f"{BACKUP}::test_best_case_step", f"{BACKUP}::test_best_case_epoch")
@pytest.mark.parametrize(("save_freq", "interruption"), [(1, {"step": 1}), ("epoch", {"epoch": 1})])
def test_the_same_model_goes_on_with_the_same_backup(tmp_path, save_freq, interruption):
    """As in Keras's tests, which count the batches that a layer has seen."""
    backup, model, steps = callbacks.BackupAndRestore(tmp_path / "subdir", save_freq=save_freq), small_classifier(), []
    count = LambdaCallback(on_train_batch_begin=lambda batch, logs: steps.append(batch))
    with pytest.raises(Interruption):
        model.fit(features(10), classes(10), 4, 6, callbacks=[backup, interrupting(**interruption), count], verbose=0)
    done = len(steps)
    history = model.fit(features(10), classes(10), 4, epochs=5, callbacks=[backup, count], verbose=0)
    assert done == (2 if save_freq == 1 else 6)
    assert len(steps) == 5 * 3
    assert history.epoch[-1] == 4
    assert not (tmp_path / "subdir").exists()


@claim(f"{BACKUP}::test_model_deleted_case_epoch")
def test_a_run_that_ends_leaves_no_backup(tmp_path):
    directory = tmp_path / "subdir"
    fitted(callbacks.BackupAndRestore(directory, save_freq="epoch"), epochs=2)
    assert not directory.exists()


@claim(f"{BACKUP}::test_save_freq_unknown_error")
@pytest.mark.parametrize("save_freq", ["batch", 0.15])
def test_a_backup_has_a_valid_frequency(save_freq):
    with pytest.raises((TypeError, ValueError), match="save_freq"):
        callbacks.BackupAndRestore(backup_dir="backup_dir", save_freq=save_freq)


@claim(f"{BACKUP}::test_backup_dir_empty_error", f"{BACKUP}::test_backup_dir_none_error")
@pytest.mark.parametrize("directory", ["", None])
def test_a_backup_has_a_directory(directory):
    with pytest.raises((TypeError, ValueError), match="backup_dir"):
        callbacks.BackupAndRestore(backup_dir=directory, save_freq="epoch")


@claim(f"{NAN}::test_raise_error_terminate_preserves_backup")
def test_an_error_leaves_the_backup(tmp_path):
    directory = tmp_path / "backups"
    with pytest.raises(Interruption):
        fitted(callbacks.BackupAndRestore(directory), interrupting(epoch=1), epochs=3)
    assert any(directory.iterdir())


# --------------------------------------------------------------------------------------------------------- TensorBoard


def tags(directory, kind="simple_value"):
    """The tags that were written, by the directory of their file."""
    from tensorboardX.proto import event_pb2

    found = {}
    for path in Path(directory).rglob("events.out.*"):
        content, seen = path.read_bytes(), found.setdefault(path.parent.name, set())
        while content:  # a record: its length, a checksum, the event, a checksum
            length = int.from_bytes(content[:8], "little")
            event = event_pb2.Event.FromString(content[12 : 12 + length])
            seen |= {value.tag for value in event.summary.value if value.WhichOneof("value") == kind}
            content = content[16 + length :]
    return found


BARE = {"weighted_metrics": None}  # the loss alone
TRAINED = {"epoch_loss", "epoch_learning_rate"}
EVALUATED = {"validation": {"epoch_loss", "evaluation_loss_vs_iterations"}}


@claim(f"{BOARD}::test_TensorBoard_basic", f"{BOARD}::test_TensorBoard_across_invocations")
@pytest.mark.parametrize("fits", [1, 2])
def test_losses_and_rates_are_written(tmp_path, fits):
    pytest.importorskip("tensorboardX")
    board = callbacks.TensorBoard(tmp_path / "tb")
    for _ in range(fits):
        fitted(board, epochs=2, compiled=BARE)
    assert tags(tmp_path) == {"train": TRAINED, **EVALUATED}


@claim(f"{BOARD}::test_TensorBoard_batch_metrics")
def test_the_losses_of_batches_are_written(tmp_path):
    pytest.importorskip("tensorboardX")
    fitted(callbacks.TensorBoard(tmp_path / "tb", update_freq=1), epochs=2, compiled=BARE)
    assert tags(tmp_path) == {"train": {"batch_loss", *TRAINED}, **EVALUATED}


@claim(f"{BOARD}::test_TensorBoard_learning_rate_schedules", f"{BOARD}::test_TensorBoard_no_spurious_event_files")
def test_the_rate_of_a_schedule_is_written(tmp_path):
    pytest.importorskip("tensorboardX")
    scheduled = optimizers.Adam(schedules.CosineDecay(0.01, 1))
    fitted(callbacks.TensorBoard(tmp_path / "tb"), epochs=2, compiled=BARE, validation_data=None, optimizer=scheduled)
    assert tags(tmp_path) == {"train": TRAINED}


@claim(f"{BOARD}::test_TensorBoard_global_step")
def test_the_speed_is_written(tmp_path):
    pytest.importorskip("tensorboardX")
    board = callbacks.TensorBoard(tmp_path / "tb", update_freq=1, profile_batch=0, write_steps_per_second=True)
    fitted(board, epochs=2, compiled=BARE, validation_data=None)
    speeds = {"epoch_steps_per_second", "batch_steps_per_second"}
    assert tags(tmp_path) == {"train": {"batch_loss", *TRAINED, *speeds}}


@claim(f"{BOARD}::test_TensorBoard_weight_histograms")
def test_histograms_of_weights_are_written(tmp_path):
    pytest.importorskip("tensorboardX")
    model, _ = fitted(callbacks.TensorBoard(tmp_path / "tb", histogram_freq=1), epochs=2, compiled=BARE)
    assert tags(tmp_path, "histo")["train"] == set(model.backbone.params)


@differs(f"{BOARD}::test_TensorBoard_weight_images")
@pytest.mark.parametrize(
    "argument", [{"write_images": True}, {"embeddings_freq": 1}, {"profile_batch": 1}, {"embeddings_metadata": {}}]
)
def test_what_is_not_written_is_refused(argument):
    with pytest.raises(ValueError, match=next(iter(argument))):
        callbacks.TensorBoard("x", **argument)


# ------------------------------------------------------------------------------------------------------ SwapEMAWeights


def averaging():
    return optimizers.Adam(0.1, use_ema=True, ema_momentum=0.9)


@claim(f"{SWAP}::test_swap_ema_weights_with_invalid_optimizer")
def test_an_average_that_is_not_kept_is_asked_for():
    with pytest.raises(ValueError, match="use_ema=True"):
        fitted(callbacks.SwapEMAWeights(), epochs=2)


@claim(f"{SWAP}::test_swap_ema_weights")
@pytest.mark.parametrize("is_swapped", [False, True])
def test_the_last_evaluation_is_that_of_the_average(is_swapped):
    some = [callbacks.SwapEMAWeights()] if is_swapped else []
    model, history = fitted(*some, epochs=2, optimizer=averaging())
    loss, _ = model.evaluate(features(6, seed=5), classes(6, seed=6), verbose=0)
    assert (history.history["val_loss"][-1] == pytest.approx(loss, rel=1e-6)) is is_swapped


@claim(f"{SWAP}::test_swap_ema_weights")
def test_training_goes_on_from_the_weights_themselves():
    seen = []
    for some in ([], [callbacks.SwapEMAWeights(swap_on_epoch=True)]):
        model, history = fitted(*some, epochs=3, optimizer=averaging())
        seen.append((history.history["loss"], model.get_weights()))
    assert seen[0][0] == seen[1][0]
    for one, other in zip(seen[0][1], seen[1][1], strict=True):
        np.testing.assert_array_equal(one, other)


@claim(f"{SWAP}::test_swap_ema_weights_on_epoch")
def test_a_checkpoint_is_of_the_average(tmp_path):
    from pyroberta import TextClassifier

    some = [callbacks.SwapEMAWeights(swap_on_epoch=True), ModelCheckpoint(tmp_path / "{epoch}", save_weights_only=True)]
    model, _ = fitted(*some, epochs=2, optimizer=averaging())
    again = TextClassifier.from_preset(tmp_path / "2", preprocessor=None)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


# ------------------------------------------------------------------------------------------------ hooks, lists, history


@claim(f"{BASE}::test_model_state_is_current_on_epoch_end")
def test_a_hook_sees_the_model_after_its_batch():
    seen = []
    model = small_classifier()
    note = LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append((batch, model.optimizer.iterations)))
    model.fit(features(8), classes(8), callbacks=[note], batch_size=2, verbose=0)
    assert seen == [(0, 1), (1, 2), (2, 3), (3, 4)]


@claim(f"{BASE}::test_model_state_is_current_on_epoch_end")
def test_on_batch_end_is_on_train_batch_end():
    seen = []

    class Old(Callback):
        def on_batch_end(self, batch, logs=None):
            seen.append(batch)

    fitted(Old())
    assert seen == [0, 1]


class Tracking(Callback):
    """Notes every call of a hook, with what it was given."""

    def __init__(self):
        super().__init__()
        self.calls = []
        for hook in HOOKS:
            setattr(self, hook, self.noting(hook))

    def noting(self, hook):
        return lambda *given, **named: self.calls.append((hook, *given, *named.values()))


LIFE = {
    "train": ["on_train_begin", "on_epoch_begin", "on_train_batch_begin", "on_train_batch_end", "on_epoch_end"],
    "test": ["on_test_begin", "on_test_batch_begin", "on_test_batch_end", "on_test_end"],
    "predict": ["on_predict_begin", "on_predict_batch_begin", "on_predict_batch_end", "on_predict_end"],
}
HOOKS = [hook for hooks in LIFE.values() for hook in hooks] + ["on_train_end"]


@claim(*(f"{LIST}::CallbackListTest::test_on_{kind}_lifecycle" for kind in LIFE))
@pytest.mark.parametrize("kind", LIFE)
def test_a_list_calls_each_callback_in_its_place(kind):
    both = [Tracking(), Tracking()]
    some = CallbackList(both)
    for hook in LIFE[kind]:
        number = [0] if "epoch" in hook or "batch" in hook else []
        getattr(some, hook)(*number, logs={"loss": 0.5})
    for callback in both:
        assert [call[0] for call in callback.calls] == LIFE[kind]
        assert all(call[-1] == {"loss": 0.5} for call in callback.calls)


@claim(f"{LIST}::CallbackListTest::test_empty_callback_list", f"{LIST}::CallbackListTest::test_callback_list_from_list")
@pytest.mark.parametrize("count", [0, 2])
def test_a_list_holds_its_callbacks(count):
    some = [Tracking() for _ in range(count)]
    assert CallbackList(some).callbacks == some


@claim(f"{LIST}::CallbackListTest::test_set_params_propagates")
def test_a_list_hands_params_on():
    callback = Tracking()
    CallbackList([callback]).set_params({"epochs": 10, "steps": 100, "verbose": 1})
    assert callback.params == {"epochs": 10, "steps": 100, "verbose": 1}


@claim(f"{LIST}::CallbackListTest::test_set_model_propagates")
def test_a_list_hands_its_model_on():
    callback, model = Tracking(), Model()
    CallbackList([callback]).set_model(model)
    assert callback.model is model


@claim(f"{LIST}::CallbackListAdvancedTest::test_callback_order_preserved")
def test_callbacks_are_called_in_their_order():
    order = []
    some = [LambdaCallback(on_epoch_begin=lambda epoch, logs, i=i: order.append(i)) for i in range(3)]
    fitted(*some)
    assert order == [0, 1, 2]


@claim(f"{LIST}::CallbackListAdvancedTest::test_epoch_index_passed_correctly")
def test_epochs_are_numbered_from_the_first_that_was_given():
    seen = []
    fitted(LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append((epoch, logs))), epochs=9, initial_epoch=7)
    assert seen == [(7, {}), (8, {})]


@claim(f"{LIST}::CallbackListAdvancedTest::test_logs_pythonified_numpy_to_float")
def test_logs_are_pythons_floats():
    seen = []
    fitted(LambdaCallback(on_epoch_end=lambda epoch, logs: seen.extend(logs.values())))
    assert {type(value) for value in seen} == {float}


@claim(f"{LIST}::HistoryCallbackTest::test_on_epoch_end_records_logs")
def test_a_history_has_the_logs_of_every_epoch():
    history = History()
    history.on_train_begin()
    for epoch, loss in enumerate([0.5, 0.3, 0.1]):
        history.on_epoch_end(epoch, {"loss": loss, "accuracy": 1 - loss})
    assert history.epoch == [0, 1, 2]
    assert history.history == {"loss": [0.5, 0.3, 0.1], "accuracy": [0.5, 0.7, 0.9]}


@claim(f"{LIST}::HistoryCallbackTest::test_history_incremental_updates")
def test_a_history_takes_a_value_that_comes_later():
    history = History()
    history.on_train_begin()
    history.on_epoch_end(0, {"loss": 0.5})
    history.on_epoch_end(1, {"loss": 0.3, "val_loss": 0.4})
    assert history.history == {"loss": [0.5, 0.3], "val_loss": [0.4]}


@claim(f"{LIST}::HistoryCallbackTest::test_on_epoch_end_sets_model_history")
def test_a_model_has_the_history_of_its_last_fit():
    model, history = fitted()
    assert model.history is history
