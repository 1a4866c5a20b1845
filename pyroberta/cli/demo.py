"""`pyroberta demo`: trains on real text. The report goes to stdout, the progress bar to stderr."""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.cli import options
from pyroberta.cli.exit_codes import UsageError
from pyroberta.cli.places import check_places
from pyroberta.data import speeches
from pyroberta.tasks.backbone import Backbone
from pyroberta.tasks.masked_lm import MaskedLM
from pyroberta.text.preprocessor import MaskedLMPreprocessor
from pyroberta.text.tokenizer import Tokenizer
from pyroberta.training import optimizers, schedules

SUMMARY = "fit the embedded preset on real speeches and fill masks before and after"
EXAMPLES = (
    "pyroberta demo",
    "pyroberta demo --updates 100 -o my_model",
)

HELD_OUT = 200  # paragraphs at the end of the speeches, never trained on
PROMPTS = (
    "My fellow <mask>, tonight I want to speak to you.",
    "Tonight, the state of our <mask> is strong.",
    "God bless the United States of <mask>.",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--from-scratch", action="store_true", help="train a fresh small model instead")
    parser.add_argument(
        "--updates", type=options.positive, metavar="N", help="length of the training, rounded up to five equal parts"
    )
    parser.add_argument("-o", "--output", type=options.place, metavar="DIR", help="save the model there")
    options.add_overwrite(parser, "a model")
    options.add_backend(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the command. The result is that of `adapt` or `from_scratch`."""
    if arguments.overwrite and not arguments.output:
        raise UsageError("--overwrite has no effect without --output")
    if arguments.output:
        check_places([], [("--output", arguments.output)])
        options.check_free(arguments, arguments.output)
    train = from_scratch if arguments.from_scratch else adapt
    output = Path(arguments.output) if arguments.output else None
    # The report is the result, unless the result is JSON.
    with contextlib.redirect_stdout(sys.stderr) if arguments.json else contextlib.nullcontext():
        return train(updates=arguments.updates, backend=arguments.backend, output=output)


def adapt(updates: int | None = None, backend: str = "auto", output: Path | None = None) -> dict[str, Any]:
    """Fits `roberta_tiny_en` on State of the Union speeches. It was not trained on them before.

    Args:
        updates: the number of updates. The default is 400, which takes about a minute.
        backend: see `MaskedLM.from_preset`.
        output: the directory in which the model is saved, or None.

    Returns:
        The loss and accuracy on held-out texts before and after, and the fillings.
    """
    model = MaskedLM.from_preset("roberta_tiny_en", backend=backend, dropout=0.0)
    return _fit_and_show(model, updates or 400, learning_rate=5e-4, batch_size=16, output=output)


def from_scratch(updates: int | None = None, backend: str = "auto", output: Path | None = None) -> dict[str, Any]:
    """Trains a vocabulary and a new small model on the same speeches, in 1000 updates, which take some three minutes.

    A run this small would otherwise learn little more than word frequencies. Two things prevent that: the head's bias
    starts with the word frequencies, and the first layers start by attending to neighbours
    (`initial_values.neighbour_heads`).

    For the arguments and the result see `adapt`.
    """
    from pyroberta.presets.writing import check_saveable

    if output:
        check_saveable(output)  # an error comes now, not after the training
    train, _ = _texts()
    print("training a vocabulary of 3000 entries ...")
    tokenizer = Tokenizer.train(train, vocab_size=3000)
    backbone = Backbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=3,
        num_heads=4,
        hidden_dim=128,
        intermediate_dim=512,
        dropout=0.0,
        max_sequence_length=128,
        backend=backend,
        initializer="neighbour",
    )
    with backbone.changing() as params:
        params["head.bias"][:] = np.log(_frequencies(tokenizer, train))
    model = MaskedLM(backbone, MaskedLMPreprocessor(tokenizer, sequence_length=128, mask_selection_rate=0.3))
    return _fit_and_show(model, updates or 1000, learning_rate=1.5e-3, batch_size=12, output=output)


def unigram_baseline(model: MaskedLM, train: list[str], held_out: list[str]) -> tuple[float, float]:
    """Returns the loss and the accuracy of word frequencies alone on the held-out texts.

    Returns:
        The cross-entropy in nats of the tokens of `held_out` (without `<s>` and `</s>`), under the frequencies in
        `train` with 1 added to each count. The accuracy of always predicting the most frequent token.
    """
    assert model.preprocessor is not None
    tokenizer = model.preprocessor.tokenizer
    frequencies, asked = _frequencies(tokenizer, train), _counts(tokenizer, held_out)
    cross_entropy = -float(asked @ np.log(frequencies)) / asked.sum()
    return float(cross_entropy), float(asked[frequencies.argmax()] / asked.sum())


def _frequencies(tokenizer: Tokenizer, texts: list[str]) -> Array:
    """(V,) each token's share of the texts, one added to each count."""
    counts = _counts(tokenizer, texts) + 1.0
    counts /= counts.sum()
    return counts


def _counts(tokenizer: Tokenizer, texts: list[str]) -> Array:
    ids = np.concatenate([np.array(i, np.int64) for i in tokenizer.encode_batch(texts, add_special_tokens=False)])
    return np.bincount(ids, minlength=tokenizer.vocabulary_size())


def _texts() -> tuple[list[str], list[str]]:
    texts = speeches()
    return texts[:-HELD_OUT], texts[-HELD_OUT:]


def _fit_and_show(
    model: MaskedLM, updates: int, learning_rate: float, batch_size: int, output: Path | None
) -> dict[str, Any]:
    from pyroberta.presets.writing import check_saveable

    if output:
        check_saveable(output)  # an error comes now, not after the training
    train, held_out = _texts()
    epochs = 5
    steps = -(-updates // epochs)
    schedule = schedules.Linear(learning_rate, epochs * steps, warmup_steps=epochs * steps // 10)
    model.compile(optimizer=optimizers.TorchAdamW(schedule, global_clipnorm=1.0))
    model.summary()

    assert model.preprocessor is not None
    longest = model.preprocessor.sequence_length
    entropy, most_frequent = unigram_baseline(model, train, held_out)
    before = _evaluate(model, held_out)
    print(f"\n{len(train)} paragraphs to learn from, {len(held_out)} held out.")
    print(f"A paragraph of more than {longest} tokens is split into windows. On the {len(held_out)} held out:")
    print(f"  word frequencies alone   loss {entropy:.3f}   accuracy {most_frequent:.1%}")
    print(f"  the model before         loss {before['loss']:.3f}   accuracy {before['accuracy']:.1%}")
    fillings = {"before": _fill(model)}
    sys.stdout.flush()  # so that the bar, on stderr, comes after it

    shuffled = np.random.default_rng(0).permutation(np.array(train, object))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* split into .* windows")  # the report says it
        history = model.fit(cycle(shuffled), batch_size=batch_size, epochs=epochs, steps_per_epoch=steps)

    after = _evaluate(model, held_out)
    print(f"\nLoss in training: {' -> '.join(f'{value:.3f}' for value in history.history['loss'])}. Held out:")
    print(f"  the model after          loss {after['loss']:.3f}   accuracy {after['accuracy']:.1%}")
    print(_verdict(after["loss"], entropy))
    fillings["after"] = _fill(model)
    if output:
        model.save_to_preset(output)
        print(f"\nsaved to {output}; ask it more: pyroberta fill-mask --model {output} 'We <mask> the people.'")
    return {
        "unigram_loss": entropy,
        "most_frequent_token_accuracy": most_frequent,
        "before": before,
        "after": after,
        "fillings": fillings,
    }


def _evaluate(model: MaskedLM, texts: list[str]) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* split into .* windows")
        values: dict[str, float] = model.evaluate(texts, verbose=0, return_dict=True)
    return values


def _verdict(loss: float, unigram_loss: float) -> str:
    """Whether the model has learnt more than the frequency of each token."""
    margin = unigram_loss - loss
    beats = f"beats them by {margin:.3f} nats" if margin > 0.0 else f"does not beat them ({-margin:.3f} nats above)"
    return f"  held-out loss {loss:.3f}, word frequencies alone {unigram_loss:.3f}: the model {beats}"


def _fill(model: MaskedLM) -> dict[str, list[str]]:
    filled = {}
    for prompt, fillings in zip(PROMPTS, model.fill_mask(PROMPTS), strict=True):
        filled[prompt] = [filling.token_str.strip() for filling in fillings]
        print(f"  {prompt:<55} {', '.join(f'{f.token_str.strip()} {f.score:.0%}' for f in fillings)}")
    return filled
