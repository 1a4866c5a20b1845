"""`pyroberta convert`: writes a preset in another format or dtype."""

from __future__ import annotations

import argparse
from typing import Any

from pyroberta.cli import options

SUMMARY = "write a preset anew, in another format or dtype"
EXAMPLES = (
    "pyroberta convert my_model for_keras --format keras",
    "pyroberta convert my_model smaller --dtype float16",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("source", metavar="SRC", help="name or directory of a preset")
    parser.add_argument("target", metavar="DST", help="directory to write")
    options.add_overwrite(parser, "a model", "DST")
    parser.add_argument("--format", metavar="NAME", default="hf", help="hf (transformers) or keras (KerasHub)")
    parser.add_argument(
        "--dtype", metavar="NAME", default="float32", help="of the weights: float32, float16, bfloat16 or float64"
    )
    parser.add_argument(
        "--max-shard-size",
        metavar="SIZE",
        default="5GB",
        help="weights that are larger go into several files: such as 500MB, a number of gigabytes, or none",
    )
    parser.add_argument("--include-optimizer", action="store_true", help="with the state of training that SRC has")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the command. The result is that of `presets.convert.convert`."""
    from pyroberta.presets.convert import convert

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
