"""Empty texts in files and tables, which may be missing ones: they are read as they are, and said once."""

from __future__ import annotations

import csv
import json
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_models import small_masked_lm, small_tokenizer

from pyroberta import TextClassifier, TextClassifierPreprocessor, Tokenizer
from pyroberta.data import open_source

TEXTS = ["It rains.", "", "It is dry.", " \t", "It snows."]
RECORDS = [{"text": text, "label": i % 2} for i, text in enumerate(TEXTS)]
SAID = "2 of 5 rows have an empty text in the column 'text' (the first is {}), which are read as they are. "


def csv_file(path: Path) -> Path:
    with open(path / "a.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(RECORDS)
    return path / "a.csv"


def jsonl_file(path: Path) -> Path:
    (path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return path / "a.jsonl"


def of_pandas(path: Path) -> Any:
    return pytest.importorskip("pandas").DataFrame(RECORDS)


def of_pyarrow(path: Path) -> Any:
    return pytest.importorskip("pyarrow").Table.from_pylist(RECORDS)


def parquet_file(path: Path) -> Path:
    pytest.importorskip("pyarrow.parquet").write_table(of_pyarrow(path), path / "a.parquet")
    return path / "a.parquet"


KINDS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "csv": (csv_file, "a.csv, line 3"),
    "jsonl": (jsonl_file, "a.jsonl, line 2"),
    "records": (lambda path: RECORDS, "row 1"),
    "dict": (lambda path: {name: [record[name] for record in RECORDS] for name in RECORDS[0]}, "row 1"),
    "pandas": (of_pandas, "row 1"),
    "pyarrow": (of_pyarrow, "row 1"),
    "parquet": (parquet_file, "a.parquet, row 1"),
}


def warned(call: Callable[[], Any]) -> list[str]:
    """The warnings of a call about empty texts, all at the line of the call."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        call()
    found = [warning for warning in said if "empty text" in str(warning.message)]
    assert all(warning.filename == __file__ for warning in found)
    return [str(warning.message) for warning in found]


def classifier() -> TextClassifier:
    return TextClassifier(small_masked_lm().backbone, 2, TextClassifierPreprocessor(small_tokenizer(), 40))


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.parity) if kind in ("pandas", "pyarrow", "parquet") else kind
        for kind in KINDS
    ],
)
def test_empty_texts_of_every_kind_of_table_are_counted_and_said_once(kind: str, tmp_path: Path):
    make, first = KINDS[kind]
    x, model, masked_lm = make(tmp_path), classifier(), small_masked_lm()
    columns: dict[str, Any] = {"column": "text", "label": "label"}
    calls: dict[str, Callable[[], Any]] = {
        "fit": lambda: model.fit(x, **columns, batch_size=2, epochs=2, verbose=0),
        "fit, step by step": lambda: model.fit(x, **columns, batch_size=2, steps_per_epoch=2, epochs=4, verbose=0),
        "evaluate": lambda: model.evaluate(x, **columns, verbose=0),
        "predict": lambda: model.predict(x, column="text", verbose=0),
        "predict, some steps": lambda: model.predict(x, column="text", batch_size=2, steps=3, verbose=0),
        "classify": lambda: model.classify(x, column="text"),
        "embed": lambda: masked_lm.embed(x, column="text"),
        "score": lambda: masked_lm.score(x, column="text"),
        "train": lambda: Tokenizer.train(open_source(x, column="text"), vocab_size=261),
        "source": lambda: [list(source) for source in [open_source(x, column="text")] * 2],
    }
    for name, call in calls.items():
        (message,) = warned(call)
        assert SAID.format(first) in message.replace(f"{tmp_path}{os.sep}", ""), (name, message)


def test_each_column_of_pairs_is_counted():
    pairs = [{"a": "", "b": "It rains."}, {"a": "It snows.", "b": ""}, {"a": "", "b": " "}]
    (message,) = warned(lambda: open_source(pairs, column=("a", "b")).texts)
    assert message.startswith(
        "x: 2 of 3 rows have an empty text in the column 'a' (the first is row 0) and 2 have an empty text in the "
        "column 'b' (the first is row 1), which are read as they are. "
    )


def test_validation_data_are_counted_too_and_named(tmp_path: Path):
    model, train = classifier(), RECORDS[::2]
    options: dict[str, Any] = {"column": "text", "label": "label", "batch_size": 2, "verbose": 0}
    assert warned(lambda: model.fit(train, **options)) == []
    said = "2 of 5 rows have an empty text"
    (message,) = warned(lambda: model.fit(train, validation_data=RECORDS, **options))
    assert message.startswith(f"validation_data: {said}")
    messages = warned(lambda: model.fit(RECORDS, validation_data=csv_file(tmp_path), **options))
    assert [message.replace(f"{tmp_path}{os.sep}", "").partition(" have")[0] for message in messages] == [
        "x: 2 of 5 rows",
        "validation_data: a.csv: 2 of 5 rows",
    ]
    source = open_source(csv_file(tmp_path), column="text", label="label")
    missing = [*RECORDS, {"text": None, "label": 0}]
    with pytest.raises(ValueError, match=r"^validation_data: 1 row has no value in the column 'text' \(row 5\)"):
        model.fit(train, validation_data=missing, **options)
    (message,) = warned(
        lambda: model.fit(train, validation_data=source, batch_size=2, verbose=0, column="text", label="label")
    )
    assert message.startswith("validation_data: ")


def test_a_single_empty_text_is_read_as_it_is():
    (message,) = warned(lambda: open_source(RECORDS[:2], column="text").texts)
    assert message.startswith("x: 1 of 2 rows has an empty text in the column 'text' (row 1), which is read as it is. ")
    (message,) = warned(lambda: open_source([{"text": ""}], column="text").texts)
    assert message.startswith("x: the only row has an empty text in the column 'text' (row 0), which is read as it is.")


def test_files_without_text_are_one_or_several(tmp_path: Path):
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in paths:
        path.write_text("\n")
    for given, end in (
        (paths[:1], "a.txt holds no text: it has no line that is not blank"),
        (paths, "a.txt, {}b.txt hold no text: they have no line that is not blank"),
        ([tmp_path], " holds no text: it has no line that is not blank"),
    ):
        with pytest.raises(ValueError, match=re.escape(end.format(f"{tmp_path}{os.sep}"))):
            list(open_source(given).stream())


def test_texts_in_memory_and_full_tables_say_nothing(tmp_path: Path):
    masked_lm, full = small_masked_lm(), [{"text": "It rains."}, {"text": "."}]
    assert warned(lambda: masked_lm.embed(["It rains.", ""])) == []
    assert warned(lambda: masked_lm.embed(full, column="text")) == []
    (tmp_path / "a.txt").write_text("It rains.\n\nIt snows.\n")  # a blank line is no text
    assert warned(lambda: open_source(str(tmp_path / "a.txt")).texts) == []


@pytest.mark.parametrize("options", [{}, {"per_line": False}, {"kind": "text"}])
def test_a_file_without_text_among_others_is_named_once(options: dict[str, Any], tmp_path: Path):
    for name, content in {"a": "It rains.\n", "b": "\n \n", "c": "It snows.\n", "d": ""}.items():
        (tmp_path / f"{name}.txt").write_text(content)
    source = open_source(str(tmp_path / "*.txt"), **options)
    with pytest.warns(UserWarning, match=r"^2 of 4 files hold no text: \S*b.txt, \S*d.txt. ") as found:
        assert list(source.stream()) == ["It rains.", "It snows."]
    assert found[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(source.texts) == ["It rains.", "It snows."]


def test_a_file_of_a_class_without_text_is_named(tmp_path: Path):
    for folder in ("no", "yes"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("It rains.\n")
        (tmp_path / folder / "b.txt").write_text("\n" if folder == "yes" else "It is dry.\n")
    source = open_source(str(tmp_path), label="inferred", per_line=False)
    with pytest.warns(UserWarning, match=r"^1 of 4 files holds no text: \S*yes\Sb.txt. "):
        assert sorted(source.labels or ()) == ["no", "no", "yes"]
