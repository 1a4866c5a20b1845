"""Presets that must not be read: each is a sound one, spoilt in one way. `CASES` has them by name.

To add a format, add a maker of a sound preset to `SOUND` and its cases to `CASES`.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from small_models import random_params, small_tokenizer
from small_pickles import name_of, number, older, pickled, state, tensor, text, zipped
from small_presets import KERASHUB, directory_of, fields, hf_tensors, hf_values, preset, serialized

from pyroberta.presets import kerashub, torch_io

CONFIG = KERASHUB  # the size of all of them: the small tokenizer's
CANARY = "was-here"  # what a file that runs would leave in the working directory, or in the preset


# --- sound ones -------------------------------------------------------------------------------------------------------


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


def bodies() -> tuple[bytes, dict[str, np.ndarray]]:
    tensors = hf_tensors(CONFIG)
    body = name_of("collections", "OrderedDict") + b")R("
    body += b"".join(text(name) + tensor(name, values.shape) for name, values in tensors.items()) + b"u"
    return body, tensors


def sound_bin(directory: Path) -> Path:
    sound_hf(directory)
    (directory / "model.safetensors").unlink()
    body, tensors = bodies()
    zipped(directory / "pytorch_model.bin", body, {name: values.tobytes() for name, values in tensors.items()})
    return directory


def sound_older(directory: Path) -> Path:
    sound_bin(directory)
    body, tensors = bodies()
    body = body.replace(b"tQ", b"NtQ")  # a storage is a view of none
    older(directory / "pytorch_model.bin", body, tensors)
    return directory


def sound_kerashub(directory: Path) -> Path:
    return preset(directory, random_params(CONFIG, 0, np.float32))


SOUND: dict[str, Callable[[Path], Path]] = {
    "hf": sound_hf,
    "slow tokenizer": sound_slow_tokenizer,
    "shards": sound_shards,
    "bin": sound_bin,
    "older": sound_older,
    "kerashub": sound_kerashub,
}

Spoil = Callable[[Path], Any]


class Case(NamedTuple):
    """kind: of the sound preset; spoil: what is done to it; message: a part, as a regular expression, of the error."""

    kind: str
    spoil: Spoil
    message: str


# --- ways to spoil ----------------------------------------------------------------------------------------------------


def put(file: str, content: bytes | str) -> Spoil:
    return lambda d: (d / file).write_bytes(content.encode() if isinstance(content, str) else content)


def cut(file: str, share: float) -> Spoil:
    return lambda d: os.truncate(d / file, int((d / file).stat().st_size * share))


def instead(file: str, make: Callable[[Path], Any]) -> Spoil:
    def spoil(directory: Path) -> None:
        (directory / file).unlink()
        make(directory / file)

    return spoil


def link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def values(file: str, **changes: Any) -> Spoil:
    def spoil(directory: Path) -> None:
        found = json.loads((directory / file).read_text())
        (directory / file).write_text(json.dumps(found | changes))

    return spoil


def change(file: str, how: Callable[[Any], Any]) -> Spoil:
    def spoil(directory: Path) -> None:
        found = json.loads((directory / file).read_text())
        how(found)
        (directory / file).write_text(json.dumps(found))

    return spoil


def header(how: Callable[[dict[str, Any]], Any]) -> Spoil:
    """Changes model.safetensors' header, and leaves its data."""

    def spoil(directory: Path) -> None:
        file = directory / "model.safetensors"
        content = file.read_bytes()
        stop = 8 + struct.unpack("<Q", content[:8])[0]
        found = json.loads(content[8:stop])
        made = how(found)
        raw = made if isinstance(made, bytes) else json.dumps(found).encode()
        file.write_bytes(struct.pack("<Q", len(raw)) + raw + content[stop:])

    return spoil


def tensors(how: Callable[[dict[str, np.ndarray]], Any]) -> Spoil:
    """Other tensors in a sound model.safetensors."""

    def spoil(directory: Path) -> None:
        import safetensors.numpy

        found = hf_tensors(CONFIG)
        how(found)
        safetensors.numpy.save_file(found, directory / "model.safetensors")

    return spoil


def entry(name: str, **changes: Any) -> Spoil:
    return header(lambda found: found[name].update(changes))


def pickle_zip(body: bytes, data: dict[str, bytes] | None = None, **how: Any) -> Spoil:
    return lambda d: zipped(d / "pytorch_model.bin", body, data or {}, **how)


def pickle_old(body: bytes) -> Spoil:
    return lambda d: older(d / "pytorch_model.bin", body, {})


def h5(how: Callable[[Any], Any], file: str = kerashub.WEIGHTS) -> Spoil:
    def spoil(directory: Path) -> None:
        with h5py.File(directory / file, "r+") as opened:
            how(opened)

    return spoil


NORM = "layers/layer_normalization/vars/0"


def dataset(*arguments: Any, **how: Any) -> Spoil:
    def spoil(opened: Any) -> None:
        del opened[NORM]
        opened.create_dataset(NORM, *arguments, **how)

    return h5(spoil)


def set_link(made: Any) -> Spoil:
    def spoil(opened: Any) -> None:
        del opened[NORM]
        opened[NORM] = made

    return h5(spoil)


def virtual(opened: Any) -> None:
    del opened[NORM]
    layout = h5py.VirtualLayout((8,), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (8,))
    opened.create_virtual_dataset(NORM, layout)


def self_links(opened: Any) -> None:
    for i in range(10):
        opened["layers"][f"again{i}"] = opened["layers"]


def deep_groups(opened: Any) -> None:
    opened.create_group("/".join("abcdefghijklmnopqrstuvwxyz"))


def overfull_chunk(opened: Any) -> None:
    """A chunk of 32 bytes whose zipped stream holds two gigabytes: one megabyte again and again."""
    del opened[NORM]
    made = opened.create_dataset(NORM, (8,), "f4", chunks=(8,), compression="gzip")
    packer = zlib.compressobj()
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    made.id.write_direct_chunk((0,), head + 2048 * again)


def nested(opening: str, closing: str, depth: int) -> str:
    return opening * depth + closing * depth


NAN = hf_tensors(CONFIG)["lm_head.dense.weight"] * np.nan
QUERY = "roberta.encoder.layer.0.attention.self.query.weight"
TOUCH = f"touch {CANARY}"
CALLS = {
    "os.system": name_of("os", "system") + text(TOUCH) + b"\x85R",
    "posix.system": name_of("posix", "system") + text(TOUCH) + b"\x85R",
    "builtins.eval": name_of("builtins", "eval") + text(f"open('{CANARY}', 'w')") + b"\x85R",
    "builtins.exec": b"\x8c\x08builtins\x8c\x04exec\x93" + text(f"open('{CANARY}', 'w')") + b"\x85R",
    "subprocess.Popen": name_of("subprocess", "Popen") + text(TOUCH) + b"\x85\x81",
    "runpy.run_path": name_of("runpy", "run_path") + text("x.py") + b"\x85R",
    "builtins.getattr": name_of("builtins", "getattr") + name_of("os", "system") + text("__call__") + b"\x86R",
    "OBJ": b"(" + name_of("os", "remove") + text("config.json") + b"o",
    "INST": b"(" + text(TOUCH) + b"ios\nsystem\n",
    "EXT1": b"\x82\x01",
}


class Harmful:
    """What a pickle of Python's own makes of an object that says how it wants to be rebuilt."""

    def __reduce__(self) -> Any:
        return os.system, (TOUCH,)


def doubled(start: bytes, step: bytes, count: int = 60) -> bytes:
    """A value that holds the one before it twice, `count` times: 2^count parts in a few hundred bytes."""
    return (
        start
        + b"q\x00"
        + b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + step + b"q" + bytes([i + 1]) for i in range(count))
    )


def spread(key: str, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """A tensor whose storage has one number."""
    return tensor(key, shape, strides=strides).replace(number(shape[0]) + b"tQ", number(1) + b"tQ")


def turned_views() -> tuple[bytes, dict[str, bytes]]:
    """Two hundred matrices of a million numbers, all of them one storage turned around."""
    view = tensor("0", (1000, 1000), strides=(1, 1000))
    return state(**{f"a{i}": view for i in range(200)}), {"0": bytes(4_000_000)}


def zip_of_pickle(directory: Path, content: bytes) -> None:
    with zipfile.ZipFile(directory / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", content)


def old_with_keys(keys: bytes) -> bytes:
    facts = (torch_io.MAGIC, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(fact, 2) for fact in facts) + pickled(ONE.replace(b"tQ", b"NtQ")) + pickled(keys)


TUPLES, LISTS = doubled(b"N\x85", b"\x86"), doubled(b"]", b"\x86")
ONE = state(a=tensor("0", (6,)))
SIX = {"0": np.arange(6, dtype=np.float32).tobytes()}
ROWS = "layers/token_and_position_embedding/token_embedding/vars/0"

CASES: dict[str, Case] = {
    # --- config.json, whatever the weights are
    "no config": Case("hf", lambda d: (d / "config.json").unlink(), "neither config.json"),
    "config empty": Case("hf", put("config.json", ""), "config.json isn't valid JSON"),
    "config a list": Case("hf", put("config.json", "[]"), "should hold a JSON object, it holds a list"),
    "config cut": Case("hf", cut("config.json", 0.5), "config.json isn't valid JSON"),
    "config not UTF-8": Case("hf", put("config.json", b'{"a": "\xff"}'), "config.json isn't valid JSON"),
    "config UTF-16": Case("hf", put("config.json", "{}".encode("utf-16")), "config.json isn't valid JSON"),
    "config a directory": Case("hf", instead("config.json", Path.mkdir), "config.json is a directory"),
    "config a pipe": Case("hf", instead("config.json", os.mkfifo), "config.json is a pipe"),
    "config a device": Case("hf", instead("config.json", link("/dev/zero")), "config.json is a pipe or a device"),
    "config unreadable": Case("hf", instead("config.json", link("/proc/self/mem")), "config.json can't be read"),
    "config a loop of links": Case("hf", instead("config.json", link("config.json")), "config.json"),
    "config a dead link": Case("hf", instead("config.json", link("nowhere")), "config.json"),
    "config huge": Case("hf", lambda d: os.truncate(d / "config.json", 1 << 33), "more than 20000000 bytes"),
    "config of empty objects": Case(
        "hf", put("config.json", '{"a": [' + "{}," * 6_000_000 + "{}]}"), "more than 500000 containers"
    ),
    "config of numbers": Case("hf", put("config.json", '{"a": [' + "1.5," * 1_900_000 + "1]}"), "no model_type"),
    "config of more numbers": Case(
        "hf", put("config.json", '{"a": [' + "1," * 4_900_000 + "1]}"), "more than 2000000 values"
    ),
    "config deep": Case("hf", put("config.json", '{"a":' + nested("[", "]", 100) + "}"), "more than 32 deep"),
    "config endlessly deep": Case("hf", put("config.json", '{"a":' + nested("[", "]", 100_000) + "}"), "without end"),
    "config with NaN": Case("hf", put("config.json", '{"layer_norm_eps": NaN}'), "NaN is no number of JSON's"),
    "config with infinity": Case("hf", put("config.json", '{"layer_norm_eps": -Infinity}'), "-Infinity is no number"),
    "config with 1e999": Case("hf", put("config.json", '{"layer_norm_eps": 1e999}'), "too large a number"),
    "config with a long number": Case("hf", put("config.json", '{"a": ' + "9" * 100_000 + "}"), "too long a number"),
    "config with a key twice": Case(
        "hf", put("config.json", '{"hidden_size": 8, "hidden_size": 9}'), "'hidden_size' twice"
    ),
    "config with half a pair": Case("hf", put("config.json", '{"a": "\\ud800"}'), "surrogates not allowed"),
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
        "hf", header(lambda _: b'{"a":[' + b"[]," * 6_000_000 + b"[]]}"), "more than 500000 containers"
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
    "a tensor more": Case("hf", tensors(lambda t: t.update(x=np.zeros(3, "f4"))), "no place for: x"),
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
    "no weight map": Case("shards", put("model.safetensors.index.json", "{}"), "should have a weight_map"),
    "an index that names what isn't": Case(
        "shards",
        change(
            "model.safetensors.index.json", lambda i: i["weight_map"].update(ghost="model-00001-of-00002.safetensors")
        ),
        "aren't in the shard",
    ),
    # --- tokenizers
    "tokenizer.json a pipe": Case("hf", instead("tokenizer.json", os.mkfifo), "tokenizer.json is a pipe"),
    "tokenizer.json cut": Case("hf", cut("tokenizer.json", 0.5), "tokenizer.json isn't valid JSON"),
    "tokenizer.json of WordPiece": Case(
        "hf", change("tokenizer.json", lambda t: t["model"].update(type="WordPiece")), "model's type .* is 'WordPiece'"
    ),
    "tokenizer.json without model": Case(
        "hf", change("tokenizer.json", lambda t: t.pop("model")), "is not laid out as"
    ),
    "a post-processor that is a list": Case("hf", values("tokenizer.json", post_processor=[1]), "is not laid out as"),
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
        "hf", change("tokenizer.json", lambda t: t["model"]["vocab"].update(far=10**15)), "the highest that can be had"
    ),
    "a gap to an id too high": Case(
        "slow tokenizer", change("vocab.json", lambda v: v.update(high=5000)), "tokenizer has 5001 tokens"
    ),
    "no mask token": Case("slow tokenizer", change("vocab.json", lambda v: v.pop("<mask>")), "has no '<mask>'"),
    "a byte missing": Case(
        "slow tokenizer", change("vocab.json", lambda v: v.update(A2=v.pop("A"))), "lacks tokens for 1 of the 256"
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
        put("added_tokens.json", json.dumps({f"<{i}>": 300 + i for i in range(200_000)})),
        "the most that can be had",
    ),
    "special tokens that are a number": Case(
        "slow tokenizer", put("special_tokens_map.json", '{"additional_special_tokens": 3}'), "should be a list"
    ),
    "settings out of range": Case(
        "hf", put("pyroberta_preprocessor.json", '{"sequence_length": -1}'), "settings can't be used.*sequence_length"
    ),
    "settings that don't fit": Case(
        "hf", put("pyroberta_preprocessor.json", '{"sequence_length": 400}'), "sequence_length is 400"
    ),
    # --- torch's files
    "a pickle of Python's own": Case(
        "bin", lambda d: zip_of_pickle(d, pickle.dumps({"a": [Harmful()]}, 4)), "system.*could run code"
    ),
    "a bare pickle": Case(
        "bin", lambda d: (d / "pytorch_model.bin").write_bytes(pickle.dumps(Harmful(), 2)), "system|none of torch's"
    ),
    "a chain of reduces": Case(
        "bin", pickle_zip(b"}" + text("a") + CALLS["builtins.getattr"] + text(TOUCH) + b"\x85Rs"), "could run code"
    ),
    "a persistent id": Case("bin", pickle_zip(b"Pos.system\n"), "PERSID"),
    "a tensor of os.system": Case(
        "bin",
        pickle_zip(b"(" + text("storage") + name_of("os", "system") + text("0") + text("cpu") + number(1) + b"tQ"),
        "a tensor of os.system",
    ),
    "a storage that is no tuple": Case("bin", pickle_zip(number(3) + b"Q"), "doesn't fit together"),
    "tuples in tuples as a key": Case("bin", pickle_zip(TUPLES + b"}h\x3cNs"), "neither text nor number"),
    "tuples in tuples in a set": Case("bin", pickle_zip(TUPLES + b"\x8f(h\x3c\x90"), "neither text nor number"),
    "tuples in tuples to be called": Case("bin", pickle_zip(TUPLES + b")R"), "could run code"),
    "tuples in tuples as a storage": Case("bin", pickle_zip(TUPLES + b"Q"), "doesn't fit together|a tensor of"),
    "lists in lists for a state": Case("bin", pickle_zip(LISTS), "should hold a dict of tensors"),
    "a million lists": Case("bin", pickle_zip(b"]" * 3_000_000), "more than 500000 instructions"),
    "a huge pickle": Case("bin", pickle_zip(b"N" * 30_000_000), "more than the 10000000"),
    "a string that isn't there": Case("bin", pickle_zip(b"X\xff\xff\xff\x7f"), "is damaged"),
    "a pickle without end": Case("bin", lambda d: zip_of_pickle(d, b"\x80\x02]"), "is damaged"),
    "a memo that isn't there": Case("bin", pickle_zip(b"h\x07"), "doesn't fit together"),
    "a view of enormous size": Case(
        "bin", pickle_zip(state(a=tensor("0", (1 << 30,), strides=(0,)))), "no tensor|is damaged"
    ),
    "one number spread out": Case("bin", pickle_zip(state(a=spread("0", (1 << 30,), (0,)))), "no tensor"),
    "a view of a million axes": Case(
        "bin", pickle_zip(state(a=tensor("0", (1,) * 40_000, strides=(1,) * 40_000))), "no tensor"
    ),
    "a view beyond": Case("bin", pickle_zip(state(a=tensor("0", (6,), offset=1)), SIX), "reaches to number 6 of 6"),
    "a view backwards": Case("bin", pickle_zip(state(a=tensor("0", (6,), strides=(-1,))), SIX), "no tensor"),
    "many views of one": Case(
        "bin", lambda d: zipped(d / "pytorch_model.bin", *turned_views()), "packed in it takes more"
    ),
    "numbers missing": Case("bin", pickle_zip(ONE), "lacks archive/data/0"),
    "fewer numbers": Case("bin", pickle_zip(ONE, {"0": b"1234"}), "has 4 bytes, and its tensors take 24"),
    "a bomb of zeros": Case(
        "bin", pickle_zip(ONE, {"0": bytes(1 << 28)}, compression=zipfile.ZIP_DEFLATED), "its tensors take 24"
    ),
    "a bomb of the right size": Case(
        "bin",
        pickle_zip(state(a=tensor("0", (1 << 26,))), {"0": bytes(1 << 28)}, compression=zipfile.ZIP_DEFLATED),
        "packed in it takes more",
    ),
    "the other byte order": Case("bin", pickle_zip(ONE, SIX, byteorder=b"big"), "other byte order"),
    "half a zip": Case("bin", cut("pytorch_model.bin", 0.5), "neither a zip nor a pickle|damaged"),
    "a zip of nothing": Case("bin", lambda d: zipfile.ZipFile(d / "pytorch_model.bin", "w").close(), "none of torch's"),
    "the pickle a pipe": Case("bin", instead("pytorch_model.bin", os.mkfifo), "is a pipe"),
    "half an old file": Case("older", cut("pytorch_model.bin", 0.9), "cut short|damaged"),
    "an old file's other byte order": Case(
        "older", lambda d: older(d / "pytorch_model.bin", ONE, {}, little=False), "other byte order"
    ),
    "an old file's keys": Case(
        "older", lambda d: (d / "pytorch_model.bin").write_bytes(old_with_keys(LISTS)), "keys of its tensors"
    ),
    # --- KerasHub
    "keras: gemma": Case(
        "kerashub", values("config.json", registered_name="keras_hub>GemmaBackbone"), "'GemmaBackbone'"
    ),
    "keras: a causal LM": Case(
        "kerashub", values("config.json", registered_name="keras_hub>GemmaCausalLM"), "'GemmaCausalLM'"
    ),
    "keras: a name that is a list": Case("kerashub", values("config.json", registered_name=[["x"] * 999]), "this is a"),
    "keras: config a list": Case("kerashub", values("config.json", config=[]), "config should be an object"),
    "keras: quantised": Case(
        "kerashub",
        values("config.json", config={**fields(), "dtype": {"class_name": "QuantizedDTypePolicy"}}),
        "quantised",
    ),
    "keras: an enormous width": Case(
        "kerashub", values("config.json", config={**fields(), "hidden_dim": 2 * 10**12}), "doesn't fit config.json"
    ),
    "keras: no weights": Case("kerashub", lambda d: (d / kerashub.WEIGHTS).unlink(), "has neither model.weights.h5"),
    "keras: weights a pipe": Case("kerashub", instead(kerashub.WEIGHTS, os.mkfifo), "is a pipe"),
    "keras: weights a directory": Case("kerashub", instead(kerashub.WEIGHTS, Path.mkdir), "is a directory"),
    "keras: weights a pointer": Case("kerashub", put(kerashub.WEIGHTS, "version https://git-lfs"), "no HDF5 file"),
    "keras: half a file": Case("kerashub", cut(kerashub.WEIGHTS, 0.5), "damaged|cut short"),
    "keras: the head a pipe": Case("kerashub", instead(kerashub.HEAD, os.mkfifo), "is a pipe"),
    "keras: a soft link": Case("kerashub", set_link(h5py.SoftLink("/layers")), "is a link"),
    "keras: a cycle of soft links": Case("kerashub", set_link(h5py.SoftLink(f"/{NORM}")), "is a link"),
    "keras: an external link": Case("kerashub", set_link(h5py.ExternalLink("/etc/passwd", "/x")), "is a link"),
    "keras: groups in a circle": Case("kerashub", h5(self_links), "second name"),
    "keras: groups in groups": Case("kerashub", h5(deep_groups), "deep in each other"),
    "keras: external numbers": Case(
        "kerashub", dataset((8,), "f4", external=[("/etc/hostname", 0, 32)]), "lie in another file"
    ),
    "keras: a virtual dataset": Case("kerashub", h5(virtual), "lie in another file"),
    "keras: another shape": Case("kerashub", dataset(data=np.ones(9, "f4")), "has shape \\(9,\\)"),
    "keras: integers": Case("kerashub", dataset(data=np.ones(8, "i4")), "stored as I32"),
    "keras: objects": Case("kerashub", dataset(data=["x"] * 8, dtype=h5py.string_dtype()), "stored as object"),
    "keras: records": Case("kerashub", dataset((8,), np.dtype([("a", "f4")])), "stored as"),
    "keras: no shape": Case("kerashub", dataset(data=h5py.Empty("f4")), "no shape"),
    "keras: NaN": Case("kerashub", dataset(data=np.full(8, np.nan, "f4")), "aren't finite"),
    "keras: a bomb": Case(
        "kerashub",
        h5(lambda f: f.create_dataset("layers/bomb", (1 << 30,), "f4", chunks=True)),
        "packed in it takes more",
    ),
    "keras: a bomb of zeros": Case(
        "kerashub", dataset(data=np.zeros(1 << 25, "f4"), compression="gzip"), "packed in it takes more"
    ),
    "keras: a chunk that bursts": Case("kerashub", h5(overfull_chunk), "packed"),
    "keras: enormous chunks": Case(
        "kerashub", dataset((8,), "f4", maxshape=(None,), chunks=(1 << 29,)), "packed in it takes more"
    ),
    "keras: a tensor missing": Case("kerashub", h5(lambda f: f.pop(ROWS)), "lacks 1 of the"),
    "keras: a shard above": Case(
        "kerashub",
        lambda d: ((d / kerashub.WEIGHTS).unlink(), put(kerashub.INDEX, '{"weight_map": {"a": "../x.h5"}}')(d)),
        "plain name of a file beside",
    ),
    "keras: a shard that is a list": Case(
        "kerashub",
        lambda d: ((d / kerashub.WEIGHTS).unlink(), put(kerashub.INDEX, '{"weight_map": {"a": [[1]]}}')(d)),
        "isn't there",
    ),
    "keras: another tokenizer": Case(
        "kerashub",
        lambda d: (d / "tokenizer.json").write_text(json.dumps(serialized("XLMRobertaTokenizer", {}))),
        "'XLMRobertaTokenizer'",
    ),
    "keras: a vocabulary pipe": Case("kerashub", instead("assets/tokenizer/vocabulary.json", os.mkfifo), "is a pipe"),
    "keras: an id twice": Case(
        "kerashub", change("assets/tokenizer/vocabulary.json", lambda v: v.update(twice=7)), "have the same id 7"
    ),
}
for name, called in CALLS.items():
    body = b"}" + text("weight") + called + b"s"
    message = f"{name}.*could run code" if "." in name else "could run code"
    CASES[f"{name} in a zip"] = Case("bin", pickle_zip(body), message)
    CASES[f"{name} in an old file"] = Case("older", pickle_old(body), message)


def make(name: str, directory: Path) -> Path:
    """The bad preset of that name, in `directory`, which is made."""
    case = CASES[name]
    SOUND[case.kind](directory)
    case.spoil(directory)
    return directory
