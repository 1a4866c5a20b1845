"""Options that several commands share, the use of their values, and the types of numbers."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import warnings
from collections.abc import Sequence
from typing import Any

from pyroberta.backends import NAMES as BACKENDS
from pyroberta.text.long_texts import LONG_TEXTS


def add_preset(parser: argparse.ArgumentParser) -> None:
    """Adds `--model`."""
    parser.add_argument(
        "-m", "--model", metavar="PRESET", default="roberta_tiny_en", help="name, directory, hf:// or kaggle:// handle"
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds `--model`, `--backend` and `--fresh-head`, which `load_model` reads."""
    add_preset(parser)
    add_backend(parser)
    parser.add_argument(
        "--fresh-head", action="store_true", help="take a model without a masked-LM head, and give it an untrained one"
    )


def load_model(arguments: argparse.Namespace, **keywords: Any) -> Any:
    """The `MaskedLM` that `--model`, `--backend` and `--fresh-head` name. `keywords` are those of `from_preset`.

    Raises:
        ValueError: the preset has no masked-LM head, and `--fresh-head` is not given.
    """
    from pyroberta.presets.checks import FreshHeadWarning
    from pyroberta.presets.preset import open_preset
    from pyroberta.tasks.masked_lm import MaskedLM

    with warnings.catch_warnings():
        if not arguments.fresh_head:
            warnings.simplefilter("error", FreshHeadWarning)
        preset = open_preset(arguments.model, weights=keywords.get("load_weights", True))
        try:
            return MaskedLM.from_preset(preset, backend=arguments.backend, **keywords)
        except FreshHeadWarning as warning:
            classes = preset.config.num_classes
            addition = "" if classes is None else f" It is a classifier for {classes} classes."
            raise ValueError(
                f"{str(warning).split(': a fresh one')[0]}.{addition} With --fresh-head it gets an untrained one, "
                "which knows nothing before `pyroberta fit`"
            ) from None


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Adds `--backend`."""
    parser.add_argument(
        "--backend", metavar="NAME", choices=BACKENDS, default="auto",
        help=f"{_either(BACKENDS)}; see `pyroberta doctor`",
    )  # fmt: skip


def add_long_texts(parser: argparse.ArgumentParser, default: str, choices: Sequence[str] = LONG_TEXTS) -> None:
    """Adds `--long-texts`."""
    parser.add_argument(
        "--long-texts", metavar="HOW", choices=choices, default=default,
        help=f"texts longer than the model takes: {_either(choices)}",
    )  # fmt: skip


def as_typed(message: str) -> str:
    """An error's message, with the command's options in the place of Python's arguments.

    >>> as_typed("give long_texts='split'")
    'give --long-texts split'
    >>> as_typed("say which holds the texts: column='text'")
    'say which holds the texts: --column text'
    """
    message = message.replace(", to pyroberta.data.open_source:", ":")
    message = re.sub(r"\b(column|label|kind)='([^']*)'", r"--\1 \2", message)
    return re.sub(r"\blong_texts=(?:'(\w+)')?", lambda found: f"--long-texts {found[1] or ''}".rstrip(), message)


def add_overwrite(parser: argparse.ArgumentParser, kind: str, where: str = "DIR") -> None:
    """Adds `--overwrite`, which `check_free` reads."""
    parser.add_argument("--overwrite", action="store_true", help=f"replace {kind} that {where} holds already")


def check_free(arguments: argparse.Namespace, place: str, marks: Sequence[str] = ("config.json",)) -> None:
    """Checks, before the work begins, that nothing is replaced without `--overwrite`.

    Raises:
        FileExistsError: where `place` holds one of the files `marks`, unless `--overwrite` is given.
    """
    found = next((mark for mark in marks if os.path.isfile(os.path.join(os.path.expanduser(place), mark))), None)
    if found and not arguments.overwrite:
        kind = "a model" if found == "config.json" else "a vocabulary"
        begins = getattr(arguments, "model", place)  # of fit
        going_on = f"; to go on training it: --model {place} --output {place} --overwrite" if begins != place else ""
        raise FileExistsError(
            f"{place} holds {kind} already ({found}). Give another directory, or --overwrite to replace it{going_on}"
        )


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def safetensors_file(text: str) -> str:
    """The name of a file that ends as its format does."""
    if not text.endswith(".safetensors"):
        raise argparse.ArgumentTypeError(f"must end with .safetensors, the format that is written, got {text!r}")
    return text


def positive(text: str) -> int:
    """A whole number of at least 1."""
    with contextlib.suppress(ValueError):
        if int(text) >= 1:
            return int(text)
    raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")


def fraction(text: str) -> float:
    """A number in [0, 1)."""
    with contextlib.suppress(ValueError):
        if 0.0 <= float(text) < 1.0:
            return float(text)
    raise argparse.ArgumentTypeError(f"must be a number in [0, 1), got {text!r}")


def number(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None


def whole(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None
