"""What keras-hub writes is read here with its own numbers, and archives of whole models go both ways.

Keras runs on torch, in processes of its own.
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
from archive_models import FEATURES, MODELS, outputs
from small_models import TEXTS, small_tokenizer
from small_presets import load

from pyroberta import MaskedLM
from pyroberta.models import load_model

pytestmark = pytest.mark.parity

# argv: the preset's directory, the vocabulary's, the dtype, the kind of model, where the arrays go
WRITE = """
import sys
import numpy as np, torch, keras, keras_hub

def answers(model, features):
    with torch.no_grad():
        return model(features, training=False).float().numpy()

preset, assets, dtype, kind, arrays = sys.argv[1:]
keras.utils.set_random_seed(3)
tokenizer = keras_hub.models.RobertaTokenizer(vocabulary=f"{assets}/vocab.json", merges=f"{assets}/merges.txt")
backbone = keras_hub.models.RobertaBackbone(
    vocabulary_size=tokenizer.vocabulary_size(), num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=24,
    max_sequence_length=20, dtype=dtype,
)
for weight in backbone.weights:  # gammas and betas that are not 1 and 0
    weight.assign(weight + 0.05 * keras.random.normal(weight.shape, dtype="float32", seed=1))
ids = np.array([[0, 5, 9, 30, 2, 1, 1], [0, 7, 7, 8, 9, 10, 2]])
mask = np.array([[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]])
if kind == "backbone":
    backbone.save_to_preset(preset)
    outputs = answers(backbone, {"token_ids": ids, "padding_mask": mask})
else:
    preprocessor = keras_hub.models.RobertaMaskedLMPreprocessor(
        tokenizer, sequence_length=12, mask_selection_length=3, mask_selection_rate=0.3
    )
    model = keras_hub.models.RobertaMaskedLM(backbone, preprocessor)
    for weight in model.layers[-1].weights:
        weight.assign(weight + 0.05 * keras.random.normal(weight.shape, dtype="float32", seed=2))
    model.save_to_preset(preset)
    positions = np.array([[1, 3], [2, 5]])
    outputs = answers(model, {"token_ids": ids, "padding_mask": mask, "mask_positions": positions})
np.savez(arrays, outputs=outputs)
"""


def written(tmp_path: Path, dtype: str, kind: str) -> tuple[Path, np.ndarray]:
    assets, preset, arrays = tmp_path / "assets", tmp_path / "preset", tmp_path / "arrays.npz"
    assets.mkdir()
    (assets / "vocab.json").write_text(json.dumps(small_tokenizer().vocabulary))
    (assets / "merges.txt").write_text("".join(f"{a} {b}\n" for a, b in small_tokenizer().merges))
    command = [sys.executable, "-c", WRITE, str(preset), str(assets), dtype, kind, str(arrays)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": "torch"})
    assert done.returncode == 0, done.stderr[-3000:]
    return preset, np.load(arrays)["outputs"]


def test_a_task_has_its_logits_its_head_and_its_settings(tmp_path: Path) -> None:
    preset, logits = written(tmp_path, "float32", "task")
    model = MaskedLM.from_preset(preset)
    np.testing.assert_allclose(model(FEATURES), logits, rtol=0, atol=1e-5)
    assert (model.preprocessor.sequence_length, model.preprocessor.mask_selection_rate) == (12, 0.3)
    assert model.preprocessor.tokenizer.vocabulary == small_tokenizer().vocabulary


def test_bfloat16_is_read_as_the_numbers_that_it_is(tmp_path: Path) -> None:
    preset, logits = written(tmp_path, "bfloat16", "task")
    _, params, _ = load(preset)
    assert params is not None
    bits = params.flat.view(np.uint32)
    assert not (bits & 0xFFFF).any()
    np.testing.assert_allclose(
        MaskedLM.from_preset(preset)(FEATURES), logits, rtol=0, atol=0.1
    )  # theirs computes in it


def test_a_backbone_alone_has_its_hidden_states(tmp_path: Path) -> None:
    preset, hidden = written(tmp_path, "float32", "backbone")
    with pytest.warns(UserWarning, match="no masked-LM head"):
        model = MaskedLM.from_preset(preset, preprocessor=None)
    ours = model.backbone({name: FEATURES[name] for name in ("token_ids", "padding_mask")})
    is_token = FEATURES["padding_mask"] == 1
    np.testing.assert_allclose(ours[is_token], hidden[is_token], rtol=0, atol=1e-5)


# --- archives of whole models -----------------------------------------------------------------------------------------


pytestmark = pytest.mark.parity

# argv: the directory with <kind>.keras, where theirs/<kind>.keras and theirs.npz go; stdin: features and texts
KERAS = """
import json, os, sys, warnings
import numpy as np, torch, keras, keras_hub

directory, todo, found = sys.argv[1], json.load(sys.stdin), {}
features = {name: np.array(value) for name, value in todo["features"].items()}
os.makedirs(f"{directory}/theirs")

def outputs(model, kind):
    names = features if kind == "MaskedLM" else ("token_ids", "padding_mask")
    with torch.no_grad():
        return model({name: features[name] for name in names}, training=False).numpy()

for kind in todo["kinds"]:
    model = keras.saving.load_model(f"{directory}/{kind}.keras")
    assert type(model) is getattr(keras_hub.models, f"Roberta{kind}"), model
    found[kind] = outputs(model, kind)
    if kind != "Backbone":
        tokenizer = model.preprocessor.tokenizer
        found[f"{kind}.ids"] = json.dumps([list(map(int, tokenizer(text))) for text in todo["texts"]])
        found[f"{kind}.settings"] = json.dumps(model.preprocessor.get_config()["sequence_length"])
    if kind == "TextClassifier":  # an optimizer with moments lies in the archive, and other metrics
        loss = keras.losses.SparseCategoricalCrossentropy()
        model.compile(optimizer=keras.optimizers.AdamW(1e-3), loss=loss, metrics=["accuracy"])
        preprocessor, model.preprocessor = model.preprocessor, None
        model.train_on_batch({name: features[name] for name in ("token_ids", "padding_mask")}, np.array([0, 2]))
        model.preprocessor = preprocessor
    model.save(f"{directory}/theirs/{kind}.keras")
    found[f"{kind}.saved"] = outputs(model, kind)
np.savez(f"{directory}/theirs.npz", **found)
"""


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    directory = tmp_path_factory.mktemp("archives")
    for kind, make in MODELS.items():
        make().save(directory / f"{kind}.keras")
    features = {name: value.tolist() for name, value in FEATURES.items()}
    done = subprocess.run(
        [sys.executable, "-c", KERAS, str(directory)],
        input=json.dumps({"kinds": list(MODELS), "features": features, "texts": TEXTS}),
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "torch"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return directory, np.load(directory / "theirs.npz")


def where_tokens_are(kind: str, values: Any) -> Any:
    return np.asarray(values)[FEATURES["padding_mask"] == 1] if kind == "Backbone" else np.asarray(values)


@pytest.mark.parametrize("kind", MODELS)
def test_keras_loads_our_archive_with_equal_outputs(kind: str, exchanged: tuple[Path, Any]) -> None:
    model, found = MODELS[kind](), exchanged[1]
    ours, theirs = (where_tokens_are(kind, values) for values in (outputs(model), found[kind]))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    if kind != "Backbone":
        tokenizer = model.preprocessor.tokenizer
        assert json.loads(str(found[f"{kind}.ids"])) == [tokenizer.encode(t, add_special_tokens=False) for t in TEXTS]
        assert json.loads(str(found[f"{kind}.settings"])) == model.preprocessor.sequence_length


@pytest.mark.parametrize("kind", MODELS)
def test_we_load_keras_archive_with_equal_outputs(kind: str, exchanged: tuple[Path, Any]) -> None:
    directory, found = exchanged
    model = load_model(directory / "theirs" / f"{kind}.keras", compile=False)
    assert type(model).__name__ == kind
    ours, theirs = (where_tokens_are(kind, values) for values in (outputs(model), found[f"{kind}.saved"]))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    before = MODELS[kind]()
    if kind != "Backbone":
        assert model.preprocessor.preset_settings() == before.preprocessor.preset_settings()
        assert model.preprocessor.tokenizer.vocabulary == before.preprocessor.tokenizer.vocabulary
        assert model.preprocessor.tokenizer.merges == before.preprocessor.tokenizer.merges
        with pytest.warns(UserWarning, match="which are not loaded"):
            load_model(directory / "theirs" / f"{kind}.keras")
