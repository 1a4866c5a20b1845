"""The sources of texts and labels. `open_source` finds them in every form of input.

`fit`, `evaluate`, `predict`, `classify`, `embed`, `score`, `fill_mask` and the command line all call `open_source`,
which tells paths, open files, tables and records apart. The modules of `kinds` read files. `tables` reads tables in
memory.
"""

from __future__ import annotations

import os
import sys
import warnings
from array import array
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Sized
from itertools import chain, islice
from typing import Any

import numpy as np

from pyroberta.data.files import File, file_of, is_file, is_path, split_suffixes
from pyroberta.data.kinds import DEFAULTS, KINDS, NoColumnError, Row, Wanted, check_columns, named, usual_column
from pyroberta.data.paths import INFERRED, MOST_NAMES, Found, by_folder, check_kind, find, kind_of, some_names
from pyroberta.data.tables import Table, as_mapping, classes_of, is_record, is_stream, rows, table_of, with_items
from pyroberta.formats.budget import shown, type_of
from pyroberta.formats.counts import agreeing, counted, share
from pyroberta.model.attributes import true_or_false
from pyroberta.model.callers import callers_level
from pyroberta.model.hints import hinting
from pyroberta.text.given import bytes_error, opened, refuse_endless, refuse_names_of_files

MOST_RECENT = 4096  # rows of a stream whose places are kept for messages
Column = str | tuple[str, ...] | None  # of the texts, or of their segments
_OF_A_FILE = {  # arguments of functions elsewhere -> what to write
    "encoding": "open(path, encoding=...) opens a file in another encoding. Pass the open file",
    **dict.fromkeys(
        ("sep", "delimiter"),
        "commas, semicolons, bars and tabs are told apart. For another delimiter, pass "
        "csv.DictReader(file, delimiter=...) with column=",
    ),
    **dict.fromkeys(("text", "text_column"), "column= names the column of the texts"),
    "label_column": "label= names the column of the labels",
}
OF_OPEN_SOURCE = {
    "kind": "give it to pyroberta.data.open_source, with column=, label= and per_line=, and pass what that returns",
    **_OF_A_FILE,
}


class Source:
    """Texts, and perhaps labels, in the order of the input. Iteration yields the texts.

    Attributes:
        texts: the texts, in a form that `fit` takes.
        labels: a label for each text. None if no column of labels was named.
        classes: the names of the classes, if the column of labels has numbers with names (`ClassLabel` of `datasets`),
            else None.
        description: a line that says what was read. It is empty for input in memory.
        is_once: whether the texts can be read only once, and were not read yet.
        argument: the argument by which the texts were given, for messages. It is empty for x.
    """

    is_once = False
    argument = ""
    labels: Sequence[Any] | None = None
    has_labels = False
    classes: list[str] | None = None
    description = ""

    def __init__(self, texts: Any) -> None:
        self.texts = texts

    def __iter__(self) -> Iterator[Any]:
        return iter(self.texts)

    def stream(self) -> Iterable[Any]:
        """Returns an iterable of the texts."""
        return iter(self)

    def place(self, number: int) -> str:
        """Returns the place of a text, for messages."""
        return f"text {number}"

    def say(self, verbose: int | str = 1) -> None:
        """Prints the description on stderr, once, unless `verbose` is 0 or there is none."""

    def warn(self) -> None:
        """Warns once, if rows that were read have empty texts."""


class _EmptyTexts:
    """Counts the rows that were read, and those whose text has nothing but white space, by column."""

    def __init__(self) -> None:
        self.rows = 0
        self._found: dict[Any, tuple[int, str]] = {}  # column: the number of rows, and the place of the first

    def add(self, column: Any, place: str) -> None:
        """Counts a text of a column. `place` is the name of its row."""
        count, first = self._found.get(column, (0, place))
        self._found[column] = count + 1, first

    def summary(self, row: str) -> str:
        """Returns a sentence about the empty texts, or an empty text if there are none. `row` is the word for a row."""
        parts: list[str] = []
        total = 0
        for column, (count, first) in self._found.items():
            some = f"{count} {agreeing(count, 'has')}" if parts else share(count, self.rows, row, "has")
            where = "" if column is None else f" in the column {column!r}"
            parts.append(f"{some} an empty text{where} ({'the first is ' * (count > 1)}{first})")
            total += count
        which = "which is read as it is" if total == 1 else "which are read as they are"
        return f"{' and '.join(parts)}, {which}" if parts else ""


class Rows(Source):
    """The texts of the rows of a file or a table. They are read when they are needed.

    Args:
        name: the name of the file or the table, for messages.
        read: a function that returns a new iterator over (part, row) at each call. A part is an index into `parts`.
        parts: the unit of a place in each part, such as "a.csv, line" or "row".
        wanted: the columns that are read.
        is_held: whether the rows are in memory already, so that reading them step by step saves nothing.
        is_once: whether the rows can be read only once.
        describe: a function that returns a description of the input, without the number of texts. It returns an empty
            text for input in memory.
        classes: see `Source`.
        advice: the advice for missing values, for messages.
        given: the input from which the rows are read, if it is in memory, else None.
        paths: the number of paths in `name`.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], Iterator[tuple[int, Row]]],
        parts: Sequence[str],
        wanted: Wanted,
        *,
        is_held: bool = False,
        is_once: bool = False,
        describe: Callable[[], str] = str,
        classes: list[str] | None = None,
        advice: str = "Fill or leave out such rows first",
        given: Any = None,
        paths: int = 1,
    ) -> None:
        self.name, self.wanted, self.classes = name, wanted, classes
        self.is_held, self.is_once = is_held, is_once
        self.has_labels = wanted.label is not None
        self._read, self._parts, self._describe, self._advice = read, parts, describe, advice
        self._given, self._paths = given, paths
        self._held: tuple[list[Any], list[Any]] | None = None
        self._places, self._starts = array("q"), [0]
        self._recent, self._count = deque[tuple[int, int]](), 0  # part and place of rows that are read step by step
        self._is_said = False
        self._empty_texts = _EmptyTexts()
        self._is_streamed = self._is_warned = False

    @property
    def texts(self) -> Any:
        """All texts. Each is a string, or a tuple of segments."""
        return self._all()[0]

    @property
    def labels(self) -> Sequence[Any] | None:  # type: ignore[override]
        """All labels."""
        return self._all()[1] if self.has_labels else None

    @property
    def description(self) -> str:  # type: ignore[override]
        """A line that says what was read."""
        found = self._describe()
        return found if self._held is None or not found else f"{found}, {counted(len(self._held[0]), self._row)}"

    @property
    def _subject(self) -> str:
        """The name, for messages, with the argument that it is unless that is x."""
        if not self.argument:
            return self.name
        return self.argument if self.name == "x" else f"{self.argument}: {self.name}"

    @property
    def _row(self) -> str:
        return "row" if self.wanted.columns else "text"

    def stream(self) -> Iterable[Any]:
        """Returns an iterable of the texts, or of pairs (text, label), which reads them step by step. Each iteration
        reads the rows again, unless they can be read only once.
        """
        return self._checked() if self.is_once else _Again(self._checked)

    def place(self, number: int) -> str:
        """Returns the place of a text, such as "a.csv, line 17". If texts are read step by step, the places of the last
        `MOST_RECENT` are known.
        """
        first = self._count - len(self._recent)
        if self._held is None and first <= number < self._count:
            part, place = self._recent[number - first]
            return f"{self._parts[part]} {place}"
        if number >= len(self._places):
            return f"text {number}"
        part = int(np.searchsorted(self._starts, number, side="right")) - 1
        return f"{self._parts[part]} {self._places[number]}"

    def say(self, verbose: int | str = 1) -> None:
        """Prints the description."""
        if verbose and self.description and not self._is_said:
            self._is_said = True
            print(self.description, file=sys.stderr)

    def warn(self) -> None:
        """Warns once, if rows that were read have empty texts. Reading all rows does so too.

        Warns:
            UserWarning: at the line of the package's caller. The message has the counts by column, and the first place.
        """
        summary = self._empty_texts.summary(self._row)
        if summary and not self._is_warned:
            self._is_warned = True
            advice = f"Leave such {self._row}s out first, if the texts are missing"
            warnings.warn(f"{self._subject}: {summary}. {advice}", stacklevel=callers_level())

    def _all(self) -> tuple[list[Any], list[Any]]:
        """The texts and the labels, read at the first call."""
        if self._held is None:
            refuse_endless(self._given, "x", "Give steps= (in fit steps_per_epoch=). ")
            texts: list[Any] = []
            labels: list[Any] = []
            missing: dict[Any, list[str]] = {}
            self._places, self._starts = array("q"), [0]
            self._empty_texts = _EmptyTexts()
            for part, (place, text, label) in self._read():
                while part >= len(self._starts):
                    self._starts.append(len(texts))
                if not (type(text) is str and (not self.has_labels or type(label) is int)):  # which most are
                    where = f"{self._parts[part]} {place}"
                    for column in self._missing(text, label):
                        missing.setdefault(column, []).append(where)
                    if not missing:
                        self._check(text, label, where)
                if not missing:
                    self._note(text, part, place)
                    texts.append(text)
                    labels.append(_plain(label))
                    self._places.append(place)
            if missing:
                raise ValueError(self._missed(missing))
            if not texts:
                raise self._empty()
            self._held = texts, labels
            self.is_once = False
            self.warn()
        return self._held

    def _checked(self) -> Iterator[Any]:
        """The texts, or pairs (text, label), while they are read. Those of the first pass are counted."""
        if self._held is not None:
            yield from zip(*self._held, strict=True) if self.has_labels else self._held[0]
            return
        self._recent, self._count = deque[tuple[int, int]](maxlen=MOST_RECENT), 0
        is_first, self._is_streamed = not self._is_streamed, True
        for part, (place, text, label) in self._read():
            self._recent.append((part, place))
            self._count += 1
            where = f"{self._parts[part]} {place}"
            for column in self._missing(text, label):
                raise ValueError(self._missed({column: [where]}))
            self._check(text, label, where)
            if is_first:
                self._note(text, part, place)
            yield (text, _plain(label)) if self.has_labels else text
        if not self._count:
            raise self._empty()

    def _empty(self) -> ValueError:
        """The error for an input without a text."""
        rows = "row below its head, or none at all" if self.wanted.columns else "line that is not blank"
        subject = "it has" if self._paths == 1 else "they have"
        return ValueError(f"{self._subject} {agreeing(self._paths, 'holds')} no text: {subject} no {rows}")

    def _note(self, text: Any, part: int, place: int) -> None:
        """Counts a row, and its empty texts."""
        self._empty_texts.rows += 1
        for column, segment in zip(
            self.wanted.columns or (None,), text if self.wanted.is_pair else (text,), strict=True
        ):
            if not segment or segment.isspace():
                self._empty_texts.add(column, f"{self._parts[part]} {place}")

    def _missing(self, text: Any, label: Any) -> Iterator[Any]:
        """The names of the columns in which a row has no value."""
        segments = text if self.wanted.is_pair else (text,)
        for column, segment in zip(self.wanted.columns or (None,), segments, strict=True):
            if is_missing(segment):
                yield column
        if self.has_labels and (is_missing(label) or (isinstance(label, str) and not label.strip())):
            yield self.wanted.label

    def _missed(self, missing: dict[Any, list[str]]) -> str:
        """The message about missing values, by column."""
        found = [
            f"{counted(len(places), 'row')} {agreeing(len(places), 'has')} no value"
            + ("" if column is None else f" in the column {column!r}")
            + f" ({', '.join(places[:MOST_NAMES])}{', …' * (len(places) > MOST_NAMES)})"
            for column, places in missing.items()
        ]
        return f"{self._subject}: {'; '.join(found)}. {self._advice}"

    def _check(self, text: Any, label: Any, where: str) -> None:
        """Checks that a row holds texts, and a label that can be one."""
        segments = text if self.wanted.is_pair else (text,)
        for column, segment in zip(self.wanted.columns or (None,), segments, strict=True):
            if isinstance(segment, bytes | bytearray):
                raise bytes_error(where, segment)
            if not isinstance(segment, str):
                inside = "" if column is None else f" in the column {column!r}"
                advice = ". Pass single rows, not batches" if isinstance(segment, list | tuple) else ""
                raise TypeError(f"{where}: a text{inside} must be a string, got {shown(segment)}{advice}")
        if self.has_labels and not isinstance(label, str | int | float | np.generic):
            raise TypeError(
                f"{where}: a label in the column {self.wanted.label!r} must be a name, a boolean or a number, got "
                f"{shown(label)}"
            )


class _Again:
    """An iterable without a length that begins anew at each iteration."""

    def __init__(self, begin: Callable[[], Iterator[Any]]) -> None:
        self._begin = begin

    def __iter__(self) -> Iterator[Any]:
        return self._begin()


@hinting(**_OF_A_FILE)
def open_source(
    x: Any,
    *,
    column: Any = None,
    label: Any = None,
    kind: str | None = None,
    per_line: bool = True,
) -> Source:
    """Returns the source of the texts and labels in an input. Files are read when the texts are needed.

    Args:
        x: a path (which may be a string), a list of paths, an open file, a table (pandas, polars, pyarrow, `datasets`,
            a dict of columns, a structured array), records (dicts or named tuples), or texts in any other form, which
            stay as they are.
        column: the name of the column of the texts, or a tuple of names for their segments. A table needs it. Lines of
            text have no columns.
        label: the name of the column of the labels. "inferred", without a column, stands for the folders of a
            directory: each file is a text, and the name of its folder is its label.
        kind: the kind of a file whose name has no known suffix: "text", "csv", "tsv", "jsonl", "json" or "parquet".
        per_line: whether each line of a text file is a text. If False, each file is one text.

    Returns:
        A `Source`. `fit` and all other methods take it instead of texts.

    Raises:
        FileNotFoundError: if a file does not exist.
        TypeError, ValueError: if x is a table and `column` is missing (the message has the line to write), or if an
            argument has no effect on x.

    >>> source = open_source([{"text": "A joy.", "stars": 5}, {"text": "A waste.", "stars": 1}], column="text")
    >>> source.texts
    ['A joy.', 'A waste.']
    """
    return open_given(x, wanted_of(column, label, per_line), kind)


def open_given(x: Any, wanted: Wanted, kind: str | None = None, *, is_optional: bool = False) -> Source:
    """Does what `open_source` does. With `is_optional`, column and label are ignored if the input has no columns, and
    per_line is ignored if it is no text file.
    """
    if isinstance(x, Source):
        if (wanted != DEFAULTS or kind is not None) and not is_optional:
            raise ValueError("x was opened by open_source: pass column=, label=, kind= and per_line= to open_source")
        return x
    paths = _paths(x)
    wanted = wanted._replace(is_said=kind is not None)
    is_inferred = not wanted.columns and isinstance(wanted.label, str) and wanted.label == "inferred"
    if is_inferred and paths is None:
        if not is_optional:
            raise ValueError(f"{INFERRED} takes the names of the folders in a directory, but x is {type_of(x)}")
        wanted = wanted._replace(label=None)
    if is_inferred and paths is not None:
        files = by_folder(paths, find(paths, kind, in_folders=True))
        return _of_files(files, wanted._replace(per_line=False), is_optional=False)
    if wanted.label is not None and not wanted.columns:
        hint = (
            "" if paths is None else f". {columns_of(paths, kind)}In a directory, {INFERRED} takes the folders' names"
        )
        raise ValueError(
            f"label={wanted.label!r} names the column of the labels: name the column of the texts too, with "
            f"column={hint}"
        )
    if paths is not None:
        return _of_files(find(paths, kind), wanted, is_optional)
    if is_file(x):
        check_kind(kind)
        file, name = file_of(x), getattr(x, "name", None)
        is_bytes = not isinstance(x.read(0), str)
        found = kind or kind_of(name if isinstance(name, str) else "")
        file.packed = split_suffixes(file.path)[1] if is_bytes else ""
        return _of_files(Found(file.name, (file,), found), wanted, is_optional)
    for argument, value in (("kind", kind), ("per_line", None if wanted.per_line or is_optional else False)):
        if value is not None:
            refuse_names_of_files(x)
            raise ValueError(f"{argument}={value!r} applies to files, but x is {type_of(x)}. Leave it out")
    table = table_of(x, bool(wanted.columns))
    if table is not None:
        return _of_table(table, wanted)
    if not wanted.columns:
        _refuse_untold(x)
        return Source(x)
    return _of_records(x, wanted, is_optional)


def wanted_of(column: Any, label: Any = None, per_line: bool = True) -> Wanted:
    """Returns the arguments of `open_source`, checked as far as they can be without x.

    Raises:
        TypeError, ValueError: if an argument can't be one, or two contradict each other.
    """
    is_pair = isinstance(column, tuple | list)
    columns = () if column is None else tuple(column) if is_pair else (column,)
    for argument, name in (("label", label), *(("column", name) for name in columns)):
        if not isinstance(name, Hashable):
            raise TypeError(f"{argument} should be the name of a column, got {shown(name)}")
    per_line = true_or_false("per_line", per_line)
    if is_pair and not columns:
        raise ValueError("column is empty: name the column of the texts, or those of their segments")
    if twice := [name for i, name in enumerate(columns) if name in columns[:i]]:
        raise ValueError(f"column names {twice[0]!r} twice, but a text is no pair with itself. Name each column once")
    if label is not None and label in columns:
        raise ValueError(f"column and label are both {label!r}, but a text can't be its own label. Name another column")
    return Wanted(columns, is_pair, label, per_line)


def is_one_text(x: Any, wanted: Wanted) -> bool:
    """Returns whether x is one text where a string is: a string, unless `wanted` says that it is a path.

    >>> is_one_text("a fox", wanted_of(None)), is_one_text("a.txt", wanted_of(None, per_line=False))
    (True, False)
    """
    return isinstance(x, str) and wanted == DEFAULTS


def columns_of(paths: Sequence[str], kind: str | None) -> str:
    """Returns a sentence about the columns of the first file of paths, and a space behind it. It is empty for a pipe,
    which can be read only once.

    Raises:
        FileNotFoundError, ValueError: if no file is found, or it can't be read.
    """
    found = find(paths, kind)
    file = found.files[0]
    if not os.path.isfile(file.path):
        return ""
    try:
        next(KINDS[found.kind].read(file, Wanted(is_said=kind is not None)), None)
    except NoColumnError as error:
        return f"{file.name} has the column{'s' * (len(error.columns) != 1)} {named(error.columns)}. "
    return f"{file.name} has no columns. "


def _paths(x: Any) -> list[str] | None:
    """The paths that x is; None for anything else."""
    some = [x] if isinstance(x, str) or is_path(x) else x
    is_given = isinstance(x, str) or (isinstance(some, list | tuple) and bool(some) and all(map(is_path, some)))
    return [os.fsdecode(path) for path in some] if is_given else None


def _of_files(found: Found, wanted: Wanted, is_optional: bool) -> Source:
    kind = KINDS[found.kind]
    if is_optional and found.kind == "text":
        wanted = wanted._replace(columns=(), label=None, is_pair=False)
    elif is_optional:
        wanted = wanted._replace(per_line=True)
    if not wanted.per_line and found.kind != "text":
        raise ValueError(
            f"per_line=False applies to text files, but {found.name} {agreeing(found.paths, 'is')} {kind.title}. Leave "
            "it out"
        )
    without_text: set[str] = set()  # of which a warning was given
    return Rows(
        found.name,
        lambda: _rows_of_files(found.files, found.kind, wanted, without_text),
        [f"{file.name}, {kind.place}" for file in found.files],
        wanted,
        is_once=any(file.is_once for file in found.files),
        describe=lambda: _described(found, wanted),
        paths=found.paths,
    )


def _rows_of_files(
    files: Sequence[File], kind: str, wanted: Wanted, without_text: set[str]
) -> Iterator[tuple[int, Row]]:
    """The rows of the files, one file after the other. Files without a row among others are named in a warning and
    added to `without_text`.
    """
    blank: list[str] = []
    for part, file in enumerate(files):
        start, is_blank = _position(file.opened), True
        try:
            for place, text, label in KINDS[kind].read(file, wanted):
                is_blank = False
                yield part, (place, text, file.folder or label)
        except ValueError:
            if start is not None:
                file.opened.seek(start)  # it may be read in another way
            raise
        if is_blank:
            blank.append(file.name)
    if len(blank) < len(files) and not without_text.issuperset(blank):
        without_text.update(blank)
        warnings.warn(
            f"{share(len(blank), len(files), 'file', 'holds')} no text: {some_names(blank)}. Look at what "
            "should be there, or leave such files out",
            stacklevel=callers_level(),
        )


def _position(opened_file: Any) -> Any:
    """The position in an open file; None if it can't be set."""
    try:
        return opened_file.tell() if opened_file.seekable() else None
    except (AttributeError, OSError, ValueError):
        return None


def _described(found: Found, wanted: Wanted) -> str:
    """A line about files: which they are, their kind, the columns."""
    title = KINDS[found.kind].title
    if found.kind == "text":
        title = "text, one a line" if wanted.per_line else "one text a file"
    packed = sorted({file.packed for file in found.files} - {""})
    notes = sorted({file.note for file in found.files} - {""})
    parts = [title, *(f"packed by {way}" for way in packed), *notes]
    if wanted.columns:
        parts.append(f"column{'s' * wanted.is_pair} {named(wanted.columns)}")
    if folders := {file.folder for file in found.files} - {""}:
        parts.append(f"labels {named(sorted(folders))}, the folders' names")
    elif wanted.label is not None:
        parts.append(f"labels {wanted.label!r}")
    names = [file.name for file in found.files]
    if names != [found.name]:
        which = some_names(names)
        parts.append(counted(len(names), "file") + f" ({which})" * (which != found.name))
    if found.left_out:
        parts.append(f"left out {some_names(found.left_out)}")
    return f"{found.name}: {', '.join(parts)}"


def _of_table(table: Table, wanted: Wanted) -> Source:
    if not wanted.columns:
        raise _untold(table.title, table.names)
    check_columns("x", table.title, table.names, wanted)
    advice = "Fill or leave out such rows first"
    if table.title.endswith("pandas DataFrame"):
        advice += f": df.dropna(subset={list(wanted.names)!r})"
    return Rows(
        "x",
        lambda: ((0, wanted.row(i, values)) for i, values in enumerate(rows(table, wanted.names))),
        ["row"],
        wanted,
        is_held=True,
        classes=table.classes(wanted.label),
        advice=advice,
    )


def _refuse_untold(x: Any) -> None:
    """Checks that x is no table of records, of which no column was named."""
    if is_stream(x):
        raise _untold("a datasets IterableDataset", list(getattr(x, "column_names", None) or []))
    if isinstance(x, list) and x and isinstance(x[0], Mapping) and _holds_texts(x[0]):
        raise _untold("a list of records", list(x[0]))
    if isinstance(x, Mapping) and _holds_texts(x):
        raise TypeError(
            f"x is a record, a dict of {named(x)}. Pass a list of records, and column={usual_column(list(x))!r}"
        )


def _untold(title: str, names: list[Any]) -> TypeError:
    """The error for a table whose column of texts was not named."""
    columns = f" with the column{'s' * (len(names) != 1)} {named(names)}" if names else ""
    return TypeError(f"x is {title}{columns}. Name the column of the texts: column={usual_column(names)!r}")


def _of_records(x: Any, wanted: Wanted, is_optional: bool) -> Source:
    """The rows of an iterable of records."""
    x = x if is_stream(x) else with_items(opened(x))
    if isinstance(x, str | bytes) or not isinstance(x, Iterable):
        raise TypeError(f"column={wanted.columns[0]!r} names a column, but x is {type_of(x)}, which has no columns")
    if is_optional:
        iterator = iter(x)
        first = list(islice(iterator, 1))
        x = chain(first, iterator) if iterator is x else x
        if not any(map(is_record, first)):
            return Source(x)

    def read() -> Iterator[tuple[int, Row]]:
        for i, item in enumerate(x):
            if not is_record(item):
                raise TypeError(
                    f"column={wanted.columns[0]!r} names a column, but item {i} of x is {type_of(item)}, which has no "
                    "columns. Leave column= out, or pass records: dicts"
                )
            record = as_mapping(item)
            if record.get(None) is not None:  # where csv.DictReader puts what has no name
                raise ValueError(
                    f"row {i} of x has more fields than there are names of columns: {shown(record[None])} has no name"
                )
            for name in wanted.names:
                if name not in record:
                    raise ValueError(f"row {i} of x has no {name!r}. Its names are {named(record)}")
            yield 0, wanted.row(i, [record[name] for name in wanted.names])

    is_held, is_once = isinstance(x, Sized), iter(x) is x
    classes = classes_of(x, wanted.label)
    return Rows("x", read, ["row"], wanted, is_held=is_held, is_once=is_once, classes=classes, given=x)


def _holds_texts(record: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, str) for value in record.values())


def is_missing(value: Any) -> bool:
    """Returns whether a value stands for a missing one: None, NaN, or pandas' NA and NaT.

    >>> is_missing(float("nan")), is_missing(""), is_missing(0)
    (True, False, False)
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(value != value)


def _plain(label: Any) -> Any:
    """NumPy's scalars as Python's."""
    return label.item() if isinstance(label, np.generic) else label
