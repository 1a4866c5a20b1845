"""`pyroberta classify`: trains a classifier of texts, evaluates it, and predicts classes."""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyroberta.cli import options, training
from pyroberta.cli.parser import Actions
from pyroberta.cli.texts import add_source, add_texts, answers, given_texts, source_of
from pyroberta.data.labels import MOST_NAMES, giver_of, warn_of_many
from pyroberta.formats.budget import printable
from pyroberta.formats.counts import counted
from pyroberta.model.callers import callers_level

if TYPE_CHECKING:
    from pyroberta.presets.preset import Preset
    from pyroberta.tasks.text_classifier import TextClassifier

SUMMARY = "train a classifier of texts, measure it, and ask it"
EXAMPLES = (
    "pyroberta classify train reviews.csv --column text --label stars -o stars --epochs 3 --validation 10%",
    "pyroberta classify train pairs.tsv --column premise --column hypothesis --label gold -o nli",
    "pyroberta classify evaluate held_out.csv --column text --label stars --model stars",
    "pyroberta classify evaluate held_out.csv --column text --label stars --model stars --errors 5 --json",
    'pyroberta classify predict "A joy to watch." --model stars',
    "pyroberta classify predict --file new.csv --column text --model stars --json > labels.jsonl",
)
LONG_TEXTS = ("cut", "refuse")  # a classifier gives each text one class


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's actions."""
    actions = Actions(parser, EXAMPLES)
    train = actions.add("train", "train a classifier on texts with labels, and save it")
    add_source(train, has_labels=True)
    options.add_preset(train)
    options.add_backend(train)
    options.add_long_texts(train, "cut", LONG_TEXTS)
    options.add_training(train)

    evaluate = actions.add("evaluate", "precision, recall, F1 and errors of each class, and which are confused")
    add_source(evaluate, has_labels=True)
    predict = actions.add("predict", "the most likely class of each text")
    add_texts(predict, has_pairs=True)
    for one in (evaluate, predict):
        options.add_preset(one, required=True)
        options.add_backend(one)
        one.add_argument("--batch-size", type=options.positive, metavar="N", default=32, help="texts in a batch")
        options.add_long_texts(one, "cut", LONG_TEXTS)
        one.add_argument("--quiet", action="store_true", help="no progress")
    evaluate.add_argument(
        "--errors", type=options.positive, metavar="N", help="show the N wrong predictions with the highest probability"
    )


def run(arguments: argparse.Namespace) -> Any:
    """Runs the action. See `_train`, `_evaluate` and `_predict`."""
    return {"train": _train, "evaluate": _evaluate, "predict": _predict}[arguments.action](arguments)


def _train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains a classifier. The result is that of `training.train`, with the names of the classes."""
    from pyroberta.presets.preset import open_preset

    training.check(arguments)
    share = training.share_or_file(arguments)
    source = source_of(arguments, arguments.texts)
    labels = _names_of(source)
    warn_of_many(giver_of(source), labels)
    validation = None
    if share is not None:
        _check_share(labels, share)
    elif arguments.validation is not None:
        held_out = source_of(arguments, arguments.validation)
        validation = held_out.texts, _names_of(held_out)
    preset = open_preset(arguments.model)
    names = sorted(set(labels), key=_in_order)
    model = _model_for(arguments, preset, names)
    if not arguments.quiet:
        print(_classes(names, labels), file=sys.stderr)
    rate = preset.learning_rates.get("masked_lm")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"y gives \d+ classes")  # the warning with the column is out
        result = training.train(arguments, model, source, labels, validation, rate_of_masked_lm=rate)
    if not (result.get("interrupted") or result.get("diverged")):
        _hint_at_chance(labels, result["history"])
    return {**result, "labels": model.labels}


def _hint_at_chance(labels: list[str], history: Mapping[str, Sequence[float]]) -> None:
    """Says on stderr if the last epoch's loss is that of guessing: the entropy of the classes' shares."""
    shares = [count / len(labels) for count in Counter(labels).values()]
    chance = -sum(share * math.log(share) for share in shares)
    name = "val_loss" if "val_loss" in history else "loss"
    loss = [*history.get(name, ())][-1:]
    if loss and loss[0] > 0.98 * chance:
        print(
            f"pyroberta: {name} {loss[0]:.4f} of the last epoch is that of guessing ({chance:.4f}), so the classifier "
            "has learned hardly anything yet: give more --epochs, or a higher --learning-rate, such as 1e-3",
            file=sys.stderr,
        )


def _check_share(labels: list[str], share: float) -> None:
    """Warns where the last share of the texts, or what is before it, lacks a class: the table may be sorted.

    Warns:
        UserWarning: naming the class.
    """
    start = int(len(labels) * (1 - share))
    parts = {"train on": labels[:start], "evaluate on": labels[start:]}
    lacking = [(part, name) for part, some in parts.items() for name in sorted(set(labels) - set(some), key=_in_order)]
    for part, name in lacking[:1]:
        warnings.warn(
            f"the texts to {part} have none of the class {name!r}: --validation {share:.0%} takes the last ones as "
            "they stand. If the table is sorted, shuffle its rows, or give a file",
            stacklevel=callers_level(),
        )


def _names_of(source: Any) -> list[str]:
    """The label of each text as the name of its class: numbers and booleans in their text.

    Raises:
        ValueError: for a label that is none of these.
    """
    found = []
    for i, label in enumerate(source.labels):
        if isinstance(label, float) and label.is_integer():
            label = int(label)
        if source.classes and isinstance(label, int):
            label = source.classes[label]
        if not isinstance(label, str | int):
            raise ValueError(f"label {label!r} of {source.place(i)} should be a name or a whole number")
        found.append(str(label))
    return found


def _classes(names: list[str], labels: list[str]) -> str:
    """A line about the classes that the labels give, by which a misspelt one is seen.

    >>> _classes([" good", "good"], ["good", " good", "good"])
    "2 classes: ' good' (1 text), 'good' (2 texts)"
    """
    counts = Counter(labels)
    some = [f"{name!r} ({counted(counts[name], 'text')})" for name in names[:MOST_NAMES]]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{len(names)} classes: {', '.join(some)}{more}"


def _in_order(name: str) -> tuple[bool, int, str]:
    """Sorts numbers by their values, before names.

    >>> sorted(["10", "9", "b", "a"], key=_in_order)
    ['9', '10', 'a', 'b']
    """
    is_number = name.isascii() and name.isdigit()
    return not is_number, int(name) if is_number else 0, name


def _model_for(arguments: argparse.Namespace, preset: Preset, names: list[str]) -> TextClassifier:
    """The preset with a head for these classes: its own, if it is a classifier for them, or a fresh one.

    Raises:
        ValueError: for a single class, and for a preset that is a classifier for others.
    """
    from pyroberta.tasks.text_classifier import TextClassifier

    if len(names) < 2:
        raise ValueError(f"all labels are {names[0]!r}: a classifier needs texts of at least two classes")
    how = {"backend": arguments.backend, "seed": arguments.seed}
    if preset.config.head != TextClassifier.head:
        return TextClassifier.from_preset(preset, labels=names, **how)
    model = TextClassifier.from_preset(preset, **how)
    unknown = [name for name in names if name not in (model.labels or [])]
    if unknown:
        raise ValueError(
            f"{arguments.model} is a classifier for {', '.join(model.labels or [])}, and the label {unknown[0]!r} is "
            "not one of these. Start from a masked LM, such as --model roberta_tiny_en"
        )
    return model


def _loaded(arguments: argparse.Namespace) -> TextClassifier:
    """The classifier that `--model` names.

    Raises:
        ValueError: if the preset is none.
    """
    from pyroberta.presets.preset import open_preset
    from pyroberta.tasks.text_classifier import TextClassifier

    preset = open_preset(arguments.model)
    if preset.config.head != TextClassifier.head:
        raise ValueError(
            f"{arguments.model} is not a classifier. Train one from it: pyroberta classify train FILE --column NAME "
            f"--label NAME --model {arguments.model} -o DIR"
        )
    return TextClassifier.from_preset(preset, backend=arguments.backend)


def _evaluate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures a classifier. The result is that of `class_report.report`."""
    from pyroberta.cli.class_report import lines, report, worst
    from pyroberta.data.labels import Labels

    source, model = source_of(arguments, arguments.texts), _loaded(arguments)
    labels = source.labels
    if all(isinstance(label, int) for label in labels or ()) and set(map(str, labels or ())) <= set(model.labels):
        labels = [str(label) for label in labels or ()]  # its names are numbers
    texts = source.texts
    numbers = Labels(model.num_classes, model.labels).numbers(labels, len(texts), source.place, source.classes)
    logits = model.predict(
        texts,
        batch_size=arguments.batch_size,
        long_texts=arguments.long_texts,
        verbose=0 if arguments.quiet else 1,
    )
    found = report(logits, numbers, model.labels)
    if arguments.errors:
        found["errors"] = worst(texts, logits, numbers, model.labels, arguments.errors, source.place)
    if not arguments.json:
        print("\n".join(lines(found)))
    return found


def _predict(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Asks a classifier. There is a result for each text, with the class's number, name and probability."""
    source, model = given_texts(arguments, streams=True), _loaded(arguments)
    if source.is_once and "batch_size" in arguments.given:
        warnings.warn(
            "--batch-size has no effect on a pipe, whose texts are classified one by one as they come: write them to a "
            "file first, or leave it out",
            stacklevel=callers_level(),
        )
    width = max(len(printable(name)) for name in model.labels)
    for text, found in answers(arguments, model, "classify", source, batch_size=arguments.batch_size):
        if not arguments.json:
            line = text if isinstance(text, str) else " | ".join(text)
            print(f"{printable(found.name):<{width}}  {found.score:6.1%}  {line}")
        yield {"text": text, **found.as_dict()}
