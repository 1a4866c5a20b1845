"""RoBERTa's masked LM in torch on padded batches, trained by autograd, with a switch wherever a fault can be planted.

`wrong(switch, place)` is what is wrong at a place, or None. Nothing here comes from this project but the parameters'
and the tensors' names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.mutations.scenes import Padded, Scene

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.float32}
Wrong = Callable[..., Any]


class Product(torch.autograd.Function):
    """A product of matrices whose factors are rounded to bfloat16, forward and backward."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        a, b = a.bfloat16().float(), b.bfloat16().float()
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx: Any, *dys: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        dy = dys[0].bfloat16().float()
        return dy @ b.transpose(-1, -2), a.transpose(-1, -2) @ dy


class Swap(torch.autograd.Function):
    """One value forward, the gradient of another backward."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, carrier: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *dys: Tensor) -> tuple[None, Tensor]:
        return None, dys[0]


def run(scene: Scene, dtype: str, wrong: Wrong, masks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One update; every tensor by name. `masks` has dropout's."""
    return Model(scene, dtype, wrong, masks).update()


class Model:
    """The parameters, and the tensors that were noted."""

    def __init__(self, scene: Scene, dtype: str, wrong: Wrong, masks: Mapping[str, np.ndarray]) -> None:
        self.scene, self.config, self.wrong, self.masks = scene, scene.config, wrong, masks
        self.dtype, self.mixed = DTYPES[dtype], dtype == "bfloat16"
        self.p = {
            name: torch.tensor(value, dtype=self.dtype, requires_grad=True) for name, value in scene.params.items()
        }
        self.noted: dict[str, tuple[Tensor, str]] = {}
        self.found: dict[str, np.ndarray] = {}
        self.part, self.suffix = scene.parts[0], ""

    # --- what is looked at --------------------------------------------------------------------------------------------

    def tensor(self, x: Any) -> Tensor:
        return torch.as_tensor(np.asarray(x), dtype=self.dtype)

    def note(self, place: str, of: str, x: Tensor, layout: str = "rows") -> Tensor:
        edit = self.wrong("edit", f"{place}.{of}")
        if edit:
            x = self.edited(x, *edit)
        if x.requires_grad:
            x.retain_grad()
        self.noted[f"{place}{self.suffix}.{of}"] = x, layout
        return x

    def branch(self, place: str, of: str, x: Tensor, layout: str = "rows") -> Tensor:
        """One of several ways that x goes, with a gradient of its own."""
        return self.note(place, f"{of}", x.view_as(x), layout)

    def edited(self, x: Tensor, kind: str, *numbers: Any) -> Tensor:
        if kind == "scaled":
            return x * numbers[0]
        if kind == "floored":
            return x.clamp(min=numbers[0])
        if kind == "capped":
            return x.clamp(max=numbers[0])
        if kind == "permuted":
            return x[..., torch.as_tensor(numbers[0])]
        if kind == "dead":
            return x * (torch.arange(x.shape[-1]) != numbers[0]).to(x.dtype)
        if kind == "rounded":
            return x + (torch.round(x * numbers[0]) / numbers[0] - x).detach()
        raise ValueError(kind)

    def param(self, name: str, use: str = "") -> Tensor:
        value = self.p[name]
        edit = self.wrong("param", use or name)
        if not edit:
            return value
        kind, *numbers = edit
        if kind == "transposed":
            return value.T
        if kind == "missing":
            return value * 0.0
        if kind == "scaled":
            return value * numbers[0]
        if kind == "squared":
            return value * value
        if kind == "other":
            return self.p[numbers[0]]
        if kind == "replaced":
            return self.tensor(numbers[0])
        if kind == "column":
            columns = torch.arange(value.shape[-1])
            columns[numbers[0]] = numbers[1]
            return value[..., columns]
        if kind == "row":
            return value + numbers[1] * (torch.arange(len(value)) == numbers[0])[:, None].to(value.dtype)
        if kind == "gradient":
            return Swap.apply(value.detach(), value * numbers[0])
        raise ValueError(kind)

    # --- the ops ------------------------------------------------------------------------------------------------------

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        if not self.mixed:
            return a @ b
        if b.dim() == 2:
            return Product.apply(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
        return Product.apply(a, b)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return self.product(x, self.param(f"{name}.kernel")) + self.param(f"{name}.bias")

    def norm(self, place: str, x: Tensor, layout: str = "rows") -> Tensor:
        wrong, epsilon = self.wrong("norm", place) or ("",), self.config.layer_norm_epsilon
        if wrong[0] == "epsilon":
            epsilon = wrong[1]
        grouped = x.unflatten(-1, (wrong[1], -1)) if wrong[0] == "groups" else x
        mean = grouped.mean(-1, keepdim=True)
        centred = grouped - (mean.detach() if wrong[0] == "constant mean" else mean)
        variance = (centred**2).mean(-1, keepdim=True)
        if wrong[0] == "unbiased":
            variance = (centred**2).sum(-1, keepdim=True) / (x.shape[-1] - 1)
        if wrong[0] == "absolute":
            variance = centred.abs().mean(-1, keepdim=True) ** 2
        if wrong[0] == "constant variance":
            variance = variance.detach()
        root = variance.sqrt() + epsilon if wrong[0] == "outside" else (variance + epsilon).sqrt()
        if wrong[0] != "groups":
            self.note(place, "mean", mean[..., 0], layout)
            self.note(place, "variance", variance[..., 0], layout)
        x_hat = self.note(place, "x_hat", (centred / root).reshape(x.shape), layout)
        return self.note(place, "output", self.param(f"{place}.gamma") * x_hat + self.param(f"{place}.beta"), layout)

    def gelu(self, place: str, x: Tensor) -> Tensor:
        wrong = self.wrong("gelu", place)
        exact = 0.5 * x * (1.0 + torch.erf(x / math.sqrt(2.0)))
        tanh = 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
        if wrong == "tanh":
            return tanh
        if wrong == "tanh backward":
            return Swap.apply(exact.detach(), tanh)
        if wrong == "sigmoid":
            return x * torch.sigmoid(1.702 * x)
        if wrong == "silu":
            return x * torch.sigmoid(x)
        if wrong == "relu":
            return torch.relu(x)
        if wrong == "cos":
            return torch.cos(x)
        if wrong == "no root":
            return 0.5 * x * (1.0 + torch.erf(x))
        if wrong == "relu backward":
            return Swap.apply(exact.detach(), torch.relu(x))
        return exact

    def dropout(self, place: str, of: str, x: Tensor, rate: float, layout: str = "rows") -> Tensor:
        wrong = self.wrong("dropout", place) or ("",)
        if wrong[0] == "on":
            keep = np.random.default_rng(wrong[1]).random(tuple(x.shape)) >= wrong[2]
            return self.note(place, of, x * self.tensor(keep) / (1.0 - wrong[2]), layout)
        if rate:
            keep = self.part.spread(self.masks, f"{place}{self.suffix}.keep", layout)
            x = x * self.tensor(keep)
            if wrong[0] != "not rescaled":
                x = x / (1.0 - rate)
        return self.note(place, of, x.view_as(x), layout)

    # --- the model ----------------------------------------------------------------------------------------------------

    def embed(self) -> Tensor:
        mask = torch.as_tensor(self.part.mask)
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)
        table = self.param("embeddings.position")
        wrong = self.wrong("positions", "embeddings")
        if wrong == "columns":
            positions = torch.arange(mask.shape[1]).expand(mask.shape)
        elif wrong is not None:  # as in a table with rows in front that no token uses, begun too early or too late
            front = torch.zeros(2, table.shape[1], dtype=table.dtype)
            table = torch.cat([front, table, front])
            positions = positions + 2 + wrong
        rows = table[positions]
        of_type = self.wrong("type", "embeddings")
        if of_type is not None:
            rows = rows + self.tensor(of_type)
        tokens = self.param("embeddings.token", "embeddings.lookup")[torch.as_tensor(self.part.ids)]
        tokens = self.note("embeddings", "of_tokens", tokens)
        rows = self.note("embeddings", "of_positions", rows)
        x = self.note("embeddings", "output", tokens + rows)
        return self.dropout("embeddings.dropout", "output", self.norm("embeddings.norm", x), self.config.dropout)

    def attend(self, i: int, x: Tensor) -> Tensor:
        place, mask = f"layers.{i}.attention", torch.as_tensor(self.part.mask)
        wrong = self.wrong
        B, S, C = x.shape
        H = self.config.num_heads
        D = C // H

        def project(name: str) -> Tensor:
            of = f"{place}.{name}"
            return self.note(of, "output", self.linear(of, self.branch(of, "x", x)))

        def split(x: Tensor) -> Tensor:
            if wrong("heads", place) == "interleaved":
                return x.view(B, S, D, H).permute(0, 3, 1, 2)
            return x.view(B, S, H, D).transpose(1, 2)

        k, v, q = (split(project(name)) for name in ("key", "value", "query"))
        values = wrong("values", place)
        if values:
            head, columns = values
            v = torch.cat([v[:, :head], v[:, head : head + 1, :, torch.as_tensor(columns)], v[:, head + 1 :]], 1)
        scale = wrong("scale", place) or 1.0 / math.sqrt(D)
        scores = self.product(q, k.transpose(2, 3)) * scale
        if wrong("backward", place) == "unscaled q":
            from_q = self.product(q, k.detach().transpose(2, 3))
            from_k = self.product(q.detach(), k.transpose(2, 3)) * scale
            scores = Swap.apply(scores.detach(), from_q + from_k)
        scores = self.note(place, "scores", scores, "heads")
        kind, *numbers = wrong("mask", place) or ("",)
        seen, low = mask[:, None, None, :], torch.finfo(self.dtype).min
        masked = torch.where(seen, scores, low)
        if kind == "none":
            masked = scores
        elif kind == "added":
            masked = scores + (~seen).to(self.dtype) * numbers[0]
        elif kind == "causal":
            masked = torch.where(torch.ones(S, S).tril().bool(), masked, low)
        elif kind == "not self":
            masked = torch.where(torch.eye(S).bool(), low, masked)
        softmax = wrong("softmax", place)
        probabilities = torch.softmax(masked, {"queries": 2, "heads": 1}.get(softmax, 3))
        if softmax == "no row term":
            probabilities = Swap.apply(probabilities.detach(), probabilities.detach() * masked)
        probabilities = self.note(place, "probabilities", probabilities, "heads")
        dropped = self.dropout(place, "dropped", probabilities, self.config.attention_dropout or 0.0, "heads")
        context = self.product(dropped, v)
        if wrong("heads", place) == "reversed":
            context = context.flip(1)
        if wrong("heads", place) == "interleaved":
            context = context.permute(0, 2, 3, 1).reshape(B, S, C)
        else:
            context = context.transpose(1, 2).reshape(B, S, C)
        context = self.note(place, "context", context)
        return self.note(f"{place}.output", "output", self.linear(f"{place}.output", context))

    def feed_forward(self, i: int, x: Tensor) -> Tensor:
        place = f"layers.{i}.feed_forward"
        x = self.branch(place, "x", x)
        x = self.note(place, "intermediate", self.linear(f"{place}.intermediate", x))
        x = self.note(place, "activation", self.gelu(place, x))
        return self.note(place, "output", self.linear(f"{place}.output", x))

    def add(self, place: str, h: Tensor, x: Tensor) -> Tensor:
        wrong = self.wrong("residual", place)
        h = self.dropout(place, "dropped", h, self.config.dropout)
        x = self.branch(place, "x", x)
        if wrong == "missing":
            return self.note(place, "sum", h.view_as(h))
        if wrong == "stopped":
            x = x.detach()
        elif wrong is not None:
            x = x * wrong
        return self.note(place, "sum", h + x)

    def layer(self, i: int, x: Tensor) -> Tensor:
        halves: list[tuple[str, Callable[[int, Tensor], Tensor]]] = [
            (f"layers.{i}.attention.norm", self.attend),
            (f"layers.{i}.feed_forward.norm", self.feed_forward),
        ]
        for place, half in halves:
            if self.wrong("layer", f"layers.{i}") == "norm before":
                x = self.add(place, half(i, self.norm(place, x)), x)
            else:
                x = self.norm(place, self.add(place, half(i, x), x))
        return x

    def forward(self, denominator: float) -> Tensor:
        part = self.part
        x = self.embed()
        for i in range(self.config.num_layers):
            x = self.layer(i, x)
            if self.wrong("layer", f"layers.{i}") == "twice":
                x = self.layer(i, x)
        h = x[torch.as_tensor(part.sequences), torch.as_tensor(part.columns)]
        h = self.note("head.target_rows", "output", h, "targets")
        h = self.note("head.dense", "output", self.linear("head.dense", h), "targets")
        h = self.note("head.gelu", "output", self.gelu("head.gelu", h), "targets")
        h = self.norm("head.norm", h, "targets")
        table = "embeddings.token" if self.config.tie_embeddings else "head.decoder"
        logits = self.product(h, self.param(table, "loss.table").T) + self.param("head.bias")
        logits = self.note("loss", "logits", logits, "targets")
        return self.loss(part, logits, denominator)

    def loss(self, part: Padded, logits: Tensor, denominator: float) -> Tensor:
        kind, *numbers = self.wrong("loss", "loss") or ("",)
        counted = logits[:, :-1] if kind == "last left out" else logits
        sums = self.note("loss", "log_sums", torch.logsumexp(counted, 1), "targets")
        labels = np.roll(part.labels, 1) if kind == "labels moved" else part.labels
        losses = sums - logits[torch.arange(len(logits)), torch.as_tensor(labels, dtype=torch.long)]
        if kind == "smoothed":
            losses = (1.0 - numbers[0]) * losses + numbers[0] * (sums - logits.mean(1))
        losses = self.note("loss", "losses", losses, "targets")
        weights = np.ones(len(part.weights)) if kind == "weights ignored" else part.weights
        share = (self.tensor(weights) * losses).sum() / denominator
        self.found[f"loss.share{self.suffix}"] = share.detach().numpy()
        return share

    # --- training -----------------------------------------------------------------------------------------------------

    def denominator(self, part: Padded) -> float:
        parts = self.scene.parts
        weights = sum(float(one.weights.sum()) for one in parts)
        by = {
            "slots": float(sum(one.slots for one in parts)),
            "tokens": float(sum(one.mask.sum() for one in parts)),
            "padded": float(sum(one.mask.size for one in parts)),
            "sum": 1.0,
            "sequences": float(sum(len(one.mask) for one in parts)),
            "mean of means": float(part.weights.sum()) * len(parts),
        }
        return by.get(self.wrong("denominator", "loss"), weights)

    def update(self) -> dict[str, np.ndarray]:
        gradients: dict[str, Tensor] = {name: torch.zeros_like(value) for name, value in self.p.items()}
        of_parts = []
        for number, part in enumerate(self.scene.parts):
            self.part, self.suffix, self.noted = part, f"_{number + 1}" if number else "", {}
            denominator = self.denominator(part)
            if self.wrong("denominator", "loss") != "mean of means":
                self.found["loss.denominator"] = np.array(denominator)
            self.forward(denominator).backward()
            self.dump()
            of_parts.append({n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in self.p.items()})
            for name, parameter in self.p.items():
                gradients[name] = gradients[name] + of_parts[-1][name]
                parameter.grad = None
        clipped = self.clipped(gradients)
        if self.wrong("clip") == "each part":
            each = [self.clipped(one) for one in of_parts]
            clipped = {name: sum(one[name] for one in each) for name in gradients}
        self.keep("gradients", gradients)
        self.keep("clipped", clipped)
        self.step(clipped)
        return self.found

    def dump(self) -> None:
        for name, (x, layout) in self.noted.items():
            arrays = {"": x.detach(), "d.": torch.zeros_like(x) if x.grad is None else x.grad}
            for prefix, array in arrays.items():
                for end, one in self.part.packed(layout, array.numpy()):
                    self.found[f"{prefix}{name}{end}"] = one

    def keep(self, prefix: str, tensors: Mapping[str, Any]) -> None:
        self.found |= {f"{prefix}.{name}": value.detach().numpy() for name, value in tensors.items()}

    def clipped(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        limit, wrong = self.scene.update.limit, self.wrong("clip")
        if limit is None or wrong == "left out":
            return dict(gradients)
        if wrong == "each tensor":
            return {n: g * min(1.0, limit / max(float(g.norm()), 1e-30)) for n, g in gradients.items()}
        if wrong == "each value":
            return {n: g.clamp(-limit, limit) for n, g in gradients.items()}
        norm = float(sum((g**2).sum() for g in gradients.values()) ** 0.5)
        return {n: g * min(1.0, limit / norm) for n, g in gradients.items()}

    def step(self, gradients: Mapping[str, Tensor]) -> None:
        update, wrong = self.scene.update, self.wrong
        rate = update.rate(1 if wrong("schedule") else 0)
        self.found["learning_rate"] = np.array(rate)
        beta_1, beta_2, form = update.beta_1, update.beta_2, update.form
        if wrong("adam") == "betas swapped":
            beta_1, beta_2 = beta_2, beta_1
        if wrong("adam") == "other form":
            form = "keras" if form == "torch" else "torch"
        c_1, c_2 = 1.0 - beta_1, math.sqrt(1.0 - beta_2)
        if wrong("adam") == "uncorrected":
            c_1 = c_2 = 1.0
        ms, vs, ws = {}, {}, {}
        for name, parameter in self.p.items():
            w, g = parameter.detach(), gradients[name]
            spared = update.spares and name.endswith((".bias", ".gamma", ".beta"))
            if wrong("decay") == "all":
                spared = False
            elif wrong("decay") == "spared":
                spared = name.endswith((".bias", ".gamma", ".beta"))
            decay = 0.0 if spared else update.decay
            if wrong("decay") == "coupled":
                g, decay = g + decay * w, 0.0
            if wrong("decay") == "without rate":
                w = w - w * decay
            else:
                w = w - w * (rate * decay)
            m = g * (1.0 - beta_1)
            v = (g.abs() if wrong("adam") == "magnitudes" else g * g) * (1.0 - beta_2)
            rate_here = rate * (wrong("rate", name) or 1.0)
            if form == "torch":
                w = w - rate_here * (m / c_1) / (v.sqrt() / c_2 + update.epsilon)
            else:
                w = w - rate_here * c_2 / c_1 * m / (v.sqrt() + update.epsilon)
            ms[name], vs[name], ws[name] = m, v, w
        self.keep("slots.m", ms)
        self.keep("slots.v", vs)
        self.keep("updated", ws)
