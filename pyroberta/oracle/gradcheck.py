"""Compares any pair of a forward and a backward with the definition of the derivative."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from pyroberta.formats.budget import type_of
from pyroberta.oracle import wrong_gradients
from pyroberta.oracle.known_ops import known_mistakes

STEPS = [2.0**-i for i in range(2, 14)]  # from a quarter of the input's size to a ten-thousandth of it
FINE_STEPS = [2.0**-i for i in range(14, 26)]  # for a forward that is undefined or far from linear at larger steps
FEW_STEPS = [2.0**-i for i in range(5, 10)]  # for a gradient that is measured number by number
EPS = 2.0**-52  # float64's
COMPLEX_STEP = 2.0**-60  # its square is less than float64's eps of the derivative
MOST_FORGIVEN = 1e-7  # times the derivative: the largest uncertainty of a measurement that is subtracted from the error
RESOLUTION = 1e-6  # times y: the scale of the error is at least this, because a smaller derivative is lost in rounding
ROUNDING = 2.0**-40  # times the derivative: 4096 times float64's eps, added to the uncertainty of the differences
# The largest error of a right gradient: the root of float64's eps. Rounding changes a right gradient by at most some
# thousand eps, if forward is stable. A mistake changes it by far more. The tolerance lies between the two.
TOLERANCE = 2.0**-26
SAME = 1e-10  # times y: the largest difference of two calls, which may add up numbers in another order
MOST_CALLS = 8000  # the most calls of forward that measure the whole gradient of one argument
MOST_NUMBERS = 1 << 22  # the most numbers of the derivative of all of y by one argument
DIRECTIONS = 4  # the number of random directions in which a factor is measured, for a larger argument


@dataclass(frozen=True)
class CheckedGradient:
    """What `check_backward` found about the gradient of one argument.

    Attributes:
        number: the number of the argument, from 0.
        name: the name of the argument, or "" if none was given.
        shape: the shape of the argument.
        error: |⟨u, J v⟩ - ⟨Jᵀu, v⟩| for the random pair u, v, divided by ‖J v‖. It is NaN if a number was not finite.
        by_complex_step: whether J v was measured by a complex step. Otherwise it was measured by differences.
        distance: the norm of the difference from the true gradient, divided by the norm of the true gradient. It is
            None if the argument is right or too large for the measurement.
        looks: the mistake in words, or "" if the gradient is right or no mistake is recognized.
    """

    number: int
    name: str
    shape: tuple[int, ...]
    error: float
    by_complex_step: bool
    distance: float | None = None
    looks: str = ""

    @property
    def is_right(self) -> bool:
        """Whether the error is at most `TOLERANCE`, the root of float64's eps."""
        return self.error <= TOLERANCE

    def __str__(self) -> str:
        name = f"({self.name!r}, {self.shape})" if self.name else f"{self.shape}"
        if self.is_right:
            return f"the gradient of argument {self.number} {name} is right, to {self.error:.1e}"
        size = "" if self.distance is None or math.isnan(self.distance) else f" by {self.distance:.3g} of its size"
        looks = f": {self.looks}" if self.looks else f": the random test has the error {self.error:.3g}"
        return f"the gradient of argument {self.number} {name} is wrong{size}{looks}"


@dataclass(frozen=True)
class CheckedBackward:
    """The result of `check_backward`. It is true if the backward is right.

    Attributes:
        gradients: a `CheckedGradient` for each argument, in their order.
    """

    gradients: tuple[CheckedGradient, ...]

    @property
    def error(self) -> float:
        """The largest error of an argument. It is NaN if a number was not finite, and NaN is not `<=` any number."""
        return float(np.max([0.0, *(one.error for one in self.gradients)]))  # Python's own max would drop a NaN

    @property
    def errors(self) -> dict[int | str, float]:
        """The error of each argument, by its name, or by its number if it has no name."""
        return {one.name or one.number: one.error for one in self.gradients}

    @property
    def wrong(self) -> tuple[CheckedGradient, ...]:
        """The gradients that are wrong."""
        return tuple(one for one in self.gradients if not one.is_right)

    @property
    def is_right(self) -> bool:
        """Whether the gradient of each argument is right."""
        return not self.wrong

    def __bool__(self) -> bool:
        return self.is_right

    def __str__(self) -> str:
        if self.wrong:
            return "\n".join(map(str, self.wrong))
        return f"backward is right: the worst error of {len(self.gradients)} gradients is {self.error:.1e}"


def check_backward(
    forward: Callable[..., tuple[Array, Any]],
    backward: Callable[[Array, Any], Array | Sequence[Array]],
    args: Sequence[Array],
    rng: int | np.random.Generator = 0,
    *,
    names: Sequence[str] | None = None,
) -> CheckedBackward:
    """Checks that a hand-written backward is the derivative of its forward, and names the mistake if it is not.

    `backward(u, cache)` should return Jᵀu, where J is the derivative of forward. The check measures J v without
    backward: J v = d/dt forward(x + t·v) at t = 0. The inner products ⟨Jᵀu, v⟩ and ⟨u, J v⟩ are equal for every u and v
    if and only if backward is right. So one random pair u, v tests all of J with a few evaluations. u is random because
    a special u, such as all ones, may hide a mistake: the dx of layer norm is 0 for it.

    Each argument is moved alone, in a random direction v of the argument's size. So a large gradient can't hide a small
    one. The error is relative to ‖J v‖, the usual size of ⟨u, J v⟩.

    J v is measured in two ways. Central differences are one. The other is a complex step, Im forward(x + i·h·v) / h,
    which is exact up to rounding because it subtracts nothing. The result of the complex step is used if forward
    accepts complex numbers, returns complex numbers, and agrees with the differences up to their accuracy. An `abs`, a
    conjugate or a cast in forward makes the two disagree. Then the differences are used.

    If the gradient of an argument is wrong, the true gradient is measured number by number, unless that takes more than
    8000 calls of forward. Then the two are compared, to find out whether the gradient is zero, transposed, a multiple,
    or that of another argument.

    If forward gives the result of GELU, the feed-forward, layer norm, add and norm, or attention for the same
    arguments, in their order, the wrong gradient is also compared with those of the known mistakes of that op.

    Args:
        forward: a function from the arguments to (y, cache), where y is a float64 array.
        backward: a function from (dy, cache) to one gradient for each argument, in their order. A single argument may
            have one array instead of a list. An input without a gradient must be passed through a closure.
        args: float64 arrays. They are not changed.
        rng: the seed, or the generator, of u and of the directions.
        names: the names of the arguments in the result.

    Returns:
        A `CheckedBackward` with the errors, and with the mistakes of wrong gradients. The error of a right and smooth
        op is about 1e-12 or less.

    Raises:
        TypeError: if an argument is not an array, or forward does not return a pair of an array and a cache.
        ValueError: if an argument or y is not float64, if the gradients differ from the arguments in number, shape or
            dtype, or if two calls of forward return different y.

    The method is that of HIPS autograd's `check_grads` and of JAX's `check_vjp`. The differences are Ridders's
    ("Accurate computation of F'(x) and F'(x) F''(x)", Advances in Engineering Software 4, 1982). The complex step is
    that of Squire and Trapp ("Using complex variables to estimate derivatives of real functions", SIAM Review 40,
    1998).

    >>> def square_forward(x):
    ...     return x * x, x
    >>> def square_backward(dy, x):
    ...     return 2.0 * x * dy
    >>> check_backward(square_forward, square_backward, [np.array([1.0, -2.0, 3.0])]).error < 1e-12
    True
    >>> print(check_backward(square_forward, lambda dy, x: x * dy, [np.array([1.0, -2.0, 3.0])], names=["x"]))
    the gradient of argument 0 ('x', (3,)) is wrong by 0.5 of its size: it is 0.5 times what it should be
    """
    names = _checked_names(args, names)
    rng = _generator(rng)
    before, _ = _called(forward, args)
    y, cache = _called(forward, args)
    if not _is_same(before, y):
        raise ValueError(
            "forward returned another y for the same arguments. If it draws random numbers, as dropout does, draw them "
            "once before the check and use the same numbers in each call"
        )
    u = np.asarray(rng.standard_normal(y.shape))
    gradients = _gradients(backward(u.copy(), cache))  # which may work on its dy in place
    _require_like(gradients, args, y)

    found = []
    with np.errstate(all="ignore"):  # a step may lead where forward is undefined, or too large
        for i, (x, gradient) in enumerate(zip(args, gradients, strict=True)):
            v = rng.standard_normal(x.shape) * _size(x)
            measured = _derivative(_along(forward, args, i, v))  # J v
            claimed = float(np.vdot(gradient, v))  # ⟨Jᵀu, v⟩
            error = abs(float(np.vdot(u, measured.value)) - claimed)
            scale = max(_norm(measured.value), abs(claimed), RESOLUTION * _norm(y))
            # What the differences themselves leave open is no error of backward's, as far as it is small.
            error = max(error - min(_norm(u) * measured.uncertain, MOST_FORGIVEN * scale), 0.0 * error)
            error = error / scale if scale > 0.0 else error
            error = (
                error if math.isfinite(scale) and math.isfinite(_norm(u)) else math.nan
            )  # x / inf is 0, and says nothing
            found.append(CheckedGradient(i, names[i], x.shape, error, measured.is_complex))
    checked = CheckedBackward(tuple(found))
    if checked.is_right:
        return checked
    case = _Case(forward, args, names, u, y, gradients, [one.by_complex_step for one in found])
    with np.errstate(all="ignore"):
        return CheckedBackward(tuple(one if one.is_right else case.looked_at(one, rng) for one in found))


# --- what was given ---------------------------------------------------------------------------------------------------


def _checked_names(args: Any, names: Sequence[str] | None) -> Sequence[str]:
    if not isinstance(args, Sequence):
        raise TypeError(
            f"args should be a list of arrays, as in check_backward(forward, backward, [x]); got {type_of(args)}"
        )
    for i, x in enumerate(args):
        if not isinstance(x, np.ndarray):
            raise TypeError(f"argument {i} should be a NumPy array; got {type_of(x)}")
        if x.dtype != np.float64:
            raise ValueError(f"argument {i} should be float64, got {x.dtype}: convert it before the check")
    if names is not None and len(names) != len(args):
        raise ValueError(f"names should have one name for each of the {len(args)} arguments; got {len(names)} names")
    if names is not None and len(set(names)) != len(names):
        raise ValueError(f"names should differ from each other; got {', '.join(map(repr, names))}")
    return names or [""] * len(args)


def _generator(rng: int | np.random.Generator) -> np.random.Generator:
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, bool) or not isinstance(rng, int | np.integer) or rng < 0:
        raise ValueError(f"rng should be a seed of at least 0 or a numpy.random.Generator; got {rng!r}")
    return np.random.default_rng((int(rng), 1))  # apart from arguments that the caller drew from the same seed


def _called(forward: Callable[..., tuple[Array, Any]], args: Sequence[Array]) -> tuple[Array, Any]:
    result: Any = forward(*(x.copy() for x in args))
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"forward should return a pair (y, cache), where y is an array; it returned {type_of(result)}")
    y, cache = result
    if not isinstance(y, np.ndarray | np.floating):
        raise TypeError(
            "forward should return a NumPy array as y; it returned "
            f"{type_of(y)}. Check one result at a time, and convert a tensor to an array"
        )
    if y.dtype != np.float64:
        raise ValueError(f"forward should return y in float64 for float64 arguments; it returned {y.dtype}")
    return np.array(y), cache


def _is_same(x: Array, y: Array) -> bool:
    """Whether both are equal up to the rounding of a sum in another order."""
    if x.shape != y.shape:
        return False
    other = ~((x == y) | (np.isnan(x) & np.isnan(y)))
    return not other.any() or _norm(x[other] - y[other]) <= SAME * _norm(y)


def _gradients(returned: Any) -> list[Array]:
    """Copies of what backward gave, an array or several."""
    if isinstance(returned, np.ndarray | np.floating):
        return [np.array(returned)]
    if not isinstance(returned, Sequence):
        raise TypeError(f"backward should return an array for each argument; it returned {type_of(returned)}")
    return [np.array(one) if isinstance(one, np.ndarray | np.floating) else one for one in returned]


def _require_like(gradients: Sequence[Array], args: Sequence[Array], y: Array) -> None:
    if len(gradients) != len(args):
        raise ValueError(
            f"backward should return one gradient for each of the {len(args)} arguments; it returned {len(gradients)}"
        )
    for i, (gradient, x) in enumerate(zip(gradients, args, strict=True)):
        if not isinstance(gradient, np.ndarray | np.floating):
            raise TypeError(f"gradient {i} should be a NumPy array; got {type_of(gradient)}")
        if gradient.shape != x.shape or gradient.dtype != x.dtype:
            hint = wrong_gradients.of_shape(gradient.shape, x.shape)
            raise ValueError(
                f"gradient {i} should have the dtype and shape of its argument, {x.dtype} {x.shape}; it has "
                f"{gradient.dtype} {gradient.shape}{hint}"
            )


# --- derivatives ------------------------------------------------------------------------------------------------------


class _Measured(NamedTuple):
    """A derivative."""

    value: Array
    uncertain: float  # how far it may be off, as a norm
    is_complex: bool  # by a complex step


def _along(forward: Callable[..., Any], args: Sequence[Array], i: int, v: Array) -> Callable[[complex], Array]:
    """t -> y, where argument i is moved by t·v."""

    def along(t: complex) -> Array:
        moved = [np.array(x + t * v if k == i else x) for k, x in enumerate(args)]
        return np.array(forward(*moved)[0])

    return along


def _derivative(f: Callable[[complex], Array]) -> _Measured:
    """f'(0), by a complex step where that agrees with differences as far as these go."""
    value, uncertain = _by_differences(f, STEPS)
    if not uncertain <= MOST_FORGIVEN * _norm(value):
        fine = _by_differences(f, FINE_STEPS)
        value, uncertain = fine if not uncertain <= fine[1] else (value, uncertain)
    exact, size = _by_complex_step(f), _norm(value)
    is_certain = uncertain <= MOST_FORGIVEN * size
    if exact is not None and is_certain and _norm(exact - value) <= uncertain + ROUNDING * size:
        return _Measured(exact, 0.0, True)
    return _Measured(value, uncertain, False)


def _by_complex_step(f: Callable[[complex], Array]) -> Array | None:
    """Im f(i·h) / h; None where f takes no complex numbers, or drops the imaginary part."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error")  # a cast to real numbers is a warning
        try:
            moved = f(1j * COMPLEX_STEP)
        except Exception:  # whatever an op raises for numbers that it is not made for
            return None
    return moved.imag / COMPLEX_STEP if moved.dtype == np.complex128 else None


def _by_differences(f: Callable[[complex], Array], steps: Sequence[float]) -> tuple[Array, float]:
    """Returns f'(0) by central differences at shrinking steps, extrapolated to the step 0, and its uncertainty.

    The error of a central difference is a series in h². Two differences at h and h/2 cancel its first term, three the
    second term, and so on (Romberg's table). Ridders takes the entry of the table that differs least from the entries
    that it was made of; this difference is the uncertainty. Large steps have a large series, and small steps have large
    rounding errors. The best step lies between. If a step changes y by less than its rounding, all differences may be 0
    and agree. So the uncertainty is at least the rounding of y divided by the step.
    """
    row: list[Array] = []
    y = f(0.0)
    best, least = y * math.nan, math.inf  # so it stays if nothing is finite
    for h in steps:
        above, row = row, [(f(h) - f(-h)) / (2.0 * h)]
        of_rounding = EPS * _norm(y) / h
        for k, coarse in enumerate(above):
            row.append(row[k] + (row[k] - coarse) / (4.0 ** (k + 1) - 1.0))
            disagreement = max(_norm(row[-1] - row[k]), _norm(row[-1] - coarse), of_rounding)
            if disagreement < least:
                best, least = row[-1], disagreement
    return best, least


def _size(x: Array) -> float:
    """The root mean square, or 1 where that is 0 or there is nothing."""
    return _norm(x) / math.sqrt(max(1, x.size)) or 1.0


def _norm(x: Array) -> float:
    """The root of the sum of squares, which may lie beyond float64 themselves."""
    most = float(np.abs(x).max(initial=0.0))
    return most * float(np.linalg.norm(np.ravel(x) / most)) if 0.0 < most < math.inf else most


# --- a wrong one ------------------------------------------------------------------------------------------------------


class _Case(NamedTuple):
    """A backward that has a wrong gradient."""

    forward: Callable[..., tuple[Array, Any]]
    args: Sequence[Array]
    names: Sequence[str]
    u: Array
    y: Array
    gradients: Sequence[Array]
    by_complex_step: Sequence[bool]  # of each argument

    def looked_at(self, one: CheckedGradient, rng: np.random.Generator) -> CheckedGradient:
        """Returns the finding with its distance and its mistake in words."""
        i = one.number
        gradient = np.asarray(self.gradients[i])
        looks = wrong_gradients.of_itself(gradient)
        measured = None if looks and "finite" in looks else self.jacobian(i)
        distance = None
        if measured is not None:
            jacobian, uncertain = measured
            terms = (self.u.reshape(-1, 1) * jacobian).reshape(*self.y.shape, *gradient.shape)
            true = terms.sum(axis=tuple(range(self.y.ndim)))
            size = _norm(true)
            distance = _norm(gradient - true) / size if size else math.nan
            wrong = wrong_gradients.Wrong(
                gradient, true, terms, jacobian.reshape(terms.shape), self.u, _norm(self.u) * uncertain
            )
            looks = wrong_gradients.looks_of(wrong, self.others(i))
        elif not looks:
            looks = self.of_directions(i, rng)
        if gradient.any() and np.isfinite(gradient).all():
            looks = self.of_catalogue(i) or looks
        return CheckedGradient(i, one.name, one.shape, one.error, one.by_complex_step, distance, looks)

    def of_catalogue(self, i: int) -> str:
        """Returns the known mistake that gives exactly this gradient, if forward is an op of RoBERTa, or ""."""
        gradient = self.gradients[i]
        known = known_mistakes(self.args, self.y, self.u, i)
        return next((words for words, wrong in known if wrong_gradients.is_equal(gradient, wrong)), "")

    def jacobian(self, i: int) -> tuple[Array, float] | None:
        """Returns J (y.size, x.size) of argument i and its largest error, or None if that takes too many calls."""
        x = self.args[i]
        calls = 1 if self.by_complex_step[i] else 2 * len(FEW_STEPS) + 1
        if x.size * calls > MOST_CALLS or x.size * self.y.size > MOST_NUMBERS:
            return None
        jacobian, most, size = np.empty((self.y.size, x.size)), 0.0, _size(x)
        for j in range(x.size):
            v = np.zeros(x.size)
            v[j] = size
            f = _along(self.forward, self.args, i, v.reshape(x.shape))
            column = _by_complex_step(f) if self.by_complex_step[i] else None
            if column is None:
                column, uncertain = _by_differences(f, FEW_STEPS)
                most = max(most, uncertain / size)
            jacobian[:, j] = column.ravel() / size
        return (jacobian, most) if np.isfinite(jacobian).all() and math.isfinite(most) else None

    def others(self, i: int) -> Iterator[tuple[str, Array]]:
        """The true gradient of each other argument that has the same shape."""
        for k, x in enumerate(self.args):
            if k != i and x.shape == self.args[i].shape and (found := self.jacobian(k)) is not None:
                name = f" ({self.names[k]!r})" if self.names[k] else ""
                yield f"argument {k}{name}", (self.u.reshape(1, -1) @ found[0]).reshape(x.shape)

    def of_directions(self, i: int, rng: np.random.Generator) -> str:
        """Returns the factor by which all of a large gradient is wrong, in words, or ""."""
        factors = []
        for _ in range(DIRECTIONS):
            v = rng.standard_normal(self.args[i].shape) * _size(self.args[i])
            measured = float(np.vdot(self.u, _derivative(_along(self.forward, self.args, i, v)).value))
            factors.append(float(np.vdot(self.gradients[i], v)) / measured if measured else math.nan)
        sizes: Mapping[str, int] = wrong_gradients.sizes_of(self.args[i].shape, self.y.shape)
        return wrong_gradients.of_factors(np.array(factors), sizes)
