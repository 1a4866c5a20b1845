"""Counts the peers' claims that the package holds, and writes the tables into the pages for those who come from there.

    python scripts/count_claims.py          # the counts
    python scripts/count_claims.py --write  # docs/coming_from_keras.md, docs/coming_from_huggingface.md

The claims themselves are tests: python -m pytest tests/peers -m "parity or not parity".
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "tests" / "peers")]

import claims  # noqa: E402
import different  # noqa: E402
import outside  # noqa: E402


def main() -> None:
    held, theirs = claims.counts(), claims.tests_of_theirs()
    print(f"{'their file':<78}{'their tests':>12}{'claims':>8}")
    for file in sorted(held):
        print(f"{file:<78}{theirs[file]:>12}{held[file]:>8}")
    print(f"{'together':<78}{sum(theirs.values()):>12}{sum(held.values()):>8}")
    every = {source for one in different.DIFFERENT for source in one.sources}
    covered = {source for one in claims.marked("claim") for source in one.sources}
    print(
        f"done otherwise: {len(different.DIFFERENT)} behaviours in {len(every)} of their tests, of which "
        f"{len(every & covered)} hold in part; outside of what this library is: {len(outside.sources())} of their tests"
    )
    if "--write" in sys.argv[1:]:
        for page, peers in claims.PAGES.items():
            (claims.DOCS / page).write_text(claims.written(page, peers), encoding="utf-8")


if __name__ == "__main__":
    main()
