"""`pyroberta fit`: trains a masked LM on texts and saves it, even if training is stopped or diverges."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pyroberta.cli import options, training
from pyroberta.cli.exit_codes import UsageError
from pyroberta.cli.texts import add_source, source_of

if TYPE_CHECKING:
    from pyroberta.tasks.masked_lm import MaskedLM

SUMMARY = "train a model on texts and save it"
EXAMPLES = (
    "pyroberta fit texts.txt -o my_model --epochs 3 --validation 10%",
    "pyroberta fit texts.txt -o my_model --validation held_out.txt --early-stopping 2 --epochs 20",
    "pyroberta fit reviews.csv.gz --column review -o my_model",
    "pyroberta fit 'novels/*.txt' --whole-files --full-sentences -o my_model",
    "pyroberta fit texts.txt -o my_model --checkpoint run --log run.csv --plot run.png",
    "pyroberta fit texts.txt -o my_model --checkpoint run --log run.csv --plot run.png --resume",
    "pyroberta fit texts.txt -o my_model --model my_model --overwrite",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_source(parser)
    options.add_model(parser)
    parser.add_argument("--fresh", action="store_true", help="start from fresh values instead of the preset's weights")
    parser.add_argument(
        "--tokenizer", type=options.place, metavar="DIR",
        help="with --fresh: a vocabulary of train-tokenizer instead of the preset's",
    )  # fmt: skip
    parser.add_argument(
        "--whole-words", action="store_true", help="mask all tokens of a word together, not tokens one by one"
    )
    options.add_long_texts(parser, "split")
    options.add_full_sentences(parser)
    options.add_training(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the command. The result is that of `training.train`."""
    if arguments.tokenizer and not arguments.fresh:
        raise UsageError(
            "--tokenizer needs --fresh: the preset's weights belong to its own vocabulary, so another vocabulary needs "
            "a new model"
        )
    training.check(arguments)
    is_share = training.share_or_file(arguments) is not None
    source = source_of(arguments, arguments.texts)
    held_out = None if is_share or arguments.validation is None else source_of(arguments, arguments.validation)
    if arguments.tokenizer:
        model = _fresh_model(arguments)
    else:
        model = options.load_model(arguments, load_weights=not arguments.fresh, seed=arguments.seed)
    if arguments.whole_words:
        assert model.preprocessor is not None  # a preset without one was refused
        model.preprocessor.whole_words = True
    return training.train(
        arguments, model, source, validation=held_out and held_out.texts, full_sentences=arguments.full_sentences
    )


def _fresh_model(arguments: argparse.Namespace) -> MaskedLM:
    """A model of the preset's shape with fresh values and a new vocabulary."""
    from pyroberta.presets.preset import open_preset
    from pyroberta.tasks.backbone import Backbone
    from pyroberta.tasks.masked_lm import MaskedLM
    from pyroberta.text.preprocessor import MaskedLMPreprocessor
    from pyroberta.text.tokenizer import Tokenizer

    if not os.path.isdir(arguments.tokenizer):
        raise FileNotFoundError(
            f"--tokenizer {arguments.tokenizer}: the directory does not exist. Make one with `pyroberta "
            f"train-tokenizer FILE -o {arguments.tokenizer}`"
        )
    tokenizer = Tokenizer.load(arguments.tokenizer)
    preset = open_preset(arguments.model, weights=False)
    ids = {"start_id": tokenizer.start_token_id, "pad_id": tokenizer.pad_token_id, "end_id": tokenizer.end_token_id}
    config = asdict(preset.config) | ids | {"vocabulary_size": tokenizer.vocabulary_size()}
    backbone = Backbone(**config, backend=arguments.backend, seed=arguments.seed)
    preprocessor = MaskedLMPreprocessor.from_preset(preset, tokenizer=tokenizer)
    return MaskedLM(backbone, preprocessor, seed=arguments.seed)
