"""Files with one text a line. Other kinds of files are told apart by their suffix and by what they hold."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from pyroberta.text.given import shown_names, text_column

# How a file is unpacked: the function that opens it as text, and the command that writes what it holds.
PACKED = {"gzip": ("gzip.open", "gzip -dc"), "bzip2": ("bz2.open", "bzip2 -dc"), "xz": ("lzma.open", "xz -dc")}
PACKED_SUFFIXES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz"}
# How the rows of a file are read; {file} is the file opened as text.
ROWS = {
    "CSV": "csv.DictReader({file})",
    "TSV": 'csv.DictReader({file}, delimiter="\\t")',
    "JSON": "json.load({file})",
    "JSON lines": "map(json.loads, filter(str.strip, {file}))",
}
ROW_SUFFIXES = {".csv": "CSV", ".tsv": "TSV", ".json": "JSON", ".jsonl": "JSON lines", ".ndjson": "JSON lines"}
# Files that other programs read: what they are, and how their texts are had. {name} is the file's name.
OTHER_SUFFIXES = {
    ".parquet": ("a Parquet file", 'pandas.read_parquet({name})["text"]'),
    ".feather": ("a Feather file", 'pandas.read_feather({name})["text"]'),
    ".arrow": ("an Arrow file", 'pandas.read_feather({name})["text"]'),
    ".xlsx": ("an Excel file", 'pandas.read_excel({name})["text"]'),
    ".xls": ("an Excel file", 'pandas.read_excel({name})["text"]'),
    ".npy": ("a NumPy file", "numpy.load({name})"),
    ".zip": ("an archive", ""),
    ".tar": ("an archive", ""),
    ".tgz": ("an archive", ""),
    ".7z": ("an archive", ""),
    ".zst": ("packed by zstd", ""),
}
# How such a file begins; a Parquet or Arrow file ends so too.
MAGIC = (
    (b"\x1f\x8b", "gzip"),
    *((b"BZh%d1AY&SY" % level, "bzip2") for level in range(1, 10)),
    (b"\xfd7zXZ\0", "xz"),
    (b"PK\x03\x04", ".zip"),
    (b"\x28\xb5\x2f\xfd", ".zst"),
    (b"PAR1", ".parquet"),
    (b"ARROW1", ".arrow"),
    (b"\x93NUMPY", ".npy"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"%PDF-", "a PDF file"),
)
AT_BOTH_ENDS = (".parquet", ".arrow")
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
# Names in the head of a table; other first lines are taken for a text.
USUAL_HEADS = {
    *("text", "texts", "sentence", "sentences", "sentence1", "sentence2", "content", "document", "review", "tweet"),
    *("body", "title", "label", "labels", "class", "category", "target", "id", "premise", "hypothesis", "question"),
}
LINES_LOOKED_AT = 20
LONGEST_HEAD = 2000  # characters


class Found(NamedTuple):
    """A file that has no text a line.

    Attributes:
        packed: the key in `PACKED`, or the empty string.
        rows: the key in `ROWS`, or the empty string.
        other: the key in `OTHER_SUFFIXES`, a description of the file, or the empty string.
        columns: the names of its columns, as far as they were read.
    """

    packed: str = ""
    rows: str = ""
    other: str = ""
    columns: Sequence[str] = ()


def read_lines(path: str | os.PathLike[str], *, for_shell: bool = False) -> list[str]:
    """The lines of a UTF-8 text file that are not blank, without their ends. Pipes are read as files are.

    Args:
        path: of the file.
        for_shell: whether an error tells what to write in a shell, not in Python.

    Raises:
        FileNotFoundError: where there is no such file, with the advice to pass one text as a list.
        ValueError: where it is not UTF-8, naming the byte; where it is packed, a table or JSON, with the line to write;
            where it holds no text.
    """
    name = os.fspath(path)
    if not os.path.exists(name) or os.path.isdir(name):
        raise FileNotFoundError(
            f"there is no text file {_short(name)}{', which is a directory' if os.path.isdir(name) else ''}. "
            "To pass one text, pass a list: ['…']"
        )
    with open(name, "rb") as file:
        content = file.read()
    texts = lines_of(content, name, for_shell=for_shell)
    if not texts:
        raise ValueError(f"{name} holds no text: it is empty, or every line is blank")
    return texts


def lines_of(content: bytes, name: str, *, for_shell: bool = False) -> list[str]:
    """The lines of text in `content`; `name` is the file's name, or says where it is from. See `read_lines`."""
    packed, rows, other = _by_suffix(name)
    for magic, kind in MAGIC:
        if content.startswith(magic) and (kind not in AT_BOTH_ENDS or content.endswith(magic)):
            packed, other = (kind, "") if kind in PACKED else ("", kind)
    if packed or other:
        raise ValueError(_advice(Found(packed, rows, other), name, for_shell))
    if content.startswith(UTF_16):
        raise ValueError(f"{name} is text in UTF-16, not UTF-8. Pass the open file: open({name!r}, encoding='utf-16')")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    return checked_lines(text.split("\n"), name, rows, for_shell=for_shell)


def lines_of_file(file: Any) -> list[str]:
    """The lines of a file that was opened as text, as `read_lines` gives them.

    Raises:
        TypeError: where it was opened for bytes.
        ValueError: as `read_lines`, but for a packed file, which the caller has unpacked.
    """
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else "the file"
    try:
        lines = list(file)
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not {error.encoding} text: {error.reason} at byte {error.start}") from None
    if lines and not isinstance(lines[0], str):
        raise TypeError(f"{name} was opened for bytes. Open it as text: io.TextIOWrapper(file, encoding='utf-8')")
    return checked_lines(lines, name, _by_suffix(name)[1])


def checked_lines(lines: Sequence[str], name: str, rows: str = "", *, for_shell: bool = False) -> list[str]:
    """The lines that are not blank, without their ends.

    Args:
        lines: of a file.
        name: the file's.
        rows: a key in `ROWS`, where the suffix says that it is such a file.
        for_shell: see `read_lines`.

    Raises:
        ValueError: where they are those of a table or of JSON.
    """
    texts = [line.strip() for line in lines if line.strip()]
    if texts:
        seen, columns = _by_content(texts[:LINES_LOOKED_AT], rows)
        if rows or seen:
            raise ValueError(_advice(Found(rows=rows or seen, columns=columns), name, for_shell))
    return texts


def _by_suffix(name: str) -> tuple[str, str, str]:
    """What the file's name says: `packed`, `rows` and `other` of `Found`."""
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes[-2:]]
    packed = PACKED_SUFFIXES.get(suffixes[-1], "") if suffixes else ""
    if packed:
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    return packed, ROW_SUFFIXES.get(last, ""), last if last in OTHER_SUFFIXES else ""


def _by_content(lines: Sequence[str], rows: str) -> tuple[str, Sequence[str]]:
    """What the first lines that are not blank look like: a key in `ROWS` or the empty string, and the columns' names.

    Prose may begin with a bracket or hold commas. So JSON has to be an object, or a list of objects or strings; and a
    table has to begin with names, a usual one among them, and to have as many fields in each line.
    """
    head = lines[0]
    if head[0] in "{[":
        found = _parsed(head)
        if isinstance(found, dict):
            return "JSON lines", list(found)
        if isinstance(found, list) and found and isinstance(found[0], dict):
            return "JSON", list(found[0])
        following = lines[1][0] if len(lines) > 1 else " "
        if head in ("{", "[", "[{") and following in '"{':
            match = [re.match(r'\s*"([^"]{1,40})"\s*:', line) for line in lines]
            return "JSON", list(dict.fromkeys(one[1] for one in match if one))
    if rows:
        return rows, _fields(head, "\t" if rows == "TSV" else ",") if rows in ("CSV", "TSV") else ()
    for delimiter in "\t,;|":
        names = _fields(head, delimiter)
        is_head = len(names) > 1 and all(re.fullmatch(r"[A-Za-z_][\w.-]{0,40}", name) for name in names)
        if is_head and USUAL_HEADS & {name.lower() for name in names}:
            counts = {len(_fields(line, delimiter)) for line in lines}
            if len(lines) > 1 and counts == {len(names)}:
                return {"\t": "TSV"}.get(delimiter, "CSV"), names
    return "", ()


def _parsed(line: str) -> Any:
    """The JSON in a line; None where it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _fields(line: str, delimiter: str) -> list[str]:
    """The fields of a line of a table."""
    try:
        return next(csv.reader([line[:LONGEST_HEAD]], delimiter=delimiter), [])
    except csv.Error:
        return []


def _advice(found: Found, name: str, for_shell: bool) -> str:
    """What the file is, and what to write instead."""
    packed, rows, other, columns = found
    if other:
        what, line = OTHER_SUFFIXES.get(other, (other, ""))
        advice = line.format(name=repr(name)) if not for_shell else ""
        return f"{name} is {what}, not lines of text. " + (
            f"Read its texts: {advice}" if advice else "Make a UTF-8 text file of it, one text a line"
        )
    what = f"{rows or 'text'}, packed by {packed}" if packed else rows
    names = f" with the columns {shown_names(list(columns))}" if columns else ""
    return f"{name} is {what}{names}, not lines of text. " + (
        f"Make a text file of it: {_for_shell(found, name)}"
        if for_shell
        else f"Pass its texts: {_for_python(found, name)}"
    )


def _for_python(found: Found, name: str) -> str:
    newline = ', newline=""' if found.rows in ("CSV", "TSV") else ""
    function, mode = (PACKED[found.packed][0], ', "rt"') if found.packed else ("open", "")
    file = f'{function}({name!r}{mode}, encoding="utf-8-sig"{newline})'
    if not found.rows:
        return file
    column = json.dumps(text_column(list(found.columns)), ensure_ascii=False)
    return f"[row[{column}] for row in {ROWS[found.rows].format(file=file)}]"


def _for_shell(found: Found, name: str) -> str:
    source = shlex.quote(name) if os.path.exists(name) else "FILE"  # standard input has no name
    unpacked = f"{PACKED[found.packed][1]} {source}" if found.packed else ""
    if not found.rows:
        return f"{unpacked} > {_free_name()}"
    column = json.dumps(text_column(list(found.columns)), ensure_ascii=False)
    loop = f"[print(*row[{column}].split()) for row in {ROWS[found.rows].format(file='sys.stdin')}]"
    program = f"python3 -c {shlex.quote(f'import csv, json, sys; {loop}')}"
    output = _free_name()
    return f"{unpacked} | {program} > {output}" if unpacked else f"{program} < {source} > {output}"


def _free_name() -> str:
    """A name for the file of texts that no file has: a shell empties one before it reads anything."""
    names = ("texts.txt", *(f"texts-{i}.txt" for i in range(2, 100)))
    return next((name for name in names if not os.path.lexists(name)), "NEW_FILE")


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:79] + "…")
