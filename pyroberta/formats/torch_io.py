"""torch's files: pickled containers with tensors in them. They are read without running any code of theirs.

`torch.load` passes a file to Python's unpickler, which calls any function that the file names. This module has its own
interpreter for the same instructions. It makes plain containers and numbers. For the few functions with which torch
rebuilds a tensor, it calls its own functions instead. Nothing is imported, and nothing is called by its name. Any other
name is refused, and the error names it.

A file has one of two layouts:

    since torch 1.6   a zip with <root>/data.pkl, and the numbers of tensors in <root>/data/<key>
    before            pickles one after the other (a magic number, a protocol, facts about the machine, the object, the
                      keys of the numbers), then for each key its numbers, after their count

Source: torch/serialization.py of torch 2.13. Python's pickletools documents each instruction.
"""

from __future__ import annotations

import io
import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pyroberta.formats.budget import Budget, OverBudget, clipped, shown, type_of
from pyroberta.formats.stored import NUMPY_TYPES, FileBytes, Stored, Stream, open_bytes
from pyroberta.formats.zips import DAMAGE, Source, cut, entries_of, entry, is_zip

MAGIC = 0x1950A86A20F9469CFC6C  # the older kind begins with it
STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
LARGEST_PICKLE = 10_000_000  # bytes, without the numbers of tensors; roberta-large's has 60,000
MOST_STEPS = 500_000  # an instruction is one, and so is each argument of a call; roberta-large's file takes 25,000
MOST_AXES = 8
MOST_BITS = 128  # of a number; MAGIC has 77
LARGEST_MEMO = 1 << 32
LONGEST_NAME = 200  # of what would be called, and of the key of a tensor's numbers
PERSISTENT = (5, 6)  # parts of the name of a tensor's numbers
KEYS = (str, bytes, int, float, bool, type(None))  # what may be a key: nothing whose hash takes long
# Numbers can be chosen so that all their hashes are the same, and each is then compared with all before it.
STEPS_PER_NUMBER = 50
LETTERS_PER_STEP = 16  # of a key, since equal ones are compared letter by letter


def read_state_dict(file: Path) -> dict[str, Stored]:
    """Returns the tensors of a file that holds only tensors, such as the state of a model.

    Raises:
        ValueError: see `read`; also if the file holds anything else.
    """
    state = read(file)
    if not isinstance(state, dict):
        raise ValueError(f"{file} should hold a dict of tensors, it holds {type_of(state)}")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Stored):
            raise ValueError(f"{file} should hold only tensors, but {shown(name)} is {type_of(tensor)}")
    return state


def read(file: Path) -> Any:
    """Returns the saved object: dicts, lists, tuples, numbers and strings, with a `Stored` for each tensor.

    The numbers of a tensor are read when they are needed; then they are decompressed and put in order. An
    `argparse.Namespace` becomes a dict.

    Raises:
        ValueError: if the file is damaged, is not a file of torch, or names anything but tensors and plain containers.
            The message has the name.
        OverBudget: if reading the file would take too much memory or time.
    """
    file_bytes = open_bytes(file)
    budget = Budget(file, file_bytes.size, steps=MOST_STEPS)
    try:
        return (_read_zip if is_zip(file_bytes) else _read_older)(file, file_bytes, budget)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is damaged: it has a name that is not UTF-8 ({error.reason})") from None
    except DAMAGE as error:
        raise ValueError(f"{file} is damaged: {clipped(str(error)) or type(error).__name__}") from None


# --- the two kinds ---------------------------------------------------------------------------------------------------


def _read_zip(file: Path, file_bytes: FileBytes, budget: Budget) -> Any:
    entries = {info.filename: info for info in entries_of(file_bytes, budget)}
    pickles = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(
            f"{file} is a zip, but not a file of torch: it has {len(pickles)} entries named data.pkl instead of one"
        )
    root = pickles[0].removesuffix("data.pkl")

    def content(name: str, most: int) -> NDArray[np.uint8]:
        if entries[name].file_size > most:
            raise ValueError(
                f"{file}: {clipped(name)} has {entries[name].file_size} bytes, but at most {most} are allowed"
            )
        found = entry(file, file_bytes, entries[name], budget)
        return found() if callable(found) else found.read()

    order = f"{root}byteorder"
    if order in entries and content(order, 16).tobytes() != b"little":
        raise ValueError(f"{file} was written on a machine with the other byte order, which can't be read")

    def numbers(storage: Storage) -> Source:
        name, size = f"{root}data/{storage.key}", storage.nbytes
        if name not in entries:
            raise ValueError(f"{file} is damaged: it lacks {clipped(name)}, the numbers of a tensor")
        if entries[name].file_size != size:
            raise ValueError(
                f"{file} is damaged: {clipped(name)} has {entries[name].file_size} bytes, but its tensors take {size}"
            )
        return entry(file, file_bytes, entries[name], budget)

    value = _Machine(io.BytesIO(content(pickles[0], LARGEST_PICKLE).tobytes()), file, budget).run()
    return _with_tensors(value, file, numbers, budget)


def _read_older(file: Path, file_bytes: FileBytes, budget: Budget) -> Any:
    with io.BufferedReader(Stream(file_bytes)) as opened:
        if opened.read(2) not in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise ValueError(f"{file} is not a file of torch: it is neither a zip nor a pickle")
        opened.seek(0)
        stream = _Limited(opened, LARGEST_PICKLE, file)
        found = [_Machine(stream, file, budget).run()]
        if found[0] != MAGIC:
            raise ValueError(f"{file} is a pickle, but not a file of torch, which begins with torch's magic number")
        found += [_Machine(stream, file, budget).run() for _ in range(4)]
        start = opened.tell()
    _, _, system, value, keys = found
    if not isinstance(system, dict) or not system.get("little_endian", True):
        raise ValueError(f"{file} was written on a machine with the other byte order, which can't be read")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError(f"{file} is damaged: the keys of its tensors should be a list of texts, got {shown(keys)}")
    storages = {storage.key: storage for storage in _storages(value)}
    places: dict[str, FileBytes] = {}
    for key in keys:
        count = int.from_bytes(cut(file_bytes, start, 8, file).read().tobytes(), "little")
        if key not in storages:
            raise ValueError(f"{file} is damaged: it has numbers for a tensor {shown(key)} that does not exist")
        if count != storages[key].numel:
            raise ValueError(f"{file} is damaged: it has {count} numbers for a tensor of {storages[key].numel}")
        places[key] = cut(file_bytes, start + 8, storages[key].nbytes, file)
        start += 8 + storages[key].nbytes

    def numbers(storage: Storage) -> FileBytes:
        if storage.key not in places:
            raise ValueError(f"{file} is damaged: it lacks the numbers of the tensor {shown(storage.key)}")
        return places[storage.key]

    return _with_tensors(value, file, numbers, budget)


class _Limited:
    """A file of which no more than `most` bytes are read."""

    def __init__(self, file: BinaryIO, most: int, name: Path) -> None:
        self.file, self.left, self.most, self.name = file, most, most, name

    def read(self, size: int) -> bytes:
        if size > self.left:
            raise OverBudget(
                f"{self.name}: its content other than the numbers of tensors needs {size} bytes, but only {self.left} "
                f"of the {self.most} allowed are left"
            )
        self.left -= size
        return self.file.read(size)

    def readline(self) -> bytes:
        line = self.file.readline(self.left)
        self.left -= len(line)
        return line

    def tell(self) -> int:
        return self.file.tell()


# --- tensors ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Storage:
    """The numbers of which tensors are views."""

    dtype: str
    key: str
    numel: int

    @property
    def nbytes(self) -> int:
        """The size of the numbers in bytes."""
        return self.numel * np.dtype(NUMPY_TYPES[self.dtype]).itemsize


@dataclass(frozen=True)
class Tensor:
    """A view of a storage. Offset and strides count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, numbers: Source, name: str, budget: Budget) -> Source:
        """Returns the bytes of the tensor, row after row: those of `numbers` if they have this order, else a function
        that makes them.

        Raises:
            ValueError: if the tensor reaches beyond the numbers.
        """
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if 0 in self.shape:
            return lambda: np.zeros(0, np.uint8)
        if last >= self.storage.numel:
            raise ValueError(f"a tensor reaches to number {last} of {self.storage.numel}")
        item = np.dtype(NUMPY_TYPES[self.storage.dtype])
        start, stop = self.offset * item.itemsize, (last + 1) * item.itemsize
        steps = tuple(step * item.itemsize if n > 1 else 0 for n, step in zip(self.shape, self.strides, strict=True))
        if not callable(numbers) and self._lies_in_order():
            return numbers[start:stop]

        def made() -> NDArray[np.uint8]:
            found = (numbers()[start:stop] if callable(numbers) else numbers[start:stop].read()).view(item)
            view = np.lib.stride_tricks.as_strided(found, self.shape, steps, writeable=False)
            if not view.flags.c_contiguous:
                budget.make(f"tensor {name}, a view of {self.shape}", view.nbytes)
            return np.ascontiguousarray(view).reshape(-1).view(np.uint8)

        return lru_cache(maxsize=1)(made)

    def _lies_in_order(self) -> bool:
        """Whether its numbers lie side by side, row after row."""
        expected = 1
        for n, step in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if n > 1 and step != expected:
                return False
            expected *= n
        return True


def _parts(value: Any) -> list[Any]:
    """All that lies in containers, each object once: a pickle may hold a list in itself, or a million times over."""
    found, seen, left = [], set(), [value]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        found.append(one)
        if isinstance(one, dict):
            left += [*one.values()]
        elif isinstance(one, (list, tuple)):
            left += one
    return found


def _storages(value: Any) -> list[Storage]:
    return [one.storage for one in _parts(value) if isinstance(one, Tensor)]


def _with_tensors(value: Any, file: Path, numbers: Callable[[Storage], Source], budget: Budget) -> Any:
    """The value with a `Stored` in the place of each tensor that lies in a dict, named by its key."""
    numbers = lru_cache(maxsize=None)(numbers)
    for one in _parts(value):
        for key, tensor in one.items() if isinstance(one, dict) else ():
            if isinstance(tensor, Tensor):
                found = numbers(tensor.storage)
                try:
                    data = tensor.of(found, shown(key), budget)
                except ValueError as error:
                    raise ValueError(f"{file} is damaged: {shown(key)}: {error}") from None
                one[key] = Stored(str(key), tensor.storage.dtype, tensor.shape, data, file)
    return value


# --- the machine -----------------------------------------------------------------------------------------------------


class _Refused(ValueError):
    """The pickle wants more than tensors and containers."""


@dataclass(frozen=True)
class Global:
    """A name of a function or a class in the file, which is not imported."""

    name: str


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
        raise ValueError(f"no tensor: {shown((storage, offset, shape, strides))}")
    if len(shape) != len(strides) or len(shape) > MOST_AXES or math.prod(shape) > storage.numel:
        raise ValueError(f"no tensor: shape {shown(shape)}, strides {shown(strides)} of {storage.numel} numbers")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


class _Namespace(dict[str, Any]):
    """What stands for an `argparse.Namespace`: its attributes."""


# The names that may be called, and what is done for them.
CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "collections.OrderedDict": lambda pairs=(): dict(pairs),
    "torch.Size": lambda sizes=(): _sizes(sizes),
    "argparse.Namespace": lambda *_: _Namespace(),
    "copy_reg._reconstructor": lambda kind, *_: _called(kind)(),
    "copyreg._reconstructor": lambda kind, *_: _called(kind)(),
}


def _sizes(sizes: Any) -> tuple[int, ...]:
    if not isinstance(sizes, (tuple, list)) or len(sizes) > MOST_AXES:
        raise ValueError(f"no sizes: {shown(sizes)}")
    return tuple(sizes)


def _called(kind: Any) -> Callable[..., Any]:
    call = CALLS.get(kind.name) if isinstance(kind, Global) else None
    if call is None:
        raise _Refused(f"it calls {shown(kind.name)[1:-1] if isinstance(kind, Global) else shown(kind)}")
    return call


class _Machine:
    """Goes through the instructions of one pickle: values are pushed to a stack, and put together from its top.

    Args:
        stream: stands where the pickle begins, and afterwards where it has ended.
        file: for messages.
        budget: of the file. Whatever an instruction copies or reads is spent before it is done, since a value
            may be used again by reference, in two bytes.
    """

    def __init__(self, stream: Any, file: Path, budget: Budget) -> None:
        self.stream, self.file, self.budget = stream, file, budget
        self.stack: list[Any] = []
        self.mark_positions: list[int] = []  # where on the stack the open containers begin
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object.

        Raises:
            ValueError: for a damaged pickle, and for one that wants anything called that isn't known here.
        """
        try:
            for instruction, argument, _ in pickletools.genops(self.stream):
                self.budget.step("an instruction of a pickle")
                name = instruction.name
                if name == "STOP":
                    return self.stack.pop()
                if name in ("PROTO", "FRAME"):
                    continue
                if isinstance(argument, int) and argument.bit_length() > MOST_BITS:
                    raise _Refused(f"it has a number of {argument.bit_length()} bits, which no file of torch's needs")
                if name in CARRIED or name in FRESH:
                    self.stack.append(FRESH[name]() if name in FRESH else argument)
                else:
                    step = getattr(self, f"do_{name.lower()}", None)
                    if step is None:
                        raise _Refused(f"it has the instruction {name}, which no file of torch's needs")
                    step(argument)
        except OverBudget:
            raise
        except _Refused as error:
            raise ValueError(
                f"{self.file} can't be read: {error}. Only tensors and plain containers are read from a pickle, since "
                "anything else could run code"
            ) from None
        except (IndexError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{self.file} is damaged: the instructions of a pickle in it are inconsistent ({str(error)[:200]})"
            ) from None
        raise AssertionError("genops ends with STOP, or raises")

    def _since_mark(self) -> list[Any]:
        start = self.mark_positions.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    # --- containers

    def do_mark(self, _: Any) -> None:
        self.mark_positions.append(len(self.stack))

    def do_pop(self, _: Any) -> None:
        self.stack.pop()

    def do_pop_mark(self, _: Any) -> None:
        self._since_mark()

    def do_dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def do_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def do_tuple1(self, _: Any) -> None:
        self._last(1)

    def do_tuple2(self, _: Any) -> None:
        self._last(2)

    def do_tuple3(self, _: Any) -> None:
        self._last(3)

    def _last(self, count: int) -> None:
        values = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(values)

    def do_list(self, _: Any) -> None:
        self.stack.append(self._since_mark())

    def do_append(self, _: Any) -> None:
        value = self.stack.pop()
        self._top(list).append(value)

    def do_appends(self, _: Any) -> None:
        values = self._since_mark()
        self._top(list).extend(values)

    def do_dict(self, _: Any) -> None:
        values = self._since_mark()
        self.stack.append(self._dict(values))

    def do_setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._top(dict).update(self._dict([key, value]))

    def do_setitems(self, _: Any) -> None:
        values = self._since_mark()
        self._top(dict).update(self._dict(values))

    def do_additems(self, _: Any) -> None:
        values = self._since_mark()
        self._top(set).update(self._dict([one for value in values for one in (value, None)]))

    def _dict(self, values: list[Any]) -> dict[Any, Any]:
        """Of keys and values by turns."""
        for key in values[::2]:
            if not isinstance(key, KEYS):
                raise TypeError("a key that is neither text nor number")
            if isinstance(key, (str, bytes)):
                self.budget.step("a key", len(key) // LETTERS_PER_STEP)
            else:
                self.budget.step("a key that is no text", STEPS_PER_NUMBER)
        return dict(zip(values[::2], values[1::2], strict=True))

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise TypeError(f"{type_of(self.stack[-1])} where a {kind.__name__} should be")
        return self.stack[-1]

    # --- what is used again

    def do_put(self, number: Any) -> None:
        if not 0 <= number < LARGEST_MEMO:
            raise ValueError(
                f"the memo, which keeps values that are used again, has no place {shown(number)}: places are from 0 to "
                f"{LARGEST_MEMO - 1}"
            )
        self.memo[number] = self.stack[-1]

    do_binput = do_long_binput = do_put

    def do_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_get(self, number: Any) -> None:
        self.stack.append(self.memo[number])

    do_binget = do_long_binget = do_get

    # --- what would be called

    def do_global(self, name: Any) -> None:
        self.stack.append(Global(name.replace(" ", ".", 1)))

    def do_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("a name that is no text")
        if len(module) + len(name) > LONGEST_NAME:
            raise _Refused(f"it calls {shown(module)[1:-1]}.{shown(name)[1:-1]}")
        self.stack.append(Global(f"{module}.{name}"))

    def do_reduce(self, _: Any) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        call = _called(kind)
        if not isinstance(arguments, (tuple, list)):
            raise TypeError("arguments that are no tuple")
        self.budget.step(f"a call of {kind.name}", len(arguments))
        if call is CALLS["collections.OrderedDict"] and arguments:
            arguments = (self._dict(self._flat(arguments[0])),)
        self.stack.append(call(*arguments))

    def _flat(self, pairs: Any) -> list[Any]:
        """Returns keys and values alternately."""
        if not isinstance(pairs, (tuple, list)):
            raise TypeError(f"the argument of an OrderedDict should be a list of pairs, got {type_of(pairs)}")
        self.budget.step("an OrderedDict's pairs", 2 * len(pairs))
        if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
            raise TypeError("the argument of an OrderedDict should be a list of pairs, but not each item is a pair")
        return [one for pair in pairs for one in pair]

    do_newobj = do_reduce

    def do_build(self, _: Any) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], dict) or not isinstance(state, dict):
            raise TypeError("a state for something that has none")
        if isinstance(self.stack[-1], _Namespace):
            self.budget.step("the state of a Namespace", len(state))
            self.stack[-1].update(state)  # an OrderedDict's attributes, such as _metadata, are left out

    def do_binpersid(self, _: Any) -> None:
        name = self.stack.pop()
        if not isinstance(name, (tuple, list)) or len(name) not in PERSISTENT:
            raise TypeError("numbers of a tensor by no name that torch gives")
        kind, storage, key, _place, numel, *_view = name
        storage = storage if isinstance(storage, Global) else Global(shown(storage))
        dtype = STORAGES.get(storage.name.removeprefix("torch."))
        if kind != "storage" or dtype is None or type(numel) is not int or numel < 0 or not isinstance(key, str):
            raise _Refused(f"it has a tensor of {storage.name[:80]}, not one of {', '.join(STORAGES)}")
        if len(key) > LONGEST_NAME:
            raise ValueError(f"numbers of a tensor by the name {shown(key)}")
        self.stack.append(Storage(dtype, key, numel))


# Instructions that push the value that they carry, and those that push one of these.
CARRIED = frozenset(
    (
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
        "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
        "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    )
)  # fmt: skip
FRESH: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": set,
}  # fmt: skip
