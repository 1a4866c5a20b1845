"""HDF5 files as Keras writes them. They are read within a budget: datasets by their paths, and nothing outside the
file.

hdf5_writer.py writes them.
"""

from __future__ import annotations

import io
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pyroberta.formats.budget import Budget, clipped
from pyroberta.formats.files import shown
from pyroberta.formats.hdf5_structure import Header, Structure
from pyroberta.formats.stored import FileBytes, Shape, Source, Stored, Stream, open_bytes

DEEPEST = 16  # groups in each other
KINDS = {"float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16", "int32": "I32", "int64": "I64"}
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32"}  # others are libraries that HDF5 would load
LONGEST_MARK = 64  # bytes of the attribute that tells bfloat16
# What h5py and zlib raise for a damaged file, when they open it and later.
OF_DAMAGE = (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError, zlib.error)


def read(file: Path, wanted: Mapping[str, Shape], content: Source | None = None) -> dict[str, Stored]:
    """Returns every dataset of an HDF5 file by its path. A dataset that is not compressed is not read yet. `layers/`
    may have its old name.

    Nothing outside the file is read: links, external storage and virtual datasets are refused.

    Args:
        file: the file to read, or the name of `content` in messages.
        wanted: the paths and shapes of the expected datasets. Only these are decompressed. Datasets with other paths or
            shapes have their name and shape only, for the error that refuses them.
        content: the bytes, if they are part of another file.

    Raises:
        ImportError: if h5py is not installed. The message says how to install it.
        ValueError: if the file is damaged, refers to other files, or lacks numbers of a dataset.
        OverBudget: if reading the file would take too much memory or time.
    """
    file_bytes = open_bytes(file) if content is None else content
    h5py = import_h5py(file.name)
    try:
        opened = h5py.File(file if content is None else _opened(content), "r")
    except OF_DAMAGE as error:
        raise ValueError(f"{file} is damaged or not an HDF5 file: {clipped(str(error))}") from None
    budget = Budget(file, file_bytes.size, items=len(wanted))
    with opened:
        try:
            found = {}
            structure = Structure(file, file_bytes, budget)
            root = structure.header(structure.root, "the root")
            for header, dataset in _datasets(opened, file, "", root, structure, {structure.root}, budget):
                name = header.name
                path = re.sub("^_layer_checkpoint_dependencies/", "layers/", name)
                found[path] = _stored(file, header, dataset, structure, file_bytes, wanted.get(path), budget)
            return found
        except OF_DAMAGE as error:
            if f"{file}" in str(error):
                raise  # it is ours
            raise ValueError(f"{file} is damaged: {clipped(str(error))}") from None


def _opened(content: Source) -> io.BufferedIOBase:
    """The bytes as a file that h5py reads."""
    return io.BufferedReader(Stream(content)) if isinstance(content, FileBytes) else io.BytesIO(content.data)


def import_h5py(purpose: str) -> Any:
    """Returns the package h5py, which reads and writes HDF5.

    Raises:
        ImportError: if it is not installed. The message says how to install it.
    """
    try:
        import h5py
    except ImportError:
        raise ImportError(
            f"{purpose} is HDF5, which needs the package h5py: python -m pip install 'pyroberta[keras]'"
        ) from None
    return h5py


def _datasets(
    group: Any, file: Path, path: str, header: Header, structure: Structure, seen: set[int], budget: Budget
) -> Iterator[tuple[Header, Any]]:
    """The datasets below a group. `seen`: addresses of the objects met before, none of which has two names."""
    import h5py

    if path.count("/") > DEEPEST:
        raise ValueError(f"{file}: groups are nested {path.count('/')} deep, at {shown(path)}, which no model needs")
    structure.check_names(header)
    budget.step(f"the group {shown(path)}", len(group))
    for key in group:
        name = f"{path}/{key}" if path else str(key)
        link = group.id.links.get_info(key if isinstance(key, bytes) else key.encode())
        if link.type != h5py.h5l.TYPE_HARD:
            raise ValueError(f"{file}: {shown(name)} is a link to elsewhere, which is not followed")
        if link.u in seen:
            raise ValueError(f"{file}: {shown(name)} is a second name of an earlier entry, which is not followed")
        seen.add(link.u)
        its_header = structure.header(link.u, name)
        if its_header.is_dataset and its_header.is_shared:
            # thousands of datasets may share a type of a thousand parts, which libhdf5 makes anew for each
            raise ValueError(f"{file}: {shown(name)} shares its type with other datasets, which can't be read")
        item = group[key]
        if isinstance(item, h5py.Group):
            yield from _datasets(item, file, name, its_header, structure, seen, budget)
        elif isinstance(item, h5py.Dataset):
            yield its_header, item


def _stored(
    file: Path,
    header: Header,
    dataset: Any,
    structure: Structure,
    file_bytes: Source,
    wanted: Shape | None,
    budget: Budget,
) -> Stored:
    path, shape = header.name, dataset.shape
    if shape is None:
        raise ValueError(f"{file}: {shown(path)} has no shape and no numbers")
    plan = dataset.id.get_create_plist()
    if plan.get_external_count() or plan.get_layout() not in _layouts():
        raise ValueError(f"{file}: the numbers of {shown(path)} are in another file, which is not opened")
    kind, item = _kind(dataset, structure, header if tuple(shape) == wanted else None)
    size = math.prod(shape) * item
    start = dataset.id.get_offset()
    data: Source = file_bytes[:0]
    if kind not in KINDS.values() or not size:
        pass  # refused where it is asked for
    elif start is not None:
        if start + size > file_bytes.size:
            raise ValueError(
                f"{file} is cut short: {shown(path)} should lie at bytes {start} to {start + size} of {file_bytes.size}"
            )
        data = file_bytes[start : start + size]
    elif tuple(shape) == wanted:
        structure.check_chunks(header)
        _check_pieces(file, path, dataset, plan, file_bytes, size, budget)
        data = dataset[()].reshape(-1).view(np.uint8)
    return Stored(path, kind, tuple(shape), data, file)


@lru_cache(maxsize=1)
def _layouts() -> dict[int, str]:
    """How numbers may lie in their own file."""
    import h5py

    return {h5py.h5d.COMPACT: "compact", h5py.h5d.CONTIGUOUS: "contiguous", h5py.h5d.CHUNKED: "chunked"}


def _kind(dataset: Any, structure: Structure, header: Header | None) -> tuple[str, int]:
    """The element type as `Stored` names it, or another name for one that isn't read, and its size in bytes.

    Classes that may be made of others, such as records, are not looked into. `header`: None for a dataset that isn't
    wanted, whose attributes are not looked into either.
    """
    from h5py import h5t

    file_type = dataset.id.get_type()
    others = {h5t.STRING: "texts", h5t.COMPOUND: "records", h5t.ENUM: "names", h5t.ARRAY: "arrays"}
    if file_type.get_class() in (h5t.INTEGER, h5t.FLOAT):
        name = str(dataset.dtype)
        return KINDS.get(name, clipped(name, 40)), dataset.dtype.itemsize
    if file_type.get_class() == h5t.OPAQUE and file_type.get_size() == 2:
        is_marked = header is not None and structure.text(header, b"dtype", LONGEST_MARK) == b"bfloat16"
        return ("BF16" if is_marked else "opaque bytes"), 2
    return others.get(file_type.get_class(), "objects"), file_type.get_size()


def _check_pieces(file: Path, path: str, dataset: Any, plan: Any, whole: Source, size: int, budget: Budget) -> None:
    """Checks that the pieces in which a dataset lies are all there, and hold no more, packed or not, than it is itself.

    What was never written HDF5 makes up: a few bytes can tell of terabytes of fill values.
    """
    if dataset.chunks is None:
        written = dataset.id.get_storage_size()  # within the object's header; 0 where nothing was ever written
        if written < size:
            raise ValueError(
                f"{file}: {shown(path)} should have {size} bytes, but has {written} of them: it was never written"
            )
        budget.make(shown(path), size)
        return
    filters = [plan.get_filter(i)[0] for i in range(min(plan.get_nfilters(), len(FILTERS) + 1))]
    if not set(filters) <= set(FILTERS) or len(set(filters)) < len(filters):
        raise ValueError(
            f"{file}: {shown(path)} is compressed by the filters {filters}; only {FILTERS} are known, each once"
        )
    count = math.prod(-(-n // m) for n, m in zip(dataset.shape, dataset.chunks, strict=True))
    chunk_size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    budget.make(f"{shown(path)}, in {count} chunks", 2 * count * chunk_size)
    budget.step(f"{shown(path)}, in {count} chunks", count)
    written = dataset.id.get_num_chunks()
    if written < count:
        raise ValueError(f"{file}: {shown(path)} should have {count} chunks, but only {written} of them were written")
    for i in range(written if 1 in filters else 0):
        chunk = dataset.id.get_chunk_info(i)
        part = whole[chunk.byte_offset : chunk.byte_offset + chunk.size]
        packed = part.read() if isinstance(part, FileBytes) else part
        if (
            len(zlib.decompressobj().decompress(packed.data, chunk_size + 5)) > chunk_size + 4
        ):  # 4 bytes are a sum to check
            raise ValueError(
                f"{file} is damaged: a chunk of {shown(path)} has more than {chunk_size} bytes when decompressed"
            )
