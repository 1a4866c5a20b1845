"""The shapes in the comments of the ops and of the encoder are those that the arrays have.

A comment that begins with a shape, `# (N, C)`, states it of what is on the left of its line. The tests run each row of
the reference and, after each line, compare the comment with the array.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from op_arguments import STARTS, C, F, H, M, N, T, V, call_with

import pyroberta
from pyroberta.model import encoder
from pyroberta.model.gradients import Gradients
from pyroberta.model.model import model_backward, model_forward
from pyroberta.ops import REFERENCE, Key, Ops

ROWS = [field.name for field in fields(Ops) if field.name != "name"]
LETTERS = {"N": N, "M": M, "C": C, "F": F, "V": V, "T": T, "H": H, "D": C // H, "B+1": len(STARTS)}
SHAPE = r"\([\w+]+,(?: [\w+]+(?:, [\w+]+)*)?\)"


def commented(file: str) -> dict[int, tuple[ast.stmt, str]]:
    """For each line of a file: the simple statement that it is a part of, and the comment behind the statement."""
    source = Path(file).read_text("utf-8")
    lines, found = source.splitlines(), {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr)):
            comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode().strip()
            found |= dict.fromkeys(range(node.lineno, node.end_lineno + 1), (node, comment.removeprefix("# ")))
    return found


def on_the_left(node: ast.stmt, frame) -> list[np.ndarray]:
    """The arrays that a statement has made or changed, in the order of its targets."""
    targets = [node.target] if isinstance(node, (ast.AnnAssign, ast.AugAssign)) else getattr(node, "targets", [])
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        targets = [keyword.value for keyword in node.value.keywords if keyword.arg == "out"]
    targets = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
    code = [compile(ast.Expression(ast.parse(ast.unparse(t), mode="eval").body), "", "eval") for t in targets]
    values = [eval(one, frame.f_globals, frame.f_locals) for one in code]
    return [value for value in values if isinstance(value, np.ndarray)]


def complaint(node: ast.stmt, comment: str, frame, letters: dict[str, int]) -> str | None:
    """What is wrong with the comment of a statement that has just run."""
    stated = re.match(rf"{SHAPE}(?:, {SHAPE})*", comment)
    if not stated:
        is_in_place = isinstance(node, ast.AugAssign) and on_the_left(node, frame)
        is_exempt = re.search("any shape|[Ee]very array", comment + inspect.getsource(frame.f_code))
        return "changes an array, and has no shape" if is_in_place and not is_exempt else None
    shapes = [tuple(re.findall(r"[\w+]+", shape)) for shape in re.findall(SHAPE, stated[0])]
    arrays = on_the_left(node, frame)
    for shape, array in zip(shapes * len(arrays) if len(shapes) == 1 else shapes, arrays, strict=True):
        sizes = [int(name) if name.isdigit() else letters.get(name) for name in shape]
        if len(sizes) != array.ndim or any(
            known not in (None, size) for known, size in zip(sizes, array.shape, strict=True)
        ):
            return f"says ({', '.join(shape)}), but the array is {array.shape}"
    return None


def wrong_comments(call, file: str, letters: dict[str, int]) -> tuple[set[str], int]:
    """Makes a call; the lines of the file that ran and have a wrong comment, and how many comments were compared."""
    statements, wrong, compared = commented(file), set(), set()

    def trace(frame, event, _argument):
        if frame.f_code.co_filename != file or frame.f_code.co_name.startswith("<"):  # a generator has no statements
            return None
        before = [None]

        def after_line(frame, event, _argument):
            now = statements.get(frame.f_lineno) if event == "line" else None
            last = before[0]
            if last is not None and last is not now:
                sys.settrace(None)
                node, comment = last
                if found := complaint(node, comment, frame, letters):
                    wrong.add(f"{Path(file).name}:{node.lineno} {found}")
                compared.update({node.lineno} if re.match(SHAPE, comment) else ())
                sys.settrace(trace)
            before[0] = now
            return after_line

        return after_line

    outer = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(outer)
    return wrong, len(compared)


@pytest.mark.parametrize("row", ROWS)
def test_a_shape_in_a_comment_is_that_of_what_is_on_the_left_of_its_line(row):
    op, arguments = call_with(row, np.float32, 0)
    file = inspect.getsourcefile(op)
    assert wrong_comments(lambda: op(*arguments), file, LETTERS)[0] == set()


@pytest.mark.parametrize("recompute", [False, True])
def test_the_shapes_in_the_encoder_are_those_of_its_arrays(recompute):
    masked_lm = pyroberta.MaskedLM.from_preset("roberta_tiny_en", backend="numpy")
    params, config = masked_lm.backbone.params, masked_lm.backbone.config
    preprocessor = masked_lm.preprocessor
    batch = preprocessor.mask(preprocessor.encode(["A dog barks.", "The cat sat."]), np.random.default_rng(0))
    letters = {"N": len(batch.ids), "C": config.hidden_dim, "V": config.vocabulary_size}

    def update():
        grads = Gradients(params.zeros_like(), set(params))
        (losses, _), cache = model_forward(
            REFERENCE, params, config, batch, Key.of_update(0, 0), grads.lowest, recompute=recompute
        )
        model_backward(REFERENCE, grads, np.ones_like(losses), cache)

    wrong, count = wrong_comments(update, encoder.__file__, letters | {"T": config.max_sequence_length})
    assert wrong == set()
    assert count > 20


def test_a_wrong_shape_is_found(tmp_path):
    file = tmp_path / "op.py"
    file.write_text(
        "def f(x):\n"
        "    y = x + 1  # (N, C)\n"
        "    y -= y.mean(axis=1, keepdims=True)  # (N, 1)\n"
        "    y *= 2\n"
        "    a, b = y, y[0]  # (N, C), (N,)\n"
        "    a, b = y, y  # (N, C) each\n"
        "    y.sum(axis=0, out=b[0])  # (N,)\n"
        "    return y  # (N,)\n"
    )
    space: dict = {}
    exec(compile(file.read_text(), str(file), "exec"), space)
    wrong, count = wrong_comments(lambda: space["f"](np.zeros((2, 3))), str(file), {"N": 2, "C": 3})
    assert {line.partition(" ")[0] for line in wrong} == {"op.py:3", "op.py:4", "op.py:5", "op.py:7"}
    assert count == 5
