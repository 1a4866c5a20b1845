"""Products of matrices: every one of a RoBERTa training step, ours beside NumPy's and torch's, in turns.

    python benchmarks/gemm.py                            # roberta-base's, 512 to 4096 tokens, two threads
    python benchmarks/gemm.py --threads 1 --tokens 1024
    python benchmarks/gemm.py --size small --runs 2      # does it work?

N tokens, M of them masked (15 %), hidden C, feed-forward F, vocabulary V. Kernels W lie (in, out), as in the model:

    x W              forward
    dy Wᵀ            backward, the input's gradient
    dW += xᵀ dy      backward, the kernel's gradient, added to what is there
    h Eᵀ             the head's logits, E the (V, C) token embedding
    dz E             their backward
    dE += dzᵀ h

Ours is `pyroberta._native.gemm(a, b, out, accumulate)`; without it the others run alone. NumPy's is `np.matmul` with
`out=`, and where it accumulates, a second pass that adds; torch's are `torch.mm` with `out=` and `addmm_`. Transposes
are views. A time is the mean over a turn's calls (0.1 s of them, or one), the figure the median of the turns. The last
row of each N is all products of one step together, each as often as it occurs, attention's own left out: it says how
fast a step could be if everything else took no time.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from batches import SIZES, Shape
from harness import Machine, Worker, installed, limit_threads, median, parser, positive, say, table, write

TURN = 0.1  # seconds of calls in a turn
TOKENS = [512, 1024, 2048, 4096]
LIBRARIES = {"native": ("pyroberta",), "numpy": ("numpy",), "torch": ("torch",)}


@dataclasses.dataclass(frozen=True)
class Product:
    """out (m, n) = or += a (m, k) b (k, n). A factor that is transposed lies the other way round in memory."""

    name: str
    m: int
    k: int
    n: int
    a_transposed: bool = False
    b_transposed: bool = False
    accumulates: bool = False
    count: int = 1  # how often a training step has it

    @property
    def flops(self) -> float:
        return 2.0 * self.m * self.k * self.n


def products(shape: Shape, N: int) -> list[Product]:
    """All products of a training step of N tokens but attention's own."""
    L, C, F, V = (shape[key] for key in ("num_layers", "hidden_dim", "intermediate_dim", "vocabulary_size"))
    M = math.ceil(0.15 * N)

    def linear(where: str, rows: int, inputs: int, outputs: int, count: int) -> list[Product]:
        return [
            Product(f"{where}: x W", rows, inputs, outputs, count=count),
            Product(f"{where}: dy Wᵀ", rows, outputs, inputs, b_transposed=True, count=count),
            Product(f"{where}: xᵀ dy", inputs, rows, outputs, a_transposed=True, accumulates=True, count=count),
        ]

    return [
        *linear("attention", N, C, C, 4 * L),
        *linear("feed-forward in", N, C, F, L),
        *linear("feed-forward out", N, F, C, L),
        *linear("head", M, C, C, 1),
        Product("table: h Eᵀ", M, C, V, b_transposed=True),
        Product("table: dz E", M, V, C),
        Product("table: dzᵀ h", V, M, C, a_transposed=True, accumulates=True),
    ]


def forward_products(shape: Shape, N: int, M: int) -> list[Product]:
    """The four shapes whose best rate is the roofline of a step."""
    C, F, V = (shape[key] for key in ("hidden_dim", "intermediate_dim", "vocabulary_size"))
    return [
        Product("x W", N, C, C),
        Product("x W", N, C, F),
        Product("x W", N, F, C),
        Product("h Eᵀ", M, C, V, b_transposed=True),
    ]


class Library:
    """One side. `multiplier` gives the call that is timed."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.ready: dict[Product, tuple[np.ndarray, Callable[[], Any]]] = {}

    def about(self) -> str:
        raise NotImplementedError

    def multiplier(self, a: np.ndarray, b: np.ndarray, out: np.ndarray, accumulates: bool) -> Callable[[], Any]:
        raise NotImplementedError

    def prepare(self, product: Product) -> np.ndarray:
        """Makes the factors, multiplies once, and returns a sample of the result. Forgets the product before."""
        self.ready.clear()
        rng = np.random.default_rng(0)
        p = product

        def factor(rows: int, columns: int, transposed: bool) -> np.ndarray:
            lying = rng.random((columns, rows) if transposed else (rows, columns), np.float32) - np.float32(0.5)
            return lying.T if transposed else lying

        a, b = factor(p.m, p.k, p.a_transposed), factor(p.k, p.n, p.b_transposed)
        out = np.zeros((p.m, p.n), np.float32)
        call = self.multiplier(a, b, out, p.accumulates)
        call()
        self.ready[p] = out, call
        return out.reshape(-1)[:: max(1, out.size // 1000)].copy()

    def seconds(self, product: Product) -> float:
        """Of one call, in the mean over a turn of them."""
        _, call = self.ready[product]
        started, calls = time.perf_counter(), 0
        while calls == 0 or time.perf_counter() - started < TURN:
            call()
            calls += 1
        return (time.perf_counter() - started) / calls

    def best_rate(self, some: list[Product]) -> float:
        """The most operations per second that any single call reaches, three calls for each product."""
        best = 0.0
        for product in some:
            if product not in self.ready:
                kept = dict(self.ready)
                self.prepare(product)
                self.ready |= kept
            for _ in range(3):
                started = time.perf_counter()
                self.ready[product][1]()
                best = max(best, product.flops / (time.perf_counter() - started))
        return best


class NumPyLibrary(Library):
    """np.matmul."""

    def about(self) -> str:
        return f"NumPy {np.__version__}"

    def multiplier(self, a: np.ndarray, b: np.ndarray, out: np.ndarray, accumulates: bool) -> Callable[[], Any]:
        if not accumulates:
            return lambda: np.matmul(a, b, out=out)
        product = np.empty_like(out)

        def call() -> None:
            nonlocal out
            np.matmul(a, b, out=product)
            out += product

        return call


class TorchLibrary(Library):
    """torch.mm and addmm_."""

    def __init__(self, threads: int) -> None:
        import torch

        super().__init__(threads)
        torch.set_num_threads(threads)

    def about(self) -> str:
        import torch

        return f"torch {torch.__version__}"

    def multiplier(self, a: np.ndarray, b: np.ndarray, out: np.ndarray, accumulates: bool) -> Callable[[], Any]:
        import torch

        # Tensors on the same memory, strides included.
        left, right, result = (torch.from_numpy(array) for array in (a, b, out))
        if accumulates:
            return lambda: result.addmm_(left, right)
        return lambda: torch.mm(left, right, out=result)


class NativeLibrary(Library):
    """pyroberta._native.gemm."""

    def about(self) -> str:
        from pyroberta import __version__
        from pyroberta.backends import backends

        reasons = {name: reason for name, _, reason in backends()}
        return f"pyroberta {__version__} ({reasons['native']})"

    def multiplier(self, a: np.ndarray, b: np.ndarray, out: np.ndarray, accumulates: bool) -> Callable[[], Any]:
        from pyroberta import _native

        return lambda: _native.gemm(a, b, out, accumulates)


KINDS: dict[str, type[Library]] = {"native": NativeLibrary, "numpy": NumPyLibrary, "torch": TorchLibrary}


def libraries() -> list[str]:
    """Those that are there. Ours is as soon as `pyroberta._native` has a `gemm`."""
    available = installed(LIBRARIES, LIBRARIES)
    try:
        from pyroberta import _native

        _native.gemm  # noqa: B018
    except (ImportError, AttributeError) as error:
        say(f"left out: pyroberta's gemm ({error})")
        available.remove("native")
    return available


def measured(workers: dict[str, Worker], product: Product, runs: int) -> dict[str, Any]:
    """One product's figures."""
    samples = {name: worker.call("prepare", product) for name, worker in workers.items()}
    for name, sample in samples.items():
        if not np.allclose(sample, samples["numpy"], rtol=1e-3, atol=1e-4 * math.sqrt(product.k)):
            raise SystemExit(f"{product}: {name} does not agree with numpy")
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(runs):
        for name, worker in workers.items():
            seconds[name].append(worker.call("seconds", product))
    return {**dataclasses.asdict(product), "seconds": seconds}


def figures(label: str, flops: float, seconds: dict[str, float]) -> list[str]:
    """A row of the table: GFLOP/s of each, and ours over the best other."""
    rates = {name: flops / value / 1e9 for name, value in seconds.items()}
    others = [rate for name, rate in rates.items() if name != "native"]
    ratio = f"{rates['native'] / max(others):.2f}" if "native" in rates and others else ""
    return [label, *(f"{rate:.1f}" for rate in rates.values()), ratio]


def main() -> None:
    p = parser(__doc__, runs=5, threads=2)
    p.add_argument("--size", choices=SIZES, default="base", help="of the model (default: %(default)s)")
    p.add_argument(
        "--tokens", type=positive, nargs="+", default=[512, 1024, 2048, 4096], help="N (default: %(default)s)"
    )
    arguments = p.parse_args()
    limit_threads(arguments.threads)
    machine = Machine.this()
    names = libraries()
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(KINDS[name], arguments.threads)) for name in names}
        report(workers, arguments, machine)


def report(workers: dict[str, Worker], arguments: argparse.Namespace, machine: Machine) -> None:
    """Measures and prints everything."""
    names = [*workers]
    about = {name: worker.call("about") for name, worker in workers.items()}
    say("  |  ".join(about.values()))
    say(str(machine))
    say(f"size {arguments.size}, {arguments.threads} threads each; GFLOP/s, medians of {arguments.runs} turns")
    head = ["", *names, "ours/best other"]
    record: dict[str, Any] = {
        "machine": dataclasses.asdict(machine),
        "about": about,
        "arguments": vars(arguments),
        "products": [],
    }
    for N in arguments.tokens:
        rows, flops, step = [], 0.0, dict.fromkeys(names, 0.0)
        for product in products(SIZES[arguments.size], N):
            found = measured(workers, product, arguments.runs)
            medians = {name: median(found["seconds"][name]) for name in names}
            label = f"{product.name:<24}{f'{product.m} x {product.k} x {product.n}':<20}"
            rows.append(figures(label, product.flops, medians))
            record["products"].append({"tokens": N, **found})
            flops += product.count * product.flops
            for name in names:
                step[name] += product.count * medians[name]
        say(f"\nN = {N}")
        say(table(head, [*rows, figures("all of a step", flops, step)]))
    write(arguments.json, record)


if __name__ == "__main__":
    main()
