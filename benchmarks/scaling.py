"""How the time of our training step grows: with the sequences' length, with the tokens, with the threads.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --size small --runs 2      # does it work?

S: the same number of tokens, 2048, in ever longer sequences, 64 to 512: what attention costs, which grows with S².
N: ever more sequences of 128 tokens, 256 tokens to 8192 in all: what a batch must have to be worth its overhead.
Threads: 8 sequences of 128 tokens on one thread and on as many as there are.

Both backends, in turns. A step is that of train.py, and so is the share of the roofline: what the step needs in
products of matrices, over the best rate that any library reached on that many threads in this run, on any of the
shapes that occur. A batch so small that no library reaches that rate on it is held to it all the same.
"""

from __future__ import annotations

import argparse
import dataclasses
from contextlib import ExitStack
from typing import Any

from batches import SIZES, Case, rectangle
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
    take_turns,
    write,
)
from train import Ours, Roofline, saved_weights

TOKENS, LENGTHS = 2048, (64, 128, 256, 512)
LENGTH, COUNTS = 128, (256, 512, 1024, 2048, 4096, 8192)


def series(threads: list[int], most_tokens: int) -> dict[str, list[tuple[str, Case, int]]]:
    """For each series its points: (label, batch, threads)."""
    most = max(threads)
    return {
        f"S, with N = {TOKENS}": [(f"S = {S}", rectangle(TOKENS // S, S), most) for S in LENGTHS],
        f"N, with S = {LENGTH}": [
            (f"N = {N}", rectangle(N // LENGTH, LENGTH), most) for N in COUNTS if most_tokens >= N
        ],
        f"threads, with 8 x {LENGTH}": [(f"{count}", rectangle(8, LENGTH), count) for count in threads],
    }


def main() -> None:
    p = parser(__doc__, runs=3)
    p.add_argument("--size", choices=SIZES, default="base", help="of the model (default: %(default)s)")
    p.add_argument("--threads", type=positive, nargs="+", default=[1, 2], help="(default: %(default)s)")
    p.add_argument("--most-tokens", type=positive, default=8192, help="the largest N; it takes 10 GB at base size")
    p.add_argument("--backend", choices=BACKENDS, default="both", help="(default: %(default)s)")
    arguments = p.parse_args()
    machine = Machine.this()
    backends = our_backends(arguments.backend)
    say(str(machine))
    say(f"size {arguments.size}; medians of {arguments.runs} steps in turns, after one\n")
    with ExitStack() as stack:
        preset = stack.enter_context(saved_weights(SIZES[arguments.size]))
        record = measured(preset, backends, arguments, stack)
    report(record, backends)
    write(arguments.json, {"machine": dataclasses.asdict(machine), "arguments": vars(arguments), **record})


def measured(preset: str, backends: list[str], arguments: argparse.Namespace, stack: ExitStack) -> dict[str, Any]:
    """Every point's seconds by backend, and the best rates by the number of threads."""
    shape = SIZES[arguments.size]
    workers: dict[int, dict[str, Worker]] = {}
    rooflines: dict[int, Roofline] = {}
    names = libraries()
    for count in arguments.threads:
        limit_threads(count)
        workers[count] = {name: stack.enter_context(Worker(Ours, preset, name)) for name in backends}
        rooflines[count] = Roofline(stack, names, count)

    found: dict[str, list[dict[str, Any]]] = {}
    for name, points in series(arguments.threads, arguments.most_tokens).items():
        found[name] = []
        for label, case, count in points:
            say(f"{name}: {label}")
            for worker in workers[count].values():
                worker.call("step", case)
            seconds = take_turns(workers[count], arguments.runs, "step", case)
            rooflines[count].measure(forward_products(shape, case.tokens, case.masked))
            found[name].append(
                {
                    "point": label,
                    "threads": count,
                    "sequences": len(case.lengths),
                    "tokens": case.tokens,
                    "gflop": case.flops(shape) / 1e9,
                    "seconds": seconds,
                }
            )
    rates = {count: {name: rate / 1e9 for name, rate in one.rates.items()} for count, one in rooflines.items()}
    about = {name: worker.call("about") for name, worker in workers[max(arguments.threads)].items()}
    return {"shape": shape, "about": about, "series": found, "gemm_gflops": rates}


def report(record: dict[str, Any], backends: list[str]) -> None:
    say("\n" + "\n".join(f"{name}: {line}" for name, line in record["about"].items()))
    for count, rates in record["gemm_gflops"].items():
        listed = ", ".join(f"{name} {rate:.1f}" for name, rate in rates.items())
        say(f"best products of matrices on {count} threads, GFLOP/s: {listed}")
    for name, points in record["series"].items():
        head = [f"by {name}"]
        for backend in backends:
            head += [f"{backend}: s", "tokens/s", "roofline", "s, of all"]
        rows = []
        for point in points:
            row = [point["point"]]
            for backend in backends:
                seconds = point["seconds"][backend]
                middle = median(seconds)
                share = point["gflop"] / middle / max(record["gemm_gflops"][point["threads"]].values())
                row += [f"{middle:.3f}", f"{point['tokens'] / middle:.0f}", f"{share:.0%}", span(seconds)]
            rows.append(row)
        say("\n" + table(head, rows))


if __name__ == "__main__":
    main()
