"""The results of a model in the order of the texts, each as soon as its batch is done."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pyroberta.data.sources import Source
from pyroberta.tasks import inference
from pyroberta.training.callbacks import ProgressBar

OF_THE_TEXTS = r"(\d+ of \d+ texts|the only text) "  # how the warnings begin that tell the numbers of texts


def stream(
    model: Any,
    method: str,
    texts: Sequence[Any],
    *,
    long_texts: str,
    verbose: int | str = "auto",
    place: Callable[[int], str] = "text {}".format,
    **arguments: Any,
) -> Iterator[Any]:
    """Yields the result of a method for each text, in order. One or two batches of texts are computed at a time.

    All texts are checked before the first batch. If a text is refused, the error is raised then, with its place. There
    is one warning for all texts that are split or cut. Results differ from those of a single call only by rounding.

    Args:
        model: a `MaskedLM` or a `TextClassifier`.
        method: `"score"`, `"fill_mask"`, `"embed"` or `"classify"`.
        texts: strings. For a classifier, also tuples of strings, which are the segments of a text.
        long_texts: see the method.
        verbose: see `MaskedLM.score`.
        place: a function that returns the name of a text for messages, from its number.
        arguments: other arguments of the method. `targets` is a list.

    >>> from pyroberta import MaskedLM
    >>> masked_lm = MaskedLM.from_preset("roberta_tiny_en")
    >>> for text_score in stream(masked_lm, "score", ["A dog barks.", "A cat sleeps."], long_texts="refuse"):
    ...     print(text_score.tokens[0])
    A
    A
    """
    targets = arguments.get("targets")
    is_whole = long_texts == "cut" and targets is not None  # the longest target decides on the cut
    parts = [range(len(texts))] if is_whole else _parts(_sizes(model, method, texts, long_texts, targets, place))
    shown = ProgressBar(0 if verbose == "auto" and len(parts) < 2 else verbose)
    with shown.counting(method, len(parts)) as advance:
        for part in parts:
            with warnings.catch_warnings():
                if not is_whole:  # it was told of all texts
                    warnings.filterwarnings("ignore", message=OF_THE_TEXTS)
                some = _Part(texts, part, place)
                found = getattr(model, method)(some, long_texts=long_texts, verbose=0, **arguments)
            advance(None)
            yield from found


class _Part(Source):
    """Some of the texts, which have the places that they have among all."""

    def __init__(self, texts: Sequence[Any], part: range, place: Callable[[int], str]) -> None:
        super().__init__([texts[i] for i in part])
        self._part, self._place = part, place

    def place(self, number: int) -> str:
        return self._place(self._part[number])


def _sizes(
    model: Any, method: str, texts: Sequence[Any], long_texts: str, targets: Any, place: Callable[[int], str]
) -> list[int]:
    """How many tokens the model reads for each text, its masked copies counted.

    Raises:
        ValueError: for a text that the method refuses.

    Warns:
        UserWarning: as the method.
    """
    tokenizer = model._tokenizer()
    if method == "classify":
        treatment = model._reader(long_texts, is_prediction=True).long_texts
    else:
        treatment = model._long_texts(long_texts)
    if method == "fill_mask":
        treatment.kept_id = tokenizer.mask_token_id
    treatment.place = place
    sequences, owners = inference.encode(tokenizer, texts, treatment)
    if method == "fill_mask":
        inference.mask_places_of(tokenizer, texts, sequences, place)
        if targets:
            inference.check_targets(model.backbone, tokenizer, texts, sequences, targets, place)
    sizes = np.array([len(ids) for ids in sequences], np.int64)
    if method == "score":
        counts = [len(where) for where in inference.scored_places(tokenizer, sequences, owners, len(texts), place)]
        sizes = sizes * counts
    found = np.zeros(len(texts), np.int64)
    np.add.at(found, owners, sizes)
    return [int(size) for size in found]


def _parts(sizes: Sequence[int]) -> list[range]:
    """The numbers of the texts in parts of no more than `TOKENS_AT_ONCE` tokens; a larger text is one by itself.

    >>> _parts([1000, 1000, 1000, 9999, 10])
    [range(0, 2), range(2, 3), range(3, 4), range(4, 5)]
    """
    parts: list[range] = []
    start = tokens = 0
    for i, size in enumerate(sizes):
        if i > start and tokens + size > inference.TOKENS_AT_ONCE:
            parts.append(range(start, i))
            start, tokens = i, 0
        tokens += size
    return [*parts, range(start, len(sizes))] if len(sizes) else []
