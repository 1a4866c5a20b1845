"""The preprocessors. They make sequences of ids from texts, and masked batches from sequences."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyroberta.formats.budget import described, shown, type_of
from pyroberta.formats.counts import counted
from pyroberta.model.attributes import LAYER, Check, Checked, Checks, Reasons, true_or_false, whole_number
from pyroberta.model.batch import Batch, Padded, pack, pad
from pyroberta.model.serialization import (
    arguments_of,
    check_layer_name,
    deserialized,
    object_name,
    refuse_layer_arguments,
    serialized,
    without_defaults,
)
from pyroberta.text import hooks
from pyroberta.text.given import bytes_error, opened, refuse_endless, refuse_rows, warn_of_a_files_name
from pyroberta.text.long_texts import LongTexts
from pyroberta.text.mask_generator import Masker
from pyroberta.text.masking import COUNTS, DRAWS, number_words, word_edges
from pyroberta.text.packing import TRUNCATIONS
from pyroberta.text.tokenizer import Tokenizer

Features = dict[str, NDArray[Any]]
Self = TypeVar("Self", bound="Preprocessor")


def _one_of(choices: Iterable[str]) -> Check:
    some = tuple(choices)

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in some:
            raise ValueError(f"{name} must be one of {', '.join(some)}, got {shown(value)}")
        return str(value)

    return check


def _tokenizer(name: str, value: Any) -> Tokenizer:
    if not isinstance(value, Tokenizer):
        raise TypeError(f"{name} should be an object of pyroberta's, such as a Tokenizer; got {described(value)}")
    return value


class Preprocessor(Checked):
    """Tokenises texts and truncates them. It is the base class of every task's preprocessor.

    Texts, here and in `fit`, are:

    - A `str` is one text. Bytes, which HDF5 and TensorFlow return, are refused: `[text.decode() for text in texts]`
      makes texts of them.
    - A list, an array, a table's column or any iterable of `str` is a batch. An item may also be a tuple of strings,
      which are the segments of a text: `[("first a", "first b"), ("second a", "second b")]`. An item that is a list of
      strings, or a row of an array, is refused, since it may be a row of a table or a batch.
    - A *tuple* is Keras's form for segments, column by column: `(["first a", "second a"], ["first b", "second b"])` are
      the same two texts, and `("a", "b")` is one text of two segments, not two texts.

    A table (of pandas, polars, pyarrow or `datasets`), a record and a dict of columns are refused. The error has an
    expression for their texts.

    A call of the preprocessor cuts long texts, and warns with their number. In `fit` and the model's other methods, the
    argument `long_texts` decides.

    Args:
        tokenizer: the model's tokenizer.
        sequence_length: S, the largest number of tokens of a text, at least 3. Special tokens count.
        truncate: the rule for cutting segments that are too long, "round_robin" or "waterfall"; see
            `packing.pack_segments`.
        name: the name of the object. The default is that of its class.
        **layer_arguments: arguments that every layer of Keras takes (`trainable`, `dtype`, `config_file`). Only Keras's
            default values are accepted.

    Attributes:
        presets: the presets that `from_preset` knows by name.

    Raises:
        TypeError, ValueError: if an argument is out of range or would have no effect. The message names it.
    """

    presets = hooks.Presets()
    settings: ClassVar[tuple[str, ...]] = ("sequence_length", "truncate")  # what a preset keeps beside the tokenizer
    extra_settings: ClassVar[tuple[str, ...]] = ()  # those of them that KerasHub's class lacks
    checks: ClassVar[Checks] = {
        "tokenizer": _tokenizer,
        "sequence_length": lambda name, value: whole_number(name, value, at_least=3),
        "truncate": _one_of(TRUNCATIONS),
        "name": check_layer_name,
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
        cls: type[Self], preset: str | os.PathLike[str], *, tokenizer: Tokenizer | None = None, **overrides: Any
    ) -> Self:
        """Returns the preprocessor of a preset: its tokenizer, and the settings with which its model was trained.

        A setting that the preset lacks, or that it has for another class, has this class's default. `sequence_length`
        is at most the model's limit.

        Args:
            preset: a name (`MaskedLM.presets` lists them) or the path of a directory, in any format that can be read.
            tokenizer: a tokenizer to use instead of the preset's.
            **overrides: arguments of the class instead of the preset's, such as `sequence_length=128`.

        Raises:
            ValueError, FileNotFoundError: if the preset is missing or damaged. The message says what was found.
            TypeError, ValueError: if the class does not have an argument, or an argument is out of range.

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
        """Returns the settings that a preset keeps: every argument except the tokenizer and the name."""
        return {name: getattr(self, name) for name in self.settings}

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments in JSON's types. `from_config` of the same class makes an equal preprocessor from them.

        The config has KerasHub's form and contains the tokenizer's config. An argument that KerasHub does not have is
        left out if it has its default value. If all such arguments have it, KerasHub's class takes the config.

        >>> preprocessor = Preprocessor(Tokenizer.train(["the fox"], vocab_size=261), sequence_length=6)
        >>> Preprocessor.from_config(preprocessor.get_config()).get_config() == preprocessor.get_config()
        True
        """
        config = {"name": self.name, "tokenizer": serialized(self.tokenizer), **self.preset_settings()}
        return without_defaults(type(self), config, self.extra_settings)

    @classmethod
    def from_config(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """Returns the preprocessor of a config that `get_config` returned. It may also be KerasHub's config with the
        vocabulary added.

        Raises:
            TypeError, ValueError: see the class and `Tokenizer.from_config`.
        """
        arguments = arguments_of(cls, config)
        if isinstance(arguments.get("tokenizer"), Mapping):
            arguments["tokenizer"] = deserialized("tokenizer", arguments["tokenizer"], {"Tokenizer": Tokenizer})
        return cls(**arguments)

    def save_to_preset(self, directory: str | os.PathLike[str], *, format: str | None = None) -> None:
        """Writes the tokenizer and the settings into a preset, which is created if it does not exist.

        `from_preset` of this class reads them back, even if the preset has no model.

        Args:
            directory, format: see `Tokenizer.save_to_preset`.

        Raises:
            FileExistsError, ValueError, OSError: see `Tokenizer.save_to_preset`.

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
        """Returns the ids of each text, special tokens included, truncated to `sequence_length`.

        Args:
            texts: see the class. A single text is a batch of one.

        Returns:
            B arrays (S_b,) int32 of different lengths.

        Raises:
            TypeError, ValueError: if a value is not a text. The message names its place.

        Warns:
            UserWarning: if texts were cut. The message has their number.

        >>> tokenizer = Tokenizer.train(["the fox"], vocab_size=261)
        >>> preprocessor = Preprocessor(tokenizer, sequence_length=6)
        >>> [tokenizer.decode(ids) for ids in preprocessor.encode(["fox", ("a", "b"), ""])]
        ['<s>fox</s>', '<s>a</s></s>b</s>', '<s></s>']
        """
        return self._cut(texts)[0]

    def sequences(
        self, texts: Any, long_texts: LongTexts, first: int = 0
    ) -> tuple[list[NDArray[np.int32]], list[int], bool]:
        """Does what `encode` does, with a choice for long texts. The caller warns of them.

        Args:
            texts: see `encode`.
            long_texts: the treatment of long texts, and the length at which a text is long.
            first: the number of the first text, for messages.

        Returns:
            The sequences: B of them, or more if texts are split. The number of the text of each sequence; the first
            text has the number `first`. Whether `texts` was a single text.
        """
        found, is_single = read_texts(texts, first)
        sequences: list[NDArray[np.int32]] = []
        owners: list[int] = []
        for i, segments in enumerate(found, first):
            text_sequences = long_texts.encode(self.tokenizer, segments, long_texts.place(i), self.truncate)
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

    A call with texts returns the padded arrays of KerasHub's `RobertaMaskedLMPreprocessor`. `fit` calls `encode` once,
    and masks anew whenever it reads a text again.

    Args:
        tokenizer, sequence_length, truncate: see `Preprocessor`, which also says what texts are.
        mask_selection_rate: the share of the tokens that are selected for prediction, in [0, 1]. With 0, as in
            KerasHub, a call masks nothing, and `fit` can't learn anything.
        mask_selection_length: K, the largest number of selected tokens of one text.
        mask_token_rate: the share of the selected tokens that become `<mask>`, in [0, 1].
        random_token_rate: the share of the selected tokens that become a random token (never a special one), in [0, 1].
            The other selected tokens stay.
        count: "exact" selects ceil(rate·n) of a text's n tokens (KerasHub). "bernoulli" selects each token with
            probability `rate` (Hugging Face). Both select at least 1 and at most K tokens. Special tokens are never
            selected and do not count, including `<unk>` and a `<mask>` in the text.
        whole_words: whether whole words are selected (the text between whitespace; see `masking.number_words`). Words
            are selected until their tokens reach the count, so the count is exceeded by less than one word.
        seed: the seed of the masks that a call draws.
        name, **layer_arguments: see `Preprocessor`.

    Raises:
        TypeError, ValueError: if an argument is out of range. The message names it.

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
    extra_settings = ("count", "whole_words", "seed")
    checks: ClassVar[Checks] = {
        "mask_selection_length": whole_number,
        "count": _one_of(COUNTS),
        "whole_words": true_or_false,
    }
    unsettable: ClassVar[Reasons] = {
        "masker": "set mask_selection_rate, mask_token_rate and the other masking attributes of the preprocessor"
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

        self._edges: tuple[Tokenizer, tuple[NDArray[np.bool_], NDArray[np.bool_]]] | None = None  # and whose they are

    def mask(self, sequences: Sequence[NDArray[np.integer[Any]]], rng: np.random.Generator) -> Batch:
        """Packs sequences and masks them.

        In every sequence with an ordinary token at least one token is selected, unless `mask_selection_rate` is 0.

        Args:
            sequences: the sequences that `encode` returned.
            rng: the source of all random numbers. The same state gives the same masks.

        Returns:
            The packed batch, with its target rows in ascending order, weights of 1, and B·K slots.

        >>> tokenizer = Tokenizer.train(["the fox"], vocab_size=261)
        >>> preprocessor = MaskedLMPreprocessor(tokenizer)
        >>> batch = preprocessor.mask(preprocessor.encode("fox"), np.random.default_rng(8))
        >>> tokenizer.decode(batch.ids), tokenizer.decode(batch.labels)
        ('<s>f<mask>x</s>', 'o')
        """
        if not hasattr(rng, "random"):
            raise TypeError(
                f"rng should be a generator of random numbers, as numpy.random.default_rng(0); got {described(rng)}"
            )
        batch = pack(sequences)
        return self.mask_batch(batch, rng.random((batch.num_tokens, DRAWS)))

    def mask_batch(self, batch: Batch, draws: NDArray[np.float64]) -> Batch:
        """Returns the packed batch with tokens masked by random numbers that the caller drew.

        Args:
            batch: the packed batch. Its ids and starts are read.
            draws: (N, 3) uniform random numbers in [0, 1), three for each token; see `masking.token_draws`.

        Returns:
            See `mask`.
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
            UserWarning: if texts were cut, with their number.
        """
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(
                    f"{name} was passed with raw texts, but masking makes the labels and weights of raw texts. Leave "
                    f"{name} out; for arrays that are masked already, use the model with preprocessor=None"
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
        held, tokenizer = self._edges, self.tokenizer
        if (
            held is None or held[0] is not tokenizer or len(held[1][0]) != tokenizer.vocabulary_size()
        ):  # it was given more
            held = self._edges = tokenizer, word_edges(tokenizer.vocabulary)
        return held[1]


# ------------------------------------------------------------------------------------------------------ what came in


def read_texts(texts: Any, first: int = 0) -> tuple[list[tuple[str, ...]], bool]:
    """Returns the segments of each text, and whether `texts` was a single text and not a batch.

    `first` is the number of the first text, for messages.
    """
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
            f"{type_of(texts)}. A dict of preprocessed features goes to a model with preprocessor=None"
        )
    refuse_endless(texts, "texts")
    return [_segments(text, f"text {i}") for i, text in enumerate(texts, first)], False


def plain_texts(texts: Any) -> list[str]:
    """Returns texts of one segment each, from a text, a list, a column, an open file or any iterable of texts.

    Raises:
        TypeError: if it is anything else. The message names the place.

    Warns:
        UserWarning: if a text is the name of a file.
    """
    texts = opened(texts, "texts")
    if isinstance(texts, str):
        warn_of_a_files_name(texts)
        return [texts]
    if isinstance(texts, bytes):
        raise bytes_error("texts", texts, is_item=False)
    refuse_rows(texts, (), "texts")
    if isinstance(texts, Mapping) or not isinstance(texts, Iterable):
        raise TypeError(f"expected a text or a list of texts, got {type_of(texts)}")
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
            kinds = " and ".join(map(type_of, columns))
            raise TypeError(
                "a tuple holds the segments, all of them strings (one text) or all lists of strings (a batch), but its "
                f"entries are {kinds}. For a batch of texts pass a list"
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
            "strings, [text for (text,) in texts]. Pass batches as an iterator, iter(batches)"
        )
    return TypeError(
        f"{name} is a list of {counted(len(row), 'string')}, {described(row)}, which may be a table's row, a batch or "
        "one text's segments. Pass one column, [row[0] for row in texts], with its number. Pass segments as tuples, "
        "[tuple(row) for row in texts]. Pass batches as an iterator, iter(batches)"
    )


def _string(text: Any, name: str, is_item: bool = True) -> str:
    if isinstance(text, bytes):
        raise bytes_error(name, text, is_item)
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a string, got {described(text)}")
    return str(text)
