"""`pyroberta train-tokenizer`: learns a byte-level BPE vocabulary from text files."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pyroberta.cli import options
from pyroberta.cli.exit_codes import UsageError
from pyroberta.cli.places import check_distinct, check_places
from pyroberta.cli.texts import add_columns, source_of

SUMMARY = "learn a byte-level BPE vocabulary from text files"
EXAMPLES = ("pyroberta train-tokenizer texts.txt -o vocabulary --vocab-size 4000",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="text files, one text a line, or tables; or -")
    add_columns(parser)
    parser.add_argument(
        "-o", "--output", type=options.place, required=True, metavar="DIR", help="where to save the vocabulary"
    )
    options.add_overwrite(parser, "a vocabulary")
    parser.add_argument(
        "--vocab-size", type=entries, metavar="N", default=8000, help="entries, specials and bytes included"
    )
    parser.add_argument(
        "--min-frequency", type=options.positive, metavar="N", default=2,
        help="how often a pair must occur to be merged",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the command. The result has the directory and the size of the vocabulary."""
    from pyroberta.formats.atomic import check_place
    from pyroberta.text.tokenizer import Tokenizer

    if arguments.files.count("-") > 1:
        raise UsageError("- is standard input, which can be read once: give it once")
    check_distinct(arguments.files, arguments.kind)
    check_places([("FILE", file) for file in arguments.files], [("--output", arguments.output)])
    options.check_free(arguments, arguments.output, ("config.json", "tokenizer.json", "vocab.json"))
    check_place(Path(arguments.output) / "vocab.json")
    texts = (line for file in arguments.files for line in _segments(source_of(arguments, file).texts))
    tokenizer = Tokenizer.train(texts, vocab_size=arguments.vocab_size, min_frequency=arguments.min_frequency)
    tokenizer.save(arguments.output)
    if not arguments.json:
        print(f"saved {tokenizer.vocabulary_size()} entries to {arguments.output}")
    return {"saved": arguments.output, "vocabulary_size": tokenizer.vocabulary_size()}


def _segments(texts: Iterable[str | tuple[str, ...]]) -> Iterator[str]:
    """The texts, those of pairs one by one."""
    for text in texts:
        yield from (text,) if isinstance(text, str) else text


def entries(text: str) -> int:
    """Returns the size of a vocabulary, in which the special tokens and the bytes have room."""
    from pyroberta.text.bpe_training import SPECIAL_TOKENS

    smallest = len(SPECIAL_TOKENS) + 256
    count = options.positive(text)
    if count < smallest:
        raise argparse.ArgumentTypeError(f"must be at least {smallest} (special tokens and 256 bytes), got {text!r}")
    return count
