"""Encoding speed: this tokenizer beside `tokenizers` on one thread; same vocabulary, same texts, same ids.

Prints millions of characters per second (the median of alternating runs) and their ratio, ours over theirs, for one
long string, for a loop over paragraphs and for a batch of them. Ids are compared before anything is timed.

    python benchmarks/tokenizer.py
    python benchmarks/tokenizer.py --text book.txt --vocabulary directory/of/a/tokenizer --runs 9
"""
# Not called tokenize.py: scripts beside it would then import it in place of the standard library's `tokenize`.

from __future__ import annotations

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import argparse
import copy
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import regex
import texts_at_hand
import tokenizers
from harness import write

from pyroberta.text.tokenizer import Tokenizer


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, help="a text file; English prose at hand in this Python otherwise")
    parser.add_argument("--size", type=int, default=5_000_000, help="characters to take of it (default: %(default)s)")
    parser.add_argument("--vocabulary", type=Path, help="a tokenizer's directory; one is trained on the text otherwise")
    parser.add_argument("--vocab-size", type=int, default=8000, help="of that training (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="of each, in turns (default: %(default)s)")
    parser.add_argument("--cold", action="store_true", help="a new tokenizer of ours, with no words cached, each run")
    parser.add_argument("--json", metavar="FILE", help="write the record there too")
    return parser.parse_args()


def medians(ours: Callable[[], Any], theirs: Callable[[], Any], runs: int) -> tuple[float, float]:
    """Median seconds of each, run in turns so that a slow moment of the machine meets both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for taken, run in zip(seconds, (ours, theirs), strict=True):
            started = time.perf_counter()
            run()
            taken.append(time.perf_counter() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def main() -> None:
    arguments = parsed_arguments()
    if arguments.text:
        text = arguments.text.read_text(encoding="utf-8")[: arguments.size]
    else:
        text = texts_at_hand.prose(arguments.size)
    if arguments.vocabulary:
        tokenizer = Tokenizer.load(arguments.vocabulary)
    else:
        tokenizer = Tokenizer.train([text], vocab_size=arguments.vocab_size)
    paragraphs = [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
    with tempfile.TemporaryDirectory() as directory:
        tokenizer.save(directory)
        peer = tokenizers.Tokenizer.from_file(str(Path(directory, "tokenizer.json")))

    def fresh() -> Tokenizer:
        return copy.deepcopy(tokenizer) if arguments.cold else tokenizer

    assert tokenizer.encode(text) == peer.encode(text).ids
    assert tokenizer.encode_batch(paragraphs) == [encoding.ids for encoding in peer.encode_batch(paragraphs)]
    rows: dict[str, tuple[Callable[[], Any], Callable[[], Any], int]] = {
        "one string, encode": (lambda: fresh().encode(text), lambda: peer.encode(text), len(text)),
        "paragraphs, a loop over encode": (
            lambda: [encode(paragraph) for encode in [fresh().encode] for paragraph in paragraphs],
            lambda: [peer.encode(paragraph).ids for paragraph in paragraphs],
            sum(map(len, paragraphs)),
        ),
        "paragraphs, encode_batch": (
            lambda: fresh().encode_batch(paragraphs),
            lambda: [encoding.ids for encoding in peer.encode_batch(paragraphs)],
            sum(map(len, paragraphs)),
        ),
        "paragraphs, encode_batch_fast (theirs without offsets)": (
            lambda: fresh().encode_batch(paragraphs),
            lambda: [encoding.ids for encoding in peer.encode_batch_fast(paragraphs)],
            sum(map(len, paragraphs)),
        ),
        "paragraphs, with offsets": (
            lambda: [encode(paragraph) for encode in [fresh().encode_with_offsets] for paragraph in paragraphs],
            lambda: [(encoding.ids, encoding.offsets) for encoding in peer.encode_batch(paragraphs)],
            sum(map(len, paragraphs)),
        ),
    }
    result: dict[str, Any] = {
        "python": platform.python_version(),
        "regex": regex.__version__,
        "tokenizers": tokenizers.__version__,
        "characters": len(text),
        "paragraphs": len(paragraphs),
        "vocabulary_size": tokenizer.vocabulary_size(),
        "runs": arguments.runs,
        "cold": arguments.cold,
        "rows": [],
    }
    for name, (ours, theirs, characters) in rows.items():
        our_seconds, their_seconds = medians(ours, theirs, arguments.runs)
        result["rows"].append(
            {
                "name": name,
                "ours_mchars_per_s": characters / our_seconds / 1e6,
                "theirs_mchars_per_s": characters / their_seconds / 1e6,
                "ratio": their_seconds / our_seconds,
            }
        )
    write(arguments.json, result)
    print(
        f"Python {result['python']}, regex {result['regex']}, tokenizers {result['tokenizers']} on one thread; "
        f"{len(text):,} characters in {len(paragraphs):,} paragraphs, {tokenizer.vocabulary_size():,} tokens; "
        f"medians of {arguments.runs}{', ours cold' if arguments.cold else ''}"
    )
    print(f"{'millions of characters per second':<56}{'ours':>8}{'theirs':>8}{'ratio':>8}")
    for row in result["rows"]:
        ours_rate, theirs_rate = row["ours_mchars_per_s"], row["theirs_mchars_per_s"]
        print(f"{row['name']:<56}{ours_rate:8.2f}{theirs_rate:8.2f}{row['ratio']:8.2f}")


if __name__ == "__main__":
    main()
