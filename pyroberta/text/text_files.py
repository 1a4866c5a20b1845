"""Files with one text on each line. Other kinds of files are recognised by their suffix and their content."""

from __future__ import annotations

import codecs
import csv
import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import PurePath
from typing import Any, BinaryIO, NamedTuple

from pyroberta.text.given import shown_names, text_column

# How a file is unpacked: the function that opens it as text, and the command that writes what it holds.
PACKED = {"gzip": ("gzip.open", "gzip -dc"), "bzip2": ("bz2.open", "bzip2 -dc"), "xz": ("lzma.open", "xz -dc")}
PACKED_SUFFIXES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz"}
# How the rows of a file are read; {file} is the file opened as text.
ROWS = {
    "CSV": "csv.DictReader({file}{delimiter})",
    "TSV": "csv.DictReader({file}{delimiter})",
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
    ".lz4": ("packed by lz4", ""),
    ".rtf": ("an RTF document", ""),
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
    (b"\x04\x22\x4d\x18", ".lz4"),
    (b"7z\xbc\xaf\x27\x1c", ".7z"),
    (b"{\\rtf", ".rtf"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a file of Microsoft Office's"),
)
AT_BOTH_ENDS = (".parquet", ".arrow")
TAR, TAR_AT = b"ustar", 257  # bytes from the beginning
BYTE_ORDER_MARKS = (  # the longer ones first
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
# Names in the head of a table; other first lines are taken for a text.
USUAL_HEADS = {
    *("text", "texts", "sentence", "sentences", "sentence1", "sentence2", "content", "document", "review", "tweet"),
    *("body", "title", "label", "labels", "class", "category", "target", "id", "premise", "hypothesis", "question"),
}
LINES_LOOKED_AT = 20
AT_ONCE = 1 << 20  # bytes or characters that are read before they are looked at: what is no text may have no end
LOOKED_AT = 4096  # bytes from which an encoding is told
STDIN = 'open(0, encoding="utf-8-sig", newline="")'
ROWS_WITH_TEXT = ('[row["text"] for row in ', "]")  # where no more is known


class Found(NamedTuple):
    """A file that does not have one text on each line.

    Attributes:
        packed: the key in `PACKED`, or the empty string.
        rows: the key in `ROWS`, or the empty string.
        other: the key in `OTHER_SUFFIXES`, a description of the file, or the empty string.
        columns: the names of its columns, as far as they were read.
        delimiter: of a table.
        around: the code before and behind the reader of `ROWS` in the expression that gives the texts; None if there is
            no such expression.
    """

    packed: str = ""
    rows: str = ""
    other: str = ""
    columns: Sequence[str] = ()
    delimiter: str = ""
    around: tuple[str, str] | None = ROWS_WITH_TEXT


def read_lines(path: str | os.PathLike[str], *, for_shell: bool = False) -> list[str]:
    """The lines of a UTF-8 text file that are not blank, without their ends. Pipes are read as files are.

    Args:
        path: of the file.
        for_shell: whether an error suggests a command for a shell, not Python.

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
        texts = lines_of(file, name, for_shell=for_shell)
    if not texts:
        raise ValueError(f"{name} holds no text: it is empty, or every line is blank")
    return texts


def lines_of(file: BinaryIO, name: str, *, for_shell: bool = False) -> list[str]:
    """The lines of text in a file that is open for bytes; `name` is its name or its origin.

    No more than `AT_ONCE` bytes are read of a file that is no text. See `read_lines`.
    """
    packed, rows, other = _by_suffix(name)
    start = file.read(AT_ONCE)
    kind = _by_magic(start)
    if kind and kind not in AT_BOTH_ENDS:
        packed, other = (kind, "") if kind in PACKED else ("", kind)
    if packed or other:
        found = Found(packed, rows, other, delimiter=_suffix_delimiter(rows))
        raise _error(found if other else _inside(found, start), name, "", for_shell)
    wide = _wide_encoding(start)
    if wide:
        encoding = wide[:6].upper()
        raise ValueError(f"{name} is text in {encoding}, not UTF-8. {_decoded(wide, name, for_shell)}")
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    parts: list[str] = []
    size = 0
    for some in chain([start], iter(lambda: file.read(AT_ONCE), b""), [b""]):
        size += len(some)
        try:
            parts.append(decoder.decode(some, final=not some))
        except UnicodeDecodeError as error:
            if kind:
                raise _error(Found(other=kind), name, "", for_shell) from None
            raise ValueError(
                f"{name} is not UTF-8 text: {error.reason} at byte {size - len(error.object) + error.start}. If it is "
                f"text in another encoding: {_decoded('cp1252', name, for_shell)}"
            ) from None
        if 0 in some:
            if kind:
                raise _error(Found(other=kind), name, "", for_shell)
            raise ValueError(
                f"{name} is not text: byte {size - len(some) + some.index(0)} is NUL. Make a UTF-8 text file of it, "
                "one text a line"
            )
    content = "".join(parts)
    if kind and content.endswith(next(magic for magic, its in MAGIC if its == kind).decode()):
        raise _error(Found(other=kind), name, "", for_shell)
    return _lines(content, name, rows, "", for_shell)


def _inside(found: Found, start: bytes) -> Found:
    """A packed file, with what the beginning of its content tells, where that can be unpacked."""
    import bz2
    import lzma
    import zlib

    made = {"gzip": lambda: zlib.decompressobj(31), "bzip2": bz2.BZ2Decompressor, "xz": lzma.LZMADecompressor}
    unpacker: Any = made[found.packed]()
    try:
        content = unpacker.decompress(start, AT_ONCE).decode("utf-8-sig")
    except (zlib.error, OSError, EOFError, lzma.LZMAError, ValueError):  # damaged, or cut within a character
        return found
    lines = _split(content)
    seen = _by_content(content, lines[:LINES_LOOKED_AT], found.rows) if lines else None
    return seen._replace(packed=found.packed) if seen and seen.around else found


def lines_of_file(file: Any) -> list[str]:
    """The lines of a file that was opened as text, as `read_lines` gives them.

    Raises:
        TypeError: where it was opened for bytes.
        ValueError: as `read_lines`, but for a packed file, which the caller has unpacked. The file's position is then
            the old one, if it can be set.
    """
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else "the file"
    place = _place(file)
    parts: list[str] = []
    try:
        for some in iter(lambda: file.read(AT_ONCE), "") if hasattr(file, "read") else file:
            if not isinstance(some, str):
                raise TypeError(
                    f"{name} was opened for bytes. Open it as text: io.TextIOWrapper(file, encoding='utf-8')"
                )
            if "\0" in some:
                raise ValueError(
                    f"{name} has NUL characters, so it is not text, or not in the encoding that it was opened with. "
                    "Open text in UTF-16 with encoding='utf-16'"
                )
            parts.append(some)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(
            f"{name} is not {error.encoding} text: {error.reason}, {byte:#04x}. Open it with the encoding that it was "
            "written in, such as encoding='cp1252'"
        ) from None
    content = "".join(parts)
    is_marked = content.startswith("\ufeff")
    try:
        return _lines(content[is_marked:], name, _by_suffix(name)[1], "file", False)
    except ValueError:
        if place is not None:
            file.seek(place)
            file.read(is_marked)
        raise


def _place(file: Any) -> Any:
    """The position in an open file; None if it can't be set."""
    try:
        return file.tell() if file.seekable() else None
    except (AttributeError, OSError, ValueError):
        return None


def _lines(content: str, name: str, rows: str, file: str, for_shell: bool) -> list[str]:
    """The lines that are not blank, without their ends.

    Args:
        content: of a file.
        name: the file's.
        rows: a key in `ROWS`, where the suffix says that it is such a file.
        file: an expression for the open file; the empty string where the caller has its name.
        for_shell: see `read_lines`.

    Raises:
        ValueError: where they are those of a table or of JSON.
    """
    lines = _split(content)
    found = _by_content(content, lines[:LINES_LOOKED_AT], rows) if lines else None
    if found:
        raise _error(found, name, file, for_shell)
    return [line.strip() for line in lines]


def _split(content: str) -> list[str]:
    """The lines that are not blank."""
    return [line for line in content.replace("\r\n", "\n").replace("\r", "\n").split("\n") if line.strip()]


def _by_suffix(name: str) -> tuple[str, str, str]:
    """`packed`, `rows` and `other` of `Found` that follow from the file's name."""
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes[-2:]]
    packed = PACKED_SUFFIXES.get(suffixes[-1], "") if suffixes else ""
    if packed:
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    return packed, ROW_SUFFIXES.get(last, ""), last if last in OTHER_SUFFIXES else ""


def _by_magic(start: bytes) -> str:
    """The kind of a file by its first bytes: a key in `PACKED` or `OTHER_SUFFIXES`, a description, or ""."""
    if start[TAR_AT:].startswith(TAR):
        return ".tar"
    return next((kind for magic, kind in MAGIC if start.startswith(magic)), "")


def _wide_encoding(start: bytes) -> str:
    """The encoding of text in UTF-16 or UTF-32, with a byte order mark or without; the empty string for anything else.

    >>> _wide_encoding("Go!".encode("utf-16-be")), _wide_encoding(b"Go!"), _wide_encoding(bytes(64))
    ('utf-16-be', '', '')
    """
    for mark, encoding in BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return encoding
    some = start[:LOOKED_AT]
    order = "le" if some[1::2].count(0) >= some[::2].count(0) else "be"  # Latin letters have zeros on one side
    for encoding, width in ((f"utf-32-{order}", 4), (f"utf-16-{order}", 2)):
        if 0 in some and not (len(start) < AT_ONCE and len(start) % width):
            try:
                text = codecs.getincrementaldecoder(encoding)().decode(some)
            except UnicodeDecodeError:
                continue
            if not re.search(r"[^\t-\r -\x7e\x85\xa0-\U0010ffff]", text):
                return encoding
    return ""


def _by_content(content: str, lines: Sequence[str], rows: str) -> Found | None:
    """The kind of a file that does not have one text on each line; None for one that does.

    Prose may begin with a bracket or a quotation mark, or hold commas. So JSON has to parse and to be a table of texts
    or a list of them, as a whole or line by line; and a table has to begin with names, a usual one among them, and to
    have as many fields in each row.

    Args:
        content: all of it.
        lines: the first that are not blank.
        rows: a key in `ROWS`, where the suffix says that it is such a file.
    """
    head = lines[0].strip()
    if head[0] in '{["':
        found = _json(content, lines, head, is_named="JSON" in rows)
        if found:
            return found
    if "JSON" in rows:
        return Found(rows=rows, around=None)
    suffix_delimiter = _suffix_delimiter(rows)
    for delimiter in suffix_delimiter + "".join(other for other in "\t,;|" if other != suffix_delimiter):
        table = _table(lines, delimiter)
        names = table[0] if table else []
        if rows and len(names) > 1:
            return _table_found(rows, names, delimiter)
        is_head = len(names) > 1 and all(re.fullmatch(r"[A-Za-z_][\w.-]{0,40}", name) for name in names)
        if is_head and USUAL_HEADS & {name.lower() for name in names}:
            rest = table[1:-1] if len(lines) == LINES_LOOKED_AT else table[1:]  # the last row may go on
            if rest and {len(row) for row in rest} == {len(names)}:
                return _table_found("TSV" if delimiter == "\t" else "CSV", names, delimiter)
    return _table_found(rows, [head], suffix_delimiter) if rows else None


def _json(content: str, lines: Sequence[str], head: str, is_named: bool) -> Found | None:
    """What a file of JSON is, whose first line is `head`; None for none. `is_named`: its suffix says that it is one."""
    if head[0] != '"':
        value = _parsed(content)
        whole = _around(value)
        if whole:
            return Found(rows="JSON", columns=whole[0], around=whole[1])
        if isinstance(value, dict) and value and len(lines) > 1:  # in one line it is a row
            texts = [name for name in value if isinstance(value[name], str)]
            return Found(rows="JSON", columns=list(value), around=("[", f"[{_quoted(texts)}]]") if texts else None)
    items = [_parsed(line) for line in lines]
    first = items[0]
    if isinstance(first, dict) and first:
        columns, around = _row(first) or (list(first), None)
        return Found(rows="JSON lines", columns=columns, around=around)
    if isinstance(first, list) and first and isinstance(first[0], dict):
        return Found(rows="JSON lines", around=None)
    if is_named or len(lines) > 1:
        if all(isinstance(item, str) for item in items):
            return Found(rows="JSON lines", around=("list(", ")"))
        if all(isinstance(item, list) and any(_strings(item)) for item in items) and (row := _row(first)):
            return Found(rows="JSON lines", around=row[1])
    following = lines[1].strip()[0] if len(lines) > 1 else " "
    if head in ("{", "[", "[{") and following in '"{':  # it doesn't parse
        return Found(rows="JSON", around=None)
    return None


def _around(value: Any) -> tuple[Sequence[str], tuple[str, str]] | None:
    """The names of the columns in JSON that holds texts, and what stands around it in the expression that gives them.

    >>> _around({"data": [{"id": 1, "quote": "Go!"}]})
    (['id', 'quote'], ('[row["quote"] for row in ', '["data"]]'))
    """
    if isinstance(value, list) and value:
        if isinstance(value[0], str):
            return (), ("", "")
        return _row(value[0]) if isinstance(value[0], dict | list) else None
    names = list(value) if isinstance(value, dict) else []
    if not names or isinstance(value.get(text_column(names)), str):  # a row
        return None
    columns = [name for name in names if isinstance(value[name], list) and all(_strings(value[name])) and value[name]]
    if columns:
        return names, ("", f"[{_quoted(columns)}]")
    columns = [name for name in names if isinstance(value[name], dict) and any(_strings(value[name].values()))]
    if columns:  # as pandas writes them
        return names, ("list(", f"[{_quoted(columns)}].values())")
    for name in names:
        if isinstance(value[name], list) and (inner := _around(value[name])):
            inner_names, (before, after) = inner
            return inner_names, (before, f"[{_quoted([name])}]{after}")
    return None


def _row(row: dict[str, Any] | list[Any]) -> tuple[Sequence[str], tuple[str, str]] | None:
    """The names of a row's columns, and what stands around the rows in the expression that gives their texts."""
    if isinstance(row, list):
        number = next((i for i, is_text in enumerate(_strings(row)) if is_text), None)
        return None if number is None else ((), (f"[row[{number}] for row in ", "]"))
    texts = [name for name in row if isinstance(row[name], str)]
    return (list(row), (f"[row[{_quoted(texts)}] for row in ", "]")) if texts else None


def _strings(values: Any) -> Iterator[bool]:
    return (isinstance(value, str) for value in values)


def _quoted(names: Sequence[str]) -> str:
    """The name of the column that seems to hold the texts, in quotes."""
    return json.dumps(text_column(list(names)), ensure_ascii=False)


def _parsed(line: str) -> Any:
    """The JSON in a line; None where it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _suffix_delimiter(rows: str) -> str:
    """The delimiter that follows from a table's suffix; "" for none."""
    return {"CSV": ",", "TSV": "\t"}.get(rows, "")


def _table(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """The rows of a table; empty if the lines are no table."""
    try:
        return list(csv.reader((f"{line}\n" for line in lines), delimiter=delimiter))
    except csv.Error:
        return []


def _table_found(rows: str, names: Sequence[str], delimiter: str) -> Found:
    around = f"[row[{_quoted(names)}] for row in ", "]"
    return Found(rows=rows, columns=names, delimiter=delimiter, around=around)


def _error(found: Found, name: str, file: str, for_shell: bool) -> ValueError:
    """The error that names the kind of file and the code to write. `file` is an expression for an open file."""
    make = "Make a UTF-8 text file of it, one text a line"
    if found.other:
        description, line = OTHER_SUFFIXES.get(found.other, (found.other, ""))
        advice = f"Read its texts: {line.format(name=repr(name))}" if line and not for_shell else make
        return ValueError(f"{name} is {description}, not lines of text. {advice}")
    description = f"{found.rows or 'text'}, packed by {found.packed}" if found.packed else found.rows
    names = f" with the columns {shown_names(list(found.columns))}" if found.columns else ""
    if found.rows and not found.around:
        advice = make
    elif for_shell:
        advice = f"Make a text file of it: {_for_shell(found, name)}"
    else:
        advice = f"Pass its texts: {_for_python(found, name, file)}"
    return ValueError(f"{name} is {description}{names}, not lines of text. {advice}")


def _expression(found: Found, file: str) -> str:
    """Python that gives the texts; `file` is the file opened as text."""
    is_default = found.delimiter in ("", ",")
    delimiter = "" if is_default else f", delimiter={json.dumps(found.delimiter)}"
    before, after = found.around or ("", "")
    return f"{before}{ROWS[found.rows].format(file=file, delimiter=delimiter)}{after}"


def _for_python(found: Found, name: str, file: str) -> str:
    if not file:
        newline = ', newline=""' if found.rows in ("CSV", "TSV") else ""
        function, mode = (PACKED[found.packed][0], ', "rt"') if found.packed else ("open", "")
        file = f'{function}({name!r}{mode}, encoding="utf-8-sig"{newline})'
    return _expression(found, file) if found.rows else file


def _for_shell(found: Found, name: str) -> str:
    source = _source(name)
    unpacked = f"{PACKED[found.packed][1]} {source}" if found.packed else ""
    if not found.rows:
        return f"{unpacked} > {_free_name()}"
    loop = f"[print(*text.split()) for text in {_expression(found, STDIN)}]"
    program = f"python3 -c {shlex.quote(f'import csv, json; {loop}')}"
    output = _free_name()
    return f"{unpacked} | {program} > {output}" if unpacked else f"{program} < {source} > {output}"


def _decoded(encoding: str, name: str, for_shell: bool) -> str:
    """The advice how to read text in an encoding."""
    if for_shell:
        its = re.sub("-(?=[LB]E$)", "", encoding.upper())  # iconv's name
        return f"Make a text file of it: iconv -f {its} -t UTF-8 {_source(name)} > {_free_name()}"
    return f"Pass the open file: open({name!r}, encoding={encoding!r})"


def _source(name: str) -> str:
    """The file in a shell's line."""
    return shlex.quote(name) if os.path.exists(name) else "FILE"  # standard input has no name


def _free_name() -> str:
    """A new name for the file of texts, since a shell empties an existing file before it reads."""
    names = ("texts.txt", *(f"texts-{i}.txt" for i in range(2, 100)))
    return next((name for name in names if not os.path.lexists(name)), "NEW_FILE")


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:79] + "…")
