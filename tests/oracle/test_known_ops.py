"""`check_backward` names the catalogue's mistake if forward is an op that the catalogue has."""

from __future__ import annotations

import numpy as np
import pytest

from pyroberta.ops import REFERENCE
from pyroberta.ops.gelu import gelu_forward
from pyroberta.oracle import check_backward
from pyroberta.oracle.causes import causes_of
from pyroberta.oracle.known_ops import known_mistakes
from pyroberta.oracle.plain import PLAIN

KEY = (0, 0)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape)


# op -> the arrays, and the arguments after them
CASES = {
    "gelu": ([normal(4, 6)], {}),
    "feed_forward": ([normal(4, 6), normal(6, 5), normal(5), normal(5, 6), normal(6)], {}),
    "layer_norm": ([normal(4, 6), normal(6), normal(6)], {"epsilon": 1e-5}),
    "add_norm": (
        [normal(4, 6), normal(4, 6) + 1.0, normal(6), normal(6)],
        {"epsilon": 1e-12, "rate": 0.0, "key": KEY, "starts": None, "numbers": None, "rows": None},
    ),
    "attention": (
        [normal(5, 6), normal(5, 6) + 0.1, normal(5, 6) + 0.2],
        {"starts": np.array([0, 5]), "num_heads": 2, "rate": 0.0, "key": KEY, "numbers": None, "query_rows": None},
    ),
}


def mistakes() -> list[tuple[str, str, str]]:
    """Each op, mistake and argument whose gradient the mistake changes."""
    found = []
    for op, (args, others) in CASES.items():
        arguments = dict(zip(PLAIN[op].arguments, args, strict=False)) | others
        dy = np.cos(np.arange(PLAIN[op].values_of(arguments)["output"].size)).reshape(args[0].shape)
        right = PLAIN[op].gradients_of(arguments | {"dy": dy})
        for cause in causes_of(op, arguments | {"dy": dy}):
            wrong = cause.values(arguments | {"dy": dy})
            for name in PLAIN[op].gradients:
                if name in wrong and np.asarray(wrong[name]).any() and not np.allclose(wrong[name], right[name]):
                    found.append((op, cause.name, name))
    return found


@pytest.mark.parametrize(("op", "mistake", "name"), mistakes())
def test_a_mistake_of_the_catalogue_is_named(op: str, mistake: str, name: str) -> None:
    args, others = CASES[op]
    names = PLAIN[op].arguments[: len(args)]

    def forward(*args):
        arguments = dict(zip(names, args, strict=True)) | others
        return PLAIN[op].values_of(arguments)["output"], arguments

    def backward(dy, arguments):
        arguments = arguments | {"dy": dy}
        gradients = PLAIN[op].gradients_of(arguments)
        wrong = next(one.values(arguments) for one in causes_of(op, arguments) if one.name == mistake)
        return [wrong[of] if of == name else gradients[of] for of in names]

    (one,) = check_backward(forward, backward, args, names=names).wrong
    assert (one.name, one.looks) == (name, mistake)


def test_rows_may_lie_along_several_axes_and_may_be_too_many_to_measure() -> None:
    """Layer norm of (B, S, C) without the gradient through the variance, of too many numbers for the true gradient."""
    gamma, beta = normal(40), normal(40)

    def forward(x):
        y, cache = REFERENCE.layer_norm_forward(x.reshape(-1, 40), gamma, beta, 1e-6)
        return y.reshape(x.shape), cache

    def backward(dy, cache):
        slope = dy.reshape(-1, 40) * gamma
        return (cache.inverse_std[:, None] * (slope - slope.mean(axis=1, keepdims=True))).reshape(dy.shape)

    (one,) = check_backward(lambda x, *_: forward(x), lambda dy, c: (backward(dy, c),), [normal(3, 80, 40)]).wrong
    assert one.distance is None
    assert one.looks == ""  # gamma is in a closure: with gamma = 1 another y comes out
    gamma[...], beta[...] = 1.0, 0.0
    (one,) = check_backward(forward, backward, [normal(3, 80, 40)]).wrong
    assert one.looks == "no gradient goes through the variance"


def test_another_function_is_no_known_op() -> None:
    x = normal(4, 6)
    assert list(known_mistakes([x], gelu_forward(x)[0] + 1e-6, x, 0)) == []
    assert list(known_mistakes([np.array(1.0)], np.array(0.0), np.array(1.0), 0)) == []
