"""Arguments for each op of the table."""

from __future__ import annotations

import numpy as np

from pyroberta.ops import REFERENCE, Ops

N, M, C, F, V, T, H = 7, 4, 6, 10, 11, 5, 2


STARTS = np.array([0, 3, 3, 7], np.int32)


# Each op's arguments, from `draw(shape)` for floats and `ids(size, below)` for whole numbers.
ARGUMENTS = {
    "gather": lambda draw, ids: (draw(N, C), ids(M, N)),
    "embedding": lambda draw, ids: (ids(N, V), ids(N, T), draw(V, C), draw(T, C)),
    "prepare": lambda draw, ids: (draw(C, F),),
    "linear": lambda draw, ids: (draw(N, C), draw(C, F), draw(F)),
    "low_rank": lambda draw, ids: (draw(N, C), draw(C, 2), draw(2, F), 0.5),
    "layer_norm": lambda draw, ids: (draw(N, C), draw(C), draw(C), 1e-5),
    "gelu": lambda draw, ids: (draw(N, F),),
    "tanh": lambda draw, ids: (draw(M, C),),
    "feed_forward": lambda draw, ids: (draw(N, C), draw(C, F), draw(F), draw(F, C), draw(C)),
    "add_norm": lambda draw, ids: (draw(N, C), draw(N, C), draw(C), draw(C), 1e-5, 0.3, (7, 8)),
    "zeros": lambda draw, ids: ((N, C), draw(1).dtype),
    "view": lambda draw, ids: (draw(N * C), 2, 8, (2, 3)),
    "copy": lambda draw, ids: (draw(N, C), draw(N, C)),
    "fill": lambda draw, ids: (draw(N, C), 0.5),
    "add": lambda draw, ids: (draw(N, C), draw(N, C)),
    "maximum": lambda draw, ids: (draw(N), draw(N)),
    "running_mean": lambda draw, ids: (draw(N), draw(N), 0.9),
    "clip": lambda draw, ids: (draw(N), 0.5),
    "clip_scale": lambda draw, ids: (9.0, 1.5),
    "all_finite": lambda draw, ids: (draw(N), draw(N, C)),
    "to_host": lambda draw, ids: (draw(N, C),),
    "from_host": lambda draw, ids: (draw(N, C),),
    "accumulate": lambda draw, ids: (draw(N, C), draw(N, C)),
    "squared_norm": lambda draw, ids: (draw(N),),
    "dropout": lambda draw, ids: (draw(N, C), 0.3, (7, 8)),
    "attention": lambda draw, ids: (draw(N, C), draw(N, C), draw(N, C), STARTS, H, 0.3, (7, 8)),
    "cross_entropy": lambda draw, ids: (draw(M, C), draw(V, C), draw(V), ids(M, V)),
    "logits": lambda draw, ids: (draw(M, C), draw(V, C), draw(V)),
    "adam_step": lambda draw, ids: (draw(N), draw(N), draw(N), draw(N) ** 2, 1e-3, 0.9, 0.999, 1e-7, 0.5, 0.1),
}


def call_with(row: str, dtype: type, seed: int, ops: Ops = REFERENCE):
    """The row's op and arguments for it; for a backward a random dy and the forward's cache."""
    rng = np.random.default_rng(seed)
    op_name, is_backward, _ = row.partition("_backward")
    op_name = op_name if is_backward else op_name.removesuffix("_forward")
    arguments = ARGUMENTS[op_name](
        lambda *shape: rng.standard_normal(shape).astype(dtype),
        lambda size, below: rng.integers(0, below, size).astype(np.int32),
    )
    if "_backward" not in row:
        return getattr(ops, row), arguments
    y, cache = getattr(ops, f"{op_name}_forward")(*arguments)
    if isinstance(y, tuple):  # the losses, beside the predicted ids
        y = y[0]
    return getattr(ops, row), (rng.standard_normal(y.shape).astype(dtype), cache)


def arguments_of(op: str, seed: int) -> tuple:
    rng = np.random.default_rng(seed)
    made = ARGUMENTS[op](
        lambda *shape: rng.standard_normal(shape),
        lambda size, below: rng.integers(0, below, size).astype(np.int32),
    )
    if op in ("dropout", "add_norm"):  # whole sequences, with numbers of their own
        made = (*made, np.array([0, 3, 7]), np.array([4, 1]), None)
    return made
