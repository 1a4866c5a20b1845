"""`pyroberta convert`: writes a preset in another format or dtype."""

from __future__ import annotations

import argparse
from typing import Any

from pyroberta.cli import options
from pyroberta.cli.places import check_places

SUMMARY = "write a preset anew, in another format or dtype"
EXAMPLES = (
    "pyroberta convert my_model for_keras --format keras",
    "pyroberta convert my_model smaller --dtype float16",
)
FORMATS = ("hf", "keras")
DTYPES = ("float32", "float16", "bfloat16", "float64")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("source", metavar="SRC", help="name or directory of a preset")
    parser.add_argument("target", metavar="DST", help="directory to write")
    options.add_overwrite(parser, "a model", "DST")
    parser.add_argument(
        "--format", metavar="NAME", choices=FORMATS, default="hf", help="hf (transformers) or keras (KerasHub)"
    )
    parser.add_argument(
        "--dtype", metavar="NAME", choices=DTYPES, default="float32",
        help=f"of the weights: {', '.join(DTYPES[:-1])} or {DTYPES[-1]}",
    )  # fmt: skip
    parser.add_argument(
        "--max-shard-size",
        type=shard_size,
        metavar="SIZE",
        default="5GB",
        help="weights that are larger go into several files: such as 500MB, a number of gigabytes, or none",
    )
    parser.add_argument("--include-optimizer", action="store_true", help="with the state of training that SRC has")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the command. The result is that of `presets.convert.convert`."""
    from pyroberta.presets.convert import convert

    check_places([("SRC", arguments.source)], [("DST", arguments.target)])
    options.check_free(arguments, arguments.target)
    result = convert(
        arguments.source,
        arguments.target,
        format=arguments.format,
        dtype=arguments.dtype,
        max_shard_size=None if arguments.max_shard_size == "none" else arguments.max_shard_size,
        include_optimizer=arguments.include_optimizer,
    )
    if not arguments.json:
        parts = ("head", "tokenizer")
        saved = ["encoder", *filter(result.get, parts), *["optimizer's state"] * arguments.include_optimizer]
        lacking = [part for part in parts if not result[part]]
        without = f"; {arguments.source} has no {' and no '.join(lacking)}" if lacking else ""
        print(f"saved to {arguments.target} as {arguments.format}, {arguments.dtype}: {', '.join(saved)}{without}")
    return result


def shard_size(text: str) -> str:
    """Checks the largest size of a file, and returns it."""
    from pyroberta.formats.shards import parse_size

    if text != "none":
        try:
            parse_size(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"must be a size such as 500MB, a number of gigabytes up to 1000, or none; got {text!r}"
            ) from None
    return text
