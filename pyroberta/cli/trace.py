"""`pyroberta trace`: everything that passes through a model in an update, as a file to compare another one with."""

from __future__ import annotations

import argparse
import os
from typing import Any

from pyroberta.cli import options
from pyroberta.cli.streams import given_texts

SUMMARY = "every tensor of an update, by name, in a file"
BOUNDS = ("float32", "mixed_bfloat16", "float64", "none")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts; none, or -, reads standard input, one a line")
    options.add_model(parser)
    parser.add_argument(
        "-o", "--output", type=options.safetensors_file, metavar="FILE", required=True,
        help="the file of tensors, .safetensors",
    )  # fmt: skip
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64", help="of the arithmetic")
    parser.add_argument("--steps", type=options.positive, metavar="N", default=1, help="updates, all on the same texts")
    parser.add_argument(
        "--bounds", metavar="NAME", choices=BOUNDS, default="float32",
        help=f"the arithmetic whose error bounds are written beside: {', '.join(BOUNDS)}",
    )  # fmt: skip
    options.add_overwrite(parser, "a file", "FILE")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the command. The result has the file's name, size and number of tensors."""
    from pyroberta.oracle.golden import TraceFile
    from pyroberta.oracle.trace import trace

    file = os.path.expanduser(arguments.output)
    if os.path.exists(file) and not arguments.overwrite:
        raise FileExistsError(f"{arguments.output} is there already. Give another name, or --overwrite to replace it")
    texts, model = given_texts(arguments), options.load_model(arguments)
    precision = None if arguments.bounds == "none" else arguments.bounds
    with TraceFile(file) as into:
        trace(model, texts, into=into, dtype=arguments.dtype, steps=arguments.steps, precision=precision)
    result = {"saved": arguments.output, "tensors": into.count, "bytes": os.path.getsize(file)}
    if not arguments.json:
        print(f"saved {result['tensors']} tensors, {result['bytes']:,} bytes, to {arguments.output}")
    return result
