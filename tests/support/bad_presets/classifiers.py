"""Classifiers: the head, the number of its classes and their names, in Hugging Face's and KerasHub's files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from small_models import small_tokenizer
from small_presets import directory_of, hf_tensors, hf_values, serialized

from bad_presets.hf import sound_hf
from bad_presets.kerashub_files import sound_kerashub, structure
from bad_presets.spoiling import (
    CONFIG,
    Case,
    Sound,
    Spoil,
    change,
    cut,
    h5,
    header,
    instead,
    no_json,
    put,
    tensors,
    values,
)
from pyroberta.presets.kerashub import HEAD

LABELS = ["bad", "good", "unclear"]
C = CONFIG.hidden_dim


def head() -> dict[str, np.ndarray]:
    """(out, in), as torch has them."""
    rng = np.random.default_rng(1)
    shapes = {"dense.weight": (C, C), "dense.bias": (C,), "out_proj.weight": (3, C), "out_proj.bias": (3,)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def sound_hf_classifier(directory: Path) -> Path:
    found = {name: array for name, array in hf_tensors(CONFIG).items() if not name.startswith("lm_head")}
    found |= {f"classifier.{name}": array for name, array in head().items()}
    said = {
        "architectures": ["RobertaForSequenceClassification"],
        "id2label": {str(i): name for i, name in enumerate(LABELS)},
        "label2id": {name: i for i, name in enumerate(LABELS)},
    }
    directory_of(directory, found, hf_values(CONFIG, **said))
    small_tokenizer().save(directory)
    return directory


def sound_kerashub_classifier(directory: Path) -> Path:
    sound_kerashub(directory)
    task = serialized("RobertaTextClassifier", {"num_classes": 3, "dropout": 0.1}) | {"pyroberta": {"labels": LABELS}}
    (directory / "task.json").write_text(json.dumps(task))
    settings = serialized("RobertaTextClassifierPreprocessor", {"sequence_length": 20})
    (directory / "preprocessor.json").write_text(json.dumps(settings))
    with h5py.File(directory / HEAD, "w") as opened:
        for (name, array), place in zip(head().items(), PLACES, strict=True):
            opened[place] = array.T if name.endswith("weight") else array
    return directory


PLACES = ("layers/dense/vars/0", "layers/dense/vars/1", "layers/dense_1/vars/0", "layers/dense_1/vars/1")
SOUND = {
    "hf classifier": Sound(sound_hf_classifier, "classifier"),
    "kerashub classifier": Sound(sound_kerashub_classifier, "classifier"),
}


def config(**changes: Any) -> Spoil:
    return values("config.json", **changes)


def task(**changes: Any) -> Spoil:
    return change("task.json", lambda found: found["config"].update(changes))


def labels(value: Any) -> Spoil:
    return values("task.json", pyroberta={"labels": value})


def without_head(classes: dict[str, Any]) -> Spoil:
    """The directory says that it has a head, and has none."""

    def spoil(directory: Path) -> None:
        tensors(lambda t: [t.pop(name) for name in list(t) if name.startswith("classifier")])(directory)
        config(**classes)(directory)

    return spoil


def replaced(place: str, made: Any) -> Spoil:
    def spoil(opened: Any) -> None:
        del opened[place]
        opened[place] = made

    return h5(spoil, HEAD)


TABLE = "classifier.out_proj.weight"
HF, KERAS = "hf classifier", "kerashub classifier"

CASES: dict[str, Case] = {
    # --- Hugging Face
    **no_json(HF, "config.json"),
    "classifier: a number of names": Case(
        HF, config(id2label=7), "^[^:]*config.json: id2label should be an object from numbers to names, got 7"
    ),
    "classifier: a masked LM": Case(HF, sound_hf, "is not a classifier: pass num_classes="),
    "classifier: fewer names than rows": Case(
        HF, config(id2label={"0": "a", "1": "b"}), r"out_proj\.weight has shape \(3, 8\), expected \(2, 8\)"
    ),
    "classifier: names that begin at 1": Case(
        HF, config(id2label={"1": "a", "2": "b", "3": "c"}), "id2label should have the classes 0 to 2, it lacks '0'"
    ),
    "classifier: a list of names": Case(
        HF, config(id2label=LABELS), "id2label should be an object from numbers to names, got .'bad', 'good'"
    ),
    "classifier: a long list of names": Case(
        HF, config(id2label=["x" * 999] * 999), "id2label should be an object from numbers to names, got .'xxx"
    ),
    "classifier: a name twice": Case(
        HF,
        config(id2label={"0": "a", "1": "b", "2": "a"}),
        r"config\.json: there should be 3 different names of classes, got \['a', 'b', 'a'\]",
    ),
    "classifier: one class": Case(HF, config(id2label={"0": "a"}), "problem_type is 'regression'; pyroberta's"),
    "classifier: a regression": Case(
        HF, config(problem_type="regression"), "problem_type is 'regression'; pyroberta's"
    ),
    "classifier: a long problem": Case(HF, config(problem_type=[["x"] * 99] * 99), r"problem_type is \[\['x', 'x', 'x"),
    "classifier: a text for a number of classes": Case(
        HF, config(id2label=None, num_labels="3"), "num_labels should be a whole number, got '3'"
    ),
    "classifier: no class": Case(HF, config(id2label=None, num_labels=0), "num_classes must be .* at least 2.* got 0"),
    "classifier: an enormous number of classes without a head": Case(
        HF, without_head({"id2label": None, "num_labels": 10**12}), "config.json: 1000000000000 classes"
    ),
    "classifier: an enormous number of classes": Case(
        HF, config(id2label=None, num_labels=10**9), "config.json: 1000000000 classes"
    ),
    "classifier: a rate above one": Case(HF, config(classifier_dropout=1.5), r"classifier_dropout must be in \[0, 1\)"),
    "classifier: a rate that is a text": Case(
        HF, config(classifier_dropout="much"), "classifier_dropout should be a number, got 'much'"
    ),
    "classifier: a table missing": Case(HF, tensors(lambda t: t.pop(TABLE)), "lacks 1 of .*: classifier.out_proj.wei"),
    "classifier: a tensor more": Case(
        HF, tensors(lambda t: t.update({"classifier.dense.x": t[TABLE].copy()})), "does not have: classifier.dense.x"
    ),
    "classifier: NaN": Case(
        HF, tensors(lambda t: t[TABLE].__setitem__((2, 1), np.nan)), r"out_proj\.weight'.* the first nan at \(2, 1\)"
    ),
    "classifier: integers": Case(
        HF, header(lambda found: found[TABLE].update(dtype="I32")), "out_proj.weight' is stored as I32"
    ),
    # --- KerasHub
    "classifier: keras: a masked LM": Case(
        KERAS,
        values("task.json", registered_name="keras_hub>RobertaMaskedLM"),
        "is not a classifier: pass num_classes=",
    ),
    "classifier: keras: task.json cut": Case(KERAS, cut("task.json", 0.5), "task.json isn't valid JSON"),
    "classifier: keras: task.json a pipe": Case(KERAS, instead("task.json", os.mkfifo), "task.json is a pipe"),
    "classifier: keras: another number of classes": Case(
        KERAS, lambda d: (task(num_classes=2)(d), labels(["a", "b"])(d)), r"dense_1/vars/0 has shape \(8, 3\)"
    ),
    "classifier: keras: one class": Case(KERAS, task(num_classes=1), "num_classes is 1; a classifier needs"),
    "classifier: keras: a number of classes that is a text": Case(
        KERAS, task(num_classes="3"), "num_classes should be a whole number, got '3'"
    ),
    "classifier: keras: an enormous number of classes": Case(
        KERAS, lambda d: (task(num_classes=10**12)(d), (d / HEAD).unlink()), "task.json: 1000000000000 classes"
    ),
    "classifier: keras: fewer names than classes": Case(
        KERAS,
        labels(["bad", "good"]),
        r"task\.json: there should be 3 different names of classes, got \['bad', 'good'\]",
    ),
    "classifier: keras: a name twice": Case(
        KERAS, labels(["bad", "bad", "good"]), r"there should be 3 different names of classes, got \['bad', 'bad', 'g"
    ),
    "classifier: keras: names that are numbers": Case(
        KERAS, labels([1, 2, 3]), "labels should be a list of names, got"
    ),
    "classifier: keras: what is ours a list": Case(
        KERAS, values("task.json", pyroberta=[]), "pyroberta should be an object, it is a list"
    ),
    "classifier: keras: another width": Case(
        KERAS, task(hidden_dim=16), r"layers/dense/vars/0 has shape \(8, 8\), expected \(8, 16\)"
    ),
    "classifier: keras: a long width": Case(
        KERAS, task(hidden_dim=["x" * 99] * 999), "hidden_dim should be a whole number, got .'xxx"
    ),
    "classifier: keras: no width": Case(KERAS, task(hidden_dim=0), "classifier_hidden_dim must be a whole number"),
    "classifier: keras: a huge width": Case(KERAS, task(hidden_dim=10**12), "has shape"),
    "classifier: activation": Case(HF, config(pyroberta_activation="relu"), "pyroberta_activation is 'relu'"),
    "classifier: keras: tanh": Case(
        KERAS, task(activation="tanh"), "activation is 'tanh'; 'linear', 'softmax', 'log_softmax' and 'sigmoid' can be"
    ),
    "classifier: keras: an activation of an object": Case(
        KERAS,
        task(activation={"class_name": "x" * 9999}),
        "activation is {'class_name': 'xxx.*; 'linear', 'softmax'",
    ),
    "classifier: keras: no rate": Case(KERAS, task(dropout=None), "task.json: dropout should be a number, got None"),
    "classifier: keras: a length that is a text": Case(
        KERAS,
        change("preprocessor.json", lambda found: found["config"].update(sequence_length="")),
        "settings can't be used: sequence_length must be a whole number",
    ),
    "classifier: keras: a rate of one": Case(
        KERAS, task(dropout=1), r"classifier_dropout must be in \[0, 1\), got 1.0"
    ),
    **structure(KERAS, HEAD, "a table without signature", "a branch beyond its end"),
    "classifier: keras: the head a page": Case(
        KERAS, put(HEAD, "<html></html>"), r"task\.weights\.h5 is .*not an HDF5 file"
    ),
    "classifier: keras: a table missing": Case(
        KERAS, h5(lambda f: f.pop(PLACES[2]), HEAD), "lacks 1 of the .*layers/dense_1/vars/0"
    ),
    "classifier: keras: an external link": Case(
        KERAS,
        replaced(PLACES[2], h5py.ExternalLink("model.weights.h5", "/x")),
        "dense_1/vars/0' is a link to elsewhere",
    ),
    "classifier: keras: NaN": Case(
        KERAS, replaced(PLACES[3], np.full(3, np.nan, "f4")), "dense_1/vars/1'.* 3 values that aren't finite"
    ),
}
