"""Draws docs/footprints.svg: what each mistake that the comparison knows does to the result of its op.

    python scripts/draw_footprints.py

A picture is the result (N, C) of one op of a small model, or the gradient of what it works on, a row for each token of
two sequences, or the step (I, O) of a kernel: the darker, the larger the difference from what it should be, relative to
the largest. Its number is that difference as a share of the result.
"""

from __future__ import annotations

import base64
import struct
import textwrap
import zlib
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from pyroberta.model.batch import pack
from pyroberta.model.config import RobertaConfig
from pyroberta.model.parameters import Arrays, shapes
from pyroberta.ops import Key
from pyroberta.oracle.calls import updated
from pyroberta.oracle.causes import Cause, causes_of
from pyroberta.oracle.golden import Trace
from pyroberta.oracle.plain import PLAIN
from pyroberta.oracle.update_causes import update_causes
from pyroberta.training.optimizers import AdamW

FILE = Path(__file__).parent.parent / "docs" / "footprints.svg"
LENGTHS, C, H, INNER = (9, 6), 16, 4, 24  # tokens of the sequences, columns, heads, columns of the feed-forward
COLUMNS, WIDTH, HEIGHT, SCALE = 6, 168, 148, 6  # pictures in a row, their cells, and pixels for a number
ALIKE = 0.05  # the distance of two pictures, as a share of their size, below which one is enough
SMALL = 1e-9  # below this share the mistake does nothing to such a result


class Footprint(NamedTuple):
    """What one mistake does: the differences (N, C) or (I, O), and their share of the result."""

    op: str
    name: str
    differences: Array
    share: float


def arguments_of(rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Arguments of the ops whose result has a row for each token."""
    config = RobertaConfig(
        vocabulary_size=40, num_layers=1, num_heads=H, hidden_dim=C, intermediate_dim=INNER, max_sequence_length=20
    )
    params = Arrays(shapes(config), np.float64)
    for name, array in params.items():
        array[...] = 0.3 * rng.standard_normal(array.shape) + name.endswith("gamma")
    batch = pack([rng.integers(0, 40, length) for length in LENGTHS])
    x, h, q, k, v = (rng.standard_normal((sum(LENGTHS), C)) for _ in range(5))
    x[:, 0] += 4.0  # as in real models, one column is large
    block, sites = "layers.0.attention", Key(1, 2)
    rest = {"starts": batch.starts, "numbers": batch.numbers}
    norm = {of: params[f"{block}.norm.{of}"] for of in ("gamma", "beta")} | {"epsilon": 1e-5}
    dropped = {"rate": 0.25, "key": sites}
    return {
        "embedding": {
            "ids": batch.ids, "positions": batch.positions + 2, "tokens": params["embeddings.token"],
            "position_rows": params["embeddings.position"],
        },
        "linear": {"x": x, **{of: params[f"{block}.query.{of}"] for of in ("kernel", "bias")}},
        "attention": {"q": 2.0 * q, "k": 2.0 * k, "v": v, "num_heads": H, **dropped, **rest},
        "add_norm": {"h": h, "x": x, **norm, **dropped, **rest},
        "gelu": {"x": 2.0 * h},
        "feed_forward": {
            "x": x,
            **{
                f"{of}_{i}": params[f"layers.0.feed_forward.{part}.{of}"]
                for i, part in ((1, "intermediate"), (2, "output"))
                for of in ("kernel", "bias")
            },
        },
        "dropout": {"x": x, **dropped, **rest},
    }  # fmt: skip


def footprints() -> Iterator[Footprint]:
    """Those of every mistake whose result differs, and not as an earlier one's does but for its size."""
    rng = np.random.default_rng(0)
    every = {op: dict.fromkeys(PLAIN[op].arguments) | given for op, given in arguments_of(rng).items()}
    for op, a in every.items():
        results = [("output", PLAIN[op].values_of(a)["output"], cause) for cause in causes_of(op, a)]
        results += [("output", results[0][1], cause) for cause in mistakes_without_cause(op, a, results[0][1], rng)]
        yield from _apart(op, results, a)
    for op, a in every.items():
        a = {**a, "dy": rng.standard_normal((sum(LENGTHS), C))}
        right = PLAIN[op].gradients_of(a)
        of_rows = [of for of, value in right.items() if of in PLAIN[op].arguments and len(value) == sum(LENGTHS)]
        results = [(of, right[of], cause) for cause in causes_of(op, a) for of in of_rows if of in cause.values(a)]
        yield from _apart(f"{op}, backward", results, a)
    golden = Trace()
    golden.settings = {"optimizer": AdamW(0.01, weight_decay=0.1, epsilon=1e-4).get_config()}
    w, g, m, v = (0.3 * rng.standard_normal((C, INNER)) for _ in range(4))
    a = {"w": w, "g": g, "m": m, "v": v * v, "rate": 0.01, "decays": True, "step": 1}
    right = updated(golden.settings["optimizer"], a)[0]["updated"] - w
    steps = [_step_alone(cause, w) for cause in update_causes(golden, a)]
    yield from _apart("the optimizer's step", [("updated", right, cause) for cause in steps], a)


def _step_alone(cause: Cause, w: Array) -> Cause:
    """What an update with a mistake adds to the kernel."""
    return Cause(cause.name, lambda a: {"updated": cause.values(a)["updated"] - w})


def mistakes_without_cause(op: str, a: Mapping[str, Any], right: Array, rng: np.random.Generator) -> Iterator[Cause]:
    """Mistakes that no cause makes, since their numbers are theirs: they are told by what they leave."""
    rows = np.repeat([0.0, 1.0], LENGTHS)[:, None]  # the second sequence is shorter, and padded
    made = {
        "embedding": lambda: ("the token type's row is missing", right - 0.3 * rng.standard_normal(C)),
        "attention": lambda: ("padding is attended to", right + 0.4 * rows * (rng.standard_normal(C) - right)),
        "linear": lambda: ("another kernel was used", right + a["x"] @ (0.1 * rng.standard_normal((C, C)))),
    }
    if op in made:
        name, value = made[op]()
        yield Cause(name, lambda _: {"output": value})


def _apart(op: str, results: list[tuple[str, Array, Cause]], a: Mapping[str, Any]) -> Iterator[Footprint]:
    """Those of results with a mistake, each beside the right one, that look like none before."""
    shapes_seen: list[Array] = []
    for of, right, cause in results:
        with np.errstate(all="ignore"):
            value = cause.values(a).get(of)
        if value is not None:
            differences = np.abs(value - right)
            share = float(np.linalg.norm(differences) / np.linalg.norm(right))
            shape = differences / max(float(np.linalg.norm(differences)), SMALL)
            if share > SMALL and not any(np.linalg.norm(shape - one) < ALIKE for one in shapes_seen):
                shapes_seen.append(shape)
                yield Footprint(op, cause.name, differences, share)


def png(grey: Array) -> str:
    """A picture (height, width) of bytes as a data URI."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = grey.shape
    rows = b"".join(b"\0" + row.tobytes() for row in grey)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(data).decode()


def drawn(found: list[Footprint]) -> str:
    """All of them, by op."""
    parts, y = [], 0
    for op in dict.fromkeys(one.op for one in found):
        parts.append(f'<text x="4" y="{y + 20}" font-size="15" font-weight="bold">{op}</text>')
        y += 30
        some = [one for one in found if one.op == op]
        for i, one in enumerate(some):
            left, top = i % COLUMNS * WIDTH + 4, y + i // COLUMNS * HEIGHT
            grey = (255 - 15 * np.ceil(16.0 * one.differences / one.differences.max())).clip(0, 255).astype(np.uint8)
            N, columns = grey.shape
            parts.append(
                f'<image x="{left}" y="{top}" width="{columns * SCALE}" height="{N * SCALE}" '
                f'style="image-rendering:pixelated" preserveAspectRatio="none" href="{png(grey)}"/>'
                f'<rect x="{left}" y="{top}" width="{columns * SCALE}" height="{N * SCALE}" fill="none" stroke="#bbb"/>'
            )
            for line, text in enumerate(textwrap.wrap(f"{one.name}: {one.share:.1g}", 28)[:3]):
                x, below = left, top + N * SCALE + 12 * (line + 1)
                parts.append(f'<text x="{x}" y="{below}" font-size="10">{escape(text)}</text>')
        y += -(-len(some) // COLUMNS) * HEIGHT + 10
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {COLUMNS * WIDTH} {y}" font-family="sans-serif">'
    return f'{head}<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'


if __name__ == "__main__":
    FILE.write_text(drawn(list(footprints())))
    print(f"wrote {FILE}")
