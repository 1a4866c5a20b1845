"""What keras-hub writes is read here with its own numbers. Keras runs on torch, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_models import small_tokenizer
from small_presets import load

from pyroberta import MaskedLM

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


FEATURES = {
    "token_ids": np.array([[0, 5, 9, 30, 2, 1, 1], [0, 7, 7, 8, 9, 10, 2]]),
    "padding_mask": np.array([[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]]),
    "mask_positions": np.array([[1, 3], [2, 5]]),
}


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
