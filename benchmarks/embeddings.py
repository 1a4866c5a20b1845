"""What cosines of embeddings tell, as they are, centered and whitened: a small retrieval task.

    python benchmarks/embeddings.py                  # minutes
    python benchmarks/embeddings.py --texts 50       # does it work?
    python scripts/corpus.py --only brown            # for the second text; it is left out where it isn't there

Paragraphs of at least four sentences are cut into two halves of sentences. Each first half asks for its second half,
among those of all queries, by the cosine of their embeddings: how often is the right one the first, how often among the
first ten, and what is the mean of 1 / rank? The normalizations are fitted on halves of other paragraphs of the same
text. The preset was trained on neither text.

    random pairs   mean and standard deviation of the cosine of halves of different paragraphs
    words          the baseline without a model: cosines of word counts, log(1 + count) times the logarithm of the
                   inverse share of the halves that have the word, fitted on the same other halves
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from harness import Machine, say
from numpy.typing import NDArray

import pyroberta
import pyroberta.data

Array = NDArray[np.float64]
Halves = tuple[list[str], list[str]]

BROWN = Path(__file__).resolve().parents[1] / ".cache" / "corpus" / "brown.txt"
LONGEST = 500  # characters of a paragraph
SEED = 0


def halves(paragraphs: Sequence[str]) -> Halves:
    """The two halves of each paragraph that has at least four sentences, in a random order that is always the same."""
    firsts, seconds = [], []
    for i in np.random.default_rng(SEED).permutation(len(paragraphs)):
        sentences = re.split(r"(?<=[.!?]) +(?=[A-Z\"'])", paragraphs[i])
        if len(sentences) >= 4 and len(paragraphs[i]) <= LONGEST:
            middle = len(sentences) // 2
            firsts.append(" ".join(sentences[:middle]))
            seconds.append(" ".join(sentences[middle:]))
    return firsts, seconds


def words(text: str) -> Counter[str]:
    """How often each word of a text occurs in it, in lower case."""
    return Counter(re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower()))


def word_vectors(fitted_on: Sequence[str], texts: Sequence[str]) -> Array:
    """The weighted word counts of texts; words that `fitted_on` lacks count as if one of its texts had them."""
    shares = Counter(word for text in fitted_on for word in words(text))
    columns = {word: i for i, word in enumerate(sorted({w for text in texts for w in words(text)}))}
    found = np.zeros((len(texts), len(columns)))
    for row, text in zip(found, texts, strict=True):
        for word, count in words(text).items():
            row[columns[word]] = np.log1p(count) * np.log((1 + len(fitted_on)) / max(1, shares[word]))
    return found


def cosines(queries: Array, answers: Array) -> Array:
    """The cosine of each query with each answer."""
    unit = [some / np.linalg.norm(some, axis=1, keepdims=True) for some in (queries, answers)]
    found: Array = unit[0] @ unit[1].T
    return found


def figures(similarity: Array) -> list[str]:
    """The cells of a row: random pairs; right at rank 1, within rank 10, mean reciprocal rank."""
    others = similarity[~np.eye(len(similarity), dtype=bool)]
    ranks = (similarity >= np.diag(similarity)[:, None]).sum(axis=1)
    return [
        f"{others.mean():.2f} ± {others.std():.2f}", f"{100 * (ranks == 1).mean():.1f} %",
        f"{100 * (ranks <= 10).mean():.1f} %", f"{(1 / ranks).mean():.3f}",
    ]  # fmt: skip


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="roberta_tiny_en", metavar="PRESET")
    parser.add_argument("--texts", type=int, default=300, metavar="N", help="queries")
    options = parser.parse_args()
    masked_lm = pyroberta.MaskedLM.from_preset(options.model)
    layers = masked_lm.backbone.config.num_layers
    sources = {"speeches": pyroberta.data.speeches()}
    if BROWN.is_file():
        sources["Brown"] = BROWN.read_text(encoding="utf-8").splitlines()
    say(f"{Machine.this()}")
    start = time.perf_counter()
    for name, paragraphs in sources.items():
        firsts, seconds = halves(paragraphs)
        count = min(options.texts, len(firsts) // 3)
        queries, answers = firsts[:count], seconds[:count]
        others = (firsts[count : 3 * count + 200], seconds[count : 3 * count + 200])
        fitted_on = [*others[0], *others[1]]
        say(f"\n{name}: {count} queries; fitted on {len(fitted_on)} halves of other paragraphs\n")
        say("| layer | normalization | random pairs | first | in first ten | mean 1/rank |\n|---|---|---|---|---|---|")
        for layer in sorted({0, layers // 2, layers}):
            cases = {"none": None} | {
                method: masked_lm.fit_normalization(fitted_on, method, layer=layer, long_texts="cut", verbose=0)
                for method in ("center", "whiten")
            }
            plain = [
                masked_lm.embed(some, layer=layer, long_texts="cut", verbose=0).astype(np.float64)
                for some in (queries, answers)
            ]
            for method, fitted in cases.items():
                pair = plain if fitted is None else [fitted(some) for some in plain]
                say(f"| {layer} | {method} | {' | '.join(figures(cosines(*pair)))} |")
        vectors = word_vectors(fitted_on, [*queries, *answers])
        say(f"| | words | {' | '.join(figures(cosines(vectors[:count], vectors[count:])))} |")
    say(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
