"""The tokenizer: text to token ids and back, by RoBERTa's byte-level BPE."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyroberta.formats.budget import shown, type_of
from pyroberta.formats.counts import counted
from pyroberta.formats.directory import Directory
from pyroberta.model.attributes import LAYER, Checks, Reasons, true_or_false
from pyroberta.model.callers import callers_level
from pyroberta.model.guard import fork_safe_lock
from pyroberta.model.hints import hinting
from pyroberta.model.serialization import (
    dtype_name,
    object_name,
    refuse_layer_arguments,
)
from pyroberta.text import hooks
from pyroberta.text.bpe import merge
from pyroberta.text.byte_level import (
    BYTE_CHARACTERS,
    SPACE,
    SURROGATE,
    WHITESPACE,
    split_words,
    to_bytes,
    to_characters,
)
from pyroberta.text.foreign_names import ARGUMENTS
from pyroberta.text.keras_tokenizer import DTYPES, ROLES, KerasTokenizer
from pyroberta.text.literals import Literals
from pyroberta.text.texts import check_text, checked_texts, surrogate_error
from pyroberta.text.vocabulary import (
    HIGHEST_ID,
    by_id,
    check_special_tokens,
    checked_merges,
    checked_vocabulary,
    merge_tables,
    read_files,
)

if TYPE_CHECKING:
    from pyroberta.formats.new_files import NewFile

Span = tuple[int, int]

_BLANK = SPACE + WHITESPACE
_CACHED_WORDS = 1 << 17  # some 25 MB
_CACHED_WORD_LENGTH = 64
_ADDING = fork_safe_lock()  # while tokens are added or a tokenizer is copied


class _Words(dict[str, tuple[int, ...]]):
    """Words and their ids. A missing word is encoded when it is looked up."""

    def __init__(self, encode_word: Callable[[str], tuple[int, ...]]) -> None:
        super().__init__()
        self.encode_word = encode_word

    def __missing__(self, word: str) -> tuple[int, ...]:
        ids = self.encode_word(word)
        if len(word) <= _CACHED_WORD_LENGTH:
            if len(self) >= _CACHED_WORDS:
                self.clear()
            self[word] = ids
        return ids


_ANOTHER = "a tokenizer computes its tables from it once; make another Tokenizer"
_DERIVED = "it follows from the vocabulary and the added tokens"
_FIXED = dict.fromkeys(("vocabulary", "merges", *ROLES, "separators", "dtype"), _ANOTHER)


class _NoToken(Exception):
    """A text needs a token that the vocabulary lacks."""


class Tokenizer(KerasTokenizer):
    """Byte-level BPE with RoBERTa's special tokens. It returns the same ids as Hugging Face's tokenizer.

    If the vocabulary has all 256 bytes, every text can be encoded, and `decode` returns the same text. A byte that the
    vocabulary lacks becomes the unknown token, as in Hugging Face's tokenizer. If the vocabulary has no unknown token
    either, a text with such a byte is an error. Special tokens are recognised in raw text, before BPE.

    `encode` makes model inputs: it adds `<s>` and `</s>`. A tokenizer can be called too, as KerasHub's can; see
    `tokenize`.

    Args:
        vocabulary: every token and its id, special tokens included. It is a dict, a list of tokens whose ids are their
            places, or the path of a JSON file. Byte b is written as `byte_level.BYTE_CHARACTERS[b]`, so that a space is
            `Ġ`. Ids may be missing.
        merges: the pairs to merge, in the order in which they apply. They are tuples, texts such as `"Ġ t"`, or the
            path of a file with one pair a line.
        sequence_length: the length to which a call pads or cuts. None means that it does neither. A preprocessor has
            its own `sequence_length`.
        add_prefix_space: whether a space is put before a text that does not begin with one, so that its first word is
            encoded like any other.
        unsplittable_tokens: KerasHub's name for added tokens that are not special.
        dtype: the dtype of the result of a call: "int32", "int64", or "string" for the tokens themselves.
        mask_lstrip: whether `<mask>` absorbs the whitespace before it, as in the published models. `I <mask> it` is
            then `I`, `<mask>`, `Ġit`, and `<mask>` stands for a word and the space before it.
        start_token, pad_token, end_token, mask_token: the special tokens.
        unk_token: the unknown token. By default it is `<unk>`, or None if the vocabulary has no `<unk>`.
        separators: the number of `</s>` between the two segments of a pair: 2 as in RoBERTa, or 1 as in BERT.
        trim_offsets: whether `encode_with_offsets` leaves whitespace at the ends of a token out of its span.
        added_tokens: a dict of other strings that are recognised in raw text. The value says whether the string is
            special, so that `decode(..., skip_special_tokens=True)` leaves it out. The vocabulary must have the
            strings.
        name: the name of the object. The default is that of its class.
        **layer_arguments: arguments that every layer of Keras takes (`trainable`, `config_file`). Only Keras's default
            values are accepted.

    Attributes:
        presets: the presets that `from_preset` knows by name.

    Raises:
        TypeError, ValueError: if the vocabulary and the merges do not make a tokenizer, or an argument would have no
            effect. The message names the entry or the argument.
        FileNotFoundError, ValueError: if a file is missing or damaged.

    >>> tokenizer = Tokenizer.train(["A new, newer, newest thing"], vocab_size=264)
    >>> ids = tokenizer.encode("A new <mask>")
    >>> [tokenizer.id_to_token(i) for i in ids]
    ['<s>', 'A', 'Ġnew', '<mask>', '</s>']
    >>> tokenizer.decode(ids, skip_special_tokens=True)
    'A new'
    >>> tokenizer(["A new thing", "new"])
    [[36, 262, 224, 87, 75, 76, 81, 74], [261]]
    """

    checks: ClassVar[Checks] = dict.fromkeys(("add_prefix_space", "mask_lstrip", "trim_offsets"), true_or_false)
    unsettable: ClassVar[Reasons] = (
        LAYER
        | _FIXED
        | dict.fromkeys(("is_special", "is_word_start", "ordinary_ids", "vocabulary_size"), _DERIVED)
        | dict.fromkeys(("start_token_id", "pad_token_id", "end_token_id", "unk_token_id", "mask_token_id"), _DERIVED)
        | dict.fromkeys(("special_token_ids", "special_tokens"), _DERIVED)
        | dict.fromkeys(("added_tokens", "unsplittable_tokens"), "add_tokens adds some")
    )
    vocabulary: dict[str, int]
    merges: list[tuple[str, str]]
    start_token: str
    pad_token: str
    end_token: str
    unk_token: str | None
    mask_token: str
    dtype: str
    added_tokens: dict[str, bool]
    separators: int
    start_token_id: int
    pad_token_id: int
    end_token_id: int
    unk_token_id: int | None
    mask_token_id: int
    special_tokens: list[str]
    special_token_ids: list[int]
    is_special: NDArray[np.bool_]
    ordinary_ids: NDArray[np.int32]

    def __init__(
        self,
        vocabulary: Mapping[str, int] | Iterable[str] | str | os.PathLike[str],
        merges: Iterable[tuple[str, str] | str] | str | os.PathLike[str],
        *,
        sequence_length: int | None = None,
        add_prefix_space: bool = False,
        unsplittable_tokens: Iterable[str] | None = None,
        dtype: Any = "int32",
        mask_lstrip: bool = True,
        start_token: str = "<s>",
        pad_token: str = "<pad>",
        end_token: str = "</s>",
        unk_token: str | None = None,
        mask_token: str = "<mask>",
        added_tokens: Mapping[str, bool] | None = None,
        separators: int = 2,
        trim_offsets: bool = True,
        name: str | None = None,
        **layer_arguments: Any,
    ) -> None:
        refuse_layer_arguments(type(self), layer_arguments, config_file="tokenizer.json")
        self.sequence_length = sequence_length
        self.add_prefix_space = add_prefix_space
        self.mask_lstrip = mask_lstrip
        self.trim_offsets = trim_offsets
        self.name = object_name(name, type(self))
        if separators not in (1, 2) or isinstance(separators, bool):
            raise ValueError(f"separators must be 1 or 2, got {shown(separators)}")
        if (kind := dtype_name(dtype)) not in DTYPES:
            raise ValueError(
                f"dtype must be one of {', '.join(DTYPES)} (the dtype of the result of a call); got {shown(kind)}"
            )
        vocabulary, merges = read_files(vocabulary, merges)
        entries = checked_vocabulary(vocabulary)
        if unk_token is None and "<unk>" in entries:
            unk_token = "<unk>"
        special_tokens = dict(zip(ROLES, (start_token, pad_token, end_token, unk_token, mask_token), strict=True))
        roles = {role: token for role, token in special_tokens.items() if token is not None}
        added = dict(_checked_flags(added_tokens or {}))
        for token in checked_texts(unsplittable_tokens or (), "unsplittable_tokens"):
            if token not in roles.values():
                added.setdefault(token, False)
        vars(self).update(
            special_tokens,
            vocabulary=entries,
            merges=checked_merges(merges),
            added_tokens=added,
            separators=separators,
            dtype=kind,
        )
        self._tokens = by_id(entries)
        check_special_tokens(entries, roles, added)
        vars(self).update(
            {f"{role}_id": entries.get(token) if token else None for role, token in special_tokens.items()}
        )
        self._tables = merge_tables(entries, self.merges, self.unk_token_id, {*roles.values(), *added})
        self._words = _Words(self._encode_word)
        self._is_unknown_said = False
        self._list_tokens()

    def _list_tokens(self) -> None:
        """Sets the attributes that follow from the vocabulary and the added tokens, which `add_tokens` changes."""
        self._vocabulary_size = max(self._tokens) + 1
        also_special = [token for token, is_special in self.added_tokens.items() if is_special]
        special_tokens = sorted({*self._roles(), *also_special}, key=self.vocabulary.__getitem__)
        special_token_ids = [self.vocabulary[token] for token in special_tokens]
        is_special = np.zeros(self._vocabulary_size, np.bool_)
        is_special[special_token_ids] = True
        ids = np.sort(np.fromiter(self._tokens, np.int32))
        vars(self).update(special_tokens=special_tokens, special_token_ids=special_token_ids)
        vars(self).update(is_special=is_special, ordinary_ids=ids[~is_special[ids]])

        self._literals: Literals | None = None  # made when a text comes: tokens may be added one by one

    # What there is

    def vocabulary_size(self) -> int:
        """Returns V, one more than the highest id. It is the number of rows that a token embedding needs.

        It equals `len(tokenizer)`, the number of tokens, if no id is missing.
        """
        return self._vocabulary_size

    @property
    def is_word_start(self) -> NDArray[np.bool_]:
        """(V,) whether the token with each id begins a word. A token does if it starts with whitespace, or is special.

        The first token of a text begins a word too, whatever it is.
        """
        starts = np.zeros(self.vocabulary_size(), np.bool_)
        for id, token in self._tokens.items():
            text = to_bytes(token).decode(errors="ignore")
            starts[id] = text.startswith(tuple(WHITESPACE))
        starts[self.is_special] = True
        return starts

    @property
    def absent_tokens(self) -> list[str]:
        """The tokens that the vocabulary lacks though they are bytes or merges need them; see `vocabulary.Tables`."""
        return list(self._tables.absent.values())

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __repr__(self) -> str:
        return f"Tokenizer({counted(len(self.vocabulary), 'token')}, {counted(len(self.merges), 'merge')})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._arguments())

    def _arguments(self) -> dict[str, Any]:
        names = (
            "vocabulary", "merges", "add_prefix_space", "mask_lstrip", *ROLES, "added_tokens", "separators",
            "trim_offsets", "sequence_length", "dtype", "name",
        )  # fmt: skip
        with _ADDING:
            found = {name: getattr(self, name) for name in names}
            return found | {name: dict(found[name]) for name in ("vocabulary", "added_tokens")}

    def add_tokens(self, tokens: str | Iterable[str], *, special: bool = False) -> int:
        """Adds strings as tokens. They are recognised in raw text, before BPE.

        A string that the vocabulary lacks gets the next free id, `vocabulary_size()`. A string that the vocabulary has
        keeps its id. The model's token embedding must have a row for each id: `MaskedLM.add_tokens` adds tokens and
        rows. A space before the string in a text is part of the token if the string itself begins with a space.
        Otherwise it is a token of its own. A character that byte-level BPE writes for a byte, such as `é` for E9, is
        decoded as that byte in an added token too, as in `tokenizers`.

        Args:
            tokens: one string or several.
            special: whether the tokens are special. Special tokens are never masked, and `decode(...,
                skip_special_tokens=True)` leaves them out.

        Returns:
            The number of strings that were not recognised before.

        Raises:
            TypeError, ValueError: if a string is empty or has invalid Unicode, a value is not a string, or `special` is
                not a bool. Then nothing is added.

        >>> tokenizer = Tokenizer.train(["a new, new, new thing"], vocab_size=264)
        >>> tokenizer.add_tokens([" Tyrannosaurus", "<name>"])
        2
        >>> ids = tokenizer.encode("a new Tyrannosaurus <name>", add_special_tokens=False)
        >>> [tokenizer.id_to_token(i) for i in ids]
        ['a', 'Ġnew', ' Tyrannosaurus', 'Ġ', '<name>']
        """
        special, new = true_or_false("special", special), self._to_add(tokens)
        with _ADDING:
            fresh = sum(token not in self.added_tokens for token in new)
            free = count(self._vocabulary_size)
            for token in new:
                if token not in self.vocabulary:
                    id = next(free)
                    self.vocabulary[token], self._tokens[id] = id, token
                self.added_tokens[token] = special or self.added_tokens.get(token, False)
            self._list_tokens()
        return fresh

    def size_with(self, tokens: Iterable[str]) -> int:
        """Returns what `vocabulary_size` returns once `add_tokens` has added the tokens.

        Raises:
            TypeError, ValueError: see `add_tokens`.
        """
        return self._vocabulary_size + sum(token not in self.vocabulary for token in self._to_add(tokens))

    def _to_add(self, tokens: str | Iterable[str]) -> list[str]:
        """The strings that `add_tokens` adds, checked: each once, and none that has a role."""
        tokens = [tokens] if isinstance(tokens, str) else list(checked_texts(tokens, "tokens"))
        for token in tokens:
            if not token or SURROGATE.search(token):
                raise ValueError(f"a token to add must be a non-empty str of valid Unicode, got {token!r}")
        roles = self._roles()
        return [token for token in dict.fromkeys(tokens) if token not in roles]

    def token_to_id(self, token: str) -> int:
        """Returns the id of a token, written as in the vocabulary (`Ġhello`). An unknown token has `unk_token_id`.

        Raises:
            ValueError: if the vocabulary has neither the token nor an unknown token.
        """
        if not isinstance(token, str):
            raise TypeError(f"token must be a str, got {type_of(token)}")
        id = self.vocabulary.get(token, self.unk_token_id)
        if id is None:
            raise ValueError(f"the vocabulary of {len(self)} tokens has neither {shown(token)} nor an unknown token")
        return id

    def id_to_token(self, id: int) -> str:
        """Returns the token with this id.

        Raises:
            ValueError: if the vocabulary has no such id.
        """
        return self._tokens_of([id])[id]

    # Text to ids

    @hinting(**{**ARGUMENTS, "return_tensors": "ids are a list: numpy.array([ids])"})
    def encode(self, text: str, pair: str | None = None, *, add_special_tokens: bool = True) -> list[int]:
        """Returns the ids of `<s> text </s>`, or of `<s> text </s></s> pair </s>`. `separators` decides the number of
        `</s>` between the two.

        Args:
            text: a text of any length.
            pair: the second segment.
            add_special_tokens: whether the `<s>` and `</s>` are added.

        Raises:
            TypeError: if a value is not a str, or `add_special_tokens` is not a bool.
            ValueError: if a text has a lone surrogate, which UTF-8 can't hold; or needs a token, where the vocabulary
                has neither this token nor an unknown token.
        """
        add_special_tokens = true_or_false("add_special_tokens", add_special_tokens)
        ids = self._encode_text(text, "text")
        pair_ids = None if pair is None else self._encode_text(pair, "pair")
        if not add_special_tokens:
            return ids if pair_ids is None else ids + pair_ids
        framed = [self.start_token_id, *ids, self.end_token_id]
        more = [self.end_token_id] * (self.separators - 1)
        return framed if pair_ids is None else [*framed, *more, *pair_ids, self.end_token_id]

    def encode_batch(
        self, texts: Iterable[str], pairs: Iterable[str] | None = None, *, add_special_tokens: bool = True
    ) -> list[list[int]]:
        """Returns the ids of each text; see `encode`. `pairs` has the second segment of each text, if it is given."""
        texts = checked_texts(texts, "texts")
        seconds: Sequence[str | None] = [None] * len(texts) if pairs is None else checked_texts(pairs, "pairs")
        if len(texts) != len(seconds):
            raise ValueError(
                f"each text needs a pair: got {counted(len(texts), 'text')} and {counted(len(seconds), 'pair')}"
            )
        return [
            self.encode(text, pair, add_special_tokens=add_special_tokens)
            for text, pair in zip(texts, seconds, strict=True)
        ]

    def encode_with_offsets(
        self, text: str, pair: str | None = None, *, add_special_tokens: bool = True
    ) -> tuple[list[int], list[Span]]:
        """Returns the ids of `encode`, and for each token the span (start, stop) of its characters, `text[start:stop]`.

        The spans are those of Hugging Face's RoBERTa. The space of a token is outside its span. A token of some bytes
        of a character has the whole character. Spans of `pair` count from the start of `pair`. An added `<s>` or `</s>`
        has (0, 0).

        Returns:
            Two lists of the same length: the ids and the spans.

        >>> tokenizer = Tokenizer.train(["a new, new, new thing"], vocab_size=264)
        >>> ids, spans = tokenizer.encode_with_offsets("A newer")
        >>> [("A newer"[start:stop]) for start, stop in spans]
        ['', 'A', 'new', 'e', 'r', '']
        """
        add_special_tokens = true_or_false("add_special_tokens", add_special_tokens)
        ids, spans = self._encode_text_with_offsets(text, "text")
        segments = [(ids, spans)]
        if pair is not None:
            segments.append(self._encode_text_with_offsets(pair, "pair"))
        if add_special_tokens:
            first = [self.start_token_id]
            for i, (ids, spans) in enumerate(segments):
                segments[i] = ([*first, *ids, self.end_token_id], [(0, 0)] * len(first) + [*spans, (0, 0)])
                first = [self.end_token_id] * (self.separators - 1)
        return [i for ids, _ in segments for i in ids], [span for _, spans in segments for span in spans]

    def word_ids(self, text: str) -> list[int]:
        """Returns the number of the word of each token of `encode(text, add_special_tokens=False)`, from 0.

        The words are those to which BPE is applied, as in the `word_ids` of Hugging Face's fast tokenizers. A word is a
        run of letters, of digits or of other characters, with the space before it. The end of a contraction, such as
        `'s`, is a word. Each special or added token is a word too.

        Raises:
            TypeError, ValueError: see `encode`.

        >>> tokenizer = Tokenizer.train(["a new, new, new thing"], vocab_size=264)
        >>> [tokenizer.decode([id]) for id in tokenizer.encode("A newer thing", add_special_tokens=False)]
        ['A', ' new', 'e', 'r', ' ', 't', 'h', 'i', 'n', 'g']
        >>> tokenizer.word_ids("A newer thing")
        [0, 1, 1, 1, 2, 2, 2, 2, 2, 2]
        """
        check_text(text, "text")
        numbers: list[int] = []
        number = count()
        try:
            for _, piece, id in self._pieces(text):
                words = [(0,)] if id is not None else map(self._words.__getitem__, split_words(self._prefixed(piece)))
                for word in words:
                    numbers += [next(number)] * len(word)
        except UnicodeEncodeError:
            raise surrogate_error(text, "text") from None
        except _NoToken as error:
            raise ValueError(f"text {error}") from None
        return numbers

    def _encode_text(self, text: str, name: str) -> list[int]:
        check_text(text, name)
        ids: list[int] = []
        try:
            for _, piece, id in self._pieces(text):
                if id is None:
                    ids += chain.from_iterable(map(self._words.__getitem__, split_words(self._prefixed(piece))))
                else:
                    ids.append(id)
        except UnicodeEncodeError:
            raise surrogate_error(text, name) from None
        except _NoToken as error:
            raise ValueError(f"{name} {error}") from None
        return ids

    def _encode_text_with_offsets(self, text: str, name: str) -> tuple[list[int], list[Span]]:
        check_text(text, name)
        ids: list[int] = []
        spans: list[Span] = []
        try:
            for start, piece, id in self._pieces(text):
                if id is None:
                    self._append_plain(ids, spans, start, piece)
                else:
                    spans.append(self._trimmed(piece, (start, start + len(piece)), is_first=not ids))
                    ids.append(id)
        except UnicodeEncodeError:
            raise surrogate_error(text, name) from None
        except _NoToken as error:
            raise ValueError(f"{name} {error}") from None
        return ids, spans

    def _pieces(self, text: str) -> Iterator[tuple[int, str, int | None]]:
        """Cuts a text at special tokens: the start of each piece, the piece, and its id, None for plain text.

        The whitespace that `<mask>` absorbs is part of its piece.
        """
        literals = self._literals
        if literals is None:
            literals = self._literals = Literals([*self._roles(), *self.added_tokens])
        start = 0
        for begin, stop in literals.find(text):
            plain, special = text[start:begin], text[begin:stop]
            if special == self.mask_token and self.mask_lstrip:
                plain = plain.rstrip(WHITESPACE)
            if plain:
                yield start, plain, None
            place = start + len(plain)
            yield place, text[place:stop], self.vocabulary[special]
            start = stop
        if start < len(text):
            yield start, text[start:], None

    def _prefixed(self, piece: str) -> str:
        return " " + piece if self.add_prefix_space and not piece.startswith(" ") else piece

    def _encode_word(self, word: str) -> tuple[int, ...]:
        tables = self._tables
        symbols = [tables.byte_ids[byte] for byte in word.encode()]
        if tables.lacks_bytes and self.unk_token_id in symbols and not self._is_unknown_said:
            self._say_unknown(word)
        ids = tuple(merge(symbols, tables.ranks, tables.products))
        if tables.absent and max(ids) > HIGHEST_ID:
            token = tables.absent[next(id for id in ids if id > HIGHEST_ID)]
            raise _NoToken(
                f"needs the token {shown(token)} for {shown(word)}, but the vocabulary of {len(self)} tokens has "
                "neither this token nor an unknown token. Add the token or <unk> to the vocabulary"
            )
        return ids

    def _say_unknown(self, word: str) -> None:
        byte = next(byte for byte in word.encode() if self._tables.byte_ids[byte] == self.unk_token_id)
        warnings.warn(
            f"the vocabulary lacks tokens for some bytes, such as {byte:#04x} ({to_characters(bytes([byte]))!r}) in "
            f"{shown(word)}: each becomes {self.unk_token}, so decode does not return the same text. This warning "
            "comes once",
            stacklevel=callers_level(),
        )
        self._is_unknown_said = True  # and not raised as an error

    def _append_plain(self, ids: list[int], spans: list[Span], start: int, piece: str) -> None:
        prefixed = self._prefixed(piece)
        place = start - (len(prefixed) - len(piece))
        for word in split_words(prefixed):
            # The character that each byte of the word belongs to; a space put in front belongs to the first one.
            characters = [max(place + i, start) for i, character in enumerate(word) for _ in character.encode()]
            place += len(word)
            first = 0
            for id in self._words[word]:
                token = self._tokens[id]
                length = 1 if id == self.unk_token_id else len(token)  # in bytes: a token has a character for each
                span = (characters[first], characters[first + length - 1] + 1)
                spans.append(self._trimmed(token, span, is_first=not ids))
                ids.append(id)
                first += length

    def _trimmed(self, token: str, span: Span, is_first: bool) -> Span:
        """The span without the whitespace at the token's ends, by the rule of `tokenizers`' `process_offsets`."""
        start, stop = span
        if not self.trim_offsets:
            return span
        leading = len(token) - len(token.lstrip(_BLANK))
        trailing = len(token) - len(token.rstrip(_BLANK))
        if leading == 1 and self.add_prefix_space and (is_first or start == 0):
            leading = 0  # taken for the space put in front, which is no character of the text
        start = min(start + leading, stop)
        if stop >= trailing:
            stop = max(stop - trailing, start)
        return start, stop

    # Ids to text

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = False) -> str:
        """Returns the text of the ids. Bytes that are not UTF-8 become U+FFFD.

        Args:
            ids: whole numbers, in a list, an array (S,) or any iterable.
            skip_special_tokens: whether `<s>`, `<pad>`, `</s>`, `<unk>`, `<mask>` and other special tokens are left
                out.

        Raises:
            TypeError, ValueError: if a value is not the id of a token. The message names its position.
        """
        skip_special_tokens = true_or_false("skip_special_tokens", skip_special_tokens)
        ids = np.asarray(ids).tolist() if hasattr(ids, "__array__") else ids  # of NumPy, torch, JAX or TensorFlow
        if not isinstance(ids, Iterable):
            raise TypeError(f"ids must be a list or an array of token ids, got {shown(ids)}. For one id, pass [id]")
        ids = list(ids)
        pieces = {id: to_bytes(token) for id, token in self._tokens_of(ids).items()}
        if skip_special_tokens:
            pieces |= dict.fromkeys(self.special_token_ids, b"")
        return b"".join([pieces[id] for id in ids]).decode(errors="replace")

    def decode_batch(self, batch: Iterable[Iterable[int]], *, skip_special_tokens: bool = False) -> list[str]:
        """Returns the text of each sequence of ids; see `decode`."""
        return [self.decode(ids, skip_special_tokens=skip_special_tokens) for ids in batch]

    def _tokens_of(self, ids: Sequence[int]) -> dict[int, str]:
        """The distinct ids, checked, and their tokens."""
        wrong = [type for type in set(map(type, ids)) if type is bool or not issubclass(type, (int, np.integer))]
        if wrong:
            position = next(i for i, id in enumerate(ids) if type(id) in wrong)
            raise TypeError(f"token ids must be whole numbers, got {ids[position]!r} at position {position}")
        distinct = set(ids)
        unknown = {id for id in distinct if id not in self._tokens}  # `distinct - keys()` would go over all keys
        if unknown:
            position = next(i for i, id in enumerate(ids) if id in unknown)
            raise ValueError(
                f"token id {ids[position]} at position {position} is not in the vocabulary of "
                f"{len(self.vocabulary)} (ids 0 to {self.vocabulary_size() - 1}). "
                "Was the text encoded with another tokenizer?"
            )
        return {id: self._tokens[id] for id in distinct}

    # Files, and from nothing

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int = 8000,
        min_frequency: int = 2,
        *,
        progress: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> Tokenizer:
        """Learns a vocabulary from texts; see `bpe_training.train`.

        Args:
            texts: the texts, which are read once.
            vocab_size: the largest number of tokens: 5 special tokens, 256 bytes, and the rest merges.
            min_frequency: the least frequency of a pair that is merged.
            progress: a function that is called with (merges made, merges wanted) now and then.
            **options: arguments of `Tokenizer`, such as `add_prefix_space=True`.

        Raises:
            TypeError, ValueError: if an option or a size is out of range, before a text is read; if a value is not a
                text.

        >>> Tokenizer.train(["aa aa aa"], vocab_size=263).merges
        [('a', 'a'), ('Ġ', 'aa')]
        """
        from pyroberta.text.bpe_training import SPECIAL_TOKENS, train

        special_tokens = [options.get(role) or token for role, token in zip(ROLES, SPECIAL_TOKENS, strict=True)]
        checked = {
            name: value for name, value in options.items() if name not in ("added_tokens", "unsplittable_tokens")
        }
        cls(
            list(dict.fromkeys([*special_tokens, *BYTE_CHARACTERS])), [], **checked
        )  # an option is refused before it reads
        vocabulary, merges = train(
            texts,
            vocab_size,
            min_frequency,
            special_tokens=special_tokens,
            add_prefix_space=bool(options.get("add_prefix_space", False)),
            progress=progress,
        )
        return cls(vocabulary, merges, **options)

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], **options: Any) -> Tokenizer:
        """Returns the tokenizer of a preset. The tokenizer of `roberta_base_en` and `roberta_large_en` is part of the
        package.

        Args:
            preset: a name (`MaskedLM.presets` lists them) or the path of a directory, in any format that can be read.
            **options: arguments of `Tokenizer` instead of the preset's, such as `add_prefix_space=True`.

        Raises:
            ValueError, FileNotFoundError: if the preset is missing or damaged. The message says what was found.

        >>> Tokenizer.from_preset("roberta_base_en").encode("The capital of France is <mask>.")
        [0, 133, 812, 9, 1470, 16, 50264, 4, 2]
        """
        tokenizer: Tokenizer = hooks.open_preset(preset, weights=False).tokenizer
        return cls(**(tokenizer._arguments() | options)) if options or cls is not Tokenizer else tokenizer

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Tokenizer:
        """Reads `tokenizer.json`; or, if it does not exist, `vocab.json` and `merges.txt`. See `tokenizer_files.read`.

        Raises:
            FileNotFoundError: if the directory has neither.
            ValueError: if a file is damaged, or has a setting that RoBERTa's tokenizer does not have.
        """
        from pyroberta.text.tokenizer_files import read

        arguments = read(Directory.of(directory))
        try:
            return cls(**arguments)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{directory}: {error}") from None

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes the files that transformers reads into a directory. The directory and its parents are created if
        needed.

        The files are `vocab.json`, `merges.txt`, `tokenizer.json`, `tokenizer_config.json` and
        `special_tokens_map.json`. All are written and flushed to the disk before the first one takes its name, so the
        old files stay if the disk is full. `dtype` and `name` are not saved.

        Raises:
            FileExistsError: if the directory has a model with another tokenizer, since the rows of its token embedding
                would stand for other tokens. Tokens that were added to the model's own tokenizer may be saved.
            NotADirectoryError: if the path of the directory is that of a file.
            OSError: if the disk is full. The message has the bytes needed and the bytes free.
        """
        from pyroberta.formats.new_files import replace_files

        self._check_model_beside(os.path.expanduser(directory))
        replace_files(directory, self.new_files())

    def save_to_preset(self, directory: str | os.PathLike[str], *, format: str | None = None) -> None:
        """Writes the tokenizer into a preset, which is created if it does not exist.

        `from_preset` reads it back, even if the preset has no model. transformers' `AutoTokenizer` reads format "hf".
        KerasHub reads format "keras" once a backbone is saved in the same preset. If the save is interrupted or the
        disk is full, the directory stays as it was.

        Args:
            directory: the directory, which is created if needed. If it is a preset, its other files stay.
            format: "hf" or "keras". The default is the format of the existing preset, or "hf".

        Raises:
            FileExistsError: if `directory` is a file, holds other files than those of a preset, or has a model with
                another tokenizer, since the rows of its token embedding would stand for other tokens.
            ValueError: if `format` is not that of the model in the directory, the format can't hold the tokenizer, or
                the tokenizer has more tokens than the model's token embedding has rows.
            OSError: if the disk is full. The message has the bytes needed and the bytes free.

        >>> import tempfile
        >>> directory = tempfile.mkdtemp() + "/preset"
        >>> Tokenizer.train(["the fox"], vocab_size=261).save_to_preset(directory)
        >>> Tokenizer.from_preset(directory)
        Tokenizer(261 tokens, 0 merges)
        """
        hooks.save_text(directory, self, None, format)

    def _check_model_beside(self, directory: str) -> None:
        if not all(os.path.isfile(os.path.join(directory, name)) for name in ("config.json", "vocab.json")):
            return
        try:
            saved = Tokenizer.load(directory).vocabulary
        except (ValueError, OSError):  # a damaged one: nothing is known of the rows
            return
        if any(self.vocabulary.get(token) != id for token, id in saved.items()):
            raise FileExistsError(
                f"won't save a tokenizer to {directory}: it has a model whose tokenizer has other tokens ({len(saved)} "
                f"of them; this one has {len(self.vocabulary)}), so the rows of the model's token embedding would "
                "stand for other tokens. Save to another directory"
            )

    def new_files(self) -> dict[str, NewFile]:
        """Returns the files that `save` writes, by name, before they are written."""
        from pyroberta.text.tokenizer_files import new_files

        return new_files(**{name: value for name, value in self._arguments().items() if name != "name"})


def _checked_flags(added_tokens: Any) -> Mapping[str, bool]:
    if not isinstance(added_tokens, Mapping):
        raise TypeError(
            "added_tokens must be a dict of strings, with whether each is special; got "
            f"{shown(added_tokens)}. For ordinary ones, pass unsplittable_tokens"
        )
    for token, is_special in added_tokens.items():
        true_or_false(f"added_tokens[{token!r}]", is_special)
    return added_tokens


def _rebuild(kind: type[Tokenizer], arguments: dict[str, Any]) -> Tokenizer:
    return kind(**arguments)
