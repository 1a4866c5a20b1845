"""LoRA's factors beside a sound model: PEFT's directory, and KerasHub's `.lora.h5`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import safetensors.numpy

from bad_presets.kerashub_files import structure
from bad_presets.spoiling import (
    CONFIG,
    Case,
    Sound,
    Spoil,
    cut,
    empty,
    h5,
    header,
    instead,
    link,
    put,
    tensors,
    values,
)

CONFIG_FILE, WEIGHTS, KERAS_FILE = "adapter_config.json", "adapter_model.safetensors", "adapter.lora.h5"
C, H, D, RANK = CONFIG.hidden_dim, CONFIG.num_heads, CONFIG.head_dim, 3
LAYER = "base_model.model.roberta.encoder.layer"
VALUE_B = f"{LAYER}.2.attention.self.value.lora_B.weight"
QUERY_A = f"{LAYER}.0.attention.self.query.lora_A.weight"


def sound_peft(directory: Path) -> Path:
    rng = np.random.default_rng(2)
    found = {}
    for i in range(CONFIG.num_layers):
        for module in ("query", "value"):
            for factor, shape in (("A", (RANK, C)), ("B", (C, RANK))):
                name = f"{LAYER}.{i}.attention.self.{module}.lora_{factor}.weight"
                found[name] = rng.standard_normal(shape).astype(np.float32)
    said = {"peft_type": "LORA", "r": RANK, "lora_alpha": 6, "bias": "none", "target_modules": ["query", "value"]}
    directory.mkdir(exist_ok=True)
    (directory / CONFIG_FILE).write_text(json.dumps(said))
    safetensors.numpy.save_file(found, directory / WEIGHTS)
    return directory


def sound_kerashub_adapter(directory: Path) -> Path:
    rng = np.random.default_rng(3)
    directory.mkdir(exist_ok=True)
    with h5py.File(directory / KERAS_FILE, "w") as opened:
        opened["lora/vars/rank"] = RANK
        for i in range(CONFIG.num_layers):
            for number in (11, 13):
                at = f"lora/{10 * i + number}/vars/lora_kernel"
                opened[f"{at}_a"] = rng.standard_normal((C, H, RANK)).astype(np.float32)
                opened[f"{at}_b"] = rng.standard_normal((RANK, D)).astype(np.float32)
    return directory


SOUND = {"peft": Sound(sound_peft, "adapter"), "kerashub adapter": Sound(sound_kerashub_adapter, "adapter")}


def said(**changes: Any) -> Spoil:
    return values(CONFIG_FILE, **changes)


def factors(how: Callable[[dict[str, np.ndarray]], Any]) -> Spoil:
    return tensors(how, WEIGHTS)


def renamed(old: str, new: str) -> Spoil:
    """The first factor under another name."""
    return factors(lambda t: t.update({QUERY_A.replace(old, new): t.pop(QUERY_A)}))


def added(old: str, new: str) -> Spoil:
    """The first factor a second time, under another name."""
    return factors(lambda t: t.update({QUERY_A.replace(old, new): t[QUERY_A].copy()}))


def keras(how: Callable[[Any], Any]) -> Spoil:
    return h5(how, KERAS_FILE)


def replaced(place: str, made: Any) -> Spoil:
    def spoil(opened: Any) -> None:
        del opened[place]
        opened[place] = made

    return keras(spoil)


def claimed(opened: Any) -> None:
    """A rank of a billion, and factors of that rank in a few bytes."""
    opened["lora/vars/rank"][()] = 10**9
    for i in range(CONFIG.num_layers):
        for number in (11, 13):
            at = f"lora/{10 * i + number}/vars/lora_kernel"
            del opened[f"{at}_a"], opened[f"{at}_b"]
            opened.create_dataset(f"{at}_a", (C, H, 10**9), "f4")
            opened.create_dataset(f"{at}_b", (10**9, D), "f4")


FACTOR = "lora/11/vars/lora_kernel_a"
PEFT, KERAS = "peft", "kerashub adapter"

CASES: dict[str, Case] = {
    # --- PEFT
    **empty(PEFT, WEIGHTS),
    "adapter: biases": Case(PEFT, said(bias=["a", "b"]), r"bias is \['a', 'b'\], only 'none' can be read"),
    "adapter: a dtype that isn't": Case(
        PEFT,
        header(lambda f: f[VALUE_B].update(dtype="é\0"), WEIGHTS),
        "lora_B.weight' is stored as é.*, expected a float",
    ),
    "adapter: no config": Case(
        PEFT, lambda d: (d / CONFIG_FILE).unlink(), "has no adapter_config.json; it has adapter_m"
    ),
    "adapter: config a pipe": Case(PEFT, instead(CONFIG_FILE, os.mkfifo), "adapter_config.json is a pipe"),
    "adapter: config a list": Case(PEFT, put(CONFIG_FILE, "[]"), "adapter_config.json should hold a JSON object"),
    "adapter: config deep": Case(
        PEFT,
        put(CONFIG_FILE, '{"a":' * 100 + "1" + "}" * 100),
        "adapter_config.json has containers nested more than 32 deep",
    ),
    "adapter: a key twice": Case(
        PEFT, put(CONFIG_FILE, '{"r": 3, "r": 4}'), "adapter_config.json isn't valid JSON: it has the key 'r' twice"
    ),
    "adapter: no weights": Case(
        PEFT, lambda d: (d / WEIGHTS).unlink(), "has no adapter_model.safetensors; it has adap"
    ),
    "adapter: weights a pipe": Case(PEFT, instead(WEIGHTS, os.mkfifo), "adapter_model.safetensors is a pipe"),
    "adapter: weights a directory": Case(
        PEFT, instead(WEIGHTS, Path.mkdir), "adapter_model.safetensors is a directory"
    ),
    "adapter: weights a dead link": Case(
        PEFT, instead(WEIGHTS, link("nowhere")), "adapter_model.safetensors is a link to nowhere"
    ),
    "adapter: weights cut": Case(PEFT, cut(WEIGHTS, 0.8), "adapter_model.safetensors is cut short: tensor"),
    "adapter: a header of exabytes": Case(PEFT, put(WEIGHTS, b"\xff" * 8 + b"{}"), "header length of 1844674407370955"),
    "adapter: factors that overlap": Case(
        PEFT, header(lambda f: f[VALUE_B].update(data_offsets=[0, 96]), WEIGHTS), "but the tensor before it"
    ),
    "adapter: another kind": Case(PEFT, said(peft_type="LOHA"), "peft_type is 'LOHA', only 'LORA' can be read"),
    "adapter: a long kind": Case(PEFT, said(peft_type=["x" * 999] * 99), r"peft_type is \['xxx.*, only 'LORA'"),
    "adapter: DoRA": Case(PEFT, said(use_dora=True), "use_dora is True, only False can be read"),
    "adapter: ranks of their own": Case(
        PEFT, said(rank_pattern={"query": 4}), "rank_pattern is {'query': 4}, only {} can be read"
    ),
    "adapter: whole layers": Case(PEFT, said(modules_to_save=["lm_head"]), r"modules_to_save is \['lm_head'\], only"),
    "adapter: rank 0": Case(
        PEFT, said(r=0), "adapter_config.json: .* needs a lora_rank above 0; got lora_alpha 6.0 and lora_rank 0"
    ),
    "adapter: another rank": Case(PEFT, said(r=4), r"query.lora_a is \(8, 3\), the model's shape \(8, 4\)"),
    "adapter: an enormous rank": Case(
        PEFT, said(r=10**15), r"query.lora_a is \(8, 3\), the model's shape \(8, 10000000"
    ),
    "adapter: a rank below zero": Case(PEFT, said(r=-3), "adapter_config.json: r should be at least 0, got -3"),
    "adapter: a rank that is a text": Case(PEFT, said(r="3"), "r should be a whole number, got '3'"),
    "adapter: alpha 0": Case(PEFT, said(lora_alpha=0), "lora_alpha must be above 0 .*; got lora_alpha 0.0"),
    "adapter: alpha a list": Case(PEFT, said(lora_alpha=[6]), r"lora_alpha should be a number, got \[6\]"),
    "adapter: a factor missing": Case(
        PEFT, factors(lambda t: t.pop(QUERY_A)), r"query.lora_a is missing, the model's shape \(8, 3\)$"
    ),
    "adapter: no factor at all": Case(PEFT, factors(lambda t: t.clear()), "query.lora_a is missing, .* and 8 more"),
    "adapter: a layer that isn't": Case(
        PEFT, renamed("layer.0", "layer.7"), "layers.7.attention.query.lora_a is .* the model's shape has no such layer"
    ),
    "adapter: a layer of many digits": Case(
        PEFT,
        renamed("layer.0", "layer." + "9" * 5000),
        r"tensor 'base_model.model.ro.*999.attention.* can't be used: here LoRA changes only",
    ),
    "adapter: another module": Case(
        PEFT,
        renamed("attention.self.query", "intermediate.dense"),
        "0.intermediate.dense.*can't be used: here LoRA changes only",
    ),
    "adapter: a module of another model": Case(
        PEFT,
        renamed("roberta.encoder.layer.0.attention.self.query", "model.layers.0.self_attn.q_proj"),
        "q_proj.* can't be used",
    ),
    "adapter: a bias of its own": Case(
        PEFT, added("lora_A.weight", "lora_A.bias"), "query.lora_A.bias' can't be used: here LoRA changes only"
    ),
    "adapter: a factor under two names": Case(
        PEFT, added("model.roberta.", "model."), "'base_model.model.encoder.*' are the same parameter"
    ),
    "adapter: a layer under two numbers": Case(PEFT, added("layer.0", "layer.00"), "layer.00.* are the same parameter"),
    "adapter: one target's factors alone": Case(
        PEFT, renamed("query", "key"), "has factors that the .* do not select: '.*self.key.lora_A.weight'"
    ),
    "adapter: a factor turned around": Case(
        PEFT,
        factors(lambda t: t.update({QUERY_A: t[QUERY_A].T.copy()})),
        r"query.lora_a is \(3, 8\), the model's shape",
    ),
    "adapter: NaN": Case(
        PEFT, factors(lambda t: t[QUERY_A].__setitem__((2, 5), np.nan)), r"lora_A.weight'.* the first nan at \(5, 2\)"
    ),
    "adapter: integers": Case(
        PEFT, factors(lambda t: t.update({QUERY_A: t[QUERY_A].astype("i4")})), "lora_A.weight' is stored as I32, expec"
    ),
    # --- KerasHub
    **empty(KERAS, KERAS_FILE),
    **structure(KERAS, KERAS_FILE),
    "adapter: keras: a soft link": Case(
        KERAS,
        keras(lambda f: f.move("lora", "x") or f.__setitem__("lora", h5py.SoftLink("/x"))),
        "adapter.lora.h5: 'lora' is a link to elsewhere, which is not followed",
    ),
    "adapter: keras: a pipe": Case(KERAS, instead(KERAS_FILE, os.mkfifo), "adapter.lora.h5 is a pipe"),
    "adapter: keras: a page": Case(
        KERAS, put(KERAS_FILE, "<html></html>"), "adapter.lora.h5 is .*not an HDF5 file: .*signature"
    ),
    "adapter: keras: half a file": Case(KERAS, cut(KERAS_FILE, 0.5), "adapter.lora.h5 is damaged .*truncated"),
    "adapter: keras: no rank": Case(
        KERAS,
        keras(lambda f: f.pop("lora/vars/rank")),
        "has no lora/vars/rank, so KerasHub's save_lora_weights did not",
    ),
    "adapter: keras: rank 0": Case(
        KERAS, replaced("lora/vars/rank", 0), "lora/vars/rank should be .* at least 1, got 0"
    ),
    "adapter: keras: another rank": Case(
        KERAS, replaced("lora/vars/rank", 4), r"lora_kernel_a is \(8, 2, 3\), the model's shape \(8, 2, 4\)"
    ),
    "adapter: keras: a rank that is NaN": Case(
        KERAS, replaced("lora/vars/rank", np.nan), "lora/vars/rank should be .*nan"
    ),
    "adapter: keras: an infinite rank": Case(
        KERAS, replaced("lora/vars/rank", np.inf), "lora/vars/rank should be .* inf"
    ),
    "adapter: keras: a rank that is a text": Case(KERAS, replaced("lora/vars/rank", "3"), "rank' is stored as texts"),
    "adapter: keras: a rank of two numbers": Case(
        KERAS, replaced("lora/vars/rank", [3, 3]), "has no lora/vars/rank, so KerasHub's save_lora_weights did not"
    ),
    "adapter: keras: a factor missing": Case(
        KERAS, keras(lambda f: f.pop(FACTOR)), "lora/11/.*_a is missing, the model's"
    ),
    "adapter: keras: a layer more": Case(
        KERAS, keras(lambda f: f.create_dataset("lora/99/vars/lora_kernel_a", data=[1.0])), "lora/99/.* no such layer"
    ),
    "adapter: keras: an external link": Case(
        KERAS, replaced(FACTOR, h5py.ExternalLink("/etc/passwd", "/x")), "lora_kernel_a' is a link to elsewhere"
    ),
    "adapter: keras: a factor that is another's": Case(
        KERAS,
        keras(lambda f: f.move(FACTOR, "x") or f.__setitem__(FACTOR, f["lora/13/vars/lora_kernel_a"])),
        "second na",
    ),
    "adapter: keras: an infinity": Case(
        KERAS, replaced(FACTOR, np.full((C, H, RANK), np.inf, "f4")), r"lora_kernel_a'.* the first inf at \(0, 0, 0\)"
    ),
    "adapter: keras: a rank of gigabytes": Case(KERAS, keras(claimed), "lora_kernel_a' should have .* it was never wr"),
    "adapter: keras: a rank that was never written": Case(
        KERAS,
        keras(lambda f: f.pop("lora/vars/rank") and f.create_dataset("lora/vars/rank", (), "i8")),
        "lora/vars/rank' should have 8 bytes, but has 0",
    ),
    "adapter: keras: a bomb": Case(
        KERAS,
        keras(lambda f: f.create_dataset("lora/bomb", (1 << 30,), "f4", chunks=True)),
        "lora/bomb .* no such layer",
    ),
}
