"""How much a bound could be smaller: what an unlucky implementation loses, to which the bounds are compared.

Each formula below rounds every operation where it stands. A bound has to allow for the worst combination of these
roundings, whatever else it allows for. To first order that is the sum, over all roundings, of how far each of them
alone can move the result: here each is moved in turn, by a difference in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from bound_cases import CASES, KEY, drawing
from numpy import ndarray as Array
from strategies import starts_of
from within import SINGLE, bounds_of, widened

from pyroberta.oracle import bounds

STEP = 1e-6  # by how much a rounding is moved, relatively


class Roundings:
    """Counts the roundings of a formula, and moves one of them. A formula rounds what it computes by these methods."""

    def __init__(self, moved: int = -1, step: float = 0.0) -> None:
        self.moved, self.step = moved, step
        self.units: list[float] = []  # of each rounding, how many units of 2⁻²⁴ it may take

    def off(self, x: Any, units: Any) -> Array:
        x = np.array(x, np.float64)
        i = self.moved - len(self.units)
        self.units += np.broadcast_to(units, x.shape).ravel().tolist()
        if 0 <= i < x.size:
            x.flat[i] *= 1.0 + self.step
        return x

    def __call__(self, x: Any) -> Array:
        """One correctly rounded operation."""
        return self.off(x, 1.0)

    def exp(self, x: Array) -> Array:
        return self.off(np.exp(x), np.where(x == 0.0, 0.0, bounds.EXP))  # exp(0) is 1

    def log(self, x: Array) -> Array:
        return self.off(np.log(x), np.where(x == 1.0, 0.0, bounds.LOG))

    def sum(self, x: Array) -> Array:
        """Along the last axis, one after another."""
        total: Array = x[..., 0]
        for i in range(1, x.shape[-1]):
            total = self(total + x[..., i])
        return total

    def mean(self, x: Array) -> Array:
        """Of each row, (N, 1)."""
        C = x.shape[-1]
        total = self.sum(x)[:, None] / C
        return total if C & (C - 1) == 0 else self(total)

    def dot(self, a: Array, b: Array) -> Array:
        return self.sum(self(a[:, None, :] * b.T[None]))


Results = dict[str, Array]
Formula = Callable[..., Results]


def lost(formula: Formula, *arguments: Any) -> Results:
    """How far the roundings of a formula, all of them unlucky, take each number of each result from itself."""
    count = Roundings()
    exact = formula(count, *arguments)
    total = {name: np.zeros_like(result) for name, result in exact.items()}
    for i, units in enumerate(count.units):
        moved = formula(Roundings(i, STEP), *arguments)
        for name in total:
            total[name] += units * SINGLE.u * np.abs(moved[name] - exact[name]) / STEP
    return total


# --- formulas ---------------------------------------------------------------------------------------------------------


def attention(again: bool, by_keys: bool) -> Formula:
    """One head. again: backward makes the scores again, and keeps their sum; by_keys: δ is Σ p dp, and not Σ dy y."""

    def formula(r: Roundings, q: Array, k: Array, v: Array, *rest: Any) -> Results:
        D, dy = q.shape[1], rest[-1]

        def scaled(x: Array) -> Array:
            return x / 2.0 if D == 4 else x  # 1 / √D is a power of 2 for both

        scores = scaled(r.dot(q, k.T))
        top = scores[np.arange(len(q)), scores.argmax(axis=1)][:, None]
        weights = r.exp(r(scores - top))
        per_sum = r(1.0 / r.sum(weights)[:, None])
        p = r(weights * per_sum)
        y = r(r.dot(weights, v) * per_sum)
        if again:
            p = r(r.exp(r(scaled(r.dot(q, k.T)) - top)) * per_sum)
        dp = r.dot(dy, v.T)
        delta = r.sum(r(p * dp)) if by_keys else r.sum(r(dy * y))
        dscores = scaled(r(p * r(dp - delta[:, None])))
        return {"y": y, "dq": r.dot(dscores, k), "dk": r.dot(dscores.T, q), "dv": r.dot(p.T, dy)}

    return formula


def layer_norm(r: Roundings, x: Array, gamma: Array, beta: Array, epsilon: float, dy: Array) -> Results:
    centred = r(x - r.mean(x))
    inverse = r(1.0 / r(np.sqrt(r(r.mean(r(np.square(centred))) + r(epsilon)))))
    x_hat = r(centred * inverse)
    slope = r(dy * gamma)
    pull = r(x_hat * r.mean(r(slope * x_hat)))
    return {
        "y": r(r(gamma * x_hat) + beta),
        "dx": r(r(r(slope - r.mean(slope)) - pull) * inverse),
        "dgamma": r.sum(r(dy * x_hat).T),
        "dbeta": r.sum(dy.T),
    }


def cross_entropy(r: Roundings, h: Array, table: Array, bias: Array, labels: Array, dy: Array) -> Results:
    at = np.arange(len(h))
    z = r(r.dot(h, table.T) + bias)
    top = z.max(axis=1, keepdims=True)
    log_sum = r(r.log(r.sum(r.exp(r(z - top)))[:, None]) + top)
    slopes = r.exp(r(z - log_sum))
    slopes[at, labels] = r(slopes[at, labels] - 1.0)
    dz = r(dy[:, None] * slopes)
    return {
        "losses": r(log_sum[:, 0] - z[at, labels]),
        "dh": r.dot(dz, table),
        "dtable": r.dot(dz.T, h),
        "dbias": r.sum(dz.T),
    }


def sequence(S: int, D: int) -> Callable[..., Any]:
    return lambda draw, rng: ([draw(S, D), draw(S, D), draw(S, D), starts_of([S]), 1, 0.0, KEY], draw(S, D))


def rows(draw: Any, rng: np.random.Generator) -> Any:
    return [draw(2, 4), draw(4), draw(4), 1e-5], draw(2, 4)


def classes(draw: Any, rng: np.random.Generator) -> Any:
    return [draw(2, 3), draw(4, 3), draw(4), rng.integers(0, 4, 2).astype(np.int32)], draw(2)


WAYS = [
    attention(again=False, by_keys=False),
    attention(again=False, by_keys=True),
    attention(again=True, by_keys=False),
]
FORMULAS: dict[str, tuple[str, list[Formula], Callable[..., Any]]] = {
    "layer_norm 1 x 2": ("layer_norm", [layer_norm], CASES["layer_norm"].make),
    "layer_norm 2 x 4": ("layer_norm", [layer_norm], rows),
    "cross_entropy 1 of 2": ("cross_entropy", [cross_entropy], CASES["cross_entropy"].make),
    "cross_entropy 2 of 4": ("cross_entropy", [cross_entropy], classes),
    **{f"attention {S} x {D}": ("attention", WAYS, sequence(S, D)) for S, D in [(2, 1), (3, 1), (4, 1), (4, 4)]},
}


@cache
def compared(case: str, seed: int) -> dict[str, tuple[Array, Array, Array]]:
    """For each result: its bound, what the unluckiest way of computing it loses, eight units of its largest term."""
    op, ways, make = FORMULAS[case]
    arguments, dy = make(*drawing(seed))
    wide = [*map(widened, arguments), widened(dy)]
    losses = [lost(formula, *wide) for formula in ways]
    largest = CASES[op].largest(*wide)
    return {
        name: (bound, np.max([loss[name] for loss in losses], axis=0), 8.0 * SINGLE.ulp(largest[name]))
        for name, bound in bounds_of(op, arguments, dy).items()
    }


@pytest.mark.parametrize("case", FORMULAS)
def test_a_bound_is_at_least_what_roundings_lose_and_mostly_less_than_three_times_as_large(case):
    found = [compared(case, seed) for seed in range(2)]
    for name in found[0]:
        bound, loss = (np.concatenate([results[name][i].ravel() for results in found]) for i in (0, 1))
        assert (bound >= 0.999 * loss).all(), name
        rounded = loss > 0.0  # a sum of one number is not
        assert not rounded.any() or np.median(bound[rounded] / loss[rounded]) < 3.0, name


@pytest.mark.parametrize("D", [1, 4])
def test_no_bound_could_find_a_slip_of_eight_units_in_the_gradients_of_attention_of_four_tokens(D):
    """Roundings alone may lose more than the slip: p has passed through two exp and some ten roundings."""
    found = [compared(f"attention 4 x {D}", seed) for seed in range(2)]
    for name in ("dq", "dk", "dv"):
        loss, slip = (np.concatenate([results[name][i].ravel() for results in found]) for i in (1, 2))
        assert (loss > slip).all(), name
