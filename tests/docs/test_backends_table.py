"""The page on backends has, in a table, what computes each row of each backend; the table is made here, too."""

from __future__ import annotations

from dataclasses import fields
from itertools import groupby

import numpy as np
from native_extension import needs_native
from op_arguments import call_with
from pages import ROOT

from pyroberta.backends import bfloat16, get_ops
from pyroberta.ops import REFERENCE, Ops

HEAD = ["| rows | `numpy` | `native-blas` | `native` | `numpy` in bfloat16 |", "|---|---|---|---|---|"]


def rounding_rows(monkeypatch) -> set[str]:
    """The rows of the reference of bfloat16 that round a factor of a product."""
    calls, rounded = [], bfloat16.rounded_to_bfloat16
    monkeypatch.setattr(bfloat16, "rounded_to_bfloat16", lambda x: (calls.append(x.shape), rounded(x))[1])
    found, table = set(), get_ops("numpy", "mixed_bfloat16")
    for field in fields(Ops)[1:]:
        op, arguments = call_with(field.name, np.float32, seed=0, ops=table)
        calls.clear()  # those of the forward that made the cache
        op(*arguments)
        found |= {field.name} if calls else set()
    return found


@needs_native
def test_the_page_on_backends_says_what_computes_each_row(monkeypatch):
    native, native_blas, rounding = get_ops("native"), get_ops("native-blas"), rounding_rows(monkeypatch)

    def line(row: str) -> str:
        """The cells of a row after its name. A row is a backend's own where it is not the function of the reference."""
        reference, cpp, blas = (getattr(ops, row) for ops in (REFERENCE, native, native_blas))
        of_blas = "NumPy" if blas is reference else "C++" if blas is cpp else "C++ and BLAS"
        of_native = "NumPy" if cpp is reference else "C++"
        return f"NumPy | {of_blas} | {of_native} | NumPy{', rounded' * (row in rounding)} |"

    def kind(row: str) -> tuple[str, str]:
        return getattr(REFERENCE, row).__module__, line(row)

    rows = [field.name for field in fields(Ops)[1:]]
    wanted = HEAD + [f"| {', '.join(f'`{row}`' for row in some)} | {cells}" for (_, cells), some in groupby(rows, kind)]
    page = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8").splitlines()
    at = page.index(HEAD[0]) if HEAD[0] in page else 0
    found = [text for text in page[at : page.index("", at)] if text.startswith("|")]
    assert found == wanted, "the table in docs/backends.md should be\n" + "\n".join(wanted)
