"""The kinds of files from which texts are read. Each kind has a module, and `KINDS` names them all.

The reader of a kind is a function of a `File` and a `Wanted`. It yields rows. A row has a place for messages (the
number of a line or of a row), a text or the tuple of a text's segments, and a label or None. The reader checks the form
of the file. `sources` checks for all kinds that values are texts and labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

from pyroberta.data.files import File
from pyroberta.formats.budget import clipped

Row = tuple[int, Any, Any]  # place, text or segments, label or None


class Wanted(NamedTuple):
    """The parts of each row that are read.

    Attributes:
        columns: the names of the columns of a text's segments. Empty if the file has no columns.
        is_pair: whether a text is a tuple of segments, and not a single string.
        label: the name of the column that holds the labels, or None.
        per_line: whether each line of a text file is a text. False if the file is one text.
        is_said: whether the user named the kind. False if it follows from the file's name.
    """

    columns: tuple[Any, ...] = ()
    is_pair: bool = False
    label: Any = None
    per_line: bool = True
    is_said: bool = False

    @property
    def names(self) -> tuple[Any, ...]:
        """The names of all columns that are read."""
        return self.columns if self.label is None else (*self.columns, self.label)

    def row(self, place: int, values: Any) -> Row:
        """Returns a row of the values of `names`, which are in the same order."""
        text = tuple(values[: len(self.columns)]) if self.is_pair else values[0]
        return place, text, None if self.label is None else values[-1]


DEFAULTS = Wanted()  # of a caller who passed none of these arguments


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        title: the name of the kind in messages.
        suffixes: the suffixes of file names of this kind.
        place: the unit of a row's place, "line" or "row".
        module: the module of the reader. It is imported when it is needed.
        function: the name of the reader in the module: (File, Wanted) -> rows.
    """

    title: str
    suffixes: tuple[str, ...]
    place: str
    module: str
    function: str

    @property
    def read(self) -> Callable[[File, Wanted], Iterator[Row]]:
        """The reader of the kind."""
        found: Callable[[File, Wanted], Iterator[Row]] = getattr(
            import_module(f"{__name__}.{self.module}"), self.function
        )
        return found


KINDS = {
    "text": Kind("text", (".txt", ".text"), "line", "lines", "read"),
    "csv": Kind("CSV", (".csv",), "line", "separated", "read_csv"),
    "tsv": Kind("TSV", (".tsv", ".tab"), "line", "separated", "read_tsv"),
    "jsonl": Kind("JSON lines", (".jsonl", ".ndjson"), "line", "json_values", "read_lines"),
    "json": Kind("JSON", (".json",), "row", "json_values", "read_whole"),
    "parquet": Kind("Parquet", (".parquet", ".pq"), "row", "parquet", "read"),
}
OF_SUFFIX = {suffix: name for name, kind in KINDS.items() for suffix in kind.suffixes}
# Files that no reader takes: what they are, and how their texts are had. {name} is the file's name.
OTHERS = {
    ".feather": ("a Feather file", "pandas.read_feather({name})"),
    ".arrow": ("an Arrow file", "pandas.read_feather({name})"),
    ".xlsx": ("an Excel file", "pandas.read_excel({name})"),
    ".xls": ("an Excel file", "pandas.read_excel({name})"),
    ".npy": ("a NumPy file", "numpy.load({name})"),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z"), ("an archive", "")),
    ".lz4": ("packed by lz4", ""),
    ".rtf": ("an RTF document", ""),
    ".pdf": ("a PDF file", ""),
    **dict.fromkeys((".doc", ".docx", ".odt"), ("a document of a word processor", "")),
}


class NoColumnError(ValueError):
    """The error for a table of which no column was named.

    Attributes:
        columns: the names of its columns.
    """

    def __init__(self, message: str, columns: list[Any]) -> None:
        super().__init__(message)
        self.columns = columns


def named(names: Any, most: int = 8) -> str:
    """Returns the first `most` of the names of columns, and the number of the others, for a message.

    >>> named(["id", "text"]), named([]), named(["a", "b", "c"], most=1)
    ("'id', 'text'", 'none', "'a' and 2 more")
    """
    names = list(names)
    some = ", ".join(
        repr(clipped(str(name), 40)) if isinstance(name, str) else repr(name)[:40] for name in names[:most]
    )
    return (some + (f" and {len(names) - most} more" if len(names) > most else "")) or "none"


def check_columns(name: str, kind: str, names: Any, wanted: Wanted) -> None:
    """Checks that a file or a table has each of the wanted columns once.

    Raises:
        ValueError: if a column is missing or there are two of its name. The message has the names of the columns.
        NoColumnError: if no column was named.
    """
    names = list(names)
    if not wanted.columns:
        usual = usual_column(names)
        raise NoColumnError(
            f"{name} is {kind} with the column{'s' * (len(names) != 1)} {named(names)}. Name the column of the texts: "
            f"column={usual!r}",
            names,
        )
    for column in wanted.names:
        count = names.count(column)
        if count != 1:
            problem = "has no column" if not count else f"has {count} columns of the name"
            source = ", the fields of its first row" if kind in ("CSV", "TSV") else ""
            raise ValueError(f"{name} {problem} {column!r}. Its columns are {named(names)}{source}")


def usual_column(names: list[Any]) -> Any:
    """Returns the name of the column that seems to hold the texts, for use in advice only.

    >>> usual_column(["id", "Text"]), usual_column(["title"]), usual_column(["id", "label"])
    ('Text', 'title', 'NAME')
    """
    from pyroberta.text.given import text_column

    found = text_column(names)
    return "NAME" if found == "COLUMN" else found
