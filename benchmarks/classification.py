"""A classifier beside naive Bayes, on the same splits of labelled texts that ship with the package.

    python benchmarks/classification.py                      # both tasks, many minutes
    python benchmarks/classification.py --task question      # minutes
    python benchmarks/classification.py --texts 60           # does it work?

    question    is a sentence a question? Its last character, `?` or `.`, is taken away. All questions of 4 to 30 words
                of `pyroberta.data.speeches()`, and as many statements, drawn at random
    president   who speaks? Paragraphs of at least 60 characters, and `pyroberta.data.speakers()`

A fixed seed cuts the texts into five folds. Each in turn is the test, the next one is there to choose by, the other
three are trained on; what is printed is the share of right classes over all folds that were tested (of `president` the
first one alone, for time).

    most frequent   the class that most training texts have
    naive Bayes     multinomial, on lower-case words, with additive smoothing (McCallum and Nigam 1998), of the amount
                    that does best on the fold to choose by
    linear          ridge regression on whitened embeddings of the last layer, of the preset as it is
    fine-tuned      `TextClassifier` of the preset, at the learning rate that does best on the fold to choose by
    adapted         the same, but of a masked LM that was first fitted to the training texts, without their classes; of
                    `question` alone, for time
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from harness import Machine, say
from numpy.typing import NDArray

import pyroberta
import pyroberta.data

Ids = NDArray[np.int64]
Predict = Callable[[Sequence[str]], Ids]  # the class of each text
Fit = Callable[[], Predict]

FOLDS = 5
SMOOTHING = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SEED = 0
WAYS = ("most frequent", "naive Bayes", "linear", "fine-tuned", "adapted")


class Part(NamedTuple):
    """Texts and their classes."""

    texts: list[str]
    labels: Ids

    def of(self, indices: Ids) -> Part:
        """Those of these numbers."""
        return Part([self.texts[i] for i in indices], self.labels[indices])


class Task(NamedTuple):
    """A labelled text, and how a classifier is fitted on it.

    Attributes:
        labelled: all of it, in a random order.
        names: of the classes.
        folds: how many are tested.
        epochs: of a classifier's fit.
        rates: learning rates to choose from.
        is_adapted: whether the masked LM is fitted, too.
    """

    labelled: Part
    names: list[str]
    folds: int
    epochs: int
    rates: tuple[float, ...]
    is_adapted: bool


def shuffled(texts: Sequence[str], labels: Sequence[int]) -> Part:
    """Texts and classes, in a random order that is always the same."""
    return Part(list(texts), np.array(labels)).of(np.random.default_rng(SEED).permutation(len(texts)))


def question() -> Task:
    """Questions and statements without their last character."""
    sentences = [s for paragraph in pyroberta.data.speeches() for s in re.split(r"(?<=[.!?]) +", paragraph)]
    fitting = [s for s in dict.fromkeys(sentences) if re.fullmatch(r"[A-Z].*\w[.?]", s) and 4 <= len(s.split()) <= 30]
    questions, statements = ([s[:-1] for s in fitting if s[-1] == end] for end in "?.")
    drawn = np.random.default_rng(SEED).permutation(len(statements))[: len(questions)]
    texts = questions + [statements[i] for i in drawn]
    return Task(
        shuffled(texts, [1] * len(questions) + [0] * len(questions)),
        ["statement", "question"],
        5,
        8,
        (5e-4, 1e-3),
        True,
    )


def president() -> Task:
    """Paragraphs by who speaks."""
    pairs = zip(pyroberta.data.speeches(), pyroberta.data.speakers(), strict=True)
    texts, speakers = zip(*((text, name) for text, name in pairs if len(text) >= 60), strict=True)
    names = sorted(set(speakers))
    return Task(shuffled(texts, [names.index(name) for name in speakers]), names, 1, 8, (1e-3,), False)


TASKS: Mapping[str, Callable[[], Task]] = {"question": question, "president": president}


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower())


def naive_bayes(part: Part, classes: int, smoothing: float) -> Predict:
    """Multinomial naive Bayes: each word is drawn from the distribution of its class.

    Args:
        part: to fit on.
        classes: their number.
        smoothing: is added to each word's count in each class.
    """
    numbers = {word: i for i, word in enumerate(sorted({w for text in part.texts for w in words(text)}))}
    counts = np.full((classes, len(numbers)), smoothing)
    for text, label in zip(part.texts, part.labels, strict=True):
        np.add.at(counts[label], [numbers[word] for word in words(text)], 1.0)
    log_words = np.log(counts / counts.sum(axis=1, keepdims=True))
    log_classes = np.log(np.bincount(part.labels, minlength=classes) / len(part.labels))

    def predict(texts: Sequence[str]) -> Ids:
        known = [[numbers[word] for word in words(text) if word in numbers] for text in texts]
        found: Ids = np.array([log_classes + log_words[:, some].sum(axis=1) for some in known]).argmax(axis=1)
        return found

    return predict


def most_frequent(part: Part) -> Predict:
    """Always the class that most texts have."""
    return lambda texts: np.full(len(texts), np.bincount(part.labels).argmax())


def linear(preset: str, part: Part, classes: int) -> Predict:
    """Ridge regression of the classes on whitened embeddings, with a penalty of 10; the largest value wins."""
    masked_lm = pyroberta.MaskedLM.from_preset(preset)

    def embedded(texts: Sequence[str]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = masked_lm.embed(list(texts), long_texts="cut", verbose=0)
        return found

    plain, layer = embedded(part.texts), masked_lm.backbone.config.num_layers
    # of each dimension there are four texts at least
    whiten = pyroberta.Normalization.fit(plain, "whiten", layer, num_dimensions=min(64, len(plain) // 4))

    def features(embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.column_stack([whiten(embeddings).astype(np.float64), np.ones(len(embeddings))])

    x, y = features(plain), np.eye(classes)[part.labels]
    solution = np.linalg.solve(x.T @ x + 10.0 * np.eye(x.shape[1]), x.T @ y)
    return lambda texts: (features(embedded(texts)) @ solution).argmax(axis=1)


def fine_tuned(preset: str, part: Part, task: Task, rate: float) -> Predict:
    """A classifier fitted on texts, with a rate that rises over 6 % of the updates and falls to 0."""
    classifier = pyroberta.TextClassifier.from_preset(preset, num_classes=len(task.names), labels=task.names, seed=SEED)
    updates = -(-len(part.texts) // 16) * task.epochs
    schedule = pyroberta.schedules.Linear(rate, updates, warmup_steps=round(0.06 * updates))
    classifier.compile(pyroberta.optimizers.AdamW(schedule))
    classifier.fit(part.texts, part.labels, batch_size=16, epochs=task.epochs, long_texts="cut", verbose=0)

    def predict(texts: Sequence[str]) -> Ids:
        found: Ids = classifier.predict(list(texts), long_texts="cut", verbose=0).argmax(axis=1)
        return found

    return predict


def adapt(preset: str, part: Part, directory: str) -> str:
    """Saves the preset's masked LM, fitted to texts for three epochs at its recommended rate; returns the directory."""
    masked_lm = pyroberta.MaskedLM.from_preset(preset, seed=SEED)
    masked_lm.compile(pyroberta.optimizers.AdamW(masked_lm.recommended_learning_rate or 5e-5))
    masked_lm.fit(part.texts, batch_size=16, epochs=3, verbose=0)
    masked_lm.save_to_preset(directory)
    return directory


def right(predict: Predict, part: Part) -> NDArray[np.bool_]:
    """Which classes are predicted rightly."""
    found: NDArray[np.bool_] = predict(part.texts) == part.labels
    return found


def ways(
    task: Task, preset: str, training: Part, directory: str, wanted: Collection[str]
) -> Iterator[tuple[str, dict[float, Fit]]]:
    """The wanted ways to classify, each with the choices that it has and a function that fits with one."""
    classes = len(task.names)
    plain: dict[str, dict[float, Fit]] = {
        "most frequent": {0.0: partial(most_frequent, training)},
        "naive Bayes": {amount: partial(naive_bayes, training, classes, amount) for amount in SMOOTHING},
        "linear": {0.0: partial(linear, preset, training, classes)},
        "fine-tuned": {rate: partial(fine_tuned, preset, training, task, rate) for rate in task.rates},
    }
    yield from ((title, fits) for title, fits in plain.items() if title in wanted)
    if "adapted" in wanted and task.is_adapted:
        place = adapt(preset, training, directory)
        yield "adapted", {rate: partial(fine_tuned, place, training, task, rate) for rate in task.rates}


def compared(
    task: Task, preset: str, wanted: Collection[str]
) -> dict[str, tuple[list[float], list[bool], list[float]]]:
    """For each way, what was chosen in the folds, which answers are right, and the seconds."""
    rows: dict[str, tuple[list[float], list[bool], list[float]]] = {}
    folds = np.array_split(np.arange(len(task.labelled.texts)), FOLDS)
    for fold in range(task.folds):
        test, choosing, *rest = (folds[(fold + i) % FOLDS] for i in range(FOLDS))
        training = task.labelled.of(np.sort(np.concatenate(rest)))
        with tempfile.TemporaryDirectory() as directory:
            start = time.perf_counter()
            for title, fits in ways(task, preset, training, directory, wanted):
                made = {choice: fit() for choice, fit in fits.items()}
                shares = {choice: right(predict, task.labelled.of(choosing)).mean() for choice, predict in made.items()}
                best = max(shares, key=lambda choice: shares[choice])
                chosen, answers, seconds = rows.setdefault(title, ([], [], []))
                chosen.append(best)
                answers += right(made[best], task.labelled.of(test)).tolist()
                seconds.append(time.perf_counter() - start)
                start = time.perf_counter()
    return rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=list(TASKS), nargs="+", default=list(TASKS))
    parser.add_argument("--model", default="roberta_tiny_en", metavar="PRESET")
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=list(WAYS), help="the rows of the tables")
    parser.add_argument("--texts", type=int, metavar="N", help="use so many texts only")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", ".*of .* texts? .* (cut|split)")

    say(f"{Machine.this()}")
    for name in options.task:
        task = TASKS[name]()
        if options.texts:
            task = task._replace(labelled=task.labelled.of(np.arange(min(options.texts, len(task.labelled.texts)))))
        texts = task.labelled.texts
        rows = compared(task, options.model, options.ways)
        count = len(next(iter(rows.values()))[1])
        say(f"\n{name}: {len(task.names)} classes, {len(texts) * 3 // 5} texts to train on, {count} tested\n")
        say("| | right | standard error | chosen | seconds |\n|---|---|---|---|---|")
        for title, (chosen, answers, seconds) in rows.items():
            share = np.mean(answers)
            error = np.sqrt(share * (1 - share) / count)
            choices = ", ".join(f"{choice:g}" for choice in sorted(set(chosen))) if any(chosen) else ""
            say(f"| {title} | {100 * share:.1f} % | {100 * error:.1f} | {choices} | {sum(seconds):.0f} |")


if __name__ == "__main__":
    main()
