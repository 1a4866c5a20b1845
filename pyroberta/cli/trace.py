"""`pyroberta trace`: writes all tensors of an update into a file, with which another implementation can be compared."""

from __future__ import annotations

import argparse
import os
import re
from typing import TYPE_CHECKING, Any

from pyroberta.cli import options
from pyroberta.cli.places import check_places
from pyroberta.cli.texts import add_texts, given_texts

if TYPE_CHECKING:
    from pyroberta.tasks.masked_lm import MaskedLM
    from pyroberta.training.optimizers import Optimizer

SUMMARY = "every tensor of an update, by name, in a file"
EXAMPLES = ('pyroberta trace "A dog barks." -o golden.safetensors',)
BOUNDS = ("float32", "mixed_bfloat16", "float64", "none")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_texts(parser, has_pairs=True)
    options.add_model(parser)
    parser.add_argument(
        "-o", "--output", type=options.safetensors_file, metavar="FILE", required=True,
        help="the file of tensors, .safetensors",
    )  # fmt: skip
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64", help="of the arithmetic")
    parser.add_argument("--steps", type=options.positive, metavar="N", default=1, help="updates, all on the same texts")
    parser.add_argument(
        "--parts",
        type=options.positive,
        metavar="N",
        default=1,
        help="batches that the texts are cut into, whose gradients make an update",
    )
    parser.add_argument(
        "--optimizer",
        metavar="FILE",
        help="a JSON object as an optimizer's get_config() gives it, with schedule and clipping (default: Adam's)",
    )
    parser.add_argument(
        "--dropout", type=options.fraction, metavar="RATE", help="every rate of dropout, instead of the preset's"
    )
    parser.add_argument(
        "--bounds", metavar="NAME", choices=BOUNDS, default="float32",
        help=f"the arithmetic whose error bounds are written beside: {', '.join(BOUNDS)}",
    )  # fmt: skip
    options.add_overwrite(parser, "a file", "FILE")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the command. The result has the file's name, size and number of tensors."""
    from pyroberta.oracle.golden import TraceFile
    from pyroberta.oracle.trace import trace

    read = [("--" + name, getattr(arguments, name)) for name in ("file", "model", "optimizer")]
    check_places(read, [("--output", arguments.output)])
    options.check_output_file(arguments)
    optimizer = _read_optimizer(arguments.optimizer) if arguments.optimizer else None
    texts, model = given_texts(arguments).texts, _loaded(arguments)
    if optimizer is not None:
        _check_patterns(optimizer, model, arguments.optimizer)
        model.compile(optimizer=optimizer)
    precision = None if arguments.bounds == "none" else arguments.bounds
    with TraceFile(arguments.output) as into:
        trace(
            model,
            texts,
            into=into,
            dtype=arguments.dtype,
            steps=arguments.steps,
            precision=precision,
            parts=arguments.parts,
        )
    size = os.path.getsize(os.path.expanduser(arguments.output))
    result = {"saved": arguments.output, "tensors": into.count, "bytes": size}
    if not arguments.json:
        print(f"saved {result['tensors']} tensors, {result['bytes']:,} bytes, to {arguments.output}")
    return result


def _loaded(arguments: argparse.Namespace) -> MaskedLM:
    rate = arguments.dropout
    return options.load_model(arguments, **({} if rate is None else {"dropout": rate, "attention_dropout": rate}))


def _read_optimizer(file: str) -> Optimizer:
    """The optimizer whose config is in a file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it isn't the config of an optimizer, naming the file.
    """
    from pyroberta.formats.budget import clipped, shown
    from pyroberta.formats.files import as_path, read_json
    from pyroberta.training import optimizers

    config = read_json(as_path(file))
    if not isinstance(config.get("name"), str):
        raise ValueError(f'{file} should name the optimizer, such as {{"name": "adamw", "learning_rate": 5e-5}}')
    excluded = config.get("exclude_from_weight_decay", [])
    if not isinstance(excluded, list) or not all(isinstance(pattern, str) for pattern in excluded):
        raise ValueError(f"{file}: exclude_from_weight_decay should be a list of patterns, got {shown(excluded)}")
    try:
        return optimizers.from_config(config)
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is not the config of an optimizer: {clipped(str(error) or repr(error))}") from None


def _check_patterns(optimizer: Any, model: Any, file: str) -> None:
    """Checks the patterns of parameters that do not decay.

    Raises:
        ValueError: if one is no pattern, or matches no parameter, naming the file.
    """
    try:
        optimizer.check_excluded(model.backbone.params)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    except re.error as error:
        raise ValueError(f"{file}: exclude_from_weight_decay has an invalid pattern: {error}") from None
