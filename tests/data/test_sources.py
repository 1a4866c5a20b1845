"""What texts are in, with `column=` and `label=`: tables, records, files; and labels that are names."""

from __future__ import annotations

import csv
import io
import itertools
from collections import UserDict, namedtuple
from pathlib import Path

import numpy as np
import pytest
from arriving import Pieces
from pages import ROOT, blocks
from small_models import TEXTS, small_classifier, small_masked_lm

from pyroberta import Task
from pyroberta.data import open_source

NAMES = ["sad", "glad", "so-so", "so-so", "sad", "glad"]
NUMBERS = [1, 0, 2, 2, 1, 0]  # in the order of the sorted names
RECORDS = [
    {"id": i, "text": text, "other": text[::-1], "label": name}
    for i, (text, name) in enumerate(zip(TEXTS, NAMES, strict=True))
]
MASKED = [{"t": "a <mask>"}]
Row = namedtuple("Row", "id text other label")


def columns() -> dict[str, list]:
    return {name: [record[name] for record in RECORDS] for name in RECORDS[0]}


def structured() -> np.ndarray:
    return np.array(
        [tuple(record.values()) for record in RECORDS], [("id", int), *[(n, "U99") for n in Row._fields[1:]]]
    )


TABLES = {
    "records": lambda: RECORDS,
    "generator": lambda: (record for record in RECORDS),
    "tuple": lambda: tuple(RECORDS),
    "mappings": lambda: [UserDict(record) for record in RECORDS],
    "named tuples": lambda: [Row(**record) for record in RECORDS],
    "dict": columns,
    "dict of arrays": lambda: {name: np.array(column) for name, column in columns().items()},
    "structured array": structured,
}


@pytest.fixture(scope="module")
def fitted() -> dict:
    classifier, masked_lm = small_classifier(), small_masked_lm()
    classifier.fit(TEXTS, NUMBERS, verbose=0)
    return {"classifier": classifier.params["head.table"].copy(), "embed": masked_lm.embed(TEXTS),
            "scores": [score.total for score in masked_lm.score(TEXTS)],
            "metrics": masked_lm.evaluate(TEXTS, verbose=0)}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_table_teaches_as_its_columns_do(name: str, fitted: dict, capsys):
    classifier = small_classifier()
    classifier.fit(TABLES[name](), column="text", label="label", verbose=2)
    assert classifier.labels == ["glad", "sad", "so-so"]
    assert np.array_equal(classifier.params["head.table"], fitted["classifier"])
    assert "classes: 0 glad, 1 sad, 2 so-so (the sorted labels; the model keeps them)" in capsys.readouterr().err
    masked_lm = small_masked_lm()
    assert masked_lm.evaluate(TABLES[name](), column="text", verbose=0) == fitted["metrics"]
    assert (masked_lm.embed(TABLES[name](), column="text") == fitted["embed"]).all()
    assert [score.total for score in masked_lm.score(TABLES[name](), column="text")] == fitted["scores"]
    found = classifier.classify(TABLES[name](), column="text")
    assert found == classifier.classify(TEXTS)
    assert (classifier.predict(TABLES[name](), column="text", verbose=0) == classifier.predict(TEXTS, verbose=0)).all()
    pairs = [(record["text"], record["other"]) for record in RECORDS]
    with pytest.warns(UserWarning, match="were cut"):
        expected = classifier.predict(pairs, verbose=0)
    with pytest.warns(UserWarning, match="were cut"):
        assert (classifier.predict(TABLES[name](), column=("text", "other"), verbose=0) == expected).all()
    assert classifier.train_on_batch(TABLES[name](), column="text", label="label")
    assert classifier.test_on_batch(TABLES[name](), column="text", label="label")
    assert classifier.predict_on_batch(TABLES[name](), column="text").shape == (6, 3)


@pytest.mark.parity
def test_tables_of_pandas_polars_pyarrow_and_datasets(fitted: dict):
    import datasets
    import pandas
    import polars
    import pyarrow

    frame, arrow, dataset = (
        pandas.DataFrame(RECORDS),
        pyarrow.Table.from_pylist(RECORDS),
        datasets.Dataset.from_list(RECORDS),
    )
    for x in (
        frame,
        frame.astype({"text": "string", "label": "category"}),
        frame.set_index("id"),
        arrow,
        arrow.combine_chunks().to_batches()[0],
        dataset,
        dataset.to_iterable_dataset(),
        frame.itertuples(),
        polars.DataFrame(RECORDS),
        dataset.with_format("numpy"),
    ):
        classifier = small_classifier()
        classifier.fit(x, column="text", label="label", verbose=0)
        assert classifier.labels == ["glad", "sad", "so-so"]
        assert np.array_equal(classifier.params["head.table"], fitted["classifier"])
    classifier = small_classifier()
    classifier.fit(frame["text"], frame["label"], verbose=0)
    assert np.array_equal(classifier.params["head.table"], fitted["classifier"])
    classes = datasets.ClassLabel(names=["so-so", "sad", "glad"])
    numbered = dataset.cast_column("label", classes)
    classifier = small_classifier()
    classifier.fit(numbered, column="text", label="label", verbose=0)
    assert classifier.labels == ["so-so", "sad", "glad"]
    other = small_classifier(labels=["glad", "sad", "so-so"])
    other.fit(numbered, column="text", label="label", verbose=0)
    assert np.array_equal(other.params["head.table"], fitted["classifier"])
    frame.loc[[1, 3], "label"] = None
    frame.loc[4, "text"] = float("nan")
    message = (
        r"2 rows have no value in the column 'label' \(row 1, row 3\); 1 row has no value in the column 'text' \(row 4"
    )
    with pytest.raises(ValueError, match=message) as raised:
        classifier.fit(frame, column="text", label="label", verbose=0)
    left = eval(str(raised.value).split("such rows first: ")[1], {"df": frame})
    assert left.index.tolist() == [0, 2, 5]
    classifier.fit(left, column="text", label="label", verbose=0)
    for missing in (pandas.NA, pandas.NaT):
        with pytest.raises(ValueError, match=r"1 row has no value in the column 'text' \(row 1\)"):
            classifier.predict([{"text": "a"}, {"text": missing}], column="text")
    with pytest.raises(TypeError, match=r"row 0: a text in the column 'text' must be .*single rows, not batches"):
        classifier.predict(dataset.iter(2), column="text")
    double = pandas.concat([frame, frame], axis=1)
    with pytest.raises(ValueError, match="x has 2 columns of the name 'text'"):
        classifier.predict(double, column="text")


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")  # of the peers
def test_the_page_of_inputs_is_right_about_the_peers_tables(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    page = (ROOT / "docs" / "inputs.md").read_text("utf-8")
    run = [block.text for block in blocks(page) if block.tag in ("python", "py")][:2]
    assert "import pandas" in run[1]
    for text in run:
        exec(text, namespace)


@pytest.mark.parametrize(
    ("x", "keywords", "error", "message"),
    [
        (TEXTS, {"column": "text"}, TypeError, "column='text' names a column, but item 0 of x is a str, which has"),
        ("a.txt", {"column": "text"}, FileNotFoundError, "there is no file 'a.txt'. To pass one text, pass a list"),
        ("-", {}, FileNotFoundError, "there is no file '-'. For standard input, pass sys.stdin; for a file, its path"),
        (Path("-"), {}, FileNotFoundError, "there is no file '-'. For standard input, pass sys.stdin; for a file, its"),
        (RECORDS, {"column": "body"}, ValueError, r"row 0 of x has no 'body'. Its names are 'id', 'text', "),
        ({"text": ["a"]}, {"column": "body"}, ValueError, "x has no column 'body'. Its columns are 'text'"),
        ({"text": ["a"], "label": [1, 2]}, {"column": "text", "label": "label"}, ValueError, "have different lengths"),
        ({"text": "a"}, {"column": "text"}, TypeError, "the column 'text' should be a list with a value for each row"),
        (RECORDS, {"column": "id"}, TypeError, "row 0: a text in the column 'id' must be a string, got 0"),
        (RECORDS, {"column": ()}, ValueError, "column is empty"),
        (RECORDS, {"label": "label"}, ValueError, "label='label' names the column of the labels: name the"),
        (5, {"column": "text"}, TypeError, "column='text' names a column, but x is an int, which has no columns"),
        ([{"text": None}, {"text": np.nan}], {"column": "text"}, ValueError, r"2 rows .*row 0, row 1"),
        ([{"text": b"a"}], {"column": "text"}, TypeError, "row 0 is bytes"),
        (TEXTS, {"kind": "csv"}, ValueError, "kind='csv' applies to files, but x is a list. Leave it out"),
        (TEXTS, {"per_line": False}, ValueError, "per_line=False applies to files"),
        (TEXTS, {"per_line": "no"}, TypeError, "per_line must be True or False, got 'no'"),
        ([{"text": "a"}], {"column": "text", "label": ["b"]}, TypeError, r"label should be the name of .*got \['b'\]"),
        ([{"text": "a"}], {"column": [["text"]]}, TypeError, r"column should be the name of a column, got \['text'\]"),
        (open_source(TEXTS), {"column": "text"}, ValueError, "x was opened by open_source: pass column="),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(x, keywords, error, message: str):
    with pytest.raises(error, match=message):
        _ = open_source(x, **keywords).texts


def test_a_masked_lm_takes_no_labels():
    with pytest.raises(ValueError, match=r"a masked language model makes its labels .* Leave y \(and label=\) out"):
        small_masked_lm().fit(RECORDS, column="text", label="label")
    with pytest.raises(ValueError, match=r"y and label='label' both give labels"):
        small_classifier().fit(RECORDS, NUMBERS, column="text", label="label")


@pytest.mark.parametrize("column", ["text", ("text", "other")])
def test_a_column_of_texts_is_not_one_of_labels(column):
    with pytest.raises(ValueError, match="column and label are both 'text', but a text can't be its own label"):
        open_source(RECORDS, column=column, label="text")


def test_a_column_is_no_pair_with_itself():
    with pytest.raises(ValueError, match=r"column names 'text' twice, but a text is no pair with itself\. Name each"):
        open_source(RECORDS, column=("text", "text"))


def test_fields_without_a_name_are_not_dropped():
    rows = csv.DictReader(["text,label", "a joy,1", "a waste, of time,0"])
    with pytest.raises(
        ValueError, match=r"row 1 of x has more fields than there are names of columns: \['0'\] has no name"
    ):
        _ = open_source(rows, column="text", label="label").texts


def test_validation_data_has_the_same_columns(tmp_path: Path):
    (tmp_path / "v.csv").write_text(
        "label,text\n" + "".join(f'{name},"{text}"\n' for text, name in zip(TEXTS, NAMES, strict=True))
    )
    found = []
    for data in (
        RECORDS,
        (TEXTS, NAMES),
        (iter(TEXTS), NUMBERS),
        tmp_path / "v.csv",
        open_source(RECORDS, column="text", label="label"),
    ):
        classifier = small_classifier()
        history = classifier.fit(RECORDS, column="text", label="label", validation_data=data, verbose=0).history
        found.append(history["val_loss"])
    assert found.count(found[0]) == 5
    (tmp_path / "v.txt").write_text("\n".join(TEXTS))
    a, b = (
        small_masked_lm().fit(RECORDS, column="text", validation_data=data, verbose=0).history
        for data in (RECORDS, tmp_path / "v.txt")
    )
    assert a == b


def test_what_is_one_text_and_what_a_path(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("text\n" + "".join(f'"{text} <mask>"\n' for text in TEXTS))
    masked_lm, classifier = small_masked_lm(), small_classifier()
    texts = [f"{text} <mask>" for text in TEXTS]
    assert (masked_lm.embed("a.csv", column="text") == masked_lm.embed(texts)).all()
    assert masked_lm.score("a.csv", column="text") == masked_lm.score(texts)
    assert masked_lm.fill_mask("a.csv", column="text") == masked_lm.fill_mask(texts)
    assert classifier.classify("a.csv", column="text") == classifier.classify(texts)
    assert masked_lm.predict("a.csv", column="text", verbose=0).shape == (6, 1, 300)
    with pytest.warns(UserWarning, match=r"'a.csv' is the name of a file, .* pass a path: pathlib.Path\('a.csv'\)"):
        assert masked_lm.embed("a.csv").ndim == 1
    with pytest.warns(UserWarning, match="is the name of a file"):
        assert isinstance(classifier.classify("a.csv").label, int)


def test_the_names_of_a_directory_and_of_several_files_are_texts_too_and_that_is_said(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("few").mkdir()
    for name in ("a", "b"):
        Path("few", f"{name}.txt").write_text(f"the text {name}\n")
    masked_lm = small_masked_lm()
    for text in ("few", "few/"):
        with pytest.warns(UserWarning, match=rf"'{text}' is the name of a directory, .* in its files, pass a path"):
            assert masked_lm.embed(text).ndim == 1
    for text in ("few/*.txt", "few/?.txt"):
        with pytest.warns(UserWarning, match=r"is a pattern of the names of files, .* in these files, pass a path"):
            assert masked_lm.score(text).total < 0.0
        assert len(masked_lm.score(Path(text))) == 2
    for text in ("Is it few/*?", "few?", "*", "none/*.txt", "[few]"):  # texts, and nothing is said
        masked_lm.score(text)


class Numbered:
    """Records by number and a length alone, as torch's Dataset; nothing tells its end."""

    def __len__(self):
        return len(RECORDS)

    def __getitem__(self, number):
        return RECORDS[number % len(RECORDS)]


def test_records_may_come_by_their_number(fitted: dict):
    assert small_masked_lm().evaluate(Numbered(), column="text", verbose=0) == fitted["metrics"]


def test_records_without_end_are_refused_unless_steps_say_how_many():
    masked_lm = small_masked_lm()
    with pytest.raises(ValueError, match=r"x is an itertools.cycle, which never ends. Give steps= .*islice\(x, 1000\)"):
        masked_lm.fit(itertools.cycle(RECORDS), column="text", verbose=0)
    masked_lm.fit(itertools.cycle(RECORDS), column="text", steps_per_epoch=2, batch_size=2, verbose=0)
    assert len(masked_lm.predict(itertools.cycle(MASKED), column="t", steps=2, batch_size=2, verbose=0)) == 4
    rows = Counting()
    classifier = small_classifier(labels=["glad", "sad", "so-so"])
    keywords = {"column": "text", "label": "label", "batch_size": 2, "verbose": 0}
    found = classifier.fit(RECORDS, validation_data=rows, validation_steps=2, epochs=2, **keywords).history["val_loss"]
    assert rows.count <= 5  # one of them to see whether it is a record
    other = small_classifier(labels=["glad", "sad", "so-so"])
    assert other.fit(RECORDS, validation_data=RECORDS[:4], epochs=2, **keywords).history["val_loss"] == found


# --- streams ----------------------------------------------------------------------------------------------------------


class Counting:
    """Records without end that say how many were read."""

    def __init__(self):
        self.count = 0

    def __iter__(self):
        for record in itertools.cycle(RECORDS):
            self.count += 1
            yield record


def test_with_steps_no_more_rows_are_read_than_these_ask(tmp_path: Path, capsys):
    rows = Counting()
    classifier = small_classifier(labels=["glad", "sad", "so-so"])
    classifier.fit(rows, column="text", label="label", batch_size=2, steps_per_epoch=2, epochs=2, verbose=0)
    assert rows.count <= 10
    (tmp_path / "a.csv").write_text(
        "label,text\n" + "".join(f'{name},"{text}"\n' for text, name in zip(TEXTS, NAMES, strict=True))
    )
    other = small_classifier(labels=["glad", "sad", "so-so"])
    other.fit(tmp_path / "a.csv", column="text", label="label", batch_size=2, steps_per_epoch=2, epochs=2, verbose=0)
    assert np.array_equal(classifier.params["head.table"], other.params["head.table"])
    assert np.isfinite(
        other.evaluate(tmp_path / "a.csv", column="text", label="label", steps=2, batch_size=2, verbose=0)
    ).all()
    assert len(other.predict(tmp_path / "a.csv", column="text", steps=2, batch_size=2, verbose=0)) == 4
    masked_lm = small_masked_lm()
    masked_lm.fit(tmp_path / "a.csv", column="text", batch_size=4, steps_per_epoch=3, verbose=2)
    assert "a.csv: CSV, column 'text', read step by step in their order\n" in capsys.readouterr().err
    with pytest.raises(
        ValueError, match=r"label 'sad' of row 0 is not a class of the model, which has only default names"
    ):
        small_classifier().fit(Counting(), column="text", label="label", steps_per_epoch=2, verbose=0)


@pytest.mark.parametrize("name", [name for name in TABLES if name != "generator"])
def test_a_table_in_memory_is_held_and_shuffled_where_steps_are_counted(name: str):
    found = []
    for x, keywords in ((TABLES[name](), {"column": "text", "label": "label"}), (TEXTS, {"y": NUMBERS})):
        classifier = small_classifier()
        classifier.fit(x, batch_size=2, steps_per_epoch=2, epochs=4, verbose=0, **keywords)
        found.append(classifier.params["head.table"].copy())
    assert np.array_equal(*found)
    source = open_source(TABLES[name](), column="text")
    assert list(source.stream()) == list(source.stream()) == source.texts == list(source) == TEXTS


def test_what_is_wrong_in_a_stream_is_named_when_it_comes():
    classifier = small_classifier(labels=["glad", "sad", "so-so"])
    rows = [*RECORDS[:5], {"text": "a", "label": "bad"}]
    with pytest.raises(ValueError, match=r"label 'bad' of row 5 is not a class of the model"):
        classifier.fit(iter(rows), column="text", label="label", batch_size=2, steps_per_epoch=3, verbose=0)
    rows = [*RECORDS[:2], {"text": None}]
    with pytest.raises(ValueError, match=r"1 row has no value in the column 'text' \(row 2\)"):
        small_masked_lm().fit((row for row in rows), column="text", batch_size=1, steps_per_epoch=3, verbose=0)


@pytest.mark.parametrize(
    ("pieces", "how", "place"),
    [
        ([b"a fox\n\n", b"a dog\n"], {}, "the file, line 3"),
        ([b"id,text\n1,a fox\n", b"2,a dog\n"], {"kind": "csv", "column": "text"}, "the file, line 3"),
        ([b'"a fox"\n', b'"a dog"\n'], {"kind": "jsonl"}, "the file, line 2"),
        ([b"a f", b"ox\n", b"a dog"], {}, "the file, line 2"),
    ],
)  # fmt: skip
def test_the_texts_of_a_pipe_are_there_as_they_come(pieces, how, place):
    raw = Pieces(pieces)
    source = open_source(io.BufferedReader(raw), **how)
    assert source.is_once
    texts = iter(source.stream())
    assert (next(texts), raw.given) == ("a fox", len(pieces) - 1)
    assert (next(texts), raw.given) == ("a dog", len(pieces))
    assert source.place(1) == place
    assert list(texts) == []


def test_a_stream_knows_the_places_of_its_last_rows(monkeypatch):
    monkeypatch.setattr("pyroberta.data.sources.MOST_RECENT", 2)
    source = open_source(io.BytesIO(b"a\n\nb\nc\nd\n"))
    for number, _ in enumerate(source.stream()):
        assert source.place(number) == f"the file, line {(1, 3, 4, 5)[number]}"
    assert [source.place(i) for i in range(5)] == ["text 0", "text 1", "the file, line 4", "the file, line 5", "text 4"]


def test_a_pipe_that_was_read_is_held():
    source = open_source(io.BytesIO(b"text,label\na fox,b\n"), kind="csv", column="text", label="label")
    assert source.texts == ["a fox"]
    assert not source.is_once
    assert list(source.stream()) == list(source.stream()) == [("a fox", "b")]
    with pytest.raises(ValueError, match="the file holds no text: it has no line that is not blank"):
        list(open_source(io.BytesIO(b"\n")).stream())


# --- labels -----------------------------------------------------------------------------------------------------------


def test_names_are_kept_and_hold_for_later_calls(tmp_path: Path, capsys):
    classifier = small_classifier()
    classifier.fit(TEXTS, NAMES, verbose=0)
    classifier.save_to_preset(tmp_path / "c")
    again = Task.from_preset(tmp_path / "c")
    assert again.labels == ["glad", "sad", "so-so"]
    assert again.evaluate(TEXTS, NAMES, verbose=0) == again.evaluate(TEXTS, NUMBERS, verbose=0)
    again.fit(TEXTS[:2], ["so-so", "glad"], verbose=2)
    assert again.labels == ["glad", "sad", "so-so"]
    assert "classes:" not in capsys.readouterr().err
    with pytest.raises(
        ValueError, match=r"label 'bad' of text 1 is not a class of the model, which has the classes 'glad', 's"
    ):
        again.fit(TEXTS[:2], ["sad", "bad"], verbose=0)
    with pytest.raises(ValueError, match=r"label 'bad' of row 1 is not a class of the model"):
        again.evaluate({"t": TEXTS[:2], "l": ["sad", "bad"]}, column="t", label="l", verbose=0)


@pytest.mark.parametrize(
    "y",
    [
        np.array(NAMES),
        np.array(NAMES, object),
        np.array(NAMES)[:, None],
        tuple(NAMES),
        iter(NAMES),
        [str(number) for number in NUMBERS],
        [float(number) for number in NUMBERS],
        np.array(NUMBERS, np.uint8),
        np.array(NUMBERS, object),
        [np.int64(number) for number in NUMBERS],
        [np.array(number) for number in NUMBERS],
    ],
)
def test_labels_may_be_names_or_numbers_in_any_form(y):
    classifier = small_classifier(labels=["glad", "sad", "so-so"])
    assert classifier.evaluate(TEXTS, y, verbose=0) == small_classifier().evaluate(TEXTS, NUMBERS, verbose=0)


def test_classes_that_are_named_by_numbers_are_told_from_the_classes_numbers():
    stars = ["3", "1", "2", "2", "3", "1"]
    with pytest.raises(
        ValueError, match=r"label 3 of text 0 is outside .* make the model with labels=\['1', '2', '3'\]$"
    ):
        small_classifier().fit(TEXTS, stars, verbose=0)
    with pytest.raises(ValueError, match=r"labels=\['1', '2', '3'\], and pass y = \[str\(label\) for label in y\]"):
        small_classifier().fit(TEXTS, [int(star) for star in stars], verbose=0)
    for y, classes, advice in (
        ([5, 1, 2, 4, 4, 1], 5, r"labels=\['1', '2', '3', '4', '5'\], and pass y = "),  # nobody gave three stars
        ([5, 1, 2, 4, 4, 1], 2, r"num_classes=4, labels=\['1', '2', '4', '5'\], and pass y = "),
        (list("512441"), 2, r"num_classes=4, labels=\['1', '2', '4', '5'\]$"),
        ([0, 1, 2, 3, 2, 1], 3, r"Make the model with num_classes=4$"),
    ):
        with pytest.raises(ValueError, match=f"is outside the model's {classes} classes, .*{advice}"):
            small_classifier(num_classes=classes).fit(TEXTS, y, verbose=0)
    with pytest.raises(ValueError, match=r"label 3 of text 0 .*\. The classes are 'sad', 'so-so', 'glad'$"):
        small_classifier(labels=["sad", "so-so", "glad"]).evaluate(TEXTS, stars, verbose=0)
    classifier = small_classifier(labels=["1", "2", "3"])
    assert classifier.evaluate(TEXTS, stars, verbose=0) == (
        small_classifier().evaluate(TEXTS, [2, 0, 1, 1, 2, 0], verbose=0)
    )
    with pytest.raises(ValueError, match=r"the model's classes have numbers as names \('1', '2', '3'\): pass names\."):
        classifier.evaluate(TEXTS, [2, 0, 1, 1, 2, 0], verbose=0)
    with pytest.raises(ValueError, match=r"label '4' of text 1 is not a class of the model, .* '1', '2', '3'$"):
        classifier.evaluate(TEXTS, ["3", "4", "2", "2", "3", "1"], verbose=0)


def test_booleans_are_told_by_their_names():
    truths = [True, False, True, True, False, False]
    plain = small_classifier(num_classes=2).evaluate(TEXTS, [int(truth) for truth in truths], verbose=0)
    for labels in (None, ["no", "yes"]):
        assert small_classifier(num_classes=2, labels=labels).evaluate(TEXTS, truths, verbose=0) == plain
    classifier = small_classifier(num_classes=2, labels=["True", "False"])
    assert classifier.evaluate(TEXTS, truths, verbose=0) == (
        small_classifier(num_classes=2).evaluate(TEXTS, [int(not truth) for truth in truths], verbose=0)
    )


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (list("ababab"), r"the labels have 2 names \('a', 'b'\), but the model has 3 classes. Make the "
                                          r"model with num_classes=2, or with labels=\[…\], the names of all classes"),
        (list("aaaaaa"), r"the labels have 1 name .* Make the model with labels=\[…\], the names of all classes$"),
        (list("abcdef"), r"the labels have 6 names .* Make the model with num_classes=6$"),
        (["a", "b", None, "c", "", "a"], "2 labels are missing: text 2, text 4. Fill them in"),
        (["a", float("nan"), "b", "c", "b", "a"], "1 label is missing: text 1"),
        ([0, None, 1, 2, 0, 1], "1 label is missing: text 1"),
        (np.array([0, np.nan, 1, 2, 0, 1]), "1 label is missing: text 1"),
        (["a", 1, "b", "c", "b", "a"], "label 'a' of text 0 is neither. Names and numbers are not mixed"),
        ([0, 1.5, 2, 0, 1, 2], "label 1.5 of text 1 is neither. Each text has one class"),
        ([0, float("inf"), 2, 0, 1, 2], "label inf of text 1 is neither"),
        ([0, {}, 2, 0, 1, 2], "label {} of text 1 is neither"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit_are_named(y, message: str):
    classifier = small_classifier()
    with pytest.raises(ValueError, match=message):
        classifier.fit(TEXTS, y, verbose=0)
    assert classifier.labels == ["LABEL_0", "LABEL_1", "LABEL_2"]


def test_an_evaluation_gives_no_names():
    with pytest.raises(
        ValueError, match=r"label 'sad' of text 0 is not a class of the model, which has only default na"
    ):
        small_classifier().evaluate(TEXTS, NAMES, verbose=0)


def test_texts_that_are_read_are_said_unless_verbose_is_0(tmp_path: Path, capsys):
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "".join(f'"{text}"\n' for text in TEXTS))
    masked_lm = small_masked_lm()
    line = f"{path}: CSV, column 'text', 6 rows\n"
    for ask in (
        lambda verbose: masked_lm.fit(path, column="text", verbose=verbose),
        lambda verbose: masked_lm.evaluate(path, column="text", verbose=verbose),
        lambda verbose: masked_lm.embed(path, column="text", verbose=verbose),
        lambda verbose: masked_lm.score(path, column="text", verbose=verbose),
        lambda verbose: small_classifier().predict(path, column="text", verbose=verbose),
    ):
        ask(0)
        assert capsys.readouterr().err == ""
        ask(2)
        assert capsys.readouterr().err.count(line) == 1
