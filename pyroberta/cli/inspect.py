"""`pyroberta inspect`: describes a preset, from its files alone."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pyroberta.formats.budget import printable

SUMMARY = "what a preset is: task, sizes, tokens, labels, licence"
EXAMPLES = (
    "pyroberta inspect roberta_tiny_en",
    "pyroberta inspect my_model --tensors",
    "pyroberta inspect my_model --json",
)
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
UNSTATED = {"licence": "not stated", "recommended_learning_rates": "not measured"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("preset", metavar="PRESET", help="name, directory, hf:// or kaggle:// handle")
    parser.add_argument("--tensors", action="store_true", help="list every tensor with its shape and dtype")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the command. The result is that of `report`."""
    from pyroberta.presets.preset import open_preset

    found = report(open_preset(arguments.preset), with_tensors=arguments.tensors)
    if not arguments.json:
        tensors = found.get("tensors", {})
        lines = {**found, "parameters": f"{found['parameters']:,}{_surplus(found)}"}
        lines.pop("tensors", None)
        print("\n".join(_lines(lines)))
        width = max((len(name) for name in tensors), default=0)
        for name, tensor in tensors.items():
            print(f"  {name:<{width}}  {tensor['dtype']:<8} {' × '.join(map(str, tensor['shape'])) or 'a number'}")
    return found


def report(preset: Any, *, with_tensors: bool = False) -> dict[str, Any]:
    """Returns the description of an opened preset, in JSON's types.

    >>> from pyroberta.presets.preset import open_preset
    >>> report(open_preset("roberta_tiny_en"))["task"]
    'MaskedLM'
    """
    from pyroberta.model.parameters import shapes
    from pyroberta.presets.heads import HEAD_FILES

    config, stored = preset.config, preset.stored()
    card, tokenizer = HEAD_FILES[config.head].card, _tokenizer(preset)
    found: dict[str, Any] = {
        "preset": preset.name,
        "directory": str(preset.directory),
        "format": _format(preset),
        "task": card.task,
        "labels": preset.labels,
        "licence": preset.licence,
        "parameters": sum(math.prod(shape) for shape in shapes(config).values()),
        "stored": _by_dtype(stored),
        "config": {name: value for name, value in asdict(config).items() if value is not None},
        "preprocessor": dict(preset.preprocessor_settings),
        "tokenizer": None if tokenizer is None else _tokens(tokenizer),
        "recommended_learning_rates": dict(preset.learning_rates) or None,
    }
    if with_tensors:
        found["tensors"] = {
            name: {"dtype": _dtype(tensor), "shape": list(tensor.shape), "file": tensor.file.name}
            for name, tensor in stored.items()
        }
    return found


def _format(preset: Any) -> str:
    """`hf`, `keras` or `fairseq`, as `convert --format` takes them."""
    name: str = preset.format.__name__.rpartition(".")[2]
    return {"kerashub": "keras"}.get(name, name)


def _tokenizer(preset: Any) -> Any:
    """The tokenizer; None where the preset has none."""
    try:
        return preset.tokenizer
    except FileNotFoundError:
        return None


def _tokens(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocabulary_size": tokenizer.vocabulary_size(),
        "special_tokens": {tokenizer.id_to_token(id): int(id) for id in sorted(tokenizer.special_token_ids)},
    }


def _by_dtype(stored: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """How many tensors and numbers of each dtype lie in the files.

    >>> _by_dtype({})
    {}
    """
    found: dict[str, dict[str, int]] = {}
    for tensor in stored.values():
        counts = found.setdefault(_dtype(tensor), {"tensors": 0, "numbers": 0})
        counts["tensors"] += 1
        counts["numbers"] += tensor.size
    return found


def _surplus(found: Mapping[str, Any]) -> str:
    """Why the files hold more numbers than the model has parameters; "" if they don't.

    >>> _surplus({"parameters": 10, "stored": {"float32": {"tensors": 2, "numbers": 12}}})
    ' (the files hold 2 numbers more, which the model does not need, such as rows of token types)'
    """
    more = sum(counts["numbers"] for counts in found["stored"].values()) - found["parameters"]
    numbers = f"{more:,} number{'s' * (more != 1)}"
    some = "which the model does not need, such as rows of token types"
    return f" (the files hold {numbers} more, {some})" if more > 0 else ""


def _lines(found: Mapping[str, Any], indent: str = "") -> list[str]:
    """A line for each value; those of an object stand beneath its name.

    >>> _lines({"task": "MaskedLM", "config": {"num_layers": 4}})
    ['task                       MaskedLM', 'config', '  num layers                 4']
    """
    lines = []
    for name, value in found.items():
        title = indent + name.replace("_", " ")
        if isinstance(value, Mapping) and value:
            lines += [title, *_lines(value, indent + "  ")]
        else:
            text = UNSTATED.get(name, "none") if value is None else _as_text(value)
            lines.append(printable(f"{title:<{27 + len(indent)}}{text}"))
    return lines


def _dtype(tensor: Any) -> str:
    return DTYPES.get(tensor.dtype, str(tensor.dtype))


def _as_text(value: Any) -> str:
    if isinstance(value, list | tuple | Mapping):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
