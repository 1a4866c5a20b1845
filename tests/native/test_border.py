"""The ops in C++ against their references, and what their border refuses."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import re
import types
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from native_extension import needs_native, replace_extension
from within import SINGLE, hold

from pyroberta.backends import BackendError, backends, get_ops
from pyroberta.ops import Ops
from pyroberta.ops.adam import adam_step as reference
from pyroberta.oracle import bounds

RATES = (0.01, 0.9, 0.999, 1e-7)
GUARD = 12345.0
seeds = st.integers(0, 2**32)
lengths = st.one_of(st.integers(0, 70), st.integers(2**14 - 2, 2**14 + 2))  # around a vector register, and a chunk
LONG = 2**21 + 2**14 + 3  # past where threads begin


def native_step(*args):
    from pyroberta import _native

    _native.adam_step(*args, scale=1.0, decay=0.0)


def draw(seed, P, dtype, scale=1.0):
    """w, g, m, v, each between guard values; the views and the arrays that hold them."""
    rng = np.random.default_rng(seed)
    whole = [np.full(P + 16, GUARD, dtype) for _ in range(4)]
    views = [array[8 : 8 + P] for array in whole]
    for view in views[:3]:
        view[:] = scale * rng.standard_normal(P)
    views[3][:] = scale**2 * rng.random(P)
    return views, whole


@needs_native
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(seed=seeds, P=lengths, scale=st.sampled_from([1e-6, 1.0, 1e6]), beta_1=st.floats(0, 0.999))
@example(seed=0, P=LONG, scale=1.0, beta_1=0.9)
def test_every_bit_is_the_references_and_nothing_around_is_touched(dtype, seed, P, scale, beta_1):
    ours, whole = draw(seed, P, dtype, scale)
    theirs, _ = draw(seed, P, dtype, scale)
    gradient = ours[1].copy()
    native_step(*ours, 0.01, beta_1, 0.999, 1e-7)
    reference(*theirs, 0.01, beta_1, 0.999, 1e-7)
    for got, expected in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(ours[1], gradient)
    for array in whole:
        assert (array[:8] == GUARD).all()
        assert (array[8 + P :] == GUARD).all()


@needs_native
@given(seed=seeds, scale=st.sampled_from([1e-6, 1e-2, 1.0, 1e4]))
def test_each_step_is_within_its_bounds(seed, scale):
    state, _ = draw(seed, 500, "float32", scale)
    for _ in range(5):
        before = [array.astype(np.float64) for array in state]
        after = [array.copy() for array in before]
        reference(*after, *RATES)
        native_step(*state, *RATES)
        for (name, bound), one, true in zip(
            bounds.adam_step(SINGLE, *before, *RATES).items(),
            (state[i] for i in (0, 2, 3)),
            (after[i] for i in (0, 2, 3)),
            strict=True,
        ):
            hold(f"adam_step: {name}", one, true, bound)


@needs_native
def test_a_bad_number_stays_where_it_is():
    for bad in (np.nan, np.inf):
        (w, g, m, v), _ = draw(0, 100, "float32")
        g[17] = bad
        native_step(w, g, m, v, *RATES)
        assert np.flatnonzero(~np.isfinite(w)).tolist() == [17]


@needs_native
@pytest.mark.parametrize("which", range(4))
def test_each_bad_argument_is_named(which):
    name = "wgmv"[which]

    def refused(replacement, error, message):
        arrays = list(draw(0, 6, "float32")[0])
        arrays[which] = replacement
        before = [np.array(array) for array in arrays]
        with pytest.raises(error, match=rf"^adam_step: {name} {message}"):
            native_step(*arrays, *RATES)
        for array, old in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(array, old)

    refused([0.0] * 6, TypeError, "must be a NumPy array, got <class 'list'>")
    refused(np.zeros(6, np.float16), TypeError, "must be float32 or float64 .*, got dtype <f2")
    refused(np.zeros(6, ">f4"), TypeError, "must be float32 or float64 in the machine's byte order, got dtype >f4")
    shape = "(any,)" if name == "w" else "(6,)"
    refused(np.zeros((2, 3), np.float32), ValueError, re.escape(f"must have the shape {shape}, got (2, 3)"))
    if name != "g":
        strided = "is changed in place and must be contiguous, got strides (8,)"
        refused(np.zeros(12, np.float32)[::2], ValueError, re.escape(strided))
        refused(np.zeros(25, np.uint8)[1:].view(np.float32), ValueError, "must be aligned")
        frozen = np.zeros(6, np.float32)
        frozen.flags.writeable = False
        refused(frozen, ValueError, "is changed in place and must be writeable, got a read-only array")


@needs_native
def test_arguments_that_do_not_go_together_are_named():
    w, g, m, v = draw(0, 6, "float32")[0]
    with pytest.raises(ValueError, match=r"^adam_step: m must have the shape \(6,\), got \(5,\)"):
        native_step(w, g, m[:5], v, *RATES)
    with pytest.raises(TypeError, match=r"^adam_step: v must have the dtype of w, float32, got float64"):
        native_step(w, g, m, v.astype(np.float64), *RATES)
    both = np.zeros(12, np.float32)
    with pytest.raises(ValueError, match=r"^adam_step: m must not share memory with v"):
        native_step(w, g, both[:6], both[5:11], *RATES)
    with pytest.raises(TypeError, match=r"^adam_step: learning_rate must be a number, got <class 'str'>"):
        native_step(w, g, m, v, "fast", 0.9, 0.999, 1e-7)


@needs_native
def test_an_array_that_is_changed_shares_no_memory_with_the_others():
    from pyroberta import _native

    square, labels = np.ones((3, 3), np.float32), np.zeros(3, np.int64)
    for arguments, name in (((square, square.copy(), square), "dh"), ((square.copy(), square, square), "kernel")):
        with pytest.raises(ValueError, match=f"^expand_backward: f must not share memory with {name}"):
            _native.expand_backward(*arguments)
    column, other = np.ones((3, 1), np.float32), np.ones(3, np.float32)
    for vectors, name in (((column[:, 0], other), "dlosses"), ((other, column[:, 0]), "log_sums")):
        with pytest.raises(ValueError, match=f"^cross_entropy_slopes: z must not share memory with {name}"):
            _native.cross_entropy_slopes(column, *vectors, labels)
    assert (square == 1.0).all()
    assert (column == 1.0).all()


@needs_native
def test_a_number_of_a_row_beyond_int32_is_refused():
    """Arrays without columns have so many rows and take no memory."""
    from pyroberta import _native

    rows, number = np.empty((2**31 + 1, 0), np.float32), np.array([2**31])
    one, none = np.empty((1, 0), np.float32), np.array([0])
    limits = r"\[0\] must be at least 0 and below 2147483648, got 2147483648"
    with pytest.raises(ValueError, match=f"^gather_forward: rows{limits}"):
        _native.gather_forward(rows, number)
    with pytest.raises(ValueError, match=f"^scatter_add: rows{limits}"):
        _native.scatter_add(rows, number, one)
    with pytest.raises(ValueError, match=f"^embedding_forward: ids{limits}"):
        _native.embedding_forward(rows, one, number, none)
    with pytest.raises(ValueError, match=f"^embedding_forward: positions{limits}"):
        _native.embedding_forward(one, rows, none, number)
    with pytest.raises(ValueError, match=r"^dropout: x must have at most 2147483648 rows with dropout, got 2147483649"):
        _native.dropout(rows, 0.5, (1, 2), None, None, None)
    x = np.ones((2, 4), np.float32)
    with pytest.raises(ValueError, match=r"^dropout: starts\[1\] must be .* below 2147483648, got 4294967300"):
        _native.dropout(x, 0.5, (1, 2), np.array([0, 2**32 + 4, 2**32 + 8]), None, np.array([3, 5]))
    with pytest.raises(ValueError, match=r"^gather_forward: rows\[0\] must be .* below 2, got 18446744073709551615"):
        _native.gather_forward(x, np.array([2**64 - 1], np.uint64))
    with pytest.raises(ValueError, match=r"^dropout: numbers\[0\] must be .* got 9223372036854775809"):
        _native.dropout(x, 0.5, (1, 2), None, np.array([2**63 + 1], np.uint64), None)


@needs_native
def test_the_last_row_that_int32_can_number_has_its_dropout_mask():
    from pyroberta import _native

    row = 2**31 - 1
    y = _native.dropout(np.ones((1, 8), np.float32), 0.5, (1, 2), None, None, np.array([row]))
    counter = np.array([row, 0, 0, 0], np.uint64)  # a block of Philox has the eight words of a row
    words = np.random.Philox(key=np.array([1, 2], np.uint64), counter=counter).random_raw(4).astype("<u8").view("<u4")
    assert y.tolist() == [[2.0 if word >= 2**31 else 0.0 for word in words.tolist()]]


@needs_native
def test_a_prepared_kernel_keeps_the_shape_of_its_copy():
    from pyroberta import _native

    kernel = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    prepared = _native.prepare(kernel)
    kernel.resize((4, 3), refcheck=False)
    prepared.kernel.resize((12, 1), refcheck=False)
    x, bias = np.ones((2, 3), np.float32), np.zeros(4, np.float32)
    assert prepared.kernel.shape == np.asarray(prepared).shape == (3, 4)
    assert np.shares_memory(prepared.kernel, kernel)
    assert _native.linear_forward(x, prepared, bias).tolist() == [[12.0, 15.0, 18.0, 21.0]] * 2
    with pytest.raises(ValueError, match=re.escape("linear_forward: kernel must have the shape (4, any), got (3, 4)")):
        _native.linear_forward(np.ones((2, 4), np.float32), prepared, bias)


@needs_native
def test_methods_of_a_subclass_of_arrays_are_not_called():
    from pyroberta import _native

    class Array(np.ndarray):
        def copy(self, order="C"):
            return np.zeros((1, 1), np.float64)

        def view(self, *_, **__):
            return np.zeros((1000, 1000), np.float32)

    def of_subclass(x):
        made = np.ndarray.__new__(Array, x.shape, x.dtype, x, 0, x.strides)  # shares x's memory
        assert type(made) is Array
        return made

    x = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert _native.column_sums(of_subclass(x)).tolist() == [3.0, 5.0, 7.0]
    prepared = _native.prepare(of_subclass(np.ones((8, 8), np.float32)))
    assert type(prepared.kernel) is np.ndarray
    assert prepared.kernel.shape == (8, 8)
    total = np.zeros((2, 3), np.float32)
    _native.scatter_add(of_subclass(total), np.array([0, 0]), np.ones((2, 3), np.float32))
    assert total.tolist() == [[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]


@needs_native
def test_an_error_of_a_numbers_own_is_not_replaced():
    class Number:
        def __float__(self):
            raise KeyboardInterrupt

    w, g, m, v = np.ones((4, 3), np.float32)
    with pytest.raises(KeyboardInterrupt):
        native_step(w, g, m, v, Number(), 0.9, 0.999, 1e-7)
    with pytest.raises(ValueError, match="adam_step: learning_rate must be a number that a double holds"):
        native_step(w, g, m, v, 10**400, 0.9, 0.999, 1e-7)


@needs_native
@pytest.mark.parametrize("method", ["__float__", "__index__"])
def test_code_that_reads_a_number_changes_no_array_that_is_checked_already(method):
    """A number may be an object whose method runs code in Python: it runs before the first array is checked."""
    from pyroberta import _native

    def number(act):
        def method_of_it(_):
            act()
            return 1.0 if method == "__float__" else 1

        return type("Number", (), {method: method_of_it})()

    arrays = list(np.ones((4, 6), np.float32))
    for which in range(6):
        w = np.ones(6, np.float32)
        numbers = [0.1, 0.9, 0.99, 1e-8, 1.0, 0.0]
        numbers[which] = number(lambda w=w: w.resize(1, refcheck=False))
        with pytest.raises(ValueError, match=re.escape("adam_step: g must have the shape (1,), got (6,)")):
            _native.adam_step(w, *arrays[1:], *numbers)
        w = np.ones(6, np.float32)
        numbers[which] = number(lambda w=w: w.setflags(write=False))
        with pytest.raises(ValueError, match="adam_step: w is changed in place and must be writeable"):
            _native.adam_step(w, *arrays[1:], *numbers)
        assert (w == 1.0).all()
    vector, x = np.ones(6, np.float32), np.ones((2, 6), np.float32)
    with pytest.raises(ValueError, match=re.escape("layer_norm_forward: gamma must have the shape (1,), got (6,)")):
        _native.layer_norm_forward(x, vector, vector, number(lambda: x.resize((1, 1), refcheck=False)))
    h, x, mask = np.ones((2, 6), np.float32), np.ones((2, 6), np.float32), ((1, 2), None, None, None)
    with pytest.raises(ValueError, match=re.escape("add_norm_forward: x must have the shape (1, 1), got (2, 6)")):
        _native.add_norm_forward(h, x, vector, vector, number(lambda: h.resize((1, 1), refcheck=False)), 0.0, *mask)


@needs_native
@pytest.mark.parametrize("op", ["linear_forward", "expand_forward"])
def test_an_object_that_only_says_that_it_is_prepared_is_an_error(op):
    from pyroberta import _native

    x, bias = np.ones((2, 3), np.float32), np.zeros(4, np.float32)
    asked = []

    class Impostor:
        @property
        def __class__(self):
            asked.append(self)
            return _native.Prepared

    with pytest.raises(TypeError, match=f"^{op}: kernel must be a NumPy array, got <class '.*Impostor'>"):
        getattr(_native, op)(x, Impostor(), bias)
    assert not asked  # code in Python could change x, which is checked already


@needs_native
def test_an_array_of_a_prepared_kernel_is_a_copy_where_that_is_asked_for():
    from pyroberta import _native

    kernel = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    prepared = _native.prepare(kernel)
    for shared in (
        *(np.asarray(prepared), np.asarray(prepared, np.float32), prepared.__array__(), prepared.__array__(None)),
        *(prepared.__array__(np.float32), prepared.__array__(copy=False), prepared.__array__(np.float32, copy=None)),
    ):
        assert np.shares_memory(shared, kernel)
    for copied in (
        *(np.array(prepared), np.array(prepared, copy=True), np.array(prepared, np.float32)),
        *(prepared.__array__(copy=True), prepared.__array__(np.float32, copy=True)),
    ):
        assert not np.shares_memory(copied, kernel)
        assert copied.dtype == np.float32
        np.testing.assert_array_equal(copied, kernel)
        copied[:] = 0.0
    assert kernel[2, 3] == 11.0
    for wide in (
        *(np.asarray(prepared, np.float64), np.array(prepared, "f8", copy=True), prepared.__array__("f8")),
        *(prepared.__array__(np.float64, copy=True), prepared.__array__(dtype=np.float64)),
    ):
        assert wide.dtype == np.float64
        np.testing.assert_array_equal(wide, kernel)
    needed = re.escape(
        "Prepared.__array__: a kernel of dtype float32 must be copied to have dtype float64, got copy=False"
    )
    with pytest.raises(ValueError, match=needed):
        prepared.__array__(np.float64, copy=False)
    with pytest.raises(TypeError, match=r"^Prepared.__array__: copy must be True, False or None, got <class 'int'>"):
        prepared.__array__(copy=1)


@needs_native
def test_pybind11s_own_errors_have_the_names_of_the_arguments():
    from pyroberta import _native

    for op in _native.OPS:
        assert "arg0" not in getattr(_native, op).__doc__, op
    with pytest.raises(TypeError, match=r"dropout\(\): incompatible .*\n.*\(x: object, rate: [^\n]*, rows: object\)"):
        _native.dropout(np.ones((1, 4), np.float32), None, (1, 2), None, None, None)


@needs_native
def test_a_library_of_products_has_functions():
    from pyroberta import _native

    with pytest.raises(ValueError, match=r"^make_blas: sgemm and dgemm must be addresses of functions, got 0"):
        _native.make_blas(0, 1, False, 0, 0)
    with pytest.raises(ValueError, match=r"^make_blas: get_threads and set_threads must both be addresses"):
        _native.make_blas(1, 1, False, 0, 1)
    with pytest.raises(TypeError, match="library"):
        _native.use_blas(3)


@needs_native
def test_only_the_extension_makes_objects_of_its_classes():
    """Each way to an object that was never filled in is an error: such an object would crash the interpreter."""
    from pyroberta import _native

    class Other:
        pass

    found = {
        _native.Prepared: _native.prepare(np.ones((3, 4), np.float32)),
        _native.Blas: _native.make_blas(1, 1, False, 0, 0),
    }
    assert set(found) == {value for value in vars(_native).values() if isinstance(value, type)}
    for made_by_extension, one in found.items():
        name = re.escape(f"{made_by_extension.__module__}.{made_by_extension.__name__}")
        for make in (made_by_extension, lambda some=made_by_extension: some.__new__(some)):
            with pytest.raises(TypeError, match=f"^{name}: only functions of pyroberta._native make one"):
                make()
        base = made_by_extension.__mro__[1]
        for other in (object, base):
            with pytest.raises(TypeError, match="is not safe"):
                other.__new__(made_by_extension)
        with pytest.raises(TypeError, match="not an acceptable base type"):
            type("Derived", (made_by_extension,), {})
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=f"cannot pickle '{name}' object"):
                copied(one)
        for object_of_another in (Other(), *found.values()):
            if not isinstance(object_of_another, made_by_extension):
                with pytest.raises(TypeError, match="__class__ assignment only supported for"):
                    object_of_another.__class__ = made_by_extension
        with pytest.raises(TypeError, match="immutable type"):
            made_by_extension.kernel = property(lambda self: None)
        with pytest.raises(TypeError, match="No constructor defined"):
            one.__init__()


@needs_native
def test_neighbouring_views_of_one_vector_are_fine():
    vector = np.ones(24, np.float32)
    native_step(vector[:6], vector[6:12], vector[12:18], vector[18:], *RATES)
    assert (vector[:6] != 1.0).all()
    assert (vector[6:12] == 1.0).all()


@needs_native
def test_other_threads_run_meanwhile():
    """Another thread sees the weights when the first of them has changed and the last has not: the call is not over.

    While the GIL is held no other thread sees anything between the call's beginning and its end. Where this thread is
    not given a processor in the midst of a call, the next call is watched.
    """
    import threading

    arrays = [np.ones(4_000_000, np.float32) for _ in range(4)]
    w = arrays[0]
    for _ in range(10_000):
        w[:] = 1.0
        thread = threading.Thread(target=native_step, args=(*arrays, *RATES))
        thread.start()
        was_seen = False
        while thread.is_alive() and not was_seen:
            was_seen = w[0] != 1.0 and w[-1] == 1.0  # in this order
        thread.join()
        if was_seen:
            return
    pytest.fail("no call was seen in its midst")


@needs_native
def test_auto_takes_the_table_of_the_extension():
    from pyroberta import _native

    ops = get_ops("native")
    assert ops.name == "native"
    assert ops.squared_norm is _native.squared_norm
    assert get_ops("auto").name == "native"
    assert {name: reason for name, _, reason in backends()}["native"].startswith("C++ by ")


def test_a_backend_that_is_not_there_is_an_error_with_every_reason(monkeypatch):
    replace_extension(monkeypatch, None)
    assert get_ops("auto").name == "numpy"
    listed = {name: (available, reason) for name, available, reason in backends()}
    assert listed["numpy"][0]
    assert not listed["native"][0]
    assert "pyroberta._native" in listed["native"][1]
    with pytest.raises(BackendError) as caught:
        get_ops("native")
    text = str(caught.value)
    assert "'native' is not available" in text
    assert "numpy: available, NumPy" in text
    assert f"native: not available, {listed['native'][1]}" in text


def test_an_unknown_backend_is_an_error_with_the_known_ones():
    with pytest.raises(
        BackendError, match=r"(?s)the backend 'cuda' is unknown\. There are:\n  numpy: available.*native"
    ):
        get_ops("cuda")


def test_an_extension_older_than_the_package_is_a_reason_and_no_crash(monkeypatch):
    import types

    replace_extension(monkeypatch, types.ModuleType("pyroberta._native"))
    assert get_ops("auto").name == "numpy"
    assert "has no attribute 'about'" in {name: reason for name, _, reason in backends()}["native"]


# --- names ------------------------------------------------------------------------------------------------------------


def calls_of(node: ast.AST) -> set[str]:
    """The names after `_native.` in a piece of Python."""
    names = (child for child in ast.walk(node) if isinstance(child, ast.Attribute))
    return {name.attr for name in names if isinstance(name.value, ast.Name) and name.value.id == "_native"}


# The functions of the extension that are not in its list of ops.
NO_OPS = {
    *("about", "instruction_sets", "processors", "get_num_threads", "set_num_threads", "pool_counts", "pool_release"),
    *("make_blas", "use_blas", "end_calls_before_fork"),
    *("fail_after", "until_fault"),  # in a build with PYROBERTA_FAULTS
}


@needs_native
def test_the_list_in_cpp_the_bindings_and_the_rows_have_the_same_names():
    from pyroberta import _native
    from pyroberta.backends import native

    listed = set(_native.OPS)
    assert len(listed) == len(_native.OPS)
    functions = {name for name, value in vars(_native).items() if isinstance(value, types.BuiltinFunctionType)}
    assert functions - NO_OPS == listed

    module = ast.parse(inspect.getsource(native))
    assert listed <= calls_of(module), "an op that no row calls"
    assert calls_of(module) <= set(dir(_native)), "a row calls what is not there"
    rows = {field.name for field in fields(Ops)} & listed
    assert len(rows) > 10
    for name in rows:
        row = getattr(native.native_ops(), name)
        assert row is getattr(_native, name) or name in calls_of(ast.parse(inspect.getsource(row))), name
