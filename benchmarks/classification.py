"""A classifier beside naive Bayes, on the same split: which president speaks in a paragraph?

    python benchmarks/classification.py                 # minutes
    python benchmarks/classification.py --texts 200     # does it work?

The texts are the paragraphs of `pyroberta.data.speeches()` with at least 60 characters, the classes those of
`pyroberta.data.speakers()`. A fixed seed puts a fifth of them aside for the test and a tenth for choosing; the rest is
trained on.

    most frequent   the class that most training paragraphs have
    naive Bayes     multinomial, on lower-case words, with additive smoothing (McCallum and Nigam 1998); the amount of
                    smoothing is the one that does best on the part for choosing
    fine-tuned      `TextClassifier` of the preset
    adapted         the same, but of a masked LM that was first fitted to the training paragraphs, without their classes

Both classifiers are fitted at each learning rate, and what does best on the part for choosing is what is tested. The
test part is looked at once for each row.
"""

from __future__ import annotations

import argparse
import itertools
import re
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from harness import Machine, say
from numpy.typing import NDArray

import pyroberta

Ids = NDArray[np.int64]

SHORTEST = 60  # characters
SMOOTHING = (0.01, 0.03, 0.1, 0.3, 1.0)
RATES = (5e-4, 1e-3)
SEED = 0


class Part(NamedTuple):
    """Texts and their classes."""

    texts: list[str]
    labels: Ids


class Split(NamedTuple):
    """The parts of a labelled text."""

    training: Part
    choosing: Part
    test: Part


def split(limit: int | None) -> tuple[Split, list[str]]:
    """The parts, and the classes' names."""
    pairs = zip(pyroberta.data.speeches(), pyroberta.data.speakers(), strict=True)
    texts, speakers = zip(*((text, name) for text, name in pairs if len(text) >= SHORTEST), strict=True)
    names = sorted(set(speakers))
    labels = np.array([names.index(name) for name in speakers])
    order = np.random.default_rng(SEED).permutation(len(texts))[:limit]
    bounds = [0, len(order) // 5, len(order) * 3 // 10, len(order)]
    test, choosing, training = (order[a:b] for a, b in itertools.pairwise(bounds))
    return Split(*(Part([texts[i] for i in some], labels[some]) for some in (training, choosing, test))), names


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower())


class NaiveBayes:
    """Multinomial naive Bayes: each word is drawn from the distribution of its class.

    Args:
        part: to fit on.
        classes: their number.
        smoothing: is added to each word's count in each class.
    """

    def __init__(self, part: Part, classes: int, smoothing: float) -> None:
        self.numbers = {word: i for i, word in enumerate(sorted({w for text in part.texts for w in words(text)}))}
        counts = np.full((classes, len(self.numbers)), smoothing)
        for text, label in zip(part.texts, part.labels, strict=True):
            np.add.at(counts[label], self._known(text), 1.0)
        self.log_words = np.log(counts / counts.sum(axis=1, keepdims=True))
        self.log_classes = np.log(np.bincount(part.labels, minlength=classes) / len(part.labels))

    def _known(self, text: str) -> list[int]:
        return [self.numbers[word] for word in words(text) if word in self.numbers]

    def predict(self, texts: Sequence[str]) -> Ids:
        """The likeliest class of each text."""
        scores = [self.log_classes + self.log_words[:, self._known(text)].sum(axis=1) for text in texts]
        return np.array(scores).argmax(axis=1)


def accuracy(found: Ids, part: Part) -> float:
    """The share of right classes."""
    return float((found == part.labels).mean())


def fine_tuned(preset: str, parts: Split, names: list[str], rate: float, epochs: int) -> pyroberta.TextClassifier:
    """A classifier fitted on the training part, with the rate rising over 6 % of the updates and falling to 0."""
    classifier = pyroberta.TextClassifier.from_preset(preset, num_classes=len(names), labels=names, seed=SEED)
    updates = -(-len(parts.training.texts) // 16) * epochs
    classifier.compile(
        pyroberta.optimizers.AdamW(pyroberta.schedules.Linear(rate, updates, warmup_steps=round(0.06 * updates)))
    )
    classifier.fit(*parts.training, batch_size=16, epochs=epochs, long_texts="cut", verbose=0)
    return classifier


def adapted(preset: str, texts: list[str], epochs: int) -> pyroberta.MaskedLM:
    """The preset's masked LM, fitted to texts at its recommended rate."""
    masked_lm = pyroberta.MaskedLM.from_preset(preset, seed=SEED)
    masked_lm.compile(pyroberta.optimizers.AdamW(masked_lm.recommended_learning_rate or 5e-5))
    masked_lm.fit(texts, batch_size=16, epochs=epochs, verbose=0)
    return masked_lm


def main() -> None:
    """The command."""
    import tempfile
    import warnings

    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="roberta_tiny_en", metavar="PRESET")
    parser.add_argument("--texts", type=int, metavar="N", help="use so many paragraphs only")
    parser.add_argument("--epochs", type=int, default=6, metavar="N", help="of a classifier's fit")
    parser.add_argument("--adapt-epochs", type=int, default=5, metavar="N", help="of the masked LM's fit")
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES), metavar="RATE")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "of .* texts .* cut|of .* texts .* split")

    parts, names = split(options.texts)
    say(f"{Machine.this()}")
    say(f"{' / '.join(str(len(part.texts)) for part in parts)} paragraphs to train on, to choose by, to test on")
    rows: list[tuple[str, str, float, float, float]] = []

    most = np.bincount(parts.training.labels).argmax()
    same = [np.full(len(part.texts), most) for part in parts]
    rows.append(("most frequent", names[most], accuracy(same[1], parts[1]), accuracy(same[2], parts[2]), 0.0))

    start = time.perf_counter()
    bayes = {amount: NaiveBayes(parts.training, len(names), amount) for amount in SMOOTHING}
    chosen = {amount: accuracy(one.predict(parts.choosing.texts), parts.choosing) for amount, one in bayes.items()}
    best = max(chosen, key=lambda amount: chosen[amount])
    tested = accuracy(bayes[best].predict(parts.test.texts), parts.test)
    rows.append(("naive Bayes", f"smoothing {best:g}", chosen[best], tested, time.perf_counter() - start))

    with tempfile.TemporaryDirectory() as directory:
        for title in ("fine-tuned", "adapted"):
            preset, start = options.model, time.perf_counter()
            if title == "adapted":
                adapted(preset, parts.training.texts, options.adapt_epochs).save_to_preset(directory)
                preset = directory
            found = {}
            for rate in options.rates:
                model = fine_tuned(preset, parts, names, rate, options.epochs)
                answers = [model.predict(part.texts, verbose=0).argmax(axis=1) for part in (parts[1], parts[2])]
                found[rate] = (accuracy(answers[0], parts[1]), answers[1])
            rate = max(found, key=lambda rate: found[rate][0])
            seconds = time.perf_counter() - start
            rows.append((title, f"rate {rate:g}", found[rate][0], accuracy(found[rate][1], parts[2]), seconds))

    say("\n| | chosen | part for choosing | test | seconds |\n|---|---|---|---|---|")
    for title, choice, choosing, test, seconds in rows:
        say(f"| {title} | {choice} | {100 * choosing:.1f} % | {100 * test:.1f} % | {seconds:.0f} |")
    error = np.sqrt(rows[1][3] * (1 - rows[1][3]) / len(parts.test.texts))
    say(f"\nStandard error of a share of the test: about {100 * error:.1f} points.")


if __name__ == "__main__":
    main()
