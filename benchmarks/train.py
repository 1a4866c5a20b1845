"""Training speed: this project's NumPy backend beside `transformers`, one AdamW step after the other, in turns.

    python benchmarks/train.py                          # roberta-base's size; 16 GB of memory
    python benchmarks/train.py --size small --runs 3    # a quick check that everything works

Two batches. `dense`: 8 sequences of 128 tokens. `ragged`: 16 paragraphs of 10 to 300 tokens, which pyroberta lays end
to end, and transformers gets as its users give them, padded on the right with an attention mask. Both are real prose,
with a tokenizer trained on it here, and masked by pyroberta's preprocessor: the same positions for both.

Each library runs in a process of its own with the same number of threads; one computes while the other waits. A step is
what a user's training step is: forward with dropout 0.1, loss, backward, AdamW; arrays in, the loss as a number out.
transformers: `RobertaForMaskedLM`, float32, labels -100 where nothing is masked, `torch.optim.AdamW(fused=True)`, which
is what its Trainer takes. Both start from the same random weights; before anything is timed their losses without
dropout are compared.

Tokens per second count real tokens, no padding. The peak is the process's, libraries included. The share of the
roofline is what the step needs in products of matrices, over the best rate that `numpy.matmul` reached in this run on
the model's own shapes. With N tokens, M of them masked, L layers, S_b tokens in sequence b, the packed step that
projects the masked rows alone needs, forward once and backward twice,

    3 · 2 · (N · L · (4 C² + 2 C F)  +  2 C L · Σ_b S_b²  +  M (C² + C V))

operations: linear layers, attention, head. What an implementation does beyond that (logits of tokens that are not
masked, padding, logits made twice) does not count for it, and neither does all work that is no product of matrices.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

SIZES: dict[str, dict[str, int]] = {
    "base": {"num_layers": 12, "num_heads": 12, "hidden_dim": 768, "intermediate_dim": 3072, "vocabulary_size": 50265},
    "small": {"num_layers": 2, "num_heads": 4, "hidden_dim": 256, "intermediate_dim": 1024, "vocabulary_size": 10000},
}
RATE = 5e-5
DECAY = 0.01


@dataclass(frozen=True)
class Case:
    """A batch as Keras's users know it: (B, S) tokens and (B, K) masks. B sequences, S columns, K mask slots."""

    name: str
    token_ids: np.ndarray
    padding_mask: np.ndarray
    mask_positions: np.ndarray
    labels: np.ndarray
    weights: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return self.padding_mask.sum(axis=1)  # (B,)

    def flops(self, shape: dict[str, int]) -> float:
        """What the packed step needs; see the top of the page."""
        L, C, F, V = (shape[key] for key in ("num_layers", "hidden_dim", "intermediate_dim", "vocabulary_size"))
        N, M, squares = self.lengths.sum(), (self.weights > 0).sum(), (self.lengths**2).sum()
        return float(6 * (N * L * (4 * C**2 + 2 * C * F) + 2 * C * L * squares + M * (C**2 + C * V)))


def cases() -> list[Case]:
    """The two batches, the same ones every time."""
    from pyroberta.data import speeches
    from pyroberta.model.batch import pad
    from pyroberta.text.preprocessor import MaskedLMPreprocessor
    from pyroberta.text.tokenizer import Tokenizer

    paragraphs = speeches()
    tokenizer = Tokenizer.train(paragraphs, vocab_size=8000)
    preprocessor = MaskedLMPreprocessor(tokenizer, sequence_length=512)
    encoded = sorted(preprocessor.encode(paragraphs), key=len)
    lengths = np.array([len(ids) for ids in encoded])
    # The shortest paragraph of at least 10, 29, … tokens each, and 300 at the most.
    ragged = [encoded[np.searchsorted(lengths, length)][:300] for length in np.linspace(10, 300, 16).astype(int)]
    prose = np.concatenate(preprocessor.encode(paragraphs))[: 8 * 128]
    found = []
    for name, sequences in (("dense", list(prose.reshape(8, 128))), ("ragged", ragged)):
        batch = preprocessor.mask(sequences, np.random.default_rng(0))
        padded = pad(batch, max(map(len, sequences)), 96, tokenizer.pad_id)
        found.append(Case(name, *padded))
    return found


# --- what runs in the two processes; each holds one model and answers the parent's calls ------------------------------


class Ours:
    """pyroberta on its NumPy backend."""

    def __init__(self, case: Case, shape: dict[str, int], directory: str) -> None:
        from pyroberta import Backbone, MaskedLM, optimizers

        self.case = case
        self.model = MaskedLM(Backbone(**shape, dropout=0.1, backend="numpy", initializer="hf"))
        self.model.compile(optimizer=optimizers.TorchAdamW(RATE, weight_decay=DECAY))
        self.model.save_to_preset(directory)
        self.features = {name: getattr(case, name) for name in ("token_ids", "padding_mask", "mask_positions")}
        self.shapes = [
            (case.lengths.sum(), shape["hidden_dim"], shape["hidden_dim"]),
            (case.lengths.sum(), shape["hidden_dim"], shape["intermediate_dim"]),
            (case.lengths.sum(), shape["intermediate_dim"], shape["hidden_dim"]),
            ((case.weights > 0).sum(), shape["hidden_dim"], shape["vocabulary_size"]),
        ]

    def about(self) -> str:
        import pyroberta

        return f"pyroberta {pyroberta.__version__}, NumPy {np.__version__}, backend {self.model.backbone.ops.name}"

    def loss(self) -> float:
        return float(self.model.test_on_batch(self.features, self.case.labels, self.case.weights)[0])

    def step(self) -> float:
        return float(self.model.train_on_batch(self.features, self.case.labels, self.case.weights)[0])

    def matmul_rate(self) -> float:
        """The best operations per second of `numpy.matmul` on the model's shapes."""
        best = 0.0
        for rows, inner, columns in self.shapes:
            a, b = np.ones((rows, inner), np.float32), np.ones((inner, columns), np.float32)
            out = np.ones((rows, columns), np.float32)
            for _ in range(3):
                started = time.perf_counter()
                np.matmul(a, b, out=out)
                best = max(best, 2.0 * rows * inner * columns / (time.perf_counter() - started))
        return best


class Theirs:
    """transformers."""

    def __init__(self, case: Case, attention: str | None, directory: str, threads: int) -> None:
        import torch
        import transformers

        torch.set_num_threads(threads)
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.model = transformers.RobertaForMaskedLM.from_pretrained(directory, attn_implementation=attention)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
        labels = np.full(case.token_ids.shape, -100)
        rows, slots = np.nonzero(case.weights)
        labels[rows, case.mask_positions[rows, slots]] = case.labels[rows, slots]
        self.batch = {
            "input_ids": torch.tensor(case.token_ids, dtype=torch.int64),
            "attention_mask": torch.tensor(case.padding_mask, dtype=torch.int64),
            "labels": torch.tensor(labels, dtype=torch.int64),
        }

    def about(self) -> str:
        import torch
        import transformers

        return (
            f"transformers {transformers.__version__}, torch {torch.__version__}, "
            f"attention {self.model.config._attn_implementation!r}"
        )

    def loss(self) -> float:
        import torch

        self.model.eval()
        with torch.no_grad():
            value = float(self.model(**self.batch).loss)
        self.model.train()
        return value

    def step(self) -> float:
        self.optimizer.zero_grad()
        loss = self.model(**self.batch).loss
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def serve(connection: Connection, kind: type, *arguments: Any) -> None:
    """The worker's life: makes the model, then answers each method's name with (its result, the seconds it took)."""
    worker = kind(*arguments)
    connection.send("ready")
    while (name := connection.recv()) is not None:
        started = time.perf_counter()
        result = peak_megabytes() if name == "peak" else getattr(worker, name)()
        connection.send((result, time.perf_counter() - started))


def peak_megabytes() -> float:
    """The most memory this process has held."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss, which on Linux also remembers the process that this one was started from.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


class Worker:
    """The parent's end: a process, and calls to it that wait for the answer."""

    def __init__(self, kind: type, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, kind, *arguments), daemon=True)
        self.process.start()
        theirs.close()  # so that a worker that dies is an EOFError here, not a wait without end
        self.connection.recv()

    def call(self, name: str) -> tuple[Any, float]:
        self.connection.send(name)
        return self.connection.recv()

    def stop(self) -> None:
        self.connection.send(None)
        self.process.join()


# --- the parent -------------------------------------------------------------------------------------------------------


def measured(case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    """One case's figures."""
    shape = SIZES[arguments.size]
    with tempfile.TemporaryDirectory() as directory:
        preset = str(Path(directory) / "model")
        ours = Worker(Ours, case, shape, preset)
        theirs = Worker(Theirs, case, arguments.attention, preset, arguments.threads)
    losses = ours.call("loss")[0], theirs.call("loss")[0]
    if not abs(losses[0] - losses[1]) <= 1e-4 * losses[1]:
        raise SystemExit(f"{case.name}: the losses without dropout differ, ours {losses[0]}, theirs {losses[1]}")
    ours.call("step"), theirs.call("step")  # warms up; Adam's moments are made here
    our_seconds, their_seconds, rates = [], [], []
    for _ in range(arguments.runs):
        our_seconds.append(ours.call("step")[1])
        their_seconds.append(theirs.call("step")[1])
        rates.append(ours.call("matmul_rate")[0])
    our_peak, their_peak = ours.call("peak")[0], theirs.call("peak")[0]
    about = ours.call("about")[0], theirs.call("about")[0]
    ours.stop()
    theirs.stop()
    our_median, their_median = statistics.median(our_seconds), statistics.median(their_seconds)
    tokens, flops = int(case.lengths.sum()), case.flops(shape)
    return {
        "case": case.name,
        "sequences": len(case.lengths),
        "tokens": tokens,
        "padded_tokens": int(case.token_ids.size),
        "masked": int((case.weights > 0).sum()),
        "ours": about[0],
        "theirs": about[1],
        "our_seconds": our_seconds,
        "their_seconds": their_seconds,
        "our_tokens_per_s": tokens / our_median,
        "their_tokens_per_s": tokens / their_median,
        "ratio": their_median / our_median,
        "our_peak_mb": our_peak,
        "their_peak_mb": their_peak,
        "gflop": flops / 1e9,
        "matmul_gflops": max(rates) / 1e9,
        "roofline_share": flops / our_median / max(rates),
        "their_roofline_share": flops / their_median / max(rates),
    }


def processor() -> str:
    """The CPU's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="base", help="of the model (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=7, help="timed steps of each, in turns (default: %(default)s)")
    parser.add_argument("--case", choices=("dense", "ragged"), help="one batch alone; both otherwise")
    parser.add_argument("--threads", type=int, default=2, help="of each library (default: %(default)s)")
    parser.add_argument("--attention", choices=("eager", "sdpa"), help="transformers' kind; its default otherwise")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    arguments = parser.parse_args()
    if arguments.runs < 1 or arguments.threads < 1:
        parser.error("--runs and --threads must be at least 1")
    return arguments


def main() -> None:
    arguments = parsed_arguments()
    for library in ("OPENBLAS", "OMP", "MKL"):  # before the workers start and load them
        os.environ[f"{library}_NUM_THREADS"] = str(arguments.threads)
    os.environ["HF_HUB_OFFLINE"] = "1"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    rows = [measured(case, arguments) for case in cases() if arguments.case in (None, case.name)]
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": arguments.threads,
        "python": platform.python_version(),
        "size": arguments.size,
        "shape": SIZES[arguments.size],
        "runs": arguments.runs,
        "load": load,
        "cases": rows,
    }
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{rows[0]['ours']}  |  {rows[0]['theirs']}  |  Python {result['python']}")
    print(f"{result['cpu']}, {result['cores']} cores, {arguments.threads} threads each; {result['date']}")
    print(f"size {arguments.size}: {SIZES[arguments.size]}; medians of {arguments.runs} steps in turns, after one\n")
    print(f"{'':<8}{'tokens':>7}{'padded':>8}{'masked':>8}{'tokens/s':>16}{'ratio':>8}{'peak, MB':>16}{'roofline':>20}")
    print(f"{'':<31}{'ours':>8}{'theirs':>8}{'':>8}{'ours':>8}{'theirs':>8}{'share of GFLOP/s':>20}")
    for row in rows:
        print(
            f"{row['case']:<8}{row['tokens']:>7}{row['padded_tokens']:>8}{row['masked']:>8}"
            f"{row['our_tokens_per_s']:>8.0f}{row['their_tokens_per_s']:>8.0f}{row['ratio']:>8.2f}"
            f"{row['our_peak_mb']:>8.0f}{row['their_peak_mb']:>8.0f}"
            f"{row['roofline_share']:>10.0%} of{row['matmul_gflops']:>7.0f}"
        )
    print("\nratio: ours over theirs in tokens per second; above 1 ours is faster.")
    before = "" if load is None else f" (the load before this run was {load:.1f})"
    print(f"Timings are noisy: believe them on an idle machine alone{before}, and compare ratios, not seconds.")
    for row in rows:
        spread = [f"{min(row[k]):.2f} to {max(row[k]):.2f}" for k in ("our_seconds", "their_seconds")]
        print(f"seconds a step, {row['case']}: ours {spread[0]}, theirs {spread[1]}")


if __name__ == "__main__":
    main()
