"""The model stays small enough to be read in one sitting."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import pyroberta.model
import pyroberta.ops

ROOT = Path(pyroberta.ops.__file__).parents[1]
OPS = sorted(ROOT.glob("ops/*.py"))
WALK = [
    ROOT / "model" / name
    for name in ("named.py", "gradients.py", "encoder.py", "mlm_head.py", "classifier_head.py", "walk.py")
]
NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> int:
    """Lines that hold code: neither blank, nor comment, nor docstring."""
    docstrings = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            docstrings.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def test_code_lines_are_counted_without_what_explains_them():
    source = (
        '"""Title."""\n\n# why\nx = """a\nb"""  # two lines\n\ndef f():\n    """Doc.\n\n    More."""\n    return x\n'
    )
    assert code_lines(source) == 4


def test_ops_and_walk_together_stay_under_720_lines():
    counts = {path.name: code_lines(path.read_text("utf-8")) for path in OPS + WALK}
    assert sum(counts.values()) < 720, f"{sum(counts.values())} lines: {counts}"
