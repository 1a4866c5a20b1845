"""A state that is taken anywhere in a `fit` goes on from there, bit for bit."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import math
import pickle
import signal
import warnings
from itertools import cycle

import numpy as np
import pytest
from resuming import MANY, WAYS, Keeping, fresh, same
from small_models import TEXTS, small_masked_lm

from pyroberta import MaskedLM, TextClassifier, TextClassifierPreprocessor, callbacks, metrics, optimizers
from pyroberta.training import checkpoint
from pyroberta.training.state import TrainState

UPDATES = (1, 3, 5, 6, 9, 10)


@functools.cache
def trained(way: str) -> tuple[MaskedLM, callbacks.History, dict[int, TrainState]]:
    """A model that was fitted without a break, its history, and the states after some updates."""
    keeping, model = Keeping(*UPDATES), fresh()
    return model, model.fit(MANY, callbacks=[keeping], verbose=0, **WAYS[way]), keeping.states


@pytest.mark.parametrize("updates", UPDATES)
@pytest.mark.parametrize("way", WAYS)
def test_a_state_taken_after_any_update_goes_on_bit_for_bit(way: str, updates: int):
    straight, expected, states = trained(way)
    assert isinstance(states[updates], TrainState)
    resumed = fresh()
    resumed.load_train_state(copy.deepcopy(states[updates]))
    found = resumed.fit(MANY, callbacks=[Keeping()], verbose=0, **WAYS[way])
    assert same(resumed, straight)
    assert found.history == expected.history
    assert found.epoch == expected.epoch


@pytest.mark.parametrize("way", WAYS)
def test_so_does_a_state_taken_at_an_epochs_end(way: str):
    keeping = Keeping(epoch=1)
    straight, resumed = fresh(), fresh()
    expected = straight.fit(MANY, callbacks=[keeping], verbose=0, **WAYS[way])
    resumed.load_train_state(keeping.kept)
    found = resumed.fit(MANY, callbacks=[Keeping()], verbose=0, **WAYS[way])
    assert same(resumed, straight)
    assert found.history == expected.history


@pytest.mark.parametrize("updates", [2, 4, 7])
def test_so_does_one_of_a_stream(updates: int):
    keeping, straight, resumed = Keeping(updates), fresh(), fresh()
    options = {"batch_size": 4, "steps_per_epoch": 3, "epochs": 3, "verbose": 0}
    expected = straight.fit(cycle(MANY), callbacks=[keeping], **options)
    resumed.load_train_state(keeping.kept)
    found = resumed.fit(cycle(MANY), callbacks=[Keeping()], **options)
    assert same(resumed, straight)
    assert found.history == expected.history


def test_so_does_one_of_an_iterable_of_batches():
    class Batches:
        def __iter__(self):
            return iter([[text] for text in MANY])

    batches = Batches()
    keeping, straight, resumed = Keeping(25), fresh(), fresh()
    expected = straight.fit(batches, epochs=3, callbacks=[keeping], verbose=0)
    resumed.load_train_state(keeping.kept)
    found = resumed.fit(batches, epochs=3, callbacks=[Keeping()], verbose=0)
    assert same(resumed, straight)
    assert found.history == expected.history


def test_so_does_one_with_lora_of_a_classifier():
    def made():
        base = small_masked_lm(dropout=0.2, backend="numpy")
        preprocessor = TextClassifierPreprocessor(base.preprocessor.tokenizer, 40)
        model = TextClassifier(base.backbone, 3, preprocessor, seed=3)
        model.backbone.enable_lora(2, train_head=True)
        model.compile("adamw")
        return model

    labels = [i % 3 for i in range(len(MANY))]
    keeping, straight, resumed = Keeping(4), made(), made()
    expected = straight.fit(MANY, labels, batch_size=6, epochs=2, callbacks=[keeping], verbose=0)
    resumed.load_train_state(keeping.kept)
    found = resumed.fit(MANY, labels, batch_size=6, epochs=2, callbacks=[Keeping()], verbose=0)
    assert same(resumed, straight)
    assert found.history == expected.history


def test_callbacks_go_on_where_they_were(tmp_path):
    """One that would stop early, one that has seen a best value, one that has written rows."""

    def some(name: str):
        return [
            callbacks.EarlyStopping("loss", min_delta=10.0, patience=3, restore_best_weights=True),
            callbacks.ModelCheckpoint(tmp_path / name, monitor="loss", save_best_only=True),
            callbacks.CSVLogger(tmp_path / f"{name}.csv"),
        ]

    keeping, straight, resumed = Keeping(12), fresh(), fresh()
    first, again = some("straight"), some("resumed")
    straight.fit(MANY, batch_size=4, epochs=9, callbacks=[*first, keeping], verbose=0)
    resumed.load_train_state(keeping.kept)
    resumed.fit(MANY, batch_size=4, epochs=9, callbacks=[*again, Keeping()], verbose=0)
    assert 0 < first[0].stopped_epoch == again[0].stopped_epoch
    assert same(resumed, straight)
    assert again[1].best == first[1].best
    assert (tmp_path / "resumed.csv").read_text() == (tmp_path / "straight.csv").read_text()


def test_two_calls_of_fit_make_passes_of_their_own():
    keeping, straight, resumed = Keeping(7), fresh(), fresh()
    straight.fit(MANY, batch_size=4, verbose=0)
    straight.fit(MANY, batch_size=4, callbacks=[keeping], verbose=0)
    assert keeping.kept.data_pass == 1
    resumed.load_train_state(keeping.kept)
    resumed.fit(MANY, batch_size=4, callbacks=[Keeping()], verbose=0)
    assert same(resumed, straight)


def test_a_learning_rate_that_was_set_goes_along():
    keeping, straight, resumed = Keeping(6), fresh(), fresh()
    straight.optimizer.learning_rate = 0.02
    straight.fit(MANY, batch_size=4, epochs=2, callbacks=[keeping], verbose=0)
    resumed.load_train_state(keeping.kept)
    assert resumed.optimizer.learning_rate == 0.02
    resumed.fit(MANY, batch_size=4, epochs=2, callbacks=[Keeping()], verbose=0)
    assert same(resumed, straight)


def test_a_fit_that_was_stopped_in_the_midst_of_an_epoch_can_go_on():
    stop = callbacks.LambdaCallback(on_train_batch_end=lambda step, _: setattr(stopped, "stop_training", step == 2))
    straight, stopped, resumed = fresh(), fresh(), fresh()
    straight.fit(MANY, batch_size=4, epochs=2, verbose=0)
    stopped.fit(MANY, batch_size=4, epochs=2, callbacks=[stop], verbose=0)
    state = stopped.train_state()
    assert (state.epoch, state.step, state.position) == (0, 3, 12)
    resumed.load_train_state(copy.deepcopy(state))
    history = resumed.fit(MANY, batch_size=4, epochs=2, callbacks=[callbacks.LambdaCallback()], verbose=0)
    assert same(resumed, straight)
    assert history.epoch == [0, 1]


def test_gradients_are_those_of_one_large_batch_with_masks_and_dropout():
    """The masks follow from the example and dropout from its number in the update: the parts agree with the whole."""
    models = [small_masked_lm(seed=7, dtype="float64", dropout=0.2, backend="numpy") for _ in range(2)]
    for model, batch_size, parts in zip(models, (8, 2), (1, 4), strict=True):
        model.compile(optimizers.AdamW(1e-2, epsilon=1e-3))
        model.fit(MANY, batch_size=batch_size, gradient_accumulation_steps=parts, epochs=2, verbose=0)
    np.testing.assert_allclose(models[0].params.flat, models[1].params.flat, rtol=0, atol=1e-12)


def test_what_does_not_fit_the_state_is_refused_and_changes_nothing():
    keeping, model = Keeping(2), fresh()
    model.fit(MANY, batch_size=4, callbacks=[keeping], verbose=0)
    other = small_masked_lm(hidden_dim=4)
    before = other.params.flat.copy()
    with pytest.raises(ValueError, match="the state belongs to parameters of other names or shapes"):
        other.load_train_state(keeping.kept)
    assert np.array_equal(other.params.flat, before)
    with pytest.raises(ValueError, match="no state of training before the first update"):
        other.train_state()
    resumed = fresh()
    resumed.load_train_state(keeping.kept)
    with pytest.raises(ValueError, match="initial_epoch is 3, but the loaded state continues with epoch 0"):
        resumed.fit(MANY, batch_size=4, initial_epoch=3, epochs=5, callbacks=[Keeping()], verbose=0)


def test_a_metric_of_ones_own_goes_on_too():
    class Tokens(metrics.Metric):
        name = "tokens_seen"

        def update(self, losses, predicted, labels, weights, denominator):
            self.numerator += len(losses)
            self.denominator = 1.0

    keeping = Keeping(3)
    straight, resumed = (fresh(weighted_metrics=[Tokens()]) for _ in range(2))
    expected = straight.fit(MANY, batch_size=4, callbacks=[keeping], verbose=0).history
    resumed.load_train_state(keeping.kept)
    assert resumed.fit(MANY, batch_size=4, callbacks=[Keeping()], verbose=0).history == expected


def test_a_pickled_model_holds_each_vector_once():
    model = fresh()
    before = len(pickle.dumps(model))
    model.fit(MANY, batch_size=4, verbose=0)
    vector = model.params.flat.nbytes
    assert before + 1.9 * vector < len(pickle.dumps(model)) < before + 2.5 * vector  # the two moments
    again = pickle.loads(pickle.dumps(model))
    for one in (model, again):
        one.fit(MANY, batch_size=4, verbose=0)
    assert same(again, model)


def test_later_epochs_over_fewer_examples_begin_another_pass():
    model = fresh()
    model.fit(MANY, batch_size=4, steps_per_epoch=4, epochs=1, verbose=0)
    model.fit(TEXTS, batch_size=4, steps_per_epoch=2, initial_epoch=1, epochs=3, verbose=0)
    state = model.train_state()
    assert (state.data_pass, state.position) == (3, 0)


# --- what hooks do ----------------------------------------------------------------------------------------------------


def hooked(**hooks) -> callbacks.LambdaCallback:
    return callbacks.LambdaCallback(**hooks)


@pytest.mark.parametrize(
    "hook", ["on_train_begin", "on_epoch_begin", "on_train_batch_end", "on_test_begin", "on_epoch_end"]
)
@pytest.mark.parametrize("way", ["passes", "steps"])
def test_an_update_of_ones_own_in_a_hook_is_no_step_of_the_epoch(hook: str, way: str):
    model, steps = fresh(), []
    callback = hooked(
        **{hook: lambda *args: model.train_on_batch(["A dog."])} if hook != "on_train_batch_end" else {},
        on_train_batch_begin=lambda step, logs: steps.append(step),
    )
    if hook == "on_train_batch_end":
        callback = hooked(
            on_train_batch_end=lambda step, logs: (steps.append(step), model.train_on_batch(["A dog."]))[0]
        )
    history = model.fit(MANY, validation_data=TEXTS, callbacks=[callback], verbose=0, **WAYS[way]).history
    per_epoch = 5 if way == "passes" else 3
    assert steps == list(range(per_epoch)) * WAYS[way]["epochs"]
    assert all(loss > 1.0 for loss in history["loss"])


def test_an_update_between_two_fits_is_no_step_of_an_epoch():
    straight = fresh()
    straight.fit(MANY, batch_size=4, verbose=0)
    straight.train_on_batch(["A dog."])
    resumed = fresh()
    resumed.load_train_state(copy.deepcopy(straight.train_state()))
    history = resumed.fit(MANY, batch_size=4, epochs=3, callbacks=[], verbose=0)
    assert history.epoch == [1, 2]
    assert min(history.history["loss"]) > 1.0


def test_compiling_within_a_fit_keeps_its_place():
    model, steps = fresh(), []

    def compiled(step, logs):
        steps.append(step)
        if len(steps) == 3:
            model.compile(optimizers.Adam(1e-3))

    history = model.fit(MANY, batch_size=4, epochs=3, callbacks=[hooked(on_train_batch_end=compiled)], verbose=0)
    assert steps == [0, 1, 2, 3, 4] * 3
    assert history.epoch == [0, 1, 2]
    assert model.train_state().data_pass == 3
    still = fresh(optimizer=optimizers.Adam(0.0))
    anew = hooked(on_epoch_end=lambda epoch, logs: still.compile(optimizers.Adam(0.0)))
    losses = still.fit(MANY, batch_size=4, epochs=4, callbacks=[anew], verbose=0).history["loss"]
    assert len(set(losses)) == 4  # each pass has masks of its own


def test_a_state_is_not_loaded_in_the_midst_of_a_fit_but_at_its_beginning():
    keeping, straight = Keeping(7), fresh()
    expected = straight.fit(MANY, batch_size=4, epochs=3, callbacks=[keeping], verbose=0).history
    model = fresh()
    loading = hooked(on_train_batch_end=lambda step, logs: model.load_train_state(keeping.kept))
    with pytest.raises(RuntimeError, match="a fit is running, and its position in the data can't change"):
        model.fit(MANY, batch_size=4, callbacks=[loading], verbose=0)

    class Resuming(Keeping):
        def on_train_begin(self, logs=None):
            if not self.states:
                self.states = keeping.states
                self.model.load_train_state(self.kept)

    Resuming.__name__ = "Keeping"
    resumed = fresh()
    found = resumed.fit(MANY, batch_size=4, epochs=3, callbacks=[Resuming()], verbose=0)
    assert found.history == expected
    assert same(resumed, straight)


def test_a_resumption_that_is_refused_can_be_tried_again(tmp_path):
    keeping, straight, log = Keeping(7), fresh(), tmp_path / "log.csv"
    expected = straight.fit(
        MANY, batch_size=4, epochs=3, callbacks=[keeping, callbacks.CSVLogger(log)], verbose=0
    ).history
    written = log.read_text()
    resumed = fresh()
    resumed.load_train_state(keeping.kept)
    for options, message in (
        ({"callbacks": [Keeping(), callbacks.CSVLogger(log)], "initial_epoch": 2}, "leave initial_epoch out"),
        (
            {"callbacks": [Keeping(), callbacks.CSVLogger(log)], "steps_per_epoch": 1},
            "pass the same data and arguments",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            resumed.fit(MANY, batch_size=4, epochs=3, verbose=0, **options)
        assert log.read_text() == written
    assert resumed.train_state().callbacks["callbacks"]
    found = resumed.fit(MANY, batch_size=4, epochs=3, callbacks=[Keeping(), callbacks.CSVLogger(log)], verbose=0)
    assert found.history == expected
    assert log.read_text() == written
    assert same(resumed, straight)


class Counting(callbacks.Callback):
    """Keeps the updates that it was told of, and hears of each."""

    def __init__(self):
        super().__init__()
        self.heard, self.count = [], 0

    def on_train_batch_end(self, batch, logs=None):
        self.heard.append(self.model.optimizer.iterations)
        self.count += 1

    def get_state(self):
        return {"count": self.count}

    def set_state(self, state):
        self.count = state["count"]


@pytest.mark.parametrize("updates", [6, 10])
def test_callbacks_without_a_state_may_come_and_go(updates):
    """The parameters and the history are those of a run that never stopped. No hook is called twice or left out."""
    keeping, straight, resumed, heard = Keeping(updates), fresh(), fresh(), []
    expected = straight.fit(
        MANY, batch_size=4, epochs=3, callbacks=[hooked(), keeping, callbacks.TerminateOnNaN()], verbose=0
    )
    resumed.load_train_state(keeping.kept)
    hearing = hooked(on_train_batch_end=lambda step, logs: heard.append(step))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = resumed.fit(MANY, batch_size=4, epochs=3, callbacks=[Keeping(), hearing], verbose=0)
    assert found.history == expected.history
    assert same(resumed, straight)
    assert len(heard) == 15 - updates


@pytest.mark.parametrize("is_before", [True, False])
def test_callbacks_with_a_state_are_found_by_class_and_place(is_before):
    """Two of a class, of which one had heard of the update when the state was taken; in another order than before."""
    keeping, straight = Keeping(6), fresh()
    before = [Counting(), keeping, Counting()]
    straight.fit(MANY, batch_size=4, epochs=2, callbacks=before, verbose=0)
    one, two, resumed = Counting(), Counting(), fresh()
    one.count = two.count = 100
    resumed.load_train_state(keeping.kept)
    after = [Keeping(), one, two] if is_before else [one, two, Keeping()]
    resumed.fit(MANY, batch_size=4, epochs=2, callbacks=after, verbose=0)
    assert (one.count, two.count) == (10, 10)
    assert one.heard == [7, 8, 9, 10]
    assert two.heard == [6, 7, 8, 9, 10]


def test_a_callback_with_a_state_that_is_new_or_missing_is_told_once():
    keeping, straight = Keeping(6), fresh()
    straight.fit(MANY, batch_size=4, epochs=3, callbacks=[Counting(), keeping, Counting()], verbose=0)
    resumed, one, early = fresh(), Counting(), callbacks.EarlyStopping("loss", patience=9)
    resumed.load_train_state(keeping.kept)
    with pytest.warns(UserWarning, match="continues with other callbacks") as warned:
        resumed.fit(MANY, batch_size=4, epochs=3, callbacks=[early, one], verbose=0)
    (message,) = (str(warning.message) for warning in warned)
    assert message == (
        "fit continues with other callbacks than before: EarlyStopping is new and starts without a state, Counting is "
        "missing. With the same callbacks its results have the same bits as those of a run that never stopped"
    )
    assert warned[0].filename == __file__
    assert one.count == 15
    assert early.best == min(resumed.history.history["loss"][1:])
    assert same(resumed, straight)


def test_a_round_that_is_left_to_some_is_left_to_the_same_in_the_next_state():
    """A run continues with other callbacks, and fails before the round is finished; the next one goes on from there."""
    keeping, straight = Keeping(6), fresh()
    straight.fit(MANY, batch_size=4, epochs=2, callbacks=[Counting(), keeping, Counting()], verbose=0)

    class Interrupted(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            raise KeyboardInterrupt

    stopped, resumed = fresh(), fresh()
    stopped.load_train_state(keeping.kept)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(MANY, batch_size=4, epochs=2, callbacks=[Interrupted(), Counting(), Counting()], verbose=0)
    one, two = Counting(), Counting()
    resumed.load_train_state(copy.deepcopy(stopped.train_state()))
    resumed.fit(MANY, batch_size=4, epochs=2, callbacks=[one, two], verbose=0)
    assert (one.heard, two.heard) == ([7, 8, 9, 10], [6, 7, 8, 9, 10])
    assert (one.count, two.count) == (10, 10)
    assert same(resumed, straight)


@pytest.mark.parametrize("first", [True, False], ids=["before the others", "after the others"])
@pytest.mark.parametrize("when", [[8, None], [10, None], [None, 1], [None, 3]])
def test_it_does_not_matter_where_among_the_callbacks_the_state_is_taken(tmp_path, first: bool, when: list):
    def some(folder):
        others = [
            callbacks.EarlyStopping("loss", min_delta=10.0, patience=3, restore_best_weights=True),
            callbacks.CSVLogger(tmp_path / folder / "log.csv"),
            callbacks.ModelCheckpoint(tmp_path / folder / "{batch}", save_freq=3, save_weights_only=True),
        ]
        keeping = Keeping(when[0], epoch=when[1]) if folder == "straight" else Keeping()
        return [keeping, *others] if first else [*others, keeping]

    straight, resumed = fresh(), fresh()
    before, after = some("straight"), some("resumed")
    expected = straight.fit(MANY, batch_size=4, epochs=9, callbacks=before, verbose=0)
    kept = next(one.kept for one in before if isinstance(one, Keeping))
    resumed.load_train_state(kept)
    found = resumed.fit(MANY, batch_size=4, epochs=9, callbacks=after, verbose=0)
    assert found.history == expected.history
    assert found.epoch == expected.epoch
    assert same(resumed, straight)
    assert (tmp_path / "resumed" / "log.csv").read_text() == (tmp_path / "straight" / "log.csv").read_text()
    written = {path.name for path in (tmp_path / "resumed").iterdir() if path.is_dir()}
    assert written <= {path.name for path in (tmp_path / "straight").iterdir() if path.is_dir()}


def test_a_state_within_the_evaluation_of_an_epoch_is_refused():
    model = fresh()
    callback = hooked(on_test_end=lambda logs: model.train_state())
    with pytest.raises(RuntimeError, match="call train_state\\(\\) in on_train_batch_end or on_epoch_end"):
        model.fit(MANY, batch_size=4, validation_data=TEXTS, callbacks=[callback], verbose=0)


@pytest.mark.parametrize("stop", ["interrupt", "error", "stop_training", "in the evaluation"])
def test_what_the_callbacks_kept_is_there_after_a_fit_that_did_not_come_to_its_end(tmp_path, stop: str):
    class Stopping(callbacks.Callback):
        is_first = True

        def on_train_batch_end(self, batch, logs=None):
            if self.is_first and self.model.optimizer.iterations == 12:
                if stop == "interrupt":
                    raise KeyboardInterrupt
                if stop == "error":
                    raise RuntimeError("stop")
                self.model.stop_training = stop == "stop_training"

        def on_test_begin(self, logs=None):
            if self.is_first and stop == "in the evaluation" and self.model.optimizer.iterations == 10:
                raise RuntimeError("stop")

    def some(folder: str, is_first: bool):
        stopping = Stopping()
        stopping.is_first = is_first
        early = callbacks.EarlyStopping("loss", min_delta=10.0, patience=4)
        return [early, callbacks.CSVLogger(tmp_path / folder / "log.csv"), stopping]

    options = {"batch_size": 4, "epochs": 9, "validation_data": TEXTS[:2], "verbose": 0}
    straight, stopped, resumed = fresh(), fresh(), fresh()
    expected = straight.fit(MANY, callbacks=some("a", False), **options)
    with contextlib.suppress(KeyboardInterrupt, RuntimeError):
        stopped.fit(MANY, callbacks=some("b", True), **options)
    resumed.load_train_state(copy.deepcopy(stopped.train_state()))
    found = resumed.fit(MANY, callbacks=some("b", False), **options)
    assert found.history == expected.history
    assert found.epoch == expected.epoch
    assert same(resumed, straight)
    assert (tmp_path / "b" / "log.csv").read_text() == (tmp_path / "a" / "log.csv").read_text()


def interrupt_second_update(model: MaskedLM) -> None:
    """Ctrl-C comes within the second update."""

    def interrupting(name, op):
        def call(*arguments):
            if name == "adam_step" and model.optimizer.iterations == 1:
                signal.raise_signal(signal.SIGINT)
            return op(*arguments)

        return call

    model.backbone.ops = model.backbone.ops.wrapped(interrupting)


def test_an_interrupt_within_an_update_loses_no_figure():
    straight, stopped, resumed = fresh(), fresh(), fresh()
    expected = straight.fit(MANY, batch_size=18, epochs=4, verbose=0).history
    interrupt_second_update(stopped)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(MANY, batch_size=18, epochs=4, verbose=0)
    assert stopped.optimizer.iterations == 2
    resumed.load_train_state(copy.deepcopy(stopped.train_state()))
    found = resumed.fit(MANY, batch_size=18, epochs=4, verbose=0).history
    assert found["loss"] == expected["loss"]
    assert same(resumed, straight)


def test_an_optimizer_without_slots_counts_its_updates():
    class Plain(optimizers.Optimizer):
        def update_range(self, ops, rate, step, params, grads, slots, scale, decay, is_finite):
            if is_finite:
                params -= rate * scale * grads

    model = fresh(optimizer=Plain(0.1))
    model.fit(MANY, batch_size=4, epochs=2, verbose=0)
    assert model.optimizer.iterations == 10
    again = fresh(optimizer=Plain(0.1))
    again.load_train_state(copy.deepcopy(model.train_state()))
    for one in (model, again):
        one.fit(MANY, batch_size=4, initial_epoch=2, epochs=3, verbose=0)
    assert same(again, model)


def test_a_schedule_that_gives_no_number_changes_nothing():
    model = fresh(optimizer=optimizers.Adam(lambda step: math.nan))
    before = model.params.flat.copy()
    with pytest.raises(ValueError, match="the schedule's learning rate after 0 updates must be a number >= 0, got nan"):
        model.fit(MANY, batch_size=4, verbose=0)
    assert np.array_equal(model.params.flat, before)


# --- what does not go together ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": MANY[:-1]}, "had examples 18, but this one has 17: pass the same data and arguments"),
        ({"batch_size": 3}, "had batch_size 4, but this one has 3"),
        ({"gradient_accumulation_steps": 2}, "had gradient_accumulation_steps 1, but this one has 2"),
        ({"shuffle": False}, "had shuffle True, but this one has False"),
        ({"steps_per_epoch": 2}, "had steps_per_epoch None, but this one has 2"),
    ],
)
def test_a_fit_with_other_data_or_arguments_does_not_go_on(change: dict, message: str):
    keeping, model = Keeping(7), fresh()
    options = {"x": MANY, "batch_size": 4, "epochs": 3, "verbose": 0}
    model.fit(callbacks=[keeping], **options)
    resumed = fresh()
    resumed.load_train_state(keeping.kept)
    before = resumed.params.flat.copy()
    with pytest.raises(ValueError, match=message):
        resumed.fit(callbacks=[Keeping()], **options | change)
    assert np.array_equal(resumed.params.flat, before)
    resumed.fit(callbacks=[Keeping()], **options)
    assert same(resumed, model)


def test_a_state_of_another_optimizer_or_one_that_compile_would_drop_is_an_error():
    keeping = Keeping(3)
    fresh().fit(MANY, batch_size=4, callbacks=[keeping], verbose=0)
    other = fresh(optimizer=optimizers.Adam())
    with pytest.raises(
        ValueError, match="the state belongs to the optimizer AdamW, but this model was compiled with Adam"
    ):
        other.load_train_state(keeping.kept)
    model = fresh()
    model.load_train_state(keeping.kept)
    with pytest.raises(ValueError, match="compile first, then load the state"):
        model.compile(optimizers.AdamW())
    assert model.fit(MANY, batch_size=4, callbacks=[Keeping()], verbose=0).epoch == [0]


def test_a_rate_that_no_state_can_keep_is_said():
    keeping, model = Keeping(3), fresh(optimizer=optimizers.AdamW(lambda step: 0.01))
    model.fit(MANY, batch_size=4, callbacks=[keeping], verbose=0)
    assert keeping.kept.learning_rate is None
    resumed = fresh(optimizer=optimizers.AdamW(lambda step: 0.01))
    resumed.load_train_state(keeping.kept)
    with pytest.warns(
        UserWarning,
        match="was a function, which a state can't keep. Training continues with this model's own rate, 0.001",
    ):
        fresh(optimizer=optimizers.AdamW()).load_train_state(keeping.kept)


def test_an_epoch_that_goes_on_is_shown_with_all_its_steps(capsys: pytest.CaptureFixture[str]):
    keeping = Keeping(3)
    fresh().fit(MANY, batch_size=4, callbacks=[keeping], verbose=0)
    resumed = fresh()
    resumed.load_train_state(keeping.kept)
    resumed.fit(MANY, batch_size=4, callbacks=[Keeping()], verbose=2)
    assert "5/5 steps" in capsys.readouterr().err


# --- states at the edges of a run -------------------------------------------------------------------------------------


class Stopping(callbacks.Callback):
    """Ends the run in one hook, at one number of it."""

    def __init__(self, hook: str | None = None, number: int | None = None) -> None:
        super().__init__()
        if hook is not None:
            setattr(self, hook, lambda at, logs=None: setattr(self.model, "stop_training", at == number))


@pytest.mark.parametrize(
    ("hook", "number"), [("on_epoch_begin", 1), ("on_train_batch_begin", 2), ("on_train_batch_end", 4)]
)
def test_a_run_that_a_hook_ended_goes_on_with_its_callbacks(tmp_path, hook: str, number: int):
    """In an epoch's beginning, within it and after its last step."""

    def some(name: str, *stop):
        early = callbacks.EarlyStopping("loss", min_delta=10.0, patience=5)
        return [early, callbacks.CSVLogger(tmp_path / name), Stopping(*stop)]

    options = {"batch_size": 4, "epochs": 4, "verbose": 0}
    straight, stopped, resumed = fresh(), fresh(), fresh()
    expected = straight.fit(MANY, callbacks=some("straight"), **options)
    stopped.fit(MANY, callbacks=some("resumed", hook, number), **options)
    assert stopped.optimizer.iterations < straight.optimizer.iterations
    resumed.load_train_state(copy.deepcopy(stopped.train_state()))
    found = resumed.fit(MANY, callbacks=some("resumed"), **options)
    assert found.history == expected.history
    assert (tmp_path / "resumed").read_text() == (tmp_path / "straight").read_text()
    assert same(resumed, straight)


def test_a_state_from_the_beginning_of_a_second_fit_is_that_of_the_second():
    model, kept = fresh(), []
    model.fit(MANY, batch_size=4, epochs=2, verbose=0)
    taking = hooked(on_train_begin=lambda logs: kept.append(copy.deepcopy(model.train_state())))
    expected = model.fit(MANY, batch_size=4, epochs=2, callbacks=[taking], verbose=0)
    resumed = fresh()
    resumed.load_train_state(kept[0])
    found = resumed.fit(MANY, batch_size=4, epochs=2, callbacks=[hooked()], verbose=0)
    assert (found.epoch, found.history) == (expected.epoch, expected.history)
    assert same(resumed, model)


def test_a_state_between_loading_and_the_fit_is_the_one_that_was_loaded():
    keeping, straight = Keeping(7), fresh()
    expected = straight.fit(MANY, batch_size=4, epochs=3, callbacks=[keeping], verbose=0)
    resumed, states = fresh(), []
    resumed.load_train_state(keeping.kept)
    states.append(copy.deepcopy(resumed.train_state()))

    class Keeping_(Keeping):
        def on_train_begin(self, logs=None):
            states.append(copy.deepcopy(self.model.train_state()))

    Keeping_.__name__ = "Keeping"
    resumed.fit(MANY, batch_size=4, epochs=3, callbacks=[Keeping_()], verbose=0)
    for state in states:
        again = fresh()
        again.load_train_state(state)
        assert again.fit(MANY, batch_size=4, epochs=3, callbacks=[Keeping()], verbose=0).history == expected.history
        assert same(again, straight)


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_epoch_end"])
def test_a_callback_that_failed_is_called_again_and_those_before_it_are_not(hook: str):
    """Each writes down what it heard, first of all; the second one fails at its seventh call, or its second epoch."""
    heard: dict[str, list[int]] = {name: [] for name in "abc"}
    fails = {"b": 7 if hook == "on_train_batch_end" else 2}

    def hearing(name: str):
        def hear(number, logs):
            fails[name] = fails.get(name, 0) - 1
            if fails[name] == 0:
                raise OSError("the disk is full")
            heard[name].append(number)

        return hooked(**{hook: hear})

    model, resumed = fresh(), fresh()
    with pytest.raises(OSError, match="the disk is full"):
        model.fit(MANY, batch_size=4, epochs=3, callbacks=[hearing(name) for name in "abc"], verbose=0)
    assert (len(heard["a"]), len(heard["b"]), len(heard["c"])) == ((7, 6, 6) if "batch" in hook else (2, 1, 1))
    resumed.load_train_state(copy.deepcopy(model.train_state()))
    resumed.fit(MANY, batch_size=4, epochs=3, callbacks=[hearing(name) for name in "abc"], verbose=0)
    assert heard["a"] == heard["b"] == heard["c"] == ([0, 1, 2, 3, 4] * 3 if "batch" in hook else [0, 1, 2])


def test_the_decision_to_stop_outlives_a_callback_that_fails_after_it():
    class Failing(callbacks.Callback):
        def __init__(self, fails: bool) -> None:
            super().__init__()
            self.fails = fails

        def on_epoch_end(self, epoch, logs=None):
            if self.fails and epoch == 1:
                raise OSError("the disk is full")

    def stopping():
        return hooked(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", epoch == 1))

    model = fresh()
    with pytest.raises(OSError, match="the disk is full"):
        model.fit(MANY, batch_size=4, epochs=4, callbacks=[stopping(), Failing(True)], verbose=0)
    state = copy.deepcopy(model.train_state())
    assert state.stop_training
    model = fresh()
    model.load_train_state(state)
    assert model.fit(MANY, batch_size=4, epochs=4, callbacks=[stopping(), Failing(False)], verbose=0).epoch == [0, 1]


def test_a_step_that_an_interrupt_cut_off_from_its_callbacks_is_told_to_them():
    """The second update is made, and the first callback that hears of a step hears of it in the next run."""
    stopped, resumed, heard = fresh(), fresh(), []
    hearing = hooked(on_train_batch_end=lambda step, logs: heard.append((step, logs["loss"])))
    interrupt_second_update(stopped)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(MANY, batch_size=4, epochs=1, callbacks=[hearing], verbose=0)
    assert [step for step, _ in heard] == [0]
    resumed.load_train_state(copy.deepcopy(stopped.train_state()))
    resumed.fit(MANY, batch_size=4, epochs=1, callbacks=[hearing], verbose=0)
    cut, heard = heard, []
    fresh().fit(MANY, batch_size=4, epochs=1, callbacks=[hearing], verbose=0)
    assert [step for step, _ in cut] == [0, 1, 2, 3, 4]
    assert cut == heard


def test_a_run_that_fails_before_it_has_finished_a_round_leaves_the_round_to_the_next():
    keeping, straight, ends = Keeping(7), fresh(), []
    after = hooked(on_train_batch_end=lambda step, logs: ends.append(step))
    straight.fit(MANY, batch_size=4, epochs=3, callbacks=[keeping, after], verbose=0)

    class Interrupted(Keeping):
        def on_epoch_begin(self, epoch, logs=None):
            raise KeyboardInterrupt

    Interrupted.__name__ = "Keeping"
    stopped, resumed = fresh(), fresh()
    stopped.load_train_state(keeping.kept)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(MANY, batch_size=4, epochs=3, callbacks=[Interrupted(), after], verbose=0)
    state = copy.deepcopy(stopped.train_state())
    assert state.callbacks["round"] == keeping.kept.callbacks["round"]
    expected, ends[:] = ends[6:], []
    resumed.load_train_state(state)
    resumed.fit(MANY, batch_size=4, epochs=3, callbacks=[Keeping(), after], verbose=0)
    assert ends == expected


def test_a_list_of_callbacks_in_a_list_is_the_same_as_its_callbacks():
    one, other = callbacks.History(), callbacks.History()
    assert callbacks.CallbackList([callbacks.CallbackList([one]), other]).callbacks == [one, other]


def test_what_a_run_does_is_not_seen_in_the_state_that_it_was_loaded_from():
    keeping, model = Keeping(7), fresh()
    fresh_callbacks = [callbacks.EarlyStopping("loss", min_delta=10.0, patience=9)]
    model.fit(MANY, batch_size=4, epochs=3, callbacks=[keeping, *fresh_callbacks], verbose=0)
    before = copy.deepcopy(keeping.kept)
    resumed = fresh()
    resumed.load_train_state(keeping.kept)
    resumed.fit(MANY, batch_size=4, epochs=3, callbacks=[Keeping(), copy.deepcopy(fresh_callbacks[0])], verbose=0)
    for name in ("step", "epoch", "metrics", "callbacks", "feed"):
        assert getattr(keeping.kept, name) == getattr(before, name)
    assert np.array_equal(keeping.kept.params.flat, before.params.flat)


def test_no_epochs_are_left_to_go_on_with():
    keeping, straight = Keeping(epoch=1), fresh()
    straight.fit(MANY, batch_size=4, epochs=3, callbacks=[keeping], verbose=0)
    resumed = fresh()
    resumed.load_train_state(keeping.kept)
    epochs = keeping.kept.epoch
    with pytest.raises(ValueError, match=f"epochs is {epochs}, but the loaded state has finished {epochs} epochs"):
        resumed.fit(MANY, batch_size=4, epochs=epochs, callbacks=[Keeping()], verbose=0)
    resumed.fit(MANY, batch_size=4, epochs=3, callbacks=[Keeping()], verbose=0)
    assert same(resumed, straight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": -1}, "the state's epoch should be a whole number from 0 to"),
        ({"position": 1.5}, "the state's position should be a whole number"),
        ({"step": 1 << 44}, "the state's step should be a whole number"),
        ({"metrics": {"loss": (1.0,)}}, "the state's metric 'loss' should be two numbers"),
        ({"callbacks": None}, "the state's callbacks is None, which training can't give"),
        ({"params": None}, "params and slots should be Arrays"),
    ],
)
def test_a_state_that_no_training_gives_is_refused_and_not_written(tmp_path, change: dict, message: str):
    keeping = Keeping(3)
    fresh().fit(MANY, batch_size=4, callbacks=[keeping], verbose=0)
    state, model = dataclasses.replace(keeping.kept, **change), fresh()
    before = model.params.flat.copy()
    with pytest.raises(ValueError, match=message):
        model.load_train_state(state)
    assert np.array_equal(model.params.flat, before)
    assert model.optimizer.iterations == 0
    with pytest.raises(ValueError, match=message):
        checkpoint.save(tmp_path / "state", state)
    assert not list(tmp_path.iterdir())
