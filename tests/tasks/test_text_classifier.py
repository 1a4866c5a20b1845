"""The text classifier: what it learns from, what it says, and its way into directories and back."""

from __future__ import annotations

import copy
import inspect
import itertools
import json
import re
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from native_extension import needs_native
from small_models import (
    TEXTS,
    random_batch,
    random_params,
    small_classifier,
    small_config,
    small_masked_lm,
    small_tokenizer,
)

from pyroberta import Backbone, MaskedLM, Task, TextClassifier, TextClassifierPreprocessor, losses, metrics
from pyroberta.backends import get_ops
from pyroberta.formats.directory import Directory
from pyroberta.model.batch import pack
from pyroberta.model.gradients import Gradients
from pyroberta.model.model import model_backward, model_forward
from pyroberta.model.parameters import is_backbone, shapes
from pyroberta.ops import REFERENCE, Key
from pyroberta.presets import hf, hf_writer
from pyroberta.presets.convert import convert
from pyroberta.presets.writing import Contents

LABELS = [0, 2, 1, 1, 0, 2]


def features_of(texts=TEXTS):
    return TextClassifierPreprocessor(small_tokenizer(), sequence_length=40)(texts)


# --- training ---------------------------------------------------------------------------------------------------------


def test_it_learns_which_word_a_text_holds():
    fillers = ["it is", "so very", "you are", "she seems", "we were", "they felt", "he was", "this looks"]
    texts = [f"{filler} {word}" for filler in fillers for word in ("late", "brown")]
    classes = [0, 1] * len(fillers)
    classifier = small_classifier(num_classes=2, hidden_dim=16, intermediate_dim=24, dropout=0.0)
    before = classifier.evaluate(texts, classes, verbose=0, return_dict=True)
    history = classifier.fit(texts[:12], classes[:12], batch_size=6, epochs=40, verbose=0).history
    after = classifier.evaluate(texts[12:], classes[12:], verbose=0, return_dict=True)  # unseen fillers
    assert before["accuracy"] < 0.7
    assert history["loss"][-1] < 0.05 < 0.6 < history["loss"][0]
    assert after["accuracy"] == 1.0


def test_with_a_frozen_backbone_the_head_alone_learns():
    classifier = small_classifier()
    before = {name: array.copy() for name, array in classifier.params.items()}
    classifier.backbone.trainable = False
    classifier.fit(TEXTS, LABELS, epochs=2, verbose=0)
    for name, array in classifier.params.items():
        assert np.array_equal(array, before[name]) == is_backbone(name), name


def test_texts_features_pairs_and_batches_of_them_teach_the_same():
    ids = [np.array(ids) for ids in small_tokenizer().encode_batch(TEXTS)]
    features = features_of()
    batches = [(TEXTS[:3], LABELS[:3]), (TEXTS[3:], LABELS[3:])]
    found = []
    for arguments in (
        (TEXTS, LABELS),
        (np.array(TEXTS, object), np.array(LABELS)),
        (iter(TEXTS), np.array(LABELS, np.uint8)[:, None]),
        (ids, LABELS),
        (features, LABELS),
        ([({name: array[i : i + 3] for name, array in features.items()}, LABELS[i : i + 3]) for i in (0, 3)],),
        (batches,),
        (iter(batches),),
    ):
        classifier = small_classifier()
        classifier.fit(*arguments, batch_size=3, shuffle=False, verbose=0)
        found.append(classifier.params["head.table"].copy())
    assert all(np.array_equal(one, found[0]) for one in found)

    first, second = ["a", "b"], ["c", "d"]
    for x in ([("a", "c"), ("b", "d")], (first, second), features_of((first, second))):
        classifier = small_classifier()
        found.append(classifier.train_on_batch(x, [0, 1]))
    classifier = small_classifier()
    history = classifier.fit([((first, second), [0, 1])], verbose=0).history
    assert found[-1] == found[-2] == found[-3] == [history["loss"][0], history["accuracy"][0]]


def test_weights_weigh_the_loss_and_weighted_metrics_and_metrics_leave_them_out():
    classifier = small_classifier()
    classifier.compile(metrics=["accuracy"], weighted_metrics=[metrics.Accuracy("weighted")])
    weights = np.array([1.0, 0.0, 2.0, 0.5, 0.0, 1.0])
    values = classifier.evaluate(TEXTS, LABELS, sample_weight=weights, batch_size=4, verbose=0, return_dict=True)
    logits = classifier.predict(TEXTS, verbose=0)
    right = logits.argmax(axis=1) == LABELS
    plain = losses.SparseCategoricalCrossentropy(from_logits=True)
    assert values["loss"] == pytest.approx(plain(LABELS, logits, weights))  # over 6, the sum of weights or not
    assert values["weighted"] == pytest.approx((right * weights).sum() / weights.sum())
    assert values["accuracy"] == pytest.approx(right.mean())


def test_accumulated_gradients_are_those_of_the_large_batch():
    tables = []
    for size, parts in ((6, 1), (2, 3)):
        classifier = small_classifier(dropout=0.0)
        classifier.fit(TEXTS, LABELS, batch_size=size, gradient_accumulation_steps=parts, shuffle=False, verbose=0)
        tables.append(classifier.backbone.params.flat.copy())
    np.testing.assert_allclose(tables[0], tables[1], rtol=0, atol=1e-9)


@needs_native
@pytest.mark.parametrize(("lengths", "seed"), [([7, 1, 4], 0), ([1], 1), ([5, 5, 5, 5], 2), ([2, 6], 3)])  # a figure
def test_native_comes_as_near_the_float64_reference_as_numpy_does(lengths, seed):
    native = get_ops("native")
    config = small_config(num_classes=4, classifier_dropout=0.3)
    drawn = random_batch(config, lengths, seed)
    batch = replace(drawn, target_rows=drawn.starts[:-1], labels=np.arange(len(lengths), dtype=np.int32) % 4)

    def gradient(ops, params):
        grads = Gradients(params.zeros_like(), shapes(config))
        (values, _), cache = model_forward(ops, params, config, batch, Key.of_update(3, 5), grads.lowest)
        model_backward(ops, grads, np.ones_like(values), cache)
        return grads.sums.flat

    narrow = random_params(config, seed, np.float32)
    exact = gradient(REFERENCE, narrow.astype(np.float64))
    theirs, ours = (np.linalg.norm(gradient(ops, narrow) - exact) for ops in (REFERENCE, native))
    assert ours <= 4 * theirs + 1e-5 * np.linalg.norm(exact)


# --- prediction -------------------------------------------------------------------------------------------------------


def test_logits_are_the_same_for_texts_and_features_whatever_the_batches():
    classifier = small_classifier()
    logits = classifier.predict(TEXTS, verbose=0)
    assert logits.shape == (6, 3)
    features = features_of()
    for other in (
        classifier.predict(TEXTS, batch_size=2, verbose=0),
        classifier.predict(features, batch_size=4, verbose=0),
        classifier.predict([(TEXTS[:2], LABELS[:2]), (TEXTS[2:], LABELS[2:])], verbose=0),
        classifier(features),
        np.concatenate([classifier.predict_on_batch(text) for text in TEXTS]),
    ):
        np.testing.assert_allclose(other, logits, rtol=0, atol=1e-12)


def test_long_texts_are_cut_in_prediction_as_in_training():
    classifier = small_classifier(settings={"sequence_length": 6})
    cut = features_of(TEXTS[0])["token_ids"][:6].copy()
    cut[5] = small_tokenizer().end_token_id
    with pytest.warns(UserWarning, match=r"the only text has more than 6 tokens .*: 1 was cut, which drops"):
        logits = classifier.predict(TEXTS[0], verbose=0)
    np.testing.assert_allclose(logits, classifier({"token_ids": cut[None]}), rtol=0, atol=1e-12)


def test_classify_names_the_likeliest_class():
    classifier = small_classifier(labels=["sad", "so-so", "glad"])
    found = classifier.classify(TEXTS)
    logits = classifier.predict(TEXTS, verbose=0)
    assert [one.label for one in found] == logits.argmax(axis=1).tolist()
    assert [one.name for one in found] == [classifier.labels[one.label] for one in found]
    powers = np.exp(logits)
    np.testing.assert_allclose([one.score for one in found], powers.max(axis=1) / powers.sum(axis=1))
    assert classifier.classify(TEXTS[0]) == pytest.approx(found[0])
    assert classifier.classify([("a", "b")])[0].as_dict().keys() == {"label", "name", "score"}


@pytest.mark.parametrize(
    ("arguments", "giver"),
    [
        (lambda texts, ids: {"x": texts, "y": ids}, "y"),
        (lambda texts, ids: {"x": {"text": texts, "id": ids}, "column": "text", "label": "id"}, "the column 'id'"),
    ],
)
def test_a_class_for_nearly_every_text_is_warned_of_by_fit_alone(arguments, giver: str):
    texts, ids = [TEXTS[i % 6] for i in range(39)], [i % 20 for i in range(39)]
    classifier = small_classifier(num_classes=20)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classifier.fit(**arguments(texts, ids), verbose=0)
    assert [str(one.message).split(", so")[0] for one in caught] == [f"{giver} gives 20 classes to 39 texts"]
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.evaluate(**arguments(texts, ids), verbose=0)
        classifier.train_on_batch(texts, ids)
        classifier.fit(**arguments([*texts, "more"], [*ids, 0]), verbose=0)
        small_classifier(num_classes=19).fit(texts[:19], ids[:19], verbose=0)


def test_classify_shows_a_bar_as_the_methods_of_a_masked_lm_do(tmp_path: Path, capsys):
    classifier, err = small_classifier(), lambda: capsys.readouterr().err
    (tmp_path / "texts.txt").write_text("a fox\na dog\n", encoding="utf-8")
    classifier.classify(TEXTS)  # one batch
    classifier.classify(TEXTS, batch_size=1, verbose=0)
    classifier.classify([tmp_path / "texts.txt"], verbose=0)
    assert err() == ""
    for verbose in ("auto", 1, 2):
        classifier.classify(TEXTS[:3], batch_size=1, verbose=verbose)
        assert err().startswith("classify: 3/3 steps, ")
    classifier.classify(iter([TEXTS[:2], TEXTS[2:3]]), verbose=1)
    assert err().startswith("classify: 2 steps, ")
    with pytest.raises(ValueError, match=r"verbose must be 0 \(silent\), 1"):
        classifier.classify(TEXTS, verbose=3)


@pytest.mark.parametrize(
    "ask",
    [
        *(MaskedLM.fill_mask, MaskedLM.score, MaskedLM.embed, MaskedLM.fit_normalization, MaskedLM.predict),
        *(MaskedLM.evaluate, TextClassifier.classify, TextClassifier.predict, TextClassifier.evaluate),
        *(MaskedLM.fit, TextClassifier.fit, Backbone.predict),
    ],
)
def test_every_method_that_shows_how_far_it_is_takes_verbose(ask):
    assert inspect.signature(ask).parameters["verbose"].default == "auto"


# --- heads ------------------------------------------------------------------------------------------------------------


def test_a_backbone_of_another_task_is_copied_and_stays_as_it_was():
    masked_lm = small_masked_lm()
    before = masked_lm.backbone.params.flat.copy()
    classifier = TextClassifier(masked_lm.backbone, 3, TextClassifierPreprocessor(small_tokenizer(), 40))
    for name in filter(is_backbone, masked_lm.params):
        assert np.array_equal(classifier.params[name], masked_lm.params[name])
    classifier.fit(TEXTS, LABELS, verbose=0)
    assert np.array_equal(masked_lm.backbone.params.flat, before)
    again = MaskedLM(classifier.backbone, masked_lm.preprocessor)
    assert again.params.keys() == masked_lm.params.keys()
    assert TextClassifier(classifier.backbone, 3).backbone is classifier.backbone


def test_from_preset_finds_the_task_and_keeps_or_changes_the_head(tmp_path: Path, small_preset: Path):
    saved = small_classifier(labels=["sad", "so-so", "glad"], settings={"sequence_length": 30})
    saved.fit(TEXTS, LABELS, verbose=0)
    saved.save_to_preset(tmp_path / "c", dtype="float64")

    with_classes = partial(TextClassifier.from_preset, num_classes=3)
    for load in (Task.from_preset, TextClassifier.from_preset, with_classes):
        found = load(tmp_path / "c", dtype="float64")
        assert isinstance(found, TextClassifier)
        assert np.array_equal(found.backbone.params.flat, saved.backbone.params.flat)
        assert found.labels == saved.labels
        assert found.preprocessor.get_config() == saved.preprocessor.get_config()
        assert found.backbone.config == saved.backbone.config

    with pytest.warns(UserWarning, match="a head for 3 classes, which is not used"):
        other = TextClassifier.from_preset(tmp_path / "c", num_classes=5, dtype="float64")
    assert other.params["head.table"].shape == (5, 8)
    assert other.labels == [f"LABEL_{i}" for i in range(5)]
    with pytest.warns(UserWarning, match=r"no masked-LM head .* untrained"):
        masked_lm = MaskedLM.from_preset(tmp_path / "c", dtype="float64")
    assert masked_lm.preprocessor.sequence_length == 30
    for name in filter(is_backbone, saved.params):
        assert np.array_equal(masked_lm.params[name], saved.params[name])
        assert np.array_equal(other.params[name], saved.params[name])

    assert isinstance(Task.from_preset(small_preset), MaskedLM)
    fresh = TextClassifier.from_preset(small_preset, num_classes=2)
    assert fresh.preprocessor.sequence_length == 40
    with pytest.raises(ValueError, match="is not a classifier: pass num_classes="):
        TextClassifier.from_preset(small_preset)
    with pytest.raises(TypeError, match="'num_labels': num_classes= of"):
        TextClassifier.from_preset(small_preset, num_labels=2)


@pytest.mark.parametrize("format", ["hf", "keras"])
def test_training_goes_on_from_either_format_bit_for_bit(tmp_path: Path, format: str):
    straight = small_classifier(labels=["sad", "so-so", "glad"])
    straight.fit(TEXTS, LABELS, batch_size=3, epochs=2, verbose=0)
    straight.save_to_preset(tmp_path / "c", format=format, dtype="float64", include_optimizer=True)
    found = Task.from_preset(tmp_path / "c", dtype="float64", load_optimizer=True)
    assert isinstance(found, TextClassifier)
    assert (found.labels, found.backbone.config) == (straight.labels, straight.backbone.config)
    assert found.preprocessor.get_config() == straight.preprocessor.get_config()
    for classifier in (straight, found):
        classifier.fit(TEXTS, LABELS, batch_size=3, initial_epoch=2, epochs=4, verbose=0)
    assert np.array_equal(found.backbone.params.flat, straight.backbone.params.flat)


@pytest.mark.parametrize("format", ["hf", "keras"])
def test_convert_carries_the_head_its_labels_and_settings_over(tmp_path: Path, format: str):
    saved = small_classifier(labels=["sad", "so-so", "glad"], settings={"sequence_length": 30})
    saved.save_to_preset(tmp_path / "c", dtype="float64")
    convert(tmp_path / "c", tmp_path / "d", format=format, dtype="float64")
    found = TextClassifier.from_preset(tmp_path / "d", dtype="float64")
    assert np.array_equal(found.backbone.params.flat, saved.backbone.params.flat)
    assert (found.labels, found.preprocessor.sequence_length) == (saved.labels, 30)


def test_rates_come_from_the_preset_and_can_be_given(tmp_path: Path):
    small_classifier(dropout=0.2).save_to_preset(tmp_path)

    def rates(**options):
        config = TextClassifier.from_preset(tmp_path, **options).backbone.config
        return config.dropout, config.attention_dropout, config.classifier_dropout

    assert rates() == (0.2, 0.2, 0.2)
    assert rates(classifier_dropout=0.5) == (0.2, 0.2, 0.5)
    assert rates(dropout=0.5) == rates(dropout=0.5, classifier_dropout=0.5) == (0.2, 0.2, 0.5)  # as in KerasHub
    assert rates(attention_dropout=0.1) == (0.2, 0.1, 0.2)
    with pytest.raises(ValueError, match=r"two names of the head's rate; got 0\.0 and 0\.3.*Backbone\.from_preset"):
        rates(dropout=0.0, classifier_dropout=0.3)
    assert Task.from_preset(tmp_path, dropout=0.5).backbone.config.classifier_dropout == 0.5
    encoder = Backbone.from_preset(tmp_path, dropout=0.0, classifier_dropout=0.3)
    assert (encoder.config.dropout, encoder.config.classifier_dropout) == (0.0, 0.3)


# --- directories ------------------------------------------------------------------------------------------------------


def written(directory: Path, **changes) -> Path:
    """A directory of transformers' classifier, its config changed; None takes a key away."""
    config = small_config(num_classes=3)
    hf_writer.write(directory, Contents(config, random_params(config, 0, np.float32)))
    values = json.loads((directory / "config.json").read_text()) | changes
    values = {key: value for key, value in values.items() if value is not None}
    (directory / "config.json").write_text(json.dumps(values))
    return directory


def test_config_json_says_what_transformers_says(tmp_path: Path):
    values = json.loads((written(tmp_path) / "config.json").read_text())
    assert values["architectures"] == ["RobertaForSequenceClassification"]
    assert values["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    assert values["label2id"] == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}
    assert values["classifier_dropout"] == 0.1


@pytest.mark.parametrize(
    ("changes", "classes", "rate"),
    [
        ({"id2label": None, "num_labels": 4}, 4, 0.1),
        ({"id2label": None}, 2, 0.1),
        ({"problem_type": None}, 3, 0.1),
        ({"classifier_dropout": None, "hidden_dropout_prob": 0.4}, 3, 0.4),
        ({"classifier_dropout": 0.25}, 3, 0.25),
        ({"architectures": ["RobertaForMaskedLM"]}, None, 0.1),
    ],
)
def test_what_config_json_leaves_out_is_transformers_default(tmp_path: Path, changes, classes, rate):
    config = hf.read_config(Directory(written(tmp_path, **changes)))
    assert (config.num_classes, config.classifier_dropout) == (classes, rate)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problem_type": "regression"}, "problem_type is 'regression'"),
        ({"problem_type": "multi_label_classification"}, "problem_type is 'multi_label_classification'"),
        ({"id2label": {"0": "LABEL_0"}, "problem_type": None}, "problem_type is 'regression'"),
        ({"id2label": ["a", "b"]}, "id2label should be an object"),
    ],
)
def test_other_problems_are_refused_by_name(tmp_path: Path, changes, message):
    with pytest.raises(ValueError, match=message):
        Task.from_preset(written(tmp_path, **changes), preprocessor=None)


@pytest.mark.parametrize("format", ["hf", "keras"])
def test_a_fresh_head_is_the_seed_s(tmp_path: Path, format: str):
    small_masked_lm(dtype="float32").save_to_preset(tmp_path / "preset", format=format)
    made = [TextClassifier.from_preset(tmp_path / "preset", num_classes=3, seed=seed) for seed in (None, 0, 7)]
    tables = [classifier.params["head.table"] for classifier in made]
    assert np.array_equal(tables[0], tables[1])
    assert not np.array_equal(tables[1], tables[2])
    assert np.array_equal(made[1].params["embeddings.token"], made[2].params["embeddings.token"])


def test_a_head_that_is_damaged_is_no_reason_for_a_fresh_one(tmp_path: Path):
    directory = written(tmp_path, id2label={str(i): f"{i}" for i in range(5)})
    with pytest.raises(ValueError, match=r"classifier\.out_proj\.weight has shape \(3, 8\), expected \(5, 8\)"):
        Task.from_preset(directory, preprocessor=None)


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (TEXTS,),
            "y is missing: a classifier learns from texts with a label each, names or whole numbers from 0 to 2",
        ),
        ((features_of(), None), "y is missing"),
        ((TEXTS, [0, 1, 2, 3, 0, 1]), r"label 3 of text 3 is outside the model's 3 classes, 0 to 2 \(num_classes\)"),
        ((TEXTS, [0, 1, 2, -1, 0, 1]), "label -1 of text 3 is outside"),
        ((TEXTS, [0, 1]), r"y should be one label per text, \(6,\); got \(2,\)"),
        (
            (TEXTS, np.full(6, 0.5)),
            r"labels should be names, or whole .* label 0\.5 of text 0 is neither. Each text has",
        ),
        ((TEXTS, [0, "a", 1, 2, 0, 1]), "label 'a' of text 1 is neither. Names and numbers are not mixed"),
        ((TEXTS, [0, 2, True, 1, 0, 1]), "all booleans or all numbers; the label of text 2 is True, that of text 0 0"),
        ((TEXTS, 1), r"y should be one number per text, \(6,\); got 1"),
        ((TEXTS, np.array(1)), r"y should be one label per text, \(6,\); got \(\)"),
        ((TEXTS, "verdict"), r"got \(\)\. To name a table's column of labels, pass label='verdict'"),
        ((TEXTS, itertools.cycle([0, 1])), r"y should be one number per text, \(6,\); got more of them"),
        ((TEXTS, [[0], [0, 1]] * 3), r"y should be one label per text, \(6,\); its rows differ in length"),
        (({"token_ids": [[0, 2]], "padding_mask": [[0, 0]]}, [1]), "sequence 0 is all padding"),
        (({"token_ids": [[0, 2]], "mask_positions": [[0]]}, [1]), "a dict of token_ids, padding_mask; got"),
    ],
)
def test_examples_that_do_not_fit_are_refused(arguments, message):
    classifier = small_classifier()
    with pytest.raises(ValueError, match=message):
        classifier.fit(*arguments, verbose=0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(6), "every sample_weight is 0"),
        ([1, 1], "one weight per text"),
        ([1, 1, 1, -2, 1, -3], "sample_weight must be finite and at least 0, got -2 for text 3"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        small_classifier().fit(TEXTS, LABELS, sample_weight=weights, verbose=0)


@pytest.mark.parametrize(
    ("y", "lines"),
    [
        (np.eye(3)[[1, 2, 0, 1, 2, 0]], ("y = numpy.argmax(y, axis=1)",)),
    ],
)
def test_the_line_to_write_makes_numbers_of_labels(y, lines: tuple[str, ...]):
    classifier = small_classifier(labels=["a", "b", "c"])
    for line in lines:
        with pytest.raises(ValueError, match=re.escape(line)):
            classifier.fit(TEXTS, y, verbose=0)
        scope = {"y": y, "numpy": np, "classifier": classifier}
        exec(line, scope)
        assert list(scope["y"]) == [1, 2, 0, 1, 2, 0]
        classifier.fit(TEXTS, scope["y"], verbose=0)


def test_masked_labels_are_refused():
    with pytest.raises(TypeError, match="y is a masked array, whose hidden values would be read too"):
        small_classifier().fit(TEXTS, np.ma.array(LABELS, mask=[True] + [False] * 5))


def test_booleans_are_classes_too():
    assert small_classifier(num_classes=2).fit(TEXTS, [True, False] * 3, verbose=0).history["loss"][0] > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small_classifier(num_classes=1), "num_classes must be a whole number of at least 2"),
        (lambda: small_classifier(labels=["a", "b"]), "labels should be 3 different names"),
        (lambda: small_classifier(labels=["a", "b", "b"]), "labels should be 3 different names"),
        (lambda: small_classifier(labels=3), "labels should be 3 different names, .* in their order; got 3"),
        (lambda: small_classifier(labels=[["a"], ["b"], ["c"]]), "labels should be 3 different names"),
        (
            lambda: small_classifier(labels={"b": 1, "a": 0, "c": 2}),
            r"Pass a list: sorted\(labels, key=labels\.get\)",
        ),
        (lambda: small_classifier(labels={1: "b", 0: "a", 2: "c"}), r"Pass a list: \[labels\[i\] for i in"),
        (lambda: small_classifier(labels={"a", "b", "c"}), r"A set has no order\. Pass a list: sorted\(labels\)"),
        (lambda: small_classifier().predict([], verbose=0), "x is empty"),
        (lambda: TextClassifier(small_masked_lm().backbone, None), "num_classes is missing"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_labels_alone_give_the_number_of_classes(small_preset: Path, tmp_path: Path):
    for labels in (["a", "b", "c"], np.array(["a", "b", "c"]), iter("abc")):
        found = TextClassifier.from_preset(small_preset, labels=labels)
        assert (found.num_classes, found.labels) == (3, ["a", "b", "c"])
    made = TextClassifier(small_masked_lm().backbone, labels=["a", "b"])
    assert (made.num_classes, made.labels) == (2, ["a", "b"])
    for unclear in (["a"], [], "ab", 3):
        with pytest.raises(ValueError, match="a list of the names of at least two classes"):
            TextClassifier.from_preset(small_preset, labels=unclear)
    with pytest.raises(ValueError, match="labels should be 2 different names"):
        TextClassifier.from_preset(small_preset, num_classes=2, labels=["a", "b", "c"])
    made.save_to_preset(tmp_path / "c")
    with pytest.raises(ValueError, match=r"of 2 classes, and labels has the names of 3.*pass num_classes=3 too"):
        TextClassifier.from_preset(tmp_path / "c", labels=["a", "b", "c"], preprocessor=None)
    assert TextClassifier.from_preset(tmp_path / "c", labels=["d", "e"], preprocessor=None).labels == ["d", "e"]


@pytest.mark.parametrize("labels", [np.array(["a", "b", "c"]), ("a", "b", "c"), (name for name in "abc")])
def test_names_of_classes_come_from_any_iterable_with_an_order(labels):
    found = small_classifier(labels=labels).labels
    assert found == ["a", "b", "c"]
    assert all(type(name) is str for name in found)


@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
def test_a_training_that_is_refused_names_no_classes(method: str):
    classifier = small_classifier(num_classes=2)
    named = ["a", "b"] * 3
    with pytest.raises(ValueError, match=r"class_weight has the class 'c'; .* 0 to 1, or 'a', 'b'"):
        getattr(classifier, method)(TEXTS, named, class_weight={"c": 2.0})
    assert classifier.labels == ["LABEL_0", "LABEL_1"]
    with pytest.raises(TypeError, match="a callback must be"):
        classifier.fit(TEXTS, named, callbacks=[3], verbose=0)
    assert classifier.labels == ["LABEL_0", "LABEL_1"]
    getattr(classifier, method)(TEXTS, named, class_weight={"b": 2.0})
    assert classifier.labels == ["a", "b"]


def test_a_head_of_another_width_has_no_activation_of_the_presets(tmp_path: Path):
    backbone = small_classifier().backbone
    preprocessor = TextClassifierPreprocessor(small_tokenizer(), sequence_length=40)
    TextClassifier(backbone, 3, preprocessor, "softmax").save_to_preset(tmp_path / "c", format="keras")
    load = partial(TextClassifier.from_preset, tmp_path / "c")
    assert load().activation == load(hidden_dim=8).activation == "softmax"
    for other in ({"hidden_dim": 16}, {"num_classes": 2}):
        with pytest.warns(UserWarning, match="a head for 3 classes, which is not used"):
            assert load(**other).activation == "linear"


def test_a_masked_lms_preprocessor_is_refused():
    masked_lm = small_masked_lm()
    with pytest.raises(TypeError, match="such as TextClassifierPreprocessor"):
        TextClassifier(masked_lm.backbone, 2, masked_lm.preprocessor)


def test_a_packed_batch_of_one_row_per_text_is_what_the_reader_makes():
    classifier = small_classifier()
    held = classifier._reader().examples(TEXTS, LABELS)
    (batch,) = held.fixed(6)
    assert np.array_equal(batch.target_rows, pack(classifier.preprocessor.encode(TEXTS)).starts[:-1])
    assert batch.labels.tolist() == LABELS
    assert batch.slots == 6


def test_the_names_of_a_trained_head_can_be_changed_but_not_their_order(tmp_path: Path):
    message = r"in another order.*The head gives them in the order \['bad', 'good'\]; got \['good', 'bad'\]"
    trained = small_classifier(num_classes=2, labels=["good", "bad"])
    trained.labels = ["bad", "good"]  # nothing is trained yet
    trained.fit(TEXTS, [0, 1] * 3, verbose=0)
    with pytest.raises(ValueError, match=message):
        trained.labels = ["good", "bad"]
    with pytest.raises(ValueError, match=message):
        copy.deepcopy(trained).labels = ["good", "bad"]
    trained.compile()  # resets the optimizer, and not the head
    with pytest.raises(ValueError, match=message):
        trained.labels = ["good", "bad"]
    assert trained.labels == ["bad", "good"]
    trained.save_to_preset(tmp_path / "c", dtype="float64")
    load = partial(TextClassifier.from_preset, tmp_path / "c", dtype="float64")
    for options in ({}, {"num_classes": 2}):
        with pytest.raises(ValueError, match=message):
            load(labels=["good", "bad"], **options)
    found = load(labels=["bad", "good"])
    with pytest.raises(ValueError, match=message):
        found.labels = ["good", "bad"]
    found.labels = ["poor", "good"]
    assert found.labels == ["poor", "good"]
    assert load(labels=["good", "fine"]).labels == ["good", "fine"]
    assert load(labels=["good", "bad"], load_weights=False).labels == ["good", "bad"]
    fresh = TextClassifier(found.backbone.with_head(2), labels=["good", "bad"], preprocessor=found.preprocessor)
    fresh.labels = ["bad", "good"]
    line = "TextClassifier(classifier.backbone, labels=[…], preprocessor=classifier.preprocessor)"
    with pytest.raises(ValueError, match=re.escape(line)):
        found.labels = ["good", "poor"]
    again = TextClassifier(found.backbone, labels=["good", "poor"], preprocessor=found.preprocessor)
    assert again.labels == ["good", "poor"]


def test_default_names_of_a_trained_head_keep_their_order(tmp_path: Path):
    trained = small_classifier(num_classes=2)
    trained.fit(TEXTS, [0, 1] * 3, verbose=0)
    trained.save_to_preset(tmp_path / "c")
    with pytest.raises(ValueError, match="in another order"):
        TextClassifier.from_preset(tmp_path / "c", labels=["LABEL_1", "LABEL_0"])
    assert TextClassifier.from_preset(tmp_path / "c", labels=["good", "bad"]).labels == ["good", "bad"]
