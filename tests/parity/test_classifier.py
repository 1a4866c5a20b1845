"""The classifier against transformers' and keras-hub's: directories both ways, logits, loss, and every gradient."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import gradients_of, small_masked_lm, small_tokenizer
from small_presets import HF_SIZES, as_ours
from strategies import seeds

from pyroberta import Task, TextClassifier, TextClassifierPreprocessor
from pyroberta.data.classifier_inputs import ClassifierInputs
from pyroberta.model.config import RobertaConfig
from pyroberta.presets import hf
from pyroberta.training.losses import SparseCategoricalCrossentropy

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the peers' own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

DETERMINATE = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "attn_implementation": "eager"}
IDS = np.array([[0, 5, 9, 30, 2, 1, 1], [0, 7, 7, 8, 9, 10, 2]])


def their_model(seed: int = 0, dtype: str = "float64", **changes: Any) -> Any:
    import torch
    from transformers import RobertaConfig as PeerConfig
    from transformers import RobertaForSequenceClassification

    torch.manual_seed(seed)
    model = RobertaForSequenceClassification(PeerConfig(**HF_SIZES | DETERMINATE | {"num_labels": 3} | changes))
    model = model.to(getattr(torch, dtype)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(0.0, 0.3)
            if name.endswith("LayerNorm.weight"):
                weight += 1.0
    return model


def features(ids: np.ndarray, pad: int = 1) -> dict[str, np.ndarray]:
    return {"token_ids": ids, "padding_mask": ids != pad}


def their_logits(model: Any, ids: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        found = model(input_ids=torch.tensor(ids), attention_mask=torch.tensor((ids != 1).astype(int))).logits
    return np.asarray(found.numpy())


@settings(max_examples=10)
@given(lengths=st.lists(st.integers(1, 8), min_size=1, max_size=4), classes=st.integers(2, 5), seed=seeds)
def test_logits_loss_and_all_gradients_are_transformers(lengths: list[int], classes: int, seed: int) -> None:
    import torch

    model = their_model(seed, num_labels=classes)
    config = RobertaConfig(
        vocabulary_size=31, num_layers=2, num_heads=2, hidden_dim=12, intermediate_dim=20, max_sequence_length=16,
        dropout=0.0, num_classes=classes,
    )  # fmt: skip
    tensors = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    params = as_ours(config, tensors)
    params["embeddings.position"][...] += tensors[hf.TOKEN_TYPE]

    generator = np.random.default_rng(seed)
    ids = np.full((len(lengths), max(lengths)), 1)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = generator.choice(np.setdiff1d(np.arange(31), [1]), length)
    labels = generator.integers(0, classes, len(lengths))
    theirs = model(
        input_ids=torch.tensor(ids), attention_mask=torch.tensor((ids != 1).astype(int)), labels=torch.tensor(labels)
    )
    theirs.loss.backward()
    expected = as_ours(config, {name: weight.grad.numpy() for name, weight in model.named_parameters()})

    batch = ClassifierInputs(config, None).features(features(ids), labels)
    sums, (result,) = gradients_of(params, config, [batch], SparseCategoricalCrossentropy(from_logits=True))
    assert result.losses.mean() == pytest.approx(float(theirs.loss.detach()), rel=1e-10)
    assert np.array_equal(result.predicted, theirs.logits.detach().numpy().argmax(axis=1))
    scale = np.abs(expected.flat).max()
    for name in params:
        np.testing.assert_allclose(sums[name], expected[name], rtol=0, atol=1e-9 * scale, err_msg=name)


def test_a_directory_of_transformers_goes_through_and_its_logits_stay(tmp_path: Path) -> None:
    import transformers

    names = {0: "contradiction", 1: "neutral", 2: "entailment"}
    model = their_model(
        dtype="float32", id2label=names, label2id={v: k for k, v in names.items()}, classifier_dropout=0.3
    )
    model.save_pretrained(tmp_path / "theirs")
    classifier = Task.from_preset(tmp_path / "theirs", preprocessor=None)
    assert isinstance(classifier, TextClassifier)
    assert classifier.labels == list(names.values())
    assert classifier.backbone.config.classifier_dropout == 0.3
    np.testing.assert_allclose(classifier(features(IDS)), their_logits(model, IDS), rtol=0, atol=2e-5)

    classifier.save_to_preset(tmp_path / "ours")
    again, report = transformers.RobertaForSequenceClassification.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(report.values()), report
    assert again.config.id2label == names
    assert again.config.problem_type == "single_label_classification"
    assert again.config.classifier_dropout == 0.3
    np.testing.assert_allclose(their_logits(again.eval(), IDS), their_logits(model, IDS), rtol=0, atol=2e-5)


def test_a_model_for_regression_is_refused(tmp_path: Path) -> None:
    their_model(num_labels=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="problem_type is 'regression'"):
        Task.from_preset(tmp_path, preprocessor=None)


# argv: the preset's directory, the vocabulary's, where the arrays go
WRITE = """
import sys
import numpy as np, torch, keras, keras_hub

preset, assets, arrays = sys.argv[1:]
keras.utils.set_random_seed(3)
tokenizer = keras_hub.models.RobertaTokenizer(vocabulary=f"{assets}/vocab.json", merges=f"{assets}/merges.txt")
backbone = keras_hub.models.RobertaBackbone(
    vocabulary_size=tokenizer.vocabulary_size(), num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=24,
    max_sequence_length=20,
)
preprocessor = keras_hub.models.RobertaTextClassifierPreprocessor(tokenizer, sequence_length=12)
model = keras_hub.models.RobertaTextClassifier(backbone, num_classes=3, preprocessor=preprocessor, dropout=0.25)
for weight in model.weights:
    weight.assign(weight + 0.1 * keras.random.normal(weight.shape, seed=1))
model.save_to_preset(preset)
ids = np.array([[0, 5, 9, 30, 2, 1, 1], [0, 7, 7, 8, 9, 10, 2]])
labels = np.array([2, 0])
with torch.no_grad():
    logits = model({"token_ids": ids, "padding_mask": ids != 1}, training=False).numpy()
padded, y = preprocessor(["The quick brown fox", "It is late."], labels)
loss = float(keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits))
np.savez(arrays, logits=logits, loss=loss, token_ids=keras.ops.convert_to_numpy(padded["token_ids"]),
         padding_mask=keras.ops.convert_to_numpy(padded["padding_mask"]))
"""


def test_a_preset_of_keras_hubs_classifier_is_read(tmp_path: Path) -> None:
    assets, preset = tmp_path / "assets", tmp_path / "preset"
    assets.mkdir()
    (assets / "vocab.json").write_text(json.dumps(small_tokenizer().vocabulary))
    (assets / "merges.txt").write_text("".join(f"{a} {b}\n" for a, b in small_tokenizer().merges))
    command = [sys.executable, "-c", WRITE, str(preset), str(assets), str(tmp_path / "arrays.npz")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": "torch"})
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = np.load(tmp_path / "arrays.npz")

    classifier = Task.from_preset(preset)
    assert isinstance(classifier, TextClassifier)
    config = classifier.backbone.config
    assert (config.num_classes, config.classifier_dropout, config.dropout) == (3, 0.25, 0.1)
    assert classifier.preprocessor is not None
    assert classifier.preprocessor.sequence_length == 12
    np.testing.assert_allclose(classifier(features(IDS)), theirs["logits"], rtol=0, atol=1e-5)
    loss = classifier.test_on_batch(features(IDS), [2, 0])[0]
    assert loss == pytest.approx(float(theirs["loss"]), abs=1e-5)
    with pytest.warns(UserWarning, match="1 was cut, which drops 2 tokens"):
        padded = classifier.preprocessor(["The quick brown fox", "It is late."])
    for name, array in padded.items():
        assert np.array_equal(array, theirs[name]), name


# argv: the preset's directory, where the arrays go
READ = """
import json, sys
import numpy as np, torch, keras_hub

preset, arrays = sys.argv[1:]
model = keras_hub.models.RobertaTextClassifier.from_preset(preset)
ids = np.array([[0, 5, 9, 30, 2, 1, 1], [0, 7, 7, 8, 9, 10, 2]])
with torch.no_grad():
    logits = model({"token_ids": ids, "padding_mask": ids != 1}, training=False).numpy()
np.savez(arrays, logits=logits, classes=model.num_classes, length=model.preprocessor.sequence_length)
"""


def test_keras_hub_loads_a_classifier_that_was_written_here(tmp_path: Path) -> None:
    masked_lm = small_masked_lm(dtype="float32")
    preprocessor = TextClassifierPreprocessor(small_tokenizer(), sequence_length=12)
    classifier = TextClassifier(masked_lm.backbone, 3, preprocessor, labels=["a", "b", "c"], seed=1)
    classifier.save_to_preset(tmp_path / "preset", format="keras")
    command = [sys.executable, "-c", READ, str(tmp_path / "preset"), str(tmp_path / "arrays.npz")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": "torch"})
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = np.load(tmp_path / "arrays.npz")
    assert (int(theirs["classes"]), int(theirs["length"])) == (3, 12)
    np.testing.assert_allclose(classifier(features(IDS)), theirs["logits"], rtol=0, atol=1e-5)


# argv: the preset's directory
RATES = """
import sys
import keras_hub

model = keras_hub.models.RobertaTextClassifier.from_preset(sys.argv[1], num_classes=3, dropout=0.5)
print(model.backbone.dropout, model.pooled_dropout.rate, model.output_dropout.rate)
"""


def test_the_rate_of_from_preset_is_the_head_s_alone_in_kerashub_and_here(tmp_path: Path) -> None:
    small_masked_lm(dtype="float32").save_to_preset(tmp_path / "preset", format="keras")
    command = [sys.executable, "-c", RATES, str(tmp_path / "preset")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": "torch"})
    assert done.returncode == 0, done.stderr[-3000:]
    backbone, *head = map(float, done.stdout.split()[-3:])
    config = TextClassifier.from_preset(tmp_path / "preset", num_classes=3, dropout=0.5).backbone.config
    assert config.classifier_dropout == head[0] == head[1] == 0.5
    assert config.dropout == config.attention_dropout == backbone == 0.1
