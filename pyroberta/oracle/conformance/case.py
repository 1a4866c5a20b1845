"""A case, and the means with which it is computed."""

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
    """Inputs of a part of the model, and the expected values.

    Attributes:
        name: kind/subject/variant, such as "op/layer_norm/one_column".
        note: what distinguishes this case, in a few words.
        page: the page of the documentation.
        settings: all inputs that are not arrays: numbers, texts, a model's config.
        formulas: value's name -> formula in one line.
        inputs: input's name -> array of float32, integers or booleans.
        expected: value's name -> array of float64 or integers.
        bounds: value's name -> float64 array of the value's shape, the largest error of each number. A value without
            bounds must be equal.
        inside: the names of values inside an op. An implementation may leave them out.
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
        """The second part of the name: an op, a loss, an optimizer and so on."""
        return self.name.split("/")[1]

    def input(self, name: str, dtype: Any = None) -> Array:
        """Returns an input. If a dtype is given, floats are converted to it."""
        value = self.inputs[name]
        return value.astype(dtype) if dtype is not None and value.dtype.kind == "f" else value


class Means(NamedTuple):
    """The means with which a case is computed.

    Attributes:
        ops: the ops table.
        dtype: the dtype of the arithmetic.
        tokenizer: the tokenizer of the suite.
    """

    ops: Ops
    dtype: Any
    tokenizer: Tokenizer


class Expected(NamedTuple):
    """The expected results of a case.

    Attributes:
        values: value's name -> array of float64 or integers.
        bounds: value's name -> the largest error of each number, for values that are rounded.
        inside: the names of values that may be left out.
    """

    values: Values
    bounds: Bounds
    inside: Sequence[str] = ()
