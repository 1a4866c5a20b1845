"""Training goes on from a preset as if it had not been interrupted, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import TEXTS, small_masked_lm
from strategies import examples

from pyroberta import MaskedLM, losses, optimizers
from pyroberta.formats import safetensors_io
from pyroberta.training import schedules

KEEN = schedules.Linear(1e-2, total_steps=30, warmup_steps=4)
OPTIMIZERS = {
    "adam": lambda: optimizers.Adam(1e-2),
    "adam with a schedule": lambda: optimizers.Adam(KEEN, beta_2=0.98, epsilon=1e-6, global_clipnorm=0.5),
    "adamw": lambda: optimizers.AdamW(1e-2, weight_decay=0.1, clipnorm=0.3),
    "torchadamw": lambda: optimizers.TorchAdamW(KEEN, clipvalue=0.01),
    "adamw with names": lambda: named(optimizers.AdamW(1e-2, weight_decay=0.1)),
}


def named(optimizer: optimizers.Adam) -> optimizers.Adam:
    optimizer.exclude_from_weight_decay(var_names=["norm", r"layers\.0\..*bias$"])
    return optimizer


def fresh(optimizer: str, dtype: str = "float32", seed: int = 7) -> MaskedLM:
    model = small_masked_lm(dtype=dtype, seed=seed, dropout=0.2, attention_dropout=0.2, backend="numpy")
    model.compile(optimizer=OPTIMIZERS[optimizer]())
    return model


def fit(model: MaskedLM, first: int, last: int) -> None:
    model.fit(TEXTS, batch_size=2, initial_epoch=first, epochs=last, verbose=0)


def fitted(optimizer: str) -> MaskedLM:
    model = fresh(optimizer)
    fit(model, 0, 1)
    return model


def same(one: MaskedLM, other: MaskedLM) -> bool:
    pairs = [(m.backbone.params, m.optimizer.m, m.optimizer.v) for m in (one, other)]
    return all(a.flat.tobytes() == b.flat.tobytes() for a, b in zip(*pairs, strict=True))


@pytest.mark.parametrize(
    ("optimizer", "format"),
    [*((name, "hf") for name in OPTIMIZERS), *((name, "keras") for name in OPTIMIZERS if name != "torchadamw")],
)
def test_straight_training_equals_saved_and_loaded_training(tmp_path, optimizer, format):
    straight = fresh(optimizer)
    fit(straight, 0, 4)
    first = fresh(optimizer)
    fit(first, 0, 2)
    first.save_to_preset(tmp_path / "p", format=format, include_optimizer=True)
    second = MaskedLM.from_preset(tmp_path / "p", load_optimizer=True, backend="numpy")
    assert second.optimizer.get_saved_config() == straight.optimizer.get_saved_config()
    assert (second.seed, second.optimizer.iterations) == (7, 6)
    assert same(second, first)
    fit(second, 2, 4)
    assert same(second, straight)
    fit(first, 2, 3)
    assert not same(first, second)


def test_what_does_not_decay_is_saved_by_name_and_no_pattern():
    model = fitted("adamw with names")
    kept = model.optimizer.get_saved_config()["exclude_from_weight_decay"]
    assert set(kept) <= set(model.params)
    assert "layers.0.attention.query.bias" in kept
    assert "layers.1.attention.query.bias" not in kept
    assert "exclude_from_weight_decay" not in fitted("torchadamw").optimizer.get_saved_config()


@examples(5)
@given(epochs=st.tuples(st.integers(1, 2), st.integers(0, 2)), dtype=st.sampled_from(["float32", "float64"]))
def test_wherever_it_is_cut_in_either_width(epochs, dtype, tmp_path_factory):
    n, m = epochs
    straight, cut = fresh("adamw", dtype), fresh("adamw", dtype)
    fit(straight, 0, n + m)
    fit(cut, 0, n)
    directory = tmp_path_factory.mktemp("cut") / "p"
    cut.save_to_preset(directory, dtype=dtype, include_optimizer=True)
    again = MaskedLM.from_preset(directory, load_optimizer=True, dtype=dtype, backend="numpy")
    fit(again, n, n + m)
    assert same(again, straight)


def test_another_loss_is_set_without_starting_the_optimizer_anew(tmp_path):
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)  # over all slots
    straight = fresh("adam")
    straight.compile(optimizer=OPTIMIZERS["adam"](), loss=loss)
    fit(straight, 0, 1)
    straight.save_to_preset(tmp_path / "p", include_optimizer=True)
    again = MaskedLM.from_preset(tmp_path / "p", load_optimizer=True, backend="numpy")
    again.loss = loss
    fit(straight, 1, 2)
    fit(again, 1, 2)
    assert same(again, straight)


def test_a_given_seed_holds_over_the_saved_one(tmp_path):
    model = fresh("adam")
    fit(model, 0, 1)
    model.save_to_preset(tmp_path / "p", include_optimizer=True)
    assert MaskedLM.from_preset(tmp_path / "p", load_optimizer=True, seed=3).seed == 3
    assert MaskedLM.from_preset(tmp_path / "p", load_optimizer=True, seed=0).seed == 0
    assert MaskedLM.from_preset(tmp_path / "p").seed == 0
    assert MaskedLM.from_preset(tmp_path / "p").optimizer.iterations == 0


def test_presets_are_small_unless_asked_and_a_later_save_leaves_no_old_state(tmp_path):
    model = fresh("adam")
    fit(model, 0, 1)
    for format in ("hf", "keras"):
        model.save_to_preset(tmp_path / format, format=format, include_optimizer=True)
        large = sum(file.stat().st_size for file in (tmp_path / format).rglob("*.*"))
        model.save_to_preset(tmp_path / format, format=format)
        small = sum(file.stat().st_size for file in (tmp_path / format).rglob("*.*"))
        assert large - small > 2 * model.backbone.params.flat.nbytes
        with pytest.raises(FileNotFoundError, match=r"has no optimizer's state .*include_optimizer=True"):
            MaskedLM.from_preset(tmp_path / format, load_optimizer=True)


def test_there_is_no_state_before_the_first_update_and_none_for_fresh_weights(tmp_path):
    with pytest.raises(ValueError, match="the optimizer has no state before its first update"):
        fresh("adam").save_to_preset(tmp_path / "p", include_optimizer=True)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="load_optimizer=True continues from the preset's weights"):
        MaskedLM.from_preset("roberta_tiny_en", load_optimizer=True, load_weights=False)


def saved(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray], dict[str, object]]:
    model = fresh("adam")
    fit(model, 0, 1)
    model.save_to_preset(tmp_path / "p", include_optimizer=True)
    file = tmp_path / "p" / "pyroberta_optimizer.safetensors"
    tensors = {name: np.array(tensor.array()) for name, tensor in safetensors_io.read(file).items()}
    return file, tensors, json.loads(safetensors_io.read_with_metadata(file)[1]["training"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": {"name": "sgd"}}, "optimizer must be one of adam"),
        ({"optimizer": {"name": {"x": 1}}}, "this is not the config of an optimizer"),
        ({"optimizer": {"name": "adam", "momentum": 1}}, "this is not the config of an optimizer.*momentum"),
        ({"optimizer": {"learning_rate": 1.0}}, "this is not the config of an optimizer"),
        ({"optimizer": {"name": "adam", "exclude_from_weight_decay": ["("]}}, "this is not the config of an optimizer"),
        ({"optimizer": "adam"}, "the optimizer's config should be an object, it is a str"),
        ({"iterations": -1}, r"iterations should be a whole number of at least 0, and below 2\*\*44, got -1"),
        ({"iterations": "3"}, "iterations should be a whole number of at least 0, .* got '3'"),
        ({"seed": None}, "seed should be a whole number"),
    ],
)
def test_a_state_that_is_none_is_an_error(tmp_path, changes, message):
    file, tensors, rest = saved(tmp_path)
    safetensors_io.write(file, tensors, metadata={"training": json.dumps(rest | changes)})
    with pytest.raises(ValueError, match=message):
        MaskedLM.from_preset(tmp_path / "p", load_optimizer=True)


def test_a_state_without_its_config_or_of_another_model_is_an_error(tmp_path):
    file, tensors, rest = saved(tmp_path)
    safetensors_io.write(file, tensors)
    with pytest.raises(ValueError, match="does not name its optimizer"):
        MaskedLM.from_preset(tmp_path / "p", load_optimizer=True)
    del tensors["m.head.bias"]
    safetensors_io.write(file, tensors, metadata={"training": json.dumps(rest)})
    with pytest.raises(ValueError, match=r"lacks 1 of the .* tensors .*: m\.head\.bias"):
        MaskedLM.from_preset(tmp_path / "p", load_optimizer=True)


@pytest.mark.parametrize("format", ["hf", "keras"])
def test_calls_of_fit_without_initial_epoch_go_on_with_passes_of_their_own(tmp_path, format):
    straight = fresh("adam")
    for _ in range(3):
        straight.fit(TEXTS, batch_size=2, verbose=0)
    cut = fresh("adam")
    for _ in range(2):
        cut.fit(TEXTS, batch_size=2, verbose=0)
    cut.save_to_preset(tmp_path / "p", format=format, include_optimizer=True)
    again = MaskedLM.from_preset(tmp_path / "p", load_optimizer=True, backend="numpy")
    again.fit(TEXTS, batch_size=2, verbose=0)
    assert same(again, straight)
