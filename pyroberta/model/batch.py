"""The packed batch, and its conversion from and to the padded arrays of Keras. A packed batch has its sequences end to
end, without padding and without a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Batch:
    """The model's input: B sequences of N tokens in all, with M rows at which the head predicts.

    Attributes:
        ids: (N,) int32, the tokens of all sequences, one sequence after the other.
        positions: (N,) int32, 0, 1, 2 … within each sequence.
        starts: (B+1,) int32; sequence b is `[starts[b] : starts[b+1]]`; `starts[0] == 0`, `starts[B] == N`.
        numbers: (B,) int64, the number of each sequence among all sequences of the update. An update may have several
            batches. Dropout masks follow from these numbers, so they do not depend on how an update is cut into
            batches.
        target_rows: (M,) int32, the rows at which the head predicts: the selected tokens of a masked LM, or each text's
            `<s>` of a text classifier.
        labels: (M,) int32, the right answers at the target rows: the original ids, or the classes.
        weights: (M,) float64, the weight of each target row in the loss.
        slots: B·K, the number of mask slots in padded arrays. It is the denominator of Keras's default reduction.
    """

    ids: Ints
    positions: Ints
    starts: Ints
    numbers: Ints
    target_rows: Ints = field(default_factory=lambda: np.zeros(0, np.int32))
    labels: Ints = field(default_factory=lambda: np.zeros(0, np.int32))
    weights: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0, np.float64))
    slots: int = 0

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def num_tokens(self) -> int:
        """N, the number of tokens."""
        return len(self.ids)


def pack(sequences: Sequence[Ints]) -> Batch:
    """Lays sequences of ids end to end. A sequence may be empty.

    >>> batch = pack([np.array([0, 5, 2]), np.array([0, 2])])
    >>> batch.ids.tolist(), batch.positions.tolist(), batch.starts.tolist()
    ([0, 5, 2, 0, 2], [0, 1, 2, 0, 1], [0, 3, 5])
    """
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    return _end_to_end(np.concatenate([np.zeros(0, np.int32), *sequences]), lengths)


def _end_to_end(ids: Ints, lengths: Ints) -> Batch:
    """ids (N,), lengths (B,) with the sum N."""
    starts = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=starts[1:])
    positions = np.arange(len(ids)) - np.repeat(starts[:-1], lengths)
    return Batch(
        ids=ids.astype(np.int32, copy=False),
        positions=positions.astype(np.int32),
        starts=starts,
        numbers=np.arange(len(lengths)),
    )


def take(batch: Batch, sequences: Ints) -> Batch:
    """Returns the batch of the given sequences, in the given order, with their target rows. The sequences are numbered
    from 0 again.

    Args:
        batch: B sequences.
        sequences: (b,) the indices of the sequences in [0, B). An index may occur more than once.

    >>> batch = pack([np.array([0, 5, 2]), np.array([0, 2])])
    >>> take(batch, np.array([1, 0])).ids.tolist()
    [0, 2, 0, 5, 2]
    """
    rows = _ranges(batch.starts, sequences)
    bounds = np.searchsorted(batch.target_rows, batch.starts)  # sequence b's are [bounds[b] : bounds[b+1]]
    slots = _ranges(bounds, sequences)
    lengths = np.diff(batch.starts)[sequences]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    moved = np.repeat(starts[:-1] - batch.starts[sequences], np.diff(bounds)[sequences])
    return Batch(
        ids=batch.ids[rows],
        positions=batch.positions[rows],
        starts=starts,
        numbers=np.arange(len(sequences)),
        target_rows=(batch.target_rows[slots] + moved).astype(np.int32, copy=False),
        labels=batch.labels[slots],
        weights=batch.weights[slots],
        slots=batch.slots // max(len(batch), 1) * len(sequences),
    )


def _ranges(starts: Ints, which: Ints) -> Ints:
    """The numbers of the ranges [starts[i] : starts[i+1]] for i in `which`, one range after the other."""
    lengths = np.diff(starts)[which]
    stops = np.cumsum(lengths)
    ranges: Ints = np.arange(stops[-1] if len(stops) else 0) + np.repeat(
        starts[:-1][which] - (stops - lengths), lengths
    )
    return ranges


class Padded(NamedTuple):
    """One batch in the padded arrays of Keras: B sequences, S columns, K mask slots.

    Attributes:
        token_ids: (B, S) int32.
        padding_mask: (B, S) bool, True where there is a token.
        mask_positions: (B, K) int32, columns of `token_ids`; 0 in a slot that is not used.
        labels: (B, K) int32, the original ids; 0 in a slot that is not used.
        weights: (B, K) float32; 0 in a slot that is not used.
    """

    token_ids: Ints
    padding_mask: NDArray[np.bool_]
    mask_positions: Ints
    labels: Ints
    weights: NDArray[np.float32]


def pad(batch: Batch, sequence_length: int, mask_slots: int, pad_id: int) -> Padded:
    """Makes padded arrays of a packed batch. Padding is on the right.

    S is `sequence_length`, K is `mask_slots`.

    Raises:
        ValueError: if a sequence is longer than S or has more than K masked tokens.

    >>> packed = pack([np.array([0, 4, 2]), np.array([0, 2])])
    >>> pad(packed, sequence_length=4, mask_slots=2, pad_id=1).token_ids.tolist()
    [[0, 4, 2, 1], [0, 2, 1, 1]]
    """
    lengths = np.diff(batch.starts)
    padding_mask = np.arange(sequence_length) < lengths[:, None]  # (B, S)
    _check_most("tokens", lengths, sequence_length, "sequence_length")
    token_ids = np.full(padding_mask.shape, pad_id, np.int32)
    token_ids[padding_mask] = batch.ids

    # Among empty sequences, which start on the same row, the last one owns it: it is the one with tokens.
    owners = np.searchsorted(batch.starts, batch.target_rows, side="right") - 1  # (M,)
    used = np.bincount(owners, minlength=len(batch))
    _check_most("masked tokens", used, mask_slots, "mask_slots")
    is_used = np.arange(mask_slots) < used[:, None]  # (B, K)
    order = np.argsort(owners, kind="stable")

    def slots(values: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
        filled = np.zeros(is_used.shape, dtype)
        filled[is_used] = values[order]
        return filled

    columns = batch.target_rows - batch.starts[owners]
    return Padded(
        token_ids=token_ids,
        padding_mask=padding_mask,
        mask_positions=slots(columns, np.int32),
        labels=slots(batch.labels, np.int32),
        weights=slots(batch.weights, np.float32),
    )


def pack_padded(
    token_ids: ArrayLike,
    padding_mask: ArrayLike,
    mask_positions: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    *,
    vocabulary_size: int,
    max_sequence_length: int,
) -> Batch:
    """Checks padded arrays and makes a packed batch of them.

    Padding may stand on the left, on the right or in between. A token's position is the number of tokens before it, as
    in HF. (Keras counts padding too, so its outputs change with padding on the left.) The values at padding are never
    read. A row that is all padding is a sequence of length 0.

    Args:
        token_ids: (B, S) whole numbers in [0, `vocabulary_size`).
        padding_mask: (B, S), 1 or True where there is a token, 0 or False where there is padding.
        mask_positions: (B, K) whole numbers, the columns of `token_ids` that are predicted.
        labels: (B, K) whole numbers, the original ids. Without labels, every slot that points at a token becomes a
            target row (`slot_rows` returns which row), and the batch has neither labels nor weights.
        weights: (B, K), or one per sequence, (B,) or (B, 1), or one number for all; each is at least 0. None means 1
            everywhere. Slots of weight 0 are dropped, and their values are not checked.
        vocabulary_size: V of the model.
        max_sequence_length: T of the model.

    Raises:
        ValueError: if a value is malformed, out of range, or points at padding. The message names the argument and the
            place of the value.

    >>> batch = pack_padded(
    ...     [[0, 7, 4, 2], [0, 4, 2, 1]], [[1, 1, 1, 1], [1, 1, 1, 0]], [[2, 0], [1, 0]], [[8, 0], [9, 0]],
    ...     [[1, 0], [1, 0]], vocabulary_size=10, max_sequence_length=4,
    ... )
    >>> batch.ids.tolist(), batch.target_rows.tolist(), batch.labels.tolist(), batch.slots
    ([0, 7, 4, 2, 0, 4, 2], [2, 5], [8, 9], 4)
    """
    tokens = _whole_numbers("token_ids", "(batch, sequence)", token_ids)
    is_token = _facts("padding_mask", padding_mask)
    _check_shape("padding_mask", is_token.shape, "token_ids", tokens.shape)
    _check_ids("token id", "position", tokens, is_token, vocabulary_size)
    lengths = is_token.sum(axis=1)
    _check_most("tokens", lengths, max_sequence_length, "the model's max_sequence_length")
    packed = _end_to_end(tokens[is_token], lengths)

    if mask_positions is None:
        if labels is not None or weights is not None:
            raise ValueError(
                "labels and weights belong to mask slots, but mask_positions is None: pass mask_positions too"
            )
        return packed
    if labels is None:
        if weights is not None:
            raise ValueError("weights are given without labels: pass the original ids of the masked tokens as labels")
        rows = slot_rows(mask_positions, is_token)
        return replace(packed, target_rows=rows[rows >= 0], slots=rows.size)

    slots = _whole_numbers("mask_positions", "(batch, mask slots)", mask_positions)
    originals = _whole_numbers("labels", "(batch, mask slots)", labels)
    _check_shape("labels", originals.shape, "mask_positions", slots.shape)
    slot_weights = _weights(weights, slots.shape)
    is_used = slot_weights > 0.0  # (B, K)
    rows = slot_rows(np.where(is_used, slots, 0), is_token)
    for b, k in np.argwhere(is_used & (rows < 0))[:1]:  # the first offender, if any, is named
        raise ValueError(
            f"mask_positions[{b}, {k}] is {slots[b, k]}, which is padding, but the slot has the weight "
            f"{slot_weights[b, k]:g}. Give unused slots the weight 0"
        )
    _check_ids("label", "mask slot", originals, is_used, vocabulary_size)
    return replace(
        packed,
        target_rows=rows[is_used],
        labels=originals[is_used].astype(np.int32),
        weights=slot_weights[is_used],
        slots=slots.size,
    )


def slot_rows(mask_positions: ArrayLike, padding_mask: ArrayLike) -> Ints:
    """Returns the row of the packed batch at which each mask slot points: (B, K) int32, -1 for a slot that points at
    padding.

    Raises:
        ValueError: if a position is outside its sequence.

    >>> slot_rows([[2, 0], [0, 2]], [[1, 1, 1], [1, 1, 0]]).tolist()
    [[2, 0], [3, -1]]
    """
    is_token = _facts("padding_mask", padding_mask)
    slots = _whole_numbers("mask_positions", "(batch, mask slots)", mask_positions)
    B, S = is_token.shape
    if len(slots) != B:
        raise ValueError(f"mask_positions has {len(slots)} rows, but there are {B} sequences")
    for b, k in np.argwhere((slots < 0) | (slots >= S))[:1]:
        raise ValueError(
            f"mask_positions[{b}, {k}] is {slots[b, k]}, outside the {S} columns of token_ids. Give unused slots the "
            "position 0 and the weight 0"
        )
    rows = np.cumsum(is_token).reshape(B, S) - 1  # of every token; what it says of padding is not used
    rows[~is_token] = -1
    return np.take_along_axis(rows, slots.astype(np.int64), axis=1).astype(np.int32)


def unpack(rows: NDArray[Any], is_filled: ArrayLike) -> NDArray[Any]:
    """Puts packed rows into a padded array. rows (N, C), is_filled (B, S) -> (B, S, C).

    `is_filled` has N true entries, one for each row in order. All other places of the result are 0.

    For hidden states, `is_filled` is the padding mask. For the logits of mask slots, it is `slot_rows(...) >= 0`.

    Raises:
        ValueError: if the number of true entries of `is_filled` is not N.

    >>> unpack(np.array([[1.0], [2.0], [3.0]]), [[0, 1, 1], [1, 0, 0]])[..., 0].tolist()
    [[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]]
    """
    places = _facts("is_filled", is_filled)
    if places.sum() != len(rows):
        raise ValueError(f"rows has {len(rows)} rows, but is_filled has {places.sum()} true entries")
    padded = np.zeros((*places.shape, *rows.shape[1:]), rows.dtype)
    padded[places] = rows
    return padded


def _rectangle(name: str, axes: str, values: ArrayLike) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"the rows of {name} differ in length: pad them to one length, {axes}") from None
    if array.ndim != 2:
        hint = ". Pass one sequence as a batch of one, [sequence]" if array.ndim == 1 else ""
        raise ValueError(f"{name} must have the shape {axes}, got {array.shape}{hint}")
    return array


def _whole_numbers(name: str, axes: str, values: ArrayLike) -> Ints:
    array = _rectangle(name, axes, values)
    if array.dtype.kind not in "iu" and array.size:
        raise ValueError(f"{name} must be whole numbers, got {array.dtype}. Convert them with .astype(np.int32)")
    return array.astype(np.int64, copy=False)


def _facts(name: str, values: ArrayLike) -> NDArray[np.bool_]:
    array = _rectangle(name, "(batch, sequence)", values)
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} must be 1 or True where there is a token, else 0 or False; got {_odd(array)}")
    return array.astype(bool, copy=False)


def _odd(array: NDArray[Any]) -> str:
    """What is neither 0 nor 1 in it, for the error message."""
    if array.dtype.kind not in "biuf":
        return str(array.dtype)
    return f"the value {array[~np.isin(array, (0, 1))][0]}"


def _weights(weights: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.float64]:
    if weights is None:
        return np.ones(shape)
    array = real_numbers("weights", weights, f"of the shape {shape}, one per sequence, or one for all")
    if array.shape in ((), shape[:1]):
        array = array.reshape(-1, 1)
    if array.shape not in (shape, (shape[0], 1), (1, 1)):
        raise ValueError(f"weights have the shape {array.shape}, but there are mask slots of {shape}")
    is_good = np.isfinite(array) & (array >= 0.0)
    if not is_good.all():
        raise ValueError(f"weights must be finite and at least 0, got {array[~is_good][0]:g}")
    return np.broadcast_to(array, shape)


def real_numbers(name: str, values: ArrayLike, shape: str) -> NDArray[np.float64]:
    """Returns the values as float64.

    `shape` is the expected shape in words, for the message.

    Raises:
        ValueError: if the values are not real numbers. Texts and time spans are refused, though NumPy can convert them.

    >>> real_numbers("weights", ["1.5"], "of the shape (1,)")
    Traceback (most recent call last):
    ValueError: weights must be numbers of the shape (1,); got '1.5' (<U3)
    """
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must be numbers {shape}; its rows differ in length") from None
    is_text = array.dtype.kind == "O" and any(isinstance(one, str | bytes) for one in array.flat)
    is_odd = is_text or array.dtype.kind in "SUTmMc"
    if not is_odd:
        try:
            with np.errstate(over="raise"):  # of a longdouble
                return array.astype(np.float64, copy=False)
        except (TypeError, ValueError):
            pass
        except (OverflowError, FloatingPointError):
            raise ValueError(f"{name} must be numbers {shape}, each in the range of float64") from None
    got = f"{array.flat[0]!s:.40}" if array.size else "none"
    raise ValueError(f"{name} must be numbers {shape}; got {got!r} ({array.dtype})")


def _check_shape(name: str, shape: tuple[int, ...], other: str, expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise ValueError(
            f"{name} has the shape {shape}, but {other} has {expected}. Each entry of one belongs to the entry at the "
            "same place of the other"
        )


def _check_ids(kind: str, column: str, ids: Ints, is_read: NDArray[np.bool_], vocabulary_size: int) -> None:
    """Checks that all ids (B, K) where is_read (B, K) is true are rows of the token embedding."""
    for b, k in np.argwhere(is_read & ((ids < 0) | (ids >= vocabulary_size)))[:1]:
        raise ValueError(
            f"{kind} {ids[b, k]} is outside the vocabulary of {vocabulary_size} (sequence {b}, {column} {k}). "
            "Was the text encoded with another tokenizer?"
        )


def _check_most(unit: str, counts: Ints, limit: int, name: str) -> None:
    """Checks that no count of `counts` (B,) is above `limit`."""
    for b in np.flatnonzero(counts > limit)[:1]:
        raise ValueError(f"sequence {b} has {counts[b]} {unit}, more than {name}, {limit}. Truncate it")
