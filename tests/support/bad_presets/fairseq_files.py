"""fairseq checkpoints: model.pt with its arguments and tensors, dict.txt, the merges, encoder.json."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from small_fairseq import (
    ARGUMENTS,
    CONFIG,
    MERGES,
    NUMBERS,
    SYMBOLS,
    as_published,
    checkpoint,
    namespace,
    plain,
    preset,
    tensors,
)
from small_models import random_params
from small_pickles import name_of, older, tensor, text, zipped

from bad_presets.spoiling import CALLS, Case, Sound, Spoil, cut, doubled, empty, instead, no_json, put
from pyroberta.presets.fairseq_vocabulary import gpt2_tokens

TOKENS = gpt2_tokens(MERGES)
Tensors = dict[str, np.ndarray]


def found_tensors() -> Tensors:
    return tensors(random_params(CONFIG, 0, np.float32))


def sound_zip(directory: Path) -> Path:
    """As the versions from 0.10 on, with GPT-2's numbers, and what each means."""
    preset(directory, found_tensors())
    (directory / "encoder.json").write_text(json.dumps({token: i for i, token in enumerate(TOKENS)}))
    return directory


def sound_older(directory: Path) -> Path:
    """As the first versions, with tokens as text."""
    preset(directory, as_published(found_tensors()), "older")
    (directory / "vocab.bpe").rename(directory / "merges.txt")
    symbols = [*(TOKENS[number] for number in NUMBERS), SYMBOLS[-1]]
    (directory / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols))
    return directory


SOUND = {"fairseq": Sound(sound_zip), "fairseq older": Sound(sound_older)}


def arguments(**changes: Any) -> Spoil:
    """Other arguments in the Namespace, a pickle's instructions or plain values."""

    def spoil(directory: Path) -> None:
        raw = {key: value for key, value in changes.items() if isinstance(value, bytes)}
        body = plain({key: value for key, value in (ARGUMENTS | changes).items() if key not in raw})
        body += b"(" + b"".join(text(key) + value for key, value in raw.items()) + b"u"
        made = name_of("argparse", "Namespace") + b")\x81" + body + b"b"
        checkpoint(directory / "model.pt", found_tensors(), args=made)

    return spoil


def parts(**made: bytes) -> Spoil:
    return lambda d: checkpoint(d / "model.pt", found_tensors(), **made)


def state(how: Callable[[Tensors], Any]) -> Spoil:
    def spoil(directory: Path) -> None:
        found = found_tensors()
        how(found)
        checkpoint(directory / "model.pt", found, args=namespace(ARGUMENTS))

    return spoil


def old_state(how: Callable[[Tensors], Any]) -> Spoil:
    def spoil(directory: Path) -> None:
        found = as_published(found_tensors())
        how(found)
        checkpoint(directory / "model.pt", found, "older", args=namespace(ARGUMENTS))

    return spoil


def body(content: bytes, data: dict[str, bytes] | None = None, **how: Any) -> Spoil:
    """Another pickle in the zip."""
    return lambda d: zipped(d / "model.pt", content, data or {}, **how)


def model_of(content: bytes) -> bytes:
    """A checkpoint's pickle, with a state of these instructions."""
    return b"}(" + text("args") + namespace(ARGUMENTS) + text("model") + content + b"u"


def lines(how: Callable[[list[str]], Any]) -> Spoil:
    """Other lines in dict.txt."""

    def spoil(directory: Path) -> None:
        found = (directory / "dict.txt").read_text().splitlines()
        how(found)
        (directory / "dict.txt").write_text("".join(f"{line}\n" for line in found))

    return spoil


def many_entries(directory: Path) -> None:
    """A zip whose directory has one entry half a million times."""
    zipped(directory / "model.pt", b"]", {})
    content = (directory / "model.pt").read_bytes()
    start, (size,) = content.index(b"PK\x01\x02"), struct.unpack("<I", content[-10:-6])
    listed = content[start : start + size] * 500_000
    end = content[-22:-10] + struct.pack("<I", len(listed)) + content[-6:]
    (directory / "model.pt").write_bytes(content[:start] + listed + end)


FC1 = "encoder.sentence_encoder.layers.0.fc1.weight"
IN_PROJ = "decoder.sentence_encoder.layers.1.self_attn.in_proj_weight"
TOKEN = "encoder.sentence_encoder.embed_tokens.weight"
TUPLES = b"(" + doubled(b"N\x85", b"\x86") + b"1h\x3c"
ONE = tensor("0", (6,))
TABLE = tensor("k0", (CONFIG.vocabulary_size, 8))  # the same numbers as the token embedding's
LONG = b"\x8b" + (100_000).to_bytes(4, "little") + b"\x7f" * 100_000  # LONG4: a number of 240,000 digits

CASES: dict[str, Case] = {
    # --- model.pt as a file
    "fairseq: no model.pt": Case("fairseq", lambda d: (d / "model.pt").unlink(), "neither config.json nor model.pt"),
    "fairseq: model.pt a pipe": Case("fairseq", instead("model.pt", os.mkfifo), "model.pt is a pipe"),
    "fairseq: model.pt a directory": Case("fairseq", instead("model.pt", Path.mkdir), "model.pt is a directory"),
    "fairseq: model.pt a page": Case("fairseq", put("model.pt", "<html></html>"), "neither a zip nor a pickle"),
    **empty("fairseq", "model.pt"),
    "fairseq: half a zip": Case("fairseq", cut("model.pt", 0.6), "model.pt is not a file of torch: it is neither"),
    "fairseq: half an old file": Case("fairseq older", cut("model.pt", 0.6), "model.pt is cut short: it has"),
    "fairseq: a zip of many entries": Case("fairseq", many_entries, "model.pt.*directory of the zip"),
    "fairseq: a bomb": Case(
        "fairseq",
        body(
            model_of(b"}" + text("a") + tensor("0", (1 << 23,)) + b"s"),
            {"0": bytes(1 << 25)},
            compression=zipfile.ZIP_DEFLATED,
        ),
        "has no token embedding",
    ),
    "fairseq: a bomb for a pickle": Case(
        "fairseq",
        lambda d: zipped(d / "model.pt", b"N" * (1 << 25), {}, zipfile.ZIP_DEFLATED),
        r"data\.pkl has \d+ bytes, but at most",
    ),
    "fairseq: numbers at a path above": Case(
        "fairseq",
        body(model_of(b"}" + text("a") + tensor("../../../../etc/passwd", (6,)) + b"s")),
        r"lacks archive/data/\.\./\.\./\.\./\.\./etc/passwd",
    ),
    "fairseq: an entry at the root": Case(
        "fairseq",
        lambda d: zipped(
            d / "model.pt", model_of(b"}" + text("a") + tensor("/etc/passwd", (6,)) + b"s"), {"/etc/passwd": b"123"}
        ),
        "data//etc/passwd has 3 bytes, but its tensors take 24",
    ),
    # --- what runs
    "fairseq: a chain of reduces in the arguments": Case(
        "fairseq",
        arguments(activation_fn=CALLS["builtins.getattr"] + text("touch x") + b"\x85R"),
        "builtins.getattr.*could run code",
    ),
    "fairseq: eval for the state of a Namespace": Case(
        "fairseq",
        parts(args=name_of("argparse", "Namespace") + b")\x81" + CALLS["builtins.eval"] + b"b"),
        "builtins.eval.*could run code",
    ),
    "fairseq: a Namespace that calls its argument": Case(
        "fairseq",
        parts(args=name_of("argparse", "Namespace") + CALLS["os.system"] + b"\x85R"),
        "os.system.*could run code",
    ),
    "fairseq: another class's Namespace": Case(
        "fairseq", parts(args=name_of("types", "SimpleNamespace") + b")\x81"), "types.SimpleNamespace.*could run code"
    ),
    "fairseq: a reconstructor of os.system": Case(
        "fairseq",
        parts(args=name_of("copy_reg", "_reconstructor") + name_of("os", "system") + name_of("os", "x") + b"N\x87R"),
        "os.system.*could run code",
    ),
    "fairseq: os.system beside the tensors": Case(
        "fairseq", body(model_of(b"}" + text("a") + CALLS["os.system"] + b"s")), "os.system.*could run code"
    ),
    "fairseq: posix.system in an old file": Case(
        "fairseq older",
        lambda d: older(d / "model.pt", b"}" + text("args") + CALLS["posix.system"] + b"s", {}),
        "posix.system.*could run code",
    ),
    "fairseq: omegaconf's own": Case(
        "fairseq", parts(cfg=name_of("omegaconf.dictconfig", "DictConfig") + b")\x81"), "omegaconf.dictconfig.DictConf"
    ),
    # --- what it says of the model
    "fairseq: a list": Case("fairseq", body(b"]"), "should hold a dict with the key 'model'"),
    "fairseq: a state that is a tensor": Case(
        "fairseq", body(model_of(ONE), {"0": bytes(24)}), "should hold a dict with the key 'model'"
    ),
    "fairseq: no arguments": Case("fairseq", parts(), "does not name its architecture"),
    "fairseq: arguments that are a list": Case("fairseq", parts(args=plain([1])), "args should be"),
    "fairseq: a cfg that is a list": Case("fairseq", parts(args=b"N", cfg=plain([1])), "cfg should be"),
    "fairseq: another architecture": Case(
        "fairseq", arguments(arch="transformer_wmt_en_de"), "this is a 'transformer_wmt_en_de' model"
    ),
    "fairseq: tuples in tuples for an architecture": Case(
        "fairseq", arguments(arch=TUPLES), r"this is a \(\(\(.* model; pyr"
    ),
    "fairseq: a tensor for an architecture": Case(
        "fairseq", arguments(arch=TABLE), r"this is a Stored\(.* model; pyro"
    ),
    "fairseq: tuples in tuples for an activation": Case(
        "fairseq", arguments(activation_fn=TUPLES), "activation_fn is .*only 'gelu'"
    ),
    "fairseq: layer norms before the blocks": Case(
        "fairseq", arguments(encoder_normalize_before=True), "encoder_normalize_before is True, only False"
    ),
    "fairseq: a number without end": Case("fairseq", arguments(encoder_layers=LONG), "a number of 799999 bits"),
    "fairseq: a number without end for a key": Case(
        "fairseq", body(model_of(b"}" + LONG + ONE + b"s"), {"0": bytes(24)}), "a number of 799999 bits"
    ),
    "fairseq: a text for a size": Case(
        "fairseq", arguments(encoder_embed_dim="8"), "encoder_embed_dim should be a whole number, got '8'"
    ),
    "fairseq: heads that don't divide the width": Case(
        "fairseq", arguments(encoder_attention_heads=3), "model.pt: hidden_dim 8 is not a multiple of num_heads 3"
    ),
    "fairseq: an argument that holds itself": Case(
        "fairseq", arguments(encoder_layers=b"]q\x20h\x20a"), r"encoder_layers should be a whole number, got \[\[\["
    ),
    "fairseq: enormous layers": Case("fairseq", arguments(encoder_layers=10**9), "num_layers must be at most"),
    "fairseq: enormous positions": Case(
        "fairseq", arguments(max_positions=10**18), r"embed_positions\.weight has shape \(42, 8\), expected \(1000"
    ),
    "fairseq: a rate that is NaN": Case(
        "fairseq", arguments(dropout=float("nan")), r"dropout must be in \[0, 1\), got nan"
    ),
    "fairseq: another width": Case("fairseq", arguments(encoder_embed_dim=6), r"expected \(.*, 6\)"),
    # --- tensors
    "fairseq: no token embedding": Case("fairseq", state(lambda t: t.pop(TOKEN)), "has no token embedding"),
    "fairseq: a token embedding of one axis": Case(
        "fairseq", state(lambda t: t.update({TOKEN: np.zeros(9, "f4")})), "has no token embedding"
    ),
    "fairseq: a tensor missing": Case("fairseq", state(lambda t: t.pop(FC1)), f"lacks 1 of .* arguments.*{FC1}"),
    "fairseq: a tensor more": Case(
        "fairseq", state(lambda t: t.update({"encoder.x": np.zeros(3, "f4")})), "does not have: encoder.x"
    ),
    "fairseq: NaN": Case("fairseq", state(lambda t: t[FC1].__setitem__((3, 4), np.nan)), r"the first nan at \(4, 3\)"),
    "fairseq: integers": Case(
        "fairseq", state(lambda t: t.update({FC1: np.ones((12, 8), "i8")})), "fc1.weight' is stored as I64"
    ),
    "fairseq: a name that is a number": Case(
        "fairseq",
        body(model_of(b"}K\x07" + ONE + b"s"), {"0": bytes(24)}),
        "each by its name, but 7 has a Stored",
    ),
    "fairseq: a tensor that is a tuple": Case(
        "fairseq", body(model_of(b"}" + text("a") + TUPLES + b"s")), "should hold only tensors.* but 'a' has a tuple"
    ),
    "fairseq: a state in itself": Case(
        "fairseq", body(model_of(b"}q\x20" + text("a") + b"h\x20s")), "should hold only tensors.* but 'a' has a dict"
    ),
    "fairseq: thirds that are none": Case(
        "fairseq older",
        old_state(lambda t: t.update({IN_PROJ: np.ones((25, 8), "f4")})),
        r"in_proj_weight' has shape \(25, 8\), expected a number of rows",
    ),
    "fairseq: a parameter under both names": Case(
        "fairseq older", old_state(lambda t: t.update({FC1: np.ones((12, 8), "f4")})), "are the same parameter"
    ),
    "fairseq: an output matrix of its own": Case(
        "fairseq",
        state(lambda t: t.update({"encoder.lm_head.weight": np.ones((9, 8), "f4")})),
        "lm_head.weight' differs from .*untie_weights_roberta",
    ),
    # --- dict.txt and what is beside it
    **no_json("fairseq", "encoder.json"),
    "fairseq: merges not UTF-8": Case(
        "fairseq", put("vocab.bpe", b"#version: 0.2\n\xb0 a\n"), "vocab.bpe' is not UTF-8: .* byte 0xb0"
    ),
    "fairseq: merges of half a character": Case(
        "fairseq older", put("merges.txt", b"#version: 0.2\n\xc4"), "merges.txt' is not UTF-8: .* byte 0xc4"
    ),
    "fairseq: no dict.txt": Case("fairseq", lambda d: (d / "dict.txt").unlink(), "has no dict.txt"),
    "fairseq: dict.txt a pipe": Case("fairseq", instead("dict.txt", os.mkfifo), "dict.txt is a pipe"),
    "fairseq: dict.txt not UTF-8": Case("fairseq", put("dict.txt", b"\xff 1\n"), "dict.txt is not UTF-8"),
    "fairseq: dict.txt huge": Case(
        "fairseq", lambda d: os.truncate(d / "dict.txt", 1 << 33), "dict.txt has more than 20000000 bytes"
    ),
    "fairseq: a dict.txt of two million symbols": Case(
        "fairseq",
        put("dict.txt", lambda: "".join(f"{i} 1\n" for i in range(2_000_000))),
        "dict.txt has 2000000 lines, but the m",
    ),
    "fairseq: dict.txt empty": Case("fairseq", put("dict.txt", ""), "line 1: expected a symbol and its count, got ''"),
    "fairseq: a line without a count": Case(
        "fairseq", lines(lambda found: found.__setitem__(4, "13")), "line 5: expected a symbol and its count, got '13'"
    ),
    "fairseq: a symbol twice": Case(
        "fairseq", lines(lambda found: found.__setitem__(4, found[2])), "line 5: the symbol .* occurs twice.*line 3"
    ),
    "fairseq: a long symbol twice": Case(
        "fairseq", put("dict.txt", 2 * ("x" * 3_000_000 + " 1\n")), "line 2: the symbol 'xxx.*occurs twice"
    ),
    "fairseq: a special token again": Case(
        "fairseq", lines(lambda found: found.__setitem__(4, "<pad> 1")), "'<pad>' occurs twice.*a special token's"
    ),
    "fairseq: a number that spells another's token": Case(
        "fairseq",
        lines(lambda found: found.__setitem__(4, "00" + found[2])),
        "line 5: '00.*' stands for .*, as line 3 does already",
    ),
    "fairseq: a number of no token": Case(
        "fairseq", lines(lambda found: found.__setitem__(4, "999999 1")), "line 5: 999999 is not one of the"
    ),
    "fairseq: a number of many digits": Case(
        "fairseq", lines(lambda found: found.__setitem__(4, "9" * 5000 + " 1")), "line 5: 9{40} is not one of the"
    ),
    "fairseq: a symbol more": Case(
        "fairseq",
        lines(lambda found: found.append("madeupword0001 1")),
        f"a vocabulary of {CONFIG.vocabulary_size + 1}, but the model's token embedding has",
    ),
    "fairseq: a symbol too few": Case(
        "fairseq",
        lines(lambda found: found.pop()),
        f"a vocabulary of {CONFIG.vocabulary_size - 1}, but the model's token embedding has",
    ),
    "fairseq: SentencePiece": Case(
        "fairseq older",
        lambda d: ((d / "merges.txt").unlink(), put("dict.txt", "▁the 1\n")(d)),
        "a SentencePiece vocabulary, with '▁the'",
    ),
    "fairseq: tokens without merges": Case(
        "fairseq older", lambda d: (d / "merges.txt").unlink(), "tokens as text.* vocab.bpe or merges.txt"
    ),
    "fairseq: merges that make no token": Case(
        "fairseq older", put("merges.txt", "x y\n"), "dict.txt does not fit the merges: .*needs the token 'xy'"
    ),
    "fairseq: numbers of other merges": Case(
        "fairseq",
        lambda d: ((d / "vocab.bpe").unlink(), (d / "encoder.json").unlink()),
        "does not fit the merges: .*needs the token",
    ),
    "fairseq: merges a pipe": Case("fairseq", instead("vocab.bpe", os.mkfifo), "vocab.bpe is a pipe"),
    "fairseq: merges of three": Case("fairseq", put("vocab.bpe", "a b c\n"), "line 1 of .*vocab.bpe' must be a merge"),
    "fairseq: encoder.json a pipe": Case("fairseq", instead("encoder.json", os.mkfifo), "encoder.json is a pipe"),
    "fairseq: encoder.json with a key twice": Case(
        "fairseq", put("encoder.json", '{"a": 1, "a": 2}'), "encoder.json isn't valid JSON: it has the key 'a' twice"
    ),
    "fairseq: encoder.json deep": Case(
        "fairseq",
        put("encoder.json", '{"a":' * 100 + "1" + "}" * 100),
        "encoder.json has containers nested more than 32",
    ),
    "fairseq: a number twice in encoder.json": Case(
        "fairseq", put("encoder.json", '{"a": 0, "b": 0}'), "should give 2 tokens the numbers 0 to 1, each once"
    ),
    "fairseq: a special token's text in encoder.json": Case(
        "fairseq",
        put("encoder.json", json.dumps({("<s>" if i == 7 else token): i for i, token in enumerate(TOKENS)})),
        "stands for '<s>', as a special token does already",
    ),
}
