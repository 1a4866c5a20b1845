"""Filling masks: pyroberta beside transformers and onnxruntime, from token ids to the logits at the masks, in turns.

    python benchmarks/inference.py
    python benchmarks/inference.py --size small --runs 2      # does it work?

One `<mask>` in each sequence: one of 16 tokens, one of 128, eight of 128, and 16 paragraphs of 10 to 300 tokens. What
is timed goes from the ids as NumPy arrays to the logits of the masks, (B, 1, V) as a NumPy array; no tokenizer.

    numpy, native   pyroberta, `masked_lm(features)`; it computes the head at the masks alone
    transformers    `RobertaForMaskedLM` (sdpa) under `torch.inference_mode()`
    onnxruntime     that model exported with `torch.onnx.export`, opset 17, float32, all of the session's optimisations

The last two are used as their own pipelines and examples use them: the model gives the logits of every token, padding
too, and those of the masks are picked out of them. All compute in float32 from the same random weights; before
anything is timed, the logits are compared.

Each side has a process of its own; in its turn it answers `--calls` times, and the figure is the median of all calls,
after two that warm up.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from batches import SIZES, Case, filling_cases
from harness import (
    BACKENDS,
    Machine,
    Worker,
    WorkerError,
    installed,
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
from train import save_weights

NEEDS = {
    "transformers": ("torch", "transformers"),
    "onnxruntime": ("onnxruntime", "onnx", "torch", "transformers"),
}
SECONDS = 2.0  # a turn ends after so many seconds, even before it has made all of its calls


class Side:
    """One of them. `logits` is the call that is timed: (B, K, V)."""

    def about(self) -> str:
        raise NotImplementedError

    def logits(self, case: Case) -> np.ndarray:
        raise NotImplementedError

    def seconds(self, case: Case, calls: int) -> list[float]:
        """Of each of up to `calls` calls."""
        found: list[float] = []
        while len(found) < calls and sum(found) < SECONDS:
            started = time.perf_counter()
            self.logits(case)
            found.append(time.perf_counter() - started)
        return found


class Ours(Side):
    """pyroberta."""

    def __init__(self, preset: str, backend: str) -> None:
        from pyroberta import MaskedLM

        self.model = MaskedLM.from_preset(preset, backend=backend, preprocessor=None)

    def about(self) -> str:
        import pyroberta

        return f"pyroberta {pyroberta.__version__}, NumPy {np.__version__}, backend {self.model.backbone.ops.name}"

    def logits(self, case: Case) -> np.ndarray:
        return self.model(case.features)


class Transformers(Side):
    """transformers on torch."""

    def __init__(self, preset: str, threads: int, attention: str = "sdpa") -> None:
        import torch
        import transformers

        torch.set_num_threads(threads)
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.model = transformers.RobertaForMaskedLM.from_pretrained(preset, attn_implementation=attention).eval()

    def about(self) -> str:
        import torch
        import transformers

        attention = self.model.config._attn_implementation
        return f"transformers {transformers.__version__}, torch {torch.__version__}, {attention}"

    def logits(self, case: Case) -> np.ndarray:
        import torch

        with torch.inference_mode():
            ids = torch.from_numpy(case.token_ids).long()
            mask = torch.from_numpy(case.padding_mask).long()
            logits = self.model(input_ids=ids, attention_mask=mask).logits
        return logits[case.masked_places].numpy()[:, None]


def export(preset: str, file: str, threads: int) -> None:
    """Writes the model as ONNX. Traced with eager attention, which is the same arithmetic in plain operations."""
    import warnings

    import torch

    model = Transformers(preset, threads, attention="eager").model
    model.config.use_cache = False
    model.config.return_dict = False
    ids = torch.arange(16).reshape(2, 8) + 3
    axes = {0: "batch", 1: "sequence"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of tracing, and that this exporter is the older one
        torch.onnx.export(
            model,
            (ids, torch.ones_like(ids)),
            file,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": axes},
            opset_version=17,
            dynamo=False,
        )


class OnnxRuntime(Side):
    """onnxruntime on its CPU provider."""

    def __init__(self, file: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def about(self) -> str:
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}, float32"

    def logits(self, case: Case) -> np.ndarray:
        inputs = {
            "input_ids": case.token_ids.astype(np.int64),
            "attention_mask": case.padding_mask.astype(np.int64),
        }
        (logits,) = self.session.run(["logits"], inputs)
        return logits[case.masked_places][:, None]


def measured(case: Case, workers: dict[str, Worker], arguments: argparse.Namespace) -> dict[str, Any]:
    """One case's figures: seconds of each call, by side."""
    expected = None
    for name, worker in workers.items():
        for _ in range(2):
            logits = worker.call("logits", case)
        expected = logits if expected is None else expected
        if logits.shape != expected.shape or not np.abs(logits - expected).max() <= 1e-3:
            raise SystemExit(f"{case.name}: the logits differ: {name}'s from {next(iter(workers))}'s")
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(arguments.runs):
        for name, worker in workers.items():
            seconds[name] += worker.call("seconds", case, arguments.calls)
    return {
        "case": case.name,
        "tokens": case.tokens,
        "padded_tokens": int(case.token_ids.size),
        "milliseconds": {name: 1000.0 * median(values) for name, values in seconds.items()},
        "seconds": seconds,
    }


def report(row: dict[str, Any], backends: list[str]) -> None:
    say(f"\n{row['case']}: {row['tokens']} tokens ({row['padded_tokens']} padded)\n")
    medians = row["milliseconds"]
    rows = [
        [
            name,
            f"{medians[name]:.2f}",
            *(f"{medians[name] / medians[backend]:.2f}" for backend in backends),
            span([1000.0 * value for value in values]),
        ]
        for name, values in row["seconds"].items()
    ]
    say(table(["", "ms", *(f"{backend} is x" for backend in backends), "ms, of all calls"], rows))


def main() -> None:
    p = parser(__doc__, runs=5, threads=2)
    p.add_argument("--size", choices=SIZES, default="base", help="of the model (default: %(default)s)")
    p.add_argument("--calls", type=positive, default=20, help="in a turn, within 2 s (default: %(default)s)")
    p.add_argument("--backend", choices=BACKENDS, default="both", help="ours (default: %(default)s)")
    p.add_argument("--peers", default=",".join(NEEDS), help="a list with commas (default: %(default)s)")
    arguments = p.parse_args()
    arguments.peers = [name for name in arguments.peers.split(",") if name]
    if unknown := [name for name in arguments.peers if name not in NEEDS]:
        p.error(f"--peers: {', '.join(unknown)} is none of {', '.join(NEEDS)}")
    threads = arguments.threads
    limit_threads(threads)
    machine = Machine.this()
    backends = our_backends(arguments.backend)
    peers = installed(arguments.peers, NEEDS)
    say(str(machine))
    say(f"size {arguments.size}, {threads} threads each; medians of {arguments.runs} turns")
    rows, failed = [], {}
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        preset, file = str(Path(directory, "model")), str(Path(directory, "model.onnx"))
        with Worker(save_weights, SIZES[arguments.size], preset):
            pass
        workers = {name: stack.enter_context(Worker(Ours, preset, name)) for name in backends}
        for name in peers:
            try:
                if name == "transformers":
                    workers[name] = stack.enter_context(Worker(Transformers, preset, threads))
                else:
                    with Worker(export, preset, file, threads):
                        pass
                    workers[name] = stack.enter_context(Worker(OnnxRuntime, file, threads))
            except WorkerError as error:
                failed[name] = str(error)
                say(f"{name} FAILED: {error}")
        about = {name: worker.call("about") for name, worker in workers.items()}
        for name, line in about.items():
            say(f"{name}: {line}")
        for case in filling_cases().values():
            rows.append(measured(case, workers, arguments))
            report(rows[-1], backends)
        peaks = {name: worker.call("peak") for name, worker in workers.items()}
    say("\npeak memory of each process over all cases, MB: " + ", ".join(f"{n} {mb:.0f}" for n, mb in peaks.items()))
    say("'numpy is x', 'native is x': how many times as fast as the row's side that backend of ours is.")
    record = {
        "machine": dataclasses.asdict(machine),
        "arguments": vars(arguments),
        "about": about,
        "failed": failed,
        "cases": rows,
        "peak_mb": peaks,
    }
    write(arguments.json, record)


if __name__ == "__main__":
    main()
