"""Few tokens times all the kernels of the encoder, once each: what a forward pass for a sentence is made of.

    python benchmarks/kernels.py                         # roberta-base's 72 kernels, 340 MB
    python benchmarks/kernels.py --tokens 1 16 --runs 9
    python benchmarks/kernels.py --size small --runs 2   # does it work?

gemm.py multiplies by the same matrix again and again, which then lies in the cache. Here every kernel is another one,
as in a model, and with few tokens the time goes into reading them. The input is the same for all: N rows.

    native      `pyroberta._native.matmul(x, W)`
    prepared    `pyroberta._native.linear_forward` with kernels from `prepare`, which are packed; a bias comes with it
    numpy       `np.matmul`
    torch       `torch.mm`

A turn is `--calls` passes over all kernels, its time their median; the figure is the median of the turns.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from batches import SIZES, Shape
from gemm import libraries
from harness import Machine, Worker, limit_threads, median, parser, positive, say, span, table, write

TOKENS = [1, 4, 16, 24, 25, 64, 96, 128, 256, 512, 1024]


def kernel_shapes(shape: Shape) -> list[tuple[int, int]]:
    """(in, out) of every kernel of the encoder."""
    L, C, F = (shape[key] for key in ("num_layers", "hidden_dim", "intermediate_dim"))
    return [*[(C, C)] * 4, (C, F), (F, C)] * L


class Side:
    """All kernels, and a way to multiply by one."""

    def __init__(self, name: str, shape: Shape, threads: int) -> None:
        rng = np.random.default_rng(0)
        self.kernels = [rng.random(pair, np.float32) - np.float32(0.5) for pair in kernel_shapes(shape)]
        self.widest = max(inputs for inputs, _ in kernel_shapes(shape))
        self.multiply, self.prepared = self.way(name, threads)

    def way(self, name: str, threads: int) -> tuple[Callable[[Any, Any], Any], list[Any]]:
        if name == "numpy":
            return np.matmul, self.kernels
        if name == "torch":
            import torch

            torch.set_num_threads(threads)
            return (lambda x, w: torch.mm(torch.from_numpy(x), w)), [torch.from_numpy(w) for w in self.kernels]
        from pyroberta import _native

        if name == "native":
            return _native.matmul, self.kernels
        biases = {w.shape[1]: np.zeros(w.shape[1], np.float32) for w in self.kernels}
        return (
            lambda x, w: _native.linear_forward(x, w, biases[w.kernel.shape[1]]),
            [_native.prepare(w) for w in self.kernels],
        )

    def inputs(self, tokens: int) -> dict[int, np.ndarray]:
        rng = np.random.default_rng(1)
        return {w.shape[0]: rng.random((tokens, w.shape[0]), np.float32) for w in self.kernels}

    def sample(self, tokens: int) -> np.ndarray:
        x = self.inputs(tokens)
        last = [np.asarray(self.multiply(x[w.shape[0]], p)) for w, p in zip(self.kernels, self.prepared, strict=True)]
        return np.concatenate([y.reshape(-1)[:: max(1, y.size // 100)] for y in last])

    def seconds(self, tokens: int, calls: int) -> float:
        """Of one pass over all kernels, the median of the calls."""
        x = self.inputs(tokens)
        pairs = [(x[w.shape[0]], p) for w, p in zip(self.kernels, self.prepared, strict=True)]
        found = []
        for _ in range(calls):
            started = time.perf_counter()
            for inputs, kernel in pairs:
                self.multiply(inputs, kernel)
            found.append(time.perf_counter() - started)
        return median(found)


def main() -> None:
    p = parser(__doc__, runs=5, threads=2)
    p.add_argument("--size", choices=SIZES, default="base", help="of the model (default: %(default)s)")
    p.add_argument("--tokens", type=positive, nargs="+", default=TOKENS, help="N (default: %(default)s)")
    p.add_argument("--calls", type=positive, default=5, help="in a turn (default: %(default)s)")
    arguments = p.parse_args()
    limit_threads(arguments.threads)
    machine = Machine.this()
    names = libraries()
    if "native" in names:
        names.insert(names.index("native") + 1, "prepared")
    shape = SIZES[arguments.size]
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(Side, name, shape, arguments.threads)) for name in names}
        report(workers, shape, arguments, machine)


def report(workers: dict[str, Worker], shape: Shape, arguments: argparse.Namespace, machine: Machine) -> None:
    """Measures and prints everything."""
    kernels = kernel_shapes(shape)
    numbers = sum(inputs * outputs for inputs, outputs in kernels)
    say(str(machine))
    say(
        f"size {arguments.size}: {len(kernels)} kernels, {4 * numbers / 1e6:.0f} MB; {arguments.threads} threads each; "
        f"ms for all of them, medians of {arguments.runs} turns\n"
    )
    rows, points = [], []
    for tokens in arguments.tokens:
        samples = {name: worker.call("sample", tokens) for name, worker in workers.items()}
        for name, sample in samples.items():
            if not np.allclose(sample, samples["numpy"], rtol=1e-3, atol=1e-2):
                raise SystemExit(f"{tokens} tokens: {name} does not agree with numpy")
        seconds: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(arguments.runs):
            for name, worker in workers.items():
                seconds[name].append(worker.call("seconds", tokens, arguments.calls))
        medians = {name: median(values) for name, values in seconds.items()}
        others = [value for name, value in medians.items() if name in ("numpy", "torch")]
        row = [str(tokens), *(f"{1e3 * value:.1f}" for value in medians.values())]
        row += [f"{min(others) / medians[name]:.2f}" for name in ("native", "prepared") if name in medians]
        rows.append([*row, *(span([1e3 * s for s in seconds[name]]) for name in workers if name == "prepared")])
        points.append({"tokens": tokens, "seconds": seconds})
    ours = ["native is x", "prepared is x", "prepared, of all"] if "prepared" in workers else []
    say(table(["tokens", *workers, *ours], rows))
    say("\n'is x': how many times as fast as the better one of the others.")
    write(
        arguments.json,
        {"machine": dataclasses.asdict(machine), "arguments": vars(arguments), "kernels": kernels, "points": points},
    )


if __name__ == "__main__":
    main()
