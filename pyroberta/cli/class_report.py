"""The correct and wrong predictions of a classifier, class by class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.formats.budget import printable

MOST_COLUMNS = 12  # classes of which the whole confusion table is printed
MOST_CONFUSIONS = 20  # lines of the commonest ones, where there are more


def report(logits: Array, labels: Array, names: Sequence[str]) -> dict[str, Any]:
    """Returns loss, accuracy, the figures of each class and the confusion table, in JSON's types.

    The precision of a class is the share of correct ones among the texts that are predicted to have it. The recall is
    the share of correctly predicted ones among its texts. F1 is the harmonic mean of both. If a denominator is 0, the
    figure is None, and counts as 0 in the means over the classes, as in scikit-learn. Classes without texts and
    predictions are left out of the means.

    Args:
        logits: (B, K) the logits of each text.
        labels: (B,) the right classes.
        names: the names of the K classes.

    >>> found = report(np.log([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]), np.array([0, 1, 0]), ["neg", "pos"])
    >>> found["accuracy"], found["confusion"]
    (0.6666666666666666, [[1, 1], [0, 1]])
    >>> found["classes"]["neg"]["recall"], found["classes"]["pos"]["precision"]
    (0.5, 0.5)
    """
    from pyroberta.training.losses import log_softmax

    count = len(names)
    predicted = logits.argmax(axis=1)
    confusion = np.bincount(labels * count + predicted, minlength=count * count).reshape(count, count)
    right, texts, given = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    classes = {
        name: {
            "precision": _share(right[i], given[i]),
            "recall": _share(right[i], texts[i]),
            "f1": _share(2 * right[i], given[i] + texts[i]),
            "texts": int(texts[i]),
            "errors": int(texts[i] - right[i]),
        }
        for i, name in enumerate(names)
    }
    seen = [one for i, one in enumerate(classes.values()) if texts[i] + given[i]]
    losses = -log_softmax(logits.astype(np.float64))[np.arange(len(labels)), labels]
    return {
        "loss": float(losses.mean()),
        "accuracy": float(right.sum() / len(labels)),
        "texts": len(labels),
        "mean": {name: float(np.mean([one[name] or 0.0 for one in seen])) for name in ("precision", "recall", "f1")},
        "classes": classes,
        "confusion": confusion.tolist(),
    }


def worst(
    texts: Sequence[Any],
    logits: Array,
    labels: Array,
    names: Sequence[str],
    count: int,
    place: Callable[[int], str] = "text {}".format,
) -> list[dict[str, Any]]:
    """Returns the texts with a wrong prediction. Those whose wrong class has the highest probability come first."""
    from pyroberta.training.losses import log_softmax

    log_probs = log_softmax(logits.astype(np.float64))
    predicted, best = log_probs.argmax(axis=1), log_probs.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    return [
        {
            "text": texts[i],
            "place": place(i),
            "label": names[labels[i]],
            "predicted": names[predicted[i]],
            "score": float(np.exp(best[i])),
        }
        for i in wrong[np.argsort(-best[wrong], kind="stable")][:count].tolist()
    ]


def lines(found: dict[str, Any]) -> list[str]:
    """Returns a report as a table of the classes and a table of confused classes."""
    classes, confusion = {printable(name): one for name, one in found["classes"].items()}, found["confusion"]
    width = max(5, *map(len, classes))
    rows = [f"{'class':<{width}}  precision  recall     f1  texts  errors"]
    for name, one in [*classes.items(), ("mean", {**found["mean"], "texts": found["texts"]})]:
        figures = [f"{'-' if one[key] is None else format(one[key], '.3f'):>{w}}" for key, w in FIGURES]
        errors = one.get("errors", sum(each["errors"] for each in classes.values()))
        rows.append(f"{name:<{width}}  {'  '.join(figures)}  {one['texts']:>5}  {errors:>6}")
    rows.append(f"accuracy {found['accuracy']:.4f}, loss {found['loss']:.4f}")
    names = list(classes)
    if len(names) <= MOST_COLUMNS:
        columns = [max(len(name), 4) for name in names]
        rows += ["", "texts of the class on the left that were given the class above:"]
        rows.append(" " * width + "".join(f"  {name:>{w}}" for name, w in zip(names, columns, strict=True)))
        for name, counts in zip(names, confusion, strict=True):
            rows.append(f"{name:<{width}}" + "".join(f"  {n:>{w}}" for n, w in zip(counts, columns, strict=True)))
    else:
        pairs = [(n, a, b) for a, row in zip(names, confusion, strict=True) for b, n in zip(names, row, strict=True)]
        wrong = sorted((pair for pair in pairs if pair[0] and pair[1] != pair[2]), key=lambda pair: -pair[0])
        rows += ["", "most often confused:" if wrong else "none is confused with another"]
        rows += [f"{n:>6}  {a} given as {b}" for n, a, b in wrong[:MOST_CONFUSIONS]]
    for error in found.get("errors", ()):
        text = error["text"] if isinstance(error["text"], str) else " | ".join(error["text"])
        rows += [
            "",
            printable(f"{error['place']}: {error['label']}, given as {error['predicted']} ({error['score']:.1%})"),
            f"  {text}",
        ]
    return rows


FIGURES = (("precision", 9), ("recall", 6), ("f1", 5))  # and the widths of their columns


def _share(part: Any, whole: Any) -> float | None:
    return float(part / whole) if whole else None
