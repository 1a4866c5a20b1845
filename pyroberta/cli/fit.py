"""`pyroberta fit`: trains a model on a text file and saves it, even if training is stopped or diverges."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyroberta.cli import options
from pyroberta.cli.exit_codes import DIVERGED, code_of_stop
from pyroberta.cli.streams import figures
from pyroberta.cli.texts import read_texts

SUMMARY = "train a model on a text file and save it"
EXAMPLES = (
    "pyroberta fit texts.txt -o my_model --epochs 3 --validation held_out.txt",
    "pyroberta fit texts.txt -o my_model --model my_model --overwrite",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("texts", metavar="FILE", help="UTF-8 text file, one text a line, or -")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="where to save the model")
    options.add_overwrite(parser, "a model")
    options.add_model(parser)
    parser.add_argument("--fresh", action="store_true", help="start from fresh values instead of the preset's weights")
    parser.add_argument(
        "--tokenizer", metavar="DIR", help="with --fresh: a vocabulary of train-tokenizer instead of the preset's"
    )
    parser.add_argument("--epochs", type=options.positive, metavar="N", default=1, help="times through the texts")
    parser.add_argument("--batch-size", type=options.positive, metavar="N", default=16, help="texts in a step")
    parser.add_argument(
        "--accumulate", type=options.positive, default=1, metavar="N", help="steps whose gradients make an update"
    )
    parser.add_argument(
        "--learning-rate",
        type=options.number,
        metavar="RATE",
        default=5e-5,
        help="of Adam: it rises to this, then falls to 0",
    )
    parser.add_argument(
        "--warmup", type=options.fraction, metavar="PART", default=0.06, help="part of the updates in which it rises"
    )
    parser.add_argument("--validation", metavar="FILE", help="text file to evaluate on after every epoch")
    parser.add_argument("--seed", type=options.whole, metavar="N", default=0, help="of order, masks and dropout")
    parser.add_argument(
        "--freeze", metavar="REGEX", action="append", default=[], help="leave parameters with such names alone"
    )
    options.add_long_texts(parser, "split")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the command. The result has the directory, the number of updates and the metrics of each epoch."""
    from pyroberta.presets.writing import check_saveable
    from pyroberta.training import callbacks, optimizers, schedules
    from pyroberta.training.step import NonFiniteError

    options.check_free(arguments, arguments.output)
    texts = read_texts(arguments.texts)
    validation = read_texts(arguments.validation) if arguments.validation else None
    check_saveable(Path(arguments.output))  # an error comes now, not after the training
    if arguments.tokenizer and not arguments.fresh:
        raise ValueError(
            "--tokenizer needs --fresh: the preset's weights belong to its own vocabulary, so another one starts anew"
        )
    if arguments.tokenizer:
        model = _fresh_model(arguments)
    else:
        model = options.load_model(arguments, load_weights=not arguments.fresh, seed=arguments.seed)
    for pattern in arguments.freeze:
        model.backbone.freeze(pattern)
    model.compile(optimizer=optimizers.Adam(arguments.learning_rate))

    def set_schedule(logs: Any = None) -> None:
        """Sets the schedule when the texts are encoded, since then the number of steps is known."""
        updates = schedule.params["steps"] * arguments.epochs
        warmup = round(arguments.warmup * updates)
        model.optimizer.learning_rate = schedules.Linear(arguments.learning_rate, updates, warmup_steps=warmup)

    logs: dict[str, float] = {}  # of the epoch that is being trained
    finished = callbacks.History()  # of the epochs before, for a training that is stopped
    schedule = callbacks.LambdaCallback(
        on_train_begin=set_schedule,
        on_train_batch_end=lambda _, now: logs.update(now),
    )
    problem: KeyboardInterrupt | NonFiniteError | None = None
    try:
        history = model.fit(
            texts,
            batch_size=arguments.batch_size,
            epochs=arguments.epochs,
            gradient_accumulation_steps=arguments.accumulate,
            validation_data=validation,
            long_texts=arguments.long_texts,
            callbacks=[schedule, finished],
            verbose=0 if arguments.quiet else 1,
        ).history
        last = {name: values[-1] for name, values in history.items()}
    except (KeyboardInterrupt, NonFiniteError) as error:
        if not model.optimizer.iterations:
            if isinstance(error, KeyboardInterrupt):
                print("pyroberta: no update was made yet, so nothing is saved", file=sys.stderr)
            raise
        problem, history, last = error, finished.history, logs
    if problem is None:  # the epoch's metrics were measured before each of its updates, the last one too
        with contextlib.suppress(ValueError), warnings.catch_warnings():  # nothing is masked in these texts
            warnings.simplefilter("ignore")  # the texts that are cut here were trained on
            some = texts[: arguments.batch_size]
            after = model.evaluate(some, long_texts="cut", verbose=0, return_dict=True)
            if _is_lost(model, after):
                last = {**last, "perplexity": after["perplexity"]}
    whole = schedule.params.get("steps", 0) * arguments.epochs
    return _saved(arguments, model, history, last, problem, whole)


def _fresh_model(arguments: argparse.Namespace) -> Any:
    """A model of the preset's shape with fresh values and a new vocabulary."""
    from pyroberta.presets.preset import open_preset
    from pyroberta.tasks.backbone import Backbone
    from pyroberta.tasks.masked_lm import MaskedLM
    from pyroberta.text.preprocessor import MaskedLMPreprocessor
    from pyroberta.text.tokenizer import Tokenizer

    if not os.path.isdir(arguments.tokenizer):
        raise FileNotFoundError(
            f"--tokenizer {arguments.tokenizer}: there is no such directory. Make one with "
            f"`pyroberta train-tokenizer FILE -o {arguments.tokenizer}`"
        )
    tokenizer = Tokenizer.load(arguments.tokenizer)
    preset = open_preset(arguments.model, weights=False)
    ids = {"start_id": tokenizer.start_token_id, "pad_id": tokenizer.pad_token_id, "end_id": tokenizer.end_token_id}
    config = asdict(preset.config) | ids | {"vocabulary_size": tokenizer.vocabulary_size()}
    backbone = Backbone(**config, backend=arguments.backend, seed=arguments.seed)
    preprocessor = MaskedLMPreprocessor.from_preset(preset, tokenizer=tokenizer)
    return MaskedLM(backbone, preprocessor, seed=arguments.seed)


def _is_lost(model: Any, metrics: Mapping[str, float]) -> bool:
    """Whether a perplexity is twice that of chance, which is V, or no number."""
    most = 2 * model.backbone.config.vocabulary_size
    return any(not value <= most for name, value in metrics.items() if name.endswith("perplexity"))


def _saved(
    arguments: argparse.Namespace,
    model: Any,
    history: dict[str, list[float]],
    last: dict[str, float],
    problem: KeyboardInterrupt | ArithmeticError | None,
    whole: int,
) -> dict[str, Any]:
    """Saves the model, after the whole training or after a signal or a non-finite loss. Returns the result.

    `whole` is the number of updates of the whole training.
    """
    import numpy as np

    updates = model.optimizer.iterations
    why = ""  # it diverged
    if isinstance(problem, ArithmeticError):
        why = str(problem)
    elif _is_lost(model, last):
        why = f"a model that knows nothing has a perplexity of {model.backbone.config.vocabulary_size}"
    output: str | None = f"{os.path.normpath(arguments.output)}.diverged" if why else arguments.output
    if not np.isfinite(model.backbone.params.flat).all():  # the last update made them so, and no format takes them
        why, output = why or "its parameters are not finite", None
    result = {"saved": output, "updates": updates, "history": history}
    stop = problem if isinstance(problem, KeyboardInterrupt) else None
    is_done = False
    while not is_done:
        if stop:
            arguments.exit_code = code_of_stop(stop)
            result["interrupted"] = True
            saving = f"; saving to {output} (Ctrl-C again: stops at once and saves nothing)" if output else ""
            print(f"pyroberta: interrupted after {updates} of {_updates(whole)}{saving}", file=sys.stderr)
        try:
            if output:
                _save(model, output)
            is_done = True
        except KeyboardInterrupt as first:
            if stop:
                raise
            stop = first  # it came while the finished model was being saved, which would be lost
    if not arguments.json:
        print(f"{f'saved to {output}' if output else 'nothing saved'} after {_updates(updates)}: {figures(last)}")
    if why:
        arguments.exit_code = arguments.exit_code or DIVERGED
        result["diverged"] = True
        outcome = "stays as it was" if os.path.exists(arguments.output) else "was not written"
        print(
            f"pyroberta: the training diverged: {why}. {arguments.output} {outcome}; try a lower --learning-rate than "
            f"{arguments.learning_rate:g}",
            file=sys.stderr,
        )
    return result


def _updates(count: int) -> str:
    return f"{count} update{'s' * (count != 1)}"


def _save(model: Any, output: str) -> None:
    """Saves the trained model, in another place if it can't be saved at `output`.

    Raises:
        OSError: where it couldn't be saved at `output`, naming the other place.
    """
    try:
        model.save_to_preset(output)
    except OSError as error:
        place = _rescue(model, os.path.basename(os.path.normpath(output)))
        if place is None:
            raise
        raise type(error)(f"{error} The trained model was saved to {place} instead.") from error


def _rescue(model: Any, name: str) -> str | None:
    """Saves a model where there is room: here, at home, or among temporary files. None if there is no room."""
    import tempfile

    for find in (os.getcwd, lambda: os.path.expanduser("~"), tempfile.gettempdir):
        with contextlib.suppress(OSError):
            place = tempfile.mkdtemp(prefix=f"{name}.rescued-", dir=find())
            try:
                model.save_to_preset(place)
            except BaseException:
                os.rmdir(place)
                raise
            return place
    return None
