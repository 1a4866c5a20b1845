"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Block:
    """One fenced block: its tag, its text and the line of the page on which the text starts, counted from 1."""

    tag: str
    text: str
    line: int


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order. A fence that is never closed is an error."""
    lines = page.splitlines()
    opened: int | None = None
    tag = ""
    for i, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if opened is None:
            opened, tag = i, line[3:].strip()
        else:
            yield Block(tag, "\n".join(lines[opened + 1 : i]) + "\n", opened + 2)
            opened = None
    if opened is not None:
        raise ValueError(f"the block that opens on line {opened + 1} is never closed")
