"""A page links a learned term to the glossary where it uses the term first.

The glossary prints these terms in bold. A use is one in the sentences of a page, without code, headings and tables. The
first use is right if it is in a link, to the glossary's section or to a page that says more, or in bold, as where a
page explains the term itself. A page whose title has the term is about it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import ROOT

GLOSSARY = ROOT / "docs" / "glossary.md"
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page != GLOSSARY)]


def linked_terms(glossary: str) -> dict[str, str]:
    """The terms in bold in the tables of a glossary, and the anchors of their sections."""
    sections = re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", glossary, flags=re.MULTILINE)
    return {
        term: re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title, text in sections
        for term in re.findall(r"^\| \*\*(.+?)\*\* ", text, flags=re.MULTILINE)
    }


TERMS = linked_terms(GLOSSARY.read_text("utf-8"))


def sentences(page: str) -> str:
    """The page with blanks for fences, code, headings and tables."""

    def blank(found: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", found[0])

    for pattern in (r"^```.*?^```$", r"^#.*?$", r"^\|.*?$", r"`[^`]*`"):
        page = re.sub(pattern, blank, page, flags=re.MULTILINE | re.DOTALL)
    return page


def unlinked(page: str, terms: dict[str, str]) -> list[str]:
    """The terms whose first use on a page is not right, as `line: term`, and the link that it should be."""
    text, wrong = sentences(page), []
    links = [(*found.span(), found[1]) for found in re.finditer(r"\[[^\]]*\]\(([^)]*)\)", text)]
    spans = [(*found.span(), "") for found in re.finditer(r"\*\*.+?\*\*", text, flags=re.DOTALL)] + links
    text = re.sub(r"\]\([^)]*\)", lambda found: " " * len(found[0]), text)  # a target is no sentence
    words = "|".join(re.escape(term.rstrip("s")).replace(r"\ ", r"\s+") for term in sorted(terms, key=len)[::-1])
    seen = {term.rstrip("s") for term in terms if re.search(re.escape(term), page.partition("\n")[0], re.IGNORECASE)}
    singular = {term.rstrip("s"): term for term in terms}
    for found in re.finditer(rf"(?<![\w-])({words})s?(?![\w-])", text, flags=re.IGNORECASE):
        name = re.sub(r"\s+", " ", found[1].lower())
        if name in seen:
            continue
        seen.add(name)
        goal = f"glossary.md#{terms[singular[name]]}"
        targets = [target for start, end, target in spans if start <= found.start() < end]
        if not any("glossary.md" not in target or target.endswith(goal) for target in targets):
            wrong.append(f"{text[: found.start()].count(chr(10)) + 1}: {name} -> {goal}")
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_first_use_of_a_term_is_a_link(page: Path) -> None:
    assert unlinked(page.read_text("utf-8"), TERMS) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_leads_to_the_glossary(page: Path) -> None:
    """The pages of the ops lead there by their overview, which has the letters."""
    text = page.read_text("utf-8")
    assert (
        re.search(r"\]\([^)]*glossary\.md|\]\(index\.md", text) if page.parent.name == "ops" else "glossary.md" in text
    )


# The harness itself.


def test_the_glossary_has_terms_in_bold() -> None:
    assert len(TERMS) > 20
    assert TERMS["packed batch"] == "texts-and-batches"
    assert linked_terms("## A b\n\n| **one** | x |\n| two | **y** |\n\n## C\n\n| **three** |\n") == {
        "one": "a-b",
        "three": "c",
    }


@pytest.mark.parametrize(
    ("page", "wrong"),
    [
        ("# A\n\nThe preset is.", ["3: preset -> glossary.md#presets"]),
        ("# A\n\nAll presets are.", ["3: preset -> glossary.md#presets"]),
        (
            "# A\n\nA built-in\npreset, a preset",
            ["3: built-in preset -> glossary.md#presets", "4: preset -> glossary.md#presets"],
        ),
        ("# A\n\nThe [preset](glossary.md#training) is.", ["3: preset -> glossary.md#presets"]),
        ("# A\n\nThe preset is [one](glossary.md#presets).", ["3: preset -> glossary.md#presets"]),
        ("# A\n\nThe [first\npreset](glossary.md#presets) is a preset.", []),
        ("# A\n\nThe [preset](presets.md) is a preset.", []),
        ("# A\n\nA **preset** is this. The preset.", []),
        ("# Presets\n\nA preset is.", []),
        ("# A\n\n## A preset\n\n| preset |\n\n`a preset` or `b\npreset`\n\n```sh\npreset\n```\n", []),
        ("# A\n\n[one](presets.md) is a preset-like thing", []),
    ],
)
def test_a_term_without_its_link_is_found(page: str, wrong: list[str]) -> None:
    assert unlinked(page, {"preset": "presets", "built-in preset": "presets"}) == wrong
