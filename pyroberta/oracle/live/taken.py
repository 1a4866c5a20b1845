"""The tensors that are collected from a running model, by name, and the values that its modules show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy import ndarray as Array

from pyroberta.model.config import RobertaConfig
from pyroberta.oracle.golden import Trace
from pyroberta.oracle.names import Names, names_of

# The output of a module -> the value that is the module's input. Most of these values are not outputs of a module.
INPUTS = {
    "embeddings.norm.output": "embeddings.output",
    "layers.#.attention.output.output": "layers.#.attention.context",
    "layers.#.attention.norm.output": "layers.#.attention.norm.sum",
    "layers.#.feed_forward.norm.output": "layers.#.feed_forward.norm.sum",
    "head.norm.output": "head.gelu.output",
}


class Taken:
    """Collected tensors by name, in the order in which they were computed. After a backward, they have gradients."""

    def __init__(self) -> None:
        self.tensors: dict[str, Any] = {}
        self.names: dict[str, str] = {}  # those that have no name of theirs -> the trace's

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def add(self, name: str, tensor: Any, ours: str = "") -> None:
        """Adds a tensor.

        Args:
            name: the name of the tensor.
            tensor: a tensor of torch, or an array.
            ours: the trace's name, if `name` is not a known name.
        """
        if ours:
            self.names[name] = ours
            self.names[f"{name}.grad"] = f"d.{ours}"
        self.tensors.pop(name, None)  # what comes later counts, and stands last
        self.tensors[name] = tensor
        if getattr(tensor, "requires_grad", False):  # an array of another backend has none
            tensor.retain_grad()

    def arrays(self, to_array: Callable[[Any], Array]) -> dict[str, Array]:
        """Returns all tensors as arrays, and the gradient of x as `x.grad`."""
        found = {name: to_array(tensor) for name, tensor in self.tensors.items()}
        for name, tensor in self.tensors.items():
            if getattr(tensor, "requires_grad", False) and tensor.grad is not None:
                found[f"{name}.grad"] = to_array(tensor.grad)
        return found

    def names_in(self, golden: Trace, arrays: Mapping[str, Array]) -> dict[str, str]:
        """Returns the declared names, their name -> the trace's, of tensors that both sides have."""
        return {
            theirs: ours
            for theirs, ours in self.names.items()
            if theirs in arrays and (ours in golden or f"{ours}.0" in golden)
        }


def inputs_of(config: RobertaConfig, format: str) -> dict[str, str]:
    """Returns the modules whose input is a value of the trace: module's name -> the trace's name of its input.

    >>> config = RobertaConfig(vocabulary_size=9, num_layers=1, num_heads=1, hidden_dim=2, intermediate_dim=2)
    >>> inputs_of(config, "hf")["roberta.encoder.layer.0.output.LayerNorm"]
    'layers.0.feed_forward.norm.sum'
    """
    found = {}
    for output, ours in INPUTS.items():
        for i in range(config.num_layers if "#" in output else 1):
            theirs = names_of(output.replace("#", str(i)), config.head).get(format)
            if theirs is not None:
                found[theirs] = ours.replace("#", str(i))
    return found


def reader_of(config: RobertaConfig) -> Names:
    """Returns the reader of the names of a model's tensors."""
    return Names(config.num_layers, config.head, not config.tie_embeddings)
