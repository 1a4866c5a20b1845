"""Finds the learning rate that suits a preset: fits it to texts of different kinds at a grid of rates.

    python scripts/corpus.py --only commentary postgresql    # two of the texts; the third ships with the package
    python scripts/find_learning_rate.py                     # roberta_tiny_en, minutes
    python scripts/find_learning_rate.py --write             # and keep the rate in the embedded preset
    python scripts/find_learning_rate.py --model ./mine --texts a.txt b.txt c.txt --rates 1e-5 3e-5 1e-4

Each text gives paragraphs to train on, few and more of them, and others that are held out; which is decided by a fixed
seed. A fit is what `pyroberta fit` does: Adam, whose rate rises over 6 % of the updates and falls to 0. After it, the
loss over masked tokens of the held-out paragraphs is measured; the same tokens are masked for every rate.

The rule, which was stated before the first run: the recommended rate is the one with the lowest mean of these losses
over all texts and sizes. It has to lie inside the grid: at its edge nothing is recommended, and the grid must be
widened.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from corpus import DEFAULT_FOLDER, read_paragraphs

import pyroberta
import pyroberta.data
from pyroberta.presets import learning_rates

EMBEDDED = Path(pyroberta.__file__).parent / "presets" / "embedded"
RATES = (5e-5, 1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3)
SIZES = (100, 500)  # paragraphs to train on
HELD_OUT = 150
LONGEST, SHORTEST = 400, 60  # characters of a paragraph
WARM_UP = 0.06  # of the updates, as in `pyroberta fit`
SEED = 0

Texts = dict[str, list[str]]


def chosen(paragraphs: Sequence[str], count: int) -> list[str]:
    """`count` paragraphs of ordinary length, in a random order that is always the same."""
    fitting = [paragraph for paragraph in paragraphs if SHORTEST <= len(paragraph) <= LONGEST]
    if len(fitting) < count:
        raise SystemExit(f"there are {len(fitting)} paragraphs of {SHORTEST} to {LONGEST} characters; {count} needed")
    order = np.random.default_rng(SEED).permutation(len(fitting))
    return [fitting[i] for i in order[:count]]


def fitted(preset: str, texts: Sequence[str], rate: float, epochs: int, batch_size: int) -> pyroberta.MaskedLM:
    """The preset's model after a fit at that rate."""
    masked_lm = pyroberta.MaskedLM.from_preset(preset, seed=SEED)
    updates = -(-len(texts) // batch_size) * epochs
    schedule = pyroberta.schedules.Linear(rate, updates, warmup_steps=round(WARM_UP * updates))
    masked_lm.compile(optimizer=pyroberta.optimizers.Adam(schedule))
    masked_lm.fit(list(texts), batch_size=batch_size, epochs=epochs, long_texts="cut", verbose=0)
    return masked_lm


def held_out_loss(masked_lm: pyroberta.MaskedLM, texts: Sequence[str]) -> float:
    """The mean loss over the masked tokens of texts, in nats."""
    metrics: dict[str, float] = masked_lm.evaluate(list(texts), long_texts="cut", verbose=0, return_dict=True)
    return metrics["loss"]


def processor() -> str:
    """The CPU's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def best_rate(rates: Sequence[float], means: Sequence[float]) -> float | None:
    """The rate of the lowest mean; None where that is the first or the last, or where no mean is a number.

    >>> best_rate([1e-4, 1e-3, 1e-2], [3.0, 2.5, 2.7]), best_rate([1e-4, 1e-3], [3.0, 2.5])
    (0.001, None)
    """
    finite = [value if np.isfinite(value) else np.inf for value in means]
    i = int(np.argmin(finite))
    return rates[i] if 0 < i < len(rates) - 1 and np.isfinite(finite[i]) else None


def measured(preset: str, texts: Texts, rates: Sequence[float], sizes: Sequence[int], epochs: int) -> dict[str, Any]:
    """The held-out loss of every text and size, before a fit and after one at each rate."""
    columns = [(name, size) for name in texts for size in sizes]
    fresh = pyroberta.MaskedLM.from_preset(preset)
    kept = {name: (some[:HELD_OUT], some[HELD_OUT:]) for name, some in texts.items()}
    before = {name: held_out_loss(fresh, held) for name, (held, _) in kept.items()}
    losses: dict[float, list[float]] = {}
    for rate in rates:
        losses[rate] = []
        for name, size in columns:
            held, training = kept[name]
            try:
                loss = held_out_loss(fitted(preset, training[:size], rate, epochs, batch_size=16), held)
            except ArithmeticError:  # it diverged
                loss = float("inf")
            losses[rate].append(loss)
        print(f"{rate:g}: {' '.join(f'{loss:.3f}' for loss in losses[rate])}", flush=True)
    means = {rate: float(np.mean(some)) for rate, some in losses.items()}
    return {
        "columns": columns,
        "before": [before[name] for name, _ in columns],
        "losses": losses,
        "means": means,
        "best": best_rate(list(means), list(means.values())),
    }


def table(found: dict[str, Any]) -> str:
    """The result in Markdown."""
    head = ["rate", *(f"{name}, {size}" for name, size in found["columns"]), "mean"]
    rows = [["before", *found["before"], float(np.mean(found["before"]))]]
    rows += [[f"{rate:g}", *losses, found["means"][rate]] for rate, losses in found["losses"].items()]
    lines = [head, ["---"] * len(head), *([row[0], *(f"{loss:.3f}" for loss in row[1:])] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="roberta_tiny_en", metavar="PRESET")
    parser.add_argument("--texts", type=Path, nargs="+", metavar="FILE", help="one paragraph a line, .txt or .txt.gz")
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES), metavar="RATE")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), metavar="N", help="paragraphs to train on")
    parser.add_argument("--epochs", type=int, default=3, metavar="N")
    parser.add_argument("--write", action="store_true", help="keep the rate in the embedded preset of that name")
    options = parser.parse_args(arguments)
    place = EMBEDDED / options.model
    if options.write and not place.is_dir():
        raise SystemExit(f"--write is for an embedded preset; {options.model!r} is none")

    count = HELD_OUT + max(options.sizes)
    if options.texts:
        texts = {path.name.partition(".")[0]: chosen(read_paragraphs(path), count) for path in options.texts}
    else:
        texts = {"speeches": chosen(pyroberta.data.speeches(), count)}
        for name in ("commentary", "postgresql"):
            path = DEFAULT_FOLDER / f"{name}.txt"
            if not path.is_file():
                raise SystemExit(f"there is no {path}: run `python scripts/corpus.py --only {name}` first")
            texts[name] = chosen(read_paragraphs(path), count)
    start = time.perf_counter()
    found = measured(options.model, texts, sorted(options.rates), options.sizes, options.epochs)
    print(f"\nHeld-out loss of {options.model} after {options.epochs} epochs, batches of 16:\n\n{table(found)}\n")
    print(f"{time.perf_counter() - start:.0f} s on {processor()}")
    if found["best"] is None:
        raise SystemExit("the lowest mean is at the edge of the grid: give --rates beyond it")
    print(f"recommended: {found['best']:g}")
    if options.write:
        content = {learning_rates.KEY: {"masked_lm": found["best"]}}
        (place / learning_rates.FILE).write_text(json.dumps(content, indent=2) + "\n")
        print(f"written to {place / learning_rates.FILE}")


if __name__ == "__main__":
    main()
