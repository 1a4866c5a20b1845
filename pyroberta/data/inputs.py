"""The inputs of `fit`, `evaluate` and `predict`, and how they become examples."""

from __future__ import annotations

import reprlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Sized
from functools import partial
from itertools import chain, islice
from typing import Any, ClassVar

import numpy as np
from numpy import ndarray as Array

from pyroberta.data.examples import Examples, HeldExamples, StreamedExamples
from pyroberta.data.kinds import DEFAULTS, Wanted
from pyroberta.data.sources import Rows, Source, is_one_text, open_given
from pyroberta.data.tables import with_items
from pyroberta.formats.budget import type_of
from pyroberta.formats.counts import counted
from pyroberta.model.attributes import is_real, true_or_false
from pyroberta.model.batch import Batch, pack, pack_padded, real_numbers
from pyroberta.model.config import RobertaConfig
from pyroberta.text.full_sentences import full_sentences
from pyroberta.text.given import (
    bytes_error,
    opened,
    refuse_endless,
    refuse_masked,
    refuse_names_of_files,
    refuse_rows,
    refuse_single,
    refuse_tuple,
    warn_of_a_files_name,
)
from pyroberta.text.long_texts import LongTexts
from pyroberta.text.other_masks import OtherMasks
from pyroberta.text.preprocessor import MaskedLMPreprocessor, Preprocessor, read_texts

FEATURES = ("token_ids", "padding_mask", "mask_positions")
HF_NAMES = {"input_ids": "token_ids", "attention_mask": "padding_mask"}
KNOWN = {*FEATURES, *HF_NAMES}  # a dict with one of these is taken for features
ACCEPTED_INPUT = (
    "texts (a list, an array, a column or any iterable of strings, pairs of strings, or the path of a file; with "
    "column= a table or records), "
    f"encoded sequences (arrays of token ids), or a dict of {', '.join(FEATURES)} with labels beside it"
)
STEPS = "Give steps= (in fit steps_per_epoch=, for validation_data validation_steps=). "


class InputReader(ABC):
    """Makes examples for one model from users' inputs. Each task has its own subclass.

    Args:
        config: the model's config. Ids and lengths are checked against it.
        preprocessor: the preprocessor that encodes texts. None for a model that takes preprocessed input only.
        long_texts: the treatment of texts that are too long; see `LongTexts`. None for the task's default.
        is_prediction: whether the reader is for `predict`, and not for `fit` and `evaluate`.
        argument: the name of the argument that is read, for the warning of long texts. It is empty for x.
        label_names: the names of a classifier's classes. None for default names.
        may_name: whether labels may replace the default names of classes.
        full_sentences: whether sequences are filled with whole sentences of the texts, one after another.

    Attributes:
        long_texts: the treatment of long texts, and their counts.

    Raises:
        ValueError: if `long_texts` is unknown, or the task does not support it.
    """

    needed: ClassVar[tuple[str, ...]] = ("token_ids",)  # features, beside `padding_mask`
    training_default: ClassVar[str] = "cut"  # the default of `long_texts` for `fit` and `evaluate` …
    prediction_default: ClassVar[str] = "cut"  # … and for `predict`
    unsplit: ClassVar[str]  # the reason why texts can't be split, if they can't
    packs: ClassVar[bool] = False  # whether a sequence may hold several texts

    def __init__(
        self,
        config: RobertaConfig,
        preprocessor: Preprocessor | None,
        long_texts: str | None = None,
        *,
        is_prediction: bool = False,
        argument: str = "",
        label_names: Sequence[str] | None = None,
        may_name: bool = False,
        full_sentences: bool = False,
    ) -> None:
        self.config = config
        self.preprocessor = preprocessor
        self.label_names, self.may_name = label_names, may_name
        self._argument = argument
        self.full_sentences = true_or_false("full_sentences", full_sentences)
        if self.full_sentences and not self.packs:
            raise ValueError(f"full_sentences=True fills sequences with many texts, and {self.unsplit}: leave it out")
        self._packed = ""  # how many texts made how many sequences
        self._source = Source(None)  # while it is read
        self._first = 0  # the number of the first text of a stream's batch
        self._description = ""
        default = self.prediction_default if is_prediction else self.training_default
        if long_texts == "split" != default:
            raise ValueError(f"{self.unsplit}: pass long_texts='cut' or 'refuse', not 'split'")
        limit, owner = self._limit(is_prediction)
        self.long_texts = LongTexts(
            default if long_texts is None else long_texts,
            limit,
            owner=owner,
            is_asked=long_texts is not None,
            kept_id=self._kept_id(is_prediction),
            argument=argument,
            noun="sentence" if full_sentences else "text",
            can_split=default == "split",
        )

    def _limit(self, is_prediction: bool) -> tuple[int, str]:
        """The most tokens of a text, and the name of that limit."""
        if self.preprocessor is None:
            return self.config.max_sequence_length, "the model takes"
        return self.preprocessor.sequence_length, "the preprocessor's sequence_length is"

    def _kept_id(self, is_prediction: bool) -> int | None:
        """The token that a cut must not drop; None for none."""
        return None

    @abstractmethod
    def features(self, x: Mapping[str, Any], y: Any = None, sample_weight: Any = None) -> Batch:
        """Returns preprocessed features, labels and weights as a packed batch."""

    @abstractmethod
    def _check_labels(self, y: Any) -> None:
        """Checks that there are labels beside texts, or none, before the texts are encoded."""

    @abstractmethod
    def _of_texts(self, data: Batch, y: Any, sample_weight: Any, texts: Array | None = None) -> HeldExamples:
        """Examples of texts that are encoded already.

        texts: (B,) the number of each sequence's text; None where each sequence is a text.
        """

    @abstractmethod
    def _check(self, held: HeldExamples) -> None:
        """Checks that training on these examples alone can change something."""

    @property
    def new_names(self) -> list[str] | None:
        """Returns the names of the classes that the labels gave, or None."""
        return None

    def _begin_stream(self) -> None:  # noqa: B027  # most readers have nothing to do
        """Called before examples are read as they come."""

    def _read_from(self, source: Source) -> None:
        self._source.warn()  # of the rows that were read of it
        self._source, self.long_texts.place = source, source.place
        source.argument = self._argument

    def _look_at(self, texts: Any, first: int) -> None:  # noqa: B027  # most readers look for nothing
        """Called with texts that were encoded, of which the first has the number `first`."""

    def _place(self, number: int) -> str:
        """Where a text is, for messages."""
        return self._source.place(self._first + number)

    @property
    def _label_classes(self) -> list[str] | None:
        return self._source.classes

    def _lines(self) -> Iterator[str]:
        """What is to be said about the input, a line each, or empty ones."""
        yield self._description
        yield self._packed

    def say(self, verbose: int | str) -> None:
        """Prints on stderr which files were read, and which names the labels gave to the classes. If verbose is 0,
        prints nothing. Then does what `warn` does, whatever `verbose` is.

        Warns:
            UserWarning: see `warn`.
        """
        for line in filter(None, self._lines() if verbose else ()):
            print(f"{self._argument}{': ' * bool(self._argument)}{line}", file=sys.stderr)
        self.warn()

    def warn(self) -> None:
        """Warns once of what was read so far.

        Warns:
            UserWarning: if texts were split or cut, or are empty in a file or a table. The message has the counts.
        """
        self.long_texts.say()
        self._source.warn()

    def _opened(self, x: Any, y: Any, wanted: Wanted) -> tuple[Any, Any]:
        """The texts, or x itself, and the labels. A source of rows is left as it is."""
        if isinstance(x, Mapping) and wanted == DEFAULTS and not KNOWN.isdisjoint(x):
            self._read_from(Source(x))
        else:
            self._read_from(open_given(x, wanted, is_optional=bool(self._argument)))
        self._description = self._source.description
        if not isinstance(self._source, Rows):
            return self._source.texts, y
        if self._source.has_labels and y is not None:
            raise ValueError(f"y and label={self._source.wanted.label!r} both give labels: pass only one of them")
        return self._source, y

    def examples(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        stream: bool = False,
        most: int | None = None,
        *,
        wanted: Wanted = DEFAULTS,
    ) -> Examples:
        """Returns the examples of an input: any of `ACCEPTED_INPUT`, or an iterable of batches (x,), (x, y) or (x, y,
        sample_weight).

        Args:
            x: the input. An iterable that is not a list (a generator, a data loader) may yield lists of strings, each
                of which is a batch of texts. A list of lists of strings is refused.
            y: the labels. For a classifier (B,). For a masked LM (B, K), and only if x is a dict of features.
            sample_weight: (B,), one weight per text. If x is a masked LM's dict of features, it may be (B, K).
            stream: whether an iterator of texts is read batch by batch instead of being collected first.
            most: the largest number of texts that are read from an iterable without a length. None for all.
            wanted: the arguments `column`, `label` and `per_line` of `open_source`. For validation data, they apply
                only to what has columns or is a text file.

        Raises:
            TypeError, ValueError: if the input is anything else. The message says what it is, and what is accepted.
        """
        x, y = self._opened(x, y, wanted)
        if isinstance(x, Rows):
            if x.has_labels:
                self._check_labels(x.wanted.label)
            if stream and not x.is_held:
                self._check_stream(y if y is not None else sample_weight)
                if x.description:
                    self._description = f"{x.description}, read step by step in their order"
                rows = x.stream()
                return self._streamed(iter(rows), rows, is_labelled=x.has_labels)
            texts, labels = self._all_of(x, most)
            held = self._checked_held(texts, labels if x.has_labels else y, sample_weight)
            self._read_from(Source(None))  # the texts are needed no more
            return held
        x = _opened(x)
        if isinstance(x, Mapping):
            return self._checked_held(x, y, sample_weight)
        if isinstance(x, tuple) and _is_columns(x):
            return self._checked_held(x, y, sample_weight)
        x = with_items(x)
        refuse_names_of_files(x)
        try:
            iterator = iter(x)
        except TypeError:
            raise TypeError(f"x should be {ACCEPTED_INPUT}; got {type_of(x)}") from None
        items = list(islice(iterator, 1))
        if not items:
            raise ValueError("x is empty: there is nothing to fit or to evaluate")
        left: Iterator[Any] = chain(items, iterator)
        if _is_batch(items[0], is_list=isinstance(x, list | np.ndarray)):
            if y is not None or sample_weight is not None:
                raise ValueError(
                    "x is an iterable of batches: put y and sample_weight into each batch, as (x, y, sample_weight)"
                )
            self._begin_stream()
            if stream:  # goes on where the epoch before left off
                parts = self._parts(self._on_and_on(left, x))
                return StreamedExamples(lambda size: parts)
            whole = self._every_time(left, x)
            return StreamedExamples(lambda size: self._parts(whole()))
        if stream and not isinstance(x, Sized):
            self._check_stream(y if y is not None else sample_weight)
            return self._streamed(left, x)
        if most is None:
            refuse_endless(x, "x", STEPS)
        elif not isinstance(x, Sized):
            left, y, sample_weight = islice(left, most), _first(y, most), _first(sample_weight, most)
        return self._checked_held(left, y, sample_weight)

    def _all_of(self, rows: Rows, most: int | None = None) -> tuple[Any, Any]:
        """The texts and the labels of rows, of the first `most` of them."""
        if most is not None:
            some = list(islice(rows.stream(), most))
            texts = [text for text, _ in some] if rows.has_labels else some
            return texts, [label for _, label in some] if rows.has_labels else None
        texts, labels = rows.texts, rows.labels
        self._description = rows.description
        return texts, labels

    def _check_stream(self, beside: Any) -> None:
        """Checks that nothing is given beside a stream of texts."""
        if beside is not None:
            raise ValueError("y and sample_weight can't go with a stream of texts; collect them into a list first")

    def _streamed(self, left: Iterator[Any], x: Iterable[Any], is_labelled: bool = False) -> StreamedExamples:
        """The examples of a stream of texts, or of pairs of a text and its label: `left`, then x again and again."""
        self._begin_stream()
        texts = self._on_and_on(left, x)
        made: dict[int, Iterator[HeldExamples]] = {}  # for a batch size; it may have windows left from before
        return StreamedExamples(
            lambda size: made.get(size) or made.setdefault(size, self._cut(texts, size, is_labelled))
        )

    def prediction_batches(
        self, x: Any, batch_size: int, steps: int | None = None, *, wanted: Wanted = DEFAULTS
    ) -> tuple[Iterator[Any], int | None]:
        """Returns the batches for `predict`, and their number if it is known, else None.

        A batch is a dict of features, or a list of the ids of whole texts.

        Args:
            x: see `examples`, except that a string is one text and not a path, unless `wanted` says so.
            batch_size: the size of a batch, unless x is an iterable of batches.
            steps: the largest number of batches. No more are read.
            wanted: see `examples`.

        Returns:
            The batches, and their number if it is known, else None.

        Raises:
            TypeError, ValueError: see `examples`.
        """
        if is_one_text(x, wanted):
            warn_of_a_files_name(x)
            x = [x]
        x, _ = self._opened(x, None, wanted)
        if isinstance(x, Rows):
            x = self._all_of(x)[0] if steps is None or x.is_held else _without_labels(x)
        x = _opened(x)
        if isinstance(x, Mapping):
            check_features(x, self.needed)
            x = {**x, "padding_mask": padding_mask(x)}
            starts = range(0, check_rows(x), batch_size)[:steps]
            return ({name: value[i : i + batch_size] for name, value in x.items()} for i in starts), len(starts)
        x = with_items(x)
        if not isinstance(x, Iterable):
            raise TypeError(f"expected a text or a list of texts, got {type_of(x)}; x should be {ACCEPTED_INPUT}")
        if isinstance(x, tuple) and _is_columns(x):
            sequences = self._encoded(x)[0]
        else:
            iterator = iter(x)
            items = list(islice(iterator, 1))
            left = chain(items, iterator)
            if items and _is_batch(items[0], is_list=isinstance(x, list | np.ndarray)):
                return map(self._prediction_batch, islice(left, steps)), steps
            if steps is None:
                refuse_endless(x, "x", STEPS)
            sequences = self._encoded(left if steps is None else islice(left, steps * batch_size))[0]
        self._read_from(Source(None))  # the texts are needed no more
        starts = range(0, len(sequences), batch_size)[:steps]
        return (sequences[i : i + batch_size] for i in starts), len(starts)

    def _prediction_batch(self, item: Any) -> Any:
        """One batch of an iterable of batches, without the labels and weights beside it."""
        x = item[0] if isinstance(item, tuple) or _starts_with_features(item) else item
        _refuse_one_text(x)
        if not isinstance(x, Mapping):
            return self._encoded(x)[0]
        check_features(x, self.needed)
        return x

    def _encoded(self, items: Iterable[Any], first: int = 0) -> tuple[list[Any], list[int]]:
        """The ids of texts or of sequences, and the number of each one's text. A tuple holds columns of segments.

        The numbers begin with `first`.
        """
        preprocessor = self._need_preprocessor()  # encoded sequences are masked too
        items = opened(items)
        sequences: list[Any] = []
        owners: list[int] = []
        if isinstance(items, tuple):
            sequences, owners, _ = preprocessor.sequences(items, self.long_texts)
            self._look_at(items, 0)
            items = ()
        iterator, count = iter(items), first
        while some := list(islice(iterator, 1024)):  # in pieces, so that the texts of a stream are not held
            if all(_is_encoded(item) for item in some):
                sequences += [self._checked(np.asarray(item), i) for i, item in enumerate(some, count)]
                owners += range(count, count + len(some))
            else:
                made, text_numbers, _ = preprocessor.sequences(some, self.long_texts, count)
                self._look_at(some, count)
                sequences += made
                owners += text_numbers
            count += len(some)
        longest, limit = max(map(len, sequences), default=0), self.config.max_sequence_length
        if longest > limit:  # the preprocessor was changed after it was checked
            raise ValueError(
                f"the preprocessor made a sequence of {longest} tokens; the model takes {limit}. "
                f"Give it a sequence_length of at most {limit}"
            )
        return sequences, owners

    def _full_sentences(self, items: Iterable[Any]) -> Iterator[Array]:
        """The sequences that whole sentences of texts fill."""

        def documents() -> Iterator[str]:
            if isinstance(items, tuple):
                raise TypeError(
                    "full_sentences=True applies to texts of one segment, but x is a tuple of segments. Leave it out"
                )
            for i, item in enumerate(items):
                if not isinstance(item, str):
                    raise TypeError(
                        f"full_sentences=True applies to texts of one segment; {self._place(i)} is "
                        f"{reprlib.repr(item)} ({type(item).__name__}). Leave it out"
                    )
                yield item

        return full_sentences(self._need_preprocessor().tokenizer, documents(), self.long_texts)

    def _held(self, x: Any, y: Any = None, sample_weight: Any = None) -> HeldExamples:
        """Examples of texts or features, held in memory."""
        refuse_masked(
            y, "y", "Pass y.filled(0), with sample_weight=~numpy.ma.getmaskarray(y) to leave the hidden ones out"
        )
        refuse_masked(sample_weight, "sample_weight", "Pass sample_weight.filled(0) to leave the hidden ones out")
        if isinstance(x, Mapping):
            if self.full_sentences:
                raise ValueError("full_sentences=True applies to texts, but x is a dict of features. Leave it out")
            return HeldExamples(self.features(x, y, sample_weight))
        self._check_labels(y)
        if self.full_sentences:
            if sample_weight is not None:
                raise ValueError(
                    "sample_weight has a weight per text, but with full_sentences=True a sequence holds parts of "
                    "several texts. Leave one of them out"
                )
            packed = list(self._full_sentences(x))
            self._packed = f"full sentences: {counted(len(packed), 'sequence')}"
            return self._of_texts(pack(packed), None, None)
        sequences, owners = self._encoded(x)
        is_split = bool(owners) and owners[-1] + 1 < len(owners)
        return self._of_texts(pack(sequences), y, sample_weight, np.array(owners) if is_split else None)

    def _checked_held(self, x: Any, y: Any, sample_weight: Any) -> HeldExamples:
        """The examples of a whole `fit` or `evaluate`, checked by `_check`."""
        held = self._held(x, y, sample_weight)
        self._check(held)
        return held

    def _on_and_on(self, left: Iterator[Any], x: Iterable[Any]) -> Iterator[Any]:
        """The rest of the first pass over x, then x again and again, unless it gives its items only once."""
        yield from left
        again = True
        while again and iter(x) is not x:
            self.long_texts.is_counting = again = False
            for item in x:
                again = True
                yield item

    def _every_time(self, left: Iterator[Any], x: Iterable[Any]) -> Callable[[], Iterator[Any]]:
        """A function that returns an iterator over all of x's items at each call. `left` is the first of them."""
        begun = [left]

        def items() -> Iterator[Any]:
            if begun:
                return begun.pop()
            again = iter(x)
            self.long_texts.is_counting &= again is x  # an iterator goes on where it was
            return again

        return items

    def _batch(self, item: Any) -> HeldExamples:
        """One batch of an iterable of batches."""
        parts = item if isinstance(item, tuple) or _starts_with_features(item) else (item,)
        if len(parts) > 3:
            raise ValueError(
                f"a batch should be x, (x, y) or (x, y, sample_weight); got {type_of(item)} of {len(parts)}"
            )
        _refuse_one_text(parts[0])
        return self._held(*parts)

    def _parts(self, items: Iterable[Any]) -> Iterator[HeldExamples]:
        """The examples of an iterable of batches. A batch has no more sequences at a time than it has texts."""
        for item in items:
            held = self._batch(item)
            yield from held.parts(held.num_texts)

    def _cut(self, items: Iterator[Any], size: int, is_labelled: bool = False) -> Iterator[HeldExamples]:
        """Batches of a stream of texts, or of pairs with labels. No more are read than the next batch takes."""
        if not is_labelled:
            self._check_labels(None)
        if self.full_sentences:
            sequences = self._full_sentences(items)
            while some := list(islice(sequences, size)):
                yield self._of_texts(pack(some), None, None)
            return
        left: list[Any] = []  # windows of texts that were split
        labels: list[Any] = []
        number = 0
        while True:
            while len(left) < size and (one := list(islice(items, 1))):
                if is_labelled:
                    one, (_, label) = [one[0][0]], one[0]
                    labels.append(label)
                left += self._encoded(one, number)[0]
                number += 1
            if not left:
                return
            self._first = number - len(labels)  # those of the texts that are left
            yield self._of_texts(pack(left[:size]), labels[:size] if is_labelled else None, None)
            left, labels = left[size:], labels[size:]

    def _checked(self, ids: Any, number: int) -> Any:
        if not len(ids) or ids.min() < 0 or ids.max() >= self.config.vocabulary_size:
            raise ValueError(
                f"encoded sequence {number} should hold ids from 0 to {self.config.vocabulary_size - 1}; "
                f"it has {counted(len(ids), 'id')}" + (f" from {ids.min()} to {ids.max()}" if len(ids) else "")
            )
        if len(ids) > self.config.max_sequence_length:
            raise ValueError(
                f"encoded sequence {number} has {counted(len(ids), 'token')}; the model takes "
                f"{self.config.max_sequence_length}. Cut it yourself, or pass the text: long_texts applies to texts "
                "only"
            )
        if (ids == self.config.pad_id).any():
            raise ValueError(
                f"encoded sequence {number} holds the padding id {self.config.pad_id}, which would be read as a token. "
                f"Pass sequences of their own lengths, or a dict of {self._names}"
            )
        return ids

    @property
    def _names(self) -> str:
        """The names of the features, for messages."""
        return ", ".join(name for name in FEATURES if name in (*self.needed, "padding_mask"))

    def _need_preprocessor(self) -> Preprocessor:
        if self.preprocessor is None:
            raise ValueError(
                f"this model has no preprocessor and takes a dict of {self._names} with labels y; "
                "for texts, set model.preprocessor, or load it without preprocessor=None"
            )
        return self.preprocessor


class MaskedLMInputs(InputReader):
    """The input reader of a masked LM. Masking makes the labels of texts."""

    needed = ("token_ids", "mask_positions")
    training_default, prediction_default, packs = "split", "refuse", True
    unsplit = "predict returns one answer per text, but the windows of a split text would have one answer each"
    preprocessor: MaskedLMPreprocessor | None

    def __init__(self, *arguments: Any, is_prediction: bool = False, **options: Any) -> None:
        super().__init__(*arguments, is_prediction=is_prediction, **options)
        self._other_masks = None
        if is_prediction and self.preprocessor is not None:
            self._other_masks = OtherMasks(self.preprocessor.tokenizer.mask_token)

    def _look_at(self, texts: Any, first: int) -> None:
        if self._other_masks is not None:
            for number, segments in enumerate(read_texts(texts, first)[0], first):
                self._other_masks.see(segments, partial(self._place, number))

    def warn(self) -> None:
        """See `InputReader.warn`.

        Warns:
            UserWarning: also if texts for `predict` have masks in another form.
        """
        super().warn()
        if self._other_masks is not None:
            self._other_masks.say()

    def _limit(self, is_prediction: bool) -> tuple[int, str]:
        """For prediction the model's limit, since a text that is cut may lose a mask."""
        return (self.config.max_sequence_length, "the model takes") if is_prediction else super()._limit(is_prediction)

    def _kept_id(self, is_prediction: bool) -> int | None:
        return self.preprocessor.tokenizer.mask_token_id if is_prediction and self.preprocessor else None

    def features(self, x: Mapping[str, Any], y: Any = None, sample_weight: Any = None) -> Batch:
        """Returns preprocessed features as a packed batch: `token_ids` and `padding_mask` (B, S), `mask_positions` (B,
        K).

        Args:
            x: the features. Without `padding_mask`, every place holds a token.
            y: (B, K), the original ids.
            sample_weight: (B, K), the weight of each label in the loss, or (B,). The default is 1.
        """
        check_features(x, self.needed)
        if y is None:
            raise ValueError(
                "x is a dict of features and y is missing: pass the original ids of the masked tokens as y, "
                "of the shape of mask_positions"
            )
        return pack_padded(
            x["token_ids"],
            padding_mask(x),
            x["mask_positions"],
            y,
            sample_weight,
            vocabulary_size=self.config.vocabulary_size,
            max_sequence_length=self.config.max_sequence_length,
        )

    def _of_texts(self, data: Batch, y: Any, sample_weight: Any, texts: Array | None = None) -> HeldExamples:
        weights = per_text(sample_weight, len(data) if texts is None else int(texts[-1]) + 1)
        if weights is not None and texts is not None:
            weights = weights[texts]  # each window has its text's
        return HeldExamples(data, self._mask, weights, texts)

    def _mask(self, batch: Batch, draws: Array) -> Batch:
        return self._need_preprocessor().mask_batch(batch, draws)

    def _check(self, held: HeldExamples) -> None:
        if held.mask is None:
            if not len(held.data.target_rows):
                raise ValueError("x has no mask position with a weight above 0: there is nothing to predict")
        elif self._need_preprocessor().mask_selection_rate == 0.0:
            raise ValueError(
                "the preprocessor's mask_selection_rate is 0, so nothing is masked and there is nothing to predict"
            )
        elif np.isin(held.data.ids, self._need_preprocessor().tokenizer.special_token_ids).all():
            raise ValueError(
                "no token of x can be masked: its texts are empty or hold special tokens alone, so there is nothing "
                "to predict"
            )
        elif held.weights is not None and not held.weights.any():
            raise ValueError("every sample_weight is 0: there is nothing to predict")

    def _check_labels(self, y: Any) -> None:
        if y is not None:
            raise ValueError(
                "y was passed with texts, but a masked language model makes its labels from the texts. Leave y (and "
                f"label=) out, or pass x as a dict of {self._names}"
            )

    def _need_preprocessor(self) -> MaskedLMPreprocessor:
        super()._need_preprocessor()
        assert self.preprocessor is not None
        return self.preprocessor


def check_features(x: Any, needed: Collection[str] = ("token_ids", "mask_positions")) -> None:
    """Checks that x is a dict of the needed features. It may have a padding mask too.

    Raises:
        TypeError, ValueError: if it isn't. The message says what x is, and what is needed.
    """
    allowed = ", ".join(name for name in FEATURES if name in {*needed, "padding_mask"})
    if not isinstance(x, Mapping):
        hint = ". Texts go to predict, or through the preprocessor" if isinstance(x, str | list | tuple) else ""
        raise TypeError(f"the features should be a dict of {allowed}; got {type_of(x)}{hint}")
    if not set(needed) <= set(x) <= {*needed, "padding_mask"}:
        raise ValueError(
            f"the features should be a dict of {allowed}; got {', '.join(map(str, x)) or 'none'}{_renamed(x)}"
        )
    for name, value in x.items():
        refuse_masked(value, f"x[{name!r}]", f"Pass x[{name!r}].filled(value); padding_mask tells what is padding")
        if value is None or np.isscalar(value) or getattr(value, "shape", None) == ():
            raise ValueError(f"the feature {name} should have a row for each sequence; got {reprlib.repr(value)}")


def check_rows(x: Mapping[str, Any]) -> int:
    """Checks that all features have as many rows, and returns their number.

    Raises:
        ValueError: if they haven't. The message has the number of each.
    """
    counts = {name: len(value) for name, value in x.items()}
    if len(set(counts.values())) > 1:
        rows = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(f"the features should have a row for each sequence; they have {rows}")
    return counts["token_ids"]


def _renamed(x: Mapping[str, Any]) -> str:
    """The names here of features under Hugging Face's names, for the end of an error."""
    found = [f"{theirs} is called {ours} here" for theirs, ours in HF_NAMES.items() if theirs in x]
    return f". {', '.join(found)}" if found else ""


def padding_mask(x: Mapping[str, Any]) -> Any:
    """Returns the padding mask of the features, or ones if they have none."""
    if "padding_mask" in x:
        return x["padding_mask"]
    try:
        return np.ones(np.shape(x["token_ids"]), bool)
    except ValueError:  # rows of different lengths: `pack_padded` tells
        return [[True] * len(row) for row in x["token_ids"]]


def _without_labels(rows: Rows) -> Any:
    """The texts of rows, as they are read."""
    return (text for text, _ in rows.stream()) if rows.has_labels else rows.stream()


def _opened(x: Any) -> Any:
    """x, or the list of the items of a column. Tables, records and bytes are refused."""
    x = opened(x)
    if isinstance(x, bytes | bytearray):
        raise bytes_error("x", x, is_item=False)
    refuse_rows(x, KNOWN)
    refuse_single(x)
    refuse_tuple(x)
    if isinstance(x, tuple) and not hasattr(x, "_fields"):
        return tuple(opened(column, f"entry {i} of x") for i, column in enumerate(x))
    return x


def _is_encoded(item: Any) -> bool:
    """Whether it is a sequence of token ids: an array or a list of integers."""
    if isinstance(item, np.ndarray):
        return item.ndim == 1 and item.dtype.kind in "iu"
    return isinstance(item, list) and bool(item) and all(map(_is_id, item))


def _is_id(number: Any) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def _is_columns(x: tuple[Any, ...]) -> bool:
    """Whether it is Keras's spelling of segments: ("a", "b") for one text, (["a", "c"], ["b", "d"]) for two."""
    return bool(x) and all(_is_text(column) or _is_texts(column) for column in x)


def _is_text(item: Any) -> bool:
    return isinstance(item, str | bytes)


def _is_texts(item: Any) -> bool:
    """Whether it is a list, an array or a column of strings."""
    item = opened(item, "an item of x")
    if isinstance(item, np.ndarray):
        return item.ndim == 1 and len(item) > 0 and (item.dtype.kind in "US" or _is_text(item[0]))
    return isinstance(item, list) and bool(item) and _is_text(item[0])


def _starts_with_features(item: Any) -> bool:
    """Whether it is a tuple or list of features, and perhaps labels and weights."""
    return isinstance(item, tuple | list) and bool(item) and isinstance(item[0], Mapping)


def _is_batch(item: Any, is_list: bool) -> bool:
    """Whether an item is a batch: features, texts, encoded sequences, or a tuple that starts with one of these.

    In a list (is_list) a list of strings is no batch, and is refused later. A list that starts with features is a
    batch as the tuple is: torch's DataLoader makes lists of tuples.

    Raises:
        TypeError: if an item is a table or a record.
    """
    refuse_rows(item[0] if _starts_with_features(item) else item, KNOWN, is_item=True, takes_column=True)
    if _starts_with_features(item):
        return True
    if not is_list and (column := opened(item, "an item of x")) is not item:
        item = column
    if isinstance(item, tuple):
        x = item[0] if item else None
        is_columns = isinstance(x, tuple) and bool(x) and all(map(_is_texts, x))
        return is_columns or _is_texts(x) or _is_rectangle(x) or _is_lists(x)
    if is_list or not isinstance(item, list | np.ndarray):
        return isinstance(item, Mapping) or _is_rectangle(item)
    return _is_texts(item) or _is_rectangle(item) or _is_lists(item)


def _is_rectangle(item: Any) -> bool:
    """Whether it is an array (B, S) of encoded sequences of one length."""
    return isinstance(item, np.ndarray) and item.ndim == 2 and item.dtype.kind in "iu"


def _is_lists(item: Any) -> bool:
    """Whether it is a list of encoded sequences."""
    return isinstance(item, list) and bool(item) and _is_encoded(item[0])


def per_text(sample_weight: Any, count: int) -> Any:
    """Returns one weight per text, (B,), as float64. sample_weight is (B,), (B, 1), one number for all, or None, which
    stays None.

    Raises:
        ValueError: if the shape is another one, or a weight is below 0.
    """
    if sample_weight is None:
        return None
    values = sample_weight if is_real(sample_weight) else listed("sample_weight", sample_weight, count)
    weights = real_numbers("sample_weight", values, f"beside texts, one per text, ({count},)")
    if weights.shape in ((), (count, 1)):
        weights = np.broadcast_to(weights.reshape(-1), (count,))
    if weights.shape != (count,):
        raise ValueError(f"sample_weight beside texts should be one weight per text, ({count},); got {weights.shape}")
    for i in np.flatnonzero(~(np.isfinite(weights) & (weights >= 0.0)))[:1]:
        raise ValueError(f"sample_weight must be finite and at least 0, got {weights[i]:g} for text {i}")
    return weights


def listed(name: str, values: Any, count: int) -> Any:
    """Returns labels or weights in a form that has a length. For an iterator it is a list of at most `count` + 1 items.

    Raises:
        ValueError: if the value has no items, or an iterator has more than `count` items.
    """
    if isinstance(values, Sized) or hasattr(values, "__array__"):
        return values
    if not isinstance(values, Iterable):
        raise ValueError(f"{name} should be one number per text, ({count},); got {reprlib.repr(values)}")
    found = list(islice(values, count + 1))
    if len(found) > count:
        raise ValueError(f"{name} should be one number per text, ({count},); got more of them")
    return found


def _first(values: Any, most: int) -> Any:
    """The first `most` values, if they can be iterated over."""
    return list(islice(values, most)) if isinstance(values, Iterable) else values


def _refuse_one_text(x: Any) -> None:
    """Checks that a batch of an iterable of batches is no bare text, whose letters would be taken for texts."""
    if isinstance(x, str):
        raise TypeError(
            "a batch of an iterable of batches should be a list of texts; got one text, "
            f"{reprlib.repr(x)}. Put it into a list"
        )
