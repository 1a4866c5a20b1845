"""The faults: what each is, where it is planted, and where it must show.

A fault is known where the comparison may be expected to name its cause, and unknown where nobody would have it in a
list; of an unknown one the place is to be found. Where a cause is stated all the same, it is right if it has one of the
fault's words, which say what was done.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from benchmarks.mutations.scenes import Scene, general

KNOWN, UNKNOWN = "known", "unknown"


class Plant(NamedTuple):
    """What a model finds wrong when it asks for this switch at this place."""

    switch: str
    place: str
    value: Any


@dataclass(frozen=True)
class Planted:
    """A fault in a scene.

    Attributes:
        fault: which.
        plants: for the models' switches.
        places: of the trace, or names of tensors, as patterns; the first finding should have one of them.
        shows: names of tensors, as patterns, that the fault changes first.
    """

    fault: Fault
    plants: Sequence[Plant]
    places: Sequence[str]
    shows: Sequence[str]

    def is_at(self, place: str, name: str) -> bool:
        """Whether a finding there is about this fault."""
        return any(fnmatch.fnmatchcase(general(one), pattern) for pattern in self.places for one in (place, name))

    def showing(self, names: Sequence[str]) -> list[str]:
        """Which of the tensors it changes first."""
        return [name for name in names if any(fnmatch.fnmatchcase(general(name), one) for one in self.shows)]


class Drawn(NamedTuple):
    """Where a fault came to be planted."""

    plants: Sequence[Plant]
    places: Sequence[str]
    shows: Sequence[str]


Draw = Callable[[np.random.Generator, Scene], Drawn]


@dataclass(frozen=True)
class Fault:
    """One of the list.

    Attributes:
        name: short.
        kind: `KNOWN` or `UNKNOWN`.
        cause: in plain words.
        words: the stated cause is right where it has one of them.
        draw: plants it.
        needs: of the scene, for `scenes.draw`.
    """

    name: str
    kind: str
    cause: str
    words: tuple[str, ...]
    draw: Draw
    needs: Mapping[str, Any] = field(default_factory=dict)

    def planted(self, rng: np.random.Generator, scene: Scene) -> Planted:
        """At a place that is drawn."""
        return Planted(self, *self.draw(rng, scene))


def wrong_of(planted: Sequence[Planted]) -> Callable[..., Any]:
    """What a model asks: `wrong(switch, place)`."""
    found = {(plant.switch, plant.place): plant.value for one in planted for plant in one.plants}
    return lambda switch, place="": found.get((switch, place))


# --- places -----------------------------------------------------------------------------------------------------------


def _some(rng: np.random.Generator, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def _layers(scene: Scene, of: str) -> list[str]:
    return [f"layers.{i}.{of}" for i in range(scene.config.num_layers)]


def _activations(scene: Scene) -> list[str]:
    return [*_layers(scene, "feed_forward"), "head.gelu"]


def _added(scene: Scene) -> list[str]:
    return [*_layers(scene, "attention.norm"), *_layers(scene, "feed_forward.norm")]


def _norms(scene: Scene) -> list[str]:
    return ["embeddings.norm", *_added(scene), "head.norm"]


def _projections(scene: Scene, *names: str) -> list[str]:
    return [place for name in names for place in _layers(scene, f"attention.{name}")]


def _linears(scene: Scene) -> list[str]:
    inside = [*_layers(scene, "feed_forward.intermediate"), *_layers(scene, "feed_forward.output")]
    return [*_projections(scene, "query", "key", "value", "output"), *inside, "head.dense"]


def _shown(linear: str) -> tuple[str, str]:
    """The place of a linear layer in the trace, and the tensor that it gives."""
    if linear.endswith(".feed_forward.intermediate"):
        return linear.removesuffix(".intermediate"), linear
    if linear.endswith(".feed_forward.output"):
        return linear.removesuffix(".output"), linear
    return linear, f"{linear}.output"


# --- ways to plant ----------------------------------------------------------------------------------------------------


def activation(kind: str) -> Draw:
    """Another function in place of GELU, or another derivative."""

    def drawn(rng: np.random.Generator, scene: Scene) -> Drawn:
        place = _some(rng, _activations(scene))
        backward = "d." if kind.endswith("backward") else ""
        if place == "head.gelu":
            shows = "d.head.gelu.x" if backward else "head.gelu.output"
        else:
            shows = f"d.{place}.intermediate" if backward else f"{place}.activation"
        return Drawn([Plant("gelu", place, kind)], [place], [shows])

    return drawn


def normed(kind: str, value: Callable[[np.random.Generator, Scene], Any] | None = None) -> Draw:
    """A norm that is off."""

    def drawn(rng: np.random.Generator, scene: Scene) -> Drawn:
        place = _some(rng, _norms(scene))
        numbers = () if value is None else (value(rng, scene),)
        shows = {
            "unbiased": [f"{place}.variance"],
            "absolute": [f"{place}.variance"],
            "constant mean": [f"d.{place}.sum", f"d.{place}.x"],
            "constant variance": [f"d.{place}.sum", f"d.{place}.x"],
        }
        if "constant" in kind and place in _added(scene):  # x is one of two ways there
            shows[kind] = [f"d.{place}.sum"]
        return Drawn([Plant("norm", place, (kind, *numbers))], [place], shows.get(kind, [f"{place}.x_hat"]))

    return drawn


def embedded(switch: str, value: Callable[[np.random.Generator, Scene], Any]) -> Draw:
    """The position that a token is given, or the row of its type."""

    def drawn(rng: np.random.Generator, scene: Scene) -> Drawn:
        plants = [Plant(switch, "embeddings", value(rng, scene))]
        return Drawn(plants, ["embeddings"], ["embeddings.of_positions", "embeddings.output"])

    return drawn


def attending(switch: str, value: Any, shows: str) -> Draw:
    """Within attention."""

    def drawn(rng: np.random.Generator, scene: Scene) -> Drawn:
        place = _some(rng, _layers(scene, "attention"))
        prefix, of = ("d.", shows[2:]) if shows.startswith("d.") else ("", shows)
        found = value(rng, scene) if callable(value) else value
        return Drawn([Plant(switch, place, found)], [place], [f"{prefix}{place}.{of}"])

    return drawn


def residual(value: Any) -> Draw:
    """At one of the sums."""

    def drawn(rng: np.random.Generator, scene: Scene) -> Drawn:
        place = _some(rng, _added(scene))
        if value != "stopped":
            return Drawn([Plant("residual", place, value)], [place], [f"{place}.sum"])
        # Backward, the two ways of x join where x was made.
        before = place.replace(".feed_forward.", ".attention.")
        if before == place:
            i = int(place.split(".")[1])
            before = f"layers.{i - 1}.feed_forward.norm" if i else "embeddings.norm"
        joined = [before, "embeddings.dropout"] if before.startswith("embeddings") else [before]
        joined += [f"{place.removesuffix('.norm')}*"]
        return Drawn([Plant("residual", place, value)], [place, *joined], [f"d.{place}.x"])

    return drawn


def dropped(kind: str) -> Draw:
    """At one of the places with dropout."""

    def drawn(rng: np.random.Generator, scene: Scene) -> Drawn:
        place = _some(rng, ["embeddings.dropout", *_added(scene), *_layers(scene, "attention")])
        of = {"embeddings.dropout": "output"}.get(place, "dropped.*" if place.endswith(".attention") else "dropped")
        value = (kind, int(rng.integers(1 << 30)), 0.1) if kind == "on" else (kind,)
        return Drawn([Plant("dropout", place, value)], [place], [f"{place}.{of}"])

    return drawn


def kernel(edit: Callable[[np.random.Generator, Scene, str], tuple[Any, ...]], *projections: str) -> Draw:
    """A kernel that is used otherwise."""

    def drawn(rng: np.random.Generator, scene: Scene) -> Drawn:
        linear = _some(rng, _projections(scene, *projections) if projections else _linears(scene))
        place, shows = _shown(linear)
        name = f"{linear}.kernel"
        return Drawn([Plant("param", name, edit(rng, scene, name))], [place], [shows])

    return drawn


def bias(edit: tuple[Any, ...], places: Callable[[Scene], Sequence[str]] = _linears) -> Draw:
    """A bias that is used otherwise."""

    def drawn(rng: np.random.Generator, scene: Scene) -> Drawn:
        linear = _some(rng, places(scene))
        place, shows = ("loss", "loss.logits") if linear == "head" else _shown(linear)
        return Drawn([Plant("param", f"{linear}.bias", edit)], [place], [shows])

    return drawn


def gradient(factor: Callable[[np.random.Generator, Scene], float], end: str) -> Draw:
    """The gradient of a parameter is off, and nothing else."""

    def drawn(rng: np.random.Generator, scene: Scene) -> Drawn:
        name = _some(rng, [one for one in scene.params if one.endswith(end) and not one.endswith("key.bias")])
        plants = [Plant("param", name, ("gradient", factor(rng, scene)))]
        return Drawn(plants, [f"gradients.{name}", name, *_place_of(name)], [f"gradients.{name}"])

    return drawn


def _place_of(name: str) -> list[str]:
    return ["loss"] if name == "head.bias" else [_shown(name.rpartition(".")[0])[0]]


def edited(of: Callable[[Scene], Sequence[str]], edit: Callable[[np.random.Generator, Scene], tuple[Any, ...]]) -> Draw:
    """A value is changed before it is passed on; `of` gives names of values."""

    def drawn(rng: np.random.Generator, scene: Scene) -> Drawn:
        name = _some(rng, of(scene))
        place = name.rpartition(".")[0]
        shows = f"{name}.*" if name.endswith((".scores", ".probabilities")) else name
        return Drawn([Plant("edit", name, edit(rng, scene))], [place], [shows])

    return drawn


def at_the_loss(switch: str, value: Any, *shows: str) -> Draw:
    """In the loss and what it is divided by."""
    return lambda rng, scene: Drawn([Plant(switch, "loss", value)], ["loss", "loss.*", "d.loss.*"], shows)


def updating(switch: str, value: Any, *shows: str) -> Draw:
    """In what is done with the gradients."""
    places = [*shows, "updated.*", *(["slots.*"] if switch in ("adam", "decay") else [])]
    return lambda rng, scene: Drawn([Plant(switch, "", value)], places, shows)


def ordered(kind: str) -> Draw:
    """A layer that is used otherwise. Its keys, its values and its queries are made of something else then."""

    def drawn(rng: np.random.Generator, scene: Scene) -> Drawn:
        i = int(rng.integers(scene.config.num_layers))
        first = [f"layers.{i}.attention.{name}" for name in ("key", "value", "query")]
        places = [*first, *([f"layers.{i}.attention.norm"] if kind == "norm before" else [])]
        return Drawn([Plant("layer", f"layers.{i}", kind)], places, [f"{first[0]}.output"])

    return drawn


def swapped_layers(rng: np.random.Generator, scene: Scene) -> Drawn:
    """Two layers' parameters."""
    i, j = sorted(rng.choice(scene.config.num_layers, 2, replace=False).tolist())
    plants = []
    for one, other in ((i, j), (j, i)):
        names = [name for name in scene.params if name.startswith(f"layers.{one}.")]
        plants += [
            Plant("param", name, ("other", name.replace(f"layers.{one}.", f"layers.{other}.", 1))) for name in names
        ]
    return Drawn(plants, [f"layers.{i}.*", f"layers.{j}.*"], [f"layers.{i}.attention.key.output"])


def swapped_projections(rng: np.random.Generator, scene: Scene) -> Drawn:
    """The keys' kernel and the values'."""
    place = _some(rng, _layers(scene, "attention"))
    pairs = [(f"{place}.key.kernel", f"{place}.value.kernel")]
    plants = [Plant("param", one, ("other", other)) for a, b in pairs for one, other in ((a, b), (b, a))]
    return Drawn(plants, [f"{place}.key", f"{place}.value"], [f"{place}.key.output"])


def table(kind: str) -> Draw:
    """The decoder's matrix."""

    def drawn(rng: np.random.Generator, scene: Scene) -> Drawn:
        tokens = scene.params["embeddings.token" if scene.config.tie_embeddings else "head.decoder"]
        size = float(tokens.std())
        if kind == "stale":
            other = tokens + 1e-3 * rng.choice([-1.0, 1.0], tokens.shape)
        else:
            other = size * rng.standard_normal(tokens.shape)
        return Drawn([Plant("param", "loss.table", ("replaced", other))], ["loss"], ["loss.logits"])

    return drawn


def row_off(use: str) -> Draw:
    """One row of the token embedding, that of a token or a label of the batch, where it is used once."""

    def drawn(rng: np.random.Generator, scene: Scene) -> Drawn:
        ids = scene.batches[0].ids if use == "embeddings.lookup" else scene.batches[0].labels
        row = int(_some(rng, ids))
        places, shows = (
            (["embeddings"], "embeddings.output") if use == "embeddings.lookup" else (["loss"], "loss.logits")
        )
        return Drawn([Plant("param", use, ("row", row, 1e-2))], places, [shows])

    return drawn


def lookup_stopped(rng: np.random.Generator, scene: Scene) -> Drawn:
    """The token embedding has the decoder's gradient alone."""
    name = "embeddings.token"
    plants = [Plant("param", "embeddings.lookup", ("gradient", 0.0))]
    return Drawn(plants, [f"gradients.{name}", name, "embeddings"], [f"gradients.{name}"])


def gamma_squared(rng: np.random.Generator, scene: Scene) -> Drawn:
    """The scale of a norm."""
    place = _some(rng, _norms(scene))
    return Drawn([Plant("param", f"{place}.gamma", ("squared",))], [place], [f"{place}.output"])


def rate_of_one(rng: np.random.Generator, scene: Scene) -> Drawn:
    """A parameter that learns more slowly."""
    name = _some(rng, [one for one in scene.params if one.endswith(".kernel")])
    return Drawn([Plant("rate", name, 0.5)], [f"updated.{name}", name], [f"updated.{name}"])


def _column(rng: np.random.Generator, scene: Scene, name: str) -> tuple[Any, ...]:
    to, of = rng.choice(scene.params[name].shape[1], 2, replace=False).tolist()
    return "column", to, of


def _head_columns(rng: np.random.Generator, scene: Scene) -> tuple[int, list[int]]:
    D = scene.config.head_dim
    return int(rng.integers(scene.config.num_heads)), np.roll(rng.permutation(D), 1).tolist()


def _parts_of_a_row(rng: np.random.Generator, scene: Scene) -> int:
    return next(n for n in range(2, scene.config.hidden_dim + 1) if scene.config.hidden_dim % n == 0)


def _other_epsilon(rng: np.random.Generator, scene: Scene) -> float:
    return float(_some(rng, [e for e in (1e-12, 1e-6, 1e-3) if e != scene.config.layer_norm_epsilon]))


def _type_row(factor: float) -> Callable[[np.random.Generator, Scene], Any]:
    def row(rng: np.random.Generator, scene: Scene) -> Any:
        size = float(scene.params["embeddings.position"].std())
        return factor * size * rng.standard_normal(scene.config.hidden_dim)

    return row


def _values(*ends: str) -> Callable[[Scene], Sequence[str]]:
    return lambda scene: [name for end in ends for name in _layers(scene, end)]


def _is(value: Any) -> Callable[[np.random.Generator, Scene], Any]:
    return lambda rng, scene: value


def _one_of(*values: Any) -> Callable[[np.random.Generator, Scene], Any]:
    return lambda rng, scene: _some(rng, values)


def _root_of(power: float) -> Callable[[np.random.Generator, Scene], float]:
    return lambda rng, scene: float(scene.config.head_dim**power)


def _known(name: str, cause: str, words: tuple[str, ...], draw: Draw, **needs: Any) -> Fault:
    return Fault(name, KNOWN, cause, words, draw, needs)


def _unknown(name: str, cause: str, draw: Draw, words: tuple[str, ...] = (), **needs: Any) -> Fault:
    return Fault(name, UNKNOWN, cause, words, draw, needs)


SHARE = ("loss.share", "d.loss.losses", "loss.denominator")
BOTH = ("epsilon", "ε", "root")

FAULTS: tuple[Fault, ...] = (
    # activation
    _known("tanh GELU", "GELU is its tanh approximation", ("tanh",), activation("tanh")),
    _known("sigmoid GELU", "GELU is x sigmoid(1.702 x)", ("sigmoid", "1.702", "quick"), activation("sigmoid")),
    _known("SiLU", "SiLU in place of GELU", ("silu", "swish", "sigmoid"), activation("silu")),
    _known("ReLU", "ReLU in place of GELU", ("relu",), activation("relu")),
    # norms
    _known("epsilon outside", "epsilon is added to the root", ("outside", "root", "√"), normed("outside")),
    _known("other epsilon", "another epsilon in a norm", ("epsilon", "ε"), normed("epsilon", _other_epsilon)),
    _known(
        "unbiased variance",
        "the variance is divided by C - 1",
        ("unbiased", "c - 1", "c − 1", "c-1", "n - 1", "n-1", "bessel"),
        normed("unbiased"),
    ),
    _known(
        "norm before",
        "a layer norms before attention and feed-forward",
        ("pre-", "prenorm", "pre ln", "before", "norm first"),
        ordered("norm before"),
    ),
    # embeddings
    _known(
        "positions from 0",
        "the first pad + 1 rows of the position embedding are used too",
        ("position",),
        embedded("positions", _is(-2)),
    ),
    _known(
        "positions off by one",
        "positions begin one too early or late",
        ("position",),
        embedded("positions", _one_of(-1, 1)),
    ),
    _known(
        "positions off by pad + 1",
        "pad + 1 is added to positions once more",
        ("position",),
        embedded("positions", _is(2)),
    ),
    _known(
        "positions count padding",
        "positions count the padding on the left",
        ("position",),
        embedded("positions", _is("columns")),
        side="left",
        padded=True,
    ),
    _known("no type row", "the row of the token type is missing", ("type",), embedded("type", _type_row(-1.0))),
    _known("type row twice", "the row of the token type is added twice", ("type",), embedded("type", _type_row(1.0))),
    # attention
    _known(
        "small mask value",
        "-1 is added to the scores of padding",
        ("mask", "padding"),
        attending("mask", ("added", -1.0), "probabilities.*"),
        padded=True,
    ),
    _known(
        "mask value",
        "-10000 is added to the scores of padding",
        ("mask", "padding"),
        attending("mask", ("added", -10000.0), "probabilities.*"),
        padded=True,
    ),
    _known(
        "no mask",
        "padding is attended to",
        ("mask", "padding"),
        attending("mask", ("none",), "probabilities.*"),
        padded=True,
    ),
    _known(
        "causal",
        "a token attends to those before it alone",
        ("causal", "triang"),
        attending("mask", ("causal",), "probabilities.*"),
    ),
    _known(
        "unscaled",
        "scores are not divided by the root of D",
        ("unscaled", "not scaled", "not divided", "without", "no scale", "missing"),
        attending("scale", 1.0, "scores.*"),
    ),
    _known(
        "scaled twice",
        "scores are divided by D",
        ("twice", "by D instead", "/ D", "again"),
        attending("scale", _root_of(-1.0), "scores.*"),
    ),
    _known(
        "heads interleaved",
        "C is split into (D, H)",
        ("head", "interleav", "reshape"),
        attending("heads", "interleaved", "scores.*"),
        heads=2,
    ),
    _known(
        "softmax over queries",
        "softmax runs over the queries",
        ("axis", "over the quer", "column"),
        attending("softmax", "queries", "probabilities.*"),
    ),
    _known(
        "softmax over heads",
        "softmax runs over the heads",
        ("axis", "over the head", "over head"),
        attending("softmax", "heads", "probabilities.*"),
        heads=2,
    ),
    # dropout and residuals
    _known("dropout on", "dropout where there should be none", ("dropout",), dropped("on"), dropout=False),
    _known(
        "dropout not rescaled",
        "what survives dropout is not scaled up",
        ("scale", "1 - rate", "1 - p"),
        dropped("not rescaled"),
        dropout=True,
    ),
    _known("no residual", "x is not added", ("residual", "skip", "not added"), residual("missing")),
    # kernels, biases and the decoder
    _known(
        "kernel transposed",
        "a kernel of attention is transposed",
        ("transpos",),
        kernel(lambda *_: ("transposed",), "query", "key", "value", "output"),
    ),
    _known("no bias", "a linear layer without its bias", ("bias",), bias(("missing",)), biases=True),
    _known(
        "no bias of the logits",
        "the logits without their bias",
        ("bias",),
        bias(("missing",), lambda scene: ["head"]),
        biases=True,
    ),
    _known(
        "untied decoder",
        "the logits' matrix is not the token embedding",
        ("tied", "untie", "table", "decoder"),
        table("untied"),
        tied=True,
    ),
    _known(
        "stale decoder",
        "the logits' matrix is the token embedding of an update ago",
        ("tied", "untie", "table", "decoder", "stale"),
        table("stale"),
        tied=True,
    ),
    # loss
    _known(
        "mean over slots",
        "the loss is divided by B·K",
        ("B·K", "B*K", "slot"),
        at_the_loss("denominator", "slots", *SHARE),
    ),
    _known(
        "mean over tokens",
        "the loss is divided by the number of tokens",
        ("tokens",),
        at_the_loss("denominator", "tokens", *SHARE),
    ),
    _known(
        "mean over the rectangle",
        "the loss is divided by B·S",
        ("B·S", "B*S", "rectangle", "padd"),
        at_the_loss("denominator", "padded", *SHARE),
        padded=True,
    ),
    _known("sum", "the loss is not divided", ("sum", "not divided"), at_the_loss("denominator", "sum", *SHARE)),
    _known(
        "label smoothing", "labels are smoothed", ("smooth",), at_the_loss("loss", ("smoothed", 0.1), "loss.losses")
    ),
    _known(
        "mean of means",
        "each part has a mean of its own",
        ("mean of", "part", "accumul"),
        at_the_loss("denominator", "mean of means", "d.loss.losses", "loss.share"),
        parts=2,
    ),
    # update
    _known(
        "epsilon of the other form",
        "Adam's epsilon stands on the other side of the correction",
        BOTH,
        updating("adam", "other form", "updated.*"),
    ),
    _known(
        "no bias correction",
        "the moments are not corrected",
        ("bias correction", "not corrected", "without correction"),
        updating("adam", "uncorrected", "updated.*"),
    ),
    _known(
        "coupled decay",
        "decay is added to the gradient",
        ("coupled", "L2", "to the gradient", "penalty"),
        updating("decay", "coupled", "slots.m.*"),
        decays=True,
    ),
    _known(
        "decay of all",
        "biases and norms decay",
        ("decay",),
        updating("decay", "all", "updated.*"),
        decays=True,
        spares=True,
        biases=True,
    ),
    _known(
        "decay spares",
        "biases and norms do not decay",
        ("decay",),
        updating("decay", "spared", "updated.*"),
        decays=True,
        spares=False,
        biases=True,
    ),
    _known(
        "clip by tensor",
        "each gradient is clipped by its own norm",
        ("each tensor", "per tensor", "own norm", "per parameter", "each parameter", "by itself"),
        updating("clip", "each tensor", "clipped.*"),
        clip=True,
    ),
    _known(
        "no clip",
        "gradients are not clipped",
        ("not clipped", "no clip", "without clip", "left out", "unclipped"),
        updating("clip", "left out", "clipped.*"),
        clip=True,
    ),
    _known(
        "clip by part",
        "each part's gradient is clipped before they are added",
        ("part", "accumul"),
        updating("clip", "each part", "clipped.*"),
        clip=True,
        parts=2,
    ),
    _known(
        "schedule off by one",
        "the rate is the next update's",
        ("schedule", "step", "rate"),
        updating("schedule", True, "learning_rate", "updated.*"),
        scheduled=True,
    ),
    # backward alone
    _known(
        "norm without the mean's term", "a norm's gradient lacks the mean's term", ("mean",), normed("constant mean")
    ),
    _known(
        "derivative of tanh GELU", "GELU's derivative is the approximation's", ("tanh",), activation("tanh backward")
    ),
    _known(
        "dq without scale",
        "the queries' gradient lacks the scale",
        ("scale", "√D", "sqrt"),
        attending("backward", "unscaled q", "d.q"),
    ),
    _known(
        "residual stopped",
        "no gradient goes through a residual",
        ("residual", "skip", "stop", "detach"),
        residual("stopped"),
    ),
    # of no catalogue
    _unknown(
        "third root", "scores are divided by the third root of D", attending("scale", _root_of(-1.0 / 3.0), "scores.*")
    ),
    _unknown("cosine", "cos in place of GELU", activation("cos")),
    _unknown("erf of x", "GELU without the root of 2", activation("no root")),
    _unknown("gamma squared", "a norm multiplies by gamma squared", gamma_squared),
    _unknown(
        "values shuffled",
        "one head's values have their columns in another order",
        attending("values", _head_columns, "context"),
    ),
    _unknown(
        "wrong column", "a column of a kernel is another one's", kernel(_column), words=("column", "another kernel")
    ),
    _unknown(
        "layers swapped", "two layers have each other's parameters", swapped_layers, layers=2, words=("another kernel",)
    ),
    _unknown(
        "keys and values swapped",
        "the keys' kernel is the values' and the other way round",
        swapped_projections,
        words=("another kernel",),
    ),
    _unknown(
        "floor of probabilities",
        "no probability is below 0.01",
        edited(_values("attention.probabilities"), _is(("floored", 1e-2))),
    ),
    _unknown("cap of scores", "no score is above 0.1", edited(_values("attention.scores"), _is(("capped", 0.1)))),
    _unknown("row off", "a row of the token embedding is off by 0.01 on lookup", row_off("embeddings.lookup")),
    _unknown("row of the decoder off", "a row of the logits' matrix is off by 0.01", row_off("loss.table")),
    _unknown("logits scaled", "logits times 1.01", edited(lambda scene: ["loss.logits"], _is(("scaled", 1.01)))),
    _unknown("layer twice", "a layer is applied twice", ordered("twice")),
    _unknown(
        "heads reversed",
        "the heads' contexts stand in the other order",
        attending("heads", "reversed", "context"),
        heads=2,
    ),
    _unknown("not self", "no token attends to itself", attending("mask", ("not self",), "probabilities.*")),
    _unknown(
        "dead unit",
        "one unit of the feed-forward is 0",
        edited(
            _values("feed_forward.activation"),
            lambda rng, scene: ("dead", int(rng.integers(scene.config.intermediate_dim))),
        ),
    ),
    _unknown(
        "rounded",
        "an output has three decimals",
        edited(_values("attention.output.output", "feed_forward.output", "attention.context"), _is(("rounded", 1e3))),
    ),
    _unknown(
        "columns shuffled",
        "the columns of a context are in another order",
        edited(
            _values("attention.context"),
            lambda rng, scene: ("permuted", np.roll(rng.permutation(scene.config.hidden_dim), 1).tolist()),
        ),
    ),
    _unknown("half a residual", "half of x is added", residual(0.5), words=("halved",)),
    _unknown(
        "norm by groups", "each half (or third) of a row has its own norm", normed("groups", _parts_of_a_row), heads=2
    ),
    _unknown("absolute deviation", "a norm divides by the mean absolute deviation", normed("absolute")),
    _unknown("bias twice", "a bias is added twice", bias(("scaled", 2.0)), biases=True, words=("twice",)),
    _unknown(
        "embedding scaled",
        "token embeddings are multiplied by 1.5",
        edited(lambda scene: ["embeddings.of_tokens"], _is(("scaled", 1.5))),
    ),
    _unknown(
        "labels moved",
        "each row has the label of the one before",
        at_the_loss("loss", ("labels moved",), "loss.losses"),
    ),
    _unknown(
        "weights ignored",
        "the sum has no weights, the denominator has",
        at_the_loss("loss", ("weights ignored",), "loss.share", "d.loss.losses"),
        weighted=True,
        words=("no weights",),
    ),
    _unknown(
        "last word left out",
        "the softmax of the loss lacks the last word",
        at_the_loss("loss", ("last left out",), "loss.log_sums"),
    ),
    _unknown(
        "mean over sequences",
        "the loss is divided by B",
        at_the_loss("denominator", "sequences", *SHARE),
        words=("sequences",),
    ),
    _unknown(
        "betas swapped", "each moment has the other's beta", updating("adam", "betas swapped", "slots.m.*", "slots.v.*")
    ),
    _unknown("magnitudes", "the second moment is of |g|", updating("adam", "magnitudes", "slots.v.*")),
    _unknown("half a rate", "one kernel learns at half the rate", rate_of_one),
    _unknown(
        "decay without rate",
        "decay is not multiplied by the rate",
        updating("decay", "without rate", "updated.*"),
        decays=True,
        words=("not multiplied",),
    ),
    _unknown(
        "clip of values",
        "each number of a gradient is clipped",
        updating("clip", "each value", "clipped.*"),
        clip=True,
        words=("each number",),
    ),
    _unknown(
        "constant variance",
        "no gradient goes through a norm's variance",
        normed("constant variance"),
        words=("variance",),
    ),
    _unknown("ReLU's derivative", "GELU's derivative is ReLU's", activation("relu backward"), words=("relu",)),
    _unknown(
        "softmax without its sum",
        "the gradient of softmax lacks the sum over the row",
        attending("softmax", "no row term", "d.scores.*"),
        words=("sum over the row",),
    ),
    _unknown("gradient halved", "a kernel has half its gradient", gradient(_is(0.5), ".kernel")),
    _unknown(
        "gradient averaged",
        "a bias has the mean over the rows as its gradient",
        gradient(lambda rng, scene: 1.0 / scene.batches[0].num_tokens, ".bias"),
    ),
    _unknown(
        "lookup stopped",
        "no gradient goes to the token embedding by lookup",
        lookup_stopped,
        tied=True,
        words=("missing",),
    ),
)
