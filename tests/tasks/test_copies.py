"""Copies and pickles: whole, apart from the original, and right before and after use."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from native_extension import needs_native
from small_models import TEXTS, small_masked_lm, small_tokenizer

import pyroberta
from pyroberta import callbacks, optimizers, schedules
from pyroberta.backends import get_ops
from pyroberta.model.parameters import Arrays
from pyroberta.ops import REFERENCE

WAYS = {
    "copied": copy.deepcopy,
    **{f"pickled, protocol {p}": lambda instance, p=p: pickle.loads(pickle.dumps(instance, p)) for p in (2, 5)},
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
backends = pytest.mark.parametrize("backend", ["numpy", pytest.param("native", marks=needs_native)])


def used(backend: str = "numpy") -> pyroberta.MaskedLM:
    """A model that has trained and answered, so that it has moments, gradients and prepared kernels."""
    model = small_masked_lm(dtype="float32", backend=backend, dropout=0.1)
    model.fit(TEXTS, batch_size=4, verbose=0)
    model.fill_mask("It is <mask>.")
    return model


@ways
def test_arrays_stay_views_of_their_vector(way):
    arrays = Arrays({"a": (2, 2), "b": (3,)}, "float64")
    arrays["a"][:] = 3.0
    other = way(arrays)
    other["b"][:] = 1.0
    assert other.flat.tolist() == [3.0] * 4 + [1.0] * 3
    assert arrays.flat.tolist() == [3.0] * 4 + [0.0] * 3
    assert other.dtype == np.float64


@ways
@backends
def test_a_copied_model_learns_and_the_original_does_not(way, backend):
    model = used(backend)
    before, answer = model.params.flat.copy(), model.fill_mask("It is <mask>.")
    other = way(model)
    assert other.backbone.ops.name == backend
    assert other.fill_mask("It is <mask>.") == answer
    other.fit(TEXTS, batch_size=4, verbose=0)
    assert np.array_equal(model.params.flat, before)
    assert not np.array_equal(other.params.flat, before)
    model.fit(TEXTS, batch_size=4, verbose=0)  # the same seed, moments and masks
    assert np.array_equal(model.params.flat, other.params.flat)
    assert model.fill_mask("It is <mask>.") == other.fill_mask("It is <mask>.")


@ways
def test_a_model_that_was_never_used_is_copied_too(way):
    model, other = small_masked_lm(), way(small_masked_lm())
    assert other.fit(TEXTS, verbose=0).history == model.fit(TEXTS, verbose=0).history


@ways
def test_a_classifier_is_copied_with_what_it_knows(way):
    preprocessor = pyroberta.TextClassifierPreprocessor(small_tokenizer(), 40)
    model = pyroberta.TextClassifier(small_masked_lm(dtype="float32").backbone, 2, preprocessor, labels=["no", "yes"])
    model.compile("adamw", metrics=["accuracy"])
    model.fit(TEXTS, [0, 1] * 3, verbose=0)
    other = way(model)
    assert other.labels == model.labels
    assert np.array_equal(other.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0))
    assert other.evaluate(TEXTS, [0, 1] * 3, verbose=0) == model.evaluate(TEXTS, [0, 1] * 3, verbose=0)


@ways
def test_what_is_frozen_stays_frozen_and_lora_stays_lora(way):
    model = small_masked_lm(dtype="float32")
    model.backbone.enable_lora(2, train_head=True)
    other = way(model)
    assert other.backbone.trainable_names() == model.backbone.trainable_names()
    other.fit(TEXTS, epochs=2, verbose=0)
    moved = {name for name in other.params if not np.array_equal(other.params[name], model.params[name])}
    assert moved == set(model.backbone.trainable_names())


@ways
def test_a_backbone_by_itself_is_copied(way):
    backbone = used().backbone
    other = way(backbone)
    with other.changing(["head.bias"]) as params:
        params["head.bias"][:] = 7.0
    assert (other.params["head.bias"] == 7.0).all()
    assert not (backbone.params["head.bias"] == 7.0).any()


def test_a_shallow_copy_of_a_backbone_is_a_whole_one():
    backbone = used().backbone
    with copy.copy(backbone).changing() as params:
        params["head.bias"][:] = 7.0
    assert not (backbone.params["head.bias"] == 7.0).any()


def test_a_shallow_copy_of_a_task_is_a_whole_one_that_trains_beside_it():
    model, alone = used(), used()
    other = copy.copy(model)
    assert other.backbone is not model.backbone
    assert other.optimizer is not model.optimizer
    found = []

    def train_the_copy(epoch, logs):
        found.append(other.fit(TEXTS, batch_size=4, verbose=0).history)

    both = callbacks.LambdaCallback(on_epoch_end=train_the_copy)
    assert model.fit(TEXTS, batch_size=4, verbose=0, callbacks=both).history == found[0]
    alone.fit(TEXTS, batch_size=4, verbose=0)
    assert np.array_equal(model.params.flat, alone.params.flat)
    assert np.array_equal(other.params.flat, alone.params.flat)


def test_a_shallow_copy_of_an_optimizer_has_moments_of_its_own():
    optimizer = used().optimizer
    other = copy.copy(optimizer)
    assert other.iterations == optimizer.iterations
    assert not np.shares_memory(other.m.flat, optimizer.m.flat)


@ways
def test_a_table_of_ops_of_ones_own_is_copied_and_not_pickled(way):
    model = small_masked_lm()
    model.backbone.ops = REFERENCE.wrapped(lambda name, op: lambda *arguments: op(*arguments))
    if way is copy.deepcopy:
        assert way(model).backbone.ops is model.backbone.ops
    else:
        with pytest.raises(TypeError, match="a table of ops that is no backend's own can't be pickled"):
            way(model)


@needs_native
def test_a_pickle_from_a_machine_with_another_backend_says_what_it_takes(monkeypatch):
    from native_extension import replace_extension

    written = pickle.dumps(used("native"))
    replace_extension(monkeypatch, None)
    with pytest.warns(UserWarning, match="pickled with the backend 'native', which is not here; it takes 'numpy'"):
        model = pickle.loads(written)
    assert model.backbone.ops is get_ops("numpy")


@ways
def test_tokenizers_and_preprocessors_are_copied(way):
    one = pyroberta.MaskedLMPreprocessor(copy.deepcopy(small_tokenizer()), sequence_length=40)
    one.tokenizer.add_tokens(["<name>"])
    one(TEXTS)
    other = way(one)
    text = "She sells <name> <mask> é"
    assert other.tokenizer.encode(text) == one.tokenizer.encode(text)
    for _ in range(2):
        assert np.array_equal(one(TEXTS)[0]["token_ids"], other(TEXTS)[0]["token_ids"])
    other.tokenizer.add_tokens(["<place>"])
    assert "<place>" not in one.tokenizer.added_tokens


@ways
@pytest.mark.parametrize("name", ["adam", "adamw", "torchadam", "torchadamw"])
def test_optimizers_are_copied_with_their_state(way, name):
    optimizer = optimizers.get(name)
    optimizer.learning_rate = schedules.Linear(1e-3, 100)
    params, grads = Arrays({"w": (3,)}, "float64"), Arrays({"w": (3,)}, "float64")
    grads["w"][:] = [1.0, -2.0, 3.0]
    optimizer.apply(params, grads, ["w"], REFERENCE)
    other, other_params = way(optimizer), way(params)
    for one, its in ((optimizer, params), (other, other_params)):
        one.apply(its, grads, ["w"], REFERENCE)
    assert np.array_equal(params.flat, other_params.flat)
    assert other.iterations == 2
    assert other.m.flat is not optimizer.m.flat


@ways
def test_callbacks_are_copied_after_a_fit(way, tmp_path):
    model = small_masked_lm()
    some = [
        callbacks.History(),
        callbacks.EarlyStopping("loss", patience=3, restore_best_weights=True),
        callbacks.ModelCheckpoint(tmp_path / "saved", save_best_only=True, monitor="loss"),
        callbacks.CSVLogger(tmp_path / "log.csv"),
        callbacks.ProgressBar(0),
    ]
    history = model.fit(TEXTS, epochs=2, callbacks=some, verbose=0)
    others = way(some)
    assert others[0].history == some[0].history
    assert others[1].best == some[1].best
    assert way(history).history == history.history
    one = callbacks.CallbackList(some, model=model)
    way(one).on_epoch_end(2, {"loss": 1.0})
    others[1].model.fit(TEXTS, epochs=1, callbacks=others, verbose=0)


def test_a_model_goes_to_another_process_and_back(tmp_path):
    """As a pool of processes that are spawned does it."""
    model = used()
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
    code = """if 1:
        import pickle, sys
        model = pickle.load(open(sys.argv[1], "rb"))
        model.fit(["It is late.", "Who goes there?"], verbose=0)
        pickle.dump(model, open(sys.argv[1], "wb"))
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "model.pickle")], check=True)
    found = pickle.loads((tmp_path / "model.pickle").read_bytes())
    model.fit(["It is late.", "Who goes there?"], verbose=0)
    assert np.array_equal(found.params.flat, model.params.flat)


@ways
def test_a_tokenizer_that_is_copied_while_tokens_are_added_has_all_of_them_or_none(way):
    tokenizer, copies = copy.deepcopy(small_tokenizer()), []
    another = threading.Thread(target=lambda: copies.append(way(tokenizer)))

    class Slow(dict):
        def __setitem__(self, token, is_special):
            super().__setitem__(token, is_special)
            if not copies and not another.is_alive():
                another.start()
                another.join(0.2)  # a copy that does not wait is done now

    vars(tokenizer)["added_tokens"] = Slow()
    tokenizer.add_tokens(["<one>", "<two>"])
    another.join()
    assert copies[0].added_tokens == {"<one>": False, "<two>": False}
    assert copies[0].vocabulary == tokenizer.vocabulary


@pytest.mark.parametrize("part", ["task", "backbone"])
def test_a_model_is_not_copied_while_another_thread_changes_it_nor_changed_while_it_is_copied(part, monkeypatch):
    model = small_masked_lm(dtype="float32")
    model.preprocessor.tokenizer = copy.deepcopy(model.preprocessor.tokenizer)
    instance = model if part == "task" else model.backbone
    said = []

    def elsewhere(call):
        def attempt():
            with pytest.raises(RuntimeError) as caught:
                call()
            said.append(str(caught.value))

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()

    with model.backbone.writing("add_tokens()", makes_room=True):
        elsewhere(lambda: copy.deepcopy(instance))
        assert copy.deepcopy(instance) is not instance  # in a callback, say
    really = Arrays.__getstate__

    def changed_meanwhile(arrays):
        monkeypatch.setattr(Arrays, "__getstate__", really)
        elsewhere(lambda: model.add_tokens("<one>"))
        return really(arrays)

    monkeypatch.setattr(Arrays, "__getstate__", changed_meanwhile)
    copy.deepcopy(instance)
    assert [text.partition(" in another")[0] for text in said] == [
        "copy.deepcopy() can't read the parameters: add_tokens() has not ended yet",
        "add_tokens() can't write into the parameters: copy.deepcopy() has not ended yet",
    ]
    assert model.add_tokens("<one>") == 1
