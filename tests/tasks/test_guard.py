"""One writer at a time, and no update that is cut in two."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from small_models import TEXTS, small_masked_lm

from pyroberta import MaskedLM, callbacks
from pyroberta.formats.interrupts import uninterrupted

KERNEL = "layers.0.attention.query.kernel"


def model():
    return small_masked_lm(dtype="float32", backend="auto")


# --- changing ---------------------------------------------------------------------------------------------------------


def test_changes_are_taken_over_at_the_end_and_all_at_once():
    lm = model()
    before, answer = lm.params.flat.copy(), lm.fill_mask("It is <mask>.")
    with lm.backbone.changing() as params:
        params[KERNEL][:] *= 2.0
        params["head.bias"][3] = 1.0
        assert np.array_equal(lm.params.flat, before)
        assert lm.fill_mask("It is <mask>.") == answer  # the values from before, kernel and bias alike
    assert np.array_equal(lm.params[KERNEL], 2.0 * before[slice(*lm.params.ranges[KERNEL])].reshape(8, 8))
    assert lm.params["head.bias"][3] == 1.0
    assert lm.fill_mask("It is <mask>.") != answer


def test_a_block_that_raises_changes_nothing():
    lm = model()
    before = lm.params.flat.copy()
    with pytest.raises(KeyboardInterrupt), lm.backbone.changing() as params:  # noqa: PT012
        params[KERNEL][:] *= 2.0
        raise KeyboardInterrupt
    assert np.array_equal(lm.params.flat, before)
    with lm.backbone.changing():
        pass  # it has ended, and another may begin


def test_a_view_that_is_kept_changes_nothing():
    lm = model()
    with lm.backbone.changing() as params:
        kept = params["head.bias"]
    kept[:] = 9.0
    assert not (lm.params["head.bias"] == 9.0).any()


def test_names_choose_what_is_handed_out():
    lm = model()
    with lm.backbone.changing(["head.bias"]) as params:
        assert list(params) == ["head.bias"]
        params["head.bias"][:] = 2.0
    assert (lm.params["head.bias"] == 2.0).all()
    with (
        pytest.raises(ValueError, match=r"no parameter is named 'head.bais'; names look like 'embeddings.token'"),
        lm.backbone.changing(["head.bais"]),
    ):
        pass
    with (
        pytest.raises(TypeError, match=r"names should be a list of .* got a text\. Pass \['head.bias'\]"),
        lm.backbone.changing("head.bias"),
    ):
        pass
    with pytest.raises(TypeError, match=r"pattern should be a regular expression .*; got \['head.bias'\]"):
        lm.backbone.freeze(["head.bias"])


WRITERS = {
    "changing": lambda lm: lm.backbone.changing().__enter__(),
    "fit": lambda lm: lm.fit(TEXTS, verbose=0),
    "train_on_batch": lambda lm: lm.train_on_batch(TEXTS),
    "set_weights": lambda lm: lm.set_weights(lm.get_weights()),
    "enable_lora": lambda lm: lm.backbone.enable_lora(2),
    "resize_token_embeddings": lambda lm: lm.resize_token_embeddings(lm.backbone.config.vocabulary_size + 3),
    "add_tokens": lambda lm: lm.add_tokens(["<name>"]),
}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


def in_a_thread(call) -> BaseException | None:
    found: list[BaseException | None] = []

    def work() -> None:
        try:
            call()
        except BaseException as error:
            found.append(error)
        else:
            found.append(None)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


@writers
def test_nobody_else_writes_within_changing(write):
    lm = model()
    with lm.backbone.changing() as params:
        params["head.bias"][:] = 2.0
        with pytest.raises(RuntimeError, match=r"can't write into .*: changing\(\) has not ended yet\. Only one"):
            write(lm)
        error = in_a_thread(lambda: write(lm))
        assert isinstance(error, RuntimeError)
        assert "changing() has not ended yet in another thread" in str(error)
    assert (lm.params["head.bias"] == 2.0).all()
    assert lm.history is None
    lm.fit(TEXTS, verbose=0)


# --- fit --------------------------------------------------------------------------------------------------------------


@writers
def test_another_thread_may_not_write_during_a_fit_but_read(write):
    lm, found = model(), []

    class Meddler(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            found.append(in_a_thread(lambda: write(lm)))
            found.append(in_a_thread(lambda: (lm.fill_mask("It is <mask>."), lm.evaluate(TEXTS, verbose=0))))

    lm.fit(TEXTS, batch_size=3, verbose=0, callbacks=Meddler())
    alone = model()
    alone.fit(TEXTS, batch_size=3, verbose=0)
    assert np.array_equal(lm.params.flat, alone.params.flat)
    assert [type(error) for error in found] == [RuntimeError, type(None)] * 2
    assert "fit() has not ended yet in another thread" in str(found[0])


def test_a_callback_may_change_the_parameters_between_updates():
    lm = model()

    class Reset(callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            with self.model.backbone.changing(["head.bias"]) as params:
                params["head.bias"][:] = 5.0

        def on_epoch_end(self, epoch, logs=None):
            self.model.train_on_batch(TEXTS)
            self.model.set_weights(self.model.get_weights())

    lm.fit(TEXTS, verbose=0, callbacks=Reset())
    assert np.abs(lm.params["head.bias"] - 5.0).max() < 0.1


def test_a_fit_within_a_fit_is_refused():
    lm = model()
    again = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: lm.fit(TEXTS, verbose=0))
    with pytest.raises(RuntimeError, match=r"fit\(\) can't write into the parameters: fit\(\) has not ended yet"):
        lm.fit(TEXTS, verbose=0, callbacks=again)
    lm.fit(TEXTS, verbose=0)


def test_two_tasks_that_share_a_backbone_do_not_train_at_once():
    lm = model()
    other = type(lm)(lm.backbone, lm.preprocessor)
    again = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: other.fit(TEXTS, verbose=0))
    with pytest.raises(RuntimeError, match="has not ended yet"):
        lm.fit(TEXTS, verbose=0, callbacks=again)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_child_that_is_forked_during_a_fit_may_train():
    code = """if 1:
        import os, sys, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from small_models import TEXTS, small_masked_lm
        from pyroberta import callbacks
        lm = small_masked_lm()
        def fork(epoch, logs):
            child = os.fork()
            if not child:
                thread = threading.Thread(target=lambda: lm.fit(TEXTS, verbose=0))
                thread.start(), thread.join()
                lm.fit(TEXTS, verbose=0)
                os._exit(0)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        lm.fit(TEXTS, verbose=0, callbacks=callbacks.LambdaCallback(on_epoch_end=fork))
    """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0", done.stderr


def test_an_update_does_not_begin_while_a_callback_has_changes_open():
    lm = model()

    class Open(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.block = self.model.backbone.changing()
            self.block.__enter__()

    with pytest.raises(RuntimeError, match=r"an update can't write .*: changing\(\) has not ended yet"):
        lm.fit(TEXTS, verbose=0, callbacks=Open())


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_while_a_writer_is_let_in_leaves_nobody_behind(when, monkeypatch):
    from pyroberta.model.guard import WriteGuard

    really = WriteGuard.enter

    def interrupted(self, me):
        if when == "after":
            really(self, me)
        raise KeyboardInterrupt

    lm = model()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(WriteGuard, "enter", interrupted)
        lm.fit(TEXTS, verbose=0)
    lm.fit(TEXTS, verbose=0)


def test_an_evaluation_in_another_thread_or_a_callback_has_metrics_of_its_own():
    lm, alone = model(), model()
    wanted = alone.fit(TEXTS, batch_size=2, verbose=0).history
    value = alone.evaluate(TEXTS[:2], verbose=0)
    found = []

    class Ask(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            lm.evaluate(TEXTS, verbose=0)
            in_a_thread(lambda: lm.test_on_batch(TEXTS[:3]))

        def on_train_end(self, logs=None):
            found.append(lm.evaluate(TEXTS[:2], verbose=0))

    assert lm.fit(TEXTS, batch_size=2, verbose=0, callbacks=Ask()).history == wanted
    assert found == [value]


# --- interrupts -------------------------------------------------------------------------------------------------------


def test_an_interrupt_waits_for_the_end_of_an_update():
    lm, done = model(), []
    plain = lm.backbone.ops

    def interrupting(name, op):
        def call(*arguments):
            if name == "adam_step":
                signal.raise_signal(signal.SIGINT)
            result = op(*arguments)
            if name == "adam_step":
                done.append(name)
            return result

        return call

    lm.compile("torchadamw")  # decays some parameters: an update of many parts
    lm.backbone.ops = plain.wrapped(interrupting)
    with pytest.raises(KeyboardInterrupt):
        lm.fit(TEXTS, batch_size=6, epochs=5, verbose=0)
    other = model()
    other.compile("torchadamw")
    other.fit(TEXTS, batch_size=6, epochs=1, verbose=0)
    assert len(done) > 1
    assert lm.optimizer.iterations == 1
    assert np.array_equal(lm.params.flat, other.params.flat)
    lm.backbone.ops = plain
    lm.fit(TEXTS, verbose=0)


def test_the_programs_own_handler_is_called_and_comes_back():
    came = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        handler = signal.getsignal(signal.SIGINT)
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            assert came == []
        assert came == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def interrupted_by(*signals):
    with uninterrupted():
        for number in signals:
            signal.raise_signal(number)


def test_no_signal_is_lost_behind_another():
    came = []

    def fail(number, frame):
        came.append(number)
        raise TimeoutError("too long")

    signals = (signal.SIGALRM, signal.SIGTERM, signal.SIGINT)
    handlers = (lambda number, frame: came.append(number), fail, signal.default_int_handler)
    before = [signal.signal(number, handler) for number, handler in zip(signals, handlers, strict=True)]
    try:
        with pytest.raises(KeyboardInterrupt) as raised:
            interrupted_by(*signals)
        assert came == [signal.SIGALRM, signal.SIGTERM]
        assert isinstance(raised.value.__context__, TimeoutError)
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


@pytest.mark.parametrize("ignored", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_program_without_a_handler_of_its_own_keeps_none(ignored):
    before = signal.signal(signal.SIGINT, ignored)
    try:
        with uninterrupted():
            assert signal.getsignal(signal.SIGINT) is ignored
    finally:
        signal.signal(signal.SIGINT, before)


# --- what freezes and stops -------------------------------------------------------------------------------------------


def test_a_task_that_is_not_trainable_trains_nothing():
    lm = model()
    before = lm.params.flat.copy()
    lm.trainable = False
    assert not lm.trainable
    assert not lm.backbone.trainable
    for call in (lambda: lm.fit(TEXTS, verbose=0), lambda: lm.train_on_batch(TEXTS)):
        with pytest.raises(ValueError, match="every parameter is frozen, so there is nothing to train"):
            call()
    assert np.array_equal(lm.params.flat, before)
    lm.trainable = True
    lm.fit(TEXTS, verbose=0)
    assert not np.array_equal(lm.params.flat, before)


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_train_batch_begin", "on_train_batch_end", "on_epoch_end"])
def test_a_callback_that_freezes_all_there_is_ends_the_fit(hook):
    lm = model()
    freeze = callbacks.LambdaCallback(**{hook: lambda number, logs: setattr(lm, "trainable", False)})
    with pytest.raises(ValueError, match="every parameter is frozen, so there is nothing to train"):
        lm.fit(TEXTS, batch_size=3, epochs=2, verbose=0, callbacks=freeze)
    lm.trainable = True
    lm.fit(TEXTS, verbose=0)


def test_a_callback_may_freeze_some():
    lm = model()
    freeze = callbacks.LambdaCallback(on_epoch_begin=lambda number, logs: setattr(lm.backbone, "trainable", False))
    before = lm.params.flat.copy()
    lm.fit(TEXTS, verbose=0, callbacks=freeze)
    assert not np.array_equal(lm.params.flat, before)


def test_an_evaluation_can_be_stopped_and_tells_its_logs():
    lm, seen = model(), []

    class Stop(callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            seen.append(dict(logs))
            self.model.stop_evaluating = batch == 1

    def endless():
        while True:
            yield TEXTS

    values = lm.evaluate(endless(), steps=10**9, callbacks=Stop(), verbose=0, return_dict=True)
    assert len(seen) == 2
    assert values == seen[-1]
    assert set(values) == {"loss", "accuracy", "perplexity"}
    lm.evaluate(TEXTS, verbose=0)
    assert not lm.stop_evaluating


def test_a_prediction_can_be_stopped():
    lm = model()
    stop = callbacks.LambdaCallback(on_predict_batch_end=lambda batch, logs: setattr(lm, "stop_predicting", True))
    assert len(lm.predict(["a <mask>"] * 5, batch_size=2, callbacks=stop, verbose=0)) == 2
    assert len(lm.predict(["a <mask>"] * 5, batch_size=2, verbose=0)) == 5


@pytest.mark.parametrize("name", ["train_step", "compute_loss", "call"])
def test_a_subclass_that_defines_what_keras_calls_is_refused(name):
    with pytest.raises(TypeError, match=f"Mine defines {name}, which Keras would call but pyroberta does not"):
        type("Mine", (MaskedLM,), {name: lambda self, *arguments: None})
    type("Mine", (MaskedLM,), {"saved_at": 3, "save": lambda self: None})  # its own business
