"""The parameters of a model: their layout (names and shapes), and the contiguous vector that holds them all."""

from __future__ import annotations

import copy
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyroberta.model.config import RobertaConfig
from pyroberta.model.heads import head_of
from pyroberta.model.layers import PREPARED, linear_shapes, norm_shapes
from pyroberta.ops import REFERENCE, Ops

Shape = tuple[int, ...]
Params = Mapping[str, Any]  # what forward takes: `Arrays`, or `PreparedArrays`


def shapes(config: RobertaConfig) -> dict[str, Shape]:
    """Returns every parameter's name and shape, in the order in which they lie in the vector.

    This is the only list of parameters. Each file format has a table of its own names for them. Kernels are (in, out):
    a layer computes `x @ kernel + bias`.

    >>> config = RobertaConfig(vocabulary_size=10, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=8)
    >>> shapes(config)["layers.0.feed_forward.intermediate.kernel"]
    (4, 8)
    """
    V, T, C, F = config.vocabulary_size, config.max_sequence_length, config.hidden_dim, config.intermediate_dim

    layout: dict[str, Shape] = {"embeddings.token": (V, C), "embeddings.position": (T, C)}
    layout |= norm_shapes("embeddings.norm", C)
    for i in range(config.num_layers):
        layout |= linear_shapes(f"layers.{i}.attention.query", C, C)
        layout |= linear_shapes(f"layers.{i}.attention.key", C, C)
        layout |= linear_shapes(f"layers.{i}.attention.value", C, C)
        layout |= linear_shapes(f"layers.{i}.attention.output", C, C)
        layout |= norm_shapes(f"layers.{i}.attention.norm", C)
        layout |= linear_shapes(f"layers.{i}.feed_forward.intermediate", C, F)
        layout |= linear_shapes(f"layers.{i}.feed_forward.output", F, C)
        layout |= norm_shapes(f"layers.{i}.feed_forward.norm", C)
    layout |= head_of(config).shapes(config)
    for i in range(config.num_layers if config.lora_rank else 0):  # last, so that they are one range
        for target in config.lora_targets:
            layout[f"layers.{i}.attention.{target}.lora_a"] = (C, config.lora_rank)
            layout[f"layers.{i}.attention.{target}.lora_b"] = (config.lora_rank, C)
    return layout


# The field of the config on which the size of a parameter depends most; hidden_dim for all others. A head has those of
# its parameters.
SIZES = {
    "embeddings.token": "vocabulary_size",
    "embeddings.position": "max_sequence_length",
    "layers.#.feed_forward.intermediate.kernel": "intermediate_dim",
    "layers.#.feed_forward.output.kernel": "intermediate_dim",
}


def check_room(config: RobertaConfig, dtype: DTypeLike) -> None:
    """Checks that the parameters of a model fit into this machine's memory, before they are made.

    Raises:
        ValueError: if they don't fit. The message names the field of the config that takes the most memory, the bytes
            needed and the bytes of the machine.
    """
    room = memory()
    sizes = {name: math.prod(shape) for name, shape in shapes(config).items()}
    needed = sum(sizes.values()) * np.dtype(dtype).itemsize
    if room is None or needed <= room:
        return
    name = max(sizes, key=lambda name: sizes[name])
    fields = SIZES | dict(head_of(config).SIZES)
    field = "lora_rank" if is_lora(name) else fields.get(split_layer(name)[0], "hidden_dim")
    raise ValueError(
        f"{field} {getattr(config, field)} is too large: the parameters would take {needed:,} bytes as "
        f"{np.dtype(dtype)}, most of them for {name!r}, and this machine's memory has {room:,} bytes. Check {field}"
    )


def memory() -> int | None:
    """Returns this machine's memory in bytes, or None if the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def is_backbone(name: str) -> bool:
    """Returns whether the parameter belongs to the encoder, and not to the head."""
    return not name.startswith("head.")


def split_layer(name: str) -> tuple[str, str]:
    """Returns the name with `#` for the layer's number, and the number as text. The number is "" if the name has none.

    >>> split_layer("layers.11.attention.norm.beta"), split_layer("head.bias")
    (('layers.#.attention.norm.beta', '11'), ('head.bias', ''))
    """
    found = re.match(r"layers\.(\d+)", name)
    return (f"layers.#{name[found.end() :]}", found[1]) if found else (name, "")


def is_lora(name: str) -> bool:
    """Returns whether the parameter is a factor of a low-rank change (see `model.lora`)."""
    return name.endswith((".lora_a", ".lora_b"))


def select(names: Iterable[str], pattern: str | re.Pattern[str]) -> list[str]:
    """Returns the names that the regular expression `pattern` matches in full.

    Raises:
        ValueError: if it matches none. The message has examples of names.

    >>> select(["layers.0.attention.norm.gamma", "head.bias"], r"layers\\..*")
    ['layers.0.attention.norm.gamma']
    """
    names = list(names)
    found = [name for name in names if re.fullmatch(pattern, name)]
    if not found:
        text = pattern if isinstance(pattern, str) else pattern.pattern
        begins = any(re.match(pattern, name) for name in names)
        within = any(re.search(pattern, name) for name in names)
        example = f"{text}.*" if begins else f".*{text}.*" if within else "embeddings.*"
        raise ValueError(
            f"no parameter's name matches {text!r}; names look like {', '.join(names[:3])}, …, {names[-1]}. The "
            f"expression must match the whole name, such as {example!r}"
        )
    return found


class Arrays(Mapping[str, NDArray[Any]]):
    """Named arrays that are views into one contiguous vector, `flat`.

    Parameters, gradients and Adam's two moments have the same layout. Code that treats all parameters alike (Adam,
    clipping, casting, saving) works on `flat` and needs no names. The values start at 0.

    Args:
        layout: names and shapes, as `shapes(config)` returns them.
        dtype: float32 or float64.
        ops: the ops table that makes the vector, reads it, and makes views of its ranges.

    >>> arrays = Arrays({"a": (2, 2), "b": (3,)}, "float64")
    >>> arrays["b"][:] = 1.0
    >>> arrays.flat
    array([0., 0., 0., 0., 1., 1., 1.])
    """

    def __init__(self, layout: Mapping[str, Shape], dtype: DTypeLike = np.float32, ops: Ops = REFERENCE) -> None:
        self.ops = ops
        self.layout = dict(layout)
        self.ranges: dict[str, tuple[int, int]] = {}
        stop = 0
        for name, shape in self.layout.items():
            start, stop = stop, stop + math.prod(shape)
            self.ranges[name] = (start, stop)
        self._lay_over(ops.zeros((stop,), dtype))

    @classmethod
    def of(cls, config: RobertaConfig, dtype: DTypeLike = np.float32) -> Arrays:
        """Returns zeros for all parameters of a model.

        Raises:
            ValueError: see `check_room`.
        """
        check_room(config, dtype)
        return cls(shapes(config), dtype)

    def _lay_over(self, flat: NDArray[Any]) -> None:
        self.flat = flat
        view = self.ops.view
        self._views = {name: view(flat, *span, self.layout[name]) for name, span in self.ranges.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {"layout": self.layout, "ranges": self.ranges, "flat": self.flat, "ops": self.ops}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # The views are made anew: copied views would be separate arrays.
        self.layout, self.ranges, self.ops = state["layout"], state["ranges"], state["ops"]
        self._lay_over(state["flat"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype that all the arrays share."""
        return self.flat.dtype

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def zeros_like(self) -> Arrays:
        """Returns zeros in the same layout and dtype."""
        return Arrays(self.layout, self.dtype, self.ops)

    def read_only(self) -> Arrays:
        """Returns the same values through views that cannot be written into.

        >>> Arrays({"a": (2,)}).read_only()["a"][:] = 1.0
        Traceback (most recent call last):
        ValueError: assignment destination is read-only
        """
        other = copy.copy(self)
        flat = self.flat.view()
        flat.flags.writeable = False
        other._lay_over(flat)
        return other

    def astype(self, dtype: DTypeLike) -> Arrays:
        """Returns a copy in another dtype."""
        other = Arrays(self.layout, dtype, self.ops)
        self.ops.copy(other.flat, self.flat)
        return other

    def to(self, ops: Ops) -> Arrays:
        """Returns a copy in arrays of another ops table."""
        other = Arrays(self.layout, self.dtype, ops)
        other.copy_from(self)
        return other

    def copy_from(self, source: Arrays) -> None:
        """Copies the values of other arrays of the same layout. These may belong to another ops table."""
        self.ops.copy(self.flat, self.ops.from_host(source.ops.to_host(source.flat)))

    def span(self, start: int, stop: int) -> Any:
        """Returns the part of the vector from start to stop, (P,), as a view. See `spans`."""
        return self.ops.view(self.flat, start, stop, (stop - start,))

    def spans(self, names: Iterable[str]) -> list[tuple[int, int]]:
        """Returns the ranges (start, stop) of `flat` that the named arrays take, in ascending order. Adjacent ranges
        are joined.

        >>> Arrays({"a": (2,), "b": (3,), "c": (1,)}).spans(["a", "b"])
        [(0, 5)]
        """
        joined: list[tuple[int, int]] = []
        for start, stop in sorted(self.ranges[name] for name in names):
            if joined and joined[-1][1] == start:
                joined[-1] = (joined[-1][0], stop)
            else:
                joined.append((start, stop))
        return joined


def resized(arrays: Arrays, layout: Mapping[str, Shape]) -> Arrays:
    """Returns arrays with the numbers of rows of `layout`. Surplus rows are cut off at the end; missing rows are added.

    A row that is added to a matrix is the mean of the old rows. A number that is added to a vector is 0.

    >>> arrays = Arrays({"token": (2, 2), "bias": (2,)})
    >>> arrays["token"][:] = [[1.0, 0.0], [3.0, 2.0]]
    >>> resized(arrays, {"token": (3, 2), "bias": (3,)})["token"].tolist()
    [[1.0, 0.0], [3.0, 2.0], [2.0, 1.0]]
    """
    other = Arrays(layout, arrays.dtype)
    for name, array in other.items():
        old = arrays[name][: len(array)]
        array[: len(old)] = old
        if array.ndim > 1 and len(old) < len(array):
            array[len(old) :] = old.mean(axis=0, dtype=np.float64)
    return other


def repeated_positions(arrays: Arrays, layout: Mapping[str, Shape]) -> Arrays:
    """Returns the arrays with a longer position embedding. The new rows repeat the old ones from the first on.

    >>> arrays = Arrays({"embeddings.position": (2, 1)})
    >>> arrays["embeddings.position"][:] = [[1.0], [2.0]]
    >>> repeated_positions(arrays, {"embeddings.position": (5, 1)})["embeddings.position"].ravel().tolist()
    [1.0, 2.0, 1.0, 2.0, 1.0]
    """
    other = Arrays(layout, arrays.dtype)
    for name, array in other.items():
        old = arrays[name]
        array[...] = old[np.arange(len(array)) % len(old)] if name == "embeddings.position" else old
    return other


class PreparedArrays(Mapping[str, Any]):
    """Parameters whose kernels are prepared for an ops table. Each kernel is prepared when it is first read.

    Args:
        arrays: the parameters.
        prepare: the row `prepare` of the ops table.
        prepared: the kernels that were prepared before, by name. New ones are added.
        changing: the names of parameters that are about to change. They are not prepared.
    """

    def __init__(
        self,
        arrays: Arrays,
        prepare: Callable[[NDArray[Any]], Any],
        prepared: dict[str, Any],
        changing: Collection[str] = (),
    ) -> None:
        self.arrays, self.kernels = arrays, prepared
        self._prepare, self._changing = prepare, frozenset(changing)

    def __getitem__(self, name: str) -> Any:
        if not name.endswith(PREPARED) or name in self._changing:
            return self.arrays[name]
        found = self.kernels.get(name)
        return self.kernels.setdefault(name, self._prepare(self.arrays[name])) if found is None else found

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)
