"""Cases of several ops together: an encoder layer, the heads, and whole models with padding on either side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.model.batch import Batch, pack, pack_padded
from pyroberta.model.config import RobertaConfig
from pyroberta.model.encoder import encoder_forward, layer_backward, layer_forward
from pyroberta.model.gradients import Gradients
from pyroberta.model.heads import head_of
from pyroberta.model.model import loss_backward, model_backward, model_forward, model_logits
from pyroberta.model.parameters import Arrays, shapes
from pyroberta.ops import Key, Ops
from pyroberta.oracle import bounds
from pyroberta.oracle.conformance.case import Case, Expected, Means
from pyroberta.oracle.conformance.drawing import Draw
from pyroberta.oracle.conformance.sampled import sampled
from pyroberta.oracle.conformance.text_cases import PATTERNS, is_token_of, slots_of
from pyroberta.oracle.golden import Trace
from pyroberta.oracle.plain import Values
from pyroberta.oracle.trace import Tracer

SIZES = {"vocabulary_size": 17, "num_layers": 1, "num_heads": 2, "hidden_dim": 12, "intermediate_dim": 20}
BLOCKS: Mapping[str, tuple[str, dict[str, Any], list[int]]] = {  # what, the config's changes, lengths
    "usual": ("three packed sequences", {}, [4, 1, 6]),
    "one_token": ("one token", {}, [1]),
    "one_head": ("one head, odd sizes", {"num_heads": 1, "hidden_dim": 5, "intermediate_dim": 7}, [3, 2]),
    "narrow_heads": ("D = 1", {"num_heads": 3, "hidden_dim": 3, "intermediate_dim": 6}, [4]),
    "dropout": ("dropout at its three sites", {"dropout": 0.2, "attention_dropout": 0.1}, [4, 3]),
}
HEADS: Mapping[str, tuple[str, dict[str, Any], int]] = {  # what, the config's changes, target rows
    "masked_lm/tied": ("logits by the token embedding", {}, 5),
    "masked_lm/untied": ("logits by a table of their own", {"tie_embeddings": False}, 5),
    "masked_lm/one_target": ("one target", {}, 1),
    "masked_lm/no_targets": ("no target", {}, 0),
    "text_classifier/usual": ("", {"num_classes": 3}, 4),
    "text_classifier/one_text": ("one text, odd sizes", {"num_classes": 2, "hidden_dim": 5, "num_heads": 1}, 1),
}
MODELS: Mapping[str, tuple[str, dict[str, Any], str]] = {  # what, the config's changes, how it is padded
    **{f"masked_lm/padded_{pattern}": (note, {}, pattern) for pattern, (note, _) in PATTERNS.items()},
    "masked_lm/untied": ("logits by a table of their own", {"tie_embeddings": False}, "right"),
    "masked_lm/one_head": ("one head", {"num_heads": 1}, "left"),
    "masked_lm/dropout": ("dropout at every site", {"dropout": 0.1, "attention_dropout": 0.2}, "right"),
    "text_classifier/padded_left": ("three classes", {"num_classes": 3}, "left"),
    "text_classifier/padded_right": ("three classes", {"num_classes": 3}, "right"),
    "text_classifier/dropout": (
        "dropout at every site",
        {"num_classes": 3, "dropout": 0.1, "classifier_dropout": 0.3},
        "left",
    ),
}
FORMULAS = {
    "block": {
        "output": "x = LN(x + dropout(attention(x) W_o)); LN(x + dropout(gelu(x W_1) W_2))",
        "d.x": "of Σ dy · output",
    },
    "head": {
        "h": "masked_lm: LN(gelu(x W)); text_classifier: tanh(x W)",
        "losses": "-log softmax(h @ tableᵀ + bias)[label]",
        "d.x": "of Σ dy · losses",
    },
    "model": {
        "hidden": "hidden.0 is the embeddings' output, hidden.i that of layer i - 1; rows of tokens, without padding",
        "logits": "at the target rows",
        "loss": "Σ weights · losses / Σ weights",
        "gradients": "of the loss",
    },
}


def cases(seed: int) -> Iterator[Case]:
    """Yields the cases of the kinds block, head and model, without expected values."""
    for variant, (note, changes, lengths) in BLOCKS.items():
        config = RobertaConfig(**{**SIZES, "dropout": 0.0, "max_sequence_length": 8, **changes})
        yield _block_case(Draw(seed, f"block/{variant}"), f"block/encoder_layer/{variant}", note, config, lengths)
    for name, (note, changes, count) in HEADS.items():
        config = RobertaConfig(**{**SIZES, "dropout": 0.0, "max_sequence_length": 8, **changes})
        yield _head_case(Draw(seed, f"head/{name}"), f"head/{name}", note, config, count)
    draw = Draw(seed, "head/mean_pooling")
    starts, x = np.array([0, 4, 5, 11], np.int32), draw.normal(11, 12)
    formulas = {"pooled": "the mean of each sequence's rows, <s> and </s> among them"}
    note = "one vector for each sequence"
    yield Case("head/mean_pooling/usual", note, "index.md", {}, formulas, {"x": x, "starts": starts})
    for name, (note, changes, pattern) in MODELS.items():
        config = RobertaConfig(**{**SIZES, "num_layers": 2, "dropout": 0.0, "max_sequence_length": 6, **changes})
        yield _model_case(Draw(seed, f"model/{name}"), f"model/{name}", note, config, pattern)


def expected(case: Case, means: Means, precision: str) -> Expected:
    """Returns the values of a head or a model with sampled bounds. The bounds of pooling are derived."""
    if case.subject == "mean_pooling":
        return _pooled_expected(case, means, precision)
    answer = {"head": head_answer, "model": model_answer}[case.kind]
    return Expected(*sampled(lambda ops: answer(case, means._replace(ops=ops)), precision))


def params_of(draw: Draw, config: RobertaConfig, prefix: str = "") -> dict[str, Array]:
    """Returns the parameters whose names begin with the prefix. They are large enough that attention, GELU and the loss
    are far from linear.
    """
    found = {}
    for name, shape in shapes(config).items():
        if name.startswith(prefix):
            found[f"parameters.{name}"] = draw.normal(*shape, scale=0.4) + np.float32(name.endswith(".gamma"))
    return found


def _config(case: Case) -> RobertaConfig:
    return RobertaConfig(**case.settings["config"])


def _settings(config: RobertaConfig) -> dict[str, Any]:
    """What a stranger's model needs to know of it; the rest are defaults."""
    names = (
        *SIZES, "dropout", "attention_dropout", "classifier_dropout", "max_sequence_length", "layer_norm_epsilon",
        "pad_id", "tie_embeddings", "num_classes",
    )  # fmt: skip
    return {name: value for name, value in asdict(config).items() if name in names}


def _params(case: Case, dtype: Any) -> Arrays:
    names = [name.removeprefix("parameters.") for name in case.inputs if name.startswith("parameters.")]
    params = Arrays({name: case.inputs[f"parameters.{name}"].shape for name in names}, dtype)
    for name in names:
        params[name][...] = case.inputs[f"parameters.{name}"]
    return params


def _gradients(sums: Arrays) -> Values:
    return {f"gradients.{name}": array for name, array in sums.items()}


def _dropout_key(case: Case) -> Key | None:
    return Key(*case.inputs["key"].tolist()) if "key" in case.inputs else None


# --- an encoder layer -------------------------------------------------------------------------------------------------


def _block_case(draw: Draw, name: str, note: str, config: RobertaConfig, lengths: list[int]) -> Case:
    N, C = sum(lengths), config.hidden_dim
    inputs = {"x": draw.normal(N, C), "dy": draw.normal(N, C), "starts": np.cumsum([0, *lengths]).astype(np.int32)}
    inputs |= params_of(draw, config, "layers.0.")
    if config.dropout:
        inputs |= {"key": np.array(Key.of_update(7, 3), np.uint64)}
    case = Case(name, note, "design.md", {"config": _settings(config)}, FORMULAS["block"], inputs)
    return _with_masks(case)


def block_answer(case: Case, means: Means) -> Values:
    """Returns the output of an encoder layer and all gradients."""
    return _block(case, means.ops, _params(case, means.dtype), case.input("x", means.dtype))


def block_expected(case: Case, means: Means, precision: str) -> Expected:
    """Returns the output, all gradients, and the values inside the ops under the names of a trace."""
    inside: list[str] = []

    def compute(ops: Ops) -> Values:
        found, within = _traced(case, ops)
        inside[:] = within
        return {**found, **within}

    values, limits = sampled(compute, precision)
    _, noted = _traced(case, means.ops, bounds.Arithmetic.of_others(precision))
    for name in inside:
        limits[name] = limits[name] + noted.get(f"bound.{name}", 0.0)
    return Expected(values, limits, inside)


def _block(case: Case, ops: Ops, params: Arrays, x: Array) -> Values:
    y, cache = layer_forward(ops, params, _config(case), 0, x, _sequences(case), _dropout_key(case))
    grads = Gradients(params.zeros_like(), set(params))
    dx = layer_backward(ops, grads, 0, case.input("dy", x.dtype), cache)
    return {"output": y, "d.x": dx, **_gradients(grads.sums)}


def _sequences(case: Case) -> Batch:
    """The batch of a block, whose ids nobody reads."""
    return pack([np.zeros(n, np.int32) for n in np.diff(case.inputs["starts"])])


def _traced(case: Case, ops: Ops, run: bounds.Arithmetic | None = None) -> tuple[Values, Values]:
    """The results, and what the calls of ops have inside; bounds too, where the arithmetic is given."""
    params, x, into = _params(case, np.float64), case.input("x", np.float64), Trace()
    tracer = Tracer(into, params, run)
    tracer.know(x, "x")
    found = _block(case, tracer.ops_table(ops), params, x)
    kept = [name for name in into if "keep" not in name.split(".") and name.removeprefix("d.") not in params]
    return found, {name: into[name] for name in kept if into[name].dtype.kind == "f"}


def _with_masks(case: Case) -> Case:
    """The case with the masks that dropout draws, under the names of a trace, for those who don't draw them."""
    if "key" not in case.inputs:
        return case
    params, into = _params(case, np.float64), Trace()
    tracer = Tracer(into, params)
    ops, config, key = tracer.ops_table(), _config(case), _dropout_key(case)
    if case.kind == "block":
        x = case.input("x", np.float64)
        layer_forward(ops, params, config, 0, x, _sequences(case), key)
    else:
        model_forward(ops, params, config, _batch(case, config), key, all_rows=True)
    keep = {name: into[name].astype(bool) for name in into if "keep" in name.split(".")}
    return replace(case, inputs={**case.inputs, **keep})


# --- heads ------------------------------------------------------------------------------------------------------------


def _head_case(draw: Draw, name: str, note: str, config: RobertaConfig, count: int) -> Case:
    rows = config.num_classes or config.vocabulary_size
    inputs = {"x": draw.normal(count, config.hidden_dim), "labels": draw.whole(rows, count), "dy": draw.normal(count)}
    inputs |= params_of(draw, config, "head.")
    if head_of(config).output_table(config) == "embeddings.token":
        inputs |= params_of(draw, config, "embeddings.token")
    page = "classification.md" if config.num_classes else "ops/cross_entropy.md"
    return Case(name, note, page, {"config": _settings(config)}, FORMULAS["head"], inputs)


def head_answer(case: Case, means: Means) -> Values:
    """Returns the values from the target rows to the losses, and all gradients."""
    if case.subject == "mean_pooling":
        return _pooled(case, means.dtype)
    ops, dtype, _ = means
    config, params, x = _config(case), _params(case, dtype), case.input("x", dtype)
    head = head_of(config)
    table, bias, labels = params[head.output_table(config)], params["head.bias"], case.inputs["labels"]
    batch = replace(pack([np.zeros(len(x), np.int32)]), target_rows=np.arange(len(x), dtype=np.int32))
    h, cache = head.forward(ops, params, config, x, batch)
    (each, _), loss_cache = ops.cross_entropy_forward(h, table, bias, labels)
    grads = Gradients(params.zeros_like(), set(params))
    name = head.output_table(config)
    dh = loss_backward(ops, grads, "cross_entropy", name, case.input("dy", dtype), loss_cache)
    dx = head.backward(ops, grads, dh, cache)
    return {"h": h, "logits": ops.logits(h, table, bias), "losses": each, "d.x": dx, **_gradients(grads.sums)}


def _pooled(case: Case, dtype: Any) -> Values:
    parts = np.split(case.input("x", dtype), case.inputs["starts"][1:-1])
    return {"pooled": np.stack([part.mean(axis=0) for part in parts])}


def _pooled_expected(case: Case, means: Means, precision: str) -> Expected:
    run, limits = bounds.Arithmetic(precision), []
    for part in np.split(case.input("x", np.float64), case.inputs["starts"][1:-1]):
        total = run.sum(bounds.exact(part), 0)
        limits.append(run.rounded(bounds.Near(total.value / len(part), total.error / len(part)), 2.0).error)
    return Expected(_pooled(case, means.dtype), {"pooled": np.stack(limits)})


# --- models -----------------------------------------------------------------------------------------------------------


def _model_case(draw: Draw, name: str, note: str, config: RobertaConfig, pattern: str) -> Case:
    is_token = is_token_of(pattern)
    ids = np.where(is_token, 3 + draw.whole(config.vocabulary_size - 3, *is_token.shape), config.pad_id)
    inputs = {"token_ids": ids.astype(np.int32), "padding_mask": is_token}
    if config.num_classes:
        inputs |= {"labels": draw.whole(config.num_classes, len(ids)), "weights": 0.5 + draw.uniform(len(ids))}
    else:
        slots = slots_of(is_token, 2, draw)
        weights = np.where(is_token.any(axis=1, keepdims=True), 0.5 + draw.uniform(*slots.shape), 0.0)
        labels = draw.whole(config.vocabulary_size, *slots.shape)
        inputs |= {"mask_positions": slots, "labels": labels, "weights": weights.astype(np.float32)}
    inputs |= params_of(draw, config)
    if config.dropout:
        inputs |= {"key": np.array(Key.of_update(7, 3), np.uint64)}
    case = Case(name, note, "index.md", {"config": _settings(config)}, FORMULAS["model"], inputs)
    return _with_masks(case)


def _batch(case: Case, config: RobertaConfig) -> Batch:
    arrays = [case.inputs[of] for of in ("token_ids", "padding_mask")]
    sizes = {"vocabulary_size": config.vocabulary_size, "max_sequence_length": config.max_sequence_length}
    if not config.num_classes:
        arrays += [case.inputs[of] for of in ("mask_positions", "labels", "weights")]
        return pack_padded(*arrays, **sizes)
    batch = pack_padded(*arrays, **sizes)
    weights = case.inputs["weights"].astype(np.float64)
    return replace(batch, target_rows=batch.starts[:-1], labels=case.inputs["labels"], weights=weights)


def model_answer(case: Case, means: Means) -> Values:
    """Returns hidden states, logits, losses, and all gradients."""
    ops, dtype, _ = means
    config, params = _config(case), _params(case, dtype)
    batch, key = _batch(case, config), _dropout_key(case)
    grads = Gradients(params.zeros_like(), set(params))
    (each, _), cache = model_forward(ops, params, config, batch, key, grads.lowest)
    total = float(batch.weights.sum())
    share = batch.weights / total
    model_backward(ops, grads, share.astype(dtype), cache)
    found = {"losses": each, "loss": np.asarray(share @ each), **_gradients(grads.sums)}
    if key is not None:
        return found
    hidden, _ = encoder_forward(ops, params, config, batch)
    logits = model_logits(ops, params, config, batch, batch.target_rows)
    return {**{f"hidden.{i}": x for i, x in enumerate(hidden)}, "logits": logits, **found}
