"""What holds for every row of the table of ops."""

from __future__ import annotations

import copy
import inspect
import re
from dataclasses import fields

import numpy as np
import pytest
from bound_cases import CASES, WIDE
from hypothesis import given
from hypothesis import strategies as st
from op_arguments import ARGUMENTS, STARTS, C, F, H, M, N, T, V, arguments_of, call_with
from pages import ROOT
from strategies import dtypes, seeds

from pyroberta.backends import backends, get_ops
from pyroberta.ops import REFERENCE, Ops
from pyroberta.oracle import bounds, check_backward
from pyroberta.oracle.conformance.op_cases import VARIANTS
from pyroberta.oracle.plain import PLAIN


def tables() -> list[Ops]:
    return [get_ops(name) for name, is_available, _ in backends() if is_available] + [
        get_ops("numpy", "mixed_bfloat16")
    ]


ROWS = [field.name for field in fields(Ops) if field.name != "name"]
PAIRS = [row.removesuffix("_forward") for row in ROWS if row.endswith("_forward")]
IN_PLACE = ("accumulate", "adam_step", "copy", "fill", "maximum", "running_mean", "clip")
PURE_ROWS = [row for row in ROWS if row not in IN_PLACE]
WITHOUT_ARRAYS = (
    "adam_step",
    "squared_norm",
    "copy",
    "fill",
    "maximum",
    "running_mean",
    "clip",
    "clip_scale",
    "all_finite",
)  # in what they return


def float_arrays(value: object) -> list[np.ndarray]:
    """All arrays of floats within tuples and lists."""
    if isinstance(value, np.ndarray):
        return [value] if value.dtype.kind == "f" else []
    return [array for part in value for array in float_arrays(part)] if isinstance(value, (tuple, list)) else []


def same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, (tuple, list)):
        return all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.mark.parametrize("op", PAIRS)
def test_an_op_is_complete(op):
    """What is compared with the op, and what describes it; CONTRIBUTING.md says what each of them is."""

    def is_in(file: str, text: str) -> bool:
        return text in (ROOT / file).read_text("utf-8")

    places = {
        "ARGUMENTS of tests/support/op_arguments.py": op in ARGUMENTS,
        "PLAIN of pyroberta/oracle/plain.py": op in PLAIN,
        "ROWS of pyroberta/oracle/bounds.py": f"{op}_forward" in bounds.ROWS and f"{op}_backward" in bounds.ROWS,
        "CASES of tests/support/bound_cases.py": op in CASES and op in WIDE,
        "VARIANTS of pyroberta/oracle/conformance/op_cases.py": op in VARIANTS,
        "the functions of torch in tests/parity/test_conformance.py": is_in(
            "tests/parity/test_conformance.py", f'"{op}": lambda: '
        ),
        "a call of check in tests/native/test_rows.py": is_in("tests/native/test_rows.py", f'check("{op}", '),
        "the table of rows in docs/backends.md": is_in("docs/backends.md", f"`{op}_forward`"),
        f"docs/ops/{op}.md": (ROOT / "docs" / "ops" / f"{op}.md").exists(),
        "the table of docs/ops/index.md": is_in("docs/ops/index.md", f"({op}.md)"),
    }
    lacking = [place for place, exists in places.items() if not exists]
    assert not lacking, f"these have no {op} yet:\n  " + "\n  ".join(lacking)


@pytest.mark.parametrize("op", PAIRS)
@given(seed=seeds)
def test_backward_is_the_derivative(op, seed):
    """By all arrays of floats, which are the arguments that an op has gradients of."""
    arguments = list(arguments_of(op, seed))
    places = [i for i, argument in enumerate(arguments) if float_arrays(argument)]

    def forward(*floats):
        for place, values in zip(places, floats, strict=True):
            arguments[place] = values
        y, cache = getattr(REFERENCE, f"{op}_forward")(*arguments)
        return y[0] if isinstance(y, tuple) else y, cache

    backward = getattr(REFERENCE, f"{op}_backward")
    assert check_backward(forward, backward, [arguments[i] for i in places]).error <= 1e-8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("row", ROWS)
def test_what_goes_in_as_a_dtype_comes_out_as_that_dtype(row, dtype):
    op, arguments = call_with(row, dtype, seed=0)
    results = op(*arguments)
    assert bool(float_arrays(results)) == (row not in WITHOUT_ARRAYS)
    assert {array.dtype for array in float_arrays(results)} <= {np.dtype(dtype)}  # outputs, caches, gradients


@pytest.mark.parametrize("ops", tables(), ids=lambda ops: ops.name)
@pytest.mark.parametrize("row", [row for row in ROWS if row.endswith("_forward")])
def test_a_cache_is_a_named_tuple_whose_comments_are_its_shapes(row, ops):
    op, arguments = call_with(row, np.float32, 0, ops)
    _, cache = op(*arguments)
    assert isinstance(cache, tuple)
    letters = {"N": N, "M": M, "C": C, "F": F, "V": V, "T": T, "B+1": len(STARTS), "I": C, "O": F, "r": 2, "H": H}
    letters["C_kept"] = len(getattr(cache, "columns", ()))
    comments = re.findall(
        r"^    (\w+): (?:Array|Kernel).*?  # \(([^)]*)\)", inspect.getsource(type(cache)), re.MULTILINE
    )
    stated = dict(comments)
    for name, value in zip(cache._fields, cache, strict=True):
        if isinstance(value, np.ndarray):
            assert name in stated, f"{type(cache).__name__}.{name} has no shape in its comment"
            letter_of = [letter.strip() for letter in stated[name].split(",") if letter.strip()]
            assert value.shape == tuple(letters[letter] for letter in letter_of), name


@pytest.mark.parametrize("row", PURE_ROWS)
@given(seed=seeds, dtype=dtypes)
def test_arguments_and_caches_are_left_as_they_were(row, seed, dtype):
    op, arguments = call_with(row, dtype, seed)
    before = copy.deepcopy(arguments)
    op(*arguments)
    assert same(arguments, before)


@pytest.mark.parametrize("row", PURE_ROWS)
@given(seed=seeds, dtype=dtypes)
def test_the_same_arguments_give_the_same_bits(row, seed, dtype):
    op, arguments = call_with(row, dtype, seed)
    assert same(op(*arguments), op(*arguments))


@pytest.mark.parametrize("row", [row for row in ROWS if "_backward" in row])
@given(seed=seeds, factor=st.sampled_from([-1.0, 0.0, 2.0, 0.25]))
def test_scaling_dy_scales_the_gradients(row, seed, factor):
    op, (dy, cache) = call_with(row, np.float64, seed)
    plain, scaled = float_arrays(op(dy, cache)), float_arrays(op(factor * dy, cache))
    assert all(np.array_equal(factor * a, b) for a, b in zip(plain, scaled, strict=True))  # powers of two are exact


def test_adam_changes_the_weights_and_moments_and_not_the_gradient():
    step, arguments = call_with("adam_step", np.float64, seed=0)
    before = copy.deepcopy(arguments)
    step(*arguments)
    assert [np.array_equal(now, then) for now, then in zip(arguments[:4], before[:4], strict=True)] == [
        False, True, False, False
    ]  # fmt: skip


def test_a_step_with_a_gradient_that_is_not_finite_changes_nothing():
    step, arguments = call_with("adam_step", np.float64, seed=0)
    before = copy.deepcopy(arguments)
    step(*arguments, False)
    assert same(arguments, before)


@pytest.mark.parametrize("row", ["copy", "fill", "maximum", "running_mean", "clip"])
def test_a_row_that_works_in_place_changes_its_first_argument_alone(row):
    op, (target, *rest) = call_with(row, np.float64, seed=0)
    before = copy.deepcopy((target, rest))
    assert op(target, *rest) is None
    assert not same(target, before[0])
    assert same(rest, before[1])


@pytest.mark.parametrize("ops", tables(), ids=lambda ops: ops.name)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_found_in_any_of_the_arrays(ops: Ops, bad):
    arrays = [np.ones(5), np.full((3, 4), 1e200), np.zeros(0)]  # the squares' sum overflows
    assert ops.to_host(ops.all_finite(*arrays))
    for array in arrays[:2]:
        array.flat[1] = bad
        assert not ops.to_host(ops.all_finite(*arrays))
        array.flat[1] = 1.0


def test_a_view_shares_memory_and_a_copy_does_not():
    x = np.arange(6.0)
    part = REFERENCE.view(x, 2, 6, (2, 2))
    REFERENCE.fill(part, -1.0)
    assert x.tolist() == [0.0, 1.0, -1.0, -1.0, -1.0, -1.0]
    other = np.zeros(6)
    REFERENCE.copy(other, x)
    assert not np.shares_memory(other, x)


def test_accumulating_changes_the_total_alone():
    accumulate, (total, gradient) = call_with("accumulate", np.float64, seed=0)
    before = copy.deepcopy((total, gradient))
    assert accumulate(total, gradient) is total
    assert same((total, gradient), (before[0] + before[1], before[1]))


def test_a_wrapped_table_calls_the_wrapper_for_every_row_by_its_name():
    called = []

    def note(name, op):
        def noted(*arguments):
            called.append(name)
            return op(*arguments)

        return noted

    table = REFERENCE.wrapped(note)
    for row in ROWS:
        _, arguments = call_with(row, np.float64, seed=0)
        getattr(table, row)(*arguments)
    assert called == ROWS
    assert table.name == REFERENCE.name
