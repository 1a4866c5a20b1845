"""Training speed: pyroberta beside transformers and Keras, one AdamW step after the other, in turns.

    python benchmarks/train.py                                  # roberta-base's size, every peer that is installed
    python benchmarks/train.py --size small --runs 2            # a quick check that everything works
    python benchmarks/train.py --case dense --peers compile,keras --backend native

Three batches. `dense`: 8 sequences of 128 tokens. `long`: 2 of 512. `ragged`: 16 paragraphs of 10 to 300 tokens, which
pyroberta lays end to end; the others get them as their users give them, padded on the right with a mask. All are real
prose, with a tokenizer trained on it here, and masked by pyroberta's preprocessor: the same positions for everyone.

The sides:

    numpy, native   pyroberta, `train_on_batch`; `native` is left out where the extension isn't built
    eager, sdpa     transformers' `RobertaForMaskedLM` with that attention; `transformers` stands for both
    compile         the same (sdpa) under `torch.compile`, compiled for the very shape of the batch before it is timed
    keras           `keras_hub.models.RobertaMaskedLM` on JAX, `jit_compile=True`, `train_on_batch`

Each lives in a process of its own with the same number of threads; one computes while the others wait. A step is what a
user's training step is: forward with dropout 0.1, loss, backward, AdamW; arrays in, the loss as a number out. All
compute in float32. transformers: labels of -100 where nothing is masked, `torch.optim.AdamW(fused=True)`, which is what
its Trainer takes. Keras: as many mask slots as the batch needs and no more, the mean over masked tokens as its loss, no
metrics beside it. Everyone starts from the same random weights; before anything is timed, the losses without dropout
are compared.

Not all of them fit into memory together, so the peers come one after the other (`--at-once` changes that), each in
turns with ours. A ratio is that of medians within these turns; what is printed for ours is the median of all.

Tokens per second count real tokens, no padding. The peak is the process's, libraries and compilers included. The share
of the roofline is what the step needs in products of matrices, over the best rate that any library here (NumPy, torch,
`pyroberta._native.gemm`) reached in this run on the model's own shapes. With N tokens, M of them masked, L layers, S_b
tokens in sequence b, the packed step that projects the masked rows alone needs, forward once and backward twice,

    3 · 2 · (N · L · (4 C² + 2 C F)  +  2 C L · Σ_b S_b²  +  M (C² + C V))

operations: linear layers, attention, head. What an implementation does beyond that (logits of tokens that are not
masked, padding, logits or activations made twice) does not count for it, and neither does all work that is no product
of matrices. What it saves is not taken off either: one that computes the last layer at the masked rows alone, as the
loss allows, needs less than this (6 % less at 12 layers) and is credited with all of it, so that its share can
go past that of its products, and in principle past 100 %. The count is the same for all, so shares relate as speeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from batches import SIZES, Case, Shape, training_cases
from gemm import KINDS, Product, forward_products, libraries
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
    take_turns,
    write,
)

RATE = 5e-5
DECAY = 0.01
NEEDS = {
    "eager": ("torch", "transformers"),
    "sdpa": ("torch", "transformers"),
    "compile": ("torch", "transformers"),
    "keras": ("keras", "keras_hub", "jax"),
}


# --- the sides; each method runs in the side's own process ------------------------------------------------------------


def save_weights(shape: Shape, directory: str) -> None:
    """Random ones, as the Hugging Face directory that every side starts from."""
    from pyroberta import Backbone, MaskedLM

    MaskedLM(Backbone(**shape, dropout=0.1, backend="numpy", initializer="hf")).save_to_preset(directory)


class Ours:
    """pyroberta."""

    def __init__(self, directory: str, backend: str) -> None:
        from pyroberta import MaskedLM, optimizers

        self.model = MaskedLM.from_preset(directory, backend=backend, preprocessor=None)
        self.model.compile(optimizer=optimizers.TorchAdamW(RATE, weight_decay=DECAY))

    def about(self) -> str:
        import pyroberta

        return f"pyroberta {pyroberta.__version__}, NumPy {np.__version__}, backend {self.model.backbone.ops.name}"

    def loss(self, case: Case) -> float:
        return float(self.model.test_on_batch(case.features, case.labels, case.weights)[0])

    def step(self, case: Case) -> float:
        return float(self.model.train_on_batch(case.features, case.labels, case.weights)[0])


class Transformers:
    """transformers on torch."""

    def __init__(self, directory: str, attention: str, compiles: bool, threads: int) -> None:
        import torch
        import transformers

        torch.set_num_threads(threads)
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.model = transformers.RobertaForMaskedLM.from_pretrained(directory, attn_implementation=attention)
        self.model.train()
        self.stepped: Callable[..., Any] = torch.compile(self.model) if compiles else self.model
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
        self.compiles = compiles

    def about(self) -> str:
        import torch
        import transformers

        attention = self.model.config._attn_implementation
        compiled = ", torch.compile" if self.compiles else ""
        return f"transformers {transformers.__version__}, torch {torch.__version__}, {attention}{compiled}"

    def loss(self, case: Case) -> float:
        import torch

        self.model.eval()
        with torch.no_grad():
            value = float(self.model(**_for_torch(case)).loss)
        self.model.train()
        return value

    def step(self, case: Case) -> float:
        self.optimizer.zero_grad()
        loss = self.stepped(**_for_torch(case)).loss
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def _for_torch(case: Case) -> dict[str, Any]:
    import torch

    labels = np.full(case.token_ids.shape, -100)
    labels[case.masked_places] = case.labels[case.weights > 0]
    return {
        "input_ids": torch.tensor(case.token_ids, dtype=torch.int64),
        "attention_mask": torch.tensor(case.padding_mask, dtype=torch.int64),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


# Our parameters' names and KerasHub's variables' paths. `#` is the layer's number.
KERAS_NAMES = (
    ("embeddings.token", "embeddings/token_embedding/embeddings"),
    ("embeddings.position", "embeddings/position_embedding/embeddings"),
    ("embeddings.norm", "embeddings_layer_norm"),
    ("layers.#.attention.query", "transformer_layer_#/self_attention_layer/query"),
    ("layers.#.attention.key", "transformer_layer_#/self_attention_layer/key"),
    ("layers.#.attention.value", "transformer_layer_#/self_attention_layer/value"),
    ("layers.#.attention.output", "transformer_layer_#/self_attention_layer/attention_output"),
    ("layers.#.attention.norm", "transformer_layer_#/self_attention_layer_norm"),
    ("layers.#.feed_forward.intermediate", "transformer_layer_#/feedforward_intermediate_dense"),
    ("layers.#.feed_forward.output", "transformer_layer_#/feedforward_output_dense"),
    ("layers.#.feed_forward.norm", "transformer_layer_#/feedforward_layer_norm"),
    ("head.dense", "mlm_head/intermediate_dense"),
    ("head.norm", "mlm_head/intermediate_layer_norm"),
    ("head.bias", "mlm_head/output_bias"),
)


def keras_path(name: str) -> str:
    """The path of the variable that holds our parameter `name`."""
    table = dict(KERAS_NAMES)
    number = re.search(r"\d+", name)
    general = re.sub(r"\d+", "#", name)
    if general in table:
        path = table[general]
    else:
        layer, _, value = general.rpartition(".")
        path = f"{table[layer]}/{value}"
    return path.replace("#", number[0]) if number else path


class Keras:
    """KerasHub on JAX."""

    def __init__(self, directory: str, shape: Shape) -> None:
        os.environ["KERAS_BACKEND"] = "jax"
        import keras
        import keras_hub

        from pyroberta import Backbone

        params = Backbone.from_preset(directory, backend="numpy").params
        backbone = keras_hub.models.RobertaBackbone(**shape, dropout=0.1, max_sequence_length=512)
        self.model = keras_hub.models.RobertaMaskedLM(backbone, preprocessor=None)
        variables = {variable.path: variable for variable in self.model.weights}
        for name, array in params.items():
            variable = variables.pop(keras_path(name))
            variable.assign(array.reshape(variable.shape))  # kernels (C, C) are (C, H, D) or (H, D, C) there
        assert not [path for path in variables if "seed_generator" not in path], variables
        self.model.compile(
            optimizer=keras.optimizers.AdamW(RATE, weight_decay=DECAY),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
            weighted_metrics=[],
            jit_compile=True,
        )

    def about(self) -> str:
        import jax
        import keras
        import keras_hub

        return f"keras_hub {keras_hub.__version__}, keras {keras.__version__}, jax {jax.__version__}, jit_compile"

    def loss(self, case: Case) -> float:
        return float(self.model.test_on_batch(case.features, case.labels, case.weights))

    def step(self, case: Case) -> float:
        return float(self.model.train_on_batch(case.features, case.labels, case.weights))


# --- the parent -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Side:
    """What is found out about one side in one case."""

    name: str
    about: str = ""
    loss: float = 0.0
    seconds: list[float] = dataclasses.field(default_factory=list)
    ratios: dict[str, float] = dataclasses.field(default_factory=dict)  # by backend: this side's seconds over ours
    peak_mb: float = 0.0
    tokens_per_s: float = 0.0
    roofline_share: float = 0.0
    failed: str = ""


class Roofline:
    """The best rate of any library here, measured again and again between the steps."""

    def __init__(self, stack: ExitStack, names: list[str], threads: int) -> None:
        self.workers = {name: stack.enter_context(Worker(KINDS[name], threads)) for name in names}
        self.rates = dict.fromkeys(self.workers, 0.0)

    def measure(self, products: list[Product]) -> None:
        for name, worker in self.workers.items():
            self.rates[name] = max(self.rates[name], worker.call("best_rate", products))

    @property
    def best(self) -> float:
        return max(self.rates.values())


@contextmanager
def saved_weights(shape: Shape) -> Iterator[str]:
    """The directory of a preset with random weights, made in a process of its own and gone afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        preset = str(Path(directory) / "model")
        with Worker(save_weights, shape, preset):
            pass
        yield preset


def started(stack: ExitStack, side: Side, case: Case, expected: float, kind: type, *arguments: Any) -> Worker | None:
    """The side's process, warmed up; None where it can't run the case. expected: the loss without dropout, or 0."""
    say(f"{case.name}: {side.name} gets ready")
    try:
        worker = stack.enter_context(Worker(kind, *arguments))
        side.about = worker.call("about")
        side.loss = worker.call("loss", case)
        for _ in range(2):  # what compiles does it now; Adam's moments are made; the allocator has seen a whole step
            worker.call("step", case)
    except WorkerError as error:
        side.failed = str(error)
        return None
    if expected and not abs(side.loss - expected) <= 1e-4 * expected:
        raise SystemExit(f"{case.name}: the losses without dropout differ: {side.name} {side.loss}, ours {expected}")
    return worker


def measured(
    case: Case, backends: list[str], peers: list[str], multipliers: list[str], arguments: argparse.Namespace
) -> dict[str, Any]:
    """One case's figures. multipliers: the libraries whose products make the roofline."""
    shape, threads = SIZES[arguments.size], arguments.threads
    kinds: dict[str, tuple[Any, ...]] = {
        "eager": (Transformers, "eager", False, threads),
        "sdpa": (Transformers, "sdpa", False, threads),
        "compile": (Transformers, "sdpa", True, threads),
        "keras": (Keras, shape),
    }
    products = forward_products(shape, case.tokens, case.masked)
    sides = {name: Side(name) for name in [*backends, *peers]}
    ours: dict[str, Worker] = {}
    groups = [peers[i : i + arguments.at_once] for i in range(0, len(peers), arguments.at_once)] or [[]]

    with ExitStack() as stack:
        preset = stack.enter_context(saved_weights(shape))
        roofline = Roofline(stack, multipliers, threads)
        for name in backends:
            if worker := started(stack, sides[name], case, sides[backends[0]].loss, Ours, preset, name):
                ours[name] = worker
        if not ours:
            raise SystemExit(f"{case.name}: ours failed: {sides[backends[0]].failed}")
        expected = sides[next(iter(ours))].loss
        for group in groups:
            with ExitStack() as inner:
                theirs = {}
                for name in group:
                    kind, *rest = kinds[name]
                    if worker := started(inner, sides[name], case, expected, kind, preset, *rest):
                        theirs[name] = worker
                if group and not theirs:
                    continue
                try:
                    found = take_turns(
                        ours | theirs, arguments.runs, "step", case, after=lambda: roofline.measure(products)
                    )
                    for name, worker in theirs.items():
                        sides[name].peak_mb = worker.call("peak")
                except WorkerError as error:
                    for name in group:
                        sides[name].failed = str(error)
                    continue
            for name, seconds in found.items():
                sides[name].seconds += seconds
            for name in theirs:
                sides[name].ratios = {backend: median(found[name]) / median(found[backend]) for backend in ours}
        for name, worker in ours.items():
            sides[name].peak_mb = worker.call("peak")

    flops = case.flops(shape)
    for side in sides.values():
        if not side.seconds:
            side.failed = side.failed or "not timed"
            continue
        middle = median(side.seconds)
        if side.name in ours:
            side.ratios = {backend: middle / median(sides[backend].seconds) for backend in ours}
        side.tokens_per_s = case.tokens / middle
        side.roofline_share = flops / middle / roofline.best
    return {
        "case": case.name,
        "sequences": len(case.lengths),
        "tokens": case.tokens,
        "padded_tokens": int(case.token_ids.size),
        "masked": case.masked,
        "gflop": flops / 1e9,
        "gemm_gflops": {name: rate / 1e9 for name, rate in roofline.rates.items()},
        "sides": [dataclasses.asdict(side) for side in sides.values()],
    }


def report(row: dict[str, Any], backends: list[str]) -> None:
    """Prints one case's figures."""
    rates = ", ".join(f"{name} {rate:.1f}" for name, rate in row["gemm_gflops"].items())
    say(
        f"\n{row['case']}: {row['sequences']} sequences, {row['tokens']} tokens ({row['padded_tokens']} padded), "
        f"{row['masked']} masked; {row['gflop']:.0f} GFLOP\nbest products of matrices, GFLOP/s: {rates}\n"
    )
    head = ["", "tokens/s", *(f"{backend} is x" for backend in backends), "roofline", "peak, MB", "seconds a step"]
    rows = []
    for side in row["sides"]:
        if side["failed"]:
            rows.append([side["name"], "failed", *[""] * (len(head) - 2)])
            continue
        rows.append(
            [
                side["name"],
                f"{side['tokens_per_s']:.0f}",
                *(f"{side['ratios'][backend]:.2f}" if backend in side["ratios"] else "" for backend in backends),
                f"{side['roofline_share']:.0%}",
                f"{side['peak_mb']:.0f}",
                span(side["seconds"]),
            ]
        )
    say(table(head, rows))
    for side in row["sides"]:
        say(f"{side['name']}: " + (f"FAILED: {side['failed']}" if side["failed"] else side["about"]))


def parsed_arguments() -> argparse.Namespace:
    p = parser(__doc__, runs=5, threads=2)
    p.add_argument("--size", choices=SIZES, default="base", help="of the model (default: %(default)s)")
    p.add_argument("--case", choices=("dense", "long", "ragged"), help="one batch alone; all otherwise")
    p.add_argument("--backend", choices=BACKENDS, default="both", help="ours (default: %(default)s)")
    p.add_argument("--peers", default="transformers,compile,keras", help="a list with commas (default: %(default)s)")
    p.add_argument("--at-once", type=positive, default=1, help="peers in memory beside ours (default: %(default)s)")
    arguments = p.parse_args()
    named = arguments.peers.replace("transformers", "eager,sdpa").split(",")
    arguments.peers = [name for name in dict.fromkeys(named) if name]
    if unknown := [name for name in arguments.peers if name not in NEEDS]:
        p.error(f"--peers: {', '.join(unknown)} is none of transformers, {', '.join(NEEDS)}")
    return arguments


def main() -> None:
    arguments = parsed_arguments()
    limit_threads(arguments.threads)
    machine = Machine.this()
    backends = our_backends(arguments.backend)
    peers, multipliers = installed(arguments.peers, NEEDS), libraries()
    say(str(machine))
    say(f"size {arguments.size}, {arguments.threads} threads each; medians of {arguments.runs} steps in turns")
    rows = []
    for name, case in training_cases().items():
        if arguments.case in (None, name):
            rows.append(measured(case, backends, peers, multipliers, arguments))
            report(rows[-1], backends)
    say(
        "\n'numpy is x', 'native is x': how many times as fast as the row's side that backend of ours is. Timings are "
        "noisy:\nbelieve them on an idle machine alone, and compare ratios, not seconds."
    )
    record = {
        "machine": dataclasses.asdict(machine),
        "arguments": vars(arguments),
        "shape": SIZES[arguments.size],
        "cases": rows,
    }
    write(arguments.json, record)


if __name__ == "__main__":
    main()
