"""The examples of KerasHub's documentation of RobertaMaskedLM, RobertaTextClassifier and RobertaBackbone, with nothing
but the names changed.

keras_hub.models.RobertaMaskedLM -> pyroberta.MaskedLM, and so on; keras.losses and keras.optimizers ->
pyroberta's, and the preset's name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pyroberta


@pytest.fixture(params=["roberta_tiny_en", "a directory"])
def preset(request: pytest.FixtureRequest, small_preset: Path) -> str:
    return str(small_preset) if request.param == "a directory" else request.param


def test_raw_string_data(preset: str):
    features = ["The quick brown fox jumped.", "I forgot my homework."]

    # Pretrained language model.
    masked_lm = pyroberta.MaskedLM.from_preset(
        preset,
    )
    masked_lm.fit(x=features, batch_size=2)

    # Re-compile (e.g., with a new learning rate).
    masked_lm.compile(
        loss=pyroberta.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=pyroberta.optimizers.Adam(5e-5),
        jit_compile=True,
    )
    # Access backbone programmatically (e.g., to change `trainable`).
    masked_lm.backbone.trainable = False
    # Fit again.
    masked_lm.fit(x=features, batch_size=2)

    assert masked_lm.optimizer.iterations == 1


def test_preprocessed_integer_data(preset: str):
    # Create preprocessed batch where 0 is the mask token.
    features = {
        "token_ids": np.array([[1, 2, 0, 4, 0, 6, 7, 8]] * 2),
        "padding_mask": np.array([[1, 1, 1, 1, 1, 1, 1, 1]] * 2),
        "mask_positions": np.array([[2, 4]] * 2),
    }
    # Labels are the original masked values.
    labels = [[3, 5]] * 2

    masked_lm = pyroberta.MaskedLM.from_preset(
        preset,
        preprocessor=None,
    )

    masked_lm.fit(x=features, y=labels, batch_size=2)

    assert masked_lm.predict(features).shape == (2, 2, masked_lm.backbone.config.vocabulary_size)


def test_the_backbone(preset: str):
    input_data = {
        "token_ids": np.ones(shape=(1, 12), dtype="int32"),
        "padding_mask": np.array([[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]]),
    }

    # Pretrained RoBERTa encoder
    model = pyroberta.Backbone.from_preset(preset)
    assert model(input_data).shape == (1, 12, model.config.hidden_dim)

    # Randomly initialized RoBERTa model with custom config
    model = pyroberta.Backbone(
        vocabulary_size=50265,
        num_layers=4,
        num_heads=4,
        hidden_dim=256,
        intermediate_dim=512,
        max_sequence_length=128,
    )
    assert model(input_data).shape == (1, 12, 256)


def test_the_preprocessor_by_itself_and_before_fit(preset: str):
    preprocessor = pyroberta.MaskedLM.from_preset(preset).preprocessor
    # Tokenize and mask a single sentence.
    x, y, sample_weight = preprocessor("The quick brown fox jumped.")
    assert x["mask_positions"].shape == y.shape == sample_weight.shape
    # Tokenize and mask a batch of sentences.
    x, y, sample_weight = preprocessor(["The quick brown fox jumped.", "Call me Ishmael."])

    masked_lm = pyroberta.MaskedLM.from_preset(preset, preprocessor=None)
    masked_lm.fit(x, y, sample_weight=sample_weight, batch_size=2)
    assert masked_lm.optimizer.iterations == 1


# --- RobertaTextClassifier ---


def test_a_classifier_of_raw_string_data(preset: str):
    features = ["The quick brown fox jumped.", "I forgot my homework."]
    labels = [0, 3]

    # Pretrained classifier.
    classifier = pyroberta.TextClassifier.from_preset(
        preset,
        num_classes=4,
    )
    classifier.fit(x=features, y=labels, batch_size=2)
    assert classifier.predict(x=features, batch_size=2).shape == (2, 4)

    # Re-compile (e.g., with a new learning rate).
    classifier.compile(
        loss=pyroberta.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=pyroberta.optimizers.Adam(5e-5),
        jit_compile=True,
    )
    # Access backbone programmatically (e.g., to change `trainable`).
    classifier.backbone.trainable = False
    # Fit again.
    classifier.fit(x=features, y=labels, batch_size=2)

    assert classifier.optimizer.iterations == 1


def test_a_classifier_of_preprocessed_integer_data(preset: str):
    features = {
        "token_ids": np.ones(shape=(2, 12), dtype="int32"),
        "padding_mask": np.array([[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]] * 2),
    }
    labels = [0, 3]

    # Pretrained classifier without preprocessing.
    classifier = pyroberta.TextClassifier.from_preset(
        preset,
        num_classes=4,
        preprocessor=None,
    )
    classifier.fit(x=features, y=labels, batch_size=2)

    assert classifier.predict(features).shape == (2, 4)


def test_a_classifier_with_a_custom_backbone_and_vocabulary():
    features = ["a quick fox", "a fox quick"]
    labels = [0, 3]

    # KerasHub's toy vocabulary has no <unk> and lacks most bytes, which a tokenizer here must have: one is trained.
    tokenizer = pyroberta.Tokenizer.train(features, vocab_size=265)
    preprocessor = pyroberta.TextClassifierPreprocessor(
        tokenizer=tokenizer,
        sequence_length=128,
    )
    backbone = pyroberta.Backbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=4,
        num_heads=4,
        hidden_dim=256,
        intermediate_dim=512,
        max_sequence_length=128,
    )
    classifier = pyroberta.TextClassifier(
        backbone=backbone,
        preprocessor=preprocessor,
        num_classes=4,
    )
    classifier.fit(x=features, y=labels, batch_size=2)
    assert classifier.optimizer.iterations == 1


def test_the_classifiers_preprocessor_by_itself(preset: str):
    preprocessor = pyroberta.TextClassifier.from_preset(preset, num_classes=2).preprocessor
    # Tokenize and pad/truncate a single sentence.
    x = "The quick brown fox jumped."
    x = preprocessor(x)
    assert x["token_ids"].ndim == 1
    # Tokenize and pad/truncate a labeled sentence.
    x, y = "The quick brown fox jumped.", 1
    x, y = preprocessor(x, y)
    # Tokenize and combine a batch of labeled sentence pairs.
    first = ["The quick brown fox jumped.", "Call me Ishmael."]
    second = ["The fox tripped.", "Oh look, a whale."]
    labels = [1, 0]
    x, y = (first, second), labels
    x, y = preprocessor(x, y)
    assert x["token_ids"].shape == x["padding_mask"].shape == (2, preprocessor.sequence_length)
    assert y == [1, 0]
