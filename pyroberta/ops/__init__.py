"""The ops and the table through which the model calls them.

Read them in this order: `layer_norm`, `linear`, `low_rank`, `gelu`, `tanh`, `feed_forward`, `gather`, `embedding`,
`dropout`, `add_norm`, `attention`, `cross_entropy`. Each is a pair: `op_forward` gives the output and a cache,
`op_backward` takes the output's gradient and that cache and gives the gradients of the inputs. Then `adam`, what is
done to gradients, and `arrays`, the rows that make, move and look at arrays.

A cache is opaque: only the same table's backward reads it. So is the gradient of a parameter, which the same table's
`accumulate` adds to the sum, and a scalar, which its `to_host` reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from numpy import ndarray as Array
from numpy.typing import DTypeLike

from pyroberta.ops.adam import accumulate, adam_step, squared_norm
from pyroberta.ops.add_norm import add_norm_backward, add_norm_forward
from pyroberta.ops.arrays import (
    add,
    all_finite,
    clip,
    clip_scale,
    copy,
    fill,
    from_host,
    maximum,
    running_mean,
    to_host,
    view,
    zeros,
)
from pyroberta.ops.attention import attention_backward, attention_forward
from pyroberta.ops.cross_entropy import (
    cross_entropy_backward,
    cross_entropy_backward_input,
    cross_entropy_forward,
    logits,
)
from pyroberta.ops.dropout import Key as Key
from pyroberta.ops.dropout import dropout_backward, dropout_forward
from pyroberta.ops.embedding import embedding_backward, embedding_forward
from pyroberta.ops.feed_forward import feed_forward_backward, feed_forward_backward_input, feed_forward_forward
from pyroberta.ops.gather import gather_backward, gather_forward
from pyroberta.ops.gelu import gelu_backward, gelu_forward
from pyroberta.ops.layer_norm import layer_norm_backward, layer_norm_forward
from pyroberta.ops.linear import linear_backward, linear_backward_input, linear_forward, prepare
from pyroberta.ops.low_rank import low_rank_backward, low_rank_forward
from pyroberta.ops.tanh import tanh_backward, tanh_forward

Cache = Any  # in REFERENCE the named tuple of the op, such as `LinearCache`; elsewhere what the backend likes to keep
Gradient = Any  # of a parameter: an array in REFERENCE, whatever `accumulate` understands elsewhere
Kernel = Any  # an array, or what the same table's `prepare` made of one
Scalar = Any  # a number that one row gives to another; `to_host` reads it
Rows = Array | None


@dataclass(frozen=True)
class Ops:
    """One row per op. A backend is this table with some rows replaced; the model calls nothing else.

    `op_backward_input` rows are for frozen weights: the gradients of what is not a matrix of them. Shapes stand in
    the docstring of each op.
    """

    name: str
    gather_forward: Callable[[Array, Array], tuple[Array, Cache]]
    gather_backward: Callable[[Array, Cache], Array]
    embedding_forward: Callable[[Array, Array, Array, Array], tuple[Array, Cache]]
    embedding_backward: Callable[[Array, Cache], tuple[Gradient, Gradient]]
    prepare: Callable[[Array], Kernel]
    linear_forward: Callable[[Array, Kernel, Array], tuple[Array, Cache]]
    linear_backward: Callable[[Array, Cache], tuple[Array, Gradient, Gradient]]
    linear_backward_input: Callable[[Array, Cache], Array]
    low_rank_forward: Callable[[Array, Array, Array, float], tuple[Array, Cache]]
    low_rank_backward: Callable[[Array, Cache], tuple[Array, Gradient, Gradient]]
    layer_norm_forward: Callable[[Array, Array, Array, float], tuple[Array, Cache]]
    layer_norm_backward: Callable[[Array, Cache], tuple[Array, Gradient, Gradient]]
    gelu_forward: Callable[[Array], tuple[Array, Cache]]
    gelu_backward: Callable[[Array, Cache], Array]
    tanh_forward: Callable[[Array], tuple[Array, Cache]]
    tanh_backward: Callable[[Array, Cache], Array]
    feed_forward_forward: Callable[[Array, Kernel, Array, Kernel, Array], tuple[Array, Cache]]
    feed_forward_backward: Callable[[Array, Cache], tuple[Array, Gradient, Gradient, Gradient, Gradient]]
    feed_forward_backward_input: Callable[[Array, Cache], Array]
    dropout_forward: Callable[[Array, float, Key, Array, Array, Rows], tuple[Array, Cache]]
    dropout_backward: Callable[[Array, Cache], Array]
    add_norm_forward: Callable[[Array, Array, Array, Array, float, float, Key, Array, Array, Rows], tuple[Array, Cache]]
    add_norm_backward: Callable[[Array, Cache], tuple[Array, Array, Gradient, Gradient]]
    attention_forward: Callable[[Array, Array, Array, Array, int, float, Key, Array, Rows], tuple[Array, Cache]]
    attention_backward: Callable[[Array, Cache], tuple[Array, Array, Array]]
    logits: Callable[[Array, Array, Array], Array]
    cross_entropy_forward: Callable[[Array, Array, Array, Array], tuple[tuple[Array, Array], Cache]]
    cross_entropy_backward: Callable[[Array, Cache], tuple[Array, Gradient, Gradient]]
    cross_entropy_backward_input: Callable[[Array, Cache], tuple[Array, Gradient]]
    accumulate: Callable[[Array, Gradient], Array]
    squared_norm: Callable[[Array], Scalar]
    adam_step: Callable[[Array, Array, Array, Array, float, float, float, float, Scalar, float, Scalar], None]
    zeros: Callable[[tuple[int, ...], DTypeLike], Array]
    view: Callable[[Array, int, int, tuple[int, ...]], Array]
    copy: Callable[[Array, Array], None]
    fill: Callable[[Array, float], None]
    add: Callable[[Any, Any], Any]  # two arrays, or two scalars
    maximum: Callable[[Array, Array], None]
    running_mean: Callable[[Array, Array, float], None]
    clip: Callable[[Array, float], None]
    clip_scale: Callable[[Scalar, float], Scalar]
    all_finite: Callable[..., Scalar]
    to_host: Callable[[Any], Any]  # an array, or a scalar
    from_host: Callable[[Array], Array]

    def __deepcopy__(self, memo: dict[int, object]) -> Ops:
        return self  # nothing in it changes

    def wrapped(self, wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> Ops:
        """The table with each row replaced by `wrap(name, row)`: how tracing and profiling are done.

        >>> calls = []
        >>> def note(name, op):
        ...     return lambda *args: (calls.append(name), op(*args))[1]
        >>> import numpy as np
        >>> _ = REFERENCE.wrapped(note).gelu_forward(np.zeros((1, 2)))
        >>> calls
        ['gelu_forward']
        """
        rows = {f.name: wrap(f.name, getattr(self, f.name)) for f in fields(self) if f.name != "name"}
        return Ops(name=self.name, **rows)


REFERENCE = Ops(
    name="numpy",
    gather_forward=gather_forward,
    gather_backward=gather_backward,
    embedding_forward=embedding_forward,
    embedding_backward=embedding_backward,
    prepare=prepare,
    linear_forward=linear_forward,
    linear_backward=linear_backward,
    linear_backward_input=linear_backward_input,
    low_rank_forward=low_rank_forward,
    low_rank_backward=low_rank_backward,
    layer_norm_forward=layer_norm_forward,
    layer_norm_backward=layer_norm_backward,
    gelu_forward=gelu_forward,
    gelu_backward=gelu_backward,
    tanh_forward=tanh_forward,
    tanh_backward=tanh_backward,
    feed_forward_forward=feed_forward_forward,
    feed_forward_backward=feed_forward_backward,
    feed_forward_backward_input=feed_forward_backward_input,
    dropout_forward=dropout_forward,
    dropout_backward=dropout_backward,
    add_norm_forward=add_norm_forward,
    add_norm_backward=add_norm_backward,
    attention_forward=attention_forward,
    attention_backward=attention_backward,
    logits=logits,
    cross_entropy_forward=cross_entropy_forward,
    cross_entropy_backward=cross_entropy_backward,
    cross_entropy_backward_input=cross_entropy_backward_input,
    accumulate=accumulate,
    squared_norm=squared_norm,
    adam_step=adam_step,
    zeros=zeros,
    view=view,
    copy=copy,
    fill=fill,
    add=add,
    maximum=maximum,
    running_mean=running_mean,
    clip=clip,
    clip_scale=clip_scale,
    all_finite=all_finite,
    to_host=to_host,
    from_host=from_host,
)
