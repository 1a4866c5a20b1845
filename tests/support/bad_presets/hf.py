"""Hugging Face directories: config.json, model.safetensors and its shards, the tokenizer's files."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np
from small_models import small_tokenizer
from small_presets import directory_of, hf_tensors, hf_values

from bad_presets.spoiling import (
    CONFIG,
    WEIGHTS,
    Case,
    Sound,
    change,
    cut,
    dead_links,
    empty,
    entry,
    header,
    instead,
    link,
    nested,
    no_json,
    put,
    tensors,
    values,
)


def sound_hf(directory: Path) -> Path:
    directory_of(directory, hf_tensors(CONFIG), hf_values(CONFIG))
    small_tokenizer().save(directory)
    return directory


def sound_slow_tokenizer(directory: Path) -> Path:
    """With vocab.json and merges.txt alone."""
    sound_hf(directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (directory / name).unlink()
    return directory


def sound_shards(directory: Path) -> Path:
    import safetensors.numpy

    sound_hf(directory)
    (directory / "model.safetensors").unlink()
    tensors = hf_tensors(CONFIG)
    places = {name: f"model-{i % 2 + 1:05}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for file in set(places.values()):
        safetensors.numpy.save_file({n: tensors[n] for n, f in places.items() if f == file}, directory / file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return directory


SOUND = {"hf": Sound(sound_hf), "slow tokenizer": Sound(sound_slow_tokenizer), "shards": Sound(sound_shards)}

NAN = hf_tensors(CONFIG)["lm_head.dense.weight"] * np.nan
QUERY = "roberta.encoder.layer.0.attention.self.query.weight"
INDEX, FIRST, SECOND = "model.safetensors.index.json", *(f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
LAST = "roberta.encoder.layer.2.output.LayerNorm.bias"  # of the second shard

WHOLE = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings", "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip
REAL = ("layer_norm_eps", "hidden_dropout_prob", "attention_probs_dropout_prob")

# What is wrong with a text that should be JSON, and what Python's parser says of it.
NOT_JSON = {
    "a value left out": ('{"a": }', "Expecting value"),
    "a key without quotes": ("{a: 1}", "Expecting property name enclosed in double quotes"),
    "a key without a colon": ('{"a" 1}', "Expecting ':' delimiter"),
    "two pairs without a comma": ('{"a": 1 "b": 2}', "Expecting ',' delimiter"),
    "a text without an end": ('{"a": "b', "Unterminated string"),
    "a line's end within a text": ('{"a": "\n"}', "Invalid control character"),
    "half an escape": ('{"a": "\\u12"}', r"Invalid \\uXXXX escape"),
    "an escape of a letter": ('{"a": "\\x"}', r"Invalid \\escape"),
    "two objects": ("{} {}", "Extra data"),
    "a byte that begins no character": (b'{"\x80": 1}', "'utf-8' codec can't decode byte 0x80"),
    "half a character": (b'{"\xc3"}', "'utf-8' codec can't decode byte 0xc3"),
}

CASES: dict[str, Case] = {
    # --- config.json, whatever the weights are
    "no config": Case("hf", lambda d: (d / "config.json").unlink(), "has no config.json"),
    "config empty": Case("hf", put("config.json", ""), "config.json isn't valid JSON"),
    "config a list": Case("hf", put("config.json", "[]"), "should hold a JSON object, it holds a list"),
    "config cut": Case("hf", cut("config.json", 0.5), "config.json isn't valid JSON"),
    "config not UTF-8": Case("hf", put("config.json", b'{"a": "\xff"}'), "config.json isn't valid JSON"),
    "config UTF-16": Case("hf", put("config.json", "{}".encode("utf-16")), "config.json isn't valid JSON"),
    "config a directory": Case("hf", instead("config.json", Path.mkdir), "config.json is a directory"),
    "config a pipe": Case("hf", instead("config.json", os.mkfifo), "config.json is a pipe"),
    "config a device": Case("hf", instead("config.json", link("/dev/zero")), "config.json is a pipe or a device"),
    "config unreadable": Case("hf", instead("config.json", link("/proc/self/mem")), "config.json can't be read"),
    "config a loop of links": Case("hf", instead("config.json", link("config.json")), "form a circle"),
    **dead_links(
        "hf",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "pyroberta_preprocessor.json",
        "pyroberta_training.json",
    ),
    **dead_links("slow tokenizer", "vocab.json", "merges.txt", "added_tokens.json", "tokenizer.json"),
    "config huge": Case("hf", lambda d: os.truncate(d / "config.json", 1 << 33), "more than 20000000 bytes"),
    "config of empty objects": Case(
        "hf",
        put("config.json", '{"a": [' + "{}," * 6_000_000 + "{}]}"),
        r"30000015 steps are needed for JSON of 6000003 containers",
    ),
    "config of numbers": Case("hf", put("config.json", '{"a": [' + "1.5," * 1_900_000 + "1]}"), "no model_type"),
    "config of more numbers": Case(
        "hf",
        put("config.json", '{"a": [' + "1," * 4_900_000 + "1]}"),
        r"4900000 steps are needed for JSON of 4900000 values",
    ),
    "config deep": Case("hf", put("config.json", '{"a":' + nested("[", "]", 100) + "}"), "more than 32 deep"),
    "config endlessly deep": Case("hf", put("config.json", '{"a":' + nested("[", "]", 100_000) + "}"), "without end"),
    "config with NaN": Case("hf", put("config.json", '{"layer_norm_eps": NaN}'), "NaN is not a number of JSON"),
    "config with infinity": Case(
        "hf", put("config.json", '{"layer_norm_eps": -Infinity}'), "-Infinity is not a number"
    ),
    "config with 1e999": Case("hf", put("config.json", '{"layer_norm_eps": 1e999}'), "too large a number"),
    "config with a long number": Case("hf", put("config.json", '{"a": ' + "9" * 100_000 + "}"), "too long a number"),
    "config with a key twice": Case(
        "hf", put("config.json", '{"hidden_size": 8, "hidden_size": 9}'), "'hidden_size' twice"
    ),
    "config with half a pair": Case("hf", put("config.json", '{"a": "\\ud800"}'), "surrogates not allowed"),
    **{
        f"config with {kind}": Case("hf", put("config.json", text), f"config.json isn't valid JSON: {words}")
        for kind, (text, words) in NOT_JSON.items()
    },
    **{
        f"config: {key} a text": Case(
            "hf", values("config.json", **{key: "x"}), f"config.json: {key} should be a {kind}"
        )
        for kind, keys in (("whole number, got 'x'", WHOLE), ("number, got 'x'", REAL))
        for key in keys
    },
    **{
        f"config: {key} a list": Case("hf", values("config.json", **{key: [2]}), f"{key} should be a .*number, got .2.")
        for key in (*WHOLE, *REAL)
    },
    **{
        f"config: {key} below zero": Case(
            "hf", values("config.json", **{key: -1}), f"{key} should be at least 0, got -1"
        )
        for key in WHOLE
    },
    "config: a size of true": Case("hf", values("config.json", vocab_size=True), "a whole number, got True"),
    "config: half a layer": Case("hf", values("config.json", num_hidden_layers=0.5), "a whole number, got 0.5"),
    "config: no head": Case(
        "hf", values("config.json", num_attention_heads=0), "num_heads must be a whole number of at"
    ),
    "config: heads that don't divide the width": Case(
        "hf", values("config.json", num_attention_heads=3), "config.json: hidden_dim 8 is not a multiple of num_heads 3"
    ),
    "config: an epsilon of zero": Case(
        "hf", values("config.json", layer_norm_eps=0), "layer_norm_epsilon must be above 0 and finite, got 0.0"
    ),
    "config: a rate below zero": Case(
        "hf", values("config.json", attention_probs_dropout_prob=-1), r"attention_dropout must be in \[0, 1\), got -1.0"
    ),
    "config: another activation": Case(
        "hf", values("config.json", hidden_act="relu"), "config.json: hidden_act is 'relu', only 'gelu' can be read"
    ),
    "config: a text for whether the head is tied": Case(
        "hf", values("config.json", tie_word_embeddings="no"), "tie_word_embeddings should be true or false, got 'no'"
    ),
    "config: no activation": Case("hf", values("config.json", hidden_act=None), "hidden_act is None, only 'gelu'"),
    "config: a padding token beyond the vocabulary": Case(
        "hf",
        values("config.json", pad_token_id=1 << 63),
        "pad_token_id is 9223372036854775808, but the token embedding",
    ),
    "config: positions for the padding alone": Case(
        "hf",
        values("config.json", max_position_embeddings=2),
        "max_position_embeddings is 2, which leaves no row for a position",
    ),
    "model_type a number": Case("hf", values("config.json", model_type=7), "this is a 7 model; pyroberta reads 'robe"),
    **no_json("hf", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    **no_json("shards", INDEX),
    **no_json("slow tokenizer", "vocab.json"),
    "bert": Case("hf", values("config.json", model_type="bert"), "this is a 'bert' model, BERT"),
    "gemma": Case("hf", values("config.json", model_type="gemma"), "this is a 'gemma' model"),
    "xlm-roberta": Case("hf", values("config.json", model_type="xlm-roberta"), "XLM-RoBERTa, which has a Sentence"),
    "deberta": Case("hf", values("config.json", model_type="deberta"), "DeBERTa, whose attention is relative"),
    "model_type a list": Case("hf", values("config.json", model_type=["roberta"]), "this is a \\['roberta'\\] model"),
    "architectures a number": Case("hf", values("config.json", model_type=None, architectures=3), "no model_type"),
    "architectures a number beside a sound type": Case(
        "hf", values("config.json", architectures=3, hidden_size=16), "doesn't fit config.json"
    ),
    "a text for a size": Case("hf", values("config.json", hidden_size="8"), "hidden_size should be a whole number"),
    "a list for a size": Case("hf", values("config.json", hidden_size=[8]), "hidden_size should be a whole number"),
    "a negative size": Case("hf", values("config.json", hidden_size=-8), "hidden_size should be at least 0"),
    "an enormous vocabulary": Case("hf", values("config.json", vocab_size=10**18), "doesn't fit config.json"),
    "enormous layers": Case("hf", values("config.json", num_hidden_layers=10**9), "num_layers must be at most"),
    "an enormous width": Case("hf", values("config.json", hidden_size=2 * 10**12), "doesn't fit config.json"),
    "a rate above one": Case("hf", values("config.json", hidden_dropout_prob=1.5), "dropout must be in"),
    "another vocabulary size": Case("hf", values("config.json", vocab_size=299), "doesn't fit config.json"),
    # --- safetensors
    "no weights": Case("hf", lambda d: (d / "model.safetensors").unlink(), "has neither model.safetensors"),
    "weights empty": Case("hf", put("model.safetensors", ""), "is empty"),
    "weights of five bytes": Case(
        "hf", put("model.safetensors", b"\x01\0\0\0\0"), "it has 5 bytes, but the length of the header alone takes 8"
    ),
    "bytes behind the last tensor": Case(
        "hf", lambda d: (d / WEIGHTS).write_bytes((d / WEIGHTS).read_bytes() + b"more"), "but 18980 follow the header"
    ),
    **{
        f"a header's entry that is {kind}": Case(
            "hf",
            header(lambda found, made=made: found.update({QUERY: made})),
            f"entry for '{QUERY}' should have .*, got ",
        )
        for kind, made in (("a number", 7), ("a text", "F32"), ("none", None), ("a list", [[]]))
    },
    "a header's entry without a dtype": Case(
        "hf", header(lambda f: f[QUERY].pop("dtype")), "entry for .*should have dty"
    ),
    **{
        f"a header's entry whose {key} is {made!r}": Case(
            "hf", entry(QUERY, **{key: made}), "should have dtype, shape an"
        )
        for key, made in (
            ("dtype", 7),
            ("shape", "roberta"),
            ("shape", None),
            ("data_offsets", "/"),
            ("data_offsets", [0]),
        )
    },
    "a shape of no axis": Case("hf", entry(QUERY, shape=[]), r"of F32 \(\) can't take 256 bytes"),
    "a shape of more numbers": Case(
        "hf", entry(QUERY, shape=[8, 1 << 31]), r"F32 \(8, 2147483648\) can't take 256 bytes"
    ),
    "weights a pointer": Case(
        "hf", put("model.safetensors", "version https://git-lfs.github.com/spec/v1"), "cut short or"
    ),
    "weights a directory": Case("hf", instead("model.safetensors", Path.mkdir), "is a directory"),
    "weights a pipe": Case("hf", instead("model.safetensors", os.mkfifo), "is a pipe"),
    "weights cut": Case("hf", cut("model.safetensors", 0.7), "is cut short"),
    "weights cut in the header": Case("hf", lambda d: os.truncate(d / "model.safetensors", 100), "cut short"),
    "a header of exabytes": Case("hf", put("model.safetensors", b"\xff" * 8 + b"{}"), "header length"),
    "a huge header": Case(
        "hf",
        lambda d: (
            put("model.safetensors", struct.pack("<Q", 1 << 28))(d),
            os.truncate(d / "model.safetensors", 1 << 29),
        ),
        "header length",
    ),
    "a header of empty lists": Case(
        "hf",
        header(lambda _: b'{"a":[' + b"[]," * 6_000_000 + b"[]]}"),
        "steps are needed for JSON of 6000003 containers",
    ),
    "a header that is no JSON": Case("hf", header(lambda _: b"{x"), "its header isn't valid JSON"),
    "a header not UTF-8": Case("hf", header(lambda _: b'{"\xff": 1}'), "its header isn't valid JSON"),
    "a header with a key twice": Case("hf", header(lambda _: b'{"a": 1, "a": 2}'), "'a' twice"),
    "a deep header": Case("hf", header(lambda _: b'{"a":' + b"[" * 9999 + b"]" * 9999 + b"}"), "without end"),
    "offsets beyond": Case("hf", entry(QUERY, data_offsets=[0, 1 << 40]), "ends at|cut short"),
    "offsets that overlap": Case("hf", entry(QUERY, data_offsets=[0, 256]), "ends at"),
    "offsets turned round": Case("hf", entry(QUERY, data_offsets=[256, 0]), "ends at|cut short"),
    "offsets below zero": Case("hf", entry(QUERY, data_offsets=[-256, 0]), "should have dtype, shape"),
    "offsets of fractions": Case("hf", entry(QUERY, data_offsets=[0.0, 256.0]), "should have dtype, shape"),
    "a hole in the data": Case("hf", header(lambda f: f.pop(QUERY)), "ends at|but .* follow"),
    "a shape below zero": Case("hf", entry(QUERY, shape=[-8, -8]), "should have dtype, shape"),
    "an enormous shape": Case("hf", entry(QUERY, shape=[10**30, 0]), "can't take"),
    "a million axes": Case("hf", entry(QUERY, shape=[10**30] * 300_000), "should have dtype, shape"),
    "a dtype of another size": Case("hf", entry(QUERY, dtype="F64"), "can't take"),
    "an unknown dtype": Case("hf", entry(QUERY, dtype="F8_E4M3"), "is stored as F8_E4M3"),
    "integers for weights": Case("hf", entry(QUERY, dtype="I32"), "is stored as I32"),
    "another shape": Case("hf", tensors(lambda t: t.update({QUERY: np.zeros((8, 9), "f4")})), "has shape \\(8, 9\\)"),
    "a tensor missing": Case("hf", tensors(lambda t: t.pop(QUERY)), f"lacks 1 of .*{QUERY}"),
    "a tensor more": Case("hf", tensors(lambda t: t.update(x=np.zeros(3, "f4"))), "does not have: x"),
    "NaN": Case("hf", tensors(lambda t: t.update({"lm_head.dense.weight": NAN})), "aren't finite, the first nan"),
    "an infinity": Case(
        "hf", tensors(lambda t: t["lm_head.bias"].__setitem__(7, -np.inf)), "isn't finite, the first -inf at \\(7"
    ),
    "float64 too large": Case(
        "hf", tensors(lambda t: t.update({"lm_head.bias": np.full(300, 1e300)})), "aren't finite"
    ),
    "another decoder": Case(
        "hf", tensors(lambda t: t.update({"lm_head.decoder.weight": np.zeros((300, 8), "f4")})), "differs from"
    ),
    "an absurd decoder": Case(
        "hf", tensors(lambda t: t.update({"lm_head.decoder.weight": np.zeros((0, 9), "i8")})), "differs from"
    ),
    # --- shards
    "a shard above": Case(
        "shards",
        change("model.safetensors.index.json", lambda i: i["weight_map"].update({QUERY: "../x"})),
        "plain name of a file beside",
    ),
    "a shard at the root": Case(
        "shards",
        change("model.safetensors.index.json", lambda i: i["weight_map"].update({QUERY: "/etc/passwd"})),
        "plain name of a file beside",
    ),
    "a shard missing": Case("shards", lambda d: (d / "model-00002-of-00002.safetensors").unlink(), "isn't there"),
    "a shard a pipe": Case("shards", instead("model-00002-of-00002.safetensors", os.mkfifo), "is a pipe"),
    "a shard twice": Case(
        "shards",
        lambda d: (d / "model-00002-of-00002.safetensors").write_bytes(
            (d / "model-00001-of-00002.safetensors").read_bytes()
        ),
        "in two shards",
    ),
    "a shard that is a list": Case(
        "shards",
        change("model.safetensors.index.json", lambda i: i["weight_map"].update({QUERY: [1]})),
        "should have a weight_map",
    ),
    **empty("shards", FIRST),
    "shards: offsets that overlap": Case(
        "shards",
        header(lambda found: found[LAST].update(data_offsets=[2, 34]), SECOND),
        f"{SECOND}: tensor '.*' begins at byte .* of the data, but the tensor before it ends at",
    ),
    "shards: a header that is no JSON": Case(
        "shards", header(lambda _: b"{x", SECOND), f"{SECOND} is not a safetensors file"
    ),
    "shards: bytes behind the last tensor": Case(
        "shards",
        lambda d: (d / SECOND).write_bytes((d / SECOND).read_bytes() + b"more"),
        "bytes, but .* follow the hea",
    ),
    "shards: one cut": Case("shards", cut(FIRST, 0.9), f"{FIRST} is cut short: tensor"),
    "no weight map": Case("shards", put("model.safetensors.index.json", "{}"), "should have a weight_map"),
    "an index that names what isn't": Case(
        "shards",
        change(
            "model.safetensors.index.json", lambda i: i["weight_map"].update(ghost="model-00001-of-00002.safetensors")
        ),
        "are not in the shard",
    ),
    # --- tokenizers
    "tokenizer.json a pipe": Case("hf", instead("tokenizer.json", os.mkfifo), "tokenizer.json is a pipe"),
    "tokenizer.json cut": Case("hf", cut("tokenizer.json", 0.5), "tokenizer.json isn't valid JSON"),
    "tokenizer.json of WordPiece": Case(
        "hf", change("tokenizer.json", lambda t: t["model"].update(type="WordPiece")), "model's type .* is 'WordPiece'"
    ),
    "tokenizer.json of another version": Case(
        "hf",
        values("tokenizer.json", version="2.0"),
        "the version in .*tokenizer.json' is '2.0'; only 1.0 can be read",
    ),
    "tokenizer.json whose model is a text": Case(
        "hf", values("tokenizer.json", model="BPE"), "the layout of a tokenizer.json: AttributeError"
    ),
    "tokenizer.json with a merge of three": Case(
        "hf",
        change("tokenizer.json", lambda t: t["model"]["merges"].append(["a", "b", "c"])),
        r"merge 39 of .*tokenizer.json' must be a merge: two tokens .*, got \['a', 'b', 'c'\]",
    ),
    "tokenizer.json without model": Case(
        "hf", change("tokenizer.json", lambda t: t.pop("model")), "does not have the layout of"
    ),
    "tokenizer.json with a list of tokens": Case(
        "hf",
        change("tokenizer.json", lambda t: t["model"].update(vocab=["a"])),
        "does not have the layout of a tokenizer.json",
    ),
    "a post-processor that is a list": Case(
        "hf", values("tokenizer.json", post_processor=[1]), "does not have the layout of"
    ),
    "merges without end": Case(
        "slow tokenizer",
        put("merges.txt", "a b\n" * 1_000_000),
        "merges.txt: 2000000 steps are needed for a list of 1000000 merges for 300 tokens",
    ),
    "tokenizer.json of merges without end": Case(
        "hf",
        change("tokenizer.json", lambda t: t["model"].update(merges=[["a", "b"]] * 100_000)),
        "tokenizer.json: 200000 steps are needed for a list of 100000 merges for 300 tokens",
    ),
    "a merge of a long token": Case(
        "slow tokenizer",
        put("merges.txt", "x" * 1_000_000 + " y\n"),
        r"merge 0, 'xxx.*xxx' \+ 'y', needs the token 'xxx",
    ),
    "added tokens of many letters": Case(
        "slow tokenizer",
        put("added_tokens.json", json.dumps({"x" * 30_000 + f"{i}": 300 + i for i in range(10)})),
        "76802560 bytes are needed for the search for added tokens of 300010 letters",
    ),
    "long special tokens that aren't there": Case(
        "hf",
        values("tokenizer_config.json", **{f"{k}_token": "x" * 9999 for k in ("bos", "eos", "unk", "pad", "mask")}),
        "lstrip of the added token '<mask>' .* it for 'xxx",
    ),
    "a header of many tensors": Case(
        "hf",
        header(
            lambda _: json.dumps(
                {f"{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(20_000)}
            ).encode()
        ),
        "20000 steps are needed for the header's entries",
    ),
    "a post-processor whose token has a third part": Case(
        "hf",
        change("tokenizer.json", lambda t: t["post_processor"]["cls"].append(0)),
        "the post_processor in .* should give a token and its id as a list of two",
    ),
    "an added token that is a number": Case(
        "hf",
        change("tokenizer.json", lambda t: t["added_tokens"].append(t["added_tokens"][0] | {"content": 7, "id": 7})),
        "has an added token that is not a text: 7",
    ),
    "an id twice": Case(
        "hf", change("tokenizer.json", lambda t: t["model"]["vocab"].update(twice=7)), "have the same id 7"
    ),
    "an id below zero": Case(
        "hf", change("tokenizer.json", lambda t: t["model"]["vocab"].update(below=-1)), "whole number of at least 0"
    ),
    "an id that is a list": Case(
        "hf", change("tokenizer.json", lambda t: t["model"]["vocab"].update(listed=[1])), "whole number of at least 0"
    ),
    "an enormous id": Case(
        "hf", change("tokenizer.json", lambda t: t["model"]["vocab"].update(far=10**15)), "the highest possible id is"
    ),
    "a gap to an id too high": Case(
        "slow tokenizer", change("vocab.json", lambda v: v.update(high=5000)), "tokenizer has 5001 tokens"
    ),
    "no mask token": Case("slow tokenizer", change("vocab.json", lambda v: v.pop("<mask>")), "has no '<mask>'"),
    "a vocabulary that isn't byte-level": Case(
        "slow tokenizer",
        change("vocab.json", lambda v: v.update({"▁A": v.pop("A")})),
        "lacks tokens for 1 of the 256 bytes and has '▁A', which isn't spelt in bytes",
    ),
    "a vocabulary with a key twice": Case("slow tokenizer", put("vocab.json", '{"a": 1, "a": 2}'), "'a' twice"),
    "a vocabulary that is a pipe": Case("slow tokenizer", instead("vocab.json", os.mkfifo), "is a pipe"),
    "no merges": Case("slow tokenizer", lambda d: (d / "merges.txt").unlink(), "has no merges|has no tokenizer"),
    "merges a pipe": Case("slow tokenizer", instead("merges.txt", os.mkfifo), "merges.txt is a pipe"),
    "merges not UTF-8": Case("slow tokenizer", put("merges.txt", b"\xff \xfe\n"), "is not UTF-8"),
    "merges of no token": Case("slow tokenizer", put("merges.txt", "x y\n"), "needs the token 'xy'"),
    "merges of three": Case("slow tokenizer", put("merges.txt", "a b c\n"), "must be a merge"),
    "merges huge": Case("slow tokenizer", lambda d: os.truncate(d / "merges.txt", 1 << 33), "more than 20000000 bytes"),
    "a merge twice": Case(
        "slow tokenizer",
        lambda d: (d / "merges.txt").write_text(
            (d / "merges.txt").read_text() + (d / "merges.txt").read_text().splitlines()[1] + "\n"
        ),
        "again",
    ),
    "added tokens without end": Case(
        "slow tokenizer",
        put("added_tokens.json", lambda: json.dumps({f"<{i}>": 300 + i for i in range(200_000)})),
        "are possible, since each is searched",
    ),
    "special tokens that are a number": Case(
        "slow tokenizer", put("special_tokens_map.json", '{"additional_special_tokens": 3}'), "should be a list"
    ),
    "settings out of range": Case(
        "hf", put("pyroberta_preprocessor.json", '{"sequence_length": -1}'), "settings can't be used.*sequence_length"
    ),
    "settings of a long text": Case(
        "hf", put("pyroberta_preprocessor.json", json.dumps({"truncate": "x" * 9999})), "truncate must be one of .*'xxx"
    ),
    "rates in a pipe": Case("hf", lambda d: os.mkfifo(d / "pyroberta_training.json"), "training.json is a pipe"),
    "rates that are none": Case(
        "hf",
        put("pyroberta_training.json", json.dumps({"learning_rates": {"x" * 9999: "1e-3"}})),
        "the learning rate of 'xxx.* should be a finite number above 0, got '1e-3'",
    ),
    "rates without end": Case(
        "hf",
        put("pyroberta_training.json", json.dumps({"learning_rates": dict.fromkeys(map(str, range(9999)), 1.0)})),
        "up to 20 names of heads to learning rates, got",
    ),
    "settings that don't fit": Case(
        "hf", put("pyroberta_preprocessor.json", '{"sequence_length": 400}'), "sequence_length is 400"
    ),
}
