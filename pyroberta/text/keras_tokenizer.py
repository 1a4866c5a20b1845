"""The methods of a tokenizer that users of KerasHub know: calls, the vocabulary, configs, presets."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np

from pyroberta.formats.counts import agreeing, share
from pyroberta.model.attributes import Checked, Checks, whole_number_or_none
from pyroberta.model.callers import callers_level
from pyroberta.model.hints import Hinting, hinting
from pyroberta.model.serialization import arguments_of, check_layer_name, without_defaults
from pyroberta.text import hooks
from pyroberta.text.foreign_names import ARGUMENTS, ATTRIBUTES
from pyroberta.text.texts import checked_texts, is_row

Self = TypeVar("Self", bound="KerasTokenizer")

ROLES = ("start_token", "pad_token", "end_token", "unk_token", "mask_token")
DTYPES = ("int32", "int64", "string")  # of what a call gives


class KerasTokenizer(Hinting, Checked):
    """KerasHub's interface of a tokenizer. It is built on `encode` and `decode`.

    Attributes:
        presets: the presets that `from_preset` knows by name.
        sequence_length: the length to which a call pads or cuts. None means that it does neither.
        dtype: the dtype of the result of a call, one of `DTYPES`.
        name: the name of the object.
    """

    presets = hooks.Presets()
    elsewhere = ATTRIBUTES
    checks: ClassVar[Checks] = {"sequence_length": whole_number_or_none, "name": check_layer_name}
    vocabulary: dict[str, int]
    added_tokens: dict[str, bool]
    unk_token: str | None
    pad_token_id: int
    sequence_length: int | None
    dtype: str
    name: str
    _tokens: dict[int, str]

    @abstractmethod
    def _encode_text(self, text: str, name: str) -> list[int]:
        """The ids of a text, without a frame; `name` is the text's, for messages."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids."""

    @abstractmethod
    def _arguments(self) -> dict[str, Any]:
        """The arguments that make an equal tokenizer."""

    def _roles(self) -> list[str]:
        """The special tokens that have a role."""
        return [token for role in ROLES if (token := getattr(self, role)) is not None]

    @hinting(**ARGUMENTS)
    def __call__(self, inputs: Any) -> Any:
        """`tokenize`, under KerasHub's name for it."""
        return self.tokenize(inputs)

    def tokenize(self, inputs: Any) -> Any:
        """Returns the ids of one text or of several, without `<s>` and `</s>`, as KerasHub's tokenizers do.

        Args:
            inputs: a text, or a list, an array, a table's column or any iterable of texts.

        Returns:
            For one text, an array (S,) of its ids, in the tokenizer's `dtype`. For several texts, a list of lists of
            ids; with `sequence_length`, an array (B, S) padded with `pad_token_id`. If `dtype` is "string", lists of
            tokens.

        Raises:
            TypeError, ValueError: if a value is not a text; the message names its place. See `encode` for other errors.

        Warns:
            UserWarning: if `sequence_length` cuts texts. The message has their number.

        >>> from pyroberta import Tokenizer
        >>> tokenizer = Tokenizer.train(["the fox, the foxes"], vocab_size=270, sequence_length=4)
        >>> tokenizer("the fox")
        array([262, 264,   1,   1], dtype=int32)
        """
        if isinstance(inputs, np.ndarray) and inputs.ndim == 0:
            inputs = inputs.item()
        is_single = isinstance(inputs, str)
        texts = [inputs] if is_single else checked_texts(inputs, "inputs")
        name = "text" if is_single else "inputs[{}]"
        rows = [self._encode_text(text, name.format(i)) for i, text in enumerate(texts)]
        length = self.sequence_length
        if length is not None:
            self._say_cut(rows, length)
            rows = [row[:length] + [self.pad_token_id] * (length - len(row)) for row in rows]
        if self.dtype == "string":
            tokens = [[self._tokens[id] for id in row] for row in rows]
            return tokens[0] if is_single else tokens
        if length is not None:
            array = np.array(rows, self.dtype).reshape(len(rows), length)
            return array[0] if is_single else array
        return np.array(rows[0], self.dtype) if is_single else rows

    def _say_cut(self, rows: list[list[int]], length: int) -> None:
        lengths = [len(row) for row in rows]
        cut = sum(found > length for found in lengths)
        if cut:
            warnings.warn(
                f"{share(cut, len(rows), 'text', 'has')} more than the tokenizer's sequence_length of {length} tokens "
                f"(the longest has {max(lengths)}) and {agreeing(cut, 'is')} cut",
                stacklevel=callers_level(),
            )

    def detokenize(self, inputs: Any) -> Any:
        """Returns the text of ids, or the texts of several sequences of ids. It is KerasHub's name for `decode`.

        Args:
            inputs: one id, a list or an array (S,) of ids, or several sequences: a list of lists or arrays, or an array
                (B, S).

        Returns:
            A text, or a list of texts.

        Raises:
            TypeError, ValueError: if a value is not an id. The message names its position.

        >>> from pyroberta import Tokenizer
        >>> tokenizer = Tokenizer.train(["the fox, the foxes"], vocab_size=270)
        >>> tokenizer.detokenize(tokenizer("the fox")), tokenizer.detokenize([[262], [264]])
        ('the fox', ['the', ' fox'])
        """
        if hasattr(inputs, "__array__"):  # of NumPy, torch, JAX or TensorFlow
            array = np.asarray(inputs)
            if array.ndim > 2:
                raise ValueError(f"ids must be of shape (), (S,) or (B, S), got {array.shape}")
            if array.ndim == 2:
                return [self.decode(row) for row in array]
            inputs = array.tolist()
        is_single = isinstance(inputs, (str, bytes, Mapping)) or not isinstance(inputs, Iterable)
        rows: list[Any] = [inputs] if is_single else list(inputs)
        return [self.decode(row) for row in rows] if rows and is_row(rows[0]) else self.decode(rows)

    def get_vocabulary(self) -> list[str]:
        """Returns the tokens in the order of their ids."""
        return [self._tokens[id] for id in sorted(self._tokens)]

    @property
    def unsplittable_tokens(self) -> list[str]:
        """The strings that are recognised in raw text before BPE: the special and the added tokens, in the order of
        their ids.
        """
        return sorted({*self._roles(), *self.added_tokens}, key=self.vocabulary.__getitem__)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments in JSON's types. `Tokenizer.from_config(config)` makes an equal tokenizer from them.

        The config has KerasHub's form, and the vocabulary and the merges besides, which KerasHub's configs lack. An
        argument that KerasHub does not have is left out if it has its default value. If all such arguments have it,
        KerasHub's class takes the config.

        >>> from pyroberta import Tokenizer
        >>> tokenizer = Tokenizer.train(["the fox"], vocab_size=270)
        >>> Tokenizer.from_config(tokenizer.get_config()).get_config() == tokenizer.get_config()
        True
        """
        config = self._arguments()
        config["merges"] = [list(pair) if " " in "".join(pair) else " ".join(pair) for pair in config["merges"]]
        config["unsplittable_tokens"] = self.unsplittable_tokens  # the added ones too; `added_tokens` has flags besides
        config["added_tokens"] = {token: True for token, special in config["added_tokens"].items() if special} or None
        config["unk_token"] = None if self.unk_token == "<unk>" else self.unk_token
        names = (*ROLES, "mask_lstrip", "added_tokens", "separators", "trim_offsets")
        return without_defaults(type(self), config, names)

    @classmethod
    def from_config(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """Returns the tokenizer of a config that `get_config` returned.

        Raises:
            ValueError: if the config has no vocabulary, which is so for KerasHub's configs.
            TypeError, ValueError: see the class.
        """
        arguments = arguments_of(cls, config)
        if arguments.get("vocabulary") is None or arguments.get("merges") is None:
            raise ValueError(
                "the config has no vocabulary and merges, which KerasHub keeps in files. Add them, config | "
                '{"vocabulary": …, "merges": …}, or load the preset: Tokenizer.from_preset'
            )
        return cls(**arguments)
