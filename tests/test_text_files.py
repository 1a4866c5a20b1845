"""Files with one text a line; packed files, tables and JSON are refused with the line to write, which works."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from small_models import small_masked_lm

from pyroberta.text.text_files import read_lines

ROWS = [{"id": "1", "text": "a, b"}, {"id": "2", "text": 'it\'s "c"'}]
LINES = ["a, b", 'it\'s "c"']
CSV = 'id,text\n1,"a, b"\n2,"it\'s ""c"""\n'
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)


def files() -> dict[str, bytes]:
    """Files whose texts are `LINES`."""
    plain = {
        "a.csv": CSV,
        "a.CSV": "\ufefftext\n" + '"a, b"\n"it\'s ""c"""\n',
        "a.tsv": 'id\ttext\n1\ta, b\n2\tit\'s ""c""\n'.replace('it\'s ""c""', '"it\'s ""c"""'),
        "a.jsonl": JSONL,
        "a.ndjson": JSONL,
        "a.json": json.dumps(ROWS),
        "b.json": json.dumps(ROWS, indent=2),
        "csv": CSV,  # by what they hold
        "csv.txt": CSV,
        "tsv.txt": 'text\tid\n"a, b"\t1\n"it\'s ""c"""\t2\n',
        "jsonl.txt": "\n" + JSONL,
        "json.txt": json.dumps(ROWS),
        "indented.txt": json.dumps(ROWS, indent=2),
    }
    text = "\n".join(LINES)
    packed = {
        "a.txt.gz": gzip.compress(text.encode()),
        "a.bz2": bz2.compress(text.encode()),
        "a.txt.xz": lzma.compress(text.encode()),
        "a.csv.gz": gzip.compress(CSV.encode()),
        "a.jsonl.bz2": bz2.compress(JSONL.encode()),
        "gz": gzip.compress(text.encode()),
    }
    return {name: content.encode() for name, content in plain.items()} | packed


def refusal(path: Path, **keywords) -> str:
    with pytest.raises(ValueError, match=r"not lines of text\. ") as raised:
        read_lines(path, **keywords)
    return str(raised.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # nobody closes the file
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", files())
def test_a_file_that_has_no_text_a_line_is_refused_with_the_line_that_reads_it(name: str, tmp_path: Path):
    path = tmp_path / name
    path.write_bytes(files()[name])
    message = refusal(path)
    expression = message.split("Pass its texts: ")[1]
    scope = {"csv": csv, "json": json, "gzip": gzip, "bz2": bz2, "lzma": lzma}
    found = eval(expression, scope)
    if isinstance(found, io.TextIOBase):
        with found as file:
            assert small_masked_lm().evaluate(file, verbose=0) == small_masked_lm().evaluate(LINES, verbose=0)
    else:
        assert list(found) == LINES
    for ask in (small_masked_lm().fit, small_masked_lm().predict):
        with pytest.raises(ValueError, match="not lines of text"):
            ask(path)
    with pytest.raises(ValueError, match="not lines of text"):
        small_masked_lm().evaluate(str(path))


@pytest.mark.skipif(os.name != "posix", reason="the lines are a POSIX shell's")
@pytest.mark.parametrize("name", files())
def test_the_command_line_shows_what_makes_a_text_file_of_it(name: str, tmp_path: Path):
    path = tmp_path / f"it's {name}"
    path.write_bytes(files()[name].replace(b"\xef\xbb\xbf", b""))  # `sys.stdin` keeps a BOM
    line = refusal(path, for_shell=True).split("Make a text file of it: ")[1]
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "python3").symlink_to(sys.executable)
    environment = {**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(line, shell=True, cwd=tmp_path, env=environment, check=True, timeout=60)
    assert read_lines(tmp_path / "texts.txt") == LINES
    assert shlex.quote(str(path)) in line


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"x", r'a Parquet file.*pandas.read_parquet\(.*\)\["text"\]'),
        ("a", b"PAR1\x15PAR1", "a Parquet file"),
        ("a", b"ARROW1\0\0ARROW1", "an Arrow file"),
        ("a.xlsx", b"x", r'an Excel file.*pandas.read_excel\(.*\)\["text"\]'),
        ("a.npy", b"x", r"a NumPy file.*numpy.load\("),
        ("a", b"\x93NUMPY\x01\0", "a NumPy file"),
        ("a.zip", b"x", "an archive.*Make a UTF-8 text file of it"),
        ("a", b"PK\x03\x04", "an archive"),
        ("a.zst", b"x", "packed by zstd"),
        ("a", b"\x28\xb5\x2f\xfd", "packed by zstd"),
        ("a", b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        ("a.pdf", b"%PDF-1.7", "a PDF file"),
        ("a.csv", b"one text, with a comma\nanother\n", "CSV"),
        ("a.txt.gz", b"no gzip at all", "packed by gzip"),
    ],
)
def test_other_kinds_of_files_are_named(name: str, content: bytes, message: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    assert re.search(message, refusal(tmp_path / name))


def test_utf_16_is_named(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes("one\ntwo\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"is text in UTF-16, not UTF-8. Pass the open file: open\(.*utf-16"):
        read_lines(path)
    with path.open(encoding="utf-16") as file:
        assert small_masked_lm().evaluate(file, verbose=0) == small_masked_lm().evaluate(["one", "two"], verbose=0)


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
        ["text,label"],  # no second line
        ["title,text", "which has no comma"],
        ["a,b", "c,d"],  # names, but no usual one
        ["id\ttext and more", "1\ttwo"],
        ["BZh, she said", "PK is a name, PAR1 another"],
    ],
)
def test_prose_is_no_table(lines: list[str], tmp_path: Path):
    (tmp_path / "a.txt").write_text("\n".join(lines))
    assert read_lines(tmp_path / "a.txt") == lines


def test_an_open_file_of_another_kind_is_refused_too(tmp_path: Path):
    masked_lm = small_masked_lm()
    for name, message in (("a.csv", "CSV with the columns id, text"), ("jsonl.txt", "JSON lines")):
        (tmp_path / name).write_bytes(files()[name])
        with (tmp_path / name).open() as file, pytest.raises(ValueError, match=message):
            masked_lm.fit(file)
    with pytest.raises(ValueError, match="the file is CSV"):
        masked_lm.fit(io.StringIO(CSV))
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write(CSV)
    with gzip.open(tmp_path / "a.csv.gz", "rt") as file, pytest.raises(ValueError, match=r"a.csv.gz is CSV"):
        masked_lm.fit(file)


def test_a_file_opened_for_bytes_or_in_another_encoding_says_so(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes("one\nné\n".encode("latin-1"))
    for ask in (small_masked_lm().fit, small_masked_lm().embed, small_masked_lm().predict):
        with path.open("rb") as file, pytest.raises(TypeError, match=r"opened for bytes. .*io.TextIOWrapper\(file"):
            ask(file)
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
    assert read_lines(fifo) == ["one", "two"]
    writer.join()
    if Path("/dev/fd").is_dir():  # what process substitution gives
        reader, other = os.pipe()
        os.write(other, b"one\ntwo\n")
        os.close(other)
        found = small_masked_lm().evaluate(f"/dev/fd/{reader}", verbose=0)
        os.close(reader)
        assert found == small_masked_lm().evaluate(["one", "two"], verbose=0)


def test_a_directory_is_no_text_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"there is no text file .*, which is a directory"):
        read_lines(tmp_path)


def test_an_array_of_a_files_bytes_is_decoded_by_hand():
    texts = np.array([b"a", b"b"])
    masked_lm = small_masked_lm()
    with pytest.raises(TypeError) as raised:
        masked_lm.evaluate(texts)
    expression = str(raised.value).split("Decode them: ")[1]
    decoded = eval(expression, {"texts": texts})
    assert masked_lm.evaluate(decoded, verbose=0) == masked_lm.evaluate(["a", "b"], verbose=0)


def test_the_line_to_write_never_overwrites_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("text,label\nA joy.,1\nA waste.,0\n")
    with pytest.raises(ValueError, match=r"< texts\.txt > texts-2\.txt$"):
        read_lines("texts.txt", for_shell=True)
