"""What the README of a conformance suite says, written from it alone, in plain loops, without the package's ops."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from pyroberta.oracle.conformance.case import Case

Values = dict[str, Any]


WORD = (1 << 64) - 1


def mask(case: Case) -> Values:
    a, settings, selected = case.inputs, case.settings, []
    for start, stop in pairwise(a["starts"]):
        rows: dict[int, list[int]] = {}  # of each word
        for row in range(start, stop):
            if a["words"][row] >= 0:
                rows.setdefault(int(a["words"][row]), []).append(row)
        n = sum(map(len, rows.values()))
        wanted = max(1, math.ceil(settings["mask_selection_rate"] * n - 1e-9))
        passed = 0
        for i, word in enumerate(sorted(rows.values(), key=lambda word: a["draws"][word[0], 0])):
            if settings["count"] == "exact":
                is_taken = passed < wanted
            else:
                is_taken = i == 0 or a["draws"][word[0], 0] < settings["mask_selection_rate"]
            if is_taken and passed + len(word) <= settings["mask_selection_length"]:
                selected += word
            passed += len(word)
    ids = a["ids"].copy()
    for row in selected:
        _, kind, which = a["draws"][row].tolist()
        if kind < settings["mask_token_rate"]:
            ids[row] = settings["mask_id"]
        elif kind < settings["mask_token_rate"] + settings["random_token_rate"]:
            ids[row] = a["ordinary"][math.floor(which * len(a["ordinary"]))]
    rows_in_order = sorted(int(row) for row in selected)
    return {"masked_ids": ids, "target_rows": rows_in_order, "labels": a["ids"][rows_in_order]}


def philox(key: list[int], stream: int, count: int) -> list[int]:
    """Philox4x64-10 (Salmon et al. 2011)."""
    words: list[int] = []
    for block in range(1, count // 4 + 2):
        c, (k_0, k_1) = [block, 0, stream, 0], key
        for _ in range(10):
            a, b = c[0] * 0xD2E7470EE14C6C93, c[2] * 0xCA5A826395121157
            c = [(b >> 64) ^ c[1] ^ k_0, b & WORD, (a >> 64) ^ c[3] ^ k_1, a & WORD]
            k_0, k_1 = (k_0 + 0x9E3779B97F4A7C15) & WORD, (k_1 + 0xBB67AE8584CAA73B) & WORD
        words += c
    return words[:count]


def pack(case: Case) -> Values:
    settings = case.settings
    segments = [case.inputs[f"segment.{i}"].tolist() for i in range(len(case.inputs))]
    room = settings["sequence_length"] - 2 - settings["separators"] * (len(segments) - 1)
    kept = [0] * len(segments)
    if settings["truncate"] == "waterfall":
        for i, segment in enumerate(segments):
            kept[i] = min(len(segment), room)
            room -= kept[i]
    else:
        while room and any(n < len(segment) for n, segment in zip(kept, segments, strict=True)):
            for i, segment in enumerate(segments):
                if room and kept[i] < len(segment):
                    kept[i] += 1
                    room -= 1
    ids = [settings["start_id"]]
    for i, segment in enumerate(segments):
        ids += [settings["end_id"]] * settings["separators"] * (i > 0) + segment[: kept[i]]
    return {"ids": [*ids, settings["end_id"]]}


def pad(case: Case) -> Values:
    ids, positions, starts, targets, labels, weights = [], [], [0], [], [], []
    for row, mask, slots, originals, shares in zip(*case.inputs.values(), strict=True):
        begin, place = len(ids), {}
        for column, is_token in enumerate(mask):
            if is_token:
                place[column] = len(ids)
                positions.append(len(ids) - begin)
                ids.append(row[column])
        starts.append(len(ids))
        for slot, label, weight in zip(slots, originals, shares, strict=True):
            if weight > 0.0:
                targets.append(place[int(slot)])
                labels.append(label)
                weights.append(weight)
    found = {"ids": ids, "positions": positions, "starts": starts, "target_rows": targets}
    return {**found, "labels": labels, "weights": np.array(weights, np.float64)}


def random(case: Case) -> Values:
    settings, key = case.settings, case.inputs["key"].tolist()
    if case.subject == "words":
        return {"words": np.array(philox(key, settings["stream"], settings["count"]), np.uint64)}
    if case.subject == "keep":
        size = math.prod(settings["shape"])
        halves = [half for word in philox(key, settings["stream"], size) for half in (word & 0xFFFFFFFF, word >> 32)]
        keep = [half >= round(settings["rate"] * 2**32) for half in halves[:size]]
        return {"keep": np.array(keep).reshape(settings["shape"])}
    draws = []
    for i, number in enumerate(case.inputs["numbers"].tolist()):
        length = int(case.inputs["starts"][i + 1] - case.inputs["starts"][i])
        draws += [(word >> 11) * 2.0**-53 for word in philox(key, number, 3 * length)]
    return {"draws": np.array(draws).reshape(-1, 3)}


def dense(case: Case, name: str, x: np.ndarray) -> np.ndarray:
    return x @ case.inputs[f"parameters.{name}.kernel"] + case.inputs[f"parameters.{name}.bias"]


def norm(case: Case, name: str, x: np.ndarray) -> np.ndarray:
    gamma, beta = (case.inputs[f"parameters.{name}.{of}"] for of in ("gamma", "beta"))
    epsilon = np.float32(case.settings["config"]["layer_norm_epsilon"])
    centred = x - x.mean(axis=1, keepdims=True)
    return gamma * (centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon)) + beta


def dropped(case: Case, name: str, x: np.ndarray, rate: str = "dropout") -> np.ndarray:
    keep = case.inputs.get(name)
    return x if keep is None else x * keep / np.float32(1.0 - case.settings["config"][rate])


def gelu(x: np.ndarray) -> np.ndarray:
    return x * np.float32(0.5) * (1 + np.vectorize(math.erf, otypes=[np.float32])(x / np.float32(math.sqrt(2.0))))


def layer(case: Case, i: int, x: np.ndarray, starts: np.ndarray) -> np.ndarray:
    name, H = f"layers.{i}", case.settings["config"]["num_heads"]
    q, k, v = (dense(case, f"{name}.attention.{of}", x) for of in ("query", "key", "value"))
    context = np.zeros_like(x)
    for b, (start, stop) in enumerate(pairwise(starts)):
        keep = case.inputs.get(f"{name}.attention.keep.{b}")
        for h in range(H if stop > start else 0):
            D = x.shape[1] // H
            at = slice(start, stop), slice(h * D, (h + 1) * D)
            scores = q[at] @ k[at].T / np.float32(math.sqrt(D))
            p = np.exp(scores - scores.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            if keep is not None:
                p = p * keep[h] / np.float32(1.0 - case.settings["config"]["attention_dropout"])
            context[at] = p @ v[at]
    o = dropped(case, f"{name}.attention.norm.keep", dense(case, f"{name}.attention.output", context))
    x = norm(case, f"{name}.attention.norm", x + o)
    inside = gelu(dense(case, f"{name}.feed_forward.intermediate", x))
    h = dropped(case, f"{name}.feed_forward.norm.keep", dense(case, f"{name}.feed_forward.output", inside))
    return norm(case, f"{name}.feed_forward.norm", x + h)


def cross_entropy(case: Case, h: np.ndarray, labels: np.ndarray) -> Values:
    a = case.inputs
    names = ("parameters.head.table", "parameters.head.decoder", "parameters.embeddings.token")
    table = next(a[name] for name in names if name in a)
    logits = h @ table.T + a["parameters.head.bias"]
    shifted = logits - logits.max(axis=1, keepdims=True, initial=-1e30)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(h)), labels]
    return {"logits": logits, "losses": losses}


def head(case: Case, x: np.ndarray, labels: np.ndarray) -> Values:
    if case.settings["config"]["num_classes"]:
        x = dropped(case, "head.dropout.keep", x, "classifier_dropout")
        h = dropped(case, "head.dropout_2.keep", np.tanh(dense(case, "head.dense", x)), "classifier_dropout")
    else:
        h = norm(case, "head.norm", gelu(dense(case, "head.dense", x)))
    return {"h": h, **cross_entropy(case, h, labels)}


def model(case: Case) -> Values:
    a = case.inputs
    packed = pad_of_model(case)
    starts, targets = np.array(packed["starts"]), np.array(packed["target_rows"], int)
    tokens = a["parameters.embeddings.token"][packed["ids"]]
    x = norm(case, "embeddings.norm", tokens + a["parameters.embeddings.position"][packed["positions"]])
    x = dropped(case, "embeddings.dropout.keep", x)
    hidden = [x]
    for i in range(case.settings["config"]["num_layers"]):
        x = layer(case, i, x, starts)
        hidden.append(x)
    found = head(case, x[targets], np.array(packed["labels"], int))
    weights = np.array(packed["weights"], np.float32)
    found["loss"] = (weights * found["losses"]).sum() / weights.sum()
    return {name: value for name, value in found.items() if name != "h"} | {
        f"hidden.{i}": x for i, x in enumerate(hidden)
    }


def pad_of_model(case: Case) -> Values:
    a = case.inputs
    if "mask_positions" not in a:  # a classifier's target is the first token of each text
        first = a["padding_mask"].argmax(axis=1)[:, None]
        slots = [a["token_ids"], a["padding_mask"], first, a["labels"][:, None], a["weights"][:, None]]
    else:
        slots = [a[of] for of in ("token_ids", "padding_mask", "mask_positions", "labels", "weights")]
    return pad(Case("pad/packed/x", "", "", inputs={str(i): slot for i, slot in enumerate(slots)}))
