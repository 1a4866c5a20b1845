"""`pyroberta classify` and `pyroberta embed`: from files with labels to figures, and from texts to vectors."""

from __future__ import annotations

import csv
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from small_models import TEXTS

from pyroberta import MaskedLM, TextClassifier
from pyroberta.cli.class_report import lines, report, worst
from pyroberta.cli.main import main
from pyroberta.tasks import inference

LABELS = ["neg", "pos", "neg", "pos", "neg", "pos"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_csv("reviews.csv", TEXTS, LABELS)
    return tmp_path


@pytest.fixture
def classifier(small_preset: Path, here: Path) -> TextClassifier:
    found = TextClassifier.from_preset(small_preset, num_classes=2, labels=["neg", "pos"], seed=5)
    found.save_to_preset("classifier")
    return TextClassifier.from_preset("classifier")


def write_csv(name: str, texts, labels) -> None:
    opened = gzip.open if name.endswith(".gz") else open
    with opened(name, "wt", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *zip(texts, labels, strict=True)])


OF_TABLE = ["--column", "text", "--label", "label"]
TRAIN = ["classify", "train", "reviews.csv", *OF_TABLE, "--batch-size", "2", "--quiet", "--json"]


def result_of(line: list[str], capsys, code: int = 0):
    assert main(line) == code
    return json.loads(capsys.readouterr().out)


def records(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# --- training ---------------------------------------------------------------------------------------------------------


def test_a_training_that_learned_nothing_says_so(here, capsys):
    write_csv("turns.csv", ["A good day.", "A bad day."] * 8, ["pos", "neg"] * 8)
    line = ["classify", "train", "turns.csv", *OF_TABLE, "--batch-size", "4", "--quiet", "--json", "-o", "out"]
    hint = "of the last epoch is that of guessing (0.6931), so the classifier has learned hardly anything yet"
    assert main([*line, "--learning-rate", "1e-7"]) == 0
    assert hint in capsys.readouterr().err
    assert main([*line, "--learning-rate", "3e-3", "--epochs", "6", "--overwrite"]) == 0
    assert hint not in capsys.readouterr().err


def test_a_folder_for_each_class_is_what_a_table_is(here, model, capsys, recwarn):
    turns = [*zip(TEXTS[::2], TEXTS[1::2], strict=True)]
    for number, texts in enumerate(turns):
        for name, text in zip(("neg", "pos"), texts, strict=True):
            Path("folders", name).mkdir(parents=True, exist_ok=True)
            Path("folders", name, f"{number}.txt").write_text(text)
    write_csv("turns.csv", [text for texts in turns for text in texts], ["neg", "pos"] * len(turns))
    more = [*model, "--batch-size", "2", "--quiet", "--json", "--validation", "50%"]
    folders = ["folders", "--label", "inferred"]
    found = result_of(["classify", "train", *folders, *more, "-o", "out"], capsys)
    table = result_of(["classify", "train", "turns.csv", *OF_TABLE, *more, "-o", "same"], capsys)
    assert found["labels"] == ["neg", "pos"]
    assert found["history"] == table["history"]
    assert not recwarn.list  # of a class that one of the two parts lacks
    line = ["classify", "evaluate", *folders, "--model", "out", "--quiet", "--json"]
    assert result_of(line, capsys)["texts"] == len(TEXTS) // 2 * 2
    assert main(["classify", "train", "folders", "--label", "verdict", *model, "-o", "no"]) == 2
    assert "In a directory, --label inferred takes the folders' names" in capsys.readouterr().err


def test_a_class_takes_one_line_whatever_its_name_is(here, model, capsys):
    for name in ("a\nb", "c\x1b[2J"):
        Path("folders", name).mkdir(parents=True)
        Path("folders", name, "1.txt").write_text("a text")
    assert main(["classify", "train", "folders", "--label", "inferred", *model, "-o", "out", "--quiet"]) == 0
    commands = [
        ["classify", "evaluate", "folders", "--label", "inferred", "--model", "out", "--errors", "2", "--quiet"],
        ["classify", "predict", "a text", "--model", "out", "--quiet"],
        ["inspect", "out"],
    ]
    capsys.readouterr()
    for command in commands:
        assert main(command) == 0
        shown = capsys.readouterr().out
        assert "\\nb" in shown or "c\\x1b[2J" in shown
        assert not [line for line in shown.splitlines() if line.startswith("b")]


def test_a_classifier_learns_names_and_keeps_them(here, model, capsys):
    write_csv("held.csv.gz", TEXTS[:2], LABELS[:2])
    more = ["--epochs", "30", "--learning-rate", "3e-3", "--validation", "held.csv.gz", "--schedule", "constant"]
    result = result_of([*TRAIN, *model, "-o", "out", *more], capsys)
    assert (result["labels"], result["saved"]) == (["neg", "pos"], "out")
    assert len(result["history"]["val_accuracy"]) == 30
    found = TextClassifier.from_preset("out")
    assert found.labels == ["neg", "pos"]
    assert [one.name for one in found.classify(TEXTS)] == LABELS


@pytest.mark.filterwarnings("always")
def test_a_share_of_a_sorted_table_is_warned_of(here, model, capsys):
    write_csv("reviews.csv", TEXTS, sorted(LABELS))
    for share, part, name in (("17%", "evaluate on", "neg"), ("50%", "train on", "pos")):
        assert main([*TRAIN, *model, "-o", share, "--validation", share]) == 0
        warning = f"the texts to {part} have none of the class '{name}': --validation {share} takes the last ones"
        assert warning in capsys.readouterr().err
    write_csv("reviews.csv", TEXTS, LABELS)
    assert main([*TRAIN, *model, "-o", "c", "--validation", "34%"]) == 0
    assert "none of the class" not in capsys.readouterr().err


def test_a_classifier_begins_with_the_rate_that_suits_the_masked_lm(here, model, capsys):
    """5e-5 is for large models: of a small one it makes no classifier."""
    masked_lm = MaskedLM.from_preset(model[1])
    masked_lm.recommended_learning_rate = 2e-3
    masked_lm.save_to_preset("recommending")
    loud = [word for word in TRAIN if word != "--quiet"]
    assert main([*loud, "-m", "recommending", "-o", "a"]) == 0
    assert "learning rate 0.002: the preset recommends it for a masked LM (--learning-rate)" in capsys.readouterr().err
    assert main([*loud, *model, "-o", "b"]) == 0
    assert "learning rate 5e-05: KerasHub's default" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["5", "1", "10", "1", "5", "10"], ["1", "5", "10"]),
        (["0", "1", "0", "1", "0", "1"], ["0", "1"]),
        (["True", "False"] * 3, ["False", "True"]),
    ],
)
def test_numbers_and_booleans_are_names_in_the_order_of_their_values(labels, names, here, model, capsys):
    write_csv("reviews.csv", TEXTS, labels)
    result = result_of([*TRAIN, *model, "-o", "out"], capsys)
    assert result["labels"] == names
    rows = [
        json.dumps({"text": text, "label": json.loads(label.lower())})
        for text, label in zip(TEXTS, labels, strict=True)
    ]
    Path("rows.jsonl").write_text("\n".join(rows))
    found = result_of(["classify", "evaluate", "rows.jsonl", *OF_TABLE, "-m", "out", "--quiet", "--json"], capsys)
    assert [one["texts"] for one in found["classes"].values()] == [labels.count(name) for name in names]


def test_the_classes_are_said_before_the_training(here, model, capsys):
    write_csv("reviews.csv", TEXTS, ["neg", " neg", "pos", "pos", "pos", "neg"])  # a space that nobody meant
    assert main(["classify", "train", "reviews.csv", *OF_TABLE, *model, "-o", "out"]) == 0
    assert "\n3 classes: ' neg' (1 text), 'neg' (2 texts), 'pos' (3 texts)\n" in capsys.readouterr().err


def test_a_classifier_of_the_same_classes_is_trained_further_and_another_one_refused(here, classifier, model, capsys):
    write_csv("one.csv", TEXTS[:2], ["pos", "pos"])
    assert main(["classify", "train", "one.csv", *OF_TABLE, *model, "-o", "x"]) == 2
    assert "all labels are 'pos': a classifier needs texts of at least two classes" in capsys.readouterr().err
    write_csv("other.csv", TEXTS[:2], ["pos", "fair"])
    other = ["classify", "train", "other.csv", *OF_TABLE, "-m", "classifier", "-o", "x"]
    assert main(other) == 2
    assert (
        "classifier is a classifier for neg, pos, and the label 'fair' is not one of these" in capsys.readouterr().err
    )
    assert not Path("x").exists()
    before = classifier.params["head.table"]
    result_of([*TRAIN, "-m", "classifier", "-o", "further", "--learning-rate", "1e-9"], capsys)
    np.testing.assert_allclose(TextClassifier.from_preset("further").params["head.table"], before, atol=1e-6)


def test_a_stopped_classifier_goes_on_bit_for_bit(here, model, capsys, monkeypatch):
    import shlex
    import signal

    line = [*TRAIN, *model, "--epochs", "3", "--checkpoint", "run", "--validation", "34%"]
    result_of([*line, "-o", "whole"], capsys)
    really, count = TextClassifier._update, [0]

    def call(self, *arguments, **keywords):
        count[0] += 1
        if count[0] == 3:
            signal.raise_signal(signal.SIGINT)
        return really(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(TextClassifier, "_update", call)
        stopped = result_of([*line, "-o", "parts"], capsys, 130)
    result_of(shlex.split(stopped["to_go_on"])[1:], capsys)
    whole, parts = (TextClassifier.from_preset(name).params.flat.tobytes() for name in ("whole", "parts"))
    assert whole == parts


@pytest.mark.filterwarnings("always")
def test_a_column_of_ids_as_labels_is_warned_of_once(here, model, capsys):
    write_csv("ids.csv", [f"text {i}" for i in range(24)], range(24))
    line = ["classify", "train", "ids.csv", *OF_TABLE, *model, "-o", "out", "--quiet", "--json"]
    assert main(line) == 0
    err = capsys.readouterr().err
    assert "the column 'label' gives 24 classes to 24 texts, so most classes have too few texts" in err
    assert err.count("classes to 24 texts") == 1


@pytest.mark.parametrize("action", [["train", "-o", "out"], ["evaluate"]])
def test_without_a_label_the_columns_of_the_file_and_the_way_for_folders_are_said(action, here, model, capsys):
    (here / "folders" / "neg").mkdir(parents=True)
    (here / "folders" / "neg" / "1.txt").write_text("Never again.", encoding="utf-8")
    (here / "records.jsonl").write_text('{"body": "A joy.", "stars": 5}\n', encoding="utf-8")
    for file, column, columns in (
        ("reviews.csv", ["--column", "text"], "reviews.csv has the columns 'text', 'label'."),
        ("reviews.csv", [], "reviews.csv has the columns 'text', 'label'."),
        ("records.jsonl", [], "records.jsonl has the columns 'body', 'stars'."),
        ("folders", [], "1.txt has no columns."),
    ):
        assert main(["classify", *action, file, *column, *model]) == 2
        err = capsys.readouterr().err
        assert "--label is missing: it names the column of the labels. " in err
        assert columns in err
        assert "--label inferred takes the folders' names" in err
    assert main(["classify", *action, "reviews.csv", "--label", "label", *model]) == 2
    err = capsys.readouterr().err
    assert "--column is missing: it names the column of the texts. reviews.csv has the columns 'text', 'label'." in err
    assert not (here / "out").exists()


def test_missing_labels_are_named_with_their_row(here, model, capsys):
    write_csv("reviews.csv", [*TEXTS, "a"], [*LABELS, ""])
    assert main([*TRAIN, *model, "-o", "out"]) == 2
    err = capsys.readouterr().err
    assert "reviews.csv, line 8" in err
    assert not Path("out").exists()


# --- figures ----------------------------------------------------------------------------------------------------------


def random_answers(seed: int, count: int = 200, classes: int = 4):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, classes)), rng.integers(0, classes, count), [f"c{i}" for i in range(classes)]


def test_the_figures_are_their_definitions():
    logits, labels, names = random_answers(1)
    found, predicted = report(logits, labels, names), logits.argmax(axis=1)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert found["loss"] == pytest.approx(-np.log(probabilities[np.arange(200), labels]).mean())
    assert found["accuracy"] == (predicted == labels).mean()
    for i, name in enumerate(names):
        one = found["classes"][name]
        precision, recall = (labels[predicted == i] == i).mean(), (predicted[labels == i] == i).mean()
        assert one["precision"] == pytest.approx(precision)
        assert one["recall"] == pytest.approx(recall)
        assert one["f1"] == pytest.approx(2 * precision * recall / (precision + recall))
        assert (one["texts"], one["errors"]) == ((labels == i).sum(), ((labels == i) & (predicted != i)).sum())
        assert found["confusion"][i] == [int(((labels == i) & (predicted == j)).sum()) for j in range(4)]
    assert found["mean"]["f1"] == pytest.approx(np.mean([one["f1"] for one in found["classes"].values()]))


def test_a_class_that_never_comes_has_no_figures():
    logits = np.array([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    found = report(logits, np.array([0, 1]), ["a", "b", "c"])
    assert found["classes"]["c"]["precision"] is found["classes"]["c"]["recall"] is found["classes"]["c"]["f1"] is None
    assert found["classes"]["b"]["precision"] is None
    assert found["mean"] == {"precision": 0.25, "recall": 0.5, "f1": pytest.approx(1 / 3)}
    table = lines(found)
    assert [line.split()[0] for line in table[1:5]] == ["a", "b", "c", "mean"]
    assert table[2].split() == ["b", "-", "0.000", "0.000", "1", "1"]
    assert table[3].split() == ["c", "-", "-", "-", "0", "0"]


def test_many_classes_show_what_is_confused_most():
    logits, labels, names = random_answers(2, count=500, classes=30)
    table = "\n".join(lines(report(logits, labels, names)))
    assert "most often confused:" in table
    assert "given the class above" not in table


def test_the_surest_errors_come_first():
    logits, labels, names = random_answers(3, count=50)
    found = worst([f"t{i}" for i in range(50)], logits, labels, names, 5)
    scores = [one["score"] for one in found]
    assert len(found) == 5
    assert scores == sorted(scores, reverse=True)
    assert all(one["label"] != one["predicted"] for one in found)


def test_evaluate_prints_what_python_gives(here, classifier, capsys):
    line = ["classify", "evaluate", "reviews.csv", *OF_TABLE, "-m", "classifier"]
    found = result_of([*line, "--json", "--errors", "2"], capsys)
    expected = classifier.evaluate(TEXTS, [LABELS.index(label) for label in LABELS], verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert found["accuracy"] == pytest.approx(expected["accuracy"])
    assert all(error["place"].startswith("reviews.csv, line ") for error in found["errors"])
    assert main(line) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == ["class", "precision", "recall", "f1", "texts", "errors"]
    assert f"accuracy {found['accuracy']:.4f}, loss {found['loss']:.4f}" in out
    assert "reviews.csv: CSV, column 'text', labels 'label', 6 rows" in err
    write_csv("reviews.csv", TEXTS[:2], ["pos", "fair"])
    assert main(line) == 2
    assert "'fair' of reviews.csv, line 3 is not a class of the model" in capsys.readouterr().err


def test_predict_streams_the_likeliest_class(here, classifier, capsys, monkeypatch):
    monkeypatch.setattr(inference, "TOKENS_AT_ONCE", 8)
    expected = classifier.classify(TEXTS)
    assert main(["classify", "predict", *TEXTS, "-m", "classifier", "--json", "--quiet"]) == 0
    found = records(capsys)
    assert [(one["text"], one["label"], one["name"]) for one in found] == [
        (text, one.label, one.name) for text, one in zip(TEXTS, expected, strict=True)
    ]
    assert [one["score"] for one in found] == pytest.approx([one.score for one in expected], rel=1e-4)
    assert (
        main(["classify", "predict", "--file", "reviews.csv", "--column", "text", "-m", "classifier", "--quiet"]) == 0
    )
    lines_ = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines_] == [one.name for one in expected]


@pytest.mark.parametrize("action", ["evaluate", "predict"])
def test_what_is_no_classifier_is_told_how_to_become_one(action, here, model, capsys):
    given = ["reviews.csv", *OF_TABLE] if action == "evaluate" else ["a"]
    assert main(["classify", action, *given, *model]) == 2
    assert "is not a classifier. Train one from it: pyroberta classify train" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["classify", action, *given])
    assert "the following arguments are required: -m/--model" in capsys.readouterr().err


# --- embeddings -------------------------------------------------------------------------------------------------------


def test_embeddings_go_into_files_and_lines(here, model, capsys):
    expected = MaskedLM.from_preset(model[1]).embed(TEXTS, verbose=0)
    line = ["embed", "--file", "reviews.csv", "--column", "text", *model, "--quiet"]
    assert result_of([*line, "-o", "v.npy", "--json"], capsys) == {"saved": "v.npy", "texts": 6, "dimensions": 8}
    np.testing.assert_allclose(np.load("v.npy"), expected, atol=1e-6)
    assert main([*line, "-o", "v.jsonl"]) == 0
    assert capsys.readouterr().out == "saved 6 embeddings of 8 numbers to v.jsonl\n"
    rows = [json.loads(row) for row in Path("v.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    np.testing.assert_allclose([row["embedding"] for row in rows], expected, atol=1e-6)
    assert main([*line, "--json"]) == 0
    assert records(capsys) == rows
    assert main([*line, "-o", "v.npy"]) == 2
    assert "v.npy exists already. Give another name, or --overwrite to replace it" in capsys.readouterr().err
    assert main([*line, "-o", "v.npy", "--overwrite", "--layer", "0"]) == 0
    assert not np.allclose(np.load("v.npy"), expected)


def test_the_nearest_texts_have_the_largest_cosines(here, model, capsys):
    masked_lm = MaskedLM.from_preset(model[1])
    line = ["embed", *TEXTS, *model, "--quiet", "--json"]
    for options, keywords in (([], {}), (["--normalize", "center"], {"method": "center"})):
        how = {"normalize": masked_lm.fit_normalization(TEXTS, **keywords, verbose=0)} if keywords else {}
        vectors, query = masked_lm.embed(TEXTS, verbose=0, **how), masked_lm.embed("It was late.", **how)
        cosine = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
        assert main([*line, "--nearest", "It was late.", "-k", "3", *options]) == 0
        found = records(capsys)
        assert [one["number"] for one in found] == np.argsort(-cosine)[:3].tolist()
        assert [one["cosine"] for one in found] == pytest.approx(np.sort(cosine)[::-1][:3], abs=1e-4)
        assert main([*line, "--neighbours", "-k", "2", *options]) == 0
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        for i, one in enumerate(records(capsys)):
            others = [j for j in np.argsort(-(unit @ unit[i])).tolist() if j != i][:2]
            assert [other["number"] for other in one["neighbours"]] == others
    Path("corpus.txt").write_text("\n".join(TEXTS[:3]))
    assert main([*line, "--nearest", "a", "--normalize", "center", "--fitted-on", "corpus.txt"]) == 0
    centered = masked_lm.fit_normalization(TEXTS[:3], "center", verbose=0)
    vectors, query = masked_lm.embed(TEXTS, normalize=centered, verbose=0), masked_lm.embed("a", normalize=centered)
    cosine = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    assert records(capsys)[0]["cosine"] == pytest.approx(cosine.max(), abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to do with the embeddings: give -o FILE.npy, --json, --nearest QUERY or --neighbours"),
        (["-o", "v.txt"], "--output v.txt should end with .npy or .jsonl"),
        (["--json", "-k", "3"], "--top-k has no effect without --nearest or --neighbours"),
        (["--json", "--fitted-on", "x"], "--fitted-on has no effect without --normalize"),
        (["--json", "--dimensions", "2"], "--dimensions has no effect without --normalize whiten"),
        (["--json", "--overwrite"], "--overwrite has no effect without --output"),
        (["--json", "--column", "text"], "--column has no effect without --file: give --file, or leave --column out"),
        (["--json", "--layer", "9"], "layer must be from"),
        (["--json", "--normalize", "whiten"], "Give more texts, --dimensions below 1, or --normalize center"),
    ],
)
def test_what_has_no_effect_on_embeddings_is_refused(options, message, here, model, capsys):
    assert main(["embed", "a text", *model, *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert os.listdir() == ["reviews.csv"]
