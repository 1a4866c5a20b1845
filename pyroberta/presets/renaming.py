"""PyTorch's layout of a RoBERTa. Hugging Face's and fairseq's differ in the names alone.

Kernels lie (out, in) there and (in, out) here, and the position embedding has `pad_id + 1` rows in front that no token
uses.
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
    """The number of rows in front of the position embedding there."""
    return config.pad_id + 1


def renamed(names: Iterable[str], patterns: Names) -> dict[str, tuple[str, bool]]:
    """The entries of `names_there` for the parameters `names`, with their layers' numbers.

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
    """The shapes that the parameters `names` have there, by their names there."""
    layout = shapes(config)
    layout[POSITION] = (layout[POSITION][0] + unused_rows(config), config.hidden_dim)
    return {theirs: layout[ours][::-1] if transpose else layout[ours] for ours, (theirs, transpose) in names.items()}


def take_over(stored: Mapping[str, Stored], names: Names, params: Arrays, config: RobertaConfig) -> None:
    """Copies each of `names` from its tensor straight into its place in the vector.

    Raises:
        ValueError: where a number isn't finite, or is too large for the dtype of `params`.
    """
    for ours, (theirs, transpose) in names.items():
        skip = unused_rows(config) if ours == POSITION else 0
        Copy(stored[theirs], params[ours], transpose, skip).run()


def without_shared_prefix(tensors: Mapping[str, Value], roots: Collection[str]) -> dict[str, Value]:
    """The tensors without the components that all their names have in front of the model's names.

    Wrappers leave such components: `torch.compile` an `_orig_mod.`, `DataParallel` a `module.`.

    Args:
        tensors: by their names.
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
