"""Archives of whole models go both ways: the living keras and keras-hub load what is written here, and the reverse.

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
from archive_models import FEATURES, MODELS, outputs
from small_models import TEXTS

from pyroberta.models import load_model

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
