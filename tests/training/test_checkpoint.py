"""A checkpoint is a file from which training goes on bit for bit; what is damaged is refused."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resuming import MANY, WAYS, Keeping, fresh, same
from small_models import small_masked_lm
from strategies import examples

from pyroberta import MaskedLM, callbacks, optimizers
from pyroberta.formats import safetensors_io
from pyroberta.model.parameters import Arrays
from pyroberta.training import checkpoint
from pyroberta.training.checkpoint import KEY


class Saving(callbacks.Callback):
    """Saves the state after some update."""

    def __init__(self, file: Path, updates: int = -1) -> None:
        super().__init__()
        self.file, self.updates = file, updates

    def on_train_batch_end(self, batch, logs=None) -> None:
        if self.model.optimizer.iterations == self.updates:
            checkpoint.save(self.file, self.model.train_state(), notes={"updates": self.updates})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("updates", [2, 5, 7])
def test_training_goes_on_from_a_file_in_the_midst_of_an_epoch_bit_for_bit(tmp_path, way: str, updates: int):
    file = tmp_path / "runs" / "state.safetensors"
    straight, resumed = fresh(), fresh()
    expected = straight.fit(MANY, callbacks=[Saving(file, updates)], verbose=0, **WAYS[way])
    state, notes = checkpoint.load(file)
    assert notes == {"updates": updates}
    resumed.load_train_state(state)
    found = resumed.fit(MANY, callbacks=[Saving(file)], verbose=0, **WAYS[way])
    assert same(resumed, straight)
    assert found.history == expected.history


def test_a_learning_rate_that_was_set_goes_through_the_file(tmp_path):
    model, resumed = fresh(), fresh()
    model.fit(MANY, batch_size=4, verbose=0)
    model.optimizer.learning_rate = 0.02
    checkpoint.save(tmp_path / "state", model.train_state())
    resumed.load_train_state(checkpoint.load(tmp_path / "state")[0])
    assert resumed.optimizer.learning_rate == 0.02
    for schedule in (optimizers.AdamW(1e-3), optimizers.AdamW(fresh().optimizer._learning_rate)):
        other = fresh(optimizer=schedule)
        other.load_train_state(checkpoint.load(tmp_path / "state")[0])
        assert other.optimizer.learning_rate == 0.02


def test_what_callbacks_keep_goes_through_the_file(tmp_path):
    def stopping() -> callbacks.EarlyStopping:
        return callbacks.EarlyStopping("loss", min_delta=10.0, patience=3, restore_best_weights=True)

    file, straight, resumed = tmp_path / "state.safetensors", fresh(), fresh()
    straight.fit(MANY, batch_size=4, epochs=9, callbacks=[stopping(), Saving(file, 12)], verbose=0)
    resumed.load_train_state(checkpoint.load(file)[0])
    resumed.fit(MANY, batch_size=4, epochs=9, callbacks=[stopping(), Saving(file)], verbose=0)
    assert same(resumed, straight)


def state_of(dtype: str = "float32"):
    model = small_masked_lm(dtype=dtype, backend="numpy")
    model.fit(MANY, batch_size=6, verbose=0)
    return model.train_state()


STATE = state_of()
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(width=64) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@examples(40)
@given(notes=st.dictionaries(st.text(max_size=5), values, max_size=3))
def test_notes_come_back_as_they_were(notes, tmp_path_factory):
    file = tmp_path_factory.mktemp("notes") / "state"
    checkpoint.save(file, STATE, notes)
    assert repr(checkpoint.load(file)[1]) == repr(notes)  # NaN is not equal to itself


def test_numpys_numbers_and_arrays_come_back_as_pythons_and_arrays(tmp_path):
    notes = {
        "a": np.float32(0.5),
        "b": np.int64(3),
        "c": np.bool_(True),
        "d": (1, math.inf),
        "e": np.arange(3, dtype="f4"),
    }
    checkpoint.save(tmp_path / "state", STATE, notes)
    found = checkpoint.load(tmp_path / "state")[1]
    assert found.pop("e").tolist() == [0.0, 1.0, 2.0]
    assert found == {"a": 0.5, "b": 3, "c": True, "d": [1, math.inf]}


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ({"f": print}, "a checkpoint keeps texts, numbers, arrays, lists and dicts with names, not"),
        ({"f": {1: 2}}, "a checkpoint keeps texts"),
        ({"f": np.arange(3)}, "have an array of int64; a checkpoint keeps arrays of the parameters' dtype, float32"),
        ({"__array__": "params.head.bias"}, "'__array__' is a name that checkpoints use themselves"),
    ],
)
def test_what_a_file_has_no_form_for_is_refused_and_nothing_is_written(tmp_path, notes, message: str):
    with pytest.raises((TypeError, ValueError), match=message):
        checkpoint.save(tmp_path / "state", STATE, notes)
    assert list(tmp_path.iterdir()) == []


def rest_of(file: Path) -> dict:
    return json.loads(safetensors_io.read_with_metadata(file)[1][KEY])


def rewritten(file: Path, change) -> None:
    """The same file after `change` of its tensors and of what its metadata has."""
    tensors = {name: stored.array() for name, stored in safetensors_io.read(file).items()}
    rest = rest_of(file)
    change(tensors, rest)
    safetensors_io.write(file, tensors, "float32", {KEY: json.dumps(rest)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, rest: rest.update(version=1), "its version is 1, but only version 2 can be read"),
        (lambda tensors, rest: rest.update(step=-1), "its step should be a whole number from 0"),
        (lambda tensors, rest: rest.update(step=True), "its step should be a whole number from 0"),
        (lambda tensors, rest: rest.pop("position"), "position"),
        (lambda tensors, rest: rest.update(slots=["m", "w"]), "it has a tensor that is not part of a state, 'slots.v."),
        (lambda tensors, rest: tensors.pop("slots.m.head.bias"), "the tensors of 'slots.m' do not have the layout of"),
        (lambda tensors, rest: tensors.update({"slots.v.head.bias": np.ones(3)}), "'slots.v' do not have the layout"),
        (lambda tensors, rest: rest.update(metrics={"loss": 3}), "not a valid checkpoint"),
        (lambda tensors, rest: rest.update(notes={"a": {"__array__": "nowhere"}}), "nowhere"),
        (lambda tensors, rest: tensors.clear(), "its tensors should be all float32 or all float64"),
        (lambda tensors, rest: tensors.update(more=np.ones(3)), "a tensor that is not part of a state, 'more'"),
        (lambda tensors, rest: tensors.update({"arrays.7": np.ones(3)}), "nothing refers to its array '7'"),
        (lambda tensors, rest: rest.update(version=True), "its version is True"),
        (lambda tensors, rest: rest.update(slots="mv"), "its slots should be a list of up to 8 different names"),
        (lambda tensors, rest: rest.update(slots=[f"s{i}" for i in range(9)]), "its slots should be a list of up to 8"),
        (lambda tensors, rest: rest.update(step=1 << 44), "its step should be a whole number from 0 to 2\\*\\*44 - 1"),
        (lambda tensors, rest: rest.update(data_pass=1 << 60), "its data_pass should be a whole number"),
        (lambda tensors, rest: rest.update(stop_training="no"), "stop_training is 'no', which training can't give"),
        (lambda tensors, rest: rest.update(callbacks=3), "its learning rate or its callbacks have another type"),
        (lambda tensors, rest: rest.update(learning_rate=[1]), "its learning rate or its callbacks have"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_by_its_name_and_what_is_wrong(tmp_path, change, message: str):
    file = tmp_path / "state.safetensors"
    checkpoint.save(file, STATE)
    rewritten(file, change)
    with pytest.raises(ValueError, match=message) as caught:
        checkpoint.load(file)
    assert str(file) in str(caught.value)


def test_what_is_no_checkpoint_is_told_from_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "nothing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="text is not a safetensors file"):
        checkpoint.load(tmp_path / "text")
    MaskedLM.from_preset("roberta_tiny_en").save_to_preset(tmp_path / "preset")
    with pytest.raises(ValueError, match="is not a checkpoint of training: its metadata has no"):
        checkpoint.load(tmp_path / "preset" / "model.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_file_that_is_cut_short_is_refused(tmp_path, share: float):
    file = tmp_path / "state.safetensors"
    checkpoint.save(file, STATE)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"state\.safetensors"):
        checkpoint.load(file)


def test_a_process_that_is_killed_leaves_a_whole_file_from_which_another_goes_on(tmp_path):
    """Killed without warning in the midst of training, while it saves after every update."""
    code = """
import os, signal, sys
sys.path.insert(0, "tests/support")
from resuming import MANY, fresh
from pyroberta import callbacks
from pyroberta.training import checkpoint
class Killing(callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        checkpoint.save(sys.argv[1], self.model.train_state())
        if self.model.optimizer.iterations == 8:
            os.kill(os.getpid(), signal.SIGKILL)
fresh().fit(MANY, batch_size=4, epochs=3, callbacks=[Killing()], verbose=0)
"""
    file = tmp_path / "state.safetensors"
    done = subprocess.run([sys.executable, "-c", code, str(file)], cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    straight, resumed = fresh(), fresh()
    straight.fit(MANY, batch_size=4, epochs=3, verbose=0)
    state, _ = checkpoint.load(file)
    assert state.step == 8

    class Killing(callbacks.Callback):
        pass

    resumed.load_train_state(state)
    resumed.fit(MANY, batch_size=4, epochs=3, callbacks=[Killing()], verbose=0)
    assert same(resumed, straight)


def test_both_widths_and_loras_factors_are_kept(tmp_path):
    for dtype in ("float32", "float64"):
        model = small_masked_lm(dtype=dtype, backend="numpy")
        model.backbone.enable_lora(2)
        model.compile("adamw")
        keeping = Keeping(2)
        model.fit(MANY, batch_size=4, callbacks=[keeping], verbose=0)
        checkpoint.save(tmp_path / "state", keeping.kept)
        state, _ = checkpoint.load(tmp_path / "state")
        assert state.params.dtype == dtype
        assert state.params.flat.tobytes() == keeping.kept.params.flat.tobytes()
        assert list(state.params) == list(model.params)
        assert "layers.0.attention.query.lora_a" in state.params


def test_a_checkpoint_of_float64_is_not_taken_into_a_model_of_float32(tmp_path):
    checkpoint.save(tmp_path / "state", state_of("float64"))
    model = small_masked_lm(dtype="float32")
    with pytest.raises(ValueError, match="the state is in float64, but this model in float32"):
        model.load_train_state(checkpoint.load(tmp_path / "state")[0])
    assert os.listdir(tmp_path) == ["state"]


class Momentum(optimizers.Optimizer):
    """Another optimizer than Adam: one slot, and an update that is written with NumPy's operators."""

    slot_names = ("velocity",)

    def update_range(self, ops, rate, step, params, grads, slots, scale, decay, is_finite):
        if is_finite:
            slots["velocity"] *= 0.9
            slots["velocity"] -= rate * scale * grads
            params -= decay * params
            params += slots["velocity"]


def test_an_optimizer_with_other_slots_trains_and_goes_on(tmp_path):
    file = tmp_path / "state.safetensors"
    straight, resumed = (fresh(optimizer=Momentum(0.05, weight_decay=0.1, global_clipnorm=1.0)) for _ in range(2))
    expected = straight.fit(MANY, batch_size=4, epochs=2, callbacks=[Saving(file, 7)], verbose=0).history
    assert expected["loss"][-1] < expected["loss"][0]
    state, _ = checkpoint.load(file)
    assert list(state.slots) == ["velocity"]
    resumed.load_train_state(state)
    assert resumed.fit(MANY, batch_size=4, epochs=2, callbacks=[Saving(file)], verbose=0).history == expected
    assert same(resumed, straight)
    with pytest.raises(ValueError, match="the state has the slots velocity, but the optimizer, AdamW, has m, v"):
        fresh().load_train_state(state)
    with pytest.raises(ValueError, match="Momentum is a class of your own, which a preset can't name"):
        straight.save_to_preset(tmp_path / "preset", include_optimizer=True)


def test_an_array_of_a_file_is_read_once_however_often_it_is_named(tmp_path):
    """Otherwise a small file could ask for any amount of memory."""
    file = tmp_path / "state"
    checkpoint.save(file, STATE, {"a": np.ones(1000, np.float32)})
    rewritten(file, lambda tensors, rest: rest.update(notes={"many": [rest["notes"]["a"]] * 20_000}))
    with pytest.raises(ValueError, match=r"state is not a valid checkpoint: '\d+'"):
        checkpoint.load(file)


@pytest.mark.parametrize(
    "notes",
    [
        {"a": 10**50},
        {"a": "\ud800"},
        {"a": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]},
    ],
    ids=["a long number", "half a character", "deep"],
)
def test_what_could_not_be_read_again_is_not_written(tmp_path, notes):
    checkpoint.save(tmp_path / "state", STATE, {"before": 1})
    with pytest.raises(ValueError, match="checkpoint"):
        checkpoint.save(tmp_path / "state", STATE, notes)
    assert checkpoint.load(tmp_path / "state")[1] == {"before": 1}


def test_notes_that_hold_themselves_are_refused(tmp_path):
    notes: dict = {}
    notes["self"] = notes
    with pytest.raises(ValueError, match="nested up to 30 deep, and none that contains itself"):
        checkpoint.save(tmp_path / "state", STATE, notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: setattr(state, "learning_rate", -1.0), "learning_rate must be a number >= 0"),
        (lambda state: setattr(state, "learning_rate", "abc"), "the state's learning_rate is 'abc'"),
        (lambda state: setattr(state, "learning_rate", {"name": "nowhere"}), "nowhere"),
        (lambda state: setattr(state, "seed", -1), "seed should be a whole number from 0 to"),
        (lambda state: state.slots["v"].flat.__setitem__(3, -1.0), "a number that training can't give, -1.0"),
        (lambda state: state.slots["m"].flat.__setitem__(3, np.nan), "a number that training can't give, nan"),
        (lambda state: state.slots.update(m=state.slots["v"].__class__({"a": (2,)})), "the optimizer's state: m"),
    ],
)
def test_a_state_that_is_refused_has_changed_nothing(change, message: str):
    state, model = copy.deepcopy(STATE), small_masked_lm(dtype="float32")
    model.fit(MANY, batch_size=6, verbose=0)
    before = [model.params.flat.copy(), *(slot.flat.copy() for slot in model.optimizer.slots.values())]
    change(state)
    with pytest.raises((ValueError, TypeError), match=message):
        model.load_train_state(state)
    now = [model.params.flat, *(slot.flat for slot in model.optimizer.slots.values())]
    assert all(np.array_equal(a, b) for a, b in zip(now, before, strict=True))
    assert model.optimizer.iterations == 3
    model.fit(MANY, batch_size=6, verbose=0)  # begins a new pass, as if nothing had been tried


def test_saving_takes_no_second_copy_of_the_vectors(tmp_path):
    params = Arrays({"head.big": (1000, 1000)}, np.float32)
    state = checkpoint.TrainState(params, {"m": params.zeros_like(), "v": params.zeros_like()})
    tracemalloc.start()
    try:
        checkpoint.save(tmp_path / "state", state)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.5 * params.flat.nbytes


def test_a_model_in_place_of_a_state_is_named(tmp_path):
    with pytest.raises(
        TypeError, match=r"state should be a TrainState, as model\.train_state\(\) returns it; got a MaskedLM"
    ):
        checkpoint.save(tmp_path / "state", small_masked_lm())
