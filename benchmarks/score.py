"""`score` of many short texts: packed beside one text after the other, in turns; the share of the GEMM rate; memory.

    python benchmarks/score.py                           # the embedded preset
    python benchmarks/score.py --size base --texts 64    # roberta-base's shape with random weights
    python benchmarks/score.py --texts 40 --runs 2       # does it work?

The texts are sentences of 6 to 16 tokens. What is timed goes from strings to `TextScore`s, tokenizer included.

    one by one   a loop that calls `score(text)` for each text
    packed       `score(texts)`
    N tokens     the same, with a budget of N tokens for a batch instead of pyroberta's own

The scores are compared before anything is timed. The share is that of the best rate which any library reached in this
run, on the products of matrices of one batch: the operations that scoring needs, over its time and that rate. The last
layer's are counted for the masked rows alone, since no others are computed.

The memory is the peak of a process that scores some texts with the embedded preset, and of one that scores ten times as
many: short ones, and ones of some 110 tokens, which is nearly what that model takes.
"""

from __future__ import annotations

import argparse
import dataclasses
from contextlib import ExitStack
from typing import Any

import numpy as np
from batches import SIZES, Shape
from gemm import forward_products, libraries
from harness import (
    BACKENDS,
    Machine,
    Worker,
    limit_threads,
    median,
    our_backends,
    parser,
    positive,
    say,
    span,
    table,
    write,
)
from train import Roofline

PRESET = "roberta_tiny_en"
SHORT = range(6, 17)  # tokens of a text, <s> and </s> included
BUDGETS = (256, 512, 1024, 2048, 4096, 8192)
FEW, MANY = {"short": 400, "long": 2}, {"short": 4000, "long": 20}  # texts whose memory is measured


class Scorer:
    """pyroberta: a model and the texts that it scores. kind: "short", "long"; count: how many of them."""

    def __init__(self, size: str, backend: str, kind: str, count: int) -> None:
        from pyroberta import Backbone, MaskedLM
        from pyroberta.data import speeches
        from pyroberta.tasks import inference

        self.model = MaskedLM.from_preset(PRESET, backend=backend)
        if size != "tiny":
            self.model = MaskedLM(Backbone(**SIZES[size], backend=backend, initializer="hf"), self.model.preprocessor)
        tokenizer = self.model.preprocessor.tokenizer
        if kind == "long":
            ids = np.concatenate(tokenizer.encode_batch(speeches(), add_special_tokens=False))
            texts, length = [], self.model.backbone.config.max_sequence_length
            while len(texts) < count:  # cut so that no more tokens come of it when it is encoded again
                texts.append(tokenizer.decode(ids[len(texts) * length :][: length - 20]))
        else:
            sentences = [f"{s.strip()}." for paragraph in speeches() for s in paragraph.split(".") if s.strip()]
            encoded = tokenizer.encode_batch(sentences)
            texts = [s for s, ids in zip(sentences, encoded, strict=True) if len(ids) in SHORT]
        self.texts = [texts[i % len(texts)] for i in range(count)]
        self.lengths = [len(ids) for ids in tokenizer.encode_batch(self.texts)]
        self.inference, self.budget = inference, inference.TOKENS_AT_ONCE

    def about(self) -> dict[str, Any]:
        import pyroberta

        config = self.model.backbone.config
        return {
            "name": f"pyroberta {pyroberta.__version__}, NumPy {np.__version__}, {self.model.backbone.ops.name}",
            "shape": {name: getattr(config, name) for name in SIZES["base"]},
            "lengths": self.lengths,
            "budget": self.budget,
        }

    def one_by_one(self) -> list[float]:
        return [self.model.score(text, verbose=0).total for text in self.texts]

    def packed(self, budget: int | None = None) -> list[float]:
        self.inference.TOKENS_AT_ONCE = budget or self.budget
        return [score.total for score in self.model.score(self.texts, verbose=0)]


def flops(shape: Shape, lengths: list[int]) -> float:
    """Of the products of matrices that scoring texts of such lengths needs: S - 2 masked copies of S tokens each."""
    L, C, F, V = (shape[key] for key in ("num_layers", "hidden_dim", "intermediate_dim", "vocabulary_size"))
    S = np.array(lengths, np.float64)
    copies = S - 2
    N, M = (copies * S).sum(), copies.sum()
    row, keys = 2 * C**2 + 2 * C * F, 2 * C**2  # weights that a token's own row meets; and those for its key and value
    attended = (L - 1) * (copies * S**2).sum() + (copies * S).sum()  # pairs of a query and a key
    return float(2 * (N * L * keys + (N * (L - 1) + M) * row + 2 * C * attended + M * (C**2 + C * V)))


def measured(workers: dict[str, Worker], roofline: Roofline, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of every turn, by backend and by what is timed."""
    ways: dict[str, tuple[Any, ...]] = {"one by one": ("one_by_one",), "packed": ("packed",)}
    ways |= {f"{budget} tokens": ("packed", budget) for budget in BUDGETS}
    seconds: dict[str, dict[str, list[float]]] = {name: {way: [] for way in ways} for name in workers}
    about = {name: worker.call("about") for name, worker in workers.items()}
    shape, lengths, budget = (next(iter(about.values()))[key] for key in ("shape", "lengths", "budget"))
    for worker in workers.values():
        alone, together = worker.call("one_by_one"), worker.call("packed")
        if not np.allclose(alone, together, rtol=1e-4, atol=1e-4):
            raise SystemExit("the scores of texts that are packed differ from those of each alone")
    for _ in range(arguments.runs):
        for way, call in ways.items():
            for name, worker in workers.items():
                seconds[name][way].append(worker.timed(*call)[1])
        roofline.measure(forward_products(shape, budget, round(budget / np.mean(lengths))))
    return {"about": about, "flops": flops(shape, lengths), "seconds": seconds}


def memory(backend: str) -> dict[str, dict[str, float]]:
    """Peak megabytes of a process that scores few texts, and many, by their kind."""
    found: dict[str, dict[str, float]] = {}
    for kind in FEW:
        found[kind] = {}
        for amount, count in (("few", FEW[kind]), ("many", MANY[kind])):
            with Worker(Scorer, "tiny", backend, kind, count) as worker:
                worker.call("packed")
                found[kind][amount] = worker.call("peak")
    return found


def report(record: dict[str, Any], texts: int) -> None:
    best = max(record["gemm_gflops"].values())
    listed = ", ".join(f"{name} {rate:.0f}" for name, rate in record["gemm_gflops"].items())
    say(f"best products of matrices, GFLOP/s: {listed}")
    for name, ways in record["seconds"].items():
        say(f"\n{record['about'][name]['name']}; its budget is {record['about'][name]['budget']} tokens\n")
        alone = median(ways["one by one"])
        rows = [
            [
                way,
                f"{texts / median(seconds):.1f}",
                f"{alone / median(seconds):.2f}",
                f"{record['flops'] / 1e9 / median(seconds) / best:.0%}",
                span(seconds),
            ]
            for way, seconds in ways.items()
        ]
        say(table(["", "texts/s", "x one by one", "of the GEMM rate", "s, of all turns"], rows))
        for kind, peaks in record["memory"][name].items():
            few, many = FEW[kind], MANY[kind]
            say(f"peak memory, {kind} texts: {peaks['few']:.0f} MB for {few}, {peaks['many']:.0f} MB for {many}")


def main() -> None:
    p = parser(__doc__, runs=5, threads=2)
    p.add_argument("--size", choices=["tiny", *SIZES], default="tiny", help="of the model (default: %(default)s)")
    p.add_argument("--texts", type=positive, default=400, help="how many (default: %(default)s)")
    p.add_argument("--backend", choices=BACKENDS, default="native", help="ours (default: %(default)s)")
    arguments = p.parse_args()
    limit_threads(arguments.threads)
    machine = Machine.this()
    backends = our_backends(arguments.backend)
    say(str(machine))
    say(f"{arguments.size}, {arguments.texts} texts, {arguments.threads} threads; medians of {arguments.runs} turns")
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(Scorer, arguments.size, name, "short", arguments.texts))
            for name in backends
        }
        roofline = Roofline(stack, libraries(), arguments.threads)
        record = measured(workers, roofline, arguments)
        record["gemm_gflops"] = {name: rate / 1e9 for name, rate in roofline.rates.items()}
    record["memory"] = {name: memory(name) for name in backends}
    report(record, arguments.texts)
    write(arguments.json, {"machine": dataclasses.asdict(machine), "arguments": vars(arguments), **record})


if __name__ == "__main__":
    main()
