"""A state that is taken anywhere in a `fit` goes on from there, bit for bit."""

from __future__ import annotations

import copy
import pickle
from itertools import cycle

import numpy as np
import pytest
from small_models import TEXTS, small_masked_lm

from pyroberta import MaskedLM, TextClassifier, TextClassifierPreprocessor, callbacks, metrics, optimizers
from pyroberta.training import schedules
from pyroberta.training.state import TrainState

SCHEDULE = schedules.Linear(1e-2, total_steps=40, warmup_steps=4)
MANY = TEXTS * 3  # 18 texts: five batches of four


def fresh(**compiled) -> MaskedLM:
    model = small_masked_lm(seed=7, dropout=0.2, attention_dropout=0.2, backend="numpy")
    model.compile(**{"optimizer": optimizers.AdamW(SCHEDULE, weight_decay=0.1, global_clipnorm=0.5), **compiled})
    return model


class Keeping(callbacks.Callback):
    """Takes the state after some update, counted over all epochs, or at the end of an epoch."""

    def __init__(self, updates: int | None = None, epoch: int | None = None) -> None:
        super().__init__()
        self.updates, self.epoch, self.kept = updates, epoch, None

    def on_train_batch_end(self, batch, logs=None) -> None:
        if self.model.optimizer.iterations == self.updates:
            self.kept = copy.deepcopy(self.model.train_state())

    def on_epoch_end(self, epoch, logs=None) -> None:
        if epoch == self.epoch:
            self.kept = copy.deepcopy(self.model.train_state())


def same(one: MaskedLM, other: MaskedLM) -> bool:
    pairs = [(m.backbone.params, *m.optimizer.slots.values()) for m in (one, other)]
    return all(a.flat.tobytes() == b.flat.tobytes() for a, b in zip(*pairs, strict=True))


WAYS = {
    "passes": {"batch_size": 4, "epochs": 3},
    "in order": {"batch_size": 4, "epochs": 3, "shuffle": False},
    "accumulated": {"batch_size": 2, "epochs": 3, "gradient_accumulation_steps": 2},
    "steps": {"batch_size": 4, "epochs": 4, "steps_per_epoch": 3},
    "validated": {"batch_size": 3, "epochs": 3, "validation_split": 0.2},
}


@pytest.mark.parametrize("updates", [1, 3, 5, 6, 9, 10])
@pytest.mark.parametrize("way", WAYS)
def test_a_state_taken_after_any_update_goes_on_bit_for_bit(way: str, updates: int):
    keeping = Keeping(updates)
    straight = fresh()
    expected = straight.fit(MANY, callbacks=[keeping], verbose=0, **WAYS[way])
    assert isinstance(keeping.kept, TrainState)
    resumed = fresh()
    resumed.load_train_state(keeping.kept)
    found = resumed.fit(MANY, callbacks=[Keeping(None)], verbose=0, **WAYS[way])
    assert same(resumed, straight)
    assert found.history == expected.history
    assert found.epoch == expected.epoch


@pytest.mark.parametrize("way", WAYS)
def test_so_does_a_state_taken_at_an_epochs_end(way: str):
    keeping = Keeping(epoch=1)
    straight, resumed = fresh(), fresh()
    expected = straight.fit(MANY, callbacks=[keeping], verbose=0, **WAYS[way])
    resumed.load_train_state(keeping.kept)
    found = resumed.fit(MANY, callbacks=[Keeping(None)], verbose=0, **WAYS[way])
    assert same(resumed, straight)
    assert found.history == expected.history


@pytest.mark.parametrize("updates", [2, 4, 7])
def test_so_does_one_of_a_stream(updates: int):
    keeping, straight, resumed = Keeping(updates), fresh(), fresh()
    options = {"batch_size": 4, "steps_per_epoch": 3, "epochs": 3, "verbose": 0}
    expected = straight.fit(cycle(MANY), callbacks=[keeping], **options)
    resumed.load_train_state(keeping.kept)
    found = resumed.fit(cycle(MANY), callbacks=[Keeping(None)], **options)
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
    found = resumed.fit(batches, epochs=3, callbacks=[Keeping(None)], verbose=0)
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
    found = resumed.fit(MANY, labels, batch_size=6, epochs=2, callbacks=[Keeping(None)], verbose=0)
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
    resumed.fit(MANY, batch_size=4, epochs=9, callbacks=[*again, Keeping(None)], verbose=0)
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
    resumed.fit(MANY, batch_size=4, callbacks=[Keeping(None)], verbose=0)
    assert same(resumed, straight)


def test_a_learning_rate_that_was_set_goes_along():
    keeping, straight, resumed = Keeping(6), fresh(), fresh()
    straight.optimizer.learning_rate = 0.02
    straight.fit(MANY, batch_size=4, epochs=2, callbacks=[keeping], verbose=0)
    resumed.load_train_state(keeping.kept)
    assert resumed.optimizer.learning_rate == 0.02
    resumed.fit(MANY, batch_size=4, epochs=2, callbacks=[Keeping(None)], verbose=0)
    assert same(resumed, straight)


def test_a_fit_that_was_stopped_in_the_midst_of_an_epoch_can_go_on():
    stop = callbacks.LambdaCallback(on_train_batch_end=lambda step, _: setattr(stopped, "stop_training", step == 2))
    straight, stopped, resumed = fresh(), fresh(), fresh()
    straight.fit(MANY, batch_size=4, epochs=2, verbose=0)
    stopped.fit(MANY, batch_size=4, epochs=2, callbacks=[stop], verbose=0)
    state = stopped.train_state()
    assert (state.epoch, state.step, state.position) == (0, 3, 12)
    resumed.load_train_state(copy.deepcopy(state))
    resumed.fit(MANY, batch_size=4, epochs=2, verbose=0)
    assert same(resumed, straight)


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
    with pytest.raises(ValueError, match="the state is of parameters of other names or shapes"):
        other.load_train_state(keeping.kept)
    assert np.array_equal(other.params.flat, before)
    with pytest.raises(ValueError, match="no state of training before the first update"):
        other.train_state()
    resumed = fresh()
    resumed.load_train_state(keeping.kept)
    with pytest.raises(ValueError, match="of the callbacks History, Keeping, ProgressBar; fit has History, Progr"):
        resumed.fit(MANY, batch_size=4, verbose=0)
    resumed.load_train_state(keeping.kept)
    with pytest.raises(ValueError, match="initial_epoch is 3, but the state that was loaded goes on with epoch 0"):
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
