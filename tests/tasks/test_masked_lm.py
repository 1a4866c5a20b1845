"""The user's object: what goes in, what comes out, and that the same calls give the same model."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from small_models import TEXTS, small_masked_lm, small_tokenizer

from pyroberta import Backbone, MaskedLM, MaskedLMPreprocessor, TextClassifier
from pyroberta.backends import BackendError
from pyroberta.training import callbacks, losses, metrics, optimizers
from pyroberta.training.step import NonFiniteError

REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum")


def weights_of(masked_lm: MaskedLM) -> np.ndarray:
    return masked_lm.backbone.params.flat.copy()


def fitted(x=TEXTS, *, seed=0, **keywords) -> np.ndarray:
    masked_lm = small_masked_lm(seed=seed)
    masked_lm.fit(x, **{"batch_size": 2, "verbose": 0, **keywords})
    return weights_of(masked_lm)


def features_of(masked_lm: MaskedLM, texts=TEXTS):
    return masked_lm.preprocessor(texts, rng=np.random.default_rng(5))


# --- fit ------------------------------------------------------------------------------------------------------------


def test_fitting_lowers_the_loss_and_tells_how():
    history = small_masked_lm().fit(TEXTS, batch_size=2, epochs=8, verbose=0)
    assert history.epoch == list(range(8))
    assert {name: len(values) for name, values in history.history.items()} == {
        "loss": 8, "accuracy": 8, "perplexity": 8
    }  # fmt: skip
    assert history.history["loss"][-1] < history.history["loss"][0] - 0.3
    assert history.history["perplexity"][0] == pytest.approx(np.exp(history.history["loss"][0]))


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_seed_others():
    assert (fitted(seed=3, epochs=2) == fitted(seed=3, epochs=2)).all()
    assert (fitted(seed=3) != fitted(seed=4)).any()


@pytest.mark.parametrize("other", [np.array(TEXTS), np.array(TEXTS, object), iter, lambda t: (s for s in t), dict])
def test_a_list_an_array_and_any_iterable_of_the_same_texts_train_alike(other):
    x = dict.fromkeys(TEXTS).keys() if other is dict else other(TEXTS) if callable(other) else other
    assert (fitted(x) == fitted(TEXTS)).all()


def test_pairs_are_tuples_or_keras_two_columns():
    pairs = [(a[:12], b[:12]) for a, b in zip(TEXTS[:3], TEXTS[3:], strict=True)]
    expected = fitted(pairs)
    columns = tuple(map(list, zip(*pairs, strict=True)))
    for other in (columns, iter(pairs)):
        assert (fitted(other) == expected).all()
    assert (expected != fitted([f"{a} {b}" for a, b in pairs])).any()


def test_a_text_file_trains_as_its_lines(tmp_path: Path):
    file = tmp_path / "texts.txt"
    file.write_text("\ufeff" + "\n\n".join(TEXTS) + "\r\n", encoding="utf-8")
    assert (fitted(file) == fitted(TEXTS)).all()
    assert (fitted(str(file)) == fitted(TEXTS)).all()


def test_encoded_sequences_train_as_their_texts():
    tokenizer = small_tokenizer()
    ids = [tokenizer.encode(text) for text in TEXTS]
    assert (fitted(ids) == fitted(TEXTS)).all()
    assert (fitted([np.array(sequence) for sequence in ids]) == fitted(TEXTS)).all()


def test_features_train_alike_as_arrays_as_nested_lists_and_without_preprocessor():
    (x, y, weights), results = features_of(small_masked_lm()), []
    nested = {name: array.tolist() for name, array in x.items()}
    for features, labels, sample_weight in ((x, y, weights), (nested, y.tolist(), weights.tolist())):
        masked_lm = small_masked_lm()
        masked_lm.preprocessor = None
        masked_lm.fit(features, labels, sample_weight=sample_weight, batch_size=2, verbose=0)
        results.append(weights_of(masked_lm))
    assert (results[0] == results[1]).all()


def test_an_iterable_of_batches_trains_as_they_are():
    x, y, weights = features_of(small_masked_lm())
    cuts = [slice(0, 2), slice(2, 4), slice(4, 6)]
    batches = [({name: array[cut] for name, array in x.items()}, y[cut], weights[cut]) for cut in cuts]
    expected = fitted(x, y=y, sample_weight=weights, shuffle=False, epochs=2)
    assert (fitted(batches, epochs=2) == expected).all()  # a list can be gone through twice
    assert (fitted((batch for batch in batches * 2), epochs=2, steps_per_epoch=3) == expected).all()


def test_batches_of_texts_from_a_loader_may_have_weights():
    class Loader:
        def __iter__(self):
            yield TEXTS[:4], None, [1.0, 1.0, 0.5, 0.0]
            yield TEXTS[4:]

    masked_lm = small_masked_lm()
    tokens = []
    counter = callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: tokens.append(logs.tokens))
    masked_lm.fit(Loader(), epochs=2, callbacks=[counter], verbose=0)
    assert len(tokens) == 4
    assert tokens[:2] == tokens[2:]


def test_sample_weight_weighs_texts():
    ones, zeros = np.ones(6), np.zeros(6)
    assert (fitted(TEXTS, sample_weight=ones) == fitted(TEXTS)).all()
    last_alone = zeros.copy()
    last_alone[5] = 1.0
    assert (fitted(TEXTS, sample_weight=last_alone) != fitted(TEXTS)).any()
    with pytest.raises(ValueError, match="every sample_weight is 0"):
        fitted(TEXTS, sample_weight=zeros)
    with pytest.raises(ValueError, match=r"one weight per text, \(6,\); got \(5,\)"):
        fitted(TEXTS, sample_weight=ones[:5])
    with pytest.raises(ValueError, match="finite and at least 0"):
        fitted(TEXTS, sample_weight=-ones)


def batches_seen(masked_lm: MaskedLM, monkeypatch: pytest.MonkeyPatch, **keywords) -> list[list[tuple[int, ...]]]:
    """For each update the labelled sequences: what stood in the batch before it was masked."""
    seen = []
    update = MaskedLM._update

    def spy(self, group, running):
        for batch in group:
            ids = batch.ids.copy()
            ids[batch.target_rows] = batch.labels
            seen.append([tuple(part) for part in np.split(ids, batch.starts[1:-1])])
        return update(self, group, running)

    monkeypatch.setattr(MaskedLM, "_update", spy)
    masked_lm.fit(TEXTS, **{"batch_size": 4, "verbose": 0, **keywords})
    return seen


def test_shuffling_visits_every_text_once_an_epoch_in_a_new_order(monkeypatch: pytest.MonkeyPatch):
    seen = batches_seen(small_masked_lm(), monkeypatch, epochs=3)
    orders = [seen[i] + seen[i + 1] for i in (0, 2, 4)]
    assert [len(batch) for batch in seen] == [4, 2] * 3
    ids = sorted(tuple(small_tokenizer().encode(text)) for text in TEXTS)
    assert [sorted(order) for order in orders] == [ids] * 3
    assert len({tuple(order) for order in orders}) == 3


def test_without_shuffling_the_order_stays_and_the_masks_change(monkeypatch: pytest.MonkeyPatch):
    seen = batches_seen(small_masked_lm(), monkeypatch, epochs=2, shuffle=False)
    assert seen[0] + seen[1] == [tuple(small_tokenizer().encode(text)) for text in TEXTS] == seen[2] + seen[3]
    history = small_masked_lm(dropout=0.0)
    history.compile(optimizer=optimizers.Adam(0.0))
    first, second = history.fit(TEXTS, epochs=2, shuffle=False, verbose=0).history["loss"]
    assert first != second


def test_calling_fit_again_goes_on_instead_of_repeating_the_first_epoch():
    masked_lm = small_masked_lm(dropout=0.0)
    masked_lm.compile(optimizer=optimizers.Adam(0.0))  # the model stays, so the loss tells the masks apart
    values = [masked_lm.fit(TEXTS, verbose=0).history["loss"][0] for _ in range(3)]
    assert len(set(values)) == 3


def test_two_epochs_are_one_and_another_with_initial_epoch():
    masked_lm = small_masked_lm()
    masked_lm.fit(TEXTS, batch_size=2, epochs=1, verbose=0)
    history = masked_lm.fit(TEXTS, batch_size=2, epochs=2, initial_epoch=1, verbose=0)
    assert history.epoch == [1]
    assert (weights_of(masked_lm) == fitted(epochs=2)).all()


def test_steps_per_epoch_stops_early_and_reads_a_stream_as_it_goes():
    taken = []

    def stream():
        for i in range(1000):
            taken.append(i)
            yield TEXTS[i % len(TEXTS)]

    masked_lm = small_masked_lm()
    masked_lm.fit(stream(), batch_size=2, epochs=2, steps_per_epoch=3, verbose=0)
    assert masked_lm.optimizer.iterations == 6
    assert len(taken) == 12
    masked_lm.fit(TEXTS, batch_size=2, steps_per_epoch=1, verbose=0)
    assert masked_lm.optimizer.iterations == 7


def steps_seen(masked_lm: MaskedLM, monkeypatch: pytest.MonkeyPatch, **keywords) -> list[list[tuple[int, ...]]]:
    """The sequences of each of `fit`'s steps over the six `TEXTS`, two at a time."""
    with monkeypatch.context() as patch:
        return [sorted(batch) for batch in batches_seen(masked_lm, patch, **{"batch_size": 2, **keywords})]


def test_with_steps_per_epoch_held_examples_go_on_where_the_epoch_before_left_off(monkeypatch: pytest.MonkeyPatch):
    everything = sorted(tuple(small_tokenizer().encode(text)) for text in TEXTS)
    for steps_per_epoch, epochs in ((1, 6), (2, 3), (3, 2)):
        seen = steps_seen(small_masked_lm(), monkeypatch, steps_per_epoch=steps_per_epoch, epochs=epochs)
        assert len(seen) == 6
        for one in (seen[:3], seen[3:]):
            assert sorted(text for step in one for text in step) == everything
        assert seen[:3] != seen[3:]  # another pass, in another order
    plain = steps_seen(small_masked_lm(), monkeypatch, epochs=2)
    assert steps_seen(small_masked_lm(), monkeypatch, steps_per_epoch=3, epochs=2) == plain
    seen = steps_seen(small_masked_lm(), monkeypatch, steps_per_epoch=2, epochs=3, shuffle=False)
    assert seen == steps_seen(small_masked_lm(), monkeypatch, epochs=2, shuffle=False)


def test_with_steps_per_epoch_an_update_takes_no_batches_of_two_passes():
    masked_lm, keywords = small_masked_lm(), {"batch_size": 1, "gradient_accumulation_steps": 4, "verbose": 0}
    masked_lm.fit(TEXTS, steps_per_epoch=1, epochs=4, **keywords)  # of 4, 2, 4 and 2 texts
    assert (weights_of(masked_lm) == fitted(epochs=2, **keywords)).all()


def test_with_steps_per_epoch_two_epochs_are_one_and_another_with_initial_epoch():
    keywords = {"batch_size": 2, "steps_per_epoch": 2, "verbose": 0}
    for first in (1, 2, 3):
        masked_lm = small_masked_lm()
        masked_lm.fit(TEXTS, epochs=first, **keywords)
        masked_lm.fit(TEXTS, epochs=4, initial_epoch=first, **keywords)
        assert (weights_of(masked_lm) == fitted(epochs=4, **keywords)).all()


def test_features_with_steps_per_epoch_go_on_too():
    x, y, weights = features_of(small_masked_lm())
    masked_lm, expected = small_masked_lm(), small_masked_lm()
    masked_lm.fit(x, y, sample_weight=weights, batch_size=2, steps_per_epoch=1, epochs=3, verbose=0)
    expected.fit(x, y, sample_weight=weights, batch_size=2, verbose=0)
    assert (weights_of(masked_lm) == weights_of(expected)).all()


def test_a_stream_that_ends_too_soon_says_so():
    with pytest.warns(UserWarning, match=r"ran out after 2 of the 3 steps of epoch 1, and training ends there"):
        few = fitted(iter(TEXTS[:4]), steps_per_epoch=3, epochs=2)
    assert (few == fitted(iter(TEXTS[:4]), steps_per_epoch=2)).all()
    with pytest.raises(ValueError, match=r"ran out after 0 steps of epoch 2.*yields its items only once"):
        fitted(iter([TEXTS[:2], TEXTS[2:]]), epochs=2)
    with pytest.warns(UserWarning, match="the examples ran out after 2 of the 3 steps: only these were"):
        values = small_masked_lm().evaluate(iter(TEXTS[:4]), batch_size=2, steps=3, verbose=0)
    assert values == small_masked_lm().evaluate(TEXTS[:4], batch_size=2, verbose=0)
    with pytest.warns(UserWarning, match="steps_per_epoch is 4, but the examples make 3 steps, so each epoch ends"):
        many = fitted(TEXTS, steps_per_epoch=4, epochs=2)
    assert (many == fitted(TEXTS, epochs=2)).all()


def test_validation_split_is_the_last_part_and_is_never_trained_on(monkeypatch: pytest.MonkeyPatch):
    seen = batches_seen(small_masked_lm(), monkeypatch, validation_split=0.34)
    trained = {ids for batch in seen for ids in batch}
    assert trained == {tuple(small_tokenizer().encode(text)) for text in TEXTS[:3]}


def test_validation_data_is_evaluated_after_every_epoch():
    masked_lm = small_masked_lm()
    history = masked_lm.fit(TEXTS[:4], validation_data=TEXTS[4:], epochs=2, batch_size=2, verbose=0)
    assert list(history.history) == [
        "loss", "accuracy", "perplexity", "val_loss", "val_accuracy", "val_perplexity"
    ]  # fmt: skip
    assert history.history["val_loss"][-1] == masked_lm.evaluate(TEXTS[4:], batch_size=2, verbose=0)[0]
    x, y, weights = features_of(masked_lm)
    again = masked_lm.fit(TEXTS, validation_data=(x, y, weights), verbose=0)
    assert again.history["val_loss"] == [masked_lm.evaluate(x, y, sample_weight=weights, verbose=0)[0]]


def test_validation_from_an_iterator_that_is_used_up_is_an_error_and_not_a_zero():
    with pytest.raises(ValueError, match=r"nothing to evaluate. An iterator yields its items only once"):
        fitted(validation_data=iter([TEXTS[:2]]), epochs=2)


@pytest.mark.parametrize("split", [1.0, -0.1, 0.999, True])
def test_a_validation_split_that_leaves_one_side_empty_is_refused(split):
    with pytest.raises(ValueError, match=r"validation_split is a share, such as 0\.1, and must leave texts"):
        fitted(validation_split=split)


def test_an_array_is_no_validation_split():
    with pytest.raises(
        ValueError, match="validation_split should be a number from 0 to 1, the share of the texts; got"
    ):
        fitted(validation_split=np.array([0.5, 0.5]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0), ("batch_size", 2.0), ("batch_size", True), ("epochs", -1), ("initial_epoch", -1),
        ("steps_per_epoch", 0), ("gradient_accumulation_steps", 0),
        ("validation_steps", 0), ("validation_batch_size", 0),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_named(name: str, value):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least .*got {value}"):
        fitted(**{name: value})
    with pytest.raises(ValueError, match="verbose must be 0"):
        fitted(verbose=3)


def test_numpy_numbers_and_none_are_taken_for_sizes():
    assert (fitted(batch_size=np.int64(2)) == fitted()).all()
    assert (fitted(batch_size=None) == fitted(batch_size=32)).all()


def test_no_epochs_change_nothing():
    assert (fitted(epochs=0) == weights_of(small_masked_lm())).all()
    assert (fitted(epochs=2, initial_epoch=2) == weights_of(small_masked_lm())).all()


def test_callbacks_are_told_in_order_and_can_stop():
    calls = []

    class Stopper(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    def note(name: str):
        return lambda *args: calls.append(name[3:])

    masked_lm = small_masked_lm()
    spy = callbacks.LambdaCallback(**{name: note(name) for name in callbacks.HOOKS})
    masked_lm.fit(TEXTS, batch_size=2, validation_data=TEXTS, epochs=5, callbacks=[spy, Stopper()], verbose=0)
    assert masked_lm.optimizer.iterations == 2
    assert calls == [
        "train_begin", "epoch_begin", "train_batch_begin", "train_batch_end", "train_batch_begin", "train_batch_end",
        "test_begin", *["test_batch_begin", "test_batch_end"] * 3, "test_end", "epoch_end", "train_end",
    ]  # fmt: skip
    calls.clear()
    masked_lm.evaluate(TEXTS, callbacks=spy, verbose=0)
    assert calls == ["test_begin", "test_batch_begin", "test_batch_end", "test_end"]


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_progress_goes_to_stderr_as_much_as_asked(verbose: int, capsys: pytest.CaptureFixture[str]):
    masked_lm = small_masked_lm()
    masked_lm.fit(TEXTS, batch_size=2, epochs=2, validation_data=TEXTS, verbose=verbose)
    masked_lm.evaluate(TEXTS, verbose=verbose)
    masked_lm.predict("a <mask>", verbose=verbose)
    out, err = capsys.readouterr()
    assert out == ""
    if verbose == 0:
        assert err == ""
    else:
        lines = err.splitlines()
        assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2", "evaluate", "predict"]
        assert "3/3 steps" in lines[0]
        for shown in ("loss", "accuracy", "tokens/s", "val_loss"):
            assert f"{shown} " in lines[0]


def test_an_interrupted_fit_leaves_a_usable_model_and_closes_the_bar(monkeypatch: pytest.MonkeyPatch):
    closed = []
    monkeypatch.setattr("pyroberta.training.callbacks.progress.can_redraw", lambda: True)
    close = callbacks.ProgressBar._close
    monkeypatch.setattr(
        callbacks.ProgressBar, "_close", lambda self: (closed.append(self._bar is not None), close(self))
    )

    def interrupt(step, logs):
        if step == 1:
            raise KeyboardInterrupt

    masked_lm = small_masked_lm()
    with pytest.raises(KeyboardInterrupt):
        masked_lm.fit(TEXTS, batch_size=2, callbacks=[callbacks.LambdaCallback(on_train_batch_end=interrupt)])
    assert closed[-1]
    assert masked_lm.optimizer.iterations == 2
    assert np.isfinite(masked_lm.evaluate(TEXTS, verbose=0)).all()
    masked_lm.fit(TEXTS, verbose=0)
    assert masked_lm.optimizer.iterations == 3


# --- what is learnt ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradient_accumulation_equals_the_large_batch(reduction: str):
    """Ragged texts, uneven weights, an uneven last group."""
    sample_weight = np.array([0.1, 3.0, 1.0, 0.0, 0.7, 2.0])

    def after(**keywords):
        masked_lm = small_masked_lm(dropout=0.0)
        x, y, weights = features_of(masked_lm)
        masked_lm.compile(optimizer="torchadam", loss=losses.SparseCategoricalCrossentropy(True, reduction=reduction))
        history = masked_lm.fit(
            x, y, sample_weight=weights * sample_weight[:, None], shuffle=False, epochs=2, verbose=0, **keywords
        )
        assert masked_lm.optimizer.iterations == 2
        return weights_of(masked_lm), history.history["loss"]

    large, large_loss = after(batch_size=6)
    for batch_size, steps in ((1, 6), (4, 2), (5, 3)):
        small, small_loss = after(batch_size=batch_size, gradient_accumulation_steps=steps)
        np.testing.assert_allclose(small, large, rtol=0, atol=1e-12)
        np.testing.assert_allclose(small_loss, large_loss, rtol=1e-12)


def test_a_frozen_backbone_stays_bit_for_bit_and_no_backward_op_runs_below_the_head():
    masked_lm = small_masked_lm()
    masked_lm.backbone.trainable = False
    before, calls = masked_lm.backbone.params.astype("float64"), []
    masked_lm.backbone.ops = masked_lm.backbone.ops.wrapped(
        lambda name, op: lambda *args: (calls.append(name), op(*args))[1]
    )
    masked_lm.fit(TEXTS, batch_size=8, verbose=0)
    for name, array in masked_lm.params.items():
        assert (array == before[name]).all() == (not name.startswith("head.")), name
    backward = [name for name in calls if "backward" in name]
    assert len(backward) == 4
    assert not {"attention_backward", "embedding_backward", "dropout_backward"} & set(backward)


def test_frozen_names_stay_bit_for_bit_and_unfreezing_lets_them_go():
    masked_lm = small_masked_lm()
    frozen = masked_lm.backbone.freeze(r"embeddings\..*|layers\.0\..*")
    before = masked_lm.backbone.params.astype("float64")
    masked_lm.fit(TEXTS, verbose=0)
    assert len(frozen) == 20
    for name, array in masked_lm.params.items():
        assert (array == before[name]).all() == (name in frozen), name
    masked_lm.backbone.unfreeze(r"embeddings\..*")
    masked_lm.fit(TEXTS, verbose=0)
    assert (masked_lm.params["embeddings.token"] != before["embeddings.token"]).any()


def test_what_cannot_be_frozen_is_said():
    masked_lm = small_masked_lm()
    with pytest.raises(ValueError, match="no parameter's name matches 'layer'"):
        masked_lm.backbone.freeze("layer")
    with pytest.raises(ValueError, match=r"'\(' is not a regular expression"):
        masked_lm.backbone.freeze("(")
    masked_lm.backbone.freeze(".*")
    for train in (masked_lm.fit, masked_lm.train_on_batch):
        with pytest.raises(ValueError, match="every parameter is frozen"):
            train(TEXTS)
    assert masked_lm.optimizer.iterations == 0


def test_a_loss_that_is_not_finite_stops_training_and_leaves_the_parameters():
    masked_lm = small_masked_lm(dtype="float32")
    masked_lm.fit(TEXTS, verbose=0)
    with masked_lm.backbone.changing() as params:
        params["layers.1.feed_forward.intermediate.bias"][:] = 1e5
        params["layers.1.feed_forward.output.kernel"][:] = 3e38  # finite both, but not their product
    before, iterations = weights_of(masked_lm), masked_lm.optimizer.iterations
    with pytest.raises(NonFiniteError) as raised:
        masked_lm.fit(TEXTS, verbose=0)
    assert "loss of step 2" in str(raised.value)
    assert "feed_forward_forward with layers.1.feed_forward.intermediate.kernel" in str(raised.value)
    assert (weights_of(masked_lm) == before).all()
    assert masked_lm.optimizer.iterations == iterations


def test_weights_that_are_not_finite_are_named():
    masked_lm = small_masked_lm()
    with masked_lm.backbone.changing() as params:
        params["head.bias"][0] = np.nan
    with pytest.raises(NonFiniteError, match=r"these parameters are not: head.bias"):
        masked_lm.train_on_batch(TEXTS)


# --- evaluate, batches ------------------------------------------------------------------------------------------------


def test_evaluate_is_the_same_on_every_call_and_for_any_batch_size():
    masked_lm = small_masked_lm()
    first = masked_lm.evaluate(TEXTS, batch_size=4, verbose=0)
    assert masked_lm.evaluate(TEXTS, batch_size=4, verbose=0) == first
    for batch_size in (1, 5, None):
        np.testing.assert_allclose(masked_lm.evaluate(TEXTS, batch_size=batch_size, verbose=0), first, rtol=1e-12)
    named = masked_lm.evaluate(TEXTS, batch_size=4, verbose=0, return_dict=True)
    assert list(named) == ["loss", "accuracy", "perplexity"]
    assert list(named.values()) == first


def test_evaluating_changes_nothing():
    masked_lm = small_masked_lm()
    before = weights_of(masked_lm)
    masked_lm.evaluate(TEXTS, verbose=0)
    masked_lm.test_on_batch(TEXTS)
    assert (weights_of(masked_lm) == before).all()
    assert masked_lm.optimizer.iterations == 0


def test_evaluate_can_stop_after_some_steps_of_a_stream():
    def forever():
        while True:
            yield from TEXTS

    value = small_masked_lm().evaluate(forever(), batch_size=2, steps=3, verbose=0)
    assert np.isfinite(value).all()


def test_on_batch_functions_return_a_list_or_a_dict_by_name():
    masked_lm = small_masked_lm()
    x, y, weights = features_of(masked_lm)
    for function in (masked_lm.train_on_batch, masked_lm.test_on_batch):
        values, named = function(TEXTS), function(x, y, weights, return_dict=True)
        assert len(values) == 3
        assert list(named) == ["loss", "accuracy", "perplexity"]
    assert masked_lm.optimizer.iterations == 2
    assert masked_lm.test_on_batch(x, y, weights) == masked_lm.evaluate(x, y, sample_weight=weights, verbose=0)
    with pytest.raises(ValueError, match="x should be one batch, not an iterable of batches"):
        masked_lm.train_on_batch(iter([TEXTS]))


def test_training_on_a_batch_masks_anew_every_time():
    masked_lm = small_masked_lm(dropout=0.0)
    masked_lm.compile(optimizer=optimizers.Adam(0.0))
    assert masked_lm.train_on_batch(TEXTS) != masked_lm.train_on_batch(TEXTS)


# --- predict ----------------------------------------------------------------------------------------------------------


def test_calling_the_model_gives_logits_at_the_mask_positions():
    masked_lm = small_masked_lm()
    x, y, _ = features_of(masked_lm)
    logits = masked_lm(x)
    assert logits.shape == (6, 8, 300)
    assert logits.dtype == np.float64
    assert masked_lm.predict(x, batch_size=4, verbose=0) == pytest.approx(logits, rel=1e-9)
    assert masked_lm.predict_on_batch(x) == pytest.approx(logits)
    nested = {name: array.tolist() for name, array in x.items()}
    assert masked_lm.predict(nested, verbose=0) == pytest.approx(logits)
    expected_losses = losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
    assert masked_lm.evaluate(x, y, verbose=0)[0] == pytest.approx(expected_losses.mean())


def test_predict_on_texts_predicts_their_masks():
    masked_lm = small_masked_lm()
    texts = ["I <mask> my <mask>.", "It is <mask>.", "Who goes?"]
    logits = masked_lm.predict(texts, verbose=0)
    assert logits.shape == (3, 2, 300)
    assert not logits[1, 1].any()
    assert not logits[2].any()
    assert masked_lm.predict(texts, batch_size=1, verbose=0) == pytest.approx(logits)
    assert masked_lm.predict_on_batch(texts) == pytest.approx(logits)
    assert masked_lm.predict("It is <mask>.", verbose=0)[0, 0] == pytest.approx(logits[1, 0])
    best = masked_lm.fill_mask(texts[1], top_k=1)[0]
    assert best.token == logits[1, 0].argmax()


MASKED = ["I <mask> my <mask>.", "It is <mask>.", "Who goes?", "<mask>", "We hold <mask>."]


def test_predict_takes_encoded_sequences_and_segments():
    masked_lm, tokenizer = small_masked_lm(settings={"sequence_length": 9}), small_tokenizer()
    expected = masked_lm.predict(MASKED, verbose=0)  # nothing is cut to the preprocessor's length
    encoded = [tokenizer.encode(text) for text in MASKED]
    assert masked_lm.predict(encoded, verbose=0) == pytest.approx(expected)
    assert masked_lm.predict([np.array(ids) for ids in encoded], batch_size=2, verbose=0) == pytest.approx(expected)
    pairs = [("It is <mask>.", "Who <mask>?"), ("I forgot", "my <mask>.")]
    features = [[0, *tokenizer.encode(a)[1:-1], 2, 2, *tokenizer.encode(b)[1:-1], 2] for a, b in pairs]
    expected = masked_lm.predict(features, verbose=0)
    assert expected.shape == (2, 2, 300)
    for x in (pairs, tuple(zip(*pairs, strict=True))):
        x = tuple(map(list, x)) if isinstance(x, tuple) else x
        assert masked_lm.predict(x, batch_size=1, verbose=0) == pytest.approx(expected)
        assert masked_lm.predict_on_batch(x) == pytest.approx(expected)
    assert masked_lm.predict(pairs[:1], verbose=0) == pytest.approx(expected[:1])


def test_predict_takes_batches_and_leaves_their_labels_alone():
    masked_lm = small_masked_lm()
    expected = masked_lm.predict(MASKED, verbose=0)
    batches = iter([MASKED[:2], MASKED[2:3], MASKED[3:]])  # the second one has no mask
    assert masked_lm.predict(batches, verbose=0) == pytest.approx(expected)
    x, y, weights = features_of(masked_lm)
    parts = [({name: array[cut] for name, array in x.items()}, y[cut], weights[cut]) for cut in (slice(4), slice(4, 6))]
    for made in (parts, iter(parts), [part[0] for part in parts], [list(part) for part in parts]):
        assert masked_lm.predict(made, verbose=0) == pytest.approx(masked_lm(x))


def test_predict_reads_no_further_than_steps_and_tells_callbacks():
    masked_lm, taken, calls = small_masked_lm(), [], []

    def stream():
        for i in itertools.count():
            taken.append(i)
            yield MASKED[i % 2]

    class Spy(callbacks.Callback):
        def on_predict_begin(self, logs=None):
            calls.append(("begin", self.params["steps"], self.model is masked_lm))

        def on_predict_batch_end(self, batch, logs=None):
            calls.append((batch, logs["outputs"].shape))

        def on_predict_end(self, logs=None):
            calls.append("end")

    expected = masked_lm.predict(MASKED[:2] * 3, verbose=0)
    found = masked_lm.predict(stream(), batch_size=3, steps=2, callbacks=Spy(), verbose=0)
    assert found == pytest.approx(expected)
    assert calls == [("begin", 2, True), (0, (3, 2, 300)), (1, (3, 2, 300)), "end"]
    assert len(taken) == 6
    x, _, _ = features_of(masked_lm)
    for given, length in ((x, 4), (MASKED, 4), ((MASKED[:3], MASKED[:3]), 3), (iter([MASKED[:1]] * 9), 2)):
        assert len(masked_lm.predict(given, batch_size=2, steps=2, verbose=0)) == length
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, got 0"):
        masked_lm.predict(MASKED, steps=0)


def test_predict_reads_a_file_by_its_path_alone(tmp_path: Path):
    masked_lm = small_masked_lm()
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(MASKED))
    expected = masked_lm.predict(MASKED, verbose=0)
    assert masked_lm.predict(file, verbose=0) == pytest.approx(expected)
    with file.open() as lines:
        assert masked_lm.predict(lines, verbose=0) == pytest.approx(expected)


def test_what_cannot_be_predicted_is_said():
    masked_lm = small_masked_lm()
    for empty in ([], {"token_ids": [], "padding_mask": [], "mask_positions": []}):
        with pytest.raises(ValueError, match="x is empty"):
            masked_lm.predict(empty, verbose=0)
        with pytest.raises(ValueError, match="x is empty"):
            masked_lm.predict_on_batch(empty)
    with pytest.raises(ValueError, match=r"no text has '<mask>'"):
        masked_lm.predict(["no hole"], verbose=0)
    with pytest.raises(ValueError, match=r"the features should be a dict of token_ids.*; got token_ids"):
        masked_lm({"token_ids": [[0, 5, 2]]})
    with pytest.raises(TypeError, match=r"the features should be a dict .*; got a list"):
        masked_lm(["text"])
    with pytest.raises(ValueError, match="the rows of token_ids differ in length"):
        masked_lm.predict({"token_ids": [[0, 5, 2], [0, 2]], "mask_positions": [[1], [1]]}, verbose=0)
    with pytest.raises(ValueError, match=r"a row for each sequence; they have token_ids 1, mask_positions 2"):
        masked_lm.predict({"token_ids": [[0, 5, 2]], "mask_positions": [[1], [1]]}, batch_size=1, verbose=0)
    with pytest.raises(ValueError, match=r"text 1 has 43 tokens, .* the model takes 40"):
        masked_lm.predict(["<mask>", "q" * 41], verbose=0)


# --- compile ----------------------------------------------------------------------------------------------------------


def test_compile_takes_strings_and_objects():
    masked_lm = small_masked_lm()
    masked_lm.compile("adamw", "sparse_categorical_crossentropy", weighted_metrics="accuracy", jit_compile=True)
    assert isinstance(masked_lm.optimizer, optimizers.AdamW)
    assert masked_lm.optimizer.learning_rate == 1e-3
    assert list(masked_lm.evaluate(TEXTS, verbose=0, return_dict=True)) == ["loss", "accuracy"]
    masked_lm.compile(weighted_metrics=[metrics.SparseCategoricalAccuracy(), "perplexity"])
    assert isinstance(masked_lm.optimizer, optimizers.Adam)
    assert masked_lm.optimizer.learning_rate == 5e-5
    assert masked_lm.loss.reduction == "mean_with_sample_weight"
    names = list(masked_lm.evaluate(TEXTS, verbose=0, return_dict=True))
    assert names == ["loss", "sparse_categorical_accuracy", "perplexity"]
    masked_lm.compile(weighted_metrics=None)
    assert list(masked_lm.train_on_batch(TEXTS, return_dict=True)) == ["loss"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": losses.SparseCategoricalCrossentropy()}, "the model returns logits"),
        ({"loss": losses.SparseCategoricalCrossentropy(True, reduction=None)}, "training needs one number"),
        ({"loss": losses.SparseCategoricalCrossentropy(True, ignore_class=-100)}, "give a label the weight 0"),
        ({"loss": "mse"}, "loss must be one of sparse_categorical_crossentropy"),
        ({"loss": np.square}, "the loss should be one of pyroberta's"),
        ({"optimizer": "sgd"}, "optimizer must be one of adam"),
        ({"optimizer": optimizers.Adam}, r"the optimizer should be an object, not its class: make one, Adam\(\.\.\.\)"),
        ({"optimizer": 5e-5}, "the optimizer should be one of pyroberta's, such as Adam; got 5e-05"),
        ({"weighted_metrics": "f1"}, "a metric must be one of loss, accuracy"),
        (
            {"metrics": ["accuracy"]},
            r"metrics=\['accuracy'\] would count unused mask slots.* Pass weighted_metrics= inst",
        ),
        ({"weighted_metrics": [0.5]}, "the metric should be one of pyroberta's"),
    ],
)
def test_what_cannot_be_compiled_is_refused_and_leaves_the_model_as_it_was(arguments, message: str):
    masked_lm = small_masked_lm()
    before = masked_lm.optimizer, masked_lm.loss
    with pytest.raises((ValueError, TypeError), match=message):
        masked_lm.compile(**{"optimizer": "adamw", **arguments})
    assert (masked_lm.optimizer, masked_lm.loss) == before


def test_keras_s_default_reduction_divides_by_the_slots():
    masked_lm = small_masked_lm()
    x, y, weights = features_of(masked_lm)
    mean = masked_lm.evaluate(x, y, sample_weight=weights, verbose=0)[0]
    masked_lm.compile(loss=losses.SparseCategoricalCrossentropy(from_logits=True))
    found = masked_lm.evaluate(x, y, sample_weight=weights, verbose=0)[0]
    assert found == pytest.approx(mean * weights.sum() / weights.size)


# --- odd texts --------------------------------------------------------------------------------------------------------


def test_odd_texts_train():
    odd = ["", " \t\n", "\0", "\0a\0", "naïve café 東京 🦊", "e\u0301", "\U0010ffff", "<mask>", "</s><s>", "q" * 38]
    masked_lm = small_masked_lm()
    history = masked_lm.fit(odd, batch_size=1, verbose=0)  # some of these batches have nothing to mask
    assert np.isfinite(history.history["loss"]).all()
    assert np.isfinite(masked_lm.evaluate(odd, verbose=0)).all()


def test_a_text_without_a_token_to_mask_counts_nothing():
    masked_lm = small_masked_lm()
    x, y, weights = features_of(masked_lm, ["", *TEXTS[:2]])
    assert not weights[0].any()
    _, kept_y, kept_weights = features_of(masked_lm, ["", *TEXTS[:2]])
    kept = {name: array[1:] for name, array in x.items()}
    assert masked_lm.evaluate(x, y, sample_weight=weights, verbose=0) == pytest.approx(
        masked_lm.evaluate(kept, kept_y[1:], sample_weight=kept_weights[1:], verbose=0)
    )


@pytest.mark.parametrize("x", [["", ""], ["<mask>"], ["<s>", "</s>"]])
def test_texts_in_which_nothing_can_be_masked_are_an_error_rather_than_a_loss_of_zero(x):
    masked_lm = small_masked_lm()
    for function in (masked_lm.fit, masked_lm.evaluate):
        with pytest.raises(ValueError, match="no token of x can be masked"):
            function(x, verbose=0)
        with pytest.raises(ValueError, match="no token of the examples could be masked"):
            function(iter([x]), verbose=0)
    with pytest.raises(ValueError, match="no token of x can be masked"):
        masked_lm.train_on_batch(x)
    features, y, weights = features_of(masked_lm, x)
    with pytest.raises(ValueError, match="no mask position with a weight above 0"):
        masked_lm.fit(features, y, sample_weight=weights, verbose=0)


def test_a_lone_surrogate_is_named_with_its_text():
    with pytest.raises(ValueError, match=r"text 1.*surrogate"):
        fitted(["fine", "a\ud800b"])
    with pytest.raises(ValueError, match="surrogate"):
        small_masked_lm().fill_mask("\udfff <mask>")


# --- presets ----------------------------------------------------------------------------------------------------------


def test_a_saved_model_comes_back_whole(tmp_path: Path):
    settings = {"mask_selection_rate": 0.3, "whole_words": True, "count": "bernoulli", "truncate": "waterfall"}
    saved = small_masked_lm(dtype="float32", dropout=0.2, settings=settings)
    saved.fit(TEXTS, verbose=0)
    saved.save_to_preset(tmp_path / "preset")
    loaded = MaskedLM.from_preset(tmp_path / "preset")
    assert (weights_of(loaded) == weights_of(saved)).all()
    assert loaded.backbone.config == saved.backbone.config
    assert loaded.preprocessor.get_config() == saved.preprocessor.get_config()
    assert loaded.evaluate(TEXTS, verbose=0) == saved.evaluate(TEXTS, verbose=0)
    assert loaded.fill_mask("I <mask>.") == saved.fill_mask("I <mask>.")

    saved.fit(TEXTS, verbose=0)
    saved.save_to_preset(tmp_path / "preset")  # over the old one
    assert (weights_of(MaskedLM.from_preset(str(tmp_path / "preset"))) == weights_of(saved)).all()


def test_a_save_that_fails_leaves_the_old_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    masked_lm = small_masked_lm(dtype="float32")
    masked_lm.save_to_preset(tmp_path / "preset")
    before = weights_of(masked_lm)
    masked_lm.fit(TEXTS, verbose=0)
    monkeypatch.setattr("pyroberta.formats.new_files.NewFile.write", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        masked_lm.save_to_preset(tmp_path / "preset")
    assert (weights_of(MaskedLM.from_preset(tmp_path / "preset")) == before).all()
    assert [path.name for path in tmp_path.iterdir()] == ["preset"]


def test_from_preset_can_change_what_it_loads(small_preset: Path):
    stored = MaskedLM.from_preset(small_preset)
    fresh = MaskedLM.from_preset(small_preset, load_weights=False, seed=1, initializer="hf")
    assert (weights_of(fresh) != weights_of(stored)).any()
    with pytest.raises(ValueError, match=r"initializer='hf' would have no effect, .* or give load_weights=False"):
        MaskedLM.from_preset(small_preset, initializer="hf")
    assert fresh.preprocessor.tokenizer == stored.preprocessor.tokenizer or fresh.fill_mask("a <mask>")
    double = MaskedLM.from_preset(small_preset, dtype="float64", backend="numpy", dropout=0.3, attention_dropout=0.0)
    assert (weights_of(double) == weights_of(stored)).all()
    assert (double.backbone.dtype, double.backbone.ops.name) == ("float64", "numpy")
    assert (double.backbone.config.dropout, double.backbone.config.attention_dropout) == (0.3, 0.0)
    assert MaskedLM.from_preset(small_preset, dropout=0.3).backbone.config.attention_dropout == 0.3
    assert MaskedLM.from_preset(small_preset, preprocessor=None).preprocessor is None
    preprocessor = MaskedLMPreprocessor(small_tokenizer(), sequence_length=10)
    assert MaskedLM.from_preset(small_preset, preprocessor=preprocessor).preprocessor is preprocessor


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"dtype": "float16"}, ValueError, "dtype must be 'float32', 'float64' or 'mixed_bfloat16', got 'float16'"),
        ({"backend": "gpu"}, BackendError, "the backend 'gpu' is unknown. There are:\n  numpy: available"),
        ({"dropout": 1.0}, ValueError, r"dropout must be in \[0, 1\)"),
        ({"load_weights": False, "initializer": "zeros"}, ValueError, "initializer must be one of 'keras', 'hf'"),
        (
            {"seed": -1},
            ValueError,
            "seed must be a whole number of at least 0 and at most 18446744073709551615, got -1",
        ),
        ({"droput": 0.1}, TypeError, "unexpected keyword argument 'droput'"),
    ],
)
def test_wrong_keywords_are_named(small_preset: Path, keywords, error, message: str):
    with pytest.raises(error, match=message):
        MaskedLM.from_preset(small_preset, **keywords)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda lm: lm.compile(lr=1e-3),
            r"compile\(\) got an unexpected keyword argument 'lr': it belongs to the optimizer",
        ),
        (lambda lm: lm.compile(optimiser="adam"), "'optimiser'; did you mean 'optimizer'"),
        (
            lambda lm: lm.fit(TEXTS, epoch=3),
            r"fit\(\) got an unexpected .*'epoch'; did you mean 'epochs'",
        ),
        (lambda lm: lm.fit(TEXTS, bs=3), "'bs'; did you mean 'batch_size'"),
        (lambda lm: lm.evaluate(TEXTS, batchsize=3), "'batchsize'; did you mean 'batch_size'"),
        (lambda lm: lm.fill_mask("<mask>", topk=3), "'topk'; did you mean 'top_k'"),
        (lambda lm: lm.score(TEXTS, long_text="cut"), "'long_text'; did you mean 'long_texts'"),
        (lambda lm: lm.save_to_preset("x", fmt="keras"), "'fmt'; did you mean 'format'"),
        (lambda lm: MaskedLM.from_preset("x", back_end="numpy"), "'back_end'; did you mean 'backend'"),
        (
            lambda lm: TextClassifier.from_preset("roberta_tiny_en", num_classes=2, back_end="numpy"),
            "did you mean 'backend'",
        ),
        (lambda lm: optimizers.Adam(lr=1e-3), "'lr'; did you mean 'learning_rate'"),
        (lambda lm: optimizers.TorchAdamW(lr=1e-3), "'lr'; did you mean 'learning_rate'"),
    ],
)
def test_an_unknown_argument_is_answered_with_the_one_that_was_meant(call, message: str):
    with pytest.raises(TypeError, match=message):
        call(small_masked_lm(dtype="float32"))


def test_a_name_that_cannot_be_had_says_what_can():
    with pytest.raises(ValueError, match=r"did you mean 'roberta_tiny_en'.*Possible values"):
        MaskedLM.from_preset("roberta_tiny")
    assert "roberta_tiny_en" in MaskedLM.presets


def test_a_model_without_preprocessor_says_what_it_takes(small_preset: Path):
    masked_lm = MaskedLM.from_preset(small_preset, preprocessor=None)
    with pytest.raises(ValueError, match="no preprocessor and takes a dict of token_ids"):
        masked_lm.fit(TEXTS, verbose=0)
    with pytest.raises(ValueError, match="no preprocessor and takes a dict of token_ids"):
        masked_lm.predict("a <mask>", verbose=0)
    for function in (masked_lm.fill_mask, masked_lm.score, masked_lm.embed):
        with pytest.raises(ValueError, match="needs a tokenizer"):
            function("a <mask>")


def test_what_is_no_text_is_refused():
    masked_lm = small_masked_lm()
    for function in (masked_lm.fill_mask, masked_lm.score, masked_lm.embed, masked_lm.predict):
        for x in (5, None):
            with pytest.raises(TypeError, match="expected a text or a list of texts, got "):
                function(x)
        for x in (b"<mask>", [b"<mask>"], np.array([b"<mask>"])):
            with pytest.raises(TypeError, match=r"is bytes, b'<mask>', .* Decode them: .*text.decode\(\)"):
                function(x)


def test_a_model_is_made_of_a_backbone_and_a_preprocessor():
    backbone = small_masked_lm().backbone
    with pytest.raises(TypeError, match="the backbone should be one of pyroberta's, such as Backbone; got None"):
        MaskedLM(None)
    with pytest.raises(TypeError, match="the preprocessor should be one of pyroberta's"):
        MaskedLM(backbone, small_tokenizer())


def test_a_preprocessor_that_does_not_fit_the_model_is_refused():
    tokenizer = small_tokenizer()
    sizes = {"num_layers": 1, "num_heads": 1, "hidden_dim": 4, "intermediate_dim": 4}
    with pytest.raises(ValueError, match="sequences of up to 512 tokens, but the model takes 40"):
        MaskedLM(Backbone(vocabulary_size=300, max_sequence_length=40, **sizes), MaskedLMPreprocessor(tokenizer))
    with pytest.raises(ValueError, match="the tokenizer has 300 tokens, but the model's token embedding has only 280"):
        MaskedLM(Backbone(vocabulary_size=280, **sizes), MaskedLMPreprocessor(tokenizer))


# --- the model itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_holds_from_end_to_end(dtype: str):
    masked_lm = small_masked_lm(dtype=dtype)
    masked_lm.fit(TEXTS, verbose=0)
    assert masked_lm.backbone.params.flat.dtype == dtype
    assert masked_lm.optimizer.m.dtype == masked_lm.optimizer.v.dtype == dtype
    assert masked_lm.predict("a <mask>", verbose=0).dtype == dtype
    assert masked_lm.embed(["a"]).dtype == dtype
    assert masked_lm.backbone({"token_ids": [[0, 5, 2]]}).dtype == dtype


def test_summary_and_count_params_count_every_value(capsys: pytest.CaptureFixture[str]):
    masked_lm = small_masked_lm()
    C, F, V, T = 8, 12, 300, 40
    layer = 4 * (C * C + C) + 2 * (2 * C) + C * F + F + F * C + C
    backbone = V * C + T * C + 2 * C + 2 * layer
    assert masked_lm.backbone.count_params() == backbone
    assert masked_lm.count_params() == backbone + C * C + C + 2 * C + V
    masked_lm.backbone.trainable = False
    masked_lm.summary()
    out = capsys.readouterr().out
    head = masked_lm.count_params() - backbone
    assert out.splitlines()[-1].split() == ["total", f"{masked_lm.count_params():,}", str(head)]
    assert "2 layers, hidden 8" in out


@pytest.mark.parametrize("method", ["evaluate", "train_on_batch", "test_on_batch"])
def test_a_text_is_no_choice_of_the_results_form(method):
    with pytest.raises(TypeError, match="return_dict must be True or False, got 'no'"):
        getattr(small_masked_lm(), method)(TEXTS, return_dict="no")


@pytest.mark.parametrize("wrong", [3, None, ["a"]], ids=repr)
def test_what_is_no_path_is_named(wrong):
    masked_lm = small_masked_lm()
    masked_lm.backbone.enable_lora(2)
    shown = re.escape(repr(wrong))
    for method in (masked_lm.save, masked_lm.save_weights, masked_lm.load_weights, masked_lm.save_to_preset):
        with pytest.raises(TypeError, match=rf"a path should be a text or a pathlib\.Path, got {shown}"):
            method(wrong)
    for method in (masked_lm.backbone.save_to_preset, masked_lm.backbone.save_lora_weights):
        with pytest.raises(TypeError, match=rf"a path should be a text or a pathlib\.Path, got {shown}"):
            method(wrong)
    with pytest.raises(TypeError, match=rf"preset should be a name, a handle or the path of a directory, got {shown}"):
        MaskedLM.from_preset(wrong)


def test_weights_can_be_taken_and_given_back():
    masked_lm = small_masked_lm()
    weights, before = masked_lm.get_weights(), weights_of(masked_lm)
    masked_lm.fit(TEXTS, verbose=0)
    trained = weights_of(masked_lm).copy()
    with pytest.raises(ValueError, match=r"expected the 41 arrays that get_weights returns, got 40"):
        masked_lm.set_weights(weights[1:])
    with pytest.raises(
        ValueError, match=r"weights\[0\] should have the shape \(.*\), that of 'embeddings.token'; got \("
    ):
        masked_lm.set_weights([weights[1], weights[0], *weights[2:]])
    with pytest.raises(TypeError, match=r"weights\[40\], for 'head.bias', should be real numbers, got complex128"):
        masked_lm.set_weights([*weights[:-1], weights[-1] + 1j])
    with pytest.raises(TypeError, match=r"weights should be a list of arrays, as get_weights returns it; got 3"):
        masked_lm.set_weights(3)
    assert (weights_of(masked_lm) == trained).all()
    masked_lm.set_weights(weights)
    assert (weights_of(masked_lm) == before).all()


def test_an_optimizer_starts_anew_with_every_compile():
    optimizer = optimizers.Adam(1e-3)
    first, second, fresh = (small_masked_lm() for _ in range(3))
    first.compile(optimizer=optimizer)
    first.fit(TEXTS, verbose=0)
    second.compile(optimizer=optimizer)
    fresh.compile(optimizer=optimizers.Adam(1e-3))
    for masked_lm in (second, fresh):
        masked_lm.fit(TEXTS, verbose=0)
    assert (second.backbone.params.flat == fresh.backbone.params.flat).all()


def test_the_loss_alone_is_a_number_as_in_keras():
    masked_lm = small_masked_lm()
    masked_lm.compile(weighted_metrics=[])
    assert isinstance(masked_lm.evaluate(TEXTS, verbose=0), float)
    assert isinstance(masked_lm.train_on_batch(TEXTS), float)


def test_a_model_that_no_memory_can_hold_is_refused_by_its_field(tmp_path, monkeypatch):
    monkeypatch.setattr("pyroberta.model.parameters.memory", lambda: 10**9)
    model = small_masked_lm(dtype="float32")
    model.save_to_preset(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    asks = r"is too large: the parameters would take [\d,]+ bytes as .*, most of them for .* has 1,000,000,000 b"
    with pytest.raises(ValueError, match=f"num_classes {10**12} {asks}"):
        TextClassifier.from_preset(tmp_path, num_classes=10**12)
    with pytest.raises(ValueError, match=f"num_classes {10**12} {asks}"):
        TextClassifier(model.backbone, 10**12)
    with pytest.raises(ValueError, match=f"vocabulary_size {10**10} {asks}"):
        model.resize_token_embeddings(10**10)
    with pytest.raises(ValueError, match=f"lora_rank {10**10} {asks}"):
        model.backbone.enable_lora(10**10)
    sizes = {"vocab_size": "vocabulary_size", "intermediate_size": "intermediate_dim"}
    sizes |= {"max_position_embeddings": "max_sequence_length", "hidden_size": "hidden_dim"}
    for theirs, ours in sizes.items():
        (tmp_path / "config.json").write_text(json.dumps(config | {theirs: 10**10}))
        with pytest.raises(ValueError, match=rf"{ours} \d{{10,}} {asks}"):
            MaskedLM.from_preset(tmp_path, load_weights=False)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("save_pretrained", "save_to_preset(directory) saves a model"),
        ("load", "from_preset(directory) loads a model"),
        ("enable_lora", "backbone.enable_lora(rank) does it"),
        ("fill_masks", "did you mean 'fill_mask'"),
    ],
)
def test_a_name_that_is_elsewhere_is_told(name, hint):
    with pytest.raises(AttributeError, match=re.escape(f"MaskedLM has no attribute {name!r}") + ".*" + re.escape(hint)):
        getattr(small_masked_lm(), name)
    assert not hasattr(small_masked_lm(), "_nothing")


def test_a_model_and_a_history_show_what_they_are():
    model = small_masked_lm()
    sizes = rf"2 layers, hidden 8, 2 heads, vocabulary 300, {model.count_params():,} parameters; float64, backend \S+>"
    assert re.fullmatch(rf"<MaskedLM: {sizes}", repr(model))
    assert repr(MaskedLM.from_preset("roberta_tiny_en")).startswith("<MaskedLM from 'roberta_tiny_en': ")
    history = model.fit(TEXTS, epochs=2, verbose=0)
    assert re.match(r"<History: 2 epochs; loss \d+\.?\d*, accuracy ", repr(history))
