"""PyTorch's layout of a RoBERTa. The layouts of Hugging Face and fairseq differ only in the names.

Kernels are (out, in) in this layout, and (in, out) in pyroberta. The position embedding begins with `pad_id + 1` rows
that no token uses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from pyroberta.formats.stored import Copy, Stored
from pyroberta.model.config import RobertaConfig
from pyroberta.model.parameters import Arrays, Shape, shapes, split_layer

# A parameter's name here: its name there, and whether it is transposed there. `#` is the layer's number in a pattern.
Names = Mapping[str, tuple[str, bool]]
POSITION = "embeddings.position"
MOST_WRAPPERS = 8  # wrappers, whose names may stand in front of a tensor's
Value = TypeVar("Value")


def unused_rows(config: RobertaConfig) -> int:
    """Returns the number of unused rows at the beginning of the position embedding in this layout."""
    return config.pad_id + 1


def renamed(names: Iterable[str], patterns: Names) -> dict[str, tuple[str, bool]]:
    """Returns the names of `patterns` for the parameters `names`, with the numbers of their layers.

    >>> renamed(["layers.3.norm.gamma"], {"layers.#.norm.gamma": ("encoder.#.norm.weight", False)})
    {'layers.3.norm.gamma': ('encoder.3.norm.weight', False)}
    """
    found = {}
    for name in names:
        pattern, layer = split_layer(name)
        theirs, transpose = patterns[pattern]
        found[name] = (theirs.replace("#", layer), transpose)
    return found


def stored_shapes(names: Names, config: RobertaConfig) -> dict[str, Shape]:
    """Returns the shapes that the parameters `names` have in this layout, by their names in it."""
    layout = shapes(config)
    layout[POSITION] = (layout[POSITION][0] + unused_rows(config), config.hidden_dim)
    return {theirs: layout[ours][::-1] if transpose else layout[ours] for ours, (theirs, transpose) in names.items()}


def take_over(stored: Mapping[str, Stored], names: Names, params: Arrays, config: RobertaConfig) -> None:
    """Copies each of `names` from its tensor directly into its place in the vector.

    Raises:
        ValueError: if a number is not finite, or is too large for the dtype of `params`.
    """
    for ours, (theirs, transpose) in names.items():
        skip = unused_rows(config) if ours == POSITION else 0
        Copy(stored[theirs], params[ours], transpose, skip).run()


def without_shared_prefix(tensors: Mapping[str, Value], roots: Collection[str]) -> dict[str, Value]:
    """Returns the tensors without the components that all their names have in front of the model's own names.

    Wrappers add such components: `torch.compile` adds `_orig_mod.`, `DataParallel` adds `module.`.

    Args:
        tensors: the tensors, by name.
        roots: the first components of the model's names.

    >>> without_shared_prefix({"_orig_mod.encoder.a": 1, "_orig_mod.lm_head.b": 2}, ("encoder", "lm_head"))
    {'encoder.a': 1, 'lm_head.b': 2}
    """
    found = dict(tensors)
    for _ in range(MOST_WRAPPERS):
        first = next(iter(found), "").partition(".")[0] + "."
        if first[:-1] in roots or not all(name.startswith(first) for name in found):
            break
        found = {name.removeprefix(first): tensor for name, tensor in found.items()}
    return found
