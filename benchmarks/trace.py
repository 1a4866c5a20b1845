"""A trace that goes to disk, beside the same update without one: time, memory, size of the file.

    python benchmarks/trace.py                          # roberta-base's size; takes 6 GB, and 20 GB of disk
    python benchmarks/trace.py --size small --runs 2    # does it work?
    python benchmarks/trace.py --directory /big/disk --bounds none --model-dtype float32

Both sides make one update of a masked LM with fresh values: forward, backward, AdamW with clipping, NumPy in float64,
all rows of the last layer. Each run is a process of its own, in turns.

- untraced: `train_step` on parameters, gradients and the two moments, and nothing else is held;
- traced: `trace(model, texts, into=TraceFile(file))`, the model included. With `--model-dtype float32` the model is
  held beside its parameters in float64, as after `from_preset`.

Memory is the peak of the process (VmHWM). The target: at most 1.2 times the untraced side's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from batches import SIZES
from harness import Machine, Worker, limit_threads, median, parser, positive, say, span, table, write

TEXTS = [
    "We the people of the United States, in order to form a more perfect union, establish justice, insure domestic "
    "tranquility, provide for the common defence, promote the general welfare.",
    "The quick brown fox jumped over the lazy dog, and then it went back to the den where it had slept all winter, for "
    "it was tired of all these pangrams.",
]


class Side:
    """A model of that size."""

    def __init__(self, size: str, dtype: str) -> None:
        import pyroberta
        from pyroberta.tasks.backbone import Backbone

        preprocessor = pyroberta.MaskedLMPreprocessor.from_preset("roberta_base_en")
        sizes = {**SIZES[size], "vocabulary_size": SIZES["base"]["vocabulary_size"]}
        self.model = pyroberta.MaskedLM(Backbone(**sizes, dtype=dtype, backend="numpy"), preprocessor)
        self.model.compile(optimizer=pyroberta.optimizers.AdamW(5e-5, global_clipnorm=1.0))

    def facts(self) -> dict[str, int]:
        """The number of parameters, of tokens and of masks."""
        batch = self._batch()
        return {
            "parameters": self.model.backbone.params.flat.size,
            "tokens": batch.num_tokens,
            "masks": len(batch.labels),
        }

    def untraced(self) -> float:
        """Makes the update; its seconds."""
        from pyroberta.ops import REFERENCE
        from pyroberta.training.state import TrainState
        from pyroberta.training.step import Trained, train_step

        model, batch = self.model, self._batch()
        params = model.backbone.params.astype(np.float64)
        config, loss, optimizer = model.backbone.config, model.loss, model.optimizer
        del self.model, model
        started = time.perf_counter()
        slots = {name: params.zeros_like() for name in optimizer.slot_names}
        trained = Trained(REFERENCE, config, loss, optimizer, list(params), params.zeros_like(), all_rows=True)
        train_step(trained, TrainState(params, slots), [batch])
        return time.perf_counter() - started

    def traced(self, file: str, precision: str | None, steps: int) -> float:
        """Makes the update and writes all of it; its seconds."""
        from pyroberta.oracle.golden import TraceFile
        from pyroberta.oracle.trace import trace

        started = time.perf_counter()
        with TraceFile(file) as into:
            trace(self.model, TEXTS, into=into, precision=precision, steps=steps)
        return time.perf_counter() - started

    def _batch(self) -> Any:
        from pyroberta.ops import Key

        return self.model._reader().examples(TEXTS, None, None).masked(Key.of_evaluation())


def tensors_in(file: Path) -> int:
    """Their number, from the file's header."""
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    return len(header) - 1


def main(arguments: argparse.Namespace) -> None:
    machine = Machine.this()
    say(f"{machine}; NumPy {np.__version__}")
    limit_threads(arguments.threads)
    precision = None if arguments.bounds == "none" else arguments.bounds
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        file = Path(directory, "golden.safetensors")
        calls: dict[str, tuple[Any, ...]] = {
            "untraced": ("untraced",),
            "traced": ("traced", str(file), precision, arguments.steps),
        }
        record: dict[str, Any] = {side: {"seconds": [], "megabytes": []} for side in calls}
        for _ in range(arguments.runs):
            for side, call in calls.items():
                with Worker(Side, arguments.size, arguments.model_dtype) as worker:
                    record["model"] = worker.call("facts")
                    record[side]["seconds"].append(worker.call(*call))
                    record[side]["megabytes"].append(worker.call("peak"))
        record["bytes"], record["tensors"] = file.stat().st_size, tensors_in(file)
    report(record, arguments)
    write(arguments.json, {"machine": dataclasses.asdict(machine), "numpy": np.__version__, **record})


def report(record: dict[str, Any], arguments: argparse.Namespace) -> None:
    facts, rows = record["model"], []
    say(
        f"{facts['parameters']:,} parameters, {facts['tokens']} tokens, {facts['masks']} masks; bounds of "
        f"{arguments.bounds}; the model in {arguments.model_dtype}; updates: {arguments.steps}\n"
    )
    for side in ("untraced", "traced"):
        figures = [
            f"{median(record[side][quantity]) / median(record['untraced'][quantity]):.2f}"
            for quantity in ("seconds", "megabytes")
        ]
        seconds, megabytes = record[side]["seconds"], median(record[side]["megabytes"])
        rows.append([side, f"{median(seconds):.1f}", span(seconds), figures[0], f"{megabytes:.0f}", figures[1]])
    say(table(["", "seconds", "from, to", "ratio", "peak, MB", "ratio"], rows))
    say(f"\nthe file: {record['tensors']:,} tensors, {record['bytes'] / 1e9:.2f} GB")


def made_parser() -> argparse.ArgumentParser:
    made = parser(__doc__ or "", runs=3, threads=1)
    made.add_argument("--size", choices=SIZES, default="base", help="default: %(default)s")
    made.add_argument("--model-dtype", choices=("float64", "float32"), default="float64", help="default: %(default)s")
    made.add_argument("--bounds", choices=("float32", "none"), default="float32", help="default: %(default)s")
    made.add_argument("--steps", type=positive, default=1, help="updates that are traced (default: %(default)s)")
    made.add_argument("--directory", metavar="DIR", help="where the file is written (default: a temporary one)")
    return made


if __name__ == "__main__":
    main(made_parser().parse_args())
