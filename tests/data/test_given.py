"""What comes in the place of texts: tables and records are refused with the line to write, columns are read."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import UserDict, namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
from small_models import TEXTS, small_masked_lm, small_tokenizer

from pyroberta import TextClassifier, Tokenizer
from pyroberta.text.classifier_preprocessor import TextClassifierPreprocessor

NAMES = ["id", "text", "label"]


def imitation(name: str, base: type = object, **members) -> type:
    """A class of that name in that module, such as "pandas.core.frame.DataFrame"; the module is not there."""
    module, kind = name.rsplit(".", 1)
    return type(kind, (base,), {"__module__": module, **members})


def names(self):
    """As a table's iterator has it: its columns' names, which are strings and would be taken for texts."""
    return iter(NAMES)


def table(name: str, **members) -> object:
    return imitation(name, **{"__iter__": names, "__len__": lambda self: 3, **members})()


class Frame(imitation("pandas.core.frame.DataFrame", columns=NAMES, __iter__=names, __len__=lambda self: 3)):
    """A subclass, as geopandas has one."""


def asks() -> list:
    """Everything that takes a table with column=."""
    masked_lm = small_masked_lm()
    preprocessor = TextClassifierPreprocessor(small_tokenizer(), sequence_length=40)
    classifier = TextClassifier(masked_lm.backbone, 2, preprocessor)
    return [
        masked_lm.fit, masked_lm.evaluate, masked_lm.train_on_batch, masked_lm.test_on_batch, masked_lm.predict,
        masked_lm.predict_on_batch, masked_lm.embed, masked_lm.score, masked_lm.fill_mask, classifier.predict,
        classifier.classify,
        lambda x: classifier.fit(x, [0, 1, 0]), lambda x: classifier.evaluate(x, [0, 1, 0]),
        lambda x: masked_lm.fit(TEXTS, validation_data=x), lambda x: masked_lm.fit(x, steps_per_epoch=1),
    ]  # fmt: skip


def preprocessors() -> list:
    """What takes texts and no tables."""
    preprocessor = TextClassifierPreprocessor(small_tokenizer(), sequence_length=40)
    masking = small_masked_lm().preprocessor
    return [masking, masking.encode, preprocessor, preprocessor.encode]


def as_pattern(message: str) -> str:
    """The message as a pattern in which .* alone is special."""
    return ".*".join(map(re.escape, message.split(".*")))


TABLES = [
    (lambda: table("pandas.core.frame.DataFrame", columns=NAMES),
     'is a pandas DataFrame with the columns id, text, label. Pass the column that holds the texts: df["text"]'),
    (Frame, 'df["text"]'),
    (lambda: table("polars.dataframe.frame.DataFrame", columns=NAMES), 'polars DataFrame .* df["text"]'),
    (lambda: table("polars.lazyframe.frame.LazyFrame"), 'df.collect()["text"]'),
    (lambda: table("pyarrow.lib.Table", column_names=NAMES, columns=[0]), 'pyarrow Table .* table["text"]'),
    (lambda: table("pyarrow.lib.RecordBatch", column_names=NAMES), 'batch["text"]'),
    (lambda: table("datasets.arrow_dataset.Dataset", column_names=NAMES), 'datasets Dataset with the .* ds["text"]'),
    (lambda: table("datasets.iterable_dataset.IterableDataset", column_names=None), '(row["text"] for row in ds)'),
    (lambda: imitation("datasets.dataset_dict.DatasetDict", dict, column_names={"test": NAMES})(),
     'datasets DatasetDict with the columns id, text, label. .* ds["test"]["text"]'),
    (lambda: imitation("datasets.dataset_dict.IterableDatasetDict", dict, column_names={"train": None})(),
     '(row["text"] for row in ds["train"])'),
    (lambda: table("pandas.core.frame.DataFrame", columns=["n", "Sentence"]), 'df["Sentence"]'),
    (lambda: table("pandas.core.frame.DataFrame", columns=["a"]), 'with the column a. .* df["a"]'),
    (lambda: table("pandas.core.frame.DataFrame", columns=["a", "b"]), 'the columns a, b. .* df["COLUMN"]'),
    (lambda: table("pandas.core.frame.DataFrame", columns=range(99)), "the columns 0, 1, .*, 7 and 91 more"),
    (lambda: table("pandas.core.frame.DataFrame", columns=property(lambda self: 1 / 0)), 'DataFrame. .* df["text"]'),
    (lambda: np.array([("a", 1)] * 3, [("text", "U9"), ("label", int)]), 'a structured array .*["text"]'),
    (lambda: csv.reader(["id,text", "1,a"]), "is a csv.reader, .* [row[0] for row in "),
    (lambda: {"text": ["a", "b", "c"], "label": [0, 1, 0]}, 'is a dict with the columns text, label. .*["text"]'),
    (lambda: {"text": np.array(["a", "b"])}, '["text"]'),
    (lambda: {"text": "a"}, "is a record, a dict of text. Pass a list of texts: ["),
]  # fmt: skip
ROWS = [
    (lambda: [{"text": "a", "label": 1}] * 3, 'holds records, dicts of text, label. .*[row["text"] for row in '),
    (lambda: ({"text": "a"} for _ in range(3)), '[row["text"] for row in '),
    (lambda: [UserDict(review="a")], '[row["review"] for row in '),
    (lambda: csv.DictReader(["id,text", "1,a"]), '[row["text"] for row in '),
    (lambda: iter([{"text": ["a", "b"]}]), 'holds tables, dicts of text. Pass their texts: (row["text"] for row in '),
    (lambda: [namedtuple("Row", "text label")("a", "b")] * 3, "is a record, ('a', 'b') (Row). .*[row.text for row in"),
    (lambda: [table("pandas.core.frame.DataFrame", columns=NAMES)], 'df["text"]'),
    (lambda: iter([table("pandas.core.frame.DataFrame", columns=NAMES)]), 'df["text"]'),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), TABLES + ROWS)
def test_a_preprocessor_refuses_a_table_with_the_expression_that_gives_its_texts(make, message: str):
    for ask in preprocessors():
        with pytest.raises(TypeError, match=as_pattern(message)):
            ask(make())


UNTOLD = [
    (lambda: table("pandas.core.frame.DataFrame", columns=NAMES),
     "is a pandas DataFrame with the columns 'id', 'text', 'label'. Name the column of the texts: column='text'"),
    (Frame, "column='text'"),
    (lambda: table("polars.dataframe.frame.DataFrame", columns=NAMES), "polars DataFrame .* column='text'"),
    (lambda: table("polars.lazyframe.frame.LazyFrame"), "x is a polars LazyFrame. Collect it: df.collect()"),
    (lambda: table("pyarrow.lib.Table", schema=SimpleNamespace(names=NAMES)), "pyarrow Table .* column='text'"),
    (lambda: table("pyarrow.lib.RecordBatch", schema=SimpleNamespace(names=NAMES)), "RecordBatch .* column='text'"),
    (lambda: table("datasets.arrow_dataset.Dataset", column_names=NAMES), "datasets Dataset with the .* column='text'"),
    (lambda: table("datasets.iterable_dataset.IterableDataset", column_names=None),
     "x is a datasets IterableDataset. Name the column of the texts: column='text'"),
    (lambda: imitation("datasets.dataset_dict.DatasetDict", dict)({"test": 1}), "one of its splits: ds['test']"),
    (lambda: imitation("datasets.dataset_dict.IterableDatasetDict", dict)(), "one of its splits: ds['train']"),
    (lambda: table("pandas.core.frame.DataFrame", columns=["n", "Sentence"]), "column='Sentence'"),
    (lambda: table("pandas.core.frame.DataFrame", columns=["a"]), "with the column 'a'. .* column='a'"),
    (lambda: table("pandas.core.frame.DataFrame", columns=["a", "b"]), "the columns 'a', 'b'. .* column='NAME'"),
    (lambda: table("pandas.core.frame.DataFrame", columns=range(99)), "the columns 0, 1, .*, 7 and 91 more"),
    (lambda: np.array([("a", 1)] * 3, [("text", "U9"), ("label", int)]), "a structured array .* column='text'"),
    (lambda: csv.reader(["id,text", "1,a"]), "is a csv.reader, .* [row[0] for row in "),
    (lambda: {"text": ["a", "b", "c"], "label": [0, 1, 0]}, "x is a dict with the columns 'text', 'label'. .*'text'"),
    (lambda: {"text": np.array(["a", "b"])}, "column='text'"),
    (lambda: {"text": "a"}, "x is a record, .* Pass a list of records, and column='text'"),
    (lambda: [{"text": "a", "label": 1}] * 3, "x is a list of records with the columns 'text', 'label'. .*'text'"),
    (lambda: [UserDict(review="a")], "a list of records .* column='review'"),
    (lambda: ({"text": "a"} for _ in range(3)), "x.* holds records, dicts of text. .*column='text'.*"),
    (lambda: csv.DictReader(["id,text", "1,a"]), "dicts of id, text. .*column='text'.*"),
    *ROWS[4:],
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), UNTOLD)
def test_a_table_is_refused_everywhere_unless_its_column_is_told(make, message: str):
    for ask in asks():
        with pytest.raises(TypeError, match=as_pattern(message)):
            ask(make())


@pytest.mark.parametrize(("make", "message"), TABLES)
def test_a_tokenizer_learns_from_no_table(make, message: str):
    for ask in (Tokenizer.train, small_tokenizer().encode_batch):
        with pytest.raises(TypeError, match=as_pattern(message)):
            ask(make())


# --- columns ----------------------------------------------------------------------------------------------------------


COLUMNS = {
    "pandas.core.series.Series": "tolist",
    "pandas.core.indexes.base.Index": "tolist",
    "polars.series.series.Series": "to_list",
    "pyarrow.lib.StringArray": "to_pylist",
    "pyarrow.lib.ChunkedArray": "to_pylist",
    "datasets.arrow_dataset.Column": "__iter__",
}
PYARROW_ARRAY = imitation("pyarrow.lib.Array")


def column(name: str, items: list) -> object:
    """A column whose items alone its method gives; iterating over pyarrow's gives scalars of its own."""
    is_list = COLUMNS[name] != "__iter__"
    members = {COLUMNS[name]: lambda self: items if is_list else iter(items)}
    methods = {"__iter__": lambda self: map(Scalar, items), "__len__": lambda self: len(items)}
    base = PYARROW_ARRAY if name == "pyarrow.lib.StringArray" else object
    return imitation(name, base, **{**methods, **members})()


class Scalar:
    """What is no string."""

    def __init__(self, value):
        self.value = value


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_read_as_its_list(name: str):
    masked_lm = small_masked_lm()
    texts = [text.replace("my", "<mask>") for text in TEXTS[:2]]
    x = column(name, TEXTS)
    assert masked_lm.evaluate(x, verbose=0) == masked_lm.evaluate(TEXTS, verbose=0)
    assert (masked_lm.embed(x) == masked_lm.embed(TEXTS)).all()
    assert [score.total for score in masked_lm.score(x)] == [score.total for score in masked_lm.score(TEXTS)]
    masks = ["I <mask> it", "<mask>"]
    assert (masked_lm.predict(column(name, masks), verbose=0) == masked_lm.predict(masks, verbose=0)).all()
    assert masked_lm.fill_mask(column(name, masks)) == masked_lm.fill_mask(masks)
    assert len(masked_lm.preprocessor.encode(column(name, texts))) == 2
    ids = [[5, 6, 7], [8, 9]]
    assert masked_lm.evaluate(column(name, ids), verbose=0) == masked_lm.evaluate(ids, verbose=0)
    assert Tokenizer.train(column(name, TEXTS), 270).vocabulary == Tokenizer.train(TEXTS, 270).vocabulary


@pytest.mark.parametrize("name", COLUMNS)
def test_a_tuple_of_columns_holds_segments_and_an_iterable_of_columns_gives_batches(name: str):
    masked_lm, first, second = small_masked_lm(), ["a", "c"], ["b", "d"]
    columns = (column(name, first), column(name, second))
    expected = masked_lm.evaluate((first, second), verbose=0)
    assert masked_lm.evaluate(columns, verbose=0) == expected
    assert [ids.tolist() for ids in masked_lm.preprocessor.encode(columns)] == [
        ids.tolist() for ids in masked_lm.preprocessor.encode((first, second))
    ]
    expected = masked_lm.evaluate(iter([first, second]), verbose=0)
    assert masked_lm.evaluate(iter(columns), verbose=0) == expected
    assert masked_lm.evaluate(iter([(one,) for one in columns]), verbose=0) == expected
    with pytest.raises(TypeError, match=r"text 0 is a column .*, or a tuple of columns for their segments"):
        masked_lm.evaluate(list(columns), verbose=0)


def test_a_column_with_a_hole_names_the_text():
    with pytest.raises(TypeError, match=r"text 1 must be a string .*; got nan \(float\)"):
        small_masked_lm().fit(column("pandas.core.series.Series", ["a", float("nan")]))


@pytest.mark.parity
def test_the_tables_and_columns_of_pandas_pyarrow_and_datasets():
    import datasets
    import pandas
    import pyarrow
    import pyarrow.dataset

    masked_lm = small_masked_lm()
    columns = {"id": list(range(len(TEXTS))), "text": TEXTS}
    frame, arrow = pandas.DataFrame(columns), pyarrow.table(columns)
    dataset = datasets.Dataset.from_dict(columns)
    hint = "column='text'"
    for x, expression in (
        (frame, hint),
        (frame[["text"]], hint),
        (arrow, hint),
        (arrow.to_batches()[0], hint),
        (arrow.to_batches(), 'batch["text"]'),
        (dataset, hint),
        (dataset.to_iterable_dataset(), hint),
        (datasets.DatasetDict(test=dataset), "ds['test']"),
        (dataset.iter(2), '(row["text"] for row in '),
        (frame.to_dict("records"), hint),
        (frame.to_dict("list"), hint),
        (arrow.to_pylist(), hint),
        (frame[["text"]].values, "[text for (text,) in texts]"),
        (frame.to_records(), hint),
        (pandas.read_csv(io.StringIO(frame.to_csv()), chunksize=2), "pandas.concat(reader)"),
        (pyarrow.dataset.dataset(arrow), "x is a pyarrow Dataset. Read it as a table: dataset.to_table()"),
        (arrow.to_reader(), "reader.read_all()"),
    ):
        with pytest.raises(TypeError, match=as_pattern(expression)):
            masked_lm.fit(x)
        if not isinstance(x, type(dataset.iter(2))):
            with pytest.raises(TypeError, match=as_pattern(expression)):
                masked_lm.embed(x)
    expected = masked_lm.evaluate(TEXTS, verbose=0)
    for x in (
        frame["text"],
        frame["text"].astype("category"),
        frame["text"].astype("string[pyarrow]"),
        frame["text"].values,
        frame.set_index("text").index,
        arrow["text"],
        arrow["text"].combine_chunks(),
        dataset["text"],
    ):
        assert masked_lm.evaluate(x, verbose=0) == expected
        assert (masked_lm.embed(x) == masked_lm.embed(TEXTS)).all()
    pairs = frame.assign(other=TEXTS[::-1])
    with pytest.warns(UserWarning, match="were cut"):
        found = masked_lm.evaluate((pairs["text"], pairs["other"]), verbose=0)
    with pytest.warns(UserWarning, match="were cut"):
        assert masked_lm.evaluate(list(zip(TEXTS, TEXTS[::-1], strict=True)), verbose=0) == found


def test_no_library_of_tables_is_imported():
    known = ("pandas", "polars", "pyarrow", "datasets")
    before = {name for name in known if name in sys.modules}
    with pytest.raises(TypeError):
        small_masked_lm().fit(Frame())
    assert {name for name in known if name in sys.modules} == before


def test_a_bare_text_among_batches_is_refused():
    lm = small_masked_lm()
    for call in (
        lambda: lm.predict(iter([["a <mask>"], "c <mask>"]), verbose=0),
        lambda: lm.evaluate(iter([["the old man", "went home"], "to the house"]), verbose=0),
        lambda: lm.fit(iter([["the old man"], ("to the house",)]), verbose=0),
    ):
        with pytest.raises(TypeError, match=r"a batch of an iterable of batches should be a list .* got one text, '"):
            call()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"a joy", "a waste"}, r"is a set, which has no order\. Pass a list: sorted\("),
        (frozenset({"a joy"}), "is a frozenset, which has no order"),
        (np.ma.array(["a joy", "b"], mask=[True, False]), "is a masked array, whose hidden values would be read too"),
    ],
)
def test_what_has_no_order_or_hides_values_is_refused(texts, message):
    lm = small_masked_lm()
    for call in (lm.fit, lm.evaluate, lm.predict, lm.score, lm.embed, lm.fill_mask):
        with pytest.raises(TypeError, match=message):
            call(texts)


def test_examples_without_any_weight_are_refused():
    lm = small_masked_lm()
    texts = ["the old man went home"] * 4
    for call in (
        lambda: lm.fit(texts, sample_weight=[1, 1, 1, 0], validation_split=0.25, verbose=0),
        lambda: lm.fit(texts, sample_weight=[0, 0, 0, 2], validation_split=0.25, verbose=0),
        lambda: lm.fit(iter([(texts, None, [0] * 4)]), verbose=0),
    ):
        with pytest.raises(ValueError, match=r"weight .*is 0|every weight"):
            call()


def test_validation_data_has_no_fourth_part():
    lm = small_masked_lm()
    with pytest.raises(ValueError, match=r"validation_data should be x, .* got a tuple of 4"):
        lm.fit(["a", "b"], validation_data=(["a"], None, None, 1), verbose=0)
