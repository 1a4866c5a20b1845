"""A model that runs in torch: its loss, its backward, and arrays of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.oracle.golden import Trace
from pyroberta.oracle.live.sides import Padded, last_gradient
from pyroberta.oracle.live.taken import Taken


def to_array(tensor: Any) -> Array:
    """Returns a copy of a tensor as an array. bfloat16 and float16 become float32."""
    import torch

    tensor = tensor.detach()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    return np.array(tensor.cpu().numpy())


def rows_of(x: Any, batch: Padded) -> Any:
    """Returns the rows of the tokens, (N, …), of x (B, S, …)."""
    import torch

    return x[torch.from_numpy(batch.mask).to(x.device)]


def backward_from(state: Any, golden: Trace, batch: Padded) -> None:
    """Runs backward from the last hidden state (B, S, C), with the gradient that it has in the trace."""
    import torch

    gradient, rows = torch.zeros_like(state), torch.from_numpy(np.array(golden[last_gradient(golden)]))
    gradient[torch.from_numpy(batch.mask).to(state.device)] = rows.to(state)
    state.backward(gradient)


def loss_of(logits: Any, golden: Trace, found: Taken) -> Any:
    """Returns the loss of logits (M, V) as in the trace: weights @ losses / denominator. Logits in bfloat16 are
    converted to float32.
    """
    import torch

    labels = torch.from_numpy(golden["batch.labels"].astype(np.int64)).to(logits.device)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    losses = torch.nn.functional.cross_entropy(wide, labels, reduction="none")
    weights = torch.from_numpy(np.array(golden["batch.weights"])).to(losses)
    share = (weights * losses).sum() / (float(golden["loss.denominator"]) or 1.0)
    found.add("loss.losses", losses, "loss.losses")
    found.add("loss.share", share, "loss.share")
    return share


def unreached(name: str, parameter: Array, remarks: list[str]) -> Array:
    """Returns zeros as the gradient of a parameter that backward does not reach, and adds a remark."""
    remarks.append(f"no gradient reaches {name}; it is taken to be 0")
    return np.zeros_like(parameter)


@contextmanager
def gradients_kept(parameters: Iterable[Any]) -> Iterator[None]:
    """A context in which all parameters require gradients and have none yet. Afterwards everything is as before."""
    import torch

    kept = [(parameter, parameter.grad, parameter.requires_grad) for parameter in parameters]
    try:
        for parameter, _, _ in kept:
            parameter.grad = None
            if parameter.is_floating_point():
                parameter.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for parameter, grad, requires_grad in kept:
            parameter.grad = None
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad
