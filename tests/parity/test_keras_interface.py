"""Backbones and tasks beside the living KerasHub: files of weights, configs, activations, gradients, Keras's callback.

All in float64, where the two agree to rounding.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import TEXTS, gradients_of, small_masked_lm

from pyroberta import Backbone, MaskedLM, TextClassifier, models
from pyroberta.data.classifier_inputs import packed_features
from pyroberta.presets import kerashub
from pyroberta.tasks import activations
from pyroberta.training.losses import SparseCategoricalCrossentropy

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer"),
    pytest.mark.filterwarnings("ignore:.*shuffle=True"),
]

SIZES = (23, 2, 2, 8, 12, 0.0, 9)
IDS = np.array([[0, 5, 9, 20, 2, 1, 1], [0, 7, 7, 8, 9, 10, 2]])
FEATURES = {"token_ids": IDS, "padding_mask": (IDS != 1).astype("int32")}
MASKED = {**FEATURES, "mask_positions": np.array([[1, 3], [2, 5]])}
HEAD = {"num_classes": 3, "hidden_dim": 6, "activation": "softmax", "dropout": 0.0}
KINDS = ("backbone", "masked_lm", "classifier")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import keras
    import keras_hub
    from keras.src.backend.common import dtypes

    # Off TensorFlow, Keras narrows most results to float32 even where everything that went in is float64.
    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield keras_hub
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(before)  # Keras made one of the other at the first layer, and keeps it


def made(kind: str, seed: int = 0) -> Any:
    backbone = Backbone(*SIZES, dtype="float64", seed=seed)
    model: Any = {
        "backbone": lambda: backbone,
        "masked_lm": lambda: MaskedLM(backbone),
        "classifier": lambda: TextClassifier(backbone, **HEAD, seed=seed),
    }[kind]()
    rng = np.random.default_rng(seed)
    model.set_weights([weight + 0.3 * rng.standard_normal(weight.shape) for weight in model.get_weights()])
    return model


def theirs(hub: Any, kind: str) -> Any:
    import keras

    keras.utils.set_random_seed(3)
    models = hub.models
    backbone = models.RobertaBackbone(*SIZES, dtype="float64")
    model = {
        "backbone": lambda: backbone,
        "masked_lm": lambda: models.RobertaMaskedLM(backbone, None),
        "classifier": lambda: models.RobertaTextClassifier(backbone, preprocessor=None, **HEAD),
    }[kind]()
    for weight in model.weights:
        weight.assign(weight + 0.3 * keras.random.normal(weight.shape, seed=1, dtype="float64"))
    return model


def output(model: Any, kind: str) -> np.ndarray:
    found = model(MASKED if kind == "masked_lm" else FEATURES)
    found = found if isinstance(found, np.ndarray) else found.detach().numpy()
    return found * FEATURES["padding_mask"][..., None] if kind == "backbone" else found


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_weights_go_both_ways(hub: Any, kind: str, tmp_path: Path):
    ours, other = made(kind), theirs(hub, kind)
    assert ours.count_params() == other.count_params()
    other.save_weights(tmp_path / "theirs.weights.h5")
    ours.load_weights(tmp_path / "theirs.weights.h5")
    np.testing.assert_allclose(output(ours, kind), output(other, kind), rtol=1e-11, atol=1e-12)
    ours = made(kind, seed=1)
    ours.save_weights(tmp_path / "ours.weights.h5")
    other.load_weights(tmp_path / "ours.weights.h5")
    np.testing.assert_allclose(output(ours, kind), output(other, kind), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_heads_file_goes_both_ways(hub: Any, kind: str, tmp_path: Path):
    ours, other = made(kind), theirs(hub, kind)
    ours.backbone.save_weights(tmp_path / "b.weights.h5")
    other.backbone.load_weights(tmp_path / "b.weights.h5")
    other.save_task_weights(tmp_path / "theirs.weights.h5")
    ours.load_task_weights(tmp_path / "theirs.weights.h5")
    np.testing.assert_allclose(output(ours, kind), output(other, kind), rtol=1e-11, atol=1e-12)
    ours = made(kind, seed=1)
    ours.backbone.set_weights(made(kind).backbone.get_weights())
    ours.save_task_weights(tmp_path / "ours.weights.h5")
    other.load_task_weights(tmp_path / "ours.weights.h5")
    np.testing.assert_allclose(output(ours, kind), output(other, kind), rtol=1e-11, atol=1e-12)


def test_a_file_with_an_optimizer_in_it_is_read(hub: Any, tmp_path: Path):
    other = theirs(hub, "masked_lm")
    other.fit(MASKED, np.array([[5, 6], [7, 8]]), verbose=0)
    other.save_weights(tmp_path / "theirs.weights.h5")
    ours = made("masked_lm")
    ours.load_weights(tmp_path / "theirs.weights.h5")
    np.testing.assert_allclose(output(ours, "masked_lm"), output(other, "masked_lm"), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_configs_go_both_ways(hub: Any, kind: str):
    ours, other = made(kind), theirs(hub, kind)
    mine, config = json.loads(json.dumps(ours.get_config())), json.loads(json.dumps(other.get_config()))
    for nested in (mine, config):  # Keras adds how a layer was built
        nested.get("backbone", {}).pop("build_config", None)
        nested.get("backbone", {}).pop("compile_config", None)
        nested.pop("name")
        nested.get("backbone", {}).get("config", {}).pop("name", None)
    assert mine == config
    assert type(other).from_config(ours.get_config()).count_params() == ours.count_params()
    made_of_theirs = type(ours).from_config(other.get_config())
    assert made_of_theirs.count_params() == ours.count_params()
    assert made_of_theirs.name == other.name


def test_the_token_embedding_is_kerashubs(hub: Any, tmp_path: Path):
    ours, other = made("backbone"), theirs(hub, "backbone")
    other.save_weights(tmp_path / "b.weights.h5")
    ours.load_weights(tmp_path / "b.weights.h5")
    vectors = ours.token_embedding(IDS)
    np.testing.assert_array_equal(vectors, other.token_embedding(IDS).detach().numpy())
    back = other.token_embedding(vectors, reverse=True).detach().numpy()
    np.testing.assert_allclose(ours.token_embedding(vectors, reverse=True), back, rtol=1e-12, atol=1e-13)
    assert (ours.token_embedding.input_dim, ours.token_embedding.output_dim) == (
        other.token_embedding.input_dim,
        other.token_embedding.output_dim,
    )


@pytest.mark.parametrize("size", [1.0, 300.0], ids=["ordinary", "clipped"])
@pytest.mark.parametrize("activation", [None, "softmax", "log_softmax"])
def test_a_classifiers_loss_and_gradients_are_keras_s(hub: Any, activation: str | None, size: float, tmp_path: Path):
    """With logits and with probabilities; large logits make probabilities that Keras clips."""
    import keras
    import torch

    labels = np.array([2, 0])
    ours = TextClassifier(Backbone(*SIZES, dtype="float64"), **{**HEAD, "activation": activation})
    rng = np.random.default_rng(4)
    ours.set_weights([weight + 0.3 * rng.standard_normal(weight.shape) for weight in ours.get_weights()])
    with ours.backbone.changing(["head.table"]) as params:
        params["head.table"][...] *= size
    backbone = hub.models.RobertaBackbone(*SIZES, dtype="float64")
    other = hub.models.RobertaTextClassifier(backbone, preprocessor=None, **{**HEAD, "activation": activation})
    ours.save_weights(tmp_path / "w.weights.h5")
    other.load_weights(tmp_path / "w.weights.h5")

    is_logits = activation != "softmax"
    outputs = other(FEATURES, training=False)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=is_logits)(torch.tensor(labels), outputs)
    variables = {variable.path: variable for variable in other.trainable_variables}
    gradients = torch.autograd.grad(loss, [variable.value for variable in variables.values()], allow_unused=True)

    batch = packed_features(FEATURES, ours.backbone.config)
    batch = type(batch)(
        **{**vars(batch), "target_rows": batch.starts[:-1], "labels": labels, "weights": np.ones(2), "slots": 2}
    )
    config, ours_loss = ours.backbone.config, SparseCategoricalCrossentropy(from_logits=is_logits)
    found, results = gradients_of(ours.backbone.params.astype(np.float64), config, [batch], ours_loss)

    np.testing.assert_allclose(ours(FEATURES), outputs.detach().numpy(), rtol=1e-10, atol=1e-13)
    assert results[0].losses.mean() == pytest.approx(float(loss.detach()), rel=1e-9)
    if not is_logits:
        assert (results[0].losses == -np.log(1.0 - 1e-7)).any() == (size > 1.0)
    order = kerashub.in_keras_order(config)
    assert len(order) == len(gradients)
    for name, gradient in zip(order, gradients, strict=True):
        expected = np.zeros(found[name].shape) if gradient is None else gradient.numpy()
        expected = kerashub.reshaped(name, expected, found[name].shape)
        np.testing.assert_allclose(found[name], expected, rtol=1e-7, atol=1e-12, err_msg=name)


def test_kerass_own_checkpoint_saves_our_weights(hub: Any, tmp_path: Path):
    import keras

    lm = small_masked_lm()
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.weights.h5", monitor="loss", save_best_only=True, save_weights_only=True
    )
    each = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch:02d}.weights.h5", save_weights_only=True)
    lm.fit(TEXTS, epochs=3, batch_size=3, callbacks=[best, each], verbose=0)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        *(f"{epoch:02d}.weights.h5" for epoch in (1, 2, 3)),
        "best.weights.h5",
    ]
    after = [weight.tobytes() for weight in lm.get_weights()]
    lm.load_weights(tmp_path / "01.weights.h5")
    assert [weight.tobytes() for weight in lm.get_weights()] != after
    lm.load_weights(tmp_path / "03.weights.h5")
    assert [weight.tobytes() for weight in lm.get_weights()] == after


def test_kerass_checkpoint_of_a_whole_model_is_an_archive(hub: Any, tmp_path: Path):
    import keras

    lm = small_masked_lm()
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "whole.keras")
    with pytest.warns(UserWarning, match="a .keras file does not hold the optimizer's state"):
        lm.fit(TEXTS, callbacks=[checkpoint], verbose=0)
    found = models.load_model(tmp_path / "whole.keras")
    assert [weight.tobytes() for weight in found.weights] == [weight.tobytes() for weight in lm.weights]


def test_kerashub_makes_a_task_with_its_tokenizer_of_our_config(hub: Any):
    lm = small_masked_lm(dtype="float32")
    config = json.loads(json.dumps(lm.get_config()))
    other = hub.models.RobertaMaskedLM.from_config(config)
    assert other.preprocessor.sequence_length == 40
    text = "The quick brown fox jumped over the lazy dog."
    assert list(np.asarray(other.preprocessor.tokenizer(text))) == list(lm.preprocessor.tokenizer(text))


def test_kerass_own_activations_and_losses_stand_for_ours(hub: Any):
    import keras

    backbone = small_masked_lm().backbone
    softmax = TextClassifier(backbone, 3, activation=keras.activations.softmax)
    assert softmax.activation == "softmax"
    for name in ("linear", "log_softmax", "sigmoid"):
        assert TextClassifier(backbone, 3, activation=getattr(keras.activations, name)).activation == name
        logits = np.random.default_rng(0).normal(0.0, 30.0, (5, 3))
        expected = np.asarray(keras.activations.get(name)(logits))
        np.testing.assert_allclose(activations.apply(name, logits), expected, rtol=1e-12, atol=1e-300)
    softmax.compile("adam", keras.losses.SparseCategoricalCrossentropy())
    assert softmax.loss.from_logits is False
    with pytest.raises(ValueError, match="the model returns probabilities"):
        softmax.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert Backbone(*SIZES[:5], dtype=keras.DTypePolicy("float64")).dtype == "float64"


@pytest.mark.parametrize("name", ["losses", "metrics", "callbacks", "optimizers", "optimizers.schedules"])
def test_every_public_name_of_kerass_modules_is_here_or_has_a_hint(hub: Any, name: str):
    theirs, ours = importlib.import_module(f"keras.{name}"), importlib.import_module(f"pyroberta.{name}")
    lacking = [one for one in dir(theirs) if not one.startswith("_") and not hasattr(ours, one)]
    assert [one for one in lacking if one not in getattr(ours, "_ELSEWHERE", {})] == []


def test_what_kerass_serialize_writes_is_read(hub: Any):
    """Its dicts since Keras 3, its older ones with registered names, and the names of functions."""
    import keras
    from keras.src.legacy.saving import serialization

    from pyroberta import losses, metrics, optimizers, schedules

    cosine = keras.optimizers.schedules.CosineDecay(0.5, 10)
    objects = (
        (optimizers.get, keras.optimizers, keras.optimizers.AdamW(cosine)),
        (schedules.get, keras.optimizers.schedules, cosine),
        (losses.get, keras.losses, keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
        (losses.get, keras.losses, keras.losses.sparse_categorical_crossentropy),
        (metrics.get, keras.metrics, keras.metrics.SparseCategoricalAccuracy()),
        (metrics.get, keras.metrics, keras.metrics.sparse_categorical_accuracy),
        (metrics.get, keras.metrics, hub.metrics.Perplexity(from_logits=True)),
    )
    for get, module, theirs in objects:
        for written in (module.serialize(theirs), serialization.serialize_keras_object(theirs)):
            found = get(json.loads(json.dumps(written)))
            assert found.get_config() == get(theirs).get_config(), written

    class AdamW(keras.optimizers.AdamW):
        """Another optimizer of the same name."""

    with pytest.raises(ValueError, match="a class of your own"):
        optimizers.get(keras.optimizers.serialize(AdamW()))
