"""What a case is, and what it is computed with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from numpy import ndarray as Array

from pyroberta.ops import Ops
from pyroberta.oracle.bounds import Bounds
from pyroberta.oracle.plain import Values
from pyroberta.text.tokenizer import Tokenizer

Tensors = Mapping[str, Array]


@dataclass(frozen=True)
class Case:
    """Inputs and what they should give.

    Attributes:
        name: kind/subject/variant, such as "op/layer_norm/one_column".
        note: what is special here, in a few words.
        page: of the documentation.
        settings: what is no tensor: numbers, texts, a model's config.
        formulas: of the values, in one line each.
        inputs: by name; float32, integers or booleans.
        expected: by the value's name; float64 or integers.
        bounds: how far each number may be off, of those values that are rounded. The others must be equal.
        inside: the values that an implementation need not give: those inside an op.
    """

    name: str
    note: str
    page: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    formulas: Mapping[str, str] = field(default_factory=dict)
    inputs: Tensors = field(default_factory=dict)
    expected: Tensors = field(default_factory=dict)
    bounds: Tensors = field(default_factory=dict)
    inside: Sequence[str] = ()

    @property
    def kind(self) -> str:
        """The first part of the name."""
        return self.name.split("/")[0]

    @property
    def subject(self) -> str:
        """The second part: the op, the loss, the optimizer."""
        return self.name.split("/")[1]

    def input(self, name: str, dtype: Any = None) -> Array:
        """An input; a float in the dtype of the arithmetic."""
        value = self.inputs[name]
        return value.astype(dtype) if dtype is not None and value.dtype.kind == "f" else value


class Means(NamedTuple):
    """What a case is computed with.

    Attributes:
        ops: the ops table.
        dtype: of the arithmetic.
        tokenizer: of the suite.
    """

    ops: Ops
    dtype: Any
    tokenizer: Tokenizer


class Expected(NamedTuple):
    """What a case should give.

    Attributes:
        values: in float64, or integers.
        bounds: of those that are rounded.
        inside: the names of the values that need not be given.
    """

    values: Values
    bounds: Bounds
    inside: Sequence[str] = ()
