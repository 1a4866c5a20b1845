"""`pyroberta fill-mask`: finds the most likely tokens for every `<mask>` of the given texts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from pyroberta.cli import options
from pyroberta.cli.texts import add_texts, answers, given_texts
from pyroberta.text.long_texts import LONG_TEXTS

SUMMARY = "the most likely words for every <mask>"
EXAMPLES = (
    'pyroberta fill-mask "We the people of the United <mask>."',
    'pyroberta fill-mask "The <mask> is open." --targets door,window,book',
    "pyroberta fill-mask --file masked.txt --top-k 3 --json > answers.jsonl",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_texts(parser, "texts with <mask>")
    options.add_model(parser)
    parser.add_argument("-k", "--top-k", type=options.positive, metavar="N", default=5, help="candidates for each mask")
    parser.add_argument("--targets", type=options.words, metavar="WORD,WORD", help="rank these words alone")
    # Each mask has one result, so a text is never split.
    options.add_long_texts(parser, "refuse", [how for how in LONG_TEXTS if how != "split"])
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Runs the command. Yields a result for each text, with the candidates for each of its masks."""
    source, model = given_texts(arguments, streams=True), options.load_model(arguments)
    how = {"top_k": arguments.top_k, "targets": arguments.targets}
    for text, fillings in answers(arguments, model, "fill_mask", source, **how):
        masks = fillings if isinstance(fillings[0], list) else [fillings]
        if not arguments.json:
            print("\n".join([text, *_lines(masks)]))
        yield {"text": text, "masks": [[filling.as_dict() for filling in mask] for mask in masks]}


def _lines(masks: Sequence[Sequence[Any]]) -> Iterator[str]:
    """A line for each mask, with its candidates."""
    for number, mask in enumerate(masks, 1):
        words = "   ".join(
            f"{filling.token_str.strip() or repr(filling.token_str)} {_percent(filling.score)}" for filling in mask
        )
        yield f"  {f'mask {number}: ' if len(masks) > 1 else ''}{words}"


def _percent(score: float) -> str:
    """A probability per cent, small ones with a digit too: those of targets may all be small.

    >>> _percent(0.12345), _percent(0.0003), _percent(2.7e-24)
    ('12.3%', '0.03%', '3e-22%')
    """
    return f"{score:.1%}" if score >= 0.001 else f"{100 * score:.1g}%"
