"""The preprocessors, which make sequences of ids and masked batches of texts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyroberta.formats.budget import described, shown
from pyroberta.model.attributes import LAYER, Check, Checked, Checks, Reasons, true_or_false
from pyroberta.model.batch import Batch, Padded, pack, pad
from pyroberta.model.serialization import (
    check_name,
    deserialized,
    object_name,
    refuse_layer_arguments,
    serialized,
    without_defaults,
)
from pyroberta.text import hooks
from pyroberta.text.given import bytes_error, opened, refuse_endless, refuse_rows, warn_of_a_files_name
from pyroberta.text.long_texts import LongTexts
from pyroberta.text.mask_generator import Masker, whole_number
from pyroberta.text.masking import COUNTS, DRAWS, number_words, word_edges
from pyroberta.text.packing import TRUNCATIONS
from pyroberta.text.tokenizer import Tokenizer

Features = dict[str, NDArray[Any]]
Own = TypeVar("Own", bound="Preprocessor")


def _one_of(choices: Iterable[str]) -> Check:
    some = tuple(choices)

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in some:
            raise ValueError(f"{name} must be one of {', '.join(some)}, got {shown(value)}")
        return str(value)

    return check


def _tokenizer(name: str, value: Any) -> Tokenizer:
    if not isinstance(value, Tokenizer):
        raise TypeError(f"the {name} should be one of pyroberta's, such as Tokenizer; got {described(value)}")
    return value


class Preprocessor(Checked):
    """Tokenises texts and truncates them. It is the base class of every task's preprocessor.

    Texts, here and in `fit`, are:

    - a `str`. Bytes, as HDF5 and TensorFlow give them, are refused: `[text.decode() for text in texts]` makes texts of
      them;
    - a list, an array, a table's column or any iterable of those is a batch; an item may also be a tuple of strings,
      which are the text's segments: `[("first a", "first b"), ("second a", "second b")]`. An item that is a list of
      strings, or a row of an array, is refused, since it may be a row of a table or a batch;
    - a *tuple* is Keras's way to give segments, column by column: `(["first a", "second a"], ["first b", "second b"])`
      are the same two texts, and `("a", "b")` is one text of two segments, not two texts.

    A table (pandas', polars', pyarrow's or of `datasets`), a record and a dict of columns are refused with the
    expression that gives their texts.

    Called by itself, a preprocessor cuts long texts, and warns of how many it cut. `fit` and the model's other methods
    have `long_texts` for that.

    Args:
        tokenizer: of the model.
        sequence_length: S, the most tokens of a text, the special ones counted; at least 3.
        truncate: the way to cut segments that are too long: "round_robin" or "waterfall".
        name: of the object; by default its class's.
        **layer_arguments: what every layer of Keras takes (`trainable`, `dtype`, `config_file`), with Keras's default.

    Attributes:
        presets: the presets that `from_preset` knows by name.

    Raises:
        TypeError, ValueError: for an argument out of range or without an effect, naming it.
    """

    presets = hooks.Presets()
    settings: ClassVar[tuple[str, ...]] = ("sequence_length", "truncate")  # what a preset keeps beside the tokenizer
    own_settings: ClassVar[tuple[str, ...]] = ()  # those of them that KerasHub's class lacks
    checks: ClassVar[Checks] = {
        "tokenizer": _tokenizer,
        "sequence_length": whole_number(3),
        "truncate": _one_of(TRUNCATIONS),
        "name": check_name,
    }
    unsettable: ClassVar[Reasons] = LAYER | {"packer": "set sequence_length and truncate"}

    def __init__(
        self,
        tokenizer: Tokenizer,
        sequence_length: int = 512,
        truncate: str = "round_robin",
        *,
        name: str | None = None,
        **layer_arguments: Any,
    ) -> None:
        refuse_layer_arguments(type(self), layer_arguments, dtype="float32", config_file="preprocessor.json")
        self.name = object_name(name, type(self))
        self.tokenizer = tokenizer
        self.sequence_length = sequence_length
        self.truncate = truncate

    @classmethod
    def from_preset(
        cls: type[Own], preset: str | os.PathLike[str], *, tokenizer: Tokenizer | None = None, **overrides: Any
    ) -> Own:
        """The preprocessor of a preset: its tokenizer, and the settings that it was trained with.

        Settings that the preset lacks, or has for another class, have the class's defaults. `sequence_length` is at
        most the model's limit.

        Args:
            preset: a name (`MaskedLM.presets` lists them) or the path of a directory, in any format that can be read.
            tokenizer: instead of the preset's.
            **overrides: arguments of the class instead of the preset's, such as `sequence_length=128`.

        Raises:
            ValueError, FileNotFoundError: where the preset is missing or damaged; the message says what there is.
            TypeError, ValueError: for an argument that the class does not have or that is out of range.

        >>> preprocessor = MaskedLMPreprocessor.from_preset("roberta_base_en", sequence_length=128)
        >>> preprocessor.sequence_length, preprocessor.tokenizer.vocabulary_size()
        (128, 50265)
        """
        held = hooks.open_preset(preset, weights=False)
        tokenizer = held.tokenizer if tokenizer is None else tokenizer
        found = {key: value for key, value in held.preprocessor_settings.items() if key in cls.settings}
        longest = held.config.max_sequence_length if held.has_model else None
        settings = {"sequence_length": min(512, longest or 512), **found}
        try:
            made = cls(tokenizer, **(settings | overrides))
            if longest is not None and made.sequence_length > longest and not overrides:
                raise ValueError(f"sequence_length is {made.sequence_length}, the model's {longest}")
        except (TypeError, ValueError) as error:
            if overrides:
                raise
            raise ValueError(f"preset {str(preset)!r}: its preprocessor's settings can't be used: {error}") from None
        return made

    def preset_settings(self) -> dict[str, Any]:
        """What a preset keeps of it: every argument but the tokenizer and the name."""
        return {name: getattr(self, name) for name in self.settings}

    def get_config(self) -> dict[str, Any]:
        """The arguments, in JSON's types, so that `from_config` of the same class makes an equal preprocessor.

        It has KerasHub's form, with the tokenizer's config in it. What KerasHub lacks is left out where it has its
        default value, so that KerasHub's class takes the config then.

        >>> preprocessor = Preprocessor(Tokenizer.train(["the fox"], vocab_size=261), sequence_length=6)
        >>> Preprocessor.from_config(preprocessor.get_config()).get_config() == preprocessor.get_config()
        True
        """
        config = {"name": self.name, "tokenizer": serialized(self.tokenizer), **self.preset_settings()}
        return without_defaults(type(self), config, self.own_settings)

    @classmethod
    def from_config(cls: type[Own], config: Mapping[str, Any]) -> Own:
        """The preprocessor of a config that `get_config` gave, or KerasHub's with the vocabulary in it.

        Raises:
            TypeError, ValueError: as the class and `Tokenizer.from_config`.
        """
        arguments = dict(config)
        if isinstance(arguments.get("tokenizer"), Mapping):
            arguments["tokenizer"] = deserialized("tokenizer", arguments["tokenizer"], {"Tokenizer": Tokenizer})
        return cls(**arguments)

    def save_to_preset(self, directory: str | os.PathLike[str], *, format: str | None = None) -> None:
        """Writes the tokenizer and the settings into a preset, which is made if there is none.

        `from_preset` of this class reads them back, also where no model lies beside them.

        Args:
            directory, format: see `Tokenizer.save_to_preset`.

        Raises:
            FileExistsError, ValueError, OSError: as `Tokenizer.save_to_preset`.

        >>> import tempfile
        >>> preprocessor = MaskedLMPreprocessor(Tokenizer.train(["the fox"], vocab_size=261), sequence_length=6)
        >>> directory = tempfile.mkdtemp() + "/preset"
        >>> preprocessor.save_to_preset(directory)
        >>> MaskedLMPreprocessor.from_preset(directory).get_config() == preprocessor.get_config()
        True
        """
        hooks.save_text(directory, self.tokenizer, self, format)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.preset_settings().items())
        return f"{type(self).__name__}({self.tokenizer!r}, {settings})"

    def encode(self, texts: Any) -> list[NDArray[np.int32]]:
        """Each text's ids, special tokens included, truncated to `sequence_length`.

        Args:
            texts: see the class; a single text is a batch of one.

        Returns:
            B arrays (S_b,) int32 of different lengths.

        Raises:
            TypeError, ValueError: for values that are no texts, naming the place.

        Warns:
            UserWarning: where texts were cut, with their number.

        >>> tokenizer = Tokenizer.train(["the fox"], vocab_size=261)
        >>> preprocessor = Preprocessor(tokenizer, sequence_length=6)
        >>> [tokenizer.decode(ids) for ids in preprocessor.encode(["fox", ("a", "b"), ""])]
        ['<s>fox</s>', '<s>a</s></s>b</s>', '<s></s>']
        """
        return self._cut(texts)[0]

    def sequences(
        self, texts: Any, long_texts: LongTexts, first: int = 0
    ) -> tuple[list[NDArray[np.int32]], list[int], bool]:
        """`encode` with a treatment of long texts, of which the caller warns.

        Args:
            texts: as for `encode`.
            long_texts: the treatment of long texts, and the length at which a text is long.
            first: the number of the first text, for messages.

        Returns:
            The sequences, B of them, or more if texts are split; the number of the text of each, from `first` on; and
            whether `texts` was a single text.
        """
        found, is_single = read_texts(texts, first)
        sequences: list[NDArray[np.int32]] = []
        owners: list[int] = []
        for i, segments in enumerate(found, first):
            text_sequences = long_texts.encode(self.tokenizer, segments, f"text {i}", self.truncate)
            sequences += text_sequences
            owners += [i] * len(text_sequences)
        return sequences, owners, is_single

    def _cut(self, texts: Any) -> tuple[list[NDArray[np.int32]], bool]:
        """The sequences of texts, cut, and whether it was a single text."""
        long_texts = LongTexts("cut", self.sequence_length)
        sequences, _, is_single = self.sequences(texts, long_texts)
        long_texts.say()
        return sequences, is_single


class MaskedLMPreprocessor(Preprocessor, Masker):
    """Tokenises texts, truncates them, and masks them for training.

    Called on texts it gives the padded arrays that KerasHub's `RobertaMaskedLMPreprocessor` gives. `encode` and `mask`
    are the two halves that `fit` uses: it encodes once, and masks anew whenever a text comes again.

    Args:
        tokenizer, sequence_length, truncate: see `Preprocessor`, which also defines texts.
        mask_selection_rate: the share of the tokens that are to be predicted, in [0, 1]. With 0, as in KerasHub, a call
            masks nothing, and `fit` has nothing to learn from.
        mask_selection_length: K, the most tokens of one text to predict.
        mask_token_rate: the share of these that become `<mask>`, in [0, 1].
        random_token_rate: the share that becomes a random token (never a special one), in [0, 1]; the others stay.
        count: "exact" selects ceil(rate·n) of a text's n tokens (KerasHub), "bernoulli" each with probability `rate`
            (Hugging Face), but both at least 1 and at most K. Special tokens, `<unk>` and a `<mask>` that stands in the
            text among them, are never selected and do not count.
        whole_words: select whole words (the text between whitespace; see `masking.number_words`), as many as reach
            the count: less than a word too many.
        seed: of the masks that a call draws.
        name, **layer_arguments: see `Preprocessor`.

    Raises:
        TypeError, ValueError: for an argument out of range, naming it.

    >>> tokenizer = Tokenizer.train(["the quick brown fox"], vocab_size=270)
    >>> preprocessor = MaskedLMPreprocessor(tokenizer, sequence_length=16, mask_selection_length=2)
    >>> features, labels, weights = preprocessor(["the fox", "brown"])
    >>> {name: array.shape for name, array in features.items()}
    {'token_ids': (2, 16), 'padding_mask': (2, 16), 'mask_positions': (2, 2)}
    >>> labels.shape, weights.shape
    ((2, 2), (2, 2))
    """

    settings = (
        *Preprocessor.settings, "mask_selection_rate", "mask_selection_length", "mask_token_rate", "random_token_rate",
        "count", "whole_words", "seed",
    )  # fmt: skip
    own_settings = ("count", "whole_words", "seed")
    checks: ClassVar[Checks] = {
        "mask_selection_length": whole_number(1),
        "count": _one_of(COUNTS),
        "whole_words": true_or_false,
    }
    unsettable: ClassVar[Reasons] = {
        "masker": "set mask_selection_rate, mask_token_rate and their like, which are the preprocessor's own"
    }

    def __init__(
        self,
        tokenizer: Tokenizer,
        sequence_length: int = 512,
        truncate: str = "round_robin",
        mask_selection_rate: float = 0.15,
        mask_selection_length: int = 96,
        mask_token_rate: float = 0.8,
        random_token_rate: float = 0.1,
        *,
        count: str = "exact",
        whole_words: bool = False,
        seed: int = 0,
        name: str | None = None,
        **layer_arguments: Any,
    ) -> None:
        super().__init__(tokenizer, sequence_length, truncate, name=name, **layer_arguments)
        self.mask_selection_rate = mask_selection_rate
        self.mask_selection_length = mask_selection_length
        self.mask_token_rate = mask_token_rate
        self.random_token_rate = random_token_rate
        self.count = count
        self.whole_words = whole_words
        self.seed = seed

        self._edges: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None

    def mask(self, sequences: Sequence[NDArray[np.integer[Any]]], rng: np.random.Generator) -> Batch:
        """Packs sequences and masks them.

        Every sequence with an ordinary token has at least one to be predicted, unless `mask_selection_rate` is 0.

        Args:
            sequences: from `encode`.
            rng: all randomness comes from it; the same state gives the same masks.

        Returns:
            The packed batch, with the masked rows in ascending order, weights of 1, and B·K slots.

        >>> tokenizer = Tokenizer.train(["the fox"], vocab_size=261)
        >>> preprocessor = MaskedLMPreprocessor(tokenizer)
        >>> batch = preprocessor.mask(preprocessor.encode("fox"), np.random.default_rng(8))
        >>> tokenizer.decode(batch.ids), tokenizer.decode(batch.labels)
        ('<s>f<mask>x</s>', 'o')
        """
        batch = pack(sequences)
        return self.mask_batch(batch, rng.random((batch.num_tokens, DRAWS)))

    def mask_batch(self, batch: Batch, draws: NDArray[np.float64]) -> Batch:
        """The packed batch with tokens masked by random numbers that were drawn before.

        Args:
            batch: its ids and starts are read.
            draws: (N, 3) uniform in [0, 1), for each token; see `masking.token_draws`.

        Returns:
            As `mask`.
        """
        rows = np.flatnonzero(~self.tokenizer.is_special[batch.ids])  # (n,)
        limit = self.mask_selection_length
        words: NDArray[np.integer[Any]] = np.arange(len(rows))
        if self.whole_words:
            owners = np.repeat(np.arange(len(batch)), np.diff(batch.starts))[rows]
            words = number_words(batch.ids, rows, owners, *self._word_edges, limit)
        ordinary = self.tokenizer.ordinary_ids
        return self._mask(batch, draws, rows, words, self.tokenizer.mask_token_id, ordinary, limit, self.count)

    def __call__(
        self, x: Any, y: None = None, sample_weight: None = None, *, rng: np.random.Generator | None = None
    ) -> tuple[Features, NDArray[np.integer[Any]], NDArray[np.float32]]:
        """Makes padded arrays of texts: (features, labels, weights).

        Each call masks anew: the n-th call of a preprocessor draws from the generator of (seed, n). For the same masks
        each time, pass `rng=np.random.default_rng(0)` or the like.

        Args:
            x: texts, see the class.
            y, sample_weight: for Keras's calling convention. They are refused, since both are made here.
            rng: the generator to draw from, instead.

        Returns:
            features: `token_ids` (B, S) int32, `padding_mask` (B, S) bool, `mask_positions` (B, K) int32.
            labels: (B, K) int32, the original ids, 0 in a slot that is not used.
            weights: (B, K) float32, 1 for each masked token, 0 in a slot that is not used.
            For a single text all of them lack their first axis.

        Raises:
            TypeError, ValueError: for values that are no texts, and for `y` or `sample_weight`.

        Warns:
            UserWarning: where texts were cut, with their number.
        """
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(
                    f"{name} was given beside raw texts, but their labels and weights are made here, by masking. "
                    "Leave it out; for arrays that are masked already, use the model with preprocessor=None"
                )
        sequences, is_single = self._cut(x)
        batch = self.mask(sequences, self._generator() if rng is None else rng)
        padded = pad(batch, self.sequence_length, self.mask_selection_length, self.tokenizer.pad_token_id)
        if is_single:
            padded = Padded(*(array[0] for array in padded))
        features = {name: getattr(padded, name) for name in ("token_ids", "padding_mask", "mask_positions")}
        return features, padded.labels, padded.weights

    @property
    def _word_edges(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        if self._edges is None or len(self._edges[0]) != self.tokenizer.vocabulary_size():  # tokens were added
            self._edges = word_edges(self.tokenizer.vocabulary)
        return self._edges


# ------------------------------------------------------------------------------------------------------ what came in


def read_texts(texts: Any, first: int = 0) -> tuple[list[tuple[str, ...]], bool]:
    """Each text's segments, and whether it was a single text, no batch. `first` is the number of the first text."""
    texts = _plain(opened(texts, "texts"))
    if isinstance(texts, (str, bytes)):
        return [(_string(texts, "the text", is_item=False),)], True
    if isinstance(texts, tuple):
        columns = [_plain(opened(column, f"entry {i} of texts")) for i, column in enumerate(texts)]
        if columns and all(isinstance(column, (str, bytes)) for column in columns):
            return [_segments(texts if hasattr(texts, "_fields") else tuple(columns), "the text")], True
        return [_segments(row, f"text {i}") for i, row in enumerate(_rows(columns), first)], False
    refuse_rows(texts, (), "texts")
    if isinstance(texts, Mapping) or not isinstance(texts, Iterable):
        raise TypeError(
            f"texts must be a string, a list of strings or of tuples of segments, or a tuple of lists, got "
            f"{type(texts).__name__}. A dict of preprocessed features goes to a model with preprocessor=None"
        )
    refuse_endless(texts, "texts")
    return [_segments(text, f"text {i}") for i, text in enumerate(texts, first)], False


def plain_texts(texts: Any) -> list[str]:
    """Texts of one segment each, from a text, a list, a column, an open file or any iterable of texts.

    Raises:
        TypeError: for anything else, naming the place.

    Warns:
        UserWarning: where a text is the name of a file.
    """
    texts = opened(texts, "texts")
    if isinstance(texts, str):
        warn_of_a_files_name(texts)
        return [texts]
    if isinstance(texts, bytes):
        raise bytes_error("texts", texts, is_item=False)
    refuse_rows(texts, (), "texts")
    if isinstance(texts, Mapping) or not isinstance(texts, Iterable):
        raise TypeError(f"expected a text or a list of texts, got {type(texts).__name__}")
    refuse_endless(texts, "texts")
    found = []
    for i, text in enumerate(texts):
        refuse_rows(text, (), "texts", is_item=True, takes_column=True)
        found.append(_segments(text, f"text {i}"))
    for i, segments in enumerate(found):
        if len(segments) > 1:
            raise TypeError(f"text {i} must be a string, got {len(segments)} segments: {described(segments)}")
    return [segments[0] for segments in found]


def _plain(values: Any) -> Any:
    """NumPy's strings and arrays and TensorFlow's tensors as Python's strings and lists."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__array__"):
        return values
    return np.asarray(values).tolist()


def _rows(columns: list[Any]) -> Iterable[tuple[Any, ...]]:
    """The segments of each text from Keras's tuple, which has a list for each place."""
    for i, column in enumerate(columns):
        if isinstance(column, (str, bytes, Mapping)) or not isinstance(column, Iterable):
            raise TypeError(
                f"a tuple holds the segments, all of them strings (one text) or all lists of strings (a batch), but "
                f"its entry {i} is a {type(column).__name__}. For a batch of texts pass a list"
            )
        refuse_endless(column, f"texts[{i}]")
    columns = [list(column) for column in columns]
    lengths = [len(column) for column in columns]
    if len(set(lengths)) != 1:
        raise ValueError(
            f"a tuple of lists needs a segment of each text in every list, but their lengths are {lengths}"
        )
    return zip(*columns, strict=True)


def _segments(text: Any, name: str) -> tuple[str, ...]:
    if not isinstance(text, (str, bytes, tuple, list)) and opened(text, name) is not text:
        raise TypeError(
            f"{name} is a column ({type(text).__name__}). Pass the column itself for a batch of texts, or a tuple of "
            "columns for their segments"
        )
    text = _plain(text)
    if isinstance(text, (str, bytes)):
        return (_string(text, name),)
    if isinstance(text, tuple) and hasattr(text, "_fields"):
        raise TypeError(
            f"{name} is a record, {described(text)}. Pass the texts alone: [row.{text._fields[0]} for row in texts], "
            "with the name of their field"
        )
    if isinstance(text, list) and text and isinstance(_plain(text[0]), (str, bytes)):
        raise _row_error(text, name)
    if isinstance(text, tuple) and text:
        if not isinstance(_plain(text[-1]), (str, bytes)) and isinstance(_plain(text[0]), str):
            raise TypeError(
                f"segment {len(text) - 1} of {name} must be a string, got {described(text[-1])}. Labels go beside the "
                "texts: x = [row[0] for row in texts]; y = [row[-1] for row in texts]"
            )
        return tuple(_string(_plain(segment), f"segment {i} of {name}") for i, segment in enumerate(text))
    refuse_rows(text, (), "texts", is_item=True)
    is_nan = isinstance(text, float) and text != text
    is_missing = text is None or is_nan or type(text).__name__ == "NAType"  # pandas' NA
    hint = ". Fill or leave out missing texts first: df.dropna()" if is_missing else ""
    raise TypeError(f"{name} must be a string or a tuple of strings, its segments; got {described(text)}{hint}")


def _row_error(row: list[Any], name: str) -> TypeError:
    """The error for a list of strings among texts."""
    if len(row) == 1:
        return TypeError(
            f"{name} is a list of one string, {described(row)}, which may be a text or a batch of one. Pass a list of "
            "strings, [text for (text,) in texts]; batches come from an iterator, iter(batches)"
        )
    return TypeError(
        f"{name} is a list of {len(row)} strings, {described(row)}, which may be a table's row, a batch or one text's "
        "segments. Pass one column, [row[0] for row in texts], with its number; or segments as tuples, "
        "[tuple(row) for row in texts]; batches come from an iterator, iter(batches)"
    )


def _string(text: Any, name: str, is_item: bool = True) -> str:
    if isinstance(text, bytes):
        raise bytes_error(name, text, is_item)
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a string, got {described(text)}")
    return str(text)
