"""KerasHub's claims about RoBERTa's backbone, masked LM and classifier, and about backbones and tasks in general."""

from __future__ import annotations

import json

import numpy as np
import pytest
from claims import claim, differs, hub_tokenizer
from small_models import small_masked_lm

from pyroberta import (
    Backbone,
    MaskedLM,
    MaskedLMPreprocessor,
    Task,
    TextClassifier,
    TextClassifierPreprocessor,
    losses,
    models,
    optimizers,
)

DIRECTORY = "keras_hub/src/models/roberta"
BACKBONE = f"{DIRECTORY}/roberta_backbone_test.py::RobertaBackboneTest"
LM = f"{DIRECTORY}/roberta_masked_lm_test.py::RobertaMaskedLMTest"
CLASSIFIER = f"{DIRECTORY}/roberta_text_classifier_test.py::RobertaTextClassifierTest"
BACKBONES = "keras_hub/src/models/backbone_test.py::TestBackbone"
TASKS = "keras_hub/src/models/task_test.py::TestTask"
SIZES = {"vocabulary_size": 10, "num_layers": 2, "num_heads": 2, "hidden_dim": 2, "intermediate_dim": 4}
ONES = {"token_ids": np.ones((2, 5), "int32"), "padding_mask": np.ones((2, 5), "int32")}
TEXTS = [" airplane at airport", " airplane airport"]
both = pytest.mark.parametrize("kind", [MaskedLM, TextClassifier])
pytestmark = pytest.mark.filterwarnings("ignore:the merges need tokens")  # as those of its own tests are


def backbone(**changes) -> Backbone:
    return Backbone(**{**SIZES, "max_sequence_length": 5, **changes})


def task(kind, **options):
    """The task of KerasHub's tests: every token masked, sequences of 5."""
    if kind is MaskedLM:
        rates = {"mask_selection_rate": 1.0, "mask_token_rate": 1.0, "random_token_rate": 0.0}
        preprocessor = MaskedLMPreprocessor(hub_tokenizer(), sequence_length=5, mask_selection_length=5, **rates)
    else:
        preprocessor = TextClassifierPreprocessor(hub_tokenizer(), sequence_length=5)
        options = {"num_classes": 2, **options}
    made = backbone(vocabulary_size=preprocessor.tokenizer.vocabulary_size(), max_sequence_length=5)
    return kind(backbone=made, preprocessor=preprocessor, **options)


def quietly(call, *given, **named):
    """A call whose texts are cut, which is told in a warning."""
    with pytest.warns(UserWarning, match="cut|split"):
        return call(*given, **named)


def labels_of(kind):
    return None if kind is MaskedLM else [1, 0]


def preprocessed(model):
    data = (TEXTS,) if isinstance(model, MaskedLM) else (TEXTS, [1, 0])
    return quietly(model.preprocessor, *data)


# ------------------------------------------------------------------------------------------------------------- backbone


@claim(f"{BACKBONE}::test_backbone_basics")
def test_a_backbone_gives_a_vector_for_every_token():
    assert backbone()(ONES).shape == (2, 5, 2)


@claim(f"{BACKBONE}::test_backbone_basics")
@pytest.mark.parametrize("length", [2, 3, 4])
def test_sequences_have_any_length(length):
    shorter = {name: array[:, :length] for name, array in ONES.items()}
    assert backbone()(shorter).shape == (2, length, 2)


@claim(f"{BACKBONE}::test_backbone_basics")
def test_a_backbone_is_made_again_of_its_config():
    config = json.loads(json.dumps(backbone().get_config()))
    assert {name: config[name] for name in SIZES} == SIZES
    again = Backbone.from_config(config)
    assert again.get_config() == backbone().get_config()


@claim(f"{BACKBONE}::test_backbone_basics")
def test_tokens_are_embedded():
    assert backbone().token_embedding(np.zeros((2, 3), "int32")).shape == (2, 3, 2)


@claim(f"{BACKBONE}::test_backbone_basics")
@pytest.mark.parametrize("data", [ONES, "batches"])
def test_a_backbone_predicts(data):
    model = backbone()
    given = iter([ONES]) if isinstance(data, str) else data
    np.testing.assert_allclose(model.predict(given), model(ONES), atol=1e-6)


@claim(f"{BACKBONE}::test_backbone_basics")
def test_a_backbones_name_is_its_classs():
    assert "roberta_backbone" in backbone().name or "backbone" in backbone().name


@claim(f"{BACKBONE}::test_backbone_basics")
@pytest.mark.parametrize("name", [*SIZES, "dropout", "max_sequence_length"])
def test_a_backbones_sizes_are_attributes(name):
    expected = {**SIZES, "max_sequence_length": 5, "dropout": 0.1}
    assert getattr(backbone(), name) == expected[name]


@claim(f"{BACKBONE}::test_backbone_basics")
def test_a_backbones_sizes_are_given_by_position():
    model = Backbone(10, 2, 2, 2, 4)
    assert {name: getattr(model, name) for name in SIZES} == SIZES


@claim(f"{BACKBONE}::test_saved_model", f"{BACKBONES}::test_save_to_preset")
@pytest.mark.parametrize("format", ["hf", "keras"])
def test_a_backbone_that_was_saved_is_loaded(tmp_path, format):
    model = backbone()
    model.save_to_preset(tmp_path / "preset", format=format)
    np.testing.assert_allclose(Backbone.from_preset(tmp_path / "preset")(ONES), model(ONES), atol=1e-6)


@claim(f"{BACKBONES}::test_save_to_preset")
def test_a_saved_backbone_has_kerashubs_files(tmp_path):
    backbone().save_to_preset(tmp_path / "preset", format="keras")
    for name in ("config.json", "model.weights.h5", "metadata.json"):
        assert (tmp_path / "preset" / name).exists()
    config = json.loads((tmp_path / "preset/config.json").read_text(encoding="utf-8"))
    assert config["class_name"] == "RobertaBackbone"
    assert not {"build_config", "compile_config"} & set(config)


@claim(f"{BACKBONES}::test_preset_accessors", f"{TASKS}::test_preset_accessors")
@pytest.mark.parametrize("kind", [Backbone, Task, MaskedLM, TextClassifier])
def test_presets_have_names(kind):
    assert {"roberta_base_en", "roberta_large_en"} <= set(kind.presets)
    assert "bert_tiny_en_uncased" not in kind.presets


@claim(f"{BACKBONES}::test_from_preset")
@pytest.mark.parametrize("options", [{"load_weights": False}, {}])
def test_a_backbone_of_a_preset(options):
    model = Backbone.from_preset("roberta_tiny_en", **options)
    assert isinstance(model, Backbone)
    assert model.hidden_dim == model.config.hidden_dim


@claim(f"{BACKBONES}::test_from_preset_with_kwargs")
@pytest.mark.parametrize(("name", "value"), [("dtype", "float64"), ("dropout", 0.5)])
def test_a_preset_with_another(name, value):
    model = Backbone.from_preset("roberta_tiny_en", load_weights=False, **{name: value})
    assert str(getattr(model, name)) == str(value)


@claim(f"{BACKBONES}::test_from_preset_errors", f"{TASKS}::test_from_preset_errors", f"{LM}::test_all_presets")
@pytest.mark.parametrize("kind", [Backbone, MaskedLM, TextClassifier])
def test_an_unknown_preset_is_refused(kind):
    with pytest.raises((ValueError, FileNotFoundError), match="clowntown"):
        kind.from_preset("clowntown")


# ---------------------------------------------------------------------------------------------------------------- tasks


@both
@claim(f"{LM}::test_masked_lm_basics", f"{CLASSIFIER}::test_classifier_basics")
def test_a_task_is_made_again_of_its_config(kind):
    model = task(kind)
    config = json.loads(json.dumps(model.get_config()))
    assert {"backbone", "preprocessor"} <= set(config)
    assert kind.from_config(config).get_config() == model.get_config()


@both
@claim(f"{LM}::test_masked_lm_basics", f"{CLASSIFIER}::test_classifier_basics")
def test_a_task_predicts_from_what_its_preprocessor_makes(kind):
    model = task(kind)
    found = preprocessed(model)
    shape = (2, 5, 9) if kind is MaskedLM else (2, 2)
    assert model.predict(found[0], verbose=0).shape == shape
    np.testing.assert_allclose(
        model.predict(iter([found[0]]), verbose=0), model.predict(found[0], verbose=0), atol=1e-6
    )
    model.preprocessor = None
    np.testing.assert_allclose(model.predict(found[0], verbose=0), model(found[0]), atol=1e-6)


@both
@claim(f"{LM}::test_masked_lm_basics", f"{CLASSIFIER}::test_classifier_basics")
@pytest.mark.parametrize("data", ["texts", "batches of texts", "features", "batches of features"])
def test_a_task_is_fitted(kind, data):
    model, y = task(kind), labels_of(kind)
    made = preprocessed(model)
    if data == "texts":
        history = quietly(model.fit, TEXTS, y, batch_size=2, verbose=0)
    elif data == "batches of texts":
        history = quietly(model.fit, iter([(TEXTS, y) if y else (TEXTS,)]), verbose=0)
    else:
        model.preprocessor = None
        x, y, *weights = made
        named = {"y": y, "sample_weight": weights[0] if weights else None, "batch_size": 2}
        history = model.fit(x, **named, verbose=0) if data == "features" else model.fit(iter([made]), verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@claim(f"{CLASSIFIER}::test_classifier_basics")
def test_a_classifier_predicts_from_texts():
    assert quietly(task(TextClassifier).predict, TEXTS, verbose=0).shape == (2, 2)


@claim(f"{CLASSIFIER}::test_classifier_basics")
@pytest.mark.parametrize(
    ("options", "is_share"),
    [({"activation": "softmax"}, True), ({"activation": None}, False), ({"hidden_dim": 2}, False)],
)
def test_a_classifier_has_an_activation_and_a_width(options, is_share):
    found = quietly(task(TextClassifier, **options).predict, TEXTS, verbose=0)
    assert found.shape == (2, 2)
    assert np.allclose(found.sum(-1), 1.0) is is_share


@both
@claim(f"{LM}::test_saved_model", f"{CLASSIFIER}::test_saved_model", f"{TASKS}::test_save_to_preset")
def test_a_task_that_was_saved_is_loaded(tmp_path, kind):
    model = task(kind)
    inputs = preprocessed(model)[0]
    model.save_to_preset(tmp_path / "preset", format="keras")
    again = kind.from_preset(tmp_path / "preset")
    assert type(again) is kind
    np.testing.assert_allclose(again(inputs), model(inputs), atol=1e-6)


@both
@claim(f"{TASKS}::test_save_to_preset")
def test_a_saved_task_has_kerashubs_files(tmp_path, kind):
    task(kind).save_to_preset(tmp_path / "preset", format="keras")
    for name in ("config.json", "model.weights.h5", "metadata.json", "task.json", "task.weights.h5"):
        assert (tmp_path / "preset" / name).exists()
    config = json.loads((tmp_path / "preset/task.json").read_text(encoding="utf-8"))
    assert config["class_name"] == f"Roberta{kind.__name__}"
    assert {"backbone", "preprocessor"} <= set(config["config"])
    assert not {"build_config", "compile_config"} & set(config)


@claim(f"{TASKS}::test_save_to_preset")
def test_a_fresh_head_over_a_saved_backbone(tmp_path):
    model = task(TextClassifier)
    model.save_to_preset(tmp_path / "preset", format="keras")
    again = TextClassifier.from_preset(tmp_path / "preset", num_classes=2, seed=5)
    inputs = preprocessed(model)[0]
    np.testing.assert_allclose(again.backbone(inputs), model.backbone(inputs), atol=1e-6)
    with pytest.warns(UserWarning, match="a head for 2 classes, which is not used"):
        fresh = TextClassifier.from_preset(tmp_path / "preset", num_classes=3)
    assert fresh(inputs).shape == (2, 3)
    np.testing.assert_allclose(fresh.backbone(inputs), model.backbone(inputs), atol=1e-6)


@claim(f"{TASKS}::test_from_preset")
def test_a_task_of_a_preset_is_of_its_class():
    assert type(Task.from_preset("roberta_tiny_en", load_weights=False)) is MaskedLM


@claim(f"{TASKS}::test_from_preset_with_kwargs")
def test_a_task_with_another_dtype():
    model = MaskedLM.from_preset("roberta_tiny_en", load_weights=False, dtype="float64")
    assert model.backbone.params.dtype == "float64"


@claim(f"{TASKS}::test_summary_with_preprocessor", f"{TASKS}::test_summary_without_preprocessor")
@pytest.mark.parametrize("has_one", [True, False])
def test_a_summary_tells_of_the_preprocessor(has_one):
    model = task(MaskedLM)
    if not has_one:
        model.preprocessor = None
    lines = []
    model.summary(print_fn=lambda line, *_, **__: lines.append(line))
    assert ("reprocessor" in "\n".join(lines)) is has_one


@both
@claim(f"{LM}::test_masked_lm_basics", f"{CLASSIFIER}::test_classifier_basics")
def test_a_model_that_is_not_compiled_is_not_fitted(kind):
    model = task(kind, compile=False)
    with pytest.raises((ValueError, RuntimeError), match="compile"):
        model.fit(TEXTS, labels_of(kind), verbose=0)


@both
@claim(f"{LM}::test_masked_lm_basics", f"{CLASSIFIER}::test_classifier_basics")
def test_a_model_is_compiled_with_kerashubs_names(kind):
    model = task(kind)
    model.compile(
        loss=losses.SparseCategoricalCrossentropy(from_logits=True), optimizer=optimizers.Adam(5e-5), jit_compile=True
    )
    assert model.optimizer.learning_rate == pytest.approx(5e-5)


@claim(
    f"{TASKS}::test_export_attached", f"{TASKS}::test_export_attached_with_lm_head", f"{TASKS}::test_export_detached"
)
@pytest.mark.parametrize("has_one", [True, False])
def test_a_model_is_exported_to_transformers(tmp_path, has_one):
    model = small_masked_lm(dtype="float32")
    if not has_one:
        model.preprocessor = None
    model.save_to_preset(tmp_path / "preset")
    assert (tmp_path / "preset/config.json").exists()
    assert (tmp_path / "preset/tokenizer_config.json").exists() is has_one


@claim(f"{TASKS}::test_export_missing_tokenizer")
def test_a_preprocessor_has_a_tokenizer():
    with pytest.raises((TypeError, ValueError), match="tokenizer"):
        task(MaskedLM).preprocessor.tokenizer = None


def check_saved_model(model, inputs, path):
    """KerasHub's own check of a model that is saved: its class, and its outputs."""
    before = model(inputs)
    model.save(path)
    restored = models.load_model(path)
    assert type(restored) is type(model)
    np.testing.assert_allclose(restored(inputs), before, rtol=1e-6, atol=1e-6)


@claim(f"{BACKBONE}::test_saved_model")
def test_a_backbone_is_saved_as_kerass_archive(tmp_path):
    check_saved_model(backbone(), ONES, tmp_path / "model.keras")


@claim(f"{LM}::test_saved_model")
def test_a_masked_lm_is_saved_as_kerass_archive(tmp_path):
    model = task(MaskedLM)
    check_saved_model(model, preprocessed(model)[0], tmp_path / "model.keras")


@claim(f"{CLASSIFIER}::test_saved_model")
def test_a_classifier_is_saved_as_kerass_archive(tmp_path):
    model = task(TextClassifier)
    check_saved_model(model, preprocessed(model)[0], tmp_path / "model.keras")


# ----------------------------------------------------------------------------------------------- what is done otherwise


@differs(f"{LM}::test_masked_lm_basics")
def test_a_masked_lm_predicts_at_the_masks_of_a_text():
    model = task(MaskedLM)
    assert model.predict(" airplane<mask>", verbose=0).shape == (1, 1, 9)
    with pytest.raises(ValueError, match="<mask>"):
        model.predict([" airplane"], verbose=0)
