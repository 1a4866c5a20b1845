"""A step of torch's optimizer, and the optimizer of this package that computes the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy import ndarray as Array

from pyroberta.formats.budget import type_of
from pyroberta.oracle.live.torch_side import to_array
from pyroberta.oracle.names import Names
from pyroberta.training.optimizers import Optimizer, TorchAdam, TorchAdamW


def ours_of(reader: Names, name: str) -> str:
    """Returns the trace's name of a parameter without `parameters.`, or "" if it has none."""
    match = next(iter(reader.read(name)), None)
    ours = match.name.removeprefix("parameters.") if match else ""
    return "" if ours == "embeddings.token_type" else ours


def same_optimizer(optimizer: Any, names: Mapping[int, str]) -> Optimizer:
    """Returns the optimizer of this package that computes the same as torch's optimizer.

    Args:
        optimizer: a `torch.optim.Adam` or `AdamW` before its first step.
        names: id of a parameter -> the trace's name.

    Raises:
        ValueError: if the optimizer is of another class, has taken steps, has parameters of another model, or has
            options that no optimizer of this package has.
    """
    import torch

    kind = type(optimizer)
    if kind not in (torch.optim.Adam, torch.optim.AdamW):
        raise ValueError(f"optimizer should be a torch.optim.Adam or AdamW, got {type_of(optimizer)}")
    if optimizer.state:
        raise ValueError(
            "the optimizer has taken steps already, and the trace begins with the first step: give a new optimizer"
        )
    groups = optimizer.param_groups
    strange = sum(id(p) not in names for group in groups for p in group["params"])
    if strange:
        raise ValueError(
            f"the optimizer has {strange} parameters that are not the model's: make it with model.parameters()"
        )
    for key in ("amsgrad", "maximize"):
        if any(group.get(key) for group in groups):
            raise ValueError(f"the optimizer has {key}=True, which no optimizer of pyroberta has: set it to False")
    settings = {(group["lr"], tuple(group["betas"]), group["eps"]) for group in groups}
    decays = {group["weight_decay"] for group in groups if group["weight_decay"]}
    if len(settings) > 1 or len(decays) > 1:
        raise ValueError(
            "the groups of the optimizer should have the same lr, betas and eps, and the same weight_decay or 0: check "
            "them one by one"
        )
    ((rate, (beta_1, beta_2), epsilon),) = settings
    chosen = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}
    if kind is torch.optim.Adam:
        if decays:
            raise ValueError(
                "torch.optim.Adam adds weight_decay to the gradient, which no optimizer of pyroberta does: use AdamW"
            )
        return TorchAdam(float(rate), **chosen)
    found = TorchAdamW(float(rate), weight_decay=max(decays, default=0.0), **chosen)
    without = [names[id(p)] for group in groups if not group["weight_decay"] for p in group["params"]]
    found.exclude_from_weight_decay(var_list=[name for name in without if name])
    return found


def stepped(model: Any, optimizer: Any) -> dict[str, Array]:
    """Returns the slots and the parameters after one step of the optimizer, under names with `exp_avg.`, `exp_avg_sq.`
    and `updated.` in front. The step is then undone.
    """
    import torch

    taken = {id(p) for group in optimizer.param_groups for p in group["params"]}
    before = {name: p.detach().clone() for name, p in model.named_parameters() if id(p) in taken}
    found: dict[str, Array] = {}
    try:
        optimizer.step()
        for name, parameter in model.named_parameters():
            if id(parameter) not in taken or parameter.grad is None or "token_type" in name:
                continue
            found[f"updated.{name}"] = to_array(parameter)
            for slot in ("exp_avg", "exp_avg_sq"):
                found[f"{slot}.{name}"] = to_array(optimizer.state[parameter][slot])
    finally:
        optimizer.state.clear()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in before:
                    parameter.copy_(before[name])
    return found
