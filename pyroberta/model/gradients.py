"""The names of the trainable parameters, and the sums of their gradients."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pyroberta.model.parameters import Arrays
from pyroberta.ops import Gradient, Ops

EMBEDDINGS, HEAD = -1, 1 << 30  # depths; a layer's is its number


def depth(name: str) -> int:
    """Returns the depth of a parameter in the model: -1 for the embeddings, i for layer i, and a number above that of
    all layers for the head.

    >>> [depth(name) for name in ("embeddings.token", "layers.3.attention.norm.beta")]
    [-1, 3]
    """
    room, number, *_ = name.split(".")
    if room == "layers":
        return int(number)
    return EMBEDDINGS if room == "embeddings" else HEAD


class Gradients:
    """The sums of the gradients of the trainable parameters.

    Args:
        sums: the vector to which `add` adds in place, in the parameters' layout. The caller sets it to 0 before.
        trainable: the names of the trainable parameters.
        ready: a function that is called with a range (start, stop) of the vector of sums as soon as the sums of that
            range are complete. The head's range comes first, that of the embeddings last. Together the ranges cover all
            trainable parameters.

    Attributes:
        lowest: the depth of the lowest trainable parameter. Backward stops at this depth, and forward keeps no cache
            below it.

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
        """Returns whether any of the named parameters is trainable."""
        return not self.trainable.isdisjoint(names)

    def add(self, ops: Ops, name: str, gradient: Gradient) -> None:
        """Adds a parameter's gradient to its sum, if the parameter is trainable. The gradient is one that a backward of
        `ops` returned.
        """
        if name in self.trainable:
            ops.accumulate(self.sums[name], gradient)

    def finish_all(self) -> None:
        """Calls `ready` for all ranges, in backward's order."""
        for at in sorted(set(map(depth, self.trainable)), reverse=True):
            self.finish(at)

    def finish(self, at: int) -> None:
        """Calls `ready` for the parameters of one depth, whose gradients are complete."""
        if self._ready is not None:
            for span in self.sums.spans(name for name in self.trainable if depth(name) == at):
                self._ready(*span)
