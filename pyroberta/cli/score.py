"""`pyroberta score`: computes the pseudo-log-likelihood of each given text."""

from __future__ import annotations

import argparse
from typing import Any

from pyroberta.cli import options
from pyroberta.cli.streams import given_texts

SUMMARY = "how likely each token of a text is, given the others"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts; none, or -, reads standard input, one a line")
    options.add_model(parser)
    parser.add_argument("--batch-size", type=options.positive, metavar="N", help="masked copies in a batch at most")
    options.add_long_texts(parser, "refuse")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs the command. The result has each text and its score."""
    texts, model = given_texts(arguments), options.load_model(arguments)
    found = model.score(
        texts,
        long_texts=arguments.long_texts,
        batch_size=arguments.batch_size,
        verbose=0 if arguments.quiet else "auto",
    )
    if not arguments.json:
        for text, score in zip(texts, found, strict=True):
            print(f"{score.total:10.3f}  perplexity {score.perplexity:<10.4g}  {text}")
    return [{"text": text, **score.as_dict()} for text, score in zip(texts, found, strict=True)]
