"""Small presets in the formats that are read, spelt out by hand, so that no writer of ours is its own judge."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import safetensors.numpy
from small_models import random_params, small_config, small_tokenizer

from pyroberta.model.config import RobertaConfig
from pyroberta.model.parameters import Arrays, is_backbone, shapes
from pyroberta.presets import hf, kerashub
from pyroberta.presets.preset import open_preset

# With two rates, an epsilon and sizes that are nobody's default.
HF = small_config(
    vocabulary_size=23, hidden_dim=6, intermediate_dim=10, dropout=0.2, attention_dropout=0.3, layer_norm_epsilon=1e-6
)

KERASHUB = small_config(
    vocabulary_size=small_tokenizer().vocabulary_size(),
    num_layers=3,
    num_heads=2,
    hidden_dim=8,
    intermediate_dim=12,
    max_sequence_length=40,
    dropout=0.1,
    attention_dropout=0.1,
    layer_norm_epsilon=1e-5,
)


# What transformers' own config is made with, where its model is the judge.
HF_SIZES: dict[str, Any] = {
    "vocab_size": 31,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 18,
    "layer_norm_eps": 1e-5,
    "type_vocab_size": 1,
}


def hf_values(config: RobertaConfig = HF, **changes: Any) -> dict[str, Any]:
    """A config.json spelt out by hand, so that `hf_writer.write` isn't its own judge."""
    values = {
        "architectures": ["RobertaForMaskedLM"],
        "attention_probs_dropout_prob": config.attention_dropout,
        "bos_token_id": config.start_id,
        "eos_token_id": config.end_id,
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.dropout,
        "hidden_size": config.hidden_dim,
        "initializer_range": 0.02,
        "intermediate_size": config.intermediate_dim,
        "layer_norm_eps": config.layer_norm_epsilon,
        "max_position_embeddings": config.max_sequence_length + config.pad_id + 1,
        "model_type": "roberta",
        "num_attention_heads": config.num_heads,
        "num_hidden_layers": config.num_layers,
        "pad_token_id": config.pad_id,
        "type_vocab_size": 1,
        "vocab_size": config.vocabulary_size,
    }
    if not config.tie_embeddings:
        values["tie_word_embeddings"] = False
    return values | changes


def hf_tensors(config: RobertaConfig = HF, seed: int = 0) -> dict[str, np.ndarray]:
    """A state dict as transformers names it, random, (out, in), spelt out by hand."""
    V, C, F = config.vocabulary_size, config.hidden_dim, config.intermediate_dim
    rows = config.max_sequence_length + config.pad_id + 1
    table = {
        "roberta.embeddings.word_embeddings.weight": (V, C),
        "roberta.embeddings.position_embeddings.weight": (rows, C),
        "roberta.embeddings.token_type_embeddings.weight": (1, C),
        "roberta.embeddings.LayerNorm.weight": (C,),
        "roberta.embeddings.LayerNorm.bias": (C,),
        "lm_head.bias": (V,),
        "lm_head.dense.weight": (C, C),
        "lm_head.dense.bias": (C,),
        "lm_head.layer_norm.weight": (C,),
        "lm_head.layer_norm.bias": (C,),
    }
    for i in range(config.num_layers):
        at = f"roberta.encoder.layer.{i}."
        for name, out, into in (
            ("attention.self.query", C, C),
            ("attention.self.key", C, C),
            ("attention.self.value", C, C),
            ("attention.output.dense", C, C),
            ("intermediate.dense", F, C),
            ("output.dense", C, F),
        ):
            table[f"{at}{name}.weight"] = (out, into)
            table[f"{at}{name}.bias"] = (out,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            table[f"{at}{name}.weight"] = table[f"{at}{name}.bias"] = (C,)
    if not config.tie_embeddings:
        table |= {"lm_head.decoder.weight": (V, C), "lm_head.decoder.bias": (V,)}
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in table.items()}


def as_ours(config: RobertaConfig, tensors: Mapping[str, np.ndarray]) -> Arrays:
    """transformers' tensors in our layout; of the position embedding, the rows that tokens use."""
    params = Arrays(shapes(config), next(iter(tensors.values())).dtype)
    for ours, (theirs, transpose) in hf.renaming(config).items():
        values = tensors[theirs][config.pad_id + 1 :] if ours == "embeddings.position" else tensors[theirs]
        params[ours][...] = values.T if transpose else values
    return params


def directory_of(path: Path, tensors: dict[str, np.ndarray], values: dict[str, Any] | None = None) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(values or hf_values()))
    safetensors.numpy.save_file(tensors, path / "model.safetensors", {"format": "pt"})
    return path


def load(
    preset: str | Path, dtype: Any = np.float32, load_weights: bool = True, load_tokenizer: bool = True
) -> tuple[RobertaConfig, Any, Any]:
    """The config of a preset, its parameters and its tokenizer; None for those that aren't asked for."""
    opened = open_preset(preset, weights=load_weights)
    tokenizer = opened.tokenizer if load_tokenizer else None
    return opened.config, opened.weights(dtype) if load_weights else None, tokenizer


def serialized(name: str, config: dict[str, Any], package: str = "keras_hub") -> dict[str, Any]:
    return {"module": "m", "class_name": name, "config": config, "registered_name": f"{package}>{name}"}


def fields() -> dict[str, Any]:
    return {**{key: getattr(KERASHUB, key) for key in kerashub.FIELDS}, "dropout": 0.1}


def as_stored(values: np.ndarray, dtype: str) -> tuple[np.ndarray, dict[str, str]]:
    if dtype == "bfloat16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").view("V2"), {"dtype": "bfloat16"}
    return values.astype(dtype), {}


def write_h5(
    file: Path, params: Arrays, names: list[str], dtype: str = "float32", root: str = "layers", **how: Any
) -> None:
    with h5py.File(file, "w") as opened:
        for name in names:
            place, shape = kerashub.renaming(KERASHUB)[name]
            values, attributes = as_stored(params[name].reshape(shape), dtype)
            dataset = opened.create_dataset(place.replace("layers/", f"{root}/", 1), data=values, **how)
            dataset.attrs.update(attributes)


def kerashub_params(seed: int = 0) -> Arrays:
    """The parameters of a model of `KERASHUB`."""
    return random_params(KERASHUB, seed, np.float32)


def preset(directory: Path, params: Arrays, package: str = "keras_hub", task: bool = True, **how: Any) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    assets = directory / kerashub.ASSETS
    assets.mkdir(parents=True)
    (assets / "vocabulary.json").write_text(json.dumps(small_tokenizer().vocabulary))
    (assets / "merges.txt").write_text("".join(f"{a} {b}\n" for a, b in small_tokenizer().merges))
    files = {"config.json": ("RobertaBackbone", fields()), "tokenizer.json": ("RobertaTokenizer", {})}
    if task:
        files["task.json"] = ("RobertaMaskedLM", {})
        settings = {"sequence_length": 20, "mask_selection_length": 5, "mask_selection_rate": 0.25}
        files["preprocessor.json"] = ("RobertaMaskedLMPreprocessor", settings)
    for file, (name, config) in files.items():
        (directory / file).write_text(json.dumps(serialized(name, config, package)))
    write_h5(directory / kerashub.WEIGHTS, params, [name for name in params if is_backbone(name)], **how)
    if task:
        write_h5(directory / kerashub.HEAD, params, [name for name in params if not is_backbone(name)], **how)
    return directory
