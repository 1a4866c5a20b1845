"""Names the mistake in a wrong gradient, from its differences to the true one. The mistakes are those of hand-written
backwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import permutations
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from pyroberta.oracle.calls import largest
from pyroberta.oracle.signatures import factor_of

CLOSE = 1e-6  # times the largest number: the largest difference of two gradients that count as equal
ROUGHEST = 1e-2  # times the largest number: a true gradient that is more uncertain than this is not compared
MOST_ROWS = 256  # the largest number of rows of y whose shares of a gradient are tried one by one
FEWEST = 3  # the smallest number of elements that a factor must fit, for an array other than the true gradient


class Wrong(NamedTuple):
    """A wrong gradient and the true one. `found` and `true` are float64 arrays in the shape of the argument, and `dy`
    has the shape of y.
    """

    found: Array
    true: Array
    terms: Array  # (*shape of y, *shape of the argument): the share of each number of y in the gradient
    jacobian: Array  # the same shape: the derivative of each number of y
    dy: Array
    uncertain: float  # the largest error of `true`

    @property
    def tolerance(self) -> float:
        """The largest error of a number that counts as right."""
        return self.uncertain + CLOSE * largest(self.true)

    @property
    def sizes(self) -> Mapping[str, int]:
        """The lengths that may occur in a factor: description -> length."""
        return sizes_of(self.found.shape, self.dy.shape)


def looks_of(wrong: Wrong, others: Iterable[tuple[str, Array]] = ()) -> str:
    """Returns what is wrong with a gradient, in words, or "" if no known mistake fits.

    Args:
        wrong: the gradient.
        others: the name and the true gradient of each other argument of the same shape.
    """
    found, true = wrong.found, wrong.true
    if looks := of_itself(found):
        return looks
    if wrong.uncertain > ROUGHEST * max(largest(true), largest(found)):
        return ""
    if largest(true) <= wrong.uncertain + np.finfo(np.float64).eps * largest(wrong.terms):
        return "it should be zero"
    if _is_near(found, true, wrong):
        return "each number is right up to rounding: forward is too inexact for a finer measurement"
    candidates = [*_candidates(wrong), *((f"it is the gradient of {name}", one) for name, one in others)]
    for words, candidate in candidates:
        if largest(candidate) and _is_near(found, candidate, wrong):
            return words
    factor = _factor(found, true, wrong)
    if factor is not None:
        return of_factors(np.array([factor]), wrong.sizes)
    if found.size >= FEWEST:
        for words, candidate in candidates:
            scaled = _factor(found, candidate, wrong)
            if scaled is not None and _explained(scaled, wrong.sizes):
                return f"{words}, times {scaled:.6g}"
    return next((looks for look in LOOKS if (looks := look(wrong))), "")


def of_itself(found: Array) -> str:
    """Returns a mistake that the gradient shows without the true one: numbers that are not finite, or only zeros. Else
    it returns "".
    """
    if not np.isfinite(found).all():
        at = tuple(map(int, np.argwhere(~np.isfinite(found))[0]))
        return f"{(~np.isfinite(found)).sum()} of its numbers are not finite, the first at {list(at)}"
    return "" if found.any() else "it is zero"


def of_shape(found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Returns a hint about a wrong shape, for the end of an error, or "".

    >>> of_shape((5, 3), (3,))
    '. Should it be summed over its first axis?'
    """
    if found == wanted:
        return ""
    if found == wanted[::-1]:
        return ". Is it transposed?"
    if len(found) > len(wanted) and found[len(found) - len(wanted) :] == wanted:
        axes = len(found) - len(wanted)
        return f". Should it be summed over its first {'axis' if axes == 1 else f'{axes} axes'}?"
    return ""


def is_equal(found: Array, other: Array) -> bool:
    """Returns whether two gradients of the same shape are equal up to `CLOSE` times the largest number."""
    return bool(np.abs(found - other).max(initial=0.0) <= CLOSE * largest(found))


def sizes_of(argument: tuple[int, ...], y: tuple[int, ...]) -> Mapping[str, int]:
    """Returns the lengths that may occur in a factor: description -> length.

    Args:
        argument: the shape of the argument.
        y: the shape of y.
    """
    sizes = {f"the length of y's axis {axis}": length for axis, length in enumerate(y)}
    sizes |= {f"the length of the argument's axis {axis}": length for axis, length in enumerate(argument)}
    return sizes | ({"the size of y": math.prod(y)} if len(y) > 1 else {})


def of_factors(factors: Array, sizes: Mapping[str, int]) -> str:
    """Returns that the gradient is a multiple of the true one, with the possible origin of the factor. It returns "" if
    the factors differ.

    Args:
        factors: the factor along each direction, (directions,).
        sizes: the return value of `sizes_of`.

    >>> of_factors(np.array([-0.5]), {"the length of y's axis 0": 4})
    "it is -0.5 times what it should be: the sign is wrong, and the factor is 1/√4, where 4 is the length of y's axis 0"
    """
    factor = float(factors.mean())
    if not np.isfinite(factors).all() or np.ptp(factors) > CLOSE * abs(factor):
        return ""
    explained = _explained(factor, sizes)
    return f"it is {factor:.6g} times what it should be{': ' if explained else ''}{explained}"


# The factors that come from a length n: the exponent of n, how it is written, and the usual mistake.
POWERS = {
    1.0: ("{}", ": a sum instead of a mean?"),
    -1.0: ("1/{}", ": a mean instead of a sum?"),
    0.5: ("√{}", ""),
    -0.5: ("1/√{}", ""),
    2.0: ("{}²", ""),
    -2.0: ("1/{}²", ""),
}


def _explained(factor: float, sizes: Mapping[str, int]) -> str:
    """Returns the possible origin of a factor, or "" if none is known."""
    size = abs(factor)
    for exponent, (written, mistake) in POWERS.items():
        for name, n in sizes.items():
            if n > 1 and abs(size - n**exponent) <= CLOSE * size:
                sign = "the sign is wrong, and the factor is " if factor < 0.0 else ""
                return f"{sign}{written.format(n)}, where {n} is {name}{mistake}"
    return "the sign is wrong" if abs(factor + 1.0) <= CLOSE else ""


# --- arrays that people get instead -----------------------------------------------------------------------------------


def _candidates(wrong: Wrong) -> Iterator[tuple[str, Array]]:
    true, dy, jacobian = wrong.true, wrong.dy, wrong.jacobian
    axes_of_y = tuple(range(dy.ndim))
    yield "it ignores dy: it is the gradient of the sum of y", jacobian.sum(axis=axes_of_y)
    if dy.shape == true.shape:
        yield "it is dy itself", dy
    for axes in permutations(range(true.ndim)):
        if true.ndim <= 4 and list(axes) != sorted(axes):
            turned = true.transpose(axes)
            if turned.shape == true.shape:
                yield "it is transposed" if true.ndim == 2 else f"its axes are in the order {axes}", turned
            else:
                yield "its numbers are those of its transpose, reshaped", turned.reshape(true.shape)
    if dy.size == true.size:
        turned = jacobian.reshape(dy.size, true.size) @ dy.ravel()
        yield "it is J dy, not Jᵀ dy: a matrix inside is not transposed", turned.reshape(true.shape)
    for axis in range(true.ndim if true.size else 0):
        if true.shape[axis] > 1:
            line = {0: "row", 1: "column"}.get(axis, f"slice of axis {axis}") if true.ndim > 1 else "number"
            total = np.broadcast_to(true.sum(axis=axis, keepdims=True), true.shape)
            yield f"each {line} is the sum of all {line}s", total
            yield f"each {line} is the mean of all {line}s", total / true.shape[axis]
            yield f"its {line}s are in reverse order", np.flip(true, axis)
    shares = list(enumerate(_shares(wrong)))
    for k, share in shares:
        yield f"it is only the share of y's row {k}: the shares of the other rows are missing", share
    for k, share in shares:
        yield f"the share of y's row {k} is missing", true - share
        yield f"the share of y's row {k} is added twice", true + share


def _shares(wrong: Wrong) -> Array:
    """What each row of y has of the gradient; none where y has no rows, or too many."""
    if not wrong.dy.ndim or not 1 < len(wrong.dy) <= MOST_ROWS:
        return np.zeros((0, *wrong.true.shape))
    shares: Array = wrong.terms.sum(axis=tuple(range(1, wrong.dy.ndim)))
    return shares


# --- how it differs ---------------------------------------------------------------------------------------------------


def _assigned(wrong: Wrong) -> str:
    """Whether numbers are one term of a sum instead of the sum."""
    shares = _shares(wrong)
    if not len(shares):
        return ""
    outside = np.abs(wrong.found - wrong.true) > wrong.tolerance
    several = (np.abs(shares) > wrong.tolerance).sum(axis=0) > 1
    one_of_them = (np.abs(shares - wrong.found) <= wrong.tolerance).any(axis=0)
    if outside.sum() > 1 and (several & one_of_them)[outside].all():
        return (
            "a number that should be the sum of the shares of several rows of y is only one of them: assigned, not "
            "added up"
        )
    return ""


def _in_one_line(wrong: Wrong) -> str:
    """Whether only one number, row or column is wrong."""
    outside = np.abs(wrong.found - wrong.true) > wrong.tolerance
    places = np.argwhere(outside)
    if len(places) == 1:
        at = tuple(map(int, places[0]))
        return f"it differs only at {list(at)}: {wrong.found[at]:.6g} instead of {wrong.true[at]:.6g}"
    for axis in range(outside.ndim):
        at_axis = np.unique(places[:, axis])
        if len(at_axis) == 1 < outside.shape[axis]:
            line = {0: "row", 1: "column"}.get(axis) if outside.ndim == 2 else f"axis {axis} at"
            found, true = (np.take(one, at_axis[0], axis=axis) for one in (wrong.found, wrong.true))
            factor = 0.0 if not found.any() else _factor(found, true, wrong)
            detail = (
                ""
                if factor is None
                else f", where it is {'zero' if not factor else f'{factor:.6g} times the true value'}"
            )
            return f"it differs only in {line} {at_axis[0]}{detail}"
    return ""


def _by_lines(wrong: Wrong) -> str:
    """Whether each row, or each column, has a factor, differs by the same vector, or is the same."""
    if wrong.found.ndim != 2:
        return ""
    for turned, line, other in ((False, "row", "column"), (True, "column", "row")):
        found, true = (one.T if turned else one for one in (wrong.found, wrong.true))
        if len(found) > 1 and np.ptp(found, axis=0).max(initial=0.0) <= wrong.tolerance:
            return f"each {line} is the same"
        if len(found) > 1 and np.ptp(found - true, axis=0).max(initial=0.0) <= wrong.tolerance:
            return f"each {line} is off by the same vector: in each {other} one number is added"
        if len(found) > 1 and found.shape[1] >= FEWEST:
            factors = [_factor(row, correct, wrong) for row, correct in zip(found, true, strict=True)]
            known = [1.0 if one is None else one for one in factors]
            if _is_near(found, np.array(known)[:, None] * true, wrong):
                return f"each {line} is multiplied by a number of its own, {min(known):.4g} to {max(known):.4g}"
    return ""


def _permuted(wrong: Wrong) -> str:
    """Whether the numbers are right, but in other places."""
    found, true = wrong.found, wrong.true
    if found.ndim > 1 and len(found) > 1:
        rows, correct = (one.reshape(len(one), -1) for one in (found, true))
        apart = np.abs(rows[:, None] - correct[None]).max(axis=2, initial=0.0) <= wrong.tolerance
        if (apart.any(axis=0) & apart.any(axis=1)).all():
            return "its rows are right, in another order"
    if np.abs(np.sort(found, axis=None) - np.sort(true, axis=None)).max(initial=0.0) <= wrong.tolerance:
        return "its numbers are right, in other places"
    return ""


def _most(wrong: Wrong) -> str:
    """Where the difference is largest, if no mistake is recognized."""
    at = tuple(map(int, np.unravel_index(np.abs(wrong.found - wrong.true).argmax(), wrong.true.shape)))
    outside = int((np.abs(wrong.found - wrong.true) > wrong.tolerance).sum())
    return (
        f"{outside} of {wrong.true.size} numbers differ. The largest difference is at {list(at)}: "
        f"{wrong.found[at]:.6g} instead of {wrong.true[at]:.6g}"
    )


LOOKS = (_assigned, _in_one_line, _by_lines, _permuted, _most)


def _factor(found: Array, true: Array, wrong: Wrong) -> float | None:
    """The number that all of `true` is multiplied by, if there is one, and not 0."""
    return factor_of(found, true, np.asarray(wrong.tolerance))


def _is_near(found: Array, candidate: Array, wrong: Wrong) -> bool:
    limit = wrong.uncertain + CLOSE * min(largest(candidate), largest(wrong.true))
    return bool(np.abs(found - candidate).max(initial=0.0) <= limit)
