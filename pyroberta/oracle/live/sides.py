"""The two sides of a check: the trace, and the batch for the other implementation; and the report of the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from pyroberta.data.examples import HeldExamples
from pyroberta.formats.stored import few
from pyroberta.model.batch import Batch, pack, unpack
from pyroberta.model.config import RobertaConfig
from pyroberta.model.parameters import Arrays
from pyroberta.ops import Key
from pyroberta.oracle.compare import Report, compare
from pyroberta.oracle.foreign import Aligned, align
from pyroberta.oracle.golden import Entry, Trace, config_of
from pyroberta.oracle.trace import trace_updates
from pyroberta.tasks.backbone import Backbone
from pyroberta.tasks.masked_lm import MaskedLM
from pyroberta.tasks.task import Task
from pyroberta.tasks.text_classifier import TextClassifier
from pyroberta.text.classifier_preprocessor import TextClassifierPreprocessor
from pyroberta.text.preprocessor import MaskedLMPreprocessor
from pyroberta.text.tokenizer import Tokenizer

SPARE = 2  # additional columns after the longest sequence, so that each sequence has padding
SIDES = ("right", "left")


@dataclass(frozen=True, kw_only=True)
class LiveReport(Report):
    """The `Report` of the comparison in a check, with the trace and the collected tensors.

    Attributes:
        golden: the trace.
        aligned: the collected tensors under the trace's names, what was done to each, and the names that the trace
            lacks.
        remarks: sentences about the check, such as what could not be compared.
    """

    golden: Trace
    aligned: Aligned
    remarks: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report for JSON, without the tensors."""
        notes = {"aligned": self.aligned.notes, "their_names": self.aligned.names}
        return super().to_dict() | notes | {"remarks": list(self.remarks)}

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *self.remarks])


class Padded(NamedTuple):
    """A trace's batch in padded arrays of B sequences and S columns.

    Attributes:
        ids: (B, S) int, with the pad id at padding.
        mask: (B, S) bool, true at tokens.
        positions: (B, S) int, from 0; 0 at padding.
        labels: (B, S) int, the label of each target; -100 elsewhere.
    """

    ids: Array
    mask: Array
    positions: Array
    labels: Array


def padded(golden: Trace, side: str = "right", spare: int = SPARE) -> Padded:
    """Returns the batch of a trace in padded arrays.

    Args:
        golden: the trace.
        side: the side of the padding, `"right"` or `"left"`.
        spare: the number of columns after the longest sequence. There are fewer if sequences would be too long for the
            model.

    Raises:
        ValueError: if the side is unknown.
    """
    if side not in SIDES:
        raise ValueError(f"padding_side should be 'right' or 'left', got {side!r}")
    config = config_of(golden)
    lengths = np.diff(golden["batch.starts"])
    longest = int(lengths.max(initial=0))
    S = max(longest, min(longest + spare, config.max_sequence_length))
    columns = np.arange(S)
    mask = columns < lengths[:, None] if side == "right" else columns >= S - lengths[:, None]
    labels = np.full(len(golden["batch.ids"]), -100, np.int64)
    labels[golden["batch.target_rows"]] = golden["batch.labels"]
    return Padded(
        np.where(mask, unpack(golden["batch.ids"], mask), config.pad_id),
        mask,
        unpack(golden["batch.positions"], mask),
        np.where(mask, unpack(labels, mask), -100),
    )


# --- the trace --------------------------------------------------------------------------------------------------------


def task_of(config: RobertaConfig, params: Arrays, tokenizer: Tokenizer | None) -> Task:
    """Returns a task with the given float64 parameters. Its preprocessor has the default settings, or is None without a
    tokenizer.
    """
    backbone = Backbone.from_parts(config, params, "numpy", "float64")
    length = min(512, config.max_sequence_length)
    if config.num_classes:
        return TextClassifier(
            backbone, config.num_classes, TextClassifierPreprocessor(tokenizer, length) if tokenizer else None
        )
    return MaskedLM(backbone, MaskedLMPreprocessor(tokenizer, length) if tokenizer else None)


class _WithoutUpdate(Trace):
    """A trace that ends with the gradients; the rest takes as much memory as several copies of the model."""

    def add(self, name: str, array: Any, entry: Entry) -> None:
        """Keeps a copy of an array, unless it is of the update itself."""
        if entry.op not in ("clip", "clip_scale", "update"):
            super().add(name, array, entry)


def check_head(reference: Task, head: str) -> None:
    """Checks that a reference has the same head as the checked model.

    Raises:
        ValueError: if it has another head.
    """
    if reference.backbone.config.head != head:
        raise ValueError(
            f"the reference should have the model's head, {head!r}; it has {reference.backbone.config.head!r}"
        )


def traced(
    task: Task,
    texts: Any,
    y: Any = None,
    sample_weight: Any = None,
    trainable: Sequence[str] | None = None,
    *,
    with_update: bool = False,
) -> Trace:
    """Returns the trace in float64 of one update on the texts, without dropout.

    Args:
        task: the model with its optimizer. It is not changed.
        texts: strings or features, as for `evaluate`; or sequences of ids. Then every token of a masked LM is a target.
        y, sample_weight: as for `evaluate`. Without `y`, the texts of a classifier have the classes 0, 1, 2, … in turn.
        trainable: the names of the parameters that are updated. The default is all.
        with_update: whether the trace has the optimizer's slots and the updated parameters too.

    Raises:
        TypeError: if `texts` is one text, or a sequence is not of whole numbers.
        ValueError: if there are no texts, no tokenizer for texts, several batches, or ids and lengths that the model
            lacks.
    """
    config = replace(task.backbone.config, dropout=0.0, attention_dropout=0.0, classifier_dropout=0.0)
    batch, golden = _batch(task, texts, y, sample_weight), Trace() if with_update else _WithoutUpdate()
    params = task.backbone.params
    trace_updates(
        golden,
        config,
        params if params.dtype == np.float64 else params.astype("float64"),
        [batch],
        task.loss,
        task.optimizer,
        precision=None,
        trainable=trainable,
    )
    return golden


def headless(golden: Trace) -> Trace:
    """Returns a trace for a model without a head. Its backward begins at the last hidden state, with the gradient of
    the original trace. The gradient of the token embedding is only that of the lookup.
    """
    found = Trace()
    found.settings = golden.settings
    lookup = {"0": "d.embeddings.tokens"}
    for name, entry in golden.entries.items():
        if name == last_gradient(golden):
            entry = Entry("", entry.place, entry.value, "given", entry.page)
        elif name == "gradients.embeddings.token":
            entry = replace(entry, inputs=lookup)
        found.add(name, golden[name], entry)
    return found


def last_gradient(golden: Trace) -> str:
    """Returns the trace's name of the gradient of the last hidden state."""
    return f"d.layers.{config_of(golden).num_layers - 1}.feed_forward.norm.output"


def _batch(task: Task, texts: Any, y: Any, sample_weight: Any) -> Batch:
    config = task.backbone.config
    if isinstance(texts, str):
        raise TypeError(f"texts should be a list of texts, got one text, {texts[:40]!r}. Put it into a list")
    if not isinstance(texts, Mapping):
        texts = list(texts)
    if isinstance(texts, list) and not texts:
        raise ValueError("texts is empty: give at least one text")
    is_ids = isinstance(texts, list) and not any(isinstance(text, str) or _has_segments(text) for text in texts)
    if config.num_classes and y is None:
        count = len(texts["token_ids"]) if isinstance(texts, Mapping) else len(texts)
        y = np.arange(count) % config.num_classes
    if is_ids:
        batch = _all_targets(config, texts)
        if not config.num_classes:
            if y is not None or sample_weight is not None:
                raise ValueError(
                    "y and sample_weight can't be given with sequences of ids, because every token is a target: give "
                    "texts or features with them"
                )
            return batch
        mask = np.arange(int(np.diff(batch.starts).max(initial=0))) < np.diff(batch.starts)[:, None]
        texts = {"token_ids": unpack(batch.ids, mask), "padding_mask": mask}
    if task.preprocessor is None and not isinstance(texts, Mapping):
        raise ValueError(
            "there is no tokenizer for the texts: give tokenizer=, or sequences of ids, or a dict of features "
            "(token_ids, padding_mask and, for a masked LM, mask_positions, with y)"
        )
    reader = task._reader()
    examples = reader.examples(texts, y, sample_weight)
    if not isinstance(examples, HeldExamples):
        raise ValueError("texts should be one batch, not an iterable of batches")
    reader.warn()
    return examples.masked(Key.of_evaluation())


def _has_segments(item: Any) -> bool:
    """Whether an item of a list is a text in several segments."""
    return isinstance(item, list | tuple) and any(isinstance(part, str) for part in item)


def _all_targets(config: RobertaConfig, sequences: Sequence[Any]) -> Batch:
    """A batch of sequences of ids in which each token is a target, and its own label."""
    arrays = [np.asarray(sequence) for sequence in sequences]
    for number, ids in enumerate(arrays):
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise TypeError(f"sequence {number} should be a text or (S,) whole numbers, got {ids.dtype} {ids.shape}")
        if ids.size and (ids.min() < 0 or ids.max() >= config.vocabulary_size):
            raise ValueError(
                f"sequence {number} has ids from {ids.min()} to {ids.max()}; the ids of the model go from 0 to "
                f"{config.vocabulary_size - 1}: use the tokenizer of the model"
            )
        if len(ids) > config.max_sequence_length:
            raise ValueError(
                f"sequence {number} has {len(ids)} tokens, and the model reads at most {config.max_sequence_length}: "
                "cut the sequence"
            )
    batch = pack([ids.astype(np.int32) for ids in arrays])
    rows = np.arange(batch.num_tokens, dtype=np.int32)
    weights = np.ones(batch.num_tokens)
    return replace(batch, target_rows=rows, labels=batch.ids.copy(), weights=weights, slots=batch.num_tokens)


# --- the report -------------------------------------------------------------------------------------------------------


def judged(
    golden: Trace,
    tensors: Mapping[str, Array],
    names: Mapping[str, str] | None,
    precision: str,
    remarks: Sequence[str] = (),
    format: str = "",
) -> LiveReport:
    """Compares the collected tensors with a trace.

    Args:
        golden: the trace.
        tensors: their name -> array, in the order in which they were computed.
        names: as for `align`.
        precision: the arithmetic of the other implementation.
        remarks: sentences for the report.
        format: a key of `FORMATS` if the names are those of its modules, or "".

    Raises:
        ValueError: if no tensor has a known name, and as in `align`.
    """
    aligned = align(golden, tensors, names)
    if format:  # whose gradients were all taken, those too that the trace has not
        aligned = replace(aligned, unknown=[name for name in aligned.unknown if not name.endswith(".grad")])
    report = compare(golden, aligned, precision)
    if not report.findings:
        raise ValueError(
            f"nothing to compare: no tensor has a name of the trace, of Hugging Face, of Keras or of fairseq; there "
            f"are {few(aligned.unknown) or 'none'}. Give names="
        )
    same = {one.name: getattr(report, one.name) for one in fields(report)}
    return LiveReport(**same, golden=golden, aligned=aligned, remarks=[*remarks, *aligned.remarks])
