"""KerasHub presets: JSON, HDF5 that leads elsewhere or unpacks without end, and the tokenizer's files."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from small_models import random_params
from small_presets import fields, preset, serialized

from bad_presets.spoiling import (
    CONFIG,
    Case,
    Sound,
    Spoil,
    change,
    cut,
    dead_links,
    empty,
    h5,
    instead,
    no_json,
    overwritten,
    put,
    values,
)
from pyroberta.presets import kerashub


def sound_kerashub(directory: Path) -> Path:
    return preset(directory, random_params(CONFIG, 0, np.float32))


SOUND = {"kerashub": Sound(sound_kerashub)}

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


def odd_floats(opened: Any) -> None:
    """With an exponent that NumPy's largest float has no room for."""
    kind = h5py.h5t.IEEE_F64LE.copy()
    kind.set_fields(63, 40, 23, 0, 40)
    del opened[NORM]
    h5py.h5d.create(opened.id, NORM.encode(), kind, h5py.h5s.create_simple((8,)))


def overfull_chunk(opened: Any) -> None:
    """A chunk of 32 bytes whose zipped stream holds two gigabytes: one megabyte again and again."""
    del opened[NORM]
    made = opened.create_dataset(NORM, (8,), "f4", chunks=(8,), compression="gzip")
    packer = zlib.compressobj()
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    made.id.write_direct_chunk((0,), head + 2048 * again)


def opaque(opened: Any) -> None:
    """Two bytes a number, and an attribute that should say which type, and is an array of texts."""
    del opened[NORM]
    made = opened.create_dataset(NORM, data=np.zeros(8, "V2"))
    made.attrs["dtype"] = np.full(5000, b"bfloat16")


def long_mark(opened: Any) -> None:
    del opened[NORM]
    made = opened.create_dataset(NORM, data=np.zeros(8, "V2"))
    made.attrs["dtype"] = np.bytes_(b"x" * 60_000)


def shared_type(opened: Any) -> None:
    """A type of many parts, which many datasets share."""
    opened["layers/type"] = np.dtype([(f"f{i:04}", "f4") for i in range(900)])
    for i in range(60):
        h5py.h5d.create(opened["layers"].id, f"{i}".encode(), opened["layers/type"].id, h5py.h5s.create_simple((1,)))


def many_groups(opened: Any) -> None:
    for i in range(12_000):
        opened.create_group(f"layers/{i}")


def half_written(opened: Any) -> None:
    del opened[NORM]
    opened.create_dataset(NORM, (8,), "f4", chunks=(4,), fillvalue=1.0)[:4] = 1.0


def said(file: str = "config.json", **changes: Any) -> Spoil:
    """Other settings in the config of a serialized object."""
    return change(file, lambda found: found["config"].update(changes))


def preprocessor(**changes: Any) -> Case:
    """With settings that can't be; the message should tell of the first."""
    (name, value), *_ = changes.items()
    return Case(
        "kerashub", said("preprocessor.json", **changes), f"settings can't be used: {name} must be .*got {value!r}"
    )


# What is wrong with the structure of an HDF5 file: of which part, how many bytes behind the part's beginning, the bytes
# there, and what libhdf5 says of it, in one version or another.
BEYOND, SUPERBLOCK, TREE, HEAP, TABLE = (1 << 40).to_bytes(8, "little"), b"\x89HDF", b"TREE", b"HEAP", b"SNOD"
ROOT = (136).to_bytes(8, "little")  # the address of its tree
STRUCTURE = {
    "no signature": (SUPERBLOCK, 0, b"\x88", "signature"),
    "a version that isn't": (SUPERBLOCK, 8, b"\x09", "bad superblock version"),
    "addresses of five bytes": (SUPERBLOCK, 13, b"\x05", "bad byte number in an address"),
    "lengths of three bytes": (SUPERBLOCK, 14, b"\x03", "bad byte number for object size"),
    "tables of no entry": (SUPERBLOCK, 16, b"\0\0", "symbol table leaf node"),
    "an end beyond its end": (SUPERBLOCK, 40, BEYOND, "truncated file"),
    "an end before its end": (SUPERBLOCK, 40, (4000).to_bytes(8, "little"), ""),
    "a root beyond its end": (SUPERBLOCK, 64, BEYOND, "address of object past end of allocation"),
    "a root of another kind": (SUPERBLOCK, 72, b"\x09", "unknown symbol table entry cache type"),
    "a root whose header is of another version": (SUPERBLOCK, 96, b"\x09", "bad object header version number"),
    "a root that is no group": (SUPERBLOCK, 96 + 16, b"\0", "not a group"),
    "a tree without signature": (TREE, 0, b"X", "the tree of the names in 'the root' should have a node at byte 136"),
    "a tree of another type": (TREE, 4, b"\x05", "incorrect B-tree node type"),
    "a tree of another level": (TREE, 5, b"\x01", "the tree of the names in 'the root' should have a node at byte"),
    "a tree in itself": (TREE, 5, b"\x01\x01\0" + bytes(24) + ROOT, "in 'the root' should have a node at byte 136"),
    "a tree of too many branches": (TREE, 6, b"\x0f\x27", "number of children is greater than maximum"),
    "a branch beyond its end": (TREE, 32, BEYOND, "addr overflow"),
    "a branch at the beginning": (TREE, 32, bytes(8), ""),
    "a heap without signature": (HEAP, 0, b"X", "bad local heap signature"),
    "a heap of another version": (HEAP, 4, b"\x07", "wrong version number in local heap"),
    "a heap of a terabyte": (HEAP, 8, BEYOND, ""),
    "a heap of nothing": (HEAP, 8, bytes(8), "bad heap free list"),
    "a heap whose free room is elsewhere": (HEAP, 16, BEYOND, "bad heap free list"),
    "a heap beyond its end": (HEAP, 24, BEYOND, "addr overflow"),
    "a table without signature": (TABLE, 0, b"X", "bad symbol table node signature"),
    "a table of another version": (TABLE, 4, b"\x07", "bad symbol table node version"),
    "a table of too many names": (TABLE, 6, b"\x63", ""),
    "a name beyond the heap": (TABLE, 8, BEYOND, "unable to offset into local heap data block"),
    "a name of nothing": (TABLE, 8, bytes(8), "invalid link name"),
    "a group beyond its end": (TABLE, 16, BEYOND, "the header of '.*' should lie at bytes 1099511627776 to"),
    "a group at the beginning": (TABLE, 16, bytes(8), ""),
    "a name of another kind": (TABLE, 24, b"\x09", "unknown symbol table entry cache type"),
}  # fmt: skip


def structure(kind: str, file: str, *names: str) -> dict[str, Case]:
    """Files whose structure is wrong in these ways, by default in all."""
    return {
        f"{kind}: {file} with {name}": Case(
            kind, overwritten(file, *change), f"{file} is damaged( or not an HDF5 file)?: .*{words}"
        )
        for name, (*change, words) in STRUCTURE.items()
        if name in names or not names
    }


def without_size(directory: Path) -> None:
    """The mark of bfloat16 is a text of no size in a heap, which libhdf5 would search forever."""
    h5(marked)(directory)
    overwritten(kerashub.WEIGHTS, b"GCOL", 24, b"\0")(directory)


def without_mark(directory: Path) -> None:
    """The heap has another text than the mark's."""
    h5(marked)(directory)
    overwritten(kerashub.WEIGHTS, b"GCOL", 16, b"\x02")(directory)


def marked(opened: Any) -> None:
    del opened[NORM]
    opened.create_dataset(NORM, data=np.zeros(8, "V2")).attrs["dtype"] = "bfloat16"


ROWS = "layers/token_and_position_embedding/token_embedding/vars/0"

CASES: dict[str, Case] = {
    **dead_links(
        "kerashub",
        "config.json",
        "task.json",
        "tokenizer.json",
        "preprocessor.json",
        kerashub.WEIGHTS,
        kerashub.HEAD,
        f"{kerashub.ASSETS}/vocabulary.json",
        f"{kerashub.ASSETS}/merges.txt",
    ),
    **{
        f"keras: {file} of no object of KerasHub's": Case(
            "kerashub",
            put(file, '{"class_name": 5}'),
            f"{file}: registered_name should be the name of a class of KerasHub's, it isn't there",
        )
        for file in ("task.json", "tokenizer.json", "preprocessor.json")
    },
    **{
        f"keras: {file} without a config": Case(
            "kerashub", change(file, lambda found: found.pop("config")), f"{file}: config should be an obj.*isn't there"
        )
        for file in ("config.json", "task.json", "tokenizer.json", "preprocessor.json")
    },
    "keras: a text for whether a space is put before": Case(
        "kerashub",
        change("tokenizer.json", lambda found: found["config"].update(add_prefix_space="no")),
        "tokenizer.json: add_prefix_space should be true or false, got 'no'",
    ),
    "keras: a text for whether a mask takes the space": Case(
        "kerashub",
        change("tokenizer.json", lambda found: found.update(pyroberta={"mask_lstrip": "no"})),
        "tokenizer.json: mask_lstrip should be true or false, got 'no'",
    ),
    **no_json(
        "kerashub",
        "config.json",
        "task.json",
        "tokenizer.json",
        "preprocessor.json",
        f"{kerashub.ASSETS}/vocabulary.json",
    ),
    **{
        f"keras: {key} a text": Case(
            "kerashub", said(**{key: "x"}), f"config.json: {key} should be a whole number, got 'x'"
        )
        for key in kerashub.FIELDS
    },
    **{
        f"keras: {key} below zero": Case(
            "kerashub", said(**{key: -1}), f"config.json: {key} should be at least 0, got -1"
        )
        for key in kerashub.FIELDS
    },
    **{
        f"keras: {key} of zero": Case(
            "kerashub", said(**{key: 0}), f"{key} must be a whole number of at least 1, got 0"
        )
        for key in kerashub.FIELDS
    },
    "keras: enormous layers": Case("kerashub", said(num_layers=1 << 31), "config.json: num_layers must be at most 340"),
    "keras: a rate that is a text": Case("kerashub", said(dropout="much"), "dropout should be a number, got 'much'"),
    "keras: a rate above one": Case("kerashub", said(dropout=8), r"config.json: dropout must be in \[0, 1\), got 8.0"),
    "keras: another package's backbone": Case(
        "kerashub",
        values("config.json", registered_name="mine>RobertaBackbone"),
        "this is a 'mine>RobertaBackbone'; pyroberta reads KerasHub's 'RobertaBackbone'",
    ),
    "keras: settings of one's own that are true": Case(
        "kerashub",
        values("preprocessor.json", pyroberta=True),
        "preprocessor.json: pyroberta should be an object, it is",
    ),
    "keras: a length that is a text": preprocessor(sequence_length="much"),
    "keras: a length of zero": preprocessor(sequence_length=0),
    "keras: no count of masks": preprocessor(mask_selection_length=None),
    "keras: a count of masks below zero": preprocessor(mask_selection_length=-1),
    "keras: a rate of masks of false": preprocessor(mask_selection_rate=False),
    "keras: a rate of masks below zero": preprocessor(mask_selection_rate=-1.0),
    "keras: gemma": Case(
        "kerashub", values("config.json", registered_name="keras_hub>GemmaBackbone"), "'GemmaBackbone'"
    ),
    "keras: a causal LM": Case(
        "kerashub", values("config.json", registered_name="keras_hub>GemmaCausalLM"), "'GemmaCausalLM'"
    ),
    "keras: a name that is a list": Case(
        "kerashub", values("config.json", registered_name=[["x"] * 999]), "should be the name"
    ),
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
    "keras: weights a pointer": Case("kerashub", put(kerashub.WEIGHTS, "version https://git-lfs"), "not an HDF5 file"),
    **empty("kerashub", kerashub.WEIGHTS, kerashub.HEAD),
    **structure("kerashub", kerashub.WEIGHTS, "no signature", "a tree without signature", "a group beyond its end"),
    **structure(
        "kerashub", kerashub.HEAD, "a heap without signature", "a name beyond the heap", "a group beyond its end"
    ),
    "keras: half a file": Case("kerashub", cut(kerashub.WEIGHTS, 0.5), "damaged|cut short"),
    "keras: the head a pipe": Case("kerashub", instead(kerashub.HEAD, os.mkfifo), "is a pipe"),
    "keras: a soft link": Case("kerashub", set_link(h5py.SoftLink("/layers")), "is a link"),
    "keras: a cycle of soft links": Case("kerashub", set_link(h5py.SoftLink(f"/{NORM}")), "is a link"),
    "keras: an external link": Case("kerashub", set_link(h5py.ExternalLink("/etc/passwd", "/x")), "is a link"),
    "keras: groups in a circle": Case("kerashub", h5(self_links), "second name"),
    "keras: groups in groups": Case("kerashub", h5(deep_groups), r"groups are nested \d+ deep"),
    "keras: external numbers": Case(
        "kerashub", dataset((8,), "f4", external=[("/etc/hostname", 0, 32)]), "are in another file"
    ),
    "keras: a virtual dataset": Case("kerashub", h5(virtual), "are in another file"),
    "keras: another shape": Case("kerashub", dataset(data=np.ones(9, "f4")), "has shape \\(9,\\)"),
    "keras: integers": Case("kerashub", dataset(data=np.ones(8, "i4")), "stored as I32"),
    "keras: objects": Case("kerashub", dataset(data=["x"] * 8, dtype=h5py.string_dtype()), "stored as texts"),
    "keras: records": Case("kerashub", dataset((8,), np.dtype([("a", "f4")])), "stored as records"),
    "keras: floats of an odd build": Case("kerashub", h5(odd_floats), "model.weights.h5 is damaged: .*precision"),
    "keras: no shape": Case("kerashub", dataset(data=h5py.Empty("f4")), "no shape"),
    "keras: NaN": Case("kerashub", dataset(data=np.full(8, np.nan, "f4")), "aren't finite"),
    "keras: a bomb": Case(
        "kerashub",
        h5(lambda f: f.create_dataset("layers/bomb", (1 << 30,), "f4", chunks=True)),
        "does not have: layers/bomb",
    ),
    "keras: a bomb of zeros": Case(
        "kerashub", dataset(data=np.zeros(1 << 22, "f4"), compression="gzip"), r"has shape \(4194304,\)"
    ),
    "keras: a chunk that bursts": Case("kerashub", h5(overfull_chunk), "has more than 32 bytes when decompressed"),
    "keras: enormous chunks": Case(
        "kerashub",
        dataset((8,), "f4", maxshape=(None,), chunks=(1 << 29,)),
        "4294967296 bytes are needed for .* in 1 chunks",
    ),
    "keras: ten gigabytes that were never written": Case(
        "kerashub", h5(lambda f: f.create_dataset("layers/x", (10 << 30,), "i1")), "does not have: layers/x"
    ),
    "keras: ten gigabytes for a norm": Case("kerashub", dataset((10 << 28,), "f4"), r"has shape \(2684354560,\)"),
    "keras: a norm that was never written": Case(
        "kerashub", dataset((8,), "f4"), r"vars/0' should have 32 bytes, but has 0 of them: it was never written"
    ),
    "keras: chunks that were never written": Case(
        "kerashub", dataset((8,), "f4", chunks=(8,), fillvalue=1.0), "should have 1 chunks, but only 0 of them were"
    ),
    "keras: half of the chunks": Case("kerashub", h5(half_written), "should have 2 chunks, but only 1 of them were"),
    "keras: chunks of no bytes": Case(
        "kerashub", dataset((1 << 40,), "f4", chunks=(1,)), r"has shape \(1099511627776,\), expected \(8,\)"
    ),
    "keras: texts without end": Case(
        "kerashub", dataset((1 << 40,), h5py.string_dtype()), r"has shape \(1099511627776,\), expected \(8,\)"
    ),
    "keras: an attribute of texts": Case("kerashub", h5(opaque), "is stored as opaque bytes"),
    "keras: a mark of no size": Case("kerashub", without_size, "is stored as opaque bytes"),
    "keras: a mark that isn't there": Case(
        "kerashub", without_mark, "damaged: a heap of texts at byte .* has no text 1"
    ),
    "keras: a long attribute": Case("kerashub", h5(long_mark), "is stored as opaque bytes"),
    "keras: a type that is shared": Case("kerashub", h5(shared_type), "layers/0' shares its type with other datasets"),
    "keras: groups without end": Case(
        "kerashub", h5(many_groups), r"1200\d steps are needed for the group 'layers', but"
    ),
    "keras: merges without end": Case(
        "kerashub",
        put("assets/tokenizer/merges.txt", "a b\n" * 20_000),
        "merges.txt: 40000 steps are needed for a list of 20000 merges for",
    ),
    "keras: merges not UTF-8": Case(
        "kerashub", put(f"{kerashub.ASSETS}/merges.txt", b"\xee \xee\n"), "merges.txt' is not UTF-8: .* byte 0xee"
    ),
    "keras: a merge twice": Case(
        "kerashub", put(f"{kerashub.ASSETS}/merges.txt", "h e\nh e\n"), "merge 1, 'h' \\+ 'e', is merge 0 again"
    ),
    "keras: an id that is a list": Case(
        "kerashub",
        change(f"{kerashub.ASSETS}/vocabulary.json", lambda v: v.update(a=[7])),
        r"of token 'a' must.*got \[7",
    ),
    "keras: no padding token": Case(
        "kerashub", change(f"{kerashub.ASSETS}/vocabulary.json", lambda v: v.pop("<pad>")), "has no '<pad>' .pad_token"
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
