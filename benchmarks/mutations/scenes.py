"""What a model is given: sizes, parameters, batches and an update, all drawn; and batches in padded form.

The golden trace of a scene is made in float64. All its numbers are float32's, so that a model in float32 is given the
same ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyroberta.data.examples import numbered
from pyroberta.model.batch import Batch, pack, take
from pyroberta.model.config import RobertaConfig
from pyroberta.model.initial_values import initialise
from pyroberta.model.parameters import Arrays, shapes
from pyroberta.oracle.golden import Trace
from pyroberta.oracle.trace import trace_updates
from pyroberta.training.losses import SparseCategoricalCrossentropy
from pyroberta.training.optimizers import AdamW, Optimizer, TorchAdamW
from pyroberta.training.schedules import Linear

PRECISIONS = {"float64": "float64", "float32": "float32", "bfloat16": "mixed_bfloat16"}  # dtype of a model -> of bounds
LOSS = SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")

# The same array under a second name: the gradient of an op's result is that of the argument of the op behind it.
ALIKE = (
    (r"d\.(layers\.\d+\.attention)\.(q|k|v)\w+?(_\d+)?\.output", r"d.\1\3.\2"),
    (r"d\.(layers\.\d+\.attention)\.output(_\d+)?\.output", r"d.\1.norm\2.h"),
    (r"d\.(layers\.\d+\.feed_forward)(_\d+)?\.output", r"d.\1.norm\2.h"),
    (r"d\.(layers\.\d+\.attention)(_\d+)?\.context", r"d.\1.output\2.x"),
    (r"d\.head\.norm(_\d+)?\.output", r"d.loss\1.h"),
    (r"d\.head\.gelu(_\d+)?\.output", r"d.head.norm\1.x"),
    (r"d\.head\.dense(_\d+)?\.output", r"d.head.gelu\1.x"),
    (r"d\.head\.target_rows(_\d+)?\.output", r"d.head.dense\1.x"),
    (r"d\.embeddings(_\d+)?\.output", r"d.embeddings.norm\1.x"),
)


@dataclass(frozen=True)
class Padded:
    """One batch as (B, S) arrays.

    Attributes:
        ids, mask: (B, S), the mask True where there is a token.
        sequences, columns: (M,) each, where the target rows are.
        labels, weights: (M,).
        slots: B·K.
    """

    ids: np.ndarray
    mask: np.ndarray
    sequences: np.ndarray
    columns: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    slots: int

    def packed(self, layout: str, x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """An array without its padding, under what comes behind its name."""
        if layout == "rows":  # (B, S, ...)
            yield "", x[self.mask]
        elif layout == "heads":  # (B, H, S, S)
            for b, row in enumerate(self.mask):
                yield f".{b}", x[b][:, row][:, :, row]
        else:  # (M, ...)
            yield "", x

    def spread(self, found: Mapping[str, np.ndarray], name: str, layout: str) -> np.ndarray:
        """What `packed` took apart, padding being 1."""
        B, S = self.mask.shape
        if layout == "rows":
            packed = found[name]
            rows = np.ones((B, S, *packed.shape[1:]))
            rows[self.mask] = packed
            return rows
        square = np.ones((B, len(found[f"{name}.0"]), S, S))
        for b, row in enumerate(self.mask):
            places = np.flatnonzero(row)
            square[b][:, places[:, None], places] = found[f"{name}.{b}"]
        return square


@dataclass(frozen=True)
class Update:
    """What is done with the gradients.

    Attributes:
        form: "keras" or "torch", which decides where epsilon stands.
        rate: the learning rate of an update by its number.
        decay: the weights', times the rate.
        spares: whether biases and norms do not decay.
        limit: of the global norm, or None.
    """

    form: str
    rate: Callable[[int], float]
    beta_1: float
    beta_2: float
    epsilon: float
    decay: float
    spares: bool
    limit: float | None

    @property
    def optimizer(self) -> Optimizer:
        """The same as one of this project's."""
        kind = TorchAdamW if self.form == "torch" else AdamW
        optimizer = kind(self.rate, self.decay, self.beta_1, self.beta_2, self.epsilon, global_clipnorm=self.limit)
        optimizer.exclude_from_weight_decay(var_names=[r"\.(bias|gamma|beta)$"] if self.spares else [])
        return optimizer


@dataclass(frozen=True)
class Scene:
    """Everything that a model's numbers follow from.

    Attributes:
        params: float64, of numbers that float32 has.
        batches, parts: the parts of the one update, packed and padded.
        scale: what the parameters were drawn by.
    """

    config: RobertaConfig
    params: Arrays
    batches: Sequence[Batch]
    parts: Sequence[Padded]
    update: Update
    scale: str

    def golden(self, dtype: str) -> Trace:
        """The trace with the bounds of that dtype."""
        found = Trace()
        trace_updates(
            found,
            self.config,
            self.params,
            self.batches,
            LOSS,
            self.update.optimizer,
            precision=PRECISIONS[dtype],
        )
        return found


def draw(shape: np.random.Generator, rng: np.random.Generator, **needs: Any) -> Scene:
    """A scene.

    Args:
        shape: draws all sizes.
        rng: draws all else.
        needs: what must be so: at least so many `parts`, `layers`, `heads`; `side` ("left", "right"), `dropout`,
            `clip`, `spares`, `scheduled`, `tied`, `biases` (which are not to be 0), `padded`, `weighted`, `decays`.
    """
    heads = max(int(shape.choice([1, 2, 2, 3, 4])), needs.get("heads", 1))
    head_dim = int(shape.choice([2, 3, 4, 4, 6, 8, 16]))
    head_dim = head_dim if heads * head_dim > 4 else 6  # a norm of two columns has no gradient
    layers = max(int(shape.integers(1, 4)), needs.get("layers", 1))
    extra = max(int(shape.integers(0, 3)), int(bool(needs.get("padded"))))
    cut = bool(shape.random() < 0.15) or needs.get("parts") == 2
    lengths = [int(n) for n in shape.integers(2, 10, int(shape.integers(2, 6)))]
    rate = 0.1 if needs.get("dropout", rng.random() < 0.15) else 0.0
    config = RobertaConfig(
        vocabulary_size=int(shape.integers(11, 60)),
        num_layers=layers,
        num_heads=heads,
        hidden_dim=heads * head_dim,
        intermediate_dim=int(shape.integers(4, 40)),
        max_sequence_length=max(lengths) + extra + int(shape.integers(0, 4)),
        dropout=rate,
        layer_norm_epsilon=float(rng.choice([1e-5, 1e-5, 1e-12])),
        tie_embeddings=bool(needs.get("tied", rng.random() < 0.8)),
    )
    scale = str(
        rng.choice(["small", "middle", "large"] if needs.get("biases") else ["init", "small", "middle", "large"])
    )
    whole = _batch(config, lengths, shape, rng, bool(needs.get("weighted", rng.random() < 0.3)))
    sequences = (
        np.array_split(np.arange(len(lengths)), [max(1, len(lengths) // 3)]) if cut else [np.arange(len(lengths))]
    )
    batches = numbered([take(whole, chosen) for chosen in sequences])
    side = str(needs.get("side", rng.choice(["right", "right", "left"])))
    width = max(lengths) + extra
    return Scene(
        config,
        _params(config, scale, rng),
        batches,
        [_padded(batch, config, width, side) for batch in batches],
        _update(rng, needs),
        scale,
    )


def _params(config: RobertaConfig, scale: str, rng: np.random.Generator) -> Arrays:
    params = Arrays(shapes(config), np.float64)
    if scale == "init":
        initialise(params, config, str(rng.choice(["keras", "hf"])), seed=int(rng.integers(1000)))
    else:
        size = {"small": 0.02, "middle": 0.1, "large": 0.4}[scale]
        for name, array in params.items():
            array[...] = size * rng.standard_normal(array.shape) + (1.0 if name.endswith(".gamma") else 0.0)
    return params.astype(np.float32).astype(np.float64)


def _batch(
    config: RobertaConfig, lengths: Sequence[int], shape: np.random.Generator, rng: np.random.Generator, weighted: bool
) -> Batch:
    """At least one target row in each sequence."""
    V = config.vocabulary_size
    packed = pack([np.array([0, *rng.integers(3, V, n - 2), 2], np.int32)[-n:] for n in lengths])
    rows = []
    for start, stop in zip(packed.starts[:-1], packed.starts[1:], strict=True):
        count = int(shape.integers(1, max(2, (stop - start) // 2 + 1)))
        rows += sorted(int(row) for row in rng.choice(np.arange(start, stop), count, replace=False))
    targets = np.array(rows, np.int32)
    weights = rng.integers(2, 9, len(rows)) / 8.0 if weighted else np.ones(len(rows))
    labels = rng.integers(3, V, len(rows)).astype(np.int32)
    most = int(np.bincount(np.searchsorted(packed.starts, targets, side="right")).max())
    return replace(packed, target_rows=targets, labels=labels, weights=weights, slots=len(lengths) * (most + 2))


def _padded(batch: Batch, config: RobertaConfig, width: int, side: str) -> Padded:
    lengths = np.diff(batch.starts)
    columns = np.arange(width)[None, :]
    mask = columns < lengths[:, None] if side == "right" else columns >= width - lengths[:, None]
    ids = np.full(mask.shape, config.pad_id)
    ids[mask] = batch.ids
    places = np.argwhere(mask)[batch.target_rows]
    return Padded(ids, mask, places[:, 0], places[:, 1], batch.labels, batch.weights, batch.slots)


def _update(rng: np.random.Generator, needs: Mapping[str, Any]) -> Update:
    form = str(rng.choice(["keras", "torch"]))
    peak = float(rng.choice([1e-4, 1e-3, 1e-2]))
    total = int(rng.integers(5, 50))
    scheduled = needs.get("scheduled", rng.random() < 0.5)
    return Update(
        form,
        Linear(peak, total) if scheduled else Linear(peak, 1, 0, peak),
        float(rng.choice([0.9, 0.9, 0.8])),
        float(rng.choice([0.999, 0.98])),
        float(rng.choice([1e-8, 1e-7, 1e-6])),
        float(rng.choice([0.01, 0.1] if needs.get("decays") else [0.0, 0.01, 0.1])),
        bool(needs.get("spares", form == "torch")),
        float(rng.choice([0.01, 0.05])) if needs.get("clip", rng.random() < 0.6) else None,
    )


def dumped(found: dict[str, np.ndarray], golden: Trace) -> dict[str, np.ndarray]:
    """What a model found, and the same arrays under their second names; nothing that the golden trace does not have."""
    for name in list(found):
        for pattern, other in ALIKE:
            if re.fullmatch(pattern, name):
                found[re.sub(pattern, other, name)] = found[name]
    return {name: array for name, array in found.items() if name in golden}


def general(name: str) -> str:
    """The name of a place or a tensor, whatever the part.

    >>> general("layers.0.attention.query_2.output"), general("loss.share_2")
    ('layers.0.attention.query.output', 'loss.share')
    """
    return re.sub(r"_\d+(?=\.|$)", "", name)
