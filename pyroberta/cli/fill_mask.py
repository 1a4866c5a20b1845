"""`pyroberta fill-mask`: finds the likeliest tokens for every `<mask>` of the given texts."""

from __future__ import annotations

import argparse
from typing import Any

from pyroberta.cli import options
from pyroberta.cli.streams import given_texts
from pyroberta.text.long_texts import LONG_TEXTS

SUMMARY = "the likeliest words for every <mask>"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "texts", nargs="*", metavar="TEXT", help="texts with <mask>; none, or -, reads standard input, one a line"
    )
    options.add_model(parser)
    parser.add_argument("-k", "--top-k", type=options.positive, metavar="N", default=5, help="candidates for each mask")
    parser.add_argument("--targets", metavar="WORD,WORD", help="rank these words alone")
    # Each mask has one result, so a text is never split.
    options.add_long_texts(parser, "refuse", [how for how in LONG_TEXTS if how != "split"])
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs the command. The result has each text, and for each of its masks the candidates."""
    texts, model = given_texts(arguments), options.load_model(arguments)
    results = []
    targets = None
    if arguments.targets is not None:
        targets = [word.strip() for word in arguments.targets.split(",") if word.strip()]
    found = model.fill_mask(
        texts,
        top_k=arguments.top_k,
        targets=targets,
        long_texts=arguments.long_texts,
        verbose=0 if arguments.quiet else "auto",
    )
    for text, fillings in zip(texts, found, strict=True):
        masks = fillings if isinstance(fillings[0], list) else [fillings]
        results.append({"text": text, "masks": [[filling.as_dict() for filling in mask] for mask in masks]})
        if not arguments.json:
            print(text)
            for number, mask in enumerate(masks, 1):
                words = "   ".join(
                    f"{filling.token_str.strip() or repr(filling.token_str)} {filling.score:.1%}" for filling in mask
                )
                print(f"  {f'mask {number}: ' if len(masks) > 1 else ''}{words}")
    return results
