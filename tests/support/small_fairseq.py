"""A small fairseq checkpoint, spelt as the versions of fairseq spell it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array
from small_models import small_config, small_tokenizer
from small_pickles import name_of, older, tensor, text, zipped

from pyroberta.model.parameters import Arrays
from pyroberta.presets import fairseq

MERGES = small_tokenizer().merges
NUMBERS = np.random.default_rng(0).permutation(257 + len(MERGES))  # GPT-2's, in the order of the ids
SYMBOLS = [*map(str, NUMBERS), "madeupword0000"]
CONFIG = small_config(
    vocabulary_size=5 + len(SYMBOLS), num_layers=3, hidden_dim=8, max_sequence_length=40, attention_dropout=0.2
)
ARGUMENTS = {
    "arch": "roberta_base", "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_embed_dim": 8,
    "encoder_ffn_embed_dim": 12, "dropout": 0.1, "attention_dropout": 0.2, "max_positions": 40, "activation_fn": "gelu",
    "save_dir": "checkpoints", "update_freq": [1], "encoder_layers_to_keep": None,
}  # fmt: skip


def tensors(params: Arrays) -> dict[str, Array]:
    """As the versions from 0.10 on name them; the rows that no token uses are anything."""
    found = {}
    for ours, (name, transpose) in fairseq.renaming(CONFIG).items():
        found[name] = params[ours].T if transpose else params[ours]
    unused = np.full((2, 8), 9.0, params.dtype)
    position = fairseq.NAMES["embeddings.position"][0]
    found[position] = np.concatenate([unused, found[position]])
    found["encoder.lm_head.weight"] = found[fairseq.TOKEN]
    return found


def as_published(found: dict[str, Array]) -> dict[str, Array]:
    """The names of the models that were published: `decoder`, and one matrix for queries, keys and values."""
    old: dict[str, Array] = {}
    for name, values in found.items():
        name = name.replace("encoder.", "decoder.", 1).replace("layernorm_embedding", "emb_layer_norm")
        joined = name.replace("q_proj.", "in_proj_")
        if joined != name:
            letters = (name.replace("decoder.", "encoder.", 1).replace("q_proj", f"{x}_proj") for x in "qkv")
            old[joined] = np.concatenate([found[letter] for letter in letters])
        elif "k_proj" not in name and "v_proj" not in name:
            old[name] = values
    return old


def plain(value: Any) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def namespace(values: dict[str, Any]) -> bytes:
    return name_of("argparse", "Namespace") + b")\x81" + plain(values) + b"b"


def checkpoint(file: Path, found: dict[str, Array], kind: str = "zip", **parts: bytes) -> None:
    """Writes model.pt as torch does: `parts` beside the tensors."""
    types = {"f4": "FloatStorage", "f2": "HalfStorage", "f8": "DoubleStorage", "i8": "LongStorage"}
    view = b"N" if kind == "older" else b""
    state = b"".join(
        text(name) + tensor(f"k{i}", values.shape, types[values.dtype.str[1:]], view=view)
        for i, (name, values) in enumerate(found.items())
    )
    body = b"}(" + b"".join(text(key) + part for key, part in parts.items())
    body += text("model") + name_of("collections", "OrderedDict") + b")R(" + state + b"u"
    body += b"}" + text("_metadata") + b"}sb" + b"u"
    data = {f"k{i}": np.ascontiguousarray(values) for i, values in enumerate(found.values())}
    if kind == "older":
        older(file, body, data)
    else:
        zipped(file, body, {key: values.tobytes() for key, values in data.items()})


def preset(
    directory: Path, found: dict[str, Array], kind: str = "zip", arguments: dict[str, Any] | None = None, **parts: bytes
) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    if not parts:
        parts = {"args": namespace({**ARGUMENTS, **(arguments or {})})}
    checkpoint(directory / "model.pt", found, kind, **parts)
    (directory / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in SYMBOLS))
    (directory / "vocab.bpe").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in MERGES))
    return directory
