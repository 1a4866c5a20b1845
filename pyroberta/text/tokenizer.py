"""Text to token ids and back: RoBERTa's byte-level BPE."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyroberta.formats.budget import shown
from pyroberta.formats.directory import Directory
from pyroberta.model.attributes import LAYER, Checked, Checks, Reasons, true_or_false
from pyroberta.model.guard import fork_safe_lock
from pyroberta.text import hooks
from pyroberta.text.bpe import merge
from pyroberta.text.byte_level import (
    BYTE_CHARACTERS,
    SPACE,
    SURROGATE,
    WHITESPACE,
    split_words,
    to_bytes,
)
from pyroberta.text.given import opened, refuse_endless, refuse_rows
from pyroberta.text.literals import Literals

if TYPE_CHECKING:
    from pyroberta.formats.new_files import NewFile

Span = tuple[int, int]

_BLANK = SPACE + WHITESPACE
HIGHEST_ID = (1 << 24) - 1  # some tables have an entry for each id up to the highest
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


_ANOTHER = "what follows from it is made once, so make another Tokenizer"
_DERIVED = "it follows from the vocabulary and the added tokens"
_FIXED = dict.fromkeys(
    ("vocabulary", "merges", "start_token", "pad_token", "end_token", "unk_token", "mask_token", "separators"), _ANOTHER
)


class Tokenizer(Checked):
    """Byte-level BPE with RoBERTa's special tokens; id for id the equal of Hugging Face's.

    Any text can be encoded, and `decode` gives it back. Special tokens are recognised in raw text, literally and
    first.

    Args:
        vocabulary: every token and its id, the special tokens and all 256 bytes among them (byte b is written as
            `byte_level.BYTE_CHARACTERS[b]`, so that a space is `Ġ`). Ids may have holes.
        merges: the pairs to join, in the order in which they apply.
        add_prefix_space: whether a text that does not begin with a space gets one, so that its first word is encoded
            like any other.
        mask_lstrip: whether `<mask>` absorbs the whitespace before it, as in the published models: `I <mask> it`
            is then `I`, `<mask>`, `Ġit`, and `<mask>` stands for a word with its space.
        start_token, pad_token, end_token, unk_token, mask_token: the special tokens.
        separators: the number of `</s>` between the two segments of a pair: 2 in RoBERTa, 1 in BERT's framing.
        trim_offsets: whether `encode_with_offsets` leaves the whitespace at a token's ends out of its span.
        added_tokens: other strings that are recognised in raw text -> whether the string is special, that is, left out
            by `decode(..., skip_special_tokens=True)`.

    Raises:
        TypeError, ValueError: where the vocabulary and the merges do not make a tokenizer, naming the entry.

    >>> tokenizer = Tokenizer.train(["A new, newer, newest thing"], vocab_size=264)
    >>> ids = tokenizer.encode("A new <mask>")
    >>> [tokenizer.id_to_token(i) for i in ids]
    ['<s>', 'A', 'Ġnew', '<mask>', '</s>']
    >>> tokenizer.decode(ids, skip_special_tokens=True)
    'A new'
    """

    checks: ClassVar[Checks] = dict.fromkeys(("add_prefix_space", "mask_lstrip", "trim_offsets"), true_or_false)
    unsettable: ClassVar[Reasons] = (
        LAYER
        | _FIXED
        | dict.fromkeys(("is_special", "is_word_start", "ordinary_ids", "vocabulary_size"), _DERIVED)
        | dict.fromkeys(("start_token_id", "pad_token_id", "end_token_id", "unk_token_id", "mask_token_id"), _DERIVED)
        | dict.fromkeys(("special_token_ids", "special_tokens"), _DERIVED)
        | dict.fromkeys(("added_tokens", "unsplittable_tokens"), "add_tokens adds some")
        | {"sequence_length": "set that of the preprocessor, which cuts texts"}
    )
    vocabulary: dict[str, int]
    merges: list[tuple[str, str]]
    start_token: str
    pad_token: str
    end_token: str
    unk_token: str
    mask_token: str
    added_tokens: dict[str, bool]
    separators: int
    start_token_id: int
    pad_token_id: int
    end_token_id: int
    unk_token_id: int
    mask_token_id: int
    special_tokens: list[str]
    special_token_ids: list[int]
    is_special: NDArray[np.bool_]
    ordinary_ids: NDArray[np.int32]

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Iterable[tuple[str, str]],
        *,
        add_prefix_space: bool = False,
        mask_lstrip: bool = True,
        start_token: str = "<s>",
        pad_token: str = "<pad>",
        end_token: str = "</s>",
        unk_token: str = "<unk>",
        mask_token: str = "<mask>",
        added_tokens: Mapping[str, bool] | None = None,
        separators: int = 2,
        trim_offsets: bool = True,
    ) -> None:
        self.add_prefix_space = add_prefix_space
        self.mask_lstrip = mask_lstrip
        self.trim_offsets = trim_offsets
        if separators not in (1, 2) or isinstance(separators, bool):
            raise ValueError(f"separators must be 1 or 2, got {shown(separators)}")
        special_tokens = {
            "start_token": start_token,
            "pad_token": pad_token,
            "end_token": end_token,
            "unk_token": unk_token,
            "mask_token": mask_token,
        }
        vars(self).update(
            special_tokens,
            vocabulary=dict(vocabulary),
            merges=_checked_merges(merges),
            added_tokens=dict(added_tokens or {}),
            separators=separators,
        )
        self._tokens = _by_id(self.vocabulary)
        _check_special_tokens(self.vocabulary, special_tokens, self.added_tokens)
        self._byte_ids = _byte_ids(self.vocabulary)
        self._ranks, self._products = _merge_tables(self.vocabulary, self.merges)

        roles = {f"{role}_id": self.vocabulary[token] for role, token in special_tokens.items()}
        vars(self).update(roles)
        self._words = _Words(self._encode_word)
        self._list_tokens()

    def _list_tokens(self) -> None:
        """Sets the attributes that follow from the vocabulary and the added tokens, which `add_tokens` changes."""
        self._vocabulary_size = max(self._tokens) + 1
        roles = self.start_token, self.pad_token, self.end_token, self.unk_token, self.mask_token
        also_special = [token for token, is_special in self.added_tokens.items() if is_special]
        special_tokens = sorted({*roles, *also_special}, key=self.vocabulary.__getitem__)
        special_token_ids = [self.vocabulary[token] for token in special_tokens]
        is_special = np.zeros(self._vocabulary_size, np.bool_)
        is_special[special_token_ids] = True
        ids = np.sort(np.fromiter(self._tokens, np.int32))
        vars(self).update(special_tokens=special_tokens, special_token_ids=special_token_ids)
        vars(self).update(is_special=is_special, ordinary_ids=ids[~is_special[ids]])

        self._literals: Literals | None = None  # made when a text comes: tokens may be added one by one

    # What there is

    def vocabulary_size(self) -> int:
        """V, one more than the highest id: the number of rows that a token embedding needs.

        It is `len(tokenizer)`, the number of entries, where the ids have no holes.
        """
        return self._vocabulary_size

    @property
    def is_word_start(self) -> NDArray[np.bool_]:
        """(V,) whether the token with that id begins a word: it starts with whitespace, or is special.

        The first token of a text begins a word as well, whatever it is.
        """
        starts = np.zeros(self.vocabulary_size(), np.bool_)
        for id, token in self._tokens.items():
            text = to_bytes(token).decode(errors="ignore")
            starts[id] = text.startswith(tuple(WHITESPACE))
        starts[self.is_special] = True
        return starts

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __repr__(self) -> str:
        return f"Tokenizer({len(self.vocabulary)} tokens, {len(self.merges)} merges)"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._arguments(),)

    def _arguments(self) -> dict[str, Any]:
        names = (
            "vocabulary", "merges", "add_prefix_space", "mask_lstrip", "start_token", "pad_token", "end_token",
            "unk_token", "mask_token", "added_tokens", "separators", "trim_offsets",
        )  # fmt: skip
        with _ADDING:
            found = {name: getattr(self, name) for name in names}
            return found | {name: dict(found[name]) for name in ("vocabulary", "added_tokens")}

    def add_tokens(self, tokens: str | Iterable[str], *, special: bool = False) -> int:
        """Adds strings as tokens, which are recognised in raw text, literally and before BPE.

        A string that the vocabulary lacks gets the next free id, `vocabulary_size`; one that it has keeps its id.
        The model's table must have a row for each: see `MaskedLM.add_tokens`, which does both. A space in front
        belongs to the token if it is written there; else it stays a token of its own. A character that byte-level BPE
        writes for a byte, such as `é` for E9, is decoded as that byte in an added token too, as in `tokenizers`.

        Args:
            tokens: one or more.
            special: whether they are special too: never masked, and left out by
                `decode(..., skip_special_tokens=True)`.

        Returns:
            The number of tokens that were not recognised before.

        Raises:
            TypeError, ValueError: for an empty string, invalid Unicode, or no string. Nothing is added then.

        >>> tokenizer = Tokenizer.train(["a new, new, new thing"], vocab_size=264)
        >>> tokenizer.add_tokens([" Tyrannosaurus", "<name>"])
        2
        >>> ids = tokenizer.encode("a new Tyrannosaurus <name>", add_special_tokens=False)
        >>> [tokenizer.id_to_token(i) for i in ids]
        ['a', 'Ġnew', ' Tyrannosaurus', 'Ġ', '<name>']
        """
        tokens = [tokens] if isinstance(tokens, str) else list(_checked_texts(tokens, "tokens"))
        for token in tokens:
            if not token or SURROGATE.search(token):
                raise ValueError(f"a token to add must be a non-empty str of valid Unicode, got {token!r}")
        roles = {self.start_token, self.pad_token, self.end_token, self.unk_token, self.mask_token}
        new = [token for token in dict.fromkeys(tokens) if token not in roles]
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

    def token_to_id(self, token: str) -> int:
        """The id of a token as the vocabulary writes it (`Ġhello`); `unk_token_id` for an unknown one."""
        if not isinstance(token, str):
            raise TypeError(f"token must be a str, got {type(token).__name__}")
        return self.vocabulary.get(token, self.unk_token_id)

    def id_to_token(self, id: int) -> str:
        """The token that has this id.

        Raises:
            ValueError: where there is no such id.
        """
        return self._tokens_of([id])[id]

    # Text to ids

    def encode(self, text: str, pair: str | None = None, *, add_special_tokens: bool = True) -> list[int]:
        """The ids of a text: `<s> text </s>`, or of two: `<s> text </s></s> pair </s>`, or with one `</s>` between.

        Args:
            text: of any length.
            pair: a second segment.
            add_special_tokens: False leaves out the `<s>` and `</s>` around the segments.

        Raises:
            TypeError: for a value that is no str.
            ValueError: for a text with a lone surrogate, which UTF-8 can't hold.
        """
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
        """`encode` of each text, with the second segment at the same place in `pairs` if there are pairs."""
        texts = _checked_texts(texts, "texts")
        seconds: Sequence[str | None] = [None] * len(texts) if pairs is None else _checked_texts(pairs, "pairs")
        if len(texts) != len(seconds):
            raise ValueError(f"there are {len(texts)} texts but {len(seconds)} pairs; each text needs one")
        return [
            self.encode(text, pair, add_special_tokens=add_special_tokens)
            for text, pair in zip(texts, seconds, strict=True)
        ]

    def encode_with_offsets(
        self, text: str, pair: str | None = None, *, add_special_tokens: bool = True
    ) -> tuple[list[int], list[Span]]:
        """`encode`, and for each token the characters it comes from: `text[start:stop]`.

        As in Hugging Face's RoBERTa, a token's own space is outside its span, a token of some bytes of a character
        has the whole character, spans of `pair` count from the start of `pair`, and an added `<s>` or `</s>` has
        (0, 0).

        Returns:
            The ids and the spans, equally long.

        >>> tokenizer = Tokenizer.train(["a new, new, new thing"], vocab_size=264)
        >>> ids, spans = tokenizer.encode_with_offsets("A newer")
        >>> [("A newer"[start:stop]) for start, stop in spans]
        ['', 'A', 'new', 'e', 'r', '']
        """
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
        """The number of the word, from 0, of each token of `encode(text, add_special_tokens=False)`.

        The words are those that BPE is applied to, as in the `word_ids` of Hugging Face's fast tokenizers: a run of
        letters, of digits or of other characters, each with the space before it; a contraction's end such as `'s` is a
        word of its own. So is each special or added token.

        Raises:
            TypeError, ValueError: as `encode`.

        >>> tokenizer = Tokenizer.train(["a new, new, new thing"], vocab_size=264)
        >>> [tokenizer.decode([id]) for id in tokenizer.encode("A newer thing", add_special_tokens=False)]
        ['A', ' new', 'e', 'r', ' ', 't', 'h', 'i', 'n', 'g']
        >>> tokenizer.word_ids("A newer thing")
        [0, 1, 1, 1, 2, 2, 2, 2, 2, 2]
        """
        _check_text(text, "text")
        numbers: list[int] = []
        number = count()
        try:
            for _, piece, id in self._pieces(text):
                words = [(0,)] if id is not None else map(self._words.__getitem__, split_words(self._prefixed(piece)))
                for word in words:
                    numbers += [next(number)] * len(word)
        except UnicodeEncodeError:
            raise _surrogate_error(text, "text") from None
        return numbers

    def _encode_text(self, text: str, name: str) -> list[int]:
        _check_text(text, name)
        ids: list[int] = []
        try:
            for _, piece, id in self._pieces(text):
                if id is None:
                    ids += chain.from_iterable(map(self._words.__getitem__, split_words(self._prefixed(piece))))
                else:
                    ids.append(id)
        except UnicodeEncodeError:
            raise _surrogate_error(text, name) from None
        return ids

    def _encode_text_with_offsets(self, text: str, name: str) -> tuple[list[int], list[Span]]:
        _check_text(text, name)
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
            raise _surrogate_error(text, name) from None
        return ids, spans

    def _pieces(self, text: str) -> Iterator[tuple[int, str, int | None]]:
        """Cuts a text at special tokens: the start of each piece, the piece, and its id, None for plain text.

        The whitespace that `<mask>` absorbs is part of its piece.
        """
        literals = self._literals
        if literals is None:
            roles = self.start_token, self.pad_token, self.end_token, self.unk_token, self.mask_token
            literals = self._literals = Literals([*roles, *self.added_tokens])
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
        byte_ids = self._byte_ids
        return tuple(merge([byte_ids[byte] for byte in word.encode()], self._ranks, self._products))

    def _append_plain(self, ids: list[int], spans: list[Span], start: int, piece: str) -> None:
        prefixed = self._prefixed(piece)
        place = start - (len(prefixed) - len(piece))
        for word in split_words(prefixed):
            # The character that each byte of the word belongs to; a space put in front belongs to the first one.
            characters = [max(place + i, start) for i, character in enumerate(word) for _ in character.encode()]
            place += len(word)
            first = 0
            for id in self._words[word]:
                token = self._tokens[id]  # a character for each byte
                span = (characters[first], characters[first + len(token) - 1] + 1)
                spans.append(self._trimmed(token, span, is_first=not ids))
                ids.append(id)
                first += len(token)

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
        """The text of the ids. Bytes that are no UTF-8 become U+FFFD.

        Args:
            ids: whole numbers, in a list, an array or any iterable.
            skip_special_tokens: leaves out `<s>`, `<pad>`, `</s>`, `<unk>`, `<mask>` and the like.

        Raises:
            TypeError, ValueError: for a value that is no token's id, naming its position.
        """
        ids = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
        pieces = {id: to_bytes(token) for id, token in self._tokens_of(ids).items()}
        if skip_special_tokens:
            pieces |= dict.fromkeys(self.special_token_ids, b"")
        return b"".join([pieces[id] for id in ids]).decode(errors="replace")

    def decode_batch(self, batch: Iterable[Iterable[int]], *, skip_special_tokens: bool = False) -> list[str]:
        """`decode` of each sequence of ids."""
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
            texts: read once.
            vocab_size: the most tokens: 5 special ones, 256 bytes, the rest merges.
            min_frequency: pairs seen less often are not merged.
            progress: called with (merges made, merges wanted) now and then.
            **options: arguments of `Tokenizer`, such as `add_prefix_space=True`.

        >>> Tokenizer.train(["aa aa aa"], vocab_size=263).merges
        [('a', 'a'), ('Ġ', 'aa')]
        """
        from pyroberta.text.bpe_training import SPECIAL_TOKENS, train

        roles = ("start_token", "pad_token", "end_token", "unk_token", "mask_token")
        special_tokens = [options.get(role, token) for role, token in zip(roles, SPECIAL_TOKENS, strict=True)]
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
        """The tokenizer of a preset. The package has that of `roberta_base_en` and `roberta_large_en`.

        Args:
            preset: a name (`MaskedLM.presets` lists them) or the path of a directory, in any format that can be read.
            **options: arguments of `Tokenizer` instead of the preset's, such as `add_prefix_space=True`.

        Raises:
            ValueError, FileNotFoundError: where the preset is missing or damaged; the message says what there is.

        >>> Tokenizer.from_preset("roberta_base_en").encode("The capital of France is <mask>.")
        [0, 133, 812, 9, 1470, 16, 50264, 4, 2]
        """
        tokenizer: Tokenizer = hooks.open_preset(preset, weights=False).tokenizer
        return cls(**(tokenizer._arguments() | options)) if options or cls is not Tokenizer else tokenizer

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Tokenizer:
        """Reads `tokenizer.json`, or else `vocab.json` and `merges.txt`; see `tokenizer_files.read`.

        Raises:
            FileNotFoundError: where there is neither.
            ValueError: where a file is damaged, or asks for something that RoBERTa's tokenizer does not do.
        """
        from pyroberta.text.tokenizer_files import read

        arguments = read(Directory.of(directory))
        try:
            return cls(**arguments)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{directory}: {error}") from None

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes the files that transformers reads into a directory, which is made if need be, parents too.

        They are `vocab.json`, `merges.txt`, `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json`. All
        are written and flushed to the disk before the first one takes its name, so a full disk leaves the old ones.

        Raises:
            FileExistsError: where a model lies there with a tokenizer of other entries: the rows of its weights would
                stand for other tokens. What was added to its own tokenizer may be saved.
            NotADirectoryError: where a file stands in the way.
            OSError: where there is no room, telling the bytes needed and free.
        """
        from pyroberta.formats.new_files import replace_files

        self._check_model_beside(os.path.expanduser(directory))
        replace_files(directory, self.new_files())

    def _check_model_beside(self, directory: str) -> None:
        if not all(os.path.isfile(os.path.join(directory, name)) for name in ("config.json", "vocab.json")):
            return
        try:
            saved = Tokenizer.load(directory).vocabulary
        except (ValueError, OSError):  # a damaged one: nothing is known of the rows
            return
        if any(self.vocabulary.get(token) != id for token, id in saved.items()):
            raise FileExistsError(
                f"won't save a tokenizer to {directory}: a model lies there, whose tokenizer has other entries "
                f"({len(saved)}, and this one {len(self.vocabulary)}), so that its weights' rows would stand for other "
                "tokens. Give another directory"
            )

    def new_files(self) -> dict[str, NewFile]:
        """The files that `save` writes, by name, before they are written."""
        from pyroberta.text.tokenizer_files import new_files

        return new_files(**self._arguments())


def _rebuild(arguments: dict[str, Any]) -> Tokenizer:
    return Tokenizer(**arguments)


# The checks of users' arguments.


def _checked_merges(merges: Iterable[Any]) -> list[tuple[str, str]]:
    pairs = list(merges)
    if all(type(pair) is tuple and len(pair) == 2 for pair in pairs) and all(
        type(left) is type(right) is str and left and right for left, right in pairs
    ):
        return pairs
    return [_checked_merge(i, pair) for i, pair in enumerate(pairs)]


def _checked_merge(i: int, pair: Any) -> tuple[str, str]:
    if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
        raise ValueError(f"merge {i} must be a pair of tokens, got {shown(pair)}")
    left, right = pair
    if not (isinstance(left, str) and isinstance(right, str) and left and right):
        raise ValueError(f"merge {i} must be a pair of non-empty strings, got {shown(pair)}")
    return left, right


def _by_id(vocabulary: Mapping[str, int]) -> dict[int, str]:
    tokens: dict[int, str] = {}
    for token, id in vocabulary.items():
        if not isinstance(token, str):
            raise TypeError(f"the vocabulary's tokens must be strings, got {shown(token)} with id {shown(id)}")
        if isinstance(id, bool) or not isinstance(id, int) or id < 0:
            raise ValueError(f"the id of token {shown(token)} must be a whole number of at least 0, got {shown(id)}")
        if id > HIGHEST_ID:
            raise ValueError(
                f"the id of token {shown(token)} is {shown(id)}, and {HIGHEST_ID} is the highest that can be had"
            )
        if id in tokens:
            raise ValueError(f"tokens {shown(tokens[id])} and {shown(token)} have the same id {id} in the vocabulary")
        tokens[id] = token
    return tokens


def _check_special_tokens(
    vocabulary: Mapping[str, int], special_tokens: Mapping[str, str], added_tokens: Mapping[str, bool]
) -> None:
    for name, token in special_tokens.items():
        if not isinstance(token, str) or not token:
            raise TypeError(f"{name} must be a non-empty str, got {shown(token)}")
    missing = [f"{shown(token)} ({name})" for name, token in special_tokens.items() if token not in vocabulary]
    missing += [f"{shown(token)} (added token)" for token in added_tokens if token not in vocabulary]
    if missing:
        rest = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise ValueError(
            f"the vocabulary of {len(vocabulary)} tokens has no {', '.join(missing[:8])}{rest}; "
            "give each an id there, or name the tokens that it has in their place"
        )


def _byte_ids(vocabulary: Mapping[str, int]) -> list[int]:
    missing = [
        f"{byte:#04x} ({character!r})" for byte, character in enumerate(BYTE_CHARACTERS) if character not in vocabulary
    ]
    if missing:
        first = ", ".join(missing[:8]) + (" …" if len(missing) > 8 else "")
        raise ValueError(
            f"the vocabulary lacks tokens for {len(missing)} of the 256 bytes: {first}. Without them some texts "
            "cannot be encoded. Is it a byte-level vocabulary?"
        )
    return [vocabulary[character] for character in BYTE_CHARACTERS]


def _merge_tables(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]
) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], int]]:
    ranks: dict[tuple[int, int], int] = {}
    products: dict[tuple[int, int], int] = {}
    get = vocabulary.get
    for rank, (left, right) in enumerate(merges):
        first, second, product = get(left), get(right), get(left + right)
        if first is None or second is None or product is None:
            token = left if first is None else right if second is None else left + right
            raise ValueError(
                f"merge {rank}, {shown(left)} + {shown(right)}, needs the token {shown(token)}, which the vocabulary "
                "does not have. Do the vocabulary and the merges belong together?"
            )
        pair = (first, second)
        if pair in ranks:
            raise ValueError(f"merge {rank}, {shown(left)} + {shown(right)}, is merge {ranks[pair]} again")
        ranks[pair] = rank
        products[pair] = product
    return ranks, products


def _check_text(text: Any, name: str) -> None:
    if isinstance(text, str):
        return
    hint = ""
    if isinstance(text, bytes):
        hint = "; decode it first, for instance with .decode('utf-8')"
    elif isinstance(text, Iterable):
        hint = "; for several texts there is encode_batch"
    raise TypeError(f"{name} must be a str, got {type(text).__name__}{hint}")


def _checked_texts(texts: Any, name: str) -> Sequence[str]:
    texts = opened(texts, name)
    refuse_rows(texts, (), name)
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
        raise TypeError(f"{name} must be an iterable of str, got {type(texts).__name__}")
    refuse_endless(texts, name)
    checked = list(texts)
    for i, text in enumerate(checked):
        _check_text(text, f"{name}[{i}]")
    return checked


def _surrogate_error(text: str, name: str) -> ValueError:
    found = SURROGATE.search(text)
    assert found is not None  # nothing else in a str has no UTF-8
    return ValueError(
        f"{name} has a lone surrogate, {found[0]!r}, at index {found.start()}; it is half of a UTF-16 pair and has "
        "no UTF-8. Read the text with the encoding it was written in, or replace it: "
        "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
    )
