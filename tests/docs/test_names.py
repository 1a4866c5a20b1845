"""No name of ours is a word that the glossary avoids: its "not" columns hold, in `code`, the words that no name has.

A name is that of a function, a class, an argument, a variable, an attribute or a file, in Python and in C++. A word may
not be a part of it either: `is_there` and `ThereItIs` have `there`. The words of a sentence are free: those of comments
and texts, of headings, and of a test's name, which is a sentence. The terms under "Words to avoid" stand in no
heading. Rooms behind a word limit it to their names, and "alone" to whole names and whole headings.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
GLOSSARY = "docs/glossary.md"
TERMS, NO_NAMES = "Words to avoid", "Words that are no names"  # sections of the glossary

# Names that an interface outside of this project has fixed, and the interface.
FOREIGN = {
    "iterations": "Keras: an optimizer's number of updates, and its name in a file of Keras",
    "_create_attention_masks": "transformers: a method of its RoBERTa that a test replaces",
}

PYTHON_TEXTS = re.compile(
    r"#[^\n]*|(\b[a-zA-Z]{1,2})?("
    r'"""(?:\\.|[^\\])*?"""|' + r"'''(?:\\.|[^\\])*?'''|" + r'"(?:\\.|[^"\\\n])*"|' + r"'(?:\\.|[^'\\\n])*')",
    re.DOTALL,
)
IDENTIFIER = re.compile(r"[^\W\d]\w*")
CPP_TEXTS = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'", re.DOTALL)


class Limited(NamedTuple):
    """A word that no name of some rooms has, or is, if it is avoided alone; and what to use instead."""

    word: str
    is_alone: bool
    rooms: frozenset[str]
    instead: str


class Name(NamedTuple):
    """A name, or the text of a heading, and the line that has it."""

    line: int
    text: str


def components(name: str) -> list[str]:
    """The words of a name.

    >>> components("_is_there"), components("NOT_THERE"), components("ThereItIs")
    (['is', 'there'], ['not', 'there'], ['there', 'it', 'is'])
    """
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def rows_of(section: str) -> Iterator[list[str]]:
    """The cells of each row of a section of the glossary."""
    _, _, text = (ROOT / GLOSSARY).read_text("utf-8").partition(f"\n## {section}\n")
    return (line[2:-2].split(" | ") for line in text.partition("\n## ")[0].splitlines() if line.startswith("| "))


def avoided(section: str) -> dict[str, str]:
    """The words in `code` in the "not" column of a section of the glossary, and what it says to use instead."""
    return {word: cells[1] for cells in rows_of(section) for word in words_of(cells[0])}


def limited(cell: str, instead: str) -> Limited | None:
    """The word of a cell that names rooms; None for another cell.

    >>> limited("`table`, alone, in `cli`, `ops`", "ops table").is_alone, limited("`walk`", "forward")
    (True, None)
    """
    if not (found := re.fullmatch("`([a-z]+)`(, alone)?, in (`[a-z]+`(?:, `[a-z]+`)*)", cell)):
        return None
    return Limited(found[1], bool(found[2]), frozenset(re.findall("[a-z]+", found[3])), instead)


def words_of(cell: str) -> list[str]:
    """The words of a cell of the "not" column; none where a meaning of the word is avoided, and not the word.

    >>> words_of("`iteration`, `global step`"), words_of("masked, of a classifier's `<s>`")
    (['iteration', 'global step'], [])
    """
    return re.findall("`([^`]+)`", cell) if re.fullmatch("`[a-z ]+`(, `[a-z ]+`)*", cell) else []


AVOIDED = {section: avoided(section) for section in (TERMS, NO_NAMES)}
INSTEAD = AVOIDED[TERMS] | AVOIDED[NO_NAMES]
LIMITED = [found for cells in rows_of(TERMS) if (found := limited(*cells[:2]))]


@cache
def word_in(text: str, *sections: str) -> str:
    """The first word of the sections that a name has, in the singular or the plural; "" for none."""
    words = "|".join(word.replace(" ", "_") for section in sections for word in AVOIDED[section])
    found = re.search(f"_({words})s?_", f"_{'_'.join(components(text))}_")
    return found[1].replace("_", " ") if found else ""


def without(texts: re.Pattern[str], source: str) -> str:
    """The code without its comments and texts, on the same lines. Of Python's f-strings the code in braces stays."""

    def blank(found: re.Match[str]) -> str:
        is_format = found.re is PYTHON_TEXTS and "f" in (found[1] or "").lower()
        return " ".join(re.findall(r"\{[^{}]*", found[0])) if is_format else " " + "\n" * found[0].count("\n")

    return texts.sub(blank, source)


def python_names(source: str) -> Iterator[Name]:
    """The names that Python code gives. Only code that has one of the words at all is parsed: that takes long."""
    identifiers = set(IDENTIFIER.findall(without(PYTHON_TEXTS, source)))
    if any(word_in(name, TERMS, NO_NAMES) for name in identifiers if not name.startswith("test_")):
        yield from parsed_names(source)


def parsed_names(source: str) -> Iterator[Name]:
    """All names that Python code gives."""
    for node in ast.walk(ast.parse(source)):
        line = getattr(node, "lineno", 0)
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if not name.startswith("test_"):
                yield Name(line, name)
            case ast.arg(arg=name) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.Name(id=name, ctx=ast.Store()):
                yield Name(line, name)
            case ast.ClassDef(name=name) | ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)):
                yield Name(line, name)
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield Name(line, name)


def cpp_names(source: str) -> Iterator[Name]:
    """All identifiers of C++ code."""
    for number, line in enumerate(without(CPP_TEXTS, source).splitlines(), 1):
        yield from (Name(number, name) for name in IDENTIFIER.findall(line))


def headings(page: str) -> Iterator[Name]:
    """The headings of a page; what stands in `code` there is a name as well."""
    prose = re.sub(r"^```.*?^```", lambda code: "\n" * code[0].count("\n"), page, flags=re.MULTILINE | re.DOTALL)
    for number, line in enumerate(prose.splitlines(), 1):
        if line.startswith("#"):
            yield Name(number, line)


def files(*patterns: str) -> Iterator[tuple[str, str]]:
    """The files of those patterns below the root, and their texts."""
    for pattern in patterns:
        for path in sorted(ROOT.glob(pattern)):
            yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")


def named() -> Iterator[tuple[str, Name, tuple[str, ...]]]:
    """Every name of the project with its file, and the sections of the glossary whose words it must not have."""
    both = (TERMS, NO_NAMES)
    for file, text in files(*(f"{folder}/**/*.py" for folder in ("pyroberta", "tests", "scripts", "benchmarks"))):
        yield file, Name(0, file.removesuffix(".py")), both
        yield from ((file, name, both) for name in python_names(text))
    for file, text in files("csrc/**/*.?pp", "csrc/**/*.cu"):
        yield file, Name(0, file), both
        yield from ((file, name, both) for name in cpp_names(text))
    for file, text in files("*.md", "docs/**/*.md"):
        yield file, Name(0, file), both
        for line, heading in headings(text):
            yield file, Name(line, heading), (TERMS,)
            yield from ((file, Name(line, code), both) for code in re.findall("`([^`]+)`", heading))


def test_no_name_is_a_word_that_the_glossary_avoids() -> None:
    wrong, seen = [], set()
    for file, (line, name), sections in named():
        if word := word_in(name, *sections):
            if name in FOREIGN and not file.startswith("csrc/"):
                seen.add(name)
            else:
                wrong.append(f"{file}:{line}: {name} has `{word}`. {GLOSSARY} says: {INSTEAD[word]}")
    assert not wrong, "\n".join(wrong)
    assert {*FOREIGN} - seen == set(), "these names are used no more; take them from FOREIGN"


def limited_names(source: str, limits: list[Limited]) -> Iterator[tuple[Name, Limited]]:
    """The names of Python code that are, or have, a word of `limits`, in the singular or the plural."""
    if not re.search("|".join(one.word for one in limits) or "$^", source, re.IGNORECASE):
        return
    for name in parsed_names(source):
        words = components(name.text)
        for one in limits:
            forms = {one.word, f"{one.word}s"}
            if words in ([form] for form in forms) if one.is_alone else forms & set(words):
                yield name, one


def test_no_name_of_a_room_is_a_word_that_the_glossary_avoids_there() -> None:
    wrong = [
        f"{file}:{name.line}: {name.text} has `{one.word}`. {GLOSSARY} says: {one.instead}"
        for room in sorted({room for one in LIMITED for room in one.rooms})
        for file, text in files(f"pyroberta/{room}/**/*.py")
        for name, one in limited_names(text, [one for one in LIMITED if room in one.rooms])
    ]
    assert not wrong, "\n".join(wrong)


def test_no_heading_is_a_word_that_the_glossary_avoids_alone() -> None:
    alone = {one.word for one in LIMITED if one.is_alone}
    found = [
        f"{file}:{line}: {heading}"
        for file, text in files("*.md", "docs/**/*.md")
        for line, heading in headings(text)
        if heading.lstrip("# ").lower() in alone
    ]
    assert found == []


# The harness itself.


def test_the_glossary_has_the_words() -> None:
    assert {"told", "own", "there", "what", "nothing", "marks", "thing"} <= AVOIDED[NO_NAMES].keys()
    assert {"walk", "microbatch"} <= AVOIDED[TERMS].keys()
    assert all(INSTEAD.values())
    assert {one.word for one in LIMITED} == {"table", "rows", "weight", "variable", "tensor"}
    assert all((ROOT / "pyroberta" / room).is_dir() for one in LIMITED for room in one.rooms)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("table = 1", ["table"]),
        ("def _table(x): pass", ["_table"]),
        ("ops_table = output_table = 1", []),
        ("def f(weights, is_weight): pass", ["weights", "is_weight"]),
        ("weighty = f(weight=1)  # the weight", []),
    ],
)
def test_a_word_of_a_room_is_found(source: str, found: list[str]) -> None:
    limits = [Limited("table", True, frozenset(), ""), Limited("weight", False, frozenset(), "")]
    assert [name.text for name, _ in limited_names(source, limits)] == found


@pytest.mark.parametrize(
    "code",
    [
        "def is_there(): pass",
        "async def told(): pass",
        "class WhatItIs: pass",
        "def f(x, *, own): pass",
        "f = lambda *things: 0",
        "x.what = 1",
        "told: list[int] = []",
        "a, (b, *told) = x",
        "[0 for told in x]",
        "f'{[0 for told in x]}'",
        "if told := f(): pass",
        "for own, x in y: pass",
        "with f() as told: pass",
        "import x as there",
        "from x import y as there",
        "try: pass\nexcept E as told: pass",
        "match x:\n    case {'a': 1, **own}: pass",
        "match x:\n    case [1, *own]: pass",
        "match x:\n    case int() as own: pass",
        "def test_f(what): pass",
    ],
)
def test_a_name_of_python_is_found(code: str) -> None:
    assert [word_in(name, NO_NAMES) != "" for _, name in python_names(code)].count(True) == 1


@pytest.mark.parametrize(
    "code",
    [
        "x = 1  # what is there: told",
        '"""What is told."""',
        "x = 'what'; y = f'there {x}'",
        "def test_what_is_told(): pass; x = 0",
        "f(marks=1)",  # of a function that is defined elsewhere
        "somewhat = owner = clothing = landmarks = 1",
        "x = y.what + there(z)",
    ],
)
def test_a_word_of_a_sentence_and_anothers_name_are_free(code: str) -> None:
    assert [name for _, name in python_names(code) if word_in(name, TERMS, NO_NAMES)] == []


def test_names_of_c_plus_plus_are_its_identifiers() -> None:
    code = "// what\nint own_rows = f(\"there\", 'x'); /* nothing\ntold */ Thing<int> thing;\n"
    assert [(line, name) for line, name in cpp_names(code) if word_in(name, NO_NAMES)] == [
        (2, "own_rows"),
        (3, "Thing"),
        (3, "thing"),
    ]


def test_headings_are_outside_of_code() -> None:
    assert [*headings("# A `walk`\n```sh\n# no heading\n```\n## What it is\n")] == [
        (1, "# A `walk`"),
        (5, "## What it is"),
    ]
