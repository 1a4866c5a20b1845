"""Files that hold texts: each kind, packed in each way, directories and patterns; and what is wrong with files."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import inspect
import io
import json
import lzma
import os
import re
import socket
import tarfile
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from small_models import small_classifier, small_masked_lm, small_tokenizer

from pyroberta import MaskedLM, TextClassifier, TextClassifierPreprocessor
from pyroberta.data import files, open_source
from pyroberta.data.kinds import separated
from pyroberta.data.kinds.lines import looks_like
from pyroberta.formats.budget import OverBudget

LINES = ["a, b", 'it\'s "c"']
ROWS = [{"id": str(i), "text": line, "label": "xy"[i]} for i, line in enumerate(LINES)]
CSV = 'id,text,label\r\n0,"a, b",x\r\n1,"it\'s ""c""",y\r\n'
FILES = {
    "a.txt": "\n".join(LINES),
    "no suffix": "\n\n".join(LINES) + "\n",
    "a.csv": CSV,
    "a.CSV": "\ufeff" + CSV,
    "semicolons.csv": 'text;label;id\n"a, b";x;1\n"it\'s ""c""";y;2\n',
    "bars.csv": 'text|label\na, b|x\n"it\'s ""c"""|y\n',
    "old mac.csv": CSV.replace("\r\n", "\r"),
    "blank rows.csv": "\n\n" + CSV.replace("\r\n", "\n\n"),
    "a.tsv": 'text\tlabel\na, b\tx\n"it\'s ""c"""\ty\n',
    "commas.tsv": CSV,
    "a.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "a.ndjson": "\n" + "\r\n\r\n".join(map(json.dumps, ROWS)),
    "a.json": json.dumps(ROWS, indent=1),
    "columns.json": json.dumps({"version": 1, "text": LINES, "label": ["x", "y"]}),
    "strings.json": json.dumps(LINES),
    "strings.jsonl": "".join(json.dumps(line) + "\n" for line in LINES),
}
PACK = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}


KINDS_SEEN = {"a.CSV": "csv", "a.ndjson": "jsonl", "commas.tsv": "csv"}


def has_columns(name: str) -> bool:
    return not name.startswith(("a.txt", "no suffix", "strings"))


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("name", FILES)
def test_each_kind_of_file_gives_its_texts_and_labels(name: str, packed: str, tmp_path: Path):
    path = tmp_path / f"{name}{packed}"
    path.write_bytes(PACK[packed](FILES[name].encode()))
    keywords = {"column": "text", "label": "label"} if has_columns(name) else {}
    source = open_source(path, **keywords)
    assert source.texts == LINES
    assert source.labels == (["x", "y"] if keywords else None)
    assert list(open_source(path, **keywords).stream()) == (list(zip(LINES, "xy", strict=True)) if keywords else LINES)
    assert source.description.startswith(f"{path}: ")
    assert source.description.endswith(", 2 rows" if keywords else ", 2 texts")
    assert ("packed by" in source.description) == bool(packed)
    delimiter = {"semicolons.csv": ";", "bars.csv": "|", "commas.tsv": ","}.get(name)
    assert [f"separated by {one!r}" in source.description for one in ";|,\t"] == [one == delimiter for one in ";|,\t"]
    with path.open("rb") as file:
        assert open_source(file, **keywords).texts == LINES
    if not packed:
        with path.open(encoding="utf-8-sig", newline="") as file:
            assert open_source(file, **keywords).texts == LINES
    if keywords:
        pairs = open_source(path, column=("label", "text"))
        assert pairs.texts == list(zip("xy", LINES, strict=True))
        with pytest.raises(ValueError, match=r"Name the column of the texts: column='text'"):
            _ = open_source(path).texts
        with pytest.raises(
            ValueError, match=r"has no column 'Text'. Its columns are .*'text'|has no 'Text'. Its names"
        ):
            _ = open_source(path, column="Text").texts


@pytest.mark.parity
def test_parquet_gives_the_columns_that_are_wanted(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet

    columns = {"text": LINES, "label": [1, 0], "nested": [["a"], ["b"]]}
    kinds = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
    for kind in kinds:
        table = pa.table(columns).set_column(0, "text", pa.array(LINES).cast(kind))
        pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
        source = open_source(tmp_path / "a.parquet", column="text", label="label")
        assert (source.texts, source.labels) == (LINES, [1, 0])
        assert source.description.endswith("a.parquet: Parquet, column 'text', labels 'label', 2 rows")
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet.zst").write_bytes(zstandard.compress(content))
    assert open_source(tmp_path / "a.parquet.zst", column="text").texts == LINES
    assert open_source(io.BytesIO(content), column="text", kind="parquet").texts == LINES
    with pytest.raises(ValueError, match=r"Parquet with the columns 'text', 'label', 'nested'. Name .*column='text'"):
        _ = open_source(tmp_path / "a.parquet").texts
    with pytest.raises(ValueError, match=r"the column 'nested' is nested \(list<"):
        _ = open_source(tmp_path / "a.parquet", column="nested").texts
    (tmp_path / "b.parquet").write_bytes(content[:-5])
    with pytest.raises(ValueError, match=r"b.parquet is not a sound Parquet file"):
        _ = open_source(tmp_path / "b.parquet", column="text").texts
    with (
        (tmp_path / "a.parquet").open("r", encoding="latin-1") as file,
        pytest.raises(TypeError, match="opened as text"),
    ):
        _ = open_source(file, column="text").texts
    pyarrow.parquet.write_table(pa.table({"text": ["a"] * 6_000_000}), tmp_path / "d.parquet")
    with pytest.raises(OverBudget, match=r"d.parquet has 6000000 rows of \d+ bytes in \d+ bytes, and may"):
        _ = open_source(tmp_path / "d.parquet", column="text").texts
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["a" * 100_000]))
    pyarrow.parquet.write_table(pa.table({"text": repeated}), tmp_path / "e.parquet")  # 200 MB in a few kB
    with pytest.raises(OverBudget, match=r"e.parquet holds texts that are repeated, and unpacks to more than 100"):
        _ = open_source(tmp_path / "e.parquet", column="text").texts
    broken = content.replace(LINES[0].encode(), b"\xff" * len(LINES[0]))
    for damaged in (broken, content[:40] + b"\xff" * 9 + content[49:]):
        with pytest.raises(ValueError, match=r"the file is not a sound Parquet file"):
            _ = open_source(io.BytesIO(damaged), column="text", kind="parquet").texts
    table = pa.table({"text": pa.array(["a", None, "b", None])})
    pyarrow.parquet.write_table(table, tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"2 rows have no value in the column 'text' \(.*row 1, .*row 3\)"):
        _ = open_source(tmp_path / "c.parquet", column="text").texts


ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)


@pytest.mark.filterwarnings("ignore:.* an empty text")
@given(
    st.lists(ANY_TEXT, min_size=1, max_size=5),
    st.integers(0, 3000),
    st.sampled_from(["csv", "tsv", "jsonl", "json"]),
    st.booleans(),
)
def test_any_text_comes_back_from_rows(texts: list[str], more: int, kind: str, is_packed: bool):
    texts = [*map(str, range(more)), *texts]
    rows = [{"id": i, "text": text} for i, text in enumerate(texts)]
    if kind in ("csv", "tsv"):
        file = io.StringIO(newline="")
        writer = csv.DictWriter(file, ["id", "text"], dialect="excel" if kind == "csv" else "excel-tab")
        writer.writeheader()
        writer.writerows(rows)
        content = file.getvalue()
    else:
        content = json.dumps(rows) if kind == "json" else "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    packed = zstandard.compress(content.encode()) if is_packed else content.encode()
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "AT_ONCE", 1000)
        path = Path(directory) / f"a.{kind}{'.zst' * is_packed}"
        path.write_bytes(packed)
        assert open_source(path, column="text").texts == texts


@given(st.lists(ANY_TEXT, min_size=1, max_size=5), st.integers(0, 3000))
def test_any_line_comes_back_from_text(texts: list[str], more: int):
    texts = [*map(str, range(more)), "a", *("".join(text.splitlines()) for text in texts)]
    content = "\r\n".join(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "AT_ONCE", 1000)
        source = open_source(io.BytesIO(content.encode()), kind="text")
        source.texts  # noqa: B018
    assert source.texts == [text.strip() for text in texts if text.strip()]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name")
def test_a_pipe_with_a_name_is_read_once_and_not_waited_for_again(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("one\ntwo\n",))
    writer.start()
    stream = open_source(tmp_path / "pipe").stream()
    assert list(stream) == ["one", "two"]
    assert list(stream) == []
    writer.join()


# --- several files ----------------------------------------------------------------------------------------------------


def said(path: Path) -> str:
    source = open_source(path)
    assert source.texts
    return source.description


def test_a_directory_gives_its_files_in_order_and_says_which(tmp_path: Path, capsys):
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "b" / "a.txt").write_text("three\n")
    (tmp_path / "b.txt").write_text("four\n")
    (tmp_path / "a2.txt").write_text("two\n")
    (tmp_path / "a10.txt.gz").write_bytes(gzip.compress(b"one\n"))
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / ".git" / "no.txt").write_text("no")
    (tmp_path / "README").write_text("left out")
    (tmp_path / "round").symlink_to(tmp_path)
    (tmp_path / "lost.txt").symlink_to("nowhere")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "b" / "pipe.txt")  # which would be waited for without end
    source = open_source(tmp_path)
    assert source.texts == ["one", "two", "three", "four"]
    source.say()
    source.say()
    (line,) = capsys.readouterr().err.splitlines()
    pipe = f"{tmp_path}/b/pipe.txt, " * hasattr(os, "mkfifo")
    assert line == (
        f"{tmp_path}: text, one a line, packed by gzip, 4 files ({tmp_path}/a10.txt.gz, {tmp_path}/a2.txt, "
        f"{tmp_path}/b/a.txt, {tmp_path}/b.txt), left out {tmp_path}/README, {pipe}{tmp_path}/lost.txt, "
        f"{tmp_path}/round, 4 texts"
    )
    assert source.place(2) == f"{tmp_path}/b/a.txt, line 1"
    assert open_source(str(tmp_path / "**" / "a*.txt")).texts == ["two", "three"]
    assert open_source(tmp_path / "?.txt").texts == ["four"]
    assert open_source([tmp_path / "b.txt", tmp_path / "b"]).texts == ["four", "three"]
    (tmp_path / "d.txt").mkdir()
    assert f"left out {tmp_path}/d.txt, 1 text" in said(tmp_path / "?.txt")
    assert "left out" not in said(tmp_path / "b**")
    (tmp_path / "d.txt").rmdir()
    with pytest.raises(FileNotFoundError, match="no file matches"):
        open_source(tmp_path / "*.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="is a directory and holds no file"):
        open_source(tmp_path / "empty")
    (tmp_path / "c.csv").write_text(CSV)
    with pytest.raises(ValueError, match=r"are of several kinds: .*c.csv \(CSV\), .* \(text\). Name only the files of"):
        open_source(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_what_is_no_plain_file_is_told_where_nothing_else_is_there(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("only").mkdir()
    os.mkfifo("only/pipe.txt")
    with pytest.raises(
        FileNotFoundError, match=r"only is a directory and holds only/pipe.txt: pipes, devices and link"
    ):
        open_source("only")
    with pytest.raises(
        FileNotFoundError, match=r"no file matches 'only/\*' but only/pipe.txt: no plain file, and read"
    ):
        open_source("only/*")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.txt")
        with pytest.raises(ValueError, match=r"socket.txt is a socket, which can't be read as a file"):
            open_source("socket.txt")


HOSTILE = {
    b"a\x1b[2J\x07.txt": "a\\x1b[2J\\x07.txt",
    b"b\nforged: 3 texts.txt": "b\\nforged: 3 texts.txt",
    b"c\xff.txt": "c\\udcff.txt",
    "d\u202etxt.exe.txt".encode(): "d\\u202etxt.exe.txt",
    b"e\r\xc2\x9bm.txt": "e\\r\\x9bm.txt",
}


def test_a_name_that_would_command_the_terminal_is_written_out(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in HOSTILE:
        Path(os.fsdecode(name)).write_text("one\n")
    source = open_source(".")
    assert len(source.texts) == len(HOSTILE)
    source.say()
    (line,) = capsys.readouterr().err.splitlines()
    assert all(f"./{shown}" in line for shown in HOSTILE.values())
    for name, shown in HOSTILE.items():
        path = Path(os.fsdecode(name))
        path.write_bytes(b"\xff\xfe\0h")
        message = f"{shown} is text in UTF-16, not UTF-8. Pass the open file: open({str(path)!r}, "
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            _ = open_source(path).texts
        path.rename(f"{path}.xlsx")
        with pytest.raises(ValueError, match="^" + re.escape(f"{shown}.xlsx is an Excel file")):
            open_source(f"{path}.xlsx")


def test_a_file_with_brackets_in_its_name_is_itself(tmp_path: Path):
    (tmp_path / "a[1].txt").write_text("one")
    assert open_source(tmp_path / "a[1].txt").texts == ["one"]


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch) -> Path:
    """Texts in a folder for each class, as aclImdb has them."""
    monkeypatch.chdir(tmp_path)
    for name, count in {"train/neg": 2, "train/pos": 4, "test/neg": 1, "test/pos": 1}.items():
        Path(name).mkdir(parents=True)
        for i in range(count):
            Path(name, f"{i}.txt").write_text(f"This is {name} {i}.\n\nIt has lines.\n")
    Path("train/urls_pos.txt").write_text("http://no.text\n")
    Path("train/labeledBow.feat").write_text("9 0:9\n")
    return tmp_path


def test_a_folder_for_each_class_gives_the_labels(reviews: Path, capsys):
    source = open_source("train/", label="inferred")
    assert source.labels == ["pos", "neg", "pos", "pos", "neg", "pos"]
    assert source.texts[0] == "This is train/pos 0.\n\nIt has lines."
    assert source.place(1) == "train/neg/0.txt, line 1"
    assert source.description == (
        "train/: one text a file, labels 'neg', 'pos', the folders' names, 6 files (train/pos/0.txt, train/neg/0.txt, "
        "train/pos/1.txt, train/pos/2.txt, train/neg/1.txt, train/pos/3.txt), left out train/labeledBow.feat, "
        "train/urls_pos.txt, 6 texts"
    )
    assert sorted(open_source([Path("train"), Path("test")], label="inferred").labels) == ["neg"] * 3 + ["pos"] * 5
    assert list(open_source(Path("test"), label="inferred").stream()) == [
        (f"This is test/{name} 0.\n\nIt has lines.", name) for name in ("neg", "pos")
    ]


def test_a_classifier_learns_from_a_folder_for_each_class(reviews: Path):
    def made() -> TextClassifier:
        preprocessor = TextClassifierPreprocessor(small_tokenizer(), 40)
        return TextClassifier(small_masked_lm().backbone, 2, preprocessor=preprocessor)

    classifier, same = made(), made()
    history = classifier.fit("train", label="inferred", validation_data=Path("test"), verbose=0).history
    assert classifier.labels == ["neg", "pos"]
    source = open_source("train", label="inferred")
    held_out = open_source("test", label="inferred")
    validation = (held_out.texts, held_out.labels)
    assert same.fit(source.texts, source.labels, validation_data=validation, verbose=0).history == history
    assert made().fit("train", label="inferred", validation_data=validation, verbose=0).history == history
    assert classifier.evaluate("test", label="inferred", verbose=0) == same.evaluate(*validation, verbose=0)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ("train/pos", "label='inferred' takes .*, a folder for each class, and train/pos has no folder with files"),
        ("one", "and one has files in the folder 'only' alone"),
        ("train/pos/0.txt", r"but train/pos/0.txt is not a directory. Pass the directory that holds the folders"),
        ("train/*/*.txt", r"but train/\*/\*.txt is not a directory"),
        ("tables", "each file of which is a text, and tables holds CSV"),
        (["a text"], "label='inferred' takes the names of the folders in a directory, but x is a list"),
    ],
)
def test_what_has_no_folder_for_each_class_is_told(x: object, message: str, reviews: Path):
    for folder in ("one/only", "tables/a", "tables/b"):
        Path(folder).mkdir(parents=True)
        Path(folder, "a.csv" if "tables" in folder else "a.txt").write_text("text\nGood.\n")
    with pytest.raises(ValueError, match=message):
        open_source(x, label="inferred")
    with pytest.raises(
        ValueError, match=r"label='verdict' names the column of the labels: .*label='inferred' takes the"
    ):
        open_source("train", label="verdict")


def test_a_table_beside_the_folders_of_classes_is_left_out_and_one_within_them_is_refused(reviews: Path):
    Path("train/labels.csv").write_text("file,label\n")
    source = open_source("train", label="inferred")
    assert (len(source.texts), "left out train/labeledBow.feat, train/labels.csv, " in source.description) == (6, True)
    Path("train/pos/labels.csv").write_text("file,label\n")
    message = r"train/pos/labels.csv \(CSV\), train/neg/0.txt \(text\)\. Leave only text files in the folders"
    with pytest.raises(ValueError, match=message):
        open_source("train", label="inferred")
    with pytest.raises(
        ValueError, match=r"Name only the files of one kind, such as 'train/\*\*/\*\.txt'"
    ):  # as most are
        open_source("train")


def test_folders_without_texts_are_named(reviews: Path):
    for folder in ("train/empty", "train/deep/er", "train/.hidden", "train/pictures", "one/only"):
        Path(folder).mkdir(parents=True)
    for file in ("train/pictures/a.png", "one/only/a.txt", "one/a.md"):
        Path(file).write_text("text")
    source = open_source("train", label="inferred")
    left_out = "left out train/labeledBow.feat, train/pictures/a.png, train/urls_pos.txt, train/deep/, train/empty/"
    assert source.description.endswith(left_out)
    with pytest.raises(ValueError, match=r"one has files in the folder 'only' alone\. Left out one/a\.md"):
        open_source("one", label="inferred")


def test_a_folder_with_a_blank_name_is_refused(reviews: Path):
    Path("train/ ").mkdir()
    Path("train/ /a.txt").write_text("text")
    with pytest.raises(ValueError, match=r"train has a folder with the blank name ' '\. Rename it"):
        open_source("train", label="inferred")


def test_folders_that_differ_in_the_spelling_of_a_number_are_classes_of_their_own(reviews: Path):
    for name in ("0", "1", "01"):
        Path("numbers", name).mkdir(parents=True)
        Path("numbers", name, "a.txt").write_text(f"The text of {name}.")
    backbone, preprocessor = small_masked_lm().backbone, TextClassifierPreprocessor(small_tokenizer(), 40)
    classifier = TextClassifier(backbone, 3, preprocessor=preprocessor)
    classifier.fit("numbers", label="inferred", verbose=0)
    assert classifier.labels == ["0", "01", "1"]
    with pytest.raises(ValueError, match=r"the labels have 3 names \('0', '01', '1'\), but the model has 2 classes"):
        TextClassifier(backbone, 2, preprocessor=preprocessor).fit("numbers", label="inferred", verbose=0)


def test_a_class_whose_name_no_file_could_hold_is_refused_before_training(reviews: Path):
    Path("train", os.fsdecode(b"\xff")).mkdir()
    Path("train", os.fsdecode(b"\xff"), "a.txt").write_text("text")
    classifier = TextClassifier(
        small_masked_lm().backbone, 3, preprocessor=TextClassifierPreprocessor(small_tokenizer(), 40)
    )
    with pytest.raises(ValueError, match=r"the label '\\udcff' is not valid Unicode, .* Rename it"):
        classifier.fit("train", label="inferred", verbose=0)
    assert not classifier.optimizer.is_built
    with pytest.raises(ValueError, match="is not valid Unicode"):
        classifier.labels = ["a", "b", "\ud800"]


def test_a_file_may_be_one_text(tmp_path: Path):
    (tmp_path / "a.txt").write_text("\n\nOne \r\nstill one.\n\n\n\nTwo.\n")
    (tmp_path / "b.txt").write_text("Three.")
    source = open_source(tmp_path, per_line=False)
    assert source.texts == ["One\nstill one.\n\nTwo.", "Three."]
    assert "one text a file" in source.description
    (tmp_path / "a.csv").write_text(CSV)
    with pytest.raises(ValueError, match=r"per_line=False applies to text files, but .*a.csv is CSV"):
        open_source(tmp_path / "a.csv", column="text", per_line=False)


LM, CLASSIFIER = small_masked_lm, small_classifier
ASKED = {  # method: a model, and what it makes of an input with the options
    "fit": (LM, lambda lm, x, **how: lm.fit(x, validation_data=x, verbose=0, **how).history),
    "fit by steps": (LM, lambda lm, x, **how: lm.fit(x, steps_per_epoch=2, batch_size=1, verbose=0, **how).history),
    "full sentences": (LM, lambda lm, x, **how: lm.fit(x, full_sentences=True, verbose=0, **how).history),
    "evaluate": (LM, lambda lm, x, **how: lm.evaluate(x, verbose=0, **how)),
    "train_on_batch": (LM, lambda lm, x, **how: lm.train_on_batch(x, **how)),
    "test_on_batch": (LM, lambda lm, x, **how: lm.test_on_batch(x, **how)),
    "fill_mask": (LM, lambda lm, x, **how: lm.fill_mask(x, top_k=2, verbose=0, **how)),
    "score": (LM, lambda lm, x, **how: lm.score(x, verbose=0, **how)),
    "embed": (LM, lambda lm, x, **how: lm.embed(x, verbose=0, **how).tolist()),
    "fit_normalization": (LM, lambda lm, x, **how: lm.fit_normalization(x, "center", verbose=0, **how).mean.tolist()),
    "predict of a masked LM": (LM, lambda lm, x, **how: lm.predict(x, verbose=0, **how).tolist()),
    "predict": (CLASSIFIER, lambda model, x, **how: model.predict(x, verbose=0, **how).tolist()),
    "predict by steps": (CLASSIFIER, lambda model, x, **how: model.predict(x, 1, 0, 1, **how).tolist()),
    "predict_on_batch": (CLASSIFIER, lambda model, x, **how: model.predict_on_batch(x, **how).tolist()),
    "classify": (CLASSIFIER, lambda model, x, **how: model.classify(x, verbose=0, **how)),
    "fit of a classifier": (CLASSIFIER, lambda model, x, **how: model.fit(x, [0, 1], verbose=0, **how).history),
}


@pytest.fixture
def documents(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("novels").mkdir()
    Path("novels/a.txt").write_text("A <mask>\nfox.\n\nIt ran.\n")
    Path("novels/b.txt.gz").write_bytes(gzip.compress(b"Two <mask>\ndogs."))
    return Path("novels")


@pytest.mark.parametrize("method", ASKED)
def test_every_method_takes_whole_files(method: str, documents: Path):
    made, ask = ASKED[method]
    texts = ask(made(), open_source(documents, per_line=False))
    assert ask(made(), "novels", per_line=False) == texts
    assert ask(made(), "novels/*.txt*", per_line=False) == texts
    assert ask(made(), sorted(documents.iterdir()), per_line=False) == texts
    lines = ["A <mask>\nfox.\n\nIt ran.", "Two <mask>\ndogs."]
    if method != "fit by steps":  # a list would be shuffled
        assert ask(made(), lines) == texts
    with pytest.raises(TypeError, match="per_line must be True or False, got 'no'"):
        ask(made(), "novels", per_line="no")
    for x, error, message in (
        (lines, ValueError, "per_line=False applies to files, but x is a list. Leave it out"),
        (["novels/a.txt"], ValueError, r"x holds the names of files, .* Pass their paths: \[pathlib"),
        ([[0, 5, 2]], ValueError, "per_line=False applies to files, but x is a list. Leave it out"),
        ({"token_ids": [[0, 5, 2]]}, ValueError, "per_line=False applies to files, but x is a dict. Leave it out"),
        (open_source(documents), ValueError, "x was opened by open_source: pass .* per_line= to open_source"),
        ("a fox", FileNotFoundError, "there is no file 'a fox'. To pass one text, pass a list"),
    ):
        with pytest.raises(error, match=message):
            ask(made(), x, per_line=False)


@pytest.mark.parametrize("kind", [MaskedLM, TextClassifier])
def test_whoever_takes_a_column_takes_whole_files(kind: type):
    methods = {
        name: inspect.signature(method).parameters for name, method in inspect.getmembers(kind, inspect.isfunction)
    }
    with_column = {name for name, parameters in methods.items() if "column" in parameters}
    assert with_column == {name for name, parameters in methods.items() if "per_line" in parameters}
    assert {"fit", "evaluate", "predict_on_batch"} < with_column


@pytest.mark.parametrize("method", ["fit", "score", "classify"])
def test_a_method_takes_an_open_file_as_a_whole_and_refuses_other_kinds(method: str, documents: Path, monkeypatch):
    made, ask = ASKED[method]
    if method != "fit":  # which reads it twice
        texts = ask(made(), documents / "a.txt", per_line=False)
        assert ask(made(), io.BytesIO(Path("novels/a.txt").read_bytes()), per_line=False) == texts
        with open("novels/a.txt") as file:
            monkeypatch.setattr("sys.stdin", file)
            assert ask(made(), file, per_line=False) == texts
    Path("empty.txt").write_text(" \n\n")
    Path("a.csv").write_text(CSV)
    for x, column, message in (
        ("empty.txt", None, "empty.txt holds no text: it has no line that is not blank"),
        ("a.csv", "text", "per_line=False applies to text files, but a.csv is CSV. Leave it out"),
        ("novels/a.txt", "text", "novels/a.txt is read as text, which has no column 'text'"),
        ([{"text": "a"}], "text", "per_line=False applies to files, but x is a list. Leave it out"),
    ):
        with pytest.raises(ValueError, match=message):
            ask(made(), x, column=column, per_line=False)


def test_whole_files_of_validation_data_are_those_that_are_text(documents: Path):
    Path("a.jsonl").write_text('"A fox."\n"A dog."\n')

    def losses(validation) -> list[float]:
        how = {"per_line": False, "verbose": 0}
        return small_masked_lm().fit("novels", validation_data=validation, **how).history["val_loss"]

    assert losses("novels") == losses(open_source("novels", per_line=False)) != losses(open_source("novels"))
    assert losses("a.jsonl") == losses(["A fox.", "A dog."])


def test_the_name_of_a_column_beside_features_is_refused():
    features, labels, _ = small_masked_lm().preprocessor(["a fox"])
    with pytest.raises(ValueError, match="label='label' names the column of the labels: name the column of the texts"):
        small_masked_lm().fit(features, labels, label="label", verbose=0)


def test_a_kind_may_be_said(tmp_path: Path):
    (tmp_path / "a.dat").write_text(CSV)
    with pytest.raises(
        ValueError, match=r"a.dat seems to be CSV .*open_source: kind='csv', column='text'; or kind='te"
    ):
        _ = open_source(tmp_path / "a.dat").texts
    assert open_source(tmp_path / "a.dat", kind="csv", column="text").texts == LINES
    assert open_source(tmp_path / "a.dat", kind="text").texts == CSV.splitlines()
    with pytest.raises(ValueError, match=r"kind must be one of 'text', 'csv', .* got 'xml'"):
        open_source(tmp_path / "a.dat", kind="xml")
    assert small_masked_lm().evaluate(open_source(tmp_path / "a.dat", kind="csv", column="text"), verbose=0) == (
        small_masked_lm().evaluate(LINES, verbose=0)
    )


# --- what is wrong with files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "a.csv is empty: CSV begins with a row of the columns' names"),
        ("a.csv", "text,label\n", "a.csv holds no text: it has no row below its head"),
        ("a.csv", "text,label\na,x\nb,y,z\n", "line 3: the row has 3 fields, but there are 2 columns, 'text', 'label'"),
        ("a.csv", "text,label\na\n", "line 2: the row has 1 field, but there are 2 columns"),
        ("a.csv", "\n\ntext,label\na,x\n\nb\n", "line 6: the row has 1 field, but there are 2 columns"),
        ("a.csv", '\n\ntext,label\n"a,x\n', "a.csv, line 4: the row has a quotation mark that nothing closes. If"),
        ("a.csv", 'text,label\n"a,x\n', "a.csv, line 2: the row has a quotation mark that nothing closes"),
        ("a.csv", 'text,label\na,x\n\n"b,y\nc,z\n', "a.csv, lines 4 to 5: the row has a quotation mark that"),
        ("a.csv", 'text,label\n"a\nb"c,x\n', "a.csv, lines 2 to 3: ',' expected after '\"'. If"),
        ("a.csv", 'text,label\n"a"b,x\n', "a.csv, line 2: ',' expected after '\"'. If quotation marks are part of"),
        ("a.csv", "text,text\na,b\n", "has 2 columns of the name 'text'"),
        (
            "a.csv",
            "text,label\na,x\nb,\n ,y\nc, \n",
            r"2 rows have no value in the column 'label' \(.*line 3, .*line 5\)",
        ),
        (
            "a.csv",
            "one text, with a comma\nanother\n",
            "has no column 'text'. Its columns are 'one text', ' with a comma', the fields",
        ),
        (
            "a.jsonl",
            '{"text": "a", "label": 1}\n\n{"text": "b"}\n',
            "a.jsonl, line 3 has no 'label'. Its names are 'te",
        ),
        (
            "a.jsonl",
            '{"text": "a", "label": 1}\n{"text": }\n',
            "a.jsonl, line 2 is not JSON: Expecting value at column 10",
        ),
        (
            "a.jsonl",
            '{"text": "a", "label": 1}\n{"text": "b"\n{}\n',
            "a.jsonl, line 2 is not JSON: Expecting ',' delimiter at column 13",
        ),
        (
            "a.jsonl",
            '{"text": "a", "label": 1}\n["b"]\n',
            "line 2 is a JSON array; it should be an object with 'text', ",
        ),
        ("a.jsonl", '{"text": "a", "label": null}\n', r"1 row has no value in the column 'label' \(.*line 1\)"),
        (
            "a.jsonl",
            '{"text": ["a"], "label": 1}\n',
            r"line 1: a text in the column 'text' must be a string, got \['a'\]",
        ),
        ("a.jsonl", '{"text": "a", "label": {}}\n', r"line 1: a label in the column 'label' must be a name, .* got {}"),
        ("a.jsonl", "[" * 100000, "a.jsonl, line 1 is JSON that is nested too deep"),
        ("a.jsonl", '{"text": ' + "1" * 5000 + "}", "a.jsonl, line 1 can't be read: Exceeds the limit"),
        ("a.jsonl", "\n", "a.jsonl holds no text"),
        ("a.json", '{"text": "a"}\n{"text": "b"}\n', "a.json has a JSON value on each line, .*: kind='jsonl'"),
        ("a.json", '{"data": {}}', "a.json is a JSON object of 'data', but should be a list of records"),
        ("a.json", '{"data": {}}', r"Pass the part that holds the records: json\.load"),
        (
            "a.json",
            '{"text": {"0": "a"}, "label": {"0": 1}}',
            r"If pandas wrote it, .*: pandas\.read_json\('.*a\.json'\)",
        ),
        ("a.json", '{"text": ["a"], "label": []}', "the columns have different lengths: {'text': 1, 'label': 0}"),
        ("a.json", "12", "a.json is a JSON number, but should be a list"),
        ("a.json", '[\n{"text": "a", }]', "a.json is not JSON: .* at line 2, column"),
        ("a.txt", "a\n", "a.txt is read as text, which has no column 'text'. Leave column= out"),
    ],
)
def test_rows_that_do_not_fit_are_named_with_their_place(name: str, content: str, message: str, tmp_path: Path):
    (tmp_path / name).write_text(content)
    with pytest.raises((ValueError, TypeError), match=message):
        _ = open_source(tmp_path / name, column="text", label="label").texts
    if "holds no text" not in message:
        with pytest.raises((ValueError, TypeError)):
            list(open_source(tmp_path / name, column="text", label="label").stream())


def test_rows_that_are_not_quoted_come_through_the_line_that_the_error_shows(tmp_path: Path):
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"a" b\tx\n"c\ty\n')
    with pytest.raises(ValueError, match=r"pass the rows: csv.DictReader\(.*quoting=csv.QUOTE_NONE"):
        _ = open_source(path, column="text").texts
    with path.open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        assert open_source(rows, column="text", label="label").texts == ['"a" b', '"c']


def test_threads_read_long_fields_of_tables_at_the_same_time():
    class Slow(io.StringIO):
        """A file whose second part comes when it may."""

        def __init__(self, *parts):
            self.parts, self.waits, self.may = list(parts), threading.Event(), threading.Event()

        def read(self, size=-1):
            if not size or not self.parts:
                return ""
            if len(self.parts) == 1:
                self.waits.set()
                assert self.may.wait(60)
            return self.parts.pop(0)

    limit, long = csv.field_size_limit(), "b" * (csv.field_size_limit() + 1)
    slow = [Slow("text\na\n", f"{long}\n") for _ in range(2)]
    found: list[list[str]] = []

    def read(file):
        found.append(open_source(file, column="text", kind="csv").texts)

    threads = [threading.Thread(target=read, args=(file,)) for file in slow]
    for file, thread in zip(slow, threads, strict=True):
        thread.start()
        assert file.waits.wait(60)
    for file, thread in zip(slow, threads, strict=True):
        file.may.set()
        thread.join(60)
    assert found == [["a", long]] * 2
    assert csv.field_size_limit() == limit


def test_a_document_is_longer_than_the_csv_modules_own_limit(tmp_path: Path):
    limit = csv.field_size_limit()
    (tmp_path / "a.csv").write_text(f"text\n{'a' * 2 * limit}\n")
    assert len(open_source(tmp_path / "a.csv", column="text").texts[0]) == 2 * limit
    assert csv.field_size_limit() == limit


def test_a_table_has_its_limits(monkeypatch):
    wide = ",".join(["text", *map(str, range(10_000))])
    with pytest.raises(OverBudget, match=r"the file has 10001 columns; at most 10000 are read"):
        _ = open_source(io.StringIO(f"{wide}\na\n"), column="text", kind="csv").texts
    monkeypatch.setattr(separated, "LONGEST_FIELD", 100)
    with pytest.raises(OverBudget, match=r"line 3: a field has more than 100 characters. Is a quotation mark missing"):
        _ = open_source(io.StringIO(f'text\na\n"{"b" * 101}\n'), column="text", kind="csv").texts


@pytest.mark.parametrize(("packed", "make"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_a_bomb_is_refused_before_it_is_unpacked(packed: str, make, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(files, "LEAST_BYTES", 1_000_000)
    (tmp_path / f"a.txt{packed}").write_bytes(make(b"a" * 5_000_000))
    with pytest.raises(OverBudget, match=r"unpacks to more than 100 times its size. If that is intended, unpack it"):
        _ = open_source(tmp_path / f"a.txt{packed}").texts


@pytest.mark.parametrize("packed", [suffix for suffix in PACK if suffix])
def test_damaged_packed_files_are_named(packed: str, tmp_path: Path):
    content = PACK[packed](b"one\n" * 1000 + os.urandom(1000).hex().encode())
    path = tmp_path / f"a.txt{packed}"
    path.write_bytes(content[:-20])
    with pytest.raises(ValueError, match=r"a.txt\..* is no sound file packed by"):
        _ = open_source(path).texts
    path.write_bytes(b"no such thing")
    with pytest.raises(ValueError, match=r"a.txt\..* is no sound file packed by"):
        _ = open_source(path).texts
    path.write_bytes(PACK[packed](b"one\n") + PACK[packed](b"two\n"))
    assert open_source(path).texts == ["one", "two"]
    path.write_bytes(PACK[packed](b"one\n") + bytes(1024))  # as a tape is filled
    assert open_source(path).texts == ["one"]
    for junk in (b"junk", b"\0\0j", os.urandom(5000), PACK[packed](b"two\n")[:-1]):
        path.write_bytes(PACK[packed](b"one\n") + junk)
        end = len(PACK[packed](b"one\n"))
        with pytest.raises(ValueError, match=rf"is no sound file packed by .*: byte {end} is behind its end, and what"):
            _ = open_source(path).texts
    path.write_bytes(PACK[packed](b"one\n") + PACK[packed](b"two\n"))
    os.rename(path, tmp_path / "b.txt")
    with pytest.raises(
        ValueError, match=r"b.txt is compressed by .*, but its name does not say so. Let the name end with"
    ):
        _ = open_source(tmp_path / "b.txt").texts


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a", b"PAR1\x15PAR1", "a is a Parquet file, not text. Name the kind in .*: kind='parquet'"),
        ("a", b"PAR1\x15\0", "a Parquet file"),
        ("a", b"PAR1\xff", "a Parquet file"),
        ("a", b"ARROW1\0\0ARROW1", "an Arrow file"),
        ("a.xlsx", b"x", r"an Excel file, which is not read. Pass its table and column=: pandas.read_excel\("),
        ("a.npy", b"x", r"a NumPy file, .*numpy.load\("),
        ("a", b"\x93NUMPY\x01\0", "a NumPy file"),
        ("a.zip", b"x", "an archive, which is not read. Convert it to a text file"),
        ("a", b"PK\x03\x04", "an archive"),
        ("a", b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        ("a.pdf", b"%PDF-1.7", "a PDF file"),
        ("a", b"%PDF-1.7", "a PDF file"),
        ("a.txt", b"one\0two", "is not text: byte 3 is NUL, in line 1. Convert it to a UTF-8"),
        ("a.csv", b"text,l\nca\0f,1\n", "is not text: byte 9 is NUL, in line 2"),  # which UTF-16 could be, by its zeros
        ("a.csv", b"text\none\n" + bytes(100), "is not text: byte 9 is NUL, in line 3"),
        ("a.txt", b"\x04\x22\x4d\x18abc", "packed by lz4"),
        ("a.txt", b"{\\rtf1 one}", "an RTF document"),
        ("a.txt", b"7z\xbc\xaf\x27\x1c", "an archive"),
        ("a.txt", b"SQLite format 3\0", "an SQLite database"),
        ("a.txt", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a file of Microsoft Office's"),
        ("a.txt", b"x" * 2**20 + b"\n\xc3\xa9" * 5 + b"\xff", "invalid start byte at byte 1048591, in line 6"),
        ("a.txt", b"x" * (2**20 - 1) + b"\xc3\xa9\0", "byte 1048577 is NUL"),
        (
            "a.csv",
            "text\nné\n".encode("cp1252"),
            r"is not UTF-8 .* in line 2. Text in another encoding, .* open\('.*a.csv', encoding='cp1252'",
        ),
    ],
)
def test_what_is_no_text_is_refused_by_what_it_holds(name: str, content: bytes, message: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        small_masked_lm().fit(tmp_path / name, column="text" if name.endswith("csv") else None, verbose=0)


WIDE = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
WIDE_BY_HAND = [(codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF32_BE, "utf-32-be")]


@pytest.mark.parametrize(
    "content",
    [*("né\ntwo\n".encode(encoding) for encoding in WIDE), *(mark + "né\ntwo".encode(e) for mark, e in WIDE_BY_HAND),
     "né\ntwo".encode("cp1252")],
)  # fmt: skip
def test_another_encoding_is_named_with_the_line_that_reads_it(content: bytes, tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"is text in UTF-\d\d, not UTF-8\.|is not UTF-8 text: .* at byte 1,"
    ) as raised:
        _ = open_source(path).texts
    with eval(str(raised.value).split("Pass the open file: ")[1]) as file:
        assert open_source(file).texts == ["né", "two"]


@pytest.mark.parametrize("before", ["hello w", "hello wo", "é, "])
def test_a_zero_in_utf_8_is_no_sign_of_utf_16(before: str, tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text(f"{before}\0rld, a line.\nAnother one.\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"is not text: byte {len(before.encode())} is NUL, in line 1"):
        _ = open_source(path).texts


@pytest.mark.parametrize("encoding", ["cp1252", "cp1251", "mac_roman", "gbk"])
@pytest.mark.parametrize("zero", [0, 7, 8, -2, -1])
@pytest.mark.parametrize("more", ["", "."])  # of an odd and an even number of bytes
def test_zeros_in_text_of_one_byte_a_character_are_no_sign_of_utf_16(encoding: str, zero: int, more: str):
    line = "Ещё раз, и было поздно. 7" if encoding in ("cp1251", "gbk") else "Une fois, un café à Noël."
    text = f"{line}{more}\n".encode(encoding) * 40
    assert files.wide_encoding(text) == ""
    assert files.wide_encoding(text[:zero] + b"\0" + text[zero:]) == ""
    assert files.wide_encoding(text[:zero] + b"\0\0" + text[zero:]) == ""


@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize(
    "line",
    [
        "Go!",
        "né, à Noël 😀",
        "Ещё раз",
        "中国的首都是北京。",
        "ひらがなとカタカナ",
        "한국어",
        "ไทย",
        "עברית 中",
    ],
)
def test_text_in_utf_16_of_every_script_is_told_by_its_zeros(line: str, order: str):
    assert files.wide_encoding(f"{line}\n".encode(f"utf-16-{order}") * 20) == f"utf-16-{order}"


def test_an_archive_of_tar_is_named(tmp_path: Path):
    (tmp_path / "one").write_text("one")
    with tarfile.open(tmp_path / "a.txt", "w") as archive:
        archive.add(tmp_path / "one", "one")
    with pytest.raises(ValueError, match=r"a.txt is an archive, not text"):
        _ = open_source(tmp_path / "a.txt").texts


class Endless(io.RawIOBase):
    """Zeros, or letters in one line, without end; it counts what was read."""

    def __init__(self, byte: bytes):
        self.byte, self.count = byte, 0

    def readable(self):
        return True

    def readinto(self, buffer):
        buffer[:] = self.byte * len(buffer)
        self.count += len(buffer)
        return len(buffer)


@pytest.mark.parametrize("byte", [b"\0", b"\xff"])
def test_of_a_device_without_end_no_more_is_read_than_shows_that_it_holds_no_text(byte: bytes):
    device = Endless(byte)
    with pytest.raises(ValueError, match=r"is not text: byte 0 is NUL|is not UTF-8 text: invalid start byte at byte 0"):
        _ = open_source(io.BufferedReader(device)).texts
    assert device.count <= 2**21
    if byte == b"\0":
        device = Endless(byte)
        with pytest.raises(ValueError, match=r"the file has NUL characters, the first in line 1, .* encoding='utf-16'"):
            small_masked_lm().fit(io.TextIOWrapper(io.BufferedReader(device), encoding="utf-8"))
        assert device.count <= 2**22
    if Path("/dev/zero").exists():
        with pytest.raises(ValueError, match="/dev/zero is not text: byte 0 is NUL"):
            small_masked_lm().fit("/dev/zero")


def test_each_kind_of_line_end_ends_a_line(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\rtwo\r\nthree\nfour\r\rfive")
    expected = ["one", "two", "three", "four", "five"]
    assert open_source(path).texts == expected
    for newline in (None, "", "\n", "\r"):
        with path.open(newline=newline) as file:
            assert open_source(file).texts == expected
    assert open_source(io.StringIO("\ufeffone\rtwo")).texts == ["one", "two"]
    file = io.BytesIO("\ufeff one \r\n\r\n\ttwo\u2028still two\x85\n\n   \nthree".encode())
    assert open_source(file).texts == ["one", "two\u2028still two", "three"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_lines_are_the_same_wherever_a_file_is_cut(size: int, monkeypatch):
    monkeypatch.setattr(files, "AT_ONCE", size)
    content = "one\r\n\r\rtwo é\n\n\rthree\r".encode()
    found = list(files.file_of(io.BytesIO(content)).lines())
    assert found == [(1, "one\r\n"), (2, "\r"), (3, "\r"), (4, "two é\n"), (5, "\n"), (6, "\r"), (7, "three\r")]


@pytest.mark.parametrize(
    "lines",
    [
        ["I came, I saw, I won.", "No, never."],
        ["text, label and all", "as, we say"],
        ["[1] A footnote, and more.", "{braces} and [brackets]"],
        ["{", "a brace alone"],
        ["[", "[1, 2]"],
        ["[1, 2, 3]", "[4]"],
        ["42", "3.14"],
        ['"Go!", he said.'],
        ['"Go!"'],
        ['"Go!"', "he said."],
        ["['Go!']", "[1]"],
        ["text,label"],  # no second line
        ["title,text", "which has no comma"],
        ["a,b", "c,d"],  # names, but no usual one
        ["id\ttext and more", "1\ttwo"],
        ["BZh, she said", "PK is a name, PAR1 another"],
    ],
)
def test_prose_is_no_table(lines: list[str], tmp_path: Path):
    (tmp_path / "a.txt").write_text("\n".join(lines))
    assert open_source(tmp_path / "a.txt").texts == lines


@pytest.mark.parametrize(
    ("name", "kind"),
    [(n, KINDS_SEEN.get(n, n.split(".")[-1])) for n in FILES if has_columns(n) and n != "columns.json"],
)
def test_rows_in_a_file_of_text_are_noticed(name: str, kind: str):
    lines = [line.strip() for line in FILES[name].lstrip("\ufeff").replace("\r", "\n").split("\n") if line.strip()]
    assert looks_like(lines)[0] == kind


def test_an_open_file_that_is_refused_can_be_read_again():
    masked_lm = small_masked_lm()
    for content in (CSV, "\ufeff" + CSV):
        file = io.StringIO("before\n" + content)
        file.readline()
        with pytest.raises(ValueError, match=r"the file seems to be CSV .*kind='csv', column='text'"):
            masked_lm.fit(file)
        assert open_source(file, kind="csv", column="text").texts == LINES


def test_places_are_right_after_an_error():
    file = io.StringIO("text\n" + "a\n" * 3 + "b,c\n")
    source = open_source(file, kind="csv", column="text")
    with pytest.raises(ValueError, match="line 5: the row has 2 fields"):
        _ = source.texts
    file.seek(0)
    file.truncate(0)
    file.write("text\na\nb\n")
    file.seek(0)
    assert (source.texts, source.place(1)) == (["a", "b"], "the file, line 3")


def test_a_file_opened_in_another_encoding_says_so(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes("one\nné\n".encode("latin-1"))
    for ask in (small_masked_lm().fit, small_masked_lm().embed, small_masked_lm().predict):
        with path.open(encoding="utf-8") as file, pytest.raises(ValueError, match=r"a.txt is not utf-8 text: invalid"):
            ask(file)


def test_the_lines_of_any_open_file_come_without_their_ends():
    masked_lm, texts = small_masked_lm(), ["one", "two"]
    with tempfile.NamedTemporaryFile("w+") as file:  # whose wrapper is no io.TextIOBase
        file.write("one\n\ntwo\n")
        file.seek(0)
        assert masked_lm.evaluate(file, verbose=0) == masked_lm.evaluate(texts, verbose=0)
        file.seek(0)
        assert [score.tokens for score in masked_lm.score(file)] == [score.tokens for score in masked_lm.score(texts)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_and_an_open_descriptor_are_read_as_files(tmp_path: Path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=("one\ntwo\n",))
    writer.start()
    assert open_source(fifo).texts == ["one", "two"]
    writer.join()
    if Path("/dev/fd").is_dir():  # what process substitution gives
        reader, other = os.pipe()
        os.write(other, b"one\ntwo\n")
        os.close(other)
        found = small_masked_lm().evaluate(f"/dev/fd/{reader}", verbose=0)
        os.close(reader)
        assert found == small_masked_lm().evaluate(["one", "two"], verbose=0)


def test_an_array_of_a_files_bytes_is_decoded_by_hand():
    texts = np.array([b"a", b"b"])
    masked_lm = small_masked_lm()
    with pytest.raises(TypeError) as raised:
        masked_lm.evaluate(texts)
    expression = str(raised.value).split("Decode them: ")[1]
    decoded = eval(expression, {"texts": texts})
    assert masked_lm.evaluate(decoded, verbose=0) == masked_lm.evaluate(["a", "b"], verbose=0)


def test_a_file_that_is_not_there_may_have_been_meant_as_a_text():
    for text in ("The quick brown fox.", "x" * 5000, "a\0b", "Who? *"):
        with pytest.raises(FileNotFoundError) as raised:
            small_masked_lm().fit(text)
        assert "To pass one text, pass a list: ['…']" in str(raised.value)
        assert len(str(raised.value)) < 200
