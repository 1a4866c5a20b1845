"""Files with one text a line; packed files, tables and JSON are refused with the line to write, which works."""

from __future__ import annotations

import bz2
import codecs
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
import tarfile
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from small_models import small_masked_lm

from pyroberta.text.text_files import lines_of, lines_of_file, read_lines

ROWS = [{"id": "1", "text": "a, b"}, {"id": "2", "text": 'it\'s "c"'}]
LINES = ["a, b", 'it\'s "c"']
CSV = 'id,text\n1,"a, b"\n2,"it\'s ""c"""\n'
SEMICOLONS = 'id;text\n1;a, b\n2;"it\'s ""c"""\n'
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
        "semicolons.csv": SEMICOLONS,
        "semicolons.txt": SEMICOLONS,
        "bars.csv": SEMICOLONS.replace(";", "|"),
        "bars.txt": SEMICOLONS.replace(";", "|"),
        "commas.tsv": CSV,
        "long.txt": "text,label,more\n" + "".join(f'"{line}",{"x" * 3000},\n' for line in ("a, b", 'it\'s ""c""')),
        "quotes.txt": 'text,id\n"a,\n b",1\n"it\'s\n ""c""",2\n',  # which the shell's line puts into one line
        "old mac.csv": CSV.replace("\n", "\r"),
        "strings.json": json.dumps(LINES),
        "strings.txt": json.dumps(LINES),
        "strings, indented.txt": json.dumps(LINES, indent=1),
        "columns.json": json.dumps({"id": [1, 2], "text": LINES}),
        "columns.txt": json.dumps({"id": [1, 2], "words": LINES}, indent=1),
        "pandas.json": json.dumps({"id": {"0": 1, "1": 2}, "text": dict(enumerate(LINES))}),
        "data.json": json.dumps({"version": "1.0", "data": ROWS}),
        "data.txt": json.dumps({"data": LINES}),
        "lists.json": json.dumps([[1, line] for line in LINES], indent=1),
        "lists.jsonl": "".join(json.dumps([1, line]) + "\n" for line in LINES),
        "lists.txt": "".join(json.dumps([line, 1]) + "\n" for line in LINES),
        "strings.jsonl": "".join(json.dumps(line) + "\n" for line in LINES),
        "strings a line.txt": "".join(json.dumps(line) + "\n" for line in LINES),
        "lines.json": JSONL,  # the suffix says something else
        "array.jsonl": json.dumps(ROWS),
        "odd name.json": json.dumps([{"n": 1, "quote": line} for line in LINES]),
    }
    text = "\n".join(LINES)
    packed = {
        "a.txt.gz": gzip.compress(text.encode()),
        "a.bz2": bz2.compress(text.encode()),
        "a.txt.xz": lzma.compress(text.encode()),
        "a.csv.gz": gzip.compress(CSV.encode()),
        "semicolons.csv.gz": gzip.compress(SEMICOLONS.replace("text", "Review").encode()),
        "table.txt.bz2": bz2.compress(CSV.encode()),
        "columns.json.xz": lzma.compress(json.dumps({"n": [1, 2], "words": LINES}).encode()),
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
        assert [" ".join(text.split()) for text in found] == LINES
    for ask in (small_masked_lm().fit, small_masked_lm().predict):
        with pytest.raises(ValueError, match="not lines of text"):
            ask(path)
    with pytest.raises(ValueError, match="not lines of text"):
        small_masked_lm().evaluate(str(path))


@pytest.mark.skipif(os.name != "posix", reason="the lines are a POSIX shell's")
@pytest.mark.parametrize("name", files())
def test_the_command_line_shows_what_makes_a_text_file_of_it(name: str, tmp_path: Path):
    path = tmp_path / f"it's {name}"
    path.write_bytes(files()[name])
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


WIDE = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
WIDE_BY_HAND = [(codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF32_BE, "utf-32-be")]


@pytest.mark.parametrize(
    "content",
    [*("né\ntwo\n".encode(encoding) for encoding in WIDE), *(mark + "né\ntwo".encode(e) for mark, e in WIDE_BY_HAND),
     "né\ntwo".encode("cp1252")],
)  # fmt: skip
@pytest.mark.parametrize("for_shell", [False, True])
def test_another_encoding_is_named_with_the_line_that_reads_it(content: bytes, for_shell: bool, tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"(is text in UTF-\d\d, not UTF-8\.|is not UTF-8 text: .* at byte 1\.)"
    ) as raised:
        read_lines(path, for_shell=for_shell)
    if for_shell:
        line = str(raised.value).split("Make a text file of it: ")[1]
        subprocess.run(line, shell=True, cwd=tmp_path, check=True)
        assert read_lines(tmp_path / "texts.txt") == ["né", "two"]
    else:
        with eval(str(raised.value).split("Pass the open file: ")[1]) as file:
            assert lines_of_file(file) == ["né", "two"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\0two", "is not text: byte 3 is NUL. Make a UTF-8"),
        (b"one\n" + bytes(100), "is not text: byte 4 is NUL"),
        (b"PAR1\x15\0", "a Parquet file"),
        (b"PAR1\xff", "a Parquet file"),
        (b"\x04\x22\x4d\x18abc", "packed by lz4"),
        (b"{\\rtf1 one}", "an RTF document"),
        (b"7z\xbc\xaf\x27\x1c", "an archive"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a file of Microsoft Office's"),
        (b"x" * 2**20 + b"\xc3\xa9" * 5 + b"\xff", "is not UTF-8 text: invalid start byte at byte 1048586"),
        (b"x" * (2**20 - 1) + b"\xc3\xa9\0", "byte 1048577 is NUL"),
    ],
)
def test_what_is_no_text_is_refused_by_what_it_holds(content: bytes, message: str, tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        small_masked_lm().fit(tmp_path / "a.txt")


def test_an_archive_of_tar_is_named(tmp_path: Path):
    (tmp_path / "one").write_text("one")
    with tarfile.open(tmp_path / "a.txt", "w") as archive:
        archive.add(tmp_path / "one", "one")
    with pytest.raises(ValueError, match=r"a.txt is an archive, not lines of text"):
        read_lines(tmp_path / "a.txt")


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
        lines_of(io.BufferedReader(device), "device")
    assert device.count <= 2**21
    if byte == b"\0":
        device = Endless(byte)
        with pytest.raises(ValueError, match=r"the file has NUL characters, .* encoding='utf-16'"):
            small_masked_lm().fit(io.TextIOWrapper(io.BufferedReader(device), encoding="utf-8"))
        assert device.count <= 2**22
    if Path("/dev/zero").exists():
        with pytest.raises(ValueError, match="/dev/zero is not text: byte 0 is NUL"):
            small_masked_lm().fit("/dev/zero")


def test_each_kind_of_line_end_ends_a_line(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\rtwo\r\nthree\nfour\r\rfive")
    expected = ["one", "two", "three", "four", "five"]
    assert read_lines(path) == expected
    for newline in (None, "", "\n", "\r"):
        with path.open(newline=newline) as file:
            assert lines_of_file(file) == expected
    assert lines_of_file(io.StringIO("\ufeffone\rtwo")) == ["one", "two"]


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
    assert read_lines(tmp_path / "a.txt") == lines


def test_an_open_file_of_another_kind_is_refused_too(tmp_path: Path):
    masked_lm = small_masked_lm()
    for name, message in (("a.csv", "CSV with the columns id, text"), ("jsonl.txt", "JSON lines")):
        (tmp_path / name).write_bytes(files()[name])
        with (tmp_path / name).open() as file, pytest.raises(ValueError, match=message):
            masked_lm.fit(file)
    with pytest.raises(ValueError, match="the file is CSV"):
        masked_lm.fit(io.StringIO(CSV))
    for content in (CSV, SEMICOLONS, "\ufeff" + CSV, JSONL, json.dumps(ROWS), json.dumps(LINES)):
        file = io.StringIO("before\n" + content)
        file.readline()
        with pytest.raises(ValueError, match=r"the file is .* Pass its texts: ") as raised:
            masked_lm.fit(file)
        expression = str(raised.value).split("Pass its texts: ")[1]
        assert eval(expression, {"csv": csv, "json": json, "file": file}) == LINES
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write(CSV)
    with (
        gzip.open(tmp_path / "a.csv.gz", "rt") as file,
        pytest.raises(ValueError, match=r"a.csv.gz is CSV .* csv.DictReader\(file\)\]"),
    ):
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
