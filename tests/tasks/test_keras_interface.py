"""Backbones and tasks have the interface of Keras's models: arguments, attributes, weights and their files, configs."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import TEXTS, small_masked_lm, small_tokenizer

import pyroberta
from pyroberta import (
    Backbone,
    MaskedLM,
    Task,
    TextClassifier,
    TextClassifierPreprocessor,
    losses,
    metrics,
    optimizers,
    schedules,
)
from pyroberta.presets.convert import convert

SIZES = (20, 1, 2, 8, 16)
FEATURES = {"token_ids": np.array([[0, 5, 6, 2], [0, 7, 2, 1]]), "padding_mask": np.array([[1, 1, 1, 1], [1, 1, 1, 0]])}


def values(model: Any) -> list[bytes]:
    return [weight.tobytes() for weight in model.get_weights()]


def classifier(**settings: Any) -> TextClassifier:
    lm = small_masked_lm()
    return TextClassifier(lm.backbone, 3, TextClassifierPreprocessor(small_tokenizer(), 40), **settings)


# --- backbone ---------------------------------------------------------------------------------------------------------


def test_a_backbones_arguments_go_by_position_in_kerashubs_order():
    by_position = Backbone(20, 1, 2, 8, 16, 0.2, 12, "float64")
    names = ("vocabulary_size", "num_layers", "num_heads", "hidden_dim", "intermediate_dim", "dropout")
    given = dict(zip(names, (*SIZES, 0.2), strict=True)) | {"max_sequence_length": 12}
    by_name = Backbone(**given, dtype="float64")
    assert by_position.config == by_name.config
    assert values(by_position) == values(by_name)
    assert {name: getattr(by_position, name) for name in given} == given
    assert by_position.dtype == "float64"


def test_a_backbone_is_named_frozen_and_has_the_presets():
    backbone = Backbone(*SIZES, name="mine", trainable=False)
    assert (backbone.name, backbone.trainable, backbone.trainable_names()[0]) == ("mine", False, "head.dense.kernel")
    assert Backbone(*SIZES).name == "roberta_backbone"
    loaded = Backbone.from_preset("roberta_tiny_en", False, name="tiny", trainable=False)
    assert (loaded.name, loaded.trainable) == ("tiny", False)
    for kind in (Backbone, Task, MaskedLM, TextClassifier):
        assert set(kind.presets) == {"roberta_tiny_en", "roberta_base_en", "roberta_large_en"}
    with pytest.raises(ValueError, match="name must have no '/', as names of Keras's layers have none, got 'a/b'"):
        Backbone(*SIZES, name="a/b")
    with pytest.raises(TypeError, match="name must be a text"):
        Backbone(*SIZES, name=3)
    with pytest.raises(TypeError, match="trainable must be True or False"):
        Backbone(*SIZES, trainable="no")


def test_load_weights_goes_by_position():
    fresh, loaded = (MaskedLM.from_preset("roberta_tiny_en", load) for load in (False, True))
    assert values(fresh)[0] != values(loaded)[0]
    assert (values(TextClassifier.from_preset("roberta_tiny_en", False, num_classes=2))[0]) == values(fresh)[0]
    with pytest.raises(TypeError, match="num_classes=2"):
        TextClassifier.from_preset("roberta_tiny_en", 2)


def test_a_token_embedding_embeds_ids_and_turns_back():
    backbone = Backbone(*SIZES, dtype="float64")
    embedding, table = backbone.token_embedding, backbone.params["embeddings.token"]
    vectors = embedding(FEATURES["token_ids"])
    assert (vectors == table[FEATURES["token_ids"]]).all()
    np.testing.assert_allclose(embedding(vectors, reverse=True), vectors @ table.T, rtol=1e-13)
    assert (embedding.input_dim, embedding.output_dim, embedding.tie_weights) == (20, 8, True)
    assert np.shares_memory(embedding.embeddings, table)
    assert embedding.embeddings.flags.writeable is False
    for wrong, said in (
        (([[20]],), "token id 20 is outside the vocabulary of 20"),
        (([[-1]],), "token id -1"),
        (([[0.5]],), "reverse=True"),
        ((vectors[..., 1:], True), "hidden_dim wide"),
    ):
        with pytest.raises(ValueError, match=said):
            embedding(*wrong)


def test_an_untied_embedding_turns_back_by_the_output_table():
    backbone = Backbone(*SIZES, dtype="float64", tie_embeddings=False)
    vectors = backbone.token_embedding([[3, 4]])
    expected = vectors @ backbone.params["head.decoder"].T
    np.testing.assert_allclose(backbone.token_embedding(vectors, reverse=True), expected, rtol=1e-13)
    assert len(backbone.token_embedding.weights) == 2


def test_a_backbone_predicts_in_batches():
    backbone = Backbone(*SIZES, dtype="float64")
    expected = backbone(FEATURES)
    for batch_size in (None, 1, 2, 5):
        np.testing.assert_allclose(backbone.predict(FEATURES, batch_size), expected, rtol=1e-12, atol=1e-14)
    batches = [{name: value[i : i + 1] for name, value in FEATURES.items()} for i in range(2)]
    np.testing.assert_allclose(backbone.predict(iter(batches)), expected, rtol=1e-12, atol=1e-14)
    assert backbone.predict(iter(batches), steps=1).shape == (1, 4, 8)
    with pytest.raises(TypeError, match=r"Pass texts to a task, such as MaskedLM\.embed"):
        backbone.predict(["a text"])
    with pytest.raises(ValueError, match="nothing to predict"):
        backbone.predict([])
    with pytest.raises(ValueError, match="different lengths"):
        backbone.predict([{"token_ids": [[0, 2]]}, {"token_ids": [[0, 5, 2]]}])
    with pytest.raises(ValueError, match=r"a row for each sequence; they have token_ids 1, padding_mask 2"):
        backbone.predict({"token_ids": [[0, 2]], "padding_mask": [[1, 1], [1, 1]]}, batch_size=1)


@pytest.mark.parametrize("config", [None, ["backbone"], "adam", {1: 2}], ids=repr)
@pytest.mark.parametrize(
    "kind",
    [
        *(Backbone, MaskedLM, TextClassifier, TextClassifierPreprocessor, pyroberta.Tokenizer),
        *(pyroberta.MaskedLMPreprocessor, optimizers.Adam, losses.SparseCategoricalCrossentropy, metrics.Accuracy),
        *(schedules.ExponentialDecay, schedules.Linear),
    ],
    ids=lambda kind: kind.__name__,
)
def test_what_is_no_config_is_named_by_every_class(kind: Any, config: Any):
    shown = re.escape(repr(config))
    with pytest.raises(TypeError, match=rf"{kind.__name__}\.from_config takes the dict that get_config .* got {shown}"):
        kind.from_config(config)


@pytest.mark.parametrize("module", [optimizers, losses, metrics, schedules], ids=lambda module: module.__name__)
def test_what_is_no_config_is_named_by_every_module(module: Any):
    with pytest.raises(ValueError, match=r"'s config should be a dict with class_name and config.* got 'adam'"):
        module.from_config("adam")


def test_a_backbones_weights_and_summary_leave_the_head_out(capsys: pytest.CaptureFixture[str]):
    lm = small_masked_lm()
    backbone = lm.backbone
    assert sum(weight.size for weight in backbone.get_weights()) == backbone.count_params() < lm.count_params()
    head = lm.get_weights()[-1]
    backbone.set_weights([weight + 1.0 for weight in backbone.get_weights()])
    assert (lm.get_weights()[-1] == head).all()
    with pytest.raises(ValueError, match="arrays that get_weights returns"):
        backbone.set_weights(lm.get_weights())
    backbone.summary()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["total", f"{backbone.count_params():,}", f"{backbone.count_params():,}"]
    assert not any(line.startswith("head") for line in lines)


def test_a_summary_tells_the_preprocessor():
    lines: list[str] = []
    lm = small_masked_lm()
    lm.summary(print_fn=lines.append)
    assert "Preprocessor:" in lines[0]
    lm.preprocessor = None
    lm.summary(print_fn=lines.append)
    assert "Preprocessor:" not in lines[1]


def test_reprs_say_what_they_are():
    assert repr(Backbone(*SIZES)).startswith("<Backbone: 1 layers, hidden 8, 2 heads, vocabulary 20, 4,8")
    tiny = MaskedLM.from_preset("roberta_tiny_en")
    assert repr(tiny.backbone).startswith("<Backbone from 'roberta_tiny_en': ")
    assert repr(TextClassifier(tiny.backbone, 2)).startswith("<TextClassifier from 'roberta_tiny_en': ")
    assert "float32, backend " in repr(tiny)
    assert "TokenEmbedding: 20 x 8" in repr(Backbone(*SIZES).token_embedding)


# --- configs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"dropout": 0.3, "attention_dropout": 0.2, "name": "b", "trainable": False, "dtype": "float64"},
        {"layer_norm_epsilon": 1e-6, "tie_embeddings": False, "pad_id": 3, "max_sequence_length": 9},
        {"num_classes": 4, "classifier_dropout": 0.5},
        {"lora_rank": 2, "lora_alpha": 3.0, "lora_targets": ("key", "output")},
    ],
    ids=lambda fields: next(iter(fields), "default"),
)
def test_a_backbone_comes_back_from_its_config(fields: dict[str, Any]):
    backbone = Backbone(*SIZES, **fields)
    config = backbone.get_config()
    other = Backbone.from_config(json.loads(json.dumps(config)))
    assert (other.config, other.name, other.trainable) == (backbone.config, backbone.name, backbone.trainable)
    assert (other.precision, other.get_config()) == (backbone.precision, config)


def test_a_plain_backbones_config_is_kerashubs():
    assert list(Backbone(*SIZES).get_config()) == [
        *("name", "trainable", "dtype", "vocabulary_size", "num_layers", "num_heads", "hidden_dim"),
        *("intermediate_dim", "dropout", "max_sequence_length"),
    ]


def test_a_config_that_is_not_one_is_refused():
    config = Backbone(*SIZES).get_config()
    with pytest.raises(TypeError, match="hidden"):
        Backbone.from_config(config | {"hidden": 3})
    with pytest.raises(ValueError, match="dtype must be 'float32', 'float64' or 'mixed_bfloat16', got"):
        Backbone.from_config(config | {"dtype": {"class_name": "DTypePolicyMap", "config": {}}})
    with pytest.raises(ValueError, match="backbone is of the class 'BertBackbone'"):
        MaskedLM.from_config({"backbone": {"class_name": "BertBackbone", "config": {}}})
    with pytest.raises(ValueError, match="the config of a task should have a backbone"):
        MaskedLM.from_config({"name": "a"})


@pytest.mark.parametrize("kind", [MaskedLM, TextClassifier])
def test_a_task_comes_back_from_its_config(kind: type[Task]):
    task = small_masked_lm(seed=3) if kind is MaskedLM else classifier(name="mine", seed=3)
    for preprocessor in (task.preprocessor, None):
        task.preprocessor = preprocessor
        config = task.get_config()
        other = kind.from_config(json.loads(json.dumps(config)))
        assert type(other) is kind
        assert (other.backbone.config, other.name, other.seed) == (task.backbone.config, task.name, 3)
        assert (type(other.preprocessor), other.get_config()) == (type(preprocessor), config)
        objects = kind.from_config({**config, "backbone": task.backbone, "preprocessor": preprocessor})
        assert objects.preprocessor is preprocessor
        if kind is MaskedLM:
            assert objects.backbone is task.backbone


def test_a_task_made_without_compile_must_be_compiled():
    lm = small_masked_lm()
    lm = MaskedLM(lm.backbone, lm.preprocessor, compile=False, name="mine")
    assert lm.name == "mine"
    lm.predict(["a <mask>"], verbose=0)
    for method in (lm.fit, lm.evaluate, lm.train_on_batch, lm.test_on_batch):
        with pytest.raises(ValueError, match=r"You must call `compile\(\)`"):
            method(TEXTS)
    lm.compile()
    lm.fit(TEXTS, verbose=0)


# --- files of weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".weights.h5", ".safetensors"])
@pytest.mark.parametrize("make", [lambda: small_masked_lm().backbone, small_masked_lm, classifier])
def test_weights_go_into_a_file_and_back(make, ending: str, tmp_path: Path):
    model, file = make(), tmp_path / "deep" / f"w{ending}"
    before = values(model)
    model.save_weights(file)
    model.set_weights([weight * 2.0 for weight in model.get_weights()])
    assert values(model) != before
    model.load_weights(str(file))
    assert values(model) == before
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model.save_weights(file, overwrite=False)
    for save in (model.save, model.save_weights):
        with pytest.raises(TypeError, match="overwrite must be True or False, got 'no'"):
            save(file, overwrite="no")


@pytest.mark.parametrize("ending", [".weights.h5", ".safetensors"])
def test_a_heads_weights_go_into_a_file_of_their_own(ending: str, tmp_path: Path):
    lm, file = small_masked_lm(), tmp_path / f"w{ending}"
    lm.fit(TEXTS, verbose=0)
    lm.save_task_weights(file)
    other = small_masked_lm()
    encoder = values(other.backbone)
    other.load_task_weights(file)
    assert values(other.backbone) == encoder
    assert values(other)[-5:] == values(lm)[-5:]
    assert lm.has_task_weights()
    with pytest.raises(ValueError, match="lacks"):
        other.load_weights(file)


def test_lora_is_saved_within_the_kernels(tmp_path: Path):
    lm, other = small_masked_lm(), small_masked_lm()
    lm.backbone.enable_lora(2)
    lm.compile(optimizer=pyroberta.optimizers.Adam(0.1))
    lm.fit(TEXTS, verbose=0)
    lm.save_weights(tmp_path / "w.weights.h5")
    other.load_weights(tmp_path / "w.weights.h5")
    expected = lm.predict(["a <mask>"], verbose=0)
    np.testing.assert_allclose(other.predict(["a <mask>"], verbose=0), expected, rtol=1e-12)
    lm.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_allclose(lm.predict(["a <mask>"], verbose=0), expected, rtol=1e-12)


def test_a_file_of_another_model_changes_nothing(tmp_path: Path):
    lm, longer = small_masked_lm(), small_masked_lm(max_sequence_length=41)
    longer.save_weights(tmp_path / "w.weights.h5")
    before = values(lm)
    with pytest.raises(ValueError, match=r"position_embedding/vars/0 has shape \(41, 8\), expected \(40, 8\)"):
        lm.load_weights(tmp_path / "w.weights.h5")
    assert values(lm) == before
    longer.set_weights([weight + 1.0 for weight in longer.get_weights()])
    longer.save_weights(tmp_path / "w.weights.h5")
    with pytest.warns(UserWarning, match=r"1 of the 41 parameters.*stay as they are: embeddings\.position"):
        lm.load_weights(tmp_path / "w.weights.h5", skip_mismatch=True)
    assert values(lm)[1] == before[1]
    assert values(lm)[2:] == values(longer)[2:]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("w.h5", r"Write 'w\.weights\.h5'"),
        ("w.keras", r"use save\(filepath\), to load it models\.load_model"),
        ("w.npz", r"must end in \.weights\.h5 or \.safetensors"),
    ],
)
def test_a_file_of_weights_has_one_of_two_endings(name: str, said: str, tmp_path: Path):
    for method in (Backbone(*SIZES).save_weights, Backbone(*SIZES).load_weights, small_masked_lm().save_task_weights):
        with pytest.raises(ValueError, match=said):
            method(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_directory_is_no_file_of_weights(tmp_path: Path):
    with pytest.raises(ValueError, match=r", a directory\. To load a whole preset use from_preset\("):
        Backbone(*SIZES).load_weights(tmp_path)


def test_what_cannot_be_saved_or_found_is_told(tmp_path: Path):
    untied = MaskedLM(Backbone(*SIZES, tie_embeddings=False))
    with pytest.raises(ValueError, match=r"KerasHub's RoBERTa lacks head\.decoder .*\.safetensors"):
        untied.save_weights(tmp_path / "w.weights.h5")
    assert not list(tmp_path.iterdir())
    untied.save_weights(tmp_path / "w.safetensors")
    untied.load_weights(tmp_path / "w.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        untied.load_weights(tmp_path / "other.safetensors")
    (tmp_path / "bad.weights.h5").write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match="damaged or not an HDF5 file"):
        Backbone(*SIZES).load_weights(tmp_path / "bad.weights.h5")


# --- classifiers ------------------------------------------------------------------------------------------------------


LABELS = [0, 2, 1, 0, 2, 1]


def test_softmax_gives_the_probabilities_of_the_logits():
    plain = classifier(hidden_dim=5)
    softmax = TextClassifier(plain.backbone, 3, plain.preprocessor, "softmax")
    logits = plain.predict(TEXTS, verbose=0)
    powers = np.exp(logits)
    np.testing.assert_allclose(
        softmax.predict(TEXTS, verbose=0), powers / powers.sum(axis=1, keepdims=True), rtol=1e-12
    )
    assert softmax.classify(TEXTS) == plain.classify(TEXTS)
    features = plain.preprocessor(TEXTS)
    np.testing.assert_allclose(softmax(features), softmax.predict(features, verbose=0), rtol=1e-12)


def test_training_on_probabilities_is_training_on_their_logits():
    """Where no probability is clipped, -log softmax is the same function, and so is its gradient."""
    models = [classifier(activation=activation, hidden_dim=5, seed=2) for activation in (None, "softmax")]
    assert [model.loss.from_logits for model in models] == [True, False]
    for model in models:
        model.compile("adam", "sparse_categorical_crossentropy")
        model.optimizer.learning_rate = 0.01
    first, second = (model.fit(TEXTS, LABELS, epochs=3, batch_size=4, verbose=0).history for model in models)
    assert first == second
    assert values(models[0]) == values(models[1])
    assert models[0].evaluate(TEXTS, LABELS, verbose=0) == models[1].evaluate(TEXTS, LABELS, verbose=0)


def test_a_probability_that_keras_clips_has_no_gradient():
    model = classifier(activation="softmax", dropout=0.0)
    with model.backbone.changing() as params:
        params["head.table"][...] = 0.0
        params["head.bias"][...] = [40.0, 0.0, 0.0]  # p = 1 of class 0, and e^-40 of the others
    before = values(model)
    model.compile(pyroberta.optimizers.Adam(0.1))
    for labels, loss in (([0] * 6, -np.log(1.0 - 1e-7)), ([1] * 6, -np.log(1e-7))):
        assert model.evaluate(TEXTS, labels, verbose=0)[0] == pytest.approx(loss, rel=1e-12)
        model.fit(TEXTS, labels, verbose=0)
    assert values(model) == before


def test_outputs_and_loss_must_be_of_one_kind():
    loss = pyroberta.losses.SparseCategoricalCrossentropy
    with pytest.raises(ValueError, match=r"returns probabilities: use .*\(from_logits=False\)"):
        classifier(activation="softmax").compile(loss=loss(from_logits=True))
    with pytest.raises(ValueError, match=r"returns logits: use SparseCategoricalCrossentropy\(from_logits=True\)"):
        classifier().compile(loss=loss())


def test_a_function_is_applied_to_the_logits_and_is_not_trained():
    plain = classifier()
    model = TextClassifier(plain.backbone, 3, plain.preprocessor, activation=np.tanh)
    np.testing.assert_array_equal(model.predict(TEXTS, verbose=0), np.tanh(plain.predict(TEXTS, verbose=0)))
    assert model.classify(TEXTS[0]) == plain.classify(TEXTS[0])
    for method in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="derivative is unknown"):
            method(TEXTS, LABELS)
    for refused in (model.get_config, lambda: model.save_to_preset("never")):
        with pytest.raises(ValueError, match="can't be written into a file"):
            refused()
    shrinking = TextClassifier(plain.backbone, 3, plain.preprocessor, activation=lambda logits: logits[:, :1])
    with pytest.raises(ValueError, match=r"should keep the shape of the logits, \(6, 3\)"):
        shrinking.predict(TEXTS, verbose=0)


def test_log_probabilities_are_trained_as_logits_are():
    plain, model = classifier(seed=2), classifier(activation="log_softmax", seed=2)
    assert model.loss.from_logits is True
    outputs = model.predict(TEXTS, verbose=0)
    np.testing.assert_allclose(np.exp(outputs).sum(axis=1), 1.0, atol=1e-12)
    shifts = outputs - plain.predict(TEXTS, verbose=0)
    np.testing.assert_allclose(shifts, np.broadcast_to(shifts[:, :1], shifts.shape), atol=1e-12)
    for each in (plain, model):
        each.fit(TEXTS, LABELS, batch_size=2, epochs=2, verbose=0)
    assert values(model) == values(plain)
    assert model.classify(TEXTS) == plain.classify(TEXTS)


def test_sigmoid_gives_each_class_its_own_probability_and_is_not_trained():
    plain = classifier()
    with plain.backbone.changing(["head.bias"]) as params:
        params["head.bias"][...] = [0.0, 800.0, -800.0]  # whose exponentials overflow
    model = TextClassifier(plain.backbone, 3, plain.preprocessor, activation="sigmoid")
    logits, outputs = plain.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0)
    np.testing.assert_allclose(outputs, (1.0 + np.tanh(logits / 2.0)) / 2.0, atol=1e-12)
    assert [each.score for each in model.classify(TEXTS)] == outputs[:, 1].tolist()
    assert model.loss.from_logits is False
    for method in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="the activation is 'sigmoid', whose loss has no backward here"):
            method(TEXTS, LABELS)


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"activation": "relu"}, ValueError, "one of 'linear', 'softmax', 'log_softmax', 'sigmoid', or None for"),
        ({"activation": 3}, TypeError, "activation should be a name, a function or None"),
        ({"hidden_dim": 0}, ValueError, "hidden_dim must be a whole number of at least 1"),
        ({"dropout": 1.0}, ValueError, r"classifier_dropout must be in \[0, 1\)"),
        ({"dropout": 0.1, "classifier_dropout": 0.2}, ValueError, "two names of the head's rate"),
    ],
)
def test_a_classifiers_arguments_are_checked(settings: dict[str, Any], error: type[Exception], said: str):
    with pytest.raises(error, match=said):
        classifier(**settings)


def test_a_width_that_no_memory_holds_is_refused_before_it_is_made():
    with pytest.raises(ValueError, match="classifier_hidden_dim 1000000000000 is too large"):
        classifier(hidden_dim=10**12)


def test_a_head_of_another_width_is_not_taken_over():
    narrow = classifier(hidden_dim=5, dropout=0.25)
    assert narrow.params["head.dense.kernel"].shape == (8, 5)
    assert narrow.backbone.config.classifier_dropout == 0.25
    with pytest.raises(ValueError, match="hidden_dim is 6, but the backbone has a head for 3 classes already"):
        TextClassifier(narrow.backbone, 3, hidden_dim=6)
    assert classifier(hidden_dim=8).backbone.config == classifier().backbone.config
    assert MaskedLM(narrow.backbone).backbone.config.classifier_hidden_dim is None


@pytest.mark.parametrize("activation", ["log_softmax", "sigmoid"])
@pytest.mark.parametrize("format", ["hf", "keras"])
@pytest.mark.filterwarnings("ignore:transformers' classifier will return logits")
def test_a_preset_keeps_the_other_activations(format: str, activation: str, tmp_path: Path):
    model = classifier(activation=activation)
    model.save_to_preset(tmp_path / "p", format=format, dtype="float64")
    found = TextClassifier.from_preset(tmp_path / "p", dtype="float64")
    assert found.activation == activation
    np.testing.assert_array_equal(found.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0))
    assert TextClassifier.from_config(model.get_config()).activation == activation


def test_a_classifier_comes_back_from_a_keras_preset(tmp_path: Path):
    model = classifier(activation="softmax", hidden_dim=5, dropout=0.25, labels=["a", "b", "c"])
    model.save_to_preset(tmp_path / "p", format="keras", dtype="float64")
    found = TextClassifier.from_preset(tmp_path / "p", dtype="float64")
    assert (found.activation, found.backbone.config, found.labels) == ("softmax", model.backbone.config, model.labels)
    assert (found.hidden_dim, found.dropout) == (5, 0.25)
    assert found.loss.from_logits is False
    np.testing.assert_array_equal(found.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0))
    logits = TextClassifier.from_preset(tmp_path / "p", activation=None)
    assert (logits.activation, logits.loss.from_logits) == ("linear", True)
    with pytest.warns(UserWarning, match="num_classes=4 instead of 3"):
        other = TextClassifier.from_preset(tmp_path / "p", num_classes=4)
    assert (other.activation, other.params["head.table"].shape) == ("linear", (4, 5))
    with pytest.warns(UserWarning, match="hidden_dim=6 instead of 5"):
        other = TextClassifier.from_preset(tmp_path / "p", hidden_dim=6)
    assert other.params["head.table"].shape == (3, 6)
    with pytest.warns(UserWarning, match="untrained"):
        assert "head.norm.beta" in MaskedLM.from_preset(tmp_path / "p").params


def test_a_hugging_face_directory_keeps_the_activation_and_refuses_another_width(tmp_path: Path):
    with pytest.raises(ValueError, match=r"dense layer is 5 wide .* format='keras'"):
        classifier(hidden_dim=5).save_to_preset(tmp_path / "p")
    assert not list(tmp_path.iterdir())
    with pytest.warns(UserWarning, match="transformers' classifier will return logits"):
        classifier(activation="softmax").save_to_preset(tmp_path / "p")
    assert TextClassifier.from_preset(tmp_path / "p").activation == "softmax"


# --- longer sequences -------------------------------------------------------------------------------------------------


def test_positions_are_extended_by_copies():
    lm = small_masked_lm()
    before = {name: array.copy() for name, array in lm.params.items()}
    short = {"token_ids": np.arange(40)[None], "padding_mask": np.ones((1, 40))}
    states = lm.backbone(short)
    lm.extend_positions(100)
    position = lm.params["embeddings.position"]
    assert position.shape == (100, 8)
    assert all(
        (position[start : start + 40] == before["embeddings.position"][: 100 - start]).all() for start in (0, 40, 80)
    )
    assert all((lm.params[name] == array).all() for name, array in before.items() if name != "embeddings.position")
    assert (lm.backbone(short) == states).all()
    assert (lm.backbone.max_sequence_length, lm.preprocessor.sequence_length) == (100, 100)
    assert lm.preprocessor.mask_selection_length == 20  # 8 of 40
    lm.fit([" ".join(TEXTS[:4])], verbose=0)


def test_a_shorter_preprocessor_stays_as_it_is():
    lm = small_masked_lm(settings={"sequence_length": 12})
    lm.extend_positions(50)
    assert (lm.preprocessor.sequence_length, lm.preprocessor.mask_selection_length) == (12, 8)


@pytest.mark.parametrize("length", [40, 39, 0, 41.0, True])
def test_positions_are_never_cut(length: Any):
    lm = small_masked_lm()
    with pytest.raises(ValueError, match="length must be"):
        lm.extend_positions(length)
    assert lm.backbone.max_sequence_length == 40


def test_an_optimizer_that_has_worked_is_compiled_anew_after_an_extension():
    lm = small_masked_lm()
    lm.fit(TEXTS, verbose=0)
    lm.extend_positions(50)
    with pytest.raises(ValueError, match=r"positions extended\): call compile\(\)"):
        lm.fit(TEXTS, verbose=0)


@pytest.mark.parametrize("format", ["hf", "keras"])
def test_an_extended_model_comes_back_from_both_formats(format: str, tmp_path: Path):
    lm = small_masked_lm(dtype="float32")
    lm.extend_positions(90)
    lm.save_to_preset(tmp_path / "p", format=format)
    found = MaskedLM.from_preset(tmp_path / "p")
    assert (found.backbone.max_sequence_length, found.preprocessor.sequence_length) == (90, 90)
    assert values(found) == values(lm)


def test_weights_are_views_parted_by_what_training_changes():
    lm = small_masked_lm()
    assert len(lm.weights) == len(lm.trainable_weights) == len(lm.get_weights())
    lm.backbone.trainable = False
    assert [len(lm.trainable_weights), len(lm.non_trainable_weights)] == [5, len(lm.backbone.weights)]
    assert (lm.backbone.trainable_weights, len(lm.backbone.non_trainable_weights)) == ([], len(lm.backbone.weights))
    assert all(np.shares_memory(weight, lm.backbone.params.flat) for weight in lm.weights)
    assert not any(weight.flags.writeable for weight in lm.weights)


@pytest.mark.parametrize("name", ["show_trainable", "expand_nested", "line_length"])
def test_a_summary_says_why_it_takes_no_such_argument(name: str):
    with pytest.raises(TypeError, match=f"{name!r}: the"):
        small_masked_lm().summary(**{name: 1})


def test_what_a_backbone_lacks_is_told_with_its_place():
    backbone = Backbone(*SIZES)
    for name, said in (
        ("fit", "it is a method of a task"),
        ("layers", "summary()"),
        ("hidden_dims", "did you mean 'hidden_dim'"),
    ):
        with pytest.raises(AttributeError, match=f"Backbone has no attribute '{name}'.*{re.escape(said)}"):
            getattr(backbone, name)
    with pytest.raises(TypeError, match=r"Backbone\(\) got an unexpected keyword argument 'hiden_dim'; did you mean"):
        Backbone(*SIZES, hiden_dim=3)


@pytest.mark.parametrize(
    ("module", "name", "said"),
    [
        ("losses", "BinaryCrossentropy", "make the model with num_classes=2"),
        ("losses", "CategoricalCrossentropy", "y = numpy.argmax(y, axis=1)"),
        ("losses", "MeanSquaredError", "no other loss has a backward"),
        ("losses", "SparseCategoricalCrossEntropy", "did you mean 'SparseCategoricalCrossentropy'"),
        ("metrics", "F1Score", "`pyroberta classify evaluate` reports precision"),
        ("metrics", "AUC", "compile(metrics=[function])"),
        ("callbacks", "RemoteMonitor", "LambdaCallback(on_epoch_end=function)"),
        ("callbacks", "OrbaxCheckpoint", "BackupAndRestore"),
        ("optimizers", "SGD", "RoBERTa is trained with Adam"),
        ("optimizers.schedules", "CosineDecays", "did you mean 'CosineDecay'"),
    ],
)
def test_a_name_of_keras_that_a_module_lacks_says_what_to_write(module: str, name: str, said: str):
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'.*{re.escape(said)}"):
        getattr(importlib.import_module(f"pyroberta.{module}"), name)


def test_optimizers_losses_and_metrics_show_their_arguments():
    rate = pyroberta.optimizers.schedules.CosineDecay(1e-3, 10)
    shown = {
        "Adam(learning_rate=0.01, clipnorm=1.0)": pyroberta.optimizers.Adam(0.01, clipnorm=1.0),
        "SparseCategoricalCrossentropy(from_logits=True)": pyroberta.losses.SparseCategoricalCrossentropy(True),
        "Perplexity(name='p')": pyroberta.metrics.Perplexity("p"),
        f"AdamW(learning_rate={rate!r})": pyroberta.optimizers.AdamW(rate),
    }
    assert {text: repr(instance) for text, instance in shown.items()} == {text: text for text in shown}


def test_a_width_is_of_a_head_that_has_one():
    with pytest.raises(ValueError, match=r"'masked_lm' has no dense layer .*, got classifier_hidden_dim 5"):
        Backbone(*SIZES, classifier_hidden_dim=5)
    with pytest.raises(ValueError, match="classifier_hidden_dim must be a whole number"):
        Backbone(*SIZES, num_classes=3, classifier_hidden_dim=2.5)
    assert Backbone(*SIZES, num_classes=3, classifier_hidden_dim=5).params["head.table"].shape == (3, 5)


def test_weights_are_saved_and_loaded_by_callbacks_within_a_fit(tmp_path: Path):
    class Keeper(pyroberta.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            file = tmp_path / "w.weights.h5"
            if epoch == 0:
                self.model.save_weights(file)
            else:
                self.model.load_weights(file)

    lm, other = small_masked_lm(), small_masked_lm()
    lm.fit(TEXTS, epochs=2, callbacks=[Keeper()], verbose=0)
    other.fit(TEXTS, epochs=1, verbose=0)
    assert values(lm) == values(other)


def test_converting_takes_the_activation_along_and_refuses_a_width(tmp_path: Path):
    classifier(activation="softmax").save_to_preset(tmp_path / "keras", format="keras")
    with pytest.warns(UserWarning, match="transformers' classifier will return logits"):
        convert(tmp_path / "keras", tmp_path / "hf", format="hf")
    convert(tmp_path / "hf", tmp_path / "again", format="keras")
    assert TextClassifier.from_preset(tmp_path / "again").activation == "softmax"
    classifier(hidden_dim=5).save_to_preset(tmp_path / "wide", format="keras")
    with pytest.raises(ValueError, match="dense layer is 5 wide"):
        convert(tmp_path / "wide", tmp_path / "never", format="hf")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("activation", ["relu", 3, ["softmax"], None])
@pytest.mark.parametrize("format", ["hf", "keras"])
def test_an_activation_that_is_none_is_refused_where_a_preset_is_read(activation: Any, format: str, tmp_path: Path):
    classifier().save_to_preset(tmp_path / "p", format=format)
    file = tmp_path / "p" / ("config.json" if format == "hf" else "task.json")
    described = json.loads(file.read_text())
    if format == "hf":
        described["pyroberta_activation"] = activation
    else:
        described["config"]["activation"] = activation
    file.write_text(json.dumps(described))
    if activation is None and format == "keras":  # KerasHub's own way to say "linear"
        assert TextClassifier.from_preset(tmp_path / "p").activation == "linear"
        return
    with pytest.raises(ValueError, match=r"activation is .*can be read"):
        TextClassifier.from_preset(tmp_path / "p")
