"""Masking of tokens: the rates and random numbers that the preprocessor uses, and KerasHub's layer that masks ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyroberta.formats.budget import described
from pyroberta.model.attributes import LAYER, Checked, Checks, Reasons, in_message, whole_number, whole_number_or_none
from pyroberta.model.batch import Batch, pack, pad
from pyroberta.model.guard import fork_safe_lock
from pyroberta.model.serialization import check_layer_name, object_name, refuse_layer_arguments, without_defaults
from pyroberta.text.masking import DRAWS, corrupt, select

_COUNTING = fork_safe_lock()  # outside of the object, which may be pickled
Self = TypeVar("Self", bound="MaskedLMMaskGenerator")
Ids = NDArray[np.int32]
INT32 = np.iinfo(np.int32).max  # the largest id, and the largest position


def share(name: str, value: Any) -> float:
    """Checks a number from 0 to 1, and returns it as a float."""
    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number from 0 to 1, got {described(value)}")
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be from 0 to 1, got {in_message(value)}")
    return float(value)


class Masker(Checked):
    """The base class of objects that mask tokens. It has the rates of `MaskedLMPreprocessor`, and a random generator
    for each call.
    """

    mask_selection_rate: float
    mask_token_rate: float
    random_token_rate: float
    seed: int
    checks: ClassVar[Checks] = {
        "mask_selection_rate": share,
        "mask_token_rate": share,
        "random_token_rate": share,
        "seed": lambda name, value: whole_number(name, value, at_least=0),
    }

    _calls = 0

    def _checked(self, name: str, value: Any) -> Any:
        value = super()._checked(name, value)
        if name in ("mask_token_rate", "random_token_rate"):
            shares = {"mask_token_rate": 0.0, "random_token_rate": 0.0, **vars(self), name: value}
            if shares["mask_token_rate"] + shares["random_token_rate"] > 1.0 + 1e-9:
                raise ValueError(
                    f"mask_token_rate {shares['mask_token_rate']} and random_token_rate "
                    f"{shares['random_token_rate']} are shares of the selected tokens and cannot sum to more than 1"
                )
        return value

    def _generator(self) -> np.random.Generator:
        """The generator of the next call, which follows from the seed and the number of calls before."""
        with _COUNTING:  # threads may share a preprocessor, and no two calls a number
            number, self._calls = self._calls, self._calls + 1
        return np.random.default_rng([self.seed, number])

    def _mask(
        self,
        batch: Batch,
        draws: NDArray[np.float64],
        rows: NDArray[np.integer[Any]],
        words: NDArray[np.integer[Any]],
        mask_id: int,
        ordinary: NDArray[np.integer[Any]],
        limit: int,
        count: str = "exact",
    ) -> Batch:
        """The packed batch with tokens masked.

        Args:
            batch: its ids and starts are read.
            draws: (N, 3) uniform in [0, 1), for each token; see `masking.token_draws`.
            rows: (n,) the rows of the tokens that may be selected, ascending.
            words: (n,) the word of each; see `masking.select`.
            mask_id: of the mask.
            ordinary: the ids that a random token is drawn from.
            limit: K, the most tokens of a sequence.
            count: see `masking.select`.
        """
        owners = np.repeat(np.arange(len(batch)), np.diff(batch.starts))[rows]
        chosen, treated, replaced = draws.T
        is_selected = select(owners, words, self.mask_selection_rate, limit, chosen[rows], count=count)
        is_selected &= self.mask_selection_rate > 0.0

        masked = rows[is_selected].astype(np.int32)
        labels, ids = batch.ids[masked], batch.ids.copy()
        ids[masked] = corrupt(
            labels,
            mask_id,
            ordinary,
            self.mask_token_rate,
            self.random_token_rate,
            treated[masked],
            replaced[masked],
        )
        return replace(
            batch, ids=ids, target_rows=masked, labels=labels, weights=np.ones(len(masked)), slots=len(batch) * limit
        )


def _ids(name: str, value: Any) -> list[int]:
    values = np.asarray(value).tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(values, list | tuple | set):
        raise TypeError(f"{name} must be a list of ids, got {described(value)}")
    return [whole_number(name, one, at_least=0) for one in values]


class MaskedLMMaskGenerator(Masker):
    """KerasHub's layer that masks ids. It follows the rules of `MaskedLMPreprocessor`, which masks texts.

    In a sequence of n tokens that may be selected, it selects ceil(rate·n) tokens, at least 1 and at most
    `mask_selection_length`. Each call draws new masks.

    Args:
        vocabulary_size: V. Ids are in [0, V), and a random token is any of them.
        mask_selection_rate: the share of the tokens that are selected for prediction, in [0, 1]. 0 masks nothing.
        mask_token_id: the id that replaces a masked token.
        mask_selection_length: K, the largest number of selected tokens of one sequence. None for no limit.
        unselectable_token_ids: the ids that are never selected and do not count.
        mask_token_rate, random_token_rate: see `MaskedLMPreprocessor`.
        seed: the seed of the masks.
        name, **layer_arguments: see `Preprocessor`.

    Raises:
        TypeError, ValueError: if an argument is out of range. The message names it.

    >>> masker = MaskedLMMaskGenerator(10, 0.5, mask_token_id=4, mask_selection_length=3, unselectable_token_ids=[0, 2])
    >>> masked = masker([[0, 5, 6, 7, 2], [0, 8, 2]])
    >>> masked["mask_weights"].tolist()
    [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    >>> masked["mask_positions"][1, 0], masked["mask_ids"][1, 0]
    (np.int32(1), np.int32(8))
    """

    checks: ClassVar[Checks] = {
        "vocabulary_size": lambda name, value: whole_number(name, value, at_most=INT32),
        "mask_token_id": lambda name, value: whole_number(name, value, at_least=0),
        "mask_selection_length": lambda name, value: whole_number_or_none(name, value, 0, INT32),
        "unselectable_token_ids": _ids,
        "name": check_layer_name,
    }
    unsettable: ClassVar[Reasons] = LAYER

    def __init__(
        self,
        vocabulary_size: int,
        mask_selection_rate: float,
        mask_token_id: int,
        mask_selection_length: int | None = None,
        unselectable_token_ids: Sequence[int] = (0,),
        mask_token_rate: float = 0.8,
        random_token_rate: float = 0.1,
        *,
        seed: int = 0,
        name: str | None = None,
        **layer_arguments: Any,
    ) -> None:
        refuse_layer_arguments(type(self), layer_arguments, dtype="float32")
        self.name = object_name(name, type(self))
        self.vocabulary_size = vocabulary_size
        self.mask_selection_rate = mask_selection_rate
        self.mask_token_id = mask_token_id
        self.mask_selection_length = mask_selection_length
        self.unselectable_token_ids = unselectable_token_ids
        self.mask_token_rate = mask_token_rate
        self.random_token_rate = random_token_rate
        self.seed = seed

    def _checked(self, name: str, value: Any) -> Any:
        value = super()._checked(name, value)
        if name in ("vocabulary_size", "mask_token_id"):
            both = {"vocabulary_size": value, "mask_token_id": 0, **vars(self), name: value}
            if both["mask_token_id"] >= both["vocabulary_size"]:
                raise ValueError(
                    f"mask_token_id must be one of the vocabulary's {both['vocabulary_size']} ids, which count from 0; "
                    f"got {both['mask_token_id']}"
                )
        return value

    def __call__(self, inputs: Any) -> dict[str, Any]:
        """Masks ids.

        Args:
            inputs: (S,) ids, or a batch (B, S) of them, as an array or lists, which may differ in length.

        Returns:
            token_ids: as the inputs, int32, with some of them replaced.
            mask_positions: (B, K) int32, where tokens were selected; 0 in a slot that is not used.
            mask_ids: (B, K) int32, the ids that were there; 0 in a slot that is not used.
            mask_weights: (B, K) float32, 1, and 0 in a slot that is not used.
            A batch of sequences that differ in length has lists of lists as `token_ids`; so have the other three where
            `mask_selection_length` is None and the numbers of masked tokens differ. A single sequence has no axis B.

        Raises:
            TypeError, ValueError: for anything but ids in [0, V), naming the place.
        """
        if hasattr(inputs, "__array__"):  # NumPy's, torch's, a column of pandas
            inputs = _array(inputs, "the input")
        if isinstance(inputs, np.ndarray) and inputs.ndim and inputs.dtype == object:
            inputs = list(inputs)  # rows that differ in length
        is_array = isinstance(inputs, np.ndarray) and inputs.ndim > 0
        if not is_array and (not isinstance(inputs, Sequence) or isinstance(inputs, str | bytes)):
            raise TypeError(f"the input must be ids, or a batch of them; got {described(inputs)}")
        is_single = inputs.ndim == 1 if is_array else len(inputs) == 0 or np.ndim(inputs[0]) == 0
        rows_of_ids = [inputs] if is_single else inputs
        sequences = [self._read(row, "input" if is_single else f"input {i}") for i, row in enumerate(rows_of_ids)]
        batch = pack(sequences)
        rows = np.flatnonzero(~np.isin(batch.ids, self.unselectable_token_ids))
        longest = max(map(len, sequences)) if sequences else inputs.shape[1]  # an array (0, S)
        K = longest if self.mask_selection_length is None else self.mask_selection_length
        draws = self._generator().random((batch.num_tokens, DRAWS))
        ordinary = np.arange(self.vocabulary_size)
        padded = pad(
            self._mask(batch, draws, rows, np.arange(len(rows)), self.mask_token_id, ordinary, K), longest, K, 0
        )
        used = np.full(len(batch), K)
        if self.mask_selection_length is None:
            used = padded.weights.sum(axis=1).astype(int)
        found = {
            "token_ids": _cut(padded.token_ids, np.diff(batch.starts)),
            "mask_positions": _cut(padded.mask_positions, used),
            "mask_ids": _cut(padded.labels, used),
            "mask_weights": _cut(padded.weights, used),
        }
        return {name: value[0] for name, value in found.items()} if is_single else found

    def _read(self, row: Any, place: str) -> Ids:
        """The ids of a sequence, checked."""
        values = _array(row, place)
        values = values.astype(int) if values.shape == (0,) else values
        if values.ndim != 1 or values.dtype.kind not in "iu":
            found = described(row)
            if isinstance(row, np.ndarray):
                found = f"an array of {values.dtype} {values.shape}"
            raise TypeError(f"{place} must be a sequence of ids, whole numbers; got {found}")
        outside = values[(values < 0) | (values >= self.vocabulary_size)]
        if len(outside):
            raise ValueError(f"{place} has the id {outside[0]}, and vocabulary_size is {self.vocabulary_size}")
        return values.astype(np.int32)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments in JSON's types. The default `seed` is left out, so that KerasHub's layer takes the
        config too.
        """
        names = ("vocabulary_size", "mask_selection_rate", "mask_selection_length", "unselectable_token_ids")
        more = ("mask_token_id", "mask_token_rate", "random_token_rate", "seed")
        config = {"name": self.name, **{name: getattr(self, name) for name in (*names, *more)}}
        return without_defaults(type(self), config, ["seed"])

    @classmethod
    def from_config(cls: type[Self], config: Mapping[str, Any]) -> Self:
        """Returns the layer of a config of `get_config`, or of KerasHub's layer.

        Raises:
            TypeError, ValueError: see the class.
        """
        return cls(**config)


def _array(values: Any, place: str) -> NDArray[Any]:
    """The values as an array; lists that differ in length as one without axes."""
    try:
        return np.asarray(values)
    except ValueError:  # lists of different lengths
        return np.zeros(())
    except (RuntimeError, TypeError) as error:  # a tensor of torch that has a gradient, or is not in main memory
        raise TypeError(f"{place} must be a sequence of ids, whole numbers; got {described(values)}: {error}") from None


def _cut(padded: NDArray[Any], lengths: NDArray[np.integer[Any]]) -> NDArray[Any] | list[list[Any]]:
    """Rows without their padding: an array where they are of one length, else lists."""
    if not len(lengths):
        return padded
    if (lengths == lengths[0]).all():
        return padded[:, : lengths[0]]
    return [row[:length].tolist() for row, length in zip(padded, lengths, strict=True)]
