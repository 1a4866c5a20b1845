"""What is trainable, and where backward puts what it finds."""

from __future__ import annotations

from collections.abc import Collection

from pyroberta.model.parameters import Arrays
from pyroberta.ops import Gradient, Ops


def depth(name: str) -> int:
    """How far up the walk a parameter lies: -1 for the embeddings, i for layer i, above all layers for the head.

    >>> [depth(name) for name in ("embeddings.token", "layers.3.attention.norm.beta")]
    [-1, 3]
    """
    room, number, *_ = name.split(".")
    if room == "layers":
        return int(number)
    return -1 if room == "embeddings" else 1 << 30


class Gradients:
    """Sums for the trainable parameters, nothing for the frozen ones.

    Args:
        sums: what `add` adds to, in place; laid out as the parameters are. The caller zeroes it.
        trainable: names of the parameters that want a gradient.

    Attributes:
        lowest: the depth of the lowest trainable parameter; backward stops there and forward keeps nothing below it.

    >>> sums = Arrays({"layers.0.bias": (2,), "head.bias": (2,)})
    >>> gradients = Gradients(sums, {"head.bias"})
    >>> gradients.wants("layers.0.bias"), gradients.wants("head.bias"), gradients.lowest > 10
    (False, True, True)
    """

    def __init__(self, sums: Arrays, trainable: Collection[str]) -> None:
        self.sums = sums
        self.trainable = frozenset(trainable)
        self.lowest = min(map(depth, self.trainable), default=depth("head.bias"))

    def wants(self, *names: str) -> bool:
        """Whether any of the named parameters is trainable."""
        return not self.trainable.isdisjoint(names)

    def add(self, ops: Ops, name: str, gradient: Gradient) -> None:
        """Adds what a backward of `ops` returned to the parameter's sum, if it is trainable."""
        if name in self.trainable:
            ops.accumulate(self.sums[name], gradient)
