"""What is trainable, and where backward puts what it finds."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pyroberta.model.parameters import Arrays
from pyroberta.ops import Gradient, Ops

EMBEDDINGS, HEAD = -1, 1 << 30  # depths; a layer's is its number


def depth(name: str) -> int:
    """How far up the model a parameter lies: -1 for the embeddings, i for layer i, above all layers for the head.

    >>> [depth(name) for name in ("embeddings.token", "layers.3.attention.norm.beta")]
    [-1, 3]
    """
    room, number, *_ = name.split(".")
    if room == "layers":
        return int(number)
    return EMBEDDINGS if room == "embeddings" else HEAD


class Gradients:
    """Sums for the trainable parameters, nothing for the frozen ones.

    Args:
        sums: what `add` adds to, in place; laid out as the parameters are. The caller zeroes it.
        trainable: names of the parameters that want a gradient.
        ready: is called with a range (start, stop) of the vector of sums as soon as backward adds nothing to it any
            more: the head's first, the embeddings' last. Together the ranges are those of all trainable parameters.

    Attributes:
        lowest: the depth of the lowest trainable parameter; backward stops there and forward keeps nothing below it.

    >>> sums = Arrays({"layers.0.bias": (2,), "head.bias": (2,)})
    >>> gradients = Gradients(sums, {"head.bias"})
    >>> gradients.wants("layers.0.bias"), gradients.wants("head.bias"), gradients.lowest > 10
    (False, True, True)
    """

    def __init__(
        self, sums: Arrays, trainable: Collection[str], ready: Callable[[int, int], None] | None = None
    ) -> None:
        self.sums = sums
        self.trainable = frozenset(trainable)
        self.lowest = min(map(depth, self.trainable), default=HEAD)
        self._ready = ready

    def wants(self, *names: str) -> bool:
        """Whether any of the named parameters is trainable."""
        return not self.trainable.isdisjoint(names)

    def add(self, ops: Ops, name: str, gradient: Gradient) -> None:
        """Adds what a backward of `ops` returned to the parameter's sum, if it is trainable."""
        if name in self.trainable:
            ops.accumulate(self.sums[name], gradient)

    def finish_all(self) -> None:
        """Every gradient is complete, told in backward's order."""
        for at in sorted(set(map(depth, self.trainable)), reverse=True):
            self.finish(at)

    def finish(self, at: int) -> None:
        """Backward has passed this depth: the gradients of its parameters are complete."""
        if self._ready is not None:
            for span in self.sums.spans(name for name in self.trainable if depth(name) == at):
                self._ready(*span)
