"""Names of transformers and Keras that are not here: the errors say what to write."""

from __future__ import annotations

import copy
import pickle
import re
from types import ModuleType

import pytest
from small_models import small_masked_lm, small_tokenizer

import pyroberta
from pyroberta import (
    Backbone,
    MaskedLM,
    MaskedLMPreprocessor,
    TextClassifier,
    TextClassifierPreprocessor,
    Tokenizer,
)
from pyroberta.data import open_source
from pyroberta.tasks.backbone import FOREIGN_OPTIONS
from pyroberta.tasks.task import Task
from pyroberta.text import foreign_names


@pytest.mark.parametrize("name", foreign_names.ATTRIBUTES)
def test_a_tokenizer_says_where_the_attributes_of_transformers_are(name: str):
    with pytest.raises(AttributeError, match=re.escape(f"{name!r}: {foreign_names.ATTRIBUTES[name]}")):
        getattr(small_tokenizer(), name)


@pytest.mark.parametrize("name", foreign_names.ARGUMENTS)
def test_a_tokenizer_says_what_stands_for_the_arguments_of_transformers(name: str):
    with pytest.raises(TypeError, match=re.escape(f"{name!r}: {foreign_names.ARGUMENTS[name]}")):
        small_tokenizer()("a fox", **{name: True})


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in (MaskedLM, TextClassifier) for name in kind.elsewhere]
)
def test_a_model_says_where_other_libraries_attributes_are(kind: type[Task], name: str):
    masked_lm = small_masked_lm()
    model = masked_lm if kind is MaskedLM else TextClassifier(masked_lm.backbone, 2)
    with pytest.raises(AttributeError, match=re.escape(f"{name!r}: {kind.elsewhere[name]}")):
        getattr(model, name)


@pytest.mark.parametrize("name", pyroberta._ELSEWHERE)
def test_the_package_says_where_other_libraries_names_are(name: str):
    with pytest.raises(AttributeError, match=re.escape(f"{name!r}: {pyroberta._ELSEWHERE[name]}")):
        getattr(pyroberta, name)


@pytest.mark.parametrize("kind", [MaskedLM, TextClassifier, Task, Tokenizer])
def test_a_class_says_what_its_instances_say(kind: type):
    with pytest.raises(AttributeError, match=rf"^{kind.__name__} has no attribute 'from_pretrained': .*from_preset\("):
        kind.from_pretrained  # noqa: B018
    with pytest.raises(AttributeError, match=f"^{kind.__name__} has no attribute 'from_prese'; did you mean 'from_pre"):
        kind.from_prese  # noqa: B018
    assert not hasattr(kind, "__sklearn_tags__")


@pytest.mark.parametrize("module", [pyroberta.models, pyroberta.optimizers])
def test_a_module_says_where_the_names_of_keras_are(module: ModuleType):
    for name, hint in module._ELSEWHERE.items():
        with pytest.raises(
            AttributeError, match=re.escape(f"module {module.__name__!r} has no attribute {name!r}: {hint}")
        ):
            getattr(module, name)
    with pytest.raises(AttributeError, match="did you mean 'TextClassifier'"):
        pyroberta.models.TextClasifier  # noqa: B018


@pytest.mark.parametrize(
    ("module", "name", "meant"),
    [
        (pyroberta.callbacks, "EarlyStoping", "EarlyStopping"),
        (pyroberta.losses, "SparseCategoricalCrossEntropy", "SparseCategoricalCrossentropy"),
        (pyroberta.metrics, "Perplexitiy", "Perplexity"),
        (pyroberta.schedules, "CosinDecay", "CosineDecay"),
        (pyroberta.optimizers, "Adamw", "AdamW"),
    ],
)
def test_a_module_suggests_the_name_that_was_meant(module: ModuleType, name: str, meant: str):
    with pytest.raises(AttributeError, match=f"did you mean .*'{meant}'"):
        getattr(module, name)


def test_the_pipelines_ways_to_read_and_ask_are_answered():
    with pytest.raises(TypeError, match=r"a Filling is not a dict: write \.score for the attribute, or as_dict\(\)"):
        small_masked_lm().fill_mask("a <mask>")[0]["score"]
    classifier = TextClassifier(small_masked_lm().backbone, 2, TextClassifierPreprocessor(small_tokenizer(), 40))
    with pytest.raises(TypeError, match=r"a Classification is not a dict: write \.label for the attribute"):
        classifier.classify("a fox")[0]
    with pytest.raises(TypeError, match=r"'top_k': predict\(texts\) returns all classes"):
        classifier.classify("a fox", top_k=None)
    with pytest.raises(AttributeError, match=r"'score': it is a method of MaskedLM; evaluate\(texts, labels\)"):
        classifier.score  # noqa: B018
    with pytest.raises(TypeError, match=r"use a tuple, validation_data=\(x, y\)"):
        classifier.fit(["a", "b"], [0, 1], validation_data=[["a"], [0]], verbose=0)


@pytest.mark.parametrize("name", FOREIGN_OPTIONS)
def test_from_preset_says_what_stands_for_the_options_of_transformers(name: str):
    for kind, more in ((MaskedLM, {}), (Backbone, {}), (TextClassifier, {"num_classes": 2})):
        with pytest.raises(TypeError, match=re.escape(f"{name!r}: {FOREIGN_OPTIONS[name]}")):
            kind.from_preset("roberta_tiny_en", **{name: "cpu"}, **more)


def test_an_unknown_argument_is_told_with_the_users_class_and_with_what_was_meant():
    model = small_masked_lm()
    for call, said in (
        (lambda: model.fit(X=["a"]), "MaskedLM.fit() got an unexpected keyword argument 'X'; did you mean 'x'?"),
        (lambda: model.fit(["a"], sequence_length=8), "'sequence_length': it belongs to the preprocessor: model.prep"),
        (lambda: model.fit("a.txt", kind="csv"), "'kind': give it to pyroberta.data.open_source, with column="),
        (lambda: model.score("a.txt", kind="csv"), "column=, label= and per_line=, and pass what that returns"),
        (lambda: open_source("a.csv", encoding="cp1252"), "'encoding': open(path, encoding=...) opens a file"),
        (lambda: model.evaluate("a.csv", text="text"), "'text': column= names the column of the texts"),
        (lambda: model.fit(["a"], test_size=0.5), "'test_size': validation_split= holds"),
        (lambda: MaskedLMPreprocessor(small_tokenizer(), max_length=8), "'max_length': sequence_length= is the most"),
        (lambda: MaskedLMPreprocessor(small_tokenizer(), sequence_lenght=8), "; did you mean 'sequence_length'"),
        (lambda: Tokenizer.from_preset("roberta_tiny_en", max_length=8), "'max_length': sequence_length= is the most"),
        (
            lambda: TextClassifier.from_preset("roberta_tiny_en", num_classes=2, backand="numpy"),
            "TextClassifier.from_preset() got an unexpected keyword argument 'backand'; did you mean 'backend'",
        ),
    ):
        with pytest.raises(TypeError, match=re.escape(said)):
            call()
    model.preprocessor.sequence_length = 8  # as the error says
    assert model.preprocessor("a")[0]["token_ids"].shape == (8,)


def test_parts_that_keras_has_as_layers_are_told_with_what_freezes_them():
    masked_lm = small_masked_lm()
    for owner, name, line in (
        (masked_lm, "layers", r"backbone.freeze(r'layers\.0\..*')"),
        (masked_lm.backbone, "get_layer", r"freeze(r'layers\.0\..*')"),
        (masked_lm.backbone.token_embedding, "trainable", r"backbone.freeze(r'embeddings\.token')"),
    ):
        with pytest.raises(AttributeError, match=re.escape(line)):
            getattr(owner, name)
    assert masked_lm.backbone.freeze(r"embeddings\.token") == ["embeddings.token"]
    assert len(masked_lm.backbone.freeze(r"layers\.0\..*")) == 16


def test_encode_says_what_stands_for_the_arguments_of_transformers():
    with pytest.raises(TypeError, match="'max_length': a preprocessor pads and cuts"):
        small_tokenizer().encode("a fox", max_length=2)
    with pytest.raises(TypeError, match=r"'return_tensors': .*numpy\.array"):
        small_tokenizer().encode("a fox", return_tensors="np")


def test_private_names_are_never_suggested():
    with pytest.raises(AttributeError) as error:
        small_masked_lm().get_layer  # noqa: B018
    assert "'_" not in str(error.value)


def test_a_name_that_is_almost_right_is_suggested():
    with pytest.raises(AttributeError, match="did you mean 'MaskedLM'"):
        pyroberta.MaskedLm  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean 'detokenize'"):
        small_tokenizer().detokenise  # noqa: B018


def test_a_tokenizer_is_copied_and_pickled_as_before():
    for again in (
        copy.copy(small_tokenizer()),
        copy.deepcopy(small_tokenizer()),
        pickle.loads(pickle.dumps(small_tokenizer())),
    ):
        assert again.encode("a fox") == small_tokenizer().encode("a fox")


def test_texts_are_no_features():
    with pytest.raises(TypeError, match=r"a dict of token_ids, padding_mask, mask_positions; .* Texts go to predict"):
        small_masked_lm()(["a <mask>"])
    with pytest.raises(TypeError, match=r"a dict of token_ids, padding_mask; got a list\. Texts go to predict"):
        TextClassifier(small_masked_lm().backbone, 2)(["a"])
