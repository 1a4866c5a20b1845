"""`pyroberta score`: computes the pseudo-log-likelihood of each given text."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from pyroberta.cli import options
from pyroberta.cli.texts import add_texts, answers, given_texts

RULES = ("original", "within_word_l2r")
SUMMARY = "how likely each token of a text is, given the others"
EXAMPLES = (
    'pyroberta score "I have a dream." "I has a dream."',
    "pyroberta score --file texts.txt --json > scores.jsonl",
    'pyroberta score "A souvenir." --rule within_word_l2r',
    "sort texts.txt | pyroberta score - --long-texts split",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_texts(parser)
    options.add_model(parser)
    parser.add_argument("--batch-size", type=options.positive, metavar="N", help="masked copies in a batch at most")
    parser.add_argument(
        "--rule", metavar="NAME", choices=RULES, default="original",
        help="what is masked for a token: original, it alone; within_word_l2r, the later ones of its word, too",
    )  # fmt: skip
    options.add_long_texts(parser, "refuse")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Runs the command. Yields a result for each text, with its score."""
    source, model = given_texts(arguments, streams=True), options.load_model(arguments)
    how = {"rule": arguments.rule, "batch_size": arguments.batch_size}
    for text, score in answers(arguments, model, "score", source, **how):
        if not arguments.json:
            print(f"{score.total:10.3f}  perplexity {score.perplexity:<10.4g}  {text}")
        yield {"text": text, **score.as_dict()}
