"""The tables of the claims, as the pages have them. scripts/count_claims.py writes them."""

from __future__ import annotations

import re
from pathlib import Path

import claims
from different import DIFFERENT

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = {"coming_from_keras.md": ("keras/", "keras_hub/"), "coming_from_huggingface.md": ("transformers/",)}
SECTION = re.compile(
    r"(?<=<!-- claims: written by scripts/count_claims\.py -->\n).*?(?=<!-- end of claims -->)", re.DOTALL
)


def table(peers: tuple[str, ...]) -> str:
    """The counts by the peer's file, and what differs."""
    held, theirs = claims.counts(), claims.tests_of_theirs()
    files = sorted(file for file in held if file.startswith(peers))
    rows = [f"| `{file}` | {theirs[file]} | {held[file]} |" for file in files]
    rows.append(f"| together | {sum(theirs[file] for file in files)} | {sum(held[file] for file in files)} |")
    rows_here = [one for one in DIFFERENT if one.sources[0].startswith(peers)]
    others = [f"| {one.theirs} | {one.ours} | {one.why} | {_links(one.sources)} |" for one in rows_here]
    covered = {source for one in claims.marked("claim") for source in one.sources if source.startswith(peers)}
    every = {source for one in rows_here for source in one.sources}
    apart = every - covered
    return "\n".join(
        [
            "",
            "| test file of the peer | its tests that hold here | claims tested here |",
            "|---|---|---|",
            *rows,
            "",
            f"Of the peer's tests that apply, {len(covered)} hold here ({len(every & covered)} only in part) and "
            f"{len(apart)} do not:",
            f"{len(covered) / (len(covered) + len(apart)):.1%} hold. tests/peers/outside.py lists those that do not "
            "apply, with the reason.",
            "",
            f"The differences, in {len(others)} rows:",
            "",
            "| the peer | here | reason | the peer's tests |",
            "|---|---|---|---|",
            *others,
            "",
            "",
        ]
    )


def _links(sources: tuple[str, ...]) -> str:
    return ", ".join(dict.fromkeys(f"`{source.rpartition('::')[2]}`" for source in sources))


def written(page: str, peers: tuple[str, ...]) -> str:
    """A page's text with the tables as they should be."""
    text = (DOCS / page).read_text(encoding="utf-8")
    if not SECTION.search(text):
        raise ValueError(f"{page} has no place for the tables of claims")
    return SECTION.sub(lambda _: table(peers), text)
