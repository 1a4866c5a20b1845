"""Each op once, with few rows and columns: what .ci/cuda.sh runs under ThreadSanitizer, where a thread costs most."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_simulator import PRECISIONS, check, in_every_order, on_device, simulated
from drawn_arguments import attention_case, drawing
from numpy import ndarray as Array

pytestmark = pytest.mark.cuda

DRAW, _ = drawing(0)
ROWS, SEQUENCES = np.array([0, 2, 2, 1, 0], np.int32), [np.array([0, 3, 5]), np.array([7, 1])]
CASES: dict[str, tuple[list[Any], Array, dict[int, tuple[int, ...]]]] = {
    "linear": ([DRAW(5, 18), DRAW(18, 7), DRAW(7)], DRAW(5, 7), {1: (18, 7), 2: (7,)}),
    "low_rank": ([DRAW(5, 6), DRAW(6, 2), DRAW(2, 7), 0.5], DRAW(5, 7), {1: (6, 2), 2: (2, 7)}),
    "feed_forward": (
        [DRAW(3, 4), DRAW(4, 9), DRAW(9), DRAW(9, 4), DRAW(4)],
        DRAW(3, 4),
        {1: (4, 9), 2: (9,), 3: (9, 4), 4: (4,)},
    ),
    "gelu": ([DRAW(3, 5)], DRAW(3, 5), {}),
    "tanh": ([DRAW(3, 5)], DRAW(3, 5), {}),
    "layer_norm": ([DRAW(5, 37), DRAW(37), DRAW(37), 1e-5], DRAW(5, 37), {1: (37,), 2: (37,)}),
    "add_norm": (
        [DRAW(5, 37), DRAW(5, 37), DRAW(37), DRAW(37), 1e-5, 0.3, (1, 2), *SEQUENCES, None],
        DRAW(5, 37),
        {2: (37,), 3: (37,)},
    ),
    "dropout": ([DRAW(5, 37), 0.3, (1, 2), *SEQUENCES, None], DRAW(5, 37), {}),
    "gather": ([DRAW(3, 4), ROWS], DRAW(5, 4), {}),
    "embedding": ([ROWS, ROWS, DRAW(3, 4), DRAW(3, 4)], DRAW(5, 4), {0: (3, 4), 1: (3, 4)}),
    "attention": (*attention_case([3, 70], 1, 20, 0.3, (1, 2), 1.0, None, 0), {}),
    "cross_entropy": ([DRAW(3, 4), DRAW(300, 4), DRAW(300), np.array([0, 299, 5])], DRAW(3), {1: (300, 4), 2: (300,)}),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("op", CASES)
def test_an_op(op, precision):
    arguments, dy, shapes = CASES[op]
    check(op, arguments, dy, shapes, precision)


def test_what_is_done_to_gradients():
    ops = simulated()

    def run():
        w, m, v = (on_device(np.full(300, x, np.float32)) for x in (1.0, 0.5, 0.25))
        g = on_device(np.full(300, 2.0, np.float32))
        square = ops.squared_norm(g)
        ops.adam_step(w, g, m, v, 0.5, 0.75, 0.5, 0.0, ops.clip_scale(square, 1.0), 0.0, ops.all_finite(g))
        return square, m

    square, m = in_every_order(run)
    assert square == 1200.0
    np.testing.assert_allclose(m, 0.75 * 0.5 + 0.25 * 2.0 / np.sqrt(1200.0), rtol=1e-6)
