"""Recognizes a mistake from the difference itself, if no known mistake of the op explains it: a factor, a row, a
matrix.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy import ndarray as Array

from pyroberta.oracle.causes import Arguments, positions_off_by

CLOSE = 1e-3  # the largest share of the difference that a mistake may leave unexplained
TOKEN_TYPE = (
    "each row is off by the same vector, for example because the token type's embedding is missing or added twice"
)
BEYOND = ": queries attend to padding, because the mask is missing or too small, or to another sequence"
FAR = 16.0  # times the sequence's largest value: a larger one is not taken for a value of padding
LEAST = 1e-4  # of the largest singular value: below, what rows share is too little for a matrix to be read off
SPARE = 3  # equations more than unknowns, so that no chance makes lines meet
MOST_IN_FRONT = 2  # rows of a position table that the trace's may lack: those up to padding_idx
CLOSE_TO = 1e-6  # relative: how far numbers may be from a multiple, which is told in six digits


def signature_of(op: str, value: str, part: str, arguments: Arguments, theirs: Array, expected: Array) -> str:
    """Returns the mistake that makes a difference of this form, in words, or "" if none is recognized.

    Args:
        op: the name of the op.
        value: the name of the op's value.
        part: the number of the sequence, for a value of attention that exists per sequence.
        arguments: the arguments of the op by name, with `dy` for a gradient.
        theirs: the given value.
        expected: the expected value, in the same shape.
    """
    if value == "of_types":
        return _of_types(theirs, expected)
    if {"dy", "denominator"} & set(arguments) or not np.isfinite(theirs).all() or not theirs.any():
        return ""
    if op == "embedding" and _is_same_in_rows(theirs - expected):
        is_one_number = _is_same_in_rows((theirs - expected).T)
        return "" if is_one_number else TOKEN_TYPE
    if op == "embedding" and value in ("of_positions", "output"):
        return _of_positions(arguments, theirs - arguments["tokens"][arguments["ids"]] if value == "output" else theirs)
    has_no_dropout = not arguments.get("rate")
    is_dropped = value in ("dropped", "probabilities") or op == "dropout"
    if is_dropped and has_no_dropout and (seen := _of_dropout(expected, theirs)):
        return seen
    if (op, value) == ("add_norm", "sum") and has_no_dropout:
        return _of_dropout(arguments["h"], theirs - arguments["x"])
    is_softmax = value == "probabilities" or (value == "dropped" and has_no_dropout)
    if op == "attention" and is_softmax and part.isdigit():
        return _of_softmax(arguments, int(part), theirs)
    if (op, value) == ("attention", "output") and has_no_dropout:
        return _of_context(arguments, theirs, expected)
    if (op, value) in (("linear", "output"), ("cross_entropy", "logits")):
        return _of_product(op, arguments, theirs, expected)
    return ""


def _is_same_in_rows(difference: Array) -> bool:
    if difference.ndim != 2 or len(difference) < 2:
        return False
    off = np.linalg.norm(difference - difference.mean(axis=0))
    return bool(off <= CLOSE * np.linalg.norm(difference))


def _of_positions(arguments: Arguments, found: Array) -> str:
    """Of position embeddings (N, C) that are rows of the table, but others; it may have rows that this one has not."""
    positions, position_rows = arguments["positions"], arguments["position_rows"]
    T = len(position_rows)
    starts = np.flatnonzero(np.diff(positions, prepend=np.inf) != 1)
    offsets, lengths = [], []
    for start, stop in pairwise([*starts.tolist(), len(positions)]):
        some = found[start:stop]
        fitting = [
            (int(has_row.sum()), off)
            for off in range(-T + 1, T)
            if 0 <= (stop - start) - (has_row := _within(positions[start:stop] + off, T)).sum() <= MOST_IN_FRONT
            and has_row.any()
            and _close(some[has_row], position_rows[positions[start:stop][has_row] + off])
        ]
        if fitting:
            offsets.append(max(fitting)[1])
            lengths.append(stop - start)
        elif stop - start > 2:
            return ""
    if not offsets or not any(offsets):
        return ""
    if len(set(offsets)) == 1:
        return positions_off_by(offsets[0])
    columns = {offset + length for offset, length in zip(offsets, lengths, strict=True)}
    if len(columns) == 1 and min(offsets) >= 0:  # they are padded to so many columns, be it more than the longest has
        return f"positions also count the padding before a sequence, up to {columns.pop()} columns"
    also = f", and {positions_off_by(min(offsets))}" if min(offsets) else ""
    return f"positions also count the padding before a sequence{also}"


def _within(positions: Array, count: int) -> Array:
    inside: Array = (positions >= 0) & (positions < count)
    return inside


def _close(x: Array, y: Array) -> bool:
    return bool(np.linalg.norm(x - y) <= CLOSE * np.linalg.norm(y))


def _of_softmax(arguments: Arguments, b: int, theirs: Array) -> str:
    """Of probabilities (H, S, S) that are the right exponentials, divided by something else."""
    start, stop = list(pairwise(arguments["starts"].tolist()))[b]
    if stop - start < 2:
        rows = theirs.reshape(-1)
        return f"probability lies outside the sequence{BEYOND}" if (rows < 1.0).all() else ""
    H = arguments["num_heads"]
    q, k = (arguments[of][start:stop].reshape(stop - start, H, -1).transpose(1, 0, 2) for of in "qk")
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[2])
    with np.errstate(all="ignore"):
        factors = theirs / np.exp(scores - scores.max(axis=2, keepdims=True))
    if not np.isfinite(factors).all():
        return ""

    def are_same(axis: int) -> bool:
        mean = factors.mean(axis=axis, keepdims=True)
        return bool((np.abs(factors - mean) <= CLOSE * np.abs(mean)).all())

    left = 1.0 - theirs.sum(axis=2)  # of each row's weight; some rows may have next to none for padding
    if are_same(2) and left.max() > 0.0 and (left > -CLOSE * left.max()).all():
        share = float(left.mean())
        return f"{100.0 * share:.4g}% of the probability lies outside the sequence{BEYOND}"
    with np.errstate(all="ignore"):
        factors = theirs / np.exp(scores - scores.max(axis=1, keepdims=True))
    if np.isfinite(factors).all() and are_same(1):
        return "the softmax is taken over the queries, not over the keys"
    return ""


def _of_context(arguments: Arguments, theirs: Array, expected: Array) -> str:
    """Of contexts (N, C) that padding is mixed into: in a head, w of each token's weight goes to one value of padding.

    A row c becomes (1 - w) c + w u. So the lines through each row, as it is and as it should be, meet in u.
    """
    H, weights = arguments["num_heads"], []
    for start, stop in pairwise(arguments["starts"].tolist()):
        if np.linalg.norm(theirs[start:stop] - expected[start:stop]) <= CLOSE * np.linalg.norm(expected[start:stop]):
            continue  # the longest sequence has no padding
        c, off, v = (
            x[start:stop].reshape(stop - start, H, -1).transpose(1, 0, 2)
            for x in (expected, theirs - expected, arguments["v"])
        )
        if (stop - start) * (c.shape[2] - 1) < c.shape[2] + SPARE:
            continue  # a few lines may meet by chance
        for head in range(H):
            found = _mixed_in(c[head], off[head], v[head])
            if found is None:
                return ""
            weights.append(found)
    share = float(np.mean(np.concatenate(weights))) if weights else 0.0
    return f"{100.0 * share:.4g}% of the probability lies outside the sequence{BEYOND}" if weights else ""


def _mixed_in(c: Array, off: Array, v: Array) -> Array | None:
    """The weights (S,) of the one value u by which c (S, D) is off w (u - c); None where there is no such value."""
    squares = (off * off).sum(axis=1)
    across = squares.sum() * np.eye(c.shape[1]) - off.T @ off  # of the sum of what is across each line
    u, *_ = np.linalg.lstsq(across, squares @ c - ((off * c).sum(axis=1) @ off), rcond=None)
    way = u - c
    with np.errstate(all="ignore"):
        w: Array = (off * way).sum(axis=1) / (way * way).sum(axis=1)
    is_met = _is_small(off - w[:, None] * way, off) and bool(((w > -CLOSE * w.max()) & (w < 1.0)).all())
    is_itself = bool((np.linalg.norm(v - u, axis=1) <= CLOSE * np.linalg.norm(u)).any())
    is_near = np.linalg.norm(u) <= FAR * np.linalg.norm(v, axis=1).max()
    return w if is_met and is_near and not is_itself else None


def _of_types(theirs: Array, expected: Array) -> str:
    """Of the token type's row, as it is added to each token."""
    if not theirs.any():
        return "the token type's row is dropped"
    times = float(np.vdot(expected, theirs)) / max(float(np.vdot(expected, expected)), 1e-300)
    return f"the token type's row is added {times:.4g} times" if _close(times * expected, theirs) else ""


def _of_product(op: str, arguments: Arguments, theirs: Array, expected: Array) -> str:
    """Of x @ kernel + bias, made with another kernel or bias."""
    difference = theirs - expected
    if _is_same_in_rows(difference):
        return "another bias was added"
    x, kernel = (arguments["x"], arguments["kernel"]) if op == "linear" else (arguments["h"], arguments["table"].T)
    product = x @ kernel
    factor = float(np.vdot(product, difference)) / max(float(np.vdot(product, product)), 1e-300)
    if _is_small(difference - factor * product, difference):
        return f"the product is multiplied by {1.0 + factor:.4g} before the bias is added"
    if not (np.isfinite(x).all() and np.isfinite(difference).all()):
        return ""
    solved, _, rank, _ = np.linalg.lstsq(x, difference, rcond=LEAST)
    if len(x) < rank + SPARE or not _is_small(x @ solved - difference, difference):
        return ""  # any numbers are as few rows times some matrix
    sizes = np.linalg.norm(difference, axis=0)
    if (sizes > CLOSE * sizes.max()).sum() == 1 < len(sizes):
        return f"column {int(sizes.argmax())} of the kernel is different" if op == "linear" else ""
    if op == "cross_entropy":
        return "the matrix of the logits is not the token embedding: an untied or a stale decoder"
    return "another kernel was used"


def _is_small(left: Array, difference: Array) -> bool:
    return bool(np.linalg.norm(left) <= CLOSE * np.linalg.norm(difference))


def _of_dropout(x: Array, theirs: Array) -> str:
    """Of numbers that are 0 or the right ones times one factor."""
    is_kept = theirs != 0.0
    if x.shape != theirs.shape or is_kept.all() or not is_kept.any():
        return ""
    with np.errstate(all="ignore"):
        factors = theirs[is_kept] / x[is_kept]
    factor = float(np.median(factors))
    if factor > 1.0 and _is_small(theirs[is_kept] - factor * x[is_kept], theirs[is_kept]):
        return f"dropout is on, with the rate {1.0 - 1.0 / factor:.3g}"
    return ""


def looks_like(theirs: Array, expected: Array, tolerance: Array) -> str:
    """Returns how an array differs from the expected one, in words, or "" if the difference has no simple form.

    Args:
        theirs: the given array.
        expected: the expected array, in the same shape.
        tolerance: the largest allowed error of each number.

    >>> looks_like(np.array([2.0, -4.0]), np.array([-1.0, 2.0]), np.full(2, 1e-6))
    'it is -2 times what it should be'
    >>> looks_like(np.zeros(2), np.ones(2), np.full(2, 1e-6))
    'it is zero'
    >>> looks_like(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 2.0], [0.0, 4.0]]), np.full((2, 2), 1e-6))
    'it differs only in row 1'
    """
    if not np.isfinite(theirs).all():
        return "it has numbers that are not finite"
    if not theirs.any():
        return "it is zero"
    factor = factor_of(theirs, expected, tolerance)
    if factor is not None:
        return f"it is {factor:.6g} times what it should be"
    if theirs.ndim == 2 and theirs.shape[0] == theirs.shape[1] and (np.abs(theirs.T - expected) <= tolerance).all():
        return "it is transposed"
    outside = np.abs(theirs - expected) > tolerance
    if outside.ndim == 2 and len(outside) > 1:
        if _is_same_in_rows(theirs - expected):
            return "each row is off by the same vector"
        for axis, line in ((1, "row"), (0, "column")):
            at = np.flatnonzero(outside.any(axis=axis))
            if len(at) == 1 < outside.shape[1 - axis]:
                return f"it differs only in {line} {at[0]}"
    return ""


def factor_of(theirs: Array, expected: Array, tolerance: Array) -> float | None:
    """Returns the number by which all of `expected` was multiplied, or None if there is none, or if it is 0. The
    arguments are those of `looks_like`.
    """
    size = float(np.vdot(expected, expected))
    if not size or not np.isfinite(theirs).all():
        return None
    factor = float(np.vdot(expected, theirs)) / size
    allowed = 2.0 * (1.0 + abs(factor)) * tolerance + CLOSE_TO * np.abs(theirs)
    is_all = np.abs(theirs - factor * expected) <= allowed
    left = np.linalg.norm(theirs - factor * expected)
    is_most = left <= 1e-2 * min(np.linalg.norm(theirs - expected), np.linalg.norm(theirs))
    return factor if factor and is_most and is_all.all() else None
