"""Reading of tensors by name from a file of any of several formats, of any model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pyroberta.formats import numpy_io, safetensors_io
from pyroberta.formats.budget import Budget, shown, type_of
from pyroberta.formats.files import NamedPath, as_path, check_file, contents
from pyroberta.formats.stored import ReadWhenAsked, Stored

SUFFIXES = (".safetensors", ".npz", ".npy", ".pt", ".pth", ".bin")
DEEPEST = 6  # dicts in each other in a file of torch's


def read_tensors(path: str | os.PathLike[str]) -> Mapping[str, NDArray[Any]]:
    """Returns the tensors of a file or a directory, by name. Each tensor is read when it is accessed. No code of the
    file is run.

    Args:
        path: a `.safetensors`, `.npz` or `.npy` file; a `.pt`, `.pth` or `.bin` file in which `torch.save` saved a dict
            of tensors, or of dicts of tensors; or a directory of `.npy` files. The tensor "a" of the dict "model" has
            the name `model.a`. The name of an `.npy` file in a directory is its path with dots for slashes. bfloat16
            becomes float32.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if the file is damaged, is not one of these, or an array holds anything but numbers. The error may
            come when a tensor is read. It is an `OverBudget` if reading would take too much memory or time.

    >>> import tempfile
    >>> import numpy as np
    >>> file = Path(tempfile.mkdtemp()) / "theirs.npz"
    >>> np.savez(file, a=np.ones((2, 3)))
    >>> read_tensors(file)["a"].shape
    (2, 3)
    """
    file = as_path(path)
    if file.is_dir():
        return ReadWhenAsked(_of_directory(file))
    check_file(file)
    if file.suffix == ".safetensors":
        tensors, _ = safetensors_io.read_with_metadata(file, numpy_io.MOST_ENTRIES)
        return ReadWhenAsked({name: tensor.array for name, tensor in tensors.items()})
    if file.suffix == ".npz":
        return ReadWhenAsked(numpy_io.read_npz(file))
    if file.suffix == ".npy":
        return ReadWhenAsked({file.stem: lambda: numpy_io.read_npy(file)})
    if file.suffix in SUFFIXES:
        return ReadWhenAsked(dict(_of_torch(file)))
    raise ValueError(f"{file} should be one of {', '.join(SUFFIXES)}, or a directory of .npy files")


def _of_directory(directory: Path) -> dict[str, Callable[[], NDArray[Any]]]:
    budget = Budget(directory, items=numpy_io.MOST_ENTRIES)
    found: dict[str, Callable[[], NDArray[Any]]] = {}
    for parent, folders, files in os.walk(directory):
        budget.step("its files", 1 + len(folders) + len(files))
        for one in sorted(files):
            file = NamedPath(parent) / one
            if file.suffix == ".npy":
                name = ".".join(file.relative_to(directory).with_suffix("").parts)
                if name in found:
                    raise ValueError(f"{directory} has two files for the tensor {shown(name)}")
                found[name] = _Npy(file)
    if not found:
        raise FileNotFoundError(f"{directory} has no .npy files; it has {contents(directory)}")
    return found


@dataclass(frozen=True)
class _Npy:
    """What reads an .npy."""

    file: Path

    def __call__(self) -> NDArray[Any]:
        return numpy_io.read_npy(self.file)


def _of_torch(file: Path) -> Iterator[tuple[str, Callable[[], NDArray[Any]]]]:
    """What reads each tensor in dicts; numbers and texts beside them are left out."""
    from pyroberta.formats import torch_io  # here, since few need it and its import takes long

    value = torch_io.read(file)
    if not isinstance(value, dict):
        raise ValueError(f"{file} should hold a dict of tensors by name, it holds {type_of(value)}")
    budget = Budget(file, items=numpy_io.MOST_ENTRIES)
    seen: set[str] = set()
    level: list[tuple[str, Any]] = [("", value)]
    for depth in range(DEEPEST + 1):
        deeper: list[tuple[str, Any]] = []
        for prefix, one in level:
            budget.step("its entries", len(one))
            for key, part in one.items():
                name = f"{prefix}{key}"
                if isinstance(part, dict):
                    deeper.append((f"{name}.", part))
                elif isinstance(part, Stored):
                    if name in seen:
                        raise ValueError(
                            f"{file} has two tensors of the name {shown(name)}: rename one of them and save again"
                        )
                    seen.add(name)
                    yield name, part.array
                elif isinstance(part, (list, tuple)) and any(isinstance(of, torch_io.Tensor) for of in part[:8]):
                    raise ValueError(
                        f"{file}: {shown(name)} is {type_of(part)} of tensors. Save each tensor under its own name"
                    )
        if depth == DEEPEST and deeper:
            raise ValueError(f"{file} has dicts nested more than {DEEPEST} deep")
        level = deeper
    if not seen:
        raise ValueError(f"{file} has no tensors, or none that has a name")
