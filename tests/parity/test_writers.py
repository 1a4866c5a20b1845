"""What is written here the peers load, and answer alike: transformers HF's directories, keras-hub its own presets.

Keras runs on torch, in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy import ndarray as Array
from small_models import TEXTS, random_params, small_masked_lm
from small_presets import load

from pyroberta import MaskedLM, losses, optimizers
from pyroberta.formats import safetensors_io
from pyroberta.formats.encoding import to_bfloat16
from pyroberta.formats.shards import split

pytestmark = pytest.mark.parity

DTYPES = ("float32", "float16", "bfloat16")
FEATURES = {
    "token_ids": np.array([[0, 5, 9, 30, 2, 1, 1], [0, 7, 7, 8, 9, 10, 2]]),
    "padding_mask": np.array([[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]]),
    "mask_positions": np.array([[1, 3], [2, 5]]),
}
SETTINGS = {"sequence_length": 12, "mask_selection_rate": 0.25, "mask_selection_length": 3, "truncate": "waterfall"}


def model(seed: int = 0, **changes: Any) -> MaskedLM:
    """Random weights, gammas and betas too: a head that were left fresh would be seen."""
    made = small_masked_lm(dtype="float32", settings=SETTINGS, **{"hidden_dim": 16, "backend": "numpy", **changes})
    with made.backbone.changing() as params:
        params.flat[:] = random_params(made.backbone.config, seed, np.float32).flat
    return made


def as_stored(directory: Path) -> Array:
    """The logits of the numbers that are stored, at the slots of FEATURES."""
    return MaskedLM.from_preset(directory, backend="numpy")(FEATURES)


# --- transformers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", ["5GB", "9KB"])
def test_transformers_loads_every_width_and_shards_with_equal_logits(tmp_path: Path, dtype: str, size: str) -> None:
    import torch
    from transformers import RobertaForMaskedLM

    model().save_to_preset(tmp_path / "p", dtype=dtype, max_shard_size=size)
    assert (tmp_path / "p" / "model.safetensors.index.json").exists() is (size == "9KB")
    peer, report = RobertaForMaskedLM.from_pretrained(tmp_path / "p", dtype=torch.float32, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids, mask = (torch.tensor(FEATURES[name]) for name in ("token_ids", "padding_mask"))
    with torch.no_grad():
        logits = peer.eval()(input_ids=ids, attention_mask=mask).logits.numpy()
    wanted = np.take_along_axis(logits, FEATURES["mask_positions"][:, :, None], axis=1)
    np.testing.assert_allclose(as_stored(tmp_path / "p"), wanted, rtol=0, atol=1e-4)
    automatic = RobertaForMaskedLM.from_pretrained(tmp_path / "p", dtype="auto")
    assert automatic.dtype is getattr(torch, dtype)


def test_an_encoder_alone_is_transformers_roberta_model(tmp_path: Path) -> None:
    import torch
    from transformers import RobertaModel

    made = model()
    made.backbone.save_to_preset(tmp_path / "p")
    peer, report = RobertaModel.from_pretrained(tmp_path / "p", output_loading_info=True, add_pooling_layer=False)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids, mask = (torch.tensor(FEATURES[name]) for name in ("token_ids", "padding_mask"))
    with torch.no_grad():
        hidden = peer.eval()(input_ids=ids, attention_mask=mask).last_hidden_state.numpy()
    ours = made.backbone({name: FEATURES[name] for name in ("token_ids", "padding_mask")})
    is_token = FEATURES["padding_mask"] == 1
    np.testing.assert_allclose(ours[is_token], hidden[is_token], rtol=0, atol=1e-4)


def test_the_index_is_that_of_transformers(tmp_path: Path) -> None:
    from transformers import RobertaForMaskedLM

    model().save_to_preset(tmp_path / "ours", max_shard_size="9000B")
    RobertaForMaskedLM.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs", max_shard_size=9000)
    ours, theirs = (
        json.loads((tmp_path / side / "model.safetensors.index.json").read_text()) for side in ("ours", "theirs")
    )
    assert ours.keys() == theirs.keys()
    assert ours["metadata"] == theirs["metadata"]
    assert ours["weight_map"].keys() == theirs["weight_map"].keys()


@given(sizes=st.lists(st.integers(1, 12), max_size=12), limit=st.integers(1, 20))
def test_tensors_are_shared_out_as_huggingface_hub_does_it(sizes: list[int], limit: int) -> None:
    from huggingface_hub.serialization import split_state_dict_into_shards_factory

    named = {str(i): size for i, size in enumerate(sizes)}
    found = split_state_dict_into_shards_factory(
        named, get_storage_size=lambda size: size, filename_pattern="{suffix}", max_shard_size=limit
    )
    assert split(named, limit) == [list(names) for names in found.filename_to_tensors.values() if names]


@given(seed=st.integers(0, 2**32 - 1), width=st.sampled_from([np.float32, np.float64]))
def test_bfloat16_is_torchs(seed: int, width: Any) -> None:
    import torch

    values = np.random.default_rng(seed).standard_normal(500).astype(np.float32) ** 9
    wanted = torch.from_numpy(values).bfloat16().view(torch.uint16).numpy()
    assert np.array_equal(to_bfloat16(values.astype(width)), wanted)


def test_torch_reads_our_bfloat16_file(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    values = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    safetensors_io.write(tmp_path / "x.safetensors", {"a": values.T}, "bfloat16", {"b": "é"})
    assert torch.equal(load_file(tmp_path / "x.safetensors")["a"], torch.from_numpy(values.T.copy()).bfloat16())


# --- keras-hub --------------------------------------------------------------------------------------------------------

# argv: the preset's directory, where the arrays go; stdin: JSON of what to do
KERAS = """
import json, sys
import numpy as np, torch, keras, keras_hub

preset, arrays = sys.argv[1:]
todo = json.load(sys.stdin)
features = {name: np.array(value) for name, value in todo["features"].items()}
found = {}

def answers(model, names):
    with torch.no_grad():
        return model({name: features[name] for name in names}, training=False).float().numpy()

if todo["kind"] == "encoder":
    model = keras_hub.models.RobertaBackbone.from_preset(preset)
    found["outputs"] = answers(model, ["token_ids", "padding_mask"])
else:
    model = keras_hub.models.RobertaMaskedLM.from_preset(preset)
    found["outputs"] = answers(model, features)
    settings = model.preprocessor.get_config()
    tokenizer = keras_hub.models.RobertaTokenizer.from_preset(preset)
    preprocessor = keras_hub.models.RobertaMaskedLMPreprocessor.from_preset(preset)
    found["settings"] = json.dumps({name: settings[name] for name in todo["settings"]})
    found["settings_alone"] = json.dumps({name: preprocessor.get_config()[name] for name in todo["settings"]})
    found["ids"] = json.dumps([list(map(int, tokenizer(text))) for text in todo["texts"]])
    if todo["kind"] == "resume":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=getattr(keras.optimizers, todo["optimizer"])(1e-2), loss=loss)
        model.optimizer.build(model.trainable_variables)
        model.load_task_weights(f"{preset}/task.weights.h5")
        found["iterations"] = int(model.optimizer.iterations)
        model.preprocessor = None
        for _ in range(2):
            model.train_on_batch(features, np.array(todo["labels"]))
        model.save_to_preset(todo["to"])
np.savez(arrays, **found)
"""


def in_keras(tmp_path: Path, kind: str = "task", **todo: Any) -> Any:
    texts = [text for text in TEXTS if "  " not in text]
    features = {name: value.tolist() for name, value in FEATURES.items()}
    done = subprocess.run(
        [sys.executable, "-c", KERAS, str(tmp_path / "p"), str(tmp_path / "arrays.npz")],
        input=json.dumps({"kind": kind, "features": features, "texts": texts, "settings": list(SETTINGS), **todo}),
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "torch"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return np.load(tmp_path / "arrays.npz")


@pytest.mark.parametrize(("dtype", "size"), [("float32", "5GB"), ("float16", "9KB"), ("bfloat16", "9KB")])
def test_keras_hub_loads_every_width_and_shards_with_its_head_tokenizer_and_settings(
    tmp_path: Path, dtype: str, size: str
) -> None:
    made = model()
    made.save_to_preset(tmp_path / "p", format="keras", dtype=dtype, max_shard_size=size)
    assert (tmp_path / "p" / "model.weights.json").exists() is (size == "9KB")
    found = in_keras(tmp_path)
    np.testing.assert_allclose(as_stored(tmp_path / "p"), found["outputs"], rtol=0, atol=1e-4)
    assert json.loads(str(found["settings"])) == json.loads(str(found["settings_alone"])) == SETTINGS
    tokenizer = made.preprocessor.tokenizer
    assert json.loads(str(found["ids"])) == [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]


def test_keras_hub_loads_an_encoder_alone(tmp_path: Path) -> None:
    made = model()
    made.backbone.save_to_preset(tmp_path / "p", format="keras")
    hidden = in_keras(tmp_path, "encoder")["outputs"]
    ours = made.backbone({name: FEATURES[name] for name in ("token_ids", "padding_mask")})
    is_token = FEATURES["padding_mask"] == 1
    np.testing.assert_allclose(ours[is_token], hidden[is_token], rtol=0, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW"])
def test_keras_goes_on_with_our_optimizers_state_and_we_with_keras(tmp_path: Path, optimizer: str) -> None:
    labels = np.array([[3, 5], [7, 9]])
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    made = model(dropout=0.0, attention_dropout=0.0)
    made.compile(optimizer=getattr(optimizers, optimizer)(1e-2), loss=loss)
    before = made.backbone.params.flat.copy()
    for _ in range(3):
        made.train_on_batch(FEATURES, labels)
    made.save_to_preset(tmp_path / "p", format="keras", include_optimizer=True)
    found = in_keras(tmp_path, "resume", optimizer=optimizer, labels=labels.tolist(), to=str(tmp_path / "theirs"))
    assert found["iterations"] == 3
    for _ in range(2):
        made.train_on_batch(FEATURES, labels)

    _, params, _ = load(tmp_path / "theirs", load_tokenizer=False)
    assert params is not None
    moved = np.abs(made.backbone.params.flat - before).max()
    for name, values in made.backbone.params.items():
        if not name.endswith(
            "key.bias"
        ):  # no softmax depends on it: its gradient is rounding alone, which Adam enlarges
            np.testing.assert_allclose(params[name], values, rtol=0, atol=1e-3 * moved, err_msg=name)
    with pytest.warns(UserWarning, match="Adam with Keras's defaults and a learning rate of 0.01 is used"):
        again = MaskedLM.from_preset(tmp_path / "theirs", load_optimizer=True, preprocessor=None)
    assert again.optimizer.iterations == made.optimizer.iterations == 5
    for name, moment in made.optimizer.m.items():
        np.testing.assert_allclose(again.optimizer.m[name], moment, rtol=0, atol=1e-4 * np.abs(moment).max() + 1e-7)
