"""Options that several commands share, the functions that read them, and the types of numbers."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyroberta.backends import NAMES as BACKENDS
from pyroberta.data.paths import NO_TEXT
from pyroberta.text.long_texts import LONG_TEXTS

if TYPE_CHECKING:
    from pyroberta.tasks.masked_lm import MaskedLM

SCHEDULES = ("linear", "cosine", "constant")


def add_preset(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Adds `--model`."""
    parser.add_argument(
        "-m", "--model", metavar="PRESET", default=None if required else "roberta_tiny_en", required=required,
        help="name, directory, hf:// or kaggle:// handle",
    )  # fmt: skip


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds `--model`, `--backend` and `--fresh-head`, which `load_model` reads."""
    add_preset(parser)
    add_backend(parser)
    parser.add_argument(
        "--fresh-head", action="store_true", help="take a model without a masked-LM head, and give it an untrained one"
    )


def load_model(arguments: argparse.Namespace, **keywords: Any) -> MaskedLM:
    """Returns the `MaskedLM` that `--model`, `--backend` and `--fresh-head` name. `keywords` are those of
    `from_preset`.

    Raises:
        ValueError: if the preset has no masked-LM head, and `--fresh-head` is not given.
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
            addition = "" if classes is None else f" It is a classifier for {classes} classes, of `pyroberta classify`."
            raise ValueError(
                f"{str(warning).split(': an untrained one')[0]}.{addition} With --fresh-head it gets an untrained one, "
                "which `pyroberta fit` must train first"
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


def add_training(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a training, which `training.train` reads."""
    parser.add_argument("-o", "--output", type=place, required=True, metavar="DIR", help="where to save the model")
    add_overwrite(parser, "a model")
    group = parser.add_argument_group("training")
    group.add_argument("--epochs", type=positive, metavar="N", default=1, help="times through the texts")
    group.add_argument("--batch-size", type=positive, metavar="N", default=16, help="texts in a step")
    group.add_argument(
        "--accumulate", type=positive, default=1, metavar="N", help="steps whose gradients make an update"
    )
    group.add_argument(
        "--learning-rate", type=at_least_0, metavar="RATE",
        help="the highest, of Adam (default: what the preset recommends, else 5e-05)",
    )  # fmt: skip
    group.add_argument(
        "--schedule", metavar="NAME", choices=SCHEDULES, default="linear",
        help=f"how it falls after the warm-up: {_either(SCHEDULES)}",
    )  # fmt: skip
    group.add_argument(
        "--warmup", type=fraction, metavar="PART",
        help="part of the updates in which it rises from 0, such as 10%% (default: 6%%, for constant 0)",
    )  # fmt: skip
    group.add_argument(
        "--weight-decay", type=at_least_0, metavar="RATE", default=0.0, help="of kernels and embeddings, as in AdamW"
    )
    group.add_argument("--clip", type=above_0, metavar="NORM", help="the largest norm of an update's gradient")
    group.add_argument("--lora", type=positive, metavar="RANK", help="train low-rank changes of attention alone")
    group.add_argument(
        "--freeze", type=regex, metavar="REGEX", action="append", default=[],
        help="leave parameters alone whose whole name matches, such as 'embeddings.*'",
    )  # fmt: skip
    group.add_argument("--seed", type=seed, metavar="N", default=0, help="of order, masks and dropout")
    group = parser.add_argument_group("evaluation and stopping")
    group.add_argument(
        "--validation", type=place, metavar="FILE|SHARE",
        help="texts to evaluate on after every epoch: a file, or a share as 10%%",
    )  # fmt: skip
    group.add_argument(
        "--early-stopping", type=positive, metavar="N",
        help="end after N epochs without a lower validation loss, with the best epoch's weights",
    )  # fmt: skip
    group.add_argument(
        "--checkpoint", type=place, metavar="DIR", help="keep the state of training there after every epoch"
    )
    group.add_argument("--checkpoint-every", type=positive, metavar="N", help="keep it after every N updates, too")
    group.add_argument("--resume", action="store_true", help="go on from --checkpoint, bit for bit, if there is one")
    group.add_argument("--log", type=place, metavar="FILE.csv", help="a row of metrics for each epoch")
    group.add_argument("--plot", type=place, metavar="FILE.png", help="draw the metrics of the epochs")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def add_full_sentences(parser: argparse.ArgumentParser) -> None:
    """Adds `--full-sentences`."""
    parser.add_argument(
        "--full-sentences", action="store_true",
        help="fill each sequence with whole sentences of one text after another, as RoBERTa was trained",
    )  # fmt: skip


_IN_A_SHELL = {  # lines of Python, as patterns -> what does the same on the command line
    r"model\.upload\('(.+)'\)": r"`pyroberta upload DIR \1`",
    r"\bload_weights=False gives": "`pyroberta fit --fresh` gives",
    r"Pass the open file: open\((.+), encoding='([^']+)'\)": r"Convert it: iconv -f \2 -t utf-8 \1 > NEW",
    r"Open it as text in (\S+), and pass the open file": r"Convert it first, by iconv -f \1 -t utf-8",
    r"Pass its table and column=: pandas\.\w+\(.+\)": "Convert it to CSV or Parquet",
    r"(If pandas wrote it), pass the table with column=: pandas\.read_json\(.+\)": r"\1, add orient='records' there",
}


def as_typed(message: str) -> str:
    """Returns the message of an error with the options of the command line instead of the arguments of Python.

    >>> as_typed("give long_texts='split'")
    'give --long-texts split'
    >>> as_typed("say which holds the texts: column='text'")
    'say which holds the texts: --column text'
    >>> as_typed("name the kind in pyroberta.data.open_source: kind='csv'")
    'name the kind: --kind csv'
    """
    message = message.replace("full_sentences=True", "--full-sentences").replace("per_line=False", "--whole-files")
    message = message.replace(" in pyroberta.data.open_source:", ":").replace(f". {NO_TEXT}", "")
    message = message.replace(", and continue with append=True", "")  # which the line to go on with does by itself
    message = message.replace("the preprocessor's sequence_length is", "the model takes")
    message = message.replace("num_dimensions=", "--dimensions").replace("method='center'", "--normalize center")
    for found, instead in _IN_A_SHELL.items():
        message = re.sub(found, instead, message)
    return re.sub(r"\b(column|label|kind|long_texts)=(?:'([^']*)')?", _option, message)


def _option(found: re.Match[str]) -> str:
    """The option in the place of an argument, with its value if that is given."""
    return f"--{found[1].replace('_', '-')} {found[2] or ''}".rstrip()


def add_overwrite(parser: argparse.ArgumentParser, kind: str, where: str = "DIR") -> None:
    """Adds `--overwrite`, which `check_free` reads."""
    parser.add_argument("--overwrite", action="store_true", help=f"replace {kind} that {where} holds already")


def check_free(
    arguments: argparse.Namespace, place: str, names: Sequence[str] = ("config.json",), remark: str = ""
) -> None:
    """Checks, before the work begins, that nothing is replaced without `--overwrite`. `remark` is a part of the error.

    Raises:
        FileExistsError: if `place` has one of the files `names`, and `--overwrite` is not given.
    """
    found = next((name for name in names if os.path.isfile(os.path.join(os.path.expanduser(place), name))), None)
    if found and not arguments.overwrite:
        kind = "a model" if found == "config.json" else "a vocabulary"
        begins = getattr(arguments, "model", place)  # of fit
        going_on = f"; to go on training it: --model {place} --output {place} --overwrite" if begins != place else ""
        raise FileExistsError(
            f"{place} holds {kind} already ({found}){remark}. Give another directory, or --overwrite to replace it"
            f"{going_on}"
        )


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def place(text: str) -> str:
    """Checks the name of a file or a directory, and returns it. An empty name is an error, since it is mostly a
    variable of a script that was not set.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError(f"must be the name of a file or a directory, got {text!r}")
    return text


def check_output_file(arguments: argparse.Namespace) -> None:
    """Checks, before any work, that the file of `--output` can be written.

    Raises:
        FileExistsError: if it exists, without `--overwrite`.
        IsADirectoryError: if it is a directory.
        OSError: if nothing can be created there. See `check_place`.
    """
    from pyroberta.formats.atomic import check_place
    from pyroberta.formats.files import as_path

    path = as_path(arguments.output)
    if path.is_dir():
        raise IsADirectoryError(f"can't save to {path}: it is a directory. Give another name.")
    if path.exists() and not arguments.overwrite:
        raise FileExistsError(f"{path} exists already. Give another name, or --overwrite to replace it")
    check_place(path)


def safetensors_file(text: str) -> str:
    """Checks that the name of a file ends in `.safetensors`, and returns it."""
    if not text.endswith(".safetensors"):
        raise argparse.ArgumentTypeError(f"must end in .safetensors, the format of the file, got {text!r}")
    return text


def positive(text: str) -> int:
    """Returns a whole number of at least 1."""
    with contextlib.suppress(ValueError):
        if int(text) >= 1:
            return int(text)
    raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")


def share(text: str) -> float | None:
    """Returns a share, such as `10%` or `0.1`, as a number. The result is None if the text is not a share."""
    found = re.fullmatch(r"((?:\d+\.?\d*|\.\d+)(?:e-?\d+)?)( ?%)?", text)
    return None if found is None else float(found[1]) / (100 if found[2] else 1)


def fraction(text: str) -> float:
    """Returns a share in [0, 1)."""
    part = share(text)
    if part is None or part >= 1:
        raise argparse.ArgumentTypeError(f"must be a share from 0 and below 1, such as 10% or 0.1; got {text!r}")
    return part


def number(text: str) -> float:
    """Returns a number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None


def at_least_0(text: str) -> float:
    """Returns a number of at least 0."""
    if 0.0 <= number(text) < math.inf:
        return float(text)
    raise argparse.ArgumentTypeError(f"must be a number of at least 0, got {text!r}")


def above_0(text: str) -> float:
    """Returns a number above 0."""
    if 0.0 < number(text) < math.inf:
        return float(text)
    raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")


def whole(text: str) -> int:
    """Returns a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None


def seed(text: str) -> int:
    """Returns a seed, a whole number of 64 bits."""
    if 0 <= whole(text) < 1 << 64:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {(1 << 64) - 1}, got {text!r}")


def regex(text: str) -> str:
    """Checks that a text is a regular expression, and returns it."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from None
    return text


def words(text: str) -> list[str]:
    """Returns words that commas part, without white space around them.

    >>> words("door, window,")
    ['door', 'window']
    """
    found = [word.strip() for word in text.split(",") if word.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"must name words, such as door,window; got {text!r}")
    return found
