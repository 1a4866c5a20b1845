"""`pyroberta evaluate`: computes the metrics of a model on a text file."""

from __future__ import annotations

import argparse

from pyroberta.cli import options
from pyroberta.cli.streams import figures
from pyroberta.cli.texts import add_source, placed, source_of

SUMMARY = "loss, accuracy and perplexity on a text file, from fixed masks"
EXAMPLES = (
    "pyroberta evaluate texts.txt --model my_model",
    "pyroberta evaluate reviews.jsonl --column text --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_source(parser)
    options.add_model(parser)
    parser.add_argument("--batch-size", type=options.positive, metavar="N", default=16, help="texts in a step")
    options.add_long_texts(parser, "split")
    options.add_full_sentences(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> dict[str, float]:
    """Runs the command. The result has each metric by its name."""
    source = source_of(arguments, arguments.texts)
    values: dict[str, float] = options.load_model(arguments).evaluate(
        placed(source),
        batch_size=arguments.batch_size,
        long_texts=arguments.long_texts,
        full_sentences=arguments.full_sentences,
        verbose=0 if arguments.quiet else 1,
        return_dict=True,
    )
    if not arguments.json:
        print(figures(values))
    return values
