"""The table that `summary` prints, and the text of `repr`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyroberta.tasks.backbone import Backbone


def described(kind: str, backbone: Backbone, names: Collection[str], origin: str | None) -> str:
    """Returns a line about a model, for `repr`.

    Args:
        kind: the name of its class.
        backbone: the owner of its parameters.
        names: the names of the model's parameters.
        origin: the preset from which it was loaded. None for initial weights.
    """
    config = backbone.config
    count = sum(backbone.params[name].size for name in names)
    of = f" from {origin!r}" if origin else ""
    return (
        f"<{kind}{of}: {config.num_layers} layers, hidden {config.hidden_dim}, {config.num_heads} heads, vocabulary "
        f"{config.vocabulary_size}, {count:,} parameters; {backbone.precision}, backend {backend(backbone)}>"
    )


def table(kind: str, backbone: Backbone, names: Iterable[str], trainable: Collection[str]) -> str:
    """Returns a table of the model's parts, one on each line."""
    config, params = backbone.config, backbone.params
    parts: dict[str, list[str]] = {}
    for name in names:
        room, number, *_ = name.split(".")
        parts.setdefault(f"{room}.{number}" if room == "layers" else room, []).append(name)
    rows = [
        (part, sum(params[name].size for name in names), sum(params[name].size for name in names if name in trainable))
        for part, names in parts.items()
    ]
    rows.append(("total", sum(count for _, count, _ in rows), sum(moving for _, _, moving in rows)))
    return "\n".join(
        (
            f"{kind}: {config.num_layers} layers, hidden {config.hidden_dim}, {config.num_heads} heads, feed-forward "
            f"{config.intermediate_dim}, vocabulary {config.vocabulary_size}, up to {config.max_sequence_length} "
            f"tokens; {backbone.precision}, backend {backend(backbone)}",
            f"{'part':<14}{'parameters':>14}{'trainable':>14}",
            *(f"{part:<14}{count:>14,}{moving:>14,}" for part, count, moving in rows),
        )
    )


def backend(backbone: Backbone) -> str:
    """Returns the name of the backend that runs a backbone."""
    return backbone.ops.name.split()[0]
