"""`pyroberta tokenize`: prints the tokens of texts, their ids, and the characters of each token."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from pyroberta.cli import options
from pyroberta.cli.texts import add_texts, given_texts, parts

SUMMARY = "the tokens of texts, their ids, and the characters that each is from"
EXAMPLES = (
    'pyroberta tokenize "Antidisestablishmentarianism is a word."',
    'pyroberta tokenize --model roberta_base_en "A fox." --json',
    "pyroberta tokenize --file texts.txt --json > tokens.jsonl",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_texts(parser)
    options.add_preset(parser)
    parser.add_argument(
        "--no-special-tokens", action="store_true", help="without the <s> and </s> that the model sees around a text"
    )


def run(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Runs the command. Yields a result for each text, with its tokens, ids and offsets."""
    from pyroberta.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_preset(arguments.model)
    for text in (text for some, _ in parts(arguments, given_texts(arguments, streams=True)) for text in some):
        ids, offsets = tokenizer.encode_with_offsets(text, add_special_tokens=not arguments.no_special_tokens)
        tokens = [tokenizer.decode([id]) for id in ids]
        if not arguments.json:
            print(f"{text}\n{'id':>7}  {'characters':<11}  token")
            for id, (start, stop), token in zip(ids, offsets, tokens, strict=True):
                print(f"{id:>7}  {f'{start}-{stop}':<11}  {token!r}")
        yield {"text": text, "tokens": tokens, "ids": ids, "offsets": offsets}
