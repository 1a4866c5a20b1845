"""RoBERTa's masked LM in JAX on padded batches: functions of a dictionary of parameters, with a switch for each fault.

`wrong(switch, place)` is what is wrong at a place, or None. A gradient by a value inside comes from a tap, a zero that
is added to the value and that the loss is differentiated by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from benchmarks.mutations.scenes import Padded, Scene

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")

DTYPES = {"float64": jnp.float64, "float32": jnp.float32, "bfloat16": jnp.float32}
Wrong = Callable[..., Any]
Tree = dict[str, Any]
BY_ERF = False
NO_DECAY = ("bias", "gamma", "beta")


def to_bfloat16(x: Array) -> Array:
    """Rounded, and kept as float32."""
    return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


@jax.custom_vjp
def mixed_product(a: Array, b: Array) -> Array:
    """A product of matrices whose factors are rounded to bfloat16, forward and backward."""
    return to_bfloat16(a) @ to_bfloat16(b)


def _mixed_forward(a: Array, b: Array) -> Any:
    a, b = to_bfloat16(a), to_bfloat16(b)
    return a @ b, (a, b)


def _mixed_backward(kept: Any, dy: Array) -> Any:
    a, b = kept
    dy = to_bfloat16(dy)
    return dy @ jnp.swapaxes(b, -1, -2), jnp.swapaxes(a, -1, -2) @ dy


mixed_product.defvjp(_mixed_forward, _mixed_backward)


@jax.custom_vjp
def swap(value: Array, carrier: Array) -> Array:
    """One value forward, the gradient of another backward."""
    return value


swap.defvjp(lambda value, carrier: (value, None), lambda _, dy: (jnp.zeros_like(dy), dy))


def run(scene: Scene, dtype: str, wrong: Wrong, masks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One update; every tensor by name. `masks` has dropout's."""
    params = {name: jnp.asarray(value, DTYPES[dtype]) for name, value in scene.params.items()}
    found: dict[str, np.ndarray] = {}
    of_parts: list[Tree] = []
    for number, part in enumerate(scene.parts):
        suffix = f"_{number + 1}" if number else ""
        denominator = denominator_of(scene, part, wrong)
        call = Forward(scene, part, suffix, dtype, wrong, masks, denominator)
        shapes = jax.eval_shape(lambda p, call=call: call(p, {})[1], params)
        taps = {name: jnp.zeros(one.shape, one.dtype) for name, one in shapes.items()}
        (share, noted), (gradients, d) = jax.value_and_grad(call, (0, 1), has_aux=True)(params, taps)
        of_parts.append(gradients)
        for prefix, arrays in (("", noted), ("d.", d)):
            for name, array in arrays.items():
                for end, one in part.packed(call.layouts[name], np.asarray(array)):
                    found[f"{prefix}{name}{end}"] = one
        found[f"loss.share{suffix}"] = np.asarray(share)
        if wrong("denominator", "loss") != "mean of means":
            found["loss.denominator"] = np.array(denominator)
    total = {name: sum(one[name] for one in of_parts) for name in params}
    clipped = clip(total, scene.update.limit, wrong)
    if wrong("clip") == "each part":
        each = [clip(one, scene.update.limit, wrong) for one in of_parts]
        clipped = {name: sum(one[name] for one in each) for name in params}
    rate = scene.update.rate(1 if wrong("schedule") else 0)
    m, v, updated = adam(params, clipped, scene, rate, wrong)
    trees = {"gradients": total, "clipped": clipped, "slots.m": m, "slots.v": v, "updated": updated}
    for prefix, tree in trees.items():
        found |= {f"{prefix}.{name}": np.asarray(value) for name, value in tree.items()}
    return {**found, "learning_rate": np.array(rate)}


class Forward:
    """The loss of a part, as a function of the parameters and the taps; and all the values that were noted."""

    def __init__(
        self,
        scene: Scene,
        part: Padded,
        suffix: str,
        dtype: str,
        wrong: Wrong,
        masks: Mapping[str, np.ndarray],
        denominator: float,
    ) -> None:
        self.config, self.part, self.suffix, self.wrong, self.masks = scene.config, part, suffix, wrong, masks
        self.dtype, self.mixed, self.denominator = DTYPES[dtype], dtype == "bfloat16", denominator
        self.layouts: dict[str, str] = {}
        self.params: Tree = {}
        self.taps: Tree = {}
        self.noted: Tree = {}

    def __call__(self, params: Tree, taps: Tree) -> tuple[Array, Tree]:
        self.params, self.taps, self.noted = params, taps, {}
        x = self.embed()
        for i in range(self.config.num_layers):
            if self.wrong("layer", f"layers.{i}") == "twice":  # what is noted is of the second time
                self.taps = {}
                x = self.layer(i, x)
                self.taps = taps
            x = self.layer(i, x)
        return self.loss(self.head(x)), self.noted

    def see(self, place: str, of: str, x: Array, layout: str = "rows") -> Array:
        edit = self.wrong("edit", f"{place}.{of}")
        if edit:
            x = EDITS[edit[0]](x, *edit[1:])
        name = f"{place}{self.suffix}.{of}"
        if name in self.taps:
            x = x + self.taps[name]
        self.noted[name], self.layouts[name] = x, layout
        return x

    def param(self, name: str, use: str = "") -> Array:
        value = self.params[name]
        edit = self.wrong("param", use or name)
        if not edit:
            return value
        kind, *numbers = edit
        if kind == "other":
            return self.params[numbers[0]]
        if kind == "replaced":
            return jnp.asarray(numbers[0], value.dtype)
        return PARAM_EDITS[kind](value, *numbers)

    def matmul(self, a: Array, b: Array) -> Array:
        if not self.mixed:
            return a @ b
        if b.ndim == 2:
            return mixed_product(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
        return mixed_product(a, b)

    def dense(self, name: str, x: Array) -> Array:
        return self.matmul(x, self.param(f"{name}.kernel")) + self.param(f"{name}.bias")

    def norm(self, place: str, x: Array, layout: str = "rows") -> Array:
        kind, *numbers = self.wrong("norm", place) or ("",)
        epsilon = numbers[0] if kind == "epsilon" else self.config.layer_norm_epsilon
        y = x.reshape(*x.shape[:-1], numbers[0], -1) if kind == "groups" else x
        mean = jnp.mean(y, -1, keepdims=True)
        centred = y - (lax.stop_gradient(mean) if kind == "constant mean" else mean)
        variance = jnp.mean(jnp.square(centred), -1, keepdims=True)
        if kind == "unbiased":
            variance = variance * x.shape[-1] / (x.shape[-1] - 1)
        elif kind == "absolute":
            variance = jnp.square(jnp.mean(jnp.abs(centred), -1, keepdims=True))
        elif kind == "constant variance":
            variance = lax.stop_gradient(variance)
        if kind != "groups":
            self.see(place, "mean", mean[..., 0], layout)
            self.see(place, "variance", variance[..., 0], layout)
        if kind == "outside":
            normed = centred / (jnp.sqrt(variance) + epsilon)
        else:
            normed = centred / jnp.sqrt(variance + epsilon)
        normed = self.see(place, "x_hat", normed.reshape(x.shape), layout)
        return self.see(place, "output", normed * self.param(f"{place}.gamma") + self.param(f"{place}.beta"), layout)

    def gelu(self, place: str, x: Array) -> Array:
        return ACTIVATIONS[self.wrong("gelu", place) or "exact"](x)

    def dropout(self, place: str, of: str, x: Array, rate: float, layout: str = "rows") -> Array:
        kind, *numbers = self.wrong("dropout", place) or ("",)
        if kind == "on":
            seed, rate = numbers
            keep = np.random.default_rng(seed).random(x.shape) >= rate
            x = jnp.where(keep, x / (1.0 - rate), 0.0)
        elif rate:
            keep = self.part.spread(self.masks, f"{place}{self.suffix}.keep", layout) > 0.5
            x = jnp.where(keep, x if kind == "not rescaled" else x / (1.0 - rate), 0.0)
        return self.see(place, of, x, layout)

    def embed(self) -> Array:
        mask, table = jnp.asarray(self.part.mask), self.param("embeddings.position")
        positions = jnp.maximum(jnp.cumsum(mask, 1) - 1, 0)
        kind = self.wrong("positions", "embeddings")
        if kind == "columns":
            positions = jnp.broadcast_to(jnp.arange(mask.shape[1]), mask.shape)
        elif kind is not None:
            table, positions = jnp.pad(table, ((2, 2), (0, 0))), positions + 2 + kind
        rows = jnp.take(table, positions, axis=0)
        of_type = self.wrong("type", "embeddings")
        if of_type is not None:
            rows = rows + jnp.asarray(of_type, rows.dtype)
        tokens = jnp.take(self.param("embeddings.token", "embeddings.lookup"), jnp.asarray(self.part.ids), axis=0)
        tokens = self.see("embeddings", "of_tokens", tokens)
        rows = self.see("embeddings", "of_positions", rows)
        x = self.norm("embeddings.norm", self.see("embeddings", "output", tokens + rows))
        return self.dropout("embeddings.dropout", "output", x, self.config.dropout)

    def layer(self, i: int, x: Array) -> Array:
        for part, half in (("attention", self.attention), ("feed_forward", self.feed_forward)):
            place = f"layers.{i}.{part}"
            if self.wrong("layer", f"layers.{i}") == "norm before":
                x = self.residual(f"{place}.norm", half(place, self.norm(f"{place}.norm", x)), x)
            else:
                x = self.norm(f"{place}.norm", self.residual(f"{place}.norm", half(place, x), x))
        return x

    def residual(self, place: str, h: Array, x: Array) -> Array:
        kind = self.wrong("residual", place)
        h = self.dropout(place, "dropped", h, self.config.dropout)
        x = self.see(place, "x", x)
        if kind == "missing":
            x = jnp.zeros_like(x)
        elif kind == "stopped":
            x = lax.stop_gradient(x)
        elif kind is not None:
            x = kind * x
        return self.see(place, "sum", h + x)

    def attention(self, place: str, x: Array) -> Array:
        B, S, C = x.shape
        H = self.config.num_heads
        interleaved = self.wrong("heads", place) == "interleaved"

        def heads(name: str) -> Array:
            y = self.see(
                f"{place}.{name}", "output", self.dense(f"{place}.{name}", self.see(f"{place}.{name}", "x", x))
            )
            if interleaved:
                return jnp.einsum("bsdh->bhsd", y.reshape(B, S, C // H, H))
            return jnp.einsum("bshd->bhsd", y.reshape(B, S, H, C // H))

        q, k, v = heads("query"), heads("key"), heads("value")
        shuffled = self.wrong("values", place)
        if shuffled:
            v = v.at[:, shuffled[0]].set(v[:, shuffled[0]][..., np.asarray(shuffled[1])])
        scale = self.wrong("scale", place) or (C // H) ** -0.5
        k_turned = jnp.swapaxes(k, 2, 3)
        scores = self.matmul(q, k_turned) * scale
        if self.wrong("backward", place) == "unscaled q":
            from_q = self.matmul(q, lax.stop_gradient(k_turned))
            scores = swap(scores, from_q + self.matmul(lax.stop_gradient(q), k_turned) * scale)
        scores = self.see(place, "scores", scores, "heads")
        kind, *numbers = self.wrong("mask", place) or ("",)
        seen, low = jnp.asarray(self.part.mask)[:, None, None, :], jnp.finfo(self.dtype).min
        if kind == "none":
            masked = scores
        elif kind == "added":
            masked = scores + jnp.where(seen, 0.0, numbers[0]).astype(self.dtype)
        else:
            allowed = {"causal": np.tri(S, dtype=bool), "not self": ~np.eye(S, dtype=bool)}.get(kind)
            masked = jnp.where(seen, scores, low)
            masked = masked if allowed is None else jnp.where(allowed, masked, low)
        softmax = self.wrong("softmax", place)
        p = jax.nn.softmax(masked, axis={"queries": 2, "heads": 1}.get(softmax, 3))
        if softmax == "no row term":
            p = swap(p, lax.stop_gradient(p) * masked)
        p = self.see(place, "probabilities", p, "heads")
        p = self.dropout(place, "dropped", p, self.config.attention_dropout or 0.0, "heads")
        context = self.matmul(p, v)
        if self.wrong("heads", place) == "reversed":
            context = context[:, ::-1]
        context = jnp.einsum("bhsd->bsdh" if interleaved else "bhsd->bshd", context).reshape(B, S, C)
        context = self.see(place, "context", context)
        return self.see(f"{place}.output", "output", self.dense(f"{place}.output", context))

    def feed_forward(self, place: str, x: Array) -> Array:
        x = self.see(place, "intermediate", self.dense(f"{place}.intermediate", self.see(place, "x", x)))
        return self.see(
            place, "output", self.dense(f"{place}.output", self.see(place, "activation", self.gelu(place, x)))
        )

    def head(self, x: Array) -> Array:
        h = self.see("head.target_rows", "output", x[self.part.sequences, self.part.columns], "targets")
        h = self.see("head.dense", "output", self.dense("head.dense", h), "targets")
        h = self.norm("head.norm", self.see("head.gelu", "output", self.gelu("head.gelu", h), "targets"), "targets")
        table = self.param("embeddings.token" if self.config.tie_embeddings else "head.decoder", "loss.table")
        return self.see("loss", "logits", self.matmul(h, table.T) + self.param("head.bias"), "targets")

    def loss(self, logits: Array) -> Array:
        kind, *numbers = self.wrong("loss", "loss") or ("",)
        sums = jax.nn.logsumexp(logits[:, :-1] if kind == "last left out" else logits, axis=1)
        sums = self.see("loss", "log_sums", sums, "targets")
        labels = np.roll(self.part.labels, 1) if kind == "labels moved" else self.part.labels
        losses = sums - jnp.take_along_axis(logits, jnp.asarray(labels)[:, None], axis=1)[:, 0]
        if kind == "smoothed":
            losses = (1.0 - numbers[0]) * losses + numbers[0] * (sums - jnp.mean(logits, 1))
        losses = self.see("loss", "losses", losses, "targets")
        weights = jnp.asarray(np.ones_like(self.part.weights) if kind == "weights ignored" else self.part.weights)
        return jnp.sum(weights.astype(self.dtype) * losses) / self.denominator


def exact_gelu(x: Array) -> Array:
    """x · Φ(x), with erfc as in `jax.nn.gelu`; or with XLA's erf, which is off by up to 6.7 ulp in float32."""
    if BY_ERF:
        return x * 0.5 * (1.0 + lax.erf(x / math.sqrt(2.0)))
    return x * 0.5 * lax.erfc(-x * math.sqrt(0.5))


def tanh_gelu(x: Array) -> Array:
    """Its approximation."""
    return 0.5 * x * (1.0 + jnp.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "exact": exact_gelu,
    "tanh": tanh_gelu,
    "tanh backward": lambda x: swap(exact_gelu(x), tanh_gelu(x)),
    "sigmoid": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
    "relu backward": lambda x: swap(exact_gelu(x), jax.nn.relu(x)),
    "cos": jnp.cos,
    "no root": lambda x: x * 0.5 * (1.0 + lax.erf(x)),
}

EDITS: dict[str, Callable[..., Array]] = {
    "scaled": lambda x, c: x * c,
    "floored": lambda x, c: jnp.maximum(x, c),
    "capped": lambda x, c: jnp.minimum(x, c),
    "permuted": lambda x, columns: x[..., np.asarray(columns)],
    "dead": lambda x, j: x * (np.arange(x.shape[-1]) != j).astype(x.dtype),
    "rounded": lambda x, c: x + lax.stop_gradient(jnp.round(x * c) / c - x),
}


def _column(value: Array, to: int, of: int) -> Array:
    columns = np.arange(value.shape[-1])
    columns[to] = of
    return value[..., columns]


PARAM_EDITS: dict[str, Callable[..., Array]] = {
    "transposed": lambda value: value.T,
    "missing": lambda value: value * 0.0,
    "scaled": lambda value, c: value * c,
    "squared": lambda value: value**2,
    "column": _column,
    "row": lambda value, row, c: value.at[row].add(c),
    "gradient": lambda value, c: swap(value, value * c),
}


def denominator_of(scene: Scene, part: Padded, wrong: Wrong) -> float:
    """What the sum of a part's weighted losses is divided by."""
    kind, parts = wrong("denominator", "loss"), scene.parts
    if kind == "mean of means":
        return float(part.weights.sum()) * len(parts)
    counts: dict[str, Callable[[Padded], Any]] = {
        "slots": lambda one: one.slots,
        "tokens": lambda one: one.mask.sum(),
        "padded": lambda one: one.mask.size,
        "sequences": lambda one: len(one.mask),
    }
    count = counts.get(kind, lambda one: one.weights.sum())
    return 1.0 if kind == "sum" else float(sum(count(one) for one in parts))


def clip(gradients: Tree, limit: float | None, wrong: Wrong) -> Tree:
    """By the global norm."""
    kind = wrong("clip")
    if limit is None or kind == "left out":
        return gradients
    if kind == "each value":
        return jax.tree.map(lambda g: jnp.clip(g, -limit, limit), gradients)
    if kind == "each tensor":
        return jax.tree.map(lambda g: g * min(1.0, limit / max(float(jnp.linalg.norm(g)), 1e-30)), gradients)
    norm = math.sqrt(sum(float(jnp.vdot(g, g)) for g in gradients.values()))
    return jax.tree.map(lambda g: g * min(1.0, limit / norm), gradients)


def adam(params: Tree, gradients: Tree, scene: Scene, rate: float, wrong: Wrong) -> tuple[Tree, Tree, Tree]:
    """The first update of AdamW: both moments and the parameters."""
    update, kind, decays = scene.update, wrong("adam"), wrong("decay")
    beta_1, beta_2 = (update.beta_2, update.beta_1) if kind == "betas swapped" else (update.beta_1, update.beta_2)
    corrected = kind != "uncorrected"
    c_1, c_2 = (1.0 - beta_1, math.sqrt(1.0 - beta_2)) if corrected else (1.0, 1.0)
    beside_corrected = (update.form == "torch") != (kind == "other form")
    ms, vs, ws = {}, {}, {}
    for name, w in params.items():
        g = gradients[name]
        is_small = name.rpartition(".")[2] in NO_DECAY
        is_spared = {"all": False, "spared": is_small}.get(decays, update.spares and is_small)
        decay = 0.0 if is_spared else update.decay
        if decays == "coupled":
            g = g + decay * w
        elif decays == "without rate":
            w = w - decay * w
        else:
            w = w - rate * decay * w
        ms[name] = (1.0 - beta_1) * g
        vs[name] = (1.0 - beta_2) * (jnp.abs(g) if kind == "magnitudes" else jnp.square(g))
        scaled_rate = rate * (wrong("rate", name) or 1.0)
        if beside_corrected:
            ws[name] = w - scaled_rate * (ms[name] / c_1) / (jnp.sqrt(vs[name]) / c_2 + update.epsilon)
        else:
            ws[name] = w - scaled_rate * (c_2 / c_1) * ms[name] / (jnp.sqrt(vs[name]) + update.epsilon)
    return ms, vs, ws
