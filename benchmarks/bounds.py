"""How far an op's float32 is from the true result, beside the bound of it: random models, forward, backward and update.

    python benchmarks/bounds.py --json bounds.json       # 200 models, some minutes
    python benchmarks/bounds.py --models 5 --backend native

Sizes, lengths, padding, dropout, heads, LoRA and the values of the weights are drawn at random. Each model makes one
training step and one inference in float32. Every row of the ops table that rounds is judged on its own inputs: what
NumPy's row makes of the same inputs in float64 is the true result, `pyroberta.oracle.bounds` has how far float32's may
be from it, and a gradient that is not made until it is added up is added to zeros.

For every result of every row, over all its numbers in all models:

    worst       the largest error / bound: above 1 the bound does not hold
    median      of bound / error: how much larger the bound is than what is seen; a number without any error counts as
                infinitely much
    nearest     of each tensor the smallest bound / error, and the median of that over the tensors

then the share of the numbers by bound / error in powers of ten. Two kinds of numbers are judged but not counted:
copies, whose bound is 0, and those that are 0 and have to be, such as the gradients of rows that no loss looks at.
At last, how this grows with the length of a sum: y of linear, 64 x 64 numbers, all inputs being normal.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from harness import BACKENDS, Machine, Worker, limit_threads, median, our_backends, parser, positive, say, table, write
from numpy import ndarray as Array

FINE = 50  # bins of a power of ten, for the median
LOWEST, HIGHEST = -2, 12  # powers of ten; what lies outside counts as the last one
TERMS = (4, 16, 64, 256, 768, 3072)
PARTS = ["below 1", "1 to 10", "10 to 100", "100 to 1e3", "1e3 to 1e4", "above 1e4", "no error"]


class Figures:
    """Of one result of one row."""

    def __init__(self) -> None:
        self.tensors = self.numbers = self.exact = self.unbounded = 0
        self.worst = 0.0
        self.nearest: list[float] = []
        self.bins = np.zeros((HIGHEST - LOWEST) * FINE, np.int64)

    def add(self, found: Any, true: Any, bound: Any) -> None:
        """Counts a tensor."""
        error = np.abs(np.asarray(found, np.float64) - np.asarray(true)).astype(np.float64)
        bound = np.broadcast_to(np.asarray(bound, np.float64), error.shape)
        if np.isnan(error).any() or (error[bound == 0.0] != 0.0).any():
            self.worst = math.inf
        is_counted = (bound > 0.0) & ((error > 0.0) | (np.asarray(true) != 0.0))
        error, bound = error[is_counted], bound[is_counted]
        if not error.size:
            return
        self.tensors, self.numbers = self.tensors + 1, self.numbers + error.size
        self.unbounded += int(np.isinf(bound).sum())
        is_off = (error > 0.0) & np.isfinite(bound)
        self.exact += int(error.size - is_off.sum())
        ratios = bound[is_off] / error[is_off]
        self.nearest.append(float(ratios.min(initial=math.inf)))
        self.worst = max(self.worst, float((1.0 / ratios).max(initial=0.0)))
        places = np.floor((np.log10(ratios) - LOWEST) * FINE).astype(int)
        self.bins += np.bincount(np.clip(places, 0, len(self.bins) - 1), minlength=len(self.bins))

    def record(self) -> dict[str, Any]:
        """All of it as JSON."""
        kept = ("tensors", "numbers", "exact", "unbounded", "worst")
        return {
            **{name: getattr(self, name) for name in kept},
            "median": self.median(),
            "nearest": median(self.nearest) if self.nearest else math.inf,
            "shares": self.shares(),
        }

    def median(self) -> float:
        """Of bound / error: the middle of the bin, infinite where half of the numbers have no error."""
        if not self.numbers:
            return math.inf
        at = int(np.searchsorted(np.cumsum(self.bins), self.numbers / 2.0))
        return 10.0 ** (LOWEST + (at + 0.5) / FINE) if at < len(self.bins) else math.inf

    def shares(self) -> list[float]:
        """Of all numbers, by PARTS."""
        cuts = [(power - LOWEST) * FINE for power in (0, 1, 2, 3, 4)]
        counts = [int(part.sum()) for part in np.split(self.bins, cuts)] + [self.exact]
        return [count / max(1, self.numbers) for count in counts]

    def join(self, other: Figures) -> None:
        """Takes the counts of another one."""
        for name in ("tensors", "numbers", "exact", "unbounded", "bins", "nearest"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.worst = max(self.worst, other.worst)


# --- a model ----------------------------------------------------------------------------------------------------------


def drawn_config(rng: np.random.Generator) -> Any:
    from pyroberta.model.config import RobertaConfig

    D = int(rng.choice([1, 2, 3, 8, 16, 32, 64]))
    C = D * int(rng.integers(1, max(2, min(12, 256 // D) + 1)))
    is_classifier = rng.random() < 0.2
    return RobertaConfig(
        vocabulary_size=int(rng.integers(10, 3000)),
        num_layers=int(rng.integers(1, 4)),
        num_heads=C // D,
        hidden_dim=C,
        intermediate_dim=int(rng.integers(1, 4 * C + 1)),
        dropout=float(rng.choice([0.0, 0.1, 0.5])),
        attention_dropout=float(rng.choice([0.0, 0.1])),
        max_sequence_length=int(rng.choice([4, 16, 64, 160])),
        layer_norm_epsilon=float(rng.choice([1e-5, 1e-12])),
        tie_embeddings=bool(rng.random() < 0.7),
        num_classes=int(rng.integers(2, 6)) if is_classifier else None,
        lora_rank=int(rng.choice([0, 0, 4])),
        lora_targets=("query", "value"),
    )


def drawn_params(rng: np.random.Generator, config: Any) -> Any:
    """Normal numbers of a width from those of a fresh model up to 1 / √C; some columns of the norms are outliers."""
    from pyroberta.model.parameters import Arrays, shapes

    params = Arrays(shapes(config), np.float32)
    width = float(np.exp(rng.uniform(math.log(0.02), math.log(max(0.03, config.hidden_dim**-0.5)))))
    for name, array in params.items():
        array[...] = width * rng.standard_normal(array.shape)
        if name.endswith(".gamma"):
            array += 1.0
            array[rng.random(array.shape) < 0.02] *= 10.0
    return params


def drawn_batch(rng: np.random.Generator, config: Any) -> Any:
    """Up to eight sequences, with padding on either side or anywhere."""
    from pyroberta.model.batch import pack_padded

    B, S = int(rng.integers(1, 9)), config.max_sequence_length
    lengths = rng.integers(1, S + 1, B)
    is_token = np.zeros((B, S), bool)
    for row, length in zip(is_token, lengths, strict=True):
        place = rng.integers(3)
        columns = [np.arange(length), np.arange(S - length, S), rng.permutation(S)[:length]][place]
        row[columns] = True
    ids = rng.integers(0, config.vocabulary_size, (B, S))
    K = int(rng.integers(1, 1 + min(16, lengths.min())))
    positions = np.stack([rng.permutation(np.flatnonzero(row))[:K] for row in is_token])
    labels = rng.integers(0, config.vocabulary_size, (B, K))
    sizes = {"vocabulary_size": config.vocabulary_size, "max_sequence_length": S}
    batch = pack_padded(ids, is_token, positions, labels, rng.uniform(0.5, 1.5, (B, K)), **sizes)
    if config.num_classes:
        labels = rng.integers(0, config.num_classes, B).astype(np.int32)
        batch = dataclasses.replace(batch, target_rows=batch.starts[:-1], labels=labels, weights=np.ones(B), slots=B)
    return batch


def widened(value: Any) -> Any:
    """float32 as float64, and a prepared kernel as the array that it was made of."""
    value = value if isinstance(value, np.ndarray) else getattr(value, "kernel", value)
    return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value


class Judge:
    """A backend, each of whose rows is judged when it is called."""

    def __init__(self, backend: str) -> None:
        from pyroberta.backends import get_ops
        from pyroberta.oracle import bounds

        self.ops, self.bounds, self.run = get_ops(backend), bounds, bounds.Arithmetic("float32")
        self.figures: dict[str, Figures] = {}

    def model(self, seed: int, number: int) -> dict[str, Figures]:
        """The figures of one model."""
        from pyroberta.model.model import model_logits
        from pyroberta.model.parameters import PreparedArrays
        from pyroberta.training.losses import SparseCategoricalCrossentropy
        from pyroberta.training.optimizers import AdamW
        from pyroberta.training.state import TrainState
        from pyroberta.training.step import Trained, train_step

        self.figures = {}
        rng = np.random.default_rng([seed, number])
        config = drawn_config(rng)
        params, batch = drawn_params(rng, config), drawn_batch(rng, config)
        rows = batch.target_rows
        inference = self.ops.wrapped(lambda name, row: self.watched(name, row, is_training=False))
        model_logits(inference, PreparedArrays(params, inference.prepare, {}), config, batch, rows)
        optimizer = AdamW(1e-3, global_clipnorm=float(rng.choice([0.1, 1e3])))
        training = self.ops.wrapped(lambda name, row: self.watched(name, row, is_training=True))
        loss = SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
        all_rows, sums = bool(rng.random() < 0.5), params.zeros_like()
        model = Trained(training, config, loss, optimizer, list(params), sums, all_rows=all_rows)
        slots = {name: params.zeros_like() for name in optimizer.slot_names}
        state = TrainState(params, slots, seed=number)
        for _ in range(2):  # the moments are 0 before the first
            train_step(model, state, [batch])
        return self.figures

    def linear(self, terms: int) -> Figures:
        """The figures of one product of so many terms."""
        rng = np.random.default_rng(terms)
        shapes = (64, terms), (terms, 64), (64,)
        self.figures = {}
        row = self.forward("linear", self.ops.linear_forward, is_training=False)
        row(*(rng.standard_normal(shape).astype(np.float32) for shape in shapes))
        return self.figures["linear.y"]

    def watched(self, name: str, row: Callable[..., Any], is_training: bool) -> Callable[..., Any]:
        if name.endswith("_forward"):
            return self.forward(name.removesuffix("_forward"), row, is_training)
        if name.endswith(("_backward", "_backward_input")):
            return self.backward(name, row)
        return {
            "logits": self.logits,
            "accumulate": self.accumulate,
            "add": self.add,
            "squared_norm": self.squared_norm,
            "adam_step": self.adam_step,
        }.get(name, lambda row: row)(row)

    def note(self, key: str, found: Any, true: Any, bound: Any) -> None:
        self.figures.setdefault(key, Figures()).add(found, true, bound)

    def forward(self, op: str, row: Callable[..., Any], is_training: bool) -> Callable[..., Any]:
        from pyroberta.ops import REFERENCE

        def call(*arguments: Any) -> Any:
            wide = [widened(argument) for argument in arguments]
            value, cache = row(*arguments)
            found = np.array(value[0] if isinstance(value, tuple) else value)
            if is_training:  # judged when dy comes
                return value, (op, wide, found, cache)
            true, _ = getattr(REFERENCE, f"{op}_forward")(*wide)
            function, (name, *_) = self.bounds.ROWS[f"{op}_forward"]
            dy = np.zeros(found.shape)
            self.note(f"{op}.{name}", found, true, function(self.run, *wide, dy=dy)[name])
            return value, cache

        return call

    def backward(self, row_name: str, row: Callable[..., Any]) -> Callable[..., Any]:
        from pyroberta.ops import REFERENCE

        def call(dy: Any, noted: Any) -> Any:
            op, wide, output, cache = noted
            wide_dy = widened(dy).copy()
            gradients = row(dy, cache)
            found = gradients if isinstance(gradients, tuple) else (gradients,)
            true, true_cache = getattr(REFERENCE, f"{op}_forward")(*wide)
            expected = getattr(REFERENCE, row_name)(wide_dy, true_cache)
            expected = expected if isinstance(expected, tuple) else (expected,)
            limits = self.bounds.ROWS[row_name][0](self.run, *wide, dy=wide_dy)
            (name, *_) = self.bounds.ROWS[f"{op}_forward"][1]
            self.note(f"{op}.{name}", output, true[0] if isinstance(true, tuple) else true, limits[name])
            for name, one, correct in zip(self.bounds.ROWS[row_name][1], found, expected, strict=True):
                if not isinstance(one, np.ndarray):
                    one = self.ops.accumulate(np.zeros(correct.shape, np.float32), one)
                self.note(f"{op}.{name}", one, correct, limits[name])
            return gradients

        return call

    def logits(self, row: Callable[..., Any]) -> Callable[..., Any]:
        from pyroberta.ops import REFERENCE

        def call(*arguments: Any) -> Any:
            wide = [widened(argument) for argument in arguments]
            z = row(*arguments)
            self.note("logits.z", z, REFERENCE.logits(*wide), self.bounds.logits(self.run, *wide)["z"])
            return z

        return call

    def accumulate(self, row: Callable[..., Any]) -> Callable[..., Any]:
        bounds, run = self.bounds, self.run

        def call(total: Array, gradient: Any) -> Any:
            before = widened(total).copy()
            if isinstance(gradient, np.ndarray):
                added = widened(gradient).copy()
                bound = bounds.accumulate(run, before, added)["total"]
            elif hasattr(gradient, "left"):  # a product that is added in its own loop
                left, right = widened(gradient.left), widened(gradient.right)
                added, size = left.T @ right, np.abs(left).T @ np.abs(right)
                product_error = run.dot(bounds.exact(left).T, bounds.exact(right)).error
                bound = product_error + bounds.accumulate(run, before, None, terms=len(left), size=size)["total"]
            else:
                rows, values = gradient.rows, widened(gradient.values)
                added, size = np.zeros(total.shape), np.zeros(total.shape)
                np.add.at(added, rows, values)
                np.add.at(size, rows, np.abs(values))
                most = int(np.bincount(rows, minlength=1).max())
                gather_error = bounds.gather(run, np.zeros(total.shape), rows, dy=values)["dx"]
                bound = gather_error + bounds.accumulate(run, before, None, terms=most, size=size)["total"]
            result = row(total, gradient)
            self.note("accumulate.total", result, before + added, bound)
            return result

        return call

    def add(self, row: Callable[..., Any]) -> Callable[..., Any]:
        def call(x: Any, y: Any) -> Any:
            if not (isinstance(x, np.ndarray) and x.dtype == np.float32):
                return row(x, y)
            wide = widened(x).copy(), widened(y).copy()
            total = row(x, y)
            self.note("add.total", total, wide[0] + wide[1], self.bounds.add(self.run, *wide)["total"])
            return total

        return call

    def squared_norm(self, row: Callable[..., Any]) -> Callable[..., Any]:
        def call(x: Array) -> Any:
            found = row(x)
            true = np.square(x.astype(np.longdouble)).sum()
            bound = self.bounds.squared_norm(self.run, widened(x))["norm"]
            self.note("squared_norm.norm", found, true, bound)
            return found

        return call

    def adam_step(self, row: Callable[..., Any]) -> Callable[..., Any]:
        from pyroberta.ops import REFERENCE

        def call(w: Array, g: Array, m: Array, v: Array, *settings: Any) -> None:
            wide = [widened(array).copy() for array in (w, g, m, v)]
            limits = self.bounds.adam_step(self.run, *wide, *settings[:6])
            row(w, g, m, v, *settings)
            REFERENCE.adam_step(*wide, *settings)
            for name, one, true in (("w", w, wide[0]), ("m", m, wide[2]), ("v", v, wide[3])):
                self.note(f"adam_step.{name}", one, true, limits[name])

        return call


# --- all models -------------------------------------------------------------------------------------------------------


def measured(backend: str, models: int, seed: int) -> tuple[dict[str, Figures], dict[int, Figures]]:
    """Of each result in all models, and of linear by the number of terms."""
    found: dict[str, Figures] = {}
    with Worker(Judge, backend) as worker:
        for number in range(models):
            for key, figures in worker.call("model", seed, number).items():
                found.setdefault(key, Figures()).join(figures)
        return dict(sorted(found.items())), {terms: worker.call("linear", terms) for terms in TERMS}


def number(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.3g}"


def report(found: Mapping[str, Figures]) -> None:
    rows, every = [], Figures()
    for one in found.values():
        every.join(one)
    for key, one in [*found.items(), ("all", every)]:
        if not one.tensors:  # nothing but copies
            rows.append([key, "0", "0", *[""] * (3 + len(PARTS))])
            continue
        shares = ["" if not share else f"{100.0 * share:.1f}" for share in one.shares()]
        kept = one.record()
        figures = [f"{one.worst:.2f}", number(kept["median"]), number(kept["nearest"])]
        rows.append([key, str(one.tensors), f"{one.numbers:,}", *figures, *shares])
    say(table(["result", "tensors", "numbers", "worst", "median", "nearest", *PARTS], rows))


def main(arguments: argparse.Namespace) -> None:
    machine = Machine.this()
    say(f"{machine}; NumPy {np.__version__}")
    limit_threads(arguments.threads)
    record: dict[str, Any] = {"machine": dataclasses.asdict(machine), "seed": arguments.seed}
    record |= {"models": arguments.models, "numpy_version": np.__version__}
    outside = list[str]()
    for backend in our_backends(arguments.backend):
        found, products = measured(backend, arguments.models, arguments.seed)
        say(f"\n{backend}, {arguments.models} models; shares in % of the numbers, by bound / error\n")
        report(found)
        say()
        rows = [[str(n), number(one.median()), number(median(one.nearest))] for n, one in products.items()]
        say(table(["terms of a sum", "median", "nearest"], rows))
        record[backend] = {key: one.record() for key, one in found.items()}
        record[f"{backend}, linear"] = {terms: one.record() for terms, one in products.items()}
        outside += [f"{backend}: {key}" for key, one in found.items() if not one.worst <= 1.0]
        outside += [f"{backend}: {key} has no bound" for key, one in found.items() if one.unbounded]
    write(arguments.json, record)
    if outside:
        raise SystemExit(f"beyond the bounds: {', '.join(outside)}")


def made_parser() -> argparse.ArgumentParser:
    made = parser(__doc__ or "", threads=1)
    made.add_argument("--models", type=positive, default=200, help="default: %(default)s")
    made.add_argument("--seed", type=int, default=0, help="of the models (default: %(default)s)")
    made.add_argument("--backend", choices=BACKENDS, default="both", help="default: %(default)s")
    return made


if __name__ == "__main__":
    main(made_parser().parse_args())
